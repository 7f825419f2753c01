"""The core's search from a given subset, for all engines."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cggd import Descent, Metric, Progress, Result, Start, Switches, maximize
from cggd.budget import Budget
from cggd_features.limits import Limits

# A low temperature keeps the search near its first subset.
COLD = (0.5, 0.05)


def refined(
    metric: Metric,
    limits: Limits,
    begin: NDArray[np.bool_],
    *,
    steps: int,
    seed: int,
    clock: Budget,
    patience: int | None = None,
    callback: Callable[[Progress], bool] | None = None,
) -> Result:
    """Improve a subset by the core's search: one guided descent, then switches.

    Parameters
    ----------
    metric : Metric
        Maximised over the space of the limits.
    limits : Limits
    begin : bool array of shape (n_variables,)
    steps, seed, callback
        See `cggd.maximize`.
    clock : Budget
    patience : int, optional
        See `cggd.Switches`.
    """
    return maximize(
        metric,
        limits.constraints,
        initial=begin.astype(np.int64),
        forbid=limits.forbidden,
        improvers=[Descent(steps, [Start(temperature=COLD)], share=0.8), Switches(patience=patience)],
        seed=seed,
        time_limit=max(clock.left, 1e-3) if clock.limited else None,
        callback=callback,
    )
