"""The budget of a search: seconds, calls of black boxes, and requests to stop. No other module reads a clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum

import numpy as np

from cggd.metrics.evaluation import Evaluation, OutOfTime

# A part that cannot be stopped may exceed the time limit by this share plus these seconds. This is half of the largest
# accepted overshoot, 20 % plus 0.2 s, because machines differ in speed.
SPARE_SHARE = 0.1
SPARE_SECONDS = 0.1


class Stop(Enum):
    """Why a search stopped. The values are messages for users; `Result.note` has the details."""

    OPTIMAL = "no selection can be better"
    PRECISION = "no selection is better by more than the precision of the exact solver"
    GAP = "the gap asked for is reached"
    INFEASIBLE = "no selection satisfies the constraints"
    DONE = "all improvers are done"
    TIME = "time limit"
    EVALUATIONS = "limit of evaluations"
    CALLBACK = "stopped by the callback"
    INTERRUPTED = "interrupted"
    FAILED = "an evaluation failed"


class Budget:
    """Limits on the time and the evaluations of a search, or of a part of one.

    Parameters
    ----------
    time_limit : float, optional
        Seconds, counted from now.
    max_evaluations : int, optional
        Number of black-box calls.
    reserve : float
        Seconds reserved at the end for preparing the answer.
    gap : float
        Relative gap between value and bound at which the search ends; with 0 it goes on to the optimum.
    stop : callable, optional
        The budget is over when it returns a true value.

    Attributes
    ----------
    evaluation : Evaluation
        Counts black-box calls, and holds their largest number. After `admit`, calls after the time limit raise
        `OutOfTime`.
    refused : bool
        Whether a part of the search was skipped because it did not fit into the time left (`fits`).

    Examples
    --------
    >>> budget = Budget()
    >>> budget.left, budget.over(), budget.part(share=0.5).left
    (inf, False, inf)
    """

    time_limit: float
    reserve: float
    gap: float
    evaluation: Evaluation
    refused: bool
    asked_to_stop: bool

    def __init__(
        self,
        time_limit: float | None = None,
        *,
        max_evaluations: int | None = None,
        reserve: float = 0.0,
        gap: float = 0.0,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        self.time_limit = np.inf if time_limit is None else float(time_limit)
        self.reserve, self.gap = reserve, gap
        self.evaluation = Evaluation(most=max_evaluations)
        self.refused = self.asked_to_stop = False
        self._began, self._stop = time.perf_counter(), stop
        self._whole: Budget | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._began

    @property
    def left(self) -> float:
        """Seconds left; infinite without a time limit."""
        if np.isinf(self.time_limit):
            return np.inf
        return max(self.time_limit - self.seconds - self.reserve, 0.0)

    @property
    def limited(self) -> bool:
        """Whether there is a time limit."""
        return bool(np.isfinite(self.time_limit))

    @property
    def used(self) -> float:
        """Share of the time limit used so far, from 0 to 1; 0 without a time limit."""
        return min(1.0, self.seconds / max(self.time_limit, 1e-9)) if self.limited else 0.0

    def over(self) -> bool:
        """Whether a limit is reached or a stop was requested."""
        return self.reason() is not None

    def reason(self) -> Stop | None:
        """Why the budget is over, or None."""
        if self.asked_to_stop or (self._stop is not None and self._stop()):
            return Stop.CALLBACK
        if self.left == 0:
            return Stop.TIME
        if self._whole is None and self.evaluation.exhausted:
            return Stop.EVALUATIONS
        return None if self._whole is None else self._whole.reason()

    def fits(self, seconds: float, *, late: bool = False) -> bool:
        """Whether a part of `seconds` that cannot be stopped would end before the time limit, or only slightly later.

        With `late`, it may also begin after the time limit. Without `late`, a part that does not fit sets `refused`.
        """
        if not self.limited:
            return True
        whole = self._whole or self
        spare = SPARE_SHARE * min(whole.time_limit, self.time_limit) + SPARE_SECONDS
        left = self.left
        fit = seconds <= left + spare and (late or left > 0)
        whole.refused = whole.refused or not (fit or late)
        return fit

    def part(self, *, share: float = 1.0, seconds: float = np.inf, stop: Callable[[], bool] | None = None) -> Budget:
        """A budget of a part of the time left. It is over no later than the whole; unused time remains for others.

        Parameters
        ----------
        share : float
            Share of the seconds left.
        seconds : float
            Upper limit in seconds.
        stop : callable, optional
            The part is over when it returns a true value.
        """
        limit = min(share * self.left, seconds)
        part = Budget(None if np.isinf(limit) else limit, gap=self.gap, stop=stop)
        part.evaluation, part._whole = self.evaluation, self
        return part

    def wait(self, seconds: float) -> None:
        """Wait for other threads, but no longer than the budget lasts."""
        if (seconds := min(seconds, self.left)) > 0:
            time.sleep(seconds)

    def begin_earlier(self, seconds: float) -> None:
        """Add the seconds that an interrupted run used before."""
        self._began -= seconds

    def admit(self, spare: int = 0) -> None:
        """Raise `OutOfTime` at black-box calls after the time limit, except for the first `spare` ones."""

        def check() -> None:
            nonlocal spare
            if self.left == 0:
                spare -= 1
                if spare < 0:
                    raise OutOfTime

        self.evaluation.admit = check
