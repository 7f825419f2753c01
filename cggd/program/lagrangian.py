r"""Lagrangian relaxation: a bound, multipliers and a good selection where objective and constraints are sums.

With one multiplier :math:`\lambda_j \ge 0` for each constraint the decisions fall apart,

.. math:: L(\lambda) = \sum_d \min_o \Bigl(c_o + \sum_j \lambda_j A_{jo}\Bigr) - \lambda^\top b,

and no selection that satisfies the constraints has an objective below L, whatever the multipliers are. The best L is
the value of the linear relaxation (Geoffrion, 1974). One evaluation is one walk over the tables, in blocks, so spaces
of millions of decisions cost what reading them costs.
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

# The dual is first solved on a random share of the decisions, this many at the least, and then on GROWTH times as many
# as long as the whole is larger still. Multipliers of a sample of s decisions are off by about 1 / sqrt(s).
SAMPLE = 4096
GROWTH = 16

# A step goes to the nearest multipliers whose cuts promise this share of what is open. Of 0.2 to 0.7, 0.3 took the
# fewest walks on MMKP I07 and on random knapsacks of 3 to 100 constraints (41 and 9 to 84).
LEVEL = 0.3

# The most seen in those measurements is 119 walks.
MOST_PASSES = 1000

# What a least-distance problem leaves is 1 / (1 + distance^2): below this the distance is none. Distances are measured
# in lengths of the step before, or this least one.
NOTHING_LEFT = 1e-10
SMALLEST_RADIUS = 1e-12

# Multipliers, the best ones, whose selections are repaired in turn.
TRIED = 8


@dataclass(frozen=True, eq=False)
class Relaxation:
    """What the Lagrangian relaxation of a problem says.

    Attributes
    ----------
    bound : float
        No selection that satisfies the constraints has a better objective: below it where the problem minimises, above
        it where it maximises. What rounding may have added is taken off.
    multipliers : ndarray of shape (n_constraints,)
        What one more unit of each constraint's metric costs, in units of the objective; 0 or more. 0 for a constraint
        that cannot bind.
    reduced : callable
        Reduced costs of all options, shape (n_options,): 0 at the best option of each decision, above it elsewhere,
        infinite where an option is forbidden. No selection with option o is better than the bound by less than
        ``reduced()[o]``, so options whose reduced cost exceeds what is open between `bound` and a known selection may
        be left out.
    selection : ndarray of int, shape (n_decisions,), or None
        The best selection found that satisfies every constraint.
    value : float or None
        Its objective.
    infeasible : bool
        Whether it is proved that no selection satisfies the constraints.
    passes : float
        Walks over all tables that it took, those over samples in proportion.
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
    r"""Solve the Lagrangian dual of a problem, and repair the selections it leads to.

    Parameters
    ----------
    problem : Problem
    budget : Budget, optional
        Three fifths of the time are for the bound, and what is left for selections. When it is over, the best bound and
        selection until then are returned.
    tolerance : float
        The dual is solved to within this share of its value.
    repair : bool
        Whether to look for a selection that satisfies the constraints.
    seed : int
        Of the sample on which the dual is solved first.

    Returns
    -------
    Relaxation or None
        None where the objective or a constraint is no sum of one number per option (`cggd.Metric.sum_table`).

    Notes
    -----
    The dual is concave and piecewise linear. Each step goes to the nearest point at which the cuts known so far
    promise a target value (Lemaréchal, Nemirovskii & Nesterov, 1995, with the target moved as by Brännlund, Kiwiel &
    Lindberg, 1995); finding it is a least-distance problem, solved by non-negative least squares (Lawson & Hanson,
    1974), which also proves when no point reaches the target.

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
    dual = _solve(tables, tolerance, budget.part(share=0.6).over, np.random.default_rng(seed))
    best = dual.points[0]
    selection, value = None, None
    if repair and not dual.infeasible:
        selection, value = repaired(problem, tables, dual.points, tolerance, budget.over)
    return Relaxation(
        bound=float(problem.sign * (best.value - tables.rounding(best.multipliers))),
        multipliers=best.multipliers,
        reduced=lambda: tables.reduced(best.multipliers),
        selection=selection,
        value=value,
        infeasible=dual.infeasible,
        passes=dual.passes,
    )


@dataclass(frozen=True, eq=False)
class _Dual:
    """The best points met, best first, whether they prove that nothing is feasible, and the walks it took."""

    points: Sequence[Point]
    infeasible: bool
    passes: float


def _solve(tables: Tables, tolerance: float, over: Callable[[], bool], rng: np.random.Generator) -> _Dual:
    """Solve the dual on samples that grow, each from where the one before ended, and then on all decisions."""
    n = tables.layout.n_decisions
    start, passes, size = np.zeros(len(tables.limits)), 0.0, SAMPLE
    while GROWTH * size <= n and not over():
        part = _climb(tables.sample(size, rng), start, max(tolerance, 1.0 / size), over)
        passes += part.passes * size / n
        if not part.infeasible:
            start = part.points[0].multipliers
        size *= GROWTH
    whole = _climb(tables, start, tolerance, over)
    return replace(whole, passes=passes + whole.passes)


def _climb(tables: Tables, start: NDArray[np.float64], tolerance: float, over: Callable[[], bool]) -> _Dual:
    """Climb the dual from some multipliers, until it is solved to `tolerance`, or `over` says so.

    Everything is measured in units of what options differ by, so that no unit of a metric matters.
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
    bound = highest + smallest  # of a constant objective, too, something is open

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
        except RuntimeError:  # the solver's own limit; what is known by now holds
            break
        if step is None:
            # The cuts with these weights add up to a constant that the dual cannot exceed.
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
    """The shortest x with ``matrix @ x >= heights``, or None where there is none, and weights of the rows.

    Where there is none, the weighted sum of the rows says ``0 @ x >= 1``. Least distance programming by non-negative
    least squares (Lawson & Hanson, 1974, ch. 23).

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
