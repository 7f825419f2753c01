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


def gumbel_softmax(
    logits: NDArray[Any], layout: Layout, rng: np.random.Generator, *, temperature: float = 1.0
) -> NDArray[np.float64]:
    """A softened sample of the options, shape (n_options,) (Jang et al., 2017; Maddison et al., 2017).

    At a low temperature it nears a one-hot sample drawn from `softmax`.
    """
    return softmax(logits + gumbel(len(logits), rng), layout, temperature=temperature)


def straight_through(probabilities: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """One-hot rows at the likeliest option of each decision, shape (n_options,).

    In a framework with automatic differentiation: forward this, backward `probabilities`.
    """
    hard = np.zeros_like(probabilities)
    hard[layout.flat(layout.argmax(probabilities))] = 1.0
    return hard


def sample(logits: NDArray[Any], layout: Layout, rng: np.random.Generator) -> NDArray[np.int64]:
    """A selection drawn from `softmax`, shape (n_decisions,), by the Gumbel-max trick."""
    return layout.argmax(logits + gumbel(len(logits), rng))


def annealed(step: int, steps: int, *, start: float = 10.0, end: float = 0.1, share: float = 2 / 3) -> float:
    """Temperature of a step: from `start` to `end` linearly over the first `share` of the steps, then `end`.

    The defaults are the schedule of CONNAS (ICLR 2026).

    Examples
    --------
    >>> [round(annealed(step, 90), 2) for step in (0, 30, 60, 89)]
    [10.0, 5.05, 0.1, 0.1]
    """
    progress = min(1.0, step / max(1.0, share * steps))
    return start + (end - start) * progress
