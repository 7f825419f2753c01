"""What users bring: encoded categories, column transformers, survival targets, dates, limits of time."""

import time

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import DataConversionWarning
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from cggd import Status
from cggd_features import BudgetedSelector
from cggd_features.models import outputs_of

RNG = np.random.default_rng(0)


def patients(n=120, seed=0):
    """A table with a category of which one level is rare, so that most folds lack it."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(["a", "b", "c"], n).astype(object)
    kind[3] = "rare"
    frame = pd.DataFrame({"kind": kind, "age": rng.normal(50, 9, n), "bmi": rng.normal(25, 3, n)})
    y = (kind == "a") * 2.0 + 0.1 * frame["age"] + rng.normal(0, 0.3, n)
    return frame, y


# -- one-hot columns --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", ["kind_*", ["kind_a", "kind_b", "kind_c", "kind_rare"]])
@pytest.mark.filterwarnings("ignore:.*kind_rare")
def test_a_level_that_a_fold_lacks(members):
    frame, y = patients()
    encoder = ColumnTransformer(
        [("one", OneHotEncoder(sparse_output=False, handle_unknown="ignore"), ["kind"])],
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    costs = {"kind": 2.0, "age": 1.0, "bmi": 1.0}
    selector = BudgetedSelector(costs=costs, budget=2, groups={"kind": members})
    model = make_pipeline(encoder, selector, LinearRegression()).set_output(transform="pandas")
    search = GridSearchCV(model, {"budgetedselector__budget": [2, 3]}, cv=KFold(3), error_score="raise").fit(frame, y)
    assert search.best_params_ == {"budgetedselector__budget": 3}
    assert {"kind_a", "kind_rare", "age"} <= set(search.best_estimator_[1].get_feature_names_out())


def test_prices_of_columns_that_are_not_there():
    frame = pd.DataFrame(RNG.normal(size=(30, 3)), columns=["k_a", "k_b", "x"])
    y = frame["x"] + RNG.normal(size=30)
    costs = {"k_a": 1, "k_b": 1, "k_c": 5, "x": 1}
    selector = BudgetedSelector(costs=costs, budget=3, groups={"k": ["k_a", "k_b", "k_c"]})
    with pytest.warns(UserWarning, match=r"groups\['k'\] names features that X lacks, 'k_c'; they are ignored"):
        assert selector.fit(frame, y).total_cost_ <= 3
    BudgetedSelector(costs=costs, budget=3, groups={"k": "k_*"}).fit(frame, y)
    with pytest.raises(ValueError, match="costs: unknown feature 'typo'"):
        BudgetedSelector(costs={**costs, "typo": 1}, budget=3, groups={"k": "k_*"}).fit(frame, y)


def test_patterns_of_names():
    frame = pd.DataFrame(RNG.normal(size=(30, 4)), columns=["one__k_a", "one__k_b", "num__x", "num__z"])
    y = frame["num__x"] + frame["one__k_b"]
    costs = {"k": 2, "none": 7, "num__x": 1, "num__z": 1}
    with pytest.warns(UserWarning, match=r"groups\['none'\]: no feature matches 'void_\*'; the group is left out"):
        selector = BudgetedSelector(costs=costs, budget=3, groups={"k": "one__k_*", "none": "void_*"}).fit(frame, y)
    assert selector.get_feature_names_out().tolist() == ["one__k_a", "one__k_b", "num__x"]
    assert selector.total_cost_ == 3
    with pytest.raises(ValueError, match=r"groups\['k'\] = 'k_\*' needs feature names; give a DataFrame"):
        BudgetedSelector(costs=1, budget=3, groups={"k": "k_*"}).fit(frame.to_numpy(), y)


# -- column transformers ----------------------------------------------------------------------------------------------


def ord_of(kind):
    return ["a", "b", "c", "rare"].index(kind)


@pytest.mark.parametrize("frame", [True, False])
@pytest.mark.parametrize("by", ["name", "number", "selector", "slice", "mask"])
def test_a_selector_around_a_column_transformer(by, frame):
    data, y = patients()
    if by in ("name", "selector") and not frame:
        pytest.skip("an array has no names")
    numeric, kinds = {
        "name": (["age", "bmi"], ["kind"]),
        "number": ([1, 2], [0]),
        "selector": (make_column_selector(dtype_include=float), make_column_selector(dtype_exclude=float)),
        "slice": (slice(1, 3), slice(0, 1)),
        "mask": ([False, True, True], [True, False, False]),
    }[by]
    encoder = OneHotEncoder(handle_unknown="ignore")
    parts = ColumnTransformer([("num", StandardScaler(), numeric), ("cat", encoder, kinds)])
    model = make_pipeline(parts, LinearRegression())
    X = data if frame else data.assign(kind=data["kind"].map(ord_of)).to_numpy(dtype=float)
    selector = BudgetedSelector(model, costs=[2, 1, 1], budget=2, cv=KFold(3)).fit(X, y)
    assert selector.support_.tolist() == [False, True, True] or selector.support_[0]
    best = max(
        cross_val_score(make_pipeline(ColumnTransformer([("num", StandardScaler(), [0, 1])]), LinearRegression()),
                        data[["age", "bmi"]], y, cv=KFold(3)).mean(),
        cross_val_score(make_pipeline(encoder, LinearRegression()), data[["kind"]], y, cv=KFold(3)).mean(),
    )  # fmt: skip
    assert selector.score_ == pytest.approx(best)
    assert model[0].transformers[0][2] is numeric  # the user's own is left alone


def test_a_text_column_stays_one_dimensional():
    frame, y = patients()
    lengths = FunctionTransformer(lambda s: np.array([[v == "a"] for v in s], dtype=float))
    model = make_pipeline(ColumnTransformer([("text", lengths, "kind")], remainder="passthrough"), LinearRegression())
    selector = BudgetedSelector(model, costs=1, budget=2, cv=KFold(3)).fit(frame, y)
    assert selector.get_feature_names_out().tolist() == ["kind", "age"]


# -- survival ---------------------------------------------------------------------------------------------------------


class Hazard(BaseEstimator):
    """A survival model in brief: least squares of the martingale residuals, scored by concordance."""

    def fit(self, X, y):
        assert y.dtype.names == ("event", "time")
        self.model_ = LinearRegression().fit(X, outputs_of(y)[:, 0])
        return self

    def score(self, X, y):
        risk = self.model_.predict(X)
        earlier = y["event"][:, None] & (y["time"][:, None] < y["time"])
        return float((risk[:, None] > risk)[earlier].mean())


def test_targets_of_events_and_times():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(150, 8))
    died, left = rng.exponential(np.exp(-X[:, 2] - X[:, 5])), rng.exponential(2.0, 150)
    y = np.array(list(zip(died < left, np.minimum(died, left), strict=True)), dtype=[("event", "?"), ("time", "f8")])
    selector = BudgetedSelector(Hazard(), costs=1, budget=2, cv=KFold(3), random_state=0).fit(X, y)
    assert selector.get_support(indices=True).tolist() == [2, 5]
    assert selector.score_ > 0.65
    assert BudgetedSelector(Hazard(), costs=1, budget=0, cv=KFold(3)).fit(X, y).total_cost_ == 0
    for wrong in ({"estimator": None}, {"estimator": Hazard(), "engine": "gram"}):
        with pytest.raises(ValueError, match="y has the fields 'event', 'time'; give an estimator that takes such"):
            BudgetedSelector(costs=1, budget=2, **wrong).fit(X, y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        BudgetedSelector(Hazard(), costs=1, budget=2).fit(X, y[:9])


def test_martingale_residuals_are_events_less_hazard():
    y = np.array([(True, 1.0), (False, 2.0), (True, 2.0), (True, 5.0)], dtype=[("dead", "?"), ("days", "f8")])
    hazard = np.array([1 / 4, 1 / 4 + 1 / 3, 1 / 4 + 1 / 3, 1 / 4 + 1 / 3 + 1])
    assert outputs_of(y)[:, 0] == pytest.approx([1, 0, 1, 1] - hazard)
    assert outputs_of(y).sum() == pytest.approx(0, abs=1e-12)


# -- dates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["datetime", "zone", "delta", "object", "array", "period", "time"])
@pytest.mark.parametrize("estimator", [None, RandomForestRegressor(5)])
def test_dates_are_refused_by_name(kind, estimator):
    days = pd.Series(pd.date_range("2020-01-01", periods=40))
    column = {
        "datetime": days,
        "zone": days.dt.tz_localize("UTC"),
        "delta": days - days[0],
        "object": pd.Series([d.date() for d in days], dtype=object),
        "array": days,
        "period": days.dt.to_period("D"),
        "time": pd.Series([d.time() for d in days], dtype=object),
    }[kind]
    X = pd.DataFrame({"x": RNG.normal(size=40), "admitted": column})
    data, name = (X[["admitted"]].to_numpy(), "0") if kind == "array" else (X, "'admitted'")
    with pytest.raises(ValueError, match=rf"X holds dates in {name}; turn them into numbers, for example X\[{name}\]"):
        BudgetedSelector(estimator, costs=1, budget=1).fit(data, RNG.normal(size=40))


def test_a_pipeline_may_take_dates():
    days = pd.Series(pd.date_range("2020-01-01", periods=60))
    X = pd.DataFrame({"x": RNG.normal(size=60), "admitted": days})
    y = np.arange(60.0)
    since = FunctionTransformer(lambda f: (f - pd.Timestamp("2020-01-01")) / pd.Timedelta(days=1))
    parts = ColumnTransformer([("days", since, ["admitted"])], remainder="passthrough")
    selector = BudgetedSelector(make_pipeline(parts, LinearRegression()), costs=1, budget=1, cv=3).fit(X, y)
    assert selector.get_feature_names_out().tolist() == ["admitted"]


# -- bounds, time, classes --------------------------------------------------------------------------------------------


def test_a_bound_that_is_met_is_a_proof():
    X = RNG.normal(size=(300, 60))
    y = X[:, 0] + RNG.normal(size=300)
    costs = np.ones(60)
    costs[50:] = 100.0
    X[:, 20:50] = X[:, :10].repeat(3, axis=1)  # columns that add nothing, so that the budget pays for all there is
    selector = BudgetedSelector(costs=costs, budget=20, path=()).fit(X, y)
    assert selector.status_ is Status.OPTIMAL
    assert selector.bound_ == selector.score_
    assert selector.total_cost_ == 20
    tight = BudgetedSelector(costs=costs, budget=19, path=()).fit(X, y)
    assert tight.status_ is Status.FEASIBLE
    assert tight.bound_ > tight.score_


def test_choosing_the_cheapest_of_equals_ends_with_the_time():
    # A thousand copies of each column: without an end, swaps of equals would go on for minutes.
    X = np.tile(RNG.normal(size=(200, 20)), (1, 60))
    costs = RNG.uniform(1, 2, X.shape[1])
    began = time.perf_counter()
    selector = BudgetedSelector(costs=costs, budget=15, time_limit=1, path=()).fit(X, X[:, :20].sum(axis=1))
    assert selector.total_cost_ <= 15
    assert time.perf_counter() - began < 60


@pytest.mark.parametrize("seed", range(3))
def test_several_classes_are_searched_by_the_multinomial_likelihood(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(200, 7))
    logits = X[:, :3] @ rng.normal(0, 2, (3, 3)) + rng.gumbel(size=(200, 3))
    y = np.array(["a", "b", "c"])[logits.argmax(axis=1)]
    selector = BudgetedSelector(LogisticRegression(C=np.inf, max_iter=2000), costs=1, budget=2, path=()).fit(X, y)
    shares = {}
    for i in range(7):
        for j in range(i):
            model = LogisticRegression(C=np.inf, max_iter=2000).fit(X[:, [i, j]], y)
            logs = model.predict_log_proba(X[:, [i, j]])[np.arange(200), np.searchsorted(model.classes_, y)]
            shares[j, i] = logs.sum()
    assert tuple(selector.get_support(indices=True).tolist()) == max(shares, key=shares.get)


def labelled():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    return X, np.where(X[:, 1] + 0.3 * rng.normal(size=60) > 0, "yes", "no")


@pytest.mark.parametrize("engine", ["gram", "wrapper"])
@pytest.mark.parametrize("estimator", [None, LogisticRegression()])
def test_labels_in_one_column_are_labels(engine, estimator):
    X, y = labelled()
    selector = BudgetedSelector(estimator, costs=1, budget=1, engine=engine, max_fits=60, random_state=0)
    with pytest.warns(DataConversionWarning, match="column-vector"):
        column = selector.fit(X, y[:, None]).support_
    np.testing.assert_array_equal(column, selector.fit(X, y).support_)
    numbers = BudgetedSelector(costs=1, budget=1, engine=engine, max_fits=60).fit(X, X[:, [2]])
    assert numbers.get_support(indices=True).tolist() == [2]


def test_weights_reach_the_last_step_of_a_pipeline():
    X, y = labelled()
    weights = np.where(X[:, 2] > 0, 5.0, 0.1)
    how = {"costs": 1, "budget": 1, "scoring": "neg_log_loss", "cv": KFold(3), "max_fits": 60}
    alone = BudgetedSelector(LogisticRegression(), **how).fit(X, y, sample_weight=weights)
    piped = BudgetedSelector(make_pipeline("passthrough", LogisticRegression()), **how).fit(X, y, sample_weight=weights)
    assert piped.score_ == pytest.approx(alone.score_)
    with pytest.raises(TypeError, match=r"KNeighborsClassifier.* takes none"):
        BudgetedSelector(make_pipeline("passthrough", KNeighborsClassifier()), **how).fit(X, y, sample_weight=weights)
