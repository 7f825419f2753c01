"""Interactions: pairs of columns whose product explains the target, found without a fit.

The covariances of the target with the products of all pairs of columns are one matrix product, ``Z' diag(r) Z``. The
exclusive or of two columns has a correlation of 0.75 with the product of their ranks, although neither column alone
correlates with it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

# With more columns, no pairs are computed: with 5,000 samples, 2,000 columns take a second.
MOST_COLUMNS = 2_000


def interactions(
    X: NDArray[np.float64], target: NDArray[np.float64], owner: NDArray[np.int64], n_variables: int
) -> NDArray[np.float64]:
    """The strongest correlation of a target with the product of two columns' ranks, for each pair of variables.

    Correlations below ``sqrt(2 log(n_pairs) / n_samples)`` count as 0, since the strongest of so many pairs reaches
    this by chance.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    target : ndarray of shape (n_samples, n_outputs)
    owner : ndarray of int, shape (n_features,)
        The variable of each column.
    n_variables : int

    Returns
    -------
    ndarray of shape (n_variables, n_variables)
        Symmetric; the diagonal is for squares of the variable's own columns, and products of two of them.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(200, 4))
    >>> y = (X[:, [1]] > 0) ^ (X[:, [2]] > 0)
    >>> np.argwhere(interactions(X, y.astype(float), np.arange(4), 4)).tolist()
    [[1, 2], [2, 1]]
    """
    (n, p), found = X.shape, np.zeros((n_variables, n_variables))
    if p > MOST_COLUMNS or p < 2:
        return found
    Z = rankdata(X, axis=0)
    Z -= Z.mean(axis=0)
    Z /= np.maximum(np.sqrt((Z**2).mean(axis=0)), 1e-300)
    spread = np.sqrt(np.maximum((Z**2).T @ (Z**2) / n - (Z.T @ Z / n) ** 2, 1e-12))
    left = target - target.mean(axis=0)
    left /= np.maximum(left.std(axis=0), 1e-300)
    correlations = np.max([np.abs((Z * r[:, None]).T @ Z) for r in left.T], axis=0) / n / spread
    correlations[correlations < np.sqrt(2 * np.log(p * (p - 1) / 2 * left.shape[1] + 1) / n)] = 0.0
    np.maximum.at(found, (owner[:, None], owner), correlations)
    return found
