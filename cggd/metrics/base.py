"""The protocol of metrics, and how their answers are checked."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from cggd.checks import as_number, whole
from cggd.expressions import Expression, Program
from cggd.metrics.evaluation import current_evaluation
from cggd.metrics.state import Recomputed, State, Switch
from cggd.space import ENUMERABLE, ChoiceSpace, count

# Methods that describe the values of `evaluate`; they hold only for the `evaluate` of their own class.
VALUE_METHODS = ("replacements", "local_replacements", "shifted", "separable", "parted", "rounded", "rounded_table")
VALUE_METHODS += ("rounding_of", "limits", "least_with", "addends", "minimum", "maximum", "quantile")
VALUE_METHODS += ("sum_table", "minorant", "expression", "within", "closed_form", "state", "between")

# Numbers that a batch of sampled selections may hold (32 MB of int64).
CHUNK = 4_000_000


class MetricError(RuntimeError):
    """A metric raised, or returned something that is not one number per selection."""


class Invalid(Exception):  # noqa: N818 - not an error of the program, but an answer
    """Raised by a function for a selection without a value, for example one that does not compile.

    Returning inf or NaN has the same effect. An invalid selection violates every bound on the metric, is never an
    answer, and is not evaluated again.

    Examples
    --------
    >>> def run(selection):
    ...     if selection["block"] > 1024:
    ...         raise Invalid("too many threads")
    ...     return 4.0
    """


class Operators:
    """Functions behind the operators of metrics; set by the modules above this one that define them."""

    combine: Callable[[Metric, Any], Any]
    scale: Callable[[Metric, float], Any]
    bound: Callable[..., Any]


operators: Operators = Operators()


@dataclass(frozen=True, eq=False)
class Shifted:
    """A replacement table as the sum of a constant part and one number per decision: ``values + spread(shift)``.

    Attributes
    ----------
    values : ndarray of shape (n_options,)
    shift : ndarray of shape (n_decisions,)
    ranks, deviation : callable
        Ranks (`cggd.pair_counts.flat_ranks`) and standard deviation of the values, computed once.
    rounding : callable
        Rounding error of table entries, given the entries.
    """

    values: NDArray[Any]
    shift: NDArray[np.float64]
    ranks: Callable[[], NDArray[np.integer]]
    deviation: Callable[[], float]
    rounding: Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class SumTable:
    """A metric as a sum of one number per chosen option and a constant.

    Attributes
    ----------
    values : ndarray of shape (n_options,)
    constant : float
    lost : float
        Total magnitude of added numbers that the values do not contain, such as the constant and terms that cancel;
        used to estimate rounding errors.
    """

    values: NDArray[Any]
    constant: float = 0.0
    lost: float = 0.0


class Memory(Protocol):
    """Measured selections, and a row of numbers for each."""

    def record(self, selection: NDArray[np.int64], values: Mapping[str, float] | None, why: str = "") -> None:
        """Remember a call that was made elsewhere; None if the selection is invalid. Known values are kept."""
        ...

    def pack(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Selections and numbers, shapes (n, n_decisions) and (n, n_numbers)."""
        ...

    def unpack(self, selections: NDArray[np.int64], numbers: NDArray[np.float64]) -> None:
        """Remember what `pack` returned; known values are kept. Raises ValueError for another shape."""
        ...


@runtime_checkable
class Metric(Protocol):
    """Anything that can be evaluated on a selection; subclass it and write `evaluate`.

    Metrics compose: ``a + b``, ``2 * a``, ``-a`` and ``maximum(a, b)`` are metrics with exact replacement tables
    again, and ``metric <= bound`` and ``metric >= bound`` make constraints.

    A value of inf or NaN, or the exception `Invalid`, means that a selection cannot be evaluated; its value is NaN.

    Attributes
    ----------
    space : ChoiceSpace
    name, unit : str

    Examples
    --------
    >>> class Distinct(Metric):
    ...     def __init__(self, space):
    ...         self.space, self.name, self.unit = space, "distinct", ""
    ...     def evaluate(self, selections):
    ...         return np.array([len(set(row)) for row in selections.tolist()], dtype=float)
    >>> metric = Distinct(ChoiceSpace.from_sizes([2, 2]))
    >>> metric.replacements(np.array([0, 0]))
    array([1., 2., 1., 2.])
    """

    space: ChoiceSpace
    name: str
    unit: str

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Raise a TypeError if the class has no `evaluate`; without this, the first search would fail."""
        if cls.evaluate is Metric.evaluate:
            raise TypeError(
                f"{cls.__name__} has no method evaluate; write evaluate(self, selections), which returns one number "
                "for each row of selections"
            )
        return super().__new__(cls)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Reset the methods that describe values to their defaults if a subclass overrides `evaluate`."""
        super().__init_subclass__(**kwargs)
        order = cls.__mro__

        def where(name: str) -> int:
            return next(i for i, one in enumerate(order) if name in vars(one))

        for name in VALUE_METHODS:
            if where("evaluate") < where(name):
                setattr(cls, name, getattr(Metric, name))
        # A state holds replacement tables, so a class that overrides these needs its own state.
        if min(where("replacements"), where("local_replacements")) < where("state"):
            cls.state = Metric.state

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        """Values of selections, shape (n, n_decisions) to (n,)."""
        ...

    @property
    def components(self) -> Sequence[Metric]:
        """The metrics that this one is computed from, by default none. Cost, noise and memory follow from them."""
        return ()

    @property
    def costly(self) -> bool:
        """Whether evaluations are expensive. They are counted, never repeated, and avoided if cheap bounds decide."""
        return any(metric.costly for metric in self.components)

    def as_costly(self) -> Metric:
        """The metric with its black boxes as costly metrics, which share their memory; by default the metric itself."""
        return self

    @property
    def calls_each(self) -> int:
        """Number of calls of black boxes for evaluating one selection again."""
        return max((metric.calls_each for metric in self.components), default=0)

    def between(self, selections: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper bounds on values, without a call of a costly metric, twice shape (n,).

        Both equal the value if it is known, and are NaN for an invalid selection. By default they are the value, or
        `limits` if the metric is costly.
        """
        if self.costly:
            low, high = self.limits()
            return np.full(len(selections), low), np.full(len(selections), high)
        values = values_of(self, selections)
        return values, values

    def remembered(self) -> NDArray[np.int64]:
        """Selections whose values are known from earlier calls, shape (n, n_decisions)."""
        nothing = np.zeros((0, self.space.n_decisions), dtype=np.int64)
        return np.concatenate([nothing, *(metric.remembered() for metric in self.components)])

    def memories(self) -> Sequence[Memory]:
        """The memories of costly metrics, for checkpoints and for `cggd.Search`."""
        return [memory for metric in self.components for memory in metric.memories()]

    def replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        """Replacement table, shape (n_options,): entry o is the value if the selection takes option o instead.

        By default it is computed by one batch of evaluations, one for each option that may be chosen.
        """
        return self.over_switches(lambda rows: values_of(self, rows), selection)

    def local_replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        """Replacement table of the part of the metric that each decision affects, shape (n_options,).

        An upper bound on a maximum of parts, such as a longest path, holds only if it holds for every part. If several
        parts exceed the bound, no single switch lowers the metric, and `replacements` gives no direction; this table
        does. By default the metric is one part, and this is `replacements`.
        """
        return self.replacements(selection)

    def state(self, selection: NDArray[np.int64]) -> State:
        """The state of the metric at a selection, updated by moves; by default it recomputes each table."""
        return Recomputed(
            self.space,
            selection,
            lambda rows: values_of(self, rows),
            lambda row: table_of(self, row),
            lambda row: table_of(self, row, local=True),
            sampled=type(self).replacements is Metric.replacements,
        )

    def moves(self, selection: NDArray[np.int64]) -> Iterable[Sequence[Switch]]:
        """Compound moves: groups of switches that are worth making together; by default those of the components.

        A switch is a decision and the index of its new option; the decisions of a group are distinct. Useful groups are
        those whose switches do not help one by one, such as moving all tasks of a machine. The tabu search
        (`cggd.Switches`) tries them after each walk.
        """
        return chain.from_iterable(metric.moves(selection) for metric in self.components)

    def rounded(self, selections: NDArray[np.int64], sign: float) -> tuple[NDArray[np.float64], Any]:
        """Values of selections, and an upper bound on the rounding error of the metric's own summation.

        Parameters
        ----------
        selections : ndarray of int, shape (n, n_decisions)
        sign : float
            1 for an upper bound on the values, -1 for a lower one; the rounding error of a maximum depends on it.

        Returns
        -------
        values : ndarray of shape (n,)
        rounding : float or ndarray of shape (n,)
            0 by default: values are compared exactly. See `cggd.rounding`.
        """
        values = values_of(self, selections)
        return values, self.rounding_of(values)

    def rounded_table(
        self, selection: NDArray[np.int64], sign: float, *, local: bool = False
    ) -> tuple[NDArray[np.float64], Any]:
        """`rounded` for the replacement table, or that of the local parts, shape (n_options,)."""
        table = table_of(self, selection, local=local)
        return table, self.rounding_of(table)

    def rounding_of(self, values: NDArray[np.float64]) -> Any:
        """Rounding error computed from the values, as a number or an array like `values`; by default 0.

        If numbers of both signs are added, override `rounded` and `rounded_table` instead.
        """
        return 0.0

    def over_switches(
        self, function: Callable[[NDArray[np.int64]], NDArray[Any]], selection: NDArray[np.int64]
    ) -> NDArray[Any]:
        """A function of selections after every switch, shape (n_options,); of the selection at forbidden options."""
        switches, allowed = self.space.switches(selection), current_evaluation().allowed
        if allowed is None:
            return function(switches)
        values = function(np.concatenate([selection[None], switches[allowed]]))
        table = np.full(self.space.n_options, values[0])
        table[allowed] = values[1:]
        return table

    def value_errors(self, selections: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Standard errors of `evaluate`, (n, n_decisions) to (n,); None if it is exact."""
        return None

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the standard errors: repeats minus one; infinite where the errors are known."""
        return min((metric.freedom for metric in self.components), default=np.inf)

    def confidence_limits(self, selections: NDArray[np.int64], level: float, sign: float) -> NDArray[np.float64]:
        """One-sided confidence limits of the means, upper ones for a `sign` of 1, (n, n_decisions) to (n,)."""
        values, errors = values_of(self, selections), self.value_errors(selections)
        return values if errors is None else values + sign * standard_errors(level, self.freedom) * errors

    def confidence_table(
        self, selection: NDArray[np.int64], level: float, sign: float, *, local: bool = False
    ) -> NDArray[np.float64]:
        """Replacement table, or that of the local parts, of `confidence_limits`, shape (n_options,)."""
        table, errors = table_of(self, selection, local=local), self.errors(selection)
        return table if errors is None else table + sign * standard_errors(level, self.freedom) * errors

    def errors(self, selection: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Standard errors of the replacement table, shape (n_options,); None if it is exact."""
        return None

    @property
    def separable(self) -> bool:
        """Whether tables at two selections differ only by one number per decision, as those of sums do."""
        return False

    def shifted(self, selection: NDArray[np.int64]) -> Shifted | None:
        """The replacement table in two parts, for metrics that are sums; None for others."""
        return None

    @property
    def parted(self) -> bool:
        """Whether the metric is a maximum of parts, so that `local_replacements` differ from `replacements`."""
        return False

    @property
    def noisy(self) -> bool:
        """Whether two evaluations of one selection are expected to differ."""
        return any(metric.noisy for metric in self.components)

    def limits(self) -> tuple[float, float]:
        """Lower and upper bound on all values, found without evaluations; infinite if none is known."""
        return -np.inf, np.inf

    def least_with(self, sign: float, allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Lower bound on ``sign * value`` of all selections with an option, minus rounding errors, shape (n_options,).

        By default it follows from `limits`. `cggd.program.presolve` uses the tighter bounds of closed forms.

        Parameters
        ----------
        sign : float
            1 for least values, -1 for greatest ones.
        allowed : bool array of shape (n_options,)
            Options that may be chosen, at least one of each decision; entries of other options are undefined.
        """
        low, high = self.limits()
        return np.full(self.space.n_options, low if sign > 0 else -high)

    @property
    def closed_form(self) -> bool:
        """Whether the metric is a formula or a table, so that all selections of a small space may be evaluated."""
        return False

    def sum_table(self) -> SumTable | None:
        """The numbers of the options and the constant, if the metric is their sum; None otherwise.

        `cggd.program.lagrangian` bounds sums of any size in linear time.
        """
        return None

    def minorant(self, sign: float, allowed: NDArray[np.bool_]) -> SumTable | None:
        """A sum that is nowhere more than ``sign * metric`` on selections of allowed options; None if none is known.

        `cggd.Branches` uses it beside `least_with`. By default it is the `sum_table`.

        Parameters
        ----------
        sign : float
            1 or -1.
        allowed : bool array of shape (n_options,)
            At least one option of each decision.
        """
        table = sum_table_of(self)
        return None if table is None else SumTable(sign * table.values.astype(float), sign * table.constant, table.lost)

    def expression(self, program: Program, sign: float) -> Expression | None:
        """Linear functions whose maximum is ``sign * metric``, or None if there are none.

        The exact solver uses them if ``sign * metric`` is minimised or bounded from above. The method may add variables
        and rows to the program; for every selection, the least maximum that they allow must be ``sign * metric``
        (`cggd.testing.check_expression`). By default a metric with a `sum_table` is linear.

        Parameters
        ----------
        program : Program
        sign : float
            1 or -1.
        """
        table = sum_table_of(self)
        return None if table is None else program.sum(sign * table.values.astype(float), sign * table.constant)

    def within(self, program: Program, sign: float, limit: float) -> Expression | None:
        """Linear functions that are all at most 0 exactly if ``sign * metric <= limit``; None if there are none.

        By default they are those of `expression` minus the limit. Override it if the constraint has a simpler form.
        """
        found = program.of(self, sign)
        return None if found is None else found - limit

    def addends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Numbers of which any two values differ by whole multiples, summed, and their sizes; None if unknown.

        If all numbers are multiples of one step, the values lie on a grid with that step. The size is that of the
        numbers from which each was computed, and gives its rounding error.
        """
        return None

    def minimum(self) -> float:
        """Least value over the space.

        Raises
        ------
        ValueError
            If there is no closed form and the space is too large to be enumerated.
        """
        return float(_all_values(self, "least").min())

    def maximum(self) -> float:
        """Greatest value over the space; raises as `minimum` does."""
        return float(_all_values(self, "greatest").max())

    def quantile(self, q: float, *, samples: int = 10_000, seed: int = 0) -> float:
        """Value that a share `q` of all selections does not exceed.

        It is exact if the space has at most `samples` selections or the metric stores every value; otherwise it is
        estimated from `samples` random selections.
        """
        _check_cheap(self, "a quantile")
        q = as_number(q, "q")
        if not 0 <= q <= 1:
            raise ValueError(f"q must lie between 0 and 1, got {q}")
        samples, seed = whole(samples, "samples", least=1), whole(seed, "seed", least=0)
        if self.space.n_selections <= min(samples, max(1, CHUNK // self.space.n_decisions)):
            return float(np.nanquantile(values_of(self, self.space.enumerate()), q))
        rng = np.random.default_rng(seed)
        rows = max(1, CHUNK // self.space.n_decisions)
        counts = [min(rows, samples - done) for done in range(0, samples, rows)]
        return float(np.nanquantile(np.concatenate([values_of(self, self.space.sample(n, rng)) for n in counts]), q))

    def __call__(self, selection: Mapping[Hashable, Hashable] | ArrayLike) -> float:
        """Value of one selection, given as labels or as indices."""
        return float(values_of(self, self.space.indices(selection)[None])[0])

    def __repr__(self) -> str:
        unit = f" [{self.unit}]" if self.unit else ""
        return f"{type(self).__name__}({self.name}{unit}, {self.space})"

    # With this priority, numpy scalars leave `3.0 * metric` and `np.float64(5) >= metric` to the metric.
    __array_ufunc__ = None

    def __add__(self, other: Metric | float) -> Metric:
        return operators.combine(self, other)

    def __radd__(self, other: float) -> Metric:
        return operators.combine(self, other)

    def __sub__(self, other: Metric | float) -> Metric:
        return operators.combine(self, -other if isinstance(other, Metric) else -as_term(other, self))

    def __rsub__(self, other: float) -> Metric:
        return operators.combine(-self, other)

    def __neg__(self) -> Metric:
        return operators.scale(self, -1.0)

    def __mul__(self, factor: float) -> Metric:
        return operators.scale(self, as_number(factor, "factor"))

    def __rmul__(self, factor: float) -> Metric:
        return operators.scale(self, as_number(factor, "factor"))

    def __truediv__(self, divisor: float) -> Metric:
        number = as_number(divisor, "divisor")
        if number == 0:
            raise ValueError(f"divisor of {self.name!r} must not be 0, got {divisor!r}")
        return operators.scale(self, 1.0 / number)

    def __le__(self, bound: float) -> Any:
        return operators.bound(self, bound, "<=")

    def __ge__(self, bound: float) -> Any:
        return operators.bound(self, bound, ">=")

    def __lt__(self, bound: float) -> Any:
        raise TypeError(_strict(self, "<=", bound))

    def __gt__(self, bound: float) -> Any:
        raise TypeError(_strict(self, ">=", bound))


def _strict(metric: Metric, sense: str, bound: Any) -> str:
    if isinstance(bound, Metric):
        return f"metrics {metric.name!r} and {bound.name!r} have no order; their maximum is cggd.maximum"
    return f"strict bounds are not supported; write {metric.name} {sense} {bound!r}"


def as_term(value: Any, metric: Metric) -> float:
    """A number that is added to a metric."""
    if hint := wrap_hint(value):
        raise TypeError(f"what is added to {metric.name!r} must be a number or a Metric, got {value!r}{hint}")
    return as_number(value, f"what is added to {metric.name!r}")


def _check_cheap(metric: Metric, what: str) -> None:
    if metric.costly:
        raise ValueError(
            f"{what} of {metric.name!r} would measure every selection, and the metric is costly; give a number"
        )


def _all_values(metric: Metric, which: str) -> NDArray[np.float64]:
    _check_cheap(metric, f"the {which} value")
    if metric.space.n_selections > ENUMERABLE:
        raise ValueError(
            f"the {which} value of {metric.name!r} is not known in closed form, and the space has "
            f"{count(metric.space.n_selections)} selections, too many to try; give the bound as a number"
        )
    values = values_of(metric, metric.space.enumerate())
    if np.isnan(values).all():
        raise ValueError(f"metric {metric.name!r} has no {which} value: every selection is invalid")
    return values[~np.isnan(values)]


def wrap_hint(given: Any) -> str:
    """What to write instead of a function or a class in the place of a metric; empty for anything else."""
    if isinstance(given, type):
        return f"; give an object of this class, {given.__name__}(...)"
    return "; wrap a function f: Function(space, f, name=...)" if callable(given) else ""


def check_metric(metric: Any, argument: str) -> None:
    """Raise a TypeError if something is not a metric with a space and a name; `argument` names it in the error."""
    if not isinstance(metric, Metric):
        raise TypeError(f"{argument} must be a Metric, got {metric!r}{wrap_hint(metric)}")
    for attribute, kind in (("space", ChoiceSpace), ("name", str), ("unit", str)):
        value = getattr(metric, attribute, None)
        if not isinstance(value, kind):
            raise TypeError(
                f"{attribute} of {argument} {type(metric).__name__} must be a {kind.__name__}, got {value!r}; "
                "a metric sets space, name and unit"
            )


def standard_errors(level: float, freedom: float) -> float:
    """Distance of a one-sided confidence limit from the mean, in standard errors (Student, or normal)."""
    return float(ndtri(level) if np.isinf(freedom) else stdtrit(freedom, level))


def values_of(metric: Metric, selections: NDArray[np.int64]) -> NDArray[np.float64]:
    """Evaluate a metric and check the result: one number per selection, NaN for an invalid one."""
    try:
        return _checked(metric, "evaluate", selections, len(selections))
    except Invalid:
        if len(selections) == 1:
            return np.full(1, np.nan)
    return np.concatenate([values_of(metric, row[None]) for row in selections])


def table_of(metric: Metric, selection: NDArray[np.int64], *, local: bool = False) -> NDArray[np.float64]:
    """Replacement table of a metric, or that of its local parts, checked: one number per option, NaN if invalid."""
    method = "local_replacements" if local else "replacements"
    try:
        return _checked(metric, method, selection, metric.space.n_options)
    except Invalid:
        return Metric.replacements(metric, selection)


def sum_table_of(metric: Metric) -> SumTable | None:
    """The `sum_table` of a metric, checked: one number per option."""
    table, n = metric.sum_table(), metric.space.n_options
    if table is not None and np.shape(table.values) != (n,):
        raise MetricError(
            f"sum_table of metric {metric.name!r} must have one number per option, shape ({n},), got shape "
            f"{np.shape(table.values)}"
        )
    return table


def worsened(table: NDArray[Any], sign: float, limit: float = -np.inf) -> NDArray[Any]:
    """A table in which NaN is replaced by a finite number that is worse than all others.

    Parameters
    ----------
    table : ndarray
    sign : float
        1 if smaller numbers are better, -1 if greater ones are.
    limit : float
        The replacement exceeds it too, as ``sign * number > limit``.

    Examples
    --------
    >>> worsened(np.array([1.0, np.nan, 3.0]), 1.0), worsened(np.array([1.0, np.nan]), -1.0)
    (array([1., 6., 3.]), array([1., 0.]))
    """
    wrong = np.isnan(table)
    if not wrong.any():
        return table
    known = sign * table[~wrong]
    worst = max(float(known.max(initial=-np.inf)), limit)
    worst = worst if np.isfinite(worst) else 0.0
    return np.where(wrong, sign * (worst + (float(np.ptp(known)) if len(known) else 0.0) + 1.0) + 0.0, table)


def _checked(metric: Metric, method: str, argument: NDArray[Any], n: int) -> NDArray[Any]:
    argument = argument.view()
    argument.flags.writeable = False  # a metric that writes into its argument would change the search's selection
    try:
        values = getattr(metric, method)(argument)
    except (MetricError, Invalid):
        raise
    except Exception as error:
        raise MetricError(f"{method} of metric {metric.name!r} raised {type(error).__name__}: {error}") from error
    return check_numbers(metric, method, values, n)


def check_numbers(metric: Metric, method: str, values: Any, n: int | None = None) -> NDArray[Any]:
    """Convert the result of a metric's method to an array of `n` numbers; infinite ones become NaN (invalid)."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise MetricError(
            f"{method} of metric {metric.name!r} must return {n} numbers, shape ({n},), got a ragged list"
        ) from None
    if (n is not None and array.shape != (n,)) or array.dtype.kind not in "fiu":
        raise MetricError(
            f"{method} of metric {metric.name!r} must return {n} numbers, shape ({n},), "
            f"got {array.dtype} of shape {array.shape}"
        )
    # Unsigned numbers would wrap when negated, and half precision overflows in sums.
    if array.dtype not in (np.float64, np.float32):
        array = array.astype(float)
    return np.where(np.isinf(array), np.nan, array) if np.isinf(array).any() else array
