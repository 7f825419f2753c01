"""The gates engine: stochastic gates on the inputs of any torch module; the guide keeps them within the budget.

Each variable has a gate that is open with some probability. Training draws gates as relaxed Bernoulli samples
(Maddison, Mnih & Teh, 2017), multiplies the inputs by them, and minimises the loss over the module's weights and the
gates' logits together. Yamada et al. (2020) train such gates with a penalty on the number of open gates. Here there is
no penalty: while the variables whose gates are more open than shut exceed a budget, the guide turns the step of the
gates toward the budgets (`cggd.Safeguard`). Then the core's search improves the selection by switches. Its metric is
the trained module's loss on held-out samples, with the inputs that are not selected set to their means.

The score of a selection is the share by which it lowers this loss, relative to the loss with every gate shut. It only
ranks subsets for this module. To report a score, train a module on the selected features.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cggd import ChoiceSpace, Guide, Metric, Safeguard, SafeguardState
from cggd.budget import Budget
from cggd_features.arguments import Variables
from cggd_features.engine_result import EngineResult
from cggd_features.limits import Limits
from cggd_features.refine import refined

EPOCHS = 60
BATCH = 128
LEARNING_RATE = 3e-3

# First step size of the gates, with the gradient scaled to a root mean square of 1; it falls to 0.
GATE_RATE = 0.1

# Temperatures of the relaxed samples, from the first epoch to the last.
HOT, COLD_GATES = 2.0, 0.3

# Share of the samples held out to compare subsets, and their largest number.
HELD_OUT = 0.25
MOST_HELD_OUT = 2_000

# Hidden units of the default module.
WIDTH = 64

# Steps of the core's descent on the trained module, before its switches.
STEPS = 30


@dataclass(frozen=True, eq=False, repr=False)
class MaskedLoss(Metric):
    """Share by which the selected variables lower a trained module's loss, with all other inputs at 0.

    Parameters
    ----------
    variables : Variables
    module : nn.Module
    X : Tensor of shape (n_samples, n_features)
        Centred, so that 0 is the mean of each variable.
    loss : callable
        Maps the module's outputs to a scalar.
    """

    variables: Variables
    module: nn.Module
    X: torch.Tensor
    loss: Callable[[torch.Tensor], torch.Tensor]
    name: str = field(default="loss explained", kw_only=True)
    unit: str = field(default="", kw_only=True)
    _known: dict[bytes, float] = field(init=False, default_factory=dict)

    @property
    def space(self) -> ChoiceSpace:  # pyright: ignore[reportIncompatibleVariableOverride] - a metric only reads it
        return self.variables.space

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([self.value(row.astype(bool)) for row in selections])

    def value(self, selected: NDArray[np.bool_]) -> float:
        """The value of one selection, shape (n_variables,)."""
        nothing = self._loss(np.zeros(len(self.variables), dtype=bool))
        return 1.0 - self._loss(selected) / max(nothing, 1e-12)

    def _loss(self, selected: NDArray[np.bool_]) -> float:
        key = np.packbits(selected).tobytes()
        if key not in self._known:
            shown = torch.as_tensor(self.variables.support(selected), dtype=self.X.dtype)
            with torch.no_grad():
                self._known[key] = float(self.loss(self.module(self.X * shown)))
        return self._known[key]


def solve(
    module: Any,
    X: NDArray[np.float64],
    target: NDArray,
    weights: NDArray[np.float64] | None,
    variables: Variables,
    limits: Limits,
    start: NDArray[np.bool_],
    *,
    shares: Sequence[float] = (),
    seed: int = 0,
    clock: Budget | None = None,
    verbose: int = 0,
) -> EngineResult:
    """Train gates and a module, and return the best subset found within the limits.

    Parameters
    ----------
    module : nn.Module, callable or None
        A module with one input per feature and an output per class or target, which is copied; a function that makes
        one from the numbers of inputs and outputs; or None for two hidden layers.
    X : ndarray of shape (n_samples, n_features)
    target : ndarray
        Numbers of classes, shape (n_samples,), or targets, shape (n_samples, n_outputs).
    weights : ndarray of shape (n_samples,), optional
    variables, limits, start, shares, seed, clock, verbose
        As for the other engines.
    """
    clock = Budget() if clock is None else clock
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    classes = target.ndim == 1
    X = (X - X.mean(axis=0)) / np.where(X.std(axis=0) > 0, X.std(axis=0), 1.0)
    if not classes:
        target = (target - target.mean(axis=0)) / np.where(target.std(axis=0) > 0, target.std(axis=0), 1.0)
    order = rng.permutation(len(X))
    n_held = int(np.clip(HELD_OUT * len(X), 1, MOST_HELD_OUT))
    inputs = torch.as_tensor(X, dtype=torch.float32)
    outputs = torch.as_tensor(target, dtype=torch.long if classes else torch.float32)
    sizes = torch.as_tensor(np.ones(len(X)) if weights is None else weights, dtype=torch.float32)
    net = _made(module, X.shape[1], int(target.max()) + 1 if classes else target.shape[1], seed)

    def loss_of(rows: NDArray[np.int64]) -> Callable[[torch.Tensor], torch.Tensor]:
        def loss(prediction: torch.Tensor) -> torch.Tensor:
            if classes:
                each = nn.functional.cross_entropy(prediction, outputs[rows], reduction="none")
            else:
                each = ((prediction.reshape(len(rows), -1) - outputs[rows]) ** 2).mean(dim=1)
            return (each * sizes[rows]).sum() / sizes[rows].sum().clamp_min(1e-12)

        return loss

    gates = _Gates(variables, limits, start, generator)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    train = order[n_held:]
    net.train()
    for epoch in range(EPOCHS):
        done = epoch / EPOCHS
        for first in range(0, len(train), BATCH):
            rows = train[first : first + BATCH]
            if len(rows) < 2:  # batch normalisation needs two samples
                continue
            optimizer.zero_grad()
            loss = loss_of(rows)(net(inputs[rows] * gates.draw(HOT * (COLD_GATES / HOT) ** done)))
            loss.backward()
            optimizer.step()
            gates.step(GATE_RATE * (1 - done))
        if verbose > 1:
            print(f"[BudgetedSelector] epoch {epoch + 1}: {gates.selected.sum()} gates open")
        if clock.part(share=0.5).over() or clock.over():
            break
        rng.shuffle(train)
    net.eval()
    held = order[:n_held]
    metric = MaskedLoss(variables, net, inputs[held], loss_of(held))
    best = refined(metric, limits, gates.witness, steps=STEPS, seed=seed, clock=clock)
    return EngineResult(best, metric.value(best), visited=[(s, metric.value(s)) for s in gates.visited])


class _Gates:
    """Logits of the gates, how samples of them are drawn, and their steps under the guide."""

    def __init__(
        self, variables: Variables, limits: Limits, start: NDArray[np.bool_], generator: torch.Generator
    ) -> None:
        self.limits, self.generator = limits, generator
        self.owner = torch.as_tensor(variables.owner)
        self.logits = np.zeros((len(variables), 2))
        self.logits[limits.forbidden.reshape(-1, 2)] = -np.inf
        self.safeguard = Safeguard(Guide(limits.constraints, weights="difference", balance="violation"), 20)
        self.state = SafeguardState(start.astype(np.int64))
        self.leaf = torch.zeros(len(variables), requires_grad=True)
        self.visited: list[NDArray[np.bool_]] = []

    @property
    def selected(self) -> NDArray[np.bool_]:
        """Variables whose gates are more open than shut."""
        return self.logits[:, 1] > self.logits[:, 0]

    @property
    def witness(self) -> NDArray[np.bool_]:
        """The last selection within all limits."""
        assert self.state.witness is not None
        return self.state.witness.astype(bool)

    def draw(self, temperature: float) -> torch.Tensor:
        """One relaxed sample of all gates, for each column, shape (n_features,)."""
        with np.errstate(invalid="ignore"):
            ahead = np.clip(self.logits[:, 1] - self.logits[:, 0], -30.0, 30.0)
        self.leaf = torch.as_tensor(ahead, dtype=torch.float32).requires_grad_()
        uniform = torch.rand(len(ahead), generator=self.generator).clamp(1e-6, 1 - 1e-6)
        noise = torch.log(uniform) - torch.log1p(-uniform)
        noise[torch.as_tensor(~self.limits.free)] = 0.0
        return torch.sigmoid((self.leaf + noise) / temperature)[self.owner]

    def step(self, size: float) -> None:
        """Take a gradient step in the logits, guided if the selected variables violate a bound."""
        slope = np.zeros(len(self.logits)) if self.leaf.grad is None else self.leaf.grad.numpy().astype(float)
        slope[~self.limits.free] = 0.0
        scale = float(np.sqrt(np.mean(slope**2)))
        update = np.column_stack([slope, -slope]) * (size / scale if scale > 0 else 0.0)
        floor = max(size, 1e-9) * self.safeguard.guide.epsilon
        step = self.safeguard.step(self.logits.ravel(), update.ravel(), self.state, floor=floor)
        self.logits, self.state = step.logits.reshape(-1, 2), step.state
        if step.feasible:
            chosen = step.seen.selection.astype(bool)
            if not self.visited or not np.array_equal(self.visited[-1], chosen):
                self.visited.append(chosen)


def _made(module: Any, n_inputs: int, n_outputs: int, seed: int) -> nn.Module:
    if isinstance(module, nn.Module):
        return copy.deepcopy(module)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if module is None:
            return nn.Sequential(
                nn.Linear(n_inputs, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, n_outputs)
            )
        if not callable(module):
            raise TypeError(f"estimator must be a torch module, or a function that makes one, got {module!r}")
        made = module(n_inputs, n_outputs)
    if not isinstance(made, nn.Module):
        raise TypeError(f"estimator must make a torch module, got {made!r}")
    return made
