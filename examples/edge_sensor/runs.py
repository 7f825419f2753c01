"""Runs: one for each budget, method and seed, appended to a CSV file as it ends, and not repeated when it is there."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from cggd_nas import evaluate
from cggd_nas.measure import evaluating, macs, parameters, peak_memory, size_kb
from examples.edge_sensor import data
from examples.edge_sensor.deploy import export_int8, file_kb, memory_kb, predicted
from examples.edge_sensor.methods import (
    EXAMPLE,
    SEARCHES,
    Budget,
    Effort,
    by_hand,
    rebuilt,
    signals,
    trained,
    warmed_up,
)

RUNS, TUNED = "runs.csv", "tuned.csv"

# Windows on which the ranges of activations are found.
CALIBRATION = 256


def run(budget: Budget, method: str, seed: int, effort: Effort, folder: Path, onnx: Path | None = None) -> bool:
    """One run, unless it is in the folder's file already; whether anything was done.

    Parameters
    ----------
    budget, method, seed, effort
    folder : Path
        Of the CSV files.
    onnx : Path, optional
        Folder in which the int8 file stays.
    """
    key = {"budget": str(budget), "method": method, "seed": str(seed)}
    if any(key.items() <= row.items() for row in rows(folder / RUNS)):
        return False
    # Done once for all budgets of a seed, and counted each time.
    before = warmed_up(effort, seed).seconds if method == "ours" else 0.0
    began = time.process_time() - before
    if method in SEARCHES:
        name, losses = SEARCHES[method](budget, effort, seed)
    else:
        name, losses = tuned(budget, method, effort, folder), ""
    network = rebuilt(method, name)
    chosen = time.process_time()
    loss = trained(network, effort.full, effort, seed)
    done = time.process_time()
    seconds = {"cpu_seconds_choosing": round(chosen - began, 1), "cpu_seconds_training": round(done - chosen, 1)}
    with TemporaryDirectory() as temporary:
        path = (onnx or Path(temporary)) / f"{budget} {method} {seed}.onnx".replace("/", "-").replace(" ", "_")
        report = tested(network, path, effort)
    append(
        folder / RUNS,
        {**key, **report, "val_loss": f"{loss:.4f}", **seconds, "candidates": losses, "architecture": name},
    )
    return True


def tuned(budget: Budget, family: str, effort: Effort, folder: Path) -> str:
    """The variant of a family that was found best for a budget, once."""
    key = {"budget": str(budget), "family": family}
    for row in rows(folder / TUNED):
        if key.items() <= row.items():
            return row["variant"]
    began = time.process_time()
    name, losses = by_hand(family, budget, effort)
    seconds = round(time.process_time() - began, 1)
    append(folder / TUNED, {**key, "variant": name, "cpu_seconds": seconds, "candidates": losses})
    return name


def tested(network: nn.Module, path: Path, effort: Effort) -> dict[str, Any]:
    """What the int8 file of a trained network needs, and how well it does on the test windows."""
    ((calibration, _),) = data.DrawnWindows(signals("train"), 1, CALIBRATION, torch.Generator().manual_seed(2))
    export_int8(network, calibration, path)
    x, y, snr = data.fixed(signals("test"), step=effort.test_step, snr=data.TEST_SNR, seed=3)
    classes = predicted(path, x)
    right = classes == y.numpy()
    confusion = np.zeros((len(data.CLASSES),) * 2, dtype=int)
    np.add.at(confusion, (y.numpy(), classes), 1)
    with evaluating(network):
        single = evaluate(network, [(x, y)]).accuracy
    by_snr = {f"accuracy_{level:+g}dB": f"{right[snr.numpy() == level].mean():.4f}" for level in data.TEST_SNR}
    return {
        "file_kb": f"{file_kb(path):.3f}",
        "memory_kb": f"{memory_kb(path):.3f}",
        "predicted_size_kb": f"{size_kb(network):.3f}",
        "predicted_memory_kb": f"{peak_memory(network, EXAMPLE):.3f}",
        "parameters": parameters(network),
        "mmac": f"{macs(network, EXAMPLE) / 1e6:.3f}",
        "accuracy": f"{right.mean():.4f}",
        **by_snr,
        "accuracy_float": f"{single:.4f}",
        "confusion": ";".join(" ".join(map(str, line)) for line in confusion),
    }


def rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a row to a CSV file, with a header where it is the first."""
    first = not path.is_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(row), lineterminator="\n")
        if first:
            writer.writeheader()
        writer.writerow(row)
