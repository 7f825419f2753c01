"""Sharing as a program over starts: exact where few starts are possible (Pritsker, Watters & Wolfe, 1969)."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from cggd.program.threads import run_interruptibly
from cggd.rounding import sum_rounding
from cggd_scheduling.bounds import rounded_up
from cggd_scheduling.hls.list_scheduler import Listed
from cggd_scheduling.hls.problem import Synthesis
from cggd_scheduling.limits import decimal_step

# Variables up to which the program is small enough to be worth a try.
LARGEST = 6_000

# The solver does not look at the clock at every turn; after its time limit it is waited for this long.
GRACE = 0.2

# The solver may stop short of the optimum by this share. Costs are scaled so that the objective is at most SCALE: its
# tolerances, absolute numbers, then leave open a share of GAP, and of ROUNDING / SCALE for each variable.
GAP, SCALE, ROUNDING = 1e-6, 1e3, 1e-7


@dataclass(frozen=True, eq=False)
class Timed:
    """What the program found: a schedule where it has one, a bound, and whether there is none at all."""

    listed: Listed | None
    bound: float
    infeasible: bool = False


def starts(problem: Synthesis, latency: Any, area: float, power: float) -> list[tuple[int, str, int]] | None:
    """Operation, unit and start of each variable; None where times are no whole numbers, or there are too many.

    Units that no schedule within the area and the power can have are left out: prices of "never" would swallow the
    others in the tolerances of the solver.
    """
    times = [problem.delay(unit) for unit in problem.unit.values()]
    if problem.chain or not math.isfinite(latency) or not all(isinstance(t, int) and t >= 0 for t in times):
        return None
    found: list[tuple[int, str, int]] = []
    least = {op: min(unit.power for unit in units) for op, units in problem.units.items()}
    total = math.fsum(least.values())
    for number, op in enumerate(problem.order):
        for unit in problem.units[op]:
            needed = total - least[op] + unit.power
            if unit.area > area or needed > power + sum_rounding(needed, len(least) + 2):
                continue
            last = math.floor(latency - problem.tails[op] - problem.delay(unit))
            if len(found) + last + 1 - problem.heads[op] > LARGEST:
                return None
            found += [(number, unit.name, start) for start in range(problem.heads[op], last + 1)]
    return found


def solve_timed(
    problem: Synthesis,
    objective: str,
    latency: int,
    area: float,
    power: float,
    *,
    best: float = math.inf,
    nodes: int,
    time_limit: float = math.inf,
) -> Timed | None:
    """The least area or power by a deadline, with shared copies; None where the program is large or the solver late.

    One 0/1 variable for each operation, unit and start, and the number of copies of each unit. What is worth more than
    `best` is left out, a value that is known.
    """
    if objective == "area":
        area = min(area, best)
    else:
        power = min(power, best)
    variables = starts(problem, latency, area, power)
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
    if not all(of):
        return Timed(None, -math.inf, infeasible=True)  # an operation fits nowhere
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
    by_unit: dict[str, list[tuple[int, int]]] = {}
    for v, (_, name, start) in enumerate(variables):
        by_unit.setdefault(name, []).append((start, v))
    for name, begun in by_unit.items():
        begun.sort()
        times = [start for start, _ in begun]
        for t in sorted(set(times)):  # most operations run at once where one of them starts
            there = begun[bisect_right(times, t - delay[name]) : bisect_right(times, t)]
            if there:
                row({**dict.fromkeys((v for _, v in there), 1.0), copies[name]: -1.0}, -np.inf, 0)
    used = {name for _, name, _ in variables}
    areas = {copies[name]: float(problem.unit[name].area) for name in names if name in used}
    powers = {v: float(problem.unit[name].power) for v, (_, name, _) in enumerate(variables)}
    for entries, limit in ((areas, area), (powers, power)):
        if math.isfinite(limit):
            scale = limit or max(entries.values(), default=0.0) or 1.0
            row({v: value / scale for v, value in entries.items()}, -np.inf, limit / scale)
    cost = np.zeros(n)
    for v, value in (areas if objective == "area" else powers).items():
        cost[v] = value
    most = area if objective == "area" else power
    unit_cost = (most if math.isfinite(most) and most > 0 else cost.max() or 1.0) / SCALE
    most_copies = np.array([len(problem.order) if name in used else 0.0 for name in names])
    arguments: dict[str, Any] = {
        "integrality": np.ones(n),
        "bounds": cast(Any, Bounds)(np.zeros(n), np.append(np.ones(len(variables)), most_copies)),
        "constraints": LinearConstraint(rows.matrix(n), np.array(low), np.array(high)),  # pyright: ignore
        "options": {"node_limit": nodes, "mip_rel_gap": GAP},
    }
    if math.isfinite(time_limit):
        arguments["options"]["time_limit"] = max(time_limit, 1e-3)
    late = time.perf_counter() + time_limit + GRACE
    found = run_interruptibly(lambda: milp(cost / unit_cost, **arguments), lambda: time.perf_counter() >= late)
    if found is None:
        return None
    dual = found.mip_dual_bound if getattr(found, "mip_dual_bound", None) is not None else -np.inf
    bound = unit_cost * (dual - GAP * SCALE - ROUNDING * n)
    if math.isfinite(bound) and (step := decimal_step(getattr(unit, objective) for unit in problem.unit.values())):
        bound = float(rounded_up(bound, step))
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
