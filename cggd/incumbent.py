"""The incumbent: the best selection of a search, the bound, the proof and the nearest miss.

Improvers yield findings, and `Incumbent.take` is the only place where a finding becomes knowledge.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cggd.budget import Budget, Stop
from cggd.metrics import values_of
from cggd.problem import Problem
from cggd.program.bounds import Relaxed
from cggd.program.grid import grid, proved
from cggd.rounding import OPERATIONS, UNIT

# Seconds per option that the grid of the objective takes, measured with 1e7 options at 2.5 GHz and rounded up.
GRID_SECONDS = 5e-8

# The tolerances of the exact solver (HiGHS) are 1e-6 of the largest number of the objective at the most.
PRECISION = 1e-6


@dataclass(frozen=True)
class Place:
    """Where an improver that counts its steps stands: which of its starts and steps, and of how many."""

    start: int
    step: int
    starts: int
    steps: int


@dataclass(frozen=True, eq=False)
class Finding:
    """What an improver found: a selection, a bound, a proof, or several of them.

    Attributes
    ----------
    selection : ndarray of int, shape (n_decisions,), or None
    bound : float or None
        No selection that satisfies the constraints has a better objective.
    proof : str or None
        Why no selection satisfies the constraints.
    relaxed : Relaxed or None
        Bound and reduced costs of a relaxation.
    complete : bool
        Whether an exact solver has finished: what may be better than the bound says is within its precision.
    values : ndarray of shape (n_constraints,), or None
        Values of the constraints' metrics at the selection, where they are known already (`Problem.values`).
    place : Place or None
        Set for each step of a descent; such findings make the history of the result.
    memory : object or None
        State from which the improver can continue, for checkpoints: that before this finding. Its method ``pack()``
        returns a mapping of facts for JSON and a mapping of arrays, which the improver's ``unpack`` reads.
    """

    selection: NDArray[np.int64] | None = None
    bound: float | None = None
    proof: str | None = None
    relaxed: Relaxed | None = None
    complete: bool = False
    values: NDArray[np.float64] | None = None
    place: Place | None = None
    memory: Any = None


@dataclass(frozen=True, eq=False)
class Candidate:
    """A selection with its objective and the values of the constraints' metrics; NaN where not evaluated."""

    value: float
    selection: NDArray[np.int64]
    values: NDArray[np.float64]


class Incumbent:
    """The best selection known, and what is known about better ones.

    Parameters
    ----------
    problem : Problem
    initial : ndarray of int, shape (n_decisions,), optional
        Where improvers may begin; -1 for a decision that is left open.

    Attributes
    ----------
    candidates : list of Candidate
        Selections that satisfied every constraint, the best one last.
    nearest : Candidate or None
        The selection of least total violation, until a candidate is known.
    bound : float or None
        No selection that satisfies the constraints has a better objective.
    proof : str or None
        Why no selection satisfies the constraints.
    relaxed : Relaxed or None
    complete : bool
        Whether an exact solver has finished.
    memory : dict
        States of improvers by their places in the list, each with the length of the history when it was taken.
    first : ndarray of int, shape (n_decisions,), or None
        The selection that a descent evaluates first; it is reported where there was no time for more.
    resumed : object or None
        State of the improver that runs now, from a checkpoint.
    history : list
        One entry for each finding with a `Place`: start, value, violations, best value, seconds.
    """

    def __init__(self, problem: Problem, initial: NDArray[np.int64] | None = None) -> None:
        self.problem, self.initial = problem, None if initial is None else _kept(initial)
        self.candidates: list[Candidate] = []
        self.nearest: Candidate | None = None
        self._bound: float | None = None
        self.proof: str | None = None
        self.relaxed: Relaxed | None = None
        self.complete = False
        self.memory: dict[int, tuple[Any, int]] = {}
        self.first: NDArray[np.int64] | None = None
        self.resumed: Any = None
        self.history: list[tuple[int, float, NDArray[np.float64], float, float]] = []

    @property
    def bound(self) -> float | None:
        """No selection that satisfies the constraints has a better objective; that of the metric if none was found."""
        return self.problem.bound if self._bound is None else self._bound

    @property
    def selection(self) -> NDArray[np.int64] | None:
        """The best selection known that satisfies every constraint, shape (n_decisions,)."""
        return self.candidates[-1].selection if self.candidates else None

    @property
    def value(self) -> float | None:
        """The objective of `selection`."""
        return self.candidates[-1].value if self.candidates else None

    @property
    def cost(self) -> float:
        """``sign * value``; infinite where no selection is known."""
        return self.problem.sign * self.candidates[-1].value if self.candidates else np.inf

    @property
    def start(self) -> NDArray[np.int64] | None:
        """Where an improver may begin: the best selection, or the nearest one, or a complete initial one."""
        if self.candidates:
            return self.candidates[-1].selection
        if self.nearest is not None:
            return self.nearest.selection
        return self.initial if self.initial is not None and (self.initial >= 0).all() else None

    @property
    def gap(self) -> float:
        """Distance of the value to the bound, as a share of the bound; infinite where one of them is not known."""
        if self.value is None or self.bound is None:
            return np.inf
        return abs(self.value - self.bound) / max(abs(self.bound), 1e-12)

    def take(self, finding: Finding, seconds: float = 0.0) -> bool:
        """Learn from a finding; return whether its selection is the best one that satisfies every constraint.

        The selection is evaluated here, unless its values came with it. Forbidden options are an error.
        """
        self.relaxed = finding.relaxed or self.relaxed
        self.complete = self.complete or finding.complete
        improved = finding.selection is not None and self._weigh(finding, seconds)
        if finding.bound is not None:
            self._tighten(finding.bound)
        if finding.proof is not None and self.candidates:
            self._refuse(f"no selection satisfies the constraints ({finding.proof})", "the claim")
        else:
            self.proof = self.proof or finding.proof
        return improved

    def _weigh(self, finding: Finding, seconds: float) -> bool:
        problem, selection = self.problem, finding.selection
        assert selection is not None
        if finding.values is None:
            selection = problem.space.check_selections(selection[None])[0]
        if problem.allowed is not None and not problem.allowed[problem.space.layout.flat(selection)].all():
            raise ValueError(f"an improver found {problem.space.labels(selection)!r}, which takes forbidden options")
        values = problem.values(selection) if finding.values is None else np.asarray(finding.values, dtype=float)
        if values.shape != (len(problem.constraints),):
            raise ValueError(f"values of a finding must be {len(problem.constraints)} numbers, got {finding.values!r}")
        violations = problem.violations(values)
        value, improved = np.nan, False
        if not violations.any():
            value = float(values_of(problem.objective, selection[None])[0])
            improved = problem.sign * value < self.cost
            if improved and finding.values is not None and finding.place is None:
                # Wrong values must not hide feasible selections that come later. Those of a descent are of its guide.
                values = problem.values(selection)
                violations = problem.violations(values)
                improved = not violations.any()
            if improved:
                kept = _kept(problem.space.check_selections(selection[None])[0])
                self.candidates.append(Candidate(value, kept, values))
                self._doubt()
        if violations.any() and not self.candidates:
            self.keep_nearest(Candidate(np.nan, _kept(selection), values))
        if finding.place is not None:
            best = np.nan if self.value is None else self.value
            self.history.append((finding.place.start, value, violations, best, seconds))
        return improved

    def keep_nearest(self, candidate: Candidate) -> None:
        """Keep a selection that violates constraints, if none violates them less."""
        problem = self.problem

        def total(one: Candidate) -> float:
            return problem.violations.total(one.values)

        if self.nearest is None or total(candidate) < total(self.nearest):
            self.nearest = candidate

    def _tighten(self, bound: float) -> None:
        """Keep a bound if it is tighter, and refuse one that the best selection refutes."""
        sign = self.problem.sign
        if np.isnan(bound):
            raise ValueError("the bound of a finding must be a number, got nan")
        if self._refutes(bound):
            self._refuse(f"no objective is better than {bound!r}", "the bound")
            return
        self._bound = bound if self.bound is None else sign * max(sign * self.bound, sign * bound)

    def _doubt(self) -> None:
        """Drop what a new best selection refutes."""
        if self._bound is not None and self._bound != self.problem.bound and self._refutes(self._bound):
            self._refuse(f"no objective is better than {self._bound!r}", "the bound")
            self._bound = None
        if self.proof is not None:
            self._refuse(f"no selection satisfies the constraints ({self.proof})", "the claim")
            self.proof = None

    def _refutes(self, bound: float) -> bool:
        """Whether the best selection is better than a bound by more than rounding."""
        return bool(self.candidates) and self.problem.sign * bound - self.cost > OPERATIONS * UNIT * abs(self.cost)

    def _refuse(self, claim: str, what: str) -> None:
        warnings.warn(
            f"an improver claimed that {claim}, but a selection has {self.value!r}; {what} is not used",
            RuntimeWarning,
            stacklevel=5,
        )

    # -- what is settled --------------------------------------------------------------------------------------------

    def optimal(self, value: float, step: float) -> bool:
        """Whether no objective is better than a value, on a grid of objectives with a step (`step`)."""
        sign = self.problem.sign
        return self.bound is not None and proved(sign * value, sign * self.bound, step)

    def step(self, budget: Budget) -> float:
        """Step of the grid of objective values; 0 if there is none, or no time to find it."""
        if "_grid" not in self.__dict__ and not budget.fits(GRID_SECONDS * self.problem.space.n_options, late=True):
            return 0.0
        return self._grid

    @cached_property
    def _grid(self) -> float:
        return grid(self.problem.objective)

    def open_cost(self, step: float) -> float:
        """The largest reduced cost that an option of a better selection may have; infinite where none is known."""
        if self.relaxed is None or not self.candidates:
            return np.inf
        return self.cost - 0.999 * step - self.problem.sign * self.relaxed.bound + 1e-9 * abs(self.cost)

    def settled(self, gap: float, budget: Budget) -> Stop | None:
        """Why nothing is left to be found, or None."""
        if self.proof is not None:
            return Stop.INFEASIBLE
        if self.value is None or self.bound is None:
            return None
        if gap > 0:
            return Stop.GAP if self.gap <= gap else None
        if self.optimal(self.value, 0.0) or self.optimal(self.value, self.step(budget)):
            return Stop.OPTIMAL
        if self.complete and self.gap <= PRECISION:
            return Stop.PRECISION
        return None


def _kept(selection: NDArray[np.int64]) -> NDArray[np.int64]:
    """A copy that neither its improver nor a callback can change."""
    kept = selection.copy()
    kept.setflags(write=False)
    return kept


class Improver(Protocol):
    """Anything that finds selections, bounds or proofs for a problem.

    It may yield None where it found nothing new, so that time limits, Ctrl-C and callbacks are heeded; see
    `cggd.solve` for what happens to its findings.
    """

    def suits(self, problem: Problem) -> bool:
        """Whether it can work on a problem."""
        ...

    def improve(self, problem: Problem, incumbent: Incumbent, budget: Budget, rng: np.random.Generator) -> Any:
        """Yield a `Finding`, or None, as often as it likes; it ends when ``budget.over()``.

        Parameters
        ----------
        problem : Problem
        incumbent : Incumbent
            What is known so far. It changes while findings are yielded.
        budget : Budget
        rng : numpy.random.Generator
            The same for the same seed.
        """
        ...


def seed_of(rng: np.random.Generator) -> Any:
    """The seed that a generator was made with."""
    sequence: Any = rng.bit_generator.seed_seq
    return sequence.entropy
