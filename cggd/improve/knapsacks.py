"""Knapsacks: a better bound and better reduced costs where constraints share no options, as in assignment problems."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from cggd.budget import Budget
from cggd.incumbent import Finding, Incumbent
from cggd.problem import Problem
from cggd.program.knapsacks import tighten


@dataclass(frozen=True)
class Knapsacks:
    """Tightens a linear relaxation: constraints without an option in common are solved as knapsacks.

    Parameters
    ----------
    most : int
        Largest number of coefficients: the options times the constraints.
    share : float
        Share of the time left.
    """

    most: int = 2_000_000
    share: float = 0.3

    def suits(self, problem: Problem) -> bool:
        """Whether there are several constraints, and not too many coefficients."""
        return 2 <= len(problem.constraints) <= self.most / problem.space.n_options

    def improve(
        self, problem: Problem, incumbent: Incumbent, budget: Budget, rng: np.random.Generator
    ) -> Iterator[Finding | None]:
        """Yield the relaxation if its bound is better than the linear one."""
        linear = incumbent.relaxed
        if linear is None:
            return
        tight = tighten(problem, incumbent.cost, incumbent.step(budget), budget.part(share=self.share))
        if tight is not None and problem.sign * tight.bound > problem.sign * linear.bound:
            yield Finding(bound=tight.bound, relaxed=replace(tight, linear=linear.bound))
