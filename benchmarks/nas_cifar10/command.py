"""``python -m benchmarks nas_cifar10``: makes all missing runs and appends a row of a table when each ends."""

from __future__ import annotations

import argparse
import csv
import heapq
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.markdown import insert
from benchmarks.nas_cifar10.images import FILE, Images, available, load
from benchmarks.nas_cifar10.methods import ABLATIONS, BASELINES, ENDS, METHODS
from benchmarks.nas_cifar10.ranking import answer
from benchmarks.nas_cifar10.recipe import ENDS as ENDS_RECIPE
from benchmarks.nas_cifar10.recipe import FULL, QUICK, Recipe
from benchmarks.nas_cifar10.report import ENDS_MARK, VARIED, ends_page, page, write
from benchmarks.nas_cifar10.settings import SIZE_NAMES, TOPOLOGY_NAMES, Selection, Setting, all_settings
from benchmarks.nas_cifar10.training import trained

RESULTS = Path(__file__).parent / "results"
CACHE = Path("out/nas_cifar10/cache")


@dataclass(frozen=True)
class Task:
    """A run; `weight` is NaN for methods without a weight."""

    setting: str
    method: str
    weight: float
    seed: int

    @property
    def key(self) -> tuple[str, ...]:
        return self.setting, self.method, f"{self.weight:g}", str(self.seed)


def planned() -> Iterator[Task]:
    """All runs, the most important first."""
    five, three = range(5), range(3)
    for settings in (TOPOLOGY_NAMES[:3], SIZE_NAMES, TOPOLOGY_NAMES[3:]):
        yield from (Task(setting, "cggd", math.nan, seed) for seed in five for setting in settings)
    published = {name: math.nan if method.weight is None else method.weight for name, method in BASELINES.items()}
    for settings in (("latency", "both"), TOPOLOGY_NAMES[3:]):
        yield from (
            Task(s, name, weight, seed) for seed in three for s in settings for name, weight in published.items()
        )
    yield from (Task(s, name, math.nan, seed) for seed in three for s in VARIED for name in ABLATIONS)
    yield from (Task("latency", name, weight, 0) for name, method in BASELINES.items() for weight in method.scan)
    yield from (Task(s, name, weight, seed) for seed in three for s in SIZE_NAMES for name, weight in published.items())


def ends() -> Iterator[Task]:
    """The runs that are compared only by their ends, seed by seed."""
    for seed, setting, name in itertools.product(range(5), ("latency", "latency10"), ENDS):
        weight = METHODS[name].weight
        yield Task(setting, name, math.nan if weight is None else weight, seed)


def end(setting: Setting, task: Task, recipe: Recipe, images: Images, cache: Path) -> dict[str, Any]:
    """One run without a finish: a row with its end and the best selection that it visited."""
    weight = None if math.isnan(task.weight) else task.weight
    search = trained(setting, METHODS[task.method], weight, recipe, images, task.seed, cache)
    last = tuple(search.supernet.indices().tolist())
    met = [one for one in search.met if setting.satisfied(one)] + [last] * setting.satisfied(last)
    best = min(met, key=setting.regret, default=None)
    return {
        "setting": task.setting,
        "method": task.method,
        "weight": f"{task.weight:g}",
        "seed": task.seed,
        "end": "-".join(map(str, last)),
        "satisfied": setting.satisfied(last),
        "accuracy": setting.accuracy(last),
        "regret": setting.regret(last) if setting.satisfied(last) else math.nan,
        "best_regret": math.nan if best is None else setting.regret(best),
        "feasible_steps": float(np.mean([epoch["feasible"] for epoch in search.epochs])),
        "cpu_seconds": search.seconds,
    }


def run(setting: Setting, task: Task, recipe: Recipe, images: Images, cache: Path) -> tuple[dict[str, Any], list[dict]]:
    """One run: its row and the rows of its trajectory."""
    method = METHODS[task.method]
    weight = None if math.isnan(task.weight) else task.weight
    wall = time.perf_counter()
    search = trained(setting, method, weight, recipe, images, task.seed, cache)
    end = tuple(search.supernet.indices().tolist())
    starts = _starts(setting, task, search.met, search.supernet.logits(), recipe)
    found = answer(setting, search.supernet, starts, recipe, images, task.seed, cache, neighbours=not method.random)
    known = {"setting": task.setting, "method": task.method, "weight": f"{task.weight:g}", "seed": task.seed}
    trajectory = [known | epoch for epoch in search.epochs]
    first = next((epoch["epoch"] for epoch in search.epochs if epoch["satisfied"]), math.nan)
    row: dict[str, Any] = known | {"satisfied": found is not None}
    for name, selection in {
        "": found.alone if found else end,
        "end_": end,
        "shared_": found.shared if found else end,
    }.items():
        row |= {
            f"{name}architecture": "-".join(map(str, selection)),
            f"{name}accuracy": setting.accuracy(selection),
            f"{name}regret": setting.regret(selection) if setting.satisfied(selection) else math.nan,
        }
    chosen = np.array(found.alone if found else end)
    row |= {
        "end_satisfied": setting.satisfied(end),
        "values": ";".join(f"{c.metric.name}={c.metric(chosen):g}" for c in setting.table.constraints),
        "first_feasible_epoch": first,
        "feasible_epochs": float(np.mean([epoch["satisfied"] for epoch in search.epochs])),
        "feasible_steps": float(np.mean([epoch["feasible"] for epoch in search.epochs])),
        "judged": found.judged if found else 0,
        "trained_alone": found.trained if found else 0,
        "cpu_seconds": search.seconds + (found.seconds if found else 0.0),
        "wall_seconds": time.perf_counter() - wall,
        "direction_share": search.direction,
        "processor": torch.cpu.get_capabilities().get("cpu_name", ""),
    }
    return row, trajectory


def _starts(
    setting: Setting, task: Task, met: dict[Selection, None], logits: np.ndarray, recipe: Recipe
) -> Sequence[Selection]:
    """The selections that are evaluated: those visited last or the likeliest, the largest, and some random ones.

    Empty if the method visited no selection within the bounds, since the others are not its own.
    """
    method, rows = METHODS[task.method], setting.feasible()
    drawn = [tuple(row) for row in np.random.default_rng(task.seed).permutation(rows).tolist()]
    if method.random:
        return drawn
    found = list(met)[::-1]
    if method.filtered:
        likely = logits[setting.table.space.layout.flat(rows)].sum(axis=1)
        found = [tuple(row) for row in rows[np.argsort(-likely)[: recipe.drawn // 2]].tolist()]
    largest = heapq.nlargest(recipe.largest, drawn, key=setting.family.capacity)
    return [*found, *largest, *drawn[: recipe.drawn]] if found else []


def append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows to a CSV file, with a header if it is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as stored:
        writer = csv.DictWriter(stored, list(rows[0]), lineterminator="\n")
        if stored.tell() == 0:
            writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; empty if it does not exist."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stored:
        return list(csv.DictReader(stored))


def main(arguments: Sequence[str] = ()) -> None:
    """Make the runs that are missing in the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks nas_cifar10", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few small images, one seed, some methods: a smoke test")
    parser.add_argument("--settings", nargs="+", metavar="NAME", help=", ".join((*TOPOLOGY_NAMES, *SIZE_NAMES)))
    parser.add_argument("--methods", nargs="+", metavar="NAME", help=", ".join(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N")
    parser.add_argument("--out", type=Path, help=f"folder of the results; by default {RESULTS}, with --quick out/")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of what runs have in common")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ends", action="store_true", help="short searches that are compared by their ends alone")
    parser.add_argument("--report", action="store_true", help="run nothing, print the tables of the results")
    parser.add_argument("--docs", type=Path, help="with --report, the document that gets tables and plots")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    out = options.out or (Path("out/nas_cifar10/quick") if options.quick else RESULTS)
    if options.report:
        runs = rows_of(out / "runs.csv")
        if options.ends:
            text = ends_page(rows_of(out / "ends.csv"))
            print(text) if options.docs is None else insert(text, options.docs, ENDS_MARK)
        elif options.docs is None:
            print(page(runs))
        else:
            write(runs, rows_of(out / "trajectory.csv"), options.docs)
        return
    settings, tasks = all_settings(), list(ends() if options.ends else planned())
    if options.quick and not (options.settings or options.methods):
        tasks = [t for t in tasks if t.seed == 0 and t.setting in ("both", "params") and t.method not in ABLATIONS]
    for name, known in (("settings", settings), ("methods", METHODS)):
        if unknown := set(getattr(options, name) or ()) - set(known):
            parser.error(f"--{name}: no {unknown.pop()!r}; there are {', '.join(known)}")
    wanted = [
        task
        for task in tasks
        if task.setting in (options.settings or settings)
        and task.method in (options.methods or METHODS)
        and task.seed in (range(5) if options.seeds is None else options.seeds)
    ]
    if not available():
        print(f"nas_cifar10 needs {FILE} in the folder named by CGGD_DATA; nothing was run")
        return
    stored = QUICK if options.quick else ENDS_RECIPE if options.ends else FULL
    images = load(stored.images, stored.val_images, stored.side, options.cache)
    for task in wanted if options.ends else ():
        if task.key in {(r["setting"], r["method"], r["weight"], r["seed"]) for r in rows_of(out / "ends.csv")}:
            continue
        row = end(settings[task.setting], task, stored, images, options.cache)
        append(out / "ends.csv", [row])
        print(
            " ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()), flush=True
        )
    for task in () if options.ends else wanted:
        # Read again each time: several processes may share the results.
        done = {(r["setting"], r["method"], r["weight"], r["seed"]) for r in rows_of(out / "runs.csv")}
        if task.key in done:
            continue
        setting = settings[task.setting]
        recipe = QUICK if options.quick else setting.family.recipe
        row, trajectory = run(setting, task, recipe, images, options.cache)
        append(out / "trajectory.csv", trajectory)
        append(out / "runs.csv", [row])
        print(
            f"{' '.join(task.key)}: {'satisfied' if row['satisfied'] else 'NOT satisfied'}, {row['architecture']}, "
            f"test accuracy {row['accuracy']:.2f}%, regret {row['regret']:.2f} (at the end {row['end_regret']:.2f}, by "
            f"shared weights {row['shared_regret']:.2f}), {row['cpu_seconds']:.0f} s of CPU, "
            f"{row['wall_seconds']:.0f} s, direction {row['direction_share']:.1%}",
            flush=True,
        )
