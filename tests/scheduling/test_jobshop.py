import json
import math
import random
from itertools import product

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import Status
from cggd.datasets import data_folder
from cggd.testing import check_metric
from cggd_scheduling import ScheduleError, cp_sat
from cggd_scheduling.jobshop import JobShop, read, schedule_jobs
from cggd_scheduling.jobshop.search import dispatched
from cggd_scheduling.jobshop.tabu import search


@st.composite
def shops(draw, jobs=3, operations=3, machines=3, least=0):
    duration = st.integers(least, 9)
    some = st.dictionaries(st.integers(0, machines - 1), duration, min_size=1, max_size=machines)
    return JobShop(draw(st.lists(st.lists(some, max_size=operations), min_size=1, max_size=jobs)))


def machine_graph(now):
    """Who waits for whom, as a networkx graph: the slow oracle."""
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(now.options)))
    graph.add_edges_from((op, then) for op, then in enumerate(now.next) if then >= 0)
    for ops in now.on:
        nx.add_path(graph, ops)
    return graph


def slow_heads_and_tails(now, without=-1):
    graph = machine_graph(now)
    duration = [now.options[op][now.machine[op]] if op != without else 0 for op in range(len(now.options))]
    heads, tails = {}, {}
    order = list(nx.topological_sort(graph))
    for op in order:
        heads[op] = max((heads[u] + duration[u] for u in graph.predecessors(op)), default=0)
    for op in reversed(order):
        tails[op] = max((tails[v] + duration[v] for v in graph.successors(op)), default=0)
    return [heads[op] for op in range(len(order))], [tails[op] for op in range(len(order))]


def drawn(shop, rng):
    """Sequences from a random choice of machines, and their order."""
    now = dispatched(shop, [rng.randrange(len(machines)) for machines in shop.operations.values()])
    return now, now.order(now.links())


# -- laws -------------------------------------------------------------------------------------------------------------


@given(shops(), st.randoms(use_true_random=False))
def test_heads_and_tails_with_an_operation_and_without_are_those_of_the_slow_graph(shop, rng):
    if not shop.operations:
        return
    now, order = drawn(shop, rng)
    links = now.links()
    assert now.heads_and_tails(order, links) == slow_heads_and_tails(now)
    op = rng.randrange(len(now.options))
    home, place = now.machine[op], now.take(op)
    assert now.heads_and_tails(order, links.without(op)) == slow_heads_and_tails(now, without=op)
    now.put(op, home, place)


@given(shops(least=1), st.randoms(use_true_random=False))
def test_every_place_is_feasible_its_length_is_the_longest_path_there_and_one_of_them_is_best(shop, rng):
    if not shop.operations:
        return
    now, order = drawn(shop, rng)
    op = rng.randrange(len(now.options))
    links = now.links()
    home, was = now.machine[op], now.take(op)
    found = list(now.places(op, *now.heads_and_tails(order, links.without(op))))
    lengths = {}
    for machine in now.options[op]:
        for place in range(len(now.on[machine]) + 1):
            now.put(op, machine, place)
            if nx.is_directed_acyclic_graph(machine_graph(now)):
                heads, tails = slow_heads_and_tails(now)
                lengths[machine, place] = heads[op] + now.options[op][machine] + tails[op]
            now.take(op)
    assert all((machine, place) in lengths for machine, place, _ in found)
    for machine, place, length in found:
        assert lengths[machine, place] <= length  # an estimate from above, exact where heads and tails do not change
    for machine in now.options[op]:
        best = min(value for (m, _), value in lengths.items() if m == machine)
        assert min(lengths[m, p] for m, p, _ in found if m == machine) == best
    now.put(op, home, was)


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
    now, _ = drawn(shop, random.Random(seed))
    found = list(search(now, random.Random(seed), moves=30, stop=lambda shortest: False))
    lengths = [length for length, _ in found]
    assert lengths == sorted(lengths, reverse=True)
    for length, best in found:
        heads, _ = slow_heads_and_tails(best)
        assert length == max(h + best.options[op][best.machine[op]] for op, h in enumerate(heads))


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
    assert missed.reason == "no schedule ends before 10; the deadline is 9"


def test_a_deadline_between_bound_and_optimum_is_refuted_by_cp_sat_alone(monkeypatch):
    shop = JobShop([[{0: 5}, {1: 5}], [{0: 5}, {1: 5}]])
    pytest.importorskip("ortools")
    refuted = schedule_jobs(shop, deadline=12)
    assert refuted.status is Status.INFEASIBLE
    assert "deadline of 12" in refuted.reason
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


def test_json_holds_one_shop_or_several_by_name(tmp_path):
    one = {"name": "p", "jobs": [[[["a", 2]], [["b", 1], ["a", 4]]]]}
    (tmp_path / "one.json").write_text(json.dumps(one))
    (tmp_path / "two.json").write_text(json.dumps({"p": one, "q": {"jobs": []}}))
    shop = read(tmp_path / "one.json")
    assert (shop.name, schedule_jobs(shop).makespan) == ("p", 3)
    assert read(tmp_path / "two.json", instance="p").jobs == shop.jobs


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
