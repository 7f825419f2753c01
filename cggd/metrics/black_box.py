"""Black boxes: a user's function, a device, a regressor."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cggd.checks import as_number, own, short
from cggd.metrics.base import Invalid, Memory, Metric, MetricError, operators, standard_errors
from cggd.metrics.evaluation import Evaluation, OutOfCalls, current_evaluation, digest
from cggd.space import ChoiceSpace, check_space


@dataclass(frozen=True, eq=False, repr=False)
class Function(Metric):
    """A user's function of a selection, cached: a simulator, a training run, a measured device.

    Parameters
    ----------
    space : ChoiceSpace
    function : callable
        Takes one labelled selection (a dict) and returns a number; with `batch`, takes index selections of shape (n,
        n_decisions) and returns n numbers. For a selection that cannot be evaluated, it raises `Invalid`, or returns
        inf or NaN.
    batch : bool
    repeats : int
        Calls per selection, at least 2 for a noisy function. Their mean is the value; their spread gives the standard
        errors for ``weights="confidence"``.
    cache : bool
        Whether values are remembered, so that no selection is evaluated twice in a search.
    costly : bool
        Whether a call takes long. The search then models the function from few calls (`cggd.Model`), and never calls it
        twice for one selection. If one call gives several numbers, use `cggd.Measurement`.
    name, unit : str

    Examples
    --------
    >>> space = ChoiceSpace({"width": [8, 16], "depth": [1, 2]})
    >>> power = Function(space, lambda s: s["width"] * s["depth"] + 1.0, name="power", unit="W")
    >>> power({"width": 16, "depth": 2})
    33.0
    >>> power.replacements(np.array([1, 1]))
    array([17., 33., 17., 33.])
    """

    space: ChoiceSpace
    function: Callable[[Any], Any]
    batch: bool = False
    repeats: int = 1
    cache: bool = True
    costly: bool = field(default=False, kw_only=True)  # pyright: ignore[reportIncompatibleMethodOverride]
    name: str = field(default="function", kw_only=True)
    unit: str = field(default="", kw_only=True)
    _known: dict[bytes, tuple[float, float]] = field(init=False, default_factory=dict)
    _rows: dict[bytes, NDArray[np.int64]] = field(init=False, default_factory=dict)
    _borrowed: bool = field(init=False, default=False)  # whether the memory is that of a plain function

    def __post_init__(self) -> None:
        check_space(self.space)
        if not callable(self.function):
            raise TypeError(f"function must be callable, got {self.function!r}")
        if isinstance(self.repeats, bool) or not isinstance(self.repeats, int) or self.repeats < 1:
            raise ValueError(f"repeats must be a whole number of at least 1, got {self.repeats!r}")

    def on(self, space: ChoiceSpace) -> Any:
        """The constraint that a function which returns bools returns true.

        Examples
        --------
        >>> from cggd import Additive, minimize
        >>> space = ChoiceSpace({"width": [8, 16], "depth": [1, 2]})
        >>> cost = Additive(space, [1, 2, 1, 2], name="cost")
        >>> fits = Function(space, lambda s: s["width"] * s["depth"] >= 32, name="large enough")
        >>> minimize(cost, [fits]).selection
        {'width': 16, 'depth': 2}
        """

        def yes(given: Any) -> Any:
            answer = np.asarray(self.function(given))
            if answer.dtype.kind != "b":
                raise TypeError(f"a function among the constraints must return bools, got {short(answer.tolist())}")
            return answer.astype(float) if self.batch else float(answer)

        return operators.bound(replace(self, function=yes), 1.0, ">=", None, self.name)

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.measure(selections)[0]

    def measure(self, selections: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard error of each selection, both of shape (n,); the error of a single call is 0."""
        evaluation = current_evaluation()
        keep = self.costly or (self.cache and not evaluation.fresh)
        known = self._known if keep else {}
        keys = [digest(row) for row in selections]
        unknown = {key: i for i, key in enumerate(keys) if key not in known}
        if unknown:
            rows = selections[list(unknown.values())]
            results: list[float] = []
            try:
                self._call(rows, list(unknown), evaluation, results)
            finally:  # keep what was measured before a failure
                done = len(results) // self.repeats
                values = np.array(results[: done * self.repeats]).reshape(done, self.repeats)
                spread = values.std(axis=1, ddof=1) if self.repeats > 1 else np.where(np.isnan(values[:, 0]), np.nan, 0)
                found = zip(values.mean(axis=1).tolist(), (spread / np.sqrt(self.repeats)).tolist(), strict=True)
                known.update(zip(unknown, found, strict=False))
                if self.costly:
                    self._rows.update(zip(unknown, rows[:done].copy(), strict=False))
                evaluation.note(rows[:done])
        means, errors = zip(*(known[key] for key in keys), strict=True) if keys else ((), ())
        return np.array(means, dtype=float), np.array(errors, dtype=float)

    def between(self, selections: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        low, high = self.limits()
        found = [self._known.get(digest(row)) for row in selections]
        ends = [(low, high) if one is None else (one[0], one[0]) for one in found]
        lows, highs = zip(*ends, strict=True) if ends else ((), ())
        return np.array(lows, dtype=float), np.array(highs, dtype=float)

    def remembered(self) -> NDArray[np.int64]:
        return np.array(list(self._rows.values()), dtype=np.int64).reshape(-1, self.space.n_decisions)

    def as_costly(self) -> Function:
        if self.costly:
            return self
        twin = replace(self, costly=True)
        own(twin, _known=self._known, _borrowed=True)
        return twin

    def memories(self) -> Sequence[Memory]:
        return [self] if self.costly and not self._borrowed else []

    def pack(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """See `cggd.metrics.base.Memory`."""
        return self.remembered(), np.array([self._known[key] for key in self._rows], dtype=float).reshape(-1, 2)

    def unpack(self, selections: NDArray[np.int64], numbers: NDArray[np.float64]) -> None:
        """See `cggd.metrics.base.Memory`."""
        if numbers.shape != (len(selections), 2):
            raise ValueError(f"what {self.name!r} measured has shape {numbers.shape}")
        for row, (mean, error) in zip(selections, numbers.tolist(), strict=True):
            self._known.setdefault(digest(row), (mean, error))
            self._rows.setdefault(digest(row), row)

    @property
    def noisy(self) -> bool:
        return self.repeats > 1

    def record(self, selection: NDArray[np.int64], values: Mapping[str, float] | None, why: str = "") -> None:
        """See `cggd.metrics.base.Memory`; does nothing unless the metric is costly."""
        if self.costly and (values is None or self.name in values):
            value = np.nan if values is None else as_number(values[self.name], repr(self.name), finite=False)
            key = digest(selection)
            self._known.setdefault(key, (value if np.isfinite(value) else np.nan, 0.0))
            self._rows.setdefault(key, np.array(selection))

    @property
    def calls_each(self) -> int:
        return 0 if self.costly else self.repeats

    @property
    def freedom(self) -> float:
        return self.repeats - 1.0 if self.noisy else np.inf

    def value_errors(self, selections: NDArray[np.int64]) -> NDArray[np.float64] | None:
        return self.measure(selections)[1] if self.noisy else None

    def confidence_limits(self, selections: NDArray[np.int64], level: float, sign: float) -> NDArray[np.float64]:
        means, errors = self.measure(selections)  # of the same calls
        return means + sign * standard_errors(level, self.freedom) * errors if self.noisy else means

    def errors(self, selection: NDArray[np.int64]) -> NDArray[np.float64] | None:
        return self.over_switches(lambda rows: self.measure(rows)[1], selection) if self.noisy else None

    def _call(
        self, rows: NDArray[np.int64], keys: Sequence[bytes], evaluation: Evaluation, results: list[float]
    ) -> None:
        """Call the function `repeats` times on each row, as far as the limit allows, and append the results."""
        allowed = evaluation.grant(keys, self._known, repeats=self.repeats, costly=self.costly)
        short_of = allowed < len(rows)
        rows = np.repeat(rows[:allowed], self.repeats, axis=0)
        keys = [key for key in keys[:allowed] for _ in range(self.repeats)]
        pieces: Sequence[Any]
        if self.batch:
            # An executor does not tell its number of workers; four pieces per core keep them busy.
            workers = 1 if evaluation.executor is None else min(len(rows), 4 * (os.cpu_count() or 1))
            pieces = np.array_split(rows, workers)
        else:
            pieces = [self.space.labels(row) for row in rows]
        for piece, result in zip(pieces, self._run(pieces, keys, evaluation), strict=True):
            n = len(piece) if self.batch else 1
            results.extend(self._checked(result, n, rows[len(results) : len(results) + n]).reshape(-1).tolist())
        if short_of:
            raise OutOfCalls

    def _run(self, pieces: Sequence[Any], keys: Sequence[bytes], evaluation: Evaluation) -> Iterator[Any]:
        futures = [evaluation.executor.submit(self.function, p) for p in pieces] if evaluation.executor else []
        at = 0
        try:
            for i, piece in enumerate(pieces):
                n = len(piece) if self.batch else 1
                evaluation.count(keys[at : at + n], self._known, costly=self.costly)
                at += n
                try:
                    yield futures[i].result() if futures else self.function(piece)
                except Invalid as error:
                    if self.batch and n > 1:
                        raise MetricError(
                            f"metric {self.name!r} raised Invalid for a batch of {n}: {error}; "
                            "a batch function returns NaN for each selection that cannot be evaluated"
                        ) from error
                    yield np.full(1, np.nan) if self.batch else np.nan
                except Exception as error:
                    raise MetricError(
                        f"metric {self.name!r} raised {type(error).__name__}: {error}; at selection {short(piece)}"
                    ) from error
        finally:
            for future in futures:
                future.cancel()

    def _checked(self, result: Any, n: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        try:
            array = np.asarray(result)
        except ValueError:  # ragged
            array = np.asarray(None)
        if array.shape != ((n,) if self.batch else ()) or array.dtype.kind not in "fiu":
            wanted = f"{n} numbers, shape ({n},)" if self.batch else "one number"
            where = short(self.space.labels(rows[0]))
            what = f"{array.dtype} of shape {array.shape}" if isinstance(result, np.ndarray) else repr(result)
            raise MetricError(f"metric {self.name!r} must return {wanted}, got {what}; at selection {where}")
        return np.where(np.isfinite(array), array, np.nan)


class Predictor(Protocol):
    """Anything fitted that predicts, such as a scikit-learn regressor."""

    def predict(self, X: Any, /) -> Any:
        """Predictions for rows of features, (n, n_features) to (n,)."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Predicted(Metric):
    """The prediction of a fitted model over features of the selection.

    Parameters
    ----------
    space : ChoiceSpace
    model : object with ``predict``
    features : callable, optional
        From selections of shape (n, n_decisions) to features of shape (n, n_features). By default `one_hot`.
    name, unit : str

    Examples
    --------
    >>> class Model:
    ...     def predict(self, X):
    ...         return X @ [1.0, 2.0, 0.5, 0.0]
    >>> Predicted(ChoiceSpace.from_sizes([2, 2]), Model(), name="latency").replacements(np.array([1, 0]))
    array([1.5, 2.5, 2.5, 2. ])
    """

    space: ChoiceSpace
    model: Predictor
    features: Callable[[NDArray[np.int64]], Any] | None = None
    name: str = field(default="prediction", kw_only=True)
    unit: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        check_space(self.space)
        if not hasattr(self.model, "predict"):
            raise TypeError(f"model must have a predict method, got {self.model!r}")
        if self.features is not None and not callable(self.features):
            raise TypeError(f"features must be a function of selections, got {self.features!r}")

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        try:
            features = one_hot(self.space, selections) if self.features is None else self.features(selections)
            prediction = np.asarray(self.model.predict(features))
        except Exception as error:
            raise MetricError(
                f"model or features of metric {self.name!r} raised {type(error).__name__}: {error}"
            ) from error
        return prediction[:, 0] if prediction.shape == (len(selections), 1) else prediction


def one_hot(space: ChoiceSpace, selections: NDArray[np.int64]) -> NDArray[np.float64]:
    """Selections as rows of ones at the chosen options, shape (n, n_decisions) to (n, n_options)."""
    rows = np.zeros((len(selections), space.n_options))
    np.put_along_axis(rows, space.layout.flat(selections), 1.0, axis=1)
    return rows
