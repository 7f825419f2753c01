"""Tabu search over machines and sequences, by moves of critical operations (Mastrolilli & Gambardella, 2000).

A schedule is shortened only if an operation on each longest path moves. An operation taken out of its machine's
sequence is put back where the longest path through it is shortest, on the same machine or on another. Between the
operations that must come before and those that must come after by their own heads and tails, every place is feasible,
and the best one lies there; the length of the path through it follows from heads and tails alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from cggd_scheduling.limits import time_rounding

# Moves without a better schedule after which the search goes on from the best one with some operations moved at random,
# a share of all. On mk04, of 90 operations, four seeds and 2,500 moves each: makespans of 60 to 62 with these, 60 to 62
# with 200 and a ninth; with 300 and a twentieth 67 after 5 s. With 80 the search has not yet recovered from its jump.
PATIENCE = 150
KICK = 1 / 6


@dataclass
class Links:
    """Duration of each operation, and its neighbours on its machine; -1 where there is none."""

    duration: list[Any]
    before: list[int]
    after: list[int]

    def without(self, op: int) -> Links:
        """The links when an operation is taken out: it takes no time, and waits for its job alone.

        An order of the operations that holds with it holds without it.
        """
        duration, before, after = self.duration.copy(), self.before.copy(), self.after.copy()
        a, b = before[op], after[op]
        if a >= 0:
            after[a] = b
        if b >= 0:
            before[b] = a
        duration[op], before[op], after[op] = 0, -1, -1
        return Links(duration, before, after)


@dataclass
class Sequences:
    """A schedule in terms of the order on each machine; operations and machines are numbers.

    Attributes
    ----------
    options : list of dict of int to duration
        Machines of each operation.
    previous, next : list of int
        Its neighbours in the job; -1 where there is none.
    on : list of list of int
        Operations on each machine, in order.
    machine : list of int
        Machine of each operation.
    """

    options: Sequence[dict[int, Any]]
    previous: Sequence[int]
    next: Sequence[int]
    on: list[list[int]]
    machine: list[int]

    def copy(self) -> Sequences:
        return Sequences(self.options, self.previous, self.next, [list(ops) for ops in self.on], list(self.machine))

    def take(self, op: int) -> int:
        """Take an operation out of its sequence; returns where it was."""
        place = self.on[self.machine[op]].index(op)
        del self.on[self.machine[op]][place]
        return place

    def put(self, op: int, machine: int, place: int) -> None:
        """Put an operation that was taken out into a sequence."""
        self.on[machine].insert(place, op)
        self.machine[op] = machine

    def links(self) -> Links:
        """Durations on the machines chosen, and who waits for whom on them."""
        duration = [options[machine] for options, machine in zip(self.options, self.machine, strict=True)]
        before, after = [-1] * len(duration), [-1] * len(duration)
        for ops in self.on:
            for a, b in pairwise(ops):
                before[b], after[a] = a, b
        return Links(duration, before, after)

    def order(self, links: Links) -> list[int] | None:
        """The operations, each after those that it waits for; None where they wait in a cycle."""
        waiting = [(a >= 0) + (b >= 0) for a, b in zip(self.previous, links.before, strict=True)]
        order = [op for op, n in enumerate(waiting) if n == 0]
        for op in order:
            for then in (self.next[op], links.after[op]):
                if then >= 0:
                    waiting[then] -= 1
                    if waiting[then] == 0:
                        order.append(then)
        return order if len(order) == len(waiting) else None

    def heads_and_tails(self, order: list[int], links: Links) -> tuple[list[Any], list[Any]]:
        """Longest path to the start of each operation, and from its end."""
        n, previous, next_, duration = len(order), self.previous, self.next, links.duration
        before, after = links.before, links.after
        ends, heads, tails, rests = [0] * (n + 1), [0] * n, [0] * n, [0] * (n + 1)  # the last is for those without one
        for op in order:
            a, b = ends[previous[op]], ends[before[op]]
            heads[op] = head = a if a > b else b
            ends[op] = head + duration[op]
        for op in reversed(order):
            a, b = rests[next_[op]], rests[after[op]]
            tails[op] = tail = a if a > b else b
            rests[op] = tail + duration[op]
        return heads, tails

    def places(self, op: int, heads: list[Any], tails: list[Any]) -> Iterator[tuple[int, int, Any]]:
        """Machine, place and length of the longest path through an operation that was taken out, for each good place.

        A place makes a cycle only where operations that take no time tie.
        """
        earliest, latest = heads[op], tails[op]
        for machine, duration in self.options[op].items():
            ops = self.on[machine]
            lengths = [self.options[other][machine] for other in ops]
            # Those that end after it could start, the last in the sequence, need not come before it; those whose
            # tails are longer than its own, the first, need not come after it.
            first = next((p for p, o in enumerate(ops) if heads[o] + lengths[p] > earliest), len(ops))
            last = next((p for p, o in enumerate(ops) if tails[o] + lengths[p] <= latest), len(ops))
            low, high = min(first, last), max(first, last)
            for place in range(low, high + 1):
                start = max(earliest, heads[ops[place - 1]] + lengths[place - 1]) if place else earliest
                rest = max(latest, tails[ops[place]] + lengths[place]) if place < len(ops) else latest
                yield machine, place, start + duration + rest

    def makespan(self, heads: list[Any]) -> Any:
        """When the last operation ends."""
        return max(heads[op] + self.options[op][self.machine[op]] for op in range(len(self.options)))

    def critical(self, heads: list[Any], tails: list[Any], rng: random.Random) -> list[int]:
        """The operations on one longest path, drawn at random where there are several."""
        duration = [self.options[op][self.machine[op]] for op in range(len(self.options))]
        longest = self.makespan(heads)
        close = time_rounding(longest, len(duration))  # lengths that differ by less are one, added up in another order
        on_path = [op for op, d in enumerate(duration) if abs(heads[op] + d + tails[op] - longest) <= close]
        path, end = [], 0
        while following := [op for op in on_path if abs(heads[op] - end) <= close and op not in path]:
            path.append(rng.choice(following))
            end = heads[path[-1]] + duration[path[-1]]
        return path


def search(
    start: Sequences, rng: random.Random, *, moves: int, stop: Callable[[Any], bool]
) -> Iterator[tuple[Any, Sequences]]:
    """Yield a schedule with its makespan whenever it is shorter than all before, the first one included.

    Parameters
    ----------
    start : Sequences
    rng : random.Random
    moves : int
    stop : callable
        Asked with the shortest makespan after each move.
    """
    now, best, stale = start.copy(), start, 0
    links = now.links()
    order = now.order(links)
    if order is None:
        raise ValueError("the sequences to start from make operations wait for each other in a cycle")
    shortest = now.makespan(now.heads_and_tails(order, links)[0])
    yield shortest, best
    tabu: dict[tuple[int, int], int] = {}
    for turn in range(moves):
        if stop(shortest):
            return
        order = _step(now, order, rng, tabu, turn, shortest)
        length = now.makespan(now.heads_and_tails(order, now.links())[0])
        stale += 1
        if length < shortest:
            shortest, best, stale = length, now.copy(), 0
            yield shortest, best
        elif stale > PATIENCE:
            now = best.copy()
            order = _kick(now, rng)
            tabu.clear()
            stale = 0


def _step(
    now: Sequences, order: list[int], rng: random.Random, tabu: dict[tuple[int, int], int], turn: int, shortest: Any
) -> list[int]:
    """Make the best move of an operation on a longest path that is not tabu; returns an order after it."""
    links = now.links()
    path = now.critical(*now.heads_and_tails(order, links), rng)
    found: list[tuple[bool, Any, float, int, int, int]] = []
    for op in path:
        home, place = now.machine[op], now.take(op)
        for machine, at, length in now.places(op, *now.heads_and_tails(order, links.without(op))):
            if (machine, at) != (home, place):
                forbidden = tabu.get((op, machine), -1) >= turn and length >= shortest
                found.append((forbidden, length, rng.random(), op, machine, at))
        now.put(op, home, place)
    for _, _, _, op, machine, at in sorted(found):
        home = now.machine[op]
        if (then := _moved(now, op, machine, at)) is not None:
            tabu[op, home] = turn + len(path) + len(now.options[op])
            return then
    return order


def _moved(now: Sequences, op: int, machine: int, place: int) -> list[int] | None:
    """Move an operation; an order after it, or None where it made a cycle and was moved back."""
    home, was = now.machine[op], now.take(op)
    now.put(op, machine, place)
    order = now.order(now.links())
    if order is None:
        now.take(op)
        now.put(op, home, was)
    return order


def _kick(now: Sequences, rng: random.Random) -> list[int]:
    """Make a few random moves; returns an order after them."""
    order = now.order(now.links())
    assert order is not None
    for _ in range(math.ceil(KICK * len(now.options))):
        op = rng.randrange(len(now.options))
        known = now.heads_and_tails(order, now.links().without(op))
        home, place = now.machine[op], now.take(op)
        machine, at, _ = rng.choice(list(now.places(op, *known)))
        now.put(op, home, place)
        order = _moved(now, op, machine, at) or order
    return order
