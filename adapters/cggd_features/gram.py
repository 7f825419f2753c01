"""Least squares on any subset of features, from the Gram matrix alone: values, and what each switch and swap would do.

With the columns centred and of length 1, G their Gram matrix and c their products with the target, a subset S explains
``c_S' inv(G_SS) c_S`` of the target's sum of squares. Let ``K = inv(G_SS)``, ``b = K c_S``, ``U = K G_S.``; then with
the residuals ``r = c - U' c_S`` and ``D = G - U' G_S.``

- a block j of columns added explains ``r_j' inv(D_jj) r_j`` more,
- a block i dropped explains ``b_i' inv(K_ii) b_i`` less,
- after dropping i, ``r + U_i' inv(K_ii) b_i`` and ``D + U_i' inv(K_ii) U_i`` take the places of r and D,

so that all additions, all removals and all swaps cost O(s^2 p) together, without a refit (Goodnight, 1979, on the sweep
operator; Furnival & Wilson, 1974). A ridge penalty adds alpha to the diagonal of G before it is scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import get_lapack_funcs

from cggd import ChoiceSpace, Metric
from cggd_features.fit import COLLINEAR, Fit

# A column whose variation is below this share of its size is constant, but for rounding.
CONSTANT = 1e-12

# Magnitudes of data, the squares of which are summed.
SMALLEST, LARGEST = 1e-130, 1e130

# By name, since their module declares none of them.
cholesky, pivoted_cholesky, solve_cholesky = get_lapack_funcs(("potrf", "pstrf", "potrs"), dtype=np.float64)

# A fit that differs by more variables than this is computed anew, and so is one after so many updates, since rounding
# adds up.
NEARBY = 4
UPDATES = 50


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
        Sum of squares of the centred outputs, averaged over them: R^2 is measured in it.
    """

    matrix: NDArray[np.float64]
    target: NDArray[np.float64]
    columns: Sequence[NDArray[np.int64]]
    total: float = 1.0

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
        """
        _check_magnitude(X, "X")
        _check_magnitude(y, "y")
        matrix, target, sizes = _products(X, y, weights, intercept=intercept)
        total = sizes[1]
        scale = np.sqrt(np.where(total > 0, total, 1.0) * y.shape[1])
        made = cls.from_products(matrix, np.where(total > 0, target / scale, 0.0), columns, alpha, sizes[0])
        return replace(made, total=float(total.mean()))

    @classmethod
    def from_products(
        cls,
        matrix: NDArray[np.float64],
        target: NDArray[np.float64],
        columns: Sequence[NDArray[np.int64]],
        alpha: float = 0.0,
        sizes: NDArray[np.float64] | None = None,
    ) -> Gram:
        """From products of columns; `sizes`, of columns before they were centred, say which are constant."""
        spread = np.diag(matrix).copy()
        constant = spread <= CONSTANT * (spread if sizes is None else sizes)
        if all(len(c) == 1 for c in columns) and not constant.any():
            order = np.concatenate(columns)
            if np.array_equal(order, np.arange(len(matrix))):
                matrix = matrix.copy() if sizes is None else matrix
            else:
                matrix, target = matrix[np.ix_(order, order)], target[order]
            counts = np.ones(len(columns), dtype=np.int64)
        else:
            if alpha == 0:  # then units of columns do not matter, and shall not
                length = 1.0 / np.sqrt(np.where(constant, 1.0, spread))
                matrix, target = matrix * length * length[:, None], target * length[:, None]
            matrix, target, counts = _rotated(matrix, target, columns, constant)
        matrix.flat[:: len(matrix) + 1] += alpha
        length = 1.0 / np.sqrt(np.diag(matrix))
        matrix *= length
        matrix *= length[:, None]
        ends = np.cumsum(counts)
        places = [np.arange(end - count, end) for end, count in zip(ends, counts, strict=True)]
        return cls(matrix, target * length[:, None], places)

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
        inside = self.columns_of(selected)
        factor, order = _factor(self.matrix, inside)
        if len(order) == 0:
            return 0.0
        target = self.target[inside[order]]
        return float((target * _solved(factor, target)).sum())

    def at(self, selected: NDArray[np.bool_]) -> Fit:
        """The fit on the selected variables, shape (n_variables,), and what each change of them would do."""
        every = self.columns_of(selected)
        factor, order = _factor(self.matrix, every)
        inside = every[order]
        rows = self.matrix[inside]
        inverse = _solved(factor, np.eye(len(inside)))
        coef = inverse @ self.target[inside]
        effect = inverse @ rows
        left = []
        for _, columns in self.classes:
            if columns.shape[1] == 1:
                at = columns[:, 0]
                whole = self.matrix[at, at] - np.einsum("sv,sv->v", rows[:, at], effect[:, at])
                left.append(whole[:, None, None])
            else:
                taken = np.einsum("svi,svj->vij", rows[:, columns], effect[:, columns], optimize=True)
                left.append(self.matrix[columns[:, :, None], columns[:, None, :]] - taken)
        return Fit(
            gram=self,
            selected=selected.copy(),
            inside=inside,
            inverse=inverse,
            coef=coef,
            residual=self.target - rows.T @ coef,
            left=left,
            dependent=len(inside) < len(every),
        )


@dataclass(frozen=True, eq=False, repr=False)
class Explained(Metric):
    """R^2 of the least-squares fit on the selected variables, with the closed forms as its replacement table.

    Parameters
    ----------
    space : ChoiceSpace
        One decision per variable, with the options 0 (out) and 1 (in).
    gram : Gram
    """

    space: ChoiceSpace
    gram: Gram
    name: str = field(default="R^2", kw_only=True)
    unit: str = field(default="", kw_only=True)
    _last: list[tuple[Fit, int]] = field(init=False, default_factory=list)

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([self.gram.explained(row.astype(bool)) for row in selections])

    def replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        fit = self._fit(selection.astype(bool))
        if fit.dependent:
            return Metric.replacements(self, selection)
        table = np.full((len(selection), 2), fit.value)
        table[:, 0] -= fit.losses
        table[:, 1] += fit.gains
        return table.ravel()

    def _fit(self, selected: NDArray[np.bool_]) -> Fit:
        """The fit on a selection; the last one, updated, where few variables differ from it."""
        if self._last:
            fit, updates = self._last[0]
            changed = np.flatnonzero(fit.selected != selected).tolist()
            if len(changed) <= NEARBY and updates + len(changed) <= UPDATES:
                for variable in changed:
                    fit = fit.minus(variable) if fit.selected[variable] else fit.plus(variable)
                self._last[0] = fit, updates + len(changed)
                return fit
        fit = self.gram.at(selected)
        self._last[:] = [(fit, 0)]
        return fit

    def limits(self) -> tuple[float, float]:
        return 0.0, 1.0

    def minimum(self) -> float:
        return 0.0

    def maximum(self) -> float:
        return self.gram.explained(np.ones(self.space.n_decisions, dtype=bool))


def _factor(matrix: NDArray[np.float64], inside: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Upper Cholesky factor of the columns inside that are independent, and the places of those."""
    if len(inside) == 0:
        return np.zeros((0, 0)), inside
    part = matrix[np.ix_(inside, inside)]
    factor, failed = cholesky(part, lower=0, clean=1)
    if failed == 0 and np.diag(factor).min() ** 2 > COLLINEAR:
        return factor, np.arange(len(inside))
    factor, order, rank, _ = pivoted_cholesky(part, lower=0, tol=COLLINEAR)
    return np.triu(factor[:rank, :rank]), order[:rank] - 1


def _solved(factor: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solution of ``factor' factor x = right``; OpenBLAS waits on threads in trtrs and potri, even for 10 rows."""
    return solve_cholesky(factor, right, lower=0)[0] if len(factor) else right


def _check_magnitude(data: Any, argument: str) -> None:
    """That squares of numbers, and sums of them, are numbers."""
    largest = max(float(data.max()), -float(data.min())) if data.size else 0.0
    if largest != 0 and not SMALLEST < largest < LARGEST:
        raise ValueError(
            f"{argument} must be of magnitudes between {SMALLEST:g} and {LARGEST:g}, got {largest:g}; change its unit"
        )


def _products(
    X: Any, y: NDArray[np.float64], weights: NDArray[np.float64] | None, *, intercept: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Products of columns, with the target, and sums of squares: of columns before centring, and of outputs after."""
    w = np.ones(len(y)) if weights is None else weights
    share = w / w.sum()
    root = np.sqrt(w)[:, None]
    centre_y = share @ y if intercept else np.zeros(y.shape[1])
    Y = (y - centre_y) * root
    totals = (Y**2).sum(axis=0)
    totals[totals <= CONSTANT * (root * y**2).sum(axis=0)] = 0.0
    if sparse.issparse(X):
        Z = sparse.csc_array(X, dtype=float).multiply(root).tocsc()
        sizes = np.asarray(Z.multiply(Z).sum(axis=0)).ravel()
        centre = np.asarray(Z.T @ root).ravel() / w.sum() if intercept else np.zeros(Z.shape[1])
        matrix = (Z.T @ Z).toarray() - w.sum() * np.outer(centre, centre)
        return matrix, Z.T @ Y, (sizes, totals)
    centre = share @ X if intercept else np.zeros(X.shape[1])
    Z = X - centre
    if weights is not None:
        Z *= root
    matrix = Z.T @ Z
    return matrix, Z.T @ Y, (np.diag(matrix) + w.sum() * centre**2, totals)


def _rotated(
    matrix: NDArray[np.float64],
    target: NDArray[np.float64],
    columns: Sequence[NDArray[np.int64]],
    constant: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Products of the principal directions of each variable, those of no size left out, and how many are left."""
    blocks, counts = [], []
    for own in columns:
        varied = own[~constant[own]]
        sizes, directions = np.linalg.eigh(matrix[np.ix_(varied, varied)])
        kept = sizes > COLLINEAR * max(float(sizes.max(initial=0.0)), 1e-300)
        blocks.append((varied, directions[:, kept]))
        counts.append(int(kept.sum()))
    where = np.concatenate([varied for varied, _ in blocks]).astype(np.int64)
    turn = sparse.block_diag([sparse.coo_array(part) for _, part in blocks], format="csr")
    if sum(counts) == 0:
        return np.zeros((0, 0)), np.zeros((0, target.shape[1])), np.array(counts)
    half = turn.T @ matrix[np.ix_(where, where)]
    return np.ascontiguousarray((turn.T @ half.T).T), turn.T @ target[where], np.array(counts)
