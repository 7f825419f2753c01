"""pymoo's genetic algorithm with repair, one bit per feature, after Chu & Beasley (1998)."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.core.problem import Problem as PymooProblem
from pymoo.core.repair import Repair
from pymoo.operators.crossover.ux import UX
from pymoo.operators.mutation.bitflip import BitflipMutation
from pymoo.operators.sampling.rnd import BinaryRandomSampling
from pymoo.termination import get_termination

from benchmarks.features.least_squares import LeastSquares
from benchmarks.features.problem import Problem
from benchmarks.features.rankings import bought_in_order

# Chu & Beasley, "A genetic algorithm for the multidimensional knapsack problem", J. Heuristics 1998: population, and
# bits flipped per child.
POPULATION, FLIPPED = 100, 2.0
# Generations without improvement after which the run ends.
PATIENCE = 30


class _Bits(PymooProblem):
    def __init__(self, problem: Problem) -> None:
        super().__init__(n_var=problem.p, n_obj=1, xl=0, xu=1, vtype=bool)
        self.problem = problem

    def _evaluate(self, x: NDArray, out: dict, *args: object, **kwargs: object) -> None:
        out["F"] = -self.problem.criterion(x.astype(bool))


class _Repair(Repair):
    """Keeps the features that fit, in random order; in a regression, adds others that fit.

    The order is that of the squared correlation with y per price, times a random factor so that children differ.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        super().__init__()
        worth = LeastSquares(problem.X, problem.y).moments ** 2
        self.worth = worth / np.maximum(problem.costs.full, 1e-3 * problem.costs.full.max()) + 1e-12
        self.problem, self.rng = problem, np.random.default_rng(seed)

    def _do(self, problem: object, X: NDArray, **kwargs: object) -> NDArray:
        return np.array([self._one(x.astype(bool)) for x in X])

    def _one(self, support: NDArray[np.bool_]) -> NDArray[np.bool_]:
        order = np.argsort(-self.worth * self.rng.exponential(size=len(support)), kind="stable")
        rest = order[~support[order]] if self.problem.task == "regression" else order[:0]
        return bought_in_order(self.problem, [*order[support[order]].tolist(), *rest.tolist()])


def genetic(problem: Problem, seed: int, time_limit: float) -> NDArray[np.bool_]:
    if problem.task == "regression" and problem.affordable(everything := ~problem.empty()):
        return everything
    until, repair = time.process_time() + time_limit, _Repair(problem, seed)
    algorithm = GA(
        pop_size=POPULATION,
        sampling=BinaryRandomSampling(),
        crossover=UX(prob=1.0),  # pyright: ignore[reportArgumentType] - typed by pymoo's defaults
        mutation=BitflipMutation(prob=1.0, prob_var=min(1.0, FLIPPED / problem.p)),  # pyright: ignore[reportArgumentType]
        repair=repair,
        eliminate_duplicates=True,
    )
    algorithm.setup(_Bits(problem), termination=get_termination("n_gen", np.inf), seed=seed)
    best, support, idle = -np.inf, problem.empty(), 0
    while time.process_time() < until and algorithm.has_next() and idle < PATIENCE:
        algorithm.next()
        found, idle = -float(algorithm.opt[0].F[0]), idle + 1  # pyright: ignore[reportOptionalSubscript]
        if found > best:
            best, support, idle = found, algorithm.opt[0].X.astype(bool), 0  # pyright: ignore[reportOptionalSubscript]
    return support
