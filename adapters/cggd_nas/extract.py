"""Extraction of the plain network of one selection, and its specification as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from numpy.typing import ArrayLike
from torch import nn

from cggd.entries import parse_json
from cggd.io import check_keys
from cggd_nas.agreement import check_agreement
from cggd_nas.plain import as_supernet, plain_network
from cggd_nas.supernet import Supernet
from cggd_nas.trace import Example

FORMAT = "cggd architecture 1"


def extract(
    model: nn.Module | Supernet,
    selection: Mapping[Hashable, Hashable] | ArrayLike,
    *,
    example: Example | None = None,
) -> nn.Module:
    """Return the network of one selection as a plain module of PyTorch's and the user's classes, without cggd's.

    Every module with a method ``plain(selection)`` is replaced by the result of this method, with copied weights. Parts
    of cggd's own classes, such as the cells of `cggd_nas.spaces`, become `torch.fx` graph modules of the same layers.

    If the supernet has choices of width, it is first compared with extracted networks, on this selection and on a few
    random ones, by copies with weights moved at random. Each selection is compared once.

    Parameters
    ----------
    model : nn.Module or Supernet
        It is not changed.
    selection : mapping of decision to option, or array-like of int, shape (n_decisions,)
    example : Tensor or sequence of Tensor, optional
        Arguments of the network's forward for the comparison. By default those of `Costs` or of a forward pass, or
        tensors made from the shapes of the first layers.

    Returns
    -------
    nn.Module
        On the same device and in the same mode. In evaluation mode its outputs are those of the network under
        ``supernet.selected(selection)``.

    Raises
    ------
    ValueError
        If the selection is not in the supernet's space; if the extracted network computes something else than the
        supernet, for example because an activation with f(0) != 0 is between a `ChannelChoice` and the next layer; if
        the supernet has choices of width and no example is known.

    Examples
    --------
    >>> from cggd_nas import Choice
    >>> model = nn.Sequential(Choice({"wide": nn.Linear(2, 4), "narrow": nn.Linear(2, 4, bias=False)}), nn.ReLU())
    >>> extract(model, {"0": "narrow"})
    Sequential(
      (0): Linear(in_features=2, out_features=4, bias=False)
      (1): ReLU()
    )
    """
    supernet = as_supernet(model)
    indices = supernet.space.indices(selection)
    check_agreement(supernet, [indices], example, insist=True)
    return plain_network(supernet, supernet.space.labels(indices))


@dataclass(frozen=True)
class Architecture:
    """The specification of an extracted network: the selection, and how its supernet was made.

    Parameters
    ----------
    selection : dict of str to str
    builder : str
        Name of the function that makes the supernet, for information.
    arguments : dict
        Keyword arguments of this function, of types that JSON can hold.

    Examples
    --------
    >>> from cggd_nas import Choice
    >>> def factory(width):
    ...     return nn.Sequential(Choice({"linear": nn.Linear(width, 2), "none": nn.Identity()}, decision="first"))
    >>> spec = Architecture({"first": "linear"}, builder="my_nets.factory", arguments={"width": 3})
    >>> Architecture.from_json(spec.to_json()).build(factory)
    Sequential(
      (0): Linear(in_features=3, out_features=2, bias=True)
    )
    """

    selection: Mapping[Any, Any]
    builder: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The specification as JSON text."""
        written = json.dumps({"format": FORMAT, **asdict(self)}, indent=2, allow_nan=False)
        if Architecture.from_json(written) != self:
            raise TypeError(f"selection and arguments must be of types that JSON keeps, such as strings, got {self}")
        return written

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Read the output of `to_json`."""
        try:
            read = parse_json(text)
        except ValueError as error:
            raise ValueError(f"text must be JSON of an architecture: {error}") from None
        if not isinstance(read, dict) or read.pop("format", None) != FORMAT:
            raise ValueError(f"text must be a JSON object of format {FORMAT!r} with {', '.join(_FIELDS)}")
        check_keys(read, _FIELDS, "the architecture")
        for name, kind in _FIELDS.items():
            if not isinstance(read.get(name), kind):
                what = "an object" if kind is dict else "a string"
                raise ValueError(f"text must be of an architecture, whose {name!r} is {what}, got {read.get(name)!r}")
        return cls(**read)

    def build(self, factory: Callable[..., nn.Module], *, example: Example | None = None) -> nn.Module:
        """The plain network with new weights; load weights with ``load_state_dict``, or train it.

        Parameters
        ----------
        factory : callable
            Makes the supernet from `arguments`.
        example : Tensor or sequence of Tensor, optional
            As for `extract`.
        """
        return extract(factory(**self.arguments), self.selection, example=example)


_FIELDS: dict[str, type] = {"selection": dict, "builder": str, "arguments": dict}
