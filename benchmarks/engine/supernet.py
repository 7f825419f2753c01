"""Two bounds that a third of all selections meet, on metrics that are no closed form: what `find_feasible` takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.engine.rows import Row, Size
from cggd import ChoiceSpace, Constraint, Function, Metric, find_feasible

SHARE, SAMPLES = 1 / 3, 300

# Stages of (channels, blocks, side of the image after it), with the kernels and expansions of each block.
STAGES = ((16, 2, 32), (24, 3, 16), (40, 4, 8), (80, 4, 4))
BLOCKS = {f"k{k}_e{e}": (k, e) for k in (3, 5, 7) for e in (3, 6)}


@dataclass
class Counted:
    """A function that counts its calls, and how many of them had an argument for the first time."""

    function: Callable[[Mapping[Hashable, Hashable]], Any]
    calls: int = 0
    seen: set[tuple] = field(default_factory=set)

    def __call__(self, labels: Mapping[Hashable, Hashable]) -> Any:
        self.calls += 1
        self.seen.add(tuple(labels.items()))
        return self.function(labels)


Costs = tuple[Metric, Metric, Sequence[Counted]]


def plain() -> Costs:
    """Operations and peak memory of a stack of inverted residual blocks, as functions of Python."""
    options: dict[Hashable, Sequence[Hashable]] = {}
    for number, (_, most, _) in enumerate(STAGES, start=1):
        options[f"stage{number}.depth"] = tuple(range(1, most + 1))
        options |= {f"stage{number}.block{block}": tuple(BLOCKS) for block in range(1, most + 1)}

    def layers(labels: Mapping[Hashable, Any]) -> Iterator[tuple[float, float]]:
        """Operations and memory of each layer; blocks beyond the depth of their stage are not there."""
        inputs = 16
        for number, (outputs, _, side) in enumerate(STAGES, start=1):
            for block in range(1, labels[f"stage{number}.depth"] + 1):
                kernel, expansion = BLOCKS[labels[f"stage{number}.block{block}"]]
                wide = inputs * expansion
                yield side * side * wide * (inputs + kernel * kernel + outputs) / 1e6, side * side * 2 * wide / 1024
                inputs = outputs

    space = ChoiceSpace(options)
    macs = Counted(lambda labels: sum(operations for operations, _ in layers(labels)))
    memory = Counted(lambda labels: max(kb for _, kb in layers(labels)))
    return Function(space, macs, name="macs"), Function(space, memory, name="memory"), [macs, memory]


def traced() -> Costs:
    """Those of `cggd_nas`, which walks through the network of a selection."""
    import torch

    from cggd_nas import Costs as Networks
    from cggd_nas.spaces.mobile import mobile_stack

    costs = Networks(mobile_stack(), torch.zeros(1, 3, 32, 32))
    known, peak = costs.macs(), costs.peak_memory()
    macs, memory = Counted(lambda labels: known(labels)), Counted(peak.trace)  # pyright: ignore
    return Function(known.space, macs, name="macs"), replace(peak, trace=memory), [macs, memory]  # pyright: ignore


def third(metrics: Sequence[Metric], rng: np.random.Generator) -> list[Constraint]:
    """Bounds at one quantile of each metric, the one at which a third of random selections meet all."""
    rows = metrics[0].space.sample(SAMPLES, rng)
    values = np.stack([metric.evaluate(rows) for metric in metrics])
    shares = [
        (np.mean((values <= np.quantile(values, q, axis=1)[:, None]).all(axis=0)), q) for q in np.linspace(0, 1, 101)
    ]
    q = min(shares, key=lambda pair: abs(pair[0] - SHARE))[1]
    bounds = np.quantile(values, q, axis=1, method="lower").tolist()
    return [metric <= bound for metric, bound in zip(metrics, bounds, strict=True)]


def supernet(size: Size) -> Iterator[Row]:
    """`find_feasible` beside random selections until one meets both bounds."""
    models: dict[str, Callable[[], Costs]] = {"Python functions": plain}
    if not size.quick and find_spec("torch"):
        models["cggd_nas"] = traced
    for name, model in models.items():
        limits = [(c.bound, c.sense) for c in third(model()[:2], np.random.default_rng(7))]
        for seed in size.several(3):
            for method in ("random", "find_feasible"):
                macs, memory, counters = model()
                constraints = [Constraint(m, *limit) for m, limit in zip((macs, memory), limits, strict=True)]
                began = time.perf_counter()
                status = METHODS[method](constraints, seed)
                seconds = round(time.perf_counter() - began, 4)
                networks = len(set.union(*(counter.seen for counter in counters)))
                note = f"{networks} networks"
                row = {"status": status, "calls": sum(counter.calls for counter in counters), "note": note}
                yield Row("supernet", f"MobileNet, {name}", method, None, seed, 0, seconds, **row)


def _drawn(constraints: Sequence[Constraint], seed: int) -> str:
    rng, space = np.random.default_rng(seed), constraints[0].metric.space
    while True:
        if all(constraint.holds(space.sample(1, rng))[0] for constraint in constraints):
            return "FEASIBLE"


METHODS: dict[str, Callable[[Sequence[Constraint], int], str]] = {
    "random": _drawn,
    "find_feasible": lambda constraints, seed: find_feasible(constraints, seed=seed, time_limit=60.0).status.name,
}
