"""Recalibration: a supernet's batch norms hold statistics of all paths, so a single network needs its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cggd_nas.batches import checked
from cggd_nas.measure import device_of, evaluating


def recalibrate(model: nn.Module, batches: Iterable[Any]) -> None:
    """Measure the running statistics of all batch norms again, as means over batches.

    Batch norms that the model does not run in its present state are not changed. Everything else, such as dropout, is
    in evaluation mode during the measurement. The mode of the model is restored.

    Parameters
    ----------
    model : nn.Module
        A supernet with one selection, see `cggd_nas.Supernet.selected`.
    batches : iterable of batches
        As for `search`; moved to the model's device. Twenty batches of 64 samples are enough (Guo et al., ECCV 2020,
        use 10,000 images).

    Examples
    --------
    >>> norm = nn.BatchNorm1d(1)
    >>> targets = torch.zeros(2)
    >>> recalibrate(norm, [(torch.tensor([[1.0], [3.0]]), targets), (torch.tensor([[3.0], [5.0]]), targets)])
    >>> norm.running_mean, norm.momentum
    (tensor([3.]), 0.1)
    """
    norms = _norms(model)
    if not norms:
        return
    momenta = {norm: norm.momentum for norm in norms}
    device = device_of(model)
    met: set[nn.Module] = set()

    def begin(norm: nn.Module, _: object) -> None:
        if norm not in met:
            met.add(norm)
            norm.reset_running_stats()  # pyright: ignore[reportCallIssue] - of a batch norm

    hooks = [norm.register_forward_pre_hook(begin) for norm in norms]
    try:
        with evaluating(model), torch.no_grad():
            for norm in norms:
                norm.train()
                norm.momentum = None  # a mean over all batches
            for batch in checked(batches, "batches", model):
                batch.to(device).outputs(model)
    finally:
        for hook in hooks:
            hook.remove()
        for norm, momentum in momenta.items():
            norm.momentum = momentum


@contextmanager
def recalibrated(model: nn.Module, batches: Iterable[Any]) -> Iterator[nn.Module]:
    """`recalibrate` inside a ``with`` block. The former statistics are restored after it."""
    buffers = [buffer for norm in _norms(model) for buffer in norm.buffers(recurse=False)]
    former = [buffer.clone() for buffer in buffers]
    try:
        recalibrate(model, batches)
        yield model
    finally:
        for buffer, value in zip(buffers, former, strict=True):
            buffer.copy_(value)


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
