"""The result of an engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cggd import Status


@dataclass(frozen=True, eq=False)
class EngineResult:
    """A selection of variables with its score, status and bound.

    Attributes
    ----------
    selected : bool array of shape (n_variables,)
    score : float
    status : Status
    bound : float or None
        Upper bound on the score of every selection within the limits.
    visited : list of (bool array, float)
        Other selections with their scores, for a path of budgets; they need not satisfy the budgets.
    n_fits : int
        Fits of the user's estimator.
    """

    selected: NDArray[np.bool_]
    score: float
    status: Status = Status.FEASIBLE
    bound: float | None = None
    visited: Sequence[tuple[NDArray[np.bool_], float]] = ()
    n_fits: int = 0
