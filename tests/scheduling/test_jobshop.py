import json
import math
import random
from dataclasses import fields
from itertools import permutations, product

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scheduling.shops import INSTANCES
from cggd import Status
from cggd.datasets import data_folder
from cggd.testing import check_metric
from cggd_scheduling import Schedule, ScheduleError, cp_sat
from cggd_scheduling.jobshop import JobShop, read, read_shops, schedule_jobs, write
from cggd_scheduling.jobshop.search import _named, _plan, dispatched
from cggd_scheduling.jobshop.tabu import _between, _drawn, search


@st.composite
def shops(draw, jobs=3, operations=3, machines=3, least=0):
    duration = st.integers(least, 9)
    some = st.dictionaries(st.integers(0, machines - 1), duration, min_size=1, max_size=machines)
    return JobShop(draw(st.lists(st.lists(some, max_size=operations), min_size=1, max_size=jobs)))


def machine_graph(now):
    """Who waits for whom, as a networkx graph: the slow oracle."""
    n, graph = len(now.options), nx.DiGraph()
    graph.add_nodes_from(range(n))
    for first in now.first.values():
        while first < n and now.after[first] < n:
            graph.add_edge(first, first := now.after[first])
    graph.add_edges_from((op, then) for op, then in enumerate(now.next[:-1]) if then < n)
    return graph


def slow_ends_and_rests(now):
    graph, duration = machine_graph(now), [own[m] for own, m in zip(now.options, now.machine, strict=True)]
    ends, rests = {}, {}
    order = list(nx.topological_sort(graph))
    for op in order:
        ends[op] = max((ends[u] for u in graph.predecessors(op)), default=0) + duration[op]
    for op in reversed(order):
        rests[op] = max((rests[v] for v in graph.successors(op)), default=0) + duration[op]
    return [ends[op] for op in range(len(order))], [rests[op] for op in range(len(order))]


def drawn(shop, rng):
    """Sequences of a random choice of machines, in a random order."""
    now = dispatched(shop, [rng.randrange(len(machines)) for machines in shop.operations.values()])
    now.set(_drawn(now, now.plan, rng))
    return now


def as_it_stands(now):
    return now.plan, [*now.place], [*now.before], [*now.after], dict(now.first), [*now.ends], [*now.rests]


def moves(now, op, machine):
    """The operations that one may be put behind on a machine, itself left out."""
    n, found, then = len(now.options), [len(now.options)], now.first.get(machine, len(now.options))
    while then < n:
        found, then = [*found, then], now.after[then]
    return [other for other in found if other != op]


# -- laws -------------------------------------------------------------------------------------------------------------


@given(shops(), st.randoms(use_true_random=False))
def test_any_move_is_made_as_on_the_slow_graph_or_refused_where_it_makes_a_cycle(shop, rng):
    if not shop.operations:
        return
    now = drawn(shop, rng)
    for _ in range(5):
        assert (now.ends[:-1], now.rests[:-1]) == slow_ends_and_rests(now)
        op = rng.randrange(len(now.options))
        machine = rng.choice(list(now.options[op]))
        before, was = rng.choice(moves(now, op, machine)), as_it_stands(now)
        home, behind = now.machine[op], now.before[op]
        made = now.move(op, machine, before)
        if not made:
            assert as_it_stands(now) == was
            now._unlink(op, home)
            now._link(op, machine, before)
            assert not nx.is_directed_acyclic_graph(machine_graph(now))
            now._unlink(op, machine)
            now._link(op, home, behind)
        graph = machine_graph(now)
        assert all(now.place[a] < now.place[b] for a, b in graph.edges)
        assert [now.order[at] for at in now.place] == list(range(len(now.options)))


@given(shops(), st.randoms(use_true_random=False))
def test_a_longest_path_is_cut_into_blocks_and_no_move_proposed_makes_a_cycle_or_is_longer_than_said(shop, rng):
    if not shop.operations:
        return
    now = drawn(shop, rng)
    path, start = now.blocks(rng), now.plan
    assert sum(now.duration[op] for block in path for op in block) == now.makespan
    found = [
        (op, now.machine[op], past[-1] if forward else now.before[past[0]], [op, *past], said)
        for block in path
        for op, past, forward in now.shifts(block)
        for said in [now.later(op, past) if forward else now.earlier(op, past)]
    ]
    changed = [(op, *to, [op], said) for block in path for op in block for *to, said in now.changes(op)]
    for op, machine, before, touched, said in [*found, *changed]:
        assert now.move(op, machine, before)
        longest = max(now.start(other) + now.rests[other] for other in touched)
        assert longest == said if len(touched) == 1 else longest <= said
        now.set(start)


@given(shops(), st.randoms(use_true_random=False))
def test_a_schedule_between_two_has_what_they_have_in_common(shop, rng):
    if not shop.operations:
        return
    one, other = (drawn(shop, rng).plan for _ in range(2))
    now = drawn(shop, rng)
    now.set(_between([(0, one), (0, other)], rng))
    assert all(m in both for m, *both in zip(now.machine, one.machine, other.machine, strict=True))
    for a, b in permutations(range(len(now.options)), 2):
        if all(plan.order.index(a) < plan.order.index(b) for plan in (one, other)):
            assert now.place[a] < now.place[b]


def least_makespan(shop):
    """Over all machines and all orders of starting: a schedule that starts each as early as it can is among them."""
    ops = list(shop.operations)
    best = math.inf
    for machines in product(*(list(m) for m in shop.operations.values())):
        on = dict(zip(ops, machines, strict=True))

        def extend(done, ends, free, on=on):
            nonlocal best
            if max(ends.values(), default=0) >= best:
                return
            if len(ends) == len(ops):
                best = max(ends.values(), default=0)
                return
            for j, i in enumerate(done):
                if i < len(shop.jobs[j]):
                    machine = on[j, i]
                    end = max(ends.get((j, i - 1), 0), free.get(machine, 0)) + shop.operations[j, i][machine]
                    extend([*done[:j], i + 1, *done[j + 1 :]], ends | {(j, i): end}, free | {machine: end})

        extend([0] * len(shop.jobs), {}, {})
    return best


@settings(max_examples=25)
@given(shops(jobs=3, operations=2, machines=2), st.integers(0, 3))
def test_small_shops_are_solved_to_the_optimum_of_enumeration(shop, seed):
    schedule = schedule_jobs(shop, moves=300, seed=seed)
    assert schedule.verify().makespan == (least_makespan(shop) if shop.operations else 0)
    assert schedule.bound <= schedule.makespan
    assert (schedule.status is Status.OPTIMAL) == (schedule.bound == schedule.makespan)


@settings(max_examples=20)
@given(shops())
def test_the_least_makespan_keeps_the_laws_and_bounds_every_schedule(shop):
    if not shop.operations:
        return
    check_metric(shop.least_makespan, n=5)
    schedule = schedule_jobs(shop, moves=50)
    assert shop.least_makespan(schedule.modes) <= schedule.makespan


@settings(max_examples=40)
@given(shops(jobs=4), st.integers(0, 5))
def test_the_search_only_gets_shorter(shop, seed):
    if not shop.operations:
        return
    now, lengths = drawn(shop, random.Random(seed)), []
    for length, plan in search(now, random.Random(seed), moves=30, stop=lambda shortest: False):
        found = dispatched(shop, [0] * len(now.options))
        found.set(plan)
        assert length == max(slow_ends_and_rests(found)[0])
        lengths.append(length)
    assert lengths == sorted(set(lengths), reverse=True)


def test_the_search_finds_the_optimum_of_ft06_from_any_start():
    shop = read_shops(INSTANCES / "job_shops.txt")["ft06"]
    now = drawn(shop, random.Random(0))
    assert min(length for length, _ in search(now, random.Random(0), moves=5000, stop=lambda now: now <= 55)) == 55


@pytest.mark.parametrize("workers", [1, 2])
def test_cp_sat_beside_the_search_or_after_it_proves_what_is_best(workers):
    pytest.importorskip("ortools")
    shop = read_shops(INSTANCES / "job_shops.txt")["la01"]
    schedule = schedule_jobs(shop, time_limit=20, workers=workers)
    assert (schedule.makespan, schedule.status) == (666, Status.OPTIMAL)


def test_a_failure_of_cp_sat_beside_the_search_is_not_hidden(monkeypatch):
    pytest.importorskip("ortools")
    shop = read_shops(INSTANCES / "job_shops.txt")["ft10"]

    def fail(*arguments, **options):
        raise ZeroDivisionError

    monkeypatch.setattr(cp_sat, "improve", fail)
    with pytest.raises(ZeroDivisionError):
        schedule_jobs(shop, time_limit=0.5, workers=2)


# -- examples ---------------------------------------------------------------------------------------------------------


def test_a_classical_job_shop_of_three_jobs():
    rows = [[(0, 3), (1, 2), (2, 2)], [(0, 2), (2, 1), (1, 4)], [(1, 4), (2, 3)]]
    schedule = schedule_jobs(JobShop([[{machine: duration} for machine, duration in job] for job in rows]))
    assert schedule.makespan == 11
    assert schedule.requirements.capacities == {0: 1, 1: 1, 2: 1}


def test_a_deadline_that_is_met_ends_the_search_and_one_below_the_bound_is_infeasible():
    shop = JobShop([[{0: 5}, {1: 5}], [{0: 5}, {1: 5}]])
    assert schedule_jobs(shop, deadline=15).makespan == 15
    missed = schedule_jobs(shop, deadline=9)
    assert missed.status is Status.INFEASIBLE
    assert missed.reason == "no schedule ends before 10, and the shortest found takes 15; the deadline is 9"


def test_a_deadline_between_bound_and_optimum_is_refuted_by_cp_sat_alone(monkeypatch):
    shop = JobShop([[{0: 5}, {1: 5}], [{0: 5}, {1: 5}]])
    pytest.importorskip("ortools")
    refuted = schedule_jobs(shop, deadline=12)
    assert refuted.status is Status.INFEASIBLE
    assert refuted.reason.endswith("deadline of 12, as CP-SAT has proved; the shortest one takes 15")
    monkeypatch.setattr(cp_sat, "available", lambda: False)
    unknown = schedule_jobs(shop, deadline=12)
    assert unknown.status is Status.UNKNOWN
    assert unknown.reason == "the shortest schedule found takes 15, the deadline is 12"


def test_the_same_seed_gives_the_same_schedule():
    rng = np.random.default_rng(0)
    jobs = [[{m: int(rng.integers(1, 9)) for m in range(3)} for _ in range(4)] for _ in range(4)]
    first, second = (schedule_jobs(JobShop(jobs), moves=60, seed=5) for _ in range(2))
    assert (first.start, first.modes) == (second.start, second.modes)


def test_nothing_one_operation_no_time_and_large_numbers():
    assert schedule_jobs(JobShop([])).makespan == 0
    assert schedule_jobs(JobShop([[], []])).status is Status.OPTIMAL
    assert schedule_jobs(JobShop([[{"m": 7}]])).makespan == 7
    assert schedule_jobs(JobShop([[{"m": 0}, {"m": 0}], [{"m": 0}]])).makespan == 0
    huge = 10**15
    assert schedule_jobs(JobShop([[{"m": huge}], [{"m": huge + 1}]]), moves=10).makespan == 2 * huge + 1


def test_a_schedule_that_uses_a_machine_twice_at_once_is_rejected():
    schedule = schedule_jobs(JobShop([[{"m": 2}], [{"m": 2}]]))
    with pytest.raises(ScheduleError, match="'m'"):
        type(schedule)(schedule.requirements, {(0, 0): 0, (1, 0): 1}, schedule.modes).verify()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: JobShop([[{}]]), "operation 0 of job 0 has no machine"),
        (
            lambda: JobShop([[{"m": 1}, {"m": -2}]]),
            "duration of operation 1 of job 0 on 'm' must be at least 0, got -2",
        ),
        (lambda: JobShop([[{"m": math.nan}]]), "duration of operation 0 of job 0 on 'm' must be finite"),
        (lambda: schedule_jobs(JobShop([]), moves=-1), "moves must be at least 0"),
        (lambda: schedule_jobs(JobShop([]), time_limit=0), "time_limit must be more than 0"),
        (lambda: schedule_jobs(JobShop([]), deadline=math.nan), "deadline must be a number"),
    ],
)
def test_wrong_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# -- files ------------------------------------------------------------------------------------------------------------


def test_an_fjs_file_is_read(tmp_path):
    pytest.importorskip("fjsplib")
    file = tmp_path / "two.fjs"
    file.write_text("2 2 1.5\n2  2 1 3 2 5  1 2 4\n1  1 1 6\n")
    shop = read(file)
    assert shop.jobs == (({0: 3, 1: 5}, {1: 4}), ({0: 6},))
    assert shop.name == "two"
    assert schedule_jobs(shop).makespan == 9


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.fjs", "", "first line must have the numbers of jobs and machines"),
        ("x.fjs", "2 2\n1 1 1 3\n", "the first line says 2 jobs, and 1 follow"),
        ("x.fjs", "1 1\n1 1 2 3\n", "job 1 names machine 2; there are machines 1 to 1"),
        ("x.fjs", "1 1\n2 1 1 3\n", "job 1 ends before its operation 2 of 2"),
        ("x.fjs", "1 1\n1 1 1 3 9\n", "job 1 has 5 numbers; its 1 operations make 4"),
        ("x.fjs", "1 1\n1 1 1 x\n", "could not convert|invalid literal"),
        ("x.fjs", "1 2\n1 2 1 3 1 4\n", "names a machine twice"),
        ("x.json", "{}", "it holds no job shop"),
        ("x.json", '{"a": {"jobs": []}, "b": {"jobs": []}}', "it holds 2 job shops; say which: 'a', 'b'"),
        ("x.json", "[", "Expecting value"),
        ("x.csv", "", "expected a classical job shop, or a file that ends in .fjs"),
    ],
)
def test_wrong_files_are_errors_that_name_the_file(tmp_path, name, text, message):
    pytest.importorskip("fjsplib")
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path / name)
    assert name in str(error.value)


def test_machines_of_a_flexible_shop_may_be_numbered_from_0(tmp_path):
    pytest.importorskip("fjsplib")
    (tmp_path / "a.fjs").write_text("2 2\n1 2 1 3 2 5\n1 1 2 4\n")
    (tmp_path / "b.fjs").write_text("2 2\n1 2 0 3 1 5\n1 1 1 4\n")
    assert read(tmp_path / "a.fjs").jobs == read(tmp_path / "b.fjs").jobs == (({0: 3, 1: 5},), ({1: 4},))


def test_json_holds_one_shop_or_several_by_name(tmp_path):
    one = {"name": "p", "jobs": [[[["a", 2]], [["b", 1], ["a", 4]]]]}
    (tmp_path / "one.json").write_text(json.dumps(one))
    (tmp_path / "two.json").write_text(json.dumps({"p": one, "q": {"jobs": []}}))
    shop = read(tmp_path / "one.json")
    assert (shop.name, schedule_jobs(shop).makespan) == ("p", 3)
    assert read(tmp_path / "two.json", instance="p").jobs == shop.jobs


@given(shops(), st.data())
def test_json_round_trip(tmp_path_factory, shop, data):
    def of(keys):
        times = st.integers(0, 5) | st.just(0.5)
        return data.draw(st.dictionaries(st.sampled_from(keys), times, max_size=3)) if keys else {}

    numbers = list(range(len(shop.jobs)))
    times = {name: of(numbers) for name in ("release", "due", "weights")}
    times |= {name: of(shop.precedence) for name in ("lags", "longest_lags")}
    setups = {m: of([(a, b) for a in numbers for b in numbers]) for m in shop.machines[:1]}
    shop = JobShop(shop.jobs, "shop", "h", **times, setups=setups)
    path = tmp_path_factory.mktemp("shops") / "shop.json"
    write(shop, path)
    again = read(path)
    assert [getattr(again, f.name) for f in fields(shop)] == [getattr(shop, f.name) for f in fields(shop)]


@given(shops(least=0), st.randoms(use_true_random=False))
def test_a_schedule_from_elsewhere_becomes_sequences_that_are_no_longer(shop, rng):
    if not shop.operations:
        return
    now = drawn(shop, rng)
    schedule = Schedule(shop.requirements(), *_named(shop, now, now.plan)).verify()
    again = drawn(shop, rng)
    again.set(_plan(shop, schedule))
    assert again.makespan <= schedule.makespan
    assert again.machine == now.machine


@given(shops(jobs=4), st.randoms(use_true_random=False))
def test_the_search_goes_on_from_what_others_find(shop, rng):
    if not shop.operations:
        return
    best = min((drawn(shop, rng) for _ in range(5)), key=lambda now: now.makespan)
    news = [best.plan]
    found = list(
        search(drawn(shop, rng), rng, moves=64, stop=lambda _: False, news=lambda: news.pop() if news else None)
    )
    assert [length for length, _ in found] == sorted({length for length, _ in found}, reverse=True)
    assert news or found[-1][0] <= best.makespan


# -- the public instances ---------------------------------------------------------------------------------------------


def public(name):
    folder = data_folder()
    if folder is None or not (folder / "scheduling" / "fjsp.json.gz").exists():
        pytest.skip("needs the public data scheduling/fjsp.json.gz; set CGGD_DATA")
    return read(folder / "scheduling" / "fjsp.json.gz", instance=name)


def test_mk01_is_solved_to_its_optimum():
    schedule = schedule_jobs(public("mk01"), deadline=40)
    assert schedule.verify().makespan == 40


@pytest.mark.slow
def test_mk04_is_solved_to_within_two_of_its_optimum():
    schedule = schedule_jobs(public("mk04"), deadline=62)
    assert schedule.verify().makespan <= 62
    assert schedule.bound == 60


def test_an_interrupted_search_returns_the_best_until_then(monkeypatch):
    rng = np.random.default_rng(1)
    shop = JobShop([[{m: int(rng.integers(1, 9)) for m in range(3)} for _ in range(4)] for _ in range(4)])

    def interrupted(start, rng, **options):
        yield next(iter(search(start, rng, **options)))
        raise KeyboardInterrupt

    monkeypatch.setattr("cggd_scheduling.jobshop.search.search", interrupted)
    monkeypatch.setattr(cp_sat, "available", lambda: False)
    schedule = schedule_jobs(shop)
    assert schedule.verify().reason.startswith("interrupted; no proof was tried")
    assert schedule.makespan >= schedule.bound


def test_an_interruption_beside_cp_sat_ends_both_and_keeps_what_was_found(monkeypatch):
    pytest.importorskip("ortools")
    shop = read_shops(INSTANCES / "job_shops.txt")["abz7"]

    def interrupted(start, rng, **options):
        yield next(iter(search(start, rng, **options)))
        raise KeyboardInterrupt

    monkeypatch.setattr("cggd_scheduling.jobshop.search.search", interrupted)
    schedule = schedule_jobs(shop, time_limit=60, workers=2)
    assert schedule.verify().reason == "interrupted"
    assert schedule.seconds < 60
    assert schedule.bound <= schedule.makespan


@pytest.mark.parametrize(
    ("jobs", "words"),
    [
        ([3], "job 0 must be a list of operations, got 3"),
        ([[{"a": 1}], "ab"], "job 1 must be a list of operations, got 'ab'"),
        ([[{"a": 1}, ["a", 1]]], "operation 1 of job 0 must map machines to durations, got"),
    ],
)
def test_jobs_of_the_wrong_kind_are_named(jobs, words):
    with pytest.raises(TypeError, match=words):
        JobShop(jobs)


def test_a_proved_makespan_of_fractions_has_no_gap():
    schedule = schedule_jobs(JobShop([[{"a": 0.1}, {"a": 0.2}, {"a": 0.3}], [{"a": 0.1, "b": 0.7}, {"b": 0.2}]]))
    assert schedule.status is Status.OPTIMAL
    assert schedule.gap == 0


def test_large_durations_are_proved_as_small_ones_are():
    schedule = schedule_jobs(JobShop([[{"a": 10**9}, {"b": 10**9}], [{"a": 2 * 10**9}]]))
    assert (schedule.makespan, schedule.status) == (3 * 10**9, Status.OPTIMAL)
