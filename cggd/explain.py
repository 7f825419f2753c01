"""Explanations of results: the loss by every other option, the worth of bounds, and conflicts of constraints."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cggd.checks import as_number, check_time_limit, whole
from cggd.constraints import Constraint
from cggd.feasibility import Diagnosis, diagnose
from cggd.metrics import Metric, table_of
from cggd.problem import Problem
from cggd.program.grid import grid
from cggd.result import Result, Status
from cggd.rounding import number_text
from cggd.series import Series, uninterrupted
from cggd.solve import solve

# Least seconds for one search within a time limit, if so many are left.
LEAST_SECONDS = 0.5

_T = TypeVar("_T")


@dataclass(frozen=True)
class Choice:
    """The effect of one option of one decision.

    Attributes
    ----------
    decision, option : labels
    chosen : bool
        Whether the selection has this option.
    change : float or None
        Change of the objective if only this decision switches to the option; None if a costly metric was not measured
        there.
    breaks : tuple of str
        Constraints that this switch alone would violate; without costly metrics that were not measured there.
    possible : bool or None
        Whether any selection that satisfies the constraints has the option; None if that is not known.
    best : float or None
        Objective of the best selection found that has the option and satisfies the constraints.
    loss : float or None
        By how much `best` is worse than the result.
    proved : bool
        Whether `best` is proved to be the best, or that the option is not possible.
    """

    decision: Hashable
    option: Hashable
    chosen: bool
    change: float | None
    breaks: tuple[str, ...]
    possible: bool | None
    best: float | None
    loss: float | None
    proved: bool


@dataclass(frozen=True)
class Worth:
    """The best objective under another bound.

    Attributes
    ----------
    bound : float or None
        None if the constraint is left out.
    value : float or None
        None if no selection satisfies the constraints then, or none was found.
    gain : float or None
        By how much `value` is better than the result; negative if it is worse.
    proved : bool
        Whether `value` is proved to be the best, or that there is none.
    """

    bound: float | None
    value: float | None
    gain: float | None
    proved: bool


@dataclass(frozen=True)
class BoundWorth:
    """The worth of one constraint, from searches with other bounds.

    Attributes
    ----------
    constraint : str
    slack : float
    binds : bool or None
        Whether the objective would be better without the constraint; None if that is not known.
    tighter, looser : Worth or None
        With the bound moved by one step; None for rules.
    without : Worth or None
        Without the constraint.
    """

    constraint: str
    slack: float
    binds: bool | None
    tighter: Worth | None
    looser: Worth | None
    without: Worth | None


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Explanation of a result; `print` shows it.

    Attributes
    ----------
    result : Result
    choices : list of Choice
        One for each option of the decisions asked for.
    bounds : list of BoundWorth
        One for each constraint.
    diagnosis : Diagnosis or None
        For an infeasible problem: a smallest conflict, and the bounds that would be feasible.
    complete : bool
        Whether everything was computed within the limits.
    """

    result: Result
    choices: Sequence[Choice]
    bounds: Sequence[BoundWorth]
    diagnosis: Diagnosis | None
    complete: bool

    def __repr__(self) -> str:
        return f"Explanation({len(self.choices)} options, {len(self.bounds)} bounds, of {self.result!r})"

    def of(self, decision: Hashable) -> list[Choice]:
        """The options of one decision, the best ones first."""
        options = [choice for choice in self.choices if choice.decision == decision]
        return sorted(options, key=lambda c: (not c.chosen, c.loss is None, c.loss or 0.0))

    def to_dict(self) -> dict[str, Any]:
        """All numbers as a dict of JSON values and labels."""
        diagnosis = (
            None
            if self.diagnosis is None
            else {
                "status": self.diagnosis.feasibility.status.name,
                "conflict": [str(c) for c in self.diagnosis.conflict],
                "minimal": self.diagnosis.minimal,
                "remedies": [str(remedy) for remedy in self.diagnosis.remedies],
            }
        )
        return {
            "choices": [asdict(choice) for choice in self.choices],
            "bounds": [asdict(bound) for bound in self.bounds],
            "diagnosis": diagnosis,
            "complete": self.complete,
        }

    def __str__(self) -> str:
        if self.diagnosis is not None:
            return str(self.diagnosis)
        unit = f" {self.result.unit}" if self.result.unit else ""
        lines = []
        for decision in dict.fromkeys(choice.decision for choice in self.choices):
            chosen, *others = self.of(decision)
            lines.append(f"{decision}: {chosen.option}")
            lines += [f"  {choice.option}: {_loss(choice, self.result.sense, unit)}" for choice in others]
        lines += [_bound_line(bound, unit) for bound in self.bounds]
        if not self.complete:
            lines.append("the time was over, or the evaluations, before everything was computed")
        if self.result.selection is None:
            lines.append("no selection is known; cggd.diagnose shows whether the constraints can be satisfied")
        return "\n".join(lines)


def _loss(choice: Choice, sense: str, unit: str) -> str:
    if choice.possible is False:
        return "cannot be chosen"
    if choice.loss is None:
        return "not known"
    worse = "less" if sense == "maximize" else "more"
    text = f"{number_text(choice.loss)}{unit} {worse}" if choice.loss else "as good"
    return text if choice.proved else f"{text} at most"


def _bound_line(bound: BoundWorth, unit: str) -> str:
    known = {True: "binds", False: "does not bind", None: "may bind"}[bound.binds]
    parts = [known]
    for worth in (bound.tighter, bound.looser, bound.without):
        if worth is not None:
            place = "without it" if worth.bound is None else f"at {number_text(worth.bound)}"
            value = "nothing is possible" if worth.proved else "not known"
            if worth.value is not None and worth.gain is not None:
                better = "better" if worth.gain > 0 else "worse"
                change = f" ({number_text(abs(worth.gain))} {better})" if worth.gain else " (the same)"
                value = f"{number_text(worth.value)}{unit}{change}" + ("" if worth.proved else ", not proved")
            parts.append(f"{place}: {value}")
    return f"{bound.constraint}: {'; '.join(parts)}"


def explain(
    result: Result,
    *,
    problem: Problem | None = None,
    decisions: Iterable[Hashable] | None = None,
    by: float | str | None = None,
    seed: int = 0,
    time_limit: float | None = 30.0,
    max_evaluations: int | None = None,
) -> Explanation:
    """Explain a result: what other options would cost and what bounds are worth, found by further searches.

    Parameters
    ----------
    result : Result
    problem : Problem, optional
        By default that of the result. A result from a file has none.
    decisions : list of labels, optional
        Decisions whose options are explained; by default all.
    by : float or str, optional
        By how much bounds are changed: a number, or a text such as ``"5%"``. By default 1 for metrics of whole numbers,
        and 1 % for others.
    seed : int
    time_limit : float or None
        Seconds for all searches together. Parts without time are None in the explanation, also after Ctrl-C.
    max_evaluations : int, optional
        Largest number of black-box calls of all searches together. If some metric is costly, only its calls count, and
        the default is the number of the result's own search.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace, maximize
    >>> space = ChoiceSpace({"cpu": ["slow", "fast"], "disk": ["small", "large"]})
    >>> speed = Additive(space, [1, 5, 2, 4], name="speed")
    >>> price = Additive(space, [20, 60, 30, 50], name="price", unit="EUR")
    >>> print(explain(maximize(speed, [price <= 90])))
    cpu: fast
      slow: 2 less
    disk: small
      large: 2 less
    price <= 90 EUR: binds; at 89: 5 (2 worse); at 91: 7 (the same); without it: 9 (2 better)
    """
    problem = result.problem if problem is None else problem
    if problem is None:
        raise ValueError("result does not know its problem, because it was read from a file; give problem=")
    check_time_limit(time_limit)
    if max_evaluations is not None:
        max_evaluations = whole(max_evaluations, "max_evaluations", least=1)
    elif problem.costly:
        max_evaluations = max(result.evaluations, 1)
    if result.status is Status.INFEASIBLE:
        forbid = None if problem.allowed is None else ~problem.allowed
        limits: Any = {"seed": seed, "time_limit": time_limit, "max_evaluations": max_evaluations}
        return Explanation(result, [], [], diagnose(problem.constraints, forbid=forbid, **limits), True)
    if not result.feasible:
        return Explanation(result, [], [], None, True)
    asked = problem.space.decisions if decisions is None else list(decisions)
    places = [problem.space.position(d) for d in asked]
    options = {"seed": seed, "time_limit": time_limit, "max_evaluations": max_evaluations}
    series = Series(solve, options, least_seconds=LEAST_SECONDS)
    steps = [_step(c, by) for c in problem.constraints]
    if (again := series.guarded(lambda: _Again(result, problem, series))) is None:
        return Explanation(result, [], [], None, False)
    series.left = int(sum(problem.space.sizes[places] - 1)) + sum(1 if step is None else 3 for step in steps)
    parts = zip(problem.constraints, result.constraints, steps, strict=False)
    bounds = [again.steady(partial(_bound, again, c, row.slack, step)) for c, row, step in parts]
    choices = [choice for place in places for choice in again.steady(partial(_choices, again, place))]
    return Explanation(result, choices, bounds, None, again.complete and series.stopped is None)


class _Again:
    """Searches of variants of one problem, within one budget."""

    def __init__(self, result: Result, problem: Problem, series: Series) -> None:
        self.result, self.problem, self.series, self.complete = result, problem, series, True
        indices = result.indices
        assert indices is not None
        self.indices: NDArray[np.int64] = indices
        self.tables = [
            _known(problem.objective, indices) if problem.objective.costly else table_of(problem.objective, indices),
            *(_known(c.metric, indices) if c.metric.costly else c.table(indices) for c in problem.constraints),
        ]

    def solve(self, problem: Problem, initial: NDArray[np.int64] | None = None) -> Result | None:
        """The result of a variant; None if the budget is over or the user interrupted."""
        if self.series.stopped is not None or self.series.budget.over() or not self.complete:
            self.complete = False
            return None
        found = self.series.run(problem, initial=initial)
        if self.series.failure is not None:
            raise self.series.failure
        return found

    def steady(self, work: Callable[[], _T]) -> _T:
        """Do a part of the work; after Ctrl-C, do it again without searches."""
        found = self.series.guarded(work)
        return uninterrupted(work) if found is None else found

    def gain(self, value: float | None) -> float | None:
        """By how much a value is better than the result."""
        if value is None or self.result.value is None:
            return None
        return self.problem.sign * (self.result.value - value) + 0.0


def _known(metric: Metric, selection: NDArray[np.int64]) -> NDArray[np.float64]:
    """The known entries of a costly metric's replacement table; NaN for others."""
    low, high = metric.between(metric.space.switches(selection))
    return np.where(low == high, low, np.nan)


def _choices(again: _Again, place: int) -> list[Choice]:
    """Every option of one decision."""
    problem, space, result = again.problem, again.problem.space, again.result
    decision, first = space.decisions[place], int(space.offsets[place])
    found = []
    for option, label in enumerate(space.option_labels(decision)):
        at, chosen = first + option, option == again.indices[place]
        objective, *values = (table[at] for table in again.tables)
        pairs = zip(problem.constraints, values, strict=True)
        breaks = tuple(
            str(c) for c, value in pairs if not (c.satisfied(value) or (c.metric.costly and np.isnan(value)))
        )
        change = 0.0 if chosen else float(objective) - float(result.value or 0.0)
        change = None if problem.objective.costly and np.isnan(change) else change
        known: tuple[bool | None, float | None, bool] = (True, result.value, result.status is Status.OPTIMAL)
        if problem.allowed is not None and not problem.allowed[at]:
            known = (False, None, True)
            again.series.left -= 1
        elif not chosen:
            only = np.ones(space.n_options, dtype=bool) if problem.allowed is None else problem.allowed.copy()
            only[first : first + int(space.sizes[place])] = False
            only[at] = True
            switched = again.indices.copy()
            switched[place] = option
            other = again.solve(replace(problem, allowed=only), None if breaks else switched)
            known = (None, None, False)
            if other is not None:
                possible = True if other.feasible else (False if other.status is Status.INFEASIBLE else None)
                known = (possible, other.value if other.feasible else None, other.status in _PROVED)
        possible, best, proved = known
        gain = again.gain(best)
        loss = None if gain is None else -gain + 0.0
        found.append(Choice(decision, label, bool(chosen), change, breaks, possible, best, loss, proved))
    return found


_PROVED = (Status.OPTIMAL, Status.INFEASIBLE)


def _bound(again: _Again, c: Constraint, slack: float, step: float | None) -> BoundWorth:
    """The worth of one constraint."""
    problem = again.problem

    def worth(bound: float | None) -> Worth | None:
        changed = [] if bound is None else [replace(c, bound=bound)]
        kept = [new for other in problem.constraints for new in (changed if other is c else [other])]
        initial = again.indices if bound is None or c.sign * bound >= c.limit else None
        found = again.solve(replace(problem, constraints=kept), initial)
        if found is None:
            return None
        value = found.value if found.feasible else None
        return Worth(bound, value, again.gain(value), found.status in _PROVED)

    tighter = None if step is None else worth(c.bound - c.sign * step)
    looser = None if step is None else worth(c.bound + c.sign * step)
    without = worth(None)
    binds = None
    if without is not None and without.proved and again.result.status is Status.OPTIMAL:
        binds = bool(without.gain and without.gain > 0)
    return BoundWorth(str(c), slack, binds, tighter, looser, without)


def _step(c: Constraint, by: float | str | None) -> float | None:
    """By how much the bound is changed; None for rules, and for a share of a bound of 0."""
    if c.words == c.metric.name or not np.isfinite(c.bound):
        return None
    if by is None:
        by = 1.0 if grid(c.metric) >= 1 else "1%"
    if isinstance(by, str):
        try:
            share = float(by.strip().removesuffix("%")) / 100 if by.strip().endswith("%") else np.nan
        except ValueError:
            share = np.nan
        if not share > 0:
            raise ValueError(f'by must be a positive number or a text such as "5%", got {by!r}')
        return share * abs(c.bound) or None
    if as_number(by, "by") <= 0:
        raise ValueError(f'by must be a positive number or a text such as "5%", got {by!r}')
    return float(by)
