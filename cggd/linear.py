"""Linear forms: problems as mixed-integer programs, for the exact solver (HiGHS, through scipy).

Additive metrics are linear in one 0/1 variable per option. A maximum of linear parts (`Peak`, `LongestPath`,
`Maximum`) is, where it is only bounded from above or minimised, one more variable that no part exceeds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from cggd.constraints import Constraint
from cggd.metrics import Additive, Combination, LongestPath, Maximum, Metric, Peak
from cggd.space import ChoiceSpace

# How often a running solver is asked whether it is still wanted; a quick one is not kept waiting by it.
POLL_SECONDS = 0.05


class NotLinearError(Exception):
    """A metric, or the sense in which it is bounded, has no linear form."""


class Outcome(Enum):
    """How the exact solver ended."""

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
    ) -> None:
        self.space = space
        self.n_columns = space.n_options
        self.rows: list[_Affine] = []  # each at most 0
        self.upper = np.ones(space.n_options) if allowed is None else allowed.astype(float)
        self.cost = _NOTHING if objective is None else self._expression(objective, sign)
        for c in constraints:
            if np.isfinite(c.limit):
                expression = self._expression(c.metric, c.sign)
                self.rows.append(expression.plus(_constant(-c.limit)))

    def solve(
        self, *, relaxed: bool = False, time_limit: float | None = None, stop: Callable[[], bool] = lambda: False
    ) -> Solution:
        """Solve it, until `time_limit` seconds have passed or `stop` says so; a Ctrl-C gets through.

        With `relaxed`, with shares of options instead of options: quick, and infeasible only if the program is.
        """
        n, n_options = self.n_columns, self.space.n_options
        cost = np.zeros(n)
        np.add.at(cost, self.cost.columns, self.cost.coefficients)
        # The solver's tolerances and gaps are absolute; numbers of the order of 1 make them relative.
        unit = float(np.abs(cost).max(initial=0.0)) or 1.0
        lower, upper = np.full(n, -np.inf), np.full(n, np.inf)
        lower[:n_options], upper[:n_options] = 0.0, self.upper
        one_each = sparse.csr_array(
            (np.ones(n_options), (self.space.layout.owner, np.arange(n_options))), shape=(self.space.n_decisions, n)
        )
        linear = [LinearConstraint(one_each, 1, 1)]
        if self.rows:
            matrix, limits = self._matrix()
            linear.append(cast(Any, LinearConstraint)(matrix, -np.inf, limits))
        options: dict[str, float] = {"mip_rel_gap": 0.0}
        if time_limit is not None:
            options["time_limit"] = max(time_limit, 1e-3)
        arguments = {
            "integrality": np.zeros(n) if relaxed else (np.arange(n) < n_options).astype(int),
            "bounds": cast(Any, Bounds)(lower, upper),
            "constraints": linear,
            "options": options,
        }
        result = _aside(lambda: milp(cost / unit, **arguments), stop)
        if result is None:
            return Solution(Outcome.STOPPED, None, -np.inf)
        found = None if result.x is None else self.space.layout.argmax(result.x[:n_options])
        bound: float | None = getattr(result, "mip_dual_bound", None)
        outcome = {0: Outcome.OPTIMAL, 2: Outcome.INFEASIBLE}.get(result.status, Outcome.STOPPED)
        bound = unit * bound if bound is not None and np.isfinite(bound) else -np.inf
        return Solution(outcome, found, bound + self.cost.constant)

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
            values = np.asarray(metric.values, dtype=float)
            return _Affine(np.arange(len(values)), sign * values, sign * metric.constant)
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
            usage: Any = metric.usage
            columns, data = usage.indices.astype(np.int64), usage.data
            cuts = [slice(a, b) for a, b in pairwise(usage.indptr.tolist())]
            return [_Affine(columns[cut], data[cut], 0.0) for cut in cuts]
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
                own = np.arange(int(self.space.offsets[decision]), int(self.space.offsets[decision + 1]))
                row = row.plus(_Affine(own, np.asarray(path.values[own], dtype=float), 0.0))
            self.rows.append(row if u is None else row.plus(ends[u]))
        return [ends[v] for v in last]

    def _column(self, size: float) -> _Affine:
        """A new variable, measured in units of `size`, so that coefficients of a row stay comparable."""
        self.n_columns += 1
        return _Affine(np.array([self.n_columns - 1]), np.array([size or 1.0]), 0.0)


def _aside(work: Callable[[], Any], stop: Callable[[], bool]) -> Any:
    """Result of work in another thread, or None where it was not waited for: compiled code hears no Ctrl-C."""
    results: list[Any] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive() and not stop():
        thread.join(POLL_SECONDS)
    if failures:
        raise failures[0]
    return results[0] if results else None


def _constant(value: float) -> _Affine:
    return _Affine(np.zeros(0, dtype=np.int64), np.zeros(0), value)


_NOTHING = _constant(0.0)
