"""Constraints: bounds on metrics."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cggd.checks import as_amount, as_number, own
from cggd.metrics import Additive, Metric, maximum
from cggd.metrics.base import check_metric, operators, worsened
from cggd.rounding import OPERATIONS, UNIT, bound_text, number_text, snapped, true_texts
from cggd.space import ChoiceSpace


@dataclass(frozen=True, eq=False)
class Constraint:
    """``metric <= bound`` or ``metric >= bound``; made by comparing a metric with a number.

    A value satisfies the bound up to the rounding error of the metric's own summation (`cggd.Metric.rounded`). Whole
    numbers are compared exactly. Sums of floats may exceed the bound by a few units in the last place of their largest
    partial sum, so ``0.1 + 0.2 <= 0.3`` holds. All other values are compared exactly. If a value misses the bound by no
    more than its rounding error, `values` and `table` return the bound itself.

    Parameters
    ----------
    metric : Metric
    bound : float
        It may be infinite if it then never binds. NaN, and an infinite bound that nothing satisfies, are errors.
    sense : {"<=", ">="}
    confidence : float, optional
        For a noisy metric: the confidence limit of the mean at this level must satisfy the bound; see `at_confidence`.
    words : str
        Name of the constraint in reports, in place of metric, sense and bound; see `named`.

    Examples
    --------
    >>> from cggd import Additive
    >>> latency = Additive(ChoiceSpace.from_sizes([2, 2]), [1, 2, 3, 4], name="latency", unit="ms")
    >>> limit = latency <= 5.0
    >>> limit
    Constraint(latency <= 5 ms)
    >>> print(limit.report([1, 1]))
    latency <= 5 ms: 6, violated by 1
    """

    metric: Metric
    bound: float
    sense: Literal["<=", ">="]
    confidence: float | None = None
    words: str = ""

    def __post_init__(self) -> None:
        check_metric(self.metric, "metric")
        if self.sense not in ("<=", ">="):
            raise ValueError(f'sense must be "<=" or ">=", got {self.sense!r}')
        name = self.metric.name
        if isinstance(self.bound, Metric):
            raise TypeError(f"the bound on {name!r} must be a number; write {name} - {self.bound.name} {self.sense} 0")
        bound = as_number(self.bound, f"the bound on {name!r}", finite=False)
        if np.isinf(bound) and (bound > 0) != (self.sense == "<="):
            raise ValueError(f"nothing can satisfy {name} {self.sense} {bound}")
        own(self, bound=bound)
        if self.confidence is not None:
            level = as_number(self.confidence, "confidence")
            if not 0.5 <= level < 1:
                raise ValueError(f"confidence must be at least 0.5 and less than 1, got {level}")
            if not self.metric.noisy:
                raise ValueError(f"metric {name!r} knows no noise; make it a Function with repeats of at least 2")
            own(self, confidence=level)

    def at_confidence(self, level: float) -> Constraint:
        """The same bound on the confidence limit of a noisy metric's mean, instead of the mean.

        The limit is one-sided, by Student's distribution over the metric's repeats. With a `level` of 0.95, a selection
        whose true mean just misses the bound passes one measurement in twenty, so among several measured candidates one
        may pass by chance. Values, tables and reports of the constraint are then confidence limits.
        """
        return replace(self, confidence=level)

    def named(self, words: str) -> Constraint:
        """The same bound with a name for reports.

        Examples
        --------
        >>> from cggd import Additive
        >>> room = Additive(ChoiceSpace.from_sizes([2]), [60, 40], name="supply - draw", unit="W")
        >>> print((room >= 50).named("the supply suffices").report([1]))
        the supply suffices: violated by 10 W
        """
        return replace(self, words=words)

    def values(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        """Values to compare with the bound, (n, n_decisions) to (n,); with `confidence`, confidence limits.

        The value of an invalid selection is NaN, which satisfies no bound.
        """
        if self.confidence is not None:
            return self.metric.confidence_limits(selections, self.confidence, self.sign)
        return snapped(*self.metric.rounded(selections, self.sign), self.sign, self.bound)

    def table(self, selection: NDArray[np.int64], *, local: bool = False) -> NDArray[np.float64]:
        """Replacement table to compare with the bound, shape (n_options,); with `confidence`, confidence limits.

        With `local`, an upper bound gets the table of the metric's parts (`cggd.Metric.local_replacements`). The entry
        of an invalid selection violates the bound, and is worse than all others.
        """
        local = local and self.sign > 0
        if self.confidence is not None:
            table = self.metric.confidence_table(selection, self.confidence, self.sign, local=local)
        else:
            table = snapped(*self.metric.rounded_table(selection, self.sign, local=local), self.sign, self.bound)
        return worsened(table, self.sign, self.limit)

    def ruled_out(self, selections: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which selections are known to miss the bound without a call of a costly metric, (n, n_decisions) to (n,)."""
        if not self.metric.costly:
            return ~self.holds(selections)
        low, high = self.metric.between(selections)
        best = low if self.sign > 0 else high
        with np.errstate(invalid="ignore"):
            size = OPERATIONS * UNIT * np.maximum(np.abs(best), abs(self.bound))
            return np.isnan(best) | (self.sign * (best - self.bound) > np.where(np.isfinite(size), size, 0.0))

    @property
    def space(self) -> ChoiceSpace:
        """The choice space of the metric."""
        return self.metric.space

    @property
    def sign(self) -> float:
        """1 for ``<=`` and -1 for ``>=``: the constraint is ``sign * metric <= sign * bound``."""
        return 1.0 if self.sense == "<=" else -1.0

    def sign_of(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """``sign * numbers``, without a copy where the sign is 1."""
        return numbers if self.sign > 0 else -numbers

    @property
    def limit(self) -> float:
        """``sign * bound``: what ``sign * value`` must not exceed."""
        return self.sign * self.bound

    def satisfied(self, values: ArrayLike) -> Any:
        """Whether numbers returned by `values` or `table` satisfy the bound, elementwise."""
        return self.sign * np.asarray(values, dtype=float) <= self.limit

    def holds(self, selections: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether selections satisfy the bound, (n, n_decisions) to (n,).

        The value of a single selection decides, and a model may round differently in a batch. Selections that miss the
        bound by less than rounding in the batch are therefore evaluated again one by one.
        """
        values = self.values(selections)
        held = np.asarray(self.satisfied(values))
        if len(selections) > 1 and not held.all():
            with np.errstate(invalid="ignore"):
                excess = self.sign * (values - self.bound)
                near = ~held & (excess <= OPERATIONS * UNIT * np.maximum(np.abs(values), abs(self.bound)))
            for i in np.flatnonzero(near):
                held[i] = self.satisfied(self.values(selections[i : i + 1]))[0]
        return held

    def violation(self, values: ArrayLike) -> Any:
        """By how much numbers returned by `values` or `table` violate the bound, elementwise; infinite for NaN."""
        values = np.asarray(values, dtype=float)
        with np.errstate(invalid="ignore"):  # inf - inf, where a bound never binds
            return np.where(self.satisfied(values), 0.0, _or_infinite(self.sign * (values - self.bound)))

    def report(self, selection: Mapping[Hashable, Hashable] | ArrayLike) -> Row:
        """Evaluate the metric on a selection and compare it with the bound."""
        return self.row(float(self.values(self.space.indices(selection)[None])[0]))

    def row(self, value: float) -> Row:
        """The line of a report for a known value."""
        slack, satisfied = self.sign * (self.bound - value) + 0.0, bool(self.satisfied(value))
        name, unit = self.metric.name, self.metric.unit
        return Row(name, value, self.sense, self.bound, slack, unit, satisfied, self.confidence, self.words)

    def __repr__(self) -> str:
        return f"Constraint({self})"

    def __str__(self) -> str:
        if self.words:
            return self.words
        return _bound_text(self.metric.name, self.sense, bound_text(self.bound), self.metric.unit, self.confidence)

    def __bool__(self) -> bool:
        raise TypeError(
            f"{self!r} has no truth value; a chained comparison such as a <= metric <= b must be written as two "
            "constraints, and a selection is tested with constraint.report(selection).satisfied"
        )


@dataclass(frozen=True, repr=False)
class Row:
    """One line of a constraint report.

    `slack` is the distance to the bound, negative if it is violated. `words` is the name of the constraint, if it has
    one.
    """

    name: str
    value: float
    sense: str
    bound: float
    slack: float
    unit: str
    satisfied: bool
    confidence: float | None = None
    words: str = ""

    def __repr__(self) -> str:
        return f"Row({self})"

    def __str__(self) -> str:
        if np.isnan(self.value):
            bound = bound_text(self.bound)
            return f"{self.words or _bound_text(self.name, self.sense, bound, self.unit, self.confidence)}: not valid"
        if self.words:
            unit = f" {self.unit}" if self.unit else ""
            left = f", {number_text(self.slack)}{unit} left" if self.slack else ""
            return f"{self.words}: " + (
                f"kept{left}" if self.satisfied else f"violated by {number_text(-self.slack)}{unit}"
            )
        value, bound = true_texts(self.value, self.bound)
        bound = max(bound, bound_text(self.bound), key=len)
        fact = f"{number_text(self.slack)} left" if self.satisfied else f"violated by {number_text(-self.slack)}"
        return f"{_bound_text(self.name, self.sense, bound, self.unit, self.confidence)}: {value}, {fact}"


class Violations:
    """By how much values violate the bounds of several constraints.

    Parameters
    ----------
    constraints : list of Constraint

    Examples
    --------
    >>> from cggd import Additive
    >>> cost = Additive(ChoiceSpace.from_sizes([2, 2]), [1, 2, 3, 4])
    >>> missed = Violations([cost <= 4.0, cost >= 5.0])
    >>> missed(np.array([6.0, 6.0])), missed.total(np.array([6.0, 6.0]))
    (array([2., 0.]), 0.5)
    """

    signs: NDArray[np.float64]
    bounds: NDArray[np.float64]
    sizes: NDArray[np.float64]

    def __init__(self, constraints: Sequence[Constraint]) -> None:
        self.signs = np.array([c.sign for c in constraints], dtype=float)
        self.bounds = np.array([c.bound for c in constraints], dtype=float)
        self.sizes = np.where(self.bounds == 0, 1.0, np.abs(self.bounds))

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Violations by values that `Constraint.values` returned, shape (n_constraints,); infinite where invalid."""
        with np.errstate(invalid="ignore"):  # inf - inf, of a bound that never binds
            missed = _or_infinite(self.signs * (values - self.bounds))
            return np.where(self.signs * values <= self.signs * self.bounds, 0.0, missed)

    def total(self, values: NDArray[np.float64]) -> float:
        """Sum of the violations, each divided by the size of its bound."""
        return float((self(values) / self.sizes).sum())


def _or_infinite(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numbers with infinity for NaN: the violation of an invalid selection."""
    return np.where(np.isnan(numbers), np.inf, numbers)


# A bound this many times above or below all values is likely given in another unit, such as bytes instead of kB.
FAR = 100.0


def unit_hint(constraint: Constraint, low: float, high: float) -> str:
    """A hint that a bound may be given in another unit; empty if it is near the values of the metric.

    Parameters
    ----------
    constraint : Constraint
    low, high : float
        Least and largest value of the metric, such as those of `Metric.limits`; infinite if not known.

    Examples
    --------
    >>> from cggd import Additive
    >>> macs = Additive(ChoiceSpace.from_sizes([2, 2]), [1, 2, 3, 4], name="macs", unit="MMAC")
    >>> print(unit_hint(macs <= 5e6, *macs.limits()))
    macs <= 5000000 MMAC is 833,333 times the largest known value of macs, 6 MMAC; is the bound in MMAC?
    """
    metric, bound = constraint.metric, constraint.bound
    if bound <= 0 or not np.isfinite(bound):
        return ""
    if 0 < high < bound / FAR:
        ratio, end, value = bound / high, "times the largest", high
    elif np.isfinite(low) and bound < low / FAR:
        ratio, end, value = low / bound, "times less than the least", low
    else:
        return ""
    unit = f" {metric.unit}" if metric.unit else ""
    ask = f"is the bound in {metric.unit}?" if unit else "the metric is a plain number, not thousands or millions"
    return f"{constraint} is {ratio:,.0f} {end} known value of {metric.name}, {number_text(value)}{unit}; {ask}"


def _bound_text(name: str, sense: str, bound: str, unit: str, confidence: float | None) -> str:
    level = f" at {confidence:.4g} confidence" if confidence is not None else ""
    return f"{name} {sense} {bound}{' ' + unit if unit else ''}{level}"


class Rule(Protocol):
    """Something that makes a constraint for a choice space, such as the rules of `cggd.rules`."""

    def on(self, space: ChoiceSpace) -> Constraint:
        """The rule as a constraint."""
        ...


def check_constraints(
    constraints: Iterable[Constraint | Rule] | Constraint | Rule, space: ChoiceSpace | None = None
) -> list[Constraint]:
    """Check constraints of one space, apply rules to it, and return a list.

    Parameters
    ----------
    constraints : Constraint, rule, or iterable of these
    space : ChoiceSpace, optional
        By default that of the first constraint.
    """
    if isinstance(constraints, Constraint) or (hasattr(constraints, "on") and not isinstance(constraints, Metric)):
        constraints = [cast(Any, constraints)]
    if isinstance(constraints, str | Metric) or not isinstance(constraints, Iterable):
        hint = "; of a function f give [Function(space, f) <= 5]" if callable(constraints) else ""
        raise TypeError(f"constraints must be a list of constraints such as [metric <= 5], got {constraints!r}{hint}")
    given = list(constraints)
    if space is None:
        space = next((c.space for c in given if isinstance(c, Constraint)), None)
    found: list[Constraint] = []
    for one in given:
        if hasattr(one, "on"):
            if space is None:
                raise ValueError(f"{one!r} does not know its choice space; give {type(one).__name__}.on(space) instead")
            one = cast(Rule, one).on(space)
        if not isinstance(one, Constraint):
            hint = "; for metric == 5 give metric <= 5 and metric >= 5" if isinstance(one, bool) else ""
            if callable(one):
                hint = "; of a function f that returns numbers give Function(space, f) <= 5, of one that returns "
                hint += "bools cggd.rules.holds(f)"
            raise TypeError(f"constraints must hold constraints such as metric <= 5, got {one!r}{hint}")
        if one.space is not space:
            raise ValueError(
                f"{one!r} belongs to another choice space, {one.space}, than the rest, {space}; "
                "make one space and pass it to every metric"
            )
        found.append(one)
    return found


def soft(constraint: Constraint, price: float) -> Metric:
    """The cost of violating a bound: a price for each unit of violation, 0 if the bound holds.

    In place of the constraint, add it to an objective that is minimised, or subtract it from one that is maximised.

    Parameters
    ----------
    constraint : Constraint
        Of a rule, a unit is one violation.
    price : float
        At least 0.

    Examples
    --------
    >>> from cggd import Additive, maximize
    >>> space = ChoiceSpace({"cpu": ["slow", "fast"], "disk": ["small", "large"]})
    >>> speed = Additive(space, [1, 5, 2, 4], name="speed")
    >>> price = Additive(space, [20, 60, 30, 50], name="price", unit="EUR")
    >>> maximize(speed - soft(price <= 90, 0.05)).value
    8.0
    """
    if not isinstance(constraint, Constraint):
        raise TypeError(
            f"constraint must be a bound such as metric <= 5, or a rule put on its space with "
            f"rule.on(space), got {constraint!r}"
        )
    missed = constraint.sign * constraint.metric - constraint.limit
    nothing = Additive(constraint.space, np.zeros(constraint.space.n_options), name="0")
    name = f"{number_text(as_amount(price, 'price'))} per unit that {constraint} is missed by"
    return as_amount(price, "price") * maximum(missed, nothing, name=name)


operators.bound = Constraint
