"""search: the loop, its candidates, checkpoints and what it says where it fails."""

import importlib
import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cggd import Additive, Function, SearchError, Status, rules
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
from cggd_nas.candidates import ranked
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
    monkeypatch.setattr("cggd_nas.bounds.find_feasible", lambda *args, **kwargs: unknown)
    net, size = network()
    with pytest.warns(UserWarning, match="was found before the training, and it is not proved that there is none"):
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


@pytest.mark.parametrize("judged", [1, 3, 6])
def test_ctrl_c_at_the_end_returns_the_best_of_those_judged(judged, monkeypatch):
    net, size = network()
    training = importlib.import_module("cggd_nas.training")
    real, seen = training.judge, []

    def interrupted(*arguments):
        if len(seen) == judged:
            raise KeyboardInterrupt
        seen.append(real(*arguments))
        return seen[-1]

    monkeypatch.setattr(training, "judge", interrupted)
    result = searched(net, [size <= 20.0], candidates=4, finalists=3)
    assert result.stopped == "all 6 epochs done, interrupted while candidates were told apart"
    assert len(result.candidates) == min(judged, 4)
    finals = seen[4:] or seen
    assert result.loss == min(candidate.loss for candidate in finals)
    assert size(result.selection) <= 20.0


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
    assert steps == [9, 5, 3]  # one before the training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"warmup": 6}, "warmup must be less than epochs = 6, got 6"),
        ({"train": (X, Y[:3])}, "train must hold as many inputs as targets, got 96 and 3"),
        ({"val": iter([VAL])}, "val must be tensors"),
        ({"val": []}, "val must be tensors"),
        ({"train": X}, r"train must give batches \(inputs, targets\).* is a tensor \(6,\)"),
        ({"train": (X, Y, Y)}, "takes 2 positional arguments but 3 were given"),
        (
            {"val": [{"x": X, "y": Y}]},
            "val gives mappings of 'x', 'y', which lack 'input' that the forward of Sequential takes",
        ),
        ({"relaxation": lambda temperature: UniformPath()}, "gives the logits no gradient"),
        ({"relaxation": UniformPath}, "relaxation must be a class or function that makes a relaxation"),
        ({"relaxation": GumbelSoftmax()}, "such as GumbelSoftmax without parentheses, got GumbelSoftmax"),
        ({"loss": None}, "loss must be a function.* got None"),
        ({"loss": "mse"}, "loss must be a function.* got 'mse'"),
        ({"loss": nn.CrossEntropyLoss(reduction="none")}, r"one finite number, got a tensor of shape \(16,\)"),
        ({"objective": 3}, "objective must be a function.* got 3"),
        ({"objective": lambda loss, supernet: loss.detach()}, "objective gives the logits no gradient"),
        ({"callback": 4}, "callback must be a function.* got 4"),
        ({"writer": "runs"}, "writer must have a method add_scalar.* got 'runs'"),
        ({"weight_optimizer": torch.optim.SGD([X], lr=0.1)}, "weight_optimizer must be a function.* got SGD"),
        ({"architecture_optimizer": "adam"}, "architecture_optimizer must be a function.* got 'adam'"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    net, size = network()
    with pytest.raises((ValueError, TypeError), match=message):
        searched(net, [size <= 9.0], **options)


def test_what_no_checkpoint_can_be_is_said_before_the_training(tmp_path):
    net, size = network()
    before = [p.clone() for p in net.model.parameters()]
    with pytest.raises(FileNotFoundError, match=r"checkpoint must lie in a folder that exists, got '.*absent.*'"):
        searched(net, [size <= 9.0], checkpoint=tmp_path / "absent" / "search.pt")
    other, text = tmp_path / "other.pt", tmp_path / "text.pt"
    torch.save({"weights": 1}, other)
    text.write_text("weights")
    with pytest.raises(ValueError, match=r"checkpoint .*other.pt was not written by cggd_nas.search"):
        searched(net, [size <= 9.0], checkpoint=other, resume=True)
    with pytest.raises(ValueError, match=r"checkpoint .*text.pt cannot be read"):
        searched(net, [size <= 9.0], checkpoint=text, resume=True)
    assert all(torch.equal(p, b) for p, b in zip(net.model.parameters(), before, strict=True))


def test_logits_in_half_precision_are_refused_before_the_training():
    net, size = network()
    net.model.bfloat16()
    with pytest.raises(ValueError, match=r"must be in single or double precision, got torch.bfloat16"):
        searched(net, [size <= 9.0])


def test_a_loss_that_is_not_finite_is_said_before_it_spoils_the_weights():
    net, size = network()
    with pytest.raises(ValueError, match=r"must be one finite number, got nan in epoch 0; .* weight_optimizer"):
        searched(net, [size <= 9.0], train=(X * float("nan"), Y))
    assert all(p.isfinite().all() for p in net.model.parameters())


def fails_after(calls):
    count = itertools.count()

    def loss(outputs, targets):
        if next(count) == calls:
            raise OSError("the board does not answer")
        return nn.functional.cross_entropy(outputs, targets)

    return loss


def test_what_fails_in_an_epoch_does_not_lose_the_best_so_far():
    net, size = network()
    with pytest.raises(
        SearchError, match=r"OSError: the board does not answer \(the best .* is in .result\)"
    ) as caught:
        searched(net, [size <= 9.0], loss=fails_after(30))
    result = caught.value.result
    assert size(result.selection) <= 9.0
    assert result.stopped.startswith("OSError in epoch ")
    assert isinstance(caught.value.__cause__, OSError)


def test_what_fails_before_anything_was_met_is_raised_itself():
    net, size = network()
    with pytest.raises(OSError, match="the board does not answer"):
        searched(net, [size <= 9.0], loss=fails_after(0))


def state(net):
    """All of a supernet but its numbers."""
    return (
        [part.training for part in net.model.modules()],
        [(p.requires_grad, p.grad) for p in net.model.parameters()],
        [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in net.model.modules()],
        torch.get_rng_state().tolist(),
    )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("how", ["found", "failed", "failed at once", "none feasible"])
def test_a_search_leaves_modes_gradients_hooks_and_random_numbers_alone(training, how):
    net, size = network()
    net.model.train(training)
    net.model[2].train(not training)  # a part that its user has in another mode
    drawn = torch.Generator()
    net.relax(Darts(), generator=drawn)
    before = state(net)
    options, bound = {}, size <= 9.0
    if how == "failed":
        options["loss"] = fails_after(30)
    elif how == "failed at once":
        options["loss"] = fails_after(0)
    elif how == "none feasible":
        secret = Function(net.space, lambda s: 0.0 if s == {"0": "skip", "1": "narrow"} else 1.0, name="secret")
        options, bound = {"epochs": 1, "warmup": 0, "candidates": 1, "objective": lambda loss, _: loss}, secret <= 0.5
        net.set_logits([9.0, 0.0, 0.0] * 2)
    try:
        searched(net, [bound], **options)
    except (SearchError, OSError, NoFeasibleArchitectureError):
        assert how != "found"
    assert state(net) == before
    if how in ("failed at once", "none feasible"):
        assert (net._how, net._generator) == (Darts(), drawn)


def test_candidates_whose_loss_is_not_a_number_come_last():
    nan = float("nan")
    losses = [nan, 2.0, nan, 0.5, float("inf")]
    given = [Candidate({}, (i,), loss, 0.0, 1) for i, loss in enumerate(losses)]
    for order in itertools.permutations(given):
        assert [c.loss for c in ranked(order)][:3] == [0.5, 2.0, float("inf")]


def test_finalists_see_all_validation_data():
    net, size = network()
    val = X[64:91], Y[64:91]  # with a last batch that is not full
    result = searched(net, [size <= 9.0], val=val, finalists=3)
    assert [c.samples for c in result.candidates[:3]] == [27] * 3
    assert evaluate(net.model, [val]).loss == pytest.approx(result.loss, abs=1e-6)


def test_recalibration_measures_what_runs_and_can_be_undone():
    net, _ = network()
    model, (x, y) = net.model, TRAIN
    wide, narrow = model[0].options["wide"], model[0].options["narrow"]
    batches = [(x[:32], y[:32]), (x[32:], y[32:])]
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


def test_rules_between_decisions_hold_in_the_search():
    """Two neighbouring blocks must differ, and the second may be skipped only if the first is wide."""
    net, size = network()
    first, second = net.space.decisions
    apart = rules.different([first, second])
    skipping = rules.implies((second, "skip"), (first, "wide"))
    result = searched(net, [size <= 9.0, apart, skipping], epochs=3)
    assert result.selection[first] != result.selection[second]
    assert result.selection[second] != "skip" or result.selection[first] == "wide"
    assert [str(row) for row in result.constraints][1].endswith(": kept")
    assert "conflict" not in result._repr_html_()
    with pytest.raises(NoFeasibleArchitectureError, match="at least 2"):
        searched(net, [size <= 2.0, rules.at_least(2, ("*", "wide"))])
