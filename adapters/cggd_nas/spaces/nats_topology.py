"""The NATS topology space: one cell of six edges, repeated (NAS-Bench-201)."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import networkx as nx
import torch
from torch import Tensor, nn

from cggd.datasets import NATS_EDGES, NATS_OPERATIONS
from cggd_nas.choices import Choice


def nats_topology(*, C: int = 16, N: int = 5, num_classes: int = 10, in_channels: int = 3) -> nn.Module:
    """The supernet of the NATS topology space; by default the networks that NATS-Bench trained on CIFAR-10.

    It consists of a stem, three stages of `N` cells with `C`, 2 `C` and 4 `C` channels, a residual block that halves
    the image before the second and the third stage, and a linear classifier. All cells share six decisions, one for
    each edge of the cell's graph: 15,625 architectures.

    Parameters
    ----------
    C : int
        Channels of the first stage.
    N : int
        Cells in each stage.
    num_classes : int
    in_channels : int
        Channels of the image.

    Returns
    -------
    nn.Module
        Images (n, in_channels, height, width), sides divisible by 4, to (n, num_classes). Its decisions are named
        ``"1<-0"`` to ``"3<-2"`` as in NATS-Bench. Node 0 is the input, node 3 the output.

    Notes
    -----
    Parameters and multiply-accumulates of all 15,625 networks equal NATS-Bench's own figures, whose operations are
    those of convolutions and linear layers and the 10 additions of the classifier's bias (measured: tests/nas).

    References
    ----------
    Dong, Yang, "NAS-Bench-201", ICLR 2020. Dong et al., "NATS-Bench", TPAMI 2021.

    Examples
    --------
    >>> from cggd_nas import collect
    >>> collect(nats_topology(C=4, N=1)).space
    ChoiceSpace(6 decisions, 5 options each)
    """
    for name, value in (("C", C), ("N", N), ("num_classes", num_classes), ("in_channels", in_channels)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    layers: list[nn.Module] = [nn.Sequential(nn.Conv2d(in_channels, C, 3, padding=1, bias=False), nn.BatchNorm2d(C))]
    for stage in range(3):
        width = C << stage
        if stage:
            layers.append(ResidualDownsampling(width // 2, width))
        layers += [Cell(width) for _ in range(N)]
    return nn.Sequential(*layers, head(C << 2, num_classes))


def cell_graph() -> nx.DiGraph:
    """The graph of the cell with decisions on its edges, an argument for `cggd_nas.collect`."""
    graph = nx.DiGraph()
    for source, target in NATS_EDGES:
        graph.add_edge(source, target, decision=decision(source, target))
    return graph


def decision(source: int, target: int) -> str:
    """Name of the decision on an edge of the cell, as in NATS-Bench."""
    return f"{target}<-{source}"


class Cell(nn.Module):
    """The cell: node 0 is the input, each other node is the sum of its edges from all earlier nodes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict(
            {
                f"{target}_{source}": Choice(
                    {name: OPERATIONS[name](width) for name in NATS_OPERATIONS}, decision=decision(source, target)
                )
                for source, target in NATS_EDGES
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for target in range(1, 4):
            parts = [self.edges[f"{target}_{source}"](nodes[source]) for source in range(target)]
            nodes.append(reduce(torch.add, parts))
        return nodes[-1]


class Zero(nn.Module):
    """No connection."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0


def relu_conv_bn(inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
    """NATS-Bench's convolution: ReLU, convolution without bias, batch normalisation with scale and shift."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


OPERATIONS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda width: Zero(),
    "skip_connect": lambda width: nn.Identity(),
    "nor_conv_1x1": lambda width: relu_conv_bn(width, width, 1),
    "nor_conv_3x3": lambda width: relu_conv_bn(width, width, 3),
    "avg_pool_3x3": lambda width: nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
}


class ResidualDownsampling(nn.Module):
    """Two convolutions that halve the image, in parallel with an average pool and a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            relu_conv_bn(inputs, outputs, 3, stride=2),
            relu_conv_bn(outputs, outputs, 3),
        )
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.block(x)


def head(width: int, num_classes: int) -> nn.Sequential:
    """Normalisation, mean over the image, linear classifier."""
    return nn.Sequential(
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, num_classes),
    )
