"""``python -m benchmarks compress``: bytes from 50 % to 15 % of single precision, or 70 % and 50 % of the time."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

OUT = Path("benchmarks/results/compress.csv")
BUDGETS = {"size": (50.0, 35.0, 25.0, 20.0, 15.0), "latency": (70.0, 50.0)}

# Timed runs of a file for its evaluation, in alternation with the original.
RUNS = 61


@dataclass(frozen=True)
class Row:
    """The result of one method for a model and a budget in per cent of the original's bytes or time; why if none."""

    model: str
    cost: str
    budget: float
    method: str
    kept: bool
    bytes: int
    share: float
    error: float
    judged: float
    task: float
    seconds: float
    note: str = ""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks compress", description=__doc__)
    parser.add_argument("models", nargs="*", help="small, magika, silero, minilm, lite0; by default all but the first")
    parser.add_argument("--cost", choices=list(BUDGETS), default="size", help="what is bounded")
    parser.add_argument("--budgets", help="per cent of the original's bytes or time")
    parser.add_argument("--measurements", type=int, default=32, help="selections measured jointly for each budget")
    parser.add_argument("--log", type=Path, default=Path("out/compress"), help="a stopped run resumes from it")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--tables", action="store_true", help="write tables and the picture of known rows again")
    parser.add_argument("--picture", type=Path, help="draw the rows into this file")
    parser.add_argument("--quick", action="store_true", help="the small model and two budgets")
    asked = parser.parse_args(arguments)
    for package in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            print(f"compress: skipped, the package {package} is not installed")
            return
    from benchmarks.compress.cases import CASES, MissingError

    names = asked.models or (["small"] if asked.quick else ["magika", "silero", "minilm", "lite0"])
    budgets = [50.0, 20.0] if asked.quick else list(BUDGETS[asked.cost])
    budgets = [float(text) for text in asked.budgets.split(",")] if asked.budgets else budgets
    if unknown := [name for name in names if name not in CASES]:
        sys.exit(f"no model {unknown[0]!r}; there are {', '.join(CASES)}")
    again = [(name, asked.cost, budget) for name in names for budget in budgets]
    rows = [row for row in read(asked.out) if asked.tables or (row.model, row.cost, row.budget) not in again]
    if asked.tables:
        names = []
        asked.out.with_suffix(".md").write_text(tables(rows), encoding="utf-8")
    for name in names:
        try:
            case = CASES[name](asked.quick)
        except MissingError as missing:
            print(f"{name}: skipped, {missing}")
            continue
        for row in compared(case, asked.cost, budgets, asked.measurements, asked.log):
            rows.append(row)
            print(line(row), flush=True)
            write(rows, asked.out)
    if asked.picture is not None:
        draw(rows, asked.picture)


def compared(case, cost: str, budgets: list[float], measurements: int, log: Path) -> Iterator[Row]:
    """Rows of every method at every budget; a file that two methods share is evaluated once."""
    from benchmarks.compress.methods import DEFAULT, METHODS, OURS, QUICK, TIMED_OPTIONS, ours, runtime_default
    from cggd_compress import Compression
    from cggd_compress.costs import Limit

    default = runtime_default(case.model)
    how = {} if cost == "size" else {"timed": True, "batch": 1, "options": TIMED_OPTIONS}
    compression = Compression(case.model, case.calibration, error=case.error, log=log, **how)
    quick = Compression(case.model, case.calibration, error=case.error, quick=True) if cost == "size" else None
    runtime, bench = compression.bench.runtime, compression.bench
    judge = Judge(case, compression, cost)
    default_judged = judge(default)
    for budget in budgets:
        limit = Limit(cost, "<=", budget / 100 * compression.original_costs[cost])
        for method in (OURS, *([QUICK] if quick else []), *METHODS[cost], DEFAULT):
            began = time.perf_counter()
            if method in (OURS, QUICK):
                data, message = ours(compression if method == OURS or quick is None else quick, limit, measurements)
            elif method == DEFAULT:
                data = default if default_judged.share <= budget / 100 else None
            else:
                labels = METHODS[cost][method](compression, limit)
                data = None if labels is None else compression.choices.file(labels)
            row = Row(case.name, cost, budget, method, False, 0, *[np.nan] * 4, time.perf_counter() - began)
            if data is None and method == OURS:
                row = replace(row, note=message)
            if data is not None:
                found, judged = bench.distance(runtime.outputs(runtime.session(data), judge.seen)), judge(data)
                row = replace(row, kept=judged.share <= budget / 100, bytes=len(data), error=found, **asdict(judged))
            yield row


@dataclass(frozen=True)
class Judged:
    """Bytes or time as a share of the original's, with error and task accuracy on the evaluation data."""

    share: float
    judged: float
    task: float


class Judge:
    """Evaluates each file once."""

    def __init__(self, case, compression, cost: str) -> None:
        from cggd_compress.calibration import as_batches, model_inputs

        self.case, self.compression, self.cost = case, compression, cost
        self.seen = compression.bench.calibration.batches
        self.batches = as_batches(model_inputs(case.model.graph), case.judged, 50).batches
        self.reference = self.outputs(compression.choices.file(compression.choices.space.labels(compression.kept)))
        self.known: dict[bytes, Judged] = {}

    def outputs(self, data: bytes):
        runtime = self.compression.bench.runtime
        return runtime.outputs(runtime.session(data), self.batches)

    def __call__(self, data: bytes) -> Judged:
        from cggd_compress.damage import error_function
        from cggd_compress.runtime import Clock

        if data not in self.known:
            outputs, bench = self.outputs(data), self.compression.bench
            error = float(error_function(self.case.error, None)(self.reference, outputs))
            if self.cost == "size":
                share = len(data) / self.compression.original["size"]
            else:
                clock = Clock(bench.session, self.seen[0])
                share = clock.time(bench.runtime.session(data), RUNS)[0] / (clock.original or 1)
            self.known[data] = Judged(share, error, self.case.task(self.reference, outputs))
        return self.known[data]


# -- files ------------------------------------------------------------------------------------------------------------


def read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    kinds = {"model": str, "cost": str, "method": str, "kept": lambda text: text == "True", "bytes": int, "note": str}
    with path.open(encoding="utf-8", newline="") as file:
        return [Row(**{k: kinds.get(k, float)(v) for k, v in row.items()}) for row in csv.DictReader(file)]


def write(rows: list[Row], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    path.with_suffix(".md").write_text(tables(rows), encoding="utf-8")


def line(row: Row) -> str:
    start = f"{row.model} {row.cost} {row.budget:g} %: {row.method}:"
    if not row.bytes:
        return f"{start} nothing fits; {row.note}".rstrip("; ")
    return f"{start} {row.bytes} B, {row.share:.1%}, error {row.error:.3g}, {row.judged:.3g}, task {row.task:.3f}"


def tables(rows: list[Row]) -> str:
    """A table for each model and cost: error and task accuracy on the evaluation data."""
    from benchmarks.compress.methods import OURS

    parts = [
        "# Compression within bytes, and within time",
        "Each cell: error on data that calibration did not see, and the share of answers like the original's. A dash: "
        "nothing of that method fits. The best error of a row is bold. (!): a time above the bound when judged.",
    ]
    for model, cost in dict.fromkeys((row.model, row.cost) for row in rows):
        mine = [row for row in rows if (row.model, row.cost) == (model, cost)]
        methods = list(dict.fromkeys(row.method for row in mine))
        table = [[f"{cost} at most", *methods], ["---"] * (1 + len(methods))]
        lost = []
        for budget in sorted({row.budget for row in mine}, reverse=True):
            found = {row.method: row for row in mine if row.budget == budget and row.bytes}
            least = min((row.judged for row in found.values() if row.kept), default=np.nan)
            cells = [f"{budget:g} %"]
            for method in methods:
                row = found.get(method)
                text = "-" if row is None else f"{row.judged:.3g}, {row.task:.1%}" + (" (!)" if not row.kept else "")
                cells.append(f"**{text}**" if row is not None and row.kept and row.judged == least else text)
            table.append(cells)
            us = found.get(OURS)
            for m, row in found.items() if us is not None else ():
                if row.kept and row.judged < us.judged:
                    lost.append(f"{m} at {budget:g} %: error {row.judged:.3g} against {us.judged:.3g}")
                if row.kept and row.task > us.task:
                    lost.append(f"{m} at {budget:g} %: task {row.task:.1%} against {us.task:.1%}")
        parts += [f"## {model}, {cost}", "\n".join("| " + " | ".join(cells) + " |" for cells in table)]
        kept = [row for row in mine if row.method == OURS and row.bytes]
        parts.append(f"Files of {OURS} within the bound: {sum(row.kept for row in kept)} of {len(kept)}.")
        parts += [f"{OURS} at {row.budget:g} %: {row.note}." for row in mine if row.note]
        parts.append("Ahead of ours on that data: " + ("; ".join(lost) if lost else "none") + ".")
    return "\n\n".join(parts) + "\n"


def draw(rows: list[Row], path: Path) -> None:
    """Draw the error on evaluation data against bytes or time, with a panel for each model."""
    from benchmarks.compress.methods import OURS
    from cggd.plotting.pictures import load_plain_pyplot, save_picture

    pyplot = load_plain_pyplot()
    panels = list(dict.fromkeys((row.model, row.cost) for row in rows))
    wide = min(len(panels), 4)
    high = -(-len(panels) // wide)
    figure, axes = pyplot.subplots(high, wide, figsize=(3.6 * wide, 3.4 * high), layout="constrained", squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    for ax, panel in zip(axes.flat, panels, strict=False):
        mine = [row for row in rows if (row.model, row.cost) == panel and row.bytes and row.judged > 0]
        points = sorted((100 * row.share, row.judged) for row in mine if row.method == OURS)
        ax.plot(*zip(*points, strict=True), "o", label=OURS)
        for mark, method in zip("s^vDx+", ("uniform", "greedy", "sum alone", "quantize_dynamic"), strict=False):
            others = sorted({(100 * row.share, row.judged) for row in mine if row.method.startswith(method)})
            if others:
                ax.plot(*zip(*others, strict=True), mark, label=method, markerfacecolor="none")
        ax.set_yscale("log")
        ax.set_title(panel[0])
        ax.set_xlabel(f"{panel[1]}, % of the original")
    for ax in axes[:, 0]:
        ax.set_ylabel("error on other data")
    axes[0, 0].legend(fontsize="small")
    save_picture(figure, path)
    pyplot.close(figure)
