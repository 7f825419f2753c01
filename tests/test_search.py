"""The search: what it returns, what it never loses, and how it goes on."""

import os
import shutil
import signal
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import (
    Additive,
    ChoiceSpace,
    Function,
    LongestPath,
    Metric,
    MetricError,
    Peak,
    Problem,
    Result,
    SearchError,
    Start,
    Status,
    Table,
    maximize,
    minimize,
    search,
    solve,
)
from cggd.datasets import mmkp, nats_topology
from cggd.layout import Layout
from cggd.options import Options
from tests.strategies import satisfying

SPACE = ChoiceSpace({"stem": ["a", "b", "c"], "body": ["a", "b"], "head": ["a", "b", "c"]})
ERROR = Additive(SPACE, [9, 4, 1, 5, 2, 7, 3, 1], name="error", unit="%")
LATENCY = Additive(SPACE, [1, 3, 5, 1, 4, 1, 2, 4], name="latency", unit="ms")


def brute_force(objective, constraints):
    everything = objective.space.enumerate()
    kept = everything[np.all([satisfying(c, everything) for c in constraints], axis=0)]
    return None if len(kept) == 0 else float(objective.evaluate(kept).min())


@st.composite
def problems(draw):
    options = st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=1, max_size=4)
    groups = draw(st.lists(options, min_size=1, max_size=5))
    space = ChoiceSpace.from_sizes([len(g) for g in groups])
    columns = np.array([row for g in groups for row in g], dtype=float).T
    objective, cost, size = (Additive(space, column) for column in columns)
    bounds = draw(st.tuples(st.integers(0, 30), st.integers(0, 30)))
    return objective, [cost <= bounds[0], size >= bounds[1]]


@settings(max_examples=60)
@given(problems())
def test_what_is_claimed_holds(problem):
    objective, constraints = problem
    optimum = brute_force(objective, constraints)
    result = minimize(objective, constraints, steps=60, starts=2)
    if result.feasible:
        assert all(c.report(result.selection).satisfied for c in constraints)
        assert [row.value for row in result.constraints] == [c.metric(result.indices) for c in constraints]
        assert result.value == objective(result.indices)
        assert optimum is not None
        assert result.value >= optimum
        assert result.bound is None or result.bound <= optimum
    if result.status is Status.OPTIMAL:
        assert result.value == optimum
    if result.status is Status.INFEASIBLE:
        assert optimum is None
    if not result.feasible:
        assert (result.selection, result.indices, result.value) == (None, None, None)


def test_small_problems_are_solved_to_the_optimum():
    for bound in (3, 5, 7, 9, 11, 13):
        result = minimize(ERROR, [bound >= LATENCY])
        assert result.value == brute_force(ERROR, [bound >= LATENCY])


def test_maximize_is_minimize_of_the_negative():
    high = maximize(-ERROR, [LATENCY <= 7])
    low = minimize(ERROR, [LATENCY <= 7])
    assert high.selection == low.selection
    assert high.value == -low.value
    assert solve(Problem(ERROR, [LATENCY <= 7])).selection == low.selection


def test_same_seed_same_trajectory():
    first, second, other = (minimize(ERROR, [LATENCY <= 7], seed=seed) for seed in (3, 3, 4))
    for name in ("start", "value", "violation", "best"):
        assert np.array_equal(getattr(first.history, name), getattr(second.history, name), equal_nan=True)
    assert not np.array_equal(first.history.value, other.history.value, equal_nan=True)


def test_without_constraints_the_best_of_all_is_proved():
    result = minimize(ERROR)
    assert (result.status, result.value, result.gap) == (Status.OPTIMAL, 4.0, 0.0)
    assert result.constraints == []


def test_a_bound_out_of_reach_is_proved_at_once():
    result = minimize(ERROR, [LATENCY <= 2.9])
    assert result.status is Status.INFEASIBLE
    assert len(result.history) == 0
    assert "latency <= 2.9 ms" in result.stopped
    assert "less than 3" in result.stopped


def test_a_conflict_that_shares_of_options_show_is_proved_at_once():
    # Each bound can be met, but not both: error 4 needs latency 13.
    result = minimize(ERROR, [LATENCY <= 4, ERROR <= 5])
    assert result.status is Status.INFEASIBLE
    assert result.stopped == "the bounds cannot be met together, proved by linear programming (HiGHS)"
    assert len(result.history) == 0


def test_another_conflict_is_proved_after_the_first_start():
    stored = Table(SPACE, ERROR.evaluate(SPACE.enumerate()), name="stored error")
    result = minimize(ERROR, [LATENCY <= 4, stored <= 5])
    assert result.status is Status.INFEASIBLE
    assert result.stopped == "all 18 selections were evaluated"
    assert set(result.history.start.tolist()) == {0}


def test_unknown_reports_the_nearest():
    space = ChoiceSpace.from_sizes([3] * 10)  # too many selections to call a black box for each
    black_box = Function(space, lambda s: float(len(set(s.values()))), name="kinds")
    rank = Additive(space, [0, 1, 2] * 10, name="rank")
    result = minimize(rank, [black_box >= 4], steps=10, starts=1)
    assert result.status is Status.UNKNOWN
    assert result.nearest is not None
    assert not all(row.satisfied for row in result.constraints)
    assert "nearest selection, not feasible" in result.summary()


@pytest.mark.parametrize("sizes", [[1], [3], [1, 1, 1], [1, 5, 1]])
def test_single_decisions_and_single_options(sizes):
    space = ChoiceSpace.from_sizes(sizes)
    objective = Additive(space, np.arange(space.n_options, 0, -1))
    assert minimize(objective, [objective >= objective.maximum()]).indices.tolist() == [0] * len(sizes)


def test_forbidden_options_are_neither_chosen_nor_evaluated():
    asked = []

    def error(selection):
        asked.append(selection["stem"])
        return float(ERROR(selection))

    result = minimize(Function(SPACE, error), [LATENCY <= 20], forbid={"stem": ["c"]}, steps=50, starts=2)
    assert result.selection == {"stem": "b", "body": "b", "head": "c"}
    assert "c" not in asked


def test_initial_selection_is_the_first_one_looked_at():
    seen = []
    given = {"stem": "c", "body": "a", "head": "b"}
    options = {"steps": 1, "polish": False, "callback": lambda p: seen.append(p.selection)}
    result = minimize(ERROR, [LATENCY <= 8], initial=given, starts=1, **options)
    assert SPACE.labels(seen[0]) == given
    assert result.selection == given
    seen.clear()
    minimize(ERROR, [LATENCY <= 8], initial={"body": "b"}, starts=3, **options)
    assert {SPACE.labels(s)["body"] for s in seen} == {"b"}


@pytest.mark.parametrize("kind", ["peak", "path", "table", "function"])
def test_every_kind_of_metric_can_be_objective_or_constraint(kind):
    rng = np.random.default_rng(0)
    graph = nx.DiGraph([("stem", "body"), ("body", "head")])
    metric = {
        "peak": Peak(SPACE, rng.integers(1, 9, 8)),
        "path": LongestPath(SPACE, graph, rng.integers(1, 9, 8)),
        "table": Table(SPACE, rng.integers(1, 50, SPACE.n_selections)),
        "function": Function(SPACE, lambda s: float(len(set(s.values())))),
    }[kind]
    bound = metric.quantile(0.3)
    assert minimize(ERROR, [metric <= bound]).value == brute_force(ERROR, [metric <= bound])
    assert minimize(metric, [LATENCY <= 9]).value == brute_force(metric, [LATENCY <= 9])


# -- stopping ---------------------------------------------------------------------------------------------------------


def test_steps_and_starts():
    result = minimize(ERROR, [LATENCY <= 7], steps=11, starts=3, polish=False)
    assert len(result.history) == 33
    assert np.bincount(result.history.start).tolist() == [11, 11, 11]
    assert result.stopped == "all 3 starts done"


def test_time_limit_is_shared_by_the_starts():
    result = minimize(Function(SPACE, lambda s: ERROR(s)), [LATENCY <= 7], steps=10**6, starts=3, time_limit=0.3)
    assert result.feasible
    assert set(result.history.start.tolist()) == {0, 1, 2}
    assert result.seconds < 5


def test_at_least_one_step_is_made_whatever_the_limit():
    assert len(minimize(ERROR, [LATENCY <= 7], time_limit=1e-9).history) >= 1


def test_max_evaluations():
    slow = Function(SPACE, lambda s: float(ERROR(s)), cache=False, name="slow")
    result = minimize(slow, [LATENCY <= 7], max_evaluations=50)
    assert "limit of 50 evaluations" in result.stopped
    assert 50 <= result.evaluations <= 50 + SPACE.n_options + 2


def test_the_look_for_a_feasible_selection_keeps_to_the_limits():
    space = ChoiceSpace.from_sizes([4] * 6)
    never = Function(space, lambda s: 1.0, name="never")
    result = minimize(Additive(space, np.arange(24)), [never <= 0], steps=2, starts=1, max_evaluations=300)
    assert result.status is Status.UNKNOWN
    assert result.evaluations <= 300 + 64


def test_no_improvement_ends_a_start():
    result = minimize(ERROR, [LATENCY <= 7], no_improvement=5, starts=2)
    assert len(result.history) < 600


def test_callback_stops_and_sees_progress():
    seen = []

    def callback(progress):
        seen.append(progress)
        return progress.step == 7

    result = minimize(ERROR, [LATENCY <= 7], callback=callback)
    assert [p.step for p in seen] == list(range(1, 8))
    assert result.stopped == "stopped by the callback"


# -- nothing is lost --------------------------------------------------------------------------------------------------


class Breaking(Metric):
    """An additive metric that raises at its nth call."""

    def __init__(self, at, error):
        self.space, self.name, self.unit = SPACE, "breaking", ""
        self.left, self.error = at, error

    def evaluate(self, selections):
        self.left -= 1
        if self.left == 0:
            raise self.error
        return LATENCY.evaluate(selections)


@pytest.mark.parametrize("at", [5, 50, 51, 52, 53, 200])
def test_interruption_returns_the_best_so_far(at):
    result = minimize(ERROR, [Breaking(at, KeyboardInterrupt()) <= 9], starts=2)
    assert result.stopped == "interrupted"
    finite = result.history.value[~np.isnan(result.history.value)]
    if len(finite):
        assert result.feasible
        assert result.value == finite.min()


def test_a_real_ctrl_c_returns():
    calls = []

    def error(selection):
        calls.append(selection)
        if len(calls) == 200:
            os.kill(os.getpid(), signal.SIGINT)
        return float(ERROR(selection))

    # Shells start what runs in their background with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = minimize(Function(SPACE, error, cache=False), [LATENCY <= 9], steps=1000)
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.stopped == "interrupted"
    assert result.feasible


@pytest.mark.parametrize("at", [1, 80, 200])
def test_an_exception_carries_the_best_so_far(at):
    with pytest.raises(SearchError, match="ZeroDivisionError: no power") as caught:
        minimize(ERROR, [Breaking(at, ZeroDivisionError("no power")) <= 9])
    assert isinstance(caught.value.__cause__.__cause__, ZeroDivisionError)
    result = caught.value.result
    if at == 1:
        assert result.status is Status.UNKNOWN
    else:
        assert result.feasible
        assert result.value == np.nanmin(result.history.value)


def test_a_metric_that_stays_broken_leaves_the_selection_unproved():
    class Broken(Breaking):
        def evaluate(self, selections):
            if self.left <= 1:
                raise self.error
            return super().evaluate(selections)

    with pytest.raises(SearchError) as caught:
        minimize(ERROR, [Broken(200, OSError("device lost")) <= 9])
    result = caught.value.result
    assert result.status is Status.UNKNOWN
    assert result.nearest is not None


def test_a_selection_is_called_feasible_only_if_it_is_so_afresh():
    class Drifting(Metric):
        """Looks feasible during the search, and is not when asked again at its end."""

        def __init__(self):
            self.space, self.name, self.unit, self.offset = SPACE, "drifting", "ms", 0.0

        def evaluate(self, selections):
            return LATENCY.evaluate(selections) + self.offset

    metric = Drifting()

    def drift(progress):
        metric.offset = 100.0
        return progress.step == 400

    with pytest.warns(UserWarning, match="'drifting' changed its answer"):
        result = minimize(ERROR, [metric <= 20], callback=drift)
    assert result.status is Status.UNKNOWN
    assert result.nearest is not None


# -- checkpoints ------------------------------------------------------------------------------------------------------


def same(a: Result, b: Result) -> None:
    assert (a.selection, a.value, a.status) == (b.selection, b.value, b.status)
    assert len(a.history) == len(b.history)
    for name in ("start", "value", "violation", "best") if len(a.history) else ():
        assert np.array_equal(getattr(a.history, name), getattr(b.history, name), equal_nan=True), name


@pytest.mark.parametrize("stop", [1, 30, 60, 61, 99])
def test_resuming_gives_the_trajectory_of_an_uninterrupted_run(tmp_path, stop):
    nats = nats_topology()
    options = {"steps": 60, "starts": 3, "seed": 5}
    constraints = [nats.latency <= 4.0, nats.energy <= 20.0]
    whole = maximize(nats.val12, constraints, **options)
    options["checkpoint"] = tmp_path / "state.npz"
    steps = iter(range(1, 1000))
    part = maximize(nats.val12, constraints, callback=lambda p: next(steps) == stop, **options)
    assert len(part.history) == stop
    same(maximize(nats.val12, constraints, resume=True, **options), whole)
    # Once more from its end.
    same(maximize(nats.val12, constraints, resume=True, **options), whole)


@pytest.mark.parametrize("at", [20, 21, 22, 23, 24, 100])
def test_resuming_after_an_interruption_in_the_middle_of_a_step(tmp_path, at):
    objective = Table(SPACE, np.random.default_rng(0).random(SPACE.n_selections))
    options = {"steps": 60, "starts": 2}
    whole = minimize(objective, [Breaking(0, None) <= 9], **options)
    options["checkpoint"] = tmp_path / "state.npz"
    minimize(objective, [Breaking(at, KeyboardInterrupt()) <= 9], **options)
    same(minimize(objective, [Breaking(0, None) <= 9], resume=True, **options), whole)


def test_resuming_with_other_data_is_an_error(tmp_path):
    path = tmp_path / "state.npz"
    minimize(ERROR, [LATENCY <= 7], steps=5, checkpoint=path)
    other = Additive(SPACE, ERROR.values + 1, name="error", unit="%")
    for objective, limit, forbid, what in (
        (other, LATENCY, None, "values of the objective"),
        (ERROR, Additive(SPACE, LATENCY.values * 2, name="latency", unit="ms"), None, "values of the constraints"),
        (ERROR, LATENCY, {"stem": ["a"]}, "forbidden options"),
    ):
        with pytest.raises(ValueError, match=f"belongs to another search: its {what}"):
            minimize(objective, [limit <= 7], steps=5, checkpoint=path, resume=True, forbid=forbid)


def test_the_files_of_interrupted_and_plain_runs_do_not_mix(tmp_path):
    path = tmp_path / "state.npz"
    minimize(ERROR, [LATENCY <= 7], steps=5, checkpoint=path)
    with pytest.raises(ValueError, match="belongs to another search: its constraints"):
        minimize(ERROR, [LATENCY <= 8], steps=5, checkpoint=path, resume=True)
    assert [p.name for p in tmp_path.iterdir()] == ["state.npz"]


# -- executors --------------------------------------------------------------------------------------------------------


def error_of(selection):
    return float(ERROR(selection))


def errors_of(selections):
    return ERROR.evaluate(selections)


@pytest.mark.parametrize("batch", [False, True])
def test_process_pool(batch):
    metric = Function(SPACE, errors_of if batch else error_of, batch=batch)
    alone = minimize(metric, [LATENCY <= 7], steps=30, starts=2)
    with ProcessPoolExecutor(2) as executor:
        fresh = Function(SPACE, errors_of if batch else error_of, batch=batch)
        same(minimize(fresh, [LATENCY <= 7], steps=30, starts=2, executor=executor), alone)


def test_dask_cluster():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        result = minimize(Function(SPACE, error_of), [LATENCY <= 7], steps=20, starts=1, executor=client.get_executor())
    assert result.feasible


def test_an_exception_in_a_worker_names_the_metric_and_the_selection():
    def fails(selection):
        raise OSError("device lost")

    wanted = r"'power' raised OSError: device lost; at"
    with ThreadPoolExecutor(2) as executor, pytest.raises(SearchError, match=wanted):
        minimize(Function(SPACE, fails, name="power"), executor=executor)


def test_metric_errors_are_the_cause():
    with pytest.raises(SearchError) as caught:
        minimize(Function(SPACE, lambda s: None, name="power"))
    assert isinstance(caught.value.__cause__, MetricError)


# -- the result -------------------------------------------------------------------------------------------------------


def test_json_round_trip():
    space = ChoiceSpace({("a", 1): [0, 1], "b": [None, ("x", 2.5)], 3: [True, "t"]})
    cost = Additive(space, [1, 2, 3, 4, 5, 6], name="cost", unit="EUR")
    for result in (minimize(cost, [cost >= 12], steps=20, starts=1), minimize(cost, [cost <= 1])):
        again = Result.from_json(result.to_json())
        same(again, result)
        assert again.to_json() == result.to_json()
        assert again.summary() == result.summary()
    assert len(Result.from_json(result.to_json(history=False)).history) == 0


def test_summary_tells_what_a_user_needs():
    text = minimize(ERROR, [LATENCY <= 7], polish=False).summary()
    for part in ("feasible", "error = ", "%", "latency <= 7 ms", "left", "stem: ", "seed 0", "600 steps"[3:]):
        assert part in text


def test_starts_can_be_given():
    result = minimize(ERROR, [LATENCY <= 7], starts=[Start(weights="confidence", learning_rate=0.5)], steps=50)
    assert result.feasible


# -- what it must reach -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["I01", "I02", "I03", "I04", "I05", "I06"])
def test_knapsacks_are_feasible_on_every_seed(name):
    knapsack = mmkp(name)
    for seed in range(4):
        result = maximize(knapsack.value, knapsack.constraints, seed=seed)
        assert result.feasible
        assert result.value <= knapsack.upper_bound + 1e-9


def test_i07_comes_within_one_percent_of_the_bound():
    knapsack = mmkp("I07")
    values = [maximize(knapsack.value, knapsack.constraints, seed=seed).value for seed in range(4)]
    assert min(values) >= 0.99 * 24607.95


def test_a_hundred_thousand_decisions():
    rng = np.random.default_rng(0)
    space = ChoiceSpace.from_sizes(np.full(100_000, 5))
    value, weight = Additive(space, rng.random(500_000)), Additive(space, rng.random(500_000))
    result = maximize(value, [weight <= 0.4 * weight.maximum()], steps=60, starts=1)
    assert result.feasible


def test_a_checkpoint_that_cannot_be_written_loses_no_result(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()

    def remove(progress):
        shutil.rmtree(folder, ignore_errors=True)

    with pytest.warns(RuntimeWarning, match=r"checkpoint .*state could not be written"):
        result = minimize(ERROR, [LATENCY <= 7], steps=5, polish=False, checkpoint=folder / "state", callback=remove)
    assert result.feasible
    assert len(result.history) == 30


def test_a_checkpoint_of_another_bound_is_refused_however_near_it_is(tmp_path):
    space = ChoiceSpace.from_sizes([2, 2])
    load, cost = Additive(space, [1234567.0, 1234571.0, 0, 1e6]), Additive(space, [0, 1.0, 0, 1])
    path = tmp_path / "state"
    assert minimize(cost, [load <= 1234566.0], steps=5, checkpoint=path).status is Status.INFEASIBLE
    with pytest.raises(ValueError, match="belongs to another search"):
        minimize(cost, [load <= 1234568.0], steps=5, checkpoint=path, resume=True)


# -- Ctrl-C at any time -----------------------------------------------------------------------------------------------


def press_at(monkeypatch, where, name, nth):
    """Press Ctrl-C as something is called for the nth time."""
    real, calls = getattr(where, name), []

    def pressing(*arguments, **options):
        calls.append(name)
        if len(calls) == nth:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(where, name, pressing)
    return calls


SET_UP = [
    (ChoiceSpace, "allowed"),
    (ChoiceSpace, "indices"),
    (Options, "several_starts"),
    (search, "impossible"),
    (search, "conflict_of_shares"),
    (search, "relax"),
    (search, "Guide"),
    (search, "Safeguard"),
    (np, "flatnonzero"),
    (np.random, "default_rng"),
]


@pytest.mark.parametrize(("where", "name"), SET_UP, ids=[name for _, name in SET_UP])
def test_ctrl_c_during_set_up_returns(monkeypatch, where, name):
    measured = Function(SPACE, lambda s: float(LATENCY(s)), name="measured")
    calls = press_at(monkeypatch, where, name, 1)
    result = minimize(ERROR, [measured <= 7], initial=[0, 0, 0], forbid={"stem": ["c"]}, steps=5, starts=1)
    assert calls
    if len(calls) == 1:  # the others are called again when the answer is put together
        assert result.stopped == "interrupted"
    assert (result.status, result.history.feasible.any()) == (Status.UNKNOWN, False)
    assert Result.from_json(result.to_json()).status is Status.UNKNOWN


@pytest.mark.parametrize(("where", "name"), [(ChoiceSpace, "labels"), (search, "Result"), (search, "History")])
def test_ctrl_c_while_the_answer_is_put_together(monkeypatch, where, name):
    press_at(monkeypatch, where, name, 1)
    assert minimize(ERROR, [LATENCY <= 7]).status is Status.OPTIMAL


@pytest.mark.parametrize("nth", [1, 2, 7, 20, 33, 40, 60])
def test_ctrl_c_in_the_middle_of_numpy(monkeypatch, nth):
    calls = press_at(monkeypatch, Layout, "argmax", nth)
    objective = Table(SPACE, np.random.default_rng(0).random(SPACE.n_selections))
    result = minimize(objective, [LATENCY <= 7], steps=20, starts=1, polish=False)
    assert result.stopped == "interrupted" if len(calls) >= nth else result.feasible
    assert result.feasible or not result.history.feasible.any()


def test_wrong_arguments_still_raise_when_they_are_looked_at_late():
    for wrong in ({"forbid": {"stem": ["z"]}}, {"initial": [9, 9, 9]}, {"starts": 0}):
        with pytest.raises(ValueError, match=r"stem|initial|starts"):
            minimize(ERROR, [LATENCY <= 7], **wrong)


def test_an_interrupted_set_up_leaves_the_checkpoint_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "state"
    minimize(ERROR, [LATENCY <= 7], steps=5, checkpoint=path)
    before = path.read_bytes()
    press_at(monkeypatch, ChoiceSpace, "allowed", 1)
    result = minimize(ERROR, [LATENCY <= 7], steps=5, checkpoint=path, resume=True)
    assert (result.stopped, path.read_bytes()) == ("interrupted", before)


# -- what cannot be evaluated again -----------------------------------------------------------------------------------


class Device:
    """A measured latency that fails, once something was found, each time that it is asked."""

    def __init__(self, error):
        self.error, self.gone = error, False

    def __call__(self, selection):
        if self.gone:
            raise self.error
        return float(LATENCY(selection))

    def watch(self, progress):
        self.gone = progress.best is not None and progress.step > 5


def unverified(result, stopped):
    assert (result.status, result.feasible, result.remeasured) == (Status.UNKNOWN, False, False)
    assert LATENCY(result.selection) <= 9
    assert result.value == ERROR(result.indices) == np.nanmin(result.history.value)
    assert [row.value for row in result.constraints] == [LATENCY(result.indices)]
    assert stopped in result.stopped
    assert "could not be evaluated again" in result.summary()
    again = Result.from_json(result.to_json())
    assert (again.remeasured, again.selection, again.summary()) == (False, result.selection, result.summary())


@pytest.mark.parametrize("error", [OSError("no such device"), MemoryError("full"), BrokenProcessPool("a worker died")])
def test_a_device_that_goes_away_leaves_what_it_had_measured(error):
    device = Device(error)
    metric = Function(SPACE, device, name="latency", cache=False)
    with pytest.raises(SearchError, match=r"in \.result, error = .*could not be evaluated again") as caught:
        minimize(ERROR, [metric <= 9], callback=device.watch)
    unverified(caught.value.result, type(error).__name__)


def test_ctrl_c_during_the_last_check_leaves_what_was_measured():
    device = Device(KeyboardInterrupt())
    metric = Function(SPACE, device, name="latency", cache=False)
    unverified(minimize(ERROR, [metric <= 9], callback=device.watch), "interrupted")


def test_a_device_that_fails_after_ctrl_c_is_no_error():
    device = Device(OSError("no such device"))
    metric = Function(SPACE, device, name="latency", cache=False)

    def press(progress):
        device.watch(progress)
        if device.gone:
            raise KeyboardInterrupt

    unverified(minimize(ERROR, [metric <= 9], callback=press), "no such device")


def test_what_was_evaluated_again_says_so():
    result = minimize(ERROR, [LATENCY <= 9])
    assert result.remeasured
    text = result.to_json().replace('"remeasured": true, ', "")  # as older versions wrote it
    assert Result.from_json(text).remeasured
    assert minimize(ERROR, [LATENCY <= 2]).remeasured


def test_an_exception_in_a_callback_carries_the_best():
    def fails(progress):
        if progress.best is not None:
            raise ZeroDivisionError("in the callback")

    with pytest.raises(SearchError, match="in the callback") as caught:
        minimize(ERROR, [Function(SPACE, lambda s: float(LATENCY(s))) <= 9], callback=fails)
    assert caught.value.result.feasible


def leave_or_measure(selection):
    if selection["stem"] == "c":
        os._exit(1)
    return float(LATENCY(selection))


def test_a_worker_that_dies_carries_the_best():
    metric = Function(SPACE, leave_or_measure, name="latency")
    metric.measure(np.array([[1, 0, 0]]))  # known: a feasible selection, which is looked at first
    with ProcessPoolExecutor(1) as executor, pytest.raises(SearchError, match="BrokenProcessPool") as caught:
        minimize(metric, [LATENCY <= 9], executor=executor, initial=[1, 0, 0], starts=1)
    result = caught.value.result
    assert (result.status, result.stopped.split(":")[0]) == (Status.UNKNOWN, "MetricError")


# -- the clock --------------------------------------------------------------------------------------------------------


class Clock:
    """A clock that goes on by as much as a test says, and a little when it is looked at."""

    def __init__(self, monkeypatch, tick=0.0):
        self.now, self.tick = 100.0, tick
        monkeypatch.setattr(search.time, "perf_counter", self.read)

    def read(self):
        self.now += self.tick
        return self.now


def test_a_batch_of_calls_ends_with_the_call_in_which_time_ends(monkeypatch):
    clock, calls = Clock(monkeypatch), []

    def slow(selection):
        calls.append(selection)
        clock.now += 1.0
        return float(LATENCY(selection))

    metric = Function(SPACE, slow, name="latency")
    result = minimize(ERROR, [metric <= 1], time_limit=3.5, steps=5)
    assert len(calls) == 4  # a replacement table takes 8
    assert (result.stopped, result.seconds) == ("time limit of 3.5 s", 4.0)
    assert len(result.history) == 1


@pytest.mark.parametrize("limit", [0.5, 5.0, 500.0])
def test_parts_that_do_not_fit_are_not_begun(monkeypatch, limit):
    """Every part takes a second for a hundred options, and is told so; none is begun that would end too late."""
    clock, begun = Clock(monkeypatch), []
    for name in ("LOOK_SECONDS", "STEP_SECONDS", "RELAX_SECONDS", "SEEK_SUMS_SECONDS", "POLISH_SECONDS"):
        monkeypatch.setattr(search, name, 0.1)
    monkeypatch.setattr(search, "ENTRY_SECONDS", 1.0)

    def part(name, seconds):
        def run(*arguments, **options):
            begun.append((name, clock.now - 100.0, seconds))
            clock.now += seconds
            return real(*arguments, **options)

        real = getattr(search, name)
        monkeypatch.setattr(search, name, run)

    for name, seconds in (("relax", 1.6), ("seek", 0.8), ("table_of", 0.8), ("polish", 1.0)):
        part(name, seconds)
    measured = Function(SPACE, lambda s: float(LATENCY(s)), name="latency")
    result = minimize(ERROR, [measured <= 1], time_limit=limit, steps=3, starts=4)
    assert result.seconds <= 1.2 * limit + 0.2
    assert all(at < limit for _, at, _ in begun)
    assert (len(begun) > 0) == (limit > 1)
    if limit == 500:
        assert {name for name, *_ in begun} >= {"relax", "seek"}
        assert result.status is Status.INFEASIBLE


def test_the_look_for_a_feasible_selection_does_not_begin_after_the_end(monkeypatch):
    clock = Clock(monkeypatch)
    monkeypatch.setattr(search, "seek", None)  # raises where it is called
    measured = Function(SPACE, lambda s: 50.0, name="latency")

    def late(progress):
        clock.now += 10.0

    result = minimize(ERROR, [measured <= 1], time_limit=9.0, callback=late, steps=1)
    assert (result.status, len(result.history)) == (Status.UNKNOWN, 1)


def test_a_limit_that_is_over_at_once_leaves_a_look_at_the_first_selection(monkeypatch):
    Clock(monkeypatch, tick=1e-3)
    result = minimize(ERROR, [LATENCY <= 7], time_limit=1e-9, initial=[1, 0, 0])
    assert (result.status, result.value, len(result.history)) == (Status.FEASIBLE, ERROR([1, 0, 0]), 1)
    assert minimize(ERROR, [LATENCY <= 2], time_limit=1e-9).status is Status.INFEASIBLE


def test_the_relaxation_may_use_half_of_the_time(monkeypatch):
    given = []

    def relaxed(problem, allowed, *, time_limit, stop):
        given.append(time_limit)

    monkeypatch.setattr(search, "relax", relaxed)
    for limit in (0.5, 10.0, None):
        minimize(ERROR, [LATENCY <= 7], time_limit=limit, steps=2, starts=1)
    assert 0.2 < given[0] <= 0.25
    assert 4.9 < given[1] <= 5.0
    assert given[2] is None


def test_generous_limits_change_no_answer():
    nats = nats_topology()
    constraints = [nats.latency <= 4.0, nats.energy <= 20.0]
    free, limited = (maximize(nats.val12, constraints, steps=40, starts=2, time_limit=t) for t in (None, 1e6))
    assert (free.selection, free.status) == (limited.selection, limited.status)


@settings(max_examples=40)
@given(problems(), st.sampled_from([1e-6, 1e-3, 0.02]))
def test_what_is_claimed_under_a_time_limit_holds(problem, limit):
    objective, constraints = problem
    optimum = brute_force(objective, constraints)
    result = minimize(objective, constraints, steps=30, starts=2, time_limit=limit)
    if result.feasible:
        assert all(c.report(result.selection).satisfied for c in constraints)
        assert result.value >= optimum
    if result.status is Status.OPTIMAL:
        assert result.value == optimum
    if result.status is Status.INFEASIBLE:
        assert optimum is None
