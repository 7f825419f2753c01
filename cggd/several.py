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
from cggd.result import Result, Status
from cggd.space import ChoiceSpace

# A search: a problem and the options of `minimize` for one search.
Search = Callable[..., Result]


def several_answers(
    search: Search, problem: Problem, answers: int, differ: int, alike: Any, options: Mapping[str, Any]
) -> Result:
    """The best answers, one search for each; `Result.alternatives` holds those after the first.

    Each search has the constraint that its selection differs from all earlier ones. An answer is proved if its search
    and all earlier ones are.
    """
    space, budget = problem.space, Budget(options["time_limit"])
    answers, differ = whole(answers, "answers", least=1), whole(differ, "differ", least=1)
    if differ > space.n_decisions:
        raise ValueError(f"differ must be at most the number of decisions, {space.n_decisions}, got {differ}")
    alike = _alike(space, alike)
    found: list[Result] = []
    seconds, evaluations, exhausted, proved = 0.0, 0, False, True
    apart: list[Constraint] = []
    while len(found) < answers:
        given = dict(options)
        if budget.limited:
            given["time_limit"] = max(budget.left / (answers - len(found)), 1e-3)
        if found:
            given |= {"checkpoint": None, "resume": False, "initial": None}
            apart.append(_apart(problem, found[-1].indices, differ, alike, len(found)))
        result = search(replace(problem, constraints=[*problem.constraints, *apart]), **given)
        seconds, evaluations = seconds + result.seconds, evaluations + result.evaluations
        if not result.feasible:
            exhausted = bool(found) and proved and result.status is Status.INFEASIBLE
            if not found:
                return result
            break
        proved = proved and result.status is Status.OPTIMAL
        rows = list(result.constraints)[: len(problem.constraints)]
        status = Status.OPTIMAL if proved else Status.FEASIBLE
        found.append(replace(result, constraints=rows, status=status, asked=replace(result.asked, problem=problem)))
        if result.stopped in (Stop.CALLBACK, Stop.INTERRUPTED):
            break
    bound = found[0].bound
    # Without proofs a later search may find a better selection.
    found.sort(key=lambda result: problem.sign * float(result.value or 0.0))
    run = replace(found[0].run, seconds=seconds, evaluations=evaluations, exhausted=exhausted)
    return replace(found[0], run=run, bound=bound, alternatives=tuple(found[1:]))


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


def in_order(
    search: Search, objectives: Sequence[tuple[Metric, Any]], problem: Problem, slack: Any, options: Mapping[str, Any]
) -> Result:
    """Optimise objectives in order, each within a bound on the loss of those before; the result is that of the last.

    Each objective is given with its sense, ``"minimize"`` or ``"maximize"``.
    Each earlier objective stands at the end of the result's constraints, with the bound that it must keep.
    """
    losses = list(slack) if isinstance(slack, list | tuple) else [slack] * (len(objectives) - 1)
    if len(losses) != len(objectives) - 1:
        raise ValueError(f"slack must be a number, or {len(objectives) - 1} numbers for {len(objectives)} objectives")
    losses = [as_amount(loss, "slack") for loss in losses]
    budget, kept, proved = Budget(options["time_limit"]), [], True
    seconds, evaluations, initial = 0.0, 0, options["initial"]
    result: Result | None = None
    for place, (objective, sense) in enumerate(objectives):
        last = place == len(objectives) - 1
        given = {**options, "initial": initial}
        if budget.limited:
            given["time_limit"] = max(budget.left / (len(objectives) - place), 1e-3)
        if not last:
            given |= {"answers": 1, "alike": None, "checkpoint": None, "resume": False}
        now = replace(problem, objective=objective, sense=sense, constraints=[*problem.constraints, *kept])
        result = search(now, **given)
        seconds, evaluations = seconds + result.seconds, evaluations + result.evaluations
        if not result.feasible or result.value is None or result.stopped in (Stop.CALLBACK, Stop.INTERRUPTED):
            break
        proved = proved and result.status is Status.OPTIMAL
        if not last:
            limit = result.value + now.sign * losses[place] * abs(result.value)
            kept.append(Constraint(objective, limit, "<=" if now.sign > 0 else ">="))
            initial = result.indices
    assert result is not None
    status = Status.FEASIBLE if result.feasible and not proved else result.status
    return replace(result, status=status, run=replace(result.run, seconds=seconds, evaluations=evaluations))
