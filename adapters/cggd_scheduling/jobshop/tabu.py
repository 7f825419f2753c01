"""Tabu search over machines and sequences, with path relinking.

A schedule becomes shorter only if an operation on each longest path moves. It moves on its machine, past operations of
its block on the longest path, to an end of the block or from an end inwards (Balas & Vazacopoulos, 1998; Zhang et al.,
2007), or to another machine (Mastrolilli & Gambardella, 2000). The length of the longest path through the moved
operations follows from the ends and rests of their neighbours alone. New walks start from schedules between two of the
best ones (path relinking; Peng, Lu & Cheng, 2015, who also keep a population and improve schedules on the path).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

# Moves without a better schedule after which a walk ends, and number of best schedules kept. In 10 s on one core, seed
# 0, the makespans of la21, la38, abz7, la29 are 1047, 1215, 668, 1177 with these; 1053, 1209, 677, 1169 with 600 and 4.
PATIENCE, KEPT = 1000, 6

# Range of the weight of the second schedule in path relinking.
BETWEEN = (0.3, 0.7)

# Turns for which a move may not be undone. More if machines have more jobs, and up to half as many again at random
# (Zhang et al.).
TENURE = 10

# Moves between two checks of the clock.
LOOK = 16


@dataclass(frozen=True)
class Plan:
    """Machine of each operation, and a topological order of all operations."""

    machine: tuple[int, ...]
    order: tuple[int, ...]


class Sequences:
    """A schedule as the order of operations on each machine.

    Operations and machines are numbers from 0. The number n stands for no operation.

    Parameters
    ----------
    options : sequence of dict of int to duration
        Machines of each of the n operations.
    previous, next : sequence of int
        Neighbours of each operation in its job.
    plan : Plan

    Attributes
    ----------
    before, after : list of int
        Neighbours of each operation on its machine.
    ends, rests : list
        Longest path to the end of each operation, and longest path from its start.
    order, place : list of int
        The operations in topological order, and the position of each in it.
    """

    def __init__(
        self, options: Sequence[dict[int, Any]], previous: Sequence[int], next: Sequence[int], plan: Plan
    ) -> None:
        self.options, self.previous, self.next = options, [*previous, len(options)], [*next, len(options)]
        self.set(plan)

    def set(self, plan: Plan) -> None:
        """Replace the schedule by that of a plan."""
        n = len(self.options)
        self.machine, self.order = list(plan.machine), list(plan.order)
        self.duration: list[Any] = [*(own[m] for own, m in zip(self.options, self.machine, strict=True)), 0]
        self.place = [0] * n
        self.before, self.after = [n] * (n + 1), [n] * (n + 1)
        self.first: dict[int, int] = {}
        last: dict[int, int] = {}
        for at, op in enumerate(self.order):
            self.place[op] = at
            self._link(op, self.machine[op], last.get(self.machine[op], n))
            last[self.machine[op]] = op
        self.ends: list[Any] = [0] * (n + 1)
        self.rests: list[Any] = [0] * (n + 1)
        self._add_up(0, n - 1)

    @property
    def plan(self) -> Plan:
        """The plan of the schedule, for `set`."""
        return Plan(tuple(self.machine), tuple(self.order))

    @property
    def makespan(self) -> Any:
        """When the last operation ends."""
        return max(self.ends)

    def start(self, op: int) -> Any:
        """Earliest start of an operation."""
        return max(self.ends[self.previous[op]], self.ends[self.before[op]])

    def _link(self, op: int, machine: int, before: int) -> None:
        n = len(self.options)
        after = self.first.get(machine, n) if before == n else self.after[before]
        self.before[op], self.after[op] = before, after
        if before == n:
            self.first[machine] = op
        else:
            self.after[before] = op
        if after < n:
            self.before[after] = op

    def _unlink(self, op: int, machine: int) -> None:
        n, before, after = len(self.options), self.before[op], self.after[op]
        if before == n:
            self.first[machine] = after
        else:
            self.after[before] = after
        if after < n:
            self.before[after] = before

    def _add_up(self, low: int, high: int) -> None:
        """Recompute ends from position `low` on, and rests from position `high` back."""
        ends, rests, duration, order = self.ends, self.rests, self.duration, self.order
        previous, next_, before, after = self.previous, self.next, self.before, self.after
        for op in order[low:]:
            a, b = ends[previous[op]], ends[before[op]]
            ends[op] = (a if a > b else b) + duration[op]
        for op in order[high::-1]:
            a, b = rests[next_[op]], rests[after[op]]
            rests[op] = (a if a > b else b) + duration[op]

    def move(self, op: int, machine: int, before: int) -> bool:
        """Move an operation behind another one (or first) on a machine; if that makes a cycle, return False instead."""
        home, was = self.machine[op], self.before[op]
        self._unlink(op, home)
        self._link(op, machine, before)
        span = self._put_in_order(op)
        if span is None:
            self._unlink(op, machine)
            self._link(op, home, was)
            return False
        self.machine[op], self.duration[op] = machine, self.options[op][machine]
        self._add_up(*span)
        return True

    def _put_in_order(self, op: int) -> tuple[int, int] | None:
        """Update the topological order after a move; returns the changed positions, or None if there is a cycle.

        Only operations between the moved one and its new neighbour can be out of order (Pearce & Kelly, 2006).
        """
        n, place, order = len(self.options), self.place, self.order
        at, before, after = place[op], self.before[op], self.after[op]
        if before < n and place[before] > at:
            low, high, target = at, place[before], before
            segment, links = order[low : high + 1], (self.previous, self.before)
        elif after < n and place[after] < at:
            low, high, target = place[after], at, after
            segment, links = order[low : high + 1][::-1], (self.next, self.after)
        else:
            return at, at
        reached, behind, ahead = {op}, [op], []
        one, other = links
        for other_op in segment[1:]:
            if one[other_op] in reached or other[other_op] in reached:
                if other_op == target:
                    return None
                reached.add(other_op)
                behind.append(other_op)
            else:
                ahead.append(other_op)
        mended = ahead + behind if target == before else (ahead + behind)[::-1]
        order[low : high + 1] = mended
        for at, moved in enumerate(mended, low):
            place[moved] = at
        return low, high

    # -- moves --------------------------------------------------------------------------------------------------------

    def blocks(self, rng: random.Random) -> list[list[int]]:
        """A longest path, drawn at random, cut into blocks of consecutive operations on a machine."""
        ends, n = self.ends, len(self.options)
        longest = max(ends)
        op = rng.choice([op for op in range(n) if ends[op] == longest])
        path = [[op]]
        while start := self.start(op):
            job, machine = self.previous[op], self.before[op]
            on_machine = machine < n and ends[machine] == start
            if on_machine and (job == n or ends[job] < start or rng.random() < 0.5):
                op = machine
                path[-1].append(op)
            else:
                op = job
                path.append([op])
        return [block[::-1] for block in reversed(path)]

    def shifts(self, block: list[int]) -> Iterator[tuple[int, list[int], bool]]:
        """Moves in a block that make no cycle: operation, the operations that it passes, and whether it moves later."""
        first, last = block[0], block[-1]
        ends, rests, previous, next_ = self.ends, self.rests, self.previous, self.next
        for at in range(len(block) - 1):
            if rests[next_[block[at]]] < rests[last]:
                yield block[at], block[at + 1 :], True
            if at and rests[next_[first]] < rests[block[at]]:
                yield first, block[1 : at + 1], True
            if at and ends[previous[last]] < ends[block[at]]:
                yield last, block[at:-1], False
        for at in range(2 if len(block) == 2 else 1, len(block)):
            if ends[previous[block[at]]] < ends[first]:
                yield block[at], block[:at], False

    def later(self, op: int, past: list[int]) -> Any:
        """Longest path through an operation and those that it passes, after a move to a later position."""
        ends, rests, duration, previous, next_ = self.ends, self.rests, self.duration, self.previous, self.next
        end, starts = ends[self.before[op]], []
        for other in past:
            end = end if end > ends[previous[other]] else ends[previous[other]]
            starts.append(end)
            end += duration[other]
        rest = max(rests[next_[op]], rests[self.after[past[-1]]]) + duration[op]
        longest = max(end, ends[previous[op]]) + rest
        for other, start in zip(past[::-1], starts[::-1], strict=True):
            rest = (rest if rest > rests[next_[other]] else rests[next_[other]]) + duration[other]
            if start + rest > longest:
                longest = start + rest
        return longest

    def earlier(self, op: int, past: list[int]) -> Any:
        """Longest path through an operation and those that it passes, after a move to an earlier position."""
        ends, rests, duration, previous, next_ = self.ends, self.rests, self.duration, self.previous, self.next
        rest, others = rests[self.after[op]], []
        for other in past[::-1]:
            rest = (rest if rest > rests[next_[other]] else rests[next_[other]]) + duration[other]
            others.append(rest)
        start = max(ends[previous[op]], ends[self.before[past[0]]])
        longest = start + max(rest, rests[next_[op]]) + duration[op]
        end = start + duration[op]
        for other, rest in zip(past, others[::-1], strict=True):
            end = end if end > ends[previous[other]] else ends[previous[other]]
            if end + rest > longest:
                longest = end + rest
            end += duration[other]
        return longest

    def changes(self, op: int) -> Iterator[tuple[int, int, Any]]:
        """Moves to other machines: machine, operation to follow there (n: none), longest path through the operation.

        It follows only operations that start before its end, and precedes only those that end after its start, so no
        move makes a cycle.
        """
        n, ends, rests, after = len(self.options), self.ends, self.rests, self.after
        begin, end = self.start(op), ends[op]
        earliest, least = ends[self.previous[op]], rests[self.next[op]]
        for machine, duration in self.options[op].items():
            if machine == self.machine[op]:
                continue
            before, then = n, self.first.get(machine, n)
            while then < n and ends[then] <= begin:
                before, then = then, after[then]
            while before == n or self.start(before) < end:
                yield machine, before, max(earliest, ends[before]) + duration + max(least, rests[then])
                if then == n:
                    break
                before, then = then, after[then]


def search(
    sequences: Sequences,
    rng: random.Random,
    *,
    moves: int,
    stop: Callable[[Any], bool],
    news: Callable[[], Plan | None] = lambda: None,
) -> Iterator[tuple[Any, Plan]]:
    """Yield the first schedule and each shorter one, as pairs (makespan, plan).

    Parameters
    ----------
    sequences : Sequences
        The first schedule; the search changes it.
    rng : random.Random
    moves : int
        Most moves.
    stop : callable
        Called every few moves with the shortest makespan; True ends the search.
    news : callable
        Called as often; returns a plan from which to continue, or None.
    """
    shortest, first, turn = sequences.makespan, sequences.plan, 0
    yield shortest, first
    kept: list[tuple[Any, Plan]] = []
    other: Plan | None = first
    while turn < moves and not stop(shortest):
        sequences.set(other or (_drawn(sequences, first, rng) if len(kept) < KEPT else _between(kept, rng)))
        length, plan, other = sequences.makespan, sequences.plan, None
        for found, then in _walk(sequences, rng):
            turn += 1
            if then is not None:
                length, plan = found, then
                if length < shortest:
                    shortest = length
                    yield shortest, plan
            if turn >= moves or (turn % LOOK == 0 and stop(shortest)):
                return
            if turn % LOOK == 0 and (other := news()) is not None:
                break
        turn += 1
        if len(kept) < KEPT or length not in [known for known, _ in kept]:
            kept = sorted([*kept, (length, plan)], key=lambda pair: pair[0])[:KEPT]


def _walk(now: Sequences, rng: random.Random) -> Iterator[tuple[Any, Plan | None]]:
    """The makespan after each move, with the plan if it is the shortest of the walk."""
    tabu: dict[tuple[int, int], int] = {}
    best, stale, turn = now.makespan, 0, 0
    tenure = TENURE + len(now.options) // max(len(now.first), 1) ** 2
    while stale < PATIENCE:
        turn += 1
        if not (undone := _step(now, rng, tabu, turn, best)):
            return
        until = turn + tenure + rng.randrange(tenure // 2 + 1)
        tabu.update(dict.fromkeys(undone, until))
        length, stale = now.makespan, stale + 1
        if length < best:
            best, stale = length, 0
        yield length, now.plan if stale == 0 else None


def _step(
    now: Sequences, rng: random.Random, tabu: dict[tuple[int, int], int], turn: int, best: Any
) -> list[tuple[int, int]]:
    """Make the move with the shortest longest path that is not tabu; returns the pairs that it undid.

    A pair (a, b) means that operation a comes before b, or that a is on machine b - n. If all moves are tabu, a random
    one is made.
    """
    n, get = len(now.options), tabu.get
    found: list[tuple[bool, Any, float, int, int, int, list[int], bool]] = []
    path = now.blocks(rng)
    for op, past, forward in chain.from_iterable(map(now.shifts, path)):
        if forward:
            length = now.later(op, past)
            forbidden = length >= best and any(get((other, op), 0) > turn for other in past)
        else:
            length = now.earlier(op, past)
            forbidden = length >= best and any(get((op, other), 0) > turn for other in past)
        before = past[-1] if forward else now.before[past[0]]
        found.append((forbidden, length, rng.random(), op, now.machine[op], before, past, forward))
    for op in chain.from_iterable(path):
        if len(now.options[op]) > 1:
            for machine, before, length in now.changes(op):
                forbidden = length >= best and get((op, n + machine), 0) > turn
                found.append((forbidden, length, rng.random(), op, machine, before, [], True))
    found.sort()
    if found and found[0][0]:
        rng.shuffle(found)
    for _, _, _, op, machine, before, past, forward in found:
        home = now.machine[op]
        if now.move(op, machine, before):
            return [(op, other) if forward else (other, op) for other in past] or [(op, n + home)]
    return []


def _drawn(sequences: Sequences, plan: Plan, rng: random.Random) -> Plan:
    """The machines of a plan with a random order."""
    n = len(sequences.options)
    ready, order = [op for op in range(n) if sequences.previous[op] == n], []
    while ready:
        at = rng.randrange(len(ready))
        order.append(op := ready[at])
        if sequences.next[op] < n:
            ready[at] = sequences.next[op]
        else:
            ready.pop(at)
    return Plan(plan.machine, tuple(order))


def _between(kept: Sequence[tuple[Any, Plan]], rng: random.Random) -> Plan:
    """A schedule between two kept ones: what they have in common, and a mixture of the rest."""
    (_, one), (_, other) = rng.sample(kept, 2)
    share = rng.uniform(*BETWEEN)
    at = [0.0] * len(one.order)
    for weight, plan in ((1 - share, one), (share, other)):
        for place, op in enumerate(plan.order):
            at[op] += weight * place
    machine = (b if rng.random() < share else a for a, b in zip(one.machine, other.machine, strict=True))
    return Plan(tuple(machine), tuple(sorted(one.order, key=at.__getitem__)))
