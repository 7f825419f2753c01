"""Extracted networks compute what the supernet computes, or extraction says why they do not."""

import copy
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize, prune

from cggd_nas import ChannelChoice, Choice, Costs, RepeatChoice, Sliced, collect, extract, measure_lookup
from cggd_nas.measure import Measurement
from tests.nas.nets import NAMES, Strided, made

pytestmark = pytest.mark.filterwarnings("ignore:example has")  # batches of 2 are meant here

CHANNELS, IMAGE = 6, (2, 3, 5, 5)


class Call(nn.Module):
    """A function as a module, as users write it in a forward."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Residual(nn.Module):
    def __init__(self, main):
        super().__init__()
        self.main = main

    def forward(self, x):
        return x + self.main(x)


class Beside(nn.Module):
    """Two branches, their channels one after another."""

    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return torch.cat([branch(x) for branch in self.branches], 1)


def width(channels=CHANNELS, dim=1):
    return ChannelChoice(channels, [1, 4, channels], decision="width", dim=dim)


def conv(before, after, kernel=1, **sliced):
    layer = nn.Conv2d(before, after, kernel, padding=kernel // 2)
    return Sliced(layer, **sliced) if sliced else layer


def first():
    return conv(3, CHANNELS, outputs="width")


def last():
    return conv(CHANNELS, 2, inputs="width")


def between(*parts):
    """A network with parts between a layer that makes channels and one that takes them."""
    return lambda: nn.Sequential(first(), *(part() for part in parts), last())


def alone():
    """A width that no layer follows."""
    return nn.Sequential(conv(3, CHANNELS), width(), conv(CHANNELS, 2))


def one_sided(before, after):
    makes = conv(3, CHANNELS, outputs="width") if before else conv(3, CHANNELS)
    takes = conv(CHANNELS, 2, inputs="width") if after else conv(CHANNELS, 2)
    return nn.Sequential(makes, width(), takes)


def concatenated(taken):
    return nn.Sequential(Beside(nn.Sequential(first(), width()), conv(3, CHANNELS)), taken)


def skipping_layer():
    """A layer that one option leaves out, and with it the only one that makes fewer channels."""
    options = {"conv": conv(CHANNELS, CHANNELS, 3, outputs="width"), "skip": nn.Identity()}
    return nn.Sequential(conv(3, CHANNELS), Choice(options, decision="layer"), width(), last())


REFUSED = {
    "nothing sliced": alone,
    "only what makes channels": lambda: one_sided(True, False),
    "only what takes channels": lambda: one_sided(False, True),
    **{name: between(width, getattr(nn, name)) for name in ("Sigmoid", "Softplus", "Hardsigmoid", "LogSigmoid")},
    "cosine": between(width, lambda: Call(torch.cos)),
    "exponential": between(width, lambda: Call(torch.exp)),
    "plus one": between(width, lambda: Call(lambda x: x + 1)),
    "two activations": between(width, nn.ReLU, nn.Sigmoid, nn.Dropout),
    "softmax over channels": between(width, lambda: nn.Softmax(1)),
    # Its bias and its running mean start at 0, so that it says nothing about them before it was trained.
    "batch norm behind the mask": between(width, lambda: Sliced(nn.BatchNorm2d(CHANNELS), outputs="width")),
    "batch norm of all channels": between(width, lambda: nn.BatchNorm2d(CHANNELS)),
    "group norm": between(width, lambda: nn.GroupNorm(1, CHANNELS, affine=False)),
    "layer norm": between(width, lambda: Call(lambda x: functional.layer_norm(x, x.shape[1:]))),
    "mean over channels": between(width, lambda: Call(lambda x: x * x.mean(1, keepdim=True))),
    "slopes of all channels": between(width, lambda: nn.PReLU(CHANNELS)),
    "sum with all channels": lambda: nn.Sequential(
        conv(3, CHANNELS), Residual(nn.Sequential(conv(CHANNELS, CHANNELS, outputs="width"), width())), last()
    ),
    "concatenation": lambda: concatenated(conv(2 * CHANNELS, 2)),
    "concatenation, sliced": lambda: concatenated(conv(2 * CHANNELS, 2, inputs="width")),
    "flattened": between(width, nn.Flatten, lambda: nn.Unflatten(1, (CHANNELS, 5, 5))),
    "the wrong features": lambda: nn.Sequential(
        first(), width(), nn.Flatten(), Sliced(nn.Linear(25 * CHANNELS, 2), inputs="width", features_per_channel=5)
    ),
    "an option without it": skipping_layer,
    "shuffled": between(width, lambda: Call(lambda x: x.flip(1))),
}

KEPT = {
    **{
        name: between(width, getattr(nn, name))
        for name in ("ReLU", "GELU", "ELU", "Tanh", "Hardswish", "SiLU", "PReLU", "Dropout", "Softsign")
    },
    "sigmoid before the mask": between(nn.Sigmoid, width),
    "batch norm before the mask": between(lambda: Sliced(nn.BatchNorm2d(CHANNELS), outputs="width"), nn.ReLU, width),
    "pooled": between(width, lambda: nn.MaxPool2d(2), lambda: nn.AvgPool2d(2)),
    "depthwise": between(
        width,
        lambda: Sliced(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS), inputs="width"),
        width,
    ),
    "residual": lambda: nn.Sequential(
        first(),
        width(),
        Residual(nn.Sequential(conv(CHANNELS, CHANNELS, 3, inputs="width", outputs="width"), nn.Tanh(), width())),
        last(),
    ),
    "gated": between(
        width, lambda: Call(lambda x: x * torch.sigmoid(x)), lambda: Call(lambda x: x * x.mean((2, 3), keepdim=True))
    ),
    "instance norm": between(width, lambda: Call(functional.instance_norm)),
    "a depth": lambda: nn.Sequential(
        first(),
        width(),
        RepeatChoice([Residual(conv(CHANNELS, CHANNELS, inputs="width", outputs="width"))], [0, 1], decision="depth"),
        width(),
        last(),
    ),
    "flattened": lambda: nn.Sequential(
        first(), width(), nn.Flatten(), Sliced(nn.Linear(25 * CHANNELS, 2), inputs="width", features_per_channel=25)
    ),
}


def unalike(supernet, example):
    """By how much supernet and extracted network differ in evaluation, as a share of the largest output."""
    model, far = supernet.model.eval(), 0.0
    for row in supernet.space.enumerate():
        net = extract(supernet, row)
        with torch.no_grad(), supernet.selected(row):
            expected = model(example)
            far = max(far, float((expected - net(example)).abs().max() / expected.abs().max()))
    return far


def spoiled(model):
    """Running statistics as after a training."""
    torch.manual_seed(5)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-1, 1)
            part.running_var.uniform_(0.5, 2)
            nn.init.uniform_(part.bias)
    return model


@pytest.mark.parametrize("known", ["nothing", "a forward pass", "an example", "costs"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_would_compute_something_else_is_refused(name, known):
    supernet = collect(REFUSED[name]())
    selection = {d: "1" if d == "width" else "skip" for d in supernet.space.decisions}
    ask = {
        "nothing": lambda: extract(supernet, selection),
        "a forward pass": lambda: supernet.model(torch.randn(IMAGE)) is extract(supernet, selection),
        "an example": lambda: extract(supernet, selection, example=torch.zeros(IMAGE)),
        "costs": lambda: Costs(supernet, torch.zeros(IMAGE)).macs(),
    }[known]
    with pytest.raises(ValueError, match=r"extracted.* width 'width'"):
        ask()


@pytest.mark.parametrize("name", REFUSED)
def test_the_narrowest_selections_are_always_compared(name, monkeypatch):
    monkeypatch.setattr("cggd_nas.agreement.DRAWN", 0)
    with pytest.raises(ValueError, match=r"extracted.* width 'width'"):
        Costs(REFUSED[name](), torch.zeros(IMAGE)).macs()


@pytest.mark.parametrize("widths", [[4, 8], [8, 4], [1, 2, 3, 8]])
@pytest.mark.parametrize("missing", [("0",), ("1",), ("5",), ("0", "1"), ("0", "1", "5")])
def test_the_layers_that_are_not_sliced_are_named(missing, widths):
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), ChannelChoice(8, widths, decision="w"), nn.Flatten()]
    layers.append(nn.Linear(8 * 9, 2))
    for place, names in (("0", {"outputs": "w"}), ("1", {"outputs": "w"}), ("5", {"inputs": "w"})):
        if place not in missing:
            layers[int(place)] = Sliced(layers[int(place)], **names, features_per_channel=9 if place == "5" else 1)
    named = ", ".join(map(repr, missing))
    with pytest.raises(ValueError, match=rf"must be in Sliced \(these are not: {named}\)"):
        Costs(nn.Sequential(*layers), torch.zeros(IMAGE)).macs()


@pytest.mark.parametrize("name", KEPT)
def test_what_keeps_masked_channels_apart_is_extracted(name):
    supernet = collect(spoiled(KEPT[name]()))
    assert unalike(supernet, torch.randn(IMAGE)) < 1e-5
    for selection in map(supernet.space.labels, supernet.space.enumerate()):
        net = extract(supernet, selection)
        assert Costs(supernet, torch.zeros(IMAGE)).parameters()(selection) == sum(p.numel() for p in net.parameters())


PARTS = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "minus": lambda: Call(lambda x: x - 0.3),
    "square": lambda: Call(torch.square),
    "dropout": nn.Dropout,
    "pool": lambda: nn.AvgPool2d(3, 1, 1),
    "mask": width,
    "norm": lambda: Sliced(nn.BatchNorm2d(CHANNELS), inputs="width"),
    "full norm": lambda: nn.BatchNorm2d(CHANNELS),
    "group": lambda: nn.GroupNorm(2, CHANNELS),
    "conv": lambda: conv(CHANNELS, CHANNELS, inputs="width", outputs="width"),
    "full conv": lambda: conv(CHANNELS, CHANNELS),
    "skip": lambda: Residual(nn.Sequential(conv(CHANNELS, CHANNELS, inputs="width", outputs="width"), width())),
    "full skip": lambda: Residual(conv(CHANNELS, CHANNELS)),
    "choice": lambda: Choice({"a": conv(CHANNELS, CHANNELS, inputs="width", outputs="width"), "b": nn.Tanh()}),
}


@settings(max_examples=60, deadline=None)
@given(
    st.booleans(),
    st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=5).map(lambda parts: [*parts, "mask"]),
    st.lists(st.sampled_from(sorted(PARTS)), max_size=3),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_any_network_is_refused_or_extracted_rightly(before, middle, rest, after, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(
        conv(3, CHANNELS, outputs="width") if before else conv(3, CHANNELS),
        *(PARTS[name]() for name in [*middle, *rest]),
        conv(CHANNELS, 2, inputs="width") if after else conv(CHANNELS, 2),
    )
    try:
        supernet = collect(spoiled(model).double())
        difference = unalike(supernet, torch.randn(IMAGE, dtype=torch.float64))
    except ValueError as error:
        assert "'width'" in str(error)  # noqa: PT017
    else:
        assert difference < 1e-7


@pytest.mark.parametrize(
    "middle", [("relu", "mask"), ("norm", "relu", "mask", "pool"), ("mask", "skip", "elu"), ("mask", "norm", "mask")]
)
def test_drawn_networks_are_not_all_refused(middle):
    model = nn.Sequential(first(), *(PARTS[name]() for name in middle), width(), last())
    assert unalike(collect(spoiled(model)), torch.randn(IMAGE)) < 1e-5


def everything(supernet):
    model = supernet.model
    return (
        {name: value.tolist() for name, value in model.state_dict().items()},
        [part.training for part in model.modules()],
        [(p.requires_grad, p.grad is None) for p in model.parameters()],
        [(len(part._forward_hooks), len(part._forward_pre_hooks)) for part in model.modules()],
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        supernet._how,
    )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["batch norm before the mask", "batch norm behind the mask"])
def test_the_comparison_leaves_everything_as_it_was(name, training):
    supernet = collect(spoiled((REFUSED | KEPT)[name]()))
    supernet.model.train(training)
    supernet.model[1].train(not training)
    before = everything(supernet)
    for ask in (lambda: extract(supernet, {"width": "4"}), lambda: Costs(supernet, torch.zeros(IMAGE)).macs()):
        try:
            ask()
        except ValueError:
            assert name in REFUSED
        assert everything(supernet) == before


# -- what is run ------------------------------------------------------------------------------------------------------


class TwoInputs(nn.Module):
    def __init__(self, between):
        super().__init__()
        self.before, self.width, self.between = Sliced(nn.Linear(3, 4), outputs="w"), ChannelChoice(
            4, [2, 4], decision="w", dim=-1
        ), between  # fmt: skip
        self.after = Sliced(nn.Linear(4, 2), inputs="w")

    def forward(self, x, mask):
        return {"out": (self.after(self.between(self.width(self.before(x)))) * mask[..., None], [mask])}


def test_where_no_input_is_known_one_is_asked_for():
    example = torch.randn(2, 5, 3), torch.ones(2, 5, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"cut to the widths 'w' .* give one to extract, example="):
        extract(TwoInputs(nn.ReLU()), {"w": "2"})
    with pytest.raises(ValueError, match=r"cannot be run on an example of shape \(2, 7\) of torch.float32"):
        extract(TwoInputs(nn.ReLU()), {"w": "2"}, example=torch.zeros(2, 7))
    for supernet in (collect(TwoInputs(nn.ReLU())), collect(TwoInputs(nn.ReLU()))):
        extract(supernet, {"w": "2"}, example=example)
        extract(supernet, {"w": "4"})  # the example is known now
    supernet = collect(TwoInputs(nn.ReLU()))
    with supernet.selected({"w": "4"}) as model:
        model(*example)
    extract(supernet, {"w": "2"})
    with pytest.raises(ValueError, match=r"\{'w': '2'\} computes something else .*width 'w'"):
        extract(TwoInputs(nn.Sigmoid()), {"w": "2"}, example=example)


def test_the_example_of_costs_serves_extraction():
    costs = Costs(TwoInputs(nn.Softplus()), (torch.zeros(1, 5, 3), torch.ones(1, 5)))
    with pytest.raises(ValueError, match="computes something else"):
        extract(costs.supernet, {"w": "2"})


def test_measuring_does_not_begin_where_networks_differ():
    calls = []

    def measure(module, arguments):
        calls.append(module)
        return Measurement(1.0, 0.0, 1, 1, "none")

    with pytest.raises(ValueError, match="computes something else"):
        measure_lookup(REFUSED["Sigmoid"](), torch.zeros(IMAGE), measure=measure)
    assert calls == []


@pytest.mark.parametrize("name", NAMES)
def test_every_space_is_extracted_without_an_example(name):
    supernet, _ = made(name)
    for row in supernet.space.sample(2, np.random.default_rng(0)):
        assert isinstance(extract(supernet, row), nn.Module)


def test_a_choice_of_a_user_is_compared_where_it_can_be():
    class Wrong(Strided):
        def plain(self, selection):
            layer = super().plain(selection)
            layer.weight.data *= 1.001
            return layer

    for supernet in (collect(nn.Sequential(nn.Conv2d(3, 4, 1), Wrong(4, "s"))), collect(Wrong(4, "s"))):
        with pytest.raises(ValueError, match=r"outputs differ by 0.001\d* of the largest one\. The method plain"):
            extract(supernet, {"s": "2"})
    extract(nn.Sequential(nn.Conv2d(3, 4, 1), Strided(4, "s")), {"s": "2"})


def test_choices_alone_are_compared_where_an_example_is_given():
    class Peeking(nn.Module):
        """Takes the first option, whatever was chosen."""

        def __init__(self):
            super().__init__()
            self.choice = Choice({"a": nn.Linear(3, 2), "b": nn.Linear(3, 2)}, decision="d")

        def forward(self, x):
            return next(iter(self.choice.options.values()))(x) if hasattr(self.choice, "options") else self.choice(x)

    with pytest.raises(ValueError, match="computes something else"):
        extract(Peeking(), {"d": "b"}, example=torch.zeros(2, 3))


def test_a_network_that_is_random_cannot_be_compared():
    supernet = collect(between(width, lambda: Call(lambda x: functional.dropout(x, training=True)))())
    assert extract(supernet, {"width": "4"})[0].out_channels == 4


def test_weights_in_half_precision_are_compared_too():
    for name in ("GELU", "Sigmoid"):
        supernet = collect((REFUSED | KEPT)[name]().bfloat16())
        if name in REFUSED:
            with pytest.raises(ValueError, match="computes something else"):
                extract(supernet, {"width": "1"})
        else:
            assert extract(supernet, {"width": "1"})[0].weight.dtype is torch.bfloat16


@pytest.mark.parametrize("name", ["GELU", "Sigmoid"])
def test_a_network_that_runs_in_single_precision_only_is_compared_in_it(name):
    """Its constants are in single precision, and PyTorch multiplies no matrices of two precisions."""
    mixed = Call(lambda x: x + x.flatten(2)[..., :5].mean((0, 1)) @ torch.eye(5, dtype=torch.float32))
    supernet = collect(nn.Sequential(mixed, *(REFUSED | KEPT)[name]()))
    if name in KEPT:
        assert unalike(supernet, torch.randn(IMAGE)) < 1e-5
    else:
        with pytest.raises(ValueError, match="computes something else"):
            extract(supernet, {"width": "1"})


def test_a_decision_that_a_layer_follows_must_be_there():
    with pytest.raises(ValueError, match=r"layer at '1.0' follow decision 'wdith', which the model lacks; .* 'width'"):
        collect(nn.Sequential(width(), nn.Sequential(conv(3, 2, inputs="wdith"))))


# -- weights that others compute --------------------------------------------------------------------------------------


def weight_norm(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(layer)


def hooked(layer):
    """A user's own hook that computes the weights."""
    whole = nn.Parameter(layer.weight.detach().clone())
    del layer.weight
    layer.whole, layer.weight = whole, whole * 1.0
    layer.register_forward_pre_hook(lambda part, _: setattr(part, "weight", part.whole / part.whole.abs().max()))
    return layer


RECOMPUTED = {
    "weight_norm": weight_norm,
    "spectral_norm": nn.utils.spectral_norm,
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "pruned bias": lambda layer: prune.random_unstructured(layer, "bias", 0.5),
    "hook": hooked,
}


def layers():
    return nn.Conv1d(3, 8, 3, padding=1), nn.Conv1d(8, 8, 3, groups=8), nn.Linear(4, 8)


@pytest.mark.parametrize("kind", range(3))
@pytest.mark.parametrize("name", RECOMPUTED)
def test_weights_that_a_hook_computes_are_refused(name, kind):
    with pytest.raises(TypeError, match=r"is computed before each call.*parametrizations.weight_norm, or make"):
        Sliced(RECOMPUTED[name](layers()[kind]), outputs="w")
    layer = layers()[kind]
    late = Sliced(layer, outputs="w")
    RECOMPUTED[name](layer)
    with pytest.raises(TypeError, match="is computed before each call"):
        late.plain({"w": "4"})


def test_weights_made_permanent_are_sliced():
    layer = prune.remove(RECOMPUTED["pruned"](layers()[0]), "weight")
    assert torch.equal(Sliced(layer, outputs="w").plain({"w": "4"}).weight, layer.weight[:4])


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("inputs", ["w", None])
def test_a_parametrization_that_keeps_cut_weights_is_sliced(dim, inputs):
    layers = nn.Conv1d(3, 8, 3, padding=1), nn.Conv1d(8, 8, 3, padding=1), nn.Conv1d(8, 2, 1)
    a, b, c = (parametrizations.weight_norm(layer, dim=dim) for layer in layers)
    chosen = [ChannelChoice(8, [2, 8], decision="w") for _ in range(2)]
    inner = [Sliced(b, inputs="w", outputs="w"), chosen[1]] if inputs else []
    supernet = collect(nn.Sequential(Sliced(a, outputs="w"), chosen[0], *inner, Sliced(c, inputs="w")))
    x = torch.randn(2, 3, 9)
    supernet.model.eval()
    for label in ("2", "8"):
        net = extract(supernet, {"w": label})
        with torch.no_grad(), supernet.selected({"w": label}):
            torch.testing.assert_close(net(x), supernet.model(x))
        copy.deepcopy(net).load_state_dict(net.state_dict())
    macs = Costs(supernet, x[:1]).macs()
    assert macs({"w": "2"}) == pytest.approx(9 * (9 * 2 + 2 * 2 + (3 * 4 if inputs else 0)) / 1e6)


class Doubled(nn.Module):
    """A parametrization without an inverse."""

    def forward(self, weight):
        return 2 * weight


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (parametrizations.spectral_norm, "_SpectralNorm"),
        (lambda layer: parametrize.register_parametrization(layer, "weight", Doubled()), "Doubled"),
    ],
)
def test_other_parametrizations_are_refused_unless_removed(change, name):
    late = Sliced(nn.Conv1d(3, 8, 3), outputs="w")
    change(late.module)
    layer = change(nn.Conv1d(3, 8, 3))
    with pytest.raises(TypeError, match=f"parametrization {name}"):
        late.plain({"w": "4"})
    with pytest.raises(TypeError, match=rf"parametrization {name}, .*remove_parametrizations on the layer"):
        Sliced(layer, outputs="w")
    expected = layer.eval().weight.detach()[:4]
    parametrize.remove_parametrizations(layer, "weight")
    torch.testing.assert_close(Sliced(layer, outputs="w").plain({"w": "4"}).weight, expected)


class Standardised(nn.Conv2d):
    """Weight standardisation: what the weights come to depends on all inputs."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight, self.bias)


def test_a_layer_that_computes_weights_in_its_forward_is_seen_by_its_numbers():
    model = nn.Sequential(first(), width(), Sliced(Standardised(CHANNELS, 2, 1), inputs="width"))
    with pytest.raises(ValueError, match="computes something else"):
        extract(model, {"width": "4"})
    rows = nn.Sequential(Sliced(Standardised(3, CHANNELS, 1), outputs="width"), width(), last())
    assert unalike(collect(rows), torch.randn(IMAGE)) < 1e-5


@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm", "pruned"])
def test_weights_that_a_hook_computes_are_extracted_where_nothing_is_sliced(name):
    """PyTorch copies no module whose weights were computed under autograd."""
    options = {"a": RECOMPUTED[name](nn.Linear(4, 8)), "b": nn.Linear(4, 8)}
    supernet = collect(nn.Sequential(Choice(options, decision="d"), RECOMPUTED[name](nn.Linear(8, 2))).eval())
    x = torch.randn(3, 4)
    for label in ("a", "b"):
        with torch.no_grad(), supernet.selected({"d": label}):
            torch.testing.assert_close(extract(supernet, {"d": label})(x), supernet.model(x))
    net = extract(supernet, {"d": "a"}).train()
    net(x).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
