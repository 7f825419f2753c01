"""Arguments of alternative modules: each module gets only the arguments that it takes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

from torch import fx, nn

_VARIABLE = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Arguments:
    """The arguments of alternative modules.

    Attributes
    ----------
    known : tuple of Parameter
        Parameters of the forward that takes the most arguments, without ``*args`` and ``**kwargs``.
    taken : tuple of (tuple of str, or None)
        For each module the names of the arguments that it gets; None if it gets all of them.
    more : bool
        Whether the forward with the most arguments also takes ``**kwargs``, which the others do not get.

    Examples
    --------
    A skip connection as an alternative to a layer that takes a mask:

    >>> class Layer(nn.Module):
    ...     def forward(self, h, mask=None):
    ...         return h
    >>> both = Arguments.of([Layer(), nn.Identity()])
    >>> both.given(0, ("h",), {"mask": "a mask"}), both.given(1, ("h",), {"mask": "a mask"})
    ((('h',), {'mask': 'a mask'}), (('h',), {}))
    """

    known: tuple[Parameter, ...]
    taken: tuple[tuple[str, ...] | None, ...]
    more: bool = False

    def __deepcopy__(self, memo: dict[int, Any]) -> Arguments:
        return self

    @classmethod
    def of(cls, modules: Sequence[nn.Module]) -> Arguments:
        """The arguments of modules, from the signatures of their forward."""
        signatures = [_parameters(module) for module in modules]
        longest = max(signatures, key=len, default=[])
        known = tuple(p for p in longest if p.kind not in _VARIABLE)
        more = any(p.kind is Parameter.VAR_KEYWORD for p in longest)
        return cls(known, tuple(_taken(own, known) for own in signatures), more)

    def given(
        self, number: int, arguments: tuple[Any, ...], named: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """The arguments of one module, by position and by name."""
        names, known = self.taken[number], [p.name for p in self.known]
        if names is None or len(arguments) > len(known) or not (self.more or set(named).issubset(known)):
            return arguments, named  # the module raises an error for too many arguments
        by_name = dict(zip(known, arguments, strict=False)) | dict(named)
        first, *others = names
        return (by_name[first],), {name: by_name[name] for name in others if name in by_name}

    def plain(self, number: int, module: nn.Module) -> nn.Module:
        """A plain module that takes all arguments and passes on those that `module` takes."""
        return module if self.taken[number] is None else self.chain([number], [module], more=self.more)

    def chain(self, numbers: Sequence[int], modules: Sequence[nn.Module], *, more: bool = False) -> nn.Module:
        """Modules one after another: the first argument of each is the output of the one before it.

        With `more` the chain also takes any other arguments by name and ignores them.
        """
        if len(self.known) <= 1 and not more:
            return nn.Sequential(*modules)
        graph = fx.Graph()
        inputs = {p.name: graph.placeholder(p.name, default_value=p.default) for p in self.known}
        if more:
            graph.placeholder("**more")
        first, *others = inputs
        output = inputs[first]
        for place, number in enumerate(numbers):
            names = others if (names := self.taken[number]) is None else names[1:]
            output = graph.call_module(str(place), (output,), {name: inputs[name] for name in names})
        graph.output(output)
        return fx.GraphModule(nn.ModuleDict({str(i): module for i, module in enumerate(modules)}), graph)

    def check(self, arguments: tuple[Any, ...], named: Mapping[str, Any], what: str) -> None:
        """Raise for arguments that `chain` cannot pass on."""
        known = [p.name for p in self.known]
        if (unknown := [name for name in named if name not in known]) or len(arguments) > max(1, len(known)):
            got = f"{unknown[0]!r}" if unknown else f"{len(arguments)} by position"
            raise TypeError(
                f"{what} takes the arguments that the forward of its blocks names ({', '.join(known)}), got {got}; "
                "name in forward what is passed by *args or **kwargs"
            )


def _parameters(module: nn.Module) -> list[Parameter]:
    if isinstance(own := getattr(module, "arguments", None), Arguments):
        return list(own.known)  # a choice takes the arguments of its options
    parameters = [p.replace(annotation=p.empty) for p in inspect.signature(module.forward).parameters.values()]
    needed = [p for p in parameters if p.default is p.empty]
    # PyTorch's layers with a single further argument, such as output_size of transposed convolutions, are rarely given
    # it; those with several, such as the masks of transformer layers, are.
    single = type(module).__module__.startswith("torch.nn.") and len(parameters) == len(needed) + 1
    return needed if single else parameters


def _taken(own: Sequence[Parameter], known: Sequence[Parameter]) -> tuple[str, ...] | None:
    names = [p.name for p in own]
    if any(p.kind in _VARIABLE for p in own) or len(own) == len(known) or not known:
        return None
    return tuple(p.name for i, p in enumerate(known) if i == 0 or p.name in names)
