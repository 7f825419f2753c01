"""The search: relax, descend, guide; one loop that knows no metric and no direction by name."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cggd import checkpoint as checkpoints
from cggd.checks import as_amount, whole
from cggd.constraints import Constraint, check_constraints
from cggd.defaults import default_options
from cggd.feasibility import ENUMERATED, conflict_of_shares, seek
from cggd.guide import Guide, Observation, allowed_by
from cggd.guide.relaxation import annealed, sample, softmax
from cggd.guide.safeguard import Safeguard, SafeguardState
from cggd.improve.cores import polish
from cggd.incumbent import Finding
from cggd.metrics import Evaluation, Executor, Metric, afresh, evaluating, table_of, values_of
from cggd.options import Options, Progress, Start
from cggd.outputs import check_writable
from cggd.problem import Problem
from cggd.program.bounds import Relaxed, relax
from cggd.program.grid import grid, proved
from cggd.program.presolve import impossible
from cggd.result import History, Result, Status

# R grows by ESCALATION in each violated step. A feasible step undoes the growth of 30 violated steps, so that R settles
# where one step in thirty is feasible. Measured on MMKP I07, 12 seeds, loss against the LP bound: 0.77%. Factors of
# 1.02 to 1.10 with 9 to 19 steps gave 0.80 to 0.94%, so the choice matters little.
ESCALATION = 1.02
RELIEF = ESCALATION**30
LARGEST_RESCALE = 20.0

# A decaying step ends at 0, where no direction could act.
SMALLEST_STEP = 1e-9

# Time limit of the single call of `seek`, after a start that found no feasible selection.
SEEK_SECONDS = 10.0

# Share of the time limit for descents; polishing gets the rest. True: the relaxation gave a feasible selection, its
# time counts as time of descents, and an exact solver uses the rest. False: all other problems; the share is one of
# the time after the relaxation.
DESCENT_SHARE = {True: 0.1, False: 0.8}

# Duration of the parts of a search that cannot be stopped, in seconds per option. A part that would end too late is not
# begun. Measured on one core at 2.5 GHz with 1e7 options, additive metrics and 3 constraints, and rounded up. In this
# order: the least and greatest value of a metric; the first selection and its values; the first step; the grid of the
# objective; the shortest possible relaxation, per metric; the beginning of polishing.
LIMITS_SECONDS = 2e-8
LOOK_SECONDS = 3e-8
STEP_SECONDS = 1e-7
GRID_SECONDS = 5e-8
RELAX_SECONDS = 1e-8
POLISH_SECONDS = 1e-7

# The same for the program that looks for a feasible selection. SUMS: all constraints are sums. PARTS: there are peaks
# or longest paths, which have a row for each stage or vertex (5e-5 with a graph of 1e5 vertices).
SEEK_SUMS_SECONDS = 1e-6
SEEK_PARTS_SECONDS = 5e-5

# Enumeration, in seconds per decision of each selection; and the labels of an answer, in seconds per decision.
ENTRY_SECONDS = 5e-8
ANSWER_SECONDS = 4e-7

# By how much such a part may exceed the time limit: half of the overshoot that is aimed at, 20 % and 0.2 s, as machines
# differ.
SPARE_SHARE = 0.1
SPARE_SECONDS = 0.1

# The proof by a linear relaxation may take a second. It is skipped if less than SHARES_SECONDS are left, unless there
# are at most FEW_OPTIONS options; then it takes milliseconds.
SHARES_SECONDS = 2.0
FEW_OPTIONS = 2000

# Descents on large sums end 0.5 to 2% above the bound. A selection closer to the bound than this share needs none.
NEAR = 1e-3

# Logits start as noise of this size: it breaks ties and nothing else.
NOISE = 1e-3

# Interval between checkpoints; a power cut loses at most this much of a search.
CHECKPOINT_SECONDS = 30.0

# A deterministic metric may round differently in a batch than for one selection. A relative difference above this is
# reported as a changed answer.
CHANGED = 1e-6

# Logits of the options in `initial` begin higher than the others by this much. The selection is then the first one
# evaluated, and a few steps of the default size can leave it.
HEAD_START = 1.0

# How `Result.stopped` begins after a Ctrl-C.
INTERRUPTED = "interrupted"

# The columns of a stored history except the violations, and the kinds of their numbers.
HISTORY = (("start", "i"), ("value", "f"), ("best", "f"), ("seconds", "f"))

_T = TypeVar("_T")


class SearchError(RuntimeError):
    """An evaluation failed; `result` carries the best feasible selection found before.

    That selection is evaluated again before it is returned. If this fails too, ``result.remeasured`` is false.
    """

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
        Seconds after which the search stops, including the set-up. A part of the search that would end later, by more
        than a tenth of the limit and 0.1 s, is not begun, and a batch of black-box calls ends with the call in
        progress. If there is no time for a step, only the first selection is evaluated. Several starts get equal shares
        of the remaining time.
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
        Before the descent, if the problem is linear, find a bound that no selection can beat. After the descent,
        improve the best selection: by exact solution of reduced cores if the problem is linear, by enumeration if the
        selections are few and stored, otherwise by switches. Polishing uses the rest of the `time_limit` unless
        optimality is proved; without a limit it takes about as long as a start.
    gap : float
        Stop as soon as the value is within this share of the bound; 0 asks for the optimum.
    callback : callable, optional
        Called with a `Progress` after each step, and while the best selection is polished; a true return value stops
        the search.
    executor : object with the `concurrent.futures.Executor` interface, optional
        Black-box evaluations of a batch run through it.
    checkpoint : path, optional
        File in which the search saves its state, every 30 seconds and when it stops. If the file cannot be written
        while the search runs, a `RuntimeWarning` says so.
    resume : bool
        Continue from `checkpoint` if that file exists. The trajectory is that of an uninterrupted run. The selections
        in the file are evaluated again, as a function may have changed since then. These calls count as evaluations,
        unless the function caches them. Proofs and bounds are not stored; the search finds them again.

    Returns
    -------
    Result
        Its selection satisfied every constraint when it was evaluated again, or ``remeasured`` is false. Ctrl-C at any
        time ends the search, and what is known is returned.

    Raises
    ------
    SearchError
        If a metric raises or returns something else than numbers; it carries the result so far.
    ValueError, TypeError
        If an argument is wrong, or `checkpoint` is damaged, of another search or of an older version.

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
    began = time.perf_counter()
    settings = {**_DEFAULTS, **options}
    if unknown := [name for name in options if name not in _DEFAULTS]:
        raise TypeError(f"unknown option {unknown[0]!r}; a search takes {', '.join(_DEFAULTS)}")
    return _Search(problem, Options(**settings), began).run()


_DEFAULTS: dict[str, Any] = dict(minimize.__kwdefaults__ or {})


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A selection with its objective and the values of the constraints' metrics, as first evaluated."""

    value: float
    selection: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Descent:
    """State of the descent of one start; it is replaced as a whole, so an interruption leaves the last whole step.

    `started` is the time in seconds at which the start began; `n_history` is the length of the history at this state.
    """

    start: int
    started: float
    logits: NDArray[np.float64]
    guarded: SafeguardState
    rescale: float
    rng_state: dict[str, Any]
    n_history: int
    scale: float = 0.0
    step: int = 0
    stale: int = 0


class _TimeUp(BaseException):
    """A black box was about to be called after the time limit; an ``except Exception`` in a metric cannot catch it."""


class _Timed(Evaluation):
    """An evaluation that makes no more calls once `over` is true, except that `calls` may still grow `spare` times."""

    over: Callable[[], bool] = staticmethod(lambda: False)
    spare: int = 0

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "calls" and value > self.calls and self.over():
            self.spare -= 1
            if self.spare < 0:
                raise _TimeUp
        super().__setattr__(name, value)


class _Search:
    """The state of a search, and its steps.

    Candidates are stored as soon as they are found, and the state of a descent is replaced at the end of each step. An
    interruption at any time therefore leaves a result to return and a state to continue from.
    """

    def __init__(self, problem: Problem, options: Options, began: float) -> None:
        self.problem, self.options, self.began = problem, options, began
        self.space, self.layout = problem.space, problem.space.layout
        self.allowed: NDArray[np.bool_] | None = None
        self.initial: NDArray[np.int64] | None = None
        self.starts: list[Start] = []
        self.evaluation = _Timed(options.executor)
        self.rng: np.random.Generator | None = None
        self.slope: NDArray[np.float64] | None = None
        self.saved = began
        self.start = 0
        self.now: _Descent | None = None
        self.candidates: list[_Candidate] = []
        self.nearest: tuple[float, _Candidate] | None = None  # by total violation
        self.checking: _Candidate | None = None
        self.restored = False
        self.history: list[tuple[int, float, NDArray[np.float64], float, float]] = []
        self.asked_to_stop = self.sought = self.left_out = False
        self.step_seconds: float | None = None
        self.relaxed: Relaxed | None = None
        self.relaxed_at = 0.0
        self.bound = problem.bound
        self.proof: str | None = None

    # -- running ----------------------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    @property
    def best(self) -> float | None:
        return self.candidates[-1].value if self.candidates else None

    def run(self) -> Result:
        failure: Exception | None = None
        checked = False
        try:
            self._check()
            checked = True
            stopped = self._evaluating(self._loop)
        except KeyboardInterrupt:
            stopped = INTERRUPTED
        except Exception as error:
            if not checked:
                raise
            failure, stopped = error, _text(error)
        try:
            if checked:
                self._save()
        except KeyboardInterrupt:
            stopped = INTERRUPTED
        except Exception as error:
            failure = failure or error
        chosen, remeasured = None, True
        self.evaluation.over = lambda: False
        try:
            chosen = self._evaluating(self._verified)
        except KeyboardInterrupt:
            chosen, remeasured, stopped = self.checking, False, f"{INTERRUPTED} while the selection was evaluated again"
        except Exception as error:
            chosen, remeasured = self.checking, False
            if stopped == INTERRUPTED:
                stopped = f"{INTERRUPTED}; then the selection could not be evaluated again: {_text(error)}"
            else:
                failure = failure or error
                stopped = _text(failure)
        result = uninterrupted(lambda: self._result(stopped, chosen, remeasured=remeasured))
        if failure is not None:
            found = "no feasible selection until then"
            if result.selection is not None:
                found = f"the best selection until then is in .result, {result.objective} = {result.value}"
                found += "" if result.remeasured else "; it could not be evaluated again"
            raise SearchError(f"{_text(failure)} ({found})", result) from failure
        return result

    def _evaluating(self, work: Callable[[], _T]) -> _T:
        """Run work with this search's evaluation, in a context of its own that an interruption cannot leave set."""

        def within() -> _T:
            with evaluating(self.evaluation):
                return work()

        return copy_context().run(within)

    def _check(self) -> None:
        """Check the arguments and read the checkpoint; errors are raised before anything is evaluated."""
        options = self.options
        self.allowed = self.space.allowed(options.forbid)
        self.initial = self._initial(options.initial)
        self.starts = options.several_starts(separable=self.problem.objective.separable)
        self.evaluation = _Timed(options.executor, self.allowed)
        if (path := self._path) is not None:
            check_writable(path, "checkpoint", replaced=True)
            if options.resume and path.exists():
                self._restore(*checkpoints.load(path))

    @property
    def _path(self) -> Path | None:
        return self.options.checkpoint  # pyright: ignore[reportReturnType] - Options made it one

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

    def _loop(self) -> str:
        """Run all parts of the search; return why it stopped."""
        self.evaluation.over = self._time_is_over
        try:
            stopped = self._parts()
        except _TimeUp:
            stopped = self._out_of_time()
        self.evaluation.over = lambda: False
        if self.proof is None and not self.asked_to_stop:
            self._glance()
        return stopped

    def _parts(self) -> str:
        if self.restored:
            self._remeasure()
        self._prove()
        if self.options.polish and self._reason_to_stop() is None:
            self._relax()
        while not self._near() and self.start < len(self.starts):
            if self.now is None or self.now.start != self.start:
                if not self._has_time(LOOK_SECONDS * self.space.n_options):
                    break
                self.now = self._begun()
            while self.now.step < self.options.steps and not (self.history and self._exhausted()):
                if reason := self._reason_to_stop():
                    return reason
                if not self._has_time(self._seconds_of_a_step()):
                    break
                self._advance(self.now)
                if self._path is not None and time.perf_counter() - self.saved > CHECKPOINT_SECONDS:
                    self._save()
            if not self.candidates and not self.sought and self.problem.constraints:
                self._seek()
                if self.proof is not None:
                    return self.proof  # `start` stays, so a resumed search finds the proof again
            self.start += 1
        if self.options.polish:
            self._polish()
        done = "1 start done" if len(self.starts) == 1 else f"all {len(self.starts)} starts done"
        return self._reason_to_stop() or (f"{self._out_of_time()} too short for more" if self.left_out else done)

    def _prove(self) -> None:
        """Look for a cheap proof that no selection is feasible."""
        for c in self.problem.constraints:
            if not self._fits(LIMITS_SECONDS * self.space.n_options, late=True):
                return
            self.proof = self.proof or impossible(c, self.allowed)
        if self.proof is None and (self.space.n_options <= FEW_OPTIONS or self._left() >= SHARES_SECONDS):
            self.proof = conflict_of_shares(self.problem.constraints, self.allowed)

    def _begun(self) -> _Descent:
        """The state before the first step of the current start."""
        self.rng = rng = np.random.default_rng([self.options.seed, self.start])
        logits = NOISE * rng.standard_normal(self.space.n_options)
        if self.initial is not None:
            given = np.flatnonzero(self.initial >= 0)
            logits[self.space.offsets[given] + self.initial[given]] += HEAD_START
        if self.allowed is not None:
            logits[~self.allowed] = -np.inf
        self._prepare()
        return _Descent(
            start=self.start,
            started=self.seconds,
            logits=logits,
            guarded=SafeguardState(self._witness()),
            rescale=self.options.rescale,
            rng_state=dict(rng.bit_generator.state),
            n_history=len(self.history),
        )

    def _prepare(self) -> None:
        """Make the objects that the steps of the current start share."""
        self.slope: NDArray[np.float64] | None = None
        if self.problem.constraints:
            how = self.starts[self.start]
            rule = {"rescale": self.options.rescale, "weights": how.weights, "balance": how.balance}
            self.safeguard = Safeguard(Guide(self.problem.constraints, **rule), self.options.patience)

    def _witness(self) -> NDArray[np.int64] | None:
        return self.candidates[-1].selection if self.candidates else None

    def _relax(self) -> None:
        """Take the bound of the linear relaxation, and the selection found with it, if any."""
        if not self._has_time(RELAX_SECONDS * self.space.n_options * (1 + len(self.problem.constraints))):
            return
        left = self._left()
        # If the relaxation does not end by itself, the other half of the time is left for the descents and polishing.
        limit = None if np.isinf(left) else left / 2
        self.relaxed = relax(self.problem, self.allowed, time_limit=limit, stop=self._stopped)
        self.relaxed_at = self.seconds
        if self.relaxed is None:
            return
        if self.relaxed.infeasible:
            self.proof = self.relaxed.proof
            return
        self._take(Finding(self.relaxed.selection, self.relaxed.bound))
        if self.now is not None:
            self.now = replace(self.now, guarded=replace(self.now.guarded, witness=self._witness()))

    def _polish(self) -> None:
        """Improve the best selection, up to a proof that no better one exists."""
        if self._stopped() or not self._has_time(self._seconds_of_polish()):
            return
        left = self._left()
        limit = None if np.isinf(left) else left
        how = {"step": self._grid(), "seed": self.options.seed, "time_limit": limit, "stop": self._stopped}
        for finding in polish(self.problem, self.relaxed, self._witness(), self.allowed, **how):
            if finding is not None:
                self._take(finding)
            if self.options.callback is not None and self.options.callback(self._progress(None)):
                self.asked_to_stop = True
            if self._reason_to_stop():
                return

    def _seconds_of_polish(self) -> float:
        """Seconds that polishing takes before it checks the clock for the first time."""
        if self.relaxed is not None:
            return POLISH_SECONDS * self.space.n_options
        entries = self.space.n_decisions * min(self.space.n_selections, ENUMERATED)
        enumerated = ENTRY_SECONDS * entries if self.space.n_selections <= ENUMERATED else 0.0
        return max(enumerated, self.step_seconds or 0.0)

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
        """Whether the best selection is so close to the bound that descents cannot improve it."""
        return self.relaxed is not None and self._gap() <= NEAR

    def _optimal(self, value: float) -> bool:
        sign = self.problem.sign
        return self.bound is not None and proved(sign * value, sign * self.bound, self._grid())

    def _grid(self) -> float:
        """Step of the grid of objective values; 0 if there is none, or no time to find it."""
        if not self.options.polish:
            return 0.0
        if "_step_of_values" not in self.__dict__ and not self._fits(GRID_SECONDS * self.space.n_options):
            return 0.0
        return self._step_of_values

    @cached_property
    def _step_of_values(self) -> float:
        return grid(self.problem.objective)

    def _stopped(self) -> bool:
        return self._reason_to_stop() is not None

    def _seek(self) -> None:
        """Look for a feasible selection by other means than descent, or for a proof that there is none."""
        sums = all(c.metric.separable for c in self.problem.constraints)
        if not self._has_time((SEEK_SUMS_SECONDS if sums else SEEK_PARTS_SECONDS) * self.space.n_options):
            return
        self.evaluation.spare = 1  # for the check of what is found, whose calls are counted at its end
        found = seek(
            self.space,
            self.problem.constraints,
            self.allowed,
            seed=self.options.seed,
            time_limit=min(SEEK_SECONDS, self._left() / 2),
            start=None if self.nearest is None else self.nearest[1].selection,
            stop=self._stopped,
        )
        if found.indices is not None:
            values = np.array([row.value for row in found.constraints])
            value = float(values_of(self.problem.objective, found.indices[None])[0])
            self.candidates.append(_Candidate(value, found.indices, values))
        if found.status is Status.INFEASIBLE:
            self.proof = found.proof
        else:
            self.sought = True
        self.evaluation.spare = 0

    def _advance(self, now: _Descent) -> None:
        """One step: gradient of the objective, descent, guide."""
        began = time.perf_counter()
        gradient, scale = self._task_gradient(now)
        size = max(self.starts[self.start].learning_rate * (1.0 - self._share_done()), SMALLEST_STEP)
        if self.problem.constraints:
            floor = size * self.safeguard.guide.epsilon
            step = self.safeguard.step(now.logits, -size * gradient, now.guarded, floor=floor, rescale=now.rescale)
            logits, guarded, seen = step.logits, step.state, step.seen
        else:
            seen = Observation(self.layout.argmax(now.logits), np.zeros(0), np.zeros(0), allowed_by(now.logits))
            logits, guarded = now.logits - size * gradient, now.guarded
        improved = self._look_at(seen)
        if seen.feasible:  # the best one is the witness, not the last
            guarded = replace(guarded, witness=self._witness())
            rescale = max(now.rescale / RELIEF, self.options.rescale)
        else:
            rescale = min(now.rescale * ESCALATION, max(LARGEST_RESCALE, self.options.rescale))
        self.now = replace(
            now,
            logits=logits,
            guarded=guarded,
            scale=scale,
            rescale=rescale,
            rng_state=now.rng_state if self.rng is None else dict(self.rng.bit_generator.state),
            n_history=len(self.history),
            step=now.step + 1,
            stale=0 if improved else now.stale + 1,
        )
        self.step_seconds = time.perf_counter() - began
        if self.options.callback is not None and self.options.callback(self._progress(seen)):
            self.asked_to_stop = True

    def _glance(self) -> None:
        """Evaluate the first selection if there was no time for a step, so that a result can report it."""
        seconds = LOOK_SECONDS * self.space.n_options
        if self.history or self.candidates or not self._fits(seconds, late=True):
            return
        now = self.now or self._begun()
        selection = self.layout.argmax(now.logits)
        values = np.array([float(c.values(selection[None])[0]) for c in self.problem.constraints])
        rows = zip(self.problem.constraints, values.tolist(), strict=True)
        violations = np.array([float(c.violation(value)) for c, value in rows])
        self._look_at(Observation(selection, values, violations, None))

    def _task_gradient(self, now: _Descent) -> tuple[NDArray[np.float64], float]:
        """Negative advantage of each option, scaled to a root mean square of at most 1, and the scale."""
        if self.slope is not None:
            return self.slope, now.scale
        objective, layout = self.problem.objective, self.layout
        if objective.separable:
            probabilities = 1.0 / layout.spread(layout.sizes.astype(float))
            selection = layout.argmax(now.logits)
        else:
            hot, cold = self.starts[self.start].temperature
            temperature = annealed(now.step, self.options.steps, start=hot, end=cold)
            probabilities = softmax(now.logits, layout, temperature=temperature)
            assert self.rng is not None
            selection = sample(now.logits / temperature, layout, self.rng)
        gradient = table_of(objective, selection).astype(float)
        gradient *= self.problem.sign
        gradient -= layout.spread(layout.reduce(np.add, probabilities * gradient))
        if self.allowed is not None:
            gradient[~self.allowed] = 0.0
        scale = max(now.scale, float(np.sqrt(np.mean(gradient**2))))
        if scale > 0:
            gradient /= scale
        if objective.separable:
            self.slope = gradient
        return gradient, scale

    def _look_at(self, seen: Observation) -> bool:
        """Record a selection in the history, and keep it if useful; return whether it is the best feasible one yet."""
        value, improved = np.nan, False
        if seen.feasible:
            value = float(values_of(self.problem.objective, seen.selection[None])[0])
            improved = self.best is None or self.problem.sign * value < self.problem.sign * self.best
            if improved:
                self.candidates.append(_Candidate(value, seen.selection, seen.values))
        elif not self.candidates:
            self._keep_nearest(_Candidate(np.nan, seen.selection, seen.values), seen.violations)
        best = np.nan if self.best is None else self.best
        self.history.append((self.start, value, seen.violations, best, self.seconds))
        return improved

    def _keep_nearest(self, candidate: _Candidate, violations: NDArray[np.float64]) -> None:
        """Keep a selection that violates constraints, if none violates them less."""
        sizes = [max(1.0, abs(c.bound)) for c in self.problem.constraints]
        total = float(np.sum(violations / sizes))
        if self.nearest is None or total < self.nearest[0]:
            self.nearest = (total, candidate)

    # -- when to stop -----------------------------------------------------------------------------------------------

    def _left(self) -> float:
        """Seconds until the time limit, minus the time for preparing the answer; infinite without a limit."""
        if self.options.time_limit is None:
            return np.inf
        return max(self.options.time_limit - self.seconds - ANSWER_SECONDS * self.space.n_decisions, 0.0)

    def _time_is_over(self) -> bool:
        return self._left() == 0

    def _fits(self, seconds: float, *, late: bool = False) -> bool:
        """Whether a part of the search that cannot be stopped would end before the time limit, or only a little later.

        With `late`, it may also begin after the time limit.
        """
        if self.options.time_limit is None:
            return True
        spare = SPARE_SHARE * self.options.time_limit + SPARE_SECONDS
        left = self._left()
        return seconds <= left + spare and (late or left > 0)

    def _has_time(self, seconds: float) -> bool:
        """Whether there is time for a part of the search; a part left out is mentioned in `Result.stopped`."""
        fits = self._fits(seconds)
        self.left_out = self.left_out or not fits
        return fits

    def _seconds_of_a_step(self) -> float:
        """Estimated duration of the next step: that of the last one, or for the first step one from the size."""
        return STEP_SECONDS * self.space.n_options if self.step_seconds is None else self.step_seconds

    def _share_done(self) -> float:
        """How much of the current start is done, by steps or by its share of the time."""
        assert self.now is not None
        share = self.now.step / self.options.steps
        if self.options.time_limit is not None:
            settled = self.relaxed is not None and bool(self.candidates)
            descents = DESCENT_SHARE[settled] if self.options.polish else 1.0
            # If the relaxation found a selection, it did the work of descents, and its time counts as theirs.
            since = 0.0 if settled else self.relaxed_at
            end = since + descents * (self.options.time_limit - since)
            left = (end - self.now.started) / (len(self.starts) - self.start)
            share = max(share, min(1.0, (self.seconds - self.now.started) / max(left, 1e-9)))
        return share

    def _exhausted(self) -> bool:
        """Whether the current start has used up its time, or its patience."""
        stale = self.options.no_improvement
        return (stale is not None and self.now is not None and self.now.stale >= stale) or self._share_done() >= 1.0

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
        if self._time_is_over():
            return self._out_of_time()
        if options.max_evaluations is not None and self.evaluation.calls >= options.max_evaluations:
            return f"limit of {options.max_evaluations} evaluations"
        return None

    def _out_of_time(self) -> str:
        return f"time limit of {self.options.time_limit:g} s"

    def _progress(self, seen: Observation | None) -> Progress:
        """Where the search stands: at what a step saw, or, while it polishes, at the best candidate."""
        last = self.candidates[-1] if self.candidates else None
        return Progress(
            phase="descent" if seen is not None else "polish",
            start=self.start,
            step=0 if self.now is None else self.now.step,
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
        """The best candidate that satisfies every constraint when evaluated again.

        `checking` is the candidate that is being evaluated, for the case of an interruption.
        """
        with afresh():
            for candidate in reversed(self.candidates):
                self.checking = candidate
                fresh = self._evaluated(candidate)
                if self._feasible(fresh):
                    return fresh
                self.checking, self.nearest = None, (0.0, fresh)
        return None

    def _feasible(self, candidate: _Candidate) -> bool:
        return all(c.satisfied(v) for c, v in zip(self.problem.constraints, candidate.values, strict=True))

    def _result(self, stopped: str, chosen: _Candidate | None, *, remeasured: bool) -> Result:
        """The result; `chosen` was evaluated again unless `remeasured` is false."""
        shown, bound, selection = chosen, self.bound, None
        if chosen is not None and remeasured:
            status = Status.OPTIMAL if self._optimal(chosen.value) else Status.FEASIBLE
            bound = chosen.value if status is Status.OPTIMAL else bound
        else:
            status = Status.INFEASIBLE if self.proof is not None and chosen is None else Status.UNKNOWN
            if chosen is None and (self.nearest is not None or self.candidates):
                shown = self.nearest[1] if self.nearest is not None else self.candidates[-1]
        rows = []
        if shown is not None:
            rows = [c.row(v) for c, v in zip(self.problem.constraints, shown.values.tolist(), strict=True)]
            selection = self.space.labels(shown.selection)
        default = None if shown is None else shown.selection == default_options(self.problem)
        known = status in (Status.OPTIMAL, Status.FEASIBLE)
        return Result(
            selection=None if chosen is None else selection,
            indices=None if chosen is None else chosen.selection,
            value=None if chosen is None else chosen.value,
            status=status,
            stopped=stopped,
            constraints=rows,
            nearest=None if known else selection,
            bound=bound,
            history=self._history(len(self.history)),
            evaluations=self.evaluation.calls,
            seconds=self.seconds,
            objective=self.problem.objective.name,
            unit=self.problem.objective.unit,
            sense=self.problem.sense,
            seed=self.options.seed,
            not_default=None if default is None else np.flatnonzero(~default),
            remeasured=chosen is None or remeasured,
        )

    def _evaluated(self, candidate: _Candidate) -> _Candidate:
        """Evaluate a candidate again, and warn if a metric gives a different value."""
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

    def _history(self, n: int) -> History:
        """The first n entries of the history."""
        start, value, violation, best, seconds = zip(*self.history[:n], strict=True) if n else ((),) * 5
        return History(
            np.array(start, dtype=np.int64),
            np.array(value, dtype=float),
            np.array(violation, dtype=float).reshape(len(start), len(self.problem.constraints)),
            np.array(best, dtype=float),
            np.array(seconds, dtype=float),
        )

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Write the checkpoint, if one is wanted; a full disk is a warning and does not end the search."""
        if self._path is None:
            return
        try:
            checkpoints.save(self._path, *self._snapshot())
        except OSError as error:
            warnings.warn(
                f"checkpoint {self._path} could not be written ({error}); the search goes on, and the file holds what "
                "was written before, if anything",
                RuntimeWarning,
                stacklevel=2,
            )
        self.saved = time.perf_counter()

    @cached_property
    def _fingerprint(self) -> dict[str, Any]:
        """What must agree for a checkpoint to continue this search."""
        problem = self.problem
        return {
            "layout": checkpoints.digest(self.space.offsets),
            "labels": checkpoints.digest(self.space.options),
            "forbidden options": "" if self.allowed is None else checkpoints.digest(self.allowed),
            "objective": problem.objective.name,
            "constraints": [f"{c!r} {c.bound!r} {c.confidence!r}" for c in problem.constraints],
            "values of the objective": checkpoints.digest(problem.objective),
            "values of the constraints": [checkpoints.digest(c.metric) for c in problem.constraints],
            "sense": problem.sense,
            "seed": self.options.seed,
            "steps": self.options.steps,
            "starts": [asdict(s) | {"temperature": list(s.temperature)} for s in self.starts],
            "rescale": self.options.rescale,
            "patience": self.options.patience,
        }

    # Attributes of a descent that a checkpoint stores, besides the logits and the numbers of the safeguard.
    FACTS = ("start", "started", "rescale", "rng_state", "scale", "step", "stale")

    def _snapshot(self) -> tuple[dict[str, Any], dict[str, NDArray]]:
        """Contents of a checkpoint. Proofs and bounds are not stored: a resumed search finds them again."""
        now, known = self.now, [*self.candidates, *([] if self.nearest is None else [self.nearest[1]])]
        facts: dict[str, Any] = {"search": self._fingerprint, "start": self.start, "sought": self.sought}
        facts |= {"seconds": self.seconds, "calls": self.evaluation.calls, "n_candidates": len(self.candidates)}
        arrays = {
            "known_value": np.array([c.value for c in known], dtype=float),
            "known_selection": np.array([c.selection for c in known], dtype=np.int64).reshape(
                len(known), self.space.n_decisions
            ),
            "known_values": np.array([c.values for c in known], dtype=float).reshape(
                len(known), len(self.problem.constraints)
            ),
        }
        history = self._history(0 if now is None else now.n_history)
        arrays |= {f"history_{name}": array for name, array in vars(history).items()}
        if now is not None:
            facts["descent"] = {name: getattr(now, name) for name in self.FACTS}
            facts["descent"] |= {"violated": now.guarded.violated, "escalations": now.guarded.escalations}
            arrays["logits"] = now.logits
            if now.guarded.target is not None:
                arrays["target"] = now.guarded.target
        return facts, arrays

    def _restore(self, facts: dict[str, Any], arrays: dict[str, NDArray]) -> None:
        """Restore the state from the contents of a checkpoint.

        Raises
        ------
        ValueError
            If the checkpoint belongs to another search or is damaged; the message names the file.
        """
        theirs = facts.get("search")
        if not isinstance(theirs, dict):
            raise ValueError(f"{self._path} is not a cggd checkpoint, or is damaged: it does not say of which search")
        for name, mine in self._fingerprint.items():
            if theirs.get(name) != mine:
                raise ValueError(
                    f"checkpoint {self._path} belongs to another search: its {name} is {theirs.get(name)!r}, "
                    f"here it is {mine!r}"
                )
        try:
            self._read(facts, arrays)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{self._path} is not a cggd checkpoint, or is damaged: {what}") from error

    def _read(self, facts: dict[str, Any], arrays: dict[str, NDArray]) -> None:
        n_decisions, n_constraints = self.space.n_decisions, len(self.problem.constraints)

        def array(name: str, kind: str, *shape: int) -> NDArray:
            """An array of the file, checked for kind and shape; -1 stands for any length."""
            found = arrays[name]
            given = tuple(n if m < 0 else m for n, m in zip(found.shape, shape, strict=True))
            if found.dtype.kind != kind or found.dtype.itemsize != 8 or found.shape != given:
                raise ValueError(f"its {name} is an array of {found.dtype} of shape {found.shape}")
            return found

        value = array("known_value", "f", -1)
        selection = self.space.check_selections(array("known_selection", "i", len(value), n_decisions))
        values = array("known_values", "f", len(value), n_constraints)
        if self.allowed is not None and not self.allowed[self.layout.flat(selection)].all():
            raise ValueError("its known_selection takes forbidden options")
        columns = [array(f"history_{name}", kind, -1) for name, kind in HISTORY]
        violation = array("history_violation", "f", len(columns[0]), n_constraints)
        calls, start = whole(facts["calls"], "calls", least=0), whole(facts["start"], "start", least=0)
        n_candidates = whole(facts["n_candidates"], "n_candidates", least=0)
        if not 0 <= len(value) - n_candidates <= 1 or start > len(self.starts) or not isinstance(facts["sought"], bool):
            raise ValueError(f"its start, n_candidates and sought are {start}, {n_candidates} and {facts['sought']!r}")
        seconds = as_amount(facts["seconds"], "seconds")
        starts, objective, best, times = (column.tolist() for column in columns)
        history = list(zip(starts, objective, violation, best, times, strict=True))
        self.now = self._read_descent(facts["descent"], array, len(history)) if "descent" in facts else None
        known = [_Candidate(*row) for row in zip(value.tolist(), selection, values, strict=True)]
        self.candidates, self.history, self.start, self.sought = known[:n_candidates], history, start, facts["sought"]
        self.nearest = (np.inf, known[-1]) if len(known) > n_candidates else None
        self.evaluation.calls, self.began, self.restored = calls, self.began - seconds, True

    def _read_descent(self, facts: dict[str, Any], array: Callable[..., NDArray], n_history: int) -> _Descent:
        logits = array("logits", "f", self.space.n_options)
        forbidden = np.zeros(self.space.n_options, dtype=bool) if self.allowed is None else ~self.allowed
        start, step = whole(facts["start"], "start", least=0), whole(facts["step"], "step", least=0)
        try:
            target = array("target", "f", self.space.n_options)
        except KeyError:
            target = None
        for name, numbers in (("logits", logits), ("target", target)):
            if numbers is not None and not np.array_equal(np.isneginf(numbers), forbidden):
                raise ValueError(f"its {name} do not fit the forbidden options")
            if numbers is not None and not np.isfinite(numbers[~forbidden]).all():
                raise ValueError(f"its {name} are not finite")
        if start >= len(self.starts) or step > self.options.steps:
            raise ValueError(f"it stands at step {step} of start {start}")
        self.rng = np.random.default_rng()
        self.rng.bit_generator.state = facts["rng_state"]
        rescale = as_amount(facts["rescale"], "rescale")
        if rescale < self.options.rescale:
            raise ValueError(f"its rescale is {rescale}")
        violated, escalations = (whole(facts[name], name, least=0) for name in ("violated", "escalations"))
        return _Descent(
            start=start,
            started=as_amount(facts["started"], "started"),
            logits=logits,
            guarded=SafeguardState(None, violated, target, escalations),
            rescale=rescale,
            rng_state=facts["rng_state"],
            n_history=n_history,
            scale=as_amount(facts["scale"], "scale"),
            step=step,
            stale=whole(facts["stale"], "stale", least=0),
        )

    def _remeasure(self) -> None:
        """Evaluate the selections of a checkpoint again: the current values of the metrics count, not stored ones."""
        feasible: list[_Candidate] = []
        near: list[_Candidate] = []
        for candidate in [*self.candidates, *([] if self.nearest is None else [self.nearest[1]])]:
            row = candidate.selection[None]
            values = np.array([float(c.values(row)[0]) for c in self.problem.constraints])
            fresh = _Candidate(np.nan, candidate.selection, values)
            if self._feasible(fresh):
                feasible.append(replace(fresh, value=float(values_of(self.problem.objective, row)[0])))
            else:
                near.append(fresh)
        self.candidates = sorted(feasible, key=lambda c: -self.problem.sign * c.value)
        self.nearest = None
        for fresh in near:
            rows = zip(self.problem.constraints, fresh.values.tolist(), strict=True)
            self._keep_nearest(fresh, np.array([float(c.violation(value)) for c, value in rows]))
        if self.now is not None:
            self.now = replace(self.now, guarded=replace(self.now.guarded, witness=self._witness()))
            if self.now.start == self.start < len(self.starts):
                self._prepare()


def uninterrupted(work: Callable[[], _T]) -> _T:
    """Prepare an answer; if Ctrl-C interrupts this, start again instead of losing the answer."""
    while True:
        try:
            return work()
        except KeyboardInterrupt:
            continue


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
