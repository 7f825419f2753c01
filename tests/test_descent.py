"""Descents: their trajectories, when they end, and what their parameters do."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from cggd import Additive, ChoiceSpace, Descent, Function, Guide, Safeguard, Start, Stop, maximize, minimize, portfolio
from cggd.datasets import mmkp, nats_topology
from tests.test_solve import ERROR, LATENCY, SPACE


def digest(result):
    """A hash of the objective at each step (NaN where a constraint is violated) and of the start it belongs to."""
    value = np.where(np.isnan(result.history.value), np.nan, result.history.value)
    return hashlib.blake2b(value.tobytes() + result.history.start.tobytes(), digest_size=8).hexdigest()


# -- the steps of version 0.1 -----------------------------------------------------------------------------------------

# Made by commit 379a19d with maximize(..., seed=seed, starts=starts, polish=False).
BEFORE = [
    ({"latency": 4.0, "energy": 20.0}, 0, 1, "b722a9f13ab40524", 81.56),
    ({"latency": 4.0, "energy": 20.0}, 1, 1, "6b51b524ef7ce88b", 83.386),
    ({"latency": 3.0, "energy": 15.0}, 2, 1, "f3089693e2e37988", 81.514),
    ({"latency": 5.5, "energy": 30.0}, 3, 3, "ae0a36f41f338305", 84.6),
    ({"latency": 4.0, "energy": 20.0}, 5, 3, "70889cb433724be0", 83.78),
    ({"latency": 2.0}, 0, 3, "125771631b50fd52", 74.644),
    ({"latency": 2.0}, 4, 3, "3a916c73f98c1fb5", 76.248),
]


@pytest.mark.parametrize(("bounds", "seed", "starts", "expected", "value"), BEFORE)
def test_networks_are_found_by_the_steps_of_version_0_1(bounds, seed, starts, expected, value):
    nats = nats_topology()
    constraints = [getattr(nats, name) <= bound for name, bound in bounds.items()]
    result = maximize(nats.val12, constraints, seed=seed, improvers=[Descent(starts=starts)])
    assert (digest(result), result.value, len(result.history)) == (expected, value, 600 * starts)


PACKED = [("I02", "47bf579732f6efb5", 361.0), ("I05", "4651367306e58efd", 3905.7)]


@pytest.mark.parametrize(("name", "expected", "value"), PACKED)
def test_knapsacks_are_packed_by_the_steps_of_version_0_1(name, expected, value):
    knapsack = mmkp(name)
    result = maximize(knapsack.value, knapsack.constraints, seed=1, improvers=[Descent(starts=3)])
    assert (digest(result), result.value) == (expected, value)


def test_forbidden_and_initial_options_lead_to_the_steps_of_version_0_1():
    rng = np.random.default_rng(0)
    space = ChoiceSpace.from_sizes([3, 2, 4, 3])
    cost, load = (Additive(space, rng.integers(1, 20, 12)) for _ in range(2))
    bound = 0.45 * load.maximum() + 0.55 * load.minimum()
    how = {"seed": 7, "forbid": {0: [1]}, "initial": {1: 0}, "improvers": [Descent(starts=2)]}
    result = minimize(cost, [load <= bound], **how)
    assert (digest(result), result.value) == ("661bbb7a5c9451b5", 35.0)


def test_parts_of_the_starts_make_the_steps_of_all_of_them():
    nats = nats_topology()
    whole, parts = (
        maximize(nats.val12, [nats.latency <= 3.0], improvers=improvers)
        for improvers in ([Descent(50, 3)], [Descent(50, 3, last=1), Descent(50, 3, first=1)])
    )
    assert digest(whole) == digest(parts)


# -- when it ends -----------------------------------------------------------------------------------------------------


def test_steps_and_starts():
    result = minimize(ERROR, [LATENCY <= 7], improvers=[Descent(steps=11, starts=3)])
    assert len(result.history) == 33
    assert np.bincount(result.history.start).tolist() == [11, 11, 11]
    assert result.stopped is Stop.DONE


def test_time_limit_is_shared_by_the_starts():
    error = Function(SPACE, lambda s: ERROR(s))
    result = minimize(error, [LATENCY <= 7], time_limit=0.3, improvers=[Descent(steps=10**6, starts=3)])
    assert result.feasible
    assert set(result.history.start.tolist()) == {0, 1, 2}
    assert result.seconds < 5


def test_no_improvement_ends_a_start():
    result = minimize(ERROR, [LATENCY <= 7], improvers=[Descent(no_improvement=5, starts=2)])
    assert 12 <= len(result.history) < 600
    for start in (0, 1):
        best = result.history.best[result.history.start == start]
        assert (best[-5:] == best[-1]).all()


def test_starts_can_be_given():
    starts = [Start(weights="confidence", learning_rate=0.5)]
    result = minimize(ERROR, [LATENCY <= 7], improvers=[Descent(starts=starts, steps=50)])
    assert (result.feasible, len(result.history)) == (True, 50)


def test_the_default_portfolio_takes_a_descent_of_your_own():
    kinds = [type(one).__name__ for one in portfolio(Descent(steps=7, starts=2))]
    descents = [one for one in portfolio(Descent(steps=7, starts=2)) if isinstance(one, Descent)]
    assert kinds == [type(one).__name__ for one in portfolio()]
    assert [(one.steps, one.starts, one.first, one.last) for one in descents] == [(7, 2, 0, 1), (7, 2, 1, None)]


def test_a_descent_does_without_a_bound_from_elsewhere():
    knapsack = mmkp("I01")
    result = maximize(knapsack.value, knapsack.constraints, improvers=[Descent(starts=1)])
    assert len(result.history) == 600
    assert result.bound == knapsack.value.maximum()


def test_a_move_of_your_own_replaces_the_guide():
    class Still:
        """Observes and does not move."""

        def __init__(self, constraints, start, descent):
            self.safeguard = Safeguard(Guide(constraints))
            self.guide = self.safeguard.guide

        def step(self, logits, displacement, state, **how):
            return replace(self.safeguard.step(logits, displacement, state, **how), logits=logits)

    result = minimize(ERROR, [LATENCY <= 20], improvers=[Descent(steps=9, starts=1, move=Still)])
    assert len(result.history) == 9
    assert len(set(result.history.value.tolist())) == 1


# -- wrong input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weights": "x"}, "weights must be one of 'unit'"),
        ({"balance": "x"}, "balance must be one of 'equal'"),
        ({"learning_rate": 0}, "learning_rate must be greater than 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be finite"),
        ({"temperature": (0, 0)}, "temperature must be two numbers greater than 0"),
        ({"temperature": (1,)}, "temperature must be two numbers greater than 0"),
    ],
)
def test_wrong_starts(wrong, message):
    with pytest.raises(ValueError, match=message):
        Start(**wrong)
