"""Tables of every selection: messages on wrong input. Laws: test_metrics.py."""

import numpy as np
import pytest

from cggd import (
    Table,
)
from tests.messages import BIG, NAN, SMALL, case, told

WRONG = [
    case("Table too short", lambda: Table(SMALL, [1, 2, 3]), ValueError, "values", "(6,)", "got (3,)"),
    case("Table of wrong axes", lambda: Table(SMALL, np.ones((3, 2))), ValueError, "values", "(6,)", "got (3, 2)"),
    case(
        "Table with NaN", lambda: Table(SMALL, [1, 2, NAN, 4, 5, 6]), ValueError, "values", "nan", "number 2", "finite"
    ),
    case("Table of strings", lambda: Table(SMALL, list("123456")), TypeError, "values", "'1'", "numbers"),
    case("Table of too large a space", lambda: Table(BIG, [1]), ValueError, "2**3001", "at most 4000000"),
    case("Table of no space", lambda: Table(None, [1]), TypeError, "space", "None", "ChoiceSpace"),
]


@pytest.mark.parametrize(("make", "error", "fragments"), WRONG)
def test_wrong_input(make, error, fragments):
    told(make, error, fragments)
