"""Peak activation memory as a metric with parts, for bounds that several layers exceed at once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cggd.metrics import Metric
from cggd.metrics.evaluation import current_evaluation, digest
from cggd.space import ChoiceSpace
from cggd_nas.trace import Trace


@dataclass(frozen=True, eq=False, repr=False)
class PeakMemory(Metric):
    """The largest amount of activations alive at once, from traces of networks; made by `Costs.peak_memory`.

    If several layers exceed a bound, no single switch lowers the peak. A decision's part (`local_replacements`) is the
    largest amount alive while one of its operations runs (`Trace.peaks`); a switch of that decision can lower it. It is
    0 for decisions without operations.

    Parameters
    ----------
    space : ChoiceSpace
    trace : callable
        From a labelled selection to the `Trace` of its network.
    kb : float
        KiB of one element.
    name, unit : str
    """

    space: ChoiceSpace
    trace: Callable[[Mapping[Hashable, Hashable]], Trace]
    kb: float
    name: str = field(default="memory", kw_only=True)
    unit: str = field(default="KiB", kw_only=True)
    _known: dict[bytes, tuple[int, NDArray[np.int64]]] = field(init=False, default_factory=dict)

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([self._peaks(row)[0] for row in selections], dtype=float) * self.kb

    @property
    def parted(self) -> bool:
        return True

    def local_replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        # Forbidden options are not traced and have the part of the current selection, as in `over_switches`.
        table = self.space.layout.spread(self._peaks(selection)[1].astype(float))
        allowed = current_evaluation().allowed
        asked = np.arange(self.space.n_options) if allowed is None else np.flatnonzero(allowed)
        owner = self.space.layout.owner[asked]
        for option, d, row in zip(asked, owner, self.space.switches(selection)[asked], strict=True):
            table[option] = self._peaks(row)[1][d]
        return table * self.kb

    def _peaks(self, row: NDArray[np.int64]) -> tuple[int, NDArray[np.int64]]:
        """Elements at the peak, and at the peak of each decision, shape (n_decisions,)."""
        key, evaluation = np.ascontiguousarray(row).tobytes(), current_evaluation()
        if key not in self._known or evaluation.fresh:
            evaluation.count([digest(row)], self)
            recorded = self.trace(self.space.labels(row))
            parts = np.zeros(self.space.n_decisions, dtype=np.int64)
            for decision, peak in recorded.peaks.items():
                parts[self.space.position(decision)] = peak
            self._known[key] = int(recorded.live_elements.max()), parts
        return self._known[key]
