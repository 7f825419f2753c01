"""Large sums: feasibility, the least bound and the optimum of the same problem, and a million decisions."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.engine.rows import MAXIMISED, MINIMISED, Answer, Row, Size, of_result, taking_turns
from cggd import Additive, ChoiceSpace, find_feasible, maximize, minimize, smallest_bound

DECISIONS = (1_000, 2_000, 4_000, 10_000)
OPTIONS = 8

MILLION, GAP = 1_000_000, 1e-4
LIMITS = (None, 4.0, 10.0, 20.0)


def sums(n: int, seed: int) -> tuple[Additive, Additive, Additive]:
    """A value, a cost and a weight, whole numbers and decimals."""
    rng = np.random.default_rng([6, n, seed])
    space = ChoiceSpace.from_sizes([OPTIONS] * n)
    value = Additive(space, rng.integers(1, 200, space.n_options), name="value")
    cost = Additive(space, rng.integers(1, 200, space.n_options), name="cost")
    return value, cost, Additive(space, np.round(20 * rng.random(space.n_options), 2), name="weight")


def feasible(size: Size) -> Iterator[Row]:
    """`find_feasible`, `smallest_bound`, `minimize` and `maximize` under bounds on the same sums."""
    for n in (200,) if size.quick else DECISIONS:
        value, cost, weight = sums(n, seed=0)
        bounds = [cost <= 55 * n, weight <= 7 * n]

        def found(bounds=bounds) -> Answer:
            return {"status": find_feasible(bounds).status.name}

        def least(cost=cost, bounds=bounds) -> Answer:
            answer = smallest_bound(cost, bounds[1:])
            return {"value": answer.value, "status": "OPTIMAL" if answer.proved else "FEASIBLE"}

        methods = {
            "maximize": lambda value=value, bounds=bounds: of_result(maximize(value, bounds)),
            "minimize cost": lambda cost=cost, bounds=bounds: of_result(minimize(cost, bounds[1:])),
            "find_feasible": found,
            "smallest_bound": least,
        }
        for name, run, seconds, answer in taking_turns(methods, size.runs):
            sign = MAXIMISED if name == "maximize" else MINIMISED
            yield Row("feasible", f"{n:,} decisions", name, None, 0, run, seconds, sign, **answer)


def million(size: Size) -> Iterator[Row]:
    """A knapsack of 1e6 x 10 x 3, with a gap of 1e-4, without and with time limits, each in a process of its own."""
    n = 2_000 if size.quick else MILLION
    for limit in LIMITS[:2] if size.quick else LIMITS:
        command = [sys.executable, "-m", "benchmarks.engine.sums", str(n), json.dumps(limit)]
        ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
        name, where = "default" if limit is None else "time_limit", f"{n:,} x 10 x 3"
        if ended.returncode:
            note = (ended.stderr.strip().splitlines() or ["killed"])[-1]
            yield Row("million", where, name, limit, status="failed", note=note)
        else:
            yield Row("million", where, name, limit, sign=MAXIMISED, **json.loads(ended.stdout))


def _child(n: int, limit: float | None) -> Answer:
    import resource

    from benchmarks.scale import knapsack
    from cggd import solve

    problem = knapsack(n, "float64", seed=1)
    began = time.perf_counter()
    answer = of_result(solve(problem, gap=GAP, time_limit=limit))
    seconds, memory = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return answer | {"seconds": round(seconds, 3), "memory": round(memory, 3)}


if __name__ == "__main__":
    print(json.dumps(_child(int(sys.argv[1]), json.loads(sys.argv[2]))))
