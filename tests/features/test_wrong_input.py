import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.linear_model import Lasso, LogisticRegression, Ridge
from sklearn.svm import SVC

from cggd_features import BudgetedSelector

RNG = np.random.default_rng(0)
X = pd.DataFrame(RNG.standard_normal((40, 4)), columns=["a", "b", "c", "d"])
Y = X["a"] + RNG.standard_normal(40)

WRONG = [
    ({"costs": [1, 2, 3]}, ValueError, r"costs must be a number per feature, shape \(4,\), got int64 of shape \(3,\)"),
    ({"costs": [1, 2, 3, -1]}, ValueError, "costs of feature 'd' must be at least 0, got -1"),
    ({"costs": [1, 2, np.nan, 1]}, ValueError, "costs of feature 'c' must be finite, got nan"),
    ({"costs": [1, 2, np.inf, 1]}, ValueError, "costs of feature 'c' must be finite, got inf"),
    ({"costs": ["1", "2", "3", "4"]}, ValueError, "costs must be a number per feature"),
    ({"costs": -1}, ValueError, "costs must be at least 0, got -1"),
    ({"costs": None}, TypeError, "costs must be a number, a number per feature, a mapping or a callable, got None"),
    ({"costs": {"a": 1, "b": 1, "c": 1}}, ValueError, "costs lacks 1 of 4 features: 'd'"),
    ({"costs": {"a": 1, "b": 1, "c": 1, "e": 1}}, ValueError, "costs: unknown feature 'e'; features are 'a', 'b', 'c'"),
    ({"costs": {"a": 1, "b": 1, "c": 1, "d": -2}}, ValueError, r"costs\['d'\] must be at least 0, got -2"),
    ({"costs": {"g": 1, "a": 1, "c": 1, "d": 1}, "groups": {"g": ["a", "b"]}}, ValueError, "prices 'a' and its whole"),
    ({"costs": lambda mask: np.nan}, ValueError, "must be finite, got nan"),
    ({"budget": -1}, ValueError, "budget must be at least 0, got -1"),
    ({"budget": np.nan}, ValueError, "budget must be a number, got nan"),
    ({"budget": "much"}, TypeError, "budget must be a number, got 'much'"),
    ({"budget": {}}, ValueError, "budget is empty"),
    ({"budget": {"usd": 1}}, ValueError, "costs must map the names of budget, 'usd', to costs, got 1"),
    ({"budget": {"usd": 1, "ms": 2}, "costs": {"usd": 1}}, ValueError, "costs lacks 'ms' of budget"),
    ({"budget": {"usd": 1}, "costs": {"usd": 1, "ms": 3}}, ValueError, "costs must map the names of budget"),
    ({"must_include": ["a", "b"], "budget": 1}, ValueError, "budget = 1 cannot be met.*least possible cost is 2"),
    ({"must_include": ["z"]}, ValueError, "must_include: unknown feature 'z'"),
    ({"must_include": [4]}, ValueError, "must_include: unknown feature 4"),
    ({"must_include": "a"}, TypeError, "must_include must be a list of features, got 'a'"),
    ({"must_include": ["a"], "must_exclude": ["a"]}, ValueError, "must_include and must_exclude both hold 'a'"),
    ({"at_least": {("a", "b"): 2}, "budget": 1}, ValueError, "budget = 1 cannot be met.*least possible cost is 2"),
    ({"at_least": {("a", "b"): 3}}, ValueError, "asks for 3 of 2 variables"),
    ({"at_least": {("a", "b"): 1}, "must_exclude": ["a", "b"]}, ValueError, "cannot be met together"),
    ({"at_most": {("a", "b"): -1}}, ValueError, "must be at least 0, got -1"),
    ({"at_most": {("a", "b"): 1.5}}, TypeError, "must be a whole number, got 1.5"),
    ({"at_most": [("a", 1)]}, TypeError, "at_most must map tuples of features to numbers"),
    ({"at_most": {"a": 1}}, TypeError, "sets are tuples of features or labels of discounted, got 'a'"),
    ({"groups": ["x", "x"]}, ValueError, "groups must have a label for each of 4 features, got 2"),
    ({"groups": {"x": ["a", "b"], "y": ["b"]}}, ValueError, "groups must be disjoint, but 'b' is in 'x' and 'y'"),
    ({"groups": {"x": []}}, ValueError, r"groups\['x'\] has no feature"),
    ({"groups": {"x": ["q"]}}, ValueError, r"groups\['x'\]: unknown feature 'q'"),
    ({"discounted": {"A": {"a": 2}}}, ValueError, r"discounted\['A'\]\['a'\] must be at most the full cost 1, got 2"),
    ({"discounted": {"A": {"a": 0}, "B": {"a": 0}}}, ValueError, "both hold 'a'; groups are disjoint"),
    ({"discounted": {"A": ["a"]}}, TypeError, r"discounted\['A'\] must map features to their discounted prices"),
    ({"discounted": {"A": {"a": 0}}, "costs": lambda mask: 1.0}, ValueError, "costs is a function of the subset"),
    ({"engine": "fast"}, ValueError, "engine must be one of 'auto', 'gram', 'wrapper', 'gates', got 'fast'"),
    ({"engine": "gram", "estimator": SVC()}, ValueError, "engine='gram' needs estimator to be LinearRegression"),
    ({"engine": "gram", "estimator": Lasso()}, ValueError, "use engine='wrapper'"),
    ({"criterion": "cp"}, ValueError, "criterion must be None or one of 'aic', 'bic', 'ebic', got 'cp'"),
    ({"path": "long"}, ValueError, "path must be 'auto' or a list of shares of the budget, got 'long'"),
    ({"path": 0.5}, TypeError, "path must be 'auto' or a list of shares of the budget, got 0.5"),
    ({"costs": pd.DataFrame({"usd": [1, 1, 1, 1]})}, TypeError, r"costs must be one column.*such as costs\['usd'\]"),
    ({"costs": lambda mask: mask}, TypeError, r"costs\(mask\), which it returns, must be a number"),
    ({"costs": lambda mask: -1.0}, ValueError, r"costs\(mask\), which it returns, must be at least 0, got -1"),
    ({"estimator": LogisticRegression()}, ValueError, "Unknown label type: continuous"),
    ({"costs": 1e308, "budget": 1e308}, ValueError, "costs must be at most 1e.290, got 1e.308; give them in a larger"),
    ({"must_include": ["a", "b"], "costs": 2**34 + 1, "budget": 2**35}, ValueError, "34359738368 .* is 34359738370"),
    ({"estimator": "ols"}, TypeError, "estimator must be an estimator with a fit method, got 'ols'"),
    ({"estimator": Ridge(-1.0)}, ValueError, r"'alpha' parameter of Ridge must be .* Got -1\.0 instead"),
    (
        {"estimator": LogisticRegression(C=0)},
        ValueError,
        "'C' parameter of LogisticRegression must be .* Got 0 instead",
    ),
    (
        {"estimator": Lasso(), "criterion": "bic"},
        ValueError,
        "criterion is for engine='gram', got 'bic' with engine 'wr",
    ),
    (
        {"scoring": "r2", "criterion": "bic"},
        ValueError,
        "criterion is for engine='gram', got 'bic' with engine 'wrapper'",
    ),
    (
        {"engine": "gates", "criterion": "bic"},
        ValueError,
        "criterion is for engine='gram', got 'bic' with engine 'gates'",
    ),
    (
        {"engine": "gram", "scoring": "r2"},
        ValueError,
        "scoring and cv are for engine='wrapper', got scoring='r2' and cv",
    ),
    ({"engine": "gates", "cv": 3}, ValueError, "scoring and cv are for engine='wrapper', got scoring=None and cv=3"),
    ({"path": [0.5, -1]}, ValueError, "path must hold shares of the budget greater than 0"),
    ({"time_limit": 0}, ValueError, "time_limit must be more than 0 seconds, got 0"),
    ({"max_fits": 0}, ValueError, "max_fits must be at least 1, got 0"),
    ({"max_fits": 3, "cv": 5}, ValueError, "max_fits must pay for two subsets on 5 splits, got 3"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        BudgetedSelector(**{"costs": 1, "budget": 2} | arguments).fit(X, Y)


def test_names_without_a_frame():
    with pytest.raises(ValueError, match="X has no feature names; give a DataFrame to use names"):
        BudgetedSelector(costs=1, budget=2, must_include=["a"]).fit(X.to_numpy(), Y)


def test_wrong_data():
    selector = BudgetedSelector(costs=1, budget=2)
    missing = X.assign(b=np.nan)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        selector.fit(missing, Y)
    with pytest.raises(ValueError, match="got one class, 'ill'"):
        selector.fit(X, np.full(40, "ill"))
    with pytest.raises(ValueError, match=r"got one class, 0\.0"):
        BudgetedSelector(LogisticRegression(), costs=1, budget=2).fit(X, np.zeros(40))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        selector.fit(X, Y[:10])
    with pytest.raises(ValueError, match=r"y must have shape \(n_samples,\)"):
        BudgetedSelector(LogisticRegression(), costs=1, budget=2).fit(X, np.column_stack([Y > 0, Y > 1]))
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        selector.fit(X[:1], Y[:1])
    fitted = selector.fit(X, Y)
    with pytest.raises(ValueError, match=r"support must have shape \(4,\), got \(3,\)"):
        fitted.cost_of([True, False, True])
    assert selector.fit(X, np.ones(40)).total_cost_ == 0  # nothing to explain: nothing bought


@pytest.mark.parametrize(("x", "y"), [(1e160, 1), (1e-160, 1), (1, 1e160), (1, 1e-160)])
@pytest.mark.parametrize("sparse", [False, True])
def test_data_whose_squares_are_no_numbers(x, y, sparse):
    data = csr_array(X.to_numpy() * x) if sparse else X * x
    with pytest.raises(
        ValueError, match=f"{'X' if x != 1 else 'y'} must be of magnitudes between 1e-130 and 1e.130, got"
    ):
        BudgetedSelector(costs=1, budget=2).fit(data, Y * y)


LABELS = np.where(Y > 0, "ill", "well")


@pytest.mark.parametrize("engine", ["gram", "wrapper"])
@pytest.mark.parametrize(
    ("y", "weights", "message"),
    [
        (np.full(40, "ill"), None, "y must have at least two classes, got one class, 'ill'"),
        (np.zeros(40, dtype=int), None, "y must have at least two classes, got one class, 0"),
        (np.array(["ill", None] * 20), None, "y must hold labels of one kind, got NoneType and str"),
        (LABELS, -np.ones(40), "Negative values in data passed to `sample_weight`"),
        (LABELS, np.zeros(40), "Sample weights must contain at least one non-zero number"),
        (LABELS, np.full(40, np.nan), "sample_weight contains NaN"),
        (LABELS, np.ones(3), r"sample_weight.shape == \(3,\), expected \(40,\)"),
    ],
)
def test_wrong_labels_and_weights(engine, y, weights, message):
    selector = BudgetedSelector(LogisticRegression(), costs=1, budget=2, engine=engine, max_fits=10)
    with pytest.raises(ValueError, match=message):
        selector.fit(X, y, sample_weight=weights)


def test_a_class_without_weight():
    with pytest.raises(ValueError, match="sample_weight must be more than 0 for samples of both classes"):
        BudgetedSelector(LogisticRegression(), costs=1, budget=2).fit(X, LABELS, sample_weight=(LABELS == "ill") * 1.0)
    three = np.array(["a", "b", "c", "c"] * 10)
    with pytest.raises(ValueError, match="sample_weight must be more than 0 for samples of every class"):
        BudgetedSelector(LogisticRegression(), costs=1, budget=2).fit(X, three, sample_weight=(three != "a") * 1.0)


@pytest.mark.parametrize("engine", ["gram", "wrapper"])
def test_whole_numbers_that_look_like_classes_get_a_warning_that_says_what_to_do(engine):
    known = np.array([3, 5, 8] * 13 + [3])
    selector = BudgetedSelector(costs=1, budget=2, engine=engine, max_fits=20, path=())
    for y in (known, known.astype(object), pd.Series(known)):
        with pytest.warns(
            UserWarning, match=r"3 different whole numbers, 3, 5, 8, .* y.astype\(str\), or estimator=Log"
        ):
            selector.fit(X, y)


@pytest.mark.parametrize(
    ("estimator", "y"),
    [
        (None, np.array(["3", "5", "8", "8"] * 10)),
        (None, np.array([3.0, 5.0, 8.0, 8.0] * 10)),
        (None, np.array([0, 1] * 20)),  # R^2 is the same for any two numbers
        (None, np.arange(40)),
        (None, np.random.default_rng(0).poisson(9, 40)),
        (Ridge(), np.array([3, 5, 8, 8] * 10)),
        (LogisticRegression(), np.array([3, 5, 8, 8] * 10)),
    ],
)
def test_other_targets_get_no_warning(estimator, y):
    BudgetedSelector(estimator, costs=1, budget=2, path=()).fit(X, y)


@pytest.mark.parametrize("engine", ["gram", "wrapper", "gates"])
def test_unknown_metadata(engine):
    with pytest.raises(ValueError, match="Passing extra keyword arguments to BudgetedSelector"):
        BudgetedSelector(LogisticRegression(), costs=1, budget=2, engine=engine).fit(X, LABELS, colour="red")
