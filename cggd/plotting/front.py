"""Trade-off curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cggd.plotting.axes import BAD, GOOD, INK, axes_for, draw_legend, quantity_text, write_note
from cggd.result import Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_front(front: Any, *, ax: Axes | None = None) -> Axes:
    """Draw a trade-off curve: the best objective within each bound on the metric.

    Each point is a selection; it is filled if the selection is proved to be optimal. The staircase is the best
    objective found within a bound, and the dashed one the proved bound on it. Crosses at the bottom mark bounds without
    a selection.

    Parameters
    ----------
    front : cggd.Front
        Result of `cggd.sweep`.
    ax : matplotlib Axes, optional
        Such as those of `plot_tradeoff` with the same objective and metric, to see the curve among all selections.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace, sweep
    >>> space = ChoiceSpace.from_sizes([2, 2])
    >>> error = Additive(space, [9.0, 4.0, 7.0, 1.0], name="error", unit="%")
    >>> latency = Additive(space, [1.0, 3.0, 1.0, 4.0], name="latency", unit="ms")
    >>> ax = plot_front(sweep(error, [], latency, [2, 4, 5]))
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('latency [ms]', 'error [%], minimized')
    """
    ax = axes_for(ax, (6.4, 4.2), hidden=("top", "right"))
    ax.set_xlabel(quantity_text(front.metric, front.metric_unit))
    ax.set_ylabel(f"{quantity_text(front.objective, front.unit)}, {front.sense}d")
    bounds, x, y, proved = front.bounds, front.metric_values, front.values, front.proved
    finite, found = np.isfinite(bounds), np.isfinite(y)
    if found.any():
        # The last step extends to the loosest bound, unless that is infinite.
        last = np.flatnonzero(found & finite)[-1:] if finite[found][-1] else []
        stairs = np.append(x[found], bounds[last]), np.append(y[found], y[last])
        ax.step(*stairs, where="post", color=GOOD, lw=1.6, label="best within the bound", zorder=4)
        optimal = np.array([status is Status.OPTIMAL for status in front.status])
        for mask, face, words in ((found & ~optimal, "white", "feasible"), (optimal, GOOD, "optimal (proved)")):
            if mask.any():
                ax.plot(x[mask], y[mask], "o", ms=5.5, mfc=face, mec=GOOD, mew=1.2, label=words, zorder=5)
    if (known := finite & np.isfinite(proved)).any():
        stairs = bounds[known], proved[known]
        ax.step(*stairs, where="pre", color=INK, lw=1.0, ls="--", label="nothing is better (proved)", zorder=3)
    if (missing := finite & ~found).any():
        place: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "clip_on": False, "zorder": 5}
        ax.plot(bounds[missing], np.zeros(missing.sum()), "X", color=BAD, ms=7, label="nothing found", **place)
    if not found.any():
        ax.set_yticks([])
        write_note(ax, "no bound has a feasible selection")
    draw_legend(ax, *ax.get_legend_handles_labels())
    return ax
