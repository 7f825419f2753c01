"""Every claim of the library is set against exact arithmetic, on random problems with one seed each.

    python tests/test_exact.py --seeds 0:20000          # prints what was claimed, and the seeds whose claims are false
    python tests/test_exact.py --seeds 17               # one problem, with its details

A number means what a person reads: 0.1 is a tenth. Exact numbers are Python integers, in units of 10**-120: every
double of more than 1e-20 is a whole number of them. Sums of floats may round by a few units in the last place of
their largest partial sum, so a value is known as an interval. Whole numbers, stored values and functions are compared
exactly. Answers under a time limit may differ from run to run; the others are those of the seed.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import settings

from cggd import (
    Additive,
    ChoiceSpace,
    Constraint,
    Descent,
    Enumerate,
    Function,
    Improver,
    LongestPath,
    Metric,
    Peak,
    Predicted,
    Status,
    Table,
    diagnose,
    find_feasible,
    maximize,
    maximum,
    minimize,
    portfolio,
    smallest_bound,
    sweep,
)

UNIT = 10**120


def read(number: Any) -> int:
    """A number as a person reads it, in units: 0.1 is a tenth."""
    return units(Fraction(repr(float(number))))


def binary(number: Any) -> int:
    """A number as the computer holds it, in units."""
    return units(Fraction(float(number)))


def units(number: Fraction) -> int:
    whole = number * UNIT
    assert whole.denominator == 1, f"{number} is no whole number of units"
    return whole.numerator


def shown(number: int) -> str:
    return f"{float(Fraction(number, UNIT))!r}"


# -- exact values ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exact:
    """Exact values of selections, and between which numbers what the library computes of them lies."""

    low: np.ndarray
    value: np.ndarray
    high: np.ndarray
    size: Any = 0  # total magnitude of the numbers that are added, where they are added to others in one table

    @classmethod
    def rounded(cls, value: np.ndarray, magnitude: np.ndarray, terms: int) -> Exact:
        """A sum of so many terms of so large a total magnitude, which rounds."""
        slop = np.array([(terms + 4) * m // 2**52 + 1 for m in magnitude], dtype=object)
        return cls(value - slop, value, value + slop, magnitude)

    @classmethod
    def exactly(cls, value: np.ndarray, size: Any = 0) -> Exact:
        return cls(value, value, value, size)


@dataclass(frozen=True)
class Known:
    """A metric and its exact values, from selections of shape (n, n_decisions)."""

    metric: Metric
    exact: Callable[[np.ndarray], Exact]
    decimal: bool  # whether its values are sums of numbers that are read as decimals
    whole: bool  # whether all its numbers are whole, so that nothing rounds


def objects(numbers: Sequence[int]) -> np.ndarray:
    array = np.empty(len(numbers), dtype=object)
    array[:] = numbers
    return array


def selected(numbers: np.ndarray, space: ChoiceSpace, selections: np.ndarray) -> np.ndarray:
    """Numbers of the selected options, shape (n, n_decisions)."""
    return numbers[space.offsets[:-1] + selections]


def all_whole(*groups: Any) -> bool:
    return all(float(x).is_integer() for group in groups for x in np.ravel(group))


# -- numbers -----------------------------------------------------------------------------------------------------------


def draw_numbers(rng: np.random.Generator, n: int, *, positive: bool = False) -> np.ndarray:
    """Numbers as users have them: whole, decimals, tiny units, bytes; one time in two some mean "never"."""
    style = rng.choice(["whole", "small", "one", "two", "three", "tiny", "bytes", "float32"])
    if style == "whole":
        numbers = rng.integers(0, 60, n).astype(float)
    elif style == "small":
        numbers = rng.integers(0, 4, n).astype(float)
    elif style == "bytes":
        numbers = float(2**34) + rng.integers(-20, 20, n)
    elif style == "tiny":
        numbers = np.array([float(f"{k}e-13") for k in rng.integers(1, 60, n)])
    elif style == "float32":
        numbers = (rng.integers(0, 500, n) / 100).astype(np.float32)
    else:
        digits = {"one": 1, "two": 2, "three": 3}[style]
        numbers = rng.integers(0, 6 * 10**digits, n) / 10**digits
    if not positive and rng.random() < 0.25:
        numbers = numbers * rng.choice([-1, 1], n).astype(numbers.dtype)
    if rng.random() < 0.5:
        sign = 1 if positive or rng.random() < 0.6 else -1
        for at in rng.integers(0, n, rng.integers(1, 1 + max(1, n // 4))):
            numbers[at] = sign * 10.0 ** rng.integers(6, 13)
    return numbers


# -- metrics -----------------------------------------------------------------------------------------------------------


def additive(rng: np.random.Generator, space: ChoiceSpace, numbers: np.ndarray | None = None) -> Known:
    if numbers is None:
        numbers = draw_numbers(rng, space.n_options)
    constant = float(rng.choice([0, 0, 0, 3, 0.7, -2.3]))
    read_numbers, whole = objects([read(x) for x in numbers]), all_whole(numbers, constant)
    terms = space.n_decisions + (constant != 0)

    def exact(selections: np.ndarray) -> Exact:
        chosen = selected(read_numbers, space, selections)
        value = chosen.sum(axis=1) + read(constant)
        size = np.abs(chosen).sum(axis=1) + abs(read(constant))
        return Exact.exactly(value, size) if whole else Exact.rounded(value, size, terms)

    return Known(Additive(space, numbers, constant, name="sum"), exact, True, whole)


def peak(rng: np.random.Generator, space: ChoiceSpace) -> Known:
    n, decisions = space.n_options, space.n_decisions
    kind = rng.integers(3)
    if kind == 0:
        stages = [[d] for d in range(decisions)]
        numbers = draw_numbers(rng, n)
        metric = Peak(space, numbers, name="peak")
    elif kind == 1:
        stages = [
            sorted(rng.permutation(decisions)[: rng.integers(1, decisions + 1)]) for _ in range(rng.integers(1, 5))
        ]
        numbers = draw_numbers(rng, n)
        members = {f"stage {i}": [int(d) for d in stage] for i, stage in enumerate(stages)}
        metric = Peak(space, numbers, stages=members, name="peak")
    else:
        matrix = np.stack([draw_numbers(rng, n).astype(float) for _ in range(rng.integers(1, 5))])
        matrix *= rng.random(matrix.shape) < 0.8
        rows = [objects([read(x) for x in row]) for row in matrix]
        whole = all_whole(matrix)

        def exact_rows(selections: np.ndarray) -> Exact:
            chosen = [selected(row, space, selections) for row in rows]
            return largest([_sum(c, whole) for c in chosen])

        return Known(Peak(space, None, matrix, name="peak"), exact_rows, True, whole)
    numbers_read, whole_values = objects([read(x) for x in numbers]), all_whole(numbers)

    def exact(selections: np.ndarray) -> Exact:
        chosen = selected(numbers_read, space, selections)
        return largest([_sum(chosen[:, stage], whole_values) for stage in stages])

    return Known(metric, exact, True, whole_values)


def _sum(chosen: np.ndarray, whole: bool) -> Exact:
    value = chosen.sum(axis=1)
    return Exact.exactly(value) if whole else Exact.rounded(value, np.abs(chosen).sum(axis=1), chosen.shape[1])


def largest(parts: Sequence[Exact]) -> Exact:
    ends = ([getattr(part, end) for part in parts] for end in ("low", "value", "high"))
    return Exact(*(np.maximum.reduce(rows) if len(rows) > 1 else rows[0] for rows in ends))


def longest_path(rng: np.random.Generator, space: ChoiceSpace) -> Known:
    nodes = int(rng.integers(space.n_decisions, space.n_decisions + 4))
    graph = nx.DiGraph()
    fixed = []
    for v in range(nodes):
        duration = float(rng.choice([0, 0, 1, 2.5, 0.1]))
        graph.add_node(f"v{v}", **({"duration": duration} if duration else {}))
        fixed.append(duration)
    edges = {}
    for u, v in itertools.combinations(range(nodes), 2):
        if rng.random() < 0.5:
            edges[u, v] = float(rng.choice([0, 0, 0, 1.2, 3]))
            graph.add_edge(f"v{u}", f"v{v}", **({"duration": edges[u, v]} if edges[u, v] else {}))
    numbers = np.abs(draw_numbers(rng, space.n_options, positive=True))
    places = rng.permutation(nodes)[: space.n_decisions]
    at = {d: [f"v{places[d]}"] for d in range(space.n_decisions)}
    metric = LongestPath(space, graph, numbers, at=at, name="path")
    numbers_read, whole = objects([read(x) for x in numbers]), all_whole(numbers, fixed, list(edges.values()))
    stands = {int(v): d for d, v in enumerate(places)}
    rounds = 2 * nodes + len(edges)

    def exact(selections: np.ndarray) -> Exact:
        chosen = selected(numbers_read, space, selections)
        heads: list[np.ndarray] = []
        for v in range(nodes):
            before = [heads[u] + read(w) for (u, x), w in edges.items() if x == v]
            start = np.maximum.reduce(before) if len(before) > 1 else (before or [objects([0] * len(selections))])[0]
            heads.append(start + read(fixed[v]) + (chosen[:, stands[v]] if v in stands else 0))
        value = np.maximum.reduce(heads) if nodes > 1 else heads[0]
        return Exact.exactly(value) if whole else Exact.rounded(value, value, rounds)

    return Known(metric, exact, True, whole)


def stored(rng: np.random.Generator, space: ChoiceSpace, kind: str) -> Known:
    """A number of its own for every selection: stored, returned by a function, or predicted by a model."""
    if space.n_selections <= 20_000 and kind != "predicted":
        numbers = draw_numbers(rng, space.n_selections).astype(float)

        def value_of(selections: np.ndarray) -> np.ndarray:
            return numbers[np.ravel_multi_index(tuple(selections.T), tuple(space.sizes))]
    else:
        weights = draw_numbers(rng, space.n_options).astype(float)

        def value_of(selections: np.ndarray) -> np.ndarray:
            return np.array([math.fsum(row) for row in selected(weights, space, np.asarray(selections))])

    def exact(selections: np.ndarray) -> Exact:
        return Exact.exactly(objects([binary(x) for x in value_of(selections)]))

    if kind == "table" and space.n_selections <= 20_000:
        metric: Metric = Table(space, numbers, name="table")
    elif kind == "predicted":
        metric = Predicted(space, _Model(value_of), features=lambda selections: selections, name="prediction")
    elif rng.random() < 0.5:
        metric = Function(space, value_of, batch=True, name="function")
    else:
        metric = Function(space, lambda s: float(value_of(np.array([list(s.values())]))[0]), name="function")
    return Known(metric, exact, False, False)


@dataclass(frozen=True)
class _Model:
    function: Callable[[np.ndarray], np.ndarray]

    def predict(self, X: np.ndarray, /) -> np.ndarray:
        return self.function(np.asarray(X))


def combination(rng: np.random.Generator, space: ChoiceSpace) -> Known:
    first, second = draw_metric(rng, space, deep=False), draw_metric(rng, space, deep=False)
    weight, shift = float(rng.choice([2, -1, -3, 0.5, 0.1])), float(rng.choice([1, 0, 0.3]))
    metric = first.metric + weight * second.metric - shift
    whole = first.whole and second.whole and all_whole(weight, shift)
    terms = 2 * space.n_decisions + 4

    def exact(selections: np.ndarray) -> Exact:
        a, b = first.exact(selections), second.exact(selections)
        value = a.value + times(b.value, weight) - read(shift)
        if whole:
            return Exact.exactly(value)
        ends = sorted_rows(times(b.low, weight), times(b.high, weight))
        magnitude = (
            np.maximum(np.abs(a.low), np.abs(a.high)) + np.abs(times(b.low, weight)) + np.abs(times(b.high, weight))
        )
        # Tables of sums are added before anything is chosen, and round by what they hold.
        magnitude = magnitude + a.size + abs(times(b.size + 0 * b.value, weight))
        slop = Exact.rounded(value, magnitude + abs(read(shift)), terms)
        spread = slop.high - slop.value
        if first.decimal and second.decimal:  # sums of large terms that cancel round by what the terms do
            inner = (a.high - a.low) + ends[1] - ends[0]
            spread = spread + inner * terms
        return Exact(a.low + ends[0] - read(shift) - spread, value, a.high + ends[1] - read(shift) + spread)

    return Known(metric, exact, first.decimal and second.decimal, whole)


def times(numbers: np.ndarray, weight: float) -> np.ndarray:
    """Numbers times a decimal; ends of intervals, which need not be decimals, by less than a unit too low."""
    w = Fraction(repr(weight))
    return objects([x * w.numerator // w.denominator for x in numbers])


def sorted_rows(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.minimum(a, b), np.maximum(a, b)


def greatest(rng: np.random.Generator, space: ChoiceSpace) -> Known:
    parts = [draw_metric(rng, space, deep=False) for _ in range(rng.integers(2, 4))]
    metric = maximum(*(part.metric for part in parts), name="maximum")
    return Known(
        metric,
        lambda selections: largest([part.exact(selections) for part in parts]),
        all(part.decimal for part in parts),
        all(part.whole for part in parts),
    )


def draw_metric(rng: np.random.Generator, space: ChoiceSpace, *, deep: bool = True) -> Known:
    kinds = ["additive"] * 5 + ["peak"] * 3 + ["path"] * 2 + ["table", "function", "predicted"]
    if deep:
        kinds += ["combination"] * 2 + ["maximum"]
    kind = rng.choice(kinds)
    if kind in ("table", "function", "predicted"):
        return stored(rng, space, str(kind))
    draw = {"additive": additive, "peak": peak, "path": longest_path, "combination": combination, "maximum": greatest}
    return draw[str(kind)](rng, space)


# -- problems ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bound:
    """A constraint, and which of some selections certainly satisfy it or certainly do not."""

    known: Known
    constraint: Constraint

    def certainly(self, selections: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whether selections must satisfy it, and whether they must not; neither where rounding decides."""
        exact, c = self.known.exact(selections), self.constraint
        if not np.isfinite(c.bound):
            return np.ones(len(selections), dtype=bool), np.zeros(len(selections), dtype=bool)
        bound = read(c.bound) if self.known.decimal else binary(c.bound)
        sure = exact.value if self.known.decimal else (exact.high if c.sense == "<=" else exact.low)
        met = sure <= bound if c.sense == "<=" else sure >= bound
        # A sum that is not whole may lie beside a bound by what the bound itself is rounded by.
        beside = 0 if self.known.whole or not self.known.decimal else abs(bound) // 2**52
        missed = exact.low > bound + beside if c.sense == "<=" else exact.high < bound - beside
        return met.astype(bool), missed.astype(bool)


@dataclass
class Drawn:
    """A problem, some selections of its space, and what is to be asked."""

    space: ChoiceSpace
    objective: Known
    bounds: list[Bound]
    allowed: np.ndarray | None
    selections: np.ndarray
    complete: bool  # whether they are all

    @property
    def constraints(self) -> list[Constraint]:
        return [b.constraint for b in self.bounds]

    def chosen(self, bounds: Sequence[Bound]) -> np.ndarray:
        """Known selections that certainly satisfy some bounds and are not forbidden."""
        good = self.permitted(self.selections)
        for b in bounds:
            good = good & b.certainly(self.selections)[0]
        return self.selections[good]

    def perhaps(self, bounds: Sequence[Bound]) -> bool:
        """Whether a known selection may satisfy some bounds."""
        good = self.permitted(self.selections)
        for b in bounds:
            good = good & ~b.certainly(self.selections)[1]
        return bool(good.any())

    def permitted(self, selections: np.ndarray) -> np.ndarray:
        if self.allowed is None:
            return np.ones(len(selections), dtype=bool)
        return self.allowed[self.space.offsets[:-1] + selections].all(axis=1)


def draw_problem(rng: np.random.Generator, *, together: float) -> Drawn:
    """A problem; a bound is set beside the values of one selection, the same for a share `together` of the bounds."""
    complete = rng.random() < 0.9
    if complete:
        sizes = rng.integers(1, 6, rng.integers(1, 7))
        while np.prod(sizes) > 1500:
            sizes = sizes[:-1]
    else:
        sizes = rng.integers(2, 6, rng.integers(10, 15))
    space = ChoiceSpace.from_sizes(sizes)
    objective = draw_metric(rng, space)
    metrics = [draw_metric(rng, space) for _ in range(rng.integers(1, 4) + (0 if together else 2))]
    if rng.random() < 0.15:
        metrics.append(objective)
    allowed = None
    if rng.random() < 0.2:
        allowed = rng.random(space.n_options) < 0.75
        allowed[space.offsets[:-1] + rng.integers(0, sizes)] = True
    selections = space.enumerate() if complete else sampled(rng, space, allowed)
    planted = selections[rng.integers(len(selections))]
    bounds: list[Bound] = []
    for known in metrics:
        apart = complete and rng.random() >= together
        where = selections[rng.integers(len(selections))] if apart else planted
        bounds += draw_bounds(rng, known, where, far=complete)
    return Drawn(space, objective, bounds, allowed, selections, complete)


def sampled(rng: np.random.Generator, space: ChoiceSpace, allowed: np.ndarray | None) -> np.ndarray:
    """Some selections without forbidden options, and what lies around the first."""
    choices = [np.arange(n) for n in space.sizes]
    if allowed is not None:
        choices = [np.flatnonzero(allowed[a:b]) for a, b in itertools.pairwise(space.offsets)]
    rows = np.stack([rng.choice(options, 150) for options in choices], axis=1)
    around = np.repeat(rows[:1], sum(map(len, choices)), axis=0)
    i = 0
    for d, options in enumerate(choices):
        for o in options:
            around[i, d] = o
            i += 1
    return np.concatenate([rows, around])


def draw_bounds(rng: np.random.Generator, known: Known, where: np.ndarray, *, far: bool) -> Iterator[Bound]:
    """One bound on a metric, or two: near the value of a selection, and `far` also so that the selection misses it."""
    sense = str(rng.choice(["<=", ">="]))
    sign = 1 if sense == "<=" else -1
    value = Fraction(known.exact(where[None]).value[0], UNIT)
    middle = float(value)
    how = str(rng.choice(["at", "at", "at", "unit", "below", "loose", "marker", "infinite", "equal", "just below"]))
    if not far and how in ("below", "just below", "marker"):
        how = "at"
    if how == "unit":
        middle = float(value + sign * Fraction(1, 100))
    elif how == "just below":  # what a relative tolerance of 1e-9 would let pass
        middle = float(value - sign * abs(value) * Fraction(1, 2 * 10**9))
    elif how == "below":
        middle = float(value - sign * Fraction(1, int(rng.choice([1, 10, 100]))))
    elif how == "loose":
        middle = float(value + sign * abs(value) / 4)
    elif how == "marker":
        middle = sign * 10.0 ** rng.integers(6, 13) + float(rng.choice([-1, 0, 1]))
    elif how == "infinite":
        middle = sign * math.inf
    if known.whole and how == "unit":
        middle = float(int(value) + sign)
    bound = tidy(middle)
    if how == "equal":
        yield Bound(known, known.metric >= bound)
        yield Bound(known, known.metric <= bound)
    else:
        yield Bound(known, Constraint(known.metric, bound, "<=" if sign > 0 else ">="))


def tidy(number: float) -> float:
    """The shortest number that reads the same to 15 digits: 0.3, not 0.30000000000000004."""
    return float(f"{number:.15g}") if math.isfinite(number) else number


# -- what is claimed ---------------------------------------------------------------------------------------------------


@dataclass
class Report:
    """What was claimed about one problem, and what of it is false."""

    enumerated: bool = True
    answers: Counter = field(default_factory=Counter)  # of (who was asked, answer, whether it settles the question)
    claims: Counter = field(default_factory=Counter)
    false: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, of: str, answer: str, *, settled: bool) -> None:
        self.answers[f"{of}{'' if self.enumerated else ', not enumerated'}", answer, settled] += 1

    def check(self, claim: str, true: Any, detail: str = "") -> None:
        self.claims[claim] += 1
        if not true:
            self.false.append((claim, detail))


@contextmanager
def quick(enumerated: bool) -> Iterator[None]:
    """Where wanted, no enumeration of small spaces: solvers, relaxations and searches answer what is known."""
    with pytest.MonkeyPatch.context() as patch:
        if not enumerated:
            patch.setattr(Enumerate, "suits", lambda self, problem: False)
        yield


def asked_improvers(rng: np.random.Generator) -> list[Improver]:
    """The default improvers with a short descent, one more before them, or some of them in any order."""
    descent = Descent(steps=int(rng.choice([20, 60])), starts=int(rng.choice([1, 2])))
    usual = portfolio(replace(descent, share=0.8))
    some = [usual[i] for i in rng.permutation(len(usual))[: int(rng.integers(2, len(usual)))]]
    return [usual, [descent, *usual], some][int(rng.integers(3))]


def attack(seed: int) -> Report:
    """Draw the problem of a seed, ask the library, and set every claim against exact arithmetic."""
    rng = np.random.default_rng([1906, seed])
    sums = rng.random() < 0.1
    report = Report(enumerated=bool(rng.random() < (0.5 if sums else 0.4)))
    if sums:
        with quick(report.enumerated):
            attack_sums(rng, report)
        return report
    verb = str(rng.choice(["solve"] * 5 + ["find"] * 2 + ["smallest"] * 2 + ["sweep", "diagnose"]))
    drawn = draw_problem(rng, together=0.0 if verb == "diagnose" else 0.7)
    forbid = None if drawn.allowed is None else ~drawn.allowed
    check_definition(drawn, report)
    with quick(report.enumerated):
        seeds = {"seed": int(rng.integers(100)), "forbid": forbid}
        if verb == "solve":
            sense = "minimize" if rng.random() < 0.6 else "maximize"
            limit = None if rng.random() < 0.7 else float(rng.choice([0.02, 0.2]))
            options = {"improvers": asked_improvers(rng), "time_limit": limit}
            solve = minimize if sense == "minimize" else maximize
            result = solve(drawn.objective.metric, drawn.constraints, **options, **seeds)
            check_result(drawn, drawn.bounds, result, sense, report, "solve")
        elif verb == "find":
            check_feasibility(drawn, drawn.bounds, find_feasible(drawn.constraints, time_limit=0.5, **seeds), report)
        elif verb == "smallest":
            sense = "<=" if rng.random() < 0.5 else ">="
            metric = drawn.objective
            found = smallest_bound(metric.metric, drawn.constraints, sense=sense, time_limit=0.5, **seeds)
            check_smallest(drawn, metric, sense, drawn.bounds, found, report, "smallest")
        elif verb == "sweep":
            check_sweep(drawn, rng, seeds, report)
        else:
            check_diagnosis(drawn, diagnose(drawn.constraints, time_limit=0.5, **seeds), report)
    return report


def check_definition(drawn: Drawn, report: Report) -> None:
    """Reports and values of constraints say of each selection what exact arithmetic says."""
    some = drawn.selections[:: max(1, len(drawn.selections) // 20)]
    for b in drawn.bounds:
        met, missed = b.certainly(some)
        satisfied = np.asarray(b.constraint.satisfied(b.constraint.values(some)))
        for i, selection in enumerate(some):
            row = b.constraint.report(selection)
            where = f"{b.constraint!r} at {selection}: {row.value!r}"
            if met[i]:
                report.check("definition: satisfied", satisfied[i] and row.satisfied, where)
            elif missed[i]:
                report.check("definition: violated", not satisfied[i] and not row.satisfied, where)


def check_rows(drawn: Drawn, bounds: Sequence[Bound], rows: Sequence, selection: np.ndarray, report: Report, of: str):
    """Every row belongs to its bound, holds the value, and says rightly that it is satisfied."""
    report.check(f"{of}: a row for each bound", len(rows) == len(bounds))
    for b, row in zip(bounds, rows, strict=False):
        met, missed = (bool(x[0]) for x in b.certainly(selection[None]))
        exact = b.known.exact(selection[None])
        near = float_slop(row.value, b.known) + (float_slop(b.constraint.bound, b.known))
        inside = exact.low[0] - near <= binary(row.value) <= exact.high[0] + near
        where = f"{b.constraint!r} at {selection}: {row}"
        report.check(f"{of}: value of a row", inside, where)
        report.check(
            f"{of}: satisfied in a row", (not met or row.satisfied) and (not missed or not row.satisfied), where
        )
        report.check(f"{of}: slack of a row", row.satisfied == (row.slack >= 0), where)


def float_slop(number: float, known: Known) -> int:
    """What reading a float as a decimal may change."""
    if known.whole or not known.decimal or not math.isfinite(number):
        return 0
    return abs(binary(number)) // 2**52 + 1


def satisfying(drawn: Drawn, bounds: Sequence[Bound], selection: np.ndarray) -> bool:
    """Whether nothing is certain against a selection."""
    return bool(drawn.permitted(selection[None])[0]) and not any(b.certainly(selection[None])[1][0] for b in bounds)


def check_result(drawn: Drawn, bounds: Sequence[Bound], result: Any, sense: str, report: Report, of: str) -> None:
    sign = 1 if sense == "minimize" else -1
    settled = result.status in (Status.OPTIMAL, Status.INFEASIBLE)
    report.answer(of, result.status.name, settled=settled)
    good = drawn.chosen(bounds)
    if result.status is Status.INFEASIBLE:
        report.check(f"{of}: INFEASIBLE", len(good) == 0, f"{good[:1]} of {len(good)} satisfies; {result.stop_text}")
        return
    exact = drawn.objective.exact(good) if len(good) else None
    ends = None if exact is None else (exact.high if sign > 0 else -exact.low)
    if result.bound is not None and ends is not None and np.isfinite(result.bound):
        bound = sign * binary(result.bound)
        best = int(ends.min()) + abs(bound) * 4 // 2**52
        detail = f"bound {result.bound!r}, but {shown(sign * best)} at {good[int(np.argmin(ends))]}"
        report.check(f"{of}: bound", best >= bound, detail)
    if not result.feasible:
        report.check(f"{of}: UNKNOWN has no selection", result.selection is None and result.value is None)
        return
    selection = np.asarray(result.indices)
    report.check(f"{of}: selection satisfies", satisfying(drawn, bounds, selection), f"{selection}: {result.summary()}")
    check_rows(drawn, bounds, result.constraints, selection, report, of)
    mine = drawn.objective.exact(selection[None])
    near = float_slop(result.value, drawn.objective)
    inside = mine.low[0] - near <= binary(result.value) <= mine.high[0] + near
    report.check(f"{of}: value", inside, f"{result.value!r} at {selection}, {shown(mine.value[0])}")
    if result.bound is not None:
        report.check(f"{of}: gap", result.gap >= 0 and (result.gap == 0) == (result.value == result.bound))
        beaten = sign * (binary(result.bound) - binary(result.value)) - 4 * abs(binary(result.value)) // 2**52
        report.check(f"{of}: value not beyond the bound", beaten <= 0, f"{result.value!r}, bound {result.bound!r}")
    if result.status is Status.OPTIMAL and ends is not None:
        own = mine.low[0] if sign > 0 else -mine.high[0]
        at = int(np.argmin(ends))
        detail = f"{result.value!r} at {selection}, but {shown(sign * ends[at])} at {good[at]}; {result.stop_text}"
        report.check(f"{of}: OPTIMAL", ends[at] >= own, detail)


def check_feasibility(drawn: Drawn, bounds: Sequence[Bound], found: Any, report: Report, of: str = "find") -> None:
    report.answer(of, found.status.name, settled=found.status is not Status.UNKNOWN)
    good = drawn.chosen(bounds)
    if found.status is Status.INFEASIBLE:
        report.check(f"{of}: INFEASIBLE", len(good) == 0, f"{good[:1]} of {len(good)} satisfies; {found.proof}")
    elif found.status is Status.FEASIBLE:
        selection = np.asarray(found.indices)
        report.check(f"{of}: selection satisfies", satisfying(drawn, bounds, selection), f"{selection}")
        check_rows(drawn, bounds, found.constraints, selection, report, of)
    else:
        report.check(f"{of}: UNKNOWN has no selection", found.selection is None)


def check_smallest(
    drawn: Drawn, known: Known, sense: str, others: Sequence[Bound], found: Any, report: Report, of: str
) -> None:
    sign = 1 if sense == "<=" else -1
    report.answer(of, "proved" if found.proved else "not proved", settled=found.proved)
    good = drawn.chosen(others)
    if found.value is None:
        report.check(f"{of}: no bound works", not found.proved or len(good) == 0, f"{good[:1]} satisfies the others")
        return
    selection = drawn.space.indices(found.selection)
    report.check(f"{of}: selection satisfies", satisfying(drawn, others, selection), f"{selection}")
    mine = known.exact(selection[None])
    near = float_slop(found.value, known)
    inside = mine.low[0] - near <= binary(found.value) <= mine.high[0] + near
    report.check(f"{of}: value", inside, f"{found.value!r} at {selection}, {shown(mine.value[0])}")
    if found.proved and len(good):
        exact = known.exact(good)
        ends = exact.high if sign > 0 else -exact.low
        at = int(np.argmin(ends))
        own = mine.low[0] if sign > 0 else -mine.high[0]
        report.check(f"{of}: proved", ends[at] >= own, f"{found.value!r}, but {shown(sign * ends[at])} at {good[at]}")


def check_sweep(drawn: Drawn, rng: np.random.Generator, seeds: dict, report: Report) -> None:
    metric = draw_metric(rng, drawn.space)
    metric_sense = str(rng.choice(["<=", ">="]))
    sense = "minimize" if rng.random() < 0.6 else "maximize"
    values = metric.exact(drawn.selections[rng.integers(0, len(drawn.selections), 3)]).value
    limits = sorted({tidy(float(Fraction(x, UNIT))) for x in values})
    options = {"improvers": asked_improvers(rng), "time_limit": None if rng.random() < 0.7 else 0.5}
    front = sweep(
        drawn.objective.metric,
        drawn.constraints,
        metric.metric,
        limits,
        sense=sense,
        metric_sense=metric_sense,
        **options,
        **seeds,
    )
    sign = 1 if sense == "minimize" else -1
    last = None
    for point in front.points:
        swept = Bound(metric, Constraint(metric.metric, point.bound, metric_sense))
        check_result(drawn, [*drawn.bounds, swept], point.result, sense, report, "sweep")
        if point.result.feasible:
            worse = last is not None and sign * point.result.value > sign * last
            report.check("sweep: never worse under a looser bound", not worse, f"{front.values}")
            last = point.result.value
        else:
            report.check("sweep: a looser bound has a selection", last is None, f"{front.values}")


def check_diagnosis(drawn: Drawn, found: Any, report: Report) -> None:
    check_feasibility(drawn, drawn.bounds, found.feasibility, report, "diagnose")
    if not found.conflict:
        return
    bounds = {id(b.constraint): b for b in drawn.bounds}
    conflict = [bounds[id(c)] for c in found.conflict]
    good = drawn.chosen(conflict)
    report.check("diagnose: conflict", len(good) == 0, f"{found.conflict} but {good[:1]}")
    if found.minimal and drawn.complete:
        for b in conflict:
            rest = [other for other in conflict if other is not b]
            report.check("diagnose: minimal", drawn.perhaps(rest), f"{b.constraint} is not needed in {found.conflict}")
    for b, remedy in zip(conflict, found.remedies, strict=True):
        others = [other for other in drawn.bounds if other is not b]
        check_smallest(drawn, b.known, b.constraint.sense, others, remedy, report, "remedy")


# -- sums over more selections than can be listed ----------------------------------------------------------------------


def attack_sums(rng: np.random.Generator, report: Report) -> None:
    """A sum under one or two bounds on sums, in whole cents: the best for every pair of sums is known exactly."""
    two = bool(rng.random() < 0.5)
    decisions, options = int(rng.integers(6, 15)), int(rng.integers(2, 5))
    many = not two and bool(rng.random() < 0.3)
    if many:
        decisions, options = int(rng.integers(60, 160)), 2
    n = decisions * options
    most = 6 if two or many else 40
    columns = [cents(rng, n, most) for _ in range(2 if two else 1)]
    price = cents(rng, n, 60)
    best: dict[tuple[int, ...], tuple[int, int]] = {(0,) * len(columns): (0, 0)}
    for d in range(decisions):
        reached: dict[tuple[int, ...], tuple[int, int]] = {}
        for sums, (low, high) in best.items():
            for o in range(d * options, (d + 1) * options):
                key = tuple(s + int(c[o]) for s, c in zip(sums, columns, strict=True))
                a, b = reached.get(key, (10**30, -(10**30)))
                reached[key] = min(a, low + int(price[o])), max(b, high + int(price[o]))
        best = reached
    keys = sorted(best)
    anchor = keys[rng.integers(len(keys))] if rng.random() < 0.4 else keys[len(keys) // int(rng.choice([2, 3, 8]))]
    senses = [str(rng.choice(["<=", ">="])) for _ in columns]
    limits = [k + int(rng.choice([0, 0, 0, 1, -1])) for k in anchor]
    space, unit = ChoiceSpace.from_sizes([options] * decisions), int(rng.choice([1, 10, 100]))
    constraints = [
        Constraint(Additive(space, c / unit, name=f"sum {i}"), limit / unit, sense)
        for i, (c, limit, sense) in enumerate(zip(columns, limits, senses, strict=True))
    ]
    objective = Additive(space, price / unit, name="price")
    within = [
        ends
        for key, ends in best.items()
        if all(k <= x if s == "<=" else k >= x for k, x, s in zip(key, limits, senses, strict=True))
    ]
    low = min((a for a, _ in within), default=None)
    high = max((b for _, b in within), default=None)

    def total(numbers: np.ndarray, selection: Any) -> int:
        return sum(int(numbers[d * options + int(o)]) for d, o in enumerate(selection))

    def satisfies(selection: Any) -> bool:
        sums = [total(c, selection) for c in columns]
        return all(k <= x if s == "<=" else k >= x for k, x, s in zip(sums, limits, senses, strict=True))

    # A sum rounds by far less than a cent where markers are at most 1e12.
    sense = "minimize" if rng.random() < 0.6 else "maximize"
    extreme = low if sense == "minimize" else high
    sign = 1 if sense == "minimize" else -1
    verb = str(rng.choice(["solve", "solve", "find", "smallest"]))
    if verb == "find":
        found = find_feasible(constraints, time_limit=0.5)
        report.answer("sums: find", found.status.name, settled=found.status is not Status.UNKNOWN)
        if found.status is Status.INFEASIBLE:
            report.check("sums: find INFEASIBLE", not within, f"{len(within)} pairs of sums satisfy; {found.proof}")
        elif found.status is Status.FEASIBLE:
            report.check("sums: find selection satisfies", satisfies(found.indices), f"{found.indices}")
    elif verb == "smallest":
        found = smallest_bound(objective, constraints, sense="<=" if sign > 0 else ">=", time_limit=0.5)
        report.answer("sums: smallest", "proved" if found.proved else "not proved", settled=found.proved)
        if found.value is None:
            report.check("sums: no bound works", not found.proved or not within)
        else:
            selection = space.indices(found.selection)
            report.check("sums: smallest selection satisfies", satisfies(selection))
            paid = total(price, selection)
            report.check("sums: smallest value", round(found.value * unit) == paid, f"{found.value!r}, {paid}")
            report.check("sums: smallest proved", not found.proved or paid == extreme, f"{paid}, {extreme} exists")
    else:
        limit = None if rng.random() < 0.7 else 0.3
        solve = minimize if sign > 0 else maximize
        result = solve(objective, constraints, improvers=asked_improvers(rng), time_limit=limit)
        settled = result.status in (Status.OPTIMAL, Status.INFEASIBLE)
        report.answer("sums: solve", result.status.name, settled=settled)
        if result.status is Status.INFEASIBLE:
            report.check("sums: INFEASIBLE", not within, f"{len(within)} pairs of sums satisfy; {result.stop_text}")
        if result.bound is not None and extreme is not None:
            slack = abs(Fraction(result.bound)) * Fraction(4, 2**52)
            beaten = sign * Fraction(result.bound) - slack > sign * Fraction(extreme, unit)
            report.check("sums: bound", not beaten, f"bound {result.bound!r}, {extreme}/{unit} exists")
        if result.feasible:
            paid = total(price, result.indices)
            report.check("sums: selection satisfies", satisfies(result.indices), result.summary())
            report.check("sums: value", round(result.value * unit) == paid, f"{result.value!r}, {paid}/{unit}")
            if result.status is Status.OPTIMAL:
                report.check("sums: OPTIMAL", paid == extreme, f"{paid}/{unit}, {extreme}/{unit} exists")


def cents(rng: np.random.Generator, n: int, most: int) -> np.ndarray:
    """Whole numbers below `most`, one time in two with one to three that mean "never"."""
    numbers = rng.integers(0, most, n)
    if rng.random() < 0.5:
        for at in rng.integers(0, n, rng.integers(1, 4)):
            numbers[at] = int(rng.choice([1, 1, -1])) * 10 ** int(rng.integers(6, 13))
    return numbers


# -- tests -------------------------------------------------------------------------------------------------------------

NORMAL, SLOW, BLOCK = 200, 20_000, 50


def blocks() -> list[Any]:
    """First seeds of blocks: 200 problems, and with `--hypothesis-profile slow` 20,000."""
    thorough = settings.default.max_examples > 200  # the slow profile: see conftest.py
    seeds = range(0, SLOW if thorough else NORMAL, BLOCK)
    return [pytest.param(first, marks=pytest.mark.slow if first > 0 else ()) for first in seeds]


@pytest.mark.parametrize("first", blocks())
def test_no_claim_is_false(first):
    false = []
    for seed in range(first, first + BLOCK):
        false += [f"seed {seed}: {claim}: {detail}" for claim, detail in attack(seed).false]
    assert not false, "\n".join(false)


@pytest.mark.slow
def test_most_questions_are_settled():
    """To claim nothing would be true as well."""
    answers = sum((attack(seed).answers for seed in range(60)), Counter())
    settled = sum(count for (_, _, settles), count in answers.items() if settles)
    assert settled >= 0.5 * answers.total()


def main() -> None:
    """Attack a range of seeds, and print what was claimed and what of it is false."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", default="0:200", help="one seed, or first:last")
    chosen = parser.parse_args().seeds
    first, _, last = chosen.partition(":")
    seeds = range(int(first), int(last or int(first) + 1))
    answers: Counter = Counter()
    claims: Counter = Counter()
    kinds: dict[str, list[int]] = {}
    began = time.perf_counter()
    for seed in seeds:
        began_one = time.perf_counter()
        try:
            report = attack(seed)
        except Exception as error:  # what the library raises is told like a false claim
            report = Report(false=[(f"raised {type(error).__name__}", str(error)[:300])])
            if len(seeds) == 1:
                raise
        answers += report.answers
        claims += report.claims
        if (took := time.perf_counter() - began_one) > 5:
            print(f"seed {seed} took {took:.1f} s", flush=True)
        for claim, detail in report.false:
            if seed not in kinds.setdefault(claim, []):
                kinds[claim].append(seed)
                print(f"seed {seed}: {claim}: {detail}", flush=True)
    print(f"\n{len(seeds)} problems in {time.perf_counter() - began:.0f} s")
    for of in sorted({of for of, *_ in answers}):
        mine = {(answer, settles): count for (who, answer, settles), count in answers.items() if who == of}
        share = sum(count for (_, settles), count in mine.items() if settles) / sum(mine.values())
        words = ", ".join(f"{count} {answer}" for (answer, _), count in sorted(mine.items()))
        print(f"  {of}: {share:.0%} settled: {words}")
    print("claims checked")
    for claim, count in sorted(claims.items()):
        print(f"  {count:8d}  {claim}")
    print("false claims, with their seeds" if kinds else "no false claim")
    for claim, failing in sorted(kinds.items(), key=lambda pair: -len(pair[1])):
        print(f"  {len(failing):5d}  {claim}: {' '.join(map(str, failing[:20]))}")
    sys.exit(bool(kinds))


if __name__ == "__main__":
    main()
