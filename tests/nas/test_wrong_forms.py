"""Arguments in a form that others have: each error names the argument, what it got and what would be right."""

from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import nn

from cggd_nas import (
    Choice,
    Costs,
    TorchGuide,
    collect,
    evaluate,
    export_onnx,
    extract,
    finetune,
    measure,
    prunable,
    retrain,
    search,
    verify,
)

X, Y = torch.randn(8, 3), torch.randint(0, 2, (8,))
BATCH = X, Y


@dataclass
class Output:
    logits: torch.Tensor


class Wrapped(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.layer, self.make = nn.Linear(3, 2), make

    def forward(self, x):
        return self.make(self.layer(x))


@pytest.fixture
def supernet():
    return collect(nn.Sequential(Choice({"a": nn.Linear(3, 2), "b": nn.Linear(3, 2, bias=False)}, decision="c")))


searched = partial(search, epochs=2, warmup=0, progress=False)

ONE_BATCH = r"is a tensor \(8, 3\); a single batch is a list of one, \[\(inputs, targets\)\]"
MODULE = r"must be an nn.Module, got Supernet.*; its attribute model is one, and extract\(supernet, selection\)"
CASES = {
    "evaluate a supernet": (lambda s, n, b: evaluate(s, [BATCH]), f"module {MODULE}"),
    "evaluate a selection": (lambda s, n, b: evaluate({"c": "a"}, [BATCH]), "module must .* got a dict of 'c'"),
    "evaluate on a batch": (lambda s, n, b: evaluate(n, BATCH), f"loader must give batches.*{ONE_BATCH}"),
    "evaluate on a mapping": (lambda s, n, b: evaluate(n, {"input": X}), r"is str; a single .* or \[mapping\]"),
    "retrain on a batch": (lambda s, n, b: retrain(n, BATCH, [BATCH], 1), f"train must give.*{ONE_BATCH}"),
    "retrain, val a batch": (lambda s, n, b: retrain(n, [BATCH], BATCH, 1), f"val must give.*{ONE_BATCH}"),
    "retrain a supernet": (lambda s, n, b: retrain(s, [BATCH], [BATCH], 1), f"module {MODULE}"),
    "a supernet as teacher": (lambda s, n, b: finetune(n, [BATCH], [BATCH], 1, teacher=s), f"teacher {MODULE}"),
    "a list in a list": (
        lambda s, n, b: searched(s, BATCH, [[BATCH]], b),
        "val .* give the list of batches itself",
    ),
    "a list of tensors": (lambda s, n, b: searched(s, BATCH, [X, Y], b), f"val must give.*{ONE_BATCH}"),
    "verify a supernet": (lambda s, n, b: verify(s, b, {}), f"module {MODULE}"),
    "measure a supernet": (lambda s, n, b: measure.macs(s, X), f"module {MODULE}"),
    "a mapping as example": (
        lambda s, n, b: Costs(s, {"input": X}),
        "example must be .* got a dict of 'input'",
    ),
    "an array as example": (lambda s, n, b: prunable(n, X.numpy()), r"example must .* an ndarray of shape \(8, 3\)"),
    "prunable with choices": (lambda s, n, b: prunable(s.model, X), "model must be a network without choices.* at '0'"),
    "an optimizer": (
        lambda s, n, b: searched(s, BATCH, BATCH, b, weight_optimizer=torch.optim.SGD(s.weights(), 0.1)),
        r"weight_optimizer must be a function from parameters to an optimizer, such as partial.* got SGD \(\.\.\.",
    ),
    "no optimizer": (
        lambda s, n, b: searched(s, BATCH, BATCH, b, architecture_optimizer=lambda parameters: None),
        "architecture_optimizer must return an optimizer .* got None",
    ),
    "the class of an optimizer": (
        lambda s, n, b: TorchGuide(s, b).update(torch.optim.SGD),
        "optimizer must be a torch.optim.Optimizer, got <class",
    ),
    "a loss of objects": (
        lambda s, n, b: evaluate(Wrapped(Output), [BATCH]),
        r"loss cannot be computed from what the network returns, .*Output.*outputs.logits, targets\)",
    ),
    "the importance by a loss of objects": (
        lambda s, n, b: prunable(Wrapped(Output), X, importance="taylor", batches=[BATCH], round_to=1),
        "no channel and no block of Wrapped can be removed|loss cannot be computed",
    ),
    "export a supernet": (lambda s, n, b: export_onnx(s, X, "x.onnx"), f"module {MODULE}"),
    "export choices": (lambda s, n, b: export_onnx(s.model, X, "x.onnx"), "module must be a network without choices"),
    "export objects": (
        lambda s, n, b: export_onnx(Wrapped(Output), X, "x.onnx"),
        r"module must return a tensor, or tensors in tuples.*got .*Output.*such as self.network\(x\).logits",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_would_be_right_is_said(name, supernet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, message = CASES[name]
    bounds = [Costs(supernet, X[:1]).parameters() <= 8]
    with pytest.raises((TypeError, ValueError), match=message):
        call(supernet, extract(supernet, {"c": "a"}), bounds)


def test_outputs_in_containers_and_none_are_exported(tmp_path):
    for make in (lambda y: {"a": y, "b": [y + 1]}, lambda y: (y, None)):
        assert export_onnx(Wrapped(make), X, tmp_path / "x.onnx").exists()
