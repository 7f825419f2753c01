"""A one-dimensional CNN for sensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cggd_nas.choices import ChannelChoice, Choice
from cggd_nas.slicing import Sliced


def conv1d(
    *,
    layers: int = 8,
    kernels: Sequence[int] = (3, 5, 9),
    channels: Sequence[int] = (8, 16, 32),
    in_channels: int = 1,
    num_classes: int = 10,
) -> nn.Module:
    """The supernet of a 1-D CNN: kernel and channels of each layer, how every second one halves, and the pooling.

    Each layer is a convolution without bias, batch normalisation, ReLU; layers 1, 3, 5, ... halve the length. By
    default there are 3 ** 8 * 3 ** 8 * 2 ** 4 * 3 = 2,066,242,608 architectures.

    Parameters
    ----------
    layers : int
        Number of layers.
    kernels : sequence of int
        Odd sizes of a convolution.
    channels : sequence of int
        Numbers of channels after a layer.
    in_channels : int
        Channels of the signal, such as the axes of an accelerometer.
    num_classes : int

    Returns
    -------
    nn.Module
        Signals (n, in_channels, length) to (n, num_classes). Decisions are ``"layer1.kernel"``, ``"layer1.channels"``,
        ...; ``"layer1.halving"``, ``"layer3.halving"``, ...: by the stride of the convolution, or by a maximum over two
        after it, which costs twice the multiply-accumulates; and ``"pooling"``: mean, maximum or root mean square over
        what is left of the signal; the last is the level by which vibrations are usually judged.

    Examples
    --------
    >>> from cggd_nas import collect
    >>> supernet = collect(conv1d())
    >>> supernet.space.n_decisions, supernet.space.n_selections
    (21, 2066242608)
    """
    if layers < 1:
        raise ValueError(f"layers must be at least 1, got {layers}")
    if even := [k for k in kernels if k % 2 == 0]:
        raise ValueError(f"kernels must be odd, got {even[0]}")
    most = max(channels)
    parts: list[nn.Module] = []
    before = None
    for layer in range(1, layers + 1):
        name, after = f"layer{layer}", f"layer{layer}.channels"
        shape = (most if before else in_channels, most, before, after)
        options = {str(k): _halving(name, k, *shape) if layer % 2 else _convolution(k, 1, *shape) for k in kernels}
        parts += [
            Choice(options, decision=f"{name}.kernel"),
            Sliced(nn.BatchNorm1d(most), outputs=after),
            nn.ReLU(),
            ChannelChoice(most, channels, decision=after),
        ]
        before = after
    pools = {"mean": nn.AdaptiveAvgPool1d(1), "max": nn.AdaptiveMaxPool1d(1), "rms": RootMeanSquare()}
    classifier = Sliced(nn.Linear(most, num_classes), inputs=before)
    return nn.Sequential(*parts, Choice(pools, decision="pooling"), nn.Flatten(), classifier)


class RootMeanSquare(nn.Module):
    """Root of the mean square over the length of a signal."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.vector_norm(x, dim=-1, keepdim=True) / x.shape[-1] ** 0.5


def _convolution(kernel: int, stride: int, inputs: int, outputs: int, before: str | None, after: str) -> Sliced:
    conv = nn.Conv1d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return Sliced(conv, inputs=before, outputs=after)


def _halving(name: str, kernel: int, inputs: int, outputs: int, before: str | None, after: str) -> Choice:
    shape = (inputs, outputs, before, after)
    pool = nn.MaxPool1d(2, ceil_mode=True)  # leaves as much of odd lengths as a stride does
    options = {"stride": _convolution(kernel, 2, *shape), "pool": nn.Sequential(_convolution(kernel, 1, *shape), pool)}
    return Choice(options, decision=f"{name}.halving")
