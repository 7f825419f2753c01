"""The ragged layout against loops over decisions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cggd import layout as layout_module
from cggd.layout import Layout, Ragged, Uniform
from cggd.testing import selections
from tests.strategies import tables


def parts(layout, flat):
    return [flat[..., a:b] for a, b in zip(layout.offsets[:-1], layout.offsets[1:], strict=True)]


UFUNCS = (np.add, np.minimum, np.maximum)


@given(tables(columns=2))
def test_reduce_spread_argmax(drawn):
    space, *rows = drawn
    layout, flat = space.layout, np.stack(rows)
    assert (layout.n_decisions, layout.n_options) == (space.n_decisions, flat.shape[1])
    assert layout.uniform == (space.sizes[0] if len(set(space.sizes.tolist())) == 1 else None)
    for ufunc in UFUNCS:
        expected = np.stack([ufunc.reduce(part, axis=-1) for part in parts(layout, flat)], axis=-1)
        np.testing.assert_allclose(layout.reduce(ufunc, flat), expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(layout.reduce(ufunc, flat)[0], layout.reduce(ufunc, flat[0]))
    per_decision = layout.reduce(np.maximum, flat)
    spread = layout.spread(per_decision)
    assert [part.shape for part in parts(layout, spread)] == [part.shape for part in parts(layout, flat)]
    assert all((part == one[..., None]).all() for part, one in zip(parts(layout, spread), per_decision.T, strict=True))
    assert layout.argmax(flat[0]).tolist() == [int(np.argmax(part)) for part in parts(layout, flat[0])]
    assert layout.owner.tolist() == [d for d, size in enumerate(space.sizes.tolist()) for _ in range(size)]
    first = np.zeros((3, space.n_decisions), dtype=np.int64)
    np.testing.assert_array_equal(layout.flat(first), np.tile(layout.offsets[:-1], (3, 1)))


def test_argmax_takes_the_first_of_equals_and_reads_minus_infinity():
    for cut in (Layout(np.array([0, 3, 6])), Layout(np.array([0, 3, 5, 6]))):
        flat = np.array([-np.inf, 2.0, 2.0, -np.inf, 0.0, -np.inf])
        assert cut.argmax(flat).tolist() == [1, 1, 0][: cut.n_decisions]


@given(st.data())
def test_restrict(data):
    space, flat = data.draw(tables())
    layout = space.layout
    allowed = np.array([data.draw(st.booleans()) for _ in flat])
    allowed[layout.flat(data.draw(selections(space)))] = True
    kept = layout.restrict(allowed)
    assert kept.sizes.tolist() == [int(part.sum()) for part in parts(layout, allowed)]
    for whole, mask, part in zip(parts(layout, flat), parts(layout, allowed), parts(kept, flat[allowed]), strict=True):
        np.testing.assert_array_equal(whole[mask], part)


@pytest.mark.parametrize("block", [1, 3, 7, 1000])
@given(tables(columns=2))
def test_blocks_cover_the_space_and_do_as_slow_loops(block, drawn):
    space, *rows = drawn
    flat = np.stack(rows)
    before = flat.copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout_module, "BLOCK", block)
        blocks = Layout(space.offsets).blocks
    assert [b[0].start for b in blocks] == [0, *(b[0].stop for b in blocks[:-1])]
    assert blocks[-1][0].stop == space.n_decisions
    for decisions, options, segments in blocks:
        assert (options.start, options.stop) == (space.offsets[decisions.start], space.offsets[decisions.stop])
        assert options.stop - options.start <= block or decisions.stop == decisions.start + 1
        assert isinstance(segments, Uniform if space.layout.uniform else Ragged)
        for array in (flat[:, options], flat[0, options]):
            _check_segments(segments, array, space.sizes[decisions])
    np.testing.assert_array_equal(flat, before)


def _check_segments(segments, array, sizes):
    cuts = np.cumsum(sizes)[:-1]
    form = segments.gather(array)
    np.testing.assert_array_equal(segments.scatter(form), array)
    assert not np.shares_memory(form, array), "a form is written into"
    np.testing.assert_array_equal(np.broadcast_to(segments.sizes, len(sizes)), sizes)
    for ufunc in UFUNCS:
        expected = np.stack([ufunc.reduce(part, axis=-1) for part in np.split(array, cuts, axis=-1)], axis=-1)
        np.testing.assert_allclose(segments.reduce(ufunc, form), expected, rtol=1e-12, atol=1e-12)
    top = segments.reduce(np.maximum, form)
    spread = segments.scatter(form - segments.spread(top))
    expected = [part - part.max(axis=-1, keepdims=True) for part in np.split(array, cuts, axis=-1)]
    np.testing.assert_array_equal(spread, np.concatenate(expected, axis=-1))
    found = np.zeros(form.shape)
    place = segments.gather(np.broadcast_to(np.arange(array.shape[-1]), array.shape))
    seen = []
    for a, b, valid in segments.pairs():
        mask = np.broadcast_to(True if valid is None else valid, place[a].shape)
        found[a] += mask
        found[b] += mask
        seen += zip(place[a][mask].tolist(), place[b][mask].tolist(), strict=True)
    starts = np.cumsum(sizes) - sizes
    wanted = [(s + i, s + j) for s, n in zip(starts, sizes, strict=True) for i in range(n) for j in range(i + 1, n)]
    assert sorted(seen) == sorted(wanted * (array.size // array.shape[-1]))
    np.testing.assert_array_equal(segments.scatter(found), np.broadcast_to(np.repeat(sizes - 1, sizes), array.shape))
