"""The place of an error in a network, for messages."""

from __future__ import annotations

import traceback
from typing import Any

from torch import nn

from cggd_nas.choices import changes
from cggd_nas.nested import described, tensors_in


def check_network(module: Any, argument: str = "module", *, plain: bool = False) -> None:
    """Raise unless a value is a module and, with `plain`, one without choices; `argument` names it in the error."""
    if not isinstance(module, nn.Module):
        of_supernet = isinstance(getattr(module, "model", None), nn.Module)
        inside = "; its attribute model is one, and extract(supernet, selection) gives the network of a selection"
        raise TypeError(f"{argument} must be an nn.Module, got {described(module)}{inside if of_supernet else ''}")
    if plain and (choices := [path for path, part in module.named_modules() if changes(part)]):
        more = f" and {len(choices) - 1} more" if len(choices) > 1 else ""
        raise ValueError(
            f"{argument} must be a network without choices, but has one at {choices[0]!r}{more}; give it as "
            "extract(supernet, selection)"
        )


def place_of(error: BaseException, network: nn.Module) -> str:
    """The innermost part of a network that an error passed through, and the shapes of its arguments.

    Examples
    --------
    >>> import torch
    >>> network = nn.Sequential(nn.ReLU(), nn.Linear(3, 2))
    >>> try:
    ...     network(torch.zeros(1, 4))
    ... except RuntimeError as error:
    ...     print(place_of(error, network))
    at '1', Linear(in_features=3, out_features=2, bias=True), given (1, 4)
    """
    paths = {id(part): path for path, part in network.named_modules()}
    place = "outside of its modules"
    for frame, _ in traceback.walk_tb(error.__traceback__):
        part: Any = frame.f_locals.get("self")
        if frame.f_code.co_name != "_call_impl" or not isinstance(part, nn.Module):
            continue
        if callable(variant := getattr(part, "variant", None)) and isinstance(path := getattr(part, "path", None), str):
            made: Any = variant()
            inner = made.module.named_modules()  # of a unit, see cggd_nas.tracer
            paths |= {id(one): f"{path}.{name}" if name else path for name, one in inner}
        elif path := paths.get(id(part)):
            kind = str(part) if not part._modules else type(part).__name__
            given = tensors_in((frame.f_locals.get("args", ()), frame.f_locals.get("kwargs", {})))
            place = f"at {path!r}, {kind}, given {', '.join(str(tuple(x.shape)) for x in given)}"
    return place
