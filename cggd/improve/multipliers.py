"""Multipliers: a bound, reduced costs and a good selection from a relaxation, in linear time where all are sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cggd.budget import Budget
from cggd.incumbent import Finding, Incumbent
from cggd.problem import Problem
from cggd.program.bounds import relax

# Seconds per option and metric of the shortest possible relaxation, measured with 1e7 options and rounded up.
RELAX_SECONDS = 1e-8

# If the relaxation does not end by itself, the rest of the time is left to other improvers.
SHARE = 0.9


@dataclass(frozen=True)
class Multipliers:
    """Lagrangian multipliers of sums, or else the dual values of the linear relaxation."""

    def suits(self, problem: Problem) -> bool:
        """Whether to try: what has no linear form is found out soon."""
        return True

    def improve(
        self, problem: Problem, incumbent: Incumbent, budget: Budget, rng: np.random.Generator
    ) -> Iterator[Finding | None]:
        """Yield the relaxation with its bound, and the selection found with it."""
        if not budget.fits(RELAX_SECONDS * problem.space.n_options * (1 + len(problem.constraints))):
            return
        relaxed = relax(problem, budget.part(share=SHARE))
        if relaxed is None:
            return
        if relaxed.infeasible:
            yield Finding(proof=relaxed.proof)
        else:
            yield Finding(relaxed.selection, relaxed.bound, relaxed=relaxed)
