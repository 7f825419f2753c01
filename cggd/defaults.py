"""The default option of each decision, beside which a report tells what was chosen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cggd.problem import Problem
from cggd.sums import sum_of


def default_options(problem: Problem) -> NDArray[np.int64]:
    """Find the option that each decision has where nothing is asked of it.

    That is the option that takes the least of every limited sum, the constraints ``metric <= bound`` whose metric is a
    sum; the first of several such options; and the first of all where none takes the least of every sum.

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
        if constraint.sense == "<=" and np.isfinite(constraint.bound) and (part := sum_of(constraint.metric)):
            values = part[0]
            least &= values == layout.spread(layout.reduce(np.minimum, values))
    return layout.argmax(least.astype(float))
