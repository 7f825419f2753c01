"""Multipliers: a bound, reduced costs and a good selection from a relaxation; in linear time for sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cggd.budget import Budget
from cggd.incumbent import Finding, Incumbent
from cggd.problem import Problem
from cggd.program.bounds import relax

# Seconds per option and metric that a relaxation takes at least, measured with 1e7 options and rounded up.
RELAX_SECONDS = 1e-8

# Largest share of the time left that the relaxation may use; the rest remains for other improvers.
SHARE = 0.9


@dataclass(frozen=True)
class Multipliers:
    """Lagrangian relaxation of sums, or the linear relaxation of other linear forms."""

    def suits(self, problem: Problem) -> bool:
        """Always true: `improve` soon detects if there is no linear form."""
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
