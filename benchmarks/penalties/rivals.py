"""Methods that change the gradient or the step, instead of the loss: HDX and Frank-Wolfe steps; see `cggd_nas`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.penalties.loop import Problem, View, cut_long
from cggd_nas.frank_wolfe import FLOOR, LINEARISED, discretised, start, vertices
from cggd_nas.hdx import HDX_PULL, LARGEST_PULL, least_change

# What is scanned: growth p of HDX, and the largest step of Frank-Wolfe; nine values over four and three decades.
GROWTHS = tuple(np.logspace(-3, 1, 9).tolist())
STEPS = tuple(np.logspace(-2.5, 0, 9).tolist())

# Shares of a new gradient in the mean that Frank-Wolfe steps follow.
MOMENTA = (0.1, 1.0)


@dataclass(eq=False)
class Hdx:
    """HDX with one growth of the pull for each row; gradients are cut to `LONGEST` or not."""

    problem: Problem
    growth: NDArray[np.float64]
    cut: NDArray[np.bool_]
    pulls: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.pulls = np.full((len(self.growth), len(self.problem.bounds)), HDX_PULL)

    def __call__(self, logits: NDArray[np.float64], view: View) -> NDArray[np.float64]:
        exceeded = view.expected > self.problem.bounds
        task = view.task.reshape(len(logits), -1)
        costs = (view.costs / self.problem.bounds[:, None, None]).reshape(*exceeded.shape, -1)
        change = least_change(task, costs, np.where(exceeded, self.pulls, -np.inf))
        grown = np.minimum(self.pulls * (1 + self.growth[:, None]), LARGEST_PULL)
        self.pulls = np.where(exceeded, grown, HDX_PULL)
        return logits - view.size * cut_long((task + change).reshape(logits.shape), self.cut)


@dataclass(eq=False)
class FrankWolfe:
    """Frank-Wolfe steps with one largest step and one momentum for each row; the loop's temperature must be 1."""

    problem: Problem
    largest: NDArray[np.float64]
    momentum: NDArray[np.float64]
    mean: NDArray[np.float64] | None = None
    point: NDArray[np.float64] | None = None
    steps: int = 0

    def __call__(self, logits: NDArray[np.float64], view: View) -> NDArray[np.float64]:
        layout, task = self.problem.setting.space.layout, view.task.reshape(len(logits), -1)
        slopes, room = self._costs(view)
        point, mean = self.point, self.mean
        if point is None or mean is None:
            point, mean = start(layout, slopes, room), task
        self.mean = mean + self.momentum[:, None] * (task - mean)
        vertex = vertices(self.mean, slopes, room, layout)
        self.point = point + (2 * self.largest / (self.steps + 2))[:, None] * (vertex - point)
        self.steps += 1
        return np.log(np.maximum(self.point, FLOOR)).reshape(logits.shape)

    def answers(self, logits: NDArray[np.float64]) -> NDArray[np.int64]:
        layout, (n_decisions, _) = self.problem.setting.space.layout, self.problem.shape
        point, found = _softmax(logits), logits.argmax(axis=2)
        left = np.arange(len(logits))
        for _ in range(LINEARISED):
            tables = [cost.replacements(found[left]).reshape(len(left), -1) for cost in self.problem.costs]
            values = np.stack([cost.values[cost.numbers(found[left])] for cost in self.problem.costs], axis=1)
            slopes = np.stack(tables, axis=1) / self.problem.bounds[:, None]
            found[left] = discretised(point[left], slopes, 1 + (n_decisions - 1) * values / self.problem.bounds, layout)
            left = left[~self.problem.setting.feasible[self.problem.loss.numbers(found[left])]]
            if not len(left):
                break
        return found

    def _costs(self, view: View) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Costs as shares of their bounds, linear at the expected ones: advantages have a mean of 0."""
        bounds = self.problem.bounds
        slopes = (view.costs / bounds[:, None, None]).reshape(*view.expected.shape, -1)
        return slopes, 1 - view.expected / bounds


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    odds = np.exp(logits - logits.max(axis=2, keepdims=True))
    return (odds / odds.sum(axis=2, keepdims=True)).reshape(len(logits), -1)
