"""Sums, scalings and maxima of metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cggd.checks import own
from cggd.expressions import Expression, Program
from cggd.metrics.additive import Additive
from cggd.metrics.base import Metric, SumTable, as_term, check_metric, check_numbers, operators, sum_table_of
from cggd.metrics.state import JoinedState, State
from cggd.rounding import WHOLE, is_whole, sum_rounding
from cggd.space import ChoiceSpace


@dataclass(frozen=True, eq=False, repr=False)
class Combination(Metric):
    """A weighted sum of metrics and a constant; made by ``a + 2 * b - 1``."""

    space: ChoiceSpace
    terms: Sequence[tuple[float, Metric]]
    constant: float = 0.0
    name: str = field(default="sum", kw_only=True)
    unit: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        # With weights that are Python floats, sums of float32 tables would have rounding errors of float32.
        own(self, terms=tuple((np.float64(weight), metric) for weight, metric in self.terms))

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.sum([w * metric.evaluate(selections) for w, metric in self.terms], axis=0) + self.constant

    def replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.sum([w * metric.replacements(selection) for w, metric in self.terms], axis=0) + self.constant

    def rounded(self, selections: NDArray[np.int64], sign: float) -> tuple[NDArray[np.float64], Any]:
        return self._added([metric.rounded(selections, math.copysign(sign, w * sign)) for w, metric in self.terms])

    def rounded_table(
        self, selection: NDArray[np.int64], sign: float, *, local: bool = False
    ) -> tuple[NDArray[np.float64], Any]:
        local = local and self._alone is not None
        how = [(metric, math.copysign(sign, w * sign), local and bool(w)) for w, metric in self.terms]
        return self._added([metric.rounded_table(selection, s, local=parts) for metric, s, parts in how])

    def _added(self, parts: Sequence[tuple[NDArray[np.float64], Any]]) -> tuple[NDArray[np.float64], Any]:
        """The weighted sum of values, and its rounding error: those of the terms plus that of their addition."""
        added = [w * values for (w, _), (values, _) in zip(self.terms, parts, strict=True)]
        rounding = sum(abs(w) * r for (w, _), (_, r) in zip(self.terms, parts, strict=True))
        magnitude = np.sum(np.abs(added), axis=0) + abs(self.constant)
        numbers = [self.constant, *(w for w, _ in self.terms)]
        # Sums of whole numbers are exact. This is decided for each selection, so the result is the same in a batch.
        exact = magnitude < WHOLE if is_whole(numbers) else np.zeros(np.shape(magnitude), dtype=bool)
        for values in added if exact.any() else ():
            exact &= np.rint(values) == values
        if not exact.all():
            rounding = rounding + np.where(exact, 0.0, sum_rounding(magnitude, len(numbers)))
        return check_numbers(self, "evaluate", np.sum(added, axis=0) + self.constant), rounding

    @property
    def parted(self) -> bool:
        return self._alone is not None

    @property
    def _alone(self) -> tuple[float, Metric] | None:
        """The only metric with a weight, if it is a maximum of parts; parts of a sum interact."""
        counts = [(weight, metric) for weight, metric in self.terms if weight]
        return counts[0] if len(counts) == 1 and counts[0][0] > 0 and counts[0][1].parted else None

    def local_replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        if self._alone is None:
            return self.replacements(selection)
        weight, metric = self._alone
        return weight * metric.local_replacements(selection) + self.constant

    def state(self, selection: NDArray[np.int64]) -> State:
        parts = [metric.state(selection) for _, metric in self.terms]
        factors = [w for w, _ in self.terms]

        def join(numbers: Sequence[NDArray]) -> NDArray:
            return np.asarray(sum((w * n for w, n in zip(factors, numbers, strict=True)), self.constant))

        def local(states: Sequence[State]) -> NDArray:
            if self._alone is None:
                return join([state.table() for state in states])
            pairs = zip(factors, states, strict=True)
            return join([state.local_table() if w else np.zeros(self.space.n_options) for w, state in pairs])

        known = [part.weights for part in parts if part.weights is not None]
        weights = join(known) - self.constant if len(known) == len(parts) else None
        return JoinedState(parts, join, local, weights)

    def errors(self, selection: NDArray[np.int64]) -> NDArray[np.float64] | None:
        return self._root_of_squares([metric.errors(selection) for _, metric in self.terms])

    def value_errors(self, selections: NDArray[np.int64]) -> NDArray[np.float64] | None:
        return self._root_of_squares([metric.value_errors(selections) for _, metric in self.terms])

    def _root_of_squares(self, errors: Sequence[NDArray[np.float64] | None]) -> NDArray[np.float64] | None:
        """Error of a weighted sum of independent terms."""
        squares = [(w * e) ** 2 for (w, _), e in zip(self.terms, errors, strict=True) if e is not None]
        return np.sqrt(np.sum(squares, axis=0)) if squares else None

    @property
    def components(self) -> Sequence[Metric]:
        return [metric for _, metric in self.terms]

    @property
    def separable(self) -> bool:
        return all(metric.separable for _, metric in self.terms)

    @property
    def closed_form(self) -> bool:
        return all(metric.closed_form for _, metric in self.terms)

    @property
    def costly(self) -> bool:
        return any(metric.costly for w, metric in self.terms if w)

    def as_costly(self) -> Metric:
        return replace(self, terms=[(w, metric.as_costly()) for w, metric in self.terms])

    def between(self, selections: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        ends = [(w, metric.between(selections)) for w, metric in self.terms if w]
        low, high = (
            sum((w * between[int((w > 0) == upper)] for w, between in ends), np.full(len(selections), self.constant))
            for upper in (False, True)
        )
        return low, high

    def sum_table(self) -> SumTable | None:
        parts = [(weight, sum_table_of(metric)) for weight, metric in self.terms if weight]
        values, constant, lost = np.zeros(self.space.n_options), self.constant, abs(self.constant)
        for weight, part in parts:
            if part is None:
                return None
            shown = weight * part.values.astype(float)
            values, constant = values + shown, constant + weight * part.constant
            lost += float(np.abs(shown).sum()) + abs(weight) * part.lost
        return SumTable(values, constant, lost)

    def expression(self, program: Program, sign: float) -> Expression | None:
        counted = [(abs(w), m, math.copysign(1.0, w * sign)) for w, m in self.terms if w]
        # The parts of a maximum remain separate rows, unless something else is added to it.
        form = program.of if len(counted) == 1 else program.linear
        total = Expression.of(sign * self.constant)
        for weight, metric, direction in counted:
            part = form(metric, direction)
            if part is None:
                return None
            total = total + weight * part
        return total

    def least_with(self, sign: float, allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
        least = np.full(self.space.n_options, sign * self.constant)
        size = np.abs(least)
        for weight, metric in self.terms:
            if weight:
                part = abs(weight) * metric.least_with(math.copysign(sign, weight * sign), allowed)
                least, size = least + part, size + np.abs(part)
        with np.errstate(invalid="ignore"):
            return np.where(np.isfinite(size), least - 2 * sum_rounding(size, len(self.terms) + 1), -np.inf)

    def addends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        parts = [(weight, metric.addends()) for weight, metric in self.terms if weight]
        known = [(weight * part[0], abs(weight) * part[1]) for weight, part in parts if part is not None]
        return _joined(known) if len(known) == len(parts) else None

    def limits(self) -> tuple[float, float]:
        ends = [sorted((w * low, w * high)) for w, (low, high) in ((w, m.limits()) for w, m in self.terms) if w]
        return self.constant + sum(low for low, _ in ends), self.constant + sum(high for _, high in ends)

    # The extremes of a single scaled metric follow from that metric; those of a sum do not.
    def minimum(self) -> float:
        (weight, metric), *others = self.terms
        if others:
            return Metric.minimum(self)
        return weight * (metric.minimum() if weight >= 0 else metric.maximum()) + self.constant

    def maximum(self) -> float:
        return -(-self).minimum()


@dataclass(frozen=True, eq=False, repr=False)
class Maximum(Metric):
    """The largest of several metrics; made by `maximum`."""

    space: ChoiceSpace
    metrics: Sequence[Metric]
    name: str = field(default="maximum", kw_only=True)
    unit: str = field(default="", kw_only=True)

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.max([metric.evaluate(selections) for metric in self.metrics], axis=0)

    def rounded(self, selections: NDArray[np.int64], sign: float) -> tuple[NDArray[np.float64], Any]:
        return _largest([metric.rounded(selections, sign) for metric in self.metrics], sign)

    def rounded_table(
        self, selection: NDArray[np.int64], sign: float, *, local: bool = False
    ) -> tuple[NDArray[np.float64], Any]:
        return _largest([metric.rounded_table(selection, sign, local=local) for metric in self.metrics], sign)

    def replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.max([metric.replacements(selection) for metric in self.metrics], axis=0)

    @property
    def parted(self) -> bool:
        return True

    def local_replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.max([metric.local_replacements(selection) for metric in self.metrics], axis=0)

    def state(self, selection: NDArray[np.int64]) -> State:
        def local(states: Sequence[State]) -> NDArray:
            return np.max([state.local_table() for state in states], axis=0)

        parts = [metric.state(selection) for metric in self.metrics]
        return JoinedState(parts, lambda numbers: np.max(numbers, axis=0), local)

    def errors(self, selection: NDArray[np.int64]) -> NDArray[np.float64] | None:
        tables = [metric.replacements(selection) for metric in self.metrics]
        return self._of_largest(tables, [metric.errors(selection) for metric in self.metrics])

    def value_errors(self, selections: NDArray[np.int64]) -> NDArray[np.float64] | None:
        values = [metric.evaluate(selections) for metric in self.metrics]
        return self._of_largest(values, [metric.value_errors(selections) for metric in self.metrics])

    # The limit of a maximum is the largest limit of its parts, because an uncertain part may be the largest.
    def confidence_limits(self, selections: NDArray[np.int64], level: float, sign: float) -> NDArray[np.float64]:
        return np.max([metric.confidence_limits(selections, level, sign) for metric in self.metrics], axis=0)

    def confidence_table(
        self, selection: NDArray[np.int64], level: float, sign: float, *, local: bool = False
    ) -> NDArray[np.float64]:
        return np.max([m.confidence_table(selection, level, sign, local=local) for m in self.metrics], axis=0)

    @staticmethod
    def _of_largest(
        values: Sequence[NDArray[np.float64]], errors: Sequence[NDArray[np.float64] | None]
    ) -> NDArray[np.float64] | None:
        """Error of the metric that is largest, entry by entry."""
        if all(e is None for e in errors):
            return None
        rows = np.stack([np.zeros(len(values[0])) if e is None else e for e in errors])
        return np.take_along_axis(rows, np.argmax(values, axis=0)[None], axis=0)[0]

    @property
    def components(self) -> Sequence[Metric]:
        return self.metrics

    @property
    def closed_form(self) -> bool:
        return all(metric.closed_form for metric in self.metrics)

    def as_costly(self) -> Metric:
        return replace(self, metrics=[metric.as_costly() for metric in self.metrics])

    def between(self, selections: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        lows, highs = zip(*(metric.between(selections) for metric in self.metrics), strict=True)
        return np.max(lows, axis=0), np.max(highs, axis=0)

    def expression(self, program: Program, sign: float) -> Expression | None:
        if sign < 0 and len(self.metrics) > 1:
            return None
        parts = [part for metric in self.metrics if (part := program.of(metric, sign)) is not None]
        return Expression.join(parts) if len(parts) == len(self.metrics) else None

    def least_with(self, sign: float, allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
        parts = [metric.least_with(sign, allowed) for metric in self.metrics]
        return np.max(parts, axis=0) if sign > 0 else np.min(parts, axis=0)

    def addends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        known = [part for metric in self.metrics if (part := metric.addends()) is not None]
        if len(known) < len(self.metrics):
            return None
        first = np.zeros((1, self.space.n_decisions), dtype=np.int64)
        values = np.array([metric.evaluate(first)[0] for metric in self.metrics])
        return _joined([*known, (values - values[0], np.abs(values) + abs(values[0]))])

    def limits(self) -> tuple[float, float]:
        lows, highs = zip(*(metric.limits() for metric in self.metrics), strict=True)
        return max(lows), max(highs)

    def maximum(self) -> float:
        return max(metric.maximum() for metric in self.metrics)


def _joined(
    parts: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Addends of several metrics together."""
    numbers, sizes = zip(*parts, strict=True) if parts else ((), ())
    return (np.concatenate(numbers), np.concatenate(sizes)) if parts else None


def _largest(parts: Sequence[tuple[NDArray[np.float64], Any]], sign: float) -> tuple[NDArray[np.float64], Any]:
    """The largest values and their rounding error.

    All parts must satisfy an upper bound, but only one part a lower bound; the error therefore depends on `sign`.
    """
    values = np.max([part for part, _ in parts], axis=0)
    return values, sign * (values - np.max([part - sign * rounding for part, rounding in parts], axis=0))


def maximum(*metrics: Metric, name: str | None = None) -> Maximum:
    """The largest of several metrics of one space, for example the fullest of several devices.

    Examples
    --------
    >>> space = ChoiceSpace.from_sizes([2, 2])
    >>> both = maximum(Additive(space, [1, 5, 0, 2]), Additive(space, [4, 0, 1, 1]))
    >>> both.evaluate(space.enumerate())
    array([5., 5., 5., 7.])
    """
    if not metrics:
        raise ValueError("maximum needs at least one metric")
    for metric in metrics:
        check_metric(metric, "each argument of maximum")
    _same_space(metrics)
    return Maximum(
        metrics[0].space,
        metrics,
        name=name or f"max({', '.join(metric.name for metric in metrics)})",
        unit=_common_unit(metrics),
    )


def combine(left: Metric, right: Metric | float) -> Metric:
    """``left + right``; the sum of two metrics with sum tables is additive."""
    if not isinstance(right, Metric):
        number = as_term(right, left)
        if number == 0:
            return left
        if (table := _exact_table(left)) is not None:
            return Additive(left.space, table.values, table.constant + number, name=left.name, unit=left.unit)
        return replace(_terms(left), constant=_terms(left).constant + number)
    _same_space((left, right))
    name, unit = f"{left.name} + {right.name}", _common_unit((left, right))
    if (one := _exact_table(left)) is not None and (other := _exact_table(right)) is not None:
        values = np.add(one.values, other.values, dtype=float)
        return Additive(left.space, values, one.constant + other.constant, name=name, unit=unit)
    a, b = _terms(left), _terms(right)
    # A metric that occurs twice is one term, because its errors are not independent.
    weights: dict[int, float] = {}
    for weight, metric in (*a.terms, *b.terms):
        weights[id(metric)] = weights.get(id(metric), 0.0) + weight
    distinct = {id(metric): metric for _, metric in (*a.terms, *b.terms)}
    terms = tuple((weights[key], metric) for key, metric in distinct.items())
    return Combination(left.space, terms, a.constant + b.constant, name=name, unit=unit)


def scale(metric: Metric, factor: float) -> Metric:
    """``factor * metric``; a scaled metric with a sum table is additive."""
    if factor == 1:
        return metric
    name = f"-{metric.name}" if factor == -1 else f"{factor:g} {metric.name}"
    if (table := _exact_table(metric)) is not None:
        values = np.multiply(table.values, factor, dtype=float)
        return Additive(metric.space, values, table.constant * factor, name=name, unit=metric.unit)
    whole = _terms(metric)
    return replace(
        whole, terms=tuple((w * factor, m) for w, m in whole.terms), constant=whole.constant * factor, name=name
    )


def _exact_table(metric: Metric) -> SumTable | None:
    """The sum table of a metric; None if terms cancel in it or it has standard errors."""
    table = sum_table_of(metric)
    if table is None or metric.noisy or table.lost > abs(table.constant):
        return None
    first = np.zeros((1, metric.space.n_decisions), dtype=np.int64)
    return table if metric.value_errors(first) is None else None


def _terms(metric: Metric) -> Combination:
    if type(metric) is Combination:
        return metric
    return Combination(metric.space, ((1.0, metric),), name=metric.name, unit=metric.unit)


def _same_space(metrics: Sequence[Metric]) -> None:
    first = metrics[0]
    for other in metrics[1:]:
        if other.space is not first.space:
            raise ValueError(
                f"metrics {first.name!r} and {other.name!r} belong to different choice spaces: "
                f"{first.space} and {other.space}; make one space and pass it to both"
            )


def _common_unit(metrics: Sequence[Metric]) -> str:
    units = dict.fromkeys(metric.unit for metric in metrics)
    return " + ".join(unit or "1" for unit in units) if len(units) > 1 else cast(str, next(iter(units)))


operators.combine, operators.scale = combine, scale
