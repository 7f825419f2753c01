"""The compared methods; all take the same options, the same measurements, and a bound on bytes or milliseconds."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from cggd_compress import KEEP, Compression
from cggd_compress.costs import Limit
from cggd_compress.network import quiet

Selection = dict[str, str] | None
Method = Callable[[Compression, Limit], Selection]


def uniform(names: tuple[str, ...]) -> Method:
    """The first of these formats that fits, for all weights that have it; its time is measured, not predicted."""

    def method(compression: Compression, limit: Limit) -> Selection:
        space = compression.choices.space
        for name in names:
            labels = {d: name if name in space.option_labels(d) else KEEP for d in space.decisions}
            if name in labels.values() and compression.metrics[limit.name](labels) <= limit.bound:
                return labels
        return None

    return method


def greedy(compression: Compression, limit: Limit) -> Selection:
    """Repeat the switch of least added error per unit saved, until the sum is within the bound."""
    space, errors = compression.choices.space, compression.singles["error"]
    spent, total = compression.predicted()[limit.name], 0.0
    row = compression.kept.copy()
    while (total := float(spent.evaluate(row[None])[0])) > limit.bound:
        here = np.repeat(space.offsets[:-1] + row, space.sizes)
        saved, added = total - spent.replacements(row), errors - errors[here]
        with np.errstate(invalid="ignore", divide="ignore"):
            rate = np.where((saved > 0) & np.isfinite(added), added / saved, np.inf)
        best = int(rate.argmin())
        if not np.isfinite(rate[best]):
            return None
        decision = int(np.searchsorted(space.offsets, best, side="right")) - 1
        row[decision] = best - space.offsets[decision]
    return space.labels(row)


def plain_sum(compression: Compression, limit: Limit) -> Selection:
    """The least sum of errors of single weights by HiGHS, without joint measurements."""
    space, errors = compression.choices.space, compression.singles["error"]
    spent = compression.predicted()[limit.name]
    decision = np.repeat(np.arange(space.n_decisions), space.sizes)
    one = (decision == np.arange(space.n_decisions)[:, None]).astype(float)
    usable = np.isfinite(errors)
    rows = [LinearConstraint(one, 1, 1), LinearConstraint(spent.values[None], -np.inf, limit.bound - spent.constant)]
    chosen, scale = None, float(np.nanmax(np.abs(errors))) or 1.0
    for _ in range(3):  # HiGHS stops within 1e-6 of the optimum, so solve again, scaled by the value found
        found = milp(
            np.where(usable, errors, 0) / scale, constraints=rows, integrality=np.ones(space.n_options),
            bounds=Bounds(0, usable.astype(float)), options={"mip_rel_gap": 0, "time_limit": 30},
        )  # fmt: skip
        if found.x is None:
            break
        chosen = np.flatnonzero(found.x > 0.5)
        total = float(errors[chosen].sum())
        if total <= 0 or np.nanmin(errors) < 0:
            break
        usable, scale = usable & (errors <= total), total
    return None if chosen is None else space.labels(chosen - space.offsets[:-1])


def ours(compression: Compression, limit: Limit, measurements: int) -> tuple[bytes | None, str]:
    """The file of `Compression.solve`, and its message."""
    found = compression.solve([limit], measurements=measurements)
    return found.data, found.message


def runtime_default(model: object) -> bytes:
    """ONNX Runtime's ``quantize_dynamic`` of the whole model, with its defaults."""
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    with quiet(), tempfile.TemporaryDirectory() as place:
        paths = Path(place) / "model.onnx", Path(place) / "small.onnx"
        onnx.save(model, paths[0])
        quantize_dynamic(*paths)
        return paths[1].read_bytes()


SIZE_METHODS: dict[str, Method] = {
    "uniform float16": uniform(("float16",)),
    "uniform 8 bits": uniform(("8 bit/128",)),
    "uniform 4 bits": uniform(("4 bit/32", "4 bit/128")),
    "uniform 2 bits": uniform(("2 bit/32",)),
    "greedy": greedy,
    "sum alone": plain_sum,
}
LATENCY_METHODS: dict[str, Method] = {
    "uniform int8 static": uniform(("int8 static",)),
    "uniform int8 dynamic": uniform(("int8 dynamic",)),
    "uniform 4 bits": uniform(("4 bit/32",)),
    "uniform ranks": uniform(("rank 0.25", "rank 0.125")),
    "greedy": greedy,
    "sum alone": plain_sum,
}
METHODS = {"size": SIZE_METHODS, "latency": LATENCY_METHODS}
# With a limit on time: formats with their own kernels, and low-rank factors.
TIMED_OPTIONS = ("4 bit/32", "int8 dynamic", "int8 static", "rank 0.25", "rank 0.125")
OURS, QUICK, DEFAULT = "cggd compress", "cggd compress --quick", "quantize_dynamic"
