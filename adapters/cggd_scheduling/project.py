"""Projects: activities with modes, precedence, renewable and non-renewable resources."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import gcd, inf
from numbers import Real
from typing import Any

import networkx as nx
import numpy as np

from cggd import Additive, ChoiceSpace, Constraint, LongestPath
from cggd.checks import own
from cggd.space import few
from cggd_scheduling.schedule import Alternative, Requirements

# Constraints have a relative tolerance of 1e-9, so they distinguish whole numbers up to this.
LARGEST = 5 * 10**8


@dataclass(frozen=True, eq=False, repr=False)
class Project:
    """Activities with modes, precedence, and demands for resources.

    Parameters
    ----------
    activities : mapping of activity to modes
        A mapping of label to mode, or a list of modes, whose labels are then 1, 2, ... A mode is an `Alternative`, a
        pair ``(duration, demands)``, or a duration. Demands map resources to numbers. All numbers are whole.
    precedence : iterable of (activity, activity)
        The first ends before the second starts.
    renewable : mapping of resource to capacity
        Bound on the sum of the demands of the activities that run at the same time: crews, machines.
    nonrenewable : mapping of resource to budget
        Bound on the sum of the demands of all activities: money, material. None: counted, but not bounded.
    unit : str
        Unit of time.
    name : str
    release, due, weights : mapping of activity to number, optional
        Earliest starts; due dates; weights of the tardiness (by default 1). Due dates and weights matter only if the
        tardiness is minimised.
    lags : mapping of (activity, activity) to number, optional
        Least time between the end of the first and the start of the second, for pairs in `precedence`.
    longest_lags : mapping of (activity, activity) to number, optional
        Most time between the end of the first and the start of the second; 0 if it must start at once.
    setups : mapping of resource to (mapping of (activity, activity) to number), optional
        Least time between an activity on a renewable resource of capacity 1 and the next one there.

    Raises
    ------
    ValueError, TypeError
        If there is a cycle, an activity without modes, an unknown resource or activity, a number that is negative or
        not whole, or a sum above 5e8 times the greatest common divisor of its numbers.

    Examples
    --------
    >>> project = Project(
    ...     {
    ...         "dig": {"by hand": (5, {"crew": 2}), "digger": (2, {"crew": 1, "money": 300})},
    ...         "lay": [(3, {"crew": 2}), (2, {"crew": 3, "money": 100})],
    ...     },
    ...     [("dig", "lay")],
    ...     renewable={"crew": 3},
    ...     nonrenewable={"money": 350},
    ...     unit="days",
    ... )
    >>> project
    Project(2 activities, 2 modes each, 1 renewable and 1 non-renewable resources)
    >>> project.critical_path({"dig": "digger", "lay": 1})
    5.0
    >>> project.constraints
    [Constraint(money <= 350)]
    """

    activities: Mapping[Hashable, Any]
    precedence: Iterable[tuple[Hashable, Hashable]] = ()
    renewable: Mapping[Hashable, Any] = field(default_factory=dict)
    nonrenewable: Mapping[Hashable, Any] = field(default_factory=dict)
    unit: str = field(default="", kw_only=True)
    name: str = field(default="project", kw_only=True)
    release: Mapping[Hashable, Any] = field(default_factory=dict, kw_only=True)
    due: Mapping[Hashable, Any] = field(default_factory=dict, kw_only=True)
    weights: Mapping[Hashable, Any] = field(default_factory=dict, kw_only=True)
    lags: Mapping[tuple[Hashable, Hashable], Any] = field(default_factory=dict, kw_only=True)
    longest_lags: Mapping[tuple[Hashable, Hashable], Any] = field(default_factory=dict, kw_only=True)
    setups: Mapping[Hashable, Mapping[tuple[Hashable, Hashable], Any]] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.activities, Mapping):
            raise TypeError(f"activities must map each activity to its modes, got {type(self.activities).__name__}")
        if None in self.activities:
            raise ValueError("None cannot be the name of an activity")
        capacities = {r: _whole(c, f"the capacity of {r!r}") for r, c in dict(self.renewable).items()}
        budgets = {
            r: None if b is None else _whole(b, f"the budget of {r!r}") for r, b in dict(self.nonrenewable).items()
        }
        if both := [r for r in capacities if r in budgets]:
            raise ValueError(f"resource {both[0]!r} is given as renewable and as non-renewable; it can be one of them")
        known = {**capacities, **budgets}
        activities = {a: _modes(a, modes, known) for a, modes in self.activities.items()}
        _check_sums("durations", [[m.duration for m in modes.values()] for modes in activities.values()])
        for r in budgets:
            amounts = [[m.demands.get(r, 0) for m in modes.values()] for modes in activities.values()]
            _check_sums(f"demands for {r!r}", amounts)
        edges: dict[Any, None] = {}
        for edge in self.precedence:
            if isinstance(edge, str) or not isinstance(edge, Sequence) or len(edge) != 2:
                raise ValueError(f"precedence must hold pairs (activity, activity), got {edge!r}")
            if unknown := [a for a in edge if not isinstance(a, Hashable) or a not in activities]:
                raise ValueError(f"precedence {tuple(edge)!r} names {unknown[0]!r}, which is no activity")
            edges[tuple(edge)] = None
        own(self, activities=activities, precedence=list(edges), renewable=capacities, nonrenewable=budgets)
        self._check_times()
        if not nx.is_directed_acyclic_graph(self.graph):
            cycle = [a for a, _ in nx.find_cycle(self.graph)]
            raise ValueError(f"precedence has a cycle through {few(cycle)}; none of them could ever start")

    def _check_times(self) -> None:
        """Check and convert the times of activities and of pairs of activities."""
        own(self, **{n: self._times(n, getattr(self, n), lambda a: [a]) for n in ("release", "due", "weights")})
        own(self, **{n: self._times(n, getattr(self, n), list) for n in ("lags", "longest_lags")})
        if wrong := [pair for pair in self.lags if pair not in self.precedence]:
            raise ValueError(f"lags names {wrong[0]!r}, which is no pair of the precedence; add it there")
        if wrong := [r for r in self.setups if self.renewable.get(r) != 1]:
            raise ValueError(f"setups names {wrong[0]!r}, which is no renewable resource of capacity 1")
        own(self, setups={r: self._times(f"setups of {r!r}", times, list) for r, times in self.setups.items()})

    def _times(self, name: str, times: Mapping, activities: Callable[[Any], list]) -> dict:
        for key in times:
            if unknown := [a for a in activities(key) if a not in self.activities]:
                raise ValueError(f"{name} names {unknown[0]!r}, which is no activity")
        return {key: _whole(time, f"{name} of {key!r}") for key, time in times.items()}

    @cached_property
    def graph(self) -> nx.DiGraph:
        """Precedence graph of the activities."""
        graph = nx.DiGraph()
        graph.add_nodes_from(self.activities)
        graph.add_edges_from(self.precedence)
        return graph

    @cached_property
    def time_step(self) -> int:
        """Greatest common divisor of all durations, lags, releases and setup times."""
        durations = (m.duration for modes in self.activities.values() for m in modes.values())
        return gcd(*durations, *self.requirements().waits) or 1

    @cached_property
    def plain(self) -> Project:
        """The project without releases, due dates, lags and setup times."""
        times = ("release", "due", "weights", "lags", "longest_lags", "setups")
        return replace(self, **{name: {} for name in times}) if self.requirements().special else self

    def __repr__(self) -> str:
        n_modes = {len(modes) for modes in self.activities.values()} or {0}
        each = f"{min(n_modes)}" if len(n_modes) == 1 else f"{min(n_modes)} to {max(n_modes)}"
        resources = f"{len(self.renewable)} renewable and {len(self.nonrenewable)} non-renewable resources"
        return f"Project({len(self.activities)} activities, {each} modes each, {resources})"

    # -- as a problem of the core -------------------------------------------------------------------------------------

    @cached_property
    def space(self) -> ChoiceSpace:
        """Activities as decisions and modes as options; raises ValueError if there are no activities."""
        return ChoiceSpace({a: list(modes) for a, modes in self.activities.items()}, self.graph)

    @cached_property
    def critical_path(self) -> LongestPath:
        """Least duration of the project without the capacities of renewable resources."""
        values = [float(m.duration) for modes in self.activities.values() for m in modes.values()]
        return LongestPath(self.space, self.graph, values, name="critical path", unit=self.unit)

    def use(self, resource: Hashable) -> Additive:
        """Sum of the demands for a resource; for a renewable one, sum of demand times duration."""
        modes = [m for modes in self.activities.values() for m in modes.values()]
        if resource in self.nonrenewable:
            values = [float(m.demands.get(resource, 0)) for m in modes]
        elif resource in self.renewable:
            values = [float(m.demands.get(resource, 0) * m.duration) for m in modes]
        else:
            raise ValueError(f"resource must be one of {few([*self.renewable, *self.nonrenewable])}, got {resource!r}")
        return Additive(self.space, values, name=str(resource))

    @cached_property
    def constraints(self) -> list[Constraint]:
        """The budgets of the non-renewable resources."""
        return [self.use(resource) <= self._reachable(resource) for resource in self.budgets]

    def _reachable(self, resource: Hashable) -> int:
        """The budget; above `LARGEST`, rounded down to a multiple of the greatest common divisor of the demands."""
        budget = self.budgets[resource]
        demands = (m.demands.get(resource, 0) for modes in self.activities.values() for m in modes.values())
        step = gcd(*demands) or 1
        return budget if budget <= LARGEST else budget // step * step

    @cached_property
    def budgets(self) -> dict[Hashable, int]:
        """Budgets of the non-renewable resources that have one."""
        return {r: budget for r, budget in self.nonrenewable.items() if budget is not None}

    @cached_property
    def oversized(self) -> dict[Hashable, list[Hashable]]:
        """Modes whose demand exceeds the capacity of a renewable resource, by activity; no schedule has them."""
        found = {}
        for activity, modes in self.activities.items():
            labels = [label for label, m in modes.items() if self._exceeded(m) is not None]
            if labels:
                found[activity] = labels
        return found

    def _exceeded(self, mode: Alternative) -> Hashable | None:
        if mode.duration == 0:
            return None
        return next((r for r, c in self.renewable.items() if mode.demands.get(r, 0) > c), None)

    def impossible(self) -> str:
        """The first activity whose modes all exceed a capacity, and why, as text; empty if there is none."""
        for activity, labels in self.oversized.items():
            modes = self.activities[activity]
            if len(labels) == len(modes):
                reasons = []
                for label in labels:
                    resource = self._exceeded(modes[label])
                    takes, capacity = modes[label].demands[resource], self.renewable[resource]
                    reasons.append(f"mode {label!r} takes {takes} of {resource!r}, capacity {capacity}")
                return f"activity {activity!r} cannot run: {'; '.join(reasons)}"
        return ""

    def requirements(self, *, renewable: bool = True, deadline: Any = None) -> Requirements:
        """The requirements on a schedule of the project.

        Parameters
        ----------
        renewable : bool
            Whether to include capacities and setup times.
        deadline : number, optional
        """
        capacities = self.renewable if renewable else {}
        return Requirements(
            self.activities,
            list(self.precedence),
            capacities=capacities,
            budgets=self.budgets,
            deadline=deadline,
            unit=self.unit,
            release=self.release,
            due=self.due,
            weights=self.weights,
            lags=self.lags,
            longest_lags=self.longest_lags,
            setups=self.setups if renewable else {},
        )


def check_project(project: Any) -> None:
    """Raise TypeError if an argument is not a project."""
    if not isinstance(project, Project):
        raise TypeError(f"project must be a Project, got {type(project).__name__}")


def from_lists(
    modes: Sequence[Sequence[Sequence[int]]],
    successors: Sequence[Sequence[int]],
    capacities: Sequence[int],
    n_renewable: int,
    *,
    name: str = "project",
) -> Project:
    """Make a project from lists as in files of PSPLIB, with activities and modes numbered from 1.

    Parameters
    ----------
    modes : list of list of [duration, demand, ...]
        A list for each mode of each activity, with demands in the order of `capacities`.
    successors : list of list of int
        Positions in `modes`, counted from 0.
    capacities : list of int
        Capacities of the renewable resources R1, R2, ..., then budgets of the non-renewable ones N1, N2, ...
    n_renewable : int
    name : str

    Examples
    --------
    >>> from_lists([[[3, 1, 2]], [[2, 0, 5], [4, 1, 1]]], [[1], []], [1, 4], 1).nonrenewable
    {'N1': 4}
    """
    resources = [f"R{k + 1}" for k in range(n_renewable)]
    resources += [f"N{k + 1}" for k in range(len(capacities) - n_renewable)]
    activities: dict[Hashable, Any] = {
        a: [(duration, {r: x for r, x in zip(resources, demands, strict=True) if x}) for duration, *demands in rows]
        for a, rows in enumerate(modes, start=1)
    }
    edges = [(a, b + 1) for a, after in enumerate(successors, start=1) for b in after]
    limits = list(zip(resources, capacities, strict=True))
    return Project(activities, edges, dict(limits[:n_renewable]), dict(limits[n_renewable:]), name=name)


def _modes(activity: Hashable, modes: Any, resources: Mapping[Hashable, int]) -> dict[Hashable, Alternative]:
    if isinstance(modes, Mapping):
        labelled = dict(modes)
    elif isinstance(modes, Iterable) and not isinstance(modes, str | bytes):
        labelled = dict(enumerate(modes, start=1))
    else:
        raise TypeError(f"modes of activity {activity!r} must be a mapping or a list, got {modes!r}")
    if not labelled:
        raise ValueError(f"activity {activity!r} has no mode; give it at least one, such as (duration, demands)")
    return {
        label: _mode(f"mode {label!r} of activity {activity!r}", mode, resources) for label, mode in labelled.items()
    }


def _mode(where: str, mode: Any, resources: Mapping[Hashable, int]) -> Alternative:
    if isinstance(mode, Alternative):
        duration, demands = mode.duration, mode.demands
    elif isinstance(mode, Real):
        duration, demands = mode, {}
    elif isinstance(mode, Sequence) and len(mode) == 2 and isinstance(mode[1], Mapping):
        duration, demands = mode
    else:
        raise TypeError(f"{where} must be (duration, demands), such as (3, {{'crew': 2}}), got {mode!r}")
    if unknown := [r for r in demands if r not in resources]:
        listed = few(list(resources)) if resources else "none at all"
        raise ValueError(f"{where} takes {unknown[0]!r}, which is no resource of the project; it has {listed}")
    return Alternative(
        _whole(duration, f"the duration of {where}"),
        {r: _whole(amount, f"the demand of {where} for {r!r}") for r, amount in demands.items()},
    )


def _check_sums(what: str, numbers: Sequence[Sequence[int]]) -> None:
    total, step = sum(map(max, numbers)), gcd(*(x for row in numbers for x in row)) or 1
    if total > LARGEST * step:
        raise ValueError(
            f"{what} add up to {total}, and are multiples of {step}; sums are exact up to {LARGEST} times that: "
            "choose a coarser unit"
        )


def _whole(value: Any, what: str) -> int:
    """Check and return a whole number of at least 0."""
    number: Any = value.item() if isinstance(value, np.generic) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or number != number or abs(number) == inf:
        raise TypeError(f"{what} must be a whole number, got {value!r}")
    if number < 0 or number != int(number):
        raise ValueError(
            f"{what} must be a whole number of at least 0, got {value!r}; choose a finer unit of fractions"
        )
    return int(number)
