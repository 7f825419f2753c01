"""Hill climbing with restarts: random switches of one decision, the best of a batch taken if it is no worse."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.instances import Instance
from benchmarks.opponents.claim import Claim, Record
from benchmarks.opponents.ranked import ranked

BATCH = 100
# A climb ends after batches without a gain that hold about so many switches per option.
PATIENCE = 2.0


def solve(instance: Instance, *, seed: int, seconds: float, threads: int, record: Record) -> Claim:
    until = time.perf_counter() + seconds
    problem, space, rng = instance.problem, instance.problem.space, np.random.default_rng(seed)
    best, climbs = np.inf, 0
    while time.perf_counter() < until:
        climbs += 1
        here = space.sample(1, rng)[0]
        at, stalled = ranked(problem, here[None])[1:], 0
        while stalled < PATIENCE * space.n_options and time.perf_counter() < until:
            rows = np.repeat(here[None], BATCH, axis=0)
            decisions = rng.integers(0, space.n_decisions, BATCH)
            rows[np.arange(BATCH), decisions] = rng.integers(0, space.sizes[decisions])
            first, *there = ranked(problem, rows)
            stalled = 0 if tuple(there) < at else stalled + BATCH
            if tuple(there) <= at:
                here, at = rows[first], tuple(there)
            if at[0] == 0 and at[1] < best:
                best = at[1]
                record(here)
    return Claim(note=f"{climbs} climbs")
