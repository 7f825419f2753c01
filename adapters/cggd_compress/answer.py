"""The result of a compression: the file, its costs, and the option of each weight."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from cggd.io.text import write_text
from cggd.outputs import replacing
from cggd.plotting.axes import load_pyplot
from cggd.printable import in_columns
from cggd.result import Status
from cggd_compress.costs import COSTS, amount

FORMAT = "cggd-compressed-1"

# The option of a weight that stays as it is.
KEEP = "float32"

# Weights in a picture, and letters of their names.
DRAWN, NAMED = 40, 40


@dataclass(frozen=True)
class Row:
    """One option of one decision.

    Attributes
    ----------
    decision, option : str
    chosen : bool
    size : int
        Bytes in the file.
    error : float or None
        Error of the model with this option alone, or an estimate with ``quick=True``; None if not known.
    latency : float or None
        Milliseconds of the model with this option alone.
    why_not : str
        Why the option cannot be chosen; empty if it can.
    """

    decision: str
    option: str
    chosen: bool
    size: int | None
    error: float | None
    latency: float | None
    why_not: str = ""


@dataclass(frozen=True, eq=False)
class Compressed:
    """The result of `compress`.

    Attributes
    ----------
    status : Status
        FEASIBLE: `data` satisfies every limit. INFEASIBLE: no selection of options does, which is proved for costs that
        add up. UNKNOWN: none was found.
    data : bytes or None
        The ONNX file.
    selection : dict of decision to option, or None
    costs : dict of name to float
        Costs of `data`, measured on it.
    original : dict of name to float
        Costs of the model as it was given.
    predicted : dict of name to float
        Costs of the selection predicted by sums over weights.
    limits : list of str
    rows : list of Row
        Every option of every decision.
    message : str
        Further information: the bound that would work, or how well the sum of errors predicted the joint error.
    measurements : int
        Number of models that were run.
    """

    status: Status
    data: bytes | None
    selection: dict[str, str] | None
    costs: Mapping[str, float]
    original: Mapping[str, float]
    predicted: Mapping[str, float]
    limits: Sequence[str]
    rows: Sequence[Row]
    message: str
    measurements: int

    @property
    def feasible(self) -> bool:
        """Whether there is a file that satisfies every limit."""
        return self.data is not None

    def save(self, path: str | PathLike[str]) -> None:
        """Write the ONNX file; an existing file is replaced only once the new one is complete."""
        if self.data is None:
            raise ValueError(f"there is no file to save: {self.message}")
        with replacing(Path(path)) as file:
            file.write(self.data)

    def summary(self) -> str:
        """The costs before and after, and how many weights have which format."""
        found = self.status.value.partition(": ")[2] if self.data is None else "every limit is kept by the file"
        lines = [f"status     {self.status.name}: {found}"]
        lines += [f"limit      {text}" for text in self.limits]
        table = [["", "original", "compressed", "ratio"]]
        for name, value in self.costs.items():
            unit, before = COSTS[name].unit, self.original.get(name)
            ratio = f"{value / before:.1%}" if before else "-"
            table.append([name, "-" if before is None else amount(before, unit), amount(value, unit), ratio])
        lines += in_columns(table) if self.costs else []
        if self.selection:
            counts: dict[str, int] = {}
            for option in self.selection.values():
                counts[option] = counts.get(option, 0) + 1
            lines.append("formats    " + ", ".join(f"{n} x {option}" for option, n in sorted(counts.items())))
        if self.message:
            lines.append(f"note       {self.message}")
        lines.append(f"measured   {self.measurements} models")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The manifest as JSON values: everything except the file."""
        return {
            "format": FORMAT,
            "status": self.status.name,
            "limits": list(self.limits),
            "costs": dict(self.costs),
            "original": dict(self.original),
            "predicted": dict(self.predicted),
            "selection": self.selection,
            "message": self.message,
            "measurements": self.measurements,
            "options": [asdict(row) for row in self.rows],
        }

    def to_json(self) -> str:
        """The manifest as JSON."""
        return json.dumps(self.to_dict(), indent=1)

    def to_csv(self, path: str | PathLike[str] | None = None) -> str:
        """The options as CSV, one per row; with a path, also written to this file."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(Row.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: "" if v is None else v for k, v in asdict(row).items()} for row in self.rows)
        if path is not None:
            write_text(path, text.getvalue())
        return text.getvalue()

    def plot(self, ax: Any = None) -> Any:
        """Draw the bytes of each weight, coloured by format, into matplotlib Axes or a new figure."""
        pyplot = load_pyplot()
        kept = {row.decision: row.size for row in self.rows if row.option == KEEP}
        chosen = [row for row in self.rows if row.chosen]
        if not chosen:
            raise ValueError(f"there is no selection to draw: {self.message}")
        chosen = sorted(chosen, key=lambda row: -(kept[row.decision] or 0))[:DRAWN][::-1]
        if ax is None:
            _, ax = pyplot.subplots(figsize=(7, 1.2 + 0.22 * len(chosen)), layout="constrained")
        names = [row.decision if len(row.decision) <= NAMED else f"...{row.decision[3 - NAMED :]}" for row in chosen]
        places = range(len(chosen))
        ax.barh(places, [(kept[row.decision] or 0) / 1e6 for row in chosen], color="0.9", label="original")
        for i, option in enumerate(dict.fromkeys(row.option for row in chosen[::-1])):
            mine = [place for place, row in zip(places, chosen, strict=True) if row.option == option]
            ax.barh(mine, [(chosen[place].size or 0) / 1e6 for place in mine], color=f"C{i}", label=option)
        ax.set_yticks(places, names, fontsize="small")
        ax.set_xlabel("MB in the file")
        ax.legend(loc="lower right")
        return ax
