"""Linear forms: problems as mixed-integer programs, for the exact solver (HiGHS, through scipy).

Additive metrics are linear in one 0/1 variable per option. A maximum of linear parts (`Peak`, `LongestPath`,
`Maximum`) is, where it is only bounded from above or minimised, one more variable that no part exceeds.
"""

from __future__ import annotations

import atexit
import ctypes
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from cggd.constraints import Constraint
from cggd.grid import proved
from cggd.metrics import Additive, Combination, LongestPath, Maximum, Metric, Peak
from cggd.presolve import limits_of, possible
from cggd.problem import Problem
from cggd.rounding import OPERATIONS, UNIT
from cggd.silence import compiled_code_silenced
from cggd.space import ChoiceSpace

# How often a running solver is asked whether it is still wanted; a quick one is not kept waiting by it.
POLL_SECONDS = 0.05


# HiGHS's absolute tolerances, as scipy leaves them: what a mixed-integer program prunes within of the best selection it
# knows; by how much a row, or an end of a variable, may be missed; and the same of a reduced cost.
GAP = 1e-6
FEASIBLE = 1e-6
REDUCED = 1e-7

# Rows and costs are scaled by a power of two to a largest coefficient between half of this and this, and variables
# besides options reach from 0 to this: to the solver's absolute tolerances, relative ones of 1e-9. Smaller coefficients
# than DROPPED are left out of rows, which are loosened by what they may add: each coefficient that is left counts for a
# hundred tolerances. Beside coefficients of 1e-9, HiGHS has called feasible programs infeasible.
LARGEST = 1024.0
DROPPED = 100 * FEASIBLE

# Rounding of rows that is smaller than this, scaled, is left to the solver's tolerances, which are larger and let more
# in; rows are loosened by what is larger. (A margin of 1e-6 to 1e-3 in every row makes HiGHS 1.12 lose optima.)
NEGLIGIBLE = 1e-8

# Where there are variables besides options, and rows or costs hold numbers below this, what HiGHS 1.12 says is no
# proof: it loses optima by more than its tolerances, with presolve (5 of 400 programs with a peak or a longest path of
# numbers up to 1e9) and without it (2 of 1357).
TRUSTED = 1e-3

# By how much taking out what the options of a decision share must make a row's largest coefficient smaller.
SHARED = 16.0

# Selections that are excluded one by one, to prove that no better one lies within the solver's tolerances.
EXCLUDED = 12


# How long the end of the process waits for solvers that were left behind, which stop at their own time limits.
EXIT_SECONDS = 2.0


class NotLinearError(Exception):
    """A metric, or the sense in which it is bounded, has no linear form."""


class Outcome(Enum):
    """How the solver ended."""

    OPTIMAL = "optimal"
    INFEASIBLE = "infeasible"
    STOPPED = "stopped at its limit"


@dataclass(frozen=True, eq=False)
class Solution:
    """What the exact solver found.

    Attributes
    ----------
    outcome : Outcome
        INFEASIBLE is proved: rows are scaled so that the solver's tolerances, which let more in, are all that rounds.
    selection : ndarray of int, shape (n_decisions,), or None
        The selection the solver ended with. It may miss a bound by a little, or be not quite the best one.
    bound : float
        ``sign * objective`` of no selection is below it; what the solver's tolerances may have added is taken off.
    """

    outcome: Outcome
    selection: NDArray[np.int64] | None
    bound: float


@dataclass(frozen=True, eq=False)
class Shares:
    """What the linear program says, with shares of options instead of options.

    Attributes
    ----------
    outcome : Outcome
    bound : float
        ``sign * objective`` of no selection is below it.
    reduced : ndarray of shape (n_options,)
        Reduced costs: a selection with option o costs at least ``bound + reduced[o]``. Infinite where forbidden.
    shares : ndarray of shape (n_options,)
        What the program takes of each option; zeros where it was not solved.
    """

    outcome: Outcome
    bound: float
    reduced: NDArray[np.float64]
    shares: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Affine:
    """A linear function of some columns, and a constant.

    `size` is at least the sum of the absolute values of all numbers that are added up to a value of it, those that went
    into the constant included: what its rounding is measured by.
    """

    columns: NDArray[np.int64]
    coefficients: NDArray[np.float64]
    constant: float
    size: float

    def scaled(self, factor: float) -> _Affine:
        return _Affine(self.columns, factor * self.coefficients, factor * self.constant, abs(factor) * self.size)

    def plus(self, other: _Affine) -> _Affine:
        return _Affine(
            np.concatenate([self.columns, other.columns]),
            np.concatenate([self.coefficients, other.coefficients]),
            self.constant + other.constant,
            self.size + other.size,
        )

    @property
    def rounding(self) -> float:
        """What rounding may change in a value."""
        return OPERATIONS * UNIT * self.size


class LinearProgram:
    """A mixed-integer program over one choice space: minimise `objective` under `constraints`.

    Parameters
    ----------
    space : ChoiceSpace
    constraints : list of Constraint
    objective : Metric, optional
        Without one any feasible selection will do.
    sign : float
        1 to minimise the objective, -1 to maximise it.
    allowed : bool array of shape (n_options,), optional
        The other options have no variable, and a decision with one allowed option has none either, so that a program
        over few open decisions of a large space is small.
    ceiling : float, optional
        What ``sign * objective`` must not exceed, that of a known selection. It prunes branches without a better one.
    excluded : list of ndarray of int, shape (n_decisions,)
        Selections that are not to be found.

    Notes
    -----
    Options that break a bound or the ceiling whatever the others are have no variable either (`cggd.presolve`).

    Raises
    ------
    NotLinearError
        If something has no linear form.
    """

    def __init__(
        self,
        space: ChoiceSpace,
        constraints: Sequence[Constraint],
        objective: Metric | None = None,
        *,
        sign: float = 1.0,
        allowed: NDArray[np.bool_] | None = None,
        ceiling: float | None = None,
        excluded: Sequence[NDArray[np.int64]] = (),
    ) -> None:
        layout = space.layout
        limits = limits_of(constraints)
        if ceiling is not None and objective is not None:
            limits.append((objective, sign, ceiling))
        kept = possible(space, limits, allowed)
        self.impossible = kept is None
        if kept is None:
            kept = np.ones(space.n_options, dtype=bool) if allowed is None else allowed
        self.kept = kept
        several = layout.spread(layout.reduce(np.add, kept.astype(np.int64)) > 1)
        self.space = space
        self.open, self.fixed = np.flatnonzero(kept & several), np.flatnonzero(kept & ~several)
        # The open options of each decision that has any: where they begin, and whose each is.
        _, self.first, self.row = np.unique(layout.owner[self.open], return_index=True, return_inverse=True)
        self.ranges: list[tuple[float, float]] = []  # of the variables besides options
        self.rows: list[_Affine] = []  # each at most 0
        self.cost = _NOTHING if objective is None else self._expression(objective, sign)
        for c in constraints:
            if np.isfinite(c.limit):
                self.rows += [row.plus(_constant(-c.limit)) for row in self._bounded(c.metric, c.sign)]
        if ceiling is not None:
            self.rows.append(self.cost.plus(_constant(-ceiling)))
        for selection in excluded:
            self._exclude(selection)

    @property
    def n_columns(self) -> int:
        """Options that are open, and variables besides."""
        return len(self.open) + len(self.ranges)

    def solve(
        self,
        *,
        time_limit: float | None = None,
        node_limit: int | None = None,
        rng: np.random.Generator | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Solution:
        """Solve it, until `time_limit` seconds have passed or `stop` says so; a Ctrl-C gets through.

        Parameters
        ----------
        time_limit : float, optional
        node_limit : int, optional
            Branch-and-bound nodes after which it stops, at the same place each time.
        rng : numpy.random.Generator, optional
            Shuffles variables and rows. An exact solver's luck depends on their order; several orders make several
            tries.
        stop : callable
        """
        if (settled := self._settled()) is not None:
            return settled
        scaled = self._scaled()
        columns = np.arange(self.n_columns)
        equal = scaled.equal
        if rng is not None:
            columns = rng.permutation(columns)
            equal = cast(Any, equal)[rng.permutation(cast(Any, equal).shape[0])]
        options: dict[str, float] = {"mip_rel_gap": 0.0}
        if time_limit is not None:
            options["time_limit"] = max(time_limit, 1e-3)
        if node_limit is not None:
            options["node_limit"] = node_limit
        linear = [LinearConstraint(cast(Any, equal)[:, columns], 1, 1)]
        if len(self.rows):
            linear.append(cast(Any, LinearConstraint)(scaled.matrix[:, columns], -np.inf, scaled.limits))
        arguments = {
            "integrality": (columns < len(self.open)).astype(int),
            "bounds": cast(Any, Bounds)(scaled.lower[columns], scaled.upper[columns]),
            "constraints": linear,
            "options": options,
        }
        result = aside(lambda: milp(scaled.cost[columns], **arguments), stop)
        if result is None:
            return Solution(Outcome.STOPPED, None, -np.inf)
        found = None
        if result.x is not None:
            shares = np.empty(self.n_columns)
            shares[columns] = result.x
            found = self._selection(shares)
        outcome = _outcome(result.status)
        if self.ranges and scaled.smallest < TRUSTED:
            return Solution(Outcome.STOPPED, found, -np.inf)
        bound: float | None = getattr(result, "mip_dual_bound", None)
        if bound is None and outcome is Outcome.OPTIMAL:
            bound = result.fun  # no decision was open, so there was nothing to branch on
        if outcome is Outcome.INFEASIBLE:
            return Solution(outcome, None, np.inf)
        if bound is None or not np.isfinite(bound):
            return Solution(outcome, found, -np.inf)
        error = GAP + REDUCED * (len(self.first) + len(self.ranges)) if scaled.cost.any() else 0.0
        # Each variable besides options may be off by the tolerance, and one that has a cost by what it rests on is.
        error += FEASIBLE * len(self.ranges) * float(np.abs(scaled.cost[len(self.open) :]).sum())
        return Solution(outcome, found, (bound - error) / scaled.unit + scaled.constant - self.cost.rounding)

    def shares(self, *, time_limit: float | None = None, stop: Callable[[], bool] = lambda: False) -> Shares:
        """Solve it with shares of options instead of options: quick, and infeasible only if the program is.

        The bound and the reduced costs are computed anew from the multipliers of the rows, so that no tolerance of the
        solver counts (Neumaier & Shcherbina, 2004); so is the proof that nothing is feasible.
        """
        reduced = np.full(self.space.n_options, np.inf)
        reduced[self.open] = reduced[self.fixed] = 0.0
        shares = np.zeros(self.space.n_options)
        if (settled := self._settled()) is not None:
            if settled.selection is not None:
                shares[self.fixed] = 1.0
            return Shares(settled.outcome, settled.bound, reduced, shares)
        scaled = self._scaled()
        began = time.perf_counter()

        def solve(cost: NDArray, matrix: Any, equal: Any, lower: NDArray, upper: NDArray) -> Any:
            left = None if time_limit is None else max(time_limit - (time.perf_counter() - began), 1e-3)
            given: dict[str, Any] = {"A_eq": equal, "b_eq": np.ones(equal.shape[0])}
            given |= {"bounds": np.column_stack([lower, upper])}
            given |= {"options": {} if left is None else {"time_limit": left}}
            if len(self.rows):
                given |= {"A_ub": matrix, "b_ub": scaled.limits}
            return aside(lambda: linprog(cost, method="highs", **given), stop)

        upper = np.where(np.arange(self.n_columns) < len(self.open), np.inf, scaled.upper)
        result = solve(scaled.cost, scaled.matrix, scaled.equal, scaled.lower, upper)
        if result is not None and _outcome(result.status) is Outcome.INFEASIBLE:
            # By how much rows must be missed in all, and multipliers that prove it.
            n = len(self.rows)
            wider = sparse.hstack([scaled.matrix, -sparse.eye_array(n)], format="csr")
            none = sparse.csr_array((len(self.first), n))
            equal = sparse.hstack([scaled.equal, none], format="csr")
            result = solve(
                np.concatenate([np.zeros(self.n_columns), np.ones(n)]),
                wider,
                equal,
                np.concatenate([scaled.lower, np.zeros(n)]),
                np.concatenate([upper, np.full(n, np.inf)]),
            )
            if result is not None and result.status == 0:
                missed, _ = scaled.dual(np.zeros(self.n_columns), -result.ineqlin.marginals, self)
                if missed > 0:
                    return Shares(Outcome.INFEASIBLE, np.inf, reduced, shares)
            result = None
        if result is None or result.status != 0:
            return Shares(Outcome.STOPPED, -np.inf, reduced, shares)
        multipliers = -result.ineqlin.marginals if len(self.rows) else np.zeros(0)
        bound, costs = scaled.dual(scaled.cost, multipliers, self)
        reduced[self.open] = costs / scaled.unit
        shares[self.fixed], shares[self.open] = 1.0, result.x[: len(self.open)]
        bound = bound / scaled.unit + scaled.constant - self.cost.rounding
        return Shares(Outcome.OPTIMAL, bound, reduced, shares)

    def _settled(self) -> Solution | None:
        """The answer where nothing is left to choose, or a row without variables cannot hold whatever is chosen."""
        if self.impossible or any(row.constant > row.rounding and not row.coefficients.any() for row in self.rows):
            return Solution(Outcome.INFEASIBLE, None, np.inf)
        if self.n_columns == 0:
            return Solution(Outcome.OPTIMAL, self._selection(np.zeros(0)), self.cost.constant - self.cost.rounding)
        return None

    def _selection(self, shares: NDArray[np.float64]) -> NDArray[np.int64]:
        flat = np.full(self.space.n_options, -1.0)
        flat[self.open] = shares[: len(self.open)]
        flat[self.fixed] = 1.0
        return self.space.layout.argmax(flat)

    def _scaled(self) -> _Scaled:
        """The program as arrays, scaled."""
        n = len(self.open)
        cost, constant = np.zeros(self.n_columns), self.cost.constant
        np.add.at(cost, self.cost.columns, self.cost.coefficients)
        if n:
            # Large numbers that the options of a decision have in common would take up the solver's precision.
            least = np.minimum.reduceat(cost[:n], self.first)
            cost[:n] -= least[self.row]
            constant += float(least.sum())
        unit = _power(float(np.abs(cost).max(initial=0.0)))
        equal = sparse.csr_array((np.ones(n), (self.row, np.arange(n))), shape=(len(self.first), self.n_columns))
        index = np.repeat(np.arange(len(self.rows)), [len(row.columns) for row in self.rows])
        columns = np.concatenate([row.columns for row in self.rows] or [np.zeros(0, dtype=np.int64)])
        coefficients = np.concatenate([row.coefficients for row in self.rows] or [np.zeros(0)])
        matrix = sparse.csr_array((coefficients, (index, columns)), shape=(len(self.rows), self.n_columns))
        factors = np.array(
            [_power(float(abs(part).max(initial=0.0))) for part in np.split(matrix.data, matrix.indptr[1:-1])]
        )
        factors = factors[: len(self.rows)]
        matrix = sparse.csr_array(sparse.diags_array(factors) @ matrix) if len(self.rows) else matrix
        small = np.abs(matrix.data) < DROPPED
        rounding = factors * np.array([row.rounding for row in self.rows])
        limits = factors * np.array([-row.constant for row in self.rows])
        if small.any():
            # Each column is at most 1, or at most its range.
            reach = np.concatenate([np.ones(n), [max(abs(low), abs(high)) for low, high in self.ranges]])
            below = small * np.maximum(np.negative(matrix.data), 0.0)  # without a positive one more is allowed anyway
            rounding += sparse.csr_array((below, matrix.indices, matrix.indptr), shape=matrix.shape) @ reach
            matrix.data[small] = 0.0
        matrix.eliminate_zeros()
        limits = np.where(rounding > NEGLIGIBLE, limits + rounding, limits)
        low, high = (np.array([ends[i] for ends in self.ranges]) for i in (0, 1))
        lower, upper = np.concatenate([np.zeros(n), low]), np.concatenate([np.ones(n), high])
        return _Scaled(cost * unit, unit, constant, equal, matrix, limits, rounding, lower, upper)

    # -- expressions ------------------------------------------------------------------------------------------------

    def _expression(self, metric: Metric, sign: float) -> _Affine:
        """``sign * metric``, or a variable that is no less than it and is pressed down on it."""
        if type(metric) is Additive:
            fixed, values = metric.values[self.fixed].astype(float), sign * metric.values[self.open].astype(float)
            constant, size = sign * (fixed.sum() + metric.constant), np.abs(fixed).sum() + abs(metric.constant)
            if len(values):
                size += np.maximum.reduceat(np.abs(values), self.first).sum()
                least = np.minimum.reduceat(values, self.first)
                changes = values - least[self.row]
                # A large number that the options of a decision share says nothing about a choice, and is taken out. A
                # small one stays: HiGHS finds the best selections of MMKP I07 sooner with it.
                if np.abs(changes).max() * SHARED < np.abs(values).max():
                    values, constant = changes, constant + least.sum()
            return _Affine(np.arange(len(self.open)), values, float(constant), float(size))
        if type(metric) is Combination:
            total = _constant(sign * metric.constant)
            for weight, term in metric.terms:
                if weight:
                    total = total.plus(self._expression(term, sign * weight))
            return total
        parts = self._parts(metric)
        if sign < 0:
            raise NotLinearError(f"{metric.name!r} is a maximum, which is linear only where it is bounded from above")
        low, high = (float(metric.least_with(s, self.kept).min()) for s in (1.0, -1.0))
        top = self._column(low, -high)
        self.rows += [part.plus(top.scaled(-1.0)) for part in parts]
        return top.scaled(sign)

    def _bounded(self, metric: Metric, sign: float) -> list[_Affine]:
        """Linear functions that must all be within a limit of ``sign * metric``; a maximum needs no variable then."""
        if sign > 0 and type(metric) is Maximum:
            return [row for part in metric.metrics for row in self._bounded(part, sign)]
        return self._parts(metric) if sign > 0 and type(metric) is Peak else [self._expression(metric, sign)]

    def _parts(self, metric: Metric) -> list[_Affine]:
        """The linear functions of which a metric is the maximum."""
        if type(metric) is Maximum:
            return [self._expression(part, 1.0) for part in metric.metrics]
        if type(metric) is Peak:
            whole = sparse.csc_array(metric.usage)
            usage: Any = sparse.csr_array(whole[:, self.open])
            fixed = whole[:, self.fixed].sum(axis=1).tolist()
            columns, data = usage.indices.astype(np.int64), usage.data
            cuts = [slice(a, b) for a, b in pairwise(usage.indptr.tolist())]
            sizes = abs(whole[:, np.append(self.open, self.fixed)]).sum(axis=1).tolist()
            return [_Affine(columns[c], data[c], *ends) for c, *ends in zip(cuts, fixed, sizes, strict=True)]
        if type(metric) is LongestPath:
            return self._finishes(metric)
        raise NotLinearError(f"{metric.name!r} is a {type(metric).__name__}, which has no linear form")

    def _finishes(self, path: LongestPath) -> list[_Affine]:
        """When each vertex without a successor ends: no earlier than it can, its predecessors ending before it."""
        durations, edges, last = path.vertices()
        ends = [self._column(*span) for span in zip(*(end.tolist() for end in path.spans(self.kept)), strict=True)]
        arrivals = [*((None, v) for v in range(len(durations))), *edges]
        for u, v in arrivals:
            decision, fixed = durations[v]
            row = ends[v].scaled(-1.0).plus(_constant(fixed))
            if decision is not None:
                row = row.plus(self._duration(path, decision))
            self.rows.append(row if u is None else row.plus(ends[u]))
        return [ends[v] for v in last]

    def _duration(self, path: LongestPath, decision: int) -> _Affine:
        first, last = self.space.offsets[decision : decision + 2].tolist()
        columns = np.arange(*np.searchsorted(self.open, [first, last]))
        a, b = np.searchsorted(self.fixed, [first, last])
        fixed, values = (
            path.values[self.fixed[a:b]].sum(dtype=float),
            np.asarray(path.values[self.open[columns]], float),
        )
        return _Affine(columns, values, float(fixed), float(fixed) + float(values.max(initial=0.0)))

    def _column(self, low: float, high: float) -> _Affine:
        """A new variable between two ends, in units of what it may change: the least leaves the solver's numbers."""
        size = max(abs(low), abs(high))
        if high <= low:
            return _Affine(_NOTHING.columns, _NOTHING.coefficients, high, size)
        self.ranges.append((0.0, LARGEST))
        return _Affine(np.array([self.n_columns - 1]), np.array([(high - low) / LARGEST]), low, size)

    def _exclude(self, selection: NDArray[np.int64]) -> None:
        """A row that one selection alone breaks."""
        flat = self.space.layout.flat(selection)
        taken = np.flatnonzero(np.isin(self.open, flat))
        n_open = len(self.first)
        if len(taken) == n_open and np.isin(self.fixed, flat).all():
            self.rows.append(_Affine(taken, np.ones(n_open), 1.0 - n_open, 2.0 * n_open))


@dataclass(frozen=True, eq=False)
class _Scaled:
    """A program as arrays: costs times `unit`, one option each, rows, limits and their rounding, ends of columns."""

    cost: NDArray[np.float64]
    unit: float
    constant: float
    equal: sparse.csr_array
    matrix: sparse.csr_array
    limits: NDArray[np.float64]
    rounding: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]

    @property
    def smallest(self) -> float:
        """The smallest number in a row or a cost that is not the rounding of 0."""
        limits = self.limits[np.diff(self.matrix.indptr) > 0]  # a row without coefficients is no matter for the solver
        numbers = np.abs(np.concatenate([self.matrix.data, limits, self.cost]))
        return float(numbers.min(initial=np.inf, where=numbers >= DROPPED))

    def dual(
        self, cost: NDArray[np.float64], multipliers: NDArray[np.float64], program: LinearProgram
    ) -> tuple[float, NDArray[np.float64]]:
        """A bound on what costs add up to, for any multipliers of the rows, and reduced costs of the open options."""
        n, first = len(program.open), program.first
        y = np.maximum(multipliers, 0.0)
        taken = cost + y @ self.matrix
        error = OPERATIONS * UNIT * (1 + len(y) / OPERATIONS) * (np.abs(cost) + y @ abs(self.matrix))
        low = taken - error
        ends = np.minimum(low[n:] * self.lower[n:], low[n:] * self.upper[n:])
        ends = np.minimum(ends, np.minimum((taken + error)[n:] * self.lower[n:], (taken + error)[n:] * self.upper[n:]))
        least = np.minimum.reduceat(low[:n], first) if n else np.zeros(0)
        paid = y * (self.limits + self.rounding)
        total = least.sum() + ends.sum() - paid.sum()
        size = np.abs(least).sum() + np.abs(ends).sum() + np.abs(paid).sum()
        return float(total - OPERATIONS * UNIT * size), np.maximum(low[:n] - least[program.row], 0.0)


def settle(
    problem: Problem,
    *,
    allowed: NDArray[np.bool_] | None = None,
    known: NDArray[np.int64] | None = None,
    step: float = 0.0,
    solve: Callable[[LinearProgram], Solution],
) -> Settled:
    """The best selection of a linear problem, and whether that is proved.

    A solver's answer is within its tolerances. Where values lie on a grid of a `step` that is larger, its bound is a
    proof; elsewhere selections that are known are excluded, until the bound of what is left is no better than they.

    Parameters
    ----------
    problem : Problem
    allowed : bool array of shape (n_options,), optional
    known : ndarray of int, shape (n_decisions,), optional
        The best selection known, which satisfies the constraints.
    step : float
        What any two different objectives differ by at the least; 0 where that is not known.
    solve : callable
        Solves a program, with the limits in force.

    Raises
    ------
    NotLinearError
        If something has no linear form.
    """
    sign = problem.sign

    best, cost = known, np.inf if known is None else problem.cost(known)
    excluded = [] if known is None or step else [known]
    bound = -np.inf
    for _ in range(EXCLUDED):
        program = LinearProgram(
            problem.space,
            problem.constraints,
            problem.objective,
            sign=sign,
            allowed=allowed,
            ceiling=cost if np.isfinite(cost) else None,
            excluded=excluded,
        )
        solution = solve(program)
        # What is excluded costs as much as the best or more, or violates a bound.
        bound = max(bound, min(solution.bound, cost))
        if solution.outcome is Outcome.INFEASIBLE:
            # A known selection that was not excluded is within the program: then the solver is wrong.
            wrong = best is not None and not any(np.array_equal(best, other) for other in excluded)
            return Settled(best, -np.inf if wrong else cost, not wrong, solution.outcome)
        selection = solution.selection
        if selection is not None and problem.satisfied(selection) and (now := problem.cost(selection)) < cost:
            best, cost = selection, now
        if solution.outcome is Outcome.STOPPED or selection is None:
            break
        if proved(cost, bound, step):
            return Settled(best, bound, True, solution.outcome)
        excluded.append(selection)
    return Settled(best, bound, False, Outcome.STOPPED)


@dataclass(frozen=True, eq=False)
class Settled:
    """The best selection, if there is one, a bound on ``sign * objective``, and whether no better one exists."""

    selection: NDArray[np.int64] | None
    bound: float
    proved: bool
    outcome: Outcome


class Background:
    """Daemon threads for solver calls that may be abandoned."""

    def __init__(self) -> None:
        self.threads: set[threading.Thread] = set()
        self.lock, self.closed = threading.Lock(), False
        atexit.register(self.close)

    def start(self, work: Callable[[], Any]) -> threading.Thread | None:
        """Do work in a thread of its own; None once the interpreter shuts down."""
        thread = threading.Thread(target=work, daemon=True)
        with self.lock:
            if self.closed:
                return None
            self.threads = {t for t in self.threads if t.is_alive()} | {thread}
            thread.start()
        return thread

    def close(self) -> None:
        """Let nothing start any more, and wait for what did."""
        with self.lock:
            self.closed = True
        late = time.perf_counter() + EXIT_SECONDS
        for thread in (t for t in self.threads if t.ident is not None):  # the others could not be started
            thread.join(max(late - time.perf_counter(), 0.0))
        if any(thread.is_alive() for thread in self.threads):
            _leave_without_threads()


def _leave_without_threads() -> None:
    """Let the process end while a thread is still in compiled code, with its exit status and without an abort.

    A thread that comes back to an interpreter that shuts down is ended by the interpreter; C++ code calls that a fatal
    error (``std::terminate``), so it waits instead. And the process ends before destructors of C++ find such a thread
    alive. Where there is no glibc, nothing is done.
    """
    with suppress(OSError, AttributeError):
        c, cpp = ctypes.CDLL("libc.so.6"), ctypes.CDLL("libstdc++.so.6")
        cpp._ZSt13set_terminatePFvvE(c.pause)  # std::set_terminate
        c.on_exit(c._exit, None)


background = Background()


def aside(work: Callable[[], Any], stop: Callable[[], bool]) -> Any:
    """Result of work in another thread, or None where it was not waited for: compiled code hears no Ctrl-C."""
    results: list[Any] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with compiled_code_silenced():
                results.append(work())
        except BaseException as error:
            failures.append(error)

    thread = background.start(run)
    if thread is None:
        return None
    while thread.is_alive() and not stop():
        thread.join(POLL_SECONDS)
    if failures:
        raise failures[0]
    return results[0] if results else None


def _outcome(status: int) -> Outcome:
    """What scipy's number for the end of a solver means."""
    return {0: Outcome.OPTIMAL, 2: Outcome.INFEASIBLE}.get(status, Outcome.STOPPED)


def _constant(value: float) -> _Affine:
    return _Affine(np.zeros(0, dtype=np.int64), np.zeros(0), value, abs(value))


def _power(largest: float) -> float:
    """The power of two that brings a largest number to between half of LARGEST and LARGEST; 1 for zero."""
    return 2.0 ** min(np.log2(LARGEST) - np.frexp(largest)[1], 1000.0) if largest else 1.0


_NOTHING = _constant(0.0)
