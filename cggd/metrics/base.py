"""The protocol of metrics, and how their answers are checked."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cggd.metrics.evaluation import current_evaluation
from cggd.space import ENUMERABLE, ChoiceSpace

if TYPE_CHECKING:
    from cggd.constraints import Constraint

# Numbers that a batch of sampled selections may hold (32 MB of int64).
CHUNK = 4_000_000


class MetricError(RuntimeError):
    """A metric raised, or returned something that is not one finite number per selection."""


@runtime_checkable
class Metric(Protocol):
    """Anything that can be evaluated on a selection; subclass it and write `evaluate`.

    Metrics compose: ``a + b``, ``2 * a``, ``-a`` and ``maximum(a, b)`` are metrics with exact replacement tables
    again, and ``metric <= bound`` and ``metric >= bound`` make constraints.

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

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        """Values of selections, shape (n, n_decisions) to (n,)."""
        ...

    def replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        """Replacement table at a selection, shape (n_options,): entry o is the value with option o put in.

        By default one batch of evaluations, one per option that may be chosen.
        """
        return self.over_switches(self.evaluate, selection)

    def over_switches(self, function: Callable[[NDArray[np.int64]], NDArray], selection: NDArray[np.int64]) -> NDArray:
        """A function of selections applied to every switch of one, shape (n_options,).

        Forbidden options are not evaluated, and have the value of the selection itself.
        """
        switches, allowed = self.space.switches(selection), current_evaluation().allowed
        if allowed is None:
            return function(switches)
        values = function(np.concatenate([selection[None], switches[allowed]]))
        table = np.full(self.space.n_options, values[0])
        table[allowed] = values[1:]
        return table

    def errors(self, selection: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Standard errors of the replacement table, shape (n_options,), or None where it is taken as exact."""
        return None

    @property
    def separable(self) -> bool:
        """Whether replacement tables at two selections differ by one number per decision only, as sums' tables do."""
        return False

    @property
    def noisy(self) -> bool:
        """Whether two evaluations of one selection are expected to differ."""
        return False

    def limits(self) -> tuple[float, float]:
        """Numbers between which every value lies, found without evaluating anything; infinite where none is known."""
        return -np.inf, np.inf

    def minimum(self) -> float:
        """Least value over the space.

        Raises
        ------
        ValueError
            Where it is not known in closed form and the space is too large to be enumerated.
        """
        return float(_all_values(self, "least").min())

    def maximum(self) -> float:
        """Greatest value over the space; raises as `minimum` does."""
        return float(_all_values(self, "greatest").max())

    def quantile(self, q: float, *, samples: int = 10_000, seed: int = 0) -> float:
        """Value that a share `q` of all selections does not exceed.

        Exact where the space has at most `samples` selections or the metric stores every value; otherwise over
        `samples` selections drawn uniformly, each of them evaluated.
        """
        q = as_number(q, "q")
        if not 0 <= q <= 1:
            raise ValueError(f"q must lie between 0 and 1, got {q}")
        if self.space.n_selections <= samples:
            return float(np.quantile(self.evaluate(self.space.enumerate()), q))
        rng = np.random.default_rng(seed)
        rows = max(1, CHUNK // self.space.n_decisions)
        counts = [min(rows, samples - done) for done in range(0, samples, rows)]
        return float(np.quantile(np.concatenate([self.evaluate(self.space.sample(n, rng)) for n in counts]), q))

    def __call__(self, selection: Mapping[Hashable, Hashable] | ArrayLike) -> float:
        """Value of one selection, given as labels or as indices."""
        return float(self.evaluate(self.space.indices(selection)[None])[0])

    def __repr__(self) -> str:
        unit = f" [{self.unit}]" if self.unit else ""
        return f"{type(self).__name__}({self.name}{unit}, {self.space})"

    # numpy scalars must leave `3.0 * metric` and `np.float64(5) >= metric` to the metric.
    __array_ufunc__ = None

    def __add__(self, other: Metric | float) -> Metric:
        return _compose().combine(self, other)

    def __radd__(self, other: float) -> Metric:
        return _compose().combine(self, other)

    def __sub__(self, other: Metric | float) -> Metric:
        return _compose().combine(self, -other)

    def __rsub__(self, other: float) -> Metric:
        return _compose().combine(-self, other)

    def __neg__(self) -> Metric:
        return _compose().scale(self, -1.0)

    def __mul__(self, factor: float) -> Metric:
        return _compose().scale(self, as_number(factor, "factor"))

    def __rmul__(self, factor: float) -> Metric:
        return _compose().scale(self, as_number(factor, "factor"))

    def __truediv__(self, divisor: float) -> Metric:
        return _compose().scale(self, 1.0 / as_number(divisor, "divisor"))

    def __le__(self, bound: float) -> Constraint:
        return _constraint()(self, bound, "<=")

    def __ge__(self, bound: float) -> Constraint:
        return _constraint()(self, bound, ">=")

    def __lt__(self, bound: float) -> Constraint:
        raise TypeError(f"strict bounds are not supported; write {self.name} <= bound")

    def __gt__(self, bound: float) -> Constraint:
        raise TypeError(f"strict bounds are not supported; write {self.name} >= bound")


def _compose():
    from cggd.metrics import compose

    return compose


def _constraint() -> type[Constraint]:
    from cggd.constraints import Constraint

    return Constraint


def as_number(value: Any, argument: str, *, finite: bool = True) -> float:
    """A float from any real number but a bool; `argument` names it in the error."""
    if isinstance(value, bool | np.bool_ | str | bytes | complex | np.complexfloating):
        raise TypeError(f"{argument} must be a number, got {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{argument} must be a number, got {value!r}") from None
    if np.isnan(number) or (finite and np.isinf(number)):
        raise ValueError(f"{argument} must be {'finite' if finite else 'a number'}, got {number}")
    return number


def _all_values(metric: Metric, which: str) -> NDArray[np.float64]:
    if metric.space.n_selections > ENUMERABLE:
        raise ValueError(
            f"the {which} value of {metric.name!r} is not known in closed form, and the space has "
            f"{metric.space.n_selections:.3g} selections, too many to try; give the bound as a number"
        )
    return values_of(metric, metric.space.enumerate())


def own(instance: Any, **fields: Any) -> None:
    """Set fields of a frozen dataclass from its own `__post_init__`."""
    for name, value in fields.items():
        object.__setattr__(instance, name, value)


def values_of(metric: Metric, selections: NDArray[np.int64]) -> NDArray[np.float64]:
    """Evaluate a metric and check what it returned: one finite number per selection."""
    return _checked(metric, "evaluate", metric.evaluate(selections), len(selections))


def table_of(metric: Metric, selection: NDArray[np.int64]) -> NDArray[np.float64]:
    """Replacement table of a metric, checked: one finite number per option."""
    return _checked(metric, "replacements", metric.replacements(selection), metric.space.n_options)


def _checked(metric: Metric, method: str, values: Any, n: int) -> NDArray[np.float64]:
    array = np.asarray(values)
    if array.shape != (n,) or array.dtype.kind not in "fiu":
        raise MetricError(
            f"{method} of metric {metric.name!r} must return {n} numbers, shape ({n},), "
            f"got {array.dtype} of shape {array.shape}"
        )
    # A finite sum proves finite terms in one pass without a temporary.
    if not np.isfinite(array.sum()) and not np.isfinite(array).all():
        at = int(np.argmax(~np.isfinite(array)))
        raise MetricError(
            f"{method} of metric {metric.name!r} returned {array[at]} at position {at}; it must be finite"
        )
    return array
