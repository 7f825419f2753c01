"""Cooper's Lagrangian (cooper-optim) on the same logits: descent on them, ascent on the multipliers."""

from __future__ import annotations

import numpy as np
import torch
from cooper.cmp import CMPState, ConstrainedMinimizationProblem
from cooper.constraints.constraint import Constraint
from cooper.constraints.constraint_state import ConstraintState
from cooper.multipliers.multipliers import DenseMultiplier
from cooper.optim import AlternatingDualPrimalOptimizer
from cooper.utils.annotations import ConstraintType
from numpy.typing import NDArray

from benchmarks.penalties.loop import Move, Problem, View


class _Relaxed(ConstrainedMinimizationProblem):
    """Many runs at once: one multiplier for each bound of each run."""

    def __init__(self, logits: torch.nn.Parameter, bounds: NDArray[np.float64], rates: NDArray[np.float64]) -> None:
        super().__init__()
        self.logits, self.bounds, self.rates = logits, bounds, rates
        multiplier = DenseMultiplier(num_constraints=len(rates) * len(bounds), dtype=torch.float64)
        self.constraint = Constraint(constraint_type=ConstraintType.INEQUALITY, multiplier=multiplier)

    def compute_cmp_state(self, view: View) -> CMPState:
        # Losses that are linear in the logits: their gradients are the given ones, and only those matter.
        loss = (torch.from_numpy(view.task) * self.logits).sum()
        slopes = torch.from_numpy(view.costs / self.bounds[:, None, None])
        linear = (slopes * self.logits[:, None]).sum(dim=(2, 3))
        violation = linear - linear.detach() + torch.from_numpy(view.expected / self.bounds - 1.0)
        # A step of size 1 along a rate times the violation is a step of that rate, and rates may differ between runs.
        strict = torch.from_numpy(self.rates[:, None] * (view.actual / self.bounds - 1.0))
        state = ConstraintState(violation=violation.flatten(), strict_violation=strict.flatten())
        return CMPState(loss=loss, observed_constraints={self.constraint: state})


def lagrangian(problem: Problem, rates: NDArray[np.float64]) -> Move:
    """Cooper's alternating dual-primal descent and ascent, with one dual rate for each row.

    The surrogate of a constraint is its expected cost relative to the bound; its multiplier follows the cost of the
    arg-max selection. Both optimizers are plain SGD, the primal one with the step sizes of the loop.
    """
    logits = torch.nn.Parameter(torch.zeros((len(rates), *problem.shape), dtype=torch.float64))
    cmp = _Relaxed(logits, problem.bounds, rates)
    primal = torch.optim.SGD([logits], lr=1.0)
    dual = torch.optim.SGD(cmp.dual_parameters(), lr=1.0, maximize=True)
    optimizer = AlternatingDualPrimalOptimizer(cmp, primal_optimizers=primal, dual_optimizers=dual)

    def move(start: NDArray[np.float64], view: View) -> NDArray[np.float64]:
        logits.data = torch.from_numpy(start)
        primal.param_groups[0]["lr"] = view.size
        optimizer.roll(compute_cmp_state_kwargs={"view": view})
        return logits.detach().numpy().copy()

    return move
