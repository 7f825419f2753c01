"""Mixed-integer programs of problems whose metrics have linear forms, solved exactly (HiGHS, through scipy)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from cggd.budget import Budget
from cggd.constraints import Constraint
from cggd.expressions import LARGEST, Expression, Program
from cggd.metrics import Metric
from cggd.problem import Problem
from cggd.program.presolve import limits_of, possible
from cggd.program.threads import run_interruptibly
from cggd.rounding import OPERATIONS, UNIT
from cggd.space import ChoiceSpace

# Absolute tolerances of HiGHS, at scipy's defaults. GAP: branches that improve the best known selection by less are
# pruned. FEASIBLE: largest violation of a row or of the range of a variable. REDUCED: largest error of a reduced cost.
GAP = 1e-6
FEASIBLE = 1e-6
REDUCED = 1e-7

# Rows and costs are scaled by a power of two, to a largest coefficient between LARGEST / 2 and LARGEST. The solver's
# absolute tolerances then correspond to relative ones of 1e-9. Coefficients below DROPPED are removed from rows, and
# the rows are loosened by the largest possible contribution of these, so that every remaining coefficient is at least a
# hundred tolerances. HiGHS has called feasible programs with coefficients of 1e-9 infeasible.
DROPPED = 100 * FEASIBLE

# Rounds of narrowing the ranges of auxiliary variables. A ceiling narrows the range of the objective, which narrows
# others.
TIGHTENED = 3

# Tolerance, in place of FEASIBLE, for proving that a ceiling cannot be reached. HiGHS accepts violations of variables
# and rows up to the tolerance; with 1e-6, selections that do not exist reach ceilings 1e-7 below the optimum.
PRECISE = 1e-9

# Scaled rows whose rounding error is larger than this are loosened by it. Smaller errors are covered by the solver's
# tolerances, which are larger. (A margin of 1e-6 to 1e-3 in every row makes HiGHS 1.12 lose optima.)
NEGLIGIBLE = 1e-8

# Verdicts of HiGHS 1.12 are not used as proofs for programs with auxiliary variables and with numbers below TRUSTED in
# rows, costs or the value of an epigraph variable. There it loses optima by more than its tolerances, with presolve (5
# of 400 programs with a peak or a longest path of numbers up to 1e9) and without it (2 of 1357). Smaller coefficients
# of variables that are 0 or 1 are therefore removed from their rows as well. This makes the bound worse by about 1e-6
# of the largest number for each.
TRUSTED = 1e-3


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
    nodes : int
        Branch-and-bound nodes.
    """

    outcome: Outcome
    selection: NDArray[np.int64] | None
    bound: float
    nodes: int = 0


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
    precise : bool
        Whether the solver's tolerance is `PRECISE`.

    Notes
    -----
    An option that violates a bound or the ceiling for every choice of the other decisions gets no variable either
    (`cggd.program.presolve`).

    Raises
    ------
    NotLinearError
        If something has no linear form.
    """

    impossible: bool
    program: Program
    cost: Expression
    rows: Expression

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
        precise: bool = False,
    ) -> None:
        self.precise = precise
        limits = limits_of(constraints)
        if ceiling is not None and objective is not None:
            limits.append((objective, sign, ceiling))
        kept = possible(space, limits, allowed)
        self.impossible = kept is None
        if kept is None:
            kept = allowed
        self.space = space
        self.program = program = Program(space, kept)
        self.cost = Expression.of(0.0) if objective is None else self._taken(program.linear(objective, sign))
        for c in constraints:
            if np.isfinite(c.limit):
                program.at_most(self._taken(c.metric.within(program, c.sign, c.limit)))
        if ceiling is not None:
            program.at_most(self.cost, ceiling)
        for selection in excluded:
            self._exclude(selection)
        self.rows = Expression.join(program.rows)
        for _ in range(TIGHTENED if len(program.reach) else 0):
            self._tighten()

    def _tighten(self) -> None:
        """Narrow the range of each auxiliary variable to the values that every single row allows.

        With a ceiling, costs that exceed it are removed, and the scaling is that of the remaining numbers.
        """
        program, n, reach = self.program, len(self.program.open), self.program.reach
        matrix = sparse.coo_array(self.rows.matrix(self.n_columns))
        at = np.flatnonzero((matrix.col >= n) & (matrix.data != 0))
        row, column, factor = matrix.row[at], matrix.col[at] - n, matrix.data[at]
        others = program.range(self.rows)[0][row] - np.minimum(factor * reach[column], 0.0)
        lower, upper = np.zeros(len(reach)), reach.copy()
        np.minimum.at(upper, column[factor > 0], (-others / factor)[factor > 0])
        np.maximum.at(lower, column[factor < 0], (-others / factor)[factor < 0])
        margin, binary = NEGLIGIBLE * reach, reach == 1
        lower, upper = np.maximum(lower - margin, 0.0), np.minimum(upper + margin, reach)
        lower, upper = np.where(binary, np.ceil(lower), lower), np.where(binary, np.floor(upper), upper)
        upper = np.maximum(lower, upper)  # the rows remain, so the solver still detects infeasibility
        lower, share = np.append(np.zeros(n), lower), np.append(np.ones(n), (upper - lower) / reach)
        self.rows, self.cost = (_ranged(expression, lower, share) for expression in (self.rows, self.cost))

    @classmethod
    def of(cls, problem: Problem, **options: Any) -> LinearProgram:
        """The program of a problem, with further parameters of the class."""
        return cls(problem.space, problem.constraints, problem.objective, sign=problem.sign, **options)

    def _taken(self, expression: Expression | None) -> Expression:
        if expression is None:
            raise NotLinearError(self.program.refusal())
        return expression

    @property
    def n_columns(self) -> int:
        """Number of open options and auxiliary variables."""
        return self.program.n_columns

    def solve(
        self,
        *,
        time_limit: float | None = None,
        node_limit: int | None = None,
        gap: float = 0.0,
        near: float = 0.0,
        rng: np.random.Generator | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Solution:
        """Solve it, until `time_limit` seconds have passed or `stop` returns true; Ctrl-C interrupts it.

        Parameters
        ----------
        time_limit : float, optional
        node_limit : int, optional
            Branch-and-bound nodes after which it stops. Repeated runs stop at the same node.
        gap, near : float
            It stops once its bound is within a relative `gap` of its selection, if ``sign * objective`` is about
            `near`. The outcome is then OPTIMAL, too.
        rng : numpy.random.Generator, optional
            Shuffles variables and rows. The course of an exact solver depends on their order, so several orders give
            several different attempts.
        stop : callable
        """
        if (settled := self._settled()) is not None:
            return settled
        scaled = self._scaled(TRUSTED if len(self.program.reach) else DROPPED)
        columns = np.arange(self.n_columns)
        equal = scaled.equal
        if rng is not None:
            columns = rng.permutation(columns)
            equal = cast(Any, equal)[rng.permutation(cast(Any, equal).shape[0])]
        # The solver's objective and its relative gap do not include the constant.
        relative = gap * abs(near) / (abs(near - scaled.constant) or 1.0)
        options: dict[str, float] = {"mip_rel_gap": min(relative, 1.0)}
        if time_limit is not None:
            options["time_limit"] = max(time_limit, 1e-3)
        if node_limit is not None:
            options["node_limit"] = node_limit
        if self.precise:
            options["mip_feasibility_tolerance"] = PRECISE
            # scipy passes options that it does not know to HiGHS, and warns.
            warnings.filterwarnings("ignore", "Unrecognized options", RuntimeWarning, __name__)
        linear = [LinearConstraint(cast(Any, equal)[:, columns], 1, 1)]
        if len(self.rows):
            linear.append(cast(Any, LinearConstraint)(scaled.matrix[:, columns], -np.inf, scaled.limits))
        arguments = {
            "integrality": scaled.whole[columns].astype(int),
            "bounds": cast(Any, Bounds)(scaled.lower[columns], scaled.upper[columns]),
            "constraints": linear,
            "options": options,
        }
        result = run_interruptibly(lambda: milp(scaled.cost[columns], **arguments), stop)
        if result is None:
            return Solution(Outcome.STOPPED, None, -np.inf)
        found, smallest = None, scaled.smallest
        if result.x is not None:
            shares = np.empty(self.n_columns)
            shares[columns] = result.x
            found = self._selection(shares)
            paid = shares[~scaled.whole & (scaled.cost != 0)]
            smallest = float(paid.min(initial=smallest, where=paid > FEASIBLE))
        outcome = _outcome(result.status)
        n_auxiliary = len(self.program.reach)
        if n_auxiliary and smallest < TRUSTED:
            return Solution(Outcome.STOPPED, found, -np.inf)
        bound: float | None = getattr(result, "mip_dual_bound", None)
        if bound is None and outcome is Outcome.OPTIMAL:
            bound = result.fun  # without open decisions there are no branches
        if outcome is Outcome.INFEASIBLE:
            return Solution(outcome, None, np.inf)
        if bound is None or not np.isfinite(bound):
            return Solution(outcome, found, -np.inf)
        # A column may move over its whole range at a reduced cost within the tolerance.
        moved = len(self.program.first) + float(self.program.reach.sum())
        error = GAP + REDUCED * moved if scaled.cost.any() else 0.0
        # Each continuous variable may have an error of the tolerance, also those on which one with a cost depends.
        error += FEASIBLE * np.count_nonzero(~scaled.whole) * float(np.abs(scaled.cost[~scaled.whole]).sum())
        lower = (bound - error) / scaled.unit + scaled.constant - float(self.cost.rounding[0])
        return Solution(outcome, found, lower, int(getattr(result, "mip_node_count", None) or 0))

    def shares(self, *, time_limit: float | None = None, stop: Callable[[], bool] = lambda: False) -> Shares:
        """Solve the linear relaxation: it is quick, and if it is infeasible, so is the program.

        The bound, the reduced costs and the proof of infeasibility are computed again from the multipliers of the rows.
        They therefore do not depend on the solver's tolerances (Neumaier & Shcherbina, 2004).
        """
        reduced = np.full(self.space.n_options, np.inf)
        open_, fixed = self.program.open, self.program.fixed
        reduced[open_] = reduced[fixed] = 0.0
        shares = np.zeros(self.space.n_options)
        if (settled := self._settled()) is not None:
            if settled.selection is not None:
                shares[fixed] = 1.0
            return Shares(settled.outcome, settled.bound, reduced, shares)
        scaled = self._scaled()
        budget = Budget(time_limit)

        def solve(cost: NDArray, matrix: Any, equal: Any, lower: NDArray, upper: NDArray) -> Any:
            given: dict[str, Any] = {"A_eq": equal, "b_eq": np.ones(equal.shape[0])}
            given |= {"bounds": np.column_stack([lower, upper])}
            given |= {"options": {"time_limit": max(budget.left, 1e-3)} if budget.limited else {}}
            if len(self.rows):
                given |= {"A_ub": matrix, "b_ub": scaled.limits}
            return run_interruptibly(lambda: linprog(cost, method="highs", **given), stop)

        upper = np.where(np.arange(self.n_columns) < len(open_), np.inf, scaled.upper)
        result = solve(scaled.cost, scaled.matrix, scaled.equal, scaled.lower, upper)
        if result is not None and _outcome(result.status) is Outcome.INFEASIBLE:
            # Minimise the total violation of the rows; the multipliers prove that it is positive.
            n = len(self.rows)
            wider = sparse.hstack([scaled.matrix, -sparse.eye_array(n)], format="csr")
            none = sparse.csr_array((len(self.program.first), n))
            equal = sparse.hstack([scaled.equal, none], format="csr")
            result = solve(
                np.concatenate([np.zeros(self.n_columns), np.ones(n)]),
                wider,
                equal,
                np.concatenate([scaled.lower, np.zeros(n)]),
                np.concatenate([upper, np.full(n, np.inf)]),
            )
            if result is not None and result.status == 0:
                missed, _ = scaled.dual(np.zeros(self.n_columns), -result.ineqlin.marginals, self.program)
                if missed > 0:
                    return Shares(Outcome.INFEASIBLE, np.inf, reduced, shares)
            result = None
        if result is None or result.status != 0:
            return Shares(Outcome.STOPPED, -np.inf, reduced, shares)
        multipliers = -result.ineqlin.marginals if len(self.rows) else np.zeros(0)
        bound, costs = scaled.dual(scaled.cost, multipliers, self.program)
        reduced[open_] = costs / scaled.unit
        shares[fixed], shares[open_] = 1.0, result.x[: len(open_)]
        bound = bound / scaled.unit + scaled.constant - self.cost.rounding[0]
        return Shares(Outcome.OPTIMAL, bound, reduced, shares)

    def _settled(self) -> Solution | None:
        """The solution, if no decision is open or a row without variables is violated; otherwise None."""
        rows = self.rows
        violated = rows.constant > rows.rounding
        violated[rows.row[rows.coefficient != 0]] = False
        if self.impossible or violated.any():
            return Solution(Outcome.INFEASIBLE, None, np.inf)
        if self.n_columns == 0:
            least = self.cost.constant[0] - self.cost.rounding[0]
            return Solution(Outcome.OPTIMAL, self._selection(np.zeros(0)), float(least))
        return None

    def _selection(self, shares: NDArray[np.float64]) -> NDArray[np.int64]:
        flat = np.full(self.space.n_options, -1.0)
        flat[self.program.open] = shares[: len(self.program.open)]
        flat[self.program.fixed] = 1.0
        return self.space.layout.argmax(flat)

    def _scaled(self, dropped: float = DROPPED) -> _Scaled:
        """The program as arrays, scaled; without coefficients below DROPPED, or `dropped` where a variable is whole."""
        program, rows = self.program, self.rows
        n, cost, constant = len(program.open), np.zeros(self.n_columns), float(self.cost.constant[0])
        np.add.at(cost, self.cost.column, self.cost.coefficient)
        if n:
            # A large number common to all options of a decision would cost the solver precision; it is subtracted.
            least = np.minimum.reduceat(cost[:n], program.first)
            cost[:n] -= least[program.row]
            constant += float(least.sum())
        unit = float(_powers(np.abs(cost).max(initial=0.0)))
        shape = (len(program.first), self.n_columns)
        equal = sparse.csr_array((np.ones(n), (program.row, np.arange(n))), shape=shape)
        matrix = rows.matrix(self.n_columns)
        row = np.repeat(np.arange(len(rows)), np.diff(matrix.indptr))
        largest = np.zeros(len(rows))
        np.maximum.at(largest, row, np.abs(matrix.data))
        factors = _powers(largest)
        matrix.data *= factors[row]
        rounding, limits = factors * rows.rounding, factors * -rows.constant
        upper = np.concatenate([np.ones(n), program.reach])
        whole = np.concatenate([np.ones(n, dtype=bool), program.reach == 1])
        small = np.abs(matrix.data) < np.where(whole, dropped, DROPPED)[matrix.indices]
        if small.any():
            # Removing a positive coefficient only loosens the row.
            below = small * np.maximum(np.negative(matrix.data), 0.0)
            rounding += sparse.csr_array((below, matrix.indices, matrix.indptr), shape=matrix.shape) @ upper
            matrix.data[small] = 0.0
        matrix.eliminate_zeros()
        limits = np.where(rounding > NEGLIGIBLE, limits + rounding, limits)
        return _Scaled(cost * unit, unit, constant, equal, matrix, limits, rounding, np.zeros(len(upper)), upper, whole)

    def _exclude(self, selection: NDArray[np.int64]) -> None:
        """Add a row that only this selection violates."""
        flat = self.space.layout.flat(selection)
        program, n_open = self.program, len(self.program.first)
        taken = program.chosen(program.open[np.isin(program.open, flat)])
        if len(taken) == n_open and np.isin(program.fixed, flat).all():
            program.at_most(taken.sum(), n_open - 1.0)


@dataclass(frozen=True, eq=False)
class _Scaled:
    """A program as arrays: scaled costs, one option per decision, rows, limits, their rounding, the columns."""

    cost: NDArray[np.float64]
    unit: float
    constant: float
    equal: sparse.csr_array
    matrix: sparse.csr_array
    limits: NDArray[np.float64]
    rounding: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    whole: NDArray[np.bool_]

    @property
    def smallest(self) -> float:
        """The smallest number in rows and costs, except for numbers that may be rounding errors of 0."""
        limits = self.limits[np.diff(self.matrix.indptr) > 0]  # the solver ignores rows without coefficients
        numbers = np.abs(np.concatenate([self.matrix.data, limits, self.cost]))
        return float(numbers.min(initial=np.inf, where=numbers >= DROPPED))

    def dual(
        self, cost: NDArray[np.float64], multipliers: NDArray[np.float64], program: Program
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


def _ranged(expression: Expression, lower: NDArray[np.float64], share: NDArray[np.float64]) -> Expression:
    """The expression with variables that start at `lower` and are scaled by a share of their former range."""
    shifts = expression.coefficient * lower[expression.column]
    constant = expression.constant + np.bincount(expression.row, shifts, minlength=len(expression))
    return replace(expression, coefficient=expression.coefficient * share[expression.column], constant=constant)


def _outcome(status: int) -> Outcome:
    """The outcome for scipy's status number."""
    return {0: Outcome.OPTIMAL, 2: Outcome.INFEASIBLE}.get(status, Outcome.STOPPED)


def _powers(largest: NDArray[np.float64]) -> NDArray[np.float64]:
    """The powers of two that bring largest numbers to between half of LARGEST and LARGEST; 1 for zero."""
    return np.where(largest > 0, 2.0 ** np.minimum(np.log2(LARGEST) - np.frexp(largest)[1], 1000.0), 1.0)
