"""Annealing of placements by moves of whole clusters of operators.

A single operator tied to its neighbours by costly transfers cannot leave them without first making things much worse.
So a move takes along, at random, neighbours on the same device, the likelier the more the transfer between them costs:
the cluster moves of Swendsen and Wang (1987) and Wolff (1989) for spin systems.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cggd.rounding import sum_rounding
from cggd_scheduling.limits import exact
from cggd_scheduling.placement.metrics import DeviceLoad, TransferPath
from cggd_scheduling.placement.problem import Device

# The energy of loads is this norm of them: near enough to the largest, and it sees the others. With the temperatures
# at the start and at the end, as shares of the best value, and the strengths of ties (powers of ten) it was measured
# on the BERT-3 graph: the optimum with each of 8 seeds within 60,000 moves; with an end at 0.005 with 6 of 8.
NORM = 12
HOT, COLD = 0.1, 0.002
TIES = (0.0, 2.0)

# Loads that are kept up to date move by move drift by less than this share; a better placement is better by more.
DRIFT = 1e-9

# Moves between looks at the clock.
MOVES_AT_ONCE = 64


class State(Protocol):
    """A placement that can be moved and moved back; groups and devices are numbers."""

    where: list[int]

    @property
    def value(self) -> float: ...
    @property
    def energy(self) -> float: ...
    def move(self, groups: list[int], device: int) -> None: ...
    def undo(self) -> None: ...


class LoadState:
    """Loads of devices, kept up to date move by move."""

    def __init__(self, metric: DeviceLoad, where: list[int]) -> None:
        self.where, self.link = where, metric.link.tolist()
        self.times = dense(metric)
        outputs = metric.outputs
        self.outputs = list(zip(outputs.source.tolist(), outputs.targets, outputs.cost.tolist(), strict=True))
        self.touching: list[list[int]] = [[] for _ in where]
        for number, (source, targets, _) in enumerate(self.outputs):
            for group in (source, *targets):
                self.touching[group].append(number)
        self.loads = [0.0] * len(self.link)
        for group, device in enumerate(where):
            self.loads[device] += self.times[group][device]
        for number in range(len(self.outputs)):
            self._pay(number, 1.0)
        self.scale = max(self.loads) or 1.0
        self.before: tuple[list[tuple[int, int]], list[float]] = ([], self.loads)

    def _pay(self, number: int, sign: float) -> None:
        source, targets, cost = self.outputs[number]
        where, home = self.where, self.where[source]
        ends = {where[target] for target in targets}
        ends.discard(home)
        if ends:
            ends.add(home)
            for end in ends:
                self.loads[end] += sign * cost * self.link[end]

    @property
    def value(self) -> float:
        return max(self.loads)

    @property
    def energy(self) -> float:
        scale = self.scale
        return scale * sum((max(load, 0.0) / scale) ** NORM for load in self.loads) ** (1 / NORM)

    def move(self, groups: list[int], device: int) -> None:
        self.before = ([(group, self.where[group]) for group in groups], self.loads.copy())
        touched = {number for group in groups for number in self.touching[group]}
        for number in touched:
            self._pay(number, -1.0)
        for group in groups:
            self.loads[self.where[group]] -= self.times[group][self.where[group]]
            self.loads[device] += self.times[group][device]
            self.where[group] = device
        for number in touched:
            self._pay(number, 1.0)

    def undo(self) -> None:
        moved, self.loads = self.before
        for group, device in moved:
            self.where[group] = device


class PathState:
    """The critical path of a placement, found afresh after each move."""

    def __init__(self, metric: TransferPath, where: list[int]) -> None:
        self.where, self.link = where, metric.link.tolist()
        number = {name: v for v, name in enumerate(metric.order)}
        operators = metric.problem.operators
        self.vertices = [
            (
                metric.group[name],
                metric.times[name].tolist(),
                [(number[u], metric.group[u], operators[u].transfer) for u in metric.before[name]],
            )
            for name in metric.order
        ]
        self.value = self._length()
        self.before: tuple[list[tuple[int, int]], float] = ([], self.value)

    @property
    def energy(self) -> float:
        return self.value

    def _length(self) -> float:
        where, link = self.where, self.link
        finish: list[float] = []
        for group, times, before in self.vertices:
            here, start = where[group], 0.0
            for u, source, cost in before:
                there, arrival = where[source], finish[u]
                if there != here:
                    arrival += cost * (link[here] + link[there])
                if arrival > start:
                    start = arrival
            finish.append(start + times[here])
        return max(finish)

    def move(self, groups: list[int], device: int) -> None:
        self.before = ([(group, self.where[group]) for group in groups], self.value)
        for group in groups:
            self.where[group] = device
        self.value = self._length()

    def undo(self) -> None:
        moved, self.value = self.before
        for group, device in moved:
            self.where[group] = device


def dense(metric: DeviceLoad) -> list[list[float]]:
    """Time of each group on each device; infinite where it may not be."""
    table = np.full((metric.space.n_decisions, len(metric.link)), np.inf)
    table[metric.space.layout.owner, metric.device_of] = metric.times
    return table.tolist()


def rooms(devices: Sequence[Device], need: Sequence[Any]) -> list[Any]:
    """The memory of each device, exact; more by what a sum of two numbers is off by, where any is no whole number."""
    whole = all(isinstance(amount, int) for amount in need)
    return [
        math.inf if math.isinf(device.memory) else exact(device.memory) + (0 if whole else _rounding(device.memory))
        for device in devices
    ]


def _rounding(memory: float) -> Fraction:
    return Fraction(sum_rounding(memory, 2))


def anneal(
    state: State,
    metric: DeviceLoad,
    need: list[Any],
    rng: random.Random,
    *,
    moves: int,
    used: Callable[[], float] = lambda: 0.0,
) -> Iterator[NDArray[np.int64] | None]:
    """Yield devices of groups whenever they are better than all before, and None every `MOVES_AT_ONCE` moves.

    Parameters
    ----------
    state : State
        A placement that fits into the memory of the devices; all that follow do.
    metric : DeviceLoad
        Says who is tied to whom, and where a group may be.
    need : list of number
        Memory of each group, exact.
    rng : random.Random
    moves : int
    used : callable
        The share of the time that has been used; the temperature falls with it, or with the moves if that is faster.
    """
    devices = metric.problem.devices
    allowed = [[d for d, time in enumerate(row) if time < math.inf] for row in dense(metric)]
    movable = [group for group, options in enumerate(allowed) if len(options) > 1]
    ties: list[dict[int, float]] = [{} for _ in need]
    for source, targets, cost in zip(
        metric.outputs.source.tolist(), metric.outputs.targets, metric.outputs.cost.tolist(), strict=True
    ):
        for target in targets:
            ties[source][target] = ties[target][source] = ties[source].get(target, 0.0) + cost
    room = rooms(devices, need)
    for group, device in enumerate(state.where):
        room[device] -= need[group]
    energy, best = state.energy, state.value
    temperature = HOT * best
    for turn in range(moves if movable and best > 0 else 0):
        if turn % MOVES_AT_ONCE == 0:
            done = max(turn / moves, used())
            if done >= 1:
                return
            temperature = best * HOT * (COLD / HOT) ** done
            yield None
        first = movable[int(rng.random() * len(movable))]
        home = state.where[first]
        device = rng.choice([d for d in allowed[first] if d != home] or allowed[first])
        strength = 1.0 / (temperature * 10.0 ** rng.uniform(*TIES))
        cluster, seen = [first], {first}
        for group in cluster:
            for other, cost in ties[group].items():
                free = other not in seen and state.where[other] == home and device in allowed[other]
                if free and rng.random() < 1.0 - math.exp(-cost * strength):
                    seen.add(other)
                    cluster.append(other)
        taken = sum(need[group] for group in cluster)
        if device == home or taken > room[device]:
            continue
        state.move(cluster, device)
        then = state.energy
        if then <= energy or rng.random() < math.exp((energy - then) / temperature):
            energy = then
            room[home] += taken
            room[device] -= taken
            if state.value < best * (1 - DRIFT):
                best = state.value
                yield np.array(state.where)
        else:
            state.undo()
