"""The formats of each weight, and their bytes in the file."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cggd.metrics import Additive
from cggd.metrics.base import Invalid
from cggd.space import ChoiceSpace
from cggd_compress.answer import KEEP
from cggd_compress.network import Fragment, Network
from cggd_compress.options import Option, matching
from cggd_compress.runtime import Runtime, first_line


@dataclass(frozen=True, eq=False)
class Choices:
    """The formats that may be chosen for the weights of a network.

    Attributes
    ----------
    network : Network
    space : ChoiceSpace
        A decision for each weight or group of weights with the same format; its options are names of formats.
    members : mapping of decision to list of str
        The weights of each decision.
    fragments : mapping of (decision, option) to mapping of weight to Fragment
    bits : mapping of option to float
    refused : mapping of (decision, option) to str
        Why an option could not be made or loaded.
    """

    network: Network
    space: ChoiceSpace
    members: Mapping[str, Sequence[str]]
    fragments: Mapping[tuple[str, str], Mapping[str, Fragment]]
    bits: Mapping[str, float]
    refused: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @cached_property
    def bytes_of(self) -> NDArray[np.float64]:
        """Bytes of each option in the file, shape (n_options,)."""
        pairs = [(str(d), str(o)) for d in self.space.decisions for o in self.space.option_labels(d)]
        return np.array([sum(f.size for f in self.fragments[pair].values()) for pair in pairs], dtype=float)

    @cached_property
    def size(self) -> Additive:
        """Exact bytes of the file."""
        rest = self.network.file_size(self.network.graph_size())
        return Additive(self.space, self.bytes_of, constant=rest, name="size", unit="B")

    def file(self, selection: Mapping[Hashable, Hashable]) -> bytes:
        """The ONNX file of a selection."""
        fragments: dict[str, Fragment] = {}
        for decision, option in selection.items():
            fragments |= self.fragments[str(decision), str(option)]
        return self.network.assemble(fragments)

    def forbidden(self, keep: Iterable[str], bits: Iterable[str]) -> dict[Hashable, list[Hashable]]:
        """Options that the user rules out.

        Parameters
        ----------
        keep : iterable of str
            Patterns of weights that stay as they are.
        bits : iterable of str
            Texts such as ``embed*=8``: weights that match the pattern have only options of so many bits.
        """
        forbid: dict[Hashable, list[Hashable]] = {}
        for pattern in keep:
            for decision in self._named(pattern, "keep"):
                forbid[decision] = [o for o in self.space.option_labels(decision) if o != KEEP]
        for text in bits:
            pattern, sign, number = text.rpartition("=")
            try:
                wanted = {float(word) for word in number.split(",")} if sign else None
            except ValueError:
                wanted = None
            if wanted is None:
                raise ValueError(f"bits must be a pattern and numbers, such as 'embed*=8', got {text!r}")
            for decision in self._named(pattern, "bits"):
                labels = self.space.option_labels(decision)
                others = [o for o in labels if self.bits[str(o)] not in wanted]
                if len(others) == len(labels):
                    known = ", ".join(f"{b:g}" for b in sorted({self.bits[str(o)] for o in labels}))
                    raise ValueError(f"bits {text!r}: {decision} has options of {known} bits")
                forbid[decision] = others
        return forbid

    def _named(self, pattern: str, argument: str) -> list[str]:
        found = {d for d, names in self.members.items() if matching([d, *names], pattern)}
        if not found:
            raise ValueError(f"{argument} {pattern!r} matches no weight; there are {', '.join(self.members)}")
        return [d for d in self.members if d in found]


def choices_of(
    network: Network,
    options: Sequence[Option],
    runtime: Runtime,
    *,
    together: Iterable[str] = (),
    progress: Callable[[str, int, int], None] = lambda text, done, total: None,
) -> Choices:
    """Make all options of all weights, and load each once in the runtime.

    Parameters
    ----------
    network : Network
    options : list of Option
    runtime : Runtime
    together : iterable of str
        Patterns; all weights that match one are one decision.
    progress : callable
        Takes a text, the number of steps done and the number of all steps.
    """
    members = _grouped(network, together)
    fragments: dict[tuple[str, str], dict[str, Fragment]] = {}
    refused: dict[tuple[str, str], str] = {}
    labels: dict[Hashable, list[Hashable]] = {}
    for i, (decision, names) in enumerate(members.items()):
        progress("formats", i, len(members))
        fragments[decision, KEEP] = {name: network.kept(name) for name in names}
        labels[decision] = [KEEP]
        for option in options:
            try:
                made = {name: _made(network, name, option, runtime) for name in names}
            except Invalid as error:
                refused[decision, option.name] = str(error)
                continue
            whole = {name: fragment for name, fragment in made.items() if fragment is not None}
            if len(whole) == len(made):
                fragments[decision, option.name] = whole
                labels[decision].append(option.name)
    bits = {KEEP: 32.0} | {option.name: float(option.bits) for option in options}
    return Choices(network, ChoiceSpace(labels), members, fragments, bits, refused)


def _made(network: Network, name: str, option: Option, runtime: Runtime) -> Fragment | None:
    """The fragment of an option; None if it does not apply."""
    place = list(network.parts).index(name)
    try:
        model = option.make(network.parts[name])
        fragment = None if model is None else network.fragment(name, model, f"{network.prefix}{place}.")
    except (Invalid, ImportError):  # a missing package is not a property of the weight
        raise
    except Exception as error:
        raise Invalid(f"{type(error).__name__}: {first_line(error)}") from error
    if fragment is not None:
        runtime.session(fragment.model.SerializeToString())
    return fragment


def _grouped(network: Network, together: Iterable[str]) -> dict[str, list[str]]:
    """The weights of each decision; a decision has the name of its pattern or weight."""
    owner: dict[str, str] = {}
    for pattern in together:
        if not (found := [name for name in matching(network.parts, pattern) if name not in owner]):
            known = ", ".join(network.parts)
            raise ValueError(f"together {pattern!r} matches no weight that is free; there are {known}")
        owner |= dict.fromkeys(found, pattern)
    members: dict[str, list[str]] = {}
    for name in network.parts:
        members.setdefault(owner.get(name, name), []).append(name)
    return members
