"""Linear problems as users bring them, by default and under time limits, beside scipy's `milp` (HiGHS)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from benchmarks.engine.rows import MAXIMISED, MINIMISED, Answer, Row, Size, of_result, taking_turns
from cggd import Additive, ChoiceSpace, Constraint, Peak, Problem, solve

LIMITS = (0.5, 2.0, 10.0)


@dataclass
class Linear:
    """One option of each of several decisions: a sum to optimise, and sums between two bounds.

    Attributes
    ----------
    sizes : list of int
        Options of each decision.
    value : ndarray of shape (n_options,)
    sign : float
        1 to minimise, -1 to maximise.
    rows : list of (coefficients, low, high)
    at_once : ndarray of shape (n_times, n_options), or None
        What each option takes at each time, at most 1 together; cggd gets it as one `Peak`.
    """

    sizes: list[int]
    value: NDArray[np.float64]
    sign: float
    rows: list[tuple[NDArray[np.float64], float, float]] = field(default_factory=list)
    at_once: NDArray[np.float64] | None = None

    def between(self, coefficients: NDArray, low: float = -np.inf, high: float = np.inf) -> None:
        self.rows.append((np.asarray(coefficients, dtype=float), low, high))

    def problem(self) -> Problem:
        """As a user of cggd writes it."""
        space, bounds = ChoiceSpace.from_sizes(self.sizes), list[Constraint]()
        for number, (row, low, high) in enumerate(self.rows):
            metric = Additive(space, row, name=f"row {number}")
            bounds += [metric <= high] if np.isfinite(high) else []
            bounds += [metric >= low] if np.isfinite(low) else []
        if self.at_once is not None:
            bounds.append(Peak(space, None, sparse.csr_array(self.at_once), name="at once") <= 1)
        return Problem(Additive(space, self.value, name="value"), bounds, _sense(self.sign))

    def milp(self) -> Answer:
        """As a user of scipy writes and solves it, with default settings."""
        n, owner = len(self.value), np.repeat(np.arange(len(self.sizes)), self.sizes)
        one = sparse.csr_array((np.ones(n), (owner, np.arange(n))), shape=(len(self.sizes), n))
        constraints = [LinearConstraint(one, 1, 1)]
        if self.rows:
            rows, low, high = zip(*self.rows, strict=True)
            constraints.append(LinearConstraint(sparse.csr_array(np.array(rows)), low, high))
        if self.at_once is not None:
            constraints.append(LinearConstraint(sparse.csr_array(self.at_once), -np.inf, 1))
        found = milp(self.sign * self.value, constraints=constraints, integrality=np.ones(n), bounds=Bounds(0, 1))
        if found.x is None:
            return {"status": "INFEASIBLE" if found.status == 2 else "UNKNOWN"}
        value, bound = self.sign * found.fun, self.sign * found.mip_dual_bound
        return {"value": value, "bound": bound, "status": "OPTIMAL" if found.status == 0 else "FEASIBLE"}

    def check(self, indices: NDArray[np.int64], value: float) -> None:
        """An error unless a selection keeps to every bound and has the value that is said."""
        at = np.cumsum([0, *self.sizes[:-1]]) + indices
        kept = all(low - 1e-6 <= row[at].sum() <= high + 1e-6 for row, low, high in self.rows)
        if self.at_once is not None:
            kept &= bool(self.at_once[:, at].sum(axis=1).max() <= 1)
        if not kept or abs(self.value[at].sum() - value) > 1e-6 * max(1.0, abs(value)):
            raise AssertionError(f"a selection that is said to be feasible with {value} is not")


def _sense(sign: float):
    return "minimize" if sign == MINIMISED else "maximize"


# -- instances --------------------------------------------------------------------------------------------------------


def squad(players: int, seed: int) -> Linear:
    """Take 11 + 4 players by position, few of each club, within a price: one yes or no per player."""
    rng = np.random.default_rng([1, seed])
    position, club = rng.choice(4, players, p=[0.11, 0.34, 0.36, 0.19]), rng.integers(0, players // 15, players)
    price = np.round(rng.lognormal(1.75, 0.35, players), 1)
    points = np.round(np.clip(22 * (price - 3) + rng.normal(30, 28, players), 0, None))

    def taken(numbers: NDArray) -> NDArray:
        return np.stack([np.zeros(players), numbers], axis=1).ravel()

    problem = Linear([2] * players, taken(points), MAXIMISED)
    problem.between(taken(price), high=float(np.round(15.5 * np.median(price), 1)))
    for p, number in enumerate((2, 5, 5, 3)):
        problem.between(taken(position == p), number, number)
    for c in range(players // 15):
        problem.between(taken(club == c), high=3)
    return problem


def lineup(players: int, seed: int) -> Linear:
    """Ten slots, each with those who can play it, within a salary, and nobody twice."""
    rng = np.random.default_rng([2, seed])
    position = np.sort(rng.choice(5, players, p=[0.15, 0.3, 0.3, 0.15, 0.1]))
    points = np.round(rng.gamma(6, 2, players), 1)
    salary = 100 * np.round(28 + 4.2 * points * rng.uniform(0.55, 1.35, players))
    slots = [np.flatnonzero(position == p) for p in (0, 1, 1, 1, 2, 2, 3, 4)]
    slots += [np.flatnonzero((position == 1) | (position == 2))] * 2  # these two slots take either
    player = np.concatenate(slots)
    problem = Linear([len(slot) for slot in slots], points[player], MAXIMISED)
    problem.between(salary[player], high=float(10.3 * np.median(salary)))
    for who in np.flatnonzero(np.bincount(player, minlength=players) > 1):
        problem.between(player == who, high=1)
    return problem


def dinners(days: int, seed: int) -> Linear:
    """A dish for each day: energy between two bounds, enough protein, little salt, no dish often, least cost."""
    rng, dishes = np.random.default_rng([3, seed]), 30
    energy, protein, salt = rng.integers(300, 950, dishes), rng.integers(6, 55, dishes), rng.integers(5, 60, dishes)
    cost = np.round(1 + 0.05 * protein + rng.uniform(0.5, 5, dishes), 2)
    problem = Linear([dishes] * days, np.tile(cost, days), MINIMISED)
    problem.between(np.tile(energy, days), 610 * days, 680 * days)
    problem.between(np.tile(protein, days), low=33 * days)
    problem.between(np.tile(salt, days), high=29 * days)
    for dish in range(dishes):
        problem.between(np.tile(np.arange(dishes) == dish, days), high=2)
    return problem


def timetable(courses: int, seed: int) -> Linear:
    """A section of each course, two meetings of two hours each, never two at once: one `Peak` over 45 hours."""
    rng, sections, days, hours = np.random.default_rng([4, seed]), 9, 5, 9
    use = np.zeros((days * hours, courses * sections))
    for section in range(courses * sections):
        for day in rng.choice(days, 2, replace=False).tolist():
            begin = day * hours + int(rng.integers(0, hours - 1))
            use[begin : begin + 2, section] = 1
    liked = rng.integers(1, 20, courses * sections).astype(float)
    return Linear([sections] * courses, liked, MAXIMISED, at_once=use)


# How each kind is drawn, what its size counts, and sizes: a small one for quick runs, then those that are measured.
KINDS: dict[str, tuple[Callable[[int, int], Linear], str, int, tuple[int, ...]]] = {
    "squad": (squad, "players", 90, (150, 300, 600)),
    "lineup": (lineup, "players", 40, (90, 150, 300)),
    "dinners": (dinners, "days", 4, (7, 14, 21)),
    "timetable": (timetable, "courses", 6, (6, 7, 8)),
}


def side_by_side(kind: str, size: Size) -> Iterator[Row]:
    """Instances of a kind, solved by `milp`, by default, and with each time limit."""
    make, what, small, numbers = KINDS[kind]
    for seed, number in enumerate((small,) if size.quick else numbers, start=1):
        instance = make(number, seed)
        problem = instance.problem()
        methods: dict[str, Callable[[], Answer]] = {"milp": instance.milp}
        for limit in (None, *(LIMITS[:1] if size.quick else LIMITS)):
            methods["default" if limit is None else f"{limit:g}"] = partial(_solved, instance, problem, limit)
        for name, run, seconds, answer in taking_turns(methods, size.runs):
            method, limit = (name, None) if name in ("milp", "default") else ("time_limit", float(name))
            yield Row(kind, f"{number} {what}", method, limit, seed, run, seconds, instance.sign, **answer)


def _solved(instance: Linear, problem: Problem, limit: float | None) -> Answer:
    result = solve(problem, time_limit=limit)
    if result.feasible:
        assert result.indices is not None
        assert result.value is not None
        instance.check(result.indices, result.value)
    return of_result(result)
