"""Sums over a network as sums of tables, each over the few decisions that a part depends on.

It is proved, not sampled, that a part depends on no other decisions: all combinations of the decisions that the part
reads, and that the shapes of its arguments depend on, are traced.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from cggd.metrics import Additive, Interactions, Metric
from cggd.space import ChoiceSpace
from cggd_nas.composed import PLAIN
from cggd_nas.trace import Result, fake
from cggd_nas.tracer import Region, Traced, Tracer, Unit

# Largest number of combinations of options for which a part is traced. Enough for two widths and a kernel of 6 options.
COMBINATIONS = 256

# Decisions, and an array of exact numbers (integers or fractions) with one axis per decision.
Table = tuple[tuple[Hashable, ...], NDArray[np.object_]]


@dataclass(frozen=True, eq=False)
class Given:
    """Arguments or outputs of a part for every combination of options of the decisions that they depend on.

    Attributes
    ----------
    decisions : tuple
    cases : mapping of tuple of labels to any
        Fake tensors in any structure.
    """

    decisions: tuple[Hashable, ...]
    cases: Mapping[tuple[Hashable, ...], Any]

    def at(self, selection: Mapping[Hashable, Hashable]) -> Any:
        """The arguments or outputs of one selection."""
        return self.cases[tuple(selection[d] for d in self.decisions)]


def summed(tables: Sequence[Table], space: ChoiceSpace, divisor: int, *, name: str, unit: str) -> Metric:
    """The sum of tables, divided by `divisor`, as a metric; `Additive` if no table has several decisions."""
    constant = sum(table[()] for decisions, table in tables if not decisions)
    merged = {decisions: np.zeros(table.shape, dtype=object) for decisions, table in tables if decisions}
    for decisions, table in (pair for pair in tables if pair[0]):
        merged[decisions] += table
    # Each number is rounded once, by this division.
    divided = {decisions: (table / divisor).astype(float) for decisions, table in merged.items()}
    constant = float(constant / divisor)
    if any(len(decisions) > 1 for decisions in divided):
        return Interactions(space, divided, constant, name=name, unit=unit)
    values = np.zeros(space.n_options)
    for (decision,), table in divided.items():
        first = int(space.offsets[space.position(decision)])
        values[first : first + len(table)] = table
    return Additive(space, values, constant, name=name, unit=unit)


def sum_of_operations(tracer: Tracer, value: Callable[[Traced], int | Fraction]) -> list[Table] | None:
    """Tables whose sum is the sum over a network's operations; None if parts depend on too many decisions.

    Parameters
    ----------
    tracer : Tracer
    value : callable
        The sum over a part. It must be exact, since values of parts are subtracted.
    """
    try:
        found = _Parts(tracer, value).tables(tracer.root.module, Given((), {(): (tracer.inputs, {})}))
    except CannotRunError:  # evaluating the failing selection raises the error
        return None
    return None if found is None else found[0]


def sum_of_modules(tracer: Tracer, count: Callable[[nn.Module], int]) -> list[Table] | None:
    """Tables whose sum is `Tracer.total`; None if parts depend on too many decisions or are shared."""
    space = tracer.supernet.space
    base = space.labels([0] * space.n_decisions)
    inside = _modules_inside(tracer, tracer.root.units, base, count)
    return None if inside is None else [((), np.array(tracer.root.count(count), dtype=object)), *inside[0]]


def _modules_inside(
    tracer: Tracer, units: Sequence[Unit], base: Mapping[Hashable, Hashable], count: Callable[[nn.Module], int]
) -> tuple[list[Table], set[Unit]] | None:
    """Tables of parts and of their inner parts, and all these parts; None if a part is in several others."""
    tables: list[Table] = []
    owned = set[Unit]()
    for unit in dict.fromkeys(units):
        found = _modules_by_variant(tracer, unit, base, count) or _modules_together(tracer, unit, base, count)
        if found is None or owned & found[1]:
            return None
        tables, owned = tables + found[0], owned | found[1]
    return tables, owned


def _modules_by_variant(
    tracer: Tracer, unit: Unit, base: Mapping[Hashable, Hashable], count: Callable[[nn.Module], int]
) -> tuple[list[Table], set[Unit]] | None:
    """Separate tables for each variant, such as each number of blocks; None if several decisions are read."""
    tracer.selection = base
    if len(own := unit.variant().reads) != 1:
        return None
    labels = tracer.supernet.space.option_labels(own[0])
    tables: list[Table] = []
    inside = {unit}
    for place, label in enumerate(labels):
        tracer.selection = at = {**base, own[0]: label}
        variant = unit.variant()
        if variant.reads != own or (found := _modules_inside(tracer, variant.units, at, count)) is None:
            return None
        for decisions, table in [((), np.array(variant.count(count), dtype=object)), *found[0]]:
            if own[0] in decisions:
                return None
            tables.append(_only_at(place, len(labels), own[0], (decisions, table)))
        inside |= found[1]
    return tables, inside


def _modules_together(
    tracer: Tracer, unit: Unit, base: Mapping[Hashable, Hashable], count: Callable[[nn.Module], int]
) -> tuple[list[Table], set[Unit]] | None:
    """One table over all decisions that a part and its inner parts depend on."""
    inside = set[Unit]()

    def case() -> tuple[int, set[Hashable], None]:
        total, reads, todo, seen = 0, set[Hashable](), [unit], set[Unit]()
        while todo:
            if (one := todo.pop()) not in seen:
                seen.add(one)
                variant = one.variant()
                total += variant.count(count)
                reads.update(variant.reads)
                todo += variant.units
        inside.update(seen)
        return total, reads, None

    found = _every(tracer, base, (), case)
    return None if found is None else ([found[0]], inside)


def _only_at(place: int, n: int, decision: Hashable, table: Table) -> Table:
    """A table that counts only for one of the n options of another decision, extended to that decision."""
    decisions, numbers = table
    whole = np.zeros((n, *numbers.shape), dtype=object)
    whole[place] = numbers
    return _narrowest((decision, *decisions), whole)


class CannotRunError(Exception):
    """A part of the network fails under some selection."""


@dataclass(frozen=True, eq=False)
class _Parts:
    tracer: Tracer
    value: Callable[[Traced], int | Fraction]

    @property
    def base(self) -> dict[Hashable, Hashable]:
        space = self.tracer.supernet.space
        return space.labels([0] * space.n_decisions)

    def tables(self, module: nn.Module, given: Given) -> tuple[list[Table], Given] | None:
        """The tables of a part for these arguments, and its outputs."""
        if isinstance(module.__dict__.get("forward"), Region):
            single = all(len(arguments) == 1 and not named for arguments, named in given.cases.values())
            if _is_chain(module) and single and (found := self._chain(module, given)) is not None:
                return found
            if not given.decisions and (found := self._glued(module, given)) is not None:
                return found
        if isinstance(module, Unit) and not given.decisions and (found := self._by_variant(module, given)) is not None:
            return found
        return self._together(module, given)

    def _by_variant(self, unit: Unit, given: Given) -> tuple[list[Table], Given] | None:
        """Separate tables for each variant of a part, such as each number of blocks.

        None if a variant reads several decisions, or if variants read different decisions or return different shapes.
        """
        tracer, space = self.tracer, self.tracer.supernet.space
        tracer.selection = self.base
        if len(own := unit.variant().reads) != 1:
            return None
        (decision,) = own
        tables: list[Table] = []
        outputs: list[Given] = []
        labels = space.option_labels(decision)
        for place, label in enumerate(labels):
            tracer.selection = {**self.base, decision: label}
            variant = unit.variant()
            if variant.reads != (decision,):
                return None
            # A part without inner parts is called itself, since a sum over calls counts it.
            found = (
                self.tables(variant.module, given) if variant.units else self._together(unit, given, {decision: label})
            )
            if found is None or found[1].decisions:
                return None
            outputs.append(found[1])
            for decisions, table in found[0]:
                if decision in decisions:
                    return None
                tables.append(_only_at(place, len(labels), decision, (decisions, table)))
        if any(_shapes(one.cases[()]) != _shapes(outputs[0].cases[()]) for one in outputs):
            return None
        return tables, outputs[0]

    def _together(
        self, module: nn.Module, given: Given, fixed: Mapping[Hashable, Hashable] = MappingProxyType({})
    ) -> tuple[list[Table], Given] | None:
        """A part as one table over all decisions that it depends on, without fixed ones."""

        def case() -> tuple[int | Fraction, set[Hashable], Any]:
            traced = self._traced(module, given)
            return self.value(traced), set(traced.reads).difference(fixed), traced.trace.result

        if (found := _every(self.tracer, {**self.base, **fixed}, given.decisions, case)) is None:
            return None
        table, results = found
        leaves = pytree.tree_leaves(list(results.cases.values()))
        if not all(isinstance(x, (*PLAIN, Result, Tensor)) for x in leaves):
            return None  # other types cannot be compared
        return [table], _fewest(results)

    def _traced(self, function: Callable[..., Any], given: Given) -> Traced:
        """The trace of a part under the tracer's selection."""
        try:
            return self.tracer.traced(function, *given.at(self.tracer.selection))
        except Exception as error:
            raise CannotRunError from error

    def _chain(self, module: nn.Module, given: Given) -> tuple[list[Table], Given] | None:
        """Modules of an ``nn.Sequential``, one after another."""
        tables: list[Table] = []
        output = Given(given.decisions, {key: arguments[0] for key, (arguments, _) in given.cases.items()})
        for part in filter(None, module._modules.values()):
            found = self.tables(part, Given(output.decisions, {key: ((x,), {}) for key, x in output.cases.items()}))
            if found is None:
                return None
            tables, output = tables + found[0], found[1]
        return tables, output

    def _glued(self, module: nn.Module, given: Given) -> tuple[list[Table], Given] | None:
        """A part whose forward calls other parts, if these return tensors of the same shapes under every selection.

        Then the remaining operations of the forward, and the arguments of the parts, are also always the same.
        """
        tracer = self.tracer
        tracer.selection = self.base
        called: list[tuple[nn.Module, Any]] = []
        region = module.__dict__["forward"]
        with _overheard(module, called):
            traced = self._traced(region.function, given)
        tables: list[Table] = []
        rest = self.value(traced)
        for part, arguments in called:
            found = self.tables(part, Given((), {(): arguments}))
            if found is None or found[1].decisions:
                return None
            tables += found[0]
            rest -= sum(table[(0,) * table.ndim] for _, table in found[0])
        return [*tables, ((), np.array(rest, dtype=object))], Given((), {(): _anew(traced.trace.result)})


def _every(
    tracer: Tracer, base: Mapping[Hashable, Hashable], decisions: Sequence[Hashable], case: Callable[[], tuple]
) -> tuple[Table, Given] | None:
    """Number and result of every combination of the decisions that a case reads; None if there are too many.

    A case returns a number, the decisions that it read, and a result.
    """
    space, known = tracer.supernet.space, list(decisions)
    while prod(len(space.option_labels(d)) for d in known) <= COMBINATIONS:
        cases, numbers = {}, {}
        for combination in itertools.product(*(space.option_labels(d) for d in known)):
            tracer.selection = {**base, **dict(zip(known, combination, strict=True))}
            number, reads, result = case()
            if new := sorted(reads.difference(known), key=space.position):
                known += new
                break
            numbers[combination], cases[combination] = number, result
        else:
            shape = tuple(len(space.option_labels(d)) for d in known)
            table = np.array(list(numbers.values()), dtype=object).reshape(shape)
            return _narrowest(tuple(known), table), Given(tuple(known), cases)
    return None


def _narrowest(decisions: tuple[Hashable, ...], table: NDArray[np.object_]) -> Table:
    """A table without the decisions that it does not depend on."""
    for axis in reversed(range(table.ndim)):
        first = table.take([0], axis)
        if (table == first).all():
            decisions, table = decisions[:axis] + decisions[axis + 1 :], first.squeeze(axis)
    return decisions, table


def _fewest(results: Given) -> Given:
    """Results by the decisions that their shapes depend on, as new fake tensors."""
    decisions, cases = results.decisions, dict(results.cases)
    for axis in reversed(range(len(decisions))):
        kept: dict[tuple[Hashable, ...], Any] = {}
        for key, result in cases.items():
            if _shapes(kept.setdefault(key[:axis] + key[axis + 1 :], result)) != _shapes(result):
                break
        else:
            decisions, cases = decisions[:axis] + decisions[axis + 1 :], kept
    return Given(decisions, {key: _anew(result) for key, result in cases.items()})


def _shapes(result: Any) -> Any:
    leaves, structure = pytree.tree_flatten(result)
    tensors = (Result, Tensor)
    return [(tuple(x.shape), x.dtype, _strides(x)) if isinstance(x, tensors) else x for x in leaves], structure


def _strides(x: Any) -> tuple[int, ...]:
    return tuple(x.stride()) if isinstance(x, Tensor) else x.stride


def _anew(result: Any) -> Any:
    return pytree.tree_map(
        lambda x: fake(x) if isinstance(x, Tensor) else x.fake() if isinstance(x, Result) else x, result
    )


def _is_chain(module: nn.Module) -> bool:
    hooks = module._forward_hooks or module._forward_pre_hooks
    return type(module).forward is nn.Sequential.forward and not hooks


def _outermost(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost parts of a module that depend on the selection."""
    for part in module.children():
        if isinstance(part, Unit) or isinstance(part.__dict__.get("forward"), Region):
            yield part
        else:
            yield from _outermost(part)


@contextmanager
def _overheard(module: nn.Module, called: list[tuple[nn.Module, Any]]) -> Iterator[None]:
    """Record calls of the outermost parts that depend on the selection, with new fake arguments."""

    def note(part: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        called.append((part, _anew((arguments, named))))

    parts = dict.fromkeys(_outermost(module))
    hooks = [part.register_forward_pre_hook(note, with_kwargs=True) for part in parts]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
