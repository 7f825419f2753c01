"""Indices along the dimensions of tensors, and which of them are the same channel.

Every index along every dimension of a weight is an *atom*. Each operation links atoms of its arguments and results that
are the same channel. Connected atoms form a *unit*. For a reshape, it is decided after the whole network has run which
of its dimensions gets smaller.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

Atoms = NDArray[np.int64]

# The atom of all dimensions whose size is fixed by the example.
GIVEN = 0


@dataclass(frozen=True, eq=False)
class Owner:
    """One dimension of a weight or buffer; `first` is the atom of its index 0.

    `groups` is the number of convolution groups that contain each index. `rows` is true for the rows of an embedding.
    `weight` is false for buffers.
    """

    path: str
    name: str
    dim: int
    first: int
    size: int
    groups: int = 1
    rows: bool = False
    weight: bool = True

    @property
    def atoms(self) -> Atoms:
        """The atoms of its indices."""
        return np.arange(self.first, self.first + self.size)


@dataclass(frozen=True, eq=False)
class Product:
    """Multiply-accumulates of one operation: a factor times the sizes of dimensions, in the module at `path`."""

    path: str
    factor: int
    dims: tuple[Atoms, ...]


@dataclass(frozen=True, eq=False)
class Sized:
    """The atoms of a dimension whose size may be a constant in the code of the module at `path`."""

    path: str
    atoms: Atoms


@dataclass(frozen=True, eq=False)
class Split:
    """A dimension that a reshape split into several, or joined from several: index = position in their product."""

    whole: Atoms
    factors: tuple[Atoms, ...]

    def joined(self, factor: int) -> tuple[Atoms, Atoms]:
        """Pairs of atoms that are the same if the whole gets smaller by removing indices of this factor."""
        shape = tuple(map(len, self.factors))
        at = [1] * len(shape)
        at[factor] = shape[factor]
        return self.whole, np.broadcast_to(self.factors[factor].reshape(at), shape).ravel()


@dataclass(eq=False)
class Coupling:
    """The result of one run of a network.

    Attributes
    ----------
    owners : list of Owner
    contracted : set of int
        Positions of the owners over which products are summed. Zeros there hide a channel.
    products : list of Product
    sizes : list of Sized
    residual : list of str
        Paths of residual modules, which add something to their argument and return the sum.
    units : array of int
        The number of each atom's unit.
    fixed : mapping of int to str
        Units that cannot be removed, and why.
    """

    owners: list[Owner]
    contracted: set[int]
    products: list[Product]
    sizes: list[Sized]
    residual: list[str]
    units: Atoms
    fixed: dict[int, str]

    def position(self, owner: Owner) -> int:
        """The position of an owner in `owners`."""
        return bisect.bisect_left(self.owners, owner.first, key=lambda one: one.first)


class Links:
    """The atoms of the dimensions of all tensors of a network, and the links between them.

    Attributes
    ----------
    where : str
        Path of the module that runs.
    weights : set of int
        Ids of parameters, buffers and views of them.
    batches, repeated : list of array of int
        Batch dimensions of matrix products, and dimensions that only repeat values.
    """

    def __init__(self) -> None:
        self.links: list[tuple[Atoms, Atoms]] = []
        self.splits: list[Split] = []
        self.reasons: dict[int, str] = {GIVEN: "its size is that of the example"}
        self.found = Coupling([], set(), [], [], [], np.zeros(0, dtype=np.int64), {})
        self.n = 1
        self.batches: list[Atoms] = []
        self.repeated: list[Atoms] = []
        self.where = ""
        self._dims: dict[int, list[Atoms]] = {}
        self.weights: set[int] = set()
        self._alive: list[Any] = []

    # -- atoms --------------------------------------------------------------------------------------------------------

    def given(self, n: int) -> Atoms:
        """Atoms of a dimension of fixed size."""
        return np.zeros(n, dtype=np.int64)

    def new(self, n: int) -> Atoms:
        """New atoms without links."""
        self.n += n
        return np.arange(self.n - n, self.n)

    def own(self, path: str, name: str, x: Tensor, groups: Sequence[int], rows: bool, weight: bool) -> None:
        """Give a weight or buffer atoms."""
        dims = []
        for dim, size in enumerate(x.shape):
            times = groups[dim] if dim < len(groups) else 1
            self.found.owners.append(Owner(path, name, dim, self.n, size, times, rows and dim == 0, weight))
            dims.append(self.new(size))
        self.set(x, dims)
        self.weights.add(id(x))

    def set(self, x: Tensor, dims: Sequence[Atoms]) -> None:
        self._alive.append(x)
        self._dims[id(x)] = list(dims)

    def of(self, x: Tensor) -> list[Atoms]:
        """The atoms of a tensor's dimensions; new ones for a tensor that the forward made."""
        if id(x) not in self._dims:
            self.set(x, [self.new(n) if n > 1 else self.given(n) for n in x.shape])
        return self._dims[id(x)]

    def same(self, *dims: Atoms) -> None:
        """Link atoms that are the same channel."""
        for other in dims[1:]:
            self.links.append((dims[0], other))

    def fix(self, dims: Iterable[Atoms], reason: str) -> None:
        for atoms in dims:
            if len(atoms) > 1 and atoms.any():
                self.reasons[self.n] = f"{reason}{f', in {self.where!r}' if self.where else ''}"
                self.same(atoms, np.full(len(atoms), self.new(1)[0]))

    def equally(self, atoms: Atoms, groups: int) -> None:
        """Link the groups of a dimension, so that the same positions stay in each."""
        parts = atoms.reshape(groups, -1)
        self.same(*parts)

    def sized(self, *dims: Atoms) -> None:
        """Record dimensions whose sizes may be constants in the code."""
        self.found.sizes += [Sized(self.where, atoms) for atoms in dims if len(atoms) > 1 and atoms.any()]

    def contract(self, x: Tensor, dim: int) -> None:
        """Record that products are summed over this dimension, if `x` is a weight."""
        if id(x) in self.weights and len(atoms := self.of(x)[dim]):
            at = bisect.bisect_right(self.found.owners, int(atoms[0]), key=lambda owner: owner.first)
            self.found.contracted.add(at - 1)

    def count(self, factor: int, *dims: Atoms) -> None:
        self.found.products.append(Product(self.where, factor, dims))

    # -- the end ------------------------------------------------------------------------------------------------------

    def settled(self) -> Coupling:
        """Decide for each reshape which of its dimensions gets smaller, and number the units."""
        todo = list(self.splits)
        while True:
            units, fixed = self._connected()
            free = ~np.isin(units, np.fromiter(fixed, dtype=np.int64))
            open_, rest = dict[int, list[int]](), list[Split]()
            for split in todo:
                choices = [i for i, atoms in enumerate(split.factors) if free[atoms].any()]
                if len(choices) > 1 and free[split.whole].any():
                    open_[len(rest)] = choices
                    rest.append(split)
                else:
                    self._decide(split, choices[0] if choices and free[split.whole].any() else None)
            if not todo:
                break
            if len(rest) == len(todo):
                rest = self._decide_likeliest(rest, open_, units)
            todo = rest
        self.found.units, self.found.fixed = units, fixed
        return self.found

    def _decide_likeliest(self, splits: list[Split], choices: Mapping[int, list[int]], units: Atoms) -> list[Split]:
        """If several dimensions can get smaller, prefer heads to features of a head, then the larger dimension.

        If no split has a batch dimension of a matrix product, decide only the first split.
        """
        batch, owned, repeated = (np.zeros(len(units), dtype=bool) for _ in range(3))
        for flags, several in ((batch, self.batches), (repeated, self.repeated)):
            for atoms in several:
                flags[units[atoms]] = True
        for owner in self.found.owners:
            owned[units[owner.atoms]] |= owner.weight

        def rank(split: Split, i: int) -> tuple[bool, bool, bool, int]:
            atoms = units[split.factors[i]]
            return bool(batch[atoms].any()), not repeated[atoms].all(), bool(owned[atoms].any()), len(atoms)

        best = [max(choices[n], key=lambda i, split=split: rank(split, i)) for n, split in enumerate(splits)]
        sure = [bool(batch[units[s.whole]].any()) or rank(s, i)[0] for s, i in zip(splits, best, strict=True)]
        now = [n for n, yes in enumerate(sure) if yes] or [0]
        for n in now:
            self._decide(splits[n], best[n])
        return [split for n, split in enumerate(splits) if n not in now]

    def _decide(self, split: Split, factor: int | None) -> None:
        for i, atoms in enumerate(split.factors):
            if i == factor:
                self.same(*split.joined(i))
            else:
                self.fix([atoms], "another dimension of a reshape gets smaller")
        if factor is None:
            self.fix([split.whole], "a reshape whose dimensions all keep their size")

    def _connected(self) -> tuple[Atoms, dict[int, str]]:
        empty = np.zeros(0, dtype=np.int64)
        a = np.concatenate([empty, *(np.ravel(one) for one, _ in self.links)])
        b = np.concatenate([empty, *(np.ravel(other) for _, other in self.links)])
        graph = coo_array((np.ones(len(a), dtype=np.int8), (a, b)), shape=(self.n, self.n))
        units = connected_components(graph, directed=False)[1].astype(np.int64)
        fixed: dict[int, str] = {}
        for atom, reason in self.reasons.items():
            fixed.setdefault(int(units[atom]), reason)
        return units, fixed
