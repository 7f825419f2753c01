"""Tabu search over switches, that is, changes of one decision; pairs and compound moves are tried as well.

A walk repeatedly makes the best switch that is not tabu. Switches are ranked by objective plus weighted violation. The
weight of a constraint grows while it is violated and shrinks while it is satisfied, so that the walk keeps crossing the
boundary of the feasible region (strategic oscillation; Glover & Hao, 2011). After a walk, the compound moves that the
metrics propose (`Metric.moves`) and pairs of switches are tried at the best selection. The next walk begins there or at
a perturbed copy of it (iterated local search; Lourenço, Martin & Stützle, 2003).

Constraints that are sums form the rows of one matrix. If a relaxation gives reduced costs, switches are ranked by a
weighted mean of objective and reduced cost. A black box that seems to be a sum is treated as one
(`cggd.improve.reveal`), until this has led to too many false improvements. For other black boxes, only some switches
are evaluated before each move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, count, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd.budget import Budget
from cggd.constraints import Constraint
from cggd.improve.reveal import draw, revealed
from cggd.incumbent import Finding, Incumbent
from cggd.metrics import Metric, State
from cggd.metrics.base import worsened
from cggd.metrics.state import REFRESHED, Recomputed, SumState, Switch
from cggd.problem import Problem, nothing
from cggd.program import lagrangian
from cggd.space import ChoiceSpace

# Largest tabu tenure of a walk; each walk draws its own. A decision stays tabu for the tenure plus a random number of
# up to as many switches. Taillard's robust tabu search uses tenures of this order for tens to hundreds of moves.
TENURE = 8

# A walk ends after PATIENCE switches without a better selection. The search ends after WALKS such walks in a row. If a
# constraint is not a sum, a walk ends after 2 * LOOKS switches. If tables are sampled, it ends after about as many
# evaluations as LOOKS tables hold. In small spaces it ends sooner (`Surroundings.patience`).
PATIENCE = 1000
LOOKS = 50
WALKS = 200

# Number of first switches of pairs that are tried. Each one needs replacement tables after the switch. As many compound
# moves are followed by further switches.
PAIRS = 128

# Largest number of switches that follow a compound move.
FOLLOWING = 12

# After each switch, the weight of a violated constraint is multiplied by PRESSURE, and that of a satisfied one divided
# by it. Weights stay within a factor of HEAVIEST of their initial values. PRESSURE was chosen from 1.005 to 1.2, on
# c_21, d05100 and e10100.
PRESSURE = 1.03
HEAVIEST = 1e4

# Range of the weight of the reduced costs in the score; each walk draws its own. The objective has the rest.
SHARES = (0.5, 1.0)

# Share of the walks that begin at a perturbed selection, and share of its decisions that are drawn again.
SHAKEN = 0.5
REDRAWN = 1 / 30

# Number of switches evaluated before each move if tables are sampled. Of 16 to 200, values of 50 to 100 are the best on
# knapsacks with interactions (I03, I04, I07).
CANDIDATES = 64

# Number of random selections that a search for feasibility evaluates first.
SAMPLE = 32

# Number of false improvements after which black boxes are no longer treated as sums.
MISTAKES = 20

# Relative weight of the violations of a maximum's parts, added to that of the maximum itself.
LOCAL = 1e-3

# A relative improvement below this is attributed to rounding.
ROUNDING = 1e-12

# Stands for the cost and the violation of an invalid selection: worse than all others.
INVALID = 1e100

# Relative gap to the bound of a relaxation below which there is no local search without a time limit.
CLOSE = 1e-6

# Seconds per option until the first check of the budget, measured with 2e6 options and rounded up.
SWITCHES_SECONDS = 1e-6

# Number of a turn that no walk reaches.
FOREVER = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Visit:
    """A selection, its total violation, and its cost; in the result of `search`, `value` is the objective."""

    selection: NDArray[np.int64]
    violation: float
    value: float


# -- a selection and all selections one switch away -------------------------------------------------------------------


class _Rows:
    """Constraints that are sums, as rows of a matrix; `excess` is the value of each minus its limit."""

    states: Sequence[State] = ()

    def __init__(self, space: ChoiceSpace, rows: NDArray[np.float64], limits: NDArray[np.float64]) -> None:
        self.space, self.rows, self.limits = space, rows, limits
        self.room = np.empty_like(rows)

    def stand(self, selection: NDArray[np.int64]) -> None:
        chosen = self.rows[:, self.space.layout.flat(selection)]
        self.excess = chosen.sum(axis=1) - self.limits
        self.gain = self.rows - self.space.layout.spread(chosen)

    def refresh(self, selection: NDArray[np.int64]) -> None:
        self.stand(selection)

    def move(self, switches: Sequence[Switch]) -> None:
        for decision, option in switches:
            first, last = self.space.offsets[decision], self.space.offsets[decision + 1]
            self.excess += self.gain[:, first + option]
            self.gain[:, first:last] = self.rows[:, first:last] - self.rows[:, first + option, None]

    def exchanged(self, weights: NDArray[np.float64], first: Switch, options: NDArray[np.int64]) -> NDArray[np.float64]:
        excess = self.excess + self.gain[:, self.space.offsets[first[0]] + first[1]]
        return weights @ np.maximum(self.gain[:, options] + excess[:, None], 0.0)

    def violation(self, weights: NDArray[np.float64], options: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        if options is not None:
            return weights @ np.maximum(self.gain[:, options] + self.excess[:, None], 0.0)
        np.add(self.gain, self.excess[:, None], out=self.room)
        np.maximum(self.room, 0.0, out=self.room)
        return weights @ self.room


class _Shares:
    """Constraints that are sums, where each option is in at most one and no two options of a decision share one.

    An example is the loads of agents in an assignment problem. One vector over the options holds all coefficients.
    """

    states: Sequence[State] = ()

    def __init__(self, space: ChoiceSpace, rows: NDArray[np.float64], limits: NDArray[np.float64]) -> None:
        self.space, self.limits = space, limits
        self.row: NDArray[np.int64] = np.where((rows != 0).any(axis=0), (rows != 0).argmax(axis=0), len(rows)).astype(
            np.int64
        )
        self.use = rows.sum(axis=0)

    @staticmethod
    def fit(space: ChoiceSpace, rows: NDArray[np.float64]) -> bool:
        counts = rows != 0
        once = space.layout.reduce(np.add, counts.astype(np.int64)).max(initial=0) <= 1
        return len(rows) > 1 and bool(once and counts.sum(axis=0).max() <= 1)

    def stand(self, selection: NDArray[np.int64]) -> None:
        self.here = self.space.layout.flat(selection)
        # The last entry collects the options that are in no sum.
        loads = np.bincount(self.row[self.here], weights=self.use[self.here], minlength=len(self.limits) + 1)
        self.loads = loads.astype(float) - np.append(self.limits, 1.0)

    @property
    def excess(self) -> NDArray[np.float64]:
        return self.loads[:-1]

    def refresh(self, selection: NDArray[np.int64]) -> None:
        self.stand(selection)

    def move(self, switches: Sequence[Switch]) -> None:
        for decision, option in switches:
            before, after = int(self.here[decision]), int(self.space.offsets[decision]) + option
            self.loads[self.row[before]] -= self.use[before]
            self.loads[self.row[after]] += self.use[after]
            self.here[decision] = after

    def exchanged(self, weights: NDArray[np.float64], first: Switch, options: NDArray[np.int64]) -> NDArray[np.float64]:
        loads, before = self.loads.copy(), self.here[first[0]]
        self.move([first])
        table = self.violation(weights, options)
        self.loads, self.here[first[0]] = loads, before
        return table

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
    """All other constraints, evaluated by the replacement tables of their states."""

    def __init__(self, constraints: Sequence[Constraint], limits: NDArray[np.float64]) -> None:
        self.constraints, self.limits = constraints, limits
        self.states: list[State] = []

    def stand(self, selection: NDArray[np.int64]) -> None:
        self.states = [constraint_state(c, selection) for c in self.constraints]

    @property
    def excess(self) -> NDArray[np.float64]:
        values = [c.sign * state.value for c, state in zip(self.constraints, self.states, strict=True)]
        return _valid(np.array(values) - self.limits, INVALID)

    def refresh(self, selection: NDArray[np.int64]) -> None:
        pass  # states refresh themselves

    def move(self, switches: Sequence[Switch]) -> None:
        for state in self.states:
            state.move(switches)

    def exchanged(
        self, weights: NDArray[np.float64], first: Switch, options: NDArray[np.int64]
    ) -> NDArray[np.float64] | None:
        total = np.zeros(len(options))
        for c, state, limit, weight in zip(self.constraints, self.states, self.limits, weights, strict=True):
            if (table := state.exchanges(first)) is None:
                return None
            total += weight * np.maximum(c.sign * table[options] - limit, 0.0)
        return total

    def violation(
        self, weights: NDArray[np.float64], options: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64] | float:
        total = 0.0
        for c, state, limit, weight in zip(self.constraints, self.states, self.limits, weights, strict=True):
            table = state.table() if options is None else state.entries(options)
            total = total + weight * np.maximum(_valid(c.sign * table - limit, INVALID), 0.0)
            # If several parts exceed the bound, often no single switch lowers the maximum; the tables of the parts then
            # distinguish switches.
            if options is None and c.metric.parted and c.sign * state.value > limit:
                parts = _valid(c.sign * state.local_table() - limit, INVALID)
                total += LOCAL * weight * np.maximum(parts, 0.0)
        return total


def constraint_state(constraint: Constraint, selection: NDArray[np.int64]) -> State:
    """State of a constraint's metric, or of its confidence limit if the constraint has a confidence."""
    if constraint.confidence is None:
        return constraint.metric.state(selection)
    local = partial(constraint.table, local=True)
    return Recomputed(constraint.space, selection, constraint.values, constraint.table, local, sampled=False)


def _valid(numbers: NDArray, instead: float) -> NDArray:
    """Numbers with `instead` for NaN."""
    return np.where(np.isnan(numbers), instead, numbers) if np.isnan(np.sum(numbers)) else numbers


class _Aim:
    """The objective as a cost to minimise, and the score that ranks switches in a walk.

    Parameters
    ----------
    metric : Metric
    sign : float
        1 to minimise the metric, -1 to maximise it.
    scale : float
        Reciprocal of the spread of the cost, so that scores do not depend on its unit.
    priced : ndarray of shape (n_options,), optional
        Reduced costs of the options, if the objective is a sum.
    """

    metric: Metric
    sign: float
    scale: float
    priced: NDArray[np.float64] | None
    share: float
    state: State
    guide: SumState | None

    def __init__(self, metric: Metric, sign: float, scale: float, priced: NDArray[np.float64] | None = None) -> None:
        self.metric, self.sign, self.scale, self.priced = metric, sign, scale, priced
        self.share = 1.0

    def stand(self, selection: NDArray[np.int64]) -> None:
        self.state, self.guide = self.metric.state(selection), None
        if self.priced is not None and self.state.weights is not None:
            weights = (1.0 - self.share) * self.sign * self.state.weights + self.share * self.priced
            self.guide = SumState(self.metric.space, weights, 0.0, selection)

    @property
    def cost(self) -> float:
        return float(_valid(np.asarray(self.sign * self.state.value), INVALID))

    def move(self, switches: Sequence[Switch]) -> None:
        self.state.move(switches)
        if self.guide is not None:
            self.guide.move(switches)

    def costs(self, options: NDArray[np.int64] | None) -> NDArray[np.float64]:
        table = self.state.table() if options is None else self.state.entries(options)
        table = _valid(table, self.sign * INVALID)
        return table if self.sign > 0 else -table

    def scores(self, costs: NDArray[np.float64], options: NDArray[np.int64] | None) -> NDArray[np.float64]:
        if self.guide is None:
            return self.scale * costs
        return self.scale * (self.guide.table() if options is None else self.guide.entries(options))


class Surroundings:
    """A selection, and the weighted violations and costs of all selections one switch away.

    Parameters
    ----------
    space : ChoiceSpace
    aim : _Aim
    parts : list
        The constraints, grouped by how their violation is computed.
    units : ndarray of shape (n_constraints,)
        Weights of the constraints in the total violation: the reciprocal of each metric's spread. They are also the
        initial weights in the score.
    """

    space: ChoiceSpace
    aim: _Aim
    parts: Sequence[Any]
    units: NDArray[np.float64]
    weights: NDArray[np.float64]
    cuts: list[slice]
    selection: NDArray[np.int64]
    moves: int

    def __init__(self, space: ChoiceSpace, aim: _Aim, parts: Sequence[Any], units: NDArray[np.float64]) -> None:
        self.space, self.aim, self.parts, self.units, self.weights = space, aim, parts, units, units.copy()
        self.cuts = [slice(*cut) for cut in pairwise(np.cumsum([0, *(len(part.limits) for part in parts)]).tolist())]

    def stand(self, selection: NDArray[np.int64]) -> None:
        """Go to a selection."""
        self.selection, self.moves = selection.copy(), 0
        for part in (*self.parts, self.aim):
            part.stand(self.selection)

    @property
    def sampled(self) -> bool:
        """Whether some replacement table takes one evaluation per option."""
        return any(state.sampled for state in (self.aim.state, *(s for part in self.parts for s in part.states)))

    @property
    def patience(self) -> int:
        """Number of switches without a better selection after which a walk ends; fewer if switches are expensive."""
        n = self.space.n_options
        if self.sampled:
            return min(PATIENCE, LOOKS * max(n // CANDIDATES, 1))
        return min(PATIENCE if all(len(part.states) == 0 for part in self.parts) else 2 * LOOKS, LOOKS + 5 * n)

    @property
    def excess(self) -> NDArray[np.float64]:
        """Value minus limit of each constraint, shape (n_constraints,)."""
        return np.concatenate([part.excess for part in self.parts]) if self.parts else np.zeros(0)

    def look(self, options: NDArray[np.int64] | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weighted violation and cost after switching to each option, or to each of the given ones."""
        n = self.space.n_options if options is None else len(options)
        wrong = np.zeros(n)
        for part, cut in zip(self.parts, self.cuts, strict=True):
            wrong += part.violation(self.weights[cut], options)
        return wrong, self.aim.costs(options)

    def look_after(
        self, first: Switch, options: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """`look` after a switch, for options of other decisions; None if a state would have to make the switch."""
        if (table := self.aim.state.exchanges(first)) is None:
            return None
        wrong = np.zeros(len(options))
        for part, cut in zip(self.parts, self.cuts, strict=True):
            if (more := part.exchanged(self.weights[cut], first, options)) is None:
                return None
            wrong += more
        return wrong, self.aim.sign * table[options]

    def back(self, switches: Sequence[Switch]) -> list[Switch]:
        """The switches that undo others."""
        return [(decision, int(self.selection[decision])) for decision, _ in switches]

    def move(self, switches: Sequence[Switch]) -> None:
        """Switch one or several distinct decisions."""
        self.moves += 1
        for decision, option in switches:
            self.selection[decision] = option
        for part in (*self.parts, self.aim):
            part.move(switches)
        if self.moves % REFRESHED == 0:
            for part in self.parts:
                part.refresh(self.selection)

    def press(self, excess: NDArray[np.float64]) -> None:
        """Increase the weights of violated constraints, and decrease the others."""
        self.weights *= np.where(excess > 0, PRESSURE, 1.0 / PRESSURE)
        np.minimum(np.maximum(self.weights, self.units / HEAVIEST), self.units * HEAVIEST, out=self.weights)


def surround(
    problem: Problem, selection: NDArray[np.int64], *, reduced: NDArray[np.float64] | None = None
) -> Surroundings:
    """The surroundings of a selection; see `swap` for the reduced costs."""
    space = problem.space
    rows, sums, others = [], [], []
    for c in problem.constraints:
        if np.isinf(c.bound):
            continue
        state = constraint_state(c, selection)
        unit = 1.0 / (float(np.ptp(worsened(state.table(), c.sign))) or max(abs(c.bound), 1e-12))
        slack = 0.0 if c.confidence else 2 * float(np.max(c.metric.rounded(selection[None], c.sign)[1]))
        if state.weights is None:
            others.append((c, c.limit + slack, unit))
        else:
            constant = state.value - float(state.weights[space.layout.flat(selection)].sum(dtype=float))
            rows.append(c.sign * state.weights)
            sums.append((c.limit + slack - c.sign * constant, unit))
    parts: list[Any] = []
    if rows:
        matrix = np.stack(rows).astype(float)
        parts.append(
            (_Shares if _Shares.fit(space, matrix) else _Rows)(space, matrix, np.array([limit for limit, _ in sums]))
        )
    if others:
        parts.append(_Tables([c for c, *_ in others], np.array([limit for _, limit, _ in others])))
    state, priced = problem.objective.state(selection), None
    row = worsened(state.table(), problem.sign)
    if reduced is not None and state.weights is not None:
        row = priced = np.where(np.isfinite(reduced), reduced, reduced[np.isfinite(reduced)].max(initial=0.0))
    aim = _Aim(problem.objective, problem.sign, 1.0 / (float(np.ptp(row)) or 1.0), priced)
    around = Surroundings(space, aim, parts, np.array([unit for *_, unit in (*sums, *others)]))
    around.stand(selection)
    return around


# -- the search -------------------------------------------------------------------------------------------------------


class Best:
    """The best selection of a search, by violation, then by cost; feasible ones are evaluated again."""

    problem: Problem
    visit: Visit
    mistakes: int

    def __init__(self, problem: Problem, visit: Visit) -> None:
        self.problem, self.visit, self.mistakes = problem, visit, 0

    @property
    def found(self) -> bool:
        """Whether a feasible selection is known."""
        return self.visit.violation == 0

    def beats(self) -> float:
        """The cost below which a feasible selection is better than the best one."""
        return self.visit.value - ROUNDING * abs(self.visit.value) if self.found else np.inf

    def offer(self, selection: NDArray[np.int64], violation: float, cost: float) -> bool:
        """Keep a selection if it is better; return whether it was."""
        if violation > 0:
            if violation >= self.visit.violation:
                return False
        elif cost >= self.beats():
            return False
        else:
            cost = self.problem.cost(selection) if self.problem.satisfied(selection) else np.inf
            if cost >= self.beats():
                self.mistakes += 1
                return False
        self.visit = Visit(selection.copy(), violation, cost)
        return True


def walk(
    around: Surroundings,
    best: Best,
    rng: np.random.Generator,
    *,
    tenure: int = TENURE,
) -> Iterator[bool]:
    """Make switches repeatedly; yield after each one whether the selection is the best so far.

    Each switch is the best one that is not tabu, or one that leads to a new best feasible selection.
    """
    space, tabu = around.space, _Tabu(around.space, around.selection, best.problem.allowed, tenure)
    owner, first, sampled = space.layout.owner, space.offsets.tolist(), around.sampled
    hopes = np.full(space.n_options, -np.inf)
    blind_until = 0  # after a false improvement, none is looked for until this turn, so that the walk moves on
    for turn in count(1):
        options = tabu.free(turn)
        if len(options) == 0:
            return
        if sampled:
            options = _candidates(options, hopes, rng)
        wrong, cost = around.look(options if sampled else None)
        at = -1
        if turn >= blind_until and wrong.min() <= 0:
            good = np.flatnonzero((wrong <= 0) & (cost < best.beats()))
            if not sampled:
                good = good[tabu.until[good] < FOREVER]
            if len(good):
                at = int(good[cost[good].argmin()])
        if at < 0:
            score = wrong + around.aim.scores(cost, options if sampled else None)
            if sampled:
                hopes[options] = score - float(np.median(score))
            else:
                score = score[options]
            ties = np.flatnonzero(score == score.min())
            at = int(ties[rng.integers(len(ties))] if len(ties) > 1 else ties[0])
            at = at if sampled else int(options[at])
        chosen = int(options[at]) if sampled else at
        decision = int(owner[chosen])
        around.move([(decision, chosen - first[decision])])
        tabu.switched(decision, chosen, turn + 1 + tenure + int(rng.integers(0, tenure + 1)))
        excess = around.excess
        around.press(excess)
        mistakes = best.mistakes
        yield best.offer(around.selection, float(np.maximum(excess, 0.0) @ around.units), around.aim.cost)
        if best.mistakes > mistakes:
            blind_until = turn + tenure


def _candidates(options: NDArray[np.int64], hopes: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Options to evaluate: half random, half those never evaluated or with the best score when last evaluated."""
    if len(options) <= CANDIDATES:
        return options
    drawn = rng.permutation(options)
    first = drawn[: CANDIDATES // 2]
    rest = drawn[CANDIDATES // 2 :]
    return np.concatenate([first, rest[np.argpartition(hopes[rest], CANDIDATES // 2)[: CANDIDATES // 2]]])


class _Tabu:
    """The turn until which each option is tabu; selected and forbidden options always are."""

    def __init__(
        self, space: ChoiceSpace, selection: NDArray[np.int64], allowed: NDArray[np.bool_] | None, tenure: int
    ) -> None:
        self.offsets = space.offsets.tolist()
        self.never = np.zeros(space.n_options, dtype=np.int64) if allowed is None else np.where(allowed, 0, FOREVER)
        self.until = self.never.copy()
        self.until[space.layout.flat(selection)] = FOREVER

    def free(self, turn: int) -> NDArray[np.int64]:
        """Options that are not tabu; if there are none, those that are tabu only for some turns."""
        options = np.flatnonzero(self.until <= turn)
        return options if len(options) else np.flatnonzero(self.until < FOREVER)

    def switched(self, decision: int, chosen: int, until: int) -> None:
        own = slice(self.offsets[decision], self.offsets[decision + 1])
        self.until[own] = np.maximum(self.never[own], until)
        self.until[chosen] = FOREVER


def exchange(around: Surroundings, best: Best, rng: np.random.Generator) -> Iterator[bool]:
    """Try pairs of switches at the best selection; yield after each first switch whether a pair improved it.

    First switches that improve the objective are tried before others; among these, the best score comes first.
    """
    space, offsets, owner = around.space, around.space.offsets.tolist(), around.space.layout.owner
    around.stand(best.visit.selection)
    allowed = best.problem.allowed
    possible = np.ones(space.n_options, dtype=bool) if allowed is None else allowed.copy()
    possible[space.layout.flat(around.selection)] = False
    options = np.flatnonzero(possible)

    def some() -> NDArray[np.int64]:
        return rng.permutation(options)[:CANDIDATES] if around.sampled else options

    firsts = some()
    wrong, cost = around.look(firsts)
    order = np.lexsort((wrong + around.aim.scale * cost, cost >= best.visit.value))
    told = True  # whether states give the effect of two switches together
    for first in firsts[order][:PAIRS].tolist():
        decision = int(owner[first])
        switch = (decision, first - offsets[decision])
        seconds = some()
        seconds = seconds[owner[seconds] != decision]
        seen = around.look_after(switch, seconds) if told else None
        if seen is None:
            told, back = False, around.back([switch])
            around.move([switch])
            seen = around.look(seconds)
            around.move(back)
        wrong, cost = seen
        good = np.flatnonzero((wrong <= 0) & (cost < best.beats()))
        if len(good):
            second = int(seconds[good[cost[good].argmin()]])
            pair = around.selection.copy()
            for at in (first, second):
                pair[owner[at]] = at - offsets[owner[at]]
            if best.offer(pair, 0.0, float(cost[good].min())):
                yield True
                return
        yield False


def compound(around: Surroundings, best: Best, rng: np.random.Generator) -> Iterator[bool]:
    """Try the compound moves that metrics propose at the best selection; yield after each whether it improved that.

    Each move is tried alone. If none improves the selection, the most promising ones are tried with switches of other
    decisions that follow: the best ones until the constraints are satisfied, then those that improve the objective.
    """
    while True:
        around.stand(best.visit.selection)
        proposals, scores, before = _proposed(best.problem, around.selection), [], best.visit
        for switches in proposals:
            back = around.back(switches)
            around.move(switches)
            better, violation = _offered(around, best)
            scores.append(violation + around.aim.scale * around.aim.cost)
            if not better:
                around.move(back)
            yield better
        if best.visit is not before:
            continue
        for at in np.argsort(scores, kind="stable")[:PAIRS].tolist():
            if better := _followed(around, best, proposals[at], rng):
                yield True
                break
            yield False
        else:
            return


def _offered(around: Surroundings, best: Best) -> tuple[bool, float]:
    """Offer the selection as the best one; return whether it is better, and its weighted violation."""
    over = np.maximum(around.excess, 0.0)
    return best.offer(around.selection, float(over @ around.units), around.aim.cost), float(over @ around.weights)


def _proposed(problem: Problem, selection: NDArray[np.int64]) -> list[Sequence[Switch]]:
    """The compound moves of all metrics that change the selection to allowed options."""
    offsets, allowed = problem.space.offsets, problem.allowed
    moves: dict[tuple[Switch, ...], None] = {}
    for switches in chain.from_iterable(metric.moves(selection.copy()) for metric in problem.metrics):
        made = tuple((int(d), int(o)) for d, o in switches if selection[d] != o)
        if made and (allowed is None or all(allowed[offsets[d] + o] for d, o in made)):
            moves[made] = None
    return list(moves)


def _followed(around: Surroundings, best: Best, switches: Sequence[Switch], rng: np.random.Generator) -> bool:
    """Make a compound move and the switches that follow it; undo all of them unless they improve the best selection."""
    space, owner = around.space, around.space.layout.owner
    allowed, before = best.problem.allowed, around.selection.copy()
    around.move(switches)
    free = np.ones(space.n_options, dtype=bool) if allowed is None else allowed.copy()
    free &= ~np.isin(owner, [decision for decision, _ in switches])
    free[space.layout.flat(around.selection)] = False
    for _ in range(FOLLOWING):
        options = np.flatnonzero(free)
        options = rng.permutation(options)[:CANDIDATES] if around.sampled else options
        if len(options) == 0:
            break
        wrong, cost = around.look(options)
        good = np.flatnonzero((wrong <= 0) & (cost < best.beats()))
        if len(good) == 0 and not (around.excess > 0).any():
            good = np.flatnonzero((wrong <= 0) & (cost < around.aim.cost))
            if len(good) == 0:
                break
        at = good[cost[good].argmin()] if len(good) else (wrong + around.aim.scores(cost, options)).argmin()
        decision = int(owner[options[at]])
        around.move([(decision, int(options[at] - space.offsets[decision]))])
        free &= owner != decision
        if _offered(around, best)[0]:
            return True
    around.move([(int(d), int(before[d])) for d in np.flatnonzero(around.selection != before)])
    return False


def rounds(
    around: Surroundings,
    best: Best,
    rng: np.random.Generator,
    *,
    again: bool = True,
    patience: int | None = None,
    walks: int = WALKS,
) -> Iterator[bool]:
    """Repeat `walk`, `compound` and `exchange` from the best selection or a perturbed copy; yield as `walk` does."""
    patience = around.patience if patience is None else patience
    paired, fruitless = None, 0
    while fruitless < walks:
        before, stale = best.visit, 0
        for better in walk(around, best, rng, tenure=_tenure(around.space, rng)):
            yield better
            stale = 0 if better else stale + 1
            if stale > patience:
                break
        found = False
        for attempt in (compound, exchange) if best.visit is not paired else ():
            if best.found or attempt is compound:
                for better in attempt(around, best, rng):
                    found |= better
                    yield better
            if found:
                break
        paired = best.visit if not found else None
        if not (found or again):
            return
        fruitless = 0 if best.visit is not before else fruitless + 1
        around.aim.share = rng.uniform(*SHARES)
        start = best.visit.selection
        around.stand(start if found or rng.random() >= SHAKEN else shaken(best.problem, start, rng))


def _tenure(space: ChoiceSpace, rng: np.random.Generator) -> int:
    most = min(TENURE, (space.n_decisions - 1) // 2)
    return int(rng.integers(1, most + 1)) if most else 0


def improve(
    problem: Problem,
    best: Best,
    rng: np.random.Generator,
    *,
    reduced: NDArray[np.float64] | None = None,
    budget: Budget | None = None,
    **how: Any,
) -> Iterator[bool]:
    """`rounds` from the best selection; black boxes that seem to be sums are treated as sums while that works."""
    seen = revealed(problem, best.visit.selection, rng)
    if seen is not problem and reduced is None and (relaxed := lagrangian.relax(seen, budget)) is not None:
        reduced = relaxed.reduced()
        if relaxed.selection is not None:
            yield best.offer(relaxed.selection, 0.0, problem.sign * float(relaxed.value or 0.0))
    while True:
        around = surround(seen, best.visit.selection, reduced=reduced)
        excess = around.excess
        yield best.offer(around.selection, float(np.maximum(excess, 0.0) @ around.units), around.aim.cost)
        for better in rounds(around, best, rng, **how):
            yield better
            if best.mistakes > MISTAKES and seen is not problem:
                break
        else:
            return
        seen, reduced = problem, None


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
    """The best selection of several walks, by violation, then by objective.

    The start and a few random selections are evaluated first, and the first walk begins at the best of them. A walk
    ends after `patience` switches without a better selection. Without an objective, the search ends at the first
    feasible selection.
    """
    aim = nothing(space) if objective is None else objective
    problem = Problem(aim, constraints, "minimize" if sign > 0 else "maximize", allowed)
    best = Best(problem, _sampled(problem, start, rng))
    if not (objective is None and best.found):
        for _ in improve(problem, best, rng, patience=patience, walks=restarts):
            if stop() or (objective is None and best.found):
                break
    # The value of a selection that violates a constraint may be that of a black box treated as a sum.
    return Visit(best.visit.selection, best.visit.violation, sign * problem.cost(best.visit.selection))


def _sampled(problem: Problem, start: NDArray[np.int64] | None, rng: np.random.Generator) -> Visit:
    """A feasible one of the start and random selections; otherwise the start, or a random one if there is no start."""
    drawn = np.stack([draw(problem, rng) for _ in range(SAMPLE)])
    begin = drawn[0] if start is None else np.array(start, dtype=np.int64)
    for rows in (drawn,) if start is None else (begin[None], drawn):
        for c in problem.constraints:
            held = rows[c.holds(rows)]
            if len(held) == 0:
                break
            rows = held
        else:
            return Visit(rows[0], 0.0, problem.cost(rows[0]))
        begin = rows[0] if start is None else begin
    return Visit(begin, np.inf, np.inf)


def swap(
    problem: Problem,
    best: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    again: bool = False,
    reduced: NDArray[np.float64] | None = None,
    patience: int | None = None,
    budget: Budget | None = None,
) -> Iterator[Finding | None]:
    """Improve a feasible selection by local search; yield better selections, and None in between.

    Parameters
    ----------
    problem : Problem
    best : ndarray of int, shape (n_decisions,)
    rng : numpy.random.Generator
    again : bool
        Continue until `WALKS` walks in a row find nothing better. Otherwise the search ends after the first round in
        which no pair of switches improves the best selection.
    reduced : ndarray of shape (n_options,), optional
        Reduced costs of the options in a relaxation. They guide the walk if the objective is a sum.
    patience : int, optional
        Number of switches without a better selection after which a walk ends.
    budget : Budget, optional
        Budget for the relaxation of black boxes that seem to be sums.
    """
    known = Best(problem, Visit(best, 0.0, problem.cost(best)))
    for better in improve(problem, known, rng, again=again, reduced=reduced, patience=patience, budget=budget):
        yield Finding(known.visit.selection) if better else None


def shaken(problem: Problem, selection: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """A copy with two or three decisions drawn again, or up to a share of `REDRAWN` if that is more."""
    n = problem.space.n_decisions
    most = min(max(3, int(REDRAWN * n)), n)
    changed = rng.choice(n, rng.integers(min(2, most), most + 1), replace=False)
    drawn = selection.copy()
    drawn[changed] = draw(problem, rng)[changed]
    return drawn


@dataclass(frozen=True)
class Switches:
    """Tabu search over switches, for any problem.

    Parameters
    ----------
    feasible : bool
        Only search for a feasible selection; do nothing if one is known.
    share : float
        Share of the time left.
    patience : int, optional
        Number of switches without a better selection after which a walk ends; by default up to 1,000.
    """

    feasible: bool = False
    share: float = 1.0
    patience: int | None = None

    def suits(self, problem: Problem) -> bool:
        """Always true."""
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
        if not budget.limited and incumbent.relaxed is not None and incumbent.gap <= CLOSE:
            return  # a walk over a million decisions would take minutes
        if incumbent.selection is None and problem.constraints:
            how = {"allowed": problem.allowed, "start": incumbent.start, "stop": mine.over}
            visit = search(problem.space, problem.constraints, None, rng, **how)
            yield Finding(visit.selection)
        if incumbent.selection is not None and not self.feasible:
            reduced = None if incumbent.relaxed is None else incumbent.relaxed.reduced()
            how = {"again": budget.limited, "reduced": reduced, "patience": self.patience, "budget": mine}
            for finding in swap(problem, incumbent.selection, rng, **how):
                yield finding
                if mine.over():
                    return
