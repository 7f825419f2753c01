"""What an engine finds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cggd import Status


@dataclass(frozen=True, eq=False)
class EngineResult:
    """A selection of variables, and what is known about it.

    Attributes
    ----------
    selected : bool array of shape (n_variables,)
    score : float
    status : Status
    bound : float or None
        No selection within the limits scores more.
    met : list of (bool array, float)
        Other selections with their scores, for a path of budgets; they need not satisfy the budgets.
    n_fits : int
        Fits of the user's estimator.
    """

    selected: NDArray[np.bool_]
    score: float
    status: Status = Status.FEASIBLE
    bound: float | None = None
    met: Sequence[tuple[NDArray[np.bool_], float]] = ()
    n_fits: int = 0


@dataclass(frozen=True)
class Clock:
    """How much time is left; without a limit, all that is wanted."""

    limit: float | None
    began: float = field(default_factory=time.perf_counter)

    @property
    def left(self) -> float | None:
        """Seconds, or None where there is no limit."""
        return None if self.limit is None else max(self.began + self.limit - time.perf_counter(), 1e-3)

    @property
    def over(self) -> Callable[[], bool]:
        """Whether the time is up."""
        return lambda: self.limit is not None and time.perf_counter() >= self.began + self.limit

    def share(self, part: float) -> Clock:
        """A clock that runs out after a part of the time that is left."""
        return Clock(None if self.left is None else part * self.left)


ENDLESS = Clock(None)
