"""The costs that can be bounded or minimised, and limits on them in text form."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

# Factors that convert each unit to the unit of the cost. A kB is 1000 bytes, as in the SI; a KiB is 1024.
UNITS: dict[str, dict[str, float]] = {
    "B": {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
    "ms": {"us": 1e-3, "ms": 1, "s": 1e3},
    "": {"": 1, "k": 1e3, "M": 1e6, "G": 1e9},
}
_LIMIT = re.compile(r"\s*(\w+)\s*(<=|>=)\s*([0-9.eE+-]+?)\s*([a-zA-Z%]*)\s*")


@dataclass(frozen=True)
class Limit:
    """A bound on a cost of the written file.

    Attributes
    ----------
    name : str
    sense : {"<=", ">="}
    bound : float
    share : bool
        Whether the bound is a share of the original's cost.
    """

    name: str
    sense: Literal["<=", ">="]
    bound: float
    share: bool = False


@dataclass(frozen=True)
class Cost:
    """A cost of a file; comparing it with a number makes a `Limit`.

    Attributes
    ----------
    name, unit : str
    costly : bool
        Whether it is measured by running the file.
    text : str

    Examples
    --------
    >>> size <= 6e6
    Limit(name='size', sense='<=', bound=6000000.0, share=False)
    """

    name: str
    unit: str
    costly: bool
    text: str

    def __le__(self, bound: float) -> Limit:
        return Limit(self.name, "<=", _number(bound, self.name))

    def __ge__(self, bound: float) -> Limit:
        return Limit(self.name, ">=", _number(bound, self.name))


size = Cost("size", "B", False, "bytes of the file")
memory = Cost("memory", "B", False, "peak bytes of activations in a run")
macs = Cost("macs", "", False, "multiply-accumulates of a run on the first batch")
traffic = Cost("traffic", "B", False, "bytes of weights that a run reads")
latency = Cost("latency", "ms", True, "median time of a run in ONNX Runtime")
error = Cost("error", "", True, "distance of the outputs from the original's")

COSTS = {cost.name: cost for cost in (size, memory, macs, traffic, latency, error)}


def as_limits(limits: Any) -> list[Limit]:
    """Limits from texts such as ``size<=6MB``, ``size<=50%`` (of the original) and from `Limit` objects.

    Examples
    --------
    >>> as_limits(["size <= 1.5 MiB", "latency<=50%", error <= 0.01])[0]
    Limit(name='size', sense='<=', bound=1572864.0, share=False)
    """
    given = [limits] if isinstance(limits, str | Limit) else limits
    if not isinstance(given, Iterable):
        raise TypeError(f"limits must be a list such as [size <= 6e6] or ['size<=6MB'], got {limits!r}")
    return [one if isinstance(one, Limit) else parse_limit(one) for one in given]


def parse_limit(text: Any) -> Limit:
    """A limit from a text."""
    found = _LIMIT.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"a limit must read like size<=6MB, latency<=8ms, size<=25% or error<=0.01, got {text!r}")
    name, sense, number, unit = found.groups()
    known = cost_of(name, "a limit")
    bound = _number(number, text)
    if unit == "%":
        return Limit(name, "<=" if sense == "<=" else ">=", bound / 100, True)
    factors = {**UNITS[known.unit], "": 1}
    if unit not in factors:
        raise ValueError(f"limit {text!r}: the unit must be one of {', '.join(filter(None, factors))} or %, got {unit}")
    return Limit(name, "<=" if sense == "<=" else ">=", bound * factors[unit])


def cost_of(name: Any, argument: str) -> Cost:
    """The cost with this name."""
    wanted = getattr(name, "name", name)
    if wanted not in COSTS:
        raise ValueError(f"{argument} must be of {', '.join(COSTS)}, got {wanted!r}")
    return COSTS[wanted]


def amount(value: float, unit: str) -> str:
    """A cost in readable units.

    Examples
    --------
    >>> amount(22713216, "B"), amount(8.25, "ms"), amount(0.000123456, "")
    ('22.71 MB', '8.25 ms', '0.000123')
    """
    if unit == "B":
        for factor, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
            if value >= factor:
                return f"{value / factor:.4g} {name}"
        return f"{value:g} B"
    return f"{value:.3g} {unit}".rstrip()


def _number(value: Any, where: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        raise ValueError(f"the bound of {where} must be a number, got {value!r}")
    return number
