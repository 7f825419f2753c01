"""Cost of a run: memory, multiply-accumulate operations, and bytes of weights that are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from cggd.metrics import Additive
from cggd.metrics.base import Invalid
from cggd_compress.choices import Choices
from cggd_compress.network import Fragment, Part
from cggd_compress.runtime import first_line

FLOAT_BYTES = 4

PRODUCTS = ("MatMul", "Gemm", "Conv")


@dataclass(frozen=True)
class Trace:
    """Shapes and ranges of all values of a run, and the peak bytes of activations."""

    shapes: Mapping[str, tuple[int, ...]]
    ranges: Mapping[str, tuple[float, float]]
    peak: int


def trace(data: bytes, batches: Sequence[Mapping[str, NDArray]]) -> Trace:
    """Run a model without optimisations and inspect every intermediate value.

    Parameters
    ----------
    data : bytes
        The ONNX file.
    batches : list of mapping of name to array
        Shapes and the peak are those of the first batch; ranges are those over all batches.

    Raises
    ------
    Invalid
        If the runtime does not return the values.
    """
    import onnxruntime

    model = onnx.ModelProto.FromString(data)
    graph = model.graph
    shown = [name for node in graph.node for name in node.output if name]
    held = {output.name for output in graph.output}
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in shown if name not in held)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        sizes: dict[str, int] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        ranges: dict[str, tuple[float, float]] = {}
        for batch in batches:
            values = session.run(shown, dict(batch))
            for name, array in (*zip(shown, map(np.asarray, values), strict=True), *batch.items()):
                sizes.setdefault(name, array.nbytes)
                shapes.setdefault(name, array.shape)
                if array.dtype == np.float32 and array.size:
                    low, high = ranges.get(name, (np.inf, -np.inf))
                    ranges[name] = min(low, float(array.min())), max(high, float(array.max()))
    except Exception as error:
        raise Invalid(f"ONNX Runtime does not show inner values: {first_line(error)}") from None
    return Trace(shapes, ranges, _peak(graph, sizes, held))


def _peak(graph: onnx.GraphProto, sizes: Mapping[str, int], outputs: set[str]) -> int:
    """Peak bytes: a value is alive from the step that makes it to the last step that uses it."""
    steps = len(graph.node)
    born = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    change = np.zeros(steps + 1, dtype=np.int64)
    last: dict[str, int] = {}
    for i, node in enumerate(graph.node):
        inner = [n for a in node.attribute for g in (a.g, *a.graphs) for x in g.node for n in x.input]
        last |= dict.fromkeys((*node.input, *inner), i)
    for name, size in sizes.items():
        start = born.get(name, 0)
        end = steps - 1 if name in outputs else last.get(name, start)
        change[start] += size
        change[end + 1] -= size
    return int(np.cumsum(change).max(initial=0))


def workload(choices: Choices, found: Trace) -> dict[str, Additive]:
    """Memory, operations and traffic of a run, as sums over weights.

    Memory is that of the weights as the runtime holds them (unpacked if it unpacks them when it loads the file), plus
    the peak of the original's activations. Activations inside a format, such as between two low-rank factors, are left
    out. Traffic is the bytes of weights that a run reads, each once.

    Parameters
    ----------
    choices : Choices
    found : Trace
        A run of the original.
    """
    space, parts = choices.space, choices.network.parts
    model = onnx.ModelProto.FromString(choices.network.assemble({}))
    rest = sum(_bytes(t) for t in model.graph.initializer if t.name not in parts)
    numbers = np.zeros((3, space.n_options))
    at = 0
    for decision in space.decisions:
        for option in space.option_labels(decision):
            for name, fragment in choices.fragments[str(decision), str(option)].items():
                held = _held(parts[name], fragment)
                numbers[:, at] += held, _operations(parts[name], fragment, found), _read(parts[name], held, found)
            at += 1
    others = sum(_of_activations(node, found, parts) for node in model.graph.node)
    return {
        "memory": Additive(space, numbers[0], constant=found.peak + rest, name="memory", unit="B"),
        "macs": Additive(space, numbers[1], constant=others, name="macs"),
        "traffic": Additive(space, numbers[2], constant=rest, name="traffic", unit="B"),
    }


def _elements(tensor: onnx.TensorProto) -> int:
    return int(np.prod(tensor.dims))


def _bytes(tensor: onnx.TensorProto) -> int:
    return len(tensor.raw_data) or _elements(tensor) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def _of_activations(node: onnx.NodeProto, found: Trace, parts: Mapping[str, Part]) -> float:
    """Operations of a product of two activations; 0 for other nodes, which are counted with their weights."""
    if node.op_type != "MatMul" or set(node.input) & parts.keys():
        return 0.0
    shape, right = (found.shapes.get(name, ()) for name in (node.output[0], node.input[1]))
    return float(np.prod(shape, dtype=float)) * right[-2] if len(right) > 1 else 0.0


def _held(part: Part, fragment: Fragment) -> int:
    """Bytes of a weight while the model runs."""
    graph = fragment.model.graph
    if not fragment.replaced:
        return part.array.nbytes
    sizes = {t.name: (_elements(t), _bytes(t)) for t in graph.initializer}
    read = 0
    for node in graph.node:
        if node.input and all(name in sizes or not name for name in node.input):
            # Computed when the file is loaded, in single precision.
            most = max(sizes[name][0] for name in node.input if name)
            sizes |= dict.fromkeys(node.output, (most, most * FLOAT_BYTES))
    constant = set(sizes)
    used = {n for node in graph.node if not constant >= set(node.output) for n in node.input if n in constant}
    for name in used:
        read += sizes[name][1]
    return read


def _operations(part: Part, fragment: Fragment, found: Trace) -> float:
    """Multiply-accumulate operations of the nodes that use a weight."""
    graph = fragment.model.graph
    total = 0.0
    thin = [n for n in graph.node if n.op_type == "MatMul"] if fragment.replaced else []
    arrays = {t.name: _elements(t) for t in graph.initializer}
    arrays |= {n.output[0]: arrays[n.input[0]] for n in graph.node if n.op_type == "Cast" and n.input[0] in arrays}
    size = sum(arrays.get(n.input[1], 0) for n in thin) / max(len(part.users), 1) if thin else part.array.size
    for user in part.users:
        shape = found.shapes.get(user.output[0])
        if shape is None or user.op_type not in PRODUCTS:
            continue
        channels = shape[1] if user.op_type == "Conv" else shape[-1]
        total += float(np.prod(shape, dtype=float)) / max(channels, 1) * size
    return total


def _read(part: Part, held: int, found: Trace) -> float:
    """Bytes of a weight that a run reads; for an embedding table, only the rows that are looked up."""
    if part.users and all(user.op_type == "Gather" for user in part.users):
        shapes: list[Any] = [found.shapes.get(user.output[0]) for user in part.users]
        if all(shape is not None for shape in shapes):
            rows = sum(float(np.prod(shape, dtype=float)) for shape in shapes)
            return held * min(rows / part.array.size, 1.0)
    return float(held)
