"""Calls of black boxes: the executor, the options to evaluate, and the number of calls."""

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


class OutOfTime(BaseException):
    """Raised before a black-box call after the time limit; ``except Exception`` in a metric does not catch it."""


class OutOfCalls(BaseException):
    """Raised instead of a call beyond the limit of evaluations; ``except Exception`` in a metric does not catch it."""


def digest(row: NDArray[np.int64]) -> bytes:
    """A hash of a selection, 16 bytes."""
    return hashlib.blake2b(row.tobytes(), digest_size=16).digest()


@dataclass
class Tally:
    """Number of calls of black boxes.

    With a limit, a selection counts as often as the black box called most often for it. Several numbers of one
    selection are therefore one evaluation.
    """

    calls: int = 0
    _selections: dict[bytes, int] = field(default_factory=dict, repr=False)
    _each: dict[tuple[bytes, int], int] = field(default_factory=dict, repr=False)

    def price(self, key: bytes, caller: object, calls: int) -> int:
        """Increase of the count by calls of a black box for a selection."""
        made = self._each.get((key, id(caller)), 0) + calls
        return max(made - self._selections.get(key, 0), 0)

    def add(self, key: bytes, caller: object) -> None:
        """Count one call of a black box for a selection."""
        self.calls += (more := self.price(key, caller, 1))
        self._selections[key] = self._selections.get(key, 0) + more
        self._each[key, id(caller)] = self._each.get((key, id(caller)), 0) + 1

    def remove(self, key: bytes, caller: object) -> None:
        """Undo the count of one call."""
        self._each[key, id(caller)] -= 1
        most = max(made for (one, _), made in self._each.items() if one == key)
        self.calls -= self._selections[key] - most
        self._selections[key] = most


@dataclass
class Evaluation:
    """How black boxes are called while it is active, and the number of calls.

    Attributes
    ----------
    executor : Executor or None
        Where calls run; in this process by default.
    allowed : bool array of shape (n_options,), or None
        The options that replacement tables must hold; a forbidden one may be impossible to evaluate.
    fresh : bool
        Call black boxes even for selections in their caches.
    admit : callable, optional
        Called before each call of a black box; it may raise to refuse it.
    most : int or None
        Largest number of `calls`.
    reserved : int
        Number of these calls that are reserved for evaluating the answer again.
    costly : bool
        Count only the calls of costly metrics (`Metric.costly`).
    seen : list of arrays of selections, or None
        If it is a list, black boxes append the selections that they were called with.
    tally : Tally
    """

    executor: Executor | None = None
    allowed: NDArray[np.bool_] | None = None
    fresh: bool = False
    admit: Callable[[], None] | None = None
    most: int | None = None
    reserved: int = 0
    costly: bool = False
    seen: list[NDArray[np.int64]] | None = field(default=None, repr=False)
    tally: Tally = field(default_factory=Tally, repr=False)

    @property
    def calls(self) -> int:
        """Number of calls so far; with a limit, the count of `Tally`."""
        return self.tally.calls

    @calls.setter
    def calls(self, calls: int) -> None:
        self.tally.calls = calls

    @property
    def exhausted(self) -> bool:
        """Whether no further call may be made."""
        return self.left <= 0

    @property
    def left(self) -> float:
        """Number of calls left; infinite without a limit."""
        return np.inf if self.most is None else self.most - self.reserved - self.calls

    def grant(self, keys: Sequence[bytes], caller: object, *, repeats: int = 1, costly: bool = False) -> int:
        """Number of the first selections for which a black box may be called; raises `OutOfCalls` if there are none.

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
        left = self.left
        for i, key in enumerate(keys):
            left -= self.tally.price(key, caller, repeats)
            if left < 0:
                if i == 0:
                    raise OutOfCalls
                return i
        return len(keys)

    def count(self, keys: Sequence[bytes], caller: object, *, costly: bool = False) -> None:
        """Count a call for each selection before it is made; raises `OutOfCalls` if no calls are left."""
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

    def uncount(self, key: bytes, caller: object) -> None:
        """Undo the count of a costly call that did not begin."""
        with _counting:
            if self.most is None:
                self.calls -= 1
            else:
                self.tally.remove(key, caller)

    def note(self, selections: NDArray[np.int64]) -> None:
        """Remember selections that a black box was called with."""
        if self.seen is not None and len(selections):
            self.seen.append(np.array(selections))


_current: ContextVar[Evaluation | None] = ContextVar("evaluation", default=None)


@contextmanager
def evaluating(evaluation: Evaluation) -> Iterator[Evaluation]:
    """Make an evaluation active for all metrics, including the parts of composed ones."""
    token = _current.set(evaluation)
    try:
        yield evaluation
    finally:
        _current.reset(token)


@contextmanager
def without_cache() -> Iterator[None]:
    """Evaluate without the caches of black boxes, with the active executor, and count these calls."""
    with evaluating(replace(current_evaluation(), fresh=True, admit=None, seen=None)):
        yield


def current_evaluation() -> Evaluation:
    """The active evaluation, or one with the defaults."""
    return _current.get() or Evaluation()
