"""Feasibility: what is found holds, what is proved is so, and nothing else is claimed."""

import gzip
import json
from contextlib import contextmanager
from functools import partial

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import (
    Additive,
    ChoiceSpace,
    Constraint,
    Descent,
    Enumerate,
    Function,
    LongestPath,
    Peak,
    Predicted,
    Status,
    diagnose,
    feasibility,
    find_feasible,
    maximum,
    minimize,
    portfolio,
    smallest_bound,
)
from cggd.datasets import data_folder
from cggd.improve import exact, switches
from cggd.program.highs import LinearProgram, NotLinearError
from cggd.testing import choice_spaces, metrics, problems, selections, witnessed_problems
from tests.strategies import satisfying

SCALES = [1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e9, 1e12]
PROJECTS = ["j301_1", "j302_1", "j303_1"]


def kept(space, constraints, forbid=None):
    """All selections that satisfy the constraints."""
    everything = space.enumerate()
    held = np.ones(len(everything), dtype=bool)
    if forbid is not None:
        held &= ~forbid[space.layout.flat(everything)].any(axis=1)
    for c in constraints:
        held &= satisfying(c, everything)
    return everything[held]


def masks(space):
    """Options that must not be chosen, at least one being left to each decision."""

    def mask(flags, selection):
        forbid = np.array(flags)
        forbid[space.layout.flat(selection)] = False
        return forbid

    flags = st.lists(st.booleans(), min_size=space.n_options, max_size=space.n_options)
    return st.none() | st.builds(mask, flags, selections(space))


@contextmanager
def without_enumeration():
    """Leave small spaces to the exact solver and to a short search, as if they were large."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Enumerate, "suits", lambda self, problem: False)
        patch.setattr(switches, "search", partial(switches.search, restarts=2, patience=10))
        patch.setattr(switches, "WALKS", 2)
        patch.setattr(switches, "PATIENCE", 10)
        patch.setattr(feasibility, "portfolio", partial(portfolio, Descent(steps=20, starts=1, share=0.8)))
        yield


def is_linear(c):
    try:
        LinearProgram(c.space, [c])
    except NotLinearError:
        return False
    return True


def provable(space, constraints, forbid):
    """Whether infeasibility follows from the limits of single metrics, or from the constraints that are linear."""
    if any(not c.satisfied(c.metric.limits()[0 if c.sign > 0 else 1]) for c in constraints):
        return True
    return len(kept(space, [c for c in constraints if is_linear(c)], forbid)) == 0


def check_found(answer, constraints, forbid):
    """Whatever is said to be feasible is so, and is reported as it is."""
    if answer.status is not Status.FEASIBLE:
        assert not answer.feasible
        assert (answer.selection, answer.indices) == (None, None)
        assert (answer.proof != "") == (answer.status is Status.INFEASIBLE)
        return
    space = constraints[0].space
    assert answer.feasible
    assert (space.indices(answer.selection) == answer.indices).all()
    for c, row in zip(constraints, answer.constraints, strict=True):
        assert row.satisfied
        assert row.value == pytest.approx(c.metric(answer.indices))
    if forbid is not None:
        assert not forbid[space.layout.flat(answer.indices)].any()


# -- small spaces: the answer is known ------------------------------------------------------------------------------


@given(st.data(), problems(feasible=False))
def test_on_small_spaces_the_answer_is_always_known(data, problem):
    forbid = data.draw(masks(problem.space))
    answer = find_feasible(problem.constraints, forbid=forbid)
    some = len(kept(problem.space, problem.constraints, forbid)) > 0
    assert answer.status is (Status.FEASIBLE if some else Status.INFEASIBLE)
    check_found(answer, problem.constraints, forbid)


@given(st.data(), problems(feasible=False, max_constraints=2))
def test_the_smallest_bound_is_the_least_value_there_is(data, problem):
    forbid, sense = data.draw(masks(problem.space)), data.draw(st.sampled_from(["<=", ">="]))
    metric, sign = problem.objective, 1.0 if sense == "<=" else -1.0
    others = data.draw(st.sampled_from([(), problem.constraints]))
    answer = smallest_bound(metric, others, sense=sense, forbid=forbid)
    assert answer.proved
    found = kept(problem.space, others, forbid)
    if len(found) == 0:
        assert (answer.value, answer.selection) == (None, None)
        assert str(answer) == f"no bound on {metric.name} works"
        return
    assert sign * answer.value == pytest.approx((sign * metric.evaluate(found)).min())
    assert metric(answer.selection) == answer.value
    assert (problem.space.indices(answer.selection) == found).all(axis=1).any()
    # What it means: the bound works with the others, and a tighter one does not.
    with_it = Constraint(metric, answer.value, sense)
    assert find_feasible([*others, with_it], forbid=forbid).status is Status.FEASIBLE
    tighter = Constraint(metric, answer.value - sign * 0.01, sense)
    assert find_feasible([*others, tighter], forbid=forbid).status is Status.INFEASIBLE


@given(st.data(), problems(feasible=False))
def test_conflicts_are_minimal_and_remedies_work(data, problem):
    space, constraints = problem.space, problem.constraints
    forbid = data.draw(masks(space))
    answer = diagnose(constraints, forbid=forbid)
    assert answer.feasibility.status is find_feasible(constraints, forbid=forbid).status
    if answer.feasibility.feasible:
        assert (list(answer.conflict), list(answer.remedies)) == ([], [])
        return
    assert answer.minimal
    assert answer.conflict
    assert all(any(c is one for one in constraints) for c in answer.conflict)
    assert len(kept(space, answer.conflict, forbid)) == 0
    for c, remedy in zip(answer.conflict, answer.remedies, strict=True):
        rest = [other for other in answer.conflict if other is not c]
        assert len(kept(space, rest, forbid)) > 0
        others = [other for other in constraints if other is not c]
        found = kept(space, others, forbid)
        assert remedy.proved
        assert (remedy.metric, remedy.sense) == (c.metric, c.sense)
        if len(found) == 0:
            assert remedy.value is None
        else:
            assert c.sign * remedy.value == pytest.approx((c.sign * c.metric.evaluate(found)).min())
            assert c.sign * remedy.value > c.limit
        assert str(remedy) in str(answer)


class RoundsInBatches:
    """A model whose predictions in a batch are a unit in the last place larger than alone."""

    def predict(self, X):
        return X @ np.arange(1.0, 5.0) * (1.0 if len(X) == 1 else 1.0 + 2.0**-52)


def test_a_model_that_rounds_differently_in_a_batch_rules_nothing_out():
    space = ChoiceSpace.from_sizes([2, 2])
    latency = Predicted(space, RoundsInBatches(), name="latency")
    least = latency([0, 0])
    assert (latency <= least).holds(space.enumerate()).tolist() == [True, False, False, False]
    assert find_feasible([latency <= least]).status is Status.FEASIBLE
    assert find_feasible([latency <= 0.999 * least]).status is Status.INFEASIBLE
    assert smallest_bound(latency, [latency <= least]).value == least


# -- large spaces: what is not proved is not claimed ----------------------------------------------------------------


@settings(max_examples=100)
@given(st.data(), problems(feasible=False))
def test_infeasible_is_said_where_it_is_proved_and_nowhere_else(data, problem):
    space, constraints = problem.space, problem.constraints
    forbid = data.draw(masks(space))
    with without_enumeration():
        answer = find_feasible(constraints, forbid=forbid)
    check_found(answer, constraints, forbid)
    if answer.status is Status.INFEASIBLE:
        assert len(kept(space, constraints, forbid)) == 0
    # What is forbidden may prove more than this oracle knows.
    if provable(space, constraints, forbid):
        assert answer.status is Status.INFEASIBLE
    if answer.status is Status.UNKNOWN:
        assert len(answer.constraints) == len(constraints)
        assert not all(row.satisfied for row in answer.constraints)
    if all(map(is_linear, constraints)):
        assert answer.status is not Status.UNKNOWN


@settings(max_examples=100)
@given(st.data(), problems(feasible=False, max_constraints=2))
@pytest.mark.slow
def test_a_bound_that_was_not_proved_still_works(data, problem):
    space, others, metric = problem.space, problem.constraints, problem.objective
    forbid, sense = data.draw(masks(space)), data.draw(st.sampled_from(["<=", ">="]))
    sign = 1.0 if sense == "<=" else -1.0
    with without_enumeration():
        answer = smallest_bound(metric, others, sense=sense, forbid=forbid)
    found = kept(space, others, forbid)
    if answer.value is None:
        assert not answer.proved or len(found) == 0
        return
    assert (space.indices(answer.selection) == found).all(axis=1).any()
    assert metric(answer.selection) == answer.value
    least = (sign * metric.evaluate(found)).min()
    assert sign * answer.value >= least - 1e-9
    if answer.proved:
        assert sign * answer.value == pytest.approx(least, abs=1e-6)
    if all(map(is_linear, [*others, Constraint(metric, sign * 1e9, sense)])):
        assert answer.proved


@pytest.mark.slow
@settings(max_examples=60)
@given(st.data(), problems(feasible=False, max_constraints=3))
def test_a_diagnosis_without_enumeration_claims_no_more_than_is_so(data, problem):
    space, constraints = problem.space, problem.constraints
    forbid = data.draw(masks(space))
    with without_enumeration():
        answer = diagnose(constraints, forbid=forbid)
    if not answer.conflict:
        assert answer.feasibility.status is not Status.INFEASIBLE
        return
    assert len(kept(space, answer.conflict, forbid)) == 0
    for c, remedy in zip(answer.conflict, answer.remedies, strict=True):
        if answer.minimal:
            assert len(kept(space, [other for other in answer.conflict if other is not c], forbid)) > 0
        found = kept(space, [other for other in constraints if other is not c], forbid)
        if remedy.value is None:
            assert not remedy.proved or len(found) == 0
        else:
            assert (space.indices(remedy.selection) == found).all(axis=1).any()


@settings(max_examples=30)
@given(witnessed_problems(max_decisions=4, max_constraints=2))
def test_what_has_a_witness_is_never_ruled_out(drawn):
    problem, _ = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Enumerate, "suits", lambda self, problem: False)
        assert find_feasible(problem.constraints).status is Status.FEASIBLE


LARGE = ChoiceSpace.from_sizes([2] * 20)
STUBBORN = Function(LARGE, lambda rows: np.full(len(rows), 5.0), batch=True, name="stubborn", unit="W")
ONES = Additive(LARGE, [0, 1] * 20, name="ones")


@pytest.mark.slow
def test_a_black_box_on_a_large_space_proves_nothing(monkeypatch):
    monkeypatch.setattr(switches, "search", partial(switches.search, restarts=1, patience=3))
    answer = find_feasible(STUBBORN <= 4)
    assert answer.status is Status.UNKNOWN
    assert [str(row) for row in answer.constraints] == ["stubborn <= 4 W: 5, violated by 1"]
    diagnosis = diagnose([STUBBORN <= 4, ONES >= 3])
    assert (list(diagnosis.conflict), diagnosis.minimal, list(diagnosis.remedies)) == ([], False, [])
    assert str(diagnosis).startswith("unknown: ")
    assert "infeasible" not in str(diagnosis)
    tightest = smallest_bound(STUBBORN, ONES >= 3)
    assert (tightest.value, tightest.proved) == (5.0, False)
    assert str(tightest) == "stubborn <= 5 W works, and is the tightest found"
    nothing = smallest_bound(ONES, STUBBORN <= 4)
    assert (nothing.value, nothing.proved) == (None, False)
    assert str(nothing) == "no bound on ones that works was found"


@pytest.mark.parametrize("at", range(3))
def test_linear_constraints_beside_a_black_box_prove_what_they_prove(at):
    twos = Additive(LARGE, [2, 0] * 20, name="twos")
    linear = [ONES >= 12, twos >= 17]  # 12 ones leave 8 decisions, 16 of twos
    constraints = [*linear[:at], STUBBORN <= 6, *linear[at:]]
    assert find_feasible(constraints).status is Status.INFEASIBLE
    diagnosis = diagnose(constraints)
    assert list(diagnosis.conflict) == linear
    assert diagnosis.minimal
    assert [remedy.value for remedy in diagnosis.remedies] == [11, 16]


def test_a_single_bound_out_of_reach_is_proved_by_its_limits(monkeypatch):
    monkeypatch.setattr(exact, "LinearProgram", None)  # no solver is asked
    answer = find_feasible([STUBBORN <= 4, ONES >= 21])
    assert answer.status is Status.INFEASIBLE
    assert answer.proof == "ones >= 21 cannot hold: no selection has more than 20"


def test_a_noisy_metric_proves_nothing_by_chance():
    space, rng = ChoiceSpace.from_sizes([2, 2]), np.random.default_rng(0)
    noisy = Function(space, lambda s: 5.0 + rng.normal(), repeats=2, name="noisy")
    assert find_feasible(noisy <= 0, time_limit=0.3).status is Status.UNKNOWN
    assert not smallest_bound(noisy, time_limit=0.3).proved
    ones = Additive(space, [0, 1, 0, 1], name="ones")
    for constraints in ([ones <= 1, noisy <= 0], [noisy <= 0, ones >= 1]):
        assert find_feasible(constraints, time_limit=0.3).status is Status.UNKNOWN
        assert diagnose(constraints, time_limit=0.3).feasibility.status is Status.UNKNOWN
        for objective in (ones, noisy):
            assert not smallest_bound(objective, constraints, time_limit=0.3).proved
            result = minimize(objective, constraints, time_limit=0.3)
            assert result.status is Status.UNKNOWN
            assert result.bound is None if objective is noisy else 0.0 <= result.bound <= 1.0


def test_an_objective_of_what_is_not_linear_is_searched_under_what_is():
    values = np.random.default_rng(0).integers(0, 9, 40)
    cost = Additive(LARGE, values)
    square = Function(LARGE, lambda rows: cost.evaluate(rows) ** 2, batch=True, name="square")
    answer = smallest_bound(square, ONES >= 10)
    assert not answer.proved
    assert answer.value >= smallest_bound(cost, ONES >= 10).value ** 2
    assert ONES(answer.selection) >= 10


# -- units ------------------------------------------------------------------------------------------------------------


@st.composite
def scaled(draw):
    """A space, and makers of linear metrics at any scale; bounds at odd tens lie far from every value."""
    space = draw(choice_spaces(max_decisions=4, max_options=3))
    graph = nx.DiGraph()
    nx.add_path(graph, space.decisions)
    graph.add_edges_from((space.decisions[0], other) for other in space.decisions[2:])
    stages = {"early": space.decisions[:2], "late": space.decisions[1:] or space.decisions}
    tens = st.lists(st.integers(0, 9), min_size=space.n_options, max_size=space.n_options)
    kinds = [
        lambda values: Additive(space, values),
        lambda values: Peak(space, values, stages),
        lambda values: LongestPath(space, graph, values),
    ]
    drawn = [(draw(st.sampled_from(kinds)), 20.0 * np.array(draw(tens))) for _ in range(2)]
    return space, [lambda scale, kind=kind, values=values: kind(values * scale) for kind, values in drawn]


@pytest.mark.slow
@settings(max_examples=100)
@given(scaled(), st.tuples(*[st.sampled_from(SCALES)] * 2), st.tuples(*[st.integers(0, 16)] * 2))
def test_answers_do_not_depend_on_the_unit(drawn, scales, bounds):
    _, makers = drawn
    limits = [20.0 * bound + 10.0 for bound in bounds]
    plain = [make(1.0) <= bound for make, bound in zip(makers, limits, strict=True)]
    other = [make(s) <= bound * s for make, bound, s in zip(makers, limits, scales, strict=True)]
    with without_enumeration():
        status = find_feasible(other).status
        diagnosis = diagnose(other)
        tightest = smallest_bound(other[0].metric, other[1])
    expected = find_feasible(plain).status
    assert status is expected
    assert diagnosis.feasibility.status is expected
    known = diagnose(plain)
    assert len(diagnosis.conflict) == len(known.conflict)
    for remedy, same in zip(diagnosis.remedies, known.remedies, strict=True):
        (scale,) = (s for c, s in zip(other, scales, strict=True) if c.metric is remedy.metric)
        assert remedy.proved
        assert (remedy.value is None) == (same.value is None)
        assert remedy.value is None or remedy.value / scale == pytest.approx(same.value)
    same = smallest_bound(plain[0].metric, plain[1])
    assert tightest.proved
    assert (tightest.value is None) == (same.value is None)
    assert same.value is None or tightest.value / scales[0] == pytest.approx(same.value)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", ["peak", "path", "additive", "sum", "maximum"])
def test_large_linear_problems_are_decided_at_any_scale(kind, scale):
    """Thirty decisions between fast and cheap: below the tightest bound nothing works, at it something does."""
    space = ChoiceSpace.from_sizes([2] * 30)
    graph = nx.DiGraph([(i, i + 10) for i in range(20)])
    fast = 20.0 * np.tile([1.0, 3.0], 30)
    stages = {i: [i, i + 10, i + 20] for i in range(10)}
    additive = Additive(space, fast * scale)
    peak, path = Peak(space, fast * scale, stages), LongestPath(space, graph, fast * scale)
    metric, least = {
        "peak": (peak, 60),
        "path": (path, 60),
        "additive": (additive, 600),
        "sum": (peak + path + additive, 720),
        "maximum": (maximum(peak, path, additive), 600),
    }[kind]
    slow = Additive(space, [0, 1] * 30)
    # Every slow choice adds 40; ten of them fall one to each stage and path.
    with_ten = {"peak": 100, "path": 100, "additive": 1000, "sum": 1200, "maximum": 1000}[kind]
    for others, value in (([], least), ([slow >= 10], with_ten)):
        tightest = smallest_bound(metric, others)
        assert tightest.proved
        assert tightest.value / scale == pytest.approx(value)
        assert find_feasible([*others, metric <= (value + 10) * scale]).status is Status.FEASIBLE
        assert find_feasible([*others, metric <= (value - 10) * scale]).status is Status.INFEASIBLE


# -- real projects ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def infeasible_projects():
    folder = data_folder()
    path = folder and folder / "scheduling" / "mmrcpsp_infeasible.json.gz"
    if path is None or not path.is_file():
        pytest.skip("mmrcpsp_infeasible.json.gz is not here; CGGD_DATA names the folder of the larger data sets")
    return json.loads(gzip.decompress(path.read_bytes()))


def budgets(project):
    """What the modes of a project take of each resource that does not renew, and how much there is."""
    n_renewable, modes = project["nR"], project["modes"]
    space = ChoiceSpace({f"activity {a}": [f"mode {m}" for m in range(len(own))] for a, own in enumerate(modes)})
    columns = np.array([mode[1 + n_renewable :] for own in modes for mode in own]).T
    names = [f"material {n}" for n in range(len(columns))]
    uses = [Additive(space, column, name=name, unit="kg") for column, name in zip(columns, names, strict=True)]
    return [use <= capacity for use, capacity in zip(uses, project["cap"][n_renewable:], strict=True)]


def least_of_the_second(first, second):
    """For each amount of the first resource the least of the second that completes a project, by recursion."""
    space = first.metric.space
    least = {0: 0.0}
    for low, high in zip(space.offsets[:-1].tolist(), space.offsets[1:].tolist(), strict=True):
        then: dict[int, float] = {}
        for used, other in least.items():
            for option in range(low, high):
                key = used + int(first.metric.values[option])
                then[key] = min(then.get(key, np.inf), other + second.metric.values[option])
        least = then
    return min((other for used, other in least.items() if used <= first.bound), default=None)


@pytest.mark.parametrize("name", PROJECTS)
def test_projects_without_enough_material_are_diagnosed(infeasible_projects, name):
    constraints = budgets(infeasible_projects[name])
    assert find_feasible(constraints).status is Status.INFEASIBLE
    answer = diagnose(constraints)
    assert answer.feasibility.status is Status.INFEASIBLE
    assert answer.minimal
    first, second = constraints
    text = str(answer)
    assert text.startswith("infeasible: no selection satisfies the constraints (proved)")
    assert list(answer.conflict) == constraints
    for c, other, remedy in zip(constraints, (second, first), answer.remedies, strict=True):
        budget = least_of_the_second(other, c)
        assert remedy.proved
        assert remedy.value == budget
        assert find_feasible([other, c.metric <= budget]).status is Status.FEASIBLE
        below = find_feasible([other, c.metric <= budget - 1])
        assert below.status is Status.INFEASIBLE
        assert f"  {c.metric.name} <= {c.bound:g} kg\n" in text
        assert f"  {c.metric.name} <= {budget:g} kg is the tightest bound that works" in text
        assert all(c.report(remedy.selection).value <= budget for c in [c.metric <= budget])
        assert other.report(remedy.selection).satisfied


def test_the_projects_are_the_three_that_are_known(infeasible_projects):
    assert sorted(infeasible_projects) == PROJECTS


# -- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: find_feasible([]), ValueError, "constraints is empty; give at least one"),
        (lambda: diagnose([]), ValueError, "constraints is empty"),
        (lambda: find_feasible(ONES), TypeError, "list of constraints"),
        (lambda: find_feasible(ONES <= 3, time_limit=0), ValueError, "time_limit must be more than 0 seconds, got 0"),
        (lambda: find_feasible(ONES <= 3, time_limit=float("nan")), ValueError, "time_limit"),
        (lambda: find_feasible(ONES <= 3, time_limit="long"), TypeError, "time_limit must be a number, got 'long'"),
        (lambda: find_feasible(ONES <= 3, seed=-1), ValueError, "seed must be at least 0, got -1"),
        (lambda: find_feasible(ONES <= 3, seed=0.5), TypeError, r"seed must be a whole number, got 0\.5"),
        (lambda: find_feasible(ONES <= 3, forbid={0: [0, 1]}), ValueError, "0"),
        (lambda: find_feasible(ONES <= 3, forbid={0: [2]}), ValueError, "2"),
        (lambda: smallest_bound(ONES, sense="<"), ValueError, 'sense must be "<=" or ">=", got \'<\''),
        (lambda: smallest_bound(ONES <= 3), TypeError, "metric must be a Metric"),
        (lambda: smallest_bound(ONES, Additive(ChoiceSpace.from_sizes([2]), [1, 2]) <= 1), ValueError, "choice space"),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_every_metric_kind_may_be_asked_for_alone():
    space = ChoiceSpace.from_sizes([2, 3])

    @settings(max_examples=50)
    @given(metrics(space))
    def ask(metric):
        everything = metric.evaluate(space.enumerate())
        assert smallest_bound(metric).value == pytest.approx(everything.min())
        assert smallest_bound(metric, sense=">=").value == pytest.approx(everything.max())

    ask()


def test_a_conflict_is_minimal_in_whatever_order_it_is_given():
    space = ChoiceSpace.from_sizes([2] * 20)
    ones = Additive(space, [0, 1] * 20, name="ones")
    twos = Additive(space, [1, 0] * 20, name="twos")
    black_box = Function(space, lambda s: 5.0, name="black box")
    bounds = [ones >= 12, twos >= 17, black_box <= 4]
    for order in ([0, 1, 2], [2, 0, 1]):
        diagnosis = diagnose([bounds[i] for i in order], time_limit=0.5)
        assert {c.metric.name for c in diagnosis.conflict} == {"ones", "twos"}
        assert diagnosis.minimal


# -- Ctrl-C -----------------------------------------------------------------------------------------------------------


class Interrupted:
    """A measured sum, during whose nth call Ctrl-C is pressed."""

    def __init__(self, at):
        self.left = at

    def __call__(self, selection):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return float(sum((d + 2) * o for d, o in selection.items()))


@pytest.mark.parametrize("at", [1, 5, 40, 900])
def test_ctrl_c_claims_nothing(at):
    space = ChoiceSpace.from_sizes([3] * 6)  # 729 selections; the least sum is 0 and the greatest 54
    answer = find_feasible([Function(space, Interrupted(at), name="time") >= 60])
    assert (answer.status, answer.selection) == ((Status.UNKNOWN if at < 729 else Status.INFEASIBLE), None)
    least = smallest_bound(Function(space, Interrupted(at), name="time"))
    assert (least.proved, least.value is None) == (at > 729, False)  # one selection is evaluated after Ctrl-C
    assert least.value is None or least.value == sum((d + 2) * o for d, o in least.selection.items())
    assert str(least)


@pytest.mark.parametrize("at", [1, 700, 800, 1500, 2300, 3000, 10**6])
def test_ctrl_c_in_a_diagnosis_leaves_a_set_that_conflicts(at):
    space = ChoiceSpace.from_sizes([3] * 6)
    cost = Additive(space, [2, 1, 0] * 6, name="cost")
    bounds = [cost <= 12, Function(space, Interrupted(at), name="time") <= 10, cost <= 2]
    diagnosis = diagnose(bounds)
    if diagnosis.feasibility.status is Status.INFEASIBLE:
        assert len(kept(space, [c for c in diagnosis.conflict if c.metric is cost])) < 729
        assert bounds[1] in diagnosis.conflict
        assert diagnosis.minimal <= (len(diagnosis.conflict) == 2)
    else:
        assert diagnosis.feasibility.status is Status.UNKNOWN
        assert at < 10**6
    assert str(diagnosis)


def test_ctrl_c_while_the_question_is_put(monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(feasibility._Question, "of", interrupted)
    space = ChoiceSpace.from_sizes([2, 2])
    cost = Additive(space, [1, 2, 3, 4])
    assert find_feasible([cost <= 3]).status is Status.UNKNOWN
    assert not smallest_bound(cost).proved
    assert diagnose([cost <= 3]).conflict == []
