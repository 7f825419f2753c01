"""Choices for trained weights, importance, fine-tuning with a teacher, and the page about them."""

import copy
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from cggd_nas import Costs, NoFeasibleArchitectureError, evaluate, extract, finetune, prunable, retrain, search
from cggd_nas.coupling import coupling
from cggd_nas.importance import KINDS, sort_units
from cggd_nas.units import groups_of

PAGE = (Path(__file__).parents[2] / "docs" / "pruning.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```\s*```text\n(.*?)```", PAGE, re.DOTALL)


def points(n=256):
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(0))
    return x, (x[:, :3].argmax(1) + (x[:, 3] > 0)) % 3


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    layers = [nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3)]
    model, (x, y) = nn.Sequential(*layers), points()
    batches = [(x[i : i + 32], y[i : i + 32]) for i in range(0, 256, 32)]
    retrain(model, batches, batches, 10)
    return model.eval(), batches


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_nothing_is_removed_first(kind):
    """Units whose outgoing weights are next to nothing, in whatever layer."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    with torch.no_grad():
        model[2].weight[:, ::2] *= 1e-6
        model[0].weight[::2] *= 1e-3
    found = coupling(model, torch.zeros(1, 6))
    groups, _ = groups_of(found)
    sort_units(model, found, groups, kind, [points(32)])
    (group,) = groups
    kept = next(at for owner, at in group.members if owner.path == "2")[:8].ravel()
    assert set(kept.tolist()) == set(range(1, 16, 2))


def test_first_order_is_the_gradient_of_masks():
    torch.manual_seed(0)
    model, (x, y) = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), points(32)
    found = coupling(model, x[:1])
    groups, _ = groups_of(found)
    sort_units(model, found, groups, "taylor", [(x, y)])
    mask = torch.ones(8, requires_grad=True)
    functional.cross_entropy(model[2](torch.tanh(model[0](x)) * mask), y).backward()
    order = next(at for owner, at in groups[0].members if owner.path == "2").ravel()
    np.testing.assert_array_equal(order, np.argsort(-mask.grad.abs().numpy(), kind="stable"))


def test_wrong_importance():
    with pytest.raises(ValueError, match="importance must be one of 'norm', 'taylor', 'activation', got 'l1'"):
        prunable(nn.Sequential(nn.Linear(2, 16), nn.Linear(16, 2)), torch.zeros(1, 2), importance="l1")
    with pytest.raises(ValueError, match="give batches"):
        prunable(nn.Sequential(nn.Linear(2, 16), nn.Linear(16, 2)), torch.zeros(1, 2), importance="taylor")


def test_the_choice_is_within_the_bounds_and_near_the_best(trained):
    model, batches = trained
    supernet = prunable(model, batches[0][0][:1], importance="taylor", batches=batches[:2])
    bound = Costs(supernet, batches[0][0][:1]).macs() <= 0.0006
    state = copy.deepcopy(dict(model.named_parameters()))
    result = search(supernet, batches, batches, [bound], epochs=0, pretrained=True, progress=False)
    assert bound.metric(result.selection) <= 0.0006
    assert all(torch.equal(p, state[name]) for name, p in supernet.model.named_parameters() if name in state)
    allowed = [row for row in supernet.space.enumerate() if bound.metric(row) <= 0.0006]
    losses = [evaluate(extract(supernet, row).eval(), batches).loss for row in allowed]
    assert result.loss <= np.quantile(losses, 0.35)
    network = extract(supernet, result.selection)
    before = evaluate(network, batches).loss
    finetune(network, batches, batches, 2, teacher=model)
    assert evaluate(network, batches).loss < before


def test_finalists_are_told_apart_by_fine_tuning(trained):
    model, batches = trained
    supernet = prunable(model, batches[0][0][:1])
    bound = Costs(supernet, batches[0][0][:1]).macs() <= 0.0006
    result = search(supernet, batches, batches, [bound], epochs=1, finalists=3, pretrained=True, progress=False)
    assert 1 <= len(result.candidates) <= 3
    assert all(bound.metric(candidate.indices) <= 0.0006 for candidate in result.candidates)


def test_an_overconfident_network_is_not_replaced_by_one_that_knows_nothing(trained, monkeypatch):
    """Wrong targets in the validation data: the surer a network is, the larger is its loss by the targets."""
    model, batches = trained
    model = copy.deepcopy(model)
    with torch.no_grad():
        model[-1].weight *= 10
    supernet = prunable(model, batches[0][0][:1])
    wrong = [(x, (model(x).argmax(1) + 1) % 3) for x, _ in batches]
    bound = Costs(supernet, batches[0][0][:1]).macs() <= 0.0008
    monkeypatch.setattr("cggd_nas.pretrained.finetune", lambda *_, **__: None)
    result = search(supernet, batches, wrong, [bound], epochs=1, finalists=4, pretrained=True, progress=False)
    networks = [extract(supernet, candidate.selection).eval() for candidate in result.candidates]
    x = torch.cat([x for x, _ in batches])
    alike = [float((network(x).argmax(1) == model(x).argmax(1)).float().mean()) for network in networks]
    by_targets = [evaluate(network, wrong).loss for network in networks]
    assert alike[0] == max(alike) > alike[int(np.argmin(by_targets))]


def test_bounds_out_of_reach(trained):
    model, batches = trained
    supernet = prunable(model, batches[0][0][:1])
    bound = Costs(supernet, batches[0][0][:1]).parameters() <= 1
    with pytest.raises(NoFeasibleArchitectureError):
        search(supernet, batches, batches, [bound], epochs=0, pretrained=True, progress=False)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_teacher_is_learnt_from(trained, share):
    """With the teacher's share at 1 wrong labels do not matter; at 0 the teacher does not."""
    model, batches = trained
    torch.manual_seed(1)
    student = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3))
    wrong = [(x, torch.zeros_like(y)) for x, y in batches]
    mode, state = model.training, copy.deepcopy(model.state_dict())
    finetune(student, wrong, batches, 10, teacher=model, share=share, learning_rate=0.1)
    agrees = (student(points()[0]).argmax(1) == model(points()[0]).argmax(1)).float().mean()
    assert agrees > 0.6 if share else agrees < 0.5
    assert model.training is mode
    assert all(torch.equal(x, state[name]) for name, x in model.state_dict().items())


def test_other_losses_and_wrong_shares():
    torch.manual_seed(0)
    teacher, student, x = nn.Linear(6, 2), nn.Linear(6, 2), points(64)[0]
    batch = (x, torch.zeros(64, 2))
    finetune(
        student, [batch] * 100, [batch], 1, teacher=teacher, share=1.0, loss=functional.mse_loss, learning_rate=0.1
    )
    torch.testing.assert_close(student(x), teacher(x), atol=0.05, rtol=0.05)
    for wrong in ({"share": 1.5}, {"temperature": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            finetune(student, [batch], [batch], 1, teacher=teacher, **wrong)


@pytest.mark.slow
def test_the_page(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    names = {}
    for code, output in BLOCKS:
        with redirect_stdout(StringIO()) as printed:
            exec(code.replace("epochs=10", "epochs=1").replace("epochs=5", "epochs=1"), names)
        if "accuracy" not in output and "tuning" not in output:  # what depends on the training is not the same anywhere
            assert printed.getvalue().strip() == output.strip()
    assert len(BLOCKS) == PAGE.count("```python") == 4
    assert (tmp_path / "pruned.onnx").is_file()
