"""Networks as an engineer would draw them for this task, each family in several sizes to be tuned to a budget."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from torch import nn

N_CLASSES = 10


def families() -> dict[str, dict[str, Callable[[], nn.Module]]]:
    """For each family its variants: name to a function that makes the network."""
    return {
        "wide first kernel": {
            f"first {kernel}/{stride}, {width} channels, {layers} layers": lambda a=(kernel, stride, width, layers): (
                wide(*a)
            )
            for kernel, stride, width, layers in itertools.product((33, 65), (4, 8), (8, 16, 24, 32, 48), (3, 4))
        },
        "depthwise separable": _separable((9, 17, 33)),
        "long separable": _separable((9, 17, 33, 65, 129)),
        "plain": {
            f"{width} channels, {growth}, kernel {kernel}, first {first}": (
                lambda a=(width, growth, kernel, first): plain(*a)
            )
            for width, growth, kernel, first in itertools.product(
                (4, 6, 8, 12, 16, 24), ("constant", "doubled"), (5, 9), ("stride 2", "stride 4")
            )
        },
    }


def _separable(kernels: Sequence[int]) -> dict[str, Callable[[], nn.Module]]:
    return {
        f"first stride {stride}, {width} channels, kernel {kernel}, {blocks} blocks": (
            lambda a=(stride, width, kernel, blocks): separable(*a)
        )
        for stride, width, kernel, blocks in itertools.product((2, 4, 8), (16, 24, 32, 48, 64), kernels, (4, 6))
    }


def wide(kernel: int, stride: int, width: int, layers: int) -> nn.Module:
    """A wide first kernel against noise, then small ones with pooling.

    After Zhang et al., "A new deep learning model for fault diagnosis with good anti-noise and domain adaptation
    ability on raw vibration signals" (WDCNN), Sensors 17(2), 2017; global pooling takes the place of its two dense
    layers, which alone would exceed the budgets.
    """
    parts = [*_layer(1, width, kernel, stride), nn.MaxPool1d(2)]
    inputs = width
    for number in range(layers):
        outputs = min(width * 2 ** (number + 1), 64)
        parts += [*_layer(inputs, outputs, 3, 1), nn.MaxPool1d(2)]
        inputs = outputs
    return nn.Sequential(*parts, *_head(inputs))


def separable(stride: int, width: int, kernel: int, blocks: int) -> nn.Module:
    """A strided convolution, then blocks of a depthwise and a pointwise one; every second block halves the length.

    The first kernel is about twice as long as the others, and 65 at the most, as that of the space.

    After Howard et al., "MobileNets", 2017, and Zhang et al., "Hello edge" (DS-CNN), 2017.
    """
    parts = _layer(1, width, min(2 * kernel - 1, 65), stride)
    for number in range(blocks):
        parts += [*_layer(width, width, kernel, 1 + number % 2, groups=width), *_layer(width, width, 1, 1)]
    return nn.Sequential(*parts, *_head(width))


def plain(width: int, growth: str, kernel: int, first: str) -> nn.Module:
    """Eight convolutions of one kernel, every second one of stride 2, the width constant or doubled twice."""
    parts: list[nn.Module] = []
    inputs = 1
    for number in range(8):
        outputs = width * {"constant": 1, "doubled": 2 ** min(number // 2, 2)}[growth]
        stride = int(first[-1]) if number == 0 else 1 + (number + 1) % 2
        parts += _layer(inputs, outputs, kernel, stride)
        inputs = outputs
    return nn.Sequential(*parts, *_head(inputs))


def _layer(inputs: int, outputs: int, kernel: int, stride: int, *, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv1d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]


def _head(inputs: int) -> Iterator[nn.Module]:
    yield from (nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(inputs, N_CLASSES))
