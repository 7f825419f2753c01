"""TorchGuide: steers the architecture parameters of a supernet into the feasible region, in any training loop.

Between ``backward()`` and the optimizer's step, `TorchGuide.modify_gradients` changes the gradients of the architecture
parameters as the paper does. For an optimizer whose step is not along the gradient, such as Adam, `TorchGuide.update`
takes the step itself and adds the guide to it (decoupled guidance), with the guarantee of `cggd.Safeguard`. If the last
step violates a bound, `TorchGuide.settle` moves back to the last feasible selection.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import distributed, nn

from cggd import Constraint, Guide, GuideStep, Safeguard, SafeguardState, SafeguardStep
from cggd.guide import Balance, Observation
from cggd.guide.directions import Weights
from cggd_nas.bounds import checked_bounds, feasible_network
from cggd_nas.supernet import Supernet, collect, gathered

# At a learning rate of 0, as at the end of a schedule, no direction would have an effect; as in `cggd.search`.
SMALLEST_STEP = 1e-9

# Time limit of the proof that the bounds can be satisfied.
CHECK_SECONDS = 1.0


class TorchGuide:
    r"""The guide of CGGD for a supernet: :math:`g' = g - R \max(\|g\|, \epsilon)\, d` over all logits.

    Metrics are evaluated in numpy on the selection of the largest logits, outside every graph. Only architecture
    parameters are changed. They may be on several devices, and must be in single or double precision.

    Parameters
    ----------
    model : nn.Module or Supernet
    constraints : list of Constraint
        On metrics of the supernet's space or of a part's space, such as ``Costs(model.backbone, example).macs()``.
    rescale, epsilon, weights, balance
        See `cggd.Guide`.
    patience : int
        Violated steps in a row after which `update` leads to the witness; see `cggd.Safeguard`.
    witness : mapping or array-like, optional
        A selection known to satisfy every constraint, such as ``cggd.find_feasible(constraints).selection``. When the
        guide visits a feasible selection, this becomes the witness.
    broadcast : bool
        In a process group of several, only rank 0 evaluates metrics and sends the step to all ranks. Noise in
        measurements then cannot make the ranks differ, and only one process measures a device. All ranks must make each
        call together. If False, each rank evaluates for itself, which gives equal steps only for deterministic metrics
        and equal gradients.

    Attributes
    ----------
    supernet : Supernet
    guide : Guide
        The numpy core.
    state : SafeguardState
        The state to store in checkpoints; it can be pickled.

    Raises
    ------
    NoFeasibleArchitectureError
        If it is proved within a second that no selection satisfies all constraints. Without a witness this is tried for
        the constraints on metrics with known limits, such as sums over the network.

    Notes
    -----
    With relaxations that sample paths, ``DistributedDataParallel`` needs ``find_unused_parameters=True``, since weights
    of other paths get no gradient. Ranks may draw different paths, since gradients are averaged. Logits must start
    equal.

    Use ``torch.compile`` on a whole network only with relaxations that run all paths. Paths are sampled outside the
    graph, so each combination would be compiled again; compile the options instead.

    Examples
    --------
    >>> from cggd import Additive
    >>> from cggd_nas import Choice, Darts
    >>> model = nn.Sequential(Choice({"wide": nn.Linear(2, 2), "skip": nn.Identity()}))
    >>> supernet = collect(model)
    >>> supernet.relax(Darts())
    >>> latency = Additive(supernet.space, [3.0, 0.0], name="latency", unit="ms")
    >>> guide = TorchGuide(supernet, [latency <= 2.0])
    >>> supernet.set_logits([1.0, 0.0])
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    >>> for _ in range(1000):
    ...     optimizer.zero_grad()
    ...     model(torch.zeros(1, 2)).sum().backward()
    ...     if guide.modify_gradients().feasible:
    ...         break
    ...     optimizer.step()
    >>> supernet.selection()
    {'0': 'skip'}
    """

    def __init__(
        self,
        model: nn.Module | Supernet,
        constraints: Sequence[Constraint] | Constraint,
        *,
        rescale: float = 1.2,
        epsilon: float = 1e-3,
        weights: Weights = "unit",
        balance: Balance = "equal",
        patience: int = 10,
        witness: Mapping[Hashable, Hashable] | ArrayLike | None = None,
        broadcast: bool = True,
    ) -> None:
        self.supernet = model if isinstance(model, Supernet) else collect(model)
        bounds = checked_bounds(constraints, self.supernet, warn=witness is None)
        if witness is None and (closed := [bound for bound in bounds if np.isfinite(bound.metric.limits()).all()]):
            feasible_network(closed, 0, CHECK_SECONDS)
        self.guide = Guide(bounds, rescale=rescale, epsilon=epsilon, weights=weights, balance=balance)
        precision = max(torch.finfo(parameter.dtype).eps for parameter in self.supernet.parameters)
        self.safeguard = Safeguard(self.guide, patience, precision=precision)
        self.state: SafeguardState = self.safeguard.begin(witness)
        self.broadcast = broadcast

    def modify_gradients(
        self, *, scaler: torch.amp.GradScaler | None = None, optimizer: torch.optim.Optimizer | None = None
    ) -> GuideStep:
        """Change the gradients of the architecture parameters; call it once per step, after the last ``backward()``.

        A parameter without gradient counts as one with a gradient of 0. With gradient accumulation, call it after the
        last accumulated batch; with clipping, before the clipping; with ``torch.compile``, outside of compiled code.

        Parameters
        ----------
        scaler : torch.amp.GradScaler, optional
            For automatic mixed precision. Gradients are unscaled first unless they already are. If they overflowed,
            they are not changed, since the scaler skips that step. Without it, scaled gradients would still get a
            direction toward the feasible region, but epsilon would be too small by the factor of the scale.
        optimizer : torch.optim.Optimizer, optional
            The optimizer of the architecture parameters, with `scaler`.

        Returns
        -------
        GuideStep
            ``.feasible``, ``.seen.violations``, ``.seen.values`` and the direction.

        Raises
        ------
        ValueError
            If a gradient or a logit is not finite, except for gradients that `scaler` skips.
        """
        if scaler is not None:
            if not isinstance(scaler, torch.amp.GradScaler):
                raise TypeError(f"scaler must be a torch.amp.GradScaler, got {scaler!r}")
            if optimizer is None:
                raise TypeError("optimizer is missing; a scaler unscales the gradients of an optimizer")
            _unscale(scaler, optimizer)
        parameters = self.supernet.parameters
        logits, gradient = self._logits(), _gradient(parameters)
        if scaler is not None and not np.isfinite(gradient).all():
            seen = self._agreed(lambda: self.guide.observe(self.guide.check_flat(logits, "logits")))
            return GuideStep(gradient, np.zeros_like(gradient), seen)
        step = self._agreed(lambda: self.guide.step(gradient, logits))
        if step.feasible:
            self.state = SafeguardState(step.seen.selection)
        if step.direction.any():
            for parameter, part in zip(parameters, self.supernet.cut(step.gradient), strict=True):
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                parameter.grad.copy_(torch.as_tensor(part))
        return step

    def update(self, optimizer: torch.optim.Optimizer, *, scaler: torch.amp.GradScaler | None = None) -> SafeguardStep:
        """Take an optimizer's step and change what it adds to the logits; this works for every optimizer.

        Use it instead of ``modify_gradients()`` and ``optimizer.step()``. With a witness, each sequence of violated
        steps is finite (docs/convergence.md).

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
            It holds the architecture parameters. Its other parameters are updated as usual.
        scaler : torch.amp.GradScaler, optional
            Steps the optimizer, or skips the step where gradients overflowed.

        Returns
        -------
        SafeguardStep
            ``.feasible``, ``.mode`` and ``.seen`` of the selection before the step.

        Raises
        ------
        ValueError
            If the optimizer holds no architecture parameter, or leads to logits that are not finite.
        """
        floor = self.guide.epsilon * max(self._learning_rate(optimizer), SMALLEST_STEP)
        before = self._logits()
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
        after = self._logits()
        displacement = np.subtract(after, before, out=np.zeros_like(after), where=~np.isneginf(before))
        step = self._agreed(lambda: self.safeguard.step(before, displacement, self.state, floor=floor))
        self.state = step.state
        if not step.feasible:
            self.supernet.set_logits(step.logits)
        return step

    def settle(self) -> Observation:
        """If the selection violates a constraint, move the logits to the last feasible selection visited.

        Call it once, after the last step: near a tight bound a search enters and leaves the feasible region, and may
        stop outside of it. The logits become the nearest ones with that selection. The weights do not change.

        Returns
        -------
        Observation
            A new evaluation of the selection that the supernet now has. Its ``.feasible`` is False if no feasible
            selection was given or visited, and may be False if measurements are noisy.
        """
        before = self._logits()
        self.supernet.set_logits(self._agreed(lambda: self.safeguard.settle(before, self.state)))
        return self._agreed(lambda: self.guide.observe(self._logits()))

    def _learning_rate(self, optimizer: torch.optim.Optimizer) -> float:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {optimizer!r}")
        ours = {id(parameter) for parameter in self.supernet.parameters}
        rates = [float(g["lr"]) for g in optimizer.param_groups if any(id(p) in ours for p in g["params"])]
        if not rates:
            raise ValueError(
                "optimizer holds no architecture parameter; make it of supernet.architecture(), or, once the model was "
                "collected, of model.parameters()"
            )
        return max(rates)

    def _logits(self) -> NDArray[np.float64]:
        parameters = self.supernet.parameters
        check_precision(parameters)
        return gathered(parameters)

    def _agreed(self, compute: Callable[[], Any]) -> Any:
        """The value that `compute` returns on rank 0."""
        if not (self.broadcast and distributed.is_available() and distributed.is_initialized()):
            return compute()
        message: list[Any] = [None, None]
        failure: Exception | None = None
        if distributed.get_rank() == 0:
            try:
                message[0] = compute()
            except Exception as error:  # the other ranks wait for a message
                failure, message[1] = error, f"{type(error).__name__} on rank 0: {error}"
        distributed.broadcast_object_list(message, src=0)
        if failure is not None:
            raise failure
        if message[1] is not None:
            raise RuntimeError(message[1])
        return message[0]


def check_precision(parameters: Sequence[nn.Parameter]) -> None:
    """Raise if logits are in half precision."""
    for parameter in parameters:
        if parameter.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"architecture parameters must be in single or double precision, got {parameter.dtype}; "
                "small steps would be lost to rounding"
            )


def _gradient(parameters: Sequence[nn.Parameter]) -> NDArray[np.float64]:
    return gathered([torch.zeros_like(p) if p.grad is None else p.grad for p in parameters])


def _unscale(scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> None:
    try:
        scaler.unscale_(optimizer)
    except RuntimeError as error:
        # GradScaler does not say in any other way that it was done.
        if "already been called" not in str(error):
            raise
