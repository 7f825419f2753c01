"""Time in data-flow graphs: with a clock or without, with operations chained within its periods or not."""

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
        Without one, operations follow each other at any time.
    chain : bool
        Whether they may start within a period, if they end within it.
    terms : int
        A time is a sum of so many delays or periods at the most, and is off by the rounding of such a sum.
    whole : bool
        Whether all delays and the period are whole numbers, whose sums are exact.
    """

    period: Any = None
    chain: bool = False
    terms: int = 1
    whole: bool = False

    def rounding(self, time: Any) -> Any:
        """How far a time may be off by the rounding of its sum."""
        return 0 if self.whole else time_rounding(time, self.terms + 1)

    def begun(self, time: Any) -> int:
        """The number of periods that end by a time."""
        periods = int(time // self.period)
        return periods + (self.period * (periods + 1) <= time + self.rounding(time))

    def periods(self, time: Any) -> int:
        """The number of periods that a time takes up."""
        begun = self.begun(time)
        return begun if time <= self.period * begun + self.rounding(time) else begun + 1

    def taken(self, delay: Any) -> Any:
        """What an operation of some delay takes: whole periods, unless it may be chained."""
        return delay if self.period is None or self.chain else self.period * self.periods(delay)

    def start(self, ready: Any, taken: Any) -> Any:
        """The earliest start of an operation whose operands are ready at some time."""
        if not self.chain:
            return ready
        begun = self.begun(ready)
        first, last = self.period * begun, self.period * (begun + 1)
        if ready <= first + self.rounding(ready):
            return first
        return ready if ready + taken <= last + self.rounding(last) else last

    def occupied(self, start: Any, taken: Any) -> tuple[Any, Any]:
        """From when until when an operation has its unit: whole periods, where operations are chained."""
        if not self.chain:
            return start, start + taken
        first = self.begun(start)
        last = max(self.periods(start + taken), first + 1 if taken else first)
        return self.period * first, self.period * last

    def within(self, latency: Any) -> Any:
        """The greatest latency that operations may have within a bound."""
        return self.period * self.begun(latency) if self.chain and math.isfinite(latency) else latency

    def end(self, finish: Any) -> Any:
        """Latency of operations that all end at some time."""
        return self.period * self.periods(finish) if self.chain else finish


class ClockedPath(Metric):
    """Latency of operations that are chained within the periods of a clock.

    Not the longest path of their delays: an operation that does not fit into what is left of a period waits for the
    next.

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
    """What chained operations break of the clock: in words, one look at each period of each copy."""
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
