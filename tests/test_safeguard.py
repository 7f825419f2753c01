"""The safeguard: its projection, its counters and its steps, one by one."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cggd import Additive, ChoiceSpace, Guide, Safeguard
from cggd.guide.safeguard import distance, project
from cggd.layout import Layout

SPACE = ChoiceSpace.from_sizes([3, 2])
COST = Additive(SPACE, [0.0, 1.0, 2.0, 0.0, 1.0], name="cost")
# Two bounds that the plain rule alone cannot meet from either side: pushes away from both ends cancel.
NEEDLE = [COST <= 0.0]


@st.composite
def points(draw):
    groups = draw(st.lists(st.lists(st.floats(-50, 50), min_size=1, max_size=5), min_size=1, max_size=4))
    witness = np.array([draw(st.integers(0, len(group) - 1)) for group in groups])
    return np.array([x for g in groups for x in g]), witness, Layout(np.cumsum([0, *(len(g) for g in groups)]))


def inside(point, witness, layout, margin):
    leads = np.repeat(point[layout.flat(witness)], layout.sizes) - point
    leads[layout.flat(witness)] = np.inf
    return (leads >= margin - 1e-9).all()


@given(points(), st.sampled_from([0.0, 1e-2, 3.0]), st.integers(0, 2**16))
def test_projection_lies_in_the_cell_and_nothing_in_it_is_nearer(case, margin, seed):
    logits, witness, layout = case
    target = project(logits, witness, layout, margin=margin)
    assert inside(target, witness, layout, margin)
    assert layout.argmax(target).tolist() == witness.tolist() or margin == 0
    rng, nearest = np.random.default_rng(seed), distance(target, logits)
    for size in (1e-3, 0.1, 1.0, 10.0):
        for _ in range(10):
            other = target + size * rng.standard_normal(len(target))
            if inside(other, witness, layout, margin + 1e-9):
                assert distance(other, logits) >= nearest - 1e-9
    # Optimality: the way to the target makes no acute angle with the way from it to any point of the cell.
    ahead = np.zeros(len(target))
    ahead[layout.flat(witness)] = 1000.0
    assert (logits - target) @ (ahead + margin - target) <= 1e-6 * max(1.0, nearest) * 1000


@given(points())
def test_projection_of_a_point_inside_is_the_point(case):
    logits, witness, layout = case
    there = project(logits, witness, layout, margin=0.5)
    assert project(there, witness, layout, margin=0.5) == pytest.approx(there, abs=1e-9)


@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        *((size, np.float64) for size in (1e-12, 1.0, 1e12, 1e16, 1e100)),
        *((size, np.float32) for size in (1.0, 1e6, 1e16)),
    ],
)
def test_landing_is_on_the_witness_however_large_the_logits_are(size, dtype):
    rng = np.random.default_rng(0)
    for _ in range(50):
        logits = (size * rng.standard_normal(5)).astype(dtype)
        witness = SPACE.sample(1, rng)[0]
        target = project(logits, witness, SPACE.layout, margin=1e-2)
        assert SPACE.layout.argmax(target).tolist() == witness.tolist()


def test_the_plain_rule_gets_exactly_its_patience():
    for patience in (0, 1, 4):
        guard = Safeguard(Guide(NEEDLE), patience=patience)
        logits, state = np.array([0.0, 0.0, 1e6, 0.0, 1e6]), guard.begin([0, 0])
        modes = []
        for _ in range(patience + 2):
            step = guard.step(logits, np.zeros(5), state, floor=1e-9)
            logits, state = step.logits, step.state
            modes.append(step.mode)
        assert modes == ["guided"] * patience + ["safeguarded"] * 2


def test_reaches_double_and_a_feasible_step_starts_everything_anew():
    guard = Safeguard(Guide(NEEDLE, rescale=1.5), patience=0)
    logits, state = np.array([0.0, 0.0, 100.0, 0.0, 100.0]), guard.begin([0, 0])
    moved, modes = [], []
    while not modes or modes[-1] != "free":
        step = guard.step(logits, np.zeros(5), state, floor=0.1)
        moved.append(distance(step.logits, logits))
        logits, state = step.logits, step.state
        modes.append(step.mode)
    assert modes[-2:] == ["landed", "free"]
    assert moved[:4] == pytest.approx([0.15, 0.3, 0.6, 1.2])
    assert (state.violated, state.target, state.escalations) == (0, None, 0)
    assert state.witness.tolist() == [0, 0]


def test_a_witness_may_be_exchanged_and_the_target_stays():
    guard = Safeguard(Guide([COST <= 1.0]), patience=0)
    logits, state = np.array([0.0, 0.0, 100.0, 0.0, 100.0]), guard.begin([0, 0])
    step = guard.step(logits, np.zeros(5), state, floor=1e-3)
    other = guard.step(step.logits, np.zeros(5), replace(step.state, witness=np.array([1, 0])), floor=1e-3)
    assert other.state.target.tolist() == step.state.target.tolist()


def test_a_forbidden_witness_is_an_error():
    guard = Safeguard(Guide(NEEDLE), patience=0)
    with pytest.raises(ValueError, match="the witness takes an option whose logit is -inf"):
        guard.step(np.array([-np.inf, 0.0, 1.0, 0.0, 1.0]), np.zeros(5), guard.begin([0, 0]), floor=1e-3)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="witness must satisfy every constraint, but cost <= 0: 1, violated by 1"):
        Safeguard(Guide(NEEDLE)).begin([1, 0])
    with pytest.raises(ValueError, match="precision must be at least 0 and less than 1, got 1"):
        Safeguard(Guide(NEEDLE), precision=1)
    with pytest.raises(ValueError, match="logits must be finite"):
        Safeguard(Guide(NEEDLE)).settle(np.full(5, np.nan), Safeguard(Guide(NEEDLE)).begin())
    guard = Safeguard(Guide(NEEDLE))
    with pytest.raises(ValueError, match="the witness takes an option whose logit is -inf"):
        guard.settle(np.array([-np.inf, 0.0, 1.0, 0.0, 1.0]), guard.begin([0, 0]))
    with pytest.raises(TypeError, match="guide must be a Guide"):
        Safeguard(NEEDLE)
    with pytest.raises(ValueError, match="floor must be greater than 0, got 0"):
        Safeguard(Guide(NEEDLE)).step(np.zeros(5), np.zeros(5), Safeguard(Guide(NEEDLE)).begin(), floor=0)
    with pytest.raises(ValueError, match="displacement must be finite"):
        Safeguard(Guide(NEEDLE)).step(np.zeros(5), np.full(5, np.nan), Safeguard(Guide(NEEDLE)).begin(), floor=1)


def test_endless_escalation_does_not_overflow():
    guard = Safeguard(Guide(NEEDLE), patience=0)
    state = replace(guard.begin([0, 0]), target=np.zeros(5), escalations=5000, violated=5000)
    assert guard.step(np.array([0.0, 0.0, 1.0, 0.0, 1.0]), np.zeros(5), state, floor=1e-300).mode == "landed"


@given(st.integers(0, 2**16), st.sampled_from(["unit", "difference"]), st.booleans())
def test_single_precision_stays_and_arrives(seed, weights, wide):
    rng = np.random.default_rng(seed)
    space = ChoiceSpace.from_sizes(rng.integers(1, 5, 6))
    tables = rng.random((2, space.n_options)).astype(np.float64 if wide else np.float32)
    constraints = [cost <= cost(np.zeros(6, dtype=int)) for cost in (Additive(space, table) for table in tables)]
    guard = Safeguard(Guide(constraints, weights=weights, balance="violation"), patience=3)
    logits = rng.standard_normal(space.n_options).astype(np.float32)
    gradient = rng.standard_normal(space.n_options).astype(np.float32)
    state = guard.begin(np.zeros(6, dtype=int))
    assert guard.guide.modify(gradient, logits).dtype == np.float32
    feasible = False
    for _ in range(40):
        step = guard.step(logits, np.float32(-0.1) * gradient, state, floor=1e-4)
        assert step.logits.dtype == np.float32
        feasible, logits, state = feasible or step.feasible, step.logits, step.state
    assert feasible


@given(st.integers(0, 2**16))
def test_the_last_feasible_selection_is_the_witness_whatever_was_given(seed):
    guard, rng = Safeguard(Guide([COST <= 1.0]), patience=2), np.random.default_rng(seed)
    logits, state, last = rng.standard_normal(5), guard.begin([0, 0] if seed % 2 else None), None
    for _ in range(20):
        step = guard.step(logits, rng.standard_normal(5), state, floor=1e-3)
        last = step.seen.selection if step.feasible else last
        if last is not None:
            assert step.state.witness.tolist() == last.tolist()
        logits, state = step.logits, step.state


@given(points(), st.booleans())
def test_settling_ends_inside_and_moves_nothing_that_is_inside(case, known):
    logits, witness, layout = case
    space = ChoiceSpace.from_sizes(layout.sizes)
    there = layout.flat(witness)
    cost = Additive(space, np.isin(np.arange(space.n_options), there, invert=True).astype(float), name="others")
    guard = Safeguard(Guide([cost <= 0.0]))
    settled = guard.settle(logits, guard.begin(witness if known else None))
    if layout.argmax(logits).tolist() == witness.tolist() or not known:
        assert settled.tolist() == logits.tolist()
    else:
        assert layout.argmax(settled).tolist() == witness.tolist()
        assert distance(settled, logits) == distance(project(logits, witness, layout, margin=guard.margin), logits)


def test_a_guided_step_adds_the_direction_to_the_displacement():
    guide = Guide([COST <= 0.0])
    guard = Safeguard(guide, patience=3)
    logits, displacement = np.array([0.0, 1.0, 3.0, 0.0, 2.0]), np.array([0.3, 0.0, -0.4, 0.0, 0.0])
    step = guard.step(logits, displacement, guard.begin([0, 0]), floor=0.01)
    push = step.logits - logits - displacement
    assert step.mode == "guided"
    assert push == pytest.approx(guide.rescale * 0.5 * guide.direction(guide.observe(logits)))
    # The cheaper options, which satisfy the bound, rise.
    assert push[0] > 0 > push[2]
    assert push[3] > 0 > push[4]
