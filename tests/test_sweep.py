"""Trade-off curves: what every point is, how neighbours help each other, and what survives an interruption."""

import csv
import gzip
import importlib
import itertools
import json
import os
import signal
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot

from cggd import Additive, ChoiceSpace, Descent, Function, MetricError, Result, SearchError, Status, Stop, Table, solve
from cggd.plotting.axes import GOOD
from cggd.sweep import Front, SweepError, sweep

sweep_module = importlib.import_module("cggd.sweep")


SPACE = ChoiceSpace({"stem": ["a", "b", "c"], "body": ["a", "b"], "head": ["a", "b", "c"]})
ERROR = Additive(SPACE, [9, 4, 1, 5, 2, 7, 3, 1], name="error", unit="%")
LATENCY = Additive(SPACE, [1, 3, 5, 1, 4, 1, 2, 4], name="latency", unit="ms")
SIZE = Additive(SPACE, [1, 2, 1, 2, 1, 2, 1, 2], name="size")
FAR = Additive(ChoiceSpace.from_sizes([2, 2]), [1, 2, 3, 4], name="far")
STEPS = {"improvers": [Descent(steps=40, starts=2)]}  # for what must happen in a step: a proof may need none

SENSES = st.sampled_from(["minimize", "maximize"])
METRIC_SENSES = st.sampled_from(["<=", ">="])


@st.composite
def problems(draw):
    """Objective, constraints, metric, bounds and both senses, on additive and table spaces."""
    options = st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=1, max_size=4)
    groups = draw(st.lists(options, min_size=1, max_size=4))
    space = ChoiceSpace.from_sizes([len(g) for g in groups])
    columns = np.array([row for g in groups for row in g], dtype=float).T
    objective, metric, size = (Additive(space, column, name=name) for column, name in zip(columns, "oms", strict=True))
    if draw(st.booleans()):
        n = space.n_selections
        digits = np.array(draw(st.lists(st.integers(0, 20), min_size=n, max_size=n)), dtype=float)
        objective = Table(space, digits, name="o")
    bounds = draw(st.lists(st.integers(-1, 40), min_size=1, max_size=4))
    return objective, [size <= draw(st.integers(0, 36))], metric, bounds, draw(SENSES), draw(METRIC_SENSES)


def run(problem, **options):
    objective, constraints, metric, bounds, sense, metric_sense = problem
    return sweep(objective, constraints, metric, bounds, sense=sense, metric_sense=metric_sense, **options)


def optimum(problem, bound):
    """By enumeration: the best objective within a bound, or None."""
    objective, (size,), metric, _, sense, metric_sense = problem
    everything = objective.space.enumerate()
    value = metric.evaluate(everything)
    kept = everything[size.holds(everything) & within(value, metric_sense, bound)]
    if len(kept) == 0:
        return None
    return float((np.min if sense == "minimize" else np.max)(objective.evaluate(kept)))


def within(values, metric_sense, bound):
    return values <= bound + 1e-9 if metric_sense == "<=" else values >= bound - 1e-9


def check_against_enumeration(problem, front):
    objective, (size,), metric, _, sense, metric_sense = problem
    sign = 1.0 if sense == "minimize" else -1.0
    for point in front.points:
        result, best = point.result, optimum(problem, point.bound)
        if result.status is Status.INFEASIBLE:
            assert best is None
        if best is not None and result.bound is not None:
            assert sign * result.bound <= sign * best + 1e-9
        assert result.feasible == (result.selection is not None)
        if not result.feasible:
            continue
        assert result.value == objective(result.selection) == objective(result.indices)
        assert point.metric_value == metric(result.selection)
        assert within(point.metric_value, metric_sense, point.bound)
        assert size.report(result.selection).satisfied
        assert all(row.satisfied for row in result.constraints)
        assert (result.constraints[-1].bound, result.constraints[-1].sense) == (point.bound, metric_sense)
        assert best is not None
        assert sign * result.value >= sign * best
        if result.status is Status.OPTIMAL:
            assert result.value == pytest.approx(best)
            assert result.gap == 0


def check_monotone(front):
    sign = 1.0 if front.sense == "minimize" else -1.0
    values = sign * front.values
    first = int(np.isnan(values).sum())
    assert np.isnan(values[:first]).all(), "a bound is met, and a looser one is not"
    assert (np.diff(values[first:]) <= 0).all()
    known = sign * front.proved
    assert (np.diff(known[~np.isnan(known)]) <= 0).all()


# -- laws -------------------------------------------------------------------------------------------------------------


@given(problems())
def test_every_point_is_what_it_says_and_the_curve_is_monotone(problem):
    front = run(problem)
    towards = 1 if problem[-1] == "<=" else -1
    assert front.bounds.tolist() == sorted(map(float, set(problem[3])), key=lambda bound: towards * bound)
    check_against_enumeration(problem, front)
    check_monotone(front)
    assert front.complete
    assert front.feasible == (not np.isnan(front.values).any())


@given(problems(), st.integers(2, 5))
def test_spread_bounds_can_all_be_met(problem, n):
    front = run((*problem[:3], n, *problem[4:]))
    check_against_enumeration(problem, front)
    check_monotone(front)
    if front.points[0].result.feasible:
        assert front.feasible
        assert len(front.points) in (1, n)
        assert front.metric_values[0] == front.bounds[0]
        np.testing.assert_allclose(np.diff(front.bounds, 2), 0, atol=1e-9)
    else:
        assert np.isinf(front.bounds).all()
        assert len(front.points) == 1


@given(problems(), st.integers(0, 3), st.sampled_from([None, [Descent(steps=1, starts=1)]]))
def test_every_point_has_the_best_of_what_any_search_found(problem, seed, improvers):
    """Even where searches of one step, each with a seed of its own, find this here and that there."""
    number, seen = itertools.count(seed), []

    def random(asked, *, seed, **options):
        seen.append(solve(asked, seed=next(number), **options))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_module, "solve", random)
        front = run(problem, seed=seed, improvers=improvers)
    check_monotone(front)
    check_against_enumeration(problem, front)
    best = min if problem[4] == "minimize" else max
    for point in front.points:
        found = [r.value for r in seen if r.feasible and within(problem[2](r.selection), problem[5], point.bound)]
        assert point.result.value == (best(found) if found else None)


@given(problems())
def test_csv_round_trip(problem):
    front = run(problem, improvers=[Descent(steps=2, starts=1)])
    rows = list(csv.DictReader(StringIO(front.to_csv())))

    def column(name):
        return [float(row[name] or "nan") for row in rows]

    np.testing.assert_array_equal(column("bound"), front.bounds)
    np.testing.assert_array_equal(column("value"), front.values)
    np.testing.assert_array_equal(column("metric_value"), front.metric_values)
    np.testing.assert_array_equal(column("proved"), front.proved)
    assert [Status[row["status"]] for row in rows] == list(front.status)
    assert [row["gap"] for row in rows] == ["" if p.result.gap is None else str(p.result.gap) for p in front.points]


def test_the_same_seed_gives_the_same_curve():
    one, other = (sweep(ERROR, [SIZE <= 5], LATENCY, 4, seed=3) for _ in range(2))
    assert one.to_csv() == other.to_csv()


# -- neighbours -------------------------------------------------------------------------------------------------------


def test_every_bound_of_a_small_space_gets_its_optimum():
    front = sweep(ERROR, [SIZE <= 5], LATENCY, [13, 3, 6, 9, 2, 6])
    assert front.bounds.tolist() == [2, 3, 6, 9, 13]
    everything = SPACE.enumerate()
    for bound, value, status in zip(front.bounds, front.values, front.status, strict=True):
        fits = (LATENCY.evaluate(everything) <= bound) & (SIZE.evaluate(everything) <= 5)
        if fits.any():
            assert value == ERROR.evaluate(everything[fits]).min()
        else:
            assert status is Status.INFEASIBLE
            assert np.isnan(value)
    assert front.status[0] is Status.INFEASIBLE
    assert (front.objective, front.unit, front.sense) == ("error", "%", "minimize")
    assert (front.metric, front.metric_unit, front.metric_sense) == ("latency", "ms", "<=")


def test_spread_ends_are_the_least_that_works_and_what_the_best_needs():
    front = sweep(ERROR, [], LATENCY, 4)
    # The fastest is a, a, a; the least error has c, b, c.
    np.testing.assert_allclose(front.bounds, [3, 3 + 10 / 3, 3 + 20 / 3, 13])
    assert (front.bounds[0], front.bounds[-1]) == (3, 13)
    assert front.values[[0, -1]].tolist() == [21, 4]
    assert front.status[-1] is Status.OPTIMAL
    front = sweep(ERROR, [], LATENCY, 3, sense="maximize", metric_sense=">=")
    assert front.bounds.tolist() == [13, 8, 3]
    assert front.values[[0, -1]].tolist() == [4, 21]


def test_a_selection_given_is_begun_with_until_one_is_found(monkeypatch):
    given = []

    def recorded(problem, *, initial, **options):
        given.append(initial)
        return solve(problem, initial=initial, **options)

    monkeypatch.setattr(sweep_module, "solve", recorded)
    sweep(ERROR, [], LATENCY, [1, 3, 6, 9], initial=[0, 0, 0])
    assert given == [[0, 0, 0], [0, 0, 0], None, None]
    given.clear()
    sweep(ERROR, [], LATENCY, 3, initial=[2, 1, 2])
    # The best, the fastest, then from the fastest, which alone meets the tightest bound.
    assert [None if each is None else list(each) for each in given] == [[2, 1, 2], [2, 1, 2], [0, 0, 0], None]


def test_spread_where_the_metric_cannot_vary():
    constant = Additive(SPACE, [1, 1, 1, 2, 2, 3, 3, 3], name="constant")
    front = sweep(ERROR, [], constant, 5)
    assert front.bounds.tolist() == [6]
    assert front.values.tolist() == [4]
    assert (front.stopped, front.stop_text) == (Stop.DONE, "1 bound done")


def test_spread_where_nothing_satisfies_the_constraints():
    front = sweep(ERROR, [SIZE <= 1], LATENCY, 5)
    assert front.bounds.tolist() == [np.inf]
    assert front.status == (Status.INFEASIBLE,)
    assert not front.feasible
    assert json.loads(front.to_json())["points"][0]["bound"] == "inf"
    assert next(csv.DictReader(StringIO(front.to_csv())))["bound"] == "inf"
    front.plot().figure.canvas.draw()
    pyplot.close("all")


def altered(monkeypatch, change):
    """Searches whose result is changed by their bound, as if they had found or known less."""

    def less(problem, **options):
        return change(problem.constraints[-1].bound, solve(problem, **options))

    monkeypatch.setattr(sweep_module, "solve", less)


def test_a_looser_search_may_find_the_selection_of_a_tighter_bound(monkeypatch):
    nothing = {"selection": None, "indices": None, "value": None, "status": Status.UNKNOWN, "nearest": {"stem": "a"}}
    altered(monkeypatch, lambda bound, result: replace(result, **nothing) if bound < 20 else result)
    front = sweep(ERROR, [], LATENCY, [3, 13, 15, 20])
    assert front.status == (Status.UNKNOWN, Status.OPTIMAL, Status.OPTIMAL, Status.OPTIMAL)
    assert front.values[1:].tolist() == [4, 4, 4]
    row = front.points[1].result.constraints[-1]
    assert (row.value, row.bound, row.slack, row.satisfied) == (13, 13, 0, True)
    assert front.points[1].result.nearest is None


def test_what_is_proved_of_a_looser_bound_holds_for_tighter_ones(monkeypatch):
    bounds = {9: 4.5, 12: 5.5}  # the tighter one knows less than the looser
    altered(monkeypatch, lambda bound, result: replace(result, bound=bounds.get(bound), status=Status.FEASIBLE))
    front = sweep(ERROR, [], LATENCY, [6, 9, 12, 13])
    np.testing.assert_array_equal(front.proved, [5.5, 5.5, 5.5, np.nan])
    assert front.points[0].result.gap == pytest.approx((front.values[0] - 5.5) / 5.5)


def test_a_proof_is_kept_where_its_bound_is_rounded(monkeypatch):
    altered(monkeypatch, lambda bound, result: replace(result, bound=4 - 1e-9, status=Status.OPTIMAL))
    front = sweep(ERROR, [], LATENCY, [13, 14])
    assert front.status == (Status.OPTIMAL, Status.OPTIMAL)
    assert [p.result.gap for p in front.points] == [0, 0]


def test_proved_of_a_maximum(monkeypatch):
    bounds = {4: 20.0, 6: 15.0}
    altered(monkeypatch, lambda bound, result: replace(result, bound=bounds.get(bound), status=Status.FEASIBLE))
    gain = ERROR * -1.0 + 21.0
    front = sweep(gain, [], LATENCY, [3, 4, 6, 12], sense="maximize")
    np.testing.assert_array_equal(front.proved, [15, 15, 15, np.nan])


def test_infeasibility_of_a_looser_bound_is_that_of_tighter_ones(monkeypatch):
    altered(monkeypatch, lambda bound, r: replace(r, status=Status.UNKNOWN) if bound == 1 else r)
    front = sweep(ERROR, [], LATENCY, [1, 2, 3])
    assert front.status[:2] == (Status.INFEASIBLE, Status.INFEASIBLE)
    assert front.status[2].name in ("OPTIMAL", "FEASIBLE")


def test_an_infinite_bound_never_binds():
    front = sweep(ERROR, [], LATENCY, [7, np.inf])
    assert front.values[-1] == 4
    assert front.metric_values[-1] == 13
    front = sweep(ERROR, [], LATENCY, [7, -np.inf], metric_sense=">=")
    assert front.bounds.tolist() == [7, -np.inf]
    assert front.values[-1] == 4


# -- limits, progress, interruptions ----------------------------------------------------------------------------------


def test_limits_are_for_all_searches_together(monkeypatch):
    given = []

    def recorded(problem, **options):
        given.append((options["time_limit"], options["max_evaluations"]))
        return solve(problem, **options)

    monkeypatch.setattr(sweep_module, "solve", recorded)
    calls = []

    def error(selection):
        calls.append(selection)
        return float(ERROR(selection))

    front = sweep(
        Function(SPACE, error, name="error", cache=False), [], LATENCY, [4, 6, 8], time_limit=60, max_evaluations=300
    )
    assert front.evaluations == len(calls)
    seconds, evaluations = zip(*given, strict=True)
    assert 0 < seconds[0] <= 20
    assert all(0 < limit <= 60 for limit in seconds)
    assert evaluations[0] == 100
    # A batch in progress is finished: of 8 switches, and of what is evaluated afresh.
    assert len(calls) <= 300 + 3 * 20


def test_every_bound_is_looked_at_even_where_the_limits_are_used_up(monkeypatch):
    front = sweep(ERROR, [], LATENCY, [3, 6, 9], time_limit=1e-9, initial=[0, 0, 0])
    assert [p.result.feasible for p in front.points] == [True] * 3
    slow = Function(SPACE, lambda s: float(ERROR(s)), name="error")
    front = sweep(slow, [], LATENCY, [3, 6, 9], max_evaluations=6, initial=[0, 0, 0])
    assert front.evaluations <= 6
    assert [p.result.feasible for p in front.points] == [True] * 3


def test_callback_sees_every_search():
    seen = []
    sweep(ERROR, [], LATENCY, [6, 4, 8], callback=seen.append, **STEPS)
    searches = [key for key, _ in itertools.groupby((p.run, p.runs, p.bound) for p in seen)]
    assert searches == [(0, 3, 4), (1, 3, 6), (2, 3, 8)]
    assert seen[0].search.step == 1
    seen.clear()
    sweep(ERROR, [], LATENCY, 3, callback=seen.append, **STEPS)
    searches = [key for key, _ in itertools.groupby((p.run, p.runs, p.bound) for p in seen)]
    assert searches == [(0, 4, np.inf), (1, 4, None), (2, 4, 3), (3, 4, 8)]


def test_callback_ends_the_sweep_and_keeps_the_points():
    front = sweep(ERROR, [], LATENCY, [4, 6, 8, 10], callback=lambda p: p.bound == 6, **STEPS)
    assert front.bounds.tolist() == [4, 6]
    assert not np.isnan(front.values).any()
    assert (front.complete, front.feasible) == (False, False)
    assert (front.stopped, front.stop_text) == (Stop.CALLBACK, "stopped by the callback, after 2 bounds")
    check_monotone(front)


def test_a_real_ctrl_c_keeps_the_points():
    calls = []

    def press(progress):
        if progress.bound == 8 and not calls:
            calls.append(progress)
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        front = sweep(ERROR, [], LATENCY, [4, 6, 8, 10], callback=press, **STEPS)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(calls) == 1
    assert front.bounds.tolist() == [4, 6, 8]
    assert all(p.result.feasible for p in front.points)
    assert (front.stopped, front.stop_text) == (Stop.INTERRUPTED, "interrupted, after 3 bounds")
    assert not front.complete


@pytest.mark.parametrize(("bounds", "left"), [([4, 6, 8], [4, 6]), (5, [13]), (2, [13])])
def test_ctrl_c_before_a_search_has_anything(monkeypatch, bounds, left):
    number = itertools.count()

    def interrupted(problem, **options):
        if next(number) == 2:
            raise KeyboardInterrupt
        return solve(problem, **options)

    monkeypatch.setattr(sweep_module, "solve", interrupted)
    front = sweep(ERROR, [], LATENCY, bounds, **STEPS)
    assert front.bounds.tolist() == left
    assert front.stop_text.startswith("interrupted, after")


@pytest.mark.parametrize(("at", "left"), [(0, [np.inf]), (1, [13])])
def test_ctrl_c_while_the_ends_are_sought(at, left):
    def press(progress):
        if progress.run == at:
            raise KeyboardInterrupt

    front = sweep(ERROR, [], LATENCY, 5, callback=press, **STEPS)
    assert front.bounds.tolist() == left
    assert not front.complete
    assert front.summary().splitlines()[-1].startswith("sweep      interrupted, after")


def test_a_failure_carries_the_points():
    lost = []

    def fails(selection):
        if lost:
            raise OSError("device lost")
        return float(ERROR(selection))

    def breaks(progress):
        if progress.bound == 8:
            lost.append(progress)

    with pytest.raises(SweepError, match="device lost") as caught:
        sweep(Function(SPACE, fails, name="error", cache=False), [], LATENCY, [4, 6, 8, 10], callback=breaks, **STEPS)
    front = caught.value.front
    assert isinstance(caught.value, SearchError)
    assert isinstance(caught.value.__cause__.__cause__, MetricError)
    assert front.bounds.tolist() == [4, 6, 8]
    assert not np.isnan(front.values).any()  # the last one's from the searches before
    assert front.stopped is Stop.FAILED
    assert "device lost" in front.stop_text
    assert not front.complete


# -- input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"bounds": []}, ValueError, "bounds is empty"),
        ({"bounds": 1}, ValueError, "bounds must be at least 2, got 1"),
        ({"bounds": True}, TypeError, "bounds must be a whole number, got True"),
        ({"bounds": 5.0}, TypeError, "bounds must be a list of numbers, or how many to spread, got 5.0"),
        ({"bounds": "3,4"}, TypeError, "bounds must be a list of numbers, or how many to spread, got '3,4'"),
        ({"bounds": None}, TypeError, "bounds must be a list"),
        ({"bounds": [3, "x"]}, TypeError, "the bound on 'latency' must be a number, got 'x'"),
        ({"bounds": [3, np.nan]}, ValueError, "the bound on 'latency' must be a number, got nan"),
        ({"bounds": [-np.inf]}, ValueError, "nothing can satisfy latency <= -inf"),
        ({"metric": "latency"}, TypeError, "metric must be a Metric, got 'latency'"),
        ({"metric": FAR}, ValueError, "belongs to another choice space"),
        ({"objective": None}, TypeError, "objective must be a Metric"),
        ({"constraints": [5]}, TypeError, "constraints must hold constraints"),
        ({"sense": "max"}, ValueError, "sense must be"),
        ({"metric_sense": "<"}, ValueError, "metric_sense must be one of '<=', '>=', got '<'"),
        ({"time_limit": 0}, ValueError, "time_limit must be more than 0 seconds, got 0"),
        ({"max_evaluations": 0}, ValueError, "max_evaluations must be at least 1, got 0"),
        ({"callback": 5}, TypeError, "callback must be callable, got 5"),
        ({"initial": [9, 9, 9]}, ValueError, "initial is not a selection"),
        ({"speed": 5}, TypeError, "unknown option 'speed'"),
        ({"steps": 5}, TypeError, "unknown option 'steps'"),
        ({"improvers": [5]}, TypeError, "improvers must be objects with the methods suits and improve, got 5"),
        ({"checkpoint": "state.npz"}, TypeError, "sweep keeps no checkpoint, got checkpoint"),
        ({"resume": True}, TypeError, "sweep keeps no checkpoint, got resume"),
    ],
)
def test_wrong_input(arguments, error, message):
    given = {"objective": ERROR, "constraints": [], "metric": LATENCY, "bounds": [3, 4]} | arguments
    with pytest.raises(error, match=message):
        sweep(**given)


def test_bounds_may_be_any_iterable_of_numbers():
    for bounds in (np.array([6, 4]), range(4, 7, 2), (float(b) for b in (4, 6)), [np.float32(6), 4]):
        assert sweep(ERROR, [], LATENCY, bounds).bounds.tolist() == [4, 6]


# -- output -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def front() -> Front:
    return sweep(ERROR, [SIZE <= 5], LATENCY, [2, 4, 6, 9, 13, 20])


def test_files(front, tmp_path):
    assert front.to_csv(tmp_path / "front.csv") == front.to_csv() == (tmp_path / "front.csv").read_text()
    front.to_csv(tmp_path / "front.csv.gz")
    assert gzip.decompress((tmp_path / "front.csv.gz").read_bytes()).decode() == front.to_csv()


def test_json_holds_results_that_can_be_read(front):
    data = json.loads(front.to_json())
    assert data["format"] == "cggd-front-1"
    assert data["metric"] == {"name": "latency", "unit": "ms", "sense": "<="}
    assert data["objective"] == {"name": "error", "unit": "%", "sense": "minimize"}
    assert (data["complete"], data["stopped"]) == (True, "6 bounds done")
    for written, point in zip(data["points"], front.points, strict=True):
        result = Result.from_json(json.dumps(written["result"]))
        assert written["bound"] == point.bound
        assert (result.selection, result.value) == (point.result.selection, point.result.value)
        assert (result.status, result.bound) == (point.result.status, point.result.bound)
        assert [*result.constraints] == [*point.result.constraints]


def test_summary(front):
    title, head, *rows, last = front.summary().splitlines()
    assert title == "minimize   error [%] for each bound on latency [ms]"
    assert head.split() == ["<=", "bound", "latency", "error", "gap", "status"]
    assert rows[0].split() == ["2", "-", "-", "-", "infeasible"]
    assert len(rows) == 6
    for row, point in zip(rows[1:], front.points[1:], strict=True):
        bound, metric_value, value, _, status = row.split()
        assert float(bound) == point.bound
        assert float(metric_value) == point.metric_value
        assert float(value) == point.result.value
        assert status == point.result.status.name.lower()
    assert len({len(row) for row in [head, *rows]}) == 1
    assert last.startswith("sweep      6 bounds done, in ")


# -- picture ----------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _draw_and_close():
    yield
    for number in pyplot.get_fignums():
        pyplot.figure(number).canvas.draw()
    pyplot.close("all")


def line(ax, label):
    return next(each for each in ax.lines if each.get_label() == label)


def height(ax, label, x):
    """Where a drawn staircase runs at x."""
    corners = line(ax, label).get_path().vertices
    return next(y for (x0, y), (x1, _) in itertools.pairwise(corners) if min(x0, x1) < x < max(x0, x1))


def test_the_picture_is_a_staircase_through_the_points(front):
    ax = front.plot()
    assert ax.get_xlabel() == "latency [ms]"
    assert ax.get_ylabel() == "error [%], minimized"
    marks = np.concatenate([each.get_xydata() for each in ax.lines if each.get_marker() == "o"])
    found = ~np.isnan(front.values)
    expected = np.stack([front.metric_values[found], front.values[found]], axis=1)
    assert {tuple(mark) for mark in marks.tolist()} == {tuple(point) for point in expected.tolist()}
    stairs = line(ax, "best within the bound")
    assert stairs.get_drawstyle() == "steps-post"
    np.testing.assert_array_equal(stairs.get_xydata()[:-1], expected)
    np.testing.assert_array_equal(stairs.get_xydata()[-1], [20, front.values[-1]])
    missing = line(ax, "nothing found")
    assert missing.get_xdata().tolist() == [2]
    for bound in (4.5, 7.9, 12.0, 19.0):
        best = front.values[found][front.metric_values[found] <= bound].min()
        assert height(ax, "best within the bound", bound) == best


def test_the_picture_of_a_metric_bounded_from_below():
    front = sweep(LATENCY, [], ERROR * -1.0, [-20, -15, -10, -4], metric_sense=">=")
    ax = front.plot()
    for bound in (-18.5, -13.5, -6.5):
        meets = front.metric_values >= bound
        assert height(ax, "best within the bound", bound) == pytest.approx(front.values[meets].min())


def test_proved_points_are_full_and_bounds_are_dashed(front):
    ax = front.plot()
    optimal = {(p.metric_value, p.result.value) for p in front.points if p.result.status is Status.OPTIMAL}
    assert optimal
    mark = line(ax, "optimal (proved)")
    assert {tuple(each) for each in mark.get_xydata().tolist()} == optimal
    assert mark.get_markerfacecolor() == GOOD
    dashed = line(ax, "nothing is better (proved)")
    np.testing.assert_array_equal(dashed.get_xydata(), np.stack([front.bounds, front.proved], axis=1))
    assert dashed.get_drawstyle() == "steps-pre"


def test_the_picture_joins_the_axes_given(front):
    figure, (left, right) = pyplot.subplots(1, 2)
    assert front.plot(right) is right
    assert not left.has_data()
    assert pyplot.get_fignums() == [figure.number]


def test_the_picture_where_nothing_was_found():
    ax = sweep(ERROR, [], LATENCY, [1, 2]).plot()
    assert [text.get_text() for text in ax.texts] == ["no bound has a feasible selection"]
    assert line(ax, "nothing found").get_xdata().tolist() == [1, 2]


def test_an_infinite_bound_has_its_point_and_no_step_beyond():
    ax = sweep(ERROR, [], LATENCY, [4, 7, np.inf]).plot()
    stairs = line(ax, "best within the bound").get_xydata()
    np.testing.assert_array_equal(stairs[-1], [13, 4])
    assert np.isfinite(ax.get_xlim()).all()


def test_a_point_that_could_not_be_evaluated_again_says_so():
    lost = []

    def measured(selection):
        if lost:
            raise OSError("device lost")
        return float(LATENCY(selection))

    def breaks(progress):
        if progress.bound == 6 and progress.search.best is not None:
            lost.append(progress)

    metric = Function(SPACE, measured, name="latency", cache=False)
    with pytest.raises(SweepError, match="device lost") as caught:
        sweep(ERROR, [LATENCY >= 5], metric, [4, 6, 8], callback=breaks, **STEPS)
    point = caught.value.front.points[-1]
    assert (point.bound, point.result.status, point.result.remeasured) == (6, Status.UNKNOWN, False)
    assert point.metric_value == LATENCY(point.result.indices) <= 6
    assert point.result.selection == caught.value.result.selection
    assert not caught.value.front.feasible


@pytest.mark.parametrize("name", ["_under", "_solve", "_best", "_front"])
def test_ctrl_c_between_searches_returns_the_points(monkeypatch, name):
    real, pressed = getattr(sweep_module._Sweep, name), []

    def press(*arguments, **options):
        if not pressed:
            pressed.append(name)
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(sweep_module._Sweep, name, press)
    front = sweep(ERROR, [], LATENCY, [4, 6], **STEPS)
    assert pressed
    assert len(front.points) == (2 if name == "_front" else 0)
    assert front.complete == (name == "_front")


@pytest.mark.parametrize("bounds", [[4, 6, 8], 3])
@pytest.mark.parametrize("swept", [False, True])
def test_a_costly_metric_is_measured_by_the_models_of_each_search(bounds, swept):
    space = ChoiceSpace.from_sizes([5] * 5)
    calls = []
    costly = Function(space, lambda s: calls.append(s) or sum((v - 2.0) ** 2 for v in s.values()), costly=True)
    cheap = Additive(space, np.arange(25) % 5)
    objective, metric = (cheap, costly) if swept else (costly, cheap)
    # A model measures at most `Model.evaluations`; enumeration would call all 3125.
    front = sweep(objective, [], metric, bounds, improvers=None, max_evaluations=30)
    assert front.evaluations == len(calls) <= 30
    assert front.points


@pytest.mark.parametrize("costly", [False, True])
@pytest.mark.parametrize("most", [1, 2, 4])
@pytest.mark.parametrize("bounds", [[4, 6, 8], 3])
def test_a_sweep_never_evaluates_more_than_it_may(costly, most, bounds):
    calls = []
    slow = Function(SPACE, lambda s: calls.append(s) or float(ERROR(s)), name="error", costly=costly)
    front = sweep(slow, [], LATENCY, bounds, max_evaluations=most, initial=[0, 0, 0])
    assert front.evaluations == len(calls) <= most
    assert front.complete or front.stopped is Stop.EVALUATIONS
