import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cggd_nas.extract import extract
from cggd_nas.recalibration import recalibrate
from cggd_nas.retrain import evaluate, reinitialise, retrain
from tests.nas.nets import made


def data(n=64):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 4, generator=generator)
    return TensorDataset(x, (x[:, 0] > 0).long())


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def test_scores_are_means_over_samples_not_batches():
    outputs = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 3.0]])
    targets = torch.tensor([1, 1, 1])
    expected = float(nn.functional.cross_entropy(outputs, targets))
    for cuts in ([3], [2, 1], [1, 1, 1]):
        scores = evaluate(nn.Identity(), zip(outputs.split(cuts), targets.split(cuts), strict=True))
        assert scores.loss == pytest.approx(expected)
        assert (scores.accuracy, scores.n) == (pytest.approx(2 / 3), 3)


def test_evaluation_is_in_evaluation_mode_and_restores_the_mode():
    module = nn.Sequential(nn.Dropout(0.9)).train()
    batch = torch.ones(4, 2), torch.ones(4, 2)
    scores = evaluate(module, [batch], loss=nn.functional.mse_loss)
    assert scores.loss == 0
    assert math.isnan(scores.accuracy)
    assert module.training
    with pytest.raises(ValueError, match="loader holds no samples"):
        evaluate(module, [])


def test_training_learns_and_is_the_same_for_the_same_seed():
    loader = DataLoader(data(), batch_size=16, shuffle=True)
    modules = [net() for _ in range(3)]
    state = torch.random.get_rng_state()
    seen = []
    runs = [
        retrain(m, loader, loader, 8, seed=seed, progress=lambda epoch, scores: seen.append(epoch))
        for m, seed in zip(modules, (1, 1, 2), strict=True)
    ]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert seen == list(range(1, 9)) * 3
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    for a, b in zip(modules[0].state_dict().values(), modules[1].state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert runs[0].final.accuracy > 0.9
    anew = evaluate(modules[0], loader)  # in another order of the samples, which rounds otherwise
    assert anew.accuracy == runs[0].final.accuracy
    assert anew.loss == pytest.approx(runs[0].final.loss)


def test_fresh_weights_owe_nothing_to_the_old_ones():
    loader = DataLoader(data(), batch_size=32)
    one, other = net(), net()
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.fill_(100.0)
    assert retrain(one, loader, loader, 1) == retrain(other, loader, loader, 1)
    assert retrain(one, loader, loader, 1, fresh=False) != retrain(other, loader, loader, 1)


def test_every_weight_of_an_extracted_transformer_is_drawn_anew():
    supernet, _ = made("transformer")
    module = extract(supernet, supernet.selection())
    before = {name: value.clone() for name, value in module.named_parameters()}
    reinitialise(module)
    for name, value in module.named_parameters():
        drawn = value.ndim > 1 or not torch.all((before[name] == 0) | (before[name] == 1))
        assert torch.equal(value, before[name]) != drawn, name


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x * self.scale


def test_scales_without_a_way_to_draw_them_are_refused():
    with pytest.raises(ValueError, match=r"0 has no reset_parameters, and its 'scale' of shape \(3,\) may be a scale"):
        reinitialise(nn.Sequential(Scale()))


def test_wrong_arguments():
    loader = DataLoader(data(), batch_size=32)
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        retrain(net(), loader, loader, 0)
    with pytest.raises(TypeError, match="val is gone through after each epoch, and must be a DataLoader or a list"):
        retrain(net(), loader, iter(loader), 2)
    with pytest.raises(TypeError, match="seed must be a whole number, got 'a'"):
        retrain(net(), loader, loader, 1, seed="a")
    with pytest.raises(ValueError, match="train must have a length"):
        retrain(net(), (batch for batch in loader), loader, 1)


@pytest.mark.parametrize("what", ["loader", "train", "val", "batches"])
@pytest.mark.parametrize(
    ("given", "got"),
    [
        ((torch.zeros(6, 3), torch.zeros(6).long()), r"a tensor \(6, 3\)"),
        ((torch.zeros(2, 3), torch.zeros(2).long()), r"a tensor \(2, 3\)"),  # two rows are no pair either
        (TensorDataset(torch.zeros(4, 3), torch.zeros(4).long()), r"a tensor \(3,\) and a tensor \(\)"),
        ([(torch.zeros(4, 3),)], r"a tensor \(4, 3\)$"),
        ([[]], "empty"),
    ],
)
def test_what_holds_no_batches_is_said(what, given, got):
    good = [(torch.zeros(2, 3), torch.zeros(2).long())]
    call = {
        "loader": lambda: evaluate(nn.Linear(3, 2), given),
        "train": lambda: retrain(nn.Linear(3, 2), given, good, 1),
        "val": lambda: retrain(nn.Linear(3, 2), good, given, 1),
        "batches": lambda: recalibrate(nn.BatchNorm1d(3), given),
    }[what]
    with pytest.raises(TypeError, match=f"{what} must give batches .* one of its batches is {got}"):
        call()


@pytest.mark.parametrize("places", [(), (5,), (4, 3)])
def test_accuracy_is_a_share_of_all_targets(places):
    """Of classes for whole samples, for places of a sequence, for pixels."""
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(6, 3, *places, generator=generator)
    targets = torch.randint(3, (6, *places), generator=generator)
    scores = evaluate(nn.Identity(), [(outputs[:4], targets[:4]), (outputs[4:], targets[4:])])
    assert scores.accuracy == pytest.approx((outputs.argmax(1) == targets).double().mean().item())
    assert scores.n == 6
