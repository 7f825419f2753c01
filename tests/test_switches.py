"""Switches: what the search stands on is what evaluation says, and nothing good is forgotten."""

from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import Additive, ChoiceSpace, Function, Metric, Peak, Problem, Table, maximum
from cggd.datasets import mmkp
from cggd.improve import switches
from cggd.improve.reveal import revealed
from cggd.improve.switches import Best, Visit, search, surround, swap, walk
from cggd.program import lagrangian
from cggd.testing import LawError, check_metric, problems, selections, witnessed_problems

STEPS = 30
TENURE = 5


def masks(space):
    """Options that may be chosen, at least one for each decision."""
    flags = st.lists(st.booleans(), min_size=space.n_options, max_size=space.n_options)
    return st.tuples(flags, selections(space)).map(lambda drawn: _with(space, *drawn))


def _with(space, flags, selection):
    allowed = np.array(flags)
    allowed[space.layout.flat(selection)] = True
    return allowed


def begun(problem, start, **how):
    around = surround(problem, start, **how)
    return around, Best(problem, Visit(start, np.inf, np.inf))


def steps(problem, start, seed=0, n=STEPS, allowed=None, **how):
    """Selections of a walk, its start included."""
    around, best = begun(replace(problem, allowed=allowed), start, **how)
    walked = walk(around, best, np.random.default_rng(seed), tenure=TENURE)
    return [start.copy(), *(around.selection.copy() for _ in islice(walked, n))]


def slow_violation(problem, weights, selection):
    """The definition of weighted violation, constraint by constraint."""
    bounded = [c for c in problem.constraints if np.isfinite(c.bound)]
    return sum(w * c.violation(c.values(selection[None]))[0] for w, c in zip(weights, bounded, strict=True))


# -- surroundings -----------------------------------------------------------------------------------------------------


def in_order(problem, start):
    """The problem with its constraints in the order in which the surroundings of a selection hold them."""
    sums = [c for c in problem.constraints if c.metric.state(start).weights is not None]
    others = [c for c in problem.constraints if c.metric.state(start).weights is None]
    return Problem(problem.objective, [*sums, *others], problem.sense)


@settings(max_examples=80)
@given(st.data(), problems(feasible=False))
def test_what_surrounds_a_selection_is_what_evaluation_says(data, problem):
    problem = in_order(problem, np.zeros(problem.space.n_decisions, dtype=np.int64))
    start = data.draw(selections(problem.space))
    around, best = begun(problem, start)
    for _ in islice(walk(around, best, np.random.default_rng(data.draw(st.integers(0, 9)))), 10):
        selection = around.selection
        rows = problem.space.switches(selection)
        wrong, cost = around.look()
        assert cost == pytest.approx(problem.sign * problem.objective.evaluate(rows), abs=1e-9)
        assert around.aim.cost == pytest.approx(problem.cost(selection), abs=1e-9)
        slow = np.array([slow_violation(problem, around.weights, row) for row in rows])
        # Parts of a maximum add a little to what is violated, and nothing to what is not.
        size = around.weights.max(initial=0.0)
        assert (wrong >= slow - 1e-9 * size).all()
        assert (wrong <= (1 + len(problem.constraints) * switches.LOCAL) * slow + LOOSE * size).all()
        assert (wrong[slow == 0] <= 1e-9 * size).all()
        some = np.random.default_rng(0).integers(0, problem.space.n_options, 3)
        fewer, costs = around.look(some)
        assert costs == pytest.approx(cost[some], abs=1e-9)
        assert (fewer <= wrong[some] + 1e-9 * size).all()


# What local parts of maxima may add, beside weights of one.
LOOSE = 0.2


def assignment(seed, agents=4, jobs=12, tight=0.9):
    rng = np.random.default_rng(seed)
    loads, costs = rng.integers(5, 25, (agents, jobs)), rng.integers(10, 50, (jobs, agents))
    space, constraints = ChoiceSpace.from_sizes([agents] * jobs), []
    for agent in range(agents):
        load = np.zeros((jobs, agents))
        load[:, agent] = loads[agent]
        constraints.append(Additive(space, load.ravel()) <= round(tight * loads[agent].sum() / agents))
    return Problem(Additive(space, costs.ravel()), constraints)


@pytest.mark.parametrize("seed", range(3))
def test_shares_of_an_assignment_are_rows_in_another_form(seed, monkeypatch):
    problem = assignment(seed)
    start = problem.space.sample(1, np.random.default_rng(seed))[0]
    shares, best = begun(problem, start)
    monkeypatch.setattr(switches._Shares, "fit", staticmethod(lambda space, rows: False))
    rows = surround(problem, start)
    assert type(shares.parts[0]) is not type(rows.parts[0])
    for _ in islice(walk(shares, best, np.random.default_rng(0)), 2 * switches.REFRESHED):
        changed = np.flatnonzero(rows.selection != shares.selection)
        for decision in changed.tolist():
            rows.move([(decision, int(shares.selection[decision]))])
        rows.weights[:] = shares.weights
        assert shares.excess == pytest.approx(rows.excess)
        assert shares.look()[0] == pytest.approx(rows.look()[0], abs=1e-9)


# -- walks ------------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.data(), problems(feasible=False))
def test_each_step_is_one_allowed_switch(data, problem):
    space = problem.space
    allowed = data.draw(st.none() | masks(space))
    start = data.draw(selections(space))
    before = start.copy()
    visited = steps(problem, start, allowed=allowed)
    assert (start == before).all()
    if space.n_selections > 1 and allowed is None:
        assert len(visited) == STEPS + 1
    for one, other in pairwise(visited):
        new = one != other
        assert new.sum() == 1
        assert allowed is None or allowed[space.layout.flat(other)[new]].all()


@settings(max_examples=60)
@given(st.data(), problems(feasible=False))
def test_a_walk_never_loses_its_best(data, problem):
    start = data.draw(selections(problem.space))
    around, best = begun(problem, start)
    before = best.visit
    for better in islice(walk(around, best, np.random.default_rng(0)), STEPS):
        kept = best.visit
        assert better == (kept is not before)
        assert (kept.violation, kept.value) <= (before.violation, before.value) or kept.violation < before.violation
        if kept.violation == 0:
            assert problem.satisfied(kept.selection)
            assert kept.value == problem.cost(kept.selection)
        if problem.satisfied(around.selection):
            assert kept.violation == 0
            assert kept.value <= problem.cost(around.selection) + 1e-9
        before = kept


@settings(max_examples=30)
@given(problems(feasible=False), st.integers(0, 9))
def test_same_seed_same_walk(problem, seed):
    start = np.zeros(problem.space.n_decisions, dtype=np.int64)
    first, second = (steps(problem, start, seed) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


@settings(max_examples=30)
@given(witnessed_problems(), st.integers(0, 9))
def test_same_seed_same_findings(drawn, seed):
    problem, witness = drawn

    def found():
        findings = islice(swap(problem, witness, np.random.default_rng(seed), again=True), 300)
        return [None if f is None or f.selection is None else f.selection.tolist() for f in findings]

    assert found() == found()


def test_a_decision_that_switched_rests():
    space = ChoiceSpace.from_sizes([2] * 12)
    visited = steps(Problem(Additive(space, np.zeros(24))), np.zeros(12, dtype=np.int64), n=200)
    switched = [int(np.flatnonzero(a != b)[0]) for a, b in pairwise(visited)]
    for i in range(len(switched)):
        assert switched[i] not in switched[i + 1 : i + TENURE]


@pytest.mark.parametrize("scale", [2.0**-6, 2.0**40])
def test_the_walk_does_not_depend_on_the_unit(scale):
    knapsack = mmkp("I01")
    start = np.zeros(knapsack.space.n_decisions, dtype=np.int64)

    def visited(factor):
        bounds = [
            Additive(knapsack.space, w.values * 10 * factor) <= (10 * capacity + 5) * factor
            for w, capacity in zip(knapsack.weights, knapsack.capacities.tolist(), strict=True)
        ]
        value = Additive(knapsack.space, knapsack.value.values * factor)
        return [selection.tolist() for selection in steps(Problem(value, bounds, "maximize"), start, n=50)]

    assert visited(scale) == visited(1.0)


# -- search -----------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.data(), problems(feasible=False))
def test_a_search_says_what_is_so(data, problem):
    space, allowed = problem.space, data.draw(st.none() | masks(problem.space))
    objective = data.draw(st.sampled_from([None, problem.objective]))
    how = {"sign": problem.sign, "allowed": allowed, "restarts": 2, "patience": 10}
    found = search(space, problem.constraints, objective, np.random.default_rng(0), **how)
    assert (found.violation == 0) == problem.satisfied(found.selection)
    assert 0 <= found.violation < np.inf
    assert allowed is None or allowed[space.layout.flat(found.selection)].all()
    assert found.value == pytest.approx(0.0 if objective is None else problem.objective(found.selection))


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


def test_where_there_is_nothing_to_choose_the_search_ends():
    space = ChoiceSpace({"only": ["one"]})
    cost = Additive(space, [3])
    for bound in (2, 4):
        found = search(space, [cost <= bound], cost, np.random.default_rng(0))
        assert (found.violation == 0) == (bound == 4)
        assert found.value == 3
        assert len(steps(Problem(cost, [cost <= bound]), np.zeros(1, dtype=np.int64))) == 1


def test_where_all_but_one_option_is_forbidden_the_search_ends():
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


def test_stop_ends_the_search_soon():
    calls = []
    space = ChoiceSpace.from_sizes([2] * 8)
    measured = Function(space, lambda s: calls.append(s) or 1.0 + s[0] * s[1], cache=False)
    best = search(space, [measured <= 0], None, np.random.default_rng(0), stop=lambda: True)
    assert best.violation > 0
    # The sample, the test of whether it is a sum, and a table.
    assert len(calls) <= switches.SAMPLE + 16 + 2 * space.n_options + 2


def test_bounds_that_many_selections_meet_take_few_calls():
    calls = []
    space = ChoiceSpace.from_sizes([4] * 20)

    def measured(rows):
        calls.append(len(rows))
        return np.sin(7 * rows @ np.arange(1.0, 21.0))

    bounds = [Function(space, measured, batch=True, name=name) <= 0.5 for name in ("one", "other")]
    found = search(space, bounds, None, np.random.default_rng(0))
    assert found.violation == 0
    assert sum(calls) <= 2 * switches.SAMPLE


@pytest.mark.parametrize("seed", range(5))
def test_a_knapsack_is_packed(seed):
    knapsack = mmkp("I01")
    best = search(knapsack.space, knapsack.constraints, knapsack.value, np.random.default_rng(seed), sign=-1.0)
    assert best.violation == 0
    assert best.value >= 0.95 * knapsack.best_known


# -- improvement ------------------------------------------------------------------------------------------------------


def improved(problem, start, n, seed=0, **how):
    """The cost after `n` steps."""
    cost = problem.cost(start)
    for finding in islice(swap(problem, start, np.random.default_rng(seed), again=True, **how), n):
        if finding is not None and finding.selection is not None:
            assert problem.satisfied(finding.selection)
            assert problem.cost(finding.selection) < cost
            cost = problem.cost(finding.selection)
    return cost


def test_a_pair_of_switches_frees_what_it_takes():
    # Both orders of the two switches violate the bound by much in between, and cost much.
    space = ChoiceSpace.from_sizes([2] * 3)
    load = Additive(space, [0, 90, 100, 10, 0, 1000])
    problem = Problem(Additive(space, [5, 0, 0, 4, 0, 0]), [load <= 100])
    start = np.array([0, 0, 0])
    around, best = begun(problem, start)
    best.visit = Visit(start, 0.0, problem.cost(start))
    assert any(switches.exchange(around, best, np.random.default_rng(0)))
    assert best.visit.selection.tolist() == [1, 1, 0]


@settings(max_examples=80)
@given(st.data(), problems(feasible=False))
def test_what_two_switches_do_is_known_without_making_them(data, problem):
    space = problem.space
    around, _ = begun(problem, data.draw(selections(space)))
    decision = data.draw(st.integers(0, space.n_decisions - 1))
    switch = (decision, data.draw(st.integers(0, int(space.sizes[decision]) - 1)))
    others = np.flatnonzero(space.layout.owner != decision)
    told = around.look_after(switch, others)
    again = around.look_after(switch, others)
    around.move([switch])
    wrong, cost = around.look(others)
    if told is not None:
        size = 1e-9 * (1 + around.weights.max(initial=0.0))
        assert told[0] == pytest.approx(wrong, abs=size * (1 + np.abs(around.excess).max(initial=0.0)), rel=1e-9)
        assert told[1] == pytest.approx(cost, abs=1e-9)
        assert all(map(np.array_equal, told, again))


def knapsack_of(seed, n=30):
    rng = np.random.default_rng(seed)
    space = ChoiceSpace.from_sizes([2] * n)
    weight, value = (np.column_stack([np.zeros(n), rng.integers(5, 60, n)]).ravel() for _ in range(2))
    load = Additive(space, weight)
    return Problem(Additive(space, value), [load <= weight.sum() / 3, Peak(space, weight) <= 55], "maximize")


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_the_same_whether_states_tell_or_are_asked_to_move(seed, monkeypatch):
    problem, found = knapsack_of(seed), []
    start = np.zeros(problem.space.n_decisions, dtype=np.int64)
    for _ in range(2):
        around, best = begun(problem, start)
        best.visit = Visit(start, 0.0, problem.cost(start))
        moves, move = [], around.move
        monkeypatch.setattr(around, "move", lambda made, log=moves, move=move: (log.append(made), move(made)))
        for _ in range(20):
            if not any(switches.exchange(around, best, np.random.default_rng(0))):
                break
        found.append((best.visit.selection.tolist(), len(moves)))
        monkeypatch.setattr(switches.Surroundings, "look_after", lambda *_: None)
    (told, made), (asked, more) = found
    assert told == asked
    assert made == 0 < more


# -- compound moves ---------------------------------------------------------------------------------------------------


class Together(Metric):
    """Clusters are worth something only if all their members take the same option; moves take a cluster along."""

    def __init__(self, space, clusters, worth):
        self.space, self.name, self.unit = space, "together", ""
        self.clusters, self.worth = clusters, worth

    def evaluate(self, selections):
        same = [(selections[:, c] == selections[:, c[:1]]).all(axis=1) for c in self.clusters]
        options = [selections[:, c[0]] for c in self.clusters]
        return sum(np.where(s, self.worth[o], 0.0) for s, o in zip(same, options, strict=True))

    def moves(self, selection):
        for cluster in self.clusters:
            for option in range(len(self.worth)):
                yield [(d, option) for d in cluster]


def clustered(n=4, size=5, allowed=None):
    space = ChoiceSpace.from_sizes([3] * (n * size))
    clusters = [list(range(i * size, (i + 1) * size)) for i in range(n)]
    metric = Together(space, clusters, np.array([1.0, 0.0, 5.0]))
    count = Additive(space, np.tile([0.0, 0.0, 1.0], n * size))
    return Problem(metric, [count <= size * (n // 2)], "maximize", allowed), metric


def compounded(problem, start):
    around, best = begun(problem, start)
    best.visit = Visit(start, 0.0, problem.cost(start))
    for better in switches.compound(around, best, np.random.default_rng(0)):
        assert isinstance(better, bool)
        assert problem.satisfied(best.visit.selection)
    return best.visit


def test_compound_moves_cross_what_single_switches_cannot():
    problem, metric = clustered()
    start = np.zeros(problem.space.n_decisions, dtype=np.int64)
    around, best = begun(problem, start)
    best.visit = Visit(start, 0.0, problem.cost(start))
    assert not any(switches.exchange(around, best, np.random.default_rng(0)))
    visit = compounded(problem, start)
    assert -visit.value == 2 * 5 + 2 * 1
    check_metric(metric)


def test_switches_follow_a_compound_move_that_violates_a_bound():
    space = ChoiceSpace.from_sizes([2] * 6)
    metric = Together(space, [[0, 1, 2]], np.array([0.0, 9.0]))
    value = metric + Additive(space, [0, 0] * 3 + [0, 1, 0, 2, 0, 3])
    problem = Problem(value, [Additive(space, [0, 1] * 6) <= 4], "maximize")
    start = np.array([0, 0, 0, 1, 1, 1])
    visit = compounded(problem, start)
    assert visit.selection.tolist() == [1, 1, 1, 0, 0, 1]


def test_compound_moves_respect_forbidden_options():
    allowed = np.ones(60, dtype=bool)
    allowed[2] = False  # the first decision may not take the option that is worth most
    problem, _ = clustered(allowed=allowed)
    visit = compounded(problem, np.zeros(20, dtype=np.int64))
    assert visit.selection[0] != 2
    assert -visit.value == 2 * 5 + 2 * 1


def test_the_search_uses_compound_moves_of_objective_and_constraints():
    problem, metric = clustered(n=3, size=8)
    start = np.ones(24, dtype=np.int64)
    assert improved(problem, start, 4000) == -(5 + 2 * 1)
    other = Problem(Additive(problem.space, np.zeros(72)), [metric >= 7, *problem.constraints])
    start = np.tile([0, 1], 12)
    visit = search(problem.space, other.constraints, None, np.random.default_rng(0), start=start, restarts=2)
    assert visit.violation == 0


def test_composed_metrics_propose_the_moves_of_their_parts():
    _, metric = clustered(n=2, size=2)
    at = np.zeros(4, dtype=np.int64)
    own = list(metric.moves(at))
    assert len(own) == 6
    plain = Additive(metric.space, np.zeros(12))
    for composed in (metric + 1, 2 * metric, -metric, metric + plain, maximum(metric, plain)):
        assert list(composed.moves(at)) == own
    assert list((0 * metric + plain).moves(at)) == []
    assert list(plain.moves(at)) == []


@pytest.mark.parametrize("wrong", [[(0, 1), (0, 2)], [(0, 3)], [(9, 0)], [(-1, 0)]])
def test_the_law_of_moves(wrong):
    _, metric = clustered(n=2, size=2)
    metric.moves = lambda selection: [wrong]
    with pytest.raises(LawError, match="distinct decisions"):
        check_metric(metric)


@pytest.mark.parametrize("seed", range(3))
def test_reduced_costs_lead_to_better_selections(seed):
    knapsack = mmkp("I04")
    problem = Problem(knapsack.value, knapsack.constraints, "maximize")
    relaxed = lagrangian.relax(problem)
    lightest = knapsack.space.layout.argmax(-sum(c.metric.sum_table().values for c in knapsack.constraints))
    guided = improved(problem, lightest, 3000, seed, reduced=relaxed.reduced())
    assert guided < problem.cost(lightest)
    assert -guided >= 0.995 * knapsack.best_known


@pytest.mark.parametrize("seed", range(3))
def test_black_boxes_that_are_sums_are_solved_like_sums(seed):
    knapsack = mmkp("I03")
    calls = []

    def hidden(metric):
        def evaluate(rows):
            calls.append(len(rows))
            return metric.evaluate(rows)

        return Function(knapsack.space, evaluate, batch=True, cache=False, name=metric.name)

    bounds = [hidden(c.metric) <= c.bound for c in knapsack.constraints]
    problem = Problem(hidden(knapsack.value), bounds, "maximize")
    start = search(knapsack.space, bounds, None, np.random.default_rng(seed))
    assert start.violation == 0
    assert -improved(problem, start.selection, 3000, seed) >= 0.99 * knapsack.best_known
    assert sum(calls) / (1 + len(bounds)) < 1000


def test_what_only_seems_to_be_a_sum_misleads_for_a_while_only():
    # The load is a sum but for one rare pair, which the sum alone would choose.
    space = ChoiceSpace.from_sizes([8] * 6)
    cost = Additive(space, -np.tile(np.arange(8.0), 6))

    def load(rows):
        return rows.sum(axis=1) + 100.0 * ((rows == 7).sum(axis=1) >= 2)

    problem = Problem(cost, [Function(space, load, batch=True, name="load") <= 40])
    assert improved(problem, np.zeros(6, dtype=np.int64), 3000) == -37  # one 7, and five 6


@settings(max_examples=60)
@given(st.data(), problems(feasible=False, max_decisions=4))
def test_what_is_revealed_is_close_to_what_is_hidden(data, problem):
    start = data.draw(selections(problem.space))
    seen = revealed(problem, start, np.random.default_rng(0))
    assert seen.sense == problem.sense
    for shown, true in zip(
        [seen.objective, *(c.metric for c in seen.constraints)],
        [problem.objective, *(c.metric for c in problem.constraints)],
        strict=True,
    ):
        assert (shown is true) or isinstance(shown, Additive)
        # Whatever it is elsewhere, it is so one switch around.
        assert shown.replacements(start) == pytest.approx(true.replacements(start))


def test_a_function_with_interactions_is_no_sum():
    space = ChoiceSpace.from_sizes([3, 3])
    product = Function(space, lambda s: float(s[0] * s[1]), name="product")
    peak = Peak(space, [1, 2, 3, 3, 2, 1])
    problem = Problem(product, [peak <= 2])
    assert revealed(problem, np.array([0, 0]), np.random.default_rng(0)) is problem
