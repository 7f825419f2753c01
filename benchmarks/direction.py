"""What a direction costs against one softmax over the same logits, on a million decisions, in one process."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.special import softmax as scipy_softmax

from cggd import Additive, ChoiceSpace, Guide
from cggd.guide.relaxation import softmax
from cggd.layout import Layout

N_DECISIONS = 1_000_000
REPEATS = 9


def seconds(*functions: Callable[[], object]) -> list[float]:
    """Median seconds of each; they take turns, so that a disturbance of the machine hits all alike."""
    taken: list[list[float]] = [[] for _ in functions]
    for _ in range(REPEATS + 1):
        for function, times in zip(functions, taken, strict=True):
            began = time.perf_counter()
            function()
            times.append(time.perf_counter() - began)
    return [median(times[1:]) for times in taken]


def plain_softmax(logits: np.ndarray, layout: Layout) -> np.ndarray:
    """What a user would write with numpy for decisions of different sizes."""
    starts, sizes = layout.offsets[:-1], layout.sizes
    e = np.exp(logits - np.repeat(np.maximum.reduceat(logits, starts), sizes))
    return e / np.repeat(np.add.reduceat(e, starts), sizes)


def main() -> None:
    rng = np.random.default_rng(0)
    table = Table(
        "options", "weights", "decisions", "direction", "scipy/numpy softmax", "ratio", "cggd softmax", "ratio"
    )
    for name, sizes in (("8", np.full(N_DECISIONS, 8)), ("2 to 14", rng.integers(2, 15, N_DECISIONS))):
        space = ChoiceSpace.from_sizes(sizes)
        cost = Additive(space, rng.random(space.n_options))
        logits = rng.standard_normal(space.n_options)
        selection = space.layout.argmax(logits)

        def usual(logits=logits, space=space) -> np.ndarray:
            k = space.layout.uniform
            return plain_softmax(logits, space.layout) if k is None else scipy_softmax(logits.reshape(-1, k), axis=1)

        for weights in ("difference", "unit"):
            # Far above the bound no option of any decision satisfies it; just above it some do.
            for case, bound in (("all violate", cost.minimum() - 1), ("mixed", cost(selection) - 0.4)):
                guide = Guide([cost <= bound], weights=weights)
                seen = guide.observe(logits)
                ours, theirs, own = seconds(
                    lambda guide=guide, seen=seen: guide.direction(seen),
                    usual,
                    lambda logits=logits, space=space: softmax(logits, space.layout),
                )
                row = [f"{1e3 * ours:.0f} ms", f"{1e3 * theirs:.0f} ms", f"{ours / theirs:.2f}"]
                table.add_row(name, weights, case, *row, f"{1e3 * own:.0f} ms", f"{ours / own:.2f}")
    console = Console(width=120)
    console.print(f"Direction of one constraint, replacement table included, on {N_DECISIONS:,} decisions")
    console.print(table)
