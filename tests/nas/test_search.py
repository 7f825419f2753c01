"""search: the loop, its candidates, checkpoints and what it says where it fails."""

import importlib
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cggd import Additive, Function, Status
from cggd_nas import (
    Candidate,
    Choice,
    Darts,
    GumbelSoftmax,
    NoFeasibleArchitectureError,
    ProxylessTwoPath,
    UniformPath,
    collect,
    evaluate,
    recalibrate,
    recalibrated,
    search,
)
from cggd_nas.batches import Shuffled, as_batches
from cggd_nas.history import margins, skips
from cggd_nas.penalties import penalized, proxyless_linear

X = torch.randn(96, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, :3].sum(1) > X[:, 3:].prod(1)).long()
TRAIN, VAL = (X[:64], Y[:64]), (X[64:], Y[64:])


def block():
    options = {
        "wide": nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 6)),
        "narrow": nn.Sequential(nn.Linear(6, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 6)),
        "skip": nn.Identity(),
    }
    return Choice(options)


def network(seed=0):
    torch.manual_seed(seed)
    net = collect(nn.Sequential(block(), block(), nn.Dropout(0.1), nn.Linear(6, 2)))
    return net, Additive(net.space, [8.0, 2.0, 0.0] * 2, name="size", unit="kB")


def searched(net, constraints, **options):
    how = {"epochs": 6, "batch_size": 16, "warmup": 1, "progress": False} | options
    return search(net, how.pop("train", TRAIN), how.pop("val", VAL), constraints, **how)


@pytest.mark.parametrize(
    "relaxation", [GumbelSoftmax, partial(GumbelSoftmax, hard=False), Darts, ProxylessTwoPath], ids=str
)
def test_it_ends_feasible_with_an_architecture_it_can_run(relaxation):
    net, size = network()
    net.set_logits([1.0, 0.0, 0.0] * 2)  # far outside
    rate = partial(torch.optim.Adam, lr=0.1)
    result = searched(net, [size <= 9.0], relaxation=relaxation, architecture_optimizer=rate)
    assert size(result.selection) <= 9.0
    assert [row.satisfied for row in result.constraints] == [True]
    assert result.stopped == "all 6 epochs done"
    # The supernet is left ready for this selection.
    with torch.no_grad():
        net.model.eval()
        expected = net.model(VAL[0])
    scores = evaluate(net.model, [VAL])
    assert (scores.loss, scores.accuracy) == pytest.approx((result.loss, result.accuracy), rel=1e-4)
    with net.selected(result.selection):
        torch.testing.assert_close(net.model(VAL[0]), expected)
    assert "feasible: every bound is met" in result.summary()
    assert "size <= 9 kB" in result.summary()


def states(net):
    return {name: value.clone() for name, value in net.model.state_dict().items()}


def assert_same(a, b):
    assert a.selection == b.selection
    assert [c.loss for c in a.candidates] == [c.loss for c in b.candidates]
    assert str(a.history) == str(b.history)  # NaN equals NaN as text


def test_the_same_seed_gives_the_same_search_and_leaves_the_global_generator_alone():
    runs, after = [], []
    for noise in range(2):
        net, size = network()
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        runs.append((searched(net, [size <= 9.0]), states(net)))
        after.append(torch.equal(torch.get_rng_state(), before))
    assert all(after)
    assert_same(runs[0][0], runs[1][0])
    torch.testing.assert_close(runs[0][1], runs[1][1], rtol=0, atol=0, equal_nan=True)
    net, size = network()
    assert str(searched(net, [size <= 9.0], seed=1).history) != str(runs[0][0].history)


@pytest.mark.parametrize("kind", ["tensors", "loaders", "loaders with generators"])
@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_resumed_search_is_the_uninterrupted_one(tmp_path, kind, stop):
    def data():
        if kind == "tensors":
            return {}
        own = {"generator": torch.Generator().manual_seed(5)} if kind != "loaders" else {}
        how = {"batch_size": 16, "shuffle": True} | own
        return {"train": DataLoader(TensorDataset(*TRAIN), **how), "val": DataLoader(TensorDataset(*VAL), **how)}

    path = tmp_path / "search.pt"
    net, size = network()
    whole, last = searched(net, [size <= 9.0], **data()), states(net)
    net, size = network()
    net.set_logits([9.0, 0.0, 0.0] * 2)  # restored, so that it does not matter
    net, size = network()
    first = searched(net, [size <= 9.0], checkpoint=path, callback=lambda e: e.epoch + 1 == stop, **data())
    assert first.stopped == f"stopped by callback after {stop} epochs"
    net, size = network(seed=3)
    resumed = searched(net, [size <= 9.0], checkpoint=path, resume=True, **data())
    assert_same(resumed, whole)
    torch.testing.assert_close(states(net), last, rtol=0, atol=0, equal_nan=True)


def test_a_checkpoint_of_another_search_is_refused(tmp_path):
    path = tmp_path / "search.pt"
    net, size = network()
    searched(net, [size <= 9.0], checkpoint=path, epochs=2)
    net, size = network()
    with pytest.raises(ValueError, match="belongs to another search: its constraints"):
        searched(net, [size <= 8.0], checkpoint=path, epochs=2, resume=True)
    with pytest.raises(ValueError, match="resume needs the path"):
        searched(net, [size <= 8.0], resume=True)


def test_bounds_out_of_reach_are_an_error_before_the_training():
    net, size = network()
    before = states(net)
    with pytest.raises(NoFeasibleArchitectureError, match="the bounds cannot be met") as caught:
        searched(net, [size <= 9.0, size >= 9.5])
    # Of 8 and 10 kB, the values next to the gap, 10 misses it by less.
    assert sorted(caught.value.nearest.values()) == ["narrow", "wide"]
    assert [row.value for row in caught.value.constraints] == [10.0, 10.0]
    assert "violated by 1" in str(caught.value)
    torch.testing.assert_close(states(net), before, rtol=0, atol=0)


def test_no_feasible_architecture_is_an_error_with_the_nearest():
    """A penalty without weight does not mind the bounds."""
    net, size = network()
    net.set_logits([9.0, 0.0, 0.0] * 2)
    ignore = penalized([size <= 1.0], partial(proxyless_linear, weight=0.0))
    with pytest.raises(NoFeasibleArchitectureError) as caught:
        searched(net, [size <= 1.0], objective=ignore)
    assert caught.value.nearest == {"0": "wide", "1": "wide"}
    assert "size <= 1 kB: 16, violated by 15" in str(caught.value)
    assert [row.value for row in caught.value.constraints] == [16.0]


def test_an_objective_replaces_the_guide():
    net, size = network()
    net.set_logits([0.5, 0.0, 0.0] * 2)
    bounds, rate = [size <= 1.0], partial(torch.optim.Adam, lr=0.1)
    heavy = penalized(bounds, partial(proxyless_linear, weight=10.0))
    result = searched(net, bounds, objective=heavy, architecture_optimizer=rate)
    assert result.selection == {"0": "skip", "1": "skip"}


def test_unknown_feasibility_is_said_and_the_search_goes_on(monkeypatch):
    net, size = network()
    unknown = searched(net, [size <= 9.0], epochs=2).feasibility
    unknown = replace(unknown, status=Status.UNKNOWN, indices=None, selection=None)
    module = importlib.import_module("cggd_nas.search")  # the package's attribute of that name is the function
    monkeypatch.setattr(module, "find_feasible", lambda *args, **kwargs: unknown)
    net, size = network()
    with pytest.warns(UserWarning, match="was found before the training, and none was ruled out"):
        result = searched(net, [size <= 9.0])
    assert size(result.selection) <= 9.0


def test_ctrl_c_returns_the_best_so_far():
    net, size = network()

    class Interrupting(nn.Module):
        def forward(self, x):
            if self.training and len(seen) == 3:
                raise KeyboardInterrupt
            return x

    seen = []
    net.model.append(Interrupting())
    result = searched(net, [size <= 9.0], callback=seen.append)
    assert result.stopped == "interrupted in epoch 3"
    assert len(result.history) == 3
    assert size(result.selection) <= 9.0
    assert all(p.requires_grad for p in net.model.parameters())


def test_candidates_satisfy_every_bound_and_finalists_come_first():
    net, size = network()
    result = searched(net, [size <= 9.0], candidates=4, finalists=2)
    assert 1 <= len(result.candidates) <= 4
    assert all(isinstance(c, Candidate) and size(c.selection) <= 9.0 for c in result.candidates)
    assert len({c.indices for c in result.candidates}) == len(result.candidates)
    finals = result.candidates[:2]
    assert result.selection == finals[0].selection
    assert finals == sorted(finals, key=lambda c: c.loss)


def test_noisy_candidates_are_measured_afresh():
    """Measurements flatter every selection during the training; nothing is called feasible by them alone."""
    net, _ = network()
    net.set_logits([0.5, 0.0, 0.0] * 2)
    flattering = [False]

    def measured(selection):
        return 20.0 if "wide" in selection.values() and not flattering[0] else 5.0

    def toggle(epoch):
        flattering[0] = epoch.epoch < 2

    latency = Function(net.space, measured, name="latency", cache=False)
    result = searched(net, [latency <= 10.0], epochs=4, callback=toggle)
    assert any("wide" in epoch.selection.values() for epoch in result.history)
    assert "wide" not in result.selection.values()


def test_history_and_scalars():
    class Writer:
        def __init__(self):
            self.scalars = {}

        def add_scalar(self, tag, value, step):
            self.scalars.setdefault(tag, []).append((step, value))

    net, size = network()
    writer = Writer()
    result = searched(net, [size <= 9.0], writer=writer)
    assert [e.epoch for e in result.history] == list(range(6))
    assert [round(e.temperature, 3) for e in result.history] == [10.0, 7.525, 5.05, 2.575, 0.1, 0.1]
    first, last = result.history[0], result.history[-1]
    assert np.isnan(first.val_loss)
    assert np.isnan(first.feasible)
    assert first.changes == 0
    assert 0 <= last.feasible <= 1
    assert last.values == (size(last.selection),)
    assert writer.scalars["search/skips"] == [(e.epoch, e.skips) for e in result.history]
    assert len(writer.scalars["loss/validation"]) == 5
    assert "constraint/size" in writer.scalars


def test_warm_up_trains_weights_evenly_and_leaves_the_architecture_alone():
    net, size = network()
    logits, weight = net.logits(), net.model[3].weight.detach().clone()
    epochs = []
    searched(net, [size <= 9.0], warmup=2, epochs=3, callback=lambda e: epochs.append(net.logits()))
    assert np.array_equal(epochs[0], logits)
    assert np.array_equal(epochs[1], logits)
    assert not np.array_equal(epochs[2], logits)
    assert not torch.equal(net.model[3].weight, weight)


def test_the_architecture_learns_from_validation_data_and_weights_do_not():
    """With training data that weights cannot see through, only what validation data moves."""
    net, size = network()
    before = {k: v.clone() for k, v in net.model.named_parameters()}
    frozen = partial(torch.optim.SGD, lr=0.0)
    searched(net, [size <= 16.0], weight_optimizer=frozen, warmup=0)
    for name, value in net.model.named_parameters():
        assert torch.equal(value, before[name]) != name.endswith("logits")


def test_frozen_weights_stay_frozen():
    net, size = network()
    net.model[3].weight.requires_grad_(False)
    before = net.model[3].weight.clone()
    searched(net, [size <= 9.0])
    assert torch.equal(net.model[3].weight, before)
    assert not net.model[3].weight.requires_grad


def test_every_sets_how_often_the_architecture_steps():
    steps = []
    for every in (1, 2, 4):
        net, size = network()
        counted = []
        searched(
            net, [size <= 9.0], every=every, warmup=0, epochs=2,
            objective=lambda loss, supernet, counted=counted: counted.append(1) or loss,
        )  # fmt: skip
        steps.append(len(counted))
    assert steps == [8, 4, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"warmup": 6}, "warmup must be less than epochs = 6, got 6"),
        ({"train": (X, Y[:3])}, "train must hold as many inputs as targets, got 96 and 3"),
        ({"val": iter([VAL])}, "val must be a pair of tensors"),
        ({"val": []}, "val must be a pair of tensors"),
        ({"relaxation": lambda temperature: UniformPath()}, "gives the logits no gradient"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    net, size = network()
    with pytest.raises((ValueError, TypeError), match=message):
        searched(net, [size <= 9.0], **options)


def test_recalibration_measures_what_runs_and_can_be_undone():
    net, _ = network()
    model, (x, _) = net.model, TRAIN
    wide, narrow = model[0].options["wide"], model[0].options["narrow"]
    batches = [(x[:32], None), (x[32:], None)]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.train()
    with net.selected({"0": "wide", "1": "skip"}):
        with recalibrated(model, batches):
            hidden = [wide[0](b).detach() for b, _ in batches]
            torch.testing.assert_close(wide[1].running_mean, torch.stack([h.mean(0) for h in hidden]).mean(0))
            torch.testing.assert_close(wide[1].running_var, torch.stack([h.var(0) for h in hidden]).mean(0))
            assert torch.equal(narrow[1].running_mean, before["0.options.narrow.1.running_mean"])
        torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
        assert model.training
        assert wide[1].momentum == 0.1
        recalibrate(model, batches)
    assert not torch.equal(wide[1].running_mean, before["0.options.wide.1.running_mean"])


def test_margins_and_skips():
    net, _ = network()
    net.set_logits([0.0, 1.0, 3.0, 2.0, 1.5, 0.0])
    assert margins(net) == pytest.approx((0.5, 1.25))
    assert skips(net) == 0.5


def test_shuffled_batches_cover_the_data_and_follow_their_generator():
    batches = as_batches((torch.arange(10), torch.arange(10)), "train", batch_size=3, seed=0)
    assert isinstance(batches, Shuffled)
    first, second = [[x.tolist() for x, _ in batches] for _ in range(2)]
    assert len(first) == len(batches) == 3
    assert len({i for rows in first for i in rows}) == 9
    assert first != second
    assert all(torch.equal(x, y) for x, y in batches)
    small = as_batches((torch.arange(2), torch.arange(2)), "train", batch_size=3, seed=0)
    assert sorted(next(iter(small))[0].tolist()) == [0, 1]
