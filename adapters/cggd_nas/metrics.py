"""Costs of the networks of a supernet, as metrics to be bounded or minimised."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from torch import nn

from cggd.checks import own, whole
from cggd.metrics import Function, Metric
from cggd_nas import measure
from cggd_nas.export import export_onnx
from cggd_nas.extract import extract
from cggd_nas.lookup import LookupTable, check_table
from cggd_nas.memory import PeakMemory
from cggd_nas.plain import as_supernet, plain_network
from cggd_nas.sums import Table, sum_of_modules, sum_of_operations, summed
from cggd_nas.supernet import Supernet
from cggd_nas.trace import Example, Trace, tensors_of
from cggd_nas.tracer import Tracer

Selection = Mapping[Hashable, Hashable]

# Evaluations per measured value. Their spread gives the standard error for bounds with a confidence.
EVALUATIONS = 3

# Random selections for which sums of products are compared with the networks.
COMPARED = 3


@dataclass(frozen=True, eq=False)
class Costs:
    """Metrics of a supernet's networks: exact metrics without running the networks, and measured metrics.

    Parameters, size and MACs are `cggd.Additive` if it is proved that each part of the network depends on at most one
    decision. If parts depend on a few decisions together, such as on the product of two widths, they are
    `cggd.Interactions`: exact sums of tables over those decisions, which solvers can bound. Otherwise they are a
    `cggd.Function` with exact cached values. All values equal those of `cggd_nas.measure` for the extracted network.

    Parameters
    ----------
    model : nn.Module or Supernet
    example : Tensor or sequence of Tensor
        Arguments of the network's forward, with a batch of 1. MACs, memory and latency are those of the whole batch; a
        larger batch causes a warning.

    Attributes
    ----------
    measures : dict of Metric to callable
        For each metric, the function that measures the same on a plain module (`cggd_nas.export.verify`).

    Examples
    --------
    >>> import torch
    >>> from cggd_nas import Choice
    >>> model = nn.Sequential(Choice({"conv3": nn.Conv2d(8, 8, 3, padding=1), "conv1": nn.Conv2d(8, 8, 1)}))
    >>> costs = Costs(model, torch.zeros(1, 8, 32, 32))
    >>> costs.macs() <= 0.1
    Constraint(macs <= 0.1 MMAC)
    >>> costs.macs()({"0": "conv1"}), costs.peak_memory()({"0": "conv1"})
    (0.065536, 16.0)
    """

    model: nn.Module | Supernet
    example: Example
    supernet: Supernet = field(init=False)
    measures: dict[Metric, Callable[[nn.Module], float]] = field(init=False, default_factory=dict)
    _lock: RLock = field(init=False, default_factory=RLock)

    def __post_init__(self) -> None:
        example = tensors_of(self.example)
        own(self, supernet=as_supernet(self.model))
        if self.supernet.example is None:
            self.supernet.example = example

    @cached_property
    def tracer(self) -> Tracer:
        """The tracer that the metrics use."""
        return Tracer(self.supernet, self.example)

    # -- exact --------------------------------------------------------------------------------------------------------

    def parameters(self, *, name: str = "parameters") -> Metric:
        """Number of parameters."""
        products = self._products("parameters")
        count = measure.parameters
        return self._counted(count, 1, name, "", lambda module: float(measure.parameters(module)), products)

    def size_kb(self, *, bits: int = 8, name: str = "size") -> Metric:
        """Size of the weights in KiB (1024 bytes), as in `cggd_nas.measure.size_kb`."""
        whole(bits, "bits", least=1)
        count = partial(measure.storage_bits, bits=bits)
        products = self._products("storage_bits", bits)
        again = partial(measure.size_kb, bits=bits)
        return self._counted(count, 8 * measure.BYTES_PER_KB, name, "KiB", again, products)

    def macs(self, *, name: str = "macs") -> Metric:
        """Multiply-accumulates of a run on the example in millions, counted as in `cggd_nas.measure.macs`."""
        self._warn_of_batch()
        tables = self._agreeing(self._products("macs"), lambda s: self._trace(s).macs)
        if tables is None:
            with self._lock:
                tables = sum_of_operations(self.tracer, lambda traced: traced.trace.macs)
        metric = self._summed(tables, 10**6, lambda s: self._trace(s).macs / 1e6, name, "MMAC")
        return self._known(metric, lambda module: measure.macs(module, self.example) / 1e6)

    def peak_memory(self, *, bits: int = 8, name: str = "memory") -> Metric:
        """Largest amount of activations alive at once in KiB (1024 bytes), as in `cggd_nas.measure.peak_memory`."""
        whole(bits, "bits", least=1)
        self._warn_of_batch()
        kb = bits / (8 * measure.BYTES_PER_KB)
        metric = PeakMemory(self.supernet.space, self._trace, kb, name=name)
        return self._known(metric, lambda module: measure.peak_memory(module, self.example, bits=bits))

    # -- measured -----------------------------------------------------------------------------------------------------

    def latency(
        self,
        *,
        evaluations: int = EVALUATIONS,
        warmup: int = measure.WARMUP,
        repeats: int = measure.REPEATS,
        threads: int = 1,
        name: str = "latency",
    ) -> Function:
        """Measured time of the extracted network in ms on the device of the example, a noisy metric.

        Parameters
        ----------
        evaluations : int
            Measurements per value. The value is the mean of their medians; their spread gives its standard error.
        warmup, repeats, threads : int
            As for `cggd_nas.measure.latency`.
        name : str
        """
        settings = {"warmup": warmup, "repeats": repeats, "threads": threads}
        return self._measured(lambda m: measure.latency(m, self.example, **settings).median, evaluations, name)

    def onnx_latency(
        self,
        *,
        evaluations: int = EVALUATIONS,
        warmup: int = measure.WARMUP,
        repeats: int = measure.REPEATS,
        threads: int = 1,
        name: str = "onnx_latency",
    ) -> Function:
        """Measured time of the extracted network in ONNX Runtime in ms, a noisy metric; parameters as for `latency`."""
        settings = {"warmup": warmup, "repeats": repeats, "threads": threads}

        def timed(module: nn.Module) -> float:
            with tempfile.TemporaryDirectory() as folder:
                path = export_onnx(module, self.example, Path(folder, "network.onnx"))
                return measure.onnx_latency(path, self.example, **settings).median

        return self._measured(timed, evaluations, name)

    def looked_up(self, table: LookupTable, *, name: str = "latency") -> Metric:
        """The sum of a look-up table's entries over the network's parts (`LookupTable.metric`)."""
        check_table(table, "table")
        self._warn_of_batch()
        with self._lock:
            metric = table.metric(self.supernet, self.example, name=name, tracer=self.tracer)
        return metric

    def _warn_of_batch(self) -> None:
        if (n := self._samples) > 1:
            warnings.warn(
                f"example has {n} samples, and MACs, memory and latency are those of all {n} together; for those of a "
                "single one give an example with a batch of 1, such as example[:1]",
                stacklevel=3,
            )

    @cached_property
    def _samples(self) -> int:
        """The length of the first axis of all tensors of the example, if MACs are proportional to it; otherwise 1."""
        example = tensors_of(self.example)
        lengths = {len(x) if x.ndim else 0 for x in example}
        if len(lengths) > 1 or (n := lengths.pop()) < 2:
            return 1
        network = plain_network(self.supernet, self.supernet.space.labels([0] * self.supernet.space.n_decisions))
        try:
            one, every = (measure.macs(network, given) for given in ([x[:1] for x in example], example))
        except ValueError:  # the first axis is no batch
            return 1
        return n if 0 < n * one == every else 1

    # -- how ----------------------------------------------------------------------------------------------------------

    def _trace(self, selection: Selection) -> Trace:
        with self._lock:
            return self.tracer.trace(selection)

    def _total(self, count: Callable[[nn.Module], int], selection: Selection) -> int:
        with self._lock:
            return self.tracer.total(selection, count)

    def _counted(
        self,
        count: Callable[[nn.Module], int],
        divisor: int,
        name: str,
        unit: str,
        again: Callable[[nn.Module], float],
        products: Sequence[Table] | None,
    ) -> Metric:
        tables = self._agreeing(products, lambda s: self._total(count, s))
        if tables is None:
            with self._lock:
                tables = sum_of_modules(self.tracer, count)
        metric = self._summed(tables, divisor, lambda s: self._total(count, s) / divisor, name, unit)
        return self._known(metric, again)

    def _products(self, what: str, *arguments: Any) -> Sequence[Table] | None:
        """Tables of products of sizes, for supernets made by `cggd_nas.prunable`."""
        products = self.supernet.products
        return None if products is None else getattr(products, what)(*arguments)

    def _agreeing(self, tables: Sequence[Table] | None, slow: Callable[[Selection], float]) -> Sequence[Table] | None:
        """The tables, if their sum is right for the networks of a few selections; otherwise None."""
        if tables is None:
            return None
        space = self.supernet.space
        metric = summed(tables, space, 1, name="sum", unit="")
        ends = [np.zeros(space.n_decisions, dtype=np.int64), np.diff(space.offsets) - 1]
        for row in (*ends, *space.sample(COMPARED, np.random.default_rng(0))):
            if metric(row) != slow(space.labels(row)):
                return None
        return tables

    def _summed(
        self, tables: Sequence[Table] | None, divisor: int, slow: Callable[[Selection], float], name: str, unit: str
    ) -> Metric:
        """The sum of tables or, without tables, the function that computes it for one network."""
        space = self.supernet.space
        if tables is None:
            slow(space.labels([0] * space.n_decisions))  # raises now if the network cannot be run
            return Function(space, slow, name=name, unit=unit)
        return summed(tables, space, divisor, name=name, unit=unit)

    def _measured(self, timed: Callable[[nn.Module], float], evaluations: int, name: str) -> Function:
        self._warn_of_batch()
        metric = Function(
            self.supernet.space,
            lambda s: timed(extract(self.supernet, s)),
            repeats=evaluations,
            name=name,
            unit="ms",
        )
        self._known(metric, timed)
        return metric

    def _known(self, metric: Metric, again: Callable[[nn.Module], float]) -> Metric:
        self.measures[metric] = again
        return metric
