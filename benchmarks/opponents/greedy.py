"""Greedy: from the leanest and from the best selection, repaired and then upgraded by value per scarce resource.

The rule for knapsacks (Toyoda 1975; Khan et al. 2002) and for assignments (Martello & Toth 1981), written with
replacement tables so that it serves any metric. It uses no chance, and ends where nothing gains any more.
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks.instances import Instance
from benchmarks.opponents.claim import Claim, Record
from benchmarks.opponents.repair import Switches, repair, upgrade


def solve(instance: Instance, *, seed: int, seconds: float, threads: int, record: Record) -> Claim:
    until = time.perf_counter() + seconds
    problem = instance.problem
    switches, layout = Switches(problem), problem.space.layout
    middle = problem.space.sizes // 2
    objective, values = switches.at(middle)
    resources = (values / switches.scales[:, None]).sum(axis=0)
    best = np.inf
    for ranking in (resources, objective):
        selection = layout.argmax(-ranking)
        if repair(switches, selection, until=until):
            record(selection)
            upgrade(switches, selection, until=until)
            value = switches.at(selection)[0][layout.flat(selection)[0]]
            if value < best:
                best = value
                record(selection)
    return Claim(note="ended by itself")
