r"""Lagrangian relaxation: a bound, multipliers and a good selection if objective and constraints are sums.

With one multiplier :math:`\lambda_j \ge 0` for each constraint, the decisions separate:

.. math:: L(\lambda) = \sum_d \min_o \Bigl(c_o + \sum_j \lambda_j A_{jo}\Bigr) - \lambda^\top b,

For any multipliers, L is a lower bound on the objective of feasible selections. The greatest L is the optimum of the
linear relaxation (Geoffrion, 1974). One evaluation of L is one pass over the tables, in blocks, so the method scales to
millions of decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from cggd.budget import Budget
from cggd.checks import as_number
from cggd.problem import Problem
from cggd.program.repair import repair as repaired
from cggd.program.sum_tables import Point, Tables

# The dual is solved on a random sample of SAMPLE decisions, then on samples GROWTH times as large each, and finally on
# all decisions. Multipliers of a sample of s decisions have an error of about 1 / sqrt(s).
SAMPLE = 4096
GROWTH = 16

# Each step moves to the nearest multipliers at which the cuts allow an increase by this share of the gap. Of 0.2 to
# 0.7, 0.3 took the fewest passes on MMKP I07 (41) and on random knapsacks of 3 to 100 constraints (9 to 84).
LEVEL = 0.3

# Largest number of passes over the tables. The largest in those measurements is 119.
MOST_PASSES = 1000

# The residual of a least-distance problem is 1 / (1 + distance^2). Below NOTHING_LEFT, it counts as infeasible. The
# unit of distance is the length of the previous step, at least SMALLEST_RADIUS.
NOTHING_LEFT = 1e-10
SMALLEST_RADIUS = 1e-12

# Of at least LARGE decisions, a sample of SCREENED is solved again after each pass over all of them, with limits that
# are corrected by what the pass found. Each of these ROUNDS leaves about a tenth of the violation before. The
# sample is solved to a relative gap of EXACTLY, at which few of its decisions are undecided. Limits are tightened by a
# share of SPARE of the violation, or of LATE after the time limit, so that the minimiser is soon feasible. If its gap
# is too large, the minimisers of the best REPAIRED points are repaired before the dual is solved on all decisions.
LARGE = 250_000
SCREENED = 65_536
ROUNDS = 8
EXACTLY = 1e-7
SPARE, LATE = 0.1, 1.0
REPAIRED = 2

# Repairs end at a gap of this share of the requested one.
NEAR = 0.9

# Number of the best multipliers whose minimisers are repaired.
TRIED = 8


@dataclass(frozen=True, eq=False)
class Relaxation:
    """Result of the Lagrangian relaxation of a problem.

    Attributes
    ----------
    bound : float
        No selection that satisfies the constraints has a better objective. It is a lower bound if the problem
        minimises, and an upper bound if it maximises. Rounding errors are accounted for.
    multipliers : ndarray of shape (n_constraints,)
        Price of one unit of each constraint's metric in units of the objective, at least 0. It is 0 for a constraint
        that cannot bind.
    reduced : callable
        Computes the reduced costs of all options, shape (n_options,). They are 0 for the best option of each decision,
        infinite for forbidden options, and at least 0 for all others. A feasible selection with option o is worse than
        `bound` by at least ``reduced()[o]``. Options whose reduced cost exceeds the gap between `bound` and a known
        selection may therefore be left out.
    selection : ndarray of int, shape (n_decisions,), or None
        The best selection found that satisfies every constraint.
    value : float or None
        Its objective.
    infeasible : bool
        Whether it is proved that no selection satisfies the constraints.
    passes : float
        Number of passes over all tables; a pass over a sample counts in proportion.
    """

    bound: float
    multipliers: NDArray[np.float64]
    reduced: Callable[[], NDArray[np.float64]]
    selection: NDArray[np.int64] | None
    value: float | None
    infeasible: bool
    passes: float


def relax(
    problem: Problem,
    budget: Budget | None = None,
    *,
    tolerance: float = 1e-6,
    repair: bool = True,
    seed: int = 0,
) -> Relaxation | None:
    r"""Solve the Lagrangian dual of a problem, and repair its minimisers to feasible selections.

    Parameters
    ----------
    problem : Problem
    budget : Budget, optional
        Up to 60 % of the time is for the bound, and the rest for selections. When the budget is over, the best bound
        and selection so far are returned.
    tolerance : float
        Relative gap to which the dual is solved.
    repair : bool
        Whether to look for a selection that satisfies the constraints.
    seed : int
        Seed of the samples on which the dual is solved first.

    Returns
    -------
    Relaxation or None
        None if the objective or a constraint is not a sum of one number per option (`cggd.Metric.sum_table`).

    Notes
    -----
    The dual is concave and piecewise linear. It is solved by a level bundle method: each step moves to the nearest
    point at which all cuts reach a target value (Lemaréchal, Nemirovskii & Nesterov, 1995; the target is updated as by
    Brännlund, Kiwiel & Lindberg, 1995). That point is the solution of a least-distance problem, which non-negative
    least squares solve (Lawson & Hanson, 1974). They also prove when no point reaches the target.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> space = ChoiceSpace.from_sizes([2, 2, 2])
    >>> value = Additive(space, [0.0, 6.0, 0.0, 5.0, 0.0, 3.0])
    >>> weight = Additive(space, [0.0, 3.0, 0.0, 3.0, 0.0, 3.0])
    >>> relaxation = relax(Problem(value, [weight <= 7.0], "maximize"))
    >>> round(relaxation.bound, 3), relaxation.value, relaxation.selection
    (12.0, 11.0, array([1, 1, 0]))
    """
    if as_number(tolerance, "tolerance") <= 0:
        raise ValueError(f"tolerance must be greater than 0, got {tolerance}")
    tables = Tables.of(problem, problem.allowed)
    if tables is None:
        return None
    budget = budget or Budget()
    rng, near = np.random.default_rng(seed), max(tolerance, NEAR * budget.gap)
    dual, selection = _screened(tables, near, budget.over, rng)
    found = _Found(problem, near)
    if repair and dual.points:
        found.take(selection)
        if not found.close(dual):
            found.take(repaired(problem, tables, dual.points[:REPAIRED], near, budget.over)[0])
    if not found.close(dual) and not (found.selection is not None and budget.over()):
        dual = _solve(tables, tolerance, budget.part(share=0.6).over, rng, dual)
        if repair and not dual.infeasible:
            found.take(repaired(problem, tables, dual.points, near, budget.over)[0])
    best = dual.points[0]
    return Relaxation(
        bound=float(problem.sign * (best.value - tables.rounding(best.multipliers))),
        multipliers=best.multipliers,
        reduced=lambda: tables.reduced(best.multipliers),
        selection=found.selection,
        value=found.value,
        infeasible=dual.infeasible,
        passes=dual.passes,
    )


class _Found:
    """The best feasible selection so far; `near` is the relative gap to the dual at which it is good enough."""

    def __init__(self, problem: Problem, near: float) -> None:
        self.problem, self.near = problem, near
        self.selection: NDArray[np.int64] | None = None
        self.cost = np.inf

    @property
    def value(self) -> float | None:
        """Its objective."""
        return None if self.selection is None else self.problem.sign * self.cost

    def take(self, selection: NDArray[np.int64] | None) -> None:
        """Keep a selection if it is feasible and better."""
        if selection is None or not self.problem.satisfied(selection):
            return
        if (cost := self.problem.cost(selection)) < self.cost:
            self.selection, self.cost = selection, cost

    def close(self, dual: _Dual) -> bool:
        """Whether the relative gap is at most `near`."""
        return self.selection is not None and self.cost - dual.points[0].value <= self.near * abs(self.cost)


@dataclass(frozen=True, eq=False)
class _Dual:
    """The best points in order, whether infeasibility is proved, and the number of passes."""

    points: Sequence[Point]
    infeasible: bool
    passes: float


def _solve(tables: Tables, tolerance: float, over: Callable[[], bool], rng: np.random.Generator, known: _Dual) -> _Dual:
    """Solve the dual on all decisions, from the best known multipliers or else from those of growing samples."""
    start, passes = known.points[0].multipliers if known.points else None, known.passes
    if start is None:
        start, passes = _sampled(tables, tolerance, over, rng)
    whole = _climb(tables, start, tolerance, over)
    points = sorted([*whole.points, *known.points], key=lambda point: -point.value)
    return replace(whole, points=points[:TRIED], passes=passes + whole.passes)


def _sampled(
    tables: Tables, tolerance: float, over: Callable[[], bool], rng: np.random.Generator
) -> tuple[NDArray[np.float64], float]:
    """Multipliers of growing samples, each from the previous ones, and the number of passes."""
    n = tables.layout.n_decisions
    start, passes, size = np.zeros(len(tables.limits)), 0.0, SAMPLE
    while GROWTH * size <= n and not over():
        part = _climb(tables.sample(size, rng), start, max(tolerance, 1.0 / size), over)
        passes += part.passes * size / n
        if not part.infeasible:
            start = part.points[0].multipliers
        size *= GROWTH
    return start, passes


def _screened(
    tables: Tables, near: float, over: Callable[[], bool], rng: np.random.Generator
) -> tuple[_Dual, NDArray[np.int64] | None]:
    """Points of the dual and the best feasible minimiser, for many decisions, with few passes over all tables.

    The cost of a feasible minimiser minus the dual's value is the unused part of each limit times its multiplier.
    """
    n = tables.layout.n_decisions
    if n < LARGE:
        return _Dual([], False, 0.0), None
    prices, passes = _sampled(tables, near, over, rng)
    sample, share = tables.sample(SCREENED, rng), SCREENED / n
    points: list[Point] = []
    finite = np.isfinite(tables.limits)
    best, least, limits = None, np.inf, sample.limits
    for _ in range(ROUNDS):
        part = _climb(replace(sample, limits=limits), prices, EXACTLY, lambda: False)
        passes += part.passes * share
        feasible = (point for point in part.points if (point.slope <= 0).all())
        before, prices = prices, next(feasible, part.points[0]).multipliers
        if points and np.array_equal(before, prices):
            break
        point, selection = tables.minimise(prices)
        points.append(point)
        slope = np.where(finite, point.slope + tables.noise[1:], 0.0)
        cost = point.value - float(prices @ np.minimum(slope, 0.0))
        if (slope <= 0).all() and cost < least:
            best, least = selection, cost
        bound = max(point.value for point in points)
        late = over()  # go on after the time limit until a minimiser is feasible
        if part.infeasible or (best is not None and (late or least - bound <= near * abs(least))):
            break
        # New limits, such that at these prices the sample violates them in proportion to all decisions.
        violated = slope + (LATE if late else SPARE) * np.abs(slope)
        now = np.where(finite, sample.minimise(prices)[0].slope, 0.0)
        limits = sample.limits + now - share * violated
    points.sort(key=lambda point: -point.value)
    return _Dual(points[:TRIED], False, passes + len(points)), best


def _climb(tables: Tables, start: NDArray[np.float64], tolerance: float, over: Callable[[], bool]) -> _Dual:
    """Maximise the dual from given multipliers until it is solved to `tolerance`, or until `over` returns true.

    All quantities are scaled by the spread of the options' values, so the units of metrics do not matter.
    """
    extent, varies = tables.extent, tables.spread > tables.noise
    binding = np.flatnonzero((extent.high[1:] > tables.limits) & varies[1:])
    unit = tables.spread[0] if varies[0] else max(extent.size[0], 1.0)
    spread = tables.spread[1:][binding]
    scale, smallest = unit / spread, unit / tables.layout.n_decisions
    highest = extent.high[0] + tables.constant
    infeasible = bool((extent.low[1:] - tables.noise[1:] > tables.limits).any())
    center = start[binding] / scale
    points: list[Point] = []
    places: list[NDArray[np.float64]] = []
    bound = highest + smallest  # a positive gap even if the objective is constant

    def look(y: NDArray[np.float64]) -> Point:
        multipliers = np.zeros(len(start))
        multipliers[binding] = y * scale
        points.append(tables.minimise(multipliers)[0])
        places.append(y)
        return points[-1]

    best, radius = look(center), 1.0
    while len(binding) and not infeasible and len(points) < MOST_PASSES and not over():
        gap = bound - best.value
        if gap <= max(tolerance * max(abs(best.value), smallest), tables.rounding(best.multipliers)):
            break
        cuts = np.array([point.slope[binding] for point in points]) / spread
        values = np.array([point.value - best.value for point in points]) / unit
        missing = LEVEL * gap / unit - values - np.einsum("ij,ij->i", cuts, center - np.array(places))
        matrix, heights = np.concatenate([cuts, np.eye(len(center))]), np.concatenate([missing, -center])
        try:
            step, weights = nearest(matrix, heights / radius)
        except RuntimeError:  # the iteration limit of nnls; the bound so far is valid
            break
        if step is None:
            # The weighted sum of the cuts gives an upper bound on the dual.
            bound = best.value + LEVEL * gap - unit * radius / weights[: len(cuts)].sum()
            continue
        y = np.maximum(center + radius * step, 0.0)
        point = look(y)
        radius = max(float(np.linalg.norm(y - center)), SMALLEST_RADIUS)
        if point.value > best.value:
            best, center = point, y
        infeasible = best.value - tables.rounding(best.multipliers) > highest + tables.noise[0]
    points.sort(key=lambda point: -point.value)
    return _Dual(points[:TRIED], infeasible, float(len(points)))


def nearest(
    matrix: NDArray[np.float64], heights: NDArray[np.float64]
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64]]:
    """The shortest x with ``matrix @ x >= heights``, or None if there is none, and weights of the rows.

    If there is none, the weighted sum of the rows is ``0 @ x >= 1``. This is least-distance programming by
    non-negative least squares (Lawson & Hanson, 1974, ch. 23).

    Examples
    --------
    >>> nearest(np.array([[1.0, 1.0], [1.0, 0.0]]), np.array([2.0, 0.0]))[0].round(9)
    array([1., 1.])
    >>> nearest(np.array([[1.0], [-1.0]]), np.array([1.0, 1.0]))
    (None, array([0.5, 0.5]))
    """
    n = matrix.shape[1]
    rows, wanted = np.concatenate([matrix.T, heights[None]]), np.append(np.zeros(n), 1.0)
    weights, _ = nnls(rows, wanted, maxiter=100 * len(heights))
    rest = rows @ weights - wanted
    if -rest[n] < NOTHING_LEFT:
        return None, weights
    return -rest[:n] / rest[n], weights
