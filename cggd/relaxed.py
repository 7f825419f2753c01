"""Relaxed problems: bounds and reduced costs, from multipliers of sums, or else from a linear program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cggd import lagrangian
from cggd.linear import LinearProgram, NotLinearError, Outcome
from cggd.problem import Problem

# Options up to which a linear program with a peak or a longest path is solved in about a second.
SMALL = 20_000


@dataclass(frozen=True, eq=False)
class Relaxed:
    """What the linear relaxation of a problem says.

    Attributes
    ----------
    bound : float
        No selection that satisfies the constraints has a better objective.
    reduced : callable
        Gives reduced costs, shape (n_options,): a selection with option o has a ``sign * objective`` of at least
        ``sign * bound + reduced()[o]``; infinite where forbidden.
    selection : ndarray of int, shape (n_decisions,), or None
        One that satisfies the constraints, where it came with the bound.
    proof : str or None
        Why no selection satisfies the constraints, where that is proved.
    """

    bound: float
    reduced: Callable[[], NDArray[np.float64]]
    selection: NDArray[np.int64] | None = None
    proof: str | None = None

    @property
    def infeasible(self) -> bool:
        """Whether it is proved that no selection satisfies the constraints."""
        return self.proof is not None


def relax(
    problem: Problem,
    allowed: NDArray[np.bool_] | None = None,
    *,
    time_limit: float | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Relaxed | None:
    """Relax a problem; None where it has no linear form, or its linear program is too large or was stopped.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> space = ChoiceSpace.from_sizes([2, 2])
    >>> gain, cost = Additive(space, [0, 5, 0, 4]), Additive(space, [0, 3, 0, 2])
    >>> relaxed = relax(Problem(gain, [cost <= 4], "maximize"))
    >>> round(relaxed.bound, 3), relaxed.reduced().round(3)
    (7.333, array([0.   , 0.   , 0.667, 0.   ]))
    """
    sums = lagrangian.relax(problem, allowed=allowed, time_limit=time_limit, stop=stop)
    if sums is not None:
        proof = "the bounds cannot be met together, proved by Lagrangian multipliers" if sums.infeasible else None
        return Relaxed(sums.bound, sums.reduced, sums.selection, proof)
    if problem.space.n_options > SMALL:
        return None
    try:
        program = LinearProgram(
            problem.space, problem.constraints, problem.objective, sign=problem.sign, allowed=allowed
        )
    except NotLinearError:
        return None
    shares = program.shares(time_limit=time_limit, stop=stop)
    if shares.outcome is Outcome.STOPPED:
        return None
    proof = "the bounds cannot be met together, proved by linear programming (HiGHS)"
    infeasible = shares.outcome is Outcome.INFEASIBLE
    return Relaxed(problem.sign * shares.bound, lambda: shares.reduced, proof=proof if infeasible else None)
