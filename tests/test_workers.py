"""Workers that die: a call is lost at most, never the search."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from cggd import ChoiceSpace, Function, Measurement, Model, SearchError, maximize, minimize, sweep
from cggd.metrics.workers import Workers

SPACE = ChoiceSpace({"a": [1, 2, 3, 4], "b": [1, 2, 3], "c": [0, 1]})
SERIAL = itertools.count()
FORK = multiprocessing.get_context("fork")


def run(s):
    """Kills its process for one selection."""
    if (s["a"], s["b"], s["c"]) == (2, 2, 1):
        os._exit(1)
    return {"time": (s["a"] - 3) ** 2 + s["b"] + s["c"], "power": float(s["a"])}


def dies_once(path):
    """Kills its process unless the file exists."""
    if not os.path.exists(path):
        open(path, "w").close()
        os._exit(1)
    return 7


def pool():
    return ProcessPoolExecutor(2, mp_context=FORK)


@pytest.mark.filterwarnings("ignore:a measurement is lost")
@pytest.mark.parametrize("factory", [False, True])
def test_a_process_that_dies_costs_one_measurement(factory):
    bench = Measurement(SPACE, run, ["time", "power"])
    with pool() as given:
        executor = pool if factory else given
        result = minimize(bench["time"], [bench["power"] <= 3], executor=executor, max_evaluations=24)
    assert result.value == 1
    assert len(bench) == 23
    assert result.evaluations == 24


def test_a_process_that_dies_by_chance_costs_nothing(tmp_path):
    workers = Workers(pool)
    calls = [workers.submit(dies_once, tmp_path / "dead"), workers.submit(pow, 2, 3)]
    assert [call.result() for call in calls] == [7, 8]
    workers.close()
    with pool() as given:
        workers = Workers(given)
        assert workers.submit(dies_once, tmp_path / "dead 2").result() == 7
        workers.close()


def test_a_function_that_always_kills_its_process_ends_the_search_with_what_was_found():
    slow = Function(SPACE, run_number, name="slow")
    with pytest.raises(SearchError, match="its worker died, 3 times"):
        minimize(slow, executor=pool)


def run_number(s):
    return run(s)["time"]


def test_a_broken_pool_of_the_function_itself_is_its_error():
    def broken(s):
        raise BrokenExecutor("inside")

    with ThreadPoolExecutor(1) as given:
        call = Workers(given).submit(broken, {})
        with pytest.raises(BrokenExecutor, match=r"^inside$"):
            call.result()


def test_an_executor_that_cannot_be_made_anew_says_so():
    class Fragile:
        def submit(self, fn, *args):
            raise BrokenExecutor("gone")

    with pytest.raises(SearchError, match="gone; to go on with another executor, give executor= a function"):
        minimize(Function(SPACE, run_number), executor=Fragile())
    with pytest.raises(TypeError, match=r"a function that makes an executor, got .*, which made 3"):
        minimize(Function(SPACE, run_number), executor=lambda: 3)


@pytest.mark.filterwarnings("ignore:a measurement is lost")
def test_a_sweep_runs_through_one_executor():
    made = []

    def make():
        made.append(pool())
        return made[-1]

    bench = Measurement(SPACE, run, ["time", "power"])
    front = sweep(bench["time"], [], bench["power"], [1, 2, 3], executor=make, max_evaluations=60)
    assert front.values.tolist() == [5, 2, 1]
    # Each of the searches, of which two meet the selection that kills, loses three pools to it.
    assert len(made) <= 1 + 3 * 3
    assert all(one._shutdown_thread or one._broken for one in made)


def test_as_many_calls_are_in_flight_as_there_are_workers():
    now, most, lock, both = [0], [0], threading.Lock(), threading.Event()

    def meets(s):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        if now[0] == 2:
            both.set()
        both.wait(5)
        with lock:
            now[0] -= 1
        return {"time": float(s["a"])}

    bench = Measurement(SPACE, meets, ["time"])
    with ThreadPoolExecutor(2) as given:
        minimize(bench["time"], executor=given, max_evaluations=8)
    assert most[0] == 2
    assert Model().batch is None


class Never(Future):
    """Has no answer, however long one waits."""

    def result(self, timeout=None):
        assert timeout is not None
        assert timeout > 1000
        raise TimeoutError


class Silent:
    """Its futures of one selection never end: the worker died, and nobody noticed."""

    def __init__(self, pool):
        self._pool = pool

    def submit(self, fn, *args):
        call = self._pool.submit(fn, *args)
        selection = next(x for x in args if isinstance(x, dict))
        return Never() if (selection["a"], selection["b"]) == (2, 2) else call


@pytest.mark.filterwarnings("ignore:a measurement is lost")
def test_a_worker_that_falls_silent_costs_one_measurement():
    bench = Measurement(SPACE, lambda s: {"time": float(s["b"] + s["c"])}, ["time"], timeout=1000)
    with ThreadPoolExecutor(2) as given:
        result = minimize(bench["time"], executor=Silent(given), improvers=[Model(batch=2)], max_evaluations=24)
    assert (result.value, len(bench), result.evaluations) == (1, 22, 24)


@pytest.mark.parametrize(("ahead", "patience"), [(0, 0.5), (3, 2.0)])
def test_an_answer_is_waited_for_as_long_as_the_calls_before_it_may_take(monkeypatch, ahead, patience):
    monkeypatch.setattr("cggd.metrics.workers.PASSING_SECONDS", 0.0)
    monkeypatch.setattr("cggd.metrics.workers.time.monotonic", lambda: 100.0)
    waited = []

    class Waits(Future):
        def result(self, timeout=None):
            waited.append(timeout)
            raise TimeoutError

    class Queue:
        def submit(self, fn, *args):
            return Waits()

    workers = Workers(Queue())
    calls = [workers.submit(pow, 2, 3) for _ in range(ahead + 1)]
    with pytest.raises(TimeoutError, match=f"no answer from the executor within {patience:g} s"):
        calls[-1].result(0.5)
    assert waited == [patience]


def number_of(s):
    return float(s["a"] * s["b"] + s["c"])


def test_few_evaluations_of_plain_functions_go_through_the_executor():
    product, power = Function(SPACE, number_of, name="product"), Function(SPACE, lambda s: s["a"] + 0.0, name="power")
    with ThreadPoolExecutor(2) as given:
        result = maximize(product, [power <= 3], executor=given, max_evaluations=20)
    assert result.value == 10
    assert result.evaluations <= 20


def test_independent_starts_side_by_side_share_an_executor_and_measure_nothing_twice():
    calls = []

    def counted(s):
        calls.append(tuple(s.values()))
        return {"time": number_of(s)}

    bench = Measurement(SPACE, counted, ["time"])
    with ThreadPoolExecutor(2) as given, ThreadPoolExecutor(3) as starts:
        searches = [
            starts.submit(minimize, bench["time"], executor=given, seed=seed, max_evaluations=7) for seed in range(3)
        ]
        results = [search.result() for search in searches]
    assert len(calls) == len(set(calls)) == len(bench)
    assert min(result.value for result in results) == bench["time"].evaluate(bench.selections()).min()
    assert sum(result.evaluations for result in results) == len(calls)


def serial_number(s):
    return {"time": float(next(SERIAL))}


def test_a_dask_cluster_makes_each_repeat_and_says_how_many_workers_it_has():
    distributed = pytest.importorskip("distributed")
    bench = Measurement(SPACE, serial_number, ["time"], repeats=3)
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        assert Workers(client.get_executor()).number == 2
        minimize(bench["time"], executor=client.get_executor(), max_evaluations=6)
    assert sorted(x for rows in bench.pack()[1].tolist() for x in rows) == [0, 1, 2, 3, 4, 5]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:a measurement is lost")
def test_a_process_of_a_dask_cluster_that_dies_costs_one_measurement():
    distributed = pytest.importorskip("distributed")
    bench = Measurement(SPACE, run, ["time", "power"])
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        result = minimize(bench["time"], [bench["power"] <= 3], executor=client.get_executor(), max_evaluations=24)
    assert (result.value, len(bench), result.evaluations) == (1, 23, 24)
