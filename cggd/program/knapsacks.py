r"""Knapsack relaxation: bound and reduced costs of sums whose constraints share no options, as in assignment problems.

The condition that each decision takes one option is relaxed, with a multiplier for each decision; constraints whose
options are disjoint stay. Each of these constraints j is then a knapsack problem of its own:

.. math:: L(\lambda) = \sum_d \lambda_d
    + \sum_j \min \Bigl\{ \sum_o (c_o - \lambda_{d(o)}) x_o : \sum_o w_{jo} x_o \le b_j, x_o \in \{0, 1\} \Bigr\}

Knapsacks are solved exactly, so the greatest L is at least the bound of the linear relaxation (Geoffrion, 1974), and on
generalised assignment often within 0.1 % of the optimum. Options that cannot be part of a better selection are left out
(Posta, Ferland & Michelon, 2012). All other constraints keep their multipliers of the Lagrangian relaxation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cggd.budget import Budget
from cggd.problem import Problem
from cggd.program import lagrangian
from cggd.program.bounds import Relaxed, open_cost
from cggd.program.grid import grid, proved
from cggd.program.sum_tables import Tables
from cggd.rounding import OPERATIONS, UNIT

# Largest capacity of a knapsack in units of its weights. Weights with a finer unit are rounded down to this one.
FINEST = 2000

# Tolerance, in units of a weight, within which a weight counts as whole. The capacity is enlarged in proportion.
WHOLE = 1e-9

# Number of evaluations of the dual. On 20 agents and 100 jobs, 300 take about a second, and the bound is then within
# 0.02 % of what further evaluations reach.
EVALUATIONS = 300

# Polyak steps: the dual is expected to grow to the best known cost, or by a share of HOPED if that is less. After
# PATIENCE evaluations without a better bound the steps are multiplied by SHORTER; after steps below SHORTEST the ascent
# ends. To each slope, a share of KEPT of the previous direction is added.
HOPED = 0.01
PATIENCE = 8
SHORTER = 0.7
SHORTEST = 1e-3
KEPT = 0.6


@dataclass(frozen=True, eq=False)
class Knapsack:
    """A constraint: its options, their whole weights, and the capacity."""

    options: NDArray[np.int64]
    weights: NDArray[np.int64]
    capacity: int

    @classmethod
    def of(cls, weights: NDArray[np.float64], limit: float, most: int, step: float) -> Knapsack:
        """The knapsack of a sum with a limit, of whose options at most `most` are chosen; `step` divides weights."""
        options = np.flatnonzero(weights)
        weights = weights[options] if limit == 0 else np.minimum(weights[options], 2 * limit)
        unit = max(step, limit / FINEST) or float(weights.min())
        units = weights / unit
        near = np.rint(units)
        whole = np.where(np.abs(units - near) <= WHOLE * np.maximum(near, 1.0), near, np.floor(units))
        slack = most * WHOLE * float(np.maximum(near, 1.0).max(initial=1.0))
        return cls(options, whole.astype(np.int64), int(np.floor(limit / unit + slack)))

    def within(self, open_: NDArray[np.bool_]) -> Knapsack:
        """The knapsack of the open options."""
        kept = open_[self.options] & (self.weights <= self.capacity)
        return replace(self, options=self.options[kept], weights=self.weights[kept])

    def least(self, costs: NDArray[np.float64]) -> tuple[float, NDArray[np.int64]]:
        """The least sum of costs, and the options of that sum."""
        at = np.flatnonzero(costs[self.options] < 0)
        sums = self._sums(costs, at)
        left, taken = self.capacity, []
        for k in range(len(at) - 1, -1, -1):
            if sums[k + 1, left] < sums[k, left]:
                taken.append(at[k])
                left -= int(self.weights[at[k]])
        return float(sums[-1, self.capacity]), self.options[np.array(taken, dtype=np.int64)]

    def penalties(self, costs: NDArray[np.float64]) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """The least sum of costs, and its increase if each option is forced into or out of the knapsack."""
        at = np.flatnonzero(costs[self.options] < 0)
        before, after = self._sums(costs, at), self._sums(costs, at[::-1])[::-1]
        least = float(before[-1, self.capacity])
        # An option without a negative cost is in no sum.
        inside = costs[self.options] + before[-1, self.capacity - self.weights] - least
        outside = np.zeros(len(self.options))
        for k, option in enumerate(at.tolist()):
            left = self.capacity - int(self.weights[option])
            others = before[k], after[k + 1, ::-1]
            inside[option] = (others[0][: left + 1] + others[1][self.capacity - left :]).min() - least
            inside[option] += costs[self.options[option]]
            outside[option] = (others[0] + others[1]).min() - least
        return least, np.maximum(inside, 0.0), np.maximum(outside, 0.0)

    def _sums(self, costs: NDArray[np.float64], at: NDArray[np.int64]) -> NDArray[np.float64]:
        """The least sums of the first options of `at`, for each number of them and each capacity."""
        sums = np.zeros((len(at) + 1, self.capacity + 1))
        for k, (weight, cost) in enumerate(
            zip(self.weights[at].tolist(), costs[self.options[at]].tolist(), strict=True)
        ):
            before, now = sums[k], sums[k + 1]
            now[:weight] = before[:weight]
            np.minimum(before[weight:], before[: self.capacity + 1 - weight] + cost, out=now[weight:])
        return sums


@dataclass(frozen=True, eq=False)
class _Dual:
    """The dual as a function of one multiplier for each decision."""

    costs: NDArray[np.float64]  # infinite where closed
    owner: NDArray[np.int64]
    knapsacks: list[Knapsack]
    others: NDArray[np.int64]  # options in no knapsack
    constant: float
    error: float

    def close(self, kept: NDArray[np.bool_]) -> _Dual:
        """The dual without some options."""
        return replace(
            self,
            costs=np.where(kept, self.costs, np.inf),
            knapsacks=[knapsack.within(kept) for knapsack in self.knapsacks],
            others=self.others[kept[self.others]],
        )

    def value(self, multipliers: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The dual and its slope."""
        costs = self.costs - multipliers[self.owner]
        parts = [knapsack.least(costs) for knapsack in self.knapsacks]
        taken = np.concatenate([self.others[costs[self.others] < 0], *(options for _, options in parts)])
        total = self.constant + float(multipliers.sum()) + float(np.minimum(costs[self.others], 0.0).sum())
        slope = np.ones(len(multipliers))
        np.subtract.at(slope, self.owner[taken], 1.0)
        return total + sum(least for least, _ in parts), slope

    def totals(self, multipliers: NDArray[np.float64]) -> NDArray[np.float64]:
        """For each option, a lower bound on the cost of feasible selections with it; less the rounding errors."""
        costs = self.costs - multipliers[self.owner]
        n = len(multipliers)
        inside, outside = np.full(len(costs), np.inf), np.zeros(len(costs))
        inside[self.others] = np.maximum(costs[self.others], 0.0)
        outside[self.others] = np.maximum(-costs[self.others], 0.0)
        total = self.constant + float(multipliers.sum()) - float(outside[self.others].sum())
        for knapsack in self.knapsacks:
            least, inside[knapsack.options], outside[knapsack.options] = knapsack.penalties(costs)
            total += least
        size = np.abs(multipliers).sum() + np.abs(np.minimum(costs, 0.0)).sum() + abs(self.constant)
        error = self.error + 4 * UNIT * (OPERATIONS + len(costs)) * float(size)
        # A decision that takes an option takes none of its others, which are in different knapsacks.
        others = np.bincount(self.owner, weights=outside, minlength=n)[self.owner] - outside
        return total + inside + others - error


def tighten(problem: Problem, cost: float, step: float, budget: Budget | None = None) -> Relaxed | None:
    """Bound and reduced costs by knapsacks; None if fewer than two constraints share no options.

    Parameters
    ----------
    problem : Problem
    cost : float
        ``sign * objective`` of the best selection known; infinite if there is none. The reduced costs hold for better
        selections.
    step : float
        Lower bound on the difference between any two different objectives; 0 where none is known.
    budget : Budget, optional
        When it is over, the best bound so far is returned.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> space = ChoiceSpace.from_sizes([2, 2, 2])
    >>> effort = Additive(space, [1.0, 2.0, 1.0, 2.0, 1.0, 2.0])
    >>> first, second = (Additive(space, [a, b] * 3) for a, b in ((2.0, 0.0), (0.0, 2.0)))
    >>> tighten(Problem(effort, [first <= 3.0, second <= 5.0]), np.inf, 0.0).bound.__round__(3)
    5.0
    """
    budget = budget or Budget()
    start = _start(problem, budget)
    if start is None:
        return None
    dual, multipliers = start
    layout = problem.space.layout
    best, known, totals = -np.inf, multipliers, np.full(layout.n_options, -np.inf)
    direction, length, stalled, rated = np.zeros_like(multipliers), 1.0, 0, -np.inf
    for left in reversed(range(EVALUATIONS)):
        value, slope = dual.value(multipliers)
        stalled += 1
        if value > best:
            best, known, stalled = value, multipliers, 0
        ended = left == 0 or budget.over() or not slope.any() or length < SHORTEST
        if stalled >= PATIENCE or ended:
            if best > rated:
                totals, rated = np.maximum(totals, dual.totals(known)), best
                bound = float(layout.reduce(np.minimum, totals).max())
                if proved(cost, bound, step):
                    break
                dual = dual.close(totals <= bound + open_cost(cost, bound, step))
            if ended:
                break
            direction, length, stalled = np.zeros_like(direction), SHORTER * length, 0
            multipliers = known
            value, slope = dual.value(known)  # without the options just closed
            best = max(best, value)
        direction = slope + KEPT * direction
        hoped = min(cost, best + HOPED * abs(best)) - value
        multipliers = multipliers + length * hoped / max(float(direction @ direction), 1.0) * direction
    bound = min(float(layout.reduce(np.minimum, totals).max()), cost)
    if bound == np.inf:
        return None  # no option of some decision is within the limits, which `Presolve` finds
    reduced = np.maximum(totals - bound, 0.0)
    return Relaxed(problem.sign * bound, lambda: reduced)


def _start(problem: Problem, budget: Budget) -> tuple[_Dual, NDArray[np.float64]] | None:
    """The dual, and multipliers at which it is at least the Lagrangian relaxation."""
    layout, tables = problem.space.layout, Tables.of(problem, problem.allowed)
    if tables is None:
        return None
    rows = np.array(
        [sign * np.asarray(table, dtype=float) for sign, table in zip(tables.signs, tables.tables, strict=True)]
    )
    costs, rows = rows[0], rows[1:]
    chosen = _disjoint(rows, tables.limits, layout.owner)
    relaxation = None if len(chosen) < 2 else lagrangian.relax(problem, budget, repair=False)
    if relaxation is None or relaxation.infeasible:
        return None
    prices = relaxation.multipliers
    priced = prices.copy()
    priced[chosen] = 0.0
    finite = np.where(priced > 0, tables.limits, 0.0)
    costs, constant = costs + priced @ rows, tables.constant - float(priced @ finite)
    knapsacks = [
        Knapsack.of(rows[j], float(tables.limits[j]), layout.n_decisions, grid(problem.constraints[j].metric))
        for j in chosen.tolist()
    ]
    if problem.allowed is not None:
        costs = np.where(problem.allowed, costs, np.inf)
    others = np.flatnonzero(~(rows[chosen] != 0).any(axis=0))
    dual = _Dual(costs, layout.owner, knapsacks, others, constant, tables.rounding(prices))
    multipliers = layout.reduce(np.minimum, costs + (prices - priced) @ rows)
    return dual.close(np.isfinite(costs)), multipliers


def _disjoint(rows: NDArray[np.float64], limits: NDArray[np.float64], owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Constraints without an option in common, of weights at least 0, and with at most one option of each decision."""
    taken, chosen = np.zeros(rows.shape[1], dtype=bool), []
    for j in np.argsort(np.count_nonzero(rows, axis=1), kind="stable").tolist():
        used = rows[j] != 0
        proper = used.any() and rows[j].min() >= 0 and 0 <= limits[j] < rows[j].sum()
        if proper and not (used & taken).any() and np.bincount(owner[used]).max() <= 1:
            taken |= used
            chosen.append(j)
    return np.array(sorted(chosen), dtype=np.int64)
