"""Searches: run improvers on a problem within a budget, and return a result."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cggd.budget import Budget, Stop
from cggd.checks import as_amount, check_time_limit, whole
from cggd.constraints import Constraint, Rule
from cggd.defaults import default_options
from cggd.incumbent import Candidate, Finding, Improver, Incumbent
from cggd.metrics import Executor, Metric, evaluating, values_of, without_cache
from cggd.metrics.base import check_metric
from cggd.metrics.evaluation import OutOfCalls, OutOfTime
from cggd.metrics.workers import EXECUTOR_WANTED, shared
from cggd.outputs import check_writable
from cggd.portfolio import FEW_EVALUATIONS, portfolio
from cggd.problem import Problem
from cggd.result import Asked, History, Result, Run, SearchError, Status
from cggd.series import uninterrupted
from cggd.several import in_order, several_answers, shares
from cggd.snapshot import fingerprint, restore, save

# Seconds per decision for translating the answer to labels.
ANSWER_SECONDS = 4e-7

# Seconds per option for evaluating the first selection, measured with 1e7 options and rounded up.
LOOK_SECONDS = 3e-8

# Interval between checkpoints; a power cut loses at most this much of a search.
CHECKPOINT_SECONDS = 30.0

# A deterministic metric may round differently in a batch than for one selection. A relative difference above this is
# reported as a changed answer.
CHANGED = 1e-6

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Progress:
    """State of a search, passed to the callback after each step.

    Attributes
    ----------
    phase : {"descent", "polish"}
        "descent" after a step of a descent, "polish" after a step of any other improver.
    start, step, starts, steps : int
        Position of the descent, and its numbers of starts and steps; 0 in the phase "polish".
    selection : ndarray of int, shape (n_decisions,), or None
        The current selection of a descent; otherwise the best feasible one, if any.
    violations : ndarray of shape (n_constraints,)
    best : float or None
        Best feasible objective so far.
    incumbent : ndarray of int, shape (n_decisions,), or None
        The best feasible selection.
    bound : float or None
        No feasible selection has a better objective; None if no bound is known.
    evaluations : int
    seconds : float
    """

    phase: Literal["descent", "polish"]
    start: int
    step: int
    starts: int
    steps: int
    selection: NDArray[np.int64] | None
    violations: NDArray[np.float64]
    best: float | None
    incumbent: NDArray[np.int64] | None
    bound: float | None
    evaluations: int
    seconds: float


def minimize(
    objective: Metric | Sequence[Metric],
    constraints: Sequence[Constraint | Rule] | Constraint | Rule = (),
    *,
    seed: int = 0,
    time_limit: float | None = None,
    max_evaluations: int | None = None,
    gap: float = 0.0,
    initial: Mapping[Hashable, Hashable] | ArrayLike | None = None,
    forbid: Mapping[Hashable, Iterable[Hashable]] | ArrayLike | None = None,
    improvers: Sequence[Improver] | None = None,
    callback: Callable[[Progress], Any] | None = None,
    executor: Executor | Callable[[], Executor] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    answers: int = 1,
    differ: int = 1,
    alike: Iterable[Hashable] | None = None,
    slack: float | Sequence[float] = 0.0,
) -> Result:
    """Find a selection that minimises a metric under bounds on others.

    Parameters
    ----------
    objective : Metric or list of Metric
        Several objectives are minimised in order: each one within `slack` of the best value of those before. The result
        is that of the last one; the others are at the end of its constraints.
    constraints : list of Constraint or rule
        Such as ``[latency <= 5.0, accuracy >= 90]``. `cggd.rules` makes rules between decisions.
    seed : int
        The same seed gives the same trajectory.
    time_limit : float, optional
        Seconds after which the search stops, including the set-up. A part of the search that cannot be stopped is not
        begun if its estimated end exceeds the limit by more than a tenth of it plus 0.1 s. A batch of black-box calls
        ends with the call in progress. If there is no time for a step, only the first selection is evaluated, and
        nothing if some metric is costly.
    max_evaluations : int, optional
        Largest number of selections for which black boxes are called, including the answer, which is evaluated again.
        A selection counts as often as the black box called most often for it. With a limit of at most
        `cggd.portfolio.FEW_EVALUATIONS`, a model of the black boxes chooses each selection (`cggd.Model`), unless
        `improvers` are given. If some metric is costly, only its calls count; these are made once per
        selection. Several answers and objectives share the limit.
    gap : float
        Share of the bound, less than 1: the search stops when the value is this close to the bound. With 0 it continues
        to the optimum.
    initial : mapping or array-like, optional
        A selection to start from: a mapping of labels for some or all decisions, or option indices for all.
    forbid : mapping of decision to options, or bool array of shape (n_options,), optional
        Options that must not be chosen.
    improvers : list of Improver, optional
        Methods that search for selections, bounds and proofs, run one after another. By default those of
        `cggd.portfolio.portfolio`.
    callback : callable, optional
        Called with a `Progress` after each step of an improver; a true return value stops the search.
    executor : object with the `concurrent.futures.Executor` interface, or function that makes one, optional
        Runs the black-box calls of a batch in parallel. If a model chooses the selections, as many calls are in
        progress as there are workers, and the trajectory depends on their times. A pool whose worker died is replaced
        (docs/device.md).
    checkpoint : path, optional
        File in which the search saves its state, every 30 seconds and when it stops. If the file cannot be written
        while the search runs, a `RuntimeWarning` says so.
    resume : bool
        Continue from `checkpoint` if that file exists. The trajectory is that of an uninterrupted run. The selections
        in the file are evaluated again, because a metric may have changed. These calls count as evaluations, unless
        the function caches them. Costly metrics are not called again: the file has what they measured. Proofs and
        bounds are not stored; the search computes them again.
    answers : int
        Number of answers. Those after the best one are `Result.alternatives`, in order. Each answer takes one search.
    differ : int
        Least number of decisions in which any two answers differ. With more than 1, each answer is the best one that
        differs so much from those before it.
    alike : list of decisions or "*", optional
        Interchangeable decisions, such as the places of a team. Answers that give them the same options in another
        order count as the same.
    slack : float or list of float
        Share of its best value that an objective may lose to those after it: 0.01 for one per cent.

    Returns
    -------
    Result
        Constraints are evaluated again before a selection is returned; ``remeasured`` is false if this failed. Ctrl-C
        ends the search at any time, and the result so far is returned.

    Raises
    ------
    SearchError
        If a metric raises, or does not return numbers. The exception carries the result so far.
    ValueError, TypeError
        If an argument is invalid, or if `checkpoint` is damaged, of another search or of an older version.

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
    return _optimise(options.pop("objective"), options.pop("constraints"), "minimize", options)


def maximize(
    objective: Metric | Sequence[Metric],
    constraints: Sequence[Constraint | Rule] | Constraint | Rule = (),
    **options: Any,
) -> Result:
    """Find a selection that maximises a metric under bounds on others; `options` are those of `minimize`.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> space = ChoiceSpace.from_sizes([2, 2])
    >>> maximize(Additive(space, [1, 2, 3, 5]), Additive(space, [0, 3, 0, 2]) <= 2).indices
    array([0, 1])
    """
    return _optimise(objective, constraints, "maximize", options)


def _optimise(objective: Any, constraints: Any, sense: Literal["minimize", "maximize"], options: dict) -> Result:
    if not isinstance(objective, list | tuple):
        return solve(Problem(objective, constraints, sense), **options)
    if not objective:
        raise ValueError("objective is an empty list; give at least one metric")
    for place, one in enumerate(objective):
        check_metric(one, f"objective[{place}]")
    return solve_in_order(Problem(objective[0], constraints, sense), [(one, sense) for one in objective[1:]], **options)


def solve_in_order(
    problem: Problem, then: Sequence[tuple[Metric, Literal["minimize", "maximize"]]], **options: Any
) -> Result:
    """Solve a problem, and then optimise further metrics, each with its sense, within `slack` of what came before.

    Parameters
    ----------
    problem : Problem
    then : list of (Metric, {"minimize", "maximize"})
    options
        Those of `minimize`.
    """
    options = _all(options)
    check_options(**options)
    with shared(options["executor"]) as options["executor"]:
        return in_order(solve, [(problem.objective, problem.sense), *then], problem, options["slack"], options)


def solve(problem: Problem, **options: Any) -> Result:
    """Minimise or maximise as the problem says; `options` are those of `minimize`."""
    # The time limit includes the set-up and the preparation of the answer.
    budget = Budget(reserve=ANSWER_SECONDS * problem.space.n_decisions)
    options = _all(options)
    several = {name: options.pop(name) for name in ("answers", "differ", "alike")}
    shares(options.pop("slack"), 1)
    with shared(options["executor"]) as options["executor"]:
        if several == ONE_ANSWER:
            return _Search(problem, budget, **options).run()
        check_options(**options)

        def search(problem: Problem, **options: Any) -> Result:
            return _Search(problem, Budget(reserve=budget.reserve), **options).run()

        return several_answers(search, problem, **several, options=options)


def _all(options: dict[str, Any]) -> dict[str, Any]:
    """The options, with the defaults of those that are not given."""
    if unknown := [name for name in options if name not in OPTIONS]:
        raise TypeError(f"unknown option {unknown[0]!r}; a search takes {', '.join(OPTIONS)}")
    return {**OPTIONS, **options}


OPTIONS: dict[str, Any] = dict(minimize.__kwdefaults__ or {})
ONE_ANSWER = {name: OPTIONS[name] for name in ("answers", "differ", "alike")}


def check_options(**options: Any) -> dict[str, Any]:
    """Options of `minimize`, checked and converted."""
    out = {**OPTIONS, **options}
    out["seed"] = whole(out["seed"], "seed", least=0)
    if out["max_evaluations"] is not None:
        out["max_evaluations"] = whole(out["max_evaluations"], "max_evaluations", least=1)
    check_time_limit(out["time_limit"])
    if as_amount(out["gap"], "gap") >= 1:
        raise ValueError(f"gap is a share of the bound and must be less than 1, got {out['gap']}; 0.05 means 5 %")
    if out["callback"] is not None and not callable(out["callback"]):
        raise TypeError(f"callback must be callable, got {out['callback']!r}")
    if out["executor"] is not None and not (hasattr(out["executor"], "submit") or callable(out["executor"])):
        raise TypeError(f"{EXECUTOR_WANTED}, got {out['executor']!r}")
    if isinstance(out["improvers"], str) or not isinstance(out["improvers"], Iterable | None):
        raise TypeError(f"improvers must be a list of improvers, got {out['improvers']!r}")
    out["improvers"] = None if out["improvers"] is None else list(out["improvers"])
    for improver in out["improvers"] or ():
        if isinstance(improver, type) or not (hasattr(improver, "suits") and hasattr(improver, "improve")):
            raise TypeError(f"improvers must be objects with the methods suits and improve, got {improver!r}")
    if out["checkpoint"] is not None:
        if not isinstance(out["checkpoint"], str | os.PathLike):
            raise TypeError(f"checkpoint must be a path, got {out['checkpoint']!r}")
        out["checkpoint"] = Path(out["checkpoint"])
    elif out["resume"]:
        raise ValueError("resume=True needs checkpoint, the file to continue from")
    return out


class _Search:
    """One search: runs the improvers in turn, and makes a result from the incumbent."""

    def __init__(self, problem: Problem, budget: Budget, **options: Any) -> None:
        self.problem, self.budget, self.options = problem, budget, options
        self.incumbent = Incumbent(problem)
        self.improvers: list[Improver] = []
        self.checking: Candidate | None = None
        self.saved = 0.0

    def _prepare(self) -> None:
        """Check the options and read the checkpoint; errors are raised before anything is evaluated."""
        problem, budget = self.problem, self.budget
        options = self.options = check_options(**self.options)
        allowed = problem.space.allowed(options["forbid"])
        if allowed is not None and problem.allowed is not None:
            allowed = problem.space.allowed(~(allowed & problem.allowed))
        self.problem = problem = problem if allowed is None else replace(problem, allowed=allowed)
        limit = options["time_limit"]
        budget.time_limit = np.inf if limit is None else float(limit)
        evaluation, most = budget.evaluation, options["max_evaluations"]
        budget.gap, evaluation.most, evaluation.costly = options["gap"], most, problem.costly
        evaluation.executor, evaluation.allowed = options["executor"], problem.allowed
        if most is not None:
            # The answer is evaluated again at the end.
            evaluation.reserved = min(problem.calls_each, most // 2)
        if most is not None or problem.costly:
            evaluation.seen = []
        searched = _searched(problem, options)
        self.incumbent = Incumbent(searched, _initial(problem, options["initial"]))
        self.improvers = options["improvers"]
        if self.improvers is None:
            self.improvers = portfolio(costly=searched.costly, complete=searched is not problem)
        if (path := options["checkpoint"]) is not None:
            check_writable(path, "checkpoint", replaced=True)
            if options["resume"] and path.exists():
                restore(path, self.incumbent, budget, self.improvers, self._fingerprint)

    def run(self) -> Result:
        """Search, and return the best result known, even after an error or Ctrl-C."""
        failure: Exception | None = None
        stopped, note, chosen, remeasured, prepared = Stop.INTERRUPTED, "", None, True, False
        try:
            self._prepare()
            prepared = True
            stopped, note = self._evaluating(self._loop)
        except KeyboardInterrupt:
            pass
        except Exception as error:
            if not prepared:
                raise
            failure, stopped, note = error, Stop.FAILED, _text(error)
        try:
            if prepared:
                self._save()
                self.budget.evaluation.admit = None
                if failure is None and stopped not in (Stop.INFEASIBLE, Stop.CALLBACK):
                    self._evaluating(lambda: self._evaluate_first(interrupted=stopped is Stop.INTERRUPTED))
        except OutOfCalls:
            pass
        except KeyboardInterrupt:
            stopped, note = Stop.INTERRUPTED, ""
        except Exception as error:
            if stopped is Stop.INTERRUPTED:
                note = f"then {_text(error)}"
            elif failure is None:
                failure, stopped, note = error, Stop.FAILED, _text(error)
        self.budget.evaluation.reserved = 0
        try:
            chosen = self._evaluating(self._verified)
        except OutOfCalls:
            chosen, remeasured = self.checking, False
        except KeyboardInterrupt:
            chosen, remeasured = self.checking, False
            stopped, note = Stop.INTERRUPTED, "while the selection was evaluated again"
        except Exception as error:
            chosen, remeasured = self.checking, False
            if stopped is Stop.INTERRUPTED:
                note = f"then the selection could not be evaluated again: {_text(error)}"
            else:
                failure = failure or error
                stopped, note = Stop.FAILED, _text(failure)
        result = uninterrupted(lambda: self._result(stopped, note, chosen, remeasured=remeasured))
        if failure is not None:
            raise SearchError.of(failure, result) from failure
        return result

    def _evaluating(self, work: Callable[[], _T]) -> _T:
        """Run work with this search's evaluation, in its own context, so that an interruption cannot leave it set."""

        def within() -> _T:
            with evaluating(self.budget.evaluation):
                return work()

        return copy_context().run(within)

    # -- the search -------------------------------------------------------------------------------------------------

    def _loop(self) -> tuple[Stop, str]:
        """Run the improvers in turn; return why the search stopped."""
        self.budget.admit()
        try:
            stop = self._ask()
        except OutOfTime:
            stop = Stop.TIME
        except OutOfCalls:
            stop = Stop.EVALUATIONS
        self.budget.evaluation.admit = None
        if stop is not Stop.CALLBACK:
            self._harvest()
        if stop is None:
            stop = Stop.TIME if self.budget.refused else Stop.DONE
        error = self.incumbent.error
        notes = {
            Stop.OPTIMAL: f"by more than {error:.0e}, the precision of the exact solver" if error else "",
            Stop.INFEASIBLE: self.incumbent.proof or "",
            Stop.TIME: f"{self.budget.time_limit:g} s" + (", too short for more" if self.budget.refused else ""),
            Stop.EVALUATIONS: f"{self.budget.evaluation.most}",
            Stop.GAP: f"{self.options['gap']:g}",
        }
        return stop, notes.get(stop, "")

    def _ask(self) -> Stop | None:
        self._remeasure()
        known, start = self.incumbent.candidates or self.incumbent.nearest, self.incumbent.start
        if start is not None and not known and not self.incumbent.problem.costly and not self.budget.over():
            self.incumbent.take(Finding(start), self.budget.seconds)  # `initial`, so that all improvers know it
        for place, improver in enumerate(self.improvers):
            if stop := self._reason_to_stop():
                return stop
            kept = self.incumbent.memory.get(place)
            if kept is not None and kept[0] is None:
                continue  # ended before the checkpoint
            problem = self.incumbent.problem
            if not improver.suits(problem):
                continue
            self.incumbent.resumed = None if kept is None else kept[0]
            rng = np.random.default_rng(np.random.SeedSequence(self.options["seed"], spawn_key=(place,)))
            for finding in improver.improve(problem, self.incumbent, self.budget, rng):
                self._take(place, finding)
                if stop := self._reason_to_stop():
                    return stop
            if place in self.incumbent.memory and not self.budget.over():
                self.incumbent.memory[place] = (None, len(self.incumbent.history))
        return self._reason_to_stop()

    def _take(self, place: int, finding: Finding | None) -> None:
        """Pass a finding to the incumbent, write a checkpoint if one is due, and call the callback."""
        seconds = self.budget.seconds
        if self.options["checkpoint"] is not None and seconds - self.saved > CHECKPOINT_SECONDS:
            self._save()
        if finding is not None:
            if finding.memory is not None:
                if not (hasattr(finding.memory, "pack") and hasattr(self.improvers[place], "unpack")):
                    raise TypeError(
                        "memory of a finding must have the method pack, and its improver the method unpack; got a "
                        f"{type(finding.memory).__name__} of a {type(self.improvers[place]).__name__}"
                    )
                self.incumbent.memory[place] = (finding.memory, len(self.incumbent.history))
            self.incumbent.take(finding, seconds)
        self._harvest()
        if self.options["callback"] is not None and self.options["callback"](self._progress(finding)):
            self.budget.asked_to_stop = True

    def _harvest(self) -> None:
        """Take the best of the selections that were evaluated for a table or a batch, without further calls."""
        problem, seen = self.problem, self.budget.evaluation.seen
        if not seen:
            return
        if any(metric.noisy and not metric.costly for metric in problem.metrics):
            seen.clear()  # the best of many noisy values is best by chance
            return
        rows = np.unique(np.concatenate(seen), axis=0)
        seen.clear()
        for metric in problem.metrics:
            low, high = metric.between(rows)
            rows = rows[low == high]  # values that are known and valid
        if len(rows):
            rows = rows[~problem.ruled_out(rows)]
        if len(rows):
            self.incumbent.take(Finding(rows[np.argmin(problem.sign * values_of(problem.objective, rows))]))

    def _reason_to_stop(self) -> Stop | None:
        if self.incumbent.proof is not None:
            return Stop.INFEASIBLE
        if self.budget.asked_to_stop:
            return Stop.CALLBACK
        return self.incumbent.settled(self.budget) or self.budget.reason()

    def _evaluate_first(self, *, interrupted: bool) -> None:
        """Evaluate one selection if no feasible one is known: the first of a descent, else the first allowed options.

        It is not in the checkpoint, so that a resumed search takes the same steps. No call of a costly metric is made;
        and if some selection is known, none of a black box after the time limit, and nothing after Ctrl-C.
        """
        incumbent, problem, space = self.incumbent, self.problem, self.problem.space
        if incumbent.candidates or self.budget.evaluation.exhausted:
            return
        if incumbent.nearest is not None and (interrupted or (self.budget.left == 0 and problem.calls_each)):
            return
        if not self.budget.fits(LOOK_SECONDS * space.n_options, late=True):
            return
        scores = np.zeros(space.n_options)
        if incumbent.initial is not None:
            given = np.flatnonzero(incumbent.initial >= 0)
            scores[space.offsets[given] + incumbent.initial[given]] = 1.0
        if problem.allowed is not None:
            scores[~problem.allowed] = -1.0
        first = space.layout.argmax(scores) if incumbent.first is None else incumbent.first
        if not problem.costly or problem.ruled_out(first[None])[0]:
            incumbent.take(Finding(first))

    def _progress(self, finding: Finding | None) -> Progress:
        incumbent = self.incumbent
        place = None if finding is None else finding.place
        selection, violations = incumbent.selection, np.zeros(len(self.problem.constraints))
        if finding is not None and place is not None and finding.selection is not None:
            selection, violations = finding.selection, incumbent.history[-1][2]
        return Progress(
            phase="polish" if place is None else "descent",
            start=0 if place is None else place.start,
            step=0 if place is None else place.step,
            starts=0 if place is None else place.starts,
            steps=0 if place is None else place.steps,
            selection=selection,
            violations=violations,
            best=incumbent.value,
            incumbent=incumbent.selection,
            bound=incumbent.bound,
            evaluations=self.budget.evaluation.calls,
            seconds=self.budget.seconds,
        )

    # -- the end ----------------------------------------------------------------------------------------------------

    def _verified(self) -> Candidate | None:
        """The best candidate that satisfies every constraint when evaluated again.

        `checking` is the candidate being evaluated; `run` reports it after an interruption or an error.
        """
        with without_cache():
            for candidate in reversed(self.incumbent.candidates):
                self.checking = candidate
                fresh = self._evaluated(candidate)
                if not self.problem.violations(fresh.values).any():
                    return fresh
                self.checking, self.incumbent.nearest = None, fresh
        return None

    def _evaluated(self, candidate: Candidate) -> Candidate:
        """Evaluate a candidate again, and warn if a metric gives a different value."""
        value = float(values_of(self.problem.objective, candidate.selection[None])[0])
        fresh = Candidate(value, candidate.selection, self.problem.values(candidate.selection))
        pairs = zip((candidate.value, *candidate.values), (fresh.value, *fresh.values), strict=True)
        for metric, (old, new) in zip(self.problem.metrics, pairs, strict=True):
            if not metric.noisy and abs(new - old) > CHANGED * max(1.0, abs(old)):
                warnings.warn(
                    f"metric {metric.name!r} changed its answer for one selection from {old:.6g} to {new:.6g}; "
                    "if it is noisy, make it a Function with repeats of at least 2",
                    stacklevel=2,
                )
        return fresh

    def _result(self, stopped: Stop, note: str, chosen: Candidate | None, *, remeasured: bool) -> Result:
        """Make the result. `chosen` has been evaluated again, unless `remeasured` is false."""
        incumbent, problem = self.incumbent, self.problem
        shown, bound, selection = chosen, incumbent.bound, None
        if chosen is not None and remeasured:
            step = 0.0 if self.options["gap"] > 0 else incumbent.step(self.budget)
            status = Status.OPTIMAL if incumbent.optimal(chosen.value, step) else Status.FEASIBLE
            if incumbent.optimal(chosen.value, step, exactly=True):
                bound = chosen.value
        else:
            status = Status.INFEASIBLE if incumbent.proof is not None and chosen is None else Status.UNKNOWN
            if chosen is None and (incumbent.nearest is not None or incumbent.candidates):
                shown = incumbent.nearest if incumbent.nearest is not None else incumbent.candidates[-1]
        rows = []
        if shown is not None:
            rows = [c.row(v) for c, v in zip(problem.constraints, shown.values.tolist(), strict=True)]
            selection = problem.space.labels(shown.selection)
        default = None if shown is None else shown.selection == default_options(problem)
        known = status in (Status.OPTIMAL, Status.FEASIBLE)
        history = History.of(incumbent.history, len(problem.constraints))
        return Result(
            selection=None if chosen is None else selection,
            indices=None if chosen is None else chosen.selection.copy(),
            value=None if chosen is None else chosen.value,
            status=status,
            stopped=stopped,
            constraints=rows,
            nearest=None if known else selection,
            bound=bound,
            asked=Asked(problem.objective.name, problem.objective.unit, problem.sense, problem),
            run=Run(
                history,
                self.budget.evaluation.calls,
                self.budget.seconds,
                self.options["seed"],
                note,
                None if default is None else np.flatnonzero(~default),
            ),
            remeasured=chosen is None or remeasured,
        )

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Write the checkpoint, if there is one; an OSError such as a full disk only causes a warning."""
        path = self.options["checkpoint"]
        if path is None:
            return
        try:
            save(path, self.incumbent, self.budget, self._fingerprint)
        except OSError as error:
            warnings.warn(
                f"checkpoint {path} could not be written ({error}); the search goes on, and the file holds what "
                "was written before, if anything",
                RuntimeWarning,
                stacklevel=2,
            )
        self.saved = self.budget.seconds

    @cached_property
    def _fingerprint(self) -> dict[str, Any]:
        """Facts in which a checkpoint must agree with this search."""
        return fingerprint(self.problem, self.options["seed"], self.improvers)

    def _remeasure(self) -> None:
        """Evaluate the selections of a checkpoint again, and use these values instead of the stored ones."""
        incumbent, again = self.incumbent, Incumbent(self.incumbent.problem)
        for candidate in [*incumbent.candidates, *([] if incumbent.nearest is None else [incumbent.nearest])]:
            again.take(Finding(candidate.selection))
        # Replaced only at the end, so that an interruption loses nothing from the checkpoint.
        incumbent.candidates, incumbent.nearest = again.candidates, again.nearest


def _searched(problem: Problem, options: Mapping[str, Any]) -> Problem:
    """The problem, with its black boxes as costly metrics if few evaluations are allowed."""
    most = options["max_evaluations"]
    if most is None or most > FEW_EVALUATIONS or options["improvers"] is not None:
        return problem
    if problem.costly or problem.calls_each == 0 or problem.space.has_at_most(most):
        return problem
    costly = problem.as_costly()
    return problem if costly.calls_each else costly


def _initial(problem: Problem, initial: Any) -> NDArray[np.int64] | None:
    """Option indices to start from; -1 for decisions without an initial option."""
    if initial is None:
        return None
    space, allowed = problem.space, problem.allowed
    try:
        chosen = space.partial(initial) if isinstance(initial, Mapping) else space.indices(initial)
    except (ValueError, TypeError) as error:
        raise type(error)(f"initial is not a selection: {error}") from None
    if allowed is not None:
        given = np.flatnonzero(chosen >= 0)
        wrong = given[~allowed[space.offsets[given] + chosen[given]]]
        if len(wrong):
            at = int(space.offsets[wrong[0]] + chosen[wrong[0]])
            raise ValueError(f"initial takes {space.name_option(at)}, which forbid rules out")
    return chosen


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
