"""Groups of similar units, the widths that each group can have, and the sizes that follow from them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cggd.space import ChoiceSpace
from cggd_nas.links import Atoms, Coupling, Owner
from cggd_nas.measure import BIAS_BITS
from cggd_nas.sums import Table

# For the capacity of a network, a block that is left out counts as a layer of a quarter of its width.
LEFT_OUT = 0.25


@dataclass(eq=False)
class Group:
    """Units in the same dimensions of the same weights, each with the same number of indices.

    Attributes
    ----------
    decision : str
        The path of the first module that has them as outputs.
    members : list of (Owner, array of int, shape (n_units, indices of a unit))
        The most important unit first.
    units : array of int
        Their numbers in `Coupling.units`.
    taken : sequence of int
        Channels of a unit in each layer that has them as inputs, in all groups of a convolution.
    options : dict of str to int
        The number of units for each label of a width.
    scores : array of float
        Importance of each unit; empty until it is computed.
    """

    decision: str
    members: list[tuple[Owner, NDArray[np.int64]]]
    units: NDArray[np.int64]
    taken: Sequence[int] = ()
    options: dict[str, int] = field(default_factory=dict)
    scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    @property
    def n(self) -> int:
        """Number of units."""
        return len(self.units)

    @property
    def channels(self) -> int:
        """Channels of a unit: the smallest number in layers that have them as inputs, or else in any layer."""
        return min(self.taken or [at.shape[1] for _, at in self.members])

    def sort(self, scores: NDArray[np.float64]) -> None:
        """Sort units by their scores, the largest first."""
        ranking = np.argsort(-scores, kind="stable")
        self.scores, self.units = scores[ranking], self.units[ranking]
        self.members = [(owner, at[ranking]) for owner, at in self.members]

    def offer(self, ratios: Sequence[float], round_to: int) -> None:
        """Set the possible widths: multiples of `round_to` channels near the ratios."""
        step = max(1, round_to // self.channels)
        kept = {
            min(self.n, max(step, round(ratio * self.n / step) * step)) if ratio < 1 else self.n for ratio in ratios
        }
        self.options = {str(k * self.channels): k for k in sorted(kept)}


def groups_of(found: Coupling) -> tuple[list[Group], dict[str, str]]:
    """The groups of a network, and for each module whose outputs belong to no group the reason."""
    where: dict[int, list[tuple[int, Atoms]]] = {}
    for number, owner in enumerate(found.owners):
        units = found.units[owner.atoms]
        order = np.argsort(units, kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(units[order])) + 1):
            where.setdefault(int(units[part[0]]), []).append((number, np.sort(part)))
    alike: dict[tuple, list[int]] = {}
    for unit, places in where.items():
        if unit not in found.fixed:
            alike.setdefault(tuple((number, len(at)) for number, at in places), []).append(unit)
    groups, names, reasons = list[Group](), dict[str, int](), dict[str, str]()
    for signature, units in alike.items():
        owners = [found.owners[number] for number, _ in signature]
        produced = [o for (number, _), o in zip(signature, owners, strict=True) if number not in found.contracted]
        first = next((o for o in produced if o.name.startswith("weight")), (produced or owners)[0])
        if len(owners) < 2 or len(units) < 2:
            if first.dim == 0 and len(owners) > 1:
                reasons.setdefault(first.path, "all its channels hang together")
            continue
        name = first.path or first.name
        names[name] = names.get(name, 0) + 1
        members = [(owner, np.stack([where[u][i][1] for u in units])) for i, owner in enumerate(owners)]
        decision = name if names[name] == 1 else f"{name}#{names[name]}"
        taken = [len(where[units[0]][i][1]) * o.groups for i, o in enumerate(owners) if o not in produced]
        groups.append(Group(decision, members, np.array(units), taken))
    grouped = {owner.path for group in groups for owner, _ in group.members if owner.dim == 0}
    for owner in found.owners:
        unit = int(found.units[owner.first]) if owner.size else -1
        if owner.dim == 0 and not owner.rows and owner.path not in grouped and unit in found.fixed:
            reasons.setdefault(owner.path, found.fixed[unit])
    return groups, reasons


@dataclass(frozen=True, eq=False)
class Products:
    """Sums over a network whose terms are products of sizes, as tables over the decisions of each term.

    Attributes
    ----------
    found : Coupling
    groups : list of Group
    depths : mapping of str to (str, array)
        For each block that can be left out its path, its decision, and 1 for each option that keeps it.
    """

    found: Coupling
    groups: Sequence[Group]
    depths: Mapping[str, tuple[str, NDArray[np.float64]]]
    model: nn.Module

    def capacity(self, space: ChoiceSpace) -> NDArray[np.float64]:
        """The logarithm of the remaining share for each option; the sum is largest for evenly wide networks."""
        made = np.zeros(space.n_options)
        shares = {group.decision: np.array(list(group.options.values())) / group.n for group in self.groups}
        shares |= {decision: np.where(kept > 0, 1.0, LEFT_OUT) for decision, kept in self.depths.values()}
        for decision, share in shares.items():
            first = int(space.offsets[space.position(decision)])
            made[first : first + len(share)] = np.log(share)
        return made

    @cached_property
    def _group_of(self) -> dict[int, int]:
        return {int(unit): g for g, group in enumerate(self.groups) for unit in group.units}

    def size(self, atoms: Atoms) -> dict[int | None, int] | None:
        """Size of a dimension: indices per unit of each group, and the fixed number; None if units differ."""
        units, counts = np.unique(self.found.units[atoms], return_counts=True)
        total: dict[int | None, int] = {None: 0}
        seen: dict[int, list[int]] = {}
        for unit, count in zip(units.tolist(), counts.tolist(), strict=True):
            if (g := self._group_of.get(unit)) is None:
                total[None] += count
            else:
                seen.setdefault(g, []).append(count)
        for g, each in seen.items():
            if len(set(each)) > 1 or len(each) != self.groups[g].n:
                return None
            total[g] = each[0]
        return total

    def macs(self) -> list[Table] | None:
        """Multiply-accumulates."""
        return self._tables((p.path, p.factor, p.dims) for p in self.found.products)

    def parameters(self) -> list[Table] | None:
        """Number of parameters."""
        return self._weights({(path, name): 1 for path, name, _ in self._parameters()})

    def storage_bits(self, bits: int) -> list[Table] | None:
        """Bits of the weights, counted as in `cggd_nas.measure.storage_bits`."""
        value: dict[tuple[str, str], int] = {}
        for path, name, x in self._parameters():
            norm = isinstance(self.model.get_submodule(path), nn.modules.batchnorm._BatchNorm)
            if not norm or name == "weight":
                value[path, name] = bits if x.ndim > 1 else BIAS_BITS
        return self._weights(value)

    def _parameters(self) -> list[tuple[str, str, nn.Parameter]]:
        """Paths, names and values of all parameters, each once."""
        named = [(name.rpartition("."), x) for name, x in self.model.named_parameters()]
        return [(path, name, x) for (path, _, name), x in named]

    def _weights(self, value: Mapping[tuple[str, str], int]) -> list[Table] | None:
        """The sum of the elements of parameters, each times its parameter's `value`."""
        owners: dict[tuple[str, str], list[Owner]] = {}
        for owner in self.found.owners:
            owners.setdefault((owner.path, owner.name), []).append(owner)
        return self._tables((key[0], each, tuple(o.atoms for o in owners.get(key, []))) for key, each in value.items())

    def _tables(self, terms: Iterable[tuple[str, int, Sequence[Atoms]]]) -> list[Table] | None:
        tables: dict[tuple[Hashable, ...], NDArray[np.object_]] = {}
        known: dict[int, dict[int | None, int] | None] = {}
        terms = list(terms)  # kept until the end: another array may get the id of one that is freed
        for path, factor, dims in terms:
            polynomial: dict[tuple[int, ...], int] = {(): factor}
            for atoms in dims:
                size = known.setdefault(id(atoms), self.size(atoms)) if id(atoms) not in known else known[id(atoms)]
                if size is None:
                    return None
                polynomial = _times(polynomial, size)
            blocks = [depth for block, depth in self.depths.items() if path == block or path.startswith(f"{block}.")]
            for monomial, coefficient in polynomial.items():
                if coefficient:
                    self._add(tables, monomial, coefficient, blocks)
        return list(tables.items())

    def _add(self, tables: dict, monomial: tuple[int, ...], coefficient: int, blocks: Sequence[tuple]) -> None:
        factors: dict[str, NDArray[np.object_]] = {}
        for g in monomial:
            kept = np.array(list(self.groups[g].options.values()), dtype=object)
            factors[self.groups[g].decision] = kept * factors.get(self.groups[g].decision, 1)
        factors |= {decision: kept.astype(int).astype(object) for decision, kept in blocks}
        decisions = tuple(sorted(factors))
        table = np.array(coefficient, dtype=object)
        for decision in decisions:
            table = np.multiply.outer(table, factors[decision])
        tables[decisions] = np.asarray(tables.get(decisions, 0) + table, dtype=object)


def _times(polynomial: Mapping[tuple[int, ...], int], size: Mapping[int | None, int]) -> dict[tuple[int, ...], int]:
    made: dict[tuple[int, ...], int] = {}
    for monomial, a in polynomial.items():
        for g, b in size.items():
            key = monomial if g is None else tuple(sorted((*monomial, g)))
            made[key] = made.get(key, 0) + a * b
    return made
