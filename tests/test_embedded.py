"""Metrics of some decisions in a larger space."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import Additive, ChoiceSpace, Exact, Function, find_feasible, maximum, minimize
from cggd.expressions import Program
from cggd.metrics import Embedded, Evaluation, evaluating
from cggd.testing import check_expression, check_metric, check_state

PART = ChoiceSpace({"c": ["x", "y"], "a": ["x", "y", "z"]})
WHOLE = ChoiceSpace({"a": ["x", "y", "z"], "b": ["x", "y"], "c": ["x", "y"], "d": ["x"]})


def parts(values):
    return [
        Additive(PART, values, 0.25, name="sum", unit="ms"),
        Function(PART, lambda s: values[0] * (s["c"] == "x") * (s["a"] != "z") + values[1], name="function"),
        maximum(Additive(PART, values), Additive(PART, values[::-1], name="other")),
    ]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-9, 9).map(lambda n: n / 4), min_size=5, max_size=5), st.integers(0, 2))
def test_the_laws_of_metrics(values, which):
    metric = parts(values)[which]
    embedded = Embedded(WHOLE, metric)
    check_metric(embedded)
    check_state(embedded)
    check_expression(embedded)
    for row in WHOLE.enumerate():
        labels = WHOLE.labels(row)
        assert embedded(labels) == metric({"c": labels["c"], "a": labels["a"]})


def test_sums_stay_sums():
    cost = Additive(PART, [3.0, 1.0, 4.0, 1.0, 5.0], name="cost", unit="ms")
    embedded = Embedded(WHOLE, cost)
    assert (embedded.name, embedded.unit, embedded.minimum(), embedded.maximum()) == ("cost", "ms", 2.0, 8.0)
    assert minimize(embedded).value == 2.0
    assert find_feasible([embedded <= 1.9]).status.name == "INFEASIBLE"


def test_metrics_with_a_linear_form_keep_it():
    peak = maximum(Additive(PART, [1.0, 2.0, 3.0, 0.0, 5.0]), Additive(PART, [2.0, 0.0, 1.0, 4.0, 1.0]))
    embedded = Embedded(WHOLE, peak)
    assert Program(WHOLE).of(embedded) is not None
    result = minimize(embedded, improvers=[Exact()])
    assert (result.status.name, result.value) == ("OPTIMAL", min(peak.evaluate(PART.enumerate())))


def test_calls_are_counted_and_forbidden_options_are_not_called():
    called = []
    function = Function(PART, lambda s: called.append(s["a"]) or 1.0)
    allowed = np.ones(WHOLE.n_options, dtype=bool)
    allowed[2] = False
    with evaluating(Evaluation(allowed=allowed)) as evaluation:
        Embedded(WHOLE, function).replacements(np.zeros(4, dtype=np.int64))
    assert "z" not in called
    assert evaluation.calls == len(called) > 0


def test_noise_stays_known():
    rng = np.random.default_rng(0)
    noisy = Function(PART, lambda s: float(rng.normal()), repeats=3)
    embedded = Embedded(WHOLE, noisy)
    assert embedded.noisy
    assert embedded.freedom == 2
    assert embedded.errors(np.zeros(4, dtype=np.int64)).shape == (WHOLE.n_options,)


def test_decisions_must_be_those_of_the_space():
    for other in (ChoiceSpace({"e": ["x"]}), ChoiceSpace({"a": ["x", "z", "y"]})):
        with pytest.raises(ValueError, match="space must have every decision of metric 'cost' with the same options"):
            Embedded(WHOLE, Additive(other, np.zeros(other.n_options)))


def test_a_costly_metric_stays_costly(tmp_path):
    calls = []

    def seconds(selection):
        calls.append(tuple(selection.values()))
        return 3.0 + "xy".index(selection["c"]) - "xyz".index(selection["a"])

    metric = Function(PART, seconds, name="time", costly=True)
    embedded = Embedded(WHOLE, metric)
    assert embedded.costly
    assert (2 * embedded + 1).costly
    size = Additive(WHOLE, [1, 2, 3, 1, 2, 1, 2, 0], name="size")
    path = tmp_path / "search.ckpt"
    result = minimize(embedded, [size <= 6], checkpoint=path)
    assert (result.status.name, result.value) == ("OPTIMAL", 1.0)
    assert len(calls) == len(set(calls)) <= 6
    np.testing.assert_array_equal(
        np.sort(embedded.remembered()[:, [2, 0]], axis=0), np.sort(metric.remembered(), axis=0)
    )
    made = len(calls)
    again = Embedded(WHOLE, Function(PART, seconds, name="time", costly=True))
    assert minimize(again, [size <= 6], checkpoint=path, resume=True).value == 1.0
    assert len(calls) == made  # the checkpoint has what was measured


def test_few_evaluations_of_an_embedded_black_box_are_chosen_by_a_model():
    calls = []
    embedded = Embedded(WHOLE, Function(PART, lambda s: calls.append(s) or 1.0 + (s["a"] == "z"), name="time"))
    assert embedded.as_costly().costly
    assert not embedded.costly
    minimize(embedded, max_evaluations=4)
    assert len(calls) <= 4


def test_compound_moves_are_those_of_the_part():
    class Moving(Additive):
        def moves(self, selection):
            return [[(0, 1), (1, 2)]]

    assert list(Embedded(WHOLE, Moving(PART, np.arange(5.0))).moves(np.array([0, 1, 0, 0]))) == [[(2, 1), (0, 2)]]
