"""HDX: the smallest change of the architecture's gradient that lets an exceeded cost fall.

Hong et al., "Enabling hard constraints in differentiable neural network and accelerator co-exploration",
arXiv 2301.09312. While an expected cost exceeds its bound, HDX adds to the gradient g the smallest m with
``(g + m) . g_cost >= pull``. The pull grows by a factor ``1 + growth`` with each such step, and returns to its first
value when the bound is satisfied.

`cggd_nas.search(..., objective=hdx(constraints))` searches with it instead of the guide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cggd.checks import as_number
from cggd.constraints import Constraint
from cggd_nas.penalties import expected_value, from_above
from cggd_nas.supernet import Supernet, gathered

# We know the paper's abstract but not its settings. The growth is the middle value of the scan in benchmarks/penalties,
# and the first pull is far below the length of any gradient. Costs are shares of their bounds.
HDX_GROWTH, HDX_PULL = 0.1, 1e-3

# Upper limit against overflow. At this pull the changed gradient already has the direction of the costs' gradients.
LARGEST_PULL = 1e6

# Sweeps of Hildreth's method over several costs; one is exact for a single cost.
SWEEPS = 30


def least_change(gradient: ArrayLike, costs: ArrayLike, pulls: ArrayLike) -> NDArray[np.float64]:
    """The smallest m with ``(gradient + m) . cost >= pull`` for each cost.

    For one cost it is ``max(0, pull - gradient . cost) / |cost|^2 cost``. For several it is found by Hildreth's method,
    coordinate ascent on the multipliers.

    Parameters
    ----------
    gradient : array-like of shape (..., n)
    costs : array-like of shape (..., n_costs, n)
        Gradients of the costs. A gradient of length 0 has no effect.
    pulls : array-like of shape (..., n_costs)
        ``-inf`` for a cost without effect.

    Returns
    -------
    ndarray of shape (..., n)

    Examples
    --------
    >>> least_change([1.0, -2.0], [[0.0, 2.0]], [1.0])
    array([0. , 2.5])
    """
    slopes = np.asarray(costs, dtype=np.float64)
    lengths = (slopes**2).sum(axis=-1)
    asked = np.asarray(pulls, dtype=np.float64) - (slopes * np.asarray(gradient, dtype=np.float64)[..., None, :]).sum(
        -1
    )
    asked = np.where(lengths > 0, asked, -np.inf)
    lengths = np.where(lengths > 0, lengths, 1.0)
    multipliers = np.zeros(lengths.shape)
    change = np.zeros((*lengths.shape[:-1], slopes.shape[-1]))
    for _ in range(SWEEPS if lengths.shape[-1] > 1 else 1):
        for k in range(lengths.shape[-1]):
            missing = (asked[..., k] - (slopes[..., k, :] * change).sum(-1)) / lengths[..., k]
            more = np.maximum(missing, -multipliers[..., k])
            multipliers[..., k] += more
            change += more[..., None] * slopes[..., k, :]
    return change


def hdx(
    constraints: Sequence[Constraint], *, growth: float = HDX_GROWTH, pull: float = HDX_PULL
) -> Callable[[Tensor, Supernet], Tensor]:
    """An objective for `cggd_nas.search`: the task loss, with HDX's change of its gradient.

    The costs are the expected values of the metrics as shares of their bounds. If several bounds are exceeded, the
    change is the smallest that satisfies all conditions; the paper has one bound. The objective stores the pulls, so
    make a new one for each search. They are not in checkpoints.

    Parameters
    ----------
    constraints : sequence of Constraint
        Upper bounds.
    growth : float
        p: the pull grows by ``1 + p`` with each step in which the bound is exceeded.
    pull : float
        delta: the first pull.

    Returns
    -------
    callable
        From task loss and supernet to a loss with the changed gradient.

    References
    ----------
    Hong et al., arXiv 2301.09312.

    Examples
    --------
    >>> from cggd import Additive
    >>> from cggd_nas import Choice, collect
    >>> supernet = collect(torch.nn.Sequential(Choice({"wide": torch.nn.Linear(1, 1), "skip": torch.nn.Identity()})))
    >>> latency = Additive(supernet.space, [4.0, 0.0], name="latency", unit="ms")
    >>> objective = hdx([latency <= 1.0], pull=2.0)
    >>> objective(0.0 * supernet.parameters[0].sum(), supernet).backward()
    >>> supernet.parameters[0].grad.round(decimals=4)  # of length 2 along the gradient of the expected latency, (1, -1)
    tensor([ 1., -1.])
    """
    if not as_number(growth, "growth") >= 0:
        raise ValueError(f"growth must be at least 0, got {growth}")
    if not as_number(pull, "pull") > 0:
        raise ValueError(f"pull must be greater than 0, got {pull}")
    bounds = from_above(constraints)
    pulls = np.full(len(bounds), float(pull))

    def objective(loss: Tensor, supernet: Supernet) -> Tensor:
        parameters = supernet.parameters
        shares = [expected_value(c.metric, parameters) / c.bound for c in bounds]
        exceeded = np.array([share.item() > 1 for share in shares])
        if not exceeded.any():
            pulls[:] = pull
            return loss
        gradient = _gradient(loss, parameters)
        change = least_change(
            gradient, [_gradient(share, parameters) for share in shares], np.where(exceeded, pulls, -np.inf)
        )
        pulls[:] = np.where(exceeded, np.minimum(pulls * (1 + growth), LARGEST_PULL), pull)
        # Linear in the logits with the changed gradient, so the network needs only one backward pass.
        linear = [
            (torch.as_tensor(part).to(logits) * (logits - logits.detach())).sum().to(loss.device)
            for part, logits in zip(supernet.cut(gradient + change), parameters, strict=True)
        ]
        return loss.detach() + cast(Tensor, sum(linear))

    return objective


def _gradient(value: Tensor, parameters: Sequence[Tensor]) -> NDArray[np.float64]:
    """The gradient with respect to the logits, flat; zero for logits without effect."""
    if not value.requires_grad:
        return gathered([torch.zeros_like(p) for p in parameters])
    return gathered(list(torch.autograd.grad(value, parameters, materialize_grads=True, allow_unused=True)))
