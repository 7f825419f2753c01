"""Search with trained weights: by the effect of each option on the loss, without training."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd import Additive, Constraint, Feasibility, Function, minimize
from cggd_nas.batches import Batches, in_order
from cggd_nas.bounds import NoFeasibleArchitectureError
from cggd_nas.candidates import Candidate, holds, judge, losses_of_switches, ranked
from cggd_nas.distillation import distilled, finetune
from cggd_nas.plain import plain_network
from cggd_nas.recalibration import recalibrate
from cggd_nas.result import NasResult
from cggd_nas.retrain import Accuracy, Loss, evaluate
from cggd_nas.supernet import Supernet

# Steps in which the bounds tighten, starting at the values of the whole network. The loss of many changes differs much
# from the sum of single changes, so each table is used for only a part of the way. There are fewer steps if finalists
# are fine-tuned, since losses after fine-tuning are more informative.
STAGES, STAGES_BEFORE_TUNING = 5, 3

# Samples on which each option is evaluated, and batches by which batch norms are recalibrated for it.
SAMPLES, CALIBRATION = 256, 2

# Selections measured at the end by the improver for costly metrics.
REFINED = 30

# Seconds for each intermediate problem; their objectives are sums.
SOLVE_SECONDS = 5.0

# Weights of capacity relative to loss, for finalists that are compared by fine-tuning.
SHARES = (1.0, 0.6, 0.3)

Row = tuple[int, ...]


@dataclass(frozen=True)
class Finals:
    """The number of finalists, and how they are compared."""

    finalists: int
    epochs: int
    calibration: int


@dataclass(frozen=True, eq=False)
class Chooser:
    """Search in a supernet with trained weights.

    Parameters
    ----------
    supernet : Supernet
    constraints : list of Constraint
    train, val : batches
        Batch norms are recalibrated on `train`, losses are measured on `val`.
    loss, metric : callable
    """

    supernet: Supernet
    constraints: Sequence[Constraint]
    train: Batches
    val: Batches
    loss: Loss
    metric: Accuracy | None

    def choose(self, known: Feasibility, settings: Finals, seed: int) -> NasResult:
        """The best measured selection that satisfies the bounds."""
        started, space = time.perf_counter(), self.supernet.space
        some = list(itertools.islice(in_order(self.val), self._few()))
        batches = list(itertools.islice(self.train, CALIBRATION))
        losses = dict[Row, Candidate]()

        def judged(row: Any) -> float:
            key = tuple(map(int, row))
            if key not in losses:
                losses[key] = judge(self.supernet, key, batches, some, self.loss, self.metric)
            return losses[key].loss

        stages = STAGES_BEFORE_TUNING if settings.epochs else STAGES
        found, table = self._stages(judged, known, stages, seed)
        if found is not None and settings.epochs == 0:  # else fine-tuning decides
            joint = Function(space, lambda s: judged(space.indices(s)), name="loss", costly=True)
            minimize(joint, self.constraints, seed=seed, max_evaluations=REFINED, initial=found)
        feasible = [c.indices for c in ranked(losses.values()) if holds(self.constraints, c.indices) is not None]
        if not feasible:
            rows = [] if known.indices is None else [c.report(known.indices) for c in self.constraints]
            nearest = None if known.indices is None else space.labels(known.indices)
            raise NoFeasibleArchitectureError("no architecture that satisfies every bound was found", nearest, rows)
        pool = list(dict.fromkeys([feasible[0], *self._wide(table, seed), *feasible]))[: settings.finalists]
        first = list(itertools.islice(self.train, settings.calibration))
        final = [judge(self.supernet, row, first, in_order(self.val), self.loss, self.metric) for row in pool]
        order = ranked(final) if settings.epochs == 0 else self._tuned(final, first, settings.epochs, seed)
        answer = order[0]
        self.supernet.select(answer.indices)
        recalibrate(self.supernet.model, first)
        return NasResult(
            selection=answer.selection,
            loss=answer.loss,
            accuracy=answer.accuracy,
            constraints=holds(self.constraints, answer.indices) or [],
            candidates=order,
            history=[],
            feasibility=known,
            stopped=f"trained weights, {len(losses)} networks measured",
            seconds=time.perf_counter() - started,
        )

    def _wide(self, table: NDArray[np.float64], seed: int) -> list[Row]:
        """The most evenly wide selection within the bounds, and some between it and that of smallest loss.

        After fine-tuning, wide networks are better than their loss before it suggests.
        """
        space, products = self.supernet.space, self.supernet.products
        if products is None:
            return []
        capacity, rows = products.capacity(space), list[Row]()
        spread = max(float(np.std(table)), 1e-12) / max(float(np.std(capacity)), 1e-12)
        for share in SHARES:
            objective = Additive(space, (1 - share) * table - share * spread * capacity, name="loss and capacity")
            solved = minimize(objective, self.constraints, seed=seed, time_limit=SOLVE_SECONDS)
            if solved.selection is not None:
                rows.append(tuple(space.indices(solved.selection).tolist()))
        return rows

    def _tuned(self, final: Sequence[Candidate], first: Sequence[Any], epochs: int, seed: int) -> list[Candidate]:
        """Finalists after a short fine-tuning of copies, sorted by the loss of distillation from the whole network.

        The loss by the targets alone misleads where the whole network is overconfident: it may then be larger than that
        of a network that knows nothing.
        """
        teacher = plain_network(self.supernet, self.supernet.space.labels(self._whole())).eval()
        objective = distilled(teacher, self.loss)
        scores = list[tuple[float, int]]()
        for n, candidate in enumerate(final):
            network = plain_network(self.supernet, candidate.selection)
            recalibrate(network, first)
            finetune(network, self.train, in_order(self.val), epochs, teacher=teacher, loss=self.loss,
                     metric=self.metric, seed=seed)  # fmt: skip
            score = evaluate(network, in_order(self.val), metric=self.metric, objective=objective).loss
            scores.append((score if math.isfinite(score) else math.inf, n))
        return [final[n] for _, n in sorted(scores)]

    def _few(self) -> int:
        first = next(iter(in_order(self.val)))
        size = len(first[0]) if isinstance(first, tuple | list) and hasattr(first[0], "__len__") else 1
        return max(1, SAMPLES // max(1, size))

    def _stages(
        self, judged: Callable[[Any], float], known: Feasibility, stages: int, seed: int
    ) -> tuple[NDArray[np.int64] | None, NDArray[np.float64]]:
        """Tighten the bounds step by step; minimise the table of losses of all single changes in each step.

        Returns the last selection, and the mean of the tables.
        """
        space, current = self.supernet.space, self._whole()
        started = [float(constraint.values(current[None])[0]) for constraint in self.constraints]
        total = np.zeros(space.n_options)
        for stage in range(1, stages + 1):
            table = losses_of_switches(judged, current, space) - judged(current)
            total += table / stages
            part = stage / stages
            bounds = [
                c if part == 1 or c.satisfied(np.array([v]))[0] else replace(c, bound=v + part * (c.bound - v))
                for c, v in zip(self.constraints, started, strict=True)
            ]
            objective = Additive(space, table, name="loss")
            solved = minimize(objective, bounds, seed=seed, time_limit=SOLVE_SECONDS, initial=known.indices)
            if solved.selection is None:
                if known.indices is not None:
                    judged(known.indices)
                return known.indices, total
            current = space.indices(solved.selection)
            judged(current)
        return current, total

    def _whole(self) -> NDArray[np.int64]:
        """The selection to start from: the whole network of `prunable`, otherwise that of the largest logits."""
        if self.supernet.products is None:
            return self.supernet.indices()
        return np.diff(self.supernet.space.offsets) - 1
