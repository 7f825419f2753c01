"""Tables: metrics of which every selection's value is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd.checks import own
from cggd.metrics.base import Metric
from cggd.metrics.state import State, Switch, Trail, TrailState
from cggd.space import ENUMERABLE, ChoiceSpace, as_floats, check_space, count


@dataclass(frozen=True, eq=False, repr=False)
class Table(Metric):
    """The stored value of every selection, for spaces up to some millions.

    Parameters
    ----------
    space : ChoiceSpace
    values : array-like of shape (n_selections,), or one axis per decision
        In C order of the decisions (the last varies fastest), as `ChoiceSpace.enumerate` lists them.
    name, unit : str

    Examples
    --------
    >>> space = ChoiceSpace.from_sizes([2, 3])
    >>> accuracy = Table(space, [[70, 71, 75], [72, 90, 80]], name="accuracy", unit="%")
    >>> accuracy([1, 1])
    90.0
    >>> accuracy.replacements(np.array([1, 1]))
    array([71., 90., 72., 90., 80.])
    """

    space: ChoiceSpace
    values: Any
    name: str = field(default="table", kw_only=True)
    unit: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        check_space(self.space)
        n = self.space.n_selections
        if n > ENUMERABLE:
            raise ValueError(
                f"a Table stores every selection, and the space has {count(n)}; at most {ENUMERABLE} are possible"
            )
        values = as_floats(self.values, "values").copy()
        if values.shape not in ((n,), tuple(self.space.sizes.tolist())):
            raise ValueError(f"values must have one number per selection, shape ({n},), got {values.shape}")
        values = values.ravel()
        if not np.isfinite(values).all():
            at = int(np.argmax(~np.isfinite(values)))
            raise ValueError(f"values must be finite, got {values[at]} for selection number {at}")
        own(self, values=values)

    @cached_property
    def _strides(self) -> NDArray[np.int64]:
        sizes = self.space.sizes
        return np.append(np.cumprod(sizes[:0:-1])[::-1], 1)

    @cached_property
    def _steps(self) -> NDArray[np.int64]:
        """Place of each option in its decision times the decision's stride, shape (n_options,)."""
        owner = self.space.layout.owner
        return (np.arange(self.space.n_options) - self.space.offsets[owner]) * self._strides[owner]

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.values[selections @ self._strides]

    def replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        others = selection @ self._strides - selection * self._strides
        return self.values[others[self.space.layout.owner] + self._steps]

    def state(self, selection: NDArray[np.int64]) -> State:
        return _TableState(self, selection)

    @property
    def closed_form(self) -> bool:
        return True

    def limits(self) -> tuple[float, float]:
        return self.minimum(), self.maximum()

    def minimum(self) -> float:
        return float(self.values.min())

    def maximum(self) -> float:
        return float(self.values.max())

    def quantile(self, q: float, *, samples: int = 10_000, seed: int = 0) -> float:
        return Metric.quantile(self, q, samples=max(samples, self.space.n_selections), seed=seed)


class _TableState(TrailState):
    """A table at a selection: its place in the table, which moves by strides."""

    def __init__(self, metric: Table, selection: NDArray[np.int64]) -> None:
        self.metric, self.trail = metric, Trail(selection)
        self._steps = selection * metric._strides

    @property
    def value(self) -> float:
        return float(self.metric.values[self._steps.sum()])

    def table(self) -> NDArray[np.float64]:
        others = self._steps.sum() - self._steps
        return self.metric.values[self.metric.space.layout.spread(others) + self.metric._steps]

    local_table = table

    def entries(self, options: NDArray[np.int64]) -> NDArray[np.float64]:
        others = self._steps.sum() - self._steps[self.metric.space.layout.owner[options]]
        return self.metric.values[others + self.metric._steps[options]]

    def exchanges(self, outgoing: Switch) -> NDArray[np.float64]:
        self.move([outgoing])
        table = self.table()
        self.undo()
        return table

    def _moved(self, made: Sequence[tuple[int, int, int]]) -> None:
        for decision, _, option in made:
            self._steps[decision] = option * self.metric._strides[decision]
