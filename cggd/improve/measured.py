"""Known values of the selections that a search with costly metrics has asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cggd.metrics import Metric

Rows = NDArray[np.int64]

# Decisions whose pairs are counted; their number grows with the square.
PAIRED = 16


class Measured:
    """The selections asked for, and their values of each costly metric.

    Attributes
    ----------
    rows : ndarray of int, shape (n, n_decisions)
    values : ndarray of shape (n, n_metrics)
        NaN where a value is not known yet, and infinite where the selection is invalid.
    """

    def __init__(self, metrics: Sequence[Metric], n_decisions: int) -> None:
        self.metrics = metrics
        self.rows: Rows = np.zeros((0, n_decisions), dtype=np.int64)
        self.values: NDArray[np.float64] = np.zeros((0, len(metrics)))
        self._places: dict[bytes, int] = {}
        self._asked: set[bytes] = set()

    def __contains__(self, row: Rows) -> bool:
        return row.tobytes() in self._places

    def ask(self, rows: Rows) -> None:
        """Add selections that are asked for."""
        self._asked |= keys(rows)
        self.add(rows)

    @property
    def closed(self) -> set[bytes]:
        """Selections that need not be asked for: those asked for before, and those judged."""
        return self._asked | keys(self.rows[self.judged])

    def add(self, rows: Rows) -> None:
        """Add selections whose values may be known."""
        new = {key: row for row in rows if (key := row.tobytes()) not in self._places}
        if new:
            self._places.update({key: len(self._places) + i for i, key in enumerate(new)})
            self.rows = np.concatenate([self.rows, np.stack(list(new.values()))])
            self.values = np.concatenate([self.values, np.full((len(new), len(self.metrics)), np.nan)])

    def learn(self) -> None:
        """Look up the values measured by this search or by others."""
        for metric in self.metrics:
            self.add(metric.remembered())
        for k, metric in enumerate(self.metrics):
            open_rows = np.flatnonzero(np.isnan(self.values[:, k]))
            if len(open_rows):
                low, high = metric.between(self.rows[open_rows])
                self.values[open_rows, k] = np.where(low == high, low, np.where(np.isnan(low), np.inf, np.nan))

    def finite(self, k: int) -> NDArray[np.bool_]:
        """Which selections have a value of a metric."""
        return np.isfinite(self.values[:, k])

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Which selections have a value of every metric."""
        return np.logical_and.reduce(np.isfinite(self.values), axis=1)

    @property
    def judged(self) -> NDArray[np.bool_]:
        """Which selections are known to be valid or not."""
        return self.complete | np.logical_or.reduce(np.isinf(self.values), axis=1)

    def failures(self, rows: Rows, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Largest number of failures of a pair of options that was never valid, shape (n,).

        The rules of devices often concern two decisions, so that a few failures reveal them. Only the first `PAIRED`
        decisions are examined.
        """
        known, valid = self.rows[self.judged], self.complete[self.judged]
        most = np.zeros(len(rows), dtype=np.int64)
        for one in range(min(len(sizes), PAIRED) if len(known) else 0):
            for other in range(one):
                pairs, place = np.unique(known[:, one] * sizes[other] + known[:, other], return_inverse=True)
                failed = np.bincount(place[~valid], minlength=len(pairs))
                failed[place[valid]] = 0
                wanted = rows[:, one] * sizes[other] + rows[:, other]
                at = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
                most = np.maximum(most, np.where(pairs[at] == wanted, failed[at], 0))
        return most


def keys(rows: Rows) -> set[bytes]:
    """Selections as keys of a set."""
    return {row.tobytes() for row in rows}
