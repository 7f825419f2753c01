"""Feature selection under budgets: cggd compared with other methods; see ``python -m benchmarks features --help``.

Five parts. *optima*: budgets whose optimum was proved by enumeration. *design*: 2,000 correlated columns, 5,000
samples, known truth. *clinical*: heart disease and diabetes with the price of each test, selected and fitted on half of
the patients and scored on the other half, both ways, for each seed (5 x 2 cross-validation, Dietterich 1998).
*bundled*: the same with tables that come with scikit-learn, where each feature costs 1. *boosting*: gradient boosting
as the model, with selectors of the same model. Each run is one method on one problem. Its time is processor time on one
thread and includes all preparation from the data. The costs and scores of the returned selections are computed here.
Results are appended to a CSV file; runs that are in the file are not repeated.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed, parallel_config
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import KFold, StratifiedKFold

from benchmarks.features import data, report
from benchmarks.features.boosting import boosted
from benchmarks.features.least_squares import LeastSquares
from benchmarks.features.logistic import model
from benchmarks.features.methods import BOOSTED, BOOSTING, BUNDLED, CLINICAL, DESIGN, ENTRANTS, NESTED, OPTIMA, PARTS
from benchmarks.features.problem import Problem
from benchmarks.suite import read

# Budgets of the design as shares of the cost of all columns; a share of 1 does not bind.
SHARES = {"own prices": (0.003, 0.01, 0.02, 0.04, 1.0), "shared prices": (0.02, 0.05)}
SENSORS = 200
OUTER = 2
# Seconds of processor time for one selection, for methods without an end of their own.
LIMITS = {OPTIMA: 2.0, DESIGN: 2.0, CLINICAL: 0.5, BUNDLED: 0.5, BOOSTING: 0.5}


@dataclass(frozen=True)
class Row:
    """One run, a row of the CSV file."""

    part: str
    data: str
    budget: float
    seed: int
    fold: int
    method: str
    cost: float
    features: int
    train: float  # the criterion: R^2 on the data, or cross-validated AUC
    test: float | None  # R^2 or AUC on data held out
    reference: float | None  # the proved optimum of `train`
    seconds: float
    support: str


@dataclass(frozen=True)
class Task:
    """Runs that share their data: one seed, and one fold of a table or one budget of the design."""

    part: str
    data: str
    seed: int
    fold: int = 0
    quick: bool = False
    methods: Sequence[str] = ()

    def holds(self, row: dict[str, str]) -> bool:
        """Whether a row of the CSV file is one of this task."""
        mine = self.part, str(self.seed), str(self.fold)
        named = row["data"].startswith(f"{self.data}, ") if self.part == OPTIMA else row["data"] == self.data
        return named and mine == (row["part"], row["seed"], row["fold"])

    def rows(self) -> list[Row]:
        """Run every method on all problems of the task."""
        runs = {OPTIMA: _optima, DESIGN: _design, CLINICAL: _nested, BUNDLED: _nested, BOOSTING: _nested}[self.part](
            self
        )
        return list(runs)


def tasks(parts: Sequence[str], seeds: Sequence[int], quick: bool, methods: Sequence[str] = ()) -> Iterator[Task]:
    """The tasks to run, for some or all methods; parts whose data are missing are left out."""
    tables = list(data.CLINICAL) if data.folder() else []
    if DESIGN in parts:
        for seed, (costs, shares) in product(seeds, SHARES.items()):
            yield from (Task(DESIGN, costs, seed, at, quick, methods) for at in range(len(shares)))
    if OPTIMA in parts:
        yield from (Task(OPTIMA, name, 0, quick=quick, methods=methods) for name in tables)
    bundled, boosting = ([*names][:: 3 if quick else 1] for names in (data.BUNDLED, data.BOOSTING))
    for part, names in ((CLINICAL, tables), (BUNDLED, bundled), (BOOSTING, boosting)):
        if part in parts:
            folds = range(1 if quick else OUTER)
            runs = product(seeds, names, folds)  # a run that ends early has whole seeds
            yield from (Task(part, name, seed, fold, quick, methods) for seed, name, fold in runs)


def _optima(task: Task) -> Iterator[Row]:
    table = data.clinical(task.data)
    X = data.standardised(table.X)
    for optimum in data.optima():
        if optimum.table == task.data and (optimum.hard or not task.quick):
            costs = table.costs if optimum.grouped else table.additive
            problem = Problem(X, table.y, costs, optimum.budget, "regression")
            kind = ("shared prices" if optimum.grouped else "own prices") + (", hard" if optimum.hard else "")
            for row, _ in _runs(replace(task, data=f"{task.data}, {kind}"), problem):
                yield replace(row, reference=optimum.value)


def _design(task: Task) -> Iterator[Row]:
    shared = task.data == "shared prices"
    size = {"n": 300, "p": 100, "informative": 8} if task.quick else {}
    sensors = (10 if task.quick else SENSORS) if shared else None
    drawn = data.design(task.seed, sensors=sensors, **size)
    budget = SHARES[task.data][task.fold] * drawn.costs.all
    problem = Problem(drawn.X, drawn.y, drawn.costs, budget, "regression")
    fitted, total = LeastSquares(drawn.X, drawn.y), ((drawn.y_test - drawn.y.mean()) ** 2).sum()
    for row, support in _runs(task, problem):
        left = drawn.y_test - fitted.predict(support, drawn.X_test)
        yield replace(row, test=1 - float(left @ left / total))


def _nested(task: Task) -> Iterator[Row]:
    table = {CLINICAL: data.clinical, BUNDLED: data.bundled, BOOSTING: data.boosting}[task.part](task.data)
    models = {CLINICAL: _linear, BUNDLED: _linear, BOOSTING: boosted}[task.part]
    classes = len(np.unique(table.y)) == 2
    folds = (StratifiedKFold if classes else KFold)(OUTER, shuffle=True, random_state=task.seed)
    train, test = list(folds.split(table.X, table.y))[task.fold]
    X, X_test = (data.standardised(table.X[rows], table.X[train]) for rows in (train, test))
    for budget in table.budgets[1:4:2] if task.quick and len(table.budgets) > 1 else table.budgets:
        problem = Problem(X, table.y[train], table.costs, budget, "classification" if classes else "regression")
        for row, support in _runs(task, problem):
            held_out = 0.5 if classes else 0.0  # what can be said without any feature
            if support.any():
                fitted = models(problem.task).fit(X[:, support], table.y[train])
                said = fitted.decision_function if classes else fitted.predict
                score = roc_auc_score if classes else r2_score
                held_out = float(score(table.y[test], said(X_test[:, support])))
            yield replace(row, test=held_out)


def _linear(task: str) -> Any:
    return LinearRegression() if task == "regression" else model()


def _runs(task: Task, problem: Problem) -> Iterator[tuple[Row, NDArray[np.bool_]]]:
    """Run every method of the part on a problem; check the selection, and compute its cost and score."""
    judge = replace(problem)
    for name, entrant in (BOOSTED if task.part == BOOSTING else ENTRANTS).items():
        if task.part not in entrant.parts or find_spec(entrant.package) is None:
            continue
        if task.methods and name not in task.methods:
            continue
        method = entrant.load()
        limit = np.inf if entrant.ends and task.part in NESTED else LIMITS[task.part]
        began = time.process_time()
        # A new copy, so that no method uses cached results of another one.
        support = method(replace(problem), task.seed, limit)
        seconds = time.process_time() - began
        cost = problem.costs.total(support)
        if not problem.affordable(support):
            raise AssertionError(f"{name} spent {cost} of {problem.budget} on {task}")
        row = Row(
            task.part,
            task.data,
            problem.budget,
            task.seed,
            task.fold,
            name,
            cost,
            int(support.sum()),
            float(judge.criterion(support[None])[0]),
            None,
            None,
            seconds,
            " ".join(map(str, np.flatnonzero(support))),
        )
        yield row, support


def write(rows: Sequence[Row], path: Path) -> None:
    """Append rows to a CSV file, numbers to 6 digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        if new:
            writer.writeheader()
        for row in rows:
            entries = asdict(row).items()
            writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in entries})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark, or a part of it, and write its report."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks features", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default out/features, or out/features_quick")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)), metavar="SEED")
    parser.add_argument("--methods", nargs="+", choices=ENTRANTS | BOOSTED, default=(), help="all by default")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each; default %(default)s")
    parser.add_argument("--quick", action="store_true", help="a small design, the hard budgets, one fold, from scratch")
    asked = parser.parse_args(arguments)
    for name, entrant in ENTRANTS.items():
        if find_spec(entrant.package) is None:
            print(f"{name} is left out: {entrant.package} is not installed")
    if data.folder() is None:
        print("without CGGD_DATA the clinical tables are left out")
    folder = asked.out or Path("out/features_quick" if asked.quick else "out/features")
    out = folder / "features.csv"
    if asked.quick:
        asked.seeds = asked.seeds[:1]
        out.unlink(missing_ok=True)
    stand = read(out)
    todo = [t for t in tasks(asked.parts, asked.seeds, asked.quick, asked.methods) if not any(map(t.holds, stand))]
    began = time.perf_counter()
    with parallel_config(backend="loky", n_jobs=asked.jobs, inner_max_num_threads=1):
        for number, done in enumerate(Parallel(return_as="generator")(delayed(Task.rows)(t) for t in todo), start=1):
            write(done, out)
            print(
                f"{number}/{len(todo)}  {todo[number - 1].data}, after {time.perf_counter() - began:.0f} s", flush=True
            )
    print(f"wrote {report.write([out], folder)}")
