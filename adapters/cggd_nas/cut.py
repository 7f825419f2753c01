"""Layers that run with some of their channels, for `cggd_nas.prunable`.

Each module becomes an instance of a subclass of its own class. When its forward reads weights and sizes, it gets those
of the widths drawn. Users' forwards therefore run unchanged, on tensors of the same shapes as in the extracted network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, wraps
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cggd_nas.choices import NOISE, Selection
from cggd_nas.relaxations import Mixing

Counts = Mapping[str, int]


class Width(nn.Module):
    """The choice of the number of units of a group. It is placed in the group's first module and computes nothing.

    Attributes
    ----------
    kept : tuple of int
        For each option the number of units.
    """

    labels: tuple[str, ...]
    decision: str | None
    logits: nn.Parameter
    mixing: Mixing | None

    def __init__(self, decision: str, options: Mapping[str, int]) -> None:
        super().__init__()
        self.labels, self.decision, self.mixing = tuple(options), decision, None
        self.kept = tuple(options.values())
        self.logits = nn.Parameter(NOISE * torch.randn(len(options)))

    def plain(self, selection: Selection) -> nn.Module:
        """An identity, since the modules of the group are cut."""
        return nn.Identity()

    def count(self, selection: Selection) -> int:
        """Number of units under a selection."""
        return self.kept[self.labels.index(cast(str, selection[self.decision]))]

    @property
    def drawn(self) -> int | None:
        """Units of the widest path of the next forward pass; None before the first draw."""
        return None if self.mixing is None else max(self.kept[path] for path in self.mixing.paths)

    @property
    def shares(self) -> Tensor | None:
        """For each drawn unit the total weight of the paths that keep it; None if logits get no gradient."""
        if self.mixing is None or self.mixing.weights is None:
            return None
        kept = torch.tensor([self.kept[path] for path in self.mixing.paths])
        keeps = (torch.arange(int(kept.max())) < kept[:, None]).to(self.mixing.weights)
        return self.mixing.weights @ keeps


@dataclass(eq=False)
class Axis:
    """One dimension of a weight and the widths that its indices depend on.

    Attributes
    ----------
    size : int
    parts : list of (str, array of int, shape (n_units, indices of a unit))
        For each decision its units, the most important first.
    contracted : bool
        Whether products are summed over it.
    """

    size: int
    parts: list[tuple[str, NDArray[np.int64]]] = field(default_factory=list)
    contracted: bool = False

    def kept(self, counts: Counts) -> NDArray[np.int64] | None:
        """The remaining indices in order; None if all remain."""
        gone = [units[counts[decision] :].ravel() for decision, units in self.parts]
        if not sum(map(len, gone)):
            return None
        return np.delete(np.arange(self.size), np.concatenate(gone))

    def scale(self, shares: Mapping[str, Tensor | None]) -> Tensor | None:
        """Factors of the indices; None if logits get no gradient."""
        made: Tensor | None = None
        for decision, units in self.parts:
            if (share := shares[decision]) is not None:
                made = share.new_ones(self.size) if made is None else made
                at = torch.as_tensor(units[: len(share)], device=share.device)
                made = made.index_put((at.ravel(),), share.repeat_interleave(units.shape[1]))
        return made


@dataclass(eq=False)
class Sizes:
    """A number in a module's attribute that is the size of a dimension; `place` is its position in a tuple.

    `each` maps a decision to its number of units and the number of indices per unit.
    """

    attribute: str
    size: int
    each: Mapping[str, tuple[int, int]]
    place: int | None = None

    def at(self, counts: Counts) -> int:
        """The size at other widths."""
        return self.size - sum((n - counts[decision]) * indices for decision, (n, indices) in self.each.items())

    def put(self, value: Any, counts: Counts) -> Any:
        """The attribute's value at other widths."""
        if self.place is None:
            return self.at(counts)
        return type(value)(self.at(counts) if i == self.place else n for i, n in enumerate(value))


@dataclass(eq=False)
class Cut:
    """The weights and sizes of a module that depend on decisions."""

    widths: dict[str, Width]
    axes: dict[str, dict[int, Axis]] = field(default_factory=dict)
    sizes: list[Sizes] = field(default_factory=list)
    lent: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def counts(self, selection: Selection | None = None) -> Counts | None:
        """Numbers of units under a selection, or as drawn."""
        if selection is not None:
            return {decision: width.count(selection) for decision, width in self.widths.items()}
        drawn = {decision: width.drawn for decision, width in self.widths.items()}
        return None if None in drawn.values() else cast(Counts, drawn)

    def running(self, module: nn.Module, name: str, whole: Tensor) -> Tensor:
        """The weight that the forward gets."""
        if (counts := self.counts()) is None:
            return whole
        shares = {decision: width.shares for decision, width in self.widths.items()}
        value = whole
        for dim, axis in self.axes[name].items():
            if axis.contracted and (scale := axis.scale(shares)) is not None and value.is_floating_point():
                value = value * scale.to(value).reshape([-1 if d == dim else 1 for d in range(value.ndim)])
        value, rows = taken(value, self.axes[name], counts)
        if name in module._buffers and module.training and rows is not None:
            self.lent[name] = value, rows
        return value

    def give_back(self, module: nn.Module) -> None:
        """Copy changed buffers, such as running statistics, back into the whole buffers."""
        for name, (value, rows) in self.lent.items():
            buffer = module._buffers[name]
            if buffer is not None and value.ndim == 1:
                buffer[rows] = value.detach()
        self.lent.clear()

    def attribute(self, name: str, value: Any, counts: Counts) -> Any:
        """A size at other widths."""
        for sizes in self.sizes:
            if sizes.attribute == name:
                value = sizes.put(value, counts)
        return value


def taken(value: Tensor, axes: Mapping[int, Axis], counts: Counts) -> tuple[Tensor, Tensor | None]:
    """A cut weight, and the remaining indices of the last dimension that was cut."""
    rows = None
    for dim, axis in axes.items():
        if (kept := axis.kept(counts)) is not None:
            rows = torch.tensor(kept, device=value.device)
            value = value.index_select(dim, rows)
    return value, rows


def cut(module: nn.Module, how: Cut) -> None:
    """Make a module depend on its decisions, in place."""
    module.__dict__["_cut"] = how
    names = frozenset(sizes.attribute for sizes in how.sizes)
    module.__class__ = _following(type(module), names)


@cache
def _following(base: type[nn.Module], names: frozenset[str]) -> type[nn.Module]:
    """A subclass whose weights, and attributes with these names, depend on the widths drawn."""

    def of_weight(self: Any, name: str) -> Any:
        value = base.__getattr__(self, name)  # pyright: ignore[reportAttributeAccessIssue]
        how = self.__dict__.get("_cut")
        return how.running(self, name, value) if how is not None and name in how.axes and value is not None else value

    @wraps(base.forward)  # a choice reads the arguments of its options
    def forward(self: Any, *arguments: Any, **named: Any) -> Any:
        result = base.forward(self, *arguments, **named)
        if self._cut.lent:
            self._cut.give_back(self)
        return result

    def plain(self: Any, selection: Selection) -> nn.Module:
        made = object.__new__(base)
        how: Cut = self._cut
        counts = cast(Counts, how.counts(selection))
        made.__dict__.update({key: value for key, value in vars(self).items() if key != "_cut"})
        for kind in ("_parameters", "_buffers", "_modules"):
            made.__dict__[kind] = dict(made.__dict__[kind])
        made._modules = {k: m for k, m in made._modules.items() if not k.startswith(PLACE)}
        for name, axes in how.axes.items():
            _put(made, name, taken(base.__getattr__(self, name), axes, counts)[0])  # pyright: ignore
        for name in names:
            made.__dict__[name] = how.attribute(name, made.__dict__[name], counts)
        if isinstance(made, nn.RNNBase):
            made._init_flat_weights()
        return made

    def reduced(self: Any, version: int) -> Any:
        return _bare, (base, names), {k: v for k, v in vars(self).items() if k != "_flat_weight_refs"}

    body: dict[str, Any] = {
        "__getattr__": of_weight, "forward": forward, "plain": plain, "__reduce_ex__": reduced,
        "__doc__": base.__doc__, "__module__": __name__,
        **{name: property(_read(name), _write(name)) for name in names},
    }  # fmt: skip
    if issubclass(base, nn.RNNBase):
        body["_flat_weights"] = property(
            lambda self: [getattr(self, name) for name in self._flat_weights_names], lambda self, value: None
        )
    return cast(type[nn.Module], type(f"Cut{base.__name__}", (base,), body))


# Prefix of the names of choices of width in modules.
PLACE = "_width_"


def _bare(base: type[nn.Module], names: frozenset[str]) -> nn.Module:
    return object.__new__(_following(base, names))


def _read(name: str) -> Callable[[Any], Any]:
    def read(self: Any) -> Any:
        how: Cut | None = self.__dict__.get("_cut")
        value, counts = self.__dict__[name], None if how is None else how.counts()
        return value if how is None or counts is None else how.attribute(name, value, counts)

    return read


def _write(name: str) -> Callable[[Any, Any], None]:
    def write(self: Any, value: Any) -> None:
        self.__dict__[name] = value

    return write


def _put(module: nn.Module, name: str, value: Tensor) -> None:
    """Replace a weight or buffer by one of another shape."""
    value = value.detach()
    if name in module._parameters:
        old = cast(nn.Parameter, module._parameters[name])
        module._parameters[name] = old if value.shape == old.shape else nn.Parameter(value.clone(), old.requires_grad)
    else:
        module._buffers[name] = value.clone()


def placed(module: nn.Module, width: Width) -> None:
    """Put a choice of width into a module, where `collect` finds it."""
    module._modules[f"{PLACE}{sum(key.startswith(PLACE) for key in module._modules)}"] = width


def sizes_of(module: nn.Module) -> Sequence[tuple[str, str, int, int | None]]:
    """Attributes of PyTorch's layers that hold a size of their weights: attribute, weight, dimension, place."""
    return next((known for kind, known in _SIZES if isinstance(module, kind)), [])


_BATCH = nn.modules.batchnorm._NormBase
_SIZES: list[tuple[Any, list[tuple[str, str, int, int | None]]]] = [
    (nn.Linear, [("in_features", "weight", 1, None), ("out_features", "weight", 0, None)]),
    (
        (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
        [("in_channels", "weight", 0, None), ("out_channels", "weight", 1, None)],
    ),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), [("in_channels", "weight", 1, None), ("out_channels", "weight", 0, None)]),
    (_BATCH, [("num_features", "weight", 0, None)]),
    (nn.GroupNorm, [("num_channels", "weight", 0, None)]),
    ((nn.LayerNorm, nn.RMSNorm), [("normalized_shape", "weight", 0, 0)]),
    ((nn.Embedding, nn.EmbeddingBag), [("embedding_dim", "weight", 1, None)]),
    (nn.PReLU, [("num_parameters", "weight", 0, None)]),
    (nn.RNNCellBase, [("input_size", "weight_ih", 1, None), ("hidden_size", "weight_hh", 1, None)]),
    (nn.RNNBase, [("input_size", "weight_ih_l0", 1, None), ("hidden_size", "weight_hh_l0", 1, None)]),
]
