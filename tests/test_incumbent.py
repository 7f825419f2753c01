"""The incumbent: it keeps the best, and refuses what its selection refutes; improvers of a user's own."""

import os
import signal
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import (
    Additive,
    Budget,
    ChoiceSpace,
    Descent,
    Enumerate,
    Finding,
    Function,
    Incumbent,
    Problem,
    SearchError,
    Status,
    Stop,
    Table,
    maximize,
    minimize,
    portfolio,
    solve,
    sweep,
)
from cggd.checkpoint import load
from cggd.incumbent import Place
from cggd.testing import LawError, check_improver, problems

SPACE = ChoiceSpace.from_sizes([3, 2, 3])
COST = Additive(SPACE, [9, 4, 1, 5, 2, 7, 3, 1], name="cost")
LOAD = Additive(SPACE, [1, 3, 5, 1, 4, 1, 2, 4], name="load")
PROBLEM = Problem(COST, [LOAD <= 9])  # (2, 0, 2) would cost 7, and (1, 1, 1) with load 9 costs 9


def at(*selection):
    return Finding(np.array(selection))


def take(incumbent, findings):
    for finding in findings:
        incumbent.take(finding)


# -- what it knows ----------------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(st.data(), problems(feasible=False, max_constraints=3))
def test_the_best_is_never_lost(data, problem):
    rows = problem.space.enumerate()
    incumbent, best = Incumbent(problem), np.inf
    for i in data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=12)):
        ours = rows[i].copy()
        cost = problem.cost(ours) if problem.satisfied(ours) else np.inf
        assert incumbent.take(Finding(ours)) == (cost < best)
        ours[:] = 0  # what an improver does with its array afterwards is no matter
        best = min(best, cost)
        assert incumbent.cost == best
        assert (incumbent.selection is None) == (best == np.inf)
        if incumbent.selection is not None:
            assert problem.cost(incumbent.selection) == best
            assert problem.satisfied(incumbent.selection)


@settings(max_examples=100)
@given(st.data(), problems(feasible=False, max_constraints=3))
def test_the_nearest_is_that_of_least_violation(data, problem):
    rows = problem.space.enumerate()
    incumbent, least = Incumbent(problem), np.inf
    for i in data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=12)):
        total = problem.violations.total(problem.values(rows[i]))
        incumbent.take(Finding(rows[i]))
        if incumbent.candidates:
            return
        least = min(least, total)
        assert problem.violations.total(incumbent.nearest.values) == least


@given(st.lists(st.floats(-20, 20), max_size=6), st.sampled_from(["minimize", "maximize"]))
def test_the_tightest_bound_is_kept(claims, sense):
    incumbent = Incumbent(Problem(COST, [LOAD <= 9], sense))
    sign = incumbent.problem.sign
    known = [sign * incumbent.bound]
    for bound in claims:
        incumbent.take(Finding(bound=bound))
        known.append(sign * bound)
        assert sign * incumbent.bound == max(known)


def test_nothing_is_computed_before_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(Additive, "limits", None)  # of large metrics it takes a while, and Ctrl-C must not be lost
    Incumbent(PROBLEM)


@pytest.mark.parametrize("sense", ["minimize", "maximize"])
@pytest.mark.parametrize("first", ["selection", "bound", "both"])
def test_a_bound_that_a_selection_refutes_is_refused(sense, first):
    incumbent = Incumbent(Problem(COST, [LOAD <= 9], sense))
    before, value = incumbent.bound, COST([1, 1, 1])
    selection, bound = np.array([1, 1, 1]), value + incumbent.problem.sign
    findings = {
        "selection": [Finding(selection), Finding(bound=bound)],
        "bound": [Finding(bound=bound), Finding(selection)],
        "both": [Finding(selection, bound)],
    }[first]
    with pytest.warns(RuntimeWarning, match="claimed that no objective is better than"):
        take(incumbent, findings)
    assert (incumbent.bound, incumbent.value) == (before, value)
    assert not incumbent.optimal(value, incumbent.step(Budget()))


@pytest.mark.parametrize("first", ["selection", "proof"])
def test_a_proof_that_a_selection_refutes_is_refused(first):
    incumbent = Incumbent(PROBLEM)
    findings = [at(1, 1, 1), Finding(proof="because")]
    with pytest.warns(RuntimeWarning, match=r"claimed that no selection satisfies the constraints \(because\)"):
        take(incumbent, findings if first == "selection" else findings[::-1])
    assert (incumbent.proof, incumbent.selection.tolist()) == (None, [1, 1, 1])


def test_a_bound_within_rounding_of_the_value_is_no_lie():
    incumbent = Incumbent(PROBLEM)
    incumbent.take(at(1, 1, 1))
    value = incumbent.value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        incumbent.take(Finding(bound=float(np.nextafter(value, np.inf))))
    assert incumbent.optimal(value, 0.0)


def test_forbidden_and_impossible_selections_are_errors():
    allowed = np.ones(SPACE.n_options, dtype=bool)
    allowed[1] = False
    with pytest.raises(ValueError, match="takes forbidden options"):
        Incumbent(Problem(COST, [LOAD <= 9], allowed=allowed)).take(at(1, 1, 1))
    with pytest.raises(ValueError, match="takes option 2 of decision 1"):
        Incumbent(Problem(COST, [LOAD <= 99])).take(at(0, 2, 0))


# -- improvers of a user's own ----------------------------------------------------------------------------------------


class RandomRestarts:
    """Random selections, improved by single switches."""

    def __init__(self, restarts=10**9):
        self.restarts = restarts

    def suits(self, problem):
        return problem.allowed is None

    def improve(self, problem, incumbent, budget, rng):
        for _ in range(self.restarts):
            if budget.over():
                return
            at = problem.space.sample(1, rng)[0]
            for decision in rng.permutation(problem.space.n_decisions):
                others = np.repeat(at[None], problem.space.sizes[decision], axis=0)
                others[:, decision] = np.arange(problem.space.sizes[decision])
                at = min(others, key=lambda s: (problem.violations.total(problem.values(s)), problem.cost(s)))
            yield Finding(at)


WIDE = ChoiceSpace.from_sizes([4] * 8)
NUMBERS = np.random.default_rng(0).integers(1, 9, (2, 32))
VALUE, WEIGHT = (Additive(WIDE, row, name=name) for row, name in zip(NUMBERS, ("value", "weight"), strict=True))


def measured(at=None, action=None):
    """The value as a black box that is called each time, with an action at one of its calls."""
    calls = []

    def value(selection):
        calls.append(selection)
        if len(calls) == at:
            action()
        return float(VALUE(selection))

    return Function(WIDE, value, name="measured", cache=False)


def press():
    os.kill(os.getpid(), signal.SIGINT)


def fail():
    raise OSError("no such device")


def good(result):
    assert result.feasible
    assert result.remeasured
    assert WEIGHT(result.indices) <= 25
    assert result.value == VALUE(result.indices)


@pytest.mark.parametrize(
    ("limits", "stop"),
    [({"time_limit": 0.2}, Stop.TIME), ({"max_evaluations": 300}, Stop.EVALUATIONS), ({"gap": 0.9}, Stop.GAP)],
)
def test_your_own_improver_heeds_the_limits(limits, stop):
    result = maximize(VALUE if "gap" in limits else measured(), [WEIGHT <= 25], improvers=[RandomRestarts()], **limits)
    good(result)
    assert result.stopped is stop
    if stop is Stop.EVALUATIONS:
        assert 300 <= result.evaluations < 300 + 8 * 4 + 3


def test_your_own_improver_is_stopped_by_ctrl_c():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = maximize(measured(200, press), [WEIGHT <= 25], improvers=[RandomRestarts()])
    finally:
        signal.signal(signal.SIGINT, before)
    good(result)
    assert result.stopped is Stop.INTERRUPTED


class Given:
    """Yields the selections that it is given."""

    def __init__(self, rows):
        self.rows = rows

    def suits(self, problem):
        return True

    def improve(self, problem, incumbent, budget, rng):
        yield from (Finding(row) for row in self.rows)


@given(st.data(), problems(feasible=False, max_constraints=3))
def test_your_own_improver_takes_nothing_from_what_every_search_does(data, problem):
    rows = problem.space.enumerate()[problem.permits(problem.space.enumerate())]
    given = data.draw(st.lists(st.sampled_from(range(len(rows))), max_size=3))
    alone = solve(problem, improvers=[])
    result = solve(problem, improvers=[Given(rows[given])])
    assert result.feasible >= alone.feasible
    assert (result.selection or result.nearest) is not None
    if result.feasible and alone.feasible and not any(map(problem.satisfied, rows[given])):
        assert result.value == alone.value


@pytest.mark.parametrize(("limits", "calls"), [({"max_evaluations": 3}, 3), ({"time_limit": 1e-9}, 1)])
def test_what_every_search_does_keeps_the_limits(limits, calls):
    made = []
    weight = Function(SPACE, lambda s: made.append(s) or sum(s.values()), name="weight")
    result = minimize(COST, [weight <= -1], improvers=[Given(SPACE.enumerate()[1:])], **limits)
    assert not result.feasible
    assert len(made) <= calls


def test_your_own_improver_loses_nothing_in_an_error():
    with pytest.raises(SearchError, match="no such device") as caught:
        maximize(measured(200, fail), [WEIGHT <= 25], improvers=[RandomRestarts()])
    good(caught.value.result)


def test_your_own_improver_is_told_to_a_callback_that_stops_it():
    seen = []

    def callback(progress):
        seen.append(progress)
        return len(seen) == 5

    result = maximize(VALUE, [WEIGHT <= 25], improvers=[RandomRestarts()], callback=callback)
    good(result)
    assert (len(seen), result.stopped) == (5, Stop.CALLBACK)
    assert {p.phase for p in seen} == {"polish"}
    assert seen[-1].best == result.value
    assert (seen[-1].incumbent == result.indices).all()


def test_the_best_selection_of_your_own_improver_is_in_the_checkpoint(tmp_path):
    how = {"checkpoint": tmp_path / "state", "improvers": [RandomRestarts(7)]}
    first = maximize(VALUE, [WEIGHT <= 25], seed=1, **how)
    assert load(tmp_path / "state")[1]["known_selection"][-1].tolist() == first.indices.tolist()
    seen = []
    again = maximize(VALUE, [WEIGHT <= 25], seed=1, resume=True, callback=lambda p: seen.append(p.best) or True, **how)
    assert seen == [first.value]  # before it found anything anew
    assert (again.value, again.selection) == (first.value, first.selection)


def test_your_own_improver_repeats_itself_and_keeps_the_laws():
    first, second = (maximize(VALUE, [WEIGHT <= 25], seed=3, improvers=[RandomRestarts(9)]) for _ in range(2))
    assert first.selection == second.selection
    check_improver(RandomRestarts(9), Problem(VALUE, [WEIGHT <= 25], "maximize"))


def test_your_own_improver_leaves_the_proof_to_others():
    result = maximize(VALUE, [WEIGHT <= 25], improvers=[RandomRestarts(3), Enumerate()])
    good(result)
    assert result.status is Status.OPTIMAL


def test_an_improver_that_does_not_suit_is_left_out():
    result = maximize(VALUE, [WEIGHT <= 25], improvers=[RandomRestarts(3)], forbid={0: [0]})
    assert (result.stopped, result.history.value.tolist()) == (Stop.DONE, [])
    assert result.nearest is None or WEIGHT(result.nearest) > 25


# -- improvers that lie -----------------------------------------------------------------------------------------------


class Saying:
    """An improver that yields given findings."""

    def __init__(self, *findings):
        self.findings = findings

    def suits(self, problem):
        return True

    def improve(self, problem, incumbent, budget, rng):
        yield from self.findings


LIE = Finding(np.array([2, 1, 2]), values=np.array([0.0]))  # its load is 13


def test_values_that_are_lies_are_found_out_in_the_end():
    result = minimize(COST, [LOAD <= 9], improvers=[Saying(at(1, 1, 1), LIE)])
    assert (result.selection, result.value) == (SPACE.labels([1, 1, 1]), COST([1, 1, 1]))
    result = minimize(COST, [LOAD <= 2], improvers=[Saying(LIE)])
    assert (result.status, result.selection) == (Status.UNKNOWN, None)
    assert not all(row.satisfied for row in result.constraints)


def test_a_lie_about_values_makes_no_other_claim_false():
    for improvers in ([Saying(LIE), Enumerate()], [Saying(LIE)]):
        result = minimize(COST, [LOAD <= 9], improvers=improvers)
        optimum = min(COST(s) for s in SPACE.enumerate() if LOAD(s) <= 9)
        assert result.bound is None or result.bound <= optimum
        assert result.status is not Status.OPTIMAL or result.value == optimum


@pytest.mark.parametrize("claim", [99.0, np.inf])
def test_lies_about_bounds_and_proofs_are_not_returned(claim):
    with pytest.warns(RuntimeWarning, match="is not used"):
        result = minimize(COST, [LOAD <= 9], improvers=[Saying(at(1, 1, 1), Finding(bound=claim))])
    assert (result.status, result.bound) == (Status.FEASIBLE, COST.minimum())
    with pytest.warns(RuntimeWarning, match="is not used"):
        result = minimize(COST, [LOAD <= 9], improvers=[Saying(at(1, 1, 1), Finding(proof="none"))])
    assert (result.status, result.stopped) == (Status.FEASIBLE, Stop.DONE)


@pytest.mark.parametrize("wrong", [[0, 2, 0], [0, -1, 0], [0, 0], [0.0, 0.0, 0.0], "abc"])
def test_what_is_no_selection_is_an_error_that_keeps_the_best(wrong):
    with pytest.raises(SearchError) as caught:
        minimize(COST, [LOAD <= 99], improvers=[Saying(at(0, 0, 0), Finding(np.array(wrong)))])
    assert caught.value.result.selection == SPACE.labels([0, 0, 0])


# -- wrong input from improvers and callbacks --------------------------------------------------------------------------


OUTSIDE = ChoiceSpace.from_sizes([3] * 3)
DRAWN = np.random.default_rng(0)
PRICE, USE = (Additive(OUTSIDE, DRAWN.integers(0, 9, 9).astype(float), name=name) for name in ("price", "use"))


def test_a_callback_cannot_change_the_incumbent():
    def spoil(progress):
        if progress.incumbent is not None:
            progress.incumbent.fill(0)

    with pytest.raises(SearchError, match="read-only") as raised:
        minimize(PRICE, [USE <= 16], callback=spoil)
    assert raised.value.result.value == 7.0


def test_a_bound_that_is_no_number_is_refused():
    with pytest.raises(SearchError, match="nan"):
        minimize(PRICE, [USE <= 16], improvers=[Saying(Finding(bound=float("nan")))])


def test_wrong_values_hide_no_feasible_selection():
    lie = Finding(np.array([2, 2, 0]), values=np.array([0.0]))
    result = minimize(PRICE, [USE <= 16], improvers=[Saying(lie, Finding(np.array([1, 0, 0])))])
    assert result.feasible
    with pytest.raises(SearchError, match="1 numbers"):
        minimize(PRICE, [USE <= 30], improvers=[Saying(Finding(np.array([0, 0, 1]), values=np.array([0.0, 3.0])))])


def test_improvers_are_objects_whose_memory_can_be_stored():
    with pytest.raises(TypeError, match="objects with the methods"):
        minimize(PRICE, [USE <= 30], improvers=[Descent])
    with pytest.raises(SearchError, match="unpack"):
        minimize(PRICE, [USE <= 30], improvers=[Saying(Finding(np.array([0, 0, 1]), memory={"step": 1}))])


def test_a_place_without_a_selection_is_no_error():
    place = Finding(place=Place(0, 0, 1, 1))
    assert not minimize(PRICE, [USE <= 30], improvers=[Saying(place)], callback=lambda p: None).history.start.any()


@pytest.mark.parametrize("parts", [1, 2])
def test_scaled_float32_proves_nothing_false(parts):
    space = ChoiceSpace.from_sizes([2, 2])
    every = space.enumerate()
    for seed in range(40):
        drawn = np.random.default_rng(seed)
        metric = Table(space, drawn.normal(size=4).astype(np.float32)) * float(drawn.normal())
        if parts == 2:
            metric = metric + Additive(space, drawn.normal(size=4).astype(np.float32))
        for row in every:
            assert minimize(metric, [metric <= metric(row)]).status is Status.OPTIMAL


def test_a_sweep_reads_iterators_once():
    forbid = {0: iter([2]), 2: iter([0])}
    front = sweep(PRICE, [], USE, [16, 20, 25], forbid=forbid)
    for point in front.points:
        assert point.result.indices is None or (point.result.indices[0] != 2 and point.result.indices[2] != 0)
    improvers = (improver for improver in portfolio())
    assert sweep(PRICE, [], USE, [16, 20, 25], improvers=improvers).values.tolist() == [7.0, 5.0, 4.0]


@pytest.mark.parametrize(
    ("finding", "message"),
    [
        (
            Finding(np.array([0.5, 1.0, 2.0])),
            "found array.*, which is no selection: .* must hold whole numbers",
        ),
        (Finding([0, 9, 9]), "found .0, 9, 9., which is no selection: selection 0 takes option 9"),
        (Finding(np.zeros((2, 3), dtype=int)), "which is no selection: selections must"),
        (Finding(np.array([0])), "which is no selection: selections must have shape"),
        (Finding(bound=np.nan), "the bound of a finding must be a number, got nan"),
        (Finding(np.zeros(len(SPACE.sizes), dtype=int), values=np.zeros(5)), "values of a finding must be 1 numbers"),
    ],
)
def test_improvers_that_find_no_selection_break_a_law(finding, message):
    class Wrong:
        def suits(self, problem):
            return True

        def improve(self, problem, incumbent, budget, rng):
            yield finding

    with pytest.raises(LawError, match=message):
        check_improver(Wrong(), Problem(COST, [LOAD <= 9]))
    with pytest.raises(SearchError, match=message):
        solve(Problem(COST, [LOAD <= 9]), improvers=[Wrong()])


def test_a_finding_may_be_a_list():
    incumbent = Incumbent(Problem(COST))
    incumbent.take(Finding(np.zeros(len(SPACE.sizes), dtype=int).tolist()))
    assert incumbent.value is not None


# -- gaps that mutants showed -----------------------------------------------------------------------------------------


def test_the_start_is_the_best_else_the_nearest_else_the_initial_selection():
    initial = Incumbent(PROBLEM, initial=np.array([0, 1, 2]))
    assert initial.start is not None
    assert initial.start.tolist() == [0, 1, 2]
    assert Incumbent(PROBLEM, initial=np.array([0, -1, 2])).start is None  # one decision is open
    incumbent = Incumbent(PROBLEM)
    assert incumbent.start is None
    incumbent.take(at(2, 0, 2))  # a load of 10
    assert incumbent.gap == np.inf
    assert incumbent.start.tolist() == [2, 0, 2]
    incumbent.take(at(1, 0, 2))
    assert incumbent.start.tolist() == incumbent.selection.tolist() == [1, 0, 2]


def test_of_equally_near_selections_the_first_is_kept():
    incumbent = Incumbent(Problem(COST, [LOAD <= 2]))
    take(incumbent, [at(0, 0, 1), at(1, 0, 0)])  # loads of 4 and 5
    assert incumbent.nearest.selection.tolist() == [0, 0, 1]
    same = Incumbent(Problem(COST, [Additive(SPACE, [0] * 8, 5.0, name="same") <= 2]))
    take(same, [at(1, 1, 1), at(0, 0, 0)])
    assert same.nearest.selection.tolist() == [1, 1, 1]


@pytest.mark.parametrize(("bound", "stop"), [(9.0, Stop.OPTIMAL), (8.5, Stop.OPTIMAL), (8.0, None), (7.5, None)])
def test_a_whole_number_is_optimal_within_less_than_one_of_the_bound(bound, stop):
    incumbent = Incumbent(PROBLEM)
    take(incumbent, [at(2, 0, 1), Finding(bound=bound)])
    assert incumbent.value == 9.0
    assert incumbent.settled(Budget()) is stop


def test_the_step_of_other_numbers_is_not_one():
    incumbent = Incumbent(Problem(Additive(SPACE, COST.values / 4), [LOAD <= 9]))
    take(incumbent, [at(2, 0, 1), Finding(bound=1.75)])
    assert (incumbent.value, incumbent.settled(Budget())) == (2.25, None)
    incumbent.take(Finding(bound=2.125))
    assert incumbent.settled(Budget()) is Stop.OPTIMAL


def test_what_is_ruled_out_without_a_call_is_the_nearest_only_while_nothing_is_known():
    called = []
    costly = Function(SPACE, lambda labels: called.append(labels) or 1.0, name="costly", costly=True)
    incumbent = Incumbent(Problem(costly, [LOAD <= 9]))
    incumbent.take(at(2, 1, 2))
    assert incumbent.nearest.selection.tolist() == [2, 1, 2]
    assert not called
    take(incumbent, [at(0, 0, 0), at(2, 0, 2)])
    assert len(called) == 1
    assert incumbent.nearest.selection.tolist() == [2, 1, 2]
