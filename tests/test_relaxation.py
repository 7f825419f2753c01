import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cggd.guide.relaxation import annealed, sample, softmax
from cggd.layout import Layout


@st.composite
def laid(draw):
    groups = draw(st.lists(st.lists(st.floats(-50, 50), min_size=1, max_size=5), min_size=1, max_size=6))
    return np.array([x for g in groups for x in g]), Layout(np.cumsum([0, *(len(g) for g in groups)]))


@given(laid(), st.sampled_from([0.1, 1.0, 7.0]))
def test_softmax_equals_its_definition(case, temperature):
    logits, layout = case
    got = softmax(logits, layout, temperature=temperature)
    for a, b in zip(layout.offsets[:-1], layout.offsets[1:], strict=True):
        e = np.exp((logits[a:b] - logits[a:b].max()) / temperature)
        assert got[a:b] == pytest.approx(e / e.sum())


def test_softmax_survives_huge_logits_and_forbidden_options():
    layout = Layout(np.array([0, 3]))
    assert softmax(np.array([1e308, 1e308, -np.inf]), layout).tolist() == [0.5, 0.5, 0.0]


@given(laid(), st.integers(0, 10))
def test_samples_are_selections_and_seeds_decide(case, seed):
    logits, layout = case
    first, second = (sample(logits, layout, np.random.default_rng(seed)) for _ in range(2))
    assert first.tolist() == second.tolist()
    assert ((first >= 0) & (first < layout.sizes)).all()


def test_samples_follow_the_softmax():
    layout = Layout(np.array([0, 3]))
    logits = np.log([0.2, 0.5, 0.3])
    rng = np.random.default_rng(0)
    counts = np.bincount([sample(logits, layout, rng)[0] for _ in range(20_000)], minlength=3) / 20_000
    assert counts == pytest.approx([0.2, 0.5, 0.3], abs=0.015)


def test_the_papers_schedule():
    assert annealed(0, 300) == 10.0
    assert annealed(100, 300) == pytest.approx(5.05)
    assert annealed(200, 300) == pytest.approx(0.1)
    assert annealed(299, 300) == pytest.approx(0.1)
