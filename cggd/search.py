"""The search: relax, descend, guide; one loop that knows no metric and no direction by name."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cggd import checkpoint as checkpoints
from cggd.constraints import Constraint, check_constraints
from cggd.feasibility import conflict_of_shares, seek
from cggd.grid import grid, proved
from cggd.guide import Guide, Observation, allowed_by
from cggd.metrics import Evaluation, Executor, Metric, afresh, evaluating, table_of, values_of
from cggd.options import Options, Progress, Start
from cggd.polish import Finding, polish
from cggd.presolve import impossible
from cggd.problem import Problem
from cggd.relaxation import annealed, sample, softmax
from cggd.relaxed import Relaxed, relax
from cggd.result import History, Result, Status
from cggd.safeguard import Safeguard, SafeguardState

# While violated, R grows by this factor each step; a feasible step takes back what 30 violated ones gave, so that R
# settles where one step in thirty is feasible. Measured on MMKP I07, 12 seeds, loss against the LP bound: 0.77%, and
# 0.80 to 0.94% for factors of 1.02 to 1.10 and 9 to 19 steps: the plateau is flat.
ESCALATION = 1.02
RELIEF = ESCALATION**30
LARGEST_RESCALE = 20.0

# A decaying step ends at 0, where no direction could act.
SMALLEST_STEP = 1e-9

# What the look for a feasible selection may take, once, after a start that met none.
SEEK_SECONDS = 10.0

# Share of a time limit that descents get before polishing: of problems with a linear form, whose cores an exact solver
# takes on, and of others.
DESCENT_SHARE = {True: 0.1, False: 0.8}

# Descents end 0.5 to 2% above the bound on large sums, so nearer than this share to it they have nothing to find.
NEAR = 1e-3

# Logits start as noise of this size: it breaks ties and nothing else.
NOISE = 1e-3

# A checkpoint is written this often; a search loses at most as much to a power cut.
CHECKPOINT_SECONDS = 30.0

# A deterministic metric may round differently in a batch than alone; a difference above this share is a change.
CHANGED = 1e-6

# What a selection given as `initial` gets ahead of the other options: it is the first one evaluated, and a few steps
# of the default size undo it.
HEAD_START = 1.0


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
    patience: int = 100,
    polish: bool = True,
    gap: float = 0.0,
    callback: Callable[[Progress], Any] | None = None,
    executor: Executor | None = None,
    checkpoint: str | PathLike | None = None,
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
    patience : int
        Violated steps in a row after which the safeguard leads back to the best feasible selection.
    polish : bool
        Before the descent, find a bound that no selection can beat, where the problem is linear; after it, improve the
        best selection: by exact solution of reduced cores where the problem is linear, by trying all selections where
        they are few and stored, by switches otherwise. With a `time_limit` what is left of it is used, unless
        optimality is proved; without one, about as long as a start takes.
    gap : float
        Stop as soon as the value is within this share of the bound; 0 asks for the optimum.
    callback : callable, optional
        Called with a `Progress` after each step, and while the best selection is polished; a true return value stops
        the search.
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
    Where the first start meets no feasible selection, `cggd.find_feasible` looks for one, or proves that there is none.

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
    return _Search(problem, Options(**settings)).run()


_DEFAULTS: dict[str, Any] = dict(minimize.__kwdefaults__ or {})


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A selection with its objective and the values of the constraints' metrics, as they were when it was met."""

    value: float
    selection: NDArray[np.int64]
    values: NDArray[np.float64]


class _Search:
    """The state of a search and what moves it.

    What a step changes is set at its end, so that an interruption leaves the state of the step before; candidates alone
    are kept as soon as they are met.
    """

    def __init__(self, problem: Problem, options: Options) -> None:
        self.problem, self.options = problem, options
        self.space, self.layout = problem.space, problem.space.layout
        self.allowed = self.space.allowed(options.forbid)
        self.initial = self._initial(options.initial)
        self.starts = options.several_starts(separable=problem.objective.separable)
        self.evaluation = Evaluation(options.executor, self.allowed)
        self.began = self.saved = time.perf_counter()
        self.start = 0
        self.candidates: list[_Candidate] = []
        self.nearest: tuple[float, _Candidate] | None = None  # by total violation
        self.history: list[tuple[int, float, NDArray[np.float64], float, float]] = []
        self.asked_to_stop = self.sought = False
        self.step_of_values = grid(problem.objective) if options.polish else 0.0
        self.relaxed: Relaxed | None = None
        self.bound = problem.bound
        self.proof = next((reason for c in problem.constraints if (reason := impossible(c, self.allowed))), None)
        self.proof = self.proof or conflict_of_shares(problem.constraints, self.allowed)
        self._begin()

    def _initial(self, initial: Any) -> NDArray[np.int64] | None:
        if initial is None:
            return None
        try:
            chosen = self.space.partial(initial) if isinstance(initial, Mapping) else self.space.indices(initial)
        except (ValueError, TypeError) as error:
            raise type(error)(f"initial is not a selection: {error}") from None
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
        self.started = self.seconds
        self.slope: NDArray[np.float64] | None = None
        self.guarded = SafeguardState(self.candidates[-1].selection if self.candidates else None)
        if self.start < len(self.starts) and self.problem.constraints:
            how = self.starts[self.start]
            rule = {"rescale": self.options.rescale, "weights": how.weights, "balance": how.balance}
            self.safeguard = Safeguard(Guide(self.problem.constraints, **rule), self.options.patience)

    # -- running ----------------------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    @property
    def best(self) -> float | None:
        return self.candidates[-1].value if self.candidates else None

    def run(self) -> Result:
        path: Path | None = self.options.checkpoint  # pyright: ignore[reportAssignmentType] - Options made it one
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
        try:
            if path is not None:
                checkpoints.save(path, *self._snapshot())
        except KeyboardInterrupt:
            stopped = "interrupted"
        except Exception as error:
            failure = failure or error
        try:
            result = self._result(stopped, self._verified())
        except KeyboardInterrupt:
            result = self._result("interrupted while the selection was evaluated afresh", None)
        except Exception as error:
            # What cannot be evaluated afresh is not called feasible.
            failure = failure or error
            result = self._result(f"{type(failure).__name__}: {failure}", None)
        if failure is not None:
            found = f"the best selection until then is in .result, {result.objective} = {result.value}"
            found = found if result.feasible else "no feasible selection until then"
            raise SearchError(f"{type(failure).__name__}: {failure} ({found})", result) from failure
        return result

    def _loop(self, path: Path | None) -> str:
        if self.options.polish and self._reason_to_stop() is None:
            self._relax()
        while not self._near() and self.start < len(self.starts):
            while self.step < self.options.steps and not (self.history and self._exhausted()):
                if reason := self._reason_to_stop():
                    return reason
                self._advance()
                if path is not None and time.perf_counter() - self.saved > CHECKPOINT_SECONDS:
                    checkpoints.save(path, *self._snapshot())
                    self.saved = time.perf_counter()
            if not self.candidates and not self.sought and self.problem.constraints:
                self._seek()
            self.start += 1
            if self.start < len(self.starts):
                self._begin()
        if self.options.polish:
            self._polish()
        return self._reason_to_stop() or f"all {len(self.starts)} starts done"

    def _relax(self) -> None:
        """A bound from the linear relaxation, and what selection it comes with."""
        left = None if self.options.time_limit is None else self.options.time_limit * DESCENT_SHARE[True]
        self.relaxed = relax(self.problem, self.allowed, time_limit=left, stop=self._stopped)
        if self.relaxed is None:
            return
        if self.relaxed.infeasible:
            self.proof = self.relaxed.proof
            return
        self._take(Finding(self.relaxed.selection, self.relaxed.bound))
        self.guarded = replace(self.guarded, witness=self.candidates[-1].selection if self.candidates else None)

    def _polish(self) -> None:
        """Improve the best selection, up to a proof that no better one exists."""
        if self._stopped() or self.proof is not None:
            return
        left = None if self.options.time_limit is None else self.options.time_limit - self.seconds
        best = self.candidates[-1].selection if self.candidates else None
        how = {"step": self.step_of_values, "seed": self.options.seed, "time_limit": left, "stop": self._stopped}
        for finding in polish(self.problem, self.relaxed, best, self.allowed, **how):
            if finding is not None:
                self._take(finding)
            if self.options.callback is not None and self.options.callback(self._progress(None)):
                self.asked_to_stop = True
            if self._reason_to_stop():
                return

    def _take(self, finding: Finding) -> None:
        """Keep a selection and a bound that came by other means than descent."""
        sign, selection = self.problem.sign, finding.selection
        self.proof = self.proof or finding.proof
        if finding.bound is not None:
            known = finding.bound if self.bound is None else self.bound
            self.bound = sign * max(sign * known, sign * finding.bound)
        if selection is None:
            return
        value = float(values_of(self.problem.objective, selection[None])[0])
        if self.best is None or sign * value < sign * self.best:
            values = np.array([float(c.values(selection[None])[0]) for c in self.problem.constraints])
            self.candidates.append(_Candidate(value, selection, values))

    def _gap(self) -> float:
        """Distance of the best value to the bound, as a share of the bound."""
        if self.best is None or self.bound is None:
            return np.inf
        return abs(self.best - self.bound) / max(abs(self.bound), 1e-12)

    def _near(self) -> bool:
        """Whether a descent has nothing to find any more."""
        return self.relaxed is not None and self._gap() <= NEAR

    def _optimal(self, value: float) -> bool:
        sign = self.problem.sign
        return self.bound is not None and proved(sign * value, sign * self.bound, self.step_of_values)

    def _stopped(self) -> bool:
        return self._reason_to_stop() is not None

    def _seek(self) -> None:
        """Look for a feasible selection by other means than descent, or for a proof that there is none."""
        limit = SEEK_SECONDS
        if self.options.time_limit is not None:
            limit = min(limit, max(self.options.time_limit - self.seconds, 0.0) / 2)
        start = None if self.nearest is None else self.nearest[1].selection
        found = seek(
            self.space,
            self.problem.constraints,
            self.allowed,
            seed=self.options.seed,
            time_limit=limit,
            start=start,
            stop=lambda: self._reason_to_stop() is not None,
        )
        if found.indices is not None:
            values = np.array([row.value for row in found.constraints])
            value = float(values_of(self.problem.objective, found.indices[None])[0])
            self.candidates.append(_Candidate(value, found.indices, values))
        if found.status is Status.INFEASIBLE:
            self.proof = found.proof
        self.sought = True

    def _advance(self) -> None:
        """One step: gradient of the objective, descent, guide."""
        gradient, scale = self._task_gradient()
        size = max(self.starts[self.start].learning_rate * (1.0 - self._share_done()), SMALLEST_STEP)
        if self.problem.constraints:
            floor = size * self.safeguard.guide.epsilon
            step = self.safeguard.step(self.logits, -size * gradient, self.guarded, floor=floor, rescale=self.rescale)
            logits, guarded, seen = step.logits, step.state, step.seen
        else:
            none = np.zeros(0)
            seen = Observation(self.layout.argmax(self.logits), none, none, allowed_by(self.logits))
            logits, guarded = self.logits - size * gradient, self.guarded
        value, improved = self._look_at(seen)
        if seen.feasible:
            rescale = max(self.rescale / RELIEF, self.options.rescale)
        else:
            rescale = min(self.rescale * ESCALATION, max(LARGEST_RESCALE, self.options.rescale))
        if seen.feasible:  # the best one is the witness, not the last
            guarded = replace(guarded, witness=self.candidates[-1].selection)
        best = np.nan if self.best is None else self.best
        self.history.append((self.start, value, seen.violations, best, self.seconds))
        self.logits, self.guarded, self.scale, self.rescale = logits, guarded, scale, rescale
        self.rng_state = self.rng.bit_generator.state
        self.step, self.stale = self.step + 1, 0 if improved else self.stale + 1
        if self.options.callback is not None and self.options.callback(self._progress(seen)):
            self.asked_to_stop = True

    def _task_gradient(self) -> tuple[NDArray[np.float64], float]:
        """Negative advantage of each option, scaled to a root mean square of at most 1, and the scale."""
        if self.slope is not None:
            return self.slope, self.scale
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
            self.slope = gradient
        return gradient, scale

    def _look_at(self, seen: Observation) -> tuple[float, bool]:
        """Keep what a selection is good for; its objective, and whether it is the best feasible one yet."""
        if seen.feasible:
            value = float(values_of(self.problem.objective, seen.selection[None])[0])
            improved = self.best is None or self.problem.sign * value < self.problem.sign * self.best
            if improved:
                self.candidates.append(_Candidate(value, seen.selection, seen.values))
            return value, improved
        if not self.candidates:
            sizes = [max(1.0, abs(c.bound)) for c in self.problem.constraints]
            total = float(np.sum(seen.violations / sizes))
            if self.nearest is None or total < self.nearest[0]:
                self.nearest = (total, _Candidate(np.nan, seen.selection, seen.values))
        return np.nan, False

    # -- when to stop -----------------------------------------------------------------------------------------------

    def _share_done(self) -> float:
        """How much of the current start is done, by steps or by its share of the time."""
        share = self.step / self.options.steps
        if self.options.time_limit is not None:
            limit = self.options.time_limit * (DESCENT_SHARE[self.relaxed is not None] if self.options.polish else 1.0)
            left = (limit - self.started) / (len(self.starts) - self.start)
            share = max(share, min(1.0, (self.seconds - self.started) / max(left, 1e-9)))
        return share

    def _exhausted(self) -> bool:
        """Whether the current start has used up its time, or its patience."""
        stale = self.options.no_improvement
        return (stale is not None and self.stale >= stale) or self._share_done() >= 1.0

    def _reason_to_stop(self) -> str | None:
        options = self.options
        if self.proof is not None:
            return self.proof
        if self.asked_to_stop:
            return "stopped by the callback"
        if self.best is not None and self._optimal(self.best):
            return "no selection can be better"
        if self._gap() <= options.gap:
            return f"within a gap of {options.gap:g}"
        if not self.history and not self.candidates:
            return None  # one step is always made
        if options.time_limit is not None and self.seconds >= options.time_limit:
            return f"time limit of {options.time_limit:g} s"
        if options.max_evaluations is not None and self.evaluation.calls >= options.max_evaluations:
            return f"limit of {options.max_evaluations} evaluations"
        return None

    def _progress(self, seen: Observation | None) -> Progress:
        """Where the search stands: at what a step saw, or, while it polishes, at the best candidate."""
        last = self.candidates[-1] if self.candidates else None
        return Progress(
            phase="descent" if seen is not None else "polish",
            start=self.start,
            step=self.step,
            starts=len(self.starts),
            steps=self.options.steps,
            selection=seen.selection if seen is not None else None if last is None else last.selection,
            violations=seen.violations if seen is not None else np.zeros(len(self.problem.constraints)),
            best=self.best,
            incumbent=None if last is None else last.selection,
            bound=self.bound,
            evaluations=self.evaluation.calls,
            seconds=self.seconds,
        )

    # -- ending -----------------------------------------------------------------------------------------------------

    def _verified(self) -> _Candidate | None:
        """The best candidate that satisfies every constraint when evaluated afresh."""
        with evaluating(self.evaluation), afresh():
            for candidate in reversed(self.candidates):
                fresh = self._afresh(candidate)
                if all(c.satisfied(v) for c, v in zip(self.problem.constraints, fresh.values, strict=True)):
                    return fresh
                self.nearest = (0.0, fresh)
        return None

    def _result(self, stopped: str, chosen: _Candidate | None) -> Result:
        """What is known; `chosen` has been verified."""
        rows, bound, nearest = [], self.bound, None
        if chosen is not None:
            rows = [c.row(v) for c, v in zip(self.problem.constraints, chosen.values.tolist(), strict=True)]
            status = Status.OPTIMAL if self._optimal(chosen.value) else Status.FEASIBLE
            bound = chosen.value if status is Status.OPTIMAL else bound
        else:
            status = Status.INFEASIBLE if self.proof is not None else Status.UNKNOWN
            if self.nearest is not None or self.candidates:
                nearest = self.nearest[1] if self.nearest is not None else self.candidates[-1]
                rows = [c.row(v) for c, v in zip(self.problem.constraints, nearest.values.tolist(), strict=True)]
        return Result(
            selection=None if chosen is None else self.space.labels(chosen.selection),
            indices=None if chosen is None else chosen.selection,
            value=None if chosen is None else chosen.value,
            status=status,
            stopped=stopped,
            constraints=rows,
            nearest=None if nearest is None else self.space.labels(nearest.selection),
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
        fresh = [float(values_of(self.problem.objective, row)[0])]
        fresh += [float(c.values(row)[0]) for c in self.problem.constraints]
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
            "layout": checkpoints.digest(self.space.offsets),
            "forbidden options": 0 if self.allowed is None else checkpoints.digest(self.allowed),
            "objective": self.problem.objective.name,
            "constraints": [f"{c!r} {c.bound!r}" for c in self.problem.constraints],
            "values of the objective": checkpoints.digest(self.problem.objective),
            "values of the constraints": [checkpoints.digest(c.metric) for c in self.problem.constraints],
            "sense": self.problem.sense,
            "seed": self.options.seed,
            "steps": self.options.steps,
            "starts": [asdict(s) | {"temperature": list(s.temperature)} for s in self.starts],
            "rescale": self.options.rescale,
            "patience": self.options.patience,
        }

    # What a checkpoint holds besides logits, candidates and history, by how it is stored.
    FACTS = ("start", "started", "step", "stale", "rescale", "scale", "sought", "proof")

    def _snapshot(self) -> tuple[dict[str, Any], dict[str, NDArray]]:
        facts = {"search": self._fingerprint(), **{name: getattr(self, name) for name in self.FACTS}}
        facts |= {"rng": self.rng_state, "seconds": self.seconds, "calls": self.evaluation.calls}
        facts |= {"guarded": [self.guarded.violated, self.guarded.escalations]}
        known = [*self.candidates, *([] if self.nearest is None else [self.nearest[1]])]
        facts |= {"n_candidates": len(self.candidates), "nearest": None if self.nearest is None else self.nearest[0]}
        n_constraints = len(self.problem.constraints)
        arrays = {
            "logits": self.logits,
            "known_value": np.array([c.value for c in known]),
            "known_selection": np.array([c.selection for c in known]).reshape(len(known), self.space.n_decisions),
            "known_values": np.array([c.values for c in known], dtype=float).reshape(len(known), n_constraints),
            **{f"history_{name}": array for name, array in vars(self._history()).items()},
        }
        for name in ("witness", "target"):
            if (array := getattr(self.guarded, name)) is not None:
                arrays[name] = array
        return facts, arrays

    def _restore(self, facts: dict[str, Any], arrays: dict[str, NDArray]) -> None:
        for name, mine in self._fingerprint().items():
            theirs = facts.get("search", {}).get(name)
            if theirs != mine:
                raise ValueError(
                    f"checkpoint {self.options.checkpoint} belongs to another search: its {name} is {theirs!r}, "
                    f"here it is {mine!r}"
                )
        self.start = facts["start"]
        self._begin()
        for name in self.FACTS:
            setattr(self, name, facts[name])
        self.rng.bit_generator.state = self.rng_state = facts["rng"]
        self.began -= facts["seconds"]
        self.evaluation.calls = facts["calls"]
        self.logits = arrays["logits"]
        self.guarded = SafeguardState(
            arrays.get("witness"), facts["guarded"][0], arrays.get("target"), facts["guarded"][1]
        )
        columns = (arrays[f"known_{name}"] for name in ("value", "selection", "values"))
        known = [_Candidate(float(v), s.astype(np.int64), c) for v, s, c in zip(*columns, strict=True)]
        self.candidates = known[: facts["n_candidates"]]
        if facts["nearest"] is not None:
            self.nearest = (facts["nearest"], known[-1])
        rows = [arrays[f"history_{name}"] for name in ("start", "value", "violation", "best", "seconds")]
        self.history = [(int(s), float(v), c, float(b), float(t)) for s, v, c, b, t in zip(*rows, strict=True)]
