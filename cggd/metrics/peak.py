"""Peaks: the largest number, or the largest sum over stages."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cggd.checks import own
from cggd.expressions import Expression, Program
from cggd.metrics.base import Metric, table_of, values_of
from cggd.metrics.state import State, Switch, Trail, TrailState
from cggd.rounding import UNIT, WHOLE, is_whole, sum_rounding
from cggd.space import ChoiceSpace, as_array, check_space, few


@dataclass(frozen=True, eq=False, repr=False)
class Peak(Metric):
    """The largest of the selected numbers, or the largest over stages of their sums (peak memory, device load).

    Parameters
    ----------
    space : ChoiceSpace
    values : as for `Additive`
        What each option uses. None where `stages` is a matrix.
    stages : mapping of stage to sequence of decisions, or matrix of shape (n_stages, n_options), optional
        The decisions in use together in each stage; or, as a dense or sparse matrix, what each option uses in each
        stage. By default each decision is a stage of its own.
    name, unit : str

    Examples
    --------
    >>> space = ChoiceSpace.from_sizes([2, 2, 2])
    >>> memory = Peak(space, [1, 4, 2, 3, 1, 2], stages={"early": [0, 1], "late": [1, 2]}, name="memory", unit="kB")
    >>> memory([1, 0, 1])
    6.0
    >>> memory.replacements(np.array([1, 0, 1]))
    array([4., 6., 6., 7., 6., 6.])
    """

    space: ChoiceSpace
    values: Any
    stages: Any = None
    name: str = field(default="peak", kw_only=True)
    unit: str = field(default="", kw_only=True)
    usage: sparse.csr_array = field(init=False)

    def __post_init__(self) -> None:
        check_space(self.space)
        if self.stages is None or isinstance(self.stages, Mapping):
            values, usage = _members(self)
            own(self, values=values, usage=usage)
        elif self.values is None:
            own(self, usage=_matrix(self.space, self.stages))
        else:
            raise ValueError(
                "stages must map each stage to its decisions; as a matrix it holds what each option uses, and values "
                "must be None"
            )

    @cached_property
    def pairs(self) -> Pairs:
        """Which decisions touch which stages."""
        return Pairs.of(self.space, self.usage)

    def loads(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        """Use in each stage, shape (n, n_decisions) to (n, n_stages)."""
        return loads(self.space, self.usage, selections)

    def _summed(self, usage: sparse.csr_array, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        return loads(self.space, usage, selections)

    def of_loads(self, loads: NDArray[np.float64]) -> NDArray[np.float64]:
        """The metric, given the use in each stage, shape (..., n_stages) to (...)."""
        return loads.max(axis=-1)

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.of_loads(self.loads(selections))

    def rounded(self, selections: NDArray[np.int64], sign: float) -> tuple[NDArray[np.float64], Any]:
        values = values_of(self, selections)
        if self._exact:
            return values, 0.0
        if self.usage.data.min(initial=0.0) >= 0:  # a load is its own largest partial sum
            return values, self._rounding(values)
        # An upper bound must hold for every stage, a lower bound only for one stage.
        loads, sizes = self.loads(selections), self._summed(abs(self.usage), selections)
        return values, sign * (loads.max(axis=1) - (loads - sign * self._rounding(sizes)).max(axis=1))

    def rounded_table(
        self, selection: NDArray[np.int64], sign: float, *, local: bool = False
    ) -> tuple[NDArray[np.float64], Any]:
        table = table_of(self, selection, local=local)
        if self._exact:
            return table, 0.0
        # An entry is computed from a load of the selection by subtracting one number and adding another.
        size = float(self._summed(abs(self.usage), selection[None]).max())
        return table, self._rounding(size + np.abs(table))

    def _rounding(self, magnitude: Any) -> Any:
        """Rounding error of the load of a stage, whose numbers are added one after another."""
        return sum_rounding(magnitude, 2) + UNIT * self._longest * magnitude

    @cached_property
    def _longest(self) -> int:
        """Largest number of decisions in a stage."""
        return int(np.bincount(self.pairs.stage, minlength=1).max(initial=0))

    @cached_property
    def _exact(self) -> bool:
        """Whether no load is rounded: each stage has one decision, or floats add its whole numbers exactly."""
        usage = self.usage
        return self._longest <= 1 or (
            is_whole(usage.data) and float(np.abs(usage.data).max(initial=0.0)) * self._longest < WHOLE
        )

    def replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.table_of_loads(selection, self.loads(selection[None])[0])

    def state(self, selection: NDArray[np.int64]) -> State:
        return LoadState(self, selection)

    def table_of_loads(self, selection: NDArray[np.int64], loads: NDArray[np.float64]) -> NDArray[np.float64]:
        """Replacement table at a selection whose loads are known, shape (n_stages,)."""
        pairs = self.pairs
        order = np.argsort(-loads, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(loads))
        # Of the stages that a decision does not touch, the fullest has the first rank missing among those it touches.
        ranks = np.sort(pairs.decision * len(loads) + rank[pairs.stage]) - pairs.decision * len(loads)
        first_missing = pairs.count.copy()
        early = np.where(ranks != pairs.nth, pairs.nth, len(loads))
        first_missing[pairs.touching] = np.minimum(first_missing[pairs.touching], pairs.reduce(np.minimum, early))
        untouched = np.append(loads[order], -np.inf)[first_missing]
        return np.maximum(self._of_touched(selection, loads), self.space.layout.spread(untouched))

    @property
    def parted(self) -> bool:
        return True

    def local_replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.local_table_of_loads(selection, self.loads(selection[None])[0])

    def local_table_of_loads(self, selection: NDArray[np.int64], loads: NDArray[np.float64]) -> NDArray[np.float64]:
        """`local_replacements` at a selection whose loads are known, shape (n_stages,)."""
        table = self._of_touched(selection, loads)
        table[np.isneginf(table)] = loads.max()  # decisions that no stage knows
        return table

    def _of_touched(self, selection: NDArray[np.int64], loads: NDArray[np.float64]) -> NDArray[np.float64]:
        """The fullest stage that an option's decision touches, with the option put in; -inf where it touches none."""
        layout, pairs = self.space.layout, self.pairs
        table = np.full(self.space.n_options, -np.inf)
        used = pairs.use[pairs.start[layout.flat(selection)[pairs.decision]] + pairs.nth]
        others = (loads[pairs.stage] - used)[pairs.pair] + pairs.use
        table[pairs.touched_options] = np.maximum.reduceat(others, pairs.start[pairs.touched_options])
        return table

    def least_with(self, sign: float, allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
        pairs, layout = self.pairs, self.space.layout
        ufunc, never = (np.minimum, np.inf) if sign > 0 else (np.maximum, -np.inf)
        # The least (or largest) amount that each decision adds to each of its stages.
        ends = np.full(len(pairs.stage), never)
        option = np.repeat(np.arange(self.space.n_options), pairs.count[layout.owner])
        ufunc.at(ends, pairs.pair[allowed[option]], pairs.use[allowed[option]])
        n_stages = _n_stages(self.usage)
        loads = np.bincount(pairs.stage, weights=ends, minlength=n_stages)
        rounding = 0.0
        if not self._exact:
            sizes = np.bincount(pairs.stage, weights=np.abs(ends), minlength=n_stages)
            rounding = 2 * self._rounding(sizes[pairs.stage[pairs.pair]] + np.abs(pairs.use) + np.abs(ends[pairs.pair]))
            loads = loads - sign * 2 * self._rounding(sizes)
        if sign < 0:
            return np.full(self.space.n_options, -loads.max())
        least = np.full(self.space.n_options, loads.max())
        if len(pairs.touched_options):
            there = loads[pairs.stage[pairs.pair]] - ends[pairs.pair] + pairs.use - rounding
            touched = pairs.touched_options
            least[touched] = np.maximum(least[touched], np.maximum.reduceat(there, pairs.start[touched]))
        return least

    @property
    def closed_form(self) -> bool:
        return True

    def expression(self, program: Program, sign: float) -> Expression | None:
        if sign < 0 and _n_stages(self.usage) > 1:
            return None
        return sign * program.sum(self.usage)

    def addends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        use = np.asarray(self.usage.data, dtype=float)
        return use, np.abs(use)

    def limits(self) -> tuple[float, float]:
        if self.stages is None:
            return self.minimum(), self.maximum()
        pairs, n_stages = self.pairs, _n_stages(self.usage)
        ends = []
        for ufunc, never in ((np.minimum, np.inf), (np.maximum, -np.inf)):
            extreme = np.full(len(pairs.stage), never)
            ufunc.at(extreme, pairs.pair, pairs.use)
            # Summed decision by decision, as in `loads`, so that not even rounding puts a load beyond these limits.
            ends.append(np.bincount(pairs.stage, weights=extreme, minlength=n_stages).max())
        return float(ends[0]), float(ends[1])

    def minimum(self) -> float:
        if self.stages is None:
            return float(self.space.layout.reduce(np.minimum, self.values).max())
        return Metric.minimum(self)

    def maximum(self) -> float:
        return float(self.values.max()) if self.stages is None else self.limits()[1]


class Loaded(Protocol):
    """A metric that is a function of loads: sums of what the options use in each of several stages."""

    @property
    def space(self) -> ChoiceSpace: ...
    @property
    def pairs(self) -> Any: ...
    def loads(self, selections: NDArray[np.int64]) -> NDArray[np.float64]: ...
    def of_loads(self, loads: NDArray[np.float64]) -> NDArray[np.float64]: ...
    def table_of_loads(self, selection: NDArray[np.int64], loads: NDArray[np.float64]) -> NDArray[np.float64]: ...
    def local_table_of_loads(self, selection: NDArray[np.int64], loads: NDArray[np.float64]) -> NDArray[np.float64]: ...


class LoadState(TrailState):
    """A metric of loads at a selection. A move changes the loads of the stages that its decision touches."""

    def __init__(self, metric: Loaded, selection: NDArray[np.int64]) -> None:
        self.metric, self.trail = metric, Trail(selection)
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
    nth stage of its decision stands at ``start[o] + nth``, and `pair` names its pair. The pairs of decision d are the
    `count[d]` ones from `first[d]` on.
    """

    decision: NDArray[np.int64]
    stage: NDArray[np.int64]
    nth: NDArray[np.int64]
    count: NDArray[np.int64]
    first: NDArray[np.int64]
    start: NDArray[np.int64]
    pair: NDArray[np.int64]
    use: NDArray[np.float64]
    touching: NDArray[np.int64]
    touched_options: NDArray[np.int64]

    @classmethod
    def of(cls, space: ChoiceSpace, usage: sparse.csr_array) -> Pairs:
        n_stages, owner = _n_stages(usage), space.layout.owner
        entries = usage.tocoo()
        keys = owner[entries.col] * n_stages + entries.row
        unique = np.unique(keys)
        decision, stage = unique // n_stages, unique % n_stages
        count = np.bincount(decision, minlength=space.n_decisions)
        first = np.cumsum(count) - count
        per_option = count[owner]
        start = np.cumsum(per_option) - per_option
        nth_of_use = np.arange(int(per_option.sum())) - np.repeat(start, per_option)
        use = np.zeros(len(nth_of_use))
        use[start[entries.col] + np.searchsorted(unique, keys) - first[owner[entries.col]]] = entries.data
        return cls(
            decision=decision,
            stage=stage,
            nth=np.arange(len(unique)) - first[decision],
            count=count,
            first=first,
            start=start,
            pair=np.repeat(first[owner], per_option) + nth_of_use,
            use=use,
            touching=np.flatnonzero(count),
            touched_options=np.flatnonzero(per_option),
        )

    def reduce(self, ufunc: np.ufunc, per_pair: NDArray) -> NDArray:
        """Reduce one number per pair to one per touching decision."""
        return ufunc.reduceat(per_pair, np.flatnonzero(self.nth == 0))


def loads(space: ChoiceSpace, usage: sparse.csr_array, selections: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums of what the chosen options use in each stage, shape (n, n_decisions) to (n, n_stages)."""
    n, flat = len(selections), space.layout.flat(selections)
    cuts = np.arange(n + 1) * space.n_decisions
    chosen = sparse.csr_array((np.ones(flat.size), flat.ravel(), cuts), shape=(n, space.n_options))
    return (chosen @ usage.T).toarray()


def _n_stages(usage: sparse.csr_array) -> int:
    return usage.indptr.size - 1


def _members(peak: Peak) -> tuple[NDArray[np.float64], sparse.csr_array]:
    """Values per option, and the matrix of stages that are sets of decisions."""
    space, stages = peak.space, peak.stages
    values = space.values(peak.values)
    if stages is None:
        stage = decision = np.arange(space.n_decisions)
        n_stages = space.n_decisions
    else:
        if not stages:
            raise ValueError("stages is empty; name at least one stage with its decisions")
        members = [_positions(space, name, decisions) for name, decisions in stages.items()]
        n_stages = len(members)
        stage = np.repeat(np.arange(n_stages), [len(m) for m in members])
        decision = np.array([d for m in members for d in m], dtype=np.int64)
    sizes = space.sizes[decision]
    first = np.cumsum(sizes) - sizes
    column = np.arange(int(sizes.sum())) + np.repeat(space.offsets[decision] - first, sizes)
    shape = (n_stages, space.n_options)
    return values, sparse.csr_array((values[column], (np.repeat(stage, sizes), column)), shape=shape)


def _positions(space: ChoiceSpace, stage: Hashable, decisions: Any) -> list[int]:
    if isinstance(decisions, str) or not isinstance(decisions, Iterable):
        raise TypeError(f"stage {stage!r} must be a list of decisions, got {decisions!r}")
    decisions = list(decisions)
    if twice := [d for d in decisions if decisions.count(d) > 1]:
        raise ValueError(f"stage {stage!r} lists decision {twice[0]!r} more than once")
    return [space.position(d) for d in decisions]


def _matrix(space: ChoiceSpace, stages: Any) -> sparse.csr_array:
    if not sparse.issparse(stages):
        stages = as_array(stages, "stages", wanted="a row per stage with a number per option")
        if stages.dtype.kind not in "fiu":
            raise TypeError(f"stages must hold numbers, got {stages.dtype} ({few(stages.ravel().tolist())})")
    shape = stages.shape
    if len(shape) != 2 or shape[1] != space.n_options or shape[0] == 0:
        raise ValueError(f"stages must have shape (n_stages, {space.n_options}), got {shape}")
    usage = sparse.csr_array(stages, dtype=float, copy=True)
    usage.sum_duplicates()
    if not np.isfinite(usage.data).all():
        stage, option = (int(at[0]) for at in np.nonzero(~np.isfinite(usage.toarray())))
        raise ValueError(
            f"stages must hold finite numbers, got {usage[stage, option]} in stage {stage} for "
            f"{space.name_option(option)}"
        )
    return usage
