"""Costs of features: prices shared by a group, and tables of prices."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd import ChoiceSpace, Metric
from cggd.checks import as_number
from cggd.expressions import Expression, Program
from cggd.metrics import State, SumTable, table_of, values_of
from cggd.metrics.state import Recomputed, Switch
from cggd.rounding import WHOLE, is_whole, sum_rounding


@dataclass(frozen=True, eq=False, repr=False)
class SharedCost(Metric):
    """Total price of the selected variables, where the members of a group share an entry price.

    These are Turney's (1995) costs of medical tests: a group is one visit or one blood sample, and its first test pays
    for it. The cost is the sum of the discounted prices of the selected variables, plus an entry price for each group
    with a selected member: the smallest ``full - discounted`` among its selected members. This is the total when the
    members are bought in the cheapest order.

    Parameters
    ----------
    space : ChoiceSpace
        One decision per variable, with the options 0 (out) and 1 (in).
    discounted : ndarray of shape (n_decisions,)
        Price of each variable, without the entry price of its group.
    entry : ndarray of shape (n_decisions,)
        Entry price, ``full - discounted``.
    group : ndarray of int, shape (n_decisions,)
        Number of the group of each variable; a variable that shares no price has its own group.

    Examples
    --------
    >>> space = ChoiceSpace.from_sizes([2, 2, 2])
    >>> cost = SharedCost(space, np.array([5.0, 3.0, 1.0]), np.array([2.0, 2.0, 0.0]), np.array([0, 0, 1]))
    >>> cost.evaluate(np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]]))
    array([ 7., 10.,  1.])
    >>> cost.replacements(np.array([1, 0, 0]))
    array([ 0.,  7.,  7., 10.,  7.,  8.])
    """

    space: ChoiceSpace
    discounted: NDArray[np.float64]
    entry: NDArray[np.float64]
    group: NDArray[np.int64]
    name: str = field(default="cost", kw_only=True)
    unit: str = field(default="", kw_only=True)
    _last: dict[bytes, Any] = field(init=False, default_factory=dict)

    @cached_property
    def _numbers(self) -> NDArray[np.int64]:
        """The group of each variable, from 0 on."""
        return np.unique(self.group, return_inverse=True)[1]

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Variables by group, then by entry price; where each group begins; the entry prices, and at last infinity."""
        order = np.lexsort((self.entry, self._numbers))
        starts = np.flatnonzero(np.diff(self._numbers[order], prepend=-1))
        return order, starts, np.append(self.entry[order], np.inf)

    @cached_property
    def _n_groups(self) -> int:
        return len(self._sorted[1])

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        selected, (order, starts, entries) = selections.astype(bool), self._sorted
        least = np.minimum.reduceat(np.where(selected[:, order], entries[:-1], np.inf), starts, axis=1)
        return np.concatenate([np.where(selected, self.discounted, 0.0), _finite(least)], axis=1).sum(axis=1)

    def rounding_of(self, values: NDArray[np.float64]) -> Any:
        """Rounding of sums of prices, none of which is negative; 0 if all prices are whole numbers."""
        whole = is_whole(self.discounted) and is_whole(self.entry)
        if whole and self.discounted.sum() + self.entry.sum() < WHOLE:
            return 0.0
        return sum_rounding(np.abs(values), len(self.discounted) + self._n_groups)

    def replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        value, removed, added, _ = self._steps(selection.astype(bool))
        return value + np.column_stack([removed, added]).ravel()

    def exchanged(self, selected: NDArray[np.bool_], out: NDArray[np.int64]) -> NDArray[np.float64]:
        """Costs with one of some selected variables out and any other variable in, shape (n_out, n_decisions)."""
        value, removed, added, without = self._steps(selected)
        table = value + removed[out][:, None] + added
        row, other = np.nonzero((self._numbers[out][:, None] == self._numbers) & ~selected)
        left = without[out[row]]
        table[row, other] = value + removed[out[row]] + self.discounted[other]
        table[row, other] += np.minimum(left, self.entry[other]) - _finite(left)
        return table

    def _steps(self, selected: NDArray[np.bool_]) -> tuple[float, NDArray, NDArray, NDArray]:
        """The cost, its change without and with each variable, and the entry price of its group without it."""
        key = selected.tobytes()
        if key not in self._last:
            self._last.clear()
            self._last[key] = self._steps_anew(selected)
        return self._last[key]

    def _steps_anew(self, selected: NDArray[np.bool_]) -> tuple[float, NDArray, NDArray, NDArray]:
        payer, least, second = self._two_least(selected)
        paid, numbers = _finite(least), self._numbers
        value = float(self.discounted[selected].sum()) + float(paid.sum())
        # Removing the payer leaves the second least; adding a member takes the smaller of both.
        removed, without = np.where(selected, -self.discounted, 0.0), least[numbers]
        added = np.where(selected, 0.0, np.minimum(without, self.entry) - paid[numbers] + self.discounted)
        pays = np.isfinite(least)
        removed[payer[pays]] += (_finite(second) - paid)[pays]
        without[payer[pays]] = second[pays]
        return value, removed, added, without

    @property
    def closed_form(self) -> bool:
        return True

    def state(self, selection: NDArray[np.int64]) -> State:
        return _SharedState(self, selection)

    def moves(self, selection: NDArray[np.int64]) -> Iterator[list[Switch]]:
        """Remove all members of a group that has some, or add all members of a group that has none."""
        numbers = self._numbers
        inside = np.bincount(numbers, selection, minlength=self._n_groups)
        shared = np.bincount(numbers[self.entry > 0], minlength=self._n_groups) > 1
        for group in np.flatnonzero(shared & (inside != 1)).tolist():  # one selected member needs no compound move
            yield [(int(member), int(inside[group] == 0)) for member in np.flatnonzero(numbers == group)]

    def among(self, space: ChoiceSpace, kept: NDArray[np.int64]) -> SharedCost:
        """The cost over some variables, with all others out."""
        return SharedCost(
            space, self.discounted[kept], self.entry[kept], self.group[kept], name=self.name, unit=self.unit
        )

    def least_with(self, sign: float, allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Bound by the least entry price of each group that must have a member, and no entry price for other groups."""
        if sign < 0 or min(self.entry.min(), self.discounted.min()) < 0:
            return Metric.least_with(self, sign, allowed)
        out, may = allowed.reshape(-1, 2).T
        begun, entries = np.isfinite(self._two_least(~out)[1]), self._two_least(may)[1]
        base = float(self.discounted[~out].sum()) + _paid(np.where(begun, entries, 0.0))
        more = np.where(out, self.discounted, 0.0) + np.where(begun, 0.0, _finite(entries))[self._numbers]
        least = np.column_stack([np.full(len(out), base), base + more]).ravel()
        return least - 2 * self.rounding_of(least)

    def minorant(self, sign: float, allowed: NDArray[np.bool_]) -> SumTable | None:
        """The cost of all variables less the full prices of those left out, as none saves more than its full price."""
        if sign < 0 or min(self.entry.min(), self.discounted.min()) < 0:
            return None
        may = allowed[1::2]
        value, saved = self._steps(may)[0], np.where(may, self.discounted + self.entry, 0.0)
        return SumTable(np.column_stack([-saved, np.zeros(len(may))]).ravel(), value, abs(value))

    def expression(self, program: Program, sign: float) -> Expression | None:
        """One selected member of each group pays the entry price; at least cost, the one of least entry price."""
        alone = np.bincount(self._numbers)[self._numbers] == 1
        members = np.flatnonzero(~alone)
        if len(members) and (sign < 0 or self.entry[members].min() < 0):
            return None
        prices = np.stack([np.zeros(len(alone)), self.discounted + np.where(alone, self.entry, 0.0)], axis=1)
        cost = program.sum(sign * prices.ravel())
        # If all entry prices of a group are equal, its first member stands for any payer.
        least, most = np.full(self._n_groups, np.inf), np.full(self._n_groups, -np.inf)
        np.minimum.at(least, self._numbers, self.entry)
        np.maximum.at(most, self._numbers, self.entry)
        first = np.isin(np.arange(len(alone)), np.unique(self._numbers, return_index=True)[1])
        unequal = (least < most)[self._numbers]
        payers = members[(unequal | first)[members]]
        pays = program.switch(len(payers))
        program.at_most((pays - program.chosen(2 * payers + 1))[unequal[payers]])
        paid = pays.sum(self._numbers[payers], self._n_groups)
        program.at_most(program.chosen(2 * members + 1) - paid[self._numbers[members]])
        return cost + (self.entry[payers] * pays).sum()

    def minimum(self) -> float:
        return 0.0

    def maximum(self) -> float:
        """Sum over groups of the largest cost of a subset, which has all members of at least some entry price."""
        total = 0.0
        for group in range(self._n_groups):
            at = np.flatnonzero(self._numbers == group)
            order = at[np.argsort(-self.entry[at], kind="stable")]
            total += max(float((np.cumsum(self.discounted[order]) + self.entry[order]).max()), 0.0)
        return total

    def limits(self) -> tuple[float, float]:
        return 0.0, self.maximum()

    def _two_least(self, selected: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray, NDArray]:
        """For each group, its selected variable of least entry price, this price, and the second least one.

        Prices are infinite, and the variable is any, if there is none.
        """
        order, starts, entries = self._sorted
        none = len(order)
        places = np.where(selected[order], np.arange(none), none)
        first = np.minimum.reduceat(places, starts)
        places[first[first < none]] = none
        return order[first % none], entries[first], entries[np.minimum.reduceat(places, starts)]


class _SharedState(Recomputed):
    """State of a shared cost; the table after a switch is computed directly."""

    def __init__(self, metric: SharedCost, selection: NDArray[np.int64]) -> None:
        how = (partial(values_of, metric), partial(table_of, metric), partial(table_of, metric))
        super().__init__(metric.space, selection, *how, sampled=False)
        self.metric = metric

    def exchanges(self, outgoing: Switch) -> NDArray[np.float64]:
        decision, option = outgoing
        after = self.trail.selection.copy()
        after[decision] = option
        return self.metric.replacements(after)


def _finite(entries: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isfinite(entries), entries, 0.0)


def _paid(entries: NDArray[np.float64]) -> float:
    return float(_finite(entries).sum())


def prices(
    table: Any, *, full: str = "full", discount: str = "discount", group: str = "group"
) -> tuple[dict[Hashable, float], dict[Hashable, dict[Hashable, float]]]:
    """The arguments `costs` and `discounted` of a BudgetedSelector, from a table of prices.

    Parameters
    ----------
    table : mapping of feature to mapping, or DataFrame with the features as its index
        The full price of each feature, its price once another one of its group is bought, and the label of its group
        (missing or None for a feature without a group).
    full, discount, group : str
        Names of these three columns.

    Returns
    -------
    costs : dict of feature to number
    discounted : dict of group to dict of feature to number

    Examples
    --------
    >>> costs, discounted = prices({
    ...     "age": {"full": 1.0},
    ...     "chol": {"full": 7.27, "discount": 5.17, "group": "blood"},
    ...     "fbs": {"full": 5.2, "discount": 3.1, "group": "blood"},
    ... })
    >>> costs
    {'age': 1.0, 'chol': 7.27, 'fbs': 5.2}
    >>> discounted
    {'blood': {'chol': 5.17, 'fbs': 3.1}}
    """
    if hasattr(table, "to_dict") and not isinstance(table, Mapping):
        table = table.to_dict(orient="index")
    if not isinstance(table, Mapping):
        raise TypeError(f"table must map each feature to its prices, or be a DataFrame, got {type(table).__name__}")
    costs: dict[Hashable, float] = {}
    discounted: dict[Hashable, dict[Hashable, float]] = {}
    for feature, row in table.items():
        if not isinstance(row, Mapping) or full not in row:
            raise ValueError(f"table must have a price {full!r} of feature {feature!r}, got {row!r}")
        costs[feature] = as_number(row[full], f"{full} of feature {feature!r}")
        label = row.get(group)
        if label is None or label != label:
            continue
        if discount not in row:
            raise ValueError(f"table must have a price {discount!r} of feature {feature!r} in group {label!r}")
        discounted.setdefault(label, {})[feature] = as_number(row[discount], f"{discount} of feature {feature!r}")
    return costs, discounted
