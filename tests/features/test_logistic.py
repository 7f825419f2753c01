import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from cggd import Additive, ChoiceSpace
from cggd.testing import check_metric
from cggd_features import BudgetedSelector
from cggd_features.limits import Limits
from cggd_features.logistic import Likelihood, solve


def problem(seed, m=7, n=150):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, m)) @ (np.eye(m) + 0.5 * rng.standard_normal((m, m)))
    y = (X @ rng.standard_normal(m) + 1.5 * rng.standard_normal(n) > 0).astype(float)
    return X, y, rng


def likelihood_of(X, y, weights=None, alpha=0.0, intercept=True):
    space = ChoiceSpace.from_sizes([2] * X.shape[1])
    columns = [np.array([v]) for v in range(X.shape[1])]
    return Likelihood(space, columns, X, y, np.ones(len(y)) if weights is None else weights, alpha, intercept)


def deviance(model, X, y, weights):
    return -2 * weights @ np.log(model.predict_proba(X)[np.arange(len(y)), y.astype(int)])


@pytest.mark.parametrize("alpha", [0.0, 3.0])
@pytest.mark.parametrize("intercept", [True, False])
def test_the_likelihood_is_that_of_scikit_learn(alpha, intercept):
    X, y, rng = problem(1)
    weights = rng.uniform(0.5, 2, len(y))
    metric = likelihood_of(X, y, weights, alpha, intercept)
    share = weights @ y / weights.sum() if intercept else 0.5
    null = -2 * weights @ np.log(np.where(y == 1, share, 1 - share))
    for chosen in ([0], [1, 4, 6], range(7)):
        selected = np.isin(np.arange(7), list(chosen))
        model = LogisticRegression(
            C=1 / alpha if alpha else np.inf, tol=1e-10, max_iter=10_000, fit_intercept=intercept
        )
        model.fit(X[:, selected], y, sample_weight=weights)
        misfit = deviance(model, X[:, selected], y, weights) + alpha * (model.coef_**2).sum()
        assert metric.value(selected) == pytest.approx(1 - misfit / null, abs=1e-6)
    thin = likelihood_of(sparse.csr_array(X), y, weights, alpha, intercept)
    assert thin.value(selected) == pytest.approx(metric.value(selected), abs=1e-9)
    check_metric(metric, n=3)


def test_separable_classes_end():
    X = np.linspace(-1, 1, 20)[:, None]
    assert likelihood_of(X, (X[:, 0] > 0).astype(float)).value(np.array([True])) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_the_optimum_of_enumeration_is_found(seed):
    X, y, rng = problem(seed)
    metric = likelihood_of(X, y)
    costs = rng.integers(1, 9, 7)
    cost = Additive(metric.space, np.column_stack([np.zeros(7), costs]).ravel())
    none = np.zeros(7, dtype=bool)
    for budget in (6, 12, 20):
        limits = Limits(metric.space, [cost <= budget], [], none, none)
        optimum = max(metric.value(row) for row in metric.space.enumerate().astype(bool) if limits.holds(row))
        found = solve(metric, limits, none)
        assert found.score == pytest.approx(optimum, abs=1e-9)
        assert limits.holds(found.selected)


def test_a_criterion_leaves_noise_out():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 30))
    y = np.where(X[:, 3] + X[:, 17] + rng.standard_normal(400) > 0, "ill", "well")
    kept = BudgetedSelector(costs=1, budget=30, criterion="ebic").fit(X, y)
    assert kept.get_support(indices=True).tolist() == [3, 17]
    assert kept.total_cost_ == 2
    assert BudgetedSelector(costs=1, budget=30).fit(X, y).support_.all()


def test_several_classes_and_class_weights():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 8))
    y = np.argmax(X[:, [1, 4, 6]] + 0.3 * rng.standard_normal((300, 3)), axis=1)
    selector = BudgetedSelector(LogisticRegression(class_weight="balanced"), costs=1, budget=3).fit(X, y)
    assert selector.get_support(indices=True).tolist() == [1, 4, 6]
    few = (y > 0) & (rng.random(300) < 0.2) | (y == 0)
    labels = np.array(["a", "b", "c"])[y]
    selector.set_params(budget=2).fit(X[few], labels[few])
    assert selector.support_.sum() == 2
