"""Trade-off curves: the best objective for each of several bounds on a metric."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from cggd.budget import Stop
from cggd.checks import check_choice, whole
from cggd.constraints import Constraint
from cggd.io.text import StrPath, write_csv
from cggd.metrics import Metric
from cggd.metrics.base import check_metric
from cggd.metrics.workers import shared
from cggd.plotting.front import plot_front
from cggd.printable import html_table, in_columns, on_one_line
from cggd.problem import Problem
from cggd.result import Result, Status, percent_text
from cggd.rounding import number_text, true_texts
from cggd.series import Series, uninterrupted
from cggd.solve import Progress, SearchError, check_options, solve

Sense = Literal["minimize", "maximize"]
MetricSense = Literal["<=", ">="]

_COLUMNS = ("bound", "value", "metric_value", "status", "proved", "gap")


@dataclass(frozen=True, eq=False)
class SweepProgress:
    """State of a sweep, passed to its callback after each step of each search.

    Attributes
    ----------
    run, runs : int
        Number of the search, counted from 0, and number of all searches.
    bound : float or None
        The bound on the metric. None while the tightest feasible one is searched for; infinite without a bound.
    search : Progress
        The step of that search.
    """

    run: int
    runs: int
    bound: float | None
    search: Progress


@dataclass(frozen=True, eq=False, repr=False)
class Point:
    """One bound of a trade-off curve, and the result under it.

    Attributes
    ----------
    bound : float
    result : Result
        The best selection within the bound, which is the last of its `constraints`. Its `history`, `stopped`, `seconds`
        and `evaluations` are those of the search under this bound, even if another search found the selection.
    """

    bound: float
    result: Result

    def __repr__(self) -> str:
        return f"Point(bound={number_text(self.bound)}, {self.result!r})"

    @property
    def metric_value(self) -> float | None:
        """The metric of the selection; None where there is none."""
        return _swept_value(self.result) if self.result.selection is not None else None


@dataclass(frozen=True, eq=False, repr=False)
class Front:
    """A trade-off curve: the best objective for each bound on a metric. It is monotone.

    Attributes
    ----------
    points : tuple of Point
        From the tightest bound to the loosest.
    objective, unit, sense : str
        Name and unit of the objective, and ``"minimize"`` or ``"maximize"``.
    metric, metric_unit, metric_sense : str
        Name and unit of the metric, and ``"<="`` or ``">="``.
    complete : bool
        Whether every bound asked for was searched.
    stopped : Stop
        Why the sweep ended; `stop_text` is the text.
    note : str
        Details.
    evaluations : int
        Calls of black boxes; with `max_evaluations`, the selections for which they were called, by all searches.
    seconds : float
    """

    points: tuple[Point, ...]
    objective: str
    unit: str
    sense: str
    metric: str
    metric_unit: str
    metric_sense: str
    complete: bool
    stopped: Stop
    note: str
    evaluations: int
    seconds: float

    def __repr__(self) -> str:
        return on_one_line(
            f"Front({self.sense} {self.objective} for {len(self.points)} bounds on {self.metric}, {self.stopped.value})"
        )

    @property
    def bounds(self) -> NDArray[np.float64]:
        """Bounds on the metric, shape (n_points,)."""
        return np.array([p.bound for p in self.points], dtype=float)

    @property
    def values(self) -> NDArray[np.float64]:
        """Objective of each point's selection, shape (n_points,); NaN where there is none."""
        return np.array([p.result.value for p in self.points], dtype=float)

    @property
    def metric_values(self) -> NDArray[np.float64]:
        """Metric of each point's selection, shape (n_points,); NaN where there is none."""
        return np.array([p.metric_value for p in self.points], dtype=float)

    @property
    def proved(self) -> NDArray[np.float64]:
        """Proved bound on the objective of each point, shape (n_points,); NaN where none is known."""
        return np.array([p.result.bound for p in self.points], dtype=float)

    @property
    def status(self) -> tuple[Status, ...]:
        """What is known about each point."""
        return tuple(p.result.status for p in self.points)

    @property
    def feasible(self) -> bool:
        """Whether every bound was searched and has a selection within it."""
        return self.complete and all(p.result.feasible for p in self.points)

    @property
    def stop_text(self) -> str:
        """Why the sweep ended, as text."""
        how_many = f"{len(self.points)} bound{'' if len(self.points) == 1 else 's'}"
        return f"{how_many} done" if self.complete else f"{self.note or self.stopped.value}, after {how_many}"

    def summary(self) -> str:
        """A table with a line for each bound, as text."""
        metric = f"{self.metric} [{self.metric_unit}]" if self.metric_unit else self.metric
        objective = f"{self.objective} [{self.unit}]" if self.unit else self.objective
        names = [on_one_line(self.metric), on_one_line(self.objective)]
        rows = [[f"{self.metric_sense} bound", *names, "gap", "status"]]
        for p in self.points:
            numbers = [*_pair(p.bound, p.metric_value), "-" if p.result.value is None else number_text(p.result.value)]
            gap = "-" if p.result.gap is None else percent_text(p.result.gap)
            rows.append([*numbers, gap, p.result.status.name.lower()])
        lines = [on_one_line(f"{self.sense:<10} {objective} for each bound on {metric}"), *in_columns(rows)]
        called = f", {self.evaluations} evaluations" if self.evaluations else ""
        lines.append(f"sweep      {on_one_line(self.stop_text)}, in {self.seconds:.2f} s{called}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """A small table for notebooks: a row per bound."""
        header = [f"{self.metric} {self.metric_sense}", self.metric, self.objective, "status"]
        rows = []
        for point in self.points:
            value = "-" if point.result.value is None else number_text(point.result.value)
            rows.append([*_pair(point.bound, point.metric_value), value, point.result.status.name.lower()])
        return html_table(f"{self.sense} {self.objective}", rows, header)

    def to_csv(self, path: StrPath | None = None, *, selections: bool = False, decimal: str = ".") -> str:
        """The curve as CSV, also written to `path` if it is given.

        Columns: ``bound``, ``value``, ``metric_value``, ``status``, ``proved`` and ``gap``. Numbers are exact; a cell
        is empty if its number is not known.

        Parameters
        ----------
        path : str or path, optional
        selections : bool
            False: a row for each point. True: a row for each decision of each point, with the further columns
            ``decision`` and ``option``; they are empty for a point without a selection.
        decimal : {".", ","}
            With decimal commas, cells are separated by semicolons.
        """
        rows: list[list[Any]] = [[*_COLUMNS, "decision", "option"] if selections else list(_COLUMNS)]
        for p in self.points:
            r = p.result
            facts = [p.bound, r.value, p.metric_value, r.status.name, r.bound, r.gap]
            chosen = r.selection.items() if r.selection is not None else [("", "")]
            rows += [[*facts, str(d), str(o)] for d, o in chosen] if selections else [facts]
        return write_csv(path, rows, decimal=decimal)

    def to_json(self) -> str:
        """The curve as JSON, without histories; `Result.from_json` reads each ``result``."""
        data = {
            "format": "cggd-front-1",
            "objective": {"name": self.objective, "unit": self.unit, "sense": self.sense},
            "metric": {"name": self.metric, "unit": self.metric_unit, "sense": self.metric_sense},
            "complete": self.complete,
            "stopped": self.stop_text,
            "evaluations": self.evaluations,
            "seconds": self.seconds,
            "points": [
                # JSON has no infinite numbers.
                {
                    "bound": p.bound if np.isfinite(p.bound) else str(p.bound),
                    "result": json.loads(p.result.to_json(history=False)),
                }
                for p in self.points
            ],
        }
        return json.dumps(data, allow_nan=False)

    def plot(self, ax: Any = None) -> Any:
        """Draw the curve as a staircase, into matplotlib Axes or a new figure; see `cggd.plotting.plot_front`."""
        return plot_front(self, ax=ax)


class SweepError(SearchError):
    """An evaluation failed; `front` has the points until then, and `result` that of the failed search."""

    def __init__(self, message: str, result: Result, front: Front) -> None:
        super().__init__(message, result)
        self.front = front


def sweep(
    objective: Metric,
    constraints: Sequence[Constraint] | Constraint,
    metric: Metric,
    bounds: Iterable[float] | int,
    *,
    sense: Sense = "minimize",
    metric_sense: MetricSense = "<=",
    time_limit: float | None = None,
    max_evaluations: int | None = None,
    initial: Any = None,
    callback: Callable[[SweepProgress], Any] | None = None,
    **options: Any,
) -> Front:
    """Find the best objective for each of several bounds on a metric, under fixed other constraints.

    Parameters
    ----------
    objective : Metric
    constraints : list of Constraint
        The other constraints; may be empty.
    metric : Metric
    bounds : list of float, or int
        Bounds on the metric. Repeated bounds count once, and an infinite bound never binds. A whole number is a number
        of bounds, evenly spread between the tightest bound known to be feasible and the metric's value at the best
        selection without a bound.
    sense : {"minimize", "maximize"}
        Of the objective.
    metric_sense : {"<=", ">="}
        Whether the metric is bounded from above or from below.
    time_limit, max_evaluations : float, int, optional
        For all points together; each search gets an equal share of the rest. A search without time for a step evaluates
        its first selection. The sweep ends after the last evaluation.
    initial : mapping or array-like, optional
        A selection to start from, as for `minimize`; used for a bound if no tighter one has a selection.
    callback : callable, optional
        Called with a `SweepProgress` after each step; a true return value ends the sweep.
    **options
        Other options of `minimize`, for every search: ``seed``, ``gap``, ``forbid``, ``improvers``, ... Checkpoints are
        not supported.

    Returns
    -------
    Front
        A bound without a selection is a point with the status of its search. After Ctrl-C or a stop by the callback, it
        has the points found so far.

    Raises
    ------
    SweepError
        If a metric raises or returns something else than numbers; it has the points so far.
    ValueError, TypeError
        If an argument is wrong.

    Notes
    -----
    A selection within a bound is also within every looser one, so every point has the best selection within its bound
    that any search found. Conversely, a bound on the objective or a proof of infeasibility under a looser bound holds
    for all tighter ones.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> space = ChoiceSpace({"stem": ["small", "large"], "head": ["small", "large"]})
    >>> error = Additive(space, [9.0, 4.0, 7.0, 1.0], name="error", unit="%")
    >>> latency = Additive(space, [1.0, 3.0, 1.0, 4.0], name="latency", unit="ms")
    >>> front = sweep(error, [], latency, [1, 2, 4, 5, 9])
    >>> front.values, front.metric_values
    (array([nan, 16., 11., 10.,  5.]), array([nan,  2.,  4.,  5.,  7.]))
    >>> front.points[0].result.status.name, front.points[-1].result.selection
    ('INFEASIBLE', {'stem': 'large', 'head': 'large'})
    """
    if refused := options.keys() & {"checkpoint", "resume"}:
        raise TypeError(f"sweep keeps no checkpoint, got {min(refused)}; sweep fewer bounds at a time instead")
    check_metric(metric, "metric")
    check_choice(metric_sense, MetricSense, "metric_sense")
    problem = Problem(objective, cast(Any, constraints), sense)
    swept = Constraint(metric, np.inf if metric_sense == "<=" else -np.inf, metric_sense)
    Problem(objective, [swept])  # raises where the metric belongs to another space
    limits = {"time_limit": time_limit, "max_evaluations": max_evaluations, "callback": callback}
    checked = check_options(**limits, **options)
    if options.get("improvers") is not None:
        options["improvers"] = checked["improvers"]  # a list, for every search
    allowed = problem.space.allowed(options.pop("forbid", None))
    options["forbid"] = None if allowed is None else ~allowed
    n = whole(bounds, "bounds", least=2) if isinstance(bounds, int | np.integer) else None
    ordered = _tight_to_loose(swept, bounds) if n is None else []
    with shared(checked["executor"]) as workers:
        limits = {"time_limit": time_limit, "max_evaluations": checked["max_evaluations"], "executor": workers}
        run = _Sweep(problem, swept, initial, Series(solve, {**options, **limits}), callback)
        return run.front(lambda: run.over(ordered) if n is None else run.spread(n))


def _tight_to_loose(swept: Constraint, bounds: Any) -> list[Constraint]:
    if isinstance(bounds, str | bytes) or not isinstance(bounds, Iterable):
        raise TypeError(f"bounds must be a list of numbers, or how many to spread, got {bounds!r}")
    limits = {(c := replace(swept, bound=bound)).bound: c for bound in bounds}
    if not limits:
        raise ValueError("bounds is empty; give a list of numbers, or how many to spread")
    return sorted(limits.values(), key=lambda c: swept.sign * c.bound)


class _Sweep:
    """The searches of one sweep, and their results."""

    def __init__(
        self,
        problem: Problem,
        swept: Constraint,
        initial: Any,
        series: Series,
        callback: Callable[[SweepProgress], Any] | None,
    ) -> None:
        self.problem, self.swept, self.initial = problem, swept, initial
        self.series, self.callback = series, callback
        self.done = self.runs = 0
        self.found: list[tuple[Constraint, Result]] = []

    def front(self, searches: Callable[[], None]) -> Front:
        """Run the searches and return the curve; after a Ctrl-C between two searches, the points found so far."""
        self.series.guarded(searches)
        front = uninterrupted(self._front)
        if (failure := self.series.failure) is not None:
            message = f"{front.stop_text} (what was found until then is in .front)"
            raise SweepError(message, failure.result, front) from failure
        return front

    def over(self, limits: Sequence[Constraint]) -> None:
        """Search under each bound, from tight to loose."""
        self.series.left = len(limits)
        self.runs = self.done + len(limits)
        for limit in limits:
            self._under(limit)

    def spread(self, n: int) -> None:
        """Search under n bounds between the least that works and the metric of the best selection without one."""
        self.runs = self.series.left = n + 1
        self._under(self.swept)
        if (best := self._best(self.swept)) is None or self.series.stopped is not None:
            return
        loose = _swept_value(best)
        self.found = [(replace(self.swept, bound=loose), best)]
        towards: Sense = "minimize" if self.swept.sign > 0 else "maximize"
        least = self._solve(Problem(self.swept.metric, self.problem.constraints, towards), None, self.initial)
        ended = not least.feasible or self.series.stopped is not None
        if ended or self.swept.sign * _value(least) >= self.swept.sign * loose:
            return
        self.initial = least.indices
        self.over(_tight_to_loose(self.swept, np.linspace(_value(least), loose, n)[:-1]))

    def _under(self, limit: Constraint) -> None:
        """Search under one bound, unless the sweep was stopped."""
        if self.series.stopped is not None:
            return
        problem = replace(self.problem, constraints=[*self.problem.constraints, limit])
        # A search does not start from the selection of a tighter bound, which counts for this bound anyway. Measured on
        # 8 bounds on NATS latency with 3 seeds, such a start was better at 4 and worse at 14 of 24 points for a black
        # box with 1000 evaluations, at 4 and 13 with 4000, and at 3 and 3 with 16000. On MMKP I02, I03 and I07 it was
        # alike in 12 s, and better at 7 and worse at 6 of 54 points in 1.2 s.
        initial = self.initial if self._best(limit) is None else None
        self.found.append((limit, self._solve(problem, limit.bound, initial)))

    def _solve(self, problem: Problem, bound: float | None, initial: Any) -> Result:
        """Search with an equal share of what is left."""

        def report(progress: Progress) -> bool:
            if self.callback is not None and self.callback(SweepProgress(self.done, self.runs, bound, progress)):
                self.series.stopped = Stop.CALLBACK
            return self.series.stopped is not None

        result = self.series.run(problem, initial=initial, callback=report)
        self.done += 1
        if self.series.stopped is None and self.done < self.runs and self.series.spent:
            self.series.stopped = Stop.EVALUATIONS
        return result

    def _best(self, limit: Constraint) -> Result | None:
        """The best result of all searches whose selection satisfies a bound."""
        within = [r for _, r in self.found if r.feasible and limit.satisfied(_swept_value(r))]
        return min(within, key=lambda r: self.problem.sign * _value(r), default=None)

    def _front(self) -> Front:
        points: list[Point] = []
        proved, infeasible = -np.inf, False  # of the current bound and all looser ones, as if minimising
        for limit, own in sorted(self.found, key=lambda pair: -self.swept.sign * pair[0].bound):
            known = own.value if own.status is Status.OPTIMAL else own.bound
            if known is not None:
                proved = max(proved, self.problem.sign * known)
            infeasible = infeasible or own.status is Status.INFEASIBLE
            points.append(Point(limit.bound, self._settled(limit, own, proved, infeasible)))
        metric, objective = self.swept.metric, self.problem.objective
        return Front(
            points=tuple(reversed(points)),
            objective=objective.name,
            unit=objective.unit,
            sense=self.problem.sense,
            metric=metric.name,
            metric_unit=metric.unit,
            metric_sense=self.swept.sense,
            complete=self.series.stopped is None,
            stopped=self.series.stopped or Stop.DONE,
            note="" if self.series.failure is None else self.series.failure.result.note,
            evaluations=self.series.evaluations,
            seconds=self.series.budget.seconds,
        )

    def _settled(self, limit: Constraint, own: Result, proved: float, infeasible: bool) -> Result:
        """The result under a bound, improved by the results under other bounds."""
        bound, best = self.problem.sign * proved if np.isfinite(proved) else None, self._best(limit)
        if best is None:
            return replace(own, bound=bound, status=Status.INFEASIBLE if infeasible else own.status)
        optimal = self.problem.sign * _value(best) <= proved
        return replace(
            own,
            selection=best.selection,
            indices=best.indices,
            value=best.value,
            nearest=None,
            status=Status.OPTIMAL if optimal else Status.FEASIBLE,
            constraints=[*best.constraints[:-1], limit.row(_swept_value(best))],
            bound=best.value if optimal else bound,
            remeasured=True,
        )


def _value(result: Result) -> float:
    """The objective of a feasible result."""
    assert result.value is not None
    return result.value


def _swept_value(result: Result) -> float:
    """The metric that is swept, whose constraint is the last one."""
    return result.constraints[-1].value


def _pair(bound: float, value: float | None) -> list[str]:
    """A bound and the metric's value as text, with enough digits to distinguish them."""
    return [number_text(bound), "-"] if value is None else true_texts(bound, value)
