"""Methods that rank the features and add them in that order while they fit; a random order is the lower baseline."""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_selection import RFE
from sklearn.linear_model import LinearRegression, lars_path_gram

from benchmarks.features.least_squares import LeastSquares
from benchmarks.features.logistic import model
from benchmarks.features.problem import ROUNDING, Problem

# Steps of a lasso path; the remaining features are ranked by their correlation with y.
LONGEST_PATH = 300
# Lower bound on redundancies, so that a tiny one does not decide the ranking.
LEAST_REDUNDANCY = 1e-3


def bought_in_order(problem: Problem, order: Iterable[int]) -> NDArray[np.bool_]:
    """Add features in this order, and skip those that do not fit."""
    costs, support = problem.costs, problem.empty()
    prices, groups = costs.prices.tolist(), costs.group.tolist()
    owed, left = [*costs.surcharge.tolist(), 0.0], problem.budget + ROUNDING / 2
    for feature in order:
        group = groups[feature]
        price = prices[feature] + owed[group]
        if price <= left:
            support[feature], owed[group] = True, 0.0
            left -= price
    return support


def at_random(problem: Problem, seed: int, time_limit: float) -> NDArray[np.bool_]:
    """Features in random order."""
    return bought_in_order(problem, np.random.default_rng(seed).permutation(problem.p).tolist())


def mrmr(problem: Problem, seed: int, time_limit: float) -> NDArray[np.bool_]:
    """Relevance to y divided by the mean redundancy with the selected features, both as absolute correlations.

    The quotient form of Ding & Peng, "Minimum redundancy feature selection from microarray gene expression data", 2005.
    """
    until, data = time.process_time() + time_limit, LeastSquares(problem.X, problem.y)
    relevance, redundancy, support = np.abs(data.moments), np.ones(problem.p), problem.empty()
    while len(fitting := problem.fits(support)) and time.process_time() < until:
        chosen = fitting[(relevance[fitting] / np.maximum(redundancy[fitting], LEAST_REDUNDANCY)).argmax()]
        bought = support.sum()
        redundancy = (redundancy * bought + np.abs(data.gram[chosen])) / (bought + 1)
        support[chosen] = True
    return support


def rfe(problem: Problem, seed: int, time_limit: float) -> NDArray[np.bool_]:
    """scikit-learn's recursive elimination, one column at a time, among features that fit the budget alone."""
    seen = problem.fits(problem.empty())
    if len(seen) < 2:
        return bought_in_order(problem, seen.tolist())
    estimator = LinearRegression() if problem.task == "regression" else model()
    ranking = RFE(estimator, n_features_to_select=1).fit(problem.X[:, seen], problem.y).ranking_
    return bought_in_order(problem, seen[np.argsort(ranking, kind="stable")].tolist())


def lasso(problem: Problem, seed: int, time_limit: float) -> NDArray[np.bool_]:
    """Features in the order of the lasso path, with equal penalties or penalties in proportion to prices.

    The better of both selections is returned.
    """
    data, supports = LeastSquares(problem.X, problem.y), []
    prices = np.maximum(problem.costs.full, 1e-3 * problem.costs.full.max())
    for scale in (np.ones(problem.p), 1 / prices):
        gram, moments = data.gram * scale[:, None] * scale, data.moments * scale
        steps = min(problem.p, LONGEST_PATH)
        path = lars_path_gram(moments, gram, n_samples=1, method="lasso", max_iter=steps, return_path=False)
        entered = np.asarray(path[1])
        rest = np.setdiff1d(np.argsort(-np.abs(data.moments), kind="stable"), entered, assume_unique=True)
        supports.append(bought_in_order(problem, [*entered.tolist(), *rest.tolist()]))
    return supports[int(problem.criterion(np.array(supports)).argmax())]
