"""The costs of a supernet's networks, and whether bounds can be satisfied, before anything is trained."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.table import Table
from torch import nn

from cggd.checks import whole
from cggd.constraints import Constraint, check_constraints
from cggd.feasibility import Diagnosis, SmallestBound, diagnose, smallest_bound
from cggd.metrics import Metric, values_of
from cggd.metrics.base import check_metric
from cggd.rounding import true_texts
from cggd_nas.metrics import Costs
from cggd_nas.plain import as_supernet
from cggd_nas.supernet import Supernet, lifted
from cggd_nas.trace import Example


@dataclass(frozen=True)
class Range:
    """Values of one metric.

    Attributes
    ----------
    name, unit : str
    minimum, median, maximum : float
        The median is over the networks drawn.
    proved : (bool, bool)
        Whether no network has less than the minimum, and none more than the maximum.
    """

    name: str
    unit: str
    minimum: float
    median: float
    maximum: float
    proved: tuple[bool, bool]


@dataclass(frozen=True, eq=False)
class Bound:
    """Whether a single bound can be satisfied.

    Attributes
    ----------
    constraint : Constraint
    share : float
        Share of the networks drawn that satisfy it.
    tightest : SmallestBound
        The tightest bound on its metric that was found to be satisfiable.
    """

    constraint: Constraint
    share: float
    tightest: SmallestBound

    @property
    def satisfiable(self) -> bool | None:
        """Whether the bound can be satisfied; None if unknown."""
        value, selection = self.tightest.value, self.tightest.selection
        if self.share > 0 or (selection is not None and self.constraint.report(selection).satisfied):
            return True
        return False if self.tightest.proved and (value is None or not self.constraint.satisfied(value)) else None


@dataclass(frozen=True, eq=False)
class Profile:
    """The costs of a supernet's networks; made by `profile`.

    Attributes
    ----------
    ranges : sequence of Range
    bounds : sequence of Bound
    together : Diagnosis or None
        Whether one network can satisfy all bounds, and if not, which bounds conflict; None without bounds.
    samples : int
        Networks drawn.
    """

    ranges: Sequence[Range]
    bounds: Sequence[Bound]
    together: Diagnosis | None
    samples: int

    def __rich__(self) -> RenderableType:
        costs = Table(title=f"{self.samples} random networks", title_justify="left")
        for heading in ("metric", "minimum", "median", "maximum", "unit"):
            costs.add_column(heading, justify="left" if heading in ("metric", "unit") else "right")
        for row in self.ranges:
            least, median, greatest = true_texts(row.minimum, row.median, row.maximum)
            marks = ["" if proved else "?" for proved in row.proved]
            costs.add_row(row.name, least + marks[0], median, greatest + marks[1], row.unit)
        parts: list[RenderableType] = [costs]
        if not all(all(row.proved) for row in self.ranges):
            parts.append("? the furthest that was found, not proved")
        if self.together is not None:
            parts.append(self._bounds())
            together = "all bounds together: " + str(self.together)
            parts.append(together)
        return Group(*parts)

    def _bounds(self) -> Table:
        table = Table()
        for heading in ("bound", "can be met", "of random networks", "tightest"):
            table.add_column(heading)
        words = {True: "yes", False: "no", None: "unknown"}
        for bound in self.bounds:
            share = f"{bound.share:.0%}"
            if share in ("0%", "100%"):  # only printed if exact
                share = f"{100 * bound.share:.3g}%"
            table.add_row(str(bound.constraint), words[bound.satisfiable], share, str(bound.tightest))
        return table

    def __str__(self) -> str:
        text = io.StringIO()
        Console(file=text, width=120, color_system=None, highlight=False, markup=False).print(self)
        return text.getvalue().rstrip()


# A median over 200 draws lies within the middle 14 % of all networks with a probability of 95 % (binomial).
SAMPLES = 200

# Time limit of the search for an extreme value, or for a network that satisfies the bounds.
SECONDS = 5.0


def profile(
    model: nn.Module | Supernet,
    example: Example,
    constraints: Iterable[Constraint] | Constraint = (),
    *,
    metrics: Iterable[Metric] | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    time_limit: float = SECONDS,
    show: bool = True,
) -> Profile:
    """Report the costs of a supernet's networks and whether bounds can be satisfied, before anything is trained.

    Parameters
    ----------
    model : nn.Module or Supernet
    example : Tensor or sequence of Tensor
        Arguments of the network's forward, with a batch of 1.
    constraints : list of Constraint
        Bounds on metrics of this supernet, such as those of `Costs`.
    metrics : list of Metric, optional
        By default parameters, size and peak memory at 8 bits, and MACs, except those with the name of a constraint's
        metric. The constraints' metrics are added.
    samples : int
        Networks drawn uniformly and evaluated; all networks if the space has no more.
    seed : int
    time_limit : float
        Seconds for each search: two for each metric, and those of `cggd.diagnose`. Extremes of noisy metrics are not
        searched for.
    show : bool
        Print the profile.

    Examples
    --------
    >>> import torch
    >>> from cggd_nas import Choice
    >>> layer = Choice({"conv3": nn.Conv2d(8, 8, 3, padding=1), "conv1": nn.Conv2d(8, 8, 1)}, decision="layer")
    >>> costs = Costs(nn.Sequential(layer), torch.zeros(1, 8, 32, 32))
    >>> macs = costs.macs()
    >>> known = profile(costs.supernet, costs.example, [macs <= 0.05], metrics=[macs], show=False)
    >>> known.ranges[0].minimum, known.ranges[0].maximum, known.bounds[0].satisfiable
    (0.065536, 0.589824, False)
    """
    supernet = as_supernet(model)
    space = supernet.space
    whole(samples, "samples", least=1)
    bounds = check_constraints(lifted(constraints, supernet), space)
    if metrics is None:
        costs = Costs(supernet, example)
        bounded = {bound.metric.name for bound in bounds}
        usual = (costs.parameters(), costs.size_kb(), costs.macs(), costs.peak_memory())
        metrics = [metric for metric in usual if metric.name not in bounded]
    asked = list(dict.fromkeys([*metrics, *(bound.metric for bound in bounds)]))
    for metric in asked:
        check_metric(metric, "each of metrics")
        if metric.space is not space:
            raise ValueError(f"metric {metric.name!r} belongs to another choice space, {metric.space}, than {space}")
    rng = np.random.default_rng(whole(seed, "seed", least=0))
    rows = space.enumerate() if space.n_selections <= samples else space.sample(samples, rng)
    values = {metric: values_of(metric, rows) for metric in asked}
    every = len(rows) == space.n_selections

    def tightest(metric: Metric, sense: str) -> SmallestBound:
        sign = 1.0 if sense == "<=" else -1.0
        at = int(np.argmin(sign * values[metric]))
        sampled = SmallestBound(metric, sense, float(values[metric][at]), every, space.labels(rows[at]))  # pyright: ignore[reportArgumentType]
        if metric.noisy or every:
            return sampled
        found = smallest_bound(metric, sense=sense, seed=seed, time_limit=time_limit)  # pyright: ignore[reportArgumentType]
        better = found.value is not None and sign * found.value <= sign * values[metric][at]
        return found if better else sampled

    least = {metric: tightest(metric, "<=") for metric in asked}
    greatest = {metric: tightest(metric, ">=") for metric in asked}
    result = Profile(
        [
            Range(
                metric.name,
                metric.unit,
                float(least[metric].value or 0.0),
                float(np.median(values[metric])),
                float(greatest[metric].value or 0.0),
                (least[metric].proved and not metric.noisy, greatest[metric].proved and not metric.noisy),
            )
            for metric in asked
        ],
        [
            Bound(
                bound,
                float(np.mean(bound.satisfied(bound.values(rows)))),
                (least if bound.sense == "<=" else greatest)[bound.metric],
            )
            for bound in bounds
        ],
        diagnose(bounds, seed=seed, time_limit=time_limit) if bounds else None,
        len(rows),
    )
    if show:
        Console(highlight=False, markup=False).print(result)
    return result
