"""A trained ResNet pruned to shares of its multiply-accumulates or of its latency, by cggd and other methods.

    python -m benchmarks pruning [--seeds 0 1 2] [--budgets macs:0.5 latency:0.3 ...] [--methods uniform ...]
                                 [--quick] [--tables]

The data are CIFAR-10 at 16 x 16 pixels, 4,000 images for training. All methods start from the same trained network.
Their networks are fine-tuned by the same number of steps (2 epochs, 124 steps of 64 images) with the original network
as teacher, and evaluated on the same 4,000 test images. Before fine-tuning, batch norms are recalibrated by the same
batches. Latency is measured in ONNX Runtime on one thread for a batch of 16, as a share of the original network's
latency, in alternating runs. The networks of "from scratch" have the widths of "uniform" and new weights, and are
trained for as much processor time as cggd needs for the search and fine-tuning. Every budget is checked on the exported
file: multiply-accumulates are counted in it, and its latency is measured. Rows in results/pruning.csv are not made
again. Needs nas/cifar10_jpeg.npz. Torch-Pruning is included if it is installed.
"""

from __future__ import annotations

import argparse
import copy
import csv
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.nas_cifar10.images import FILE, available, load
from benchmarks.pruning.budgets import Budget, NoneFitsError
from benchmarks.pruning.methods import METHODS, resnet
from cggd_nas import evaluate, export_onnx, finetune, measure, recalibrate, retrain
from cggd_nas.batches import Shuffled

RESULTS = Path(__file__).parents[1] / "results"
CACHE = Path("out/nas_cifar10/cache")
COLUMNS = (
    "kind",
    "share",
    "method",
    "seed",
    "whole",
    "before",
    "after",
    "used",
    "parameters",
    "cut_seconds",
    "tune_seconds",
)
SCRATCH = "from scratch"
NAMES = {"macs": "MACs", "latency": "latency"}
BUDGETS = ["macs:0.5", "macs:0.3", "macs:0.15", "latency:0.3"]


@dataclass(frozen=True)
class Setting:
    """Images, network and training."""

    train: int = 4000
    val: int = 2000
    test: int = 4000
    widths: tuple[int, ...] = (16, 32, 64)
    blocks: int = 1
    epochs: int = 20
    tuning: int = 2
    batch: int = 16


QUICK = Setting(train=512, val=128, test=256, widths=(8, 16), epochs=1, tuning=1)


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network and its data."""

    model: nn.Module
    example: torch.Tensor
    train: Shuffled
    val: list
    test: list
    accuracy: float


def trained(setting: Setting, seed: int) -> Trained:
    images = load(setting.train, setting.val + setting.test, 16, CACHE)
    x, y = images.val
    val, test = (x[: setting.val], y[: setting.val]), (x[setting.val :], y[setting.val :])
    train = Shuffled(images.train, 64, torch.Generator().manual_seed(seed))
    torch.manual_seed(seed)
    model = resnet(setting.widths, setting.blocks)
    kept = Path(f"out/pruning/whole_{seed}_{setting.train}_{setting.epochs}.pt")  # for runs of other shares
    if kept.is_file():
        model.load_state_dict(torch.load(kept))
    else:
        retrain(model, train, [val], setting.epochs, seed=seed)
        kept.parent.mkdir(parents=True, exist_ok=True)
        torch.save(model.state_dict(), kept)
    example = x[:1]
    return Trained(
        model.eval(),
        example,
        train,
        [val],
        [test],
        100 * evaluate(model, [test]).accuracy,
    )


def row(
    base: Trained, setting: Setting, kind: str, share: float, method: str, seed: int, rows: Sequence[dict]
) -> dict[str, object]:
    example = base.example if kind == "macs" else base.val[0][0][: setting.batch]
    budget, steps = Budget(kind, share, base.model, example), list(base.train)
    epochs, began = setting.tuning, time.process_time()
    network = METHODS["uniform" if method == SCRATCH else method](base.model, budget, steps, base.val)
    cut_seconds, before = time.process_time() - began, float("nan")
    began = time.process_time()
    if method == SCRATCH:
        same = [r for r in rows if (r["kind"], float(r["share"]), int(r["seed"])) == (kind, share, seed)]
        allowed = max(
            (float(r["cut_seconds"]) + float(r["tune_seconds"]) for r in same if r["method"] == "cggd"), default=0.0
        )
        epoch = _epoch_seconds(network, base)
        retrain(network, base.train, base.val, max(epochs, round(allowed / epoch)), seed=seed)
    else:
        recalibrate(network, steps[:20])
        before = 100 * evaluate(network, base.test).accuracy
        finetune(network, base.train, base.val, epochs, teacher=base.model, learning_rate=0.05, seed=seed)
    tune_seconds = time.process_time() - began
    network.eval()
    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(network, example, Path(folder, "network.onnx"))
        used = budget.used_by_file(path)
    numbers = (kind, share, method, seed, base.accuracy, before, 100 * evaluate(network, base.test).accuracy, used,
               measure.parameters(network), cut_seconds, tune_seconds)  # fmt: skip
    return dict(zip(COLUMNS, (f"{n:.5g}" if isinstance(n, float) else n for n in numbers), strict=True))


def _epoch_seconds(network: nn.Module, base: Trained) -> float:
    """Processor time of an epoch, from a few steps of a copy."""
    twin, few = copy.deepcopy(network), list(base.train)[:10]
    began = time.process_time()
    retrain(twin, few, [(x[:2], y[:2]) for x, y in few[:1]], 1)
    return (time.process_time() - began) / len(few) * len(base.train)


def table(rows: Sequence[dict]) -> str:
    """Means and standard deviations over the seeds, as Markdown."""
    seeds = sorted({int(r["seed"]) for r in rows})
    whole = np.mean([float(r["whole"]) for r in rows])
    lines = [
        f"Test accuracy in % (mean and standard deviation of {len(seeds)} seeds) of a ResNet for CIFAR-10 at 16 x 16 "
        f"pixels, which has {whole:.1f} % before it is cut, made by `python -m benchmarks pruning`. A share is what "
        "the exported ONNX file takes of what the whole network's file takes; kept: files that are within the budget.",
        "",
        "| budget | method | before fine-tuning | after it | share of the file | kept | s to choose | s to train |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind, share in sorted({(r["kind"], float(r["share"])) for r in rows}, key=lambda one: (one[0], -one[1])):
        for method in (*METHODS, SCRATCH):
            own = [r for r in rows if (r["kind"], float(r["share"]), r["method"]) == (kind, share, method)]
            if own:
                mean = {c: np.array([float(r[c]) for r in own]) for c in COLUMNS[4:]}
                before = "" if method == SCRATCH else f"{mean['before'].mean():.1f} ± {mean['before'].std():.1f}"
                lines.append(
                    f"| {share:.0%} of {NAMES[kind]} | {method} | {before} | {mean['after'].mean():.1f} ± "
                    f"{mean['after'].std():.1f} | {mean['used'].mean():.1%} | {(mean['used'] <= share).sum()} of "
                    f"{len(own)} | {mean['cut_seconds'].mean():.0f} | {mean['tune_seconds'].mean():.0f} |"
                )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks pruning", description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--budgets", nargs="+", default=BUDGETS, help="such as macs:0.5 or latency:0.3")
    parser.add_argument("--methods", nargs="+", default=[*METHODS, SCRATCH])
    parser.add_argument("--quick", action="store_true", help="few images, one seed, one budget: a smoke test")
    parser.add_argument("--tables", action="store_true", help="run nothing, write the table again")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    out = options.out or (Path("out/pruning") if options.quick else RESULTS)
    out.mkdir(parents=True, exist_ok=True)
    if not options.tables:
        if not available():
            print(f"pruning needs {FILE} in the folder named by CGGD_DATA; nothing was run")
            return
        torch.set_num_threads(1)
        setting = QUICK if options.quick else Setting()
        for seed in [0] if options.quick else options.seeds:
            base = trained(setting, seed)
            for budget in BUDGETS[:1] if options.quick else options.budgets:
                kind, _, share = budget.partition(":")
                for method in options.methods:
                    rows = rows_of(out)  # others may add to them
                    done = {(r["kind"], float(r["share"]), r["method"], int(r["seed"])) for r in rows}
                    if (kind, float(share), method, seed) not in done:
                        try:
                            made = row(base, setting, kind, float(share), method, seed, rows)
                        except NoneFitsError as error:
                            print(f"{method}, seed {seed}: {error}", flush=True)
                            continue
                        _write(out, [*rows_of(out), made])
                        print(" ".join(f"{k}={v}" for k, v in made.items()), flush=True)
    rows = rows_of(out)
    _write(out, rows)
    print(table(rows))


def rows_of(out: Path) -> list[dict]:
    """The rows of earlier runs; delete rows to make them again."""
    path = out / "pruning.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stored:
        return list(csv.DictReader(stored))


def _write(out: Path, rows: Sequence[dict]) -> None:
    with (out / "pruning.csv").open("w", newline="", encoding="utf-8") as stored:
        writer = csv.DictWriter(stored, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (out / "pruning.md").write_text(table(rows), encoding="utf-8")
