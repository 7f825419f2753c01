"""Models of a number from few measurements: Gaussian processes on options, and a user's regressor.

The covariance of two selections is a sum of two parts. The additive part has one term per decision, so that it models
sums of one number per option. The product part falls with the weighted distance of the selections and models
interactions. Options that differ have distance 1, or the distance of their numeric labels, scaled to 1 (Garrido-Merchán
and Hernández-Lobato, 2020, describe Gaussian processes on such variables). Both kinds of distance, and transformations
of the numbers, are compared by their marginal likelihood.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize as optimize

from cggd.layout import Layout
from cggd.metrics import one_hot
from cggd.space import ChoiceSpace

# Parameters are fitted to at most this many measurements; with more, the time of a fit would exceed the time limit of
# 50 ms a measurement.
FITTED = 150

# Iterations of the fit (L-BFGS), and how many decisions have parameters of their own.
ITERATIONS = 30
SEPARATE = 48

# Correlation of numeric labels at the ends of a decision's range in the additive part: exp(-FALL).
FALL = 1.5

# Prior means and standard deviations of the logarithms of the parameters, of values of variance 1: weights of the
# decisions (their sum), distances (their sum), product part, noise.
PRIOR = (1.0, 2.0, 0.5, 3e-3)
SPREAD = (1.5, 1.25, 1.5, 2.5)

# Range of the logarithms. Noise below 1e-6 of the variance is attributed to rounding.
ENDS = ((-12.0, 5.0), (-9.0, 4.0), (-12.0, 5.0), (-14.0, 0.0))

# Positive numbers that differ by more than this factor may be modelled by their logarithms.
WIDE = 3.0

# Means and standard deviations of random changes of the fitted parameters: of the logarithms of weights, distances and
# product part. Greater distances mean less certainty far from measurements. On measured kernels other than those of the
# benchmark, such changes for every third measurement lowered the losses most.
DRAWN = ((0.0, 0.7), (0.5, 1.0), (0.3, 0.7))

# A product part of less variance than this is left out.
NEGLIGIBLE = 1e-4


@dataclass(frozen=True, eq=False)
class Feature:
    """A distance between the options of a decision, from 0 to 1, and the corresponding similarity."""

    decision: int
    far: NDArray[np.float64]
    near: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Encoding:
    """Distances of the options of each decision.

    Each decision has a feature that is 1 where options differ. If the labels are numbers, it has a second one, their
    distance.
    """

    space: ChoiceSpace
    features: Sequence[Feature]

    @classmethod
    def of(cls, space: ChoiceSpace) -> Encoding:
        features = []
        for d, decision in enumerate(space.decisions):
            size = int(space.sizes[d])
            features.append(Feature(d, 1.0 - np.eye(size), np.eye(size)))
            places = positions(space.option_labels(decision))
            if places is not None:
                far = np.abs(places[:, None] - places)
                features.append(Feature(d, far, np.exp(-FALL * far)))
        return cls(space, features)

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """Index of each feature's parameter; neighbouring decisions share one if there are many."""
        n = len(self.features)
        return np.arange(n) if n <= SEPARATE else np.arange(n) * SEPARATE // n

    def tables(self, rows: NDArray[np.int64], weights: NDArray[np.float64], *, near: bool) -> NDArray[np.float64]:
        """Weighted similarity or distance of each option to those of selections, shape (n_options, n)."""
        totals = [np.zeros((size, size)) for size in self.space.sizes.tolist()]
        for feature, weight in zip(self.features, weights, strict=True):
            totals[feature.decision] += weight * (feature.near if near else feature.far)
        return np.concatenate([total[:, column] for total, column in zip(totals, rows.T, strict=True)])

    def pairs(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Distance and similarity of pairs of selections, summed over each group, twice (n_groups, n * n)."""
        n = len(rows)
        far, near = np.zeros((2, int(self.groups.max()) + 1, n, n))
        for feature, group in zip(self.features, self.groups.tolist(), strict=True):
            column = rows[:, feature.decision]
            index = np.ix_(column, column)
            far[group] += feature.far[index]
            near[group] += feature.near[index]
        return far.reshape(len(far), -1), near.reshape(len(near), -1)

    def distances(self, rows: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.float64]:
        """Distance of selections from one, the mean of the features, shape (n,)."""
        parts = [f.far[rows[:, f.decision], row[f.decision]] for f in self.features]
        return np.mean(parts, axis=0)


def positions(labels: Sequence[Any]) -> NDArray[np.float64] | None:
    """Places of numeric labels between 0 and 1, None for others; logarithmic if that makes their steps more equal.

    Examples
    --------
    >>> positions([1, 2, 4, 8]), positions([10, 20, 30]), positions(["a", "b"])
    (array([0.        , 0.33333333, 0.66666667, 1.        ]), array([0. , 0.5, 1. ]), None)
    """
    if len(labels) < 3 or not all(isinstance(x, int | float) and not isinstance(x, bool) for x in labels):
        return None
    numbers = np.array(labels, dtype=float)
    if not np.isfinite(numbers).all() or np.ptp(numbers) == 0:
        return None
    scales = [numbers]
    if numbers.min() > 0:
        scales.append(np.log(numbers))
    elif numbers.min() == 0:
        scales.append(np.log1p(numbers / np.min(numbers[numbers > 0])))

    def unequal(scale: NDArray[np.float64]) -> float:
        steps = np.diff(np.sort(scale))
        return float(steps.std() / steps.mean())

    scale = min(scales, key=unequal)
    return (scale - scale.min()) / np.ptp(scale)


# -- transformations --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Transform:
    """A monotonic transformation of numbers and the sum of the logarithms of its slopes."""

    of: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    slopes: float


def transforms(values: NDArray[np.float64]) -> dict[str, Transform]:
    """Transformations to standardised numbers by name.

    "linear" is always present, and "logarithmic" for positive numbers of several magnitudes. "bent" compresses both
    tails. "low" and "high" compress the worse half if small or large numbers are wanted, because differences between
    bad values say little about the best one. They are applied to the logarithm if "logarithmic" is present.
    """

    def standardised(of: Callable[[NDArray[np.float64]], NDArray[np.float64]], slopes: Any = 0.0) -> Transform:
        shift, scale = float(of(values).mean()), float(of(values).std()) or 1.0
        return Transform(lambda x: (of(x) - shift) / scale, float(np.sum(slopes)) - len(values) * np.log(scale))

    out = {"linear": standardised(np.asarray)}
    if len(values) < 8 or np.ptp(values) == 0:
        return out
    base, slopes = np.asarray, np.zeros(len(values))
    if values.min() > 0 and values.max() > WIDE * values.min():
        base, slopes = _logarithm, -np.log(values)
        out["logarithmic"] = standardised(base, slopes)
    middle = float(np.median(values))
    width = float(np.subtract(*np.quantile(values, [0.75, 0.25]))) / 2
    if width > 0.01 * values.std():
        each = -0.5 * np.log1p(((values - middle) / width) ** 2) - np.log(width)
        out["bent"] = standardised(lambda x: np.arcsinh((x - middle) / width), each)
    for name, sign in (("low", 1.0), ("high", -1.0)):
        worse = sign * base(values)
        end, good = np.quantile(worse, [0.5, 0.1])
        scale = max(end - good, 1e-3 * np.ptp(worse))

        def compressed(x: NDArray[np.float64], sign: float = sign, end: float = end, scale: float = scale) -> Any:
            worse = sign * base(x)
            return sign * (np.minimum(worse, end) + scale * np.log1p(np.maximum(worse - end, 0.0) / scale))

        out[name] = standardised(compressed, slopes - np.log1p(np.maximum(worse - end, 0.0) / scale))
    return out


def _logarithm(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(np.maximum(x, 1e-300))


def choices(better: int) -> list[str]:
    """Names of the transformations to compare, if small numbers (-1), large ones (1) or neither (0) are wanted."""
    return ["linear", "logarithmic", "bent"] if better == 0 else ["linear", "low" if better < 0 else "high"]


# -- Gaussian processes -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Kernel:
    """Parameters of a covariance, and their likelihood.

    The parameters are logarithms: of the weights and rates of the features, the product part's variance, and the noise.
    """

    encoding: Encoding
    transform: str
    parameters: NDArray[np.float64]
    likelihood: float = -np.inf

    @property
    def weights(self) -> NDArray[np.float64]:
        groups = self.encoding.groups
        return np.exp(self.parameters[: groups.max() + 1])[groups]

    @property
    def rates(self) -> NDArray[np.float64]:
        groups = self.encoding.groups
        n = groups.max() + 1
        return np.exp(self.parameters[n : 2 * n])[groups]

    @property
    def product(self) -> float:
        return float(np.exp(self.parameters[-2]))

    @property
    def noise(self) -> float:
        return float(np.exp(self.parameters[-1]))

    def drawn(self, rng: np.random.Generator) -> Kernel:
        """A kernel with parameters drawn at random around these."""
        n = int(self.encoding.groups.max()) + 1
        means, deviations = (np.repeat(column, [n, n, 1]) for column in zip(*DRAWN, strict=True))
        change = np.append(rng.normal(means, deviations), 0.0)
        return replace(self, parameters=self.parameters + change)


def fitted(kernel: Kernel, rows: NDArray[np.int64], values: NDArray[np.float64], slopes: float) -> Kernel:
    """Parameters of the greatest posterior density for values of mean 0 and variance 1, starting from a kernel."""
    n, n_groups = len(rows), int(kernel.encoding.groups.max()) + 1
    far, near = kernel.encoding.pairs(rows)
    repeats = [n_groups, n_groups, 1, 1]
    means, spreads = first_kernel(kernel.encoding).parameters, np.repeat(SPREAD, repeats)
    ends = [end for end, times in zip(ENDS, repeats, strict=True) for _ in range(times)]
    identity = np.eye(n)

    def cost(p: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, rates = np.exp(p[:n_groups]), np.exp(p[n_groups : 2 * n_groups])
        product, noise = np.exp(p[-2]), np.exp(p[-1])
        falling = product * np.exp(-(rates @ far))
        covariance = (1.0 + weights @ near + falling).reshape(n, n)
        covariance.flat[:: n + 1] += noise + 1e-9
        try:
            factor = cho_factor(covariance, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            return 1e25, np.zeros_like(p)
        inverse = cho_solve(factor, identity, check_finite=False)
        alpha = inverse @ values
        inner = (np.outer(alpha, alpha) - inverse).ravel()
        off = (p - means) / spreads
        total = 0.5 * values @ alpha + np.log(np.diag(factor[0])).sum() + 0.5 * n * np.log(2 * np.pi)
        gradient = np.concatenate(
            [
                -0.5 * weights * (near @ inner),
                0.5 * rates * (far @ (inner * falling)),
                [-0.5 * (inner @ falling), -0.5 * noise * inner[:: n + 1].sum()],
            ]
        )
        return float(total + 0.5 * off @ off), gradient + off / spreads

    start = np.clip(kernel.parameters, [e[0] for e in ends], [e[1] for e in ends])
    found = optimize(cost, start, jac=True, method="L-BFGS-B", bounds=ends, options={"maxiter": ITERATIONS})
    return replace(kernel, parameters=found.x, likelihood=slopes - float(found.fun))


def first_kernel(encoding: Encoding) -> Kernel:
    """A kernel with the means of the prior."""
    n, n_groups = len(encoding.features), int(encoding.groups.max()) + 1
    each = [PRIOR[0] / n, PRIOR[1] / n, PRIOR[2], PRIOR[3]]
    return Kernel(encoding, "linear", np.log(np.repeat(each, [n_groups, n_groups, 1, 1])))


def best_kernel(
    encoding: Encoding,
    rows: NDArray[np.int64],
    values: NDArray[np.float64],
    known: Kernel | None = None,
    names: Sequence[str] = ("linear",),
) -> Kernel:
    """Fit the parameters for each of the named transformations that is present, and return the best kernel."""
    known, options = known or first_kernel(encoding), transforms(values)
    kernels = [
        fitted(replace(known, transform=name), rows, options[name].of(values), options[name].slopes)
        for name in [name for name in names if name in options] or ["linear"]
    ]
    return max(kernels, key=lambda kernel: kernel.likelihood)


class Gaussian:
    """A Gaussian process given measurements.

    Parameters
    ----------
    kernel : Kernel
    rows : ndarray of int, shape (n, n_decisions)
    values : ndarray of shape (n,)

    Attributes
    ----------
    transform : Transform
        Means and covariances are those of transformed numbers.
    """

    kernel: Kernel
    layout: Layout
    transform: Transform
    near: NDArray[np.float64]
    far: NDArray[np.float64] | None
    factor: Any
    inverse: NDArray[np.float64]
    alpha: NDArray[np.float64]
    table: NDArray[np.float64]
    constant: float

    def __init__(self, kernel: Kernel, rows: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        options = transforms(values)
        self.kernel, self.layout = kernel, kernel.encoding.space.layout
        self.transform = options.get(kernel.transform, options["linear"])
        self.near = kernel.encoding.tables(rows, kernel.weights, near=True)
        product = kernel.product > NEGLIGIBLE
        self.far = kernel.encoding.tables(rows, kernel.rates, near=False) if product else None
        self.rows = rows
        covariance = self.cross(rows)
        covariance.flat[:: len(rows) + 1] += kernel.noise + 1e-8
        self.factor = cho_factor(covariance, lower=True, check_finite=False)
        self.inverse = cho_solve(self.factor, np.eye(len(rows)), check_finite=False)
        self.alpha = self.inverse @ self.transform.of(values)
        self.table = self.near @ self.alpha
        self.constant = float(self.alpha.sum())

    def cross(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Covariance of selections with those measured, (n, n_measured)."""
        flat = self.layout.flat(rows)
        out = 1.0 + self._gathered(self.near, flat)
        return out if self.far is None else out + self._product(flat)

    def _product(self, flat: NDArray[np.int64]) -> NDArray[np.float64]:
        distance = self._gathered(self.far, flat)
        np.negative(distance, out=distance)
        np.exp(distance, out=distance)
        distance *= self.kernel.product
        return distance

    @staticmethod
    def _gathered(table: Any, flat: NDArray[np.int64]) -> NDArray[np.float64]:
        out = table[flat[:, 0]]
        for column in flat.T[1:]:
            out += table[column]
        return out

    def mean(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        flat = self.layout.flat(rows)
        out = self.table[flat].sum(axis=1) + self.constant
        return out if self.far is None else out + self._product(flat) @ self.alpha

    def variance(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        cross = self.cross(rows)
        kernel = self.kernel
        own = 1.0 + kernel.weights.sum() + (0.0 if self.far is None else kernel.product)
        return np.maximum(own - np.einsum("ij,ij->i", cross @ self.inverse, cross), 1e-12)

    def covariance(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        cross = self.cross(rows)
        kernel, flat = self.kernel, self.layout.flat(rows)
        own = 1.0 + self._gathered(kernel.encoding.tables(rows, kernel.weights, near=True), flat)
        if self.far is not None:
            own += kernel.product * np.exp(
                -self._gathered(kernel.encoding.tables(rows, kernel.rates, near=False), flat)
            )
        return own - cross @ self.inverse @ cross.T


# -- a user's regressor -----------------------------------------------------------------------------------------------

# Copies of a user's regressor, each fitted to a sample of the measurements drawn with replacement.
COPIES = 5


class Bagged:
    """A user's regressor, fitted to several samples of the measurements; their spread is the uncertainty."""

    transform: Transform
    copies: list[Any]
    error: float

    def __init__(
        self,
        regressor: Any,
        encoding: Encoding,
        rows: NDArray[np.int64],
        values: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> None:
        self.encoding = encoding
        self.transform = transforms(values)["linear"]
        features, targets = self._features(rows), self.transform.of(values)
        self.copies = []
        residuals = []
        for _ in range(COPIES):
            drawn = rng.integers(0, len(rows), len(rows))
            copy = deepcopy(regressor)
            copy.fit(features[drawn], targets[drawn])
            self.copies.append(copy)
            left = np.setdiff1d(np.arange(len(rows)), drawn)
            if len(left):
                residuals.append(targets[left] - np.asarray(copy.predict(features[left]), dtype=float).reshape(-1))
        # Errors on measurements that were not drawn; half of their variance is that of the mean of the copies.
        self.error = float(np.mean(np.concatenate(residuals) ** 2)) / 2 if residuals else 1.0

    def _features(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """One-hot columns, and the place of each numeric label."""
        space = self.encoding.space
        places = [positions(space.option_labels(d)) for d in space.decisions]
        ordered = [p[rows[:, d]] for d, p in enumerate(places) if p is not None]
        return np.concatenate([one_hot(space, rows), *(column[:, None] for column in ordered)], axis=1)

    def _predictions(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        features = self._features(rows)
        return np.stack([np.asarray(copy.predict(features), dtype=float).reshape(-1) for copy in self.copies])

    def mean(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return self._predictions(rows).mean(axis=0)

    def variance(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return self._predictions(rows).var(axis=0) + self.error

    def covariance(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        deviation = np.sqrt(self._predictions(rows).var(axis=0) + self.error)
        distance = np.stack([self.encoding.distances(rows, row) for row in rows])
        return np.outer(deviation, deviation) * np.exp(-len(self.encoding.features) * distance)
