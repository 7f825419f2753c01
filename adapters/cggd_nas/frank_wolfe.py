"""Frank-Wolfe steps inside the polytope of expected costs, as in HardCoRe-NAS.

Nayman et al., "HardCoRe-NAS: hard constrained differentiable neural architecture search", ICML 2021 (arXiv 2102.11646).
The probabilities of the options stay in the polytope in which every expected cost satisfies its bound. Each step moves
toward the vertex that a linear program finds for the gradient. At the end another linear program makes the
probabilities discrete. The paper alternates between these probabilities and a second kind for depths; here all
decisions are of one kind.

`FrankWolfe` is an optimizer: `cggd_nas.search(..., objective=unguided, architecture_optimizer=partial(FrankWolfe,
constraints=bounds), relaxation=...)` searches with it instead of the guide.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog
from torch import Tensor, nn

from cggd.checks import as_number
from cggd.constraints import Constraint
from cggd.layout import Layout
from cggd.metrics import table_of
from cggd_nas.penalties import expected_value, from_above
from cggd_nas.supernet import Supernet, gathered

# Largest step, and share of a new gradient in the mean of gradients: the middle values of the scan in
# benchmarks/penalties.
LARGEST, MOMENTUM = 0.1, 0.1

# Smallest probability, so that logits stay finite and gradients by logits can be divided by probabilities.
FLOOR = 1e-6

# Cost of exceeding a bound by its own size, in ranges of the gradient. A point that satisfies all bounds is preferred
# if there is one; otherwise the linear program still has a solution.
EXCESS = 1e4

# Largest number of attempts to make probabilities discrete, each with costs linearised at the last selection. The first
# attempt satisfies a single bound on a sum.
LINEARISED = 5

# Tolerance of the solver for entries of vertices, which are 0 or 1.
WHOLE = 1e-6


def unguided(loss: Tensor, supernet: Supernet) -> Tensor:
    """An objective for `cggd_nas.search`: the task loss alone, without the guide."""
    return loss


def vertices(
    gradient: NDArray[np.float64], slopes: NDArray[np.float64], room: NDArray[np.float64], layout: Layout
) -> NDArray[np.float64]:
    """The probabilities with the smallest ``gradient . x`` whose costs ``slopes . x`` are at most `room`, for each run.

    Parameters
    ----------
    gradient : ndarray of shape (n, n_options)
    slopes : ndarray of shape (n, n_costs, n_options)
    room : ndarray of shape (n, n_costs)
    layout : Layout

    Returns
    -------
    ndarray of shape (n, n_options)
        At most one decision per cost has more than one option. If no probabilities are feasible, those with the
        smallest violation.

    Examples
    --------
    >>> layout = Layout(np.array([0, 2, 4]))
    >>> slopes, room = np.array([[[0.0, 1.0, 0.0, 1.0]]]), np.array([[1.5]])
    >>> np.abs(vertices(np.array([[0.0, -3.0, 0.0, -2.0]]), slopes, room, layout))
    array([[0. , 1. , 0.5, 0.5]])
    """
    n, n_costs, n_options = slopes.shape
    price = EXCESS * max(float(np.ptp(gradient)), 1e-12)
    rows = np.arange(n * n_costs)
    costs = sparse.csr_array(
        (slopes.ravel(), (rows.repeat(n_options), np.arange(n * n_options).reshape(n, -1).repeat(n_costs, 0).ravel())),
        shape=(n * n_costs, n * n_options),
    )
    one = sparse.csr_array((np.ones(n_options), (layout.owner, np.arange(n_options))))
    found = linprog(
        np.concatenate([gradient.ravel(), np.full(n * n_costs, price)]),
        A_ub=sparse.hstack([costs, -sparse.eye_array(n * n_costs)]).tocsr(),
        b_ub=room.ravel(),
        A_eq=sparse.hstack(
            [sparse.kron(sparse.eye_array(n), one), sparse.csr_array((n * layout.n_decisions, n * n_costs))]
        ).tocsr(),
        b_eq=np.ones(n * layout.n_decisions),
        method="highs-ds",
    )
    if found.x is None:
        raise RuntimeError(f"the linear program of a Frank-Wolfe step was not solved: {found.message}")
    return found.x[: n * n_options].reshape(n, n_options).clip(0.0, 1.0)


def start(layout: Layout, slopes: NDArray[np.float64], room: NDArray[np.float64]) -> NDArray[np.float64]:
    """Uniform probabilities, moved toward the cheapest ones until costs are at most `room`, for each run."""
    even = np.broadcast_to(1.0 / layout.spread(layout.sizes.astype(float)), (len(room), len(layout.owner)))
    cheapest = vertices(slopes.sum(axis=1), slopes, room, layout)
    above = (slopes @ even[..., None])[..., 0] - room
    fall = (slopes @ (even - cheapest)[..., None])[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(above > 0, above / fall, 0.0)
    share = np.nan_to_num(share, nan=0.0, posinf=1.0, neginf=1.0).clip(0.0, 1.0).max(axis=1, initial=0.0)[:, None]
    return (1 - share) * even + share * cheapest


def discretised(
    point: NDArray[np.float64], slopes: NDArray[np.float64], room: NDArray[np.float64], layout: Layout
) -> NDArray[np.int64]:
    """Selections near probabilities, from the vertex with the largest total probability, for each run.

    If a decision of that vertex still mixes options, the cheapest of them is taken. The selection then satisfies a
    single bound on a sum.

    Examples
    --------
    >>> layout = Layout(np.array([0, 2, 4]))
    >>> slopes, room = np.array([[[0.0, 1.0, 0.0, 1.0]]]), np.array([[1.5]])
    >>> discretised(np.array([[0.1, 0.9, 0.4, 0.6]]), slopes, room, layout)
    array([[1, 0]])
    """
    mixed = vertices(-point, slopes, room, layout)
    costs = np.where(mixed > WHOLE, slopes.sum(axis=1), np.inf)
    parts = np.split(costs, layout.offsets[1:-1], axis=1)
    return np.stack([part.argmin(axis=1) for part in parts], axis=1)


class FrankWolfe(torch.optim.Optimizer):
    """Frank-Wolfe steps of architecture parameters whose expected costs satisfy their bounds.

    The logits are the logarithms of the probabilities, so relaxations must draw at a temperature of 1, for example
    ``relaxation=lambda temperature: ProxylessTwoPath()``. Expected costs are exact for sums. Other metrics are
    linearised at the selection of the largest logits, so they may exceed their bounds.

    Parameters
    ----------
    parameters : iterable of nn.Parameter
        Logits of all decisions, in order.
    constraints : sequence of Constraint
        Upper bounds.
    largest : float
        Step k covers the share ``2 largest / (k + 2)`` of the way to the vertex.
    momentum : float
        Share of a new gradient in the mean of gradients.

    References
    ----------
    Nayman et al., ICML 2021; step sizes, mean of gradients and linear programs as in the paper's program,
    Alibaba-MIIL/HardCoReNAS, nas/src/optim/block_frank_wolfe.py.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> latency = Additive(ChoiceSpace.from_sizes([2]), [4.0, 0.0], name="latency", unit="ms")
    >>> logits = nn.Parameter(torch.zeros(2))
    >>> optimizer = FrankWolfe([logits], constraints=[latency <= 1.0])
    >>> for _ in range(9):
    ...     optimizer.zero_grad()
    ...     (-logits.softmax(0)[0]).backward()  # the slow option would be the better one
    ...     optimizer.step()
    >>> logits.softmax(0).detach().round(decimals=3), optimizer.selection()
    (tensor([0.2500, 0.7500]), array([1]))
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        constraints: Sequence[Constraint],
        largest: float = LARGEST,
        momentum: float = MOMENTUM,
    ) -> None:
        for name, value in (("largest", largest), ("momentum", momentum)):
            if not 0 < as_number(value, name) <= 1:
                raise ValueError(f"{name} must be greater than 0 and at most 1, got {value}")
        self.bounds = from_above(constraints)
        super().__init__(parameters, {"largest": largest, "momentum": momentum})
        logits, sizes = self._logits(), self.bounds[0].space.sizes.tolist()
        if [len(one) for one in logits] != sizes:
            raise ValueError(
                f"parameters must be the logits of the decisions of the constraints' space, with {sizes} options, got "
                f"tensors of {[len(one) for one in logits]}"
            )

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Step toward the vertex for the mean of the gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        layout, group, logits = self.bounds[0].space.layout, self.param_groups[0], self._logits()
        state = self.state[logits[0]]
        slopes, room = self._costs()
        point = self._probabilities()
        if not state:
            state |= {"step": 0, "mean": torch.zeros(len(layout.owner), dtype=torch.float64)}
            point = start(layout, slopes[None], room[None])[0]
        by_logits = gathered([torch.zeros_like(p) if p.grad is None else p.grad for p in logits])
        # By the chain rule through the softmax, up to a constant per decision, which does not change the vertex.
        gradient = by_logits / np.maximum(self._probabilities(), FLOOR)
        share = group["momentum"] if state["step"] else 1.0
        state["mean"] += share * (torch.from_numpy(gradient) - state["mean"])
        vertex = vertices(state["mean"].numpy()[None], slopes[None], room[None], layout)[0]
        point = point + 2 * group["largest"] / (state["step"] + 2) * (vertex - point)
        state["step"] += 1
        for one, part in zip(logits, np.split(np.log(np.maximum(point, FLOOR)), layout.offsets[1:-1]), strict=True):
            one.copy_(torch.as_tensor(part))
        return loss

    def selection(self) -> NDArray[np.int64]:
        """The discrete selection near the probabilities, shape (n_decisions,).

        Costs that are not sums are linearised at the largest probabilities, then a few times at the selection found,
        until all bounds are satisfied. The bounds may still be violated.
        """
        point, layout = self._probabilities()[None], self.bounds[0].space.layout
        found = layout.argmax(point[0])
        for _ in range(LINEARISED):
            slopes = np.stack([table_of(c.metric, found) / c.bound for c in self.bounds])
            values = np.array([c.metric(found) / c.bound for c in self.bounds])
            room = 1 + (layout.n_decisions - 1) * values
            found = discretised(point, slopes[None], room[None], layout)[0]
            if all(c.report(found).satisfied for c in self.bounds):
                break
        return found

    def _logits(self) -> list[nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _probabilities(self) -> NDArray[np.float64]:
        return gathered([logits.softmax(0) for logits in self._logits()])

    def _costs(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Costs as shares of their bounds, linear in the probabilities: slopes (n_costs, n_options), and room."""
        logits, point = self._logits(), self._probabilities()
        selection = np.array([int(one.argmax()) for one in logits], dtype=np.int64)
        slopes = np.stack([table_of(c.metric, selection) / c.bound for c in self.bounds])
        expected = np.array([expected_value(c.metric, logits).item() / c.bound for c in self.bounds])
        return slopes, 1 - expected + slopes @ point
