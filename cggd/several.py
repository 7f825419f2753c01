"""Several answers, and several objectives in order: one search after another, each with a constraint more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd.budget import Budget, Stop
from cggd.checks import as_amount, whole
from cggd.constraints import Constraint
from cggd.metrics import Additive, Excess, Metric
from cggd.problem import Problem
from cggd.result import Result, SearchError, Status
from cggd.space import ChoiceSpace

# A search: a problem and the options of `minimize` for one search.
Search = Callable[..., Result]

# After these a series of searches does not go on.
ENDED = (Stop.CALLBACK, Stop.INTERRUPTED, Stop.FAILED)

# A value of a valid selection is less than this; a bound that asks for nothing else.
VALID = 1e300


class _Series:
    """Searches one after another, which share the limits of `options`.

    Attributes
    ----------
    failure : SearchError or None
        The error that ended a search; `total` raises it again, with the result of the series.
    """

    def __init__(self, search: Search, options: Mapping[str, Any]) -> None:
        self.search, self.options, self.budget = search, options, Budget(options["time_limit"])
        most = options["max_evaluations"]
        self.most = None if most is None else whole(most, "max_evaluations", least=1)
        self.seconds, self.evaluations = 0.0, 0
        self.failure: SearchError | None = None

    @property
    def spent(self) -> bool:
        """Whether no evaluations are left."""
        return self.most is not None and self.evaluations >= self.most

    def run(self, problem: Problem, searches: int, **options: Any) -> Result:
        """One search, which gets an equal share of what is left for a number of searches."""
        given = {**self.options, **options}
        if self.budget.limited:
            given["time_limit"] = max(self.budget.left / searches, 1e-3)
        if self.most is not None:
            # Half of them may be needed to evaluate the answer again.
            left, least = self.most - self.evaluations, 2 * problem.calls_each
            given["max_evaluations"] = max(left // searches, min(left, least), 1)
        try:
            result = self.search(problem, **given)
        except SearchError as error:
            result, self.failure = error.result, error
        self.seconds, self.evaluations = self.seconds + result.seconds, self.evaluations + result.evaluations
        return result

    def total(self, result: Result, last: Result, **facts: Any) -> Result:
        """A result with the seconds and evaluations of all searches, and with what ended the last one if it failed."""
        run = replace(result.run, seconds=self.seconds, evaluations=self.evaluations, **facts)
        if last.stopped in ENDED:
            result, run = replace(result, stopped=last.stopped), replace(run, note=last.note)
        result = replace(result, run=run)
        if self.failure is not None:
            raise SearchError.of(self.failure.__cause__ or self.failure, result) from self.failure.__cause__
        return result


def several_answers(
    search: Search, problem: Problem, answers: int, differ: int, alike: Any, options: Mapping[str, Any]
) -> Result:
    """The best answers, one search for each; `Result.alternatives` holds those after the first.

    Each search has the constraint that its selection differs from all earlier ones. An answer is proved if its search
    and all earlier ones are.
    """
    space, series = problem.space, _Series(search, options)
    answers, differ = whole(answers, "answers", least=1), whole(differ, "differ", least=1)
    if differ > space.n_decisions:
        raise ValueError(f"differ must be at most the number of decisions, {space.n_decisions}, got {differ}")
    alike = _alike(space, alike)
    found: list[Result] = []
    exhausted, proved, last = False, True, None
    given: dict[str, Any] = {}
    apart: list[Constraint] = []
    while len(found) < answers and not (found and series.spent):
        if found:
            given = {"checkpoint": None, "resume": False, "initial": None}
            apart.append(_apart(problem, found[-1].indices, differ, alike, len(found)))
        now = replace(problem, constraints=[*problem.constraints, *apart])
        last = series.run(now, answers - len(found), **given)
        if not last.feasible:
            # Answers that differ in more decisions may be fewer because those before were not the best.
            exhausted = last.status is Status.INFEASIBLE and (proved or differ == 1)
            break
        proved = proved and last.status is Status.OPTIMAL
        rows = list(last.constraints)[: len(problem.constraints)]
        found.append(replace(last, constraints=rows, status=Status.OPTIMAL if proved else Status.FEASIBLE))
        if last.stopped in ENDED:
            break
    assert last is not None
    if not found:
        return series.total(last, last)
    bound, asked = found[0].bound, found[0].asked
    # Without proofs a later search may find a better selection.
    found.sort(key=lambda result: problem.sign * float(result.value or 0.0))
    best = replace(found[0], bound=bound, asked=asked, alternatives=tuple(found[1:]))
    return series.total(best, last, exhausted=exhausted)


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

    Decisions that are alike differ by the options that they take together, in any order.
    """
    space, name = problem.space, f"differences from answer {number}"
    if not len(alike):
        same = np.zeros(space.n_options)
        same[space.layout.flat(selection)] = 1.0
        return Additive(space, same, name=f"decisions as in answer {number}") <= space.n_decisions - differ
    # A row per option that was chosen: how often it is missing now.
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
    """Optimise objectives in order, each within a bound on the loss of those before; the result is that of the last.

    Each objective is given with its sense, ``"minimize"`` or ``"maximize"``.
    Each earlier objective stands at the end of the result's constraints, with the bound that it must keep. If the
    search for a later objective finds nothing or fails, the result is that of the objective before, and is not proved.
    """
    losses, series = shares(slack, len(objectives)), _Series(search, options)
    doubtful = [metric for metric, _ in objectives[1:] if not metric.closed_form]
    # A later objective is evaluated only where those before are at their best, unless a selection there is not valid.
    best, last, proved, valid = _stages(series, objectives, problem, losses, demand=False)
    nothing = best is not None and not last.feasible and last.stopped in (Stop.INFEASIBLE, Stop.DONE)
    if doubtful and not series.spent and (nothing or valid is False) and series.failure is None:
        again, end, sure, _ = _stages(series, objectives, problem, losses, demand=True)
        reached = again is not None and again.problem.objective is objectives[-1][0]
        if nothing or reached or end.stopped in ENDED:
            last, proved = end, sure
        if reached or (nothing and (again is not None or end.status is Status.INFEASIBLE)):
            best = again
    if best is None:
        return series.total(last, last)
    if not proved:
        rest = tuple(replace(one, status=Status.FEASIBLE) for one in best.alternatives)
        best = replace(best, status=Status.FEASIBLE, alternatives=rest)
    return series.total(best, last)


def _stages(
    series: _Series,
    objectives: Sequence[tuple[Metric, Any]],
    problem: Problem,
    losses: Sequence[float],
    *,
    demand: bool,
) -> tuple[Result | None, Result, bool, bool | None]:
    """The result of the last objective reached, if any, that of the last search, whether the answer is proved.

    With `demand`, a selection must be valid for all objectives from the first search on. Without, the fourth part says
    whether those are that bounds with a slack were taken from; None if that is not known.
    """
    kept: list[Constraint] = []
    bounds: list[tuple[Metric, NDArray[np.int64]]] = []
    best, last, proved, initial = None, None, True, series.options["initial"]
    for place, (objective, sense) in enumerate(objectives):
        if last is not None and series.spent:
            return best, last, False, None
        left, later = len(objectives) - place, [metric for metric, _ in objectives[place + 1 :]]
        given: dict[str, Any] = {"initial": initial, "slack": 0.0}
        if later:
            given |= {"answers": 1, "alike": None, "checkpoint": None, "resume": False}
        now = replace(problem, objective=objective, sense=sense, constraints=[*problem.constraints, *kept])
        doubtful = [metric for metric in later if not metric.closed_form]
        wanted = [_is_valid(metric) for metric in doubtful if demand]
        last = series.run(replace(now, constraints=[*now.constraints, *wanted]), left, **given)
        if wanted:
            asked = replace(last.asked, problem=replace(last.problem, constraints=now.constraints))
            last = replace(last, asked=asked, constraints=list(last.constraints)[: len(now.constraints)])
        if not last.feasible or last.value is None or last.indices is None:
            return best, last, False, None
        best, proved = last, proved and last.status is Status.OPTIMAL
        if last.stopped in ENDED:
            return best, last, proved and not later, None
        if later:
            limit = last.value + now.sign * losses[place] * abs(last.value)
            kept.append(Constraint(objective, limit, "<=" if now.sign > 0 else ">="))
            initial = last.indices
            if losses[place] and not demand:
                bounds += [(metric, last.indices) for metric in doubtful]
    assert last is not None
    known = [_known_valid(metric, selection) for metric, selection in bounds]
    valid = False if False in known else (None if None in known else True)
    return best, last, proved and valid is True, valid


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
