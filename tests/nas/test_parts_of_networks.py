"""Bounds on a part of a supernet."""

import pytest
import torch
from torch import nn

from cggd_nas import Choice, Costs, Darts, TorchGuide, collect, profile, search

X = torch.zeros(1, 4)


def network():
    torch.manual_seed(0)
    body = nn.Sequential(
        Choice({"deep": nn.Sequential(nn.Linear(4, 9), nn.Linear(9, 4)), "flat": nn.Linear(4, 4)}), nn.ReLU()
    )
    head = nn.Sequential(Choice({"linear": nn.Linear(4, 2), "bare": nn.Linear(4, 2, bias=False)}, decision="head"))
    return nn.Sequential(body, head)


@pytest.mark.parametrize("first", ["part", "whole"])
def test_a_part_runs_what_the_whole_selects(first):
    net = network()
    parts = [collect(net[0]), collect(net)] if first == "part" else [collect(net), collect(net[0])][::-1]
    part, whole = parts
    name = part.space.decisions[0]
    for row in whole.space.enumerate():
        with whole.selected(row):
            for _ in range(5):
                x = torch.randn(2, 4)
                labels = whole.space.labels(row)
                hidden = torch.relu(net[0][0].choose(labels[name])(x))
                expected = net[1][0].choose(labels["head"])(hidden)
                torch.testing.assert_close(net(x), expected)
    with part.selected({name: "flat"}):
        torch.testing.assert_close(net[0](x), torch.relu(net[0][0].choose("flat")(x)))
    whole.relax(Darts())
    assert net(x).requires_grad


def test_search_guide_and_profile_take_bounds_on_parts():
    net = network()
    supernet = collect(net)
    bound = Costs(net[0], X).macs() <= 20e-6
    data = torch.randn(8, 4), torch.arange(8) % 2
    result = search(net, data, data, [bound, Costs(net, X).parameters() <= 29], epochs=2, batch_size=4, progress=False)
    assert result.selection == {"0.0": "flat", "head": "bare"}
    assert result.constraints[0].satisfied
    guide = TorchGuide(supernet, bound, epsilon=1.0)
    optimizer = torch.optim.SGD(supernet.architecture(), lr=0.1)
    supernet.set_logits([1.0, 0.0, 0.0, 0.0])
    for _ in range(100):
        if (step := guide.update(optimizer)).feasible:
            break
    assert step.feasible
    assert supernet.selection()["0.0"] == "flat"
    known = profile(net, X, [bound], metrics=[], show=False)
    assert known.bounds[0].satisfiable


def test_another_network_with_the_same_decisions_is_no_part():
    net, other = network(), network()
    collect(net)
    collect(other)
    with pytest.raises(ValueError, match="belongs to another choice space"):
        TorchGuide(net, Costs(other[0], X).macs() <= 1)
