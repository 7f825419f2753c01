"""An ONNX model split into its weights and the fragments that may replace them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper

# Most bytes of a protobuf file.
LARGEST = 2**31 - 1

# Copies of the weights in memory at once: the model, its parts, their options, and two sessions.
COPIES = 5

# The first version of ONNX in which initializers need not be inputs as well.
IR_VERSION = 4

MICROSOFT = "com.microsoft"

# The length of the graph always takes this many bytes, so that sizes of files are exact sums.
LENGTH_BYTES = 5


@dataclass(frozen=True, eq=False)
class Part:
    """A weight with the nodes that use it, as a small model that an option replaces by another model.

    Attributes
    ----------
    name : str
        Name of the weight.
    array : ndarray of float32
    model : onnx.ModelProto
        Its initializer is the weight, its nodes are those that use the weight, and its inputs are the other inputs of
        these nodes. If these nodes must stay as they are, it has no nodes, and the weight is its output.
    places : tuple of int
        Indices of these nodes in the whole model.
    users : tuple of onnx.NodeProto
        All nodes that use the weight, including those that must stay as they are, but none inside branches and loops.

    Examples
    --------
    An option of your own is a function that takes a part and returns its replacement, or None if it does not apply.

    >>> import numpy as np
    >>> from onnx import TensorProto, helper, numpy_helper
    >>> def signs(part):
    ...     "One bit would do; here a byte for each weight."
    ...     scale = numpy_helper.from_array(np.abs(part.array).mean().reshape(1), "scale")
    ...     sign = numpy_helper.from_array(np.sign(part.array).astype(np.int8), "sign")
    ...     cast = helper.make_node("Cast", ["sign"], ["float"], to=TensorProto.FLOAT)
    ...     return part.stored([cast, helper.make_node("Mul", ["float", "scale"], [part.name])], [sign, scale])
    """

    name: str
    array: NDArray[np.float32]
    model: onnx.ModelProto
    places: tuple[int, ...]
    users: tuple[onnx.NodeProto, ...]

    def stored(self, nodes: Sequence[onnx.NodeProto], initializers: Sequence[onnx.TensorProto]) -> onnx.ModelProto:
        """A replacement with nodes that compute the weight from initializers; the users of the weight stay as they are.

        If several nodes have an output with the weight's name, the last one makes the weight, and others are renamed.
        """
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        del model.graph.node[:], model.graph.initializer[:], model.graph.output[:], model.graph.input[:]
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(initializers)
        makers = [i for i, node in enumerate(nodes) if self.name in node.output]
        other = {self.name: f"{self.name} inside"}
        for i, node in enumerate(model.graph.node):
            node.input[:] = [other.get(name, name) for name in node.input]
            if i not in makers[-1:]:
                node.output[:] = [other.get(name, name) for name in node.output]
        for tensor in model.graph.initializer:
            tensor.name = other.get(tensor.name, tensor.name)
        model.graph.output.extend([onnx.helper.make_tensor_value_info(self.name, onnx.TensorProto.FLOAT, None)])
        return model


@dataclass(frozen=True, eq=False)
class Fragment:
    """The nodes and initializers that take the place of a weight in the file.

    Attributes
    ----------
    size : int
        Bytes in the file.
    model : onnx.ModelProto
    replaced : frozenset of int
        Indices of the nodes that it replaces.
    """

    front: bytes
    at: Mapping[int, bytes]
    initializers: bytes
    model: onnx.ModelProto
    replaced: frozenset[int]
    old_nodes: int

    @property
    def size(self) -> int:
        new = len(self.front) + len(self.initializers) + sum(map(len, self.at.values()))
        return new - self.old_nodes


class Network:
    """An ONNX model whose weights can be replaced by other fragments.

    Parameters
    ----------
    model : onnx.ModelProto
        It is changed in place: shape information of inner values is removed, and equal weights are merged.
    least : int
        Weights with fewer elements stay as they are.

    Attributes
    ----------
    parts : dict of name to Part
        The weights that can be replaced.
    prefix : str
        Beginning of the names inside fragments; no name of the model begins like it.
    original : int
        Bytes of the model as it was given.
    """

    def __init__(self, model: onnx.ModelProto, least: int = 1024) -> None:
        self.original = model.ByteSize()
        if self.original > LARGEST:
            raise ValueError(too_large(self.original))
        _tidy(model, least)
        self._shell, self._nodes = onnx.ModelProto(), [_field(1, n.SerializeToString()) for n in model.graph.node]
        self._shell.CopyFrom(model)
        graph = self._shell.graph
        del graph.node[:], graph.initializer[:]
        self._arrays = {t.name: _field(5, t.SerializeToString()) for t in model.graph.initializer}
        self.parts = {part.name: part for part in _parts(model, least)}
        self.prefix = _free_prefix(model.graph)
        self._own = graph.SerializeToString()
        self._shell.ClearField("graph")
        self._header = self._shell.SerializeToString()

    @property
    def opsets(self) -> dict[str, int]:
        """Version of each operator set."""
        return {o.domain: o.version for o in self._shell.opset_import}

    def fragment(self, name: str, model: onnx.ModelProto, prefix: str) -> Fragment:
        """The fragment of the file for a replacement of a part.

        Raises
        ------
        ValueError
            If the replacement lacks an output of the part, or needs operators of another version.
        """
        part = self.parts[name]
        given = {opset.domain: opset.version for opset in model.opset_import}
        for domain in {node.domain for node in model.graph.node} - {MICROSOFT}:
            if given.get(domain) != (ours := self.opsets.get(domain)):
                raise ValueError(f"needs operators of version {given.get(domain)}, and the model has {ours}")
        return _spliced(part, model, prefix, self._nodes)

    def kept(self, name: str) -> Fragment:
        """The weight as it is."""
        return Fragment(b"", {}, self._arrays[name], self.parts[name].model, frozenset(), 0)

    def kinds(self, least: int) -> list[str]:
        """Types of the initializers with at least so many elements."""
        sizes = [(onnx.TensorProto.DataType.Name(t.data_type).lower(), int(np.prod(t.dims))) for t in self._tensors()]
        return sorted({kind for kind, size in sizes if size >= least})

    def _tensors(self) -> Iterator[onnx.TensorProto]:
        """Initializers of the outer graph."""
        return (onnx.GraphProto.FromString(data).initializer[0] for data in self._arrays.values())

    def graph_size(self) -> int:
        """Bytes of the graph without the weights of its parts."""
        rest = sum(len(data) for name, data in self._arrays.items() if name not in self.parts)
        return len(self._own) + sum(map(len, self._nodes)) + rest

    def file_size(self, graph_size: int) -> int:
        """Bytes of the file with a graph of this size."""
        return len(self._header) + 1 + LENGTH_BYTES + graph_size

    def assemble(self, fragments: Mapping[str, Fragment]) -> bytes:
        """The file with these fragments in the places of weights; other weights stay as they are."""
        nodes: list[bytes] = list(self._nodes)
        for fragment in fragments.values():
            for place in fragment.replaced:
                nodes[place] = b""
        for fragment in fragments.values():
            for place, data in fragment.at.items():
                nodes[place] = data
        arrays = [data for name, data in self._arrays.items() if name not in fragments]
        arrays += [fragment.initializers for fragment in fragments.values()]
        graph = b"".join([*(f.front for f in fragments.values()), *nodes, self._own, *arrays])
        if len(graph) > LARGEST:
            raise ValueError(too_large(len(graph)))
        return b"".join([self._header, _tag(7), _long_varint(len(graph)), graph])


def read_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with its external data.

    Raises
    ------
    ValueError
        If the file is not an ONNX model, its external data is missing, or the model is too large; the message then says
        how much memory it would take.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError:
        raise ValueError(f"{path} is not an ONNX model, or is damaged") from None
    if not model.graph.node or not model.opset_import:
        raise ValueError(f"{path} is not an ONNX model, or is damaged: it has no operators")
    size = path.stat().st_size + sum(_external_size(t, path) for t in _all_tensors(model.graph))
    if size > LARGEST:
        raise ValueError(f"{path}: {too_large(size)}")
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, onnx.checker.ValidationError, ValueError) as error:
        raise ValueError(f"{path}: its external data cannot be read: {error}") from None
    return model


def too_large(size: int) -> str:
    """The error message for a model above 2 GB."""
    return (
        f"the model has {size / 1e9:.2f} GB with its external data, and a file that holds its weights has at most "
        f"{LARGEST / 1e9:.2f} GB; compressing it would take about {COPIES * size / 1e9:.0f} GB of memory"
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence advice from exporters and quantisers about preparing a model; we prepare it already."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _external_size(tensor: onnx.TensorProto, path: Path) -> int:
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return 0
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if "length" in entries:
        return int(entries["length"])
    file = path.parent / entries.get("location", "")
    return file.stat().st_size if file.is_file() else 0


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and the graphs of its branches and loops."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from graphs(inner)


def _all_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    for inner in graphs(graph):
        yield from inner.initializer
        for node in inner.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


# -- tidying ----------------------------------------------------------------------------------------------------------


def _tidy(model: onnx.ModelProto, least: int) -> None:
    """Turn large constants into initializers of the outer graph, merge equal ones, and remove what no run reads."""
    graph = model.graph
    model.ir_version = max(model.ir_version, IR_VERSION)
    if MICROSOFT not in {o.domain for o in model.opset_import}:
        model.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
    for inner in list(graphs(graph)):
        _store_constants(inner, least)
    _lift(graph, least)
    names = {t.name for t in graph.initializer}
    inputs = [i for i in graph.input if i.name not in names]
    del graph.input[:]
    graph.input.extend(inputs)
    _unite(graph, least)
    used = {o.name for o in graph.output} | {name for inner in graphs(graph) for name in _read(inner)}
    _keep(graph.initializer, [t for t in graph.initializer if t.name in used])
    for inner in graphs(graph):
        del inner.value_info[:]
        for node in inner.node:  # exporters write whole stack traces here
            node.ClearField("doc_string")
            del node.metadata_props[:]
    model.ClearField("training_info")


def _keep(field: Any, chosen: Sequence[Any]) -> None:
    """Leave only some entries in a repeated field."""
    if len(chosen) < len(field):
        copies = [type(entry).FromString(entry.SerializeToString()) for entry in chosen]
        del field[:]
        field.extend(copies)


def _read(graph: onnx.GraphProto) -> set[str]:
    """Names that the nodes and outputs of a graph read, without those of graphs inside it."""
    return {name for node in graph.node for name in node.input} | {output.name for output in graph.output}


def _store_constants(graph: onnx.GraphProto, least: int) -> None:
    """Turn large constants of one graph into its initializers."""
    kept = []
    for node in graph.node:
        value = node.attribute[0].t if node.op_type == "Constant" and node.attribute[0].HasField("t") else None
        if value is not None and int(np.prod(value.dims)) >= least:
            value.name = node.output[0]
            graph.initializer.append(value)
        else:
            kept.append(node)
    _keep(graph.node, kept)


def _lift(graph: onnx.GraphProto, least: int) -> None:
    """Move large initializers of branches and loops to the graph around them, where they are weights like others."""
    taken = _names(graph)
    for inner in list(graphs(graph))[1:]:
        fixed = {value.name for value in (*inner.input, *inner.output)}
        large = [t for t in inner.initializer if int(np.prod(t.dims)) >= least and t.name not in fixed]
        new: dict[str, str] = {}
        for tensor in large:
            new[tensor.name] = f"{tensor.name}.{len(taken)}"
            while new[tensor.name] in taken:
                new[tensor.name] += "_"
            taken.add(new[tensor.name])
            graph.initializer.append(tensor)
            graph.initializer[-1].name = new[tensor.name]
        _keep(inner.initializer, [t for t in inner.initializer if t.name not in new])
        for below in graphs(inner) if new else ():
            for node in below.node:
                node.input[:] = [new.get(name, name) for name in node.input]
            for value in below.output:
                value.name = new.get(value.name, value.name)


def _names(graph: onnx.GraphProto) -> set[str]:
    """All names of values in a graph and those inside it."""
    found = set()
    for inner in graphs(graph):
        found |= {value.name for value in (*inner.input, *inner.output, *inner.initializer)}
        found |= {name for node in inner.node for name in (*node.input, *node.output)}
    return found


def _free_prefix(graph: onnx.GraphProto) -> str:
    """The shortest row of letters w that is no beginning of a name."""
    names, prefix = _names(graph), "w"
    while any(name.startswith(prefix) for name in names):
        prefix += "w"
    return prefix


def _unite(graph: onnx.GraphProto, least: int) -> None:
    """Merge equal initializers, which are tied weights that an exporter wrote twice."""
    outputs = {o.name for o in graph.output}
    first: dict[Any, str] = {}
    renamed = {}
    for tensor in graph.initializer:
        if int(np.prod(tensor.dims)) >= least and tensor.name not in outputs:
            key = tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes()
            if (known := first.setdefault(key, tensor.name)) != tensor.name:
                renamed[tensor.name] = known
    if not renamed:
        return
    _keep(graph.initializer, [t for t in graph.initializer if t.name not in renamed])
    for inner in graphs(graph):
        for node in inner.node:
            node.input[:] = [renamed.get(name, name) for name in node.input]
        for value in inner.output:
            value.name = renamed.get(value.name, value.name) if inner is not graph else value.name


# -- parts ------------------------------------------------------------------------------------------------------------


def _parts(model: onnx.ModelProto, least: int) -> Iterator[Part]:
    """The weights that can be replaced."""
    graph = model.graph
    kinds = _kinds(model)
    outputs = {o.name for o in graph.output}
    users: dict[str, list[int]] = {}
    nested: set[str] = set()
    for place, node in enumerate(graph.node):
        for name in dict.fromkeys(node.input):
            users.setdefault(name, []).append(place)
        for attribute in node.attribute:
            for top in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                for inner in graphs(top):
                    nested |= {name for n in inner.node for name in n.input} | {o.name for o in inner.output}
    weights = {
        t.name: t
        for t in graph.initializer
        if t.data_type == onnx.TensorProto.FLOAT
        and int(np.prod(t.dims)) >= least
        and t.name not in outputs
        and (t.name in users or t.name in nested)
    }
    for name, tensor in weights.items():
        places = users.get(name, [])
        nodes = tuple(graph.node[place] for place in places)
        # A node with two weights would be replaced twice.
        alone = name not in nested and not any(other in weights for n in nodes for other in n.input if other != name)
        yield _part(model, tensor, tuple(places) if alone else (), nodes, kinds)


def _part(
    model: onnx.ModelProto,
    tensor: onnx.TensorProto,
    places: tuple[int, ...],
    nodes: tuple[onnx.NodeProto, ...],
    kinds: Mapping[str, int],
) -> Part:
    array = numpy_helper.to_array(tensor)
    own = nodes if places else ()
    named = [onnx.NodeProto.FromString(node.SerializeToString()) for node in own]
    for i, node in enumerate(named):
        node.name = f"node{i}"
    made = {name for node in own for name in node.output if name}
    used = dict.fromkeys(name for node in own for name in node.input if name and name != tensor.name)
    inputs = [onnx.helper.make_tensor_value_info(n, kinds.get(n, 1), None) for n in used if n not in made]
    outputs = [onnx.helper.make_tensor_value_info(n, kinds.get(n, 1), None) for n in made]
    if not places:
        outputs = [onnx.helper.make_tensor_value_info(tensor.name, onnx.TensorProto.FLOAT, None)]
    graph = onnx.helper.make_graph(named, "part", inputs, outputs, [tensor])
    small = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return Part(tensor.name, array, small, places, nodes)


def _kinds(model: onnx.ModelProto) -> dict[str, int]:
    """Element types of all values that shape inference knows."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        graph = model.graph
    kinds = {t.name: t.data_type for t in graph.initializer}
    kinds |= {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.value_info, *graph.output)}
    return {name: kind for name, kind in kinds.items() if kind}


# -- splicing ---------------------------------------------------------------------------------------------------------


def _spliced(part: Part, model: onnx.ModelProto, prefix: str, nodes: Sequence[bytes]) -> Fragment:
    """The replacement of a part with unique names, split at the indices of the nodes that it replaces."""
    replacement = onnx.ModelProto()
    replacement.CopyFrom(model)
    graph = replacement.graph
    wanted = {o.name for o in graph.output}
    stores = part.name in wanted
    owed = {part.name} if stores else {o.name for o in part.model.graph.output}
    produced = {name for node in graph.node for name in node.output}
    if owed - produced:
        raise ValueError(f"does not compute {min(owed - produced)}")
    fixed = owed | {i.name for i in part.model.graph.input} | {""}
    names = _renamed(graph, fixed, prefix)
    if not stores and (unknown := _unknown(graph, fixed, names)):
        raise ValueError(f"uses {unknown}, which the part does not have")
    own = list(graph.node)
    order = _order(own)
    makers = {name: i for i, node in enumerate(own) for name in node.output if name}
    constant = {t.name for t in graph.initializer} | {""}
    # Nodes that depend only on initializers go first, before all uses.
    first = []
    for i in order:
        if set(own[i].input) <= constant and (stores or not set(own[i].output) & owed):
            first.append(i)
            constant |= set(own[i].output)
    at: dict[int, list[int]] = {}
    done = set(first)
    for place, user in zip(part.places, part.model.graph.node, strict=True) if not stores else ():
        needed = _needed([makers[name] for name in user.output if name], own, makers)
        at[place] = [i for i in order if i in needed and i not in done]
        done |= needed
    replaced = frozenset(at)
    return Fragment(
        _written(own, first),
        {place: _written(own, chosen) for place, chosen in at.items()},
        b"".join(_field(5, t.SerializeToString()) for t in graph.initializer),
        replacement,
        replaced,
        sum(len(nodes[place]) for place in replaced),
    )


def _written(nodes: Sequence[onnx.NodeProto], chosen: Sequence[int]) -> bytes:
    return b"".join(_field(1, nodes[i].SerializeToString()) for i in chosen)


def _needed(ends: Sequence[int], nodes: Sequence[onnx.NodeProto], makers: Mapping[str, int]) -> set[int]:
    """These nodes and all nodes that they depend on."""
    found: set[int] = set()
    open_ = list(ends)
    while open_:
        i = open_.pop()
        if i not in found:
            found.add(i)
            open_ += [makers[name] for name in nodes[i].input if name in makers]
    return found


def _renamed(graph: onnx.GraphProto, fixed: set[str], prefix: str) -> set[str]:
    """Give values and initializers short unique names; return all new names."""
    new: dict[str, str] = {}
    for name in (*(t.name for t in graph.initializer), *(name for node in graph.node for name in node.output)):
        if name not in fixed and name not in new:
            new[name] = f"{prefix}{len(new)}"
    for tensor in graph.initializer:
        tensor.name = new.get(tensor.name, tensor.name)
        tensor.ClearField("doc_string")
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
        node.name = ""
    return set(new.values())


def _unknown(graph: onnx.GraphProto, fixed: set[str], names: set[str]) -> str:
    used = {name for node in graph.node for name in node.input}
    return min(used - fixed - names, default="")


def _order(nodes: Sequence[onnx.NodeProto]) -> list[int]:
    """Indices of nodes in topological order."""
    makers = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(nodes)))
    graph.add_edges_from((makers[name], i) for i, node in enumerate(nodes) for name in node.input if name in makers)
    return list(nx.lexicographical_topological_sort(graph))


def _tag(field: int) -> bytes:
    return bytes([field << 3 | 2])


def _varint(n: int) -> bytes:
    parts = []
    while n > 127:
        parts.append(n & 127 | 128)
        n >>= 7
    return bytes([*parts, n])


def _long_varint(n: int) -> bytes:
    """A number of up to 35 bits with leading zeros, which every reader of protobuf accepts."""
    parts = [n >> 7 * i & 127 | 128 for i in range(LENGTH_BYTES)]
    return bytes([*parts[:-1], parts[-1] & 127])


def _field(field: int, data: bytes) -> bytes:
    """An encoded field of a protobuf message."""
    return _tag(field) + _varint(len(data)) + data
