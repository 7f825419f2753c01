"""Make the files of cggd/datasets from the folder named by CGGD_DATA (when unset: ../shared/data).

Run ``python -m tools.build_datasets``. The same data gives the same contents, and with the same zlib the same bytes.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd.datasets import NATS_EDGES, NATS_OPERATIONS, data_folder

PACKAGE = Path(__file__).parents[1] / "cggd" / "datasets"

# name, column of the source, unit
NATS_COLUMNS = (
    ("params", "params_c10", ""),
    ("mflops", "mflops_c10", "MFLOPs"),
    ("val12", "val12_c10", "%"),
    ("test12", "test12_c10", "%"),
    ("val200", "val200_c10", "%"),
    ("test200", "test200_c10", "%"),
    ("latency", "edgegpu_latency", "ms"),
    ("energy", "edgegpu_energy", "mJ"),
)

# Best known value and proved upper bound. I01-I06: optima, proved by HiGHS. I07: found by HiGHS and CP-SAT in 60 s, and
# the bound of the linear relaxation.
MMKP_BOUNDS = {
    "I01": (173, 173),
    "I02": (364, 364),
    "I03": (1602, 1602),
    "I04": (3597, 3597),
    "I05": (3905.7, 3905.7),
    "I06": (4799.3, 4799.3),
    "I07": (24584, 24607.95),
}


def nats_topology(folder: Path) -> dict[str, NDArray]:
    """Join accuracies with latency and energy; integers in steps of the last decimal given, so that nothing is lost."""
    accuracies = _rows(folder / "nas" / "nats_topology_cifar10.csv")
    hardware = {row["idx"]: row for row in _rows(folder / "nas" / "hw_nas_bench_topology_cifar10.csv")}
    shape = (len(NATS_OPERATIONS),) * len(NATS_EDGES)
    joined: list[dict[str, str]] = [{}] * len(accuracies)
    for row in accuracies:
        place = np.ravel_multi_index(tuple(int(digit) for digit in row["ops"]), shape)
        joined[place] = row | hardware[row["idx"]]
    numbers = [[Decimal(row[column]) for row in joined] for _, column, _ in NATS_COLUMNS]
    decimals = [max(-int(number.as_tuple().exponent) for number in column) for column in numbers]
    steps = [[int(number.scaleb(d)) for number in column] for column, d in zip(numbers, decimals, strict=True)]
    return {
        "names": np.array([name for name, _, _ in NATS_COLUMNS]),
        "units": np.array([unit for _, _, unit in NATS_COLUMNS]),
        "decimals": np.array(decimals),
        "steps": np.array(steps, dtype=np.int32),
    }


def mmkp(folder: Path) -> dict[str, NDArray]:
    """Cut the instances I01-I07 into values (groups, items), weights (resources, groups, items) and capacities."""
    instances = json.loads(gzip.decompress((folder / "selection" / "mmkp.json.gz").read_bytes()))
    arrays = {"names": np.array(list(MMKP_BOUNDS))}
    for name, bounds in MMKP_BOUNDS.items():
        groups = np.array(instances[name]["groups"], dtype=float)
        arrays[f"{name}_values"] = groups[:, :, 0]
        arrays[f"{name}_weights"] = np.moveaxis(groups[:, :, 1:], -1, 0).astype(np.uint8)
        arrays[f"{name}_capacities"] = np.array(instances[name]["cap"], dtype=np.int64)
        arrays[f"{name}_bounds"] = np.array(bounds, dtype=float)
    return arrays


def arf(folder: Path) -> dict[str, Any]:
    """Take the graph, the units of its types of operation and the optima of one data-flow graph."""
    data = json.loads((folder / "scheduling" / "hls_dfgs.json").read_text())
    graph = data["dfgs"]["arf"]
    units: dict[str, dict[str, dict[str, int]]] = {}
    for unit in data["library"]:
        if (op := unit["op"]) in graph["nodes"].values():
            row = {key: unit[key] for key in ("area", "delay", "power")}
            units.setdefault(op, {})[f"{op}-{unit['delay']}"] = row
    optima = [
        [row["objective"], int(row["latency_bound"]), int(row["optimum"])]
        for row in _rows(folder / "scheduling" / "hls_optima.csv")
        if row["dfg"] == "arf"
    ]
    return {"nodes": graph["nodes"], "edges": graph["edges"], "units": units, "optima": optima}


@dataclass(frozen=True)
class Source:
    """How one packaged file is made, and where its data come from."""

    build: Callable[[Path], dict[str, Any]]
    content: str
    source: str
    licence: str


SOURCES = {
    "nats_topology.npz": Source(
        nats_topology,
        "NATS topology space on CIFAR-10: parameters, MACs, accuracies after 12 and 200 epochs, "
        "latency and energy on the edge GPU (Jetson TX2)",
        "NATS-Bench (https://github.com/D-X-Y/NATS-Bench) joined with "
        "HW-NAS-Bench (https://github.com/GATECH-EIC/HW-NAS-Bench)",
        "MIT",
    ),
    "mmkp.npz": Source(
        mmkp,
        "multiple-choice multi-dimensional knapsacks I01-I07, with best known values and upper bounds",
        "S. Khan et al., Studia Informatica 2 (2002), from public mirrors; "
        "optima and bounds derived with HiGHS and CP-SAT",
        "none stated",
    ),
    "arf.json": Source(
        arf,
        "data-flow graph of the auto-regressive filter, with a library of functional units and proved optima",
        "RTL-PowerOptimization (https://github.com/gabrielganzer/RTL-PowerOptimization); optima derived with CP-SAT",
        "BSD-3-Clause",
    ),
}


def encode(file: str, contents: dict[str, Any]) -> bytes:
    """Turn contents into the bytes of a file; numpy writes no time stamps into its archives."""
    if file.endswith(".json"):
        return json.dumps(contents, separators=(",", ":")).encode()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **contents)
    return buffer.getvalue()


def main() -> None:
    """Write the files and their manifest."""
    folder = data_folder()
    if folder is None:
        raise SystemExit("no data: set CGGD_DATA to the folder that holds nas/, selection/ and scheduling/")
    manifest = {}
    for file, source in SOURCES.items():
        data = encode(file, source.build(folder))
        (PACKAGE / file).write_bytes(data)
        manifest[file] = {
            "content": source.content,
            "source": source.source,
            "licence": source.licence,
            "sha256": sha256(data).hexdigest(),
        }
        print(f"{file}: {len(data):,} bytes")
    (PACKAGE / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
