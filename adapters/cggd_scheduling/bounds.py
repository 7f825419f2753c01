"""Lower bounds on the makespan of a project: critical path and work, with modes that the budgets allow."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd import maximum
from cggd.metrics import Maximum
from cggd.program.bounds import SMALL
from cggd.program.highs import LinearProgram, Outcome
from cggd_scheduling.limits import decimal_step, is_whole
from cggd_scheduling.project import Project

# Largest absolute and relative error of a bound from a linear program, in units of which every value is a multiple.
ROUNDING, SHARE = 1e-6, 1e-9

# Nodes of the exact solver for a better bound, and its share of a time limit. With more than EXACT options it does not
# run, since a node would take too long.
NODES, EXACT_SHARE = 100, 0.1
EXACT = 2_000


def shortest(project: Project) -> Maximum:
    """Lower bound on the makespan for a selection of modes: its critical path, or the work for a resource.

    Work is the sum of demand times duration, divided by the capacity.
    """
    work = [(1.0 / c) * project.use(r) for r, c in project.renewable.items() if c > 0]
    return maximum(project.critical_path, *work, name="bound")


@dataclass(frozen=True, eq=False)
class Relaxation:
    """Solution of the linear relaxation.

    Attributes
    ----------
    bound : int
        Lower bound on the makespan.
    shares : ndarray of shape (n_options,), optional
        Value of each mode in the linear program that minimises `shortest`; None if it was not solved.
    """

    bound: int
    shares: NDArray[np.float64] | None = None


def relaxation(project: Project, *, time_limit: float | None = None) -> Relaxation:
    """Lower bound on `shortest` under the budgets, by a linear program and a limited branch-and-bound.

    Parameters
    ----------
    project : Project
    time_limit : float, optional
        Seconds; without it, only the number of nodes limits the exact solver.

    Examples
    --------
    >>> project = Project({"a": [(4, {"crew": 2})], "b": [(3, {"crew": 2})]}, renewable={"crew": 3})
    >>> relaxation(project).bound
    5
    """
    metric, step, space = shortest(project), project.time_step, project.space
    known = Relaxation(rounded_up(metric.limits()[0], step))
    if space.n_options > SMALL:
        return known
    began = time.perf_counter()
    program = LinearProgram(space, project.constraints, metric, allowed=space.allowed(project.oversized))
    relaxed = program.shares(time_limit=time_limit)
    if relaxed.outcome is not Outcome.OPTIMAL:
        return known
    known = Relaxation(max(known.bound, rounded_up(relaxed.bound, step)), relaxed.shares)
    left = None if time_limit is None else EXACT_SHARE * (time_limit - (time.perf_counter() - began))
    if space.n_options > EXACT or (left is not None and left <= 0):
        return known
    bound = program.solve(node_limit=NODES, time_limit=left).bound
    return replace(known, bound=max(known.bound, rounded_up(bound, step))) if isfinite(bound) else known


def rounded_up(bound: float, unit: Any) -> Any:
    """A bound minus its possible error, rounded up to a multiple of a unit.

    Examples
    --------
    >>> rounded_up(11.2, 5), rounded_up(10.0000001, 5)
    (15, 10)
    """
    steps = float(bound / unit)
    return max(ceil(steps * (1 - SHARE) - ROUNDING) * unit, 0)


def rounded_to(bound: Any, numbers: Sequence[Any]) -> Any:
    """A bound rounded up to a multiple of the greatest common divisor of numbers, as they are written in decimals.

    Examples
    --------
    >>> rounded_to(11.2, [5, 15]), rounded_to(0.31, [0.25, 1])
    (15, 0.5)
    """
    step = decimal_step(numbers)
    if not step or not isfinite(bound):
        return bound
    found = rounded_up(bound, step)
    return int(found) if all(map(is_whole, numbers)) else float(found)
