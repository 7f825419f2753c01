"""abess: the best selection of a given number of features; the largest number that the budget pays.

It knows no costs, and sees the features that the budget pays one by one.
"""

from __future__ import annotations

import numpy as np
from abess import LinearRegression, LogisticRegression
from numpy.typing import NDArray

from benchmarks.features.problem import Problem

# Of up to so many features, selections of any number are tried.
SMALL = 100
# Numbers of features tried at first, in about equal ratios.
TRIED = 12


def abess(problem: Problem, seed: int, time_limit: float) -> NDArray[np.bool_]:
    """The best of its affordable selections of some numbers, and of more numbers near the largest affordable one.

    It ends by itself, and is given no limit of time.
    """
    fit = LinearRegression if problem.task == "regression" else LogisticRegression
    met = [problem.empty()]
    seen = problem.fits(met[0])
    # No selection is larger than one of the cheapest features, nor than abess tries by default.
    cheapest = np.sort(problem.costs.prices[seen]).cumsum()
    n, p = len(problem.y), len(seen)
    most = p if p <= SMALL else int(n / (np.log(np.log(n)) * np.log(p)))
    most = min(most, int(np.searchsorted(cheapest, problem.budget, side="right")))

    def affordable(size: int) -> bool:
        support = problem.empty()
        support[seen] = fit(support_size=size, thread=1).fit(problem.X[:, seen], problem.y).coef_.ravel() != 0
        if problem.affordable(support):
            met.append(support)
        return problem.affordable(support)

    low, sizes = 0, np.unique(np.geomspace(1, most, TRIED).astype(int)).tolist() if most else []
    for size in sizes:
        if affordable(size):
            low = size
    high = min((size for size in sizes if size > low), default=low + 1)
    while low + 1 < high:
        size = (low + high) // 2
        low, high = (size, high) if affordable(size) else (low, size)
    return met[int(problem.criterion(np.array(met)).argmax())]
