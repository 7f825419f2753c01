"""The penalty losses that the CONNAS paper compares with, as their own papers and programs define them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Nine weights over four decades each, laid so that the weights that serve best lie well inside them.
WEIGHTS = tuple(np.logspace(-1.5, 2.5, 9).tolist())
EXPONENTS = tuple(np.logspace(-1, 3, 9).tolist())
FBNET_EXPONENTS = tuple(np.logspace(-2, 2, 9).tolist())

# FBNet's own factor; it scales the whole loss, and with it the step.
FBNET_ALPHA = 0.2

# The width of TAS's band of costs that are left alone, of the target: 5% in its paper.
TAS_TOLERANCE = 0.05

# (expected, actual, bound, weight) to one number per row and constraint
Term = Callable[[NDArray, NDArray, NDArray, NDArray], NDArray]


@dataclass(frozen=True)
class Penalty:
    """A loss that pulls the expected costs E of a relaxed selection down, together with the task loss L.

    Several bounds have a term each: terms are summed, or multiplied where the paper multiplies the task loss.

    Parameters
    ----------
    name : str
    formula : str
        The loss for one bound T with weight w; F is the cost of the arg-max selection.
    source : str
        The paper and, where the paper leaves it open, the program that the formula is from.
    multiplies : bool
        Whether the terms multiply the task loss instead of being added to it.
    term, slope : callable
        The term of each bound, and its derivative by the expected cost.
    weights : tuple of float
        The weights to be scanned.

    Examples
    --------
    >>> one = np.ones(1)
    >>> PROXYLESS_LINEAR.total(2.0 * one, np.array([[6.0]]), np.array([[6.0]]), np.array([5.0]), 10.0 * one)
    array([4.])
    """

    name: str
    formula: str
    source: str
    multiplies: bool
    term: Term
    slope: Term
    weights: tuple[float, ...]

    def total(
        self, loss: NDArray, expected: NDArray, actual: NDArray, bounds: NDArray, weight: NDArray
    ) -> NDArray[np.float64]:
        """The loss with its penalty, shape (rows,).

        Parameters
        ----------
        loss : ndarray of shape (rows,)
            The task loss, positive.
        expected, actual : ndarray of shape (rows, n_constraints)
            Costs: expected ones of the relaxed selection, and those of its arg max.
        bounds : ndarray of shape (n_constraints,)
        weight : ndarray of shape (rows,)
        """
        terms = self.term(expected, actual, bounds, weight[:, None])
        return loss * terms.prod(axis=1) if self.multiplies else loss + terms.sum(axis=1)

    def gradient(
        self, loss: NDArray, expected: NDArray, actual: NDArray, bounds: NDArray, weight: NDArray
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Derivatives of `total` by the task loss, shape (rows,), and by the expected costs, (rows, n_constraints)."""
        slopes = self.slope(expected, actual, bounds, weight[:, None])
        if not self.multiplies:
            return np.ones(len(loss)), slopes
        terms = self.term(expected, actual, bounds, weight[:, None])
        factor = terms.prod(axis=1)
        return factor, (loss * factor)[:, None] * slopes / terms


def _side(actual: NDArray, bound: NDArray) -> NDArray:
    """1 for costs above their bound, -1 for those below the band of tolerance, 0 within it."""
    return np.where(actual > bound, 1.0, np.where(actual < (1 - TAS_TOLERANCE) * bound, -1.0, 0.0))


PROXYLESS_LINEAR = Penalty(
    "ProxylessNAS linear",
    "L + w (E - T) / T",
    "Cai et al., ICLR 2019: L + w E; less T and divided by it as in its program, nas_manager.py, add#linear",
    False,
    lambda e, f, t, w: w * (e - t) / t,
    lambda e, f, t, w: w / t + 0.0 * e,
    WEIGHTS,
)
PROXYLESS_LOG = Penalty(
    "ProxylessNAS log",
    "L (log E / log T)^w",
    "Cai et al., ICLR 2019; from its program, nas_manager.py, mul#log, with an alpha of 1",
    True,
    lambda e, f, t, w: (np.log(e) / np.log(t)) ** w,
    lambda e, f, t, w: w * (np.log(e) / np.log(t)) ** w / (e * np.log(e)),
    EXPONENTS,
)
FBNET = Penalty(
    "FBNet",
    "0.2 L (log E)^w",
    "Wu et al., CVPR 2019, with its alpha of 0.2; there is no T in it",
    True,
    lambda e, f, t, w: FBNET_ALPHA * np.log(e) ** w,
    lambda e, f, t, w: w * FBNET_ALPHA * np.log(e) ** w / (e * np.log(e)),
    FBNET_EXPONENTS,
)
TF_NAS = Penalty(
    "TF-NAS",
    "L + w |E / T - 1|",
    "Hu et al., ECCV 2020; from its program, train_search.py; a table has no paths to sample and no widths to scale",
    False,
    lambda e, f, t, w: w * np.abs(e / t - 1),
    lambda e, f, t, w: w * np.sign(e / t - 1) / t,
    WEIGHTS,
)
TAS = Penalty(
    "TAS",
    "L + w log E if F > T, L - w log E if F < 0.95 T, else L",
    "Dong and Yang, NeurIPS 2019; the band ends at T as in its program, search_main.py, not 5% above it",
    False,
    lambda e, f, t, w: w * _side(f, t) * np.log(e),
    lambda e, f, t, w: w * _side(f, t) / e,
    WEIGHTS,
)

PENALTIES = (PROXYLESS_LINEAR, PROXYLESS_LOG, FBNET, TF_NAS, TAS)
