"""The incumbent: the best selection of a search, its bound, its proof, and the least infeasible selection.

Improvers yield findings. Only `Incumbent.take` updates the incumbent from a finding.
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
from cggd.program.settle import PRECISION
from cggd.rounding import OPERATIONS, UNIT

# Seconds per option for computing the grid of the objective, measured with 1e7 options at 2.5 GHz and rounded up.
GRID_SECONDS = 5e-8

# If the cuts of an exact solver close this share of the gap between the relaxation and the best value, it gets the rest
# of the time. On generalised assignment of type e they close 0.5 to 0.7, on other types and on MMKP at most 0.3.
CLOSED = 0.4

# Tolerance for the rounding of a bound that is a value minus the error of its proof.
ROUNDED = 1.001


@dataclass(frozen=True)
class Place:
    """Position of an improver that counts its steps: the start and the step, and the numbers of both."""

    start: int
    step: int
    starts: int
    steps: int


@dataclass(frozen=True, eq=False)
class Finding:
    """A result of an improver: a selection, a bound, a proof, or several of these.

    Attributes
    ----------
    selection : ndarray of int, shape (n_decisions,), or None
    bound : float or None
        No selection that satisfies the constraints has a better objective.
    proof : str or None
        Why no selection satisfies the constraints.
    relaxed : Relaxed or None
        Bound and reduced costs of a relaxation.
    error : float or None
        None if no exact solver has finished. Otherwise, a value this close to the bound is proved optimal: the error is
        less than what the numbers of the objective can distinguish (`cggd.program.settle`). If it is 0, a remaining gap
        may be due to the solver's tolerances (`PRECISION`).
    values : ndarray of shape (n_constraints,), or None
        Values of the constraints' metrics at the selection (`Problem.values`), if they are already known.
    place : Place or None
        Set for each step of a descent; such findings make the history of the result.
    memory : object or None
        State of the improver before this finding, for checkpoints. Its method ``pack()`` returns a mapping of JSON
        values and a mapping of arrays. The improver's ``unpack`` restores the state from them.
    """

    selection: NDArray[np.int64] | None = None
    bound: float | None = None
    proof: str | None = None
    relaxed: Relaxed | None = None
    error: float | None = None
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
    """The best selection known, and bounds and proofs about better ones.

    Parameters
    ----------
    problem : Problem
    initial : ndarray of int, shape (n_decisions,), optional
        Selection to start from; -1 for a decision without an initial option.

    Attributes
    ----------
    candidates : list of Candidate
        Selections that satisfy every constraint, each better than the one before.
    nearest : Candidate or None
        The selection of least total violation, kept as long as there is no candidate.
    bound : float or None
        No selection that satisfies the constraints has a better objective.
    proof : str or None
        Why no selection satisfies the constraints.
    relaxed : Relaxed or None
    error : float or None
        The largest error of the findings; None if no exact solver has finished.
    memory : dict
        For each improver's place in the list: its state, and the length of the history at that time.
    first : ndarray of int, shape (n_decisions,), or None
        The selection that a descent evaluates first. It is reported if there was no time for a step.
    resumed : object or None
        State of the current improver, restored from a checkpoint.
    history : list
        One entry for each finding with a `Place`: start, value, violations, best value, seconds.
    """

    problem: Problem
    initial: NDArray[np.int64] | None

    def __init__(self, problem: Problem, initial: NDArray[np.int64] | None = None) -> None:
        self.problem, self.initial = problem, None if initial is None else _kept(initial)
        self.candidates: list[Candidate] = []
        self.nearest: Candidate | None = None
        self._bound: float | None = None
        self.proof: str | None = None
        self.relaxed: Relaxed | None = None
        self.error: float | None = None
        self.memory: dict[int, tuple[Any, int]] = {}
        self.first: NDArray[np.int64] | None = None
        self.resumed: Any = None
        self.history: list[tuple[int, float, NDArray[np.float64], float, float]] = []

    @property
    def bound(self) -> float | None:
        """No selection that satisfies the constraints has a better objective; `Problem.bound` if none was found."""
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
        """Selection to start from: the best one, else `nearest`, else the initial one if it is complete."""
        if self.candidates:
            return self.candidates[-1].selection
        if self.nearest is not None:
            return self.nearest.selection
        return self.initial if self.initial is not None and (self.initial >= 0).all() else None

    @property
    def gap(self) -> float:
        """Relative distance of the value from the bound; infinite if one of them is unknown."""
        if self.value is None or self.bound is None:
            return np.inf
        return abs(self.value - self.bound) / max(abs(self.bound), 1e-12)

    @property
    def closing(self) -> bool:
        """Whether the bound has closed a share of `CLOSED` of the gap between linear relaxation and best selection."""
        if self.relaxed is None:
            return False
        linear = self.relaxed.linear
        return self._closed(self.relaxed.bound if linear is None else linear)

    @property
    def cutting(self) -> bool:
        """Whether an exact solver has closed this share of the gap between the best relaxation and best selection."""
        return self.relaxed is not None and self._closed(self.relaxed.bound)

    def _closed(self, relaxed: float) -> bool:
        if self.value is None or self.bound is None:
            return False
        sign = self.problem.sign
        return sign * (self.bound - relaxed) >= CLOSED * (self.cost - sign * relaxed)

    def take(self, finding: Finding, seconds: float = 0.0) -> bool:
        """Update the incumbent; return whether the finding's selection is the new best one.

        The constraints are evaluated here, unless `Finding.values` has their values. Forbidden options are an error.
        """
        self.relaxed = finding.relaxed or self.relaxed
        self.error = max((e for e in (self.error, finding.error) if e is not None), default=None)
        improved = finding.selection is not None and self._take_selection(finding, seconds)
        if finding.bound is not None:
            self._tighten(finding.bound)
        if finding.proof is not None and self.candidates:
            self._warn_of_refuted(f"no selection satisfies the constraints ({finding.proof})", "the claim")
        else:
            self.proof = self.proof or finding.proof
        return improved

    def _take_selection(self, finding: Finding, seconds: float) -> bool:
        problem, selection = self.problem, np.asarray(finding.selection)
        if finding.values is None:
            try:
                selection = problem.space.check_selections(selection[None])[0]
            except (ValueError, TypeError) as error:
                raise type(error)(f"an improver found {finding.selection!r}, which is no selection: {error}") from None
        if problem.costly and finding.values is None and problem.ruled_out(selection[None])[0]:
            if not self.candidates:
                values = self._known(selection)
                if np.isfinite(problem.violations.total(values)):
                    self.keep_nearest(Candidate(np.nan, _kept(selection), values))
            return False
        if not problem.permits(selection[None])[0]:
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
                # Wrong values must not hide feasible selections found later. A descent has the values of its guide.
                values = problem.values(selection)
                violations = problem.violations(values)
                improved = not violations.any()
            if improved:
                kept = _kept(problem.space.check_selections(selection[None])[0])
                self.candidates.append(Candidate(value, kept, values))
                self._check_claims()
        if violations.any() and not self.candidates:
            self.keep_nearest(Candidate(np.nan, _kept(selection), values))
        if finding.place is not None:
            best = np.nan if self.value is None else self.value
            self.history.append((finding.place.start, value, violations, best, seconds))
        return improved

    def _known(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        """Values of the constraints' metrics that are known without a call; NaN where they are not."""
        values = np.full(len(self.problem.constraints), np.nan)
        for i, c in enumerate(self.problem.constraints):
            low, high = c.metric.between(selection[None])
            if low[0] == high[0]:
                values[i] = c.values(selection[None])[0]
        return values

    def keep_nearest(self, candidate: Candidate) -> None:
        """Keep an infeasible selection if its total violation is the least so far."""
        problem = self.problem

        def total(one: Candidate) -> float:
            return problem.violations.total(one.values)

        if self.nearest is None or total(candidate) < total(self.nearest):
            self.nearest = candidate

    def _tighten(self, bound: float) -> None:
        """Keep a bound if it is tighter; discard it if the best selection refutes it."""
        sign = self.problem.sign
        if np.isnan(bound):
            raise ValueError("the bound of a finding must be a number, got nan")
        if self._refutes(bound):
            self._warn_of_refuted(f"no objective is better than {bound!r}", "the bound")
            return
        self._bound = bound if self.bound is None else sign * max(sign * self.bound, sign * bound)

    def _check_claims(self) -> None:
        """Discard a bound or a proof that a new best selection refutes."""
        if self._bound is not None and self._bound != self.problem.bound and self._refutes(self._bound):
            self._warn_of_refuted(f"no objective is better than {self._bound!r}", "the bound")
            self._bound = None
        if self.proof is not None:
            self._warn_of_refuted(f"no selection satisfies the constraints ({self.proof})", "the claim")
            self.proof = None

    def _refutes(self, bound: float) -> bool:
        """Whether the best selection is better than a bound by more than rounding."""
        return bool(self.candidates) and self.problem.sign * bound - self.cost > OPERATIONS * UNIT * abs(self.cost)

    def _warn_of_refuted(self, claim: str, what: str) -> None:
        warnings.warn(
            f"an improver claimed that {claim}, but a selection has {self.value!r}; {what} is not used",
            RuntimeWarning,
            stacklevel=5,
        )

    # -- reasons to stop --------------------------------------------------------------------------------------------

    def optimal(self, value: float, step: float, *, exactly: bool = False) -> bool:
        """Whether a value is proved optimal, if objectives are multiples of `step` (0 if there is no such grid).

        Without `exactly`, the difference from the bound may be the `error` of an exact solver.
        """
        sign = self.problem.sign
        if self.bound is None:
            return False
        error = 0.0 if exactly else ROUNDED * (self.error or 0.0)
        return proved(sign * value, sign * self.bound, step) or 0 < sign * (value - self.bound) <= error

    def step(self, budget: Budget) -> float:
        """Step of the grid of objective values; 0 if there is none, or no time to compute it."""
        if "_grid" not in self.__dict__ and not budget.fits(GRID_SECONDS * self.problem.space.n_options, late=True):
            return 0.0
        return self._grid

    @cached_property
    def _grid(self) -> float:
        return grid(self.problem.objective)

    def settled(self, budget: Budget) -> Stop | None:
        """Why the search is complete, or None."""
        if self.proof is not None:
            return Stop.INFEASIBLE
        if self.value is None or self.bound is None:
            return None
        if budget.gap > 0:
            return Stop.GAP if self.gap <= budget.gap else None
        if self.optimal(self.value, 0.0) or self.optimal(self.value, self.step(budget)):
            return Stop.OPTIMAL
        if self.error is not None and self.gap <= PRECISION:
            return Stop.PRECISION
        return None


def _kept(selection: NDArray[np.int64]) -> NDArray[np.int64]:
    """A read-only copy, which improvers and callbacks cannot change."""
    kept = selection.copy()
    kept.setflags(write=False)
    return kept


class Improver(Protocol):
    """A method that searches for selections, bounds or proofs.

    It should also yield None while it finds nothing, because the search checks limits and calls the callback after each
    yield. `Incumbent.take` processes the findings.
    """

    def suits(self, problem: Problem) -> bool:
        """Whether the improver can work on a problem."""
        ...

    def improve(self, problem: Problem, incumbent: Incumbent, budget: Budget, rng: np.random.Generator) -> Any:
        """Yield a `Finding` or None any number of times; return when ``budget.over()``.

        Parameters
        ----------
        problem : Problem
        incumbent : Incumbent
            The best selection, bound and proof so far. It is updated after each yield.
        budget : Budget
        rng : numpy.random.Generator
            Depends only on the seed and on the improver's place in the list.
        """
        ...


def seed_of(rng: np.random.Generator) -> Any:
    """The entropy from which a generator was seeded."""
    sequence: Any = rng.bit_generator.seed_seq
    return sequence.entropy
