"""Costly measurements, cggd beside random feasible selections, pymoo's GA and Optuna's TPE.

    python -m benchmarks costly [--problems size,I03] [--methods cggd,random] [--seeds 10] [--budgets 25,50,100]

Loss is the distance of the best feasible measurement to the best known, in per cent; a run without one counts as
infinite. Each method makes one run per seed, to the largest budget. Rows go to results/costly.csv, where those of other
problems and methods are kept; the table of results/costly.md is made from it.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.costly.methods import METHODS, NEEDS
from benchmarks.costly.problems import PROBLEMS

BUDGETS = (25, 50, 100, 200, 300)
RESULTS = Path(__file__).parents[1] / "results"
COLUMNS = ("problem", "method", "seed", "measurements", "loss", "first_feasible", "ms_per_measurement")


def rows_of(name: str, method: str, seed: int, budgets: Sequence[int]) -> list[dict[str, str]]:
    """One run, as a row per budget."""
    problem, began = PROBLEMS[name](), time.perf_counter()
    bench = METHODS[method](problem, seed, max(budgets))
    milliseconds = 1000 * (time.perf_counter() - began) / max(len(bench.course), 1)
    first = next((n for n, value in enumerate(bench.course, 1) if value is not None), math.inf)
    out = []
    for n in budgets:
        best = bench.best(n)
        loss = math.inf if best is None else max(problem.loss(best), 0.0)
        numbers = (name, method, seed, n, f"{loss:.6g}", first, f"{milliseconds:.3g}")
        out.append(dict(zip(COLUMNS, map(str, numbers), strict=True)))
    return out


def table(rows: Sequence[dict[str, str]]) -> str:
    """Median losses as Markdown, and below each problem where another method has a smaller median."""
    budgets = sorted({int(row["measurements"]) for row in rows})
    lines = [
        "| problem | method | seeds | " + " | ".join(map(str, budgets)) + " | first feasible (max) | ms/measurement |",
        "|---|---|---|" + "---|" * (len(budgets) + 2),
    ]
    behind = []
    for problem in dict.fromkeys(row["problem"] for row in rows):
        medians: dict[tuple[str, int], float] = {}
        for method in METHODS:
            own = [row for row in rows if (row["problem"], row["method"]) == (problem, method)]
            if not own:
                continue
            cells = []
            for n in budgets:
                losses = [float(row["loss"]) for row in own if int(row["measurements"]) == n]
                medians[method, n] = float(np.median(losses)) if losses else math.nan
                missing = sum(map(math.isinf, losses))
                text = "-" if not math.isfinite(medians[method, n]) else f"{medians[method, n]:.2f}"
                cells.append(f"{text} ({len(losses) - missing}/{len(losses)})" if missing else text)
            first = max(float(row["first_feasible"]) for row in own)
            took = np.median([float(row["ms_per_measurement"]) for row in own])
            seeds = len({row["seed"] for row in own})
            lines.append(f"| {problem} | {method} | {seeds} | {' | '.join(cells)} | {first:g} | {took:.3g} |")
        for (method, n), loss in medians.items():
            if method != "cggd" and loss < medians.get(("cggd", n), -math.inf) - 0.005:
                behind.append(f"- {problem} at {n}: {method} {loss:.2f}, cggd {medians['cggd', n]:.2f}")
    ahead = ["", "Median losses of another method that are smaller than those of cggd:", "", *(behind or ["none"])]
    return "\n".join([*lines, *ahead]) + "\n"


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks costly", description=__doc__.splitlines()[0])
    parser.add_argument("--problems", default=",".join(PROBLEMS), help=f"of {', '.join(PROBLEMS)}")
    parser.add_argument("--methods", default=",".join(METHODS), help=f"of {', '.join(METHODS)}")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budgets", default=",".join(map(str, BUDGETS)))
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of costly.csv and costly.md")
    chosen = parser.parse_args(arguments)
    problems, methods = chosen.problems.split(","), chosen.methods.split(",")
    for word, known in [*((p, PROBLEMS) for p in problems), *((m, METHODS) for m in methods)]:
        if word not in known:
            parser.error(f"unknown {word!r}; known are {', '.join(known)}")
    budgets = [int(n) for n in chosen.budgets.split(",")]
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = chosen.out / "costly.csv"
    kept: list[dict[str, str]] = []
    if path.exists():
        with path.open() as file:
            kept = list(csv.DictReader(file))
    for name in problems:
        for method in methods:
            if (package := NEEDS.get(method)) and importlib.util.find_spec(package) is None:
                print(f"{method}: {package} is not installed")
                continue
            kept = [row for row in kept if (row["problem"], row["method"]) != (name, method)]
            for seed in range(chosen.seeds):
                kept += rows_of(name, method, seed, budgets)
            kept.sort(key=lambda row: (list(PROBLEMS).index(row["problem"]), list(METHODS).index(row["method"])))
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(kept)
            (chosen.out / "costly.md").write_text(table(kept))
            print(table([row for row in kept if row["problem"] == name]).split("\n\n")[0], flush=True)
