"""The Lagrangian dual: its bound is one, and the linear relaxation's value; its selections and proofs hold."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from cggd import Additive, Budget, ChoiceSpace, Function, Problem, maximum
from cggd.datasets import mmkp
from cggd.metrics import Combination
from cggd.program import lagrangian
from cggd.program.lagrangian import nearest, relax
from cggd.testing import choice_spaces
from cggd.testing.strategies import values


@st.composite
def problems(draw):
    """Problems of sums, several of them infeasible, some of their options forbidden, in either precision."""
    space = draw(choice_spaces(max_decisions=5, max_options=4))
    precision = draw(st.sampled_from([np.float64, np.float32]))
    number = st.sampled_from([0.0, 2.5])

    def metric(name):
        table = Additive(space, draw(values(space)).astype(precision), draw(number), name=name)
        if draw(st.booleans()):
            return table
        other = Additive(space, draw(values(space)).astype(precision), name="other")
        return Combination(space, ((-1.0, table), (0.5, other)), draw(number), name=name)

    constraints = []
    for j in range(draw(st.integers(0, 3))):
        bounded = metric(f"c{j}")
        bound = draw(st.integers(-10, 30).map(float) | st.just(np.inf))
        above = draw(st.booleans())
        constraints.append(bounded <= bound if above else bounded >= -bound)
    problem = Problem(metric("objective"), constraints, draw(st.sampled_from(["minimize", "maximize"])))
    allowed = None
    if draw(st.booleans()):
        allowed = np.array(draw(st.lists(st.booleans(), min_size=space.n_options, max_size=space.n_options)))
        allowed[space.offsets[:-1]] = True
    return problem, allowed


def optima(problem, allowed):
    """All feasible selections and their objectives, by enumeration."""
    selections = problem.space.enumerate()
    good = np.ones(len(selections), dtype=bool)
    if allowed is not None:
        good &= allowed[problem.space.layout.flat(selections)].all(axis=1)
    for c in problem.constraints:
        good &= c.satisfied(c.values(selections))
    return selections[good], problem.objective.evaluate(selections[good])


def relaxed(problem, allowed=None):
    """The linear relaxation's value and status, by HiGHS."""
    cost, *rows = [m.sum_table() for m in (problem.objective, *(c.metric for c in problem.constraints))]
    finite = [(c, row) for c, row in zip(problem.constraints, rows, strict=True) if np.isfinite(c.limit)]
    n, owner = problem.space.n_options, problem.space.layout.owner
    one_each = (owner == np.arange(problem.space.n_decisions)[:, None]).astype(float)
    found = linprog(
        problem.sign * np.asarray(cost.values, float),
        A_ub=np.array([c.sign * np.asarray(row.values, float) for c, row in finite]) if finite else None,
        b_ub=np.array([c.limit - c.sign * row.constant for c, row in finite]) if finite else None,
        A_eq=one_each,
        b_eq=np.ones(len(one_each)),
        bounds=[(0, 1 if allowed is None or allowed[o] else 0) for o in range(n)],
    )
    return (problem.sign * found.fun + cost.constant if found.status == 0 else None), found.status


def knapsack(n, k, m, seed, *, share=0.45, dtype=float, ragged=False):
    rng = np.random.default_rng(seed)
    space = ChoiceSpace.from_sizes(rng.integers(1, 2 * k, n) if ragged else np.full(n, k))
    weights = rng.random((m, space.n_options)).astype(dtype)
    value = (weights.mean(axis=0) + rng.random(space.n_options) / 2).astype(dtype)
    limits = [Additive(space, row, name=f"w{j}") <= share * n for j, row in enumerate(weights)]
    return Problem(Additive(space, value, name="value"), limits, "maximize")


# -- laws -------------------------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(problems())
def test_bounds_proofs_and_selections_hold(drawn):
    problem, allowed = drawn
    relaxation = relax(replace(problem, allowed=allowed))
    selections, objectives = optima(problem, allowed)
    if relaxation.infeasible:
        assert len(selections) == 0
    if len(selections) == 0:
        assert relaxation.selection is None
        return
    signed = problem.sign * objectives
    assert (signed >= problem.sign * relaxation.bound).all()
    if relaxation.selection is not None:
        at = np.flatnonzero((selections == relaxation.selection).all(axis=1))
        assert len(at) == 1
        assert relaxation.value == objectives[at[0]]


@settings(max_examples=100)
@given(problems(), st.booleans())
def test_limits_are_met_without_slack(drawn, equal):
    # The best selection of all, with limits that are its own values, from both sides if they are equalities.
    free = replace(drawn[0], constraints=[])
    every = free.space.enumerate()
    best = every[np.argmin(free.sign * free.objective.evaluate(every))]
    tight = []
    for metric in (c.metric for c in drawn[0].constraints):
        value = float(metric.evaluate(best[None])[0])
        tight += [metric <= value, *([metric >= value] if equal else [])]
    relaxation = relax(replace(free, constraints=tight))
    assert relaxation.value == pytest.approx(free.objective(best), rel=1e-5)


@pytest.mark.parametrize("unit", [1.0, 0.1])
def test_most_equalities_of_small_problems_are_met(unit):
    met, number = 0, 60
    for seed in range(number):
        rng = np.random.default_rng(seed)
        space = ChoiceSpace.from_sizes(rng.integers(2, 5, rng.integers(3, 7)))
        sums = [Additive(space, unit * rng.integers(0, 6, space.n_options), name=f"s{j}") for j in range(2)]
        values = [float(metric.evaluate(space.sample(1, np.random.default_rng(seed)))[0]) for metric in sums]
        limits = [bound for metric, v in zip(sums, values, strict=True) for bound in (metric <= v, metric >= v)]
        problem = Problem(Additive(space, rng.integers(0, 20, space.n_options)), limits)
        relaxation, (_, objectives) = relax(problem), optima(problem, None)
        if relaxation.selection is not None:
            assert problem.satisfied(relaxation.selection)
            assert relaxation.bound - 1e-9 <= objectives.min() <= relaxation.value
            met += 1
    assert met > 0.7 * number


@settings(max_examples=150)
@given(problems())
def test_an_option_costs_at_least_its_reduced_cost(drawn):
    problem, allowed = drawn
    relaxation = relax(replace(problem, allowed=allowed), tolerance=1e-2)  # valid at any multipliers
    reduced = relaxation.reduced()
    layout = problem.space.layout
    assert (layout.reduce(np.minimum, reduced) == 0).all()
    assert allowed is None or np.isinf(reduced[~allowed]).all()
    selections, objectives = optima(problem, allowed)
    least = problem.sign * relaxation.bound + reduced[layout.flat(selections)]
    assert (problem.sign * objectives[:, None] >= least - 1e-9).all()


@settings(max_examples=150)
@given(problems())
def test_the_bound_is_that_of_the_linear_relaxation(drawn):
    problem, allowed = drawn
    relaxation = relax(replace(problem, allowed=allowed), tolerance=1e-9)
    value, status = relaxed(problem, allowed)
    if value is None:
        assert status == 2
        return
    assert not relaxation.infeasible
    assert relaxation.bound == pytest.approx(value, rel=1e-6, abs=1e-6)


@settings(max_examples=50)
@given(problems(), st.sampled_from([1e-9, 1e-3, 1e6]), st.sampled_from([1e-2, 1e3, 1e6]))
def test_no_unit_matters(drawn, unit, other):
    problem, allowed = drawn
    assume(all(np.isfinite(c.bound) and c.bound for c in problem.constraints))
    scaled = [
        other * c.metric <= other * c.bound if c.sign > 0 else other * c.metric >= other * c.bound
        for c in problem.constraints
    ]
    plain = relax(replace(problem, allowed=allowed), tolerance=1e-8)
    twin = relax(Problem(unit * problem.objective, scaled, problem.sense, allowed), tolerance=1e-8)
    assert plain.infeasible == twin.infeasible
    if not plain.infeasible:
        assert twin.bound / unit == pytest.approx(plain.bound, rel=1e-5, abs=1e-5)


# -- larger ones ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("n", "k", "m", "ragged"), [(300, 5, 3, False), (200, 4, 8, True), (100, 10, 30, False)])
def test_it_is_as_tight_as_the_linear_program(n, k, m, ragged, dtype):
    problem = knapsack(n, k, m, 0, dtype=dtype, ragged=ragged, share=0.5)
    relaxation = relax(problem)
    value, _ = relaxed(problem)
    assert value <= relaxation.bound <= value * (1 + 2e-6)
    assert relaxation.selection is not None
    assert all(c.report(relaxation.selection).satisfied for c in problem.constraints)
    assert relaxation.value == problem.objective(relaxation.selection)
    assert relaxation.value >= 0.98 * relaxation.bound


@pytest.mark.parametrize("ragged", [False, True])
def test_a_large_space_starts_from_samples_of_itself(ragged):
    problem = knapsack(70_000, 3, 3, 1, ragged=ragged, share=0.4)
    relaxation, alone = relax(problem), relax(problem, tolerance=1e-8, repair=False)
    assert relaxation.bound == pytest.approx(alone.bound, rel=2e-6)
    assert relaxation.bound >= relaxation.value >= (1 - 1e-5) * relaxation.bound


def test_float32_tables_give_the_bound_of_the_same_numbers_in_float64():
    narrow = knapsack(500, 5, 3, 2, dtype=np.float32)
    wide = Problem(
        Additive(narrow.space, np.asarray(narrow.objective.values, float)),
        [Additive(narrow.space, np.asarray(c.metric.values, float)) <= c.bound for c in narrow.constraints],
        "maximize",
    )
    assert relax(narrow).bound == relax(wide).bound


def test_a_knapsack_of_the_literature():
    knapsack = mmkp("I07")
    relaxation = relax(Problem(knapsack.value, knapsack.constraints, "maximize"))
    assert relaxation.bound == pytest.approx(24607.95, rel=2e-6)  # the linear relaxation's value, by HiGHS
    assert relaxation.value >= 24400


def test_the_same_twice():
    first, second = (relax(knapsack(70_000, 3, 2, 3), seed=5) for _ in range(2))
    assert first.bound == second.bound
    assert (first.selection == second.selection).all()
    assert (first.multipliers == second.multipliers).all()


def test_multipliers_are_prices():
    problem = knapsack(400, 4, 2, 4, share=0.3)
    relaxation = relax(problem, tolerance=1e-9)
    more = 0.05
    for j, c in enumerate(problem.constraints):
        wider = [*problem.constraints]
        wider[j] = c.metric <= c.bound + more
        gained = relax(Problem(problem.objective, wider, "maximize"), tolerance=1e-9).bound - relaxation.bound
        assert gained <= relaxation.multipliers[j] * more + 1e-6
        assert gained >= 0.8 * relaxation.multipliers[j] * more


# -- ends -------------------------------------------------------------------------------------------------------------


def test_bounds_that_exclude_each_other_are_proved_to():
    rng = np.random.default_rng(0)
    space = ChoiceSpace.from_sizes(np.full(200, 4))
    cost = Additive(space, rng.random(space.n_options), name="cost")
    other = Additive(space, 1.0 - cost.values, name="other")
    value = Additive(space, rng.random(space.n_options), name="value")
    apart = relax(Problem(value, [cost <= 90.0, other <= 100.0], "maximize"))  # they add up to 200
    assert apart.infeasible
    assert apart.selection is None
    assert not relax(Problem(value, [cost <= 98.0, other <= 104.0], "maximize")).infeasible
    alone = relax(Problem(value, [cost <= cost.minimum() - 1]))
    assert alone.infeasible
    constant = Additive(space, np.ones(space.n_options))
    assert relax(Problem(constant, [cost <= 90.0, other <= 100.0])).infeasible
    assert relax(Problem(value, [constant <= 199.0])).infeasible
    assert not relax(Problem(value, [constant <= 200.0])).infeasible


def test_nothing_to_bound_leaves_the_best_options():
    space = ChoiceSpace.from_sizes([2, 3])
    relaxation = relax(Problem(Additive(space, [1.0, 2, 5, 4, 3])))
    assert relaxation.value == 4.0
    assert relaxation.bound == pytest.approx(4.0)
    assert relaxation.reduced().tolist() == [0.0, 1.0, 2.0, 1.0, 0.0]


def test_what_is_no_sum_is_left_to_others():
    space = ChoiceSpace.from_sizes([2, 2])
    cost = Additive(space, [1.0, 2, 3, 4])
    for metric in (Function(space, len), maximum(cost, cost), cost + Function(space, len)):
        assert metric.sum_table() is None
        assert relax(Problem(metric, [cost <= 5])) is None
        assert relax(Problem(cost, [metric <= 5])) is None


def test_stopping_leaves_a_valid_bound():
    problem = knapsack(300, 5, 3, 0)
    best = relax(problem).bound
    for budget in (Budget(stop=lambda: True), Budget(1e-9)):
        stopped = relax(problem, budget)
        assert stopped.bound >= best * (1 - 1e-6)
        assert stopped.passes <= 2


def test_a_solver_that_gives_up_leaves_a_valid_bound(monkeypatch):
    def gives_up(*arguments, **keywords):
        raise RuntimeError("Maximum number of iterations reached.")

    problem = knapsack(300, 5, 3, 0)
    best = relax(problem).bound
    monkeypatch.setattr(lagrangian, "nnls", gives_up)
    assert relax(problem).bound >= best * (1 - 1e-6)


@pytest.mark.parametrize("tolerance", [0, -1.0])
def test_a_tolerance_that_nothing_meets(tolerance):
    with pytest.raises(ValueError, match=f"tolerance must be greater than 0, got {tolerance}"):
        relax(knapsack(3, 2, 1, 0), tolerance=tolerance)


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 10_000))
def test_the_nearest_point_is_feasible_and_no_other_is_nearer(n, rows, seed):
    rng = np.random.default_rng(seed)
    matrix, heights = rng.integers(-3, 4, (rows, n)).astype(float), rng.integers(-3, 4, rows).astype(float)
    x, weights = nearest(matrix, heights)
    exists = linprog(np.zeros(n), A_ub=-matrix, b_ub=-heights, bounds=(None, None)).status == 0
    assert (x is not None) == exists
    assert (weights >= 0).all()
    if x is None:
        assert weights @ matrix == pytest.approx(0, abs=1e-6)
        assert weights @ heights == pytest.approx(1, abs=1e-6)
        return
    assert (matrix @ x >= heights - 1e-6).all()
    # x is a nonnegative combination of rows that are met with equality: the condition of a shortest one (Kuhn-Tucker).
    tight = weights > 1e-9
    assert matrix[tight] @ x == pytest.approx(heights[tight], abs=1e-6)
    assert np.linalg.norm(x) == pytest.approx(0, abs=1e-9) or tight.any()


def many(seed, n=4000, above=False):
    rng = np.random.default_rng(seed)
    space = ChoiceSpace.from_sizes(rng.integers(2, 6, n))
    weights = [rng.integers(1, 101, space.n_options).astype(float) for _ in range(3)]
    value = Additive(space, sum(weights) / 3 + rng.integers(0, 31, space.n_options))
    least = [space.layout.reduce(np.minimum, w).sum() for w in weights]
    most = [space.layout.reduce(np.maximum, w).sum() for w in weights]
    bounds = [a + 0.35 * (b - a) for a, b in zip(least, most, strict=True)]
    bounds[0] = np.inf if above else bounds[0]
    return Problem(value, [Additive(space, w) <= b for w, b in zip(weights, bounds, strict=True)], "maximize")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("above", [False, True])
def test_a_sample_with_corrected_limits_leads_to_a_selection(seed, late, above, monkeypatch):
    problem = many(seed, above=above)
    plain = relax(problem)
    monkeypatch.setattr(lagrangian, "LARGE", 1000)
    monkeypatch.setattr(lagrangian, "SCREENED", 1000)
    relaxation = relax(problem, Budget(gap=1e-3, stop=lambda: late))
    assert plain is not None
    assert relaxation is not None
    assert relaxation.selection is not None
    assert problem.satisfied(relaxation.selection)
    assert relaxation.value == problem.objective(relaxation.selection)
    assert plain.value * (1 - 1e-9) <= relaxation.bound
    assert relaxation.bound - relaxation.value <= (0.05 if late else 1e-3) * relaxation.bound


def test_a_sample_of_what_cannot_be_met_proves_nothing_false(monkeypatch):
    problem = many(0)
    least = [problem.space.layout.reduce(np.minimum, c.metric.values).sum() for c in problem.constraints]
    monkeypatch.setattr(lagrangian, "LARGE", 1000)
    monkeypatch.setattr(lagrangian, "SCREENED", 1000)
    none = replace(problem, constraints=[c.metric <= a - 1 for c, a in zip(problem.constraints, least, strict=True)])
    one = replace(problem, constraints=[problem.constraints[0].metric <= least[0]])
    assert relax(none).infeasible
    assert not relax(one).infeasible
    assert relax(replace(problem, constraints=[])).value == pytest.approx(relax(replace(problem, constraints=[])).bound)
