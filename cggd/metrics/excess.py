"""Excess: by how much sums of whole numbers exceed their limits, added up. Rules between decisions are such metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cggd.checks import own
from cggd.expressions import Expression, Program
from cggd.metrics.base import Metric
from cggd.metrics.loads import Loaded
from cggd.rounding import WHOLE, is_whole
from cggd.space import ChoiceSpace, check_space


@dataclass(frozen=True, eq=False, repr=False)
class Excess(Loaded):
    """The sum over rows of the amount by which each row exceeds its limit; 0 if all rows are within their limits.

    Parameters
    ----------
    space : ChoiceSpace
    rows : dense or sparse matrix of shape (n_rows, n_options)
        Whole numbers. The value of a row is the sum of the numbers of the chosen options.
    most : array-like of whole numbers, shape (n_rows,)
        The limit of each row.
    name, unit : str

    Examples
    --------
    No two of three decisions may take their second option:

    >>> space = ChoiceSpace.from_sizes([2, 2, 2])
    >>> clashes = Excess(space, [[0, 1, 0, 1, 0, 1]], [1], name="clashes")
    >>> clashes([1, 1, 1]), clashes.replacements(np.array([1, 1, 1]))
    (2.0, array([1., 2., 1., 2., 1., 2.]))
    """

    space: ChoiceSpace
    rows: Any
    most: Any
    name: str = field(default="excess", kw_only=True)
    unit: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        check_space(self.space)
        rows = sparse.csr_array(self.rows, dtype=float)
        limits = np.asarray(self.most, dtype=float)
        rows.sum_duplicates()
        rows.eliminate_zeros()
        if rows.shape != (len(limits), self.space.n_options) or limits.ndim != 1 or not len(limits):
            raise ValueError(
                f"rows must be a matrix of shape (n_rows, {self.space.n_options}) and limits a number for each row, "
                f"got shapes {rows.shape} and {limits.shape}"
            )
        if not (is_whole(rows.data) and is_whole(limits) and abs(rows).sum() + np.abs(limits).sum() < WHOLE):
            raise ValueError("rows and limits must be whole numbers, whose sums floats hold exactly")
        own(self, rows=rows, most=limits)

    @property
    def usage(self) -> sparse.csr_array:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.rows

    def loads(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        """Values of the rows minus their limits, shape (n, n_decisions) to (n, n_rows)."""
        return super().loads(selections) - self.most

    def of_loads(self, loads: NDArray[np.float64]) -> NDArray[np.float64]:
        """The metric, given the rows minus their limits, shape (..., n_rows) to (...)."""
        return np.maximum(loads, 0.0).sum(axis=-1)

    def table_of_loads(self, selection: NDArray[np.int64], loads: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._added(loads, self.replaced(selection, loads))

    def _added(self, loads: NDArray[np.float64], changed: NDArray[np.float64]) -> NDArray[np.float64]:
        """The total excess where each option changes the loads of its decision's rows, shape (n_options,)."""
        pairs = self.pairs
        change = np.maximum(changed, 0.0) - np.maximum(loads, 0.0)[pairs.stage[pairs.pair]]
        table = np.full(self.space.n_options, self.of_loads(loads))
        table[pairs.touched_options] += pairs.reduce_options(np.add, change)
        return table

    def expression(self, program: Program, sign: float) -> Expression | None:
        rows = program.sum(self.usage) - self.most
        if sign < 0:
            return -self._at_most(program, rows).sum()
        if len(rows) == 1:
            return Expression.join([rows, Expression.of(0.0)])
        excess = program.variable(0.0, np.maximum(np.rint(program.range(rows)[1]), 0.0))
        program.at_most(rows - excess)
        return excess.sum()

    def _at_most(self, program: Program, rows: Expression) -> Expression:
        """New variables that are at most the excess of each row."""
        low, high = map(np.rint, program.range(rows))
        sometimes = np.flatnonzero((low < 0) & (high > 0))
        always = rows[np.flatnonzero(low >= 0)]
        excess = program.variable(0.0, high[sometimes])
        exceeded = program.switch(len(sometimes))
        program.at_most(excess - high[sometimes] * exceeded)
        # Where the row is exceeded, the variable is at most its excess.
        program.at_most(excess - rows[sometimes] - low[sometimes] * exceeded + low[sometimes])
        return Expression.join([always, excess, Expression.of(0.0)])

    def within(self, program: Program, sign: float, limit: float) -> Expression | None:
        if sign < 0 or limit != 0:
            return Metric.within(self, program, sign, limit)
        return program.sum(self.usage) - self.most

    def least_with(self, sign: float, allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
        pairs, end = self.pairs, self.pairs.end(sign, allowed)
        loads = self.total(end) - self.most
        if sign < 0:
            return np.full(self.space.n_options, -self.of_loads(loads))
        return self._added(loads, (loads[pairs.stage] - end)[pairs.pair] + pairs.use)

    def addends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        return np.ones(1), np.ones(1)

    def limits(self) -> tuple[float, float]:
        everything = np.ones(self.space.n_options, dtype=bool)
        return float(self.least_with(1.0, everything).min()), float(-self.least_with(-1.0, everything)[0])
