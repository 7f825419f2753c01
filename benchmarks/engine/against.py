"""Assignments and cheap black boxes against solvers and metaheuristics, by the means of the suite (`benchmarks.suite`).

Each run is a process of its own with `benchmarks.suite.THREADS` threads or workers, and what it records is judged here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.engine.rows import Row, Size, skipped
from benchmarks.instances import Instance, catalogue, further
from benchmarks.runner import OPPONENTS, SIMPLE, read_trace
from benchmarks.suite import FAILED, Task, execute, judge

LIMITS = (1.0, 10.0)

ASSIGNMENTS = ("c05100", "d05100", "e05100", "e10100", "e20100", "e10x100-1", "e20x200-2")
EXACT = ("cggd", "HiGHS", "CP-SAT")

BLACK_BOXES = ("black box I03", "black box I07", "black box c_24")
SIMPLE_SEARCHES = ("cggd", "pymoo GA", "random search", "hill climbing")


def gap(size: Size) -> Iterator[Row]:
    """Generalised assignment of types c, d and e against exact solvers."""
    yield from _against("gap", ("e10x100-1",) if size.quick else ASSIGNMENTS, EXACT, size, 3)


def blackbox(size: Size) -> Iterator[Row]:
    """Knapsacks of which nothing is known but the values of selections."""
    yield from _against("blackbox", BLACK_BOXES[:1] if size.quick else BLACK_BOXES, SIMPLE_SEARCHES, size, 5)


def _against(part: str, names: Sequence[str], opponents: Sequence[str], size: Size, seeds: int) -> Iterator[Row]:
    loads, known = catalogue() | further(), OPPONENTS | SIMPLE
    if absent := [name for name in names if name not in loads]:
        yield skipped(part, f"{', '.join(absent)}: no data; set CGGD_DATA, and CGGD_GAP_E for type e")
    if missing := [name for name in opponents if find_spec(known[name].package) is None]:
        yield skipped(part, f"{', '.join(missing)}: not installed")
    for name in [name for name in names if name in loads]:
        instance = loads[name]()
        for limit in (0.3,) if size.quick else LIMITS:
            for seed in size.several(seeds):
                for opponent in [name for name in opponents if name not in missing]:
                    yield _run(part, instance, Task(name, opponent, seed, limit))


def _run(part: str, instance: Instance, task: Task) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        claim = execute(task, Path(folder))
        found = judge(instance, task, read_trace(Path(folder), instance.problem.space.n_decisions), claim)
    status = "OPTIMAL" if found.proved else "FEASIBLE" if found.feasible else "UNKNOWN"
    return Row(
        part,
        task.instance,
        task.opponent,
        task.limit,
        task.seed,
        0,
        found.wall_s,
        instance.problem.sign,
        found.value,
        found.bound,
        instance.best_known,
        FAILED if found.note.startswith(FAILED) else status,
        note=found.note,
    )
