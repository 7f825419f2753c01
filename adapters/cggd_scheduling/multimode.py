"""The multi-mode resource-constrained project scheduling problem: the least makespan under capacities and budgets."""

from __future__ import annotations

import time
from dataclasses import replace

import cggd
from cggd import Status
from cggd.metrics.base import as_number, check_time_limit, whole
from cggd_scheduling.bounds import least_bound, relaxed_shares
from cggd_scheduling.generation import Instance
from cggd_scheduling.modes import explained
from cggd_scheduling.population import Search
from cggd_scheduling.project import Project, check_project
from cggd_scheduling.schedule import Schedule, nothing_to_do, shown

# The field's usual limit (Hartmann & Kolisch, EJOR 2000).
SCHEDULES = 5000

# What the look for modes that meet the budgets may take.
SEEK_SECONDS = 30.0

# What the bound of a small project may take.
BOUND_SECONDS = 1.0


def schedule_project(
    project: Project,
    *,
    schedules: int = SCHEDULES,
    deadline: float | None = None,
    seed: int = 0,
    time_limit: float | None = None,
) -> Schedule:
    """Choose modes and start times for the least makespan, under capacities and budgets.

    Parameters
    ----------
    project : Project
    schedules : int
        Schedules that are made before the search ends. One is a pass of the serial scheme over all activities, forward
        or backward, whatever it tries on its way.
    deadline : number, optional
        The project must not end later.
    seed : int
        The same seed gives the same schedule.
    time_limit : float, optional
        Seconds after which the search ends.

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
    if deadline is not None:
        as_number(deadline, "deadline")
    began = time.perf_counter()
    found = _found(project, schedules, deadline, seed, time_limit or float("inf"))
    return replace(found, seconds=time.perf_counter() - began).verify() if found.start else found


def _found(project: Project, schedules: int, deadline: float | None, seed: int, time_limit: float) -> Schedule:
    requirements = project.requirements(deadline=deadline)

    def none(status: Status, reason: str, bound: int | None = None) -> Schedule:
        return Schedule(requirements, {}, {}, status=status, reason=reason, bound=bound)

    if not project.activities:
        return nothing_to_do(requirements)
    if reason := project.impossible():
        return none(Status.INFEASIBLE, reason)
    late = time.perf_counter() + time_limit
    instance = Instance.of(project)
    positions = [{o.label: m for m, o in enumerate(options)} for options in instance.options]
    witness = [0] * len(instance.names)
    if project.constraints:
        seconds = min(time_limit, SEEK_SECONDS)
        answer = cggd.find_feasible(project.constraints, seed=seed, time_limit=seconds, forbid=project.oversized)
        if answer.selection is None:
            stopped = "no modes that meet the budgets were found"
            return none(answer.status, explained(answer, stopped, project.constraints, project.oversized))
        witness = [at[answer.selection[a]] for a, at in zip(instance.names, positions, strict=True)]
    shares = _shares(instance, None if time_limit == float("inf") else time_limit)
    # It ends the search earlier, and does not change what is found: the same seed gives the same schedule.
    bound = least_bound(project, seed=seed, time_limit=min(time_limit, _bound_seconds(project)))
    steps = bound // instance.unit
    search = Search(instance, witness, shares, schedules=schedules, seed=seed, bound=steps, late=late)
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
        stopped = stopped or "time limit"
    stopped = "; ".join(filter(None, [stopped, f"{search.made} schedules made"]))
    if deadline is not None and makespan > deadline:
        if bound > deadline:
            return none(Status.INFEASIBLE, f"no schedule ends before {bound}; the deadline is {shown(deadline)}", bound)
        return none(
            Status.UNKNOWN, f"the shortest schedule found takes {makespan}, the deadline is {shown(deadline)}", bound
        )
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


def _shares(instance: Instance, time_limit: float | None) -> list[list[float]] | None:
    """Shares of the linear program for each option of each activity of an instance."""
    project, space = instance.project, instance.project.space
    shares = relaxed_shares(project, time_limit=time_limit)
    if shares is None:
        return None
    starts = [space.offsets[space.position(a)] for a in instance.names]
    labels = [list(project.activities[a]) for a in instance.names]
    return [
        [max(float(shares[first + names.index(o.label)]), 0.0) for o in options]
        for first, names, options in zip(starts, labels, instance.options, strict=True)
    ]


def _bound_seconds(project: Project) -> float:
    """What the bound may take: a linear program of 10,000 modes takes about 3 s."""
    return max(BOUND_SECONDS, project.space.n_options / 1000)
