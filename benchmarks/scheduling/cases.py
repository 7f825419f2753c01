"""The instances in a common form for all methods, and the check of their answers.

All methods except cggd get most families as projects: tasks with modes, precedence, capacities, budgets and a deadline.
The *goal* differs: the makespan, the sum of the costs of the modes, or the cost of the copies of units that the tasks
share. Device placement has a separate form.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

from benchmarks.scheduling import clones, generated
from benchmarks.scheduling.shops import INSTANCES, read_best
from cggd.datasets import data_folder
from cggd_scheduling import Project, Requirements, Schedule, read_project
from cggd_scheduling.hls import read as read_synthesis
from cggd_scheduling.jobshop import JobShop, read_shops
from cggd_scheduling.jobshop import read as read_job_shop
from cggd_scheduling.placement import Placement
from cggd_scheduling.placement import read as read_placement
from cggd_scheduling.project import from_lists

Goal = Literal["makespan", "sum", "copies", "load"]

# Job shops of at most so many operations are small: CP-SAT proves nearly all of them within 5 s on one thread.
SMALL_SHOP = 100

# Activities, modes and resource strength of the random projects; the seed is 0.
DRAWN = [(n, modes, strength) for n in (12, 20, 30) for modes in (1, 3) for strength in (0.2, 0.5)]


@dataclass(frozen=True)
class Answer:
    """Modes (machines, units, devices) of the tasks, their starts, and a bound that the method claims."""

    modes: Mapping[Hashable, Hashable]
    start: Mapping[Hashable, Any] = field(default_factory=dict)
    bound: float | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """One instance.

    Attributes
    ----------
    family, name : str
        Names of the table and of the instance.
    problem : Project, Synthesis, JobShop or Placement
        The input of cggd.
    goal : {"makespan", "sum", "copies", "load"}
    needs : Requirements or None
        The input of the other methods; None for placements.
    cost : mapping of mode to number
        For the goals "sum" and "copies".
    reference : float or None
        The best value known.
    objective : str
        Objective of cggd.
    kind : str
        Kind of problem, which determines the methods that can solve it; by default the family.
    """

    family: str
    name: str
    problem: Any
    goal: Goal
    needs: Requirements | None
    cost: Mapping[Hashable, float] = field(default_factory=dict)
    reference: float | None = None
    objective: str = ""
    kind: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", self.kind or self.family)

    def value(self, answer: Answer) -> float:
        """Value of an answer, computed only from the instance; raises an error if the answer is infeasible."""
        if self.goal == "load":
            return self._load(answer)
        assert self.needs is not None
        schedule = Schedule(self.needs, answer.start, answer.modes).verify()
        if self.goal == "makespan":
            return float(schedule.makespan)
        if self.goal == "sum":
            return float(sum(self.cost[mode] for mode in answer.modes.values()))
        units = set(answer.modes.values())
        most = {unit: max((level for _, level in schedule.usage(unit)), default=0) for unit in units}
        return float(sum(n * self.cost[unit] for unit, n in most.items()))

    def _load(self, answer: Answer) -> float:
        problem: Placement = self.problem
        for group in problem.groups:
            if len({answer.modes[operator] for operator in group}) > 1:
                raise AssertionError(f"{group} must be on one device")
        for device in problem.devices:
            there = [problem.operators[op].memory for op, where in answer.modes.items() if where == device.name]
            if sum(there) > device.memory:
                raise AssertionError(f"{device.name} has too little memory")
        return max(problem.loads(answer.modes).values())


def folder() -> Path:
    """Folder of the public instances."""
    data = data_folder()
    if data is None:
        raise SystemExit("the public instances are not here: set CGGD_DATA")
    return data / "scheduling"


@cache
def projects(name: str) -> dict[str, Project]:
    """The projects of a set of PSPLIB or MMLIB."""
    data = json.loads(gzip.decompress((folder() / f"mmrcpsp_{name}.json.gz").read_bytes()))
    return {k: from_lists(d["modes"], d["succ"], d["cap"], d["nR"], name=k) for k, d in data.items()}


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((folder() / name).read_text().splitlines()))


def _modes(every: int) -> Iterator[Case]:
    for row in _rows("mode_only_optima.csv")[::every]:
        project = projects(row["set"].lower())[row["instance"]]
        needs = project.requirements(renewable=False)
        yield Case("modes", project.name, project, "makespan", needs, {}, float(row["min_critical_path"]))


def _projects(every: int) -> Iterator[Case]:
    best = {row["instance"]: float(row["best_makespan"]) for row in _rows("mmrcpsp_best_known.csv")}
    for name in ("j10", "j20", "mmlib50"):
        for project in list(projects(name).values())[every // 2 :: every]:
            needs = project.requirements()
            yield Case("projects", project.name, project, "makespan", needs, {}, best.get(project.name))


def _synthesis(shared: bool) -> Iterator[Case]:
    for row in _rows("hls_optima.csv"):
        what, latency = row["objective"], int(row["latency_bound"])
        if shared and what == "power":
            continue
        problem = read_synthesis(folder() / "hls_dfgs.json", graph=row["dfg"])
        needs = problem.requirements({}, latency)
        cost: dict[Hashable, float] = {name: getattr(unit, what) for name, unit in problem.unit.items()}
        name = f"{row['dfg'].split('_')[0]}, latency {latency}" + ("" if shared else f", {what}")
        known = None if shared else float(row["optimum"])
        family = "shared units" if shared else "units"
        yield Case(family, name, problem, "copies" if shared else "sum", needs, cost, known, what)


def _placement() -> Iterator[Case]:
    problem = read_placement(folder() / "placement_bert_l3.json.gz")
    yield Case("placement", "BERT-3", problem, "load", None, {}, 21.908, "load")


def _shop(family: str, name: str, shop: JobShop, best: float) -> Case:
    return Case(family, name, shop, "makespan", shop.requirements(), {}, best, kind="job shop")


def _flexible_shops() -> Iterator[Case]:
    for name, best in (("mk01", 40.0), ("mk04", 60.0)):
        yield _shop("flexible shops", name, read_job_shop(folder() / "fjsp.json.gz", instance=name), best)


def _classical_shops(large: bool) -> Iterator[Case]:
    best = read_best(INSTANCES / "job_shops.csv")
    for name, shop in read_shops(INSTANCES / "job_shops.txt").items():
        if large == (len(shop.operations) > SMALL_SHOP):
            yield _shop(f"{'large' if large else 'small'} classical shops", name, shop, float(best[name].upper))


def _unseen_projects() -> Iterator[Case]:
    # The optimum of j301_1 is from PSPLIB; no optima are published for the others.
    found = [read_project(path) for path in sorted(INSTANCES.glob("*.[ms]m"))]
    for project in [*found, *(generated.project(*size, seed=0) for size in DRAWN)]:
        best = 43.0 if project.name == "j301_1" else None
        yield Case(
            "unseen projects", project.name, project, "makespan", project.requirements(), {}, best, kind="projects"
        )


# Families of published instances that are read from clones; all others come with the project.
CLONED: dict[str, tuple[str, Callable[[], Iterator[tuple[str, Any, float | None]]]]] = {
    "published shops": ("job shop", clones.classical),
    "published flexible shops": ("job shop", clones.flexible),
    "projects of 120 activities": ("projects", clones.large_projects),
    "published placements": ("placement", clones.graphs),
}


def _cloned(family: str) -> Iterator[Case]:
    kind, read = CLONED[family]
    for name, problem, best in read():
        if kind == "placement":
            yield Case(family, name, problem, "load", None, {}, best, "load", kind)
        else:
            yield Case(family, name, problem, "makespan", problem.requirements(), {}, best, kind=kind)


def cases(quick: bool = False) -> dict[str, Callable[[], Iterator[Case]]]:
    """Families by name; each is a function that yields its instances."""
    return {
        "modes": lambda: _modes(60 if quick else 12),
        "projects": lambda: _projects(500 if quick else 180),
        "units": lambda: _thinned(_synthesis(shared=False), 12 if quick else 3),
        "shared units": lambda: _thinned(_synthesis(shared=True), 12 if quick else 2),
        "placement": _placement,
        "flexible shops": _flexible_shops,
        "small classical shops": lambda: _thinned(_classical_shops(large=False), 8 if quick else 1),
        "large classical shops": lambda: _thinned(_classical_shops(large=True), 8 if quick else 1),
        "unseen projects": lambda: _thinned(_unseen_projects(), 6 if quick else 1),
        **{family: partial(_cloned, family) for family in CLONED},
    }


def _thinned(all_: Iterator[Case], every: int) -> Iterator[Case]:
    yield from (case for number, case in enumerate(all_) if number % every == 0)
