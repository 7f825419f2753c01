"""Costs of a plain network: parameters, size, multiply-accumulates, activation memory, and measured latency.

Sizes are in KiB (1024 bytes), which data sheets of microcontrollers often call kB. MACs are counts here; metrics have
them in millions (MMAC).
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import nn

from cggd.checks import whole
from cggd_nas.trace import Example, tensors_of, trace

BYTES_PER_KB = 1024

# Biases of integer networks keep 32 bits (Jacob et al., Quantization and training of neural networks for efficient
# integer-arithmetic-only inference, CVPR 2018, section 2.4), since they are added to 32-bit accumulators.
BIAS_BITS = 32

# Median and quartiles of 50 runs differ by a few percent from those of the next 50. The first runs load code and
# choose kernels; PyTorch's benchmark recipes also have warm-up runs.
WARMUP = 10
REPEATS = 50


@dataclass(frozen=True)
class Measurement:
    """A measured time.

    Attributes
    ----------
    median : float
        In ms.
    iqr : float
        Distance between the quartiles, in ms.
    n : int
        Number of runs.
    threads : int
    device : str
        The device on which it was measured.
    unit : str
    """

    median: float
    iqr: float
    n: int
    threads: int
    device: str
    unit: str = "ms"

    def __str__(self) -> str:
        return (
            f"{self.median:.4g} {self.unit} (IQR {self.iqr:.2g}, {self.n} runs, {self.threads} threads, {self.device})"
        )


def parameters(module: nn.Module) -> int:
    """Number of parameters. A parameter that is used in several places counts once.

    Examples
    --------
    >>> parameters(nn.Conv2d(3, 8, 3))
    224
    """
    return sum(parameter.numel() for parameter in module.parameters())


def size_kb(module: nn.Module, *, bits: int = 8) -> float:
    """Size of the weights in KiB (1024 bytes), as stored for integer inference.

    Parameters of two or more dimensions take `bits` bits each. Parameters of one dimension (biases, scales) take 32,
    since they are added to 32-bit accumulators (Jacob et al., CVPR 2018). A batch norm is folded into the layer before
    it, so only one bias per channel remains. With ``bits=32`` and without batch norms, this is four bytes per
    parameter.

    Parameters
    ----------
    module : nn.Module
    bits : int
        Bits of a weight.

    Examples
    --------
    >>> size_kb(nn.Conv2d(16, 16, 4, bias=False), bits=8)
    4.0
    >>> size_kb(nn.BatchNorm2d(256))
    1.0
    """
    whole(bits, "bits", least=1)
    return storage_bits(module, bits=bits) / (8 * BYTES_PER_KB)


def storage_bits(module: nn.Module, *, bits: int) -> int:
    """Size of the weights in bits, see `size_kb`."""
    total, seen = 0, set[int]()
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            seen.update(map(id, part.parameters(recurse=False)))
            total += part.num_features * BIAS_BITS
    for parameter in module.parameters():
        if id(parameter) not in seen:
            total += parameter.numel() * (bits if parameter.ndim > 1 else BIAS_BITS)
    return total


def macs(module: nn.Module, example: Example) -> int:
    """Multiply-accumulates of one run on an example.

    The count contains all executed convolutions (of any dimension, with groups, dilation or transposed), linear layers,
    and other matrix products such as attention. Batch norms count 0, since they are folded into the layer before them.
    Pooling, sums and activation functions count 0.

    Parameters
    ----------
    module : nn.Module
    example : Tensor or sequence of Tensor
        Arguments of its forward; the count is that of the whole batch.

    Examples
    --------
    >>> macs(nn.Conv2d(3, 8, 3, padding=1), torch.zeros(1, 3, 10, 10))
    21600
    """
    return trace(module, example).macs


def peak_memory(module: nn.Module, example: Example, *, bits: int = 8) -> float:
    """Largest amount of activations alive at once, in KiB (1024 bytes).

    A tensor is alive from the operation that makes it to the last operation that uses it, in the order of execution. A
    skip connection therefore keeps its tensor alive. Views and results of operations in place share memory with their
    source. The output of a batch norm replaces its input, unless that is still needed (the batch norm is folded into
    the layer before it). The example and the output count.

    Parameters
    ----------
    module : nn.Module
    example : Tensor or sequence of Tensor
        Arguments of its forward.
    bits : int
        Bits of one number of an activation.

    Examples
    --------
    Input and output of the convolution, 3 and 8 channels of 32 x 32:

    >>> peak_memory(nn.Conv2d(3, 8, 3, padding=1), torch.zeros(1, 3, 32, 32), bits=8)
    11.0
    """
    whole(bits, "bits", least=1)
    return int(trace(module, example).live_elements.max()) * bits / (8 * BYTES_PER_KB)


def latency(
    module: nn.Module, example: Example, *, warmup: int = WARMUP, repeats: int = REPEATS, threads: int = 1
) -> Measurement:
    """Measured time of one run in evaluation mode, on the device of the example.

    Parameters
    ----------
    module : nn.Module
        On the same device.
    example : Tensor or sequence of Tensor
        Arguments of its forward. Use a batch of 1 for the latency of a single input.
    warmup, repeats : int
        Runs before the measurement, and measured runs.
    threads : int
        Threads of PyTorch during the measurement.
    """
    arguments, before = tensors_of(example), torch.get_num_threads()
    whole(threads, "threads", least=1)
    device = arguments[0].device

    def run() -> None:
        module(*arguments)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)

    torch.set_num_threads(threads)
    try:
        with evaluating(module), torch.inference_mode():
            milliseconds = _timed(run, warmup, repeats)
    finally:
        torch.set_num_threads(before)
    return _measurement(milliseconds, threads, device_name(device))


def onnx_latency(
    path: str | PathLike[str],
    example: Example,
    *,
    warmup: int = WARMUP,
    repeats: int = REPEATS,
    threads: int = 1,
) -> Measurement:
    """Measured time of one run of an ONNX file in ONNX Runtime on the CPU. Needs the package ``onnxruntime``.

    Parameters
    ----------
    path : str or path
        As written by `cggd_nas.export.export_onnx`.
    example : Tensor or sequence of Tensor
        Its inputs in order.
    warmup, repeats, threads : int
        As for `latency`.
    """
    whole(threads, "threads", least=1)
    session = onnx_session(path, threads=threads)
    inputs = onnx_inputs(session, example)
    milliseconds = _timed(lambda: session.run(None, inputs), warmup, repeats)
    return _measurement(milliseconds, threads, f"onnxruntime {device_name(torch.device('cpu'))}")


def onnx_session(path: str | PathLike[str], *, threads: int = 1) -> Any:
    """An ONNX Runtime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def onnx_inputs(session: Any, example: Example) -> dict[str, np.ndarray]:
    """An example as the named inputs of a session."""
    names, arguments = [given.name for given in session.get_inputs()], tensors_of(example)
    if len(names) != len(arguments):
        raise ValueError(f"example must hold the {len(names)} inputs {names} of the ONNX file, got {len(arguments)}")
    return {name: x.detach().cpu().numpy() for name, x in zip(names, arguments, strict=True)}


def device_name(device: torch.device) -> str:
    """The name of a device in measurements."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {platform.processor() or platform.machine()}"


@contextmanager
def same_mode(module: nn.Module) -> Iterator[None]:
    """Restore the mode, training or evaluation, of every part afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; restores the mode of every part afterwards."""
    with same_mode(module):
        module.eval()
        yield


def device_of(module: nn.Module) -> torch.device:
    """The device of the first parameter; the CPU if there is none."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def _timed(run: Callable[[], Any], warmup: int, repeats: int) -> np.ndarray:
    whole(warmup, "warmup", least=0)
    whole(repeats, "repeats", least=1)
    for _ in range(warmup):
        run()
    milliseconds = np.empty(repeats)
    for i in range(repeats):
        start = time.perf_counter_ns()
        run()
        milliseconds[i] = (time.perf_counter_ns() - start) / 1e6
    return milliseconds


def _measurement(milliseconds: np.ndarray, threads: int, device: str) -> Measurement:
    low, median, high = np.quantile(milliseconds, [0.25, 0.5, 0.75]).tolist()
    return Measurement(median, high - low, len(milliseconds), threads, device)
