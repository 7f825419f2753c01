"""Presolve: what is removed is in no selection within the bounds, and markers for "never" are removed."""

import networkx as nx
import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from cggd import Additive, ChoiceSpace, LongestPath, Peak, maximum, minimize, smallest_bound
from cggd.program.grid import grid
from cggd.program.presolve import emptied, impossible, limits_of, possible
from cggd.testing import choice_spaces, constraints, metrics
from tests.strategies import satisfying


@given(st.data(), choice_spaces(max_decisions=5))
def test_no_option_of_a_selection_within_the_bounds_is_removed(data, space):
    bounds = data.draw(st.lists(constraints(space, feasible=False), min_size=1, max_size=3))
    allowed = None
    if data.draw(st.booleans()):
        allowed = np.array(data.draw(st.lists(st.booleans(), min_size=space.n_options, max_size=space.n_options)))
        allowed[space.offsets[:-1]] = True
    selections = space.enumerate()
    held = np.ones(len(selections), dtype=bool)
    if allowed is not None:
        held &= allowed[space.layout.flat(selections)].all(axis=1)
    for c in bounds:
        held &= satisfying(c, selections)
    mask = possible(space, limits_of(bounds), allowed)
    needed = np.unique(space.layout.flat(selections[held]))
    if mask is None:
        assert not len(needed)
    else:
        assert mask[needed].all()
        assert allowed is None or not (mask & ~allowed).any()
    for c in bounds:
        if impossible(c, allowed) is not None:
            assert not held.any()


@given(st.data(), choice_spaces(max_decisions=4), st.sampled_from([1.0, -1.0]))
def test_no_value_is_less_than_the_least_with_its_options(data, space, sign):
    metric = data.draw(metrics(space))
    everything = np.ones(space.n_options, dtype=bool)
    selections = space.enumerate()
    values = sign * metric.evaluate(selections)
    least = metric.least_with(sign, everything)[space.layout.flat(selections)].max(axis=1)
    assert (least <= values).all()


@given(st.data(), choice_spaces(max_decisions=4))
def test_values_of_all_kinds_differ_by_no_less_than_their_grid(data, space):
    metric = data.draw(metrics(space))
    step = grid(metric)
    values = np.unique(metric.evaluate(space.enumerate()))
    assume(step and len(values) > 1)
    apart = np.diff(values)
    apart = apart[apart > 1e-9 * np.abs(values).max()]  # the same value, summed in another order
    assert len(apart) == 0 or apart.min() >= step * (1 - 1e-6)


def test_a_number_that_stands_for_never_is_removed_from_every_kind_of_metric():
    space = ChoiceSpace.from_sizes([3, 3, 3])
    numbers = [1.5, 2.5, 1e9, 0.5, 1e12, 1.0, 2.0, 2.5, 1e6]
    graph = nx.DiGraph([(0, 1), (1, 2)])
    for metric in (
        Additive(space, numbers),
        Peak(space, numbers),
        Peak(space, numbers, stages={"both": [0, 1], "last": [2]}),
        LongestPath(space, graph, numbers),
        maximum(Additive(space, numbers), Peak(space, numbers)),
        2 * Additive(space, numbers) + Peak(space, numbers),
    ):
        mask = possible(space, limits_of([metric <= 100.0]))
        assert mask.tolist() == [n < 1e6 for n in numbers], metric


def test_removing_one_option_shows_that_others_are_impossible():
    space = ChoiceSpace.from_sizes([2, 2])
    first = Additive(space, [0.0, 5.0, 0.0, 5.0])
    second = Additive(space, [5.0, 0.0, 0.0, 5.0])
    assert possible(space, limits_of([first <= 4.0, second <= 7.0])).tolist() == [True, False, True, False]
    assert possible(space, limits_of([first <= 4.0, second <= 4.0])) is None


class Own(Additive):
    """A subclass whose values are not the sums that its table says."""

    def evaluate(self, selections):
        return -super().evaluate(selections)


def test_a_subclass_with_values_of_its_own_is_taken_at_its_limits_alone():
    space = ChoiceSpace.from_sizes([2, 2])
    metric = Own(space, [1.0, 9.0, 2.0, 9.0])
    assert metric.addends() is None
    assert grid(metric) == 0


def test_expensive_options_hide_no_difference_between_cheap_ones():
    rng = np.random.default_rng(3)
    space = ChoiceSpace.from_sizes([4] * 12)
    cost = np.round(rng.uniform(0.1, 9, 48), 2)
    worth = np.round(rng.uniform(0.1, 9, 48), 2)
    cost[::9] = 10.0 ** rng.integers(6, 13, len(cost[::9]))
    keep = np.array([cost[4 * d : 4 * d + 4].min() for d in range(12)])
    budget = float(np.round(keep.sum() + 15, 2))
    price, value = Additive(space, cost, name="price"), Additive(space, worth, name="worth")
    result = minimize(-value, [price <= budget])
    # Without the options that are never taken, the same problem has numbers of one size.
    small = np.minimum(cost, budget + 1)
    other = minimize(-value, [Additive(space, small, name="price") <= budget])
    assert result.status.name == other.status.name == "OPTIMAL"
    assert result.value == other.value
    assert (
        smallest_bound(price, [value >= 70.0]).value
        == smallest_bound(Additive(space, np.minimum(cost, 1000.0), name="price"), [value >= 70.0]).value
    )


@given(st.data(), choice_spaces(max_decisions=3))
def test_the_decision_without_an_option_and_what_rules_its_options_out_are_named(data, space):
    some = [data.draw(constraints(space)) for _ in range(2)]
    if possible(space, limits_of(some)) is None:
        text = emptied(space, some)
        assert any(f"decision {decision!r} is possible" in text for decision in space.decisions)
        assert any(str(c) in text for c in some)


def test_bounds_that_rule_out_all_options_of_a_decision_are_named():
    space = ChoiceSpace({f"d{i}": ["x", "y", "z"] for i in range(30)})
    rest = np.ones(87)
    left, right = (Additive(space, [*own, *rest], name=name) for own, name in (([1, 2, 9], "a"), ([900, 900, 1], "b")))
    note = minimize(left, [left <= 35, right <= 35]).note
    assert "no option of decision 'd0' is possible within a <= 35 and b <= 35" in note
