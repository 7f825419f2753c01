"""The NATS size space: five widths of a network with a fixed cell."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from cggd_nas.choices import ChannelChoice, Selection, whole_numbers
from cggd_nas.relaxations import Mixing
from cggd_nas.slicing import Sliced

WIDTHS = (8, 16, 24, 32, 40, 48, 56, 64)


def nats_size(*, widths: Sequence[int] = WIDTHS, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """The supernet of the NATS size space; by default that of NATS-Bench on CIFAR-10, 32,768 architectures.

    It consists of a stem, a cell with ``c0`` channels, a residual block that halves the image with ``c1``, a cell with
    ``c2``, another such block with ``c3``, a cell with ``c4``, and a linear classifier. The cell is the best cell of
    the topology space on CIFAR-100. It has 3x3 convolutions on all edges except that from the first to the last node,
    which is a skip, or a 1x1 convolution if the cell changes the width.

    Parameters
    ----------
    widths : sequence of int
        The possible values of each of the five widths.
    num_classes, in_channels : int

    Returns
    -------
    nn.Module
        Images (n, in_channels, height, width), sides divisible by 4, to (n, num_classes). Its decisions are ``"c0"`` to
        ``"c4"``, with the widths as labels.

    Notes
    -----
    Parameters and multiply-accumulates of all 32,768 networks equal NATS-Bench's own figures, whose operations include
    the 10 additions of the classifier's bias (measured: tests/nas).

    References
    ----------
    Dong et al., "NATS-Bench", TPAMI 2021; its program, ``InferTinyCellNet.py``.

    Examples
    --------
    >>> from cggd_nas import collect
    >>> collect(nats_size(widths=[4, 8])).space.options["c4"]
    ('4', '8')
    """
    wide = Widths(tuple(whole_numbers(widths, "widths", least=1)))
    return nn.Sequential(
        wide.conv(in_channels, None, "c0", kernel=3),
        wide.mask("c0"),
        SizedCell(wide, "c0", "c0"),
        SizedDownsampling(wide, "c0", "c1"),
        SizedCell(wide, "c1", "c2"),
        SizedDownsampling(wide, "c2", "c3"),
        SizedCell(wide, "c3", "c4"),
        Sliced(nn.BatchNorm2d(wide.most), outputs="c4"),
        wide.mask("c4"),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        Sliced(nn.Linear(wide.most, num_classes), inputs="c4"),
    )


class Widths:
    """Makes the layers around the decisions on widths, all with the largest width."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        self.widths, self.most = widths, max(widths)

    def mask(self, decision: str) -> ChannelChoice:
        return ChannelChoice(self.most, self.widths, decision=decision)

    def conv(
        self, channels: int | None, inputs: str | None, outputs: str, *, kernel: int, stride: int = 1
    ) -> nn.Sequential:
        """A convolution without bias and its batch normalisation, from fixed channels or those of a decision."""
        conv = nn.Conv2d(channels or self.most, self.most, kernel, stride=stride, padding=kernel // 2, bias=False)
        return nn.Sequential(
            Sliced(conv, inputs=inputs, outputs=outputs),
            Sliced(nn.BatchNorm2d(self.most), outputs=outputs),
        )

    def relu_conv(self, inputs: str, outputs: str, *, stride: int = 1) -> nn.Sequential:
        return nn.Sequential(nn.ReLU(), *self.conv(None, inputs, outputs, kernel=3, stride=stride))


class SizedCell(nn.Module):
    """The fixed cell; the output of each node is masked once, after its sum."""

    def __init__(self, widths: Widths, inputs: str, outputs: str) -> None:
        super().__init__()
        sources = {"1_0": inputs, "2_0": inputs, "2_1": outputs, "3_1": outputs, "3_2": outputs}
        self.convs = nn.ModuleDict({edge: widths.relu_conv(source, outputs) for edge, source in sources.items()})
        self.shortcut = nn.Identity() if inputs == outputs else Shortcut(widths, inputs, outputs)
        self.masks = nn.ModuleList([widths.mask(outputs) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        first = self.masks[0](self.convs["1_0"](x))
        second = self.masks[1](self.convs["2_0"](x) + self.convs["2_1"](first))
        return self.masks[2](self.shortcut(x) + self.convs["3_1"](first) + self.convs["3_2"](second))


class SizedDownsampling(nn.Module):
    """Two convolutions that halve the image, in parallel with an average pool and a 1x1 convolution."""

    def __init__(self, widths: Widths, inputs: str, outputs: str) -> None:
        super().__init__()
        self.block = nn.Sequential(
            widths.relu_conv(inputs, outputs, stride=2),
            widths.mask(outputs),
            widths.relu_conv(outputs, outputs),
        )
        narrow = nn.Conv2d(widths.most, widths.most, 1, bias=False)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), Sliced(narrow, inputs=inputs, outputs=outputs))
        self.mask = widths.mask(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.mask(self.shortcut(x) + self.block(x))


class Shortcut(nn.Module):
    """The identity if input and output have the same width, otherwise a 1x1 convolution."""

    def __init__(self, widths: Widths, inputs: str, outputs: str) -> None:
        super().__init__()
        self.inputs, self.outputs = widths.mask(inputs), widths.mask(outputs)
        self.project = widths.conv(None, inputs, outputs, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.inputs.mixing, self.outputs.mixing
        assert a is not None  # the masks before have run
        assert b is not None
        if not set(a.paths) & set(b.paths):
            return self.project(x)
        if len(a.paths) == len(b.paths) == 1:
            return x
        same = sum(u * v for i, u in _weights(a) for j, v in _weights(b) if i == j)
        return same * x + (1 - same) * self.project(x)

    def plain(self, selection: Selection) -> nn.Module:
        """The identity or the convolution, by the two widths."""
        equal = selection[self.inputs.decision] == selection[self.outputs.decision]
        return nn.Identity() if equal else copy.deepcopy(self.project)


def _weights(mixing: Mixing) -> list[tuple[int, Tensor | float]]:
    return [(path, 1.0 if mixing.weights is None else mixing.weights[i]) for i, path in enumerate(mixing.paths)]
