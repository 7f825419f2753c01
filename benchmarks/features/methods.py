"""cggd and the baselines, all with the signature (problem, seed, time_limit) -> support."""

from __future__ import annotations

import importlib
from collections.abc import Collection
from dataclasses import dataclass

from benchmarks.features.problem import Method

OPTIMA, DESIGN, CLINICAL, BUNDLED, BOOSTING = "optima", "design", "clinical", "bundled", "boosting"
PARTS = (OPTIMA, DESIGN, CLINICAL, BUNDLED, BOOSTING)
NESTED = (CLINICAL, BUNDLED, BOOSTING)  # selected on half of the samples, scored on the other half


@dataclass(frozen=True)
class Entrant:
    """A method, the package that it needs, its parts of the benchmark, and whether it ends soon on a few columns."""

    module: str
    function: str
    package: str = "sklearn"
    parts: Collection[str] = PARTS
    ends: bool = False

    def load(self) -> Method:
        """Import what it needs."""
        return getattr(importlib.import_module(f"benchmarks.features.{self.module}"), self.function)


ENTRANTS = {
    "cggd": Entrant("ours", "cggd"),
    "cggd, EBIC": Entrant("ours", "cggd_ebic", parts={DESIGN}),
    "cggd, AUC": Entrant("ours", "cggd_auc", parts=NESTED),
    "exhaustive": Entrant("exact", "exhaustive", parts={OPTIMA, CLINICAL}),
    "greedy, gain": Entrant("greedy", "by_gain", ends=True),
    "greedy, gain per cost": Entrant("greedy", "by_gain_per_cost", parts={OPTIMA, DESIGN, CLINICAL}, ends=True),
    "SFS": Entrant("sequential", "sfs", ends=True),
    "RFE": Entrant("rankings", "rfe", parts=NESTED),
    "mRMR": Entrant("rankings", "mrmr"),
    "lasso path": Entrant("rankings", "lasso"),
    "genetic": Entrant("genetic", "genetic", package="pymoo"),
    "cutting planes": Entrant("exact", "cutting_planes", parts={OPTIMA}),
    "abess": Entrant("best_subset", "abess", package="abess"),
    "random": Entrant("rankings", "at_random"),
}

# Methods for gradient boosting as the model; the last four do not use this model.
BOOSTED = {
    "cggd": Entrant("boosting", "cggd"),
    "SFS": Entrant("boosting", "sfs"),
    "RFE": Entrant("boosting", "rfe"),
    "importances": Entrant("boosting", "importances"),
    **{name: ENTRANTS[name] for name in ("greedy, gain", "mRMR", "lasso path", "random")},
}
