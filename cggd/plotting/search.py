"""The course of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cggd.plotting.axes import (
    BAD,
    GOOD,
    NEUTRAL,
    axes_for,
    draw_legend,
    evenly_spaced,
    load_pyplot,
    load_ticker,
    quantity_text,
    write_note,
)
from cggd.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# More marks than this lie on top of each other in a figure of a column's width.
MOST_STARTS = 60


def plot_search(result: Result, *, ax: Axes | None = None) -> Axes:
    """Draw the objective and the violation along a search.

    Dots are steps whose selection satisfied every constraint, and the line is the best so far. Below, on an axis of
    its own, stands by how much the others missed: the largest violation over the constraints, as a share of the
    bound (of 1 where the bound is 0). Thin vertical lines separate up to 60 starts. Of long searches at most 2000
    dots are drawn, evenly taken, and the largest violation of as many stretches.

    Parameters
    ----------
    result : Result
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        The axis of the objective. The axis of the violation, left out where no step violates a constraint, is the
        last one of its figure.

    Raises
    ------
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace, minimize
    >>> space = ChoiceSpace.from_sizes([2, 2])
    >>> error = Additive(space, [9.0, 4.0, 7.0, 1.0], name="error", unit="%")
    >>> plot_search(minimize(error, Additive(space, [1, 3, 1, 4]) <= 5)).get_ylabel()
    'error [%], minimized'
    """
    load_pyplot()
    ax = axes_for(ax, (6.4, 3.6))
    history, steps = result.history, np.arange(1, len(result.history) + 1)
    ax.set_xlabel("step, over all starts" if _starts(result).size else "step")
    ax.set_ylabel(f"{quantity_text(result.objective, result.unit)}, {result.sense}d")
    ax.spines[["top", "right"]].set_visible(False)
    if not len(steps):
        ax.set(xticks=[], yticks=[])
        return write_note(ax, "no step was recorded")
    ax.set_xlim(1 - max(0.5, 0.01 * len(steps)), len(steps) + max(0.5, 0.01 * len(steps)))
    ax.xaxis.set_major_locator(load_ticker().MaxNLocator("auto", integer=True, min_n_ticks=1))

    violation = _relative_violation(result)
    feasible, missed = np.flatnonzero(history.feasible), violation.max(initial=0.0) > 0
    if feasible.size:
        dots = feasible[evenly_spaced(feasible.size)]
        ax.plot(
            steps[dots],
            history.value[dots],
            ".",
            color="#56B4E9",
            ms=3.5 if len(steps) > 100 else 7,
            mew=0,
            label="feasible step",
        )
        known = np.flatnonzero(~np.isnan(history.best))
        # A staircase needs its corners only: where the best changes, and where it ends.
        corners = known[np.diff(history.best[known], prepend=np.nan, append=np.nan)[:-1] != 0]
        corners = np.append(corners, known[-1])
        ax.step(steps[corners], history.best[corners], where="post", color=GOOD, lw=1.6, label="best so far")
        _upper_band(ax, history.value[dots], history.best[corners], share=0.66 if missed else 1.0)
    else:
        ax.set_yticks([])
        ax.set_ylabel("")
        write_note(ax, "no step satisfied every constraint", y=0.92)
    starts = _starts(result)
    if starts.size <= MOST_STARTS:
        ax.vlines(
            starts + 0.5, 0, 1, transform=ax.get_xaxis_transform(), color=NEUTRAL, lw=0.6, zorder=0, label="_starts"
        )
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


def _starts(result: Result) -> NDArray[np.int64]:
    """Numbers of the steps after which another start begins."""
    return np.flatnonzero(np.diff(result.history.start)) + 1


def _relative_violation(result: Result) -> NDArray[np.float64]:
    violation, rows = result.history.violation, result.constraints
    # Rows are missing where evaluating them failed; violations then stay in the units of the metrics.
    sizes = [abs(row.bound) if row.bound != 0 and np.isfinite(row.bound) else 1.0 for row in rows]
    return (violation / sizes if sizes else violation).max(axis=1, initial=0.0)


def _violation_label(result: Result) -> str:
    relative = bool(result.constraints) and all(row.bound != 0 for row in result.constraints)
    return "violation / |bound|" if relative else "violation"


def _upper_band(ax: Axes, *drawn: NDArray[np.float64], share: float) -> None:
    """Keep the drawn values in the upper share of the axis."""
    values = np.concatenate(drawn)
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - 0.05 * max(abs(low), 1.0), high + 0.05 * max(abs(high), 1.0)
    span = high - low
    ax.set_ylim(low - 0.05 * span, high + 0.05 * span)
    ticks = [tick for tick in ax.get_yticks() if low - 0.05 * span <= tick <= high + 0.05 * span]
    ax.set_ylim(high + 0.05 * span - 1.1 * span / share, high + 0.05 * span)
    ax.set_yticks(ticks)


def _violation_axis(ax: Axes, steps: NDArray, violation: NDArray[np.float64], *, share: float) -> Axes:
    """Add a logarithmic axis with the violation in its lower share; returns it."""
    cuts = evenly_spaced(len(steps))
    largest = np.maximum.reduceat(violation, cuts)
    missed = largest > 0
    below = ax.twinx()
    below.spines[["top", "left"]].set_visible(False)
    below.set_yscale("log")
    low, high = np.floor(np.log10(largest[missed].min())), np.ceil(np.log10(largest.max()))
    high = max(high, low + 1)
    below.set_ylim(10.0**low, 10.0 ** (low + (high - low) / share))
    decades = np.arange(low, high + 1)
    below.yaxis.set_major_locator(load_ticker().FixedLocator(10.0 ** decades[:: int(np.ceil(len(decades) / 4))]))
    below.yaxis.set_minor_locator(load_ticker().NullLocator())
    below.plot(
        steps[cuts[missed]],
        largest[missed],
        ".",
        color=BAD,
        ms=2.5 if len(steps) > 100 else 6,
        mew=0,
        label="violation of the other steps",
    )
    return below
