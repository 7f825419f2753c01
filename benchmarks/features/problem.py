"""A problem: data, prices and a budget, and the criterion that every method maximises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.features.least_squares import LeastSquares
from benchmarks.features.logistic import CrossValidatedAUC

# Tolerance of a budget, for the rounding of sums of prices.
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Costs:
    """Costs of features: a price for each, and a surcharge for each group with a selected feature.

    For Turney's prices, the price of a test is its discounted price, and the surcharge is the full price minus the
    discounted one, which is the same for all tests of a group.

    Attributes
    ----------
    prices : ndarray, shape (p,)
    group : ndarray of int, shape (p,)
        Number of the group of each feature, -1 of those without one.
    surcharge : ndarray, shape (n_groups,)
    """

    prices: NDArray[np.float64]
    group: NDArray[np.int64]
    surcharge: NDArray[np.float64]

    @classmethod
    def additive(cls, prices: NDArray[np.float64]) -> Costs:
        return cls(np.asarray(prices, dtype=float), np.full(len(prices), -1), np.zeros(0))

    @classmethod
    def discounted(cls, full: NDArray[np.float64], discount: NDArray[np.float64], names: list[str | None]) -> Costs:
        """From Turney's price lists; `names` are those of the groups."""
        groups = list(dict.fromkeys(name for name in names if name is not None))
        group = np.array([-1 if name is None else groups.index(name) for name in names])
        surcharge = np.zeros(len(groups))
        for number, name in enumerate(groups):
            extra = (full - discount)[group == number]
            if np.ptp(extra) > ROUNDING:
                raise ValueError(f"group {name!r} must save the same amount on each of its tests, got {extra.tolist()}")
            surcharge[number] = extra[0]
        return cls(np.where(group < 0, full, discount), group, surcharge)

    @property
    def grouped(self) -> bool:
        return len(self.surcharge) > 0

    @property
    def full(self) -> NDArray[np.float64]:
        """Cost of each feature alone, shape (p,)."""
        return self.prices + np.append(self.surcharge, 0.0)[self.group]

    @property
    def all(self) -> float:
        return self.total(np.ones(len(self.prices), dtype=bool))

    def total(self, support: NDArray[np.bool_]) -> float:
        """Cost of a selection."""
        return float(self.prices[support].sum() + self.surcharge[self._bought(support)].sum())

    def added(self, support: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Additional cost of each feature on top of a selection, shape (p,)."""
        owed = np.append(np.where(self._bought(support), 0.0, self.surcharge), 0.0)
        return self.prices + owed[self.group]

    def _bought(self, support: NDArray[np.bool_]) -> NDArray[np.bool_]:
        bought = np.zeros(len(self.surcharge) + 1, dtype=bool)
        bought[self.group[support]] = True
        return bought[:-1]


class Forward(Protocol):
    """A selection that grows feature by feature."""

    @property
    def score(self) -> float: ...

    def scores(self, candidates: NDArray[np.int64]) -> NDArray[np.float64]:
        """The criterion with each of the candidates added."""
        ...

    def add(self, feature: int) -> None: ...


class Criterion(Protocol):
    """The objective, maximised over selections."""

    def __call__(self, supports: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The criterion of each selection, shape (n, p) to (n,)."""
        ...

    def forward(self) -> Forward:
        """Start from the empty selection."""
        ...


@dataclass(frozen=True, eq=False)
class Problem:
    """Features to be selected within a budget.

    Attributes
    ----------
    X : ndarray, shape (n, p)
        Columns of mean 0 and variance 1.
    y : ndarray, shape (n,)
        Numbers, or classes 0 and 1.
    costs : Costs
    budget : float
    task : str
        ``"regression"``: the criterion is the R^2 of least squares on the data themselves. ``"classification"``: the
        cross-validated AUC of logistic regression.
    """

    X: NDArray[np.float64]
    y: NDArray[np.float64]
    costs: Costs
    budget: float
    task: Literal["regression", "classification"]
    name: str = field(default="")

    @cached_property
    def criterion(self) -> Criterion:
        return LeastSquares(self.X, self.y) if self.task == "regression" else CrossValidatedAUC(self.X, self.y)

    @property
    def p(self) -> int:
        return self.X.shape[1]

    def affordable(self, support: NDArray[np.bool_]) -> bool:
        return self.costs.total(support) <= self.budget + ROUNDING

    def fits(self, support: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The features that could still be added."""
        cost = self.costs.total(support) + self.costs.added(support)
        return np.flatnonzero(~support & (cost <= self.budget + ROUNDING))

    def empty(self) -> NDArray[np.bool_]:
        return np.zeros(self.p, dtype=bool)


# A method: returns a selection, shape (p,), within about so many seconds of processor time.
Method = Callable[[Problem, int, float], NDArray[np.bool_]]
