"""Metrics of a user's own against the built-in ones: a subclass, a metric with nothing but its linear form, BERT-3."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.engine.rows import MAXIMISED, MINIMISED, Answer, Row, Size, of_result, skipped, taking_turns
from benchmarks.instances import lp_bound
from cggd import Additive, ChoiceSpace, Metric, Problem, minimize, solve
from cggd.datasets import data_folder

GROUPS, ITEMS, RESOURCES = 60, 10, 5


class Mine(Additive):
    """A user's sum that changes nothing."""


class Alone(Metric):
    """A user's sum that says nothing but its values."""

    def __init__(self, space: ChoiceSpace, values: NDArray, *, name: str = "alone", unit: str = "") -> None:
        self.space, self.values, self.name, self.unit = space, values, name, unit

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.values[self.space.layout.flat(selections)].sum(axis=1)


class Expressed(Alone):
    """A user's sum that also writes its rows; those of the built-in sum, so that only who says it differs."""

    def expression(self, *arguments, **named):
        return Additive(self.space, self.values).expression(*arguments, **named)  # pyright: ignore


def knapsack(kind, seed: int, groups: int = GROUPS) -> Problem:
    """Values that grow with five weights, each limited, as sums of a kind."""
    rng = np.random.default_rng([5, seed])
    space = ChoiceSpace.from_sizes([ITEMS] * groups)
    weights = rng.integers(1, 101, (RESOURCES, space.n_options)).astype(float)
    value = np.rint(weights.mean(axis=0)) + rng.integers(0, 31, space.n_options)
    sums = [kind(space, row, name=f"weight {r}") for r, row in enumerate(weights)]
    limits = [metric <= 40 * groups for metric in sums]
    return Problem(kind(space, value, name="value"), limits, "maximize")


def own(size: Size) -> Iterator[Row]:
    """The same 60 x 10 knapsack by built-in sums, by a subclass and by metrics of a user; all should be equal."""
    kinds = {"Additive": Additive, "subclass": Mine, "evaluate only": Alone}
    if hasattr(Metric, "expression"):
        kinds["expression"] = Expressed
    else:
        yield skipped("own", "metric with an expression: this version has no Metric.expression")
    for seed in size.several(3):
        groups = 8 if size.quick else GROUPS
        known = lp_bound(knapsack(Additive, seed, groups))

        def solved(kind, seed=seed, groups=groups) -> Answer:
            return of_result(solve(knapsack(kind, seed, groups), seed=seed))

        methods = {name: lambda kind=kind: solved(kind) for name, kind in kinds.items()}
        for name, run, seconds, answer in taking_turns(methods, 1):
            row = {"sign": MAXIMISED, "known": known, **answer}
            yield Row("own", f"{groups} x {ITEMS}, {RESOURCES} limits", name, None, seed, run, seconds, **row)


def bert(size: Size) -> Iterator[Row]:
    """The largest load of BERT-3 on its devices: `cggd.minimize` as it is, beside HiGHS on the program of the load."""
    folder = data_folder()
    file = None if folder is None else folder / "scheduling" / "placement_bert_l3.json.gz"
    if file is None or not file.is_file():
        yield skipped("bert", "no placement_bert_l3.json.gz: set CGGD_DATA")
        return
    from cggd_scheduling.placement import DeviceLoad, read

    problem = read(file)
    short = 1.0 if size.quick else None

    def default() -> Answer:
        return of_result(minimize(DeviceLoad(problem), problem.memory_limits, time_limit=short))

    def highs() -> Answer:
        from benchmarks.scheduling import highs as method
        from benchmarks.scheduling.cases import Case

        case = Case("placement", "BERT-3", problem, "load", None)
        answer = method.solve(case, seed=0, seconds=short or 120.0)
        if answer is None:
            return {"status": "UNKNOWN"}
        value = case.value(answer)
        proved = answer.bound is not None and value <= answer.bound * (1 + 2e-6)
        return {"value": value, "bound": answer.bound, "status": "OPTIMAL" if proved else "FEASIBLE"}

    for name, run, seconds, answer in taking_turns({"HiGHS": highs, "default": default}, size.runs):
        yield Row("bert", "BERT-3", name, None, 0, run, seconds, MINIMISED, known=21.908, **answer)
