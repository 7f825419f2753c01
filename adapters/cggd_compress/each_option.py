"""EachOption: fix one decision to each of its options in turn, and solve what is left.

Where a decision takes part in products with others, as a cache that lies beside layers does, the problem is linear once
that decision is fixed, and branch and bound solves it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from cggd.budget import Budget
from cggd.improve.cores import Cores
from cggd.improve.exact import Exact
from cggd.improve.multipliers import Multipliers
from cggd.improve.presolve import Presolve
from cggd.improve.switches import Switches
from cggd.incumbent import Finding, Improver, Incumbent
from cggd.problem import Problem


@dataclass(frozen=True)
class EachOption:
    """Solves the problem once for each option of a decision.

    The bound is the weakest of the options' bounds; infeasibility is proved where it is proved for every option.

    Parameters
    ----------
    decision : int
        Its place in the space.
    """

    decision: int

    def suits(self, problem: Problem) -> bool:
        """Whether metrics are cheap and the space is small enough for branch and bound."""
        return not problem.costly and Exact().suits(problem)

    def improve(
        self, problem: Problem, incumbent: Incumbent, budget: Budget, rng: np.random.Generator
    ) -> Iterator[Finding | None]:
        """Yield the selections found for each option, and the bound of all."""
        first, last = problem.space.offsets[self.decision : self.decision + 2]
        allowed = np.ones(problem.space.n_options, dtype=bool) if problem.allowed is None else problem.allowed
        options = first + np.flatnonzero(allowed[first:last])
        bounds: list[float] = []
        errors: list[float | None] = []
        for done, option in enumerate(options):
            mask = allowed.copy()
            mask[first:last] = np.arange(first, last) == option
            inner = Incumbent(replace(problem, allowed=mask))
            part = budget.part(share=1 / (len(options) - done))
            for improver in _improvers():
                # An option is settled too if nothing in it is better than what is known.
                if part.over() or inner.settled(part) or _no_better(inner, incumbent):
                    break
                for finding in improver.improve(inner.problem, inner, part, rng) if improver.suits(problem) else ():
                    if finding is not None:
                        inner.take(finding)
                        yield None if finding.selection is None else Finding(finding.selection)
                    if part.over() or inner.settled(part):
                        break
            if inner.proof is None:
                bounds.append(-np.inf if inner.bound is None else problem.sign * inner.bound)
                errors.append(0.0 if _no_better(inner, incumbent) else inner.error)
        if not bounds:
            yield Finding(proof=f"each option of {problem.space.decisions[self.decision]!r} was ruled out")
        elif np.isfinite(least := min(bounds)):
            known = [error for error in errors if error is not None]
            yield Finding(bound=problem.sign * least, error=max(known) if len(known) == len(errors) else None)


def _improvers() -> list[Improver]:
    return [Presolve(), Multipliers(), Exact(share=1.0), Cores(beside=Switches())]


def _no_better(inner: Incumbent, incumbent: Incumbent) -> bool:
    """Whether the bound of an option excludes selections better than the best one known."""
    return inner.bound is not None and inner.problem.sign * inner.bound >= incumbent.cost
