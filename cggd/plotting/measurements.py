"""The best selection against the number of measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cggd.plotting.axes import BAD, GOOD, axes_for, draw_legend, quantity_text, write_note
from cggd.problem import Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_measurements(problem: Problem, *, ax: Axes | None = None) -> Axes:
    """Draw the objective of each measurement, and the best one so far that satisfies every constraint.

    Parameters
    ----------
    problem : Problem
        Its objective is a costly metric, whose memory holds the measurements in their order.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> from cggd import ChoiceSpace, Measurement, minimize
    >>> space = ChoiceSpace({"block": [32, 64], "tile": [1, 2]})
    >>> bench = Measurement(space, lambda s: {"time": 64 / s["block"] + s["tile"]}, {"time": "ms"})
    >>> _ = minimize(bench["time"])
    >>> plot_measurements(Problem(bench["time"])).get_xlabel()
    'measurements'
    """
    ax = axes_for(ax, (6.4, 3.6), hidden=("top", "right"))
    objective, rows = problem.objective, problem.objective.remembered()
    ax.set_xlabel("measurements")
    ax.set_ylabel(f"{quantity_text(objective.name, objective.unit)}, {problem.sense}d")
    if not len(rows):
        ax.set(xticks=[], yticks=[])
        return write_note(ax, "nothing was measured")
    values, _ = objective.between(rows)
    held = ~problem.ruled_out(rows) & np.isfinite(values)
    numbers = np.arange(1, len(rows) + 1)
    missed, invalid = ~held & np.isfinite(values), ~np.isfinite(values)
    if missed.any():
        ax.plot(numbers[missed], values[missed], ".", color=BAD, alpha=0.5, label="violates a bound")
    if held.any():
        ax.plot(numbers[held], values[held], ".", color=GOOD, alpha=0.5, label="feasible")
        costs = np.where(held, problem.sign * values, np.inf)
        best = problem.sign * np.minimum.accumulate(costs)
        first = int(np.argmax(held))
        ax.step(numbers[first:], best[first:], where="post", color=GOOD, label="best so far")
    if invalid.any():
        bottom = np.zeros(int(invalid.sum()))
        ax.plot(
            numbers[invalid], bottom, "|", color=BAD, transform=ax.get_xaxis_transform(), clip_on=False, label="invalid"
        )
    draw_legend(ax, *ax.get_legend_handles_labels())
    return ax
