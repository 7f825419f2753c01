"""Lower bounds on the makespan of a project: critical path and work, with modes that the budgets allow."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

import cggd
from cggd import Progress, maximum
from cggd.linear import LinearProgram, Outcome
from cggd.metrics import Maximum
from cggd.relaxed import SMALL
from cggd_scheduling.project import Project

# A linear program's value is this exact, of numbers that are whole.
ROUNDING = 1e-6


def shortest(project: Project) -> Maximum:
    """What no schedule with a selection of modes is shorter than: its critical path, and its work for each resource.

    Work is demand times duration; all of it takes at least its sum over the capacity.
    """
    work = [(1.0 / c) * project.use(r) for r, c in project.renewable.items() if c > 0]
    return maximum(project.critical_path, *work, name="bound")


def least_bound(project: Project, *, seed: int = 0, time_limit: float = 1.0) -> int:
    """A number that no makespan is less than: the least of `shortest` under the budgets, or what is proved of it.

    Examples
    --------
    >>> project = Project({"a": [(4, {"crew": 2})], "b": [(3, {"crew": 2})]}, renewable={"crew": 3})
    >>> least_bound(project)
    5
    """
    step = project.time_step

    def stop(progress: Progress) -> bool:
        if progress.best is None or progress.bound is None:
            return False
        return rounded_up(progress.bound, step) >= rounded_up(progress.best, step)

    metric, oversized = shortest(project), project.oversized
    result = cggd.minimize(
        metric, project.constraints, forbid=oversized, seed=seed, time_limit=time_limit, callback=stop
    )
    bound = metric.limits()[0] if result.bound is None else result.bound
    return rounded_up(bound, step)


def relaxed_shares(project: Project, *, time_limit: float | None = None) -> NDArray[np.float64] | None:
    """What the linear program takes of each mode where `shortest` is least, shape (n_options,); None without one."""
    if project.space.n_options > SMALL:
        return None
    allowed = project.space.allowed(project.oversized)
    relaxed = LinearProgram(project.space, project.constraints, shortest(project), allowed=allowed)
    found = relaxed.shares(time_limit=time_limit)
    return found.shares if found.outcome is Outcome.OPTIMAL else None


def rounded_up(bound: float, unit: int) -> int:
    """The least multiple of a unit that a number is not above, rounding set aside.

    Examples
    --------
    >>> rounded_up(11.2, 5), rounded_up(10.0000001, 5)
    (15, 10)
    """
    steps = bound / unit
    return max(ceil(steps - 1e-9 * steps - ROUNDING) * unit, 0)
