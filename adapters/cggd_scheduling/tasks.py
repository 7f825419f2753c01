"""Schedules of any requirements: a list scheduler, and CP-SAT for better schedules and proofs."""

from __future__ import annotations

from itertools import islice
from typing import Literal

from cggd.budget import Budget
from cggd.checks import check_choice, check_time_limit, whole
from cggd_scheduling.best import Best
from cggd_scheduling.cp_sat import MAKESPAN, TARDINESS
from cggd_scheduling.list_scheduler import ListScheduler
from cggd_scheduling.schedule import Requirements, Schedule, nothing_to_do

Objective = Literal["makespan", "tardiness"]
GOALS = {"makespan": MAKESPAN, "tardiness": TARDINESS}

# Most lists, and the share of a time limit for them. PLACED bounds lists times tasks; there are at least 3 lists.
LISTS, SHARE = 200, 0.1
PLACED = 20_000


def schedule_tasks(
    needs: Requirements,
    objective: Objective = "makespan",
    *,
    lists: int = LISTS,
    time_limit: float | None = None,
    seed: int = 0,
    workers: int | None = None,
    lanes: bool = False,
) -> Schedule:
    """Choose modes and start times that satisfy requirements, with the least makespan or weighted tardiness.

    Parameters
    ----------
    needs : Requirements
    objective : {"makespan", "tardiness"}
    lists : int
        Lists that the list scheduler tries. CP-SAT starts from its best schedule; it needs OR-tools.
    time_limit : float, optional
        Seconds.
    seed : int
    workers : int, optional
        Threads of CP-SAT with a time limit; by default as many as there are cores.
    lanes : bool
        Whether modes are machines that run one task at a time; then they are the rows of a Gantt chart.

    Examples
    --------
    >>> from cggd_scheduling import Alternative
    >>> tasks = {name: {"only": Alternative(n, {"oven": 1})} for name, n in {"bread": 4, "cake": 3, "pie": 2}.items()}
    >>> needs = Requirements(tasks, capacities={"oven": 1}, due={"bread": 9, "cake": 3, "pie": 6}, weights={"cake": 2})
    >>> schedule = schedule_tasks(needs, "tardiness")
    >>> schedule.value, schedule.start
    (0, {'bread': 5, 'cake': 0, 'pie': 3})
    """
    check_choice(objective, Objective, "objective")
    lists, seed = whole(lists, "lists", least=1), whole(seed, "seed", least=0)
    check_time_limit(time_limit)
    needs.check()
    budget = Budget(time_limit)
    if not needs.tasks:
        return nothing_to_do(needs, objective)
    best = Best(needs, GOALS[objective], budget, lanes=lanes, seed=seed, workers=workers)
    try:
        begin(best, lists)
        best.prove()
    except KeyboardInterrupt:
        best.notes.append("interrupted")
    return best.result(budget.seconds)


def begin(best: Best, lists: int) -> None:
    """Run the list scheduler and keep its best schedule."""
    part = best.budget.part(share=SHARE)
    if best.goal is TARDINESS:
        best.raise_bound(0)
    lists = min(lists, max(PLACED // len(best.needs.tasks), 3))
    for found in islice(ListScheduler(best.needs).schedules(best.seed), lists):
        if found is not None:
            best.take(*found)
        if best.over or part.over():
            return
