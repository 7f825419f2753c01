"""scikit-learn's SequentialFeatureSelector, forward, stopped by the budget.

It evaluates each candidate by cross-validation and takes no costs. It sees only features that fit the budget alone, and
stops before the first one that does not fit in addition. If the criterion is the cross-validated score itself, the best
number of features so far is returned, as a search over the number would do. scikit-learn's code takes half a minute to
a minute for each feature of 2,000 candidates on 5,000 samples, so the selections are computed here from residuals and,
for classes, in batches; the tests compare them with scikit-learn's.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from benchmarks.features.least_squares import DEPENDENT, LeastSquares
from benchmarks.features.logistic import FOLDS, CrossValidatedAUC
from benchmarks.features.problem import Problem

# In a regression, only this many features are candidates, those of the largest correlations with y.
SCREENED = 200


def sfs(problem: Problem, seed: int, time_limit: float) -> NDArray[np.bool_]:
    until, support = time.process_time() + time_limit, problem.empty()
    seen = problem.fits(support)
    if problem.task == "regression":
        relevance = np.abs(LeastSquares(problem.X, problem.y).moments)[seen]
        seen = np.sort(seen[np.argsort(-relevance, kind="stable")[:SCREENED]])
        forward = CrossValidatedR2(problem.X[:, seen], problem.y)
    else:
        forward = CrossValidatedAUC(problem.X[:, seen], problem.y).forward()
    best, answer = -np.inf, support.copy()
    while not support[seen].all() and time.process_time() < until:
        candidates = np.flatnonzero(~support[seen])
        scores = forward.scores(candidates)
        chosen = int(candidates[scores.argmax()])
        support[seen[chosen]] = True
        if not problem.affordable(support):
            break
        forward.add(chosen)
        if problem.task == "regression" or scores.max() > best:
            best, answer = scores.max(), support.copy()
    return answer


class CrossValidatedR2:
    """Mean over the folds of the R^2 of least squares, as columns are added one by one."""

    def __init__(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        self.folds = []
        for train, test in KFold(FOLDS).split(X):
            columns, target = X - X[train].mean(axis=0), y - y[train].mean()
            # Residuals of every column and of y on the chosen columns, with coefficients fitted on `train`.
            left = np.column_stack([columns, target])
            total = ((y[test] - y[test].mean()) ** 2).sum()
            self.folds.append((left[train], left[test], total))

    def scores(self, candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.mean([_scores(*fold, candidates) for fold in self.folds], axis=0)

    def add(self, feature: int) -> None:
        for train, test, _ in self.folds:
            chosen, norm = train[:, feature].copy(), train[:, feature] @ train[:, feature]
            if norm <= DEPENDENT * len(train):
                continue
            weights = chosen @ train / norm
            train -= chosen[:, None] * weights
            test -= test[:, [feature]] * weights


def _scores(
    train: NDArray[np.float64], test: NDArray[np.float64], total: float, candidates: NDArray[np.int64]
) -> NDArray[np.float64]:
    columns, target = train[:, candidates], train[:, -1]
    norms = (columns**2).sum(axis=0)
    weights = target @ columns / np.where(norms > DEPENDENT * len(train), norms, np.inf)
    new, old = test[:, candidates], test[:, -1]
    squares = old @ old - 2 * weights * (old @ new) + weights**2 * (new**2).sum(axis=0)
    return 1 - squares / total
