"""Enumeration: every selection is evaluated, the constraints first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cggd.budget import Budget
from cggd.incumbent import Finding, Incumbent
from cggd.metrics import values_of
from cggd.problem import Problem
from cggd.rounding import OPERATIONS, UNIT
from cggd.space import ENUMERABLE

# Selections evaluated between two looks at the budget: of closed forms, and of black boxes at first. The number
# doubles while they take less than QUICK_SECONDS.
AT_ONCE = 50_000
CALLS_AT_ONCE = 32
QUICK_SECONDS = 0.05


@dataclass(frozen=True)
class Enumerate:
    """All selections of a small space.

    Parameters
    ----------
    most : int
        Largest number of selections, where every metric has a closed form or is stored.
    most_calls : int
        The same for black boxes that are not noisy; 0 leaves them to other improvers.
    """

    most: int = 1_000_000
    most_calls: int = 0

    def suits(self, problem: Problem) -> bool:
        """Whether the selections are few, and their values prove something."""
        if any(metric.noisy for metric in problem.metrics):
            return False  # a noisy value proves nothing
        most = self.most if all(metric.closed_form for metric in problem.metrics) else self.most_calls
        few = min(most, ENUMERABLE)
        # The number of selections of a large space is a number of so many digits that computing it takes a while.
        return bool(np.log2(problem.space.sizes).sum() <= 64) and problem.space.n_selections <= few

    def improve(
        self, problem: Problem, incumbent: Incumbent, budget: Budget, rng: np.random.Generator
    ) -> Iterator[Finding | None]:
        """Yield better and better selections, and at the end that there is no better one."""
        selections = problem.space.enumerate()
        if problem.allowed is not None:
            selections = selections[problem.allowed[problem.space.layout.flat(selections)].all(axis=1)]
        at_once = AT_ONCE if all(metric.closed_form for metric in problem.metrics) else CALLS_AT_ONCE
        found, least, start = None, np.inf, 0
        while start < len(selections):
            rows, began = selections[start : start + at_once], budget.seconds
            start += at_once
            for c in problem.constraints:
                rows = rows[c.holds(rows)] if len(rows) else rows
            if len(rows):
                costs = problem.sign * values_of(problem.objective, rows)
                best = int(np.argmin(costs))
                if costs[best] < least:
                    found, least = rows[best], float(costs[best])
                    yield Finding(found)
            if budget.seconds - began < QUICK_SECONDS:
                at_once = min(2 * at_once, AT_ONCE)
            yield None
            if budget.over():
                return
        if found is None:
            yield Finding(proof=f"all {len(selections)} selections were evaluated")
        else:
            # A batch may round differently than the selection alone, whose value counts.
            cost = incumbent.cost
            rounding = OPERATIONS * UNIT * max(abs(least), abs(cost))
            yield Finding(bound=problem.sign * (least if least < cost - rounding else cost))
