"""Workers: an executor that is replaced when it breaks, so that a worker that dies costs at most one call."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

# A call that was in progress when this many pools broke is given up, because it probably kills the workers.
BREAKS = 3

# Seconds that a cluster may take to transfer a call and its answer, in addition to the time of the calls.
PASSING_SECONDS = 60.0

EXECUTOR_WANTED = "executor must have a submit method as in concurrent.futures, or be a function that makes an executor"


class Workers:
    """An executor, or a function that makes one, with a `submit` that survives the death of workers.

    If a process of a process pool dies, the whole pool breaks, and all calls in progress are lost. Then a new pool is
    made, and the lost calls are repeated, one at a time. A call during which three pools broke raises
    `concurrent.futures.BrokenExecutor`. `Call.result` has a timeout for executors that do not report dead workers.

    Parameters
    ----------
    executor : Executor, or callable without parameters that makes one
        Other executors than process pools of the standard library are replaced only if a callable is given.

    Raises
    ------
    TypeError
        If the callable does not make an executor.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> workers = Workers(lambda: ThreadPoolExecutor(2))
    >>> workers.submit(pow, 2, 3).result(), workers.number
    (8, 2)
    >>> workers.close()
    """

    def __init__(self, executor: Any) -> None:
        self.alone: threading.Lock = threading.Lock()
        self._lock = threading.Lock()
        self._make: Callable[[], Any] | None = None
        self._own: list[Any] = []
        self.waiting: set[Call] = set()
        if isinstance(executor, type) or not hasattr(executor, "submit"):
            self._make = executor
            executor = self._made()
        self._pool = executor

    @property
    def number(self) -> int:
        """Number of calls that run at the same time; 1 if the executor does not tell."""
        number = getattr(self._pool, "_max_workers", None)
        client: Any = getattr(self._pool, "_client", None)
        if number is None and hasattr(client, "nthreads"):  # of a Dask cluster
            number = sum(client.nthreads().values())
        return number if isinstance(number, int) and number > 0 else 1

    def submit(self, fn: Callable, /, *args: Any) -> Call:
        """Start ``fn(*args)``."""
        return Call(self, fn, args)

    def start(self, fn: Callable, args: tuple[Any, ...]) -> tuple[Any, Any]:
        """The pool and the future of a call; a broken pool is replaced first."""
        for left in range(BREAKS, -1, -1):  # another call may break the new pool at once
            pool = self._pool
            try:
                return pool, pool.submit(once, next(NUMBERS), fn, *args)
            except BrokenExecutor as error:
                if left == 0:
                    raise
                with self._lock:
                    if self._pool is pool:
                        self._pool = self._another(pool, error)
        raise AssertionError

    def _made(self) -> Any:
        assert self._make is not None
        try:
            pool = self._make()
        except TypeError as error:
            raise TypeError(f"{EXECUTOR_WANTED}, got {self._make!r}: {error}") from error
        if not hasattr(pool, "submit"):
            raise TypeError(f"{EXECUTOR_WANTED}, got {self._make!r}, which made {pool!r}")
        self._own.append(pool)
        return pool

    def _another(self, broken: Any, error: BrokenExecutor) -> Any:
        if self._make is not None:
            return self._made()
        if type(broken) is not ProcessPoolExecutor:
            raise BrokenExecutor(
                f"{error}; to go on with another executor, give executor= a function that makes one"
            ) from error
        # There is no public access to the arguments of a pool.
        names = ("max_workers", "mp_context", "initializer", "initargs", "max_tasks_per_child")
        same: dict[str, Any] = {name: getattr(broken, f"_{name}") for name in names if hasattr(broken, f"_{name}")}
        pool = ProcessPoolExecutor(**same)
        self._own.append(pool)
        return pool

    def close(self) -> None:
        """Close the pools made here, but not the user's own."""
        for pool in self._own:
            with suppress(Exception):
                pool.shutdown(wait=False)
        self._own.clear()


@contextmanager
def shared(executor: Any) -> Iterator[Any]:
    """Make workers from an executor, and close them at the end; None and shared workers are yielded unchanged."""
    if executor is None or isinstance(executor, Workers):
        yield executor
        return
    workers = Workers(executor)
    try:
        yield workers
    finally:
        workers.close()


NUMBERS = itertools.count()


def once(number: int, fn: Callable, /, *args: Any) -> Any:
    """Call a function. The number makes each call different, because Dask computes equal calls only once."""
    return fn(*args)


class Call:
    """A call in progress: the part of the interface of futures that evaluations use."""

    def __init__(self, workers: Workers, fn: Callable, args: tuple[Any, ...]) -> None:
        self._workers, self._fn, self._args = workers, fn, args
        self._began, self._ahead = time.monotonic(), len(workers.waiting)
        self._pool, self._future = workers.start(fn, args)
        workers.waiting.add(self)

    def result(self, timeout: float | None = None) -> Any:
        """The result of the call; a call that is lost because its pool broke is repeated.

        Parameters
        ----------
        timeout : float, optional
            Largest number of seconds of one call. The wait may take this time for this call, and for each call that was
            waiting when this one was submitted.

        Raises
        ------
        TimeoutError
            If there is no answer, for example because a worker died and the executor does not report it.
        """
        try:
            for breaks in range(1, BREAKS + 1):
                with self._workers.alone if breaks > 1 else nullcontext():
                    try:
                        if breaks > 1:
                            self._began = time.monotonic()
                            self._pool, self._future = self._workers.start(self._fn, self._args)
                        return self._answer(timeout)
                    except BrokenExecutor as error:
                        if breaks == BREAKS:
                            raise BrokenExecutor(f"its worker died, {BREAKS} times; {error}") from error
                        if not _broken(self._pool):
                            raise  # the broken pool is one that the function itself uses
            raise AssertionError
        finally:
            self._workers.waiting.discard(self)

    def _answer(self, timeout: float | None) -> Any:
        if timeout is None:
            return self._future.result()
        patience = timeout * (1 + self._ahead) + PASSING_SECONDS
        try:
            return self._future.result(max(self._began + patience - time.monotonic(), 0.0))
        except TimeoutError as error:
            if self._future.done():
                raise  # raised by the function itself
            self._future.cancel()
            raise TimeoutError(f"no answer from the executor within {patience:g} s") from error

    def cancel(self) -> bool:
        """Try to prevent the call from beginning."""
        self._workers.waiting.discard(self)
        return self._future.cancel()


def _broken(pool: Any) -> bool:
    """Whether a pool accepts no more calls because workers died."""
    try:
        pool.submit(int)
    except BrokenExecutor:
        return True
    except RuntimeError:  # closed by the user
        return False
    return False
