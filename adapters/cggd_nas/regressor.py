"""A regressor that predicts a slow or noisy metric: trained on random networks, with its error on others."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from cggd.checks import as_number, whole
from cggd.metrics import Metric, Predicted, one_hot, values_of
from cggd.metrics.base import check_metric

# Ridge penalties, relative to the mean of the kernel's diagonal: from almost no penalty to a constant prediction.
PENALTIES = np.logspace(-8, 2, 21)

# An error of half the standard deviation of the values leaves a quarter of their variance unexplained.
WEAK = 0.5


@dataclass(frozen=True, eq=False)
class Regressor:
    """A regressor and its error on held-out networks.

    Attributes
    ----------
    metric : Predicted
        The prediction, to be bounded or minimised instead of the metric itself.
    rmse : float
        Root mean squared error on the held-out networks, in the unit of the metric.
    kendall : float
        Kendall's rank correlation (tau-b) on them; NaN if all have the same value.
    n_train, n_test : int
    """

    metric: Predicted
    rmse: float
    kendall: float
    n_train: int
    n_test: int

    def __str__(self) -> str:
        unit = f" {self.metric.unit}" if self.metric.unit else ""
        return (
            f"{self.metric.name}: held-out RMSE {self.rmse:.4g}{unit}, Kendall tau {self.kendall:.3f} "
            f"({self.n_train} networks to train, {self.n_test} to test)"
        )


def fit_regressor(
    metric: Metric,
    *,
    samples: int = 500,
    held_out: float = 0.2,
    pairs: bool = True,
    seed: int = 0,
    name: str | None = None,
) -> Regressor:
    """Train a regressor for a metric on networks drawn uniformly.

    The model is ridge regression on one indicator per option and, with `pairs`, one per pair of options of different
    decisions. It uses the dual form: two selections that agree in m decisions share m indicators and m (m - 1) / 2
    pairs, so the features are never computed. The penalty minimises the leave-one-out error, for which ridge regression
    has an exact formula (Hastie, Tibshirani, Friedman, The elements of statistical learning, equation 7.64).

    If the error on held-out networks is more than half the standard deviation of the values, a warning gives both:
    bounds on such a prediction say little about the metric.

    Parameters
    ----------
    metric : Metric
        Evaluated on every random network, for example a measured latency.
    samples : int
        Number of different networks; somewhat fewer if the space has hardly more.
    held_out : float
        Share of the networks that is used only for the test.
    pairs : bool
    seed : int
    name : str, optional
        Name of the prediction; by default that of the metric.

    Examples
    --------
    >>> from cggd import ChoiceSpace, Function
    >>> space = ChoiceSpace({f"layer{i}": ["8", "16", "32"] for i in range(5)})
    >>> cost = Function(space, lambda s: int(s["layer0"]) * int(s["layer1"]), name="cost", unit="MMAC")
    >>> fitted = fit_regressor(cost, samples=100)
    >>> fitted.n_train, fitted.n_test, fitted.rmse < 1e-3
    (80, 20, True)
    """
    check_metric(metric, "metric")
    share = as_number(held_out, "held_out")
    if not 0 < share < 1:
        raise ValueError(f"held_out must lie between 0 and 1, got {share}")
    whole(samples, "samples", least=4)
    rng = np.random.default_rng(whole(seed, "seed", least=0))
    space = metric.space
    # Twice as many, since some networks are drawn twice.
    rows = space.enumerate() if space.n_selections <= samples else np.unique(space.sample(2 * samples, rng), axis=0)
    rows = rng.permutation(rows)[:samples]
    values = values_of(metric, rows).astype(float)
    n_test = max(1, round(share * len(rows)))
    if len(rows) - n_test < 2:
        raise ValueError(f"the space has {len(rows)} selections, too few to train and test on")
    test, train = np.split(rows, [n_test])
    model = Ridge.fitted(one_hot(space, train), values[n_test:], pairs=pairs)
    predicted = Predicted(space, model, name=name or metric.name, unit=metric.unit)
    guess = values_of(predicted, test)
    rmse = float(np.sqrt(np.mean((guess - values[:n_test]) ** 2)))
    constant = len(np.unique(values[:n_test])) < 2 or len(np.unique(guess)) < 2
    correlation: Any = None if constant else kendalltau(guess, values[:n_test])
    tau = np.nan if constant else float(correlation.statistic)
    if rmse > WEAK * (spread := float(values.std())) > 0:
        unit = f" {metric.unit}" if metric.unit else ""
        warnings.warn(
            f"the prediction of {metric.name!r} is weak: its error on {n_test} held-out networks is {rmse:.3g}{unit}, "
            f"and the values' own standard deviation {spread:.3g}{unit}; train on more than {len(train)} networks, "
            "give a metric with less noise (more repeats), or bound the metric itself",
            stacklevel=2,
        )
    return Regressor(predicted, rmse, tau, len(train), n_test)


@dataclass(frozen=True, eq=False)
class Ridge:
    """Ridge regression in its dual form; made by `fitted`."""

    train: NDArray[np.float64]
    weights: NDArray[np.float64]
    mean: float
    pairs: bool

    @classmethod
    def fitted(cls, train: NDArray[np.float64], values: NDArray[np.float64], *, pairs: bool) -> Ridge:
        """Fit indicators, shape (n, n_options), to values, shape (n,)."""
        mean = float(values.mean())
        kernel = _kernel(train, train, pairs)
        eigenvalues, vectors = np.linalg.eigh(kernel)
        coordinates = vectors.T @ (values - mean)
        best, weights = np.inf, np.zeros(len(values))
        for penalty in PENALTIES * np.trace(kernel) / len(values):
            shrunk = 1 / (np.maximum(eigenvalues, 0) + penalty)
            dual = vectors @ (shrunk * coordinates)
            left_out = dual / np.einsum("ij,j,ij->i", vectors, shrunk, vectors)
            if (error := float(np.mean(left_out**2))) < best:
                best, weights = error, dual
        return cls(train, weights, mean, pairs)

    def predict(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predictions for rows of indicators, (n, n_options) to (n,)."""
        return _kernel(X, self.train, self.pairs) @ self.weights + self.mean


def _kernel(a: NDArray[np.float64], b: NDArray[np.float64], pairs: bool) -> NDArray[np.float64]:
    agreeing = a @ b.T
    return agreeing + agreeing * (agreeing - 1) / 2 if pairs else agreeing
