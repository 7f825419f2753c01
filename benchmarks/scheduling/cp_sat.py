"""OR-tools CP-SAT: optional intervals for modes, machines and cumulative resources; a separate model for placements."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from math import ceil, floor
from typing import Any

from ortools.sat.python import cp_model

from benchmarks.scheduling.cases import Answer, Case
from cggd_scheduling import Requirements
from cggd_scheduling.placement import Placement
from cggd_scheduling.placement.metrics import Outputs

# Steps per unit of time in placements; times are rounded down, so that a bound stays valid. CP-SAT searches better with
# coarse steps: on BERT-3 it reached 23 to 42 ms in 5 s with 1e3, and 35 to 46 ms with 1e6.
GRAIN = 1e3


def solve(case: Case, *, seed: int, seconds: float, workers: int = 1) -> Answer | None:
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = workers
    solver.parameters.random_seed = seed
    if case.goal == "load":
        return _place(case.problem, solver)
    assert case.needs is not None
    model = cp_model.CpModel()
    chosen, start = _tasks(model, case)
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    modes = {t: next(m for m, literal in options.items() if solver.value(literal)) for t, options in chosen.items()}
    return Answer(modes, {t: solver.value(s) for t, s in start.items()}, solver.best_objective_bound)


def _tasks(model: cp_model.CpModel, case: Case) -> tuple[Mapping[Hashable, Mapping], Mapping[Hashable, Any]]:
    """Variables for start and mode of each task, with all constraints and the objective."""
    needs = case.needs
    assert needs is not None
    horizon = needs.deadline or sum(max(a.duration for a in modes.values()) for modes in needs.tasks.values())
    chosen: dict[Hashable, dict[Hashable, Any]] = {}
    start, end, intervals = {}, {}, {}
    for task, modes in needs.tasks.items():
        chosen[task] = {mode: model.new_bool_var("") for mode in modes}
        model.add_exactly_one(chosen[task].values())
        start[task], end[task] = model.new_int_var(0, horizon, ""), model.new_int_var(0, horizon, "")
        for mode, alternative in modes.items():
            literal = chosen[task][mode]
            intervals[task, mode] = model.new_optional_interval_var(
                start[task], alternative.duration, end[task], literal, ""
            )
    for a, b in needs.precedence:
        model.add(start[b] >= end[a])
    _resources(model, needs, chosen, intervals)
    if case.goal == "copies":
        used = {unit for modes in needs.tasks.values() for unit in modes}
        copies = {unit: model.new_int_var(0, len(needs.tasks), "") for unit in used}
        for unit, number in copies.items():
            of_unit = [interval for (_, mode), interval in intervals.items() if mode == unit]
            model.add_cumulative(of_unit, [1] * len(of_unit), number)
            # Redundant, but it gives the bound: all work fits into copies times horizon.
            work = (way[unit].duration * chosen[task][unit] for task, way in needs.tasks.items() if unit in way)
            model.add(sum(work) <= horizon * number)
        model.minimize(sum(int(case.cost[unit]) * number for unit, number in copies.items()))
    elif case.goal == "sum":
        every = (int(case.cost[mode]) * x for options in chosen.values() for mode, x in options.items())
        model.minimize(sum(every))
    else:
        makespan = model.new_int_var(0, horizon, "")
        model.add_max_equality(makespan, end.values())
        model.minimize(makespan)
    return chosen, start


def _resources(model: cp_model.CpModel, needs: Requirements, chosen: Mapping, intervals: Mapping) -> None:
    for resource, capacity in needs.capacities.items():
        taken = [
            (intervals[task, mode], alternative.demands[resource])
            for task, modes in needs.tasks.items()
            for mode, alternative in modes.items()
            if alternative.demands.get(resource, 0)
        ]
        if capacity == 1:
            model.add_no_overlap(interval for interval, _ in taken)
        else:
            model.add_cumulative([interval for interval, _ in taken], [amount for _, amount in taken], capacity)
    for resource, budget in needs.budgets.items():
        amounts = [
            alternative.demands.get(resource, 0) * chosen[task][mode]
            for task, modes in needs.tasks.items()
            for mode, alternative in modes.items()
        ]
        model.add(sum(amounts) <= budget)


def _place(problem: Placement, solver: cp_model.CpSolver) -> Answer | None:
    model = cp_model.CpModel()
    names = [device.name for device in problem.devices]
    on = [{device.name: model.new_bool_var("") for device in problem.possible(group)} for group in problem.groups]
    load: dict[str, list] = {name: [] for name in names}
    for group, options in zip(problem.groups, on, strict=True):
        model.add_exactly_one(options.values())
        for device in problem.possible(group):
            time = sum(problem.operators[operator].times[device.kind] for operator in group)
            load[device.name].append(floor(time * GRAIN) * options[device.name])
    outputs = Outputs.of(problem)
    for source, targets, cost in zip(outputs.source.tolist(), outputs.targets, outputs.cost.tolist(), strict=True):
        for device in problem.devices:
            if device.link and device.name in on[source]:
                received, sent, here = model.new_bool_var(""), model.new_bool_var(""), on[source][device.name]
                for target in targets:
                    there = on[target][device.name]
                    model.add_bool_or([there.negated(), here, received])
                    model.add_bool_or([here.negated(), there, sent])
                load[device.name] += [floor(cost * device.link * GRAIN) * literal for literal in (received, sent)]
    for device in problem.devices:
        if device.memory < float("inf"):
            needed = [ceil(sum(problem.operators[op].memory for op in group)) for group in problem.groups]
            model.add(
                sum(n * options[device.name] for n, options in zip(needed, on, strict=True)) <= int(device.memory)
            )
    top = model.new_int_var(0, 10**12, "")
    for terms in load.values():
        model.add(sum(terms) <= top)
    model.minimize(top)
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    where = {
        operator: next(name for name, literal in options.items() if solver.value(literal))
        for group, options in zip(problem.groups, on, strict=True)
        for operator in group
    }
    return Answer(where, bound=solver.best_objective_bound / GRAIN)
