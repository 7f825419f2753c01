"""From a trained network to an int8 ONNX file, and what the file needs: its size, and its memory while it runs."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor, nn

from cggd_nas import export_onnx
from cggd_nas.measure import BYTES_PER_KB, evaluating, onnx_session

BATCH = 1


def export_int8(network: nn.Module, calibration: Tensor, path: str | PathLike[str]) -> Path:
    """Quantise a network after training, and write it as an ONNX file of integer operators.

    Weights are int8 with a scale for each output channel, activations int8 with a scale and a zero point for each
    tensor, found on calibration data (least and largest value). Batch norms and ReLU become part of the convolutions.

    Parameters
    ----------
    network : nn.Module
        Stays as it is.
    calibration : Tensor of shape (n, channels, length)
    path : str or path
    """
    example = calibration[:BATCH]
    with TemporaryDirectory() as folder:
        plain = export_onnx(with_fixed_pools(network, example), example, Path(folder, "plain.onnx"))
        name = onnx.load(plain).graph.input[0].name
        with _without_advice():
            quantize_static(
                str(plain),
                str(path),
                _Calibration(name, calibration),
                quant_format=QuantFormat.QOperator,
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
            )
    model = onnx.load(path)
    strip(model)
    onnx.save(model, path)
    return Path(path)


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """The quantiser recommends other steps at each call; they are for processors of PCs."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Calibration(CalibrationDataReader):
    def __init__(self, name: str, data: Tensor) -> None:
        self.batches = iter([{name: batch.numpy()} for batch in data.split(BATCH)])

    def get_next(self) -> Any:
        return next(self.batches, None)


def with_fixed_pools(network: nn.Module, example: Tensor) -> nn.Module:
    """A copy whose adaptive poolings have a fixed length: for those there is an integer operator."""
    made = copy.deepcopy(network)
    lengths: dict[str, int] = {}
    kinds = {nn.AdaptiveAvgPool1d: nn.AvgPool1d, nn.AdaptiveMaxPool1d: nn.MaxPool1d}
    pools = [name for name, part in made.named_modules() if type(part) in kinds]
    for name in pools:
        made.get_submodule(name).register_forward_hook(
            lambda _, given, __, name=name: lengths.__setitem__(name, given[0].shape[-1])
        )
    with evaluating(made), torch.no_grad():
        made(example)
    for name in pools:
        made.set_submodule(name, kinds[type(made.get_submodule(name))](lengths[name]))
    return made


def strip(model: onnx.ModelProto) -> None:
    """Leave out of a model what no device needs: names, notes, shapes between operators, and tensors nobody reads."""
    graph = model.graph
    for message in (model, graph, *graph.node, *graph.input, *graph.output):
        for field in ("metadata_props", "doc_string"):
            message.ClearField(field)
    for field in ("producer_name", "producer_version", "functions"):
        model.ClearField(field)
    del graph.value_info[:]
    read = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    used = {node.domain for node in graph.node}
    domains = [domain for domain in model.opset_import if domain.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(domains)
    short: dict[str, str] = {"": ""}

    def renamed(name: str) -> str:
        return short.setdefault(name, f"{len(short):x}")

    graph.name = "g"
    for node in graph.node:
        node.ClearField("name")
        node.input[:] = map(renamed, node.input)
        node.output[:] = map(renamed, node.output)
    for tensor in (*graph.initializer, *graph.input, *graph.output):
        tensor.name = renamed(tensor.name)


def file_kb(path: str | PathLike[str]) -> float:
    """Size of a file in kB (1024 bytes)."""
    return Path(path).stat().st_size / BYTES_PER_KB


def memory_kb(path: str | PathLike[str]) -> float:
    """Largest amount of activations alive at once in an ONNX file, in kB (1024 bytes), weights left out.

    Every tensor counts with the bytes of its type in the file, from the node that makes it to the last node that reads
    it, in the order of the file; the input from the beginning, outputs to the end. Nothing is computed in place.
    """
    model = onnx.load(path)
    nodes = model.graph.node
    size = tensor_bytes(model)
    born = {given.name: 0 for given in model.graph.input}
    last = {given.name: 0 for given in model.graph.input}
    for place, node in enumerate(nodes):
        born |= dict.fromkeys(node.output, place)
        last |= dict.fromkeys((*node.output, *node.input), place)
    last |= {made.name: len(nodes) - 1 for made in model.graph.output}
    change = np.zeros(len(nodes) + 1)
    for name, n in size.items():
        change[born[name]] += n
        change[last[name] + 1] -= n
    return float(change.cumsum().max()) / BYTES_PER_KB


def tensor_bytes(model: onnx.ModelProto) -> dict[str, int]:
    """Bytes of each activation of a model, the input among them, as ONNX Runtime makes them on an input of zeros."""
    whole = copy.deepcopy(model)
    names = [name for node in model.graph.node for name in node.output if name]
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    (given,) = model.graph.input
    shape = [dimension.dim_value for dimension in given.type.tensor_type.shape.dim]
    zeros = np.zeros(shape, onnx.helper.tensor_dtype_to_np_dtype(given.type.tensor_type.elem_type))
    with TemporaryDirectory() as folder:
        path = Path(folder, "whole.onnx")
        onnx.save(whole, path)
        made = onnx_session(path).run(None, {given.name: zeros})
    return {given.name: zeros.nbytes, **{name: value.nbytes for name, value in zip(names, made, strict=True)}}


def predicted(path: str | PathLike[str], windows: Tensor) -> NDArray[np.int64]:
    """Classes that an ONNX file gives to windows, shape (n, channels, length), one at a time as on the device."""
    session = onnx_session(path)
    name = session.get_inputs()[0].name
    return np.array([session.run(None, {name: window.numpy()})[0].argmax() for window in windows.split(BATCH)])
