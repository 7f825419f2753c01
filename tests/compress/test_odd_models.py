"""Models of all kinds, as users have them: what compress makes of them, and what it says where it cannot."""

from contextlib import suppress

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cggd_compress import KEEP, compress
from cggd_compress.choices import choices_of
from cggd_compress.network import Network
from cggd_compress.options import default_options
from cggd_compress.runtime import Runtime
from tests.compress.models import network

RUNTIME = Runtime()
RNG = np.random.default_rng(0)
FLOAT, HALF, WHOLE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64


def weight(name, *shape, scale=1.0):
    array = RNG.standard_normal(shape) * scale / np.sqrt(np.prod(shape[1:]))
    return numpy_helper.from_array(array.astype(np.float32), name)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def value(name, shape, kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, inputs, outputs, weights, *, opset=17, version=8):
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=version)


def one(operator, shape, data, *, kept=(), **attributes):
    """A model with one operator of one weight."""
    node = helper.make_node(operator, ["x", "a"], ["y"], **attributes)
    axes = [n if axis in kept else f"n{axis}" for axis, n in enumerate(data.shape)]
    return model([node], [value("x", axes)], [value("y", None)], [weight("a", *shape)]), {"x": data}


def product(opset, version, *, among_inputs=False):
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["p"]),
        helper.make_node("Relu", ["p"], ["r"]),
        helper.make_node("Gemm", ["r", "b", "c"], ["y"], transB=1),
    ]
    weights = [weight("a", 40, 64), weight("b", 30, 64), weight("c", 30)]
    inputs = [value("x", ["n", 40])] + [value(t.name, list(t.dims)) for t in weights if among_inputs]
    return model(nodes, inputs, [value("y", None)], weights, opset=opset, version=version), {"x": floats(16, 40)}


def recurrent(operator, gates, **attributes):
    ways = 2 if attributes else 1
    weights = [weight("w", ways, gates * 32, 24), weight("r", ways, gates * 32, 32)]
    node = helper.make_node(operator, ["x", "w", "r"], ["y"], hidden_size=32, **attributes)
    return model([node], [value("x", [10, "n", 24])], [value("y", None)], weights), {"x": floats(10, 4, 24)}


def branches(*, constants):
    """Both branches have a weight of the same name, as an initializer or as a constant."""

    def branch(name):
        own = weight("w", 40, 40)
        nodes = [helper.make_node("Constant", [], ["w"], value=own)] if constants else []
        nodes.append(helper.make_node("MatMul", ["x", "w"], [name]))
        return helper.make_graph(nodes, name, [], [value(name, None)], [] if constants else [own])

    node = helper.make_node("If", ["flag"], ["y"], then_branch=branch("a"), else_branch=branch("b"))
    inputs = [value("x", ["n", 40]), value("flag", [], TensorProto.BOOL)]
    return model([node], inputs, [value("y", None)], []), {"x": floats(16, 40), "flag": np.array(True)}


def loop():
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["v", "a"], ["p"]),
            helper.make_node("Tanh", ["p"], ["next"]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [value("i", [], WHOLE), value("go", [], TensorProto.BOOL), value("v", ["n", 40])],
        [value("on", [], TensorProto.BOOL), value("next", ["n", 40])],
        [weight("a", 40, 40)],
    )
    arrays = [numpy_helper.from_array(np.array(3), "trip"), numpy_helper.from_array(np.array(True), "go on")]
    node = helper.make_node("Loop", ["trip", "go on", "x"], ["y"], body=body)
    return model([node], [value("x", ["n", 40])], [value("y", None)], arrays), {"x": floats(16, 40)}


def shared():
    """One weight in a product, transposed in another, and looked up."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["p"]),
        helper.make_node("Gemm", ["p", "a"], ["y"], transB=1),
        helper.make_node("Gather", ["a", "i"], ["rows"]),
    ]
    inputs = [value("x", ["n", 40]), value("i", ["n"], WHOLE)]
    data = {"x": floats(16, 40), "i": RNG.integers(0, 40, 16)}
    return model(nodes, inputs, [value("y", None), value("rows", None)], [weight("a", 40, 64)]), data


def half_inputs():
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=FLOAT),
        helper.make_node("MatMul", ["f", "a"], ["p"]),
        helper.make_node("Cast", ["p"], ["y"], to=HALF),
    ]
    data = {"x": floats(16, 40).astype(np.float16)}
    return model(nodes, [value("x", ["n", 40], HALF)], [value("y", None, HALF)], [weight("a", 40, 64)]), data


def constants():
    nodes = [
        helper.make_node("Constant", [], ["a"], value=weight("of the file", 40, 64)),
        helper.make_node("MatMul", ["x", "a"], ["p"]),
        helper.make_node("Constant", [], ["one"], value_float=1.0),
        helper.make_node("Add", ["p", "one"], ["y"]),
    ]
    return model(nodes, [value("x", ["n", 40])], [value("y", None)], []), {"x": floats(16, 40)}


def names_like_ours():
    nodes = [helper.make_node("MatMul", ["w0.0", "w0.1"], ["w0.2"]), helper.make_node("MatMul", ["w0.2", "ww"], ["y"])]
    weights = [weight("w0.1", 40, 64), weight("ww", 64, 40)]
    return model(nodes, [value("w0.0", ["n", 40])], [value("y", None)], weights), {"w0.0": floats(16, 40)}


def any_shape():
    made, data = one("MatMul", (40, 64), floats(16, 40))
    made.graph.input[0].type.tensor_type.ClearField("shape")
    return made, data


def texts_and_sequences():
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["y"]),
        helper.make_node("Identity", ["s"], ["t"]),
        helper.make_node("SplitToSequence", ["y"], ["z"], axis=0),
    ]
    inputs = [value("x", ["n", 40]), value("s", ["n"], TensorProto.STRING)]
    outputs = [value("y", None), value("t", ["n"], TensorProto.STRING)]
    outputs.append(helper.make_tensor_sequence_value_info("z", FLOAT, None))
    return model(nodes, inputs, outputs, [weight("a", 40, 64)]), {"x": floats(40, 40), "s": np.array(["a"] * 40)}


def large_weights():
    made, data = one("Conv", (40, 16, 3), floats(8, 16, 20), kept=(1,), pads=[1, 1])
    array = numpy_helper.to_array(made.graph.initializer[0]) * 1e7
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(array.astype(np.float32), "a"))
    return made, data


ODD = {
    "opset 11": product(11, 6),
    "opset 21": product(21, 10),
    "opset 23": product(23, 11),
    "weights among inputs": product(9, 3, among_inputs=True),
    "Gemm of turned inputs": one("Gemm", (64, 40), floats(40, 40), kept=(0,), transA=1, transB=1, alpha=0.5),
    "Conv1d": one("Conv", (40, 16, 3), floats(8, 16, 20), kept=(1,), pads=[1, 1]),
    "depthwise": one("Conv", (64, 1, 5, 5), floats(4, 64, 8, 8), kept=(1,), group=64),
    "ConvTranspose": one("ConvTranspose", (32, 16, 3, 3), floats(4, 32, 5, 5), kept=(1,)),
    "Conv3d": one("Conv", (24, 8, 3, 3, 3), floats(4, 8, 5, 5, 5), kept=(1,)),
    "batched product": one("MatMul", (4, 40, 32), floats(4, 16, 40), kept=(0, 2)),
    "Einsum": one("Einsum", (40, 64), floats(16, 40), kept=(1,), equation="nk,kj->nj"),
    "one sample in a run": one("MatMul", (40, 64), floats(1, 40), kept=(0, 1)),
    "LSTM": recurrent("LSTM", 4),
    "GRU of two ways": recurrent("GRU", 3, direction="bidirectional"),
    "weights of branches": branches(constants=False),
    "constants of branches": branches(constants=True),
    "Loop": loop(),
    "shared": shared(),
    "half inputs": half_inputs(),
    "constants": constants(),
    "names like ours": names_like_ours(),
    "any shape": any_shape(),
    "texts and sequences": texts_and_sequences(),
    "large weights": large_weights(),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_models_get_smaller_and_every_format_works(name):
    made, data = ODD[name]
    found = compress(made, data, ["size<=50%"], measurements=2)
    assert found.feasible, found.message
    assert found.costs["size"] == found.predicted["size"] == len(found.data) <= 0.5 * made.ByteSize()
    assert found.costs["error"] < 1e-3
    given = onnx.ModelProto.FromString(made.SerializeToString())
    choices = choices_of(Network(given), default_options(), RUNTIME)
    for decision in choices.space.decisions:
        for option in choices.space.option_labels(decision):
            file = choices.file({**dict.fromkeys(choices.space.decisions, KEEP), decision: option})
            RUNTIME.session(file)
    assert not [why for why in choices.refused.values() if "too large" not in why]


def test_what_no_run_reads_is_removed():
    made, data = product(17, 8)
    made.graph.initializer.append(weight("unused", 100, 100))
    found = compress(made, data, ["size<=46%"], measurements=1)
    assert set(found.selection.values()) == {KEEP}


@pytest.mark.parametrize("scale", [1e-6, 1e7])
def test_scales_beyond_half_precision_are_kept_whole(scale):
    """The relative error of a format does not depend on the size of the weights."""
    errors = []
    for factor in (1.0, scale):
        made, data = one("MatMul", (40, 64), np.eye(40, dtype=np.float32))
        array = np.random.default_rng(1).standard_normal((40, 64)).astype(np.float32) * np.float32(factor)
        made.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, "a"))
        errors.append(compress(made, data, ["size<=45%"], options=["8 bit/128"], measurements=1).costs["error"])
    assert errors[1] == pytest.approx(errors[0], rel=0.05)


def test_a_format_that_changes_the_number_of_rows_is_no_answer():
    """Rows are kept where their largest number is above a threshold, and formats move some of them across it."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["p"]),
        helper.make_node("ReduceMax", ["p"], ["most"], axes=[1], keepdims=0),
        helper.make_node("Greater", ["most", "level"], ["high"]),
        helper.make_node("Compress", ["p", "high"], ["y"], axis=0),
    ]
    array = np.random.default_rng(5).standard_normal((40, 64)).astype(np.float32)
    x = np.eye(40, dtype=np.float32)
    level = numpy_helper.from_array(np.float32(np.median(array.max(axis=1))), "level")
    weights = [numpy_helper.from_array(array, "a"), level]
    made = model(nodes, [value("x", ["n", 40])], [value("y", None)], weights)
    found = compress(made, {"x": x}, ["size<=99%"], measurements=4)
    assert "it could not be measured" in {row.why_not for row in found.rows}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            "half",
            "no weights of 1024 and more single-precision numbers; its weights are float16, which stay as they are",
        ),
        ("none", "no weights of 1024 and more single-precision numbers$"),
        ("classes", "no output of floats to compare; give a function of yours"),
        ("nan", "output 'y' is not finite"),
        ("sequence", "input 'x' of the model is no tensor"),
    ],
)
def test_models_without_an_answer_are_told(change, says):
    made, data = one("MatMul", (40, 64), floats(40, 40))
    tensor = made.graph.initializer[0]
    array = numpy_helper.to_array(tensor).copy()
    if change == "half":
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), "a"))
        made.graph.input[0].type.tensor_type.elem_type = made.graph.output[0].type.tensor_type.elem_type = HALF
    elif change == "none":
        made, data = model([helper.make_node("Relu", ["x"], ["y"])], [value("x", ["n"])], [value("y", None)], []), data
        data = {"x": data["x"][0]}
    elif change == "classes":
        made.graph.node[0].output[0] = "p"
        made.graph.node.append(helper.make_node("ArgMax", ["p"], ["y"], axis=1, keepdims=0))
        made.graph.output[0].CopyFrom(value("y", ["n"], WHOLE))
    elif change == "nan":
        array[0, 0] = np.nan
        tensor.CopyFrom(numpy_helper.from_array(array, "a"))
    else:
        made.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("x", FLOAT, None))
        made.graph.node[0].input[0] = "c"
        made.graph.node.insert(0, helper.make_node("ConcatFromSequence", ["x"], ["c"], axis=0))
    data = {"x": data["x"].astype(np.float16)} if change == "half" else data
    with pytest.raises(ValueError, match=says):
        compress(made, data, ["size<=50%"])


def test_classes_can_be_compared_by_mismatch():
    made, data = one("MatMul", (40, 64), floats(40, 40))
    made.graph.node[0].output[0] = "p"
    made.graph.node.append(helper.make_node("ArgMax", ["p"], ["y"], axis=1, keepdims=0))
    made.graph.output[0].CopyFrom(value("y", ["n"], WHOLE))
    found = compress(made, data, ["size<=25%"], error="mismatch", measurements=2)
    assert 0 < found.costs["error"] < 1
    narrow, data = one("MatMul", (1100, 1), floats(40, 1100))
    with pytest.raises(ValueError, match="one number for each sample and no largest entry"):
        compress(narrow, data, ["size<=25%"], error="mismatch")


def test_a_damaged_file_gives_an_answer_or_one_error(tmp_path):
    """Whichever bit of the structure is wrong: a file that the runtime can run, or a ValueError."""
    whole = product(17, 8)[0].SerializeToString()
    rng = np.random.default_rng(3)
    for place in rng.integers(0, 300, 25):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "damaged.onnx").write_bytes(damaged)
        with suppress(ValueError):
            compress(tmp_path / "damaged.onnx", {"x": floats(16, 40)}, ["size<=60%"], measurements=1)


def test_the_least_time_that_works_is_told(data):
    found = compress(network(), data, ["latency<=1e-6", "size<=60%"], measurements=2, options=["float16", "8 bit/128"])
    assert "the least measured latency, with every other limit kept, is 0." in found.message
    assert "% of the original's)" in found.message


def test_a_measured_selection_is_not_run_again_for_the_choice(data, monkeypatch):
    """Errors of groups are kept from the measurement, so that only the delivered file runs again."""
    from cggd_compress import Compression

    made = Compression(network(), data)
    assert np.isfinite(made.singles["error"]).all()
    runs = []
    monkeypatch.setattr(Runtime, "outputs", lambda self, *a, kept=Runtime.outputs: runs.append(1) or kept(self, *a))
    before = len(made.measured)
    assert made.solve(["size<=25%"], measurements=6).feasible
    assert len(runs) == len(made.measured) - before + 1
