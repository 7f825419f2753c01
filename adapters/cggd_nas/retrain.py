"""Training of an extracted network from scratch, and its evaluation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cggd import SearchError
from cggd.checks import whole
from cggd_nas.batches import Batch, checked, generator_of
from cggd_nas.depthwise import fast_depthwise
from cggd_nas.failures import check_network
from cggd_nas.measure import device_of, evaluating

Loss = Callable[[Any, Any], Tensor]

# From outputs and targets of a batch to its accuracy.
Accuracy = Callable[[Any, Any], Any]

# NAS-Bench-201's training of all its networks (Dong and Yang, ICLR 2020, table 1): SGD with Nesterov momentum 0.9, a
# learning rate of 0.1 and a weight decay of 5e-4.
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 5e-4

_CLASS_LOSSES = (nn.CrossEntropyLoss, nn.NLLLoss)

# Standard deviation of BERT's initial embeddings (Devlin et al., 2019) and of vision transformers' positions.
FREE_DEVIATION = 0.02


@dataclass(frozen=True)
class Scores:
    """The loss and accuracy of a network on a data set.

    Attributes
    ----------
    loss : float
        Mean over the samples.
    accuracy : float
        Share of correct classes, between 0 and 1. There is one target for each sample or, as in segmentation, for each
        position of a sample. NaN if targets are not classes, or if outputs are not a tensor with the classes in the
        second or the last dimension. With a `metric`, its mean over the samples.
    n : int
        Number of samples.
    """

    loss: float
    accuracy: float
    n: int


@dataclass(frozen=True)
class Retrained:
    """The scores after each epoch of a training, on the validation data."""

    epochs: tuple[Scores, ...]

    @property
    def final(self) -> Scores:
        """The scores after the last epoch."""
        return self.epochs[-1]


def evaluate(
    module: nn.Module,
    loader: Iterable[Any],
    *,
    loss: Loss = functional.cross_entropy,
    metric: Accuracy | None = None,
    objective: Callable[[Batch, Any], Tensor] | None = None,
) -> Scores:
    """Loss and accuracy of a network in evaluation mode.

    Parameters
    ----------
    module : nn.Module
        Its mode is restored.
    loader : iterable of batches
        As for `search`; batches are moved to the device of the module.
    loss : callable
        From outputs and targets to the mean loss of a batch. Outputs may be anything that the module returns.
    metric : callable, optional
        From outputs and targets to the accuracy of a batch.
    objective : callable, optional
        From a batch and the outputs for it to its mean loss; used instead of `loss`.

    Examples
    --------
    >>> batch = torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0])
    >>> evaluate(nn.Identity(), [batch]).accuracy
    0.5
    """
    return _scores(module, loader, "loader", loss, metric, objective)


def _scores(
    module: nn.Module,
    loader: Iterable[Any],
    argument: str,
    loss: Loss,
    metric: Accuracy | None,
    objective: Callable[[Batch, Any], Tensor] | None = None,
) -> Scores:
    """`evaluate`, with the name of the loader in errors."""
    check_network(module)
    device = device_of(module)
    total, measured, right, n, decided = 0.0, 0.0, 0, 0, 0
    classes = set[int | None]()
    with evaluating(module), torch.no_grad():
        for batch in checked(loader, argument, module):
            batch = batch.to(device)
            outputs, targets, samples = batch.outputs(module), batch.targets, batch.samples
            total += float(batch.loss(loss, outputs) if objective is None else objective(batch, outputs)) * samples
            n += samples
            if metric is not None:
                measured += float(metric(outputs, targets)) * samples
                continue
            classes.add(dim := _dim_of_classes(outputs, targets, loss))
            if dim is not None:
                right += int((outputs.argmax(dim) == targets).sum())
                decided += targets.numel()
    if n == 0:
        raise ValueError(f"{argument} holds no samples; one that can be iterated only once holds none the second time")
    if metric is not None:
        return Scores(total / n, measured / n, n)
    return Scores(total / n, right / decided if decided and None not in classes else math.nan, n)


def _dim_of_classes(outputs: Any, targets: Any, loss: Loss) -> int | None:
    """The dimension of outputs for the classes of targets, if it is known."""
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor):
        return None
    if targets.is_floating_point() or outputs.ndim != targets.ndim + 1:
        return None
    fitting = [d for d in dict.fromkeys((1, outputs.ndim - 1)) if outputs.select(d, 0).shape == targets.shape]
    # PyTorch's losses have classes in the second dimension; sequences often have them in the last.
    by_torch = loss in (functional.cross_entropy, functional.nll_loss) or isinstance(loss, _CLASS_LOSSES)
    return fitting[0] if len(fitting) == 1 or (fitting and by_torch) else None


def retrain(
    module: nn.Module,
    train: Iterable[Any],
    val: Iterable[Any],
    epochs: int,
    *,
    loss: Loss = functional.cross_entropy,
    metric: Accuracy | None = None,
    objective: Callable[[Batch, Any], Tensor] | None = None,
    learning_rate: float = LEARNING_RATE,
    momentum: float = MOMENTUM,
    weight_decay: float = WEIGHT_DECAY,
    fresh: bool = True,
    seed: int = 0,
    progress: Callable[[int, Scores], None] | None = None,
) -> Retrained:
    """Train a network from scratch, in place: SGD with Nesterov momentum under a one-cycle schedule.

    Parameters
    ----------
    module : nn.Module
    train, val : iterables of batches
        As for `search`; `train` must have a length, as a ``DataLoader`` has.
    epochs : int
    loss : callable
        From outputs and targets to the mean loss of a batch.
    metric : callable, optional
        As for `evaluate`.
    objective : callable, optional
        From a batch (with attributes ``inputs``, ``named`` and ``targets``) and the outputs to the loss that is
        minimised; by default `loss`.
    learning_rate : float
        The largest learning rate of the cycle.
    momentum, weight_decay : float
    fresh : bool
        Start from new random weights (`reinitialise`); otherwise from the current weights.
    seed : int
        The same seed gives the same weights, if the loader's order uses PyTorch's global generator or is fixed. The
        global generator is restored.
    progress : callable, optional
        Called after each epoch with its number, starting at 1, and the scores.

    Raises
    ------
    ValueError
        If `fresh` is true and `reinitialise` fails.
    SearchError
        If something fails after the first epoch. Its ``result`` is the `Retrained` so far, and the module keeps its
        current weights. A batch of `val` is evaluated before the training, so most errors are raised at once.
    """
    whole(epochs, "epochs", least=1)
    check_network(module)
    if not isinstance(train, Sized) or not len(train):
        raise ValueError(f"train must have a length of at least 1, as a DataLoader has, got {train!r}")
    if isinstance(val, Iterator):
        raise TypeError(f"val is gone through after each epoch, and must be a DataLoader or a list, got {val!r}")
    seed = whole(seed, "seed", least=0)
    device, scores = device_of(module), list[Scores]()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), fast_depthwise(module):
        _rehearse(module, val, loss, metric)
        torch.manual_seed(seed)
        if fresh:
            reinitialise(module)
        optimizer = torch.optim.SGD(
            module.parameters(), lr=learning_rate, momentum=momentum, weight_decay=weight_decay, nesterov=momentum > 0
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * len(train))
        try:
            for epoch in range(1, epochs + 1):
                module.train()
                for batch in checked(train, "train", module):
                    optimizer.zero_grad()
                    batch = batch.to(device)
                    outputs = batch.outputs(module)
                    (batch.loss(loss, outputs) if objective is None else objective(batch, outputs)).backward()
                    optimizer.step()
                    schedule.step()
                scores.append(_scores(module, val, "val", loss, metric))
                if progress is not None:
                    progress(epoch, scores[-1])
        except Exception as error:
            if not scores:
                raise
            message = f"{type(error).__name__}: {error} (the scores of {len(scores)} epochs are in .result)"
            raise SearchError(message, Retrained(tuple(scores))) from error  # pyright: ignore[reportArgumentType]
    return Retrained(tuple(scores))


def _rehearse(module: nn.Module, val: Iterable[Any], loss: Loss, metric: Accuracy | None) -> None:
    """Evaluate the first batch without changing the order of later batches."""
    generator = generator_of(val)
    state = None if generator is None else generator.get_state()
    try:
        _scores(module, itertools.islice(val, 1), "val", loss, metric)
    finally:
        if generator is not None and state is not None:
            generator.set_state(state)


def reinitialise(module: nn.Module) -> None:
    """Initialise all weights of a module again.

    Each part uses its ``reset_parameters``. Parameters of parts without this method, such as tables of positions, are
    drawn from a normal distribution with standard deviation 0.02, as in transformers.

    Raises
    ------
    ValueError
        If such a parameter has fewer than two dimensions. It may be a scale, which must not start near 0.
    """
    for path, part in module.named_modules():
        reset: Any = getattr(part, "reset_parameters", getattr(part, "_reset_parameters", None))
        if callable(reset):
            reset()
            continue
        for name, parameter in part.named_parameters(recurse=False):
            if parameter.ndim < 2:
                raise ValueError(
                    f"{path or type(part).__name__} has no reset_parameters, and its {name!r} of shape "
                    f"{tuple(parameter.shape)} may be a scale; draw the weights yourself and give fresh=False"
                )
            nn.init.normal_(parameter, std=FREE_DEVIATION)
