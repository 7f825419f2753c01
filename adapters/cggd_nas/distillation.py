"""Fine-tuning of a pruned network, with the original network as its teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cggd_nas.batches import Batch
from cggd_nas.failures import check_network
from cggd_nas.measure import evaluating
from cggd_nas.nested import tensors_in
from cggd_nas.retrain import Loss, Retrained, retrain

# Learning rate after pruning: a tenth of the rate of a training from scratch (Li et al., ICLR 2017).
LEARNING_RATE = 0.01

# Temperature of the distillation (Hinton, Vinyals and Dean, 2015), and the teacher's share of the loss.
TEMPERATURE, SHARE = 4.0, 0.9


def finetune(
    module: nn.Module,
    train: Iterable[Any],
    val: Iterable[Any],
    epochs: int,
    *,
    teacher: nn.Module | None = None,
    share: float = SHARE,
    temperature: float = TEMPERATURE,
    loss: Loss = functional.cross_entropy,
    learning_rate: float = LEARNING_RATE,
    **options: Any,
) -> Retrained:
    """Continue the training of a network in place, with another network as its teacher.

    Parameters
    ----------
    module : nn.Module
        For example a network returned by `extract`.
    train, val : iterables of batches
        As for `retrain`.
    epochs : int
    teacher : nn.Module, optional
        Usually the network before it was cut. It is not changed and runs in evaluation mode on the same device.
    share : float
        Weight of the difference from the teacher's outputs in the total loss, between 0 and 1. The loss by the targets
        has the remaining weight.
    temperature : float
        Divides outputs before the softmax if `loss` is the cross entropy. For other losses, outputs are compared by
        their mean squared difference, relative to the teacher's mean square.
    loss, learning_rate
        As for `retrain`.
    **options
        Other options of `retrain`: ``metric``, ``momentum``, ``weight_decay``, ``seed``, ``progress``.

    Returns
    -------
    Retrained
        The scores after each epoch.

    Examples
    --------
    >>> seed = torch.manual_seed(0)
    >>> teacher, student = nn.Linear(4, 3), nn.Linear(4, 3)
    >>> x = torch.randn(64, 4)
    >>> batches = [(x, teacher(x).argmax(1))]
    >>> scores = finetune(student, batches * 50, batches, epochs=1, teacher=teacher, learning_rate=0.5)
    >>> scores.final.accuracy > 0.9
    True
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie between 0 and 1, got {share!r}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature!r}")
    if teacher is not None:
        check_network(teacher, "teacher")
    objective = distilled(teacher, loss, share, temperature)
    return retrain(
        module, train, val, epochs, loss=loss, objective=objective, learning_rate=learning_rate, fresh=False, **options
    )


def distilled(
    teacher: nn.Module | None, loss: Loss, share: float = SHARE, temperature: float = TEMPERATURE
) -> Callable[[Batch, Any], Tensor]:
    """The total loss of a batch and the outputs for it; see `finetune`."""
    classes = loss is functional.cross_entropy or isinstance(loss, nn.CrossEntropyLoss)

    def objective(batch: Batch, outputs: Any) -> Tensor:
        own = batch.loss(loss, outputs)
        if teacher is None or share == 0:
            return own
        with torch.no_grad(), evaluating(teacher):
            wanted = list(tensors_in(batch.outputs(teacher)))
        far = sum(
            _apart(a, b, temperature if classes else None)
            for a, b in zip(tensors_in(outputs), wanted, strict=True)
            if a.is_floating_point() and a.shape == b.shape
        )
        return (1 - share) * own + share * far

    return objective


def _apart(outputs: Tensor, wanted: Tensor, temperature: float | None) -> Tensor:
    """The difference between outputs and those of the teacher."""
    if temperature is None:
        return functional.mse_loss(outputs, wanted) / wanted.square().mean().clamp(min=1e-12)
    dim = 1 if outputs.ndim > 1 else 0
    logs = [functional.log_softmax(x / temperature, dim) for x in (outputs, wanted)]
    return temperature**2 * functional.kl_div(logs[0], logs[1], log_target=True, reduction="none").sum(dim).mean()
