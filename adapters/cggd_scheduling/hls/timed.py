"""Sharing as a program over starts: exact where few starts are possible (Pritsker, Watters & Wolfe, 1969)."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from cggd.linear import aside
from cggd_scheduling.hls.listing import Listed
from cggd_scheduling.hls.problem import Synthesis

# Variables up to which the program is small enough to be worth a try.
LARGEST = 6_000

# The solver does not look at the clock at every turn; after its time limit it is waited for this long.
GRACE = 0.2

# The solver may stop short of the optimum by this share, and its bound may be off by it.
GAP = 1e-6


@dataclass(frozen=True, eq=False)
class Timed:
    """What the program found: a schedule where it has one, a bound, and whether there is none at all."""

    listed: Listed | None
    bound: float
    infeasible: bool = False


def starts(problem: Synthesis, latency: Any) -> list[tuple[int, str, int]] | None:
    """Operation, unit and start of each variable; None where times are no whole numbers, or there are too many."""
    times = [problem.delay(unit) for unit in problem.unit.values()]
    if problem.chain or not math.isfinite(latency) or not all(isinstance(t, int) and t >= 0 for t in times):
        return None
    found: list[tuple[int, str, int]] = []
    for number, op in enumerate(problem.order):
        for unit in problem.units[op]:
            last = math.floor(latency - problem.tails[op] - problem.delay(unit))
            if len(found) + last + 1 - problem.heads[op] > LARGEST:
                return None
            found += [(number, unit.name, start) for start in range(problem.heads[op], last + 1)]
    return found


def solve_timed(
    problem: Synthesis, objective: str, latency: int, area: float, power: float, *, nodes: int, time_limit: float
) -> Timed | None:
    """The least area or power by a deadline, with shared copies; None where the program is large or the solver late.

    One 0/1 variable for each operation, unit and start, and the number of copies of each unit.
    """
    variables = starts(problem, latency)
    if variables is None:
        return None
    names = list(problem.unit)
    copies = {name: len(variables) + k for k, name in enumerate(names)}
    n = len(variables) + len(names)
    rows, low, high = _Rows(), [], []

    def row(entries: Mapping[int, float], at_least: float, at_most: float) -> None:
        rows.add(entries)
        low.append(at_least)
        high.append(at_most)

    of: list[list[int]] = [[] for _ in problem.order]
    for v, (number, _, _) in enumerate(variables):
        of[number].append(v)
    for own in of:
        row(dict.fromkeys(own, 1.0), 1, 1)
    delay = {name: problem.delay(unit) for name, unit in problem.unit.items()}
    number_of = {op: number for number, op in enumerate(problem.order)}
    for first, second in problem.graph.edges:
        ends = {v: variables[v][2] + delay[variables[v][1]] for v in of[number_of[first]]}
        begins = {v: variables[v][2] for v in of[number_of[second]]}
        for t in sorted({begin for begin in begins.values() if begin < max(ends.values())}):
            late = [v for v, end in ends.items() if end > t]
            early = [v for v, begin in begins.items() if begin <= t]
            row(dict.fromkeys([*late, *early], 1.0), -np.inf, 1)
    running: dict[tuple[str, int], list[int]] = {}
    for v, (_, name, start) in enumerate(variables):
        for t in range(start, start + delay[name]):
            running.setdefault((name, t), []).append(v)
    for (name, _), there in running.items():
        row({**dict.fromkeys(there, 1.0), copies[name]: -1.0}, -np.inf, 0)
    areas = {copies[name]: float(problem.unit[name].area) for name in names}
    powers = {v: float(problem.unit[name].power) for v, (_, name, _) in enumerate(variables)}
    for entries, limit in ((areas, area), (powers, power)):
        if math.isfinite(limit):
            row(entries, -np.inf, limit)
    cost = np.zeros(n)
    for v, value in (areas if objective == "area" else powers).items():
        cost[v] = value
    arguments: dict[str, Any] = {
        "integrality": np.ones(n),
        "bounds": cast(Any, Bounds)(np.zeros(n), np.append(np.ones(len(variables)), np.full(len(names), np.inf))),
        "constraints": LinearConstraint(rows.matrix(n), np.array(low), np.array(high)),  # pyright: ignore
        "options": {"node_limit": nodes, "time_limit": max(time_limit, 1e-3), "mip_rel_gap": GAP},
    }
    late = time.perf_counter() + time_limit + GRACE
    found = aside(lambda: milp(cost, **arguments), lambda: time.perf_counter() >= late)
    if found is None:
        return None
    bound = found.mip_dual_bound if getattr(found, "mip_dual_bound", None) is not None else -np.inf
    if found.x is None:
        return Timed(None, bound, infeasible=found.status == 2)
    chosen = [variables[v] for v in np.flatnonzero(found.x[: len(variables)] > 0.5).tolist()]
    start = {problem.order[number]: t for number, _, t in chosen}
    unit = {problem.order[number]: name for number, name, _ in chosen}
    return Timed(Listed(start, unit, sum(problem.unit[name].power for name in unit.values())), bound)


class _Rows:
    """A sparse matrix, row by row."""

    def __init__(self) -> None:
        self.n, self.cells = 0, ([], [], [])

    def add(self, entries: Mapping[int, float]) -> None:
        for part, values in zip(self.cells, ([self.n] * len(entries), entries.keys(), entries.values()), strict=True):
            part.extend(values)
        self.n += 1

    def matrix(self, n_columns: int) -> sparse.csr_array:
        rows, columns, values = self.cells
        return sparse.csr_array((values, (rows, columns)), shape=(self.n, n_columns))
