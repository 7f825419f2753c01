"""Loads: sums of what the chosen options use in each of several stages, and metrics that are functions of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cggd.metrics.base import CHUNK, Metric
from cggd.metrics.state import State, Switch, Trail, TrailState
from cggd.space import ChoiceSpace


class Loaded(Metric):
    """Base of metrics of loads; a subclass has `usage` and says how the metric follows from the loads.

    Attributes
    ----------
    usage : sparse matrix of shape (n_stages, n_options)
        What each option uses in each stage.
    """

    usage: sparse.csr_array

    @cached_property
    def pairs(self) -> Pairs:
        """Which decisions touch which stages."""
        return Pairs.of(self.space, self.usage)

    @property
    def n_stages(self) -> int:
        """Number of stages."""
        return self.usage.indptr.size - 1

    def loads(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        """Use in each stage, shape (n, n_decisions) to (n, n_stages)."""
        return loads(self.space, self.usage, selections)

    def of_loads(self, loads: NDArray[np.float64]) -> NDArray[np.float64]:
        """The metric, given the loads, shape (..., n_stages) to (...)."""
        raise NotImplementedError

    def table_of_loads(self, selection: NDArray[np.int64], loads: NDArray[np.float64]) -> NDArray[np.float64]:
        """Replacement table at a selection whose loads are known, shape (n_stages,)."""
        raise NotImplementedError

    def local_table_of_loads(self, selection: NDArray[np.int64], loads: NDArray[np.float64]) -> NDArray[np.float64]:
        """`local_replacements` at a selection whose loads are known, shape (n_stages,)."""
        return self.table_of_loads(selection, loads)

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        step = max(1, CHUNK // self.n_stages)
        parts = [self.of_loads(self.loads(selections[i : i + step])) for i in range(0, len(selections), step)]
        return np.concatenate([np.zeros(0), *parts])

    def replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.table_of_loads(selection, self.loads(selection[None])[0])

    def local_replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.local_table_of_loads(selection, self.loads(selection[None])[0])

    def state(self, selection: NDArray[np.int64]) -> State:
        return LoadState(self, selection)

    @property
    def closed_form(self) -> bool:
        return True

    def replaced(self, selection: NDArray[np.int64], loads: NDArray[np.float64]) -> NDArray[np.float64]:
        """Load of each stage that an option's decision touches, with the option put in; one number per use."""
        pairs = self.pairs
        used = pairs.use[pairs.start[self.space.layout.flat(selection)[pairs.decision]] + pairs.nth]
        return (loads[pairs.stage] - used)[pairs.pair] + pairs.use

    def total(self, per_pair: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums over decisions, one number per pair to (n_stages,)."""
        return np.bincount(self.pairs.stage, weights=per_pair, minlength=self.n_stages).astype(float)


class LoadState(TrailState):
    """A metric of loads at a selection. A move changes the loads of the stages that its decision touches."""

    def __init__(self, metric: Loaded, selection: NDArray[np.int64]) -> None:
        self.metric: Loaded = metric
        self.trail: Trail = Trail(selection)
        self._loads = metric.loads(self.trail.selection[None])[0]

    @property
    def value(self) -> float:
        return float(self.metric.of_loads(self._loads))

    def table(self) -> NDArray[np.float64]:
        return self.metric.table_of_loads(self.trail.selection, self._loads)

    def local_table(self) -> NDArray[np.float64]:
        return self.metric.local_table_of_loads(self.trail.selection, self._loads)

    def entries(self, options: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.table()[options]

    def exchanges(self, outgoing: Switch) -> NDArray[np.float64]:
        before = self._loads.copy()
        self.move([outgoing])
        table = self.table()
        self.trail.undo()
        self._loads = before
        return table

    def _moved(self, made: Sequence[tuple[int, int, int]]) -> None:
        if self.trail.refresh_due:
            self._loads = self.metric.loads(self.trail.selection[None])[0]
            return
        pairs, offsets = self.metric.pairs, self.metric.space.offsets
        for decision, old, new in made:
            count, first = int(pairs.count[decision]), int(pairs.first[decision])
            start_new, start_old = (int(pairs.start[offsets[decision] + option]) for option in (new, old))
            stages = pairs.stage[first : first + count]
            self._loads[stages] += pairs.use[start_new : start_new + count] - pairs.use[start_old : start_old + count]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Which decisions touch which stages: parallel arrays over pairs sorted by decision, then stage.

    `use` holds what each option uses in every stage of its decision, option after option: that of option o in the
    nth stage of its decision is at ``start[o] + nth``; `option` and `pair` hold its option and its pair. Decision d has
    ``count[d]`` pairs from ``first[d]`` on.
    """

    decision: NDArray[np.int64]
    stage: NDArray[np.int64]
    nth: NDArray[np.int64]
    count: NDArray[np.int64]
    first: NDArray[np.int64]
    start: NDArray[np.int64]
    option: NDArray[np.int64]
    pair: NDArray[np.int64]
    use: NDArray[np.float64]
    touching: NDArray[np.int64]
    touched_options: NDArray[np.int64]

    @classmethod
    def of(cls, space: ChoiceSpace, usage: sparse.csr_array) -> Pairs:
        n_stages, owner = usage.indptr.size - 1, space.layout.owner
        entries = usage.tocoo()
        keys = owner[entries.col] * n_stages + entries.row
        unique = np.unique(keys)
        decision, stage = unique // n_stages, unique % n_stages
        count = np.bincount(decision, minlength=space.n_decisions)
        first = np.cumsum(count) - count
        per_option = count[owner]
        start = np.cumsum(per_option) - per_option
        option = np.repeat(np.arange(space.n_options), per_option)
        nth_of_use = np.arange(len(option)) - start[option]
        use = np.zeros(len(option))
        use[start[entries.col] + np.searchsorted(unique, keys) - first[owner[entries.col]]] = entries.data
        return cls(
            decision=decision,
            stage=stage,
            nth=np.arange(len(unique)) - first[decision],
            count=count,
            first=first,
            start=start,
            option=option,
            pair=first[owner[option]] + nth_of_use,
            use=use,
            touching=np.flatnonzero(count),
            touched_options=np.flatnonzero(per_option),
        )

    def reduce(self, ufunc: np.ufunc, per_pair: NDArray[np.int64]) -> NDArray[np.int64]:
        """Reduce one number per pair to one per touching decision."""
        return ufunc.reduceat(per_pair, np.flatnonzero(self.nth == 0))

    def reduce_options(self, ufunc: np.ufunc, per_use: NDArray[np.float64]) -> NDArray[np.float64]:
        """Reduce one number per use to one per touched option."""
        return ufunc.reduceat(per_use, self.start[self.touched_options]) if len(self.touched_options) else np.zeros(0)

    def end(self, sign: float, allowed: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """The least (or for a `sign` of -1 the most) that allowed options of each pair's decision use in its stage."""
        ufunc = np.minimum if sign > 0 else np.maximum
        ends = np.full(len(self.stage), sign * np.inf)
        kept = slice(None) if allowed is None else allowed[self.option]
        ufunc.at(ends, self.pair[kept], self.use[kept])
        return ends


def loads(space: ChoiceSpace, usage: sparse.csr_array, selections: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums of what the chosen options use in each stage, shape (n, n_decisions) to (n, n_stages)."""
    n, flat = len(selections), space.layout.flat(selections)
    cuts = np.arange(n + 1) * space.n_decisions
    chosen = sparse.csr_array((np.ones(flat.size), flat.ravel(), cuts), shape=(n, space.n_options))
    return (chosen @ usage.T).toarray()
