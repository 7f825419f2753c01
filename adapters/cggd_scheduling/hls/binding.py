"""Binding: the copy that carries out each operation, and the area, power and latency of the schedule."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cggd_scheduling.hls.clock import clock_violations
from cggd_scheduling.hls.list_scheduler import Listed
from cggd_scheduling.hls.problem import Synthesis


@dataclass(frozen=True, eq=False)
class Binding:
    """A schedule with a copy for each operation: the fewest copies of each unit, or one per operation.

    Parameters
    ----------
    problem : Synthesis
    listed : Listed
    share : bool
    """

    problem: Synthesis
    listed: Listed
    share: bool = True

    def taken(self, op: Hashable) -> Any:
        """Duration of an operation."""
        return self.problem.delay(self.problem.unit[self.listed.unit[op]])

    @cached_property
    def lanes(self) -> dict[Hashable, Hashable]:
        """The copy of each operation, by the left-edge algorithm."""
        lanes: dict[Hashable, Hashable] = {}
        until: dict[str, list[Any]] = {}
        for op in sorted(self.listed.start, key=self.listed.start.__getitem__):
            name = self.listed.unit[op]
            first, last = self.problem.timing.occupied(self.listed.start[op], self.taken(op))
            ends = until.setdefault(name, [])
            copy = next((n for n, end in enumerate(ends) if self.share and end <= first), len(ends))
            ends[copy : copy + 1] = [last]
            lanes[op] = f"{name} #{copy + 1}"
        return lanes

    @cached_property
    def copies(self) -> dict[str, int]:
        """Number of copies of each used unit."""
        lanes: dict[str, set[Hashable]] = {}
        for op, lane in self.lanes.items():
            lanes.setdefault(self.listed.unit[op], set()).add(lane)
        return {name: len(lanes[name]) for name in sorted(lanes)}

    @cached_property
    def areas(self) -> list[float]:
        """Area of each copy."""
        return [self.problem.unit[name].area for name, n in self.copies.items() for _ in range(n)]

    @cached_property
    def powers(self) -> list[float]:
        """Power of the unit of each operation."""
        return [self.problem.unit[name].power for name in self.listed.unit.values()]

    @cached_property
    def area(self) -> float:
        """Area of all copies."""
        return self.problem.area(self.copies)

    @cached_property
    def power(self) -> float:
        """Power of the units of all operations."""
        return sum(self.powers)

    @cached_property
    def latency(self) -> Any:
        """When the last operation ends."""
        ends = [start + self.taken(op) for op, start in self.listed.start.items()]
        return self.problem.timing.end(max(ends, default=0))

    def clock_violations(self) -> list[str]:
        """Violations of the clock, as text."""
        taken = {op: self.taken(op) for op in self.listed.start}
        return clock_violations(self.problem.timing, self.listed.start, taken, self.lanes)
