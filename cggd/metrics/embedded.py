"""Metrics of some decisions, in a space that has more of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from cggd.checks import own
from cggd.expressions import Expression, Program
from cggd.metrics.base import Memory, Metric, SumTable, check_metric, sum_table_of, table_of
from cggd.metrics.evaluation import current_evaluation, evaluating
from cggd.metrics.state import Switch
from cggd.space import ChoiceSpace, check_space


@dataclass(frozen=True, eq=False, repr=False)
class Embedded(Metric):
    """A metric of some decisions of a space, as a metric of that space.

    Parameters
    ----------
    space : ChoiceSpace
        It has every decision of the metric's space, with the same options in the same order.
    metric : Metric
    name, unit : str
        Those of the metric by default.

    Examples
    --------
    >>> from cggd import Additive
    >>> whole = ChoiceSpace({"body": ["wide", "thin"], "head": ["deep", "flat"]})
    >>> cost = Embedded(whole, Additive(ChoiceSpace({"head": ["deep", "flat"]}), [3.0, 1.0], name="cost"))
    >>> cost({"body": "wide", "head": "flat"}), cost.replacements(np.array([0, 1]))
    (1.0, array([1., 1., 3., 1.]))
    """

    space: ChoiceSpace
    metric: Metric
    name: str = field(default="", kw_only=True)
    unit: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        check_space(self.space)
        check_metric(self.metric, "metric")
        for decision, options in self.metric.space.options.items():
            if decision not in self.space.options or tuple(self.space.options[decision]) != tuple(options):
                raise ValueError(
                    f"space must have every decision of metric {self.metric.name!r} with the same options; "
                    f"{decision!r} with {', '.join(map(str, options))} is missing"
                )
        own(self, name=self.name or self.metric.name, unit=self.unit or self.metric.unit)

    @cached_property
    def at(self) -> NDArray[np.int64]:
        """Position of each of the metric's decisions in the space."""
        return np.array([self.space.position(d) for d in self.metric.space.decisions], dtype=np.int64)

    @cached_property
    def taken(self) -> NDArray[np.int64]:
        """Position of each of the metric's options among those of the space."""
        layout = self.metric.space.layout
        return np.arange(layout.n_options) + (self.space.offsets[self.at] - layout.offsets[:-1])[layout.owner]

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """Evaluations of the metric, of which the space's forbidden options are none of the metric's."""
        outer = current_evaluation()
        allowed = None if outer.allowed is None else outer.allowed[self.taken]
        with evaluating(replace(outer, allowed=allowed, seen=None)):
            yield

    @property
    def calls_each(self) -> int:
        return self.metric.calls_each

    @property
    def costly(self) -> bool:
        return self.metric.costly

    def as_costly(self) -> Embedded:
        return replace(self, metric=self.metric.as_costly())

    def between(self, selections: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        with self._inside():
            return self.metric.between(np.ascontiguousarray(selections[:, self.at]))

    def remembered(self) -> NDArray[np.int64]:
        """Known selections of the metric; the other decisions, which do not matter, have their first option."""
        return self._whole(self.metric.remembered())

    def memories(self) -> Sequence[Memory]:
        return self._memories

    @cached_property
    def _memories(self) -> Sequence[Memory]:
        return [_MemoryOfPart(self, memory) for memory in self.metric.memories()]

    def moves(self, selection: NDArray[np.int64]) -> Iterable[Sequence[Switch]]:
        for move in self.metric.moves(np.ascontiguousarray(selection[self.at])):
            yield [(int(self.at[decision]), option) for decision, option in move]

    def _whole(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Selections of the metric's decisions with the first option of every other decision."""
        whole = np.zeros((len(rows), self.space.n_decisions), dtype=np.int64)
        whole[:, self.at] = rows
        return whole

    def _spread(self, table: Any, elsewhere: Any) -> Any:
        """A table of the metric's options in one of the space's options."""
        whole = np.full(self.space.n_options, elsewhere, dtype=float)
        whole[self.taken] = table
        return whole

    def _chosen(self, selection: NDArray[np.int64]) -> int:
        """An option of the metric that is selected; its entry of a table is the value."""
        return int(self.metric.space.layout.flat(selection[self.at])[0])

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        with self._inside():
            return self.metric.evaluate(np.ascontiguousarray(selections[:, self.at]))

    def replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        with self._inside():
            table = table_of(self.metric, selection[self.at])
        return self._spread(table, table[self._chosen(selection)])

    def local_replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        with self._inside():
            table = table_of(self.metric, selection[self.at], local=True)
        return self._spread(table, float(self.evaluate(selection[None])[0]))

    def rounded(self, selections: NDArray[np.int64], sign: float) -> tuple[NDArray[np.float64], Any]:
        with self._inside():
            return self.metric.rounded(np.ascontiguousarray(selections[:, self.at]), sign)

    def rounded_table(
        self, selection: NDArray[np.int64], sign: float, *, local: bool = False
    ) -> tuple[NDArray[np.float64], Any]:
        with self._inside():
            table, rounding = self.metric.rounded_table(selection[self.at], sign, local=local)
            value, other = self.metric.rounded(selection[None, self.at], sign)
        return self._spread(table, value[0]), self._spread(rounding, np.max(other))

    def value_errors(self, selections: NDArray[np.int64]) -> NDArray[np.float64] | None:
        with self._inside():
            return self.metric.value_errors(selections[:, self.at])

    def errors(self, selection: NDArray[np.int64]) -> NDArray[np.float64] | None:
        with self._inside():
            table = self.metric.errors(selection[self.at])
        return None if table is None else self._spread(table, table[self._chosen(selection)])

    @property
    def freedom(self) -> float:
        return self.metric.freedom

    @property
    def separable(self) -> bool:
        return self.metric.separable

    @property
    def parted(self) -> bool:
        return self.metric.parted

    @property
    def noisy(self) -> bool:
        return self.metric.noisy

    @property
    def closed_form(self) -> bool:
        return self.metric.closed_form

    def limits(self) -> tuple[float, float]:
        return self.metric.limits()

    def least_with(self, sign: float, allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
        least, own = self.metric.least_with(sign, allowed[self.taken]), self.metric.space.layout
        first = slice(0, int(own.offsets[1]))  # one of these is selected, for every option of another decision
        return self._spread(least, least[first][allowed[self.taken][first]].min())

    def sum_table(self) -> SumTable | None:
        table = sum_table_of(self.metric)
        return None if table is None else SumTable(self._spread(table.values, 0.0), table.constant, table.lost)

    def expression(self, program: Program, sign: float) -> Expression | None:
        return self.metric.expression(cast(Program, _Inside(program, self.metric.space, self.taken)), sign)

    def addends(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        return self.metric.addends()

    def minimum(self) -> float:
        return self.metric.minimum()

    def maximum(self) -> float:
        return self.metric.maximum()


@dataclass(frozen=True)
class _MemoryOfPart:
    """The memory of an embedded metric, with selections of the whole space; see `cggd.metrics.base.Memory`."""

    embedded: Embedded
    memory: Memory

    def record(self, selection: NDArray[np.int64], values: Mapping[str, float] | None, why: str = "") -> None:
        self.memory.record(np.ascontiguousarray(selection[self.embedded.at]), values, why)

    def pack(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        rows, numbers = self.memory.pack()
        return self.embedded._whole(rows), numbers

    def unpack(self, selections: NDArray[np.int64], numbers: NDArray[np.float64]) -> None:
        self.memory.unpack(np.ascontiguousarray(selections[:, self.embedded.at]), numbers)


class _Inside:
    """A program with options numbered as in the space of a metric of some of its decisions."""

    def __init__(self, program: Program, space: ChoiceSpace, taken: NDArray[np.int64]) -> None:
        self.program, self.space, self.taken = program, space, taken
        self.allowed = program.allowed[taken]

    def sum(self, values: Any, constant: float = 0.0) -> Expression:
        numbers = sparse.csr_array(values, dtype=float) if sparse.issparse(values) or np.ndim(values) == 2 else values
        if numbers is values:
            whole = np.zeros(self.program.space.n_options)
            whole[self.taken] = values
            return self.program.sum(whole, constant)
        where = sparse.csr_array(
            (np.ones(len(self.taken)), (np.arange(len(self.taken)), self.taken)),
            shape=(len(self.taken), self.program.space.n_options),
        )
        return self.program.sum(numbers @ where, constant)

    def chosen(self, options: ArrayLike) -> Expression:
        return self.program.chosen(self.taken[np.asarray(options, dtype=np.int64)])

    def of(self, metric: Any, sign: float = 1.0) -> Expression | None:
        return metric.expression(self, sign)

    def linear(self, metric: Any, sign: float = 1.0) -> Expression | None:
        return Program.linear(cast(Program, self), metric, sign)

    def __getattr__(self, name: str) -> Any:
        """Everything that does not depend on the numbering of options: variables, switches, rows and ranges."""
        return getattr(self.program, name)
