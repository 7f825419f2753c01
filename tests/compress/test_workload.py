"""Memory, operations and traffic, against numbers by hand."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from cggd_compress import KEEP, Compression
from cggd_compress.workload import trace
from cggd_nas import export_onnx, measure
from tests.compress.models import network

N = 8  # samples


@pytest.fixture(scope="module")
def compression():
    tokens = np.random.default_rng(1).integers(0, 100, (N, 6))
    return Compression(network(), {"tokens": tokens}, options=["float16", "4 bit/32", "rank 0.25"])


def test_operations_are_those_of_the_products(compression):
    kept = dict.fromkeys(compression.choices.space.decisions, KEEP)
    by_hand = N * (6 * 32 * 32 * 3 + 32 * 80 + 80 * 32 + 32 * 40 + 32 * 100)
    assert compression.metrics["macs"](kept) == by_hand
    thin = compression.metrics["macs"]({**kept, "up.weight": "rank 0.25"})
    assert by_hand - thin == N * (32 * 80 - 8 * (32 + 80))
    assert compression.metrics["macs"]({**kept, "up.weight": "4 bit/32"}) == by_hand


class Mixed(torch.nn.Module):
    """Products of each kind: grouped, transposed and biased convolutions, a recurrent layer, attention, an einsum."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(2, 8, 3, stride=2, groups=2)
        self.norm = torch.nn.BatchNorm2d(8)
        self.up = torch.nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.steps = torch.nn.LSTM(12, 10, bidirectional=True, batch_first=True)
        self.attention = torch.nn.MultiheadAttention(20, 2, batch_first=True)
        self.last = torch.nn.Linear(20, 7)

    def forward(self, x):
        x = self.up(torch.relu(self.norm(self.first(x)))).flatten(2).transpose(1, 2)
        x = torch.cat([x, x * 2], -1)
        x, _ = self.steps(x)
        x, _ = self.attention(x, x, x, need_weights=False)
        x = self.last(x)
        return torch.einsum("bik,bjk->bij", x, x + 1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*LSTM with variable length")
def test_operations_are_those_of_cggd_nas_for_any_least_size(tmp_path):
    torch.manual_seed(0)
    net, example = Mixed().eval(), torch.randn(1, 2, 9, 9)
    path = export_onnx(net, example, tmp_path / "net.onnx")
    for least in (1, 7, 100, 500):
        made = Compression(path, {"x": example.numpy()}, options=["float16", "int8 static"], least=least)
        assert made.original_costs["macs"] == measure.macs(net, example), least
        options = made.metrics["macs"].replacements(made.kept)
        assert (options == options[0]).all()


def test_memory_is_that_of_the_weights_in_the_runtime(compression):
    memory, kept = compression.metrics["memory"], dict.fromkeys(compression.choices.space.decisions, KEEP)
    assert memory({**kept, "up.weight": "float16"}) == memory(kept), "the runtime unpacks it"
    packed = 80 * 32 // 2 + 80 * 4 + 80  # numbers, scales of single precision, zero points
    assert memory(kept) - memory({**kept, "up.weight": "4 bit/32"}) == 4 * 32 * 80 - packed


def test_the_peak_is_the_largest_sum_of_what_is_alive():
    """Of a chain x -> a -> b with x used again at the end: x, a and b are alive together."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Neg", ["a"], ["b"]),
        helper.make_node("Concat", ["b", "x"], ["y"], axis=0),
    ]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [10])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [20])
    unused = numpy_helper.from_array(np.zeros(3, dtype=np.float32), "w")
    graph = helper.make_graph(nodes, "g", [value], [result], [unused])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = trace(model.SerializeToString(), [{"x": np.zeros(10, dtype=np.float32)}])
    assert found.peak == 4 * (10 + 10 + 20)
    assert found.shapes["y"] == (20,)
    both = trace(model.SerializeToString(), [{"x": np.full(10, v, dtype=np.float32)} for v in (1, -3)])
    assert both.ranges["b"] == (-1, 0), "ranges are those of all batches"


def test_limits_on_them_are_kept(compression):
    found = compression.solve(["macs<=95%", "memory<=90%"], measurements=4)
    assert found.feasible
    assert found.costs["macs"] <= 0.95 * found.original["macs"]
    assert found.costs["memory"] <= 0.9 * found.original["memory"]
