"""Ranks: how many options of the same decision are greater, less how many are smaller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cggd.layout import Layout, Segments

# Up to this many options ranks are counted pair by pair, and fit one byte; above it sorting is cheaper.
FEW = 64


def flat_ranks(values: NDArray[Any], layout: Layout) -> NDArray[np.integer]:
    """Ranks of numbers per option, shape (n_options,), as small integers; equal ones have equal ranks.

    Examples
    --------
    >>> flat_ranks(np.array([3.0, 1.0, 3.0, 7.0]), Layout(np.array([0, 3, 4]))).tolist()
    [-1, 2, -1, 0]
    """
    ranks = np.empty(values.shape, dtype=np.int8 if layout.sizes.max() <= FEW else np.int32)
    for _, options, segments in layout.blocks:
        ranks[options] = segments.scatter(ranks_of(segments.gather(values[None, options]), segments))[0]
    return ranks


def ranks_of(table: NDArray[Any], segments: Segments) -> NDArray[Any]:
    """Number of greater options less number of smaller ones, for each option within its decision."""
    if np.max(segments.sizes) > FEW:
        return _sorted_ranks(table, segments)

    def order(a: tuple, b: tuple) -> NDArray[Any]:
        less = np.less(table[a], table[b]).view(np.int8)
        less -= np.greater(table[a], table[b]).view(np.int8)
        return less

    return pairwise(order, table, segments, np.int8)


def _sorted_ranks(table: NDArray[Any], segments: Segments) -> NDArray[Any]:
    decision = segments.spread(np.arange(segments.reduce(np.add, table).shape[-1]))
    flat = segments.scatter(table)
    owner = segments.scatter(np.broadcast_to(decision, table.shape))
    order = np.lexsort((flat, owner))
    values, owners = np.take_along_axis(flat, order, -1), np.take_along_axis(owner, order, -1)
    place = np.broadcast_to(np.arange(flat.shape[-1]), flat.shape)
    new_owner = np.diff(owners, axis=-1, prepend=-1) != 0
    new_value = new_owner | (np.diff(values, axis=-1, prepend=np.nan) != 0)

    def start(new: NDArray[Any]) -> NDArray[Any]:
        return np.maximum.accumulate(np.where(new, place, 0), axis=-1)

    def end(new: NDArray[Any]) -> NDArray[Any]:
        last = np.append(new[:, 1:], np.ones((len(new), 1), dtype=bool), axis=-1)
        return np.minimum.accumulate(np.where(last, place, flat.shape[-1])[:, ::-1], axis=-1)[:, ::-1]

    rank = np.empty_like(flat)
    np.put_along_axis(rank, order, (end(new_owner) - end(new_value)) - (start(new_value) - start(new_owner)), -1)
    return segments.gather(rank)


def pairwise(
    weight: Callable[[tuple[Any, ...], tuple[Any, ...]], NDArray[Any]],
    table: NDArray[Any],
    segments: Segments,
    dtype: DTypeLike,
) -> NDArray[Any]:
    """Add ``weight(a, b)`` to a and subtract it from b over all pairs, lined up shift by shift."""
    push = np.zeros(table.shape, dtype)
    for a, b, valid in segments.pairs():
        w = weight(a, b)
        if valid is not None:
            w *= valid
        push[a] += w
        push[b] -= w
    return push
