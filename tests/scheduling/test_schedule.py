import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cggd import Status
from cggd_scheduling import Alternative, Requirements, Schedule, ScheduleError
from cggd_scheduling.schedule import exceeds, lanes_of
from tests.scheduling.projects import makespan, orders, projects, selections, serial_by_hand

TASKS = {"dig": {"slow": Alternative(3, {"crew": 1, "money": 2})}, "lay": {"all": Alternative(2, {"crew": 2})}}
NEEDS = Requirements(TASKS, [("dig", "lay")], capacities={"crew": 2}, budgets={"money": 5})
MODES = {"dig": "slow", "lay": "all"}
GOOD = Schedule(NEEDS, {"dig": 0, "lay": 3}, MODES)


def test_a_good_schedule_passes():
    assert GOOD.violations() == []
    assert GOOD.verify() is GOOD
    assert (GOOD.makespan, GOOD.value, GOOD.used("money"), GOOD.finish("dig")) == (5, 5, 2, 3)
    assert GOOD.usage("crew") == [(0, 1), (3, 2), (5, 0)]
    assert GOOD.critical_path() == ["dig", "lay"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"start": {"dig": 0, "lay": 2}},
            ["'lay' starts at 2, before 'dig' ends at 3", "'crew': 3 taken at 2, capacity 2"],
        ),
        ({"start": {"dig": 0}}, ["'lay' has no start"]),
        ({"start": {"dig": 0, "lay": 3, "rest": 4}}, ["'rest' is no task"]),
        ({"start": {"dig": -1, "lay": 3}}, ["'dig' starts at -1, not at a time of at least 0"]),
        ({"start": {"dig": float("nan"), "lay": 3}}, ["'dig' starts at nan, not at a time of at least 0"]),
        ({"start": {"dig": "0", "lay": 3}}, ["'dig' starts at '0', not at a time of at least 0"]),
        ({"modes": {"dig": "slow"}}, ["'lay' has no mode"]),
        ({"modes": {"dig": "fast", "lay": "all"}}, ["'dig' has no mode 'fast'"]),
        ({"requirements": replace(NEEDS, budgets={"money": 1})}, ["'money': 2 taken in all, budget 1"]),
        ({"requirements": replace(NEEDS, deadline=4)}, ["ends at 5, after the deadline 4"]),
        (
            {"requirements": replace(NEEDS, lags={("dig", "lay"): 1})},
            ["'lay' starts at 3, before 'dig' ends at 3 and 1 more have passed"],
        ),
        (
            {
                "start": {"dig": 2, "lay": 0},
                "lanes": {"dig": "x", "lay": "x"},
                "requirements": replace(NEEDS, precedence=[]),
            },
            [],
        ),
        (
            {"start": {"dig": 1, "lay": 0}, "lanes": {"dig": "x", "lay": "x"}, "requirements": Requirements(TASKS)},
            ["'x': 'dig' starts at 1, before 'lay' ends"],
        ),
    ],
)
def test_each_violation_is_named(change, words):
    schedule = replace(GOOD, value=None, **change)
    assert schedule.violations() == words
    if words:
        with pytest.raises(ScheduleError, match="breaks its requirements"):
            schedule.verify()


def test_the_checker_takes_the_requirements_given():
    assert GOOD.violations(replace(NEEDS, capacities={"crew": 1})) == ["'crew': 2 taken at 3, capacity 1"]


@st.composite
def shifted(draw):
    """A project with modes and starts, right or not."""
    project = draw(projects(least=1))
    modes = {a: draw(st.sampled_from(list(options))) for a, options in project.activities.items()}
    start = {a: draw(st.integers(0, 6)) for a in project.activities}
    return project, modes, start


@given(shifted())
def test_the_checker_agrees_with_counting_every_unit_of_time(drawn):
    project, modes, start = drawn
    rows = {a: project.activities[a][modes[a]] for a in start}
    right = all(start[a] + rows[a].duration <= start[b] for a, b in project.precedence)
    for r, c in project.renewable.items():
        for t in range(12):
            right &= sum(m.demands.get(r, 0) for a, m in rows.items() if start[a] <= t < start[a] + m.duration) <= c
    right &= all(sum(m.demands.get(r, 0) for m in rows.values()) <= b for r, b in project.budgets.items())
    schedule = Schedule(project.requirements(), start, modes)
    assert (schedule.violations() == []) == right
    for r in project.renewable:
        levels = dict(schedule.usage(r))
        for t in range(12):
            level = next((levels[u] for u in sorted(levels, reverse=True) if u <= t), 0)
            assert level == sum(m.demands.get(r, 0) for a, m in rows.items() if start[a] <= t < start[a] + m.duration)


@given(projects(least=1, most=4))
def test_what_the_serial_scheme_makes_passes_and_its_critical_path_is_as_long(project):
    for modes in list(selections(project))[:2]:
        start = serial_by_hand(project, next(orders(project)), modes)
        schedule = Schedule(project.requirements(), start, modes).verify()
        assert schedule.makespan == makespan(project, start, modes)
        path = schedule.critical_path()
        length = sum(schedule.duration(a) for a in path)
        assert length == schedule.makespan >= project.critical_path(modes)
        assert all(schedule.finish(a) == schedule.start[b] for a, b in pairwise(path))


@given(projects(least=1, most=4), st.booleans())
def test_json_round_trip(project, proved):
    for modes in list(selections(project))[:1]:
        start = serial_by_hand(project, next(orders(project)), modes)
        status = Status.OPTIMAL if proved else Status.FEASIBLE
        schedule = Schedule(project.requirements(deadline=99), start, modes, {}, status, bound=1, facts={"area": 2.5})
        again = Schedule.from_json(schedule.to_json())
        assert again.to_json() == schedule.to_json()
        assert again.summary() == schedule.summary()
        assert again.violations() == []


def test_labels_of_tuples_survive_json():
    needs = Requirements({("j", 1): {("m", 2): Alternative(1, {("m", 2): 1})}}, capacities={("m", 2): 1})
    again = Schedule.from_json(Schedule(needs, {("j", 1): 0}, {("j", 1): ("m", 2)}, {("j", 1): ("m", 2)}).to_json())
    assert again.start == {("j", 1): 0}
    assert again.lanes == {("j", 1): ("m", 2)}
    assert again.verify()


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"format": "cggd-result-1"}', '{"format": "cggd-schedule-1"}'])
def test_what_is_no_schedule_is_named(text):
    with pytest.raises(ValueError, match=r"not JSON|not a cggd schedule|a damaged cggd schedule"):
        Schedule.from_json(text)


def test_summary_and_table():
    text = replace(GOOD, bound=5, status=Status.OPTIMAL).summary()
    assert "makespan   5 (bound 5, gap 0.00%)" in text
    assert "money: 2 of 5" in text
    assert "crew: at most 2 of 2 at once" in text
    assert "0 to 3: dig, mode slow" in text
    assert GOOD.to_csv().splitlines()[:2] == ["task,mode,lane,start,duration,finish,crew,money", "dig,slow,,0,3,3,1,2"]
    assert "and 1 more tasks" in GOOD.summary(tasks=1)


def test_no_schedule_says_why():
    nothing = Schedule(NEEDS, {}, {}, status=Status.INFEASIBLE, reason="no crew")
    assert not nothing.feasible
    assert nothing.value is None
    assert nothing.gap is None
    assert nothing.summary().splitlines()[1:] == ["no crew"]
    assert json.loads(nothing.to_json())["status"] == "INFEASIBLE"


def test_floats_meet_limits_up_to_rounding_and_whole_numbers_exactly():
    assert not exceeds(0.1 + 0.2, 0.3)
    assert exceeds(0.3001, 0.3)
    assert exceeds(10**18 + 1, 10**18)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), min_size=1, max_size=9))
def test_rows_hold_no_overlap_and_are_as_few_as_tasks_at_once(spans):
    start, finish = ({i: f(s) for i, s in enumerate(spans)} for f in (lambda s: s[0], lambda s: s[0] + s[1]))
    rows = lanes_of(start, finish)
    for i in start:
        assert all(finish[i] <= start[j] or finish[j] <= start[i] for j in start if i != j and rows[i] == rows[j])
    assert len(set(rows.values())) == max(sum(start[i] <= t < finish[i] for i in start) for t in range(15))


def test_the_summary_has_all_digits_of_whole_numbers_and_none_that_rounding_adds():
    tasks = {"a": {1: Alternative(20_000_000)}, "b": {1: Alternative(30_000_001)}}
    text = Schedule(Requirements(tasks), {"a": 0, "b": 20_000_000}, {"a": 1, "b": 1}).summary()
    assert "makespan   50000001" in text
    assert "20000000 to 50000001: b" in text
    tasks = {"a\tb\nstatus": {1: Alternative(1, {"oil": 0.1})}, "b": {1: Alternative(1, {"oil": 0.2})}}
    needs = Requirements(tasks, capacities={"oil": 0.3}, budgets={"oil": 9.5})
    text = Schedule(needs, dict.fromkeys(tasks, 0), dict.fromkeys(tasks, 1)).verify().summary()
    assert "capacity   oil: at most 0.3 of 0.3 at once" in text
    assert "budget     oil: 0.3 of 9.5" in text
    assert "  0 to 1: a\\tb\\nstatus, mode 1" in text.split("\n")
    needs = Requirements({"a": {1: Alternative(100_000.00001)}})
    text = Schedule(needs, {"a": 0}, {"a": 1}, bound=100_000).summary()
    assert "makespan   100000.00001 (bound 100000, gap 0.00%)" in text
    text = Schedule(Requirements({"a": {1: Alternative(0.2)}}), {"a": 0.1}, {"a": 1}, facts={"x": 0.1 + 0.2}).summary()
    assert "x          0.3\n" in text
    assert "0.1 to 0.3: a" in text


def test_a_gap_to_a_bound_of_nothing_is_not_shown():
    needs = Requirements({"a": {1: Alternative(3)}}, due={"a": 1})
    schedule = Schedule(needs, {"a": 0}, {"a": 1}, objective="tardiness", value=2, bound=0)
    assert "tardiness  2 (bound 0)" in schedule.summary()
