"""Results of searches."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd.budget import Stop
from cggd.constraints import Row
from cggd.entries import check_keys, label_from_json, label_to_json, parse_json, shortened
from cggd.printable import html_table, on_one_line
from cggd.rounding import OPERATIONS, UNIT, number_text, true_texts


class Status(Enum):
    """What is known about the selection. The values are the messages for users."""

    OPTIMAL = "optimal: the selection satisfies every constraint, and no better one exists (proved)"
    FEASIBLE = "feasible: the selection satisfies every constraint"
    INFEASIBLE = "infeasible: no selection satisfies the constraints (proved)"
    UNKNOWN = "unknown: no selection that satisfies the constraints was found, and it is not proved that there is none"


@dataclass(frozen=True, eq=False, repr=False)
class History:
    """The course of a search, one entry per step.

    Attributes
    ----------
    start : ndarray of int, shape (n_steps,)
        Number of the start.
    value : ndarray of shape (n_steps,)
        Objective of the current selection; NaN where it violates a constraint.
    violation : ndarray of shape (n_steps, n_constraints)
        By how much the current selection violates each bound.
    best : ndarray of shape (n_steps,)
        Best feasible objective so far; NaN before the first.
    seconds : ndarray of shape (n_steps,)
    """

    start: NDArray[np.int64]
    value: NDArray[np.float64]
    violation: NDArray[np.float64]
    best: NDArray[np.float64]
    seconds: NDArray[np.float64]

    def __repr__(self) -> str:
        return f"History({len(self)} steps)"

    @classmethod
    def of(cls, entries: Sequence[tuple[int, float, NDArray[np.float64], float, float]], n_constraints: int) -> History:
        """The history of steps, each with its start, value, violations, best value and seconds."""
        start, value, violation, best, seconds = zip(*entries, strict=True) if entries else ((),) * 5
        return cls(
            np.array(start, dtype=np.int64),
            np.array(value, dtype=float),
            np.array(violation, dtype=float).reshape(len(start), n_constraints),
            np.array(best, dtype=float),
            np.array(seconds, dtype=float),
        )

    def __len__(self) -> int:
        return len(self.start)

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Whether each step's selection satisfied every constraint, shape (n_steps,)."""
        return (self.violation == 0).all(axis=1)


@dataclass(frozen=True, eq=False)
class Asked:
    """The problem of a search.

    Attributes
    ----------
    objective, unit : str
    sense : {"minimize", "maximize"}
    problem : Problem or None
        Its metrics and constraints; None if the result was read from a file.
    """

    objective: str
    unit: str
    sense: str
    problem: Any = None


@dataclass(frozen=True, eq=False)
class Run:
    """The course of a search.

    Attributes
    ----------
    history : History
    evaluations : int
        Calls of black boxes; with `max_evaluations`, the selections for which they were called.
    seconds : float
    seed : int
    note : str
        Details of why the search stopped: the proof, the error, or what was not done.
    not_default : ndarray of int, or None
    exhausted : bool
        Whether it is proved that there are no more answers, if fewer were found than `answers`.
    """

    history: History
    evaluations: int
    seconds: float
    seed: int
    note: str = ""
    not_default: NDArray[np.int64] | None = None
    exhausted: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """The selection that a search found, and what is known about it.

    Attributes
    ----------
    selection : dict or None
        The best feasible selection found, by labels; None if there is none. See `remeasured`.
    indices : ndarray of int, shape (n_decisions,), or None
    value : float or None
        The objective of the selection.
    status : Status
        What is known about the selection.
    stopped : Stop
        Why the search stopped.
    constraints : list of Row
        Value, bound and slack of every constraint, evaluated again on the selection, or on `nearest`.
    nearest : dict or None
        The selection with the smallest violation, if no selection is known to be feasible.
    bound : float or None
        No feasible selection has a better objective; None if no bound is known.
    asked : Asked
        `objective`, `unit`, `sense` and `problem`.
    run : Run
        `history`, `evaluations`, `seconds`, `seed`, `note` and `not_default`.
    remeasured : bool
        Whether the selection was evaluated again before it was returned. False only if that evaluation failed or Ctrl-C
        interrupted it; then `value` and `constraints` are those of the first evaluation, and the status is UNKNOWN.
    alternatives : tuple of Result
        With ``answers=k``: up to ``k - 1`` further answers, best first. OPTIMAL then means that no better selection
        differs from the answers before.
    """

    selection: dict[Hashable, Hashable] | None
    indices: NDArray[np.int64] | None
    value: float | None
    status: Status
    stopped: Stop
    constraints: Sequence[Row]
    nearest: dict[Hashable, Hashable] | None
    bound: float | None
    asked: Asked
    run: Run
    remeasured: bool = True
    alternatives: tuple[Result, ...] = ()

    def __repr__(self) -> str:
        unit, n = f" {self.unit}" if self.unit else "", len(self.selection or self.nearest or ())
        value = f", {self.objective} = {number_text(self.value)}{unit}" if self.value is not None else ""
        what = "no selection" if n == 0 else f"{'' if self.selection else 'nearest selection of '}{n} decisions"
        return on_one_line(f"Result({self.status.name}{value}, {what}, {self.stopped.value})")

    @property
    def problem(self) -> Any:
        """The problem that was solved; None if the result was read from a file."""
        return self.asked.problem

    @property
    def not_default(self) -> NDArray[np.int64] | None:
        """Positions of the decisions whose option in the selection (or in `nearest`) is not the default.

        The default is the option that takes the least of every limited sum, or else the first one (`cggd.defaults`).
        """
        return self.run.not_default

    @property
    def objective(self) -> str:
        """Name of the objective."""
        return self.asked.objective

    @property
    def unit(self) -> str:
        """Unit of the objective."""
        return self.asked.unit

    @property
    def sense(self) -> str:
        """``"minimize"`` or ``"maximize"``."""
        return self.asked.sense

    @property
    def history(self) -> History:
        """The course of the descents."""
        return self.run.history

    @property
    def evaluations(self) -> int:
        """Calls of black boxes; with `max_evaluations`, the selections for which they were called."""
        return self.run.evaluations

    @property
    def seconds(self) -> float:
        """Seconds that the search took."""
        return self.run.seconds

    @property
    def seed(self) -> int:
        """Seed of the search."""
        return self.run.seed

    @property
    def note(self) -> str:
        """Details of why the search stopped: the proof, the error, or what was not done."""
        return self.run.note

    @property
    def stop_text(self) -> str:
        """Why the search stopped, as text."""
        return f"{self.stopped.value}: {self.note}" if self.note else self.stopped.value

    @property
    def feasible(self) -> bool:
        """Whether the selection satisfies every constraint, which was evaluated again before the return."""
        return self.status in (Status.OPTIMAL, Status.FEASIBLE)

    @property
    def gap(self) -> float | None:
        """Distance of the value from the bound, as a share of the bound; None if one of them is not known."""
        if self.value is None or self.bound is None:
            return None
        return abs(self.value - self.bound) / max(abs(self.bound), 1e-12) if self.value != self.bound else 0.0

    def summary(self, *, decisions: int = 12, listed: int = 100) -> str:
        """Status, objective, constraints and chosen options as text.

        Parameters
        ----------
        decisions : int
            Number of decisions up to which all are listed; of larger spaces, those in `not_default` are.
        listed : int
            Largest number of decisions listed for a larger space.
        """
        lines = [f"status     {self.status.value if self.remeasured else _NOT_REMEASURED}"]
        if self.value is not None:
            unit = f" {self.unit}" if self.unit else ""
            value, known = number_text(self.value), ""
            if self.bound is not None and self.gap is not None:
                value, bound = true_texts(self.value, self.bound)
                known = f" (bound {bound}, gap {percent_text(self.gap)})"
            lines.append(on_one_line(f"{self.sense:<10} {self.objective} = {value}{unit}{known}"))
        if self.constraints:
            lines.append("constraints" if self.value is not None else "constraints of the nearest selection")
            lines += [f"  {on_one_line(row)}" for row in self.constraints]
        shown = self.selection if self.selection is not None else self.nearest
        if shown is not None:
            title = "selection" if self.selection is not None else "nearest selection, not feasible"
            lines += self._choices(title, list(shown.items()), decisions, listed)
        called = f", {self.evaluations} evaluations" if self.evaluations else ""
        if self.alternatives or self.run.exhausted:
            more = "; there are no more" if self.run.exhausted else ""
            lines += [f"answers{more}", *map(on_one_line, answer_lines(self))]
        lines.append(
            f"search     {len(self.history)} steps in {self.seconds:.2f} s{called}, seed {self.seed}; "
            f"{on_one_line(self.stop_text)}"
        )
        return "\n".join(lines)

    def _choices(self, title: str, pairs: list[tuple[Hashable, Hashable]], decisions: int, listed: int) -> list[str]:
        """The title, a line for each decision that is listed, and the number of the others."""
        n = len(pairs)
        if n > decisions and self.not_default is not None:
            pairs = [pairs[i] for i in self.not_default.tolist()]
            title += f": {len(pairs)} of {n} decisions do not have their default option"
        most = n if n <= decisions else listed
        lines = [title, *(f"  {on_one_line(d)}: {on_one_line(o)}" for d, o in pairs[:most])]
        if len(pairs) > most:
            lines.append(f"  ... and {len(pairs) - most} more decisions")
        if left := n - len(pairs):
            rule = "the option that takes the least of every limited sum, or else the first"
            lines.append(f"  default of the other {left}: {rule}")
        return lines

    def _repr_html_(self) -> str:
        """A small table for notebooks: the objective, the constraints and up to 100 decisions."""
        unit = f" {self.unit}" if self.unit else ""
        rows: list[tuple[object, object]] = []
        if self.value is not None:
            rows.append((f"{self.sense} {self.objective}", f"{number_text(self.value)}{unit}"))
        rows += [("constraint", row) for row in self.constraints]
        shown = self.selection if self.selection is not None else (self.nearest or {})
        rows += list(shown.items())[:100]
        if len(shown) > 100:
            rows.append(("...", f"{len(shown) - 100} more decisions"))
        return html_table(self.status.value, rows)

    def to_frame(self) -> Any:
        """The selection as a pandas DataFrame with the columns ``decision`` and ``option``.

        Several answers have a column ``answer`` in front. Without a selection, the frame is empty.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            pandas: Any = importlib.import_module("pandas")
        except ImportError:
            raise ImportError("Result.to_frame needs pandas: pip install cggd[tables]") from None
        answers = [result.selection or {} for result in (self, *self.alternatives)]
        rows = [(n, d, o) for n, selection in enumerate(answers, start=1) for d, o in selection.items()]
        frame = pandas.DataFrame(rows, columns=["answer", "decision", "option"])
        return frame if self.alternatives else frame[["decision", "option"]]

    def to_json(self, *, history: bool = True) -> str:
        """The result as JSON, which `from_json` reads. Labels are strings, numbers, bools, None or tuples of them."""
        return json.dumps(self._plain(history=history), default=label_to_json, allow_nan=False)

    def _plain(self, *, history: bool) -> dict[str, Any]:
        data = {
            "format": "cggd-result-2",
            "status": self.status.name,
            "feasible": self.feasible,
            "stopped": self.stopped.name,
            "note": self.note,
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
            "not_default": None if self.not_default is None else self.not_default.tolist(),
            "remeasured": self.remeasured,
            "history": {name: _plain(array) for name, array in vars(self.history).items()} if history else None,
        }
        if self.alternatives or self.run.exhausted:
            data["alternatives"] = [one._plain(history=False) for one in self.alternatives]
            data["exhausted"] = self.run.exhausted
        return data

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
            return cls._read(parse_json(text))
        except RecursionError:
            raise ValueError("a damaged cggd result: labels are nested too deeply") from None

    @classmethod
    def _read(cls, data: Any) -> Result:
        if not isinstance(data, Mapping) or data.get("format") not in _FORMATS:
            raise ValueError(f'not a cggd result: expected an object with "format": "{_FORMATS[0]}"')
        check_keys(data, _KEYS, "the cggd result")
        try:
            return cls._of(data)
        except KeyError as error:
            raise ValueError(f"a damaged cggd result: it lacks, or does not know, {error}") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"a damaged cggd result: {error}") from None

    @classmethod
    def _of(cls, data: Mapping[str, Any]) -> Result:
        check_keys(data["objective"], ("name", "unit", "sense"), "its objective")
        steps = data["history"] or {"start": [], "value": [], "violation": [], "best": [], "seconds": []}
        history = {name: np.array(column, dtype=int if name == "start" else float) for name, column in steps.items()}
        n = len(history["start"])
        history["violation"] = history["violation"].reshape(n, len(data["constraints"]) if n == 0 else -1)
        if lengths := {name: len(column) for name, column in history.items() if len(column) != n}:
            raise ValueError(f"its history has {n} steps, but other lengths in {lengths}")
        return cls(
            selection=_mapping(data["selection"]),
            indices=None if data["indices"] is None else _positions(data["indices"]),
            value=None if data["value"] is None else _number(data["value"], "value"),
            status=Status[data["status"]],
            # Format 1 had a text, which is the note of an unknown reason now.
            stopped=Stop[data["stopped"]] if data["format"] == _FORMATS[0] else Stop.DONE,
            constraints=[
                Row(**row | {name: _number(row[name], name) for name in _NUMBERS}) for row in data["constraints"]
            ],
            nearest=_mapping(data["nearest"]),
            bound=None if data["bound"] is None else _number(data["bound"], "bound"),
            asked=Asked(data["objective"]["name"], data["objective"]["unit"], data["objective"]["sense"]),
            run=Run(
                History(**history),
                data["evaluations"],
                data["seconds"],
                data["seed"],
                data["note"] if data["format"] == _FORMATS[0] else data["stopped"],
                # Files of older versions lack these keys.
                None if data.get("not_default") is None else _positions(data["not_default"]),
                bool(data.get("exhausted", False)),
            ),
            remeasured=data.get("remeasured", True),
            alternatives=tuple(map(cls._read, data.get("alternatives", []))),
        )


class SearchError(RuntimeError):
    """An evaluation failed; `result` has the best feasible selection found before.

    If that selection could not be evaluated again, ``result.remeasured`` is false.
    """

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result

    @classmethod
    def of(cls, failure: BaseException, result: Result) -> SearchError:
        """The error that says what failed and what was found until then."""
        found = "no feasible selection until then"
        if result.selection is not None:
            found = f"the best selection until then is in .result, {result.objective} = {result.value}"
            found += "" if result.remeasured else "; it could not be evaluated again"
        return cls(f"{type(failure).__name__}: {failure} ({found})", result)


_NOT_REMEASURED = (
    "unknown: the selection satisfied every constraint when it was found, but could not be evaluated again"
)

# All keys of a result's file. `feasible` and `gap` are not read, since they follow from the others; nor is the
# `explanation` that the command line adds.
_KEYS = (
    *("format", "status", "feasible", "stopped", "objective", "value", "bound", "gap", "selection", "indices"),
    *("nearest", "constraints", "evaluations", "seconds", "seed", "not_default", "remeasured", "history", "note"),
    *("alternatives", "exhausted", "explanation"),
)
# The format that is written, and older ones that are read.
_FORMATS = ("cggd-result-2", "cggd-result-1")
_NUMBERS = ("value", "bound", "slack")


def answer_lines(result: Result) -> list[str]:
    """A line for each answer of a result that has several: its value, ties, and what differs from the first."""
    answers, unit = [result, *result.alternatives], f" {result.unit}" if result.unit else ""
    lines = []
    # Sums of the same numbers in another order may differ by rounding; such values are ties and shown alike.
    values = [answer.value or 0.0 for answer in answers]
    ties = [next(i for i, other in enumerate(values) if _equal(value, other)) for value in values]
    texts = true_texts(*(values[tie] for tie in ties))
    for place, answer in enumerate(answers):
        words = ["proved" if answer.status is Status.OPTIMAL else "not proved"]
        if ties[place] < place:
            words.append(f"a tie with answer {ties[place] + 1}")
        if place:
            words.append(_difference(answers, place))
        lines.append(f"  {place + 1}: {result.objective} = {texts[place]}{unit} ({'; '.join(words)})")
    return lines


def _equal(a: float, b: float) -> bool:
    return abs(a - b) <= OPERATIONS * UNIT * max(abs(a), abs(b))


def _difference(answers: Sequence[Result], place: int) -> str:
    """Which decisions of an answer differ from the first, or which earlier one has the same options in other places."""
    mine = answers[place].selection or {}
    for before, other in enumerate(answers[:place], start=1):
        theirs = other.selection or {}
        if len(set(mine.values())) == len(mine) and Counter(theirs.values()) == Counter(mine.values()):
            return f"the same options as answer {before}, in other decisions"
    first = answers[0].selection or {}
    changed = [f"{d}={o}" for d, o in mine.items() if first[d] != o]
    return f"differs from answer 1 in {', '.join(changed[:6])}" + (" and more" if len(changed) > 6 else "")


def percent_text(share: float) -> str:
    """A share in per cent; only a share of exactly 0 is shown as 0.

    Examples
    --------
    >>> percent_text(0.0125), percent_text(2e-8), percent_text(0.0)
    ('1.250%', '2e-06%', '0.000%')
    """
    return f"{share:.3%}" if share == 0 or abs(share) >= 5e-6 else f"{100 * share:.2g}%"


def _number(entry: Any, name: str) -> float:
    """A number, or an infinite one as `_finite` writes it."""
    if isinstance(entry, bool) or not (isinstance(entry, int | float) or entry in ("inf", "-inf")):
        raise ValueError(f"{name} must be a number, got {shortened(entry)}")
    return float(entry)


def _positions(numbers: Any) -> NDArray[np.int64]:
    return np.array(numbers, dtype=np.int64)


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its infinite numbers, which JSON does not have, as strings."""
    return row | {name: str(row[name]) for name in _NUMBERS if np.isinf(row[name])}


def _pairs(selection: Mapping | None) -> list | None:
    """Labels as pairs, since JSON objects have strings alone as keys."""
    return None if selection is None else [[d, o] for d, o in selection.items()]


def _mapping(pairs: list | None) -> dict | None:
    return None if pairs is None else {label_from_json(d): label_from_json(o) for d, o in pairs}


def _plain(array: NDArray) -> list:
    """Nested lists with None for NaN, which JSON does not have."""
    if array.dtype.kind != "f":
        return array.tolist()
    plain = array.astype(object)
    plain[np.isnan(array)] = None
    return plain.tolist()
