"""Reading placements: JSON of our own, JSON of the dnn-partitioning benchmarks, ONNX."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from os import PathLike
from typing import Any

from cggd.metrics.base import whole
from cggd_scheduling.files import load_json, named, objects, package
from cggd_scheduling.placement.problem import Device, Operator, Placement

FORMAT = "cggd-placement-1"

# More devices of a kind than this in a file are taken for an error in it.
MOST_DEVICES = 10_000

# Names of the same fields in the benchmarks' own files and in a form with one row per node.
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


def read(path: str | PathLike) -> Placement:
    """Read a placement from a JSON file, or a gzipped one.

    Two forms are known. Our own: ``"format": "cggd-placement-1"`` with ``devices`` (objects of `Device`'s fields),
    ``operators`` (objects with a name and `Operator`'s fields), ``edges``, and where wanted ``colocate``, ``pins``,
    ``unit`` and ``memory_unit``. And that of the dnn-partitioning benchmarks (Tarnawski et al., 2020), with
    ``maxFPGAs`` accelerators that pay for transfers and ``maxCPUs`` hosts that do not; nodes of one colour stay
    together.

    Raises
    ------
    ValueError
        If the file holds something else; the message names the file.
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
    names = [_label(entry["name"]) for entry in objects(data, "operators")]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"operators must have different names, and {twice[0]!r} is one of two")
    operators = {_label(entry["name"]): _operator(entry) for entry in data["operators"]}
    return Placement(
        operators,
        [(_label(u), _label(v)) for u, v in data["edges"]],
        [_device(entry) for entry in objects(data, "devices")],
        [[_label(operator) for operator in group] for group in data.get("colocate", ())],
        _pins(data.get("pins", {})),
        data.get("unit", ""),
        data.get("memory_unit", ""),
    )


def _operator(entry: Mapping[str, Any]) -> Operator:
    fields = {key: value for key, value in entry.items() if key != "name"}
    unknown = fields.keys() - {"times", "memory", "transfer"}
    if unknown or "times" not in fields:
        wrong = f"an unknown field {min(unknown)!r}" if unknown else "no times"
        raise ValueError(f"operator {entry['name']!r} has {wrong}; its fields are name, times, memory and transfer")
    try:
        return Operator(**fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"operator {entry['name']!r}: {error}") from None


def _device(entry: Mapping[str, Any]) -> Device:
    if unknown := entry.keys() - {"name", "kind", "memory", "link"}:
        raise ValueError(f"a device has an unknown field {min(unknown)!r}; its fields are name, kind, memory and link")
    return Device(**{**entry, "memory": entry.get("memory", math.inf)})


def _pins(pins: Any) -> dict[Hashable, Any]:
    pairs = pins.items() if isinstance(pins, Mapping) else pins
    return {_label(operator): devices for operator, devices in pairs}


def _label(label: Any) -> Hashable:
    return tuple(map(_label, label)) if isinstance(label, list) else label


def _partitioning(data: Mapping[str, Any]) -> Placement:
    columns = data.get("columns")
    rows = [dict(zip(columns, row, strict=True)) for row in data["nodes"]] if columns else objects(data, "nodes")
    nodes = [{_FIELDS[key]: value for key, value in row.items() if key in _FIELDS} for row in rows]
    edges = [tuple(e) if isinstance(e, list) else (e["sourceId"], e["destId"], e["cost"]) for e in data["edges"]]
    transfer = {u: cost for u, _, cost in edges}
    operators, colours = {}, {}
    for node in nodes:
        times = {"cpu": node["cpu"]} | ({"acc": node["acc"]} if node["accelerated"] else {})
        operators[node["id"]] = Operator(times, node["memory"], transfer.get(node["id"], 0.0))
        if node.get("color", -1) != -1:
            colours.setdefault(node["color"], []).append(node["id"])
    for name in ("maxFPGAs", "maxCPUs"):
        if whole(data[name], name, least=0) > MOST_DEVICES:
            raise ValueError(f"{name} must be at most {MOST_DEVICES}")
    devices = [Device(f"acc{i}", "acc", data["maxSizePerFPGA"]) for i in range(data["maxFPGAs"])]
    devices += [Device(f"cpu{i}", "cpu", link=0.0) for i in range(data["maxCPUs"])]
    together = [group for group in colours.values() if len(group) > 1]
    return Placement(operators, [(u, v) for u, v, _ in edges], devices, together, unit="ms", memory_unit="bytes")


def read_onnx(
    path: str | PathLike,
    devices: Sequence[Device],
    times: Callable[[Any], Mapping[str, float]],
    *,
    bandwidth: float,
    **options: Any,
) -> Placement:
    """Read the operators of an ONNX model; needs the package ``onnx`` (``pip install 'cggd[onnx]'``).

    An operator's memory is that of the weights that it is the first to use and of its outputs; its transfer is the
    size of its outputs by the bandwidth. Shapes that ONNX cannot infer count as if they held one number.

    Parameters
    ----------
    path : path
    devices : sequence of Device
    times : callable
        From an ``onnx.NodeProto`` to its time on each kind of device, measured or estimated.
    bandwidth : float
        Bytes per unit of time.
    **options
        ``colocate``, ``pins`` and ``unit`` of `Placement`; operators are known by the names of their nodes.
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

    width = onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize if kind else 1  # 0 is a type that is not known
    return float(width * math.prod(shape))
