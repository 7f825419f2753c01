"""Series: several searches, one after another, that share one budget and end together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from cggd.budget import Budget, Stop
from cggd.problem import Problem
from cggd.result import Result, SearchError

# A search: a problem and the options of `minimize` for one search.
Search = Callable[..., Result]

# Reasons to stop that end the whole series.
ENDED = (Stop.CALLBACK, Stop.INTERRUPTED, Stop.FAILED)

# A search makes at least one step, even if its share of the time is used up.
SHORTEST = 1e-6

_T = TypeVar("_T")


class Series:
    """Searches one after another, which share a time limit and a limit of evaluations.

    Parameters
    ----------
    search : callable
    options : mapping
        Options of `minimize` for every search; ``time_limit`` and ``max_evaluations`` are for all of them together.
    least_seconds : float
        Least time for one search, if so much is left.

    Attributes
    ----------
    budget : Budget
    left : int
        Number of searches that are still planned; each gets an equal share of what is left.
    stopped : Stop or None
        Why the series ended: one of `ENDED`, or `Stop.EVALUATIONS`.
    failure : SearchError or None
        The error that ended a search. Its result is that of the search.
    """

    def __init__(self, search: Search, options: Mapping[str, Any], *, least_seconds: float = SHORTEST) -> None:
        self.search: Search = search
        self.options: dict[str, Any] = dict(options)
        self.least_seconds: float = least_seconds
        self.budget: Budget = Budget(options["time_limit"], max_evaluations=options["max_evaluations"])
        self.left: int = 1
        self.stopped: Stop | None = None
        self.failure: SearchError | None = None

    @property
    def evaluations(self) -> int:
        """Number of evaluations of all searches."""
        return self.budget.evaluation.calls

    @property
    def spent(self) -> bool:
        """Whether no evaluations are left."""
        return self.budget.evaluation.exhausted

    def run(self, problem: Problem, **options: Any) -> Result:
        """One search; a `SearchError` is kept in `failure`, and its result returned."""
        given, budget, most = {**self.options, **options}, self.budget, self.budget.evaluation.most
        searches, self.left = max(self.left, 1), self.left - 1
        if budget.limited:
            share = max(budget.left / searches, min(budget.left, self.least_seconds))
            given["time_limit"] = max(share, SHORTEST)
        if most is not None:
            # Half of them may be needed to evaluate the answer again.
            left, least = int(budget.evaluation.left), 2 * problem.calls_each
            given["max_evaluations"] = max(left // searches, min(left, least), 1)
        try:
            result = self.search(problem, **given)
        except SearchError as error:
            result, self.failure = error.result, error
        budget.evaluation.calls += result.evaluations
        if result.stopped in ENDED:
            self.stopped = result.stopped
        return result

    def guarded(self, work: Callable[[], _T]) -> _T | None:
        """Do work between and with searches; None after Ctrl-C, which ends the series and not the program."""
        try:
            return work()
        except KeyboardInterrupt:
            self.stopped = Stop.INTERRUPTED
            return None


def uninterrupted(work: Callable[[], _T]) -> _T:
    """Call a short function; if Ctrl-C interrupts it, call it again."""
    while True:
        try:
            return work()
        except KeyboardInterrupt:
            continue
