"""Problems of sums in blocks, against enumeration."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cggd import Additive, ChoiceSpace, Function, Problem, layout
from cggd.program.sum_tables import Tables


@st.composite
def problems(draw):
    """A few decisions, up to three bounded sums of whole numbers, perhaps some options forbidden."""
    sizes = draw(st.one_of(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.just([3, 3, 3])))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    space = ChoiceSpace.from_sizes(sizes)
    metrics = [
        Additive(space, rng.integers(-5, 9, space.n_options), int(rng.integers(-3, 4)), name=str(n))
        for n in range(draw(st.integers(1, 4)))
    ]
    bounds = [draw(st.integers(-10, 30)) for _ in metrics[1:]]
    limits = [m <= b if draw(st.booleans()) else m >= b for m, b in zip(metrics[1:], bounds, strict=True)]
    allowed = None
    if draw(st.booleans()):
        allowed = rng.random(space.n_options) < 0.7
        allowed[space.offsets[:-1]] = True
    return Problem(metrics[0], limits, draw(st.sampled_from(["minimize", "maximize"])), allowed)


def everything(problem):
    """Every permitted selection, its cost, and by how much it exceeds each limit."""
    selections = problem.space.enumerate()
    selections = selections[problem.permits(selections)]
    cost = problem.sign * problem.objective.evaluate(selections)
    over = [c.sign * c.metric.evaluate(selections) - c.limit for c in problem.constraints]
    return selections, cost, np.array(over).reshape(len(over), len(selections))


@pytest.fixture(autouse=True, params=[5, 32_768])
def _block(request, monkeypatch):
    monkeypatch.setattr(layout, "BLOCK", request.param)


def test_only_sums_have_tables():
    space = ChoiceSpace.from_sizes([2, 2])
    cost = Additive(space, [1, 2, 3, 4])
    other = Function(space, lambda rows: rows.sum(1), batch=True)
    assert Tables.of(Problem(cost, [other <= 1]), None) is None
    assert Tables.of(Problem(other, [cost <= 5]), None) is None
    assert Tables.of(Problem(cost), None) is not None


@given(problems(), st.lists(st.sampled_from([0.0, 0.25, 1.0, 3.0]), min_size=3, max_size=3))
def test_the_dual_and_its_minimiser(problem, prices):
    tables = Tables.of(problem, problem.allowed)
    multipliers = np.array(prices[: len(problem.constraints)])
    _, cost, over = everything(problem)
    point, selection = tables.minimise(multipliers)
    lagrangian = cost + multipliers @ over
    assert point.value == pytest.approx(lagrangian.min(), abs=1e-9)
    assert problem.permits(selection[None])[0]
    exceeded = [c.sign * c.metric(selection) - c.limit for c in problem.constraints]
    assert point.slope == pytest.approx(exceeded, abs=1e-9)
    assert problem.cost(selection) + multipliers @ exceeded == pytest.approx(lagrangian.min(), abs=1e-9)
    assert abs(point.value - lagrangian.min()) <= tables.rounding(multipliers)


@given(problems(), st.lists(st.sampled_from([0.0, 0.25, 1.0, 3.0]), min_size=3, max_size=3))
def test_reduced_costs_are_what_an_option_adds_at_least(problem, prices):
    tables = Tables.of(problem, problem.allowed)
    multipliers = np.array(prices[: len(problem.constraints)])
    selections, cost, over = everything(problem)
    lagrangian = cost + multipliers @ over
    flat = problem.space.layout.flat(selections)
    expected = [lagrangian[(flat == o).any(axis=1)].min(initial=np.inf) for o in range(problem.space.n_options)]
    assert tables.reduced(multipliers) == pytest.approx(np.array(expected) - lagrangian.min(), abs=1e-9)


@given(problems())
def test_extents_are_those_of_all_selections(problem):
    tables = Tables.of(problem, problem.allowed)
    _, cost, over = everything(problem)
    limits = np.array([c.limit for c in problem.constraints])
    sums = np.vstack([cost[None] - tables.constant, over + limits[:, None]])
    constants = [0.0, *(c.sign * c.metric.constant for c in problem.constraints)]
    for table, all_sums in enumerate(sums):
        assert tables.extent.low[table] == pytest.approx(all_sums.min() - constants[table])
        assert tables.extent.high[table] == pytest.approx(all_sums.max() - constants[table])
    assert (tables.spread == tables.extent.high - tables.extent.low).all()


@given(problems(), st.integers(0, 9), st.integers(0, 9))
def test_a_sample_is_some_of_the_decisions(problem, n, seed):
    tables = Tables.of(problem, problem.allowed)
    n = 1 + n % problem.space.n_decisions
    part = tables.sample(n, np.random.default_rng(seed))
    assert part.layout.n_decisions == n
    assert part.limits == pytest.approx(tables.limits * n / problem.space.n_decisions)
    known = [tuple(tables.tables[0][a:b]) for a, b in zip(*_ends(tables.layout), strict=True)]
    assert all(tuple(part.tables[0][a:b]) in known for a, b in zip(*_ends(part.layout), strict=True))
    if n == problem.space.n_decisions:
        assert (part.tables[0] == tables.tables[0]).all()


def _ends(layout):
    return layout.offsets[:-1], layout.offsets[1:]
