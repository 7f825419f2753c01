"""One timed run as a row of a CSV file, and runs of several methods that take turns."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from cggd import Result

SKIPPED = "skipped"

MINIMISED, MAXIMISED = 1.0, -1.0


@dataclass(frozen=True)
class Row:
    """One run. None is an empty field.

    Attributes
    ----------
    part, instance, method : str
    limit : float or None
        Time limit in seconds that the method was given.
    seed, run : int
    seconds : float or None
    sign : float
        1 where less is better, -1 where more is.
    value, bound : float or None
        Of the objective, and what the method claims that no selection can beat.
    known : float or None
        The best value known beforehand, or a proved bound where no value is known.
    status : str
        ``OPTIMAL``, ``FEASIBLE``, ``INFEASIBLE`` or ``UNKNOWN``, or the word of a part that has no selection.
    calls : int or None
        Evaluations of black-box functions.
    memory : float or None
        Peak memory in GB.
    digest : str
        Of a trajectory.
    note : str
    """

    part: str
    instance: str
    method: str
    limit: float | None = None
    seed: int = 0
    run: int = 0
    seconds: float | None = None
    sign: float = MINIMISED
    value: float | None = None
    bound: float | None = None
    known: float | None = None
    status: str = ""
    calls: int | None = None
    memory: float | None = None
    digest: str = ""
    note: str = ""


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes
    ----------
    quick : bool
        Small instances and short limits, which only show that everything runs.
    runs : int
        Repeats of deterministic methods, to see the noise of the machine.
    seeds : int or None
        Of methods that use chance; None for the number that a part asks for.
    """

    quick: bool = False
    runs: int = 3
    seeds: int | None = None

    def several(self, wanted: int) -> range:
        """The seeds of a part."""
        return range(1 if self.quick else self.seeds or wanted)


Answer = Mapping[str, object]
"""Fields of a `Row` that a method fills."""


def skipped(part: str, reason: str) -> Row:
    """A row for what could not be measured."""
    return Row(part, SKIPPED, SKIPPED, status=SKIPPED, note=reason)


def taking_turns(methods: Mapping[str, Callable[[], Answer]], runs: int) -> Iterator[tuple[str, int, float, Answer]]:
    """Method, run, seconds and answer; methods take turns, so that a disturbance of the machine hits all alike."""
    for run in range(runs):
        for name, method in methods.items():
            began = time.perf_counter()
            answer = method()
            yield name, run, round(time.perf_counter() - began, 4), answer


def of_result(result: Result) -> dict[str, object]:
    """What a search found, as fields of a row."""
    return {
        "value": result.value,
        "bound": result.bound,
        "status": result.status.name,
        "calls": result.evaluations or None,
    }


def write(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def read(path: Path) -> list[Row]:
    """The rows of a CSV file; none where it is not there."""
    if not path.exists():
        return []
    types = {"limit": float, "seconds": float, "value": float, "bound": float, "known": float, "memory": float}
    types |= {"sign": float, "seed": int, "run": int, "calls": int}
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Row(**{k: types[k](v) if k in types and v else None if k in types else v for k, v in row.items()})
            for row in csv.DictReader(file)
        ]
