"""Sums of tables over a few decisions each."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import ChoiceSpace, Function, find_feasible, maximize, minimize
from cggd.metrics import Interactions
from cggd.testing import check_expression, check_metric, check_state


@st.composite
def interactions(draw, whole=False):
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))
    space = ChoiceSpace.from_sizes(sizes)
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    scopes = draw(
        st.lists(
            st.lists(st.sampled_from(range(len(sizes))), min_size=1, max_size=3, unique=True), min_size=1, max_size=5
        )
    )
    tables = []
    for scope in scopes:
        shape = [sizes[d] for d in scope]
        values = rng.integers(-9, 9, shape) if whole else np.round(rng.normal(size=shape), 2)
        tables.append((tuple(space.decisions[d] for d in scope), values))
    return Interactions(space, tables, float(rng.integers(3)), name="sum", unit="kB"), tables


def slow(metric, tables, row):
    """The definition, table by table."""
    labels, space = metric.space.labels(row), metric.space
    total = metric.constant
    for decisions, values in tables:
        total += values[tuple(space.option_labels(d).index(labels[d]) for d in decisions)]
    return total


@settings(max_examples=60, deadline=None)
@given(interactions())
def test_values_and_replacements_are_those_of_the_tables(made):
    metric, tables = made
    rows = metric.space.enumerate()
    expected = [slow(metric, tables, row) for row in rows]
    np.testing.assert_allclose(metric.evaluate(rows), expected, atol=1e-12)
    for row in rows[:: max(1, len(rows) // 3)]:
        np.testing.assert_allclose(metric.replacements(row), metric.evaluate(metric.space.switches(row)), atol=1e-12)
    low, high = metric.limits()
    assert low <= min(expected) + 1e-12
    assert high >= max(expected) - 1e-12


@settings(max_examples=40, deadline=None)
@given(interactions())
@pytest.mark.slow
def test_the_laws_of_metrics_states_and_expressions(made):
    metric, _ = made
    check_metric(metric)
    check_state(metric)
    check_expression(metric)


@settings(max_examples=40, deadline=None)
@given(interactions(whole=True), st.integers(0, 2**16), st.sampled_from([1.0, -1.0]))
def test_least_values_with_options_hold(made, seed, sign):
    metric, _ = made
    space, rng = metric.space, np.random.default_rng(seed)
    allowed = rng.random(space.n_options) < 0.7
    allowed[space.offsets[:-1] + rng.integers(space.sizes)] = True
    least = metric.least_with(sign, allowed)
    for row in space.enumerate():
        flat = space.layout.flat(row)
        # An option is free itself while the others are among those allowed.
        for d, option in enumerate(flat):
            if allowed[np.delete(flat, d)].all() and allowed[option]:
                assert least[option] <= sign * metric.evaluate(row[None])[0]


@settings(max_examples=25, deadline=None)
@given(interactions(whole=True), st.booleans())
def test_optima_and_infeasibility_are_proved(made, least):
    metric, tables = made
    values = [slow(metric, tables, row) for row in metric.space.enumerate()]
    best = (minimize if least else maximize)(metric, [], seed=0)
    assert best.value == (min(values) if least else max(values))
    assert find_feasible([metric <= min(values)]).status.name in ("FEASIBLE", "OPTIMAL")
    assert find_feasible([metric <= min(values) - 1]).status.name == "INFEASIBLE"


@pytest.mark.slow
def test_a_chain_too_large_to_enumerate_is_proved():
    """Widths of 24 layers: parameters are at most half of all, and no selection has more."""
    widths = [8, 16, 24, 32]
    space = ChoiceSpace({f"w{i}": widths for i in range(24)})
    product = np.multiply.outer(widths, widths).astype(float)
    rng = np.random.default_rng(0)
    kinds = rng.integers(1, 10, 23).tolist()
    cost = Interactions(space, {(f"w{i}", f"w{i + 1}"): k * product for i, k in enumerate(kinds)}, name="cost")
    gain = Interactions(space, {(f"w{i}", f"w{i + 1}"): product**0.5 for i in range(23)}, name="gain")
    result = maximize(gain, [cost <= 0.5 * cost.limits()[1]], seed=0)
    assert result.status.name == "OPTIMAL"
    least = cost(dict.fromkeys(space.decisions, 8))
    assert find_feasible([cost <= least - 1]).status.name == "INFEASIBLE"
    assert find_feasible([cost <= least]).selection == dict.fromkeys(space.decisions, 8)


def test_tables_over_parts_of_others_are_added_to_those():
    space = ChoiceSpace.from_sizes([2, 3, 2])
    a, b, c = space.decisions
    metric = Interactions(
        space, [((b, a), np.arange(6).reshape(3, 2)), ((a,), [10, 20]), ((c,), [1, 2]), ((b, a), np.ones((3, 2)))]
    )
    assert list(metric.tables) == [(0, 1), (2,)]
    assert metric.tables[0, 1].tolist() == [[11, 13, 15], [22, 24, 26]]
    assert metric.sum_table() is None
    assert Interactions(space, {(c,): [1, 2]}).sum_table().values.tolist() == [0, 0, 0, 0, 0, 1, 2]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({("a", "b"): [[1, 2]]}, r"the table of \('a', 'b'\) must have shape \(2, 2\), got \(1, 2\)"),
        ({("a", "a"): [[1, 2], [3, 4]]}, "different decisions"),
        ({(): 1.0}, "one or more"),
        ({("a",): [1.0, np.nan]}, r"must be finite, got nan"),
        ({("z",): [1, 2]}, "'z'"),
    ],
)
def test_wrong_tables_are_named(tables, message):
    with pytest.raises((ValueError, KeyError), match=message):
        Interactions(ChoiceSpace({"a": [1, 2], "b": [1, 2]}), tables)


def test_a_function_of_the_same_values_is_the_oracle_of_a_search():
    space = ChoiceSpace.from_sizes([3, 3, 3])
    rng = np.random.default_rng(1)
    pairs = list(itertools.combinations(space.decisions, 2))
    metric = Interactions(space, {pair: rng.normal(size=(3, 3)) for pair in pairs})
    function = Function(space, lambda s: metric(s))
    assert minimize(metric).value == pytest.approx(minimize(function).value)
