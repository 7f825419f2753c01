"""Running models in ONNX Runtime: outputs and times."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd.measure import Program
from cggd.metrics.base import Invalid
from cggd.space import ChoiceSpace

# Print only fatal messages of the runtime; its errors are raised anyway.
FATAL = 4

# Timed runs, and untimed ones before them.
RUNS, WARM_UP = 15, 2

# Fast models run for so many milliseconds, but no more often than that.
LEAST_TIMED, MOST_RUNS = 50.0, 300


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
            return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        except Exception as error:
            raise Invalid(f"ONNX Runtime cannot load it: {first_line(error)}") from None

    def outputs(self, session: Any, batches: Sequence[Mapping[str, NDArray]]) -> dict[str, NDArray]:
        """Outputs of all batches, each as rows along its last axis.

        Raises
        ------
        Invalid
            If the runtime fails, or an output is not finite.
        """
        shapes = {output.name: output.shape or [] for output in session.get_outputs()}
        rows: dict[str, list[NDArray]] = {name: [] for name in shapes}
        for batch in batches:
            try:
                values = session.run(None, dict(batch))
            except Exception as error:
                raise Invalid(f"ONNX Runtime cannot run it: {first_line(error)}") from None
            for (name, shape), value in zip(shapes.items(), values, strict=True):
                if getattr(value, "dtype", np.dtype(object)).kind in "fiub":  # sequences and texts have no distance
                    # Numbers along one axis of no fixed length, such as that of samples, are rows of one.
                    whole = value.ndim > 1 or (value.ndim == 1 and isinstance((shape or [""])[0], int))
                    rows[name].append(value.reshape(-1, value.shape[-1] if whole else 1))
        if uneven := [name for name, parts in rows.items() if len({part.shape[1] for part in parts}) > 1]:
            raise Invalid(f"the last axis of output {uneven[0]!r} is not as long in each batch")
        found = {name: np.concatenate(parts) for name, parts in rows.items() if parts}
        if wrong := [n for n, value in found.items() if value.dtype.kind == "f" and not np.isfinite(value).all()]:
            raise Invalid(f"output {wrong[0]!r} is not finite")
        return found


class Clock:
    """Times of models, each in alternation with the original, so that the load of the machine hardly matters.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        Session of the original.
    batch : mapping of name to array
        Inputs of a run.

    Attributes
    ----------
    original : float or None
        Milliseconds of the original, to which other times are scaled; measured before the first of them.
    """

    def __init__(self, session: Any, batch: Mapping[str, NDArray]) -> None:
        self.session, self.batch = session, dict(batch)
        self.original: float | None = None

    def time(self, session: Any | None = None, runs: int = RUNS) -> tuple[float, float]:
        """Median milliseconds of a run, and half the distance between the quartiles; of the original without a session.

        The median is that of the ratios to runs of the original just after, multiplied by the original's first median.
        Fast models run more often, so that a disturbance does not last for most of the runs.
        """
        if self.original is None:
            alone = self._pairs([self.session], runs)
            self.original = float(np.median(self._pairs([self.session], self._enough(runs, float(np.median(alone))))))
        if session is None:
            return self.original, 0.0
        both = self._pairs([session, self.session], self._enough(runs, self.original))
        low, median, high = np.percentile(both[:, 0] / both[:, 1], [25, 50, 75]) * self.original
        return float(median), float(high - low) / 2

    def _enough(self, runs: int, milliseconds: float) -> int:
        return max(runs, min(int(LEAST_TIMED / max(milliseconds, 1e-3)), MOST_RUNS))

    def _pairs(self, sessions: Sequence[Any], runs: int) -> NDArray[np.float64]:
        """Milliseconds of runs of each session in turn, shape (runs, sessions)."""
        found = np.empty((runs, len(sessions)))
        for i in range(-WARM_UP, runs):
            for column, one in enumerate(sessions):
                began = time.perf_counter()
                one.run(None, self.batch)
                if i >= 0:
                    found[i, column] = 1e3 * (time.perf_counter() - began)
        return found


class Command:
    """A program that runs a file on another device, and prints ``latency=`` and milliseconds.

    Parameters
    ----------
    command : str
        Command line in which ``{model}`` stands for the path of the ONNX file.
    """

    def __init__(self, command: str) -> None:
        self.program = Program(command, ChoiceSpace({"model": ["model.onnx"]}))

    def time(self, data: bytes) -> float:
        """Milliseconds of a file.

        Raises
        ------
        Invalid
            If the program fails, or prints no latency.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(data)
            printed = self.program({"model": str(path)})
        if "latency" not in printed:
            raise Invalid("the program printed no line such as latency=7.5")
        return printed["latency"]


def first_line(error: Exception) -> str:
    """The first line of a message of the runtime."""
    return str(error).strip().split("\n")[0]
