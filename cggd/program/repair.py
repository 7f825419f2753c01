"""Repair: turn minimisers of a Lagrangian relaxation into feasible selections.

With good multipliers, only options with a small reduced cost are candidates for switches. Switches are made in batches,
sorted by the ratio of their cost to the violation that they remove. Further switches then improve the objective within
the limits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cggd.layout import Layout
from cggd.problem import Problem
from cggd.program.sum_tables import Point, Tables

# Number of options in the first core, beyond one per decision: those of least reduced cost.
CORE = 20_000

# In the first core, exceeded limits get HEAVIER times the weight up to ESCAPES times. Of small problems with two
# equalities, 34 of 60 are solved without this.
ESCAPES = 30
HEAVIER = 1.5

# Of more options than LARGE, every STRIDE-th one decides which reduced costs are in the core; sorting them all would
# take longer than a pass over all tables.
LARGE = 1_000_000
STRIDE = 16


def repair(
    problem: Problem, tables: Tables, points: Sequence[Point], tolerance: float, over: Callable[[], bool]
) -> tuple[NDArray[np.int64] | None, float | None]:
    """The best feasible selection from repairs of the minimisers at the given points, and its objective."""
    best, least = None, math.inf
    for point in points:
        point, selection = tables.minimise(point.multipliers)
        # A violation within the rounding errors is ignored at first, so that limits without slack can be satisfied.
        for noise in (-tables.noise[1:], tables.noise[1:]):
            for repaired in _repairs(tables, point, selection, point.slope + noise, over):
                value = problem.cost(repaired)
                if value < least and problem.satisfied(repaired):
                    best, least = repaired, value
            if best is not None:
                break
        near = best is not None and least - points[0].value <= tolerance * abs(least)
        if near or over():
            break
    return best, None if best is None else problem.sign * least


def _repairs(
    tables: Tables,
    point: Point,
    selection: NDArray[np.int64],
    excess: NDArray[np.float64],
    over: Callable[[], bool],
) -> Iterator[NDArray[np.int64]]:
    """Selections near the minimiser at a point, by switches within a core of options until all limits hold."""
    reduced = tables.reduced(point.multipliers)
    size = CORE
    while True:
        core = _Core.of(tables, reduced, size, selection)
        switched = core.repaired(excess, over)
        if switched is not None or size >= len(reduced) or over():
            break
        size *= 10
    if switched is None:
        return
    for by_price in (False, True):
        out = selection.copy()
        out[core.decisions] = core.index[core.fill(switched, excess, point.multipliers, by_price=by_price, over=over)]
        yield out


@dataclass(frozen=True, eq=False)
class _Core:
    """Options of least reduced cost, without decisions that have only one such option.

    Options are numbered by their positions in the core. `start` holds the position of each decision's option in the
    selection around which the core was built. `repaired` and `fill` take the excess of each constraint there.
    """

    decisions: NDArray[np.int64]
    layout: Layout
    index: NDArray[np.int64]
    cost: NDArray[np.float64]
    uses: NDArray[np.float64]  # (n_constraints, options)
    reduced: NDArray[np.float64]
    start: NDArray[np.int64]
    unit: NDArray[np.float64]  # spread of each constraint's metric, the unit of its violation

    @classmethod
    def of(cls, tables: Tables, reduced: NDArray[np.float64], size: int, selection: NDArray[np.int64]) -> _Core:
        layout = tables.layout
        sample = reduced[:: STRIDE if len(reduced) > LARGE else 1]
        nth = min((layout.n_decisions + size) * len(sample) // len(reduced), len(sample) - 1)
        most = np.partition(sample, nth)[nth]
        at = np.flatnonzero((reduced <= most) & np.isfinite(reduced))
        owner = np.searchsorted(layout.offsets, at, side="right") - 1
        several = np.bincount(owner, minlength=layout.n_decisions)[owner] > 1
        at, owner = at[several], owner[several]
        decisions, counts = np.unique(owner, return_counts=True)
        index = at - layout.offsets[owner]
        spread = tables.spread[1:]
        used = [sign * table[at].astype(float) for sign, table in zip(tables.signs[1:], tables.tables[1:], strict=True)]
        return cls(
            decisions=decisions,
            layout=Layout(np.concatenate([[0], np.cumsum(counts)])),
            index=index,
            cost=tables.signs[0] * tables.tables[0][at].astype(float),
            uses=np.array(used).reshape(len(used), len(at)),
            reduced=reduced[at],
            start=np.flatnonzero(index == selection[owner]),
            unit=np.where(spread > 0, spread, 1.0),
        )

    def repaired(self, excess: NDArray[np.float64], over: Callable[[], bool]) -> NDArray[np.int64] | None:
        """Switch, least cost per removed violation first, until all limits hold; None if no switch helps.

        Where no switch removes violation, the exceeded limits get larger weights (breakout; Morris, 1993).
        """
        chosen, now, owner, weights = self.start, excess, self.layout.owner, 1 / self.unit
        escapes = ESCAPES if len(self.reduced) <= CORE + len(self.decisions) else 0
        while (violated := now > 0).any():
            if over() or len(chosen) == 0:
                return None
            change = self.uses - self.uses[:, chosen][:, owner]
            wrong = weights @ np.maximum(now[:, None], 0.0)
            gain = wrong - weights @ np.maximum(now[:, None] + change, 0.0)
            loss = np.maximum(self.reduced - self.reduced[chosen][owner], 0.0)
            loss += 1e-9 * (loss.max() or 1.0)  # ranks switches without cost by their gain
            score = np.full(len(loss), np.inf)
            np.divide(loss, gain, out=score, where=gain > 1e-12 * wrong)
            moves = self._ordered(score)
            if len(moves) == 0:
                if escapes == 0:
                    return None
                escapes, weights = escapes - 1, np.where(violated, HEAVIER, 1.0) * weights
                continue
            path = now[:, None] + np.cumsum(change[:, moves], axis=1)
            # The gain of a switch depends on which limits are exceeded, so the batch ends where that changes.
            last = int(np.argmax(np.append(((path > 0) != violated[:, None]).any(axis=0)[:-1], True)))
            if weights @ np.maximum(path[:, last], 0.0) >= wrong[0]:
                last = 0
            chosen, now = self._switch(chosen, moves[: last + 1], excess)
        return chosen

    def fill(
        self,
        chosen: NDArray[np.int64],
        excess: NDArray[np.float64],
        multipliers: NDArray[np.float64],
        *,
        by_price: bool,
        over: Callable[[], bool],
    ) -> NDArray[np.int64]:
        """Improve a feasible choice by switches that stay within the limits, greatest gain first.

        With `by_price`, switches are sorted by gain per price of the resources they use, at the multipliers.
        """
        owner = self.layout.owner
        chosen, now = self._switch(chosen, chosen[:0], excess)
        smallest = 1e-12 * float(np.abs(self.cost).max(initial=0.0))
        while len(chosen) and not over():
            change = self.uses - self.uses[:, chosen][:, owner]
            gain = self.cost[chosen][owner] - self.cost
            fits = ((now[:, None] + change <= 0) | (change <= 0)).all(axis=0) & (gain > smallest)
            worth = gain / (1e-9 + multipliers @ np.maximum(change, 0.0)) if by_price else gain
            moves = self._ordered(np.where(fits, -worth, np.inf))
            if len(moves) == 0:
                break
            path = now[:, None] + np.cumsum(change[:, moves], axis=1)
            fit = np.append(((path <= 0) | (path <= now[:, None])).all(axis=0), False)
            chosen, now = self._switch(chosen, moves[: max(1, int(np.argmin(fit)))], excess)
        return chosen

    def _ordered(self, score: NDArray[np.float64]) -> NDArray[np.int64]:
        """The option of least score of each decision, least first; options of infinite score are left out."""
        best = self.layout.flat(self.layout.argmax(-score))
        best = best[np.isfinite(score[best])]
        return best[np.argsort(score[best], kind="stable")]

    def _switch(
        self, chosen: NDArray[np.int64], moves: NDArray[np.int64], excess: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The choice after some switches, and the excess over each limit."""
        chosen = chosen.copy()
        chosen[self.layout.owner[moves]] = moves
        return chosen, excess + (self.uses[:, chosen] - self.uses[:, self.start]).sum(axis=1)
