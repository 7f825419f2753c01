"""``python -m benchmarks compress``: bytes of the file from 50 % to 15 % of single precision."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

OUT = Path("benchmarks/results/compress.csv")
BUDGETS = (50, 35, 25, 20, 15)


@dataclass(frozen=True)
class Row:
    """One file: a model, a budget in per cent of the original's bytes, a method, and what came out."""

    model: str
    budget: float
    method: str
    kept: bool
    bytes: int
    error: float
    judged: float
    task: float
    seconds: float


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks compress", description=__doc__)
    parser.add_argument("models", nargs="*", help="small, magika, silero, minilm; by default the last three")
    parser.add_argument("--budgets", default=",".join(map(str, BUDGETS)), help="per cent of the original's bytes")
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

    names = asked.models or (["small"] if asked.quick else ["magika", "silero", "minilm"])
    budgets = [50.0, 20.0] if asked.quick else [float(text) for text in asked.budgets.split(",")]
    if unknown := [name for name in names if name not in CASES]:
        sys.exit(f"no model {unknown[0]!r}; there are {', '.join(CASES)}")
    rows = [row for row in read(asked.out) if row.model not in names or row.budget not in budgets]
    if asked.tables:
        names, rows = [], read(asked.out)
        asked.out.with_suffix(".md").write_text(tables(rows), encoding="utf-8")
    for name in names:
        try:
            case = CASES[name](asked.quick)
        except MissingError as missing:
            print(f"{name}: skipped, {missing}")
            continue
        for row in compared(case, budgets, asked.measurements, asked.log):
            rows.append(row)
            print(line(row), flush=True)
            write(rows, asked.out)
    if asked.picture is not None:
        draw(rows, asked.picture)


def compared(case, budgets: list[float], measurements: int, log: Path) -> Iterator[Row]:
    """Rows of every method at every budget; files that two methods share are judged once."""
    from benchmarks.compress.methods import DEFAULT, METHODS, OURS, ours, runtime_default
    from cggd_compress import Compression

    default = runtime_default(case.model)
    compression = Compression(case.model, case.calibration, error=case.error, log=log)
    runtime, error = compression.bench.runtime, compression.bench.error
    judge = Judge(case, compression)
    for budget in budgets:
        bound = budget / 100 * compression.original["size"]
        for method in (OURS, *METHODS, DEFAULT):
            began = time.perf_counter()
            if method == OURS:
                data = ours(compression, bound, measurements)
            elif method == DEFAULT:
                data = default if len(default) <= bound else None
            else:
                labels = METHODS[method](compression, bound)
                data = None if labels is None else compression.choices.file(labels)
            seconds = time.perf_counter() - began
            if data is None:
                yield Row(case.name, budget, method, False, 0, np.nan, np.nan, np.nan, seconds)
                continue
            found = error(compression.bench.reference, runtime.outputs(runtime.session(data), judge.seen))
            yield Row(case.name, budget, method, len(data) <= bound, len(data), found, *judge(data), seconds)


class Judge:
    """Error and task figure on data that calibration did not see."""

    def __init__(self, case, compression) -> None:
        from cggd_compress.calibration import as_batches, model_inputs

        self.case, self.compression = case, compression
        self.seen = compression.bench.calibration.batches
        self.batches = as_batches(model_inputs(case.model.graph), case.judged, 50).batches
        self.reference = self.outputs(compression.choices.file(compression.choices.space.labels(compression.kept)))
        self.known: dict[bytes, tuple[float, float]] = {}

    def outputs(self, data: bytes):
        runtime = self.compression.bench.runtime
        return runtime.outputs(runtime.session(data), self.batches)

    def __call__(self, data: bytes) -> tuple[float, float]:
        if data not in self.known:
            outputs = self.outputs(data)
            error = self.compression.bench.error(self.reference, outputs)
            self.known[data] = float(error), self.case.task(self.reference, outputs)
        return self.known[data]


# -- files ------------------------------------------------------------------------------------------------------------


def read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    kinds = {"model": str, "method": str, "kept": lambda text: text == "True", "bytes": int}
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
    if not row.bytes:
        return f"{row.model} {row.budget:g} %: {row.method}: nothing fits"
    return f"{row.model} {row.budget:g} %: {row.method}: {row.bytes} B, error {row.error:.3g}, task {row.task:.3f}"


def tables(rows: list[Row]) -> str:
    """A table for each model: error on data that calibration did not see, and the task figure."""
    from benchmarks.compress.methods import OURS

    parts = [
        "# Compression within bytes",
        "Each cell: error on data that calibration did not see, and the share of answers like the original's. A dash: "
        "nothing of that method fits. The best error of a row is bold.",
    ]
    for model in dict.fromkeys(row.model for row in rows):
        mine = [row for row in rows if row.model == model]
        methods = list(dict.fromkeys(row.method for row in mine))
        table = [["bytes at most", *methods], ["---"] * (1 + len(methods))]
        lost = []
        for budget in sorted({row.budget for row in mine}, reverse=True):
            found = {row.method: row for row in mine if row.budget == budget and row.bytes}
            least = min((row.judged for row in found.values()), default=np.nan)
            cells = [f"{budget:g} %"]
            for method in methods:
                row = found.get(method)
                text = "-" if row is None else f"{row.judged:.3g}, {row.task:.1%}"
                cells.append(f"**{text}**" if row is not None and row.judged == least else text)
            table.append(cells)
            us = found.get(OURS)
            for m, row in found.items() if us is not None else ():
                if row.judged < us.judged:
                    lost.append(f"{m} at {budget:g} %: error {row.judged:.3g} against {us.judged:.3g}")
                if row.task > us.task:
                    lost.append(f"{m} at {budget:g} %: task {row.task:.1%} against {us.task:.1%}")
        parts += [f"## {model}", "\n".join("| " + " | ".join(cells) + " |" for cells in table)]
        kept = [row for row in mine if row.method == OURS and row.bytes]
        parts.append(f"Files of {OURS} within the bound: {sum(row.kept for row in kept)} of {len(kept)}.")
        parts.append("Ahead of ours on that data: " + ("; ".join(lost) if lost else "none") + ".")
    return "\n\n".join(parts) + "\n"


def draw(rows: list[Row], path: Path) -> None:
    """Error on data that calibration did not see against bytes, a panel for each model."""
    from benchmarks.compress.methods import OURS
    from cggd.plotting.pictures import load_plain_pyplot, save_picture

    pyplot = load_plain_pyplot()
    models = list(dict.fromkeys(row.model for row in rows))
    figure, axes = pyplot.subplots(
        1, len(models), figsize=(4.2 * len(models), 3.4), layout="constrained", squeeze=False
    )
    for ax, model in zip(axes[0], models, strict=True):
        mine = [row for row in rows if row.model == model and row.bytes and row.judged > 0]
        points = sorted((row.bytes / 1e6, row.judged) for row in mine if row.method == OURS)
        ax.plot(*zip(*points, strict=True), "o-", label=OURS)
        for mark, method in zip("s^vDx+", ("uniform", "greedy", "sum alone", "quantize_dynamic"), strict=False):
            others = sorted({(row.bytes / 1e6, row.judged) for row in mine if row.method.startswith(method)})
            if others:
                ax.plot(*zip(*others, strict=True), mark, label=method, markerfacecolor="none")
        ax.set_yscale("log")
        ax.set_title(model)
        ax.set_xlabel("MB")
    axes[0, 0].set_ylabel("error on other data")
    axes[0, 0].legend(fontsize="small")
    save_picture(figure, path)
    pyplot.close(figure)
