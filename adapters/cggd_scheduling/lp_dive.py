"""Large mode selections: a diving heuristic on the linear relaxation.

The descent of the core uses one critical path at a time, but thousands of activities have many critical paths. The
linear program contains all of them. Its solution is rounded for a part of the activities, then it is solved again for
the rest.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cggd import ChoiceSpace, Constraint, Metric
from cggd.program.highs import LinearProgram, Outcome

# Most options for which the core alone is as good. Critical paths in 6 s on two projects drawn by
# benchmarks/scheduling/generated.py: for 2,000 activities with 3 modes, 3089 and 3081 with this module, and 5068 and
# 5105 without; for 800 activities, 1247 and 1223 with it, and 1245 and 1214 without.
LARGE = 2_000

# Share of the open activities that are fixed in one step. With 1/2, 2,000 activities take about six programs; with 1/4
# they take twice as many, and the path is 0.4% shorter.
FIXED = 0.5

# The last activities are decided by branch and bound with so many nodes, since rounding them might violate the bounds.
EXACT = 40
EXACT_NODES = 1_000

# Shares within this distance of 1 count as 1.
WHOLE = 1e-6


def rounded(
    objective: Metric, constraints: Sequence[Constraint], *, time_limit: float | None = None
) -> tuple[NDArray[np.int64] | None, float]:
    """A good selection for a large linear problem, and a lower bound on the objective.

    The selection has shape (n_decisions,). It may violate constraints if time ran out, and it is None if no program was
    solved. The bound is -inf if there is none.

    Parameters
    ----------
    objective : Metric
        Must have a linear form, as must the constraints.
    constraints : list of Constraint
    time_limit : float, optional
        Seconds.
    """
    space, late = objective.space, time.perf_counter() + (np.inf if time_limit is None else time_limit)
    allowed, bound, selection = np.ones(space.n_options, dtype=bool), -np.inf, None
    while True:
        program = LinearProgram(space, constraints, objective, allowed=allowed)
        relaxed = program.shares(time_limit=_left(late))
        if relaxed.outcome is not Outcome.OPTIMAL:
            return selection, bound
        bound = max(bound, relaxed.bound) if allowed.all() else bound
        selection = space.layout.argmax(relaxed.shares)
        most = space.layout.reduce(np.maximum, relaxed.shares)
        undecided = np.flatnonzero(most < 1.0 - WHOLE)
        if len(undecided) <= EXACT:
            program = LinearProgram(space, constraints, objective, allowed=_fixed(space, selection, undecided))
            found = program.solve(node_limit=EXACT_NODES, time_limit=_left(late)).selection
            return found if found is not None and _satisfied(constraints, found) else selection, bound
        surest = undecided[np.argsort(-most[undecided], kind="stable")]
        allowed = _fixed(space, selection, surest[int(FIXED * len(surest)) :])


def _fixed(space: ChoiceSpace, selection: NDArray[np.int64], open_: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mask of the options that are allowed if only some decisions are open."""
    is_open = np.zeros(space.n_decisions, dtype=bool)
    is_open[open_] = True
    allowed = space.layout.spread(is_open)
    allowed[space.layout.flat(selection)] = True
    return allowed


def _satisfied(constraints: Sequence[Constraint], selection: NDArray[np.int64]) -> bool:
    return all(c.satisfied(c.values(selection[None])).all() for c in constraints)


def _left(late: float) -> float | None:
    """Seconds that are left, at least 0.1; None without a time limit."""
    return None if np.isinf(late) else max(late - time.perf_counter(), 0.1)
