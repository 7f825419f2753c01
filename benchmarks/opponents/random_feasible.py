"""Random selections, each repaired; the best of them."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.instances import Instance
from benchmarks.opponents.claim import Claim, Record
from benchmarks.opponents.repair import Switches, repair


def solve(instance: Instance, *, seed: int, seconds: float, threads: int, record: Record) -> Claim:
    until = time.perf_counter() + seconds
    space, switches = instance.problem.space, Switches(instance.problem)
    rng, best, tries = np.random.default_rng(seed), np.inf, 0
    while time.perf_counter() < until:
        selection = space.sample(1, rng)[0]
        tries += 1
        if repair(switches, selection, until=until):
            value = switches.at(selection)[0][space.layout.flat(selection)[0]]
            if value < best:
                best = value
                record(selection)
    return Claim(note=f"{tries} tries")
