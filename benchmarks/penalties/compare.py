"""All methods on all settings, each with a scan of what its user would have to tune."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import groupby, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.penalties import rivals
from benchmarks.penalties.loop import Move, Problem, descend, penalised
from benchmarks.penalties.losses import PENALTIES
from benchmarks.penalties.settings import Setting, every
from cggd import maximize
from cggd.improve.descent import ADDITIVE, PAPER, Descent

COOPER, HDX, HARDCORE = "Cooper", "HDX", "HardCoRe-NAS-like"
PENALISED = tuple(penalty.name for penalty in PENALTIES)
OPPONENTS = (*PENALISED, COOPER, HDX, HARDCORE)
ONE_START, TUNED, DEFAULTS = "cggd, one start", "cggd, one start, tuned", "cggd, defaults"
OWN = (ONE_START, TUNED, DEFAULTS)

# Steps of multipliers for one unit of relative violation, over four decades.
DUAL_RATES = tuple(np.logspace(-2, 2, 9).tolist())

# From hardly more than the task gradient itself to ten times it.
RESCALES = (1.01, 1.05, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0)

# The kinds of starts that `cggd.minimize` mixes, by their pair weights.
STARTS = {start.weights: start for start in (PAPER, ADDITIVE)}

# What a run of an opponent is taken to answer: the arg max at its end, as its paper does, or the best feasible
# selection among the arg maxima of its last third, or of the whole run.
ANSWERS = {"end": 1.0, "late third": 2 / 3, "whole run": 0.0}


@dataclass(frozen=True)
class Answer:
    """Whether a selection satisfies its bounds, and its regrets in points of accuracy; NaN where it does not."""

    satisfied: bool
    regret: float = np.nan
    test_regret: float = np.nan


@dataclass(frozen=True)
class Tuning:
    """What is tuned: weight (or dual rate, or R), kind of gradient (or of start), whether long gradients are cut."""

    weight: float
    kind: str
    cut: bool = False


# What `cggd.minimize` takes for its first start.
UNTUNED = Tuning(1.2, PAPER.weights)


@dataclass(frozen=True)
class Run:
    """One run of a method, with one `Answer` for each kind of `ANSWERS`."""

    setting: str
    method: str
    tuning: Tuning
    seed: int
    answers: dict[str, Answer]


@dataclass(frozen=True)
class Score:
    """Several runs with one tuning; regrets are means over the runs that satisfy the bounds."""

    tuning: Tuning
    satisfied: float
    regret: float
    test_regret: float

    def __str__(self) -> str:
        if not self.satisfied:
            return "0%"
        return f"{self.satisfied:.0%} {self.regret:.2f} ({self.test_regret:.2f})"

    @property
    def rank(self) -> tuple[float, float]:
        """Less is better: more satisfied runs, then less regret of the searched objective."""
        return -self.satisfied, self.regret


def opponents(setting: Setting, seeds: Sequence[int], weights: slice) -> Iterator[Run]:
    """Runs of every penalty, Cooper's Lagrangian, HDX and Frank-Wolfe steps, for all tunings.

    Cooper drops out where it is not installed.

    Parameters
    ----------
    setting : Setting
    seeds : sequence of int
    weights : slice
        Which of each method's weights.
    """
    problem, kinds = Problem(setting), (False, True)
    for penalty in PENALTIES:
        rows = list(product(penalty.weights[weights], kinds, kinds, seeds))
        weight, softmax, cut, seed = (np.array(column) for column in zip(*rows, strict=True))
        yield from _runs(setting, penalty.name, rows, problem, penalised(problem, penalty, weight, cut), seed, softmax)
    if has_cooper():
        from benchmarks.penalties.lagrangian import lagrangian

        rows = list(product(DUAL_RATES[weights], kinds, (False,), seeds))
        rate, softmax, _, seed = (np.array(column) for column in zip(*rows, strict=True))
        yield from _runs(setting, COOPER, rows, problem, lagrangian(problem, rate), seed, softmax)
    rows = list(product(rivals.GROWTHS[weights], kinds, kinds, seeds))
    growth, softmax, cut, seed = (np.array(column) for column in zip(*rows, strict=True))
    yield from _runs(setting, HDX, rows, problem, rivals.Hdx(problem, growth, cut), seed, softmax)
    for momentum in rivals.MOMENTA:
        # Its logits are logarithms of probabilities, which are drawn from as they are.
        rows = list(product(rivals.STEPS[weights], (f"momentum {momentum:g}",), (False,), seeds))
        largest, _, _, seed = (np.array(column) for column in zip(*rows, strict=True))
        walk = rivals.FrankWolfe(problem, largest, np.full(len(rows), momentum))
        how: dict[str, Any] = {"temperatures": (1.0, 1.0), "answers": walk.answers}
        yield from _runs(setting, HARDCORE, rows, problem, walk, seed, np.zeros(len(rows), dtype=bool), **how)


def has_cooper() -> bool:
    """Whether torch and cooper-optim are installed."""
    return find_spec("torch") is not None and find_spec("cooper") is not None


def guided(setting: Setting, seeds: Sequence[int], rescales: Sequence[float]) -> Iterator[Run]:
    """Runs of cggd: with one start and no polish, for each kind of start and each R, untuned, and as it comes.

    A single start makes at most the look-ups of one run of an opponent.
    """
    for (kind, start), rescale, seed in product(STARTS.items(), rescales, seeds):
        options = {"improvers": [Descent(starts=[start], rescale=rescale)]}
        run = Run(setting.name, TUNED, Tuning(rescale, kind), seed, _searched(setting, seed, options))
        yield run
        if run.tuning == UNTUNED:
            yield replace(run, method=ONE_START)
    for seed in seeds:
        yield Run(setting.name, DEFAULTS, UNTUNED, seed, _searched(setting, seed, {}))


def _searched(setting: Setting, seed: int, options: dict[str, Any]) -> dict[str, Answer]:
    result = maximize(setting.objective, setting.constraints, seed=seed, **options)
    answer = Answer(False)
    if result.indices is not None:
        number = int(np.ravel_multi_index(tuple(result.indices), tuple(setting.space.sizes)))
        answer = Answer(bool(setting.feasible[number]), *setting.regrets(number))
    return dict.fromkeys(ANSWERS, answer)


def tuned(runs: Sequence[Run], answer: str) -> Score:
    """The best tuning of one method on one setting: the most satisfied runs, and among those the least regret."""
    return min(scores(runs, answer), key=lambda score: score.rank)


def scores(runs: Sequence[Run], answer: str) -> list[Score]:
    """One score for each tuning of one method on one setting."""
    groups = groupby(sorted(runs, key=_tuning), key=_tuning)
    return [_score([run.answers[answer] for run in group], Tuning(*tuning)) for tuning, group in groups]


def _tuning(run: Run) -> tuple[float, str, bool]:
    return run.tuning.weight, run.tuning.kind, run.tuning.cut


def _score(answers: list[Answer], tuning: Tuning) -> Score:
    held = [(a.regret, a.test_regret) for a in answers if a.satisfied]
    means = np.mean(held, axis=0).tolist() if held else [np.inf, np.inf]
    return Score(tuning, len(held) / len(answers), *means)


def _runs(
    setting: Setting,
    method: str,
    rows: Sequence[tuple[float, bool | str, bool, int]],
    problem: Problem,
    move: Move,
    seeds: NDArray[np.int64],
    softmax: NDArray[np.bool_],
    **how: Any,
) -> Iterator[Run]:
    path = descend(problem, move, seeds, softmax, **how)
    found = {name: _found(setting, path, begin) for name, begin in ANSWERS.items()}
    kinds: dict[bool | str, str] = {False: "advantage", True: "softmax"}
    for at, (weight, kind, cut, seed) in enumerate(rows):
        tuning = Tuning(weight, kinds.get(kind, str(kind)), cut)
        yield Run(setting.name, method, tuning, seed, {name: answers[at] for name, answers in found.items()})


def _found(setting: Setting, path: NDArray[np.int64], begin: float) -> list[Answer]:
    """Answers of runs whose arg maxima are given, shape (steps + 1, rows), from a share of the steps on."""
    path = path[round(begin * (len(path) - 1)) :]
    values = np.where(setting.feasible[path], every(setting.objective)[path], -np.inf)
    numbers = np.take_along_axis(path, values.argmax(axis=0)[None], axis=0)[0]
    return [Answer(True, *setting.regrets(n)) if setting.feasible[n] else Answer(False) for n in numbers.tolist()]
