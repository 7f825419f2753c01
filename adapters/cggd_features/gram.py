"""Gram matrix: products of columns with each other and with the target, from which any subset of features is fitted.

The columns are centred and of length 1; G and T are defined in `cggd_features.least_squares`.

The Gram matrix loses digits of the difference between two nearly equal columns: a difference of 1e-5 enters as its
square, 1e-10, with six digits left, and one of 1e-8 is lost. So T comes from the Cholesky factor of G only if that is
well conditioned, and otherwise from a QR factor of the columns (`Columns`), which are stored if G is too inaccurate.
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

# Thresholds for the squared norm that remains of a column of length 1 after projection on others. The Gram matrix has
# it to 1e-15, so it has eleven digits above CLEAR. Below COLLINEAR it has at most six, and counts as 0 if only the Gram
# matrix is known. If the columns are stored, it counts as 0 below NOISE, the rounding of their entries, and is accurate
# above DECIDED; in between, rounding hides whether a column adds anything.
CLEAR = 1e-4
COLLINEAR = 1e-9
DECIDED = 1e-20
NOISE = 1e-27

# A column of length 1 that varies by less than this is constant: 50 times the rounding of its entries. If only products
# are known, their rounding decides.
CONSTANT = 1e-14
CONSTANT_PRODUCTS = 1e-6

# Up to this many columns are stored if the Gram matrix is inaccurate: a QR factor of 400 columns and 5,000 samples
# takes 0.15 s.
MOST_EXACT = 400

# Sparse samples that are made dense at a time.
CHUNK = 4_096

# Magnitudes of data whose squares can be summed.
SMALLEST, LARGEST = 1e-130, 1e130

# Looked up by name, since type checkers do not find them in scipy.linalg.lapack.
cholesky, pivoted_cholesky, solve_cholesky = get_lapack_funcs(("potrf", "pstrf", "potrs"), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Columns:
    """The columns and outputs of a Gram matrix, reduced to as few rows as possible.

    Attributes
    ----------
    matrix : ndarray of shape (n_rows, n_columns)
    target : ndarray of shape (n_rows, n_outputs)
    """

    matrix: NDArray[np.float64]
    target: NDArray[np.float64]

    def factor(self, inside: NDArray[np.int64]) -> tuple[NDArray, NDArray, NDArray[np.int64], bool]:
        """QR factor of some columns: Q, R, the indices of independent columns, and whether these are sure."""
        found: Any = linalg.qr(self.matrix[:, inside], mode="economic", pivoting=True, check_finite=False)
        q, r, order = found
        sizes = np.diag(r) ** 2
        rank = int((sizes > NOISE).sum())
        return q[:, :rank], r[:rank, :rank], order[:rank], not ((sizes > NOISE) & (sizes < DECIDED)).any()


@dataclass(frozen=True, eq=False)
class Gram:
    """Products of columns with each other and with the target; the columns of each variable are made orthonormal.

    Attributes
    ----------
    matrix : ndarray of shape (n_columns, n_columns)
        Products of columns of length 1, including the ridge penalty.
    target : ndarray of shape (n_columns, n_outputs)
        Products with the outputs, which are scaled so that explained sums of squares add up to R^2, averaged over
        outputs.
    columns : list of ndarray of int
        Columns of each variable; empty if all of its columns are constant.
    total : float
        Sum of squares of the outputs, averaged over them; centred if there is an intercept.
    stretch : float
        Ratio of `total` to the centred sum of squares; 1 if there is an intercept. See `score`.
    exact : Columns or None
        The columns, if the Gram matrix is too inaccurate for some subset and there are few columns.
    doubtful : bool array of shape (n_variables,), or None
        Variables of several columns for which rounding hides which columns add something to the others.
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
        """The Gram matrix of data.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
        y : ndarray of shape (n_samples, n_outputs)
        columns : list of ndarray of int
            Columns of X of each variable.
        weights : ndarray of shape (n_samples,), optional
        alpha : float
            Ridge penalty, for columns in their original scale.
        intercept : bool
        pooled : bool
            Scale all outputs alike, so that R^2 is the explained share of their total sum of squares.
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
        if not (few and sparse.issparse(X) and intercept):  # subtracting means from sparse products loses digits
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
        """The Gram matrix from products of columns, which it overwrites; some columns may be constant."""
        spread = np.diag(matrix).copy()
        constant = spread <= 0 if constant is None else constant
        doubtful = None
        if all(len(c) == 1 for c in columns) and not constant.any():
            order = np.concatenate(columns)
            if not np.array_equal(order, np.arange(len(matrix))):
                matrix, target = matrix[np.ix_(order, order)], target[order]
            counts = np.ones(len(columns), dtype=np.int64)
        else:
            if alpha == 0:  # without a penalty, the scale of columns must not matter
                length = 1.0 / np.sqrt(np.where(constant, 1.0, spread))
                matrix, target = matrix * length * length[:, None], target * length[:, None]
            matrix, target, counts, doubtful = _rotated(matrix, target, columns, constant)
        matrix.flat[:: len(matrix) + 1] += alpha
        length = 1.0 / np.sqrt(np.diag(matrix))
        matrix *= length
        matrix *= length[:, None]
        return cls(matrix, target * length[:, None], places_of(counts), doubtful=doubtful)

    @classmethod
    def from_rows(
        cls,
        rows: NDArray[np.float64],
        target: NDArray[np.float64],
        columns: Sequence[NDArray[np.int64]],
        alpha: float,
        constant: NDArray[np.bool_],
    ) -> Gram:
        """The Gram matrix of centred columns and outputs; some columns may be constant."""
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
        if alpha > 0:  # the ridge penalty as additional samples with outputs of 0
            turned = np.concatenate([turned, np.sqrt(alpha) * np.eye(turned.shape[1])])
            target = np.concatenate([target, np.zeros((turned.shape[1], target.shape[1]))])
        turned = turned / np.linalg.norm(turned, axis=0)
        counts = np.array([part.shape[1] for part in parts])
        exact = Columns(turned, target)
        return cls(turned.T @ turned, turned.T @ target, places_of(counts), exact=exact, doubtful=doubtful)

    @cached_property
    def clear(self) -> bool:
        """Whether the Gram matrix is accurate for every subset: more than `CLEAR` remains of each column."""
        if self.doubtful is not None and self.doubtful.any():
            return False
        if len(self.matrix) == 0:
            return True
        factor, failed = cholesky(self.matrix, lower=0, clean=1)
        return failed == 0 and bool(np.diag(factor).min() ** 2 > CLEAR)

    @property
    def nothing(self) -> float:
        """A column adds nothing to others if less than this remains of it."""
        return COLLINEAR if self.exact is None else NOISE

    def score(self, value: float) -> float:
        """R^2 as in scikit-learn: relative to the mean of the outputs even if the model has no intercept."""
        return value if self.stretch == 1 else 1.0 - (1.0 - value) * self.stretch

    @cached_property
    def owner(self) -> NDArray[np.int64]:
        """The variable of each column, shape (n_columns,)."""
        return np.repeat(np.arange(len(self.columns)), [len(c) for c in self.columns])

    @cached_property
    def classes(self) -> Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Variables grouped by number of columns: the variables, and their columns, shape (n, n_columns_each)."""
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

    def among(self, kept: NDArray[np.int64]) -> Gram:
        """The Gram matrix of some variables."""
        columns = [self.columns[v] for v in kept.tolist()]
        at = np.concatenate(columns)
        return replace(
            self,
            matrix=self.matrix[np.ix_(at, at)],
            target=self.target[at],
            columns=places_of(np.array([len(own) for own in columns])),
            exact=None if self.exact is None else replace(self.exact, matrix=self.exact.matrix[:, at]),
            doubtful=None if self.doubtful is None else self.doubtful[kept],
        )

    def explained(self, selected: NDArray[np.bool_]) -> float:
        """R^2 of the least-squares fit on the selected variables, shape (n_variables,)."""
        return self.measured(selected)[0]

    def measured(self, selected: NDArray[np.bool_]) -> tuple[float, bool]:
        """R^2, and whether it is sure which of the selected columns add something to the others."""
        _, _, effects, _, sure, _, _ = self.factored(selected)
        return float((effects**2).sum()), sure

    def factored(
        self, selected: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray, NDArray, bool, bool, bool, NDArray | None]:
        """The least-squares fit on the selected variables, shape (n_variables,).

        Returns
        -------
        inside : ndarray of int, shape (s,)
            The columns X_S in the fit; combinations of others are left out.
        basis : ndarray of shape (s, s)
            T: the columns of ``X_S T`` are orthonormal.
        effects : ndarray of shape (s, n_outputs)
            Products of the orthonormal columns with the outputs.
        clear : bool
            Whether more than `CLEAR` remains of each column after projection on those before it.
        sure : bool
            Whether it is sure which columns add something to others.
        dependent : bool
            Whether some selected columns are combinations of other selected ones.
        orthonormal : ndarray of shape (n_rows, s), or None
            ``X_S T``, if it was computed from the stored columns.
        """
        every, q = self.columns_of(selected), None
        sure = self.doubtful is None or not self.doubtful[selected].any()
        factor, order, clear = factor_of(self.matrix, every)
        decided = clear
        if not clear and self.exact is not None:
            q, factor, order, decided = self.exact.factor(every)
            basis = linalg.solve_triangular(factor, np.eye(len(factor)), check_finite=False)
            effects = q.T @ self.exact.target
        else:
            basis = solved(factor, factor.T)  # the inverse of the factor
            effects = basis.T @ self.target[every[order]]
        return every[order], basis, effects, clear, sure and decided, len(order) < len(every), q


def places_of(counts: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Column numbers of each variable, from its number of columns."""
    ends = np.cumsum(counts)
    return [np.arange(end - count, end) for end, count in zip(ends.tolist(), counts.tolist(), strict=True)]


def factor_of(
    matrix: NDArray[np.float64], inside: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], bool]:
    """Upper Cholesky factor of the independent columns, their indices, and whether all are clearly independent."""
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
    """Solve ``factor' factor x = right`` by potrs; OpenBLAS waits on threads in trtrs and potri, even for 10 rows."""
    return solve_cholesky(factor, right, lower=0)[0] if len(factor) else right


def _check_magnitude(data: Any, argument: str) -> None:
    """Raise an error if sums of squares would overflow or underflow."""
    largest = max(float(data.max()), -float(data.min())) if data.size else 0.0
    if largest != 0 and not SMALLEST < largest < LARGEST:
        raise ValueError(
            f"{argument} must be of magnitudes between {SMALLEST:g} and {LARGEST:g}, got {largest:g}; change its unit"
        )


@dataclass(frozen=True, eq=False)
class _Data:
    """Data of a weighted fit, centred if there is an intercept."""

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
        """Weighted, centred outputs; those that do not vary are 0."""
        Y = self._centred(self.y) * self.root if self.intercept else self.y * self.root
        constant = (Y**2).sum(axis=0) <= CONSTANT**2 * ((self.y * self.root) ** 2).sum(axis=0)
        return np.where(constant, 0.0, Y)

    @cached_property
    def totals(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sums of squares of the outputs, and their ratios to the centred sums of squares."""
        total = (self.outputs**2).sum(axis=0)
        centred = ((self._centred(self.y) * self.root) ** 2).sum(axis=0)
        varied = centred > CONSTANT**2 * ((self.y * self.root) ** 2).sum(axis=0)
        return total, np.where(self.intercept | ~varied, 1.0, total / np.where(varied, centred, 1.0))

    def _centred(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Subtract the means, twice to remove rounding errors of the first time."""
        share = self.weights / self.weights.sum()
        numbers = numbers - share @ numbers
        numbers -= share @ numbers
        return numbers

    def products(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Products of columns with each other and with the outputs, and which columns are constant."""
        if sparse.issparse(self.X):
            Z = sparse.csc_array(self.X, dtype=float).multiply(self.root).tocsc()
            matrix = (Z.T @ Z).toarray()
            sizes = np.diag(matrix).copy()
            matrix -= self.weights.sum() * np.outer(self.centre, self.centre)
            return matrix, Z.T @ self.outputs, np.diag(matrix) <= CONSTANT_PRODUCTS**2 * sizes
        if self.intercept and isinstance(self.X, np.ndarray) and self.X.dtype == float:
            # If means are no larger than deviations, subtracting them from products keeps the digits and saves copies.
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
        """Columns and outputs reduced by QR to at most as many rows as columns, and which columns are constant."""
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
        """Some samples, weighted and centred; chunks of sparse data use the means over all samples."""
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
    """Products of each variable's principal directions, their number, and variables where rounding hides it."""
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
