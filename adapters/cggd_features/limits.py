"""Which additions, removals and swaps of variables satisfy the constraints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from cggd import Additive, ChoiceSpace, Constraint, Function, Metric
from cggd.program.presolve import limits_of, possible
from cggd_features.costs import SharedCost

# A cost may exceed a bound by its rounding error (`cggd.Constraint`). Sums in this module are added up in another order
# than in the final check, so a switch may use only this share of the rounding error.
INNER = 0.5

# A bound below this share of the cost of all variables is not used as a unit of cost.
TINY = 1e-9


@dataclass(frozen=True, eq=False)
class Limits:
    """The constraints on selections of variables.

    Attributes
    ----------
    space : ChoiceSpace
        One decision per variable, with the options 0 (out) and 1 (in).
    budgets : list of Constraint
        Upper bounds on costs; prices are shares of these bounds.
    others : list of Constraint
        Bounds on the number of selected variables of a set.
    must, never : bool array of shape (n_variables,)
        Variables that are always selected, and never.
    """

    space: ChoiceSpace
    budgets: Sequence[Constraint]
    others: Sequence[Constraint]
    must: NDArray[np.bool_]
    never: NDArray[np.bool_]

    @cached_property
    def constraints(self) -> list[Constraint]:
        """All constraints."""
        return [*self.budgets, *self.others]

    @cached_property
    def free(self) -> NDArray[np.bool_]:
        """Variables that may be in or out."""
        return ~self.must & ~self.never

    @cached_property
    def forbidden(self) -> NDArray[np.bool_]:
        """Forbidden options, shape (n_options,), for `cggd.minimize`."""
        return np.column_stack([self.must, self.never]).ravel()

    @cached_property
    def unbudgeted(self) -> Limits:
        """The same limits without budgets."""
        return replace(self, budgets=[])

    @cached_property
    def shared(self) -> list[tuple[NDArray[np.int64], float]]:
        """Groups whose members share a price: the members, and the shared price as a share of the budget."""
        out = []
        for c, size in zip(self.budgets, self._units, strict=True):
            if isinstance(c.metric, SharedCost):
                for group in np.unique(c.metric.group[c.metric.entry > 0]).tolist():
                    members = np.flatnonzero(c.metric.group == group)
                    if len(members) > 1:
                        out.append((members, float(c.metric.entry[members].min()) / size))
        return out

    def spent(self, selected: NDArray[np.bool_]) -> float:
        """Total cost as a sum of shares of the budgets."""
        row, total = selected.astype(np.int64)[None], 0.0
        for c, unit in zip(self.budgets, self._units, strict=True):
            total += float((c.metric.evaluate if c.metric.closed_form else c.values)(row)[0]) / unit
        return total

    @cached_property
    def _units(self) -> list[float]:
        """Unit of each cost: the budget, or the cost of all variables if the budget is tiny or infinite."""
        everything = np.ones((1, self.space.n_decisions), dtype=np.int64)
        sizes = [float(c.values(everything)[0]) or 1.0 for c in self.budgets]
        return [c.bound if TINY * s < c.bound < np.inf else s for c, s in zip(self.budgets, sizes, strict=True)]

    def without(self, variables: NDArray[np.bool_]) -> Limits:
        """The same limits, with more variables that are never selected."""
        return replace(self, never=self.never | (variables & ~self.must))

    def among(self, kept: NDArray[np.int64]) -> Limits:
        """The limits on some variables, which include all that must be in; all others are out."""
        space = ChoiceSpace.from_sizes([2] * len(kept))
        budgets, others = ([_among(c, space, kept) for c in some] for some in (self.budgets, self.others))
        return Limits(space, budgets, others, self.must[kept], self.never[kept])

    def scaled(self, share: float) -> Limits:
        """The same limits with a share of each budget."""
        return replace(self, budgets=[c.metric <= share * c.bound for c in self.budgets])

    @cached_property
    def _rounding(self) -> list[float]:
        """Relative rounding error of each constraint's sums."""
        everything = np.ones((1, self.space.n_decisions), dtype=np.int64)
        out = []
        for c in self.constraints:
            value, rounding = c.metric.rounded(everything, c.sign)
            out.append(float(np.max(rounding)) / abs(float(value[0])) if value[0] else 0.0)
        return out

    @cached_property
    def affordable(self) -> NDArray[np.bool_]:
        """Variables that no single constraint excludes."""
        known = possible(self.space, limits_of(self.constraints), ~self.forbidden)
        return self.must.copy() if known is None else known[1::2]

    def holds(self, selected: NDArray[np.bool_]) -> bool:
        """Whether a selection satisfies all limits."""
        row = selected.astype(np.int64)[None]
        known = not (self.must & ~selected).any() and not (self.never & selected).any()
        return known and all(bool(c.satisfied(c.values(row)[0])) for c in self.constraints)

    def switches(self, selected: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Variables that can be added or, if they are selected, removed, shape (n_variables,)."""
        fit = self.free.copy()
        for c, rounding in zip(self.constraints, self._rounding, strict=True):
            table = _table(c, selected)
            fit &= _within(c, np.where(selected, table[:, 0], table[:, 1]), rounding)
        return fit

    def additions(self, selected: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Variables that can be added, shape (n_variables,)."""
        return self.switches(selected) & ~selected

    def swaps(self, selected: NDArray[np.bool_], out: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each variable can replace each of the selected variables `out`, shape (n_out, n_variables)."""
        fit = np.outer(self.free[out], self.free & ~selected)
        for c, rounding in zip(self.constraints, self._rounding, strict=True):
            if isinstance(c.metric, Additive):
                steps = np.diff(c.metric.values.reshape(-1, 2), axis=1)[:, 0]
                value = float(c.metric.evaluate(selected.astype(np.int64)[None])[0])
                fit &= _within(c, (value - steps[out])[:, None] + steps, rounding)
                continue
            if isinstance(c.metric, SharedCost):
                fit &= _within(c, c.metric.exchanged(selected, out), rounding)
                continue
            for row, variable in enumerate(out.tolist()):
                rest = selected.astype(np.int64)
                rest[variable] = 0
                table = c.metric.rounded_table(rest, c.sign)[0].reshape(-1, 2)
                fit[row] &= _within(c, table[:, 1], rounding)
        return fit

    def prices(self, selected: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Cost of adding each variable, or saving by removing it if selected, in shares of the budgets."""
        total = np.zeros(len(selected))
        for c, size in zip(self.budgets, self._units, strict=True):
            table = _table(c, selected)
            total += (table[:, 1] - table[:, 0]) / size
        return total

    def excess(self, selected: NDArray[np.bool_]) -> tuple[float, NDArray[np.float64]]:
        """Total violation in shares of the bounds, now and with each selected variable removed."""
        now, without = 0.0, np.zeros(len(selected))
        for c, rounding in zip(self.constraints, self._rounding, strict=True):
            table = _table(c, selected)
            values = np.append(table[:, 0], table[0, int(selected[0])])
            size = abs(c.bound) if abs(c.bound) > TINY else 1.0
            with np.errstate(invalid="ignore"):  # inf - inf, of a bound that never binds
                missed = np.where(_within(c, values, rounding), 0.0, c.sign * (values - c.bound)) / size
            now += float(missed[-1])
            without += missed[:-1]
        return now, np.where(selected & self.free, without, np.inf)


def _among(c: Constraint, space: ChoiceSpace, kept: NDArray[np.int64]) -> Constraint:
    """A constraint on the kept variables, with all others out."""
    if isinstance(c.metric, Additive):
        values = c.metric.values.reshape(-1, 2)
        out = np.delete(values[:, 0], kept).sum()
        metric: Metric = Additive(space, values[kept].ravel(), c.metric.constant + out, name=c.metric.name)
    elif isinstance(c.metric, SharedCost):
        metric = c.metric.among(space, kept)
    else:  # a user's function
        metric = Function(space, partial(_extended, c.metric, kept), batch=True, name=c.metric.name)
    return replace(c, metric=metric)


def _extended(metric: Metric, kept: NDArray[np.int64], selections: NDArray[np.int64]) -> NDArray[np.float64]:
    """A metric at selections of the kept variables, with all others out."""
    whole = np.zeros((len(selections), metric.space.n_decisions), dtype=np.int64)
    whole[:, kept] = selections
    return metric.evaluate(whole)


def _table(c: Constraint, selected: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Replacement table of a constraint, shape (n_variables, 2); those of formulas need no check."""
    row = selected.astype(np.int64)
    return (c.metric.replacements(row) if c.metric.closed_form else c.table(row)).reshape(-1, 2)


def _within(c: Constraint, values: NDArray[np.float64], rounding: float) -> NDArray[np.bool_]:
    """Whether values satisfy a bound, up to `INNER` of their rounding error."""
    return c.sign * values <= c.limit + INNER * rounding * np.abs(values)
