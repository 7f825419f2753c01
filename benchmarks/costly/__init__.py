"""Costly measurements, cggd beside random feasible selections, pymoo's GA, Optuna's samplers, scikit-optimize and SMAC.

    python -m benchmarks costly [--problems size,I03] [--methods cggd,random] [--seeds 10] [--budgets 25,50,100]

Loss is the distance of the best feasible measurement to the best known, in per cent; a run without one counts as
infinite. Each method makes one run per seed, to the largest budget. Rows are appended to results/costly.csv as each run
ends; what is there is not measured again: delete the rows of a method to do so. Times are processor time. The tables of
results/costly.md are made from it: the second one compares ways to find candidates on the models.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.costly.methods import METHODS, NEEDS, OTHERS, VARIANTS
from benchmarks.costly.problems import PROBLEMS

BUDGETS = (25, 50, 100, 200, 300)  # also 1,000: see --budgets
RESULTS = Path(__file__).parents[1] / "results"
COLUMNS = ("problem", "method", "seed", "measurements", "loss", "first_feasible", "ms_per_measurement")


def rows_of(name: str, method: str, seed: int, budgets: Sequence[int]) -> list[dict[str, str]]:
    """One run, as a row per budget."""
    problem, began = PROBLEMS[name](), time.process_time()
    bench = METHODS[method](problem, seed, max(budgets))
    milliseconds = 1000 * (time.process_time() - began) / max(len(bench.course), 1)
    first = next((n for n, value in enumerate(bench.course, 1) if value is not None), math.inf)
    out = []
    for n in budgets:
        best = bench.best(n)
        loss = math.inf if best is None else max(problem.loss(best), 0.0)
        numbers = (name, method, seed, n, f"{loss:.6g}", first, f"{milliseconds:.3g}")
        out.append(dict(zip(COLUMNS, map(str, numbers), strict=True)))
    return out


def table(rows: Sequence[dict[str, str]], methods: Sequence[str]) -> tuple[list[str], list[str]]:
    """Median losses as lines of Markdown, and where another method has a smaller median than the first one."""
    budgets = sorted({int(row["measurements"]) for row in rows})
    lines = [
        "| problem | method | seeds | " + " | ".join(map(str, budgets)) + " | first feasible (max) | ms/measurement |",
        "|---|---|---|" + "---|" * (len(budgets) + 2),
    ]
    behind = []
    for problem in [name for name in PROBLEMS if any(row["problem"] == name for row in rows)]:
        medians: dict[tuple[str, int], float] = {}
        for method in methods:
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
            if method != methods[0] and loss < medians.get((methods[0], n), -math.inf) - 0.005:
                behind.append(f"- {problem} at {n}: {method} {loss:.2f}, {methods[0]} {medians[methods[0], n]:.2f}")
    return lines, behind


def level(rows: Sequence[dict[str, str]]) -> list[str]:
    """On how many problems the median of cggd is at least level with the best of the other methods, per budget."""
    median: dict[tuple[str, str, str], float] = {}
    for key in {(row["problem"], row["method"], row["measurements"]) for row in rows}:
        median[key] = float(
            np.median(
                [float(row["loss"]) for row in rows if (row["problem"], row["method"], row["measurements"]) == key]
            )
        )
    lines = ["| measurements | at least level with every other method | at least level with random |", "|---|---|---|"]
    for n in sorted({row["measurements"] for row in rows if row["method"] == "cggd"}, key=int):
        problems = [p for p in PROBLEMS if (p, "cggd", n) in median]
        best = [min(v for (p, m, k), v in median.items() if (p, k) == (q, n) and m in OTHERS) for q in problems]
        own = [median[p, "cggd", n] for p in problems]
        chance = [median.get((p, "random", n), math.inf) for p in problems]
        counts = [sum(a <= b + 0.005 for a, b in zip(own, limits, strict=True)) for limits in (best, chance)]
        lines.append(f"| {n} | {counts[0]} of {len(own)} | {counts[1]} of {len(own)} |")
    return lines


def report(rows: Sequence[dict[str, str]]) -> str:
    """The results as Markdown."""
    main = [row for row in rows if row["method"] in ("cggd", *OTHERS)]
    compared = {row["problem"] for row in rows if row["method"] in VARIANTS}
    variants = [row for row in rows if row["method"] in ("cggd", *VARIANTS) and row["problem"] in compared]
    seeds = {row["seed"] for row in variants if row["method"] in VARIANTS}
    lines, behind = table(main, ["cggd", *OTHERS])
    parts = [*lines, "", "Problems by number of measurements:", "", *level(main)]
    parts += ["", "Median losses of another method that are smaller than those of cggd:", "", *(behind or ["none"])]
    if variants:
        lines, behind = table([row for row in variants if row["seed"] in seeds], ["cggd", *VARIANTS])
        parts += ["", "Ways to find candidates on the models (`benchmarks.costly.methods.VARIANTS`):", "", *lines]
        parts += ["", "Smaller medians than those of cggd:", "", *(behind or ["none"])]
    return "\n".join(parts) + "\n"


def stored(path: Path) -> list[dict[str, str]]:
    """The rows of a file, ordered by problem, method, seed and budget."""
    if not path.exists():
        return []
    with path.open() as file:
        rows = list(csv.DictReader(file))
    problems, methods = list(PROBLEMS), list(METHODS)
    return sorted(
        rows,
        key=lambda row: (
            problems.index(row["problem"]),
            methods.index(row["method"]),
            int(row["seed"]),
            int(row["measurements"]),
        ),
    )


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks costly", description=__doc__.splitlines()[0])
    parser.add_argument("--problems", default=",".join(PROBLEMS), help=f"of {', '.join(PROBLEMS)}")
    parser.add_argument("--methods", default=",".join(["cggd", *OTHERS]), help=f"of {', '.join(METHODS)}")
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
    if missing := {m for m in methods if m in NEEDS and importlib.util.find_spec(NEEDS[m]) is None}:
        print("not installed: " + ", ".join(f"{NEEDS[m]} ({m})" for m in sorted(missing)))
    for seed in range(chosen.seeds):
        for name in problems:
            for method in [m for m in methods if m not in missing]:
                run = (name, method, str(seed))
                there = {int(row["measurements"]) for row in stored(path) if tuple(row.values())[:3] == run}
                if max(budgets) not in there:
                    append(path, rows_of(name, method, seed, [n for n in budgets if n not in there]))
    (chosen.out / "costly.md").write_text(report(stored(path)))
    shown = [row for row in stored(path) if row["problem"] in problems and row["method"] in methods]
    print("\n".join(table(shown, methods)[0]), flush=True)


def append(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Add the rows of a run to a file in one write, so that several runs can share it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if not path.exists():
        writer.writeheader()
    writer.writerows(rows)
    with path.open("a") as file:
        file.write(text.getvalue())
