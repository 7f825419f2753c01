"""Supernets that tests share: one of each way in which parts can depend on the selection."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from cggd_nas import ChannelChoice, Choice, RepeatChoice, Sliced, collect
from cggd_nas.spaces import conv1d, fbnet, mobile_stack, nats_size, nats_topology, transformer_encoder


class Block(nn.Module):
    """A residual block of a user, with a sum in its forward."""

    def __init__(self, channels, **names):
        super().__init__()
        self.main = Choice({"conv3": conv_bn(channels, 3), "conv1": conv_bn(channels, 1)}, **names)

    def forward(self, x):
        return x + self.main(x)


class Strided(nn.Module):
    """A user's own choice, without any class of cggd: by how much a convolution strides, with a pool instead of 1."""

    def __init__(self, channels, decision):
        super().__init__()
        self.labels, self.decision, self.mixing = ("1", "2"), decision, None
        self.logits = nn.Parameter(torch.zeros(2))
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x):
        (path,) = self.mixing.paths
        return nn.functional.conv2d(x, self.conv.weight, None, path + 1, 1)

    def plain(self, selection):
        made = copy.deepcopy(self.conv)
        made.stride = (int(selection[self.decision]),) * 2
        return made


def conv_bn(channels, kernel):
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(channels), nn.ReLU(True)
    )


def additive():
    """Shared and single choices with options of one shape, and layers around them."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        Block(4, decision="shared"),
        Choice({"pool": nn.MaxPool2d(2), "conv": nn.Conv2d(4, 4, 2, stride=2)}, decision="down"),
        Block(4, decision="shared"),
        Block(4),
        nn.Flatten(),
        nn.Linear(4 * 4 * 4, 5),
    )


def strided():
    """Resolutions that depend on the selection."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 1), Strided(4, "first"), Block(4), Strided(4, "second"), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


def nested():
    """Choices inside options, and a depth."""
    inner = Choice({"a": nn.Conv2d(3, 3, 1), "b": nn.Identity()}, decision="inner")
    return nn.Sequential(
        Choice(
            {"deep": nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), inner), "flat": nn.Conv2d(3, 3, 1)}, decision="outer"
        ),
        RepeatChoice([Block(3), nn.Conv2d(3, 3, 3, padding=1), Block(3)], [0, 1, 3], decision="depth"),
    )


def widths():
    """A width between two layers."""
    return nn.Sequential(
        Sliced(nn.Conv2d(3, 8, 3, padding=1), outputs="width"),
        Sliced(nn.BatchNorm2d(8), outputs="width"),
        nn.ReLU(),
        ChannelChoice(8, [2, 4, 8], decision="width"),
        Choice(
            {
                "3": Sliced(nn.Conv2d(8, 4, 3, padding=1), inputs="width"),
                "1": Sliced(nn.Conv2d(8, 4, 1), inputs="width"),
            },
            decision="kernel",
        ),
    )


def alone():
    """A network that is one choice."""
    return Choice({"conv": nn.Conv2d(3, 3, 1), "pool": nn.AvgPool2d(3, 1, 1)}, decision="only")


class Table(nn.Module):
    """Choices whose arguments are buffers or parts of buffers, as of positions in transformers."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.randn(1, 3, 9, 9))
        self.register_buffer("whole", torch.randn(1, 3, 8, 8))
        self.main, self.late = Block(3, decision="first"), Block(3)
        self.part, self.all = (
            Choice({"conv": nn.Conv2d(3, 3, 1), "skip": nn.Identity(), "flat": nn.Unflatten(0, (1,))}) for _ in range(2)
        )

    def forward(self, x):
        seen = self.main(x) + self.part(self.table[:, :, : x.shape[2], : x.shape[3]]).reshape(1, *x.shape[1:])
        return self.late(seen * self.all(self.whole).reshape(1, *x.shape[1:]))


IMAGE = (1, 3, 8, 8)
NETS = {
    "additive": (additive, IMAGE),
    "strided": (strided, IMAGE),
    "nested": (nested, IMAGE),
    "widths": (widths, IMAGE),
    "alone": (alone, IMAGE),
    "buffers": (Table, IMAGE),
    "nats_topology": (lambda: nats_topology(C=4, N=1), IMAGE),
    "nats_size": (lambda: nats_size(widths=(2, 4)), IMAGE),
    "mobile": (lambda: mobile_stack(stages=((4, 2, 1), (6, 2, 2)), kernels=(3, 5), expansions=(2, 3), stem=4), IMAGE),
    "fbnet": (fbnet, (1, 3, 32, 32)),
    "conv1d": (lambda: conv1d(layers=3, channels=(2, 4)), (1, 1, 32)),
    "conv1d separable": (lambda: conv1d(layers=3, channels=(2, 4), separable_kernels=(3, 7)), (1, 1, 32)),
    "conv1d skips": (
        lambda: conv1d(layers=4, channels=(2, 4), kernels=(3,), separable_kernels=(3,), skips=True),
        (1, 1, 32),
    ),
    "transformer": (
        lambda: transformer_encoder(layers=2, model_width=8, widths=(4, 8), heads=(1, 2), length=6),
        (1, 6, 8),
    ),
}

# FBNet's space has 22 layers of nine options and no smaller form.
SMALLER = sorted(set(NETS) - {"fbnet"})
NAMES = [*SMALLER, pytest.param("fbnet", marks=pytest.mark.slow)]

# How many selections to try where networks are large.
FEW = {"fbnet": 2, "nats_size": 3, "nats_topology": 4, "transformer": 4}

# Those of which every part depends on one decision at most.
SEPARABLE = {"additive", "alone", "buffers", "nats_topology", "fbnet"}


def made(name):
    """A supernet with random weights and running statistics, and an example."""
    torch.manual_seed(0)
    make, shape = NETS[name]
    supernet = collect(make())
    for part in supernet.model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.uniform_(-1, 1)
            part.running_var.uniform_(0.5, 2)
    return supernet, torch.rand(shape)


def some_selections(supernet, n, seed=0):
    """Labelled selections: all where there are few, otherwise the first one and random ones."""
    space = supernet.space
    if space.n_selections <= n:
        rows = space.enumerate()
    else:
        rows = np.concatenate([np.zeros((1, space.n_decisions), int), space.sample(n - 1, np.random.default_rng(seed))])
    return [space.labels(row) for row in rows]
