"""Searches that share one budget: Ctrl-C between two of them keeps what was found, and limits hold for all together."""

from __future__ import annotations

import numpy as np
import pytest

from cggd import (
    Additive,
    ChoiceSpace,
    Function,
    Measurement,
    Status,
    Stop,
    diagnose,
    explain,
    find_feasible,
    minimize,
    smallest_bound,
    sweep,
)
from cggd.series import Series

SPACE = ChoiceSpace({"a": ["x", "y"], "b": ["x", "y", "z"], "c": ["x", "y"]})
COST = Additive(SPACE, [1, 2, 3, 5, 8, 0, 4], name="cost")
TIME = Additive(SPACE, [5, 1, 2, 2, 0, 1, 3], name="time")


def interrupted(monkeypatch, after):
    """Ctrl-C when search number `after` (from 0) is about to begin."""
    real, runs = Series.run, []

    def run(self, problem, **options):
        if len(runs) == after:
            runs.append("interrupted")
            raise KeyboardInterrupt
        runs.append(problem)
        return real(self, problem, **options)

    monkeypatch.setattr(Series, "run", run)
    return runs


@pytest.mark.parametrize("after", [1, 2])
def test_several_answers(monkeypatch, after):
    every = minimize(COST, answers=4)
    interrupted(monkeypatch, after)
    some = minimize(COST, answers=4)
    assert some.stopped is Stop.INTERRUPTED
    wanted = [every, *every.alternatives][:after]
    assert [one.value for one in (some, *some.alternatives)] == [one.value for one in wanted]
    assert some.status is Status.OPTIMAL
    assert not some.run.exhausted


def test_before_the_first_search_there_is_nothing_to_keep(monkeypatch):
    interrupted(monkeypatch, 0)
    with pytest.raises(KeyboardInterrupt):
        minimize(COST, answers=4)


@pytest.mark.parametrize("after", [1, 2])
def test_objectives_in_order(monkeypatch, after):
    third = Additive(SPACE, np.arange(7), name="third")
    interrupted(monkeypatch, after)
    result = minimize([COST, TIME, third], slack=1.0)
    assert result.stopped is Stop.INTERRUPTED
    assert result.asked.objective == ["cost", "time"][after - 1]
    assert result.feasible
    assert result.status is Status.FEASIBLE


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_explanation(monkeypatch, after):
    result = minimize(COST, [TIME <= 6])
    whole = explain(result)
    runs = interrupted(monkeypatch, after)
    part = explain(result)
    assert len(runs) == after + 1
    assert not part.complete
    assert len(part.choices) == SPACE.n_options
    assert len(part.bounds) == 1
    known = [(a, b) for a, b in zip(part.choices, whole.choices, strict=True) if a.possible is not None]
    assert all(a == b for a, b in known)
    assert "the time was over" in str(part)


@pytest.mark.parametrize("after", [1, 2])
def test_a_sweep(monkeypatch, after):
    interrupted(monkeypatch, after)
    front = sweep(COST, [], TIME, [3, 5, 8])
    assert (len(front.points), front.stopped, front.complete) == (after, Stop.INTERRUPTED, False)


def test_a_diagnosis(monkeypatch):
    runs = interrupted(monkeypatch, 2)
    found = diagnose([TIME <= 3, COST <= 3, TIME >= 0])
    assert found.feasibility.status is Status.INFEASIBLE
    assert len(runs) == 3
    assert found.conflict
    assert not found.minimal


@pytest.mark.parametrize("most", [1, 5])
@pytest.mark.parametrize("costly", [False, True])
def test_questions_of_feasibility_keep_to_their_evaluations(most, costly):
    space, calls = ChoiceSpace.from_sizes([6] * 4), []
    slow = Function(space, lambda s: calls.append(s) or float(sum(s.values())), costly=costly, name="slow")
    other = Additive(space, np.tile(np.arange(6.0), 4)[::-1].copy(), name="other")
    for ask in (
        lambda: find_feasible([slow <= -1], max_evaluations=most),
        lambda: diagnose([slow <= -1, other >= 2], max_evaluations=most),
        lambda: diagnose([other <= 3, other >= 9, slow <= 2], max_evaluations=most),
        lambda: smallest_bound(slow, [other <= 9], max_evaluations=most),
    ):
        calls.clear()
        ask()
        assert len(calls) <= most
    with pytest.raises(ValueError, match="max_evaluations must be at least 1, got 0"):
        diagnose([slow <= 1], max_evaluations=0)


def test_explaining_that_nothing_is_feasible_keeps_to_the_evaluations_of_the_result():
    space, calls = ChoiceSpace.from_sizes([3, 3]), []

    def run(s):
        calls.append(s)
        return {"x": float(s[0]), "y": float(s[1])}

    bench = Measurement(space, run, ["x", "y"])
    result = minimize(bench["x"], [bench["y"] <= -1])
    assert result.status is Status.INFEASIBLE
    assert explain(result).diagnosis.conflict
    assert len(calls) == 9
