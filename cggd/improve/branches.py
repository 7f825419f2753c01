"""Branches: branch and bound with the bounds that the metrics supply.

A node of the tree is a mask of allowed options. `Metric.least_with` bounds the objective and the constrained metrics on
it, and removes options from the mask. If the objective and a constraint have a linear lower bound on the mask
(`Metric.minorant`), the Lagrangian of the two bounds the objective as well. No linear form is needed, so that
objectives such as R^2 or a log-likelihood can be solved to a proof where HiGHS cannot read them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from cggd.budget import Budget
from cggd.incumbent import Finding, Incumbent
from cggd.metrics import SumTable
from cggd.problem import Problem
from cggd.program.presolve import Limit, limits_of, possible
from cggd.rounding import sum_rounding
from cggd.space import ChoiceSpace

# Largest number of steps to the best multiplier. Any multiplier gives a bound; fewer than ten are usual.
STEPS = 20


@dataclass(frozen=True, eq=False)
class Node:
    """Part of the choice space.

    Attributes
    ----------
    mask : bool array of shape (n_options,)
        Options that a selection in the node may take.
    bound : float
        No such selection that satisfies the constraints has a smaller cost (``sign * objective``).
    found : list of ndarray
        Selections to try.
    option : int
        The option to branch on: one child takes it, the other does not; -1 if every decision is fixed.
    """

    mask: NDArray[np.bool_]
    bound: float
    found: Sequence[NDArray[np.int64]]
    option: int


@dataclass(frozen=True)
class Branches:
    """Branch and bound with bounds that the metrics supply.

    Parameters
    ----------
    nodes : int
        Largest number of nodes that are branched on.
    tolerance : float
        Nodes that may improve the best objective by no more than this are discarded.
    share : float
        Share of the time left.
    """

    nodes: int = 1000
    tolerance: float = 0.0
    share: float = 0.5

    def suits(self, problem: Problem) -> bool:
        """Whether no metric is noisy or costly."""
        return not problem.costly and not any(metric.noisy for metric in problem.metrics)

    def improve(
        self, problem: Problem, incumbent: Incumbent, budget: Budget, rng: np.random.Generator
    ) -> Iterator[Finding | None]:
        """Yield better selections, and finally a bound, or a proof of infeasibility."""
        mine, limits, ties = budget.part(share=self.share), limits_of(problem.constraints), count()
        everything = np.ones(problem.space.n_options, dtype=bool)
        parent, children = -np.inf, [everything if problem.allowed is None else problem.allowed]
        heap: list[tuple[float, int, Node]] = []
        for branched in count():
            better: list[NDArray[np.int64]] = []
            for mask in children:
                node = node_of(problem, limits, mask, incumbent.cost - self.tolerance)
                if node is not None:
                    heapq.heappush(heap, (max(parent, node.bound), next(ties), node))
                    better += [one for one in node.found if problem.cost(one) < incumbent.cost]
            best = min(filter(problem.satisfied, better), key=problem.cost, default=None)
            yield None if best is None else Finding(best)
            if not heap or heap[0][0] >= incumbent.cost - self.tolerance or branched >= self.nodes or mine.over():
                break
            parent, _, node = heapq.heappop(heap)
            children = halves(problem.space, node) if node.option >= 0 else []
        least = min(incumbent.cost - self.tolerance, heap[0][0] if heap else np.inf)
        if least == np.inf:
            yield Finding(proof="branch and bound left no selection")
        elif least > -np.inf:
            yield Finding(bound=problem.sign * least)


def node_of(problem: Problem, limits: Sequence[Limit], allowed: NDArray[np.bool_], cost: float) -> Node | None:
    """Narrow a mask and bound it; None if no feasible selection in it costs less than `cost`."""
    space, layout = problem.space, problem.space.layout
    before = possible(space, limits, allowed)
    if before is None:
        return None
    least = problem.objective.least_with(problem.sign, before)
    narrow = before & ~(least >= cost)
    if not layout.reduce(np.logical_or, narrow).all():
        return None
    mask = possible(space, limits, narrow) if (narrow != before).any() else before
    if mask is None:
        return None
    table = np.where(mask, least, np.inf)
    low = layout.reduce(np.minimum, table)
    bound, found = float(low.max()), [layout.argmax(-table)]
    line = problem.objective.minorant(problem.sign, mask)
    for metric, sign, limit in limits:
        if line is not None and (use := metric.minorant(sign, mask)) is not None:
            other, selection = lagrangian(space, mask, line, use, limit)
            bound = max(bound, other)
            found += [] if selection is None else [selection]
    # Branch first on the decision whose best option costs most to exclude.
    rest = table.copy()
    rest[layout.flat(found[0])] = np.inf
    regret = np.zeros(space.n_decisions)
    np.subtract(layout.reduce(np.minimum, rest), low, out=regret, where=np.isfinite(low))
    regret[layout.reduce(np.add, mask.astype(np.int64)) == 1] = -np.inf
    decision = int(np.argmax(regret))
    option = int(layout.flat(found[0])[decision]) if regret[decision] > -np.inf else -1
    return Node(mask, bound, found, option) if bound < cost else None


def halves(space: ChoiceSpace, node: Node) -> list[NDArray[np.bool_]]:
    """The masks of the children: with the node's option, and without it."""
    decision = int(space.layout.owner[node.option])
    taken, left = node.mask.copy(), node.mask.copy()
    taken[space.offsets[decision] : space.offsets[decision + 1]] = False
    taken[node.option], left[node.option] = True, False
    return [taken, left]


def lagrangian(
    space: ChoiceSpace, mask: NDArray[np.bool_], cost: SumTable, use: SumTable, limit: float
) -> tuple[float, NDArray[np.int64] | None]:
    """A lower bound on one sum, over selections for which another sum is within a limit, and such a selection.

    The bound is that of the linear relaxation: the maximum over the weight of the least ``cost + weight * (use -
    limit)``. This function is concave and piecewise linear; it is maximised by intersecting its lines at two weights.
    """
    layout, n = space.layout, space.n_decisions + 2

    def size(table: SumTable) -> float:
        largest = layout.reduce(np.maximum, np.where(mask, np.abs(table.values), 0.0))
        return float(largest.sum()) + abs(table.constant) + table.lost

    most, used = size(cost), size(use)
    room = limit - use.constant + 2 * float(sum_rounding(used + abs(limit), n))

    def at(weight: float) -> tuple[float, float, NDArray[np.int64]]:
        """The bound, its slope in the weight, and the selection of least total."""
        total = np.where(mask, cost.values + weight * use.values, np.inf)
        chosen = layout.argmax(-total)
        options = layout.flat(chosen)
        slope = float(use.values[options].sum()) - room
        lost = float(sum_rounding(most + weight * (used + abs(room)), n))
        return float(total[options].sum()) + cost.constant - weight * room - 2 * lost, slope, chosen

    best, slope, chosen = at(0.0)
    if slope <= 0:
        return best, chosen
    low, high = (0.0, best, slope), None
    weight = (float(np.ptp(cost.values[mask])) or 1.0) / max(float(np.ptp(use.values[mask])), 1e-300)
    selection = None
    for _ in range(STEPS):
        value, slope, chosen = at(weight)
        best = max(best, value)
        if slope <= 0:
            high, selection = (weight, value, slope), chosen
        else:
            low = (weight, value, slope)
        if high is None:
            weight *= 8.0
            continue
        # The bound is at most the height at which the lines of both ends intersect.
        step = (high[1] - low[1] - high[2] * (high[0] - low[0])) / (low[2] - high[2])
        if low[1] + low[2] * step <= best + 1e-9 * abs(best):
            break
        weight = low[0] + step
    return best, selection
