"""Results: what is told of a file that is not one. What results hold is tested with searches (test_solve.py)."""

import json

import pytest

from cggd import (
    Additive,
    ChoiceSpace,
    Descent,
    Result,
    minimize,
)
from tests.messages import LAT, case, told


def edited(**changes):
    """A result as JSON with some entries changed, or taken out where the change is ``...``."""
    data = json.loads(minimize(LAT, [LAT <= 7], improvers=[Descent(steps=3, starts=1)]).to_json()) | changes
    return json.dumps({name: entry for name, entry in data.items() if entry is not ...})


WRONG = [
    case("result of no text", lambda: Result.from_json(5), TypeError, "text", "got 5", "to_json"),
    case("result of no JSON", lambda: Result.from_json("status: fine"), ValueError, "not JSON", "line 1"),
    case("result of undecodable bytes", lambda: Result.from_json(b"\xff\xfe\xfd"), ValueError, "not JSON"),
    case(
        "result of a list",
        lambda: Result.from_json("[1]"),
        ValueError,
        "not a cggd result",
        '"format": "cggd-result-2"',
    ),
    case("result of another format", lambda: Result.from_json('{"format": "x"}'), ValueError, "not a cggd result"),
    case("result without value", lambda: Result.from_json(edited(value=...)), ValueError, "damaged", "'value'"),
    case("result of unknown status", lambda: Result.from_json(edited(status="FINE")), ValueError, "damaged", "'FINE'"),
    case(
        "result with wrong rows",
        lambda: Result.from_json(edited(constraints=[{"name": "lat"}])),
        ValueError,
        "damaged",
        "'value'",
    ),
    case(
        "result with wrong selection",
        lambda: Result.from_json(edited(selection=[[{}, 1]])),
        ValueError,
        "damaged",
        "dict",
    ),
    case("result with wrong indices", lambda: Result.from_json(edited(indices=["a"])), ValueError, "damaged", "'a'"),
    case(
        "result with odd history",
        lambda: Result.from_json(edited(history={"start": [0]})),
        ValueError,
        "damaged",
        "'violation'",
    ),
    case(
        "result with uneven history",
        lambda: Result.from_json(
            edited(history={"start": [0], "value": [], "violation": [[0]], "best": [1], "seconds": [1]})
        ),
        ValueError,
        "damaged",
        "1 steps",
        "{'value': 0}",
    ),
    case(
        "labels that JSON does not have",
        lambda: minimize(Additive(ChoiceSpace({"a": [frozenset([1])]}), [1])).to_json(),
        TypeError,
        "labels in JSON",
        "frozenset({1})",
        "strings, numbers",
    ),
]


@pytest.mark.parametrize(("make", "error", "fragments"), WRONG)
def test_wrong_input(make, error, fragments):
    told(make, error, fragments)
