"""The multi-mode resource-constrained project scheduling problem: the least makespan under capacities and budgets."""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cggd
from cggd import Status
from cggd.checks import as_number, check_time_limit, whole
from cggd.program.highs import LinearProgram, Outcome
from cggd.rounding import true_texts
from cggd_scheduling.bounds import relaxation
from cggd_scheduling.generation import Instance
from cggd_scheduling.modes import check_minimize, explained, select_modes
from cggd_scheduling.population import Search, Stop
from cggd_scheduling.project import Project, check_project
from cggd_scheduling.schedule import Schedule, nothing_to_do

# The field's usual limit (Hartmann & Kolisch, EJOR 2000).
SCHEDULES = 5000

# Branch-and-bound nodes for modes that meet the budgets, where no time limit is given; a project of the usual test sets
# takes a few.
SEEK_NODES = 20_000

# A time limit in seconds that is none, for what asks for one.
LONG = 1e7

# Searches by which the least use of a resource is closed in on, where its modes make the project too long.
HALVINGS = 12


def schedule_project(
    project: Project,
    *,
    minimize: Hashable | None = None,
    schedules: int = SCHEDULES,
    deadline: float | None = None,
    seed: int = 0,
    time_limit: float | None = None,
) -> Schedule:
    """Choose modes and start times for the least makespan, under capacities and budgets.

    Parameters
    ----------
    project : Project
    minimize : resource, optional
        A non-renewable resource to use as little of as can be, instead of the least makespan; capacities are kept.
    schedules : int
        Schedules that are made before the search ends. One is a pass of the serial scheme over all activities, forward
        or backward, whatever it tries on its way. With `minimize` and a deadline there may be a dozen such searches.
    deadline : number, optional
        The project must not end later.
    seed : int
        The same seed gives the same schedule.
    time_limit : float, optional
        Seconds after which the search ends. Without it the clock has no say in what is found.

    Returns
    -------
    Schedule
        Verified by the independent checker. OPTIMAL where its makespan equals the bound: the critical path, or the
        work for a resource over its capacity, with modes that the budgets allow. Where there is none its `reason` says
        which bound is in the way, and what would work. A Ctrl-C ends the search with the best schedule so far.

    Examples
    --------
    >>> project = Project(
    ...     {"dig": [(4, {"crew": 1}), (2, {"crew": 2})], "pipe": [(3, {"crew": 1})], "lay": [(2, {"crew": 2})]},
    ...     [("dig", "lay")],
    ...     renewable={"crew": 2},
    ... )
    >>> schedule = schedule_project(project)
    >>> schedule.makespan, schedule.status.name
    (6, 'OPTIMAL')
    """
    check_project(project)
    whole(schedules, "schedules", least=1)
    whole(seed, "seed", least=0)
    check_time_limit(time_limit)
    check_minimize(project, minimize)
    if deadline is not None:
        as_number(deadline, "deadline")
    began = time.perf_counter()
    until = None if time_limit is None else began + time_limit
    if not project.activities:
        return nothing_to_do(project.requirements(deadline=deadline), "makespan" if minimize is None else str(minimize))
    if minimize is None:
        found = _shortest(project, schedules, deadline, seed, until)
    else:
        found = _cheapest(project, minimize, schedules, deadline, seed, until)
    return replace(found, seconds=time.perf_counter() - began).verify() if found.start else found


def _left(until: float | None) -> float | None:
    """Seconds that are left, for what is to do something at least."""
    return None if until is None else max(until - time.perf_counter(), 0.01)


def _shortest(
    project: Project, schedules: int, deadline: float | None, seed: int, until: float | None, *, enough: bool = False
) -> Schedule:
    """The shortest schedule that is found; with `enough`, the first that meets the deadline."""
    requirements = project.requirements(deadline=deadline)

    def none(status: Status, reason: str, bound: int | None = None) -> Schedule:
        return Schedule(requirements, {}, {}, status=status, reason=reason, bound=bound)

    if reason := project.impossible():
        return none(Status.INFEASIBLE, reason)
    instance = Instance.of(project)
    witness, status, reason = _affordable(project, instance, seed, until)
    if witness is None:
        return none(status, reason)
    known = relaxation(project, time_limit=_left(until))
    shares, bound = _by_activity(instance, known.shares), known.bound
    goal = bound if deadline is None or not enough else max(bound, deadline)
    stop = Stop(schedules, bound=int(goal // instance.unit), late=inf if until is None else until)
    search = Search(instance, witness, shares, stop=stop, seed=seed)
    stopped = ""
    try:
        search.run()
    except KeyboardInterrupt:
        stopped = "interrupted"
    if search.best is None:
        return none(Status.UNKNOWN, f"no schedule was made: {stopped or 'time limit'}", bound)
    makespan = search.best.makespan * instance.unit
    if makespan <= bound:
        stopped = "no schedule can be shorter"
    elif search.made < schedules:
        stopped = stopped or ("deadline met" if makespan <= goal else "time limit")
    stopped = "; ".join(filter(None, [stopped, f"{search.made} schedules made"]))
    if deadline is not None and makespan > deadline:
        least, found, last = true_texts(bound, makespan, deadline)
        if bound > deadline:
            return none(Status.INFEASIBLE, f"no schedule ends before {least}; the deadline is {last}", bound)
        return none(Status.UNKNOWN, f"the shortest schedule found takes {found}, the deadline is {last}", bound)
    taken = dict(zip(instance.names, search.best.modes, strict=True))
    labels = {a: options[taken[a]].label for a, options in zip(instance.names, instance.options, strict=True)}
    start = dict(zip(instance.names, search.best.start, strict=True))
    return Schedule(
        requirements,
        {a: start[a] * instance.unit for a in project.activities},
        {a: labels[a] for a in project.activities},
        status=Status.OPTIMAL if makespan <= bound else Status.FEASIBLE,
        bound=bound,
        reason=stopped,
    )


def _affordable(
    project: Project, instance: Instance, seed: int, until: float | None
) -> tuple[list[int] | None, Status, str]:
    """Modes that meet the budgets, as positions in the instance's options; or the status and the reason without any."""
    if not project.constraints:
        return [0] * len(instance.names), Status.FEASIBLE, ""
    space, allowed = project.space, project.space.allowed(project.oversized)
    stopped = "no modes that meet the budgets were found"
    if until is None:
        found = LinearProgram(space, project.constraints, allowed=allowed).solve(node_limit=SEEK_NODES)
        if found.selection is not None:
            modes = _positions(instance, space.labels(found.selection))
            if instance.affordable(modes):
                return modes, Status.FEASIBLE, ""
        if found.outcome is Outcome.STOPPED:
            return None, Status.UNKNOWN, f"{stopped} within {SEEK_NODES} nodes of the exact solver"
    seconds = _left(until) or LONG
    answer = cggd.find_feasible(project.constraints, seed=seed, time_limit=seconds, forbid=project.oversized)
    if answer.selection is None:
        return None, answer.status, explained(answer, stopped, project.constraints, project.oversized)
    return _positions(instance, answer.selection), Status.FEASIBLE, ""


def _positions(instance: Instance, modes: Any) -> list[int]:
    """Modes of each activity as positions in the instance's options."""
    positions = ({o.label: m for m, o in enumerate(options)} for options in instance.options)
    return [at[modes[a]] for a, at in zip(instance.names, positions, strict=True)]


def _cheapest(
    project: Project,
    minimize: Hashable,
    schedules: int,
    deadline: float | None,
    seed: int,
    until: float | None,
) -> Schedule:
    """The least use of a non-renewable resource: of modes alone, then of those that keep deadline and capacities."""
    requirements, objective = project.requirements(deadline=deadline), str(minimize)

    def none(found: Schedule) -> Schedule:
        return replace(
            found, requirements=requirements, start={}, modes={}, objective=objective, value=None, bound=None
        )

    def valued(found: Schedule, bound: Any) -> Schedule:
        used = found.used(minimize)
        optimal = used <= bound
        return replace(
            found,
            requirements=requirements,
            status=Status.OPTIMAL if optimal else Status.FEASIBLE,
            objective=objective,
            value=used,
            bound=min(bound, used),
            reason=f"no schedule takes less of {objective}" if optimal else "",
        )

    if reason := project.impossible():
        return Schedule(requirements, {}, {}, status=Status.INFEASIBLE, objective=objective, reason=reason)
    fitting = {
        a: {label: mode for label, mode in modes.items() if label not in project.oversized.get(a, ())}
        for a, modes in project.activities.items()
    }
    project = replace(project, activities=fitting)
    relaxed = select_modes(project, minimize, deadline=deadline, seed=seed, time_limit=_left(until))
    if not relaxed.start:
        return none(relaxed)
    bound = 0 if relaxed.bound is None else relaxed.bound
    fixed = replace(project, activities={a: {m: fitting[a][m]} for a, m in relaxed.modes.items()})
    found = _shortest(fixed, schedules, deadline, seed, until)
    if found.start or deadline is None:
        return valued(found, bound) if found.start else none(found)

    def within(budget: int | None) -> Schedule:
        least = {**project.nonrenewable, minimize: budget}
        return _shortest(replace(project, nonrenewable=least), schedules, deadline, seed, until, enough=True)

    best = within(project.nonrenewable[minimize])
    if not best.start:
        return none(best)
    low = bound
    for _ in range(HALVINGS):
        high = best.used(minimize)
        if low >= high or (until is not None and time.perf_counter() >= until):
            break
        tried = (low + high) // 2
        if (found := within(tried)).start:
            best = found
        else:
            low = tried + 1
            bound = max(bound, low) if found.status is Status.INFEASIBLE else bound
    return valued(best, bound)


def _by_activity(instance: Instance, shares: NDArray[np.float64] | None) -> list[list[float]] | None:
    """Shares of the linear program for each option of each activity of an instance."""
    if shares is None:
        return None
    project, space = instance.project, instance.project.space
    starts = [space.offsets[space.position(a)] for a in instance.names]
    labels = [list(project.activities[a]) for a in instance.names]
    return [
        [max(float(shares[first + names.index(o.label)]), 0.0) for o in options]
        for first, names, options in zip(starts, labels, instance.options, strict=True)
    ]
