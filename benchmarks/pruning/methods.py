"""Ways to cut a trained network to a number of multiply-accumulates; each returns a plain network."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from cggd_nas import Costs, extract, measure, prunable, search

Batch = tuple[Tensor, Tensor]

# Numbers of channels are multiples of this, for all.
ROUND = 4

# Ratios that uniform widths and global pruning try.
STEPS = 64


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


def ours(importance: str, *, depth: bool = True) -> Callable[..., nn.Module]:
    """`prunable` and `search(..., pretrained=True)`."""

    def cut(model: nn.Module, bound: float, example: Tensor, train: Sequence[Batch], val: Sequence[Batch]) -> nn.Module:
        ratios = [i / 8 for i in range(1, 9)]
        supernet = prunable(model, example, ratios, ROUND, depth=depth, importance=importance, batches=train[:8])
        bounds = [Costs(supernet, example).macs() <= bound]
        result = search(supernet, train, val, bounds, epochs=1, finalists=5, pretrained=True, progress=False)
        return extract(supernet, result.selection)

    return cut


def uniform(model: nn.Module, bound: float, example: Tensor, train: Any, val: Any) -> nn.Module:
    """The same share of all widths, the largest that fits; channels by the norm of their weights."""
    best = None
    for step in range(1, STEPS + 1):
        supernet = prunable(model, example, [step / STEPS], ROUND, depth=False)
        network = extract(supernet, [0] * len(supernet.space.decisions))
        if measure.macs(network, example) / 1e6 > bound:
            break
        best = network
    if best is None:
        raise ValueError(f"no uniform width has at most {bound} MMAC")
    return best


def torch_pruning(kind: str) -> Callable[..., nn.Module]:
    """Torch-Pruning's global pruning of groups, at the least ratio that fits."""

    def cut(model: nn.Module, bound: float, example: Tensor, train: Sequence[Batch], val: Any) -> nn.Module:
        import torch_pruning as tp

        for step in range(1, STEPS):
            network = copy.deepcopy(model)
            importance = (
                tp.importance.GroupTaylorImportance()
                if kind == "taylor"
                else tp.importance.GroupMagnitudeImportance(p=2)
            )
            pruner = tp.pruner.BasePruner(
                network, example, importance, global_pruning=True, pruning_ratio=step / STEPS, round_to=ROUND,
                ignored_layers=[network[-1]], max_pruning_ratio=0.95,
            )  # fmt: skip
            if kind == "taylor":
                network.eval()
                for x, y in train[:8]:
                    functional.cross_entropy(network(x), y).backward()
            pruner.step()
            network.zero_grad(set_to_none=True)
            if measure.macs(network, example) / 1e6 <= bound:
                return network
        raise ValueError(f"no ratio has at most {bound} MMAC")

    return cut


METHODS: dict[str, Callable[..., nn.Module]] = {
    "cggd, first order": ours("taylor"),
    "cggd, norms": ours("norm"),
    "uniform": uniform,
}
if importlib.util.find_spec("torch_pruning") is not None:
    METHODS |= {"Torch-Pruning, group L2": torch_pruning("norm"), "Torch-Pruning, Taylor": torch_pruning("taylor")}
