"""Growth: from the architectures that a search met to their neighbours, the best first, until enough are judged."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from cggd import Constraint
from cggd.checks import whole
from cggd.space import ChoiceSpace
from cggd_nas.candidates import within

Indices = tuple[int, ...]
Score = Callable[[Indices], float]


def grow(
    space: ChoiceSpace,
    constraints: Sequence[Constraint],
    starts: Iterable[ArrayLike],
    accuracy: Score,
    number: int,
    *,
    capacity: Score | None = None,
    weight: float = 1.0,
    canonical: Callable[[Indices], Hashable] = tuple,
    neighbours: bool = True,
    branches: int | None = None,
) -> list[tuple[Indices, float]]:
    """Judge architectures within bounds: those to start with, and then, one switch at a time, neighbours of the best.

    A search collects what it met, which lies close together. Shared weights that learnt little favour small networks;
    where a budget is there to be used, rank by capacity as well.

    Parameters
    ----------
    space : ChoiceSpace
    constraints : list of Constraint
        What neighbours satisfy; starts that do not are left out.
    starts : iterable of selections as indices
    accuracy : callable
        From a selection to how good it is, such as the accuracy that `cggd_nas.evaluate` finds.
    number : int
        Different architectures to judge at the most.
    capacity : callable, optional
        From a selection to how much it can learn, such as ``Costs.macs()``.
    weight : float
        What the rank by capacity counts beside the rank by accuracy.
    canonical : callable
        From a selection to what is the same for all selections that compute the same; one of them is judged.
        Neighbours of all are looked at: an edge that carries nothing has to be set before another makes it carry
        something.
    neighbours : bool
        Whether to go beyond the starts.
    branches : int, optional
        Of each architecture only so many neighbours are looked at, those of the largest capacity; by default all. Where
        judging is dear, growth comes further with the same `number`.

    Returns
    -------
    list of (tuple of int, float)
        Selections and their accuracies, the best first.

    Examples
    --------
    >>> from cggd import Additive
    >>> space = ChoiceSpace.from_sizes([3, 3])
    >>> cost = Additive(space, [0, 1, 2, 0, 1, 2])
    >>> grown = grow(space, [cost <= 3], [(0, 0)], lambda selection: -abs(selection[0] - 1), 9, capacity=cost)
    >>> len(grown), grown[:2]
    (8, [((1, 2), 0.0), ((1, 1), 0.0)])
    """
    whole(number, "number", least=1)
    if branches is not None:
        whole(branches, "branches", least=1)
        if capacity is None:
            raise ValueError(f"branches={branches} needs capacity, which says which neighbours are looked at")
    if capacity is not None:
        capacity = cache(capacity)  # each ranking asks for that of all
    judged: dict[Indices, float] = {}
    same: dict[Hashable, list[Indices]] = {}  # of each architecture the selections met, the judged one first
    met: set[Indices] = set()
    expanded: set[Indices] = set()

    def selections_within(rows: NDArray[np.int64]) -> list[Indices]:
        return [*map(tuple, within(constraints, rows).tolist())]

    rows = np.array([space.indices(start) for start in starts], dtype=np.int64)
    waiting = selections_within(rows.reshape(-1, space.n_decisions))
    while len(judged) < number:
        for selection in waiting:
            architecture = canonical(selection)
            if selection in met or (architecture not in same and len(judged) == number):
                continue
            met.add(selection)
            same.setdefault(architecture, []).append(selection)
            if len(same[architecture]) == 1:
                judged[selection] = float(accuracy(selection))
        if not neighbours:
            break
        order = best_first(judged, capacity, weight)
        places = (selection for first in order for selection in same[canonical(first)])
        place = next((selection for selection in places if selection not in expanded), None)
        if place is None:
            break
        expanded.add(place)
        waiting = selections_within(space.switches(np.array(place)))
        if branches is not None:
            waiting = sorted(waiting, key=capacity, reverse=True)[:branches]
    return [(selection, judged[selection]) for selection in best_first(judged, capacity, weight)]


def best_first(accuracies: dict[Indices, float], capacity: Score | None = None, weight: float = 1.0) -> list[Indices]:
    """Selections by their rank of accuracy and, with a weight, that of capacity."""
    selections = list(accuracies)
    ranks = rankdata(list(accuracies.values()))
    if capacity is not None:
        ranks = ranks + weight * rankdata([capacity(selection) for selection in selections])
    return [selections[place] for place in np.argsort(-ranks, kind="stable")]
