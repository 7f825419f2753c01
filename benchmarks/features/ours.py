"""cggd's selector with the signature of the baselines; the time limit is not used."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.features.logistic import FOLDS, model
from benchmarks.features.problem import Costs, Problem
from cggd_features import BudgetedSelector

# Fits that the wrapper may make: 50 selections on 5 folds.
FITS = 250


def cggd(problem: Problem, seed: int, time_limit: float) -> NDArray[np.bool_]:
    """`BudgetedSelector` with its defaults: R^2, or deviance of logistic regression, without cross-validation."""
    return _selected(problem, seed, **({"estimator": model()} if problem.task == "classification" else {}))


def cggd_ebic(problem: Problem, seed: int, time_limit: float) -> NDArray[np.bool_]:
    """`BudgetedSelector` with EBIC, which may leave part of the budget unspent."""
    return _selected(problem, seed, criterion="ebic")


def cggd_auc(problem: Problem, seed: int, time_limit: float) -> NDArray[np.bool_]:
    """The wrapper with the criterion that the baselines maximise: AUC on the same folds, or R^2."""
    options: dict[str, Any] = {}
    if problem.task == "classification":
        options = {"estimator": model(), "scoring": "roc_auc", "cv": FOLDS, "max_fits": FITS}
    return _selected(problem, seed, **options)


def _selected(problem: Problem, seed: int, **options: Any) -> NDArray[np.bool_]:
    selector = BudgetedSelector(**prices(problem.costs), budget=problem.budget, path=(), random_state=seed, **options)
    return selector.fit(problem.X, problem.y).support_


def prices(costs: Costs) -> dict[str, Any]:
    """The cost arguments of `BudgetedSelector`."""
    shared = {
        f"group {number}": {int(f): float(costs.prices[f]) for f in np.flatnonzero(costs.group == number)}
        for number in range(len(costs.surcharge))
    }
    return {"costs": costs.full, "discounted": shared or None}
