"""Directions against a slow double loop over pairs, and laws that they obey."""

from itertools import pairwise, product
from math import erf, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cggd import layout
from cggd.guide import directions
from cggd.guide.directions import three_case, unit
from cggd.layout import Layout

WEIGHTS = ("unit", "difference", "confidence")


def slow(table, limit, cuts, weights, errors=None, allowed=None):
    """The definition, pair by pair."""
    total = np.zeros(len(table))
    errors = np.zeros(len(table)) if errors is None else errors
    for first, last in pairwise(cuts):
        push = np.zeros(len(table))
        options = [o for o in range(first, last) if allowed is None or allowed[o]]
        satisfying = [o for o in options if table[o] <= limit]
        for j, m in product(options, options):
            if len(satisfying) == len(options):
                pair = False
            elif satisfying:
                pair = table[j] <= limit < table[m]
            else:
                pair = table[j] < table[m]
            if pair:
                w = {"unit": 1.0, "difference": table[m] - table[j]}.get(weights)
                if w is None:
                    noise = sqrt(errors[j] ** 2 + errors[m] ** 2)
                    w = erf((table[m] - table[j]) / (sqrt(2) * noise)) if noise else 1.0
                push[j] += w / sqrt(2)
                push[m] -= w / sqrt(2)
        if weights != "difference" and np.linalg.norm(push) > 0:
            push /= np.linalg.norm(push)
        total += push
    norm = np.linalg.norm(total)
    return total / norm if norm > 0 else total


@st.composite
def cases(draw):
    numbers = st.one_of(st.integers(-3, 3).map(float), st.floats(-100, 100).map(lambda x: round(x, 3)))
    groups = draw(st.lists(st.lists(numbers, min_size=1, max_size=6), min_size=1, max_size=6))
    if draw(st.booleans()):
        groups = [(group * 6)[:4] for group in groups]
    table = np.array([x for group in groups for x in group])
    cuts = np.cumsum([0, *(len(group) for group in groups)])
    limit = draw(st.one_of(numbers, st.sampled_from(table.tolist())))
    return table, limit, cuts


@given(cases(), st.sampled_from(WEIGHTS), st.randoms(use_true_random=False))
def test_closed_forms_equal_the_double_loop(case, weights, random):
    table, limit, cuts = case
    errors = np.array([random.choice([0.0, 0.5, 2.0]) for _ in table])
    got = three_case(table, limit, Layout(cuts), weights, errors=errors)
    assert got == pytest.approx(slow(table, limit, cuts, weights, errors), abs=1e-9)


@given(cases(), st.sampled_from(WEIGHTS), st.randoms(use_true_random=False))
def test_forbidden_options_are_no_partners(case, weights, random):
    table, limit, cuts = case
    allowed = np.array([random.random() < 0.6 for _ in table])
    allowed[cuts[:-1]] = True
    got = three_case(table, limit, Layout(cuts), weights, allowed=allowed)
    assert got == pytest.approx(slow(table, limit, cuts, weights, allowed=allowed), abs=1e-9)
    assert not got[~allowed].any()


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("sizes", [[70, 3, 1, 66], [80, 80]], ids=["ragged", "uniform"])
def test_many_options_are_ranked_by_sorting(weights, sizes):
    rng = np.random.default_rng(0)
    table, cuts = rng.integers(0, 30, sum(sizes)).astype(float), np.cumsum([0, *sizes])
    for limit in (-1.0, 10.0):
        assert three_case(table, limit, Layout(cuts), weights) == pytest.approx(
            slow(table, limit, cuts, weights), abs=1e-9
        )


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("ragged", [False, True])
def test_blocks_do_not_show(monkeypatch, weights, ragged):
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 6, 300) if ragged else np.full(300, 4)
    cuts = np.concatenate([[0], np.cumsum(sizes)])
    tables = rng.integers(0, 9, (3, cuts[-1])).astype(float)
    limits = np.array([-1.0, 4.0, 9.0])
    whole = three_case(tables, limits, Layout(cuts), weights)
    monkeypatch.setattr(layout, "BLOCK", 7)
    assert three_case(tables, limits, Layout(cuts), weights) == pytest.approx(whole, abs=1e-12)
    assert whole[2] == pytest.approx(0)
    assert whole[0] == pytest.approx(slow(tables[0], -1.0, cuts, weights), abs=1e-9)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_sign_satisfying_up_violating_down(weights):
    """The one place that fixes the sign: with a single better option, the push is up on it and down on the other."""
    direction = three_case(np.array([1.0, 2.0]), 1.5, Layout(np.array([0, 2])), weights)
    assert direction == pytest.approx([1 / sqrt(2), -1 / sqrt(2)])
    direction = three_case(np.array([1.0, 2.0]), 0.5, Layout(np.array([0, 2])), weights)
    assert direction == pytest.approx([1 / sqrt(2), -1 / sqrt(2)])


@given(cases(), st.sampled_from(WEIGHTS))
def test_norm_is_one_or_zero_and_zero_only_where_nothing_helps(case, weights):
    table, limit, cuts = case
    direction = three_case(table, limit, Layout(cuts), weights)
    helps = any(
        len(set(group)) > 1 and max(group) > limit for group in (table[a:b].tolist() for a, b in pairwise(cuts))
    )
    assert np.linalg.norm(direction) == pytest.approx(1.0 if helps else 0.0)
    for a, b in pairwise(cuts):
        assert direction[a:b].sum() == pytest.approx(0, abs=1e-9)


@given(cases(), st.sampled_from(WEIGHTS))
def test_equal_options_are_pushed_equally_and_not_at_all_when_alone(case, weights):
    table, limit, cuts = case
    direction = three_case(table, limit, Layout(cuts), weights)
    for a, b in pairwise(cuts):
        for value in set(table[a:b].tolist()):
            assert np.ptp(direction[a:b][table[a:b] == value]) < 1e-9
        if len(set(table[a:b].tolist())) == 1:
            assert not direction[a:b].any()


def test_equal_options_give_exactly_no_push():
    # 0.1 three times: a mean taken naively differs from 0.1 in the last digit.
    table = np.array([0.1, 0.1, 0.1, 5.0, 7.0])
    direction = three_case(table, 0.05, Layout(np.array([0, 3, 5])), "difference")
    assert direction[:3].tolist() == [0.0, 0.0, 0.0]


@given(cases(), st.sampled_from(WEIGHTS), st.sampled_from([1e-160, 1e-9, 3.0, 1e9, 1e160]))
def test_invariant_under_scaling_of_table_and_limit(case, weights, factor):
    table, limit, cuts = case
    plain = three_case(table, limit, Layout(cuts), weights)
    assert three_case(table * factor, limit * factor, Layout(cuts), weights) == pytest.approx(plain, abs=1e-6)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_float32_tables_stay_float32_and_agree(weights):
    rng = np.random.default_rng(2)
    cuts = np.arange(0, 41, 4)
    table = rng.integers(0, 50, 40).astype(np.float32)
    single = three_case(table, 25.0, Layout(cuts), weights)
    assert single.dtype == np.float32
    assert single == pytest.approx(three_case(table.astype(float), 25.0, Layout(cuts), weights), abs=1e-5)


def test_tables_are_left_alone_unless_overwriting_is_allowed():
    table = np.array([3.0, 1.0, 2.0])
    three_case(table, 0.0, Layout(np.array([0, 3])), "difference")
    assert table.tolist() == [3.0, 1.0, 2.0]
    out = three_case(table, 0.0, Layout(np.array([0, 3])), "difference", overwrite=True)
    assert np.shares_memory(out, table)


def test_confidence_trusts_a_clear_difference_more_than_a_noisy_one():
    table, errors = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.01, 0.01, 5.0, 5.0])
    clear, noisy = directions._confidence(table, errors, (np.array([0, 2]),), (np.array([1, 3]),))
    assert clear == pytest.approx(1.0)
    assert 0 < noisy < 0.2


def test_unit_of_nothing_is_nothing():
    assert unit(np.zeros(3)).tolist() == [0.0, 0.0, 0.0]
    assert unit(np.array([1e-17, -1e-17])).tolist() == [0.0, 0.0]
    assert unit(np.array([3.0, 4.0])) == pytest.approx([0.6, 0.8])


def test_limits_of_each_decision_are_those_of_a_direction_of_its_own():
    """A table of limits, a row for each constraint: each decision is pushed as if it were alone with its limit."""
    rng = np.random.default_rng(0)
    layout = Layout(np.array([0, 3, 5, 9]))
    tables, limits = rng.integers(0, 9, (4, 9)).astype(float), rng.integers(0, 9, (4, 3)).astype(float)
    pushed = three_case(tables, limits, layout, "unit")
    for row, (table, own) in enumerate(zip(tables, limits, strict=True)):
        for d, (a, b) in enumerate(zip(layout.offsets[:-1], layout.offsets[1:], strict=True)):
            alone = three_case(table[a:b], own[d], Layout(np.array([0, b - a])), "unit")
            part = pushed[row, a:b]
            assert part / max(np.linalg.norm(part), 1e-300) == pytest.approx(alone, abs=1e-12)
