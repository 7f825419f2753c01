"""The shortest schedule of a job shop: machines from the guided search, then tabu search over all of it."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

from cggd import Descent, Status, Stop, minimize, portfolio
from cggd.checks import as_number, check_time_limit, whole
from cggd.rounding import true_texts
from cggd_scheduling.bounds import rounded_up
from cggd_scheduling.jobshop.problem import JobShop
from cggd_scheduling.jobshop.tabu import Sequences, search
from cggd_scheduling.limits import decimal_step, is_whole
from cggd_scheduling.schedule import Schedule, nothing_to_do

# Steps and starts of the guided search for machines, which the exact solver of the core completes.
STEPS, STARTS = 100, 1

# Share of a time limit for it.
SHARE = 0.2


def schedule_jobs(
    shop: JobShop, *, deadline: Any = None, moves: int = 4000, time_limit: float | None = None, seed: int = 0
) -> Schedule:
    """Choose machines and sequences with a short makespan.

    The machines to begin with have the smallest largest load, or longest job; what no choice of machines can go below
    is a bound on the makespan. Tabu search goes on from there.

    Parameters
    ----------
    shop : JobShop
    deadline : number, optional
        The search ends as soon as it is met.
    moves : int
        Moves of the tabu search.
    time_limit : float, optional
        Seconds.
    seed : int

    Examples
    --------
    >>> shop = JobShop([[{"saw": 3, "mill": 2}, {"mill": 2}], [{"mill": 2}, {"saw": 1}]])
    >>> schedule = schedule_jobs(shop)
    >>> schedule.makespan, schedule.status.name
    (5, 'OPTIMAL')
    """
    moves, seed = whole(moves, "moves", least=0), whole(seed, "seed", least=0)
    check_time_limit(time_limit)
    goal = -math.inf if deadline is None else as_number(deadline, "deadline", finite=False)
    began = time.perf_counter()
    needs = shop.requirements(deadline)
    if not shop.operations:
        return nothing_to_do(needs)
    until = began + (math.inf if time_limit is None else time_limit)
    result = minimize(
        shop.least_makespan,
        seed=seed,
        improvers=portfolio(Descent(STEPS, STARTS)),
        time_limit=None if time_limit is None else SHARE * time_limit,
    )
    assert result.indices is not None  # there are no constraints
    bound = _rounded_up(shop, result.bound or 0.0)
    goal = max(goal, bound)
    best, reason = dispatched(shop, [int(i) for i in result.indices]), ""

    def stop(now: Any) -> bool:
        return now <= goal or time.perf_counter() >= until

    try:
        if result.stopped is Stop.INTERRUPTED:
            raise KeyboardInterrupt
        for _, found in search(best, random.Random(seed), moves=moves, stop=stop):
            best = found
    except KeyboardInterrupt:
        reason = "interrupted"
    seconds = time.perf_counter() - began
    heads = _times(best)
    operations = list(shop.operations)
    machines: dict[Hashable, Hashable] = {op: shop.machines[best.machine[n]] for n, op in enumerate(operations)}
    start: dict[Hashable, Any] = {op: heads[n] for n, op in enumerate(operations)}
    schedule = Schedule(needs, start, machines, machines, seconds=seconds)
    length = schedule.makespan
    if deadline is not None and schedule.late:
        status = Status.INFEASIBLE if bound > deadline + schedule.rounding else Status.UNKNOWN
        least, last, found = true_texts(bound, deadline, length)
        proof = f"no schedule is shorter than {least}" if status is Status.INFEASIBLE else "none was found"
        text = f"deadline {last}: {proof}; the shortest schedule found takes {found}"
        return Schedule(needs, {}, {}, status=status, bound=bound, reason=text, seconds=seconds)
    status = Status.FEASIBLE if length > bound + schedule.rounding else Status.OPTIMAL
    reason = reason or ("no schedule can be shorter" if status is Status.OPTIMAL else "")
    bound = length if status is Status.OPTIMAL else bound
    return replace(schedule, status=status, value=length, bound=bound, reason=reason).verify()


def _rounded_up(shop: JobShop, bound: float) -> Any:
    """The bound on the makespan: the next multiple of what all durations are multiples of, as written in decimals."""
    durations = [d for machines in shop.operations.values() for d in machines.values()]
    step = decimal_step(durations) or 1
    found = rounded_up(bound, step)
    return int(found) if all(map(is_whole, durations)) else float(found)


def _times(sequences: Sequences) -> list[Any]:
    links = sequences.links()
    order = sequences.order(links)
    assert order is not None
    return sequences.heads_and_tails(order, links)[0]


def dispatched(shop: JobShop, choice: list[int]) -> Sequences:
    """Sequences of a dispatching rule on given machines: of what can start first, the job with most work left."""
    operations = list(shop.operations)
    number = {op: n for n, op in enumerate(operations)}
    machine_number = {machine: m for m, machine in enumerate(shop.machines)}
    options = [{machine_number[m]: d for m, d in machines.items()} for machines in shop.operations.values()]
    machine = [list(machines)[c] for machines, c in zip(options, choice, strict=True)]
    next_ = [number.get((j, i + 1), -1) for j, i in operations]
    previous = [number.get((j, i - 1), -1) for j, i in operations]
    left: list[Any] = [0] * len(operations)
    for n in reversed(range(len(operations))):
        left[n] = options[n][machine[n]] + (left[next_[n]] if next_[n] >= 0 else 0)
    on: list[list[int]] = [[] for _ in shop.machines]
    free: list[Any] = [0] * len(on)
    ready = {n: 0 for n in range(len(operations)) if previous[n] < 0}
    while ready:
        n = min(ready, key=lambda n: (max(ready[n], free[machine[n]]), -left[n], n))
        end = max(ready.pop(n), free[machine[n]]) + options[n][machine[n]]
        free[machine[n]] = end
        on[machine[n]].append(n)
        if next_[n] >= 0:
            ready[next_[n]] = end
    return Sequences(options, previous, next_, on, machine)


JobShop.solve = schedule_jobs
