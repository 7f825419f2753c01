"""The models behind `cggd.Model`, each against a slow oracle, and the searches that they guide."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

import cggd.improve.gaussian as gaussian
from cggd import (
    Additive,
    ChoiceSpace,
    Function,
    Invalid,
    Measurement,
    Model,
    Problem,
    Search,
    Status,
    find_feasible,
    maximize,
    minimize,
)
from cggd.improve.advisor import Advisor, linear_models, log_improvement
from cggd.improve.gaussian import (
    Bagged,
    Encoding,
    Gaussian,
    best_kernel,
    choices,
    first_kernel,
    fitted,
    positions,
    transforms,
)
from cggd.improve.measured import Measured
from cggd.rules import different, same
from cggd.testing import check_improver

SPACE = ChoiceSpace({"block": [16, 32, 64, 128], "tile": [1, 2, 3], "kind": ["a", "b", "c"]})


def data(n, seed=0):
    rng = np.random.default_rng(seed)
    rows = SPACE.enumerate()[rng.permutation(36)[:n]]
    return rows, rows[:, 0] + 0.5 * rows[:, 1] ** 2 + (rows[:, 2] == 1) * rows[:, 0] + 0.1 * rng.standard_normal(n)


def slow_covariance(kernel, one, other):
    """The covariance of two selections, from its definition."""
    additive = distance = 0.0
    for feature, weight, rate in zip(kernel.encoding.features, kernel.weights, kernel.rates, strict=True):
        a, b = one[feature.decision], other[feature.decision]
        additive += weight * feature.near[a, b]
        distance += rate * feature.far[a, b]
    return 1.0 + additive + kernel.product * np.exp(-distance)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(4, 25), seed=st.integers(0, 20))
def test_the_gaussian_process_is_that_of_the_textbook(n, seed):
    rows, values = data(n, seed)
    rng = np.random.default_rng(seed)
    kernel = first_kernel(Encoding.of(SPACE))
    kernel = gaussian.replace(kernel, parameters=kernel.parameters + rng.normal(0, 1, len(kernel.parameters)))
    model, new = Gaussian(kernel, rows, values), SPACE.enumerate()[rng.permutation(36)[:5]]
    K = np.array([[slow_covariance(kernel, a, b) for b in rows] for a in rows])
    K += (kernel.noise + 1e-8) * np.eye(n)
    k = np.array([[slow_covariance(kernel, a, b) for b in rows] for a in new])
    own = np.array([[slow_covariance(kernel, a, b) for b in new] for a in new])
    standard = (values - values.mean()) / values.std()
    np.testing.assert_allclose(model.mean(new), k @ np.linalg.solve(K, standard), atol=1e-6)
    covariance = own - k @ np.linalg.solve(K, k.T)
    np.testing.assert_allclose(model.covariance(new), covariance, atol=1e-6)
    if kernel.product > gaussian.NEGLIGIBLE:
        # Options of one label are similar to themselves, so that the prior variance is the same everywhere.
        np.testing.assert_allclose(model.variance(new), np.maximum(np.diag(covariance), 1e-12), atol=1e-6)


def test_the_fit_follows_the_gradient_of_the_likelihood(monkeypatch):
    rows, values = data(20)
    caught = []
    monkeypatch.setattr(gaussian, "optimize", lambda cost, x, **how: caught.append((cost, x)) or Found(x, cost(x)[0]))

    class Found:
        def __init__(self, x, fun):
            self.x, self.fun = x, fun

    kernel = first_kernel(Encoding.of(SPACE))
    fitted(kernel, rows, transforms(values)["linear"].of(values), 0.0)
    cost, start = caught[0]
    start = start + np.random.default_rng(0).normal(0, 0.3, len(start))
    _, gradient = cost(start)
    for i in range(len(start)):
        step = np.zeros(len(start))
        step[i] = 1e-5
        slope = (cost(start + step)[0] - cost(start - step)[0]) / 2e-5
        assert gradient[i] == pytest.approx(slope, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("better", [-1, 0, 1])
def test_a_sum_is_learnt_exactly_from_as_many_measurements_as_it_has_numbers(better):
    space = ChoiceSpace.from_sizes([5] * 6)
    rng = np.random.default_rng(0)
    metric = Additive(space, rng.normal(size=30))
    rows = space.sample(60, rng)
    values = metric.evaluate(rows)
    model = Gaussian(best_kernel(Encoding.of(space), rows, values, None, choices(better)), rows, values)
    new = space.sample(100, rng)
    wanted = model.transform.of(metric.evaluate(new))
    assert np.abs(model.mean(new) - wanted).max() < 0.05
    ((weights, constant, error),) = linear_models(one_hot_rows(space, rows), values[:, None])
    assert error < 1e-5
    np.testing.assert_allclose(one_hot_rows(space, new) @ weights + constant, metric.evaluate(new), atol=1e-4)


def one_hot_rows(space, rows):
    out = np.zeros((len(rows), space.n_options))
    np.put_along_axis(out, space.layout.flat(rows), 1.0, axis=1)
    return out


@given(st.integers(5, 30), st.integers(0, 5))
def test_linear_models_leave_one_out_as_refitting_does(n, seed):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(n, 4)), rng.normal(size=n)
    ((_, _, error),) = linear_models(X, y[:, None])
    best = np.inf
    for strength in (1e-6, 1e-2, 0.1, 1.0, 10.0):
        residuals = []
        for i in range(n):
            keep = np.arange(n) != i
            centre, mean = X[keep].mean(axis=0), y[keep].mean()
            C = X[keep] - centre
            w = np.linalg.solve(C.T @ C + strength * np.eye(4), C.T @ (y[keep] - mean))
            residuals.append(y[i] - mean - (X[i] - centre) @ w)
        best = min(best, float(np.sqrt(np.mean(np.square(residuals)))))
    assert error == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("z", [-30.0, -8.0, -5.0, -4.999, -2.0, 0.0, 1.5, 6.0])
def test_expected_improvement(z):
    exact = quad(lambda x: (z - x) * norm.pdf(x), -40, z, epsabs=0, points=[z - 1])[0] if z > -6 else None
    value = float(log_improvement(np.array([z]))[0])
    if exact is not None:
        assert value == pytest.approx(np.log(exact), abs=0.02)
    assert np.isfinite(value)
    assert log_improvement(np.array([z + 0.01]))[0] > value - 1e-2


@pytest.mark.parametrize("better", [-1, 1])
@pytest.mark.parametrize("shift", [0.0, -2.0])
def test_the_worse_half_is_compressed_and_the_better_half_is_not(better, shift):
    values = np.geomspace(1, 1000, 21) + shift
    assert choices(0) == ["linear", "logarithmic", "bent"]
    _, name = choices(better)
    base = transforms(values)["logarithmic" if shift == 0 else "linear"].of(values)
    ratio = np.diff(transforms(values)[name].of(values)) / np.diff(base)
    good = ratio[10:] if better > 0 else ratio[:10]
    bad = ratio[:10] if better > 0 else ratio[10:]
    np.testing.assert_allclose(good, good[0])
    assert (bad < good[0]).all()


@given(st.lists(st.integers(2, 30), min_size=1, max_size=6), st.integers(0, 5))
def test_the_design_measures_options_about_equally_often(sizes, seed):
    space = ChoiceSpace.from_sizes(sizes)
    metric = Function(space, lambda s: 0.0, costly=True)
    advisor = Advisor(Problem(metric), np.random.default_rng(seed), design=8)
    rows = advisor.ask(8, np.inf)
    assert len(np.unique(rows, axis=0)) == len(rows) == min(8, int(np.prod(sizes)))
    if np.prod(sizes) >= 100:
        for d, size in enumerate(np.minimum(sizes, 8)):
            used = np.bincount(rows[:, d] * size // sizes[d], minlength=size)
            assert used.max() - used.min() <= 3


@given(st.integers(0, 25), st.integers(0, 20))
def test_failures_of_pairs_are_counted_as_one_would(n, seed):
    rows, _ = data(n, seed)
    rng = np.random.default_rng(seed)
    metric = Function(SPACE, lambda s: 0.0, costly=True)
    measured = Measured([metric], 3)
    measured.add(rows)
    measured.values[:, 0] = np.where(rng.random(n) < 0.6, np.inf, 1.0)
    for row, found in zip(SPACE.enumerate(), measured.failures(SPACE.enumerate(), SPACE.sizes), strict=True):
        numbers = [0]
        for a, b in itertools.combinations(range(3), 2):
            alike = (rows[:, [a, b]] == row[[a, b]]).all(axis=1)
            numbers.append(int(alike.sum()) if np.isinf(measured.values[alike, 0]).all() else 0)
        assert found == max(numbers)


def test_drawn_parameters_scatter_around_the_fitted_ones():
    kernel = first_kernel(Encoding.of(SPACE))
    rng = np.random.default_rng(0)
    changes = np.stack([kernel.drawn(rng).parameters for _ in range(2000)]) - kernel.parameters
    n = int(kernel.encoding.groups.max()) + 1
    (means, deviations), noise = zip(*gaussian.DRAWN, strict=True), changes[:, -1]
    np.testing.assert_allclose(changes.mean(axis=0)[:-1], np.repeat(means, [n, n, 1]), atol=0.1)
    np.testing.assert_allclose(changes.std(axis=0)[:-1], np.repeat(deviations, [n, n, 1]), atol=0.1)
    assert not noise.any()


@given(st.lists(st.floats(0.01, 1e6), min_size=8, max_size=30, unique=True))
def test_transformations_keep_the_order(numbers):
    values = np.sort(np.array(numbers))
    for transform in transforms(values).values():
        shown = transform.of(values)
        assert np.isfinite(shown).all()
        assert (np.diff(shown) >= 0).all()
        assert np.isfinite(transform.slopes)


def test_slopes_are_those_of_differences():
    values = np.exp(np.random.default_rng(0).normal(0, 2, 30))
    for transform in transforms(values).values():
        steps = transform.of(values * (1 + 1e-6)) - transform.of(values * (1 - 1e-6))
        assert np.log(steps / (2e-6 * values)).sum() == pytest.approx(transform.slopes, abs=1e-4)


def test_labels_are_on_the_scale_of_more_equal_steps():
    assert positions([1, 10, 100]).tolist() == pytest.approx([0, 0.5, 1])
    assert positions([0, 8, 16]).tolist() == pytest.approx([0, 0.5, 1])
    assert positions([3, 1, 2]).tolist() == pytest.approx([1, 0, 0.5])
    assert positions(["1", "2", "3"]) is None
    assert positions([True, False, 2]) is None
    assert positions([1, 2]) is None


# -- searches ---------------------------------------------------------------------------------------------------------


def knapsack(n=12, options=6, seed=0):
    rng = np.random.default_rng(seed)
    space = ChoiceSpace.from_sizes([options] * n)
    value, weights = rng.integers(1, 60, space.n_options), rng.integers(1, 40, (2, space.n_options))

    def run(selection):
        flat = space.layout.flat(space.indices(selection))
        return {"value": float(value[flat].sum()), "w0": float(weights[0, flat].sum()),
                "w1": float(weights[1, flat].sum())}  # fmt: skip

    bench = Measurement(space, run, ["value", "w0", "w1"])
    bounds = [Additive(space, w) <= 0.42 * 40 * n for w in weights]
    exact = maximize(Additive(space, value), bounds)
    return bench, [bench[f"w{i}"] <= 0.42 * 40 * n for i in range(2)], exact.value


@pytest.mark.slow
def test_a_knapsack_measured_as_a_black_box():
    for seed in range(3):
        bench, bounds, best = knapsack(seed=seed)
        result = maximize(bench["value"], bounds, max_evaluations=120, seed=seed)
        assert result.value >= 0.99 * best


def rough(space, seed):
    rng = np.random.default_rng(seed)
    tables = {(i, j): rng.normal(size=(space.sizes[i], space.sizes[j]))
              for i, j in itertools.combinations(range(space.n_decisions), 2)}  # fmt: skip

    def f(selection):
        row = space.indices(selection)
        return float(sum(t[row[i], row[j]] for (i, j), t in tables.items()))

    return f


@pytest.mark.slow
def test_it_is_ahead_of_random_search():
    space = ChoiceSpace.from_sizes([4] * 6)
    ahead = 0
    for seed in range(5):
        f = rough(space, seed)
        found = minimize(Function(space, f, costly=True, name="f"), max_evaluations=60, seed=seed).value
        drawn = min(f(space.labels(row)) for row in space.sample(60, np.random.default_rng(seed)))
        ahead += found < drawn
    assert ahead >= 4


def test_it_learns_where_selections_are_invalid():
    space = ChoiceSpace({d: [1, 2, 4, 8, 16] for d in "abcd"})

    def run(s):
        if s["a"] * s["b"] > 32 or s["c"] * s["d"] > 16:
            raise Invalid("too large")
        return {"time": 100 / (s["a"] * s["b"] * s["c"] * s["d"])}

    bench = Measurement(space, run, ["time"])
    result = minimize(bench["time"], max_evaluations=60)
    assert result.value == 100 / 512


def test_tight_cheap_bounds_that_random_selections_break():
    space = ChoiceSpace.from_sizes([8] * 20)
    rng = np.random.default_rng(0)
    size = Additive(space, rng.integers(1, 100, space.n_options), name="size")
    bound = size.minimum() + 30
    metric = Function(space, lambda s: float(sum(s.values())), costly=True, name="f")
    result = minimize(metric, [size <= bound], max_evaluations=15)
    assert result.feasible
    assert result.evaluations == 15


def test_forbidden_options_are_never_measured():
    seen = []
    metric = Function(SPACE, lambda s: seen.append(s) or float(s["block"]), costly=True, name="f")
    minimize(metric, forbid={"kind": ["a"], "block": [16]}, max_evaluations=15)
    assert all(s["kind"] != "a" and s["block"] != 16 for s in seen)


def test_an_initial_selection_is_measured_first():
    seen = []
    metric = Function(SPACE, lambda s: seen.append(s) or float(s["block"]), costly=True, name="f")
    minimize(metric, initial=[2, 1, 1], max_evaluations=5)
    assert seen[0] == {"block": 64, "tile": 2, "kind": "b"}


def test_the_same_seed_measures_the_same():
    def course(seed):
        seen = []
        metric = Function(SPACE, lambda s: seen.append(tuple(s.values())) or float(s["block"]), costly=True, name="f")
        minimize(metric, max_evaluations=18, seed=seed)
        return seen

    assert course(3) == course(3) != course(4)


@pytest.mark.slow
def test_a_regressor_of_your_own():
    sklearn = pytest.importorskip("sklearn.ensemble")
    space = ChoiceSpace.from_sizes([4] * 5)
    f = rough(space, 1)
    best = min(f(space.labels(row)) for row in space.enumerate())
    regressor = sklearn.RandomForestRegressor(20, random_state=0)
    metric = Function(space, f, costly=True, name="f")
    result = minimize(metric, max_evaluations=50, improvers=[Model(regressor=regressor)])
    assert result.value <= best + 0.5 * abs(best)
    model = Bagged(regressor, Encoding.of(space), space.enumerate()[:40], np.arange(40.0), np.random.default_rng(0))
    covariance = model.covariance(space.enumerate()[:6])
    np.testing.assert_allclose(np.diag(covariance), model.variance(space.enumerate()[:6]))


def test_a_batch_is_diverse_and_new():
    metric = Function(SPACE, lambda s: float(s["block"]), costly=True, name="f")
    advisor = Advisor(Problem(metric), np.random.default_rng(0))
    seen = set()
    while len(asked := advisor.ask(5, np.inf)):
        rows = {tuple(row) for row in asked.tolist()}
        assert len(rows) == len(asked)
        assert not rows & seen
        seen |= rows
        for row in asked:
            metric(row)
    assert len(seen) == 36


def test_the_laws_of_improvers():
    calls = []
    metric = Function(SPACE, lambda s: calls.append(s) or float(s["block"] + s["tile"]), costly=True, name="f")
    check_improver(Model(evaluations=40), Problem(metric, [Additive(SPACE, np.arange(10.0)) <= 14]))


def test_without_a_limit_it_ends_after_its_own_number():
    metric = Function(ChoiceSpace.from_sizes([6] * 5), lambda s: float(sum(s.values())), costly=True, name="f")
    result = minimize(metric, improvers=[Model(evaluations=20)])
    assert result.evaluations == 20
    assert result.status is Status.FEASIBLE


NINE = ChoiceSpace({"a": [1, 2, 3], "b": [1, 2, 3]})
MANY = ChoiceSpace({f"p{i}": list(range(9)) for i in range(9)})
EVEN = Additive(MANY, [2.0 * (i % 9) for i in range(81)], name="even")


@pytest.mark.parametrize("seed", range(3))
def test_what_is_known_of_one_costly_metric_is_measured_for_another(seed):
    table = np.random.default_rng(seed).integers(0, 50, (2, 4, 4)).astype(float)

    def metrics():
        return [Function(NINE, lambda s, t=t: t[s["a"], s["b"]], costly=True, name="f") for t in table]

    f, g = metrics()
    assert minimize(f).status is Status.OPTIMAL
    result = minimize(g, [f <= 30])
    oracle = [table[1, a, b] for a, b in itertools.product([1, 2, 3], repeat=2) if table[0, a, b] <= 30]
    assert result.status is (Status.OPTIMAL if oracle else Status.INFEASIBLE)
    assert result.value == (min(oracle) if oracle else None)
    assert result.evaluations <= len(oracle)  # the others are known to break the bound
    f, g = metrics()
    minimize(f)
    assert minimize(f + g).value == table[:, 1:, 1:].sum(axis=0).min()


@pytest.mark.parametrize(
    "contradiction",
    [
        [different("*"), same(["p0", "p1"])],
        [EVEN <= 7.5, EVEN >= 6.5],
    ],
)
def test_cheap_bounds_that_contradict_are_proved_without_a_call(contradiction):
    metric = Function(MANY, lambda s: pytest.fail("called"), costly=True, name="f")
    for result in (minimize(metric, contradiction), find_feasible([metric <= 3, *contradiction])):
        assert result.status is Status.INFEASIBLE
    search = Search(metric, contradiction)
    assert search.ask(3) == []
    assert search.result().status is Status.INFEASIBLE


def test_rules_that_few_selections_satisfy_are_no_contradiction():
    metric = Function(MANY, lambda s: float(s["p0"]), costly=True, name="f")
    result = minimize(metric, [different("*"), EVEN <= 72], max_evaluations=10)
    assert result.feasible
    assert len(set(result.selection.values())) == 9


def test_a_result_before_anything_is_told_measures_nothing():
    bench = Measurement(NINE, None, ["t"])
    assert Search(bench["t"]).result().status is Status.UNKNOWN
    search = Search(bench["t"], [bench["t"] <= 2], forbid={"a": [1]})
    for told, value in [({"a": 1, "b": 1}, 1.0), ({"a": 2, "b": 1}, 5.0)]:
        search.tell(told, {"t": value})
        assert search.result().status is Status.UNKNOWN
    search.tell({"a": 3, "b": 1}, {"t": 2.0})
    assert search.result().value == 2.0
