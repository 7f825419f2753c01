"""Sums of tables, each over a few decisions."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cggd.checks import as_number, own
from cggd.expressions import Expression, Program
from cggd.metrics.base import Metric, SumTable, table_of, values_of
from cggd.metrics.state import State, Switch, Trail, TrailState
from cggd.rounding import WHOLE, is_whole, sum_rounding
from cggd.space import ChoiceSpace, as_floats, check_space

# Entries of all tables up to which the metric has a linear form; each is a variable.
LINEAR = 100_000

# Most combinations of a bound's linear form, with a variable for each. HiGHS settles 20,000 within a second or two.
COMBINED = 20_000


@dataclass(frozen=True, eq=False, repr=False)
class Interactions(Metric):
    """A sum of tables, each over a few decisions, such as costs of layers whose input and output widths multiply.

    A single table stores the value of each combination of its decisions; yes/no rules are such metrics.

    Parameters
    ----------
    space : ChoiceSpace
    tables : mapping of tuple of decisions to array-like, or iterable of such pairs
        A table has an axis for each of its decisions. Tables over the same decisions are added.
    constant : float
        Added once.
    name, unit : str

    Examples
    --------
    Parameters of two layers: the first from 3 channels to w, the second from w to v.

    >>> space = ChoiceSpace({"w": [4, 8], "v": [2, 6]})
    >>> parameters = Interactions(space, {("w",): [12, 24], ("w", "v"): [[8, 24], [16, 48]]}, name="parameters")
    >>> parameters({"w": 8, "v": 2})
    40.0
    >>> parameters.replacements(np.array([1, 0]))
    array([20., 40., 40., 72.])
    """

    space: ChoiceSpace
    tables: Any
    constant: float = 0.0
    name: str = field(default="cost", kw_only=True)
    unit: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        check_space(self.space)
        given = self.tables.items() if isinstance(self.tables, Mapping) else self.tables
        own(self, tables=_merged(self.space, given), constant=as_number(self.constant, "constant"))

    # -- layout: all tables one after another, and for every option of a decision its step in each table --------------

    @cached_property
    def _values(self) -> NDArray[np.float64]:
        return np.concatenate([np.zeros(0), *(table.ravel() for table in self.tables.values())])

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """Where each table begins in `_values`, shape (n_tables,)."""
        sizes = [table.size for table in self.tables.values()]
        return np.cumsum([0, *sizes[:-1]], dtype=np.int64)[: len(sizes)]

    @cached_property
    def _axes(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """For every axis of a table the table, the decision and the step of one option, shape (n_axes,) each."""
        axes = [
            (t, d, stride // table.itemsize)
            for t, (decisions, table) in enumerate(self.tables.items())
            for d, stride in zip(decisions, table.strides, strict=True)
        ]
        table, decision, step = np.array(axes, dtype=np.int64).reshape(-1, 3).T
        return table, decision, step

    @cached_property
    def _entries(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """For every option of every axis the axis, the option and its steps from the first, shape (n_entries,) each."""
        _, decision, step = self._axes
        sizes = self.space.sizes[decision]
        axis = np.repeat(np.arange(len(decision)), sizes)
        within = np.arange(len(axis)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return axis, self.space.offsets[decision[axis]] + within, within * step[axis]

    @cached_property
    def _touching(self) -> list[NDArray[np.int64]]:
        """For each decision the entries of all tables that it is an axis of."""
        table, decision, _ = self._axes
        axis, _, _ = self._entries
        found = []
        for d in range(self.space.n_decisions):
            touched = np.zeros(len(self.tables), dtype=bool)
            touched[table[decision == d]] = True
            found.append(np.flatnonzero(touched[table[axis]]))
        return found

    def _places(self, selections: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions in `_values` of the chosen entries, (..., n_decisions) to (..., n_tables)."""
        table, decision, step = self._axes
        steps = selections[..., decision] * step
        first = np.flatnonzero(np.diff(table, prepend=-1))
        return self._starts + (np.add.reduceat(steps, first, axis=-1) if len(first) else steps)

    def _gains(self, selection: NDArray[np.int64], entries: Any = slice(None)) -> NDArray[np.float64]:
        """Change of its table by every option of every axis, shape (n_entries,)."""
        table, decision, step = self._axes
        axis, _, steps = (part[entries] for part in self._entries)
        here = self._places(selection)[table]
        base = here - selection[decision] * step
        return self._values[base[axis] + steps] - self._values[here[axis]]

    # -- values -------------------------------------------------------------------------------------------------------

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        return self._values[self._places(selections)].sum(axis=-1) + self.constant

    def replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        value = self.evaluate(selection[None])[0]
        return value + np.bincount(self._entries[1], self._gains(selection), self.space.n_options)

    def rounded(self, selections: NDArray[np.int64], sign: float) -> tuple[NDArray[np.float64], Any]:
        values = values_of(self, selections)
        size = np.abs(self._values[self._places(selections)]).sum(axis=-1) + abs(self.constant)
        return values, self._rounding(size)

    def rounded_table(
        self, selection: NDArray[np.int64], sign: float, *, local: bool = False
    ) -> tuple[NDArray[np.float64], Any]:
        # Values here are sums of changes, which round as well.
        size = np.abs(self._values[self._places(selection)]).sum() + abs(self.constant)
        changed = np.bincount(self._entries[1], np.abs(self._gains(selection)), self.space.n_options)
        return table_of(self, selection, local=local), 2 * self._rounding(size + changed)

    def _rounding(self, size: Any) -> Any:
        return 0.0 if self._exact else sum_rounding(size, len(self.tables) + 1)

    @cached_property
    def _exact(self) -> bool:
        """Whether all numbers are whole and so small that floats add them without rounding."""
        most = sum(float(np.abs(table).max()) for table in self.tables.values()) + abs(self.constant)
        return is_whole(self.constant) and is_whole(self._values) and most < WHOLE

    @property
    def _alone(self) -> bool:
        """Whether every value is a number of a single table."""
        return len(self.tables) == 1 and not self.constant

    def state(self, selection: NDArray[np.int64]) -> State:
        return _InteractionsState(self, selection)

    @property
    def closed_form(self) -> bool:
        return True

    # -- linear forms and bounds --------------------------------------------------------------------------------------

    def sum_table(self) -> SumTable | None:
        if any(len(decisions) > 1 for decisions in self.tables):
            return None
        values = np.zeros(self.space.n_options)
        for (d,), table in self.tables.items():
            values[self.space.offsets[d] : self.space.offsets[d + 1]] = table
        return SumTable(values, self.constant, abs(self.constant))

    def expression(self, program: Program, sign: float) -> Expression | None:
        if len(self._values) > LINEAR:
            return None
        values, total = np.zeros(self.space.n_options), Expression.of(sign * self.constant)
        for decisions, table in self.tables.items():
            options = [np.arange(*self.space.offsets[d : d + 2].tolist()) for d in decisions]
            allowed = [np.flatnonzero(program.allowed[own]) for own in options]
            open_ = [axis for axis, kept in enumerate(allowed) if len(kept) > 1]
            kept = sign * table[np.ix_(*allowed)]
            if len(open_) <= 1:  # the other decisions are fixed
                axis = open_[0] if open_ else 0
                values[options[axis][allowed[axis]]] += kept.ravel()
                continue
            shares = program.variable(np.zeros(kept.size), np.ones(kept.size))
            at = [allowed[axis][place] for axis, place in enumerate(np.indices(kept.shape).reshape(kept.ndim, -1))]
            self._consistent(program, decisions, shares, at, open_)
            total = total + (shares * kept.ravel()).sum()
        return total + program.sum(values)

    def _consistent(
        self, program: Program, decisions: Sequence[int], shares: Expression, at: Sequence[NDArray[Any]], axes: Any
    ) -> None:
        """Rows of a program: the shares of combinations add up, over those with an option, to the option's variable.

        The linear relaxation of these rows is the convex hull of the combinations. `at` holds their options by axis.
        """
        for axis in axes:
            first, last = self.space.offsets[decisions[axis] : decisions[axis] + 2].tolist()
            excess = shares.sum(at[axis], last - first) - program.chosen(np.arange(first, last))
            program.at_most(excess)
            program.at_most(-excess)

    def within(self, program: Program, sign: float, limit: float) -> Expression | None:
        if not self._alone:
            return Metric.within(self, program, sign, limit)
        ((decisions, table),) = self.tables.items()
        fits = sign * table <= limit
        masks = [program.allowed[slice(*self.space.offsets[d : d + 2])] for d in decisions]
        if fits.all():
            return Expression.of(0.0)
        kept = np.nonzero(fits & reduce(np.logical_and.outer, masks))
        if not len(kept[0]):
            return Expression.of(1.0)  # no combination is within the limit
        if fits.ndim <= 2:
            return self._partners(program, decisions, fits)
        if len(kept[0]) > COMBINED:
            return None
        self._consistent(program, decisions, program.switch(len(kept[0])), kept, range(fits.ndim))
        return Expression.of(0.0)

    def _partners(self, program: Program, decisions: Sequence[int], fits: NDArray[np.bool_]) -> Expression:
        """Rows without new variables: an option needs one of its partners in the other decision."""
        first = self.space.offsets[list(decisions)]
        if fits.ndim == 1:
            return program.chosen(first[0] + np.arange(len(fits))[~fits])
        rows = []
        for (here, there), table in (((0, 1), fits), ((1, 0), fits.T)):
            # Options with the same partners share a row.
            partners, group = np.unique(table, axis=0, return_inverse=True)
            entries = np.zeros((len(partners), self.space.n_options))
            entries[group.ravel(), first[here] + np.arange(len(table))] = 1.0
            entries[:, first[there] + np.arange(table.shape[1])] -= partners
            rows.append(program.sum(entries))
        return Expression.join(rows)

    def least_with(self, sign: float, allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
        size = abs(self.constant)
        low, least = sign * self.constant, np.zeros(self.space.n_options)
        for decisions, table in self.tables.items():
            spans = [slice(*self.space.offsets[d : d + 2]) for d in decisions]
            kept = sign * table
            for axis, span in enumerate(spans):
                shape = [-1 if a == axis else 1 for a in range(table.ndim)]
                kept = np.where(allowed[span].reshape(shape), kept, np.inf)
            lowest, size = float(kept.min()), size + float(np.abs(table).max())
            low += lowest
            for axis, span in enumerate(spans):
                # Entries of forbidden options are undefined.
                best = kept.min(axis=tuple(a for a in range(table.ndim) if a != axis))
                least[span] += np.where(np.isfinite(best), best - lowest, 0.0)
        return least + low - (0.0 if self._exact else 4 * self._rounding(2 * size))

    def addends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        firsts = [np.full(table.size, table.flat[0]) for table in self.tables.values()]
        first = np.concatenate([np.zeros(0), *firsts])
        return self._values - first, np.abs(self._values) + np.abs(first)

    def limits(self) -> tuple[float, float]:
        ends = [(float(table.min()), float(table.max())) for table in self.tables.values()]
        size = sum(max(abs(low), abs(high)) for low, high in ends) + abs(self.constant)
        error = 0.0 if self._alone else self._rounding(size)
        low, high = (sum(end[i] for end in ends) + self.constant for i in range(2))
        return low - error, high + error

    def minimum(self) -> float:
        return self.limits()[0] if self._alone else Metric.minimum(self)

    def maximum(self) -> float:
        return self.limits()[1] if self._alone else Metric.maximum(self)


class _InteractionsState(TrailState):
    """A sum of tables at a selection: a move recomputes the tables of the decisions that it switches."""

    def __init__(self, metric: Interactions, selection: NDArray[np.int64]) -> None:
        self.metric, self.trail = metric, Trail(selection)
        self._refresh()

    def _refresh(self) -> None:
        metric, selection = self.metric, self.trail.selection
        self.value = float(metric.evaluate(selection[None])[0])
        self._gains = metric._gains(selection)
        gain = np.bincount(metric._entries[1], self._gains, metric.space.n_options)
        self._gain: NDArray[np.float64] = gain.astype(np.float64)

    def table(self) -> NDArray[np.float64]:
        return self.value + self._gain

    local_table = table

    def entries(self, options: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.value + self._gain[options]

    def exchanges(self, outgoing: Switch) -> NDArray[np.float64]:
        kept = self.value, self._gains.copy(), self._gain.copy()
        self.move([outgoing])
        table = self.table()
        self.trail.undo()
        self.value, self._gains, self._gain = kept
        return table

    def _moved(self, made: Sequence[tuple[int, int, int]]) -> None:
        if self.trail.refresh_due or len(made) > 1:
            self._refresh()
            return
        for decision, _, option in made:
            self.value += float(self._gain[self.metric.space.offsets[decision] + option])
            touched = self.metric._touching[decision]
            gains = self.metric._gains(self.trail.selection, touched)
            options = self.metric._entries[1][touched]
            np.add.at(self._gain, options, gains - self._gains[touched])
            self._gains[touched] = gains


def _merged(
    space: ChoiceSpace, given: Iterable[tuple[Sequence[Hashable], ArrayLike]]
) -> dict[tuple[int, ...], NDArray[np.float64]]:
    """Tables by positions of their decisions in ascending order; those over a part of another's are added to that."""
    tables: dict[tuple[int, ...], NDArray[np.float64]] = {}
    for decisions, values in given:
        decisions = (decisions,) if isinstance(decisions, str) else tuple(decisions)
        at = [space.position(decision) for decision in decisions]
        table, shape = as_floats(values, f"the table of {decisions}"), tuple(space.sizes[at].tolist())
        if not at or len(set(at)) < len(at):
            raise ValueError(f"a table must be over one or more different decisions, got {decisions}")
        if table.shape != shape:
            raise ValueError(f"the table of {decisions} must have shape {shape}, got {table.shape}")
        if not np.isfinite(table).all():
            raise ValueError(f"the table of {decisions} must be finite, got {table[~np.isfinite(table)][0]}")
        order = np.argsort(at)
        key, table = tuple(sorted(at)), np.transpose(table, order).astype(float)
        tables[key] = tables[key] + table if key in tables else table
    merged: dict[tuple[int, ...], NDArray[np.float64]] = {}
    for key in sorted(tables, key=lambda key: (-len(key), key)):
        if (wider := next((other for other in merged if set(key) <= set(other)), None)) is None:
            merged[key] = tables[key]
        else:
            shape = [int(space.sizes[d]) if d in key else 1 for d in wider]
            merged[wider] = merged[wider] + tables[key].reshape(shape)
    return {key: np.ascontiguousarray(table) for key, table in merged.items()}
