"""Enumeration: evaluate every selection, the constraints first."""

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

# Selections evaluated between two checks of the budget: AT_ONCE for closed forms, CALLS_AT_ONCE for black boxes. The
# number doubles, up to AT_ONCE, after each batch that takes less than QUICK_SECONDS.
AT_ONCE = 50_000
CALLS_AT_ONCE = 32
QUICK_SECONDS = 0.05


@dataclass(frozen=True)
class Enumerate:
    """Enumeration of the selections of a small space.

    Parameters
    ----------
    most : int
        Largest number of selections if every metric is a formula or a table (`Metric.closed_form`).
    most_calls : int
        Largest number of selections if some metric is a black box; with 0 such problems are not enumerated.
    """

    most: int = 1_000_000
    most_calls: int = 0

    def suits(self, problem: Problem) -> bool:
        """Whether there are few selections and no metric is noisy."""
        if any(metric.noisy for metric in problem.metrics):
            return False  # a noisy value proves nothing
        most = self.most if all(metric.closed_form for metric in problem.metrics) else self.most_calls
        return problem.space.has_at_most(min(most, ENUMERABLE))

    def improve(
        self, problem: Problem, incumbent: Incumbent, budget: Budget, rng: np.random.Generator
    ) -> Iterator[Finding | None]:
        """Yield improving selections, and finally a bound, or a proof of infeasibility."""
        selections = problem.space.enumerate()
        if problem.allowed is not None:
            selections = selections[problem.permits(selections)]
        closed = all(metric.closed_form for metric in problem.metrics)
        at_once = AT_ONCE if closed else CALLS_AT_ONCE
        calls = 0 if closed else problem.calls_each * len(selections)
        if calls > budget.evaluation.left + budget.evaluation.reserved:
            return  # other improvers use a few evaluations better than the first selections of a list
        found, least, start = None, np.inf, 0
        while start < len(selections):
            rows, began, before = selections[start : start + at_once], budget.seconds, start
            start += len(rows)
            for c in problem.constraints:
                rows = rows[c.holds(rows)] if len(rows) else rows
            if len(rows):
                costs = problem.sign * values_of(problem.objective, rows)
                costs = np.where(np.isnan(costs), np.inf, costs)  # invalid
                best = int(np.argmin(costs))
                if costs[best] < least:
                    found, least = rows[best], float(costs[best])
                    yield Finding(found)
            seconds = budget.seconds - began
            if seconds < QUICK_SECONDS:
                at_once = min(2 * at_once, AT_ONCE)
            yield None
            slow = not closed and seconds / (start - before) * (len(selections) - start) > budget.left
            if slow or budget.over():
                return
        if found is None:
            yield Finding(proof=f"all {len(selections)} selections were evaluated")
        else:
            # A batch may round differently from a single evaluation; the value of the single evaluation is used.
            cost = incumbent.cost
            rounding = OPERATIONS * UNIT * max(abs(least), abs(cost))
            yield Finding(bound=problem.sign * (least if least < cost - rounding else cost))
