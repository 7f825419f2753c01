"""Laws of improvers: their findings are true, the same seed gives the same findings, and they stop in time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd.budget import Budget
from cggd.incumbent import Finding, Improver, Incumbent
from cggd.metrics import values_of
from cggd.problem import Problem
from cggd.rounding import OPERATIONS, UNIT
from cggd.testing.laws import LawError

# Largest number of findings that are checked.
MOST = 500

# Findings that an improver may still yield after its budget is over.
LATE = 2

# Largest number of selections up to which bounds and proofs are compared with all of them.
FEW = 20_000


def check_improver(improver: Improver, problem: Problem, *, seed: int = 0, samples: int = 2000) -> None:
    """Check the laws of improvers; raise `LawError` if one does not hold.

    A selection belongs to the space and takes no forbidden option. The values given with it are those of the
    constraints' metrics. No selection is better than a bound, and none is feasible if a proof says so. The same seed
    gives the same findings. The improver ends soon after its budget is over.

    Parameters
    ----------
    improver : Improver
    problem : Problem
        One that suits the improver. Bounds and proofs are compared with all selections of spaces of up to 20,000, and
        with `samples` random selections of larger ones.
    seed, samples : int

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace, Descent
    >>> cost = Additive(ChoiceSpace.from_sizes([2, 3]), [1, 2, 3, 4, 5])
    >>> check_improver(Descent(steps=5, starts=1), Problem(cost, [cost >= 5]))
    >>> class Hopeful:
    ...     def suits(self, problem):
    ...         return True
    ...     def improve(self, problem, incumbent, budget, rng):
    ...         yield Finding(bound=6.0)
    >>> check_improver(Hopeful(), Problem(cost, [cost >= 5]))
    Traceback (most recent call last):
    cggd.testing.laws.LawError: Hopeful claims that no objective is better than 6.0, but selection [0, 1] has 5.0
    """
    name = type(improver).__name__
    if not improver.suits(problem):
        raise LawError(f"{name} does not suit the problem, so that nothing can be checked")
    selections, costs = _feasible(problem, samples, seed)
    first = list(_findings(improver, problem, seed))
    for finding in first:
        if finding is not None:
            _check(name, finding, problem, selections, costs)
    again = list(_findings(improver, problem, seed))
    if len(first) != len(again) or any(_told(a) != _told(b) for a, b in zip(first, again, strict=True)):
        raise LawError(f"{name} does not repeat its findings for the same seed, {seed}")
    budget, late = Budget(), 0
    for n, _ in enumerate(_findings(improver, problem, seed, budget)):
        late += budget.asked_to_stop
        budget.asked_to_stop = n >= 1
        if late > LATE:
            raise LawError(f"{name} goes on after its budget is over")


def _findings(
    improver: Improver, problem: Problem, seed: int, budget: Budget | None = None
) -> Iterator[Finding | None]:
    """What an improver yields for a new incumbent, up to MOST findings."""
    incumbent = Incumbent(problem)
    findings = improver.improve(problem, incumbent, budget or Budget(), np.random.default_rng(seed))
    for finding in islice(findings, MOST):
        if finding is not None and not isinstance(finding, Finding):
            raise LawError(f"{type(improver).__name__} must yield findings or None, got {finding!r}")
        yield finding
        if finding is not None:
            try:
                incumbent.take(finding)
            except (ValueError, TypeError, IndexError) as error:
                raise LawError(
                    f"{type(improver).__name__} yields {finding!r}, which cannot be taken: {error}"
                ) from error


def _feasible(problem: Problem, samples: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Selections that satisfy the constraints, all or those among a sample, and their costs."""
    space = problem.space
    rows = space.enumerate() if space.has_at_most(FEW) else space.sample(samples, np.random.default_rng(seed))
    rows = rows[problem.permits(rows)]
    rows = np.array([row for row in rows if problem.satisfied(row)], dtype=np.int64).reshape(-1, space.n_decisions)
    return rows, problem.sign * values_of(problem.objective, rows) if len(rows) else np.zeros(0)


def _check(
    name: str, finding: Finding, problem: Problem, selections: NDArray[np.int64], costs: NDArray[np.float64]
) -> None:
    space = problem.space
    if finding.selection is not None:
        try:
            chosen = space.check_selections(np.asarray(finding.selection)[None])[0]
        except (ValueError, TypeError) as error:
            raise LawError(f"{name} yields {finding.selection!r}, which is no selection: {error}") from error
        if not problem.permits(chosen[None])[0]:
            raise LawError(f"{name} yields selection {chosen.tolist()}, which takes forbidden options")
        if finding.values is not None and not np.array_equal(finding.values, problem.values(chosen)):
            raise LawError(
                f"{name} says that the constraints' metrics are {finding.values.tolist()} at selection "
                f"{chosen.tolist()}, but they are {problem.values(chosen).tolist()}"
            )
    if finding.proof is not None and len(selections):
        raise LawError(
            f"{name} claims that nothing is feasible ({finding.proof}), but selection {selections[0].tolist()} is"
        )
    if finding.bound is not None and len(costs):
        best = int(np.argmin(costs))
        rounding = OPERATIONS * UNIT * max(abs(finding.bound), abs(costs[best]))
        if costs[best] < problem.sign * finding.bound - rounding:
            raise LawError(
                f"{name} claims that no objective is better than {finding.bound!r}, but selection "
                f"{selections[best].tolist()} has {problem.sign * float(costs[best])!r}"
            )


def _told(finding: Finding | None) -> Any:
    """The content of a finding, in a form that can be compared."""
    if finding is None:
        return None
    selection = None if finding.selection is None else np.asarray(finding.selection).tolist()
    return selection, finding.bound, finding.proof
