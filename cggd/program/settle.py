"""Settling a problem: the exact solver's answers, repeated until they prove what is best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cggd.problem import Problem
from cggd.program.grid import proved
from cggd.program.highs import LinearProgram, Outcome, Solution

# Largest number of selections that are excluded one by one, to prove that the solver's tolerances hide no better one.
EXCLUDED = 12


@dataclass(frozen=True, eq=False)
class Settled:
    """The best selection, if there is one, a bound on ``sign * objective``, and whether no better one exists."""

    selection: NDArray[np.int64] | None
    bound: float
    proved: bool
    outcome: Outcome


def settle(
    problem: Problem,
    *,
    allowed: NDArray[np.bool_] | None = None,
    known: NDArray[np.int64] | None = None,
    step: float = 0.0,
    gap: float = 0.0,
    solve: Callable[[LinearProgram], Solution],
) -> Settled:
    """The best selection of a linear problem, and whether that is proved.

    A solver's answer is correct only within its tolerances. If the values lie on a grid whose `step` is larger than the
    tolerances, the solver's bound is a proof. Otherwise the known selections are excluded one by one, until the bound
    of the remaining ones is no better than the best known one.

    Parameters
    ----------
    problem : Problem
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
        If something has no linear form.
    """
    sign = problem.sign

    best, cost = known, np.inf if known is None else problem.cost(known)
    excluded = [] if known is None or step else [known]
    bound = -np.inf
    for _ in range(EXCLUDED):
        program = LinearProgram(
            problem.space,
            problem.constraints,
            problem.objective,
            sign=sign,
            allowed=allowed,
            ceiling=cost if np.isfinite(cost) else None,
            excluded=excluded,
        )
        solution = solve(program)
        # Each excluded selection costs at least as much as the best one, or violates a bound.
        bound = max(bound, min(solution.bound, cost))
        if solution.outcome is Outcome.INFEASIBLE:
            # If a known selection was not excluded, it solves the program, and the solver is wrong.
            wrong = best is not None and not any(np.array_equal(best, other) for other in excluded)
            return Settled(best, -np.inf if wrong else cost, not wrong, solution.outcome)
        selection = solution.selection
        if selection is not None and problem.satisfied(selection) and (now := problem.cost(selection)) < cost:
            best, cost = selection, now
        if solution.outcome is Outcome.STOPPED or selection is None:
            break
        if proved(cost, bound, step):
            return Settled(best, bound, True, solution.outcome)
        if cost - bound <= gap * abs(bound):
            break
        excluded.append(selection)
    return Settled(best, bound, False, Outcome.STOPPED)
