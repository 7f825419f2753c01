"""The optimizers of a supernet's weights and architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cggd_nas.nested import described
from cggd_nas.supernet import Supernet

OptimizerOf = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]

# Gradients of weights are clipped at this norm, as in the search of NAS-Bench-201 (Dong & Yang, ICLR 2020, appendix).
CLIP = 5.0


class Learners:
    """Weights and architecture parameters, and their optimizers.

    Parameters
    ----------
    supernet : Supernet
    weight_optimizer, architecture_optimizer : callable
        From parameters to an optimizer.
    steps : int
        Steps of the weights, over which their learning rate decays to 0 by a cosine.
    """

    def __init__(
        self, supernet: Supernet, weight_optimizer: OptimizerOf, architecture_optimizer: OptimizerOf, steps: int
    ) -> None:
        self.weights = [p for p in supernet.weights() if p.requires_grad]
        self.architecture = supernet.parameters
        self.optimizer = _made(weight_optimizer, self.weights, "weight_optimizer")
        self.chooser = _made(architecture_optimizer, self.architecture, "architecture_optimizer")
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, steps)

    def require(self, *, weights: bool, architecture: bool) -> None:
        """Set which parameters get gradients."""
        for parameters, wanted in ((self.weights, weights), (self.architecture, architecture)):
            for parameter in parameters:
                parameter.requires_grad_(wanted)

    def step_weights(self, loss: Tensor) -> None:
        """One step of the weights for a loss."""
        if loss.requires_grad:  # a path of skip connections may have no weights
            loss.backward()
            nn.utils.clip_grad_norm_(self.weights, CLIP)
            self.optimizer.step()
        self.schedule.step()

    def state(self) -> list[dict[str, Any]]:
        """The optimizers' state for a checkpoint."""
        return [part.state_dict() for part in (self.optimizer, self.chooser, self.schedule)]

    def restore(self, saved: Sequence[dict[str, Any]]) -> None:
        """Restore the state from a checkpoint."""
        for part, state in zip((self.optimizer, self.chooser, self.schedule), saved, strict=True):
            part.load_state_dict(state)


def _made(function: OptimizerOf, parameters: Sequence[nn.Parameter], argument: str) -> torch.optim.Optimizer:
    if not isinstance(made := function(parameters), torch.optim.Optimizer):
        raise TypeError(
            f"{argument} must return an optimizer of the parameters that it is given, got {described(made)}"
        )
    return made
