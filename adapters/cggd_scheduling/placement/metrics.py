"""Metrics of placements: the largest load of a device, and the critical path with transfers."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from cggd import ChoiceSpace, Metric
from cggd.expressions import Expression, Program
from cggd.metrics import State
from cggd.metrics.state import Switch, Trail, TrailState
from cggd_scheduling.placement.problem import Placement

# Clusters are joined by transfers that cost at least these quantiles of all transfer costs.
QUANTILES = (0.0, 0.5, 0.75, 0.9, 0.97)


@dataclass(frozen=True, eq=False)
class Outputs:
    """Outputs between groups; outputs of one group with the same target groups are one entry.

    Attributes
    ----------
    source : ndarray of int, shape (n_outputs,)
        The group that makes the output.
    targets : list of list of int
        The other groups that need it.
    cost : ndarray of shape (n_outputs,)
    """

    source: NDArray[np.int64]
    targets: list[list[int]]
    cost: NDArray[np.float64]

    @classmethod
    def of(cls, problem: Placement) -> Outputs:
        group = {operator: i for i, members in enumerate(problem.groups) for operator in members}
        costs: dict[tuple[int, tuple[int, ...]], float] = {}
        for name, operator in problem.operators.items():
            targets = sorted({group[successor] for successor in problem.graph.successors(name)} - {group[name]})
            if targets and operator.transfer:
                key = (group[name], tuple(targets))
                costs[key] = costs.get(key, 0.0) + operator.transfer
        sources = np.array([source for source, _ in costs], dtype=np.int64)
        return cls(sources, [list(targets) for _, targets in costs], np.array(list(costs.values())))

    @cached_property
    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Arrays of outputs and of their target groups, one entry for each target, sorted by output."""
        sizes = [len(targets) for targets in self.targets]
        flat = np.array([target for targets in self.targets for target in targets], dtype=np.int64)
        return np.repeat(np.arange(len(sizes)), sizes), flat


class DeviceLoad(Metric):
    """The largest load of a device: the times of its operators and of its transfers (see `Placement`).

    Parameters
    ----------
    problem : Placement

    Notes
    -----
    The replacement table takes O(E D^2) for E edges between groups and D devices. The cost of an output depends only on
    the groups that make or need it, and follows from the number of its targets on each device.
    """

    def __init__(self, problem: Placement) -> None:
        self.problem, self.space = problem, problem.space
        self.name, self.unit = "load", problem.unit
        self.outputs = Outputs.of(problem)
        self.link = np.array([device.link for device in problem.devices])
        self.device_of = options_on(problem)
        self.times = np.concatenate([group_times(problem, group) for group in problem.groups])

    @property
    def closed_form(self) -> bool:
        return True

    def loads(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        """Load of each device, shape (n, n_devices), for selections of shape (n, n_decisions)."""
        flat = self.space.layout.flat(selections)
        where, times = self.device_of[flat], self.times[flat]
        output, target = self.outputs.pairs
        home = where[:, self.outputs.source]
        loads, sent = np.zeros((len(selections), len(self.link))), np.zeros(home.shape, dtype=bool)
        cuts = np.flatnonzero(np.diff(output, prepend=-1))
        for d, link in enumerate(self.link.tolist()):
            loads[:, d] = np.where(where == d, times, 0.0).sum(axis=1)
            if len(cuts):
                received = np.logical_or.reduceat(where[:, target] == d, cuts, axis=1) & (home != d)
                sent |= received
                loads[:, d] += link * (received @ self.outputs.cost)
        for d, link in enumerate(self.link.tolist()):
            loads[:, d] += link * ((sent & (home == d)) @ self.outputs.cost)
        return loads

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.loads(selections).max(axis=1)

    def replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.state(selection).table()

    def state(self, selection: NDArray[np.int64]) -> State:
        return LoadState(self, selection)

    def moves(self, selection: NDArray[np.int64]) -> Iterator[list[tuple[int, int]]]:
        """Moves of clusters to another device: groups on one device, connected by transfers above each quantile."""
        where = self.device_of[self.space.layout.flat(selection)]
        option = self.option_on
        a, b, cost = self.ties
        together = where[a] == where[b]
        seen: set[tuple[int, ...]] = set()
        for least in np.unique(np.quantile(cost, QUANTILES)).tolist() if len(cost) else ():
            kept = together & (cost >= least)
            shape = (self.space.n_decisions, self.space.n_decisions)
            links = sparse.coo_array((np.ones(int(kept.sum())), (a[kept], b[kept])), shape=shape)
            _, label = connected_components(links, directed=False)
            order = np.argsort(label, kind="stable")
            for cluster in np.split(order, np.cumsum(np.bincount(label))[:-1]):
                if len(cluster) > 1 and (key := tuple(cluster.tolist())) not in seen:
                    seen.add(key)
                    there = option[cluster]
                    for device in np.flatnonzero((there >= 0).all(axis=0)).tolist():
                        if device != where[cluster[0]]:
                            local = there[:, device] - self.space.offsets[cluster]
                            yield list(zip(cluster.tolist(), local.tolist(), strict=True))

    @cached_property
    def ties(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Pairs of groups with outputs between them, and the sum of the costs of these outputs."""
        output, target = self.outputs.pairs
        source = self.outputs.source[output] if len(output) else target
        n = self.space.n_decisions
        pair, place = np.unique(np.minimum(source, target) * n + np.maximum(source, target), return_inverse=True)
        cost = np.bincount(place, self.outputs.cost[output], minlength=len(pair)).astype(float)
        return pair // n, pair % n, cost

    @cached_property
    def groups_of(self) -> list[NDArray[np.int64]]:
        """The groups that make or need each output."""
        outputs = zip(self.outputs.source.tolist(), self.outputs.targets, strict=True)
        return [np.array([source, *targets]) for source, targets in outputs]

    @cached_property
    def outputs_as(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """For each group, the outputs that it makes and those that it needs."""
        found: list[tuple[list[int], list[int]]] = [([], []) for _ in self.problem.groups]
        for number, (source, *targets) in enumerate(groups.tolist() for groups in self.groups_of):
            found[source][0].append(number)
            for target in targets:
                found[target][1].append(number)
        return [(np.array(made, dtype=np.int64), np.array(needed, dtype=np.int64)) for made, needed in found]

    @cached_property
    def option_on(self) -> NDArray[np.int64]:
        """Option of each group for each device, -1 if there is none; shape (n_decisions, n_devices)."""
        option = np.full((self.space.n_decisions, len(self.link)), -1)
        option[self.space.layout.owner, self.device_of] = np.arange(self.space.n_options)
        return option

    def paid(self, on: NDArray[np.int64], home: NDArray[np.int64]) -> NDArray:
        """Share of each output's cost that each device pays, given its targets per device and its source's device."""
        away = on > 0
        away[np.arange(len(on)), home] = False
        paid = away * self.link
        paid[np.arange(len(on)), home] = away.any(axis=1) * self.link[home]
        return paid

    @cached_property
    def touching(self) -> _Touching:
        """Pairs of option and output that the option's group makes or needs, sorted by option."""
        output, target = self.outputs.pairs
        groups = np.concatenate([target, self.outputs.source])
        outputs = np.concatenate([output, np.arange(len(self.outputs.cost))])
        as_target = np.arange(len(groups)) < len(target)
        sizes = self.space.sizes[groups]
        first = np.cumsum(sizes) - sizes
        option = np.arange(int(sizes.sum())) + np.repeat(self.space.offsets[groups] - first, sizes)
        order = np.argsort(option, kind="stable")
        cuts = np.searchsorted(option[order], self.space.offsets)
        return _Touching(option[order], np.repeat(outputs, sizes)[order], np.repeat(as_target, sizes)[order], cuts)

    def limits(self) -> tuple[float, float]:
        low = self.space.layout.reduce(np.minimum, self.times)
        return float(low.max()), self._most

    def expression(self, program: Program, sign: float) -> Expression | None:
        """The load of each device. A device with a target but not the source receives; the source's device sends."""
        if sign < 0:
            return None
        n_devices, shape = len(self.link), (len(self.link), self.space.n_options)
        option = np.arange(self.space.n_options)
        loads = program.sum(sparse.csr_array((self.times, (self.device_of, option)), shape=shape))
        # Outputs without cost need no variables.
        costs = np.outer(self.outputs.cost, self.link)
        costly, device = np.nonzero(costs)
        number = np.full(costs.shape, -1)
        number[costly, device] = np.arange(len(device))
        output, target = self.outputs.pairs
        pair, where = np.nonzero(number[output] >= 0)
        at = number[output[pair], where]
        here, there = (self._on(program, groups[pair], where) for groups in (self.outputs.source[output], target))
        for away in (there - here, here - there):
            moved = program.switch(len(device))
            program.at_most(away - moved[at])
            loads = loads + (costs[costly, device] * moved).sum(device, n_devices)
        return loads

    def _on(self, program: Program, group: NDArray[np.int64], device: NDArray[np.int64]) -> Expression:
        """A row per pair: whether the group is on the device; 0 if it cannot be."""
        chosen = self.option_on[group, device]
        return (chosen >= 0) * program.chosen(chosen)

    @cached_property
    def _most(self) -> float:
        worst = float(self.space.layout.reduce(np.maximum, self.times).sum())
        return worst + float(self.outputs.cost.sum() * self.link.max(initial=0.0))


@dataclass(frozen=True, eq=False)
class _Touching:
    """Pairs of option and output; those of group i lie between ``cuts[i]`` and ``cuts[i + 1]``."""

    option: NDArray[np.int64]
    output: NDArray[np.int64]
    as_target: NDArray[np.bool_]
    cuts: NDArray[np.int64]


class LoadState(TrailState):
    """Loads of devices, and their changes by each switch. A move updates only groups with a common output.

    Parameters
    ----------
    metric : DeviceLoad
    selection : ndarray of int, shape (n_decisions,)
    """

    def __init__(self, metric: DeviceLoad, selection: NDArray[np.int64]) -> None:
        self.metric, self.trail = metric, Trail(selection)
        self._refresh()

    def _refresh(self) -> None:
        metric, selection = self.metric, self.trail.selection
        self.loads = metric.loads(selection[None])[0]
        self.here = metric.space.layout.flat(selection)
        self.where = metric.device_of[self.here]
        output, target = metric.outputs.pairs
        # Number of targets of each output on each device.
        self.on = np.zeros((len(metric.outputs.cost), len(metric.link)), dtype=np.int64)
        np.add.at(self.on, (output, self.where[target]), 1)
        self.change = np.zeros((metric.space.n_options, len(metric.link)))
        self._update(np.arange(metric.space.n_decisions))

    def _update(self, groups: NDArray[np.int64]) -> None:
        """Recompute the changes by switches of some groups."""
        metric, layout = self.metric, self.metric.space.layout
        options = _ranges(metric.space.offsets, groups)
        owner = layout.owner[options]
        change = np.zeros((len(options), len(metric.link)))
        rows = np.arange(len(options))
        change[rows, self.where[owner]] -= metric.times[self.here[owner]]
        change[rows, metric.device_of[options]] += metric.times[options]
        touching = metric.touching
        pairs = _ranges(touching.cuts, groups)
        number, moved = touching.output[pairs], metric.device_of[touching.option[pairs]]
        target, group = touching.as_target[pairs], layout.owner[touching.option[pairs]]
        others, home = self.on[number], self.where[metric.outputs.source[number]]
        now = metric.paid(others, home)
        others[target, self.where[group[target]]] -= 1
        others[target, moved[target]] += 1
        paid = (metric.paid(others, np.where(target, home, moved)) - now) * metric.outputs.cost[number, None]
        row = np.searchsorted(options, touching.option[pairs])
        for device in range(len(metric.link)):
            change[:, device] += np.bincount(row, paid[:, device], minlength=len(options))
        self.change[options] = change

    @property
    def value(self) -> float:
        return float(self.loads.max())

    def table(self) -> NDArray:
        table = (self.loads + self.change).max(axis=1)
        table[self.here] = self.value
        return table

    local_table = table

    def entries(self, options: NDArray[np.int64]) -> NDArray:
        return (self.loads + self.change[options]).max(axis=1)

    def exchanges(self, outgoing: Switch) -> None:
        return None

    def _moved(self, made: Sequence[tuple[int, int, int]]) -> None:
        if self.trail.refresh_due or len(made) > self.metric.space.n_decisions // 4:
            self._refresh()
            return
        metric, outputs = self.metric, self.metric.outputs
        number = np.unique(np.concatenate([part for group, _, _ in made for part in metric.outputs_as[group]]))
        before = metric.paid(self.on[number], self.where[outputs.source[number]])
        for group, _, option in made:
            after = int(metric.space.offsets[group]) + option
            needed = metric.outputs_as[group][1]
            self.on[needed, self.where[group]] -= 1
            self.loads[self.where[group]] -= metric.times[self.here[group]]
            self.here[group], self.where[group] = after, metric.device_of[after]
            self.on[needed, self.where[group]] += 1
            self.loads[self.where[group]] += metric.times[after]
        paid = metric.paid(self.on[number], self.where[outputs.source[number]]) - before
        self.loads += outputs.cost[number] @ paid
        self._update(
            np.unique(np.concatenate([[group for group, _, _ in made], *(metric.groups_of[n] for n in number)]))
        )


def _ranges(cuts: NDArray[np.int64], parts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers from ``cuts[i]`` to ``cuts[i + 1]`` of each part i, one after another."""
    first, sizes = cuts[parts], cuts[parts + 1] - cuts[parts]
    return np.arange(int(sizes.sum())) + np.repeat(first - (np.cumsum(sizes) - sizes), sizes)


class TransferPath(Metric):
    """The critical path of a placement: the longest chain of operators, with transfers where the device changes.

    A transfer takes ``transfer * (link of one device + link of the other)``.

    Parameters
    ----------
    problem : Placement
    """

    def __init__(self, problem: Placement) -> None:
        self.problem, self.space = problem, problem.space
        self.name, self.unit = "critical path", problem.unit
        self.device_of = options_on(problem)
        self.order = list(nx.topological_sort(problem.graph))
        self.before = {name: list(problem.graph.predecessors(name)) for name in self.order}
        self.group = {operator: i for i, members in enumerate(problem.groups) for operator in members}
        self.link = np.array([device.link for device in problem.devices])
        kinds = [device.kind for device in problem.devices]
        # The 0.0 for kinds without a time is never used: no option has them.
        self.times = {n: np.array([o.times.get(kind, 0.0) for kind in kinds]) for n, o in problem.operators.items()}

    @property
    def closed_form(self) -> bool:
        return True

    def finishes(self, selections: NDArray[np.int64]) -> dict[Hashable, NDArray[np.float64]]:
        """Earliest end of each operator, shape (n,), if it never waits for its device."""
        where = self.device_of[self.space.layout.flat(selections)].T
        finish: dict[Hashable, NDArray[np.float64]] = {}
        for name in self.order:
            here, start = where[self.group[name]], np.zeros(len(selections))
            for u in self.before[name]:
                there = where[self.group[u]]
                cost = self.problem.operators[u].transfer
                if cost and self.group[u] != self.group[name]:
                    arrival = finish[u] + cost * np.where(here != there, self.link[here] + self.link[there], 0.0)
                else:
                    arrival = finish[u]
                start = np.maximum(start, arrival)
            finish[name] = start + self.times[name][here]
        return finish

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.max(list(self.finishes(selections).values()), axis=0)

    def limits(self) -> tuple[float, float]:
        outputs = sum(2 * operator.transfer for operator in self.problem.operators.values())
        return 0.0, float(sum(times.max() for times in self.times.values()) + outputs * self.link.max(initial=0.0))


def options_on(problem: Placement) -> NDArray[np.int64]:
    """Index of the device of each option in a placement's space, shape (n_options,)."""
    number = {device.name: d for d, device in enumerate(problem.devices)}
    space: ChoiceSpace = problem.space
    return np.array([number[o] for d in space.decisions for o in space.option_labels(d)])  # pyright: ignore


def group_times(problem: Placement, group: list[Hashable]) -> NDArray[np.float64]:
    """Time of a group on each of its possible devices."""
    operators = [problem.operators[operator] for operator in group]
    return np.array([sum(o.times[device.kind] for o in operators) for device in problem.possible(group)])


def _as_property(metric: type, name: str) -> None:
    """Add a metric to `Placement` as a cached property."""
    made = cached_property(metric)
    made.__set_name__(Placement, name)
    setattr(Placement, name, made)


_as_property(DeviceLoad, "load")
_as_property(TransferPath, "critical_path")
