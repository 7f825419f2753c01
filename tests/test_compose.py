"""Sums, differences, multiples and maxima of metrics: messages on wrong input. Laws: test_metrics.py."""

import numpy as np
import pytest

from cggd import (
    maximum,
)
from tests.messages import FAR, INF, LAT, NAN, case, told

WRONG = [
    case("maximum of nothing", lambda: maximum(), ValueError, "maximum", "at least one metric"),
    case("maximum of a number", lambda: maximum(LAT, 3), TypeError, "maximum", "got 3", "Metric"),
    case("maximum of a list", lambda: maximum([LAT, LAT]), TypeError, "maximum", "Additive", "Metric"),
    case("sum with a string", lambda: LAT + "x", TypeError, "added to 'lat'", "'x'", "number"),
    case("sum with NaN", lambda: LAT + NAN, ValueError, "added to 'lat'", "nan", "finite"),
    case("difference with a string", lambda: LAT - "x", TypeError, "added to 'lat'", "'x'", "number"),
    case("difference with a bool", lambda: LAT - True, TypeError, "added to 'lat'", "True", "number"),
    case("sum with an array", lambda: LAT + np.ones(3), TypeError, "added to 'lat'", "array", "number"),
    case("product of metrics", lambda: LAT * LAT, TypeError, "factor", "Additive(lat", "number"),
    case("product with infinity", lambda: LAT * INF, ValueError, "factor", "inf", "finite"),
    case("division by zero", lambda: LAT / 0, ValueError, "divisor of 'lat'", "got 0", "not be 0"),
    case("division by a string", lambda: LAT / "2", TypeError, "divisor", "'2'", "number"),
    case(
        "sum over two spaces",
        lambda: LAT + FAR,
        ValueError,
        "'lat' and 'far'",
        "2 decisions",
        "3 decisions",
        "one space",
    ),
    case(
        "maximum over two spaces",
        lambda: maximum(LAT, FAR),
        ValueError,
        "'lat' and 'far'",
        "2 decisions",
        "3 decisions",
    ),
]


@pytest.mark.parametrize(("make", "error", "fragments"), WRONG)
def test_wrong_input(make, error, fragments):
    told(make, error, fragments)
