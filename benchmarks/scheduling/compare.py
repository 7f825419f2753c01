"""Compare cggd with solvers, priority rules and a genetic algorithm: ``python -m benchmarks scheduling --help``.

Each run has a separate process, a time limit and one thread (or `--workers`). The answer is checked and evaluated from
the instance alone. When a run ends, a line is appended to a CSV file. Runs that are in the file are skipped, so an
interrupted comparison can be continued.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import itertools
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

from benchmarks.scheduling import report
from benchmarks.scheduling.cases import CLONED, Case, cases


@dataclass(frozen=True)
class Method:
    """A module that solves cases, the package that it needs, the kinds of problems it takes (None for all), and whether
    its answer depends on the seed; if not, it runs once."""

    module: str
    package: str
    kinds: frozenset[str] | None = None
    seeded: bool = True
    parallel: bool = False  # whether it can use several threads

    def takes(self, case: Case) -> bool:
        return self.kinds is None or case.kind in self.kinds


METHODS = {
    "cggd": Method("ours", "cggd_scheduling", parallel=True),
    "CP-SAT": Method("cp_sat", "ortools", parallel=True),
    "PyJobShop": Method("pyjobshop", "pyjobshop", frozenset({"modes", "projects", "job shop"}), parallel=True),
    "HiGHS": Method("highs", "scipy", frozenset({"modes", "units", "placement"}), seeded=False),
    "priority rule": Method("greedy", "networkx", seeded=False),
    "genetic": Method("genetic", "pymoo"),
}

# Relative error that bounds of solvers may have.
ROUNDING = 2e-6


@dataclass(frozen=True)
class Row:
    """One run, a row of the CSV file; without a value if the method found nothing.

    `seconds` is wall-clock time. `processor` is the processor time of the process on all cores, if measured.
    """

    family: str
    instance: str
    method: str
    seed: int
    limit: float
    value: float | None
    bound: float | None
    proved: bool
    reference: float | None
    seconds: float
    processor: float | None


def run(case: Case, method: str, *, seed: int, seconds: float, workers: int = 1) -> Row:
    """Run a method on a case and check its answer."""
    solver: ModuleType = importlib.import_module(f"benchmarks.scheduling.{METHODS[method].module}")
    began, before = time.perf_counter(), time.process_time()
    threads = {"workers": workers} if METHODS[method].parallel else {}
    answer = solver.solve(case, seed=seed, seconds=seconds, **threads)
    taken, processor = time.perf_counter() - began, time.process_time() - before
    value = None if answer is None else case.value(answer)
    bound = None if answer is None or answer.bound is None else float(answer.bound)
    proved = value is not None and bound is not None and value <= bound * (1 + ROUNDING) + 1e-9
    times = round(taken, 3), round(processor, 3)
    return Row(case.family, case.name, method, seed, seconds, value, bound, proved, case.reference, *times)


def run_alone(case: Case, method: str, *, seed: int, seconds: float, workers: int = 1, processor: bool = False) -> Row:
    """As `run`, in a separate process, so that threads left by a solver do not slow down the next run."""
    context = get_context("fork")  # with everything imported
    receiver, sender = context.Pipe(duplex=False)

    def work() -> None:
        limited = nullcontext()
        if processor:
            from benchmarks.scheduling.processor import processor_time  # it needs OR-tools

            limited = processor_time(workers)
        with limited:
            sender.send(run(case, method, seed=seed, seconds=seconds, workers=workers))

    process = context.Process(target=work)
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise RuntimeError(f"{method} on {case.name} ended without a result; see the error above") from None
    finally:
        process.join()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks scheduling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few instances, one second each")
    parser.add_argument("--families", nargs="+", choices=list(cases()), help="by default all that need no clones")
    parser.add_argument("--instances", nargs="+", help="by default all of the families")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), help="by default all that are installed")
    parser.add_argument("--seconds", type=float, help="of each run; by default 5, and 1 with --quick")
    parser.add_argument("--workers", type=int, default=1, help="threads of the methods that can use several")
    parser.add_argument(
        "--processor", action="store_true", help="count processor time of each thread (cggd, CP-SAT and PyJobShop)"
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--budget", type=float, default=float("inf"), help="start no run after this many seconds")
    parser.add_argument("--out", type=Path, default=Path("out/scheduling"))
    options = parser.parse_args(arguments)
    seconds = options.seconds or (1.0 if options.quick else 5.0)
    options.out.mkdir(parents=True, exist_ok=True)
    file, began = options.out / "scheduling.csv", time.perf_counter()
    done = {(r.family, r.instance, r.method, r.seed, r.limit) for r in read(file)}
    installed = [name for name, method in METHODS.items() if find_spec(method.package)]
    for name in options.methods or installed:
        importlib.import_module(f"benchmarks.scheduling.{METHODS[name].module}")
    # Seeds are the outer loop, so that an interrupted comparison has complete seeds.
    for seed, family in itertools.product(
        range(options.seeds), options.families or [name for name in cases() if name not in CLONED]
    ):
        for case in cases(options.quick)[family]():
            if options.instances and case.name not in options.instances:
                continue
            for name in options.methods or installed:
                method, key = METHODS[name], (family, case.name, name, seed, seconds)
                wanted = method.takes(case) and (method.seeded or seed == 0) and key not in done
                if wanted and time.perf_counter() - began < options.budget:
                    how = {"workers": options.workers, "processor": options.processor}
                    append(file, run_alone(case, name, seed=seed, seconds=seconds, **how))
    print(report.text(read(file)))


def read(file: Path) -> list[Row]:
    """The rows of a CSV file; none if it does not exist."""
    if not file.exists():
        return []

    def number(text: str) -> float | None:
        return float(text) if text else None

    return [
        Row(
            r["family"],
            r["instance"],
            r["method"],
            int(r["seed"]),
            float(r["limit"]),
            number(r["value"]),
            number(r["bound"]),
            r["proved"] == "True",
            number(r["reference"]),
            float(r["seconds"]),
            number(r["processor"]),
        )
        for r in csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    ]


def append(file: Path, row: Row) -> None:
    new = not file.exists()
    with file.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Row)], lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(asdict(row))
    value = "nothing" if row.value is None else f"{row.value:g}{' (proved)' if row.proved else ''}"
    print(f"{row.family}, {row.instance}: {row.method} {value} in {row.seconds:.2f} s", flush=True)
