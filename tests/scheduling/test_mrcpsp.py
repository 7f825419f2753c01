import csv

import pytest
from hypothesis import given, settings

from benchmarks.scheduling import generated
from cggd import Status
from cggd_scheduling import Project, schedule_project
from cggd_scheduling.bounds import relaxation, rounded_up
from cggd_scheduling.decoding import Instance
from cggd_scheduling.genetic import Search, Stop
from cggd_scheduling.multimode import _member
from tests.scheduling.projects import projects, selections, shortest
from tests.scheduling.test_modes import FOLDER, instances, needs_data, project_of

CREW = {"dig": [(4, {"crew": 1}), (2, {"crew": 2})], "pipe": [(3, {"crew": 1})], "lay": [(2, {"crew": 2})]}


@settings(max_examples=60, deadline=None)
@given(projects(most=4, oversized=True))
def test_small_projects_agree_with_trying_everything(project):
    found = schedule_project(project, schedules=600)
    best = shortest(project)
    if best is None:
        assert found.status is Status.INFEASIBLE
        assert found.reason
        assert not found.start
    else:
        assert found.makespan == best
        assert found.bound <= best
        assert found.violations(project.requirements()) == []
        assert (found.status is Status.OPTIMAL) == (found.bound == best)


def test_cp_sat_beside_the_genetic_algorithm_ends_it_with_a_proof():
    pytest.importorskip("ortools")
    project = generated.project(12, 3, 0.2, seed=3)
    found = schedule_project(project, schedules=10**9, time_limit=60, workers=2)
    assert found.verify().status is Status.OPTIMAL
    assert found.seconds < 60


def test_a_schedule_from_elsewhere_joins_the_population():
    project = generated.project(12, 3, 0.2, seed=3)
    instance = Instance.of(project)
    known = _member(instance, schedule_project(project, schedules=300))
    witness = list(known.modes)
    search = Search(instance, witness, stop=Stop(600), seed=0)
    search.guests.append(known)
    for _ in search.run():
        pass
    assert search.guests == []
    assert search.best is not None
    assert search.best.makespan <= known.makespan


@settings(max_examples=40, deadline=None)
@given(projects(most=5, least=1))
def test_modes_are_led_back_to_the_budgets(project):
    instance = Instance.of(project)
    feasible = next(selections(project), None)
    if feasible is None:
        return
    witness = [
        next(m for m, o in enumerate(options) if o.label == feasible[a])
        for a, options in zip(instance.names, instance.options, strict=True)
    ]
    search = Search(instance, witness, stop=Stop(10), seed=0)
    for last in range(3):
        modes = [min(last, len(options) - 1) for options in instance.options]
        before = list(modes)
        search.led_back(modes)
        assert instance.affordable(modes)
        assert modes == before or not instance.affordable(before)


def test_the_same_seed_gives_the_same_schedule_and_more_schedules_none_worse():
    project = Project(
        {a: [(3 + a % 4, {"r": 1 + a % 3, "n": 1}), (2 + a % 3, {"r": 2 + a % 3, "n": 2 + a % 2})] for a in range(14)},
        [(a, a + 5) for a in range(0, 9, 2)],
        {"r": 6},
        {"n": 24},
    )
    one, two = (schedule_project(project, schedules=200, seed=3) for _ in range(2))
    assert (one.start, one.modes) == (two.start, two.modes)
    assert schedule_project(project, schedules=600, seed=3).makespan <= one.makespan
    assert "200 schedules made" in one.reason or one.status is Status.OPTIMAL


def test_a_deadline_is_kept_or_said_to_be_out_of_reach():
    project = Project(CREW, [("dig", "lay")], {"crew": 2})
    assert schedule_project(project, deadline=6).makespan == 6
    late = schedule_project(project, deadline=5)
    assert late.status is Status.INFEASIBLE
    assert late.reason == "the shortest schedule takes 6; the deadline is 5"


@pytest.mark.parametrize(
    ("project", "makespan"),
    [
        (Project({}), 0),
        (Project({}, (), {"r": 1}, {"n": 0}), 0),
        (Project({"a": [0]}), 0),
        (Project({"a": [7]}), 7),
        (Project({"a": [(0, {"r": 9})]}, (), {"r": 1}), 0),  # takes nothing in no time
        (Project({"a": [(3, {"r": 0})]}, (), {"r": 0}), 3),
        (Project({"a": [3], "b": [4]}, (), {"never used": 1}, {"nor this": 0}), 4),
        (Project({"a": [0], "b": [(2, {"r": 1})], "c": [0], "d": [(2, {"r": 1})]}, [("b", "c")], {"r": 1}), 4),
        (Project({"a": [(10**8, {"r": 1})], "b": [(10**8 + 1, {"r": 1})]}, (), {"r": 1}), 2 * 10**8 + 1),
        (Project({"a": [(10**30, {"r": 1})], "b": [(2 * 10**30, {"r": 1})]}, (), {"r": 1}), 3 * 10**30),
        (Project({"a": [(2, {"r": 10**30})], "b": [(2, {"r": 10**30})]}, (), {"r": 10**30}), 4),
    ],
)
def test_edges(project, makespan):
    found = schedule_project(project, schedules=50)
    assert found.makespan == makespan
    assert found.status is Status.OPTIMAL
    assert found.summary()


def test_a_demand_above_a_capacity_is_named():
    found = schedule_project(Project({"a": [1], "b": [(2, {"crew": 5}), (1, {"crew": 4})]}, (), {"crew": 3}))
    assert found.status is Status.INFEASIBLE
    assert found.reason == (
        "activity 'b' cannot run: mode 1 takes 5 of 'crew', capacity 3; mode 2 takes 4 of 'crew', capacity 3"
    )


def test_budgets_in_each_others_way_are_named():
    rows = {"a": [(1, {"x": 3, "y": 0}), (1, {"x": 0, "y": 3})], "b": [(1, {"x": 1, "y": 1})]}
    found = schedule_project(Project(rows, (), {}, {"x": 2, "y": 2}))
    assert found.status is Status.INFEASIBLE
    assert "x <= 4 is the tightest bound that works" in found.reason
    assert "y <= 4 is the tightest bound that works" in found.reason


def test_a_mode_above_a_capacity_does_not_count_toward_the_budgets():
    rows = {"a": [(1, {"r": 2, "n": 0}), (1, {"r": 1, "n": 5})]}
    found = schedule_project(Project(rows, (), {"r": 1}, {"n": 4}))
    assert found.status is Status.INFEASIBLE
    assert "n <= 5 is the tightest bound that works" in found.reason


def test_an_interrupt_keeps_the_best_schedule(monkeypatch):
    decoded, calls = Search.decoded, []

    def interrupted(self, keys, modes):
        calls.append(1)
        if len(calls) > 20:
            raise KeyboardInterrupt
        return decoded(self, keys, modes)

    monkeypatch.setattr(Search, "decoded", interrupted)
    rows = {a: [(3, {"r": 2}), (5, {"r": 1})] for a in range(9)}
    found = schedule_project(Project(rows, [(0, 1), (2, 3)], {"r": 3}))
    assert found.feasible
    assert found.violations() == []
    assert len(calls) == 21 or found.status is Status.OPTIMAL


def test_a_time_limit_ends_the_search():
    rows = {a: [(3 + a % 5, {"r": 2 + a % 3}), (5 + a % 3, {"r": 1})] for a in range(60)}
    found = schedule_project(Project(rows, [(a, a + 7) for a in range(50)], {"r": 7}), schedules=10**9, time_limit=1.0)
    assert found.feasible
    assert found.status is Status.OPTIMAL or found.reason.startswith("time limit")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"schedules": 0}, "schedules must be"),
        ({"seed": -1}, "seed must be"),
        ({"time_limit": 0}, "time_limit must be more than 0 seconds, got 0"),
        ({"deadline": float("nan")}, "deadline"),
    ],
)
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        schedule_project(Project({"a": [1]}), **arguments)


def test_bounds_are_rounded_to_times_that_can_be():
    assert [rounded_up(x, 1) for x in (4.0, 4.0000001, 4.01, 0.0)] == [4, 4, 5, 0]
    assert rounded_up(11.0, 5) == 15


@settings(max_examples=40, deadline=None)
@given(projects(most=4, least=1))
def test_the_bound_is_one(project):
    best = shortest(project)
    assert best is None or relaxation(project).bound <= best


@needs_data
@pytest.mark.parametrize(("name", "step", "worst"), [("j10", 90, 0.0), ("j20", 140, 3.7)])
def test_best_known_makespans(name, step, worst):
    rows = csv.DictReader((FOLDER / "scheduling" / "mmrcpsp_best_known.csv").read_text().splitlines())
    best = {row["instance"]: int(row["best_makespan"]) for row in rows}
    for instance, data in list(instances(name).items())[::step]:
        found = schedule_project(project_of(data), schedules=2000)
        assert found.feasible
        assert best[instance] <= found.makespan <= best[instance] * (1 + worst / 100)
        if found.status is Status.OPTIMAL:
            assert found.makespan == best[instance]
