"""How black boxes are called: through which executor, for which options, and how often they were."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
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
    calls : int
        Calls made so far: one per selection and repeat.
    admit : callable, optional
        Called before each call of a black box; it may raise to refuse it.
    most : int or None
        Largest number of calls.
    reserved : int
        Calls of these that are kept for the end, to evaluate the answer again.
    costly : bool
        Count only the calls of costly metrics (`Metric.costly`); the others are then cheap rules.
    seen : list of arrays of selections, or None
        If it is a list, black boxes append the selections that they were called with.
    """

    executor: Executor | None = None
    allowed: NDArray[np.bool_] | None = None
    fresh: bool = False
    calls: int = 0
    admit: Callable[[], None] | None = None
    most: int | None = None
    reserved: int = 0
    costly: bool = False
    seen: list[NDArray[np.int64]] | None = field(default=None, repr=False)

    @property
    def exhausted(self) -> bool:
        """Whether no further call may be made."""
        return self.left <= 0

    @property
    def left(self) -> float:
        """How many calls may still be made; infinite without a limit."""
        return np.inf if self.most is None else self.most - self.reserved - self.calls

    def grant(self, calls: int, *, costly: bool = False) -> int:
        """How many of the calls may be made; raises `OutOfCalls` if none may."""
        if self.most is None or calls == 0 or (self.costly and not costly):
            return calls
        if self.exhausted:
            raise OutOfCalls
        return int(min(calls, self.left))

    def count(self, calls: int = 1, *, costly: bool = False) -> None:
        """Count calls that are about to be made; raises `OutOfCalls` if there are none left."""
        self.grant(calls, costly=costly)
        if self.admit is not None:
            self.admit()
        if costly or not self.costly:
            with _counting:
                self.calls += calls

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
    outer = current_evaluation()
    most = None if outer.most is None else int(outer.left)
    inner = Evaluation(outer.executor, outer.allowed, fresh=True, most=most, costly=outer.costly)
    try:
        with evaluating(inner):
            yield
    finally:
        outer.calls += inner.calls


def current_evaluation() -> Evaluation:
    """The evaluation in force, or one that changes nothing."""
    return _current.get() or Evaluation()
