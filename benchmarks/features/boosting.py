"""Gradient boosting as the model: cggd's wrapper, other selectors of the same model, and linear selectors.

``python -m benchmarks features --parts boosting``. Each selector sees half of the samples, at a price of 1 for each
column. The model is fitted on the selected columns and scored on the other half, both ways, for each seed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_selection import SequentialFeatureSelector
from sklearn.inspection import permutation_importance
from sklearn.model_selection import train_test_split

from benchmarks.features.ours import prices
from benchmarks.features.problem import Problem
from benchmarks.features.rankings import bought_in_order
from cggd_features import BudgetedSelector

# Fits that cggd may make; SFS makes more on every table.
FITS = 150
# Trees of the model, and samples of a leaf: halves of the tables have a few hundred samples.
TREES, LEAF = 40, 10


def boosted(task: str) -> Any:
    """The model."""
    kind = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    return kind(max_iter=TREES, min_samples_leaf=LEAF, random_state=0)


def _scoring(problem: Problem) -> str:
    return "r2" if problem.task == "regression" else "roc_auc"


def cggd(problem: Problem, seed: int, time_limit: float) -> NDArray[np.bool_]:
    """The wrapper with its defaults, with fewer fits than SFS makes."""
    how: dict[str, Any] = {"scoring": _scoring(problem), "max_fits": FITS, "path": (), "random_state": seed}
    selector = BudgetedSelector(boosted(problem.task), **prices(problem.costs), budget=problem.budget, **how)
    return selector.fit(problem.X, problem.y).support_


def sfs(problem: Problem, seed: int, time_limit: float) -> NDArray[np.bool_]:
    """scikit-learn's forward selection with the model and 5 folds, of as many features as the budget allows."""
    how: dict[str, Any] = {"n_features_to_select": int(problem.budget), "scoring": _scoring(problem), "cv": 5}
    return SequentialFeatureSelector(boosted(problem.task), **how).fit(problem.X, problem.y).get_support()


def importances(problem: Problem, seed: int, time_limit: float) -> NDArray[np.bool_]:
    """The columns of largest permutation importance on a held-out quarter, for a fit on all columns."""
    return bought_in_order(problem, np.argsort(-_importance(problem, seed, np.arange(problem.p)), kind="stable"))


def rfe(problem: Problem, seed: int, time_limit: float) -> NDArray[np.bool_]:
    """Recursive elimination of the column of smallest permutation importance."""
    left = np.arange(problem.p)
    while len(left) > problem.budget:
        left = np.delete(left, _importance(problem, seed, left).argmin())
    return np.isin(np.arange(problem.p), left)


def _importance(problem: Problem, seed: int, columns: NDArray[np.int64]) -> NDArray[np.float64]:
    parts: list[Any] = train_test_split(problem.X[:, columns], problem.y, random_state=seed)
    fitted = boosted(problem.task).fit(parts[0], parts[2])
    how: dict[str, Any] = {"scoring": _scoring(problem), "n_repeats": 5, "random_state": seed}
    found: Any = permutation_importance(fitted, parts[1], parts[3], **how)
    return found["importances_mean"]
