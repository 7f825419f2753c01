"""Presolve: proofs of infeasibility from the limits of each constrained metric."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cggd.budget import Budget
from cggd.incumbent import Finding, Incumbent
from cggd.problem import Problem
from cggd.program.presolve import impossible

# Seconds per option for computing the extremes of a metric, measured with 1e7 options at 2.5 GHz and rounded up.
LIMITS_SECONDS = 2e-8


@dataclass(frozen=True)
class Presolve:
    """Tests for each constraint alone whether some selection can satisfy it."""

    def suits(self, problem: Problem) -> bool:
        """Whether there are constraints."""
        return len(problem.constraints) > 0

    def improve(
        self, problem: Problem, incumbent: Incumbent, budget: Budget, rng: np.random.Generator
    ) -> Iterator[Finding | None]:
        """Yield a proof of infeasibility if there is one; see `cggd.incumbent.Improver`."""
        for c in problem.constraints:
            if not budget.fits(LIMITS_SECONDS * problem.space.n_options, late=True):
                return
            proof = impossible(c, problem.allowed)
            yield None if proof is None else Finding(proof=proof)
