"""Methods that prune a trained network to a budget; each returns a plain network."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from benchmarks.pruning.budgets import Budget, largest
from cggd_nas import extract, prunable, search

Batch = tuple[Tensor, Tensor]

# Numbers of channels are multiples of this, for all.
ROUND = 4

# Number of ratios of uniform widths and of global pruning, which tries three more in the last step.
STEPS = 64

# Finalists of cggd, each fine-tuned for an epoch; number of searches with tighter bounds if measurements exceed
# predictions, and factor of the bound.
FINALISTS, TRIES, TIGHTER = 4, 4, 0.95


class Block(nn.Module):
    """He et al., CVPR 2016."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.down = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        return functional.relu(h + self.down(x))


def resnet(widths: Sequence[int], blocks: int, classes: int = 10) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    inputs = widths[0]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            layers.append(Block(inputs, width, 2 if stage and not block else 1))
            inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def ours(model: nn.Module, budget: Budget, train: Sequence[Batch], val: Sequence[Batch]) -> nn.Module:
    """`prunable` and `search(..., pretrained=True)`; bounds are tightened until measurements satisfy the budget."""
    ratios = [i / 8 for i in range(1, 9)]
    supernet = prunable(model, budget.example, ratios, ROUND, importance="taylor", batches=train[:8])
    share = budget.share
    for _ in range(TRIES):
        bounds = [budget.constraint(supernet, share)]
        result = search(supernet, train, val, bounds, epochs=1, finalists=FINALISTS, pretrained=True, progress=False)
        for candidate in result.candidates:
            if budget.fits(network := extract(supernet, candidate.selection)):
                return network
        share *= TIGHTER
    raise RuntimeError(f"no answer keeps a share of {budget.share} of {budget.kind} when it is measured")


def uniform(model: nn.Module, budget: Budget, train: Any, val: Any) -> nn.Module:
    """The same share of all widths, the largest within the budget; channels by the norm of their weights."""

    def cut(share: float) -> nn.Module:
        try:
            supernet = prunable(model, budget.example, [share], ROUND, depth=False)
        except ValueError:  # all widths are rounded to the full width
            return model
        return extract(supernet, [0] * len(supernet.space.decisions))

    return largest(cut, budget, STEPS)


def torch_pruning(kind: str) -> Callable[..., nn.Module]:
    """Torch-Pruning's global pruning, at the smallest pruning ratio within the budget."""

    def prune(model: nn.Module, budget: Budget, train: Sequence[Batch], val: Any) -> nn.Module:
        import torch_pruning as tp

        importance = {
            "L2": lambda: tp.importance.GroupMagnitudeImportance(p=2, group_reduction="first"),
            "group": lambda: tp.importance.GroupMagnitudeImportance(p=2),
            "Taylor": tp.importance.GroupTaylorImportance,
        }[kind]

        source = copy.deepcopy(model).eval()
        for x, y in train[:8] if kind == "Taylor" else ():
            functional.cross_entropy(source(x), y).backward()

        def cut(share: float) -> nn.Module:
            network = copy.deepcopy(source)
            for own, other in zip(network.parameters(), source.parameters(), strict=True):
                own.grad = None if other.grad is None else other.grad.clone()
            pruner = tp.pruner.BasePruner(
                network, budget.example, importance(), global_pruning=True, pruning_ratio=1 - share, round_to=ROUND,
                ignored_layers=list(network.children())[-1:], max_pruning_ratio=0.95,
            )  # fmt: skip
            pruner.step()
            network.zero_grad(set_to_none=True)
            return network

        return largest(cut, budget, STEPS, finer=4)

    return prune


METHODS: dict[str, Callable[..., nn.Module]] = {"cggd": ours, "uniform": uniform}
if importlib.util.find_spec("torch_pruning") is not None:
    METHODS |= {f"Torch-Pruning, {kind}": torch_pruning(kind) for kind in ("L2", "group", "Taylor")}
