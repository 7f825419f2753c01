"""Pictures of the course of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cggd.plotting.axes import BAD, GOOD, NEUTRAL, axes_for, draw_legend, evenly_spaced, quantity_text, write_note
from cggd.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# More marks than this lie on top of each other in a figure of a column's width.
MOST_STARTS = 60


def plot_search(result: Result, *, ax: Axes | None = None) -> Axes:
    """Draw the objective and the violation along a search.

    Dots are steps whose selection satisfies every constraint; the line is the best so far. A second axis below has the
    violation of the other steps: the largest over the constraints, as a share of the bound (or of 1 if it is 0). Thin
    vertical lines separate up to 60 starts. Of a long search, 2000 evenly spaced steps are drawn.

    Parameters
    ----------
    result : Result
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        The axis of the objective. The axis of the violation, if any, is the last one of the figure.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace, minimize
    >>> space = ChoiceSpace.from_sizes([2, 2])
    >>> error = Additive(space, [9.0, 4.0, 7.0, 1.0], name="error", unit="%")
    >>> plot_search(minimize(error, Additive(space, [1, 3, 1, 4]) <= 5)).get_ylabel()
    'error [%], minimized'
    """
    ax = axes_for(ax, (6.4, 3.6), hidden=("top", "right"))
    from matplotlib.ticker import MaxNLocator

    history, steps = result.history, np.arange(1, len(result.history) + 1)
    starts = np.flatnonzero(np.diff(history.start)) + 1  # steps after which another start begins
    ax.set_xlabel("step, over all starts" if starts.size else "step")
    ax.set_ylabel(f"{quantity_text(result.objective, result.unit)}, {result.sense}d")
    if not len(steps):
        ax.set(xticks=[], yticks=[])
        return write_note(ax, "no step was recorded")
    ax.set_xlim(1 - max(0.5, 0.01 * len(steps)), len(steps) + max(0.5, 0.01 * len(steps)))
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))

    violation = _relative_violation(result)
    feasible, missed = np.flatnonzero(history.feasible), violation.max(initial=0.0) > 0
    if feasible.size:
        dots = feasible[evenly_spaced(feasible.size)]
        size = 3.5 if len(steps) > 100 else 7
        ax.plot(steps[dots], history.value[dots], ".", color="#56B4E9", ms=size, mew=0, label="feasible step")
        known = np.flatnonzero(~np.isnan(history.best))
        # Only the corners of the staircase are drawn.
        corners = known[np.diff(history.best[known], prepend=np.nan, append=np.nan)[:-1] != 0]
        corners = np.append(corners, known[-1])
        ax.step(steps[corners], history.best[corners], where="post", color=GOOD, lw=1.6, label="best so far")
        _upper_band(ax, history.value[dots], history.best[corners], share=0.66 if missed else 1.0)
    else:
        ax.set_yticks([])
        ax.set_ylabel("")
        write_note(ax, "no step satisfied every constraint", y=0.92)
    if starts.size <= MOST_STARTS:
        place = {"transform": ax.get_xaxis_transform(), "zorder": 0}
        ax.vlines(starts + 0.5, 0, 1, color=NEUTRAL, lw=0.6, label="_starts", **place)
    handles, labels = ax.get_legend_handles_labels()
    if missed:
        below = _violation_axis(ax, steps, violation, share=0.28 if feasible.size else 0.85)
        below.set_ylabel(_violation_label(result), y=0.14 if feasible.size else 0.5)
        if feasible.size:
            ax.yaxis.label.set_y(0.66)
        more = below.get_legend_handles_labels()
        handles, labels = handles + more[0], labels + more[1]
    draw_legend(ax, handles, labels)
    return ax


def _relative_violation(result: Result) -> NDArray[np.float64]:
    """Largest violation of each step, as a share of the bounds."""
    # Without rows, which are missing if their evaluation failed, violations stay in the units of the metrics.
    sizes = [abs(row.bound) if row.bound != 0 and np.isfinite(row.bound) else 1.0 for row in result.constraints]
    return (result.history.violation / (sizes or 1.0)).max(axis=1, initial=0.0)


def _violation_label(result: Result) -> str:
    relative = bool(result.constraints) and all(row.bound != 0 for row in result.constraints)
    return "violation / |bound|" if relative else "violation"


def _upper_band(ax: Axes, *drawn: NDArray[np.float64], share: float) -> None:
    """Keep the drawn values in the upper share of the axis."""
    values = np.concatenate(drawn)
    low, high = float(values.min()), float(values.max())
    pad = 0.05 * ((high - low) or max(abs(low), 1.0))
    low, high = low - pad, high + pad
    ax.set_ylim(low, high)
    ticks = [tick for tick in ax.get_yticks() if low <= tick <= high]
    ax.set_ylim(high - (high - low) / share, high)
    ax.set_yticks(ticks)


def _violation_axis(ax: Axes, steps: NDArray, violation: NDArray[np.float64], *, share: float) -> Axes:
    """Add a logarithmic axis with the violation in its lower share; returns it."""
    cuts = evenly_spaced(len(steps))
    largest = np.maximum.reduceat(violation, cuts)
    missed = largest > 0
    from matplotlib.ticker import FixedLocator, NullLocator

    below = ax.twinx()
    below.spines[["top", "left"]].set_visible(False)
    below.set_yscale("log")
    low, high = np.floor(np.log10(largest[missed].min())), np.ceil(np.log10(largest.max()))
    high = max(high, low + 1)
    below.set_ylim(10.0**low, 10.0 ** (low + (high - low) / share))
    decades = np.arange(low, high + 1)
    below.yaxis.set_major_locator(FixedLocator(10.0 ** decades[:: int(np.ceil(len(decades) / 4))]))
    below.yaxis.set_minor_locator(NullLocator())
    words, size = "violation of the other steps", 2.5 if len(steps) > 100 else 6
    below.plot(steps[cuts[missed]], largest[missed], ".", color=BAD, ms=size, mew=0, label=words)
    return below
