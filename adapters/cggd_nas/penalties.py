"""Losses of other hardware-aware searches, for comparisons or as a replacement for the guide.

Each function takes the task loss, the expected value E of a metric under the softmax of the logits, and its target T,
and returns the loss to be minimised. For several bounds apply it to one after another. No such loss guarantees a bound:
it exchanges the metric for the task loss at a rate that must be tuned.

`cggd_nas.search(..., objective=penalized(constraints, tf_nas))` searches with one of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from cggd.checks import as_number
from cggd.constraints import Constraint, check_constraints
from cggd.metrics import Metric, table_of
from cggd_nas.supernet import Supernet

# ProxylessNAS's program, search/nas_manager.py, `add#linear` and `mul#log`.
PROXYLESS_WEIGHT, PROXYLESS_ALPHA, PROXYLESS_BETA = 0.2, 1.0, 0.6

# FBNet, section 3.3.
FBNET_ALPHA, FBNET_BETA = 0.2, 0.6

# TF-NAS's program, train_search.py, `--lambda_lat`.
TF_NAS_WEIGHT = 0.1

# TAS, section 4: lambda_cost, and the tolerance t.
TAS_WEIGHT, TAS_TOLERANCE = 2.0, 0.05

# Step of the multipliers in the example of Cooper's README; violations are shares of their bounds.
DUAL_RATE = 1e-2


class Penalty(Protocol):
    """A loss with a penalty for one bound, such as the functions of this module with an argument `actual`.

    The functions work on scalars, or elementwise on tensors of one shape, for example for many runs in parallel. Their
    weights and exponents may then also be tensors of this shape.
    """

    def __call__(
        self, loss: Tensor, expected: Tensor, target: float, *, actual: float | Tensor | None = None
    ) -> Tensor:
        """The loss to be minimised: task loss, expected metric, target, and the metric of the arg-max selection."""
        ...


def proxyless_linear(
    loss: Tensor,
    expected: Tensor,
    target: float,
    *,
    weight: float | Tensor = PROXYLESS_WEIGHT,
    actual: float | Tensor | None = None,
) -> Tensor:
    """``L + w (E - T) / T``.

    Parameters
    ----------
    loss : Tensor
        Task loss L, a scalar.
    expected : Tensor
        Expected metric E, a scalar, see `expected_value`.
    target : float
        T, in the unit of the metric.
    weight : float
        w.
    actual : float, optional
        Not used.

    References
    ----------
    Cai, Zhu, Han, "ProxylessNAS", ICLR 2019, eq. 5 (``L + w E``); divided by T as in its program.

    Examples
    --------
    >>> proxyless_linear(torch.tensor(2.0), torch.tensor(6.0), 5.0, weight=10.0)
    tensor(4.)
    """
    return loss + weight * (expected - _positive(target)) / target


def proxyless_log(
    loss: Tensor,
    expected: Tensor,
    target: float,
    *,
    alpha: float = PROXYLESS_ALPHA,
    beta: float | Tensor = PROXYLESS_BETA,
    actual: float | Tensor | None = None,
) -> Tensor:
    """``alpha L (log E / log T) ** beta``. E and T must exceed 1, so choose the unit accordingly.

    References
    ----------
    Cai, Zhu, Han, "ProxylessNAS", ICLR 2019; its program, ``mul#log``.

    Examples
    --------
    >>> proxyless_log(torch.tensor(2.0), torch.tensor(100.0), 10.0, beta=1.0)
    tensor(4.)
    """
    return alpha * loss * (_log(expected) / _log(torch.as_tensor(target))) ** beta


def fbnet(
    loss: Tensor,
    expected: Tensor,
    target: float,
    *,
    alpha: float = FBNET_ALPHA,
    beta: float | Tensor = FBNET_BETA,
    actual: float | Tensor | None = None,
) -> Tensor:
    """``alpha L log(E) ** beta``, without T. E must exceed 1, so choose the unit accordingly.

    References
    ----------
    Wu et al., "FBNet", CVPR 2019, eq. 2.

    Examples
    --------
    >>> fbnet(torch.tensor(2.0), torch.tensor(10.0).exp(), 5.0, alpha=0.1, beta=1.0)
    tensor(2.)
    """
    return alpha * loss * _log(expected) ** beta


def tf_nas(
    loss: Tensor,
    expected: Tensor,
    target: float,
    *,
    weight: float | Tensor = TF_NAS_WEIGHT,
    actual: float | Tensor | None = None,
) -> Tensor:
    """``L + w |E / T - 1|``: a metric below its target is penalised like one above.

    References
    ----------
    Hu, Wu, He, "TF-NAS", ECCV 2020; its program, train_search.py.

    Examples
    --------
    >>> tf_nas(torch.tensor(2.0), torch.tensor(4.0), 5.0, weight=10.0)
    tensor(4.)
    """
    return loss + weight * (expected / _positive(target) - 1).abs()


def tas(
    loss: Tensor,
    expected: Tensor,
    target: float,
    *,
    weight: float | Tensor = TAS_WEIGHT,
    tolerance: float = TAS_TOLERANCE,
    actual: float | Tensor | None = None,
) -> Tensor:
    """``L + w log E`` if F exceeds T, ``L - w log E`` if F is below ``(1 - tolerance) T``, otherwise L.

    Parameters
    ----------
    loss, expected, target
        As for `proxyless_linear`; E must be positive.
    weight : float
    tolerance : float
        Width of the band below the target without penalty, as a share of the target.
    actual : float, optional
        F, the metric of the arg-max selection; by default E.

    References
    ----------
    Dong, Yang, "Network pruning via transformable architecture search", NeurIPS 2019, eq. 6. The band ends at T, as in
    the paper's program, not at ``(1 + tolerance) T``.

    Examples
    --------
    >>> expected = torch.tensor(1.0).exp()
    >>> [float(tas(torch.tensor(2.0), expected, 5.0, actual=f, weight=1.0)) for f in (6.0, 4.9, 4.0)]
    [3.0, 2.0, 1.0]
    """
    found = torch.as_tensor(expected.detach() if actual is None else actual)
    side = (found > _positive(target)).to(loss) - (found < (1 - tolerance) * target).to(loss)
    return loss + side * weight * expected.log()


def expected_value(metric: Metric, parameters: Sequence[Tensor]) -> Tensor:
    """The expectation of a metric under the softmax of architecture parameters, differentiable with respect to them.

    It is exact for sums, such as look-up tables. For other metrics it is the mean over decisions of the expectation
    over one decision's options, with the other decisions at their arg max.

    Parameters
    ----------
    metric : Metric
        On the supernet's space.
    parameters : sequence of Tensor
        Logits, one tensor for each decision of the space.

    Returns
    -------
    Tensor
        A scalar in the metric's unit.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> metric = Additive(ChoiceSpace.from_sizes([2, 2]), [1.0, 2.0, 0.0, 4.0])
    >>> expected_value(metric, [torch.zeros(2), torch.zeros(2)])
    tensor(3.5000)
    """
    selection = np.array([int(logits.argmax()) for logits in parameters], dtype=np.int64)
    table = table_of(metric, selection)
    means = torch.stack(
        [
            (torch.softmax(logits, dim=0) @ torch.as_tensor(part).to(logits)).to(parameters[0].device)
            for logits, part in zip(parameters, np.split(table, metric.space.layout.offsets[1:-1]), strict=True)
        ]
    )
    if not metric.separable:
        return means.mean()
    # Each mean is the whole metric with an expectation over one decision.
    return means.sum() - (len(means) - 1) * metric(selection)


def penalized(constraints: Sequence[Constraint], penalty: Penalty) -> Callable[[Tensor, Supernet], Tensor]:
    """An objective for `cggd_nas.search`: the task loss with a penalty for each bound, instead of the guide.

    Parameters
    ----------
    constraints : sequence of Constraint
        Upper bounds, whose values are the targets of their metrics.
    penalty : Penalty
        `proxyless_linear`, `proxyless_log`, `fbnet`, `tf_nas`, `tas`. Use `functools.partial` for other weights.

    Returns
    -------
    callable
        From task loss and supernet to the loss to be minimised.

    Raises
    ------
    ValueError
        If a bound is a lower bound, since none of the papers has a penalty for these.
    """
    if not callable(penalty):
        raise TypeError(f"penalty must be a function such as tf_nas, got {penalty!r}")
    bounds = from_above(constraints)

    def objective(loss: Tensor, supernet: Supernet) -> Tensor:
        for constraint in bounds:
            expected = expected_value(constraint.metric, supernet.parameters)
            actual = constraint.metric(supernet.selection())
            loss = penalty(loss, expected, constraint.bound, actual=actual)
        return loss

    return objective


def lagrangian(
    constraints: Sequence[Constraint], *, dual_rate: float = DUAL_RATE
) -> Callable[[Tensor, Supernet], Tensor]:
    """An objective for `cggd_nas.search`: Cooper's Lagrangian with a multiplier for each bound.

    Gradients come from the violations of the expected metrics. Multipliers change by the violations of the arg-max
    selection (Cooper's "strict" violations). Both are shares of the bounds. A call first updates the multipliers, then
    returns the Lagrangian, as in Cooper's ``AlternatingDualPrimalOptimizer``; the search then takes the step of the
    logits. The objective stores the multipliers, so make a new one for each search. They are not in checkpoints. Needs
    the package ``cooper-optim``.

    Parameters
    ----------
    constraints : sequence of Constraint
        Upper bounds.
    dual_rate : float
        Step size of the multipliers.

    References
    ----------
    Gallego-Posada et al., "Cooper: a library for constrained optimization in deep learning", 2025.
    """
    if not as_number(dual_rate, "dual_rate") > 0:
        raise ValueError(f"dual_rate must be greater than 0, got {dual_rate}")
    # Cooper does not mark its public names for type checkers.
    cooper: Any = importlib.import_module("cooper")
    bounds = from_above(constraints)

    class Bounded(cooper.ConstrainedMinimizationProblem):
        """The problem class that Cooper needs."""

        def __init__(self) -> None:
            super().__init__()
            self.bounds = cooper.Constraint(
                constraint_type=cooper.ConstraintType.INEQUALITY,
                formulation_type=cooper.formulations.Lagrangian,
                multiplier=cooper.multipliers.DenseMultiplier(num_constraints=len(bounds)),
            )

        def compute_cmp_state(self, loss: Tensor, supernet: Supernet) -> Any:
            selection = supernet.selection()
            expected = torch.stack([expected_value(c.metric, supernet.parameters) / c.bound - 1 for c in bounds])
            actual = [c.metric(selection) / c.bound - 1 for c in bounds]
            self.bounds.multiplier.to(expected.device)
            state = cooper.ConstraintState(expected, strict_violation=torch.tensor(actual).to(expected))
            return cooper.CMPState(loss, {self.bounds: state})

    problem = Bounded()
    optimizer = torch.optim.SGD(problem.dual_parameters(), lr=dual_rate, maximize=True)

    def objective(loss: Tensor, supernet: Supernet) -> Tensor:
        state = problem.compute_cmp_state(loss, supernet)
        optimizer.zero_grad()
        state.compute_dual_lagrangian().backward()
        optimizer.step()
        for multiplier in problem.multipliers():
            multiplier.post_step_()
        return state.compute_primal_lagrangian().lagrangian

    return objective


def _positive(target: float) -> float:
    if not target > 0:
        raise ValueError(f"target must be positive, got {target}")
    return target


def _log(value: Tensor) -> Tensor:
    if not (value > 1).all():
        raise ValueError(
            f"this loss takes powers of logarithms, so that metric and target must exceed 1, got {value.min().item()}; "
            "give them in a smaller unit"
        )
    return value.log()


def from_above(constraints: Sequence[Constraint]) -> list[Constraint]:
    """Checked constraints, all positive upper bounds, which can be targets."""
    bounds = list(constraints)
    check_constraints(bounds)
    for constraint in bounds:
        if constraint.sign < 0:
            raise ValueError(f"constraints must be bounds from above, got {constraint}")
        _positive(constraint.bound)
    return bounds
