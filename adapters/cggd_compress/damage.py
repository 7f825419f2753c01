"""How far the outputs of a compressed model are from those of the original."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cggd.metrics.base import Invalid

Outputs = Mapping[str, NDArray]

# Groups of rows, for the standard error of a difference between two models.
GROUPS = 32


def relative(reference: Outputs, outputs: Outputs) -> float:
    """Mean over outputs of the squared difference, as a share of the squared reference."""
    return _mean(reference, outputs, lambda r, y: _squares(r, y) / (float((r**2).sum()) or 1.0))


def mse(reference: Outputs, outputs: Outputs) -> float:
    """Mean squared difference."""
    return _mean(reference, outputs, lambda r, y: float(((y - r) ** 2).mean()))


def cosine(reference: Outputs, outputs: Outputs) -> float:
    """Mean of 1 - cosine between rows."""

    def one(r: NDArray, y: NDArray) -> float:
        # The difference of unit vectors avoids cancellation where they are close.
        def unit(rows: NDArray) -> NDArray:
            return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)

        return float(((unit(r) - unit(y)) ** 2).sum(axis=1).mean() / 2)

    return _mean(reference, outputs, one)


def kl(reference: Outputs, outputs: Outputs) -> float:
    """Mean Kullback-Leibler divergence of rows; rows that are not probabilities count as logits."""

    def one(r: NDArray, y: NDArray) -> float:
        if (r >= 0).all() and np.allclose(r.sum(axis=1), 1, atol=1e-3):
            p, q = (np.log(np.maximum(rows, 1e-12)) for rows in (r, y))
        else:
            p, q = r, y
        p, q = (rows - _log_sum(rows) for rows in (p, q))
        return float((np.exp(p) * (p - q)).sum(axis=1).mean())

    return _mean(reference, outputs, one)


def mismatch(reference: Outputs, outputs: Outputs) -> float:
    """Share of rows whose largest entry moves, or of whole numbers that change."""
    kinds = "f" if any(rows.dtype.kind == "f" for rows in reference.values()) else "iu"
    return _mean(reference, outputs, lambda r, y: float((_classes(r) != _classes(y)).mean()), kinds)


ERRORS: dict[str, Callable[[Outputs, Outputs], float]] = {
    "relative": relative,
    "mse": mse,
    "cosine": cosine,
    "kl": kl,
    "mismatch": mismatch,
}


def error_function(error: Any, labels: NDArray | None) -> Callable[[Outputs, Outputs], float]:
    """The error function with this name; ``"labels"`` needs labels, and a callable is returned as it is."""
    if callable(error):
        return cast(Callable[[Outputs, Outputs], float], error)
    if error == "labels":
        if labels is None:
            raise ValueError("error is 'labels', and the data has no array 'labels'")

        def wrong(reference: Outputs, outputs: Outputs) -> float:
            rows = next(iter(outputs.values()))
            if len(rows) != len(labels):
                raise ValueError(f"labels must have one entry for each of {len(rows)} rows of the first output")
            return float((_classes(rows) != labels.ravel()).mean())

        return wrong
    if error not in ERRORS:
        raise ValueError(f"error must be one of {', '.join(ERRORS)}, labels, or a function, got {error!r}")
    return ERRORS[error]


def check_function(error: Callable[[Outputs, Outputs], Any], outputs: Outputs) -> None:
    """Raise a TypeError unless a user's function gives a number for outputs that are those of the original."""
    first = next(iter(outputs))
    asked = (
        "error must be a function of two mappings, from names of outputs to arrays, of the original and of the "
        f"compressed model, that returns a number, such as lambda a, b: ((a[{first!r}] - b[{first!r}]) ** 2).mean(); "
        f"for outputs {', '.join(f'{name!r} of shape {rows.shape}' for name, rows in outputs.items())} it"
    )
    try:
        number = np.asarray(error(outputs, outputs))
    except Exception as wrong:
        raise TypeError(f"{asked} raised {type(wrong).__name__}: {wrong}") from wrong
    if number.ndim:
        raise TypeError(f"{asked} returned an array of shape {number.shape}")
    if not np.issubdtype(number.dtype, np.number) or not np.isfinite(number):
        raise TypeError(f"{asked} returned {number}")


def group_errors(
    error: Any, labels: NDArray | None, reference: Outputs, outputs: Outputs
) -> NDArray[np.float64] | None:
    """Shares of up to 32 groups of rows in the error, which is their sum; None for a user's function."""
    if callable(error):
        return None
    n = min(GROUPS, *(len(rows) for rows in reference.values()))
    reference = {name: rows for name, rows in reference.items() if error != "relative" or rows.dtype.kind == "f"}
    cut = {name: (np.array_split(reference[name], n), np.array_split(outputs[name], n)) for name in reference}
    classes = [None] * n if labels is None else np.array_split(labels, n)
    pairs = [[{name: both[side][i] for name, both in cut.items()} for side in (0, 1)] for i in range(n)]
    if error == "relative":  # squares are shares of those of all rows
        whole = {name: float((rows.astype(np.float64) ** 2).sum()) or 1.0 for name, rows in reference.items()}
        shares = [sum(_squares(*(side[n] for side in pair)) / whole[n] for n in whole) for pair in pairs]
        return np.array(shares) / len(whole)
    sizes = np.array([len(next(iter(pair[1].values()))) for pair in pairs])
    errors = np.array([error_function(error, classes[i])(*pair) for i, pair in enumerate(pairs)])
    return errors * sizes / sizes.sum()


def likely_ratios(groups: NDArray[np.float64], promised: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logs of the errors of selections on other data, relative to the first one: between measured and promised ones.

    Measured errors scatter, since the calibration data are few; promised errors (sums over weights) leave out what
    formats do to each other. Each measured ratio counts the more, the less it scatters compared with how much measured
    and promised ratios differ beyond that scatter (empirical Bayes).

    Parameters
    ----------
    groups : ndarray, shape (n_selections, n_groups)
        Errors on groups of the data, all positive.
    promised : ndarray, shape (n_selections,)
        Sums of errors of single weights, all positive.
    """
    total = groups.sum(axis=1)
    measured, summed = (np.log(values / values[0]) for values in (total, promised))
    n = groups.shape[1]
    if n < 2:
        return summed
    without = np.log(total[:, None] - groups) - np.log(total[0] - groups[0])
    scatter = (n - 1) / n * ((without - without.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)  # by the jackknife
    differ = measured - summed
    beyond = max(float((differ[1:] ** 2 - scatter[1:]).mean()), 0.0) if len(differ) > 1 else 0.0
    weight = np.divide(beyond, beyond + scatter, out=np.ones_like(scatter), where=beyond + scatter > 0)
    return summed + weight * differ


def _classes(rows: NDArray) -> NDArray:
    """The class of each row: its largest entry, or the whole number that it is."""
    if rows.shape[1] > 1:
        return rows.argmax(axis=1)
    if rows.dtype.kind == "f":
        raise ValueError("an output has one number for each sample and no largest entry; give another error")
    return rows[:, 0]


def _mean(reference: Outputs, outputs: Outputs, one: Callable[[NDArray, NDArray], float], kinds: str = "f") -> float:
    pairs = [(reference[n], outputs[n]) for n in reference if reference[n].dtype.kind in kinds]
    if not pairs:
        raise ValueError("the model has no output of floats to compare; give a function of yours as error")
    for r, y in pairs:
        if r.shape != y.shape:
            raise Invalid(f"an output has {y.shape} numbers instead of the original's {r.shape}")
    wide = [tuple(a.astype(np.float64) if a.dtype.kind == "f" else a for a in pair) for pair in pairs]
    return float(np.mean([one(r, y) for r, y in wide]))


def _squares(r: NDArray, y: NDArray) -> float:
    return float(((y.astype(np.float64, copy=False) - r) ** 2).sum())


def _log_sum(rows: NDArray) -> NDArray:
    top = rows.max(axis=1, keepdims=True)
    return top + np.log(np.exp(rows - top).sum(axis=1, keepdims=True))
