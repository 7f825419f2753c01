"""Heads of `nn.MultiheadAttention` that are removed: the function, the file, and what stays as it is."""

import copy
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from cggd_nas import Costs, export_onnx, extract, measure, prunable
from cggd_nas.heads import Attention, with_heads
from tests.nas.test_prunable import largest, random_networks

pytestmark = pytest.mark.filterwarnings("ignore:example has")  # batches of 2 are meant here

WIDTH, HEADS, LENGTH = 16, 4, 5


class Block(nn.Module):
    """Attention between two linear layers; `call` gives the further arguments and says what is made of the result."""

    def __init__(self, call, other=WIDTH, **how):
        super().__init__()
        self.first, self.memory = nn.Linear(3, WIDTH), nn.Linear(3, other)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, kdim=other, vdim=other, **how)
        self.last, self.call = nn.Linear(WIDTH, 3), call

    def forward(self, x):
        y = self.memory(x)
        more = self.call(x)
        out, weights = self.attention(self.first(x), y, y, **more)
        out = self.last(out)
        return out if weights is None else (out, weights)


def padding(x):
    return torch.zeros(len(x), x.shape[1], dtype=torch.bool).index_fill(1, torch.tensor([0]), value=True)


def causal(x):
    return torch.full((x.shape[1], x.shape[1]), -torch.inf).triu(1)


CALLS = {
    "plain": (lambda x: {"need_weights": False}, {"batch_first": True}),
    "weights": (lambda x: {}, {"batch_first": True}),
    "weights of heads": (lambda x: {"average_attn_weights": False}, {"batch_first": True, "bias": False}),
    "sequence first": (lambda x: {"need_weights": False}, {"dropout": 0.2}),
    # With both masks nothing is left for the first query.
    "masks": (
        lambda x: {"need_weights": False, "key_padding_mask": padding(x), "attn_mask": causal(x) < 0},
        {"batch_first": True, "dropout": 0.2},
    ),
    "one mask": (
        lambda x: {"need_weights": False, "attn_mask": causal(x), "is_causal": True},
        {"batch_first": True, "other": 8},
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_heads_are_removed(name, tmp_path):
    torch.manual_seed(0)
    call, how = CALLS[name]
    model, x = Block(call, **how).eval(), torch.randn(2, LENGTH, 3)
    supernet = prunable(model, x, (0.5, 1.0), 1)
    per_head = name == "weights of heads"  # whose number is that of an output's dimension
    assert ("attention.query" in supernet.space.decisions) != per_head
    with torch.no_grad(), supernet.selected(largest(supernet)) as same:
        torch.testing.assert_close(same(x), model(x), rtol=1e-5, atol=1e-6)
    costs = Costs(supernet, x)
    for labels, network in random_networks(supernet, (x,), 6):
        assert type(network.attention) is nn.MultiheadAttention
        assert not any(type(part).__module__.startswith("cggd") for part in network.modules())
        assert costs.parameters()(labels) == measure.parameters(network)
        assert costs.macs()(labels) == pytest.approx(measure.macs(network, x) / 1e6)
        network.train()(x)
        torch.testing.assert_close(copy.deepcopy(network).eval()(x), network.eval()(x))
    path = export_onnx(network, x, tmp_path / "net.onnx")
    there = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x.numpy()})
    here = network(x)
    for a, b in zip(there, here if isinstance(here, tuple) else (here,), strict=True):
        np.testing.assert_allclose(a, b.detach(), rtol=1e-3, atol=1e-5)


def test_at_full_width_the_module_of_pytorch_comes_back():
    torch.manual_seed(0)
    for name in ("plain", "one mask"):
        call, how = CALLS[name]
        model, x = Block(call, **how).eval(), torch.randn(2, LENGTH, 3)
        supernet = prunable(model, x, (0.5, 1.0), 1)
        state = torch.get_rng_state()
        network = extract(supernet, largest(supernet))
        assert torch.equal(state, torch.get_rng_state())
        assert network.state_dict().keys() == model.state_dict().keys()
        assert all(torch.equal(network.state_dict()[key], value) for key, value in model.state_dict().items())


def test_a_network_is_loaded_without_this_package(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(2, LENGTH, 8)
    layer = nn.TransformerEncoderLayer(8, 4, 16, batch_first=True)
    model = nn.Sequential(nn.Linear(8, 8), nn.TransformerEncoder(layer, 2), nn.Linear(8, 3)).eval()
    supernet = prunable(model, x, (0.5, 1.0), 1)
    assert {"1.layers.0.self_attn.query", "1.layers.0.linear1", "0"} <= set(supernet.space.decisions)
    assert "1.layers.1" in supernet.report.depths
    network = extract(supernet, largest(supernet) | {"1.layers.0.self_attn.query": "4"})
    assert network[1].layers[0].self_attn.num_heads == 2
    torch.save((network, x, network(x)), tmp_path / "network.pt")
    code = f"""
import sys, torch, copy
sys.modules["cggd"] = sys.modules["cggd_nas"] = None
network, x, y = torch.load({str(tmp_path / "network.pt")!r}, weights_only=False)
torch.testing.assert_close(copy.deepcopy(network)(x), y)
assert (network.train()(x) - network(x)).abs().max() > 0  # its dropout
"""
    subprocess.run([sys.executable, "-c", code], check=True)


class Padded(nn.Module):
    """The mean of an encoder's outputs where the input is not padded."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True)
        self.first, self.encoder, self.last = nn.Linear(3, WIDTH), nn.TransformerEncoder(layer, 2), nn.Linear(WIDTH, 3)

    def forward(self, x, gone):
        y = self.encoder(self.first(x), src_key_padding_mask=gone)
        return self.last(y.masked_fill(gone[:, : y.shape[1], None], 0.0).sum(1))


@pytest.mark.filterwarnings("ignore:.*nested tensors")
def test_encoders_with_padding():
    """PyTorch runs them without gradients as fused layers on nested tensors."""
    torch.manual_seed(0)
    model, x = Padded().eval(), torch.randn(2, LENGTH, 3)
    gone = torch.arange(LENGTH) >= torch.tensor([[LENGTH], [2]])
    supernet = prunable(model, (x, gone), (0.5, 1.0), 1)
    for grad in (True, False):
        with torch.set_grad_enabled(grad), supernet.selected(largest(supernet)) as same:
            torch.testing.assert_close(same(x, gone), model(x, gone), rtol=1e-5, atol=1e-6)
    for _ in random_networks(supernet, (x, gone), 4):
        pass


def test_a_removed_head_is_called_in_one_way_only():
    call, how = CALLS["plain"]
    model, x = Block(call, **how).eval(), torch.randn(2, LENGTH, 3)
    supernet = prunable(model, x, (0.5, 1.0), 1)
    attention = extract(supernet, largest(supernet) | {"attention.query": "8"}).attention
    q, y = torch.randn(2, 2, LENGTH, WIDTH)
    attention(q, y, y, need_weights=False)
    with pytest.raises(AssertionError, match="need_weights is fixed at False"):
        attention(q, y, y)
    with pytest.raises(AssertionError, match="key_padding_mask is fixed at None"):
        attention(q, y, y, need_weights=False, key_padding_mask=padding(y))


@pytest.mark.parametrize(
    ("call", "how"),
    [
        (lambda x: {"need_weights": False, "attn_mask": torch.zeros(2 * HEADS, LENGTH, LENGTH)}, {"batch_first": True}),
        (lambda x: {"need_weights": False}, {"batch_first": True, "add_bias_kv": True}),
        (lambda x: {"need_weights": False}, {"batch_first": True, "add_zero_attn": True}),
    ],
)
def test_what_is_not_known_stays(call, how):
    model, x = Block(call, **how).eval(), torch.randn(2, LENGTH, 3)
    assert with_heads(model, [x]) is model


def test_weights_that_the_forward_reads_stay():
    class Reads(Block):
        def forward(self, x):
            return super().forward(x) + self.attention.in_proj_weight.sum()

    model, x = Reads(*CALLS["plain"][:1], batch_first=True).eval(), torch.randn(2, LENGTH, 3)
    assert with_heads(model, [x]) is model
    assert any(isinstance(part, Attention) for part in with_heads(Block(model.call, batch_first=True), [x]).modules())


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("kind", ["proj_size", "spectral_norm"])
def test_layers_without_a_rule_keep_their_size_and_are_named(kind):
    torch.manual_seed(0)

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(3, 16, proj_size=8, batch_first=True)
            self.mix, self.last = nn.Linear(8, 16), nn.Linear(16, 3)

        def forward(self, x):
            return self.last(torch.relu(self.mix(self.rnn(x)[0])))

    normed = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 16))
    model = Tagger() if kind == "proj_size" else nn.Sequential(normed, nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    x = torch.randn(2, LENGTH, 3)
    supernet = prunable(model.eval(), x, (0.5, 1.0), 1)
    fixed = {"proj_size": "rnn", "spectral_norm": "0"}[kind]
    assert supernet.space.decisions == ({"proj_size": "mix", "spectral_norm": "1"}[kind],)
    assert fixed in supernet.report.unpruned
    for _ in random_networks(supernet, (x,), 2):
        pass
