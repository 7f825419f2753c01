"""What a search returns."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass

from cggd import Feasibility
from cggd.constraints import Row
from cggd.printable import html_table
from cggd_nas.candidates import Candidate
from cggd_nas.history import Epoch


@dataclass(frozen=True, eq=False)
class NasResult:
    """The result of a search. The supernet runs this selection, with batch norms recalibrated for it.

    Attributes
    ----------
    selection : dict
        Constraints are evaluated again before a selection is returned; see `remeasured`.
    loss, accuracy : float
        On all validation data, with the supernet's weights. NaN if the search failed before the selection was
        evaluated; the accuracy also if outputs are not a tensor of classes.
    constraints : list of Row
    candidates : list of Candidate
        All candidates, the best first. Those evaluated on all validation data come before the others.
    history : list of Epoch
    feasibility : Feasibility
        What was known about the bounds before the training.
    stopped : str
        Why the search ended.
    seconds : float
    remeasured : bool
        False only in the result of a `cggd.SearchError`, if evaluating the constraints again failed. The selection
        satisfied them when the search visited it, and `constraints` holds the values of that time (none if they are
        not known).
    """

    selection: dict[Hashable, Hashable]
    loss: float
    accuracy: float
    constraints: list[Row]
    candidates: list[Candidate]
    history: list[Epoch]
    feasibility: Feasibility
    stopped: str
    seconds: float
    remeasured: bool = True

    def summary(self) -> str:
        """The result in a few lines."""
        said = "every bound is met" if self.remeasured else "every bound was met in the search, and not measured again"
        lines = [f"feasible: {said} ({self.stopped}, {self.seconds:.0f} s)"]
        lines += [f"  {row}" for row in self.constraints]
        accuracy = "" if math.isnan(self.accuracy) else f", accuracy {self.accuracy:.2%}"
        lines += [f"validation loss {self.loss:.4g}{accuracy}, with shared weights"]
        lines += [f"  {decision}: {option}" for decision, option in self.selection.items()]
        if self.history:
            last = self.history[-1]
            lines.append(
                f"skips taken {last.skips:.0%}, margin {last.mean_margin:.3g} (least {last.least_margin:.3g}), "
                f"{last.changes} decisions changed in the last epoch"
            )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """A small table for notebooks: loss, accuracy, constraints and the selection."""
        rows: list[tuple[object, object]] = [("validation loss", f"{self.loss:.4g}")]
        rows += [] if math.isnan(self.accuracy) else [("accuracy", f"{self.accuracy:.2%}")]
        rows += [("constraint", row) for row in self.constraints]
        return html_table(self.stopped, [*rows, *self.selection.items()])
