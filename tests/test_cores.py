"""Cores: never worse, feasible, and what they call optimal is what enumeration finds."""

from dataclasses import replace
from itertools import islice
from unittest.mock import patch

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import (
    Additive,
    Budget,
    ChoiceSpace,
    Cores,
    Descent,
    Enumerate,
    Exact,
    Finding,
    Function,
    Incumbent,
    LongestPath,
    Multipliers,
    Peak,
    Problem,
    Status,
    Stop,
    Switches,
    Table,
    find_feasible,
    maximize,
    minimize,
    portfolio,
    solve,
)
from cggd.datasets import mmkp
from cggd.improve import cores
from cggd.improve.switches import swap
from cggd.program.bounds import Relaxed, relax
from cggd.program.grid import grid, proved
from cggd.program.highs import LinearProgram
from cggd.testing import choice_spaces, problems
from tests.test_highs import kept, masks


def found(findings):
    """What was found in all: the last selection, the last bound and the proof."""
    selection = bound = proof = None
    for finding in findings:
        if finding is not None:
            selection = finding.selection if finding.selection is not None else selection
            bound = finding.bound if finding.bound is not None else bound
            proof = finding.proof or proof
    return selection, bound, proof


def solve_cores(problem, relaxed, best=None, *, time_limit=None, seed=0, stop=None):
    """The findings of `Cores`, given a relaxation and the best selection known."""
    incumbent = Incumbent(problem)
    incumbent.take(Finding(best, relaxed.bound, relaxed=relaxed))
    yield from Cores().improve(problem, incumbent, Budget(time_limit, stop=stop), np.random.default_rng(seed))


@pytest.mark.slow
@settings(max_examples=150)
@given(st.data(), problems(feasible=False, max_constraints=3))
def test_what_is_proved_is_what_enumeration_finds(data, problem):
    allowed = data.draw(st.none() | masks(problem.space))
    problem = replace(problem, allowed=allowed)
    every = kept(problem.space, problem.constraints, problem.allowed)
    relaxed = relax(problem)
    if relaxed is None:
        return
    if relaxed.infeasible:
        assert len(every) == 0
        return
    best = None if len(every) == 0 else every[data.draw(st.integers(0, len(every) - 1))]
    limit = data.draw(st.sampled_from([None, 2.0]))  # with one, two workers solve cores, some for better ones alone
    ways = {
        "PROVABLE": data.draw(st.sampled_from([cores.PROVABLE, 0])),
        "WEAK": data.draw(st.sampled_from([cores.WEAK, 0.0])),
    }
    closed = data.draw(st.sampled_from([0.4, -1]))
    # Few options are treated as many, with and without a gap closed by cuts.
    with patch.multiple(cores, **ways), patch("cggd.incumbent.CLOSED", closed):
        findings = list(solve_cores(problem, relaxed, best, time_limit=limit, seed=data.draw(st.integers(0, 9))))
    selection, _, proof = found(findings)
    if len(every) == 0:
        assert proof
        assert selection is None
        return
    values = problem.objective.evaluate(every)
    optimum = values[np.argmin(problem.sign * values)]
    if selection is not None:
        assert any((row == selection).all() for row in every)
    incumbent = Incumbent(problem)
    incumbent.take(Finding(best, relaxed.bound))
    for finding in findings:
        before = incumbent.cost
        if finding is not None:
            incumbent.take(finding)
        assert incumbent.cost <= before
    assert problem.sign * incumbent.bound <= problem.sign * optimum + 1e-6 * max(1, abs(optimum))
    if incumbent.optimal(incumbent.value, grid(problem.objective)):
        assert incumbent.value == pytest.approx(optimum)


@pytest.mark.slow
@settings(max_examples=100)
@given(st.data(), problems(max_constraints=3), st.booleans())
def test_a_search_that_says_optimal_has_the_optimum(data, problem, lists):
    allowed = data.draw(st.none() | masks(problem.space))
    every = kept(problem.space, problem.constraints, allowed)
    improvers = [one for one in portfolio(Descent(steps=3, starts=1)) if lists or not isinstance(one, Enumerate)]
    result = solve(problem, forbid=None if allowed is None else ~allowed, improvers=improvers)
    if len(every) == 0:
        assert result.status in (Status.INFEASIBLE, Status.UNKNOWN)
        return
    values = problem.sign * problem.objective.evaluate(every)
    if result.status is Status.OPTIMAL:
        assert problem.sign * result.value == pytest.approx(values.min())
        assert result.gap == 0
    if lists and all(metric.closed_form for metric in problem.metrics):
        assert result.status is Status.OPTIMAL
    else:
        assert result.status in (Status.OPTIMAL, Status.FEASIBLE, Status.UNKNOWN)


@given(choice_spaces(), st.data())
def test_reduced_costs_are_no_more_than_what_an_option_costs(space, data):
    numbers = st.lists(st.integers(-9, 9), min_size=space.n_options, max_size=space.n_options)
    cost, weight = (Additive(space, data.draw(numbers)) for _ in range(2))
    peak = Peak(space, data.draw(numbers))
    bounds = [weight <= data.draw(st.integers(-9, 20)), peak <= data.draw(st.integers(-9, 9))]
    problem = Problem(cost, bounds)
    every = kept(space, bounds)
    relaxed = relax(problem)
    if relaxed is None or relaxed.infeasible:
        assert len(every) == 0
        return
    reduced, flat = relaxed.reduced(), space.layout.flat(every)
    for row, value in zip(flat, cost.evaluate(every), strict=True):
        assert value >= relaxed.bound + reduced[row].max(initial=0.0) - 1e-6


@settings(max_examples=30)
@given(st.data(), problems(max_constraints=3), st.floats(0.0, 1.0), st.integers(0, 9))
def test_a_neighbourhood_holds_the_best_selection_and_frees_a_share(data, problem, share, seed):
    every = kept(problem.space, problem.constraints)
    optimum = problem.sign * (problem.sign * problem.objective.evaluate(every)).min()
    relaxed = relax(problem) or Relaxed(optimum, lambda: np.zeros(problem.space.n_options))
    best, layout = every[data.draw(st.integers(0, len(every) - 1))], problem.space.layout
    incumbent = Incumbent(problem)
    incumbent.take(Finding(best, relaxed.bound))
    shared = cores._Cores(incumbent, relaxed, 0.0, Budget())
    core = shared._neighbourhood(share, np.random.default_rng(seed))
    chosen = np.zeros(len(core), dtype=bool)
    chosen[layout.flat(best)] = True
    assert core[chosen].all()
    free = layout.reduce(np.add, (core & ~chosen).astype(int)) > 0
    assert free.sum() <= max(share * len(best), min(len(best), 2))
    # An option that a better selection takes is left out only if its decision is fixed.
    better = every[problem.sign * problem.objective.evaluate(every) < incumbent.cost]
    wanted = np.zeros(len(core), dtype=bool)
    wanted[layout.flat(better).ravel()] = True
    whole = shared._neighbourhood(1.0, np.random.default_rng(seed))
    assert whole[wanted].all()


def test_the_core_of_a_knapsack_is_proved_optimal():
    for name in ("I01", "I02", "I05", "I06"):
        knapsack = mmkp(name)
        result = maximize(knapsack.value, knapsack.constraints, time_limit=30.0)
        assert result.status is Status.OPTIMAL
        assert result.value == pytest.approx(knapsack.best_known)


def test_the_same_seed_without_a_limit_gives_the_same_result():
    knapsack = mmkp("I03")
    problem = Problem(knapsack.value, knapsack.constraints, "maximize")
    relaxed = relax(problem)
    runs = [found(solve_cores(problem, relaxed)) for _ in range(2)]
    assert (runs[0][0] == runs[1][0]).all()
    assert runs[0][1] == runs[1][1]


def test_stopped_cores_keep_what_they_have():
    knapsack = mmkp("I07")
    problem = Problem(knapsack.value, knapsack.constraints, "maximize")
    relaxed = relax(problem)
    findings = solve_cores(problem, relaxed, relaxed.selection, time_limit=60.0)
    for finding in findings:
        if finding is not None and finding.selection is not None:
            break
    findings.close()
    assert all(c.report(finding.selection).satisfied for c in knapsack.constraints)


def test_an_error_in_a_core_is_not_lost(monkeypatch):
    def broken(*arguments, **keywords):
        raise MemoryError("too large")

    knapsack = mmkp("I07")
    problem = Problem(knapsack.value, knapsack.constraints, "maximize")
    relaxed = relax(problem)
    monkeypatch.setattr("cggd.improve.cores.LinearProgram.of", broken)
    with pytest.raises(MemoryError, match="too large"):
        found(solve_cores(problem, relaxed, relaxed.selection))


def test_swaps_repair_what_one_switch_breaks():
    # From (0, 0) every single switch that gains breaks the bound, and every one that does not gains nothing.
    space = ChoiceSpace.from_sizes([2, 2])
    gain = Function(space, lambda s: 3.0 * s[0] - 2.0 * s[1], name="gain")
    load = Function(space, lambda s: 2.0 * s[0] - 1.0 * s[1], name="load")
    problem = Problem(gain, [load <= 1.0], "maximize")
    selection, _, _ = found(swap(problem, np.array([0, 0]), np.random.default_rng(0)))
    assert selection.tolist() == [1, 1]


@pytest.mark.slow
def test_swaps_again_find_what_no_pair_leads_to():
    # Each right option alone makes it worse, so that only luck leads to all of them.
    space = ChoiceSpace.from_sizes([3] * 4)
    wanted = np.array([2, 0, 1, 0])

    def gain(selection):
        right = sum(selection[decision] == option for decision, option in enumerate(wanted))
        return 10.0 if right == 4 else -float(right)

    problem = Problem(Function(space, gain, name="gain"), [], "maximize")
    start = (wanted + 1) % 3
    assert found(swap(problem, start, np.random.default_rng(0)))[0] is None
    best = found(islice(swap(problem, start, np.random.default_rng(0), again=True), 20_000))[0]
    assert best.tolist() == wanted.tolist()


@pytest.mark.slow
@settings(max_examples=60)
@given(st.data(), problems(max_constraints=2))
def test_swaps_never_lose_and_stay_feasible(data, problem):
    every = kept(problem.space, problem.constraints)
    start = every[data.draw(st.integers(0, len(every) - 1))]
    best = problem.sign * problem.objective(start)
    again = data.draw(st.booleans())
    for finding in islice(swap(problem, start, np.random.default_rng(0), again=again), 300):
        if finding is not None:
            assert all(c.report(finding.selection).satisfied for c in problem.constraints)
            assert problem.sign * problem.objective(finding.selection) <= best
            best = problem.sign * problem.objective(finding.selection)


@given(choice_spaces(), st.data(), st.sampled_from([0.01, 0.5, 1.0, 3.0]))
def test_two_values_differ_by_no_less_than_the_grid(space, data, unit):
    numbers = data.draw(st.lists(st.integers(-50, 50), min_size=space.n_options, max_size=space.n_options))
    metric = Additive(space, unit * np.array(numbers), constant=0.1234567)
    step = grid(metric)
    values = np.unique(np.round(metric.evaluate(space.enumerate()), 9))
    assert step > 0 or len(values) == 1
    if len(values) > 1:
        assert np.diff(values).min() >= step - 1e-6


def test_the_grid_is_unknown_where_it_must_be():
    space = ChoiceSpace.from_sizes([2])
    assert grid(Additive(space, [0.0, np.pi])) == 0
    assert grid(Table(space, [0.0, 1.0])) == 0


@pytest.mark.parametrize(
    ("cost", "bound", "step", "expected"),
    [
        (10.0, 10.0, 0.0, True),
        (10.0, 9.9, 0.0, False),
        (10.0, 9.1, 1.0, True),
        (10.0, 9.0, 1.0, False),
        (10.0, 8.9, 1.0, False),
        (-24584.0, -24584.9, 1.0, True),
        (-24584.0, -24585.0, 1.0, False),
    ],
)
def test_what_is_proved(cost, bound, step, expected):
    assert proved(cost, bound, step) is expected


def test_a_gap_ends_the_search():
    knapsack = mmkp("I07")
    result = maximize(knapsack.value, knapsack.constraints, gap=0.01)
    assert result.gap <= 0.01
    assert (result.stopped, result.note) == (Stop.GAP, "0.01")


@settings(max_examples=100)
@given(problems(max_constraints=3), st.floats(1e-4, 1.0))
@pytest.mark.slow
def test_the_exact_solver_ends_within_the_gap_asked_for(problem, gap):
    result = solve(problem, gap=gap, improvers=[Multipliers(), Exact()])
    every = kept(problem.space, problem.constraints)
    optimum = (problem.sign * problem.objective.evaluate(every)).min()
    error = 1e-6 * max(1, abs(optimum))
    assert result.bound is None or problem.sign * result.bound <= optimum + error
    if result.stopped is Stop.GAP:
        assert abs(result.value - result.bound) <= gap * abs(result.bound) + error


def test_progress_says_which_improver_is_at_work():
    seen = []
    knapsack = mmkp("I03")
    improvers = [Descent(steps=5, starts=1), Multipliers()]
    callback = lambda p: seen.append(p.phase) and None  # noqa: E731
    maximize(knapsack.value, knapsack.constraints, improvers=improvers, callback=callback)
    assert seen[:5] == ["descent"] * 5
    assert set(seen[5:]) == {"polish"}


def test_a_callback_stops_the_cores():
    knapsack = mmkp("I07")
    improvers, calls = [Multipliers(), Cores()], []
    callback = lambda p: calls.append(p) or len(calls) > 3  # noqa: E731
    how = {"improvers": improvers, "time_limit": 60.0, "callback": callback}
    result = maximize(knapsack.value, knapsack.constraints, **how)
    assert (result.stopped, len(calls)) == (Stop.CALLBACK, 4)
    assert result.seconds < 30


def test_paths_and_peaks_enter_the_cores():
    space = ChoiceSpace({n: ["slow", "fast"] for n in range(3)})
    time = LongestPath(space, nx.DiGraph([(0, 1), (1, 2)]), [3, 1, 4, 2, 5, 2], name="time")
    load = Peak(space, [1, 2, 1, 2, 1, 3], name="load")
    price = Additive(space, [1, 4, 1, 3, 1, 6], name="price")
    bounds = [time <= 9, load <= 2]
    relaxed = relax(Problem(price, bounds))
    assert relaxed.selection is None  # a linear program found the bound
    assert minimize(price, bounds).status is Status.OPTIMAL
    assert minimize(price, bounds).value == price.evaluate(kept(space, bounds)).min()
    assert find_feasible([time <= 4]).status is Status.INFEASIBLE


def hard_to_tell(change):
    rng = np.random.default_rng(0)
    space = ChoiceSpace.from_sizes([4] * 12)
    values, weights = rng.random(48), rng.random((2, 48))
    constraints = [Additive(space, w) <= 4.2 for w in weights]
    best = minimize(Additive(space, values), constraints)
    assert best.status is Status.OPTIMAL
    return minimize(Additive(space, change(values)), constraints), best


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v + 1e6,
        lambda v: v * 1e-10,
        lambda v: v * 1e10,
        lambda v: np.where(np.arange(48) == 3, 1e6, v),
    ],
    ids=["offset", "small unit", "large unit", "outlier"],
)
def test_no_number_in_common_or_unit_makes_a_false_proof(change):
    result, best = hard_to_tell(change)
    assert result.status is not Status.OPTIMAL or (result.indices == best.indices).all()


@pytest.mark.slow
def test_cores_with_a_cut_off_prove_nothing(monkeypatch):
    # To the solver, values that differ by 1 beside an offset of 1e7 are equal within its tolerance.
    monkeypatch.setattr("cggd.improve.cores.CUT", 1.0)
    for number in range(40):
        rng = np.random.default_rng([5, number])
        space = ChoiceSpace.from_sizes([4] * 7)
        every = space.enumerate()
        value = Additive(space, 1e7 + rng.integers(0, 40, space.n_options))
        loads = [Additive(space, rng.integers(0, 30, space.n_options)) for _ in range(4)]
        bounds = [load <= float(np.quantile(load.evaluate(every), 0.35)) for load in loads]
        feasible = kept(space, bounds)
        if len(feasible) == 0:
            continue
        improvers = [Multipliers(), Descent(steps=3, starts=1), Cores()]
        result = minimize(value, bounds, time_limit=0.15, improvers=improvers, seed=number)
        optimum = value.evaluate(feasible).min()
        assert result.status is not Status.OPTIMAL or result.value == optimum
        assert result.bound is None or result.bound <= optimum + 1e-3


def test_switches_of_a_small_space_end_before_the_limit():
    space = ChoiceSpace.from_sizes([2, 2])
    result = minimize(Function(space, lambda s: float(s[0] + s[1]), name="f"), time_limit=600.0, improvers=[Switches()])
    assert result.value == 0.0


def test_small_differences_beside_large_ones_are_no_grid():
    space = ChoiceSpace.from_sizes([2] * 4)
    assert grid(Additive(space, [0, 1, 0, 5e-8, 0, 5e-8, 0, 5e-8])) < 1
    assert grid(Additive(space, np.array([0, 0.1, 0, 0.2, 0, 0.3, 0, 0.1], dtype=np.float32))) == 0


def test_an_infinite_time_limit_is_none():
    knapsack = mmkp("I04")
    improvers = [Multipliers(), Cores()]
    assert maximize(knapsack.value, knapsack.constraints, time_limit=np.inf, improvers=improvers).feasible


@settings(max_examples=10, deadline=None)
@given(st.floats(0.5, 100.0))
def test_the_solver_ends_before_the_search_does(limit):
    # What a solver returns after the end of the search is lost.
    space = ChoiceSpace.from_sizes([2, 2])
    problem = Problem(Additive(space, [1, 2, 3, 4]), [Additive(space, [1, 0, 1, 0]) <= 1])
    budget = Budget(limit)
    with patch.object(LinearProgram, "solve", autospec=True, side_effect=LinearProgram.solve) as solving:
        list(Exact().improve(problem, Incumbent(problem), budget, np.random.default_rng(0)))
    assert solving.call_args.kwargs["time_limit"] < budget.left
