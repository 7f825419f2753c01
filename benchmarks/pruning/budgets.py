"""Budgets: shares of the original network's multiply-accumulates or measured latency."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from cggd import Constraint, Function
from cggd_nas import Costs, Supernet, extract, fit_regressor, measure
from cggd_nas.measure import evaluating, onnx_inputs, onnx_session

# Pairs of runs for a ratio of latencies. The lower quartile of processor times is used, since other load on the machine
# only makes runs longer.
ROUNDS, QUARTILE = 40, 0.25

# Share by which latencies of chosen networks must be below their bound, so that later measurements satisfy it too.
SLACK = 0.04

# Networks measured for the prediction of latency.
MEASURED = 120


class NoneFitsError(Exception):
    """A method has no network within the budget."""


@dataclass(frozen=True, eq=False)
class Budget:
    """A bound on a pruned network.

    Attributes
    ----------
    kind : {"macs", "latency"}
    share : float
        Share of the original network's cost.
    whole : nn.Module
        The original network.
    example : Tensor or tuple of Tensor
        With a batch of 1 for "macs". Latency is that of ONNX Runtime on one thread for this batch.
    known : dict
        Measurements for predictions. Budgets of the same model and example can share it.
    """

    kind: str
    share: float
    whole: nn.Module
    example: Any
    known: dict[Any, Any] = field(default_factory=dict)

    def used(self, network: nn.Module) -> float:
        """A network's cost as a share of the original network's."""
        if self.kind == "macs":
            return measure.macs(network, self.example) / self._macs
        with tempfile.TemporaryDirectory() as folder:
            return relative_latency(quick_export(network, self.example, Path(folder, "cut.onnx")), self._session,
                                    self.example)  # fmt: skip

    def fits(self, network: nn.Module) -> bool:
        """Whether a network is within the budget; latencies with slack for other measurements."""
        return self.used(network) <= self.share * (1 if self.kind == "macs" else 1 - SLACK)

    def used_by_file(self, path: Path) -> float:
        """An exported file's cost as a share of the original network's."""
        if self.kind == "macs":
            return file_macs(path) / self._macs
        return relative_latency(path, self._session, self.example)

    def constraint(self, supernet: Supernet, share: float) -> Constraint:
        """The bound as a constraint on a supernet's networks; latency is predicted from a few measured networks."""
        if self.kind == "macs":
            return Costs(supernet, self.example).macs() <= share * self._macs / 1e6
        measured = Function(supernet.space, lambda labels: self.used(extract(supernet, labels)), name="latency")
        if "regressor" not in self.known:
            self.known["regressor"] = fit_regressor(measured, samples=MEASURED)
        return self.known["regressor"].metric <= share * (1 - SLACK)

    @cached_property
    def _macs(self) -> int:
        return measure.macs(self.whole, self.example)

    @cached_property
    def _session(self) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            return onnx_session(quick_export(self.whole, self.example, Path(folder, "whole.onnx")))


def largest(cut: Callable[[float], nn.Module], budget: Budget, steps: int, finer: int = 1) -> nn.Module:
    """The first of the networks cut(1), cut((steps - 1) / steps), ... within the budget; then in finer steps."""
    for step in range(steps, 0, -1):
        network = cut(step / steps)
        if budget.fits(network):
            break
    else:
        raise NoneFitsError(f"no width keeps a share of {budget.share} of {budget.kind}")
    for part in range(finer - 1, 0, -1):
        if budget.fits(larger := cut((step + part / finer) / steps)):
            return larger
    return network


def relative_latency(path: Path, whole: Any, example: Any) -> float:
    """Latency of a file as a share of a session's latency, in alternating runs."""
    sessions = [(session, onnx_inputs(session, example)) for session in (onnx_session(path), whole)]
    times = np.empty((ROUNDS + 5, 2))
    for row in times:
        for n, (session, inputs) in enumerate(sessions):
            began = time.process_time_ns()
            session.run(None, inputs)
            row[n] = time.process_time_ns() - began
    own, other = np.quantile(times[5:], QUARTILE, axis=0)
    return float(own / other)


def quick_export(network: nn.Module, example: Any, path: Path) -> Path:
    """An ONNX file by tracing, for timing only: twenty times as fast as `cggd_nas.export_onnx`, and not checked."""
    arguments = example if isinstance(example, tuple) else (example,)
    with warnings.catch_warnings(), evaluating(network), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, arguments, str(path), dynamo=False)
    return path


def file_macs(path: Path) -> int:
    """Multiply-accumulates of an ONNX file, from the shapes of its convolutions and matrix products."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(str(path))).graph
    shapes = {w.name: list(w.dims) for w in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        shapes[value.name] = [d.dim_value for d in value.type.tensor_type.shape.dim]
    total = 0
    for node in graph.node:
        result = int(np.prod(shapes[node.output[0]])) if node.op_type in ("Conv", "Gemm", "MatMul") else 0
        if node.op_type == "Conv":
            total += result * int(np.prod(shapes[node.input[1]][1:]))
        elif result:
            across = any(a.name == "transA" and a.i for a in node.attribute)
            total += result * shapes[node.input[0]][0 if across else -1]
    return total
