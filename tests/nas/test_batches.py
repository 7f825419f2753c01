"""Batches as people have them: tuples of any length, mappings, lists of boxes."""

from collections import UserDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from cggd_nas import Choice, Costs, collect, evaluate, recalibrate, retrain, search
from cggd_nas.batches import Batch, as_batches, in_order
from cggd_nas.nested import mapped, moved, tensors_in

GENERATOR = torch.Generator().manual_seed(0)
LEFT, RIGHT = torch.randn(12, 3, generator=GENERATOR), torch.randn(12, 5, generator=GENERATOR)
LABELS = torch.arange(12) % 2


class Meeting(nn.Module):
    """Two inputs that meet."""

    def __init__(self):
        super().__init__()
        self.left = Choice(
            {"deep": nn.Sequential(nn.Linear(3, 9), nn.Linear(9, 4)), "flat": nn.Linear(3, 4)}, decision="d"
        )
        self.right, self.norm, self.head = nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)

    def forward(self, left, right=None, *, scale=1.0):
        h = self.left(left)
        return scale * self.head(self.norm(h if right is None else h + self.right(right)))


class Tokens(UserDict):
    """As tokenisers return: no dict, with a method to."""

    def to(self, device):
        return Tokens({key: value.to(device) for key, value in self.items()})


@dataclass(frozen=True)
class Boxes:
    corners: torch.Tensor
    names: tuple


def of_mapping(outputs, targets):
    return functional.cross_entropy(outputs, targets["labels"] if hasattr(targets, "keys") else targets)


KINDS = {
    "pair": [(LEFT, LABELS)],
    "three parts": [(LEFT, RIGHT, LABELS)],
    "list": [[LEFT, RIGHT, LABELS]],
    "mapping": [{"left": LEFT, "right": RIGHT, "labels": LABELS, "index": torch.arange(12)}],
    "other mapping": [Tokens(left=LEFT, right=RIGHT, labels=LABELS)],
    "mapping and target": [({"left": LEFT, "right": RIGHT}, LABELS)],
    "tensors": (LEFT, RIGHT, LABELS),
    "mapping of tensors": {"left": LEFT, "right": RIGHT, "labels": LABELS},
}


@pytest.mark.parametrize("kind", KINDS)
def test_searched_evaluated_and_trained(kind):
    torch.manual_seed(0)
    model = Meeting()
    bound = Costs(model, (LEFT[:1], RIGHT[:1])).parameters() <= 16 + 24 + 8 + 10
    data = KINDS[kind]
    result = search(
        model, data, data, [bound], epochs=2, warmup=0, batch_size=4, candidates=2, calibration=1, progress=False
    )
    assert result.selection == {"d": "flat"}
    assert 0 <= result.accuracy <= 1
    batches = in_order(as_batches(data, "data", batch_size=12, seed=0))
    scores = evaluate(model, batches, metric=lambda o, y: 7.0)
    assert (scores.accuracy, scores.n) == (7.0, 12)
    model.eval()
    raw = {} if kind == "pair" else {"right": RIGHT}
    assert scores.loss == pytest.approx(functional.cross_entropy(model(LEFT, **raw), LABELS).item(), rel=1e-5)
    retrain(model, batches, batches, 1, fresh=False)
    recalibrate(model, batches)


def test_tensors_lie_in_the_order_of_their_rows():
    whole = as_batches({"a": torch.arange(7), "b": 2 * torch.arange(7)}, "data", batch_size=3, seed=0)
    assert [len(batch["a"]) for batch in whole] == [3, 3]
    assert all(torch.equal(2 * batch["a"], batch["b"]) for batch in whole)
    assert [batch["a"].tolist() for batch in in_order(whole)] == [[0, 1, 2], [3, 4, 5], [6]]


def test_targets_of_any_kind_reach_the_loss_as_they_are():
    """Lists of boxes, as detectors have them."""
    boxes = [Boxes(torch.ones(n, 4), ("cat",) * n) for n in (1, 2, 0)]
    seen = []

    def loss(outputs, targets):
        seen.append(targets)
        return outputs.square().mean() + sum(one.corners.sum() for one in targets)

    net = collect(nn.Sequential(Choice({"a": nn.Linear(3, 2), "b": nn.Linear(3, 2, bias=False)}, decision="d")))
    bound = Costs(net, LEFT[:1]).parameters() <= 6
    loader = DataLoader([(LEFT[i], boxes[i]) for i in range(3)], batch_size=3, collate_fn=lambda rows: (
        torch.stack([x for x, _ in rows]), [y for _, y in rows]))  # fmt: skip
    result = search(net, loader, loader, [bound], epochs=1, loss=loss, progress=False)
    assert result.selection == {"d": "b"}
    assert np.isnan(result.accuracy)
    assert all([one.names for one in targets] == [("cat",), ("cat", "cat"), ()] for targets in seen)
    assert evaluate(net.model, loader, loss=loss).n == 3


def test_a_mapping_without_labels_is_its_own_target():
    batch = Batch.of({"left": LEFT, "quality": LABELS}, Meeting())
    assert list(batch.named) == ["left"]
    assert batch.targets["quality"] is LABELS
    assert batch.samples == 12


class Everything(nn.Module):
    def forward(self, **given):
        return given


def test_forward_with_keywords_gets_the_whole_mapping():
    assert Batch.of({"x": LEFT, "labels": LABELS}, Everything()).outputs(Everything()).keys() == {"x", "labels"}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"right": RIGHT}, "given gives mappings of 'right', which lack 'left' that the forward of Meeting takes"),
        (({"right": RIGHT}, LABELS), "which lack 'left'"),
        ((LEFT,), r"given must give batches \(inputs, targets\), .* or mappings .* is a tensor \(12, 3\)"),
        (LEFT, r"is a tensor \(12, 3\)"),
        ((torch.tensor(1.0), LABELS), r"is a tensor \(\) and a tensor \(12,\)"),
        ((LEFT, torch.tensor(1)), r"is a tensor \(12, 3\) and a tensor \(\)"),
        (("text", LABELS), "is str and a tensor"),
        ((), "is empty"),
    ],
)
def test_what_is_no_batch_is_said(raw, message):
    with pytest.raises(TypeError, match=message):
        Batch.of(raw, Meeting(), "given")


@pytest.mark.parametrize(
    "value", [LEFT, (LEFT, None), [LEFT, "text", 3], {"a": (LEFT,)}, Boxes(LEFT, ("cat",)), Tokens(a=LEFT)]
)
def test_containers_keep_their_kind(value):
    doubled = mapped(lambda x: 2 * x if isinstance(x, torch.Tensor) else x, value)
    assert type(doubled) is type(value)
    assert [torch.equal(x, 2 * LEFT) for x in tensors_in(doubled)] == [True]
    assert [torch.equal(x, LEFT) for x in tensors_in(value)] == [True]
    away = moved(value, torch.device("meta"))
    assert type(away) is type(value)
    assert [x.device.type for x in tensors_in(away)] == ["meta"]
