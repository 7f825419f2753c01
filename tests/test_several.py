"""Several answers and several objectives, compared with brute force."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import Additive, ChoiceSpace, Finding, Problem, Result, Status, Stop, maximize, minimize, rules, soft, solve
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
