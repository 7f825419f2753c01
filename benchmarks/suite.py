"""cggd and what users would use instead, on equal terms: ``python -m benchmarks.suite --help``.

Each run is a fresh process with the same number of threads. Its clock starts when the instance and the opponent's
library are loaded; building the model counts. What it records is evaluated again here, and only feasible improvements
before the limit count. Results are appended to a CSV file, and what stands there is not run again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.instances import Instance, catalogue
from benchmarks.runner import CLAIM, OPPONENTS, TRACE, Trace, read_trace
from cggd.datasets import data_folder

THREADS = 2
LIMITS = (1.0, 10.0, 60.0)

# Records this share of the limit, or this many seconds, too late still count: clocks of solvers are not exact.
GRACE, LEAST_GRACE = 0.05, 0.1
FAILED = "failed"
# Seconds after the limit until a run is killed, and until it must have loaded its instance and library.
PATIENCE, LOADING = 5.0, 120.0

QUICK = ("I03", "I07", "c_24", "gap12-0", "d05100", "topology latency+energy 5%", "random-1000", "black box I03")


@dataclass(frozen=True)
class Row:
    """One run, as it stands in the CSV file; None is an empty field."""

    family: str
    instance: str
    opponent: str
    seed: int
    limit_s: float
    value: float | None
    feasible: bool
    gap: float | None
    first_s: float | None
    within_1_s: float | None
    within_01_s: float | None
    proved: bool
    bound: float | None
    wall_s: float
    note: str


@dataclass(frozen=True)
class Task:
    instance: str
    opponent: str
    seed: int
    limit: float


def judge(instance: Instance, task: Task, trace: Trace, claim: dict) -> Row:
    """Evaluate everything that was recorded afresh, and keep the feasible improvements before the limit."""
    problem, late = instance.problem, task.limit + max(GRACE * task.limit, LEAST_GRACE)
    counted = trace.seconds <= late
    rows, seconds = problem.space.check_selections(trace.selections[counted]), trace.seconds[counted]
    feasible = np.ones(len(rows), dtype=bool)
    for constraint in problem.constraints:
        feasible &= constraint.satisfied(constraint.values(rows))
    rows, seconds = rows[feasible], seconds[feasible]
    values = problem.objective.evaluate(rows)
    best = np.minimum.accumulate(problem.sign * values) * problem.sign
    gaps = instance.gap(best)

    def first(mask: np.ndarray) -> float | None:
        return round(float(seconds[mask.argmax()]), 4) if mask.any() else None

    value = float(best[-1]) if len(best) else None
    bound, notes = claim.get("bound"), [claim["note"]] if claim.get("note") else []
    proved = bool(claim.get("proved")) and claim["wall"] <= late
    if not feasible.all():
        notes.append(f"{int((~feasible).sum())} of {len(feasible)} records infeasible")
    if proved and value is None:
        proved = False
        notes.append("claims a proof without a feasible selection")
    for what, known in (("its value", value), ("the best known value", instance.best_known)):
        # A bound that something beats is wrong; solvers stop within 1e-6 of theirs.
        if bound is not None and known is not None:
            beaten = problem.sign * (bound - known) > 1e-6 * max(1.0, abs(known))
            if beaten:
                proved = False
                notes.append(f"its bound is beaten by {what}")
    return Row(
        family=instance.family,
        instance=task.instance,
        opponent=task.opponent,
        seed=task.seed,
        limit_s=task.limit,
        value=value,
        feasible=value is not None,
        gap=None if value is None else round(float(np.asarray(gaps)[-1]), 6) + 0.0,  # the sum makes 0.0 of -0.0
        first_s=first(np.ones(len(best), dtype=bool)),
        within_1_s=first(np.asarray(gaps) <= 1.0),
        within_01_s=first(np.asarray(gaps) <= 0.1),
        proved=proved,
        bound=bound,
        wall_s=round(claim["wall"], 3),
        note="; ".join(notes),
    )


def execute(task: Task, folder: Path, launcher: Sequence[str] = ()) -> dict:
    """Run a task in a process of its own and return its claim; a run that does not end is killed."""
    command = [*launcher, sys.executable, "-m", "benchmarks.runner", task.instance, task.opponent, str(folder)]
    command += ["--seed", str(task.seed), "--seconds", str(task.limit), "--threads", str(THREADS)]
    libraries = ("OMP", "OPENBLAS", "MKL", "NUMEXPR")
    environment = os.environ | {f"{library}_NUM_THREADS": str(THREADS) for library in libraries}
    with (folder / "errors.txt").open("wb") as errors:
        process = subprocess.Popen(
            command,
            env=environment | {"PYTHONHASHSEED": "0"},
            cwd=Path(__file__).parents[1],
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            _until(process, (folder / TRACE).exists, LOADING)
            _until(process, lambda: False, task.limit + PATIENCE)
        finally:
            if killed := process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if (folder / CLAIM).exists():
        return json.loads((folder / CLAIM).read_text())
    if killed:
        return {"wall": task.limit + PATIENCE, "note": "killed after the limit"}
    last = (folder / "errors.txt").read_text(errors="replace").strip().splitlines()[-1:]
    return {"wall": 0.0, "note": f"{FAILED}: {last[0] if last else process.returncode}"}


def _until(process: subprocess.Popen, done: Callable[[], bool], seconds: float) -> None:
    """Wait for a process to end, or for something that it does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not done():
        try:
            process.wait(0.02)
            return
        except subprocess.TimeoutExpired:
            continue


def chosen(names: Sequence[str], patterns: Sequence[str], what: str) -> list[str]:
    """The names that match a pattern such as ``gap*``; a pattern that matches nothing is an error."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            sys.exit(f"no {what} {pattern!r}; there are {', '.join(names)}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file of results."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def main(arguments: Sequence[str] | None = None) -> None:
    names = catalogue()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/suite.csv"), help="CSV file; default %(default)s")
    parser.add_argument("--instances", nargs="+", default=["*"], metavar="PATTERN", help="such as I07 'gap1-*'")
    parser.add_argument("--opponents", nargs="+", default=["*"], metavar="PATTERN", help=", ".join(OPPONENTS))
    parser.add_argument("--limits", nargs="+", type=float, default=list(LIMITS), metavar="SECONDS")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED")
    parser.add_argument("--launcher", default="", help="command put before each run, such as 'taskset -c 0,1'")
    parser.add_argument("--quick", action="store_true", help="a few instances, 1 s, one seed, from scratch")
    asked = parser.parse_args(arguments)
    if asked.quick:
        asked.instances, asked.limits, asked.seeds = [n for n in QUICK if n in names], [1.0], [0]
        asked.out.unlink(missing_ok=True)
    if data_folder() is None:
        print("without CGGD_DATA: c_21, c_24, the assignments and the size space are left out")
    instances = chosen(list(names), asked.instances, "instance")
    opponents = chosen(list(OPPONENTS), asked.opponents, "opponent")
    for missing in [o for o in opponents if find_spec(OPPONENTS[o].package) is None]:
        print(f"{missing} is left out: {OPPONENTS[missing].package} is not installed")
        opponents.remove(missing)
    # What failed is no result; it is run again.
    rows = [row for row in read(asked.out) if not row["note"].startswith(FAILED)]
    stand = {(r["instance"], r["opponent"], int(r["seed"]), float(r["limit_s"])) for r in rows}
    tasks = [
        task
        for limit in sorted(asked.limits)
        for instance in instances
        for seed in asked.seeds
        for opponent in opponents
        if (instance, opponent, seed, limit) not in stand
        for task in [Task(instance, opponent, seed, limit)]
    ]
    longest = sum(task.limit + 1.0 for task in tasks) / 3600
    print(f"{len(tasks)} runs, {len(stand)} already there; at most about {longest:.2f} hours", flush=True)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    loaded: dict[str, Instance] = {}
    with asked.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(rows)
        file.flush()
        for number, task in enumerate(tasks, start=1):
            if task.instance not in loaded:
                loaded = {task.instance: names[task.instance]()}
            with tempfile.TemporaryDirectory() as folder:
                claim = execute(task, Path(folder), shlex.split(asked.launcher))
                trace = read_trace(Path(folder), loaded[task.instance].problem.space.n_decisions)
            row = judge(loaded[task.instance], task, trace, claim)
            writer.writerow(asdict(row))
            file.flush()
            gap = "nothing feasible" if row.gap is None else f"gap {row.gap:.3f} %"
            proof = ", proved" if row.proved else ""
            where = f"{task.limit:g} s  {task.instance}  {task.opponent}  seed {task.seed}"
            print(f"{number}/{len(tasks)}  {where}: {gap}{proof}  ({row.note})", flush=True)


if __name__ == "__main__":
    main()
