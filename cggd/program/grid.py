"""Grids: all values of a metric may be multiples of one step; a bound within one step of a value then proves it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cggd.metrics import Metric
from cggd.rounding import OPERATIONS, UNIT

# Number of decimal places that are tried. Below 1 they count from the first digit that is not 0, so that the unit of a
# metric does not matter.
PLACES = 6

# Number of values that are tested first.
FEW = 10_000


def grid(metric: Metric) -> float:
    """Lower bound on the distance between any two different values of a metric; 0 where none is known.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> grid(Additive(ChoiceSpace.from_sizes([2, 2]), [1.5, 4.5, 0.0, 1.2]))
    0.6
    """
    numbers, sizes = metric.addends() or (np.zeros(0), np.zeros(0))
    if not numbers.any():
        return 0.0
    # Where there is no grid, the first numbers usually show it. Otherwise they give the number of places to begin with.
    places = _places(numbers[:FEW], sizes[:FEW])
    places = None if places is None else _places(numbers, sizes, places)
    if places is None:
        return 0.0
    scaled = numbers * 10.0**places
    whole = np.rint(scaled)
    step = float(np.gcd.reduce(whole.astype(np.int64))) / 10.0**places
    error = metric.space.n_decisions * float(np.abs(scaled - whole).max()) / 10.0**places
    return step if error <= 1e-5 * step else 0.0


def _places(numbers: NDArray, sizes: NDArray, first: int = 0) -> int | None:
    """Smallest number of decimal places, at least `first`, that all numbers fit in; None if PLACES are too few."""
    zeros = max(-int(np.floor(np.log10(sizes.max(initial=1e-300)))), 0)
    for places in range(max(first, zeros), zeros + PLACES + 1):
        scaled = numbers * 10.0**places
        if np.abs(scaled).max() > 2**50:
            return None
        # Only rounding errors are tolerated: larger deviations would add up over the decisions.
        if (np.abs(scaled - np.rint(scaled)) <= 8 * np.finfo(float).eps * 10.0**places * sizes).all():
            return places
    return None


def proved(cost: float, bound: float, step: float) -> bool:
    """Whether `cost` is optimal, given a lower bound on costs and the step of the grid on which costs lie."""
    rounding = OPERATIONS * UNIT * max(abs(cost), abs(bound))
    return cost - bound <= max(step - 1e-4 * step - rounding, 0.0)
