"""What is compared: each takes the same options with the same measured errors, and a bound on the bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from cggd_compress import KEEP, Compression, size
from cggd_compress.network import quiet

Selection = dict[str, str] | None


def uniform(names: tuple[str, ...]) -> Callable[[Compression, float], Selection]:
    """One of these formats for all weights that have it, the first that fits."""

    def method(compression: Compression, bound: float) -> Selection:
        space = compression.choices.space
        for name in names:
            labels = {d: name if name in space.option_labels(d) else KEEP for d in space.decisions}
            if compression.choices.size(labels) <= bound:
                return labels
        return None

    return method


def greedy(compression: Compression, bound: float) -> Selection:
    """Switch the weight that adds the least error for each byte that it saves, until the file fits."""
    space, sizes, errors = compression.choices.space, compression.choices.bytes_of, compression.singles["error"]
    total, row = compression.choices.size(compression.kept), compression.kept.copy()
    while total > bound:
        here = np.repeat(space.offsets[:-1] + row, space.sizes)
        saved, added = sizes[here] - sizes, errors - errors[here]
        with np.errstate(invalid="ignore", divide="ignore"):
            rate = np.where((saved > 0) & np.isfinite(added), added / saved, np.inf)
        best = int(rate.argmin())
        if not np.isfinite(rate[best]):
            return None
        total -= saved[best]
        decision = int(np.searchsorted(space.offsets, best, side="right")) - 1
        row[decision] = best - space.offsets[decision]
    return space.labels(row)


def plain_sum(compression: Compression, bound: float) -> Selection:
    """The least sum of errors of single weights, by branch and bound (HiGHS), and nothing measured jointly."""
    space, sizes, errors = compression.choices.space, compression.choices.bytes_of, compression.singles["error"]
    decision = np.repeat(np.arange(space.n_decisions), space.sizes)
    one = (decision == np.arange(space.n_decisions)[:, None]).astype(float)
    usable = np.isfinite(errors)
    left = bound - compression.choices.size.constant
    rows = [LinearConstraint(one, 1, 1), LinearConstraint(sizes[None], -np.inf, left)]
    chosen, scale = None, float(np.nanmax(np.abs(errors))) or 1.0
    for _ in range(3):  # HiGHS stops within 1e-6 of the optimum: again, in units of what was found
        found = milp(
            np.where(usable, errors, 0) / scale, constraints=rows, integrality=np.ones(len(sizes)),
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


def ours(compression: Compression, bound: float, measurements: int) -> bytes | None:
    """The file of `Compression.solve`."""
    return compression.solve([size <= bound], measurements=measurements).data


def runtime_default(model: object) -> bytes:
    """ONNX Runtime's ``quantize_dynamic`` of the whole model, as it comes."""
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    with quiet(), tempfile.TemporaryDirectory() as place:
        paths = Path(place) / "model.onnx", Path(place) / "small.onnx"
        onnx.save(model, paths[0])
        quantize_dynamic(*paths)
        return paths[1].read_bytes()


METHODS = {
    "uniform float16": uniform(("float16",)),
    "uniform 8 bits": uniform(("8 bit/128",)),
    "uniform 4 bits": uniform(("4 bit/32", "4 bit/128")),
    "uniform 2 bits": uniform(("2 bit/32",)),
    "greedy": greedy,
    "sum alone": plain_sum,
}
OURS, DEFAULT = "cggd compress", "quantize_dynamic"
