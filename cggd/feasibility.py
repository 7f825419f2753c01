"""Feasibility: find a selection that satisfies every constraint, or prove that there is none and say why."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cggd.checks import as_number, whole
from cggd.constraints import Constraint, Row, check_constraints
from cggd.expressions import Program
from cggd.improve.switches import Visit, search
from cggd.metrics import Metric, afresh, values_of
from cggd.problem import Problem
from cggd.program.bounds import SMALL
from cggd.program.grid import grid
from cggd.program.highs import LinearProgram, NotLinearError, Outcome, Solution
from cggd.program.presolve import impossible
from cggd.program.settle import settle
from cggd.result import Status
from cggd.rounding import number_text
from cggd.space import ENUMERABLE, ChoiceSpace

# Selections that may be evaluated one and all, to prove what no formula proves: a second's work for stored tables, and
# for black boxes fewer calls than a search by replacement tables would make.
ENUMERATED = 1_000_000
ENUMERATED_CALLS = 4096

# Calls of a black box between two looks at the clock.
CALLS_AT_ONCE = 32

# What a solver may take beyond its time limit, which it looks at only now and then.
GRACE_SECONDS = 1.0


@dataclass(frozen=True, eq=False)
class Feasibility:
    """Whether constraints can be satisfied together.

    Attributes
    ----------
    status : Status
        FEASIBLE, INFEASIBLE (proved) or UNKNOWN.
    selection : dict or None
        A selection that satisfies them.
    indices : ndarray of int, shape (n_decisions,), or None
    constraints : list of Row
        The report of `selection`, or, where none was found, of the one that came nearest.
    proof : str
        How it is known; empty where it is not.
    """

    status: Status
    selection: dict[Hashable, Hashable] | None
    indices: NDArray[np.int64] | None
    constraints: Sequence[Row]
    proof: str

    @property
    def feasible(self) -> bool:
        """Whether a selection that satisfies them was found."""
        return self.status is Status.FEASIBLE


@dataclass(frozen=True, eq=False)
class SmallestBound:
    """The least bound of a metric that works, given other constraints.

    Attributes
    ----------
    value : float or None
        None where nothing satisfies the other constraints, or nothing that does was found.
    proved : bool
        Whether no smaller bound works (or, without a value, that no bound does); otherwise `value` works, and a
        smaller one may.
    selection : dict or None
        A selection that meets it.
    """

    metric: Metric
    sense: Literal["<=", ">="]
    value: float | None
    proved: bool
    selection: dict[Hashable, Hashable] | None

    def __str__(self) -> str:
        name, unit = self.metric.name, f" {self.metric.unit}" if self.metric.unit else ""
        if self.value is None:
            return f"no bound on {name} works" if self.proved else f"no bound on {name} that works was found"
        known = "is the tightest bound that works" if self.proved else "works, and is the tightest found"
        return f"{name} {self.sense} {number_text(self.value)}{unit} {known}"


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Whether constraints can be satisfied together, and if not, which of them conflict.

    Attributes
    ----------
    feasibility : Feasibility
    conflict : list of Constraint
        Constraints that cannot be satisfied together. Empty unless infeasibility is proved.
    minimal : bool
        Whether it is proved that without any one constraint of `conflict` the rest of them can be satisfied.
    remedies : list of SmallestBound
        For each constraint of `conflict`, the tightest bound that can be satisfied together with all other constraints.
    """

    feasibility: Feasibility
    conflict: Sequence[Constraint]
    minimal: bool
    remedies: Sequence[SmallestBound]

    def __str__(self) -> str:
        lines = [self.feasibility.status.value]
        if self.feasibility.proof:
            lines[0] += f"; {self.feasibility.proof}"
        if not self.conflict:
            return "\n".join(lines + [f"  {row}" for row in self.feasibility.constraints])
        these = "these bounds cannot be met together" if len(self.conflict) > 1 else "this bound cannot be met"
        lines.append(these + ("" if self.minimal else " (some of them may not be needed for that)"))
        lines += [f"  {c}" for c in self.conflict]
        if self.remedies:
            lines.append("what would work while the other bounds stay as they are")
            lines += [f"  {remedy}" for remedy in self.remedies]
        return "\n".join(lines)


def find_feasible(
    constraints: Iterable[Constraint] | Constraint,
    *,
    seed: int = 0,
    time_limit: float = 10.0,
    forbid: Mapping[Hashable, Iterable[Hashable]] | ArrayLike | None = None,
) -> Feasibility:
    """Find a selection that satisfies every constraint, or prove that there is none.

    The limits of each metric are tested first. Small spaces of stored or computed values are then enumerated. Otherwise
    an exact solver gets the constraints with a linear form. If that gives no answer, a search over replacement tables
    looks for the least violation. INFEASIBLE needs a proof. After a Ctrl-C the answer is UNKNOWN.

    Parameters
    ----------
    constraints : list of Constraint
    seed : int
    time_limit : float
        Seconds, after which the answer may be UNKNOWN.
    forbid : mapping of decision to options, or bool array of shape (n_options,), optional

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> space = ChoiceSpace.from_sizes([2, 2])
    >>> time, cost = Additive(space, [1, 5, 1, 5], name="time"), Additive(space, [5, 1, 5, 1], name="cost")
    >>> find_feasible([time <= 6, cost <= 6]).status.name
    'FEASIBLE'
    >>> answer = find_feasible([time <= 6, cost <= 5])
    >>> answer.status.name, answer.proof
    ('INFEASIBLE', 'all 4 selections were evaluated')
    """
    try:
        return _Question.of(constraints, seed, time_limit, forbid).feasibility()
    except KeyboardInterrupt:
        return _NOTHING_KNOWN


def smallest_bound(
    metric: Metric,
    others: Iterable[Constraint] | Constraint = (),
    *,
    sense: Literal["<=", ">="] = "<=",
    seed: int = 0,
    time_limit: float = 10.0,
    forbid: Mapping[Hashable, Iterable[Hashable]] | ArrayLike | None = None,
) -> SmallestBound:
    """The tightest bound on a metric that some selection meets together with other constraints.

    After a Ctrl-C no value is known, and nothing is proved.

    Parameters
    ----------
    metric : Metric
    others : list of Constraint
    sense : {"<=", ">="}
        ``"<="`` asks for the least upper bound, ``">="`` for the greatest lower one.
    seed, time_limit, forbid
        As for `find_feasible`.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> space = ChoiceSpace.from_sizes([2, 2])
    >>> time, cost = Additive(space, [1, 5, 1, 5], name="time"), Additive(space, [5, 1, 5, 1], name="cost")
    >>> print(smallest_bound(cost, [time <= 6]))
    cost <= 6 is the tightest bound that works
    """
    if sense not in ("<=", ">="):
        raise ValueError(f'sense must be "<=" or ">=", got {sense!r}')
    if not isinstance(metric, Metric):
        raise TypeError(f"metric must be a Metric, got {metric!r}")
    check_constraints(others, metric.space)
    try:
        return _Question.of(others, seed, time_limit, forbid, space=metric.space).tightest(metric, sense)
    except KeyboardInterrupt:
        return SmallestBound(metric, sense, None, False, None)


def diagnose(
    constraints: Iterable[Constraint] | Constraint,
    *,
    seed: int = 0,
    time_limit: float = 10.0,
    forbid: Mapping[Hashable, Iterable[Hashable]] | ArrayLike | None = None,
) -> Diagnosis:
    """Say whether constraints can be satisfied together and, if not, which conflict and what bounds would work.

    Parameters are those of `find_feasible`; the time limit holds for each step separately. Ctrl-C returns what is known
    so far; then `Diagnosis.minimal` may be false and remedies may be missing.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> space = ChoiceSpace.from_sizes([2, 2])
    >>> time, cost = Additive(space, [1, 5, 1, 5], name="time"), Additive(space, [5, 1, 5, 1], name="cost")
    >>> print(diagnose([time <= 6, cost <= 5, time >= 0]))
    infeasible: no selection satisfies the constraints (proved); all 4 selections were evaluated
    these bounds cannot be met together
      time <= 6
      cost <= 5
    what would work while the other bounds stay as they are
      time <= 10 is the tightest bound that works
      cost <= 6 is the tightest bound that works
    """
    answer, conflict, minimal = _NOTHING_KNOWN, [], False
    remedies: list[SmallestBound] = []
    # After a Ctrl-C the conflict found so far is returned; it may hold constraints that are not needed.
    with suppress(KeyboardInterrupt):
        asked = _Question.of(constraints, seed, time_limit, forbid)
        answer = asked.feasibility()
        if answer.status is not Status.INFEASIBLE:
            return Diagnosis(answer, [], False, [])
        # Deletion filter: a constraint without which the rest is proved infeasible is not needed (Chinneck, 2008).
        conflict, unsure = list(asked.constraints), []
        for c in asked.constraints:
            status = _without(asked, conflict, c)
            if status is Status.INFEASIBLE:
                conflict = [other for other in conflict if other is not c]
            elif status is Status.UNKNOWN:
                unsure.append(c)
        # A constraint undecided in a larger set may be decided in the final, smaller one.
        minimal = all(_without(asked, conflict, c) is Status.FEASIBLE for c in unsure)
        for c in conflict:
            others = [other for other in asked.constraints if other is not c]
            remedies.append(asked.about(others).tightest(c.metric, c.sense, c.confidence))
    return Diagnosis(answer, conflict, minimal, remedies)


_NOTHING_KNOWN = Feasibility(Status.UNKNOWN, None, None, [], "")


def seek(
    space: ChoiceSpace,
    constraints: Sequence[Constraint],
    allowed: NDArray[np.bool_] | None,
    *,
    seed: int,
    time_limit: float,
    start: NDArray[np.int64] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Feasibility:
    """`find_feasible` for a search: from a selection that came near, with a limit of its own."""
    return _Question(space, constraints, allowed, seed, time_limit, start, stop).feasibility()


def enumerated(
    problem: Problem, allowed: NDArray[np.bool_] | None, *, stop: Callable[[], bool] = lambda: False
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """All selections of a problem and the numbers of those that satisfy its constraints.

    None where there are too many, where evaluating them would take calls of a black box, and where `stop` said so.
    """
    metrics = [problem.objective, *(c.metric for c in problem.constraints)]
    if problem.space.n_selections > ENUMERATED or not all(metric.closed_form for metric in metrics):
        return None
    return _Question(problem.space, problem.constraints, allowed, 0, np.inf, None, stop)._enumerated()


def _without(asked: _Question, constraints: Sequence[Constraint], c: Constraint) -> Status:
    """Whether some constraints can be met together when one of them is left out."""
    rest = [other for other in constraints if other is not c]
    return asked.about(rest).feasibility().status if rest else Status.FEASIBLE


@dataclass(frozen=True, eq=False)
class _Question:
    """Constraints on a space, and what may be spent on an answer."""

    space: ChoiceSpace
    constraints: Sequence[Constraint]
    allowed: NDArray[np.bool_] | None
    seed: int
    time_limit: float
    start: NDArray[np.int64] | None = None
    stop: Callable[[], bool] = lambda: False
    began: float = field(default_factory=time.perf_counter)

    @classmethod
    def of(
        cls,
        constraints: Iterable[Constraint] | Constraint,
        seed: int,
        time_limit: float,
        forbid: Mapping | ArrayLike | None,
        space: ChoiceSpace | None = None,
    ) -> _Question:
        checked = check_constraints(constraints)
        if space is None:
            if not checked:
                raise ValueError("constraints is empty; give at least one")
            space = checked[0].space
        whole(seed, "seed", least=0)
        if as_number(time_limit, "time_limit") <= 0:
            raise ValueError(f"time_limit must be more than 0 seconds, got {time_limit}")
        return cls(space, checked, space.allowed(forbid), seed, time_limit)

    def about(self, constraints: Sequence[Constraint]) -> _Question:
        """The same question of other constraints, with the time limit anew."""
        return replace(self, constraints=constraints, began=time.perf_counter())

    # -- is it feasible? --------------------------------------------------------------------------------------------

    def feasibility(self) -> Feasibility:
        for c in self.constraints:
            if (reason := impossible(c, self.allowed)) is not None:
                return Feasibility(Status.INFEASIBLE, None, None, [], reason)
        if self._enumerable(self.constraints) and (listed := self._enumerated(first=True)) is not None:
            selections, kept = listed
            if len(kept):
                return self._found(selections[kept[0]]) or self._searched(selections[kept[0]])
            proof = f"all {len(selections)} selections were evaluated"
            return Feasibility(Status.INFEASIBLE, None, None, [], proof)
        linear = [c for c in self.constraints if _is_linear(c)]
        start = self.start
        if linear:
            solution = self._solve(LinearProgram(self.space, linear, allowed=self.allowed))
            if solution.outcome is Outcome.INFEASIBLE:
                return Feasibility(Status.INFEASIBLE, None, None, [], "proved by mixed-integer programming (HiGHS)")
            if solution.selection is not None:
                start = solution.selection
                if (found := self._found(start)) is not None:
                    return found
        return self._searched(start)

    def _searched(self, start: NDArray[np.int64] | None) -> Feasibility:
        visit = self._walk(None, start=start)
        if (found := self._found(visit.selection)) is not None:
            return found
        rows = [c.report(visit.selection) for c in self.constraints]
        return Feasibility(Status.UNKNOWN, None, None, rows, "")

    def _found(self, selection: NDArray[np.int64]) -> Feasibility | None:
        """The answer FEASIBLE with this selection, if it satisfies every constraint when evaluated again."""
        with afresh():
            rows = [c.report(selection) for c in self.constraints]
        if not all(row.satisfied for row in rows):
            return None
        return Feasibility(Status.FEASIBLE, self.space.labels(selection), selection, rows, "")

    # -- how tight can a bound be? ----------------------------------------------------------------------------------

    def tightest(self, metric: Metric, sense: Literal["<=", ">="], confidence: float | None = None) -> SmallestBound:
        sign = 1.0 if sense == "<=" else -1.0
        asked = Constraint(metric, sign * np.inf, sense, confidence)

        def answer(selection: NDArray[np.int64] | None, proved: bool) -> SmallestBound:
            if selection is None:
                return SmallestBound(metric, sense, None, proved, None)
            with afresh():
                value = asked.report(selection).value
            return SmallestBound(metric, sense, value, proved, self.space.labels(selection))

        if self._enumerable([*self.constraints, asked]) and (listed := self._enumerated()) is not None:
            selections, kept = listed
            if len(kept) == 0:
                return answer(None, True)
            values = sign * values_of(metric, selections[kept])
            return answer(selections[kept[int(np.argmin(values))]], True)
        problem = Problem(metric, self.constraints, "minimize" if sign > 0 else "maximize")
        try:
            settled = settle(problem, allowed=self.allowed, step=grid(metric), solve=self._solve)
        except NotLinearError:
            pass
        else:
            if settled.proved and settled.selection is None:
                return answer(None, True)
            if settled.selection is not None and self._holds(settled.selection):
                return answer(settled.selection, settled.proved)
        start = None
        if self.constraints:
            others = self.feasibility()
            if others.status is Status.INFEASIBLE:
                return answer(None, True)
            start = others.indices
        visit = self._walk(metric, sign, start)
        return answer(visit.selection if self._holds(visit.selection) else None, False)

    # -- means ------------------------------------------------------------------------------------------------------

    def _enumerable(self, constraints: Sequence[Constraint]) -> bool:
        if any(c.metric.noisy for c in constraints):
            return False  # a noisy value proves nothing
        most = ENUMERATED if all(c.metric.closed_form for c in constraints) else ENUMERATED_CALLS
        return self.space.n_selections <= min(most, ENUMERABLE)

    def _enumerated(self, *, first: bool = False) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """All allowed selections, and the indices of those that satisfy every constraint.

        With `first`, evaluation stops at the first feasible one. None if the time is over before the end.
        """
        selections = self.space.enumerate()
        if self.allowed is not None:
            selections = selections[self.allowed[self.space.layout.flat(selections)].all(axis=1)]
        at_once = len(selections) if all(c.metric.closed_form for c in self.constraints) else CALLS_AT_ONCE
        held: list[NDArray[np.int64]] = []
        for start in range(0, len(selections), at_once):
            if self._over():
                return None
            rows = selections[start : start + at_once]
            good = np.ones(len(rows), dtype=bool)
            for c in self.constraints:
                good[good] = c.holds(rows[good]) if good.any() else False
            held.append(start + np.flatnonzero(good))
            if first and good.any():
                break
        return selections, np.concatenate(held) if held else np.zeros(0, dtype=np.int64)

    def _holds(self, selection: NDArray[np.int64]) -> bool:
        return self._found(selection) is not None

    @property
    def _left(self) -> float:
        """Seconds left."""
        return max(self.began + self.time_limit - time.perf_counter(), 0.0)

    def _over(self) -> bool:
        return self._left == 0 or self.stop()

    def _solve(self, program: LinearProgram) -> Solution:
        # At its time limit the solver returns its best selection. It is abandoned only if it does not stop in time.
        late = time.perf_counter() + self._left + GRACE_SECONDS
        return program.solve(time_limit=self._left, stop=lambda: self.stop() or time.perf_counter() > late)

    def _walk(self, objective: Metric | None, sign: float = 1.0, start: NDArray[np.int64] | None = None) -> Visit:
        rng = np.random.default_rng(self.seed)
        how = {"sign": sign, "allowed": self.allowed, "start": start, "stop": self._over}
        return search(self.space, self.constraints, objective, rng, **how)


def conflict_of_shares(constraints: Sequence[Constraint], allowed: NDArray[np.bool_] | None) -> str | None:
    """Why no selection satisfies the constraints, if the linear relaxation proves it; None otherwise."""
    # The size is tested first, since the test of linearity builds the rows of a constraint.
    if len(constraints) < 2 or constraints[0].space.n_options > SMALL:
        return None
    linear = [c for c in constraints if _is_linear(c)]
    if len(linear) < 2:
        return None
    program = LinearProgram(linear[0].space, linear, allowed=allowed)
    if program.shares(time_limit=1.0).outcome is Outcome.INFEASIBLE:
        return "the bounds cannot be met together, proved by linear programming (HiGHS)"
    return None


def _is_linear(constraint: Constraint) -> bool:
    """Whether a constraint has a linear form."""
    program = Program(constraint.space)
    return not np.isfinite(constraint.limit) or program.of(constraint.metric, constraint.sign) is not None
