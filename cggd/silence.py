"""Silence: what compiled code prints does not reach standard output, while everything that Python prints does.

HiGHS prints some lines whatever its options say (`HighsMipSolverData::transformNewIntegerFeasibleSolution ...`), which
would break a JSON document on standard output. Python writes to the file descriptor itself; compiled code writes
through C's `stdout`, so that one is pointed elsewhere while a solver runs. Where the C library has no such variable
(Windows), nothing is done.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_lock = threading.Lock()
_running = 0
_before: int | None = None


@cache
def _stdout() -> tuple[ctypes.c_void_p, int] | None:
    """C's variable `stdout`, and a stream to nowhere; None where there is no such variable."""
    try:
        library = ctypes.CDLL(None)
        variable = next(
            ctypes.c_void_p.in_dll(library, name) for name in ("stdout", "__stdoutp") if hasattr(library, name)
        )
        library.fopen.restype = ctypes.c_void_p
        nowhere = library.fopen(os.devnull.encode(), b"w")
    except (OSError, TypeError, ValueError, AttributeError, StopIteration):
        return None
    return (variable, nowhere) if nowhere else None


@contextmanager
def compiled_code_silenced() -> Iterator[None]:
    """Send what compiled code prints to nowhere; several threads may do so at once."""
    global _running, _before
    if (known := _stdout()) is None:
        yield
        return
    variable, nowhere = known
    with _lock:
        if _running == 0:
            _before = variable.value
            variable.value = nowhere
        _running += 1
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if _running == 0:
                variable.value = _before
