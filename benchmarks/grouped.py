"""Directions from joint tables of groups of decisions, against the per-decision rule, where that one stalls.

A group's joint table holds the metric of the selection with every combination of options of the group's decisions put
in. The three cases apply to it as they do to the table of one decision; the pushes of its combinations are summed to
pushes of single options, and each group's push is normalised as the per-decision rule normalises each decision's.

Descents are those of `cggd.Descent` with a move of their own: no safeguard, one start.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table as Rich
from scipy.optimize import Bounds, LinearConstraint, milp

from cggd import Additive, ChoiceSpace, Guide, solve
from cggd.constraints import Constraint
from cggd.datasets import data_folder, mmkp, nats_topology
from cggd.guide import Observation, SafeguardState, SafeguardStep
from cggd.guide.directions import three_case, unit
from cggd.improve.descent import ADDITIVE, PAPER, Descent, Start
from cggd.layout import Layout
from cggd.metrics import Metric, values_of
from cggd.problem import Problem

SEEDS = 10
STEPS = 200
PROCESSES = 2

# Sums of joint pushes that cancel but for rounding count as none.
CANCELLED = 1e-9


@dataclass(frozen=True, eq=False)
class Joint:
    """All combinations of options of each of some groups of decisions, `groups` of shape (n_groups, group size)."""

    space: ChoiceSpace
    groups: NDArray[np.int64]

    def __post_init__(self) -> None:
        sizes = self.space.sizes[self.groups]
        layout = Layout(np.concatenate([[0], np.cumsum(sizes.prod(axis=1))]))
        strides = np.cumprod(np.concatenate([sizes[:, 1:], np.ones_like(sizes[:, :1])], axis=1)[:, ::-1], axis=1)
        place = np.arange(layout.n_options) - layout.offsets[layout.owner]
        local = place[:, None] // strides[:, ::-1][layout.owner] % sizes[layout.owner]
        slots = np.concatenate([[0], np.cumsum(sizes.ravel())])
        decisions = self.groups.ravel()
        found = {
            "layout": layout,  # of the combinations
            "local": local,  # (n_combinations, group size)
            "options": self.space.offsets[self.groups][layout.owner] + local,
            # Every option of every place in a group has a slot, where the pushes of its combinations are summed.
            "slots": slots[:-1].reshape(sizes.shape)[layout.owner] + local,
            "slot_option": np.arange(slots[-1]) + np.repeat(self.space.offsets[decisions] - slots[:-1], sizes.ravel()),
            "slot_groups": Layout(np.concatenate([[0], np.cumsum(sizes.sum(axis=1))])),
        }
        for name, value in found.items():
            object.__setattr__(self, name, value)

    def rows(self, selection: NDArray[np.int64]) -> NDArray[np.int64]:
        rows = np.repeat(selection[None], self.layout.n_options, axis=0)
        np.put_along_axis(rows, self.groups[self.layout.owner], self.local, axis=1)
        return rows

    def table(self, metric: Metric, selection: NDArray[np.int64], value: float) -> NDArray[np.float64]:
        """The joint tables of a metric, shape (n_combinations,); in closed form where it is additive."""
        if not isinstance(metric, Additive):
            return values_of(metric, self.rows(selection))
        chosen = metric.values[self.space.layout.flat(selection)][self.groups].sum(axis=1)
        return metric.values[self.options].sum(axis=1) + (value - chosen)[self.layout.owner]

    def marginal(self, pushes: NDArray[np.float64], *, normalise: bool) -> NDArray[np.float64]:
        """Pushes of combinations, one row per constraint, summed to unit pushes of options."""
        out = np.empty((len(pushes), self.space.n_options))
        for row, push in zip(out, pushes, strict=True):
            slot = sum(np.bincount(s, push, len(self.slot_option)) for s in self.slots.T)
            if normalise:
                norms = np.sqrt(self.slot_groups.reduce(np.add, slot * slot))
                most = np.sqrt(self.layout.reduce(np.add, push * push))
                slot /= self.slot_groups.spread(np.where(norms > CANCELLED * most, norms, np.inf))
            row[:] = unit(np.bincount(self.slot_option, slot, self.space.n_options))
        return out


@dataclass(frozen=True, eq=False)
class Case:
    """A problem with what the loop descends by, and what its results are measured against."""

    name: str
    problem: Problem
    best: float
    feasible: str
    start: Start

    @property
    def space(self) -> ChoiceSpace:
        return self.problem.space

    @cached_property
    def additive(self) -> bool:
        return all(isinstance(c.metric, Additive) for c in self.problem.constraints)


@dataclass(frozen=True)
class Rule:
    """How groups are chosen: all of a size, or some disjoint ones drawn at each step; size 1 is the present rule."""

    name: str
    size: int = 1
    drawn: int | None = None  # disjoint groups per step; None for all groups of this size
    longer: int = 1  # factor of the steps

    def joint(self, space: ChoiceSpace) -> Callable[[np.random.Generator], Joint]:
        n = space.n_decisions
        if self.drawn is None:
            joint = Joint(space, np.array(list(combinations(range(n), self.size))))
            return lambda rng: joint
        kept = min(self.drawn, n // self.size)
        return lambda rng: Joint(space, rng.permutation(n)[: kept * self.size].reshape(kept, self.size))


@dataclass
class Run:
    first: float = np.inf  # step of the first feasible selection
    evaluations: float = np.inf  # distinct selections whose constraints were evaluated until then
    best: float = np.nan
    seconds: float = 0.0


def direction(guide: Guide, seen: Observation, joint: Joint) -> NDArray[np.float64]:
    """`Guide.direction` from joint tables."""
    active = np.flatnonzero(seen.violations > 0)
    constraints = [guide.constraints[i] for i in active]
    pairs = zip(constraints, seen.values[active], strict=True)
    tables = np.stack([c.sign * joint.table(c.metric, seen.selection, v) for c, v in pairs])
    shares = np.ones(len(active))
    if guide.balance == "violation":
        deviations = tables.std(axis=1)
        shares = seen.violations[active] / np.where(deviations > 0, deviations, 1.0)
    pushes = three_case(tables, [c.limit for c in constraints], joint.layout, guide.weights)
    return unit(shares @ joint.marginal(pushes, normalise=guide.weights == "unit"))


class Grouped:
    """How a step moves: by the guide without its safeguard, from joint tables of groups where a rule has them.

    It also counts the distinct selections of which the constraints are evaluated, until the first feasible one.
    """

    def __init__(self, case: Case, rule: Rule, seed: int, *, grows: bool) -> None:
        space = case.space
        self.guide = Guide(case.problem.constraints, weights=case.start.weights, balance=case.start.balance)
        self.joint = rule.joint(space) if rule.size > 1 or rule.drawn is not None else None
        self.draw, self.grows, self.found = np.random.default_rng([seed, 1]), grows, False
        self.looked = None if case.additive else np.zeros(space.n_selections, dtype=bool)
        self.digits = None if case.additive else np.append(np.cumprod(space.sizes[:0:-1])[::-1], 1)

    def step(
        self, logits: NDArray, displacement: NDArray, state: SafeguardState, *, floor: float, rescale: float
    ) -> SafeguardStep:
        seen = self.guide.observe(logits)
        self._look(seen.selection[None])
        self.found = self.found or seen.feasible
        if seen.feasible:
            return SafeguardStep(logits + displacement, state, "free", seen)
        groups = None if self.joint is None else self.joint(self.draw)
        toward = self.guide.direction(seen) if groups is None else direction(self.guide, seen, groups)
        self._look(self.guide.space.switches(seen.selection) if groups is None else groups.rows(seen.selection))
        size = (rescale if self.grows else self.guide.rescale) * max(float(np.linalg.norm(displacement)), floor)
        return SafeguardStep(logits + displacement + size * toward, state, "guided", seen)

    def _look(self, rows: NDArray[np.int64]) -> None:
        if self.looked is not None and not self.found:
            self.looked[rows @ self.digits] = True

    @property
    def evaluations(self) -> float:
        return np.nan if self.looked is None else int(self.looked.sum())


def descend(case: Case, rule: Rule, seed: int, *, steps: int, grows: bool) -> Run:
    """A descent of `cggd.maximize` without its safeguard; R stays at 1.2, or grows and shrinks as it does there."""
    grouped = Grouped(case, rule, seed, grows=grows)
    how = Descent(steps * rule.longer, [case.start], move=lambda constraints, start, descent: grouped)
    result = solve(case.problem, seed=seed, improvers=[how])
    feasible = np.flatnonzero(result.history.feasible)
    if len(feasible) == 0:
        return Run(seconds=result.seconds)
    best = float(np.nanmax(result.history.value))
    return Run(float(feasible[0]), grouped.evaluations, best, result.seconds)


def nats_cases() -> Iterator[Case]:
    nats = nats_topology()
    every = nats.space.enumerate()
    objective = nats.val12.evaluate(every)
    fast = {share: nats.latency <= nats.latency.quantile(share) for share in (0.02, 0.05, 0.1)}
    least = np.sort(nats.latency.evaluate(every))
    settings: list[tuple[str, list[Constraint]]] = [
        ("latency 2%", [fast[0.02]]),
        ("latency 10%", [fast[0.1]]),
        ("latency 5%, energy 5%", [fast[0.05], nats.energy <= nats.energy.quantile(0.05)]),
        ("latency in a band of 0.2%", [nats.latency >= least[4700], nats.latency <= least[4730]]),
        (
            "latency 20%, most MACs 30%",
            [nats.latency <= nats.latency.quantile(0.2), nats.mflops >= nats.mflops.quantile(0.7)],
        ),
    ]
    for name, constraints in settings:
        yield enumerated(f"NATS {name}", Problem(nats.val12, constraints, "maximize"), every, objective, PAPER)


def enumerated(name: str, problem: Problem, every: NDArray, objective: NDArray, start: Start) -> Case:
    kept = np.all([c.holds(every) for c in problem.constraints], axis=0)
    return Case(name, problem, float(objective[kept].max()), f"{kept.sum():,} of {len(every):,}", start)


def band_cases() -> Iterator[Case]:
    """Sums that must fall into narrow bands: what one decision overshoots another one must make up for."""
    for resources, share in ((1, 0.005), (2, 0.05)):
        rng = np.random.default_rng(resources)
        space = ChoiceSpace.from_sizes([5] * 8)
        every = space.enumerate()
        value = Additive(space, rng.integers(0, 1000, space.n_options))
        constraints: list[Constraint] = []
        for r in range(resources):
            metric = Additive(space, rng.integers(0, 1000, space.n_options), name=f"resource {r}")
            ordered = np.sort(metric.evaluate(every))
            middle = int(len(every) * 0.3)
            constraints += [metric >= ordered[middle], metric <= ordered[middle + int(share * len(every))]]
        problem = Problem(value, constraints, "maximize")
        for start in (PAPER, ADDITIVE):
            name = f"{resources} sum{'s' * (resources > 1)} in a band, {start.weights}"
            yield enumerated(name, problem, every, value.evaluate(every), start)


def knapsack_cases() -> Iterator[Case]:
    instances = [(name, k.value, k.weights, k.capacities) for name in ("I03", "I04", "I07") for k in [mmkp(name)]]
    if (folder := data_folder()) is not None and (folder / "selection" / "mmkp.json.gz").is_file():
        file = folder / "selection" / "mmkp.json.gz"
        data = json.loads(gzip.decompress(file.read_bytes()))["mmkp_c_24"]
        space = ChoiceSpace.from_sizes([len(group) for group in data["groups"]])
        columns = np.concatenate([np.array(group, dtype=float) for group in data["groups"]]).T
        value, *weights = (Additive(space, column, name=f"resource {r}") for r, column in enumerate(columns))
        instances.append(("c_24", value, weights, np.array(data["cap"], dtype=float)))
    for name, value, weights, capacities in instances:
        for share in (1.0, 0.9):
            bound = lp_bound(value, weights, share * capacities)
            if bound is None:
                continue
            constraints = [w <= c for w, c in zip(weights, (share * capacities).tolist(), strict=True)]
            for start in (ADDITIVE, PAPER)[: 1 + (value.space.n_decisions <= 20)]:
                title = f"{name}{' x 0.9' * (share < 1)}, {start.weights}"
                yield Case(title, Problem(value, constraints, "maximize"), bound, "", start)


def lp_bound(value: Additive, weights: list[Additive], capacities: NDArray[np.float64]) -> float | None:
    """The value of the linear relaxation, or None where that has no solution."""
    layout = value.space.layout
    groups = (layout.owner == np.arange(layout.n_decisions)[:, None]).astype(float)
    rows = [LinearConstraint(groups, 1.0, 1.0), LinearConstraint(np.stack([w.values for w in weights]), ub=capacities)]
    found = milp(-value.values, constraints=rows, bounds=Bounds(0, 1), integrality=np.zeros(layout.n_options))
    return -found.fun if found.success else None


def rules(case: Case) -> list[Rule]:
    """The present rule, as a control the present rule on a random half of the decisions, and groups."""
    n, size = case.space.n_decisions, int(case.space.sizes.max())
    half = Rule("half, drawn", 1, n // 2)
    if n > 12:
        entries = size / 2  # a joint table of disjoint pairs holds this many times the options
        return [
            Rule("per decision"),
            half,
            Rule("disjoint pairs", 2, n),
            Rule("per decision, longer", longer=int(entries)),
        ]
    singles, pairs = 1 + n * (size - 1), 1 + n * (size - 1) + n * (n - 1) // 2 * (size - 1) ** 2
    longer = Rule("per decision, longer", longer=pairs // singles)
    groups = [
        Rule("all pairs", 2),
        Rule("disjoint pairs", 2, n),
        Rule("one pair", 2, 1),
        Rule("disjoint triples", 3, n),
    ]
    return [Rule("per decision"), half, *groups, longer]


# Set before processes are forked, so that cases need not be pickled.
CASES: list[Case] = []


def measure(task: tuple[int, Rule, bool]) -> list[Run]:
    number, rule, grows = task
    return [descend(CASES[number], rule, seed, steps=STEPS, grows=grows) for seed in range(SEEDS)]


def main() -> None:
    CASES[:] = [*nats_cases(), *band_cases(), *knapsack_cases()]
    tasks = [
        (number, rule, grows)
        for number, case in enumerate(CASES)
        for grows in ((False, True) if case.name.startswith(("NATS", "I03,")) else (True,))
        for rule in rules(case)
    ]
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        results = pool.map(measure, tasks, chunksize=1)
    columns = ("problem", "R", "rule", "feasible", "first step", "evaluations", "mean loss", "best loss", "ms per step")
    table = Rich(*columns)
    for (number, rule, grows), runs in zip(tasks, results, strict=True):
        case = CASES[number]
        head = [f"{case.name}\n({case.feasible})" if case.feasible else case.name, "grows" if grows else "1.2"]
        if rule.longer == 1 and rule.size == 1 and rule.drawn is None:
            table.add_section()
        else:
            head = ["", ""]
        met = np.array([run.best for run in runs if run.first < np.inf])
        first, evaluations = (np.median([getattr(run, name) for run in runs]) for name in ("first", "evaluations"))
        loss = [f"{100 * (1 - best / case.best):.2f}%" for best in (met.mean(), met.max())] if len(met) else ["-", "-"]
        pace = 1e3 * np.mean([run.seconds for run in runs]) / (STEPS * rule.longer)
        row = [
            f"{len(met)} of {len(runs)}",
            number_or_dash(first),
            "-" if case.additive else number_or_dash(evaluations),
        ]
        name = f"{rule.name} (x {rule.longer})" if rule.longer > 1 else rule.name
        table.add_row(*head, name, *row, *loss, f"{pace:.2f}")
    console = Console(width=140)
    console.print(
        f"Grouped directions, {SEEDS} seeds of {STEPS} steps. First step, and evaluations until then (distinct "
        "selections of which the constraints were evaluated): medians. Loss against the best feasible selection, of "
        "knapsacks against the linear relaxation, over the seeds that met a feasible one."
    )
    console.print(table)


def number_or_dash(number: float) -> str:
    return f"{number:g}" if np.isfinite(number) else "-"


if __name__ == "__main__":
    main()
