"""Multi-mode resource-constrained project scheduling: the least makespan under capacities and budgets."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cggd
from cggd import Status
from cggd.budget import Budget
from cggd.checks import as_number, check_choice, check_time_limit, whole
from cggd.program.highs import LinearProgram, Outcome
from cggd_scheduling import cp_sat
from cggd_scheduling.best import Best
from cggd_scheduling.bounds import relaxation
from cggd_scheduling.cp_sat import Attempt, Goal
from cggd_scheduling.decoding import Instance
from cggd_scheduling.genetic import Member, Search, Stop
from cggd_scheduling.modes import check_minimize, explained, select_modes
from cggd_scheduling.project import Project, check_project
from cggd_scheduling.schedule import Schedule, nothing_to_do
from cggd_scheduling.tasks import GOALS, LISTS, Objective, begin

# The usual limit in the literature (Hartmann & Kolisch, EJOR 2000).
SCHEDULES = 5000

# Projects of at most SMALL modes get a CP-SAT run after SMALL_SCHEDULES schedules. With a time limit the run has
# SMALL_SHARE of the time and at most SMALL_SECONDS. It proves most projects of j10 to j30 and MMLIB50 within a second.
SMALL, SMALL_SCHEDULES, SMALL_SHARE, SMALL_SECONDS = 250, 100, 0.3, 2.0

# On one thread, the genetic algorithm gets this share of the time left, and CP-SAT the rest. With more threads they run
# in parallel.
GENETIC_SHARE = 0.6
ATTEMPTS = (Attempt(0.15, {}), Attempt(0.6, cp_sat.NEIGHBOURHOODS, again=True), Attempt(1.0, cp_sat.RAISING))

# Branch-and-bound nodes for modes within the budgets; the usual test sets need a few.
SEEK_NODES = 20_000

# Seconds; stands for no time limit.
LONG = 1e7

# Steps of the bisection for the least use of a resource, without CP-SAT.
HALVINGS = 12


def schedule_project(
    project: Project,
    *,
    minimize: Hashable | None = None,
    objective: Objective = "makespan",
    schedules: int = SCHEDULES,
    deadline: float | None = None,
    seed: int = 0,
    time_limit: float | None = None,
    workers: int | None = None,
) -> Schedule:
    """Choose modes and start times for the least makespan, under capacities and budgets.

    Parameters
    ----------
    project : Project
    minimize : resource, optional
        A non-renewable resource whose use is minimised instead of the objective; capacities are kept.
    objective : {"makespan", "tardiness"}
        The tardiness is that of the project's due dates.
    schedules : int
        Schedules that the genetic algorithm makes. One is a pass of the serial scheme over all activities, forward or
        backward, however many modes it tries.
    deadline : number, optional
        Latest end of the project.
    seed : int
        The same seed gives the same schedule.
    time_limit : float, optional
        Seconds after which the search ends. Without it the result does not depend on the speed of the machine.
    workers : int, optional
        Threads of CP-SAT with a time limit; by default as many as there are cores.

    Returns
    -------
    Schedule
        Verified by the independent checker. OPTIMAL if its makespan equals the bound: the critical path, or the work
        for a resource divided by its capacity, with modes within the budgets; or the bound of CP-SAT, if OR-tools is
        installed (``cggd[scheduling]``). If it is infeasible, its `reason` names the conflicting bounds and the values
        that would work. Ctrl-C ends the search with the best schedule so far.

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
    check_choice(objective, Objective, "objective")
    if minimize is not None and objective != "makespan":
        raise ValueError(f"give minimize or objective, not both; got {minimize!r} and {objective!r}")
    if deadline is not None:
        as_number(deadline, "deadline")
    budget, needs = Budget(time_limit), project.requirements(deadline=deadline)
    goal = GOALS[objective] if minimize is None else _use(minimize)
    if not project.activities:
        return nothing_to_do(needs, goal.name)
    best = Best(needs, goal, budget, seed=seed, workers=workers)
    try:
        if reason := project.impossible():
            best.proof = reason
        elif minimize is not None:
            _cheapest(project, minimize, best, schedules)
        elif needs.special or objective != "makespan":
            if objective == "makespan":
                best.raise_bound(relaxation(project, time_limit=_left(budget)).bound)
            begin(best, LISTS)
            best.prove()
        else:
            _shortest(project, best, schedules)
    except KeyboardInterrupt:
        best.notes.insert(0, "interrupted")
    return best.result(budget.seconds)


def _use(resource: Hashable) -> Goal:
    """The goal to minimise the use of a non-renewable resource."""
    return Goal(str(resource), lambda schedule: schedule.used(resource), lambda model: model.use(resource))


def _left(budget: Budget) -> float | None:
    """Seconds that are left, at least 0.01; None without a time limit."""
    return max(budget.left, 0.01) if budget.limited else None


def _shortest(project: Project, best: Best, schedules: int, *, enough: bool = False) -> None:
    """Search for short schedules; with `enough`, without CP-SAT and only until one keeps the deadline."""
    budget, deadline, instance = best.budget, best.needs.deadline, Instance.of(project)
    witness, best.proof = _affordable(project, instance, best)
    if witness is None:
        return
    known = relaxation(project, time_limit=_left(budget))
    best.raise_bound(known.bound if best.bound is None else max(known.bound, best.bound))
    goal = max(known.bound, deadline) if enough and deadline is not None else known.bound
    share = 1.0 if enough or best.beside else best.share(GENETIC_SHARE)
    small = not enough and not best.beside and project.space.n_options <= SMALL and cp_sat.available()
    stop = Stop(schedules, bound=int(goal // instance.unit), budget=budget.part(share=share))
    search = Search(instance, witness, _by_activity(instance, known.shares), stop=stop, seed=best.seed)

    def take() -> None:
        if search.best is not None and search.best.makespan * instance.unit < best.value:
            best.take(*_named(instance, search.best))

    tried = not small
    try:
        with best.proving(*(() if enough else ATTEMPTS)) as beside:
            for _ in search.run():
                take()
                if not tried and search.made >= SMALL_SCHEDULES:
                    tried = True
                    best.prove(budget.part(share=SMALL_SHARE, seconds=SMALL_SECONDS) if budget.limited else None)
                if (news := beside.news()) is not None:
                    search.guests.append(_member(instance, news))
                if best.over or beside.settled(best.value):
                    break
    finally:
        take()
        best.notes.append(f"{search.made} schedules made")
    if not enough and (budget.limited or not small):
        best.prove()


def _member(instance: Instance, schedule: Schedule) -> Member:
    """A schedule in numbers."""
    start = tuple(schedule.start[a] // instance.unit for a in instance.names)
    modes = tuple(_positions(instance, schedule.modes))
    return Member(schedule.makespan // instance.unit, start, modes)


def _named(instance: Instance, member: Any) -> tuple[dict[Hashable, int], dict[Hashable, Hashable]]:
    """Starts and modes by activity."""
    start = {a: time * instance.unit for a, time in zip(instance.names, member.start, strict=True)}
    modes = (options[m].label for options, m in zip(instance.options, member.modes, strict=True))
    return start, dict(zip(instance.names, modes, strict=True))


def _affordable(project: Project, instance: Instance, best: Best) -> tuple[list[int] | None, str]:
    """Modes within the budgets, as positions in the instance's options; or None, with the proof if there is one."""
    if not project.constraints:
        return [0] * len(instance.names), ""
    space, allowed = project.space, project.space.allowed(project.oversized)
    stopped = "no modes that meet the budgets were found"
    program = LinearProgram(space, project.constraints, allowed=allowed)
    found = program.solve(node_limit=SEEK_NODES, time_limit=_left(best.budget))
    if found.selection is not None:
        modes = _positions(instance, space.labels(found.selection))
        if instance.affordable(modes):
            return modes, ""
    if found.outcome is Outcome.STOPPED and not best.budget.limited:
        best.notes.append(f"{stopped} within {SEEK_NODES} nodes of the exact solver")
        return None, ""
    seconds = _left(best.budget) or LONG
    answer = cggd.find_feasible(project.constraints, seed=best.seed, time_limit=seconds, forbid=project.oversized)
    if answer.selection is not None:
        return _positions(instance, answer.selection), ""
    reason = explained(answer, stopped, project.constraints, project.oversized)
    if answer.status is Status.INFEASIBLE:
        return None, reason
    best.notes.append(reason)
    return None, ""


def _positions(instance: Instance, modes: Any) -> list[int]:
    """Modes of each activity as positions in the instance's options."""
    positions = ({o.label: m for m, o in enumerate(options)} for options in instance.options)
    return [at[modes[a]] for a, at in zip(instance.names, positions, strict=True)]


def _cheapest(project: Project, minimize: Hashable, best: Best, schedules: int) -> None:
    """Minimise the use of a non-renewable resource: first without, then with the capacities."""
    budget, deadline = best.budget, best.needs.deadline
    fitting = {
        a: {label: mode for label, mode in modes.items() if label not in project.oversized.get(a, ())}
        for a, modes in project.activities.items()
    }
    project = replace(project, activities=fitting)
    relaxed = select_modes(project.plain, minimize, deadline=deadline, seed=best.seed, time_limit=_left(budget))
    if not relaxed.start:
        best.proof = relaxed.reason if relaxed.status is Status.INFEASIBLE else ""
        best.notes.append(relaxed.reason)
        return
    best.raise_bound(0 if relaxed.bound is None else relaxed.bound)

    def within(project: Project) -> Best:
        """Search for any schedule by the deadline, of a project with fewer modes or a smaller budget."""
        found = Best(best.needs, GOALS["makespan"], budget, seed=best.seed)
        if project.requirements().special:
            begin(found, LISTS)
        else:
            _shortest(project, found, schedules, enough=True)
        if found.schedule is not None:
            best.take(found.schedule.start, found.schedule.modes)
        return found

    within(replace(project, activities={a: {m: fitting[a][m]} for a, m in relaxed.modes.items()}))
    if not best.over and best.schedule is None:
        tried = within(project)
        best.late, best.proof = tried.late, tried.proof
    best.prove()
    low = best.bound
    for _ in range(0 if cp_sat.available() else HALVINGS):
        if best.over or best.schedule is None or low >= best.value:
            return
        middle = (low + best.value) // 2
        found = within(replace(project, nonrenewable={**project.nonrenewable, minimize: middle}))
        if found.schedule is None:
            low = middle + 1
            if found.proof:
                best.raise_bound(low)


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
