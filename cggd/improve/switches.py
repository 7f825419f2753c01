"""Swap search: walk over selections one switch at a time, by replacement tables.

Works for any metric, since a replacement table is all that it asks for. Violation comes first, the objective second;
a tabu list keeps the walk from turning back where no switch is better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cggd.budget import Budget
from cggd.constraints import Constraint
from cggd.incumbent import Finding, Incumbent
from cggd.metrics import Metric, table_of
from cggd.problem import Problem
from cggd.space import ChoiceSpace

# A decision that switched stays as it is for this many switches and a random few more (Taillard's robust tabu search
# draws tenures of this order for neighbourhoods of tens to hundreds of moves).
TENURE = 5

# A walk ends after PATIENCE switches without a better selection. The search ends after WALKS such walks in a row.
PATIENCE = 50
WALKS = 200

# First switches of pairs that are tried; each takes a replacement table of every metric.
PAIRS = 64

# A value that is better by less than this share is the same value, summed in another order.
ROUNDING = 1e-12

# Seconds per option from the beginning to the first look at the clock, measured with 2e6 options and rounded up.
SWITCHES_SECONDS = 1e-6


@dataclass(frozen=True, eq=False)
class Visit:
    """A selection on the walk, how much it violates in all, and its objective."""

    selection: NDArray[np.int64]
    violation: float
    value: float


class Violation:
    """Total violation of constraints, each measured in a spread of its metric, so that units do not matter.

    The measure is the spread of the first replacement table seen, and stays: violations of all selections compare.
    """

    def __init__(self, constraints: Sequence[Constraint]) -> None:
        self.constraints = constraints
        self.scales = np.zeros(len(constraints))

    def table(self, selection: NDArray[np.int64], *, local: bool = False) -> NDArray[np.float64]:
        """Total violation with each option put in, shape (n_options,).

        With `local`, of the parts of the metrics that each decision takes part in.
        """
        total = np.zeros(self.constraints[0].space.n_options)
        for i, c in enumerate(self.constraints):
            table = c.sign * c.table(selection, local=local)
            if self.scales[i] == 0:
                self.scales[i] = float(np.ptp(table)) or max(abs(c.bound), 1e-12) if np.isfinite(c.bound) else 1.0
            total += np.maximum(table - c.limit, 0.0) / self.scales[i]
        return total


def walk(
    space: ChoiceSpace,
    violation: Violation,
    objective: Metric | None,
    start: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    sign: float = 1.0,
    allowed: NDArray[np.bool_] | None = None,
) -> Iterator[Visit]:
    """Yield selections, each one switch from the last: always the best one that is not tabu.

    Parameters
    ----------
    space : ChoiceSpace
    violation : Violation
    objective : Metric, optional
        Decides among switches of equal violation, smaller ``sign * objective`` first.
    start : ndarray of int, shape (n_decisions,)
    rng : numpy.random.Generator
    sign : float
    allowed : bool array of shape (n_options,), optional
    """
    layout, constraints = space.layout, violation.constraints
    selection = start.copy()
    free_again = np.zeros(space.n_decisions, dtype=np.int64)
    tenure = min(TENURE, space.n_decisions - 1)
    best: tuple[float, float] | None = None
    for turn in range(1, 10**9):
        wrong = violation.table(selection) if constraints else np.zeros(space.n_options)
        value = np.zeros(space.n_options) if objective is None else sign * table_of(objective, selection)
        here = layout.flat(selection)
        now = (float(wrong[here[0]]), float(value[here[0]]))
        best = now if best is None else min(best, now)
        yield Visit(selection.copy(), now[0], sign * now[1])
        # Where several parts exceed a bound at once no switch lowers the total; their own parts still tell them apart.
        tie = violation.table(selection, local=True) if constraints and now[0] > 0 else np.zeros(space.n_options)
        possible = np.ones(space.n_options, dtype=bool) if allowed is None else allowed.copy()
        possible[here] = False
        tabu = layout.spread(free_again > turn)
        better = (wrong < best[0]) | ((wrong == best[0]) & (value < best[1]))
        candidates = np.flatnonzero(possible & (~tabu | better))
        if len(candidates) == 0:
            candidates = np.flatnonzero(possible)
        if len(candidates) == 0:
            return
        keys = (rng.random(len(candidates)), value[candidates], tie[candidates], wrong[candidates])
        chosen = candidates[np.lexsort(keys)[0]]
        decision = int(np.searchsorted(space.offsets, chosen, side="right")) - 1
        selection[decision] = chosen - space.offsets[decision]
        free_again[decision] = turn + tenure + rng.integers(0, tenure + 1)


def pair(
    space: ChoiceSpace,
    violation: Violation,
    objective: Metric,
    selection: NDArray[np.int64],
    *,
    sign: float = 1.0,
    allowed: NDArray[np.bool_] | None = None,
) -> Iterator[NDArray[np.int64] | None]:
    """Look for two switches that make a feasible selection better and keep it feasible.

    First switches that improve but violate come first, as a second one may repair them; up to `PAIRS` are tried. Yields
    None after each, and a better selection as the last item, where one was found.
    """
    constraints = violation.constraints

    def tables(at: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
        wrong = violation.table(at) if constraints else np.zeros(space.n_options)
        return wrong, sign * table_of(objective, at)

    def with_option(at: NDArray[np.int64], option: int) -> NDArray[np.int64]:
        decision = owner[option]
        switched = at.copy()
        switched[decision] = option - space.offsets[decision]
        return switched

    owner, here = space.layout.owner, space.layout.flat(selection)
    wrong, value = tables(selection)
    cost = value[here[0]]
    possible = np.ones(space.n_options, dtype=bool) if allowed is None else allowed.copy()
    possible[here] = False
    firsts = np.flatnonzero(possible)
    repairable = (wrong[firsts] > 0) & (value[firsts] < cost)
    for first in firsts[np.lexsort((value[firsts], ~repairable))][:PAIRS].tolist():
        switched = with_option(selection, first)
        wrong_then, value_then = tables(switched)
        good = possible & (owner != owner[first]) & (wrong_then == 0) & (value_then < cost - ROUNDING * abs(cost))
        if good.any():
            yield with_option(switched, int(np.argmin(np.where(good, value_then, np.inf))))
            return
        yield None


def search(
    space: ChoiceSpace,
    constraints: Sequence[Constraint],
    objective: Metric | None,
    rng: np.random.Generator,
    *,
    sign: float = 1.0,
    allowed: NDArray[np.bool_] | None = None,
    start: NDArray[np.int64] | None = None,
    restarts: int = 8,
    patience: int = 200,
    stop: Callable[[], bool] = lambda: False,
) -> Visit:
    """The best selection met on several walks: least violation, then best objective.

    A walk ends after `patience` switches without a better selection; the first begins at `start`, the others at
    random. Without an objective the first selection without violation ends the search.
    """
    best: Visit | None = None
    violation = Violation(constraints)
    for n in range(restarts):
        begin = start if n == 0 and start is not None else _draw(space, allowed, rng)
        stale = 0
        for visit in walk(space, violation, objective, begin, rng, sign=sign, allowed=allowed):
            if best is None or (visit.violation, sign * visit.value) < (best.violation, sign * best.value):
                best, stale = visit, 0
            if objective is None and visit.violation == 0:
                return visit
            stale += 1
            if stale > patience or stop():
                break
        if stop():
            break
    assert best is not None
    return best


def swap(
    problem: Problem,
    best: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    allowed: NDArray[np.bool_] | None = None,
    again: bool = False,
) -> Iterator[Finding | None]:
    """Improve a feasible selection of any problem by switches; yield what is better, and None in between.

    A tabu walk tries single switches. Then pairs of switches are tried: one improves the objective but violates a
    constraint, and the other repairs it. Both are repeated until neither finds a better selection.

    Parameters
    ----------
    problem : Problem
    best : ndarray of int, shape (n_decisions,)
    rng : numpy.random.Generator
    allowed : bool array of shape (n_options,), optional
    again : bool
        Continue from the best selection with some decisions drawn again at random, until `WALKS` walks in a row find
        nothing better (iterated local search; Lourenço, Martin & Stützle, 2003).
    """
    space, sign = problem.space, problem.sign
    violation = Violation(problem.constraints)
    cost = problem.cost(best)
    start, paired, fruitless = best, None, 0
    while fruitless < WALKS:
        stale, before = 0, cost
        for visit in walk(space, violation, problem.objective, start, rng, sign=sign, allowed=allowed):
            stale += 1
            # A table is of many selections at once, and may round otherwise than a selection alone.
            if visit.violation == 0 and sign * visit.value < cost and problem.satisfied(visit.selection):
                best, cost, stale = visit.selection, sign * visit.value, 0
                yield Finding(best)
            else:
                yield None
            if stale > PATIENCE:
                break
        better = None
        if best is not paired:
            paired = best
            for found in pair(space, violation, problem.objective, best, sign=sign, allowed=allowed):
                better = found
                yield None
        if better is not None and problem.satisfied(better):
            start = best = better
            cost = problem.cost(better)
            yield Finding(best)
        elif again:
            start = shaken(space, best, rng, allowed)
            fruitless = fruitless + 1 if cost == before else 0
        else:
            return


def shaken(
    space: ChoiceSpace, selection: NDArray[np.int64], rng: np.random.Generator, allowed: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """A selection with two or three of its decisions drawn anew, or up to a fifth of them where that is more."""
    most = min(max(3, space.n_decisions // 5), space.n_decisions)
    changed = rng.choice(space.n_decisions, rng.integers(min(2, most), most + 1), replace=False)
    drawn = selection.copy()
    drawn[changed] = _draw(space, allowed, rng)[changed]
    return drawn


def _draw(space: ChoiceSpace, allowed: NDArray[np.bool_] | None, rng: np.random.Generator) -> NDArray[np.int64]:
    score = rng.random(space.n_options)
    return space.layout.argmax(score if allowed is None else np.where(allowed, score, -1.0))


@dataclass(frozen=True)
class Switches:
    """Local search by switches of options, for any problem.

    Parameters
    ----------
    feasible : bool
        Only look for a selection that satisfies every constraint; where one is known nothing is done.
    share : float
        Share of the time left.
    """

    feasible: bool = False
    share: float = 1.0

    def suits(self, problem: Problem) -> bool:
        """Whether it can work on a problem: always."""
        return True

    def improve(
        self, problem: Problem, incumbent: Incumbent, budget: Budget, rng: np.random.Generator
    ) -> Iterator[Finding | None]:
        """Yield better selections, and None in between."""
        mine = budget.part(share=self.share)
        if self.feasible and incumbent.selection is not None:
            return
        if not budget.fits(SWITCHES_SECONDS * problem.space.n_options):
            return
        if incumbent.selection is None and problem.constraints:
            how = {"allowed": problem.allowed, "start": incumbent.start, "stop": mine.over}
            visit = search(problem.space, problem.constraints, None, rng, **how)
            yield Finding(visit.selection)
        if incumbent.selection is not None and not self.feasible:
            yield from swap(problem, incumbent.selection, rng, allowed=problem.allowed, again=budget.limited)
