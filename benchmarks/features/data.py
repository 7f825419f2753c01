"""The data: two clinical tables with Turney's prices and proved optima, tables that come with scikit-learn, and a large
design with known truth."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import sklearn.datasets
from numpy.typing import NDArray
from sklearn.datasets import make_friedman1

from benchmarks.features.problem import Costs
from cggd.datasets import data_folder

# For each clinical table: the column to predict, its value for healthy patients, and five budgets in CAD. The budgets
# pay for, heart: the history; blood and an ECG; one expensive test; two; all tests. Pima: two questions; four; the
# glucose test with two more; with six more; all tests.
CLINICAL = {
    "heart_cleveland": ("num", "0", (4.0, 35.0, 110.0, 205.0, 324.0)),
    "pima": ("class", "tested_negative", (2.0, 4.0, 20.0, 24.0, 45.0)),
}

# Tables that come with scikit-learn: the loading function, the positive class (None if y is numeric), and five
# budgets. Each feature costs 1, so a budget is a number of features.
BUNDLED = {
    "breast_cancer": ("load_breast_cancer", 1, (2.0, 3.0, 6.0, 12.0, 20.0)),
    "wine": ("load_wine", 1, (1.0, 2.0, 4.0, 6.0, 8.0)),
    "iris": ("load_iris", 1, (1.0, 2.0, 3.0)),
    "digits": ("load_digits", 8, (2.0, 3.0, 5.0, 8.0, 12.0)),
    "digits, 3": ("load_digits", 3, (2.0, 3.0, 5.0, 8.0, 12.0)),
    "diabetes": ("load_diabetes", None, (1.0, 2.0, 3.0, 5.0, 7.0)),
}

# Budgets with gradient boosting as the model: two of the tables above, and two random ones with interactions.
BOOSTING = {"diabetes": (4.0,), "breast_cancer": (3.0,), "friedman": (5.0,), "exclusive or": (3.0,)}


@dataclass(frozen=True, eq=False)
class Table:
    """A clinical table as in its file, with NaN for missing values."""

    name: str
    features: list[str]
    X: NDArray[np.float64]
    y: NDArray[np.float64]
    costs: Costs
    additive: Costs
    budgets: tuple[float, ...]


@dataclass(frozen=True)
class Optimum:
    """A budget with its proved optimum of in-sample R^2, rounded to 6 digits."""

    table: str
    grouped: bool
    budget: float
    value: float
    hard: bool  # chosen because two simple greedy rules fail


def folder() -> Path | None:
    """Where the clinical tables are, or None."""
    found = data_folder()
    return None if found is None or not (found / "features").is_dir() else found / "features"


def clinical(name: str) -> Table:
    """Load ``"heart_cleveland"`` or ``"pima"``.

    Raises
    ------
    FileNotFoundError
        If the data are not there.
    """
    place = folder()
    if place is None:
        raise FileNotFoundError("features/ not found: set CGGD_DATA to the folder of the shared data sets")
    target, negative, budgets = CLINICAL[name]
    with (place / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    features = [column for column in rows[0] if column != target]
    X = np.array([[np.nan if row[f] in {"?", ""} else float(row[f]) for f in features] for row in rows])
    listed = json.loads((place / "costs.json").read_text())[name]["features"]
    full, discount = (np.array([float(listed[f][key]) for f in features]) for key in ("full", "discount"))
    costs = Costs.discounted(full, discount, [listed[f]["group"] for f in features])
    y = np.array([row[target] != negative for row in rows], dtype=float)
    return Table(name, features, X, y, costs, Costs.additive(full), budgets)


def bundled(name: str) -> Table:
    """Load one of `BUNDLED`."""
    function, positive, budgets = BUNDLED[name]
    loaded = getattr(sklearn.datasets, function)()
    X, y = np.asarray(loaded.data, dtype=float), np.asarray(loaded.target, dtype=float)
    costs = Costs.additive(np.ones(X.shape[1]))
    y = y if positive is None else (y == positive).astype(float)
    return Table(name, list(loaded.feature_names), X, y, costs, costs, budgets)


def boosting(name: str) -> Table:
    """Load one of `BOOSTING`: ``"friedman"`` has 20 columns, of which 5 matter, and ``"exclusive or"`` 40 with 3."""
    if name in BUNDLED:
        return replace(bundled(name), budgets=BOOSTING[name])
    if name == "friedman":
        X, y = make_friedman1(600, 20, noise=1.0, random_state=0)
    else:
        rng = np.random.default_rng(0)
        X = rng.normal(size=(800, 40))
        y = ((X[:, 7] > 0) ^ (X[:, 23] > 0)) + 0.5 * X[:, 31] + rng.normal(0, 0.3, 800)
    costs = Costs.additive(np.ones(X.shape[1]))
    return Table(name, [f"x{i}" for i in range(X.shape[1])], X, y, costs, costs, BOOSTING[name])


def optima() -> Iterator[Optimum]:
    """Every budget whose optimum was proved by enumeration."""
    place = folder()
    if place is None:
        return
    for table, found in json.loads((place / "exhaustive_optima.json").read_text()).items():
        for row in found["optima"]:
            yield Optimum(table, row["cost_model"] == "grouped", row["budget"], row["best_R2"], False)
    for table, rows in json.loads((place / "greedy_hard_budgets.json").read_text()).items():
        for row in rows:
            yield Optimum(table, row["cost_model"] == "grouped", row["budget"], row["optimum_R2"], True)


def standardised(X: NDArray[np.float64], like: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Fill missing values with medians, then scale to mean 0 and variance 1, by the statistics of `like` (or X)."""
    like = X if like is None else like
    median = np.nanmedian(like, axis=0)
    whole, X = np.where(np.isnan(like), median, like), np.where(np.isnan(X), median, X)
    deviation = whole.std(axis=0)
    return (X - whole.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)


@dataclass(frozen=True, eq=False)
class Design:
    """A regression with known truth; columns of mean 0 and variance 1 up to sampling."""

    X: NDArray[np.float64]
    y: NDArray[np.float64]
    X_test: NDArray[np.float64]
    y_test: NDArray[np.float64]
    costs: Costs
    truth: NDArray[np.bool_]


def design(
    seed: int, *, n: int = 5000, p: int = 2000, informative: int = 50, sensors: int | None = None, noise: float = 0.5
) -> Design:
    """Draw correlated columns, some of them informative, with prices that do not depend on this.

    Neighbours correlate by 0.7, falling off geometrically; informative columns lie at equal distances, with weights of
    magnitude 0.5 to 1 and random signs (after Hastie, Tibshirani & Tibshirani, "Best subset, forward stepwise or
    lasso?", 2020, whose weights are equal). The noise has `noise` times the variance of the signal. Prices are
    log-normal. With `sensors`, the columns come from that many devices, neighbours from the same one. The price of a
    device is two thirds of the total price of its columns, and each column then costs a third of its own price.
    """
    rng, prices = np.random.default_rng(1000 + seed), np.random.default_rng(7)
    weights, places = np.zeros(p), np.linspace(0, p - 1, informative).round().astype(int)
    weights[places] = prices.uniform(0.5, 1.0, informative) * prices.choice([-1, 1], informative)
    costs = Costs.additive(prices.lognormal(0.0, 1.0, p))
    if sensors is not None:
        group = np.arange(p) * sensors // p
        shared = 2 / 3 * np.bincount(group, costs.prices)
        costs = Costs(costs.prices / 3, group, shared)
    drawn = []
    for _ in range(2):
        columns = rng.normal(size=(p, n))
        for before, column in pairwise(columns):
            column *= np.sqrt(1 - 0.7**2)
            column += 0.7 * before
        drawn.append(columns.T)
    # The variance of the signal, from the covariance of the columns.
    apart = np.abs(places[:, None] - places[None])
    variance = weights[places] @ 0.7**apart @ weights[places]
    X, X_test = drawn
    y, y_test = (Z @ weights + np.sqrt(noise * variance) * rng.normal(size=n) for Z in drawn)
    centre, scale = X.mean(axis=0), X.std(axis=0)
    return Design((X - centre) / scale, y, (X_test - centre) / scale, y_test, costs, weights != 0)
