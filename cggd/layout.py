"""The ragged layout: flat arrays over all options, cut into decisions by offsets.

Other modules need not know whether decisions have equal numbers of options. Large arrays are processed in blocks that
fit the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# Options of a block: 32k doubles are 256 kB, about the second-level cache of a core (fastest of 4k to 64k).
BLOCK = 32_768


class Segments(Protocol):
    """One block of decisions, in the array form that is fastest for it.

    `gather` converts the flat array ``(..., n)`` of the block to that form, and `scatter` converts it back. `reduce`
    returns one number per decision, and `spread` makes such numbers broadcast against the form. `pairs` yields pairs of
    index expressions and a mask (None for all), which together give each pair of options of one decision once.
    """

    @property
    def sizes(self) -> NDArray[np.int64] | int: ...
    def gather(self, flat: NDArray[Any]) -> NDArray[Any]: ...
    def scatter(self, form: NDArray[Any]) -> NDArray[Any]: ...
    def reduce(self, ufunc: np.ufunc, form: NDArray[Any]) -> NDArray[Any]: ...
    def spread(self, per_decision: NDArray[Any]) -> NDArray[Any]: ...
    def pairs(self) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...], NDArray[np.bool_] | None]]: ...


@dataclass(frozen=True, eq=False)
class Uniform:
    """Decisions of one size: options are on the first axis, so that operations are contiguous over decisions."""

    sizes: int

    def gather(self, flat: NDArray[Any]) -> NDArray[Any]:
        cut = flat.reshape(*flat.shape[:-1], -1, self.sizes)
        return np.moveaxis(cut, -1, 0).copy(order="C")

    def scatter(self, form: NDArray[Any]) -> NDArray[Any]:
        return np.moveaxis(form, 0, -1).reshape(*form.shape[1:-1], -1)

    def reduce(self, ufunc: np.ufunc, form: NDArray[Any]) -> NDArray[Any]:
        return ufunc.reduce(form, axis=0)

    def spread(self, per_decision: NDArray[Any]) -> NDArray[Any]:
        return per_decision

    def pairs(self) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...], None]]:
        for shift in range(1, self.sizes):
            yield (slice(None, -shift),), (slice(shift, None),), None


@dataclass(frozen=True, eq=False)
class Ragged:
    """Decisions of different sizes: the flat array itself, reduced by ``ufunc.reduceat``."""

    sizes: NDArray[np.int64]

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        return np.cumsum(self.sizes) - self.sizes

    @cached_property
    def owner(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    def gather(self, flat: NDArray[Any]) -> NDArray[Any]:
        return flat.copy()

    def scatter(self, form: NDArray[Any]) -> NDArray[Any]:
        return form

    def reduce(self, ufunc: np.ufunc, form: NDArray[Any]) -> NDArray[Any]:
        return ufunc.reduceat(form, self.starts, axis=-1)

    def spread(self, per_decision: NDArray[Any]) -> NDArray[Any]:
        return np.take(per_decision, self.owner, axis=-1)

    def pairs(self) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...], NDArray[np.bool_]]]:
        place = np.arange(len(self.owner)) - self.starts[self.owner]
        for shift in range(1, int(self.sizes.max())):
            yield (..., slice(None, -shift)), (..., slice(shift, None)), place[shift:] >= shift


@dataclass(frozen=True, eq=False)
class Layout:
    """Positions of each decision's options in a flat array.

    Parameters
    ----------
    offsets : ndarray of int, shape (n_decisions + 1,)
        Options of decision d are ``offsets[d]:offsets[d + 1]``. Every decision has at least one option.
    """

    offsets: NDArray[np.int64]

    @property
    def n_decisions(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_options(self) -> int:
        return int(self.offsets[-1])

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Number of options of each decision, shape (n_decisions,)."""
        return np.diff(self.offsets)

    @cached_property
    def uniform(self) -> int | None:
        """The common number of options; None if decisions differ."""
        low, high = int(self.sizes.min()), int(self.sizes.max())
        return low if low == high else None

    @cached_property
    def owner(self) -> NDArray[np.int64]:
        """Decision of each option, shape (n_options,)."""
        return np.repeat(np.arange(self.n_decisions), self.sizes)

    @cached_property
    def blocks(self) -> list[tuple[slice, slice, Segments]]:
        """Blocks ``(decisions, options, segments)`` that cover the space and fit the processor's cache."""
        blocks: list[tuple[slice, slice, Segments]] = []
        first = 0
        while first < self.n_decisions:
            last = int(np.searchsorted(self.offsets, self.offsets[first] + BLOCK, side="right")) - 1
            last = max(last, first + 1)
            segments = Ragged(self.sizes[first:last]) if self.uniform is None else Uniform(self.uniform)
            options = slice(int(self.offsets[first]), int(self.offsets[last]))
            blocks.append((slice(first, last), options, segments))
            first = last
        return blocks

    def reduce(self, ufunc: np.ufunc, flat: NDArray[Any]) -> NDArray[Any]:
        """Reduce a flat array ``(..., n_options)`` to ``(..., n_decisions)``."""
        return ufunc.reduceat(flat, self.offsets[:-1], axis=-1)

    def spread(self, per_decision: NDArray[Any]) -> NDArray[Any]:
        """Repeat one number per decision ``(..., n_decisions)`` for each of its options ``(..., n_options)``."""
        if self.uniform is not None:
            return np.repeat(per_decision, self.uniform, axis=-1)
        return np.take(per_decision, self.owner, axis=-1)

    def flat(self, selection: NDArray[Any]) -> NDArray[np.int64]:
        """Flat positions of the selected options; `selection` may have leading axes."""
        return self.offsets[:-1] + selection

    def argmax(self, flat: NDArray[Any]) -> NDArray[np.int64]:
        """Index of the largest entry of each decision, the first one among equals; shape (n_decisions,)."""
        if self.uniform is not None:
            return flat.reshape(-1, self.uniform).argmax(axis=1)
        best = np.flatnonzero(flat == self.spread(self.reduce(np.maximum, flat)))
        first = np.diff(self.owner[best], prepend=-1) > 0
        return best[first] - self.offsets[:-1]

    def restrict(self, allowed: NDArray[np.bool_]) -> Layout:
        """The layout of the options where `allowed` is true, shape (n_options,); each decision must keep one."""
        kept = self.reduce(np.add, allowed.astype(np.int64))
        return Layout(np.concatenate([[0], np.cumsum(kept)]))
