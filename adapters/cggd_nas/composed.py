"""Traces of networks composed from the traces of their parts, without running anything.

Where every option of a part returns tensors like those of the others, what the network does outside of the parts is the
same under every selection. Its trace is then that of one selection, with the operations of the parts exchanged. A part
may also return what it is given, such as a skip; then that stands for what other options return.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch.utils import _pytree as pytree

from cggd_nas.trace import Operation, Result, Trace

# What may stand in outputs beside tensors.
_PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True, eq=False)
class Segment:
    """The operations of a trace that a part executed.

    Attributes
    ----------
    first, last : int
        The operations are ``first:last``.
    part : Trace
        That of the part alone.
    numbers : dict of int to int
        The number in the network's trace of each storage of the part's.
    again : callable
        The trace of the part under the current selection, and the decisions that its operations depend on; None where
        it cannot be traced by itself.
    """

    first: int
    last: int
    part: Trace
    numbers: dict[int, int]
    again: Callable[[], tuple[Trace, frozenset[Hashable]] | None]


def composed(whole: Trace, segments: Sequence[Segment]) -> Trace | None:
    """The trace under the current selection; None where what a part returns cannot stand for what it did."""
    operations: list[Operation] = []
    elements, done = list(whole.elements), 0
    instead: dict[int, int] = {}  # storages of the trace given, and those in their place

    def renumbered(some: Sequence[Operation], numbers: Mapping[int, int]) -> Iterator[Operation]:
        for one in some:
            reads, writes = (tuple(numbers.get(s, s) for s in part) for part in (one.reads, one.writes))
            yield replace(one, reads=reads, writes=writes)

    for segment in segments:
        if (found := segment.again()) is None:
            return None
        part, decisions = found
        between, own = whole.operations[done : segment.first], whole.operations[segment.first : segment.last]
        operations += renumbered(between, instead) if instead else between
        done = segment.last
        if part is segment.part:
            operations += renumbered(own, instead) if instead else own
            continue
        inputs = [segment.numbers[s] for s in segment.part.inputs]
        numbers = dict(zip(part.inputs, (instead.get(s, s) for s in inputs), strict=True))
        for storage, size in enumerate(part.elements):
            if storage not in numbers:
                numbers[storage] = len(elements)
                elements.append(size)
        if not _put(segment, part, numbers, instead):
            return None
        operations += (replace(o, decisions=o.decisions | decisions) for o in renumbered(part.operations, numbers))
    rest = whole.operations[done:]
    operations += renumbered(rest, instead) if instead else rest
    result = whole.result
    if instead:
        result = pytree.tree_map(
            lambda x: replace(x, storage=instead.get(x.storage, x.storage)) if isinstance(x, Result) else x, result
        )
    return Trace(operations, elements, whole.inputs, result)


def aliases(segments: Sequence[Segment]) -> int:
    """How many parts return tensors that lie in what they were given, for which nothing else can stand."""
    found = 0
    for segment in segments:
        returned = {leaf.storage for leaf in pytree.tree_leaves(segment.part.result) if isinstance(leaf, Result)}
        found += bool(returned.intersection(segment.part.inputs))
    return found


def _put(segment: Segment, part: Trace, numbers: Mapping[int, int], instead: dict[int, int]) -> bool:
    """Note where the part's results lie in the place of the segment's; False where they are of another kind."""
    (before, structure), (after, other) = (pytree.tree_flatten(one.result) for one in (segment.part, part))
    if structure != other:
        return False
    placed: dict[int, int] = {}
    for old, new in zip(before, after, strict=True):
        if not (isinstance(old, Result) and isinstance(new, Result)):
            if not isinstance(old, _PLAIN) or type(old) is not type(new) or old != new:
                return False  # such as weights
            continue
        if (old.shape, old.stride, old.dtype) != (new.shape, new.stride, new.dtype):
            return False
        own = segment.numbers[old.storage]
        if placed.setdefault(own, numbers[new.storage]) != numbers[new.storage]:
            return False
        if old.storage in segment.part.inputs and numbers[new.storage] != instead.get(own, own):
            return False  # what is given is also used elsewhere, where nothing must change
    instead |= placed
    return True
