"""Tables and plots of the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.markdown import insert
from benchmarks.nas_cifar10.methods import ABLATIONS, BASELINES, METHODS
from benchmarks.nas_cifar10.recipe import FULL
from benchmarks.nas_cifar10.settings import Selection, Setting, all_settings
from benchmarks.penalties.settings import FINE, every
from benchmarks.report import table

Row = dict[str, str]

MARK, ENDS_MARK = "nas_cifar10", "nas_ends"

# The paper's regrets on CIFAR-10, in points of accuracy below the best feasible network (CONNAS, ICLR 2026).
PAPER = {"latency": 1.08, "energy": 1.08, "both": 1.08, "memory": 0.14, "params": 1.0}

# Settings of cggd's variations: a loose bound, and a bound that is hard to satisfy.
VARIED = ("latency", "latency10")

# Lowest accuracy in the plot of all networks, in %.
LOWEST = 84

COLUMNS = (
    "setting",
    "method",
    "runs",
    "satisfied",
    "test accuracy",
    "regret",
    "of networks",
    "by shared weights",
    "end: satisfied",
    "end: accuracy",
    "end: regret",
    "first feasible epoch",
    "feasible epochs",
    "feasible steps",
    "CPU seconds",
    "direction",
)


def page(runs: Sequence[Row]) -> str:
    """The tables, as Markdown."""
    settings = all_settings()
    published = [row for row in runs if _weight(row) == _published(row["method"])]
    main = [row for row in published if row["method"] not in ABLATIONS]
    parts = [
        "Regret of cggd, in points, as the paper reports it and as measured here (mean of all satisfied runs):",
        table(("setting", "paper", "here", "satisfied", "CPU minutes a run"), _beside_paper(main)),
        "Satisfied runs out of all; accuracy in % after the table's full training, regret in points below the best "
        'cell that satisfies the bounds, both as means over satisfied runs (with the standard deviation). "Of '
        'networks" is the regret where each accuracy is the mean over all cells that compute the same. "By shared '
        'weights" is the regret had nothing been trained alone, "end" the largest logits and nothing else, as the '
        "methods' papers answer; cggd's are those of `TorchGuide.settle`, which leads back to the last selection "
        "within the bounds where the last step left them. Epochs count from the end of the warm-up.",
        table(COLUMNS, [_line(group) for group in _grouped(main, "setting", "method")]),
        "Processors: " + ", ".join(f"{name} ({n} runs)" for name, n in Counter(r["processor"] for r in runs).items()),
        "Networks nobody trained, for comparison, by the mean regret of the cells that are the same network; the "
        "largest are those with the most parameters in use, in the size space with the largest geometric mean of their "
        "widths:",
        _untrained([settings[name] for name in dict.fromkeys(row["setting"] for row in main)]),
    ]
    varied = [r for r in published if r["setting"] in VARIED and (r["method"] in ABLATIONS or r["method"] == "cggd")]
    if len({row["method"] for row in varied}) > 1:
        lines = [_line(group) for group in _grouped(varied, "setting", "method")]
        parts += ["Variations of cggd:", table(COLUMNS, lines)]
    scanned = {row["method"] for row in runs if _weight(row) != _published(row["method"])}
    if scanned:
        scan = [row for row in runs if row["method"] in scanned and row["setting"] == "latency" and row["seed"] == "0"]
        lines = [
            [row["method"], row["weight"], *_line([row])[3:]]
            for row in sorted(scan, key=lambda r: (r["method"], float(r["weight"])))
        ]
        parts += ["Weights of penalties, seed 0:", table(("method", "weight", *COLUMNS[3:]), lines)]
    return "\n\n".join(parts)


def ends_page(rows: Sequence[Row]) -> str:
    """The table of searches that are compared only by their ends, as Markdown."""
    heads = ("setting", "method", "runs", "end: satisfied", "end: accuracy", "end: regret", "best met: regret")
    lines = []
    for group in _grouped(rows, "setting", "method"):
        held = [row for row in group if row["satisfied"] == "True"]
        met = [row for row in group if row["best_regret"] != "nan"]
        name = group[0]["method"] if group[0]["weight"] == "nan" else f"{group[0]['method']} {group[0]['weight']}"
        lines.append(
            [
                group[0]["setting"],
                name,
                str(len(group)),
                f"{len(held)}/{len(group)}",
                _mean(held, "accuracy", spread=True),
                _mean(held, "regret"),
                f"{_mean(met, 'best_regret')} ({len(met)}/{len(group)})",
                _mean(group, "feasible_steps", ".0%"),
                _mean(group, "cpu_seconds", ".0f"),
            ]
        )
    return table((*heads, "feasible steps", "CPU seconds"), lines)


def write(runs: Sequence[Row], trajectory: Sequence[Row], document: Path) -> None:
    """Write the tables between the marks of a document, and the plots into its folder."""
    import matplotlib as mpl

    mpl.use("Agg")
    text = page(runs)
    for name, title, draw in (
        ("trajectory", "Latency of the largest logits over the epochs, seed 0", lambda ax: _trajectory(trajectory, ax)),
        ("answers", "Answers, and all networks of the space", lambda ax: _answers(runs, ax)),
    ):
        _save(draw, document.with_name(f"nas_cifar10_{name}.png"))
        text += f"\n\n![{title}](nas_cifar10_{name}.png)"
    insert(text, document, MARK)


def _line(rows: Sequence[Row]) -> list[str]:
    held = [row for row in rows if row["satisfied"] == "True"]
    ended = [row for row in rows if row["end_satisfied"] == "True"]
    searched = [
        f"{len(ended)}/{len(rows)}",
        _mean(ended, "end_accuracy", spread=True),
        _mean(ended, "end_regret"),
        _mean(rows, "first_feasible_epoch", ".1f"),
        _mean(rows, "feasible_epochs", ".0%"),
        _mean(rows, "feasible_steps", ".0%"),
    ]
    return [
        rows[0]["setting"],
        rows[0]["method"],
        str(len(rows)),
        f"{len(held)}/{len(rows)}",
        _mean(held, "accuracy", spread=True),
        _mean(held, "regret"),
        f"{np.mean([_network_regret(row) for row in held]):.2f}" if held else "-",
        _mean(held, "shared_regret"),
        *("" if METHODS[rows[0]["method"]].random else cell for cell in searched),
        _mean(rows, "cpu_seconds", ".0f"),
        _mean(rows, "direction_share", ".1%"),
    ]


def _network_regret(row: Row) -> float:
    return all_settings()[row["setting"]].network_regret(_selection(row, "architecture"))


def _selection(row: Row, name: str) -> Selection:
    return tuple(int(i) for i in row[name].split("-"))


def _beside_paper(rows: Sequence[Row]) -> list[list[str]]:
    lines = []
    for name, regret in PAPER.items():
        mine = [row for row in rows if (row["setting"], row["method"]) == (name, "cggd")]
        held = [row for row in mine if row["satisfied"] == "True"]
        minutes = f"{np.mean([float(row['cpu_seconds']) for row in mine]) / 60:.0f}" if mine else "-"
        lines.append([name, f"{regret:.2f}", _mean(held, "regret"), f"{len(held)}/{len(mine)}", minutes])
    return lines


def _untrained(settings: Sequence[Setting]) -> str:
    lines = []
    for setting in settings:
        regrets = {n: setting.best - mean for n, mean in setting.by_network(setting.feasible()).items()}
        most = max(map(setting.family.capacity, regrets))
        largest = [regret for network, regret in regrets.items() if setting.family.capacity(network) == most]
        count = f" ({len(largest)} networks)" if len(largest) > 1 else ""
        line = [setting.name, str(len(regrets)), f"{np.mean(list(regrets.values())):.2f}"]
        line += [f"{np.mean(largest):.2f}{count}", f"{setting.best - setting.best_network:.2f}"]
        lines.append(line)
    head = ("setting", "networks that satisfy the bounds", "their mean regret", "that of the largest", "of the best")
    return table(head, lines)


def _trajectory(trajectory: Sequence[Row], ax) -> None:
    rows = [r for r in trajectory if (r["setting"], r["seed"]) == ("latency", "0") and r["method"] not in ABLATIONS]
    bound = None
    for place, method in enumerate(("cggd", *BASELINES)):
        mine = [r for r in rows if r["method"] == method and _weight(r) == _published(method) and method != "random"]
        if not mine:
            continue
        values = [dict(part.split("=") for part in r["values"].split(";")) for r in mine]
        bound = float(values[0]["latency_bound"]) / FINE
        ax.plot(
            [int(r["epoch"]) + FULL.warmup + 1 for r in mine],
            [float(v["latency"]) / FINE for v in values],
            color=f"C{place}",
            marker="o",
            linewidth=2.5 if method == "cggd" else 1.2,
            label=method,
        )
    if bound is not None:
        ax.axhline(bound, color="black", linestyle="--", label="bound")
        ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_xlabel("epoch")
    ax.set_ylabel("latency of the largest logits (ms)")


def _answers(runs: Sequence[Row], ax) -> None:
    setting = all_settings()["latency"]
    (bounded,) = setting.table.constraints
    latency, accuracy = every(bounded.metric), every(setting.table.judge)
    ax.scatter(latency, accuracy, s=2, color="lightgrey", rasterized=True)
    ax.axvspan(0, bounded.bound, color="tab:green", alpha=0.08, label="satisfies the bound")

    def places(rows: Sequence[Row], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Latencies and accuracies of networks in the range of the plot."""
        numbers = [setting.number(_selection(row, name)) for row in rows]
        return latency[numbers], np.maximum(accuracy[numbers], LOWEST)

    for place, method in enumerate(("cggd", *BASELINES)):
        mine = [
            r for r in runs if (r["setting"], r["method"]) == ("latency", method) and _weight(r) == _published(method)
        ]
        colour = f"C{place}"
        if method in ("cggd", "random") and mine:
            ax.scatter(*places(mine, "architecture"), s=40, color=colour, label=f"{method}: answer", zorder=3)
        if method != "random" and mine:
            ax.scatter(*places(mine, "end_architecture"), s=28, color=colour, marker="x", label=f"{method}: at the end")
    ax.set_xlim(0, latency.max())
    ax.set_ylim(LOWEST, 95)
    ax.set_xlabel("latency (ms)")
    ax.set_ylabel(f"test accuracy after 200 epochs (%; lower ones at {LOWEST})")
    ax.legend(fontsize=8)


def _save(draw: Callable, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
    draw(ax)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _published(method: str) -> str:
    weight = METHODS[method].weight
    return "nan" if weight is None else f"{weight:g}"


def _weight(row: Row) -> str:
    return row["weight"]


def _grouped(rows: Sequence[Row], *names: str) -> list[list[Row]]:
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    places = [*all_settings()], [*METHODS]
    return sorted(groups.values(), key=lambda g: (places[0].index(g[0]["setting"]), places[1].index(g[0]["method"])))


def _mean(rows: Sequence[Row], name: str, form: str = ".2f", *, spread: bool = False) -> str:
    numbers = [float(row[name]) for row in rows if row[name] != "nan"]
    if not numbers:
        return "-"
    text = f"{np.mean(numbers):{form}}"
    return f"{text} ± {np.std(numbers, ddof=1):{form}}" if spread and len(numbers) > 1 else text
