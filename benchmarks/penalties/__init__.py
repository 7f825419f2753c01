"""The NATS tables under bounds: cggd against the penalty losses of its paper's comparison, and Cooper's Lagrangian.

All run in one loop, on the same task gradient, temperatures, step sizes, random numbers and look-ups. What the user
of an opponent has to tune is scanned, and its best tuning is chosen in hindsight for each setting.
"""

from benchmarks.penalties.report import main

__all__ = ["main"]
