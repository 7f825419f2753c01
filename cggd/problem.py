"""Problems: an objective to minimise or maximise under constraints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cggd.checks import check_sense, own
from cggd.constraints import Constraint, Violations, check_constraints
from cggd.metrics import Additive, Metric, values_of
from cggd.metrics.base import Memory, check_metric
from cggd.space import ChoiceSpace


@dataclass(frozen=True, eq=False, repr=False)
class Problem:
    """An objective and constraints of one choice space.

    Parameters
    ----------
    objective : Metric
    constraints : list of Constraint or rule
        Rules (`cggd.rules`) are applied to the space of the objective.
    sense : {"minimize", "maximize"}
    allowed : bool array of shape (n_options,), optional
        Options that may be chosen, at least one of each decision; by default all.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace, solve
    >>> space = ChoiceSpace.from_sizes([2, 2])
    >>> problem = Problem(Additive(space, [1, 2, 3, 5]), [Additive(space, [0, 3, 0, 2]) <= 2], "maximize")
    >>> solve(problem).indices
    array([0, 1])
    """

    objective: Metric
    constraints: Sequence[Constraint] = ()
    sense: Literal["minimize", "maximize"] = "minimize"
    allowed: NDArray[np.bool_] | None = None

    def __repr__(self) -> str:
        n = len(self.constraints)
        limits = f"{n} constraint{'' if n == 1 else 's'}" if n > 6 else f"[{', '.join(map(str, self.constraints))}]"
        return f"Problem({self.sense} {self.objective.name}, {limits}, {self.space})"

    def __post_init__(self) -> None:
        check_metric(self.objective, "objective")
        check_sense(self.sense)
        own(self, constraints=tuple(check_constraints(self.constraints, self.objective.space)))
        if self.allowed is not None:
            own(self, allowed=self.space.allowed(~np.asarray(self.allowed, dtype=bool)))

    @property
    def space(self) -> ChoiceSpace:
        """The choice space of the objective and the constraints."""
        return self.objective.space

    @property
    def sign(self) -> float:
        """1 to minimise and -1 to maximise: ``sign * objective`` is minimised."""
        return 1.0 if self.sense == "minimize" else -1.0

    def cost(self, selection: NDArray[np.int64]) -> float:
        """``sign * objective`` of one selection."""
        return self.sign * float(values_of(self.objective, selection[None])[0])

    def permits(self, selections: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which selections take allowed options only, (n, n_decisions) to (n,)."""
        if self.allowed is None:
            return np.ones(len(selections), dtype=bool)
        return np.logical_and.reduce(self.allowed[self.space.layout.flat(selections)], axis=1)

    def satisfied(self, selection: NDArray[np.int64]) -> bool:
        """Whether one selection satisfies every constraint."""
        return all(c.holds(selection[None])[0] for c in self.constraints)

    def values(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        """Values of the constraints' metrics at one selection, shape (n_constraints,); see `Constraint.values`."""
        return np.array([float(c.values(selection[None])[0]) for c in self.constraints], dtype=float)

    @cached_property
    def violations(self) -> Violations:
        """Function of `values`: by how much each bound is violated."""
        return Violations(self.constraints)

    @property
    def metrics(self) -> list[Metric]:
        """The objective, and the metrics of the constraints."""
        return [self.objective, *(c.metric for c in self.constraints)]

    @property
    def memories(self) -> list[Memory]:
        """The memories of the costly metrics, each once."""
        return list({id(memory): memory for metric in self.metrics for memory in metric.memories()}.values())

    @cached_property
    def costly(self) -> bool:
        """Whether some metric is costly (`Metric.costly`)."""
        return any(metric.costly for metric in self.metrics)

    @property
    def calls_each(self) -> int:
        """Number of counted evaluations for evaluating one selection again."""
        return max(metric.calls_each for metric in self.metrics)

    def as_costly(self) -> Problem:
        """The problem with its black boxes as costly metrics, which share the memory of those given."""
        twins = {id(metric): metric.as_costly() if metric.calls_each else metric for metric in self.metrics}
        constraints = [replace(c, metric=twins[id(c.metric)]) for c in self.constraints]
        return replace(self, objective=twins[id(self.objective)], constraints=constraints)

    def ruled_out(self, selections: NDArray[np.int64], cost: float = np.inf) -> NDArray[np.bool_]:
        """Which selections cannot be a better answer, as far as is known without a call of a costly metric.

        Parameters
        ----------
        selections : ndarray of int, shape (n, n_decisions)
        cost : float
            ``sign * objective`` of the best selection known; a better answer has less.
        """
        out = np.zeros(len(selections), dtype=bool)
        for c in sorted(self.constraints, key=lambda c: c.metric.costly):
            if not out.all():
                out[~out] = c.ruled_out(selections[~out])
        if self.objective.costly and not out.all():
            low, high = self.objective.between(selections[~out])
            least = self.sign * (low if self.sign > 0 else high)
            out[~out] = np.isnan(least) | (least > cost)
        return out

    @cached_property
    def bound(self) -> float | None:
        """Bound on the objective of all selections, from the limits of the metric; None if it has none."""
        end = self.objective.limits()[0 if self.sense == "minimize" else 1]
        return end if np.isfinite(end) else None


def nothing(space: ChoiceSpace) -> Additive:
    """The objective 0, for which every feasible selection is optimal."""
    return Additive(space, np.zeros(space.n_options), name="nothing")
