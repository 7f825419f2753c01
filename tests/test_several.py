"""Several answers and several objectives, compared with brute force."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import (
    Additive,
    ChoiceSpace,
    Finding,
    Function,
    Invalid,
    Problem,
    Result,
    SearchError,
    Status,
    Stop,
    explain,
    maximize,
    minimize,
    rules,
    soft,
    solve,
)
from cggd.testing.strategies import problems

SPACE = ChoiceSpace({"a": ["x", "y"], "b": ["x", "y", "z"], "c": ["x", "y"]})
COST = Additive(SPACE, [1, 2, 3, 5, 8, 0, 4], name="cost", unit="EUR")
TIME = Additive(SPACE, [5, 1, 2, 2, 0, 1, 3], name="time")


def exact(**sizes):
    """Problems whose metrics are formulas or tables, which a search settles by trying everything."""
    return problems(max_decisions=3, max_options=3, max_constraints=2, **sizes).filter(
        lambda problem: all(metric.closed_form for metric in problem.metrics)
    )


def costs(problem):
    """The cost of every selection that satisfies the constraints, by brute force."""
    rows = problem.space.enumerate()
    kept = [row for row in rows if problem.satisfied(row)]
    return {tuple(row.tolist()): problem.cost(row) for row in kept}


def answers_of(result):
    return [] if result.indices is None else [result, *result.alternatives]


def close(a, b):
    return np.allclose(a, b, rtol=1e-12, atol=1e-12)


@given(exact(feasible=False), st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_the_best_answers_are_those_of_brute_force(problem, differ):
    differ = min(differ, problem.space.n_decisions)
    result = solve(problem, answers=5, differ=differ)
    left, taken = costs(problem), []
    for answer in answers_of(result):
        chosen = tuple(answer.indices.tolist())
        assert answer.status is Status.OPTIMAL
        assert close(problem.sign * answer.value, min(left.values()))
        assert chosen in left
        taken.append(chosen)
        left = {s: c for s, c in left.items() if sum(a != b for a, b in zip(s, chosen, strict=True)) >= differ}
    assert len(taken) == 5 or not left
    assert result.run.exhausted == (0 < len(taken) < 5)


@given(st.integers(0, 2**16), st.booleans())
@settings(max_examples=60, deadline=None)
def test_answers_of_interchangeable_decisions_are_those_of_brute_force(seed, distinct):
    """Two answers are the same if their decisions that are alike take the same options in any order."""
    rng = np.random.default_rng(seed)
    space = ChoiceSpace({d: list(o) for d, o in {"p": "abcd", "q": "abc", "r": "abcd", "other": "xy"}.items()})
    problem = Problem(
        Additive(space, rng.integers(0, 6, space.n_options), name="cost"),
        [rules.different(["p", "q", "r"])] if distinct else [],
    )
    result = solve(problem, answers=6, alike=["p", "q", "r"])
    best = {}
    for chosen, cost in costs(problem).items():
        labels = space.labels(np.array(chosen))
        key = (tuple(sorted(labels[d] for d in "pqr")), labels["other"])
        best[key] = min(best.get(key, np.inf), cost)
    keys = {(tuple(sorted(a.selection[d] for d in "pqr")), a.selection["other"]) for a in answers_of(result)}
    assert len(keys) == len(answers_of(result)) == min(6, len(best))
    assert [a.value for a in answers_of(result)] == sorted(best.values())[:6]
    assert all(a.status is Status.OPTIMAL for a in answers_of(result))


@given(exact(), st.sampled_from([0.0, 0.1]), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_objectives_in_order_are_those_of_brute_force(problem, slack, seed):
    second = Additive(problem.space, np.random.default_rng(seed).integers(0, 5, problem.space.n_options), name="second")
    run = minimize if problem.sense == "minimize" else maximize
    result = run([problem.objective, second], problem.constraints, slack=slack)
    first = costs(problem)
    best = min(first.values())
    kept = [s for s, c in first.items() if c <= best + slack * abs(best) + 1e-12]
    value = (min if problem.sense == "minimize" else max)(second(np.array(s)) for s in kept)
    assert (result.status, result.value) == (Status.OPTIMAL, value)
    assert result.constraints[-1].name == problem.objective.name
    assert result.constraints[-1].satisfied


def test_ties_and_permutations_are_told():
    space = ChoiceSpace({"left": ["Ann", "Bob", "Cem"], "right": ["Ann", "Bob", "Cem"]})
    points = Additive(space, [0.1, 0.2, 0.3, 0.1, 0.2, 0.3], name="points")
    result = maximize(points, [rules.different("*")], answers=4)
    lines = [line for line in result.summary().splitlines() if line.startswith("  ") and "points" in line]
    assert lines[0] == "  1: points = 0.5 (proved)"
    assert (
        lines[1] == "  2: points = 0.5 (proved; a tie with answer 1; the same options as answer 1, in other decisions)"
    )
    assert "differs from answer 1 in" in lines[2]
    assert Counter(a.status for a in answers_of(result)) == {Status.OPTIMAL: 4}
    once = maximize(points, [rules.different("*")], answers=4, alike="*")
    assert [round(a.value, 9) for a in answers_of(once)] == [0.5, 0.4, 0.3]
    assert once.run.exhausted
    assert "answers; there are no more" in once.summary()


def test_answers_come_back_from_json():
    result = minimize(COST, [TIME <= 6], answers=3)
    again = Result.from_json(result.to_json())
    assert again.summary() == result.summary()
    assert [a.selection for a in again.alternatives] == [a.selection for a in result.alternatives]
    assert [len(a.constraints) for a in result.alternatives] == [1, 1]
    assert result.problem.objective is COST
    assert again.problem is None


def test_what_was_not_proved_is_not_called_so():
    class Guess:
        """An improver that finds one selection and proves nothing."""

        def suits(self, problem):
            return True

        def improve(self, problem, incumbent, budget, rng):
            for row in problem.space.enumerate()[::-1]:
                if problem.satisfied(row):
                    yield Finding(row)
                    return

    result = minimize(COST, [COST <= 12, COST >= 8], answers=3, improvers=[Guess()])
    values = [a.value for a in answers_of(result)]
    assert values == sorted(values)
    assert {a.status for a in answers_of(result)} == {Status.FEASIBLE}
    assert minimize([COST, TIME], [COST >= 8], improvers=[Guess()]).status is Status.FEASIBLE


def test_a_callback_ends_the_series_of_searches():
    result = minimize(COST, answers=5, callback=lambda progress: True)
    assert result.stopped is Stop.CALLBACK or not result.alternatives


def test_a_time_limit_is_shared_by_the_answers():
    result = minimize(COST, [TIME <= 6], answers=3, time_limit=5)
    assert len(result.alternatives) == 2
    assert result.seconds < 5


def test_a_slack_for_each_objective():
    third = Additive(SPACE, [1, 0, 0, 0, 0, 9, 0], name="third")
    result = minimize([COST, TIME, third], slack=[0.5, 0])
    assert [row.name for row in result.constraints] == ["cost", "time"]
    assert result.constraints[0].bound == 1.5 * minimize(COST).value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answers": 0}, "answers must be at least 1, got 0"),
        ({"answers": 2, "differ": 4}, "differ must be at most the number of decisions, 3, got 4"),
        ({"answers": 2, "alike": "a"}, "alike must be a list of decisions"),
        ({"answers": 2, "alike": ["d"]}, "unknown decision 'd'"),
    ],
)
def test_wrong_options_are_told(options, message):
    with pytest.raises((ValueError, TypeError)) as error:
        minimize(COST, **options)
    assert message in str(error.value)
    for slack in (-1, [0.1, 0.2]):
        with pytest.raises(ValueError, match="slack"):
            minimize([COST, TIME], slack=slack)
    with pytest.raises(ValueError, match="empty list"):
        minimize([])


@given(exact(), st.sampled_from([0.0, 0.5, 2.0]))
@settings(max_examples=60, deadline=None)
def test_soft_bounds_cost_their_price_for_each_unit(problem, price):
    sign, bounds = problem.sign, problem.constraints
    penalty = sum(soft(c, price) for c in bounds)
    result = solve(Problem(problem.objective + sign * penalty, (), problem.sense))
    everything = problem.space.enumerate()
    missed = np.array([[max(0.0, c.sign * (c.metric(row) - c.bound)) for c in bounds] for row in everything])
    costs = [problem.cost(row) + price * m for row, m in zip(everything, missed.sum(axis=1), strict=True)]
    assert np.isclose(sign * result.value, min(costs), atol=1e-9)


PAIR = ChoiceSpace({"a": [1, 2, 3], "b": [1, 2, 3]})
SUM = Additive(PAIR, [1.0, 2, 3, 3, 2, 1], name="sum")


def product(selection):
    """A number that is not valid with a = 1."""
    if selection["a"] == 1:
        raise Invalid("too small")
    return float(selection["a"] * selection["b"])


@pytest.mark.parametrize("costly", [False, True])
@pytest.mark.parametrize(("slack", "value", "bound"), [(0.0, 6.0, 3.0), (0.5, 4.0, 4.5)])
def test_later_objectives_must_be_valid_in_the_first_one(costly, slack, value, bound):
    result = minimize([SUM, Function(PAIR, product, name="product", costly=costly)], slack=slack)
    assert (result.status, result.value) == (Status.OPTIMAL, value)
    assert [(row.name, row.bound) for row in result.constraints] == [("sum", bound)]
    assert result.problem.constraints[0].bound == bound
    never = Function(PAIR, lambda s: float("nan"), costly=costly)
    assert minimize([SUM, never], slack=slack).status is Status.INFEASIBLE  # as of minimize(never)


@pytest.mark.parametrize("costly", [False, True])
def test_an_objective_reached_is_kept_if_a_later_one_fails(costly):
    def interrupted(selection):
        raise KeyboardInterrupt

    with pytest.raises(SearchError, match=r"division by zero.*sum = 2\.0") as error:
        minimize([SUM, Function(PAIR, lambda s: 1 / 0, costly=costly)])
    result = minimize([SUM, Function(PAIR, interrupted, costly=costly)])
    for one, stop in ((error.value.result, Stop.FAILED), (result, Stop.INTERRUPTED)):
        assert (one.status, one.value, one.objective, one.stopped) == (Status.FEASIBLE, 2.0, "sum", stop)
    rng = np.random.default_rng(0)
    noisy = Function(PAIR, lambda s: s["a"] + rng.random(), repeats=3)
    assert minimize([noisy, SUM], max_evaluations=60).status is Status.FEASIBLE


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_answers_found_are_kept_if_a_later_search_fails(error):
    armed = []

    def failing(selection):
        if armed:
            raise error("late")
        return 10.0 * selection["a"] + selection["b"]

    class Arms:
        """An improver that finds the selections in order; evaluations fail in the third search."""

        def suits(self, problem):
            return True

        def improve(self, problem, incumbent, budget, rng):
            if len(problem.constraints) == 2:
                armed.append(True)
            yield Finding(PAIR.enumerate()[len(problem.constraints)])

    run = lambda: minimize(Function(PAIR, failing), answers=4, improvers=[Arms()], max_evaluations=100)  # noqa: E731
    if error is RuntimeError:
        with pytest.raises(SearchError, match="late") as told:
            run()
        result, stop = told.value.result, Stop.FAILED
    else:
        result, stop = run(), Stop.INTERRUPTED
    assert [answer.value for answer in answers_of(result)] == [11.0, 12.0]
    assert result.stopped is stop


def test_an_objective_that_was_not_reached_is_not_called_optimal():
    nothing = Additive(PAIR, np.zeros(6), name="nothing")
    result = minimize([nothing, SUM], callback=lambda progress: True)
    assert (result.status, result.stopped, result.objective) == (Status.FEASIBLE, Stop.CALLBACK, "nothing")


def test_explanations_of_answers_are_of_their_own_search():
    result = minimize(SUM, [SUM >= 2], answers=2, forbid={"a": [1]})
    assert not any(
        choice.possible for choice in explain(result).choices if (choice.decision, choice.option) == ("a", 1)
    )
    found = explain(minimize(SUM, [rules.different("*")], answers=2).alternatives[0])
    assert [bound.binds for bound in found.bounds] == [False]
    assert min(choice.loss for choice in found.choices if choice.loss is not None) == 0


@pytest.mark.parametrize("costly", [False, True])
@pytest.mark.parametrize("most", [1, 2, 7, 20])
def test_searches_share_the_limit_of_evaluations(costly, most):
    space = ChoiceSpace.from_sizes([4, 4, 4])
    calls = []

    def function(weights):
        def value(selection):
            calls.append(weights[0])
            return float(np.dot(list(selection.values()), weights))

        return Function(space, value, name=f"by {weights}", costly=costly)

    several = minimize(function([1, 2, 3]), answers=3, max_evaluations=most)
    assert len(calls) == several.evaluations <= most
    calls.clear()
    ordered = minimize([function([1, 2, 3]), function([3, 1, 2])], max_evaluations=most)
    assert max(calls.count(1), calls.count(3)) <= ordered.evaluations <= most
    if most > 2:
        assert several.feasible
        assert ordered.feasible


def test_that_there_are_no_more_answers_is_told_without_proofs_of_those_found():
    space = ChoiceSpace({"a": [1, 2], "b": [1, 2]})
    cost = Additive(space, [1.0, 2, 1, 2], name="cost")
    result = minimize(cost, answers=9, gap=0.9)
    assert len(answers_of(result)) == 4
    assert result.run.exhausted


def test_a_slack_of_one_objective_is_checked():
    for objective in (COST, [COST]):
        for slack in (-1, [0.1], "much"):
            with pytest.raises((ValueError, TypeError), match="slack"):
                minimize(objective, slack=slack)
