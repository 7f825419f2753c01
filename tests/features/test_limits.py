"""What limits say in closed form, against asking about each selection."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cggd import Additive, ChoiceSpace, Function
from cggd.budget import Budget
from cggd.testing import check_metric
from cggd_features.costs import SharedCost
from cggd_features.gram import Gram
from cggd_features.least_squares import Fit
from cggd_features.limits import Limits
from cggd_features.linear import no_penalties, proved, solve, thrifty
from cggd_features.subset import POWERS, along_rates, greedy


@st.composite
def limits_of(draw, black_boxes=True):
    """Budgets that add up, are shared or are black boxes, and counts of sets; the empty selection may violate them."""
    m = draw(st.integers(2, 6))
    space = ChoiceSpace.from_sizes([2] * m)
    numbers = lambda: np.array(draw(st.lists(st.integers(0, 9), min_size=m, max_size=m)), dtype=float)  # noqa: E731
    flat = lambda values: np.column_stack([np.zeros(m), values]).ravel()  # noqa: E731
    prices, group = (
        numbers(),
        np.unique(draw(st.lists(st.integers(0, 2), min_size=m, max_size=m)), return_inverse=True)[1],
    )
    budgets = [Additive(space, flat(prices)) <= draw(st.integers(0, 30))]
    if draw(st.booleans()):
        budgets.append(SharedCost(space, numbers(), numbers(), group) <= draw(st.integers(0, 30)))
    if black_boxes and draw(st.booleans()):
        squares = Function(space, lambda rows: (rows @ prices) ** 2, batch=True)
        budgets.append(squares <= draw(st.integers(0, 400)))
    others = [Additive(space, flat(group == 0)) <= draw(st.integers(0, 3))] if draw(st.booleans()) else []
    if draw(st.booleans()):
        others.append(Additive(space, flat(group == 0)) >= 1)
    kinds = draw(st.lists(st.sampled_from("ooooomn"), min_size=m, max_size=m))
    return Limits(space, budgets, others, np.array([k == "m" for k in kinds]), np.array([k == "n" for k in kinds]))


def switched(selected, *variables):
    out = selected.copy()
    out[list(variables)] ^= True
    return out


@settings(max_examples=60, deadline=None)
@given(limits_of(), st.integers(0, 63))
def test_switches_fit_iff_the_selection_after_them_holds(limits, bits):
    m = limits.space.n_decisions
    selected = np.array([bool(bits >> v & 1) for v in range(m)]) & ~limits.never | limits.must
    out = np.flatnonzero(selected)
    switches, swaps = limits.switches(selected), limits.swaps(selected, out)
    for v in range(m):
        assert switches[v] == limits.holds(switched(selected, v))
        for row, u in enumerate(out if not selected[v] else ()):
            assert swaps[row, v] == limits.holds(switched(selected, u, v))
    if limits.holds(selected):
        assert limits.excess(selected)[0] == 0
        assert (limits.affordable | ~selected).all()


@settings(max_examples=30, deadline=None)
@given(limits_of(), st.integers(0, 63))
def test_prices_are_what_a_switch_costs_or_saves(limits, bits):
    m = limits.space.n_decisions
    selected = np.array([bool(bits >> v & 1) for v in range(m)])
    changes = [limits.spent(switched(selected, v)) - limits.spent(selected) for v in range(m)]
    np.testing.assert_allclose(limits.prices(selected), np.where(selected, np.negative(changes), changes), atol=1e-9)


def problem_of(limits, seed):
    rng = np.random.default_rng(seed)
    m = limits.space.n_decisions
    X = rng.standard_normal((25, m)) @ (np.eye(m) + rng.standard_normal((m, m)))
    y = X @ rng.standard_normal((m, 1)) + rng.standard_normal((25, 1))
    gram = Gram.of(X, y, [np.array([v]) for v in range(m)])
    rows = [row for row in limits.space.enumerate().astype(bool) if limits.holds(row)]
    return gram, rows


@settings(max_examples=60, deadline=None)
@given(limits_of(), st.integers(0, 99))
def test_branch_and_bound_finds_and_proves_the_optimum(limits, seed):
    gram, rows = problem_of(limits, seed)
    if not rows:
        return
    optimum = max(gram.explained(row) for row in rows)
    proof = proved(gram, limits, rows[0], Budget())
    assert proof.optimal
    assert proof.value == pytest.approx(optimum, abs=1e-8)
    assert limits.holds(proof.selected)
    for nodes in (0, 1, 3):  # what it says before it is done is no less true
        early = proved(gram, limits, rows[0], Budget(), nodes)
        assert early.value <= optimum + 1e-9 <= early.bound + 2e-9


@settings(max_examples=12, deadline=None)
@given(limits_of(), st.integers(0, 99))
def test_the_engine_finds_the_optimum_without_a_proof_nearly_always_and_with_one_always(limits, seed):
    gram, rows = problem_of(limits, seed)
    if not rows:
        return
    optimum = max(gram.explained(row) for row in rows)
    proved, found = (solve(gram, limits, rows[0], prove=prove) for prove in (True, False))
    assert proved.status.name == "OPTIMAL"
    assert proved.score == proved.bound == pytest.approx(optimum, abs=1e-8)
    assert limits.holds(found.selected)
    assert max(gram.explained(rows[0]), 0.8 * optimum) <= found.score + 1e-9 <= optimum + 2e-9
    start = Fit.at(gram, rows[0])
    for power in POWERS:
        assert found.score >= greedy(start, limits, no_penalties(limits), power=power).value - 1e-9


@settings(max_examples=30, deadline=None)
@given(limits_of(black_boxes=False), st.integers(0, 99))
def test_subsets_along_falling_rates_respect_all_but_budgets(limits, seed):
    gram, rows = problem_of(limits, seed)
    if not rows:
        return
    met = list(along_rates(gram, limits, rows[0], no_penalties(limits)))
    assert all(limits.unbudgeted.holds(fit.selected) for fit in met)
    assert all(fit.value == pytest.approx(gram.explained(fit.selected), abs=1e-8) for fit in met)


def counted():
    """Six free variables of which at least one is in."""
    space, nobody = ChoiceSpace.from_sizes([2] * 6), np.zeros(6, dtype=bool)
    count = Additive(space, [0, 1] * 5 + [0, 0], name="count")
    return Limits(space, [Additive(space, np.zeros(12), name="cost") <= 0], [count >= 1], nobody, nobody)


@settings(max_examples=30, deadline=None)
@given(limits_of(), st.integers(0, 99), st.floats(0.01, 1.0))
@example(counted(), 22, 1.0)
def test_with_a_penalty_the_criterion_is_what_is_best(limits, seed, penalty):
    gram, rows = problem_of(limits, seed)
    if not rows:
        return

    def value(row):
        return np.log(1 - gram.explained(row)) + penalty * row.sum()

    found = solve(gram, limits, rows[0], penalty=penalty)
    assert limits.holds(found.selected)
    assert found.status.name == "FEASIBLE"
    assert value(found.selected) <= value(rows[0]) + 1e-9
    assert min(map(value, rows)) <= value(found.selected) + 1e-9
    for variable in np.flatnonzero(
        limits.switches(found.selected) & found.selected
    ):  # nothing is left that is not worth its penalty
        assert value(switched(found.selected, variable)) >= value(found.selected) - 1e-9


@settings(max_examples=30, deadline=None)
@given(limits_of(), st.integers(0, 99), st.integers(0, 63))
def test_a_reduced_problem_says_what_the_whole_one_does(limits, seed, bits):
    gram, _ = problem_of(limits, seed)
    m = limits.space.n_decisions
    kept = np.flatnonzero(np.array([bool(bits >> v & 1) for v in range(m)]) | limits.must)
    if len(kept) == 0:
        return
    small, narrow = gram.among(kept), limits.among(kept)
    for row in narrow.space.enumerate().astype(bool):
        whole = np.zeros(m, dtype=bool)
        whole[kept] = row
        assert small.explained(row) == pytest.approx(gram.explained(whole), abs=1e-9)
        assert narrow.holds(row) == limits.holds(whole)
    for c in narrow.constraints:
        check_metric(c.metric, n=2)


def test_ties_go_to_the_cheapest_then_the_fewest_then_the_lowest():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 50))
    X = np.column_stack([a, a, b, np.ones(50), a, b])
    columns = [np.array([v]) for v in range(6)]
    gram = Gram.of(X, (a + b)[:, None] + rng.standard_normal((50, 1)), columns)
    space = ChoiceSpace.from_sizes([2] * 6)
    none = np.zeros(6, dtype=bool)

    def tidy(costs, selected):
        cost = Additive(space, np.column_stack([np.zeros(6), costs]).ravel())
        fit = Fit.at(gram, np.isin(np.arange(6), selected))
        return np.flatnonzero(thrifty(fit, Limits(space, [cost <= 20], [], none, none)).selected).tolist()

    assert tidy([3, 2, 1, 1, 2, 1], [0, 5]) == [1, 2]
    assert tidy([3, 2, 1, 0, 2, 1], [4, 3, 2]) == [1, 2]
    assert tidy([0, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5]) == [0, 2]
