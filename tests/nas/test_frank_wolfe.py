"""Frank-Wolfe steps: vertices against enumeration, expected costs that keep their bounds, and a search."""

import itertools
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch
from torch import nn

from cggd import Additive, ChoiceSpace, Function
from cggd_nas import Choice, ProxylessTwoPath, collect, search
from cggd_nas.frank_wolfe import FrankWolfe, discretised, start, unguided, vertices
from cggd_nas.penalties import expected_value

SPACE = ChoiceSpace.from_sizes([3, 2, 3])
LAYOUT = SPACE.layout
SEEDS = st.integers(0, 2**32 - 1)


def problem(seed, n_costs=1):
    """A gradient, costs and room that the cheapest selection leaves."""
    rng = np.random.default_rng(seed)
    gradient, slopes = rng.normal(size=(1, 8)), rng.random((1, n_costs, 8))
    cheapest = LAYOUT.argmax(-slopes[0].sum(axis=0))
    least = slopes[0][:, LAYOUT.flat(cheapest)].sum(axis=1)
    return gradient, slopes, least[None] + rng.random((1, n_costs))


@settings(max_examples=30)
@given(SEEDS)
def test_a_vertex_is_the_best_mixture_of_two_selections(seed):
    gradient, slopes, room = problem(seed)
    found = vertices(gradient, slopes, room, LAYOUT)[0]
    np.testing.assert_allclose(LAYOUT.reduce(np.add, found), 1.0, atol=1e-7)
    assert slopes[0, 0] @ found <= room[0, 0] + 1e-6
    assert (LAYOUT.reduce(np.maximum, found) < 1 - 1e-6).sum() <= 1
    flat = LAYOUT.flat(np.array(list(itertools.product(range(3), range(2), range(3)))))
    values, costs = gradient[0][flat].sum(axis=1), slopes[0, 0][flat].sum(axis=1)
    best = np.inf
    for i, j in itertools.product(range(len(flat)), repeat=2):
        if costs[i] <= room[0, 0]:
            share = 0.0 if costs[j] <= room[0, 0] else 1 - (room[0, 0] - costs[i]) / (costs[j] - costs[i])
            best = min(best, share * values[i] + (1 - share) * values[j])
    assert gradient[0] @ found == pytest.approx(best, abs=1e-6)


@settings(max_examples=30)
@given(SEEDS, st.integers(1, 2))
def test_a_start_keeps_the_bounds_and_a_sum_stays_within_when_made_discrete(seed, n_costs):
    _, slopes, room = problem(seed, n_costs)
    point = start(LAYOUT, slopes, room)
    np.testing.assert_allclose(LAYOUT.reduce(np.add, point[0]), 1.0)
    assert (slopes[0] @ point[0] <= room[0] + 1e-6).all()
    selection = discretised(point, slopes, room, LAYOUT)
    if n_costs == 1:
        assert slopes[0, 0][LAYOUT.flat(selection[0])].sum() <= room[0, 0] + 1e-6


def test_rows_are_solved_together():
    rows = [problem(seed, 2) for seed in range(5)]
    together = vertices(*(np.concatenate(part) for part in zip(*rows, strict=True)), LAYOUT)
    for (gradient, slopes, room), found in zip(rows, together, strict=True):
        alone = vertices(gradient, slopes, room, LAYOUT)[0]
        assert gradient[0] @ found == pytest.approx(gradient[0] @ alone, abs=1e-6)


@settings(max_examples=10)
@given(SEEDS, st.floats(0.01, 1.0), st.floats(0.1, 1.0))
def test_expected_costs_keep_their_bounds_after_every_step(seed, largest, momentum):
    rng = np.random.default_rng(seed)
    cost = Additive(SPACE, rng.random(8) + 0.5, name="cost")
    bound = cost <= 1.2 * sum(part.min() for part in np.split(cost.values, SPACE.offsets[1:-1]))
    logits = [nn.Parameter(torch.zeros(int(n))) for n in SPACE.sizes]
    optimizer = FrankWolfe(logits, constraints=[bound], largest=largest, momentum=momentum)
    for _ in range(10):
        for one in logits:
            one.grad = torch.from_numpy(rng.normal(size=len(one))).float()
        optimizer.step()
        assert expected_value(cost, logits).item() <= bound.bound * (1 + 1e-4)
        assert bound.report(optimizer.selection()).satisfied


def test_what_is_no_sum_is_linearised_at_the_selection_found():
    square = Function(SPACE, lambda s: float(sum(s.values())) ** 2, name="square")
    logits = [nn.Parameter(torch.zeros(int(n))) for n in SPACE.sizes]
    optimizer = FrankWolfe(logits, constraints=[square <= 4.0])
    for _ in range(5):
        for one in logits:
            one.grad = -torch.arange(len(one)).float()
        optimizer.step()
    assert square(optimizer.selection()) <= 4.0


def test_a_search_runs_with_it_and_goes_on_from_a_checkpoint(tmp_path):
    def run(**more):
        torch.manual_seed(0)
        choice = Choice({"wide": nn.Linear(4, 4), "skip": nn.Identity()}, decision="first")
        supernet = collect(nn.Sequential(choice, nn.Linear(4, 2)))
        latency = Additive(supernet.space, [4.0, 1.0], name="latency", unit="ms")
        x = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
        data, bounds = (x, (x.sum(1) > 0).long()), [latency <= 2.0]
        how = {
            "objective": unguided,
            "architecture_optimizer": partial(FrankWolfe, constraints=bounds),
            "relaxation": lambda temperature: ProxylessTwoPath(),
        }
        result = search(supernet, data, data, bounds, epochs=4, batch_size=8, progress=False, **how, **more)
        return result, supernet.logits()

    result, logits = run()
    assert result.selection == {"first": "skip"}
    path = tmp_path / "search.pt"
    run(checkpoint=path, callback=lambda epoch: epoch.epoch == 2)
    again, restored = run(checkpoint=path, resume=True)
    assert [epoch.train_loss for epoch in again.history] == [epoch.train_loss for epoch in result.history]
    np.testing.assert_array_equal(logits, restored)


@pytest.mark.parametrize("keywords", [{"largest": 0.0}, {"momentum": 2.0}])
def test_wrong_numbers_are_told(keywords):
    cost = Additive(SPACE, np.ones(8), name="cost")
    logits = [nn.Parameter(torch.zeros(int(n))) for n in SPACE.sizes]
    with pytest.raises(ValueError, match="must be greater than 0 and at most 1"):
        FrankWolfe(logits, constraints=[cost <= 3.0], **keywords)
    with pytest.raises(ValueError, match="logits of the decisions"):
        FrankWolfe(logits[1:], constraints=[cost <= 3.0])
