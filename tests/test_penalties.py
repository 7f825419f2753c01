"""The benchmark's penalty losses against numbers by hand, its loop against `cggd`, and Cooper against plain code."""

from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.markdown import insert
from benchmarks.penalties import compare, report
from benchmarks.penalties.compare import ANSWERS, Answer, Run, Tuning, opponents, tuned
from benchmarks.penalties.loop import LONGEST, Lookup, Problem, View, descend, penalised
from benchmarks.penalties.losses import FBNET, PENALTIES, PROXYLESS_LINEAR, PROXYLESS_LOG, TAS, TF_NAS, Penalty
from benchmarks.penalties.settings import Setting, every, sizes, topology
from cggd import Additive, ChoiceSpace, Descent, Table, maximize
from cggd.guide.relaxation import softmax


def row(*numbers: float) -> np.ndarray:
    return np.array([numbers], dtype=float)


LOG5, LOG6 = np.log(5.0), np.log(6.0)


@pytest.mark.parametrize(
    ("penalty", "expected", "actual", "weight", "total", "factor", "slope"),
    [
        (PROXYLESS_LINEAR, 6.0, 6.0, 10.0, 2 + 10 * 0.2, 1.0, 2.0),
        (PROXYLESS_LINEAR, 4.0, 4.0, 10.0, 2 - 10 * 0.2, 1.0, 2.0),
        (PROXYLESS_LOG, 6.0, 6.0, 2.0, 2 * (LOG6 / LOG5) ** 2, (LOG6 / LOG5) ** 2, 2 * 2 * LOG6 / LOG5**2 / 6),
        (FBNET, 6.0, 6.0, 2.0, 0.4 * LOG6**2, 0.2 * LOG6**2, 0.4 * 2 * LOG6 / 6),
        (TF_NAS, 6.0, 6.0, 10.0, 2 + 10 * 0.2, 1.0, 2.0),
        (TF_NAS, 4.0, 6.0, 10.0, 2 + 10 * 0.2, 1.0, -2.0),
        (TAS, 6.0, 5.1, 10.0, 2 + 10 * LOG6, 1.0, 10 / 6),
        (TAS, 6.0, 4.9, 10.0, 2.0, 1.0, 0.0),
        (TAS, 6.0, 4.7, 10.0, 2 - 10 * LOG6, 1.0, -10 / 6),
    ],
)
def test_by_hand(penalty, expected, actual, weight, total, factor, slope):
    given = (np.array([2.0]), row(expected), row(actual), np.array([5.0]), np.array([weight]))
    assert penalty.total(*given) == pytest.approx([total])
    found_factor, found_slope = penalty.gradient(*given)
    assert found_factor == pytest.approx([factor])
    assert found_slope == pytest.approx(row(slope))


@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda penalty: penalty.name)
@given(st.data())
def test_gradients_are_finite_differences(penalty: Penalty, data):
    costs = st.lists(st.floats(1.5, 20.0), min_size=2, max_size=2).map(np.array)
    loss, weight = data.draw(st.floats(0.1, 10.0)), data.draw(st.floats(0.1, 5.0))
    expected, actual, bounds = data.draw(costs), data.draw(costs), data.draw(costs)
    # Away from the kink of an absolute value.
    expected = np.where(np.abs(expected / bounds - 1) < 1e-3, 1.01 * bounds, expected)

    def total(point: np.ndarray) -> float:
        return float(penalty.total(point[:1], point[None, 1:], actual[None], bounds, np.array([weight]))[0])

    point = np.array([loss, *expected])
    factor, slopes = penalty.gradient(point[:1], expected[None], actual[None], bounds, np.array([weight]))
    shifts = 1e-6 * np.diag(point)
    differences = [(total(point + s) - total(point - s)) / (2 * s.sum()) for s in shifts]
    scale = max(1.0, abs(total(point)))
    np.testing.assert_allclose([factor[0], *slopes[0]], differences, rtol=1e-4, atol=1e-7 * scale)


def metrics() -> tuple[ChoiceSpace, Table, Additive]:
    rng = np.random.default_rng(1)
    space = ChoiceSpace.from_sizes([3, 3, 3, 3])
    return space, Table(space, rng.random(81)), Additive(space, rng.random(12))


def test_replacements_are_those_of_the_metric():
    space, table, cost = metrics()
    selections = space.sample(50, np.random.default_rng(0))
    for metric in (table, cost):
        lookup = Lookup(every(metric), (4, 3), additive=False)
        oracle = [metric.replacements(selection).reshape(4, 3) for selection in selections]
        np.testing.assert_allclose(lookup.replacements(selections), oracle)
        np.testing.assert_allclose(lookup.values[lookup.numbers(selections)], metric.evaluate(selections))


@pytest.mark.parametrize("additive", [True, False])
def test_expected_values_and_gradients(additive):
    """Exact for a sum at each sampled selection, and for any table in the mean over all of them."""
    space, table, cost = metrics()
    metric, everything = cost if additive else table, space.enumerate()
    flat = softmax(np.random.default_rng(2).standard_normal(12), space.layout)
    likely = flat[space.layout.flat(everything)].prod(axis=1)
    truth = likely @ metric.evaluate(everything)
    probabilities = np.repeat(flat.reshape(1, 4, 3), len(everything), axis=0)
    expected, advantages = Lookup(every(metric), (4, 3), additive).relaxed(probabilities, everything)
    if additive:
        np.testing.assert_allclose(expected, truth)
    assert likely @ expected == pytest.approx(truth)
    np.testing.assert_allclose((probabilities * advantages).sum(axis=2), 0.0, atol=1e-12)
    # The derivative of the expected value by a probability, less its mean over the decision's options.
    for option in range(12):
        owner, place = divmod(option, 3)
        rows = everything[:, owner] == place
        slope = likely[rows] @ metric.evaluate(everything[rows]) / flat[option] - truth
        assert likely @ advantages[:, owner, place] == pytest.approx(slope)


def test_without_a_penalty_the_loop_is_that_of_an_unconstrained_search():
    setting = topology()[0]
    seeds, zeros = np.array([3, 0]), np.zeros(2)
    no = np.zeros(2, dtype=bool)
    problem = Problem(setting)
    path = descend(problem, penalised(problem, TF_NAS, zeros, no), seeds, no, steps=150)
    for column, seed in zip(path.T, seeds.tolist(), strict=True):
        history = maximize(setting.objective, seed=seed, improvers=[Descent(steps=150, starts=1)]).history
        np.testing.assert_array_equal(every(setting.objective)[column[:150]], history.value[:150])


def test_long_gradients_are_cut():
    problem = Problem(topology()[0])
    rng = np.random.default_rng(0)
    task, costs = rng.standard_normal((2, 6, 5)), rng.standard_normal((2, 1, 6, 5))
    view = View(task, np.ones(2), costs, row(6000.0).repeat(2, 0), row(6000.0).repeat(2, 0), 0.5)
    move = penalised(problem, PROXYLESS_LINEAR, np.full(2, 1e6), np.array([True, False]))
    step = move(np.zeros((2, 6, 5)), view)
    plain = -0.5 * (task + 1e6 / problem.bounds[0] * costs[:, 0])
    np.testing.assert_allclose(step[1], plain[1])
    assert np.sqrt(np.mean(step[0] ** 2)) == pytest.approx(0.5 * LONGEST)
    np.testing.assert_allclose(step[0] / np.abs(step[0]).max(), plain[0] / np.abs(plain[0]).max())


def test_powers_of_costs_do_not_overflow():
    setting = topology()[2]
    problem, no = Problem(setting), np.zeros(1, dtype=bool)
    for cut in (no, ~no):
        path = descend(
            problem, penalised(problem, FBNET, np.array([FBNET.weights[-1]]), cut), np.array([0]), no, steps=5
        )
        assert path.shape == (6, 1)


@pytest.mark.skipif(not compare.has_cooper(), reason="torch or cooper-optim is not installed")
def test_coopers_lagrangian_is_descent_and_ascent():
    from benchmarks.penalties.lagrangian import lagrangian

    problem, rates = Problem(topology()[2]), np.array([0.3, 2.0])
    multipliers, largest = np.zeros((2, 2)), np.zeros((2, 2))

    def plain(logits: np.ndarray, view: View) -> np.ndarray:
        multipliers[:] = np.maximum(0.0, multipliers + rates[:, None] * (view.actual / problem.bounds - 1))
        largest[:] = np.maximum(largest, multipliers)
        pull = (multipliers / problem.bounds)[:, :, None, None] * view.costs
        return logits - view.size * (view.task + pull.sum(axis=1))

    seeds, through = np.array([0, 1]), np.array([False, True])
    ours = descend(problem, plain, seeds, through, steps=100)
    theirs = descend(problem, lagrangian(problem, rates), seeds, through, steps=100)
    assert (largest > 0).all()
    np.testing.assert_array_equal(ours, theirs)


def run(weight: float, seed: int, answer: Answer) -> Run:
    return Run("s", "m", Tuning(weight, "advantage"), seed, dict.fromkeys(ANSWERS, answer))


def test_the_best_tuning_satisfies_most_and_then_regrets_least():
    runs = [run(1.0, 0, Answer(True, 0.0, 0.0)), run(1.0, 1, Answer(False))]
    runs += [run(2.0, seed, Answer(True, 3.0 + seed, 1.0)) for seed in (0, 1)]
    runs += [run(3.0, seed, Answer(True, 5.0, 0.0)) for seed in (0, 1)]
    best = tuned(runs, "end")
    assert (best.tuning, best.satisfied, best.regret, best.test_regret) == (Tuning(2.0, "advantage"), 1.0, 3.5, 1.0)
    assert str(tuned([run(1.0, 0, Answer(False))], "end")) == "0%"


@pytest.mark.slow
def test_later_answers_are_never_worse():
    setting = topology()[0]
    for one in opponents(setting, [0], slice(4, 5)):
        end, late, whole = (one.answers[name] for name in ANSWERS)
        assert end.satisfied <= late.satisfied <= whole.satisfied
        if end.satisfied:
            assert end.regret >= late.regret >= whole.regret >= 0


def test_settings_are_the_papers():
    assert [int(s.feasible.sum()) for s in topology()[:3]] == [7805, 7808, 7579]
    assert [round(float(s.feasible.mean()), 2) for s in topology()[3:]] == [0.25, 0.1, 0.05, 0.02]
    assert all(np.all(lookup.values > 1.0) for s in topology() for lookup in Problem(s).costs)


def test_the_size_space_is_the_papers():
    found = sizes()
    if found is None:
        pytest.skip("nats_size_cifar10.csv is not here; CGGD_DATA names the folder of the larger data sets")
    small, narrow = found[:2]
    assert int(small.feasible.sum()) == 16_385
    assert every(small.objective)[small.feasible].max() == 92.53
    assert every(narrow.objective)[narrow.feasible].max() == 93.42


def test_tables_go_between_the_markers(tmp_path):
    path = tmp_path / "benchmarks.md"
    insert("one", path, report.MARK)
    path.write_text("before\n" + path.read_text(encoding="utf-8") + "after\n", encoding="utf-8")
    insert("two", path, report.MARK)
    text = path.read_text(encoding="utf-8")
    assert text == "before\n<!-- penalties:begin -->\n\ntwo\n\n<!-- penalties:end -->\nafter\n"
    path.write_text("<!-- penalties:begin -->", encoding="utf-8")
    with pytest.raises(ValueError, match=r"must have both .* or neither"):
        insert("three", path, report.MARK)


@pytest.mark.slow
def test_a_report_of_one_setting(tmp_path):
    _, table, cost = metrics()
    setting = Setting("small", table, table, [cost + 1 <= cost.quantile(0.5) + 1])
    seeds = range(2)
    runs = list(opponents(setting, seeds, slice(4, 6)))
    runs += compare.guided(setting, seeds, (1.2, 2.0))
    results = report.Results([setting], runs)
    text = report.tables(results)
    assert "| small |" in text
    assert ("not run" in text) == (not compare.has_cooper())
    report.write_csv(results, tmp_path)
    lines = (tmp_path / "penalties_runs.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(runs)
    assert len(set(lines)) == len(lines)
    untuned = [run for run in runs if run.method == compare.ONE_START]
    assert [run.tuning for run in untuned] == [compare.UNTUNED] * len(seeds)
    if find_spec("matplotlib"):
        report.draw(results, tmp_path)
        assert (tmp_path / "penalties_weights.png").stat().st_size > 0
