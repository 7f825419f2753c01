import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cggd_nas.extract import extract
from cggd_nas.measure import Measurement, latency, macs, onnx_latency, parameters, peak_memory, size_kb
from cggd_nas.trace import trace
from tests.nas.nets import FEW, NAMES, made, some_selections

KB = 1024


class Net(nn.Module):
    """A network from a function of its parts and its input."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.parts, self.run = nn.ModuleDict(parts), forward

    def forward(self, *x):
        return self.run(self.parts, *x)


def elements(module, *shapes):
    """Peak activations in elements: 8 bits each, so kB are KB of them."""
    return peak_memory(module, [torch.zeros(shape) for shape in shapes], bits=8) * KB


# -- counts -------------------------------------------------------------------------------------------------------


def test_parameters_count_shared_ones_once():
    layer = nn.Linear(3, 4)
    assert parameters(nn.Sequential(layer, nn.ReLU(), layer)) == 3 * 4 + 4


@settings(max_examples=50)
@given(data=st.data(), dimensions=st.sampled_from([1, 2]), transposed=st.booleans())
def test_macs_of_convolutions_count_every_weight_at_every_position(data, dimensions, transposed):
    groups = data.draw(st.integers(1, 3))
    c_in, c_out = groups * data.draw(st.integers(1, 3)), groups * data.draw(st.integers(1, 3))
    kernel, stride, dilation = (data.draw(st.integers(1, 3)) for _ in range(3))
    batch, side = data.draw(st.integers(1, 2)), data.draw(st.integers(7, 9))
    kind = {(1, False): nn.Conv1d, (2, False): nn.Conv2d, (1, True): nn.ConvTranspose1d, (2, True): nn.ConvTranspose2d}
    layer = kind[dimensions, transposed](c_in, c_out, kernel, stride, groups=groups, dilation=dilation)
    # each output needs kernel ** dimensions * c_in / groups products; transposed, each input goes into as many outputs
    there = (side - dilation * (kernel - 1) - 1) // stride + 1
    places = side if transposed else there
    expected = batch * places**dimensions * kernel**dimensions * c_in * c_out // groups
    assert macs(layer, torch.zeros(batch, c_in, *[side] * dimensions)) == expected


# What fvcore counts and we do not: in deployed networks norms are folded into layers, and the rest has no products.
NO_PRODUCTS = ("norm", "pool", "upsample")


def _attention(inputs, outputs):
    query, key, value = (x.type().sizes() for x in inputs[:3])
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


@pytest.mark.parametrize("name", NAMES)
def test_macs_are_those_of_fvcore(name):
    fvcore = pytest.importorskip("fvcore.nn")
    supernet, example = made(name)
    for selection in some_selections(supernet, FEW.get(name, 2)):
        network = extract(supernet, selection).eval()
        counted = fvcore.FlopCountAnalysis(network, example).unsupported_ops_warnings(False)
        counted.set_op_handle("aten::scaled_dot_product_attention", _attention)  # it knows no fused one
        counted = counted.uncalled_modules_warnings(False).by_operator()
        products = sum(n for operator, n in counted.items() if not any(word in operator for word in NO_PRODUCTS))
        assert macs(network, example) == products


def test_macs_of_linear_layers_over_positions():
    assert macs(nn.Linear(5, 7), torch.zeros(2, 3, 5)) == 2 * 3 * 5 * 7
    assert macs(nn.Linear(5, 7, bias=False), torch.zeros(5)) == 5 * 7


def test_norms_pooling_sums_and_activation_functions_count_nothing():
    layers = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.GroupNorm(3, 3))
    assert macs(layers, torch.zeros(1, 3, 8, 8)) == 0
    assert macs(Net(lambda _, x: x + 2 * x), torch.zeros(1, 3, 8, 8)) == 0


@pytest.mark.parametrize("batch_first", [True, False])
def test_macs_of_attention_hold_its_two_products(batch_first):
    t, d, hidden = 6, 8, 16
    layer = nn.TransformerEncoderLayer(d, 2, hidden, batch_first=batch_first)
    projections, products, feed_forward = 4 * t * d * d, 2 * t * t * d, 2 * t * d * hidden
    shape = (1, t, d) if batch_first else (t, 1, d)
    assert macs(layer, torch.zeros(shape)) == projections + products + feed_forward


def test_macs_of_functions_are_seen():
    q = torch.zeros(1, 2, 6, 4)
    assert macs(Net(lambda _, x: nn.functional.scaled_dot_product_attention(x, x, x)), q) == 2 * 2 * 6 * 6 * 4
    assert macs(Net(lambda _, x: torch.einsum("bhtd,bhsd->bhts", x, x)), q) == 2 * 6 * 6 * 4
    assert macs(Net(lambda _, x: x @ x[0]), torch.zeros(5, 5)) == 25


def test_macs_of_bilinear_layers():
    """x' W for each output, then its product with y."""
    example = [torch.zeros(7, 2, 3), torch.zeros(7, 2, 4)]
    assert macs(nn.Bilinear(3, 4, 5), example) == 14 * 5 * (3 * 4 + 4)


def test_macs_of_recurrent_layers():
    steps, c_in, hidden = 5, 4, 3
    assert macs(nn.LSTM(c_in, hidden), torch.zeros(steps, 1, c_in)) == steps * 4 * hidden * (c_in + hidden)


def test_size_follows_its_convention():
    conv = nn.Conv2d(4, 8, 3)
    assert size_kb(conv, bits=8) * KB == 4 * 8 * 9 + 8 * 4
    assert size_kb(conv, bits=4) * KB == 4 * 8 * 9 / 2 + 8 * 4
    folded = nn.Sequential(nn.Conv2d(4, 8, 3, bias=False), nn.BatchNorm2d(8))
    assert size_kb(folded, bits=8) == size_kb(conv, bits=8)
    assert size_kb(nn.Sequential(conv, nn.Linear(5, 2)), bits=32) * KB == 4 * (4 * 8 * 9 + 8 + 12)
    shared = nn.Linear(3, 3, bias=False)
    assert size_kb(nn.Sequential(shared, shared), bits=8) * KB == 9


# -- activation memory --------------------------------------------------------------------------------------------


def test_a_chain_holds_input_and_output_of_its_largest_layer():
    chain = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 1), nn.Conv2d(16, 2, 1))
    assert elements(chain, (1, 3, 4, 4)) == (8 + 16) * 16


def test_relu_in_place_needs_no_second_tensor():
    def net(inplace):
        return nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU(inplace), nn.Conv2d(8, 1, 1))

    assert elements(net(False), (1, 1, 4, 4)) == (8 + 8) * 16
    assert elements(net(True), (1, 1, 4, 4)) == (8 + 1) * 16


def test_a_skip_connection_keeps_its_tensor_alive():
    def block(parts, x):
        return x + parts["b"](parts["a"](x))

    net = Net(block, a=nn.Conv2d(4, 4, 1), b=nn.Conv2d(4, 4, 1))
    assert elements(net, (1, 4, 4, 4)) == 3 * 64  # x, a(x), b(a(x))
    straight = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
    assert elements(straight, (1, 4, 4, 4)) == 2 * 64


def test_a_sum_in_place_spares_one_tensor():
    def narrow(inplace):
        def block(parts, x):
            y = parts["a"](x)
            return y.add_(x) if inplace else y + x

        return Net(block, a=nn.Conv2d(4, 4, 1))

    assert elements(narrow(False), (1, 4, 4, 4)) == 3 * 64
    assert elements(narrow(True), (1, 4, 4, 4)) == 2 * 64


def test_concatenation_holds_its_parts_and_its_result():
    net = Net(lambda parts, x: torch.cat([parts["a"](x), parts["b"](x)], 1), a=nn.Conv2d(1, 2, 1), b=nn.Conv2d(1, 3, 1))
    assert elements(net, (1, 1, 4, 4)) == (2 + 3 + 5) * 16


def test_views_share_memory_and_keep_all_of_it_alive():
    assert elements(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), (1, 4, 4, 4)) == 64 + 2
    half = Net(lambda parts, x: parts["a"](x[:, :1]), a=nn.Conv2d(1, 1, 1))
    assert elements(half, (1, 4, 4, 4)) == 64 + 16


def test_a_batch_norm_writes_over_its_input_unless_that_is_still_needed():
    folded = nn.Sequential(nn.Conv2d(1, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 1, 1))
    assert elements(folded, (1, 1, 4, 4)) == (8 + 1) * 16

    net = Net(lambda parts, x: x + parts["n"](x), n=nn.BatchNorm2d(4))
    assert elements(net, (1, 4, 4, 4)) == 3 * 64
    twice = nn.Sequential(nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.ReLU(True))
    assert elements(twice, (1, 4, 4, 4)) == 64


def test_what_only_a_backward_pass_would_read_is_not_there():
    assert elements(nn.MaxPool2d(2), (1, 1, 4, 4)) == 16 + 4
    assert elements(nn.MaxPool2d(2, return_indices=True), (1, 1, 4, 4)) == 16 + 4 + 4
    assert elements(nn.LayerNorm(8), (1, 6, 8)) == 2 * 48


def test_inputs_live_until_they_are_used_and_outputs_to_the_end():
    late = Net(lambda parts, x, y: parts["a"](parts["a"](x)) + y, a=nn.Conv2d(1, 1, 1))
    assert elements(late, (1, 1, 4, 4), (1, 1, 4, 4)) == 4 * 16 - 16  # y waits while a runs

    def early(parts, x):
        first = parts["a"](x)
        return first, parts["a"](parts["a"](first))

    assert elements(Net(early, a=nn.Conv2d(1, 1, 1)), (1, 1, 4, 4)) == 3 * 16
    assert elements(nn.Identity(), (1, 1, 4, 4)) == 16


def test_memory_is_proportional_to_the_bits():
    net, x = nn.Conv2d(3, 8, 1), torch.zeros(1, 3, 4, 4)
    assert peak_memory(net, x, bits=32) == 4 * peak_memory(net, x, bits=8)


@settings(max_examples=30)
@given(widths=st.lists(st.integers(1, 6), min_size=2, max_size=6), data=st.data())
def test_live_elements_against_a_simulation(widths, data):
    """Random chains with skip sums, where the slow oracle keeps a set of live tensors by hand."""
    width = widths[0]
    skips = data.draw(st.lists(st.integers(0, len(widths) - 1), max_size=3, unique=True))
    last = len(widths) - 1

    def run(parts, x):
        made = [x]
        for i in range(len(widths)):
            made.append(parts[str(i)](made[-1]))
        y = made[-1]
        for skip in skips:
            y = y + made[skip]
        return y

    net = Net(run, **{str(i): nn.Conv1d(width, width, 1) for i in range(len(widths))})
    uses = {i: i for i in range(len(widths))} | {last + 1: last + 1}  # tensor i is used by layer i
    for place, skip in enumerate(skips):
        uses[skip] = len(widths) + place
    if not skips:
        uses[last + 1] = len(widths)
    peaks = []
    for step in range(len(widths)):
        alive = [i for i in range(step + 1) if uses[i] >= step]
        peaks.append(len(alive) + 1)
    for place in range(len(skips)):
        step = len(widths) + place
        alive = [i for i in range(len(widths)) if uses[i] >= step]
        peaks.append(len(alive) + 2)  # the sum so far, and the new one
    assert elements(net, (1, width, 4)) == max(peaks) * width * 4


# -- how it is traced ---------------------------------------------------------------------------------------------


def test_tracing_changes_and_computes_nothing():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout())
    net[2].eval()
    before = copy.deepcopy(net.state_dict())
    fast = torch.backends.mha.get_fastpath_enabled()
    trace(net, torch.zeros(1, 3, 2, 2))
    assert net.training
    assert not net[2].training
    assert torch.backends.mha.get_fastpath_enabled() == fast
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    big = nn.Sequential(*[nn.Conv2d(512, 512, 3, padding=1)] * 3)
    assert macs(big, torch.zeros(1, 512, 1, 1).expand(1, 512, 4096, 4096)) == 3 * 512 * 512 * 9 * 4096**2


def test_operations_in_order():
    recorded = trace(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), torch.zeros(1, 3, 2, 2))
    assert [operation.name for operation in recorded.operations] == ["aten::convolution", "aten::relu"]
    assert [operation.reads for operation in recorded.operations] == [(0,), (1,)]
    assert recorded.outputs == (2,)
    assert recorded.live_elements.tolist() == [12 + 16, 32]


@pytest.mark.parametrize(("dimensions", "pool"), [(1, nn.MaxPool1d), (2, nn.MaxPool2d), (3, nn.MaxPool3d)])
def test_indices_that_inference_does_not_make_take_no_memory(dimensions, pool):
    x = torch.zeros(1, 4, *[8] * dimensions)
    assert peak_memory(nn.Sequential(pool(2), nn.Flatten()), x, bits=8) * 1024 == x.numel() + x.numel() // 2**dimensions
    found = peak_memory(pool(2, return_indices=True), x, bits=8) * 1024  # asked for, they do
    assert found == x.numel() + 2 * (x.numel() // 2**dimensions)


@pytest.mark.parametrize("example", [3, [], [1, 2], "x", None])
def test_wrong_examples(example):
    with pytest.raises(TypeError, match="example must be a tensor"):
        macs(nn.Identity(), example)


@pytest.mark.parametrize("function", [size_kb, lambda module, bits: peak_memory(module, torch.zeros(1), bits=bits)])
def test_wrong_bits(function):
    with pytest.raises(ValueError, match="bits must be at least 1, got 0"):
        function(nn.Identity(), bits=0)


# -- measured -----------------------------------------------------------------------------------------------------


def test_latency_measures_in_evaluation_mode_with_its_threads_and_restores_both():
    seen, threads = [], torch.get_num_threads()

    def run(parts, x):
        seen.append((parts.training, torch.get_num_threads(), torch.is_inference_mode_enabled()))
        return x

    net = Net(run)
    result = latency(net, torch.zeros(1), warmup=2, repeats=5, threads=threads + 1)
    assert seen == [(False, threads + 1, True)] * 7
    assert net.training
    assert torch.get_num_threads() == threads
    assert isinstance(result, Measurement)
    assert (result.n, result.threads, result.unit) == (5, threads + 1, "ms")
    assert result.median > 0
    assert result.iqr >= 0
    assert str(result).startswith(f"{result.median:.4g} ms (IQR")


def test_threads_are_restored_after_an_error():
    threads = torch.get_num_threads()
    with pytest.raises(RuntimeError):
        latency(nn.Linear(2, 2), torch.zeros(1, 3), threads=threads + 1)
    assert torch.get_num_threads() == threads


def test_median_and_spread_are_those_of_the_runs(monkeypatch):
    clock = iter(np.cumsum([0, 1, 0, 2, 0, 3, 0, 4, 0, 100]) * 1_000_000)
    monkeypatch.setattr("cggd_nas.measure.time.perf_counter_ns", lambda: int(next(clock)))
    result = latency(nn.Identity(), torch.zeros(1), warmup=0, repeats=5)
    assert (result.median, result.iqr) == (3.0, 2.0)


@pytest.mark.parametrize(("argument", "value"), [("repeats", 0), ("warmup", -1), ("threads", 0)])
def test_wrong_numbers_of_runs(argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be at least"):
        latency(nn.Identity(), torch.zeros(1), **{argument: value})


def test_onnx_latency(tmp_path):
    onnx = pytest.importorskip("onnx")
    given, made = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [given], [made])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "relu.onnx")
    result = onnx_latency(tmp_path / "relu.onnx", torch.zeros(1, 3), warmup=1, repeats=5)
    assert result.median > 0
    assert "onnxruntime" in result.device
    with pytest.raises(ValueError, match=r"the 1 inputs \['x'\] of the ONNX file, got 2"):
        onnx_latency(tmp_path / "relu.onnx", [torch.zeros(1, 3)] * 2)
