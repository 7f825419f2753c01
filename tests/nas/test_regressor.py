import numpy as np
import pytest

from cggd import Additive, ChoiceSpace, Function, Predicted
from cggd.metrics import one_hot, values_of
from cggd_nas.regressor import Ridge, fit_regressor

SPACE = ChoiceSpace.from_sizes([3, 4, 2, 3, 5])


def pairs_of(space, rows):
    """Indicators of options, and of pairs of options of different decisions, by loops."""
    ones = one_hot(space, rows)
    owner = space.layout.owner
    columns = [ones[:, i] * ones[:, j] for i in range(space.n_options) for j in range(i) if owner[i] != owner[j]]
    return np.column_stack([ones, *columns])


@pytest.mark.parametrize("pairs", [False, True])
def test_the_dual_form_is_ridge_regression_on_written_out_features(pairs):
    rng = np.random.default_rng(0)
    rows, other = SPACE.sample(40, rng), SPACE.sample(10, rng)
    values = rng.normal(size=40)
    model = Ridge.fitted(one_hot(SPACE, rows), values, pairs=pairs)
    features = (lambda r: pairs_of(SPACE, r)) if pairs else (lambda r: one_hot(SPACE, r))
    X = features(rows)
    centred = values - values.mean()
    # the penalty that was chosen, from the weights: (K + penalty) weights = centred
    penalty = float(np.median((centred - X @ X.T @ model.weights) / model.weights))
    primal = np.linalg.solve(X.T @ X + penalty * np.eye(X.shape[1]), X.T @ centred)
    np.testing.assert_allclose(
        model.predict(one_hot(SPACE, other)), features(other) @ primal + values.mean(), rtol=1e-5
    )


def test_additive_metrics_are_learnt_exactly():
    metric = Additive(SPACE, np.random.default_rng(0).normal(size=SPACE.n_options), name="latency", unit="ms")
    fitted = fit_regressor(metric, samples=100, pairs=False)
    assert fitted.rmse < 1e-5
    assert fitted.kendall > 0.99
    assert str(fitted).startswith("latency: held-out RMSE ")


def test_products_of_neighbours_need_pairs():
    sizes = np.array([1.0, 2, 4, 8, 16])
    metric = Function(SPACE, lambda rows: (sizes[rows[:, :-1]] * sizes[rows[:, 1:]]).sum(1), batch=True, unit="MMAC")
    alone, paired = (fit_regressor(metric, samples=250, pairs=pairs) for pairs in (False, True))
    assert paired.rmse < 0.3 * alone.rmse
    assert paired.kendall > alone.kendall


def test_the_error_is_that_of_networks_not_trained_on():
    """On pure noise no error but the held-out one shows that nothing was learnt."""
    rng = np.random.default_rng(1)
    noise = dict(zip(map(bytes, SPACE.enumerate()), rng.normal(size=SPACE.n_selections), strict=True))
    metric = Function(SPACE, lambda rows: np.array([noise[bytes(r)] for r in rows]), batch=True)
    with pytest.warns(UserWarning, match=r"is weak: its error on 40 held-out networks is (\d\.\d+)"):
        fitted = fit_regressor(metric, samples=200)
    assert fitted.rmse > 0.7
    assert abs(fitted.kendall) < 0.3
    assert (fitted.n_train, fitted.n_test) == (160, 40)


def test_the_regressor_is_a_metric_with_name_and_unit_of_what_it_learnt():
    metric = Additive(SPACE, np.arange(SPACE.n_options), name="latency", unit="ms")
    fitted = fit_regressor(metric, samples=60, seed=3)
    assert isinstance(fitted.metric, Predicted)
    assert (fitted.metric.name, fitted.metric.unit) == ("latency", "ms")
    again = fit_regressor(metric, samples=60, seed=3, name="guess")
    rows = SPACE.enumerate()
    assert np.array_equal(values_of(fitted.metric, rows), values_of(again.metric, rows))
    assert again.metric.name == "guess"
    assert str(fitted.metric <= 5) == "latency <= 5 ms"


def test_small_spaces_are_used_up_and_too_small_ones_refused():
    small = ChoiceSpace.from_sizes([2, 3])
    assert fit_regressor(Additive(small, range(5)), samples=50).n_train == 5
    with pytest.raises(ValueError, match="the space has 2 selections, too few"):
        fit_regressor(Additive(ChoiceSpace.from_sizes([2]), [1, 2]))


def test_constant_metrics_have_no_rank_correlation():
    assert np.isnan(fit_regressor(Additive(SPACE, np.zeros(SPACE.n_options)), samples=50).kendall)


@pytest.mark.parametrize(("argument", "value"), [("held_out", 0), ("held_out", 1.0), ("samples", 1), ("seed", -1)])
def test_wrong_arguments(argument, value):
    with pytest.raises(ValueError, match=argument):
        fit_regressor(Additive(SPACE, np.arange(SPACE.n_options)), **{argument: value})
    with pytest.raises(TypeError, match="metric must be a Metric, got"):
        fit_regressor(Additive(SPACE, np.arange(SPACE.n_options)) <= 3)
