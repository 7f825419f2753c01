"""Every selection of up to 15 features, and cutting planes for the mixed-integer quadratic program."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, eye_array, hstack, vstack

from benchmarks.features.least_squares import LeastSquares
from benchmarks.features.problem import ROUNDING, Problem

# Largest number of features for which every selection is evaluated.
MOST = 15
# Selections evaluated at once.
BATCH = 4096
# Ridge that makes R^2 concave in the selection, as a share of a column's sum of squares. A smaller one changes R^2
# less; a larger one makes the cuts tighter.
RIDGE = 1e-2
# A gap below this counts as a proof.
GAP = 1e-6


def exhaustive(problem: Problem, seed: int, time_limit: float) -> NDArray[np.bool_]:
    """The best of all selections; the cheapest of several equally good ones."""
    if problem.p > MOST:
        raise ValueError(f"exhaustive search takes up to {MOST} features, got {problem.p}")
    every = (np.arange(2**problem.p)[:, None] >> np.arange(problem.p) & 1).astype(bool)
    affordable = every[[problem.affordable(support) for support in every]]
    starts = range(0, len(affordable), BATCH)
    scores = np.concatenate([problem.criterion(affordable[start : start + BATCH]) for start in starts])
    tied = affordable[scores >= scores.max() - ROUNDING]
    return tied[np.argmin([problem.costs.total(support) for support in tied])]


def cutting_planes(problem: Problem, seed: int, time_limit: float) -> NDArray[np.bool_]:
    """Outer approximation with HiGHS, which solves linear but not quadratic mixed-integer programs.

    With a ridge, R^2 is a concave function of the 0/1 vector of a selection, so each evaluated selection gives a linear
    bound for all selections (Bertsimas & Van Parys, "Sparse high-dimensional regression", Annals of Statistics 2020).
    The optimum of the mixed-integer linear program with all bounds so far is the next selection. The evaluated
    selection of largest R^2 without ridge is returned.
    """
    until, data, costs = time.process_time() + time_limit, LeastSquares(problem.X, problem.y), problem.costs
    p, groups = problem.p, len(costs.surcharge)
    # Variables: the features, the groups with a selected feature, and the value that the cuts bound.
    cost = np.concatenate([costs.prices, costs.surcharge, [0.0]])[None]
    rows, limits = [csr_array(cost)], [problem.budget + ROUNDING / 2]
    if groups:
        members = np.flatnonzero(costs.group >= 0)
        places = np.arange(len(members)), costs.group[members]
        belongs = csr_array((np.ones(len(members)), places), shape=(len(members), groups))
        rows.append(hstack([eye_array(p, format="csr")[members], -belongs, csr_array((len(members), 1))]))
        limits += [0.0] * len(members)
    best, answer, support = -np.inf, problem.empty(), problem.empty()
    while time.process_time() < until:
        chosen = np.flatnonzero(support)
        value, slope = _cut(data, chosen)
        found = float(data(support[None])[0])
        if found > best:
            best, answer = found, support
        rows.append(csr_array(np.concatenate([-slope, np.zeros(groups), [1.0]])[None]))
        limits.append(value - float(slope[chosen].sum()))
        solved = milp(
            np.append(np.zeros(p + groups), -1.0),
            integrality=np.append(np.ones(p + groups), 0),
            bounds=Bounds(0, 1),
            constraints=LinearConstraint(vstack(rows), -np.inf, np.array(limits)),
            options={"time_limit": max(0.01, until - time.process_time())},
        )
        if solved.x is None:
            break
        support = solved.x[:p] > 0.5
        if not problem.affordable(support):
            break
        if -solved.fun <= value + GAP and (support == answer).all():
            break
    return answer


def _cut(data: LeastSquares, chosen: NDArray[np.int64]) -> tuple[float, NDArray[np.float64]]:
    """R^2 with ridge of a selection, and its gradient with respect to the 0/1 vector, shape (p,)."""
    weights = np.linalg.solve(data.gram[np.ix_(chosen, chosen)] + RIDGE * np.eye(len(chosen)), data.moments[chosen])
    left = data.moments - data.gram[:, chosen] @ weights
    return float(data.moments[chosen] @ weights), left**2 / RIDGE
