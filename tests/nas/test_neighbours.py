"""Growth of candidates: within bounds, each architecture once, and on a small space everything that can be reached."""

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from cggd import Additive, ChoiceSpace  # noqa: E402
from cggd.testing import problems  # noqa: E402
from cggd_nas import grow  # noqa: E402
from cggd_nas.neighbours import best_first  # noqa: E402


@settings(max_examples=60)
@given(st.data(), problems(max_decisions=4, max_constraints=2))
def test_all_that_switches_lead_to_is_judged_once(data, problem):
    space, constraints = problem.space, problem.constraints
    start = tuple(data.draw(st.tuples(*(st.integers(0, size - 1) for size in space.sizes.tolist()))))

    def satisfied(row):
        return all(c.satisfied(c.values(row[None])).all() for c in constraints)

    every = {tuple(row.tolist()) for row in space.enumerate() if satisfied(row)}
    reached, waiting = set(), [start] if start in every else []
    while waiting:
        reached.add(waiting.pop())
        waiting += [
            other
            for other in every - reached
            if any(sum(a != b for a, b in zip(other, one, strict=True)) == 1 for one in reached)
        ]
    calls = []
    found = grow(space, constraints, [start], lambda s: calls.append(s) or float(sum(s)), 10**6)
    assert sorted(calls) == sorted(reached)
    assert [value for _, value in found] == sorted((float(sum(s)) for s in reached), reverse=True)


def test_ranks_of_accuracy_and_capacity_add_up():
    accuracies, capacity = {(0,): 0.3, (1,): 0.2, (2,): 0.1}, lambda selection: 10.0 ** selection[0]
    assert best_first(accuracies) == best_first(accuracies, capacity, 0.0) == [(0,), (1,), (2,)]
    assert best_first(accuracies, capacity, 2.0) == [(2,), (1,), (0,)]


@given(st.integers(1, 6), st.integers(0, 50))
def test_branches_of_the_largest_capacity_climb_to_the_largest(branches, seed):
    space = ChoiceSpace.from_sizes([4, 3, 4, 2])
    cost = Additive(space, np.random.default_rng(seed).permutation(13))
    calls = []
    found = grow(
        space, [cost <= 1000], [(0, 0, 0, 0)], lambda s: calls.append(s) or 0.0, 10**6, capacity=cost, branches=branches
    )
    largest = max(map(cost, map(tuple, space.enumerate().tolist())))
    assert cost(found[0][0]) == largest
    if branches == 1:  # each step goes to the largest of the neighbours
        first = max(map(tuple, space.switches(np.zeros(4, dtype=int)).tolist()), key=cost)
        assert calls[:2] == [(0, 0, 0, 0), first]


def test_branches_need_a_capacity():
    space = ChoiceSpace.from_sizes([2])
    for branches, error in ((3, "needs capacity"), (0, "branches must be")):
        with pytest.raises(ValueError, match=error):
            grow(space, [Additive(space, [0, 1]) <= 1], [(0,)], lambda s: 0.0, 3, branches=branches)


@pytest.mark.parametrize(("number", "error"), [(0, ValueError), (2.5, TypeError)])
def test_a_wrong_number_is_named(number, error):
    space = ChoiceSpace.from_sizes([2])
    with pytest.raises(error, match="number must be"):
        grow(space, [Additive(space, [0, 1]) <= 1], [(0,)], lambda s: 0.0, number)
