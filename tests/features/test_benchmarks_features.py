"""The benchmark of feature selection: its fast criteria against slow ones, its baselines against their definitions."""

from dataclasses import replace
from importlib.util import find_spec
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_selection import SequentialFeatureSelector
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import cross_val_score

from benchmarks import __main__ as runner
from benchmarks.features import compare, data, exact, greedy, logistic, methods, ours, rankings, report, sequential
from benchmarks.features.compare import Row, Task
from benchmarks.features.least_squares import LeastSquares
from benchmarks.features.logistic import CrossValidatedAUC
from benchmarks.features.problem import Costs, Problem

needs_data = pytest.mark.skipif(data.folder() is None, reason="the shared data sets are not there (CGGD_DATA)")


def table(n=80, p=6, seed=0, *, duplicate=False):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    if duplicate:
        X[:, -1] = X[:, 0]
    return X, X @ rng.normal(size=p) + rng.normal(size=n)


def problem(budget=4.0, *, task="regression", costs=None, seed=0, p=6):
    X, y = table(p=p, seed=seed)
    y = y if task == "regression" else (y > 0).astype(float)
    costs = Costs.additive(np.arange(1.0, p + 1)) if costs is None else costs
    return Problem(data.standardised(X), y, costs, budget, task)


def every(p):
    return np.array(list(product([False, True], repeat=p)))


@st.composite
def all_costs(draw, p=6):
    prices = np.array(draw(st.lists(st.integers(0, 9), min_size=p, max_size=p)), dtype=float)
    group = np.array(draw(st.lists(st.integers(-1, 1), min_size=p, max_size=p)))
    surcharge = np.array(draw(st.lists(st.integers(0, 9), min_size=2, max_size=2)), dtype=float)
    return Costs(prices, group, surcharge)


@given(all_costs(), st.lists(st.booleans(), min_size=6, max_size=6).map(np.array))
def test_costs_by_a_loop(costs, support):
    def total(support):
        bought = {group for group, kept in zip(costs.group.tolist(), support, strict=True) if kept and group >= 0}
        own = sum(price for price, kept in zip(costs.prices.tolist(), support, strict=True) if kept)
        return own + sum(costs.surcharge[group] for group in bought)

    assert costs.total(support) == total(support)
    for feature, added in enumerate(costs.added(support)):
        larger = support.copy()
        larger[feature] = True
        if not support[feature]:
            assert added == total(larger) - total(support)
    assert costs.full.tolist() == costs.added(np.zeros(6, dtype=bool)).tolist()


def test_discounts_that_depend_on_the_order_are_refused():
    with pytest.raises(ValueError, match="group 'A' must save the same amount"):
        Costs.discounted(np.array([5.0, 4.0]), np.array([3.0, 3.0]), ["A", "A"])


@pytest.mark.parametrize("p", [6, 25])
@pytest.mark.parametrize("duplicate", [False, True])
def test_least_squares_are_those_of_scikit_learn(p, duplicate):
    X, y = table(p=p, duplicate=duplicate and p > 20)
    supports = np.random.default_rng(1).random((20, p)) < 0.5
    supports[0], supports[1] = False, duplicate and p > 20
    criterion = LeastSquares(X, y)
    for support, score in zip(supports, criterion(supports), strict=True):
        if not support.any():
            assert score == 0
            continue
        fitted = LinearRegression().fit(X[:, support], y)
        assert score == pytest.approx(fitted.score(X[:, support], y), abs=1e-9)
        new = np.random.default_rng(2).normal(size=(5, p))
        if not (duplicate and support[0] and support[-1]):
            assert criterion.predict(support, new) == pytest.approx(fitted.predict(new[:, support]), abs=1e-8)


@pytest.mark.parametrize("kind", [LeastSquares, CrossValidatedAUC])
def test_forward_selection_is_the_criterion_itself(kind):
    X, y = table()
    criterion = kind(X, y if kind is LeastSquares else y > 0)
    forward, support = criterion.forward(), np.zeros(6, dtype=bool)
    for feature in [3, 0, 5, 1]:
        candidates = np.flatnonzero(~support)
        larger = np.repeat(support[None], len(candidates), axis=0)
        larger[np.arange(len(candidates)), candidates] = True
        assert forward.scores(candidates) == pytest.approx(criterion(larger), abs=1e-9)
        forward.add(feature)
        support[feature] = True
        assert forward.score == pytest.approx(criterion(support[None])[0], abs=1e-9)


def test_a_copy_of_a_column_gains_nothing():
    X, y = table(duplicate=True)
    forward = LeastSquares(X, y).forward()
    forward.add(0)
    before = forward.score
    assert forward.scores(np.array([5])) == [before]
    forward.add(5)
    assert forward.score == before


def test_auc_is_that_of_scikit_learn(monkeypatch):
    X, y = table()
    criterion, supports = CrossValidatedAUC(X, y > 0), every(6)
    exactly = LogisticRegression(tol=1e-10, max_iter=1000)
    some = np.array([1, 22, 63])
    expected = [cross_val_score(exactly, X[:, s], y > 0, cv=5, scoring="roc_auc").mean() for s in supports[some]]
    assert criterion(supports)[some] == pytest.approx(expected, abs=1e-12)
    assert criterion(supports[:1]) == pytest.approx([0.5])
    # What is known is not computed again.
    monkeypatch.setattr(logistic, "fitted", None)
    assert criterion(supports[some]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_sfs_selects_what_scikit_learn_selects(task):
    given, regression = problem(100.0, task=task, costs=Costs.additive(np.ones(4)), p=4), task == "regression"
    estimator = LinearRegression() if regression else LogisticRegression(tol=1e-10, max_iter=1000)
    scoring, y = "r2" if regression else "roc_auc", given.y if regression else given.y.astype(int)
    best, of_size = -np.inf, None
    for size in range(1, 4):
        theirs = SequentialFeatureSelector(estimator, n_features_to_select=size, scoring=scoring, cv=5).fit(given.X, y)
        score = cross_val_score(estimator, given.X[:, theirs.support_], y, scoring=scoring, cv=5).mean()
        if regression or score > best + 1e-9:
            best, of_size = score, theirs.support_
        assert sequential.sfs(replace(given, budget=float(size)), 0, 10.0).tolist() == of_size.tolist()


@pytest.mark.parametrize("by", [greedy.by_gain, greedy.by_gain_per_cost])
@pytest.mark.parametrize("task", ["regression", "classification"])
@settings(max_examples=15)
@given(all_costs(), st.integers(0, 30))
def test_greedy_by_a_loop(by, task, costs, budget):
    given = problem(float(budget), task=task, costs=costs)
    support = np.zeros(6, dtype=bool)
    while True:
        merits = {}
        for feature in np.flatnonzero(~support).tolist():
            larger = support.copy()
            larger[feature] = True
            gain = given.criterion(larger[None])[0] - given.criterion(support[None])[0]
            price = costs.total(larger) - costs.total(support)
            if costs.total(larger) <= budget and gain > 1e-9:
                merits[feature] = gain if by is greedy.by_gain else gain / max(price, 1e-12)
        if not merits:
            break
        support[max(merits, key=lambda feature: round(merits[feature], 12))] = True
    assert by(given, 0, 10.0).tolist() == support.tolist()


@settings(max_examples=10)
@given(all_costs(), st.integers(0, 30))
def test_exhaustive_and_cutting_planes_are_optimal(costs, budget):
    given = problem(float(budget), costs=costs)
    best = max(given.criterion(s[None])[0] for s in every(6) if costs.total(s) <= budget)
    for method in (exact.exhaustive, exact.cutting_planes):
        support = method(given, 0, 10.0)
        assert given.affordable(support)
        # The planes bound R^2 with a ridge, whose optimum may be another one.
        assert given.criterion(support[None])[0] == pytest.approx(
            best, abs=1e-9 if method is exact.exhaustive else 5e-3
        )


def test_exhaustive_takes_the_cheapest_of_equals_and_few_features():
    twice = replace(problem(6.0, costs=Costs.additive(np.array([2.0, 0.0, 0.0, 0.0, 0.0, 9.0]))), task="classification")
    twice = replace(twice, y=(twice.X[:, 1] > 0).astype(float))
    assert not exact.exhaustive(twice, 0, 1.0)[0]
    with pytest.raises(ValueError, match="up to 15 features, got 16"):
        exact.exhaustive(problem(p=16), 0, 1.0)


@given(all_costs(), st.integers(0, 30), st.permutations(range(6)))
def test_buying_in_order_by_a_loop(costs, budget, order):
    given, support = problem(float(budget), costs=costs), np.zeros(6, dtype=bool)
    for feature in order:
        support[feature] = True
        support[feature] = given.affordable(support)
    assert rankings.bought_in_order(given, order).tolist() == support.tolist()


def test_buying_in_order_skips_what_is_too_dear():
    given = problem(4.0, costs=Costs.additive(np.array([3.0, 2.0, 1.0, 5.0, 0.0, 1.0])))
    assert np.flatnonzero(rankings.bought_in_order(given, range(6))).tolist() == [0, 2, 4]


@pytest.mark.parametrize("name", methods.ENTRANTS)
@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.parametrize("shared", [False, True])
def test_every_method_buys_within_the_budget(name, task, shared, monkeypatch):
    monkeypatch.setattr(ours, "FITS", 30)
    entrant = methods.ENTRANTS[name]
    if (name == "cutting planes" and task == "classification") or (name == "cggd, EBIC" and task == "classification"):
        pytest.skip("least squares only")
    if name == "cggd, AUC" and task == "regression":
        pytest.skip("classes only")
    if find_spec(entrant.package) is None:
        pytest.skip(f"{entrant.package} is not installed")
    group = np.array([0, 0, 0, -1, -1, -1])
    costs = Costs(np.arange(1.0, 7.0), group, np.array([2.0])) if shared else None
    for budget in (0.0, 7.5):
        given = problem(budget, task=task, costs=costs)
        support = entrant.load()(given, 0, 0.1)
        assert support.dtype == bool
        assert support.shape == (6,)
        assert given.affordable(support)
        assert budget == 0 or support.any()


@needs_data
def test_the_derived_optima_and_greedy_values_come_out():
    hard = {(o.grouped, o.budget): o for o in data.optima() if o.hard}
    assert len(hard) == 8
    heart = data.clinical("heart_cleveland")
    assert (heart.X.shape, int(np.isnan(heart.X).sum()), heart.y.sum()) == ((303, 13), 6, 139)
    assert (heart.costs.all, heart.additive.all) == pytest.approx((323.97, 600.57))
    assert data.clinical("pima").costs.all == pytest.approx(44.29)
    X, gains = data.standardised(heart.X), {204.1: (0.38671, 0.444621), 90.09: (0.31185, 0.318176)}
    for (grouped, budget), optimum in hard.items():
        given = Problem(X, heart.y, heart.costs if grouped else heart.additive, budget, "regression")
        found = given.criterion(exact.exhaustive(given, 0, 1.0)[None])[0]
        assert found == pytest.approx(optimum.value, abs=1e-6)
        if budget in gains:
            both = [given.criterion(by(given, 0, 1.0)[None])[0] for by in (greedy.by_gain, greedy.by_gain_per_cost)]
            assert both == pytest.approx(gains[budget], abs=1e-6)


def test_the_design_is_what_it_says():
    drawn = data.design(0, n=4000, p=200, informative=20, noise=0.5)
    assert drawn.truth.sum() == 20
    neighbours = [np.corrcoef(drawn.X[:, i], drawn.X[:, i + 1])[0, 1] for i in range(0, 190, 10)]
    assert np.mean(neighbours) == pytest.approx(0.7, abs=0.02)
    fitted = LeastSquares(drawn.X, drawn.y)
    assert fitted(drawn.truth[None])[0] == pytest.approx(1 / 1.5, abs=0.03)
    again, other = data.design(0, n=50, p=200, informative=20), data.design(1, n=50, p=200, informative=20)
    assert (again.truth == other.truth).all()
    assert (again.costs.prices == other.costs.prices).all()
    assert not (again.X == other.X).any()
    shared = data.design(0, n=50, p=200, informative=20, sensors=20).costs
    assert shared.all == pytest.approx(drawn.costs.all)
    assert len(shared.surcharge) == 20


def test_medians_stand_in_for_what_is_missing():
    X = np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 5.0], [8.0, 5.0]])
    out = data.standardised(X)
    assert out.mean(axis=0) == pytest.approx([0, 0])
    assert out[2, 0] == pytest.approx((3 - 3.75) / np.std([1, 3, 3, 8]))
    assert data.standardised(np.array([[np.nan, 6.0]]), X)[0] == pytest.approx([out[2, 0], 1.0])


def test_overspending_is_not_believed(monkeypatch):
    monkeypatch.setitem(methods.ENTRANTS, "random", replace(methods.ENTRANTS["random"], module="cheat", function="all"))
    monkeypatch.setattr(methods.Entrant, "load", lambda self: lambda problem, seed, limit: ~problem.empty())
    with pytest.raises(AssertionError, match=r"spent 21.0 of 4.0"):
        list(compare._runs(Task("design", "tiny", 0), problem(4.0)))


def rows(**better):
    """Two methods on two folds at two budgets of one table."""
    out = []
    for budget, fold, method in product([5.0, 9.0], [0, 1], ["cggd", "SFS"]):
        test = 0.8 + 0.01 * fold + (better.get("sfs", 0.0) if method == "SFS" and budget == 9.0 else 0.0)
        support = "0 1" if fold or method == "cggd" else "1 2"
        out.append(Row("clinical", "pima", budget, 0, fold, method, 4.0, 2, 0.9, test, None, 0.1, support))
    return out


def test_the_report_pairs_runs_and_lists_losses(tmp_path):
    compare.write(rows(sfs=0.02), tmp_path / "features.csv")
    read = report.read(tmp_path / "features.csv")
    lines = report.summary(read).set_index(["budget", "method"])
    assert lines.loc[(9.0, "SFS"), "better"] == pytest.approx(-0.02)
    assert lines.loc[(9.0, "SFS"), ["wins", "losses"]].tolist() == [0, 2]
    assert lines.loc[(5.0, "SFS"), "better"] == 0
    assert lines.loc[(5.0, "SFS"), "stability"] == pytest.approx(1 / 3)
    assert lines.loc[(5.0, "cggd"), "stability"] == 1
    losses = report.losses_table(report.summary(read))
    assert losses.count("\n") == 2
    assert "| pima | 9 | SFS | 0.0200" in losses
    (tmp_path / "features.csv").unlink()
    compare.write(rows(), tmp_path / "features.csv")
    assert report.losses_table(report.summary(report.read(tmp_path / "features.csv"))) == "None."


def test_errors_of_overlapping_folds_are_larger():
    differences = np.array([0.01, 0.03, -0.01, 0.01])
    plain = report.standard_error(differences, "design")
    assert plain == pytest.approx(differences.std(ddof=1) / 2)
    assert report.standard_error(differences, "clinical") == pytest.approx(plain * np.sqrt(4 * (1 / 4 + 1)))


def test_the_optima_table_counts(tmp_path):
    given = [("greedy, gain", 0.5, 0.5), ("greedy, gain", 0.4, 0.5), ("cggd", 0.5, 0.5), ("cggd", 0.5, 0.5)]
    kinds = ["heart_cleveland, own prices, hard", "heart_cleveland, own prices"] * 2
    compare.write(
        [
            Row("optima", kind, 5.0, 0, 0, method, 4.0, 1, train, None, optimum, 0.1, "0")
            for kind, (method, train, optimum) in zip(kinds, given, strict=True)
        ],
        tmp_path / "features.csv",
    )
    text = report.optima_table(report.read(tmp_path / "features.csv"))
    assert "| cggd | 2 of 2 | 1 of 1 | 0.0000 | 0.0000 |" in text
    assert "| greedy, gain | 1 of 2 | 1 of 1 | 0.0500 | 0.1000 |" in text


@pytest.mark.slow
def test_it_runs_and_keeps_the_page(tmp_path, capsys, monkeypatch):
    names = {"cggd", "greedy, gain", "random", "genetic", "abess"}
    for name in set(methods.ENTRANTS) - names:
        monkeypatch.delitem(methods.ENTRANTS, name)
    monkeypatch.setitem(compare.LIMITS, "design", 0.1)
    (tmp_path / "features.md").write_text("# Guide\n")
    compare.main(["--quick", "--parts", "design", "--jobs", "1", "--out", str(tmp_path)])
    page = (tmp_path / "features.md").read_text()
    assert page.startswith("# Guide\n")
    assert "| cggd |" in page
    assert "features_design.png" in page
    assert (tmp_path / "features_design.png").exists()
    summary = pd.read_csv(tmp_path / "features_summary.csv")
    assert set(summary["method"]) == {n for n in names if find_spec(methods.ENTRANTS[n].package)}
    ours = summary[(summary["method"] == "cggd") & (summary["data"] == "own prices")]
    assert len(ours) == 5
    assert (ours["cost"] <= ours["budget"] + 1e-9).all()
    assert "wrote" in capsys.readouterr().out
    # What stands in the file is not run again.
    parts = list(compare.tasks(["design"], [0], quick=True))
    found = compare.read(tmp_path / "features.csv")
    assert len(parts) == 7
    assert all(sum(map(task.holds, found)) == len(found) / 7 for task in parts)


def test_a_table_is_not_taken_for_one_whose_name_begins_with_its_own():
    done = {"part": "bundled", "data": "digits, 3", "seed": "0", "fold": "0"}
    held = [task.data for task in compare.tasks(["bundled"], [0], quick=False) if task.holds(done)]
    assert held == ["digits, 3"]
    done |= {"part": "optima", "data": "pima, own prices, hard"}
    assert compare.Task("optima", "pima", 0).holds(done)
    assert not compare.Task("optima", "heart_cleveland", 0).holds(done)


def test_a_summary_keeps_the_parts_that_were_not_run_again(tmp_path):
    paths = [tmp_path / "first.csv", tmp_path / "second.csv"]
    row = compare.Row("bundled", "wine", 2.0, 0, 0, "cggd", 2.0, 2, 0.9, 0.8, None, 0.1, "0 1")
    compare.write([row, replace(row, part="clinical", data="pima", test=0.7)], paths[0])
    compare.write([replace(row, test=0.9)], paths[1])
    report.write(paths[:1], tmp_path)
    report.write(paths[1:], tmp_path, keep=True)
    lines = pd.read_csv(tmp_path / "features_summary.csv")
    assert lines.set_index("data")["test"].to_dict() == {"pima": 0.7, "wine": 0.9}


def test_unknown_parts_are_refused(capsys):
    with pytest.raises(SystemExit):
        compare.main(["--parts", "clinic"])
    assert "invalid choice" in capsys.readouterr().err


def test_options_reach_the_benchmark_that_takes_them(monkeypatch):
    given = []
    monkeypatch.setitem(runner.WITH_OPTIONS, "features", given.extend)
    runner.main(["features", "--quick", "--jobs", "1"])
    assert given == ["--quick", "--jobs", "1"]
    with pytest.raises(SystemExit, match="no benchmark '--quick'"):
        runner.main(["noise", "--quick"])
