"""collect and Supernet: names, shared decisions, states."""

import copy

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn

from cggd_nas import Choice, Darts, GumbelSoftmax, Supernet, UniformPath, collect


def options():
    return {"wide": nn.Linear(2, 2), "skip": nn.Identity()}


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(2, 2),
        Choice(options(), decision="shared"),
        Choice({"a": nn.Tanh(), "b": nn.ReLU(), "c": nn.Linear(2, 2)}),
        Choice(options(), decision="shared"),
    )


def test_decisions_are_named_and_shared():
    model = network()
    net = collect(model)
    assert net.space.options == {"shared": ("wide", "skip"), "2": ("a", "b", "c")}
    assert {d: list(shared) for d, shared in net.choices.items()} == {"shared": ["1", "3"], "2": ["2"]}
    assert model[1].logits is model[3].logits is net.parameters[0]
    assert model[2].decision == "2"
    assert [tuple(p.shape) for p in net.architecture()] == [(2,), (3,)]
    every = {id(p) for p in model.parameters()}
    assert {id(p) for p in net.weights()} | {id(p) for p in net.architecture()} == every
    assert not {id(p) for p in net.weights()} & {id(p) for p in net.architecture()}
    assert repr(net) == "Supernet(Sequential, ChoiceSpace(2 decisions, 2 to 3 options each))"


def test_shared_choices_draw_the_same_path():
    model = network()
    net = collect(model)
    net.relax(GumbelSoftmax(), generator=torch.Generator().manual_seed(0))
    paths = set()
    for _ in range(20):
        model(torch.ones(1, 2))
        assert model[1].mixing is model[3].mixing
        paths.add(model[1].mixing.paths)
    assert paths == {(0,), (1,)}


def test_collecting_again_gives_the_same_supernet():
    model = network()
    net = collect(model)
    assert collect(model) is net
    assert collect(nn.DataParallel(model)) is net
    assert len(model._forward_pre_hooks) == 1
    model.append(Choice(options()))
    with pytest.raises(ValueError, match="choices or graph of the model changed"):
        collect(model)


def test_copies_have_supernets_of_their_own():
    model = network()
    net = collect(model)
    net.relax(Darts())
    model(torch.ones(1, 2))
    twin = copy.deepcopy(model)
    other = collect(twin)
    assert isinstance(other, Supernet)
    assert other.model is twin
    assert other.parameters[0] is twin[1].logits is twin[3].logits
    other.set_logits([0.0, 1.0, 0.0, 0.0, 1.0])
    assert other.selection() == {"shared": "skip", "2": "c"}
    assert not np.array_equal(net.logits(), other.logits())
    torch.testing.assert_close(twin(torch.ones(1, 2)), twin(torch.ones(1, 2)))


def test_logits_go_in_and_out_exactly():
    net = collect(network().double())
    flat = np.random.default_rng(0).standard_normal(5)
    net.set_logits(flat)
    assert np.array_equal(net.logits(), flat)
    assert net.indices().tolist() == [int(flat[:2].argmax()), int(flat[2:].argmax())]
    assert [part.tolist() for part in net.cut(flat)] == [flat[:2].tolist(), flat[2:].tolist()]
    with pytest.raises(ValueError, match=r"logits must have shape \(5,\), got \(4,\)"):
        net.set_logits(np.zeros(4))
    for wrong in (np.nan, np.inf):
        flat[3] = wrong
        with pytest.raises(ValueError, match=rf"logits must be finite or -inf, got {wrong} for option .* of decision"):
            net.set_logits(flat)


def test_states_come_back_after_a_selection():
    model = network()
    net = collect(model)
    net.relax(Darts())
    x = torch.randn(3, 2)
    before = model(x)
    with net.selected({"shared": "skip", "2": "b"}) as inside:
        assert inside is model
        torch.testing.assert_close(model(x), torch.relu(model[0](x)))
        with net.selected([1, 0]):
            torch.testing.assert_close(model(x), torch.tanh(model[0](x)))
        torch.testing.assert_close(model(x), torch.relu(model[0](x)))
    torch.testing.assert_close(model(x), before)
    with pytest.raises(ValueError, match="has no option 'z'"), net.selected({"shared": "skip", "2": "z"}):
        pass
    torch.testing.assert_close(model(x), before)


def test_parts_run_alone_after_a_draw():
    model = network()
    net = collect(model)
    net.relax(UniformPath(), generator=torch.Generator().manual_seed(0))
    net.draw()
    assert model[1](torch.ones(1, 2)).shape == (1, 2)


def test_the_same_generator_gives_the_same_paths():
    runs = []
    for _ in range(2):
        model = network()
        net = collect(model)
        net.relax(GumbelSoftmax(), generator=torch.Generator().manual_seed(7))
        runs.append([model(torch.ones(1, 2)).tolist() for _ in range(5)])
    assert runs[0] == runs[1]


def test_a_graph_is_kept_and_its_decisions_are_checked():
    graph = nx.DiGraph()
    graph.add_edge(0, 1, decision="shared")
    assert collect(network(), graph).space.graph is graph
    graph.add_edge(1, 2, decision="other")
    with pytest.raises(ValueError, match="graph names decision 'other', which the model lacks"):
        collect(network(), graph)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(2, 2), "Linear has no Choice"),
        (
            nn.Sequential(Choice(options(), decision="d"), Choice({"skip": nn.Identity()}, decision="d")),
            r"must have the same options in the same order, got \('wide', 'skip'\) at '0' and \('skip',\) at '1'",
        ),
        (
            nn.Sequential(Choice(options()), Choice(options(), decision="0")),
            "decision '0' is also the path of a choice without a decision",
        ),
        ("model", "model must be an nn.Module, got 'model'"),
    ],
)
def test_what_cannot_be_collected_is_named(model, message):
    with pytest.raises((ValueError, TypeError), match=message):
        collect(model)


def test_a_relaxation_must_draw():
    with pytest.raises(TypeError, match=r"relaxation must be a Relaxation such as GumbelSoftmax\(\)"):
        collect(network()).relax("gumbel")
    with pytest.raises(TypeError, match="relaxation must be a Relaxation"):
        collect(network()).relax(Darts)
    with pytest.raises(TypeError, match=r"generator must be a torch.Generator or None, got 0"):
        collect(network()).relax(Darts(), generator=0)


def test_threads_on_several_devices_are_refused():
    parallel = nn.DataParallel(network())
    parallel.device_ids = [0, 1]
    with pytest.raises(ValueError, match=r"DataParallel over 2 devices.*use DistributedDataParallel"):
        collect(parallel)


def test_a_choice_may_be_the_whole_model():
    net = collect(Choice(options()))
    assert list(net.space.decisions) == ["choice"]


# The compiler looks at the .grad of weights of paths, which are no leaves, and hides the warning but where warnings are
# errors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_networks_compute_the_same(backend):
    model = network()
    net = collect(model)
    compiled = torch.compile(model, backend=backend)
    assert collect(compiled) is net
    x = torch.randn(3, 2)
    net.relax(Darts())
    expected = model(x)
    expected.sum().backward()
    gradients = [p.grad.clone() for p in net.parameters]
    model.zero_grad()
    actual = compiled(x)
    actual.sum().backward()
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close([p.grad for p in net.parameters], gradients)
    for selection in ([0, 0], [1, 2]):
        with net.selected(selection):
            torch.testing.assert_close(compiled(x), model(x))
