"""Depthwise convolutions by way of two dimensions against PyTorch's own, and as exporters and recorders see them."""

import copy

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from cggd_nas.depthwise import fast_depthwise  # noqa: E402
from cggd_nas.measure import macs, peak_memory  # noqa: E402


@settings(max_examples=60)
@given(data=st.data())
def test_values_and_gradients_are_those_of_an_ordinary_convolution(data):
    groups, times, batch = (data.draw(st.integers(1, 4)) for _ in range(3))
    kernel, stride, dilation = (data.draw(st.integers(1, 3)) for _ in range(3))
    plain = nn.Conv1d(
        groups * data.draw(st.integers(1, 2)),
        groups * times,
        kernel,
        stride=stride,
        padding=data.draw(st.sampled_from([0, 1, 3, "valid"])),
        dilation=dilation,
        groups=groups,
        bias=data.draw(st.booleans()),
        padding_mode=data.draw(st.sampled_from(["zeros", "circular"])),
        dtype=torch.float64,
    )
    layer = copy.deepcopy(plain)
    x = torch.randn(batch, layer.in_channels, 9, dtype=torch.float64)
    if data.draw(st.booleans()):
        x = x[0]  # without a batch
    with fast_depthwise(layer):
        found = layer(x)
    wanted = plain(x)
    torch.testing.assert_close(found, wanted)
    assert found.is_contiguous()
    assert type(layer) is nn.Conv1d
    rates = torch.randn_like(wanted)
    for made in (found, wanted):
        made.backward(rates)
    for mine, other in zip(layer.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_costs_and_compiled_graphs_see_an_ordinary_convolution():
    layer, x = nn.Conv1d(4, 4, 3, padding=1, groups=4).eval(), torch.randn(2, 4, 8)
    costs = macs(layer, x), peak_memory(layer, x)
    with fast_depthwise(layer):
        assert type(layer) is not nn.Conv1d
        assert (macs(layer, x), peak_memory(layer, x)) == costs
        graph = torch.export.export(layer, (x,)).graph
    assert [str(node.target) for node in graph.nodes if node.op == "call_function"] == ["aten.conv1d.default"]


def test_layers_are_ordinary_again_after_an_error():
    layer = nn.Conv1d(4, 4, 3, groups=4)
    with pytest.raises(ZeroDivisionError), fast_depthwise(nn.Sequential(layer)):
        raise ZeroDivisionError
    assert type(layer) is nn.Conv1d
