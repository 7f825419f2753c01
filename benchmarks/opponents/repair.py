"""Greedy repair and greedy upgrade by replacement tables, for any metric; shared by several opponents."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.opponents.linear_form import additive
from cggd import Additive, Problem
from cggd.layout import Layout
from cggd.metrics import table_of

# Of sums, up to one decision in this many changes at once, which takes a few hundred rounds for any size.
BULK = 200
# A resource that is nearly used up counts as if this share of it were left.
SCARCE = 1e-3


@dataclass(frozen=True, eq=False)
class Switches:
    """What every single switch of a selection leads to; all numbers signed, so that less is better."""

    problem: Problem

    @property
    def layout(self) -> Layout:
        return self.problem.space.layout

    @cached_property
    def limits(self) -> NDArray[np.float64]:
        return np.array([c.limit for c in self.problem.constraints])

    @cached_property
    def scales(self) -> NDArray[np.float64]:
        """By which violations of different constraints are made comparable, shape (n_constraints,)."""
        return np.array([abs(c.bound) or 1.0 for c in self.problem.constraints])

    @cached_property
    def additive(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
        """Costs, weights (n_constraints, n_options), and constants of them all; None of anything but sums."""
        metrics = [self.problem.objective, *(c.metric for c in self.problem.constraints)]
        if not all(type(metric) is Additive for metric in metrics):
            return None
        signs = np.array([self.problem.sign, *(c.sign for c in self.problem.constraints)])
        values = signs[:, None] * np.stack([additive(metric).values for metric in metrics])
        return values[0], values[1:], signs * [additive(metric).constant for metric in metrics]

    def at(self, selection: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Objective (n_options,) and constraints (n_constraints, n_options) after each switch."""
        if self.additive is None:
            objective = self.problem.sign * table_of(self.problem.objective, selection)
            return objective, np.stack([c.sign * c.table(selection) for c in self.problem.constraints])
        costs, weights, constants = self.additive
        flat = self.layout.flat(selection)
        cost, load = costs[flat], weights[:, flat]
        shift = load.sum(axis=1, keepdims=True) + constants[1:, None] - load
        return costs + self.layout.spread(cost.sum() + constants[0] - cost), weights + self.layout.spread(shift)

    def violation(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Summed relative violations, (n_constraints, n) to (n,)."""
        return (np.maximum(values - self.limits[:, None], 0.0) / self.scales[:, None]).sum(axis=0)

    def best_per_decision(self, score: NDArray[np.float64]) -> NDArray[np.int64]:
        """Flat positions of each decision's best switch, the best decision first; those of score 0 are left out."""
        best = self.layout.flat(self.layout.argmax(score))
        if self.additive is None:
            best = best[[score[best].argmax()]]
        else:
            kept = min(len(best), max(1, len(best) // BULK))
            best = best[np.argpartition(-score[best], kept - 1)[:kept]] if kept < len(best) else best
            best = best[np.argsort(-score[best], kind="stable")]
        return best[score[best] > 0]

    def put(self, selection: NDArray[np.int64], options: NDArray[np.int64]) -> None:
        owner = self.layout.owner[options]
        selection[owner] = options - self.layout.offsets[owner]


def repair(switches: Switches, selection: NDArray[np.int64], *, until: float = np.inf) -> bool:
    """Change a selection in place by what lowers its violation most for the least objective; whether it is feasible."""
    layout = switches.layout
    while time.perf_counter() < until:
        objective, values = switches.at(selection)
        here = int(layout.flat(selection)[0])
        violation = switches.violation(values)
        if violation[here] == 0:
            return True
        drop, loss = violation[here] - violation, objective - objective[here]
        # A switch that costs nothing is as good as one that costs the thousandth part of a usual one.
        score = np.where(drop > 1e-12, drop / np.maximum(loss, 1e-3 * np.abs(loss).mean() + 1e-12), 0.0)
        chosen = switches.best_per_decision(score)
        if not len(chosen):
            return False
        after = values[:, [here]] + np.cumsum(values[:, chosen] - values[:, [here]], axis=1)
        switches.put(selection, chosen[: int(switches.violation(after).argmin()) + 1])
    return False


def upgrade(switches: Switches, selection: NDArray[np.int64], *, until: float = np.inf) -> None:
    """Change a feasible selection in place by what gains most for the least scarce resources, while anything gains."""
    layout = switches.layout
    while time.perf_counter() < until:
        objective, values = switches.at(selection)
        here = int(layout.flat(selection)[0])
        gain, used = objective[here] - objective, values - values[:, [here]]
        left = np.maximum(switches.limits - values[:, here], SCARCE * switches.scales)
        price = (np.maximum(used, 0.0) / left[:, None]).sum(axis=0)
        fits = (values <= switches.limits[:, None]).all(axis=0) & (gain > 1e-9 * max(1.0, abs(objective[here])))
        score = np.where(fits, gain / (price + 1e-6), 0.0)
        chosen = switches.best_per_decision(score)
        if not len(chosen):
            return
        total = values[:, [here]] + np.cumsum(used[:, chosen], axis=1)
        bad = np.flatnonzero((total > switches.limits[:, None]).any(axis=0))
        switches.put(selection, chosen[: bad[0] if len(bad) else None])
