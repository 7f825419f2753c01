"""Replacement of blocks of a trained network by cheaper blocks that reproduce their outputs.

Each replacement learns its block's outputs from the block's inputs, both recorded in one pass over the data (Li et al.,
"DNA", CVPR 2020; Bercovich et al., "Puzzle", 2024, arXiv 2411.19146). The score of a replacement is the loss of the
network with only that block replaced. `cggd.minimize` finds selections with the smallest total score within the bounds.
Several of the best are evaluated by their true loss, and the scores are measured again at the best of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cggd import Constraint, minimize
from cggd.checks import as_number, whole
from cggd.constraints import Row, check_constraints
from cggd.metrics import Additive
from cggd_nas.batches import Batch
from cggd_nas.bounds import NoFeasibleArchitectureError
from cggd_nas.candidates import holds, losses_of_switches
from cggd_nas.choices import Choice
from cggd_nas.extract import extract
from cggd_nas.measure import device_of, evaluating
from cggd_nas.nested import mapped, tensors_in
from cggd_nas.retrain import Loss, evaluate
from cggd_nas.supernet import Supernet, collect

# Label of the original block.
ORIGINAL = "original"

# Adam's default rate. An epoch is a pass over the recorded features.
RATE, EPOCHS = 1e-3, 10

# Selections evaluated by their true loss after each solution, and number of solutions.
ANSWERS, ROUNDS = 5, 3


@dataclass(frozen=True, eq=False)
class Replaced:
    """A network with replaced blocks; made by `replace_blocks`.

    Attributes
    ----------
    supernet : Supernet
        A copy of the network in which each block is a choice. It runs the selection found.
    selection : dict of block to option
    loss, original_loss : float
        Of the selection and of the original network, on the validation data.
    errors : dict of (block, option) to float
        Mean squared error of a replacement's outputs after its training, as a share of their variance.
    scores : dict of (block, option) to float
        Increase of the loss if only that block is replaced.
    constraints : list of Row
        The bounds, evaluated again.
    judged : dict of tuple of int to float
        True losses of all selections that were evaluated.
    """

    supernet: Supernet
    selection: dict[Hashable, Hashable]
    loss: float
    original_loss: float
    errors: Mapping[tuple[str, str], float]
    scores: Mapping[tuple[Hashable, Hashable], float]
    constraints: Sequence[Row]
    judged: Mapping[tuple[int, ...], float] = field(repr=False)

    def network(self) -> nn.Module:
        """The network with the blocks that were chosen, as a plain module."""
        return extract(self.supernet, self.selection)


def replace_blocks(
    model: nn.Module,
    blocks: Mapping[str, Mapping[str, nn.Module]],
    train: Iterable[Any],
    val: Iterable[Any],
    bounds: Callable[[Supernet], Sequence[Constraint] | Constraint],
    *,
    loss: Loss = functional.cross_entropy,
    epochs: int = EPOCHS,
    rate: float = RATE,
    answers: int = ANSWERS,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Replaced:
    """Replace blocks of a trained network by cheaper ones so that bounds are satisfied and the loss rises least.

    Parameters
    ----------
    model : nn.Module
        It is not changed.
    blocks : mapping of str to mapping of str to nn.Module
        For the path of each block, as in ``named_modules``, its replacements by label. A replacement takes the
        arguments of its block and returns tensors of the same shapes. ``nn.Identity()`` leaves a block out.
    train : iterable of batches
        Training data of the replacements, read once; batches as for `cggd_nas.search`. The inputs and outputs of all
        blocks are kept in memory. The targets are not used.
    val : sequence of batches
        Data by which selections are evaluated. It is read several times.
    bounds : callable
        From the supernet to the constraints, such as ``lambda s: [Costs(s, example).macs() <= 3.0]``.
    loss : callable
        As for `cggd_nas.search`.
    epochs, rate : int, float
        Passes over the recorded features and the learning rate (Adam) of each replacement.
    answers, rounds : int
        Selections that are evaluated after each solution, and number of solutions. The scores of the first solution are
        measured at the original network, later ones at the best selection so far. The search ends when it does not
        improve.
    seed : int
        For the order of batches.

    Raises
    ------
    NoFeasibleArchitectureError
        If no selection that satisfies the bounds was found.

    Examples
    --------
    >>> from cggd_nas import Costs
    >>> seed = torch.manual_seed(0)
    >>> block = nn.Sequential(nn.Linear(4, 9), nn.Linear(9, 4))
    >>> net = nn.Sequential(nn.Linear(4, 4), block, nn.Linear(4, 2))
    >>> x = torch.randn(64, 4)
    >>> batches = [(x, net(x).detach())]
    >>> found = replace_blocks(
    ...     net,
    ...     {"1": {"linear": nn.Linear(4, 4), "none": nn.Identity()}},
    ...     batches,
    ...     batches,
    ...     lambda supernet: Costs(supernet, x[:1]).parameters() <= 60,
    ...     loss=functional.mse_loss,
    ...     epochs=200,
    ...     rate=0.02,
    ... )
    >>> found.selection, found.constraints[0].satisfied
    ({'1': 'linear'}, True)
    """
    whole(epochs, "epochs", least=0)
    whole(answers, "answers", least=1)
    whole(rounds, "rounds", least=1)
    if not as_number(rate, "rate") > 0:
        raise ValueError(f"rate must be greater than 0, got {rate}")
    _check(model, blocks)
    recorded = _recorded(model, blocks, train)
    made = copy.deepcopy(model)
    errors: dict[tuple[str, str], float] = {}
    for number, (path, options) in enumerate(blocks.items()):
        trained = {label: copy.deepcopy(option) for label, option in options.items()}
        choice = Choice({ORIGINAL: made.get_submodule(path), **trained}, decision=path)
        for at, (label, option) in enumerate(trained.items(), start=1):
            taken = partial(choice.arguments.given, at)
            errors[path, label] = _distilled(option, taken, recorded[path], epochs, rate, seed + number)
        made.set_submodule(path, choice)
    supernet = collect(made)
    constraints = check_constraints(bounds(supernet), supernet.space)
    return _Search(supernet, constraints, list(val), loss).run(errors, answers, rounds, seed)


class _Search:
    """Solutions by scores, evaluated by true losses."""

    def __init__(self, supernet: Supernet, constraints: Sequence[Constraint], val: list[Any], loss: Loss) -> None:
        self.supernet, self.constraints, self.val, self.loss = supernet, constraints, val, loss
        self.judged: dict[tuple[int, ...], float] = {}

    def run(self, errors: Mapping[tuple[str, str], float], answers: int, rounds: int, seed: int) -> Replaced:
        space = self.supernet.space
        at = np.zeros(space.n_decisions, dtype=np.int64)
        original, first = self._true(at), losses_of_switches(self._true, at, space)
        table, best = first, None
        for _ in range(rounds):
            # Relative to the current loss, so that the scores of current options are 0.
            scores = Additive(space, table - self._true(at), name="score")
            result = minimize(scores, list(self.constraints), seed=seed, answers=answers)
            if result.indices is None:
                break
            found = [result.indices, *(other.indices for other in result.alternatives if other.indices is not None)]
            held = [one for one in found if holds(self.constraints, one) is not None]
            leader = min(held, key=self._true, default=None)
            if leader is None or (best is not None and self._true(leader) >= self._true(best)):
                break
            best = at = leader
            table = losses_of_switches(self._true, at, space)
        if best is None:
            nearest = space.labels(at)
            raise NoFeasibleArchitectureError(
                "no selection of blocks keeps the bounds", nearest, [c.report(nearest) for c in self.constraints]
            )
        rows = holds(self.constraints, best)
        assert rows is not None  # it was among those held
        self.supernet.select(best)
        pairs = [(block, label) for block, labels in space.options.items() for label in labels]
        rises = dict(zip(pairs, (first - original).tolist(), strict=True))
        scored = {pair: rise for pair, rise in rises.items() if pair[1] != ORIGINAL}
        return Replaced(
            self.supernet, space.labels(best), self._true(best), original, errors, scored, rows, dict(self.judged)
        )

    def _true(self, selection: NDArray[np.int64]) -> float:
        """The loss of a selection on the validation data, cached."""
        key = tuple(selection.tolist())
        if key not in self.judged:
            with self.supernet.selected(selection) as model, evaluating(model):
                self.judged[key] = evaluate(model, self.val, loss=self.loss).loss
        return self.judged[key]


def _check(model: nn.Module, blocks: Mapping[str, Mapping[str, nn.Module]]) -> None:
    if not blocks:
        raise ValueError("blocks is empty; name at least one block and its replacements")
    known = dict(model.named_modules())
    for path, options in blocks.items():
        if path not in known or not path:
            raise ValueError(f"blocks names {path!r}, which the model lacks; it has {', '.join(filter(None, known))}")
        if not isinstance(options, Mapping) or not options or ORIGINAL in options:
            raise ValueError(f"blocks[{path!r}] must map labels other than {ORIGINAL!r} to modules, got {options!r}")
        if (outer := next((other for other in blocks if path.startswith(f"{other}.")), None)) is not None:
            raise ValueError(f"blocks names {path!r}, which stands inside {outer!r}; name one of them")


@dataclass
class _Call:
    """A call of a block: inputs by position and by name, and what it returned."""

    given: tuple[Any, ...]
    named: dict[str, Any]
    returned: Any = None


def _recorded(model: nn.Module, blocks: Iterable[str], train: Iterable[Any]) -> dict[str, list[_Call]]:
    """Inputs and outputs of each block, from one pass over the data in evaluation mode."""
    recorded: dict[str, list[_Call]] = {path: [] for path in blocks}
    hooks = []
    for path, calls in recorded.items():

        def before(block: nn.Module, given: Any, named: Any, calls: list[_Call] = calls) -> None:
            calls.append(_Call(_kept(given), _kept(named)))

        def after(block: nn.Module, given: Any, returned: Any, calls: list[_Call] = calls) -> None:
            calls[-1].returned = _kept(returned)

        block = model.get_submodule(path)
        hooks += [block.register_forward_pre_hook(before, with_kwargs=True), block.register_forward_hook(after)]
    device = device_of(model)
    try:
        with torch.no_grad(), evaluating(model):
            for raw in train:
                Batch.of(raw, model, "train").to(device).outputs(model)
    finally:
        for hook in hooks:
            hook.remove()
    if missing := [path for path, calls in recorded.items() if not calls]:
        raise ValueError(f"train never reaches the blocks {', '.join(missing)}; it must have batches that do")
    return recorded


def _kept(value: Any) -> Any:
    """A copy, since later operations may change tensors in place."""
    return mapped(lambda x: x.detach().clone() if isinstance(x, Tensor) else x, value)


# From inputs by position and by name to those that an option takes.
_Taken = Callable[[tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], Mapping[str, Any]]]


def _distilled(option: nn.Module, taken: _Taken, calls: Sequence[_Call], epochs: int, rate: float, seed: int) -> float:
    """Train a replacement to reproduce the outputs of its block; returns the final error."""
    parameters = [p for p in option.parameters() if p.requires_grad]
    order = torch.Generator().manual_seed(seed)
    if parameters:
        optimizer = torch.optim.Adam(parameters, lr=rate)
        option.train()
        for _ in range(epochs):
            for at in torch.randperm(len(calls), generator=order).tolist():
                optimizer.zero_grad()
                error = torch.stack(
                    [squared / spread for squared, spread in _compared(option, taken, calls[at])]
                ).mean()
                error.backward()
                optimizer.step()
    option.eval()
    with torch.no_grad():
        pairs = [pair for call in calls for pair in _compared(option, taken, call)]
    return float(sum(squared for squared, _ in pairs) / sum(spread for _, spread in pairs))


def _compared(option: nn.Module, taken: _Taken, call: _Call) -> Iterator[tuple[Tensor, Tensor]]:
    """Mean squared errors of a replacement's outputs, each with the variance of its block's output."""
    given, named = taken(_kept(call.given), _kept(call.named))
    returned, targets = list(_floats(option(*given, **named))), list(_floats(call.returned))
    shapes, wanted = ([tuple(x.shape) for x in tensors] for tensors in (returned, targets))
    if shapes != wanted:
        raise ValueError(
            f"a replacement must return tensors of the shapes that its block returns, {wanted}, got {shapes} of "
            f"{option}"
        )
    for one, target in zip(returned, targets, strict=True):
        spread = target.var(correction=0).clamp_min(torch.finfo(target.dtype).tiny)
        yield functional.mse_loss(one, target), spread


def _floats(value: Any) -> Iterator[Tensor]:
    return (x for x in tensors_in(value) if x.is_floating_point())
