"""The user's estimator, its engine, and its view of the target."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import date, time, timedelta
from inspect import signature
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import is_classifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets

# Whole numbers probably are classes if they take at most MOST_CLASSES values (there are ten digits), with at least
# LEAST_OF_A_CLASS samples each on average. With two values, R^2 does not depend on the numbers, so there is no warning.
# Counts usually take more values, and small samples would cause too many false warnings.
MOST_CLASSES = 10
LEAST_OF_A_CLASS = 5

Engine = Literal["gram", "wrapper", "gates"]


@dataclass(frozen=True, eq=False)
class Model:
    """An estimator with the engine that selects for it.

    Attributes
    ----------
    engine : {"gram", "wrapper", "gates"}
    estimator : estimator
    labels : bool
        Whether y holds classes.
    alpha : float
        Ridge penalty of the gram engine.
    """

    engine: Engine
    estimator: Any
    labels: bool
    alpha: float = 0.0

    def outputs(self, y: NDArray) -> NDArray[np.float64]:
        """A numeric target as columns, shape (n_samples, n_outputs)."""
        return np.asarray(y, dtype=float).reshape(len(y), -1)

    def classes(self, y: NDArray) -> NDArray[np.int64]:
        """Numbers of classes, shape (n_samples,)."""
        if np.ndim(y) != 1:
            raise ValueError(f"y must have shape (n_samples,) where it holds classes, got {np.shape(y)}")
        if y.dtype.kind == "O" and len(kinds := sorted({type(label).__name__ for label in y})) > 1:
            raise ValueError(f"y must hold labels of one kind, got {' and '.join(kinds)}")
        check_classification_targets(y)
        known, numbers = np.unique(y, return_inverse=True)
        if len(known) < 2:
            raise ValueError(f"y must have at least two classes, got one class, {known.tolist()[0]!r}")
        return numbers

    def weights(self, weights: NDArray[np.float64] | None, y: NDArray) -> NDArray[np.float64]:
        """Weights of the samples, including class weights."""
        out = np.ones(len(y)) if weights is None else weights
        own = getattr(self.estimator, "class_weight", None)
        if own is None or not self.labels:
            return out
        known, numbers = np.unique(y, return_inverse=True)
        # Since scikit-learn 1.7, balanced class weights depend on the sample weights.
        weighted = "sample_weight" in signature(compute_class_weight).parameters
        how = {"sample_weight": out} if weighted else {}
        return out * compute_class_weight(own, classes=known, y=y, **how)[numbers]


def model_of(estimator: Any, y: NDArray, engine: str, *, plain: bool) -> Model:
    """Check an estimator against the requested engine; `plain` if neither scoring nor cv was given."""
    if y.dtype.names is not None:
        if not hasattr(estimator, "fit") or engine in ("gram", "gates"):
            raise ValueError(
                f"y has the fields {', '.join(map(repr, y.dtype.names))}; give an estimator that takes such a target, "
                f"and engine='wrapper', got estimator={estimator!r} and engine={engine!r}"
            )
        return Model("wrapper", estimator, False)
    labels = not _numeric(y)
    if not labels and (estimator is None or engine == "gates"):
        _warn_of_labels(y)
    if engine == "gates":
        return Model("gates", estimator, labels)
    if estimator is None:
        estimator = LogisticRegression() if labels else LinearRegression()
    elif not hasattr(estimator, "fit"):
        raise TypeError(f"estimator must be an estimator with a fit method, got {estimator!r}")
    alpha = _penalty(estimator)
    if engine == "gram" and alpha is None:
        raise ValueError(
            "engine='gram' needs estimator to be LinearRegression, Ridge with a number as alpha, or LogisticRegression "
            f"with a ridge penalty, none of them with positive=True, got {estimator!r}; use engine='wrapper'"
        )
    if engine == "wrapper" or alpha is None or (engine == "auto" and not plain):
        return Model("wrapper", estimator, is_classifier(estimator))
    if not is_classifier(estimator) and labels:
        raise ValueError(
            f"y holds labels such as {np.ravel(y).tolist()[0]!r}, but {estimator!r} needs numbers; use a classifier"
        )
    return Model("gram", estimator, is_classifier(estimator), alpha)


def _numeric(y: NDArray) -> bool:
    if y.dtype.kind in "fiu":
        return True
    if y.dtype.kind != "O":
        return False
    return all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in np.ravel(y).tolist())


def _warn_of_labels(y: NDArray) -> None:
    """Warn if a target of whole numbers looks like class numbers."""
    values = np.ravel(y).tolist() if np.ndim(y) == 1 else []
    if not all(isinstance(v, int | np.integer) for v in values):
        return
    known = sorted(set(values))
    if 3 <= len(known) <= MOST_CLASSES and len(known) * LEAST_OF_A_CLASS <= len(values):
        shown = ", ".join(map(str, known))
        warnings.warn(
            f"y holds {len(known)} different whole numbers, {shown}, and is taken as a quantity, not as classes. If "
            "they are classes, give labels, as y.astype(str), or estimator=LogisticRegression(); if they are a "
            "quantity, give floats, as y.astype(float), or estimator=LinearRegression()",
            UserWarning,
            stacklevel=4,
        )


def _penalty(estimator: Any) -> float | None:
    """Ridge penalty of an estimator that the gram engine supports; None for others."""
    kind = type(estimator)
    if kind in (LinearRegression, Ridge, LogisticRegression):
        estimator._validate_params()
    if kind is LinearRegression and not estimator.positive:
        return 0.0
    if kind is Ridge and not estimator.positive and np.ndim(estimator.alpha) == 0:
        return float(estimator.alpha)
    if kind is LogisticRegression and not estimator.l1_ratio and estimator.penalty in ("l2", "deprecated", None):
        return 0.0 if estimator.penalty is None else 1.0 / float(estimator.C)
    return None


def numbers_of(X: Any) -> Any:
    """Data as numbers for least squares: medians for missing values, codes for categories; sparse stays sparse."""
    if sparse.issparse(X):
        return X
    if hasattr(X, "iloc"):
        columns = [codes(X.iloc[:, c].to_numpy()) for c in range(X.shape[1])]
        array = np.column_stack(columns) if columns else np.zeros((len(X), 0))
    else:
        array = np.asarray(X, dtype=float)
    missing = np.isnan(array)
    if missing.any():
        array = array.copy()
        array[:, missing.all(axis=0)] = 0.0
        array = np.where(missing, np.nanmedian(np.where(missing & ~missing.all(axis=0), np.nan, array), axis=0), array)
    return array


def empty(X: Any) -> NDArray[np.bool_]:
    """Columns without any value, shape (n_features,)."""
    if sparse.issparse(X):
        return np.zeros(X.shape[1], dtype=bool)
    if hasattr(X, "iloc"):
        return np.asarray(X.isna().all(axis=0))
    return np.all(np.isnan(np.asarray(X, dtype=float)), axis=0)


def codes(column: NDArray) -> NDArray[np.float64]:
    """A column as numbers, or as codes of its labels, shape (n_samples,)."""
    if column.dtype.kind in "mM":
        return np.where(np.isnat(column), np.nan, column.astype(np.int64).astype(float))
    try:
        return column.astype(float)
    except (TypeError, ValueError):
        return np.unique(column.astype(str), return_inverse=True)[1].astype(float)


def outputs_of(y: NDArray) -> NDArray[np.float64]:
    """Any target as numbers for least squares, shape (n_samples, n_outputs).

    Events and times become the martingale residuals of the model without features: event minus cumulative hazard
    (Nelson-Aalen). Their product with a column is the score of the Cox model (Therneau, Grambsch & Fleming, 1990).
    """
    if y.dtype.names is None:
        return np.column_stack([codes(output) for output in y.reshape(len(y), -1).T])
    events = [name for name in y.dtype.names if y.dtype[name].kind == "b"]
    times = [name for name in y.dtype.names if y.dtype[name].kind in "iuf"]
    if len(events) != 1 or len(times) != 1:
        return np.column_stack([codes(y[name]) for name in y.dtype.names])
    event, time = y[events[0]].astype(float), y[times[0]]
    _, at = np.unique(time, return_inverse=True)
    counts, deaths = np.bincount(at), np.bincount(at, event)
    risk = np.cumsum(counts[::-1])[::-1]
    return (event - np.cumsum(deaths / risk)[at])[:, None]


def date_columns(X: Any) -> list[Any]:
    """Names or numbers of the columns that hold dates or times."""
    if hasattr(X, "iloc") and hasattr(X, "columns"):
        return [name for name, c in zip(X.columns, range(X.shape[1]), strict=True) if _dated(X.iloc[:, c])]
    if isinstance(X, np.ndarray) and X.dtype.kind in "mMO" and X.ndim == 2:
        return [c for c in range(X.shape[1]) if _dated(X[:, c])]
    return []


def _dated(column: Any) -> bool:
    kind = getattr(column.dtype, "kind", "")
    if kind != "O":
        return kind in "mM"
    held = next((value for value in column if value is not None and value == value), None)
    # pandas periods are not Python dates, but have a start_time.
    return isinstance(held, date | time | timedelta | np.datetime64 | np.timedelta64) or hasattr(held, "start_time")
