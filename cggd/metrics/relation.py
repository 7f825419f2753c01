"""Relations: metrics of a few decisions, of which the value of every combination of their options is stored."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cggd.checks import own
from cggd.expressions import Expression, Program
from cggd.metrics.base import Metric
from cggd.metrics.state import State, Switch, Trail, TrailState
from cggd.space import ENUMERABLE, ChoiceSpace, as_floats, check_space, count

# Most combinations of a linear form with a variable for each. HiGHS settles 20,000 of them within a second or two.
COMBINED = 20_000


@dataclass(frozen=True, eq=False, repr=False)
class Relation(Metric):
    """The stored value of each combination of the options of a few decisions; the others do not matter.

    Parameters
    ----------
    space : ChoiceSpace
    decisions : sequence of labels
    values : array-like with one axis per decision in `decisions`
    name, unit : str

    Examples
    --------
    >>> space = ChoiceSpace({"cpu": ["x", "y"], "disk": ["a"], "board": ["x", "y", "z"]})
    >>> misfit = Relation(space, ["cpu", "board"], [[0, 1, 0], [1, 0, 0]], name="misfit")
    >>> misfit.replacements(np.array([0, 0, 1]))
    array([1., 0., 1., 0., 1., 0.])
    """

    space: ChoiceSpace
    decisions: Sequence[Hashable]
    values: Any
    name: str = field(default="relation", kw_only=True)
    unit: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        check_space(self.space)
        decisions = tuple(self.decisions)
        at = np.array([self.space.position(d) for d in decisions], dtype=np.int64)
        if not len(at) or len(set(at.tolist())) < len(at):
            raise ValueError(f"decisions must be one or more different decisions, got {list(decisions)}")
        shape = tuple(self.space.sizes[at].tolist())
        if (n := int(np.prod(shape, dtype=float))) > ENUMERABLE:
            raise ValueError(f"decisions have {count(n)} combinations; at most {ENUMERABLE} can be stored")
        values = as_floats(self.values, "values").copy()
        if values.shape != shape or not np.isfinite(values).all():
            raise ValueError(f"values must be finite numbers of shape {shape}, got shape {values.shape}")
        own(self, decisions=decisions, values=values)

    @cached_property
    def at(self) -> NDArray[np.int64]:
        """Positions of the decisions."""
        return np.array([self.space.position(d) for d in self.decisions], dtype=np.int64)

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.values[tuple(selections[:, self.at].T)]

    def replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        chosen = selection[self.at].tolist()
        table = np.full(self.space.n_options, self.values[tuple(chosen)])
        for axis, decision in enumerate(self.at.tolist()):
            line = self.values[(*chosen[:axis], slice(None), *chosen[axis + 1 :])]
            table[self.space.offsets[decision] : self.space.offsets[decision + 1]] = line
        return table

    def state(self, selection: NDArray[np.int64]) -> State:
        return _RelationState(self, selection)

    @property
    def closed_form(self) -> bool:
        return True

    def limits(self) -> tuple[float, float]:
        return float(self.values.min()), float(self.values.max())

    def minimum(self) -> float:
        return self.limits()[0]

    def maximum(self) -> float:
        return self.limits()[1]

    def least_with(self, sign: float, allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
        values = sign * self.values
        masks = [allowed[self.space.offsets[d] : self.space.offsets[d + 1]] for d in self.at.tolist()]
        for axis, mask in enumerate(masks):
            values = np.where(mask.reshape(-1, *[1] * (values.ndim - 1 - axis)), values, np.inf)
        least = np.full(self.space.n_options, values.min())
        for axis, decision in enumerate(self.at.tolist()):
            others = tuple(a for a in range(values.ndim) if a != axis)
            ends = values.min(axis=others)
            # An option that is not allowed has no combination; its entry means nothing.
            ends[~np.isfinite(ends)] = least[0]
            least[self.space.offsets[decision] : self.space.offsets[decision + 1]] = ends
        return least

    def addends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        first, values = float(self.values.flat[0]), np.unique(self.values)
        return values - first, np.abs(values) + abs(first)

    def expression(self, program: Program, sign: float) -> Expression | None:
        kept = self._combinations(program)
        if len(kept) > COMBINED:
            return None
        used = self._chosen(program, kept)
        return (sign * self.values.ravel()[kept] * used).sum()

    def within(self, program: Program, sign: float, limit: float) -> Expression | None:
        fits = sign * self.values <= limit
        if fits.all():
            return Expression.of(0.0)
        kept = self._combinations(program)
        kept = kept[fits.ravel()[kept]]
        if not len(kept):
            return Expression.of(1.0)  # no combination is within the limit
        if fits.ndim <= 2:
            return self._partners(program, fits)
        if len(kept) > COMBINED:
            return None
        self._chosen(program, kept)
        return Expression.of(0.0)

    def _combinations(self, program: Program) -> NDArray[np.int64]:
        """Flat positions of the combinations of allowed options."""
        offsets = self.space.offsets
        masks = [program.allowed[offsets[d] : offsets[d + 1]] for d in self.at.tolist()]
        return np.ravel_multi_index(np.meshgrid(*map(np.flatnonzero, masks), indexing="ij"), self.values.shape).ravel()

    def _chosen(self, program: Program, kept: NDArray[np.int64]) -> Expression:
        """A new 0/1 variable for each combination that may be chosen; the options chosen are those of one of them.

        The linear relaxation of these rows is the convex hull of the combinations.
        """
        used = program.switch(len(kept))
        for place, decision in zip(np.unravel_index(kept, self.values.shape), self.at.tolist(), strict=True):
            first, last = self.space.offsets[decision : decision + 2].tolist()
            parts = used.sum(place, last - first) - program.chosen(np.arange(first, last))
            program.at_most(parts)
            program.at_most(-parts)
        return used

    def _partners(self, program: Program, fits: NDArray[np.bool_]) -> Expression:
        """Rows without new variables: an option needs one of its partners in the other decision."""
        first = self.space.offsets[self.at]
        if fits.ndim == 1:
            return program.chosen(first[0] + np.arange(len(fits))[~fits])
        rows = []
        for (here, there), table in (((0, 1), fits), ((1, 0), fits.T)):
            # Options with the same partners share a row.
            partners, group = np.unique(table, axis=0, return_inverse=True)
            entries = np.zeros((len(partners), self.space.n_options))
            entries[group.ravel(), first[here] + np.arange(len(table))] = 1.0
            entries[:, first[there] + np.arange(table.shape[1])] -= partners
            rows.append(program.sum(sparse.csr_array(entries)))
        return Expression.join(rows)


class _RelationState(TrailState):
    """A relation at a selection."""

    def __init__(self, metric: Relation, selection: NDArray[np.int64]) -> None:
        self.metric, self.trail = metric, Trail(selection)

    @property
    def value(self) -> float:
        return float(self.metric.values[tuple(self.trail.selection[self.metric.at].tolist())])

    def table(self) -> NDArray[np.float64]:
        return self.metric.replacements(self.trail.selection)

    local_table = table

    def entries(self, options: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.table()[options]

    def exchanges(self, outgoing: Switch) -> NDArray[np.float64]:
        selection = self.trail.selection.copy()
        selection[outgoing[0]] = outgoing[1]
        return self.metric.replacements(selection)
