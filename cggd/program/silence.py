"""Silence: output of compiled code does not reach standard output, while output of Python does.

HiGHS prints some lines whatever its options are (`HighsMipSolverData::transformNewIntegerFeasibleSolution ...`). They
would break a JSON document on standard output. Python writes to the file descriptor, compiled code to the C variable
`stdout`. That variable points to the null device while a solver runs. Where the C library has no such variable
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
    """The C variable `stdout`, and a stream to the null device; None where there is no such variable."""
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
    """Discard what compiled code prints; several threads may do so at once."""
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
