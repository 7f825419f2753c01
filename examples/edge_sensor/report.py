"""Tables and pictures of the runs that there are."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from examples.edge_sensor.data import CLASSES, TEST_SNR
from examples.edge_sensor.methods import BUDGETS, SEARCHES, Budget, methods
from examples.edge_sensor.runs import RUNS, TUNED, rows

Row = dict[str, str]
BEGIN, END = "<!-- {name} -->", "<!-- end of {name} -->"


def report(results: Path, folder: Path) -> None:
    """Write tables between the marks of ``edge_sensor.md`` in a folder, and pictures beside it."""
    runs = rows(results / RUNS)
    document = folder / "edge_sensor.md"
    text = document.read_text(encoding="utf-8")
    tables = {
        "accuracy": accuracy_table(runs) + "\n\n![accuracy against measured memory](edge_sensor_accuracy.png)",
        "levels": level_table(runs),
        "costs": cost_table(runs) + "\n\n![confusion of the networks found](edge_sensor_confusion.png)",
        "tuned": tuned_table(rows(results / TUNED)),
        "architectures": architecture_table(runs),
    }
    for name, table in tables.items():
        begin, end = BEGIN.format(name=name), END.format(name=name)
        before, rest = text.split(begin)
        text = before + begin + "\n" + table + "\n" + end + rest.split(end)[1]
    document.write_text(text, encoding="utf-8")
    draw_accuracy(runs, folder / "edge_sensor_accuracy.png")
    draw_confusion(runs, folder / "edge_sensor_confusion.png")


def of(runs: list[Row], budget: Budget, method: str) -> list[Row]:
    """The runs of a budget and a method."""
    return [row for row in runs if row["budget"] == str(budget) and row["method"] == method]


def column(runs: list[Row], name: str) -> NDArray[np.float64]:
    """Numbers of a column."""
    return np.array([float(row[name]) for row in runs])


def best_by_hand(runs: list[Row], budget: Budget) -> str | None:
    """The family with the best mean test accuracy."""
    means = {
        m: column(of(runs, budget, m), "accuracy").mean() for m in methods() if m not in SEARCHES if of(runs, budget, m)
    }
    return max(means, key=lambda family: means[family]) if means else None


def accuracy_table(runs: list[Row]) -> str:
    """Mean, deviation and number of runs of each method at each budget, accuracy of the int8 file in %."""

    def cell(budget: Budget, method: str) -> str:
        values = 100 * column(of(runs, budget, method), "accuracy")
        if not len(values):
            return "-"
        spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
        return f"{values.mean():.1f}{spread} ({len(values)})"

    return table(["method", *(f"{b} kB" for b in BUDGETS)], [[m, *(cell(b, m) for b in BUDGETS)] for m in methods()])


def level_table(runs: list[Row]) -> str:
    """Accuracy in % by noise, of ours and of the best family."""
    lines = []
    for budget in BUDGETS:
        for method in ("ours", best_by_hand(runs, budget)):
            if method and (found := of(runs, budget, method)):
                levels = [f"{100 * column(found, f'accuracy_{level:+g}dB').mean():.1f}" for level in TEST_SNR]
                loss = 100 * (column(found, "accuracy_float") - column(found, "accuracy")).mean()
                lines.append([f"{budget} kB", method, *levels, f"{loss:+.2f}"])
    return table(["budget", "method", *(f"{level:+g} dB" for level in TEST_SNR), "float32 minus int8"], lines)


def cost_table(runs: list[Row]) -> str:
    """The largest measured file and memory over the runs of each method, and what they compute and take."""
    lines = []
    for budget in BUDGETS:
        for method in methods():
            if found := of(runs, budget, method):
                inside = (column(found, "file_kb") <= budget.size) & (column(found, "memory_kb") <= budget.memory)
                means = [
                    column(found, name).mean() for name in ("mmac", "cpu_seconds_choosing", "cpu_seconds_training")
                ]
                lines.append([
                    f"{budget} kB",
                    method,
                    f"{column(found, 'file_kb').max():.1f}",
                    f"{column(found, 'memory_kb').max():.1f}",
                    f"{inside.sum()} of {len(found)}",
                    f"{means[0]:.2f}",
                    f"{means[1]:.0f}" if method in SEARCHES else "tuned once",
                    f"{means[2]:.0f}",
                ])  # fmt: skip
    head = [
        "budget",
        "method",
        "largest file, kB",
        "largest memory, kB",
        "inside",
        "MMAC",
        "choosing, CPU s",
        "training, CPU s",
    ]
    return table(head, lines)


def tuned_table(tuned: list[Row]) -> str:
    """The variants that were found best, once for all seeds."""
    head = ["budget", "family", "variant", "CPU s"]
    return table(head, [[f"{r['budget']} kB", r["family"], r["variant"], r["cpu_seconds"]] for r in tuned])


def architecture_table(runs: list[Row]) -> str:
    """What the search found: kernel and channels of each layer, how it shortens, and the pooling."""
    lines = []
    for budget in BUDGETS:
        for row in of(runs, budget, "ours"):
            lines.append(
                [f"{budget} kB", row["seed"], described(row["architecture"]), f"{100 * float(row['accuracy']):.1f}"]
            )
    return table(["budget", "seed", "layers", "accuracy, %"], lines)


def described(architecture: str) -> str:
    """An architecture of the space in a line.

    Examples
    --------
    >>> described('{"layer1.kernel": "9", "layer1.shortening": "pool", "layer1.channels": "8", "pooling": "rms"}')
    '9x8 pool, rms'
    >>> described('{"layer2.kernel": "skip", "layer3.kernel": "3", "layer3.channels": "8", "pooling": "rms"}')
    '3x8, rms'
    """
    layers: dict[str, dict[str, str]] = defaultdict(dict)
    selection = json.loads(architecture)
    pooling = selection.pop("pooling")
    for decision, label in selection.items():
        layer, what = decision.split(".")
        layers[layer][what] = label
    shown = [layer for layer in layers.values() if layer["kernel"] != "skip"]
    names = [
        layer["kernel"]
        + "".join(mark + layer[what] for mark, what in (("x", "channels"), (" ", "shortening")) if what in layer)
        for layer in shown
    ]
    return ", ".join([*names, pooling])


def table(head: list[str], lines: list[list[str]]) -> str:
    """A table in Markdown."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])


def draw_accuracy(runs: list[Row], path: Path) -> None:
    """Accuracy of every run against its measured memory, one panel for each budget."""
    figure, axes = plt.subplots(1, len(BUDGETS), figsize=(12, 4), sharey=True, layout="constrained")
    for ax, budget in zip(axes, BUDGETS, strict=True):
        for number, method in enumerate(methods()):
            found = of(runs, budget, method)
            style = (
                {"marker": "*", "s": 120, "zorder": 3} if method == "ours" else {"marker": "o", "s": 28, "alpha": 0.7}
            )
            ax.scatter(
                column(found, "memory_kb"), 100 * column(found, "accuracy"), color=f"C{number}", label=method, **style
            )
        ax.axvline(budget.memory, color="black", linestyle="--", linewidth=1)
        ax.set(title=f"file ≤ {budget.size:g} kB, memory ≤ {budget.memory:g} kB", xlabel="memory of the file (kB)")
    axes[0].set_ylabel("accuracy of the int8 file (%)")
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_confusion(runs: list[Row], path: Path) -> None:
    """Confusion of the networks found, summed over seeds, one panel for each budget."""
    figure, axes = plt.subplots(1, len(BUDGETS), figsize=(13, 4.6), sharey=True, layout="constrained")
    for ax, budget in zip(axes, BUDGETS, strict=True):
        found = of(runs, budget, "ours")
        total = sum((confusion(row) for row in found), np.zeros((len(CLASSES),) * 2, dtype=int))
        share = 100 * total / np.maximum(1, total.sum(1, keepdims=True))
        ax.imshow(share, cmap="Blues", vmin=0, vmax=100)
        for (i, j), value in np.ndenumerate(share):
            if value >= 0.5:
                ax.text(
                    j, i, f"{value:.0f}", ha="center", va="center", fontsize=7, color="white" if value > 50 else "black"
                )
        ax.set_xticks(range(len(CLASSES)), CLASSES, rotation=90)
        ax.set_yticks(range(len(CLASSES)), CLASSES)
        ax.set(title=f"{budget} kB, {len(found)} seeds (%)", xlabel="predicted")
    axes[0].set_ylabel("true")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def confusion(row: Row) -> NDArray[np.int64]:
    """Windows by true and predicted class."""
    return np.array([line.split() for line in row["confusion"].split(";")], dtype=int)
