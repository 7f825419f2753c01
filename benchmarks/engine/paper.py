"""The paper's rule alone on NATS tables: its regret, and a digest of each trajectory to compare two versions by."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.engine.rows import MAXIMISED, Row, Size, of_result
from benchmarks.instances import catalogue
from cggd import Problem, Progress, Result, solve
from cggd.improve.descent import PAPER, Descent

SEEDS, STEPS = 10, 600
INSTANCES = ("topology latency", "topology latency+energy", "topology latency+energy 5%", "size params")

# A digest has one part for each of so many prefixes of the trajectory, so that it tells where two begin to differ.
PREFIXES = 8


def descend(problem: Problem, seed: int) -> tuple[Result, NDArray[np.int64]]:
    """One start by the paper's rule alone, and the selection of each step, shape (n_steps, n_decisions)."""
    seen: list[NDArray[np.int64]] = []

    def watch(progress: Progress) -> None:
        assert progress.selection is not None
        seen.append(progress.selection.copy())

    result = solve(problem, seed=seed, improvers=[Descent(STEPS, [PAPER])], callback=watch)
    return result, np.array(seen, dtype=np.int64)


def digest(trajectory: NDArray[np.int64]) -> str:
    """The number of steps, and six digits for each eighth of the trajectory with all before it."""
    rows = np.ascontiguousarray(trajectory, dtype="<i4")
    ends = [len(rows) * (k + 1) // PREFIXES for k in range(PREFIXES)]
    return "-".join([str(len(rows)), *(hashlib.sha256(rows[:end].tobytes()).hexdigest()[:6] for end in ends)])


def compared(now: str, before: str) -> str:
    """What two digests say: ``identical``, or from which steps on two trajectories may differ."""
    if now == before:
        return "identical"
    (steps, *parts), (others, *old) = now.split("-"), before.split("-")
    if steps != others:
        return f"{steps} steps, not {others}"
    first = next(k for k, (a, b) in enumerate(zip(parts, old, strict=True)) if a != b)
    n = int(steps)
    return f"differs between steps {n * first // PREFIXES + 1} and {n * (first + 1) // PREFIXES}"


def descent(size: Size) -> Iterator[Row]:
    """The descent by the paper's rule alone."""
    loads = catalogue()
    for name in INSTANCES[:1] if size.quick else [name for name in INSTANCES if name in loads]:
        instance = loads[name]()
        for seed in size.several(SEEDS):
            began = time.perf_counter()
            result, trajectory = descend(instance.problem, seed)
            seconds = round(time.perf_counter() - began, 4)
            row = {"known": instance.best_known, "digest": digest(trajectory), **of_result(result)}
            yield Row("descent", name, "paper's rule", None, seed, 0, seconds, MAXIMISED, **row)
