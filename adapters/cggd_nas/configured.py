"""A pruned network as a model of its class with a fitting configuration, for Hugging Face's transformers."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from cggd_nas.nested import tensors_in
from cggd_nas.trace import Example, tensors_of

Shapes = dict[str, tuple[int, ...]]

# Largest difference between the outputs of both models, as a share of the largest output.
ROUNDING = 1e-4


def configured(network: nn.Module, example: Example) -> nn.Module:
    """Convert an extracted network to a new model of its class, with a configuration that fits its weights.

    Such a model can be written by ``save_pretrained`` and read by ``from_pretrained``. The model must have a ``config``
    and its class must take it as argument, as all of Hugging Face's do. Most configurations have one width for all
    layers, so call `prunable` with ``alike=True``. Layers that were left out are removed from their list.

    Parameters
    ----------
    network : nn.Module
        Returned by `extract` for the supernet of a model of transformers. It is not changed.
    example : Tensor or sequence of Tensor
        Arguments of its forward, used to compare both models.

    Returns
    -------
    nn.Module
        In evaluation mode.

    Raises
    ------
    ValueError
        If no configuration fits the shapes of the weights. An example are removed heads in a class in which the size of
        a head follows from their number. The message names weights that do not fit.
    """
    if not hasattr(network, "config"):
        raise TypeError(
            f"network must be a model with a config, as those of transformers, got {type(network).__name__}"
        )
    state = _without_left_out(network)
    wanted: Shapes = {name: tuple(x.shape) for name, x in state.items()}
    config: Any = copy.deepcopy(cast(Any, network).config)
    _fit(network, config, wanted)
    made = type(network)(config)
    wrong = _apart(_shapes(made), wanted)
    if wrong:
        raise ValueError(
            f"no configuration of {type(config).__name__} has the weights of this network: {', '.join(wrong[:3])}"
            f"{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}; remove them in all layers alike "
            "(prunable(..., alike=True)), or what its configuration knows only"
        )
    made.load_state_dict(state)
    made.to(next(iter(state.values()))).eval()
    far = _distance(network, made, tensors_of(example))
    if not far <= ROUNDING:
        raise ValueError(f"the model made from the configuration computes something else: outputs differ by {far:.2g}")
    return made


def _without_left_out(network: nn.Module) -> dict[str, Tensor]:
    """The weights, with layers numbered without those that were left out."""
    state = dict(network.state_dict())
    for path, module in network.named_modules():
        if not isinstance(module, nn.ModuleList):
            continue
        empty = [not any(True for _ in layer.parameters()) for layer in module]
        if all(empty) or not any(empty):
            continue
        number = {str(i): str(sum(not e for e in empty[:i])) for i in range(len(module))}
        start = f"{path}." if path else ""
        pattern = re.compile(rf"^{re.escape(start)}(\d+)\.")
        state = {pattern.sub(lambda found: f"{start}{number[found[1]]}.", name): x for name, x in state.items()}  # noqa: B023
    return state


def _lists(network: nn.Module) -> Mapping[int, int]:
    """Lengths of lists of layers before and after layers were left out."""
    lengths: dict[int, int] = {}
    for module in network.modules():
        if isinstance(module, nn.ModuleList):
            kept = sum(any(True for _ in layer.parameters()) for layer in module)
            if 0 < kept < len(module):
                lengths[len(module)] = kept
    return lengths


def _fit(network: nn.Module, config: Any, wanted: Shapes) -> None:
    """Change integers of a configuration in place, one or two at a time, until the shapes fit."""
    kind, lists = type(network), _lists(network)
    numbers = {k: v for k, v in vars(config).items() if isinstance(v, int) and not isinstance(v, bool) and v > 1}
    numbers.pop("head_dim", None)
    unset = [name for name, value in vars(config).items() if value is None and "inner" in name]
    if head := _size_of_head(network):
        config.head_dim = head  # by default it follows from the number of heads, which may have changed
    for name, value in numbers.items():
        if value in lists and "layer" in name:
            setattr(config, name, lists[value])
            for other, each in vars(config).items():  # such as the kinds of layers
                if isinstance(each, list) and len(each) == value:
                    setattr(config, other, each[: lists[value]])
    for count in (1, 2):
        while wrong := _apart(_made(kind, config), wanted):
            before, best = _made(kind, config), None
            pairs = {
                (a, b)
                for name in before.keys() & wanted.keys()
                for a, b in zip(before[name], wanted[name], strict=False)
                if a != b
            }
            trials = [(name, b) for name in unset for _, b in pairs]
            trials += [
                (name, old * b // a)
                for name in numbers
                for old in [getattr(config, name)]
                for a, b in pairs
                if old * b % a == 0
            ]
            for changes in itertools.combinations(dict.fromkeys(trials), count):
                trial = copy.deepcopy(config)
                for name, value in changes:
                    setattr(trial, name, value)
                left = len(_apart(_made(kind, trial), wanted))
                if left < len(wrong) and (best is None or left < best[0]):
                    best = left, changes
            if best is None:
                break
            for name, value in best[1]:
                setattr(config, name, value)


def _size_of_head(network: nn.Module) -> int | None:
    """The attribute `head_dim` of attention modules, if it is the same in all."""
    known = {size for module in network.modules() if isinstance(size := getattr(module, "head_dim", None), int)}
    return known.pop() if len(known) == 1 else None


def _made(kind: type[nn.Module], config: Any) -> Shapes:
    """Shapes of the weights of a new model; empty if the class rejects the configuration."""
    try:
        with torch.device("meta"):
            return _shapes(kind(copy.deepcopy(config)))
    except Exception:  # classes raise different errors for inconsistent numbers
        return {}


def _shapes(model: nn.Module) -> Shapes:
    return {name: tuple(x.shape) for name, x in model.state_dict().items()}


def _apart(made: Shapes, wanted: Shapes) -> list[str]:
    return [
        f"{name} {made.get(name, 'missing')} instead of {wanted.get(name, 'none')}"
        for name in sorted(made.keys() | wanted.keys())
        if made.get(name) != wanted.get(name)
    ]


def _distance(network: nn.Module, made: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    training = network.training
    with torch.no_grad():
        pairs = list(zip(tensors_in(network.eval()(*inputs)), tensors_in(made(*inputs)), strict=False))
    network.train(training)
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-12)) for a, b in pairs if a.is_floating_point())
