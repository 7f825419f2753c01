"""The shortest schedule of a job shop: a dispatching rule, tabu search over machines and sequences, and CP-SAT."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from cggd import Descent, Stop, minimize, portfolio
from cggd.budget import Budget
from cggd.checks import as_number, check_choice, check_time_limit, whole
from cggd_scheduling.best import Best
from cggd_scheduling.bounds import rounded_to
from cggd_scheduling.jobshop.problem import JobShop
from cggd_scheduling.jobshop.tabu import Sequences, search
from cggd_scheduling.schedule import Schedule, nothing_to_do
from cggd_scheduling.tasks import GOALS, Objective, begin

# Steps and starts of the search for machines, which the exact solver of the core completes.
STEPS, STARTS = 100, 1

# Machines to choose from, summed over operations, up to which CP-SAT has the first try. With a time limit and a choice
# of machines it gets this share of it, and no more than so many seconds; most of these are proved within one second.
SMALL, SMALL_SHARE, SMALL_SECONDS = 250, 0.3, 1.0

# Shares of a time limit for the search for machines, and of the rest for tabu search, with a choice of machines and
# without one. Of flexible shops (mk01 to mk10) tabu search finds in 2 s better schedules than CP-SAT in 10 s, and few
# better ones after that; of classical ones it does not.
SHARE = 0.1
TABU_SHARE = {True: 0.75, False: 0.05}

LISTS = 200  # of shops with releases, due dates or setup times


def schedule_jobs(
    shop: JobShop,
    *,
    objective: Objective = "makespan",
    deadline: Any = None,
    moves: int = 4000,
    time_limit: float | None = None,
    seed: int = 0,
    workers: int | None = None,
) -> Schedule:
    """Choose machines and sequences with a short makespan, or little tardiness.

    Parameters
    ----------
    shop : JobShop
    objective : {"makespan", "tardiness"}
        The tardiness is that of the jobs' due dates.
    deadline : number, optional
        No operation may end later. The search ends as soon as it is kept.
    moves : int
        Moves of the tabu search.
    time_limit : float, optional
        Seconds.
    seed : int
    workers : int, optional
        Threads of CP-SAT with a time limit; by default as many as there are cores.

    Returns
    -------
    Schedule
        Verified by the independent checker. CP-SAT, which looks for proofs, needs OR-tools (``cggd[scheduling]``);
        without it the bound is the largest load of a machine, or the longest job, with the best choice of machines.

    Examples
    --------
    >>> shop = JobShop([[{"saw": 3, "mill": 2}, {"mill": 2}], [{"mill": 2}, {"saw": 1}]])
    >>> schedule = schedule_jobs(shop)
    >>> schedule.makespan, schedule.status.name
    (5, 'OPTIMAL')
    """
    check_choice(objective, Objective, "objective")
    moves, seed = whole(moves, "moves", least=0), whole(seed, "seed", least=0)
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
            _search(shop, best, moves)
    except KeyboardInterrupt:
        best.notes.append("interrupted")
    return best.result(budget.seconds)


def _search(shop: JobShop, best: Best, moves: int) -> None:
    """Machines with the least largest load, the dispatching rule, and what improves on it."""
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
    best.take(*_named(shop, first))
    if result.stopped is Stop.INTERRUPTED:
        raise KeyboardInterrupt
    if deadline is not None and (best.schedule is not None or best.bound > deadline):
        return
    small, flexible = shop.space.n_options <= SMALL, shop.space.n_options > len(shop.operations)
    if small:
        best.prove(budget.part(share=SMALL_SHARE, seconds=SMALL_SECONDS) if flexible and budget.limited else None)
    for sequences in _improved(best, first, moves, budget.part(share=best.share(TABU_SHARE[flexible]))):
        best.take(*_named(shop, sequences))
        if deadline is not None and best.schedule is not None:
            return
    if budget.limited or not small:
        best.prove()


def _improved(best: Best, start: Sequences, moves: int, budget: Budget) -> Iterator[Sequences]:
    """Better and better sequences, until one reaches the bound."""
    if best.over:
        return

    def stop(now: Any) -> bool:
        return now <= best.bound or best.over or budget.over()

    for _, found in search(start, random.Random(best.seed), moves=moves, stop=stop):
        yield found


def _named(shop: JobShop, sequences: Sequences) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Starts and machines by operation."""
    links = sequences.links()
    order = sequences.order(links)
    assert order is not None
    heads = sequences.heads_and_tails(order, links)[0]
    operations = list(shop.operations)
    start = {op: heads[n] for n, op in enumerate(operations)}
    return start, {op: shop.machines[sequences.machine[n]] for n, op in enumerate(operations)}


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
