"""Constraints: senses, reports, and bounds of every numeric kind."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cggd import Additive, ChoiceSpace, Constraint, Function, Guide, Peak, maximum, minimize
from cggd.constraints import Row, check_constraints, soft
from cggd.metrics import table_of
from tests.messages import FAR, INF, LAT, NAN, case, told

SPACE = ChoiceSpace({"a": ["x", "y"], "b": ["u", "v", "w"]})
COST = Additive(SPACE, [1, 2, 3, 4, 5], name="cost", unit="EUR")
BOUNDS = [5, 5.0, np.float64(5), np.float32(5), np.float16(5), np.int64(5), np.uint8(5), np.array(5), np.array(5.0)]
BOUNDS += [Fraction(5), Decimal(5), np.longdouble(5)]


def kind(bound):
    return f"{type(bound).__name__} {getattr(bound, 'dtype', '')}".strip()


@pytest.mark.parametrize("bound", BOUNDS, ids=kind)
@pytest.mark.parametrize(
    ("compare", "sense"),
    [
        (lambda m, b: m <= b, "<="),
        (lambda m, b: m >= b, ">="),
        (lambda m, b: b >= m, "<="),
        (lambda m, b: b <= m, ">="),
    ],
    ids=["m<=b", "m>=b", "b>=m", "b<=m"],
)
def test_numbers_of_every_kind_on_either_side(compare, sense, bound):
    constraint = compare(COST, bound)
    assert isinstance(constraint, Constraint)
    assert (constraint.sense, constraint.bound, type(constraint.bound)) == (sense, 5.0, float)
    assert constraint.metric is COST
    assert constraint.space is SPACE


numbers = st.floats(-1e12, 1e12)


@given(numbers, numbers, st.sampled_from(["<=", ">="]))
def test_numbers_are_compared_exactly(value, bound, sense):
    constraint = Constraint(COST, bound, sense)
    expected = value <= bound if sense == "<=" else value >= bound
    assert constraint.satisfied(value) == expected
    assert constraint.violation(value) == (0 if expected else abs(value - bound))
    row = constraint.row(value)
    assert row.satisfied == expected
    assert row.slack == (bound - value if sense == "<=" else value - bound)
    read_value, read_bound = float(str(row).split(": ")[1].split(",")[0]), float(str(row).split()[2])
    assert (read_value <= read_bound if sense == "<=" else read_value >= read_bound) == expected


@given(st.lists(numbers), numbers, st.sampled_from(["<=", ">="]))
def test_arrays_are_judged_elementwise(values, bound, sense):
    constraint = Constraint(COST, bound, sense)
    assert constraint.satisfied(values).tolist() == [bool(constraint.satisfied(v)) for v in values]
    assert constraint.violation(values).tolist() == [float(constraint.violation(v)) for v in values]


def test_a_float32_sum_meets_the_bound_it_was_made_for():
    values = np.array([0.1, 0.7, 0.2, 0.7, 0.3], dtype=np.float32)
    metric = Additive(SPACE, values)
    assert (metric <= metric([0, 0])).report([0, 0]).satisfied


def test_report():
    limit = COST <= 5
    assert repr(limit) == "Constraint(cost <= 5 EUR)"
    assert limit.report({"a": "y", "b": "w"}) == Row("cost", 7.0, "<=", 5.0, -2.0, "EUR", False)
    assert str(limit.report([1, 2])) == "cost <= 5 EUR: 7, violated by 2"
    assert str(limit.report([0, 0])) == "cost <= 5 EUR: 4, 1 left"
    assert str((COST >= 5).report([1, 2])) == "cost >= 5 EUR: 7, 2 left"
    assert str((COST >= 5).report([0, 0])) == "cost >= 5 EUR: 4, violated by 1"
    assert str((Function(SPACE, lambda s: 1.0) <= 1).report([0, 0])) == "function <= 1: 1, 0 left"


@pytest.mark.parametrize(("bound", "sense"), [(np.inf, "<="), (-np.inf, ">="), (np.float32("inf"), "<=")])
def test_an_infinite_bound_never_binds(bound, sense):
    constraint = Constraint(COST, bound, sense)
    assert constraint.satisfied([-1e300, 0.0, 1e300]).all()
    assert not constraint.violation([-1e300, 0.0, 1e300]).any()
    row = constraint.report([1, 2])
    assert row.satisfied
    assert row.slack == np.inf
    result = minimize(COST, constraint)
    assert result.feasible
    assert result.value == 4
    again = type(result).from_json(result.to_json())
    assert again.constraints == result.constraints
    assert "Infinity" not in result.to_json()


def test_relative_bounds():
    share, median = 0.6 * COST.maximum(), COST.quantile(0.5)
    assert (share >= COST).bound == pytest.approx(4.2)
    assert (median >= COST).bound == np.median([4, 5, 6, 5, 6, 7])
    assert (COST - 2 * COST <= -5).report([1, 2]).satisfied


def test_check_constraints_takes_one_or_several():
    one, other = COST <= 5, COST >= 2
    assert check_constraints(one) == [one]
    assert check_constraints((one, other), SPACE) == [one, other]
    assert check_constraints(c for c in (one, other)) == [one, other]
    assert check_constraints([]) == []


def test_a_bound_met_exactly_has_nothing_left_and_no_sign():
    assert str((COST >= 10).row(10.0)).endswith("10, 0 left")
    assert str((COST <= 10).row(10.0)).endswith("10, 0 left")


def test_the_confidence_limit_of_a_maximum_is_the_largest_of_its_parts_limits():
    steady = Function(SPACE, lambda s: 10.0, repeats=2, name="steady")
    turn = iter([8.9, 10.9] * 100)
    shaky = Function(SPACE, lambda s: next(turn), repeats=2, name="shaky")
    limit = (maximum(steady, shaky) <= 10.5).at_confidence(0.95)
    alone = (shaky <= 10.5).at_confidence(0.95)
    selection = np.zeros(SPACE.n_decisions, dtype=int)
    assert limit.report(selection).value == alone.report(selection).value > 15
    assert not limit.report(selection).satisfied
    assert "at 0.95 confidence" in str(limit)


def test_confidence_needs_a_metric_that_knows_its_noise():
    with pytest.raises(ValueError, match="'cost' knows no noise; make it a Function with repeats of at least 2"):
        (COST <= 3).at_confidence(0.95)
    noisy = Function(SPACE, lambda s: 1.0, repeats=2)
    for level in (0.2, 1.0):
        with pytest.raises(ValueError, match=r"confidence must be at least 0\.5 and less than 1"):
            (noisy <= 3).at_confidence(level)


def test_lower_bounds_are_met_by_lower_limits():
    turn = iter([1.0, 3.0] * 100)
    noisy = Function(SPACE, lambda s: next(turn), repeats=2)
    row = (noisy >= 1.9).at_confidence(0.9).report(np.zeros(SPACE.n_decisions, dtype=int))
    assert row.value < 0
    assert not row.satisfied


def test_local_tables_are_those_of_bounds_from_above():
    peak, selection = Peak(SPACE, [1, 5, 4, 2, 9]), np.array([1, 0])
    whole, parts = peak.replacements(selection), table_of(peak, selection, local=True)
    assert (whole != parts).any()
    assert (peak <= 3).table(selection).tolist() == (peak >= 3).table(selection, local=True).tolist() == whole.tolist()
    assert (peak <= 3).table(selection, local=True).tolist() == parts.tolist()


def test_a_costly_bound_rules_out_what_is_known_without_a_call():
    calls = []
    slow = Function(SPACE, lambda s: calls.append(s) or (9.0 if s["a"] == "x" else 1.0), name="slow", costly=True)
    rows = SPACE.enumerate()
    assert not (slow <= 5).ruled_out(rows).any()
    assert not calls
    assert [slow(rows[0]), slow(rows[-1])] == [9.0, 1.0]
    assert np.flatnonzero((slow <= 5).ruled_out(rows)).tolist() == [0]
    assert np.flatnonzero((slow >= 5).ruled_out(rows)).tolist() == [len(rows) - 1]
    assert (COST <= 5).ruled_out(rows).tolist() == (COST.evaluate(rows) > 5).tolist()
    assert len(calls) == 2


def test_a_soft_bound_costs_its_price_for_each_unit_that_is_missed():
    rows = SPACE.enumerate()
    values = COST.evaluate(rows)
    assert soft(COST <= 5, 2.0).evaluate(rows).tolist() == (2 * np.maximum(values - 5, 0)).tolist()
    assert soft(COST >= 5, 0.5).evaluate(rows).tolist() == (0.5 * np.maximum(5 - values, 0)).tolist()
    assert not soft(COST <= 5, 0).evaluate(rows).any()
    with pytest.raises(ValueError, match="price must be at least 0, got -1"):
        soft(COST <= 5, -1)


@pytest.mark.parametrize("wrong", ["cost <= 5", COST, 5])
def test_a_list_of_constraints_is_nothing_else(wrong):
    with pytest.raises(TypeError, match="constraints must be a list of constraints such as"):
        check_constraints(wrong)


def test_a_value_that_differs_in_a_batch_is_computed_alone():
    """A model that rounds in a batch alone: the value of the single selection decides."""
    shaky = Function(SPACE, lambda rows: COST.evaluate(rows) + (1e-15 if len(rows) > 1 else 0.0), batch=True)
    shaky = replace(shaky, cache=False)
    for rows in (SPACE.enumerate(), SPACE.enumerate()[:2]):
        assert (shaky <= 5).holds(rows).tolist() == (COST.evaluate(rows) <= 5).tolist()


def test_confidence_is_kept_as_a_plain_number():
    noisy = Function(SPACE, lambda labels: 1.0, name="noisy", repeats=2)
    level = (noisy <= 3).at_confidence(np.float32(0.75)).confidence
    assert type(level) is float
    assert level == 0.75


# -- wrong input -------------------------------------------------------------------------------------------------------

BOUND = "the bound on 'lat'"

WRONG = [
    *(
        case(f"bound {bound!r}", lambda bound=bound: bound >= LAT, TypeError, BOUND, str(bound), "must be a number")
        for bound in (True, np.True_, "5", b"5", None, [5.0], (5,), {}, 5j, np.complex64(1), np.array(True))
    ),
    case("bound an array", lambda: np.array([5.0]) >= LAT, TypeError, BOUND, "array([5.])", "number"),
    case(
        "bound an array on the left", lambda: np.array([5.0, 6.0]) >= LAT, TypeError, BOUND, "array([5., 6.])", "number"
    ),
    *(
        case(f"bound {bound!r}", lambda bound=bound: bound <= LAT, ValueError, BOUND, "nan", "a number")
        for bound in (NAN, np.float32(NAN), Decimal("nan"))
    ),
    case("bound beyond floats", lambda: LAT <= 10**400, ValueError, BOUND, "1e308"),
    case("bound a metric", lambda: LAT <= FAR, TypeError, BOUND, "lat - far <= 0", "number"),
    case("bound of least infinity", lambda: LAT <= -INF, ValueError, "nothing can satisfy lat <= -inf"),
    case("bound of greatest infinity", lambda: LAT >= INF, ValueError, "nothing can satisfy lat >= inf"),
    case("chained comparison", lambda: 1 <= LAT <= 5, TypeError, "lat >= 1 ms", "chained", "two constraints"),
    case("constraint as truth value", lambda: bool(LAT <= 5), TypeError, "lat <= 5 ms", "report(selection).satisfied"),
    case("strictly less", lambda: LAT < 5, TypeError, "strict", "write lat <= 5"),
    case("strictly more", lambda: LAT > 5, TypeError, "strict", "write lat >= 5"),
    case("strict on the left", lambda: np.float64(5) > LAT, TypeError, "strict", "lat <= ", "5.0"),
    case("constraint of no metric", lambda: Constraint(5, 3, "<="), TypeError, "metric", "got 5", "Metric"),
    case("constraint of unknown sense", lambda: Constraint(LAT, 5, "<"), ValueError, "sense", "'<'", '"<=" or ">="'),
    case("constraints None", lambda: minimize(LAT, None), TypeError, "constraints", "None", "[metric <= 5]"),
    case(
        "constraints a string", lambda: minimize(LAT, "lat<=5"), TypeError, "constraints", "'lat<=5'", "[metric <= 5]"
    ),
    case("constraints a metric", lambda: minimize(LAT, LAT), TypeError, "constraints", "Additive(lat", "[metric <= 5]"),
    case(
        "constraints of strings", lambda: minimize(LAT, ["lat<=5"]), TypeError, "constraints", "'lat<=5'", "metric <= 5"
    ),
    case(
        "equality", lambda: minimize(LAT, [LAT == 5]), TypeError, "constraints", "False", "metric <= 5 and metric >= 5"
    ),
    case(
        "constraint of another space",
        lambda: minimize(LAT, [FAR <= 1]),
        ValueError,
        "far <= 1",
        "2 decisions",
        "3 decisions",
        "one space",
    ),
    case(
        "constraints of two spaces",
        lambda: Guide([LAT <= 1, FAR <= 1]),
        ValueError,
        "far <= 1",
        "2 decisions",
        "3 decisions",
    ),
    case(
        "report of a wrong selection",
        lambda: (LAT <= 5).report([0, 9]),
        ValueError,
        "takes option 9",
        "'pool'",
        "0 to 2",
    ),
]


@pytest.mark.parametrize(("make", "error", "fragments"), WRONG)
def test_wrong_input(make, error, fragments):
    told(make, error, fragments)
