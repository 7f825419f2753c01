"""Presolve: options that no selection within the bounds can take.

Some tables hold both 3.5 and 1e9, where 1e9 means "never". A solver then has too few digits left for the 3.5. Options
that break a bound whatever the other decisions choose are therefore removed before scaling. The remaining numbers have
one magnitude (Savelsbergh, 1994, section 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cggd.constraints import Constraint
from cggd.metrics import Metric
from cggd.rounding import true_texts
from cggd.space import ChoiceSpace

# Largest number of rounds. Removing an option may make others impossible; those still left are up to the solver.
ROUNDS = 10

# A metric, a sign, and what ``sign * metric`` must not exceed.
Limit = tuple[Metric, float, float]


def limits_of(constraints: Iterable[Constraint]) -> list[Limit]:
    """Limits of all constraints without a confidence; confidence limits say less about single options."""
    return [(c.metric, c.sign, c.limit) for c in constraints if c.confidence is None and np.isfinite(c.limit)]


def possible(
    space: ChoiceSpace, limits: Sequence[Limit], allowed: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_] | None:
    """Options that a selection within all limits may take, shape (n_options,); None if some decision has none.

    None proves that no selection is within all limits. Each limit is applied by itself, so an option that is kept may
    still be in no feasible selection.

    Examples
    --------
    >>> from cggd import Additive
    >>> space = ChoiceSpace.from_sizes([2, 2])
    >>> cost = Additive(space, [1.0, 1e9, 2.0, 3.0])
    >>> possible(space, limits_of([cost <= 4.0]))
    array([ True, False,  True,  True])
    >>> possible(space, limits_of([cost <= 2.5])) is None
    True
    """
    mask = np.ones(space.n_options, dtype=bool) if allowed is None else allowed.copy()
    for _ in _removals(limits, mask):
        if not space.layout.reduce(np.logical_or, mask).all():
            return None
    return mask


def _removals(limits: Sequence[Limit], mask: NDArray[np.bool_]) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Remove impossible options from a mask, limit by limit; yield the number of each limit and what it removed."""
    for _ in range(ROUNDS):
        before = np.count_nonzero(mask)
        for number, (metric, sign, limit) in enumerate(limits):
            removed = mask & ~(metric.least_with(sign, mask) <= limit)
            mask &= ~removed
            yield number, removed
        if np.count_nonzero(mask) == before:
            return


def emptied(space: ChoiceSpace, constraints: Iterable[Constraint], allowed: NDArray[np.bool_] | None = None) -> str:
    """Which decision has no possible option, and because of which constraints, where `possible` returns None."""
    mask = np.ones(space.n_options, dtype=bool) if allowed is None else allowed.copy()
    limited, removals = [c for c in constraints if limits_of([c])], []
    for removal in _removals(limits_of(limited), mask):
        removals.append(removal)
        if len(empty := np.flatnonzero(~space.layout.reduce(np.logical_or, mask))):
            options = slice(space.offsets[empty[0]], space.offsets[empty[0] + 1])
            why = dict.fromkeys(str(limited[number]) for number, removed in removals if removed[options].any())
            return f"no option of decision {space.decisions[empty[0]]!r} is possible within {' and '.join(why)}"
    return "the bounds leave no option of some decision"


def least_of(metric: Metric, sign: float, allowed: NDArray[np.bool_]) -> float:
    """A lower bound on ``sign * metric`` for selections of allowed options, shape (n_options,)."""
    return float(metric.least_with(sign, allowed)[allowed].min())


def impossible(constraint: Constraint, allowed: NDArray[np.bool_] | None = None) -> str | None:
    """Why no selection satisfies a constraint, if the metric's own extremes prove it; None otherwise."""
    if constraint.confidence is not None:
        return None
    low, high = constraint.metric.limits()
    if allowed is None and (low if constraint.sign > 0 else -high) <= constraint.limit:
        return None  # quick test first
    mask = np.ones(constraint.space.n_options, dtype=bool) if allowed is None else allowed
    least = least_of(constraint.metric, constraint.sign, mask)
    if least <= constraint.limit:
        return None
    side, (reached, _) = (
        "less" if constraint.sign > 0 else "more",
        true_texts(constraint.sign * least, constraint.bound),
    )
    return f"{constraint} cannot hold: no selection has {side} than {reached}"
