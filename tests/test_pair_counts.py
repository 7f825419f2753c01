"""Counts of pairs against loops."""

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


@given(st.one_of(SIZES, st.just([FEW + 1, 2]), st.just([FEW, 3])), st.integers(0, 99))
def test_ranks_count_greater_and_smaller_options(sizes, seed):
    layout = Layout(np.concatenate([[0], np.cumsum(sizes)]))
    flat = np.random.default_rng(seed).integers(-3, 4, layout.n_options).astype(float)
    parts = np.split(flat, layout.offsets[1:-1])
    expected = [int((part > x).sum() - (part < x).sum()) for part in parts for x in part]
    assert flat_ranks(flat, layout).tolist() == expected
