"""abess: the best selection of a given number of features.

abess takes no costs. It sees only features that fit the budget alone.
"""

from __future__ import annotations

import numpy as np
from abess import LinearRegression, LogisticRegression
from numpy.typing import NDArray

from benchmarks.features.problem import Problem

# Up to this many features, selections of any size are tried.
SMALL = 100
# Numbers of features to try first, in about equal ratios.
TRIED = 12


def abess(problem: Problem, seed: int, time_limit: float) -> NDArray[np.bool_]:
    """The best affordable selection over several sizes, and over more sizes near the largest affordable one.

    The time limit is not used.
    """
    fit = LinearRegression if problem.task == "regression" else LogisticRegression
    met = [problem.empty()]
    seen = problem.fits(met[0])
    seen = seen[np.ptp(problem.X[:, seen], axis=0) > 0]  # abess refuses constant columns
    # No size is tried above that of the cheapest features within the budget, or above the default limit of abess.
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
