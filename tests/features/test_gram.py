"""Closed forms against refits."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.linear_model import LinearRegression, Ridge

from cggd import ChoiceSpace
from cggd.testing import check_metric, check_state
from cggd_features.gram import Gram
from cggd_features.least_squares import Fit, LeastSquares


@st.composite
def problems(draw):
    """Data with blocks of columns, some of them constant or copies of others, and one or two outputs."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = draw(st.lists(st.integers(1, 3), min_size=2, max_size=6))
    p, n = sum(sizes), draw(st.integers(3, 40))
    X = rng.standard_normal((n, p)) @ (np.eye(p) + 0.5 * rng.standard_normal((p, p)))
    for column in draw(st.sets(st.integers(0, p - 1), max_size=2)):
        X[:, column] = draw(st.sampled_from([1.0, 7.0])) if draw(st.booleans()) else X[:, (column + 1) % p]
    order, ends = rng.permutation(p), np.cumsum(sizes)
    columns = [np.sort(order[end - size : end]) for end, size in zip(ends, sizes, strict=True)]
    weights = draw(st.sampled_from([None, "random"]))
    return (
        X,
        rng.standard_normal((n, draw(st.integers(1, 2)))),
        columns,
        None if weights is None else rng.uniform(0.5, 2, n),
    )


def refitted(X, y, columns, selected, weights=None, alpha=0.0):
    """R^2 of a fresh fit, the ridge penalty counted as an error, averaged over outputs."""
    w = np.ones(len(y)) if weights is None else weights
    chosen = [columns[v] for v in np.flatnonzero(selected)]
    if not chosen:
        return 0.0
    Z = X[:, np.concatenate(chosen)]
    model = (Ridge(alpha, solver="cholesky") if alpha else LinearRegression()).fit(Z, y, sample_weight=w)
    wrong = w @ (y - model.predict(Z).reshape(y.shape)) ** 2 + alpha * (np.atleast_2d(model.coef_) ** 2).sum(axis=1)
    return float(np.mean(1 - wrong / (w @ (y - w @ y / w.sum()) ** 2)))


@settings(max_examples=40, deadline=None)
@given(problems(), st.sampled_from([0.0, 2.5]), st.integers(0, 2**6 - 1))
def test_values_and_all_changes_are_those_of_refits(problem, alpha, bits):
    X, y, columns, weights = problem
    gram = Gram.of(X, y, columns, weights=weights, alpha=alpha)
    selected = np.array([bool(bits >> v & 1) for v in range(len(columns))])

    def after(*variables):
        other = selected.copy()
        other[list(variables)] ^= True
        return pytest.approx(refitted(X, y, columns, other, weights, alpha), abs=1e-6)

    fit = Fit.at(gram, selected)
    assert fit.value == after()
    assert gram.explained(selected) == pytest.approx(fit.value, abs=1e-9)
    out, change = fit.swaps()
    for v in range(len(columns)):
        if not selected[v]:
            assert fit.value + fit.gains[v] == after(v)
        elif not fit.dependent:
            assert fit.value - fit.losses[v] == after(v)
        for row, u in enumerate(out):
            if not selected[v] and not fit.dependent:
                assert fit.value + change[row, v] == after(u, v)


@settings(max_examples=30, deadline=None)
@given(problems(), st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_updated_fits_are_those_computed_anew(problem, switches):
    X, y, columns, weights = problem
    gram = Gram.of(X, y, columns, weights=weights)
    fit = Fit.at(gram, np.zeros(len(columns), dtype=bool))
    light = fit.light
    assert fit.rows.shape == (0, len(gram.matrix))  # so that `fit` updates its rows, and `light` has none
    for v in switches:
        v %= len(columns)
        fit, light = (one.minus(v) if one.selected[v] else one.plus(v) for one in (fit, light))
        anew, after = Fit.at(gram, fit.selected), replace(light)
        for one in (fit, light):
            assert one.value == pytest.approx(anew.value, abs=1e-7)
        if not anew.dependent:
            for one in (fit, after):
                np.testing.assert_allclose(one.gains, anew.gains, atol=1e-6)
                np.testing.assert_allclose(one.losses, anew.losses, atol=1e-6)
    others = np.flatnonzero(~fit.selected)
    part = fit.remainder(others)
    np.testing.assert_allclose(part.gains, fit.gains[others], atol=1e-6)
    for at, v in enumerate(others[:3].tolist()):
        part, fit = part.plus(at), fit.plus(v)
    assert fit.value == pytest.approx(anew.value + part.value, abs=1e-6)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("block", [1, 25, 80])
def test_swaps_in_blocks_are_those_at_once(size, block, monkeypatch):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 12 * size)), rng.standard_normal((40, 2))
    fit = Fit.at(Gram.of(X, y, list(np.arange(12 * size).reshape(12, size))), np.arange(12) % 3 > 0)
    out, change = fit.swaps()
    monkeypatch.setattr("cggd_features.least_squares.BLOCK", block)
    again, changed = fit.swaps()
    np.testing.assert_array_equal(out, again)
    np.testing.assert_allclose(change, changed, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(problems())
def test_the_metric_keeps_the_laws(problem):
    X, y, columns, weights = problem
    check_metric(LeastSquares(ChoiceSpace.from_sizes([2] * len(columns)), Gram.of(X, y, columns, weights=weights)), n=4)


@settings(max_examples=30, deadline=None)
@given(problems(), st.integers(0, 99))
def test_a_fit_that_moves_is_the_metric_where_it_stands(problem, seed):
    X, y, columns, weights = problem
    space = ChoiceSpace.from_sizes([2] * len(columns))
    check_state(LeastSquares(space, Gram.of(X, y, columns, weights=weights)), n=6, seed=seed)


def test_moves_can_be_undone_to_the_last_digit():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 9)), rng.standard_normal((60, 1))
    metric = LeastSquares(ChoiceSpace.from_sizes([2] * 9), Gram.of(X, y, [np.array([c]) for c in range(9)]))
    state = metric.state(np.zeros(9, dtype=np.int64))
    before = state.table()
    for variable in range(9):
        state.move([(variable, 1)])
    for _ in range(9):
        state.undo()
    np.testing.assert_array_equal(state.table(), before)
    with pytest.raises(IndexError, match="no move to undo"):
        state.undo()


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0, 1e6])
def test_means_may_be_taken_off_products_or_columns(shift):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((80, 6)) + shift * rng.standard_normal(6), rng.standard_normal((80, 1))
    X[:, 5] *= 0.0 if shift == 3.0 else 1.0
    columns = [np.array([c]) for c in range(6)]
    for weights in (None, rng.uniform(0.5, 2, 80)):
        gram = Gram.of(X, y, columns, weights=weights)
        for bits in range(0, 64, 7):
            selected = np.array([bool(bits >> v & 1) for v in range(6)])
            assert gram.explained(selected) == pytest.approx(refitted(X, y, columns, selected, weights), abs=1e-9)


def test_sparse_data_give_the_same():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 5)) * (rng.random((30, 5)) < 0.4)
    y, columns = rng.standard_normal((30, 1)), [np.array([c]) for c in range(5)]
    for weights in (None, rng.uniform(0.5, 2, 30)):
        for intercept in (True, False):
            how = {"weights": weights, "intercept": intercept}
            dense, thin = Gram.of(X, y, columns, **how), Gram.of(sparse.csr_array(X), y, columns, **how)
            np.testing.assert_allclose(dense.matrix, thin.matrix, atol=1e-12)
            np.testing.assert_allclose(dense.target, thin.target, atol=1e-12)


def test_data_are_left_alone_and_units_do_not_matter():
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((40, 4)), rng.standard_normal((40, 1))
    kept, columns = X.copy(), [np.array([0, 1]), np.array([2]), np.array([3])]
    small = Gram.of(X, y, columns)
    np.testing.assert_array_equal(X, kept)
    large = Gram.of(X * [1e6, 1e-6, 3, 1] + [5, 0, 1e3, 0], y * 1e4, columns)
    for bits in range(8):
        selected = np.array([bool(bits >> v & 1) for v in range(3)])
        assert small.explained(selected) == pytest.approx(large.explained(selected), abs=1e-8)
