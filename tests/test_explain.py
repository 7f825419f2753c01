"""Explanations, compared with brute force."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import (
    Additive,
    ChoiceSpace,
    Explanation,
    Function,
    Presolve,
    Problem,
    Result,
    Status,
    explain,
    maximize,
    minimize,
    rules,
    solve,
)
from cggd.testing.strategies import problems

SPACE = ChoiceSpace({"cpu": ["slow", "fast"], "disk": ["small", "large", "huge"]})
SPEED = Additive(SPACE, [1, 5, 2, 4, 9], name="speed")
PRICE = Additive(SPACE, [20, 60, 30, 50, 500], name="price", unit="EUR")


def best(problem):
    """The cost of the best selection with each option, infinite where there is none, by brute force."""
    least = np.full(problem.space.n_options, np.inf)
    for row in problem.space.enumerate():
        if problem.satisfied(row) and (
            problem.allowed is None or problem.allowed[problem.space.layout.flat(row)].all()
        ):
            at = problem.space.layout.flat(row)
            least[at] = np.minimum(least[at], problem.cost(row))
    return least


def exact(feasible=True):
    return problems(max_decisions=3, max_options=3, max_constraints=2, feasible=feasible).filter(
        lambda problem: all(metric.closed_form for metric in problem.metrics)
    )


@given(exact(), st.sampled_from([None, 1, "10%"]))
@settings(max_examples=80, deadline=None)
def test_explanations_are_those_of_brute_force(problem, by):
    result = solve(problem)
    found = explain(result, by=by, time_limit=None)
    assert found.complete
    known, value = best(problem), problem.sign * result.value
    for at, choice in enumerate(found.choices):
        assert choice.proved
        assert choice.possible == bool(np.isfinite(known[at]))
        if choice.possible:
            assert np.isclose(choice.loss, known[at] - value, atol=1e-9)
            assert np.isclose(problem.sign * choice.best, known[at])
        switched = {**result.selection, choice.decision: choice.option}
        indices = problem.space.indices(switched)
        assert np.isclose(choice.change, problem.objective(switched) - result.value, atol=1e-9)
        broken = [str(c) for c in problem.constraints if not c.holds(indices[None])[0]]
        assert list(choice.breaks) == broken
    for place, (c, bound) in enumerate(zip(problem.constraints, found.bounds, strict=True)):
        for worth in (bound.tighter, bound.looser, bound.without):
            if worth is None:
                continue
            others = [x for i, x in enumerate(problem.constraints) if i != place]
            moved = [] if worth.bound is None else [c.metric <= worth.bound if c.sign > 0 else c.metric >= worth.bound]
            cost = best(Problem(problem.objective, [*others, *moved], problem.sense)).min()
            assert worth.proved
            assert (worth.value is None) == np.isinf(cost)
            if worth.value is not None:
                assert np.isclose(worth.gain, value - cost, atol=1e-9)
        assert bound.binds == (bound.without.gain > 0)


def test_options_that_are_forbidden_cannot_be_chosen():
    result = maximize(SPEED, [PRICE <= 90], forbid={"disk": ["large"]})
    found = explain(result)
    large = next(choice for choice in found.choices if choice.option == "large")
    assert (large.possible, large.best, large.proved) == (False, None, True)
    assert "  large: cannot be chosen" in str(found)
    assert [c.option for c in found.of("disk")] == ["small", "large", "huge"]


def test_rules_are_explained_without_steps():
    result = maximize(SPEED, [PRICE <= 90, rules.implies(("cpu", "fast"), ("disk", ["large", "huge"]))])
    found = explain(result, decisions=["cpu"])
    assert {choice.decision for choice in found.choices} == {"cpu"}
    price, rule = found.bounds
    assert (price.tighter.bound, price.looser.bound) == (89, 91)
    assert rule.constraint == "cpu=fast -> disk=large|huge"
    assert (rule.tighter, rule.looser, rule.without.value, rule.binds) == (None, None, 7, True)
    assert "cpu=fast -> disk=large|huge: binds; without it: 7 (2 better)" in str(found)
    json.dumps(found.to_dict())


def test_an_infeasible_problem_has_its_conflict():
    result = maximize(SPEED, [PRICE <= 60, rules.at_least(1, ("cpu", "fast")), SPEED >= 0])
    assert result.status is Status.INFEASIBLE
    found = explain(result)
    assert [str(c) for c in found.diagnosis.conflict] == ["price <= 60 EUR", "at least 1 of cpu=fast"]
    assert "these bounds are infeasible together" in str(found)
    assert found.to_dict()["diagnosis"]["minimal"]


def test_what_there_is_no_time_for_is_not_known():
    rng = np.random.default_rng(0)
    space = ChoiceSpace.from_sizes([5] * 200)
    value, weight = (Additive(space, rng.integers(1, 99, 1000), name=name) for name in ("value", "weight"))
    result = maximize(value, [weight <= 6000], gap=0.01)
    found = explain(result, time_limit=0.2)
    assert not found.complete
    assert found.choices[-1].possible is None
    assert "the time was over" in str(found)


def test_wrong_arguments_are_told():
    result = minimize(SPEED, [PRICE <= 90])
    for by in (0, -1, "x%", "5", "0%"):
        with pytest.raises(ValueError, match='by must be a positive number or a text such as "5%"'):
            explain(result, by=by)
    with pytest.raises(ValueError, match="unknown decision 'gpu'"):
        explain(result, decisions=["gpu"])
    read = Result.from_json(result.to_json())
    with pytest.raises(ValueError, match=r"read from a file; give problem="):
        explain(read)
    assert str(explain(read, problem=result.problem)) == str(explain(result))


@pytest.mark.parametrize("most", [None, 5])
def test_explanations_of_costly_metrics_keep_to_a_limit_of_calls(most):
    space, calls = ChoiceSpace.from_sizes([5, 5, 5]), []

    def run(selection):
        calls.append(selection)
        return float(sum(selection.values()))

    result = minimize(Function(space, run, costly=True), max_evaluations=12)
    calls.clear()
    found = explain(result, max_evaluations=most, time_limit=None)
    assert 0 < len(calls) <= (most or 12)
    assert found.complete == (most is None)
    assert len(found.choices) == space.n_options
    assert ("or the evaluations" in str(found)) == (not found.complete)
    json.dumps(found.to_dict(), allow_nan=False)


def test_without_a_selection_the_text_says_so():
    space = ChoiceSpace.from_sizes([2, 2])
    value = Additive(space, [1, 2, 3, 4])
    result = maximize(value, [value <= 3], improvers=[Presolve()])
    text = str(Explanation(result, (), (), None, complete=True))
    assert result.selection is None
    assert text == "no selection is known; cggd.diagnose shows whether the constraints can be satisfied"
