"""Counting: with a limit, a selection counts as often as the black box called most often on it."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import ChoiceSpace, Descent, Function, Invalid, Status, Stop, maximize, maximum, minimize
from cggd.metrics import Evaluation, evaluating
from cggd.metrics.evaluation import OutOfCalls

SPACE = ChoiceSpace.from_sizes([4] * 5)
WEIGHTS = np.random.default_rng(0).random((4, 5, 4))


def sums(i, calls, *, fail=False):
    """A function that adds numbers, and the selections that it was called with."""

    def function(selection):
        key = tuple(selection.values())
        calls.append(key)
        if fail and key[0] == 3:
            raise Invalid("no")
        return float(sum(WEIGHTS[i, d, o] for d, o in enumerate(key)))

    return Function(SPACE, function, name=f"sum {i}")


def counted(calls):
    """Over all selections, the number of calls of the function called most often."""
    each = [Counter(made) for made in calls]
    return sum(max(one[key] for one in each) for key in set().union(*each))


@settings(max_examples=60)
@given(st.integers(1, 12), st.lists(st.tuples(st.sampled_from("fgh"), st.integers(0, 5), st.booleans()), max_size=40))
def test_the_count_is_the_sum_over_selections_of_the_calls_of_the_function_called_most_often(most, asked):
    calls = {name: [] for name in "fgh"}
    functions = {name: sums(i, calls[name]) for i, name in enumerate("fgh")}
    selections = SPACE.sample(6, np.random.default_rng(1))

    with evaluating(Evaluation(most=most)) as evaluation:
        for name, at, fresh in asked:
            evaluation.fresh = fresh
            before = counted(calls.values())
            try:
                functions[name].evaluate(selections[at : at + 1])
            except OutOfCalls:
                assert counted(calls.values()) == before == most
            assert evaluation.calls == counted(calls.values()) <= most


@pytest.mark.parametrize("improvers", [None, [Descent(steps=20)]])
@pytest.mark.parametrize("most", [1, 2, 7, 30])
def test_a_search_keeps_the_limit_of_evaluations(improvers, most):
    calls = [[], [], []]
    a, b, c = (sums(i, made, fail=i == 0) for i, made in enumerate(calls))
    result = minimize(a, [b <= 2.5, maximum(c, b) <= 3.0], max_evaluations=most, improvers=improvers)
    assert result.evaluations == counted(calls) <= most


@pytest.mark.parametrize("seed", range(3))
def test_few_evaluations_of_plain_functions_find_the_best_of_a_sum(seed):
    calls = [[], []]
    result = maximize(sums(0, calls[0]), [sums(1, calls[1]) <= 2.5], max_evaluations=60, seed=seed)
    selections = SPACE.enumerate()
    value, bounded = (WEIGHTS[i][np.arange(5), selections].sum(axis=1) for i in (0, 1))
    assert result.status is Status.FEASIBLE
    assert result.stopped is Stop.EVALUATIONS
    assert result.value == pytest.approx(value[bounded <= 2.5].max())
    assert len(set(calls[0]) | set(calls[1])) <= 60


def test_a_search_with_few_evaluations_fills_the_memory_of_the_functions_given():
    calls = []
    error = sums(0, calls)
    first = minimize(error, max_evaluations=20)
    made = len(calls)
    again = minimize(error, max_evaluations=20, seed=1)
    assert again.value <= first.value
    assert len(calls) - made <= 20
    assert Counter(calls).most_common(1)[0][1] <= 3  # the search, and the answer of each search again
