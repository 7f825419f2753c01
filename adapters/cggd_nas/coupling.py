"""Which channels of a network must be removed together, found from what it executes.

Every index along every dimension of a weight is an *atom*. The network runs once without numbers; each operation says
which atoms of its arguments and results are the same channel. Connected atoms make a *unit*, which is removed as a
whole: a channel with its batch norm and its part in the next layers, or a head with its queries, keys and values.
Operations without a rule, the example and the outputs fix what they touch.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from cggd_nas.nested import tensors_in
from cggd_nas.trace import Example, fake_copy, fake_tensors, recording, running_on

Atoms = NDArray[np.int64]

# The atom of everything that keeps its size because the example has it.
GIVEN = 0


@dataclass(frozen=True, eq=False)
class Owner:
    """One dimension of a weight or buffer: `first` is the atom of its index 0.

    `groups` is in how many groups of a convolution each index stands; `rows` are those of an embedding; buffers are no
    `weight`.
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
    """A size that the code of the module at `path` may have written down, and the atoms of that dimension."""

    path: str
    atoms: Atoms


@dataclass(frozen=True, eq=False)
class Split:
    """A dimension that a reshape cut into several, or several that it joined: index = position in their product."""

    whole: Atoms
    factors: tuple[Atoms, ...]

    def joined(self, factor: int) -> tuple[Atoms, Atoms]:
        """Pairs of atoms that are the same if removing an index of this factor is how the whole gets smaller."""
        shape = tuple(map(len, self.factors))
        at = [1] * len(shape)
        at[factor] = shape[factor]
        return self.whole, np.broadcast_to(self.factors[factor].reshape(at), shape).ravel()


@dataclass(eq=False)
class Coupling:
    """What one run of a network showed.

    Attributes
    ----------
    owners : list of Owner
    contracted : set of int
        Positions of the owners over which products are summed, so that zeros there hide a channel.
    products : list of Product
    sizes : list of Sized
    residual : list of str
        Paths of modules that add something to their argument and return the sum, as residual blocks do.
    units : array of int
        For each atom the number of its unit.
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
        """Where an owner stands among all."""
        return bisect.bisect_left(self.owners, owner.first, key=lambda one: one.first)


def coupling(model: nn.Module, example: Example) -> Coupling:
    """Run a network once without numbers and find what hangs together.

    Examples
    --------
    >>> found = coupling(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.zeros(1, 2))
    >>> hidden = [o for o in found.owners if o.size == 3]
    >>> [(o.path, o.name, o.dim) for o in hidden], len({tuple(found.units[o.atoms]) for o in hidden})
    ([('0', 'weight', 0), ('0', 'bias', 0), ('2', 'weight', 1)], 1)
    """
    copied, arguments = fake_copy(model), fake_tensors(example)
    watch = _Watch()
    for x in arguments:
        watch.set(x, [watch.given(n) for n in x.shape])
    _own(copied, watch)
    _follow(copied, watch)
    with running_on(arguments, copied), recording(watch):  # pyright: ignore[reportArgumentType] - a mode like Recorder
        result = copied(*arguments)
    for x in tensors_in(result):
        watch.fix(watch.of(x), "an output of the network")
    return watch.settled()


def _own(model: nn.Module, watch: _Watch) -> None:
    """Give every index of every weight and buffer an atom; those that two modules share keep their size."""
    seen: dict[int, int] = {}
    for path, module in model.named_modules():
        for name, x in (*module._parameters.items(), *module._buffers.items()):
            if x is None:
                continue
            if id(x) in seen:
                watch.fix(watch.of(x), "a weight that two modules share")
                continue
            seen[id(x)] = 1
            grouped: Any = getattr(module, "groups", 1) if isinstance(module, nn.modules.conv._ConvNd) else 1
            one = grouped if x.ndim > 1 and x.shape[1] > 1 else 1
            watch.own(
                path, name, x, (1, one), isinstance(module, nn.Embedding | nn.EmbeddingBag), name in module._parameters
            )


def _follow(model: nn.Module, watch: _Watch) -> None:
    """Note in which module each operation runs, and what modules are given and return."""

    def before(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple, named: dict) -> None:
            given = [x for x in arguments if isinstance(x, Tensor)] or [
                x for x in list(named.values())[:1] if isinstance(x, Tensor)
            ]
            watch.stack.append((path, given[0] if given else None))

        return hook

    def after(module: nn.Module, arguments: tuple, result: Any) -> None:
        path, given = watch.stack.pop()
        if given is not None and isinstance(result, Tensor) and next(module.parameters(), None) is not None:
            watch.returned(path, given, result)

    for path, module in model.named_modules():
        if path:
            module.register_forward_pre_hook(before(path), with_kwargs=True)
            module.register_forward_hook(after)


class _Watch(TorchDispatchMode):
    """Sees every operation and notes which atoms it makes equal."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[tuple[Atoms, Atoms]] = []
        self.splits: list[Split] = []
        self.reasons: dict[int, str] = {GIVEN: "its size is that of the example"}
        self.found = Coupling([], set(), [], [], [], np.zeros(0, dtype=np.int64), {})
        self.n = 1
        self.batches: list[Atoms] = []
        self.repeated: list[Atoms] = []
        self.stack: list[tuple[str, Tensor | None]] = []
        self._dims: dict[int, list[Atoms]] = {}
        self._added: dict[int, tuple[set[int], set[int]]] = {}
        self._weights: set[int] = set()
        self._alive: list[Any] = []

    # -- atoms --------------------------------------------------------------------------------------------------------

    def given(self, n: int) -> Atoms:
        """Atoms of a dimension that keeps its size."""
        return np.zeros(n, dtype=np.int64)

    def new(self, n: int) -> Atoms:
        """Atoms that nothing is known of yet."""
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
        self._weights.add(id(x))

    def set(self, x: Tensor, dims: Sequence[Atoms]) -> None:
        self._alive.append(x)
        self._dims[id(x)] = list(dims)

    def of(self, x: Tensor) -> list[Atoms]:
        """The atoms of a tensor's dimensions; those of a tensor made by the forward are new."""
        if id(x) not in self._dims:
            self.set(x, [self.new(n) if n > 1 else self.given(n) for n in x.shape])
        return self._dims[id(x)]

    def same(self, *dims: Atoms) -> None:
        """The same channels."""
        for other in dims[1:]:
            self.links.append((dims[0], other))

    def fix(self, dims: Iterable[Atoms], reason: str) -> None:
        for atoms in dims:
            if len(atoms) > 1 and atoms.any():
                self.reasons[self.n] = f"{reason}{f', in {self.where!r}' if self.where else ''}"
                self.same(atoms, np.full(len(atoms), self.new(1)[0]))

    def equally(self, atoms: Atoms, groups: int) -> None:
        """Each of the groups keeps as many as the others, at the same positions."""
        parts = atoms.reshape(groups, -1)
        self.same(*parts)

    @property
    def where(self) -> str:
        return self.stack[-1][0] if self.stack else ""

    def sized(self, *dims: Atoms) -> None:
        """Sizes that the code may have written down."""
        self.found.sizes += [Sized(self.where, atoms) for atoms in dims if len(atoms) > 1 and atoms.any()]

    def contract(self, x: Tensor, dim: int) -> None:
        """Products are summed over this dimension of what may be a weight."""
        if id(x) in self._weights and len(atoms := self.of(x)[dim]):
            at = bisect.bisect_right(self.found.owners, int(atoms[0]), key=lambda owner: owner.first)
            self.found.contracted.add(at - 1)

    def count(self, factor: int, *dims: Atoms) -> None:
        self.found.products.append(Product(self.where, factor, dims))

    # -- what runs ----------------------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        outputs = [x for x in pytree.tree_leaves(result) if isinstance(x, Tensor)]
        if outputs:
            self._note(func, args, kwargs or {}, result, outputs)
        return result

    def _note(self, func: Any, args: Any, kwargs: Any, result: Any, outputs: list[Tensor]) -> None:
        inputs = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        name = func.overloadpacket.__name__
        self._note_sum(name, func, inputs, outputs)
        rule = RULES.get(name.removesuffix("_") if name not in RULES else name)
        if rule is not None:
            try:
                rule(self, result, *args, **kwargs)
            except (TypeError, ValueError, LookupError, AttributeError) as error:  # an overload that it does not know
                reason = f"the operation {func} is called in a way that has no rule ({error})"
                for x in (*inputs, *outputs):
                    self.fix(self.of(x), reason)
        elif torch.Tag.pointwise in func.tags:
            pointwise(self, result, *inputs)
        elif inputs:
            for x in (*inputs, *outputs):
                self.fix(self.of(x), f"the operation {func.overloadpacket} has no rule")
        if len(inputs) == 1 and id(inputs[0]) in self._weights and name in VIEWS:
            self._weights.update(map(id, outputs))

    def _note_sum(self, name: str, func: Any, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """Which tensors an output is a sum of: `plain` ones, and those with something else added."""
        if not outputs or not (torch.Tag.pointwise in func.tags or "norm" in name or name in VIEWS):
            return
        plain, added = set[int](), set[int]()
        for x in inputs:
            own = self._added.get(id(x), (set(), set()))
            plain |= own[0] | {id(x)}
            added |= own[1]
        many = name.startswith("add") and sum(x.shape == outputs[0].shape for x in inputs) > 1
        self._added[id(outputs[0])] = (plain, added | plain if many else added)

    def returned(self, path: str, given: Tensor, result: Tensor) -> None:
        """A module returned something; remember it if it added to what it was given."""
        added = self._added.get(id(result), (set(), set()))[1]
        if given.shape == result.shape and id(given) in added:
            self.found.residual.append(path)

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
        """Of several dimensions that can get smaller, take heads before features of a head, then the larger one.

        Where no split has a dimension that products of matrices run over one by one, decide the first one only.
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


# -- rules ------------------------------------------------------------------------------------------------------------

Rule = Callable[..., None]


def pointwise(watch: _Watch, result: Any, *inputs: Tensor) -> None:
    """Elements of the same place, with broadcasting."""
    for out in (x for x in pytree.tree_leaves(result) if isinstance(x, Tensor)):
        dims = []
        for back in range(1, out.ndim + 1):
            n = out.shape[-back]
            alike = [watch.of(x)[-back] for x in inputs if x.ndim >= back and x.shape[-back] == n]
            if n > 1:
                watch.same(*alike)
            dims.append(alike[0] if alike else watch.new(n))
        if not any(out is x for x in inputs):
            watch.set(out, dims[::-1])


def _elementwise(watch: _Watch, result: Any, *arguments: Any, **named: Any) -> None:
    """Activation functions that PyTorch does not mark as pointwise."""
    pointwise(watch, result, *(x for x in arguments if isinstance(x, Tensor)))


def _pass(watch: _Watch, result: Any, x: Tensor, *rest: Any, **named: Any) -> None:
    outputs = [y for y in pytree.tree_leaves(result) if isinstance(y, Tensor)]
    watch.set(outputs[0], watch.of(x))
    for other in outputs[1:]:  # indices and statistics
        if other.shape == x.shape or other.ndim == x.ndim:
            watch.set(
                other, [d if len(d) == n else watch.given(n) for d, n in zip(watch.of(x), other.shape, strict=True)]
            )


def _along(dims_kept: Callable[[Tensor, tuple], Iterable[int]]) -> Rule:
    """A rule for operations that mix the elements of some dimensions, which then keep their size."""

    def rule(watch: _Watch, result: Any, x: Tensor, *rest: Any, **named: Any) -> None:
        moved = {d % x.ndim for d in dims_kept(x, rest)}
        old = watch.of(x)
        watch.fix((old[d] for d in moved), "an operation along a dimension")
        for y in (y for y in pytree.tree_leaves(result) if isinstance(y, Tensor)):
            watch.set(y, [watch.given(n) if d in moved else old[d] for d, n in enumerate(y.shape)])

    return rule


def _spatial(k: int) -> Rule:
    return _along(lambda x, rest: range(x.ndim - k, x.ndim))


def _reduce(
    watch: _Watch, result: Any, x: Tensor, dim: Any = None, *rest: Any, keepdim: bool = False, **named: Any
) -> None:
    dims = range(x.ndim) if dim is None or dim == [] else [dim] if isinstance(dim, int) else dim
    gone = {d % x.ndim for d in dims if x.ndim}
    old = watch.of(x)
    for y in (y for y in pytree.tree_leaves(result) if isinstance(y, Tensor)):
        kept = y.ndim == x.ndim
        watch.set(y, [watch.given(1) if d in gone else a for d, a in enumerate(old) if kept or d not in gone])


def _norm(watch: _Watch, result: Tensor, x: Tensor, order: Any = 2, dim: Any = None, *rest: Any, **named: Any) -> None:
    _reduce(watch, result, x, dim)


def _permute(watch: _Watch, result: Tensor, x: Tensor, dims: Sequence[int]) -> None:
    watch.set(result, [watch.of(x)[d] for d in dims])


def _transpose(watch: _Watch, result: Tensor, x: Tensor, a: int = 0, b: int = 1) -> None:
    dims = list(watch.of(x))
    if x.ndim > 1:
        dims[a], dims[b] = dims[b], dims[a]
    watch.set(result, dims)


def _squeeze(watch: _Watch, result: Tensor, x: Tensor, *rest: Any) -> None:
    dims = (
        [0]
        if not rest and x.ndim < 1
        else range(x.ndim)
        if not rest
        else [rest[0]]
        if isinstance(rest[0], int)
        else rest[0]
    )
    gone = {d % x.ndim for d in dims if x.shape[d] == 1}
    watch.set(result, [a for d, a in enumerate(watch.of(x)) if d not in gone])


def _unsqueeze(watch: _Watch, result: Tensor, x: Tensor, dim: int) -> None:
    dims = list(watch.of(x))
    dims.insert(dim % result.ndim, watch.given(1))
    watch.set(result, dims)


def _expand(watch: _Watch, result: Tensor, x: Tensor, *rest: Any, **named: Any) -> None:
    old = watch.of(x)
    ahead = result.ndim - x.ndim
    kept = [d >= ahead and x.shape[d - ahead] == n for d, n in enumerate(result.shape)]
    dims = [old[d - ahead] if yes else watch.new(result.shape[d]) for d, yes in enumerate(kept)]
    watch.repeated += [atoms for atoms, yes in zip(dims, kept, strict=True) if not yes]
    watch.sized(*dims)
    watch.set(result, dims)


def _view(watch: _Watch, result: Tensor, x: Tensor, *rest: Any, **named: Any) -> None:
    old, dims = watch.of(x), [watch.given(1) for _ in result.shape]
    for before, after in _blocks(x.shape, result.shape):
        whole = _merged(watch, [old[i] for i in before])
        for i, atoms in zip(after, _parted(watch, whole, [result.shape[i] for i in after]), strict=True):
            dims[i] = atoms
    watch.sized(*dims)
    watch.set(result, dims)


def _blocks(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Smallest runs of dimensions whose products are equal; those of size 1 are left out."""
    a, b = [i for i, n in enumerate(old) if n != 1], [i for i, n in enumerate(new) if n != 1]
    while a and b:
        left, right = [a.pop(0)], [b.pop(0)]
        p, q = old[left[0]], new[right[0]]
        while p != q:
            if p < q:
                left.append(a.pop(0))
                p *= old[left[-1]]
            else:
                right.append(b.pop(0))
                q *= new[right[-1]]
        yield left, right


def _merged(watch: _Watch, dims: list[Atoms]) -> Atoms:
    """One dimension for several; the one that they came from where they did."""
    if len(dims) == 1:
        return dims[0]
    size = int(np.prod([len(atoms) for atoms in dims]))
    if not any(atoms.any() for atoms in dims):
        return watch.given(size)
    for split in watch.splits:
        if len(split.factors) == len(dims) and all(map(np.array_equal, split.factors, dims)):
            return split.whole
    return _splitted(watch, watch.new(size), dims).whole


def _parted(watch: _Watch, whole: Atoms, sizes: list[int]) -> list[Atoms]:
    """Several dimensions for one; those that it came from where they are so large."""
    if len(sizes) == 1:
        return [whole]
    if not whole.any():
        return [watch.given(n) for n in sizes]
    for split in watch.splits:
        if np.array_equal(split.whole, whole) and list(map(len, split.factors)) == sizes:
            return list(split.factors)
    return list(_splitted(watch, whole, [watch.new(n) for n in sizes]).factors)


def _splitted(watch: _Watch, whole: Atoms, factors: Sequence[Atoms]) -> Split:
    watch.splits.append(Split(whole, tuple(factors)))
    return watch.splits[-1]


def _select(watch: _Watch, result: Any, x: Tensor, dim: int = 0, *rest: Any) -> None:
    dims = list(watch.of(x))
    watch.fix([dims.pop(dim)], "a single index is taken")
    for y in (y for y in pytree.tree_leaves(result) if isinstance(y, Tensor)):
        watch.set(y, dims)


def _slice(
    watch: _Watch, result: Tensor, x: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> None:
    dims = list(watch.of(x))
    whole = dims[dim]
    dims[dim] = whole[slice(start, min(end, len(whole)) if end is not None else None, step)]
    watch.set(result, dims)
    if len(dims[dim]) < len(whole):
        watch.sized(dims[dim])
        if step == 1 and len(whole) % len(dims[dim]) == 0 and len(dims[dim]) > 1:
            watch.equally(whole, len(whole) // len(dims[dim]))


def _split(watch: _Watch, result: Sequence[Tensor], x: Tensor, sizes: Any, dim: int = 0, *rest: Any) -> None:
    whole, first = watch.of(x)[dim], 0
    lengths = {y.shape[dim] for y in result}
    if len(lengths) == 1 and len(result) > 1:
        watch.equally(whole, len(result))
    for y in result:
        dims = list(watch.of(x))
        dims[dim] = whole[first : first + y.shape[dim]]
        first += y.shape[dim]
        watch.sized(dims[dim])
        watch.set(y, dims)


def _cat(watch: _Watch, result: Tensor, parts: Sequence[Tensor], dim: int = 0) -> None:
    parts = [x for x in parts if x.ndim == result.ndim]
    dim %= result.ndim
    dims = []
    for d in range(result.ndim):
        each = [watch.of(x)[d] for x in parts]
        if d != dim:
            watch.same(*each)
        dims.append(np.concatenate(each) if d == dim else each[0])
    watch.set(result, dims)


def _stack(watch: _Watch, result: Tensor, parts: Sequence[Tensor], dim: int = 0) -> None:
    for d in range(result.ndim - 1):
        watch.same(*(watch.of(x)[d] for x in parts))
    dims = list(watch.of(parts[0]))
    dims.insert(dim % result.ndim, watch.given(len(parts)))
    watch.set(result, dims)


def _repeat(watch: _Watch, result: Tensor, x: Tensor, times: Sequence[int]) -> None:
    old = [watch.given(1)] * (result.ndim - x.ndim) + watch.of(x)
    watch.set(
        result,
        [np.tile(a, n) if len(a) > 1 else watch.given(m) for a, n, m in zip(old, times, result.shape, strict=True)],
    )


def _mm(watch: _Watch, result: Tensor, a: Tensor, b: Tensor, *rest: Any) -> None:
    (n, k), (k2, m) = watch.of(a), watch.of(b)
    watch.same(k, k2)
    watch.contract(a, 1)
    watch.contract(b, 0)
    watch.count(1, n, k, m)
    watch.set(result, [n, m])


def _addmm(watch: _Watch, result: Tensor, added: Tensor, a: Tensor, b: Tensor, **named: Any) -> None:
    _mm(watch, result, a, b)
    pointwise(watch, result, result, added)


def _bmm(watch: _Watch, result: Tensor, a: Tensor, b: Tensor) -> None:
    (batch, n, k), (batch2, k2, m) = watch.of(a), watch.of(b)
    watch.same(k, k2)
    watch.same(batch, batch2)
    watch.contract(a, 2)
    watch.contract(b, 1)
    watch.batches.append(batch)
    watch.count(1, batch, n, k, m)
    watch.set(result, [batch, n, m])


def _baddbmm(watch: _Watch, result: Tensor, added: Tensor, a: Tensor, b: Tensor, **named: Any) -> None:
    _bmm(watch, result, a, b)
    pointwise(watch, result, result, added)


def _mv(watch: _Watch, result: Tensor, a: Tensor, b: Tensor) -> None:
    (n, k), (k2,) = watch.of(a), watch.of(b)
    watch.same(k, k2)
    watch.contract(a, 1)
    watch.contract(b, 0)
    watch.count(1, n, k)
    watch.set(result, [n])


def _convolution(watch: _Watch, result: Tensor, x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any,
                 dilation: Any, transposed: bool, more: Any, groups: int) -> None:  # fmt: skip
    batch, inputs, *_ = watch.of(x)
    first, second, *kernel = watch.of(weight)
    watch.fix(kernel, "the kernel of a convolution")
    at = x if transposed else result
    positions = at.numel() // at.shape[1] // at.shape[0]
    watch.count(positions * int(np.prod(weight.shape[2:])), batch, first, second)
    outputs = second if transposed else first
    if groups == 1:
        watch.same(inputs, first if transposed else second)
        watch.contract(weight, 0 if transposed else 1)
    elif not transposed and groups == len(inputs):
        watch.same(np.repeat(inputs, len(first) // groups), first)
    elif not transposed:
        watch.equally(inputs, groups)
        watch.same(second, inputs[: len(second)])
        watch.contract(weight, 1)
        watch.equally(first, groups)
    elif groups == len(inputs) and len(second) == 1:
        watch.same(inputs, first)
        outputs = inputs
    else:
        watch.fix((inputs, first, second), "a transposed convolution with groups")
        outputs = watch.given(result.shape[1])
    if bias is not None:
        watch.same(outputs, watch.of(bias)[0])
    watch.set(result, [batch, outputs, *(watch.given(n) for n in result.shape[2:])])


def _batch_norm(watch: _Watch, result: Any, x: Tensor, *rest: Any, **named: Any) -> None:
    per_channel = [p for p in rest if isinstance(p, Tensor) and p.ndim == 1]
    watch.same(watch.of(x)[1], *(watch.of(p)[0] for p in per_channel))
    watch.set(result[0], watch.of(x))


def _layer_norm(watch: _Watch, result: Any, x: Tensor, shape: Sequence[int], *rest: Any) -> None:
    last = watch.of(x)[-len(shape) :]
    for p in (p for p in rest if isinstance(p, Tensor)):
        for a, b in zip(last, watch.of(p), strict=True):
            watch.same(a, b)
    watch.sized(*last)
    first = result[0] if isinstance(result, tuple | list) else result
    watch.set(first, watch.of(x))


def _group_norm(
    watch: _Watch, result: Any, x: Tensor, weight: Any, bias: Any, n: int, c: int, size: int, groups: int, eps: float
) -> None:
    channels = watch.of(x)[1]
    watch.same(channels, *(watch.of(p)[0] for p in (weight, bias) if p is not None))
    if groups < c:  # else each channel is a group, and their number follows
        watch.equally(channels, groups)
    watch.set(result[0], watch.of(x))


def _embedding(watch: _Watch, result: Tensor, weight: Tensor, indices: Tensor, *rest: Any, **named: Any) -> None:
    rows, features = watch.of(weight)
    watch.fix([rows], "the rows of an embedding")
    watch.set(result, [*watch.of(indices), features])


def _embedding_bag(watch: _Watch, result: Any, weight: Tensor, *rest: Any, **named: Any) -> None:
    rows, features = watch.of(weight)
    watch.fix([rows], "the rows of an embedding")
    watch.set(result[0], [watch.given(result[0].shape[0]), features])


def _weight_norm(watch: _Watch, result: Any, v: Tensor, g: Tensor, dim: int = 0) -> None:
    watch.same(watch.of(v)[dim], watch.of(g)[dim])
    watch.set(result[0], watch.of(v))


def _made(watch: _Watch, result: Tensor, *rest: Any, **named: Any) -> None:
    watch.sized(*watch.of(result))


def _glu(watch: _Watch, result: Tensor, x: Tensor, dim: int = -1) -> None:
    dims = list(watch.of(x))
    watch.equally(dims[dim], 2)
    dims[dim] = dims[dim][: result.shape[dim]]
    watch.set(result, dims)


def _pad(watch: _Watch, result: Tensor, x: Tensor, pad: Sequence[int], *rest: Any) -> None:
    dims = list(watch.of(x))
    for i in range(0, len(pad), 2):
        if pad[i] or pad[i + 1]:
            d = x.ndim - 1 - i // 2
            watch.fix([dims[d]], "it is padded")
            dims[d] = watch.given(result.shape[d])
    watch.set(result, dims)


def _index(watch: _Watch, result: Tensor, x: Tensor, indices: Sequence[Any]) -> None:
    at = [d for d, i in enumerate(indices) if i is not None]
    dims = watch.of(x)
    watch.fix((dims[d] for d in at), "it is indexed")
    # PyTorch puts what tensors index at the first of their places, or in front where something stands between.
    wide = result.ndim - (x.ndim - len(at))
    first = at[0] if at and at == list(range(at[0], at[-1] + 1)) else 0
    rest = [a for d, a in enumerate(dims) if d not in at]
    made = [watch.given(n) for n in result.shape[first : first + wide]]
    watch.set(result, [*rest[:first], *made, *rest[first:]])


def _copied(watch: _Watch, result: Tensor, x: Tensor, source: Tensor, *rest: Any) -> None:
    pointwise(watch, result, x, source)


def _kept(watch: _Watch, result: Tensor, x: Tensor, *rest: Any) -> None:
    """Written in place."""


def _strided(watch: _Watch, result: Tensor, x: Tensor, size: Sequence[int], *rest: Any) -> None:
    """Another order in memory, as pooling puts its results of a channels-last input into."""
    if list(map(len, watch.of(x))) != list(size):
        watch.fix(watch.of(x), "its memory is read in another shape")
        watch.set(result, [watch.given(n) for n in size])
    else:
        watch.set(result, watch.of(x))


def _gathered(watch: _Watch, result: Tensor, x: Tensor, *rest: Any) -> None:
    """Places around one another become channels, several for each."""
    at = x.ndim - 3
    dims = [*watch.of(x)[:at], np.repeat(watch.of(x)[at], result.shape[at] // x.shape[at])]
    watch.set(result, [*dims, *(watch.given(n) for n in result.shape[at + 1 :])])


def _pixel_shuffle(watch: _Watch, result: Tensor, x: Tensor, factor: int) -> None:
    *batch, channels, _, _ = watch.of(x)
    outputs, squares = _parted(watch, channels, [len(channels) // factor**2, factor**2])
    watch.fix([squares], "the places of a pixel shuffle")
    watch.set(result, [*batch, outputs, *(watch.given(n) for n in result.shape[-2:])])


VIEWS = frozenset(("t", "transpose", "permute", "view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "expand",
                   "detach", "alias", "slice", "clone", "_to_copy", "unbind", "select",
                   "split", "unsafe_split"))  # fmt: skip

RULES: dict[str, Rule] = {
    **dict.fromkeys(("detach", "alias", "clone", "_to_copy", "contiguous", "lift_fresh", "zeros_like", "ones_like",
                     "empty_like", "full_like", "rand_like", "randn_like", "_softmax", "_log_softmax", "_safe_softmax",
                     "softmax", "log_softmax", "native_dropout", "triu", "tril"), _pass),
    **dict.fromkeys(("sum", "mean", "amax", "amin", "var", "std", "var_mean", "logsumexp", "prod",
                     "argmax", "argmin", "any", "all", "max", "min"), _reduce),
    **dict.fromkeys(("zeros", "ones", "full", "empty", "arange", "scalar_tensor", "rand", "randn", "new_zeros",
                     "new_ones", "new_full", "new_empty", "eye"), _made),
    **dict.fromkeys(("max_pool1d_with_indices", "avg_pool1d", "_adaptive_avg_pool1d", "upsample_nearest1d",
                     "upsample_linear1d", "reflection_pad1d", "replication_pad1d"), _spatial(1)),
    **dict.fromkeys(("max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d",
                     "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "reflection_pad2d",
                     "replication_pad2d"), _spatial(2)),
    **dict.fromkeys(("max_pool3d_with_indices", "avg_pool3d", "_adaptive_avg_pool3d", "upsample_nearest3d",
                     "upsample_trilinear3d"), _spatial(3)),
    **dict.fromkeys(("flip", "roll", "cumsum", "cumprod", "sort"), _along(
        lambda x, rest: range(x.ndim) if not rest else [rest[-1]] if isinstance(rest[-1], int) else rest[-1])),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias"), _view),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
                     "_native_batch_norm_legit"), _batch_norm),
    **dict.fromkeys(("native_layer_norm", "_fused_rms_norm", "rms_norm"), _layer_norm),
    **dict.fromkeys(("unsafe_split", "split", "split_with_sizes", "unsafe_split_with_sizes", "chunk"), _split),
    **dict.fromkeys(("select", "unbind"), _select),
    "copy_": _copied, "fill_": _kept, "zero_": _kept, "pixel_shuffle": _pixel_shuffle,
    "as_strided": _strided, "linalg_vector_norm": _norm, "norm": _norm,
    **dict.fromkeys(("_prelu_kernel", "hardswish", "hardtanh", "hardsigmoid", "leaky_relu", "elu", "softplus", "mish",
                     "log_sigmoid_forward", "threshold", "rrelu_with_noise", "softshrink", "hardshrink"), _elementwise),
    "_weight_norm_interface": _weight_norm, "pixel_unshuffle": _gathered, "im2col": _gathered,
    "_embedding_bag": _embedding_bag,
    "native_group_norm": _group_norm, "embedding": _embedding, "glu": _glu,
    "constant_pad_nd": _pad, "index": _index, "slice": _slice, "cat": _cat, "stack": _stack, "repeat": _repeat,
    "permute": _permute, "t": _transpose, "transpose": _transpose, "squeeze": _squeeze, "unsqueeze": _unsqueeze,
    "expand": _expand, "mm": _mm, "addmm": _addmm, "bmm": _bmm, "baddbmm": _baddbmm, "mv": _mv,
    "convolution": _convolution,
}  # fmt: skip
