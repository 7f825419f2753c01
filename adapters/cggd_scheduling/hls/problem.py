"""High-level synthesis: functional units for a data-flow graph, shared or not, with latency, area and power."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import networkx as nx

from cggd import Additive, ChoiceSpace, LongestPath, Metric
from cggd.checks import as_number, own
from cggd.space import few
from cggd_scheduling.hls.clock import Clock, ClockedPath
from cggd_scheduling.hls.graph import DataFlowGraph, FunctionalUnit, UnitLibrary
from cggd_scheduling.limits import is_whole
from cggd_scheduling.schedule import Alternative, Requirements


@dataclass(frozen=True, eq=False)
class Synthesis:
    """The problem of implementing a data-flow graph with functional units.

    Each operation gets a unit that can carry it out. Operations that do not overlap may share a copy of a unit.
    *Latency* is the end of the last operation, *area* the sum over all copies, *power* the sum over the units of all
    operations.

    Parameters
    ----------
    graph : DataFlowGraph
    library : UnitLibrary
    clock : number, optional
        Period of the clock, in the unit of the delays. Each operation takes whole periods, unless `chain` is set.
    chain : bool
        Whether operations may follow each other within a period, if their delays fit into it. A copy carries out one
        operation per period. An operation longer than a period starts at the beginning of one.

    Raises
    ------
    ValueError
        If there is no unit for an operation.

    Examples
    --------
    >>> graph = DataFlowGraph({"p": "MUL", "q": "MUL", "s": "ADD"}, [("p", "s"), ("q", "s")], name="dot")
    >>> fast, slow = FunctionalUnit("MUL", 100, 10, 46), FunctionalUnit("MUL", 41, 20, 23)
    >>> problem = Synthesis(graph, UnitLibrary([fast, slow, FunctionalUnit("ADD", 10, 1, 15)]))
    >>> problem.least_latency, problem.critical_path()
    (11, ['p', 's'])
    >>> problem.area({"MUL@10": 2, "ADD@1": 1})
    210

    `synthesize` solves it.
    """

    # Set by the module of `synthesize`, which imports this one.
    solve: ClassVar[Callable[..., Any]]

    graph: DataFlowGraph
    library: UnitLibrary
    clock: Any = None
    chain: bool = False
    timing: Clock = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.graph, DataFlowGraph) or not isinstance(self.library, UnitLibrary):
            raise TypeError(f"expected a DataFlowGraph and a UnitLibrary, got {self.graph!r} and {self.library!r}")
        for operation, kind in self.graph.operations.items():
            if not self.library.of(kind):
                known = sorted({unit.kind for unit in self.library.units})
                raise ValueError(
                    f"no unit carries out {kind!r}, which operation {operation!r} needs; there are {few(known)}"
                )
        if self.clock is not None and as_number(self.clock, "clock") <= 0:
            raise ValueError(f"clock must be a period of more than 0, got {self.clock}")
        if self.chain and self.clock is None:
            raise ValueError("chain=True needs clock, the period within which operations may follow each other")
        times = [unit.delay for unit in self.library.units] + ([] if self.clock is None else [self.clock])
        own(self, timing=Clock(self.clock, self.chain, len(self.graph.operations), all(map(is_whole, times))))

    @cached_property
    def units(self) -> dict[Hashable, list[FunctionalUnit]]:
        """The units that can carry out each operation."""
        return {operation: self.library.of(kind) for operation, kind in self.graph.operations.items()}

    @cached_property
    def unit(self) -> dict[str, FunctionalUnit]:
        """Units by name, for the kinds in the graph."""
        return {unit.name: unit for kind in self.graph.kinds for unit in self.library.of(kind)}

    def delay(self, unit: FunctionalUnit) -> Any:
        """Duration of an operation on a unit; whole periods with a clock and without chaining."""
        return self.timing.taken(unit.delay)

    @cached_property
    def order(self) -> list[Hashable]:
        """The operations in topological order."""
        return list(nx.topological_sort(self.graph.graph))

    # -- as a problem of the core -------------------------------------------------------------------------------------

    @cached_property
    def space(self) -> ChoiceSpace:
        """A decision per operation; the options are names of units."""
        if not self.graph.operations:
            raise ValueError("the data-flow graph has no operations, so that nothing is to be chosen")
        return ChoiceSpace({op: [unit.name for unit in units] for op, units in self.units.items()}, self.graph.graph)

    def total(self, what: str) -> Additive:
        """Sum of ``"area"`` or ``"power"`` over operations, each with its own copy, as a metric over `space`."""
        values = [getattr(unit, what) for units in self.units.values() for unit in units]
        return Additive(self.space, values, name=what)

    @cached_property
    def latency(self) -> Metric:
        """When the last operation ends, if each has its own copy, as a metric over `space`."""
        delays = [self.delay(unit) for units in self.units.values() for unit in units]
        if self.chain:
            return ClockedPath(self.space, self.graph.graph, delays, self.timing)
        return LongestPath(self.space, self.graph.graph, [float(d) for d in delays], name="latency")

    @cached_property
    def heads(self) -> dict[Hashable, Any]:
        """Earliest start of each operation, with the fastest units."""
        ends: dict[Hashable, Any] = {}
        starts: dict[Hashable, Any] = {}
        for op in self.order:
            ready = max((ends[u] for u in self.graph.graph.predecessors(op)), default=0)
            delay = min(self.delay(unit) for unit in self.units[op])
            starts[op] = self.timing.start(ready, delay)
            ends[op] = starts[op] + delay
        return starts

    @cached_property
    def tails(self) -> dict[Hashable, Any]:
        """Least time from the end of each operation to the end of all, with the fastest units."""
        tails: dict[Hashable, Any] = {}
        for op in reversed(self.order):
            after = self.graph.graph.successors(op)
            tails[op] = max((tails[v] + min(self.delay(unit) for unit in self.units[v]) for v in after), default=0)
        return tails

    @property
    def least_latency(self) -> Any:
        """Latency with the fastest units, each operation with its own copy."""
        ends = [self.heads[op] + min(self.delay(unit) for unit in self.units[op]) for op in self.order]
        return self.timing.end(max(ends, default=0))

    def critical_path(self) -> list[Hashable]:
        """Operations along the longest chain, with the fastest units."""
        delay = {op: min(self.delay(unit) for unit in units) for op, units in self.units.items()}
        through = {op: self.heads[op] + delay[op] + self.tails[op] for op in self.order}
        path = [max(self.order, key=through.__getitem__)] if self.order else []
        while path and (before := list(self.graph.graph.predecessors(path[0]))):
            path.insert(0, max(before, key=lambda u: self.heads[u] + delay[u]))
        while path and (after := list(self.graph.graph.successors(path[-1]))):
            path.append(max(after, key=lambda v: delay[v] + self.tails[v]))
        return path

    def area(self, copies: Mapping[str, int]) -> float:
        """Area of copies of units."""
        return sum(n * self.unit[name].area for name, n in copies.items())

    def requirements(self, copies: Mapping[str, int], latency: Any = None) -> Requirements:
        """The requirements on a schedule, for the checker: each running operation uses one copy of its unit."""
        tasks: dict[Hashable, Mapping[Hashable, Alternative]] = {
            op: {unit.name: Alternative(self.delay(unit), {unit.name: 1}) for unit in units}
            for op, units in self.units.items()
        }
        return Requirements(tasks, self.graph.edges, capacities=dict(copies.items()), deadline=latency)
