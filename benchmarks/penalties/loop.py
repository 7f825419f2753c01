"""The loop that all relaxed methods share: the one of `cggd.minimize`, for many runs on stored tables at once.

Logits, temperature, task gradient, step size and random numbers are those of a `cggd.Start`; what a method adds is how
it moves the logits. A method that adds nothing follows an unconstrained `cggd.maximize` step by step.

The loop is not `cggd.Descent` with a `move`, because it makes a step of all runs at once: 360 runs of 60 steps take
0.07 s, and 360 descents 5.6 s. The losses are those of `cggd_nas.penalties`. `benchmarks.grouped`, whose runs need no
such number, has a move of its own for `cggd.Descent`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.penalties.losses import Penalty
from benchmarks.penalties.settings import FINE, Setting, every
from cggd import Additive
from cggd.guide.relaxation import annealed
from cggd.improve.descent import NOISE, PAPER, SMALLEST_STEP

# Where gradients are cut, as TF-NAS's program cuts its own, this is their largest root mean square: that of a task
# gradient of 1 with the guide's correction of R = 1.2.
LONGEST = 2.2


@dataclass(frozen=True, eq=False)
class View:
    """What a method sees of a step of many runs; "rows" are runs.

    Attributes
    ----------
    task : ndarray of shape (rows, n_decisions, n_options)
        Task gradient, scaled to a root mean square of at most 1.
    loss : ndarray of shape (rows,)
        Expected task loss, in the unit of the scaled gradient.
    costs : ndarray of shape (rows, n_constraints, n_decisions, n_options)
        Gradients of the expected costs.
    expected, actual : ndarray of shape (rows, n_constraints)
        Costs: expected under the relaxed distribution, and those of the arg-max selection.
    size : float
        The step size.
    """

    task: NDArray[np.float64]
    loss: NDArray[np.float64]
    costs: NDArray[np.float64]
    expected: NDArray[np.float64]
    actual: NDArray[np.float64]
    size: float


@dataclass(frozen=True, eq=False)
class Lookup:
    """Stored values of all selections of a space whose decisions have equally many options."""

    values: NDArray[np.float64]
    shape: tuple[int, int]
    additive: bool

    @cached_property
    def strides(self) -> NDArray[np.int64]:
        n_decisions, n_options = self.shape
        return n_options ** np.arange(n_decisions - 1, -1, -1)

    def numbers(self, selections: NDArray[np.int64]) -> NDArray[np.int64]:
        """Place of selections, (rows, n_decisions), in the order of `ChoiceSpace.enumerate`."""
        return selections @ self.strides

    def replacements(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        """Replacement tables at selections, shape (rows, n_decisions, n_options)."""
        others = self.numbers(selections)[:, None] - selections * self.strides
        return self.values[others[:, :, None] + np.arange(self.shape[1]) * self.strides[:, None]]

    def relaxed(
        self, probabilities: NDArray[np.float64], selections: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Expected value under a relaxed distribution, shape (rows,), and the advantage of each option, as `View` has.

        Both from the replacement tables at selections drawn from the distribution. For a sum the expected value is
        exact; for any other metric it is the mean, over decisions, of the expectation over one decision's options.
        """
        tables = self.replacements(selections)
        means = (probabilities * tables).sum(axis=2)
        expected = means.mean(axis=1)
        if self.additive:
            expected = means.sum(axis=1) - (self.shape[0] - 1) * self.values[self.numbers(selections)]
        return expected, tables - means[:, :, None]


@dataclass(frozen=True, eq=False)
class Problem:
    """A setting as stored tables: the objective as a loss to be minimised, costs with their bounds."""

    setting: Setting

    @cached_property
    def shape(self) -> tuple[int, int]:
        return self.setting.space.n_decisions, int(self.setting.space.sizes[0])

    @cached_property
    def loss(self) -> Lookup:
        """Error in %."""
        return Lookup(100.0 - every(self.setting.objective), self.shape, additive=False)

    @cached_property
    def units(self) -> list[float]:
        return [FINE if c.metric.unit else 1.0 for c in self.setting.constraints]

    @cached_property
    def costs(self) -> list[Lookup]:
        return [
            Lookup(unit * every(c.metric), self.shape, isinstance(c.metric, Additive))
            for c, unit in zip(self.setting.constraints, self.units, strict=True)
        ]

    @cached_property
    def bounds(self) -> NDArray[np.float64]:
        return np.array([unit * c.bound for c, unit in zip(self.setting.constraints, self.units, strict=True)])


# How a method moves the logits: (logits, view) to logits, both of shape (rows, n_decisions, n_options).
Move = Callable[[NDArray[np.float64], View], NDArray[np.float64]]

# What a method answers with, if not the arg max: from logits to selections, shape (rows, n_decisions).
Answers = Callable[[NDArray[np.float64]], NDArray[np.int64]]

# An answer that takes a linear program is made before every fourth step only.
ANSWERED = 4


def descend(
    problem: Problem,
    move: Move,
    seeds: NDArray[np.int64],
    softmax: NDArray[np.bool_],
    *,
    steps: int = 600,
    temperatures: tuple[float, float] = PAPER.temperature,
    answers: Answers | None = None,
) -> NDArray[np.int64]:
    """Run a method once for each row.

    Parameters
    ----------
    problem : Problem
    move : callable
    seeds : ndarray of int, shape (rows,)
        Random numbers of each run; they are those of `cggd.minimize` with that seed.
    softmax : ndarray of bool, shape (rows,)
        Whether gradients are those through a softmax, that is advantages times probabilities (times the number of
        options, so that both are alike where all options are), instead of the advantages that `cggd.minimize` takes.
    steps : int
    temperatures : (float, float)
        Of the relaxed distribution in the first step, and after two thirds of them.
    answers : callable, optional
        What stands for the arg max in what is returned, after the last step and before each `ANSWERED`-th.

    Returns
    -------
    ndarray of int, shape (steps + 1, rows)
        Number of the arg-max selection before each step, and after the last one.
    """
    which = np.unique(seeds, return_inverse=True)[1]
    starts, draws = zip(*(_random(int(seed), problem.shape, steps) for seed in np.unique(seeds)), strict=True)
    logits, noise = np.array(starts)[which], np.array(draws)
    scale, path = np.zeros(len(seeds)), np.empty((steps + 1, len(seeds)), dtype=np.int64)
    hot, cold = temperatures
    for step in range(steps):
        temperature = annealed(step, steps, start=hot, end=cold)
        warm = logits / temperature
        probabilities = np.exp(warm - warm.max(axis=2, keepdims=True))
        probabilities /= probabilities.sum(axis=2, keepdims=True)
        drawn, chosen = (warm + noise[which, step]).argmax(axis=2), logits.argmax(axis=2)
        path[step] = problem.loss.numbers(chosen)
        share = np.where(softmax[:, None, None], probabilities * problem.shape[1], 1.0)
        loss, task = problem.loss.relaxed(probabilities, drawn)
        task *= share
        scale = np.maximum(scale, np.sqrt(np.mean(task**2, axis=(1, 2))))
        relaxed = [cost.relaxed(probabilities, drawn) for cost in problem.costs]
        view = View(
            task=task / scale[:, None, None],
            loss=loss / scale,
            costs=np.stack([share * advantages for _, advantages in relaxed], axis=1),
            expected=np.stack([expected for expected, _ in relaxed], axis=1),
            actual=np.stack([cost.values[path[step]] for cost in problem.costs], axis=1),
            size=max(PAPER.learning_rate * (1.0 - step / steps), SMALLEST_STEP),
        )
        if answers is not None:
            path[step] = path[step - 1] if step % ANSWERED else problem.loss.numbers(answers(logits))
        logits = move(logits, view)
    last = logits.argmax(axis=2) if answers is None else answers(logits)
    path[steps] = problem.loss.numbers(last)
    return path


def penalised(problem: Problem, penalty: Penalty, weights: NDArray[np.float64], cut: NDArray[np.bool_]) -> Move:
    """Plain descent on a penalty loss, with one weight for each row, and gradients cut to `LONGEST` or not."""

    def move(logits: NDArray[np.float64], view: View) -> NDArray[np.float64]:
        factor, slopes = penalty.gradient(view.loss, view.expected, view.actual, problem.bounds, weights)
        gradient = factor[:, None, None] * view.task + (slopes[:, :, None, None] * view.costs).sum(axis=1)
        return logits - view.size * cut_long(gradient, cut)

    return move


def cut_long(gradient: NDArray[np.float64], cut: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Gradients, shape (rows, n_decisions, n_options), cut to `LONGEST` in the rows that `cut` says."""
    # Powers of costs reach 1e200, whose squares overflow.
    largest = np.maximum(np.abs(gradient).max(axis=(1, 2), keepdims=True), np.finfo(float).tiny)
    length = largest * np.sqrt(np.mean((gradient / largest) ** 2, axis=(1, 2), keepdims=True))
    return gradient * np.where(cut[:, None, None], LONGEST / np.maximum(length, LONGEST), 1.0)


def _random(seed: int, shape: tuple[int, int], steps: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First logits, and the Gumbel noise of each step, as the first start of `cggd.minimize` draws them."""
    rng = np.random.default_rng([seed, 0])
    return NOISE * rng.standard_normal(shape), -np.log(rng.exponential(size=(steps, *shape)))
