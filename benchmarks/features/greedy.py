"""Forward selection that skips features that no longer fit the budget."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.features.problem import Problem

# Gains below this are rounding.
NOTHING = 1e-12


def by_gain(problem: Problem, seed: int, time_limit: float) -> NDArray[np.bool_]:
    """Add the feature of largest gain that still fits, repeatedly."""
    return _forward(problem, time_limit, lambda gains, prices: gains)


def by_gain_per_cost(problem: Problem, seed: int, time_limit: float) -> NDArray[np.bool_]:
    """Add the feature of largest gain per additional cost that still fits, repeatedly; free ones first."""
    return _forward(problem, time_limit, lambda gains, prices: gains / np.maximum(prices, NOTHING))


def _forward(
    problem: Problem,
    time_limit: float,
    merit: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.bool_]:
    until, support, forward = time.process_time() + time_limit, problem.empty(), problem.criterion.forward()
    while len(fitting := problem.fits(support)) and time.process_time() < until:
        gains = forward.scores(fitting) - forward.score
        merits = np.where(gains > NOTHING, merit(gains, problem.costs.added(support)[fitting]), -np.inf)
        best = int(merits.argmax())
        if merits[best] == -np.inf:
            break
        forward.add(int(fitting[best]))
        support[fitting[best]] = True
    return support
