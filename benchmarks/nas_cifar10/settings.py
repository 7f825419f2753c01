"""The settings: spaces with their supernets, the bounds, and the accuracies by which answers are evaluated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray
from torch import nn

from benchmarks.nas_cifar10.recipe import FULL, SIZE_SPACE, Recipe
from benchmarks.penalties import settings as tables
from benchmarks.penalties.settings import FINE, every
from cggd import Table
from cggd.constraints import Constraint
from cggd.datasets import NATS_EDGES, NATS_OPERATIONS
from cggd.space import ChoiceSpace
from cggd_nas.spaces import nats_size, nats_topology

Selection = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Family:
    """A space with a small supernet for it.

    Attributes
    ----------
    name : str
    build : callable
        From channels and cells per stage to the supernet's network.
    canonical : callable
        From a selection to a representative of all selections that compute the same.
    capacity : callable
        From a selection to the capacity of its network. Only the order of capacities matters.
    recipe : Recipe
        The training of its supernet and its networks.
    """

    name: str
    build: Callable[[int, int], nn.Module]
    canonical: Callable[[Selection], Selection]
    capacity: Callable[[Selection], float]
    recipe: Recipe


@dataclass(frozen=True, eq=False)
class Setting:
    """Bounds on a space.

    Attributes
    ----------
    name : str
    family : Family
    table : benchmarks.penalties.settings.Setting
        The bounds on the stored tables, with the accuracy.
    """

    name: str
    family: Family
    table: tables.Setting

    def constraints(self, space: ChoiceSpace) -> list[Constraint]:
        """The bounds on the supernet's space, in units in which all costs exceed 1, as some penalties need."""
        return [
            Table(space, FINE * every(c.metric), name=c.metric.name) <= FINE * c.bound for c in self.table.constraints
        ]

    def number(self, selection: Sequence[int]) -> int:
        """Position of a selection in the order of `ChoiceSpace.enumerate`."""
        return int(np.ravel_multi_index(tuple(selection), tuple(self.table.space.sizes)))

    def satisfied(self, selection: Sequence[int]) -> bool:
        return bool(self.table.feasible[self.number(selection)])

    def accuracy(self, selection: Sequence[int]) -> float:
        """Test accuracy in % after the table's full training."""
        return float(every(self.table.judge)[self.number(selection)])

    @cached_property
    def best(self) -> float:
        """The largest accuracy of any selection that satisfies the bounds."""
        return float(every(self.table.judge)[self.table.feasible].max())

    def regret(self, selection: Sequence[int]) -> float:
        """Points of accuracy below the best selection that satisfies the bounds."""
        return self.best - self.accuracy(selection)

    def by_network(self, rows: NDArray[np.int64]) -> dict[Selection, float]:
        """Mean accuracy of the cells that compute the same, by their representative."""
        found: dict[Selection, list[float]] = {}
        for row in map(tuple, rows.tolist()):
            found.setdefault(self.family.canonical(row), []).append(self.accuracy(row))
        return {network: float(np.mean(same)) for network, same in found.items()}

    @cached_property
    def networks(self) -> dict[Selection, float]:
        """Mean accuracy of each network over all its cells."""
        return self.by_network(self.table.space.enumerate())

    @cached_property
    def best_network(self) -> float:
        """The largest of these means among networks with a cell that satisfies the bounds."""
        return max(self.networks[self.family.canonical(tuple(row))] for row in self.feasible().tolist())

    def network_regret(self, selection: Sequence[int]) -> float:
        """Points of accuracy below the best network within the bounds, both as means over equal cells."""
        return self.best_network - self.networks[self.family.canonical(tuple(selection))]

    def feasible(self) -> NDArray[np.int64]:
        """All selections that satisfy the bounds."""
        return self.table.space.enumerate()[self.table.feasible]


def live(selection: Selection) -> Selection:
    """The topology cell without edges that carry nothing from the input to the output.

    An edge is removed if its source gets no input or its target does not reach the output. Two inner nodes without an
    edge between them are put into a fixed order.

    Examples
    --------
    >>> live((3, 4, 0, 1, 2, 0)), live((0, 3, 0, 1, 0, 2))
    ((3, 0, 0, 1, 2, 0), (3, 0, 0, 1, 2, 0))
    """
    chosen = list(selection)
    while True:
        sources = {u for (u, _), option in zip(NATS_EDGES, chosen, strict=True) if option} | {3}
        targets = {v for (_, v), option in zip(NATS_EDGES, chosen, strict=True) if option} | {0}
        kept = [
            option if u in targets and v in sources else 0 for (u, v), option in zip(NATS_EDGES, chosen, strict=True)
        ]
        if kept == chosen:
            break
        chosen = kept
    a, b, joined, through, out_a, out_b = chosen
    return tuple(chosen) if joined else max((a, b, 0, through, out_a, out_b), (b, a, 0, through, out_b, out_a))


def weights_in_use(selection: Selection) -> float:
    """Weights of a topology cell's convolutions in use, as a multiple of those of one 1x1 convolution.

    Examples
    --------
    >>> weights_in_use((3, 4, 0, 1, 2, 0))
    10.0
    """
    units = {"nor_conv_1x1": 1.0, "nor_conv_3x3": 9.0}
    return sum(units.get(NATS_OPERATIONS[option], 0.0) for option in live(selection))


def width(selection: Selection) -> float:
    """The geometric mean of a network's widths in the size space, each as a multiple of the narrowest."""
    return math.prod(option + 1 for option in selection) ** (1 / len(selection))


TOPOLOGY = Family("topology", lambda channels, cells: nats_topology(C=channels, N=cells), live, weights_in_use, FULL)
SIZE = Family("size", lambda channels, cells: nats_size(), tuple, width, SIZE_SPACE)

# Short names, in the order of `benchmarks.penalties.settings.topology` and `sizes`.
TOPOLOGY_NAMES = ("latency", "energy", "both", "latency25", "latency10", "latency5")
SIZE_NAMES = ("params", "memory")


@cache
def all_settings() -> dict[str, Setting]:
    """All settings by name; those of the size space only if its file exists."""
    named = [*zip(TOPOLOGY_NAMES, tables.topology(), strict=False)]
    found = {name: Setting(name, TOPOLOGY, table) for name, table in named}
    return found | {
        name: Setting(name, SIZE, table) for name, table in zip(SIZE_NAMES, tables.sizes() or [], strict=False)
    }
