"""The penalty losses that the CONNAS paper compares with, and the weights to be scanned; see `cggd_nas.penalties`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cggd_nas import penalties

# Nine weights over four decades each, laid so that the weights that serve best lie well inside them.
WEIGHTS = tuple(np.logspace(-1.5, 2.5, 9).tolist())
EXPONENTS = tuple(np.logspace(-1, 3, 9).tolist())
FBNET_EXPONENTS = tuple(np.logspace(-2, 2, 9).tolist())


@dataclass(frozen=True)
class Penalty:
    """A loss that pulls the expected costs E of a relaxed selection down, together with the task loss L.

    Parameters
    ----------
    name : str
    formula : str
        The loss for one bound T with weight w; F is the cost of the arg-max selection.
    source : str
        The paper and, where the paper leaves it open, the program that the formula is from.
    loss : callable
        The function of `cggd_nas.penalties`. Several bounds apply one after another.
    weight : str
        The name of the argument that is scanned.
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
    loss: Callable[..., torch.Tensor]
    weight: str
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
        return self._total(torch.tensor(loss), torch.tensor(expected), actual, bounds, weight).numpy()

    def gradient(
        self, loss: NDArray, expected: NDArray, actual: NDArray, bounds: NDArray, weight: NDArray
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Derivatives of `total` by the task loss, shape (rows,), and by the expected costs, (rows, n_constraints)."""
        task, costs = torch.tensor(loss, requires_grad=True), torch.tensor(expected, requires_grad=True)
        total = self._total(task, costs, actual, bounds, weight).sum()
        by_task, by_costs = torch.autograd.grad(total, (task, costs), materialize_grads=True)
        return by_task.numpy(), by_costs.numpy()

    def _total(
        self, loss: torch.Tensor, expected: torch.Tensor, actual: NDArray, bounds: NDArray, weight: NDArray
    ) -> torch.Tensor:
        given: dict[str, Any] = {self.weight: torch.tensor(weight)}
        for costs, found, bound in zip(expected.T, torch.tensor(actual).T, bounds.tolist(), strict=True):
            loss = self.loss(loss, costs, bound, actual=found, **given)
        return loss


PROXYLESS_LINEAR = Penalty(
    "ProxylessNAS linear",
    "L + w (E - T) / T",
    "Cai et al., ICLR 2019: L + w E; less T and divided by it as in its program, nas_manager.py, add#linear",
    penalties.proxyless_linear,
    "weight",
    WEIGHTS,
)
PROXYLESS_LOG = Penalty(
    "ProxylessNAS log",
    "L (log E / log T)^w",
    "Cai et al., ICLR 2019; from its program, nas_manager.py, mul#log, with an alpha of 1",
    partial(penalties.proxyless_log, alpha=1.0),
    "beta",
    EXPONENTS,
)
FBNET = Penalty(
    "FBNet",
    "0.2 L (log E)^w",
    "Wu et al., CVPR 2019, with its alpha of 0.2; there is no T in it",
    penalties.fbnet,
    "beta",
    FBNET_EXPONENTS,
)
TF_NAS = Penalty(
    "TF-NAS",
    "L + w |E / T - 1|",
    "Hu et al., ECCV 2020; from its program, train_search.py; a table has no paths to sample and no widths to scale",
    penalties.tf_nas,
    "weight",
    WEIGHTS,
)
TAS = Penalty(
    "TAS",
    "L + w log E if F > T, L - w log E if F < 0.95 T, else L",
    "Dong and Yang, NeurIPS 2019; the band ends at T as in its program, search_main.py, not 5% above it",
    penalties.tas,
    "weight",
    WEIGHTS,
)

PENALTIES = (PROXYLESS_LINEAR, PROXYLESS_LOG, FBNET, TF_NAS, TAS)
