"""How black boxes are called: through which executor, for which options, and how often they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Executor(Protocol):
    """The part of the `concurrent.futures.Executor` interface that evaluations use."""

    def submit(self, fn: Callable, /, *args: Any) -> Any:
        """Start ``fn(*args)`` and return a future with `result` and `cancel`."""
        ...


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
    """

    executor: Executor | None = None
    allowed: NDArray[np.bool_] | None = None
    fresh: bool = False
    calls: int = 0
    admit: Callable[[], None] | None = None

    def count(self, calls: int = 1) -> None:
        """Count calls that are about to be made."""
        if self.admit is not None:
            self.admit()
        self.calls += calls


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
    inner = Evaluation(outer.executor, outer.allowed, fresh=True)
    try:
        with evaluating(inner):
            yield
    finally:
        outer.calls += inner.calls


def current_evaluation() -> Evaluation:
    """The evaluation in force, or one that changes nothing."""
    return _current.get() or Evaluation()
