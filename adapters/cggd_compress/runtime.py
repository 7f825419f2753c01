"""Running models in ONNX Runtime: outputs and times."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd.metrics.base import Invalid

# Only fatal messages of the runtime are printed; errors are raised as well.
FATAL = 4

# Runs that are timed, and before them those that are not.
RUNS, WARM_UP = 15, 2


@dataclass(frozen=True)
class Time:
    """Milliseconds of a run: the median, and half the distance between the quartiles."""

    median: float
    spread: float


@dataclass(frozen=True)
class Runtime:
    """ONNX Runtime on the processor, with a fixed number of threads.

    Attributes
    ----------
    threads : int
    """

    threads: int = 1

    def session(self, model: bytes) -> Any:
        """Load a model.

        Raises
        ------
        Invalid
            If the runtime cannot run it; the message is the runtime's.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = FATAL
        try:
            return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise Invalid(f"ONNX Runtime cannot load it: {first_line(error)}") from None

    def outputs(self, session: Any, batches: Sequence[Mapping[str, NDArray]]) -> dict[str, NDArray]:
        """Outputs of all batches, each as rows along its last axis.

        Raises
        ------
        Invalid
            If the runtime fails, or an output is not finite.
        """
        names = [output.name for output in session.get_outputs()]
        rows: dict[str, list[NDArray]] = {name: [] for name in names}
        for batch in batches:
            try:
                values = session.run(None, dict(batch))
            except Exception as error:
                raise Invalid(f"ONNX Runtime cannot run it: {first_line(error)}") from None
            for name, value in zip(names, values, strict=True):
                value = np.asarray(value)
                if value.dtype.kind in "fiub":
                    rows[name].append(value.reshape(-1, value.shape[-1] if value.ndim else 1))
        found = {name: np.concatenate(parts) for name, parts in rows.items() if parts}
        if wrong := [n for n, value in found.items() if value.dtype.kind == "f" and not np.isfinite(value).all()]:
            raise Invalid(f"output {wrong[0]!r} is not finite")
        return found

    def time(self, session: Any, batch: Mapping[str, NDArray], runs: int = RUNS) -> Time:
        """Time of one run, the median of several."""
        feed, took = dict(batch), []
        for i in range(WARM_UP + runs):
            began = time.perf_counter()
            session.run(None, feed)
            if i >= WARM_UP:
                took.append(1e3 * (time.perf_counter() - began))
        low, median, high = np.percentile(took, [25, 50, 75])
        return Time(float(median), float(high - low) / 2)


def first_line(error: Exception) -> str:
    """The first line of a message of the runtime."""
    return str(error).strip().split("\n")[0]
