"""Time and memory against size: ``python -m benchmarks.scale [--sizes 1e3 1e4 1e5 1e6] [--out docs]``.

Random knapsacks of 10 options per decision under 3 limits. Each measurement runs in a process of its own, so that its
peak memory is its own. Writes ``scale.csv``, ``scale.png`` and, between two marks, tables in ``benchmarks.md``;
``--results`` names another folder for the CSV file.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.markdown import insert
from cggd import Additive, ChoiceSpace, Problem, solve
from cggd.guide import Guide
from cggd.guide.safeguard import Safeguard, SafeguardState
from cggd.improve.descent import ADDITIVE, Descent
from cggd.program.lagrangian import relax
from cggd.program.sum_tables import Tables

SIZES = (1_000, 10_000, 100_000, 1_000_000)
OPTIONS, LIMITS, SHARE = 10, 3, 0.4
DTYPES = ("float64", "float32")
SECONDS, GAP = 60.0, 1e-3
REPEATS = 7


def knapsack(n: int, dtype: str, *, seed: int = 0) -> Problem:
    """Values that grow with the weights, as in the harder knapsacks of the literature, and limits that bind."""
    rng = np.random.default_rng(seed)
    space = ChoiceSpace.from_sizes(np.full(n, OPTIONS))
    value = rng.random(space.n_options, dtype=np.float32).astype(dtype)
    value /= 2
    limits = []
    for j in range(LIMITS):
        weight = rng.random(space.n_options, dtype=np.float32).astype(dtype)
        value += weight / LIMITS
        limits.append(Additive(space, weight, name=f"weight {j}") <= SHARE * n)
    return Problem(Additive(space, value, name="value"), limits, "maximize")


# -- what is measured, each in its own process ------------------------------------------------------------------------


def dual(problem: Problem) -> dict[str, Any]:
    """The Lagrangian bound and the selection repaired from it."""
    relaxation = relax(problem)
    assert relaxation is not None
    return {"value": relaxation.value, "bound": relaxation.bound, "passes": relaxation.passes}


def whole(problem: Problem) -> dict[str, Any]:
    """What a user calls who is content with a gap; without one the search polishes until its time is over."""
    result = solve(problem, time_limit=SECONDS, gap=GAP)
    assert result.feasible
    return {"value": result.value, "bound": result.bound, "status": result.status.name}


def descent(problem: Problem) -> dict[str, Any]:
    """The gradient search alone: one start of the kind for large sums."""
    result = solve(problem, improvers=[Descent(60, [ADDITIVE])], time_limit=SECONDS)
    return {"value": result.value, "bound": None}


def speed(problem: Problem) -> dict[str, Any]:
    """Bytes that a copy, a walk of the dual and a step of the search move in a second."""
    tables = Tables.of(problem, None)
    assert tables is not None
    n, size = problem.space.n_options, tables.tables[0].itemsize
    source, target = np.ones(n), np.empty(n)
    rng = np.random.default_rng(0)
    guard = Safeguard(Guide(problem.constraints, weights=ADDITIVE.weights, balance=ADDITIVE.balance))
    dtype = tables.tables[0].dtype
    logits, gradient = rng.standard_normal(n).astype(dtype), rng.standard_normal(n).astype(dtype)
    walk = _seconds(lambda: tables.minimise(np.ones(LIMITS)))
    step = _seconds(lambda: guard.step(logits, gradient, SafeguardState(), floor=1e-6))
    # What must be moved at the least: of a step all tables, logits in and out, and the gradient.
    moved = {
        "copy": (2 * 8 * n, _seconds(lambda: np.copyto(target, source))),
        "walk": (size * n * len(tables.tables), walk),
        "step": (n * size * (LIMITS + 3), step),
    }
    return {name: bytes_ / seconds / 1e9 for name, (bytes_, seconds) in moved.items()} | {
        "walk_seconds": walk,
        "step_seconds": step,
    }


def _seconds(function: Callable[[], object]) -> float:
    function()
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return median(times)


PARTS: dict[str, Callable[[Problem], dict[str, Any]]] = {
    "bound": dual,
    "solve": whole,
    "descent": descent,
    "speed": speed,
}


def measure(part: str, n: int, dtype: str) -> dict[str, Any]:
    problem = knapsack(n, dtype)
    before, began = _peak(), time.perf_counter()
    facts = PARTS[part](problem)
    seconds = time.perf_counter() - began
    return {"part": part, "decisions": n, "dtype": dtype, "seconds": seconds, "before": before, "peak": _peak()} | facts


def _peak() -> float:
    """Most memory this process has held, in GB; Linux counts in units of 1024 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def apart(part: str, n: int, dtype: str) -> dict[str, Any]:
    """`measure` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "--one", part, str(n), dtype]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


# -- what is written --------------------------------------------------------------------------------------------------


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    bounds = {(r["decisions"], r["dtype"]): r["bound"] for r in rows if r["part"] == "bound"}
    lines = [
        f"Knapsacks of {OPTIONS} options per decision and {LIMITS} limits; gap to the Lagrangian bound; peak memory of "
        "the whole process, and before the call.",
        "",
        "| part | decisions | numbers | seconds | gap | peak GB | before |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for r in (r for r in rows if r["part"] != "speed"):
        bound = bounds[r["decisions"], r["dtype"]]
        gap = "none feasible" if r["value"] is None else f"{(bound - r['value']) / bound:.2e}"
        lines.append(
            f"| {r['part']} | {r['decisions']:,} | {r['dtype']} | {r['seconds']:.2f} | {gap} | {r['peak']:.2f} | "
            f"{r['before']:.2f} |"
        )
    lines += [
        "",
        "Memory traffic, counting each array that must be read or written once: a copy (`np.copyto`), one walk of the "
        "dual, one step of the guided descent.",
        "",
        "| decisions | numbers | copy GB/s | walk GB/s | walk ms | step GB/s | step ms |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r['decisions']:,} | {r['dtype']} | {r['copy']:.1f} | {r['walk']:.1f} | {1e3 * r['walk_seconds']:.2f} | "
        f"{r['step']:.1f} | {1e3 * r['step_seconds']:.2f} |"
        for r in rows
        if r["part"] == "speed"
    ]
    return "\n".join(lines) + "\n"


def picture(rows: Sequence[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for part in ("bound", "solve", "descent"):
        for dtype, style in zip(DTYPES, ("-o", "--s"), strict=True):
            mine = [(r["decisions"], r["seconds"]) for r in rows if r["part"] == part and r["dtype"] == dtype]
            if mine:
                axes.loglog(*zip(*mine, strict=True), style, label=f"{part}, {dtype}", markersize=4)
    sizes = np.array(sorted({r["decisions"] for r in rows}))
    last = max(r["seconds"] for r in rows if r["part"] == "bound" and r["decisions"] == sizes[-1])
    axes.loglog(sizes, last * sizes / sizes[-1], ":", color="grey", label="slope 1")
    axes.set_xlabel(f"decisions of {OPTIONS} options, {LIMITS} limits")
    axes.set_ylabel("seconds")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=lambda text: int(float(text)), default=SIZES, metavar="DECISIONS")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, metavar="FOLDER")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="of the CSV file; by default --out")
    parser.add_argument("--one", nargs=3, metavar=("PART", "DECISIONS", "DTYPE"), help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.one is not None:
        part, n, dtype = asked.one
        print(json.dumps(measure(part, int(n), dtype)))
        return
    parts = ["bound", *(part for part in asked.parts if part != "bound")]  # gaps are measured to it
    rows = [apart(part, n, dtype) for part in parts for n in asked.sizes for dtype in DTYPES]
    print(text := markdown(rows))
    if asked.out is None:
        return
    asked.out.mkdir(parents=True, exist_ok=True)
    with ((asked.results or asked.out) / "scale.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    picture(rows, asked.out / "scale.png")
    insert(f"{text}\n![seconds against decisions](scale.png)", asked.out / "benchmarks.md", "scale")


if __name__ == "__main__":
    main()
