"""A choice for weights that are trained already: by what each option does to the loss, without training."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd import Additive, Constraint, Feasibility, Function, minimize
from cggd.space import ChoiceSpace
from cggd_nas.batches import Batches, in_order
from cggd_nas.candidates import Candidate, NoFeasibleArchitectureError, holds, judge, ranked
from cggd_nas.recalibration import recalibrate
from cggd_nas.result import NasResult
from cggd_nas.retrain import Accuracy, Loss
from cggd_nas.supernet import Supernet

# Steps in which the bounds tighten from what the whole network has. The loss of many changes at once is far from the
# sum of the single ones, so that each table may be used for a part of the way only.
STAGES = 5

# Samples on which each option is judged, and batches by which batch norms are recalibrated for it.
SAMPLES, CALIBRATION = 256, 2

# Selections measured at the end, by the improver for costly metrics.
REFINED = 30

# Seconds for each of the problems in between, which are sums of tables.
SOLVE_SECONDS = 5.0

# A loss that is no number counts as this many times the largest one.
WORSE = 10.0


@dataclass(frozen=True, eq=False)
class Chooser:
    """How the options of a supernet with trained weights are judged.

    Parameters
    ----------
    supernet : Supernet
    constraints : list of Constraint
    train, val : batches
        Batch norms are recalibrated by the first, losses are those of the second.
    loss, metric : callable
    """

    supernet: Supernet
    constraints: Sequence[Constraint]
    train: Batches
    val: Batches
    loss: Loss
    metric: Accuracy | None

    def choose(self, known: Feasibility, seed: int, calibration: int) -> NasResult:
        """The selection within the bounds whose loss is least as far as it was measured."""
        started, space = time.perf_counter(), self.supernet.space
        some = list(itertools.islice(in_order(self.val), self._few()))
        batches = list(itertools.islice(self.train, CALIBRATION))
        losses = dict[tuple[int, ...], Candidate]()

        def judged(row: Any) -> float:
            key = tuple(map(int, row))
            if key not in losses:
                losses[key] = judge(self.supernet, key, batches, some, self.loss, self.metric)
            return losses[key].loss

        found = self._stages(judged, known, seed)
        if found is not None:
            joint = Function(space, lambda s: judged(space.indices(s)), name="loss", costly=True)
            best = minimize(joint, self.constraints, seed=seed, max_evaluations=REFINED, initial=found)
            found = found if best.selection is None else space.indices(best.selection)
        feasible = [c for c in ranked(losses.values()) if holds(self.constraints, c.indices) is not None]
        if found is None or not feasible:
            rows = [] if known.indices is None else [c.report(known.indices) for c in self.constraints]
            nearest = None if known.indices is None else space.labels(known.indices)
            raise NoFeasibleArchitectureError("no architecture that satisfies every bound was found", nearest, rows)
        answer = feasible[0].indices
        first = list(itertools.islice(self.train, calibration))
        final = judge(self.supernet, answer, first, in_order(self.val), self.loss, self.metric)
        self.supernet.select(answer)
        recalibrate(self.supernet.model, first)
        return NasResult(
            selection=final.selection,
            loss=final.loss,
            accuracy=final.accuracy,
            constraints=holds(self.constraints, answer) or [],
            candidates=[final, *feasible[1:]],
            history=[],
            feasibility=known,
            stopped=f"trained weights, {len(losses)} networks measured",
            seconds=time.perf_counter() - started,
        )

    def _few(self) -> int:
        first = next(iter(in_order(self.val)))
        size = len(first[0]) if isinstance(first, tuple | list) and hasattr(first[0], "__len__") else 1
        return max(1, SAMPLES // max(1, size))

    def _stages(self, judged: Callable[[Any], float], known: Feasibility, seed: int) -> NDArray[np.int64] | None:
        """Tighten the bounds step by step, each time by the table of losses of all single changes."""
        space = self.supernet.space
        current = self._whole()
        started = [float(constraint.values(current[None])[0]) for constraint in self.constraints]
        for stage in range(1, STAGES + 1):
            table = self._table(judged, current, space)
            part = stage / STAGES
            bounds = [
                c if part == 1 or c.satisfied(np.array([v]))[0] else replace(c, bound=v + part * (c.bound - v))
                for c, v in zip(self.constraints, started, strict=True)
            ]
            solved = minimize(Additive(space, table, name="loss"), bounds, seed=seed, time_limit=SOLVE_SECONDS,
                              initial=known.indices)  # fmt: skip
            if solved.selection is None:
                return known.indices
            current = space.indices(solved.selection)
            judged(current)
        return current

    def _whole(self) -> NDArray[np.int64]:
        """The selection to start from: the whole network of `prunable`, else what the logits say."""
        if self.supernet.products is None:
            return self.supernet.indices()
        return np.diff(self.supernet.space.offsets) - 1

    @staticmethod
    def _table(judged: Callable[[Any], float], current: NDArray[np.int64], space: ChoiceSpace) -> NDArray[np.float64]:
        """What each single change of a selection adds to its loss."""
        here, losses = judged(current), list[float]()
        for d, n in enumerate(np.diff(space.offsets)):
            for option in range(n):
                row = current.copy()
                row[d] = option
                losses.append(judged(row))
        table = np.array(losses) - here
        finite = np.abs(table[np.isfinite(table)])
        return np.where(np.isfinite(table), table, WORSE * (finite.max() if len(finite) else 1.0))
