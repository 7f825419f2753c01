"""Relaxations: bounds and reduced costs, from Lagrangian multipliers of sums or from a linear program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cggd.budget import Budget
from cggd.metrics import Additive
from cggd.problem import Problem
from cggd.program import lagrangian
from cggd.program.highs import LinearProgram, NotLinearError, Outcome
from cggd.program.presolve import emptied, limits_of, possible
from cggd.program.sum_tables import Tables

# Up to this many options, the options that the bounds rule out are removed first, in a few passes over all tables.
PRESOLVED = 1_000_000

# The relaxation is solved again, without the options that are worse than the selection found, if this makes some sum
# smaller by this factor.
LIGHTER = 10.0

# Relative gap to which the Lagrangian dual is solved, or this share of the requested gap.
TOLERANCE = 1e-6
GAP_SHARE = 0.1

# Up to this many options, a linear program with a peak or a longest path takes about a second.
SMALL = 20_000


@dataclass(frozen=True, eq=False)
class Relaxed:
    """Bound and reduced costs of the linear relaxation of a problem.

    Attributes
    ----------
    bound : float
        No selection that satisfies the constraints has a better objective.
    reduced : callable
        Gives reduced costs, shape (n_options,): a selection with option o has a ``sign * objective`` of at least
        ``sign * bound + reduced()[o]``; infinite where forbidden. If there is a `selection`, this holds for selections
        that are no worse than it, and options that only worse ones have may be infinite too.
    selection : ndarray of int, shape (n_decisions,), or None
        A selection that satisfies the constraints, if the relaxation found one.
    proof : str or None
        Why no selection satisfies the constraints, if that is proved.
    linear : float or None
        Bound of the linear relaxation, if `bound` is a better one.
    """

    bound: float
    reduced: Callable[[], NDArray[np.float64]]
    selection: NDArray[np.int64] | None = None
    proof: str | None = None
    linear: float | None = None

    @property
    def infeasible(self) -> bool:
        """Whether it is proved that no selection satisfies the constraints."""
        return self.proof is not None


def open_cost(cost: float, bound: float, step: float) -> float:
    """The largest reduced cost of an option in a better selection.

    Parameters
    ----------
    cost : float
        ``sign * objective`` of the best selection known; infinite if there is none.
    bound : float
        Lower bound on ``sign * objective`` to which the reduced costs belong.
    step : float
        Lower bound on the difference between any two different objectives; 0 if none is known.
    """
    return cost - 0.999 * step - bound + 1e-9 * abs(cost)


def relax(
    problem: Problem,
    budget: Budget | None = None,
) -> Relaxed | None:
    """Relax a problem; None if it has no linear form, or if its linear program is too large or was stopped.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> space = ChoiceSpace.from_sizes([2, 2])
    >>> gain, cost = Additive(space, [0, 5, 0, 4]), Additive(space, [0, 3, 0, 2])
    >>> relaxed = relax(Problem(gain, [cost <= 4], "maximize"))
    >>> round(relaxed.bound, 3), relaxed.reduced().round(3)
    (7.333, array([0.   , 0.   , 0.667, 0.   ]))
    """
    budget = budget or Budget()
    tolerance = max(TOLERANCE, GAP_SHARE * budget.gap)
    limits = limits_of(problem.constraints)
    small = problem.space.n_options <= PRESOLVED
    mask = possible(problem.space, limits, problem.allowed) if small else problem.allowed
    if small and mask is None:
        proof = emptied(problem.space, problem.constraints, problem.allowed)
        return Relaxed(problem.sign * np.inf, lambda: np.full(problem.space.n_options, np.inf), proof=proof)
    within = replace(problem, allowed=mask)
    sums = lagrangian.relax(within, budget, tolerance=tolerance)
    if sums is not None:
        if sums.selection is None and not sums.infeasible:
            sums = _led_by_constraints(within, sums, budget)
        if small and sums.value is not None and not budget.over():
            # Options that cost more than the selection found are not needed, and their large numbers may hide the
            # differences between the others.
            lighter = possible(
                problem.space, [*limits, (problem.objective, problem.sign, problem.sign * sums.value)], mask
            )
            if mask is not None and lighter is not None and _lighter(problem, mask, lighter):
                again = lagrangian.relax(replace(problem, allowed=lighter), budget, tolerance=tolerance)
                sums = _better(problem, sums, again)
        proof = "the bounds are infeasible, proved by Lagrangian multipliers" if sums.infeasible else None
        return Relaxed(sums.bound, sums.reduced, sums.selection, proof)
    if problem.space.n_options > SMALL:
        return None
    try:
        program = LinearProgram.of(problem, allowed=mask)
    except NotLinearError:
        return None
    shares = program.shares(time_limit=budget.left if budget.limited else None, stop=budget.over)
    if shares.outcome is Outcome.STOPPED:
        return None
    proof = "the bounds are infeasible, proved by linear programming (HiGHS)"
    infeasible = shares.outcome is Outcome.INFEASIBLE
    return Relaxed(problem.sign * shares.bound, lambda: shares.reduced, proof=proof if infeasible else None)


def _led_by_constraints(problem: Problem, sums: lagrangian.Relaxation, budget: Budget) -> lagrangian.Relaxation:
    """With a constant objective, repair with the multipliers for the sum of all constraints as the objective."""
    tables = Tables.of(problem, problem.allowed)
    if tables is None or tables.spread[0] > tables.noise[0] or not problem.constraints:
        return sums
    spread = np.where(tables.spread > 0, tables.spread, 1.0)
    parts = zip(tables.signs[1:], tables.tables[1:], spread[1:], strict=True)
    total = np.sum([sign * np.asarray(table, dtype=float) / size for sign, table, size in parts], axis=0)
    objective = Additive(problem.space, total, name="use of all bounds")
    led = lagrangian.relax(replace(problem, objective=objective, sense="minimize"), budget)
    if led is None:
        return sums
    value = None if led.selection is None else problem.sign * problem.cost(led.selection)
    return replace(sums, selection=led.selection, value=value, infeasible=led.infeasible)


def _lighter(problem: Problem, mask: NDArray[np.bool_], within: NDArray[np.bool_]) -> bool:
    """Whether some sum of the remaining options is much smaller than before."""
    if np.array_equal(mask, within):
        return False
    sizes = [Tables.of(problem, which) for which in (mask, within)]
    before, after = (tables.extent.size for tables in sizes if tables is not None)
    return bool((after * LIGHTER < before).any())


def _better(
    problem: Problem, first: lagrangian.Relaxation, again: lagrangian.Relaxation | None
) -> lagrangian.Relaxation:
    """Combine two relaxations; the second leaves out options that are worse than the first's selection."""
    if again is None or again.infeasible or first.value is None:
        return first
    values = [r.value for r in (again, first) if r.value is not None]
    best = min(values, key=lambda value: problem.sign * value)
    bound = problem.sign * min(problem.sign * again.bound, problem.sign * first.value)
    kept = again if best == again.value else first
    return replace(again, bound=bound, selection=kept.selection, value=kept.value)
