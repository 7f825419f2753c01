"""The arguments of a selector, checked and turned into decisions and constraints."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cggd import Additive, ChoiceSpace, Constraint, Function, Metric, diagnose, find_feasible, smallest_bound
from cggd.checks import as_amount, as_number, whole
from cggd.rounding import number_text, true_texts
from cggd_features.costs import SharedCost
from cggd_features.limits import Limits

# Seconds to look for a feasible selection, if the features that must be in are not feasible alone.
SEEK_SECONDS = 10.0

# Sums of costs up to this one do not overflow.
LARGEST = 1e290


@dataclass(frozen=True, eq=False)
class Variables:
    """Columns of the data, and which of them are chosen together.

    Attributes
    ----------
    names : list of str, or None
        Names of the columns, if they have any.
    columns : list of ndarray of int
        Columns of each variable; variables are in the order of their first columns.
    labels : dict of label to int
        Numbers of the variables that have a label.
    absent : frozenset
        Labels and members of groups that the data lack, such as levels that no sample has. They may have prices.
    patterns : list of str
        Patterns of groups. Names that match one and that the data lack may have prices, too.
    """

    n_features: int
    names: Sequence[str] | None
    columns: Sequence[NDArray[np.int64]]
    labels: Mapping[Hashable, int]
    absent: frozenset[Hashable] = frozenset()
    patterns: Sequence[str] = ()

    @classmethod
    def of(cls, n_features: int, names: Sequence[str] | None, groups: Any) -> Variables:
        """Make variables from the argument `groups` of a selector."""
        alone = cls(n_features, names, [np.array([c]) for c in range(n_features)], {})
        members: dict[Hashable, list[int]] = {}
        absent: set[Hashable] = set()
        if isinstance(groups, Mapping):
            for label, keys in groups.items():
                members[label], lacking = alone._members(keys, f"groups[{label!r}]")
                absent |= lacking
                if not members[label]:
                    absent.add(label)
                    del members[label]
        elif groups is not None:
            given = _listed(groups, "groups")
            if len(given) != n_features:
                raise ValueError(f"groups must have a label for each of {n_features} features, got {len(given)}")
            for column, label in enumerate(given):
                if label is not None and label == label:
                    members.setdefault(_plain(label), []).append(column)
        owner: dict[int, Hashable] = {}
        for label, columns in members.items():
            for column in columns:
                if column in owner:
                    raise ValueError(
                        f"groups must be disjoint, but {alone.name(column)!r} is in {owner[column]!r} and {label!r}"
                    )
                owner[column] = label
        sets, labels = [], {}
        for column in range(n_features):
            label = owner.get(column)
            if column not in owner:
                sets.append(np.array([column]))
            elif column == min(members[label]):
                labels[label] = len(sets)
                sets.append(np.array(sorted(members[label])))
        patterns = [keys for keys in groups.values() if isinstance(keys, str)] if isinstance(groups, Mapping) else []
        return cls(n_features, names, sets, labels, frozenset(absent - set(alone._numbers)), patterns)

    def _members(self, keys: Any, argument: str) -> tuple[list[int], set[Hashable]]:
        """Columns of a group, and its names that the data lack, with a warning."""
        if isinstance(keys, str):  # a pattern
            found = [column for column, name in enumerate(self.names or ()) if fnmatchcase(str(name), keys)]
            if not found:
                if self.names is None:
                    raise ValueError(
                        f"{argument} = {keys!r} needs feature names; give a DataFrame (in a pipeline, "
                        "set_output(transform='pandas')), or column numbers"
                    )
                warnings.warn(f"{argument}: no feature matches {keys!r}; the group is left out", stacklevel=6)
            return found, set()
        listed = _listed(keys, argument)
        if not listed:
            raise ValueError(f"{argument} has no feature")
        lacking: set[Hashable] = {key for key in listed if isinstance(key, str) and key not in self._numbers}
        if self.names is None or len(lacking) == len(listed):
            lacking = set()  # all are missing, or columns have no names: an error below
        if lacking:
            names = ", ".join(sorted(map(repr, lacking)))
            warnings.warn(f"{argument} names features that X lacks, {names}; they are ignored", stacklevel=6)
        return [self.column(key, argument) for key in listed if _plain(key) not in lacking], lacking

    def __len__(self) -> int:
        return len(self.columns)

    @cached_property
    def space(self) -> ChoiceSpace:
        """One decision per variable, with the options 0 (out) and 1 (in)."""
        return ChoiceSpace.from_sizes([2] * len(self))

    @cached_property
    def owner(self) -> NDArray[np.int64]:
        """The variable of each column, shape (n_features,)."""
        owner = np.empty(self.n_features, dtype=np.int64)
        for variable, columns in enumerate(self.columns):
            owner[columns] = variable
        return owner

    @cached_property
    def _numbers(self) -> Mapping[Hashable, int]:
        return {name: column for column, name in enumerate(self.names or ())}

    def lacks(self, key: Any) -> bool:
        """Whether a key is a label or a member of a group that the data lack."""
        if key in self.absent:
            return True
        matches = isinstance(key, str) and any(fnmatchcase(key, pattern) for pattern in self.patterns)
        return matches and key not in self._numbers and key not in self.labels

    def name(self, column: int) -> Hashable:
        """The name of a column, or its number if columns have no names."""
        return column if self.names is None else self.names[column]

    def column(self, key: Any, argument: str) -> int:
        """Number of a column from its name or number."""
        key = _plain(key)
        if isinstance(key, Hashable) and key in self._numbers:
            return self._numbers[key]
        if isinstance(key, int) and not isinstance(key, bool) and 0 <= key < self.n_features:
            return key
        known = f"the numbers 0 to {self.n_features - 1}"
        if self.names is not None:
            known = f"{', '.join(map(repr, self.names[:8]))}{', ...' if len(self.names) > 8 else ''}, or {known}"
        elif isinstance(key, str):
            known += " (X has no feature names; give a DataFrame to use names)"
        raise ValueError(f"{argument}: unknown feature {key!r}; features are {known}")

    def variable(self, key: Any, argument: str) -> int:
        """Number of a variable from its label, or from the name or number of one of its columns."""
        key = _plain(key)
        if isinstance(key, Hashable) and key in self.labels:
            return self.labels[key]
        return int(self.owner[self.column(key, argument)])

    def support(self, selected: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Mask of the columns of the selected variables, shape (n_variables,) to (n_features,)."""
        return selected[self.owner]

    def all_of(self, columns: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Mask of variables with all their columns in a mask, shape (n_features,) to (n_variables,)."""
        return np.array([columns[own].all() for own in self.columns])

    def some(self, keys: Any, argument: str) -> NDArray[np.bool_]:
        """Mask of the variables in a list, shape (n_variables,)."""
        out = np.zeros(len(self), dtype=bool)
        for key in _listed(keys, argument):
            out[self.variable(key, argument)] = True
        return out


def _listed(keys: Any, argument: str) -> list[Any]:
    if isinstance(keys, str | bytes | Mapping) or not isinstance(keys, Iterable):
        raise TypeError(f"{argument} must be a list of features, got {keys!r}")
    return list(keys)


def _plain(key: Any) -> Any:
    return key.item() if isinstance(key, np.generic) else key


@dataclass(frozen=True, eq=False)
class SubsetCost:
    """A user's cost function, called with a mask of columns for each selection of a batch."""

    variables: Variables
    function: Callable[[NDArray[np.bool_]], float]
    name: str

    def __call__(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        masks = [self.variables.support(row.astype(bool)) for row in selections]
        return np.array([as_amount(self.function(mask), f"{self.name}(mask), which it returns,") for mask in masks])


def cost_metric(variables: Variables, costs: Any, discounted: Any, name: str, unit: str) -> Metric:
    """Make the metric of one budget from the arguments `costs` and `discounted`."""
    space, argument = variables.space, name
    if callable(costs):
        if discounted:
            raise ValueError("discounted needs prices of features, but costs is a function of the subset")
        asked = SubsetCost(variables, cast(Any, costs), argument)
        asked(np.stack([np.zeros(len(variables)), np.ones(len(variables))]).astype(np.int64))
        return Function(space, asked, batch=True, name=unit)
    full = _full(variables, costs, argument)
    largest = float(full.max(initial=0.0))
    if largest > LARGEST:
        raise ValueError(f"{argument} must be at most {LARGEST:g}, got {largest:g}; give them in a larger unit")
    if not discounted:
        return Additive(space, np.column_stack([np.zeros(len(full)), full]).ravel(), name=unit)
    if not isinstance(discounted, Mapping):
        raise TypeError(f"discounted must map each group to its features and their prices, got {discounted!r}")
    price, group = full.copy(), np.arange(len(full))
    seen: dict[int, Hashable] = {}
    for number, (label, members) in enumerate(discounted.items(), start=len(full)):
        where = f"discounted[{label!r}]"
        if not isinstance(members, Mapping):
            raise TypeError(f"{where} must map features to their discounted prices, got {members!r}")
        for key, value in members.items():
            if variables.lacks(key):
                continue
            variable = variables.variable(key, where)
            if variable in seen:
                raise ValueError(f"{where} and discounted[{seen[variable]!r}] both hold {key!r}; groups are disjoint")
            seen[variable] = label
            price[variable], group[variable] = as_amount(value, f"{where}[{key!r}]"), number
            if price[variable] > full[variable]:
                raise ValueError(
                    f"{where}[{key!r}] must be at most the full cost {number_text(full[variable])}, got {value!r}"
                )
    numbers = np.unique(group, return_inverse=True)[1]
    entry = np.where(np.isin(np.arange(len(full)), list(seen)), full - price, 0.0)
    return SharedCost(space, price, entry, numbers, name=unit)


def _full(variables: Variables, costs: Any, argument: str) -> NDArray[np.float64]:
    """Price of each variable: the price of its label, or the sum of the prices of its columns."""
    if hasattr(costs, "iloc") and getattr(costs, "ndim", 1) == 2:
        column = next(iter(costs))
        raise TypeError(f"{argument} must be one column of a frame, such as {argument}[{column!r}], got all of it")
    if isinstance(costs, Mapping) or hasattr(costs, "items"):
        return _full_of_mapping(variables, dict(costs.items()), argument)
    if costs is None:
        raise TypeError(f"{argument} must be a number, a number per feature, a mapping or a callable, got None")
    if np.ndim(costs) == 0:
        return np.full(len(variables), as_amount(costs, argument))
    try:
        array = np.asarray(costs)
    except ValueError:
        array = np.asarray(None)
    if array.shape != (variables.n_features,) or array.dtype.kind not in "fiu":
        raise ValueError(
            f"{argument} must be a number per feature, shape ({variables.n_features},), got "
            f"{array.dtype} of shape {array.shape}"
        )
    checked = [
        as_amount(price, f"{argument} of feature {variables.name(c)!r}") for c, price in enumerate(array.tolist())
    ]
    return np.bincount(variables.owner, checked, minlength=len(variables)).astype(float)


def _full_of_mapping(variables: Variables, costs: dict[Hashable, Any], argument: str) -> NDArray[np.float64]:
    full = np.zeros(len(variables))
    by_label, by_column = np.zeros(len(variables), dtype=bool), np.zeros(variables.n_features, dtype=bool)
    for key, value in costs.items():
        price = as_amount(value, f"{argument}[{key!r}]")
        if variables.lacks(key):
            continue
        if key in variables.labels and key not in variables._numbers:
            by_label[variables.labels[key]] = True
            full[variables.labels[key]] += price
        else:
            column = variables.column(key, argument)
            by_column[column] = True
            full[variables.owner[column]] += price
    if (twice := by_column & by_label[variables.owner]).any():
        name = variables.name(int(np.argmax(twice)))
        raise ValueError(f"{argument} prices {name!r} and its whole group; give one of them")
    if (missing := np.flatnonzero(~by_column & ~by_label[variables.owner])).size:
        names = ", ".join(repr(variables.name(c)) for c in missing[:8].tolist())
        raise ValueError(f"{argument} lacks {len(missing)} of {variables.n_features} features: {names}")
    return full


@dataclass(frozen=True, eq=False)
class Arguments:
    """Variables, budgets and limits, from the arguments of a selector.

    Attributes
    ----------
    variables : Variables
    budgets : dict of name to Constraint
        The name is None for a budget that was given as a number.
    limits : Limits
    """

    variables: Variables
    budgets: Mapping[Hashable, Constraint]
    limits: Limits

    @classmethod
    def of(
        cls,
        variables: Variables,
        costs: Any,
        budget: Any,
        discounted: Any = None,
        must_include: Any = (),
        must_exclude: Any = (),
        at_most: Any = None,
        at_least: Any = None,
    ) -> Arguments:
        """Check the arguments of a selector."""
        budgets: dict[Hashable, Constraint]
        if isinstance(budget, Mapping):
            budgets = _several(variables, costs, budget, discounted)
        else:
            metric = cost_metric(variables, costs, discounted, "costs", "cost")
            budgets = {None: metric <= _bound(budget, "budget")}
        must, never = variables.some(must_include, "must_include"), variables.some(must_exclude, "must_exclude")
        if (must & never).any():
            name = variables.name(int(variables.columns[int(np.argmax(must & never))][0]))
            raise ValueError(f"must_include and must_exclude both hold {name!r}")
        others = [_at(variables, key, k, discounted, "at_most") <= k for key, k in _counts(at_most, "at_most")]
        others += [_at(variables, key, k, discounted, "at_least") >= k for key, k in _counts(at_least, "at_least")]
        return cls(variables, budgets, Limits(variables.space, list(budgets.values()), others, must, never))

    def start(self) -> NDArray[np.bool_]:
        """A selection within the limits.

        Raises
        ------
        ValueError
            If there is none; the message has the least possible cost.
        """
        limits = self.limits
        if limits.holds(limits.must):
            return limits.must.copy()
        how: dict[str, Any] = {"forbid": limits.forbidden, "time_limit": SEEK_SECONDS}
        found = find_feasible(limits.constraints, **how)
        if found.indices is not None:
            return found.indices.astype(bool)
        rest = [c for c in limits.others if not isinstance(c.metric, Function)]
        for name, constraint in self.budgets.items():
            least = smallest_bound(constraint.metric, rest, **how)
            if least.value is not None and not constraint.satisfied(least.value):
                what = "budget" if name is None else f"budget[{name!r}]"
                bound, needed = true_texts(constraint.bound, least.value)
                raise ValueError(
                    f"{what} = {bound} cannot be met: with must_include, must_exclude, at_most and "
                    f"at_least as they are the least possible cost is {needed}"
                )
        raise ValueError(f"budgets, at_most and at_least cannot be met together: {diagnose(limits.constraints, **how)}")

    def cost(self, selected: NDArray[np.bool_]) -> float | dict[Hashable, float]:
        """Total cost of a selection: a number, or a number for each budget name."""
        row = selected.astype(np.int64)[None]
        total = {name: float(c.values(row)[0]) for name, c in self.budgets.items()}
        return total.get(None, total)

    def alone(self) -> NDArray[np.float64] | dict[Hashable, NDArray[np.float64]]:
        """Cost of each column's variable alone, shape (n_features,), or a mapping of budget names to it."""
        nothing = np.zeros(len(self.variables), dtype=np.int64)
        tables = {n: c.table(nothing).reshape(-1, 2)[:, 1][self.variables.owner] for n, c in self.budgets.items()}
        return tables.get(None, tables)


def _several(variables: Variables, costs: Any, budget: Mapping, discounted: Any) -> dict[Hashable, Constraint]:
    if not budget:
        raise ValueError("budget is empty; give a number, or a bound for at least one cost")
    if not isinstance(costs, Mapping) or not set(costs) <= set(budget):
        raise ValueError(f"costs must map the names of budget, {', '.join(map(repr, budget))}, to costs, got {costs!r}")
    if discounted is not None and (not isinstance(discounted, Mapping) or not set(discounted) <= set(budget)):
        names = ", ".join(map(repr, budget))
        raise ValueError(f"discounted must map names of budget, {names}, to groups, got {discounted!r}")
    out = {}
    for name, bound in budget.items():
        if name not in costs and name != "n":
            raise ValueError(f"costs lacks {name!r} of budget (only 'n', the number of features, needs none)")
        own = costs.get(name, 1.0)
        metric = cost_metric(variables, own, (discounted or {}).get(name), f"costs[{name!r}]", str(name))
        out[name] = metric <= _bound(bound, f"budget[{name!r}]")
    return out


def _bound(value: Any, argument: str) -> float:
    bound = as_number(value, argument, finite=False)
    if bound < 0:
        raise ValueError(f"{argument} must be at least 0, got {bound:g}")
    return bound


def _counts(sets: Any, argument: str) -> list[tuple[Any, int]]:
    if sets is None:
        return []
    if not isinstance(sets, Mapping):
        raise TypeError(f'{argument} must map tuples of features to numbers, as {{("a", "b"): 1}}, got {sets!r}')
    return [(key, whole(_plain(k), f"{argument}[{key!r}]", least=0)) for key, k in sets.items()]


def _at(variables: Variables, key: Any, k: int, discounted: Any, argument: str) -> Additive:
    """Number of selected variables of a set: a tuple of features, or the label of a discounted group."""
    where = f"{argument}[{key!r}]"
    members = list(discounted[key]) if isinstance(discounted, Mapping) and key in discounted else key
    if not isinstance(members, tuple | list | frozenset):
        raise TypeError(f"{where}: sets are tuples of features or labels of discounted, got {key!r}")
    chosen = variables.some(members, where)
    if argument == "at_least" and k > chosen.sum():
        raise ValueError(f"{where} asks for {k} of {chosen.sum()} variables")
    counted = np.column_stack([np.zeros(len(chosen)), chosen]).ravel()
    return Additive(variables.space, counted, name=f"number of {key!r}")
