"""Batches of data held in two tensors, in an order that a seed fixes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Batches(Protocol):
    """What a search reads data from: a ``DataLoader``, a list of pairs, anything with a length to iterate anew."""

    def __len__(self) -> int:
        """Number of batches."""
        ...

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of inputs and targets."""
        ...


@dataclass(frozen=True, eq=False)
class Shuffled:
    """Batches of two tensors in a new random order each time; a last batch that is not full is left out.

    Attributes
    ----------
    inputs, targets : Tensor of shape (n, ...)
    batch_size : int
    generator : torch.Generator
        On the CPU; what it draws next is the next order.

    Examples
    --------
    >>> batches = Shuffled(torch.arange(5), torch.arange(5), 2, torch.Generator().manual_seed(0))
    >>> [inputs.tolist() for inputs, targets in batches]
    [[4, 0], [1, 3]]
    """

    inputs: Tensor
    targets: Tensor
    batch_size: int
    generator: torch.Generator

    def __len__(self) -> int:
        return max(1, len(self.inputs) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.inputs), generator=self.generator)
        for rows in order.split(self.batch_size)[: len(self)]:
            rows = rows.to(self.inputs.device)
            yield self.inputs[rows], self.targets[rows.to(self.targets.device)]


def as_batches(data: Any, argument: str, *, batch_size: int, seed: int) -> Batches:
    """Batches from a pair of tensors, or from something that gives batches already, checked."""
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Tensor) for part in data):
        inputs, targets = data
        if len(inputs) != len(targets) or len(inputs) == 0:
            raise ValueError(f"{argument} must hold as many inputs as targets, got {len(inputs)} and {len(targets)}")
        return Shuffled(inputs, targets, batch_size, torch.Generator().manual_seed(seed))
    if not isinstance(data, Iterable) or isinstance(data, Iterator) or not isinstance(data, Sized) or len(data) == 0:
        raise TypeError(
            f"{argument} must be a pair of tensors (inputs, targets), or give batches of them as a DataLoader does, "
            f"with a length of at least 1; got {type(data).__name__}"
        )
    return data  # pyright: ignore[reportReturnType] - iterable and sized


def in_order(batches: Batches) -> Batches | Sequence[tuple[Tensor, Tensor]]:
    """Batches to evaluate on: those of two tensors as they lie, a last one that is not full included."""
    if not isinstance(batches, Shuffled):
        return batches
    inputs, targets = (x.split(batches.batch_size) for x in (batches.inputs, batches.targets))
    return list(zip(inputs, targets, strict=True))


def pairs(batches: Iterable[Any], argument: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches, each checked to be inputs and targets."""
    for batch in batches:
        parts = list(batch) if isinstance(batch, tuple | list) else [batch]
        if len(parts) != 2 or not all(isinstance(part, Tensor) and part.ndim > 0 for part in parts):
            got = [f"a tensor {tuple(p.shape)}" if isinstance(p, Tensor) else type(p).__name__ for p in parts[:3]]
            raise TypeError(
                f"{argument} must give batches of two tensors, inputs and targets, as a DataLoader or a list "
                f"[(inputs, targets)] does; one of its batches is {' and '.join(got) or 'empty'}"
            )
        yield parts[0], parts[1]


def generator_of(batches: Any) -> torch.Generator | None:
    """The generator that orders the batches, where they have one of their own; else it is PyTorch's global one."""
    generator = getattr(batches, "generator", None)
    return generator if isinstance(generator, torch.Generator) else None


def repeated(batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches for ever, from the beginning again when they end."""
    while True:
        yield from batches
