"""Pictures of a fitted `BudgetedSelector`: what each budget buys, and what the selected features cost."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from cggd.plotting.axes import (
    GOOD,
    INK,
    MINUS,
    NEUTRAL,
    axes_for,
    draw_legend,
    label_words,
    load_pyplot,
    number_text,
    quantity_text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cggd_features.path import PathPoint
    from cggd_features.selector import BudgetedSelector

# Features named beside a point, and the approximate size of such a note as shares of the axes.
MOST_NAMES, NOTE = 3, (0.36, 0.09)
# More bars do not fit on a page.
MOST_BARS = 30
FAINT = "#777777"


def plot_budget_path(
    selector: BudgetedSelector, *, ax: Axes | None = None, budget: Hashable = None, unit: str = ""
) -> Axes:
    """Draw the best score found within each budget, and which features enter or leave.

    Each point of `path_` is drawn at its cost; the step line is the best score within a budget. The dashed line is the
    user's budget, and the full point is the selection for it. Notes beside the points show what changes from one to the
    next, if there is room: ``+ chol, age`` enter, ``− thal`` leaves.

    Parameters
    ----------
    selector : BudgetedSelector
        Fitted.
    ax : matplotlib Axes, optional
    budget : hashable, optional
        Which of several budgets is the horizontal axis; the first one by default.
    unit : str
        Of the costs, for the axis.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    sklearn.exceptions.NotFittedError
    ValueError
        If the selector has no such budget.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from cggd_features import BudgetedSelector
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> selector = BudgetedSelector(costs=[1.0, 2.0, 4.0], budget=3.5).fit(X, X @ [1.0, 2.0, 4.0])
    >>> ax = plot_budget_path(selector, unit="CAD")
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('cost [CAD]', 'score')
    """
    check_is_fitted(selector)
    load_pyplot()
    name = _budget_name(selector, budget)
    limit = float(_of(selector.budget, name))
    ax = axes_for(ax, (6.4, 4.2))
    ax.spines[["top", "right"]].set_visible(False)
    ax.set(xlabel=_axis_text(name, unit), ylabel="score")
    points = sorted(selector.path_, key=lambda point: float(_of(point.cost, name)))
    costs = np.array([float(_of(point.cost, name)) for point in points])
    scores = np.array([point.score for point in points])
    best = np.maximum.accumulate(scores) if len(scores) else scores
    right = max(costs.max(initial=0.0), limit if np.isfinite(limit) else 0.0)
    ax.step(np.append(costs, 1.04 * right), np.append(best, best[-1:]), where="post", color=GOOD, lw=1.4, zorder=3)
    ax.plot(costs, scores, "o", ms=4.5, mfc="white", mec=GOOD, mew=1.2, label="best found within a budget", zorder=4)
    chosen = f"selected: {number_text(float(_of(selector.total_cost_, name)), unit)}"
    place = [float(_of(selector.total_cost_, name))], [selector.score_]
    ax.plot(*place, "o", ms=8, color=GOOD, label=chosen, zorder=5)
    if np.isfinite(limit):
        ax.axvline(limit, color=INK, lw=1.0, ls="--", label=f"budget: {number_text(limit, unit)}", zorder=2)
    ax.margins(y=0.1)
    if points:
        ax.autoscale_view()
        columns = list(getattr(selector, "feature_names_in_", range(len(selector.support_))))
        _write_changes(ax, points, costs.tolist(), columns)
    draw_legend(ax, *ax.get_legend_handles_labels())
    return ax


def plot_costs(selector: BudgetedSelector, *, ax: Axes | None = None, budget: Hashable = None, unit: str = "") -> Axes:
    """Draw what each feature adds to the cost, in the order in which features enter as the budget grows.

    Each full bar begins where the one above ends, so the last one ends at the cost of the selection. The first feature
    of a group pays the shared price. Hollow bars show what each other feature would add; if it does not fit, the bar
    ends beyond the dashed line of the budget. With more than 30 features, the selected ones and those that enter first
    are drawn.

    Parameters
    ----------
    selector : BudgetedSelector
        Fitted.
    ax : matplotlib Axes, optional
    budget : hashable, optional
        Which of several budgets to draw the costs of; the first one by default.
    unit : str
        Of the costs, for the axis.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    sklearn.exceptions.NotFittedError
    ValueError
        If the selector has no such budget.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from cggd_features import BudgetedSelector
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> selector = BudgetedSelector(costs=[1.0, 2.0, 4.0], budget=3.5).fit(X, X @ [1.0, 2.0, 4.0])
    >>> ax = plot_costs(selector, unit="CAD")
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['0', '1', '2']
    """
    check_is_fitted(selector)
    load_pyplot()
    name = _budget_name(selector, budget)
    bars = _bars(selector, name)
    shown = sorted(bars, key=lambda bar: not bar.selected)[:MOST_BARS]
    ax = axes_for(ax, (6.4, 1.2 + 0.28 * len(shown)))
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.set_xlabel(_axis_text(name, unit))
    for selected, face, edge, words in ((True, GOOD, GOOD, "selected"), (False, "none", NEUTRAL, "would add")):
        rows = [row for row, bar in enumerate(shown) if bar.selected is selected]
        if rows:
            starts, widths = [shown[row].start for row in rows], [shown[row].added for row in rows]
            ax.barh(rows, widths, left=starts, height=0.62, facecolor=face, edgecolor=edge, label=words)
    for row, bar in enumerate(shown):
        end, words = bar.start + bar.added, f"  {number_text(bar.added, '')}"
        ax.text(end, row, words, va="center", fontsize="small", color=INK if bar.selected else FAINT)
    limit = float(_of(selector.budget, name))
    if np.isfinite(limit):
        ax.axvline(limit, color=INK, lw=1.0, ls="--", label=f"budget: {number_text(limit, unit)}", zorder=0)
    ax.set_yticks(range(len(shown)), [label_words(bar.name) for bar in shown])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.margins(x=0.1)
    if len(shown) < len(bars):
        ax.set_title(f"{len(shown)} of {len(bars)} features", loc="right", fontsize="small")
    draw_legend(ax, *ax.get_legend_handles_labels())
    return ax


@dataclass(frozen=True)
class _Bar:
    """A variable: the start of its bar on the axis of costs, and what it adds to the cost."""

    name: Hashable
    selected: bool
    start: float
    added: float


def _bars(selector: BudgetedSelector, name: Hashable) -> list[_Bar]:
    """Variables in the order of the path points at which they enter, then of their cost alone."""
    variables, alone = selector._arguments_.variables, np.asarray(_of(selector.feature_costs_, name))
    labels = {number: label for label, number in variables.labels.items()}
    order = sorted(range(len(variables)), key=lambda v: _rank(selector.ranking_, alone, variables.columns[v]))
    total, spent, bought, bars = float(_of(selector.total_cost_, name)), 0.0, np.zeros_like(selector.support_), []
    for number in order:
        columns = variables.columns[number]
        selected = bool(selector.support_[columns[0]])
        basket = (bought if selected else selector.support_).copy()
        basket[columns] = True
        cost, start = float(_of(selector.cost_of(basket), name)), spent if selected else total
        bars.append(_Bar(labels.get(number, variables.name(int(columns[0]))), selected, start, cost - start))
        if selected:
            bought, spent = basket, cost
    return bars


def _rank(ranking: NDArray[np.int64], alone: NDArray[np.float64], columns: NDArray[np.int64]) -> tuple[int, float]:
    return int(ranking[columns[0]]), float(alone[columns[0]])


def _budget_name(selector: BudgetedSelector, budget: Hashable) -> Hashable:
    """The name of the budget to draw; None if there is a single budget without a name."""
    if not isinstance(selector.budget, Mapping):
        if budget is not None:
            raise ValueError(f"budget must be left out, as the selector has a single one, got {budget!r}")
        return None
    if budget is None:
        return next(iter(selector.budget))
    if budget not in selector.budget:
        raise ValueError(f"budget must be one of {', '.join(map(repr, selector.budget))}, got {budget!r}")
    return budget


def _of(numbers: Any, name: Hashable) -> Any:
    return numbers[name] if isinstance(numbers, Mapping) else numbers


def _axis_text(name: Hashable, unit: str) -> str:
    return quantity_text("cost" if name is None else str(name), unit)


def _write_changes(ax: Axes, points: Sequence[PathPoint], costs: Sequence[float], names: Sequence[Hashable]) -> None:
    """Annotate points with what changes: below the point on the left half, where the step line leaves room, else above.

    Points of the largest gains come first; notes that would cover another note are left out.
    """
    scores, before = [point.score for point in points], np.zeros(len(names), dtype=bool)
    gains = np.diff(scores, prepend=scores[:1])
    places = ax.transAxes.inverted().transform(ax.transData.transform(np.column_stack([costs, scores])))
    taken: list[tuple[float, float]] = []
    noted = []
    for at in np.argsort(-gains, kind="stable").tolist():
        if not points[at].support.any():
            continue
        x, y = places[at]
        corner = (x, y - NOTE[1]) if x < 0.5 else (x - NOTE[0], y)
        if all(abs(corner[0] - a) >= NOTE[0] or abs(corner[1] - b) >= NOTE[1] for a, b in taken):
            taken.append(corner)
            noted.append(at)
    for at in sorted(noted):
        point = points[at]
        signs = (("+", point.support & ~before), (MINUS, before & ~point.support))
        text = "\n".join(f"{sign} {_listed(names, mask)}" for sign, mask in signs if mask.any())
        place: dict[str, Any] = {"xytext": (5, -4), "va": "top", "ha": "left"}
        if places[at][0] >= 0.5:
            place = {"xytext": (-5, 4), "va": "bottom", "ha": "right"}
        how: dict[str, Any] = {"fontsize": "x-small", "color": INK, "zorder": 6, "textcoords": "offset points"}
        ax.annotate(text, (costs[at], point.score), **how, **place)
        before = point.support


def _listed(names: Sequence[Hashable], mask: NDArray[np.bool_]) -> str:
    listed = [label_words(names[at], 16) for at in np.flatnonzero(mask)[:MOST_NAMES]]
    more = int(mask.sum()) - len(listed)
    return ", ".join(listed) + (f" and {more} more" if more else "")
