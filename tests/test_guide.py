"""The guide: its formula, its laws, and its purity."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cggd import Additive, ChoiceSpace, Function, Guide
from cggd.guide.directions import three_case

SPACE = ChoiceSpace({"a": ["x", "y", "z"], "b": ["x", "y"]})
COST = Additive(SPACE, [1.0, 2.0, 3.0, 1.0, 4.0], name="cost")
SIZE = Additive(SPACE, [3.0, 2.0, 1.0, 5.0, 1.0], name="size")
logits = st.lists(st.floats(-5, 5), min_size=5, max_size=5).map(np.array)


@given(logits, logits, st.sampled_from([1.01, 1.2, 10.0]))
def test_formula(gradient, position, rescale):
    guide = Guide([COST <= 3.0], rescale=rescale, epsilon=0.5)
    selection = SPACE.layout.argmax(position)
    expected = gradient.copy()
    if COST(selection) > 3.0 + 3e-9:
        direction = three_case(COST.replacements(selection), (COST <= 3.0).limit, SPACE.layout)
        expected = gradient - rescale * max(np.linalg.norm(gradient), 0.5) * direction
    assert guide.modify(gradient, position) == pytest.approx(expected)


@given(logits, logits)
def test_satisfied_constraints_leave_the_gradient_alone(gradient, position):
    guide = Guide([COST <= 100.0, SIZE >= 0.0])
    step = guide.step(gradient, position)
    assert step.feasible
    assert step.gradient.tolist() == gradient.tolist()
    assert not step.direction.any()


@given(logits)
def test_with_several_constraints_the_sum_of_unit_vectors_is_normalised(position):
    bounds = [COST <= 1.5, SIZE <= 2.5]
    step = Guide(bounds).step(np.zeros(5), position)
    selection = SPACE.layout.argmax(position)
    total = sum(
        three_case(c.metric.replacements(selection), c.limit, SPACE.layout)
        for c in bounds
        if not c.satisfied(c.metric(selection))
    )
    if np.linalg.norm(total) > 1e-9:
        assert step.direction == pytest.approx(total / np.linalg.norm(total))


@given(logits, st.floats(-3, 3))
def test_at_least_is_at_most_of_the_negative(position, bound):
    at_least = Guide([bound <= COST]).modify(np.ones(5), position)
    at_most = Guide([-bound >= -COST]).modify(np.ones(5), position)
    assert at_least == pytest.approx(at_most)


@given(logits, logits)
def test_pure(gradient, position):
    guide = Guide([COST <= 2.0, SIZE <= 3.0], weights="difference", balance="violation")
    before = gradient.copy(), position.copy()
    first, second = guide.modify(gradient, position), guide.modify(gradient, position)
    assert first.tolist() == second.tolist()
    assert (gradient.tolist(), position.tolist()) == (before[0].tolist(), before[1].tolist())


@given(logits, logits)
def test_the_step_points_into_the_feasible_region_whatever_the_gradient(gradient, position):
    step = Guide([COST <= 3.0]).step(gradient, position)
    if not step.feasible:
        assert -step.gradient @ step.direction > 0


def test_violation_balance_weighs_by_deviations_of_the_tables():
    position = np.array([0.0, 0.0, 1.0, 0.0, 1.0])  # z, y
    guide = Guide([COST <= 6.9, SIZE <= 0.0], balance="violation")
    selection = SPACE.layout.argmax(position)
    rows, shares = [], []
    for c, violation in zip(guide.constraints, (0.1, 2.0), strict=True):
        table = c.metric.replacements(selection)
        rows.append(three_case(table, c.limit, SPACE.layout))
        shares.append(violation / table.std())
    total = np.array(shares) @ np.array(rows)
    assert guide.step(np.zeros(5), position).direction == pytest.approx(total / np.linalg.norm(total))


def test_confidence_uses_the_standard_errors_of_repeats():
    rng = np.random.default_rng(0)
    noise = {"x": 0.0, "y": 3.0, "z": 3.0}
    power = Function(SPACE, lambda s: {"x": 5.0, "y": 6.0, "z": 7.0}[s["a"]] + noise[s["a"]] * rng.normal(), repeats=4)
    position = np.array([0.0, 0.0, 1.0, 1.0, 0.0])
    confident = Guide([power <= 0.0], weights="confidence").step(np.zeros(5), position).direction
    plain = Guide([power <= 0.0], weights="unit").step(np.zeros(5), position).direction
    assert not np.allclose(confident, plain)


def test_forbidden_options_are_minus_infinity_and_get_no_push():
    position = np.array([-np.inf, 0.0, 1.0, 0.0, 1.0])
    step = Guide([COST <= 3.0]).step(np.zeros(5), position)
    assert step.direction[0] == 0.0
    assert step.direction[1] > 0 > step.direction[2]


def test_many_constraints_are_handled_in_parts(monkeypatch):
    from cggd.guide import guide as module

    bounds = [COST <= 1.5, SIZE <= 2.5, COST <= 0.5]
    position = np.array([0.0, 0.0, 1.0, 0.0, 1.0])
    together = Guide(bounds).step(np.ones(5), position).gradient
    monkeypatch.setattr(module, "STACKED", 1)
    assert Guide(bounds).step(np.ones(5), position).gradient == pytest.approx(together)
