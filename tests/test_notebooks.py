"""What notebooks show: small tables in HTML, and frames."""

import xml.etree.ElementTree as ET

import pytest

from cggd import Additive, ChoiceSpace, diagnose, maximize, minimize, rules, sweep

SPACE = ChoiceSpace({"a<b>": ["x", "<script>y</script>"], "c": ["x", "z"]})
COST = Additive(SPACE, [1, 2, 3, 5], name="cost", unit="EUR")


def cells(thing):
    """The texts of the cells; the table must be well formed."""
    table = ET.fromstring(thing._repr_html_())
    assert table.tag == "table"
    assert "script" not in {element.tag for element in table.iter()}
    return [cell.text for cell in table.iter() if cell.tag in ("td", "th")]


def test_results_curves_and_diagnoses_are_tables():
    result = maximize(COST, [COST <= 6, rules.at_most(1, ("*", "x"))])
    assert {"maximize cost", "6 EUR", "at most 1 of *=x: kept", "a<b>", "x", "z"} <= set(cells(result))
    assert "<script>y</script>" in cells(minimize(COST, [COST >= 5], forbid={"c": ["z"]}))
    assert {"cost <=", "optimal"} <= set(cells(sweep(COST, [], COST, [4, 6], sense="maximize")))
    found = cells(diagnose([COST <= 3]))
    assert found[0] == "conflict"
    assert "cost <= 4 EUR is the tightest bound that works" in found


def test_large_selections_are_cut():
    space = ChoiceSpace.from_sizes([2] * 300)
    result = minimize(Additive(space, [0, 1] * 300))
    assert "200 more decisions" in cells(result)
    assert len(cells(result)) < 210


def test_schedules_are_tables():
    scheduling = pytest.importorskip("cggd_scheduling.schedule")
    tasks = {"dig": {"slow": scheduling.Alternative(3)}, "lay": {"all": scheduling.Alternative(2)}}
    schedule = scheduling.Schedule(
        scheduling.Requirements(tasks, [("dig", "lay")]), {"dig": 0, "lay": 3}, {"dig": "slow", "lay": "all"}
    )
    assert cells(schedule) == ["task", "mode", "start", "finish", "dig", "slow", "0", "3", "lay", "all", "3", "5"]


def test_frames():
    pytest.importorskip("pandas")
    result = maximize(COST, [COST <= 6], answers=2)
    frame = result.to_frame()
    assert list(frame.columns) == ["answer", "decision", "option"]
    assert frame["answer"].tolist() == [1, 1, 2, 2]
    assert (
        dict(zip(*result.alternatives[0].to_frame().T.values.tolist(), strict=True)) == result.alternatives[0].selection
    )
