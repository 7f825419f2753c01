"""The ragged layout against loops over decisions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cggd import layout as layout_module
from cggd.layout import Layout
from cggd.pair_counts import FEW, flat_ranks

SIZES = st.one_of(
    st.lists(st.integers(1, 5), min_size=1, max_size=9), st.tuples(st.integers(1, 5)).map(lambda n: n * 4)
)


@pytest.fixture(autouse=True, params=[1, 7, 32_768])
def _block(request, monkeypatch):
    """Blocks of a few options, so that a small space has several."""
    monkeypatch.setattr(layout_module, "BLOCK", request.param)


def layout_of(sizes):
    return Layout(np.concatenate([[0], np.cumsum(sizes)]))


def parts(layout, flat):
    return [flat[..., a:b] for a, b in zip(layout.offsets[:-1], layout.offsets[1:], strict=True)]


def numbers(layout, seed, leading=()):
    return np.random.default_rng(seed).integers(-3, 4, (*leading, layout.n_options)).astype(float)


@given(SIZES, st.integers(0, 99))
def test_reductions_and_copies_are_those_of_a_loop(sizes, seed):
    layout = layout_of(sizes)
    flat = numbers(layout, seed, (2,))
    assert (layout.n_decisions, layout.n_options) == (len(sizes), sum(sizes))
    assert layout.sizes.tolist() == list(sizes)
    assert layout.uniform == (sizes[0] if len(set(sizes)) == 1 else None)
    assert layout.owner.tolist() == [d for d, n in enumerate(sizes) for _ in range(n)]
    for ufunc in (np.add, np.maximum):
        expected = np.stack([ufunc.reduce(part, axis=-1) for part in parts(layout, flat)], axis=-1)
        assert np.array_equal(layout.reduce(ufunc, flat), expected)
        assert np.array_equal(layout.spread(expected), np.repeat(expected, sizes, axis=-1))
    best = [int(part.argmax()) for part in parts(layout, flat[0])]
    assert layout.argmax(flat[0]).tolist() == best
    assert (
        layout.flat(np.array([best, best])).tolist()
        == [[a + o for a, o in zip(layout.offsets, best, strict=False)]] * 2
    )


@given(SIZES, st.integers(0, 99))
def test_blocks_cover_the_space_and_act_as_the_whole(sizes, seed):
    layout = layout_of(sizes)
    flat = numbers(layout, seed)
    reached = []
    for decisions, options, segments in layout.blocks:
        reached += range(decisions.start, decisions.stop)
        assert (options.start, options.stop) == (layout.offsets[decisions.start], layout.offsets[decisions.stop])
        assert options.stop - options.start <= layout_module.BLOCK or decisions.stop == decisions.start + 1
        form = segments.gather(flat[None, options])
        assert np.array_equal(segments.scatter(form)[0], flat[options])
        sums = segments.reduce(np.add, form)
        assert sums.ravel().tolist() == [part.sum() for part in parts(layout, flat)[decisions]]
        spread = segments.scatter(np.broadcast_to(segments.spread(sums), form.shape))
        assert np.array_equal(spread[0], np.repeat(sums.ravel(), sizes[decisions]))
    assert reached == list(range(len(sizes)))


@given(SIZES)
def test_every_pair_of_a_decision_is_lined_up_once(sizes):
    layout = layout_of(sizes)
    found = []
    for _, options, segments in layout.blocks:
        form = segments.gather(np.arange(layout.n_options)[None, options])
        for a, b, valid in segments.pairs():
            pairs = np.stack([form[a].ravel(), form[b].ravel()], axis=1)
            found += pairs[slice(None) if valid is None else valid].tolist()
    expected = [
        [a, b] for start, n in zip(layout.offsets, sizes, strict=False) for a in range(n) for b in range(a + 1, n)
    ]
    assert sorted(found) == sorted([start + a, start + b] for start, n in zip(layout.offsets, sizes, strict=False)
                                   for a in range(n) for b in range(a + 1, n))  # fmt: skip
    assert len(found) == len(expected)


@given(SIZES, st.integers(0, 99))
def test_a_restricted_layout_has_what_is_allowed(sizes, seed):
    layout = layout_of(sizes)
    allowed = numbers(layout, seed) > 0
    allowed[layout.flat(np.zeros(len(sizes), dtype=int))] = True
    assert layout.restrict(allowed).sizes.tolist() == [int(part.sum()) for part in parts(layout, allowed)]


@given(st.one_of(SIZES, st.just([FEW + 1, 2]), st.just([FEW, 3])), st.integers(0, 99))
def test_ranks_count_greater_and_smaller_options(sizes, seed):
    layout = layout_of(sizes)
    flat = numbers(layout, seed)
    expected = [int((part > x).sum() - (part < x).sum()) for part in parts(layout, flat) for x in part]
    assert flat_ranks(flat, layout).tolist() == expected
