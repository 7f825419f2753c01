"""Parts of networks: their keys in look-up tables, and parts that take only tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class Place:
    """The key of a part of the network in a look-up table.

    Attributes
    ----------
    path : str
        The part's path in the supernet.
    option : str
        The label of its option. If it depends on several decisions, ``decision=label`` of each, joined by semicolons;
        if on none, empty.
    shapes : tuple of tuples of int
        Shapes of the tensors in its arguments.
    """

    path: str
    option: str
    shapes: tuple[tuple[int, ...], ...]

    def __str__(self) -> str:
        given = " ".join("x".join(map(str, shape)) for shape in self.shapes)
        return f"{self.path or 'the network'}{f' [{self.option}]' if self.option else ''} given {given}"


class Partial(nn.Module):
    """A module with fixed arguments except tensors; it takes only the tensors."""

    def __init__(self, module: nn.Module, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        super().__init__()
        self.module = module
        self._given = pytree.tree_map(lambda x: _Tensor if isinstance(x, Tensor) else x, (arguments, dict(named)))

    def forward(self, *tensors: Tensor) -> Any:
        following = iter(tensors)
        arguments, named = pytree.tree_map(lambda x: next(following) if x is _Tensor else x, self._given)
        return self.module(*arguments, **named)


class _Tensor:
    """Placeholder for a tensor."""
