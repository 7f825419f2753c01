"""OR-tools CP-SAT on the linear form, default settings."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from ortools.sat.python import cp_model

from benchmarks.instances import Instance
from benchmarks.opponents.claim import Claim, Record
from benchmarks.opponents.linear_form import LinearForm, linear_form

# Decimals that numbers are tried to be written with exactly; data of real tables has no more.
DECIMALS = 8
# Where no number of decimals is exact, the largest coefficient becomes 2^40: sums of 2^20 of them fit into 63 bits.
LARGEST = 2.0**40


class _Watch(cp_model.CpSolverSolutionCallback):
    def __init__(self, form: LinearForm, record: Record) -> None:
        super().__init__()
        self.form, self.record = form, record

    def on_solution_callback(self) -> None:
        # The variables come first in the solution, in the order in which they were made.
        self.record(self.form.selection(np.array(list(self.response_proto.solution))[: len(self.form.costs)]))


def solve(instance: Instance, *, seed: int, seconds: float, threads: int, record: Record) -> Claim:
    began = time.perf_counter()
    form = linear_form(instance.problem)
    model = cp_model.CpModel()
    x = [model.new_bool_var("") for _ in form.costs]
    for first, last in pairwise(form.groups.offsets.tolist()):
        model.add_exactly_one(x[first:last])
    exact = True
    for row, limit in zip(form.weights, form.limits, strict=True):
        scale = decimal_scale(np.append(row, limit))
        exact = exact and scale is not None
        weights, capacity = as_integers(row, limit, scale)
        model.add(cp_model.LinearExpr.weighted_sum(x, weights.tolist()) <= capacity)
    scale = decimal_scale(form.costs)
    exact = exact and scale is not None
    scale = scale or LARGEST / np.abs(form.costs).max()
    costs = np.rint(form.costs * scale).astype(np.int64)
    model.minimize(cp_model.LinearExpr.weighted_sum(x, costs.tolist()))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = threads
    solver.parameters.random_seed = seed
    solver.parameters.max_time_in_seconds = max(0.01, seconds - (time.perf_counter() - began))
    status = solver.solve(model, _Watch(form, record))
    # The bound of rounded coefficients proves nothing here, and UNKNOWN comes with one of 0.
    known = exact and status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    bound = form.objective(solver.best_objective_bound / scale)
    note = solver.status_name(status) + ("" if exact else ", coefficients rounded")
    return Claim(status == cp_model.OPTIMAL and exact, bound if known else None, note)


def decimal_scale(numbers: NDArray[np.float64]) -> float | None:
    """The least power of ten that makes whole numbers of all of them, or None."""
    for decimals in range(DECIMALS + 1):
        scaled = numbers * 10.0**decimals
        if np.abs(scaled).max() > LARGEST:
            return None
        if np.allclose(scaled, np.rint(scaled), rtol=1e-12, atol=1e-6):
            return 10.0**decimals
    return None


def as_integers(row: NDArray[np.float64], limit: float, scale: float | None) -> tuple[NDArray[np.int64], int]:
    """A constraint in whole numbers: exactly, or with weights rounded up and the limit down."""
    if scale is not None:
        return np.rint(row * scale).astype(np.int64), round(limit * scale)
    factor = LARGEST / max(np.abs(row).max(), abs(limit) / len(row))
    return np.ceil(row * factor).astype(np.int64), int(np.floor(limit * factor))
