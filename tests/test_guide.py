"""The guide: its formula, its laws, and its purity."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cggd import Additive, ChoiceSpace, Function, Guide
from cggd.guide.directions import three_case
from tests.messages import INF, LAT, LOGITS, NAN, case, told

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


@given(logits, st.sampled_from(["equal", "violation"]))
def test_satisfied_constraints_do_not_change_the_direction(position, balance):
    alone = Guide([COST <= 1.5], balance=balance).step(np.zeros(5), position)
    # Each option of `a` in turn would raise the size, but not above 9; the second constraint is satisfied.
    both = Guide([COST <= 1.5, SIZE <= 9.0], balance=balance).step(np.zeros(5), position)
    assert both.direction == pytest.approx(alone.direction)
    assert np.linalg.norm(alone.direction) == pytest.approx(1.0)


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


# -- wrong input -------------------------------------------------------------------------------------------------------

GUIDED = Guide([LAT <= 4])

WRONG = [
    case("guide without constraints", lambda: Guide([]), ValueError, "constraints is empty", "at least one"),
    case("guide rescale 1", lambda: Guide([LAT <= 5], rescale=1), ValueError, "rescale", "1.0", "greater than 1"),
    case("guide rescale NaN", lambda: Guide([LAT <= 5], rescale=NAN), ValueError, "rescale", "nan", "finite"),
    case("guide rescale string", lambda: Guide([LAT <= 5], rescale="2"), TypeError, "rescale", "'2'", "number"),
    case("guide epsilon 0", lambda: Guide([LAT <= 5], epsilon=0), ValueError, "epsilon", "0.0", "greater than 0"),
    case("guide epsilon negative", lambda: Guide([LAT <= 5], epsilon=-1e-3), ValueError, "epsilon", "-0.001"),
    case("guide epsilon infinite", lambda: Guide([LAT <= 5], epsilon=INF), ValueError, "epsilon", "inf", "finite"),
    case(
        "guide unknown weights",
        lambda: Guide([LAT <= 5], weights="equal"),
        ValueError,
        "weights",
        "'equal'",
        "'unit', 'difference'",
    ),
    case(
        "guide unknown balance",
        lambda: Guide([LAT <= 5], balance="unit"),
        ValueError,
        "balance",
        "'unit'",
        "'equal', 'violation'",
    ),
    case(
        "gradient of wrong shape",
        lambda: GUIDED.modify(np.zeros(4), LOGITS),
        ValueError,
        "gradient",
        "(5,)",
        "got (4,)",
    ),
    case(
        "gradient of two axes",
        lambda: GUIDED.modify(np.zeros((5, 1)), LOGITS),
        ValueError,
        "gradient",
        "(5,)",
        "got (5, 1)",
    ),
    case(
        "gradient with NaN", lambda: GUIDED.modify([0, NAN, 0, 0, 0], LOGITS), ValueError, "gradient", "nan", "'conv5'"
    ),
    case("logits of wrong shape", lambda: GUIDED.modify(LOGITS, np.zeros(2)), ValueError, "logits", "(5,)", "got (2,)"),
    case("logits with NaN", lambda: GUIDED.modify(LOGITS, [NAN, 0, 0, 0, 0]), ValueError, "logits", "nan", "'conv3'"),
]


@pytest.mark.parametrize(("make", "error", "fragments"), WRONG)
def test_wrong_input(make, error, fragments):
    told(make, error, fragments)


def test_wrong_logits_and_gradients():
    space = ChoiceSpace.from_sizes([2, 2])
    guide = Guide([Additive(space, [1, 2, 3, 4]) <= 4])
    with pytest.raises(TypeError, match="gradient must hold numbers"):
        guide.modify(["a", "b", "c", "d"], np.zeros(4))
    with pytest.raises(ValueError, match="gradient must be finite, got inf for option 1 of decision 0"):
        guide.modify([0, np.inf, 0, 0], np.zeros(4))
    with pytest.raises(ValueError, match="logits of a decision are all -inf"):
        guide.modify(np.zeros(4), [-np.inf, -np.inf, 0, 0])
    with pytest.raises(ValueError, match="rescale must be greater than 1, got 0"):
        guide.step(np.zeros(4), np.zeros(4), rescale=0)


def test_of_two_violated_constraints_the_larger_violation_weighs_more():
    space = ChoiceSpace.from_sizes([2, 2])
    first = Additive(space, [1.0, 0.0, 0.0, 0.0], name="first")
    second = Additive(space, [0.0, 0.0, 1.0, 0.0], name="second")
    near, far = first <= 0.75, second <= 0.25
    for order in ([near, far], [far, near]):
        equal, weighed = (
            Guide(order, balance=balance).step(np.zeros(4), [1.0, 0.0, 1.0, 0.0]).direction
            for balance in ("equal", "violation")
        )
        assert abs(equal[0]) == pytest.approx(abs(equal[2]))
        assert abs(weighed[2]) == pytest.approx(3 * abs(weighed[0]))
