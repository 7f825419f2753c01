"""TorchGuide: the numpy core's trajectories, and what a training loop may do to them."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cggd import Additive, Function, Guide, Safeguard, Table, find_feasible
from cggd.datasets import nats_topology
from cggd.guide.optimizers import Adam, Guided, Momentum
from cggd.guide.relaxation import softmax
from cggd_nas import Choice, Darts, TorchGuide, collect

NATS = nats_topology()


def bare(space):
    """A network that is nothing but the choices of a space, in double precision."""
    choices = {
        str(d): Choice({str(o): nn.Identity() for o in space.option_labels(d)}, decision=str(d))
        for d in space.decisions
    }
    return collect(nn.Sequential(*choices.values()).double())


def nats():
    net = bare(NATS.space)
    tables = {n: Table(net.space, getattr(NATS, n).values, name=n) for n in ("latency", "energy", "val12")}
    return net, [tables["latency"] <= 4.0, tables["energy"] <= 18.0], tables["val12"]


def tabulated_loss(net, metric):
    """Minus the expected accuracy, decision by decision, with the others at their arg max: differentiable by torch."""
    table = torch.as_tensor(-metric.replacements(net.indices()))
    parts = table.split(net.space.sizes.tolist())
    return sum((torch.softmax(p, 0) * part).sum() for p, part in zip(net.parameters, parts, strict=True))


def tabulated_gradient(logits, metric):
    """The same, by hand."""
    layout = metric.space.layout
    table = -metric.replacements(layout.argmax(logits))
    p = softmax(logits, layout)
    return p * (table - layout.spread(layout.reduce(np.add, p * table)))


@pytest.mark.parametrize("weights", ["unit", "difference"])
@pytest.mark.parametrize("seed", range(3))
def test_gradients_follow_the_numpy_core_on_nats(weights, seed):
    net, constraints, accuracy = nats()
    start = np.random.default_rng(seed).standard_normal(net.space.n_options)
    net.set_logits(start)
    guide = TorchGuide(net, constraints, weights=weights)
    optimizer = torch.optim.SGD(net.architecture(), lr=0.1)
    core, logits = Guide(constraints, weights=weights), start.copy()
    feasible = []
    for _ in range(200):
        optimizer.zero_grad()
        tabulated_loss(net, accuracy).backward()
        feasible.append(guide.modify_gradients().feasible)
        optimizer.step()
        logits -= 0.1 * core.modify(tabulated_gradient(logits, accuracy), logits)
        np.testing.assert_allclose(net.logits(), logits, atol=1e-10)
    assert 0 < sum(feasible) < 200  # both branches were taken


RULES = {
    "adam": (lambda p: torch.optim.Adam(p, lr=0.05), Adam(0.05)),
    "momentum": (lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9), Momentum(0.05, 0.9)),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("patience", [2, 10])
def test_updates_follow_the_numpy_core_on_nats(rule, patience):
    net, constraints, accuracy = nats()
    start = np.random.default_rng(0).standard_normal(net.space.n_options)
    net.set_logits(start)
    witness = find_feasible(constraints).indices
    make, theirs = RULES[rule]
    guide = TorchGuide(net, constraints, patience=patience, witness=witness)
    optimizer = make(net.architecture())
    guided = Guided(Safeguard(Guide(constraints), patience), theirs)
    logits, state, modes = start.copy(), guided.begin(witness), set()
    for _ in range(200):
        optimizer.zero_grad()
        tabulated_loss(net, accuracy).backward()
        modes.add(guide.update(optimizer).mode)
        step, state = guided.step(logits, tabulated_gradient(logits, accuracy), state)
        logits = step.logits
        np.testing.assert_allclose(net.logits(), logits, atol=1e-10)
    assert {"free", "guided"} <= modes
    assert patience > 2 or "landed" in modes


problems = st.lists(st.lists(st.floats(0, 10), min_size=1, max_size=4), min_size=1, max_size=4)


@settings(max_examples=50)
@given(problems, st.integers(0, 1000), st.sampled_from(["adam", "momentum"]))
def test_updates_become_feasible_against_any_gradient(costs, seed, rule):
    """One feasible selection, the cheapest one, and gradients that push away from it."""
    net = collect(nn.Sequential(*(Choice({str(k): nn.Identity() for k in range(len(c))}) for c in costs)).double())
    cost = Additive(net.space, np.concatenate(costs), name="cost")
    cheapest = np.array([int(np.argmin(c)) for c in costs])
    rng = np.random.default_rng(seed)
    net.set_logits(rng.standard_normal(net.space.n_options))
    guide = TorchGuide(net, cost <= cost(cheapest), patience=3, witness=cheapest)
    optimizer = RULES[rule][0](net.architecture())
    for _ in range(60):
        for p, c in zip(net.parameters, costs, strict=True):
            p.grad = torch.as_tensor(rng.uniform(0, 5) * (np.array(c) == min(c)), dtype=p.dtype)
        if guide.update(optimizer).feasible:
            return
    pytest.fail("not feasible after 60 steps")


def trained(optimizer=None, dtype=torch.float32):
    """A small network whose logits start at the forbidden option."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(3, 4),
        Choice({"wide": nn.Linear(4, 4), "skip": nn.Identity()}, decision="a"),
        Choice({"wide": nn.Linear(4, 4), "skip": nn.Identity()}, decision="b"),
        nn.Linear(4, 2),
    ).to(dtype)
    net = collect(model)
    net.relax(Darts())
    net.set_logits([1.0, 0.0, 0.5, 0.0])
    size = Additive(net.space, [20.0, 0.0, 20.0, 0.0], name="size", unit="kB")
    return net, [size <= 20.0]


def batch(seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(8, 3, generator=g).to(dtype), torch.randint(2, (8,), generator=g)


def loss_of(net, seed=0):
    x, y = batch(seed, net.parameters[0].dtype)
    return nn.functional.cross_entropy(net.model(x), y)


def flat_gradient(net):
    return np.concatenate([p.grad.detach().double().numpy() for p in net.parameters])


def expected(net, constraints, gradient, **options):
    return Guide(constraints, **options).modify(gradient, net.logits())


def test_architecture_parameters_alone_are_touched():
    net, constraints = trained()
    loss_of(net).backward()
    before = [p.grad.clone() for p in net.weights()]
    gradient = flat_gradient(net)
    step = TorchGuide(net.model, constraints, rescale=2.0).modify_gradients()
    for p, g in zip(net.weights(), before, strict=True):
        assert torch.equal(p.grad, g)
    np.testing.assert_allclose(flat_gradient(net), expected(net, constraints, gradient, rescale=2.0), rtol=1e-5)
    assert not step.feasible
    assert step.seen.violations.tolist() == [20.0]


def test_feasible_gradients_are_left_alone():
    net, constraints = trained()
    net.set_logits([1.0, 0.0, 0.0, 1.0])
    loss_of(net).backward()
    gradient = flat_gradient(net)
    assert TorchGuide(net, constraints).modify_gradients().feasible
    assert np.array_equal(flat_gradient(net), gradient)
    net.model.zero_grad()
    TorchGuide(net, constraints).modify_gradients()
    assert net.parameters[0].grad is None


def test_missing_gradients_count_as_zero():
    net, constraints = trained()
    loss_of(net).backward()
    net.parameters[1].grad = None
    gradient = np.concatenate([net.parameters[0].grad.double().numpy(), [0.0, 0.0]])
    TorchGuide(net, constraints).modify_gradients()
    np.testing.assert_allclose(flat_gradient(net), expected(net, constraints, gradient), rtol=1e-5)


def test_accumulated_gradients_are_modified_once_at_the_end():
    net, constraints = trained(dtype=torch.float64)
    (loss_of(net, 0) / 2).backward()
    (loss_of(net, 1) / 2).backward()
    gradient = flat_gradient(net)
    TorchGuide(net, constraints).modify_gradients()
    np.testing.assert_allclose(flat_gradient(net), expected(net, constraints, gradient), atol=1e-14)


def test_parameter_groups_keep_their_rates_and_weights_their_updates():
    plain, constraints = trained()
    net, _ = trained()
    constraints = [Additive(net.space, [20.0, 0.0, 20.0, 0.0]) <= 20.0]

    def grouped(net):
        groups = [{"params": list(net.weights()), "lr": 0.1}, {"params": list(net.architecture()), "lr": 0.02}]
        return torch.optim.Adam(groups)

    guide, ours, theirs = TorchGuide(net, constraints), grouped(net), grouped(plain)
    for seed in range(3):
        for n, o in ((net, ours), (plain, theirs)):
            # The same logits, so that the same losses reach the weights.
            n.set_logits([1.0, 0.0, 0.5, 0.0])
            o.zero_grad()
            loss_of(n, seed).backward()
        before = net.logits()
        guide.update(ours)
        theirs.step()
        displacement = plain.logits() - before
        step = Safeguard(Guide(constraints)).step(
            before, displacement, Safeguard(Guide(constraints)).begin(), floor=0.02e-3
        )
        np.testing.assert_allclose(net.logits(), step.logits, atol=1e-6)
        for a, b in zip(net.weights(), plain.weights(), strict=True):
            assert torch.equal(a, b)


def test_scaled_gradients_are_unscaled_modified_clipped_and_stepped():
    net, constraints = trained(dtype=torch.float64)
    plain, _ = trained(dtype=torch.float64)
    optimizer = torch.optim.SGD(net.model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    guide = TorchGuide(net, constraints)
    scaler.scale(loss_of(net)).backward()
    loss_of(plain).backward()
    gradient = expected(net, constraints, flat_gradient(plain))
    start = net.logits()
    guide.modify_gradients(scaler=scaler, optimizer=optimizer)
    np.testing.assert_allclose(flat_gradient(net), gradient, rtol=1e-10)
    norm = float(nn.utils.clip_grad_norm_(net.parameters, 1e-3))
    assert norm == pytest.approx(np.linalg.norm(gradient))
    scaler.step(optimizer)
    scaler.update()
    np.testing.assert_allclose(net.logits(), start - 0.1 * gradient * 1e-3 / np.linalg.norm(gradient), atol=1e-8)


def test_gradients_already_unscaled_are_not_unscaled_again():
    net, constraints = trained(dtype=torch.float64)
    optimizer = torch.optim.SGD(net.model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaler.scale(loss_of(net)).backward()
    scaler.unscale_(optimizer)
    gradient = flat_gradient(net)
    TorchGuide(net, constraints).modify_gradients(scaler=scaler, optimizer=optimizer)
    np.testing.assert_allclose(flat_gradient(net), expected(net, constraints, gradient), rtol=1e-10)


def test_overflowed_gradients_are_left_to_the_scaler():
    net, constraints = trained()
    optimizer = torch.optim.SGD(net.model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    guide = TorchGuide(net, constraints)
    scaler.scale(loss_of(net) * torch.tensor(float("inf"))).backward()
    before = net.logits()
    assert not guide.modify_gradients(scaler=scaler, optimizer=optimizer).feasible
    scaler.step(optimizer)
    scaler.update()
    assert np.array_equal(net.logits(), before)
    loss = loss_of(net) * float("nan")
    loss.backward()
    with pytest.raises(ValueError, match="gradient must be finite, got nan for option 'wide' of decision 'a'"):
        guide.modify_gradients()


def test_an_optimizer_without_architecture_parameters_is_refused_before_it_steps():
    net, constraints = trained()
    loss_of(net).backward()
    before = [p.clone() for p in net.weights()]
    with pytest.raises(ValueError, match="optimizer holds no architecture parameter"):
        TorchGuide(net, constraints).update(torch.optim.SGD(net.weights(), lr=0.1))
    assert all(torch.equal(p, b) for p, b in zip(net.weights(), before, strict=True))


def test_updates_step_through_a_scaler():
    net, constraints = trained()
    optimizer = torch.optim.Adam(net.architecture(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    guide = TorchGuide(net, constraints, patience=2, witness={"a": "skip", "b": "skip"})
    for _ in range(10):
        optimizer.zero_grad()
        scaler.scale(loss_of(net)).backward()
        feasible = guide.update(optimizer, scaler=scaler).feasible
        scaler.update()
    assert feasible


def test_a_scaler_needs_its_optimizer():
    net, constraints = trained()
    with pytest.raises(TypeError, match="optimizer is missing"):
        TorchGuide(net, constraints).modify_gradients(scaler=torch.amp.GradScaler("cpu"))
    with pytest.raises(TypeError, match=r"scaler must be a torch.amp.GradScaler, got 1024.0"):
        TorchGuide(net, constraints).modify_gradients(scaler=1024.0)


def test_logits_in_half_precision_are_refused():
    net, constraints = trained()
    guide = TorchGuide(net, constraints)
    net.model.bfloat16()
    with pytest.raises(ValueError, match=r"must be in single or double precision, got torch.bfloat16"):
        guide.modify_gradients()


def test_forbidden_options_stay_forbidden():
    net, _ = trained()
    costs = Additive(net.space, [20.0, 0.0, 20.0, 1.0])
    net.set_logits([1.0, 0.0, -np.inf, 0.0])
    guide = TorchGuide(net, costs <= 1.0)
    optimizer = torch.optim.SGD(net.architecture(), lr=1.0)
    for _ in range(1500):
        if guide.update(optimizer).feasible:
            break
    assert net.logits()[2] == -np.inf
    assert net.selection() == {"a": "skip", "b": "skip"}


@pytest.mark.parametrize("witness", [None, [1, 1]])
def test_the_last_feasible_selection_becomes_the_witness(witness):
    net, constraints = trained()
    guide = TorchGuide(net, constraints, witness=witness)
    optimizer = torch.optim.SGD(net.architecture(), lr=0.1)
    loss_of(net).backward()
    net.set_logits([1.0, 0.0, 1.0, 0.0])
    assert not guide.update(optimizer).feasible
    assert (guide.state.witness is None) == (witness is None)
    for last in ([1, 0], [0, 1], [1, 1]):
        net.set_logits(np.concatenate([np.eye(2)[option] for option in last]))
        feasible = guide.update(optimizer).feasible
        assert not feasible or guide.state.witness.tolist() == last
    assert feasible
    assert pickle.loads(pickle.dumps(guide.state)).witness.tolist() == [1, 1]


def test_constraints_must_be_of_the_supernet():
    net, _ = trained()
    _, others = trained()
    with pytest.raises(ValueError, match="belongs to another choice space"):
        TorchGuide(net, others)


def test_black_boxes_are_asked_outside_the_graph():
    net, _ = trained()
    asked = []

    def measured(selection):
        asked.append(torch.is_inference_mode_enabled())
        return float(selection["a"] == "wide")

    loss_of(net).backward()
    step = TorchGuide(net, Function(net.space, measured, name="measured") <= 0.5).modify_gradients()
    assert not step.feasible
    assert asked


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_network_is_guided_the_same():
    logits = []
    for compiled in (False, True):
        net, constraints = trained()
        model = torch.compile(net.model, backend="aot_eager") if compiled else net.model
        guide = TorchGuide(model, constraints)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for seed in range(3):
            optimizer.zero_grad()
            x, y = batch(seed)
            nn.functional.cross_entropy(model(x), y).backward()
            guide.modify_gradients()
            optimizer.step()
        logits.append(net.logits())
    np.testing.assert_allclose(*logits, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("how", ["update", "modify_gradients"])
def test_a_loop_that_stopped_outside_settles_at_the_last_feasible_selection(how, dtype):
    net, constraints = trained(dtype=dtype)
    guide = TorchGuide(net, constraints)
    optimizer = torch.optim.SGD(net.architecture(), lr=0.1)
    outside = [1.0, 0.0, 1.0, 0.0]
    net.set_logits(outside)
    assert not guide.settle().feasible
    assert net.logits().tolist() == outside  # nothing feasible is known yet
    for last in ([1, 0], [1, 1]):
        net.set_logits(np.concatenate([np.eye(2)[option] for option in last]))
        loss_of(net).backward()
        step = guide.update(optimizer) if how == "update" else guide.modify_gradients()
    assert step.feasible
    for size in (1.0, 1e6):
        net.set_logits(np.multiply(size, outside))
        seen = guide.settle()
        assert seen.feasible
        assert seen.selection.tolist() == net.indices().tolist() == [1, 1]
        settled = net.logits()
        assert guide.settle().feasible
        assert net.logits().tolist() == settled.tolist()


def test_settling_where_measurements_changed_does_not_claim_to_be_inside():
    net, _ = trained()
    costs = iter([0.0, 9.0, 9.0, 9.0])
    guide = TorchGuide(net, Function(net.space, lambda _: next(costs), cache=False, name="drifting") <= 1.0)
    guide.modify_gradients()
    assert not guide.settle().feasible


@pytest.mark.parametrize("size", [1e3, 1e6, 1e12])
def test_the_safeguard_lands_in_single_precision_however_large_the_logits_are(size):
    net, constraints = trained()
    net.set_logits([size, 0.0, size, 0.0])
    guide = TorchGuide(net, constraints, patience=2, witness=[1, 1])
    optimizer = torch.optim.SGD(net.architecture(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        loss_of(net).backward()
        if guide.update(optimizer).feasible:
            return
    pytest.fail("not feasible after 60 steps")
