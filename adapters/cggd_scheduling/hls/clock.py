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

# A time that exceeds a multiple of the period by less than this share of it is that multiple, rounded.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Clock:
    """When operations may start, and how long they occupy a unit.

    Parameters
    ----------
    period : number or None
        Without one, operations follow each other at any time.
    chain : bool
        Whether they may start within a period, if they end within it.
    """

    period: Any = None
    chain: bool = False

    def periods(self, time: Any) -> int:
        """The number of periods that a time takes up."""
        return math.ceil(time / self.period - ROUNDING)

    def taken(self, delay: Any) -> Any:
        """What an operation of some delay takes: whole periods, unless it may be chained."""
        return delay if self.period is None or self.chain else self.period * self.periods(delay)

    def start(self, ready: Any, taken: Any) -> Any:
        """The earliest start of an operation whose operands are ready at some time."""
        if not self.chain:
            return ready
        begun = self.period * math.floor(ready / self.period + ROUNDING)  # of the period
        if ready - begun <= ROUNDING * self.period:
            return begun
        return ready if ready + taken <= begun + self.period * (1 + ROUNDING) else begun + self.period

    def occupied(self, start: Any, taken: Any) -> tuple[Any, Any]:
        """From when until when an operation has its unit: whole periods, where operations are chained."""
        if not self.chain:
            return start, start + taken
        first = math.floor(start / self.period + ROUNDING)
        last = max(self.periods(start + taken), first + 1 if taken else first)
        return self.period * first, self.period * last

    def within(self, latency: Any) -> Any:
        """The greatest latency that operations may have within a bound."""
        return self.period * math.floor(latency / self.period + ROUNDING) if self.chain else latency

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
        delays = self.delays[self.space.layout.flat(selections)]
        period = float(self.clock.period)
        ends: dict[Hashable, NDArray[np.float64]] = {}
        for op, position in self.order:
            ready = np.max([np.zeros(len(selections)), *(ends[u] for u in self.graph.predecessors(op))], axis=0)
            begun = period * np.floor(ready / period + ROUNDING)
            fits = ready + delays[:, position] <= begun + period * (1 + ROUNDING)
            start = np.where(ready - begun <= ROUNDING * period, begun, np.where(fits, ready, begun + period))
            ends[op] = start + delays[:, position]
        return period * np.ceil(np.max(list(ends.values()), axis=0) / period - ROUNDING)


def clock_violations(
    clock: Clock, start: Mapping[Hashable, Any], taken: Mapping[Hashable, Any], lanes: Mapping[Hashable, Hashable]
) -> list[str]:
    """What chained operations break of the clock: in words, one look at each period of each copy."""
    if not clock.chain:
        return []
    wrong, last = [], {}
    for op in sorted(start, key=start.__getitem__):
        if abs(clock.start(start[op], taken[op]) - start[op]) > ROUNDING * clock.period:
            wrong.append(f"{op!r} starts at {start[op]} and does not end within its period of {clock.period}")
        first, until = clock.occupied(start[op], taken[op])
        if taken[op] and first < last.get(lanes[op], 0) - ROUNDING * clock.period:
            wrong.append(f"{lanes[op]!r}: {op!r} is carried out in a period in which it is taken")
        last[lanes[op]] = max(until, last.get(lanes[op], 0))
    return wrong
