"""The methods: each spends at most `limit` measurements, and is stopped exactly there.

One distinct selection is one measurement and gives its objective and all its values; to ask for it again is free. The
rule that says which selections are allowed is free for all, and for problems named ``_blind`` it is known to none.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np

import cggd
from benchmarks.costly.problems import Problem


class Spent(BaseException):
    """The measurement asked for would be one too many."""


class Bench:
    """Makes measurements, remembers them, and refuses more than `limit`."""

    def __init__(self, problem: Problem, limit: float = math.inf) -> None:
        self.problem, self.limit = problem, limit
        self.memory: dict[tuple[int, ...], tuple[float | None, list[float]]] = {}
        self.course: list[float | None] = []  # objective of each measurement; None where it is infeasible or failed

    def allowed(self, selection: Sequence[int]) -> bool:
        """What the free rule says."""
        return self.problem.allowed is None or self.problem.allowed(selection)

    def measure(self, selection: Sequence[int]) -> tuple[float | None, list[float]]:
        key = tuple(int(i) for i in selection)
        if key not in self.memory:
            if len(self.course) >= self.limit:
                raise Spent
            value, values = self.memory[key] = self.problem.evaluate(key)
            held = value is not None and all(v <= b for v, b in zip(values, self.problem.bounds, strict=True))
            self.course.append(value if held else None)
        return self.memory[key]

    def scores(self, selection: Sequence[int]) -> tuple[float, list[float]]:
        """For methods that need numbers: something to minimise, and what must not be above 0."""
        sign = -1.0 if self.problem.maximise else 1.0
        value, values = self.measure(selection) if self.allowed(selection) else (None, [])
        if value is None:
            return sign * self.problem.failed, [1.0] * max(1, len(self.problem.bounds))
        misses = [(v - b) / (abs(b) or 1.0) for v, b in zip(values, self.problem.bounds, strict=True)]
        return sign * value, misses or [0.0]

    def best(self, n: int) -> float | None:
        """The best feasible of the first n measurements."""
        found = [value for value in self.course[:n] if value is not None]
        return (max if self.problem.maximise else min)(found, default=None)


def random_search(problem: Problem, seed: int, limit: int) -> Bench:
    bench, rng, sizes = Bench(problem, limit), np.random.default_rng(seed), problem.sizes
    try:
        for _ in range(1000 * limit):
            selection = rng.integers(0, sizes)
            if bench.allowed(selection):
                bench.measure(selection)
    except Spent:
        pass
    return bench


def genetic(problem: Problem, seed: int, limit: int) -> Bench:
    """pymoo's GA: 20 individuals, uniform crossover, random resetting of 1.5 decisions on average."""
    from pymoo.algorithms.soo.nonconvex.ga import GA
    from pymoo.core.mutation import Mutation
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.operators.crossover.ux import UX
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    bench, sizes = Bench(problem, limit), np.array(problem.sizes)

    class Choice(ElementwiseProblem):
        def __init__(self) -> None:
            n = max(1, len(problem.bounds))
            super().__init__(n_var=len(sizes), n_obj=1, n_ieq_constr=n, xl=0, xu=sizes - 1, vtype=int)

        def _evaluate(self, x, out, *args, **kwargs) -> None:
            out["F"], out["G"] = bench.scores(x)

    class Reset(Mutation):
        def _do(self, problem, X, *args, random_state=None, **kwargs):
            drawn = random_state.integers(0, sizes, size=X.shape)
            return np.where(random_state.random(X.shape) < 1.5 / X.shape[1], drawn, X)

    algorithm = GA(
        pop_size=20,
        sampling=IntegerRandomSampling(),
        crossover=UX(prob=1.0),
        mutation=Reset(prob=1.0),
        eliminate_duplicates=True,
    )
    with contextlib.suppress(Spent):
        minimize(Choice(), algorithm, ("n_gen", 10 * limit), seed=seed, verbose=False)
    return bench


def tpe(problem: Problem, seed: int, limit: int) -> Bench:
    """Optuna's TPE with its constraints, categorical options; trials that repeat a selection are free."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    bench = Bench(problem, limit)

    def objective(trial: optuna.Trial) -> float:
        score, misses = bench.scores([trial.suggest_categorical(str(i), range(n)) for i, n in enumerate(problem.sizes)])
        trial.set_user_attr("misses", misses)
        return score

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = optuna.samplers.TPESampler(seed=seed, constraints_func=lambda trial: trial.user_attrs["misses"])
        study = optuna.create_study(sampler=sampler)
        with contextlib.suppress(Spent):
            study.optimize(objective, n_trials=3 * limit)
    return bench


def ours(problem: Problem, seed: int, limit: int) -> Bench:
    """cggd: one `Measurement` for all numbers, the rule as a cheap bound, and ``max_evaluations=limit``."""
    bench, space = Bench(problem, limit), cggd.ChoiceSpace(problem.labels)
    name, *others = problem.names

    def run(selection: dict) -> dict[str, float]:
        value, values = bench.measure(space.indices(selection))
        if value is None:
            raise cggd.Invalid("failed")
        return {name: value, **dict(zip(others, values, strict=True))}

    measured = cggd.Measurement(space, run, problem.names)
    bounds = [measured[other] <= bound for other, bound in zip(others, problem.bounds, strict=True)]
    if problem.allowed is not None:
        rule = cggd.Function(space, lambda s: float(not bench.allowed(space.indices(s))), name="breaks the rule")
        bounds.append(rule <= 0)
    solve = cggd.maximize if problem.maximise else cggd.minimize
    result = solve(measured[name], bounds, seed=seed, max_evaluations=limit)
    best = bench.best(limit)
    if len(bench.course) > limit or result.value != best:
        raise AssertionError(f"{len(bench.course)} measurements of {limit}; answer {result.value}, best {best}")
    return bench


METHODS: dict[str, Callable[[Problem, int, int], Bench]] = {
    "cggd": ours,
    "random": random_search,
    "ga": genetic,
    "tpe": tpe,
}
NEEDS = {"ga": "pymoo", "tpe": "optuna"}
