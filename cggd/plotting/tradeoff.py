"""Pictures of the trade-off between an objective and a metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cggd.checks import whole
from cggd.constraints import Constraint, check_constraints
from cggd.metrics import Metric, values_of
from cggd.plotting.axes import BAD, GOOD, INK, NEUTRAL, axes_for, bound_text, draw_legend, load_pyplot, quantity_text
from cggd.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_tradeoff(
    objective: Metric,
    metric: Metric,
    *,
    ax: Axes | None = None,
    constraints: Sequence[Constraint] | Constraint = (),
    results: Sequence[Result] | Result = (),
    samples: int = 20_000,
    seed: int = 0,
) -> Axes:
    """Draw the objective against another metric over the selections of a space.

    Feasible selections have another colour. Bounds on the two metrics are lines, and the region that satisfies them is
    shaded; bounds on further metrics only affect the colour of the points.

    Parameters
    ----------
    objective, metric : Metric
        On the vertical and the horizontal axis.
    ax : matplotlib Axes, optional
    constraints : list of Constraint
    results : Result or list of Result
        Their selections are marked; nearest ones, without a feasible selection, have another mark.
    samples : int
        Number of selections up to which all are drawn; of larger spaces, as many random ones.
    seed : int
        Of the random selections.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError, TypeError
        If the metrics or constraints belong to different spaces, or `samples` is not a positive whole number.

    Examples
    --------
    >>> from cggd.datasets import nats_topology
    >>> nats = nats_topology()
    >>> ax = plot_tradeoff(nats.test200, nats.latency, constraints=nats.latency <= 5.31)
    >>> ax.get_xlabel(), ax.collections[0].get_label()
    ('latency [ms]', '7820 selections, not feasible')
    """
    space = objective.space
    if metric.space is not space:
        raise ValueError(f"metric {metric!r} belongs to another choice space than objective {objective!r}")
    samples = whole(samples, "samples", least=1)
    limits = check_constraints(constraints, space)
    load_pyplot()
    everything = space.n_selections <= samples
    selections = space.enumerate() if everything else space.sample(samples, np.random.default_rng(seed))
    x, y = values_of(metric, selections), values_of(objective, selections)
    feasible = np.ones(len(selections), dtype=bool)
    for limit in limits:
        feasible &= limit.satisfied(x if limit.metric is metric else values_of(limit.metric, selections))

    ax = axes_for(ax, (6.4, 4.2), hidden=("top", "right"))
    ax.set(xlabel=quantity_text(metric.name, metric.unit), ylabel=quantity_text(objective.name, objective.unit))
    kind = "selections" if everything else "drawn selections"
    # Rasterised, so that 20,000 points do not make a PDF of megabytes.
    style: dict[str, Any] = {"s": 5, "lw": 0, "rasterized": True}
    for mask, color, words in ((~feasible, NEUTRAL, "not feasible"), (feasible, GOOD, "feasible")):
        if mask.any():
            words = f", {words}" if limits else ""
            ax.scatter(x[mask], y[mask], color=color, alpha=0.6, label=f"{mask.sum()} {kind}{words}", zorder=2, **style)
    _mark(ax, objective, metric, [results] if isinstance(results, Result) else list(results))
    _shade(ax, objective, metric, limits)
    draw_legend(ax, *ax.get_legend_handles_labels())
    return ax


def _shade(ax: Axes, objective: Metric, metric: Metric, limits: Sequence[Constraint]) -> None:
    """Draw the bounds on the two metrics drawn, and shade the region that satisfies them."""
    from matplotlib.patches import Rectangle

    finite = [c for c in limits if np.isfinite(c.bound)]
    bounds = {axis: [c for c in finite if c.metric is m] for axis, m in (("x", metric), ("y", objective))}
    if not any(bounds.values()):
        return
    left = []
    for axis, found in bounds.items():
        low, high = ax.get_xlim() if axis == "x" else ax.get_ylim()
        pad = 0.03 * (high - low)
        low, high = min([low, *(c.bound - pad for c in found)]), max([high, *(c.bound + pad for c in found)])
        ax.set(**{f"{axis}lim": (low, high)})
        left.append(max([low, *(c.bound for c in found if c.sense == ">=")]))
        left.append(min([high, *(c.bound for c in found if c.sense == "<=")]))
        for c in found:
            draw = ax.axvline if axis == "x" else ax.axhline
            words = bound_text(c.metric.name, c.sense, c.bound, c.metric.unit)
            draw(c.bound, color=INK, lw=1.2, ls="--", zorder=3, label=words)
    x0, x1, y0, y1 = left
    if x0 <= x1 and y0 <= y1:
        ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, color=GOOD, alpha=0.08, lw=0, zorder=0))


def _mark(ax: Axes, objective: Metric, metric: Metric, results: Sequence[Result]) -> None:
    space = objective.space
    found = [space.indices(r.selection) for r in results if r.selection is not None]
    nearest = [space.indices(r.nearest) for r in results if r.selection is None and r.nearest is not None]
    for selections, marker, size, words in ((found, "*", 14, "found"), (nearest, "X", 9, "nearest, not feasible")):
        if selections:
            rows = np.array(selections)
            number = f" ({len(rows)})" if len(rows) > 1 else ""
            x, y = values_of(metric, rows), values_of(objective, rows)
            ax.plot(x, y, marker, ms=size, mfc=BAD, mec="white", mew=0.8, zorder=6, label=words + number)
