"""What `prunable` finds in networks, and that what is cut computes what the supernet does."""

import copy

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from cggd_nas import (
    Costs,
    Darts,
    ProxylessTwoPath,
    export_onnx,
    extract,
    measure,
    profile,
    prunable,
    recalibrate,
    search,
)
from cggd_nas.nested import tensors_in
from tests.nas.models import MODELS, UNet

pytestmark = pytest.mark.filterwarnings("ignore:example has")  # batches of 2 are meant here


def random_networks(supernet, inputs, samples=3, tolerance=1e-5):
    """Selections and their networks, which compute what the supernet does."""
    supernet.model.eval()
    for row in supernet.space.sample(samples, np.random.default_rng(0)):
        network = extract(supernet, row).eval()
        with torch.no_grad(), supernet.selected(row) as model:
            torch.testing.assert_close(network(*inputs), model(*inputs), rtol=tolerance, atol=tolerance)
        yield supernet.space.labels(row), network


def largest(supernet):
    return {decision: supernet.space.option_labels(decision)[-1] for decision in supernet.space.decisions}


def made(name):
    torch.manual_seed(0)
    model, inputs = MODELS[name][0]().eval(), MODELS[name][1]()
    return model, inputs, prunable(model, inputs, round_to=4)


QUICK = ["shufflenet_v1", "shufflenet_v2", "tcn", "text_tower", "vit"]
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in MODELS if name not in QUICK]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("name", QUICK + SLOW)
def test_networks_from_papers(name, tmp_path):
    model, inputs, supernet = made(name)
    assert not any("operation" in reason for reason in supernet.report.unpruned.values())
    with torch.no_grad(), supernet.selected(largest(supernet)) as same:
        torch.testing.assert_close([*tensors_in(same(*inputs))], [*tensors_in(model(*inputs))], rtol=1e-6, atol=1e-6)
    costs = Costs(supernet, inputs)
    sums = {costs.parameters(): measure.parameters, costs.macs(): lambda n: measure.macs(n, inputs) / 1e6}
    sums[costs.size_kb(bits=8)] = lambda n: measure.size_kb(n, bits=8)
    assert all(type(metric).__name__ == "Interactions" for metric in sums)
    for labels, network in random_networks(supernet, inputs):
        assert {metric: metric(labels) for metric in sums} == pytest.approx(
            {m: count(network) for m, count in sums.items()}
        )
        assert not any(type(part).__module__.startswith("cggd") for part in network.modules())
    path = export_onnx(network, inputs, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = {i.name: x.numpy() for i, x in zip(session.get_inputs(), inputs, strict=True)}
    with torch.no_grad():
        for there, here in zip(session.run(None, given), tensors_in(network(*inputs)), strict=True):
            np.testing.assert_allclose(there, here, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "decision", "members", "options"),
    [
        ("resnet", "stem.0", 10, ("4", "8", "12", "16")),  # the residual sums of a stage, and what takes them
        ("mobilenet_v2", "2.conv.0.0", 5, ("16", "32", "48", "64")),  # depthwise
        ("unet", "down.1.1.0", 4, ("4", "8", "12", "16")),  # a concatenation
        ("densenet", "blocks.0.0.5", 7, ("4", "8")),
        ("shufflenet_v2", "1.work.0.0", 5, ("4", "8", "12", "16")),
        ("bert", "layers.0.attention.query", 4, ("8", "16", "24", "32")),  # heads
        ("llama", "layers.0.attention.q", 4, ("8", "16", "24", "32")),  # heads of keys, each with two of queries
        ("llama", "layers.1.gate", 3, ("12", "24", "36", "48")),
        ("vit", "qkv", 2, ("8", "16", "24", "32")),
        ("tagger", "rnn", 2, ("8", "12", "16", "24")),
    ],
)
def test_what_hangs_together(name, decision, members, options):
    _, _, supernet = made(name)
    assert len(supernet.report.widths[decision].partition(", of ")[2].split(", ")) == members
    found = supernet.space.option_labels(decision)
    assert found == options or name == "tagger"


def test_blocks_that_can_be_left_out():
    assert made("resnet")[2].report.depths == ("stages.0.0", "stages.0.1", "stages.1.1", "stages.2.1")
    assert made("bert")[2].report.depths == ("layers.0", "layers.1")
    model, inputs, supernet = made("llama")
    network = extract(supernet, largest(supernet) | {"layers.0.depth": "skip"})
    model.layers = model.layers[1:]
    torch.testing.assert_close(network(*inputs), model(*inputs))
    assert not any(name.endswith(".depth") for name in prunable(model, inputs, depth=False).space.decisions)


def test_the_model_stays_as_it_is():
    model, inputs, _ = made("resnet")
    kinds, state = [type(m) for m in model.modules()], copy.deepcopy(model.state_dict())
    prunable(model, inputs)
    assert kinds == [type(m) for m in model.modules()]
    assert all(torch.equal(x, state[name]) for name, x in model.state_dict().items())


class Odd(nn.Module):
    """A layer of 16 channels, and something done with them."""

    def __init__(self, do, after=16):
        super().__init__()
        self.first, self.last, self.do = nn.Linear(4, 16), nn.Linear(after, 3), do
        self.free, self.other = nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.last(self.do(torch.tanh(self.first(x)))) + self.other(self.free(x))


@pytest.mark.parametrize(
    ("do", "after"),
    [
        (lambda x: x.view(-1, 4, 4).mean(1), 4),  # sizes that are written down
        (lambda x: x[:, :8] * x[:, 8:], 8),
        (lambda x: x[:, :8].mean(1, keepdim=True) + x, 16),
        (lambda x: x.cumsum(1), 16),
        (lambda x: x[:, torch.arange(15, -1, -1)], 16),
        (lambda x: torch.fft.fft(x).real, 16),
        (lambda x: x * torch.arange(16), 16),
        (lambda x: torch.sigmoid(x).sum(1, keepdim=True) * x, 16),
    ],
)
def test_what_is_not_understood_stays_and_is_named(do, after):
    torch.manual_seed(0)
    supernet = prunable(Odd(do, after), torch.randn(2, 4))
    assert supernet.space.decisions == ("free",)
    assert "first" in supernet.report.unpruned
    for _, network in random_networks(supernet, (torch.randn(2, 4),)):
        assert network.first.out_features == 16


@pytest.mark.parametrize("pool", [nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d(2), nn.MaxPool2d(2)])
def test_the_order_in_memory_changes_nothing(pool):
    """Channels-last inputs run other operations inside of PyTorch."""
    model = nn.Sequential(nn.Conv2d(3, 16, 3), pool, nn.Flatten(), nn.LazyLinear(5))
    x = torch.randn(1, 3, 8, 8)
    model(x)
    found = [prunable(model, y).report for y in (x, x.to(memory_format=torch.channels_last))]
    assert str(found[0]) == str(found[1])
    assert len(found[0].widths) == 1


class Forward(nn.Module):
    """Parts, and a function of them and the input."""

    def __init__(self, do, **parts):
        super().__init__()
        self.do = do
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *arguments):
        return self.do(self, *arguments)


def excited(self, x):
    h = functional.hardswish(self.first(x))
    return self.last(h * functional.hardsigmoid(self.up(self.down(functional.adaptive_avg_pool2d(h, 1)))))


def attended(self, x):
    """As many heads of keys as of queries, counted apart, from one layer that is split by their numbers."""
    b, t, _ = x.shape
    parts = self.first(x).split([n * 4 for n in (self.heads, self.key_heads, self.key_heads)], -1)
    q, k, v = (y.view(b, t, -1, 4).transpose(1, 2) for y in parts)
    h = functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    return self.last(h.transpose(1, 2).reshape(b, t, self.heads * 4))


def attention():
    made = Forward(attended, first=nn.Linear(5, 48), last=nn.Linear(16, 3))
    made.heads, made.key_heads = 4, 4
    return made


def conv(a, b, kernel=3, **how):
    return nn.Conv2d(a, b, kernel, padding=kernel // 2, **how)


ODD = {
    "excitation": lambda: Forward(excited, first=conv(3, 16), down=conv(16, 8, 1), up=conv(8, 16, 1), last=conv(16, 4)),
    "space to channels": lambda: nn.Sequential(conv(3, 16), nn.PixelUnshuffle(2), conv(64, 4)),
    "channels to space": lambda: nn.Sequential(conv(3, 32), nn.PixelShuffle(2), conv(8, 4)),
    "patches": lambda: Forward(
        lambda s, x: s.last(functional.unfold(s.first(x), 3, padding=1).unflatten(2, x.shape[2:])),
        first=conv(3, 8), last=conv(72, 4, 1),
    ),
    "weight norm": lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(conv(3, 16)), nn.ReLU(), conv(16, 4)),
    "transposed depthwise": lambda: nn.Sequential(
        conv(3, 16), nn.ConvTranspose2d(16, 16, 2, 2, groups=16), conv(16, 4)
    ),
    "unit length": lambda: Forward(
        lambda s, x: s.last(functional.normalize(s.first(x), dim=1)), first=conv(3, 16), last=conv(16, 4)
    ),
    "shared": lambda: Forward(
        lambda s, x: s.last(s.mix(s.mix(s.first(x)))), first=conv(3, 16), mix=conv(16, 16), last=conv(16, 4)
    ),
    "concatenated twice": lambda: Forward(
        lambda s, x: s.last(torch.cat([s.a(x), s.b(x), s.a(x)], 1)), a=conv(3, 8), b=conv(3, 24), last=conv(40, 4)
    ),
    "heads": attention,
    "bag of words": lambda: nn.Sequential(nn.EmbeddingBag(20, 16), nn.Linear(16, 3)),
    "weights used outside of their module": lambda: Forward(
        lambda s, ids: functional.linear(s.mix(s.words(ids)), s.words.weight),
        words=nn.Embedding(20, 16), mix=nn.Linear(16, 16),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_networks_are_cut_and_counted(name):
    torch.manual_seed(0)
    words = name.startswith(("bag", "weights"))
    x = torch.arange(6)[None] if words else torch.randn(2, 6, 5) if name == "heads" else torch.randn(2, 3, 8, 8)
    supernet = prunable(ODD[name]().eval(), x, (0.5, 1.0), 1)
    costs = Costs(supernet, x)
    for labels, network in [*random_networks(supernet, (x,), 3)]:
        assert costs.parameters()(labels) == measure.parameters(network)
        assert costs.macs()(labels) == pytest.approx(measure.macs(network, x) / 1e6)


def test_means_over_channels_are_of_those_that_stay():
    supernet = prunable(Odd(lambda x: x - x.mean(1, keepdim=True)), torch.randn(2, 4))
    assert set(supernet.space.decisions) == {"first", "free"}


class SameNumbers(nn.Module):
    """As many heads as features of a head: which attribute counts heads can only be tried."""

    def __init__(self):
        super().__init__()
        self.size, self.number = 4, 4
        self.qkv, self.out = nn.Linear(8, 48), nn.Linear(16, 8)

    def forward(self, x):
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, self.number, self.size).permute(2, 0, 3, 1, 4)
        h = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return x + self.out(h.reshape(*x.shape[:2], self.number * self.size))


def test_the_attribute_that_counts_heads_is_found():
    supernet = prunable(nn.Sequential(nn.Linear(3, 8), SameNumbers(), nn.Linear(8, 3)), torch.randn(2, 5, 3))
    networks = {labels["1.qkv"]: network for labels, network in random_networks(supernet, (torch.randn(2, 5, 3),), 12)}
    assert {network[1].number for network in networks.values() if hasattr(network[1], "number")} <= {1, 2, 3, 4}
    assert all(network[1].size == 4 for network in networks.values() if hasattr(network[1], "size"))


class Divides(nn.Module):
    """The size of a head follows from the width of the input: both can only be cut in the same share."""

    def __init__(self):
        super().__init__()
        self.number, self.width = 4, 16
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x):
        b, t, c = x.shape
        parts = self.qkv(x).split(self.width, dim=2)
        q, k, v = (y.view(b, t, self.number, c // self.number).transpose(1, 2) for y in parts)
        h = functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(h.transpose(1, 2).reshape(b, t, c))


def test_what_can_only_be_cut_together_is_not_offered():
    x = torch.randn(8, 5, 3)
    model = nn.Sequential(nn.Linear(3, 16), Divides(), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 3))
    supernet = prunable(model, x, depth=False)
    assert supernet.space.decisions == ("2",)
    assert {"0", "1.qkv"} <= set(supernet.report.unpruned)


class Einsum(nn.Module):
    """Grouped queries by repeat_interleave and einsum, with more samples than heads."""

    def __init__(self):
        super().__init__()
        self.heads, self.pairs = 6, 2
        self.q, self.kv, self.out = nn.Linear(12, 24), nn.Linear(12, 16), nn.Linear(24, 12)

    def forward(self, x):
        q = self.q(x).unflatten(-1, (self.heads, -1))
        k, v = (y.unflatten(-1, (self.pairs, -1)) for y in self.kv(x).chunk(2, -1))
        k, v = (y.repeat_interleave(self.heads // self.pairs, 2) for y in (k, v))
        weights = torch.einsum("bqhd,bkhd->bhqk", q, k).softmax(-1)
        return x + self.out(torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2))


class Masked(Einsum):
    """Called by name, as blocks that can be left out may be."""

    def forward(self, x, mask=None):
        return super().forward(x)


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.layer, self.last = nn.Linear(3, 12), Masked(), nn.Linear(12, 3)

    def forward(self, x):
        return self.last(self.layer(self.first(x), mask=None))


def test_blocks_with_heads_that_are_called_by_name_can_be_left_out():
    x = torch.randn(8, 5, 3)
    supernet = prunable(Named(), x, (0.5, 1.0), round_to=1)
    assert {"layer.depth", "layer.q"} <= set(supernet.space.decisions)
    for _ in random_networks(supernet, (x,)):
        pass


def test_heads_of_einsum():
    x = torch.randn(8, 5, 3)
    supernet = prunable(nn.Sequential(nn.Linear(3, 12), Einsum(), nn.Linear(12, 3)), x, (0.5, 1.0), round_to=1)
    assert supernet.space.option_labels("1.q") == ("12", "24")
    for _ in random_networks(supernet, (x,)):
        pass


def test_weights_that_two_layers_share_keep_their_size():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.mix, self.head = nn.Embedding(20, 16), nn.Linear(16, 16), nn.Linear(16, 20, bias=False)
            self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
            self.head.weight = self.words.weight

        def forward(self, ids):
            x = self.mix(self.words(ids))
            return self.head(x + self.down(functional.relu(self.up(x))))

    ids = torch.arange(6)[None]
    supernet = prunable(Tied(), ids)
    assert supernet.space.decisions == ("up",)
    for _, network in random_networks(supernet, (ids,)):
        assert network.head.weight is network.words.weight


def test_nothing_to_remove():
    with pytest.raises(ValueError, match=r"no channel and no block of Linear can be removed: .*output"):
        prunable(nn.Linear(3, 2), torch.zeros(1, 3))
    for wrong in ((), (0.0, 1.0), (1.5,)):
        with pytest.raises(ValueError, match="ratios"):
            prunable(nn.Linear(3, 2), torch.zeros(1, 3), wrong)


def test_searched_trained_profiled_and_copied():
    torch.manual_seed(0)
    model = MODELS["resnet"][0](widths=(8, 16), blocks=1, classes=3)
    x, y = torch.randn(32, 3, 8, 8), torch.arange(32) % 3
    supernet = prunable(model, x[:1], round_to=4)
    macs = Costs(supernet, x[:1]).macs()
    bound = macs <= 0.3 * macs(largest(supernet))
    assert "feasible" in str(
        profile(supernet, x[:1], [bound], metrics=[macs], samples=10, time_limit=1, show=False).together
    )
    result = search(
        supernet, (x, y), (x, y), [bound], epochs=2, batch_size=16, candidates=4, finalists=2, progress=False
    )
    assert macs(result.selection) <= bound.bound
    for relaxation in (Darts, ProxylessTwoPath):
        supernet.relax(relaxation())
        supernet.model(x).square().mean().backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in supernet.parameters)


def test_statistics_of_batch_norms_that_are_cut_in_the_middle():
    """A concatenation leaves gaps in the running statistics; what is measured must come back to its place."""
    torch.manual_seed(0)
    supernet, x = prunable(UNet(), torch.randn(2, 3, 16, 16), round_to=4), torch.randn(8, 3, 16, 16)
    row = [0] * len(supernet.space.decisions)
    batches = [(x, torch.zeros(8))]
    network = extract(supernet, row)
    recalibrate(network, batches)
    with supernet.selected(row) as model:
        recalibrate(model, batches)
        model.eval()
        torch.testing.assert_close(model(x), network.eval()(x), rtol=1e-5, atol=1e-5)


@st.composite
def networks(draw):
    """Small networks of layers, residual sums, concatenations, grouped layers and norms in any order."""
    channels = draw(st.sampled_from([4, 6, 8]))
    kinds = draw(
        st.lists(
            st.sampled_from(["conv", "res", "cat", "depth", "group", "norm", "gnorm", "se", "shuffle"]),
            min_size=1,
            max_size=4,
        )
    )
    return channels, kinds


class Block(nn.Module):
    def __init__(self, kind, c):
        super().__init__()
        self.kind, self.conv = kind, nn.Conv2d(c, c, 3, padding=1, groups={"depth": c, "group": 2}.get(kind, 1))
        self.norm = {"norm": nn.BatchNorm2d(c), "gnorm": nn.GroupNorm(2, c)}.get(kind, nn.Identity())
        self.mix = nn.Conv2d(2 * c if kind == "cat" else c, c, 1)

    def forward(self, x):
        h = self.norm(self.conv(x))
        if self.kind == "cat":
            return functional.relu(self.mix(torch.cat([h, x], 1)))
        if self.kind == "se":
            return h * torch.sigmoid(self.mix(h.mean((2, 3), keepdim=True)))
        if self.kind == "shuffle":
            b, c, *side = h.shape
            return self.mix(h.view(b, 2, c // 2, *side).transpose(1, 2).reshape(b, c, *side))
        return x + self.mix(functional.relu(h)) if self.kind == "res" else self.mix(functional.relu(h))


@settings(max_examples=12, deadline=None)
@given(networks(), st.integers(0, 99))
@pytest.mark.slow
def test_any_network_computes_what_its_supernet_does(network, seed):
    channels, kinds = network
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(2, channels, 1), *[Block(kind, channels) for kind in kinds], nn.Flatten(), nn.Linear(16 * channels, 3)
    )
    x = torch.randn(2, 2, 4, 4)
    supernet = prunable(model.eval(), x, (0.25, 0.5, 1.0), round_to=1)
    with torch.no_grad(), supernet.selected(largest(supernet)) as same:
        torch.testing.assert_close(same.eval()(x), model(x), rtol=1e-6, atol=1e-6)
    parameters = Costs(supernet, x).parameters()
    for labels, one in random_networks(supernet, (x,), 2):
        assert parameters(labels) == measure.parameters(one)
