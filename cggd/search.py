"""The search: relax, descend, guide; one loop that knows no metric and no direction by name."""

from __future__ import annotations

import os
import time
import warnings
import zlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cggd import checkpoint as checkpoints
from cggd.constraints import Constraint, check_constraints
from cggd.directions import Weights
from cggd.guide import Balance, Guide, GuideStep
from cggd.metrics import Evaluation, Executor, Metric, evaluating, table_of, values_of
from cggd.metrics.base import as_number, own
from cggd.problem import Problem
from cggd.relaxation import annealed, sample, softmax
from cggd.result import History, Result, Status

# While violated, R grows by this factor each step; a feasible step takes back what 30 violated ones gave, so that R
# settles where one step in thirty is feasible. Measured on MMKP I07, 12 seeds, loss against the LP bound: 0.77%, and
# 0.80 to 0.94% for factors of 1.02 to 1.10 and 9 to 19 steps: the plateau is flat.
ESCALATION = 1.02
RELIEF = ESCALATION**30
LARGEST_RESCALE = 20.0

# Logits start as noise of this size: it breaks ties and nothing else.
NOISE = 1e-3

# A checkpoint is written this often; a search loses at most as much to a power cut.
CHECKPOINT_SECONDS = 30.0

# A deterministic metric may round differently in a batch than alone; a difference above this share is a change.
CHANGED = 1e-6

# What a selection given as `initial` gets ahead of the other options: it is the first one evaluated, and a few steps
# of the default size undo it.
HEAD_START = 1.0


@dataclass(frozen=True)
class Start:
    """How one start of a search descends.

    Parameters
    ----------
    weights, balance : str
        See `cggd.Guide`.
    learning_rate : float
        Size of the first step, where the task gradient is scaled to a root mean square of 1 per option.
    temperature : (float, float)
        Of the relaxed distribution at the start and after two thirds of the steps.
    """

    weights: Weights = "unit"
    balance: Balance = "equal"
    learning_rate: float = 0.1
    temperature: tuple[float, float] = (10.0, 0.1)


# The paper's rule suits small spaces whose decisions interact, the other one large additive spaces. Neither is always
# best (MMKP I01 and I02 need the paper's), so starts mix them, the likelier one more often.
PAPER = Start()
ADDITIVE = Start(weights="difference", balance="violation")
SEPARABLE = (ADDITIVE, PAPER, ADDITIVE)
INTERACTING = (PAPER, ADDITIVE, PAPER)


@dataclass(frozen=True, eq=False)
class Progress:
    """What a callback sees after each step.

    Attributes
    ----------
    start, step, starts, steps : int
    selection : ndarray of int, shape (n_decisions,)
        The current selection.
    violations : ndarray of shape (n_constraints,)
    best : float or None
        Best feasible objective so far.
    evaluations : int
    seconds : float
    """

    start: int
    step: int
    starts: int
    steps: int
    selection: NDArray[np.int64]
    violations: NDArray[np.float64]
    best: float | None
    evaluations: int
    seconds: float


class SearchError(RuntimeError):
    """An evaluation failed; `result` carries the best feasible selection seen until then."""

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result


def minimize(
    objective: Metric,
    constraints: Sequence[Constraint] | Constraint = (),
    *,
    seed: int = 0,
    steps: int = 600,
    starts: int | Sequence[Start] = 6,
    time_limit: float | None = None,
    max_evaluations: int | None = None,
    no_improvement: int | None = None,
    initial: Mapping[Hashable, Hashable] | ArrayLike | None = None,
    forbid: Mapping[Hashable, Iterable[Hashable]] | ArrayLike | None = None,
    rescale: float = 1.2,
    callback: Callable[[Progress], Any] | None = None,
    executor: Executor | None = None,
    checkpoint: str | os.PathLike | None = None,
    resume: bool = False,
) -> Result:
    """Find a selection that minimises a metric under bounds on others.

    Parameters
    ----------
    objective : Metric
    constraints : list of Constraint
        Such as ``[latency <= 5.0, accuracy >= 90]``.
    seed : int
        The same seed gives the same trajectory.
    steps : int
        Steps of each start.
    starts : int or list of Start
        Independent starts, which share the best selection found. A number of them mixes the paper's rule and the one
        for large additive spaces, the likelier one first.
    time_limit : float, optional
        Seconds after which the search stops. With several starts each gets an equal share of what is left.
    max_evaluations : int, optional
        Calls of black-box functions after which the search stops; a batch in progress is finished.
    no_improvement : int, optional
        Steps without a better feasible selection after which a start ends.
    initial : mapping or array-like, optional
        A selection to begin with: labels, of all decisions or some, or indices of all.
    forbid : mapping of decision to options, or bool array of shape (n_options,), optional
        Options that must not be chosen.
    rescale : float
        R > 1 of the guide. It grows while the selection violates a constraint and shrinks back when it does not.
    callback : callable, optional
        Called with a `Progress` after each step; a true return value stops the search.
    executor : object with the `concurrent.futures.Executor` interface, optional
        Black-box evaluations of a batch run through it.
    checkpoint : path, optional
        File in which the search saves its state, every 30 seconds and when it stops.
    resume : bool
        Continue from `checkpoint` if that file exists. The trajectory is that of an uninterrupted run.

    Returns
    -------
    Result
        A selection in it satisfied every constraint when evaluated afresh. Ctrl-C ends the search and returns too.

    Raises
    ------
    SearchError
        If a metric raises or returns something else than numbers; it carries the result so far.
    ValueError, TypeError
        If an argument is wrong.

    Notes
    -----
    The task gradient is the advantage of each option, ``q - <p, q>`` with the replacement table q of the objective at
    a selection drawn from the relaxed distribution p; for a separable objective that is exact. The guide modifies it
    (CGGD; Van Baelen & Karsmakers, 2023), and plain descent with a linearly decaying step follows it.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> space = ChoiceSpace({"stem": ["small", "large"], "head": ["small", "large"]})
    >>> error = Additive(space, [9.0, 4.0, 7.0, 1.0], name="error", unit="%")
    >>> latency = Additive(space, [1.0, 3.0, 1.0, 4.0], name="latency", unit="ms")
    >>> result = minimize(error, [latency <= 5.0])
    >>> result.selection, result.value
    ({'stem': 'small', 'head': 'large'}, 10.0)
    """
    options = dict(locals())
    return solve(Problem(options.pop("objective"), check_constraints(options.pop("constraints"))), **options)


def maximize(objective: Metric, constraints: Sequence[Constraint] | Constraint = (), **options: Any) -> Result:
    """Find a selection that maximises a metric under bounds on others; `options` are those of `minimize`.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> space = ChoiceSpace.from_sizes([2, 2])
    >>> maximize(Additive(space, [1, 2, 3, 5]), Additive(space, [0, 3, 0, 2]) <= 2).indices
    array([0, 1])
    """
    return solve(Problem(objective, check_constraints(constraints), "maximize"), **options)


def solve(problem: Problem, **options: Any) -> Result:
    """Minimise or maximise as the problem says; `options` are those of `minimize`."""
    settings = {**_DEFAULTS, **options}
    if unknown := [name for name in options if name not in _DEFAULTS]:
        raise TypeError(f"unknown option {unknown[0]!r}; a search takes {', '.join(_DEFAULTS)}")
    return _Search(problem, _Options(**settings)).run()


_DEFAULTS: dict[str, Any] = dict(minimize.__kwdefaults__ or {})


@dataclass(frozen=True, eq=False)
class _Options:
    """The options of `minimize`, checked."""

    seed: int
    steps: int
    starts: int | Sequence[Start]
    time_limit: float | None
    max_evaluations: int | None
    no_improvement: int | None
    initial: Any
    forbid: Any
    rescale: float
    callback: Callable[[Progress], Any] | None
    executor: Executor | None
    checkpoint: str | os.PathLike | None
    resume: bool

    def __post_init__(self) -> None:
        own(self, seed=_whole(self.seed, "seed", least=0), steps=_whole(self.steps, "steps", least=1))
        if isinstance(self.starts, Sequence) and not isinstance(self.starts, str):
            if not self.starts or not all(isinstance(start, Start) for start in self.starts):
                raise TypeError(f"starts must be a number, or a list of Start with at least one, got {self.starts!r}")
        else:
            own(self, starts=_whole(self.starts, "starts", least=1))
        for name in ("max_evaluations", "no_improvement"):
            if getattr(self, name) is not None:
                own(self, **{name: _whole(getattr(self, name), name, least=1)})
        if self.time_limit is not None and as_number(self.time_limit, "time_limit", finite=False) <= 0:
            raise ValueError(f"time_limit must be more than 0 seconds, got {self.time_limit}")
        if as_number(self.rescale, "rescale") <= 1:
            raise ValueError(f"rescale must be greater than 1, got {self.rescale}")
        if self.callback is not None and not callable(self.callback):
            raise TypeError(f"callback must be callable, got {self.callback!r}")
        if self.executor is not None and not hasattr(self.executor, "submit"):
            raise TypeError(f"executor must have a submit method as in concurrent.futures, got {self.executor!r}")
        if self.resume and self.checkpoint is None:
            raise ValueError("resume=True needs checkpoint, the file to continue from")


def _whole(value: Any, argument: str, *, least: int) -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"{argument} must be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{argument} must be at least {least}, got {value}")
    return int(value)


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A selection that satisfied every constraint when it was met."""

    value: float
    selection: NDArray[np.int64]
    values: NDArray[np.float64]


class _Search:
    """The state of a search and what moves it. Everything that a step changes is set at its end, at once."""

    def __init__(self, problem: Problem, options: _Options) -> None:
        self.problem, self.options = problem, options
        self.space, self.layout = problem.objective.space, problem.objective.space.layout
        self.allowed = self.space.allowed(options.forbid)
        self.initial = self._initial(options.initial)
        self.starts: list[Start] = (
            list(islice(cycle(SEPARABLE if problem.objective.separable else INTERACTING), options.starts))
            if isinstance(options.starts, int)
            else list(options.starts)
        )
        self.evaluation = Evaluation(options.executor, self.allowed)
        self.began = time.perf_counter()
        self.saved = self.began
        self.start = 0
        self.candidates: list[_Candidate] = []
        self.nearest: tuple[float, NDArray[np.int64]] | None = None
        self.history: list[tuple[int, float, NDArray[np.float64], float, float]] = []
        self._begin()

    def _initial(self, initial: Any) -> NDArray[np.int64] | None:
        if initial is None:
            return None
        chosen = self.space.partial(initial) if isinstance(initial, Mapping) else self.space.indices(initial)
        if self.allowed is not None:
            given = np.flatnonzero(chosen >= 0)
            wrong = given[~self.allowed[self.space.offsets[given] + chosen[given]]]
            if len(wrong):
                at = int(self.space.offsets[wrong[0]] + chosen[wrong[0]])
                raise ValueError(f"initial takes {self.space.name_option(at)}, which forbid rules out")
        return chosen

    def _begin(self) -> None:
        """Set the state to the first step of the current start."""
        self.rng = np.random.default_rng([self.options.seed, self.start])
        self.step = self.stale = 0
        self.rescale, self.scale = self.options.rescale, 0.0
        self.logits = NOISE * self.rng.standard_normal(self.space.n_options)
        if self.initial is not None:
            given = np.flatnonzero(self.initial >= 0)
            self.logits[self.space.offsets[given] + self.initial[given]] += HEAD_START
        if self.allowed is not None:
            self.logits[~self.allowed] = -np.inf
        self.rng_state = self.rng.bit_generator.state
        self.rng_state = self.rng.bit_generator.state
        self.started = self.seconds
        self._slope: NDArray[np.float64] | None = None
        if self.start < len(self.starts) and self.problem.constraints:
            how = self.starts[self.start]
            self.guide = Guide(
                self.problem.constraints, rescale=self.options.rescale, weights=how.weights, balance=how.balance
            )

    # -- running ----------------------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    @property
    def best(self) -> float | None:
        return self.candidates[-1].value if self.candidates else None

    def run(self) -> Result:
        if (constraint := self.problem.impossible()) is not None:
            end = constraint.metric.limits()[0 if constraint.sign > 0 else 1]
            side = "less" if constraint.sign > 0 else "more"
            return self._result(f"{constraint!r} cannot hold: no selection has {side} than {end:.6g}", proved=True)
        path = None if self.options.checkpoint is None else Path(self.options.checkpoint)
        if path is not None and self.options.resume and path.exists():
            self._restore(*checkpoints.load(path))
        failure: Exception | None = None
        try:
            with evaluating(self.evaluation):
                stopped = self._loop(path)
        except KeyboardInterrupt:
            stopped = "interrupted"
        except Exception as error:
            failure, stopped = error, f"{type(error).__name__}: {error}"
        if path is not None:
            checkpoints.save(path, *self._snapshot())
        result = self._result(stopped, failed=failure is not None)
        if failure is not None:
            found = f"the best selection until then is in .result, {result.objective} = {result.value}"
            raise SearchError(
                f"{stopped} ({found if result.feasible else 'no feasible selection until then'})", result
            ) from failure
        return result

    def _loop(self, path: Path | None) -> str:
        while self.start < len(self.starts):
            while self.step < self.options.steps and not (self.history and self._exhausted()):
                if self.history and (reason := self._reason_to_stop()):
                    return reason
                self._advance()
                if path is not None and time.perf_counter() - self.saved > CHECKPOINT_SECONDS:
                    checkpoints.save(path, *self._snapshot())
                    self.saved = time.perf_counter()
            self.start += 1
            self._begin()
        return self._reason_to_stop() or f"all {len(self.starts)} starts done"

    def _advance(self) -> None:
        """One step: gradient of the objective, guide, descent."""
        gradient, scale = self._task_gradient()
        step = self._guided(gradient)
        value, improved = self._look_at(step)
        if step.feasible:
            rescale = max(self.rescale / RELIEF, self.options.rescale)
        else:
            rescale = min(self.rescale * ESCALATION, max(LARGEST_RESCALE, self.options.rescale))
        size = self.starts[self.start].learning_rate * (1.0 - self._share_done())
        logits = self.logits - size * step.gradient
        best = np.nan if self.best is None else self.best
        self.history.append((self.start, value, step.violations, best, self.seconds))
        self.logits, self.scale, self.rescale, self.rng_state = logits, scale, rescale, self.rng.bit_generator.state
        self.step, self.stale = self.step + 1, 0 if improved else self.stale + 1
        if self.options.callback is not None and self.options.callback(self._progress(step)):
            self.asked_to_stop = True

    def _task_gradient(self) -> tuple[NDArray[np.float64], float]:
        """Negative advantage of each option, scaled to a root mean square of at most 1, and the scale."""
        if self._slope is not None:
            return self._slope, self.scale
        objective, layout = self.problem.objective, self.layout
        if objective.separable:
            probabilities = 1.0 / layout.spread(layout.sizes.astype(float))
            selection = layout.argmax(self.logits)
        else:
            hot, cold = self.starts[self.start].temperature
            temperature = annealed(self.step, self.options.steps, start=hot, end=cold)
            probabilities = softmax(self.logits, layout, temperature=temperature)
            selection = sample(self.logits / temperature, layout, self.rng)
        gradient = table_of(objective, selection).astype(float)
        gradient *= self.problem.sign
        gradient -= layout.spread(layout.reduce(np.add, probabilities * gradient))
        if self.allowed is not None:
            gradient[~self.allowed] = 0.0
        scale = max(self.scale, float(np.sqrt(np.mean(gradient**2))))
        if scale > 0:
            gradient /= scale
        if objective.separable:
            self._slope = gradient
        return gradient, scale

    def _guided(self, gradient: NDArray[np.float64]) -> GuideStep:
        if self.problem.constraints:
            return self.guide.step(gradient, self.logits, rescale=self.rescale)
        none = np.zeros(0)
        return GuideStep(gradient, np.zeros_like(gradient), self.layout.argmax(self.logits), none, none)

    def _look_at(self, step: GuideStep) -> tuple[float, bool]:
        """Keep what the step's selection is good for; its objective, and whether it is the best feasible one yet."""
        if step.feasible:
            value = float(values_of(self.problem.objective, step.selection[None])[0])
            improved = self.best is None or self.problem.sign * value < self.problem.sign * self.best
            if improved:
                self.candidates.append(_Candidate(value, step.selection, step.values))
            return value, improved
        if not self.candidates:
            sizes = [max(1.0, abs(c.bound)) for c in self.problem.constraints]
            total = float(np.sum(step.violations / sizes))
            if self.nearest is None or total < self.nearest[0]:
                self.nearest = (total, step.selection)
        return np.nan, False

    # -- when to stop -----------------------------------------------------------------------------------------------

    asked_to_stop = False

    def _share_done(self) -> float:
        """How much of the current start is done, by steps or by its share of the time."""
        share = self.step / self.options.steps
        if self.options.time_limit is not None:
            left = (self.options.time_limit - self.started) / (len(self.starts) - self.start)
            share = max(share, min(1.0, (self.seconds - self.started) / max(left, 1e-9)))
        return share

    def _exhausted(self) -> bool:
        """Whether the current start has used up its time, or its patience."""
        stale = self.options.no_improvement
        return (stale is not None and self.stale >= stale) or self._share_done() >= 1.0

    def _reason_to_stop(self) -> str | None:
        options, bound = self.options, self.problem.bound
        if self.asked_to_stop:
            return "stopped by the callback"
        if self.best is not None and bound is not None and self.best == bound:
            return "no selection can be better"
        if options.time_limit is not None and self.seconds >= options.time_limit:
            return f"time limit of {options.time_limit:g} s"
        if options.max_evaluations is not None and self.evaluation.calls >= options.max_evaluations:
            return f"limit of {options.max_evaluations} evaluations"
        return None

    def _progress(self, step: GuideStep) -> Progress:
        return Progress(
            start=self.start,
            step=self.step,
            starts=len(self.starts),
            steps=self.options.steps,
            selection=step.selection,
            violations=step.violations,
            best=self.best,
            evaluations=self.evaluation.calls,
            seconds=self.seconds,
        )

    # -- ending -----------------------------------------------------------------------------------------------------

    def _result(self, stopped: str, *, proved: bool = False, failed: bool = False) -> Result:
        """The best candidate that satisfies every constraint when evaluated afresh."""
        chosen: _Candidate | None = None
        rows, nearest = [], None
        try:
            with evaluating(Evaluation(self.options.executor, fresh=True)) as evaluation:
                for candidate in reversed(self.candidates):
                    fresh = self._afresh(candidate)
                    if all(c.satisfied(v) for c, v in zip(self.problem.constraints, fresh.values, strict=True)):
                        chosen = fresh
                        break
                shown = chosen.selection if chosen else self.nearest[1] if self.nearest else None
                if chosen is None and self.candidates:
                    shown = self.candidates[-1].selection
                if shown is not None:
                    rows = [c.report(shown) for c in self.problem.constraints]
            self.evaluation.calls += evaluation.calls
        except Exception:
            if not failed:
                raise
            # The metric that ended the search fails here as well: what cannot be checked is not called feasible.
            chosen, shown = None, self.candidates[-1].selection if self.candidates else None
        if chosen is None and shown is not None:
            nearest = self.space.labels(shown)
        bound = self.problem.bound
        if chosen is not None:
            status = Status.OPTIMAL if chosen.value == bound else Status.FEASIBLE
        else:
            status = Status.INFEASIBLE if proved else Status.UNKNOWN
        return Result(
            selection=None if chosen is None else self.space.labels(chosen.selection),
            indices=None if chosen is None else chosen.selection,
            value=None if chosen is None else chosen.value,
            status=status,
            stopped=stopped,
            constraints=rows,
            nearest=nearest,
            bound=bound,
            history=self._history(),
            evaluations=self.evaluation.calls,
            seconds=self.seconds,
            objective=self.problem.objective.name,
            unit=self.problem.objective.unit,
            sense=self.problem.sense,
            seed=self.options.seed,
        )

    def _afresh(self, candidate: _Candidate) -> _Candidate:
        """Evaluate everything on a candidate once more, and say so where a metric answers differently."""
        row = candidate.selection[None]
        metrics = [self.problem.objective, *(c.metric for c in self.problem.constraints)]
        fresh = [float(values_of(metric, row)[0]) for metric in metrics]
        for metric, old, new in zip(metrics, (candidate.value, *candidate.values), fresh, strict=True):
            if not metric.noisy and abs(new - old) > CHANGED * max(1.0, abs(old)):
                warnings.warn(
                    f"metric {metric.name!r} changed its answer for one selection from {old:.6g} to {new:.6g}; "
                    "if it is noisy, make it a Function with repeats of at least 2",
                    stacklevel=2,
                )
        return _Candidate(fresh[0], candidate.selection, np.array(fresh[1:]))

    def _history(self) -> History:
        start, value, violation, best, seconds = zip(*self.history, strict=True) if self.history else ((),) * 5
        return History(
            np.array(start, dtype=np.int64),
            np.array(value, dtype=float),
            np.array(violation, dtype=float).reshape(len(start), len(self.problem.constraints)),
            np.array(best, dtype=float),
            np.array(seconds, dtype=float),
        )

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def _fingerprint(self) -> dict[str, Any]:
        """What must agree for a checkpoint to continue this search."""
        return {
            "layout": zlib.crc32(np.ascontiguousarray(self.space.offsets).tobytes()),
            "objective": self.problem.objective.name,
            "constraints": [repr(c) for c in self.problem.constraints],
            "sense": self.problem.sense,
            "seed": self.options.seed,
            "steps": self.options.steps,
            "starts": [asdict(s) | {"temperature": list(s.temperature)} for s in self.starts],
            "rescale": self.options.rescale,
        }

    def _snapshot(self) -> tuple[dict[str, Any], dict[str, NDArray]]:
        names = ("start", "step", "stale", "rescale", "scale")
        facts = {
            "search": self._fingerprint(),
            "rng": self.rng_state,
            "seconds": self.seconds,
            "calls": self.evaluation.calls,
        }
        facts |= {name: getattr(self, name) for name in names}
        none = np.zeros((0, self.space.n_decisions), dtype=np.int64)
        arrays = {
            "logits": self.logits,
            "candidate_value": np.array([c.value for c in self.candidates]),
            "candidate_selection": np.array([c.selection for c in self.candidates]) if self.candidates else none,
            "candidate_values": np.array([c.values for c in self.candidates]),
            **{f"history_{name}": array for name, array in vars(self._history()).items()},
        }
        if self.nearest is not None:
            arrays |= {"nearest": self.nearest[1], "nearest_total": np.array(self.nearest[0])}
        return facts, arrays

    def _restore(self, facts: dict[str, Any], arrays: dict[str, NDArray]) -> None:
        for name, mine in self._fingerprint().items():
            if facts["search"].get(name) != mine:
                raise ValueError(
                    f"checkpoint {self.options.checkpoint} belongs to another search: its {name} is "
                    f"{facts['search'].get(name)!r}, here it is {mine!r}"
                )
        self.start = facts["start"]
        self._begin()
        for name in ("step", "stale", "rescale", "scale"):
            setattr(self, name, facts[name])
        self.rng.bit_generator.state = self.rng_state = facts["rng"]
        self.began -= facts["seconds"]
        self.evaluation.calls = facts["calls"]
        self.logits = arrays["logits"]
        columns = (arrays[f"candidate_{name}"] for name in ("value", "selection", "values"))
        self.candidates = [_Candidate(float(v), s, c) for v, s, c in zip(*columns, strict=True)]
        if "nearest" in arrays:
            self.nearest = (float(arrays["nearest_total"]), arrays["nearest"])
        rows = [arrays[f"history_{name}"] for name in ("start", "value", "violation", "best", "seconds")]
        self.history = [(int(s), float(v), c, float(b), float(t)) for s, v, c, b, t in zip(*rows, strict=True)]
