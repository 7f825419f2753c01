"""Pictures of the held-out score against the budget, for each data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks.features.methods import CLINICAL, DESIGN

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS = "cggd"
# Each method has its own colour; cggd is black, its other form dashed, and the random baseline dotted.
COLOURS = {
    "exhaustive": "#B8B8B8",
    "greedy, gain": "#0072B2",
    "greedy, gain per cost": "#E69F00",
    "SFS": "#009E73",
    "mRMR": "#CC79A7",
    "lasso path": "#D55E00",
    "genetic": "#56B4E9",
    "abess": "#8C6D31",
}
TITLES = {
    "own prices": "2,000 columns, each with a price of its own",
    "shared prices": "2,000 columns of 200 devices that share a price",
    "heart_cleveland": "Is there heart disease? (Cleveland, 303 patients)",
    "pima": "Is it diabetes? (Pima, 768)",
}


def draw(lines: pd.DataFrame, folder: Path) -> list[Path]:
    """One picture for the design and one for the clinical tables, where there are results."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    paths = []
    for part, name in ((DESIGN, "features_design.png"), (CLINICAL, "features_clinical.png")):
        here = lines[lines["part"] == part]
        kinds = list(here["data"].unique())
        if not kinds:
            continue
        figure, axes = plt.subplots(1, len(kinds), figsize=(5.6 * len(kinds), 4.4), layout="constrained", squeeze=False)
        for ax, data in zip(axes[0], kinds, strict=True):
            _panel(ax, here[here["data"] == data])
            clinical = part == CLINICAL
            ax.set_title(TITLES.get(data, data), fontsize="medium")
            ax.set_xlabel("budget for tests of one patient [CAD]" if clinical else "budget")
            ax.set_ylabel("AUC on patients left out (chance: 0.5)" if clinical else "R² on new samples")
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
        paths.append(folder / name)
        figure.savefig(paths[-1], dpi=110)
        plt.close(figure)
    return paths


def _panel(ax: Axes, lines: pd.DataFrame) -> None:
    """One line per method, means over runs, budgets at equal distances."""
    budgets = sorted(lines["budget"].unique())
    for method, group in lines.groupby("method", observed=True):
        group = group.set_index("budget").reindex(budgets)
        style: dict[str, Any] = {"color": COLOURS.get(str(method), "#B8B8B8"), "lw": 1.3, "marker": ".", "zorder": 3}
        if method == OURS:
            style |= {"color": "black", "lw": 2.6, "marker": "o", "zorder": 5}
        elif str(method).startswith(OURS):
            style |= {"color": "black", "ls": "--", "lw": 1.8, "zorder": 4}
        elif method == "random":
            style |= {"ls": ":"}
        ax.plot(range(len(budgets)), group["test"], label=str(method), **style)
    ax.set_xticks(range(len(budgets)), [f"{budget:.4g}" for budget in budgets])
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#EEEEEE")
