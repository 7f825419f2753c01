"""Choices whose options take different arguments, and depths with further ones."""

import copy
import itertools
import pickle

import pytest
import torch
from torch import nn

from cggd_nas import Choice, Costs, Darts, RepeatChoice, collect, extract
from cggd_nas.arguments import Arguments

X, GATE = torch.randn(2, 4), torch.rand(2, 4)


class Gated(nn.Module):
    """Called with more than one argument."""

    def __init__(self, width=4):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, h, gate=None, *, scale=1.0):
        h = self.linear(h)
        return scale * (h if gate is None else h * gate)


class Halved(nn.Module):
    """Takes a part of the arguments."""

    def forward(self, h, *, scale=1.0):
        return h * scale / 2


class Inside(nn.Module):
    def __init__(self, layer, **given):
        super().__init__()
        self.layer, self.given = layer, given

    def forward(self, x, gate=None):
        return self.layer(x, gate=gate, **self.given) if "first" not in self.given else self.layer(h=x, gate=gate)


def options():
    return {"gated": Gated(), "halved": Halved(), "skip": nn.Identity(), "linear": nn.Linear(4, 4)}


@pytest.mark.parametrize("given", [{}, {"scale": 3.0}, {"first": True}])
def test_an_option_gets_the_arguments_that_it_takes(given):
    net = collect(Inside(Choice(options(), decision="d"), **given))
    costs = Costs(net, (X[:1], GATE[:1]))
    choice, scale = net.model.layer, given.get("scale", 1.0)
    expected = {
        "gated": scale * choice.choose("gated").linear(X) * GATE,
        "halved": X * scale / 2,
        "skip": X,
        "linear": choice.choose("linear")(X),
    }
    for label, output in expected.items():
        with net.selected({"d": label}) as model:
            torch.testing.assert_close(model(X, GATE), output)
        plain = extract(net, {"d": label})
        for one in (plain, copy.deepcopy(plain), pickle.loads(pickle.dumps(plain)) if not given else plain):
            torch.testing.assert_close(one(X, GATE), output)
        assert not any(type(part).__module__.startswith("cggd") for part in plain.modules())
        assert costs.parameters()({"d": label}) == sum(p.numel() for p in plain.parameters())
        assert costs.macs()({"d": label}) == (16e-6 if label in ("gated", "linear") else 0)
    net.relax(Darts())
    assert net.model(X, GATE).shape == X.shape


def test_options_of_equal_arguments_are_extracted_as_they_are():
    mixed = {"conv": nn.Conv2d(2, 2, 1), "up": nn.ConvTranspose2d(2, 2, 1), "skip": nn.Identity()}
    net = collect(nn.Sequential(Choice(mixed, decision="d")))
    assert [type(extract(net, {"d": label})[0]) for label in mixed] == [nn.Conv2d, nn.ConvTranspose2d, nn.Identity]


@pytest.mark.parametrize("blocks", [(Gated, Gated, Gated), (Gated, Halved, nn.Identity), (nn.Identity, Gated, Halved)])
def test_every_block_of_a_depth_gets_further_arguments(blocks):
    net = collect(Inside(RepeatChoice([block() for block in blocks], [0, 1, 3], decision="depth"), scale=2.0))
    for depth in ("0", "1", "3"):
        output = X
        for block in list(net.model.layer.blocks)[: int(depth)]:
            wanted = {"gate": GATE, "scale": 2.0} if isinstance(block, Gated) else {"scale": 2.0}
            output = block(output, **(wanted if not isinstance(block, nn.Identity) else {}))
        with net.selected({"depth": depth}) as model:
            torch.testing.assert_close(model(X, GATE), output)
        torch.testing.assert_close(extract(net, {"depth": depth})(X, GATE), output)
    net.relax(Darts())
    assert net.model(X, GATE).requires_grad


def test_a_depth_of_choices_passes_arguments_on():
    layers = [Choice({"gated": Gated(), "skip": nn.Identity()}, decision=f"d{i}") for i in range(2)]
    net = collect(Inside(RepeatChoice(layers, [1, 2], decision="depth")))
    for row in itertools.product(range(2), repeat=3):
        with net.selected(row) as model:
            expected = model(X, GATE)
        torch.testing.assert_close(extract(net, row)(X, GATE), expected)


class Anything(nn.Module):
    def forward(self, h, **others):
        return h


def test_what_a_depth_cannot_pass_on_is_said():
    net = collect(Inside(RepeatChoice([Anything(), Anything()], [1, 2], decision="depth")))
    with pytest.raises(TypeError, match=r"RepeatChoice takes .* its blocks names \(h\), got 'gate'; name in forward"):
        net.model(X, GATE)


def test_a_wrong_name_is_said_by_the_option():
    net = collect(Inside(Choice(options(), decision="d"), colour="red"))
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        net.model(X, GATE)


def test_arguments_by_position_beyond_those_known():
    both = Arguments.of([Gated(), nn.Identity()])
    assert both.given(1, (1, 2, 3, 4), {}) == ((1, 2, 3, 4), {})
    assert Arguments.of([]).chain([], []).__class__ is nn.Sequential


class Open(nn.Module):
    """Takes anything by name, as layers of libraries do."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, h, gate=None, **more):
        return h + self.linear(h) * gate + more.get("added", 0.0)


class Calls(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, gate):
        return self.layer(x, gate, added=1.0)


def test_further_arguments_of_one_option_do_not_reach_the_others():
    net = collect(Calls(Choice({"layer": Open(), "skip": nn.Identity()}, decision="d")))
    for label in ("layer", "skip"):
        network = extract(net, {"d": label})
        with net.selected({"d": label}) as model:
            assert torch.equal(network(X, GATE), model(X, GATE))
        assert torch.equal(network(X, GATE), X) is (label == "skip")
        pickle.loads(pickle.dumps(network))
