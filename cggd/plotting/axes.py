"""Colours, texts and axes of all pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from cggd import rounding
from cggd.printable import on_one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours that the colour-blind tell apart: Okabe & Ito, "Color Universal Design", 2008, black and yellow left out.
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
GOOD, BAD, NEUTRAL, INK = "#0072B2", "#D55E00", "#B8B8B8", "#333333"

# Largest number of marks that can be distinguished in a figure of a column's width.
MOST_POINTS = 2000

MINUS = "\N{MINUS SIGN}"


def load_pyplot() -> Any:
    """matplotlib.pyplot, or an error that says what to install."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install cggd[plot]") from error
    return pyplot


def axes_for(ax: Axes | None, size: tuple[float, float], *, hidden: Sequence[str] = ()) -> Axes:
    """The axes given, or those of a new figure, without the hidden spines."""
    axes: Axes = load_pyplot().subplots(figsize=size, layout="constrained")[1] if ax is None else ax
    for side in hidden:
        axes.spines[side].set_visible(False)
    return axes


def write_note(ax: Axes, text: str, *, y: float = 0.5) -> Axes:
    """A note in the middle of the axes."""
    ax.text(0.5, y, text, transform=ax.transAxes, ha="center", va="center", color=INK, backgroundcolor="white")
    return ax


def draw_legend(ax: Axes, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Above the axes, where it covers nothing."""
    if not handles:
        return
    columns = 2 if sum(map(len, labels)) > 60 else len(labels)
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": columns, "borderaxespad": 0.2}
    legend = ax.legend(handles, labels, frameon=False, fontsize="small", columnspacing=1.2, handletextpad=0.4, **place)
    for handle in cast(list[Any], legend.legend_handles):
        # Marks as small as the points drawn show no colour.
        if hasattr(handle, "set_sizes"):
            handle.set(sizes=[24], alpha=1)
        elif hasattr(handle, "get_marker") and handle.get_marker() == ".":
            handle.set_markersize(8)


def label_words(label: Any, most: int = 24) -> str:
    """A label as text on one line; long labels are cut, and dollar signs start no formula."""
    text = on_one_line(label)
    return (text if len(text) <= most else text[: most - 1] + "…").replace("$", r"\$")


def number_text(value: float, unit: str) -> str:
    """A number with its unit."""
    return rounding.number_text(value).replace("-", MINUS) + (f" {label_words(unit)}" if unit else "")


def quantity_text(name: str, unit: str) -> str:
    """A name with its unit, for an axis."""
    return label_words(name, 60) + (f" [{label_words(unit)}]" if unit else "")


def bound_text(name: str, sense: str, bound: float, unit: str) -> str:
    """A bound in words."""
    if np.isinf(bound):
        return f"{label_words(name, 40)}, no limit"
    return f"{label_words(name, 40)} {'≤' if sense == '<=' else '≥'} {number_text(bound, unit)}"


def evenly_spaced(n: int) -> NDArray[np.int64]:
    """Up to `MOST_POINTS` positions of n, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, MOST_POINTS)).astype(np.int64))
