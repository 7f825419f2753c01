"""Tests of the theorem of docs/convergence.md: a guided descent against adversarial gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log2
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd.checks import whole
from cggd.constraints import Constraint
from cggd.constraints import check_constraints as as_list
from cggd.feasibility import find_feasible
from cggd.guide import Guide
from cggd.guide.directions import Weights
from cggd.guide.optimizers import SGD, Adam, Guided, Momentum, Optimizer
from cggd.guide.safeguard import ESCALATION, Safeguard, SafeguardStep, distance
from cggd.metrics import Metric
from cggd.problem import Problem
from cggd.space import ChoiceSpace
from cggd.testing.laws import LawError, check_direction, check_guide, check_metric, describe

# Rounding error of a proved decrease, as a share of the distance.
ROUNDING = 1e-9

Gradient = Callable[[NDArray[np.float64], "NDArray[np.float64]", np.random.Generator], NDArray[np.float64]]


def _outward(logits: NDArray[np.float64], inside: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A gradient whose descent leads straight away from a point inside the feasible region."""
    gap = inside - logits
    return 100.0 * gap / max(float(np.linalg.norm(gap)), 1e-12)


# Adversarial task gradients at some logits, given a point inside the feasible region.
GRADIENTS: Mapping[str, Gradient] = {
    "zero": lambda logits, inside, rng: np.zeros_like(logits),
    "constant": lambda logits, inside, rng: np.linspace(-1.0, 1.0, len(logits)),
    "random": lambda logits, inside, rng: 10.0 ** rng.uniform(-6, 2) * rng.standard_normal(len(logits)),
    "outward": _outward,
    "huge": lambda logits, inside, rng: 1e8 * rng.standard_normal(len(logits)),
    "tiny": lambda logits, inside, rng: 1e-12 * rng.standard_normal(len(logits)),
}

OPTIMIZERS: Mapping[str, Optimizer] = {"SGD": SGD(0.1), "momentum": Momentum(0.1), "Adam": Adam(0.1)}


@dataclass(frozen=True, eq=False, repr=False)
class Trace:
    """The steps of one run, its longest sequence of violated steps, and the longest that the theorem allows."""

    gradient: str
    optimizer: str
    seed: int
    steps: Sequence[SafeguardStep]
    longest: int
    allowed: int

    def __repr__(self) -> str:
        run = f"{self.gradient} gradient, {self.optimizer}, seed {self.seed}"
        return f"Trace({run}: at most {self.longest} of {self.allowed} violated steps in a row)"

    def __str__(self) -> str:
        lines = [f"gradient {self.gradient}, optimizer {self.optimizer}, seed {self.seed}"]
        shown = [*enumerate(self.steps)]
        for i, step in shown if len(shown) <= 20 else [*shown[:5], *shown[-12:]]:
            violations = ", ".join(f"{v:.3g}" for v in step.seen.violations)
            target = "" if step.state.target is None else f", {distance(step.state.target, step.logits):.3g} left"
            lines.append(f"  step {i}: {step.seen.selection.tolist()} violates by {violations}; {step.mode}{target}")
        return "\n".join(lines)


def assert_converges(
    problem: Problem | tuple[ChoiceSpace, Iterable[Constraint]] | Iterable[Constraint] | Constraint,
    *,
    objective: Metric | None = None,
    optimizer: Optimizer | Mapping[str, Optimizer] | None = None,
    gradients: Mapping[str, Gradient] | None = None,
    witness: Any = None,
    weights: Weights = "unit",
    rescale: float = 1.2,
    patience: int = 10,
    seeds: Iterable[int] = range(2),
) -> list[Trace]:
    """Check that a guided descent becomes feasible within the bound of the theorem, for every gradient.

    Every optimizer runs against every gradient, from random logits. The number of violated steps in a row must not
    exceed the bound. Each step of the safeguard must shorten the distance to its target by at least the proved amount.
    The target must be kept, and its selection must be feasible.

    Parameters
    ----------
    problem : Problem, (space, constraints), or constraints
        Some selection must satisfy all constraints.
    objective : Metric, optional
        Its advantage gradient is one more adversary; by default that of the problem's objective.
    optimizer : Optimizer or mapping of name to Optimizer, optional
        By default plain descent, momentum and Adam.
    gradients : mapping of name to callable(logits, inside, rng), optional
        By default `GRADIENTS`.
    witness : mapping or array-like, optional
        By default what `cggd.find_feasible` finds.
    weights, rescale, patience
        Of the guide and the safeguard.
    seeds : iterable of int

    Returns
    -------
    list of Trace
        One per run.

    Raises
    ------
    LawError
        With the run's trace and the condition that failed.
    ValueError
        If no feasible selection is found.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> cost = Additive(ChoiceSpace.from_sizes([3, 3]), [0, 1, 2, 0, 1, 2])
    >>> traces = assert_converges(cost <= 0)
    >>> all(trace.longest <= trace.allowed for trace in traces)
    True
    """
    if isinstance(problem, Problem):
        constraints, objective = list(problem.constraints), objective or problem.sign * problem.objective
    else:
        is_pair = isinstance(problem, tuple) and len(problem) == 2 and isinstance(problem[0], ChoiceSpace)
        constraints = as_list(*((problem[1], problem[0]) if is_pair else (problem,)))  # pyright: ignore[reportArgumentType, reportIndexIssue]
    if not constraints:
        raise ValueError("there is no constraint to converge to; give at least one")
    guide = Guide(constraints, weights=weights, rescale=rescale)
    if witness is None:
        found = find_feasible(constraints)
        if found.indices is None:
            raise ValueError(f"no feasible selection was found for {describe(constraints)}: {found.status.value}")
        witness = found.indices
    seeds = [whole(seed, "seeds", least=0) for seed in (seeds if isinstance(seeds, Iterable) else [seeds])]
    if not seeds:
        raise ValueError("seeds is empty; give at least one")
    optimizers = OPTIMIZERS if optimizer is None else optimizer
    optimizers = optimizers if isinstance(optimizers, Mapping) else {"given": optimizers}
    if not optimizers:
        raise ValueError("optimizer is empty; give at least one")
    adversaries = dict(GRADIENTS if gradients is None else gradients)
    if objective is not None:
        adversaries["objective"] = _of(objective)
    safeguard = Safeguard(guide, patience)
    return [
        _run(Guided(safeguard, rule), witness, gradient, rng_seed, str(name), str(rule_name))
        for rule_name, rule in optimizers.items()
        for name, gradient in adversaries.items()
        for rng_seed in seeds
    ]


def check_constraints(*constraints: Constraint, witness: Any = None, seed: int = 0) -> None:
    """Property-test your own constraints: their metrics, their directions, and a guided descent to satisfy them all.

    Parameters
    ----------
    *constraints : Constraint
    witness : mapping or array-like, optional
        A selection that satisfies them all; by default what `cggd.find_feasible` finds.
    seed : int

    Raises
    ------
    LawError
        With the law that does not hold and the case that shows it.
    """
    checked = as_list(list(constraints))
    if not checked:
        raise ValueError("there is no constraint to check; give at least one")
    for c in checked:
        check_metric(c.metric, seed=seed)
    weights: Weights
    for weights in ("unit", "difference", "confidence"):
        check_direction(checked, weights=weights, seed=seed)
        check_guide(Guide(checked, weights=weights), seed=seed)
    assert_converges(checked, witness=witness, seeds=[seed])


def _of(objective: Metric) -> Gradient:
    """The advantage gradient of an objective to be minimised, at the current selection."""

    def gradient(logits: NDArray, inside: NDArray, rng: np.random.Generator) -> NDArray[np.float64]:
        layout = objective.space.layout
        table = objective.replacements(layout.argmax(logits)).astype(float)
        return table - layout.spread(layout.reduce(np.add, table) / layout.sizes)

    return gradient


def _run(guided: Guided, witness: Any, gradient: Gradient, seed: int, name: str, optimizer: str) -> Trace:
    guard = guided.safeguard
    space, rng = guard.guide.space, np.random.default_rng(seed)
    state = guided.begin(witness)
    chosen = state.safeguard.witness
    assert chosen is not None
    inside = np.zeros(space.n_options)
    inside[space.layout.flat(chosen)] = 1.0
    logits = rng.standard_normal(space.n_options) * 10.0 ** rng.uniform(-3, 3)
    floor = guided.optimizer.learning_rate * guard.guide.epsilon
    steps: list[SafeguardStep] = []
    streak = longest = takeovers = 0
    allowed = most = guard.patience + 1

    def fail(condition: str) -> LawError:
        trace = Trace(name, optimizer, seed, steps, max(longest, streak), allowed)
        return LawError(f"{describe(guard.guide.constraints)}: {condition}\n{trace}")

    budget = 2 * guard.patience + 20
    while len(steps) < budget:
        before = state.safeguard
        step, state = guided.step(logits, gradient(logits, inside, rng), state)
        steps.append(step)
        if before.violated and before.target is not None and steps[-2].mode == "landed" and not step.feasible:
            raise fail("landing on the target must be feasible")
        streak = 0 if step.feasible else streak + 1
        if step.state.target is not None:
            if before.target is None:
                start = distance(step.state.target, logits)
                allowed = guard.patience + 1 + max(0, ceil(log2(max(start, 1e-300) / (guard.guide.rescale * floor))))
                most, takeovers = max(most, allowed), takeovers + 1
                if takeovers <= 2:  # a run that leaves the feasible region each time would never end
                    budget = max(budget, len(steps) + allowed)
            elif not np.array_equal(before.target, step.state.target):
                raise fail("the target must be kept until the selection is feasible")
            _check_decrease(guard, logits, step, before.escalations, floor, fail)
        longest = max(longest, streak)
        if streak > allowed:
            raise fail(f"at most {allowed} violated steps in a row are allowed by the theorem, got {streak}")
        logits = step.logits
    return Trace(name, optimizer, seed, steps, longest, most)


def _check_decrease(
    guard: Safeguard,
    logits: NDArray[np.float64],
    step: SafeguardStep,
    escalations: int,
    floor: float,
    fail: Callable[[str], LawError],
) -> None:
    """A step that does not land shortens the distance by at least (R 2^k - 1) times the floor."""
    assert step.state.target is not None
    before, after = (distance(step.state.target, x) for x in (logits, step.logits))
    if step.mode == "landed":
        if after > 0:
            raise fail(f"landing must end on the target, but {after} are left")
        return
    proved = (guard.guide.rescale * ESCALATION**escalations - 1) * floor
    if after > before - proved + ROUNDING * before:
        raise fail(f"a violated step must shorten the distance {before} by at least {proved}, but {after} are left")
