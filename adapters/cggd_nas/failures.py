"""The place of an error in a network, for messages."""

from __future__ import annotations

import traceback
from typing import Any

from torch import nn

from cggd_nas.nested import tensors_in


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
