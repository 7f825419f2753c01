"""R^2 of least squares on selections of columns, from the correlations alone."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve

# If less than this share of a column remains after projection on the selected ones, it adds only rounding errors.
DEPENDENT = 1e-9
# Up to this many columns, all selections of a batch are solved at once, each as a system over all columns.
SMALL = 20


class LeastSquares:
    """R^2 of `y` on columns of `X`, both centred."""

    def __init__(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        self._centre, self._mean = X.mean(axis=0), y.mean()
        self.X, self._size = X - self._centre, np.linalg.norm(y - self._mean)
        self.y = (y - self._mean) / self._size

    @cached_property
    def gram(self) -> NDArray[np.float64]:
        """Products of the columns, of length 1, shape (p, p)."""
        return self._columns.T @ self._columns

    @cached_property
    def moments(self) -> NDArray[np.float64]:
        """Products of the columns, of length 1, with y, shape (p,)."""
        return self._columns.T @ self.y

    @cached_property
    def _lengths(self) -> NDArray[np.float64]:
        lengths = np.linalg.norm(self.X, axis=0)
        return np.where(lengths > 0, lengths, 1.0)

    @cached_property
    def _columns(self) -> NDArray[np.float64]:
        return self.X / self._lengths

    def __call__(self, supports: NDArray[np.bool_]) -> NDArray[np.float64]:
        if supports.shape[1] > SMALL:
            return np.array([self._one(np.flatnonzero(support)) for support in supports])
        both = supports[:, :, None] & supports[:, None, :]
        matrices = np.where(both, self.gram, 0.0) + np.where(supports, 0.0, 1.0)[:, :, None] * np.eye(supports.shape[1])
        sides = np.where(supports, self.moments, 0.0)
        weights = np.linalg.solve(matrices, sides[:, :, None])[:, :, 0]
        return (weights * sides).sum(axis=1)

    def _one(self, chosen: NDArray[np.int64]) -> float:
        return float(self.moments[chosen] @ self._weights(chosen))

    def _weights(self, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        gram, moments = self.gram[np.ix_(chosen, chosen)], self.moments[chosen]
        try:
            factor = np.linalg.cholesky(gram)
        except np.linalg.LinAlgError:
            factor = np.zeros((1, 1))
        if (np.diag(factor) ** 2 > DEPENDENT).all():
            return cho_solve((factor, True), moments)
        return np.linalg.lstsq(gram, moments, rcond=DEPENDENT)[0]

    def predict(self, support: NDArray[np.bool_], X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Predictions of y by the selected columns of other samples, shape (n,)."""
        chosen = np.flatnonzero(support)
        weights = self._size * self._weights(chosen) / self._lengths[chosen]
        return self._mean + (X[:, chosen] - self._centre[chosen]) @ weights

    def forward(self) -> LeastSquaresForward:
        return LeastSquaresForward(self)


class LeastSquaresForward:
    """Adds columns one by one: the Cholesky factor gains a row, O(p k) for all candidates together."""

    def __init__(self, problem: LeastSquares) -> None:
        self.gram, p = problem.gram, len(problem.moments)
        self.rows, self.size = np.empty((16, p)), 0
        # The parts of each column, and of its product with y, that the selected columns do not explain.
        self.left, self.moments, self.score = np.diag(self.gram).copy(), problem.moments.copy(), 0.0

    def scores(self, candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        left = self.left[candidates]
        gains = self.moments[candidates] ** 2 / np.where(left > DEPENDENT, left, np.inf)
        return self.score + gains

    def add(self, feature: int) -> None:
        if self.left[feature] <= DEPENDENT:
            return
        if self.size == len(self.rows):
            self.rows = np.concatenate([self.rows, np.empty_like(self.rows)])
        known = self.rows[: self.size]
        row = (self.gram[feature] - known[:, feature] @ known) / np.sqrt(self.left[feature])
        gain = self.moments[feature] / np.sqrt(self.left[feature])
        self.rows[self.size], self.size = row, self.size + 1
        self.left, self.moments = self.left - row**2, self.moments - gain * row
        self.score += gain**2
