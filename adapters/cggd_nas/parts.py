"""Parts of networks: what a look-up table calls them, and how they were called."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from cggd.space import ChoiceSpace
from cggd_nas.trace import Trace

if TYPE_CHECKING:
    from cggd_nas.walk import Unit


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


@dataclass(frozen=True, eq=False)
class Call:
    """A part of the network that was called, on the meta device.

    Attributes
    ----------
    path, option : str
        As in `Place`.
    module : nn.Module
    arguments, named : tuple, mapping
        What it was given by position and by name.
    unit : Unit or None
        None for a part that is the same under every selection.
    trace : Trace or None
        None where it was not traced by itself.
    """

    path: str
    option: str
    module: nn.Module
    arguments: tuple[Any, ...]
    unit: Unit | None = None
    trace: Trace | None = None
    named: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors that it was given."""
        return tuple(x for x in pytree.tree_leaves((self.arguments, self.named)) if isinstance(x, Tensor))

    @property
    def place(self) -> Place:
        """What a look-up table calls it."""
        return Place(self.path, self.option, tuple(tuple(x.shape) for x in self.tensors))

    def part(self) -> nn.Module:
        """The module as one that takes `tensors` alone."""
        if not self.named and all(isinstance(x, Tensor) for x in self.arguments):
            return self.module
        return Partial(self.module, self.arguments, self.named)


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


@dataclass(frozen=True, eq=False)
class Separated:
    """The calls of all networks of a supernet in which no call depends on more than one decision.

    Attributes
    ----------
    fixed : sequence of Call
        Those that are always made.
    switched : sequence of (decision, sequence of Call)
        For each other one the decision, and the call that each of its options makes.
    """

    fixed: Sequence[Call]
    switched: Sequence[tuple[Hashable, Sequence[Call]]]

    def additive(self, space: ChoiceSpace, value: Callable[[Call], float]) -> tuple[NDArray[np.float64], float]:
        """Values of calls summed per option, shape (n_options,), and those of the fixed calls."""
        values = np.zeros(space.n_options)
        for decision, options in self.switched:
            first = int(space.offsets[space.position(decision)])
            values[first : first + len(options)] += [value(call) for call in options]
        return values, float(sum(value(call) for call in self.fixed))
