"""Random search: batches of uniform random selections; the best feasible one."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.instances import Instance
from benchmarks.opponents.claim import Claim, Record
from benchmarks.opponents.ranked import ranked

BATCH = 100


def solve(instance: Instance, *, seed: int, seconds: float, threads: int, record: Record) -> Claim:
    until = time.perf_counter() + seconds
    rng, best, tries = np.random.default_rng(seed), np.inf, 0
    while time.perf_counter() < until:
        rows = instance.problem.space.sample(BATCH, rng)
        tries += BATCH
        first, violation, value = ranked(instance.problem, rows)
        if violation == 0 and value < best:
            best = value
            record(rows[first])
    return Claim(note=f"{tries} selections")
