"""The instances that ship with the package: quality over ten seeds, default settings."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.table import Table

from cggd import demo, maximize
from cggd.datasets import mmkp

SEEDS = 10


def main() -> None:
    console = Console(width=120)
    table = Table("MMKP", "bound", "feasible", "best", "median", "worst", "gap of worst", "median seconds")
    for name in ("I01", "I02", "I03", "I04", "I05", "I06", "I07"):
        knapsack = mmkp(name)
        runs = [maximize(knapsack.value, knapsack.constraints, seed=seed) for seed in range(SEEDS)]
        values = np.array([run.value for run in runs if run.value is not None])
        spread = [f"{x:.1f}" for x in (values.max(), np.median(values), values.min())] if len(values) else ["-"] * 3
        gap = f"{1 - values.min() / knapsack.upper_bound:.2%}" if len(values) else "-"
        seconds = np.median([run.seconds for run in runs])
        table.add_row(name, f"{knapsack.upper_bound}", f"{len(values)} of {SEEDS}", *spread, gap, f"{seconds:.2f}")
    console.print(table)
    table = Table("NATS topology", "satisfied", "test accuracy", "best feasible", "loss")
    for s in demo.run(SEEDS):
        table.add_row(
            s.name, f"{s.satisfied} of {SEEDS}", f"{np.mean(s.accuracies):.2f} %", f"{s.best:.2f} %", f"{s.loss:.2f} %"
        )
    console.print(table)
