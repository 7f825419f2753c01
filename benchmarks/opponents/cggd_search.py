"""cggd with its default settings and a time limit."""

from __future__ import annotations

from benchmarks.instances import Instance
from benchmarks.opponents.claim import Claim, Record
from cggd import Progress, Status
from cggd import solve as search


def solve(instance: Instance, *, seed: int, seconds: float, threads: int, record: Record) -> Claim:
    best: list[float | None] = [None]

    def watch(progress: Progress) -> None:
        if progress.best != best[0] and progress.incumbent is not None:
            best[0] = progress.best
            record(progress.incumbent)

    result = search(instance.problem, seed=seed, time_limit=seconds, callback=watch)
    if result.indices is not None:
        record(result.indices)
    return Claim(result.status is Status.OPTIMAL, result.bound, result.stop_text)
