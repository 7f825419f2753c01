"""Expressions: linear forms of metrics over the variables of a mixed-integer program.

A metric with a linear form implements the method `expression`. The method receives a `Program` and returns linear
functions of its variables. It may add auxiliary variables and rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from cggd.rounding import OPERATIONS, UNIT
from cggd.space import ChoiceSpace

# Continuous auxiliary variables range from 0 to LARGEST in the solver. Its absolute tolerances are then relative ones
# of 1e-9.
LARGEST = 1024.0

# The least number of each decision's options is subtracted from a row only if this reduces the row's largest
# coefficient by more than this factor.
SHARED = 16.0


@dataclass(frozen=True, eq=False)
class Expression:
    """Linear functions of the variables of a program, one per row.

    Addition, subtraction and multiplication by numbers act row by row; a single row or number is broadcast. Indexing
    selects rows. If `Metric.expression` returns several rows, they stand for their maximum.

    Attributes
    ----------
    row, column : ndarray of int, shape (n_entries,)
    coefficient : ndarray of shape (n_entries,)
        Entries with the same row and column are added.
    constant : ndarray of shape (n_rows,)
    size : ndarray of shape (n_rows,)
        Upper bound on the sum of the absolute values of all terms of a row, including those in the constant. The
        rounding error is bounded by it.
    """

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    coefficient: NDArray[np.float64]
    constant: NDArray[np.float64]
    size: NDArray[np.float64]

    @classmethod
    def of(cls, constants: ArrayLike) -> Expression:
        """Rows that are constants."""
        numbers = np.atleast_1d(np.asarray(constants, dtype=float))
        none = np.zeros(0, dtype=np.int64)
        return cls(none, none, np.zeros(0), numbers, np.abs(numbers))

    @classmethod
    def join(cls, parts: Iterable[Expression]) -> Expression:
        """The rows of several expressions, one after another."""
        parts = [cls.of(np.zeros(0)), *parts]
        before = np.cumsum([0, *map(len, parts)])
        rows = [part.row + n for part, n in zip(parts, before, strict=False)]
        others = ([getattr(p, name) for p in parts] for name in ("column", "coefficient", "constant", "size"))
        return cls(np.concatenate(rows), *map(np.concatenate, others))

    def __len__(self) -> int:
        return len(self.constant)

    # Makes NumPy defer `numbers * expression` to `Expression.__rmul__`.
    __array_ufunc__ = None

    def __add__(self, other: Expression | ArrayLike) -> Expression:
        right = other if isinstance(other, Expression) else Expression.of(other)
        a, b = self._both(right)
        return Expression(
            np.concatenate([a.row, b.row]),
            np.concatenate([a.column, b.column]),
            np.concatenate([a.coefficient, b.coefficient]),
            a.constant + b.constant,
            a.size + b.size,
        )

    __radd__ = __add__

    def __mul__(self, factor: ArrayLike) -> Expression:
        numbers = np.atleast_1d(np.asarray(factor, dtype=float))
        a, _ = self._both(Expression.of(numbers))
        numbers = np.broadcast_to(numbers, len(a))
        return replace(
            a,
            coefficient=numbers[a.row] * a.coefficient,
            constant=numbers * a.constant,
            size=np.abs(numbers) * a.size,
        )

    __rmul__ = __mul__

    def __neg__(self) -> Expression:
        return -1.0 * self

    def __sub__(self, other: Expression | ArrayLike) -> Expression:
        return self + (-other if isinstance(other, Expression) else np.negative(other))

    def __rsub__(self, other: ArrayLike) -> Expression:
        return -self + other

    def __getitem__(self, index: Any) -> Expression:
        at = np.arange(len(self))[index].reshape(-1)
        order = np.argsort(self.row, kind="stable")
        starts = np.searchsorted(self.row[order], np.arange(len(self) + 1))
        counts = np.diff(starts)[at]
        first = np.repeat(starts[at] - (np.cumsum(counts) - counts), counts)
        taken = order[np.arange(len(first)) + first]
        row = np.repeat(np.arange(len(at)), counts)
        return Expression(row, self.column[taken], self.coefficient[taken], self.constant[at], self.size[at])

    def sum(self, groups: ArrayLike = 0, n: int = 1) -> Expression:
        """Sums of rows: row i is added to sum ``groups[i]`` of `n`; by default, one sum of all rows."""
        group = np.broadcast_to(np.asarray(groups, dtype=np.int64), len(self))
        constant, size = (_sums_of(group, numbers, n) for numbers in (self.constant, self.size))
        return Expression(group[self.row], self.column, self.coefficient, constant, size)

    @property
    def rounding(self) -> NDArray[np.float64]:
        """Upper bound on the rounding error of each row's value."""
        return OPERATIONS * UNIT * self.size

    def matrix(self, n_columns: int) -> sparse.csr_array:
        """The coefficients, shape (n_rows, n_columns)."""
        return sparse.csr_array((self.coefficient, (self.row, self.column)), shape=(len(self), n_columns))

    def _both(self, other: Expression) -> tuple[Expression, Expression]:
        """Broadcast two expressions to the same number of rows."""
        (n,) = np.broadcast_shapes((len(self),), (len(other),))
        a, b = (e if len(e) == n else e[np.zeros(n, dtype=np.int64)] for e in (self, other))
        return a, b


class Program:
    """A mixed-integer program over a choice space, to which metrics add variables and rows.

    Each allowed option has a 0/1 variable, which is 1 if the option is chosen. The option of a decision with only one
    allowed option is fixed and has no variable.

    Parameters
    ----------
    space : ChoiceSpace
    allowed : bool array of shape (n_options,), optional
        Allowed options, at least one for each decision.

    Attributes
    ----------
    open, fixed : ndarray of int
        Options with a variable, and options that are always chosen.
    first, row : ndarray of int
        For each decision with open options: the index of its first one in `open`. For each open option: the index of
        its decision in `first`.
    rows : list of Expression
        Constraints: each row is at most 0.

    Examples
    --------
    A switching cost of 2 for each pair of neighbouring decisions with different options:

    >>> space = ChoiceSpace.from_sizes([2, 2, 2])
    >>> program = Program(space)
    >>> second = program.chosen([1, 3, 5])
    >>> switched = program.variable([0, 0], [1, 1])
    >>> program.at_most(second[1:] - second[:-1] - switched)
    >>> program.at_most(second[:-1] - second[1:] - switched)
    >>> cost = 2 * switched.sum()
    >>> len(cost), program.n_columns, sum(map(len, program.rows))
    (1, 8, 4)
    """

    space: ChoiceSpace
    allowed: NDArray[np.bool_]
    open: NDArray[np.int64]
    fixed: NDArray[np.int64]
    first: NDArray[np.int64]
    row: NDArray[np.int64]
    reach: NDArray[np.float64]

    def __init__(self, space: ChoiceSpace, allowed: NDArray[np.bool_] | None = None) -> None:
        layout = space.layout
        self.space = space
        self.allowed = np.ones(space.n_options, dtype=bool) if allowed is None else allowed
        several = layout.spread(layout.reduce(np.add, self.allowed.astype(np.int64)) > 1)
        self.open, self.fixed = np.flatnonzero(self.allowed & several), np.flatnonzero(self.allowed & ~several)
        _, self.first, self.row = np.unique(layout.owner[self.open], return_index=True, return_inverse=True)
        self.reach = np.zeros(0)  # upper ends of the auxiliary variables: LARGEST, or 1 if binary
        self.rows: list[Expression] = []
        self.refused: tuple[Any, float] | None = None  # the first metric without a linear form, and the sign

    @property
    def n_columns(self) -> int:
        """Number of open options and auxiliary variables."""
        return len(self.open) + len(self.reach)

    # -- linear functions ---------------------------------------------------------------------------------------------

    def sum(self, values: Any, constant: float = 0.0) -> Expression:
        """The sum of the chosen options' values and a constant; one row per row of a matrix.

        Parameters
        ----------
        values : array-like of shape (n_options,), or dense or sparse matrix of shape (n_rows, n_options)
        constant : float
        """
        if np.shape(values)[-1:] != (self.space.n_options,):
            raise ValueError(
                f"values of a sum must have a number for each of {self.space.n_options} options, got shape "
                f"{np.shape(values)}"
            )
        if sparse.issparse(values) or np.ndim(values) == 2:
            return self._sums(sparse.csr_array(values, dtype=float)) + constant
        flat = np.asarray(values)
        fixed, numbers = flat[self.fixed].astype(float), flat[self.open].astype(float)
        total, size = fixed.sum() + constant, np.abs(fixed).sum() + abs(constant)
        if len(numbers):
            size += np.maximum.reduceat(np.abs(numbers), self.first).sum()
            least = np.minimum.reduceat(numbers, self.first)
            changes = numbers - least[self.row]
            # A large number common to all options of a decision does not distinguish them, so it is subtracted. A
            # small one is kept: with it, HiGHS finds the best selections of MMKP I07 sooner.
            if np.abs(changes).max() * SHARED < np.abs(numbers).max():
                numbers, total = changes, total + least.sum()
        columns = np.arange(len(self.open))
        return Expression(np.zeros_like(columns), columns, numbers, np.array([total]), np.array([size]))

    def _sums(self, matrix: sparse.csr_array) -> Expression:
        matrix.sum_duplicates()
        n = len(matrix.indptr) - 1
        row, option = np.repeat(np.arange(n), np.diff(matrix.indptr)), matrix.indices
        number = np.asarray(matrix.data, dtype=float)
        kept = self.allowed[option]
        row, option, number = row[kept], option[kept].astype(np.int64), number[kept]
        column = np.full(self.space.n_options, -1)
        column[self.open] = np.arange(len(self.open))
        column = column[option]
        fixed, open_ = column < 0, column >= 0
        constant = _sums_of(row[fixed], number[fixed], n)
        keys = row * self.space.n_decisions + self.space.layout.owner[option]
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        most = np.maximum.reduceat(np.abs(number), starts) if len(starts) else np.zeros(0)
        size = _sums_of(row[starts], most, n)
        return Expression(row[open_], column[open_], number[open_], constant, size)

    def chosen(self, options: ArrayLike) -> Expression:
        """One row per option: 1 if it is chosen, 0 otherwise.

        Parameters
        ----------
        options : int or array-like of int
            Options in the flat order of the space.
        """
        at = np.atleast_1d(np.asarray(options, dtype=np.int64))
        shape = (len(at), self.space.n_options)
        return self._sums(sparse.csr_array((np.ones(len(at)), at, np.arange(len(at) + 1)), shape=shape))

    # -- auxiliary variables and rows ---------------------------------------------------------------------------------

    def variable(self, low: ArrayLike, high: ArrayLike) -> Expression:
        """New continuous variables with finite bounds, one row each; with equal bounds, a constant.

        Raises
        ------
        ValueError
            If a bound is not finite.
        """
        low, high = np.broadcast_arrays(np.atleast_1d(np.asarray(low, dtype=float)), np.asarray(high, dtype=float))
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise ValueError(
                f"the ends of a variable must be finite, got {low.min()} and {high.max()}; Program.largest finds the "
                "ends of a variable that stands for a maximum"
            )
        wide = np.flatnonzero(high > low)
        columns, factors = self._columns(np.full(len(wide), LARGEST)), (high - low)[wide] / LARGEST
        size = np.maximum(np.abs(low), np.abs(high))
        return Expression(wide, columns, factors, np.where(high > low, low, high), size)

    def switch(self, n: int = 1) -> Expression:
        """New 0/1 variables, one row each."""
        return Expression(np.arange(n), self._columns(np.ones(n)), np.ones(n), np.zeros(n), np.ones(n))

    def _columns(self, reach: NDArray[np.float64]) -> NDArray[np.int64]:
        columns = self.n_columns + np.arange(len(reach))
        self.reach = np.concatenate([self.reach, reach])
        return columns

    def at_most(self, expression: Expression, bound: float = 0.0) -> None:
        """Add constraints: each row is at most `bound`."""
        self.rows.append(expression - bound if bound else expression)

    def largest(self, expression: Expression, low: float = -np.inf, high: float = np.inf) -> Expression:
        """One row that is at least as large as each given row; an epigraph variable if there are several.

        Parameters
        ----------
        expression : Expression
        low, high : float
            Known bounds on the largest row. Bounds that follow from the rows are used as well.
        """
        if len(expression) == 1:
            return expression
        lows, highs = self.range(expression)
        top = self.variable(max(low, lows.max()), min(high, highs.max()))
        self.at_most(expression - top)
        return top

    def range(self, expression: Expression) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper bounds of each row over all values of the variables."""
        matrix, n, n_open = expression.matrix(self.n_columns), len(expression), len(self.open)
        row, column = np.repeat(np.arange(n), np.diff(matrix.indptr)), matrix.indices
        option = column < n_open
        ends = matrix.data[~option] * self.reach[column[~option] - n_open]
        own, number = row[option], matrix.data[option]
        decision = self.row[column[option]]
        starts = np.flatnonzero(np.diff(own * (len(self.first) + 1) + decision, prepend=-1))
        # A row that lacks some options of a decision has coefficient 0 for them.
        sizes = np.diff(np.append(self.first, n_open))
        partial = np.diff(np.append(starts, len(own))) < sizes[decision[starts]]
        found = []
        for ufunc in (np.minimum, np.maximum):
            most = ufunc.reduceat(number, starts) if len(starts) else np.zeros(0)
            most = np.where(partial, ufunc(most, 0.0), most)
            total = _sums_of(own[starts], most, n) + _sums_of(row[~option], ufunc(ends, 0.0), n)
            found.append(expression.constant + total)
        return found[0] - expression.rounding, found[1] + expression.rounding

    # -- metrics ------------------------------------------------------------------------------------------------------

    def of(self, metric: Any, sign: float = 1.0) -> Expression | None:
        """Linear functions whose maximum is ``sign * metric``, or None if the metric has no linear form."""
        found = metric.expression(self, sign)
        if found is None:
            self.refused = self.refused or (metric, sign)
        elif not isinstance(found, Expression) or len(found) == 0:
            raise TypeError(f"expression of metric {metric.name!r} must return an Expression or None, got {found!r}")
        return found

    def linear(self, metric: Any, sign: float = 1.0) -> Expression | None:
        """One linear function for ``sign * metric``, valid if that is minimised or bounded from above."""
        found = self.of(metric, sign)
        if found is None or len(found) == 1:
            return found
        low, high = sorted(sign * end for end in metric.limits())
        return self.largest(found, low, high)

    def refusal(self) -> str:
        """Message that names the first metric without a linear form; empty if there is none."""
        if self.refused is None:
            return ""
        metric, sign = self.refused
        text = f"{metric.name!r} is a {type(metric).__name__}, which has no linear form"
        if metric.expression(Program(self.space), -sign) is None:
            return f"{text}; a metric says its linear form in its method `expression`"
        other = ("minimised", "bounded from above") if sign < 0 else ("maximised", "bounded from below")
        return f"{text} unless it is {other[0]} or {other[1]}"


def _sums_of(row: NDArray[np.int64], numbers: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Sum of the numbers in each of `n` rows."""
    return np.bincount(row, numbers, minlength=n).astype(float)
