r"""Update rules on logits, as pure functions of gradient and state, and their guided forms.

Each returns a *displacement*, which is added to the logits. With momentum or Adam it is not along the gradient, and a
modified gradient guarantees nothing. `Guided` therefore adds the guide to the displacement, as AdamW adds weight decay
(*decoupled guidance*). docs/convergence.md proves that this reaches the feasible region.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cggd.checks import as_above, as_share
from cggd.guide.safeguard import Safeguard, SafeguardState, SafeguardStep


class Optimizer(Protocol):
    """An update rule.

    Attributes
    ----------
    learning_rate : float
    """

    @property
    def learning_rate(self) -> float:
        """Step size."""
        ...

    def begin(self, n: int) -> Any:
        """The state before the first step, for n logits."""
        ...

    def displace(self, gradient: NDArray[np.float64], state: Any) -> tuple[NDArray[np.float64], Any]:
        """The displacement for a gradient, shape (n,), and the state for the next step."""
        ...


@dataclass(frozen=True)
class SGD:
    """Plain descent: minus the learning rate times the gradient."""

    learning_rate: float = 0.1

    def __post_init__(self) -> None:
        as_above(self.learning_rate, "learning_rate", 0)

    def begin(self, n: int) -> None:
        """No state."""

    def displace(self, gradient: NDArray[np.float64], state: None) -> tuple[NDArray[np.float64], None]:
        """Minus the learning rate times the gradient."""
        return -self.learning_rate * gradient, None


@dataclass(frozen=True)
class Momentum:
    """Heavy-ball descent (Polyak, 1964)."""

    learning_rate: float = 0.1
    momentum: float = 0.9

    def __post_init__(self) -> None:
        as_above(self.learning_rate, "learning_rate", 0)
        as_share(self.momentum, "momentum")

    def begin(self, n: int) -> NDArray[np.float64]:
        """A velocity of 0."""
        return np.zeros(n)

    def displace(
        self, gradient: NDArray[np.float64], state: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Minus the learning rate times the decaying sum of gradients."""
        velocity = self.momentum * state + gradient
        return -self.learning_rate * velocity, velocity


class AdamState(NamedTuple):
    """Decaying means of gradients and of their squares, and the number of steps made."""

    mean: NDArray[np.float64]
    square: NDArray[np.float64]
    steps: int


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba, 2015)."""

    learning_rate: float = 0.1
    decay: float = 0.9
    square_decay: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        as_above(self.learning_rate, "learning_rate", 0)
        as_share(self.decay, "decay")
        as_share(self.square_decay, "square_decay")
        as_above(self.epsilon, "epsilon", 0)

    def begin(self, n: int) -> AdamState:
        """Means of 0."""
        return AdamState(np.zeros(n), np.zeros(n), 0)

    def displace(self, gradient: NDArray[np.float64], state: AdamState) -> tuple[NDArray[np.float64], AdamState]:
        """Minus the learning rate times the mean gradient over its root mean square, both with bias correction."""
        steps = state.steps + 1
        mean = self.decay * state.mean + (1 - self.decay) * gradient
        square = self.square_decay * state.square + (1 - self.square_decay) * gradient**2
        root = np.sqrt(square / (1 - self.square_decay**steps))
        step = mean / (1 - self.decay**steps) / (root + self.epsilon)
        return -self.learning_rate * step, AdamState(mean, square, steps)


@dataclass(frozen=True)
class GuidedState:
    """States of the optimizer and of the safeguard."""

    optimizer: Any
    safeguard: SafeguardState


@dataclass(frozen=True, eq=False)
class Guided:
    """An optimizer whose displacements are guided, with the safeguard's guarantee.

    Parameters
    ----------
    safeguard : Safeguard
    optimizer : Optimizer

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace, Guide
    >>> space = ChoiceSpace.from_sizes([2, 2])
    >>> value, cost = Additive(space, [0.0, 3.0, 0.0, 2.0]), Additive(space, [0.0, 1.0, 0.0, 1.0])
    >>> guided = Guided(Safeguard(Guide([cost <= 1.0])), Adam(0.1))
    >>> logits, state = np.zeros(4), guided.begin(witness=[0, 0])
    >>> for _ in range(50):
    ...     step, state = guided.step(logits, -value.values, state)
    ...     logits = step.logits
    >>> bool(cost(step.seen.selection) <= 1.0)
    True
    """

    safeguard: Safeguard
    optimizer: Optimizer

    def begin(self, witness: Mapping[Hashable, Hashable] | ArrayLike | None = None) -> GuidedState:
        """The state before the first step; `witness` as for `Safeguard.begin`."""
        space = self.safeguard.guide.space
        return GuidedState(self.optimizer.begin(space.n_options), self.safeguard.begin(witness))

    def step(
        self, logits: NDArray[np.float64], gradient: NDArray[np.float64], state: GuidedState
    ) -> tuple[SafeguardStep, GuidedState]:
        """One guided step along the task gradient."""
        displacement, optimizer = self.optimizer.displace(gradient, state.optimizer)
        floor = self.optimizer.learning_rate * self.safeguard.guide.epsilon
        step = self.safeguard.step(logits, displacement, state.safeguard, floor=floor)
        return step, GuidedState(optimizer, step.state)
