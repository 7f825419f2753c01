"""PyJobShop with OR-tools CP-SAT, for projects and job shops; it has no objectives for areas or loads.

The model follows its examples ``flexible_job_shop`` and ``project_scheduling`` and its file readers: a resource that
serves one task at a time is a machine, with intervals that must not overlap; other capacities are renewable resources.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from pyjobshop import Model

from benchmarks.scheduling.cases import Answer, Case
from cggd_scheduling import Requirements


def solve(case: Case, *, seed: int, seconds: float, workers: int = 1) -> Answer | None:
    needs = case.needs
    assert needs is not None
    model, labels = build(needs)
    found = model.solve(time_limit=seconds, display=False, num_workers=workers, random_seed=seed)
    if found.best is None or not found.best.tasks:
        return None
    parts = dict(zip(needs.tasks, found.best.tasks, strict=True))
    return Answer(
        {t: labels[p.mode] for t, p in parts.items()}, {t: p.start for t, p in parts.items()}, found.lower_bound
    )


def build(needs: Requirements) -> tuple[Model, list[Hashable]]:
    """PyJobShop's model of the requirements, and the labels of its modes."""
    model = Model()
    resources: dict[Hashable, Any] = {}
    for name, capacity in needs.capacities.items():
        resources[name] = model.add_machine() if capacity == 1 else model.add_renewable(capacity=capacity)
    for name, budget in needs.budgets.items():
        resources[name] = model.add_consumable(capacity=budget)
    tasks = {task: model.add_task() for task in needs.tasks}
    labels = []
    for task, modes in needs.tasks.items():
        for label, alternative in modes.items():
            taken = {name: n for name, n in alternative.demands.items() if n and name in resources}
            # A machine is used as a whole: PyJobShop has no demands for machines.
            amounts = [n if needs.capacities.get(name) != 1 else 0 for name, n in taken.items()]
            model.add_mode(tasks[task], [resources[name] for name in taken], alternative.duration, amounts)
            labels.append(label)
    for a, b in needs.precedence:
        model.add_end_before_start(tasks[a], tasks[b])
    return model, labels
