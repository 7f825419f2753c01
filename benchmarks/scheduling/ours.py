"""cggd as a user would call it, with a time limit and default options."""

from __future__ import annotations

from benchmarks.scheduling.cases import Answer, Case
from cggd_scheduling import Schedule, place, schedule_jobs, schedule_project, select_modes, synthesize

# Number of schedules or moves, so large that only the time limit ends the search.
ENDLESS = 10**9


def solve(case: Case, *, seed: int, seconds: float, workers: int = 1) -> Answer | None:
    found = _solved(case, seed, seconds, workers)
    if not found.feasible:
        return None
    return Answer(found.modes, found.start, found.bound)


def _solved(case: Case, seed: int, seconds: float, workers: int = 1) -> Schedule:
    problem = case.problem
    how = {"seed": seed, "time_limit": seconds}
    if case.kind == "modes":
        return select_modes(problem, **how)
    how["workers"] = workers
    if case.kind == "projects":
        return schedule_project(problem, schedules=ENDLESS, **how)
    if case.goal in ("sum", "copies"):
        assert case.needs is not None
        return synthesize(problem, case.objective, latency=case.needs.deadline, share=case.goal == "copies", **how)
    if case.kind == "job shop":
        return schedule_jobs(problem, moves=ENDLESS, **how)
    return place(problem, moves=ENDLESS, **how)
