"""Linear forms: problems as mixed-integer programs, for the exact solver (HiGHS, through scipy).

Additive metrics are linear in one 0/1 variable per option. A maximum of linear parts (`Peak`, `LongestPath`, `Maximum`)
has a linear form where it is minimised or bounded from above: one more variable that no part exceeds.
"""

from __future__ import annotations

import atexit
import ctypes
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from cggd.constraints import Constraint
from cggd.metrics import Additive, Combination, LongestPath, Maximum, Metric, Peak
from cggd.problem import Problem
from cggd.program.grid import proved
from cggd.program.presolve import limits_of, possible
from cggd.program.silence import compiled_code_silenced
from cggd.rounding import OPERATIONS, UNIT
from cggd.space import ChoiceSpace

# Interval at which the search checks whether to abandon a running solver. A solver that ends earlier causes no waiting.
POLL_SECONDS = 0.05


# Absolute tolerances of HiGHS, at scipy's defaults. GAP: branches that improve the best known selection by less are
# pruned. FEASIBLE: by how much a row or the range of a variable may be violated. REDUCED: the same for a reduced cost.
GAP = 1e-6
FEASIBLE = 1e-6
REDUCED = 1e-7

# Rows and costs are scaled by a power of two, to a largest coefficient between LARGEST / 2 and LARGEST. Auxiliary
# variables (those that stand for no option) reach from 0 to LARGEST. The solver's absolute tolerances are then relative
# ones of 1e-9. Coefficients below DROPPED are removed from rows, and the rows are loosened by what they could add, so
# that every remaining coefficient is at least a hundred tolerances. HiGHS has called feasible programs infeasible that
# had coefficients of 1e-9.
LARGEST = 1024.0
DROPPED = 100 * FEASIBLE

# Scaled rows whose rounding error is larger than this are loosened by it. Smaller errors are covered by the solver's
# tolerances, which are larger. (A margin of 1e-6 to 1e-3 in every row makes HiGHS 1.12 lose optima.)
NEGLIGIBLE = 1e-8

# Verdicts of HiGHS 1.12 are no proofs for programs that have auxiliary variables and, in rows or costs, numbers below
# TRUSTED. There it loses optima by more than its tolerances, with presolve (5 of 400 programs with a peak or a longest
# path of numbers up to 1e9) and without it (2 of 1357).
TRUSTED = 1e-3

# The number that all options of a decision share is subtracted from a row only if this makes the row's largest
# coefficient smaller by more than this factor.
SHARED = 16.0

# Largest number of selections that are excluded one by one, to prove that the solver's tolerances hide no better one.
EXCLUDED = 12


# How long the process waits at its end for abandoned solvers, which stop at their own time limits.
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
        INFEASIBLE is a proof for the exact bounds too: the solver's tolerances only admit more selections.
    selection : ndarray of int, shape (n_decisions,), or None
        The selection the solver ended with. It may miss a bound slightly, and may be slightly worse than the best.
    bound : float
        Lower bound on ``sign * objective`` of all selections; the solver's tolerances are subtracted.
    """

    outcome: Outcome
    selection: NDArray[np.int64] | None
    bound: float


@dataclass(frozen=True, eq=False)
class Shares:
    """Solution of the linear relaxation, in which each decision takes shares of its options.

    Attributes
    ----------
    outcome : Outcome
    bound : float
        Lower bound on ``sign * objective`` of all selections.
    reduced : ndarray of shape (n_options,)
        Reduced costs: a selection with option o costs at least ``bound + reduced[o]``. Infinite where forbidden.
    shares : ndarray of shape (n_options,)
        The share of each option in the solution; zeros if the program was not solved.
    """

    outcome: Outcome
    bound: float
    reduced: NDArray[np.float64]
    shares: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Affine:
    """A linear function of some columns, plus a constant.

    `size` is an upper bound on the sum of the absolute values of all numbers that are added to compute a value,
    including those in the constant. The rounding error is estimated from it.
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
        """Upper bound on the rounding error of a value."""
        return OPERATIONS * UNIT * self.size


class LinearProgram:
    """A mixed-integer program over one choice space: minimise `objective` under `constraints`.

    Parameters
    ----------
    space : ChoiceSpace
    constraints : list of Constraint
    objective : Metric, optional
        Without an objective, any feasible selection is a solution.
    sign : float
        1 to minimise the objective, -1 to maximise it.
    allowed : bool array of shape (n_options,), optional
        The other options get no variable. A decision with one allowed option gets none either, so a program over few
        open decisions of a large space is small.
    ceiling : float, optional
        Upper bound on ``sign * objective``, such as the value of a known selection. It prunes branches without a better
        selection.
    excluded : list of ndarray of int, shape (n_decisions,)
        Selections that the program must not return.

    Notes
    -----
    An option that breaks a bound or the ceiling, whatever the other decisions choose, gets no variable either
    (`cggd.program.presolve`).

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
        # For each decision with open options: where they begin. For each open option: the number of its decision.
        _, self.first, self.row = np.unique(layout.owner[self.open], return_index=True, return_inverse=True)
        self.ranges: list[tuple[float, float]] = []  # of the auxiliary variables
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
        """Number of open options and auxiliary variables."""
        return len(self.open) + len(self.ranges)

    def solve(
        self,
        *,
        time_limit: float | None = None,
        node_limit: int | None = None,
        rng: np.random.Generator | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Solution:
        """Solve it, until `time_limit` seconds have passed or `stop` returns true; Ctrl-C interrupts it.

        Parameters
        ----------
        time_limit : float, optional
        node_limit : int, optional
            Branch-and-bound nodes after which it stops. Repeated runs stop at the same node.
        rng : numpy.random.Generator, optional
            Shuffles variables and rows. The course of an exact solver depends on their order, so several orders give
            several different attempts.
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
            bound = result.fun  # without open decisions there are no branches
        if outcome is Outcome.INFEASIBLE:
            return Solution(outcome, None, np.inf)
        if bound is None or not np.isfinite(bound):
            return Solution(outcome, found, -np.inf)
        error = GAP + REDUCED * (len(self.first) + len(self.ranges)) if scaled.cost.any() else 0.0
        # Each auxiliary variable may be off by the tolerance, and so may the variables that one with a cost depends on.
        error += FEASIBLE * len(self.ranges) * float(np.abs(scaled.cost[len(self.open) :]).sum())
        return Solution(outcome, found, (bound - error) / scaled.unit + scaled.constant - self.cost.rounding)

    def shares(self, *, time_limit: float | None = None, stop: Callable[[], bool] = lambda: False) -> Shares:
        """Solve the linear relaxation: it is quick, and if it is infeasible, so is the program.

        The bound, the reduced costs and the proof of infeasibility are computed again from the multipliers of the rows.
        They therefore do not depend on the solver's tolerances (Neumaier & Shcherbina, 2004).
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
            # Minimise the total violation of the rows; the multipliers prove that it is positive.
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
        """The solution, if no decision is open or a row without variables is violated; otherwise None."""
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
            # A large number shared by all options of a decision would use up the solver's digits; it is subtracted.
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
            below = small * np.maximum(np.negative(matrix.data), 0.0)  # removing a positive one only loosens the row
            rounding += sparse.csr_array((below, matrix.indices, matrix.indptr), shape=matrix.shape) @ reach
            matrix.data[small] = 0.0
        matrix.eliminate_zeros()
        limits = np.where(rounding > NEGLIGIBLE, limits + rounding, limits)
        low, high = (np.array([ends[i] for ends in self.ranges]) for i in (0, 1))
        lower, upper = np.concatenate([np.zeros(n), low]), np.concatenate([np.ones(n), high])
        return _Scaled(cost * unit, unit, constant, equal, matrix, limits, rounding, lower, upper)

    # -- expressions ------------------------------------------------------------------------------------------------

    def _expression(self, metric: Metric, sign: float) -> _Affine:
        """``sign * metric``, or an epigraph variable for it."""
        if type(metric) is Additive:
            fixed, values = metric.values[self.fixed].astype(float), sign * metric.values[self.open].astype(float)
            constant, size = sign * (fixed.sum() + metric.constant), np.abs(fixed).sum() + abs(metric.constant)
            if len(values):
                size += np.maximum.reduceat(np.abs(values), self.first).sum()
                least = np.minimum.reduceat(values, self.first)
                changes = values - least[self.row]
                # A large number shared by all options of a decision does not distinguish them, and is subtracted. A
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
        """Linear functions that must all satisfy a limit on ``sign * metric``; a maximum then needs no variable."""
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
        """End times of the vertices without a successor; rows make each vertex start after its predecessors end."""
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
        """A new variable between two ends, shifted and scaled to reach from 0 to LARGEST in the solver."""
        size = max(abs(low), abs(high))
        if high <= low:
            return _Affine(_NOTHING.columns, _NOTHING.coefficients, high, size)
        self.ranges.append((0.0, LARGEST))
        return _Affine(np.array([self.n_columns - 1]), np.array([(high - low) / LARGEST]), low, size)

    def _exclude(self, selection: NDArray[np.int64]) -> None:
        """Add a row that only this selection violates."""
        flat = self.space.layout.flat(selection)
        taken = np.flatnonzero(np.isin(self.open, flat))
        n_open = len(self.first)
        if len(taken) == n_open and np.isin(self.fixed, flat).all():
            self.rows.append(_Affine(taken, np.ones(n_open), 1.0 - n_open, 2.0 * n_open))


@dataclass(frozen=True, eq=False)
class _Scaled:
    """A program as arrays: scaled costs, one option per decision, rows, limits, their rounding, ends of columns."""

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
        """The smallest number in rows and costs, without those so small that they may be rounding errors of 0."""
        limits = self.limits[np.diff(self.matrix.indptr) > 0]  # the solver ignores rows without coefficients
        numbers = np.abs(np.concatenate([self.matrix.data, limits, self.cost]))
        return float(numbers.min(initial=np.inf, where=numbers >= DROPPED))

    def dual(
        self, cost: NDArray[np.float64], multipliers: NDArray[np.float64], program: LinearProgram
    ) -> tuple[float, NDArray[np.float64]]:
        """Lower bound on the total cost, valid for any multipliers, and reduced costs of the open options."""
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


def linear_part(problem: Problem) -> Problem | None:
    """What of a problem has a linear form, as a problem of its own; None where nothing has.

    Its optimum is a bound for the problem if the objective is the same, and if it has no solution, neither has the
    problem. Where the objective has no linear form, it is replaced by zeros.
    """

    def linear(constraints: Sequence[Constraint], objective: Metric | None) -> bool:
        try:
            LinearProgram(problem.space, constraints, objective, sign=problem.sign)
        except NotLinearError:
            return False
        return True

    if linear(problem.constraints, problem.objective):
        return problem
    kept = [c for c in problem.constraints if linear([c], None)]
    if linear([], problem.objective):
        return replace(problem, constraints=kept)
    zeros = Additive(problem.space, np.zeros(problem.space.n_options), name="nothing")
    return replace(problem, objective=zeros, constraints=kept) if kept else None


def settle(
    problem: Problem,
    part: Problem | None = None,
    *,
    allowed: NDArray[np.bool_] | None = None,
    known: NDArray[np.int64] | None = None,
    step: float = 0.0,
    solve: Callable[[LinearProgram], Solution],
) -> Settled:
    """The best selection of a problem by its linear part, and whether that is proved.

    A solver's answer is correct only within its tolerances. If the values lie on a grid whose `step` is larger than the
    tolerances, the solver's bound is a proof. Otherwise the known selections are excluded one by one, until the bound
    of the remaining ones is no better than the best known one.

    Parameters
    ----------
    problem : Problem
    part : Problem, optional
        What of it has a linear form (`linear_part`); by default all of it.
    allowed : bool array of shape (n_options,), optional
    known : ndarray of int, shape (n_decisions,), optional
        The best selection known, which satisfies the constraints.
    step : float
        Lower bound on the difference between any two different objectives; 0 where none is known.
    solve : callable
        Solves a program within the limits on time and nodes.

    Raises
    ------
    NotLinearError
        If something of the part has no linear form.
    """
    part = part or problem
    same = part.objective is problem.objective
    best, cost = known, np.inf if known is None else problem.cost(known)
    excluded = [] if known is None or step else [known]
    bound, nearest = -np.inf, None
    for _ in range(EXCLUDED):
        program = LinearProgram(
            part.space,
            part.constraints,
            part.objective,
            sign=part.sign,
            allowed=allowed,
            ceiling=cost if same and np.isfinite(cost) else None,
            excluded=excluded,
        )
        solution = solve(program)
        # Each excluded selection costs at least as much as the best one, or violates a bound.
        bound = max(bound, min(solution.bound, cost)) if same else bound
        if solution.outcome is Outcome.INFEASIBLE:
            # If a known selection was not excluded, it solves the program, and the solver is wrong.
            wrong = best is not None and not any(np.array_equal(best, other) for other in excluded)
            return Settled(best, nearest, -np.inf if wrong else cost, not wrong, solution.outcome)
        selection = solution.selection
        if selection is not None and problem.satisfied(selection) and (now := problem.cost(selection)) < cost:
            best, cost = selection, now
        nearest = selection if nearest is None else nearest
        if solution.outcome is Outcome.STOPPED or selection is None:
            break
        if same and proved(cost, bound, step):
            return Settled(best, nearest, bound, True, solution.outcome)
        if not same and best is not None:
            break
        excluded.append(selection)
    return Settled(best, nearest, bound, False, Outcome.STOPPED)


@dataclass(frozen=True, eq=False)
class Settled:
    """What `settle` found.

    Attributes
    ----------
    selection : ndarray of int, shape (n_decisions,), or None
        The best selection that satisfies the constraints.
    nearest : ndarray of int, shape (n_decisions,), or None
        The first one that the solver returned, which may violate a bound.
    bound : float
        Lower bound on ``sign * objective``.
    proved : bool
        Whether no better selection exists.
    outcome : Outcome
    """

    selection: NDArray[np.int64] | None
    nearest: NDArray[np.int64] | None
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
        """Start no more threads, and wait up to EXIT_SECONDS for the running ones."""
        with self.lock:
            self.closed = True
        late = time.perf_counter() + EXIT_SECONDS
        for thread in (t for t in self.threads if t.ident is not None):  # the others could not be started
            thread.join(max(late - time.perf_counter(), 0.0))
        if any(thread.is_alive() for thread in self.threads):
            _leave_without_threads()


def _leave_without_threads() -> None:
    """Let the process end with its exit status, and without an abort, while a thread is still in compiled code.

    The interpreter ends a thread that returns to it during shutdown. C++ treats this as a fatal error and calls
    ``std::terminate``; the handler set here waits instead. The process then ends before C++ destructors find such a
    thread alive. Without glibc, nothing is done.
    """
    with suppress(OSError, AttributeError):
        c, cpp = ctypes.CDLL("libc.so.6"), ctypes.CDLL("libstdc++.so.6")
        cpp._ZSt13set_terminatePFvvE(c.pause)  # std::set_terminate
        c.on_exit(c._exit, None)


background = Background()


def aside(work: Callable[[], Any], stop: Callable[[], bool]) -> Any:
    """Run HiGHS in a thread, as it does not react to Ctrl-C; None if `stop` ended the waiting."""
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
