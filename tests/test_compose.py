"""Sums, differences, multiples and maxima of metrics: messages on wrong input. Laws: test_metrics.py."""

import numpy as np
import pytest

from cggd import Additive, ChoiceSpace, Function, Metric, maximum
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


def test_a_metric_is_as_costly_and_noisy_as_its_components():
    class Ratio(Metric):
        def __init__(self, *components):
            self.space, self.name, self.unit, self._parts = components[0].space, "ratio", "", components

        @property
        def components(self):
            return self._parts

        def evaluate(self, selections):
            above, below = (metric.evaluate(selections) for metric in self._parts)
            return above / below

    space = ChoiceSpace.from_sizes([2, 2])
    noisy = Function(space, lambda s: 1.0 + s[0], repeats=2, name="noisy")
    costly = Function(space, lambda s: 2.0 + s[1], costly=True, name="costly")
    ratio = Ratio(noisy, costly)
    assert (ratio.noisy, ratio.costly, ratio.freedom, ratio.calls_each) == (True, True, 1.0, 2)
    assert ratio([1, 0]) == 1.0
    assert ratio.remembered().tolist() == [[1, 0]]
    assert list(ratio.memories()) == [costly]
    plain = Ratio(Additive(space, [1, 2, 3, 4]), Additive(space, [1, 2, 3, 4]))
    assert (plain.noisy, plain.costly, plain.freedom, plain.calls_each) == (False, False, np.inf, 0)
    assert plain.remembered().shape == (0, 2)
