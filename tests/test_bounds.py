"""Bounds of linear programs (cggd.program.bounds) against enumeration."""

import numpy as np
from hypothesis import given

from cggd.program.bounds import open_cost, relax
from tests.test_sum_tables import _block, everything, problems  # noqa: F401 (a fixture)


@given(problems())
def test_a_relaxation_bounds_every_feasible_selection(problem):
    relaxed = relax(problem)
    selections, cost, over = everything(problem)
    fits = (over <= 0).all(axis=0)
    assert relaxed is not None
    if relaxed.infeasible:
        assert not fits.any()
        return
    low, reduced = problem.sign * relaxed.bound, relaxed.reduced()
    assert (cost[fits] >= low - 1e-6).all()
    known = np.inf
    if relaxed.selection is not None:
        assert problem.satisfied(relaxed.selection)
        known = problem.cost(relaxed.selection)
    # An option costs at least what is said of it, in selections that are no worse than the one found.
    good = fits & (cost <= known)
    most = reduced[problem.space.layout.flat(selections[good])].max(axis=1)
    assert (cost[good] >= low + most - 1e-6).all()
    better = cost[good] < known
    assert (most[better] <= open_cost(known, low, 0.0)).all()
