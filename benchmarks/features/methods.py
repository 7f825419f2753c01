"""cggd and the baselines, all of one signature: (problem, seed, time_limit) -> support."""

from __future__ import annotations

import importlib
from collections.abc import Collection
from dataclasses import dataclass

from benchmarks.features.problem import Method

OPTIMA, DESIGN, CLINICAL, BUNDLED = "optima", "design", "clinical", "bundled"
PARTS = (OPTIMA, DESIGN, CLINICAL, BUNDLED)
NESTED = (CLINICAL, BUNDLED)  # selected on half of the samples, scored on the other half


@dataclass(frozen=True)
class Entrant:
    """A method, the package without which it cannot run, and the parts of the benchmark in which it takes part."""

    module: str
    function: str
    package: str = "sklearn"
    parts: Collection[str] = PARTS

    def load(self) -> Method:
        """Import what it needs."""
        return getattr(importlib.import_module(f"benchmarks.features.{self.module}"), self.function)


ENTRANTS = {
    "cggd": Entrant("ours", "cggd"),
    "cggd, EBIC": Entrant("ours", "cggd_ebic", parts={DESIGN}),
    "cggd, deviance": Entrant("ours", "cggd_deviance", parts=NESTED),
    "exhaustive": Entrant("exact", "exhaustive", parts={OPTIMA, CLINICAL}),
    "greedy, gain": Entrant("greedy", "by_gain"),
    "greedy, gain per cost": Entrant("greedy", "by_gain_per_cost"),
    "SFS": Entrant("sequential", "sfs"),
    "RFE": Entrant("rankings", "rfe", parts=NESTED),
    "mRMR": Entrant("rankings", "mrmr"),
    "lasso path": Entrant("rankings", "lasso"),
    "genetic": Entrant("genetic", "genetic", package="pymoo"),
    "cutting planes": Entrant("exact", "cutting_planes", parts={OPTIMA}),
    "abess": Entrant("best_subset", "abess", package="abess"),
    "random": Entrant("rankings", "at_random"),
}
