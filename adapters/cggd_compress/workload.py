"""Cost of a run: memory, multiply-accumulate operations, and bytes of weights that are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
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

# Operators that multiply two inputs, and which these are; their integer forms have scales and zero points between.
MATRICES = {"MatMul": (0, 1), "FusedMatMul": (0, 1), "Gemm": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3)}
CONVOLUTIONS = {"Conv": (0, 1), "ConvTranspose": (0, 1), "ConvInteger": (0, 1), "QLinearConv": (0, 3)}
RECURRENT = ("LSTM", "GRU", "RNN")


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
    """Memory, multiply-accumulates and traffic of a run on the first batch, as sums over weights.

    Memory is that of the weights as the runtime holds them (unpacked if it unpacks them when it loads the file), plus
    the peak of the original's activations. Activations inside a format, such as between two low-rank factors, are left
    out. Multiply-accumulates are counted as in `cggd_nas.measure.macs` (`products`); two low-rank factors have fewer,
    and all other formats as many as the weight. Traffic is the bytes of weights that a run reads, each once.

    Parameters
    ----------
    choices : Choices
    found : Trace
        A run of the original.
    """
    space, parts = choices.space, choices.network.parts
    model = onnx.ModelProto.FromString(choices.network.assemble({}))
    rest = sum(_bytes(t) for t in model.graph.initializer if t.name not in parts)
    shapes = {**{t.name: tuple(t.dims) for t in model.graph.initializer}, **found.shapes}
    owned: dict[str | None, int] = {None: 0}  # multiply-accumulates with each weight, and those with none
    for operands, count in (product for node in model.graph.node for product in products(node, shapes)):
        owner = next((name for name in operands if name in parts), None)
        owned[owner] = owned.get(owner, 0) + count
    numbers = np.zeros((3, space.n_options))
    at = 0
    for decision in space.decisions:
        for option in space.option_labels(decision):
            for name, fragment in choices.fragments[str(decision), str(option)].items():
                held, macs = _held(parts[name], fragment), owned.get(name, 0) * _share(parts[name], fragment)
                numbers[:, at] += held, macs, _read(parts[name], held, found)
            at += 1
    return {
        "memory": Additive(space, numbers[0], constant=found.peak + rest, name="memory", unit="B"),
        "macs": Additive(space, numbers[1], constant=owned[None], name="macs"),
        "traffic": Additive(space, numbers[2], constant=rest, name="traffic", unit="B"),
    }


def _elements(tensor: onnx.TensorProto) -> int:
    return int(np.prod(tensor.dims))


def _bytes(tensor: onnx.TensorProto) -> int:
    return len(tensor.raw_data) or _elements(tensor) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def products(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> list[tuple[tuple[str, ...], int]]:
    """The multiply-accumulates of a node with the operands that it multiplies.

    Convolutions, matrix products and recurrent layers have some. Biases, norms, pooling, look-ups, sums and activation
    functions have none, as in `cggd_nas.measure.macs`. Nodes of unknown shapes, such as those in branches and loops, do
    not count.

    Examples
    --------
    >>> node = onnx.helper.make_node("Gemm", ["x", "weight", "bias"], ["y"])
    >>> products(node, {"x": (1, 3), "weight": (3, 4), "bias": (4,), "y": (1, 4)})
    [(('x', 'weight'), 12)]
    """
    kind, given = node.op_type, list(node.input)
    numbers = {a.name: a.i for a in node.attribute}
    if kind in RECURRENT and all(name in shapes for name in given[:3]):  # steps, samples, features in either order
        calls = prod(shapes[given[0]][:2])
        return [((name,), calls * prod(shapes[name])) for name in given[1:3]]
    if kind == "MatMulNBits" and node.output[0] in shapes:
        return [((given[0], given[1]), prod(shapes[node.output[0]]) * numbers["K"])]
    if kind == "Einsum" and len(given) == 2 and all(name in shapes for name in given):
        terms = next(a.s for a in node.attribute if a.name == "equation").decode().replace(" ", "").partition("->")[0]
        axes = dict(zip(terms.replace(",", ""), (n for name in given for n in shapes[name]), strict=False))
        return [] if "." in terms else [(tuple(given), prod(axes.values()))]
    places = (MATRICES | CONVOLUTIONS).get(kind)
    if places is None or not {given[i] for i in places} | {node.output[0]} <= shapes.keys():
        return []
    operands = given[places[0]], given[places[1]]
    left, right = (shapes[name] for name in operands)
    made = left if kind == "ConvTranspose" else shapes[node.output[0]]
    summed = prod(right[1:]) if kind in CONVOLUTIONS else left[-2 if numbers.get("transA") else -1]
    return [(operands, prod(made) * summed)]


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


def _share(part: Part, fragment: Fragment) -> float:
    """The multiply-accumulates of a replacement as a share of the weight's; low-rank factors have fewer."""
    graph = fragment.model.graph
    arrays = {t.name: _elements(t) for t in graph.initializer}
    arrays |= {n.output[0]: arrays[n.input[0]] for n in graph.node if n.op_type == "Cast" and n.input[0] in arrays}
    factors = [arrays.get(n.input[1]) for n in graph.node if n.op_type == "MatMul"] if fragment.replaced else []
    known = [factor for factor in factors if factor is not None]
    if not known or len(known) < len(factors):
        return 1.0
    return sum(known) / len(part.users) / part.array.size


def _read(part: Part, held: int, found: Trace) -> float:
    """Bytes of a weight that a run reads; for an embedding table, only the rows that are looked up."""
    if part.users and all(user.op_type == "Gather" for user in part.users):
        shapes: list[Any] = [found.shapes.get(user.output[0]) for user in part.users]
        if all(shape is not None for shape in shapes):
            rows = sum(float(np.prod(shape, dtype=float)) for shape in shapes)
            return held * min(rows / part.array.size, 1.0)
    return float(held)
