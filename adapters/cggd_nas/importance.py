"""The importance of channels, heads and features in a trained network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cggd_nas.batches import checked
from cggd_nas.links import Coupling
from cggd_nas.units import Group

KINDS = ("norm", "taylor", "activation")

# For each owner, by its position, a number for each batch and index; there is one batch without data.
Signals = dict[int, NDArray[np.float64]]


def sort_units(
    model: nn.Module,
    found: Coupling,
    groups: Sequence[Group],
    kind: str = "norm",
    batches: Iterable[Any] = (),
    loss: Callable[[Any, Any], Tensor] = nn.functional.cross_entropy,
) -> None:
    """Sort the units of each group by importance. The order is the same in all layers that share them.

    Parameters
    ----------
    model : nn.Module
        It is not changed.
    found, groups
        Its coupled channels.
    kind : {"norm", "taylor", "activation"}
        As for `cggd_nas.prunable`.
    batches, loss
        Used by "taylor" and "activation".
    """
    if kind not in KINDS:
        raise ValueError(f"importance must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")
    if kind != "norm" and not (batches := list(batches)):
        raise ValueError(f"importance={kind!r} is measured on data: give batches")
    sums = {"norm": _norms, "taylor": _first_order, "activation": _activations}[kind](model, found, batches, loss)
    for group in groups:
        each = [sums[i][:, at].sum(2) for owner, at in group.members if (i := found.position(owner)) in sums]
        if not each:
            continue
        if kind == "taylor":
            score = np.square(np.sum(each, axis=0)).sum(0)
        else:
            score = np.sum([one.sum(0) / max(one.sum(0).mean(), 1e-30) for one in each], axis=0)
        group.sort(score)


def _norms(model: nn.Module, found: Coupling, batches: Any, loss: Any) -> Signals:
    """Squares of all weights at an index."""
    return _of_weights(model, found, lambda x: x.square(), contracted=False)


def _first_order(model: nn.Module, found: Coupling, batches: Sequence[Any], loss: Any) -> Signals:
    """The first-order change of each batch's loss if an index is removed from the inputs of the next layers."""
    twin, made = copy.deepcopy(model).eval(), list[Signals]()
    device = next(twin.parameters()).device
    for batch in checked(batches, "batches", twin):
        twin.zero_grad()
        batch = batch.to(device)
        batch.loss(loss, batch.outputs(twin)).backward()
        made.append(_of_weights(twin, found, lambda x: x * x.grad if x.grad is not None else 0 * x, contracted=True))
    return {i: np.concatenate([signals[i] for signals in made]) for i in made[0]}


def _activations(model: nn.Module, found: Coupling, batches: Sequence[Any], loss: Any) -> Signals:
    """Squares of the next layers' weights of an index, times the squares of its values."""
    twin, power = copy.deepcopy(model).eval(), dict[str, Tensor]()

    def watch(path: str, dim: int) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple) -> None:
            x = arguments[0].detach().double().movedim(dim, 0).flatten(1).square().sum(1)
            power[path] = power.get(path, 0) + x  # pyright: ignore[reportArgumentType]

        return hook

    for path, module in twin.named_modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            module.register_forward_pre_hook(watch(path, -1 if isinstance(module, nn.Linear) else 1))
    with torch.no_grad():
        for batch in checked(batches, "batches", twin):
            batch.to(next(twin.parameters()).device).outputs(twin)
    sums = _of_weights(twin, found, lambda x: x.square(), contracted=True)
    for i in sums:
        if (x := power.get(found.owners[i].path)) is not None and len(x) == found.owners[i].size:
            sums[i] = sums[i] * x.cpu().numpy()
    return sums


def _of_weights(model: nn.Module, found: Coupling, value: Callable[[Tensor], Tensor], *, contracted: bool) -> Signals:
    """Sums of a value of the weights over all dimensions but one; if `contracted`, only over input channels."""
    made: Signals = {}
    for i, owner in enumerate(found.owners):
        weight = model.get_submodule(owner.path)._parameters.get(owner.name)
        if weight is None or owner.name.startswith("bias") or (contracted and i not in found.contracted):
            continue
        with torch.no_grad():
            x = value(weight).detach().double().movedim(owner.dim, 0).reshape(owner.size, -1).sum(1)
        made[i] = x.cpu().numpy()[None]
    return made
