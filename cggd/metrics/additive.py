"""Additive metrics: look-up tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd.checks import as_number, own
from cggd.metrics.base import Metric, Shifted, SumTable, table_of, values_of
from cggd.metrics.state import State, SumState
from cggd.pair_counts import flat_ranks
from cggd.rounding import WHOLE, is_whole, sum_rounding
from cggd.space import ChoiceSpace, check_space


@dataclass(frozen=True, eq=False, repr=False)
class Additive(Metric):
    """A sum of one number per selected option: a look-up table.

    Parameters
    ----------
    space : ChoiceSpace
    values : array-like of shape (n_options,), or mapping of decision to (mapping of option to number, or sequence)
        A float32 array is kept as float32.
    constant : float
        Added once, for example the fixed part of a network.
    name, unit : str

    Examples
    --------
    >>> space = ChoiceSpace({"stem": ["conv3", "conv5"], "pool": ["max", "none"]})
    >>> latency = Additive(space, [1.0, 2.5, 0.5, 0.0], name="latency", unit="ms")
    >>> latency({"stem": "conv5", "pool": "max"})
    3.0
    >>> latency.replacements(space.indices({"stem": "conv5", "pool": "max"}))
    array([1.5, 3. , 3. , 2.5])
    """

    space: ChoiceSpace
    values: Any
    constant: float = 0.0
    name: str = field(default="cost", kw_only=True)
    unit: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        check_space(self.space)
        own(self, values=self.space.values(self.values), constant=as_number(self.constant, "constant"))

    @classmethod
    def from_table(cls, space: ChoiceSpace, frame: Any, column: str, *, unit: str = "") -> Additive:
        """One column of a long table with columns ``decision`` and ``option``; its rows may stand in any order."""
        return cls(space, space.from_rows(frame, column), name=column, unit=unit)

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.values[self.space.layout.flat(selections)].sum(axis=-1, dtype=float) + self.constant

    def rounded(self, selections: NDArray[np.int64], sign: float) -> tuple[NDArray[np.float64], Any]:
        values = values_of(self, selections)
        return values, self._rounding(np.abs(values) if self._one_sided else self._magnitude(selections))

    def rounded_table(
        self, selection: NDArray[np.int64], sign: float, *, local: bool = False
    ) -> tuple[NDArray[np.float64], Any]:
        table = table_of(self, selection, local=local)
        return table, self._rounding(self._magnitude(selection) + np.abs(self.values, dtype=float))

    def _magnitude(self, selections: NDArray[np.int64]) -> Any:
        """Sum of the absolute values of the addends, (..., n_decisions) to (...); 0 if all sums are exact."""
        if self._exact:
            return 0.0
        return np.abs(self.values[self.space.layout.flat(selections)]).sum(axis=-1, dtype=float) + abs(self.constant)

    def _rounding(self, magnitude: Any) -> Any:
        return 0.0 if self._exact else sum_rounding(magnitude, self.space.n_decisions + 1)

    @cached_property
    def _one_sided(self) -> bool:
        """Whether no two numbers have opposite signs, so that a sum is its own largest partial sum."""
        ends = float(self.values.min()), float(self.values.max()), self.constant
        return min(ends) >= 0 or max(ends) <= 0

    @cached_property
    def _exact(self) -> bool:
        """Whether all numbers are whole and so small that floats add them without rounding."""
        if not (is_whole(self.constant) and is_whole(self.values)):
            return False
        most = self.space.layout.reduce(np.maximum, np.abs(self.values)).sum(dtype=float) + abs(self.constant)
        return bool(most < WHOLE)

    def replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        shift = self._shifted(selection).shift
        if self.space.layout.uniform is not None:
            return (self.values.reshape(self.space.n_decisions, -1) + shift[:, None]).ravel()
        table = self.space.layout.spread(shift)
        table += self.values
        return table

    def state(self, selection: NDArray[np.int64]) -> State:
        return SumState(self.space, self.values, self.constant, selection)

    def shifted(self, selection: NDArray[np.int64]) -> Shifted | None:
        if type(self).replacements is not Additive.replacements:
            return None  # a subclass with a table of its own
        return self._shifted(selection)

    def _shifted(self, selection: NDArray[np.int64]) -> Shifted:
        chosen = self.values[self.space.layout.flat(selection)]
        shift = chosen.sum(dtype=float) + self.constant - chosen
        size = self._magnitude(selection)
        return Shifted(
            self.values,
            shift,
            lambda: self._ranks,
            lambda: self._deviation,
            lambda at: self._rounding(size + np.abs(at)),
        )

    @cached_property
    def _deviation(self) -> float:
        return float(self.values.std(dtype=float))

    @cached_property
    def _ranks(self) -> NDArray[np.integer]:
        return flat_ranks(self.values, self.space.layout)

    @property
    def separable(self) -> bool:
        return True

    @property
    def closed_form(self) -> bool:
        return True

    def sum_table(self) -> SumTable | None:
        return SumTable(self.values, self.constant, abs(self.constant))

    def least_with(self, sign: float, allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
        layout = self.space.layout
        values = sign * self.values.astype(float)
        low = layout.reduce(np.minimum, np.where(allowed, values, np.inf))
        least = values + layout.spread(low.sum() + sign * self.constant - low)
        # Both the sums here and those of `evaluate` round.
        size = np.abs(low).sum() + abs(self.constant)
        return least if self._exact else least - 2 * self._rounding(size + np.abs(values) + layout.spread(np.abs(low)))

    def addends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        values = self.values.astype(float)
        first = self.space.layout.spread(values[self.space.offsets[:-1]])
        return values - first, np.abs(values) + np.abs(first)

    def limits(self) -> tuple[float, float]:
        return self.minimum(), self.maximum()

    def minimum(self) -> float:
        return float(self.space.layout.reduce(np.minimum, self.values).sum(dtype=float) + self.constant)

    def maximum(self) -> float:
        return float(self.space.layout.reduce(np.maximum, self.values).sum(dtype=float) + self.constant)
