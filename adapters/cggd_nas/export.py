"""Export of extracted networks as ONNX files, and measurement of every bound on the deployed network."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from cggd.constraints import Constraint, Row, check_constraints
from cggd.metrics import Metric
from cggd.rounding import snapped
from cggd_nas.failures import check_network
from cggd_nas.measure import evaluating, onnx_inputs, onnx_session
from cggd_nas.nested import described
from cggd_nas.trace import Example, running_on, tensors_of

# Tolerances of the tests of PyTorch's exporter, for sums in single precision in another order.
RELATIVE, ABSOLUTE = 1e-3, 1e-5


def export_onnx(module: nn.Module, example: Example, path: str | PathLike[str]) -> Path:
    """Write a network as an ONNX file, and check the file.

    The file must pass ``onnx.checker``, and its outputs for the example in ONNX Runtime must equal those of the module
    in evaluation mode. `path` is only written if both checks pass. Shapes are those of the example. Needs the packages
    ``onnx``, ``onnxscript`` and ``onnxruntime``.

    Parameters
    ----------
    module : nn.Module
        It is not changed. If it is not on the CPU, a copy on the CPU is exported.
    example : Tensor or sequence of Tensor
        Arguments of its forward, on any device.
    path : str or path

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    TypeError
        If the module returns something else than tensors in tuples, lists and dicts.
    ValueError
        If the module has choices.
    RuntimeError
        If PyTorch cannot export the module, or outputs of the file and of the module differ by more than 1e-5 plus a
        thousandth of their value.
    """
    import onnx

    arguments, path = tensors_of(example), Path(path)
    check_network(module, plain=True)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path must lie in a folder that exists, got {str(path)!r}")
    arguments = tuple(x.cpu() for x in arguments)
    if any(x.device.type != "cpu" for x in module.state_dict().values()):
        module = copy.deepcopy(module).cpu()
    unchecked = path.with_name(path.name + ".unchecked")
    try:
        with evaluating(module), torch.no_grad(), _quiet():
            with running_on(arguments, module):
                outputs = module(*arguments)
            leaves = [x for x in pytree.tree_leaves(outputs) if x is not None]
            if not all(isinstance(x, torch.Tensor) for x in leaves):
                raise TypeError(
                    "module must return a tensor, or tensors in tuples, lists and dicts, to be written as ONNX; got "
                    f"{described(outputs)}; export a module whose forward returns the tensors of it, such as "
                    "self.network(x).logits"
                )
            wanted = [x.numpy() for x in leaves]
            try:
                torch.onnx.export(module, arguments, str(unchecked), dynamo=True, external_data=False, verbose=False)
            except torch.onnx.OnnxExporterError as error:
                cause = error.__cause__ or error
                raise RuntimeError(
                    f"torch.onnx cannot export the module: {type(cause).__name__}: {str(cause).strip()}"
                ) from error
        onnx.checker.check_model(onnx.load(str(unchecked)), full_check=True)
        session = onnx_session(unchecked)
        returned = session.run(None, onnx_inputs(session, arguments))
        for number, (there, here) in enumerate(zip(returned, wanted, strict=True)):
            if not np.allclose(there, here, rtol=RELATIVE, atol=ABSOLUTE):
                apart = float(np.abs(there - here).max())
                raise RuntimeError(f"output {number} of {path} differs from the module's by up to {apart:.3g}")
        unchecked.replace(path)
    finally:
        unchecked.unlink(missing_ok=True)
    return path


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress messages of PyTorch's exporter about its internals and optional packages."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*LeafSpec.* is deprecated", FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def verify(
    module: nn.Module,
    constraints: Iterable[Constraint] | Constraint,
    measures: Mapping[Metric, Callable[[nn.Module], float]],
) -> list[Row]:
    """Measure every bound again on an extracted network.

    Parameters
    ----------
    module : nn.Module
    constraints : list of Constraint
        The constraints of the search.
    measures : mapping of Metric to callable
        For each constraint's metric, the function that measures it on a plain module. `Costs.measures` has those of its
        metrics. Add others, for example ``{**costs.measures, looked_up: lambda module: latency(module,
        example).median}``.

    Returns
    -------
    list of Row
        Value, bound and slack of each constraint.

    Raises
    ------
    ValueError
        If a metric is not in `measures`.

    Examples
    --------
    >>> from cggd_nas import Choice
    >>> from cggd_nas.extract import extract
    >>> from cggd_nas.metrics import Costs
    >>> model = nn.Sequential(Choice({"wide": nn.Linear(9, 9), "none": nn.Identity()}))
    >>> costs = Costs(model, torch.zeros(1, 9))
    >>> small = costs.parameters() <= 50
    >>> for row in verify(extract(model, {"0": "wide"}), [small], costs.measures):
    ...     print(row)
    parameters <= 50: 90, violated by 40
    """
    check_network(module)
    rows = []
    for constraint in check_constraints(constraints):
        if constraint.metric not in measures:
            raise ValueError(
                f"metric {constraint.metric.name!r} cannot be measured on a module: measures must map it to a function "
                "of the module; those of Costs are in its measures"
            )
        rows.append(constraint.row(_as_bounded(constraint, float(measures[constraint.metric](module)))))
    return rows


def _as_bounded(constraint: Constraint, value: float) -> float:
    """A measured value; if it violates the bound only by the rounding of the metric's sum, the bound itself.

    In a unit such as MMAC, costs are not exact floats. The metric is a sum of such floats, and the measurement of the
    whole network is a single float.
    """
    metric = constraint.metric
    if metric.addends() is None:  # no sum
        return value
    # Rounding of its own sums, as a share of their size, at the first and the last options.
    ends = np.stack([np.zeros_like(metric.space.sizes), metric.space.sizes - 1])
    sums, roundings = metric.rounded(ends, constraint.sign)
    at = int(np.abs(sums).argmax())
    share = np.broadcast_to(roundings, sums.shape)[at] / abs(sums[at]) if sums[at] else 0.0
    return float(snapped(np.array([value]), share * abs(value), constraint.sign, constraint.bound)[0])
