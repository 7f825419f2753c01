"""Sums of one number per option: messages on wrong input. Laws: test_metrics.py."""

import pytest

from cggd import (
    Additive,
)
from tests.messages import FRAME, INF, NAN, SMALL, TABLED, case, told

WRONG = [
    case(
        "Additive with NaN",
        lambda: Additive(SMALL, [1, 2, NAN, 4, 5]),
        ValueError,
        "values",
        "nan",
        "'max' of decision 'pool'",
        "finite",
    ),
    case("Additive with infinity", lambda: Additive(SMALL, [1, 2, 3, 4, INF]), ValueError, "values", "inf", "'none'"),
    case("Additive too short", lambda: Additive(SMALL, [1, 2]), ValueError, "values", "(5,)", "got (2,)"),
    case(
        "Additive ragged",
        lambda: Additive(SMALL, [[1, 2], [3, 4, 5]]),
        ValueError,
        "values is ragged",
        "flat list",
        "mapping",
    ),
    case("Additive of strings", lambda: Additive(SMALL, list("12345")), TypeError, "values", "'1', '2'", "numbers"),
    case("Additive of bools", lambda: Additive(SMALL, [True] * 5), TypeError, "values", "bool", "numbers"),
    case("Additive of complex numbers", lambda: Additive(SMALL, [1j] * 5), TypeError, "values", "1j", "numbers"),
    case("Additive of None", lambda: Additive(SMALL, None), TypeError, "values", "None", "numbers"),
    case("Additive with a gap", lambda: Additive(SMALL, [1, 2, 3, 4, None]), TypeError, "values", "numbers", "object"),
    case("Additive of no space", lambda: Additive([2, 3], [1] * 5), TypeError, "space", "got [2, 3]", "ChoiceSpace"),
    case(
        "Additive mapping without decision",
        lambda: Additive(SMALL, {"stem": [1, 2]}),
        ValueError,
        "values",
        "no entry",
        "'pool'",
    ),
    case(
        "Additive mapping with unknown decision",
        lambda: Additive(SMALL, {"stem": [1, 2], "pol": [1, 2, 3]}),
        ValueError,
        "values",
        "unknown decisions: 'pol'",
        "'stem', 'pool'",
    ),
    case(
        "Additive mapping without option",
        lambda: Additive(SMALL, {"stem": {"conv3": 1}, "pool": [1, 2, 3]}),
        ValueError,
        "values of decision 'stem'",
        "lacks options: 'conv5'",
    ),
    case(
        "Additive mapping with unknown option",
        lambda: Additive(SMALL, {"stem": {"conv3": 1, "conv5": 2, "conv7": 3}, "pool": [1, 2, 3]}),
        ValueError,
        "values of decision 'stem'",
        "unknown options: 'conv7'",
    ),
    case(
        "Additive mapping of wrong length",
        lambda: Additive(SMALL, {"stem": [1], "pool": [1, 2, 3]}),
        ValueError,
        "values of decision 'stem'",
        "2 numbers",
        "(1,)",
    ),
    case(
        "Additive mapping of strings",
        lambda: Additive(SMALL, {"stem": {"conv3": "1", "conv5": "2"}, "pool": [1, 2, 3]}),
        TypeError,
        "values of decision 'stem'",
        "'1'",
    ),
    case("Additive constant", lambda: Additive(SMALL, [1] * 5, "lat"), TypeError, "constant", "'lat'", "number"),
    case("Additive constant NaN", lambda: Additive(SMALL, [1] * 5, NAN), ValueError, "constant", "nan", "finite"),
    case("column missing", lambda: Additive.from_table(TABLED, FRAME, "mW"), ValueError, "no column 'mW'", "'ms'"),
    case(
        "column of strings",
        lambda: Additive.from_table(TABLED, FRAME | {"ms": ["1", "2", "q"]}, "ms"),
        TypeError,
        "column 'ms'",
        "'1'",
        "numbers",
    ),
    case(
        "column with NaN",
        lambda: Additive.from_table(TABLED, FRAME | {"ms": [1, NAN, 3]}, "ms"),
        ValueError,
        "column 'ms'",
        "nan",
        "'y'",
    ),
    case(
        "row twice",
        lambda: Additive.from_table(TABLED, {k: [*v, v[0]] for k, v in FRAME.items()}, "ms"),
        ValueError,
        "column 'ms'",
        "more than one row",
        "option 'x' of decision 'a'",
    ),
    case(
        "row missing",
        lambda: Additive.from_table(TABLED, {k: v[1:] for k, v in FRAME.items()}, "ms"),
        ValueError,
        "column 'ms'",
        "no row",
        "option 'x' of decision 'a'",
    ),
    case(
        "row of unknown option",
        lambda: Additive.from_table(TABLED, FRAME | {"option": list("xyw")}, "ms"),
        ValueError,
        "'b'",
        "no option 'w'",
        "'z'",
    ),
]


@pytest.mark.parametrize(("make", "error", "fragments"), WRONG)
def test_wrong_input(make, error, fragments):
    told(make, error, fragments)
