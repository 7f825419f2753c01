"""States: incremental evaluation of a metric at a selection that changes by switches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cggd.space import ChoiceSpace

# Number of moves that can be undone.
DEPTH = 16

# Sums are recomputed after this many moves, which bounds the accumulated rounding error.
REFRESHED = 1024

# A decision and the index of its new option.
Switch = tuple[int, int]


class State(Protocol):
    """Value and replacement table of a metric at a selection, updated by every move.

    Attributes
    ----------
    value : float
        Value of the metric at the selection, up to rounding.
    weights : ndarray of shape (n_options,) or None
        The numbers of the options if the metric is their sum plus a constant; None otherwise.
    sampled : bool
        Whether `table` evaluates one selection per option, so that a few `entries` cost less.
    """

    @property
    def value(self) -> float: ...
    @property
    def weights(self) -> NDArray[Any] | None: ...
    @property
    def sampled(self) -> bool: ...
    def table(self) -> NDArray[Any]:
        """Replacement table at the selection, shape (n_options,)."""
        ...

    def local_table(self) -> NDArray[Any]:
        """Replacement table for only the parts that a decision affects (`Metric.local_replacements`)."""
        ...

    def entries(self, options: NDArray[np.int64]) -> NDArray[Any]:
        """Entries of the replacement table at the given options, which are positions in it."""
        ...

    def exchanges(self, outgoing: Switch) -> NDArray[Any] | None:
        """Replacement table after a switch, without making it; None if that needs `move`."""
        ...

    def move(self, switches: Sequence[Switch]) -> None:
        """Switch one or several distinct decisions."""
        ...

    def undo(self) -> None:
        """Undo the last move; up to `DEPTH` moves can be undone in sequence."""
        ...


class Trail:
    """A selection and its last moves, for undo.

    Examples
    --------
    >>> trail = Trail(np.array([0, 0, 0]))
    >>> trail.move([(1, 2)]), trail.selection.tolist()
    ([(1, 0, 2)], [0, 2, 0])
    >>> trail.undo(), trail.selection.tolist()
    ([(1, 2, 0)], [0, 0, 0])
    """

    def __init__(self, selection: NDArray[np.int64]) -> None:
        self.selection: NDArray[np.int64] = np.array(selection, dtype=np.int64)
        self.past: deque[list[tuple[int, int, int]]] = deque(maxlen=DEPTH)
        self._moves = 0

    @property
    def refresh_due(self) -> bool:
        """Whether sums that follow the moves are to be recomputed now."""
        return self._moves % REFRESHED == 0

    def move(self, switches: Sequence[Switch]) -> list[tuple[int, int, int]]:
        """Make a move; return each switched decision with its old and new option."""
        made = [(decision, int(self.selection[decision]), option) for decision, option in switches]
        for decision, _, option in made:
            self.selection[decision] = option
        self.past.append(made)
        self._moves += 1
        return made

    def undo(self) -> list[tuple[int, int, int]]:
        """Undo the last move; return the switched decisions as `move` does."""
        if not self.past:
            raise IndexError("no move to undo")
        back = [(decision, after, before) for decision, before, after in self.past.pop()]
        for decision, _, option in back:
            self.selection[decision] = option
        self._moves += 1
        return back


@dataclass(eq=False)
class Recomputed:
    """State of any metric: replacement tables are recomputed on demand after each move.

    Parameters
    ----------
    space : ChoiceSpace
    selection : ndarray of int, shape (n_decisions,)
    evaluate : callable
        Values of selections, (n, n_decisions) to (n,).
    replacements, local_replacements : callable
        Replacement tables at a selection, (n_decisions,) to (n_options,).
    sampled : bool
        Whether a table takes one evaluation per option.
    """

    space: ChoiceSpace
    selection: InitVar[NDArray[np.int64]]
    evaluate: Callable[[NDArray[np.int64]], NDArray[Any]]
    replacements: Callable[[NDArray[np.int64]], NDArray[Any]]
    local_replacements: Callable[[NDArray[np.int64]], NDArray[Any]]
    sampled: bool = field(kw_only=True)
    weights: NDArray[Any] | None = field(init=False, default=None)
    _value: float | None = field(init=False, default=None)
    _table: NDArray[Any] | None = field(init=False, default=None)
    _entries: dict[int, float] = field(init=False, default_factory=dict)

    def __post_init__(self, selection: NDArray[np.int64]) -> None:
        self.trail: Trail = Trail(selection)

    @property
    def value(self) -> float:
        if self._value is None:
            self._value = float(self.evaluate(self.trail.selection[None])[0])
        return self._value

    def table(self) -> NDArray[Any]:
        if self._table is None:
            self._table = self.replacements(self.trail.selection)
            self._value = float(self._table[self.space.offsets[0] + self.trail.selection[0]])
        return self._table

    def local_table(self) -> NDArray[Any]:
        return self.local_replacements(self.trail.selection)

    def entries(self, options: NDArray[np.int64]) -> NDArray[Any]:
        if not self.sampled or self._table is not None:
            return self.table()[options]
        values = self.evaluate(self.space.switches(self.trail.selection, options))
        self._entries.update(zip(options.tolist(), values.tolist(), strict=True))
        return values

    def exchanges(self, outgoing: Switch) -> NDArray[Any] | None:
        return None

    def move(self, switches: Sequence[Switch]) -> None:
        known = None
        if len(switches) == 1:
            at = int(self.space.offsets[switches[0][0]]) + switches[0][1]
            known = self._entries.get(at) if self._table is None else float(self._table[at])
        self.trail.move(switches)
        self._forget(known)

    def undo(self) -> None:
        self.trail.undo()
        self._forget(None)

    def _forget(self, value: float | None) -> None:
        self._value, self._table, self._entries = value, None, {}


class TrailState:
    """Base of states with a `Trail`: they update what they keep after each move and each undo.

    Attributes
    ----------
    trail : Trail
        The subclass makes it.
    """

    weights: Any = None
    sampled = False
    trail: Trail

    def move(self, switches: Sequence[Switch]) -> None:
        self._moved(self.trail.move(switches))

    def undo(self) -> None:
        self._moved(self.trail.undo())

    def _moved(self, made: Sequence[tuple[int, int, int]]) -> None:
        """Update the state; each switched decision is given with its option before and after. By default nothing."""


class SumState(TrailState):
    """State of a sum of one number per selected option plus a constant.

    A move takes time in proportion to the options of the switched decisions. A replacement table takes one vector
    addition.

    Examples
    --------
    >>> state = SumState(ChoiceSpace.from_sizes([2, 2]), np.array([1.0, 2.5, 0.5, 0.0]), 0.0, np.array([1, 0]))
    >>> state.value, state.table()
    (3.0, array([1.5, 3. , 3. , 2.5]))
    >>> state.move([(0, 0)])
    >>> state.value, state.table()
    (1.5, array([1.5, 3. , 1.5, 1. ]))
    """

    def __init__(
        self, space: ChoiceSpace, weights: NDArray[Any], constant: float, selection: NDArray[np.int64]
    ) -> None:
        self.space: ChoiceSpace = space
        self.weights: NDArray[Any] = np.asarray(weights, dtype=float)
        self.constant: float = constant
        self.trail: Trail = Trail(selection)
        self._refresh()

    def _refresh(self) -> None:
        chosen = self.weights[self.space.layout.flat(self.trail.selection)]
        self.value: float = float(chosen.sum() + self.constant)
        # Change of the value by each switch.
        self._gain = self.weights - self.space.layout.spread(chosen)

    def table(self) -> NDArray[Any]:
        return self._gain + self.value

    local_table = table

    def entries(self, options: NDArray[np.int64]) -> NDArray[Any]:
        return self._gain[options] + self.value

    def exchanges(self, outgoing: Switch) -> NDArray[Any]:
        decision, option = outgoing
        first, last = self.space.offsets[decision : decision + 2].tolist()
        gain = self._gain[first + option]
        table = self._gain + (self.value + gain)
        table[first:last] -= gain
        return table

    def _moved(self, made: Sequence[tuple[int, int, int]]) -> None:
        if self.trail.refresh_due:
            self._refresh()
            return
        for decision, _, option in made:
            first, last = self.space.offsets[decision], self.space.offsets[decision + 1]
            self.value += float(self._gain[first + option])
            chosen = self.weights[first + option]
            self._gain[first:last] = self.weights[first:last] - chosen


@dataclass(eq=False)
class JoinedState:
    """State of a metric that is a function of other metrics, such as a weighted sum or a maximum.

    Parameters
    ----------
    parts : list of State
    join : callable
        Maps the values or tables of the parts, shape (n_parts, ...), to those of the metric.
    local : callable
        Maps the states of the parts to the local table.
    weights : ndarray of shape (n_options,) or None
    """

    parts: Sequence[State]
    join: Callable[[Sequence[NDArray[Any]]], NDArray[Any]]
    local: Callable[[Sequence[State]], NDArray[Any]]
    weights: NDArray[Any] | None = None

    @property
    def value(self) -> float:
        return float(self.join([np.asarray(part.value) for part in self.parts]))

    @property
    def sampled(self) -> bool:
        return any(part.sampled for part in self.parts)

    def table(self) -> NDArray[Any]:
        return self.join([part.table() for part in self.parts])

    def local_table(self) -> NDArray[Any]:
        return self.local(self.parts)

    def entries(self, options: NDArray[np.int64]) -> NDArray[Any]:
        return self.join([part.entries(options) for part in self.parts])

    def exchanges(self, outgoing: Switch) -> NDArray[Any] | None:
        known = []
        for part in self.parts:
            if (table := part.exchanges(outgoing)) is None:
                return None
            known.append(table)
        return self.join(known)

    def move(self, switches: Sequence[Switch]) -> None:
        for part in self.parts:
            part.move(switches)

    def undo(self) -> None:
        for part in self.parts:
            part.undo()
