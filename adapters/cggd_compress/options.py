"""The formats that may replace a weight, most of them made by ONNX Runtime's quantizers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cggd.metrics.base import Invalid
from cggd_compress.network import Part, quiet


@dataclass(frozen=True)
class Option:
    """One format of weights.

    Attributes
    ----------
    name : str
    bits : float
        Bits of each stored number, for `bits=` and ``--bits``.
    make : callable
        Takes a `Part` and returns the onnx.ModelProto that replaces it, or None if the option does not apply. It raises
        `cggd.Invalid` with the reason if it should apply but cannot.
    """

    name: str
    bits: float
    make: Callable[[Part], onnx.ModelProto | None]


def default_options(*, fast: bool = False, ranges: Mapping[str, tuple[float, float]] | None = None) -> list[Option]:
    """The default formats of every weight, without the one to leave it as it is.

    Parameters
    ----------
    fast : bool
        Include formats that may take less time in a run: integer products and low-rank factors.
    ranges : mapping of name to (low, high), optional
        Ranges of activations on calibration data, for the option ``"int8 static"``.

    Returns
    -------
    list of Option
    """
    found = [Option("float16", 16, float16)]
    found += [Option(f"{bits} bit/{block}", bits, partial(blocks, bits=bits, block=block)) for bits, block in FORMATS]
    if not fast:
        return found
    for bits, block in FORMATS:
        found.append(Option(f"{bits} bit/{block} unpacked", bits, partial(products_unpacked, bits=bits, block=block)))
    found.append(Option("int8 dynamic", 8, dynamic))
    if ranges is not None:
        found.append(Option("int8 static", 8, partial(static, ranges=ranges)))
    return found + [Option(f"rank {share:g}", 16, partial(low_rank, share=share)) for share in RANKS]


# Bits, and number of weights that share a scale: scales take 1/8 bit per weight with 128, and half a bit with 32.
FORMATS = ((8, 128), (4, 32), (4, 128), (2, 32))

# Relative error of rounding to half precision, for numbers that are neither too large nor too small for it.
HALF_ROUNDING = 2.0**-10

# Ranks as shares of the full rank; at half of it, the factors of a square weight have as many numbers as the weight.
RANKS = (0.375, 0.25, 0.125)


def named_options(names: Iterable[str], ranges: Mapping[str, tuple[float, float]] | None = None) -> list[Option]:
    """Options by name.

    Parameters
    ----------
    names : iterable of str
        Names of ``default_options(fast=True, ranges=ranges)``.
    ranges : mapping of name to (low, high), optional
    """
    known = {option.name: option for option in default_options(fast=True, ranges=ranges)}
    found = []
    for name in names:
        if name not in known:
            raise ValueError(f"options has {name!r}, which is none of {', '.join(map(repr, known))}")
        found.append(known[name])
    return found


def float16(part: Part) -> onnx.ModelProto | None:
    """Half precision in the file; the runtime converts it to single precision when it loads the file."""
    largest = np.abs(part.array).max(initial=0.0)
    if largest > np.finfo(np.float16).max:
        raise Invalid(f"{part.name} holds {largest:g}, which is too large for half precision")
    half = numpy_helper.from_array(part.array.astype(np.float16), "half")
    return part.stored([helper.make_node("Cast", ["half"], [part.name], to=TensorProto.FLOAT)], [half])


def blocks(part: Part, *, bits: int, block: int) -> onnx.ModelProto | None:
    """Integers with a scale for each block of weights; the runtime computes with them directly where it can.

    If a matrix product uses the weight, ``MatMulNBits`` computes with the packed numbers. If rows are looked up and the
    runtime has ``GatherBlockQuantized``, this operator unpacks the rows. Other weights are unpacked when the runtime
    loads the file.
    """
    if (table := _rows(part, bits, block)) is not None:
        return table
    model = _product(part)
    if model is None:
        return unpacked(part, bits=bits, block=block)
    return _with_half_scales(_matmul_nbits(model, bits, _block(part.array.shape[0], bits, block)))


def products_unpacked(part: Part, *, bits: int, block: int) -> onnx.ModelProto | None:
    """`unpacked` for weights with which `blocks` computes in packed form: larger in memory, and often faster."""
    packed = _product(part) is not None or _rows(part, bits, block) is not None
    return unpacked(part, bits=bits, block=block) if packed else None


def unpacked(part: Part, *, bits: int, block: int) -> onnx.ModelProto | None:
    """Integers with a scale for each block of weights, which the runtime unpacks when it loads the file."""
    if part.array.ndim < 2:
        return None
    matrix, restore = _as_matrix(part)
    rows, columns = matrix.shape
    block, per_byte = _block(rows, bits, block), 8 // bits
    packed, scales, zeros = _quantized(matrix, bits, block)
    n_blocks = packed.shape[1]
    digits = np.arange(256)[:, None] >> (bits * np.arange(per_byte)) & (2**bits - 1)
    zeros = digits[zeros.reshape(columns, -1)].reshape(columns, -1)[:, :n_blocks]
    arrays: dict[str, NDArray] = {
        "packed": packed.reshape(columns, n_blocks, -1),
        "scales": _half_or_single(scales.reshape(columns, n_blocks, 1)),
        "zeros": zeros.astype(np.uint8).reshape(columns, n_blocks, 1),
    }
    nodes, last = [], "packed"
    if bits < 8:
        arrays |= {"table": digits.astype(np.uint8), "cut": np.array([columns, n_blocks, block])}
        nodes = [
            helper.make_node("Cast", ["packed"], ["places"], to=TensorProto.INT32),
            helper.make_node("Gather", ["table", "places"], ["pairs"]),
            helper.make_node("Reshape", ["pairs", "cut"], ["digits"]),
        ]
        last = "digits"
    nodes += [
        helper.make_node("Cast", [last], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["zeros"], ["offsets"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["scales"], ["steps"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["numbers", "offsets"], ["centred"]),
        helper.make_node("Mul", ["centred", "steps"], ["scaled"]),
        *restore(arrays, n_blocks * block),
    ]
    return part.stored(nodes, [numpy_helper.from_array(array, name) for name, array in arrays.items()])


def dynamic(part: Part) -> onnx.ModelProto | None:
    """ONNX Runtime's ``quantize_dynamic``: int8 weights per channel; ranges of activations are computed in each run."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if not part.places or part.array.ndim < 2 or not _only(part, ("MatMul", "Gemm", "Gather", "Conv")):
        return None
    with quiet(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.onnx"
        quantize_dynamic(part.model, path, per_channel=True, weight_type=QuantType.QInt8)
        model = onnx.load(str(path))
    return None if any(t.name == part.name for t in model.graph.initializer) else model


def static(part: Part, *, ranges: Mapping[str, tuple[float, float]]) -> onnx.ModelProto | None:
    """ONNX Runtime's static quantiser: int8 weights per channel; ranges of activations come from calibration data."""
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    kinds = ("MatMul", "Gemm", "Conv")
    around = [v.name for v in (*part.model.graph.input, *part.model.graph.output)]
    if part.array.ndim < 2 or not _only(part, kinds) or not set(around) <= ranges.keys():
        return None
    ends = {name: np.array(ranges[name], dtype=np.float32) for name in around}
    data: dict[str, Any] = {n: TensorData(lowest=pair[0], highest=pair[1]) for n, pair in ends.items()}
    model = onnx.ModelProto()
    model.CopyFrom(part.model)
    with quiet():
        quantizer = QDQQuantizer(
            model, True, False, QuantType.QInt8, QuantType.QUInt8, TensorsData(CalibrationMethod.MinMax, data), [], [],
            list(kinds), {},
        )  # fmt: skip
        quantizer.quantize_model()
    found: Any = quantizer.model.model  # pyright: ignore[reportAttributeAccessIssue]
    return None if any(t.name == part.name for t in found.graph.initializer) else found


def low_rank(part: Part, *, share: float) -> onnx.ModelProto | None:
    """Two low-rank factors in half precision in place of a matrix, by a truncated singular value decomposition."""
    model = _product(part)
    if model is None or len(used := {n.input[1] for n in model.graph.node if n.op_type == "MatMul"}) > 1:
        return None
    array = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name in used)
    left, values, right = np.linalg.svd(array.astype(np.float64), full_matrices=False)
    rank = max(int(share * len(values)), 1)
    root = np.sqrt(values[:rank])
    down, up = (f"{part.name} {name}" for name in ("down", "up"))
    thin = {down: (left[:, :rank] * root).astype(np.float16), up: (root[:, None] * right[:rank]).astype(np.float16)}
    nodes = [helper.make_node("Cast", [name], [f"{name} float"], to=TensorProto.FLOAT) for name in thin]
    for i, node in enumerate(model.graph.node):
        if node.op_type == "MatMul":
            nodes.append(helper.make_node("MatMul", [node.input[0], f"{down} float"], [f"{down} {i}"]))
            nodes.append(helper.make_node("MatMul", [f"{down} {i}", f"{up} float"], [node.output[0]]))
        else:
            nodes.append(node)
    return _with_graph(model, nodes, [numpy_helper.from_array(a, name) for name, a in thin.items()])


# -- ONNX Runtime's quantizers ----------------------------------------------------------------------------------------


def _quantized(matrix: NDArray[np.float32], bits: int, block: int) -> tuple[NDArray, NDArray, NDArray]:
    """Packed numbers, scales and packed zero points of a matrix whose columns are cut into blocks."""
    from onnxruntime.quantization import matmul_nbits_quantizer as nbits

    config = nbits.DefaultWeightOnlyQuantConfig(block_size=block, bits=bits)
    return nbits.DefaultWeightOnlyQuantizer(config).qbits_block_quant(np.ascontiguousarray(matrix))


def _matmul_nbits(model: onnx.ModelProto, bits: int, block: int) -> onnx.ModelProto:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with quiet():
        quantizer = MatMulNBitsQuantizer(model, bits=bits, block_size=block)
        quantizer.process()
    found: Any = quantizer.model.model  # pyright: ignore[reportAttributeAccessIssue]
    # The quantiser adds a copy of the same numbers for each user.
    kept = {t.name: t for t in found.graph.initializer}
    used = {name for node in found.graph.node for name in node.input}
    return _with_graph(found, list(found.graph.node), [t for name, t in kept.items() if name in used])


def _rows(part: Part, bits: int, block: int) -> onnx.ModelProto | None:
    """An embedding table in blocks of 4 bits, if the runtime can look up packed rows; otherwise None."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    if bits != 4 or part.array.ndim != 2 or not _only(part, ("Gather",)) or not _runtime_has("GatherBlockQuantized"):
        return None
    if any(node.input[0] != part.name or any(a.i for a in node.attribute) for node in part.model.graph.node):
        return None
    model = onnx.ModelProto()
    model.CopyFrom(part.model)
    for opset in model.opset_import:  # the quantiser needs a version with 4-bit types; the runtime does not
        opset.version = max(opset.version, 21) if not opset.domain else opset.version
    with quiet():
        quantizer = MatMulNBitsQuantizer(
            model, block_size=_block(part.array.shape[1], bits, block), op_types_to_quantize=("Gather",),
            quant_axes=(("Gather", 1),),
        )  # fmt: skip
        quantizer.process()
    found: Any = quantizer.model.model  # pyright: ignore[reportAttributeAccessIssue]
    kept = {t.name: t for t in found.graph.initializer if t.name != part.name}
    return _with_half_scales(_with_graph(part.model, list(found.graph.node), list(kept.values())))


@cache
def _runtime_has(operator: str) -> bool:
    """Whether ONNX Runtime has an operator."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # pyright: ignore[reportAttributeAccessIssue]

    return any(schema.name == operator for schema in state.get_all_operator_schema())


def _with_half_scales(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store scales in half precision; the runtime converts them to single precision when it loads the file."""
    nodes, arrays = list(model.graph.node), []
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name.endswith("_scales"):
            half = _half_or_single(numpy_helper.to_array(tensor))
            if half.dtype == np.float16:
                nodes.insert(0, helper.make_node("Cast", [f"{tensor.name}_half"], [tensor.name], to=TensorProto.FLOAT))
                tensor = numpy_helper.from_array(half, f"{tensor.name}_half")
        arrays.append(tensor)
    return _with_graph(model, nodes, arrays)


def _half_or_single(scales: NDArray) -> NDArray:
    """Scales in half precision, unless one is so large or so small that it would lose more than rounding does."""
    with np.errstate(over="ignore"):
        half = scales.astype(np.float16)
    # Where scales are small beside the others, so is the error.
    near = np.abs(half.astype(np.float64) - scales) <= HALF_ROUNDING * np.maximum(np.abs(scales), np.median(scales))
    return half if near.all() else scales.astype(np.float32)


def _product(part: Part) -> onnx.ModelProto | None:
    """The part with ``Gemm`` split into a product and a sum; None unless all products have the weight on the right."""
    from onnxruntime.quantization.onnx_model import ONNXModel

    if part.array.ndim != 2 or not _only(part, ("MatMul", "Gemm")):
        return None
    model = onnx.ModelProto()
    model.CopyFrom(part.model)
    whole = ONNXModel(model)
    whole.replace_gemm_with_matmul()
    products = [node for node in whole.model.graph.node if node.op_type == "MatMul"]
    held = {t.name for t in whole.model.graph.initializer}
    right = all(node.input[1] in held and node.input[0] not in held for node in products)
    return whole.model if right and products and len(products) == len(part.places) else None


def _block(rows: int, bits: int, block: int) -> int:
    """The block size, at most `block`, that takes the fewest bytes including padding."""
    sizes = [1 << power for power in range(4, block.bit_length())]
    return min(sizes, key=lambda size: (-(-rows // size) * (size * bits / 8 + 2 + bits / 8), -size))


# -- small parts ------------------------------------------------------------------------------------------------------


def _only(part: Part, kinds: tuple[str, ...]) -> bool:
    return bool(part.model.graph.node) and all(node.op_type in kinds for node in part.model.graph.node)


def _as_matrix(part: Part) -> tuple[NDArray[np.float32], Callable[[dict[str, Any], int], list[onnx.NodeProto]]]:
    """A weight as a matrix with a column for each output channel, and a function for nodes that restore its shape."""
    array = part.array
    products = {node.op_type for node in part.users} & {"MatMul"}
    turned = array.ndim == 2 and bool(products)
    matrix = array if turned else array.reshape(array.shape[0], -1).T
    rows, columns = matrix.shape

    def restore(arrays: dict[str, Any], padded: int) -> list[onnx.NodeProto]:
        shape = np.array(array.shape, dtype=np.int64)
        arrays["long"] = np.array([columns, padded], dtype=np.int64)
        nodes, last = [helper.make_node("Reshape", ["scaled", "long"], ["rows"])], "rows"
        if padded > rows:
            arrays["first"], arrays["last"], arrays["axis"] = (np.array([n], dtype=np.int64) for n in (0, rows, 1))
            nodes.append(helper.make_node("Slice", [last, "first", "last", "axis"], ["sliced"]))
            last = "sliced"
        if turned:
            return [*nodes, helper.make_node("Transpose", [last], [part.name], perm=[1, 0])]
        arrays["shape"] = shape
        return [*nodes, helper.make_node("Reshape", [last, "shape"], [part.name])]

    return matrix, restore


def _with_graph(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], initializers: list[onnx.TensorProto]
) -> onnx.ModelProto:
    new = onnx.ModelProto()
    new.CopyFrom(model)
    del new.graph.node[:], new.graph.initializer[:]
    new.graph.node.extend(nodes)
    new.graph.initializer.extend(initializers)
    return new


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """Names that match a pattern such as ``head*``, ignoring case."""
    return [name for name in names if fnmatchcase(name.lower(), pattern.lower())]
