"""Peaks: the largest number, or the largest sum over stages."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cggd.checks import own
from cggd.expressions import Expression, Program
from cggd.metrics.base import Metric, table_of, values_of
from cggd.metrics.loads import Loaded, loads
from cggd.rounding import UNIT, WHOLE, is_whole, sum_rounding
from cggd.space import ChoiceSpace, as_array, check_space, few


@dataclass(frozen=True, eq=False, repr=False)
class Peak(Loaded):
    """The largest of the selected numbers, or the largest over stages of their sums (peak memory, device load).

    Parameters
    ----------
    space : ChoiceSpace
    values : as for `Additive`
        What each option uses; None if `stages` is a matrix.
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

    def of_loads(self, loads: NDArray[np.float64]) -> NDArray[np.float64]:
        """The metric, given the use in each stage, shape (..., n_stages) to (...)."""
        return loads.max(axis=-1)

    def rounded(self, selections: NDArray[np.int64], sign: float) -> tuple[NDArray[np.float64], Any]:
        values = values_of(self, selections)
        if self._exact:
            return values, 0.0
        if self.usage.data.min(initial=0.0) >= 0:  # a load is its own largest partial sum
            return values, self._rounding(values)
        # An upper bound must hold for every stage, a lower bound only for one stage.
        loads, sizes = self.loads(selections), self._sizes(selections)
        return values, sign * (loads.max(axis=1) - (loads - sign * self._rounding(sizes)).max(axis=1))

    def rounded_table(
        self, selection: NDArray[np.int64], sign: float, *, local: bool = False
    ) -> tuple[NDArray[np.float64], Any]:
        table = table_of(self, selection, local=local)
        if self._exact:
            return table, 0.0
        # An entry is computed from a load of the selection by subtracting one number and adding another.
        size = float(self._sizes(selection[None]).max())
        return table, self._rounding(size + np.abs(table))

    def _sizes(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sums of the absolute values of the numbers in each load."""
        return loads(self.space, abs(self.usage), selections)

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

    def table_of_loads(self, selection: NDArray[np.int64], loads: NDArray[np.float64]) -> NDArray[np.float64]:
        pairs = self.pairs
        order = np.argsort(-loads, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(loads))
        # The fullest stage that a decision does not touch has the first rank that is missing among those it touches.
        ranks = np.sort(pairs.decision * len(loads) + rank[pairs.stage]) - pairs.decision * len(loads)
        first_missing = pairs.count.copy()
        early = np.where(ranks != pairs.nth, pairs.nth, len(loads))
        first_missing[pairs.touching] = np.minimum(first_missing[pairs.touching], pairs.reduce(np.minimum, early))
        untouched = np.append(loads[order], -np.inf)[first_missing]
        return np.maximum(self._of_touched(selection, loads), self.space.layout.spread(untouched))

    @property
    def parted(self) -> bool:
        return True

    def local_table_of_loads(self, selection: NDArray[np.int64], loads: NDArray[np.float64]) -> NDArray[np.float64]:
        table = self._of_touched(selection, loads)
        table[np.isneginf(table)] = loads.max()  # decisions that no stage knows
        return table

    def _of_touched(self, selection: NDArray[np.int64], loads: NDArray[np.float64]) -> NDArray[np.float64]:
        """The fullest stage that an option's decision touches, with the option put in; -inf where it touches none."""
        table = np.full(self.space.n_options, -np.inf)
        replaced = self.replaced(selection, loads)
        table[self.pairs.touched_options] = self.pairs.reduce_options(np.maximum, replaced)
        return table

    def least_with(self, sign: float, allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
        pairs = self.pairs
        ends = pairs.end(sign, allowed)
        loads, rounding = self.total(ends), 0.0
        if not self._exact:
            sizes = self.total(np.abs(ends))
            rounding = 2 * self._rounding(sizes[pairs.stage[pairs.pair]] + np.abs(pairs.use) + np.abs(ends[pairs.pair]))
            loads = loads - sign * 2 * self._rounding(sizes)
        if sign < 0:
            return np.full(self.space.n_options, -loads.max())
        least = np.full(self.space.n_options, loads.max())
        there = (loads[pairs.stage] - ends)[pairs.pair] + pairs.use - rounding
        touched = pairs.touched_options
        least[touched] = np.maximum(least[touched], pairs.reduce_options(np.maximum, there))
        return least

    def expression(self, program: Program, sign: float) -> Expression | None:
        if sign < 0 and self.n_stages > 1:
            return None
        return sign * program.sum(self.usage)

    def addends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        use = np.asarray(self.usage.data, dtype=float)
        return use, np.abs(use)

    def limits(self) -> tuple[float, float]:
        if self.stages is None:
            return self.minimum(), self.maximum()
        # Summed decision by decision, as in `loads`, so that not even rounding puts a load beyond these limits.
        low, high = (float(self.total(self.pairs.end(sign)).max()) for sign in (1.0, -1.0))
        return low, high

    def minimum(self) -> float:
        if self.stages is None:
            return float(self.space.layout.reduce(np.minimum, self.values).max())
        return Metric.minimum(self)

    def maximum(self) -> float:
        return float(self.values.max()) if self.stages is None else self.limits()[1]


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
