"""Classical job shops: the text format of OR-Library and JSPLIB, and the best makespans known."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cggd_scheduling.files import named
from cggd_scheduling.jobshop import JobShop

# Sources and licences are in its README.md.
INSTANCES = Path(__file__).with_name("instances")


@dataclass(frozen=True)
class Best:
    """What is known of the least makespan of an instance, and where that is published."""

    jobs: int
    machines: int
    lower: int
    upper: int
    source: str


def read_shops(path: Path) -> dict[str, JobShop]:
    """Read the job shops of a text file, by name.

    A shop is a line with the numbers of jobs and machines, then a line for each job: pairs of machine, from 0, and
    duration, one for each machine, in the order in which the job visits them. Where a file has several, a line
    ``instance NAME`` stands before each; else the shop has the name of the file. Other lines before the numbers of jobs
    and machines are headings.

    Raises
    ------
    ValueError
        If the file holds something else; the message names file, shop and job.
    """
    with named(path):
        shops: dict[str, JobShop] = {}
        for name, lines in _sections(path.read_text(encoding="utf-8").splitlines(), path.stem):
            if name in shops:
                raise ValueError(f"instance {name} is there twice")
            shops[name] = _shop(name, lines)
        return shops


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


def _sections(lines: Sequence[str], stem: str) -> Iterator[tuple[str, list[list[str]]]]:
    """The words of the lines of each shop, from the numbers of jobs and machines on."""
    words = [line.split() for line in lines]
    begins = [n for n, line in enumerate(words) if line[:1] == ["instance"] and len(line) == 2]
    for begin, end in zip(begins or [-1], [*begins[1:], len(words)], strict=True):
        name = words[begin][1] if begins else stem
        body = words[begin + 1 : end]
        size = next((n for n, line in enumerate(body) if len(line) == 2 and all(map(str.isdecimal, line))), None)
        if size is None:
            raise ValueError(f"instance {name}: expected a line with the numbers of jobs and machines, and found none")
        yield name, [line for line in body[size:] if line and any(map(str.isalnum, line[0]))]


def _shop(name: str, lines: Sequence[Sequence[str]]) -> JobShop:
    n_jobs, n_machines = map(int, lines[0])
    if len(lines) - 1 != n_jobs:
        raise ValueError(f"instance {name}: expected {n_jobs} lines of jobs, got {len(lines) - 1}")
    jobs = []
    for job, line in enumerate(lines[1:], start=1):
        where = f"instance {name}, job {job}"
        if wrong := [word for word in line if not word.isdecimal()]:
            raise ValueError(f"{where}: expected whole numbers of at least 0, got {wrong[0]!r}")
        if len(line) != 2 * n_machines:
            raise ValueError(f"{where}: expected {n_machines} pairs of machine and duration, got {len(line)} numbers")
        numbers = [int(word) for word in line]
        if sorted(numbers[::2]) != list(range(n_machines)):
            raise ValueError(f"{where}: expected each machine of 0 to {n_machines - 1} once, got {numbers[::2]}")
        jobs.append([{machine: duration} for machine, duration in zip(numbers[::2], numbers[1::2], strict=True)])
    return JobShop(jobs, name)
