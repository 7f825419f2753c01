"""Flexible job shops: jobs are chains of operations, each on one of several machines."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import networkx as nx
from scipy import sparse

from cggd import ChoiceSpace, LongestPath, Metric, Peak, maximum
from cggd.checks import as_amount, own
from cggd.io import check_keys
from cggd.io.text import read_text
from cggd.space import few
from cggd_scheduling.files import load_json, named, package, suffix, unpacked
from cggd_scheduling.schedule import Alternative, Requirements

Operation = tuple[int, int]


@dataclass(frozen=True, eq=False)
class JobShop:
    """The flexible job shop problem: choose a machine for each operation, and the order on each machine.

    Operation ``(j, i)`` is the i-th of job j, from 0; it starts when the one before it has ended.

    Parameters
    ----------
    jobs : sequence of sequences of mappings of machine to duration
        ``jobs[j][i]`` has the machines that can carry out operation ``(j, i)``.
    name : str
    unit : str
        Of time.
    release, due, weights : mapping of job (its position, from 0) to number, optional
        No operation of a job starts before its release. Due dates, and the weights of tardiness (1 by default), matter
        where the tardiness is made least.
    setups : mapping of machine to (mapping of (job, job) to number), optional
        Time between an operation of the first job on a machine and an operation of the second that comes next there; 0
        where nothing is said.

    Raises
    ------
    ValueError
        If an operation has no machine, or a duration is negative.

    Examples
    --------
    >>> shop = JobShop([[{"saw": 3, "mill": 2}, {"mill": 2}], [{"mill": 2}, {"saw": 1}]])
    >>> shop.machines, shop.precedence
    (['mill', 'saw'], [((0, 0), (0, 1)), ((1, 0), (1, 1))])

    `schedule_jobs` solves it.
    """

    # Set by the module of `schedule_jobs`, which knows this one.
    solve: ClassVar[Callable[..., Any]]

    jobs: Sequence[Sequence[Mapping[Hashable, Any]]]
    name: str = ""
    unit: str = ""
    release: Mapping[int, Any] = field(default_factory=dict, kw_only=True)
    due: Mapping[int, Any] = field(default_factory=dict, kw_only=True)
    weights: Mapping[int, Any] = field(default_factory=dict, kw_only=True)
    setups: Mapping[Hashable, Mapping[tuple[int, int], Any]] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        for j, job in enumerate(self.jobs):
            if not isinstance(job, Sequence) or isinstance(job, str):
                raise TypeError(f"job {j} must be a list of operations, got {job!r}")
            if wrong := [i for i, machines in enumerate(job) if not isinstance(machines, Mapping)]:
                got = f"got {job[wrong[0]]!r}"
                raise TypeError(f"operation {wrong[0]} of job {j} must map machines to durations, {got}")
        own(self, jobs=tuple(tuple(dict(machines) for machines in job) for job in self.jobs))
        for (j, i), machines in self.operations.items():
            if not machines:
                raise ValueError(f"operation {i} of job {j} has no machine; give it at least one")
            for machine, duration in machines.items():
                as_amount(duration, f"duration of operation {i} of job {j} on {machine!r}")
        if unknown := [machine for machine in self.setups if machine not in self.machines]:
            raise ValueError(f"setups names machine {unknown[0]!r}; there are {few(self.machines)}")
        parts = {name: dict(getattr(self, name)) for name in ("release", "due", "weights")}
        for name, numbers in [*parts.items(), *((f"setups of {m!r}", s) for m, s in self.setups.items())]:
            for key, number in numbers.items():
                jobs = key if isinstance(key, tuple) else (key,)
                if wrong := [j for j in jobs if j not in range(len(self.jobs))]:
                    raise ValueError(f"{name} names job {wrong[0]!r}; there are jobs 0 to {len(self.jobs) - 1}")
                as_amount(number, f"{name} of {key!r}")
        own(self, **parts)

    @cached_property
    def operations(self) -> dict[Operation, Mapping[Hashable, Any]]:
        """The machines of each operation, with durations."""
        return {(j, i): machines for j, job in enumerate(self.jobs) for i, machines in enumerate(job)}

    @cached_property
    def machines(self) -> list[Hashable]:
        """All machines, in order where they have one."""
        known = dict.fromkeys(machine for machines in self.operations.values() for machine in machines)
        try:
            return sorted(known)  # pyright: ignore[reportArgumentType] - labels of several types have no order
        except TypeError:
            return list(known)

    @cached_property
    def precedence(self) -> list[tuple[Operation, Operation]]:
        """Which operation comes next after which."""
        return [((j, i), (j, i + 1)) for j, job in enumerate(self.jobs) for i in range(len(job) - 1)]

    # -- as a problem of the core -------------------------------------------------------------------------------------

    @cached_property
    def space(self) -> ChoiceSpace:
        """A decision per operation; its options are machines."""
        if not self.operations:
            raise ValueError("the job shop has no operations, so that nothing is to be chosen")
        return ChoiceSpace({op: list(machines) for op, machines in self.operations.items()})

    @cached_property
    def least_makespan(self) -> Metric:
        """What the makespan is at the least, given the machines: the largest load of one, or the longest job."""
        flat = [float(d) for machines in self.operations.values() for d in machines.values()]
        names = [machine for machines in self.operations.values() for machine in machines]
        row = {machine: r for r, machine in enumerate(self.machines)}
        usage = sparse.csr_array(
            (flat, ([row[m] for m in names], range(len(flat)))), shape=(len(row), self.space.n_options)
        )
        graph = nx.DiGraph()
        graph.add_nodes_from(self.operations)
        graph.add_edges_from(self.precedence)
        load = Peak(self.space, None, usage, name="largest load", unit=self.unit)
        # A tuple names an edge to the core, so that nodes get their place in lists.
        at: dict[Hashable, Iterable[Hashable]] = {op: [op] for op in self.operations}
        longest = LongestPath(self.space, graph, flat, at=at, name="longest job", unit=self.unit)
        return maximum(load, longest, name="least makespan")

    def requirements(self, deadline: Any = None) -> Requirements:
        """What the checker of schedules reads."""
        tasks: dict[Hashable, Mapping[Hashable, Alternative]] = {
            op: {m: Alternative(d, {m: 1}) for m, d in machines.items()} for op, machines in self.operations.items()
        }
        last = {j: (j, len(job) - 1) for j, job in enumerate(self.jobs) if job}
        on: dict[Hashable, list[Operation]] = {
            machine: [op for op, machines in self.operations.items() if machine in machines] for machine in self.setups
        }
        return Requirements(
            tasks,
            self.precedence,
            capacities=dict.fromkeys(self.machines, 1),
            deadline=deadline,
            unit=self.unit,
            release={(j, 0): time for j, time in self.release.items() if j in last},
            due={last[j]: time for j, time in self.due.items() if j in last},
            weights={last[j]: weight for j, weight in self.weights.items() if j in last},
            setups={
                machine: {(a, b): s[a[0], b[0]] for a in on[machine] for b in on[machine] if (a[0], b[0]) in s}
                for machine, s in self.setups.items()
            },
        )


def read(path: str | PathLike, *, instance: str | None = None) -> JobShop:
    """Read a job shop from a ``.fjs`` file of the FJSPLIB form, or from JSON.

    The first line of a ``.fjs`` file has the numbers of jobs and machines; each further line is a job: the number of
    its operations, then for each the number of machines and pairs of machine, from 1, and duration. JSON (gzipped or
    not) has ``jobs[j][i]``, a list of pairs of machine and duration, and where wanted ``name``, ``n_jobs`` and
    ``n_machines``; or several such objects by name. Any other key is an error. Machines are numbered from 0 in a job
    shop that was read.

    Parameters
    ----------
    path : path
    instance : str, optional
        Which of several in a JSON file.

    Raises
    ------
    ValueError
        If the file holds something else; the message names the file.
    """
    path = Path(path)
    if suffix(path) not in (".fjs", ".txt", ".json"):
        raise ValueError(f"{path}: expected a file that ends in .fjs, .txt or .json")
    with named(path):
        jobs, name = _of_json(path, instance) if suffix(path) == ".json" else (_of_fjs(path), path.name.split(".")[0])
        return JobShop([[_distinct(pairs) for pairs in job] for job in jobs], name)


def _of_fjs(path: Path) -> list[list[list[tuple[int, int]]]]:
    fjsplib = package("fjsplib", ".fjs files")
    lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
    if not lines or len(lines[0]) < 2:
        raise ValueError("not a .fjs file: the first line must have the numbers of jobs and machines")
    # fjsplib reads what it needs of a line and cuts fractions off, so that both must be caught before.
    for number, line in enumerate(lines[1:], 1):
        if wrong := [word for word in line if not float(word).is_integer()]:
            raise ValueError(f"job {number} has the number {wrong[0]}, and all of its numbers must be whole")
        numbers, at = [int(float(word)) for word in line], 1
        for i in range(numbers[0]):
            if at >= len(numbers):
                raise ValueError(f"job {number} ends before its operation {i + 1} of {numbers[0]}")
            at += 1 + 2 * numbers[at]
        if at != len(numbers):
            raise ValueError(f"job {number} has {len(numbers)} numbers; its {numbers[0]} operations make {at}")
    with unpacked(path) as plain:
        found = fjsplib.read(plain)
    if len(found.jobs) != found.num_jobs:
        raise ValueError(f"the first line says {found.num_jobs} jobs, and {len(found.jobs)} follow")
    for j, job in enumerate(found.jobs, 1):
        if wrong := [m + 1 for pairs in job for m, _ in pairs if not 0 <= m < found.num_machines]:
            raise ValueError(f"job {j} names machine {wrong[0]}; there are machines 1 to {found.num_machines}")
    return found.jobs


def _of_json(path: Path, instance: str | None) -> tuple[Any, str]:
    data = load_json(path)
    if not isinstance(data, dict):
        raise ValueError('expected an object with "jobs"')
    shops = {data.get("name", path.stem): data} if "jobs" in data else data
    if instance is None and len(shops) > 1:
        raise ValueError(f"it holds {len(shops)} job shops; say which: {few(shops)}")
    name = instance if instance is not None else next(iter(shops), "")
    if name not in shops or not isinstance(shops[name], dict) or "jobs" not in shops[name]:
        raise ValueError(f"it holds no job shop {name!r}; there are {few(shops)}")
    shop = shops[name]
    check_keys(shop, ("name", "jobs", "n_jobs", "n_machines"), f"job shop {name!r}")
    jobs = shop["jobs"]
    counted = {"n_jobs": len(jobs), "n_machines": len({pair[0] for job in jobs for pairs in job for pair in pairs})}
    if shop.get("n_jobs", len(jobs)) != counted["n_jobs"]:
        raise ValueError(f"n_jobs says {shop['n_jobs']} jobs, and jobs has {counted['n_jobs']}")
    if shop.get("n_machines", counted["n_machines"]) < counted["n_machines"]:
        raise ValueError(f"n_machines says {shop['n_machines']} machines, and jobs names {counted['n_machines']}")
    return jobs, name


def _distinct(pairs: Sequence[Sequence[Any]]) -> dict[Any, Any]:
    machines = dict(map(tuple, pairs))
    if len(machines) < len(pairs):
        raise ValueError(f"an operation names a machine twice: {pairs!r}")
    return machines
