"""pymoo's genetic algorithm, one integer gene per decision, with repair and upgrade after Chu & Beasley (1998).

Their algorithm for knapsacks: uniform crossover, about two genes mutated, and each child repaired and then filled up
greedily. A child that repair cannot save competes by its violation (pymoo's own rule, after Deb). Of black boxes, whose
replacement tables take one evaluation per option, all compete so: after 10 s on the black-box forms of I07 and c_24 the
gap is 2.6 and 1.5 % without repair, 3.4 and 2.5 % with it.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.core.mutation import Mutation
from pymoo.core.problem import Problem as PymooProblem
from pymoo.core.repair import Repair
from pymoo.operators.crossover.ux import UX
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.termination import get_termination

from benchmarks.instances import Instance
from benchmarks.opponents.claim import Claim, Record
from benchmarks.opponents.repair import Switches, repair, upgrade
from cggd import Function

# Chu & Beasley, "A genetic algorithm for the multidimensional knapsack problem", J. Heuristics 1998.
POPULATION = 100
MUTATED = 2.0


class _Selections(PymooProblem):
    def __init__(self, switches: Switches, record: Record) -> None:
        self.switches, self.record, self.best = switches, record, np.inf
        sizes = switches.problem.space.sizes
        constraints = len(switches.problem.constraints)
        super().__init__(n_var=len(sizes), n_obj=1, n_ieq_constr=constraints, xl=0, xu=sizes - 1, vtype=int)

    def _evaluate(self, x: NDArray, out: dict, *args: object, **kwargs: object) -> None:
        problem, rows = self.switches.problem, x.astype(np.int64)
        out["F"] = values = problem.sign * problem.objective.evaluate(rows)
        excess = [(c.sign * c.values(rows) - c.limit) / s for c, s in zip(*self._constraints, strict=True)]
        out["G"] = np.stack(excess, axis=1)
        feasible = np.flatnonzero((out["G"] <= 0).all(axis=1))
        if len(feasible):
            at = feasible[values[feasible].argmin()]
            self.offer(rows[at], float(values[at]))

    def offer(self, row: NDArray[np.int64], value: float) -> None:
        """Record a feasible selection if it is the best so far."""
        if value < self.best:
            self.best = value
            self.record(row)

    @property
    def _constraints(self) -> tuple:
        return self.switches.problem.constraints, self.switches.scales


class _Redraw(Mutation):
    """Draws each gene anew with a probability that redraws about two of them."""

    def _do(self, problem: _Selections, X: NDArray, *args: object, random_state: np.random.Generator, **kwargs: object):
        drawn = random_state.integers(0, problem.switches.problem.space.sizes, size=X.shape)
        return np.where(random_state.random(X.shape) < MUTATED / X.shape[1], drawn, X)


class _Greedy(Repair):
    """Repairs and upgrades children one by one, and offers each at once, as a population may take long."""

    def __init__(self, until: float) -> None:
        super().__init__()
        self.until = until

    def _do(self, problem: _Selections, X: NDArray, **kwargs: object) -> NDArray:
        rows, switches = X.astype(np.int64), problem.switches
        for row in rows:
            if not repair(switches, row, until=self.until):
                continue
            upgrade(switches, row, until=self.until)
            problem.offer(row, switches.problem.sign * float(switches.problem.objective.evaluate(row[None])[0]))
        return rows


def solve(instance: Instance, *, seed: int, seconds: float, threads: int, record: Record) -> Claim:
    until = time.perf_counter() + seconds
    problem = _Selections(Switches(instance.problem), record)
    metrics = [instance.problem.objective, *(c.metric for c in instance.problem.constraints)]
    callable_only = any(isinstance(metric, Function) for metric in metrics)
    algorithm = GA(
        pop_size=POPULATION,
        sampling=IntegerRandomSampling(),
        crossover=UX(prob=1.0),  # pyright: ignore[reportArgumentType] - typed by pymoo's defaults
        mutation=_Redraw(prob=1.0),  # pyright: ignore[reportArgumentType]
        repair=None if callable_only else _Greedy(until),
        eliminate_duplicates=True,
    )
    algorithm.setup(problem, termination=get_termination("n_gen", np.inf), seed=seed)
    generations = 0
    while time.perf_counter() < until and algorithm.has_next():
        algorithm.next()
        generations += 1
    return Claim(note=f"{generations} generations")
