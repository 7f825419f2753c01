"""Time in data-flow graphs: with or without a clock, with or without chaining within its periods."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from cggd import ChoiceSpace, Metric
from cggd_scheduling.limits import time_rounding


@dataclass(frozen=True)
class Clock:
    """When operations may start, and how long they occupy a unit.

    Parameters
    ----------
    period : number or None
        None: operations start at any time.
    chain : bool
        Whether operations may start within a period, if they end within it.
    terms : int
        Most delays or periods in the sum that makes a time; they determine its rounding error.
    whole : bool
        Whether all delays and the period are whole numbers; then sums are exact.
    """

    period: Any = None
    chain: bool = False
    terms: int = 1
    whole: bool = False

    def rounding(self, time: Any) -> Any:
        """Bound on the rounding error of a time."""
        return 0 if self.whole else time_rounding(time, self.terms + 1)

    def begun(self, time: Any) -> int:
        """Number of periods that have ended by a time."""
        periods = int(time // self.period)
        return periods + (self.period * (periods + 1) <= time + self.rounding(time))

    def periods(self, time: Any) -> int:
        """Number of periods that a duration needs, rounded up."""
        begun = self.begun(time)
        return begun if time <= self.period * begun + self.rounding(time) else begun + 1

    def taken(self, delay: Any) -> Any:
        """Duration of an operation with some delay: whole periods, unless operations are chained."""
        return delay if self.period is None or self.chain else self.period * self.periods(delay)

    def start(self, ready: Any, taken: Any) -> Any:
        """Earliest start of an operation whose operands are ready at a time."""
        if not self.chain:
            return ready
        begun = self.begun(ready)
        first, last = self.period * begun, self.period * (begun + 1)
        if ready <= first + self.rounding(ready):
            return first
        return ready if ready + taken <= last + self.rounding(last) else last

    def occupied(self, start: Any, taken: Any) -> tuple[Any, Any]:
        """The time in which an operation occupies its unit, from and until: whole periods if operations are chained."""
        if not self.chain:
            return start, start + taken
        first = self.begun(start)
        last = max(self.periods(start + taken), first + 1 if taken else first)
        return self.period * first, self.period * last

    def within(self, latency: Any) -> Any:
        """Greatest possible latency within a bound."""
        return self.period * self.begun(latency) if self.chain and math.isfinite(latency) else latency

    def end(self, finish: Any) -> Any:
        """Latency if the last operation ends at a time."""
        return self.period * self.periods(finish) if self.chain else finish


class ClockedPath(Metric):
    """Latency of operations that are chained within the periods of a clock.

    It may exceed the longest path of the delays, since an operation that does not fit into the rest of a period waits
    for the next period.

    Parameters
    ----------
    space : ChoiceSpace
        A decision per node of the graph.
    graph : networkx.DiGraph
    delays : sequence of number, one per option
    clock : Clock
    """

    def __init__(self, space: ChoiceSpace, graph: nx.DiGraph, delays: Sequence[Any], clock: Clock) -> None:
        self.space, self.graph, self.clock = space, graph, clock
        self.name, self.unit = "latency", ""
        self.delays = np.array(delays, dtype=float)
        self.order = [(op, space.position(op)) for op in nx.topological_sort(graph)]

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        delays = self.delays[self.space.layout.flat(selections)].tolist()
        return np.array([float(self._latency(row)) for row in delays])

    def _latency(self, delays: Sequence[float]) -> Any:
        ends: dict[Hashable, Any] = {}
        for op, position in self.order:
            ready = max((ends[u] for u in self.graph.predecessors(op)), default=0)
            ends[op] = self.clock.start(ready, delays[position]) + delays[position]
        return self.clock.end(max(ends.values()))


def clock_violations(
    clock: Clock, start: Mapping[Hashable, Any], taken: Mapping[Hashable, Any], lanes: Mapping[Hashable, Hashable]
) -> list[str]:
    """Violations of the clock by chained operations, as text."""
    if not clock.chain:
        return []
    wrong, last = [], {}
    for op in sorted(start, key=start.__getitem__):
        if abs(clock.start(start[op], taken[op]) - start[op]) > clock.rounding(start[op]):
            wrong.append(f"{op!r} starts at {start[op]} and does not end within its period of {clock.period}")
        first, until = clock.occupied(start[op], taken[op])
        if taken[op] and first < last.get(lanes[op], 0):
            wrong.append(f"{lanes[op]!r}: {op!r} is carried out in a period in which it is taken")
        last[lanes[op]] = max(until, last.get(lanes[op], 0))
    return wrong
