"""Limits are kept exactly, bounds are true, and what a search finds does not depend on the clock."""

import math
import random
import time
from fractions import Fraction
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import Status
from cggd_scheduling import (
    Alternative,
    DataFlowGraph,
    Device,
    FunctionalUnit,
    JobShop,
    Operator,
    Placement,
    Project,
    Requirements,
    Schedule,
    Synthesis,
    UnitLibrary,
    place,
    schedule_jobs,
    schedule_project,
    select_modes,
    synthesize,
)
from cggd_scheduling.hls.clock import Clock
from cggd_scheduling.limits import decimal_step, exceeds
from cggd_scheduling.placement import search as placement_search
from tests.scheduling.projects import projects, selections, serial_by_hand

WHOLE = st.integers(0, 2**70)
TENTHS = st.lists(st.integers(1, 999), min_size=2, max_size=12)


@given(st.lists(WHOLE, min_size=1, max_size=6))
def test_whole_numbers_of_any_size_are_compared_exactly(amounts):
    assert not exceeds(amounts, sum(amounts))
    assert exceeds([*amounts, 1], sum(amounts))


@given(TENTHS, st.sampled_from([10, 1000, 10**15]))
def test_sums_of_decimals_reach_their_limit_and_no_more(amounts, unit):
    limit = float(Fraction(sum(amounts), unit))
    numbers = [amount / unit for amount in amounts]
    assert not exceeds(numbers, limit)
    assert exceeds(numbers, limit * (1 - 1e-12))


def test_a_number_alone_is_compared_as_it_is():
    assert exceeds([math.nextafter(0.3, 1)], 0.3)
    assert not exceeds([], 0)
    assert not exceeds([1e300], math.inf)


def test_steps_are_those_of_decimals():
    assert decimal_step([0.1, 0.25]) == Fraction(1, 20)
    assert decimal_step([10**20, 3 * 10**20]) == 10**20


@given(TENTHS)
def test_times_that_follow_each_other_do_not_overlap(amounts):
    durations = [amount / 10 for amount in amounts]
    starts = [sum(amounts[:n]) / 10 for n in range(len(amounts))]  # as they are written down, not as floats add up
    tasks = {n: {"m": Alternative(d, {"hand": 1})} for n, d in enumerate(durations)}
    needs = Requirements(tasks, list(pairwise(tasks)), capacities={"hand": 1}, deadline=sum(amounts) / 10)
    modes, lanes = dict.fromkeys(tasks, "m"), dict.fromkeys(tasks, "lane")
    schedule = Schedule(needs, dict(enumerate(starts)), modes, lanes).verify()
    assert schedule.critical_path() == list(tasks)
    earlier = dict(enumerate(starts)) | {len(starts) - 1: starts[-1] - 1e-9}
    assert len(Schedule(needs, earlier, modes, lanes).violations()) == 3  # precedence, capacity and lane


def test_budgets_and_capacities_are_kept_to_the_last_byte():
    tasks = {n: {"m": Alternative(2, {"memory": 2**40 + 1, "money": 2**60 + 1})} for n in "ab"}
    for limit, wrong in ((2**41 + 2, 0), (2**41 + 1, 1)):
        needs = Requirements(tasks, capacities={"memory": limit}, budgets={"money": 2**61 + 2 - wrong})
        assert len(Schedule(needs, {"a": 0, "b": 1}, {"a": "m", "b": "m"}).violations()) == 2 * wrong


@pytest.mark.parametrize(
    ("memory", "room", "fits"), [(0.1, 0.3, True), (0.1, 0.29, False), (2**33 + 1, 3 * 2**33, False)]
)
def test_memory_of_operators_is_kept(memory, room, fits):
    work = {n: Operator({"g": 1.0}, memory=memory) for n in "abc"}
    assert place(Placement(work, [], [Device("one", "g", memory=room)])).feasible is fits


def test_deadlines_of_shops_are_kept():
    shop = JobShop([[{"saw": 0.1}, {"saw": 0.2}]])
    assert schedule_jobs(shop, deadline=0.3).feasible
    assert schedule_jobs(shop, deadline=0.3 - 1e-12).status is Status.INFEASIBLE


def test_periods_of_a_clock_are_kept():
    clock = Clock(0.3, True, terms=2)
    assert clock.start(0.1, 0.2) == 0.1
    assert clock.start(0.1, 0.2 + 1e-12) == 0.3
    assert clock.periods(0.1 + 0.2) == 1
    assert clock.periods(0.3 + 1e-12) == 2
    assert Clock(10, True, terms=2, whole=True).periods(10**25 + 1) == 10**24 + 1


@pytest.mark.parametrize("limit", ["area", "power", "latency"])
def test_limits_of_synthesis_are_kept(limit):
    unit = FunctionalUnit("ADD", 0.1, 0.1, 0.1)
    problem = Synthesis(
        DataFlowGraph({"a": "ADD", "b": "ADD", "c": "ADD"}, [("a", "b"), ("b", "c")]), UnitLibrary([unit])
    )
    other = "power" if limit == "area" else "area"
    assert synthesize(problem, other, share=limit != "area", **{limit: 0.3}).feasible
    assert not synthesize(problem, other, share=limit != "area", **{limit: 0.3 - 1e-12}).feasible


# -- bounds and proofs -------------------------------------------------------------------------------------------------


def least_load(problem):
    """The least largest load of a placement, exactly, by trying everything; None where nothing fits."""
    found = []
    for names in product([device.name for device in problem.devices], repeat=len(problem.operators)):
        where = dict(zip(problem.operators, names, strict=True))
        if problem.fits(where):
            found.append(max(problem.loads(where).values()))
    return min(found, default=None)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 10, 1000]), st.sampled_from([None, 1e6, 1e9, 1e12]))
@pytest.mark.slow
def test_the_exact_solver_of_placements_proves_nothing_false(seed, unit, never):
    rng = random.Random(seed)
    devices = [Device("a", "x", memory=4, link=rng.choice([0, 1])), Device("b", "y"), Device("c", "x", memory=5)]

    def duration():
        return never if never and rng.random() < 0.2 else rng.randint(0, 40) / unit

    work = {
        n: Operator({"x": duration(), "y": duration()}, rng.randint(0, 3), rng.randint(0, 9) / unit) for n in range(5)
    }
    problem = Placement(work, [(i, j) for i in range(5) for j in range(i + 1, 5) if rng.random() < 0.4], devices)
    best = least_load(problem)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placement_search, "FEW", 1)
        found = place(problem, moves=200)
    assert found.value >= best * (1 - 1e-12)
    assert found.bound is None or found.bound <= best * (1 + 1e-12)
    assert found.status is not Status.OPTIMAL or found.value == pytest.approx(best, rel=1e-12)


def test_a_price_of_never_hides_no_cheaper_units():
    units = [
        FunctionalUnit("A", 2, 2, 1, "slow"),
        FunctionalUnit("A", 10**9, 1, 10**9, "fast"),
        FunctionalUnit("B", 3, 1),
    ]
    graph = DataFlowGraph({"p": "A", "q": "A", "r": "B"}, [("p", "r"), ("q", "r")])
    problem = Synthesis(graph, UnitLibrary(units))
    assert (synthesize(problem, latency=3).value, synthesize(problem, latency=5).value) == (7, 5)
    found = synthesize(problem, "power", latency=2)
    assert found.value == 2 * 10**9 >= found.bound


@settings(max_examples=25, deadline=None)
@given(projects(least=1, most=4, nonrenewable=1), st.integers(0, 12))
def test_the_least_use_keeps_the_capacities(project, deadline):
    if "N0" not in project.nonrenewable:
        return
    found = schedule_project(project, minimize="N0", deadline=deadline, schedules=100)
    least = select_modes(
        Project(
            project.activities, project.precedence, {}, {**project.nonrenewable, **dict.fromkeys(project.renewable)}
        ),
        "N0",
    )
    if found.feasible:
        assert found.verify(project.requirements(deadline=deadline)).value == found.used("N0") >= least.value
        assert found.bound <= found.value


def test_a_deadline_that_crews_miss_with_the_cheapest_modes_takes_dearer_ones():
    modes = {n: [(4, {"crew": 1, "money": 1}), (2, {"crew": 1, "money": 5})] for n in "abc"}
    project = Project(modes, renewable={"crew": 1}, nonrenewable={"money": 99})
    found = schedule_project(project, minimize="money", deadline=8)
    assert found.makespan <= 8
    assert found.value == 1 + 5 + 5
    assert schedule_project(project, minimize="money").value == 3
    assert not schedule_project(project, minimize="money", deadline=5).feasible


# -- critical paths ----------------------------------------------------------------------------------------------------


def is_chain(schedule):
    chain = schedule.critical_path()
    assert sum(schedule.duration(task) for task in chain) == schedule.makespan
    assert all(schedule.finish(a) == schedule.start[b] for a, b in pairwise(chain))


@given(projects(least=1, most=5))
def test_the_critical_path_follows_capacities(project):
    for modes in list(selections(project))[:2]:
        start = serial_by_hand(project, list(project.graph.nodes), modes) if not project.precedence else None
        if start is not None:
            is_chain(Schedule(project.requirements(), start, modes))


@pytest.mark.parametrize("seed", range(4))
def test_the_critical_path_of_a_shop_follows_machines(seed):
    rng = random.Random(seed)
    jobs = [[{m: rng.randint(1, 9) for m in rng.sample("xyz", 2)} for _ in range(3)] for _ in range(4)]
    is_chain(schedule_jobs(JobShop(jobs), moves=100))


# -- the clock ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["project", "modes", "shop", "placement", "synthesis"])
def test_without_a_limit_a_clock_that_runs_faster_changes_nothing(kind, monkeypatch):
    rng = random.Random(5)
    modes = {
        n: [(rng.randint(1, 9), {"crew": rng.randint(1, 3), "money": rng.randint(0, 9)}) for _ in range(3)]
        for n in range(12)
    }
    project = Project(modes, [(n, n + 3) for n in range(9)], {"crew": 4}, {"money": 50})
    devices = [Device(f"d{n}", "g", memory=9) for n in range(4)]
    work = {n: Operator({"g": rng.randint(1, 9)}, 1, rng.randint(0, 3)) for n in range(9)}
    placement = Placement(work, [(n, n + 2) for n in range(7)], devices)
    shop = JobShop([[{m: rng.randint(1, 9) for m in "xyz"} for _ in range(3)] for _ in range(4)])
    units = UnitLibrary([FunctionalUnit("A", 5, 2, 1, "a"), FunctionalUnit("A", 9, 1, 3, "b")])
    graph = DataFlowGraph(dict.fromkeys(range(9), "A"), [(n, n + 3) for n in range(6)])
    solve = {
        "project": lambda: schedule_project(project, schedules=100),
        "modes": lambda: select_modes(project),
        "shop": lambda: schedule_jobs(shop, moves=100),
        "placement": lambda: place(placement, moves=500),
        "synthesis": lambda: synthesize(Synthesis(graph, units), "power", latency=7, area=20),
    }[kind]
    normal, real = solve(), time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: 300 * real())
    fast = solve()
    assert (fast.status, fast.value, fast.bound, fast.start) == (
        normal.status,
        normal.value,
        normal.bound,
        normal.start,
    )
