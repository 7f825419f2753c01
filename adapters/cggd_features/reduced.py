"""A smaller problem with only some of the variables; all others are out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cggd import Additive, ChoiceSpace, Constraint, Function, Metric
from cggd_features.costs import SharedCost
from cggd_features.gram import Columns, Gram
from cggd_features.limits import Limits


def reduced(gram: Gram, limits: Limits, kept: NDArray[np.int64]) -> tuple[Gram, Limits]:
    """The Gram matrix and the limits of some variables.

    Parameters
    ----------
    gram : Gram
    limits : Limits
    kept : ndarray of int
        Numbers of the variables, including all that must be in.
    """
    space = ChoiceSpace.from_sizes([2] * len(kept))

    def smaller(c: Constraint) -> Constraint:
        if isinstance(c.metric, Additive):
            values = c.metric.values.reshape(-1, 2)
            out = np.delete(values[:, 0], kept).sum()
            metric: Metric = Additive(space, values[kept].ravel(), c.metric.constant + out, name=c.metric.name)
        elif isinstance(c.metric, SharedCost):
            metric = c.metric.among(space, kept)
        else:  # a user's function
            metric = Function(space, partial(_extended, c.metric, kept), batch=True, name=c.metric.name)
        return replace(c, metric=metric)

    columns = [gram.columns[v] for v in kept.tolist()]
    at, ends = np.concatenate(columns), np.cumsum([len(c) for c in columns])
    small = Gram(
        gram.matrix[np.ix_(at, at)],
        gram.target[at],
        [np.arange(end - len(c), end) for c, end in zip(columns, ends, strict=True)],
        gram.total,
        gram.stretch,
        None if gram.exact is None else Columns(gram.exact.matrix[:, at], gram.exact.target),
        None if gram.doubtful is None else gram.doubtful[kept],
    )
    budgets, others = ([smaller(c) for c in constraints] for constraints in (limits.budgets, limits.others))
    return small, Limits(space, budgets, others, limits.must[kept], limits.never[kept])


def _extended(metric: Metric, kept: NDArray[np.int64], selections: NDArray[np.int64]) -> NDArray[np.float64]:
    """A metric at selections of the kept variables, with all others out."""
    whole = np.zeros((len(selections), metric.space.n_decisions), dtype=np.int64)
    whole[:, kept] = selections
    return metric.evaluate(whole)
