"""Functions, predictions and metrics that misbehave: messages on wrong input. Laws: test_metrics.py."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from cggd import (
    Descent,
    Function,
    Guide,
    MetricError,
    Predicted,
    SearchError,
    Status,
    maximize,
    minimize,
)
from cggd.metrics import table_of, values_of
from tests.messages import LAT, LOGITS, SMALL, Own, boom, case, function, told

WRONG = [
    case("Function of no callable", lambda: function(5), TypeError, "function", "got 5", "callable"),
    case("Function repeats zero", lambda: function(len, repeats=0), ValueError, "repeats", "got 0", "at least 1"),
    case("Function repeats bool", lambda: function(len, repeats=True), ValueError, "repeats", "True", "whole number"),
    case("Function repeats float", lambda: function(len, repeats=2.0), ValueError, "repeats", "2.0", "whole number"),
    case("Function of no space", lambda: Function({"a": [1]}, len), TypeError, "space", "{'a': [1]}", "ChoiceSpace"),
    case("Predicted by no model", lambda: Predicted(SMALL, len), TypeError, "model", "len", "predict method"),
    case("Predicted by None", lambda: Predicted(SMALL, None), TypeError, "model", "None", "predict method"),
    case(
        "Predicted features no callable",
        lambda: Predicted(SMALL, SimpleNamespace(predict=len), [1]),
        TypeError,
        "features",
        "[1]",
        "function",
    ),
]


@pytest.mark.parametrize(("make", "error", "fragments"), WRONG)
def test_wrong_input(make, error, fragments):
    told(make, error, fragments)


ONE, WHERE = "metric 'power' must return one number", "at selection {'stem': 'conv3', 'pool': 'max'}"

MISBEHAVING = [
    case("raises", function(boom), OSError, "metric 'power' raised OSError: device lost", WHERE),
    case("returns None", function(lambda s: None), None, ONE, "got None", "'conv3'"),
    case("returns a string", function(lambda s: "3"), None, ONE, "got '3'"),
    case("returns a bool", function(lambda s: True), None, ONE, "got True"),
    case("returns a complex number", function(lambda s: 1j), None, ONE, "got 1j"),
    case("returns a list", function(lambda s: [1.0]), None, ONE, "got [1.0]"),
    case("returns a ragged list", function(lambda s: [1, [2]]), None, ONE, "got [1, [2]]"),
    case("returns an array", function(lambda s: np.ones(2)), None, ONE, "float64 of shape (2,)"),
    case("takes no argument", function(lambda: 1.0), TypeError, "metric 'power' raised TypeError", "positional"),
    case("batch too short", function(lambda rows: [1.0, 2.0], batch=True), None, "numbers, shape (", "got [1.0, 2.0]"),
    case("batch a number", function(lambda rows: 1.0, batch=True), None, "numbers, shape (", "got 1.0"),
    case("own raises", Own(boom), OSError, "evaluate of metric 'own' raised OSError: device lost"),
    case("own returns None", Own(lambda rows: None), None, "evaluate of metric 'own'", "object of shape ()"),
    case("own too short", Own(lambda rows: np.zeros(0)), None, "evaluate of metric 'own'", "float64 of shape (0,)"),
    case("own of two axes", Own(lambda rows: np.zeros((len(rows), 1))), None, "'own'", "float64 of shape (", ", 1)"),
    case("own of bools", Own(lambda rows: rows[:, 0] > 0), None, "evaluate of metric 'own'", "bool of shape ("),
    case(
        "own of strings", Own(lambda rows: rows[:, 0].astype(str)), None, "evaluate of metric 'own'", "numbers, shape ("
    ),
    case("own ragged", Own(lambda rows: [[1], [1, 2]]), None, "evaluate of metric 'own'", "ragged"),
    case("prediction raises", Predicted(SMALL, SimpleNamespace(predict=boom)), OSError, "'prediction' raised OSError"),
    case("prediction None", Predicted(SMALL, SimpleNamespace(predict=lambda X: None)), None, "'prediction'", "object"),
    case(
        "prediction of two columns",
        Predicted(SMALL, SimpleNamespace(predict=lambda X: X)),
        None,
        "'prediction'",
        ", 5)",
    ),
    case("features raise", Predicted(SMALL, SimpleNamespace(predict=len), boom), OSError, "features", "device lost"),
]


@pytest.mark.parametrize(("metric", "cause", "fragments"), MISBEHAVING)
def test_a_metric_that_misbehaves(metric, cause, fragments):
    calls = {
        "call": lambda: metric([0, 0]),
        "values": lambda: values_of(metric, SMALL.enumerate()),
        "table": lambda: table_of(metric, np.array([0, 0])),
        "extreme": metric.minimum,
        "quantile": lambda: metric.quantile(0.5),
        "constraint": lambda: (metric <= 5).report([0, 0]),
        "guide": lambda: Guide([metric <= 5]).modify(LOGITS, LOGITS),
    }
    for name, call in calls.items():
        with pytest.raises(MetricError) as caught:
            call()
        assert cause is None or isinstance(caught.value.__cause__, cause)
        if name == "values":
            missing = [fragment for fragment in fragments if fragment not in str(caught.value)]
            assert not missing, f"not in the message: {missing}\n{caught.value}"


@pytest.mark.parametrize(("metric", "cause", "fragments"), MISBEHAVING)
def test_a_search_over_a_metric_that_misbehaves(metric, cause, fragments):
    for run in (lambda: minimize(metric, [LAT <= 7]), lambda: maximize(LAT, [metric <= 5])):
        with pytest.raises(SearchError) as caught:
            run()
        assert isinstance(caught.value.__cause__, MetricError)
        assert cause is None or isinstance(caught.value.__cause__.__cause__, cause)
        assert metric.name in str(caught.value)
        assert caught.value.result.status is Status.UNKNOWN


def test_a_wrong_replacement_table_is_told():
    class Tabled(Own):
        def replacements(self, selection):
            return self.tabled

    metric = Tabled(lambda rows: np.zeros(len(rows)), tabled=np.zeros(4))
    with pytest.raises(
        MetricError, match=r"replacements of metric 'own' must return 5 numbers, shape \(5,\), got .*\(4,\)"
    ):
        table_of(metric, np.array([0, 0]))


def test_small_integers_are_taken_as_floats():
    """Unsigned numbers would wrap when a constraint ``>=`` negates them."""
    metric = Own(lambda rows: rows.sum(axis=1).astype(np.uint8))
    for weights in ("unit", "difference", "confidence"):
        direction = Guide([metric >= 3], weights=weights).step(LOGITS, [1, 0, 1, 0, 0]).direction
        assert direction[1] > 0 > direction[0]


def test_a_metric_that_changes_its_answer_is_named():
    count = iter(range(10_000))
    with pytest.warns(UserWarning, match=r"metric 'power' changed its answer for one selection from .* to .*repeats"):
        result = minimize(
            function(lambda s: float(next(count)), cache=False), [LAT <= 7], improvers=[Descent(steps=5, starts=1)]
        )
    assert result.feasible


def test_a_metric_known_as_noisy_may_change_its_answer():
    count = iter(range(10_000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        minimize(function(lambda s: float(next(count)), repeats=2), [LAT <= 7], improvers=[Descent(steps=5, starts=1)])
