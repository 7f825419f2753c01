"""Traces of networks composed from the traces of their parts, without running anything.

If all options of each part return tensors of the same shapes, the operations outside of the parts do not depend on the
selection. A trace is then that of one selection with the operations of the parts replaced. A part may also return its
argument, as a skip does; this argument then replaces the outputs of other options.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from torch.utils import _pytree as pytree

from cggd_nas.trace import Numbers, Operation, Result, Trace

# Types that outputs may contain besides tensors.
PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True, eq=False)
class Segment:
    """The operations of a trace that a part executed.

    Attributes
    ----------
    first, last : int
        The operations are ``first:last``.
    part : Trace
        The trace of the part alone.
    numbers : dict of int to (int or None)
        From the numbers of the part's storages to those in the network's trace; None for weights.
    again : callable
        Returns the trace of the part under the current selection and the decisions that its operations depend on, or
        None if it cannot be traced by itself.
    """

    first: int
    last: int
    part: Trace
    numbers: Numbers
    again: Callable[[], tuple[Trace, frozenset[Hashable]] | None]


def composed(whole: Trace, segments: Sequence[Segment]) -> Trace | None:
    """The trace under the current selection; None if outputs of a part cannot replace its former outputs."""
    operations: list[Operation] = []
    elements, done = list(whole.elements), 0
    instead: Numbers = {}  # from storages of the given trace to their replacements

    def renumbered(some: Sequence[Operation]) -> Sequence[Operation]:
        return [one.renumbered(instead) for one in some] if instead else some

    for segment in segments:
        if (found := segment.again()) is None:
            return None
        part, decisions = found
        between, own = whole.operations[done : segment.first], whole.operations[segment.first : segment.last]
        operations += renumbered(between)
        done = segment.last
        if part is segment.part:
            operations += renumbered(own)
            continue
        inputs = [segment.numbers[s] for s in segment.part.inputs]
        taken = (None if s is None else instead.get(s, s) for s in inputs)
        numbers: Numbers = dict(zip(part.inputs, taken, strict=True))
        for storage, size in enumerate(part.elements):
            if storage not in numbers:
                numbers[storage] = len(elements)
                elements.append(size)
        if not _put(segment, part, numbers, instead):
            return None
        operations += (one.renumbered(numbers, decisions) for one in part.operations)
    operations += renumbered(whole.operations[done:])
    result = whole.result
    if instead:
        result = pytree.tree_map(
            lambda x: replace(x, storage=instead.get(x.storage, x.storage)) if isinstance(x, Result) else x, result
        )
    return Trace(operations, elements, whole.inputs, result)


def aliases(segments: Sequence[Segment]) -> int:
    """The number of parts that return views of their arguments, which cannot be replaced."""
    found = 0
    for segment in segments:
        returned = {leaf.storage for leaf in pytree.tree_leaves(segment.part.result) if isinstance(leaf, Result)}
        found += bool(returned.intersection(segment.part.inputs))
    return found


def _put(segment: Segment, part: Trace, numbers: Numbers, instead: Numbers) -> bool:
    """Record the storages of the part's outputs as replacements; False if the outputs differ in kind."""
    (before, structure), (after, structure_now) = (pytree.tree_flatten(one.result) for one in (segment.part, part))
    if structure != structure_now:
        return False
    placed: dict[int, int] = {}
    for old, new in zip(before, after, strict=True):
        if not (isinstance(old, Result) and isinstance(new, Result)):
            if not isinstance(old, PLAIN) or type(old) is not type(new) or old != new:
                return False  # such as weights
            continue
        if (old.shape, old.stride, old.dtype) != (new.shape, new.stride, new.dtype):
            return False
        own, other = segment.numbers[old.storage], numbers[new.storage]
        if own is None or other is None:
            if own is not other:
                return False  # only one of them is a weight
            continue
        if placed.setdefault(own, other) != other:
            return False
        if old.storage in segment.part.inputs and other != instead.get(own, own):
            return False  # the argument is also used elsewhere and must not be replaced there
    instead |= placed
    return True
