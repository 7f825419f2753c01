r"""The safeguard: a guide that reaches the feasible region after finitely many steps, for every gradient.

The rule of `cggd.guide.directions` is a heuristic: decisions can disagree and cycle. After `patience` violated steps in
a row, the safeguard moves straight to a point whose selection is a *witness*, a selection known to be feasible.
docs/convergence.md has the theorem, its conditions and its proof.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cggd.checks import as_above, as_share, own, whole
from cggd.guide.directions import norm
from cggd.guide.guide import Guide, Observation
from cggd.layout import Layout

# Factor by which each step toward the target is longer than the last.
ESCALATION = 2.0

# After this many doublings a step covers any distance between floats; the next power would overflow.
MOST_DOUBLINGS = 1000


def project(
    logits: NDArray[np.float64],
    witness: NDArray[np.int64],
    layout: Layout,
    *,
    margin: float = 0.0,
    precision: float = 0.0,
) -> NDArray[np.float64]:
    r"""The nearest point at which every option of the witness leads its decision by `margin`, shape (n_options,).

    In each decision the witness's option j rises to t and the others fall to at most t - margin, where
    :math:`t = (a_j + \sum_{k \in K} (a_k + margin)) / (1 + |K|)` and :math:`K = \{k \ne j : a_k + margin > t\}`.
    The margin grows with \|t\| where rounding would otherwise remove it. The relative rounding error is that of the
    logits, or `precision`, if the point is stored with less precision.

    Examples
    --------
    >>> project(np.array([0.0, 2.0, -1.0]), np.array([0]), Layout(np.array([0, 3])))
    array([ 1.,  1., -1.])
    """
    chosen = layout.flat(witness)
    own_logits = logits[chosen]
    finite = np.abs(logits[np.isfinite(logits)])
    rounding = max(precision, float(np.finfo(logits.dtype).eps)) * float(finite.max(initial=0.0))
    margin = max(margin, 8 * rounding * int(layout.sizes.max()))
    rivals = logits + margin
    rivals[chosen] = -np.inf
    top = own_logits
    # Newton's method on an increasing concave function that is linear between the rivals: exact in finitely many steps.
    for _ in range(int(layout.sizes.max())):
        above = rivals > layout.spread(top)
        total = layout.reduce(np.add, np.where(above, rivals, 0.0))
        raised = (own_logits + total) / (1 + layout.reduce(np.add, above.astype(logits.dtype)))
        if np.array_equal(raised, top):
            break
        top = raised
    target = np.minimum(logits, layout.spread(top) - margin)
    target[chosen] = top
    return target


def distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Euclidean distance; options that are forbidden (``-inf``) in both do not count."""
    with np.errstate(invalid="ignore"):
        gap = np.where(a == b, 0.0, a - b)
    return float(np.linalg.norm(gap))


@dataclass(frozen=True, eq=False)
class SafeguardState:
    """State of a safeguard between steps; made by `Safeguard.begin`.

    Attributes
    ----------
    witness : ndarray of int, shape (n_decisions,), or None
        A selection known to satisfy every constraint: the last feasible one, or at first the one given. It may be
        replaced between steps (`dataclasses.replace`); the current target is kept. Without a witness, only the plain
        rule acts.
    violated : int
        Violated steps in a row.
    target : ndarray of shape (n_options,), or None
        The point that the safeguard moves to; None while the plain rule acts.
    escalations : int
        Steps made toward the target.
    """

    witness: NDArray[np.int64] | None = None
    violated: int = 0
    target: NDArray[np.float64] | None = None
    escalations: int = 0


@dataclass(frozen=True, eq=False)
class SafeguardStep:
    """One step of a safeguarded guide.

    Attributes
    ----------
    logits : ndarray of shape (n_options,)
        The logits after the step.
    state : SafeguardState
        State for the next step.
    mode : {"free", "guided", "safeguarded", "landed"}
        What acted: nothing (the selection is feasible), the plain rule, a step to the target, or the last such step.
    seen : Observation
        The selection that the step began with.
    """

    logits: NDArray[np.float64]
    state: SafeguardState
    mode: Literal["free", "guided", "safeguarded", "landed"]
    seen: Observation

    @property
    def feasible(self) -> bool:
        """Whether the selection that the step began with satisfies every constraint."""
        return self.seen.feasible


@dataclass(frozen=True, eq=False)
class Safeguard:
    r"""A guide with a guarantee, around any optimizer.

    It works on *displacements*, which an optimizer adds to the logits: :math:`u = -\eta g` for plain descent, any
    vector for momentum or Adam. While the selection violates a constraint, it adds
    :math:`R \max(\|u\|, \mathrm{floor})\, d` to the displacement (decoupled guidance). For plain descent and floor =
    :math:`\eta \epsilon` this is the gradient modification of `Guide`.

    Parameters
    ----------
    guide : Guide
        The plain rule, which acts first.
    patience : int
        Violated steps in a row after which the safeguard takes over from the plain rule.
    margin : float
        Least difference at the target between the logit of a witness's option and those of the other options.
    precision : float
        Relative rounding error of the logits between steps, if they are stored with less precision than the arrays.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> space = ChoiceSpace.from_sizes([2, 2])
    >>> cost = Additive(space, [0.0, 1.0, 0.0, 1.0])
    >>> guard = Safeguard(Guide([cost <= 0.0]), patience=2)
    >>> logits, state = np.array([0.0, 9.0, 0.0, 9.0]), guard.begin([0, 0])
    >>> for _ in range(20):
    ...     step = guard.step(logits, np.zeros(4), state, floor=1e-3)
    ...     logits, state = step.logits, step.state
    >>> step.feasible
    True
    """

    guide: Guide
    patience: int = 10
    margin: float = 1e-2
    precision: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.guide, Guide):
            raise TypeError(f"guide must be a Guide, got {self.guide!r}")
        own(self, patience=whole(self.patience, "patience", least=0))
        as_above(self.margin, "margin", 0)
        as_share(self.precision, "precision")

    def begin(self, witness: Mapping[Hashable, Hashable] | ArrayLike | None = None) -> SafeguardState:
        """The state before the first step; the witness is a selection that satisfies every constraint.

        Raises
        ------
        ValueError
            If the witness violates a constraint.
        """
        if witness is None:
            return SafeguardState()
        indices = self.guide.space.indices(witness)
        for c in self.guide.constraints:
            if not (row := c.report(indices)).satisfied:
                raise ValueError(f"witness must satisfy every constraint, but {row}")
        return SafeguardState(indices)

    def step(
        self,
        logits: NDArray[np.float64],
        displacement: NDArray[np.float64],
        state: SafeguardState,
        *,
        floor: float,
        rescale: float | None = None,
    ) -> SafeguardStep:
        """Apply a displacement, guided.

        Parameters
        ----------
        logits : ndarray of shape (n_options,)
        displacement : ndarray of shape (n_options,)
            What the optimizer would add to the logits.
        state : SafeguardState
            From the step before, or from `begin`.
        floor : float
            Lower limit of the norm of the displacement in the formula: step size times epsilon. Greater than 0.
        rescale : float, optional
            Overrides R of the plain rule.
        """
        as_above(floor, "floor", 0)
        if rescale is not None:
            as_above(rescale, "rescale", 1)
        logits = self.guide.check_flat(logits, "logits")
        displacement = self.guide.check_flat(displacement, "displacement")
        seen = self.guide.observe(logits)
        if seen.feasible:
            # The last feasible selection is nearer than one found before the descent.
            return SafeguardStep(logits + displacement, SafeguardState(seen.selection), "free", seen)
        size = max(norm(displacement), floor)
        after = replace(state, violated=state.violated + 1)
        if state.witness is None or (state.target is None and state.violated < self.patience):
            push = self.guide.direction(seen)
            push *= (rescale or self.guide.rescale) * size
            moved = logits + displacement
            moved += push
            return SafeguardStep(moved, after, "guided", seen)
        target = state.target
        if target is None:
            target = self._target(logits, state.witness)
        after = replace(after, target=target, escalations=state.escalations + 1)
        left = distance(target, logits)
        reach = self.guide.rescale * size * ESCALATION ** min(state.escalations, MOST_DOUBLINGS)
        if reach >= left:
            return SafeguardStep(target.copy(), after, "landed", seen)
        with np.errstate(invalid="ignore"):
            toward = np.where(target == logits, 0.0, target - logits) / left
        return SafeguardStep(logits + displacement + reach * toward, after, "safeguarded", seen)

    def settle(self, logits: NDArray[np.float64], state: SafeguardState) -> NDArray[np.float64]:
        """The logits at which a descent ends: as given if their selection is feasible, or else moved to the witness.

        Near a tight bound a descent alternates between feasible and infeasible selections. Without a witness (nothing
        feasible was given or found) the logits are returned unchanged; evaluate the constraints on the result.

        Examples
        --------
        >>> from cggd import Additive, ChoiceSpace
        >>> cost = Additive(ChoiceSpace.from_sizes([2, 2]), [0.0, 1.0, 0.0, 1.0])
        >>> guard = Safeguard(Guide([cost <= 1.0]))
        >>> guard.settle(np.array([0.0, 2.0, 0.0, 1.0]), guard.begin([1, 0])).tolist()
        [0.0, 2.0, 0.505, 0.495]
        """
        logits = self.guide.check_flat(logits, "logits")
        if state.witness is None or self.guide.observe(logits).feasible:
            return logits
        return self._target(logits, state.witness)

    def _target(self, logits: NDArray[np.float64], witness: NDArray[np.int64]) -> NDArray[np.float64]:
        layout = self.guide.space.layout
        if np.isneginf(logits[layout.flat(witness)]).any():
            raise ValueError("the witness takes an option whose logit is -inf, which forbids it")
        return project(logits, witness, layout, margin=self.margin, precision=self.precision)
