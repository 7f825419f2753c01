"""Small real instances in the package, each checked against its SHA-256 when it is read.

`tools/build_datasets.py` makes the files; ``manifest.json`` has their sources and licences (`manifest`).
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from cggd.constraints import Constraint
from cggd.metrics import Additive, LongestPath, Table
from cggd.space import ChoiceSpace

__all__ = ["DataFlow", "Knapsack", "NatsTopology", "arf", "data_folder", "manifest", "mmkp", "nats_topology"]

# The order in which NATS-Bench writes the operations of a cell; an edge (0, 1) carries node 0 to node 1 ("1<-0").
NATS_EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
NATS_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


@dataclass(frozen=True, eq=False)
class NatsTopology:
    """The NATS-Bench topology space (NAS-Bench-201) on CIFAR-10, every architecture measured.

    Attributes
    ----------
    space : ChoiceSpace
        The six edges of the cell's graph, with five operations each.
    params, mflops : Table
        Weights, and millions of multiply-accumulates, of the whole network.
    val12, test12, val200, test200 : Table
        Validation and test accuracy in % after 12 and after 200 epochs.
    latency, energy : Table
        Latency in ms and energy in mJ of one inference on the edge GPU (Jetson TX2), from HW-NAS-Bench.
    """

    space: ChoiceSpace
    params: Table
    mflops: Table
    val12: Table
    test12: Table
    val200: Table
    test200: Table
    latency: Table
    energy: Table


@dataclass(frozen=True, eq=False)
class Knapsack:
    """A multiple-choice multi-dimensional knapsack: one item per group, the value to be maximised.

    Attributes
    ----------
    space : ChoiceSpace
        Groups with their items.
    value : Additive
    weights : list of Additive
        One per resource.
    capacities : ndarray, shape (n_resources,)
    constraints : list of Constraint
        ``weight <= capacity``, resource by resource.
    best_known : float
        The best value known; the optimum if it equals `upper_bound`.
    upper_bound : float
        A proved bound on the value.
    """

    space: ChoiceSpace
    value: Additive
    weights: list[Additive]
    capacities: NDArray[np.float64]
    constraints: list[Constraint]
    best_known: float
    upper_bound: float


@dataclass(frozen=True, eq=False)
class DataFlow:
    """A data-flow graph of high-level synthesis: one functional unit for each operation.

    Attributes
    ----------
    graph : networkx.DiGraph
        Operations, with their type as node attribute ``op``, and their dependences.
    space : ChoiceSpace
        Operations with the units that can execute them, named by type and delay: ``"MUL-20"``.
    latency : LongestPath
        Time from the start to the last result.
    area, power : Additive
        Sums over the units.
    optima : mapping of (str, float) to float
        The proved least ``"area"`` or ``"power"`` under a bound on latency: ``optima["area", 62]``.
    """

    graph: nx.DiGraph[Any]
    space: ChoiceSpace
    latency: LongestPath
    area: Additive
    power: Additive
    optima: Mapping[tuple[str, float], float]


@cache
def nats_topology() -> NatsTopology:
    """Load the NATS topology space with accuracies, latency and energy; each call returns the same object.

    References
    ----------
    Dong et al., "NATS-Bench", TPAMI 2021. Li et al., "HW-NAS-Bench", ICLR 2021.

    Examples
    --------
    >>> nats = nats_topology()
    >>> nats.space
    ChoiceSpace(6 decisions, 5 options each)
    >>> selections = nats.space.enumerate()
    >>> int((nats.latency.evaluate(selections) <= 5.31).sum())
    7805
    >>> accuracy = nats.test200.evaluate(selections)
    >>> float(accuracy.max()), nats.space.labels(selections[accuracy.argmax()])[0, 1]
    (94.3733, 'nor_conv_3x3')
    """
    table = _arrays("nats_topology.npz")
    space = ChoiceSpace(dict.fromkeys(NATS_EDGES, NATS_OPERATIONS), nx.DiGraph(NATS_EDGES))
    values = table["steps"] / 10.0 ** table["decimals"][:, None]
    rows = zip(table["names"].tolist(), table["units"].tolist(), values, strict=True)
    return NatsTopology(space, **{name: Table(space, row, name=name, unit=unit) for name, unit, row in rows})


@cache
def mmkp(name: str) -> Knapsack:
    """Load one of Khan's knapsacks, from 5 groups of 5 items to 100 groups of 10; each call returns the same object.

    Parameters
    ----------
    name : str
        ``"I01"`` to ``"I07"``; any other name is a ValueError.

    References
    ----------
    Khan et al., "Solving the knapsack problem for adaptive multimedia systems", Studia Informatica 2002.

    Examples
    --------
    >>> knapsack = mmkp("I07")
    >>> knapsack.space
    ChoiceSpace(100 decisions, 10 options each)
    >>> len(knapsack.constraints), knapsack.upper_bound
    (10, 24607.95)
    """
    arrays = _arrays("mmkp.npz")
    names = arrays["names"].tolist()
    if name not in names:
        raise ValueError(f"name must be one of {', '.join(names)}, got {name!r}")
    values, capacities = arrays[f"{name}_values"], arrays[f"{name}_capacities"].astype(float)
    space = ChoiceSpace.from_sizes([values.shape[1]] * len(values))
    value, *weights = (
        Additive(space, row.ravel(), name=f"resource {r}" if r else "value")
        for r, row in enumerate([values, *arrays[f"{name}_weights"]])
    )
    constraints = [weight <= capacity for weight, capacity in zip(weights, capacities.tolist(), strict=True)]
    return Knapsack(space, value, weights, capacities, constraints, *arrays[f"{name}_bounds"].tolist())


@cache
def arf() -> DataFlow:
    """Load the auto-regressive filter, a classical data-flow graph of 16 multiplications and 12 additions.

    Each call returns the same object.

    Examples
    --------
    >>> filter = arf()
    >>> filter.space
    ChoiceSpace(28 decisions, 2 to 3 options each)
    >>> list(filter.space.option_labels("MUL_1"))
    ['MUL-20', 'MUL-10', 'MUL-100']
    >>> filter.optima["area", 62]
    1012
    """
    data = json.loads(_read("arf.json"))
    graph = nx.DiGraph()
    for node, op in data["nodes"].items():
        graph.add_node(node, op=op, options=list(data["units"][op]))
    graph.add_edges_from(data["edges"])
    space = ChoiceSpace.from_graph(graph)

    def column(key: str) -> dict[str, dict[str, float]]:
        units = {op: {unit: row[key] for unit, row in rows.items()} for op, rows in data["units"].items()}
        return {node: units[op] for node, op in data["nodes"].items()}

    return DataFlow(
        graph,
        space,
        LongestPath(space, graph, column("delay"), name="latency"),
        Additive(space, column("area"), name="area"),
        Additive(space, column("power"), name="power"),
        {(objective, bound): optimum for objective, bound, optimum in data["optima"]},
    )


def data_folder() -> Path | None:
    """Find the folder of the larger data sets, which are not in the package.

    It is the folder named by the environment variable ``CGGD_DATA`` (a ValueError if that is no folder); otherwise
    ``../shared/data`` beside the working directory or the project, or None if there is neither.
    """
    if named := os.environ.get("CGGD_DATA"):
        if not Path(named).is_dir():
            raise ValueError(f"CGGD_DATA must name a folder, got {named!r}; correct it or unset it")
        return Path(named)
    project = Path(__file__).parents[2]
    candidates = (place.parent / "shared" / "data" for place in (Path.cwd(), project))
    return next((folder for folder in candidates if folder.is_dir()), None)


@cache
def manifest() -> dict[str, dict[str, str]]:
    """Describe the packaged files: for each its ``content``, ``source``, ``licence`` and ``sha256``.

    Examples
    --------
    >>> manifest()["nats_topology.npz"]["licence"]
    'MIT'
    """
    return json.loads((files(__name__) / "manifest.json").read_bytes())


def _read(file: str) -> bytes:
    data = (files(__name__) / file).read_bytes()
    expected, found = manifest()[file]["sha256"], sha256(data).hexdigest()
    if found != expected:
        hint = f"its SHA-256 is {found}, it should be {expected}; install cggd again"
        raise ValueError(f"the packaged data file {file} is damaged: {hint}")
    return data


def _arrays(file: str) -> dict[str, NDArray]:
    with np.load(io.BytesIO(_read(file))) as archive:
        return dict(archive)
