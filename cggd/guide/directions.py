r"""Directions toward the feasible region.

Sign convention: a direction is added to the logits, and is positive for options that lead toward the feasible region.
A step goes along *minus* the modified gradient, so a guide *subtracts* the direction from the gradient.

The push of one constraint ``c <= b`` on a decision follows from the replacement table (Van Baelen & Karsmakers, 2023;
CONNAS, ICLR 2026):

1. every option satisfies the bound: no push;
2. some do: :math:`\sum w(j, m) (e_j - e_m)` over the pairs with `j` satisfying and `m` violating;
3. none does: the same sum over the pairs with :math:`c_j < c_m`.

All weights w are antisymmetric, so equal options give no push. The factor :math:`1/\sqrt 2` of the paper is omitted,
because it cancels when the vector is normalised.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf

from cggd.checks import check_choice
from cggd.layout import Layout, Segments
from cggd.pair_counts import pairwise, ranks_of

Weights = Literal["unit", "difference", "confidence"]


# A vector whose squared norm is this close to 1 is a unit vector.
UNIT = 1e-12


def three_case(
    tables: ArrayLike,
    limits: ArrayLike,
    layout: Layout,
    weights: Weights = "unit",
    *,
    errors: ArrayLike | None = None,
    allowed: NDArray[np.bool_] | None = None,
    ranks: NDArray[np.integer] | None = None,
    overwrite: bool = False,
) -> NDArray[np.float64]:
    r"""Directions of constraints ``table <= limit``, one unit vector each.

    Parameters
    ----------
    tables : array-like of shape (n_options,) or (n_constraints, n_options)
        Replacement tables.
    limits : float, or array-like of shape (n_constraints,) or (n_constraints, n_decisions)
        Bounds; one per decision for tables without the part that the options of a decision have in common
        (`cggd.Metric.shifted`).
    layout : Layout
    weights : {"unit", "difference", "confidence"}
        Pair weights w(j, m): 1, with each decision's vector normalised (the paper); :math:`c_m - c_j`; or
        :math:`P(c_j < c_m) - P(c_j > c_m)` under normal noise with the given `errors`, again normalised by decision.
    errors : array-like like `tables`, optional
        Standard errors of the tables, for ``"confidence"``; without them it equals ``"unit"``.
    allowed : bool array of shape (n_options,), optional
        Options that may be chosen; the others are in no pair and get no push.
    ranks : int array like `tables`, optional
        `cggd.pair_counts.flat_ranks` of the tables, if already known.
    overwrite : bool
        Whether the result may use the memory of `tables`.

    Returns
    -------
    ndarray of the shape of `tables`
        Each row has norm 1, or is zero if no option leads toward the bound.

    Examples
    --------
    >>> layout = Layout(np.array([0, 3]))
    >>> three_case([1.0, 3.0, 5.0], 2.0, layout)
    array([ 0.81649658, -0.40824829, -0.40824829])
    >>> three_case([1.0, 3.0, 5.0], 0.0, layout, "difference")
    array([ 0.70710678,  0.        , -0.70710678])
    """
    check_choice(weights, Weights, "weights")
    tables = np.asarray(tables)
    shape = tables.shape
    tables = np.atleast_2d(tables)
    errors = None if errors is None or weights != "confidence" else np.atleast_2d(np.asarray(errors, dtype=float))
    if allowed is not None:
        out = np.zeros(tables.shape)
        kept = None if errors is None else errors[:, allowed]
        out[:, allowed] = three_case(tables[:, allowed], limits, layout.restrict(allowed), weights, errors=kept)
        return out.reshape(shape)
    limits = np.asarray(limits, dtype=float)
    common = limits.ndim < 2
    limits = np.broadcast_to(limits.reshape(-1, 1), (len(tables), 1)) if common else limits
    ranks = None if ranks is None else np.atleast_2d(ranks)
    if not np.issubdtype(tables.dtype, np.floating):
        tables = tables.astype(float)
        overwrite = True
    out = tables if overwrite else np.empty_like(tables)
    squares = np.zeros(len(tables))
    # If every decision pushes, vectors of length 1 / scale form one of norm 1, which is not normalised again.
    scale = np.sqrt(layout.n_decisions)
    for decisions, options, segments in layout.blocks:
        table = segments.gather(tables[:, options])
        satisfying = table <= (limits if common else segments.spread(limits[:, decisions]))
        if weights == "difference":
            push = _difference(table, satisfying, segments)
        elif errors is not None:
            push = _confident(table, segments.gather(errors[:, options]), satisfying, segments, scale)
        else:
            order = None if ranks is None else segments.gather(ranks[:, options])
            push = _counted(table, order, satisfying, segments, scale)
        push = segments.scatter(push)
        squares += np.einsum("co,co->c", push, push)
        out[:, options] = push
    _normalise(out, squares)
    return out.reshape(shape)


def _normalise(rows: NDArray[Any], squares: NDArray[np.float64]) -> None:
    """Divide rows by their norms, whose squares are given, in place; zero rows stay zero."""
    extreme = ~((squares > 1e-200) & (squares < 1e200))
    if extreme.any():  # squares over- or underflow where the numbers do not
        scale = np.abs(rows[extreme]).max(axis=1)
        scale[scale == 0] = 1.0
        rows[extreme] /= scale[:, None]
        squares[extreme] = np.einsum("co,co->c", rows[extreme], rows[extreme])
    squares[squares == 0] = 1.0
    if np.abs(squares - 1.0).max() > UNIT:
        rows /= np.sqrt(squares)[:, None].astype(rows.dtype)


def _difference(table: NDArray[Any], satisfying: NDArray[np.bool_], segments: Segments) -> NDArray[Any]:
    """Sum of (c_m - c_j)(e_j - e_m): each option gets n * (mean of its partners - its own value).

    Partners of a satisfying option are the violating ones and the other way round; without any satisfying one, all.
    """
    spread = segments.spread
    table -= spread(segments.reduce(np.minimum, table))  # equal options become exactly 0, and give exactly no push
    total = segments.reduce(np.add, table)
    if not satisfying.any():
        table *= -spread(np.asarray(segments.sizes))
        table += spread(total)
        return table
    weight = satisfying.astype(table.dtype)
    n_satisfying = segments.reduce(np.add, weight)
    sum_satisfying = segments.reduce(np.add, table * weight)
    n_violating, sum_violating = segments.sizes - n_satisfying, total - sum_satisfying
    np.maximum(weight, spread(n_satisfying == 0), out=weight)
    # weight 1: sum_violating - n_violating * c; weight 0: sum_satisfying - n_satisfying * c. They are computed
    # separately, so that a decision whose options all satisfy gets exactly 0.
    push = table * -spread(n_violating)
    push += spread(sum_violating)
    push *= weight
    table *= -spread(n_satisfying)
    table += spread(sum_satisfying)
    table *= 1.0 - weight
    push += table
    return push


def _counted(
    table: NDArray[Any], ranks: NDArray[Any] | None, satisfying: NDArray[np.bool_], segments: Segments, scale: float
) -> NDArray[Any]:
    """Sum of e_j - e_m: for each option, the number of worse options minus that of better ones."""
    if satisfying.any():
        n_satisfying = segments.reduce(np.add, satisfying.astype(table.dtype))
        n_violating = segments.sizes - n_satisfying
        push = np.where(satisfying, segments.spread(n_violating), segments.spread(-n_satisfying))
        none = n_satisfying == 0
        if none.any():
            push = np.where(segments.spread(none), ranks_of(table, segments) if ranks is None else ranks, push)
    else:
        push = (ranks_of(table, segments) if ranks is None else ranks).astype(table.dtype)
    return _by_decision(push, segments, scale)


def _confident(
    table: NDArray[Any], errors: NDArray[Any], satisfying: NDArray[np.bool_], segments: Segments, scale: float
) -> NDArray[Any]:
    """Sum of (P(c_j < c_m) - P(c_j > c_m))(e_j - e_m)."""
    push = pairwise(lambda a, b: _confidence(table, errors, a, b), table, segments, table.dtype)
    if satisfying.any():

        def crossing(a: tuple, b: tuple) -> NDArray[Any]:
            return _confidence(table, errors, a, b) * (satisfying[a] != satisfying[b])

        some = segments.spread(segments.reduce(np.logical_or, satisfying))
        push = np.where(some, pairwise(crossing, table, segments, table.dtype), push)
    return _by_decision(push, segments, scale)


def _by_decision(push: NDArray[Any], segments: Segments, scale: float) -> NDArray[Any]:
    """Each decision's vector brought to the norm 1 / scale, in place; zero ones stay zero."""
    norms = np.sqrt(segments.reduce(np.add, push * push))
    norms[norms == 0] = 1.0
    push /= segments.spread(norms * scale)
    return push


def _confidence(table: NDArray[Any], errors: NDArray[Any], a: tuple, b: tuple) -> NDArray[Any]:
    """P(c_a < c_b) - P(c_a > c_b) for independent normal errors; the sign of c_b - c_a where both are exact."""
    difference = table[b] - table[a]
    spread = np.hypot(errors[a], errors[b])
    ratio = np.divide(difference, np.sqrt(2.0) * spread, out=np.zeros_like(difference), where=spread > 0)
    return np.where(spread > 0, erf(ratio), np.sign(difference))


def unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """The vector divided by its norm; zero if the norm is only rounding error, as when directions cancel."""
    length = norm(vector)
    return vector / length if length > 1e-12 else np.zeros_like(vector)


def norm(vector: NDArray[Any]) -> float:
    """Euclidean norm, summed in double precision."""
    return float(np.sqrt(np.einsum("o,o->", vector, vector, dtype=float)))
