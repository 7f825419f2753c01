"""How black boxes are called: through which executor, for which options, and how often they were."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Executor(Protocol):
    """The part of the `concurrent.futures.Executor` interface that evaluations use."""

    def submit(self, fn: Callable, /, *args: Any) -> Any:
        """Start ``fn(*args)`` and return a future with `result` and `cancel`."""
        ...


_counting = threading.Lock()


class OutOfCalls(BaseException):
    """Raised instead of a call beyond the limit of evaluations; ``except Exception`` in a metric does not catch it."""


def digest(row: NDArray[np.int64]) -> bytes:
    """What stands for a selection where there may be many; 16 bytes."""
    return hashlib.blake2b(row.tobytes(), digest_size=16).digest()


@dataclass
class Tally:
    """How often black boxes were called.

    With a limit, a selection counts as often as the black box called most often on it: several numbers of one selection
    are one evaluation.
    """

    calls: int = 0
    _selections: dict[bytes, int] = field(default_factory=dict, repr=False)
    _each: dict[tuple[bytes, int], int] = field(default_factory=dict, repr=False)

    def price(self, key: bytes, caller: object, calls: int) -> int:
        """By how much the count grows if a black box is called for a selection."""
        made = self._each.get((key, id(caller)), 0) + calls
        return max(made - self._selections.get(key, 0), 0)

    def add(self, key: bytes, caller: object) -> None:
        """Count one call of a black box for a selection."""
        self.calls += (more := self.price(key, caller, 1))
        self._selections[key] = self._selections.get(key, 0) + more
        self._each[key, id(caller)] = self._each.get((key, id(caller)), 0) + 1


@dataclass
class Evaluation:
    """How black boxes are called while it is in force, and how often they were.

    Attributes
    ----------
    executor : Executor or None
        Where calls run; in this process by default.
    allowed : bool array of shape (n_options,), or None
        The options that replacement tables must hold; a forbidden one may be impossible to evaluate.
    fresh : bool
        Call again even what a cache knows.
    admit : callable, optional
        Called before each call of a black box; it may raise to refuse it.
    most : int or None
        Largest number of `calls`.
    costly : bool
        Count only the calls of costly metrics (`Metric.costly`); the others are then cheap rules.
    seen : list of arrays of selections, or None
        If it is a list, black boxes append the selections that they were called with.
    tally : Tally
    """

    executor: Executor | None = None
    allowed: NDArray[np.bool_] | None = None
    fresh: bool = False
    admit: Callable[[], None] | None = None
    most: int | None = None
    costly: bool = False
    seen: list[NDArray[np.int64]] | None = field(default=None, repr=False)
    tally: Tally = field(default_factory=Tally, repr=False)

    @property
    def calls(self) -> int:
        """Calls made so far; with a limit, selections that black boxes were called for, and repeats (`Tally`)."""
        return self.tally.calls

    @calls.setter
    def calls(self, calls: int) -> None:
        self.tally.calls = calls

    @property
    def exhausted(self) -> bool:
        """Whether no further call may be made."""
        return self.most is not None and self.calls >= self.most

    def grant(self, keys: Sequence[bytes], caller: object, *, repeats: int = 1, costly: bool = False) -> int:
        """For how many of the selections, in their order, a black box may be called; `OutOfCalls` if for none.

        Parameters
        ----------
        keys : list of bytes
            `digest` of each selection.
        caller : Metric
        repeats : int
            Calls for each selection.
        """
        if self.most is None or not keys or (self.costly and not costly):
            return len(keys)
        left = self.most - self.calls
        for i, key in enumerate(keys):
            left -= self.tally.price(key, caller, repeats)
            if left < 0:
                if i == 0:
                    raise OutOfCalls
                return i
        return len(keys)

    def count(self, keys: Sequence[bytes], caller: object, *, costly: bool = False) -> None:
        """Count a call for each selection, which is about to be made; raises `OutOfCalls` if there are none left."""
        self.grant(keys, caller, costly=costly)
        if self.admit is not None:
            self.admit()
        if self.costly and not costly:
            return
        with _counting:
            if self.most is None:
                self.calls += len(keys)
            else:
                for key in keys:
                    self.tally.add(key, caller)

    def note(self, selections: NDArray[np.int64]) -> None:
        """Remember selections that a black box was called with."""
        if self.seen is not None and len(selections):
            self.seen.append(np.array(selections))


_current: ContextVar[Evaluation | None] = ContextVar("evaluation", default=None)


@contextmanager
def evaluating(evaluation: Evaluation) -> Iterator[Evaluation]:
    """Put an evaluation in force for every metric, however deeply composed."""
    token = _current.set(evaluation)
    try:
        yield evaluation
    finally:
        _current.reset(token)


@contextmanager
def afresh() -> Iterator[None]:
    """Call black boxes again even where a cache knows, through the executor in force, and count the calls there."""
    with evaluating(replace(current_evaluation(), fresh=True, admit=None, seen=None)):
        yield


def current_evaluation() -> Evaluation:
    """The evaluation in force, or one that changes nothing."""
    return _current.get() or Evaluation()
