"""Linear forms: the exact solver answers what enumeration answers, and what is not linear is refused."""

import os
import signal
import subprocess
import sys
import threading

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import Additive, ChoiceSpace, Constraint, Function, LongestPath, Metric, Peak, Table, maximum
from cggd.datasets import mmkp
from cggd.metrics import Combination, Maximum
from cggd.program import highs, threads
from cggd.program.highs import LinearProgram, NotLinearError, Outcome
from cggd.program.threads import Background
from cggd.testing import choice_spaces, metrics, problems
from tests.strategies import satisfying

SCALES = [1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e9, 1e12]
SPACE = ChoiceSpace({"stem": ["a", "b"], "head": ["c", "d"]})
COST = Additive(SPACE, [1, 4, 2, 3], name="cost")


def is_linear(metric, sign):
    """Sums are linear; a maximum of several parts is where it is minimised, and only of what is linear itself."""
    match metric:
        case Additive():
            return True
        case Combination():
            return all(is_linear(term, sign * weight) for weight, term in metric.terms if weight)
        case Maximum():
            return (sign > 0 or len(metric.metrics) == 1) and all(is_linear(part, sign) for part in metric.metrics)
        case Peak():
            return sign > 0 or metric.usage.shape[0] == 1
        case LongestPath():
            return sign > 0 or metric._dag.depth == len(metric._dag.fixed) - 1
    return False


def kept(space, constraints, allowed=None):
    """All selections that satisfy the constraints."""
    selections = space.enumerate()
    held = np.ones(len(selections), dtype=bool)
    if allowed is not None:
        held &= allowed[space.layout.flat(selections)].all(axis=1)
    for c in constraints:
        held &= satisfying(c, selections)
    return selections[held]


@st.composite
def masks(draw, space):
    """Options that may be chosen, at least one for each decision."""
    allowed = np.array(draw(st.lists(st.booleans(), min_size=space.n_options, max_size=space.n_options)))
    first = space.offsets[:-1] + np.array([draw(st.integers(0, size - 1)) for size in space.sizes.tolist()])
    allowed[first] = True
    return allowed


@settings(max_examples=100)
@given(st.data(), problems(feasible=False, max_constraints=3))
def test_the_solver_finds_what_enumeration_finds(data, problem):
    space, constraints = problem.space, [c for c in problem.constraints if is_linear(c.metric, c.sign)]
    objective = problem.objective if is_linear(problem.objective, problem.sign) else None
    allowed = data.draw(st.none() | masks(space))
    found, cutoff = kept(space, constraints, allowed), None
    if objective is not None and len(found) and data.draw(st.booleans()):
        costs = problem.sign * objective.evaluate(found)
        cutoff = float(data.draw(st.sampled_from(sorted(costs)))) + data.draw(st.sampled_from([-0.01, 0.01]))
        found = found[costs <= cutoff]
    solution = LinearProgram(space, constraints, objective, sign=problem.sign, allowed=allowed, ceiling=cutoff).solve()
    if len(found) == 0:
        assert solution.outcome is Outcome.INFEASIBLE
        assert solution.selection is None
        return
    assert solution.outcome is Outcome.OPTIMAL
    assert any((row == solution.selection).all() for row in found)
    best = 0.0
    if objective is not None:
        best = (problem.sign * objective.evaluate(found)).min()
        assert problem.sign * objective(solution.selection) == pytest.approx(best, abs=1e-6)
    assert solution.bound == pytest.approx(best, abs=1e-5)


@given(st.data(), choice_spaces())
def test_what_is_not_linear_is_refused_in_every_place(data, space):
    metric = data.draw(metrics(space))
    for sign in (1.0, -1.0):
        bounded = metric <= 3 if sign > 0 else metric >= 3
        programs = [
            lambda sign=sign: LinearProgram(space, [], metric, sign=sign),
            lambda bounded=bounded: LinearProgram(space, [bounded]),
        ]
        for program in programs:
            if is_linear(metric, sign):
                program()
            else:
                with pytest.raises(NotLinearError):
                    program()


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (-Peak(SPACE, [1, 2, 3, 4], name="memory"), "'memory' is a Peak.*minimised or bounded from above"),
        (-maximum(COST, COST, name="both"), "'both' is a Maximum.*minimised or bounded from above"),
        (Table(SPACE, [1, 2, 3, 4], name="stored"), "'stored' is a Table, which has no linear form"),
        (-Table(SPACE, [1, 2, 3, 4], name="stored"), "'stored' is a Table, which has no linear form"),
        (Function(SPACE, len, name="measured"), "'measured' is a Function, which has no linear form"),
        (maximum(COST, Function(SPACE, len, name="measured")), "'measured' is a Function"),
        (COST + Function(SPACE, len, name="measured"), "'measured' is a Function"),
    ],
)
def test_the_refusal_names_the_metric(metric, message):
    with pytest.raises(NotLinearError, match=message):
        LinearProgram(SPACE, [metric <= 3])


def test_what_does_not_count_needs_no_linear_form():
    measured = Function(SPACE, len, name="measured")
    LinearProgram(SPACE, [measured <= np.inf, measured >= -np.inf, COST + 0.0 * measured <= 3])


def test_of_two_negations_a_maximum_is_bounded_from_above():
    memory = Peak(SPACE, [1, 5, 4, 2], name="memory")
    solution = LinearProgram(SPACE, [-memory >= -3]).solve()
    assert memory(solution.selection) <= 3


class Part(Metric):
    """A metric that the solver does not know."""

    def __init__(self):
        self.space, self.name, self.unit = SPACE, "mine", ""

    def evaluate(self, selections):
        return selections.sum(axis=1).astype(float)


def test_a_metric_of_ones_own_is_not_linear():
    with pytest.raises(NotLinearError, match="'mine' is a Part"):
        LinearProgram(SPACE, [Part() <= 1])


# -- units ------------------------------------------------------------------------------------------------------------


@st.composite
def scaled(draw):
    """A space, and makers of linear metrics at any scale; no tolerance matters between their values."""
    space = draw(choice_spaces(max_decisions=5, max_options=3))
    nodes = list(space.decisions)
    edges = draw(st.sets(st.tuples(st.sampled_from(range(len(nodes))), st.sampled_from(range(len(nodes))))))
    graph = nx.DiGraph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from((nodes[a], nodes[b]) for a, b in edges if a < b)
    stage = st.lists(st.sampled_from(nodes), unique=True, min_size=1)
    stages = dict(enumerate(draw(st.lists(stage, min_size=1, max_size=3))))
    tens = st.lists(st.integers(0, 9), min_size=space.n_options, max_size=space.n_options)
    kinds = [
        lambda values, scale: Additive(space, values * scale),
        lambda values, scale: Peak(space, values * scale, stages),
        lambda values, scale: LongestPath(space, graph, values * scale),
        lambda values, scale: maximum(Peak(space, values * scale), Additive(space, values * scale / 2)),
        lambda values, scale: Additive(space, values * scale) + LongestPath(space, graph, values * scale),
    ]
    drawn = [(draw(st.sampled_from(kinds)), 20.0 * np.array(draw(tens))) for _ in range(3)]
    return space, [lambda scale, kind=kind, values=values: kind(values, scale) for kind, values in drawn]


@settings(max_examples=100)
@given(scaled(), st.tuples(*[st.sampled_from(SCALES)] * 3), st.tuples(*[st.integers(-1, 20)] * 2))
def test_answers_do_not_depend_on_the_unit(drawn, scales, bounds):
    space, makers = drawn
    plain, other = ([make(s) for make, s in zip(makers, of, strict=True)] for of in ((1.0, 1.0, 1.0), scales))
    limits = [20.0 * bound + 5.0 for bound in bounds]  # between two values, and far from either
    found = kept(space, [m <= b for m, b in zip(plain, limits, strict=False)])
    constraints = [Constraint(m, b * s, "<=") for m, b, s in zip(other, limits, scales, strict=False)]
    solution = LinearProgram(space, constraints, other[2]).solve()
    if len(found) == 0:
        assert solution.outcome is Outcome.INFEASIBLE
        return
    assert solution.outcome is Outcome.OPTIMAL
    assert any((row == solution.selection).all() for row in found)
    best = plain[2].evaluate(found).min()
    assert plain[2](solution.selection) == pytest.approx(best)
    assert solution.bound / scales[2] == pytest.approx(best, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("seed", range(60))
def test_a_bound_is_not_above_the_best_where_numbers_of_different_sizes_are_added(seed):
    rng = np.random.default_rng(seed)
    space = ChoiceSpace.from_sizes(rng.integers(1, 4, 4).tolist())
    large = np.where(rng.random(space.n_options) < 0.3, 1e9, rng.integers(0, 10, space.n_options))
    peak = Peak(space, rng.integers(-50, 100, space.n_options) / 10)
    objective = float(rng.choice([1, 0.5, 0.01])) * peak + float(rng.choice([1, 0.5])) * Additive(space, large)
    selections = space.enumerate()
    values = objective.evaluate(selections)
    order = np.argsort(values, kind="stable")
    n_excluded = min(rng.integers(0, 6), len(selections) - 1)
    solution = LinearProgram(space, [], objective, excluded=list(selections[order[:n_excluded]])).solve()
    best = values[order[n_excluded]]
    assert solution.bound <= best + 1e-14 * abs(best)


# -- how it ends ------------------------------------------------------------------------------------------------------


def test_a_solver_that_is_stopped_proves_nothing():
    knapsack = mmkp("I07")
    program = LinearProgram(knapsack.space, knapsack.constraints, knapsack.value, sign=-1.0)
    solution = program.solve(time_limit=0.1, stop=lambda: True)
    assert (solution.outcome, solution.selection, solution.bound) == (Outcome.STOPPED, None, -np.inf)


def test_an_error_of_the_solver_is_not_lost(monkeypatch):
    def broken(*arguments, **keywords):
        raise MemoryError("too large")

    monkeypatch.setattr(highs, "milp", broken)
    with pytest.raises(MemoryError, match="too large"):
        LinearProgram(SPACE, [COST <= 6, COST >= 4]).solve()


def test_the_interpreter_ends_after_all_that_runs_in_the_background():
    # A thread in compiled code would abort it while it shuts down, and so would one that is started then.
    background, done = Background(), []
    background.start(lambda: done.append(sum(range(10**6))))
    background.close()
    assert done
    assert background.start(lambda: done.append(0)) is None
    assert len(done) == 1


def test_a_solver_that_ctrl_c_abandons_is_waited_for_at_the_end(monkeypatch):
    # Otherwise the thread would come back from compiled code while the interpreter shuts down, and abort it.
    background, ended = Background(), threading.Event()
    monkeypatch.setattr(threads, "background", background)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            threads.run_interruptibly(ended.wait, bool)
    finally:
        signal.signal(signal.SIGINT, before)
    assert [done.is_set() for done in background.running.values()] == [False]
    ended.set()
    background.close()
    assert [done.is_set() for done in background.running.values()] == [True]


def test_the_optimum_of_a_knapsack():
    knapsack = mmkp("I01")
    solution = LinearProgram(knapsack.space, knapsack.constraints, knapsack.value, sign=-1.0).solve()
    assert solution.outcome is Outcome.OPTIMAL
    assert knapsack.value(solution.selection) == knapsack.best_known
    assert solution.bound == pytest.approx(-knapsack.best_known)
    assert all(c.report(solution.selection).satisfied for c in knapsack.constraints)


LEFT_BEHIND = """
import sys
import time
import numpy as np
from cggd import Additive, ChoiceSpace
from cggd.program import highs, threads

threads.EXIT_SECONDS = 0.0
rng, space = np.random.default_rng(0), ChoiceSpace.from_sizes([8] * 200)
cost, *uses = (Additive(space, rng.integers(1, 99, 1600)) for _ in range(6))
program = highs.LinearProgram(space, [use <= 8000 for use in uses], cost)
thread = threads.background.start(lambda: program.solve(time_limit=1.0))

nap = time.sleep
nap(0.3)

class Slow:
    # The interpreter has begun to shut down when it is flushed for the second time; the solver comes back meanwhile.
    closed, times = False, 0

    def write(self, text):
        return len(text)

    def flush(self):
        self.times += 1
        if self.times == 2:
            nap(3.0)

sys.stdout = Slow()
sys.exit(7)
"""


@pytest.mark.slow
def test_a_solver_that_is_left_behind_does_not_abort_the_process_at_its_end():
    done = subprocess.run([sys.executable, "-c", LEFT_BEHIND], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (7, "")


@settings(max_examples=40)
@given(problems(), st.floats(0.0, 1.0))
def test_narrower_ranges_of_auxiliary_variables_lose_no_selection(problem, share):
    selections = kept(problem.space, problem.constraints)
    if len(selections) == 0:
        return
    costs = np.sort(problem.sign * problem.objective.evaluate(selections))
    ceiling = float(costs[int(share * (len(costs) - 1))])
    how = {"sign": problem.sign, "ceiling": ceiling}
    try:
        program = LinearProgram(problem.space, problem.constraints, problem.objective, **how)
    except NotLinearError:
        return
    solution = program.solve()
    assert solution.outcome is not Outcome.INFEASIBLE
    assert solution.bound <= costs[0] + 1e-12 * abs(costs[0])
