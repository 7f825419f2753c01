"""Budgets: parts, limits, and a clock that tests can move."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import (
    Budget,
    Descent,
    Finding,
    Function,
    Status,
    Stop,
    Switches,
    maximize,
    minimize,
    portfolio,
)
from cggd import budget as budgets
from cggd.budget import SPARE_SECONDS, SPARE_SHARE
from cggd.datasets import nats_topology
from cggd.improve import cores, descent, exact, multipliers, presolve, switches
from tests.test_solve import ERROR, LATENCY, SPACE, before_others, brute_force, problems


class Clock:
    """A clock that goes on by as much as a test says, and a little when it is looked at."""

    def __init__(self, monkeypatch, tick=0.0):
        self.now, self.tick = 100.0, tick
        monkeypatch.setattr(budgets.time, "perf_counter", self.read)

    def read(self):
        self.now += self.tick
        return self.now


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


# -- laws -------------------------------------------------------------------------------------------------------------

SHARES = st.floats(0.01, 1.0)


def test_a_budget_without_limits_is_never_over(clock):
    budget = Budget()
    clock.now += 1e9
    assert (budget.over(), budget.reason(), budget.left, budget.used, budget.limited) == (False, None, np.inf, 0, False)
    assert budget.fits(1e12)
    part = budget.part(share=0.1)
    assert (part.left, part.limited, part.over()) == (np.inf, False, False)


@given(st.lists(st.tuples(SHARES, st.floats(0, 3)), min_size=1, max_size=6))
def test_parts_end_with_the_whole(parts):
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(patch)
        whole = Budget(10.0)
        nested = [whole]
        for share, passed in parts:
            part = nested[-1].part(share=share)
            assert part.left <= nested[-1].left * (1 + 1e-9)
            nested.append(part)
            clock.now += passed
            overs = [one.over() for one in nested]
            assert overs == sorted(overs)  # where one is over, all parts of it are
            assert all(0 <= one.used <= 1 for one in nested)
        clock.now = 110.0
        assert all(one.reason() is Stop.TIME for one in nested)


@given(SHARES, st.floats(0, 10))
def test_what_a_part_does_not_use_goes_on_to_the_next(share, used):
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(patch)
        whole = Budget(10.0)
        first = whole.part(share=share)
        assert first.left == pytest.approx(10 * share)
        clock.now += min(used, first.left)
        assert whole.part().left == pytest.approx(10 - min(used, 10 * share), abs=1e-9)
        assert whole.part(seconds=1.0).left <= 1.0


def test_parts_share_calls_and_end_when_asked_to_stop():
    whole, flag = Budget(max_evaluations=10), []
    part = whole.part(share=0.5, stop=lambda: bool(flag))
    inner = part.part()
    part.evaluation.count([bytes([i]) for i in range(9)], part)
    assert (whole.evaluation.calls, inner.over()) == (9, False)
    flag.append(True)
    assert (inner.reason(), part.reason(), whole.reason()) == (Stop.CALLBACK, Stop.CALLBACK, None)
    flag.clear()
    inner.evaluation.count([b"last"], part)
    assert {inner.reason(), part.reason(), whole.reason()} == {Stop.EVALUATIONS}
    whole.asked_to_stop = True
    assert {inner.reason(), part.reason(), whole.reason()} == {Stop.CALLBACK}


def test_what_does_not_fit_is_remembered_by_the_whole(clock):
    whole = Budget(10.0)
    part = whole.part(seconds=5.0)
    assert part.fits(5 + 5 * SPARE_SHARE + SPARE_SECONDS)
    assert not whole.refused
    assert not part.fits(5 + 5 * SPARE_SHARE + SPARE_SECONDS + 1e-6)
    assert whole.refused
    clock.now += 10
    other = Budget(10.0)
    clock.now += 10
    assert other.fits(0.5, late=True)
    assert not other.fits(1.2, late=True)
    assert not other.refused  # a part that may be late is a matter of course
    assert not other.fits(0.0)


def test_time_kept_for_the_answer_and_used_before_counts(clock):
    budget = Budget(10.0, reserve=1.0)
    assert budget.left == 9.0
    budget.begin_earlier(4.0)
    assert (budget.seconds, budget.left, budget.used) == (4.0, 5.0, 0.4)


# -- searches ---------------------------------------------------------------------------------------------------------


def test_a_batch_of_calls_ends_with_the_call_in_which_time_ends(clock):
    calls = []

    def slow(selection):
        calls.append(selection)
        clock.now += 1.0
        return float(LATENCY(selection))

    metric = Function(SPACE, slow, name="latency")
    result = minimize(ERROR, [metric <= 1], time_limit=3.5, improvers=[Descent(steps=5)])
    assert len(calls) == 4  # a replacement table takes 8
    assert (result.stopped, result.stop_text, result.seconds) == (Stop.TIME, "time limit: 3.5 s", 4.0)
    assert [row.value for row in result.constraints] == [8.0]  # of the first call


# What each part takes in the following test, by where it is called.
PARTS = [
    (presolve, "impossible", 0.3),
    (multipliers, "relax", 1.6),
    (exact, "linear_part", 0.0),
    (descent, "table_of", 0.8),
    (switches, "search", 0.8),
]


@pytest.mark.parametrize("limit", [0.5, 5.0, 500.0])
def test_parts_that_do_not_fit_are_not_begun(monkeypatch, limit):
    """Every part takes a second for ten options, and is told so; none is begun that would end too late."""
    clock, begun = Clock(monkeypatch), []
    for module, name in (
        (descent, "LOOK_SECONDS"),
        (descent, "STEP_SECONDS"),
        (multipliers, "RELAX_SECONDS"),
        (presolve, "LIMITS_SECONDS"),
        (cores, "CORES_SECONDS"),
        (switches, "SWITCHES_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 0.1)

    def part(module, name, seconds):
        def run(*arguments, **options):
            begun.append((name, clock.now - 100.0))
            clock.now += seconds
            return real(*arguments, **options)

        real = getattr(module, name)
        monkeypatch.setattr(module, name, run)

    for module, name, seconds in PARTS:
        part(module, name, seconds)
    measured = Function(SPACE, lambda s: float(LATENCY(s)), name="latency")
    result = minimize(
        ERROR, [measured <= 1], time_limit=limit, improvers=portfolio(Descent(steps=3, starts=4), few_calls=0)
    )
    assert result.seconds <= 1.2 * limit + 0.2
    assert all(at < limit for name, at in begun if name != "impossible")
    assert ({"relax", "table_of", "search"} & {name for name, _ in begun} != set()) == (limit > 1)
    if limit == 500:
        assert {name for name, _ in begun} >= {"relax", "table_of", "search"}
    if limit == 0.5:
        assert (result.stopped, result.note) == (Stop.TIME, "0.5 s, too short for more")


def test_the_look_for_a_feasible_selection_does_not_begin_after_the_end(clock, monkeypatch):
    monkeypatch.setattr(switches, "search", None)  # raises where it is called
    measured = Function(SPACE, lambda s: 50.0, name="latency")

    def late(progress):
        clock.now += 10.0

    improvers = [Descent(steps=1), Switches(feasible=True)]
    result = minimize(ERROR, [measured <= 1], time_limit=9.0, callback=late, improvers=improvers)
    assert (result.status, len(result.history)) == (Status.UNKNOWN, 1)


def test_a_limit_that_is_over_at_once_leaves_a_look_at_the_first_selection(monkeypatch):
    Clock(monkeypatch, tick=1e-3)
    result = minimize(ERROR, [LATENCY <= 7], time_limit=1e-9, initial=[1, 0, 0])
    assert (result.status, result.value, result.stopped) == (Status.FEASIBLE, ERROR([1, 0, 0]), Stop.TIME)
    result = minimize(ERROR, [LATENCY <= 7], time_limit=1e-9, initial={"stem": "b"}, forbid={"body": ["a"]})
    shown = result.selection or result.nearest
    assert (shown["stem"], shown["body"]) == ("b", "b")
    assert minimize(ERROR, [LATENCY <= 2], time_limit=1e-9).status is not Status.FEASIBLE


def test_the_relaxation_may_use_most_of_the_time(monkeypatch):
    given = []
    monkeypatch.setattr(multipliers, "relax", lambda problem, budget: given.append(budget.left))
    for limit in (0.5, 10.0, None):
        minimize(ERROR, [LATENCY <= 7], time_limit=limit, improvers=[multipliers.Multipliers()])
    assert 0.3 < given[0] <= 0.45
    assert 8.8 < given[1] <= 9.0
    assert given[2] == np.inf


def test_a_generous_limit_changes_no_answer():
    nats = nats_topology()
    constraints = [nats.latency <= 4.0, nats.energy <= 20.0]
    for improvers in ([Descent(40, 2)], None):
        free, limited = (
            maximize(nats.val12, constraints, improvers=improvers, time_limit=limit) for limit in (None, 1e6)
        )
        assert (free.selection, free.status) == (limited.selection, limited.status)


@settings(max_examples=40)
@given(problems(), st.sampled_from([1e-6, 1e-3, 0.02]), st.booleans())
def test_what_is_claimed_under_a_time_limit_holds(problem, limit, descends):
    objective, constraints = problem
    optimum = brute_force(objective, constraints)
    how = before_others(steps=30, starts=2) if descends else {}
    result = minimize(objective, constraints, time_limit=limit, **how)
    if result.feasible:
        assert all(c.report(result.selection).satisfied for c in constraints)
        assert result.value >= optimum
    if result.status is Status.OPTIMAL:
        assert result.value == optimum
    if result.status is Status.INFEASIBLE:
        assert optimum is None


def test_time_that_an_improver_does_not_use_goes_on_to_the_next(clock):
    given = []

    class Spends:
        def __init__(self, seconds):
            self.seconds = seconds

        def suits(self, problem):
            return True

        def improve(self, problem, incumbent, budget, rng):
            given.append(budget.left)
            clock.now += self.seconds
            yield Finding(np.array([1, 0, 0]))

    result = minimize(ERROR, [LATENCY <= 7], time_limit=10.0, improvers=[Spends(1), Spends(7), Spends(3), Spends(1)])
    assert [round(left) for left in given] == [10, 9, 2]
    assert result.stopped is Stop.TIME
