"""Flexible job shops: jobs are chains of operations, each carried out by one of several machines."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import networkx as nx
from scipy import sparse

from cggd import ChoiceSpace, LongestPath, Metric, Peak, maximum
from cggd.checks import as_amount, own
from cggd.space import few
from cggd_scheduling.schedule import Alternative, Requirements

Operation = tuple[int, int]


@dataclass(frozen=True, eq=False)
class JobShop:
    """The flexible job shop problem: choose a machine for each operation, and the order on each machine.

    Operation ``(j, i)`` is operation i of job j, both counted from 0. It starts after operation ``(j, i - 1)`` ends.

    Parameters
    ----------
    jobs : sequence of sequences of mappings of machine to duration
        ``jobs[j][i]`` maps the machines that can carry out operation ``(j, i)`` to its duration there.
    name : str
    unit : str
        Unit of time.
    release, due, weights : mapping of job (its position, from 0) to number, optional
        Earliest starts; due dates; weights of the tardiness (by default 1). Due dates and weights matter only if the
        tardiness is minimised.
    setups : mapping of machine to (mapping of (job, job) to number), optional
        Least time between consecutive operations on a machine, by their jobs; by default 0.
    lags, longest_lags : mapping of (operation, operation) to number, optional
        Least and most time between the end of an operation and the start of the next one of its job.

    Raises
    ------
    ValueError
        If an operation has no machine, a duration is negative, or an unknown job, operation or machine is named.

    Examples
    --------
    >>> shop = JobShop([[{"saw": 3, "mill": 2}, {"mill": 2}], [{"mill": 2}, {"saw": 1}]])
    >>> shop.machines, shop.precedence
    (['mill', 'saw'], [((0, 0), (0, 1)), ((1, 0), (1, 1))])

    `schedule_jobs` solves it.
    """

    # Set by the module of `schedule_jobs`, which imports this one.
    solve: ClassVar[Callable[..., Any]]

    jobs: Sequence[Sequence[Mapping[Hashable, Any]]]
    name: str = ""
    unit: str = ""
    release: Mapping[int, Any] = field(default_factory=dict, kw_only=True)
    due: Mapping[int, Any] = field(default_factory=dict, kw_only=True)
    weights: Mapping[int, Any] = field(default_factory=dict, kw_only=True)
    setups: Mapping[Hashable, Mapping[tuple[int, int], Any]] = field(default_factory=dict, kw_only=True)

    lags: Mapping[tuple[Hashable, Hashable], Any] = field(default_factory=dict, kw_only=True)
    longest_lags: Mapping[tuple[Hashable, Hashable], Any] = field(default_factory=dict, kw_only=True)

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
        parts: dict[str, dict[Any, Any]] = {name: dict(getattr(self, name)) for name in ("release", "due", "weights")}
        for name, numbers in [*parts.items(), *((f"setups of {m!r}", s) for m, s in self.setups.items())]:
            for key, number in numbers.items():
                jobs = key if isinstance(key, tuple) else (key,)
                if wrong := [j for j in jobs if j not in range(len(self.jobs))]:
                    raise ValueError(f"{name} names job {wrong[0]!r}; there are jobs 0 to {len(self.jobs) - 1}")
                as_amount(number, f"{name} of {key!r}")
        following: set[tuple[Hashable, Hashable]] = set(self.precedence)
        for name in ("lags", "longest_lags"):
            parts[name] = dict(getattr(self, name))
            for pair, time in parts[name].items():
                if pair not in following:
                    right = "an operation and the next one of its job, as ((0, 0), (0, 1))"
                    raise ValueError(f"{name} names {pair!r}; it must be {right}")
                as_amount(time, f"{name} of {pair!r}")
        own(self, **parts)

    @cached_property
    def operations(self) -> dict[Operation, Mapping[Hashable, Any]]:
        """The machines of each operation, with durations."""
        return {(j, i): machines for j, job in enumerate(self.jobs) for i, machines in enumerate(job)}

    @cached_property
    def machines(self) -> list[Hashable]:
        """All machines, sorted if they can be."""
        known = dict.fromkeys(machine for machines in self.operations.values() for machine in machines)
        try:
            return sorted(known)  # pyright: ignore[reportArgumentType] - labels of several types have no order
        except TypeError:
            return list(known)

    @cached_property
    def precedence(self) -> list[tuple[Operation, Operation]]:
        """Pairs of consecutive operations of a job."""
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
        """Lower bound on the makespan for a choice of machines: the largest load of a machine, or the longest job."""
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
        # The core reads a tuple as an edge, so each node is in a list.
        at: dict[Hashable, Iterable[Hashable]] = {op: [op] for op in self.operations}
        longest = LongestPath(self.space, graph, flat, at=at, name="longest job", unit=self.unit)
        return maximum(load, longest, name="least makespan")

    def requirements(self, deadline: Any = None) -> Requirements:
        """The requirements on a schedule, for the checker."""
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
            self.lags,
            capacities=dict.fromkeys(self.machines, 1),
            deadline=deadline,
            unit=self.unit,
            longest_lags=self.longest_lags,
            release={(j, 0): time for j, time in self.release.items() if j in last},
            due={last[j]: time for j, time in self.due.items() if j in last},
            weights={last[j]: weight for j, weight in self.weights.items() if j in last},
            setups={
                machine: {(a, b): s[a[0], b[0]] for a in on[machine] for b in on[machine] if (a[0], b[0]) in s}
                for machine, s in self.setups.items()
            },
        )
