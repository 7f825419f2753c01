"""Traces of a supernet under any selection, composed from parts that are traced once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from cggd.space import ChoiceSpace
from cggd_nas.agreement import check_agreement
from cggd_nas.calls import Partial, Place
from cggd_nas.choices import changes
from cggd_nas.composed import Segment, aliases, composed
from cggd_nas.plain import stripped
from cggd_nas.supernet import Supernet
from cggd_nas.trace import (
    Example,
    Recorder,
    Result,
    Trace,
    fake_copy,
    fake_tensors,
    recording,
    running_on,
    trace_fake,
    without_numbers,
)

# Shape and type of each argument.
Signature = tuple[tuple[torch.Size, torch.dtype], ...]

# Largest number of combinations of options for which traces of a part with several decisions are stored. A trace of 30
# operations takes about 10 kB. The number is enough for pairs of widths and the layers of a transformer.
REMEMBERED = 256


class Tracer:
    """Traces networks of a supernet on fake tensors. Each part that depends on the selection is traced once per shape.

    The network of a selection is made as in `cggd_nas.extract`, with fake tensors. A part with a method ``plain`` is a
    *unit*. It depends on the decisions that its ``plain`` reads, so users' own choices work as well. A unit without
    other units in it is traced once per variant and shapes of its arguments.

    Parameters
    ----------
    supernet : Supernet
    example : Tensor or sequence of Tensor

    Raises
    ------
    ValueError
        If extracted networks compute something else than the supernet (`check_agreement`). Costs would then belong to
        other networks than those that are trained.
    """

    def __init__(self, supernet: Supernet, example: Example) -> None:
        self.supernet, self.inputs = supernet, fake_tensors(example)
        check_agreement(supernet, example=example)
        self.selection: Mapping[Hashable, Hashable] = {}
        self._made: dict[int, tuple[nn.Module, nn.Module]] = {}
        self._recorder, self._calls, self._depth = Recorder(), list[Call](), 0
        self._reads: set[Hashable] = set()
        self._lent = False  # whether weights of units are used outside of the units
        self._segments: list[Segment] | None = None
        self._base: tuple[Trace, list[Segment]] | None = None
        whole = fake_copy(supernet.model, stripped(supernet.model))
        self.root = self.variant_of(whole, path="", option="", reads=())

    def variant_of(self, module: nn.Module, *, path: str, option: str, reads: tuple[Hashable, ...]) -> Variant:
        """A module in which units replace the parts that depend on the selection."""
        made = self._with_units(module, path)
        units = tuple(_units_in(made))
        if units:
            self._watch(made, path, option)
        return Variant(made, units, option, reads)

    def _with_units(self, module: nn.Module, path: str) -> nn.Module:
        if isinstance(module, Unit):
            return module
        if id(module) not in self._made:
            for name, child in module._modules.items():
                if child is not None:  # innermost first, so that a unit's variants contain units as well
                    module._modules[name] = self._with_units(child, f"{path}.{name}" if path else name)
            # Stored with the module, so that no other module gets the same id.
            self._made[id(module)] = module, Unit(self, path, module) if changes(module) else module
        return self._made[id(module)][1]

    def _watch(self, module: nn.Module, path: str, option: str) -> None:
        """Record calls of the outermost parts that do not depend on the selection, and make the others regions."""
        for name, part in module.named_modules():
            if type(part).forward is nn.Module.forward or isinstance(part, Unit):
                continue
            if any(_units_in(part)):
                part.forward = Region(self, part.forward)
            else:
                where = f"{path}.{name}" if path and name else path or name

                def before(
                    part: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], where: str = where
                ) -> None:
                    if self._depth == 0:
                        self._calls.append(Call(where, option, part, arguments, named=named))
                    self._depth += 1

                def after(*_: Any) -> None:
                    self._depth -= 1

                part.register_forward_pre_hook(before, with_kwargs=True)
                part.register_forward_hook(after, always_call=True)

    # -- asking -------------------------------------------------------------------------------------------------------

    def trace(self, selection: Mapping[Hashable, Hashable]) -> Trace:
        """The execution of one selection's network on the example."""
        if self._base is not None:
            self.selection = selection
            with running_on(self.inputs, self.root.module):
                if (found := composed(*self._base)) is not None:
                    return found
        traced = self._whole(selection)
        if traced.segments is not None and (self._base is None or aliases(traced.segments) <= aliases(self._base[1])):
            self._base = traced.trace, traced.segments
        return traced.trace

    def calls(self, selection: Mapping[Hashable, Hashable]) -> Sequence[Call]:
        """The parts that one selection's network calls, in order: its units, and outermost parts outside of them."""
        return self._whole(selection).calls

    def separated(self) -> Separated | None:
        """The calls of all networks if each depends on at most one decision; otherwise None.

        This is proved, not sampled: if all options of every unit return tensors of the same shapes, no unit's arguments
        depend on the selection, from the first call to the last.
        """
        space = self.supernet.space
        base = space.labels([0] * space.n_decisions)
        if any(variant.units for unit, variant in self.variants(base) if unit is not None):
            return None
        calls = self.calls(base)
        if self._lent:
            return None
        switched: list[tuple[Hashable, Sequence[Call]]] = []
        fixed = [call for call in calls if call.unit is None]
        for call in calls:
            if call.unit is None:
                continue
            if call.trace is None:
                return None
            self.selection = base
            reads = call.unit.variant().reads
            if not reads:
                fixed.append(call)
                continue
            options = []
            for label in space.option_labels(reads[0]):
                self.selection = {**base, reads[0]: label}
                variant = call.unit.variant()
                if variant.units or variant.reads != (reads[0],):
                    return None
                part = variant.trace(call.arguments)
                if shapes_of_result(part) != shapes_of_result(call.trace):
                    return None
                options.append(replace(call, option=variant.option, module=variant.module, trace=part))
            switched.append((reads[0], options))
        return Separated(fixed, switched)

    def total(self, selection: Mapping[Hashable, Hashable], count: Callable[[nn.Module], int]) -> int:
        """The sum of `count` over all parts of one selection's network."""
        return sum(variant.count(count) for _, variant in self.variants(selection))

    def variants(self, selection: Mapping[Hashable, Hashable]) -> Iterator[tuple[Unit | None, Variant]]:
        """The network outside of units (with None), and each unit in it, once."""
        self.selection = selection
        yield None, self.root
        seen, todo = set[Unit](), list(self.root.units)
        while todo:
            if (unit := todo.pop()) not in seen:
                seen.add(unit)
                yield unit, (variant := unit.variant())
                todo += variant.units

    def _whole(self, selection: Mapping[Hashable, Hashable]) -> Traced:
        self.selection = selection
        with running_on(self.inputs, self.root.module):
            return self._traced(self.root.module, self.inputs)

    def _traced(self, function: Callable[..., Any], arguments: Sequence[Tensor]) -> Traced:
        """The trace of a function, with its own recorder."""
        outer = self._recorder, self._calls, self._reads, self._depth, self._segments
        self._recorder, self._calls, self._reads, self._depth, self._segments = Recorder(), [], set(), 0, []
        try:
            inputs = tuple(self._recorder.number(x) for x in arguments)
            with recording(self._recorder):
                result = function(*arguments)
            reads = frozenset(self._reads)
            return Traced(self._recorder.trace(inputs, result), self._calls, reads, self._segments)
        finally:
            self._recorder, self._calls, self._reads, self._depth, self._segments = outer

    def _spliced(
        self,
        part: Trace,
        arguments: Sequence[Tensor],
        decisions: frozenset[Hashable],
        again: Callable[[], tuple[Trace, frozenset[Hashable]] | None],
    ) -> Any:
        """Record a part that was traced by itself and how to replace it; returns the part's outputs."""
        first = len(self._recorder.operations)
        result, numbers = self._recorder.splice(part, arguments, decisions)
        if self._segments is not None:
            self._segments.append(Segment(first, len(self._recorder.operations), part, numbers, again))
        return result

    def traced(self, function: Callable[..., Any], arguments: Any, named: Any) -> Traced:
        """The trace of a part for arguments of any structure, under the current selection."""
        leaves, structure = pytree.tree_flatten((arguments, named))
        tensors = [x for x in leaves if isinstance(x, Tensor)]

        def called(*given: Tensor) -> Any:
            following = iter(given)
            values = [next(following) if isinstance(x, Tensor) else x for x in leaves]
            inner, by_name = pytree.tree_unflatten(values, structure)
            return function(*inner, **by_name)

        return self._traced(called, like(tensors))

    def run_region(self, region: Region, arguments: tuple[Any, ...]) -> Any:
        """Execute a part with units in it, or use its stored trace."""
        given = signature(arguments)
        traced = self._region(region, given)
        self._calls += traced.calls
        self._reads |= traced.reads
        nothing: frozenset[Hashable] = frozenset()

        def again() -> tuple[Trace, frozenset[Hashable]] | None:
            return None if region.open else (self._region(region, given).trace, nothing)

        return self._spliced(traced.trace, arguments, nothing, again)

    def _region(self, region: Region, given: Signature) -> Traced:
        """The trace of a part with units in it under the current selection."""
        key = given, tuple(self.selection[d] for d in region.decisions)
        if (traced := region.known.get(key)) is None:
            with self._recorder.paused():
                traced = self._traced(region.function, made_of(given))
            if new := tuple(traced.reads.difference(region.decisions)):
                region.known.clear()  # the stored traces did not distinguish the new decisions
                region.decisions += new
                sizes = [len(self.supernet.space.option_labels(d)) for d in region.decisions]
                region.open = prod(sizes) > REMEMBERED
                key = key[0], tuple(self.selection[d] for d in region.decisions)
            if not region.open:
                region.known[key] = traced
        return traced

    def run(self, unit: Unit, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        """Execute the current variant of a unit."""
        with self._recorder.paused():
            variant = unit.variant()
        self._reads.update(variant.reads)
        decisions = frozenset(variant.reads)
        if variant.units or named or not all(isinstance(x, Tensor) for x in arguments):
            if not variant.units:
                self._calls.append(Call(unit.path, variant.option, variant.module, arguments, unit, named=named))
            first = len(self._recorder.operations)
            self._segments = None  # this part cannot be replaced
            result = variant.module(*arguments, **named)
            self._recorder.attribute(first, decisions)
            return result
        with self._recorder.paused():
            part = variant.trace(arguments)
        self._calls.append(Call(unit.path, variant.option, variant.module, arguments, unit, part))
        given = signature(arguments)

        def again() -> tuple[Trace, frozenset[Hashable]] | None:
            now = unit.variant()
            return None if now.units else (now.trace_of(given), frozenset(now.reads))

        return self._spliced(part, arguments, decisions, again)

    def attribute(self, unit: Unit, source: Any, name: str) -> Any:
        """An attribute of the current variant that another part reads, such as a shared weight."""
        value = getattr(source, name)
        if not self.selection or not isinstance(value, Tensor):
            return value
        with self._recorder.paused():
            variant = unit.variant()
        self._reads.update(variant.reads)
        self._segments, self._lent = None, self._lent or bool(variant.reads)
        return getattr(variant.module, name, value)


@dataclass(frozen=True, eq=False)
class Call:
    """A call of a part of the network with fake tensors.

    Attributes
    ----------
    path, option : str
        As in `Place`.
    module : nn.Module
    arguments, named : tuple, mapping
        Arguments by position and by name.
    unit : Unit or None
        None for a part that does not depend on the selection.
    trace : Trace or None
        None if it was not traced by itself.
    """

    path: str
    option: str
    module: nn.Module
    arguments: tuple[Any, ...]
    unit: Unit | None = None
    trace: Trace | None = None
    named: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors in its arguments."""
        return tuple(x for x in pytree.tree_leaves((self.arguments, self.named)) if isinstance(x, Tensor))

    @property
    def place(self) -> Place:
        """Its key in a look-up table."""
        return Place(self.path, self.option, tuple(tuple(x.shape) for x in self.tensors))

    def part(self) -> nn.Module:
        """The module as one that takes only `tensors`."""
        if not self.named and all(isinstance(x, Tensor) for x in self.arguments):
            return self.module
        return Partial(self.module, self.arguments, self.named)


@dataclass(frozen=True, eq=False)
class Separated:
    """The calls of all networks of a supernet in which no call depends on more than one decision.

    Attributes
    ----------
    fixed : sequence of Call
        The calls that all networks make.
    switched : sequence of (decision, sequence of Call)
        For each other call its decision, and the call of each option.
    """

    fixed: Sequence[Call]
    switched: Sequence[tuple[Hashable, Sequence[Call]]]

    def additive(self, space: ChoiceSpace, value: Callable[[Call], float]) -> tuple[NDArray[np.float64], float]:
        """Sums of the values of calls for each option, shape (n_options,), and for the fixed calls."""
        values = np.zeros(space.n_options)
        for decision, options in self.switched:
            first = int(space.offsets[space.position(decision)])
            values[first : first + len(options)] += [value(call) for call in options]
        return values, float(sum(value(call) for call in self.fixed))


@dataclass(frozen=True, eq=False)
class Variant:
    """A unit under one selection.

    Attributes
    ----------
    module : nn.Module
        Plain except for the units in it.
    units : tuple of Unit
    option : str
        As in `Place`.
    reads : tuple
        The decisions that it depends on, without those of the units in it.
    """

    module: nn.Module
    units: tuple[Unit, ...]
    option: str
    reads: tuple[Hashable, ...]
    _traces: dict[Any, Trace] = field(default_factory=dict)
    _counts: dict[Any, int] = field(default_factory=dict)

    def trace(self, arguments: Sequence[Tensor]) -> Trace:
        """Its trace for arguments of these shapes."""
        return self.trace_of(signature(arguments))

    def trace_of(self, given: Signature) -> Trace:
        """Its trace for arguments with this signature."""
        if given not in self._traces:
            self._traces[given] = trace_fake(self.module, made_of(given))
        return self._traces[given]

    def count(self, function: Callable[[nn.Module], int]) -> int:
        """A function of the module, cached."""
        if function not in self._counts:
            self._counts[function] = function(self.module)
        return self._counts[function]


@dataclass(frozen=True, eq=False)
class Traced:
    """The trace of a part with units in it under one selection, with its calls and the decisions that it depends on.

    `segments` are the parts in it that can be replaced; None if some cannot.
    """

    trace: Trace
    calls: Sequence[Call]
    reads: frozenset[Hashable]
    segments: list[Segment] | None


class Region:
    """The forward of a part with units in it; traces are stored unless it has too many combinations of options."""

    def __init__(self, tracer: Tracer, function: Callable[..., Any]) -> None:
        self.tracer, self.function = tracer, function
        self.decisions: tuple[Hashable, ...] = ()
        self.known: dict[Any, Traced] = {}
        self.open = False

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if self.open or named or not all(isinstance(x, Tensor) for x in arguments):
            return self.function(*arguments, **named)
        return self.tracer.run_region(self, arguments)


class Unit(nn.Module):
    """Placeholder for a part of a network that depends on the selection."""

    def __init__(self, tracer: Tracer, path: str, source: nn.Module) -> None:
        super().__init__()
        self.path = path
        # In a tuple, so that they do not become parts of this module.
        self._hidden: tuple[Tracer, Any] = tracer, source
        self._decisions: tuple[Hashable, ...] = ()
        self._variants: dict[tuple[Hashable, ...], Variant] = {}

    def __getattr__(self, name: str) -> Any:
        """Attributes of the part that other parts read, such as the decision of a choice."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "_hidden":
                raise
            return self._hidden[0].attribute(self, self._hidden[1], name)

    def __deepcopy__(self, memo: Any) -> Unit:
        return self

    def plain(self, selection: Any) -> nn.Module:
        """The unit itself, which stays in the variants of outer units."""
        return self

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """The outputs of the current variant."""
        return self._hidden[0].run(self, arguments, named)

    def variant(self) -> Variant:
        """The variant under the tracer's current selection."""
        tracer, source = self._hidden
        key = tuple(tracer.selection[d] for d in self._decisions)
        if key not in self._variants:
            reads = _Reads(tracer.selection)
            with without_numbers():  # so that new tensors are fake
                made = source.plain(reads)
            if new := tuple(d for d in reads.read if d not in self._decisions):
                # The stored variants did not distinguish the new decisions.
                self._decisions += new
                self._variants.clear()
                key = tuple(tracer.selection[d] for d in self._decisions)
            chosen = {str(d): str(tracer.selection[d]) for d in reads.read}
            option = (
                ";".join(f"{d}={chosen[d]}" for d in sorted(chosen))
                if len(chosen) != 1
                else next(iter(chosen.values()))
            )
            self._variants[key] = tracer.variant_of(made, path=self.path, option=option, reads=tuple(reads.read))
        return self._variants[key]


class _Reads(Mapping[Hashable, Hashable]):
    """A selection that records which decisions were read."""

    def __init__(self, selection: Mapping[Hashable, Hashable]) -> None:
        self.selection, self.read = selection, dict[Hashable, None]()

    def __getitem__(self, decision: Hashable) -> Hashable:
        self.read[decision] = None
        return self.selection[decision]

    def __contains__(self, decision: object) -> bool:
        return decision in self.selection

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self.selection)

    def __len__(self) -> int:
        return len(self.selection)


def _units_in(module: nn.Module) -> Iterator[Unit]:
    return (part for part in module.modules() if isinstance(part, Unit))


def like(arguments: Sequence[Tensor]) -> list[Tensor]:
    """Fake tensors of the same shapes and types, each with its own memory."""
    return made_of(signature(arguments))


def made_of(given: Signature) -> list[Tensor]:
    """Fake tensors with a signature."""
    with without_numbers():
        return [torch.empty(shape, dtype=dtype) for shape, dtype in given]


def signature(arguments: Sequence[Tensor]) -> Signature:
    """The shapes and types of the arguments, on which a trace depends."""
    return tuple((x.shape, x.dtype) for x in arguments)


def shapes_of_result(part: Trace) -> Any:
    """The outputs of a trace, with shapes and types instead of tensors."""
    return pytree.tree_map(lambda x: (x.shape, x.dtype) if isinstance(x, Result) else x, part.result)
