"""Large mode selections: modes from shares of a linear program.

The descent of the core sees one path at a time, and of thousands of activities many paths are critical. The linear
program sees them all: its shares are rounded a few activities at a time, each time solved again with what is left.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cggd import ChoiceSpace, Constraint, Metric
from cggd.program.highs import LinearProgram, Outcome

# Options up to which the core needs no help. In 6 s, of two projects that benchmarks/scheduling/generated.py drew: with
# 2,000 activities of 3 modes the paths are 3089 and 3081 long with this module and 5068 and 5105 without; with 800
# activities 1247 and 1223, and 1245 and 1214.
LARGE = 2_000

# Share of the open activities that are fixed in one step: with 1/2, 2,000 activities take half a dozen programs, and
# the path is 0.4% longer than with 1/4 and twice as many.
FIXED = 0.5

# The last activities are decided exactly, since rounded they might meet no bound, and within so many nodes.
EXACT = 40
EXACT_NODES = 1_000

# Shares this near to a whole number are one.
WHOLE = 1e-6


def rounded(
    objective: Metric, constraints: Sequence[Constraint], *, time_limit: float | None = None
) -> tuple[NDArray[np.int64] | None, float]:
    """A good selection of a large linear problem, and a number that no objective is less than.

    The selection has shape (n_decisions,); where time ran out it may exceed bounds, and it is None where not even one
    program was solved. The bound is -inf where there is none.

    Parameters
    ----------
    objective : Metric
        With a linear form, as the constraints have.
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
    """Options allowed where all but some decisions are fixed."""
    is_open = np.zeros(space.n_decisions, dtype=bool)
    is_open[open_] = True
    allowed = space.layout.spread(is_open)
    allowed[space.layout.flat(selection)] = True
    return allowed


def _satisfied(constraints: Sequence[Constraint], selection: NDArray[np.int64]) -> bool:
    return all(c.satisfied(c.values(selection[None])).all() for c in constraints)


def _left(late: float) -> float | None:
    """Seconds that are left, for a solver that is to do something at least."""
    return None if np.isinf(late) else max(late - time.perf_counter(), 0.1)
