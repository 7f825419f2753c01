"""Choices and sliced layers: what they compute, what they refuse, and what extraction makes of them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cggd_nas import ChannelChoice, Choice, Darts, Mixing, RepeatChoice, Sliced, collect


class Plus(nn.Module):
    def __init__(self, amount):
        super().__init__()
        self.amount, self.calls = amount, 0

    def forward(self, x, *, scale=1.0):
        self.calls += 1
        return (x + self.amount) * scale


def only(module, **kwargs):
    """A collected network of one choice, and its supernet."""
    net = collect(nn.Sequential(module), **kwargs)
    return net.model, net


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5, unique=True), st.data())
def test_any_strings_are_labels(labels, data):
    model, net = only(Choice({label: Plus(k) for k, label in enumerate(labels)}, decision="d"))
    assert net.space.options == {"d": tuple(labels)}
    label = data.draw(st.sampled_from(labels))
    with net.selected({"d": label}):
        assert model(torch.zeros(1)) == labels.index(label)
    assert model[0].choose(label).amount == labels.index(label)
    assert model[0].plain({"d": label}).amount == labels.index(label)
    assert model[0].plain({"d": label}) is not model[0].choose(label)


def test_labels_that_are_names_of_a_module_dict_are_labels():
    labels = ["keys", "values", "a.b", "", "training", "none"]
    model, net = only(Choice({label: Plus(k) for k, label in enumerate(labels)}))
    for k, label in enumerate(labels):
        with net.selected({"0": label}):
            assert model(torch.zeros(1)) == k


def test_arguments_reach_the_options_and_results_of_any_kind_come_back():
    model, net = only(Choice({"lstm": nn.LSTM(2, 3), "other": nn.LSTM(2, 3)}))
    with net.selected({"0": "lstm"}):
        _, (hidden, _) = model(torch.zeros(4, 2))
    assert hidden.shape == (1, 3)
    choice = Choice({"a": Plus(1.0)})
    choice.mixing = Mixing((0,))
    assert choice(torch.zeros(1), scale=3.0) == 3.0


def test_options_may_hold_choices():
    inner = Choice({"p": Plus(1.0), "q": Plus(2.0)}, decision="inner")
    model, net = only(Choice({"deep": nn.Sequential(inner, Plus(10.0)), "flat": Plus(5.0)}, decision="outer"))
    assert list(net.space.decisions) == ["outer", "inner"]
    with net.selected({"outer": "deep", "inner": "q"}):
        assert model(torch.zeros(1)) == 12
    with net.selected({"outer": "flat", "inner": "q"}):
        assert model(torch.zeros(1)) == 5
    assert inner.options["q"].calls == 1


def test_a_choice_inside_its_own_decision_is_refused():
    inner = Choice({"a": Plus(1.0), "b": Plus(2.0)}, decision="d")
    with pytest.raises(ValueError, match=r"the choice at '0.options.a.0' stands inside one of its own decision 'd'"):
        only(Choice({"a": nn.Sequential(inner), "b": Plus(5.0)}, decision="d"))


def test_a_choice_that_was_not_collected_says_what_to_do():
    with pytest.raises(RuntimeError, match=r"call cggd_nas.collect\(model\) on the whole model first"):
        Choice({"a": nn.Identity()})(torch.zeros(1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Choice({}), "at least one option"),
        (lambda: Choice([nn.Identity()]), "options must map labels to modules"),
        (lambda: Choice({"a": 3}), r"options\['a'\] must be an nn.Module, got 3"),
        (lambda: Choice({1: nn.Identity()}), "labels of options must be strings, got 1"),
        (lambda: Choice({"a": nn.Identity()}, decision=3), "decision must be a string or None, got 3"),
        (lambda: ChannelChoice(4, [2, 5]), "between 1 and channels = 4, got 5"),
        (lambda: ChannelChoice(4, [2, 2]), "options of a choice must differ"),
        (lambda: ChannelChoice(4, [2.5, 4]), "each of widths must be a whole number, got 2.5"),
        (lambda: ChannelChoice(4, ["2"]), "each of widths must be a whole number, got '2'"),
        (lambda: ChannelChoice(4, 2), "widths must be a list of whole numbers, got 2"),
        (lambda: ChannelChoice(4, []), r"widths must hold at least one number, got \[\]"),
        (lambda: ChannelChoice("4", [2]), "channels must be a whole number, got '4'"),
        (lambda: RepeatChoice([nn.Identity()], [0.5]), "each of depths must be a whole number, got 0.5"),
        (lambda: RepeatChoice(nn.Identity(), [1]), r"blocks must be a list of modules, got Identity\(\)"),
        (lambda: RepeatChoice([1], [1]), r"blocks must be a list of modules, got \[1\]"),
        (lambda: Sliced(nn.Linear(3, 3), inputs=3), "inputs must name a decision, got 3"),
        (
            lambda: Sliced(nn.Linear(3, 3), inputs="c", features_per_channel=0),
            "features_per_channel must be at least 1",
        ),
        (
            lambda: Sliced(nn.Linear(3, 3), inputs="kernel").plain({"kernel": "conv3"}),
            "follows decisions on widths, but 'kernel' has the option 'conv3'",
        ),
        (lambda: RepeatChoice([nn.Identity()], [2]), "between 0 and the number of blocks = 1, got 2"),
        (lambda: Sliced(nn.LayerNorm(3), inputs="c"), "must be a convolution, linear or a batch norm"),
        (lambda: Sliced(nn.Linear(3, 3)), "name the decision"),
        (lambda: Sliced(nn.Conv2d(4, 4, 1, groups=2), inputs="c"), "1 or as many groups as channels"),
        (lambda: Sliced(nn.BatchNorm2d(4), inputs="c", outputs="d"), "keeps its channels"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_a_tensor_of_other_channels_is_named():
    model, _ = only(ChannelChoice(4, [2, 4]))
    with pytest.raises(ValueError, match=r"a choice of 4 channels got a tensor of shape \(1, 3\)"):
        model(torch.zeros(1, 3))
    model, _ = only(ChannelChoice(4, [2, 4], dim=2))
    with pytest.raises(ValueError, match=r"a choice of 4 channels got a tensor of shape \(1, 4\), dim=2"):
        model(torch.zeros(1, 4))


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3), st.sampled_from([1, -1]))
def test_channel_masks_are_weighed(logits, dim):
    model, net = only(ChannelChoice(4, [1, 2, 4], decision="c", dim=dim))
    model.double()
    net.relax(Darts())
    net.set_logits(logits)
    y = model(torch.ones(1, 4, dtype=torch.float64))
    p = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(y.detach().numpy(), [[1, p[1] + p[2], p[2], p[2]]], atol=1e-12)
    y.sum().backward()
    assert net.parameters[0].grad.abs().sum() > 0


def test_a_depth_runs_no_block_beyond_it():
    blocks = [Plus(1.0), Plus(10.0), Plus(100.0)]
    model, net = only(RepeatChoice(blocks, [0, 1, 3], decision="depth"))
    for depth, total in {"0": 0, "1": 1, "3": 111}.items():
        with net.selected({"depth": depth}):
            assert model(torch.zeros(1)) == total
        assert model[0].plain({"depth": depth})(torch.zeros(1)) == total
    assert [block.calls for block in blocks] == [2, 1, 1]
    net.relax(Darts())
    net.set_logits([0.0, 0.0, 0.0])
    assert model(torch.zeros(1)).item() == pytest.approx(112 / 3)


@pytest.mark.parametrize("selection", [{"d": "c"}, {}])
def test_plain_names_what_is_wrong_with_a_selection(selection):
    model, _ = only(Choice({"a": nn.Identity(), "b": nn.Identity()}, decision="d"))
    with pytest.raises(ValueError, match=r"has no (option 'c'|decision 'd')"):
        model[0].plain(selection)


def convolutional():
    return nn.Sequential(
        Sliced(nn.Conv2d(3, 8, 3, padding=1), outputs="c0"),
        Sliced(nn.BatchNorm2d(8), outputs="c0"),
        nn.ReLU(),
        ChannelChoice(8, [2, 5, 8], decision="c0"),
        Sliced(nn.Conv2d(8, 8, 3, padding=1, groups=8), inputs="c0"),
        ChannelChoice(8, [2, 5, 8], decision="c0"),
        Sliced(nn.Conv2d(8, 6, 1), inputs="c0", outputs="c1"),
        ChannelChoice(6, [1, 6], decision="c1"),
        nn.Flatten(),
        Sliced(nn.Linear(6 * 16, 4), inputs="c1", features_per_channel=16),
    )


@pytest.mark.parametrize("c0", ["2", "5", "8"])
@pytest.mark.parametrize("c1", ["1", "6"])
def test_sliced_layers_compute_what_the_masks_leave(c0, c1):
    torch.manual_seed(0)
    model = convolutional()
    net = collect(model)
    with net.selected({"c0": "8", "c1": "6"}):
        model(torch.randn(16, 3, 4, 4))  # running statistics
    model.eval()
    x, selection = torch.randn(2, 3, 4, 4), {"c0": c0, "c1": c1}
    with net.selected(selection):
        expected = model(x)
    plain = nn.Sequential(*(m.plain(selection) if hasattr(m, "plain") else m for m in model))
    torch.testing.assert_close(plain(x), expected, atol=1e-6, rtol=1e-5)
    assert plain[0].out_channels == plain[1].num_features == plain[4].groups == int(c0)
    assert plain[9].in_features == 16 * int(c1)
    assert plain[0].weight.shape == (int(c0), 3, 3, 3)
    assert model[0].module.out_channels == 8  # the supernet stays as it is


def test_a_choice_of_ones_own_is_found():
    class Sign(nn.Module):
        labels = ("plus", "minus")

        def __init__(self):
            super().__init__()
            self.decision, self.mixing, self.logits = "sign", None, nn.Parameter(torch.zeros(2))

        def forward(self, x):
            return x if self.mixing.paths[0] == 0 else -x

        def plain(self, selection):
            return nn.Identity()

    model, net = only(Sign())
    assert net.space.options == {"sign": ("plus", "minus")}
    with net.selected({"sign": "minus"}):
        assert model(torch.ones(1)) == -1
