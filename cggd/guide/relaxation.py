"""Relaxations: from logits to probabilities, and temperatures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd.layout import Layout


def softmax(logits: NDArray[Any], layout: Layout, *, temperature: float = 1.0) -> NDArray[Any]:
    """Probabilities of the options of each decision, shape (n_options,) to (n_options,).

    A logit of ``-inf`` marks a forbidden option and gives probability 0.

    Examples
    --------
    >>> softmax(np.array([0.0, np.log(3.0), 5.0]), Layout(np.array([0, 2, 3])))
    array([0.25, 0.75, 1.  ])
    """
    out = np.empty_like(logits)
    for _, options, segments in layout.blocks:
        form = segments.gather(logits[options])
        form -= segments.spread(segments.reduce(np.maximum, form))
        if temperature != 1.0:
            form /= temperature
        np.exp(form, out=form)
        form /= segments.spread(segments.reduce(np.add, form))
        out[options] = segments.scatter(form)
    return out


def gumbel(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Standard Gumbel noise, shape (n,)."""
    return -np.log(rng.exponential(size=n))


def sample(logits: NDArray[Any], layout: Layout, rng: np.random.Generator) -> NDArray[np.int64]:
    """A selection drawn from `softmax`, shape (n_decisions,), by the Gumbel-max trick."""
    return layout.argmax(logits + gumbel(len(logits), rng))


def annealed(step: int, steps: int, *, start: float = 10.0, end: float = 0.1, share: float = 2 / 3) -> float:
    """Temperature of a step: falls linearly from `start` to `end` over the first `share` of the steps, then stays.

    The defaults are the schedule of CONNAS (ICLR 2026).

    Examples
    --------
    >>> [round(annealed(step, 90), 2) for step in (0, 30, 60, 89)]
    [10.0, 5.05, 0.1, 0.1]
    """
    progress = min(1.0, step / max(1.0, share * steps))
    return start + (end - start) * progress
