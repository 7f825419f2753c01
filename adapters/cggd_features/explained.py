"""R^2 of the selected variables as a metric of the core."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cggd import ChoiceSpace, Metric
from cggd_features.fit import UPDATES, Fit
from cggd_features.gram import Gram

# A fit that differs by more variables than this is computed anew.
NEARBY = 4


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
        fit = Fit.at(self.gram, selected)
        self._last[:] = [(fit, 0)]
        return fit

    def limits(self) -> tuple[float, float]:
        return 0.0, 1.0

    def minimum(self) -> float:
        return 0.0

    def maximum(self) -> float:
        return self.gram.explained(np.ones(self.space.n_decisions, dtype=bool))
