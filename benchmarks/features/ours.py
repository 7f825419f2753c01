"""cggd's selector, as the baselines are called; it ends by itself, and is given no limit of time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.features.logistic import FOLDS, model
from benchmarks.features.problem import Costs, Problem
from cggd_features import BudgetedSelector

# Fits of its estimator that the wrapper may make, that is 50 selections on 5 folds.
FITS = 250


def cggd(problem: Problem, seed: int, time_limit: float) -> NDArray[np.bool_]:
    """`BudgetedSelector` on the criterion that all maximise."""
    options: dict[str, Any] = {}
    if problem.task == "classification":
        options = {"estimator": model(), "scoring": "roc_auc", "cv": FOLDS, "max_fits": FITS}
    return _selected(problem, seed, **options)


def cggd_ebic(problem: Problem, seed: int, time_limit: float) -> NDArray[np.bool_]:
    """`BudgetedSelector` that leaves money unspent where more features are not worth having."""
    return _selected(problem, seed, criterion="ebic")


def cggd_deviance(problem: Problem, seed: int, time_limit: float) -> NDArray[np.bool_]:
    """`BudgetedSelector` as it comes: the deviance of logistic regression on the data, or R^2, no cross-validation."""
    return _selected(problem, seed, **({"estimator": model()} if problem.task == "classification" else {}))


def _selected(problem: Problem, seed: int, **options: Any) -> NDArray[np.bool_]:
    selector = BudgetedSelector(**prices(problem.costs), budget=problem.budget, path=(), random_state=seed, **options)
    return selector.fit(problem.X, problem.y).support_


def prices(costs: Costs) -> dict[str, Any]:
    """The costs as `BudgetedSelector` takes them."""
    shared = {
        f"group {number}": {int(f): float(costs.prices[f]) for f in np.flatnonzero(costs.group == number)}
        for number in range(len(costs.surcharge))
    }
    return {"costs": costs.full, "discounted": shared or None}
