"""The default option of each decision; a report of a large selection lists only the decisions that differ from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cggd.metrics.base import sum_table_of
from cggd.problem import Problem


def default_options(problem: Problem) -> NDArray[np.int64]:
    """Find the default option of each decision.

    The default is the first option that takes the least of every limited sum (a constraint ``metric <= bound`` whose
    metric is a sum), or else the first option of the decision.

    Parameters
    ----------
    problem : Problem

    Returns
    -------
    ndarray of int, shape (n_decisions,)
        Positions among the options of each decision.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> space = ChoiceSpace({"Ann": ["yes", "no"], "Bob": ["no", "yes"]})
    >>> points, price = Additive(space, [5, 0, 0, 3]), Additive(space, [9, 0, 0, 2])
    >>> default_options(Problem(points, [price <= 9], "maximize"))
    array([1, 0])
    """
    layout = problem.space.layout
    least = np.ones(layout.n_options, dtype=bool)
    for constraint in problem.constraints:
        if constraint.sense == "<=" and np.isfinite(constraint.bound) and (table := sum_table_of(constraint.metric)):
            least &= table.values == layout.spread(layout.reduce(np.minimum, table.values))
    return layout.argmax(least.astype(float))
