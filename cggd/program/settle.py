"""Settle a problem: call the exact solver repeatedly until optimality is proved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cggd.constraints import Constraint
from cggd.expressions import Program
from cggd.problem import Problem, nothing
from cggd.program.grid import proved
from cggd.program.highs import LinearProgram, Outcome, Solution
from cggd.rounding import OPERATIONS, UNIT

# Largest number of solver calls. Selections are excluded one by one, until the solver's tolerances hide no better one.
EXCLUDED = 12

# Relative gap up to which the value and the bound of a finished exact solver (HiGHS) differ by its tolerances only.
PRECISION = 2e-6

# A value is proved optimal if HiGHS, with a tolerance of 1e-9, finds no selection that is better by more than an error:
# a share of CLOSED of the value, but at most a quarter of the smallest difference between numbers of the objective. The
# error must exceed MARGIN times the rounding error of the objective; otherwise there is no such proof.
CLOSED = 1e-11
MARGIN = 4.0

# Number of attempts at that proof; each may find a better selection, in which up to POLISHED options are changed first.
ATTEMPTS = 3
POLISHED = 20

# In programs of more than LARGE columns, no more selections are excluded once the relative gap is at most PRECISION.
# Each call would take as long again, and there may be thousands of such selections.
LARGE = 300


def linear_part(problem: Problem) -> Problem | None:
    """The problem without constraints that have no linear form; None if nothing has a linear form.

    If the objective has no linear form, it is replaced by zeros; otherwise the optimum of the part is a bound for the
    problem. If the part is infeasible, so is the problem.
    """

    def linear(c: Constraint) -> bool:
        return not np.isfinite(c.limit) or c.metric.within(Program(problem.space), c.sign, c.limit) is not None

    kept = list(filter(linear, problem.constraints))
    if Program(problem.space).of(problem.objective, problem.sign) is not None:
        return problem if len(kept) == len(problem.constraints) else replace(problem, constraints=kept)
    return replace(problem, objective=nothing(problem.space), constraints=kept) if kept else None


@dataclass(frozen=True, eq=False)
class Settled:
    """Result of `settle`.

    Attributes
    ----------
    selection : ndarray of int, shape (n_decisions,), or None
        The best selection known that satisfies the constraints.
    nearest : ndarray of int, shape (n_decisions,), or None
        The first selection that the solver returned; it may violate a constraint.
    bound : float
        Lower bound on ``sign * objective``.
    proved : bool
        Whether it is proved that no better selection exists.
    outcome : Outcome
    error : float
        No selection is better by this amount or more; 0 if it is proved that none is better at all.
    """

    selection: NDArray[np.int64] | None
    nearest: NDArray[np.int64] | None
    bound: float
    proved: bool
    outcome: Outcome
    error: float = 0.0


def settle(
    problem: Problem,
    part: Problem | None = None,
    *,
    allowed: NDArray[np.bool_] | None = None,
    known: NDArray[np.int64] | None = None,
    step: float = 0.0,
    gap: float = 0.0,
    solve: Callable[[LinearProgram], Solution],
) -> Settled:
    """Search for the best selection of a problem by its linear part, and for a proof of optimality.

    A solver's answer is correct only within its tolerances. If the values lie on a grid whose `step` is larger than the
    tolerances, the solver's bound is a proof. Otherwise the selections found are excluded one by one, until the solver
    proves that no better one remains. If a metric is noisy, only a selection that becomes the best one is excluded.

    Parameters
    ----------
    problem : Problem
    part : Problem, optional
        The linear part of the problem (`linear_part`); by default, the whole problem.
    allowed : bool array of shape (n_options,), optional
    known : ndarray of int, shape (n_decisions,), optional
        The best selection known, which satisfies the constraints.
    step : float
        Lower bound on the difference between any two different objectives; 0 where none is known.
    gap : float
        Relative gap to the bound at which the search for a better selection ends.
    solve : callable
        Solves a program within limits on time or nodes.

    Raises
    ------
    NotLinearError
        If the objective or a constraint of the part has no linear form.
    """
    part = part or problem
    noisy = any(metric.noisy for metric in problem.metrics)
    same = part.objective is problem.objective
    best, cost = known, np.inf if known is None else problem.cost(known)
    excluded = [] if known is None or step else [known]
    bound, nearest, outcome = -np.inf, None, Outcome.STOPPED
    for _ in range(EXCLUDED):
        ceiling = cost if same and np.isfinite(cost) else None
        program = LinearProgram.of(part, allowed=allowed, ceiling=ceiling, excluded=excluded)
        solution = solve(program)
        outcome = solution.outcome
        if same:  # each excluded selection costs at least as much as the best one, or is infeasible
            bound = max(bound, min(solution.bound, cost))
        if solution.outcome is Outcome.INFEASIBLE:
            # If the best known selection was not excluded, the program is feasible, and the solver is wrong.
            wrong = best is not None and not any(np.array_equal(best, other) for other in excluded)
            return Settled(best, nearest, -np.inf if wrong else cost, not wrong, solution.outcome)
        selection = solution.selection
        nearest = selection if nearest is None else nearest
        if selection is not None and problem.satisfied(selection) and (now := problem.cost(selection)) < cost:
            best, cost = selection, now
        if solution.outcome is Outcome.STOPPED or selection is None:
            break
        if same and proved(cost, bound, step):
            return Settled(best, nearest, bound, True, solution.outcome)
        near = max(gap, PRECISION if program.n_columns > LARGE else 0.0)
        if best is not None and (not same or cost - bound <= near * abs(bound)):
            break
        if noisy and best is not selection:
            break  # a noisy value proves nothing about this selection
        excluded.append(selection)
    near = same and outcome is Outcome.OPTIMAL and cost - bound <= PRECISION * abs(bound)
    if best is not None and near and gap == 0 and not noisy:
        best, cost, error = _closed(problem, part, best, allowed, solve)
        if error is not None:
            return Settled(best, nearest, max(bound, cost - error), True, outcome, error)
    return Settled(best, nearest, bound, False, outcome)


def _closed(
    problem: Problem,
    part: Problem,
    best: NDArray[np.int64],
    allowed: NDArray[np.bool_] | None,
    solve: Callable[[LinearProgram], Solution],
) -> tuple[NDArray[np.int64], float, float | None]:
    """Improve a selection until the solver finds none that is better by more than an error.

    Returns the selection, its cost and the error; None in place of the error if the solver does not prove it.
    """
    for _ in range(ATTEMPTS):
        best, cost = _polished(problem, best, allowed)
        error = resolution(part, cost)
        if error == 0:
            break
        solution = solve(LinearProgram.of(part, allowed=allowed, ceiling=cost - error, precise=True))
        if solution.outcome is Outcome.INFEASIBLE:
            return best, cost, error
        found = solution.selection
        if found is None or not problem.satisfied(found) or problem.cost(found) >= cost:
            break
        best = found
    return best, problem.cost(best), None


def resolution(problem: Problem, cost: float) -> float:
    """The error of a proof that `cost` is optimal: less than what the numbers of the objective can distinguish.

    It is 0 if it would not exceed the rounding errors of the objective.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> resolution(Problem(Additive(ChoiceSpace.from_sizes([2, 2]), [1.0, 7.0, 2.0, 3.0])), 9.0)
    9e-11
    """
    expression = Program(problem.space).of(problem.objective, problem.sign)
    assert expression is not None
    numbers = np.unique(np.abs(np.append(expression.coefficient, 0.0)))
    apart = np.diff(numbers)
    apart = apart[apart > OPERATIONS * UNIT * numbers[1:]]  # without differences due to rounding
    error = min(CLOSED * abs(cost), float(apart.min(initial=np.inf)) / 4)
    return float(error) if error > MARGIN * float(expression.rounding.max()) else 0.0


def _polished(
    problem: Problem, best: NDArray[np.int64], allowed: NDArray[np.bool_] | None
) -> tuple[NDArray[np.int64], float]:
    """Change single decisions while that improves the objective; such changes may be below the solver's tolerances."""
    space, cost = problem.space, problem.cost(best)
    for _ in range(POLISHED):
        costs = problem.sign * np.asarray(problem.objective.replacements(best), dtype=float)
        if allowed is not None:
            costs = np.where(allowed, costs, np.inf)
        for option in np.argsort(costs, kind="stable")[: np.count_nonzero(costs < cost)].tolist():
            changed = best.copy()
            decision = int(space.layout.owner[option])
            changed[decision] = option - space.offsets[decision]
            if problem.satisfied(changed) and problem.cost(changed) < cost:
                best, cost = changed, problem.cost(changed)
                break
        else:
            break
    return best, cost
