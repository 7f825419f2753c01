"""Ask and tell, and measurements in flight."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cggd import Additive, ChoiceSpace, Invalid, Measurement, Model, Search, SearchError, Status, minimize

SPACE = ChoiceSpace({"block": [16, 32, 64, 128], "tile": [1, 2, 4], "unroll": ["no", "yes"]})


def device(s):
    if s["block"] * s["tile"] >= 256:
        raise Invalid("too many threads")
    return {"time": 300 / s["block"] + 5 / s["tile"] + (s["unroll"] == "no"), "power": s["block"] * s["tile"]}


def answer(s):
    try:
        return device(s)
    except Invalid as error:
        return error


def elsewhere(**options):
    return Measurement(SPACE, None, {"time": "ms", "power": "W"}, **options)


def ask_and_tell(bench, n, batch, seed=0):
    search = Search(bench["time"], [bench["power"] <= 100], seed=seed)
    seen = []
    while len(seen) < n and (asked := search.ask(min(batch, n - len(seen)))):
        for selection in asked:
            seen.append(tuple(selection.values()))
            search.tell(selection, answer(selection))
    return search, seen


@pytest.mark.parametrize("batch", [1, 4])
def test_nothing_is_asked_for_twice_and_all_is_asked_for(batch):
    search, seen = ask_and_tell(elsewhere(), 100, batch)
    assert len(seen) == len(set(seen)) == 24
    result = search.result()
    assert result.status is Status.OPTIMAL
    assert result.value == min(device(SPACE.labels(r))["time"] for r in SPACE.enumerate()
                               if SPACE.labels(r)["block"] * SPACE.labels(r)["tile"] <= 100)  # fmt: skip
    assert search.ask(3) == []


def test_a_search_goes_on_from_the_log(tmp_path):
    first, seen = ask_and_tell(elsewhere(log=tmp_path / "log"), 10, 2)
    again, more = ask_and_tell(elsewhere(log=tmp_path / "log"), 6, 2, seed=1)
    assert not set(seen) & set(more)
    assert again.result().value <= first.result().value


def test_what_was_not_asked_for_may_be_told():
    bench = elsewhere()
    search = Search(bench["time"], [bench["power"] <= 100])
    search.tell({"block": 64, "tile": 1, "unroll": "yes"}, {"time": 1.0, "power": 5.0})
    search.tell([0, 0, 0], None)
    search.tell([0, 0, 0], {"time": 0.0, "power": 0.0})  # what is known is kept
    assert search.result().value == 1.0
    assert len(bench) == 2


def test_it_asks_and_tells_the_same_as_a_search_of_its_own():
    bench = Measurement(SPACE, device, ["time", "power"])
    alone = minimize(bench["time"], [bench["power"] <= 100], max_evaluations=16)
    search, _ = ask_and_tell(elsewhere(), 16, 1)
    assert alone.value <= 1.05 * search.result().value
    assert search.result().value <= 1.05 * alone.value


def test_wrong_arguments():
    bench = elsewhere()
    with pytest.raises(ValueError, match="needs a costly metric"):
        Search(Additive(SPACE, range(9)))
    search = Search(bench["time"])
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        search.ask(0)
    with pytest.raises(TypeError, match="values must be a mapping of names to numbers"):
        search.tell([0, 0, 0], 5.0)
    with pytest.raises(ValueError, match="returned no value of 'power'"):
        search.tell([0, 0, 0], {"time": 5.0})
    with pytest.raises(SearchError, match="this measurement has no run"):
        minimize(bench["time"], max_evaluations=5)


# -- calls in flight --------------------------------------------------------------------------------------------------


class Busy:
    """Counts how many calls run at the same time; fails as a dead worker does."""

    def __init__(self, die=()):
        self.now = self.most = self.calls = 0
        self.lock, self.die = threading.Lock(), die

    def __call__(self, s):
        with self.lock:
            self.now += 1
            self.calls += 1
            call = self.calls
            self.most = max(self.most, self.now)
        time.sleep(0.002 * (1 + s["tile"]))
        with self.lock:
            self.now -= 1
        if call in self.die:
            raise OSError("worker died")
        return device(s)


def test_calls_in_flight_are_counted_exactly_and_none_is_lost():
    run = Busy()
    bench = Measurement(SPACE, run, ["time", "power"])
    with ThreadPoolExecutor(4) as pool:
        result = minimize(
            bench["time"], [bench["power"] <= 100], max_evaluations=17, executor=pool, improvers=[Model(batch=4)]
        )
    assert run.calls == result.evaluations == len(bench) == 17
    assert 2 <= run.most <= 4
    known, means, _ = bench.known(SPACE.enumerate())
    assert result.value == means[known & (means[:, 1] <= 100), 0].min()


def test_a_worker_that_dies_costs_one_measurement():
    run = Busy(die={3, 7})
    bench = Measurement(SPACE, run, ["time", "power"])
    with ThreadPoolExecutor(3) as pool, pytest.warns(RuntimeWarning, match="a measurement is lost: .*worker died"):
        result = minimize(
            bench["time"], [bench["power"] <= 100], max_evaluations=14, executor=pool, improvers=[Model(batch=3)]
        )
    assert result.feasible
    assert (run.calls, len(bench)) == (14, 12)


@pytest.mark.filterwarnings("ignore:a measurement is lost")
def test_a_device_that_is_gone_ends_the_search():
    bench = Measurement(SPACE, Busy(die=range(4, 100)), ["time", "power"])
    with ThreadPoolExecutor(2) as pool, pytest.raises(SearchError, match="worker died") as caught:
        minimize(bench["time"], max_evaluations=20, executor=pool, improvers=[Model(batch=2)])
    assert caught.value.result.feasible
