"""Mode selection: one mode per activity under budgets, without the capacities of renewable resources."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import gcd, inf
from typing import Any

import networkx as nx

import cggd
from cggd import Constraint, Descent, Feasibility, Metric, Result, Status, portfolio
from cggd.checks import as_number, check_time_limit
from cggd.space import few
from cggd_scheduling.bounds import rounded_up
from cggd_scheduling.lp_dive import LARGE, rounded
from cggd_scheduling.project import LARGEST, Project, check_project
from cggd_scheduling.schedule import Schedule, nothing_to_do

# Least time limit of the core, enough to evaluate the initial selection.
LEAST_SECONDS = 1.0

# A short descent suffices, since reduced cores are solved exactly: on every 5th of 189 instances it gives the same
# optima as 6 starts of 600 steps, in 0.2 s on average instead of 1.3 s.
DESCENT = Descent(steps=50, starts=1)

# Limits of each step of the diagnosis of infeasible budgets.
DIAGNOSIS_SECONDS = 10.0


def select_modes(
    project: Project,
    minimize: Hashable | None = None,
    *,
    deadline: float | None = None,
    seed: int = 0,
    time_limit: float | None = None,
    **options: Any,
) -> Schedule:
    """Choose a mode for each activity: the shortest critical path under the budgets, or the least cost by a deadline.

    Capacities of renewable resources are ignored; `schedule_project` keeps them.

    Parameters
    ----------
    project : Project
    minimize : resource, optional
        A non-renewable resource whose use is minimised (time-cost trade-off); by default the critical path is.
    deadline : number, optional
        Bound on the critical path.
    seed, time_limit, **options
        As for `cggd.minimize`, with a short descent by default. Without a time limit, projects of more than 2,000 modes
        in all get only a descent.

    Returns
    -------
    Schedule
        With the earliest start of each activity. If it is infeasible, its `reason` names the conflicting bounds and the
        values that would work.

    Examples
    --------
    >>> project = Project(
    ...     {"dig": [(5, {"money": 1}), (2, {"money": 4})], "lay": [(4, {}), (3, {"money": 2})]},
    ...     [("dig", "lay")],
    ...     nonrenewable={"money": 5},
    ... )
    >>> select_modes(project).makespan
    6
    >>> select_modes(project, "money", deadline=8).value
    3
    """
    check_project(project)
    check_time_limit(time_limit)
    if deadline is not None:
        as_number(deadline, "deadline", finite=False)
    check_minimize(project, minimize)
    if project.requirements(renewable=False).special:
        raise ValueError(
            "select_modes knows no releases, due dates and lags, which the project has; schedule_project does"
        )
    began = time.perf_counter()
    objective = "makespan" if minimize is None else str(minimize)
    requirements = project.requirements(renewable=False, deadline=deadline)
    if not project.activities:
        return nothing_to_do(requirements, objective)
    constraints = list(project.constraints)
    if deadline is not None:
        constraints.append(project.critical_path <= _reachable(project, deadline))
    least = -inf
    metric: Metric = project.critical_path if minimize is None else project.use(minimize)
    if project.space.n_options > LARGE:
        initial, least = rounded(metric, constraints, time_limit=time_limit)
        options.setdefault("initial", initial)
        if time_limit is None:  # without a limit the other improvers would go on for very long
            options.setdefault("improvers", [DESCENT])
    options.setdefault("improvers", portfolio(DESCENT))
    step = _step(project, minimize)
    if time_limit is not None:
        time_limit = max(time_limit - (time.perf_counter() - began), LEAST_SECONDS)
    result = cggd.minimize(metric, constraints, seed=seed, time_limit=time_limit, **options)
    seconds = time.perf_counter() - began
    if result.selection is None or result.value is None:
        reason = explained(result, result.stop_text, constraints)
        return Schedule(requirements, {}, {}, status=result.status, reason=reason, objective=objective, seconds=seconds)
    start = earliest_starts(project, result.selection)
    found = Schedule(requirements, start, result.selection)
    value = found.makespan if minimize is None else found.used(minimize)
    least = max(least, -inf if result.bound is None else result.bound)
    bound = None if least == -inf else rounded_up(least, step)
    optimal = result.status is Status.OPTIMAL or (bound is not None and value <= bound)
    return replace(
        found,
        status=Status.OPTIMAL if optimal else Status.FEASIBLE,
        objective=objective,
        value=value,
        bound=value if optimal else bound,
        reason="no selection can be better" if optimal else result.stop_text,
        facts={"left out": f"capacities of {few(list(project.renewable))}"} if project.renewable else {},
        seconds=seconds,
    ).verify()


def check_minimize(project: Project, minimize: Hashable | None) -> None:
    """Raise ValueError if `minimize` is not a non-renewable resource of the project."""
    if minimize is not None and minimize not in project.nonrenewable:
        known = list(project.nonrenewable)
        raise ValueError(f"minimize must be a non-renewable resource, one of {known}, or None, got {minimize!r}")


def earliest_starts(project: Project, modes: dict[Hashable, Hashable]) -> dict[Hashable, int]:
    """Earliest start of each activity by precedence alone."""
    start: dict[Hashable, int] = {}
    for a in nx.topological_sort(project.graph):
        ends = (start[p] + project.activities[p][modes[p]].duration for p in project.graph.pred[a])
        start[a] = max(ends, default=0)
    return {a: start[a] for a in project.activities}


def explained(
    answer: Result | Feasibility,
    stopped: str,
    constraints: Sequence[Constraint],
    forbid: Mapping[Hashable, Iterable[Hashable]] | None = None,
) -> str:
    """Why there is no selection: the conflicting bounds and what would work, or the nearest selection found."""
    if answer.status is Status.INFEASIBLE:
        diagnosis = str(cggd.diagnose(constraints, time_limit=DIAGNOSIS_SECONDS, forbid=forbid))
        return diagnosis.removeprefix(Status.INFEASIBLE.value).removeprefix("; ")
    return "\n".join([stopped, *(f"  {row}" for row in answer.constraints)])


def _reachable(project: Project, deadline: Any) -> Any:
    """The deadline; if it is too large to be exact, the last time at which an activity can end."""
    if not LARGEST < deadline < inf:
        return deadline
    return int(deadline) // project.time_step * project.time_step


def _step(project: Project, minimize: Hashable | None) -> int:
    """A number of which every value of the objective is a multiple."""
    if minimize is None:
        return project.time_step
    return gcd(*(m.demands.get(minimize, 0) for modes in project.activities.values() for m in modes.values())) or 1
