"""Bounds on metrics of a supernet, checked before anything is trained."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from cggd import Feasibility, Status, find_feasible
from cggd.constraints import Constraint, Row, check_constraints, unit_hint
from cggd.improve import switches
from cggd_nas.supernet import Supernet, lifted

# Patience of the local search for the nearest selection if the bounds cannot be satisfied.
NEAREST_STEPS = 100


class NoFeasibleArchitectureError(RuntimeError):
    """A search found no architecture that satisfies every bound.

    Attributes
    ----------
    nearest : dict or None
        The selection with the smallest sum of violations. Each violation is a share of its bound or, if it was proved
        before the training that the bounds cannot be satisfied, of the spread of its metric. None if the search was
        interrupted before it visited a selection.
    constraints : list of Row
        Value and violation of the nearest selection for each bound.
    """

    def __init__(self, reason: str, nearest: dict[Hashable, Hashable] | None, constraints: Sequence[Row]) -> None:
        self.nearest, self.constraints = nearest, list(constraints)
        lines = [
            reason,
            *(["the nearest one has"] if self.constraints else []),
            *(f"  {row}" for row in self.constraints),
        ]
        super().__init__("\n".join(lines))


def checked_bounds(
    constraints: Iterable[Constraint] | Constraint, supernet: Supernet, *, warn: bool = True
) -> Sequence[Constraint]:
    """Bounds on metrics of the supernet's space, with those on metrics of a part lifted to it.

    With `warn`, warns about bounds that never bind and are likely given in another unit than that of their metric.

    Raises
    ------
    ValueError
        For an infinite bound on a metric without a known largest or least value, such as peak memory: it is usually a
        share of that value.
    """
    bounds = check_constraints(lifted(constraints, supernet), supernet.space)
    for bound in bounds:
        metric, ends = bound.metric, bound.metric.limits()
        if np.isinf(bound.bound) and np.isinf(ends[1 if bound.sense == "<=" else 0]):
            raise ValueError(
                f"the bound {bound} never binds; if it is a share of {metric.name}.limits(), which are {list(ends)} "
                f"since no closed form is known, take a share of the value of a network instead, such as 0.5 * "
                f"{metric.name}(selection), or leave the bound out"
            )
        if warn and (hint := _hint(bound, loose=True)):
            warnings.warn(hint, stacklevel=3)
    return bounds


def _hint(bound: Constraint, *, loose: bool) -> str:
    """`unit_hint` if the bound never binds (`loose`), or if nothing satisfies it; otherwise empty."""
    metric, sizes = bound.metric, bound.space.sizes
    low, high = metric.limits()
    if np.isinf([low, high]).any() and metric.parted and not metric.noisy:  # such as peak memory
        seen = metric.evaluate(np.stack([0 * sizes, sizes - 1])).tolist()
        low, high = (min(seen) if np.isinf(low) else low), (max(seen) if np.isinf(high) else high)
    easiest = low if bound.sense == "<=" else high
    return unit_hint(bound, low, high) if loose == bool(bound.satisfied(easiest)) else ""


def feasible_network(bounds: Sequence[Constraint], seed: int, time_limit: float) -> Feasibility:
    """Search for a selection within all bounds, and raise if it is proved that there is none."""
    known = find_feasible(bounds, seed=seed, time_limit=time_limit)
    if known.status is not Status.INFEASIBLE:
        return known
    space, rng = bounds[0].space, np.random.default_rng(seed)
    nearest = switches.search(space, bounds, None, rng, restarts=1, patience=NEAREST_STEPS).selection
    hints = "".join(f"; {hint}" for hint in (_hint(bound, loose=False) for bound in bounds) if hint)
    raise NoFeasibleArchitectureError(
        f"the bounds cannot be met: {known.proof}; cggd.diagnose(constraints) names bounds that would work{hints}",
        space.labels(nearest),
        [bound.report(nearest) for bound in bounds],
    )
