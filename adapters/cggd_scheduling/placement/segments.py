"""Placements that cut an order of the groups into one contiguous piece for each device.

For chains, contiguous pieces are the best placements (Tarnawski et al., 2020). For other graphs they are good if groups
with costly transfers between them are adjacent in the order.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cggd import Finding, Problem
from cggd.budget import Budget
from cggd.incumbent import Incumbent
from cggd_scheduling.placement.metrics import DeviceLoad

# Number of orders, half of them by transfers; most groups, since a table of all pieces must fit into memory.
ORDERS, GROUPS = 24, 1_500


class Segments:
    """Draw topological orders at random and cut each into the pieces with the least maximum load.

    Parameters
    ----------
    load : DeviceLoad
    """

    def __init__(self, load: DeviceLoad) -> None:
        self.load = load

    def suits(self, problem: Problem) -> bool:
        """Whether the objective is the load of a problem that is not too large."""
        return problem.objective is self.load and self.load.space.n_decisions <= GROUPS

    def improve(
        self, problem: Problem, incumbent: Incumbent, budget: Budget, rng: np.random.Generator
    ) -> Iterator[Finding | None]:
        """Yield a placement for each order that has a cut within the memory limits."""
        for turn in range(ORDERS):
            order = drawn_order(self.load, rng)
            if turn % 2:
                order = by_transfers(self.load, order)
            where = cut(self.load, order)
            if where is not None:
                decisions = np.arange(len(where))
                yield Finding(self.load.option_on[decisions, where] - self.load.space.offsets[decisions])
            if budget.over():
                return


def drawn_order(load: DeviceLoad, rng: np.random.Generator) -> NDArray[np.int64]:
    """Groups in the order of their operators in a random depth-first topological order."""
    graph = load.problem.graph
    waiting = dict(graph.in_degree())
    ready = [operator for operator, n in waiting.items() if n == 0]
    rng.shuffle(ready)
    place = {}
    while ready:
        operator = ready.pop()
        place[operator] = len(place)
        following = list(graph.successors(operator))
        for then in (following[at] for at in rng.permutation(len(following))):
            waiting[then] -= 1
            if waiting[then] == 0:
                ready.append(then)
    middle = max if rng.random() < 0.5 else np.mean
    places = [middle([place[operator] for operator in group]) for group in load.problem.groups]
    return np.argsort(places, kind="stable")


def by_transfers(load: DeviceLoad, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """An order in which groups with costly transfers between them are adjacent.

    Parts are joined along the costliest transfers first, as in single-linkage clustering. Of two parts, the one that is
    first in `order` comes first.
    """
    place = np.argsort(order)
    part = list(range(len(order)))
    members = {group: [group] for group in part}
    first, second, cost = load.ties
    for tie in np.argsort(-cost, kind="stable").tolist():
        one, other = part[first[tie]], part[second[tie]]
        if one != other:
            pair = sorted((members.pop(one), members.pop(other)), key=lambda groups: place[groups].mean())
            members[one] = pair[0] + pair[1]
            for group in members[one]:
                part[group] = one
    parts = sorted(members.values(), key=lambda groups: place[groups].mean())
    return np.array([group for groups in parts for group in groups])


def cut(load: DeviceLoad, order: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The device of each group in the best cut of an order, one piece for each device in turn; None if none fits.

    Dynamic programming: the least maximum load of k devices with the first j groups follows from that of k - 1 devices.
    """
    problem, n = load.problem, len(order)
    sent = transfers(load, np.argsort(order))
    memory = np.array([sum(problem.operators[operator].memory for operator in problem.groups[g]) for g in order])
    taken = np.concatenate([[0.0], np.cumsum(memory)])
    ends = np.arange(n + 1)
    least = np.where(ends == 0, 0.0, np.inf)
    begins, known = [], {}
    for number, device in enumerate(problem.devices):
        option = load.option_on[order, number]
        time = np.concatenate([[0.0], np.cumsum(np.where(option >= 0, load.times[option], 0.0))])
        barred = np.concatenate([[0], np.cumsum(option < 0)])
        alike = time.tobytes(), barred.tobytes(), device.memory, device.link
        if alike not in known:
            fits = (barred[None] == barred[:, None]) & (taken[None] - taken[:, None] <= device.memory)
            loads = time[None] - time[:, None] + device.link * sent
            known[alike] = np.where(fits & (ends[None] > ends[:, None]), loads, np.inf)
            known[alike][ends, ends] = 0.0
        loads = np.maximum(least[:, None], known[alike])
        begins.append(loads.argmin(axis=0))
        least = loads[begins[-1], ends]
    if not np.isfinite(least[n]):
        return None
    where, end = np.empty(n, dtype=np.int64), n
    for number in reversed(range(len(begins))):
        begin = int(begins[number][end])
        where[order[begin:end]], end = number, begin
    return where


def transfers(load: DeviceLoad, place: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cost of the outputs that pieces of an order send and receive: entry (i, j) is for the places i to j - 1.

    Each output adds its cost to rectangles of the table. Only the corners are written; cumulative sums fill the rest.
    """
    n = len(place)
    corners = np.zeros((n + 2, n + 2))

    def add(cost: float, first: int, last: int, least_end: int) -> None:
        """Add a cost to all pieces that begin from `first` to `last` and end at `least_end` or later."""
        if first <= last:
            corners[first, least_end] += cost
            corners[last + 1, least_end] -= cost

    for group, needing, cost in zip(
        load.outputs.source.tolist(), load.outputs.targets, load.outputs.cost.tolist(), strict=True
    ):
        source, targets = int(place[group]), sorted(place[needing].tolist())
        add(cost, 0, source, source + 1)  # a piece with the source sends the output
        add(-cost, 0, min(source, targets[0]), max(source, targets[-1]) + 1)  # unless it has all targets too
        before = -1
        for target in targets:  # the first target in the piece
            add(cost, before + 1, target, target + 1)  # a piece with a target receives the output
            add(-cost, before + 1, min(target, source), max(target, source) + 1)  # unless it has the source too
            before = target
    return corners.cumsum(axis=0).cumsum(axis=1)[: n + 1, : n + 1]
