"""Values with tensors in nested tuples, lists, mappings and dataclasses."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

# Characters of a value that a message still shows.
LONG = 80


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors of a value, in order.

    Examples
    --------
    >>> [len(x) for x in tensors_in((torch.zeros(1), {"a": [torch.zeros(2), None]}))]
    [1, 2]
    """
    if isinstance(value, Tensor):
        yield value
    elif (items := items_of(value)) is not None:
        for _, item in items:
            yield from tensors_in(item)


def described(value: Any) -> str:
    """A value in a few words, for messages.

    Examples
    --------
    >>> described({"x": torch.zeros(2, 3)}), described((torch.zeros(1), 3.0)), described("net")
    ("a dict of 'x'", 'a tuple of a tensor of shape (1,) and 3.0', "'net'")
    """
    if (shape := getattr(value, "shape", None)) is not None and not isinstance(value, type):
        return f"{'a tensor' if isinstance(value, Tensor) else 'an ' + type(value).__name__} of shape {tuple(shape)}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} of {', '.join(map(repr, list(value)[:3]))}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {' and '.join(described(item) for item in value[:3]) or 'nothing'}"
    text = repr(value)
    first = text.partition("\n")[0][:LONG]
    return text if first == text else f"{first}..."


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to all leaves of a value: tensors, numbers, strings, None.

    Examples
    --------
    >>> mapped(lambda x: x + 1, {"a": (1, [2])})
    {'a': (2, [3])}
    """
    if (items := items_of(value)) is None:
        return function(value)
    return rebuilt(value, [mapped(function, item) for _, item in items])


def moved(value: Any, device: torch.device) -> Any:
    """A value with all its tensors on a device; objects with a method ``to`` are moved by it."""
    if callable(to := getattr(value, "to", None)):
        return to(device)
    if (items := items_of(value)) is None:
        return value
    return rebuilt(value, [moved(item, device) for _, item in items])


def items_of(value: Any) -> list[tuple[Any, Any]] | None:
    """The keys and items of a container; None for anything else."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, tuple | list):
        return list(enumerate(value))
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    return None


def rebuilt(value: Any, items: Sequence[Any]) -> Any:
    """A container like another one, with other items under the same keys."""
    if isinstance(value, tuple | list):
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    made = copy.copy(value)
    if isinstance(value, Mapping):
        if not hasattr(made, "__setitem__"):
            return dict(zip(value, items, strict=True))
        for key, item in zip(value, items, strict=True):
            made[key] = item
    else:
        for field, item in zip(fields(value), items, strict=True):
            object.__setattr__(made, field.name, item)  # works for frozen dataclasses
    return made
