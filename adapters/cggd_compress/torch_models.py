"""Torch modules as ONNX models."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from cggd_compress.network import graphs, quiet

# The oldest version of the operators that torch's exporter writes without a conversion.
OPSET = 18


def export(module: Any, arrays: Mapping[str, Any]) -> onnx.ModelProto:
    """Export a torch module with `torch.onnx`; the first axis of each input has no fixed length.

    Parameters
    ----------
    module : torch.nn.Module
    arrays : mapping of name to array
        Calibration data, by names of the arguments of ``forward``.
    """
    try:
        import torch
    except ImportError:
        raise TypeError(f"model must be a path, an onnx.ModelProto or a torch module, got {module!r}") from None
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"model must be a path, an onnx.ModelProto or a torch module, got {type(module).__name__}")
    if choices := [name for name, part in module.named_modules() if callable(getattr(part, "plain", None))]:
        raise ValueError(f"model must be a network without choices, but has one at {choices[0]!r}; extract a network")
    names = list(inspect.signature(module.forward).parameters)
    taken = [name for name in names if name in arrays]
    if not taken:
        raise ValueError(f"the data must have arrays named {', '.join(names)}, as forward takes them, got {[*arrays]}")
    # Two samples, since the exporter fixes an axis of length one.
    example = {name: torch.from_numpy(np.asarray(arrays[name])[:2]) for name in taken}
    open_ = {name: {0: torch.export.Dim("batch")} for name in taken}
    trained = module.training
    module.eval()
    try:
        with warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module, (), kwargs=example, dynamic_shapes=open_, input_names=taken, dynamo=True, opset_version=OPSET,
                verbose=False,
            )  # fmt: skip
        assert program is not None
        return _named(program.model_proto, module)
    except Exception as error:
        cause = error.__cause__ or error
        reason = str(cause).strip().splitlines()[0]
        raise ValueError(f"torch.onnx cannot export the module: {type(cause).__name__}: {reason}") from error
    finally:
        module.train(trained)


def _named(model: onnx.ModelProto, module: Any) -> onnx.ModelProto:
    """Restore the module's names of weights that the exporter transposed or renamed."""
    known: dict[Any, str] = {}
    for name, tensor in module.state_dict().items():
        array = tensor.detach().cpu().numpy()
        for one in (array, array.T):
            known.setdefault((one.shape, one.tobytes()), name)
    taken = {t.name for t in model.graph.initializer}
    new: dict[str, str] = {}
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        name = known.get((array.shape, array.tobytes()))
        if name is not None and name not in taken and array.ndim:
            new[tensor.name] = name
            taken.add(name)
            tensor.name = name
    for graph in graphs(model.graph):
        for node in graph.node:
            node.input[:] = [new.get(name, name) for name in node.input]
        for value in graph.output:
            value.name = new.get(value.name, value.name)
    for value in list(model.graph.value_info):
        if value.name in new:
            model.graph.value_info.remove(value)
    return model
