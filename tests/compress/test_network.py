"""Pieces of a model, and what stands in their places."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from cggd_compress.answer import KEEP
from cggd_compress.choices import choices_of
from cggd_compress.network import MICROSOFT, Network, read_model
from cggd_compress.options import Option, blocks, default_options, low_rank, unpacked
from cggd_compress.runtime import Clock, Runtime
from cggd_compress.workload import trace, workload
from tests.compress.models import network

RUNTIME = Runtime()
FEED = [{"tokens": np.random.default_rng(2).integers(0, 100, (5, 6))}]
RANGES = trace(network().SerializeToString(), FEED[:1]).ranges
OPTIONS = default_options(fast=True, ranges=RANGES)
CHOICES = choices_of(Network(network()), OPTIONS, RUNTIME)


def outputs(data):
    return RUNTIME.outputs(RUNTIME.session(data), FEED)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_size_of_any_selection_is_the_length_of_its_file(data):
    space = CHOICES.space
    labels = {d: data.draw(st.sampled_from(space.option_labels(d))) for d in space.decisions}
    file = CHOICES.file(labels)
    assert CHOICES.size(labels) == len(file)
    onnx.checker.check_model(onnx.load_from_string(file))
    assert all(np.isfinite(rows).all() for rows in outputs(file).values())


def test_a_model_that_keeps_every_weight_computes_the_same():
    kept = outputs(CHOICES.file(dict.fromkeys(CHOICES.space.decisions, KEEP)))
    for name, rows in outputs(network().SerializeToString()).items():
        np.testing.assert_array_equal(kept[name], rows)


def test_tied_weights_are_one_decision_and_equal_ones_become_tied():
    assert "embed.weight" in CHOICES.space.decisions
    twice = network(tied=False)
    tensor = onnx.TensorProto()
    tensor.CopyFrom(twice.graph.initializer[1])
    tensor.name = "copy"
    twice.graph.initializer.append(tensor)
    twice.graph.node.insert(3, helper.make_node("Conv", ["mixed", "copy"], ["again"], pads=[1, 1]))
    twice.graph.node[4].input[0] = "again"
    before = outputs(twice.SerializeToString())
    small = Network(twice)
    assert "copy" not in small.parts
    np.testing.assert_array_equal(outputs(small.assemble({}))["scores"], before["scores"])


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_is_near_the_weight(option):
    """The product with each format is what numpy computes with the format undone, or nearly the original's."""
    found = {d for d in CHOICES.space.decisions if option.name in CHOICES.space.option_labels(d)}
    assert found
    reference = outputs(network().SerializeToString())["scores"]
    for decision in found:
        labels = dict.fromkeys(CHOICES.space.decisions, KEEP) | {decision: option.name}
        error = np.abs(outputs(CHOICES.file(labels))["scores"] - reference).mean() / np.abs(reference).mean()
        # Low-rank factors of random matrices lose most of them.
        assert error < {16: 1e-3, 8: 0.03, 4: 0.3, 2: 1.5}[option.bits] or option.name.startswith("rank")


@pytest.mark.parametrize("name", ["half", "table", "scaled"])
def test_a_weight_may_be_called_like_a_value_inside_its_formats(name):
    model = network()
    for tensor in model.graph.initializer:
        tensor.name = name if tensor.name == "up.weight" else tensor.name
    for node in model.graph.node:
        node.input[:] = [name if one == "up.weight" else one for one in node.input]
    made = choices_of(Network(model), OPTIONS, RUNTIME)
    assert not made.refused
    for option in made.space.option_labels(name):
        labels = dict.fromkeys(made.space.decisions, KEEP)
        same = {**dict.fromkeys(CHOICES.space.decisions, KEEP), "up.weight": option}
        file = made.file({**labels, name: option})
        np.testing.assert_array_equal(outputs(file)["scores"], outputs(CHOICES.file(same))["scores"])


@pytest.mark.parametrize("columns", [33, 64])
def test_a_table_that_is_only_looked_up_stays_packed(columns):
    """The runtime unpacks the rows that are looked up, and memory is that of the packed table."""
    table = np.random.default_rng(3).standard_normal((50, columns)).astype(np.float32)
    value = [helper.make_tensor_value_info(n, k, ["n", *s]) for n, k, s in (("i", 7, []), ("y", 1, [columns]))]
    node = helper.make_node("Gather", ["table", "i"], ["y"])
    graph = helper.make_graph([node], "g", value[:1], value[1:], [numpy_helper.from_array(table, "table")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    feed = [{"i": np.array([3, 49, 0, 3])}]
    small = Network(model)
    seen = trace(small.assemble({}), feed)
    made = choices_of(small, default_options(fast=True), RUNTIME)
    file, plain = (made.file({"table": name}) for name in ("4 bit/32", "4 bit/32 unpacked"))
    assert "GatherBlockQuantized" in {node.op_type for node in onnx.load_from_string(file).graph.node}
    rows, same = (RUNTIME.outputs(RUNTIME.session(data), feed)["y"] for data in (file, plain))
    np.testing.assert_allclose(rows, table[feed[0]["i"]], atol=np.ptp(table) / 15)
    np.testing.assert_allclose(rows, same, atol=2e-3)
    memory = workload(made, seen)["memory"]
    assert memory({"table": "4 bit/32"}) < 0.4 * memory({"table": "4 bit/32 unpacked"})
    assert made.size({"table": "4 bit/32"}) == len(file)


@settings(max_examples=20, deadline=None)
@given(
    shape=st.lists(st.integers(1, 40), min_size=2, max_size=4).map(tuple),
    bits=st.sampled_from([2, 4, 8]),
    block=st.sampled_from([16, 32, 128]),
)
def test_unpacked_weights_are_within_half_a_step(shape, bits, block):
    """Whatever the shape: a number and its format differ by at most half a step of its block, and rounding."""
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    weight = numpy_helper.from_array(array, "w")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "add",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    small = Network(helper.make_model(graph, opset_imports=opsets, ir_version=8), least=1)
    fragment = small.fragment("w", unpacked(small.parts["w"], bits=bits, block=block), "p")
    session = RUNTIME.session(small.assemble({"w": fragment}))
    found = session.run(None, {"x": np.zeros(shape, dtype=np.float32)})[0]
    rows = array.reshape(shape[0], -1)
    span = np.maximum(rows.max(axis=1), 0) - np.minimum(rows.min(axis=1), 0)
    step = (span / (2**bits - 1)).reshape(-1, *[1] * (len(shape) - 1))
    # The zero point is rounded as well, which moves what is near the ends by up to a step.
    assert (np.abs(found - array) <= 1.01 * step + 2e-3 * np.abs(array) + 2e-3 * span.max()).all()


def test_a_weight_in_a_branch_is_stored_and_not_replaced():
    """An If whose branches use a weight of the graph around them."""
    weight = numpy_helper.from_array(np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32), "w")

    def branch(name, operator):
        node = helper.make_node(operator, ["x", "w"], [name])
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])

    node = helper.make_node("If", ["flag"], ["y"], then_branch=branch("a", "MatMul"), else_branch=branch("b", "Add"))
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [32, 32]),
        helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
    ]
    graph = helper.make_graph(
        [node], "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], [weight]
    )
    small = Network(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    part = small.parts["w"]
    assert part.places == ()
    file = small.assemble({"w": small.fragment("w", blocks(part, bits=8, block=32), "p")})
    x = np.eye(32, dtype=np.float32)
    for flag, expected in ((True, part.array), (False, x + part.array)):
        found = RUNTIME.session(file).run(None, {"x": x, "flag": np.array(flag)})[0]
        assert np.abs(found - expected).max() < 0.05


def test_notes_of_exporters_are_removed():
    noted = network()
    for node in noted.graph.node:
        node.metadata_props.append(onnx.StringStringEntryProto(key="stack", value="line\n" * 200))
    assert len(Network(noted).assemble({})) <= len(Network(network()).assemble({}))


def test_two_weights_of_one_node_are_not_replaced_twice():
    arrays = [numpy_helper.from_array(np.ones((32, 32), dtype=np.float32) * i, f"w{i}") for i in (1, 2)]
    nodes = [helper.make_node("MatMul", ["w1", "w2"], ["p"]), helper.make_node("Add", ["x", "p"], ["y"])]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [32, 32])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [value], [result], arrays)
    small = Network(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    assert [part.places for part in small.parts.values()] == [(), ()]
    assert low_rank(small.parts["w1"], share=0.5) is None


def test_what_a_replacement_lacks_is_told():
    small = Network(network())
    part = small.parts["up.weight"]
    with pytest.raises(ValueError, match=r"does not compute"):
        small.fragment("up.weight", part.stored([helper.make_node("Cast", ["a"], ["b"], to=1)], []), "p")
    foreign = onnx.ModelProto()
    foreign.CopyFrom(part.model)
    foreign.graph.node[0].input[0] = "elsewhere"
    with pytest.raises(ValueError, match="uses elsewhere"):
        small.fragment("up.weight", foreign, "p")
    foreign.CopyFrom(part.model)
    foreign.opset_import[0].version = 21
    with pytest.raises(ValueError, match="needs operators of version 21"):
        small.fragment("up.weight", foreign, "p")


def test_what_the_runtime_cannot_run_is_refused_once():
    def strange(part):
        node = helper.make_node("NoSuchOperator", ["q"], [part.name], domain=MICROSOFT)
        return part.stored([node], [numpy_helper.from_array(part.array.astype(np.float16), "q")])

    def failing(part):
        raise ZeroDivisionError("by zero")

    options = [Option("strange", 16, strange), Option("failing", 16, failing)]
    found = choices_of(Network(network()), options, RUNTIME)
    assert all(list(found.space.option_labels(d)) == [KEEP] for d in found.space.decisions)
    assert "NoSuchOperator" in found.refused["up.weight", "strange"]
    assert "ZeroDivisionError" in found.refused["up.weight", "failing"]


def test_a_missing_package_is_an_error_and_no_refusal():
    def incomplete(part):
        raise ImportError("needs no_such_package")

    with pytest.raises(ImportError, match="no_such_package"):
        choices_of(Network(network()), [Option("incomplete", 16, incomplete)], RUNTIME)


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x08\x12\x00", b"\xff" * 40])
def test_a_file_that_is_no_model_is_told(tmp_path, content):
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.onnx is not an ONNX model, or is damaged"):
        read_model(tmp_path / "bad.onnx")


def test_external_data_is_read_or_its_absence_is_told(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(network(), str(path), save_as_external_data=True, location="weights.bin", size_threshold=100)
    assert outputs(Network(read_model(path)).assemble({})).keys() == {"scores", "words"}
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ValueError, match=r"model\.onnx: its external data cannot be read"):
        read_model(path)


def test_too_large_a_model_is_told_with_the_memory_it_would_take(tmp_path):
    model = network()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("length", str(3 * 10**9))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    (tmp_path / "large.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"3\.00 GB with its external data.* 2\.15 GB; .* about 15 GB of memory"):
        read_model(tmp_path / "large.onnx")


def test_times_are_multiples_of_the_original(monkeypatch):
    """A clock that runs twice as slow in the meantime changes no time."""

    class Session:
        def __init__(self, cost):
            self.cost = cost

        def run(self, outputs, feed):
            now[0] += self.cost * speed[0]

    now, speed = [0.0], [1.0]
    monkeypatch.setattr("cggd_compress.runtime.time.perf_counter", lambda: now[0])
    clock = Clock(Session(0.010), {})
    assert clock.time(Session(0.005)) == pytest.approx((5.0, 0.0))
    speed[0] = 2.0
    assert clock.time(Session(0.005)) == pytest.approx((5.0, 0.0))
    assert clock.original == pytest.approx(10.0)
