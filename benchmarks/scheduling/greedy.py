"""The usual priority rules, once each: a choice of modes, repaired for budgets, and a list schedule."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import networkx as nx

from benchmarks.scheduling.cases import Answer, Case
from benchmarks.scheduling.decode import Decoder
from cggd_scheduling.placement import Placement


def solve(case: Case, *, seed: int, seconds: float) -> Answer | None:
    if case.goal == "load":
        return _place(case.problem)
    decoder = Decoder(case)
    if case.goal in ("sum", "copies"):
        return _units(case, decoder)
    if case.kind == "job shop":
        return _dispatch(decoder)
    modes = _affordable(decoder)
    if modes is None:
        return None
    tail = decoder.tails(modes)
    return Answer(modes, decoder.schedule(modes, {task: -t for task, t in tail.items()}))  # longest tail first


def _affordable(decoder: Decoder) -> dict[Hashable, Hashable] | None:
    """Shortest modes; while a budget is exceeded, the change with the least time per saving."""
    tasks = decoder.needs.tasks
    modes = {t: min(ways, key=lambda m, ways=ways: ways[m].duration) for t, ways in tasks.items()}
    while (excess := decoder.excess(modes)) > 0:
        best: tuple[float, Hashable, Hashable] | None = None
        for task, ways in tasks.items():
            for mode, way in ways.items():
                saved = excess - decoder.excess({**modes, task: mode})
                if saved > 0:
                    price = (way.duration - ways[modes[task]].duration) / saved
                    if best is None or price < best[0]:
                        best = (price, task, mode)
        if best is None:
            return None
        modes[best[1]] = best[2]
    return modes


def _units(case: Case, decoder: Decoder) -> Answer | None:
    """Fastest units; then the changes that save most within the latency; then copies, one at a time."""
    tasks, deadline = decoder.needs.tasks, decoder.needs.deadline
    modes = {t: min(ways, key=lambda m, ways=ways: ways[m].duration) for t, ways in tasks.items()}
    changes = [(case.cost[mode] - case.cost[modes[task]], task, mode) for task, ways in tasks.items() for mode in ways]
    for _, task, mode in sorted(changes, key=lambda change: change[0]):
        tried = {**modes, task: mode}
        if case.cost[mode] < case.cost[modes[task]] and max(decoder.tails(tried).values()) <= deadline:
            modes = tried
    tail = decoder.tails(modes)
    latest = {task: deadline - t for task, t in tail.items()}
    if case.goal == "sum":
        return Answer(modes, decoder.schedule(modes, latest))
    copies = dict.fromkeys(set(modes.values()), 1)
    while True:
        if answer := decoder.on_copies(modes, latest, copies):
            return answer
        start = decoder.schedule(modes, latest, copies)
        late = max(start, key=lambda t: start[t] - latest[t])
        if copies[modes[late]] >= len(tasks):
            return None
        copies[modes[late]] += 1


def _dispatch(decoder: Decoder) -> Answer:
    """The best of shortest time, longest time, most work left and first come, with the machine that ends first."""
    tasks, answers = decoder.needs.tasks, []
    fastest = {t: min(ways, key=lambda m, ways=ways: ways[m].duration) for t, ways in tasks.items()}
    left = decoder.tails(fastest)
    time = {t: tasks[t][m].duration for t, m in fastest.items()}
    rules: list[dict[Hashable, float]] = [
        time,
        {t: -d for t, d in time.items()},
        {t: -d for t, d in left.items()},
        dict.fromkeys(tasks, 0.0),
    ]
    for rule in rules:
        free: dict[Hashable, Any] = dict.fromkeys(decoder.needs.capacities, 0)
        modes, start, ready = {}, {}, {t: 0 for t in tasks if decoder.graph.in_degree(t) == 0}
        while ready:
            ends = {t: min(max(ready[t], free[m]) + w.duration for m, w in tasks[t].items()) for t in ready}
            soonest = min(max(ready[t], min(free[m] for m in tasks[t])) for t in ready)
            now = [t for t in ready if max(ready[t], min(free[m] for m in tasks[t])) <= soonest]
            task = min(now, key=lambda t: rule[t])
            machine = next(m for m, w in tasks[task].items() if max(ready[task], free[m]) + w.duration == ends[task])
            modes[task], start[task] = machine, max(ready.pop(task), free[machine])
            free[machine] = ends[task]
            ready |= dict.fromkeys(decoder.graph.successors(task), ends[task])
        answers.append(Answer(modes, start))
    return min(answers, key=lambda answer: decoder.makespan(answer.modes, answer.start))


def _place(problem: Placement) -> Answer | None:
    """In topological order, place each group on the device that makes the largest load least."""
    position = {operator: n for n, operator in enumerate(nx.topological_sort(problem.graph))}
    groups = sorted(problem.groups, key=lambda group: min(position[operator] for operator in group))
    where: dict[Hashable, str] = {}
    room = {device.name: device.memory for device in problem.devices}
    for group in groups:
        need = sum(problem.operators[operator].memory for operator in group)
        options = [device for device in problem.possible(group) if need <= room[device.name]]
        if not options:
            return None
        best = min(options, key=lambda d: max(_loads(problem, where | dict.fromkeys(group, d.name)).values()))
        where |= dict.fromkeys(group, best.name)
        room[best.name] -= need
    return Answer(where)


def _loads(problem: Placement, where: dict[Hashable, str]) -> dict[str, float]:
    """Loads of the operators placed so far; outputs that no placed operator needs are not sent."""
    devices = {device.name: device for device in problem.devices}
    loads = dict.fromkeys(devices, 0.0)
    for name, home in where.items():
        operator = problem.operators[name]
        loads[home] += operator.times[devices[home].kind]
        away = {where[v] for v in problem.graph.successors(name) if v in where} - {home}
        for end in {home, *away} if away else ():
            loads[end] += devices[end].link * operator.transfer
    return loads
