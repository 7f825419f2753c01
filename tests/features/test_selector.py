import json
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes, make_classification
from sklearn.feature_selection import SelectFromModel, SelectKBest, SequentialFeatureSelector, f_classif
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from cggd import Status
from cggd.datasets import data_folder
from cggd_features import BudgetedSelector, prices

FOLDER = data_folder()
needs_data = pytest.mark.skipif(
    FOLDER is None or not (FOLDER / "features").is_dir(), reason="features/ not found: set CGGD_DATA to the shared data"
)


def optima():
    """Table, whether prices are shared, budget and the proved optimum, of both files."""
    if FOLDER is None or not (FOLDER / "features").is_dir():
        return []
    easy = json.loads((FOLDER / "features/exhaustive_optima.json").read_text())
    hard = json.loads((FOLDER / "features/greedy_hard_budgets.json").read_text())
    rows = [(t, o["cost_model"], o["budget"], o["best_R2"]) for t, known in easy.items() for o in known["optima"]]
    return rows + [(t, o["cost_model"], o["budget"], o["optimum_R2"]) for t, known in hard.items() for o in known]


def table(name):
    frame = pd.read_csv(FOLDER / f"features/{name}.csv", na_values="?")
    target = frame.pop(frame.columns[-1])
    y = (target > 0) if target.dtype.kind in "if" else (target == "tested_positive")
    X = frame.fillna(frame.median())
    costs = json.loads((FOLDER / "features/costs.json").read_text())[name]["features"]
    return X / X.std(), y.astype(float), *prices(costs)


@needs_data
@pytest.mark.parametrize(("name", "model", "budget", "optimum"), optima())
def test_the_optimum_of_every_budget_is_found_and_proved(name, model, budget, optimum):
    X, y, costs, discounted = table(name)
    selector = BudgetedSelector(
        costs=costs, budget=budget, discounted=discounted if model == "grouped" else None, path=()
    )
    selector.fit(X, y)
    assert selector.score_ == pytest.approx(optimum, abs=2e-6)
    assert selector.status_ is Status.OPTIMAL
    assert selector.bound_ == selector.score_
    assert selector.total_cost_ <= budget * (1 + 1e-9)
    assert selector.score_ == pytest.approx(
        LinearRegression().fit(selector.transform(X), y).score(selector.transform(X), y)
    )


@needs_data
def test_the_path_holds_the_optima_of_smaller_budgets():
    X, y, costs, discounted = table("heart_cleveland")
    whole = BudgetedSelector(costs=costs, budget=200, discounted=discounted, path=[0.25, 0.5, 1.2]).fit(X, y)
    for share in (0.25, 0.5, 1.2):
        alone = BudgetedSelector(costs=costs, budget=200 * share, discounted=discounted, path=()).fit(X, y)
        reached = [p.score for p in whole.path_ if p.cost <= 200 * share + 1e-9]
        assert max(reached) == pytest.approx(alone.score_, abs=1e-9)


@pytest.fixture(scope="module")
def diabetes():
    return load_diabetes(return_X_y=True, as_frame=True)


COSTS = dict.fromkeys(["age", "sex", "bmi", "bp"], 1.0) | {f"s{i}": 10.0 for i in range(1, 7)}


def test_attributes_agree(diabetes):
    X, y = diabetes
    s = BudgetedSelector(costs=COSTS, budget=15).fit(X, y)
    assert s.total_cost_ == sum(COSTS[f] for f in s.get_feature_names_out()) == s.cost_of(s.support_)
    assert s.cost_of(["age", "s1"]) == 11
    np.testing.assert_array_equal(s.feature_costs_, [COSTS[f] for f in X])
    costs, scores = s.cost_path_, [p.score for p in s.path_]
    assert costs.shape == (len(s.path_),)
    assert (np.diff(costs) > 0).all()
    assert (np.diff(scores) > 0).all()
    own = [p for p in s.path_ if np.array_equal(p.support, s.support_)]
    assert [(p.cost, p.score, p.budget) for p in own] == [(s.total_cost_, s.score_, 15)]
    for point in s.path_:
        assert point.cost == s.cost_of(point.support)
        if point.support.any():
            Z = X.loc[:, point.support]
            assert point.score == pytest.approx(LinearRegression().fit(Z, y).score(Z, y))
    firsts = [next((n for n, p in enumerate(s.path_, 1) if p.support[j]), len(s.path_) + 1) for j in range(10)]
    assert s.ranking_.tolist() == firsts


def test_several_budgets_hold_at_once(diabetes):
    X, y = diabetes
    milliseconds = np.arange(10) + 1.0
    s = BudgetedSelector(costs={"usd": COSTS, "ms": milliseconds}, budget={"usd": 22, "ms": 16, "n": 3}).fit(X, y)
    assert s.total_cost_["usd"] <= 22
    assert s.total_cost_["ms"] == milliseconds[s.support_].sum() <= 16
    assert s.total_cost_["n"] == s.support_.sum() <= 3
    assert s.status_ is Status.OPTIMAL
    assert s.cost_path_.shape == (len(s.path_), 3)
    assert s.cost_of(["age"]) == {"usd": 1, "ms": 1, "n": 1}
    loose = BudgetedSelector(costs={"usd": COSTS, "ms": milliseconds}, budget={"usd": 22, "ms": np.inf, "n": 3}).fit(
        X, y
    )
    assert loose.score_ >= s.score_


def test_columns_of_a_variable_stay_together_and_are_paid_once(diabetes):
    X, y = diabetes
    groups = {"blood": ["s1", "s2", "s3", "s4"], "body": ["bmi", "bp"]}
    costs = {"age": 1, "sex": 1, "blood": 12, "body": 3, "s5": 4, "s6": 4}
    s = BudgetedSelector(costs=costs, budget=19, groups=groups).fit(X, y)
    chosen = set(s.get_feature_names_out())
    for columns in groups.values():
        assert set(columns) <= chosen or not set(columns) & chosen
    assert s.total_cost_ <= 19
    by_label = [None, None, "body", "body", "blood", "blood", "blood", "blood", None, None]
    again = BudgetedSelector(costs=costs, budget=19, groups=by_label).fit(X, y)
    np.testing.assert_array_equal(s.support_, again.support_)
    assert s.feature_costs_.tolist() == [1, 1, 3, 3, 12, 12, 12, 12, 4, 4]
    summed = BudgetedSelector(costs=np.ones(10), budget=3, groups=groups).fit(X, y)
    assert summed.total_cost_ == summed.support_.sum() <= 3


def test_one_hot_columns_with_one_too_many():
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 4, 200)
    X = np.column_stack([np.eye(4)[kind], rng.standard_normal((200, 3))])
    y = np.array([0.0, 3, 1, -2])[kind] + 0.1 * rng.standard_normal(200)
    s = BudgetedSelector(costs=1, budget=1, groups={"kind": [0, 1, 2, 3]}).fit(X, y)
    assert s.get_support(indices=True).tolist() == [0, 1, 2, 3]
    assert s.score_ == pytest.approx(LinearRegression().fit(X[:, :4], y).score(X[:, :4], y))


def test_what_must_be_and_how_many_of_a_set(diabetes):
    X, y = diabetes
    s = BudgetedSelector(
        costs=1,
        budget=5,
        must_include=["age"],
        must_exclude=[2],
        at_most={("s1", "s5", "bp"): 1},
        at_least={("s4", "s6"): 1},
    ).fit(X, y)
    chosen = set(s.get_feature_names_out())
    assert "age" in chosen
    assert "bmi" not in chosen
    assert len(chosen & {"s1", "s5", "bp"}) <= 1
    assert chosen & {"s4", "s6"}
    by_group = BudgetedSelector(
        costs=COSTS, budget=40, discounted={"lab": {"s1": 2, "s2": 2, "s5": 2}}, at_most={"lab": 1}
    ).fit(X, y)
    assert len(set(by_group.get_feature_names_out()) & {"s1", "s2", "s5"}) <= 1


def test_costs_of_a_subset_as_a_function(diabetes):
    X, y = diabetes

    def squared(mask):
        return float(mask.sum() ** 2 + mask[8])

    s = BudgetedSelector(costs=squared, budget=10, path=()).fit(X, y)
    assert s.total_cost_ == squared(s.support_) <= 10
    best = BudgetedSelector(costs=1, budget=3).fit(X, y)
    assert s.score_ == pytest.approx(best.score_)
    assert s.feature_costs_.tolist() == [1] * 8 + [2, 1]


def test_no_budget_allows_what_is_free(diabetes):
    X, y = diabetes
    s = BudgetedSelector(costs=COSTS | {"bp": 0, "s6": 0}, budget=0).fit(X, y)
    assert s.get_feature_names_out().tolist() == ["bp", "s6"]
    for little in (0.5, 1e-310):
        nothing = BudgetedSelector(costs=1, budget=little).fit(X, y)
        assert not nothing.support_.any()
    with pytest.warns(UserWarning, match="No features were selected"):
        assert nothing.transform(X).shape == (442, 0)


def test_copies_constants_and_more_columns_than_samples():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 30))
    X = np.column_stack([a, np.full(30, 3.0), a, b, a + b])
    y = a + b + 0.1 * rng.standard_normal(30)
    assert BudgetedSelector(costs=[2, 0, 1, 1, 3], budget=5).fit(X, y).get_support(indices=True).tolist() == [2, 3]
    assert BudgetedSelector(costs=1, budget=1).fit(X, y).get_support(indices=True).tolist() == [4]
    wide = rng.standard_normal((12, 60))
    s = BudgetedSelector(costs=1, budget=60, must_include=[7]).fit(wide, wide[:, 3] + wide[:, 50])
    assert s.support_[7]
    assert s.score_ == pytest.approx(1)
    assert s.support_.sum() <= 11  # no more than what explains everything
    one = BudgetedSelector(costs=[2], budget=2).fit(X[:, :1], y)
    assert one.support_.tolist() == [True]


def test_ridge_several_outputs_sparse_data_and_weights():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((80, 9)) * (rng.random((80, 9)) < 0.5)
    Y = X @ rng.standard_normal((9, 2)) + rng.standard_normal((80, 2))
    weights = rng.integers(0, 4, 80)
    s = BudgetedSelector(costs=1, budget=4).fit(X, Y)
    assert s.score_ == pytest.approx(LinearRegression().fit(s.transform(X), Y).score(s.transform(X), Y))
    thin = BudgetedSelector(costs=1, budget=4).fit(sparse.csr_array(X), Y)
    np.testing.assert_array_equal(s.support_, thin.support_)
    assert sparse.issparse(thin.transform(sparse.csr_array(X)))
    weighted = BudgetedSelector(Ridge(2.0), costs=1, budget=4).fit(X, Y, sample_weight=weights)
    repeated = BudgetedSelector(Ridge(2.0), costs=1, budget=4).fit(np.repeat(X, weights, 0), np.repeat(Y, weights, 0))
    np.testing.assert_array_equal(weighted.support_, repeated.support_)
    assert weighted.score_ == pytest.approx(repeated.score_)


def test_copies_pickles_pipelines_and_grids(diabetes):
    X, y = diabetes
    s = BudgetedSelector(costs=COSTS, budget=15, random_state=0, path=())
    fitted = clone(s).fit(X, y)
    back = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(back.transform(X), fitted.transform(X))
    assert back.cost_of(["s1"]) == 10
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), s, Ridge())
    search = GridSearchCV(pipeline, {"budgetedselector__budget": [1, 12, 33]}, cv=3).fit(X, y)
    assert search.best_params_["budgetedselector__budget"] > 1
    scores = search.cv_results_["mean_test_score"]
    assert scores[0] < scores[1]
    assert pipeline.fit(X, y).predict(X).shape == (442,)


def test_it_stands_where_other_selectors_do(diabetes):
    X, y = diabetes
    for selector in (SelectFromModel(LinearRegression(), max_features=3), BudgetedSelector(costs=1, budget=3)):
        Z = selector.fit_transform(X, y)
        assert Z.shape == (442, 3)
        assert selector.get_support().sum() == 3
        assert selector.inverse_transform(Z).shape == X.shape
        assert set(selector.get_feature_names_out()) <= set(X.columns)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_come_out_and_go_in(library, diabetes):
    module = pytest.importorskip(library)
    X, y = diabetes
    frame = X if library == "pandas" else module.DataFrame({name: X[name].to_numpy() for name in X})
    s = BudgetedSelector(costs=COSTS, budget=15).set_output(transform=library).fit(frame, y)
    out = s.transform(frame)
    assert isinstance(out, module.DataFrame)
    assert list(out.columns) == list(s.get_feature_names_out())
    with pytest.raises(ValueError, match="feature names should match"):
        s.transform(X.rename(columns={"bmi": "BMI"}))


def test_metadata_are_routed(diabetes):
    import sklearn

    X, y = diabetes
    labels, people = (y > y.median()).astype(int), np.arange(len(y)) // 4
    weights = np.linspace(0.5, 2, len(y))
    how = {"costs": COSTS, "budget": 12, "cv": GroupKFold(3), "max_fits": 60, "random_state": 0}
    plain = BudgetedSelector(LogisticRegression(max_iter=500), **how).fit(
        X, labels, sample_weight=weights, groups=people
    )
    with sklearn.config_context(enable_metadata_routing=True):
        model = LogisticRegression(max_iter=500).set_fit_request(sample_weight=True)
        routed = BudgetedSelector(model, **how).set_fit_request(sample_weight=True, groups=True)
        with pytest.raises(ValueError, match=r"sample_weight.* requested or not"):
            BudgetedSelector(LogisticRegression(), **how).fit(X, labels, sample_weight=weights, groups=people)
        model_last = LogisticRegression(max_iter=500).set_fit_request(sample_weight=False)
        scorer = sklearn.metrics.get_scorer("accuracy").set_score_request(sample_weight=True)
        pipeline = make_pipeline(routed.set_params(scoring=scorer), model_last)
        pipeline.fit(X, labels, sample_weight=weights, groups=people)
        assert pipeline[0].score_ == pytest.approx(plain.score_)
    with pytest.raises(ValueError, match="'groups' parameter should not be None"):
        BudgetedSelector(LogisticRegression(max_iter=500), **how).fit(X, labels)


@pytest.mark.slow
def test_budgets_that_pay_for_everything_or_nearly_end_soon():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((900, 700))
    y = X[:, :20].sum(axis=1) + rng.standard_normal(900)
    costs = rng.lognormal(size=700)
    everything = BudgetedSelector(costs=costs, budget=costs.sum()).fit(X, y)
    assert everything.support_.sum() >= 698  # one of 700 noises may explain less than rounding
    assert everything.status_ is Status.OPTIMAL
    nearly = BudgetedSelector(costs=costs, budget=0.7 * costs.sum()).fit(X, y)
    assert costs.sum() * 0.7 - costs.max() <= nearly.total_cost_ <= 0.7 * costs.sum()
    assert everything.score_ > nearly.score_ > 0.97
    kept = BudgetedSelector(costs=costs, budget=costs.sum(), criterion="ebic").fit(X, y)
    assert kept.get_support(indices=True).tolist() == list(range(20))


def test_a_set_that_is_full_ends_the_search(diabetes):
    X, y = diabetes
    s = BudgetedSelector(costs=1, budget=10, at_most={tuple(X.columns): 3}).fit(X, y)
    assert s.support_.sum() == 3


def test_time_limits_and_criteria_and_reports(diabetes, capsys):
    X, y = diabetes
    rng = np.random.default_rng(0)
    wide = np.column_stack([X, rng.standard_normal((442, 90))])
    quick = BudgetedSelector(costs=1, budget=40, time_limit=0.05, verbose=1).fit(wide, y)
    assert quick.total_cost_ <= 40
    assert "[BudgetedSelector]" in capsys.readouterr().out
    for criterion, most in (("ebic", 10), ("bic", 15), ("aic", 40)):
        assert BudgetedSelector(costs=1, budget=60, criterion=criterion).fit(wide, y).total_cost_ <= most
    assert BudgetedSelector(costs=1, budget=60).fit(wide, y).total_cost_ == 60


@pytest.mark.slow
def test_many_columns_are_better_spent_on_than_by_greedy_rules():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1000, 600))
    for column in range(1, 600):
        X[:, column] = 0.8 * X[:, column - 1] + 0.6 * X[:, column]
    y = X[:, ::20] @ rng.uniform(0.5, 1, 30) + 2 * rng.standard_normal(1000)
    costs = rng.lognormal(size=600)
    s = BudgetedSelector(costs=costs, budget=12, random_state=0).fit(X, y)
    assert s.total_cost_ == pytest.approx(costs[s.support_].sum())
    assert s.total_cost_ <= 12
    assert s.score_ <= s.bound_ <= 1
    for power in (0.0, 1.0):
        chosen = []
        while fitting := [j for j in range(600) if j not in chosen and costs[chosen].sum() + costs[j] <= 12]:
            residual = y - LinearRegression().fit(X[:, chosen], y).predict(X[:, chosen]) if chosen else y - y.mean()
            basis = np.linalg.qr(np.column_stack([np.ones(1000), X[:, chosen]]))[0]
            left = X[:, fitting] - basis @ (basis.T @ X[:, fitting])
            gain = (left.T @ residual) ** 2 / (left**2).sum(axis=0)
            chosen.append(fitting[int(np.argmax(gain / costs[fitting] ** power))])
        assert s.score_ > LinearRegression().fit(X[:, chosen], y).score(X[:, chosen], y)


@pytest.mark.slow
def test_five_thousand_columns():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 5_000))
    planted = rng.choice(5_000, 6, replace=False)
    y = X[:, planted].sum(axis=1) + 0.1 * rng.standard_normal(400)
    costs = rng.uniform(1.0, 5.0, 5_000)
    selector = BudgetedSelector(costs=costs, budget=costs[planted].sum(), path=()).fit(X, y)
    assert sorted(planted) == np.flatnonzero(selector.support_).tolist()
    assert selector.total_cost_ == pytest.approx(costs[planted].sum())


def test_in_the_place_of_the_filter_in_scikit_learns_pipeline_example():
    # "Pipeline ANOVA SVM" of its gallery: 3 of 20 columns carry the classes, and a linear SVM follows the selector.
    X, y = make_classification(
        n_features=20, n_informative=3, n_redundant=0, n_classes=2, n_clusters_per_class=2, random_state=42
    )
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=42)
    model = make_pipeline(BudgetedSelector(costs=1.0, budget=3), LinearSVC()).fit(X_train, y_train)
    assert model[:-1].inverse_transform(model[-1].coef_).shape == (1, 20)
    assert np.count_nonzero(model[:-1].inverse_transform(model[-1].coef_)) <= 3
    anova = make_pipeline(SelectKBest(f_classif, k=3), LinearSVC()).fit(X_train, y_train)
    assert model.score(X_test, y_test) >= anova.score(X_test, y_test)


@pytest.mark.slow
def test_in_the_place_of_sequential_selection_in_scikit_learns_example(diabetes):
    # "Model-based and sequential feature selection" of its gallery, with as many columns as features cost.
    X, y = diabetes
    selector = BudgetedSelector(LinearRegression(), costs=1.0, budget=2, scoring="r2", cv=5).fit(X, y)
    forward = SequentialFeatureSelector(LinearRegression(), n_features_to_select=2, scoring="r2", cv=5).fit(X, y)
    best = cross_val_score(LinearRegression(), np.asarray(X)[:, forward.get_support()], y, scoring="r2", cv=5).mean()
    assert selector.get_support().sum() == 2
    assert selector.score_ >= best - 1e-12
