"""The gram engine for logistic regression: subset search on a quadratic model, confirmed by exact refits.

At a fitted model, the log-likelihood is to second order least squares of the working response with the working weights
(IRLS). The subset search runs on the Gram matrix of this quadratic model, first at the null model, then at the fit of
the subset found, as long as an exact refit confirms an improvement. Then the additions and swaps that the quadratic
model ranks highest are refitted one by one. Nothing is proved, since the quadratic model gives no bound.

For several classes, the quadratic model of the multinomial likelihood uses the mean curvature of all samples: it is
least squares of working responses whitened by this curvature. At the null model, these are the class indicators (Rao's
score statistic; Pillai's trace).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit, logsumexp, softmax

from cggd import ChoiceSpace, Metric
from cggd.budget import Budget
from cggd_features.engine_result import EngineResult
from cggd_features.gram import Gram
from cggd_features.least_squares import Fit
from cggd_features.limits import Limits
from cggd_features.linear import thrifty
from cggd_features.refine import refined
from cggd_features.subset import EQUAL, Penalties, along_rates, climb, force, search

# Newton's method ends if the deviance changes by less than this share, or after ITERATIONS steps.
CONVERGED = 1e-10
ITERATIONS = 50

# Most steps of L-BFGS for several classes; orthogonal columns take a few dozen.
DESCENTS = 500

# Singular values below this share of the largest are rounding.
DEPENDENT = 3e-14

# Lower bound on working weights, which are 0 at a probability of 0 or 1.
SMALLEST_WEIGHT = 1e-6

# Most quadratic models of one search, and proposals that are refitted at each.
ROUNDS = 5
PROPOSALS = 12

# Up to this many variables, the core's search also tries switches of one or two variables on exact refits of two
# classes; refits of several classes take a hundred times as long.
SMALL = 20


@dataclass(frozen=True, eq=False, repr=False)
class Explained(Metric):
    """Share of the deviance that logistic regression on the selected variables explains; each subset is fitted once.

    Parameters
    ----------
    space : ChoiceSpace
        One decision per variable, with the options 0 (out) and 1 (in).
    columns : list of ndarray of int
        Columns of X of each variable.
    X : array or sparse matrix of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
        Numbers of classes from 0.
    weights : ndarray of shape (n_samples,)
    alpha : float
        Ridge penalty; it counts as deviance.
    intercept : bool
    """

    space: ChoiceSpace
    columns: Sequence[NDArray[np.int64]]
    X: Any
    y: NDArray
    weights: NDArray[np.float64]
    alpha: float
    intercept: bool
    name: str = field(default="deviance explained", kw_only=True)
    unit: str = field(default="", kw_only=True)
    _known: dict[bytes, tuple[float, float]] = field(init=False, default_factory=dict)

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([self.value(row.astype(bool)) for row in selections])

    def limits(self) -> tuple[float, float]:
        return 0.0, 1.0

    def value(self, selected: NDArray[np.bool_]) -> float:
        """Share of the deviance explained by a selection, shape (n_variables,); the penalty counts as deviance."""
        return self._shares(selected)[0]

    def score(self, selected: NDArray[np.bool_]) -> float:
        """Share of the deviance explained, without the penalty: `sklearn.metrics.d2_log_loss_score`."""
        return self._shares(selected)[1]

    def _shares(self, selected: NDArray[np.bool_]) -> tuple[float, float]:
        key = np.packbits(selected).tobytes()
        if key not in self._known:
            penalised, plain = self._deviances(selected)
            self._known[key] = max(0.0, 1.0 - penalised / self.null), 1.0 - plain / self._null_of_shares
        return self._known[key]

    @cached_property
    @abstractmethod
    def null(self) -> float:
        """Deviance of the model without features."""

    @cached_property
    @abstractmethod
    def _null_of_shares(self) -> float:
        """Deviance of the model that predicts the shares of the classes."""

    @abstractmethod
    def _deviances(self, selected: NDArray[np.bool_]) -> tuple[float, float]:
        """Deviance of the fit on a selection, with and without the penalty."""


@dataclass(frozen=True, eq=False, repr=False)
class Likelihood(Explained):
    """`Explained` for two classes: logistic regression; `y` holds 0 and 1."""

    cheap: ClassVar[bool] = True

    def _deviances(self, selected: NDArray[np.bool_]) -> tuple[float, float]:
        eta, penalised = self._fit(selected)
        return penalised, self._deviance(eta)

    @cached_property
    def _null_of_shares(self) -> float:
        return self._deviance(np.full(len(self.y), self._centre))

    def gram(self, selected: NDArray[np.bool_]) -> Gram:
        """The quadratic model at the fit on a selection."""
        eta = self._fit(selected)[0]
        mean = expit(eta)
        curvature = np.maximum(mean * (1 - mean), SMALLEST_WEIGHT)
        response = eta + (self.y - mean) / curvature
        how = {"weights": self.weights * curvature, "alpha": self.alpha, "intercept": self.intercept}
        return Gram.of(self.X, response[:, None], self.columns, **how)

    @cached_property
    def null(self) -> float:
        """Deviance of the model without features."""
        return self._deviance(np.zeros(len(self.y)) if not self.intercept else np.full(len(self.y), self._centre))

    @cached_property
    def _centre(self) -> float:
        share = float(self.weights @ self.y / self.weights.sum())
        if not 0 < share < 1:
            raise ValueError("sample_weight must be more than 0 for samples of both classes, got one class of weight 0")
        return float(np.log(share / (1 - share)))

    def _deviance(self, eta: NDArray[np.float64]) -> float:
        return 2.0 * float(self.weights @ (np.logaddexp(0.0, eta) - self.y * eta))

    def _fit(self, selected: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float]:
        """Linear predictors and penalised deviance, by Newton's method with halved steps."""
        Z, penalty = _design(self.X, self.columns, selected, self.alpha, self.intercept)
        beta = np.zeros(Z.shape[1])
        if self.intercept:
            beta[0] = self._centre
        eta = Z @ beta
        deviance = self._deviance(eta)
        for _ in range(ITERATIONS if len(beta) else 0):
            mean = expit(eta)
            slope = Z.T @ (self.weights * (self.y - mean)) - penalty * beta
            curve = (Z * (self.weights * np.maximum(mean * (1 - mean), SMALLEST_WEIGHT))[:, None]).T @ Z
            curve.flat[:: len(curve) + 1] += penalty + 1e-10 * np.trace(curve)
            step, before = np.linalg.solve(curve, slope), deviance
            for _ in range(30):
                trial = Z @ (beta + step)
                deviance = self._deviance(trial) + float(penalty @ (beta + step) ** 2)
                if deviance <= before:
                    break
                step = step / 2
            else:
                deviance = before
                break
            beta, eta = beta + step, trial
            if before - deviance <= CONVERGED * max(before, 1e-300):
                break
        return eta, deviance


@dataclass(frozen=True, eq=False, repr=False)
class Multinomial(Explained):
    """`Explained` for several classes: multinomial logistic regression."""

    cheap: ClassVar[bool] = False

    def gram(self, selected: NDArray[np.bool_]) -> Gram:
        """The quadratic model at the fit on a selection."""
        eta = self._fit(selected)[0]
        shares = softmax(eta @ self._contrasts.T, axis=1)
        part = self.weights / self.weights.sum()
        mean = np.diag(part @ shares) - (shares * part[:, None]).T @ shares
        curvature = self._contrasts.T @ mean @ self._contrasts
        curvature.flat[:: len(curvature) + 1] += SMALLEST_WEIGHT
        root = np.linalg.cholesky(curvature)
        left = -shares
        left[np.arange(len(self.y)), self.y] += 1.0
        response = eta @ root + np.linalg.solve(root, (left @ self._contrasts).T).T
        how = {"weights": self.weights, "alpha": self.alpha, "intercept": self.intercept}
        gram = Gram.of(self.X, response, self.columns, **how, pooled=True)
        return replace(gram, total=gram.total * response.shape[1])

    @cached_property
    def _contrasts(self) -> NDArray[np.float64]:
        """An orthonormal basis of class coefficients that add up to 0, as they do at the optimum."""
        n_classes = self._shares_of_classes.size
        return np.linalg.qr(np.eye(n_classes)[:, 1:] - 1.0 / n_classes)[0]

    @cached_property
    def null(self) -> float:
        """Deviance of the model without features."""
        if not self.intercept:
            return 2.0 * float(self.weights.sum()) * float(np.log(self._shares_of_classes.size))
        return self._null_of_shares

    @cached_property
    def _shares_of_classes(self) -> NDArray[np.float64]:
        shares = np.bincount(self.y, self.weights) / self.weights.sum()
        if not shares.all():
            raise ValueError("sample_weight must be more than 0 for samples of every class, got one class of weight 0")
        return shares

    @cached_property
    def _null_of_shares(self) -> float:
        return -2.0 * float(self.weights @ np.log(self._shares_of_classes)[self.y])

    def _deviances(self, selected: NDArray[np.bool_]) -> tuple[float, float]:
        return self._fit(selected)[1:]

    def _fit(self, selected: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float, float]:
        """Linear predictors in the basis of contrasts, and the deviance with and without the penalty, by L-BFGS."""
        Z, penalty = _design(self.X, self.columns, selected, self.alpha, self.intercept)
        known, total, contrasts = np.arange(len(self.y)), float(self.weights.sum()), self._contrasts
        begin = np.zeros((Z.shape[1], contrasts.shape[1]))
        if self.intercept:
            begin[0] = np.log(self._shares_of_classes) @ contrasts
        if begin.size == 0:
            return np.zeros((len(Z), contrasts.shape[1])), self.null, self.null

        def deviances(flat: NDArray[np.float64]) -> tuple[float, float, NDArray[np.float64]]:
            theta = flat.reshape(begin.shape)
            eta = Z @ theta @ contrasts.T
            logs = eta - logsumexp(eta, axis=1, keepdims=True)
            plain = -2.0 * float(self.weights @ logs[known, self.y])
            wrong = np.exp(logs)
            wrong[known, self.y] -= 1.0
            slope = 2.0 * (Z.T @ (self.weights[:, None] * wrong) @ contrasts + penalty[:, None] * theta)
            return plain, plain + float(penalty @ (theta**2).sum(axis=1)), slope.ravel()

        def share(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            _, penalised, slope = deviances(flat)
            return penalised / total, slope / total

        how = {"maxiter": DESCENTS, "ftol": 1e-13, "gtol": 1e-9}
        end = minimize(share, begin.ravel(), jac=True, method="L-BFGS-B", options=how).x
        plain, penalised, _ = deviances(end)
        return Z @ end.reshape(begin.shape), penalised, plain


def solve(
    likelihood: Likelihood | Multinomial,
    limits: Limits,
    start: NDArray[np.bool_],
    *,
    shares: Sequence[float] = (),
    seed: int = 0,
    clock: Budget | None = None,
    penalty: float = 0.0,
) -> EngineResult:
    """The best subset found within the limits by the penalised likelihood of the training data.

    The parameters are those of `cggd_features.linear.solve`, with the likelihood in place of the Gram matrix, and with
    `penalty` on the deviance per column.
    """
    clock = Budget() if clock is None else clock
    task = _Task(likelihood, penalty * np.array([len(c) for c in likelihood.columns]), clock)
    null = likelihood.gram(np.zeros_like(start))
    penalties = task.measured(null)
    path = list(along_rates(null, limits, start, penalties, most=max([1.0, *shares]), stop=clock.part(share=0.3).over))
    subsets = [fit.selected for fit in path]
    for share in shares:
        scaled = limits.scaled(share)
        if share != 1 and scaled.holds(start) and not clock.over():
            subsets.append(task.settled(scaled, search(null, scaled, start, path, penalties, clock.over).selected))
    best = task.settled(limits, search(null, limits, start, path, penalties, clock.part(share=0.5).over).selected)
    best = max([best, *(s for s in subsets if limits.holds(s))], key=task.worth)
    if likelihood.cheap and len(start) <= SMALL and not penalty and not clock.over():
        best = refined(likelihood, limits, best, steps=1, seed=seed, clock=clock)
    thrift = thrifty(Fit.at(likelihood.gram(best), best), limits, clock.over).selected
    best = thrift if task.worth(thrift) >= task.worth(best) - EQUAL else best
    best = best if limits.holds(best) else start
    return EngineResult(best, likelihood.score(best), visited=[(s, likelihood.score(s)) for s in subsets])


@dataclass(frozen=True, eq=False)
class _Task:
    """The likelihood with a criterion's penalty for each variable."""

    likelihood: Likelihood | Multinomial
    penalties: NDArray[np.float64]
    clock: Budget

    def worth(self, selected: NDArray[np.bool_]) -> float:
        """Penalised share of the deviance explained by a selection."""
        return self.likelihood.value(selected) - float(self.penalties[selected].sum()) / self.likelihood.null

    def measured(self, gram: Gram) -> Penalties:
        """The penalties in units of a quadratic model."""
        return Penalties(self.penalties / gram.total)

    def settled(self, limits: Limits, selected: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Search on the quadratic model at the subset, and repeat as long as refits confirm an improvement."""
        for _ in range(ROUNDS):
            if self.clock.over():
                break
            gram, worth = self.likelihood.gram(selected), self.worth(selected)
            penalties = self.measured(gram)
            climbed = climb(Fit.at(gram, selected), limits, penalties, self.clock.over)
            proposals = [force(climbed, limits, penalties, self.clock.over).selected]
            if self.worth(proposals[0]) <= worth + EQUAL:
                proposals = _proposals(gram, limits, selected, penalties)
            better = max(proposals, key=self.worth, default=selected)
            if self.worth(better) <= worth + EQUAL:
                break
            selected = better
        return selected


def _proposals(
    gram: Gram, limits: Limits, selected: NDArray[np.bool_], penalties: Penalties
) -> list[NDArray[np.bool_]]:
    """The additions and swaps within the limits that the quadratic model ranks highest."""
    fit = Fit.at(gram, selected)
    out, change = fit.swaps()
    change = np.vstack([np.where(limits.additions(selected), fit.gains - penalties.of(fit), -np.inf), change])
    change[1:][~limits.swaps(selected, out)] = -np.inf
    best = np.argsort(-change, axis=None, kind="stable")[:PROPOSALS]
    proposals = []
    for row, variable in zip(*np.unravel_index(best, change.shape), strict=True):
        if np.isfinite(change[row, variable]):
            proposal = selected.copy()
            proposal[variable] = True
            if row > 0:
                proposal[out[row - 1]] = False
            proposals.append(proposal)
    return proposals


def _design(
    X: Any, columns: Sequence[NDArray[np.int64]], selected: NDArray[np.bool_], alpha: float, intercept: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Orthogonal columns that span the selected ones, after a column of 1 for an intercept, and their ridge penalties.

    With singular vectors the penalty is diagonal, and Newton's method and L-BFGS are accurate for nearly equal columns.
    """
    chosen = [columns[v] for v in np.flatnonzero(selected).tolist()]
    at = np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.int64)
    Z = X[:, at].toarray() if sparse.issparse(X) else X[:, at]
    if intercept:
        Z = Z - Z.mean(axis=0)
    if alpha == 0:
        lengths = np.linalg.norm(Z, axis=0)
        Z = Z / np.where(lengths > 0, lengths, 1.0)
    turned, sizes, _ = np.linalg.svd(Z, full_matrices=False)
    kept = sizes > DEPENDENT * sizes.max(initial=0.0)
    root = np.sqrt(len(Z))
    Z, penalty = turned[:, kept] * root, alpha * (root / sizes[kept]) ** 2
    if intercept:
        Z, penalty = np.column_stack([np.ones(len(Z)), Z]), np.concatenate([[0.0], penalty])
    return Z, penalty


def indicators(y: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Indicators of all classes but the first, whitened, shape (n_samples, n_classes - 1)."""
    known = (y[:, None] == np.unique(y)[None, 1:]).astype(float)
    centred = known - weights @ known / weights.sum()
    covariance = (centred * weights[:, None]).T @ centred / weights.sum()
    return np.linalg.solve(np.linalg.cholesky(covariance), centred.T).T
