"""List scheduling of operations on copies of units; the unit of an operation is chosen when it starts."""

from __future__ import annotations

import heapq
import random
from bisect import insort
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cggd.rounding import sum_rounding
from cggd_scheduling.hls.problem import Synthesis

# Orders in which the units of an operation are tried: slow units first, which leaves the fast ones to urgent
# operations; fast units first; little power first.
ORDERS = (
    lambda taken, power: (-taken, power),
    lambda taken, power: (taken, power),
    lambda taken, power: (power, taken),
)

# In random tries, latest starts are changed by up to this share of the latency.
NOISE = 0.2


@dataclass(frozen=True, eq=False)
class Listed:
    """Starts and units of operations, and their total power."""

    start: Mapping[Hashable, Any]
    unit: Mapping[Hashable, str]
    power: float


class ListScheduler:
    """List scheduling by latest starts, forward or backward in time, with a deadline.

    Parameters
    ----------
    problem : Synthesis
    rng : random.Random
    tries : int
        Number of random tries, after one in each order and direction.
    """

    def __init__(self, problem: Synthesis, rng: random.Random, tries: int) -> None:
        self.problem, self.rng, self.tries, self.clock = problem, rng, tries, problem.timing
        self.ops, self.names = problem.order, list(problem.unit)
        number = {op: i for i, op in enumerate(self.ops)}
        unit = {name: k for k, name in enumerate(self.names)}
        graph = problem.graph.graph
        self.before = [[number[u] for u in graph.predecessors(op)] for op in self.ops]
        self.after = [[number[v] for v in graph.successors(op)] for op in self.ops]
        self.options = [[(unit[u.name], problem.delay(u), u.power) for u in problem.units[op]] for op in self.ops]
        self.sorted = [
            [sorted(options, key=lambda option, order=order: order(*option[1:])) for options in self.options]
            for order in ORDERS
        ]
        self._tails = lru_cache(maxsize=1024)(self._find_tails)

    def fit(
        self,
        copies: Mapping[str, int],
        latency: Any,
        most_power: float,
        *,
        power: bool = False,
        preferred: Mapping[Hashable, str] | None = None,
    ) -> Listed | None:
        """A schedule on so many copies within the latency, of the least power found; None if none was found.

        Parameters
        ----------
        copies : mapping of unit to int
        latency : number
        most_power : float
            Bound on the total power.
        power : bool
            Whether to continue for less power after the first schedule.
        preferred : mapping of operation to unit, optional
            Units to try first.
        """
        counts = [copies.get(name, 0) for name in self.names]
        directions = (False,) if self.clock.chain else (False, True)
        plans = [(order, backward, 0.0) for order in range(len(ORDERS)) for backward in directions]
        plans = plans[::-1] if power else plans
        for _ in range(self.tries):
            plans.append((self.rng.randrange(len(ORDERS)), self.rng.choice(directions), self.rng.uniform(0, NOISE)))
        sorted_options = self.sorted
        if preferred:
            first = [self.names.index(preferred[op]) for op in self.ops]
            sorted_options = [
                [
                    sorted(options, key=lambda option, unit=unit: option[0] != unit)
                    for options, unit in zip(by, first, strict=True)
                ]
                for by in self.sorted
            ]
        allowed = most_power + sum_rounding(most_power, len(self.ops))  # the exact check is done on the schedule
        best: Listed | None = None
        for order, backward, noise in plans:
            found = self._schedule(counts, latency, sorted_options[order], backward, noise)
            if found is not None and found.power <= allowed and (best is None or found.power < best.power):
                best = found
            if best is not None and not power:
                break
        return best

    def _find_tails(self, available: tuple[bool, ...], backward: bool) -> tuple[list[Any], list[Any]] | None:
        """Least duration and tail (least time from its end to the end of all) of each operation on available units."""
        after = self.before if backward else self.after
        least, tails = [], [0] * len(self.ops)
        for options in self.options:
            times = [taken for unit, taken, _ in options if available[unit]]
            if not times:
                return None
            least.append(min(times))
        for i in range(len(self.ops)) if backward else reversed(range(len(self.ops))):
            tails[i] = max((tails[j] + least[j] for j in after[i]), default=0)
        return least, tails

    def _schedule(
        self, copies: list[int], latency: Any, options: list[list], backward: bool, noise: float
    ) -> Listed | None:
        known = self._tails(tuple(n > 0 for n in copies), backward)
        if known is None:
            return None
        least, tails = known
        before, after = (self.after, self.before) if backward else (self.before, self.after)
        key = [latency - tail - time for tail, time in zip(tails, least, strict=True)]
        if noise:
            key = [k + noise * latency * self.rng.random() for k in key]
        waiting = [len(needed) for needed in before]
        ready = sorted((key[i], i) for i, n in enumerate(waiting) if n == 0)
        free = [[0] * n for n in copies]  # when each copy is free
        starts, units, power = [None] * len(self.ops), [0] * len(self.ops), 0.0
        events: list[tuple[Any, int]] = [(0, -1)]  # times, and operations that end then
        while events:
            now = events[0][0]
            while events and events[0][0] == now:
                _, ended = heapq.heappop(events)
                for j in after[ended] if ended >= 0 else ():
                    waiting[j] -= 1
                    if waiting[j] == 0:
                        insort(ready, (key[j], j))
            left = []
            for item in ready:
                i = item[1]
                chosen = self._choose(options[i], free, now, latency - tails[i], events)
                if chosen is None:
                    return None
                if chosen == _LATER:
                    left.append(item)
                    continue
                unit, taken, cost = chosen
                starts[i], units[i] = now, unit
                power += cost
                self._take(free[unit], now, taken, events)
                heapq.heappush(events, (now + taken, i))
            ready = left
        if ready:
            return None
        if backward:
            lengths = [next(t for u, t, _ in known if u == unit) for known, unit in zip(options, units, strict=True)]
            starts = [latency - s - t for s, t in zip(starts, lengths, strict=True)]
            first = min(starts, default=0)
            starts = [s - first for s in starts]
        return Listed(dict(zip(self.ops, starts, strict=True)), self._named(units), power)

    def _named(self, units: list[int]) -> dict[Hashable, str]:
        return {op: self.names[unit] for op, unit in zip(self.ops, units, strict=True)}

    def _choose(self, options: list, free: list[list[Any]], now: Any, late: Any, events: list) -> Any:
        """The first option that can start now and ends in time; `_LATER` if one can do so later; None if none can."""
        later, slack = False, self.clock.rounding(late)
        for option in options:
            unit, taken, _ = option
            if not free[unit]:
                continue
            start = self.clock.start(max(now, min(free[unit])), taken)
            if start + taken <= late + slack:
                if start == now and self._copy(free[unit], now, taken) is not None:
                    return option
                later = True
                if start > now:
                    heapq.heappush(events, (start, -1))
        return _LATER if later else None

    def _copy(self, free: list[Any], start: Any, taken: Any) -> int | None:
        """Of the copies that are free in time, the last to become free."""
        first = self.clock.occupied(start, taken)[0]
        fitting = [(until, n) for n, until in enumerate(free) if until <= first]
        return max(fitting)[1] if fitting else None

    def _take(self, free: list[Any], start: Any, taken: Any, events: list) -> None:
        copy = self._copy(free, start, taken)
        assert copy is not None
        free[copy] = self.clock.occupied(start, taken)[1]
        heapq.heappush(events, (free[copy], -1))


_LATER = "later"
