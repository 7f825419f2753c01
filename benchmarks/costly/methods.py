"""The methods: each spends at most `limit` measurements, and is stopped exactly there.

One distinct selection is one measurement and gives its objective and all its values; to ask for it again is free. The
rule that says which selections are allowed is free for all, and for problems named ``_blind`` it is known to none.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest import mock

import numpy as np

import cggd
from benchmarks.costly.problems import Problem
from cggd.improve.advisor import Advisor


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


def ordered(options: Sequence[object]) -> bool:
    """Whether options are numbers of which there are more than two."""
    return len(options) > 2 and all(isinstance(option, int | float) for option in options)


def tpe(problem: Problem, seed: int, limit: int) -> Bench:
    """Optuna's TPE with its constraints, categorical options; trials that repeat a selection are free."""
    return optuna_study(problem, seed, limit, "TPESampler", ordinal=False)


def gp(problem: Problem, seed: int, limit: int) -> Bench:
    """Optuna's Gaussian process with its constraints; numbers are integers, other options categorical."""
    return optuna_study(problem, seed, limit, "GPSampler", ordinal=True)


def optuna_study(problem: Problem, seed: int, limit: int, sampler: str, *, ordinal: bool) -> Bench:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    bench = Bench(problem, limit)

    def option(trial: optuna.Trial, name: str, options: Sequence[object]) -> int:
        if ordinal and ordered(options):
            return trial.suggest_int(name, 0, len(options) - 1)
        return trial.suggest_categorical(name, range(len(options)))

    def objective(trial: optuna.Trial) -> float:
        score, misses = bench.scores([option(trial, str(name), options) for name, options in problem.labels.items()])
        trial.set_user_attr("misses", misses)
        return score

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = getattr(optuna.samplers, sampler)
        study = optuna.create_study(sampler=kind(seed=seed, constraints_func=lambda trial: trial.user_attrs["misses"]))
        with contextlib.suppress(Spent):
            study.optimize(objective, n_trials=3 * limit)
    return bench


def forest(problem: Problem, seed: int, limit: int) -> Bench:
    """scikit-optimize with extra trees, the rule as its constraint; numbers are integers, other options categorical."""
    import skopt

    bench, names = Bench(problem, limit), [str(d) for d in range(len(problem.sizes))]
    dimensions = [
        skopt.space.Integer(0, len(options) - 1, name=name)
        if ordered(options)
        else skopt.space.Categorical(range(len(options)), name=name)
        for name, options in zip(names, problem.labels.values(), strict=True)
    ]
    rule = None if problem.allowed is None else lambda point: bench.allowed([int(i) for i in point])
    with warnings.catch_warnings(), contextlib.suppress(Spent):
        warnings.simplefilter("ignore")
        optimizer = skopt.Optimizer(dimensions, "ET", acq_func="EI", random_state=seed, space_constraint=rule)
        penalised = Penalised(bench)
        for _ in range(3 * limit):
            point = [int(i) for i in optimizer.ask()]
            optimizer.tell(point, penalised(point))
    return bench


def smac(problem: Problem, seed: int, limit: int) -> Bench:
    """SMAC with its random forest and its defaults; numbers are ordinal, other options categorical."""
    from ConfigSpace import CategoricalHyperparameter, ConfigurationSpace, OrdinalHyperparameter
    from smac import HyperparameterOptimizationFacade, Scenario
    from smac.runhistory.dataclasses import TrialValue

    bench, names = Bench(problem, limit), [str(d) for d in range(len(problem.sizes))]
    space = ConfigurationSpace(seed=seed)
    for name, options in zip(names, problem.labels.values(), strict=True):
        kind = OrdinalHyperparameter if ordered(options) else CategoricalHyperparameter
        space.add(kind(name, list(range(len(options)))))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), contextlib.suppress(Spent):
        warnings.simplefilter("ignore")
        scenario = Scenario(
            space, deterministic=True, n_trials=3 * limit, seed=seed, output_directory=Path(folder), n_workers=1
        )
        optimizer = HyperparameterOptimizationFacade(scenario, lambda config, seed: 0.0, logging_level=50)
        penalised = Penalised(bench)
        for _ in range(3 * limit):
            trial = optimizer.ask()
            optimizer.tell(trial, TrialValue(cost=penalised([int(trial.config[name]) for name in names])))
    return bench


class Penalised:
    """One number for methods without bounds.

    What breaks a bound or fails is worse than the worst measured before, by the violations.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench, self.good = bench, list[float]()

    def __call__(self, point: Sequence[int]) -> float:
        score, misses = self.bench.scores(point)
        missed = sum(max(miss, 0.0) for miss in misses)
        if missed == 0:
            self.good.append(score)
            return score
        worst = max(self.good, default=0.0)
        spread = worst - min(self.good, default=0.0) or abs(worst) or 1.0
        return worst + spread * min(missed, 10.0)


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


@contextlib.contextmanager
def without(*names: str) -> Iterator[None]:
    """Leave out ways to find candidates: methods of the advisor that then propose nothing."""
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(mock.patch.object(Advisor, name, NOTHING[name]))
        yield


NOTHING = {
    "_linear": lambda self: None,
    "_mixed": lambda self, good: good[:0],
    "_around": lambda self, centres: centres[:0],
}


def sampled(problem: Problem, seed: int, limit: int) -> Bench:
    """cggd whose candidates are random selections only."""
    with without("_linear", "_mixed", "_around"):
        return ours(problem, seed, limit)


def unsolved(problem: Problem, seed: int, limit: int) -> Bench:
    """cggd without the solutions of linear models."""
    with without("_linear"):
        return ours(problem, seed, limit)


OTHERS: dict[str, Callable[[Problem, int, int], Bench]] = {
    "random": random_search,
    "ga": genetic,
    "tpe": tpe,
    "gp": gp,
    "forest": forest,
    "smac": smac,
}
# What replacements of the best selections, and this library's solver, add to sampling.
VARIANTS: dict[str, Callable[[Problem, int, int], Bench]] = {"sampled": sampled, "unsolved": unsolved}
METHODS: dict[str, Callable[[Problem, int, int], Bench]] = {"cggd": ours, **OTHERS, **VARIANTS}
NEEDS = {"ga": "pymoo", "tpe": "optuna", "gp": "optuna", "forest": "skopt", "smac": "smac"}
