"""Growth: evaluate the architectures that a search visited, then neighbours of the best."""

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
    """Evaluate architectures within bounds: first the starts, then neighbours of the best, one switch away.

    The selections that a search visited are similar to each other; growth also evaluates others. After a short
    training, shared weights favour small networks. Therefore also rank by capacity if the bounds leave room.

    Parameters
    ----------
    space : ChoiceSpace
    constraints : list of Constraint
        Starts and neighbours that violate them are not evaluated.
    starts : iterable of selections as indices
    accuracy : callable
        From a selection to its quality, such as the accuracy of `cggd_nas.evaluate`.
    number : int
        Largest number of different architectures to evaluate.
    capacity : callable, optional
        From a selection to its capacity, such as ``Costs.macs()``.
    weight : float
        Weight of the rank by capacity; the rank by accuracy has weight 1.
    canonical : callable
        From a selection to a key that is equal for all selections that compute the same. Only one of them is evaluated,
        but neighbours of all are considered: an option on an edge without effect can have an effect after another
        switch.
    neighbours : bool
        Whether to evaluate neighbours.
    branches : int, optional
        Number of neighbours per architecture, those of the largest capacity; by default all. If evaluations are slow,
        growth gets further with the same `number`.

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
    same: dict[Hashable, list[Indices]] = {}  # the selections of each architecture, the evaluated one first
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
    """Selections sorted by the rank of accuracy plus the weighted rank of capacity."""
    selections = list(accuracies)
    ranks = rankdata(list(accuracies.values()))
    if capacity is not None:
        ranks = ranks + weight * rankdata([capacity(selection) for selection in selections])
    return [selections[place] for place in np.argsort(-ranks, kind="stable")]
