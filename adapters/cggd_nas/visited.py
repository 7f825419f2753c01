"""The selections that a search visits: the feasible ones, and the nearest one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cggd import Constraint
from cggd.guide import Observation
from cggd_nas.candidates import Nearest, excess


@dataclass(frozen=True)
class Visit:
    """The epoch in which a selection was visited, and the values of the constraints there."""

    epoch: int
    values: tuple[float, ...]


@dataclass
class Visited:
    """The selections that a search visited.

    Attributes
    ----------
    late : float
        Selections visited before this epoch are kept only until a feasible one is visited in a later epoch.
    feasible : dict of selection to Visit
        The last visit of each selection that satisfies every constraint.
    nearest : Nearest or None
        The selection with the smallest excess.
    """

    late: float
    feasible: dict[tuple[int, ...], Visit] = field(default_factory=dict)
    nearest: Nearest | None = None

    def add(self, seen: Observation, epoch: int, constraints: Sequence[Constraint]) -> None:
        """Record the visit of a selection."""
        selection = tuple(seen.selection.tolist())
        if seen.feasible:
            visit = Visit(epoch, tuple(seen.values.tolist()))
            if epoch >= self.late:
                self.feasible[selection] = visit
            elif not any(earlier.epoch >= self.late for earlier in self.feasible.values()):
                self.feasible = {selection: visit}  # only in case the late epochs visit none
        missed = excess(seen.violations, constraints)
        if self.nearest is None or missed < self.nearest.excess:
            self.nearest = Nearest(selection, missed)

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        nearest = self.nearest
        return {
            "met": [(selection, visit.epoch, visit.values) for selection, visit in self.feasible.items()],
            "nearest": None if nearest is None else (nearest.indices, nearest.excess),
        }

    def restored(self, saved: dict[str, Any]) -> Visited:
        """The visits in a checkpoint."""
        feasible = {tuple(selection): Visit(at, tuple(values)) for selection, at, values in saved["met"]}
        return Visited(self.late, feasible, None if saved["nearest"] is None else Nearest(*saved["nearest"]))
