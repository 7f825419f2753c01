"""Relaxations: which paths run, and the gradients that their papers give the logits."""

import copy
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cggd_nas import ChannelChoice, Choice, Darts, GumbelSoftmax, ProxylessTwoPath, RepeatChoice, UniformPath, collect
from cggd_nas.nested import tensors_in
from cggd_nas.relaxations import mix

RELAXATIONS = [
    GumbelSoftmax(temperature=0.7),
    GumbelSoftmax(temperature=0.7, hard=False),
    Darts(temperature=0.7),
    ProxylessTwoPath(temperature=0.7),
    UniformPath(),
]


class Scaled(nn.Module):
    """Multiplies by a weight, and counts how often it is asked to."""

    def __init__(self, factor):
        super().__init__()
        self.factor, self.calls = nn.Parameter(torch.tensor(factor, dtype=torch.float64)), 0

    def forward(self, x):
        self.calls += 1
        return x * self.factor


def supernet(factors, logits):
    net = collect(nn.Sequential(Choice({f"option {k}": Scaled(f) for k, f in enumerate(factors)}, decision="d")))
    net.model.double()
    net.set_logits(logits)
    return net


vectors = st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=1, max_size=5)


@pytest.mark.parametrize("relaxation", RELAXATIONS, ids=repr)
@given(vectors, st.integers(0, 1000))
def test_only_drawn_paths_run(relaxation, pairs, seed):
    factors, logits = zip(*pairs, strict=True)
    net = supernet(factors, logits)
    net.relax(relaxation, generator=torch.Generator().manual_seed(seed))
    net.model(torch.ones(2, dtype=torch.float64))
    mixing = net.choices["d"]["0"].mixing
    calls = [option.calls for option in net.choices["d"]["0"].options.values()]
    assert calls == [int(path in mixing.paths) for path in range(len(pairs))]
    most = {GumbelSoftmax: 1, ProxylessTwoPath: min(2, len(pairs)), UniformPath: 1}
    soft = isinstance(relaxation, Darts) or getattr(relaxation, "hard", True) is False
    assert sum(calls) == (len(pairs) if soft else most[type(relaxation)])


@pytest.mark.parametrize("relaxation", RELAXATIONS, ids=repr)
def test_without_gradients_sampled_relaxations_run_one_path(relaxation):
    net = supernet([1.0, 2.0, 3.0], [0.1, 0.2, 0.3])
    net.relax(relaxation)
    sampled = not (isinstance(relaxation, Darts) or getattr(relaxation, "hard", True) is False)
    with torch.no_grad():
        net.model(torch.ones(2, dtype=torch.float64))
    assert len(net.choices["d"]["0"].mixing.paths) == (1 if sampled else 3)


@given(vectors, st.integers(0, 1000))
def test_hard_gumbel_is_the_straight_through_gradient_of_the_sampled_path(pairs, seed):
    factors, logits = zip(*pairs, strict=True)
    net = supernet(factors, logits)
    net.relax(GumbelSoftmax(temperature=0.7), generator=torch.Generator().manual_seed(seed))
    x = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    y = net.model(x)
    (path,) = net.choices["d"]["0"].mixing.paths
    assert torch.equal(y, x * factors[path])  # a weight of exactly 1
    (y**2).sum().backward()
    generator = torch.Generator().manual_seed(seed)
    noise = -torch.empty(len(pairs), dtype=torch.float64).exponential_(generator=generator).log().numpy()
    z = (np.array(logits) + noise) / 0.7
    p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    assert path == z.argmax()
    output = (x * factors[path]).numpy()
    slope = (2 * output) @ output  # <dL/dy, y_path>
    expected = slope * p[path] * ((np.arange(len(pairs)) == path) - p) / 0.7
    np.testing.assert_allclose(net.parameters[0].grad.numpy(), expected, atol=1e-10)


@given(vectors)
def test_darts_is_the_softmax_mixture_with_its_gradient(pairs):
    factors, logits = map(np.array, zip(*pairs, strict=True))
    net = supernet(factors, logits)
    net.relax(Darts(temperature=0.7))
    y = net.model(torch.ones(1, dtype=torch.float64))
    y.sum().backward()
    p = np.exp(logits / 0.7) / np.exp(logits / 0.7).sum()
    np.testing.assert_allclose(y.detach().numpy(), [p @ factors], atol=1e-12)
    np.testing.assert_allclose(net.parameters[0].grad.numpy(), p * (factors - p @ factors) / 0.7, atol=1e-12)


@given(vectors.filter(lambda pairs: len(pairs) > 1), st.integers(0, 1000))
def test_proxyless_gradient_is_that_of_the_paper(pairs, seed):
    factors, logits = map(np.array, zip(*pairs, strict=True))
    net = supernet(factors, logits)
    net.relax(ProxylessTwoPath(), generator=torch.Generator().manual_seed(seed))
    x = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    y = net.model(x)
    (y**2).sum().backward()
    choice = net.choices["d"]["0"]
    active, silent = choice.mixing.paths
    torch.testing.assert_close(y.detach(), x * factors[active])
    # dL/dg_j = <dL/dy, o_j>, and dL/dalpha_i = sum_j dL/dg_j p_j (delta_ij - p_i) over the two paths (eq. 4).
    pair = np.array([active, silent])
    p = np.exp(logits[pair]) / np.exp(logits[pair]).sum()
    by_gate = np.array([float((2 * y.detach()) @ (x * factors[j])) for j in pair])
    expected = np.zeros(len(pairs))
    for i in range(2):
        expected[pair[i]] = sum(by_gate[j] * p[j] * ((i == j) - p[i]) for j in range(2))
    np.testing.assert_allclose(net.parameters[0].grad.numpy(), expected, atol=1e-9)
    options = list(choice.options.values())
    assert options[active].factor.grad is not None
    assert options[silent].factor.grad is None


def draws(relaxation, logits, n=4000):
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor(logits, requires_grad=True)
    return [relaxation.draw(logits, generator) for _ in range(n)]


# With 4,000 draws a share has a standard deviation of at most 0.008; 0.03 is almost four of them.
def test_hard_gumbel_draws_from_the_softmax_of_the_logits():
    shares = np.bincount([m.paths[0] for m in draws(GumbelSoftmax(temperature=0.1), [0.0, 1.0, -1.0])]) / 4000
    np.testing.assert_allclose(shares, torch.softmax(torch.tensor([0.0, 1.0, -1.0]), 0).numpy(), atol=0.03)


def test_proxyless_draws_pairs_without_replacement_and_one_of_them_by_its_share():
    logits = [0.0, 1.0, -1.0]
    p = torch.softmax(torch.tensor(logits), 0).numpy()
    mixings = draws(ProxylessTwoPath(), logits)
    for a in range(3):
        for b in range(3):
            if a != b:
                pair = p[a] * p[b] * (1 / (1 - p[a]) + 1 / (1 - p[b]))
                share = np.mean([m.paths == (a, b) for m in mixings])
                assert share == pytest.approx(pair * p[a] / (p[a] + p[b]), abs=0.03)


def test_uniform_paths_are_uniform_and_leave_forbidden_options_out():
    shares = np.bincount([m.paths[0] for m in draws(UniformPath(), [5.0, -float("inf"), 0.0, -5.0])]) / 4000
    np.testing.assert_allclose(shares, [1 / 3, 0, 1 / 3, 1 / 3], atol=0.03)


def test_soft_gumbel_weighs_all_paths_and_differs_from_draw_to_draw():
    first, second = draws(GumbelSoftmax(hard=False), [0.0, 1.0], n=2)
    assert first.paths == (0, 1)
    assert float(first.weights.sum().detach()) == pytest.approx(1.0)
    assert not torch.equal(first.weights, second.weights)


def saved_bytes(net, x):
    """What the forward pass keeps for the backward pass."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        net.model(x).sum()
    return sum(kept.values())


def test_sampled_paths_need_the_memory_of_one_network():
    net = collect(nn.Sequential(*(Choice({str(k): nn.Conv2d(8, 8, 3, padding=1) for k in range(5)}) for _ in range(4))))
    x, used = torch.randn(8, 8, 16, 16), {}
    for name, relaxation in {"one": GumbelSoftmax(), "two": ProxylessTwoPath(), "all": Darts()}.items():
        net.relax(relaxation, generator=torch.Generator().manual_seed(0))
        used[name] = saved_bytes(net, x)
    net.select([0, 0, 0, 0])
    alone = saved_bytes(net, x)
    # Weighing an output keeps it, once per choice: twice one network at most, far from five times.
    assert alone < used["one"] <= 2.1 * alone
    assert used["two"] < 0.7 * used["all"]
    assert used["all"] > 4 * alone


@dataclass
class Pair:
    first: torch.Tensor
    second: object


Named = namedtuple("Named", ["first", "second"])
STRUCTURES = {
    "tuple": lambda x: (x, 2 * x),
    "list": lambda x: [x, None, 2 * x],
    "mapping": lambda x: {"a": x, "b": [2 * x, "text"]},
    "dataclass": lambda x: Pair(x, (2 * x, 3)),
    "named tuple": lambda x: Named(x, torch.tensor([1, 2])),
    "ordered": lambda x: OrderedDict(a=x),
}


@pytest.mark.parametrize("relaxation", [Darts(), GumbelSoftmax(), GumbelSoftmax(hard=False), ProxylessTwoPath()])
@pytest.mark.parametrize("wrap", STRUCTURES.values(), ids=STRUCTURES)
def test_structures_are_mixed_tensor_by_tensor(relaxation, wrap):
    logits = torch.tensor([0.0, 1.0, 2.0], requires_grad=True)
    mixing = relaxation.draw(logits, torch.Generator().manual_seed(0))
    outputs = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    found = mix(mixing, lambda path: wrap(outputs[path]))
    assert type(found) is type(wrap(outputs[0]))
    for i, one in enumerate(tensors_in(found)):
        other = mix(mixing, lambda path, i=i: list(tensors_in(wrap(outputs[path])))[i])
        torch.testing.assert_close(one, other)
        assert one.requires_grad == one.is_floating_point()


@pytest.mark.parametrize(
    "outputs",
    [
        (torch.zeros(2), (torch.zeros(2), torch.zeros(2))),
        (torch.zeros(2), torch.zeros(3)),
        ({"a": torch.zeros(1)}, {"b": torch.zeros(1)}),
        (torch.tensor([1, 2]), torch.tensor([1, 3])),
        (None, torch.zeros(1)),
        ("one", "other"),
    ],
)
def test_what_cannot_be_mixed_is_an_error_where_it_is_read(outputs):
    first = torch.ones(1)
    found, state = mix(Darts().draw(torch.zeros(2), None), lambda path: (first, outputs[path]), ["gru", "lstm"])
    assert torch.equal(found, first)
    for read in (lambda: state[0], lambda: state + 1, lambda: 2 * state, lambda: state.shape, lambda: torch.relu(state),
                 lambda: list(state), lambda: state @ first):  # fmt: skip
        with pytest.raises(TypeError, match="options gru, lstm of a choice return parts that cannot be mixed"):
            read()
    _, other = mix(GumbelSoftmax().draw(torch.zeros(2), torch.Generator().manual_seed(0)), lambda p: (1, outputs[p]))
    assert type(other) in {type(x) for x in outputs}


def test_copies_of_a_model_do_not_reach_into_the_graph():
    net = supernet([1.0, 2.0], [0.0, 0.0])
    net.relax(Darts())
    net.model(torch.ones(1, dtype=torch.float64))
    twin = collect(copy.deepcopy(net.model))
    assert twin is not net
    assert twin.model[0].mixing.weights.grad_fn is None
    twin.model(torch.ones(1, dtype=torch.float64)).sum().backward()
    assert net.parameters[0].grad is None


@pytest.mark.parametrize("kind", [GumbelSoftmax, Darts, ProxylessTwoPath])
@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf"), "hot", True])
def test_wrong_temperatures_are_named(kind, temperature):
    with pytest.raises((ValueError, TypeError), match=f"temperature must be .*, got .?{temperature}"):
        kind(temperature=temperature)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("relaxation", RELAXATIONS[:-1], ids=str)
def test_mixed_precision_keeps_its_type_and_logits_keep_theirs(relaxation, dtype):
    """Weights of paths must not lift activations to single precision."""
    torch.manual_seed(0)
    convs = {name: nn.Conv2d(3, 4, size, padding=size // 2) for name, size in (("conv3", 3), ("conv1", 1))}
    model = nn.Sequential(Choice(convs), ChannelChoice(4, [2, 4]), RepeatChoice([nn.Conv2d(4, 4, 1)], [0, 1]))
    net = collect(model)
    net.relax(relaxation)
    with torch.autocast("cpu", dtype):
        output = model(torch.randn(2, 3, 8, 8))
    assert output.dtype == dtype
    output.float().square().mean().backward()
    for logits in net.parameters:
        assert logits.grad.dtype == torch.float32
        assert logits.grad.isfinite().all()
