import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import Additive, ChoiceSpace
from cggd.program.highs import LinearProgram
from cggd.testing import check_expression, check_metric, check_state
from cggd_features import SharedCost, prices


@st.composite
def shared_costs(draw):
    m = draw(st.integers(1, 6))
    numbers = st.integers(0, 9).map(float)
    discounted, entry = (np.array(draw(st.lists(numbers, min_size=m, max_size=m))) for _ in range(2))
    group = np.array(draw(st.lists(st.integers(0, 2), min_size=m, max_size=m)))
    return SharedCost(ChoiceSpace.from_sizes([2] * m), discounted, entry, np.unique(group, return_inverse=True)[1])


def bought_in_the_cheapest_order(cost, selected):
    """Pay the full price for the first of each group and the discounted one for the others, in every order."""
    best = np.inf
    for order in itertools.permutations(np.flatnonzero(selected)):
        seen, total = set(), 0.0
        for v in order:
            total += cost.discounted[v] + (0 if cost.group[v] in seen else cost.entry[v])
            seen.add(cost.group[v])
        best = min(best, total)
    return best


@settings(max_examples=40, deadline=None)
@given(shared_costs())
@pytest.mark.slow
def test_its_expression_is_what_it_evaluates_to(cost):
    check_expression(cost, n=4)


def test_the_exact_solver_finds_the_best_subset_for_its_price():
    rng = np.random.default_rng(0)
    space, group = ChoiceSpace.from_sizes([2] * 12), np.arange(12) // 3
    cost = SharedCost(space, rng.integers(1, 9, 12) * 1.0, rng.integers(0, 20, 12) * 1.0, group)
    worth = Additive(space, np.stack([np.zeros(12), rng.integers(1, 20, 12)], axis=1).ravel())
    rows = space.enumerate()
    best = worth.evaluate(rows[cost.evaluate(rows) <= 40]).max()
    solution = LinearProgram(space, [cost <= 40], worth, sign=-1.0).solve()
    assert (worth(solution.selection), cost(solution.selection) <= 40) == (best, True)
    assert solution.bound == pytest.approx(-best, abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(shared_costs(), st.data())
def test_switches_pairs_and_parts_of_it_are_what_it_evaluates_to(cost, data):
    check_state(cost, n=6)
    m = cost.space.n_decisions
    selected = np.array(data.draw(st.lists(st.booleans(), min_size=m, max_size=m)))
    out = np.flatnonzero(selected)
    table = cost.exchanged(selected, out)
    for row, variable in enumerate(out.tolist()):
        for other in np.flatnonzero(~selected).tolist():
            swapped = selected.astype(np.int64)
            swapped[[variable, other]] = 0, 1
            assert table[row, other] == pytest.approx(cost(swapped))
    kept = np.flatnonzero(np.array(data.draw(st.lists(st.booleans(), min_size=m, max_size=m))))
    if len(kept):
        part = cost.among(ChoiceSpace.from_sizes([2] * len(kept)), kept)
        rows = part.space.enumerate()
        whole = np.zeros((len(rows), m), dtype=np.int64)
        whole[:, kept] = rows
        np.testing.assert_allclose(part.evaluate(rows), cost.evaluate(whole))


def test_its_moves_open_and_close_the_groups_that_share_a_price():
    group, entry = np.array([0, 0, 1, 2, 2]), np.array([1.0, 2.0, 5.0, 0.0, 0.0])
    cost = SharedCost(ChoiceSpace.from_sizes([2] * 5), np.ones(5), entry, group)
    assert list(cost.moves(np.array([0, 0, 0, 0, 0]))) == [[(0, 1), (1, 1)]]
    assert list(cost.moves(np.array([1, 1, 0, 1, 1]))) == [[(0, 0), (1, 0)]]
    assert list(cost.moves(np.array([0, 1, 0, 0, 0]))) == []


@settings(max_examples=40, deadline=None)
@given(shared_costs())
def test_a_group_costs_what_the_cheapest_order_pays(cost):
    rows = cost.space.enumerate()
    values = cost.evaluate(rows)
    for row, value in zip(rows[::3], values[::3], strict=True):
        assert value == pytest.approx(bought_in_the_cheapest_order(cost, row))
    check_metric(cost, n=4)
    assert cost.minimum() == values.min()
    assert cost.maximum() == values.max()


@settings(max_examples=40, deadline=None)
@given(shared_costs(), st.data())
def test_no_selection_of_a_branch_costs_less_than_its_bounds(cost, data):
    m = cost.space.n_decisions
    state = np.array(data.draw(st.lists(st.integers(0, 2), min_size=m, max_size=m)))  # out, in, open
    rows = cost.space.enumerate().astype(bool)
    inside = (rows[:, state == 1]).all(axis=1) & ~(rows[:, state == 0]).any(axis=1)
    allowed = np.column_stack([state != 1, state != 0]).ravel()
    each = cost.least_with(1.0, allowed).reshape(-1, 2)
    line = cost.minorant(1.0, allowed)
    for row, value in zip(rows[inside], cost.evaluate(rows[inside].astype(np.int64)), strict=True):
        assert np.where(row, each[:, 1], each[:, 0]).max() <= value + 1e-9
        assert (
            line is None
            or line.values.reshape(-1, 2)[np.arange(m), row.astype(int)].sum() + line.constant <= value + 1e-9
        )
    for v in np.flatnonzero(state == 2):  # with a variable inside, the rest can do no better than from there on
        joined = state.copy()
        joined[v] = 1
        after = cost.least_with(1.0, np.column_stack([joined != 1, joined != 0]).ravel()).reshape(-1, 2)
        assert each[v, 1] == pytest.approx(after[v, 1])


TABLE = {
    "age": {"full": 1.0, "discount": 1.0, "group": None},
    "chol": {"full": 7.27, "discount": 5.17, "group": "A"},
    "fbs": {"full": 5.2, "discount": 3.1, "group": "A"},
}


def test_prices_of_a_mapping_and_of_a_frame():
    expected = ({"age": 1.0, "chol": 7.27, "fbs": 5.2}, {"A": {"chol": 5.17, "fbs": 3.1}})
    assert prices(TABLE) == expected
    assert prices(pd.DataFrame.from_dict(TABLE, orient="index")) == expected
    renamed = pd.DataFrame.from_dict(TABLE, orient="index").rename(columns={"full": "price"})
    assert prices(renamed, full="price") == expected


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"age": {"discount": 1}}, "table must have a price 'full' of feature 'age'"),
        ({"age": {"full": "x"}}, "full of feature 'age' must be a number"),
        ({"age": {"full": 1, "group": "A"}}, "a price 'discount' of feature 'age' in group 'A'"),
        ([1, 2], "table must map each feature to its prices"),
    ],
)
def test_wrong_tables_of_prices(table, message):
    with pytest.raises((ValueError, TypeError), match=message):
        prices(table)
