"""Branch and bound for the best subset within limits: a proof, or at least a bound.

A node has variables that are in, variables that are out, and the rest, the open ones. No subset of it explains more
than the fit T on all that is in or open and affordable (Furnival & Wilson, 1974). Where T costs too much, a set R of
open variables must go that saves enough, and with it T loses at least

- as much as with any one variable of R alone,
- the sum of what each variable of R alone would lose, over the largest eigenvalue of ``inv(G_TT)`` scaled to blocks of
  identity on its diagonal (that of the part R is no larger).

Both make knapsacks with a closed form: the first a threshold, the second the linear relaxation.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

from cggd_features.gram import Gram
from cggd_features.least_squares import Fit
from cggd_features.limits import Limits
from cggd_features.subset import EQUAL

# Nodes before the search gives up: about a second for 40 variables.
NODES = 1_000

# Share by which an eigenvalue may be off.
ROUNDING = 1e-9

# A fit on more columns is too much work for its eigenvalues to pay.
LARGEST = 200


@dataclass(frozen=True, eq=False)
class Proof:
    """The best subset found, and what no subset within the limits exceeds.

    The bound is none (`sure` is false) where the search met columns of which rounding hides whether they add something
    to the others.
    """

    selected: NDArray[np.bool_]
    value: float
    bound: float
    sure: bool

    @property
    def optimal(self) -> bool:
        """Whether no subset is better."""
        return self.sure and self.bound <= self.value + EQUAL


def branch_and_bound(
    gram: Gram,
    limits: Limits,
    best: NDArray[np.bool_],
    *,
    nodes: int = NODES,
    stop: Callable[[], bool] = lambda: False,
) -> Proof:
    """Look for a better subset than one that satisfies the limits, most promising branches first.

    Parameters
    ----------
    gram : Gram
    limits : Limits
    best : bool array of shape (n_variables,)
    nodes : int
        After so many the search ends with a bound.
    stop : callable
    """
    (value, sure), ties = gram.measured(best), count()
    heap: list[tuple[float, int, NDArray[np.bool_], NDArray[np.bool_], int]] = []

    def consider(inside: NDArray[np.bool_], open_: NDArray[np.bool_], bound: float) -> None:
        """Bound a node, keep what is best in it where that is plain, and put it on the heap where it is not."""
        nonlocal best, value, sure
        if not limits.possible(inside, open_):
            return
        open_ = open_ & replace(limits, must=inside, never=~inside & ~open_).affordable
        everything = inside | open_
        fit = Fit.at(gram, everything)
        sure &= fit.sure
        if fit.value <= value + EQUAL:
            return
        if limits.holds(everything):
            best, value = everything, fit.value
            return
        if not open_.any():
            return
        bound = min(bound, _most(fit, limits, open_))
        if bound > value + EQUAL:
            worth = np.where(open_, fit.losses, -1.0)
            heapq.heappush(heap, (-bound, next(ties), inside, open_, int(np.argmax(worth))))

    consider(limits.must.copy(), limits.free.copy(), 1.0)
    for _ in range(nodes):
        if not heap or stop() or -heap[0][0] <= value + EQUAL:
            break
        bound, _, inside, open_, variable = heapq.heappop(heap)
        rest = open_.copy()
        rest[variable] = False
        joined = inside.copy()
        joined[variable] = True
        if limits.holds(joined):
            with_it, certain = gram.measured(joined)
            sure &= certain
            if with_it > value + EQUAL:
                best, value = joined, with_it
        consider(joined, rest, -bound)
        consider(inside, rest, -bound)
    left = max((-bound for bound, *_ in heap), default=value)
    return Proof(best, value, max(left, value), sure)


def _most(fit: Fit, limits: Limits, open_: NDArray[np.bool_]) -> float:
    """A number that no subset of a node explains more than, from the fit on all of it."""
    if fit.dependent or len(fit.inside) > LARGEST:
        return fit.value
    losses = fit.losses
    largest = _largest(fit) * (1 + ROUNDING)
    most = fit.value
    for excess, saved in limits.savings(fit.selected):
        at = np.flatnonzero(open_ & (saved > 0))
        if saved[at].sum() < excess:
            return -np.inf
        order = at[np.argsort(losses[at], kind="stable")]
        enough = int(np.argmax(np.cumsum(saved[order]) >= excess))
        order_by_rate = at[np.argsort(losses[at] / saved[at], kind="stable")]
        total, spread = np.cumsum(saved[order_by_rate]), np.cumsum(losses[order_by_rate])
        last = int(np.argmax(total >= excess))
        short = total[last] - excess
        lost = spread[last] - losses[order_by_rate[last]] * short / saved[order_by_rate[last]]
        most = min(most, fit.value - max(float(losses[order[enough]]), float(lost) / largest))
    return most


def _largest(fit: Fit) -> float:
    """Largest eigenvalue of the inverse of the Gram matrix, scaled to blocks of identity for each variable."""
    if len(fit.inside) == 0:
        return 1.0
    owner = fit.gram.owner[fit.inside]
    across = [np.linalg.qr(fit.basis[owner == v].T)[0] for v in np.unique(owner).tolist()]
    return float(np.linalg.norm(np.concatenate(across, axis=1), 2) ** 2)
