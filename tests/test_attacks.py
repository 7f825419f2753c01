"""Claims that once were false: each with the smallest problem that showed it."""

import numpy as np
import pytest

import cggd.polish
from cggd import Additive, ChoiceSpace
from cggd.polish import solve_cores
from cggd.problem import Problem
from cggd.relaxed import relax


def planted(seed, n=20, rows=3, most=10**4):
    """Sums of whole numbers that must be exact, and one selection that has them: hard to find, easy to check."""
    rng = np.random.default_rng(seed)
    space, chosen = ChoiceSpace.from_sizes([2] * n), rng.integers(0, 2, n)
    constraints = []
    for weights in rng.integers(1, most, (rows, n)):
        total = Additive(space, np.column_stack([np.zeros(n), weights]).ravel())
        constraints += [total <= total(chosen), total >= total(chosen)]
    return Problem(Additive(space, rng.integers(0, 9, 2 * n)), constraints), chosen


@pytest.mark.parametrize("seed", range(3))
def test_a_solver_that_was_stopped_without_a_selection_proves_nothing(seed, monkeypatch):
    monkeypatch.setattr(cggd.polish, "NODES", 1)
    problem, chosen = planted(seed)
    relaxed = relax(problem)
    findings = [f for f in solve_cores(problem, relaxed.reduced(), relaxed.bound, None) if f is not None]
    assert findings
    assert all(f.proof is None for f in findings)
    assert all(f.bound is None or f.bound <= problem.objective(chosen) for f in findings)
