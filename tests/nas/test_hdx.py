"""HDX's change of the gradient: the least one, by its conditions, and the searches that it drives."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import minimize

pytest.importorskip("torch")

import torch
from torch import nn

from cggd import Additive
from cggd_nas import Choice, collect, search
from cggd_nas.hdx import HDX_PULL, hdx, least_change
from cggd_nas.penalties import expected_value


@given(st.integers(0, 2**32 - 1), st.integers(1, 2))
def test_the_change_is_the_least_that_meets_every_pull(seed, n_costs):
    rng = np.random.default_rng(seed)
    gradient, costs, pulls = rng.normal(size=6), rng.normal(size=(n_costs, 6)), rng.random(n_costs)
    unit = costs / np.linalg.norm(costs, axis=1, keepdims=True)
    assume(n_costs == 1 or abs(unit[0] @ unit[1]) < 0.8)  # nearly parallel costs take more sweeps
    change = least_change(gradient, costs, pulls)
    by_solver = minimize(
        lambda m: m @ m,
        np.zeros(6),
        jac=lambda m: 2 * m,
        constraints=[{"type": "ineq", "fun": lambda m: costs @ (gradient + m) - pulls, "jac": lambda m: costs}],
    ).x
    np.testing.assert_allclose(change, by_solver, atol=1e-3)
    if n_costs == 1:
        by_hand = max(0.0, pulls[0] - gradient @ costs[0]) / (costs[0] @ costs[0]) * costs[0]
        np.testing.assert_allclose(change, by_hand)


def test_costs_that_ask_for_nothing_change_nothing():
    gradient, costs = np.array([-1.0, 2.0]), np.array([[1.0, 0.0], [0.0, 0.0]])
    assert least_change(gradient, costs, [-np.inf, 5.0]).tolist() == [0.0, 0.0]
    many = least_change(np.stack([gradient] * 2), np.stack([costs] * 2), [[-np.inf, 0.0], [1.0, 0.0]])
    assert many.tolist() == [[0.0, 0.0], [2.0, 0.0]]


def make():
    torch.manual_seed(0)
    supernet = collect(nn.Sequential(Choice({"wide": nn.Linear(4, 4), "skip": nn.Identity()}), nn.Linear(4, 2)))
    return supernet, Additive(supernet.space, [4.0, 1.0], name="latency", unit="ms")


def test_the_pull_grows_while_the_bound_is_exceeded_and_is_put_back():
    supernet, latency = make()
    objective, (logits,) = hdx([latency <= 2.0], growth=1.0), supernet.parameters

    def pulled() -> float:
        """The gradient along that of the cost, where the task has none."""
        logits.grad = None
        objective(0.0 * logits.sum(), supernet).backward()
        (cost,) = torch.autograd.grad(expected_value(latency, [logits]) / 2.0, [logits])
        return float(logits.grad @ cost)

    for step in range(4):
        assert pulled() == pytest.approx(HDX_PULL * 2**step, rel=1e-4)
    supernet.set_logits([0.0, 9.0])
    assert pulled() == 0.0
    supernet.set_logits([9.0, 0.0])
    assert pulled() == pytest.approx(HDX_PULL, rel=1e-3)


def test_a_gradient_that_falls_fast_enough_is_left_alone():
    supernet, latency = make()
    (logits,) = supernet.parameters
    objective = hdx([latency <= 2.0])
    objective(logits[0] - logits[1], supernet).backward()
    assert logits.grad.tolist() == [1.0, -1.0]


@pytest.mark.parametrize(("keywords", "said"), [({"growth": -1.0}, "growth"), ({"pull": 0.0}, "pull")])
def test_wrong_numbers_are_told(keywords, said):
    _, latency = make()
    with pytest.raises(ValueError, match=said):
        hdx([latency <= 2.0], **keywords)


def test_a_search_runs_with_it():
    supernet, latency = make()
    x = torch.randn(32, 4)
    data = (x, (x.sum(1) > 0).long())
    bounds = [latency <= 2.0]
    objective = hdx(bounds, growth=1.0)
    result = search(supernet, data, data, bounds, epochs=4, batch_size=8, objective=objective, progress=False)
    assert result.selection == {"0": "skip"}
    assert result.history[-1].feasible == 1.0
