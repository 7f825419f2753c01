"""Descent: the paper's method.

Each option has a continuous score, its logit. The logits follow the negative gradient of the objective, as modified by
the guide.

The gradient is estimated by ``q - <p, q>``. Here p is the softmax distribution of the logits, and q is the replacement
table of the objective at a selection drawn from p. A separable objective needs no sample, and p is uniform. The guide
modifies each step (CGGD; Van Baelen & Karsmakers, 2023); the step size decays linearly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd.budget import Budget
from cggd.checks import as_amount, as_number, check_choice, own, whole
from cggd.constraints import Constraint
from cggd.guide.directions import Weights
from cggd.guide.guide import Balance, Guide, Observation, allowed_by
from cggd.guide.relaxation import annealed, sample, softmax
from cggd.guide.safeguard import Safeguard, SafeguardState
from cggd.incumbent import Finding, Incumbent, Place, seed_of
from cggd.metrics import Metric, table_of
from cggd.metrics.base import worsened
from cggd.problem import Problem

# The rescale factor R grows by ESCALATION in each infeasible step. One feasible step undoes the growth of 30 infeasible
# ones, so that about one step in thirty is feasible. On MMKP I07 with 12 seeds, the gap to the LP bound is 0.77%.
# Factors of 1.02 to 1.10 with 9 to 19 steps gave 0.80 to 0.94%, so the choice matters little.
ESCALATION = 1.02
RELIEF = ESCALATION**30
LARGEST_RESCALE = 20.0

# Least step size. The decaying step would end at 0, where the guide has no effect.
SMALLEST_STEP = 1e-9

# Seconds per option for evaluating the first selection, and for the first step. Measured on one core at 2.5 GHz with
# 1e7 options, additive metrics and 3 constraints, and rounded up.
LOOK_SECONDS = 3e-8
STEP_SECONDS = 1e-7

# Descents on large sums end 0.5 to 2% above the bound. If the relative gap is at most NEAR, no descent is begun.
NEAR = 1e-3

# Share of the time left for descents if a relaxation and a feasible selection are known. Then other improvers are
# faster.
SETTLED_SHARE = 0.1

# Standard deviation of the initial logits; this noise only breaks ties.
NOISE = 1e-3

# Initial advantage of the logits of the options in `Incumbent.initial`. That selection is then evaluated first, and the
# descent can leave it within a few steps of the default size.
HEAD_START = 1.0


@dataclass(frozen=True)
class Start:
    """Parameters of one start of a descent.

    Parameters
    ----------
    weights, balance : str
        See `cggd.Guide`.
    learning_rate : float
        Size of the first step. The gradient is scaled to a root mean square of at most 1.
    temperature : (float, float)
        Temperature of the softmax distribution in the first step and after two thirds of the steps.
    """

    weights: Weights = "unit"
    balance: Balance = "equal"
    learning_rate: float = 0.1
    temperature: tuple[float, float] = (10.0, 0.1)

    def __post_init__(self) -> None:
        check_choice(self.weights, Weights, "weights")
        check_choice(self.balance, Balance, "balance")
        if as_number(self.learning_rate, "learning_rate") <= 0:
            raise ValueError(f"learning_rate must be greater than 0, got {self.learning_rate}")
        ends = tuple(self.temperature) if isinstance(self.temperature, Sequence) else ()
        if len(ends) != 2 or not all(as_number(end, "temperature") > 0 for end in ends):
            raise ValueError(f"temperature must be two numbers greater than 0, got {self.temperature!r}")
        own(self, temperature=ends)


# The paper's rule suits small spaces with interacting decisions, the other rule suits large additive spaces. Neither is
# always best (MMKP I01 and I02 need the paper's), so the starts mix both; the more suitable one is used more often.
PAPER = Start()
ADDITIVE = Start(weights="difference", balance="violation")
SEPARABLE = (ADDITIVE, PAPER, ADDITIVE)
INTERACTING = (PAPER, ADDITIVE, PAPER)


@dataclass(frozen=True, eq=False)
class Course:
    """State of the descent of one start.

    Each step replaces it as a whole, so an interruption leaves the state after the last complete step. `used` is the
    completed share of the start, and `cost` that of the best selection known before the next step.
    """

    start: int
    logits: NDArray[np.float64]
    guarded: SafeguardState
    rescale: float
    rng_state: dict[str, Any]
    scale: float = 0.0
    step: int = 0
    stale: int = 0
    used: float = 0.0
    cost: float = np.inf

    def pack(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Facts and arrays for a checkpoint."""
        facts = {
            name: getattr(self, name) for name in ("start", "rescale", "rng_state", "scale", "step", "stale", "used")
        }
        facts |= {
            "cost": None if np.isinf(self.cost) else self.cost,
            "violated": self.guarded.violated,
            "escalations": self.guarded.escalations,
        }
        arrays = {"logits": self.logits}
        if self.guarded.target is not None:
            arrays["target"] = self.guarded.target
        return facts, arrays


@dataclass(frozen=True, eq=False)
class Descent:
    """The guided descent, run from several starts.

    Parameters
    ----------
    steps : int
        Steps of each start.
    starts : int or list of Start
        Starts, which share only the best selection found. A number stands for a mix of the paper's rule and the rule
        for large additive spaces, beginning with the more suitable one.
    no_improvement : int, optional
        Steps without a better feasible selection after which a start ends.
    rescale : float
        Rescale factor R > 1 of the guide. It grows in steps that violate a constraint, and shrinks back in others.
    patience : int
        Consecutive infeasible steps after which the safeguard moves towards the best feasible selection.
    share : float
        Share of the time left for all starts together, divided equally among them.
    fewest_steps : int
        A start ends after its first step if its time allows fewer steps than this, or than `steps`.
    first, last : int, int or None
        Which starts to run, as in the slice ``[first:last]`` of a list.
    move : callable
        Called with the constraints, the `Start` and the descent. Returns an object with the method `step` of
        `Safeguard`, which moves the logits. The default is the guide with its safeguard.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace, minimize
    >>> space = ChoiceSpace({"stem": ["small", "large"], "head": ["small", "large"]})
    >>> error = Additive(space, [9.0, 4.0, 7.0, 1.0], name="error", unit="%")
    >>> latency = Additive(space, [1.0, 3.0, 1.0, 4.0], name="latency", unit="ms")
    >>> minimize(error, [latency <= 5.0], improvers=[Descent()]).value
    10.0
    """

    steps: int = 600
    starts: int | Sequence[Start] = 6
    no_improvement: int | None = None
    rescale: float = 1.2
    patience: int = 100
    share: float = 1.0
    fewest_steps: int = 0
    first: int = 0
    last: int | None = None
    move: Callable[[Sequence[Constraint], Start, Descent], Any] | None = None

    def __post_init__(self) -> None:
        own(self, steps=whole(self.steps, "steps", least=1), patience=whole(self.patience, "patience", least=0))
        own(self, fewest_steps=whole(self.fewest_steps, "fewest_steps", least=0))
        if self.no_improvement is not None:
            own(self, no_improvement=whole(self.no_improvement, "no_improvement", least=1))
        if isinstance(self.starts, Iterable) and not isinstance(self.starts, str):
            own(self, starts=tuple(self.starts))
            if not self.starts:
                raise ValueError("starts is empty; give a number, or at least one Start")
            if not all(isinstance(start, Start) for start in self.starts):
                raise TypeError(f"starts must be a number, or a list of Start, got {list(self.starts)!r}")
        else:
            own(self, starts=whole(self.starts, "starts", least=1))
        if as_number(self.rescale, "rescale") <= 1:
            raise ValueError(f"rescale must be greater than 1, got {self.rescale}")
        if not 0 < as_number(self.share, "share") <= 1:
            raise ValueError(f"share must be greater than 0 and at most 1, got {self.share}")

    def suits(self, problem: Problem) -> bool:
        """Always true."""
        return True

    def several_starts(self, objective: Metric) -> list[Start]:
        """List of all starts; a number of starts is expanded into a mix of two kinds."""
        if isinstance(self.starts, int):
            return list(islice(cycle(SEPARABLE if objective.separable else INTERACTING), self.starts))
        return list(self.starts)

    def improve(
        self, problem: Problem, incumbent: Incumbent, budget: Budget, rng: np.random.Generator
    ) -> Iterator[Finding]:
        """Yield the selection of each step; see `cggd.incumbent.Improver`."""
        starts = self.several_starts(problem.objective)
        numbers = range(len(starts))[self.first : self.last]
        settled = incumbent.relaxed is not None and incumbent.selection is not None
        mine = budget.part(share=min(self.share, SETTLED_SHARE) if settled else self.share)
        known: Course | None = incumbent.resumed
        if known is not None:
            known = replace(known, guarded=replace(known.guarded, witness=incumbent.selection))
        for number in numbers:
            if incumbent.relaxed is not None and (incumbent.gap <= NEAR or incumbent.closing):
                return
            if known is not None and known.start > number:
                continue
            part = mine.part(share=1 / (numbers.stop - number))
            if known is None and not part.fits(LOOK_SECONDS * problem.space.n_options):
                return
            course = known or self._begun(problem, incumbent, seed_of(rng), number)
            known = None
            steps = _Steps(self, problem, incumbent, part, starts, course)
            yield from steps
            if steps.too_slow or budget.over():
                return

    def _begun(self, problem: Problem, incumbent: Incumbent, seed: Any, number: int) -> Course:
        """State of a start before its first step."""
        space, rng = problem.space, np.random.default_rng([seed, number])
        logits = NOISE * rng.standard_normal(space.n_options)
        if incumbent.initial is not None:
            given = np.flatnonzero(incumbent.initial >= 0)
            logits[space.offsets[given] + incumbent.initial[given]] += HEAD_START
        if problem.allowed is not None:
            logits[~problem.allowed] = -np.inf
        if incumbent.first is None:
            incumbent.first = space.layout.argmax(logits)
        guarded = SafeguardState(incumbent.selection)
        state = dict(rng.bit_generator.state)
        return Course(number, logits, guarded, self.rescale, state, cost=incumbent.cost)

    def guard(self, problem: Problem, start: Start) -> Any:
        """The object that moves the logits; None without constraints."""
        if not problem.constraints:
            return None
        if self.move is not None:
            return self.move(problem.constraints, start, self)
        guide = Guide(problem.constraints, rescale=self.rescale, weights=start.weights, balance=start.balance)
        return Safeguard(guide, self.patience)

    def unpack(self, problem: Problem, facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Course:
        """Restore the state that `Course.pack` wrote to a checkpoint.

        Raises
        ------
        ValueError, TypeError, KeyError
            If the data are not a valid state.
        """
        forbidden = np.zeros(problem.space.n_options, dtype=bool) if problem.allowed is None else ~problem.allowed
        for name in arrays.keys() & {"logits", "target"}:
            numbers = arrays[name]
            if numbers.shape != forbidden.shape or numbers.dtype != np.float64:
                raise ValueError(f"its {name} is an array of {numbers.dtype} of shape {numbers.shape}")
            if not np.array_equal(np.isneginf(numbers), forbidden) or not np.isfinite(numbers[~forbidden]).all():
                raise ValueError(f"its {name} do not fit the forbidden options, or are not finite")
        start, step = whole(facts["start"], "start", least=0), whole(facts["step"], "step", least=0)
        if start >= len(self.several_starts(problem.objective)) or step > self.steps:
            raise ValueError(f"it stands at step {step} of start {start}")
        np.random.default_rng().bit_generator.state = facts["rng_state"]
        rescale = as_amount(facts["rescale"], "rescale")
        if rescale < self.rescale:
            raise ValueError(f"its rescale is {rescale}")
        violated, escalations = (whole(facts[name], name, least=0) for name in ("violated", "escalations"))
        return Course(
            start=start,
            logits=arrays["logits"],
            guarded=SafeguardState(None, violated, arrays.get("target"), escalations),
            rescale=rescale,
            rng_state=facts["rng_state"],
            scale=as_amount(facts["scale"], "scale"),
            step=step,
            stale=whole(facts["stale"], "stale", least=0),
            used=as_amount(facts["used"], "used"),
            cost=np.inf if facts["cost"] is None else as_number(facts["cost"], "cost"),
        )


class _Steps:
    """The steps of one start, as an iterator of findings."""

    def __init__(
        self,
        descent: Descent,
        problem: Problem,
        incumbent: Incumbent,
        budget: Budget,
        starts: Sequence[Start],
        course: Course,
    ) -> None:
        self.descent, self.problem, self.incumbent, self.budget = descent, problem, incumbent, budget
        self.starts, self.how, self.course = len(starts), starts[course.start], course
        self.guard = descent.guard(problem, self.how)
        self.rng = np.random.default_rng()
        self.rng.bit_generator.state = course.rng_state
        self.slope: NDArray[np.float64] | None = None
        self.step_seconds: float | None = None
        self.before = course.used  # share of this start that an interrupted run completed

    def __iter__(self) -> Iterator[Finding]:
        """In each step: gradient of the objective, step of the guide, finding."""
        descent, problem, incumbent = self.descent, self.problem, self.incumbent
        first = True
        while self.course.step < descent.steps:
            now, began = self.course, self.budget.seconds
            stale = descent.no_improvement is not None and now.stale >= descent.no_improvement
            if not first and (stale or self._share_done() >= 1.0 or self.too_slow or self.budget.over()):
                return
            estimate = STEP_SECONDS * problem.space.n_options if self.step_seconds is None else self.step_seconds
            if not self.budget.fits(estimate):
                return
            gradient, scale = self._task_gradient(now)
            size = max(self.how.learning_rate * (1.0 - self._share_done()), SMALLEST_STEP)
            if self.guard is not None:
                floor = size * self.guard.guide.epsilon
                step = self.guard.step(now.logits, -size * gradient, now.guarded, floor=floor, rescale=now.rescale)
                logits, guarded, seen = step.logits, step.state, step.seen
            else:
                chosen = problem.space.layout.argmax(now.logits)
                seen = Observation(chosen, np.zeros(0), np.zeros(0), allowed_by(now.logits))
                logits, guarded = now.logits - size * gradient, now.guarded
            place = Place(now.start, now.step + 1, self.starts, descent.steps)
            yield Finding(seen.selection, values=seen.values, place=place, memory=now)
            if seen.feasible:  # the witness is the best feasible selection, not the last one
                guarded = replace(guarded, witness=incumbent.selection)
                rescale = max(now.rescale / RELIEF, descent.rescale)
            else:
                rescale = min(now.rescale * ESCALATION, max(LARGEST_RESCALE, descent.rescale))
            self.course = Course(
                start=now.start,
                logits=logits,
                guarded=guarded,
                rescale=rescale,
                rng_state=dict(self.rng.bit_generator.state),
                scale=scale,
                step=now.step + 1,
                stale=0 if incumbent.cost < now.cost else now.stale + 1,
                used=self._share_done(),
                cost=incumbent.cost,
            )
            self.step_seconds, first = self.budget.seconds - began, False

    @property
    def too_slow(self) -> bool:
        """Whether there is no time for the least number of steps."""
        fewest = min(self.descent.fewest_steps, self.descent.steps)
        seconds = self.step_seconds
        return seconds is not None and (fewest - self.course.step) * seconds > self.budget.left

    def _share_done(self) -> float:
        """Completed share of the start: the greater of the shares of its steps and of its time."""
        return max(self.course.step / self.descent.steps, self.before + (1.0 - self.before) * self.budget.used)

    def _task_gradient(self, now: Course) -> tuple[NDArray[np.float64], float]:
        """Estimated gradient of the cost, scaled to a root mean square of at most 1, and the scale."""
        if self.slope is not None:
            return self.slope, now.scale
        objective, layout = self.problem.objective, self.problem.space.layout
        if objective.separable:
            probabilities = 1.0 / layout.spread(layout.sizes.astype(float))
            selection = layout.argmax(now.logits)
        else:
            hot, cold = self.how.temperature
            temperature = annealed(now.step, self.descent.steps, start=hot, end=cold)
            probabilities = softmax(now.logits, layout, temperature=temperature)
            selection = sample(now.logits / temperature, layout, self.rng)
        gradient = worsened(table_of(objective, selection), self.problem.sign).astype(float)
        gradient *= self.problem.sign
        gradient -= layout.spread(layout.reduce(np.add, probabilities * gradient))
        if self.problem.allowed is not None:
            gradient[~self.problem.allowed] = 0.0
        scale = max(now.scale, float(np.sqrt(np.mean(gradient**2))))
        if scale > 0:
            gradient /= scale
        if objective.separable:
            self.slope = gradient
        return gradient, scale
