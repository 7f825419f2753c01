"""Threads for HiGHS, which does not react to Ctrl-C and may be abandoned."""

from __future__ import annotations

import atexit
import ctypes
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any

from cggd.budget import Budget
from cggd.program.silence import compiled_code_silenced

# Interval at which the search checks whether to abandon a running solver. A solver that ends earlier causes no waiting.
POLL_SECONDS = 0.05

# Seconds that the process waits at its end for abandoned solvers, which stop at their own time limits.
EXIT_SECONDS = 2.0


class Background:
    """Daemon threads for solver calls that may be abandoned."""

    def __init__(self) -> None:
        # Each thread has an event that says when its work is done: `Thread.join` marks a running thread as ended if
        # Ctrl-C interrupts it (CPython up to 3.12).
        self.running: dict[threading.Thread, threading.Event] = {}
        self.lock: threading.Lock = threading.Lock()
        self.closed: bool = False
        atexit.register(self.close)

    def start(self, work: Callable[[], Any]) -> threading.Thread | None:
        """Do work in a thread of its own; None once the interpreter shuts down."""
        done = threading.Event()

        def run() -> None:
            try:
                work()
            finally:
                done.set()

        thread = threading.Thread(target=run, daemon=True)
        with self.lock:
            if self.closed:
                return None
            self.running = {t: event for t, event in self.running.items() if not event.is_set()} | {thread: done}
            thread.start()
        return thread

    def close(self) -> None:
        """Start no more threads, and wait up to EXIT_SECONDS for the running ones."""
        with self.lock:
            self.closed = True
        budget = Budget(EXIT_SECONDS)
        started = {t: done for t, done in self.running.items() if t.ident is not None}
        for thread, done in started.items():
            done.wait(budget.left)
            thread.join(budget.left)
        if not all(done.is_set() for done in started.values()):
            _leave_without_threads()


def _leave_without_threads() -> None:
    """Let the process end with its exit status, and without an abort, while a thread is still in compiled code.

    The interpreter ends a thread that returns to it during shutdown. C++ treats this as a fatal error and calls
    ``std::terminate``; the handler set here waits instead. The process then ends before C++ destructors find such a
    thread alive. Without glibc, nothing is done.
    """
    with suppress(OSError, AttributeError):
        c, cpp = ctypes.CDLL("libc.so.6"), ctypes.CDLL("libstdc++.so.6")
        cpp._ZSt13set_terminatePFvvE(c.pause)  # std::set_terminate
        c.on_exit(c._exit, None)


background: Background = Background()


def submitted(work: Callable[[], Any]) -> Future[Any] | None:
    """Do work in a background thread; the future has its result or error. None once the interpreter shuts down."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    return None if background.start(run) is None else future


def run_interruptibly(work: Callable[[], Any], stop: Callable[[], bool]) -> Any:
    """Run HiGHS in a thread, as it does not react to Ctrl-C; None if `stop` ended the waiting."""

    def silenced() -> Any:
        with compiled_code_silenced():
            return work()

    future = submitted(silenced)
    if future is None:
        return None
    while not future.done() and not stop():
        wait([future], POLL_SECONDS)
    return future.result() if future.done() else None
