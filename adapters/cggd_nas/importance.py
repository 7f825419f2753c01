"""How much channels, heads and features matter in a trained network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cggd_nas.batches import checked
from cggd_nas.coupling import Owner

KINDS = ("norm", "taylor", "activation")

Members = Sequence[tuple[Owner, NDArray[np.int64]]]


def ranked_units(
    model: nn.Module, members: Members, kind: str, batches: Iterable[Any], loss: Callable[[Any, Any], Tensor]
) -> NDArray[np.int64]:
    """The units of a group, the most important first."""
    if kind not in KINDS:
        raise ValueError(f"importance must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")
    n = len(members[0][1])
    total = np.zeros(n)
    for owner, at in members:
        weight = model.get_submodule(owner.path)._parameters.get(owner.name)
        if weight is None:
            continue
        with torch.no_grad():
            value = weight.detach().double().movedim(owner.dim, 0).flatten(1) if weight.ndim > 1 else None
            if value is None:
                continue
            norms = value.square().sum(1).cpu().numpy()[at].sum(1)
        total += norms / max(norms.mean(), 1e-30)
    return np.argsort(-total, kind="stable")
