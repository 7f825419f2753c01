"""Problems: one definition of better, permitted, satisfied and ruled out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import (
    Additive,
    ChoiceSpace,
    Constraint,
    Function,
    Problem,
    maximum,
    minimize,
    rules,
    smallest_bound,
    sweep,
)
from cggd.problem import nothing
from cggd.testing import problems

SPACE = ChoiceSpace({"stem": ["a", "b"], "head": ["x", "y", "z"]})
COST = Additive(SPACE, [1, 5, 2, 4, 9], name="cost")
SIZE = Additive(SPACE, [3, 1, 3, 2, 1], name="size")


@settings(max_examples=30)
@given(problems(), st.integers(0, 99))
def test_a_problem_is_its_metrics(problem, seed):
    selections = problem.space.sample(5, np.random.default_rng(seed))
    assert problem.space is problem.objective.space
    assert problem.metrics == [problem.objective, *(c.metric for c in problem.constraints)]
    assert problem.permits(selections).all()
    for selection in selections:
        value = problem.objective(selection)
        assert problem.cost(selection) == (value if problem.sense == "minimize" else -value)
        rows = [c.report(selection) for c in problem.constraints]
        assert problem.satisfied(selection) == all(row.satisfied for row in rows)
        missed = problem.violations(problem.values(selection))
        assert [violation > 0 for violation in missed] == [not row.satisfied for row in rows]
    if problem.bound is not None:
        costs = [problem.cost(selection) for selection in problem.space.enumerate()]
        assert problem.sign * problem.bound <= min(costs) + 1e-9


def test_forbidden_options_are_not_permitted():
    problem = Problem(COST, allowed=np.array([True, False, True, True, False]))
    kept = SPACE.enumerate()[problem.permits(SPACE.enumerate())]
    assert kept.tolist() == [[0, 0], [0, 1]]
    assert Problem(COST).permits(SPACE.enumerate()).all()


def test_rules_are_put_on_the_space():
    problem = Problem(COST, [rules.implies(("stem", "a"), ("head", "z")), SIZE <= 4])
    assert [problem.satisfied(np.array(s)) for s in ([0, 0], [0, 2], [1, 0])] == [False, True, True]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3.0, []), TypeError, "objective must be a Metric"),
        ((COST, [], "least"), ValueError, 'sense must be "minimize" or "maximize", got \'least\''),
        ((COST, [Additive(ChoiceSpace.from_sizes([2]), [1, 2]) <= 1]), ValueError, "choice space"),
        ((COST, [], "minimize", [False, False, True, True, True]), ValueError, "stem"),
    ],
)
def test_wrong_problems(arguments, error, message):
    with pytest.raises(error, match=message):
        Problem(*arguments)


def plain(choice):
    return 1.0


@pytest.mark.parametrize(
    "use",
    [
        lambda: minimize(plain),
        lambda: minimize([COST, plain]),
        lambda: minimize(COST, plain),
        lambda: minimize(COST, [plain]),
        lambda: Problem(plain),
        lambda: Constraint(plain, 1.0, "<="),
        lambda: COST + plain,
        lambda: COST - plain,
        lambda: maximum(COST, plain),
        lambda: smallest_bound(plain),
        lambda: sweep(COST, [], plain, 3),
    ],
)
def test_a_function_in_the_place_of_a_metric_is_told_to_be_wrapped(use):
    with pytest.raises(TypeError, match=r"function plain.*Function\(space, f"):
        use()


def test_what_is_ruled_out_without_a_call():
    calls = []

    def seconds(selection):
        calls.append(selection)
        return 3.0 if selection["stem"] == "a" else 7.0

    slow = Function(SPACE, seconds, name="seconds", costly=True)
    rows = SPACE.enumerate()
    problem = Problem(slow, [SIZE <= 4])
    too_large = SIZE.evaluate(rows) > 4
    assert problem.costly
    assert problem.ruled_out(rows).tolist() == too_large.tolist()
    assert not calls
    assert [slow(rows[0]), slow(rows[-1])] == [3.0, 7.0]
    assert problem.ruled_out(rows, 5.0).tolist() == [*too_large[:-1], True]
    assert problem.ruled_out(rows, 7.0).tolist() == too_large.tolist()
    assert Problem(slow, [SIZE <= 4], "maximize").ruled_out(rows, -5.0)[0]
    assert len(calls) == 2


def test_a_function_has_no_bound():
    assert Problem(Function(SPACE, lambda rows: rows.sum(1), batch=True)).bound is None
    assert Problem(COST, sense="maximize").bound == 14
    assert Problem(nothing(SPACE)).bound == 0
