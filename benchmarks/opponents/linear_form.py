"""Problems as coefficients, for solvers that read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.opponents.claim import NeedsStructureError
from cggd import Additive, Metric, Problem, Table
from cggd.layout import Layout


@dataclass(frozen=True, eq=False)
class LinearForm:
    """Minimise ``costs @ x`` under ``weights @ x <= limits`` with one x of each group at 1 and the others at 0.

    Attributes
    ----------
    costs : ndarray of shape (n_columns,)
        Signed, so that less is better.
    weights : ndarray of shape (n_constraints, n_columns)
    limits : ndarray of shape (n_constraints,)
    groups : Layout
        One group per decision; of tables, a single group of all selections.
    rows : ndarray of int, shape (n_columns, n_decisions), or None
        Of tables, the selection behind each column.
    """

    costs: NDArray[np.float64]
    weights: NDArray[np.float64]
    limits: NDArray[np.float64]
    groups: Layout
    sign: float
    constant: float = 0.0
    rows: NDArray[np.int64] | None = None

    def objective(self, cost: float) -> float:
        """The objective that belongs to a value of ``costs @ x``."""
        return self.sign * cost + self.constant

    def selection(self, x: NDArray) -> NDArray[np.int64]:
        """The selection of a solution."""
        chosen = self.groups.argmax(np.asarray(x, dtype=float))
        return chosen if self.rows is None else self.rows[chosen[0]]


def linear_form(problem: Problem) -> LinearForm:
    """Read sums as they are, and tables as one decision among all selections; nothing else can be read."""
    constraints = problem.constraints
    metrics: list[Metric] = [problem.objective, *(c.metric for c in constraints)]
    signs = np.array([problem.sign, *(c.sign for c in constraints)])
    limits = np.array([c.sign * c.bound for c in constraints])
    if all(type(metric) is Additive for metric in metrics):
        values = signs[:, None] * np.stack([additive(metric).values for metric in metrics])
        shifts = signs * [additive(metric).constant for metric in metrics]
        constant = problem.sign * float(shifts[0])
        return LinearForm(values[0], values[1:], limits - shifts[1:], problem.space.layout, problem.sign, constant)
    if all(type(metric) in (Additive, Table) for metric in metrics):
        rows = problem.space.enumerate()
        values = signs[:, None] * np.stack([metric.evaluate(rows) for metric in metrics])
        return LinearForm(values[0], values[1:], limits, Layout(np.array([0, len(rows)])), problem.sign, rows=rows)
    raise NeedsStructureError("needs structure")


def additive(metric: Metric) -> Additive:
    """The metric, known to be a sum."""
    assert isinstance(metric, Additive)
    return metric
