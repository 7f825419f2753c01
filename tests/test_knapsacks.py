"""The knapsack relaxation, against enumeration."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import Additive, ChoiceSpace, Knapsacks, Multipliers, Problem, Status, solve
from cggd.program import lagrangian
from cggd.program.bounds import relax
from cggd.program.knapsacks import Knapsack, tighten
from cggd.testing import check_improver
from cggd.testing.strategies import problems


def assignment(seed, *, whole=True, extra=False, sense="minimize"):
    """Jobs to agents with limits on the loads, some options free of load, and perhaps a bound on all options."""
    rng = np.random.default_rng(seed)
    agents, jobs = int(rng.integers(2, 4)), int(rng.integers(2, 6))
    space = ChoiceSpace.from_sizes([agents + int(rng.integers(0, 2))] * jobs)
    sizes = rng.uniform(1, 9, (jobs, space.sizes[0]))
    sizes = np.rint(sizes) if whole else sizes
    constraints = []
    for agent in range(agents):
        load = np.zeros_like(sizes)
        load[:, agent] = sizes[:, agent]
        limit = rng.uniform(0.5, 1.2) * load.sum() / 2
        constraints.append(Additive(space, load.ravel(), name=f"load {agent}") <= (np.rint(limit) if whole else limit))
    if extra:
        weight = Additive(space, rng.integers(0, 9, space.n_options).astype(float))
        constraints.append(weight <= float(rng.integers(3 * jobs, 6 * jobs)))
    cost = rng.integers(-20, 20, space.n_options) if whole else rng.normal(size=space.n_options)
    return Problem(Additive(space, cost.astype(float), name="cost"), constraints, sense)


def feasible(problem):
    rows = problem.space.enumerate()
    rows = rows[np.all([c.holds(rows) for c in problem.constraints], axis=0)]
    return rows, problem.sign * problem.objective.evaluate(rows)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.booleans(), st.sampled_from(["minimize", "maximize"]), st.booleans())
def test_bound_and_reduced_costs_hold_for_every_selection(seed, whole, extra, sense, informed):
    problem = assignment(seed, whole=whole, extra=extra, sense=sense)
    rows, costs = feasible(problem)
    known = float(costs.max()) if informed and len(costs) else np.inf
    tight = tighten(problem, known, 0.0)
    if tight is None or not len(costs):
        return
    bound, reduced = problem.sign * tight.bound, tight.reduced()
    assert bound <= costs.min() + 1e-9
    for row, cost in zip(rows, costs, strict=True):
        if cost < known:
            assert cost >= bound + reduced[problem.space.layout.flat(row)].max() - 1e-9
    loose = lagrangian.relax(problem)
    if known == np.inf and not loose.infeasible and np.isfinite(bound):
        assert bound >= problem.sign * loose.bound - 1e-6 * (1 + abs(bound))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_knapsacks_are_solved_exactly(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 7))
    weights, costs = rng.integers(1, 9, n), rng.integers(-9, 3, n).astype(float)
    knapsack = Knapsack(np.arange(n), weights, int(rng.integers(weights.max(), 20)))
    subsets = np.array([x for x in product([0, 1], repeat=n) if weights @ x <= knapsack.capacity])
    sums = subsets @ costs
    least, taken = knapsack.least(costs)
    assert least == sums.min() == costs[taken].sum()
    assert weights[taken].sum() <= knapsack.capacity
    again, inside, outside = knapsack.penalties(costs)
    assert again == least
    for option in range(n):
        assert inside[option] == sums[subsets[:, option] == 1].min() - least
        assert outside[option] == sums[subsets[:, option] == 0].min() - least


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.01, 50.0), min_size=1, max_size=8), st.floats(0.0, 100.0))
def test_no_choice_within_the_limit_is_lost_by_rounding_the_weights(weights, limit):
    array = np.array(weights)
    knapsack = Knapsack.of(array, limit, len(weights), 0.0)
    for x in product([0, 1], repeat=len(weights)):
        if array @ x <= limit:
            assert knapsack.weights @ np.array(x) <= knapsack.capacity


@pytest.mark.parametrize("unit", [1.0, 0.1, 0.25, 30.0])
def test_weights_are_whole_numbers_of_their_unit(unit):
    knapsack = Knapsack.of(unit * np.array([2.0, 3.0, 7.0]), unit * 10, 3, unit)
    assert (knapsack.weights.tolist(), knapsack.capacity) == ([2, 3, 7], 10)


def test_constraints_that_share_options_are_none():
    space = ChoiceSpace.from_sizes([2, 2])
    cost, use = Additive(space, [1, 2, 3, 4]), Additive(space, [1, 1, 1, 1])
    assert tighten(Problem(cost, [use <= 3, 2 * use <= 5]), np.inf, 0.0) is None
    assert tighten(Problem(cost, [use <= 3]), np.inf, 0.0) is None


def test_the_bound_is_better_than_the_linear_one():
    space = ChoiceSpace.from_sizes([2, 2, 2])
    effort = Additive(space, [1, 2, 1, 2, 1, 2])
    problem = Problem(effort, [Additive(space, [2, 0] * 3) <= 3, Additive(space, [0, 2] * 3) <= 5])
    both = solve(problem, improvers=[Multipliers(), Knapsacks()])
    assert relax(problem).bound == pytest.approx(4.5)
    assert (both.status, both.value) == (Status.OPTIMAL, 5.0)


@settings(max_examples=25, deadline=None)
@given(problems(max_decisions=4, max_options=3), st.integers(0, 10**6))
def test_every_finding_is_true(problem, seed):
    if Knapsacks().suits(problem):
        check_improver(Knapsacks(), problem)
    check_improver(Knapsacks(), assignment(seed))
