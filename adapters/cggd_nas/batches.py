"""Batches of data: inputs of the network, and targets for its outputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cggd_nas.nested import described, mapped, moved, tensors_in
from cggd_nas.supernet import unwrapped

# The entry of a mapping that holds the targets, as in the data sets of Hugging Face.
LABELS = "labels"


class Batches(Protocol):
    """A source of batches with a length that can be iterated repeatedly, such as a ``DataLoader`` or a list."""

    def __len__(self) -> int:
        """Number of batches."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Batches: (inputs, targets), (first, second, ..., targets), or mappings of arguments of forward."""
        ...


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch: arguments of forward by position and by name, and targets.

    Attributes
    ----------
    inputs : tuple
    named : mapping of str
    targets : Any
        The second argument of the loss.

    Examples
    --------
    >>> batch = Batch.of((torch.ones(4, 2), torch.zeros(4)), nn.Linear(2, 1))
    >>> batch.outputs(nn.Identity()).shape, batch.samples
    (torch.Size([4, 2]), 4)
    """

    inputs: tuple[Any, ...]
    named: Mapping[str, Any]
    targets: Any

    @classmethod
    def of(cls, raw: Any, model: nn.Module, argument: str = "batches") -> Batch:
        """Convert a batch of a data loader; `argument` names the loader in errors.

        Parameters
        ----------
        raw : tuple, list or mapping
            The last part of a tuple is the target, and the parts before it go to the model, by name if they are one
            mapping. Of a single mapping, the model gets the entries that its forward takes. The targets are then the
            entry ``labels``, or the mapping itself if there is none.
        model : nn.Module
        argument : str
        """
        if isinstance(raw, Mapping):
            taken = _taken(raw, model, argument)
            batch = cls((), taken, raw.get(LABELS, raw))
        elif isinstance(raw, tuple | list) and len(raw) > 1:
            *inputs, targets = raw
            by_name = len(inputs) == 1 and isinstance(inputs[0], Mapping)
            batch = cls((), _taken(inputs[0], model, argument), targets) if by_name else cls(tuple(inputs), {}, targets)
        else:
            raise TypeError(_wrong(raw, argument))
        first = next(tensors_in((batch.inputs, batch.named)), None)
        if first is None or first.ndim == 0 or (isinstance(batch.targets, Tensor) and batch.targets.ndim == 0):
            raise TypeError(_wrong(raw, argument))
        return batch

    @property
    def samples(self) -> int:
        """Number of samples: the length of the targets, or of the first input if targets have no length."""
        own = self.targets
        if isinstance(own, Sized) and not isinstance(own, Mapping):
            return len(own)
        return len(next(tensors_in((self.inputs, self.named))))

    def to(self, device: torch.device) -> Batch:
        """The batch with all its tensors on a device."""
        return Batch(*moved((self.inputs, self.named, self.targets), device))

    def outputs(self, model: nn.Module) -> Any:
        """The outputs of a model for the inputs."""
        return model(*self.inputs, **self.named)

    def loss(self, function: Callable[[Any, Any], Tensor], outputs: Any) -> Tensor:
        """The loss of outputs, by a function of outputs and targets."""
        try:
            return function(outputs, self.targets)
        except (TypeError, AttributeError) as error:
            if isinstance(outputs, Tensor):
                raise
            raise TypeError(
                f"loss cannot be computed from what the network returns, {described(outputs)}: {error}; give a "
                "function of it, such as loss=lambda outputs, targets: cross_entropy(outputs.logits, targets)"
            ) from error


@dataclass(frozen=True, eq=False)
class Shuffled:
    """Batches of tensors in a new random order for each iteration, without a last batch that is not full.

    Attributes
    ----------
    data : tuple or mapping of tensors
        All of the same length.
    batch_size : int
    generator : torch.Generator
        On the CPU. It draws the order of each iteration.

    Examples
    --------
    >>> batches = Shuffled((torch.arange(5), torch.arange(5)), 2, torch.Generator().manual_seed(0))
    >>> [inputs.tolist() for inputs, targets in batches]
    [[4, 0], [1, 3]]
    """

    data: Any
    batch_size: int
    generator: torch.Generator

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(next(tensors_in(self.data)))

    def __len__(self) -> int:
        return max(1, self.samples // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        order = torch.randperm(self.samples, generator=self.generator)
        for rows in order.split(self.batch_size)[: len(self)]:
            yield self.rows(rows)

    def rows(self, rows: Tensor) -> Any:
        """The batch of the given samples."""
        return mapped(lambda x: x[rows.to(x.device)], self.data)


def as_batches(data: Any, argument: str, *, batch_size: int, seed: int) -> Batches:
    """Batches made from tensors, or given batches, checked."""
    parts = list(data.values()) if isinstance(data, Mapping) else list(data) if isinstance(data, tuple) else []
    if len(parts) > 1 and all(isinstance(part, Tensor) for part in parts):
        lengths = [len(part) if part.ndim else 0 for part in parts]
        if len(set(lengths)) > 1 or 0 in lengths:
            raise ValueError(
                f"{argument} must hold as many inputs as targets, got {' and '.join(map(str, dict.fromkeys(lengths)))}"
            )
        return Shuffled(data, batch_size, torch.Generator().manual_seed(seed))
    anew = isinstance(data, Iterable) and not isinstance(data, Iterator | Mapping)
    if not anew or not isinstance(data, Sized) or len(data) == 0:
        raise TypeError(
            f"{argument} must be tensors (inputs, targets), or give batches of them as a DataLoader does, with a "
            f"length of at least 1; got {described(data)}"
        )
    return data  # pyright: ignore[reportReturnType] - iterable and sized


def in_order(batches: Batches) -> Batches | Sequence[Any]:
    """Batches for evaluation: tensors in their order, including a last batch that is not full."""
    if not isinstance(batches, Shuffled):
        return batches
    return [batches.rows(rows) for rows in torch.arange(batches.samples).split(batches.batch_size)]


def checked(batches: Iterable[Any], argument: str, model: nn.Module) -> Iterator[Batch]:
    """Batches for a model, each checked."""
    return (Batch.of(raw, model, argument) for raw in batches)


def generator_of(batches: Any) -> torch.Generator | None:
    """The batches' own generator; None if they use PyTorch's global one."""
    generator = getattr(batches, "generator", None)
    return generator if isinstance(generator, torch.Generator) else None


def repeated(batches: Batches) -> Iterator[Any]:
    """Endless batches; starts again when they end."""
    while True:
        yield from batches


def _taken(mapping: Mapping[Any, Any], model: nn.Module, argument: str) -> dict[str, Any]:
    """The entries that a model's forward takes."""
    known = inspect.signature(unwrapped(model).forward).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return dict(mapping)
    taken = {str(key): value for key, value in mapping.items() if key in known}
    needed = {name for name, p in known.items() if p.default is p.empty and p.kind is not p.VAR_POSITIONAL}
    if missing := needed.difference(taken):
        raise TypeError(
            f"{argument} gives mappings of {', '.join(map(repr, mapping))}, which lack "
            f"{', '.join(map(repr, sorted(missing)))} that the forward of {type(unwrapped(model)).__name__} takes; "
            f"name entries as its arguments ({', '.join(known)})"
        )
    return taken


def _wrong(raw: Any, argument: str) -> str:
    right = ""
    if isinstance(raw, Tensor | str):  # the parts of one batch were taken for batches
        right = "; a single batch is a list of one, [(inputs, targets)] or [mapping]"
    elif isinstance(raw, tuple | list) and any(isinstance(part, tuple | list | Mapping) for part in raw):
        right = "; give the list of batches itself, not a list that holds it"
    parts = list(raw.values()) if isinstance(raw, Mapping) else list(raw) if isinstance(raw, tuple | list) else [raw]
    got = [f"a tensor {tuple(p.shape)}" if isinstance(p, Tensor) else type(p).__name__ for p in parts[:3]]
    return (
        f"{argument} must give batches (inputs, targets), (first, second, ..., targets) or mappings of what forward "
        f"takes, of tensors with an axis of samples, as a DataLoader does; one of its batches is "
        f"{' and '.join(got) or 'empty'}{right}"
    )
