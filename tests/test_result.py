"""Results: what is written, read and printed, and what is told of a file that is none."""

import json

import pytest

from cggd import (
    Additive,
    ChoiceSpace,
    Descent,
    Result,
    diagnose,
    find_feasible,
    minimize,
    smallest_bound,
    sweep,
)
from tests.messages import LAT, case, told
from tests.test_solve import ERROR, LATENCY, descent, same


def test_json_round_trip():
    space = ChoiceSpace({("a", 1): [0, 1], "b": [None, ("x", 2.5)], 3: [True, "t"]})
    cost = Additive(space, [1, 2, 3, 4, 5, 6], name="cost", unit="EUR")
    for result in (minimize(cost, [cost >= 12], **descent(steps=20, starts=1)), minimize(cost, [cost <= 1])):
        again = Result.from_json(result.to_json())
        same(again, result)
        assert again.to_json() == result.to_json()
        assert again.summary() == result.summary()
    assert len(Result.from_json(result.to_json(history=False)).history) == 0


def test_summary_tells_what_a_user_needs():
    text = minimize(ERROR, [LATENCY <= 7], **descent()).summary()
    for part in ("feasible", "error = ", "%", "latency <= 7 ms", "left", "stem: ", "seed 0", "600 steps"[3:]):
        assert part in text


def test_what_was_evaluated_again_says_so():
    result = minimize(ERROR, [LATENCY <= 9])
    assert result.remeasured
    text = result.to_json().replace('"remeasured": true, ', "")  # as older versions wrote it
    assert Result.from_json(text).remeasured
    assert minimize(ERROR, [LATENCY <= 2]).remeasured


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


def test_reprs_are_short_and_tell_what_was_found():
    result = minimize(ERROR, [LATENCY <= 9])
    assert repr(result).startswith(f"Result(OPTIMAL, error = {result.value:.0f} %, 3 decisions, ")
    assert repr(result.constraints) == f"[Row({result.constraints[0]})]"
    assert repr(minimize(ERROR, [LATENCY <= 1])).startswith("Result(INFEASIBLE, no selection, ")
    assert repr(result.problem).startswith("Problem(minimize error, [latency <= 9 ms], ChoiceSpace(")
    found = [find_feasible([LATENCY <= 9]), smallest_bound(LATENCY), diagnose([LATENCY <= 1]), result.history]
    found += [sweep(ERROR, [], LATENCY, [5, 9])]
    assert all(len(repr(one)) < 150 for one in found)
