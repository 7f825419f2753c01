"""The best subset found for each cost: the curve of score against budget."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cggd import Constraint
from cggd_features.arguments import Arguments
from cggd_features.subset import EQUAL


@dataclass(frozen=True, eq=False)
class PathPoint:
    """The best subset found at its cost.

    Attributes
    ----------
    budget : float, or dict of budget name to float
        For the selected subset, the user's budget. For other subsets, the user's budgets times the largest share of any
        of them that the subset takes; with a single budget, this is the cost.
    cost : float, or dict of budget name to float
    score : float
    support : bool array of shape (n_features,)
    """

    budget: float | dict[Hashable, float]
    cost: float | dict[Hashable, float]
    score: float
    support: NDArray[np.bool_]


def path_of(
    arguments: Arguments, chosen: tuple[NDArray[np.bool_], float], visited: Iterable[tuple[NDArray[np.bool_], float]]
) -> list[PathPoint]:
    """Points of increasing cost and score from all visited subsets, including the chosen one."""
    own, best = _share(arguments, chosen[0]), chosen[1]
    rows = [(own, best, chosen[0])]
    for selected, score in visited:
        share = _share(arguments, selected)
        fits = (share < own and score < best - EQUAL) or (own < share < np.inf and score > best + EQUAL)
        if fits and arguments.limits.unbudgeted.holds(selected):
            rows.append((share, score, selected))
    points, last = [], -np.inf
    for share, score, selected in sorted(rows, key=lambda row: (row[0], -row[1])):
        if score > last + EQUAL:
            cost, last = arguments.cost(selected), score
            mine = selected is chosen[0]
            budget = {n: _part(c, 1.0 if mine else share, selected) for n, c in arguments.budgets.items()}
            points.append(PathPoint(budget.get(None, budget), cost, score, arguments.variables.support(selected)))
    return points


def _part(c: Constraint, share: float, selected: NDArray[np.bool_]) -> float:
    """A share of a budget, without rounding if it is the cost of this subset."""
    cost = float(c.values(selected.astype(np.int64)[None])[0])
    if not np.isfinite(c.bound):
        return cost if share < 1 else c.bound
    return cost if c.bound > 0 and cost / c.bound == share else share * c.bound


def _share(arguments: Arguments, selected: NDArray[np.bool_]) -> float:
    """The largest share of a budget that a selection takes; a budget of 0 gives 0 or infinity, an infinite one 0."""
    row, shares = selected.astype(np.int64)[None], [0.0]
    for c in arguments.budgets.values():
        value = float(c.values(row)[0])
        if np.isfinite(c.bound):
            shares.append(value / c.bound if c.bound > 0 else (0.0 if c.satisfied(value) else np.inf))
    return max(shares)


def ranking(points: Sequence[PathPoint], n_features: int) -> NDArray[np.int64]:
    """Number of the first point, from 1, that has each feature; the number of points plus 1 if none has it."""
    ranks = np.full(n_features, len(points) + 1, dtype=np.int64)
    for number, point in reversed(list(enumerate(points, start=1))):
        ranks[point.support] = number
    return ranks
