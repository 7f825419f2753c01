"""Two improvers side by side: one waits for a solver in another thread, the other one works in this thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import wait
from typing import Any

import numpy as np

from cggd.budget import Budget
from cggd.incumbent import Finding, Improver, Incumbent
from cggd.problem import Problem
from cggd.program.threads import POLL_SECONDS, submitted

_NOTHING: Any = object()


def alongside(
    first: Iterator[Finding | None],
    second: Improver,
    problem: Problem,
    incumbent: Incumbent,
    budget: Budget,
    rng: np.random.Generator,
) -> Iterator[Finding | None]:
    """Yield what both find until the first one ends.

    The second one works while the first one yields None. It is restarted when the first one finds a better selection.
    """
    findings: Iterator[Finding | None] = iter(())
    known = np.nan
    for finding in first:
        yield finding
        until = budget.seconds + POLL_SECONDS
        if incumbent.cost != known:  # true in the first pass, too
            findings = second.improve(problem, incumbent, budget, rng)
        while budget.seconds < until and (found := next(findings, _NOTHING)) is not _NOTHING:
            yield found
        known = incumbent.cost
        budget.wait(until - budget.seconds)


def in_background(work: Callable[[Callable[[], bool]], Iterable[Finding]], alone: float) -> Iterator[Finding | None]:
    """Run work in a thread, and yield its findings at its end, and None until then.

    Parameters
    ----------
    work : callable
        Returns the findings. Its argument is a function that tells whether they are no longer wanted.
    alone : float
        Seconds until the first None: work that ends sooner has no company.
    """
    left = False
    future = submitted(lambda: list(work(lambda: left)))
    try:
        if future is None:
            return
        wait([future], alone)
        while not future.done():
            yield None
        yield from future.result()
    finally:
        left = True
