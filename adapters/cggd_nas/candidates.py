"""Candidates: feasible architectures that a search visited, compared by their validation loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd import Constraint
from cggd.constraints import Row
from cggd.guide.relaxation import sample
from cggd.metrics import without_cache
from cggd.space import ChoiceSpace
from cggd_nas.batches import Batches
from cggd_nas.recalibration import recalibrated
from cggd_nas.retrain import Accuracy, Loss, evaluate
from cggd_nas.supernet import Supernet

# A loss that is not finite counts as this many times the largest one.
WORSE = 10.0


@dataclass(frozen=True, eq=False)
class Candidate:
    """An architecture that satisfies every bound, evaluated with the supernet's weights.

    Attributes
    ----------
    selection : dict
    indices : tuple of int
        The selection as indices.
    loss, accuracy : float
        On the validation data, with batch norms recalibrated. The accuracy is between 0 and 1, NaN without classes, or
        the value of the search's `metric`.
    samples : int
        Number of validation samples; finalists are evaluated on all.
    """

    selection: dict[Hashable, Hashable]
    indices: tuple[int, ...]
    loss: float
    accuracy: float
    samples: int


@dataclass(frozen=True, eq=False)
class Nearest:
    """The selection with the smallest `excess`, the sum of the violations as shares of the bounds."""

    indices: tuple[int, ...]
    excess: float


def excess(violations: NDArray[np.float64], constraints: Sequence[Constraint]) -> float:
    """The sum of violations as shares of the bounds, or absolute for bounds of 0."""
    scales = np.array([abs(c.bound) if np.isfinite(c.bound) and c.bound != 0 else 1.0 for c in constraints])
    return float((violations / scales).sum())


def likely(
    supernet: Supernet,
    constraints: Sequence[Constraint],
    met: Iterable[tuple[int, ...]],
    *,
    number: int,
    rng: np.random.Generator,
) -> list[tuple[int, ...]]:
    """Up to `number` selections that satisfy every constraint, the likeliest under the logits.

    Parameters
    ----------
    met : iterable of tuple of int
        Selections known to satisfy every constraint. `number` more are drawn from the softmax of the logits.
    """
    logits, layout = supernet.logits(), supernet.space.layout
    drawn = within(constraints, np.array([sample(logits, layout, rng) for _ in range(number)]))
    pool = list(dict.fromkeys([*met, *map(tuple, drawn.tolist())]))
    return sorted(pool, key=lambda selection: -logits[layout.flat(np.array(selection))].sum())[:number]


def within(constraints: Sequence[Constraint], selections: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows that satisfy every constraint."""
    for constraint in constraints:
        if len(selections):
            selections = selections[constraint.satisfied(constraint.values(selections))]
    return selections


def ranked(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Candidates sorted by loss, the smallest first; NaN comes last."""
    return sorted(candidates, key=lambda candidate: (math.isnan(candidate.loss), candidate.loss))


def judge(
    supernet: Supernet,
    selection: tuple[int, ...],
    calibration: Sequence[Any],
    validation: Batches | Sequence[Any],
    loss: Loss,
    metric: Accuracy | None = None,
) -> Candidate:
    """Validation loss of one selection with the supernet's weights, batch norms recalibrated for it."""
    with supernet.selected(selection) as model, recalibrated(model, calibration):
        scores = evaluate(model, validation, loss=loss, metric=metric)
    return Candidate(supernet.space.labels(selection), selection, scores.loss, scores.accuracy, scores.n)


def holds(constraints: Sequence[Constraint], selection: Any) -> list[Row] | None:
    """The report of a selection that satisfies every constraint in a new evaluation; None for others."""
    with without_cache():
        rows = [constraint.report(selection) for constraint in constraints]
    return rows if all(row.satisfied for row in rows) else None


def losses_of_switches(
    judged: Callable[[NDArray[np.int64]], float], selection: NDArray[np.int64], space: ChoiceSpace
) -> NDArray[np.float64]:
    """Losses of all switches of a selection, shape (n_options,). Losses that are not finite become the worst."""
    losses = np.array([judged(row) for row in space.switches(selection)])
    finite = losses[np.isfinite(losses)]
    return np.where(np.isfinite(losses), losses, WORSE * np.abs(finite).max(initial=1.0))
