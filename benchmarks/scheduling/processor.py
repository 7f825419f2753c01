"""Limits in processor time instead of wall-clock time, for comparisons on a machine with other work."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from ortools.sat.python import cp_model

from cggd import budget

POLL_SECONDS = 0.02


@contextmanager
def processor_time(workers: int) -> Iterator[None]:
    """Make cggd's budgets and CP-SAT count the processor time of this process, divided by the number of threads.

    PyJobShop calls CP-SAT, so it is limited in the same way.
    """
    solve, clock = cp_model.CpSolver.solve, budget.time

    def seconds() -> float:
        return time.process_time() / workers

    def limited(solver: Any, *arguments: Any, **options: Any) -> Any:
        end, done = seconds() + solver.parameters.max_time_in_seconds, threading.Event()
        solver.parameters.max_time_in_seconds = float("inf")

        def watch() -> None:
            while not done.wait(POLL_SECONDS):
                if seconds() > end:
                    solver.stop_search()

        threading.Thread(target=watch, daemon=True).start()
        try:
            return solve(solver, *arguments, **options)
        finally:
            done.set()

    try:
        budget.time, cp_model.CpSolver.solve = SimpleNamespace(perf_counter=seconds), limited  # pyright: ignore
        yield
    finally:
        budget.time, cp_model.CpSolver.solve = clock, solve
