"""Costs as sums of tables over the decisions of each part, compared with those of extracted networks."""

import numpy as np
import pytest
import torch
from torch import nn

from cggd import Additive, Function, find_feasible
from cggd.metrics import Interactions
from cggd_nas import ChannelChoice, Choice, Costs, RepeatChoice, Sliced, collect, extract, measure


def width(channels, decision):
    return ChannelChoice(channels, [channels // 2, channels], decision=decision)


class Residual(nn.Module):
    """A block whose forward does something of its own, and takes a mask by name."""

    def __init__(self, i, channels=8):
        super().__init__()
        w = f"w{i}"
        kernels = {f"k{k}": Sliced(nn.Conv2d(channels, 16, k, padding=k // 2), outputs=w) for k in (1, 3)}
        self.up, self.width = Choice(kernels, decision=f"k{i}"), width(16, w)
        self.down = Sliced(nn.Conv2d(16, channels, 1), inputs=w)

    def forward(self, x, mask=None):
        y = self.down(torch.relu(self.width(self.up(x))))
        return x + (y if mask is None else y * mask)


class Network(nn.Module):
    """Blocks in a loop of its own, one of them used twice, and a product of matrices outside of modules."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Residual(i) for i in range(4)])
        self.head = nn.Sequential(
            Sliced(nn.Conv2d(8, 8, 1), outputs="h"),
            width(8, "h"),
            nn.Flatten(2),
            Sliced(nn.Conv1d(8, 4, 1), inputs="h"),
        )

    def forward(self, x, mask):
        for block in [*self.blocks, self.blocks[1]]:
            x = block(x, mask=mask)
        y = self.head(x)
        return y @ y.transpose(1, 2)


def twice():
    """The same module at two places of a chain."""
    shared = Choice({"k1": nn.Conv2d(3, 3, 1), "k3": nn.Conv2d(3, 3, 3, padding=1)}, decision="k")
    return nn.Sequential(shared, nn.MaxPool2d(2), shared)


def chain():
    layers = []
    for i, (before, after) in enumerate([(3, 4), (4, 8), (8, 4)]):
        layers += [
            Sliced(nn.Conv2d(before, after, 3), inputs=f"w{i - 1}" if i else None, outputs=f"w{i}"),
            width(after, f"w{i}"),
        ]
    return nn.Sequential(*layers, nn.ReLU(), Sliced(nn.Conv2d(4, 2, 1), inputs="w2"))


def depths():
    blocks = [Choice({"conv": nn.Conv2d(3, 3, 1), "skip": nn.Identity()}, decision=f"b{i}") for i in range(3)]
    return nn.Sequential(RepeatChoice(blocks, [1, 2, 3], decision="depth"), nn.Conv2d(3, 2, 1))


def strided():
    """The shape, and with it the cost of what follows, depends on a decision."""
    steps = Choice({"1": nn.Conv2d(3, 3, 1), "2": nn.Conv2d(3, 3, 1, stride=2)}, decision="stride")
    return nn.Sequential(steps, Choice({"k1": nn.Conv2d(3, 3, 1), "k3": nn.Conv2d(3, 3, 3)}, decision="k"))


NETS = {
    "network": (Network, ((1, 8, 4, 4), (1, 1, 4, 4)), Interactions),
    "twice": (twice, ((1, 3, 8, 8),), Additive),
    "chain": (chain, ((1, 3, 8, 8),), Interactions),
    "depths": (depths, ((1, 3, 8, 8),), Interactions),
    "strided": (strided, ((1, 3, 8, 8),), Interactions),
}


@pytest.mark.parametrize("name", NETS)
def test_sums_are_those_of_extracted_networks(name):
    torch.manual_seed(0)
    make, shapes, kind = NETS[name]
    supernet, example = collect(make()), tuple(torch.rand(shape) for shape in shapes)
    costs = Costs(supernet, example)
    macs, parameters = costs.macs(), costs.parameters()
    assert type(macs) is kind
    for row in supernet.space.sample(5, np.random.default_rng(0)):
        network, labels = extract(supernet, row), supernet.space.labels(row)
        assert macs(labels) == pytest.approx(measure.macs(network, example) / 1e6, rel=1e-12)
        assert parameters(labels) == measure.parameters(network)


def test_tables_are_over_no_more_decisions_than_a_part_depends_on():
    costs = Costs(Network(), (torch.rand(1, 8, 4, 4), torch.rand(1, 1, 4, 4)))
    macs, space = costs.macs(), costs.supernet.space
    assert {tuple(space.decisions[d] for d in at) for at in macs.tables} == {
        *((f"k{i}", f"w{i}") for i in range(4)),
        ("h",),
    }
    least = macs({d: space.option_labels(d)[0] for d in space.decisions})
    assert find_feasible([macs <= least]).selection is not None
    assert find_feasible([macs <= 0.999 * least]).status.name == "INFEASIBLE"


def test_parts_of_too_many_decisions_are_functions(monkeypatch):
    supernet, x = collect(chain()), torch.rand(1, 3, 8, 8)
    known = Costs(supernet, x).macs()
    monkeypatch.setattr("cggd_nas.sums.COMBINATIONS", 3)
    costs = Costs(supernet, x)
    macs, parameters = costs.macs(), costs.parameters()
    assert isinstance(macs, Function)
    assert isinstance(parameters, Function)
    for row in supernet.space.enumerate():
        labels = supernet.space.labels(row)
        assert macs(labels) == pytest.approx(known(labels), rel=1e-12)
        assert parameters(labels) == measure.parameters(extract(supernet, row))


class Branching(nn.Module):
    """Its forward looks at a shape that depends on a decision, and does something else."""

    def __init__(self):
        super().__init__()
        self.step = Choice({"1": nn.Conv2d(3, 3, 1), "2": nn.Conv2d(3, 3, 1, stride=2)}, decision="stride")
        self.last = Choice({"a": nn.Conv2d(3, 3, 1), "b": nn.Conv2d(3, 3, 3)}, decision="last")

    def forward(self, x):
        y = self.step(x)
        return self.last(y) if y.shape == x.shape else self.last(self.last(y))


def test_what_a_forward_does_may_depend_on_shapes():
    supernet, x = collect(Branching()), torch.rand(1, 3, 12, 12)
    macs = Costs(supernet, x).macs()
    for row in supernet.space.enumerate():
        assert macs(supernet.space.labels(row)) == pytest.approx(measure.macs(extract(supernet, row), x) / 1e6)
