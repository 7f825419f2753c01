"""The core's search from a given subset, for all engines."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cggd import Descent, Metric, Progress, Result, Start, Switches, maximize
from cggd.budget import Budget
from cggd_features.limits import Limits

# A smaller difference of scores is rounding.
EQUAL = 1e-10

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
) -> NDArray[np.bool_]:
    """Improve a subset by the core's search: one guided descent, then switches.

    Parameters
    ----------
    metric : Metric
        Maximised over the space of the limits.
    limits : Limits
    begin : bool array of shape (n_variables,)
        It is returned unless a better subset is found.
    steps, seed, callback
        See `cggd.maximize`.
    clock : Budget
    patience : int, optional
        See `cggd.Switches`.
    """
    result = maximize(
        metric,
        limits.constraints,
        initial=begin.astype(np.int64),
        forbid=limits.forbidden,
        improvers=[Descent(steps, [Start(temperature=COLD)], share=0.8), Switches(patience=patience)],
        seed=seed,
        time_limit=max(clock.left, 1e-3) if clock.limited else None,
        callback=callback,
    )
    return better(metric, begin, result)


def better(metric: Metric, begin: NDArray[np.bool_], result: Result) -> NDArray[np.bool_]:
    """The subset of a result, or `begin` if the metric finds it no worse."""
    if result.indices is None:
        return begin
    before, after = metric.evaluate(np.stack([begin.astype(np.int64), result.indices]))
    return result.indices.astype(bool) if after > before + EQUAL else begin
