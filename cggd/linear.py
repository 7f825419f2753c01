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
from cggd.metrics import Additive, Combination, LongestPath, Maximum, Metric, Peak
from cggd.space import ChoiceSpace

# How often a running solver is asked whether it is still wanted; a quick one is not kept waiting by it.
POLL_SECONDS = 0.05


# HiGHS calls a selection optimal once it is within this of its bound, whatever the size of the costs; and a dual
# solution feasible within ROUNDING. Costs are scaled to a largest one of LARGEST, so that both are small shares of it.
GAP = 1e-6
ROUNDING = 1e-7
LARGEST = 1e3


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
    """What the exact solver found: a selection where it has one, and a number that no objective is below."""

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
    """A linear function of some columns, and a constant."""

    columns: NDArray[np.int64]
    coefficients: NDArray[np.float64]
    constant: float

    def scaled(self, factor: float) -> _Affine:
        return _Affine(self.columns, factor * self.coefficients, factor * self.constant)

    @property
    def size(self) -> float:
        """The largest number in it."""
        return max(float(np.abs(self.coefficients).max(initial=0.0)), abs(self.constant))

    def plus(self, other: _Affine) -> _Affine:
        return _Affine(
            np.concatenate([self.columns, other.columns]),
            np.concatenate([self.coefficients, other.coefficients]),
            self.constant + other.constant,
        )


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
    cutoff : float, optional
        What ``sign * objective`` must not exceed, within the solver's tolerance: a millionth of the largest difference
        that an option makes. That of a known selection prunes branches without a better one early; it is no means to
        prove that there is none, as smaller differences are lost.

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
        cutoff: float | None = None,
    ) -> None:
        layout = space.layout
        kept = np.ones(space.n_options, dtype=bool) if allowed is None else allowed
        several = layout.spread(layout.reduce(np.add, kept.astype(np.int64)) > 1)
        self.space = space
        self.open, self.fixed = np.flatnonzero(kept & several), np.flatnonzero(kept & ~several)
        self.n_columns = len(self.open)
        self.rows: list[_Affine] = []  # each at most 0
        self.cost = _NOTHING if objective is None else self._expression(objective, sign)
        for c in constraints:
            if np.isfinite(c.limit):
                expression = self._expression(c.metric, c.sign)
                self.rows.append(expression.plus(_constant(-c.limit)))
        if cutoff is not None:
            cost, constant = self._costs()
            self.rows.append(_Affine(np.arange(self.n_columns), cost, constant - cutoff))

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
        cost, unit, constant, equal, matrix, limits = self._arrays()
        columns = np.arange(self.n_columns)
        if rng is not None:
            columns = rng.permutation(columns)
            equal = cast(Any, equal)[rng.permutation(cast(Any, equal).shape[0])]
        options: dict[str, float] = {"mip_rel_gap": 0.0}
        if time_limit is not None:
            options["time_limit"] = max(time_limit, 1e-3)
        if node_limit is not None:
            options["node_limit"] = node_limit
        linear = [LinearConstraint(cast(Any, equal)[:, columns], 1, 1)]
        if matrix is not None:
            linear.append(cast(Any, LinearConstraint)(matrix[:, columns], -np.inf, limits))
        lower = np.where(columns < len(self.open), 0.0, -np.inf)
        upper = np.where(columns < len(self.open), 1.0, np.inf)
        arguments = {
            "integrality": (columns < len(self.open)).astype(int),
            "bounds": cast(Any, Bounds)(lower, upper),
            "constraints": linear,
            "options": options,
        }
        result = aside(lambda: milp(cost[columns] / unit, **arguments), stop)
        if result is None:
            return Solution(Outcome.STOPPED, None, -np.inf)
        found = None
        if result.x is not None:
            shares = np.empty(self.n_columns)
            shares[columns] = result.x
            found = self._selection(shares)
        outcome = _outcome(result.status)
        bound: float | None = getattr(result, "mip_dual_bound", None)
        if bound is None and outcome is Outcome.OPTIMAL:
            bound = result.fun  # no decision was open, so there was nothing to branch on
        bound = unit * bound if bound is not None and np.isfinite(bound) else -np.inf
        return Solution(outcome, found, bound + constant)

    def shares(self, *, time_limit: float | None = None, stop: Callable[[], bool] = lambda: False) -> Shares:
        """Solve it with shares of options instead of options: quick, and infeasible only if the program is."""
        reduced = np.full(self.space.n_options, np.inf)
        reduced[self.open] = reduced[self.fixed] = 0.0
        shares = np.zeros(self.space.n_options)
        if (settled := self._settled()) is not None:
            if settled.selection is not None:
                shares[self.fixed] = 1.0
            return Shares(settled.outcome, settled.bound, reduced, shares)
        cost, unit, constant, equal, matrix, limits = self._arrays()
        bounds = np.full((self.n_columns, 2), np.inf)
        bounds[:, 0] = np.where(np.arange(self.n_columns) < len(self.open), 0.0, -np.inf)
        options = {} if time_limit is None else {"time_limit": max(time_limit, 1e-3)}
        given: dict[str, Any] = {
            "A_eq": equal,
            "b_eq": np.ones(cast(Any, equal).shape[0]),
            "bounds": bounds,
            "options": options,
        }
        if matrix is not None:
            given |= {"A_ub": matrix, "b_ub": limits}
        result = aside(lambda: linprog(cost / unit, method="highs", **given), stop)
        if result is None or result.status != 0:
            return Shares(Outcome.STOPPED if result is None else _outcome(result.status), -np.inf, reduced, shares)
        # Rounding may leave a reduced cost a little below 0, which none is.
        reduced[self.open] = np.maximum(unit * result.lower.marginals[: len(self.open)], 0.0)
        shares[self.fixed], shares[self.open] = 1.0, result.x[: len(self.open)]
        bound = unit * result.fun - ROUNDING * unit * self.space.n_decisions + constant
        return Shares(Outcome.OPTIMAL, bound, reduced, shares)

    def _settled(self) -> Solution | None:
        """The answer where nothing is left to choose, or a row without variables cannot hold whatever is chosen.

        To a solver such a row is a number that may lie within its tolerance.
        """
        if any(row.constant > 0 and not row.coefficients.any() for row in self.rows):
            return Solution(Outcome.INFEASIBLE, None, np.inf)
        if self.n_columns == 0:
            return Solution(Outcome.OPTIMAL, self._selection(np.zeros(0)), self.cost.constant)
        return None

    def _selection(self, shares: NDArray[np.float64]) -> NDArray[np.int64]:
        flat = np.full(self.space.n_options, -1.0)
        flat[self.open] = shares[: len(self.open)]
        flat[self.fixed] = 1.0
        return self.space.layout.argmax(flat)

    @property
    def resolution(self) -> float:
        """Costs that differ by less are one to the solver, whose gap is an absolute number."""
        return 2.0 * GAP * self._unit(self._costs()[0])

    @staticmethod
    def _unit(cost: NDArray[np.float64]) -> float:
        return (float(np.abs(cost).max(initial=0.0)) or 1.0) / LARGEST

    def _costs(self) -> tuple[NDArray[np.float64], float]:
        """What each variable costs, and the constant.

        The least cost of each decision's options is part of the constant: large numbers that they have in common would
        take up the solver's precision.
        """
        cost = np.zeros(self.n_columns)
        np.add.at(cost, self.cost.columns, self.cost.coefficients)
        _, first, row = np.unique(self.space.layout.owner[self.open], return_index=True, return_inverse=True)
        if len(first) == 0:
            return cost, self.cost.constant
        least = np.minimum.reduceat(cost[: len(self.open)], first)
        cost[: len(self.open)] -= least[row]
        return cost, self.cost.constant + float(least.sum())

    def _arrays(self) -> tuple[NDArray, float, float, sparse.csr_array, sparse.csr_array | None, NDArray]:
        """Costs, their unit and constant, the rows that say one option each, and the others with their limits."""
        cost, constant = self._costs()
        unit = self._unit(cost)
        n = len(self.open)
        _, row = np.unique(self.space.layout.owner[self.open], return_inverse=True)
        equal = sparse.csr_array(
            (np.ones(n), (row, np.arange(n))), shape=(int(row.max(initial=-1)) + 1, self.n_columns)
        )
        matrix, limits = self._matrix() if self.rows else (None, np.zeros(0))
        return cost, unit, constant, equal, matrix, limits

    def _matrix(self) -> tuple[sparse.csr_array, NDArray[np.float64]]:
        """Rows scaled to a largest coefficient of 1, so that the solver's tolerance is a relative one."""
        sizes = [len(row.columns) for row in self.rows]
        index = np.repeat(np.arange(len(self.rows)), sizes)
        columns = np.concatenate([row.columns for row in self.rows])
        coefficients = np.concatenate([row.coefficients for row in self.rows])
        matrix = sparse.csr_array((coefficients, (index, columns)), shape=(len(self.rows), self.n_columns))
        largest = abs(matrix).max(axis=1).toarray().ravel()
        largest[largest == 0] = 1.0
        limits = np.array([-row.constant for row in self.rows])
        return sparse.csr_array(sparse.diags_array(1.0 / largest) @ matrix), limits / largest

    # -- expressions ------------------------------------------------------------------------------------------------

    def _expression(self, metric: Metric, sign: float) -> _Affine:
        """``sign * metric``, or a variable that is no less than it and is pressed down on it."""
        if type(metric) is Additive:
            total = metric.values[self.fixed].sum(dtype=float) + metric.constant
            return _Affine(np.arange(len(self.open)), sign * metric.values[self.open].astype(float), sign * total)
        if type(metric) is Combination:
            total = _constant(sign * metric.constant)
            for weight, term in metric.terms:
                if weight:
                    total = total.plus(self._expression(term, sign * weight))
            return total
        parts = self._parts(metric)
        if sign < 0:
            raise NotLinearError(f"{metric.name!r} is a maximum, which is linear only where it is bounded from above")
        top = self._column(max(part.size for part in parts))
        self.rows += [part.plus(top.scaled(-1.0)) for part in parts]
        return top.scaled(sign)

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
            return [_Affine(columns[cut], data[cut], constant) for cut, constant in zip(cuts, fixed, strict=True)]
        if type(metric) is LongestPath:
            return self._finishes(metric)
        raise NotLinearError(f"{metric.name!r} is a {type(metric).__name__}, which has no linear form")

    def _finishes(self, path: LongestPath) -> list[_Affine]:
        """When each vertex without a successor ends: no earlier than it can, its predecessors ending before it."""
        durations, edges, last = path.vertices()
        longest = max(float(np.max(path.values)), *(fixed for _, fixed in durations))
        ends = [self._column(longest) for _ in durations]
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
        fixed = path.values[self.fixed[a:b]].sum(dtype=float)
        return _Affine(columns, np.asarray(path.values[self.open[columns]], dtype=float), float(fixed))

    def _column(self, size: float) -> _Affine:
        """A new variable, measured in units of `size`, so that coefficients of a row stay comparable."""
        self.n_columns += 1
        return _Affine(np.array([self.n_columns - 1]), np.array([size or 1.0]), 0.0)


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
    return _Affine(np.zeros(0, dtype=np.int64), np.zeros(0), value)


_NOTHING = _constant(0.0)
