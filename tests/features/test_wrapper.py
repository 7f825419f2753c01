import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import make_scorer, roc_auc_score
from sklearn.model_selection import KFold, RepeatedKFold, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeRegressor

from cggd_features import BudgetedSelector
from cggd_features.interactions import interactions


def squares(n=150, p=6, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    return X, X[:, 1] ** 2 + X[:, 3] ** 2 + 0.1 * rng.standard_normal(n)


def test_it_finds_what_no_linear_model_sees_and_the_score_is_that_of_cross_validation():
    X, y = squares()
    tree = DecisionTreeRegressor(max_depth=4, random_state=0)
    selector = BudgetedSelector(tree, costs=1, budget=2, cv=KFold(3), random_state=0).fit(X, y)
    assert selector.engine_ == "wrapper"
    assert selector.get_support(indices=True).tolist() == [1, 3]
    assert selector.score_ == pytest.approx(cross_val_score(tree, X[:, [1, 3]], y, cv=KFold(3)).mean())
    for point in selector.path_:
        if point.support.any():
            assert point.score == pytest.approx(cross_val_score(tree, X[:, point.support], y, cv=KFold(3)).mean())


def test_the_optimum_of_all_subsets_is_found_on_small_problems():
    rng = np.random.default_rng(3)
    X = rng.standard_normal((120, 6))
    y = (X[:, 0] * X[:, 2] + X[:, 4] > 0).astype(int)
    costs = np.array([3.0, 1, 3, 1, 2, 1])
    model, cv = KNeighborsClassifier(), KFold(3)
    selector = BudgetedSelector(model, costs=costs, budget=6, cv=cv, random_state=0).fit(X, y)
    scores = {
        subset: cross_val_score(model, X[:, list(subset)], y, cv=cv).mean()
        for bits in range(1, 64)
        if costs[list(subset := tuple(v for v in range(6) if bits >> v & 1))].sum() <= 6
    }
    assert selector.score_ == pytest.approx(max(scores.values()))


class Counting(LinearRegression):
    fits = 0

    def fit(self, X, y, sample_weight=None):
        Counting.fits += 1
        return super().fit(X, y, sample_weight)


@pytest.mark.parametrize("max_fits", [10, 33, 100])
def test_no_more_fits_are_made_than_allowed(max_fits):
    X, y = squares(p=12)
    Counting.fits = 0
    selector = BudgetedSelector(Counting(), costs=1, budget=5, cv=5, max_fits=max_fits).fit(X, y)
    assert Counting.fits <= selector.n_fits_ <= max_fits
    assert selector.total_cost_ <= 5


@pytest.mark.slow
def test_jobs_give_the_same_and_so_does_the_same_seed():
    X, y = squares()
    how = {"costs": [1, 2, 3, 1, 2, 3], "budget": 4, "cv": 3, "max_fits": 120, "random_state": 3}
    alone, again = (BudgetedSelector(DecisionTreeRegressor(random_state=0), **how).fit(X, y) for _ in range(2))
    beside = BudgetedSelector(DecisionTreeRegressor(random_state=0), n_jobs=2, **how).fit(X, y)
    np.testing.assert_array_equal(alone.support_, again.support_)
    np.testing.assert_array_equal(alone.support_, beside.support_)
    assert alone.score_ == again.score_ == beside.score_


def test_missing_values_go_where_the_estimator_takes_them():
    X, y = squares()
    X[::7, 1] = np.nan
    for model in (HistGradientBoostingRegressor(max_iter=10), make_pipeline(SimpleImputer(), LinearRegression())):
        selector = BudgetedSelector(model, costs=1, budget=2, cv=2, max_fits=24, must_include=[1]).fit(X, y)
        assert selector.transform(X).shape[1] == selector.total_cost_
    with pytest.raises(ValueError, match="Input X contains NaN"):
        BudgetedSelector(costs=1, budget=2).fit(X, y)


@pytest.mark.parametrize("frame", [False, True])
def test_columns_without_any_value_are_left_out_unless_asked_for(frame):
    X, y = squares()
    X[:, [0, 4]] = np.nan  # which the estimator cannot even be fitted on
    data = pd.DataFrame(X) if frame else X
    model = HistGradientBoostingRegressor(max_iter=10)
    how = {"costs": 1, "cv": 2, "max_fits": 60, "groups": ["void", None, None, None, "void", None]}
    selector = BudgetedSelector(model, budget=3, **how).fit(data, y)
    assert selector.support_[3]
    assert not selector.support_[[0, 4]].any()
    with pytest.raises(ValueError, match="window shape"):
        BudgetedSelector(model, budget=1, must_include=[0], **how).fit(data, y)


@pytest.mark.slow
def test_several_outputs_of_labels():
    X, _ = squares()
    labels = np.where(X[:, [2, 4]] > 0, "a", "b")
    selector = BudgetedSelector(ExtraTreesClassifier(20, random_state=0), costs=1, budget=2, scoring=both, cv=3)
    assert selector.fit(X, labels).get_support(indices=True).tolist() == [2, 4]


def both(model, X, y):
    return float((model.predict(X) == y).mean())


def test_frames_reach_the_estimator_as_they_are():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.standard_normal(80), "kind": pd.Categorical(rng.choice(["a", "b", "c"], 80))})
    frame["noise"] = rng.standard_normal(80)
    y = frame["kind"].cat.codes.to_numpy() ** 2 + 0.1 * rng.standard_normal(80)
    model = HistGradientBoostingRegressor(max_iter=20, min_samples_leaf=5, categorical_features="from_dtype")
    selector = BudgetedSelector(model, costs={"x": 1, "kind": 1, "noise": 1}, budget=1, cv=3).fit(frame, y)
    assert selector.get_feature_names_out().tolist() == ["kind"]


def test_scorings():
    X, y = squares()
    labels = (X[:, 2] + 0.5 * y > 0.5).astype(int)
    for scoring in ("roc_auc", make_scorer(roc_auc_score, response_method="predict_proba"), None):
        selector = BudgetedSelector(GaussianNB(), costs=1, budget=2, scoring=scoring, cv=3, max_fits=60)
        assert selector.fit(X, labels).support_[2]
    wrong = BudgetedSelector(GaussianNB(), costs=1, budget=2, cv=3, scoring=lambda *_: float("nan"))
    with pytest.raises(ValueError, match="scores must be finite"):
        wrong.fit(X, labels)


def test_an_estimator_that_breaks_midway_does_not_lose_the_best_subset():
    X, y = squares(p=8)

    class Breaking(LinearRegression):
        left = 60

        def fit(self, X, y, sample_weight=None):
            Breaking.left -= 1
            if Breaking.left < 0:
                raise RuntimeError("out of memory")
            return super().fit(X, y, sample_weight)

    selector = BudgetedSelector(Breaking(), costs=1, budget=3, cv=3)
    with pytest.warns(UserWarning, match="out of memory"):
        selector.fit(X, y)
    assert selector.support_.sum() <= 3
    with pytest.raises(RuntimeError, match="out of memory"):
        BudgetedSelector(Breaking(), costs=1, budget=3, cv=3).fit(X, y)


def test_a_classifier_of_numbers_and_a_logistic_wrapper():
    X, _ = squares()
    selector = BudgetedSelector(LogisticRegression(), costs=1, budget=1, engine="wrapper", cv=2, max_fits=40)
    assert selector.fit(X, (X[:, 5] > 0).astype(int)).get_support(indices=True).tolist() == [5]


# -- interactions and overfitting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
@pytest.mark.slow
def test_boosting_finds_an_exclusive_or_among_forty_columns(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(400, 40))
    first, second = rng.choice(40, 2, replace=False)
    y = ((X[:, first] > 0) ^ (X[:, second] > 0)).astype(int)
    model = HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=15)
    selector = BudgetedSelector(model, costs=1, budget=2, max_fits=200, random_state=0).fit(X, y)
    assert set(selector.get_support(indices=True).tolist()) == {first, second}
    assert selector.score_ > 0.85


@pytest.mark.parametrize("seed", range(4))
def test_interactions_are_found_without_a_fit(seed):
    rng = np.random.default_rng(seed)
    X, owner = rng.normal(size=(300, 30)), np.repeat(np.arange(15), 2)
    first, second = rng.choice(15, 2, replace=False)
    y = ((X[:, 2 * first] > 0) ^ (X[:, 2 * second + 1] > 0)) + rng.normal(0, 0.3, 300)
    found = interactions(np.exp(X), np.column_stack([rng.normal(size=300), y]), owner, 15)  # ranks need no unit
    assert sorted(np.unravel_index(found.argmax(), found.shape)) == sorted((first, second))
    ranks = [rankdata(X[:, column]) - 150.5 for column in (2 * first, 2 * second + 1)]
    assert found.max() == pytest.approx(abs(np.corrcoef(ranks[0] * ranks[1], y)[0, 1]))
    assert (found == found.T).all()


def test_chance_makes_few_interactions():
    rng = np.random.default_rng(0)
    counts = [
        np.count_nonzero(interactions(rng.normal(size=(200, 20)), rng.normal(size=(200, 1)), np.arange(20), 20))
        for _ in range(20)
    ]
    assert np.mean(counts) < 2


@pytest.mark.slow
def test_the_best_subsets_are_judged_on_other_folds():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 6))
    y = X[:, 0] + X[:, 3] + 0.3 * rng.normal(size=150)
    how = {"costs": 1, "budget": 2, "engine": "wrapper", "max_fits": 600, "random_state": 0}
    selector = BudgetedSelector(LinearRegression(), **how).fit(X, y)
    assert selector.get_support(indices=True).tolist() == [0, 3]
    assert selector.n_fits_ <= 600
    seed = int(np.random.RandomState(0).randint(2**31 - 1))
    fresh = list(RepeatedKFold(n_splits=5, n_repeats=4, random_state=seed).split(X))[5:]  # the search saw the first 5
    assert selector.score_ == pytest.approx(cross_val_score(LinearRegression(), X[:, [0, 3]], y, cv=fresh).mean())
    again = BudgetedSelector(LinearRegression(), **how).fit(X, y)
    assert again.score_ == selector.score_
    own = BudgetedSelector(LinearRegression(), cv=KFold(5), **how).fit(X, y)
    assert own.score_ == pytest.approx(cross_val_score(LinearRegression(), X[:, [0, 3]], y, cv=KFold(5)).mean())
    assert own.score_ != selector.score_


@pytest.mark.parametrize("cv", [None, 3])
def test_of_equal_scores_the_one_that_explains_more_and_no_noise(cv):
    rng = np.random.default_rng(0)
    y = np.arange(90) % 2
    X = rng.normal(size=(90, 4))
    X[:, :2] = 0.2 * X[:, :2] + y[:, None]  # each of the two separates the classes: every score is 1
    selector = BudgetedSelector(LogisticRegression(), costs=[1, 2, 1, 1], budget=5, cv=cv, scoring="roc_auc")
    assert selector.fit(X, y).score_ == 1
    assert selector.get_support(indices=True).tolist() == [0, 1]
    X[:, 1] = X[:, 0]  # the same again: the cheaper one, on whatever folds
    for seed in (0, 1, 6, 18):
        selector.set_params(random_state=seed)
        assert selector.fit(X, y).get_support(indices=True).tolist() == [0]
