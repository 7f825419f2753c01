"""PyJobShop, with OR-tools CP-SAT below it: projects and job shops; its objectives know no areas and no loads."""

from __future__ import annotations

from benchmarks.scheduling.cases import Answer, Case


def solve(case: Case, *, seed: int, seconds: float) -> Answer | None:
    from pyjobshop import Model

    needs = case.needs
    assert needs is not None
    model = Model()
    resources = {name: model.add_renewable(capacity=capacity) for name, capacity in needs.capacities.items()}
    resources |= {name: model.add_consumable(capacity=budget) for name, budget in needs.budgets.items()}
    tasks = {task: model.add_task() for task in needs.tasks}
    labels = []
    for task, modes in needs.tasks.items():
        for label, alternative in modes.items():
            taken = {name: n for name, n in alternative.demands.items() if n and name in resources}
            model.add_mode(
                tasks[task],
                [resources[name] for name in taken],
                duration=alternative.duration,
                demands=list(taken.values()),
            )
            labels.append(label)
    for a, b in needs.precedence:
        model.add_end_before_start(tasks[a], tasks[b])
    found = model.solve(time_limit=seconds, display=False, num_workers=1, random_seed=seed)
    if found.best is None or not found.best.tasks:
        return None
    parts = dict(zip(needs.tasks, found.best.tasks, strict=True))
    return Answer(
        {t: labels[p.mode] for t, p in parts.items()}, {t: p.start for t, p in parts.items()}, found.lower_bound
    )
