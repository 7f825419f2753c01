"""Local search by switches of single decisions and of pairs, on the states of metrics.

A tabu walk always makes the best switch that is not tabu. Switches are compared by objective and weighted violation;
the weight of a constraint grows while it is violated and shrinks while it is satisfied, so that the walk crosses the
boundary of the feasible region again and again (strategic oscillation; Glover & Hao, 2011). Where the walk finds nothing
better, pairs of switches are tried, and then the walk begins again from a disturbed good selection (iterated local
search; Lourenço, Martin & Stützle, 2003).

Constraints that are sums are held as rows of one matrix. A black box whose first replacement table predicts its values
at random selections counts as a sum as well, until a selection contradicts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd.constraints import Constraint
from cggd.incumbent import Finding
from cggd.metrics import Metric, State, values_of
from cggd.metrics.state import REFRESHED, Recomputed, SumState
from cggd.problem import Problem
from cggd.space import ChoiceSpace

# A decision that switched stays as it is for this many switches and a random few more (Taillard's robust tabu search
# draws tenures of this order for neighbourhoods of tens to hundreds of moves).
TENURE = 5

# A walk ends after PATIENCE switches without a better selection. The search ends after WALKS such walks in a row.
PATIENCE = 1000
WALKS = 200

# First switches of pairs that are tried; each takes the replacement tables after it.
PAIRS = 128

# By this factor the weight of a violated constraint grows with each switch, and that of a satisfied one shrinks.
PRESSURE = 1.05

# Weights of constraints stay within this factor of where they are even.
HEAVIEST = 1e4

# Weights begin at this multiple of the prices, where there are any.
PRICED = 2.0

# Later than any turn of a walk.
FOREVER = np.iinfo(np.int64).max

# Sums of the same numbers in another order differ by less than this share.
SAME = 1e-9

# A value that is better by less than this share is the same value, summed in another order.
ROUNDING = 1e-12

# Random selections at which a black box must agree with its first replacement table to count as a sum, and the
# wrong predictions after which it no longer does.
PROBES = 8
MISTAKES = 20

# Of metrics without a closed form, this many random switches are evaluated for each move.
CANDIDATES = 32

# Random selections among which a search for feasibility begins.
SAMPLE = 32

# Share of the weight with which the parts of a maximum count beside the maximum itself.
LOCAL = 1e-3


@dataclass(frozen=True, eq=False)
class Visit:
    """A selection, how much it violates in all, and its objective."""

    selection: NDArray[np.int64]
    violation: float
    value: float


# -- constraints at a selection -----------------------------------------------------------------------------------------


class _Rows:
    """Sums, as rows of a matrix; `excess` says by how much each exceeds its limit."""

    states: Sequence[State] = ()

    def __init__(self, space: ChoiceSpace, rows: NDArray[np.float64], limits: NDArray[np.float64]) -> None:
        self.space, self.rows, self.limits = space, rows, limits
        self.room = np.empty_like(rows)

    def stand(self, selection: NDArray[np.int64]) -> None:
        chosen = self.rows[:, self.space.layout.flat(selection)]
        self.excess = chosen.sum(axis=1) - self.limits
        self.gain = self.rows - self.space.layout.spread(chosen)

    def move(self, decision: int, option: int) -> None:
        first, last = self.space.offsets[decision], self.space.offsets[decision + 1]
        self.excess += self.gain[:, first + option]
        self.gain[:, first:last] = self.rows[:, first:last] - self.rows[:, first + option, None]

    def violation(self, weights: NDArray[np.float64], options: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        if options is not None:
            return weights @ np.maximum(self.gain[:, options] + self.excess[:, None], 0.0)
        np.add(self.gain, self.excess[:, None], out=self.room)
        np.maximum(self.room, 0.0, out=self.room)
        return weights @ self.room


class _Shares:
    """Sums of which each option counts in one at most, and two options of a decision never in the same one.

    So are the loads of agents in an assignment. One vector over the options holds them all.
    """

    states: Sequence[State] = ()

    def __init__(self, space: ChoiceSpace, rows: NDArray[np.float64], limits: NDArray[np.float64]) -> None:
        self.space, self.limits = space, limits
        self.row = np.where((rows != 0).any(axis=0), (rows != 0).argmax(axis=0), len(rows))
        self.use = rows.sum(axis=0)

    @staticmethod
    def fit(space: ChoiceSpace, rows: NDArray[np.float64]) -> bool:
        counts = rows != 0
        once = space.layout.reduce(np.add, counts.astype(np.int64)).max(initial=0) <= 1
        return len(rows) > 1 and bool(once and counts.sum(axis=0).max() <= 1)

    def stand(self, selection: NDArray[np.int64]) -> None:
        self.here = self.space.layout.flat(selection)
        # The last load is that of options that count nowhere.
        loads = np.bincount(self.row[self.here], weights=self.use[self.here], minlength=len(self.limits) + 1)
        self.loads = loads - np.append(self.limits, 1.0)

    @property
    def excess(self) -> NDArray[np.float64]:
        return self.loads[:-1]

    def move(self, decision: int, option: int) -> None:
        before, after = int(self.here[decision]), int(self.space.offsets[decision]) + option
        self.loads[self.row[before]] -= self.use[before]
        self.loads[self.row[after]] += self.use[after]
        self.here[decision] = after

    def violation(self, weights: NDArray[np.float64], options: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        weights, row, here = np.append(weights, 0.0), self.row, self.here
        now = np.maximum(self.loads, 0.0) * weights
        table = np.maximum(self.loads[row] + self.use, 0.0)
        table *= weights[row]
        table -= now[row]
        left = row[here]
        without = np.maximum(self.loads[left] - self.use[here], 0.0) * weights[left] - now[left]
        table += self.space.layout.spread(without)
        table[here] = 0.0
        table += now.sum()
        return table if options is None else table[options]


class _Tables:
    """Constraints of any other kind, by the tables of their states."""

    def __init__(self, constraints: Sequence[Constraint], limits: NDArray[np.float64]) -> None:
        self.constraints, self.limits = constraints, limits
        self.states: list[State] = []

    def stand(self, selection: NDArray[np.int64]) -> None:
        self.states = [constraint_state(c, selection) for c in self.constraints]

    @property
    def excess(self) -> NDArray[np.float64]:
        values = [c.sign * state.value for c, state in zip(self.constraints, self.states, strict=True)]
        return np.array(values) - self.limits

    def move(self, decision: int, option: int) -> None:
        for state in self.states:
            state.move([(decision, option)])

    def violation(
        self, weights: NDArray[np.float64], options: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64] | float:
        total = 0.0
        for c, state, limit, weight in zip(self.constraints, self.states, self.limits, weights, strict=True):
            table = state.table() if options is None else state.entries(options)
            total = total + weight * np.maximum(c.sign * table - limit, 0.0)
            # Where several parts exceed a bound at once no switch lowers the metric; their own tables tell them apart.
            if options is None and c.metric.parted and c.sign * state.value > limit:
                total += LOCAL * weight * np.maximum(c.sign * state.local_table() - limit, 0.0)
        return total


def constraint_state(constraint: Constraint, selection: NDArray[np.int64]) -> State:
    """State of a constraint's metric, or of its confidence limit where that is what the bound must hold for."""
    if constraint.confidence is None:
        return constraint.metric.state(selection)
    local = partial(constraint.table, local=True)
    return Recomputed(constraint.space, selection, constraint.values, constraint.table, local, sampled=False)


class Surroundings:
    """A selection with all selections one switch away: their weighted violation and their objective.

    Attributes
    ----------
    weights : ndarray of shape (n_constraints,)
        What a unit of excess counts in a score, in which the objective is measured by its spread; `walk` adapts them.
    units : ndarray of shape (n_constraints,)
        The weights of the total violation by which selections are compared: one over the spread of each metric.
    scale : float
        One over the spread of the objective.
    """

    def __init__(
        self,
        space: ChoiceSpace,
        parts: Sequence[Any],
        units: NDArray[np.float64],
        measured: Callable[[NDArray[np.int64]], State] | None,
        sign: float,
        scale: float,
    ) -> None:
        self.space, self.parts, self.measured = space, parts, measured
        self.sign, self.scale, self.units, self.weights = sign, scale, units, units.copy()
        cuts = np.cumsum([0, *(len(part.limits) for part in parts)]).tolist()
        self.cuts = [slice(*cut) for cut in pairwise(cuts)]

    def stand(self, selection: NDArray[np.int64]) -> None:
        """Go to a selection."""
        self.selection, self.moves = selection.copy(), 0
        for part in self.parts:
            part.stand(self.selection)
        self.state = None if self.measured is None else self.measured(self.selection)

    @property
    def sampled(self) -> bool:
        """Whether the tables here are evaluated selection by selection."""
        states = [state for part in self.parts for state in part.states]
        return any(state.sampled for state in (states if self.state is None else [*states, self.state]))

    @property
    def cost(self) -> float:
        """``sign * objective`` here; 0 without an objective."""
        return 0.0 if self.state is None else self.sign * self.state.value

    @property
    def excess(self) -> NDArray[np.float64]:
        """By how much each constraint's limit is exceeded here, shape (n_constraints,)."""
        return np.concatenate([part.excess for part in self.parts]) if self.parts else np.zeros(0)

    def violation(self) -> float:
        """Total violation here."""
        return float(np.maximum(self.excess, 0.0) @ self.units)

    def look(self, options: NDArray[np.int64] | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weighted violation and ``sign * objective`` with each option put in, or each of some options."""
        n = self.space.n_options if options is None else len(options)
        wrong, cost = np.zeros(n), np.zeros(n)
        for part, cut in zip(self.parts, self.cuts, strict=True):
            wrong += part.violation(self.weights[cut], options)
        if self.state is not None:
            table = self.state.table() if options is None else self.state.entries(options)
            cost = table if self.sign > 0 else -table
        return wrong, cost

    def move(self, decision: int, option: int) -> None:
        """Switch one decision."""
        self.moves += 1
        self.selection[decision] = option
        for part in self.parts:
            if self.moves % REFRESHED or part.states:
                part.move(decision, option)
            else:
                part.stand(self.selection)
        if self.state is not None:
            self.state.move([(decision, option)])

    def press(self) -> None:
        """Make violated constraints count more, and the others less."""
        violated = self.excess > 0
        if self.state is not None or not violated.all():
            self.weights *= np.where(violated, PRESSURE, 1.0 / PRESSURE)
            np.clip(self.weights, self.units / HEAVIEST, self.units * HEAVIEST, out=self.weights)


def surround(
    space: ChoiceSpace,
    constraints: Sequence[Constraint],
    objective: Metric | None,
    sign: float,
    selection: NDArray[np.int64],
    *,
    probes: NDArray[np.int64] | None = None,
    prices: NDArray[np.float64] | None = None,
) -> Surroundings:
    """The surroundings of a selection.

    Parameters
    ----------
    space : ChoiceSpace
    constraints : list of Constraint
    objective : Metric or None
    sign : float
        1 to minimise the objective, -1 to maximise it.
    selection : ndarray of int, shape (n_decisions,)
    probes : ndarray of int, shape (n, n_decisions), optional
        Selections at which a black box is compared with its first replacement table; without them none counts as a sum.
    prices : ndarray of shape (n_constraints,), optional
        What a unit of each constraint costs in the objective, such as Lagrangian multipliers.
    """
    rows: list[NDArray] = []
    sums: list[tuple[float, ...]] = []
    others: list[tuple[Any, ...]] = []
    state = None if objective is None else objective.state(selection)
    spread = 1.0 if state is None else float(np.ptp(state.table())) or 1.0
    for i, c in enumerate(constraints):
        if np.isinf(c.bound):
            continue
        at = constraint_state(c, selection)
        table = at.table()
        unit = 1.0 / (float(np.ptp(table)) or max(abs(c.bound), 1e-12))
        weight = unit if prices is None else max(PRICED * float(prices[i]) / spread, unit / HEAVIEST)
        slack = 0.0 if c.confidence else 2 * float(np.max(c.metric.rounded(selection[None], c.sign)[1]))
        row = sum_row(at, c.metric, selection, probes)
        if row is None:
            others.append((c, c.limit + slack, unit, weight))
        else:
            constant = at.value - float(row[space.layout.flat(selection)].sum())
            rows.append(c.sign * row)
            sums.append((c.limit + slack - c.sign * constant, unit, weight))
    measured = None if objective is None else objective.state
    if (
        state is not None
        and objective is not None
        and (row := sum_row(state, objective, selection, probes)) is not None
    ):
        constant = state.value - float(row[space.layout.flat(selection)].sum())
        measured = partial(SumState, space, row, constant)
    parts: list[Any] = []
    if rows:
        matrix = np.stack(rows)
        kind = _Shares if _Shares.fit(space, matrix) else _Rows
        parts.append(kind(space, matrix, np.array([limit for limit, *_ in sums])))
    if others:
        parts.append(_Tables([c for c, *_ in others], np.array([limit for _, limit, *_ in others])))
    order = [*sums, *(rest[1:] for rest in others)]
    around = Surroundings(space, parts, np.array([unit for _, unit, _ in order]), measured, sign, 1.0 / spread)
    around.weights = np.array([weight for *_, weight in order])
    around.stand(selection)
    return around


def sum_row(
    state: State, metric: Metric, selection: NDArray[np.int64], probes: NDArray[np.int64] | None
) -> NDArray[np.float64] | None:
    """Numbers per option whose sum a metric is, or seems to be at all probes; None where it is no sum."""
    if state.weights is not None:
        return state.weights
    if probes is None or not state.sampled or metric.noisy:
        return None
    row = state.table() - state.value
    values = values_of(metric, probes)
    apart = row[metric.space.layout.flat(probes)].sum(axis=1) + state.value - values
    size = max(float(np.abs(row).max()), float(np.abs(values).max()), abs(state.value))
    return row if np.abs(apart).max() <= SAME * size else None


# -- the search ---------------------------------------------------------------------------------------------------------


class Best:
    """The best selection of a search: least violation, then least cost; each is evaluated again before it counts."""

    def __init__(self, problem: Problem | None, constraints: Sequence[Constraint], visit: Visit) -> None:
        self.problem, self.constraints, self.visit = problem, constraints, visit
        self.mistakes = 0

    @property
    def cost(self) -> float:
        """What the objective of a feasible selection must beat."""
        return self.visit.value if self.visit.violation == 0 else np.inf

    def offer(self, around: Surroundings) -> bool:
        """Take the selection that the search stands at, if it is better."""
        violation, cost = around.violation(), around.cost
        if (violation, cost) >= (self.visit.violation, self.visit.value - ROUNDING * abs(self.visit.value)):
            return False
        selection = around.selection.copy()
        if violation == 0 and not all(c.holds(selection[None])[0] for c in self.constraints):
            self.mistakes += 1
            return False
        if self.problem is not None and violation == 0:
            cost = self.problem.cost(selection)
            if cost >= self.cost:
                self.mistakes += 1
                return False
        self.visit = Visit(selection, violation, cost)
        return True


def walk(
    around: Surroundings, best: Best, rng: np.random.Generator, allowed: NDArray[np.bool_] | None = None
) -> Iterator[bool]:
    """Switch decisions without end; yield after each switch whether the selection is the best one so far.

    Always the best switch that is not tabu is made, or one to a feasible selection that is better than the best.
    """
    space = around.space
    tenure, last_mistake = min(TENURE, space.n_decisions - 1), -np.inf
    never = np.zeros(space.n_options, dtype=np.int64) if allowed is None else np.where(allowed, 0, FOREVER)
    until = never.copy()
    until[space.layout.flat(around.selection)] = FOREVER
    owner, offsets, sampled = space.layout.owner, space.offsets.tolist(), around.sampled
    for turn in count(1):
        free = until <= turn
        options = None
        if sampled:
            options = np.flatnonzero(free if free.any() else until < FOREVER)
            options = rng.permutation(options)[:CANDIDATES]
            if len(options) == 0:
                return
            free = np.ones(len(options), dtype=bool)
        wrong, cost = around.look(options)
        at = -1
        if wrong.min() <= 0 and last_mistake < turn - tenure:
            feasible = np.where(wrong <= 0, cost, np.inf)
            feasible[(until if options is None else until[options]) == FOREVER] = np.inf
            at = int(feasible.argmin())
            if not feasible[at] < best.cost - ROUNDING * abs(best.cost if np.isfinite(best.cost) else 0.0):
                at = -1
        if at < 0:
            score = wrong
            score += around.scale * cost
            if not free.any():
                free = until < FOREVER
                if not free.any():
                    return
            score[~free] = np.inf
            at = int(score.argmin())
            ties = np.flatnonzero(score == score[at])
            if len(ties) > 1:
                at = int(ties[rng.integers(len(ties))])
        chosen = at if options is None else int(options[at])
        decision = int(owner[chosen])
        first, last = offsets[decision], offsets[decision + 1]
        around.move(decision, chosen - first)
        until[first:last] = np.maximum(never[first:last], turn + 1 + tenure + int(rng.integers(0, tenure + 1)))
        until[chosen] = FOREVER
        around.press()
        mistakes = best.mistakes
        yield best.offer(around)
        if best.mistakes > mistakes:
            last_mistake = turn


def exchange(around: Surroundings, best: Best, allowed: NDArray[np.bool_] | None = None) -> Iterator[bool]:
    """Try pairs of switches at the best selection; yield after each first switch whether a better one was found."""
    space, offsets = around.space, around.space.offsets
    around.stand(best.visit.selection)
    wrong, cost = around.look()
    possible = np.ones(space.n_options, dtype=bool) if allowed is None else allowed.copy()
    possible[space.layout.flat(around.selection)] = False
    firsts = np.flatnonzero(possible)
    gain = cost[firsts] - best.cost
    order = np.lexsort((around.scale * gain + wrong[firsts], gain >= 0))
    for first in firsts[order][:PAIRS].tolist():
        decision = int(space.layout.owner[first])
        before = int(around.selection[decision])
        around.move(decision, first - int(offsets[decision]))
        wrong, cost = around.look()
        good = possible & (wrong <= 0) & (cost < best.cost - ROUNDING * abs(best.cost))
        good[offsets[decision] : offsets[decision + 1]] = False
        if good.any():
            second = int(np.where(good, cost, np.inf).argmin())
            other = int(space.layout.owner[second])
            around.move(other, second - int(offsets[other]))
            if best.offer(around):
                yield True
                return
            around.move(other, int(best.visit.selection[other]))
        around.move(decision, before)
        yield False


def rounds(
    around: Surroundings,
    best: Best,
    rng: np.random.Generator,
    *,
    allowed: NDArray[np.bool_] | None = None,
    again: bool = True,
    patience: int = PATIENCE,
    walks: int = WALKS,
) -> Iterator[bool]:
    """Walk, exchange, and begin again from a disturbed good selection; yield as `walk` does."""
    paired, fruitless = None, 0
    while fruitless < walks:
        before, stale = best.visit, 0
        for better in walk(around, best, rng, allowed):
            yield better
            stale = 0 if better else stale + 1
            if stale > patience:
                break
        found = False
        if best.visit.violation == 0 and best.visit is not paired and around.state is not None:
            paired = best.visit
            for found in exchange(around, best, allowed):
                yield found
        if found:
            around.stand(best.visit.selection)
            continue
        if not again:
            return
        fruitless = 0 if best.visit is not before else fruitless + 1
        around.stand(shaken(around.space, best.visit.selection, rng, allowed))


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

    A few random selections are evaluated first, and the first walk begins at `start`, or at the best of them. A walk
    ends after `patience` switches without a better selection. Without an objective the first selection without
    violation ends the search.
    """
    drawn = [draw(space, allowed, rng) for _ in range(SAMPLE)]
    begin = drawn[0] if start is None else start
    if constraints:
        rows = np.stack(drawn if start is None else [start, *drawn])
        held = np.ones(len(rows), dtype=bool)
        for c in constraints:
            held[held] = c.holds(rows[held]) if held.any() else False
        if held.any() and objective is None:
            return Visit(rows[held.argmax()], 0.0, 0.0)
        if start is None and held.any():
            begin = rows[held.argmax()]
    around = surround(space, constraints, objective, sign, begin, probes=np.stack(drawn[:PROBES]))
    best = Best(None, constraints, Visit(begin, np.inf, np.inf))
    best.offer(around)
    if not (objective is None and best.visit.violation == 0):
        for _ in rounds(around, best, rng, allowed=allowed, patience=patience, walks=restarts):
            if stop() or (objective is None and best.visit.violation == 0):
                break
    visit = best.visit
    return Visit(visit.selection, visit.violation, sign * visit.value)


def swap(
    problem: Problem,
    best: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    allowed: NDArray[np.bool_] | None = None,
    again: bool = False,
    prices: NDArray[np.float64] | None = None,
) -> Iterator[Finding | None]:
    """Improve a feasible selection of any problem by switches; yield what is better, and None in between.

    Parameters
    ----------
    problem : Problem
    best : ndarray of int, shape (n_decisions,)
    rng : numpy.random.Generator
    allowed : bool array of shape (n_options,), optional
    again : bool
        Continue from disturbed good selections, until `WALKS` walks in a row find nothing better. Otherwise the search
        ends where neither a walk nor an exchange finds a better selection.
    prices : ndarray of shape (n_constraints,), optional
        What a unit of each constraint costs in the objective, such as Lagrangian multipliers.
    """
    space, constraints = problem.space, problem.constraints
    known = Best(problem, constraints, Visit(best, 0.0, problem.cost(best)))
    probes: NDArray | None = np.stack([draw(space, allowed, rng) for _ in range(PROBES)])
    while True:
        around = surround(
            space, constraints, problem.objective, problem.sign, known.visit.selection, probes=probes, prices=prices
        )
        for better in rounds(around, known, rng, allowed=allowed, again=again):
            yield Finding(known.visit.selection) if better else None
            if known.mistakes > MISTAKES and probes is not None:
                break
        else:
            return
        probes, known.mistakes = None, 0


def shaken(
    space: ChoiceSpace, selection: NDArray[np.int64], rng: np.random.Generator, allowed: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """A selection with two or three of its decisions drawn anew, or up to a fifth of them where that is more."""
    most = min(max(3, space.n_decisions // 5), space.n_decisions)
    changed = rng.choice(space.n_decisions, rng.integers(min(2, most), most + 1), replace=False)
    drawn = selection.copy()
    drawn[changed] = draw(space, allowed, rng)[changed]
    return drawn


def draw(space: ChoiceSpace, allowed: NDArray[np.bool_] | None, rng: np.random.Generator) -> NDArray[np.int64]:
    """A random selection of allowed options."""
    score = rng.random(space.n_options)
    return space.layout.argmax(score if allowed is None else np.where(allowed, score, -1.0))
