"""Pictures of the use of budgets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from cggd.constraints import Row
from cggd.plotting.axes import BAD, GOOD, INK, axes_for, bound_text, number_text, write_note
from cggd.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# More bars than this cannot be distinguished in a figure of a column's width.
MOST_ROWS = 40

# Bars longer than this, in percent of the bound, are cut, so that one bad miss does not flatten the others.
LONGEST_BAR = 200.0


def plot_budgets(result: Result | Iterable[Row], *, ax: Axes | None = None) -> Axes:
    """Draw how much of each budget is used: a bar for each constraint, and a line at 100%.

    The share is ``100% + (value - bound) / |bound|``, which is ``value / bound`` for positive bounds; values above the
    bound are to the right of the line. The triangle on the line points to the allowed side. The bar of a bound of 0 is
    hatched and ends at 0% for values below the bound, at 100% on it and at 200% above. An infinite bound has no bar.
    Bars beyond 200% or below -100% are cut and end in an arrow; the numbers beside the bars are exact. Of more than 40
    constraints, the 40 tightest are drawn.

    Parameters
    ----------
    result : Result, or rows as `Constraint.report` returns them
        If a result has no feasible selection, the nearest one is drawn, with a title.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> latency = Additive(ChoiceSpace.from_sizes([2, 2]), [1, 2, 3, 4], name="latency", unit="ms")
    >>> ax = plot_budgets([(latency <= 8).report([1, 1])])
    >>> ax.get_yticklabels()[0].get_text(), float(ax.patches[0].get_width())
    ('latency ≤ 8 ms', 75.0)
    """
    rows = list(result.constraints if isinstance(result, Result) else result)
    shown = rows if len(rows) <= MOST_ROWS else sorted(rows, key=_tightness)[:MOST_ROWS]
    ax = axes_for(ax, (6.4, 1.1 + 0.3 * max(1, len(shown))), hidden=("top", "right", "left"))
    ax.set_xlabel("value as a share of the bound")
    if not rows:
        ax.set(xticks=[], yticks=[])
        return write_note(ax, "no constraint")
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    shares = np.array([_share(row) for row in shown])
    ends = np.clip(np.nan_to_num(shares), 100.0 - LONGEST_BAR, LONGEST_BAR)
    beside = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": "small"}
    for y, (row, share, end) in enumerate(zip(shown, shares.tolist(), ends.tolist(), strict=True)):
        color, hatch = GOOD if row.satisfied else BAD, "////" if row.bound == 0 else None
        ax.barh(y, end, height=0.62, color=color, hatch=hatch, edgecolor="white", lw=0)
        if share != end and np.isfinite(share):  # the bar is cut
            ax.plot(end, y, ">" if end > 0 else "<", color=color, ms=9, mew=0, clip_on=False)
        if np.isfinite(row.bound):
            # Matplotlib's numbers of carets that point to the left and to the right.
            ax.plot([100], [y], marker=8 if row.sense == "<=" else 9, color=INK, ms=6, mec="white", mew=0.6, zorder=4)
        # The numbers have their own column, without bars.
        words = number_text(row.value, row.unit) + ("" if row.satisfied else ", violated")
        ax.text(1.01, y, words, color=INK if row.satisfied else BAD, **beside)
    limits = 1.15 * min(0.0, ends.min()), 1.08 * max(105.0, ends.max())
    ax.axvline(100, color=INK, lw=1.0, zorder=3)
    ax.set(xlim=limits, ylim=(len(shown) - 0.4, -0.6))
    ax.set_yticks(range(len(shown)), [bound_text(row.name, row.sense, row.bound, row.unit) for row in shown])
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    ax.xaxis.set_major_formatter(PercentFormatter(decimals=0))
    titles = [] if len(shown) == len(rows) else [f"the {len(shown)} tightest of {len(rows)} constraints"]
    if isinstance(result, Result) and not result.feasible:
        titles.append("nearest selection, not feasible")
    ax.set_title("; ".join(titles), fontsize="medium")
    return ax


def _share(row: Row) -> float:
    """Percent, as in `plot_budgets`; NaN if the bound is infinite."""
    if np.isinf(row.bound):
        return np.nan
    if row.bound == 0:
        return 100.0 + 100.0 * float(np.sign(row.value))
    return 100.0 + 100.0 * (row.value - row.bound) / abs(row.bound)


def _tightness(row: Row) -> float:
    """Slack as a share of the bound; the least is the tightest."""
    return row.slack / (abs(row.bound) or 1.0) if np.isfinite(row.bound) else np.inf
