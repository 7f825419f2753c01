"""Parts of networks: what a look-up table calls them, and a part that takes tensors alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class Place:
    """A part of the network as a look-up table names it.

    Attributes
    ----------
    path : str
        The part's path in the supernet.
    option : str
        The options that it depends on: the label where it is one decision's, ``decision=label`` of each joined by
        semicolons where it is several's, and nothing where it is always the same.
    shapes : tuple of tuples of int
        Shapes of the tensors that it is given.
    """

    path: str
    option: str
    shapes: tuple[tuple[int, ...], ...]

    def __str__(self) -> str:
        given = " ".join("x".join(map(str, shape)) for shape in self.shapes)
        return f"{self.path or 'the network'}{f' [{self.option}]' if self.option else ''} given {given}"


class Partial(nn.Module):
    """A module with those of its arguments that are no tensors; it takes the tensors."""

    def __init__(self, module: nn.Module, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        super().__init__()
        self.module = module
        self._given = pytree.tree_map(lambda x: _Tensor if isinstance(x, Tensor) else x, (arguments, dict(named)))

    def forward(self, *tensors: Tensor) -> Any:
        following = iter(tensors)
        arguments, named = pytree.tree_map(lambda x: next(following) if x is _Tensor else x, self._given)
        return self.module(*arguments, **named)


class _Tensor:
    """Stands where a tensor is to be."""
