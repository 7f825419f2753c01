"""Longest paths through a directed acyclic graph: latency, critical path, makespan without resources."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cggd.checks import as_number, own
from cggd.expressions import Expression, Program
from cggd.metrics.base import Metric, table_of
from cggd.rounding import READ, UNIT, WHOLE, is_whole
from cggd.space import ChoiceSpace, check_space, few


@dataclass(frozen=True, eq=False, repr=False)
class LongestPath(Metric):
    """Length of the longest path, where decisions choose durations of nodes or edges.

    Parameters
    ----------
    space : ChoiceSpace
    graph : networkx.DiGraph
        Acyclic. By default a decision belongs to the node, or to the edge ``(u, v)``, with the same label.
    values : as for `Additive`
        Duration of each option, at least 0.
    at : mapping of decision to list of nodes and edges, optional
        Nodes and edges of decisions that have other labels, or belong to several of them.
    weight : str
        Node and edge attribute with fixed durations, to which chosen ones are added; 0 if it is missing.
    name, unit : str

    Raises
    ------
    ValueError
        If the graph has a cycle, a decision has no place, two decisions have the same one, or a duration is negative.

    Notes
    -----
    The replacement table takes O((V + E) log V). With heads h (longest path that ends with a vertex) and tails t, the
    longest path through v with duration d has length ``h[v] - d[v] + d + t[v] - d[v]``. In a topological numbering, a
    path that avoids v crosses the number of v on exactly one edge (u, w). The longest such path is therefore the
    greatest ``h[u] + t[w]`` over the edges that span v, a range maximum for all v at once.

    Examples
    --------
    >>> graph = nx.DiGraph([("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])
    >>> space = ChoiceSpace({"b": ["slow", "fast"], "c": ["slow", "fast"]}, graph)
    >>> latency = LongestPath(space, graph, [5.0, 2.0, 4.0, 1.0], name="latency", unit="ms")
    >>> latency({"b": "slow", "c": "slow"})
    5.0
    >>> latency.replacements(np.array([0, 0]))
    array([5., 4., 5., 5.])
    """

    space: ChoiceSpace
    graph: nx.DiGraph[Any]
    values: Any
    at: Mapping[Hashable, Iterable[Hashable]] | None = None
    weight: str = "duration"
    name: str = field(default="longest path", kw_only=True)
    unit: str = field(default="", kw_only=True)
    _dag: _Dag = field(init=False)
    _decision_of: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        check_space(self.space)
        if not isinstance(self.graph, nx.DiGraph) or self.graph.is_multigraph():
            raise TypeError(f"graph must be a networkx.DiGraph, got {type(self.graph).__name__}")
        values = self.space.values(self.values)
        if values.min() < 0:
            at = int(np.argmin(values))
            raise ValueError(
                f"values must be durations of at least 0, got {values[at]} for {self.space.name_option(at)}"
            )
        everywhere = list(self._places())
        decided_edges = {place for places in everywhere for place in places if place not in self.graph.nodes}
        dag = _Dag.of(self.graph, self.weight, edges=decided_edges)
        decision_of = np.full(len(dag.fixed), -1)
        for d, places in enumerate(everywhere):
            for place in places:
                v = dag.vertex[place]
                if decision_of[v] >= 0:
                    other = self.space.decisions[decision_of[v]]
                    raise ValueError(f"decisions {other!r} and {self.space.decisions[d]!r} both stand on {place!r}")
                decision_of[v] = d
        own(self, values=values, _dag=dag, _decision_of=decision_of)

    def _places(self) -> Iterable[list[Hashable]]:
        """Nodes and edges of each decision, in the order of the decisions."""
        if self.at is not None and not isinstance(self.at, Mapping):
            raise TypeError(f"at must map decisions to lists of nodes and edges, got {self.at!r}")
        nodes, edges, given = self.graph.nodes, self.graph.edges, dict(self.at or {})
        for decision, places in given.items():
            self.space.position(decision)
            if isinstance(places, str) or not isinstance(places, Iterable) or _is_edge(places, edges):
                raise TypeError(
                    f"at[{decision!r}] must be a list of nodes and edges, got {places!r}; a single one is [{places!r}]"
                )
        for decision in self.space.decisions:
            places = list(dict.fromkeys(given.get(decision, [decision])))
            unknown = [p for p in places if p not in nodes and not _is_edge(p, edges)]
            if unknown or not places:
                raise ValueError(
                    f"decision {decision!r} stands on no node or edge of the graph"
                    + (
                        f": at names {few(unknown) or 'none'} for it"
                        if decision in given
                        else "; name its place with at={decision: [...]}"
                    )
                )
            yield places

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        return self._dag.heads(self._durations(selections)).max(axis=0)

    # Durations are not negative, so the length is its own largest partial sum.
    def rounding_of(self, values: NDArray[np.float64]) -> Any:
        return self._rounding * values

    def rounded_table(
        self, selection: NDArray[np.int64], sign: float, *, local: bool = False
    ) -> tuple[NDArray[np.float64], Any]:
        table = table_of(self, selection, local=local)
        return table, self._rounding * (table + table.max()) if self._rounding else 0.0

    @cached_property
    def _rounding(self) -> float:
        """Relative rounding error of a length; 0 if all durations are whole and floats add them without rounding."""
        dag, fixed = self._dag, self._dag.fixed
        most = (float(self.values.max()) + float(fixed.max())) * len(fixed)
        if most < WHOLE and is_whole(fixed) and is_whole(self.values):
            return 0.0
        return UNIT * (2 * dag.depth + READ)

    def _durations(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        """Duration of each vertex under each selection, shape (n_vertices, n)."""
        decided = np.flatnonzero(self._decision_of >= 0)
        chosen = self.values[self.space.layout.flat(selections)]
        durations = np.repeat(self._dag.fixed[:, None], len(selections), axis=1)
        durations[decided] += chosen[:, self._decision_of[decided]].T
        return durations

    @cached_property
    def _single(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Options of the decisions with one vertex, and their vertices."""
        owner = self.space.layout.owner
        decided = np.flatnonzero(self._decision_of >= 0)
        times = np.bincount(self._decision_of[decided], minlength=self.space.n_decisions)
        vertex = np.zeros(self.space.n_decisions, dtype=np.int64)
        vertex[self._decision_of[decided]] = decided
        single = np.flatnonzero((times == 1)[owner])
        return single, vertex[owner[single]]

    def replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        table, heads, tails = self._through(selection)
        options, vertex = self._single
        avoiding = self._dag.longest_avoiding(heads, tails)[vertex]
        table[options] = np.maximum(avoiding, table[options])
        length = heads.max()
        # Lengths that differ by less may belong to one path summed in two orders; they are made equal.
        table[np.abs(table - length) <= 2 * self._rounding * length] = length
        return table

    @property
    def parted(self) -> bool:
        return True

    def local_replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        return self._through(selection)[0]

    def _through(self, selection: NDArray[np.int64]) -> tuple[NDArray, NDArray, NDArray]:
        """Longest path through each decision's vertex by option (of all, if it has several), and heads and tails."""
        dag, (options, vertex) = self._dag, self._single
        durations = self._durations(selection[None])
        heads, tails = dag.heads(durations), dag.tails(durations)
        around = (heads + tails - 2 * durations)[:, 0] + dag.fixed
        table = np.empty(self.space.n_options)
        table[options] = around[vertex] + self.values[options]
        shared = np.setdiff1d(np.arange(self.space.n_options), options)
        if len(shared):
            table[shared] = self.evaluate(self.space.switches(selection, shared))
        return table, heads[:, 0], tails[:, 0]

    def least_with(self, sign: float, allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
        # Longer durations never shorten the longest path, so the table at all extreme durations is the extreme table.
        extreme = self.space.layout.argmax(np.where(allowed, -sign * self.values, -np.inf))
        table, rounding = self.rounded_table(extreme, sign)
        return sign * table - 4 * rounding

    @property
    def closed_form(self) -> bool:
        return True

    def expression(self, program: Program, sign: float) -> Expression | None:
        """The ends of the last vertices; each vertex starts after those before it end."""
        durations, dag = self._as_expression(program), self._dag
        if dag.depth == len(dag.fixed) - 1:  # one path passes all vertices
            return sign * durations.sum()
        if sign < 0:
            return None
        ends = program.variable(*self._spans(program.allowed))
        program.at_most(durations - ends)
        program.at_most(ends[dag.source] + durations[dag.target] - ends[dag.target])
        return ends[np.setdiff1d(np.arange(len(ends)), dag.source)]

    def _as_expression(self, program: Program) -> Expression:
        """The duration of each vertex."""
        layout = self.space.layout
        counts = np.where(self._decision_of < 0, 0, layout.sizes[self._decision_of])
        starts = np.append(0, np.cumsum(counts))
        first = layout.offsets[self._decision_of] - starts[:-1]
        options = np.arange(starts[-1]) + np.repeat(first, counts)
        values = self.values[options].astype(float)
        matrix = sparse.csr_array((values, options, starts), shape=(len(counts), self.space.n_options))
        return program.sum(matrix) + self._dag.fixed

    def addends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        durations = np.concatenate([np.asarray(self.values, dtype=float), self._dag.fixed])
        return durations, durations

    # Longer durations never shorten the longest path, so every decision's extreme gives the metric's.
    def limits(self) -> tuple[float, float]:
        return self.minimum(), self.maximum()

    def minimum(self) -> float:
        return self(self.space.layout.argmax(-self.values))

    def maximum(self) -> float:
        return self(self.space.layout.argmax(self.values))

    def _spans(self, allowed: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Earliest and latest end of each vertex over all allowed options, widened by rounding errors."""
        ends = [self.space.layout.argmax(np.where(allowed, sign * self.values, -np.inf)) for sign in (-1, 1)]
        early, late = self._dag.heads(self._durations(np.array(ends))).T
        return early - 2 * self._rounding * early, late + 2 * self._rounding * late

    def critical_path(self, selection: Mapping[Hashable, Hashable] | Any) -> list[Hashable]:
        """Nodes and decided edges on one longest path under a selection, in order."""
        durations = self._durations(self.space.indices(selection)[None])
        return self._dag.critical_path(durations)


def _is_edge(place: Hashable, edges: Any) -> bool:
    return isinstance(place, tuple) and len(place) == 2 and place in edges


@dataclass(frozen=True, eq=False)
class _Dag:
    """A graph with durations on vertices only, numbered in a topological order; an edge with a duration is a vertex."""

    vertex: dict[Hashable, int]
    fixed: NDArray[np.float64]
    source: NDArray[np.int64]
    target: NDArray[np.int64]

    @classmethod
    def of(cls, graph: nx.DiGraph, weight: str, edges: set[Hashable]) -> _Dag:
        if graph.number_of_nodes() == 0:
            raise ValueError("graph has no nodes")
        try:
            order = list(nx.topological_sort(graph))
        except nx.NetworkXUnfeasible:
            cycle = [u for u, *_ in nx.find_cycle(graph)]
            raise ValueError(f"graph has a cycle through {few(cycle)}; a longest path needs an acyclic graph") from None
        if ambiguous := [edge for edge in graph.edges if edge in graph.nodes]:
            raise ValueError(f"{few(ambiguous)} names both an edge and a node of the graph; rename the node")
        vertex: dict[Hashable, int] = {}
        fixed: list[float] = []
        source: list[int] = []
        target: list[int] = []
        # Numbering a node and then the edges that leave it is a topological order again.
        for node in order:
            vertex[node] = len(fixed)
            fixed.append(_duration(graph.nodes[node], weight, node))
            for edge, data in ((edge, graph.edges[edge]) for edge in graph.out_edges(node)):
                duration = _duration(data, weight, edge)
                if duration or edge in edges:
                    vertex[edge] = len(fixed)
                    fixed.append(duration)
        for u, v in graph.edges:
            steps = [vertex[place] for place in (u, (u, v), v) if place in vertex]
            source += steps[:-1]
            target += steps[1:]
        return cls(vertex, np.array(fixed), np.array(source, dtype=int), np.array(target, dtype=int))

    @cached_property
    def _forward(self) -> list[tuple[NDArray, NDArray, NDArray]]:
        return _levels(self.source, self.target, len(self.fixed))

    @cached_property
    def _backward(self) -> list[tuple[NDArray, NDArray, NDArray]]:
        last = len(self.fixed) - 1
        levels = _levels(last - self.target, last - self.source, len(self.fixed))
        return [(last - sources, starts, last - targets) for sources, starts, targets in levels]

    @property
    def depth(self) -> int:
        """Largest number of edges on a path."""
        return len(self._forward)

    def heads(self, durations: NDArray[np.float64]) -> NDArray[np.float64]:
        """Longest path that ends with each vertex, its own duration included, shape (n_vertices, n)."""
        return _accumulate(durations, self._forward)

    def tails(self, durations: NDArray[np.float64]) -> NDArray[np.float64]:
        """Longest path that starts with each vertex, its own duration included."""
        return _accumulate(durations, self._backward)

    def longest_avoiding(self, heads: NDArray[np.float64], tails: NDArray[np.float64]) -> NDArray[np.float64]:
        """Length of the longest path that avoids each vertex; -inf where every path passes it."""
        n = len(heads)
        roots = np.setdiff1d(np.arange(n), self.target)
        leaves = np.setdiff1d(np.arange(n), self.source)
        first = np.concatenate([self.source + 1, np.zeros_like(roots), leaves + 1])
        last = np.concatenate([self.target, roots, np.full_like(leaves, n)])
        length = np.concatenate([heads[self.source] + tails[self.target], tails[roots], heads[leaves]])
        return _range_maximum(first, last, length, n)

    def critical_path(self, durations: NDArray[np.float64]) -> list[Hashable]:
        tails = self.tails(durations)[:, 0]
        names = list(self.vertex)
        v = int(np.argmax(tails))
        path = [names[v]]
        while len(following := self.target[self.source == v]):
            v = int(following[np.argmax(tails[following])])
            path.append(names[v])
        return path


def _duration(data: Mapping, weight: str, place: Hashable) -> float:
    duration = as_number(data.get(weight, 0.0), f"{weight} of {place!r}")
    if duration < 0:
        raise ValueError(f"{weight} of {place!r} must be at least 0, got {duration}")
    return duration


def _levels(source: NDArray, target: NDArray, n: int) -> list[tuple[NDArray, NDArray, NDArray]]:
    """Edges by the depth of their target: sources, where each target's begin, and the targets."""
    depth = np.zeros(n, dtype=np.int64)
    by_target = np.argsort(target, kind="stable")
    for s, t in zip(source[by_target].tolist(), target[by_target].tolist(), strict=True):
        depth[t] = max(depth[t], depth[s] + 1)
    order = np.lexsort((target, depth[target]))
    source, target = source[order], target[order]
    levels = []
    for cut in np.split(np.arange(len(order)), np.flatnonzero(np.diff(depth[target])) + 1):
        if len(cut):
            targets, starts = np.unique(target[cut], return_index=True)
            levels.append((source[cut], starts, targets))
    return levels


def _accumulate(durations: NDArray, levels: list[tuple[NDArray, NDArray, NDArray]]) -> NDArray:
    lengths = durations.copy()
    for sources, starts, targets in levels:
        lengths[targets] += np.maximum.reduceat(lengths[sources], starts, axis=0)
    return lengths


def _range_maximum(first: NDArray, last: NDArray, value: NDArray, n: int) -> NDArray[np.float64]:
    """Greatest value over the intervals ``first <= v < last`` that hold v, for v = 0..n-1; -inf where none does."""
    some = last > first
    first, last, value = first[some], last[some], value[some]
    # An interval is the union of two of length 2**power; powers are then pushed down, each to its two halves.
    power = np.frexp(last - first)[1] - 1
    best = np.full((n.bit_length() + 1, n), -np.inf)
    np.maximum.at(best, (power, first), value)
    np.maximum.at(best, (power, last - (1 << power.astype(np.int64))), value)
    for p in range(len(best) - 1, 0, -1):
        half = 1 << (p - 1)
        np.maximum(best[p - 1], best[p], out=best[p - 1])
        if half < n:
            np.maximum(best[p - 1, half:], best[p, : n - half], out=best[p - 1, half:])
    return best[0]
