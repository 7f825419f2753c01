"""What a search returns."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from cggd import Feasibility
from cggd.constraints import Row
from cggd_nas.candidates import Candidate
from cggd_nas.history import Epoch


@dataclass(frozen=True, eq=False)
class NasResult:
    """What a search found. The supernet is left with this selection, its batch norms recalibrated for it.

    Attributes
    ----------
    selection : dict
        It satisfied every constraint when evaluated afresh.
    loss, accuracy : float
        On all validation data, with the supernet's weights.
    constraints : list of Row
    candidates : list of Candidate
        All candidates, the best first; those that saw all validation data come before the others.
    history : list of Epoch
    feasibility : Feasibility
        What was known of the bounds before the training.
    stopped : str
        Why the search ended.
    seconds : float
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

    def summary(self) -> str:
        """The result in a few lines."""
        lines = [f"feasible: every bound is met ({self.stopped}, {self.seconds:.0f} s)"]
        lines += [f"  {row}" for row in self.constraints]
        lines += [f"validation loss {self.loss:.4g}, accuracy {self.accuracy:.2%}, with shared weights"]
        lines += [f"  {decision}: {option}" for decision, option in self.selection.items()]
        if self.history:
            last = self.history[-1]
            lines.append(
                f"skips taken {last.skips:.0%}, margin {last.mean_margin:.3g} (least {last.least_margin:.3g}), "
                f"{last.changes} decisions changed in the last epoch"
            )
        return "\n".join(lines)
