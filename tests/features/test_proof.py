"""What the selector claims, against every subset fitted by an independent QR factor."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import d2_log_loss_score, r2_score

from cggd import Additive, ChoiceSpace, Status
from cggd.program.presolve import limits_of, possible
from cggd_features import BudgetedSelector
from cggd_features.costs import SharedCost
from cggd_features.gram import Gram
from cggd_features.limits import Limits
from cggd_features.linear import solve
from cggd_features.models import Model


def explained(X, y, columns, weights=None, alpha=0.0) -> float:
    """R^2 of least squares on some columns, by a QR factor of centred and scaled ones; a penalty counts as an error."""
    w = np.ones(len(y)) if weights is None else weights
    Z, target = X[:, columns] - X[:, columns].mean(axis=0), y - w @ y / w.sum()
    Z = (Z - w @ Z / w.sum()) * np.sqrt(w)[:, None]
    total = w @ target**2
    target = np.sqrt(w) * target
    if alpha:
        Z = np.concatenate([Z, np.sqrt(alpha) * np.eye(len(columns))])
        target = np.concatenate([target, np.zeros(len(columns))])
    size = np.linalg.norm(Z, axis=0)
    q, _ = np.linalg.qr(Z[:, size > 0] / size[size > 0])
    rest = target - q @ (q.T @ target)
    return 1 - rest @ rest / total


def nearly_equal(kind, difference, rng):
    """Six columns, two or three of them nearly dependent, and a target that needs what they differ in."""
    first, other = rng.standard_normal((2, 60))
    X = rng.standard_normal((60, 6))
    X[:, 3] = first
    X[:, 4] = first + difference * other
    if kind == "scales":
        X *= [1e-9, 1e6, 1.0, 1e8, 1e-7, 1e3]
    elif kind == "offset":
        X = 2000.0 + X * [1, 1, 1, 0.1, 0.1, 5]
        other = X[:, 4] - X[:, 3]
        other = (other - other.mean()) / other.std()
    elif kind == "intercept":  # a column that is nearly constant
        X[:, 4] = 1.0 + difference * other
    elif kind == "sum":
        X[:, 5] = X[:, 3] + X[:, 0] - 2 * X[:, 1] + difference * other
    elif kind == "twins":
        X[:, 5] = first - difference * rng.standard_normal(60)
        X[:, 2] = first + difference * rng.standard_normal(60)
    return X, 2 * other + 0.4 * X[:, 0] / X[:, 0].std() + 0.1 * rng.standard_normal(60)


BETWEEN = [pytest.param(difference, marks=pytest.mark.slow) for difference in (1e-3, 2e-5, 3e-8)]


@pytest.mark.parametrize("difference", [1e-2, 1e-4, 1e-6, 1e-9, *BETWEEN])
@pytest.mark.parametrize("kind", ["plain", "scales", "offset", "intercept", "sum", "twins"])
def test_nearly_dependent_columns_count_for_what_they_add(kind, difference):
    rng = np.random.default_rng(17)
    X, y = nearly_equal(kind, difference, rng)
    for budget in (1, 2, 3):
        best = max(explained(X, y, list(c)) for c in itertools.combinations(range(6), budget))
        selector = BudgetedSelector(costs=1.0, budget=budget).fit(X, y)
        if kind != "offset" or difference > 1e-8:  # 2000 holds a difference of 1e-9 to one or two digits
            assert selector.status_ is Status.OPTIMAL
            assert selector.score_ == pytest.approx(best, abs=1e-6)
        assert selector.status_ is not Status.OPTIMAL or selector.score_ >= best - 1e-6
        assert selector.bound_ is None or selector.bound_ >= best - 1e-6


@pytest.mark.parametrize("difference", [1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("thin", [False, True])
def test_nearly_dependent_groups_weights_penalties_and_sparse_data(difference, thin):
    rng = np.random.default_rng(3)
    X, y = nearly_equal("twins", difference, rng)
    weights = rng.uniform(0.5, 2, 60)
    groups = [[0, 1], [3, 4], [2], [5]]
    labels = {"a": [0, 1], "b": [3, 4]}
    for alpha in (0.0, 1e-8):
        best = max(
            explained(X, y, list(itertools.chain(*chosen)), weights, alpha)
            for k in (1, 2)
            for chosen in itertools.combinations(groups, k)
        )
        estimator = Ridge(alpha) if alpha else LinearRegression()
        selector = BudgetedSelector(estimator, costs={"a": 1, "b": 1, 2: 1, 5: 1}, budget=2, groups=labels)
        selector.fit(sparse.csr_array(X) if thin else X, y, sample_weight=weights)
        assert selector.status_ is Status.OPTIMAL
        assert selector.score_ == selector.bound_ == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("difference", [1e-11, 1e-12, 1e-13])
def test_nothing_is_claimed_where_rounding_hides_what_a_column_adds(difference):
    X, y = nearly_equal("plain", difference, np.random.default_rng(5))
    selector = BudgetedSelector(costs=1.0, budget=3).fit(X, y)
    assert selector.status_ is Status.FEASIBLE
    assert selector.bound_ is None
    everything = BudgetedSelector(costs=1.0, budget=6).fit(X, y)
    assert everything.status_ is Status.FEASIBLE
    assert everything.bound_ is None


def test_copies_sums_and_constants_are_known_for_what_they_are():
    rng = np.random.default_rng(1)
    a, b, c = rng.standard_normal((3, 50))
    X = np.column_stack([a, a, b, 3 * a, np.full(50, 0.1), a + b, c])
    y = a + 2 * b + 0.3 * rng.standard_normal(50)
    for budget in (1, 2, 3):
        selector = BudgetedSelector(costs=1.0, budget=budget).fit(X, y)
        independent = [s for s in itertools.combinations([0, 2, 5, 6], budget) if not {0, 2, 5} <= set(s)]
        assert selector.status_ is Status.OPTIMAL
        assert selector.score_ == pytest.approx(max(explained(X, y, list(s)) for s in independent), abs=1e-9)


@pytest.mark.parametrize("wide", [False, True])
def test_many_columns_some_of_them_nearly_equal(wide):
    rng = np.random.default_rng(2)
    n, p = (50, 70) if wide else (200, 70)
    X = rng.standard_normal((n, p))
    X[:, 9] = X[:, 8] + 1e-6 * X[:, 40]
    y = X[:, 40] + 0.5 * X[:, 8] + 0.02 * rng.standard_normal(n)
    selector = BudgetedSelector(costs=1.0, budget=2, must_exclude=[40]).fit(X, y)
    assert selector.get_support(indices=True).tolist() == [8, 9]
    assert selector.bound_ is None or selector.bound_ >= selector.score_ == pytest.approx(explained(X, y, [8, 9]))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_claim_is_that_of_enumeration(seed):
    rng = np.random.default_rng(seed)
    p, n = int(rng.integers(3, 8)), int(rng.integers(10, 50))
    X = rng.standard_normal((n, p)) @ (np.eye(p) + rng.standard_normal((p, p)))
    if rng.random() < 0.7:
        at = rng.choice(p, 2, replace=False)
        X[:, at[1]] = X[:, at[0]] + 10.0 ** -rng.uniform(1, 9) * rng.standard_normal(n)
    X = X * 10.0 ** rng.integers(-3, 4, p)
    y = (X / X.std(axis=0)) @ rng.standard_normal(p) + rng.standard_normal(n)
    weights = rng.uniform(0.2, 3, n) if rng.random() < 0.5 else None
    costs = rng.integers(1, 6, p) * rng.choice([1.0, 0.1, 7_000_000_009])
    budget, least = costs.sum() * rng.uniform(0.3, 0.9), int(rng.integers(0, 2))
    within = [
        s
        for k in range(1, p + 1)
        for s in itertools.combinations(range(p), k)
        if costs[list(s)].sum() <= budget and len({0, 1} & set(s)) >= least
    ]
    if not within:
        return
    best = max(explained(X, y, list(s), weights) for s in within)
    selector = BudgetedSelector(costs=costs, budget=budget, at_least={(0, 1): least}, path=())
    selector.fit(X, y, sample_weight=weights)
    assert costs[selector.support_].sum() <= budget
    assert selector.score_ == pytest.approx(explained(X, y, np.flatnonzero(selector.support_), weights), abs=1e-6)
    assert selector.status_ is not Status.OPTIMAL or selector.score_ >= best - 1e-6
    assert selector.bound_ is None or selector.bound_ >= best - 1e-6


# -- several classes, and what the score is ----------------------------------------------------------------------------

MODELS = [
    {},
    {"C": np.inf},
    {"C": 0.1, "class_weight": "balanced"},
    {"fit_intercept": False},
]


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("options", MODELS)
def test_the_score_of_classes_is_the_deviance_explained_and_nothing_is_proved(classes, options):
    rng = np.random.default_rng(8)
    X = rng.standard_normal((150, 5))
    y = np.array(["a", "b", "c", "d"])[np.argmax(X[:, :classes] + rng.gumbel(size=(150, classes)), axis=1)]
    model = LogisticRegression(tol=1e-10, max_iter=10_000, **options)
    weights = rng.uniform(0.5, 2, 150)
    selector = BudgetedSelector(model, costs=1.0, budget=2).fit(X, y, sample_weight=weights)
    assert selector.status_ is Status.FEASIBLE
    assert selector.bound_ is None
    balanced = Model("gram", model, labels=True)
    own = balanced.weights(weights, y)
    for point in selector.path_:
        if point.support.any():
            fitted = model.fit(X[:, point.support], y, sample_weight=weights)
            share = d2_log_loss_score(y, fitted.predict_proba(X[:, point.support]), sample_weight=own)
            assert point.score == pytest.approx(share, abs=1e-5)
    assert selector.score_ in [point.score for point in selector.path_]


def test_several_classes_end_at_the_best_likelihood():
    rng = np.random.default_rng(4)
    found = 0
    for _ in range(8):
        X = rng.standard_normal((90, 5)) @ (np.eye(5) + 0.4 * rng.standard_normal((5, 5)))
        y = np.array(list("abc"))[np.argmax(X[:, :3] + rng.gumbel(size=(90, 3)), axis=1)]

        def likelihood(columns, X=X, y=y):
            model = LogisticRegression(tol=1e-9, max_iter=5000).fit(X[:, columns], y)
            shares = model.predict_proba(X[:, columns])[np.arange(90), np.searchsorted(model.classes_, y)]
            return 2 * np.log(shares).sum() - (model.coef_**2).sum()

        best = max(likelihood(list(pair)) for pair in itertools.combinations(range(5), 2))
        selector = BudgetedSelector(LogisticRegression(), costs=1.0, budget=2, path=()).fit(X, y)
        found += likelihood(np.flatnonzero(selector.support_)) >= best - 1e-3
    assert found >= 7


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("intercept", [True, False])
def test_the_score_of_least_squares_is_that_of_scikit_learn(outputs, intercept):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 5)) + 1.0
    y = X[:, :outputs] + [3.0, -2.0][:outputs] + rng.standard_normal((60, outputs))
    weights, model = rng.uniform(0.5, 2, 60), LinearRegression(fit_intercept=intercept)

    def score(columns):
        fitted = model.fit(X[:, columns], y, sample_weight=weights)
        return r2_score(y, fitted.predict(X[:, columns]), sample_weight=weights)

    best = max(score(list(pair)) for pair in itertools.combinations(range(5), 2))
    selector = BudgetedSelector(model, costs=1.0, budget=2).fit(X, y, sample_weight=weights)
    assert selector.status_ is Status.OPTIMAL
    assert selector.score_ == selector.bound_ == pytest.approx(best)
    for point in selector.path_:
        if point.support.any():
            assert point.score == pytest.approx(score(np.flatnonzero(point.support)))


# -- budgets -----------------------------------------------------------------------------------------------------------


def test_budgets_of_whole_numbers_are_kept_to_the_last_unit():
    rng = np.random.default_rng(6)
    X = rng.standard_normal((40, 6))
    y = X @ [5, 4, 3, 2, 0.1, 0.1] + 0.1 * rng.standard_normal(40)
    price = 3_000_000_007
    for n in (2, 3):
        for budget, most in ((n * price - 1, n - 1), (n * price, n)):
            assert BudgetedSelector(costs=[price] * 6, budget=budget).fit(X, y).support_.sum() == most
            shared = {"blood": dict.fromkeys(range(6), price)}
            assert BudgetedSelector(costs=price, budget=budget, discounted=shared).fit(X, y).support_.sum() == most


@pytest.mark.parametrize("unit", [1.0, 1e-13, 1e-40, 1e12])
def test_budgets_of_floats_are_kept_within_the_rounding_of_their_sum(unit):
    rng = np.random.default_rng(6)
    X = rng.standard_normal((40, 6))
    y = X @ [5, 4, 3, 2, 0.1, 0.1] + 0.1 * rng.standard_normal(40)
    assert 0.1 + 0.2 > 0.3
    costs = np.array([0.1, 0.2, 0.3, 0.3, 0.1, 0.1]) * unit
    for path in ((), "auto"):
        exactly = BudgetedSelector(costs=costs, budget=0.3 * unit, must_include=[0, 1], path=path).fit(X, y)
        assert exactly.support_.sum() == 2
        assert BudgetedSelector(costs=costs, budget=0.3 * unit * (1 - 1e-12), path=path).fit(X, y).support_.sum() == 2
        with pytest.raises(ValueError, match="cannot be met"):
            BudgetedSelector(costs=costs, budget=0.3 * unit * (1 - 1e-12), must_include=[0, 1]).fit(X, y)


def test_the_budget_of_a_point_of_the_path_buys_it():
    rng = np.random.default_rng(6)
    X = rng.standard_normal((40, 6))
    y = X @ [5, 4, 3, 2, 1, 1] + 0.1 * rng.standard_normal(40)
    costs = [7_000_000_009, 3, 10, 4_000_000_001, 7, 1_000_000_007]
    for point in BudgetedSelector(costs=costs, budget=12_000_000_020).fit(X, y).path_[:-1]:
        assert point.cost <= point.budget
        again = BudgetedSelector(costs=costs, budget=point.budget, path=()).fit(X, y)
        assert again.score_ >= point.score - 1e-9


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(-12, 12))
@pytest.mark.slow
def test_the_engine_ends_within_bounds_that_are_at_the_edge_of_rounding(seed, steps):
    rng = np.random.default_rng(seed)
    p = int(rng.integers(3, 8))
    space = ChoiceSpace.from_sizes([2] * p)
    prices, entry = np.round(rng.uniform(0.1, 1, p), 1), np.round(rng.uniform(0, 1, p), 1)
    row = rng.integers(0, 2, (1, p))
    sums = Additive(space, np.column_stack([np.zeros(p), prices]).ravel())
    shared = SharedCost(space, prices, entry, rng.permutation(np.arange(p) // 2))
    none = np.zeros(p, dtype=bool)
    gram = Gram.of(rng.standard_normal((30, p)), rng.standard_normal((30, 1)), [np.array([v]) for v in range(p)])
    for metric in (sums, shared):
        bound = float(metric.evaluate(row)[0])
        bound = max(bound + steps * np.spacing(bound), 0.0)
        limits = Limits(space, [metric <= bound], [], none, none)
        rows = [r for r in space.enumerate().astype(bool) if limits.holds(r)]
        found = solve(gram, limits, none)
        assert limits.holds(found.selected)
        assert found.status is Status.OPTIMAL
        assert found.score == pytest.approx(max(gram.explained(r) for r in rows), abs=1e-9)
        for selected in space.enumerate().astype(bool):  # prices differ by at least 0.1: rounding decides nothing
            only = np.column_stack([~selected, selected]).ravel()
            assert possible(space, limits_of(limits.constraints), only) is not None or not limits.holds(selected)
