"""Peaks: messages on wrong input. Laws: test_metrics.py."""

import numpy as np
import pytest
from scipy import sparse

from cggd import (
    Peak,
)
from tests.messages import NAN, SMALL, case, told

WRONG = [
    case("Peak without stages", lambda: Peak(SMALL, [1] * 5, {}), ValueError, "stages is empty", "at least one"),
    case(
        "Peak with unknown decision",
        lambda: Peak(SMALL, [1] * 5, {"s": ["head"]}),
        ValueError,
        "unknown decision 'head'",
        "'stem'",
    ),
    case(
        "Peak stage as string",
        lambda: Peak(SMALL, [1] * 5, {"s": "stem"}),
        TypeError,
        "stage 's'",
        "'stem'",
        "list of decisions",
    ),
    case(
        "Peak stage as number",
        lambda: Peak(SMALL, [1] * 5, {"s": 3}),
        TypeError,
        "stage 's'",
        "got 3",
        "list of decisions",
    ),
    case(
        "Peak stage with a decision twice",
        lambda: Peak(SMALL, [1] * 5, {"s": ["stem"] * 2}),
        ValueError,
        "stage 's'",
        "'stem'",
        "more than once",
    ),
    case(
        "Peak values and matrix",
        lambda: Peak(SMALL, [1] * 5, np.ones((2, 5))),
        ValueError,
        "stages must map",
        "values must be None",
    ),
    case(
        "Peak matrix of wrong shape",
        lambda: Peak(SMALL, None, np.ones((2, 4))),
        ValueError,
        "stages",
        "(n_stages, 5)",
        "got (2, 4)",
    ),
    case(
        "Peak matrix of one axis",
        lambda: Peak(SMALL, None, np.ones(5)),
        ValueError,
        "stages",
        "(n_stages, 5)",
        "got (5,)",
    ),
    case("Peak matrix without rows", lambda: Peak(SMALL, None, np.ones((0, 5))), ValueError, "stages", "got (0, 5)"),
    case(
        "Peak sparse matrix of wrong shape",
        lambda: Peak(SMALL, None, sparse.eye_array(3)),
        ValueError,
        "stages",
        "got (3, 3)",
    ),
    case(
        "Peak matrix ragged",
        lambda: Peak(SMALL, None, [[1] * 5, [1]]),
        ValueError,
        "stages is ragged",
        "a number per option",
    ),
    case("Peak matrix of strings", lambda: Peak(SMALL, None, [list("12345")]), TypeError, "stages", "'1'", "numbers"),
    case(
        "Peak matrix with NaN",
        lambda: Peak(SMALL, None, [[1, NAN, 1, 1, 1]]),
        ValueError,
        "stages",
        "nan in stage 0",
        "'conv5'",
        "finite",
    ),
    case("Peak without values", lambda: Peak(SMALL, None), TypeError, "values", "None"),
]


@pytest.mark.parametrize(("make", "error", "fragments"), WRONG)
def test_wrong_input(make, error, fragments):
    told(make, error, fragments)
