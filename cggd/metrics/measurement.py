"""Measurements: one costly call gives several numbers, or finds that a selection is invalid."""

from __future__ import annotations

import hashlib
import threading
import time
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd.checks import as_amount, as_number, short, whole
from cggd.metrics.base import Invalid, Memory, Metric, MetricError, standard_errors
from cggd.metrics.evaluation import Evaluation, OutOfCalls, OutOfTime, current_evaluation, digest
from cggd.metrics.run_log import RunLog
from cggd.space import ChoiceSpace, check_space


@dataclass(frozen=True)
class Ended:
    """How one call ended: with numbers, or with the reason why the selection is invalid."""

    values: dict[str, float] | None
    invalid: str
    seconds: float


class Measurement:
    """A costly function that gives several numbers for a selection, with a memory shared by its metrics.

    ``measurement["latency"]`` is a metric. All metrics of a measurement share one call per selection, and no selection
    is measured twice. The memory may be used by several threads, and with `log` by several processes.

    Parameters
    ----------
    space : ChoiceSpace
    run : callable
        Takes one labelled selection (a dict) and returns a mapping of metric names to numbers. It raises
        `cggd.Invalid` if the selection cannot be measured; this is remembered. Other numbers in the mapping are only
        logged. None if the measurements are made elsewhere (`cggd.Search`).
    metrics : mapping of name to unit, or list of names
    log : path, optional
        File to which each call is appended as it ends, as a line of JSON. A new run reads it first. It must belong to
        the same space.
    repeats : int
        Calls per selection, for a noisy device. The mean is the value; the spread gives standard errors.
    timeout : float, optional
        Seconds after which a call is given up and its selection is invalid. The thread of the call goes on. With an
        executor, it also limits the wait for a worker whose death is not reported.
    retries : int
        Number of repetitions of a call that raises an error other than `Invalid`. If all fail, the search ends with the
        error, and nothing is remembered about the selection.
    limits : mapping of name to (low, high), optional
        Known bounds on the values. Selections that these bounds rule out are not measured.

    Attributes
    ----------
    metrics : mapping of name to Metric

    Raises
    ------
    ValueError
        If an argument is wrong, or `log` is damaged or of another space.

    Examples
    --------
    >>> space = ChoiceSpace({"block": [32, 64, 2048], "unroll": [1, 2]})
    >>> def run(selection):
    ...     if selection["block"] > 1024:
    ...         raise Invalid("too many threads")
    ...     return {"time": 640 / selection["block"] + selection["unroll"], "power": 0.5 * selection["block"]}
    >>> bench = Measurement(space, run, {"time": "ms", "power": "W"})
    >>> bench["time"]({"block": 32, "unroll": 1}), bench["power"]({"block": 32, "unroll": 1}), len(bench)
    (21.0, 16.0, 1)
    >>> bench["time"]({"block": 2048, "unroll": 1})
    nan
    """

    space: ChoiceSpace
    run: Callable[[dict[Any, Any]], Mapping[str, float]]
    units: dict[str, str]
    limits: dict[str, tuple[float, float]]
    repeats: int
    retries: int
    timeout: float | None
    log: RunLog | None
    metrics: dict[str, Measured]

    def __init__(
        self,
        space: ChoiceSpace,
        run: Callable[[dict[Any, Any]], Mapping[str, float]] | None,
        metrics: Mapping[str, str] | Sequence[str],
        *,
        log: str | PathLike[str] | None = None,
        repeats: int = 1,
        timeout: float | None = None,
        retries: int = 0,
        limits: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        check_space(space)
        if run is not None and not callable(run):
            raise TypeError(f"run must be callable, or None, got {run!r}")
        self.space, self.run = space, _elsewhere if run is None else run
        self.units = _units(metrics)
        self.limits = _limits(limits, self.units)
        self.repeats, self.retries = whole(repeats, "repeats", least=1), whole(retries, "retries", least=0)
        self.timeout = None if timeout is None else as_amount(timeout, "timeout")
        self._calls: dict[bytes, list[list[float]]] = {}
        self._lock = threading.Condition()
        self._claimed: set[bytes] = set()
        self.log = None if log is None else RunLog(log, space, self.units)
        self.metrics = {name: Measured(self, name) for name in self.units}
        self.refresh()

    def __getitem__(self, name: str) -> Measured:
        """The metric of one of the numbers."""
        if name not in self.units:
            raise KeyError(f"the measurement has no metric {name!r}; it has {', '.join(map(repr, self.units))}")
        return self.metrics[name]

    def __len__(self) -> int:
        """Number of selections measured, the invalid ones included."""
        with self._lock:
            return sum(self._complete(rows) for rows in self._calls.values())

    def selections(self) -> NDArray[np.int64]:
        """Selections measured, shape (n, n_decisions)."""
        with self._lock:
            known = [key for key, rows in self._calls.items() if self._complete(rows)]
        return np.frombuffer(b"".join(known), dtype=np.int64).reshape(-1, self.space.n_decisions).copy()

    def known(
        self, selections: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
        """Which selections are measured, shape (n,), and means and standard errors, twice shape (n, n_metrics).

        Numbers of selections that are invalid or not measured are NaN.
        """
        shape = (len(selections), len(self.units))
        found, means, errors = np.zeros(len(selections), dtype=bool), np.full(shape, np.nan), np.full(shape, np.nan)
        with self._lock:
            for i, row in enumerate(selections):
                rows = self._calls.get(row.tobytes(), ())
                if not self._complete(rows):
                    continue
                found[i], numbers = True, np.array(rows)
                means[i], errors[i] = numbers[0], 0.0
                if len(rows) > 1:
                    means[i], errors[i] = numbers.mean(axis=0), numbers.std(axis=0, ddof=1) / np.sqrt(len(rows))
        return found, means, errors

    def measure(self, selections: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Means and standard errors, twice shape (n, n_metrics); unknown selections are measured first."""
        selections = np.ascontiguousarray(selections, dtype=np.int64)
        known, means, errors = self.known(selections)
        if not known.all():
            rows = {row.tobytes(): row for row in selections[~known]}
            evaluation = current_evaluation()
            keys = [digest(row) for row in rows.values()]
            granted = evaluation.grant(keys, self, repeats=self.repeats, costly=True)
            wave = len(rows) if evaluation.executor is not None else 1
            todo = list(rows.values())[:granted]
            for start in range(0, len(todo), wave):
                self._measure(todo[start : start + wave])
            if granted < len(rows):
                raise OutOfCalls
            _, means, errors = self.known(selections)
        return means, errors

    def record(self, selection: NDArray[np.int64], values: Mapping[str, Any] | None, why: str = "") -> None:
        """Remember a call made elsewhere; None for an invalid selection. Values that are already known are kept."""
        ended = Ended(None, why or "invalid", 0.0) if values is None else Ended(self._numbers(values), "", 0.0)
        self.refresh()
        if not self.known(selection[None])[0][0]:
            self._keep(selection, ended)

    def refresh(self) -> None:
        """Read what other processes have added to the log."""
        if self.log is not None:
            with self._lock:
                for row, values in self.log.read():
                    self._add(row, values)

    # -- calls --------------------------------------------------------------------------------------------------------

    def _measure(self, rows: Sequence[NDArray[np.int64]]) -> None:
        """Measure selections, except for those that another thread or process measures at the same time."""
        evaluation, keys = current_evaluation(), [row.tobytes() for row in rows]
        with ExitStack() as claims:
            self._claim(keys)
            claims.callback(self._release, keys)
            if self.log is not None:
                digests = [hashlib.blake2b(key, digest_size=8).digest() for key in keys]
                claims.enter_context(self.log.claim(digests))
                self.refresh()
            todo = [row for row, known in zip(rows, self.known(np.stack(rows))[0], strict=True) if not known]
            jobs = [row for row in todo for _ in range(self.repeats - len(self._calls.get(row.tobytes(), ())))]
            try:
                self._one_by_one(jobs) if evaluation.executor is None else self._together(jobs, evaluation)
            finally:
                evaluation.note(np.stack(rows))

    def _one_by_one(self, jobs: Sequence[NDArray[np.int64]]) -> None:
        for row in jobs:
            if not self._complete(self._calls.get(row.tobytes(), ())):  # complete if an earlier repeat was invalid
                current_evaluation().count([digest(row)], self, costly=True)
                self._keep(row, self._ended(self.space.labels(row), None))

    def _together(self, jobs: Sequence[NDArray[np.int64]], evaluation: Evaluation) -> None:
        """Make calls in the executor. Wait for all that have begun, even after an error or the time limit."""
        assert evaluation.executor is not None
        failure: BaseException | None = None
        begun: list[tuple[NDArray[np.int64], Any]] = []
        try:
            for row in jobs:
                evaluation.count([digest(row)], self, costly=True)
                begun.append((row, evaluation.executor.submit(call, self.run, self.space.labels(row), self.timeout)))
            while begun:
                row, future = begun[0]
                needless = failure is not None or self._complete(self._calls.get(row.tobytes(), ()))
                if needless and future.cancel():
                    evaluation.uncount(digest(row), self)
                    begun.pop(0)
                    continue
                try:
                    ended = self._ended(self.space.labels(row), future)
                    if not self._complete(self._calls.get(row.tobytes(), ())):
                        self._keep(row, ended)
                    if evaluation.admit is not None:
                        evaluation.admit()
                except (Exception, OutOfTime) as error:
                    failure = failure or error
                begun.pop(0)
        finally:
            for row, future in begun:
                if future.cancel():
                    evaluation.uncount(digest(row), self)
        if failure is not None:
            raise failure

    def _ended(self, labels: dict[Hashable, Hashable], future: Any) -> Ended:
        """Wait for a call; repeat it up to `retries` times if it fails."""
        for left in range(self.retries, -1, -1):
            try:
                ended = call(self.run, labels, self.timeout) if future is None else future.result(self.timeout)
                if ended.values is not None:
                    ended = Ended(self._numbers(ended.values), "", ended.seconds)
                return ended
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
                if self.log is not None:
                    with suppress(OSError):  # such as a full disk; the error of the call is raised below
                        self.log.append(labels, error=text, time=_now())
                if left == 0:
                    message = f"the measurement of {short(labels)} raised {text}"
                    raise MetricError(
                        message if self.retries == 0 else f"{message} ({self.retries} retries)"
                    ) from error
                if future is not None:
                    executor: Any = current_evaluation().executor
                    future = executor.submit(call, self.run, labels, self.timeout)
        raise AssertionError

    def _numbers(self, values: Any) -> dict[str, float]:
        if not isinstance(values, Mapping):
            raise TypeError(f"run must return a mapping of {', '.join(self.units)} to numbers, got {values!r}")
        if missing := [name for name in self.units if name not in values]:
            raise ValueError(f"there is no value of {missing[0]!r} among the numbers, got {short(dict(values))}")
        asked = {name: values[name] for name in self.units}
        numbers = {n: as_number(x, f"{n!r} of a measurement", finite=False, nan=True) for n, x in asked.items()}
        # Other numbers are logged, for later measurements that use them.
        others = {str(name): x for name, x in values.items() if name not in numbers}
        return {**numbers, **{name: float(x) for name, x in others.items() if _is_number(x)}}

    # -- memory -------------------------------------------------------------------------------------------------------

    def _complete(self, rows: Sequence[Sequence[float]]) -> bool:
        return len(rows) >= self.repeats or bool(rows and np.isnan(rows[-1]).all())

    def _add(self, row: NDArray[np.int64], values: Mapping[str, float] | None) -> None:
        numbers = [np.nan if values is None else values[name] for name in self.units]
        numbers = [number if np.isfinite(number) else np.nan for number in numbers]
        self._calls.setdefault(row.tobytes(), []).append(numbers)

    def _keep(self, row: NDArray[np.int64], ended: Ended) -> None:
        with self._lock:
            if self.log is None:
                self._add(row, ended.values)
                return
            entry: dict[str, Any] = {"invalid": ended.invalid}
            if ended.values is not None:
                finite = {name: value if np.isfinite(value) else None for name, value in ended.values.items()}
                entry = {"values": finite}
            try:
                self.log.append(self.space.labels(row), **entry, seconds=round(ended.seconds, 6), time=_now())
            except OSError as error:
                warnings.warn(
                    f"log {self.log.path} could not be written ({error}); the measurement is remembered by this "
                    "process only",
                    RuntimeWarning,
                    stacklevel=2,
                )
                self._add(row, ended.values)
            else:
                self.refresh()  # reads the line just written

    def _claim(self, keys: Sequence[bytes]) -> None:
        """Reserve selections for this thread; wait while another thread measures one of them."""
        with self._lock:
            self._lock.wait_for(lambda: self._claimed.isdisjoint(keys))
            self._claimed.update(keys)

    def _release(self, keys: Sequence[bytes]) -> None:
        with self._lock:
            self._claimed.difference_update(keys)
            self._lock.notify_all()

    def pack(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """All calls that ended, for checkpoints; see `Metric.memories`."""
        with self._lock:
            calls = [(key, numbers) for key, rows in self._calls.items() for numbers in rows]
        rows = np.frombuffer(b"".join(key for key, _ in calls), dtype=np.int64)
        numbers = np.array([numbers for _, numbers in calls], dtype=float)
        return rows.reshape(-1, self.space.n_decisions), numbers.reshape(-1, len(self.units))

    def unpack(self, selections: NDArray[np.int64], numbers: NDArray[np.float64]) -> None:
        """Remember the calls of a checkpoint that are not in the log."""
        if numbers.shape != (len(selections), len(self.units)):
            raise ValueError(f"what was measured has shape {numbers.shape}, not one number for each of {self!r}")
        self.refresh()
        with self._lock:
            known = set(self._calls)
            for row, values in zip(selections, numbers, strict=True):
                if row.tobytes() not in known:
                    self._add(row, None if np.isnan(values).all() else dict(zip(self.units, values, strict=True)))

    def __getstate__(self) -> dict[str, Any]:
        """The data that determine the numbers, for checkpoints; without the memory and its locks."""
        return {"units": self.units, "repeats": self.repeats, "limits": self.limits}

    def __reduce__(self) -> Any:
        raise TypeError("a Measurement cannot be copied or sent to another process; make one there with the same log")

    def __repr__(self) -> str:
        names = ", ".join(f"{name} [{unit}]" if unit else name for name, unit in self.units.items())
        return f"Measurement({names}, {self.space}, {len(self)} measured)"


@dataclass(frozen=True, eq=False, repr=False)
class Measured(Metric):
    """One of the numbers of a `Measurement`."""

    bench: Measurement
    name: str
    space: ChoiceSpace = field(init=False)
    unit: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", self.bench.space)
        object.__setattr__(self, "unit", self.bench.units[self.name])

    @property
    def _column(self) -> int:
        return list(self.bench.units).index(self.name)

    @property
    def costly(self) -> bool:
        return True

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.bench.measure(selections)[0][:, self._column]

    def between(self, selections: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        known, means, _ = self.bench.known(selections)
        low, high = self.limits()
        values = means[:, self._column]
        return np.where(known, values, low), np.where(known, values, high)

    def remembered(self) -> NDArray[np.int64]:
        return self.bench.selections()

    def memories(self) -> Sequence[Memory]:
        return [self.bench]

    def limits(self) -> tuple[float, float]:
        return self.bench.limits.get(self.name, (-np.inf, np.inf))

    @property
    def noisy(self) -> bool:
        return self.bench.repeats > 1

    @property
    def freedom(self) -> float:
        return self.bench.repeats - 1.0 if self.noisy else np.inf

    def value_errors(self, selections: NDArray[np.int64]) -> NDArray[np.float64] | None:
        return self.bench.measure(selections)[1][:, self._column] if self.noisy else None

    def confidence_limits(self, selections: NDArray[np.int64], level: float, sign: float) -> NDArray[np.float64]:
        means, errors = self.bench.measure(selections)
        return (means + sign * standard_errors(level, self.freedom) * errors)[:, self._column]

    def errors(self, selection: NDArray[np.int64]) -> NDArray[np.float64] | None:
        if not self.noisy:
            return None
        return self.over_switches(lambda rows: self.bench.measure(rows)[1][:, self._column], selection)


def call(run: Callable[[Any], Any], labels: dict[Hashable, Hashable], timeout: float | None) -> Ended:
    """Make one call, in this process or in a worker; after the timeout it goes on in a daemon thread."""
    began = time.perf_counter()
    results: list[Any] = []

    def work() -> None:
        try:
            results.append(run(labels))
        except BaseException as error:
            results.append(error)

    if timeout is None:
        try:
            results.append(run(labels))
        except Invalid as error:
            results.append(error)
    else:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(timeout)
    seconds = time.perf_counter() - began
    if not results:
        return Ended(None, f"no answer within {timeout:g} s", seconds)
    if isinstance(results[0], Invalid):
        return Ended(None, str(results[0]) or "invalid", seconds)
    if isinstance(results[0], BaseException):
        raise results[0]
    return Ended(results[0], "", seconds)


def _is_number(x: Any) -> bool:
    if isinstance(x, bool | np.bool_) or not isinstance(x, int | float | np.number) or np.iscomplexobj(x):
        return False
    return not isinstance(x, int) or abs(x) < 1e308


def _elsewhere(selection: dict[Hashable, Hashable]) -> Any:
    raise RuntimeError("this measurement has no run; measure the selection yourself, and tell cggd.Search its numbers")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _units(metrics: Any) -> dict[str, str]:
    if isinstance(metrics, str) or not metrics:
        raise ValueError(f'metrics must be a mapping such as {{"time": "ms"}}, or a list of names, got {metrics!r}')
    units = dict(metrics) if isinstance(metrics, Mapping) else dict.fromkeys(metrics, "")
    for name, unit in units.items():
        if not isinstance(name, str) or not isinstance(unit, str):
            raise TypeError(f"metrics must map names to units, both strings, got {name!r}: {unit!r}")
    return units


def _limits(limits: Any, units: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    out = {}
    for name, (low, high) in dict(limits or {}).items():
        if name not in units:
            raise ValueError(f"limits names {name!r}, which is no metric of the measurement; it has {', '.join(units)}")
        ends = tuple(as_number(end, f"limits of {name!r}", finite=False) for end in (low, high))
        if not ends[0] <= ends[1]:
            raise ValueError(f"limits of {name!r} must be (low, high), got ({low}, {high})")
        out[name] = ends
    return out
