"""Reading placements: cggd's own JSON, JSON of the dnn-partitioning benchmarks, ONNX."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from os import PathLike
from typing import Any

from cggd.checks import whole
from cggd.entries import label_from_json
from cggd.io import check_keys
from cggd_scheduling.files import load_json, named, objects, package
from cggd_scheduling.placement.problem import Device, Operator, Placement

FORMAT = "cggd-placement-1"
OWN = ("format", "devices", "operators", "edges", "colocate", "pins", "unit", "memory_unit")

# A file with more pairs of a node and a device than this is rejected.
MOST_PLACES = 1_000_000

# Names of the same fields in the files of the benchmarks and in another form, with one row per node.
_FIELDS = {
    "id": "id",
    "supportedOnFpga": "accelerated",
    "fpga_ok": "accelerated",
    "cpuLatency": "cpu",
    "cpu_ms": "cpu",
    "fpgaLatency": "acc",
    "acc_ms": "acc",
    "colorClass": "color",
    "color": "color",
    "size": "memory",
    "bytes": "memory",
}

# Other keys of such files. Colours already colocate nodes of the backward pass with those of the forward pass.
_UNREAD = ("name", "isBackwardNode", "backward")


def read(path: str | PathLike) -> Placement:
    """Read a placement from a JSON file, or a gzipped one.

    There are two formats:

    - ``"format": "cggd-placement-1"`` with ``devices`` (objects with the fields of `Device`), ``operators`` (objects
      with a name and the fields of `Operator`), ``edges``, and optional ``colocate``, ``pins``, ``unit`` and
      ``memory_unit``;
    - that of the dnn-partitioning benchmarks (Tarnawski et al., 2020), with ``maxFPGAs`` accelerators that pay for
      transfers and ``maxCPUs`` hosts that do not. Nodes of one colour are colocated.

    Raises
    ------
    ValueError
        If the file is not a placement; the message names the file.
    """
    data = load_json(path)
    with named(path):
        if not isinstance(data, dict):
            raise ValueError("expected an object")
        if data.get("format") == FORMAT:
            return _own(data)
        if "maxSizePerFPGA" in data:
            return _partitioning(data)
        raise ValueError(f'expected "format": "{FORMAT}", or "maxSizePerFPGA" of a dnn-partitioning file')


def _own(data: Mapping[str, Any]) -> Placement:
    check_keys(data, OWN, "the placement")
    counts = Counter(label_from_json(entry["name"]) for entry in objects(data, "operators"))
    if twice := [name for name, n in counts.items() if n > 1]:
        raise ValueError(f"operators must have different names, and {twice[0]!r} is one of two")
    operators = {label_from_json(entry["name"]): _operator(entry) for entry in data["operators"]}
    return Placement(
        operators,
        [(label_from_json(u), label_from_json(v)) for u, v in data["edges"]],
        [_device(entry) for entry in objects(data, "devices")],
        [[label_from_json(operator) for operator in group] for group in data.get("colocate", ())],
        _pins(data.get("pins", {})),
        data.get("unit", ""),
        data.get("memory_unit", ""),
    )


def _operator(entry: Mapping[str, Any]) -> Operator:
    check_keys(entry, ("name", "times", "memory", "transfer"), f"operator {entry['name']!r}")
    fields = {key: value for key, value in entry.items() if key != "name"}
    if "times" not in fields:
        raise ValueError(f"operator {entry['name']!r} has no times")
    try:
        return Operator(**fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"operator {entry['name']!r}: {error}") from None


def _device(entry: Mapping[str, Any]) -> Device:
    check_keys(entry, ("name", "kind", "memory", "link"), f"device {entry.get('name')!r}")
    return Device(**{**entry, "memory": entry.get("memory", math.inf)})


def _pins(pins: Any) -> dict[Hashable, Any]:
    pairs = pins.items() if isinstance(pins, Mapping) else pins
    return {label_from_json(operator): devices for operator, devices in pairs}


def _partitioning(data: Mapping[str, Any]) -> Placement:
    check_keys(data, ("maxSizePerFPGA", "maxFPGAs", "maxCPUs", "nodes", "edges", "columns"), "the file")
    columns = data.get("columns")
    if columns and (twice := [name for name, n in Counter(columns).items() if n > 1]):
        raise ValueError(f"columns has {twice[0]!r} twice")
    rows = [dict(zip(columns, row, strict=True)) for row in data["nodes"]] if columns else objects(data, "nodes")
    n_devices = sum(whole(data[name], name, least=0) for name in ("maxFPGAs", "maxCPUs"))
    if n_devices * len(rows) > MOST_PLACES:
        raise ValueError(f"{len(rows)} nodes on {n_devices} devices are too many: at most {MOST_PLACES} pairs of them")
    operators: dict[Hashable, Operator] = {}
    colours: dict[Any, list[Hashable]] = {}
    transfer = _transfers(data["edges"])
    for row in rows:
        check_keys(row, (*_FIELDS, *_UNREAD), f"node {row.get('id')!r}")
        node = {_FIELDS[key]: value for key, value in row.items() if key in _FIELDS}
        if node["id"] in operators:
            raise ValueError(f"nodes must have different ids, and {node['id']!r} is one of two")
        times = {"cpu": node["cpu"]} | ({"acc": node["acc"]} if node["accelerated"] else {})
        operators[node["id"]] = Operator(times, node["memory"], next(iter(transfer.get(node["id"], {}).values()), 0.0))
        if node.get("color", -1) != -1:
            colours.setdefault(node["color"], []).append(node["id"])
    devices = [Device(f"acc{i}", "acc", data["maxSizePerFPGA"]) for i in range(data["maxFPGAs"])]
    devices += [Device(f"cpu{i}", "cpu", link=0.0) for i in range(data["maxCPUs"])]
    together = [group for group in colours.values() if len(group) > 1]
    edges = [(u, v) for u, targets in transfer.items() for v in targets]
    return Placement(operators, edges, devices, together, unit="ms", memory_unit="bytes")


def _transfers(edges: Any) -> dict[Hashable, dict[Hashable, float]]:
    """Transfer cost of each output: {node: {target: cost}}, with the same cost for all targets of a node."""
    found: dict[Hashable, dict[Hashable, float]] = {}
    for edge in edges:
        if isinstance(edge, Mapping):
            check_keys(edge, ("sourceId", "destId", "cost", "size"), "an edge")
            edge = edge["sourceId"], edge["destId"], edge["cost"]
        source, target, cost = edge
        costs = found.setdefault(source, {})
        if any(other != cost for other in costs.values()):
            raise ValueError(
                f"the edges from node {source!r} have different costs; an output is sent once, at one cost"
            )
        costs[target] = cost
    return found


def read_onnx(
    path: str | PathLike,
    devices: Sequence[Device],
    times: Callable[[Any], Mapping[str, float]],
    *,
    bandwidth: float,
    **options: Any,
) -> Placement:
    """Read the operators of an ONNX model; needs the package ``onnx`` (``pip install 'cggd[onnx]'``).

    The memory of an operator is that of its outputs and of the weights that no earlier operator uses. Its transfer time
    is the size of its outputs divided by the bandwidth. Dimensions that ONNX cannot infer count as 1.

    Parameters
    ----------
    path : path
    devices : sequence of Device
    times : callable
        Returns for an ``onnx.NodeProto`` its time on each kind of device, measured or estimated.
    bandwidth : float
        Bytes per unit of time.
    **options
        ``colocate``, ``pins`` and ``unit`` of `Placement`. Operators have the names of their nodes.
    """
    onnx = package("onnx", "ONNX models", "onnx")
    model = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    weights = {tensor.name: _bytes(tensor.data_type, tensor.dims) for tensor in model.graph.initializer}
    sizes = {
        value.name: _bytes(
            value.type.tensor_type.elem_type, [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
        )
        for value in [*model.graph.value_info, *model.graph.output]
    }
    operators: dict[Hashable, Operator] = {}
    maker: dict[str, Hashable] = {}
    edges = []
    for number, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type}_{number}"
        out = sum(sizes.get(output, 0.0) for output in node.output)
        memory = out + sum(weights.pop(tensor, 0.0) for tensor in dict.fromkeys(node.input))
        edges += [(maker[tensor], name) for tensor in dict.fromkeys(node.input) if tensor in maker]
        maker.update(dict.fromkeys(node.output, name))
        operators[name] = Operator(times(node), memory, out / bandwidth)
    return Placement(operators, edges, devices, memory_unit="bytes", **options)


def _bytes(kind: int, shape: Sequence[int]) -> float:
    import onnx

    width = onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize if kind else 1  # 0: unknown type
    return float(width * math.prod(shape))
