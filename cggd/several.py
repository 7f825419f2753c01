"""Several answers, and several objectives in order, by a series of searches with one more constraint each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd.budget import Stop
from cggd.checks import as_amount, whole
from cggd.constraints import Constraint
from cggd.metrics import Additive, Excess, Metric
from cggd.problem import Problem
from cggd.result import Result, SearchError, Status
from cggd.series import Search, Series, uninterrupted
from cggd.space import ChoiceSpace

# A bound that only invalid selections violate.
VALID = 1e300


def _total(series: Series, result: Result, last: Result, **facts: Any) -> Result:
    """A result with the seconds and evaluations of all searches; raises SearchError if one of them failed."""
    run = replace(result.run, seconds=series.budget.seconds, evaluations=series.evaluations, **facts)
    if series.stopped is not None:
        note = last.note if last.stopped is series.stopped else ""
        result, run = replace(result, stopped=series.stopped), replace(run, note=note)
    result = replace(result, run=run)
    if (failure := series.failure) is not None:
        raise SearchError.of(failure.__cause__ or failure, result) from failure.__cause__
    return result


def several_answers(
    search: Search, problem: Problem, answers: int, differ: int, alike: Any, options: Mapping[str, Any]
) -> Result:
    """Find the best answers, each by a search with the constraint that it differs from the earlier ones.

    `Result.alternatives` has the answers after the first. An answer is proved if its search and all earlier ones are.
    """
    space, series = problem.space, Series(search, options)
    answers, differ = whole(answers, "answers", least=1), whole(differ, "differ", least=1)
    if differ > space.n_decisions:
        raise ValueError(f"differ must be at most the number of decisions, {space.n_decisions}, got {differ}")
    alike = _alike(space, alike)
    apart: list[Constraint] = []
    every: list[Result] = []  # of all searches; the last one may have found nothing

    def searches() -> None:
        while len(every) < answers and not (every and (series.spent or series.stopped)):
            given: dict[str, Any] = {}
            if every:
                given = {"checkpoint": None, "resume": False, "initial": None}
                apart.append(_apart(problem, every[-1].indices, differ, alike, len(every)))
            now = replace(problem, constraints=[*problem.constraints, *apart])
            series.left = answers - len(every)
            every.append(series.run(now, **given))
            if not every[-1].feasible:
                break

    series.guarded(searches)
    if not every:
        raise KeyboardInterrupt
    return uninterrupted(lambda: _answered(problem, series, every, differ))


def _answered(problem: Problem, series: Series, every: Sequence[Result], differ: int) -> Result:
    """The best answer, with the others as its alternatives."""
    last, found, proved, exhausted = every[-1], [], True, False
    for one in every:
        if not one.feasible:
            # With a larger `differ`, there may be more answers after other first ones, unless these are proved.
            exhausted = one.status is Status.INFEASIBLE and (proved or differ == 1)
            break
        proved = proved and one.status is Status.OPTIMAL
        rows = list(one.constraints)[: len(problem.constraints)]
        found.append(replace(one, constraints=rows, status=Status.OPTIMAL if proved else Status.FEASIBLE))
    if not found:
        return _total(series, last, last)
    bound, asked = found[0].bound, found[0].asked
    # Without proofs a later search may find a better selection.
    found.sort(key=lambda result: problem.sign * float(result.value or 0.0))
    best = replace(found[0], bound=bound, asked=asked, alternatives=tuple(found[1:]))
    return _total(series, best, last, exhausted=exhausted)


def _alike(space: ChoiceSpace, alike: Any) -> NDArray[np.int64]:
    """Positions of the decisions that are interchangeable."""
    if alike is None:
        return np.zeros(0, dtype=np.int64)
    if isinstance(alike, str) and alike != "*":
        raise TypeError(f'alike must be a list of decisions or "*", got {alike!r}')
    labels: Iterable[Hashable] = space.decisions if alike == "*" else alike
    return np.array([space.position(d) for d in labels], dtype=np.int64)


def _apart(problem: Problem, selection: Any, differ: int, alike: NDArray[np.int64], number: int) -> Constraint:
    """The constraint that a selection differs from one answer in at least `differ` decisions.

    For decisions that are alike, only the multiset of their options counts.
    """
    space, name = problem.space, f"differences from answer {number}"
    if not len(alike):
        same = np.zeros(space.n_options)
        same[space.layout.flat(selection)] = 1.0
        return Additive(space, same, name=f"decisions as in answer {number}") <= space.n_decisions - differ
    # One row per chosen option: how many times fewer it is chosen now.
    rows, most = [], []
    for place in np.setdiff1d(np.arange(space.n_decisions), alike).tolist():
        rows.append({int(space.offsets[place] + selection[place])})
        most.append(-1)
    labels = {place: space.option_labels(space.decisions[place]) for place in alike.tolist()}
    counts = Counter(labels[place][int(selection[place])] for place in labels)
    for label, count in counts.items():
        users = (place for place in labels if label in labels[place])
        rows.append({int(space.offsets[place]) + labels[place].index(label) for place in users})
        most.append(-count)
    matrix = np.zeros((len(rows), space.n_options))
    for row, options in zip(matrix, rows, strict=True):
        row[list(options)] = -1.0
    return Excess(space, matrix, most, name=name) >= differ


def shares(slack: Any, objectives: int) -> list[float]:
    """The shares that objectives in order may lose, one for each but the last, from the option `slack`."""
    losses = list(slack) if isinstance(slack, list | tuple) else [slack] * max(objectives - 1, 1)
    losses = [as_amount(loss, "slack") for loss in losses]
    if isinstance(slack, list | tuple) and len(losses) != objectives - 1:
        raise ValueError(
            f"slack must be a number, or {objectives - 1} numbers for {objectives} objectives, got {slack!r}"
        )
    return losses[: objectives - 1]


def in_order(
    search: Search, objectives: Sequence[tuple[Metric, Any]], problem: Problem, slack: Any, options: Mapping[str, Any]
) -> Result:
    """Optimise objectives in order, each with a bound on the loss of the earlier ones; return the last result.

    Each objective has its sense, ``"minimize"`` or ``"maximize"``. Earlier objectives are at the end of the result's
    constraints. If the search for a later objective finds nothing or fails, the result is that of the objective before,
    without a proof.
    """
    losses, series = shares(slack, len(objectives)), Series(search, options)
    doubtful = [metric for metric, _ in objectives[1:] if not metric.closed_form]
    # A later objective is evaluated only at optima of the earlier ones, unless none of these is valid for it.
    first, second = _Stages(), _Stages()
    series.guarded(lambda: first.run(series, objectives, problem, losses, demand=False))
    best, last, proved = first.best, first.last, first.proved
    if last is None:
        raise KeyboardInterrupt
    nothing = best is not None and not last.feasible and last.stopped in (Stop.INFEASIBLE, Stop.DONE)
    if doubtful and not series.spent and (nothing or first.valid is False) and series.stopped is None:
        series.guarded(lambda: second.run(series, objectives, problem, losses, demand=True))
    if (end := second.last) is not None:
        reached = second.best is not None and second.best.problem.objective is objectives[-1][0]
        if nothing or reached or series.stopped is not None:
            last, proved = end, second.proved
        if reached or (nothing and (second.best is not None or end.status is Status.INFEASIBLE)):
            best = second.best
    if best is None:
        return _total(series, last, last)
    if not proved:
        rest = tuple(replace(one, status=Status.FEASIBLE) for one in best.alternatives)
        best = replace(best, status=Status.FEASIBLE, alternatives=rest)
    return _total(series, best, last)


@dataclass
class _Stages:
    """The searches for objectives in order, and their results so far.

    Attributes
    ----------
    best, last : Result or None
        Results of the last objective with a selection, and of the last search.
    proved : bool
        Whether the answer is proved.
    valid : bool or None
        Without `demand`: whether the selections behind bounds with a slack are valid for all objectives, if known.
    """

    best: Result | None = None
    last: Result | None = None
    proved: bool = False
    valid: bool | None = None

    def run(
        self,
        series: Series,
        objectives: Sequence[tuple[Metric, Any]],
        problem: Problem,
        losses: Sequence[float],
        *,
        demand: bool,
    ) -> None:
        """Search; with `demand`, a selection must be valid for all objectives from the first search on."""
        kept: list[Constraint] = []
        bounds: list[tuple[Metric, NDArray[np.int64]]] = []
        proved, initial = True, series.options["initial"]
        for place, (objective, sense) in enumerate(objectives):
            if self.last is not None and series.spent:
                return
            series.left, later = len(objectives) - place, [metric for metric, _ in objectives[place + 1 :]]
            given: dict[str, Any] = {"initial": initial, "slack": 0.0}
            if later:
                given |= {"answers": 1, "alike": None, "checkpoint": None, "resume": False}
            now = replace(problem, objective=objective, sense=sense, constraints=[*problem.constraints, *kept])
            doubtful = [metric for metric in later if not metric.closed_form]
            wanted = [_is_valid(metric) for metric in doubtful if demand]
            last = series.run(replace(now, constraints=[*now.constraints, *wanted]), **given)
            if wanted:
                asked = replace(last.asked, problem=replace(last.problem, constraints=now.constraints))
                last = replace(last, asked=asked, constraints=list(last.constraints)[: len(now.constraints)])
            self.last = last
            if not last.feasible or last.value is None or last.indices is None:
                return
            self.best, proved = last, proved and last.status is Status.OPTIMAL
            if series.stopped is not None:
                self.proved = proved and not later
                return
            if later:
                limit = last.value + now.sign * losses[place] * abs(last.value)
                kept.append(Constraint(objective, limit, "<=" if now.sign > 0 else ">="))
                initial = last.indices
                if losses[place] and not demand:
                    bounds += [(metric, last.indices) for metric in doubtful]
        known = [_known_valid(metric, selection) for metric, selection in bounds]
        self.valid = False if False in known else (None if None in known else True)
        self.proved = proved and self.valid is True


def _is_valid(metric: Metric) -> Constraint:
    """The constraint that a selection is valid for a metric."""
    return Constraint(metric, VALID, "<=", words=f"{metric.name} is valid")


def _known_valid(metric: Metric, selection: NDArray[np.int64]) -> bool | None:
    """Whether a selection is valid for a metric; None if that is not known without a call of a costly one."""
    try:
        low, high = metric.between(selection[None])
    except (Exception, KeyboardInterrupt):
        return None
    return True if low[0] == high[0] else (False if np.isnan(low[0]) else None)
