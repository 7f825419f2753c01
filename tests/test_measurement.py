"""Measurements: one call for all metrics, its memory, its log, and selections that cannot be measured."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import (
    Additive,
    ChoiceSpace,
    Descent,
    Function,
    Invalid,
    Measurement,
    MetricError,
    Model,
    Search,
    SearchError,
    Status,
    Stop,
    Switches,
    maximize,
    maximum,
    minimize,
)
from cggd.metrics import table_of, values_of
from cggd.metrics.base import worsened

SPACE = ChoiceSpace({"block": [16, 32, 64, 128], "tile": [1, 2, 4], "unroll": ["no", "yes"]})


class Device:
    """Counts its calls; fails where block * tile is large."""

    def __init__(self, invalid=256):
        self.calls, self.invalid, self.lock = Counter(), invalid, threading.Lock()

    def __call__(self, s):
        with self.lock:
            self.calls[tuple(s.values())] += 1
        if s["block"] * s["tile"] >= self.invalid:
            raise Invalid("too many threads")
        return {"time": 300 / s["block"] + 5 / s["tile"] + (s["unroll"] == "no"), "power": s["block"] * s["tile"]}


def truth(device):
    """The best time of all selections of at most 100 W."""
    found = []
    for row in SPACE.enumerate():
        try:
            values = device(SPACE.labels(row))
        except Invalid:
            continue
        if values["power"] <= 100:
            found.append(values["time"])
    return min(found)


def bench(device=None, **options):
    return Measurement(SPACE, device or Device(), {"time": "ms", "power": "W"}, **options)


# -- one call for all metrics -----------------------------------------------------------------------------------------


def test_all_metrics_share_one_call_per_selection():
    device = Device()
    b = bench(device)
    rows = SPACE.enumerate()
    time_, power = values_of(b["time"], rows), values_of(b["power"], rows)
    assert max(device.calls.values()) == 1
    assert len(b) == len(device.calls) == len(rows)
    assert (np.isnan(time_) == np.isnan(power)).all()
    assert np.isnan(time_).sum() == sum(r[0] * r[1] >= 256 for r in device.calls)


def test_a_search_measures_exactly_as_often_as_it_may():
    for n in (1, 2, 5, 12, 20):
        device = Device()
        b = bench(device)
        result = minimize(b["time"], [b["power"] <= 100], max_evaluations=n)
        assert sum(device.calls.values()) == result.evaluations == n
        assert result.stopped is Stop.EVALUATIONS
        if result.feasible:
            assert b["time"](result.selection) == result.value
            assert sum(device.calls.values()) == n


def test_the_answer_is_the_best_measured():
    device = Device()
    b = bench(device)
    result = minimize(b["time"], [b["power"] <= 100], max_evaluations=15)
    known, means, _ = b.known(SPACE.enumerate())
    feasible = known & (means[:, 1] <= 100)
    assert result.value == means[feasible, 0].min()


def test_the_whole_space_is_measured_and_proves_the_optimum():
    device = Device()
    b = bench(device)
    result = minimize(b["time"], [b["power"] <= 100])
    assert max(device.calls.values()) == 1
    assert result.status is Status.OPTIMAL
    assert result.value == truth(Device())
    result = minimize(b["time"], [b["power"] <= 1])
    assert result.status is Status.INFEASIBLE


def test_what_was_measured_before_is_an_answer_without_a_call():
    device = Device()
    b = bench(device)
    values_of(b["time"], SPACE.enumerate())
    device.calls.clear()
    result = minimize(b["time"], [b["power"] <= 100], max_evaluations=5)
    assert not device.calls
    assert result.value == truth(Device())


def test_cheap_bounds_gate_every_call():
    device = Device()
    b = bench(device)
    size = Additive(SPACE, [1, 2, 3, 4, 1, 2, 3, 0, 1], name="size")
    rule = Function(SPACE, lambda s: float(s["unroll"] == "yes" and s["tile"] == 4), name="rule")
    result = minimize(b["time"], [size <= 5, rule <= 0, b["power"] <= 100], max_evaluations=10)
    assert result.feasible
    for block, tile, unroll in device.calls:
        selection = {"block": block, "tile": tile, "unroll": unroll}
        assert size(selection) <= 5
        assert rule(selection) == 0


def test_known_limits_rule_selections_out():
    """With a lower limit of 0 on the power, a total above the bound is known from the cheap part alone."""
    device = Device()
    b = bench(device, limits={"power": (0.0, np.inf), "time": (0.0, np.inf)})
    base = Additive(SPACE, [0, 0, 50, 90, 0, 0, 20, 0, 0], name="base", unit="W")
    minimize(b["time"], [b["power"] + base <= 80], max_evaluations=12)
    assert all(base({"block": k[0], "tile": k[1], "unroll": k[2]}) <= 80 for k in device.calls)


def test_an_objective_that_cannot_be_better_is_not_measured():
    calls = []

    def run(s):
        calls.append(s)
        return {"extra": 0.0}

    b = Measurement(SPACE, run, ["extra"], limits={"extra": (0, 9)})
    base = Additive(SPACE, np.arange(9.0), name="base")
    result = minimize(base + b["extra"], initial=[0, 0, 0])
    assert result.status is Status.OPTIMAL
    assert len(calls) == 1


def test_costly_functions_are_never_called_twice():
    calls = Counter()

    def slow(s):
        calls[tuple(s.values())] += 1
        return float(s["block"] + s["tile"])

    metric = Function(SPACE, slow, costly=True, name="slow")
    result = maximize(metric, max_evaluations=9)
    assert max(calls.values()) == 1
    assert sum(calls.values()) == result.evaluations == 9


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 60), seed=st.integers(0, 3), polish=st.booleans(), batch=st.booleans())
def test_plain_functions_keep_the_limit_exactly(n, seed, polish, batch):
    calls = []

    def one(s):
        calls.append(s)
        return float(len(calls) % 7)

    def many(rows):
        calls.extend(rows.tolist())
        return rows.sum(axis=1).astype(float)

    f = Function(SPACE, many if batch else lambda s: one(s) * 0 + s["block"], name="f", batch=batch)
    improvers = [Switches()] if polish else [Descent(steps=20, starts=2)]
    result = minimize(f, [Additive(SPACE, np.arange(9.0), name="a") <= 12], max_evaluations=n, seed=seed,
                      improvers=improvers)  # fmt: skip
    assert len(calls) == result.evaluations <= n


def test_measured_neighbours_are_not_thrown_away():
    """A table evaluates every switch; the best feasible one of them is an answer."""
    values = {}

    def f(s):
        return values.setdefault(tuple(s.values()), float(s["block"] * 7 % 50 + s["tile"]))

    metric = Function(SPACE, f, name="f")
    result = minimize(metric, max_evaluations=12, improvers=[Descent(steps=1, starts=1)])
    assert result.value == min(values.values())


# -- invalid selections -----------------------------------------------------------------------------------------------

WAYS = {
    "raise": lambda s: (_ for _ in ()).throw(Invalid("no")),
    "inf": lambda s: np.inf,
    "minus inf": lambda s: -np.inf,
    "nan": lambda s: np.nan,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("costly", [False, True])
def test_invalid_selections_never_end_a_search_and_are_no_answer(way, costly):
    def f(s):
        return WAYS[way](s) if s["tile"] == 2 or s["block"] == 16 else s["block"] / s["tile"]

    metric = Function(SPACE, f, name="f", costly=costly)
    additive = Additive(SPACE, [0, 5, 3, 1, 3, 0, 2, 1, 2], name="a")
    for sense in (minimize, maximize):
        result = sense(metric, [additive <= 6])
        good = [f(SPACE.labels(r)) for r in SPACE.enumerate() if r[1] != 1 and r[0] and additive(r) <= 6]
        assert result.value == (min if sense is minimize else max)(good)
    for bound in (metric <= 20, metric >= 20, metric <= np.inf, 2 * metric + additive <= 1e9):
        result = minimize(additive, [bound])
        assert result.feasible
        assert result.selection["tile"] != 2
        assert result.selection["block"] != 16
        assert np.isnan(bound.values(np.array([[0, 0, 0]]))).all()
        assert not bound.holds(np.array([[0, 0, 0]]))[0]


def test_a_space_of_invalid_selections_has_no_answer():
    metric = Function(SPACE, lambda s: np.nan, name="f")
    for improvers in (None, [Descent(steps=5)], [Switches()]):
        result = minimize(Additive(SPACE, np.arange(9.0)), [metric <= 5], max_evaluations=40, improvers=improvers)
        assert result.selection is None
        assert minimize(metric, max_evaluations=40, improvers=improvers).selection is None


def test_an_own_metric_may_raise_invalid_for_a_batch():
    class Own(Additive):
        def evaluate(self, selections):
            if (selections[:, 0] == 0).any():
                raise Invalid("block 16 does not run")
            return selections.sum(axis=1).astype(float)

    own = Own(SPACE, np.zeros(9), name="own")
    values = values_of(own, SPACE.enumerate())
    assert (np.isnan(values) == (SPACE.enumerate()[:, 0] == 0)).all()
    assert np.isnan(table_of(own, np.array([1, 0, 0]))).tolist() == [True] + [False] * 8
    assert minimize(own).value == 1.0


@given(
    st.lists(st.floats(-1e6, 1e6) | st.just(np.nan), min_size=1, max_size=8),
    st.sampled_from([1.0, -1.0]),
    st.floats(-1e6, 1e6),
)
def test_in_tables_invalid_is_worse_than_any_number(numbers, sign, limit):
    table = np.array(numbers)
    shown = worsened(table, sign, limit)
    wrong = np.isnan(table)
    assert np.isfinite(shown).all()
    assert (shown[~wrong] == table[~wrong]).all()
    if wrong.any():
        assert (sign * shown[wrong] > limit).all()
        if not wrong.all():
            assert sign * shown[wrong].min() > (sign * table[~wrong]).max() - 1e-9
            assert (sign * shown[wrong, None] > sign * table[~wrong]).all()


def test_maxima_of_measured_metrics():
    b = bench()
    both = maximum(b["time"], b["power"])
    assert both.costly
    assert np.isnan(both({"block": 128, "tile": 4, "unroll": "no"}))
    assert both({"block": 16, "tile": 1, "unroll": "yes"}) == 23.75


# -- the log ----------------------------------------------------------------------------------------------------------


def test_a_new_run_reads_the_log(tmp_path):
    first, second = Device(), Device()
    path = tmp_path / "runs.jsonl"
    b = bench(first, log=path)
    minimize(b["time"], [b["power"] <= 100], max_evaluations=10)
    again = bench(second, log=path)
    assert len(again) == 10
    result = minimize(again["time"], [again["power"] <= 60], max_evaluations=8, seed=1)
    assert not set(first.calls) & set(second.calls)
    assert sum(second.calls.values()) <= 8
    assert result.feasible
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["metrics"] == {"time": "ms", "power": "W"}
    for line in lines[1:]:
        assert set(line) - {"values", "invalid"} == {"selection", "seconds", "time"}
        assert list(line["selection"]) == ["block", "tile", "unroll"]


def test_invalid_selections_are_remembered_and_errors_are_not(tmp_path):
    path, broken = tmp_path / "runs.jsonl", [True]

    def run(s):
        if s["block"] == 128:
            raise Invalid("too large")
        if broken[0]:
            raise OSError("device went away")
        return {"time": 1.0, "power": 2.0}

    b = Measurement(SPACE, run, ["time", "power"], log=path, retries=2)
    assert np.isnan(b["time"]([3, 0, 0]))
    with pytest.raises(MetricError, match=r"raised OSError: device went away \(2 retries\)"):
        b["time"]([0, 0, 0])
    broken[0] = False
    assert sum("error" in line for line in path.read_text().splitlines()) == 3
    again = Measurement(SPACE, lambda s: {"time": 7.0, "power": 2.0}, ["time", "power"], log=path)
    assert len(again) == 1
    assert again["time"]([0, 0, 0]) == 7.0
    assert np.isnan(again["time"]([3, 0, 0]))


def test_a_retry_saves_the_measurement():
    tries = Counter()

    def run(s):
        tries[s["block"]] += 1
        if tries[s["block"]] < 3:
            raise OSError("busy")
        return {"time": 1.0}

    assert Measurement(SPACE, run, ["time"], retries=2)["time"]([0, 0, 0]) == 1.0


def test_a_broken_device_ends_the_search_with_the_best_until_then():
    device = Device()

    def run(s):
        if sum(device.calls.values()) == 8:
            raise OSError("gone")
        return device(s)

    b = bench(run)
    with pytest.raises(SearchError, match="gone") as caught:
        minimize(b["time"], max_evaluations=20)
    assert caught.value.result.feasible


def test_a_cut_off_line_is_removed(tmp_path):
    path = tmp_path / "runs.jsonl"
    b = bench(log=path)
    values_of(b["time"], SPACE.enumerate()[:5])
    whole = path.read_bytes()
    for cut in (1, 10, 40):
        path.write_bytes(whole[:-cut])
        again = bench(log=path)
        assert len(again) == 4
        values_of(again["time"], SPACE.enumerate()[:5])
        assert len(bench(log=path)) == 5


def test_logs_of_others_are_refused(tmp_path):
    path = tmp_path / "runs.jsonl"
    bench(log=path)["time"]([0, 0, 0])
    other = ChoiceSpace({"block": [16, 32], "tile": [1, 2, 4], "unroll": ["no", "yes"]})
    with pytest.raises(ValueError, match="log of another choice space"):
        Measurement(other, Device(), ["time"], log=path)
    assert len(Measurement(SPACE, Device(), ["energy"], log=path)) == 0
    assert len(Measurement(SPACE, Device(), ["power"], log=path)) == 1
    path.write_text(path.read_text() + '{"selection": {"block": 16}}\n')
    with pytest.raises(ValueError, match=r"line 3: .*leaves decisions open"):
        bench(log=path)
    path.write_text(path.read_text().rsplit("\n", 2)[0] + '\n{"selektion": 1}\n')
    with pytest.raises(ValueError, match="line 3 has the unknown key 'selektion'"):
        bench(log=path)


def test_labels_that_are_not_text(tmp_path):
    space = ChoiceSpace({0: [(3, 3), (5, 5)], ("a", 1): [None, True]})
    b = Measurement(space, lambda s: {"x": float(s[0][0])}, ["x"], log=tmp_path / "log")
    values_of(b["x"], space.enumerate())
    again = Measurement(space, Device(), ["x"], log=tmp_path / "log")
    assert values_of(again["x"], space.enumerate()).tolist() == values_of(b["x"], space.enumerate()).tolist()


def _worker(path, calls, start):
    def run(s):
        with open(calls, "a") as file:
            file.write(f"{s['block']}-{s['tile']}-{s['unroll']}\n")
        return {"time": float(s["block"]), "power": 1.0}

    b = Measurement(SPACE, run, ["time", "power"], log=path)
    rows = SPACE.enumerate()
    values_of(b["time"], np.concatenate([rows[start:], rows[:start]]))


def test_processes_share_the_log_and_measure_nothing_twice(tmp_path):
    path, calls = tmp_path / "log", tmp_path / "calls"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_worker, args=(path, calls, start)) for start in (0, 0, 5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    made = calls.read_text().split()
    assert len(made) == len(set(made)) == 24
    assert len(path.read_text().splitlines()) == 25


def test_threads_share_the_memory(tmp_path):
    device = Device()
    b = bench(device, log=tmp_path / "log")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: values_of(b["time"], SPACE.enumerate()), range(4)))
    assert max(device.calls.values()) == 1
    assert len(device.calls) == 24


def _killed(path):
    def run(s):
        if s["block"] == 128:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"time": 1.0, "power": 1.0}

    b = Measurement(SPACE, run, ["time", "power"], log=path)
    values_of(b["time"], SPACE.enumerate())


def test_a_killed_process_loses_the_call_in_flight_only(tmp_path):
    worker = multiprocessing.get_context("fork").Process(target=_killed, args=(tmp_path / "log",))
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    b = bench(log=tmp_path / "log")
    assert len(b) == 18
    assert len(values_of(b["time"], SPACE.enumerate())) == 24


# -- repeats and timeouts ---------------------------------------------------------------------------------------------


def test_repeats_give_means_and_errors(tmp_path):
    numbers = iter(np.arange(100.0))
    b = Measurement(SPACE, lambda s: {"time": next(numbers)}, ["time"], repeats=4, log=tmp_path / "log")
    metric = b["time"]
    assert metric.noisy
    assert metric([0, 0, 0]) == 1.5
    assert metric.value_errors(np.array([[0, 0, 0]]))[0] == pytest.approx(np.std([0, 1, 2, 3], ddof=1) / 2)
    result = minimize(metric, [(metric <= 1e3).at_confidence(0.9)], max_evaluations=20)
    assert result.evaluations == 20
    assert next(numbers) == 24.0
    again = Measurement(SPACE, Device(), ["time"], repeats=4, log=tmp_path / "log")
    assert again["time"]([0, 0, 0]) == 1.5


def test_a_call_that_hangs_is_invalid():
    def run(s):
        if s["block"] == 16:
            time.sleep(30)
        return {"time": 1.0}

    b = Measurement(SPACE, run, ["time"], timeout=0.05)
    assert np.isnan(b["time"]([0, 0, 0]))
    assert b["time"]([1, 0, 0]) == 1.0


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (5.0, "must return a mapping of time, power"),
        ({"time": 1.0}, "no value of 'power' among the numbers"),
        ({"time": "fast", "power": 1}, "'time' of a measurement must be a number"),
    ],
)
def test_wrong_answers_are_errors(returned, message):
    with pytest.raises(MetricError, match=message):
        bench(lambda s: returned)["time"]([0, 0, 0])


def test_wrong_arguments():
    with pytest.raises(TypeError, match="run must be callable, or None, got 3"):
        Measurement(SPACE, 3, ["time"])
    with pytest.raises(ValueError, match="metrics must be a mapping"):
        Measurement(SPACE, Device(), "time")
    with pytest.raises(ValueError, match="limits names 'speed'"):
        Measurement(SPACE, Device(), ["time"], limits={"speed": (0, 1)})
    with pytest.raises(KeyError, match="has no metric 'speed'; it has 'time', 'power'"):
        bench()["speed"]
    with pytest.raises(TypeError, match="regressor must have the methods fit and predict"):
        Model(regressor=3)


def test_an_executor_runs_a_batch_at_once():
    device = Device()
    b = bench(device)
    with ThreadPoolExecutor(4) as pool:
        result = minimize(b["time"], [b["power"] <= 100], max_evaluations=16, executor=pool, improvers=[Model(batch=4)])
    assert sum(device.calls.values()) == result.evaluations == 16
    assert result.feasible


def test_a_search_goes_on_from_a_checkpoint(tmp_path):
    device = Device()
    b = bench(device)
    where = {"checkpoint": tmp_path / "search.ckpt", "resume": True}
    first = minimize(b["time"], [b["power"] <= 100], max_evaluations=8, **where)
    again = minimize(b["time"], [b["power"] <= 100], max_evaluations=8, seed=0, **where)
    assert again.value <= first.value
    assert max(device.calls.values()) == 1
    with pytest.raises(TypeError, match="make one there with the same log"):
        pickle.dumps(b)


@pytest.mark.parametrize("nan", [np.nan, np.float32(np.nan), np.array(np.nan)])
def test_a_number_that_is_nan_makes_its_selection_invalid(nan, tmp_path):
    path = tmp_path / "log.jsonl"

    def run(s):
        return {"time": nan if s["tile"] == 2 else s["block"] / s["tile"], "power": 1.0, "note": nan}

    b = Measurement(SPACE, run, ["time", "power"], log=path)
    result = minimize(b["time"], [b["power"] <= 2])
    assert (result.status, result.value, result.evaluations) == (Status.OPTIMAL, 4.0, 24)
    assert np.isnan(Measurement(SPACE, None, ["time"], log=path)["time"]([0, 1, 0]))
    search = Search(Measurement(SPACE, None, ["time"])["time"])
    search.tell([0, 0, 0], {"time": nan})
    search.tell([1, 0, 0], {"time": 3.0})
    assert search.result().value == 3.0
