"""One run of one opponent on one instance, in a process of its own; the suite starts it.

What the opponent records goes to a file at once, with its time, so that nothing is lost when the process is killed:
a run is cut off there, and what it had recorded counts.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from benchmarks.instances import Instance, catalogue, further
from benchmarks.opponents.claim import Claim, NeedsStructureError


@dataclass(frozen=True)
class Opponent:
    """The module of an opponent, and the package without which it cannot run."""

    module: str
    package: str


OPPONENTS = {
    "cggd": Opponent("cggd_search", "cggd"),
    "CP-SAT": Opponent("cp_sat", "ortools"),
    "HiGHS": Opponent("highs", "highspy"),
    "pymoo GA": Opponent("pymoo_ga", "pymoo"),
    "Optuna TPE": Opponent("optuna_tpe", "optuna"),
    "annealing": Opponent("annealing", "cggd"),
    "random": Opponent("random_feasible", "cggd"),
    "greedy": Opponent("greedy", "cggd"),
}

# Searches that know nothing but values, for black boxes; the suite leaves them out.
SIMPLE = {
    "random search": Opponent("random_search", "cggd"),
    "hill climbing": Opponent("hill_climbing", "cggd"),
}

TRACE, CLAIM = "trace.bin", "claim.json"


@dataclass(frozen=True, eq=False)
class Trace:
    """What an opponent recorded: seconds since it began, shape (n,), and selections, shape (n, n_decisions)."""

    seconds: NDArray[np.float64]
    selections: NDArray[np.int64]


def solver(opponent: str) -> Callable[..., Claim]:
    """The `solve` of an opponent; imports what it needs."""
    return importlib.import_module(f"benchmarks.opponents.{(OPPONENTS | SIMPLE)[opponent].module}").solve


def run(solve: Callable[..., Claim], instance: Instance, folder: Path, *, seed: int, seconds: float, threads: int):
    """Let an opponent solve an instance; what it records and claims goes to files in a folder."""
    with (folder / TRACE).open("wb", buffering=0) as file:
        began = time.perf_counter()
        note, claim = "", Claim()
        try:
            record = _recorder(file, began)
            claim = solve(instance, seed=seed, seconds=seconds, threads=threads, record=record)
        except NeedsStructureError as error:
            note = str(error)
        wall = time.perf_counter() - began
    answer = asdict(claim) | {"wall": wall, "note": note or claim.note}
    # A reader must not see half of it.
    draft = folder / (CLAIM + ".draft")
    draft.write_text(json.dumps(answer))
    draft.rename(folder / CLAIM)


def _recorder(file: BinaryIO, began: float) -> Callable[[NDArray], None]:
    def record(selection: NDArray) -> None:
        now = time.perf_counter() - began
        file.write(np.float64(now).tobytes() + np.asarray(selection).astype("<u2").tobytes())

    return record


def read_trace(folder: Path, n_decisions: int) -> Trace:
    """Read what was recorded; an entry that was cut off is left out."""
    entry = np.dtype([("seconds", "<f8"), ("selection", "<u2", (n_decisions,))])
    data = (folder / TRACE).read_bytes() if (folder / TRACE).exists() else b""
    entries = np.frombuffer(data[: len(data) // entry.itemsize * entry.itemsize], dtype=entry)
    return Trace(entries["seconds"].astype(float), entries["selection"].astype(np.int64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("instance")
    parser.add_argument("opponent", choices=[*OPPONENTS, *SIMPLE])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--threads", type=int, required=True)
    asked = parser.parse_args()
    instance, solve = (catalogue() | further())[asked.instance](), solver(asked.opponent)
    run(solve, instance, asked.folder, seed=asked.seed, seconds=asked.seconds, threads=asked.threads)


if __name__ == "__main__":
    main()
