"""Data-flow graphs and libraries of functional units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import networkx as nx

from cggd.checks import as_amount, own
from cggd.io import check_keys
from cggd.space import few


@dataclass(frozen=True, eq=False)
class DataFlowGraph:
    """Operations of a computation and their data dependences.

    Parameters
    ----------
    operations : mapping of name to kind
        Kind of the functional units that can carry out the operation, such as ``"MUL"``.
    edges : sequence of (operation, operation)
        The second needs the result of the first.
    name : str

    Raises
    ------
    ValueError
        If an edge names an unknown operation, or there is a cycle.

    Examples
    --------
    >>> graph = DataFlowGraph({"p": "MUL", "q": "MUL", "s": "ADD"}, [("p", "s"), ("q", "s")], name="dot")
    >>> graph.kinds
    ['MUL', 'ADD']
    """

    operations: Mapping[Hashable, str]
    edges: Sequence[tuple[Hashable, Hashable]] = ()
    name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.operations, Mapping):
            raise TypeError(f"operations must map names to kinds, got {type(self.operations).__name__}")
        if wrong := [(name, kind) for name, kind in self.operations.items() if not isinstance(kind, str) or not kind]:
            raise ValueError(f"the kind of operation {wrong[0][0]!r} must be a word such as 'MUL', got {wrong[0][1]!r}")
        own(self, edges=tuple(dict.fromkeys(map(tuple, self.edges))))
        for edge in self.edges:
            if unknown := [end for end in edge if end not in self.operations]:
                raise ValueError(f"edge {edge!r} names no operation {unknown[0]!r}; there are {few(self.operations)}")
        if not nx.is_directed_acyclic_graph(self.graph):
            cycle = [u for u, _ in nx.find_cycle(self.graph)]
            raise ValueError(f"the operations {few(cycle)} need each other in a cycle")

    @cached_property
    def graph(self) -> nx.DiGraph:
        """The operations as a networkx graph."""
        graph = nx.DiGraph()
        graph.add_nodes_from(self.operations)
        graph.add_edges_from(self.edges)
        return graph

    @property
    def kinds(self) -> list[str]:
        """The kinds of operations, in order of first occurrence."""
        return list(dict.fromkeys(self.operations.values()))


@dataclass(frozen=True)
class FunctionalUnit:
    """A type of hardware that carries out operations, one at a time.

    Parameters
    ----------
    kind : str
        Kind of the operations that it carries out.
    area : float
        Area of each copy.
    delay : number
        Duration of an operation, in which the unit is occupied.
    power : float
        Power of an operation.
    name : str, optional
        By default the kind with the delay: ``"MUL@10"``.
    """

    kind: str
    area: float
    delay: Any
    power: float = 0.0
    name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or not self.kind:
            raise ValueError(f"kind of a unit must be a word such as 'MUL', got {self.kind!r}")
        own(self, name=self.name or f"{self.kind}@{self.delay}")
        for field in ("area", "delay", "power"):
            as_amount(getattr(self, field), f"{field} of unit {self.name!r}")


@dataclass(frozen=True, eq=False)
class UnitLibrary:
    """The functional units that may be built.

    Parameters
    ----------
    units : sequence of FunctionalUnit

    Examples
    --------
    >>> library = UnitLibrary([FunctionalUnit("MUL", 100, 10, 46), FunctionalUnit("MUL", 41, 20, 23)])
    >>> [unit.name for unit in library.of("MUL")]
    ['MUL@10', 'MUL@20']
    """

    units: Sequence[FunctionalUnit]

    def __post_init__(self) -> None:
        own(self, units=tuple(self.units))
        counts = Counter(unit.name for unit in self.units)
        if twice := [name for name, n in counts.items() if n > 1]:
            raise ValueError(f"two units are called {twice[0]!r}; give them names")

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]]) -> UnitLibrary:
        """Units from rows with ``op`` (or ``kind``), ``area``, ``delay``, and optional ``power`` and ``name``."""
        units = []
        for number, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise TypeError(f"row {number} of the library must be an object with op, area and delay, got {row!r}")
            check_keys(row, ("op", "kind", "name", "area", "delay", "power"), f"row {number} of the library")
            missing = [field for field in ("area", "delay") if field not in row]
            if missing or not (row.get("op") or row.get("kind")):
                raise ValueError(f"row {number} of the library has no {missing[0] if missing else 'op'}: {dict(row)!r}")
            kind = row.get("op") or row["kind"]
            if row.get("kind", kind) != kind:
                raise ValueError(f"row {number} of the library has the op {kind!r} and the kind {row['kind']!r}")
            units.append(FunctionalUnit(kind, row["area"], row["delay"], row.get("power", 0.0), row.get("name", "")))
        return cls(units)

    def of(self, kind: str) -> list[FunctionalUnit]:
        """The units that carry out operations of a kind."""
        return [unit for unit in self.units if unit.kind == kind]
