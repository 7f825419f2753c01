"""Searches: what they return, what they never lose, and how they go on."""

import importlib
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
    Descent,
    Enumerate,
    Function,
    History,
    LongestPath,
    Metric,
    MetricError,
    Multipliers,
    Peak,
    Presolve,
    Problem,
    Result,
    SearchError,
    Start,
    Status,
    Stop,
    Switches,
    Table,
    maximize,
    minimize,
    portfolio,
    solve,
)
from cggd.datasets import mmkp, nats_topology
from cggd.improve import descent as improved_by_descent
from cggd.improve import multipliers, presolve
from cggd.layout import Layout
from cggd.program import bounds
from tests.messages import LAT, NAN, Own, case, function, search, told
from tests.strategies import satisfying

engine = importlib.import_module("cggd.solve")  # the package's attribute of this name is the function

SPACE = ChoiceSpace({"stem": ["a", "b", "c"], "body": ["a", "b"], "head": ["a", "b", "c"]})
ERROR = Additive(SPACE, [9, 4, 1, 5, 2, 7, 3, 1], name="error", unit="%")
LATENCY = Additive(SPACE, [1, 3, 5, 1, 4, 1, 2, 4], name="latency", unit="ms")


def descent(**how):
    """The descent alone, for small problems that other improvers would settle at once."""
    return {"improvers": [Descent(**how)]}


def before_others(**how):
    """A descent, and then the improvers of the default portfolio."""
    return {"improvers": [Descent(**how), *portfolio()]}


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
@given(problems(), st.sampled_from([descent, before_others, lambda **how: {}]))
def test_what_is_claimed_holds(problem, how):
    objective, constraints = problem
    optimum = brute_force(objective, constraints)
    result = minimize(objective, constraints, **how(steps=60, starts=2))
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


@pytest.mark.slow
def test_same_seed_same_trajectory():
    first, second, other = (minimize(ERROR, [LATENCY <= 7], seed=seed, **descent()) for seed in (3, 3, 4))
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
    assert result.stopped is Stop.INFEASIBLE
    assert "latency <= 2.9 ms" in result.note
    assert "less than 3" in result.note


def test_a_conflict_of_a_small_space_is_proved_at_once():
    # Each bound can be met, but not both: error 4 needs latency 13.
    stored = Table(SPACE, ERROR.evaluate(SPACE.enumerate()), name="stored error")
    for bound in (ERROR <= 5, stored <= 5):
        result = minimize(ERROR, [LATENCY <= 4, bound])
        assert result.status is Status.INFEASIBLE
        assert (result.stopped, result.note) == (Stop.INFEASIBLE, "all 18 selections were evaluated")
        assert len(result.history) == 0


def test_a_conflict_of_a_large_space_is_proved_before_any_descent():
    space = ChoiceSpace.from_sizes([2] * 40)
    gain, cost = Additive(space, [0, 3] * 40), Additive(space, [0, 2] * 40)
    result = minimize(cost, [gain >= 60, cost <= 39])
    assert result.status is Status.INFEASIBLE
    assert "the bounds are infeasible" in result.note
    assert len(result.history) == 0


def test_unknown_reports_the_nearest():
    space = ChoiceSpace.from_sizes([3] * 10)  # too many selections to call a black box for each
    black_box = Function(space, lambda s: float(len(set(s.values()))), name="kinds")
    rank = Additive(space, [0, 1, 2] * 10, name="rank")
    result = minimize(rank, [black_box >= 4], **descent(steps=10, starts=1))
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

    result = minimize(Function(SPACE, error), [LATENCY <= 20], forbid={"stem": ["c"]}, **before_others(steps=50))
    assert result.selection == {"stem": "b", "body": "b", "head": "c"}
    assert "c" not in asked


def test_every_improver_knows_the_initial_selection():
    class Looks:
        def suits(self, problem):
            return True

        def improve(self, problem, incumbent, budget, rng):
            seen.append(None if incumbent.selection is None else incumbent.selection.tolist())
            yield None

    given, seen = {"stem": "c", "body": "a", "head": "b"}, []
    assert minimize(ERROR, [LATENCY <= 8], initial=given, improvers=[Looks()]).selection == given
    minimize(ERROR, [LATENCY <= 7], initial=given, improvers=[Looks()])  # it violates the bound
    minimize(ERROR, [LATENCY <= 8], initial={"stem": "c"}, improvers=[Looks()])  # it is not complete
    assert seen == [[2, 0, 1], None, None]


def test_initial_selection_is_the_first_one_looked_at():
    seen = []
    given = {"stem": "c", "body": "a", "head": "b"}
    options = {"callback": lambda p: seen.append(p.selection)}
    result = minimize(ERROR, [LATENCY <= 8], initial=given, **options, **descent(steps=1, starts=1))
    assert SPACE.labels(seen[0]) == given
    assert result.selection == given
    seen.clear()
    minimize(ERROR, [LATENCY <= 8], initial={"body": "b"}, **options, **descent(steps=1, starts=3))
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


def test_max_evaluations():
    slow = Function(SPACE, lambda s: float(ERROR(s)), cache=False, name="slow")
    result = minimize(slow, [LATENCY <= 7], max_evaluations=50, improvers=portfolio(few_calls=0))
    assert (result.stopped, result.stop_text) == (Stop.EVALUATIONS, "limit of evaluations: 50")
    assert result.evaluations == 50


@pytest.mark.slow
def test_the_look_for_a_feasible_selection_keeps_to_the_limits():
    space = ChoiceSpace.from_sizes([4] * 6)
    never = Function(space, lambda s: 1.0, name="never")
    result = minimize(Additive(space, np.arange(24)), [never <= 0], max_evaluations=300)
    assert result.status is Status.UNKNOWN
    assert result.evaluations <= 300


def test_callback_stops_and_sees_progress():
    seen = []

    def callback(progress):
        seen.append(progress)
        return progress.step == 7

    result = minimize(ERROR, [LATENCY <= 7], callback=callback, **descent())
    assert [p.step for p in seen] == list(range(1, 8))
    assert {(p.phase, p.start, p.starts, p.steps) for p in seen} == {("descent", 0, 6, 600)}
    assert (result.stopped, result.stop_text) == (Stop.CALLBACK, "stopped by the callback")


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
    result = minimize(ERROR, [Breaking(at, KeyboardInterrupt()) <= 9], **descent(starts=2))
    assert result.stopped is Stop.INTERRUPTED
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
        result = minimize(Function(SPACE, error, cache=False), [LATENCY <= 9], **descent(steps=1000))
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.stopped is Stop.INTERRUPTED
    assert result.feasible


@pytest.mark.parametrize(("at", "costly"), [(1, False), (2, False), (1, True)])
def test_ctrl_c_before_the_first_feasible_selection_has_a_nearest_one(at, costly):
    error = Function(SPACE, lambda s: float(ERROR(s)), name="error", costly=costly)
    result = minimize(error, [Breaking(at, KeyboardInterrupt()) <= 0], improvers=None if costly else [Descent()])
    assert (result.stopped, result.status) == (Stop.INTERRUPTED, Status.UNKNOWN)
    assert LATENCY(result.nearest) == result.constraints[0].value
    assert "violated by" in result.summary()


@pytest.mark.parametrize("at", [1, 80, 200])
def test_an_exception_carries_the_best_so_far(at):
    with pytest.raises(SearchError, match="ZeroDivisionError: no power") as caught:
        minimize(ERROR, [Breaking(at, ZeroDivisionError("no power")) <= 9], **descent())
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
        minimize(ERROR, [Broken(200, OSError("device lost")) <= 9], **descent())
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
        result = minimize(ERROR, [metric <= 20], callback=drift, **descent())
    assert result.status is Status.UNKNOWN
    assert result.nearest is not None


# -- checkpoints ------------------------------------------------------------------------------------------------------


def same(a: Result, b: Result) -> None:
    assert (a.selection, a.value, a.status) == (b.selection, b.value, b.status)
    assert len(a.history) == len(b.history)
    for name in ("start", "value", "violation", "best") if len(a.history) else ():
        assert np.array_equal(getattr(a.history, name), getattr(b.history, name), equal_nan=True), name


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("stop", [1, 30, 60, 61, 99])
def test_resuming_gives_the_trajectory_of_an_uninterrupted_run(tmp_path, stop, split):
    nats = nats_topology()
    if split:  # as in the default portfolio, with other improvers in between
        improvers = [Descent(60, 3, last=1), Switches(feasible=True), Descent(60, 3, first=1), Enumerate()]
    else:
        improvers = [Descent(60, 3)]
    options = {"improvers": improvers, "seed": 5}
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
    options = descent(steps=60, starts=2)
    whole = minimize(objective, [Breaking(0, None) <= 9], **options)
    options["checkpoint"] = tmp_path / "state.npz"
    minimize(objective, [Breaking(at, KeyboardInterrupt()) <= 9], **options)
    same(minimize(objective, [Breaking(0, None) <= 9], resume=True, **options), whole)


def test_resuming_with_other_data_is_an_error(tmp_path):
    path = tmp_path / "state.npz"
    minimize(ERROR, [LATENCY <= 7], checkpoint=path, **descent(steps=5))
    other = Additive(SPACE, ERROR.values + 1, name="error", unit="%")
    for objective, limit, forbid, what in (
        (other, LATENCY, None, "values of the objective"),
        (ERROR, Additive(SPACE, LATENCY.values * 2, name="latency", unit="ms"), None, "values of the constraints"),
        (ERROR, LATENCY, {"stem": ["a"]}, "forbidden options"),
    ):
        with pytest.raises(ValueError, match=f"belongs to another search: its {what}"):
            minimize(objective, [limit <= 7], checkpoint=path, resume=True, forbid=forbid, **descent(steps=5))


def test_the_files_of_interrupted_and_plain_runs_do_not_mix(tmp_path):
    path = tmp_path / "state.npz"
    minimize(ERROR, [LATENCY <= 7], checkpoint=path, **descent(steps=5))
    with pytest.raises(ValueError, match="belongs to another search: its constraints"):
        minimize(ERROR, [LATENCY <= 8], checkpoint=path, resume=True, **descent(steps=5))
    assert [p.name for p in tmp_path.iterdir()] == ["state.npz"]


# -- executors --------------------------------------------------------------------------------------------------------


def error_of(selection):
    return float(ERROR(selection))


def errors_of(selections):
    return ERROR.evaluate(selections)


@pytest.mark.parametrize("batch", [False, True])
def test_process_pool(batch):
    metric = Function(SPACE, errors_of if batch else error_of, batch=batch)
    alone = minimize(metric, [LATENCY <= 7], **descent(steps=30, starts=2))
    with ProcessPoolExecutor(2) as executor:
        fresh = Function(SPACE, errors_of if batch else error_of, batch=batch)
        same(minimize(fresh, [LATENCY <= 7], executor=executor, **descent(steps=30, starts=2)), alone)


def test_dask_cluster():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        result = minimize(
            Function(SPACE, error_of), [LATENCY <= 7], executor=client.get_executor(), **descent(steps=20, starts=1)
        )
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


# -- what it must reach -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["I01", "I02", "I03", "I04", "I05", "I06"])
def test_knapsacks_are_feasible_on_every_seed(name):
    knapsack = mmkp(name)
    for seed in range(4):
        result = maximize(knapsack.value, knapsack.constraints, seed=seed, **descent())
        assert result.feasible
        assert result.value <= knapsack.upper_bound + 1e-9


@pytest.mark.parametrize("name", ["I01", "I02", "I05", "I06"])
def test_small_knapsacks_are_proved_before_any_descent(name):
    knapsack = mmkp(name)
    result = maximize(knapsack.value, knapsack.constraints)
    assert (result.status, len(result.history)) == (Status.OPTIMAL, 0)
    assert result.value == pytest.approx(knapsack.best_known)


@pytest.mark.slow
def test_i07_comes_within_one_percent_of_the_bound():
    knapsack = mmkp("I07")
    values = [maximize(knapsack.value, knapsack.constraints, seed=seed, **descent()).value for seed in range(3)]
    assert min(values) >= 0.99 * 24607.95


def test_a_hundred_thousand_decisions():
    rng = np.random.default_rng(0)
    space = ChoiceSpace.from_sizes(np.full(100_000, 5))
    value, weight = Additive(space, rng.random(500_000)), Additive(space, rng.random(500_000))
    result = maximize(value, [weight <= 0.4 * weight.maximum()])
    assert result.feasible


def test_a_checkpoint_that_cannot_be_written_loses_no_result(tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()

    def remove(progress):
        shutil.rmtree(folder, ignore_errors=True)

    with pytest.warns(RuntimeWarning, match=r"checkpoint .*state could not be written"):
        result = minimize(ERROR, [LATENCY <= 7], checkpoint=folder / "state", callback=remove, **descent(steps=5))
    assert result.feasible
    assert len(result.history) == 30


def test_a_checkpoint_of_another_bound_is_refused_however_near_it_is(tmp_path):
    space = ChoiceSpace.from_sizes([2, 2])
    load, cost = Additive(space, [1234567.0, 1234571.0, 0, 1e6]), Additive(space, [0, 1.0, 0, 1])
    path = tmp_path / "state"
    assert minimize(cost, [load <= 1234566.0], checkpoint=path).status is Status.INFEASIBLE
    with pytest.raises(ValueError, match="belongs to another search"):
        minimize(cost, [load <= 1234568.0], checkpoint=path, resume=True)


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
    (Descent, "several_starts"),
    (presolve, "impossible"),
    (multipliers, "relax"),
    (bounds, "possible"),
    (improved_by_descent, "Guide"),
    (improved_by_descent, "Safeguard"),
    (engine, "check_options"),
    (engine, "_initial"),
    (np, "flatnonzero"),
    (np.random, "default_rng"),
]


@pytest.mark.parametrize(("where", "name"), SET_UP, ids=[name for _, name in SET_UP])
def test_ctrl_c_during_set_up_returns(monkeypatch, where, name):
    measured = Function(SPACE, lambda s: float(LATENCY(s)), name="measured")
    calls = press_at(monkeypatch, where, name, 1)
    improvers = [Presolve(), Multipliers(), Descent(steps=5, starts=1)]
    how = {"initial": [0, 0, 0], "forbid": {"stem": ["c"]}, "improvers": improvers}
    result = minimize(ERROR, [measured <= 7], **how)
    assert calls
    if len(calls) == 1:  # the others are called again when the answer is put together
        assert result.stopped is Stop.INTERRUPTED
    assert not result.history.feasible.any()
    if result.indices is None:
        assert result.status is Status.UNKNOWN
    else:  # the initial selection was evaluated before
        assert (result.status, result.indices.tolist()) == (Status.FEASIBLE, [0, 0, 0])
    assert Result.from_json(result.to_json()).status is result.status


@pytest.mark.parametrize(("where", "name"), [(ChoiceSpace, "labels"), (engine, "Result"), (History, "of")])
def test_ctrl_c_while_the_answer_is_put_together(monkeypatch, where, name):
    press_at(monkeypatch, where, name, 1)
    assert minimize(ERROR, [LATENCY <= 7]).status is Status.OPTIMAL


@pytest.mark.parametrize("nth", [1, 2, 7, 20, 33, 40, 60])
def test_ctrl_c_in_the_middle_of_numpy(monkeypatch, nth):
    calls = press_at(monkeypatch, Layout, "argmax", nth)
    objective = Table(SPACE, np.random.default_rng(0).random(SPACE.n_selections))
    result = minimize(objective, [LATENCY <= 7], **descent(steps=20, starts=1))
    assert result.stopped is Stop.INTERRUPTED if len(calls) >= nth else result.feasible
    assert result.feasible or not result.history.feasible.any()


def test_wrong_arguments_still_raise_when_they_are_looked_at_late():
    for wrong in ({"forbid": {"stem": ["z"]}}, {"initial": [9, 9, 9]}):
        with pytest.raises(ValueError, match=r"stem|initial"):
            minimize(ERROR, [LATENCY <= 7], **wrong)


def test_an_interrupted_set_up_leaves_the_checkpoint_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "state"
    minimize(ERROR, [LATENCY <= 7], checkpoint=path, **descent(steps=5))
    before = path.read_bytes()
    press_at(monkeypatch, ChoiceSpace, "allowed", 1)
    result = minimize(ERROR, [LATENCY <= 7], checkpoint=path, resume=True, **descent(steps=5))
    assert (result.stopped, path.read_bytes()) == (Stop.INTERRUPTED, before)


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
    assert stopped in result.stop_text
    assert "could not be evaluated again" in result.summary()
    again = Result.from_json(result.to_json())
    assert (again.remeasured, again.selection, again.summary()) == (False, result.selection, result.summary())


@pytest.mark.parametrize("error", [OSError("no such device"), MemoryError("full"), BrokenProcessPool("a worker died")])
def test_a_device_that_goes_away_leaves_what_it_had_measured(error):
    device = Device(error)
    metric = Function(SPACE, device, name="latency", cache=False)
    with pytest.raises(SearchError, match=r"in \.result, error = .*could not be evaluated again") as caught:
        minimize(ERROR, [metric <= 9], callback=device.watch, **descent())
    unverified(caught.value.result, type(error).__name__)


def test_ctrl_c_during_the_last_check_leaves_what_was_measured():
    device = Device(KeyboardInterrupt())
    metric = Function(SPACE, device, name="latency", cache=False)
    unverified(minimize(ERROR, [metric <= 9], callback=device.watch, **descent()), "interrupted")


def test_a_device_that_fails_after_ctrl_c_is_no_error():
    device = Device(OSError("no such device"))
    metric = Function(SPACE, device, name="latency", cache=False)

    def press(progress):
        device.watch(progress)
        if device.gone:
            raise KeyboardInterrupt

    unverified(minimize(ERROR, [metric <= 9], callback=press, **descent()), "no such device")


def test_an_exception_in_a_callback_carries_the_best():
    def fails(progress):
        if progress.best is not None:
            raise ZeroDivisionError("in the callback")

    with pytest.raises(SearchError, match="in the callback") as caught:
        minimize(ERROR, [Function(SPACE, lambda s: float(LATENCY(s))) <= 9], callback=fails, **descent())
    assert caught.value.result.feasible


def leave_or_measure(selection):
    if selection["stem"] == "c":
        os._exit(1)
    return float(LATENCY(selection))


def test_a_worker_that_dies_carries_the_best():
    metric = Function(SPACE, leave_or_measure, name="latency")
    metric.measure(np.array([[1, 0, 0]]))  # known: a feasible selection, which is looked at first
    with ProcessPoolExecutor(1) as executor, pytest.raises(SearchError, match="BrokenExecutor") as caught:
        minimize(metric, [LATENCY <= 9], executor=executor, initial=[1, 0, 0], **descent(starts=1))
    result = caught.value.result
    assert (result.status, result.stopped, result.note.split(":")[0]) == (Status.FEASIBLE, Stop.FAILED, "MetricError")
    assert result.indices.tolist() == [1, 0, 0]


def test_black_boxes_of_few_selections_are_enumerated_if_the_calls_allow_it():
    slow = Function(SPACE, lambda s: float(ERROR(s)), name="slow")
    n = SPACE.n_selections
    assert minimize(slow, [LATENCY <= 7]).status is Status.OPTIMAL
    assert minimize(slow, [LATENCY <= 7], max_evaluations=n + 1).status is Status.OPTIMAL
    assert minimize(slow, [LATENCY <= 7], max_evaluations=n // 2).evaluations <= n // 2


# -- wrong input -------------------------------------------------------------------------------------------------------

WRONG = [
    case("objective a number", lambda: minimize(5), TypeError, "objective", "got 5", "Metric"),
    case("objective a function", lambda: maximize(len), TypeError, "objective", "len", "Metric"),
    case(
        "objective without space",
        lambda: minimize(Own(len, space=None)),
        TypeError,
        "space of objective Own",
        "None",
        "ChoiceSpace",
    ),
    case(
        "objective without name",
        lambda: minimize(Own(len, name=None)),
        TypeError,
        "name of objective Own",
        "None",
        "str",
    ),
    case(
        "constraint metric without unit",
        lambda: Own(len, unit=None) <= 5,
        TypeError,
        "unit of metric Own",
        "None",
        "str",
    ),
    case(
        "problem of unknown sense",
        lambda: Problem(LAT, sense="min"),
        ValueError,
        "sense",
        "'min'",
        '"minimize" or "maximize"',
    ),
    case("unknown option", lambda: solve(Problem(LAT), step=5), TypeError, "unknown option 'step'", "improvers"),
    case(
        "unknown option of maximize",
        lambda: maximize(LAT, timeout=5),
        TypeError,
        "unknown option 'timeout'",
        "time_limit",
    ),
    case("seed None", lambda: search(seed=None), TypeError, "seed", "None", "whole number"),
    case("seed negative", lambda: search(seed=-1), ValueError, "seed", "-1", "at least 0"),
    case("seed float", lambda: search(seed=1.5), TypeError, "seed", "1.5", "whole number"),
    case(
        "seed Generator", lambda: search(seed=np.random.default_rng()), TypeError, "seed", "Generator", "whole number"
    ),
    case("steps 0", lambda: Descent(steps=0), ValueError, "steps", "got 0", "at least 1"),
    case("steps bool", lambda: Descent(steps=True), TypeError, "steps", "True", "whole number"),
    case("steps string", lambda: Descent(steps="10"), TypeError, "steps", "'10'", "whole number"),
    case("starts 0", lambda: Descent(starts=0), ValueError, "starts", "got 0", "at least 1"),
    case("starts empty", lambda: Descent(starts=[]), ValueError, "starts is empty", "at least one"),
    case("starts of strings", lambda: Descent(starts=["unit"]), TypeError, "starts", "['unit']", "list of Start"),
    case("starts a string", lambda: Descent(starts="unit"), TypeError, "starts", "'unit'"),
    case(
        "start of unknown weights",
        lambda: Start(weights="x"),
        ValueError,
        "weights",
        "'x'",
        "'unit', 'difference'",
    ),
    case(
        "start of unknown balance",
        lambda: Descent(starts=[Start(balance="x")]),
        ValueError,
        "balance",
        "'x'",
        "'equal'",
    ),
    case("time limit 0", lambda: search(time_limit=0), ValueError, "time_limit", "got 0", "more than 0"),
    case("time limit NaN", lambda: search(time_limit=NAN), ValueError, "time_limit", "nan", "a number"),
    case("time limit string", lambda: search(time_limit="1s"), TypeError, "time_limit", "'1s'", "number"),
    case("evaluations 0", lambda: search(max_evaluations=0), ValueError, "max_evaluations", "got 0", "at least 1"),
    case("patience float", lambda: Descent(no_improvement=1e2), TypeError, "no_improvement", "100.0", "whole number"),
    case("rescale 1", lambda: Descent(rescale=1.0), ValueError, "rescale", "1.0", "greater than 1"),
    case("share 0", lambda: Descent(share=0), ValueError, "share", "got 0", "at most 1"),
    case("share 2", lambda: Descent(share=2.0), ValueError, "share", "got 2.0", "at most 1"),
    case("improvers a string", lambda: search(improvers="descent"), TypeError, "improvers", "'descent'", "a list"),
    case("improvers not a list", lambda: search(improvers=Descent()), TypeError, "improvers", "Descent(", "a list"),
    case("an improver that is none", lambda: search(improvers=[5]), TypeError, "improvers", "got 5", "improve"),
    case("an option of version 0.1", lambda: search(steps=5), TypeError, "unexpected keyword", "'steps'"),
    case("callback", lambda: search(callback="print"), TypeError, "callback", "'print'", "callable"),
    case("executor", lambda: search(executor=4), TypeError, "executor", "got 4", "submit"),
    case(
        "executor class instance without submit", lambda: search(executor=map), TypeError, "executor", "map", "submit"
    ),
    case("resume without checkpoint", lambda: search(resume=True), ValueError, "resume=True", "checkpoint"),
    case("initial too short", lambda: search(initial=[0]), ValueError, "(2,)", "got shape (1,)"),
    case(
        "initial unknown option", lambda: search(initial={"stem": "conv7"}), ValueError, "'stem'", "'conv7'", "'conv3'"
    ),
    case(
        "initial unknown decision", lambda: search(initial={"head": 1}), ValueError, "unknown decision 'head'", "'stem'"
    ),
    case("initial out of range", lambda: search(initial=[0, 7]), ValueError, "option 7", "'pool'", "0 to 2"),
    case(
        "initial that forbid rules out",
        lambda: search(initial={"stem": "conv3"}, forbid={"stem": ["conv3"]}),
        ValueError,
        "initial takes option 'conv3' of decision 'stem'",
        "forbid",
    ),
]


@pytest.mark.parametrize(("make", "error", "fragments"), WRONG)
def test_wrong_input(make, error, fragments):
    told(make, error, fragments)


MORE = [
    case(
        "checkpoint in no folder", {"checkpoint": "/no/such/folder/x"}, ValueError, "checkpoint", "folder that exists"
    ),
    case("checkpoint a number", {"checkpoint": 3}, TypeError, "checkpoint must be a path", "3"),
    case("patience negative", {"improvers": lambda: [Descent(patience=-1)]}, ValueError, "patience", "-1"),
    case("initial a string", {"initial": "x"}, ValueError, "initial"),
]


@pytest.mark.parametrize(("wrong", "kind", "parts"), [(c.values[0], c.values[1], c.values[2:]) for c in MORE])
def test_more_wrong_options(wrong, kind, parts):
    with pytest.raises(kind) as caught:
        search(**{name: value() if callable(value) else value for name, value in wrong.items()})
    for part in parts[0] if isinstance(parts[0], tuple | list) else parts:
        assert part in str(caught.value)


def test_a_search_that_breaks_carries_what_it_had():
    calls = iter(range(10_000))

    def breaks(labelled):
        if next(calls) == 400:
            raise OSError("device lost")
        return 1.0 + (labelled["stem"] == "conv5")

    with pytest.raises(SearchError, match=r"device lost.*best selection until then.*\.result, lat = ") as caught:
        minimize(LAT, [function(breaks, cache=False) >= 1.5], improvers=[Descent()])
    error = caught.value
    assert isinstance(error.__cause__, MetricError)
    assert isinstance(error.__cause__.__cause__, OSError)
    assert error.result.feasible
    assert error.result.selection["stem"] == "conv5"
    assert error.result.stopped is Stop.FAILED
    assert "device lost" in error.result.stop_text
    assert len(error.result.history) > 0


def test_an_executor_whose_pool_is_closed_is_named():
    with ThreadPoolExecutor(1) as pool:
        pass
    with pytest.raises(SearchError, match="cannot schedule new futures"):
        minimize(function(lambda s: 1.0), [LAT <= 7], executor=pool)


def test_a_selection_that_every_search_evaluates_does_not_change_a_resumed_one(tmp_path):
    # Only the first selection is feasible, and the descent begins elsewhere.
    path = tmp_path / "search.ckpt"
    weight = Function(SPACE, lambda s: float(s != {"stem": "a", "body": "a", "head": "a"}), name="weight")
    start = {"stem": "c", "body": "b", "head": "c"}
    how = {"improvers": [Descent(steps=4, starts=1)], "initial": start, "seed": 3}
    stopped = minimize(ERROR, [weight <= 0], checkpoint=path, max_evaluations=None, time_limit=1e-9, **how)
    resumed = minimize(ERROR, [weight <= 0], checkpoint=path, resume=True, **how)
    whole = minimize(ERROR, [weight <= 0], **how)
    assert not stopped.history
    np.testing.assert_array_equal(resumed.history.value, whole.history.value)
    assert resumed.selection == whole.selection


def test_an_error_after_ctrl_c_raises_nothing():
    class Twice(Breaking):
        def evaluate(self, selections):
            if self.left <= 1:
                self.error = ValueError("gone") if self.left < 1 else self.error
                self.left -= 1
                raise self.error
            return super().evaluate(selections)

    result = minimize(ERROR, [Twice(1, KeyboardInterrupt()) <= 9], **descent())
    assert (result.stopped, result.status) == (Stop.INTERRUPTED, Status.UNKNOWN)


@pytest.mark.parametrize("gap", [1, 1.0, 5, 100])
def test_a_gap_is_a_share(gap):
    with pytest.raises(
        ValueError, match=rf"gap is a share of the bound and must be less than 1, got {gap}; 0.05 means 5"
    ):
        minimize(ERROR, gap=gap)
