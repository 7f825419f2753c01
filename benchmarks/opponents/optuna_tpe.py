"""Optuna's tree-structured Parzen estimator with its own support of constraints, one categorical per decision."""

from __future__ import annotations

import numpy as np
import optuna

from benchmarks.instances import Instance
from benchmarks.opponents.claim import Claim, Record


def solve(instance: Instance, *, seed: int, seconds: float, threads: int, record: Record) -> Claim:
    problem = instance.problem
    options = [list(range(size)) for size in problem.space.sizes.tolist()]
    scales = [abs(c.bound) or 1.0 for c in problem.constraints]
    best = np.inf

    def judge(trial: optuna.Trial) -> float:
        nonlocal best
        chosen = [trial.suggest_categorical(str(d), labels) for d, labels in enumerate(options)]
        row = np.array(chosen, dtype=np.int64)[None]
        feasible = True
        for i, (constraint, scale) in enumerate(zip(problem.constraints, scales, strict=True)):
            value = float(constraint.values(row)[0])
            # Beyond 0 counts as violated, so the tolerance must not be.
            trial.set_constraint(str(i), (constraint.sign * value - constraint.limit) / scale)
            feasible = feasible and bool(constraint.satisfied(value))
        value = problem.sign * float(problem.objective.evaluate(row)[0])
        if feasible and value < best:
            best = value
            record(row[0])
        return value

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(judge, timeout=seconds, n_jobs=1)
    return Claim(note=f"{len(study.trials)} trials")
