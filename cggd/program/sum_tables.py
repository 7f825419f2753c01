"""Problems whose metrics are sums: their tables are weighted by multipliers, added and minimised, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd.layout import Layout
from cggd.metrics.base import sum_table_of
from cggd.problem import Problem
from cggd.rounding import OPERATIONS


@dataclass(frozen=True, eq=False)
class Point:
    """Multipliers, the value of the dual, and its slope: the amount by which the minimiser violates each constraint."""

    multipliers: NDArray[np.float64]
    value: float
    slope: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Extent:
    """For each table: the least and the greatest sum over selections, and the greatest sum of absolute values."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    size: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tables:
    """Tables of the objective, to be minimised, and of the constraints, whose sums ``sign * table`` have limits."""

    layout: Layout
    tables: Sequence[NDArray[Any]]
    signs: NDArray[np.float64]
    limits: NDArray[np.float64]
    constant: float  # of the objective
    sizes: NDArray[np.float64]  # of each metric's constant and bound
    allowed: NDArray[np.bool_] | None

    @classmethod
    def of(cls, problem: Problem, allowed: NDArray[np.bool_] | None) -> Tables | None:
        sums = [sum_table_of(metric) for metric in (problem.objective, *(c.metric for c in problem.constraints))]
        known = [table for table in sums if table is not None]
        if len(known) < len(sums):
            return None
        constants = np.array([table.constant for table in known])
        signs = np.array([problem.sign, *(c.sign for c in problem.constraints)])
        limits = np.array([c.limit for c in problem.constraints], dtype=float)
        sizes = np.array([table.lost for table in known])
        sizes[1:] += np.where(np.isfinite(limits), np.abs(limits), 0.0)
        limits = limits - (signs * constants)[1:]
        tables = [table.values for table in known]
        return cls(problem.space.layout, tables, signs, limits, problem.sign * constants[0], sizes, allowed)

    def sample(self, n: int, rng: np.random.Generator) -> Tables:
        """The tables of a random sample of n decisions, with limits in proportion."""
        layout = self.layout
        decisions = np.sort(rng.choice(layout.n_decisions, n, replace=False))
        offsets = np.concatenate([[0], np.cumsum(layout.sizes[decisions])])
        options = np.arange(offsets[-1]) + np.repeat(layout.offsets[decisions] - offsets[:-1], layout.sizes[decisions])
        return replace(
            self,
            layout=Layout(offsets),
            tables=[table[options] for table in self.tables],
            limits=self.limits * (n / layout.n_decisions),
            allowed=None if self.allowed is None else self.allowed[options],
        )

    @cached_property
    def extent(self) -> Extent:
        """The extent of the tables, from one pass over them; the size is used as the error bound."""
        low, high, size = np.zeros((3, len(self.tables)))
        for decisions, options, _ in self.layout.blocks:
            starts = self.layout.offsets[decisions] - options.start
            for t, table in enumerate(self.tables):
                least = most = np.multiply(self.signs[t], table[options], dtype=float)
                if self.allowed is not None:
                    open_ = self.allowed[options]
                    least, most = np.where(open_, least, np.inf), np.where(open_, most, -np.inf)
                ends = np.minimum.reduceat(least, starts), np.maximum.reduceat(most, starts)
                low[t] += ends[0].sum()
                high[t] += ends[1].sum()
                size[t] += np.maximum(*map(np.abs, ends)).sum()
        return Extent(low, high, size + self.sizes)

    def mixed(self, multipliers: NDArray[np.float64]) -> Iterator[tuple[slice, slice, NDArray[np.float64]]]:
        """For each block, the options' objective plus multipliers times uses; the next block reuses the array."""
        weights = self.signs * np.concatenate([[1.0], multipliers])
        used = [t for t, weight in enumerate(weights) if weight]
        longest = max(options.stop - options.start for _, options, _ in self.layout.blocks)
        total, part = np.empty(longest), np.empty(longest)
        for decisions, options, _ in self.layout.blocks:
            n = options.stop - options.start
            np.multiply(self.tables[0][options], weights[0], out=total[:n], dtype=float)
            for t in used[1:]:
                np.multiply(self.tables[t][options], weights[t], out=part[:n], dtype=float)
                total[:n] += part[:n]
            if self.allowed is not None:
                total[:n][~self.allowed[options]] = np.inf
            yield decisions, options, total[:n]

    def minimise(self, multipliers: NDArray[np.float64]) -> tuple[Point, NDArray[np.int64]]:
        """The dual at given multipliers, and the selection that minimises it."""
        selection = np.empty(self.layout.n_decisions, dtype=np.int64)
        parts: list[float] = []
        uses: list[NDArray[np.float64]] = []
        for decisions, options, total in self.mixed(multipliers):
            starts = self.layout.offsets[decisions] - options.start
            if self.layout.uniform is not None:
                chosen = total.reshape(-1, self.layout.uniform).argmin(axis=1)
            else:
                sizes = self.layout.sizes[decisions]
                at = np.flatnonzero(total == np.repeat(np.minimum.reduceat(total, starts), sizes))
                owner = np.searchsorted(starts, at, side="right") - 1
                chosen = (at - starts[owner])[np.diff(owner, prepend=-1) > 0]
            selection[decisions] = chosen
            flat = starts + chosen
            parts.append(float(total[flat].sum()))
            uses.append(np.array([table[options][flat].sum(dtype=float) for table in self.tables[1:]]))
        slope = self.signs[1:] * np.sum(uses, axis=0) - self.limits if uses[0].size else np.zeros(0)
        # A constraint that never binds has an infinite limit and no multiplier.
        paid = math.fsum((multipliers * np.where(multipliers > 0, self.limits, 0.0)).tolist())
        return Point(multipliers, math.fsum(parts) + self.constant - paid, slope), selection

    def reduced(self, multipliers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Reduced costs of all options, shape (n_options,)."""
        out = np.empty(self.layout.n_options)
        for decisions, options, total in self.mixed(multipliers):
            least = np.minimum.reduceat(total, self.layout.offsets[decisions] - options.start)
            out[options] = total - np.repeat(least, self.layout.sizes[decisions])
        return out

    @property
    def spread(self) -> NDArray[np.float64]:
        """Largest difference between two sums of each table."""
        return self.extent.high - self.extent.low

    @property
    def noise(self) -> NDArray[np.float64]:
        """Bound on the rounding error of a sum of each table."""
        return OPERATIONS * np.finfo(float).eps * self.extent.size

    def rounding(self, multipliers: NDArray[np.float64]) -> float:
        """Bound on the rounding error of the dual minus a selection's own sums (Higham, 2002, ch. 4)."""
        paid = float(self.noise[0] + multipliers @ self.noise[1:])
        return 2 * (1 + len(self.tables) / OPERATIONS) * paid
