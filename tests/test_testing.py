"""The laws hold for what the library ships, and catch what breaks them."""

import json
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cggd import (
    Additive,
    ChoiceSpace,
    Constraint,
    Function,
    Guide,
    LongestPath,
    Metric,
    Peak,
    Problem,
    Status,
    find_feasible,
)
from cggd.datasets import nats_topology
from cggd.guide import directions as directions_module
from cggd.guide import guide as guide
from cggd.guide import safeguard as safeguard_module
from cggd.guide.optimizers import SGD, Adam, Momentum
from cggd.metrics import SumTable
from cggd.testing import (
    LawError,
    assert_converges,
    check_constraints,
    check_direction,
    check_expression,
    check_guide,
    check_metric,
    check_state,
    choice_spaces,
    constraints,
    metrics,
    problems,
    selections,
    witnessed_problems,
)
from cggd.testing.convergence import GRADIENTS, OPTIMIZERS

# Drawing composed metrics is slow at times, which is no fault of theirs.
relaxed = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@relaxed
@given(st.data())
def test_every_metric_keeps_the_laws(data):
    space = data.draw(choice_spaces())
    check_metric(data.draw(metrics(space)), n=3)


@relaxed
@given(st.data(), st.integers(0, 99))
def test_every_state_follows_its_metric(data, seed):
    check_state(data.draw(metrics(data.draw(choice_spaces()))), seed=seed)


class Forgetful(Additive):
    def state(self, selection) -> Any:
        state: Any = super().state(selection)
        state.move = lambda switches: None  # stays where it began
        return state


class Weighed(Additive):
    def state(self, selection) -> Any:
        state: Any = super().state(selection)
        state.weights = state.weights + np.arange(self.space.n_options)
        return state


class Lasting(Additive):
    def state(self, selection) -> Any:
        state: Any = super().state(selection)
        state.undo = lambda: None
        return state


@pytest.mark.parametrize(
    ("lying", "said"), [(Forgetful, "its value is"), (Weighed, "its weights is"), (Lasting, "its value is")]
)
def test_a_lying_state_is_caught(lying, said):
    space = ChoiceSpace.from_sizes([3, 4, 2])
    with pytest.raises(LawError, match=said):
        check_state(lying(space, np.arange(9.0) ** 2, name="lying"))


def test_a_subclass_does_not_inherit_a_state_of_other_values():
    class Twice(Additive):
        def evaluate(self, selections):
            return 2 * super().evaluate(selections)

    class Shown(Additive):
        def replacements(self, selection):
            return np.round(super().replacements(selection))

    space = ChoiceSpace.from_sizes([3, 4, 2])
    for metric in (Twice(space, np.arange(9.0)), Shown(space, np.arange(9.0))):
        assert type(metric).state is Metric.state
        check_state(metric)


@relaxed
@given(st.data())
def test_every_expression_is_its_metric(data):
    space = data.draw(choice_spaces(max_decisions=4, max_options=3))
    check_expression(data.draw(metrics(space)), n=2)


def test_parts_of_a_sum_do_not_hide_what_a_switch_does():
    space = ChoiceSpace.from_sizes([2, 4])
    mixed = Peak(space, [0, 0, -1, -1, -1, -1]) - Additive(space, [0, 0, 1, 0, 1, 1])
    check_direction([mixed <= -1], n=4)
    assert Guide([mixed <= -1]).modify(np.zeros(6), np.array([1.0, 0, 0, 1, 0, 0])).any()


@relaxed
@given(st.data(), st.sampled_from(["unit", "difference", "confidence"]))
def test_every_direction_keeps_the_laws(data, weights):
    space = data.draw(choice_spaces())
    bounded = data.draw(st.lists(constraints(space, feasible=data.draw(st.booleans())), min_size=1, max_size=3))
    check_direction(bounded, weights=weights, n=2)
    check_guide(Guide(bounded, weights=weights), n=4)


@relaxed
@given(
    witnessed_problems(max_decisions=8),
    st.sampled_from(list(OPTIMIZERS)),
    st.lists(st.sampled_from(list(GRADIENTS)), min_size=1, max_size=2, unique=True),
    st.sampled_from([0, 1, 3, 10]),
    st.integers(0, 2**16),
)
def test_every_problem_converges_within_the_bound(drawn, optimizer, adversaries, patience, seed):
    """Each problem meets one optimizer, its objective and one or two adversaries.

    Many problems say more than many runs of one. With little patience the safeguard takes over after few steps.
    `test_the_hardest_cases_found_converge` runs every pair.
    """
    problem, witness = drawn
    gradients = {name: GRADIENTS[name] for name in adversaries}
    assert_converges(
        problem,
        witness=witness,
        optimizer=OPTIMIZERS[optimizer],
        gradients=gradients,
        patience=patience,
        seeds=[seed],
    )


@relaxed
@given(problems())
def test_drawn_problems_are_feasible_and_that_is_found(problem):
    found = find_feasible(problem.constraints)
    assert found.status is Status.FEASIBLE
    assert all(c.report(found.indices).satisfied for c in problem.constraints)


@given(st.data())
def test_selections_are_selections_and_frozen(data):
    space = data.draw(choice_spaces())
    selection = data.draw(selections(space))
    assert space.indices(selection).tolist() == selection.tolist()
    assert not selection.flags.writeable


# -- the hardest cases that were found --------------------------------------------------------------------------------


def hard_problem(seed):
    """A random problem of which few selections are feasible: bounds that just admit a witness."""
    rng = np.random.default_rng(seed)
    space = ChoiceSpace.from_sizes(rng.integers(2, 6, rng.integers(4, 13)))
    witness = space.sample(1, rng)[0]
    pairs = rng.integers(0, 9, (6, 6)).astype(float)
    kinds = [
        Additive(space, rng.integers(0, 20, space.n_options)),
        Peak(space, rng.integers(0, 20, space.n_options)),
        Function(space, lambda rows: pairs[rows, np.roll(rows, 1, 1)].sum(1), batch=True),
        Additive(space, rng.integers(0, 20, space.n_options), name="other"),
    ]
    bounded = [kinds[0] <= kinds[0](witness), kinds[1] <= kinds[1](witness)]
    bounded += [kinds[2] <= kinds[2](witness), kinds[3] >= kinds[3](witness)]
    return bounded, witness


HARDEST = json.loads((Path(__file__).parent / "hardest_cases.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("seed", HARDEST["seeds"])
def test_the_hardest_cases_found_converge(seed):
    bounded, witness = hard_problem(seed)
    traces = assert_converges(bounded, witness=witness, seeds=[seed])
    # They are hard: without the safeguard the plain rule alone stays outside for a long time.
    assert max(trace.longest for trace in traces) > 10


# -- a user's own metric ----------------------------------------------------------------------------------------------

SPACE = ChoiceSpace({"width": [8, 16, 32], "depth": [1, 2, 4], "kernel": [3, 5]})


def memory(selection):
    """Kilobytes of activations and weights: decisions interact."""
    return selection["width"] * selection["depth"] * 0.5 + selection["kernel"] ** 2 * selection["width"] / 16


def test_a_black_box_of_ones_own_in_one_line():
    check_constraints(Function(SPACE, memory, name="memory", unit="kB") <= 30.0)


TURNS = count()


class WrongTable(Function):
    """Its table is that of another selection."""

    def replacements(self, selection):
        return super().replacements(np.zeros_like(selection))


class Lying(Peak):
    """Its linear form is not the metric: a stage is missing, or the form is no upper bound, or nothing satisfies it."""

    how = ""

    def expression(self, program, sign):
        parts = super().expression(program, sign)
        if self.how == "a part is missing":
            return parts if parts is None else parts[:1]
        if self.how == "for both signs":
            return sign * program.largest(program.sum(self.usage))
        if self.how == "impossible" and parts is not None:
            program.at_most(program.chosen(0), -1.0)
        if self.how == "too low" and parts is not None:
            return program.variable(0.0, 99.0)
        return parts


@pytest.mark.parametrize("how", ["a part is missing", "for both signs", "impossible", "too low"])
def test_a_lying_expression_is_caught(how):
    check_expression(Peak(SPACE, VALUES))
    lying = Lying(SPACE, VALUES)
    object.__setattr__(lying, "how", how)
    with pytest.raises(LawError, match="its expression must be the metric"):
        check_expression(lying)


def test_a_lying_sum_table_is_caught():
    class Doubled(Additive):
        def sum_table(self):
            return SumTable(2 * self.values)

    with pytest.raises(LawError, match="sum table must add up"):
        check_expression(Doubled(SPACE, VALUES))


class Undecided(Function):
    """Answers differently each time, and does not say that it is noisy."""

    def evaluate(self, selections):
        return super().evaluate(selections) + 0.01 * next(TURNS)


class WrongSign(Additive):
    """Its table goes down where the metric goes up."""

    def replacements(self, selection):
        return 2 * self(selection) - super().replacements(selection)


class Greedy(Additive):
    """Writes into its argument."""

    def evaluate(self, selections):
        selections[:, 0] = 0
        return super().evaluate(selections)


class Parted(Additive):
    """Its parts exceed the whole."""

    def local_replacements(self, selection):
        return self.replacements(selection) + 1


class Limited(Additive):
    """Promises limits that it does not keep."""

    def limits(self):
        return 0.0, 0.5


VALUES = [1.0, 2, 3, 4, 5, 6, 7, 8]


class Mute(Peak):
    """Its parts say that nothing helps, where a switch does."""

    def local_replacements(self, selection):
        return np.zeros(self.space.n_options)


class Inseparable(Function):
    """Says that it is a sum."""

    separable = True


class Small(Additive):
    """A bug in a unit in which all numbers are small."""

    def replacements(self, selection):
        return np.zeros(self.space.n_options)


@pytest.mark.parametrize(
    "bound",
    [
        (Function(SPACE, lambda s: memory(s), repeats=3, name="cached") <= 30.0).at_confidence(0.95),
        Function(SPACE, lambda s: memory(s), repeats=2, cache=False, name="uncached") <= 30.0,
        Additive(SPACE, np.array(VALUES, dtype=np.float32) * np.float32(0.1), name="single") <= 1.2,
    ],
    ids=["confidence", "uncached", "float32"],
)
def test_right_metrics_pass(bound):
    check_constraints(bound)


@pytest.mark.parametrize(
    ("metric", "law"),
    [
        (Mute(SPACE, VALUES), "a direction must not be zero where a switch helps"),
        (Inseparable(SPACE, memory), "says that it is separable"),
        (Small(SPACE, np.array(VALUES) * 1e-9), "replacement table must hold what a fresh evaluation gives"),
        (WrongTable(SPACE, memory), "replacement table must hold what a fresh evaluation gives"),
        (Undecided(SPACE, memory), "same answer twice"),
        (WrongSign(SPACE, VALUES), "replacement table must hold what a fresh evaluation gives"),
        (Greedy(SPACE, VALUES), "must leave its argument alone"),
        (Parted(SPACE, VALUES), "a part of the metric must not exceed it"),
        (Limited(SPACE, VALUES), "limits are 0.0 and 0.5"),
        (Function(SPACE, lambda s: np.nan), "finite numbers"),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, Metric) else "",
)
def test_bugs_are_caught(metric, law):
    with pytest.raises((LawError, RuntimeError), match=law):
        check_constraints(metric <= {Mute: 6.0, Small: 8e-9}.get(type(metric), 12.0))


def test_an_infeasible_bound_is_said_to_be_so():
    with pytest.raises(ValueError, match=r"no feasible selection was found for .*infeasible"):
        assert_converges(Additive(SPACE, VALUES) <= 3)


# -- mutations: what a mistake in the library would do ----------------------------------------------------------------


def tight():
    space = ChoiceSpace.from_sizes([3, 3, 2])
    cost = Additive(space, [0.0, 4.0, 9.0, 0.0, 1.0, 5.0, 0.0, 3.0], name="cost")
    size = Additive(space, [9.0, 1.0, 0.0, 6.0, 6.0, 0.0, 2.0, 0.0], name="size")
    return [cost <= 10.0, size <= 9.0]


def test_mutation_flipped_sign(monkeypatch):
    original = guide.three_case
    monkeypatch.setattr(guide, "three_case", lambda *a, **k: -original(*a, **k))
    with pytest.raises(LawError):
        check_direction(tight())


def test_mutation_normalise_before_summing(monkeypatch):
    """Each decision's push is made a unit vector before they are summed, also where its size matters."""
    original = directions_module._difference

    def mutated(table, limits, segments):
        push = original(table, limits, segments)
        norms = np.sqrt(segments.reduce(np.add, push * push))
        return push / segments.spread(np.where(norms > 0, norms, 1.0))

    monkeypatch.setattr(directions_module, "_difference", mutated)
    with pytest.raises(LawError, match="sum over pairs"):
        check_direction(tight(), weights="difference")


def test_mutation_constraints_not_normalised_before_summing(monkeypatch):
    original = guide.three_case

    def mutated(tables, limits, *a, **k):
        weights = np.arange(1.0, 1.0 + len(tables))[:, None] if len(tables) > 1 else 1.0
        return weights * original(tables, limits, *a, **k)

    monkeypatch.setattr(guide, "three_case", mutated)
    cost, size = tight()
    with pytest.raises(LawError, match="together they must give the unit vector of the sum"):
        check_direction([cost.metric <= 2.0, size.metric <= 2.0])


def conflicting():
    """Two bounds of which one is violated nearly everywhere: only the middle of the sums meets both."""
    space = ChoiceSpace.from_sizes([3, 3])
    first = Additive(space, [0.0, 1.0, 2.0, 0.0, 1.0, 2.0])
    return [first <= 2.0, first >= 2.0]


def test_mutation_no_landing(monkeypatch):
    original = safeguard_module.Safeguard.step

    def mutated(self, logits, displacement, state, **options):
        step = original(self, logits, displacement, state, **options)
        if step.mode != "landed":
            return step
        way = step.state.target - logits
        size = self.guide.rescale * max(np.linalg.norm(displacement), options["floor"]) * 2.0**state.escalations
        logits = logits + displacement + size * way / max(np.linalg.norm(way), 1e-12)
        return safeguard_module.SafeguardStep(logits, step.state, "safeguarded", step.seen)

    monkeypatch.setattr(safeguard_module.Safeguard, "step", mutated)
    with pytest.raises(LawError):
        assert_converges(conflicting())


def test_mutation_landing_keeps_the_gradient(monkeypatch):
    original = safeguard_module.Safeguard.step

    def mutated(self, logits, displacement, state, **options):
        step = original(self, logits, displacement, state, **options)
        if step.mode != "landed":
            return step
        return safeguard_module.SafeguardStep(step.logits + displacement, step.state, step.mode, step.seen)

    monkeypatch.setattr(safeguard_module.Safeguard, "step", mutated)
    with pytest.raises(LawError, match="landing must end on the target"):
        assert_converges(conflicting())


def test_mutation_no_escalation(monkeypatch):
    monkeypatch.setattr(safeguard_module, "ESCALATION", 1.0)
    with pytest.raises(LawError, match=r"violated steps in a row|must shorten the distance"):
        assert_converges(conflicting(), optimizer=SGD(1e-3))


def test_mutation_target_forgotten(monkeypatch):
    original = safeguard_module.Safeguard.step

    def mutated(self, logits, displacement, state, **options):
        forgetful = safeguard_module.replace(state, target=None, violated=max(state.violated, self.patience))
        return original(self, logits, displacement, forgetful if state.target is not None else state, **options)

    monkeypatch.setattr(safeguard_module.Safeguard, "step", mutated)
    with pytest.raises(LawError, match="target must be kept"):
        assert_converges(conflicting(), optimizer=SGD(1e-3))


def test_mutation_projection_onto_another_cell(monkeypatch):
    original = safeguard_module.project
    monkeypatch.setattr(safeguard_module, "project", lambda logits, *a, **k: original(logits, *a, **k) * 0 + logits)
    with pytest.raises(LawError):
        assert_converges(conflicting())


# -- what the theorem is for ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [SGD(0.1), Momentum(0.1), Adam(0.05)], ids=["SGD", "momentum", "Adam"])
def test_nats_at_the_tightest_two_percent(optimizer):
    nats = nats_topology()
    tight_latency = nats.latency <= nats.latency.quantile(0.02)
    traces = assert_converges(tight_latency, objective=-nats.val12, optimizer=optimizer, seeds=range(3))
    assert all(trace.steps[-1].feasible or trace.longest <= trace.allowed for trace in traces)


def test_one_feasible_selection_among_many():
    space = ChoiceSpace.from_sizes([4] * 8)
    rng = np.random.default_rng(0)
    witness = space.sample(1, rng)[0]
    codes = np.zeros(space.n_options)
    codes[space.layout.flat(witness)] = 1.0
    hits = Additive(space, codes, name="hits")
    assert_converges(hits >= 8, seeds=range(3))
    needle = Function(space, lambda rows: (rows != witness).any(axis=1).astype(float), batch=True, name="needle")
    assert_converges(needle <= 0, witness=witness, seeds=range(3))


def test_problem_with_paths_and_peaks():
    import networkx as nx

    space = ChoiceSpace.from_sizes([3] * 5)
    graph = nx.DiGraph([(0, 1), (0, 2), (1, 3), (2, 3), (3, 4)])
    rng = np.random.default_rng(1)
    path = LongestPath(space, graph, rng.integers(1, 9, 15), name="path")
    peak = Peak(space, rng.integers(1, 9, 15), {"a": [0, 1], "b": [2, 3, 4]}, name="peak")
    problem = Problem(path, [path <= path.minimum(), peak <= peak.minimum() + 4])
    if find_feasible(problem.constraints).feasible:
        assert_converges(problem)
    assert isinstance(problem.constraints[0], Constraint)
