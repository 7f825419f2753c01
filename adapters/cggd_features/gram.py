"""Products of columns with each other and with the target, from which any subset of features is fitted.

The columns are centred and of length 1; G and T are those of `cggd_features.least_squares`.

Products of columns lose what two nearly equal columns differ in: of a difference of 1e-5, its square, 1e-10, is left
with six digits, and of 1e-8 nothing. So T comes from the Cholesky factor of G only where that is well conditioned, and
otherwise from a QR factor of the columns themselves (`Columns`), which are kept where G needs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from scipy.linalg import get_lapack_funcs

# The square of what is left of a column of length 1, once others are known. Products of columns hold it to 1e-15, so
# that above CLEAR it has eleven digits. Below COLLINEAR it has six or fewer, and counts as nothing where products are
# all there is. Where the columns themselves are at hand, it counts as nothing below NOISE, which is the rounding of
# their entries, and is accurate above DECIDED; between the two nobody can say whether a column adds anything.
CLEAR = 1e-4
COLLINEAR = 1e-9
DECIDED = 1e-20
NOISE = 1e-27

# A column of length 1 that varies by less than this is constant: 50 times the rounding of its entries. Where products
# are all that is known of it, the rounding of those is what counts.
CONSTANT = 1e-14
CONSTANT_PRODUCTS = 1e-6

# Up to so many columns they are kept themselves where products cannot tell them apart: a QR factor of 400 columns and
# 5,000 samples takes 0.15 s.
MOST_EXACT = 400

# Samples that are made dense at a time.
CHUNK = 4_096

# Magnitudes of data, the squares of which are summed.
SMALLEST, LARGEST = 1e-130, 1e130

# By name, since their module declares none of them.
cholesky, pivoted_cholesky, solve_cholesky = get_lapack_funcs(("potrf", "pstrf", "potrs"), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Columns:
    """The columns and the outputs that a Gram matrix has the products of, in as few rows as hold them.

    Attributes
    ----------
    matrix : ndarray of shape (n_rows, n_columns)
    target : ndarray of shape (n_rows, n_outputs)
    """

    matrix: NDArray[np.float64]
    target: NDArray[np.float64]

    def factor(self, inside: NDArray[np.int64]) -> tuple[NDArray, NDArray, NDArray[np.int64], bool]:
        """A QR factor of some columns: Q, R, the places of the independent ones, and whether it is sure which are."""
        found: Any = linalg.qr(self.matrix[:, inside], mode="economic", pivoting=True, check_finite=False)
        q, r, order = found
        sizes = np.diag(r) ** 2
        rank = int((sizes > NOISE).sum())
        return q[:, :rank], r[:rank, :rank], order[:rank], not ((sizes > NOISE) & (sizes < DECIDED)).any()


@dataclass(frozen=True, eq=False)
class Gram:
    """Products of columns with each other and with the target, the columns of each variable made orthonormal.

    Attributes
    ----------
    matrix : ndarray of shape (n_columns, n_columns)
        Of columns of length 1, the ridge penalty included.
    target : ndarray of shape (n_columns, n_outputs)
        Products with outputs, each scaled so that what they explain adds up to R^2, averaged over outputs.
    columns : list of ndarray of int
        Columns of each variable, none where all of its columns are constant.
    total : float
        Sum of squares of the outputs, averaged over them; centred where there is an intercept.
    stretch : float
        What `total` is of the centred sum of squares, 1 where there is an intercept; see `score`.
    exact : Columns or None
        The columns, where products do not hold all subsets of them precisely and they are few.
    doubtful : bool array of shape (n_variables,), or None
        Variables of several columns of which it is not certain which add something to the others.
    """

    matrix: NDArray[np.float64]
    target: NDArray[np.float64]
    columns: Sequence[NDArray[np.int64]]
    total: float = 1.0
    stretch: float = 1.0
    exact: Columns | None = None
    doubtful: NDArray[np.bool_] | None = None

    @classmethod
    def of(
        cls,
        X: Any,
        y: NDArray[np.float64],
        columns: Sequence[NDArray[np.int64]],
        *,
        weights: NDArray[np.float64] | None = None,
        alpha: float = 0.0,
        intercept: bool = True,
        pooled: bool = False,
    ) -> Gram:
        """From data.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
        y : ndarray of shape (n_samples, n_outputs)
        columns : list of ndarray of int
            The columns of X that each variable has.
        weights : ndarray of shape (n_samples,), optional
        alpha : float
            Ridge penalty, of the columns as they are.
        intercept : bool
        pooled : bool
            Measure all outputs in the same unit, so that the value is the share of their total sum of squares.
        """
        _check_magnitude(X, "X")
        _check_magnitude(y, "y")
        data = _Data(X, y, np.ones(len(y)) if weights is None else weights, intercept)
        total, stretch = data.totals
        total = np.full_like(total, total.mean()) if pooled else total
        scale = np.sqrt(np.where(total > 0, total, 1.0) * stretch.sum())
        scale = np.where(total > 0, scale * np.sqrt(1.0 / stretch), np.inf)
        known = {"total": float(total.mean()), "stretch": float(stretch.mean())}
        few = X.shape[1] <= MOST_EXACT
        if not (few and sparse.issparse(X) and intercept):  # where a mean is taken off, sparse products cancel
            matrix, target, constant = data.products()
            made = cls.from_products(matrix, target / scale, columns, alpha, constant)
            if not few or made.clear:
                return replace(made, **known)
        rows, target, constant = data.rows()
        return replace(cls.from_rows(rows, target / scale, columns, alpha, constant), **known)

    @classmethod
    def from_products(
        cls,
        matrix: NDArray[np.float64],
        target: NDArray[np.float64],
        columns: Sequence[NDArray[np.int64]],
        alpha: float = 0.0,
        constant: NDArray[np.bool_] | None = None,
    ) -> Gram:
        """From products of columns, some of which may be constant."""
        spread = np.diag(matrix).copy()
        constant = spread <= 0 if constant is None else constant
        matrix = matrix.copy()
        doubtful = None
        if all(len(c) == 1 for c in columns) and not constant.any():
            order = np.concatenate(columns)
            if not np.array_equal(order, np.arange(len(matrix))):
                matrix, target = matrix[np.ix_(order, order)], target[order]
            counts = np.ones(len(columns), dtype=np.int64)
        else:
            if alpha == 0:  # then units of columns do not matter, and shall not
                length = 1.0 / np.sqrt(np.where(constant, 1.0, spread))
                matrix, target = matrix * length * length[:, None], target * length[:, None]
            matrix, target, counts, doubtful = _rotated(matrix, target, columns, constant)
        matrix.flat[:: len(matrix) + 1] += alpha
        length = 1.0 / np.sqrt(np.diag(matrix))
        matrix *= length
        matrix *= length[:, None]
        return cls(matrix, target * length[:, None], _places(counts), doubtful=doubtful)

    @classmethod
    def from_rows(
        cls,
        rows: NDArray[np.float64],
        target: NDArray[np.float64],
        columns: Sequence[NDArray[np.int64]],
        alpha: float,
        constant: NDArray[np.bool_],
    ) -> Gram:
        """From centred columns and outputs, some of which may be constant."""
        if alpha == 0:
            rows = rows / np.where(constant, 1.0, np.linalg.norm(rows, axis=0))
        parts, doubtful = [], np.zeros(len(columns), dtype=bool)
        for variable, own in enumerate(columns):
            part = rows[:, own[~constant[own]]]
            if part.shape[1] > 1:
                turned, sizes, _ = np.linalg.svd(part, full_matrices=False)
                shares = (sizes / sizes[0]) ** 2
                kept = shares > NOISE
                doubtful[variable] = (shares[kept] < DECIDED).any()
                part = turned[:, kept] * sizes[kept]
            parts.append(part)
        turned = np.concatenate([rows[:, :0], *parts], axis=1)
        if alpha > 0:  # as samples of their own, on which the outputs are 0
            turned = np.concatenate([turned, np.sqrt(alpha) * np.eye(turned.shape[1])])
            target = np.concatenate([target, np.zeros((turned.shape[1], target.shape[1]))])
        turned = turned / np.linalg.norm(turned, axis=0)
        counts = np.array([part.shape[1] for part in parts])
        exact = Columns(turned, target)
        return cls(turned.T @ turned, turned.T @ target, _places(counts), exact=exact, doubtful=doubtful)

    @cached_property
    def clear(self) -> bool:
        """Whether products hold every subset precisely: each column has more than `CLEAR` left beside all others."""
        if self.doubtful is not None and self.doubtful.any():
            return False
        if len(self.matrix) == 0:
            return True
        factor, failed = cholesky(self.matrix, lower=0, clean=1)
        return failed == 0 and bool(np.diag(factor).min() ** 2 > CLEAR)

    @property
    def nothing(self) -> float:
        """What is left of a column that adds nothing to others is below this."""
        return COLLINEAR if self.exact is None else NOISE

    def score(self, value: float) -> float:
        """R^2 as scikit-learn has it, about the mean of the outputs even where the model has no intercept."""
        return value if self.stretch == 1 else 1.0 - (1.0 - value) * self.stretch

    @cached_property
    def owner(self) -> NDArray[np.int64]:
        """The variable of each column, shape (n_columns,)."""
        return np.repeat(np.arange(len(self.columns)), [len(c) for c in self.columns])

    @cached_property
    def classes(self) -> Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Variables of one number of columns together: the variables, and their columns, shape (n, n_columns_each)."""
        sizes = np.array([len(c) for c in self.columns], dtype=np.int64)
        found = []
        for size in np.unique(sizes[sizes > 0]).tolist():
            variables = np.flatnonzero(sizes == size)
            found.append((variables, np.stack([self.columns[v] for v in variables.tolist()])))
        return found

    def columns_of(self, selected: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Columns of the selected variables."""
        chosen = [self.columns[v] for v in np.flatnonzero(selected).tolist()]
        return np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.int64)

    def explained(self, selected: NDArray[np.bool_]) -> float:
        """R^2 of the least-squares fit on the selected variables, shape (n_variables,)."""
        return self.measured(selected)[0]

    def measured(self, selected: NDArray[np.bool_]) -> tuple[float, bool]:
        """R^2, and whether it is certain which of the selected columns add something to the others."""
        inside = self.columns_of(selected)
        sure = self.doubtful is None or not self.doubtful[selected].any()
        factor, order, clear = factor_of(self.matrix, inside)
        if not clear and self.exact is not None:
            q, _, _, decided = self.exact.factor(inside)
            return float(((q.T @ self.exact.target) ** 2).sum()), sure and decided
        if len(order) == 0:
            return 0.0, sure
        target = self.target[inside[order]]
        return float((target * solved(factor, target)).sum()), sure and clear


def _places(counts: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Numbers of the columns of each variable, from how many it has."""
    ends = np.cumsum(counts)
    return [np.arange(end - count, end) for end, count in zip(ends.tolist(), counts.tolist(), strict=True)]


def factor_of(
    matrix: NDArray[np.float64], inside: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], bool]:
    """Upper Cholesky factor of the columns inside that are independent, the places of those, and whether all are."""
    if len(inside) == 0:
        return np.zeros((0, 0)), inside, True
    part = matrix[np.ix_(inside, inside)]
    factor, failed = cholesky(part, lower=0, clean=1)
    least = np.diag(factor).min() ** 2 if failed == 0 else 0.0
    if least > COLLINEAR:
        return factor, np.arange(len(inside)), bool(least > CLEAR)
    factor, order, rank, _ = pivoted_cholesky(part, lower=0, tol=COLLINEAR)
    return np.triu(factor[:rank, :rank]), order[:rank] - 1, False


def solved(factor: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solution of ``factor' factor x = right``; OpenBLAS waits on threads in trtrs and potri, even for 10 rows."""
    return solve_cholesky(factor, right, lower=0)[0] if len(factor) else right


def _check_magnitude(data: Any, argument: str) -> None:
    """That squares of numbers, and sums of them, are numbers."""
    largest = max(float(data.max()), -float(data.min())) if data.size else 0.0
    if largest != 0 and not SMALLEST < largest < LARGEST:
        raise ValueError(
            f"{argument} must be of magnitudes between {SMALLEST:g} and {LARGEST:g}, got {largest:g}; change its unit"
        )


@dataclass(frozen=True, eq=False)
class _Data:
    """Data of a weighted fit, with the means taken off where there is an intercept."""

    X: Any
    y: NDArray[np.float64]
    weights: NDArray[np.float64]
    intercept: bool

    @cached_property
    def root(self) -> NDArray[np.float64]:
        return np.sqrt(self.weights)[:, None]

    @cached_property
    def centre(self) -> NDArray[np.float64]:
        """Means of the columns, or 0."""
        if not self.intercept:
            return np.zeros(self.X.shape[1])
        return np.asarray(self.X.T @ (self.weights / self.weights.sum())).ravel()

    @cached_property
    def outputs(self) -> NDArray[np.float64]:
        """Outputs as they are fitted; those that do not vary are 0."""
        Y = self._centred(self.y) * self.root if self.intercept else self.y * self.root
        constant = (Y**2).sum(axis=0) <= CONSTANT**2 * ((self.y * self.root) ** 2).sum(axis=0)
        return np.where(constant, 0.0, Y)

    @cached_property
    def totals(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sums of squares of the outputs as they are fitted, and what they are of the centred ones."""
        total = (self.outputs**2).sum(axis=0)
        centred = ((self._centred(self.y) * self.root) ** 2).sum(axis=0)
        varied = centred > CONSTANT**2 * ((self.y * self.root) ** 2).sum(axis=0)
        return total, np.where(self.intercept | ~varied, 1.0, total / np.where(varied, centred, 1.0))

    def _centred(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Without the means; the second time takes off what rounding left of them."""
        share = self.weights / self.weights.sum()
        numbers = numbers - share @ numbers
        numbers -= share @ numbers
        return numbers

    def products(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Products of columns, with the outputs, and which columns are constant."""
        if sparse.issparse(self.X):
            Z = sparse.csc_array(self.X, dtype=float).multiply(self.root).tocsc()
            matrix = (Z.T @ Z).toarray()
            sizes = np.diag(matrix).copy()
            matrix -= self.weights.sum() * np.outer(self.centre, self.centre)
            return matrix, Z.T @ self.outputs, np.diag(matrix) <= CONSTANT_PRODUCTS**2 * sizes
        if self.intercept and isinstance(self.X, np.ndarray) and self.X.dtype == float:
            # Means no larger than deviations are taken off the products, which keep their digits; this saves copies.
            Z = self.X if (self.weights == 1).all() else self.X * self.root
            sizes, off = np.einsum("ij,ij->j", Z, Z), self.weights.sum() * self.centre**2
            if (2 * off <= sizes).all() and (sizes > 0).all():
                matrix = Z.T @ Z
                matrix -= self.weights.sum() * np.outer(self.centre, self.centre)
                return matrix, Z.T @ self.outputs, self._constant(np.diag(matrix))
        Z = self._dense(slice(None))
        matrix = Z.T @ Z
        return matrix, Z.T @ self.outputs, self._constant(np.diag(matrix))

    def rows(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Columns and outputs in as many rows as there are of both, by QR factors, and which columns are constant."""
        n, p = self.X.shape
        size = max(CHUNK, 4 * (p + self.y.shape[1])) if sparse.issparse(self.X) else n
        rows: NDArray[np.float64] = np.zeros((0, p + self.y.shape[1]))
        for first in range(0, n, size):
            part = slice(first, first + size)
            rows = np.concatenate([rows, np.column_stack([self._dense(part), self.outputs[part]])])
            if len(rows) > rows.shape[1]:
                rows = np.asarray(np.linalg.qr(rows, mode="r"))
        return rows[:, :p], rows[:, p:], self._constant((rows[:, :p] ** 2).sum(axis=0))

    def _dense(self, part: slice) -> NDArray[np.float64]:
        """Some samples as they are fitted; of sparse data the mean is that of all samples as far as it is known."""
        Z = self.X[part].toarray() if sparse.issparse(self.X) else np.asarray(self.X[part], dtype=float)
        if self.intercept:
            Z = Z - self.centre if sparse.issparse(self.X) else self._centred(Z)
        return Z if (self.weights == 1).all() else Z * self.root[part]

    def _constant(self, spread: NDArray[np.float64]) -> NDArray[np.bool_]:
        return spread <= CONSTANT**2 * (spread + self.weights.sum() * self.centre**2)


def _rotated(
    matrix: NDArray[np.float64],
    target: NDArray[np.float64],
    columns: Sequence[NDArray[np.int64]],
    constant: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """Products of the principal directions of each variable, how many there are, and where products do not tell."""
    blocks, counts, doubtful = [], [], np.zeros(len(columns), dtype=bool)
    for variable, own in enumerate(columns):
        varied = own[~constant[own]]
        sizes, directions = np.linalg.eigh(matrix[np.ix_(varied, varied)])
        shares = sizes / max(float(sizes.max(initial=0.0)), 1e-300)
        doubtful[variable] = (shares < CLEAR).any()
        kept = shares > COLLINEAR
        blocks.append((varied, directions[:, kept]))
        counts.append(int(kept.sum()))
    where = np.concatenate([varied for varied, _ in blocks]).astype(np.int64)
    turn = sparse.block_diag([sparse.coo_array(part) for _, part in blocks], format="csr")
    if sum(counts) == 0:
        return np.zeros((0, 0)), np.zeros((0, target.shape[1])), np.array(counts), doubtful
    half = turn.T @ matrix[np.ix_(where, where)]
    return np.ascontiguousarray((turn.T @ half.T).T), turn.T @ target[where], np.array(counts), doubtful
