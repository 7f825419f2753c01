"""Settling a problem: the exact solver's answers, repeated until they prove what is best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cggd.expressions import Program
from cggd.metrics import Additive, Metric
from cggd.problem import Problem
from cggd.program.grid import proved
from cggd.program.highs import LinearProgram, Outcome, Solution

# Largest number of selections that are excluded one by one, to prove that the solver's tolerances hide no better one.
EXCLUDED = 12


def linear_part(problem: Problem) -> Problem | None:
    """What of a problem has a linear form, as a problem of its own; None where nothing has.

    Its optimum is a bound for the problem if the objective is the same, and if it has no solution, neither has the
    problem. Where the objective has no linear form, it is replaced by zeros.
    """

    def linear(metric: Metric, sign: float) -> bool:
        return Program(problem.space).of(metric, sign) is not None

    kept = [c for c in problem.constraints if not np.isfinite(c.limit) or linear(c.metric, c.sign)]
    if linear(problem.objective, problem.sign):
        return problem if len(kept) == len(problem.constraints) else replace(problem, constraints=kept)
    zeros = Additive(problem.space, np.zeros(problem.space.n_options), name="nothing")
    return replace(problem, objective=zeros, constraints=kept) if kept else None


@dataclass(frozen=True, eq=False)
class Settled:
    """What `settle` found.

    Attributes
    ----------
    selection : ndarray of int, shape (n_decisions,), or None
        The best selection that satisfies the constraints.
    nearest : ndarray of int, shape (n_decisions,), or None
        The first one that the solver returned, which may violate a bound.
    bound : float
        Lower bound on ``sign * objective``.
    proved : bool
        Whether no better selection exists.
    outcome : Outcome
    """

    selection: NDArray[np.int64] | None
    nearest: NDArray[np.int64] | None
    bound: float
    proved: bool
    outcome: Outcome


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
    """The best selection of a problem by its linear part, and whether that is proved.

    A solver's answer is correct only within its tolerances. If the values lie on a grid whose `step` is larger than the
    tolerances, the solver's bound is a proof. Otherwise the known selections are excluded one by one, until the bound
    of the remaining ones is no better than the best known one.

    Parameters
    ----------
    problem : Problem
    part : Problem, optional
        What of it has a linear form (`linear_part`); by default all of it.
    allowed : bool array of shape (n_options,), optional
    known : ndarray of int, shape (n_decisions,), optional
        The best selection known, which satisfies the constraints.
    step : float
        Lower bound on the difference between any two different objectives; 0 where none is known.
    gap : float
        Share of the bound by which the best selection may miss it; then no more selections are excluded.
    solve : callable
        Solves a program within the limits on time and nodes.

    Raises
    ------
    NotLinearError
        If something of the part has no linear form.
    """
    part = part or problem
    same = part.objective is problem.objective
    best, cost = known, np.inf if known is None else problem.cost(known)
    excluded = [] if known is None or step else [known]
    bound, nearest = -np.inf, None
    for _ in range(EXCLUDED):
        program = LinearProgram(
            part.space,
            part.constraints,
            part.objective,
            sign=part.sign,
            allowed=allowed,
            ceiling=cost if same and np.isfinite(cost) else None,
            excluded=excluded,
        )
        solution = solve(program)
        if same:  # each excluded selection costs at least as much as the best one, or violates a bound
            bound = max(bound, min(solution.bound, cost))
        if solution.outcome is Outcome.INFEASIBLE:
            # If a known selection was not excluded, it solves the program, and the solver is wrong.
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
        if best is not None and (not same or cost - bound <= gap * abs(bound)):
            break
        excluded.append(selection)
    return Settled(best, nearest, bound, False, Outcome.STOPPED)
