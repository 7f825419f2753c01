"""The bounds on the tables of NATS-Bench, and every selection's values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cggd import Additive, ChoiceSpace, Table
from cggd.constraints import Constraint
from cggd.datasets import data_folder, nats_topology
from cggd.metrics import Metric

SIZES = tuple(range(8, 65, 8))
SIZE_FILE = "nas/nats_size_cifar10.csv"

# The paper's bounds: medians of latency and energy, 261,650 parameters, and 655 kB of peak memory. The last is read as
# 4 bytes x 40 channels x 32 x 32 pixels x 4, that is c0 <= 40; the paper does not define it.
LATENCY, ENERGY, PARAMS, CHANNELS = 5.31, 23.95, 261_650, 40

# Shares of all selections that the tighter bounds on latency leave.
SHARES = (0.25, 0.10, 0.05, 0.02)

# The losses that take logarithms of a cost need it above 1: latency and energy are given in thousandths of their units.
FINE = 1000.0


@dataclass(frozen=True, eq=False)
class Setting:
    """A search of a table under bounds from above.

    Attributes
    ----------
    name : str
    objective : Metric
        Accuracy that is searched, to be maximised.
    judge : Metric
        Accuracy that judges what was found; the objective itself in the size space, which has no other.
    constraints : list of Constraint
    """

    name: str
    objective: Metric
    judge: Metric
    constraints: list[Constraint]

    @property
    def space(self) -> ChoiceSpace:
        return self.objective.space

    @cached_property
    def feasible(self) -> NDArray[np.bool_]:
        """Of every selection, in the order of `ChoiceSpace.enumerate`."""
        return np.all([c.satisfied(every(c.metric)) for c in self.constraints], axis=0)

    def regrets(self, number: int) -> tuple[float, float]:
        """Points of accuracy, searched and judged, that a selection stays below the best feasible ones.

        `number` is its place in the order of `ChoiceSpace.enumerate`.
        """
        return self._regret(self.objective, number), self._regret(self.judge, number)

    def _regret(self, metric: Metric, number: int) -> float:
        values = every(metric)
        return float(values[self.feasible].max() - values[number])


def every(metric: Metric) -> NDArray[np.float64]:
    """Values of all selections, in the order of `ChoiceSpace.enumerate`."""
    return metric.values if isinstance(metric, Table) else metric.evaluate(metric.space.enumerate())


def topology() -> list[Setting]:
    """Searches of the topology space: the paper's three settings, and tighter bounds on latency."""
    nats = nats_topology()
    fast, frugal = nats.latency <= LATENCY, nats.energy <= ENERGY
    named = [
        (f"latency <= {LATENCY} ms", [fast]),
        (f"energy <= {ENERGY} mJ", [frugal]),
        ("latency and energy", [fast, frugal]),
    ]
    for share in SHARES:
        bound = nats.latency.quantile(share)
        named.append((f"latency <= {bound:.2f} ms ({share:.0%})", [nats.latency <= bound]))
    return [Setting(name, nats.val12, nats.test200, constraints) for name, constraints in named]


def sizes() -> list[Setting] | None:
    """Searches of the size space, or None where its file is not here."""
    folder = data_folder()
    if folder is None or not (folder / SIZE_FILE).is_file():
        return None
    rows = np.loadtxt(folder / SIZE_FILE, delimiter=",", skiprows=1)
    space = ChoiceSpace({f"c{stage}": SIZES for stage in range(5)})
    order = np.lexsort(rows[:, 5:0:-1].T)
    params = Table(space, rows[order, 6], name="params")
    accuracy = Table(space, rows[order, 8], name="test90", unit="%")
    channels = Additive(space, np.where(space.layout.owner == 0, np.tile(SIZES, 5), 0), name="c0")
    small, narrow = params <= PARAMS, channels <= CHANNELS
    named = [("params <= 261,650", [small]), ("c0 <= 40", [narrow]), ("params and c0", [small, narrow])]
    return [Setting(name, accuracy, accuracy, constraints) for name, constraints in named]
