"""Detection of black boxes that are sums of one number per option, by a few evaluations.

A function f is such a sum if and only if f(x) + f(y) = f(z) + f(w) whenever z and w are x and y with some decisions
exchanged. This is tested at random selections. One replacement table then gives the numbers. The result is a guess:
selections found with it must be evaluated again, and it must not be used for bounds or proofs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cggd.metrics import Additive, Metric, values_of
from cggd.problem import Problem

# Number of random exchanges at which the equation is tested; each takes four evaluations.
EXCHANGES = 4

# Relative tolerance of the test. Sums of the same numbers in another order differ by less.
SAME = 1e-9


def revealed(problem: Problem, selection: NDArray[np.int64], rng: np.random.Generator) -> Problem:
    """Replace each black box that seems to be a sum by one; return the same object if there is none.

    Parameters
    ----------
    problem : Problem
    selection : ndarray of int, shape (n_decisions,)
        Selection at which replacement tables are evaluated.
    rng : numpy.random.Generator

    Examples
    --------
    >>> from cggd import ChoiceSpace, Function
    >>> space = ChoiceSpace.from_sizes([2, 3])
    >>> black, box = (Function(space, f) for f in (lambda s: 2.0 * s[0] - s[1] + 7, lambda s: 2.0 * s[0] * s[1]))
    >>> found = revealed(Problem(black, [box <= 2]), np.array([0, 0]), np.random.default_rng(0))
    >>> found.objective.values, found.constraints[0].metric is box
    (array([ 0.,  2.,  0., -1., -2.]), True)
    """
    probes = _exchanges(problem, rng)
    known: dict[int, Metric] = {}

    def seen(metric: Metric) -> Metric:
        if id(metric) not in known:
            known[id(metric)] = _as_sum(metric, selection, probes)
        return known[id(metric)]

    objective = seen(problem.objective)
    constraints = [
        c if c.confidence is not None or (metric := seen(c.metric)) is c.metric else replace(c, metric=metric)
        for c in problem.constraints
    ]
    same = objective is problem.objective and all(a is b for a, b in zip(constraints, problem.constraints, strict=True))
    return problem if same else replace(problem, objective=objective, constraints=constraints)


def _exchanges(problem: Problem, rng: np.random.Generator) -> NDArray[np.int64]:
    """Random x and y, and z and w with about half of the decisions exchanged: (4, EXCHANGES, n_decisions)."""
    x, y = (np.stack([draw(problem, rng) for _ in range(EXCHANGES)]) for _ in range(2))
    exchanged = rng.random(x.shape) < 0.5
    return np.stack([x, y, np.where(exchanged, x, y), np.where(exchanged, y, x)])


def _as_sum(metric: Metric, selection: NDArray[np.int64], probes: NDArray[np.int64]) -> Metric:
    state = metric.state(selection)
    # A metric that proposes compound moves says that its switches interact.
    if metric.noisy or not state.sampled or next(iter(metric.moves(selection)), None) is not None:
        return metric
    values = values_of(metric, probes.reshape(-1, probes.shape[-1])).astype(float).reshape(4, -1)
    if not np.abs(values[0] + values[1] - values[2] - values[3]).max() <= SAME * np.abs(values).max():
        return metric  # not a sum, or a selection is invalid
    row, value = state.table(), state.value
    if np.isnan(row).any():
        return metric
    return Additive(metric.space, row - value, value, name=metric.name, unit=metric.unit)


def draw(problem: Problem, rng: np.random.Generator) -> NDArray[np.int64]:
    """A random selection of allowed options."""
    score, allowed = rng.random(problem.space.n_options), problem.allowed
    return problem.space.layout.argmax(score if allowed is None else np.where(allowed, score, -1.0))
