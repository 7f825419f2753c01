"""EachOption: fix one decision to each of its options in turn, and solve the remaining problem.

If all products involve one decision, such as the cache in a recipe, the problem is linear once that decision is fixed,
and branch and bound solves it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

    The bound is the weakest of the options' bounds; infeasibility is proved if it is proved for every option.

    Parameters
    ----------
    decision : int
        Index of the decision in the space.
    share : float
        Share of the remaining time.
    """

    decision: int
    share: float = 0.8

    def suits(self, problem: Problem) -> bool:
        """Whether metrics are cheap and the space is small enough for branch and bound."""
        return not problem.costly and Exact().suits(problem)

    def improve(
        self, problem: Problem, incumbent: Incumbent, budget: Budget, rng: np.random.Generator
    ) -> Iterator[Finding | None]:
        """Yield the selections found for each option, and a bound over all options.

        Options are solved in the order of their Lagrangian bounds, so that the first ones exclude many of the others.
        """
        every, budget = self._options(problem), budget.part(share=self.share)
        for inner in every:
            if budget.over():
                return
            yield from _improve([Presolve(), Multipliers()], inner, budget, rng)
        every.sort(key=_bound)
        for done, inner in enumerate(every):
            part = budget.part(share=1 / (len(every) - done))
            if not budget.over() and not _no_better(inner, incumbent):
                yield from _improve([Exact(), Cores(beside=Switches())], inner, part, rng, incumbent)
        left = [inner for inner in every if inner.proof is None]
        if not left:
            yield Finding(proof=f"each option of {problem.space.decisions[self.decision]!r} was ruled out")
        elif np.isfinite(least := min(map(_bound, left))):
            errors = [0.0 if _no_better(inner, incumbent) else inner.error for inner in left]
            known = [error for error in errors if error is not None]
            yield Finding(bound=problem.sign * least, error=max(known) if len(known) == len(errors) else None)

    def _options(self, problem: Problem) -> list[Incumbent]:
        """The problem with each option of the decision."""
        first, last = problem.space.offsets[self.decision : self.decision + 2]
        allowed = np.ones(problem.space.n_options, dtype=bool) if problem.allowed is None else problem.allowed
        found = []
        for option in first + np.flatnonzero(allowed[first:last]):
            mask = allowed.copy()
            mask[first:last] = np.arange(first, last) == option
            found.append(Incumbent(replace(problem, allowed=mask)))
        return found


def _improve(
    improvers: Sequence[Improver],
    inner: Incumbent,
    budget: Budget,
    rng: np.random.Generator,
    outer: Incumbent | None = None,
) -> Iterator[Finding | None]:
    """Run improvers on one option; yield what they find."""
    for improver in improvers:
        if not improver.suits(inner.problem):
            continue
        for finding in improver.improve(inner.problem, inner, budget, rng):
            if finding is not None:
                inner.take(finding)
            yield None if finding is None or finding.selection is None else Finding(finding.selection)
            # Stop also if this option has nothing better than the best known selection.
            if budget.over() or inner.settled(budget) or (outer is not None and _no_better(inner, outer)):
                return


def _bound(inner: Incumbent) -> float:
    return -np.inf if inner.bound is None else inner.problem.sign * inner.bound


def _no_better(inner: Incumbent, incumbent: Incumbent) -> bool:
    """Whether the bound of an option excludes selections better than the best one known."""
    return inner.proof is not None or _bound(inner) >= incumbent.cost
