"""Calibration data: arrays for the inputs of a model, cut into batches."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, helper

# Entry of the data with the right class of each sample, unless it is an input of the model.
LABELS = "labels"


@dataclass(frozen=True)
class Input:
    """An input of a model: its name, type, length or name of each axis, and whether it may have any shape instead."""

    name: str
    dtype: np.dtype
    axes: tuple[int | str, ...]
    any_shape: bool = False

    def fitted(self, array: NDArray) -> Input:
        """The input with as many axes as the array, if the model leaves them open."""
        return replace(self, axes=("?",) * array.ndim) if self.any_shape else self

    def __str__(self) -> str:
        shape = "any shape" if self.any_shape else f"shape [{', '.join(map(str, self.axes))}]"
        return f"{self.name} ({self.dtype}, {shape})"


@dataclass(frozen=True, eq=False)
class Calibration:
    """Batches of inputs for a model.

    Attributes
    ----------
    batches : list of dict of name to ndarray
    labels : ndarray or None
    """

    batches: Sequence[Mapping[str, NDArray]]
    labels: NDArray | None = None

    def digest(self) -> str:
        """A hash of the data."""
        found = hashlib.blake2b(digest_size=8)
        arrays = [*self.batches, {} if self.labels is None else {LABELS: self.labels}]
        for name, array in (item for batch in arrays for item in sorted(batch.items())):
            found.update(f"{name} {array.dtype} {array.shape}".encode())
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()


def read_data(path: Path) -> dict[str, NDArray]:
    """The arrays of an ``.npz`` file."""
    wanted = f"{path} must be an .npz file with an array for each input of the model"
    if path.is_file() and not zipfile.is_zipfile(path):
        raise ValueError(f"{wanted}, as numpy.savez writes it; it is none")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{wanted}: {error}") from None


def given_data(data: Any) -> dict[str, Any]:
    """The arrays of a mapping; tensors of PyTorch as arrays."""
    if not isinstance(data, Mapping):
        shape = f" of shape {tuple(data.shape)}" if hasattr(data, "shape") else ""
        raise TypeError(
            "data must be the path of an .npz file, or map the name of each input to an array with all samples along "
            f'the first axis, such as {{"input": array}}; got {type(data).__name__}{shape}'
        )
    return {name: x.detach().cpu().numpy() if hasattr(x, "detach") else x for name, x in data.items()}


def model_inputs(graph: GraphProto) -> list[Input]:
    """The inputs of a model that data must give: those without an initializer."""
    known, found = {tensor.name for tensor in graph.initializer}, []
    for value in graph.input:
        if value.name in known:
            continue
        kind = value.type.tensor_type
        if not kind.elem_type:
            raise ValueError(f"input {value.name!r} of the model is no tensor, which compress cannot feed")
        axes = tuple(d.dim_value or d.dim_param or "?" for d in kind.shape.dim)
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        found.append(Input(value.name, dtype, axes, not kind.HasField("shape")))
    return found


def as_batches(inputs: Sequence[Input], data: Mapping[str, Any], batch: int) -> Calibration:
    """Cut arrays into batches, along the axis of samples.

    Parameters
    ----------
    inputs : list of Input
    data : mapping of name to array
        Samples are along the first axis. If the first axis of the first input has a name in the model, such as
        ``batch``, other inputs are cut along the axis of that name; inputs without it are given whole to each run.
    batch : int
        Samples in a run, if the model does not fix their number.
    """
    arrays = {name: np.asarray(array) for name, array in data.items()}
    labels = arrays.pop(LABELS, None) if LABELS not in {i.name for i in inputs} else None
    asked = ", ".join(map(str, inputs))
    if missing := [i.name for i in inputs if i.name not in arrays]:
        raise ValueError(f"the data has no array {missing[0]!r}; the model takes {asked}")
    if extra := sorted(arrays.keys() - {i.name for i in inputs}):
        raise ValueError(f"the data has an array {extra[0]!r}, which is no input; the model takes {asked}")
    inputs = [i.fitted(arrays[i.name]) for i in inputs]
    checked = {i.name: _checked(i, arrays[i.name]) for i in inputs}
    first = next((i for i in inputs if i.axes), None)
    if first is None:
        return Calibration([checked], labels)
    step = first.axes[0] if isinstance(first.axes[0], int) else batch
    axes = {i.name: _axis(i, first) for i in inputs}
    counts = {checked[name].shape[axis] for name, axis in axes.items() if axis is not None}
    if len(counts) > 1:
        lengths = ", ".join(f"{n} {checked[n].shape[axis]}" for n, axis in axes.items() if axis is not None)
        raise ValueError(f"the arrays of the data must have the same number of samples, got {lengths}")
    samples = counts.pop()
    if samples < 1 or (isinstance(first.axes[0], int) and samples % step):
        raise ValueError(f"the data must have a multiple of {step} samples, as the model takes them, got {samples}")
    if labels is not None and len(labels) != samples:
        raise ValueError(f"labels must have one entry for each of {samples} samples, got {len(labels)}")
    batches = []
    for start in range(0, samples, step):
        rows = np.arange(start, min(start + step, samples))
        batches.append({n: a if axes[n] is None else a.take(rows, axes[n]) for n, a in checked.items()})
    return Calibration(batches, labels)


def _axis(one: Input, first: Input) -> int | None:
    """The axis of samples of an input."""
    open_ = first.axes[0]
    if isinstance(open_, str) and open_ != "?":
        return next((axis for axis, name in enumerate(one.axes) if name == open_), None)
    return 0 if one.axes and (one is first or one.axes[0] == open_) else None


def _checked(one: Input, array: NDArray) -> NDArray:
    """An array of the type and shape of an input, or an error that names both."""
    if array.ndim != len(one.axes):
        raise ValueError(f"the array {one.name!r} must have {len(one.axes)} axes, got shape {array.shape}; it is {one}")
    for axis, length in enumerate(one.axes):
        if axis and isinstance(length, int) and array.shape[axis] != length:
            raise ValueError(f"axis {axis} of the array {one.name!r} must be {length} long, got {array.shape}")
    if array.dtype == one.dtype or (one.dtype == object and array.dtype.kind == "U"):
        return array.astype(one.dtype, copy=False)
    if array.dtype.kind not in "biuf" or not np.can_cast(array.dtype, one.dtype, "same_kind"):
        whole = array.dtype.kind in "iu" and one.dtype.kind in "iuf"
        if not whole or not np.array_equal(array.astype(one.dtype), array):
            raise ValueError(f"the array {one.name!r} must be of type {one.dtype}, got {array.dtype}")
    return array.astype(one.dtype)
