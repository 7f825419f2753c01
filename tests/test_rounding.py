"""What satisfies a bound: whole numbers exactly, sums of floats up to their own rounding, anything else as returned."""

from fractions import Fraction
from math import fsum

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cggd import Additive, ChoiceSpace, Function, Guide, LongestPath, Peak, Predicted, Table, find_feasible, maximum
from cggd.guide import Observation
from cggd.rounding import additions, bound_text, is_whole, number_text, snapped, sum_rounding, true_texts
from cggd.testing import choice_spaces
from cggd.testing import metrics as metrics_of

UNITS = [1.0, 1e-3, 1e-9, 1e-12, 1e6]


def exact(number):
    """A number as a person writes it: 0.1 is a tenth."""
    return Fraction(repr(float(number)))


@st.composite
def sums(draw):
    """Decimals of a unit, a selection, and how its exact sum differs from a bound, in hundredths of the unit."""
    n = draw(st.integers(1, 12))
    sizes = draw(st.lists(st.integers(1, 3), min_size=n, max_size=n))
    low = draw(st.sampled_from([0, -500]))
    whole = draw(st.lists(st.integers(low, 500), min_size=sum(sizes), max_size=sum(sizes)))
    unit = draw(st.sampled_from(UNITS))
    marker = draw(st.sampled_from([None, 10**8, 10**12, -(10**10)]))
    if marker is not None:
        whole[draw(st.integers(0, len(whole) - 1))] = marker
    selection = np.array([draw(st.integers(0, size - 1)) for size in sizes])
    values = [float(f"{w}e{int(np.log10(unit)) - 2}") for w in whole]
    return ChoiceSpace.from_sizes(sizes), values, selection, draw(st.sampled_from([-1, 0, 1])), unit


def metrics(space, values):
    """The same sum as metrics of several kinds."""
    yield Additive(space, values)
    yield Peak(space, values, stages={"all": range(space.n_decisions)})
    half = np.where(np.arange(space.n_options) % 2, values, 0.0)
    yield Additive(space, half) + Additive(space, np.asarray(values) - half)
    yield maximum(Additive(space, values), Additive(space, values) - abs(max(values, key=abs)) - 1.0)
    yield 1.0 * Peak(space, half, stages={0: range(space.n_decisions)}) + Additive(space, np.asarray(values) - half)
    if min(values) >= 0:
        graph = nx.DiGraph()
        nx.add_path(graph, space.decisions)
        yield LongestPath(space, graph, values)


@given(sums(), st.sampled_from(["<=", ">="]))
def test_a_sum_satisfies_its_own_decimal_sum_and_no_hundredth_less(problem, sense):
    space, values, selection, off, unit = problem
    chosen = [exact(values[o]) for o in space.layout.flat(selection)]
    total, step = sum(chosen, Fraction(0)), exact(unit) / 100
    bound = float(total + off * step)
    assume(abs(Fraction(bound) - (total + off * step)) < step / 1000)  # a float can say so
    # Beyond this, floats do not tell a hundredth from rounding.
    assume(sum(map(abs, chosen)) * 2**-44 < step)
    expected = off >= 0 if sense == "<=" else off <= 0
    for metric in metrics(space, values):
        constraint = metric <= bound if sense == "<=" else metric >= bound
        row = constraint.report(selection)
        assert row.satisfied == expected, metric
        assert (row.slack >= 0) == expected
        at = space.layout.flat(selection)
        assert (constraint.satisfied(constraint.table(selection))[at] == expected).all(), metric


@given(sums())
def test_guides_know_the_same_bounds_as_reports(problem):
    space, values, selection, _, _ = problem
    metric = Additive(space, values)
    switches = space.switches(selection)
    totals = metric.evaluate(switches)
    above = np.unique(totals[totals < metric(selection)])
    assume(len(above))
    limit = metric <= above[-1]  # violated, and a switch satisfies it
    seen = Observation(selection, np.array([metric(selection)]), np.array([metric(selection) - limit.bound]))
    fast = Guide([limit]).direction(seen)
    satisfying = limit.satisfied(limit.values(switches))
    for d, (a, b) in enumerate(zip(space.offsets[:-1], space.offsets[1:], strict=True)):
        good, bad = fast[a:b][satisfying[a:b]], fast[a:b][~satisfying[a:b]]
        if len(good) and len(bad):
            assert good.min() > bad.max(), space.decisions[d]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400))
def test_a_float_sum_is_within_its_rounding_of_the_exact_one(numbers):
    total = float(np.sum(np.array(numbers)))
    off = abs(Fraction(total) - sum(map(exact, numbers)))
    tiny = len(numbers) * Fraction(5e-324)  # the least floats are read to no more than this
    assert off <= Fraction(sum_rounding(fsum(map(abs, numbers)), len(numbers))) + tiny


def test_the_rounding_is_a_few_units_in_the_last_place():
    assert additions(1) == 0
    assert sum_rounding(1.0, 2) <= 4 * np.finfo(float).eps
    assert sum_rounding(1.0, 10**6) <= 25 * np.finfo(float).eps


def test_a_million_tenths_are_a_hundred_thousand():
    space = ChoiceSpace.from_sizes([1] * 10**6)
    tenths = Additive(space, np.full(10**6, 0.1))
    assert (tenths <= 100_000).report(np.zeros(10**6, dtype=int)).satisfied
    assert (tenths >= 100_000).report(np.zeros(10**6, dtype=int)).satisfied
    assert not (tenths <= 99_999.9999).report(np.zeros(10**6, dtype=int)).satisfied


@pytest.mark.parametrize("big", [2**34, 2**52 - 3])
def test_whole_numbers_are_compared_exactly(big):
    space = ChoiceSpace({"a": [0, 1]})
    metrics = [
        Additive(space, [big, big + 1]),
        Peak(space, [big, big + 1]),
        Table(space, [big, big + 1]),
        Function(space, lambda s: big + s["a"]),
        Additive(space, [big, big + 1]) + Function(space, lambda s: 0),
        maximum(Additive(space, [big, big + 1]), Additive(space, [0, 0])),
        LongestPath(space, nx.DiGraph([("a", "b")]), [big, big + 1]),
    ]
    for metric in metrics:
        assert (metric <= big).satisfied((metric <= big).values(space.enumerate())).tolist() == [True, False]
        assert (metric >= big + 1).satisfied((metric >= big + 1).values(space.enumerate())).tolist() == [False, True]
        just_below = np.nextafter(big, 0)
        assert not (metric <= just_below).report([0]).satisfied


class Linear:
    def predict(self, X):
        return X @ np.array([0.5, 0.5 + 2e-16])


@pytest.mark.parametrize(
    "make",
    [
        lambda space: Function(space, lambda s: 0.5 + s["a"] * 2e-16),
        lambda space: Table(space, [0.5, 0.5 + 2e-16]),
        lambda space: Predicted(space, Linear()),
    ],
    ids=["function", "table", "predicted"],
)
def test_anything_else_is_compared_as_it_is_returned(make):
    space = ChoiceSpace({"a": [0, 1]})
    limit = make(space) <= 0.5
    assert [limit.report([i]).satisfied for i in (0, 1)] == [True, False]


def test_a_stage_that_cancels_large_numbers_hides_no_other_stage():
    space = ChoiceSpace({"a": ["x"], "b": ["x"]})
    usage = np.array([[1e12, -1e12 + 5.0], [5.00001, 0.0]])
    peak = Peak(space, None, usage)
    assert not (peak <= 5.0).report([0, 0]).satisfied
    assert not (maximum(peak, Additive(space, [1e12, -1e12])) <= 5.0).report([0, 0]).satisfied
    assert (peak >= 5.0).report([0, 0]).satisfied


def test_equalities_of_decimals_have_solutions():
    space = ChoiceSpace.from_sizes([3] * 5)
    weight = Additive(space, np.round(np.arange(15) * 0.1, 1))
    found = find_feasible([weight <= 3.7, weight >= 3.7])
    assert found.feasible


def test_a_value_is_reported_as_the_bound_it_is_within_rounding_of():
    space = ChoiceSpace({"a": ["x"], "b": ["x"]})
    row = (Additive(space, [0.1, 0.2]) <= 0.3).report([0, 0])
    assert (row.value, row.slack) == (0.3, 0.0)
    assert snapped(np.array([1.0, 2.0]), 0.0, 1.0, 1.0).tolist() == [1.0, 2.0]
    assert snapped(np.array([1.0]), 1.0, 1.0, np.inf).tolist() == [1.0]


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_different_numbers_read_differently(a, b):
    x, y = (float(text) for text in true_texts(a, b))
    assert (a < b) == (x < y)
    assert (a > b) == (x > y)


@given(st.integers(-(2**53), 2**53))
def test_whole_numbers_are_printed_in_full(n):
    assert float(number_text(n)) == n
    if abs(n) < 10**16:
        assert number_text(n) == str(n)


def test_numbers_as_text():
    assert number_text(34359738390.0) == "34359738390"
    assert number_text(-0.0) == "0"
    assert number_text(0.1 + 0.2) == "0.3"
    assert number_text(float("inf")) == "inf"
    assert is_whole(np.array([1, 2], dtype=np.int8))
    assert number_text(17179869184.5) == "17179869184.5"


@given(st.data())
def test_a_batch_changes_no_verdict(data):
    space = data.draw(choice_spaces(max_decisions=3, max_options=3))
    metric = data.draw(metrics_of(space))
    selections = space.enumerate()
    values = metric.evaluate(selections).tolist()
    assume(values == [metric.evaluate(one[None])[0] for one in selections])  # models may round differently in a batch
    value = float(data.draw(st.sampled_from(values)))
    constraint = metric <= np.nextafter(value, data.draw(st.sampled_from([-np.inf, np.inf])))
    together = constraint.values(selections)
    assert together.tolist() == [constraint.values(one[None])[0] for one in selections]


def test_a_whole_selection_is_judged_exactly_in_any_batch():
    space = ChoiceSpace.from_sizes([2, 2])
    metric = Additive(space, [0, 1, 2, 3]) + maximum(Additive(space, [0.0, 0.1, 0.0, 0.0]))
    constraint = metric <= np.nextafter(2.0, 0.0)
    assert constraint.holds(np.array([[0, 0], [1, 0]])).tolist() == [False, False]


@given(st.floats(-1e15, 1e15), st.sampled_from(["<=", ">="]))
def test_the_text_of_a_bound_is_not_tighter_than_the_bound(bound, sense):
    text = float(bound_text(bound, sense))
    assert text >= bound if sense == "<=" else text <= bound
    assert text == pytest.approx(bound, rel=1e-5)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-99999, max_value=99999))
def test_a_bound_of_few_digits_is_written_in_full(bound):
    assert float(bound_text(float(bound))) == float(bound)
