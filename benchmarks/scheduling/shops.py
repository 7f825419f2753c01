"""The best makespans known of classical job shops."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from cggd_scheduling.files import named

# Sources and licences are in README.md there.
INSTANCES = Path(__file__).with_name("instances")


@dataclass(frozen=True)
class Best:
    """Bounds known for the least makespan of an instance, and their source."""

    jobs: int
    machines: int
    lower: int
    upper: int
    source: str


def read_best(path: Path) -> dict[str, Best]:
    """Read the best makespans known from a CSV file with the columns of `Best` after ``instance``."""
    with named(path):
        best: dict[str, Best] = {}
        for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
            name = row["instance"]
            jobs, machines, lower, upper = (int(row[column]) for column in ("jobs", "machines", "lower", "upper"))
            known = Best(jobs, machines, lower, upper, row["source"])
            if name in best:
                raise ValueError(f"instance {name} is there twice")
            if not 0 <= known.lower <= known.upper:
                raise ValueError(f"instance {name}: the lower bound {known.lower} is above the makespan {known.upper}")
            if not known.source:
                raise ValueError(f"instance {name}: the source is missing")
            best[name] = known
        return best
