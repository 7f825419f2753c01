"""Repairs of selections of sums, against enumeration."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd.program import repair as repair_module
from cggd.program.repair import repair
from cggd.program.sum_tables import Tables
from tests.test_sum_tables import _block, everything, problems  # noqa: F401 (a fixture)


@given(problems(), st.sampled_from([1, 20_000]))
@settings(max_examples=100)
def test_a_repair_satisfies_every_constraint(problem, core):
    tables = Tables.of(problem, problem.allowed)
    _, _, over = everything(problem)
    point, start = tables.minimise(np.zeros(len(problem.constraints)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repair_module, "CORE", core)
        found, value = repair(problem, tables, [point], 0.0, lambda: False)
    if found is not None:
        assert problem.satisfied(found)
        assert problem.permits(found[None])[0]
        assert value == problem.sign * problem.cost(found)
    if (point.slope + tables.noise[1:] <= 0).all():
        # The minimiser itself is feasible, by more than rounding: nothing is better.
        assert found is not None
        assert problem.cost(found) == problem.cost(start)
    if not (over <= 0).all(axis=0).any():
        assert found is None
    assert repair(problem, tables, [], 0.0, lambda: False) == (None, None)
