"""Bounds on a synthesis: latency, area, power and numbers of copies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cggd.rounding import number_text
from cggd_scheduling.hls.binding import Binding
from cggd_scheduling.limits import exceeds


@dataclass(frozen=True)
class Limits:
    """Bounds on a schedule; infinite by default."""

    latency: Any = math.inf
    area: float = math.inf
    power: float = math.inf
    copies: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        given = {"latency": self.latency, "area": self.area, "power": self.power}
        given |= {f"copies of {name}": most for name, most in self.copies.items()}
        return " and ".join(f"{name} <= {number_text(value)}" for name, value in given.items() if math.isfinite(value))

    def met(self, found: Binding) -> bool:
        late = found.latency > self.latency + found.problem.timing.rounding(found.latency)
        many = any(found.copies.get(name, 0) > most for name, most in self.copies.items())
        return not (late or many or exceeds(found.areas, self.area) or exceeds(found.powers, self.power))
