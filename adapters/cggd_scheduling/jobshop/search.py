"""Search for schedules of a job shop: a dispatching rule, tabu search over machines and sequences, and CP-SAT."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from typing import Any

from cggd import Descent, Stop, minimize, portfolio
from cggd.budget import Budget
from cggd.checks import as_number, check_choice, check_time_limit, whole
from cggd.program.threads import POLL_SECONDS
from cggd_scheduling import cp_sat
from cggd_scheduling.best import Beside, Best
from cggd_scheduling.bounds import rounded_to
from cggd_scheduling.cp_sat import Attempt
from cggd_scheduling.jobshop.problem import JobShop
from cggd_scheduling.jobshop.tabu import Plan, Sequences, search
from cggd_scheduling.schedule import Schedule, nothing_to_do
from cggd_scheduling.tasks import GOALS, Objective, begin

# Steps and starts of the descent that chooses machines; the exact solver of the core follows it.
STEPS, STARTS = 100, 1

# Job shops with at most SMALL pairs of operation and machine get CP-SAT first, on one thread. With a time limit it has
# FIRST_SHARE of it and at most FIRST seconds; most of these job shops are proved within one second.
SMALL, FIRST_SHARE, FIRST = 250, 0.3, 1.0

# Shares of the time limit for the choice of machines, and of the rest for tabu search if CP-SAT has no threads in
# parallel.
SHARE, TABU_SHARE = 0.1, 0.6

# Shares of the time left for the attempts of CP-SAT, in parallel with tabu search or after it, each from the best
# schedule so far. The first one starts from a poor schedule and is short; it proves la01 to la05, la16, la17 in 0.2 s.
ATTEMPTS = (
    Attempt(0.1, cp_sat.RAISING),
    Attempt(0.7, cp_sat.NEIGHBOURHOODS, again=True),
    Attempt(1.0, cp_sat.RAISING),
)

# Moves of the tabu search without a time limit.
MOVES = 10_000

LISTS = 200  # of the list scheduler, for job shops with releases, due dates, lags or setup times


def schedule_jobs(
    shop: JobShop,
    *,
    objective: Objective = "makespan",
    deadline: Any = None,
    moves: int | None = None,
    time_limit: float | None = None,
    seed: int = 0,
    workers: int | None = None,
) -> Schedule:
    """Choose machines and sequences with the least makespan or weighted tardiness.

    Parameters
    ----------
    shop : JobShop
    objective : {"makespan", "tardiness"}
        The tardiness is that of the jobs' due dates.
    deadline : number, optional
        Latest end of all operations. The search ends with the first schedule that keeps it.
    moves : int, optional
        Moves of the tabu search; by default 10,000 without a time limit.
    time_limit : float, optional
        Seconds.
    seed : int
    workers : int, optional
        Threads of CP-SAT with a time limit; by default as many as there are cores.

    Returns
    -------
    Schedule
        Verified by the independent checker. CP-SAT proves optima; it needs OR-tools (``cggd[scheduling]``). Without it
        the bound is the largest load of a machine, or the longest job, with the best choice of machines.

    Examples
    --------
    >>> shop = JobShop([[{"saw": 3, "mill": 2}, {"mill": 2}], [{"mill": 2}, {"saw": 1}]])
    >>> schedule = schedule_jobs(shop)
    >>> schedule.makespan, schedule.status.name
    (5, 'OPTIMAL')
    """
    check_choice(objective, Objective, "objective")
    if moves is not None:
        whole(moves, "moves", least=0)
    seed = whole(seed, "seed", least=0)
    check_time_limit(time_limit)
    if deadline is not None:
        as_number(deadline, "deadline", finite=False)
    budget, needs = Budget(time_limit), shop.requirements(deadline)
    if not shop.operations:
        return nothing_to_do(needs, objective)
    best = Best(needs, GOALS[objective], budget, lanes=True, seed=seed, workers=workers)
    try:
        if needs.special or objective != "makespan":
            begin(best, LISTS)
            best.prove()
        else:
            _search(shop, best, moves if moves is not None else sys.maxsize if budget.limited else MOVES)
    except KeyboardInterrupt:
        best.notes.append("interrupted")
    return best.result(budget.seconds)


def _search(shop: JobShop, best: Best, moves: int) -> None:
    """Choose machines with the least maximum load, apply the dispatching rule, then improve the schedule."""
    budget, deadline = best.budget, best.needs.deadline
    result = minimize(
        shop.least_makespan,
        seed=best.seed,
        improvers=portfolio(Descent(STEPS, STARTS)),
        time_limit=SHARE * budget.time_limit if budget.limited else None,
    )
    assert result.indices is not None  # there are no constraints
    durations = [d for machines in shop.operations.values() for d in machines.values()]
    best.raise_bound(rounded_to(result.bound or 0.0, durations))
    first = dispatched(shop, [int(i) for i in result.indices])
    best.take(*_named(shop, first, first.plan))
    if result.stopped is Stop.INTERRUPTED:
        raise KeyboardInterrupt
    if deadline is not None and (best.schedule is not None or best.bound > deadline):
        return
    small = shop.space.n_options <= SMALL
    if small and not best.beside:
        part = budget.part(share=FIRST_SHARE, seconds=FIRST) if budget.limited else None
        best.prove(part, parameters=cp_sat.RAISING)
    with best.proving(*ATTEMPTS) as beside:
        _improve(shop, best, first, moves, beside)
    if budget.limited or not small:
        for attempt in ATTEMPTS[1:] if budget.limited else ATTEMPTS[:1]:
            best.prove(budget.part(share=attempt.share), parameters=attempt.parameters)


def _improve(shop: JobShop, best: Best, start: Sequences, moves: int, beside: Beside) -> None:
    """Run tabu search until a schedule reaches the bound or keeps the deadline."""
    budget = best.budget.part(share=1.0 if best.beside else best.share(TABU_SHARE))

    def stop(now: Any) -> bool:
        return beside.settled(now) or budget.over() or (best.bound is not None and now <= best.bound)

    def news() -> Plan | None:
        found = beside.news()
        return None if found is None else _plan(shop, found)

    if best.over:
        return
    for _, plan in search(start, random.Random(best.seed), moves=moves, stop=stop, news=news):
        best.take(*_named(shop, start, plan))
        if best.needs.deadline is not None and best.schedule is not None:
            return
    while best.beside and not stop(best.value):
        time.sleep(POLL_SECONDS)


def _plan(shop: JobShop, schedule: Schedule) -> Plan:
    """The plan of a schedule: machines, and the operations by start."""
    operations, number = list(shop.operations), {machine: m for m, machine in enumerate(shop.machines)}
    by_start = sorted(
        range(len(operations)), key=lambda n: (schedule.start[op := operations[n]], schedule.finish(op), n)
    )
    return Plan(tuple(number[schedule.modes[op]] for op in operations), tuple(by_start))


def _named(shop: JobShop, sequences: Sequences, plan: Plan) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Starts and machines by operation."""
    now, operations = Sequences(sequences.options, sequences.previous, sequences.next, plan), list(shop.operations)
    start = {op: now.start(n) for n, op in enumerate(operations)}
    return start, {op: shop.machines[plan.machine[n]] for n, op in enumerate(operations)}


def dispatched(shop: JobShop, choice: Sequence[int]) -> Sequences:
    """Sequences by a dispatching rule: of the operations that can start first, that of the job with most work left."""
    operations = list(shop.operations)
    n, number = len(operations), {op: at for at, op in enumerate(operations)}
    machine_number = {machine: m for m, machine in enumerate(shop.machines)}
    options = [{machine_number[m]: d for m, d in machines.items()} for machines in shop.operations.values()]
    machine = [list(machines)[c] for machines, c in zip(options, choice, strict=True)]
    duration = [own[m] for own, m in zip(options, machine, strict=True)]
    next_ = [number.get((j, i + 1), n) for j, i in operations]
    previous = [number.get((j, i - 1), n) for j, i in operations]
    left: list[Any] = [0] * (n + 1)
    for op in reversed(range(n)):
        left[op] = duration[op] + left[next_[op]]
    free: list[Any] = [0] * len(shop.machines)
    ready: dict[int, Any] = {op: 0 for op in range(n) if previous[op] == n}
    order: list[int] = []
    while ready:
        op = min(ready, key=lambda op: (max(ready[op], free[machine[op]]), -left[op], op))
        order.append(op)
        end = free[machine[op]] = max(ready.pop(op), free[machine[op]]) + duration[op]
        if next_[op] < n:
            ready[next_[op]] = end
    return Sequences(options, previous, next_, Plan(tuple(machine), tuple(order)))


JobShop.solve = schedule_jobs
