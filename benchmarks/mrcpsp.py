"""Whole sets of multi-mode projects, and of mode selections: ``python -m benchmarks.mrcpsp SET [SCHEDULES]``.

SET is j10, j20, mmlib50, modes, or large: mode selections of 2,000 activities with 5 modes, made at random, whose
deviation is that from the bound. A line per instance is appended to a CSV file as it is solved, and instances that it
has are left out, so that a run may be cut off and goes on. The mean deviation from the best known makespans, of
all instances solved so far, is printed at the end.
"""

import argparse
import csv
import gzip
import json
import time
from math import ceil
from pathlib import Path
from statistics import mean, median

import numpy as np

from cggd.datasets import data_folder
from cggd_scheduling import Project, schedule_project, select_modes
from cggd_scheduling.project import from_lists

COLUMNS = ("instance", "makespan", "best_known", "bound", "status", "seconds")
SETS = ("j10", "j20", "mmlib50")

# Shares of the range of costs that the two budgets of large mode selections allow.
TIGHTNESS = (0.55, 0.3, 0.2)


def folder() -> Path:
    data = data_folder()
    if data is None:
        raise SystemExit("the sets of PSPLIB and MMLIB are not here: set CGGD_DATA")
    return data / "scheduling"


def instances(name: str) -> dict[str, Project]:
    data = json.loads(gzip.decompress((folder() / f"mmrcpsp_{name}.json.gz").read_bytes()))
    return {k: from_lists(d["modes"], d["succ"], d["cap"], d["nR"], name=k) for k, d in data.items()}


def rows_of(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines())) if file.exists() else []


def large(tightness: float, activities: int = 2000, modes: int = 5) -> Project:
    """A project with two predecessors for each activity, whose faster modes cost more of both budgets."""
    rng = np.random.default_rng(0)
    pairs = [(int(a), b) for b in range(1, activities)
             for a in rng.choice(np.arange(max(0, b - 60), b), size=min(b, 2), replace=False)]  # fmt: skip
    durations = np.sort(rng.integers(1, 30, (activities, modes)), axis=1)
    costs = {name: -np.sort(-rng.integers(1, 50, (activities, modes)), axis=1) for name in ("N1", "N2")}
    budgets = {k: int(tightness * c.max(1).sum() + (1 - tightness) * c.min(1).sum()) for k, c in costs.items()}
    tasks = {
        a: [(int(durations[a, m]), {k: int(c[a, m]) for k, c in costs.items()}) for m in range(modes)]
        for a in range(activities)
    }
    return Project(tasks, pairs, nonrenewable=budgets, name=f"{activities}x{modes} {tightness:.0%}")


def problems(name: str) -> list[tuple[Project, int | None]]:
    """Projects with their best known makespans, or with the proved critical paths of mode selection."""
    if name == "large":
        return [(large(tightness), None) for tightness in TIGHTNESS]
    if name == "modes":
        known = {s: instances(s) for s in SETS}
        rows = rows_of(folder() / "mode_only_optima.csv")
        return [(known[r["set"].lower()][r["instance"]], int(float(r["min_critical_path"]))) for r in rows]
    best = {r["instance"]: int(r["best_makespan"]) for r in rows_of(folder() / "mmrcpsp_best_known.csv")}
    return [(project, best[k]) for k, project in instances(name).items()]


def report(file: Path) -> str:
    rows = rows_of(file)
    gaps = [int(r["makespan"]) / int(r["best_known"]) - 1 for r in rows if r["makespan"]]
    seconds = [float(r["seconds"]) for r in rows]
    n, optimal = len(gaps), sum(r["status"] == "OPTIMAL" for r in rows)
    return (
        f"{n} of {len(rows)} feasible; mean deviation {mean(gaps):.3%}, largest {max(gaps):.1%}; best known reached "
        f"{sum(g <= 0 for g in gaps) / n:.1%}; proved optimal {optimal / n:.1%}; "
        f"seconds: median {median(seconds):.2f}, mean {mean(seconds):.2f}, largest {max(seconds):.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=[*SETS, "modes", "large"])
    parser.add_argument("schedules", type=int, nargs="?", default=5000)
    parser.add_argument("--every", type=int, default=1, help="take every n-th instance")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no instance after this many")
    parser.add_argument("--out", type=Path, help="CSV file; by default in benchmarks/results/")
    options = parser.parse_args()
    file = options.out or Path(__file__).parent / "results" / f"mrcpsp_{options.set}_{options.schedules}.csv"
    done, began = {r["instance"] for r in rows_of(file)}, time.perf_counter()
    for project, best in problems(options.set)[:: options.every]:
        if project.name in done:
            continue
        if time.perf_counter() - began > options.seconds:
            break
        if options.set in ("modes", "large"):
            found = select_modes(project)
        else:
            found = schedule_project(project, schedules=options.schedules)
        new = not file.exists()
        with file.open("a", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            if new:
                writer.writerow(COLUMNS)
            makespan = found.makespan if found.feasible else ""
            seconds = f"{found.seconds:.3f}"
            best = ceil(found.bound - 1e-6) if best is None else best
            writer.writerow([project.name, makespan, best, found.bound, found.status.name, seconds])
    print(f"{options.set}, {options.schedules} schedules: {report(file)}")


if __name__ == "__main__":
    main()
