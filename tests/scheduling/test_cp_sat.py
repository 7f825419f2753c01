"""CP-SAT as an improver: what it proves is what enumeration finds, and what it cannot hold it leaves alone."""

import random
import subprocess
import sys
from fractions import Fraction
from itertools import permutations, product
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import Status
from cggd.budget import Budget
from cggd_scheduling import (
    Alternative,
    JobShop,
    Project,
    Requirements,
    Schedule,
    cp_sat,
    read_project,
    schedule_jobs,
    schedule_project,
    schedule_tasks,
    select_modes,
    write_project,
)
from cggd_scheduling.cp_sat import MAKESPAN, TARDINESS, Goal, improve
from cggd_scheduling.limits import in_steps

pytest.importorskip("ortools")

GOALS = {"makespan": MAKESPAN, "tardiness": TARDINESS}


@st.composite
def requirements(draw, most=4):
    """Few tasks with lags, releases, due dates, setup times and modes; times are halves."""
    n = draw(st.integers(1, most))
    time = st.integers(0, 6).map(lambda x: x / 2)
    mode = st.builds(
        Alternative,
        st.integers(0, 4).map(lambda x: x / 2),
        st.fixed_dictionaries({}, optional={"m": st.just(1), "n": st.integers(1, 2)}),
    )
    tasks = {t: dict(enumerate(draw(st.lists(mode, min_size=1, max_size=2)))) for t in range(n)}
    pairs = [(a, b) for b in range(n) for a in range(b)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=3)) if pairs else []
    some = draw(st.dictionaries(st.integers(0, n - 1), time, max_size=2))
    between = (
        st.dictionaries(st.sampled_from(pairs + [(b, a) for a, b in pairs]), time, max_size=4) if pairs else st.just({})
    )
    return Requirements(
        tasks,
        edges,
        {edge: draw(time) for edge in edges if draw(st.booleans())},
        {"m": 1, "n": 2},
        release=some,
        due=draw(st.dictionaries(st.integers(0, n - 1), time, max_size=3)),
        weights={0: draw(st.integers(0, 3))},
        longest_lags={edge: draw(time) + 3 for edge in edges if draw(st.booleans())},
        setups={"m": draw(between)} if draw(st.booleans()) else {},
    )


def schedules(needs):
    """Every semi-active schedule that some start on a grid of halves gives: the slow oracle."""
    latest = (
        int(2 * (sum(max(a.duration for a in m.values()) for m in needs.tasks.values()) + sum(map(abs, needs.waits))))
        + 1
    )
    latest = min(latest, 11)
    for modes in product(*(list(m) for m in needs.tasks.values())):
        for starts in product(range(latest), repeat=len(needs.tasks)):
            found = Schedule(needs, {t: s / 2 for t, s in enumerate(starts)}, dict(enumerate(modes)))
            if not found.violations():
                yield found


@settings(max_examples=25, deadline=None)
@given(requirements())
def test_json_of_a_schedule_holds_all_requirements(needs):
    def plain(needs):
        modes = {t: {m: (a.duration, a.demands) for m, a in of.items()} for t, of in needs.tasks.items()}
        lags = {edge: time for edge, time in needs.lags.items() if time}
        return {**vars(needs), "tasks": modes, "lags": lags, "precedence": list(needs.precedence)}

    start, modes = dict.fromkeys(needs.tasks, 0), {task: next(iter(of)) for task, of in needs.tasks.items()}
    again = Schedule.from_json(Schedule(needs, start, modes).to_json())
    assert plain(again.requirements) == plain(needs)
    assert (again.start, again.modes) == (start, modes)


@given(requirements(most=3), st.sampled_from(list(GOALS)))
@pytest.mark.slow
def test_what_cp_sat_proves_is_what_enumeration_finds(needs, name):
    best = min((GOALS[name].value(found) for found in schedules(needs)), default=None)
    answer = improve(needs, GOALS[name], Budget())
    if answer.infeasible:
        assert best is None
        return
    found = Schedule(needs, answer.start, answer.modes).verify()
    assert answer.bound == GOALS[name].value(found)
    if best is not None:  # the oracle looks no further than 5
        assert answer.bound <= best


@settings(max_examples=30, deadline=None)
@given(requirements())
def test_without_or_tools_the_list_scheduler_breaks_nothing_and_cp_sat_is_never_worse(needs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cp_sat, "available", lambda: False)
        alone = schedule_tasks(needs, "tardiness", lists=20)
    found = schedule_tasks(needs, "tardiness", lists=20)
    assert alone.status is not Status.INFEASIBLE
    if alone.feasible:
        assert alone.violations() == []
        assert found.value <= alone.value
        assert "pip install cggd[scheduling]" in alone.reason or alone.status is Status.OPTIMAL
    assert found.status in (Status.OPTIMAL, Status.INFEASIBLE)


def test_setup_times_decide_the_order():
    tasks = {n: {"only": Alternative(1, {"kiln": 1})} for n in "abc"}
    setups = dict.fromkeys(permutations("abc", 2), 9) | {("b", "c"): 0, ("c", "a"): 1}
    needs = Requirements(tasks, capacities={"kiln": 1}, setups={"kiln": setups})
    found = schedule_tasks(needs)
    assert (found.value, found.status, found.critical_path()) == (4, Status.OPTIMAL, ["b", "c", "a"])
    assert "less than 9 after 'a' on 'kiln'" in Schedule(needs, {"a": 0, "b": 1, "c": 2}, found.modes).violations()[0]


def test_what_must_follow_at_once_does():
    tasks = {(j, i): {m: Alternative(d, {m: 1})} for j in "pq" for i, (m, d) in enumerate([("x", 1), ("y", 5)])}
    edges = [((j, 0), (j, 1)) for j in "pq"]
    free, tied = (
        Requirements(tasks, edges, capacities={"x": 1, "y": 1}, longest_lags=lags)
        for lags in ({}, dict.fromkeys(edges, 0))
    )
    loose, tight = schedule_tasks(free), schedule_tasks(tied)
    assert loose.value == tight.value == 11
    assert all(tight.finish(a) == tight.start[b] for a, b in edges)
    assert Schedule(tied, {("p", 0): 0, ("p", 1): 1, ("q", 0): 1, ("q", 1): 6}, tight.modes).violations()


@pytest.mark.parametrize("digits", [10**30, 1e-300])
def test_numbers_of_any_size_are_scaled(digits):
    tasks = {n: {"only": Alternative(n * digits, {"hand": 1})} for n in (1, 2, 3)}
    needs = Requirements(tasks, capacities={"hand": 1})
    assert improve(needs, MAKESPAN, Budget()).bound == pytest.approx(6 * digits)


def test_numbers_of_too_many_digits_are_left_alone():
    tasks = {n: {"only": Alternative(n, {"hand": 1})} for n in (1, 10**12 + 1)}
    assert improve(Requirements(tasks, capacities={"hand": 1}), MAKESPAN, Budget()) is None
    tasks = {n: {"only": Alternative(1, {"hand": n})} for n in (1.0, 1e12 + 1)}
    assert improve(Requirements(tasks, capacities={"hand": 2e12}), MAKESPAN, Budget()) is None


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50))
def test_budgets_of_decimals_are_neither_widened_nor_narrowed(a, b):
    tasks = {n: {"only": Alternative(1, {"money": x / 10})} for n, x in (("p", a), ("q", b))}
    for limit, fits in ((a / 10 + b / 10, True), ((a + b) / 10, True), ((a + b - 1) / 10, False)):
        answer = improve(Requirements(tasks, budgets={"money": limit}), MAKESPAN, Budget())
        assert answer.infeasible is not fits


def test_a_bound_from_floats_refutes_no_optimum():
    tasks = {n: {"only": Alternative(n / 10, {"hand": 1})} for n in (1, 2, 3)}
    needs = Requirements(tasks, capacities={"hand": 1})
    best = Schedule(needs, {1: 0, 2: 0.1, 3: 0.1 + 0.2}, dict.fromkeys(tasks, "only")).verify()
    answer = improve(needs, MAKESPAN, Budget(), known=best, bound=best.makespan * (1 + 1e-12))
    assert not answer.infeasible
    assert answer.bound == pytest.approx(0.6)
    assert in_steps(0.6, Fraction(1, 10)) == 6


def test_the_same_seed_gives_the_same_schedule_without_a_limit():
    rng = random.Random(3)
    tasks = {n: {"only": Alternative(rng.randint(1, 9), {"hand": rng.randint(1, 3)})} for n in range(12)}
    needs = Requirements(tasks, [(n, n + 4) for n in range(8)], capacities={"hand": 4}, due=dict.fromkeys(range(12), 9))
    first, second = (schedule_tasks(needs, "tardiness", seed=5) for _ in range(2))
    assert (first.start, first.bound) == (second.start, second.bound)


def test_an_interrupt_keeps_the_schedule_of_the_lists(monkeypatch):
    tasks = {n: {"only": Alternative(n, {"hand": 1})} for n in range(1, 9)}
    needs = Requirements(tasks, capacities={"hand": 1}, due=dict.fromkeys(tasks, 3))

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cp_sat, "run_interruptibly", interrupted)
    monkeypatch.setattr(cp_sat, "GRACE", 0.01)
    found = schedule_tasks(needs, "tardiness")
    assert (found.status, found.reason) == (Status.FEASIBLE, "interrupted")


def test_projects_and_shops_have_all_of_it(tmp_path):
    project = Project(
        {"a": [2], "b": [(3, {"kiln": 1})], "c": [(1, {"kiln": 1})]},
        [("a", "b")],
        {"kiln": 1},
        release={"a": 1},
        due={"b": 7, "c": 2},
        weights={"c": 5},
        lags={("a", "b"): 2},
        longest_lags={("b", "c"): 9},
        setups={"kiln": {("c", "b"): 4, ("b", "c"): 4}},
    )
    write_project(project, tmp_path / "p.json")
    again = read_project(tmp_path / "p.json")
    for name in ("release", "due", "weights", "lags", "longest_lags", "setups"):
        assert getattr(again, name) == getattr(project, name)
    found = schedule_project(again, objective="tardiness")
    assert (found.status, found.value, found.start) == (Status.OPTIMAL, 1, {"a": 1, "b": 5, "c": 0})
    assert Schedule.from_json(found.to_json()).verify().tardiness == 1
    assert "tardiness  1 (bound 1, gap 0.00%)" in found.summary()
    with pytest.raises(ValueError, match="select_modes knows no releases"):
        select_modes(project)
    shop = JobShop([[{"m": 2}], [{"m": 1}]], release={0: 1}, due={1: 1}, weights={1: 2}, setups={"m": {(1, 0): 3}})
    found = schedule_jobs(shop, objective="tardiness")
    assert (found.status, found.value, found.start[0, 0]) == (Status.OPTIMAL, 0, 4)
    assert schedule_jobs(shop).value == 4  # the other way round


def test_job_shops_have_lags_between_operations_of_a_job():
    pytest.importorskip("ortools")
    pair, jobs = ((0, 0), (0, 1)), [[{"a": 2}, {"b": 2}], [{"a": 3}, {"b": 1}]]
    free, slow = schedule_jobs(JobShop(jobs)), schedule_jobs(JobShop(jobs, lags={pair: 4}))
    assert (free.makespan, slow.makespan, slow.status) == (6, 8, Status.OPTIMAL)
    soon = schedule_jobs(JobShop(jobs, longest_lags={pair: 0})).verify()
    assert soon.start[0, 1] == soon.finish((0, 0))
    assert soon.status is Status.OPTIMAL


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Project({"a": [1]}, release={"b": 1}), "release names 'b', which is no activity"),
        (lambda: Project({"a": [1]}, due={"a": -1}), "due of 'a' must be a whole number of at least 0, got -1"),
        (lambda: Project({"a": [1], "b": [1]}, lags={("a", "b"): 1}), "is no pair of the precedence; add it there"),
        (lambda: Project({"a": [1]}, setups={"x": {}}), "no renewable resource of capacity 1"),
        (lambda: JobShop([[{"m": 1}]], due={1: 3}), "due names job 1; there are jobs 0 to 0"),
        (lambda: JobShop([[{"m": 1}]], setups={"x": {}}), "setups names machine 'x'"),
        (
            lambda: JobShop([[{"m": 1}]], lags={((0, 0), (0, 1)): 1}),
            r"lags names \(\(0, 0\), \(0, 1\)\); it must be an",
        ),
        (lambda: schedule_jobs(JobShop([]), objective="cost"), "objective must be one of 'makespan', 'tardiness'"),
    ],
)
def test_wrong_times_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_least_use_by_a_deadline_is_proved():
    rng = random.Random(2)
    modes = {n: [(4, {"crew": 2, "money": rng.randint(1, 4)}), (2, {"crew": 2, "money": 9})] for n in range(6)}
    project = Project(modes, [(0, 3)], {"crew": 3}, {"money": 99})
    found = schedule_project(project, minimize="money", deadline=18)
    assert found.status is Status.OPTIMAL
    dearest = sorted(9 - options[0][1]["money"] for options in modes.values())[:3]
    assert found.value == sum(options[0][1]["money"] for options in modes.values()) + sum(dearest)


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ({"precedence": [("a", "b")]}, "precedence names 'b', which is no task"),
        ({"due": {"z": 1}}, "due names 'z'"),
        ({"setups": {"m": {}}, "capacities": {"m": 2}}, "no resource of capacity 1"),
        ({"precedence": [("a", "a")]}, "cycle"),
        ({"tasks": {"a": {}}}, "task 'a' has no mode"),
    ],
)
def test_wrong_requirements_are_named(needs, message):
    with pytest.raises(ValueError, match=message):
        schedule_tasks(Requirements(**{"tasks": {"a": {1: Alternative(1)}}} | needs))


def test_without_a_choice_there_is_still_an_answer():
    project = Project(
        {"a": [(2, {"money": 3})], "b": [(0, {"crew": 9})]}, renewable={"crew": 1}, nonrenewable={"money": 9}
    )
    assert schedule_project(project, minimize="money", deadline=2).value == 3
    assert schedule_project(project, objective="tardiness").value == 0
    needs = project.requirements(deadline=2)
    for goal in (MAKESPAN, TARDINESS, Goal("money", lambda s: s.used("money"), lambda m: m.use("money"))):
        assert improve(needs, goal, Budget()).bound == {"makespan": 2, "tardiness": 0, "money": 3}[goal.name]
    assert improve(project.requirements(deadline=1), MAKESPAN, Budget()).infeasible
    oversized = Requirements({"a": {1: Alternative(1, {"m": 2})}}, capacities={"m": 1})
    assert improve(oversized, MAKESPAN, Budget()).infeasible
    assert schedule_tasks(oversized).status is Status.INFEASIBLE


def test_many_tasks_with_setup_times_end_in_time():
    rng = random.Random(0)
    tasks = {n: {"only": Alternative(rng.randint(1, 9), {f"m{n % 3}": 1})} for n in range(150)}
    setups = {
        f"m{m}": {(a, b): rng.randint(0, 5) for a in range(m, 150, 3) for b in range(m, 150, 3)} for m in range(3)
    }
    needs = Requirements(
        tasks, [(n, n + 1) for n in range(0, 140, 7)], capacities=dict.fromkeys(setups, 1), setups=setups
    )
    found = schedule_tasks(needs, time_limit=3, workers=1)
    assert found.feasible
    assert found.violations() == []


WITHOUT = """
    import sys
    sys.modules["ortools"] = None
    import random
    from cggd_scheduling import *
    rng = random.Random(1)
    shop = JobShop([[{m: rng.randint(1, 99)} for m in rng.sample(range(6), 6)] for _ in range(6)])
    modes = {n: [(rng.randint(1, 9), {"crew": rng.randint(1, 3), "money": rng.randint(1, 9)})] for n in range(20)}
    project = Project(modes, [(n, n + 4) for n in range(16)], {"crew": 4}, {"money": 999})
    units = UnitLibrary([FunctionalUnit("A", 5, 3, 1, "a"), FunctionalUnit("A", 9, 2, 3, "b")])
    graph = DataFlowGraph(dict.fromkeys(range(20), "A"), [(n, n + rng.randint(1, 4)) for n in range(16)])
    operators = {n: Operator({"g": rng.uniform(1, 9)}, 1, rng.uniform(0, 3)) for n in range(16)}
    devices = [Device(f"d{n}", "g", memory=6) for n in range(3)]
    placement = Placement(operators, [(n, n + 2) for n in range(14)], devices)
    due = Requirements(project.requirements().tasks, capacities={"crew": 4}, due=dict.fromkeys(modes, 3))
    for found in (
        schedule_jobs(shop, moves=20),
        schedule_project(project, schedules=20),
        schedule_tasks(due, "tardiness", lists=5),
        synthesize(Synthesis(graph, units), latency=20),
        place(placement, moves=20),
    ):
        assert found.violations() == []
        print(found.status.name, "pip install cggd[scheduling]" in found.reason)
"""


@pytest.mark.slow
def test_without_or_tools_everything_else_works_and_says_so():
    done = subprocess.run([sys.executable, "-c", dedent(WITHOUT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) == 5
    assert all(status == "OPTIMAL" or hint == "True" for status, hint in rows)
    assert ["FEASIBLE", "True"] in rows
