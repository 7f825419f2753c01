import gzip
import json
import math
from itertools import combinations_with_replacement

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import Status
from cggd.datasets import data_folder
from cggd.program.highs import LinearProgram
from cggd.testing import check_expression, check_metric, check_state
from cggd_scheduling import ScheduleError
from cggd_scheduling.placement import Device, DeviceLoad, Operator, Placement, TransferPath, place, read, read_onnx
from cggd_scheduling.placement.segments import by_transfers, cut, drawn_order

BERT = "scheduling/placement_bert_l3.json.gz"


def needs(path):
    folder = data_folder()
    if folder is None or not (folder / path).exists():
        pytest.skip(f"needs the public data {path}; set CGGD_DATA")
    return folder / path


@st.composite
def placements(draw, most=7):
    """Small graphs on two or three devices, some operators together, some pinned."""
    n = draw(st.integers(1, most))
    devices = [Device("a", "fast", link=draw(st.sampled_from([0.5, 1.0]))), Device("b", "slow", link=0.0)]
    devices += [Device("c", "fast", memory=draw(st.sampled_from([3.0, 100.0])))][: draw(st.integers(0, 1))]
    number = st.integers(0, 9).map(float)
    operators = {}
    for i in range(n):
        kinds = draw(st.sampled_from([("fast", "slow"), ("fast", "slow"), ("fast",), ("slow",)]))
        operators[i] = Operator({kind: draw(number) for kind in kinds}, draw(st.integers(0, 2)), draw(number))
    pairs = [(u, v) for v in range(n) for u in range(v)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    colocate = [draw(st.lists(st.integers(0, n - 1), min_size=2, max_size=2))] if draw(st.booleans()) else []
    pins = {draw(st.integers(0, n - 1)): draw(st.sampled_from(["a", "b"]))} if draw(st.booleans()) else {}
    return Placement(operators, edges, devices, colocate, pins)


def diamond(**options):
    work = {name: Operator({"gpu": 2.0, "cpu": 6.0}, 1.0, 1.0) for name in "abcd"}
    edges = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]
    devices = [Device("gpu0", "gpu", 3.0), Device("gpu1", "gpu", 3.0), Device("cpu", link=0.0)]
    return Placement(work, edges, options.pop("devices", devices), **options)


# -- laws -------------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(placements(5))
def test_the_expression_of_the_load_is_the_load(problem):
    if not problem.conflicts():
        check_expression(problem.load, n=3)


@settings(max_examples=40)
@given(placements())
def test_the_metrics_keep_the_laws_and_loads_are_those_of_the_slow_loop(problem):
    if problem.conflicts():
        return
    load = DeviceLoad(problem)
    check_metric(load, n=5)
    check_metric(TransferPath(problem), n=5)
    for row in problem.space.sample(5, np.random.default_rng(0)):
        where = problem.operator_devices(problem.space.labels(row))
        fast = dict(zip((d.name for d in problem.devices), load.loads(row[None])[0], strict=True))
        assert fast == pytest.approx(problem.loads(where))


@settings(max_examples=40, deadline=None)
@given(placements(), st.integers(0, 99))
def test_moved_states_of_the_load_agree_with_the_metric_and_can_be_undone(problem, seed):
    if not problem.conflicts():
        check_state(problem.load, n=10, seed=seed)


@settings(max_examples=40, deadline=None)
@given(placements(), st.integers(0, 99))
def test_proposed_moves_take_clusters_that_transfers_tie_to_one_other_device(problem, seed):
    if problem.conflicts():
        return
    load, space = problem.load, problem.space
    selection = space.sample(1, np.random.default_rng(seed))[0]
    where = load.device_of[space.layout.flat(selection)]
    tied = nx.Graph(zip(*(ends.tolist() for ends in load.ties[:2]), strict=True))
    for switches in load.moves(selection):
        groups = [group for group, _ in switches]
        devices = {int(load.device_of[space.offsets[group] + option]) for group, option in switches}
        assert len(devices) == len({int(where[group]) for group in groups}) == 1
        assert devices != {int(where[groups[0]])}
        assert nx.is_connected(tied.subgraph(groups))


@given(placements(), st.integers(0, 99))
def test_orders_are_cut_into_pieces_with_the_least_largest_load(problem, seed):
    if problem.conflicts():
        return
    load, rng, n = problem.load, np.random.default_rng(seed), len(problem.groups)
    drawn = drawn_order(load, rng)
    for order in (drawn, by_transfers(load, drawn)):
        assert sorted(order.tolist()) == list(range(n))
        values = {}
        for cuts in combinations_with_replacement(range(n + 1), len(problem.devices) - 1):
            where = np.empty(n, dtype=int)
            where[order] = np.repeat(np.arange(len(problem.devices)), np.diff([0, *cuts, n]))
            chosen = load.option_on[np.arange(n), where]
            row = (chosen - problem.space.offsets[:-1])[None]
            if (chosen >= 0).all() and all(c.satisfied(c.values(row)).all() for c in problem.memory_limits):
                values[where.tobytes()] = load.evaluate(row)[0]
        found = cut(load, order)
        assert (found is None) == (not values)
        if found is not None:
            assert values[found.tobytes()] == pytest.approx(min(values.values()))


def test_a_chain_is_placed_in_its_best_pieces_before_any_search():
    rng = np.random.default_rng(0)
    chain = {n: Operator({"gpu": float(rng.integers(1, 9))}, 1.0, float(rng.integers(1, 9))) for n in range(60)}
    problem = Placement(chain, [(n, n + 1) for n in range(59)], [Device(f"gpu{d}", "gpu") for d in range(4)])
    best = cut(problem.load, np.arange(60))
    assert best is not None
    value = max(problem.loads({n: f"gpu{best[n]}" for n in range(60)}).values())
    assert place(problem, moves=0, exact=False).value <= value


@settings(max_examples=25)
@given(placements(), st.sampled_from(["load", "critical path"]))
def test_small_problems_are_solved_to_the_optimum_of_enumeration(problem, objective):
    schedule = place(problem, objective)
    if problem.conflicts():
        assert schedule.status is Status.INFEASIBLE
        assert schedule.reason
        return
    metric = DeviceLoad(problem) if objective == "load" else TransferPath(problem)
    rows = problem.space.enumerate()
    fits = np.all([c.satisfied(c.values(rows)) for c in problem.memory_limits] or [np.ones(len(rows), bool)], axis=0)
    if not fits.any():
        assert schedule.status is Status.INFEASIBLE
        return
    assert schedule.status is Status.OPTIMAL
    assert schedule.value == pytest.approx(metric.evaluate(rows[fits]).min())
    schedule.verify()
    assert schedule.makespan >= TransferPath(problem)({g[0]: schedule.modes[g[0]] for g in problem.groups}) - 1e-9


# -- examples ---------------------------------------------------------------------------------------------------------


def test_an_output_is_paid_once_for_each_device_that_needs_it():
    work = {name: Operator({"x": 1.0}, transfer=10.0) for name in "abc"}
    devices = [Device("0", "x"), Device("1", "x")]
    problem = Placement(work, [("a", "b"), ("a", "c")], devices)
    assert problem.loads({"a": "0", "b": "1", "c": "1"}) == {"0": 11.0, "1": 12.0}
    assert problem.loads({"a": "0", "b": "0", "c": "1"}) == {"0": 12.0, "1": 11.0}
    assert problem.loads(dict.fromkeys("abc", "0")) == {"0": 3.0, "1": 0.0}


@pytest.mark.parametrize("with_cp_sat", [True, False])
def test_the_search_and_the_exact_solvers_find_the_same(with_cp_sat, monkeypatch):
    work = {i: Operator({"x": float(1 + i % 5)}, 1.0, float(i % 3)) for i in range(18)}
    edges = [(i, j) for i in range(18) for j in (i + 1, i + 4) if j < 18]
    problem = Placement(work, edges, [Device(name, "x", 8.0) for name in "pqr"])
    monkeypatch.setattr("cggd_scheduling.placement.cp_sat.available", lambda: with_cp_sat)
    schedule = place(problem, seed=1)
    assert schedule.status is Status.OPTIMAL
    assert schedule.value == pytest.approx(place(problem, seed=2, exact=False).value)
    assert schedule.value == pytest.approx(max(problem.loads(schedule.modes).values()))


def test_the_same_seed_gives_the_same_placement():
    problem = Placement({i: Operator({"x": 1.0 + i}, 1.0, 0.5) for i in range(17)}, [(i, i + 1) for i in range(16)],
                        [Device(name, "x", 7.0) for name in "pqr"])  # fmt: skip
    first, second = (place(problem, seed=3, exact=False, moves=500) for _ in range(2))
    assert first.modes == second.modes


def test_without_room_for_all_the_memory_is_named():
    schedule = place(diamond(devices=[Device("gpu0", "gpu", 2.0), Device("gpu1", "gpu", 1.0)]))
    assert schedule.status is Status.INFEASIBLE
    assert schedule.reason == "all operators take 4, and all devices have 3"


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        (
            {"colocate": [["a", "b"]], "pins": {"a": "gpu0", "b": "cpu"}},
            "'a' (pinned to 'gpu0') and 'b' (pinned to 'cpu') must be on one device",
        ),
        ({"pins": dict.fromkeys("abcd", "gpu0")}, "must be on 'gpu0' and take 4, but it has 3"),
        ({"colocate": [["a", "b", "c", "d"]], "pins": {"a": ["gpu0", "gpu1"]}}, "take 4 together, and no device"),
    ],
)
def test_conflicting_pins_are_named(options, culprit):
    schedule = place(diamond(**options))
    assert schedule.status is Status.INFEASIBLE
    assert culprit in schedule.reason
    assert culprit in schedule.summary()


def test_an_operator_pinned_to_a_kind_that_it_does_not_run_on_is_named():
    problem = Placement({"a": Operator({"gpu": 1.0})}, [], [Device("gpu"), Device("cpu")], pins={"a": "cpu"})
    assert problem.conflicts() == ["'a' is pinned to 'cpu', but it runs on 'gpu' alone"]
    with pytest.raises(ValueError, match="'a' is pinned to 'cpu'"):
        _ = problem.space


def test_bins_that_sums_allow_but_no_packing_does_are_infeasible():
    work = {i: Operator({"x": 1.0}, 2.0) for i in range(3)}
    schedule = place(Placement(work, [], [Device("p", "x", 3.0), Device("q", "x", 3.0)]))
    assert schedule.status is Status.INFEASIBLE
    assert "no placement fits into the memory" in schedule.reason
    assert "all 8 selections were evaluated" in schedule.reason
    many = Placement({i: Operator({"x": 1.0}, 2.0) for i in range(16)}, [], [Device(n, "x", 11.0) for n in "pqr"])
    for objective in ("load", "critical path"):
        assert place(many, objective, moves=50).status is Status.INFEASIBLE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": [("a", "z")]}, "edges names 'z', which is no operator"),
        ({"edges": [("a", "b"), ("b", "a")]}, "wait for each other in a cycle"),
        ({"pins": {"a": "tpu"}}, "pins puts 'a' on 'tpu', which is no device"),
        ({"colocate": [["a", "q"]]}, "colocate names 'q'"),
        ({"devices": []}, "needs operators and devices"),
        ({"devices": [Device("x"), Device("x")]}, "different names"),
        ({"devices": [Device("fpga")]}, "operator 'a' runs on 'gpu', and the devices are 'fpga'"),
    ],
)
def test_wrong_problems_are_errors_that_name_what_is_wrong(change, message):
    given_ = {"operators": {n: Operator({"gpu": 1.0}) for n in "ab"}, "edges": [], "devices": [Device("gpu")]} | change
    with pytest.raises(ValueError, match=message):
        Placement(**given_)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Device("x", memory=-1), "memory of 'x' must be at least 0, got -1"),
        (lambda: Device(""), "name of a device"),
        (lambda: Device("x", link=math.nan), "link of device 'x'"),
        (lambda: Operator({}), "times must map kinds"),
        (lambda: Operator({"x": -1.0}), "time on 'x' must be at least 0"),
        (lambda: place(diamond(), "latency"), "objective must be one of 'load', 'critical path', got 'latency'"),
        (lambda: place(diamond(), time_limit=0), "time_limit must be more than 0"),
        (lambda: place(diamond(), moves=-1), "moves must be at least 0"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_placement_is_read_from_json(tmp_path):
    data = {
        "format": "cggd-placement-1",
        "unit": "ms",
        "devices": [{"name": "g", "memory": 2}, {"name": "h", "kind": "g"}],
        "operators": [{"name": n, "times": {"g": 1.5}, "memory": 1, "transfer": 0.5} for n in ("a", "b", "c")],
        "edges": [["a", "b"], ["b", "c"]],
        "colocate": [["a", "b"]],
        "pins": {"c": "h"},
    }
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(data))
    schedule = place(read(file))
    assert schedule.modes == {"a": "g", "b": "g", "c": "h"}
    assert schedule.value == 3.5
    with pytest.raises(ScheduleError, match="memory of g"):
        type(schedule)(schedule.requirements, {"a": 0, "b": 2, "c": 4}, dict.fromkeys("abc", "g")).verify()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "expected an object"),
        ("{}", 'expected "format": "cggd-placement-1"'),
        ("{", "Expecting property name"),
        ('{"format": "cggd-placement-1", "operators": []}', "an entry 'edges' is missing"),
        (
            '{"format": "cggd-placement-1", "devices": [{"name": "g"}], "edges": [], "operators": [{"name": "a"}]}',
            "operator 'a' has no times",
        ),
    ],
)
def test_wrong_files_are_errors_that_name_the_file(tmp_path, text, message):
    file = tmp_path / "wrong.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read(file)
    assert str(file) in str(error.value)


def test_the_benchmarks_own_form_is_read_too(tmp_path):
    node = {"supportedOnFpga": 1, "cpuLatency": 9.0, "fpgaLatency": 1.0, "isBackwardNode": 0, "size": 4.0}
    data = {
        "maxSizePerFPGA": 6.0,
        "maxFPGAs": 2,
        "maxCPUs": 1,
        "nodes": [node | {"id": i, "colorClass": colour} for i, colour in enumerate((7, 7, -1))][:3],
        "edges": [{"sourceId": 0, "destId": 2, "cost": 0.25, "size": 4.0}],
    }
    file = tmp_path / "graph.json.gz"
    file.write_bytes(gzip.compress(json.dumps(data).encode()))
    problem = read(file)
    assert problem.groups == [[0, 1], [2]]
    assert [device.name for device in problem.devices] == ["acc0", "acc1", "cpu0"]
    assert problem.possible([0, 1])[0].name == "cpu0"  # 8 do not fit into 6
    assert problem.loads({0: "cpu0", 1: "cpu0", 2: "acc0"}) == {"acc0": 1.25, "acc1": 0.0, "cpu0": 18.0}


def test_onnx_models_are_read(tmp_path):
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = helper.make_tensor("w", kind, [4, 8], [0.0] * 32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="matmul"),
        helper.make_node("Relu", ["h"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, kind, [2, size]) for n, size in (("x", 4), ("y", 8))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    file = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph), str(file))
    problem = read_onnx(
        file, [Device("cpu")], lambda node: {"cpu": 1.0 if node.op_type == "Relu" else 3.0}, bandwidth=64
    )
    assert problem.edges == (("matmul", "Relu_1"),)
    assert problem.operators["matmul"] == Operator({"cpu": 3.0}, memory=4 * 32 + 4 * 16, transfer=1.0)


# -- the public instance ----------------------------------------------------------------------------------------------


def test_bert_is_placed_near_the_optimum_by_the_search_alone():
    problem = read(needs(BERT))
    schedule = place(problem, seed=0, exact=False)
    assert schedule.value <= 22.0
    assert schedule.value >= 21.908
    check_metric(DeviceLoad(problem), n=2)


@pytest.mark.slow
def test_the_core_bounds_the_load_of_bert():
    problem = read(needs(BERT))
    solution = LinearProgram(problem.space, problem.memory_limits, problem.load, ceiling=21.9084).solve()
    assert 21.90837 <= solution.bound <= 21.908377
    assert problem.load(solution.selection) == pytest.approx(21.908376, rel=1e-5)


@pytest.mark.slow
def test_bert_is_placed_optimally_and_proved():
    problem = read(needs(BERT))
    schedule = place(problem, time_limit=60.0)
    assert schedule.status is Status.OPTIMAL
    assert schedule.value == pytest.approx(21.908376, abs=1e-5)


def test_an_interrupted_search_returns_the_best_until_then(monkeypatch):
    work = {i: Operator({"x": float(1 + i % 5)}, 1.0, float(i % 3)) for i in range(18)}
    problem = Placement(work, [(i, i + 1) for i in range(17)], [Device(name, "x", 8.0) for name in "pqr"])

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("cggd_scheduling.placement.search.CpSat.improve", interrupted)
    schedule = place(problem)
    assert (schedule.reason, schedule.status) == ("interrupted", Status.FEASIBLE)
    assert schedule.verify().value == pytest.approx(max(problem.loads(schedule.modes).values()))


@pytest.mark.parametrize("how", ["pinned", "together", "alone"])
def test_memory_that_is_exactly_full_is_enough_whatever_rounding_adds(how):
    assert 0.1 + 0.1 + 0.1 > 0.3
    work = {name: Operator({"g": 1}, memory=0.1) for name in "abc"}
    devices = [Device("g", memory=0.3)] + ([Device("h", "g", memory=0)] if how != "alone" else [])
    options = {"pinned": {"pins": dict.fromkeys("abc", "g")}, "together": {"colocate": ["abc"]}, "alone": {}}[how]
    schedule = place(Placement(work, [], devices, **options))
    assert (schedule.value, schedule.status) == (3, Status.OPTIMAL)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda a, g: Placement({"a": {"g": 1}}, [], [g]), "operator 'a' must be an Operator, got"),
        (lambda a, g: Placement([a], [], [g]), "operators must map names to Operator, got list"),
        (lambda a, g: Placement({"a": a}, [], ["g"]), "devices must be a sequence of Device, got 'g'"),
        (lambda a, g: Placement({"a": a}, [], [g], pins={"a": []}), "pins must give 'a' the name of a device"),
        (lambda a, g: Placement({"a": a}, [], [g], pins={"a": 0}), "pins must give 'a' the name of a device"),
    ],
)
def test_arguments_of_the_wrong_kind_are_named(make, words):
    with pytest.raises((TypeError, ValueError), match=words):
        make(Operator({"g": 1}), Device("g"))
