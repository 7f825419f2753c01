"""The guide: modifies a task gradient so that the logits move into the feasible region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cggd.checks import as_above, check_choice, own
from cggd.constraints import Constraint, Violations, check_constraints
from cggd.guide.directions import Weights, norm, three_case, unit
from cggd.metrics.base import Shifted
from cggd.space import ChoiceSpace, as_floats

Balance = Literal["equal", "violation"]

# Tables of several constraints are handled together up to this many numbers, one after another above it.
STACKED = 1_000_000


@dataclass(frozen=True, eq=False)
class Observation:
    """The selection that some logits give, and the values of the constraints there.

    Attributes
    ----------
    selection : ndarray of int, shape (n_decisions,)
        The option of each decision with the largest logit.
    values : ndarray of shape (n_constraints,)
        The constraints' metrics at the selection.
    violations : ndarray of shape (n_constraints,)
        By how much each bound is violated; 0 where it is satisfied.
    allowed : bool array of shape (n_options,), or None
        The options that may be chosen; None where all may.
    """

    selection: NDArray[np.int64]
    values: NDArray[np.float64]
    violations: NDArray[np.float64]
    allowed: NDArray[np.bool_] | None = None

    @property
    def feasible(self) -> bool:
        """Whether the selection satisfies every constraint."""
        return not self.violations.any()


@dataclass(frozen=True, eq=False)
class GuideStep:
    """Result of one call of a guide.

    Attributes
    ----------
    gradient : ndarray of shape (n_options,)
        The modified gradient; a step goes along its negative.
    direction : ndarray of shape (n_options,)
        Unit vector toward the feasible region, or zero.
    seen : Observation
    """

    gradient: NDArray[np.float64]
    direction: NDArray[np.float64]
    seen: Observation

    @property
    def feasible(self) -> bool:
        """Whether the selection satisfies every constraint."""
        return self.seen.feasible


def allowed_by(logits: NDArray[np.float64]) -> NDArray[np.bool_] | None:
    """Mask of the options whose logit is not ``-inf``, which may be chosen; None if all may."""
    if np.isfinite(logits.min()):  # cheap, and nearly always enough
        return None
    forbidden = np.isneginf(logits)
    return ~forbidden if forbidden.any() else None


@dataclass(frozen=True, eq=False)
class Guide:
    r"""Gradient modification of CGGD: :math:`g' = g - R \max(\|g\|, \epsilon)\, d`.

    Each violated constraint has a direction, a unit vector (`cggd.guide.directions.three_case`); d is the unit vector
    of their sum. If all constraints are satisfied, the gradient is not changed. The guide keeps no state between calls.

    Parameters
    ----------
    constraints : list of Constraint
        Of one choice space; at least one.
    rescale : float
        R > 1, so that the step has a positive component along d for every gradient. The default is the paper's.
    epsilon : float
        Lower limit of the norm in the formula; without it, a vanishing gradient would stop the logits.
    weights : {"unit", "difference", "confidence"}
        See `cggd.guide.directions.three_case`. ``"unit"`` (the paper's) suits small spaces whose decisions interact,
        ``"difference"`` large additive ones, ``"confidence"`` noisy measurements.
    balance : {"equal", "violation"}
        Weights of the directions of several violated constraints: equal (the paper), or in proportion to the violation
        in standard deviations of the replacement table. The latter is Cimmino's simultaneous projection; on MMKP I07
        it reduces the loss against the LP bound by a third.

    Examples
    --------
    >>> from cggd import Additive
    >>> space = ChoiceSpace({"stem": ["conv3", "conv5"], "pool": ["max", "none"]})
    >>> latency = Additive(space, [1.0, 2.5, 0.5, 0.0], name="latency", unit="ms")
    >>> guide = Guide([latency <= 2.0])
    >>> guide.modify(np.zeros(4), logits=np.array([0.0, 1.0, 1.0, 0.0])).round(5)
    array([-0.0006,  0.0006,  0.0006, -0.0006])
    """

    constraints: Sequence[Constraint]
    rescale: float = 1.2
    epsilon: float = 1e-3
    weights: Weights = "unit"
    balance: Balance = "equal"

    def __post_init__(self) -> None:
        constraints = check_constraints(self.constraints)
        if not constraints:
            raise ValueError("constraints is empty; a guide needs at least one")
        rescale, epsilon = as_above(self.rescale, "rescale", 1), as_above(self.epsilon, "epsilon", 0)
        check_choice(self.weights, Weights, "weights")
        check_choice(self.balance, Balance, "balance")
        own(self, constraints=tuple(constraints), rescale=rescale, epsilon=epsilon)

    @property
    def space(self) -> ChoiceSpace:
        """The choice space of the constraints."""
        return self.constraints[0].space

    def modify(self, gradient: ArrayLike, logits: ArrayLike) -> NDArray[np.float64]:
        """The modified gradient, shape (n_options,); an option whose logit is ``-inf`` is forbidden.

        Parameters
        ----------
        gradient, logits : array-like of shape (n_options,)
        """
        return self.step(gradient, logits).gradient

    def step(self, gradient: ArrayLike, logits: ArrayLike, *, rescale: float | None = None) -> GuideStep:
        """`modify`, with the selection and the direction; `rescale` overrides R for this step."""
        gradient, logits = self.check_flat(gradient, "gradient"), self.check_flat(logits, "logits")
        scale = self.rescale if rescale is None else as_above(rescale, "rescale", 1)
        seen = self.observe(logits)
        if seen.feasible:
            return GuideStep(gradient, np.zeros_like(gradient), seen)
        direction = self.direction(seen)
        modified = gradient.copy()
        modified -= scale * max(norm(gradient), self.epsilon) * direction
        return GuideStep(modified, direction, seen)

    def observe(self, logits: NDArray[np.float64]) -> Observation:
        """Evaluate the constraints on the selection of some logits, shape (n_options,)."""
        selection = self.space.layout.argmax(logits)
        values = np.array([c.values(selection[None])[0] for c in self.constraints], dtype=float)
        return Observation(selection, values, self._missed(values), allowed_by(logits))

    def direction(self, seen: Observation) -> NDArray[np.float64]:
        """Unit vector toward the feasible region from a selection, shape (n_options,); zero where nothing can help."""
        selection, violations, allowed = seen.selection, seen.violations, seen.allowed
        active = np.flatnonzero(violations > 0)
        if len(active) == 0:
            return np.zeros(self.space.n_options)
        together = max(1, STACKED // self.space.n_options)
        total = self._weighted(active[:together], selection, violations, allowed)
        for i in range(together, len(active), together):
            total += self._weighted(active[i : i + together], selection, violations, allowed)
        return total if len(active) == 1 else unit(total)

    def _weighted(
        self, active: NDArray[Any], selection: NDArray[Any], violations: NDArray[Any], allowed: NDArray[Any] | None
    ) -> NDArray[np.float64]:
        """Weighted sum of the directions of some violated constraints."""
        constraints, layout = [self.constraints[i] for i in active], self.space.layout
        limits, ranks = self._missed.signs[active] * self._missed.bounds[active], None
        known: list[Shifted] = []
        sums = [c.metric.shifted(selection) for c in constraints] if self.weights != "confidence" else [None]
        if allowed is None and all(part is not None for part in sums):
            # What the options of a decision have in common is subtracted from its limit, not added to its table.
            known = [part for part in sums if part is not None]
            rows = [part.values for part in known]
            limits = np.stack([lim - c.sign * p.shift for lim, c, p in zip(limits, constraints, known, strict=True)])
            limits += np.stack(
                [np.broadcast_to(p.rounding(row), row.shape) for row, p in zip(limits, known, strict=True)]
            )
            if self.weights == "unit":
                ranks = _stacked([c.sign_of(p.ranks()) for c, p in zip(constraints, known, strict=True)])
        else:
            # An upper bound must hold for every part of a metric, so each decision has the table of its part.
            rows = [c.table(selection, local=True) for c in constraints]
        tables = _stacked([c.sign_of(row) for c, row in zip(constraints, rows, strict=True)])
        errors = None
        if self.weights == "confidence":
            given = [c.metric.errors(selection) for c in constraints]
            if any(e is not None for e in given):
                errors = np.stack([np.zeros(self.space.n_options) if e is None else e for e in given])
        shares = np.ones(len(rows))
        if self.balance == "violation" and (violations > 0).sum() > 1:
            deviations = np.array([p.deviation() for p in known]) if known else tables.std(axis=1)
            shares = violations[active] / np.where(deviations > 0, deviations, 1.0)
        overwrite = len(rows) > 1  # a single table may be the metric's own memory
        how = {"errors": errors, "allowed": allowed, "ranks": ranks, "overwrite": overwrite}
        directions = three_case(tables, limits, layout, self.weights, **how)
        if len(rows) > 1:
            return shares.astype(directions.dtype) @ directions
        directions *= shares[0]
        return directions[0]

    @cached_property
    def _missed(self) -> Violations:
        return Violations(self.constraints)

    def check_flat(self, array: ArrayLike, argument: str) -> NDArray[np.float64]:
        """Check one number per option, shape (n_options,); logits of forbidden options are ``-inf``."""
        flat = as_floats(array, argument)
        if flat.shape != (self.space.n_options,):
            raise ValueError(f"{argument} must have shape ({self.space.n_options},), got {flat.shape}")
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(flat.sum()):  # then every term is; the sum is faster than a test of each
                return flat
        wrong = ~np.isfinite(flat)
        if argument == "logits":
            wrong &= ~np.isneginf(flat)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise ValueError(f"{argument} must be finite, got {flat[at]} for {self.space.name_option(at)}")
        if argument == "logits" and not self.space.layout.reduce(np.logical_or, ~np.isneginf(flat)).all():
            raise ValueError("logits of a decision are all -inf, which forbids every option of it")
        return flat


def _stacked(rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Rows as a matrix; a single one is not copied."""
    return rows[0][None] if len(rows) == 1 else np.stack(rows)
