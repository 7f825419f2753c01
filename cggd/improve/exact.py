"""Exact: solve the linear form of the problem by branch and bound (HiGHS)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from cggd.budget import Budget
from cggd.improve.alongside import alongside, in_background
from cggd.incumbent import Finding, Improver, Incumbent
from cggd.problem import Problem
from cggd.program.bounds import open_cost
from cggd.program.highs import LinearProgram, Outcome, Solution
from cggd.program.settle import linear_part, settle

# Share of the requested gap that is passed to the solver, because its tolerances loosen its bound afterwards.
GAP_SHARE = 0.9

# Seconds beyond its time limit after which the solver is abandoned. It checks the limit only from time to time.
GRACE_SECONDS = 1.0

# The solver's limit ends this share of the time left, and at most this many seconds, before the end of the search: what
# it returns later is lost.
EARLY_SHARE, EARLY_SECONDS = 0.05, 0.1

# Programs of at most SMALL coefficients may use SHORT_SHARE of the time left, up to SHORT_SECONDS, if that is more than
# their share. With a short limit, the share may end just before they are solved.
SMALL = 2500
SHORT_SHARE = 0.8
SHORT_SECONDS = 2.0

# Seconds until another improver begins beside the solver. Most programs are solved sooner.
ALONE_SECONDS = 0.1


@dataclass(frozen=True)
class Exact:
    """Solves one program of all parts with a linear form; the other parts are checked on the solutions.

    Parameters
    ----------
    most : int
        Largest number of options.
    nodes : int
        Node limit without a time limit, so that the same seed gives the same result.
    share : float
        Share of the time left.
    beside : Improver, optional
        An improver that runs in this thread while the solver runs in another. This needs a time limit, a known feasible
        selection, and a problem without parts that have no linear form.
    """

    most: int = 20_000
    nodes: int = 2000
    share: float = 1.0
    beside: Improver | None = None

    def suits(self, problem: Problem) -> bool:
        """Whether the space is small enough."""
        return problem.space.n_options <= self.most

    def improve(
        self, problem: Problem, incumbent: Incumbent, budget: Budget, rng: np.random.Generator
    ) -> Iterator[Finding | None]:
        """Yield the best selection found by the solver, and its bound."""
        part = linear_part(problem)
        if part is None:
            return
        mine = budget.part(share=self.share)
        short = budget.part(seconds=min(SHORT_SHARE * budget.left, SHORT_SECONDS))

        def solve(program: LinearProgram, unwanted: Callable[[], bool]) -> Solution:
            small = len(program.rows.coefficient) <= SMALL
            left = max(mine.left, short.left) if small else mine.left
            left = min(left, budget.left - min(EARLY_SHARE * budget.left, EARLY_SECONDS))
            # At its time limit the solver returns its best selection. It is abandoned only if it does not stop in time.
            late = budget.seconds + left + GRACE_SECONDS
            limits: dict[str, Any] = {"time_limit": left} if mine.limited else {"node_limit": self.nodes}
            if incumbent.bound is not None:
                limits |= {"gap": GAP_SHARE * budget.gap, "near": problem.sign * incumbent.bound}
            return program.solve(**limits, stop=lambda: unwanted() or budget.over() or budget.seconds > late)

        step, known = incumbent.step(budget), incumbent.selection
        allowed = problem.allowed
        if incumbent.relaxed is not None and known is not None:
            relaxed = incumbent.relaxed
            allowed = relaxed.reduced() <= open_cost(incumbent.cost, problem.sign * relaxed.bound, step)
            allowed[problem.space.layout.flat(known)] = True

        def work(unwanted: Callable[[], bool]) -> list[Finding]:
            how = {"allowed": allowed, "known": known, "step": step, "gap": budget.gap}
            settled = settle(problem, part, solve=partial(solve, unwanted=unwanted), **how)
            if settled.proved and settled.selection is None:
                return [Finding(proof="proved by mixed-integer programming (HiGHS)")]
            bound = problem.sign * settled.bound if np.isfinite(settled.bound) else None
            complete = settled.outcome is Outcome.OPTIMAL and part.objective is problem.objective
            found = settled.nearest if settled.selection is None else settled.selection
            return [Finding(found, bound, error=settled.error if complete or settled.error else None)]

        if self.beside is None or not mine.limited or known is None or part is not problem:
            yield from work(lambda: False)
        else:
            yield from alongside(in_background(work, ALONE_SECONDS), self.beside, problem, incumbent, budget, rng)
