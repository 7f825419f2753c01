"""Feasibility: find a selection that satisfies every constraint, or prove that there is none and explain why."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cggd.checks import check_time_limit, whole
from cggd.constraints import Constraint, Row, check_constraints
from cggd.metrics import Metric, without_cache
from cggd.metrics.base import check_metric
from cggd.portfolio import FEW_CALLS, feasibility_portfolio, portfolio
from cggd.printable import html_table
from cggd.problem import Problem, nothing
from cggd.result import Result, Status
from cggd.rounding import bound_text, number_text
from cggd.series import Series
from cggd.solve import solve
from cggd.space import ChoiceSpace


@dataclass(frozen=True, eq=False, repr=False)
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
        The report of `selection`, or of the nearest selection if none was found.
    proof : str
        The proof of infeasibility; otherwise empty.
    """

    status: Status
    selection: dict[Hashable, Hashable] | None
    indices: NDArray[np.int64] | None
    constraints: Sequence[Row]
    proof: str

    def __repr__(self) -> str:
        rows = f", {', '.join(map(str, self.constraints))}" if 0 < len(self.constraints) <= 6 else ""
        return f"Feasibility({self.status.name}{rows}{', ' + self.proof if self.proof else ''})"

    @property
    def feasible(self) -> bool:
        """Whether a selection was found."""
        return self.status is Status.FEASIBLE


@dataclass(frozen=True, eq=False, repr=False)
class SmallestBound:
    """The tightest bound on a metric that is feasible together with other constraints.

    Attributes
    ----------
    value : float or None
        None if no selection satisfies the other constraints, or none was found.
    proved : bool
        Whether it is proved that no tighter bound is feasible (without a value: that none is).
    selection : dict or None
        A selection within the bound.
    named : Constraint or None
        The constraint with this metric, if it has a name, as rules have.
    """

    metric: Metric
    sense: Literal["<=", ">="]
    value: float | None
    proved: bool
    selection: dict[Hashable, Hashable] | None
    named: Constraint | None = None

    def __repr__(self) -> str:
        return f"SmallestBound({self})"

    def __str__(self) -> str:
        if self.named is not None and self.value is not None:
            least = "at least " if self.proved else ""
            missed = number_text(float(self.named.violation(self.value)))
            return f"the rest works if this is violated by {least}{missed}: {self.named}"
        name, unit = self.metric.name, f" {self.metric.unit}" if self.metric.unit else ""
        if self.value is None:
            return f"no bound on {name} works" if self.proved else f"no bound on {name} that works was found"
        known = "is the tightest bound that works" if self.proved else "works, and is the tightest found"
        return f"{name} {self.sense} {bound_text(self.value, self.sense)}{unit} {known}"


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """Whether constraints can be satisfied together, and if not, which of them conflict.

    Attributes
    ----------
    feasibility : Feasibility
    conflict : list of Constraint
        Constraints that cannot be satisfied together. Empty unless infeasibility is proved.
    minimal : bool
        Whether it is proved that every constraint of `conflict` is needed for the conflict.
    remedies : list of SmallestBound
        For each constraint of `conflict`, the tightest bound that is feasible with all other constraints.
    """

    feasibility: Feasibility
    conflict: Sequence[Constraint]
    minimal: bool
    remedies: Sequence[SmallestBound]

    def __repr__(self) -> str:
        conflict = f", conflict [{', '.join(map(str, self.conflict))}]" if self.conflict else ""
        return f"Diagnosis({self.feasibility.status.name}{conflict})"

    def __str__(self) -> str:
        lines = [self.feasibility.status.value]
        if self.feasibility.proof:
            lines[0] += f"; {self.feasibility.proof}"
        if not self.conflict:
            return "\n".join(lines + [f"  {row}" for row in self.feasibility.constraints])
        these = "these bounds are infeasible together" if len(self.conflict) > 1 else "this bound is infeasible"
        lines.append(these + ("" if self.minimal else " (some of them may not be needed for that)"))
        lines += [f"  {c}" for c in self.conflict]
        if self.remedies:
            lines.append("what would work while the other bounds stay as they are")
            lines += [f"  {remedy}" for remedy in self.remedies]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """A small table for notebooks: the conflict and the remedies, or the report of the constraints."""
        rows = [("conflict", c) for c in self.conflict] + [("would work", remedy) for remedy in self.remedies]
        rows += [] if self.conflict else [("constraint", row) for row in self.feasibility.constraints]
        return html_table(self.feasibility.status.value, rows)


def find_feasible(
    constraints: Iterable[Constraint] | Constraint,
    *,
    seed: int = 0,
    time_limit: float | None = 10.0,
    max_evaluations: int | None = None,
    forbid: Mapping[Hashable, Iterable[Hashable]] | ArrayLike | None = None,
) -> Feasibility:
    """Find a selection that satisfies every constraint, or prove that there is none.

    The improvers are those of `cggd.portfolio.feasibility_portfolio`. INFEASIBLE is returned only with a proof. After
    Ctrl-C, the answer is what is known until then.

    Parameters
    ----------
    constraints : list of Constraint
    seed : int
    time_limit : float or None
        Seconds, after which the answer may be UNKNOWN.
    max_evaluations : int, optional
        Largest number of black-box calls, as for `cggd.minimize`.
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
        return _Question.of(constraints, seed, time_limit, max_evaluations, forbid).feasibility()
    except KeyboardInterrupt:
        return _NOTHING_KNOWN


def smallest_bound(
    metric: Metric,
    others: Iterable[Constraint] | Constraint = (),
    *,
    sense: Literal["<=", ">="] = "<=",
    seed: int = 0,
    time_limit: float | None = 10.0,
    max_evaluations: int | None = None,
    forbid: Mapping[Hashable, Iterable[Hashable]] | ArrayLike | None = None,
) -> SmallestBound:
    """Find the tightest bound on a metric that is feasible together with other constraints.

    After Ctrl-C, the tightest bound found until then is returned, without a proof.

    Parameters
    ----------
    metric : Metric
    others : list of Constraint
    sense : {"<=", ">="}
        ``"<="`` asks for the least upper bound, ``">="`` for the greatest lower one.
    seed, time_limit, max_evaluations, forbid
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
    check_metric(metric, "metric")
    check_constraints(others, metric.space)
    try:
        asked = _Question.of(others, seed, time_limit, max_evaluations, forbid, space=metric.space)
        return asked.tightest(metric, sense)
    except KeyboardInterrupt:
        return SmallestBound(metric, sense, None, False, None)


def diagnose(
    constraints: Iterable[Constraint] | Constraint,
    *,
    seed: int = 0,
    time_limit: float | None = 10.0,
    max_evaluations: int | None = None,
    forbid: Mapping[Hashable, Iterable[Hashable]] | ArrayLike | None = None,
) -> Diagnosis:
    """Find out whether constraints can be satisfied together and, if not, which conflict and what bounds are feasible.

    The parameters are those of `find_feasible`. The time limit is for each step, and `max_evaluations` for all
    together. After Ctrl-C, or without evaluations left, `Diagnosis.minimal` may be false and remedies may be missing.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> space = ChoiceSpace.from_sizes([2, 2])
    >>> time, cost = Additive(space, [1, 5, 1, 5], name="time"), Additive(space, [5, 1, 5, 1], name="cost")
    >>> print(diagnose([time <= 6, cost <= 5, time >= 0]))
    infeasible: no selection satisfies the constraints (proved); all 4 selections were evaluated
    these bounds are infeasible together
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
        asked = _Question.of(constraints, seed, time_limit, max_evaluations, forbid)
        n, series = len(asked.constraints), asked.series
        series.left = 1 + 2 * n
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
        # A constraint that was undecided in a larger set may be decided in the final one.
        series.left = len(unsure) + len(conflict)
        minimal = all(_without(asked, conflict, c) is Status.FEASIBLE for c in unsure)
        for c in conflict:
            others = [other for other in asked.constraints if other is not c]
            remedy = asked.about(others).tightest(c.metric, c.sense, c.confidence)
            remedies.append(replace(remedy, named=c) if c.words else remedy)
    return Diagnosis(answer, conflict, minimal, remedies)


_NOTHING_KNOWN = Feasibility(Status.UNKNOWN, None, None, [], "")


def _without(asked: _Question, constraints: Sequence[Constraint], c: Constraint) -> Status:
    """Whether constraints without one of them can be satisfied together."""
    rest = [other for other in constraints if other is not c]
    return asked.about(rest).feasibility().status if rest else Status.FEASIBLE


@dataclass(frozen=True, eq=False)
class _Question:
    """Constraints on a space, and the limits of searches for an answer."""

    space: ChoiceSpace
    constraints: Sequence[Constraint]
    allowed: NDArray[np.bool_] | None
    series: Series

    @classmethod
    def of(
        cls,
        constraints: Iterable[Constraint] | Constraint,
        seed: int,
        time_limit: float | None,
        max_evaluations: int | None,
        forbid: Mapping | ArrayLike | None,
        space: ChoiceSpace | None = None,
    ) -> _Question:
        checked = check_constraints(constraints, space)
        if space is None:
            if not checked:
                raise ValueError("constraints is empty; give at least one")
            space = checked[0].space
        whole(seed, "seed", least=0)
        check_time_limit(time_limit)
        most = None if max_evaluations is None else whole(max_evaluations, "max_evaluations", least=1)

        def search(problem: Problem, **options: Any) -> Result:
            return solve(problem, **{**options, "time_limit": time_limit})  # for each search

        series = Series(search, {"seed": seed, "time_limit": None, "max_evaluations": most})
        return cls(space, checked, space.allowed(forbid), series)

    def about(self, constraints: Sequence[Constraint]) -> _Question:
        """The same question about other constraints, with the full time limit and the remaining evaluations."""
        return replace(self, constraints=constraints)

    def feasibility(self) -> Feasibility:
        """Whether the constraints can be satisfied, by a search with a constant objective."""
        problem = Problem(nothing(self.space), self.constraints, allowed=self.allowed)
        result = self._solve(problem, feasibility_portfolio(costly=problem.costly))
        if result is None:
            return _NOTHING_KNOWN
        proof = result.note if result.status is Status.INFEASIBLE else ""
        status = Status.FEASIBLE if result.feasible else result.status
        return Feasibility(status, result.selection, result.indices, result.constraints, proof)

    def tightest(self, metric: Metric, sense: Literal["<=", ">="], confidence: float | None = None) -> SmallestBound:
        """The tightest bound on a metric that is feasible with the constraints."""
        problem = Problem(metric, self.constraints, "minimize" if sense == "<=" else "maximize", self.allowed)
        calls, budget = metric.calls_each, self.series.budget
        budget.evaluation.calls += calls  # for the value below
        result = self._solve(problem, portfolio(few_calls=FEW_CALLS, costly=problem.costly))
        if result is None or result.indices is None:
            budget.evaluation.calls -= calls
            return SmallestBound(metric, sense, None, result is not None and result.status is Status.INFEASIBLE, None)
        asked = Constraint(metric, np.inf if sense == "<=" else -np.inf, sense, confidence)
        with without_cache():
            value = asked.report(result.indices).value
        return SmallestBound(metric, sense, value, result.status is Status.OPTIMAL, result.selection)

    def _solve(self, problem: Problem, improvers: Sequence[Any]) -> Result | None:
        """The result of a search; None if no evaluations are left for it, or after Ctrl-C."""
        calls = any(metric.costly or metric.calls_each for metric in problem.metrics)
        if (self.series.spent and calls) or self.series.stopped is not None:
            return None
        result = self.series.run(problem, improvers=improvers)
        if (error := self.series.failure) is not None:
            raise (error.__cause__ or error) from None
        return result
