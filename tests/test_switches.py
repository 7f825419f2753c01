"""Swap search: one switch at a time, and nothing good is forgotten."""

from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import Additive, ChoiceSpace, Function, Table
from cggd.datasets import mmkp
from cggd.improve import switches
from cggd.improve.switches import TENURE, Violation, search, walk
from cggd.testing import problems, selections, witnessed_problems

STEPS = 30


def masks(space):
    """Options that may be chosen, at least one for each decision."""
    flags = st.lists(st.booleans(), min_size=space.n_options, max_size=space.n_options)
    return st.tuples(flags, selections(space)).map(lambda drawn: _with(space, *drawn))


def _with(space, flags, selection):
    allowed = np.array(flags)
    allowed[space.layout.flat(selection)] = True
    return allowed


def steps(problem, start, seed=0, **settings):
    violation, rng = Violation(problem.constraints), np.random.default_rng(seed)
    walked = walk(problem.space, violation, problem.objective, start, rng, sign=problem.sign, **settings)
    return list(islice(walked, STEPS))


@settings(max_examples=60)
@given(st.data(), problems(feasible=False))
def test_each_visit_is_one_switch_from_the_last_and_says_what_is_so(data, problem):
    start = data.draw(selections(problem.space))
    visits = steps(problem, start)
    assert (visits[0].selection == start).all()
    for before, after in pairwise(visits):
        assert (before.selection != after.selection).sum() == 1
    if problem.space.n_selections > 1:
        assert len(visits) == STEPS
    for visit in visits:
        assert ((visit.selection >= 0) & (visit.selection < problem.space.sizes)).all()
        assert visit.value == pytest.approx(problem.objective(visit.selection))
        assert (visit.violation == 0) == all(c.report(visit.selection).satisfied for c in problem.constraints)
        assert visit.violation >= 0


@settings(max_examples=60)
@given(st.data(), problems(feasible=False))
def test_only_what_is_allowed_is_switched_to(data, problem):
    space = problem.space
    allowed = data.draw(masks(space))
    start = data.draw(selections(space))
    visits = steps(problem, start, allowed=allowed)
    for before, after in pairwise(visits):
        new = before.selection != after.selection
        assert allowed[space.layout.flat(after.selection)[new]].all()
    rng = np.random.default_rng(0)
    best = search(space, problem.constraints, None, rng, allowed=allowed, restarts=2, patience=5)
    assert allowed[space.layout.flat(best.selection)].all()


@settings(max_examples=60)
@given(st.data(), problems(feasible=False))
def test_search_never_loses_its_best(data, problem):
    start = data.draw(st.none() | selections(problem.space))
    objective = data.draw(st.sampled_from([None, problem.objective]))
    met = []

    def recorded(*arguments, **keywords):
        for visit in walk(*arguments, **keywords):
            met.append(visit)
            yield visit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(switches, "walk", recorded)
        settings = {"sign": problem.sign, "start": start, "restarts": 3, "patience": 10}
        best = search(problem.space, problem.constraints, objective, np.random.default_rng(0), **settings)
    assert (best.violation, problem.sign * best.value) == min((v.violation, problem.sign * v.value) for v in met)
    if start is not None:
        assert (met[0].selection == start).all()
    if objective is None and best.violation == 0:
        assert [v.violation == 0 for v in met] == [False] * (len(met) - 1) + [True]


@settings(max_examples=60)
@given(witnessed_problems())
def test_a_start_that_satisfies_everything_is_kept(drawn):
    problem, witness = drawn
    rng = np.random.default_rng(0)
    found = search(problem.space, problem.constraints, None, rng, start=witness, restarts=1)
    assert (found.selection == witness).all()
    settings = {"sign": problem.sign, "start": witness, "restarts": 2, "patience": 10}
    better = search(problem.space, problem.constraints, problem.objective, rng, **settings)
    assert better.violation == 0
    assert problem.sign * better.value <= problem.sign * problem.objective(witness) + 1e-9


@settings(max_examples=30)
@given(problems(feasible=False), st.integers(0, 9))
def test_same_seed_same_walk(problem, seed):
    start = np.zeros(problem.space.n_decisions, dtype=np.int64)
    first, second = (steps(problem, start, seed) for _ in range(2))
    assert all((a.selection == b.selection).all() for a, b in zip(first, second, strict=True))
    assert (start == 0).all()  # and the walk leaves its start alone


def test_where_there_is_nothing_to_choose_the_walk_ends():
    space = ChoiceSpace({"only": ["one"]})
    cost = Additive(space, [3])
    start = np.zeros(1, dtype=np.int64)
    for bound in (2, 4):
        visits = list(walk(space, Violation([cost <= bound]), cost, start, np.random.default_rng(0)))
        assert len(visits) == 1
        assert (visits[0].violation == 0) == (bound == 4)
        assert search(space, [cost <= bound], cost, np.random.default_rng(0)).value == 3


def test_where_all_but_one_option_is_forbidden_the_walk_ends():
    space = ChoiceSpace({"a": ["x", "y"], "b": ["x", "y", "z"]})
    allowed = np.array([False, True, False, False, True])
    cost = Additive(space, [0, 1, 2, 3, 4])
    best = search(space, [cost <= 2], cost, np.random.default_rng(0), allowed=allowed)
    assert best.selection.tolist() == [1, 2]
    assert best.violation > 0


def test_a_single_decision_is_walked_through():
    space = ChoiceSpace.from_sizes([5])
    cost, size = Additive(space, [5, 1, 4, 2, 3]), Table(space, [0, 9, 0, 7, 5])
    best = search(space, [size <= 7], cost, np.random.default_rng(0), start=np.array([0]), restarts=1)
    assert (best.selection.tolist(), best.value) == ([3], 2)


def test_without_constraints_the_objective_alone_counts():
    space = ChoiceSpace.from_sizes([3, 3, 3])
    cost = Additive(space, [3, 1, 2, 9, 8, 7, 0, 5, 4])
    assert search(space, [], cost, np.random.default_rng(0), restarts=1).value == 8
    assert search(space, [], cost, np.random.default_rng(0), sign=-1.0, restarts=1).value == 17


def test_a_decision_that_switched_rests():
    space = ChoiceSpace.from_sizes([2] * 12)
    flat = Additive(space, np.zeros(24))
    walked = walk(space, Violation([]), flat, np.zeros(12, dtype=np.int64), np.random.default_rng(0))
    visits = list(islice(walked, 200))
    switched = [int(np.flatnonzero(a.selection != b.selection)[0]) for a, b in pairwise(visits)]
    for i in range(len(switched)):
        assert switched[i] not in switched[i + 1 : i + TENURE]


def test_stop_ends_the_search_after_the_visit_at_hand():
    calls = []
    space = ChoiceSpace.from_sizes([2] * 8)
    measured = Function(space, lambda s: calls.append(s) or 1.0, cache=False)
    best = search(space, [measured <= 0], None, np.random.default_rng(0), stop=lambda: True)
    assert best.violation > 0
    assert len(calls) <= 2 * space.n_options  # one table, and one of local parts where no switch helps


@pytest.mark.parametrize("scale", [2.0**-6, 2.0**40])
def test_the_walk_does_not_depend_on_the_unit(scale):
    knapsack = mmkp("I01")
    start = np.zeros(knapsack.space.n_decisions, dtype=np.int64)

    def visited(factor):
        bounds = [
            Additive(knapsack.space, w.values * 10 * factor) <= (10 * capacity + 5) * factor
            for w, capacity in zip(knapsack.weights, knapsack.capacities.tolist(), strict=True)
        ]
        value, rng = Additive(knapsack.space, knapsack.value.values * factor), np.random.default_rng(0)
        walked = walk(knapsack.space, Violation(bounds), value, start, rng, sign=-1.0)
        return [visit.selection.tolist() for visit in islice(walked, 50)]

    assert visited(scale) == visited(1.0)


@pytest.mark.parametrize("seed", range(5))
def test_a_knapsack_is_packed(seed):
    knapsack = mmkp("I01")
    best = search(knapsack.space, knapsack.constraints, knapsack.value, np.random.default_rng(seed), sign=-1.0)
    assert best.violation == 0
    assert best.value >= 0.95 * knapsack.best_known
