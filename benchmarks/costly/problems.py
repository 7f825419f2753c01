"""The problems: one measurement of a selection gives its objective and all its values, and some measurements fail."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from cggd.datasets import data_folder


@dataclass(frozen=True, eq=False)
class Problem:
    """A choice of one option per decision, its bounds, and how it is measured.

    Attributes
    ----------
    labels : dict of decision to list of options
    evaluate : function
        Option numbers, one per decision, to (objective, values): one measurement. The objective is None, and there are
        no values, where it fails.
    bounds : list of float
        ``values[j] <= bounds[j]`` for all j.
    names : list of str
        Of the objective and of the values.
    maximise : bool
    best : float
        The best feasible objective known.
    known : str
        How it is known.
    allowed : function or None
        A free rule that a selection must meet.
    failed : float
        Stands for the objective of a failure where a method needs a number.
    """

    labels: dict[Hashable, list]
    evaluate: Callable[[Sequence[int]], tuple[float | None, list[float]]]
    bounds: list[float]
    names: list[str]
    maximise: bool
    best: float
    known: str
    allowed: Callable[[Sequence[int]], bool] | None = None
    failed: float = math.nan
    formula: object = None

    @property
    def sizes(self) -> list[int]:
        return [len(options) for options in self.labels.values()]

    def loss(self, value: float) -> float:
        """Distance to the best known, in percent of it."""
        return 100 * (1 if self.maximise else -1) * (self.best - value) / abs(self.best)


def rows_of(path: str) -> list[dict[str, str]]:
    data = (data_folder() / path).read_bytes()
    text = gzip.decompress(data).decode() if path.endswith(".gz") else data.decode()
    return list(csv.DictReader(io.StringIO(text)))


def topology(bound: float) -> Problem:
    """NATS-Bench topology, CIFAR-10: validation accuracy after 12 epochs under a latency on an edge GPU."""
    edges = ["1<-0", "2<-0", "2<-1", "3<-0", "3<-1", "3<-2"]
    kinds = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
    latency = {row["idx"]: float(row["edgegpu_latency"]) for row in rows_of("nas/hw_nas_bench_topology_cifar10.csv")}
    table = {
        tuple(map(int, row["ops"])): (float(row["val12_c10"]), [latency[row["idx"]]])
        for row in rows_of("nas/nats_topology_cifar10.csv")
    }
    best = max(accuracy for accuracy, (slow,) in table.values() if slow <= bound)
    return Problem(
        dict.fromkeys(edges, kinds),
        lambda s: table[tuple(map(int, s))],
        [bound],
        ["val12 accuracy", "latency"],
        True,
        best,
        "enumeration of all 15,625",
    )


def size() -> Problem:
    """NATS-Bench size, CIFAR-10: test accuracy after 90 epochs under a number of parameters."""
    channels = list(range(8, 65, 8))
    table = {
        tuple(int(row[f"c{i}"]) // 8 - 1 for i in range(5)): (float(row["test90_c10"]), [float(row["params_c10"])])
        for row in rows_of("nas/nats_size_cifar10.csv")
    }
    best = max(accuracy for accuracy, (parameters,) in table.values() if parameters <= 261_650)
    return Problem(
        {f"c{i}": channels for i in range(5)},
        lambda s: table[tuple(map(int, s))],
        [261_650.0],
        ["test90 accuracy", "parameters"],
        True,
        best,
        "enumeration of all 32,768",
    )


class FBNet:
    """Measured latencies of 22 layers x 9 operators, and a synthetic accuracy: saturating, with pairs that interact."""

    OPERATORS = ("k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip")
    WORTH = (0.35, 0.25, 0.6, 0.8, 0.45, 0.35, 0.75, 1.0, 0.0)

    def __init__(self) -> None:
        self.fixed, self.layer = 0.0, np.zeros((22, 9))
        for row in rows_of("nas/fbnet_latency_lut.csv"):
            if int(row["layer"]) < 0:
                self.fixed += float(row["raspi4"])
            else:
                self.layer[int(row["layer"]), self.OPERATORS.index(row["op"])] = float(row["raspi4"])
        rng = np.random.default_rng(123)
        scale, jitter = rng.uniform(0.5, 1.5, 22), rng.uniform(0.9, 1.1, (22, 9))
        self.worth = np.array(self.WORTH) * jitter * scale[:, None]
        self.pairs = [(i, i + 1, rng.normal(0, 0.15, (9, 9))) for i in range(21)]
        for _ in range(10):
            i, j = int(rng.integers(0, 22)), int(rng.integers(0, 22))
            self.pairs.append((i, j, rng.normal(0, 0.15, (9, 9))))

    def accuracy(self, selections: np.ndarray) -> np.ndarray:
        worth = self.worth[np.arange(22), selections].sum(axis=1)
        interaction = sum(table[selections[:, i], selections[:, j]] for i, j, table in self.pairs)
        return 40 + 36 * (1 - np.exp(-worth / 6)) + interaction

    def latency(self, selections: np.ndarray) -> np.ndarray:
        return self.fixed + self.layer[np.arange(22), selections].sum(axis=1)


# The same best in six runs of 512 annealing chains of 20,000 steps each.
FBNET_BEST = {25: 78.56894339514088, 50: 78.9276646620046}


def fbnet(share: int) -> Problem:
    """The space of FBNet under the latency that `share` percent of random networks meet."""
    net = FBNet()
    draws = np.random.default_rng(5).integers(0, 9, (20_000, 22))
    bound = float(np.quantile(net.latency(draws), share / 100))

    def evaluate(s: Sequence[int]) -> tuple[float, list[float]]:
        one = np.array(s, dtype=int)[None]
        return float(net.accuracy(one)[0]), [float(net.latency(one)[0])]

    return Problem(
        {f"layer {i}": list(FBNet.OPERATORS) for i in range(22)},
        evaluate,
        [bound],
        ["accuracy (synthetic)", "latency"],
        True,
        FBNET_BEST[share],
        "best of 6 x 512 annealing chains of 20,000 steps: best known, not proved",
        formula=net,
    )


def knapsack(name: str, best: float) -> Problem:
    """A multiple-choice knapsack with several resources, as a black box."""
    with gzip.open(data_folder() / "selection" / "mmkp.json.gz", "rt") as file:
        data = json.load(file)[name]
    groups = [np.array(group, dtype=float) for group in data["groups"]]

    def evaluate(s: Sequence[int]) -> tuple[float, list[float]]:
        value, *weights = sum(group[int(i)] for group, i in zip(groups, s, strict=True)).tolist()
        return value, weights

    capacities = [float(c) for c in data["cap"]]
    return Problem(
        {g: list(range(len(group))) for g, group in enumerate(groups)},
        evaluate,
        capacities,
        ["value", *(f"resource {r}" for r in range(1, len(capacities) + 1))],
        True,
        best,
        "proved optimum (exact solvers, published)",
    )


def convolution_rule(bx: int, by: int, tx: int, ty: int, read_only: int, padding: int, shared: int) -> bool:
    """At most 1,024 threads; padding only in shared memory, where it removes conflicts; 48 kB of shared memory."""
    memory = 4 * (bx * tx + 14) * (by * ty + 14)
    fits = not shared or memory <= 48 * 1024
    return bx * by <= 1024 and fits and (not padding or (bool(shared) and bx % 32 != 0))


def dedispersion_rule(bx: int, by: int, tx: int, ty: int, stride_x: int, stride_y: int) -> bool:
    """32 to 1,024 threads; a stride only between several tiles."""
    return 32 <= bx * by <= 1024 and (not stride_x or tx > 1) and (not stride_y or ty > 1)


def kernel(name: str, rule: Callable[..., bool], blind: bool) -> Problem:
    """Run times of a GPU kernel, every allowed configuration measured once; some do not compile or run."""
    rows = rows_of(f"tuning/{name}.csv.gz")
    parameters = [key for key in rows[0] if key != "time_ms"]
    labels = {p: sorted({int(row[p]) for row in rows}) for p in parameters}
    table = {tuple(int(row[p]) for p in parameters): float(row["time_ms"]) if row["time_ms"] else None for row in rows}
    options = list(labels.values())

    def of(s: Sequence[int]) -> tuple[int, ...]:
        return tuple(values[int(i)] for values, i in zip(options, s, strict=True))

    times = [ms for ms in table.values() if ms is not None]
    return Problem(
        labels,
        lambda s: (table.get(of(s)), []),
        [],
        ["time"],
        False,
        min(times),
        f"enumeration of all {len(table):,} allowed",
        None if blind else lambda s: rule(*of(s)),
        2 * max(times),
        table,
    )


KERNELS = {
    "convolution_a100": convolution_rule,
    "convolution_w7800": convolution_rule,
    "dedispersion_mi250x": dedispersion_rule,
}

PROBLEMS: dict[str, Callable[[], Problem]] = {
    "topology_5.31": lambda: topology(5.31),
    "topology_3.03": lambda: topology(3.03),
    "size": size,
    "fbnet_25": lambda: fbnet(25),
    "fbnet_50": lambda: fbnet(50),
    "I01": lambda: knapsack("I01", 173.0),
    "I02": lambda: knapsack("I02", 364.0),
    "I03": lambda: knapsack("I03", 1602.0),
    **{name: lambda n=name: kernel(n, KERNELS[n], blind=False) for name in KERNELS},
    **{f"{name}_blind": lambda n=name: kernel(n, KERNELS[n], blind=True) for name in KERNELS},
}
