"""What a search returns."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd.constraints import Row


class Status(Enum):
    """What is known about the selection. The values are the messages a user reads."""

    OPTIMAL = "optimal: the selection satisfies every constraint, and no better one exists (proved)"
    FEASIBLE = "feasible: the selection satisfies every constraint"
    INFEASIBLE = "infeasible: no selection satisfies the constraints (proved)"
    UNKNOWN = "unknown: no selection that satisfies the constraints was found, and none was ruled out"


@dataclass(frozen=True, eq=False)
class History:
    """The course of a search, one entry per step.

    Attributes
    ----------
    start : ndarray of int, shape (n_steps,)
        Which start the step belongs to.
    value : ndarray of shape (n_steps,)
        Objective of the current selection; NaN where it violates a constraint.
    violation : ndarray of shape (n_steps, n_constraints)
        By how much the current selection misses each bound.
    best : ndarray of shape (n_steps,)
        Best feasible objective so far; NaN before the first.
    seconds : ndarray of shape (n_steps,)
    """

    start: NDArray[np.int64]
    value: NDArray[np.float64]
    violation: NDArray[np.float64]
    best: NDArray[np.float64]
    seconds: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.start)

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Whether each step's selection satisfied every constraint, shape (n_steps,)."""
        return (self.violation == 0).all(axis=1)


@dataclass(frozen=True, eq=False)
class Result:
    """What a search found, and what is known about it.

    Attributes
    ----------
    selection : dict or None
        The best selection found, by labels; None where no feasible one was found. See `remeasured`.
    indices : ndarray of int, shape (n_decisions,), or None
    value : float or None
        The objective of the selection.
    status : Status
        What is known about the selection.
    stopped : str
        Why the search stopped.
    constraints : list of Row
        Value, bound and slack of every constraint, evaluated afresh on the selection. Without a feasible selection:
        on the one that came nearest, which `nearest` holds.
    nearest : dict or None
        Where no selection is known to be feasible: the one with the smallest violation.
    bound : float or None
        A number that no feasible objective can beat, where one is known.
    history : History
    evaluations : int
        Calls of black-box functions.
    seconds : float
    objective, unit, sense : str
        Name and unit of the objective, and ``"minimize"`` or ``"maximize"``.
    seed : int
    remeasured : bool
        Whether the selection was evaluated again before it was returned. False only where that was not possible: an
        evaluation failed, or Ctrl-C came. Then `value` and `constraints` are those of the first evaluation, which
        satisfied every constraint, and the status is UNKNOWN.
    """

    selection: dict[Hashable, Hashable] | None
    indices: NDArray[np.int64] | None
    value: float | None
    status: Status
    stopped: str
    constraints: Sequence[Row]
    nearest: dict[Hashable, Hashable] | None
    bound: float | None
    history: History
    evaluations: int
    seconds: float
    objective: str
    unit: str
    sense: str
    seed: int
    remeasured: bool = True

    @property
    def feasible(self) -> bool:
        """Whether the selection satisfies every constraint, as evaluated afresh before it was returned."""
        return self.status in (Status.OPTIMAL, Status.FEASIBLE)

    @property
    def gap(self) -> float | None:
        """Distance of the value to the bound, as a share of the bound; None where either is not known."""
        if self.value is None or self.bound is None:
            return None
        return abs(self.value - self.bound) / max(abs(self.bound), 1e-12) if self.value != self.bound else 0.0

    def summary(self, *, decisions: int = 12) -> str:
        """A few lines for people: status, objective, the report of the constraints and the first decisions."""
        lines = [f"status     {self.status.value if self.remeasured else _NOT_REMEASURED}"]
        if self.value is not None:
            unit = f" {self.unit}" if self.unit else ""
            known = f" (bound {self.bound:.6g}, gap {self.gap:.3%})" if self.bound is not None else ""
            lines.append(f"{self.sense:<10} {self.objective} = {self.value:.6g}{unit}{known}")
        if self.constraints:
            lines.append("constraints" if self.value is not None else "constraints of the nearest selection")
            lines += [f"  {row}" for row in self.constraints]
        shown = self.selection if self.selection is not None else self.nearest
        if shown is not None:
            lines.append("selection" if self.selection is not None else "nearest selection, not feasible")
            lines += [f"  {d}: {o}" for d, o in list(shown.items())[:decisions]]
            if len(shown) > decisions:
                lines.append(f"  ... and {len(shown) - decisions} more decisions")
        called = f", {self.evaluations} evaluations" if self.evaluations else ""
        lines.append(
            f"search     {len(self.history)} steps in {self.seconds:.2f} s{called}, seed {self.seed}; {self.stopped}"
        )
        return "\n".join(lines)

    def to_json(self, *, history: bool = True) -> str:
        """All of it as JSON, which `from_json` reads. Labels may be strings, numbers, bools, None or tuples of them."""
        data = {
            "format": "cggd-result-1",
            "status": self.status.name,
            "feasible": self.feasible,
            "stopped": self.stopped,
            "objective": {"name": self.objective, "unit": self.unit, "sense": self.sense},
            "value": self.value,
            "bound": self.bound,
            "gap": self.gap,
            "selection": _pairs(self.selection),
            "indices": None if self.indices is None else self.indices.tolist(),
            "nearest": _pairs(self.nearest),
            "constraints": [_finite(asdict(row)) for row in self.constraints],
            "evaluations": self.evaluations,
            "seconds": self.seconds,
            "seed": self.seed,
            "remeasured": self.remeasured,
            "history": {name: _plain(array) for name, array in vars(self.history).items()} if history else None,
        }
        return json.dumps(data, default=label_to_json, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Result:
        """Read what `to_json` wrote.

        Raises
        ------
        ValueError
            If the text is something else.
        """
        if not isinstance(text, str | bytes | bytearray):
            raise TypeError(f"text must be a string that to_json wrote, got {text!r}")
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ValueError(f"not JSON: {error}") from None
        if not isinstance(data, Mapping) or data.get("format") != "cggd-result-1":
            raise ValueError('not a cggd result: expected an object with "format": "cggd-result-1"')
        try:
            return cls._of(data)
        except KeyError as error:
            raise ValueError(f"a damaged cggd result: it lacks, or does not know, {error}") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"a damaged cggd result: {error}") from None

    @classmethod
    def _of(cls, data: Mapping[str, Any]) -> Result:
        steps = data["history"] or {"start": [], "value": [], "violation": [], "best": [], "seconds": []}
        history = {name: np.array(column, dtype=int if name == "start" else float) for name, column in steps.items()}
        n = len(history["start"])
        history["violation"] = history["violation"].reshape(n, len(data["constraints"]) if n == 0 else -1)
        if lengths := {name: len(column) for name, column in history.items() if len(column) != n}:
            raise ValueError(f"its history has {n} steps, but other lengths in {lengths}")
        return cls(
            selection=_mapping(data["selection"]),
            indices=None if data["indices"] is None else np.array(data["indices"], dtype=np.int64),
            value=data["value"],
            status=Status[data["status"]],
            stopped=data["stopped"],
            constraints=[Row(**row | {name: float(row[name]) for name in _NUMBERS}) for row in data["constraints"]],
            nearest=_mapping(data["nearest"]),
            bound=data["bound"],
            history=History(**history),
            evaluations=data["evaluations"],
            seconds=data["seconds"],
            objective=data["objective"]["name"],
            unit=data["objective"]["unit"],
            sense=data["objective"]["sense"],
            seed=data["seed"],
            remeasured=data.get("remeasured", True),  # files of older versions do not say so
        )


_NOT_REMEASURED = (
    "unknown: the selection satisfied every constraint when it was found, but could not be evaluated again"
)
_NUMBERS = ("value", "bound", "slack")


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its infinite numbers, which JSON does not have, as strings."""
    return row | {name: str(row[name]) for name in _NUMBERS if np.isinf(row[name])}


def _pairs(selection: Mapping | None) -> list | None:
    """Labels as pairs, since JSON objects have strings alone as keys."""
    return None if selection is None else [[d, o] for d, o in selection.items()]


def _mapping(pairs: list | None) -> dict | None:
    return None if pairs is None else {_hashable(d): _hashable(o) for d, o in pairs}


def _hashable(label: Any) -> Any:
    return tuple(_hashable(part) for part in label) if isinstance(label, list) else label


def label_to_json(value: Any) -> Any:
    """What `json` does not know of a label: numpy scalars become numbers, anything else is an error."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"labels in JSON must be strings, numbers, bools, None or tuples of them, got {value!r}")


def _plain(array: NDArray) -> list:
    """Nested lists with None for NaN, which JSON does not have."""
    if array.dtype.kind != "f":
        return array.tolist()
    plain = array.astype(object)
    plain[np.isnan(array)] = None
    return plain.tolist()
