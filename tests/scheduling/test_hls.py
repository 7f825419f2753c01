import csv
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
from cggd_scheduling.hls import DataFlowGraph, FunctionalUnit, Synthesis, UnitLibrary, read, read_library, synthesize
from cggd_scheduling.hls.binding import Binding
from cggd_scheduling.hls.clock import Clock
from cggd_scheduling.hls.list_scheduler import ListScheduler

LIBRARY = UnitLibrary(
    [
        FunctionalUnit("MUL", 100, 10, 46),
        FunctionalUnit("MUL", 41, 20, 23),
        FunctionalUnit("ADD", 10, 1, 15),
        FunctionalUnit("ADD", 4, 3, 16),
    ]
)


def scheduling_folder():
    folder = data_folder()
    if folder is None or not (folder / "scheduling" / "hls_dfgs.json").exists():
        pytest.skip("needs the public data scheduling/hls_dfgs.json; set CGGD_DATA")
    return folder / "scheduling"


@st.composite
def graphs(draw, most=6):
    n = draw(st.integers(1, most))
    kinds = draw(st.lists(st.sampled_from(["MUL", "ADD"]), min_size=n, max_size=n))
    pairs = [(u, v) for v in range(n) for u in range(v)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    return DataFlowGraph(dict(enumerate(kinds)), edges)


@st.composite
def problems(draw, most=6):
    clock, chain = draw(st.sampled_from([(None, False), (4, False), (4, True), (12, True)]))
    return Synthesis(draw(graphs(most)), LIBRARY, clock, chain)


def slow_latency(problem, unit):
    """Latency with a copy each, operation by operation in floats; times within a period are counted from its start."""
    period, ends = problem.clock, {}
    for op in problem.order:
        ready = max((ends[u] for u in problem.graph.graph.predecessors(op)), default=0)
        delay = problem.unit[unit[op]].delay
        if problem.chain:
            left = period - ready % period
            ready = ready if delay <= left or ready % period == 0 else ready + left
        elif period is not None:
            delay = period * -(-delay // period)
        ends[op] = ready + delay
    last = max(ends.values())
    return period * -(-last // period) if problem.chain else last


# -- laws -------------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(problems())
def test_latency_keeps_the_laws_of_metrics_and_is_that_of_the_slow_loop(problem):
    check_metric(problem.latency, n=3)
    for row in problem.space.sample(4, np.random.default_rng(0)):
        unit = problem.space.labels(row)
        assert problem.latency(row) == pytest.approx(slow_latency(problem, unit))


@settings(max_examples=25)
@given(problems(most=5), st.integers(0, 40), st.sampled_from(["area", "power"]))
def test_units_without_sharing_are_those_of_enumeration(problem, slack, objective):
    latency = problem.least_latency + slack
    schedule = synthesize(problem, objective, latency=latency, share=False)
    rows = problem.space.enumerate()
    fits = problem.latency.evaluate(rows) <= latency
    assert schedule.value == pytest.approx(problem.total(objective).evaluate(rows[fits]).min())
    assert schedule.facts["latency"] <= latency
    if not problem.chain:
        assert schedule.status is Status.OPTIMAL


@given(problems(), st.integers(0, 60), st.integers(0, 3), st.randoms(use_true_random=False))
def test_what_the_list_scheduler_returns_meets_deadline_copies_and_clock(problem, slack, most, rng):
    latency = problem.timing.end(problem.least_latency + slack)
    copies = {name: rng.randint(0, 1 + most) for name in problem.unit}
    listed = ListScheduler(problem, random.Random(0), tries=3).fit(copies, latency, math.inf)
    if listed is None:
        return
    found = Binding(problem, listed)
    assert found.latency <= latency
    assert all(n <= copies[name] for name, n in found.copies.items())
    assert found.clock_violations() == []
    assert found.power == pytest.approx(listed.power)


def least_shared_area(problem, latency):
    """By all starts and units of all operations: the least area of what runs at once."""
    ops, best = problem.order, math.inf
    choices = [[(u, t) for u in problem.units[op] for t in range(latency - problem.delay(u) + 1)] for op in ops]
    for choice in product(*choices):
        at = dict(zip(ops, choice, strict=True))
        if any(at[v][1] < at[u][1] + at[u][0].delay for u, v in problem.graph.edges):
            continue
        copies = {}
        for moment in {t for _, t in choice}:
            running = [u.name for u, t in choice if t <= moment < t + u.delay]
            copies |= {name: max(copies.get(name, 0), running.count(name)) for name in set(running)}
        best = min(best, problem.area(copies))
    return best


TINY = UnitLibrary([FunctionalUnit("MUL", 5, 1), FunctionalUnit("MUL", 3, 2), FunctionalUnit("ADD", 2, 1)])


@settings(max_examples=25)
@given(graphs(most=4), st.integers(0, 2))
def test_sharing_finds_the_least_area_of_enumeration_and_proves_it(graph, slack):
    problem = Synthesis(graph, TINY)
    latency = problem.least_latency + slack
    schedule = synthesize(problem, latency=latency)
    assert schedule.value == least_shared_area(problem, latency)
    assert schedule.status is Status.OPTIMAL
    assert schedule.verify().makespan <= latency
    if schedule.facts["copies"].startswith("2"):
        name = schedule.facts["copies"][2:].split(",")[0]
        fewer = synthesize(problem, latency=latency, copies={name: 1})
        assert fewer.status in (Status.OPTIMAL, Status.INFEASIBLE)
        assert not fewer.feasible or fewer.value >= schedule.value
        assert not fewer.feasible or f"2 {name}" not in fewer.facts["copies"]


@settings(max_examples=15)
@given(problems(most=5), st.integers(0, 40))
def test_a_bound_is_never_above_what_a_schedule_has_and_more_time_never_costs_area(problem, slack):
    latency = problem.least_latency + slack
    schedule, later = (synthesize(problem, latency=bound, time_limit=20.0) for bound in (latency, latency + 30))
    assert schedule.bound <= schedule.value
    assert later.bound <= schedule.value
    assert schedule.facts["area"] == problem.area(dict(schedule.requirements.capacities))


# -- examples ---------------------------------------------------------------------------------------------------------


def dot(n=4, **options):
    """A sum of products."""
    operations = {f"p{i}": "MUL" for i in range(n)} | {f"s{i}": "ADD" for i in range(1, n)}
    edges = [(f"p{i}", f"s{i}") for i in range(1, n)] + [(f"s{i}", f"s{i + 1}") for i in range(1, n - 1)]
    return Synthesis(DataFlowGraph(operations, [*edges, ("p0", "s1")]), LIBRARY, **options)


def test_shared_copies_cost_less_than_one_each():
    problem = dot()
    assert synthesize(problem, latency=30, share=False).value == 4 * 41 + 3 * 4
    schedule = synthesize(problem, latency=46)
    assert schedule.value == 41 * 2 + 4
    assert set(schedule.lanes.values()) == {"MUL@20 #1", "MUL@20 #2", "ADD@3 #1"}
    schedule.verify()


def test_a_latency_that_no_units_meet_is_named_with_the_least_and_the_path():
    problem = dot()
    assert problem.least_latency == 13
    schedule = synthesize(problem, latency=12)
    assert schedule.status is Status.INFEASIBLE
    assert schedule.reason == "latency 12 cannot be met: the fastest units take 13, along 'p0', 's1', 's2', 's3'"
    assert synthesize(problem, latency=13).feasible


def test_latency_under_area_is_the_other_way_round():
    problem = dot()
    for area in (45, 86, 110, 250):
        found = synthesize(problem, "latency", area=area)
        assert found.facts["area"] <= area
        assert synthesize(problem, latency=found.value).value <= area
    assert synthesize(problem, "latency", area=44).status is Status.INFEASIBLE


def test_power_and_area_bound_each_other():
    problem = dot()
    free = synthesize(problem, "power", latency=42)
    assert (free.value, free.status) == (4 * 23 + 3 * 15, Status.OPTIMAL)
    tight = synthesize(problem, "power", latency=42, area=100)
    assert tight.facts["area"] <= 100
    assert tight.value >= free.value
    assert synthesize(problem, "area", latency=42, power=free.value - 1).status is Status.INFEASIBLE
    assert synthesize(problem, "area", latency=42, power=free.value).facts["power"] == free.value


def test_chained_operations_share_a_period_and_no_copy_is_used_twice_in_one():
    operations = dict.fromkeys("abc", "ADD")
    chain = DataFlowGraph(operations, [("a", "b"), ("b", "c")])
    library = UnitLibrary([FunctionalUnit("ADD", 1, 3)])
    assert Synthesis(chain, library, clock=10).least_latency == 30
    chained = Synthesis(chain, library, clock=10, chain=True)
    assert chained.least_latency == 10
    assert synthesize(chained, latency=10).value == 3  # one copy each, as all run in one period
    assert synthesize(chained, latency=30).value == 1
    assert [synthesize(chained, latency=30).start[op] for op in "abc"] in ([0, 10, 20], [0, 10.0, 20.0])


@pytest.mark.parametrize(
    ("ready", "taken", "start"), [(0, 3, 0), (3, 3, 3), (9, 3, 10), (7, 3, 7), (3, 12, 10), (20, 12, 20)]
)
def test_when_an_operation_starts_within_a_period(ready, taken, start):
    assert Clock(10, chain=True).start(ready, taken) == start


def test_an_empty_graph_takes_nothing_and_one_operation_its_unit():
    empty = Synthesis(DataFlowGraph({}), LIBRARY)
    assert synthesize(empty, latency=0).status is Status.OPTIMAL
    assert synthesize(empty).makespan == 0
    one = Synthesis(DataFlowGraph({"a": "ADD"}), LIBRARY)
    assert (synthesize(one, latency=1).value, synthesize(one, latency=3).value) == (10, 4)


def test_operations_that_take_no_time_need_a_unit_all_the_same():
    library = UnitLibrary([FunctionalUnit("IN", 2, 0)])
    schedule = synthesize(Synthesis(DataFlowGraph({"a": "IN", "b": "IN"}, [("a", "b")]), library), latency=0)
    assert (schedule.makespan, schedule.feasible) == (0, True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DataFlowGraph({"a": "ADD"}, [("a", "z")]), r"edge \('a', 'z'\) names no operation 'z'"),
        (lambda: DataFlowGraph(dict.fromkeys("ab", "ADD"), [("a", "b"), ("b", "a")]), "need each other in a cycle"),
        (lambda: DataFlowGraph({"a": ""}), "the kind of operation 'a' must be a word"),
        (lambda: FunctionalUnit("ADD", -1, 1), "area of unit 'ADD@1' must be at least 0, got -1"),
        (lambda: UnitLibrary([FunctionalUnit("ADD", 1, 1), FunctionalUnit("ADD", 2, 1)]), "two units are called"),
        (lambda: UnitLibrary.from_rows([{"op": "ADD", "area": 1}]), "row 0 of the library has no delay"),
        (lambda: Synthesis(DataFlowGraph({"a": "DIV"}), LIBRARY), "no unit carries out 'DIV', which operation 'a'"),
        (lambda: dot(clock=0), "clock must be a period of more than 0"),
        (lambda: dot(chain=True), "chain=True needs clock"),
        (lambda: synthesize(dot(), "speed"), "objective must be one of"),
        (lambda: synthesize(dot(), latency=math.nan), "latency must be a number, got nan"),
        (lambda: synthesize(dot(), time_limit=-1), "time_limit must be more than 0"),
    ],
)
def test_wrong_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# -- files ------------------------------------------------------------------------------------------------------------


def rows():
    return [{"op": u.kind, "area": u.area, "delay": u.delay, "power": u.power} for u in LIBRARY.units]


def test_graphs_are_read_from_json_graphml_and_dot(tmp_path):
    pytest.importorskip("pydot")
    (tmp_path / "units.json").write_text(json.dumps({"library": rows()}))
    (tmp_path / "g.json").write_text(
        json.dumps({"library": rows(), "nodes": {"a": "MUL", "b": "ADD"}, "edges": [["a", "b"]]})
    )
    graph = nx.DiGraph()
    graph.add_node("a", op="MUL")
    graph.add_node("b", op="ADD")
    graph.add_edge("a", "b")
    nx.write_graphml(graph, tmp_path / "g.graphml")
    (tmp_path / "g.dot").write_text('digraph g { a [label="MUL"]; b [kind=ADD, label="sum"]; a -> b; }')
    for name in ("g.json", "g.graphml", "g.dot"):
        problem = read(tmp_path / name, library=None if name == "g.json" else tmp_path / "units.json")
        assert problem.graph.operations == {"a": "MUL", "b": "ADD"}, name
        assert problem.graph.edges == (("a", "b"),)
        assert synthesize(problem, latency=11).value == 110
    assert len(read_library(tmp_path / "units.json").units) == 4


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.json", "{", "Expecting property name"),
        ("x.json", "[]", 'expected an object with "nodes"'),
        ("x.json", '{"nodes": {"a": "ADD"}}', "it holds no units; give library"),
        ("x.json", '{"dfgs": {"a": {}, "b": {}}}', "it holds 2 graphs; say which: 'a', 'b'"),
        ("x.graphml", "<graphml", "no element found|unclosed token|not well-formed"),
        ("x.dot", "digraph { a -> b }", "node 'a' has no kind|it holds no units|no operation"),
        ("x.txt", "", "expected a file that ends in .json"),
    ],
)
def test_wrong_files_are_errors_that_name_the_file(tmp_path, name, text, message):
    if name.endswith(".dot"):
        pytest.importorskip("pydot")
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path / name)
    assert name in str(error.value)


# -- the public graphs ------------------------------------------------------------------------------------------------


def optima():
    with (scheduling_folder() / "hls_optima.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["arf", "ewf", "fir", "jpeg_fdct_islow_dfg__6", "matmul_dfg__3"])
def test_the_known_optima_are_found_and_proved(name):
    problem = read(scheduling_folder() / "hls_dfgs.json", graph=name)
    for row in (row for row in optima() if row["dfg"] == name):
        schedule = synthesize(problem, row["objective"], latency=int(row["latency_bound"]), share=False)
        known = float(row["optimum"])
        if (name, row["latency_bound"], row["objective"]) == ("ewf", "69", "area"):
            # The table has 705, a value of 705.9999 that was cut off: 26 adders of 10 or 21 and 8 multipliers of 100 or
            # 41 (the one of 21 takes 100) make 588 + 11 a + 59 m, which is 706 for a = 0, m = 2, and never 705.
            assert 705 not in {588 + 11 * a + 59 * m for a in range(27) for m in range(9)}
            known = 706.0
        assert (schedule.value, schedule.status) == (known, Status.OPTIMAL), row
    tight = synthesize(problem, latency=problem.least_latency - 1, share=False)
    assert tight.status is Status.INFEASIBLE
    assert problem.least_latency == int(row["min_latency"])


def test_a_known_optimum_of_sharing():
    problem = read(scheduling_folder() / "hls_dfgs.json", graph="arf")
    schedule = synthesize(problem, latency=35)
    assert (schedule.value, schedule.status) == (561, Status.OPTIMAL)  # CP-SAT proves the same


def test_an_interrupted_search_returns_the_best_until_then(monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("cggd_scheduling.hls.search.improve", interrupted)
    operations = {f"m{i}": "MUL" for i in range(7)} | {f"a{i}": "ADD" for i in range(7)}
    graph = DataFlowGraph(operations, [(f"m{i}", f"a{(3 * i) % 7}") for i in range(7)] + [("a0", "m1"), ("a2", "m5")])
    problem = Synthesis(graph, LIBRARY)
    schedule = synthesize(problem, latency=31)
    assert (schedule.reason, schedule.status) == ("interrupted", Status.FEASIBLE)
    assert schedule.bound < schedule.verify().value


def test_groups_clusters_defaults_and_ports_of_dot_are_read(tmp_path):
    pytest.importorskip("pydot")
    (tmp_path / "g.dot").write_text(
        'digraph "g" { node [kind=ADD]; subgraph cluster_p { node [kind=MUL]; p; q; p -> q }\n'
        ' {p; r [kind=MUL]} -> s -> t; "u:1":n -> t:w; {p {q}} -> v [color=red] }\n'
    )
    graph = read(tmp_path / "g.dot", library=LIBRARY).graph
    assert graph.operations == {"p": "MUL", "q": "MUL", "r": "MUL"} | dict.fromkeys(["s", "t", "u:1", "v"], "ADD")
    assert set(graph.edges) == {*map(tuple, ("pq", "ps", "rs", "st", "pv", "qv")), ("u:1", "t")}


@pytest.mark.parametrize("name", ["g.dot", "g.graphml"])
def test_edges_without_direction_are_errors(tmp_path, name):
    pytest.importorskip("pydot")
    if name == "g.dot":
        (tmp_path / name).write_text("graph { a [kind=ADD]; b [kind=ADD]; a -- b }")
    else:
        nx.write_graphml(nx.Graph([("a", "b")]), tmp_path / name)
    with pytest.raises(ValueError, match=f"{name}: its edges have no direction"):
        read(tmp_path / name, library=LIBRARY)


@pytest.mark.parametrize(
    ("objective", "bounds", "words"),
    [
        ("latency", {"area": 44}, "area <= 44; the others ask for area 45 at the least"),
        ("area", {"latency": 42, "power": 136}, "power <= 136; the others ask for power 137 at the least"),
        ("power", {"latency": 42, "area": 44}, "area <= 44; the others ask for area"),
        ("area", {"area": -1}, "area <= -1; the others ask for area 45 at the least"),
    ],
)
def test_bounds_that_cannot_be_met_are_named_with_what_is_needed(objective, bounds, words):
    answer = synthesize(dot(), objective, **bounds)
    assert answer.status is Status.INFEASIBLE
    assert words in answer.reason


def test_bounds_of_units_without_sharing_are_diagnosed():
    answer = synthesize(dot(), "power", latency=42, area=1, share=False)
    assert answer.status is Status.INFEASIBLE
    assert "area <= 1" in answer.reason
    assert "what would work" in answer.reason


@pytest.mark.parametrize("bounds", [{"latency": -1}, {"area": -1}, {"power": -1}])
def test_nothing_to_build_does_not_meet_a_bound_below_nothing(bounds):
    assert synthesize(Synthesis(DataFlowGraph({}), LIBRARY), **bounds).status is Status.INFEASIBLE


def test_delays_of_any_size_are_scheduled_in_little_memory():
    library = UnitLibrary([FunctionalUnit("MUL", 10, 10**15)])
    problem = Synthesis(DataFlowGraph({"a": "MUL", "b": "MUL"}), library)
    assert synthesize(problem, latency=10**16).value == 10
    assert synthesize(problem, latency=10**15).value == 20
    assert synthesize(problem, latency=10**15 - 1).status is Status.INFEASIBLE
