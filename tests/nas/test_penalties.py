"""The losses against values worked out by hand, and the searches that they drive."""

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cggd import Additive, ChoiceSpace, Function
from cggd.guide.relaxation import softmax
from cggd_nas import Choice, collect, penalties, search
from cggd_nas.penalties import (
    expected_value,
    fbnet,
    penalized,
    proxyless_linear,
    proxyless_log,
    tas,
    tf_nas,
)

PENALTIES = (proxyless_linear, proxyless_log, fbnet, tf_nas, tas)


def lagrangian(constraints, **keywords):
    pytest.importorskip("cooper")
    return penalties.lagrangian(constraints, **keywords)


def item(tensor):
    return tensor.detach().item()


def loss_and_slopes(penalty, loss, expected, target, **keywords):
    """The value, and its derivatives by the task loss and by the expected metric."""
    inputs = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (loss, expected)]
    value = penalty(*inputs, target, **keywords)
    return item(value), *(
        float(slope) for slope in torch.autograd.grad(value, inputs, allow_unused=True) if slope is not None
    )


@pytest.mark.parametrize(
    ("penalty", "expected", "target", "keywords", "by_hand"),
    [
        # 2 + 0.2 (6 - 5) / 5; slope 0.2 / 5
        (proxyless_linear, 6.0, 5.0, {}, (2.04, 1.0, 0.04)),
        (proxyless_linear, 4.0, 5.0, {"weight": 10.0}, (0.0, 1.0, 2.0)),
        # 2 (ln 16 / ln 4) ** 0.6 = 2 * 2 ** 0.6; slope by E: 2 * 0.6 * 2 ** -0.4 / (16 ln 4)
        (proxyless_log, 16.0, 4.0, {}, (2 * 2**0.6, 2**0.6, 1.2 * 2**-0.4 / (16 * math.log(4)))),
        (proxyless_log, 16.0, 4.0, {"alpha": 3.0, "beta": 1.0}, (12.0, 6.0, 6 / (16 * math.log(4)))),
        # 0.2 * 2 * 3 ** 0.6 where ln E = 3; slope by E: 0.4 * 0.6 * 3 ** -0.4 / E
        (fbnet, math.exp(3), 5.0, {}, (0.4 * 3**0.6, 0.2 * 3**0.6, 0.24 * 3**-0.4 / math.exp(3))),
        # 2 + 0.1 |6 / 5 - 1|, and from below
        (tf_nas, 6.0, 5.0, {}, (2.02, 1.0, 0.02)),
        (tf_nas, 4.0, 5.0, {}, (2.02, 1.0, -0.02)),
        # 2 + 2 ln 4, nothing within 5% below the target, 2 - 2 ln 4
        (tas, 4.0, 5.0, {"actual": 5.1}, (2 + 2 * math.log(4), 1.0, 0.5)),
        (tas, 4.0, 5.0, {"actual": 4.9}, (2.0, 1.0, 0.0)),
        (tas, 4.0, 5.0, {"actual": 4.7}, (2 - 2 * math.log(4), 1.0, -0.5)),
        (tas, 6.0, 5.0, {"weight": 1.0}, (2 + math.log(6), 1.0, 1 / 6)),
    ],
)
def test_values_by_hand(penalty, expected, target, keywords, by_hand):
    assert loss_and_slopes(penalty, 2.0, expected, target, **keywords) == pytest.approx(by_hand)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_more_of_the_metric_above_its_target_costs_more(penalty):
    losses = [item(penalty(torch.tensor(1.0), torch.tensor(e), 5.0, actual=e)) for e in (5.5, 6.0, 7.0)]
    assert losses == sorted(losses)
    assert losses[0] < losses[-1]


@pytest.mark.parametrize("penalty", [proxyless_log, fbnet])
def test_logarithms_need_metrics_above_one(penalty):
    with pytest.raises(ValueError, match=r"must exceed 1, got 0\.5.* smaller unit"):
        penalty(torch.tensor(1.0), torch.tensor(0.5), 5.0)


@pytest.mark.parametrize("penalty", [proxyless_linear, tf_nas, tas])
def test_targets_are_positive(penalty):
    with pytest.raises(ValueError, match="target must be positive, got 0"):
        penalty(torch.tensor(1.0), torch.tensor(0.5), 0.0)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_expectations_of_sums_are_exact(sizes, seed):
    space, rng = ChoiceSpace.from_sizes(sizes), np.random.default_rng(seed)
    metric = Additive(space, rng.normal(size=space.n_options), rng.normal())
    logits = rng.normal(size=space.n_options)
    probabilities = softmax(logits, space.layout)
    parameters = [torch.tensor(part) for part in np.split(logits, space.layout.offsets[1:-1])]
    assert item(expected_value(metric, parameters)) == pytest.approx(probabilities @ metric.values + metric.constant)


def test_expectations_of_other_metrics_lie_between_their_values():
    space = ChoiceSpace.from_sizes([2, 3])
    metric = Function(space, lambda s: float((s[0] + 1) * (s[1] + 2)), name="product")
    value = expected_value(metric, [torch.tensor([0.0, 1.0]), torch.zeros(3)])
    # At the arg max (1, 0): options of the first decision give 2 and 4, of the second 4, 6 and 8.
    p = 1 / (1 + math.e)
    assert item(value) == pytest.approx((2 * p + 4 * (1 - p) + 6) / 2)


def supernet_of(space, seed=0):
    """What an objective looks at: logits by decision, and their arg max."""
    torch.manual_seed(seed)
    parameters = [torch.randn(int(n), dtype=torch.float64).requires_grad_() for n in space.sizes]

    def selection():
        return space.labels([int(p.argmax()) for p in parameters])

    return SimpleNamespace(space=space, parameters=parameters, selection=selection)


def descend(supernet, reward, objective, steps=300):
    optimizer = torch.optim.Adam(supernet.parameters, lr=0.05)
    for _ in range(steps):
        loss = 3 - expected_value(reward, supernet.parameters) / 10
        optimizer.zero_grad()
        objective(loss, supernet).backward()
        optimizer.step()


@pytest.fixture
def knapsack():
    """Options that are better the more they cost; 25 at most."""
    space = ChoiceSpace.from_sizes([4, 4, 4])
    weight = Additive(space, [2.0, 6.0, 10.0, 14.0] * 3, name="weight", unit="g")
    return supernet_of(space), Additive(space, [1.0, 2.0, 3.0, 4.0] * 3, name="reward"), weight


@pytest.mark.parametrize(
    "penalty",
    [
        partial(proxyless_linear, weight=10.0),
        partial(proxyless_log, beta=10.0),
        partial(fbnet, beta=10.0),
        partial(tf_nas, weight=10.0),
        tas,
    ],
)
def test_heavy_penalties_bring_the_expected_metric_down(knapsack, penalty):
    supernet, reward, weight = knapsack
    descend(supernet, reward, penalized([weight <= 25.0], penalty))
    assert item(expected_value(weight, supernet.parameters)) <= 26.0


def test_light_penalties_do_not(knapsack):
    supernet, reward, weight = knapsack
    descend(supernet, reward, penalized([weight <= 25.0], partial(proxyless_linear, weight=1e-3)))
    assert weight(supernet.selection()) == 42.0


def test_several_bounds_add_up_or_multiply(knapsack):
    supernet, _, weight = knapsack
    bounds = [weight <= 25.0, 2 * weight <= 20.0]
    e = item(expected_value(weight, supernet.parameters))
    loss = torch.tensor(2.0, dtype=torch.float64)
    added = penalized(bounds, proxyless_linear)(loss, supernet)
    assert item(added) == pytest.approx(2 + 0.2 * (e / 25 - 1) + 0.2 * (2 * e / 20 - 1))
    multiplied = penalized(bounds, fbnet)(loss, supernet)
    assert item(multiplied) == pytest.approx(2 * 0.2**2 * (math.log(e) * math.log(2 * e)) ** 0.6)


@pytest.mark.parametrize("make", [lambda c: penalized(c, tf_nas), lagrangian])
def test_bounds_are_from_above(knapsack, make):
    with pytest.raises(ValueError, match="bounds from above"):
        make([knapsack[2] >= 10.0])


def test_wrong_arguments_are_named(knapsack):
    with pytest.raises(TypeError, match="penalty must be a function such as tf_nas, got 'tf_nas'"):
        penalized([knapsack[2] <= 10.0], "tf_nas")
    for rate in (0.0, -1.0):
        with pytest.raises(ValueError, match=f"dual_rate must be greater than 0, got {rate}"):
            penalties.lagrangian([knapsack[2] <= 10.0], dual_rate=rate)


class TestLagrangian:
    def test_multipliers_grow_by_the_violation_of_the_arg_max_and_shrink_to_zero(self, knapsack):
        supernet, _, weight = knapsack
        loss = torch.tensor(2.0, dtype=torch.float64)
        with torch.no_grad():
            for parameters, best in zip(supernet.parameters, (3, 3, 3), strict=True):
                parameters.copy_(torch.eye(4, dtype=torch.float64)[best])
        objective = lagrangian([weight <= 20.0], dual_rate=0.1)
        violation = expected_value(weight, supernet.parameters) / 20 - 1
        # The arg max weighs 42, so that the multiplier is 0.1 * (42 / 20 - 1) after one step and twice that after two.
        for multiplier in (0.11, 0.22):
            assert item(objective(loss, supernet)) == pytest.approx(item(2 + multiplier * violation), rel=1e-6)
        with torch.no_grad():
            for parameters in supernet.parameters:
                parameters.copy_(torch.eye(4, dtype=torch.float64)[0])
        for _ in range(4):  # the arg max weighs 6, so that each call takes 0.07
            value = objective(loss, supernet)
        assert item(value) == pytest.approx(2.0)

    def test_gradients_are_those_of_the_expected_metric(self, knapsack):
        supernet, _, weight = knapsack
        objective = lagrangian([weight <= 1.0], dual_rate=1.0)
        value = objective(torch.tensor(0.0, dtype=torch.float64, requires_grad=True), supernet)
        multiplier = float(weight(supernet.selection())) - 1
        found = torch.autograd.grad(value, supernet.parameters)
        expected = torch.autograd.grad(multiplier * expected_value(weight, supernet.parameters), supernet.parameters)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)

    def test_brings_the_metric_down(self, knapsack):
        supernet, reward, weight = knapsack
        descend(supernet, reward, lagrangian([weight <= 25.0], dual_rate=0.1), steps=600)
        assert weight(supernet.selection()) <= 30.0


@pytest.mark.parametrize("make", [lambda c: penalized(c, partial(proxyless_linear, weight=100.0)), lagrangian])
def test_drive_a_search(make):
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    y = (x.sum(1) > 0).long()
    options = {"wide": nn.Linear(4, 4), "skip": nn.Identity()}
    supernet = collect(nn.Sequential(Choice(options, decision="first"), nn.Linear(4, 2)))
    latency = Additive(supernet.space, {"first": {"wide": 3.0, "skip": 1.0}}, name="latency", unit="ms")
    bounds = [latency <= 2.0]
    optimizer = partial(torch.optim.SGD, lr=1.0)
    result = search(
        supernet,
        (x[:32], y[:32]),
        (x[32:], y[32:]),
        bounds,
        objective=make(bounds),
        epochs=6,
        batch_size=4,
        architecture_optimizer=optimizer,
        progress=False,
    )
    assert result.selection == {"first": "skip"}
