"""Sliced: a layer next to a `ChannelChoice`, which extraction cuts to the chosen channels."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import is_fake
from torch.nn.utils import parametrize

from cggd.checks import whole
from cggd_nas.choices import Selection

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Sliced(nn.Module):
    """A layer whose input or output channels are masked by channel choices.

    In the supernet it is the layer itself; `plain` cuts its weights to the chosen widths. A depthwise convolution and a
    batch norm have as many outputs as inputs: name their decision as `inputs`, as `outputs`, or as both.

    Weights must be parameters, or have a parametrization that does not change weights after they are cut, such as
    ``torch.nn.utils.parametrizations.weight_norm``. Weights that a hook computes before each call cannot be cut, since
    the hook would restore them. The older ``torch.nn.utils.weight_norm``, ``spectral_norm`` and pruning use such hooks.

    Parameters
    ----------
    module : nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d or nn.BatchNorm3d
        Layer norms are not supported, since masked channels would count in their mean.
    inputs, outputs : str, optional
        The decision on the number of input (output) channels. Without a decision the number is fixed.
    features_per_channel : int
        Input features of a linear layer per channel, such as height times width after ``nn.Flatten``.

    Examples
    --------
    >>> from cggd_nas import ChannelChoice
    >>> layer = Sliced(nn.Linear(3, 8), outputs="width")
    >>> layer.plain({"width": "5"})
    Linear(in_features=3, out_features=5, bias=True)
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        inputs: str | None = None,
        outputs: str | None = None,
        features_per_channel: int = 1,
    ) -> None:
        super().__init__()
        if not isinstance(module, (*_CONVOLUTIONS, *_NORMS, nn.Linear)):
            raise TypeError(f"a sliced layer must be a convolution, linear or a batch norm, got {module!r}")
        for argument, decision in (("inputs", inputs), ("outputs", outputs)):
            if decision is not None and not isinstance(decision, str):
                raise TypeError(f"{argument} must name a decision, got {decision!r}")
        whole(features_per_channel, "features_per_channel", least=1)
        if inputs is None and outputs is None:
            raise ValueError(f"name the decision that inputs or outputs of {module!r} follow")
        if isinstance(module, _NORMS) or depthwise(module):
            if inputs is not None and outputs is not None and inputs != outputs:
                raise ValueError(f"{module!r} keeps its channels, got inputs={inputs!r} and outputs={outputs!r}")
            inputs = outputs = inputs or outputs
        elif isinstance(module, _CONVOLUTIONS) and module.groups != 1:
            raise ValueError(f"a convolution with 1 or as many groups as channels can be sliced, got {module!r}")
        if isinstance(module, _CONVOLUTIONS) and module.transposed:
            raise TypeError(f"a transposed convolution cannot be sliced, got {module!r}")
        _check_weights(module)
        self.module, self.inputs, self.outputs = module, inputs, outputs
        self.features_per_channel = features_per_channel
        if parametrize.is_parametrized(module):
            self._cut_to(dict.fromkeys(self.follows, "1"))  # to see whether it can be done

    @property
    def follows(self) -> tuple[str, ...]:
        """The decisions on its numbers of channels."""
        return tuple(dict.fromkeys(decision for decision in (self.inputs, self.outputs) if decision is not None))

    def forward(self, x: Tensor) -> Tensor:
        """The output of the layer for all channels."""
        return self.module(x)

    def plain(self, selection: Selection) -> nn.Module:
        """A copy of the layer with the chosen channels only."""
        _check_weights(self.module)  # hooks may have come since
        return self._cut_to(selection)

    def _cut_to(self, selection: Selection) -> nn.Module:
        module: Any = copy.deepcopy(self.module)
        if self.inputs is not None:
            _cut_inputs(module, _width(selection, self.inputs), self.features_per_channel)
        if self.outputs is not None:
            _cut_outputs(module, _width(selection, self.outputs))
        return module


def depthwise(module: nn.Module) -> bool:
    """Whether a module is a depthwise convolution."""
    return isinstance(module, _CONVOLUTIONS) and module.groups == module.in_channels == module.out_channels > 1


def _width(selection: Selection, decision: str) -> int:
    if decision not in selection:
        raise ValueError(f"selection has no decision {decision!r}; it has {', '.join(map(repr, selection))}")
    if not str(label := selection[decision]).isdecimal():
        raise ValueError(f"a sliced layer follows decisions on widths, but {decision!r} has the option {label!r}")
    return int(label)


def _cut_inputs(module: Any, width: int, features_per_channel: int) -> None:
    if isinstance(module, nn.Linear):
        module.in_features = width * features_per_channel
        _cut(module, "weight", width * features_per_channel, dim=1)
    elif isinstance(module, _CONVOLUTIONS):
        module.in_channels = width
        if module.groups == 1:
            _cut(module, "weight", width, dim=1)
        else:
            module.groups = width


def _cut_outputs(module: Any, width: int) -> None:
    for name in ("weight", "bias", "running_mean", "running_var"):
        _cut(module, name, width, dim=0)
    count = next(n for n in ("out_channels", "out_features", "num_features") if hasattr(module, n))
    setattr(module, count, width)


def _cut(module: nn.Module, name: str, width: int, *, dim: int) -> None:
    tensor = getattr(module, name, None)
    if tensor is None:
        return
    if tensor.shape[dim] < width:
        raise ValueError(f"a layer of {tensor.shape[dim]} channels or features cannot be cut to {width}")
    kept = tensor.detach().narrow(dim, 0, width).clone()
    if parametrize.is_parametrized(module, name):
        _set_parametrized(module, name, kept)
    else:
        setattr(module, name, nn.Parameter(kept, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else kept)


def _set_parametrized(module: nn.Module, name: str, kept: Tensor) -> None:
    """Set weights that a parametrization computes, and check that it then computes them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of buffers that PyTorch resizes
            setattr(module, name, kept)
            computed = getattr(module, name)
        same = computed.shape == kept.shape and (
            is_fake(kept) or kept.is_meta or torch.allclose(computed, kept, rtol=1e-4, atol=1e-6)
        )
    except (RuntimeError, ValueError, NotImplementedError):
        same = False
    if not same:
        kinds = ", ".join(type(part).__name__ for part in module.parametrizations[name])  # pyright: ignore
        raise TypeError(
            f"{name} of {module!r} has the parametrization {kinds}, which does not keep weights that are cut as they "
            "are; call torch.nn.utils.parametrize.remove_parametrizations on the layer before it is put into Sliced"
        )


def _check_weights(module: nn.Module) -> None:
    """Raise if a hook computes a layer's weights before each call."""
    for name in ("weight", "bias"):
        value = getattr(module, name, None)
        if value is not None and name not in module._parameters and not parametrize.is_parametrized(module, name):
            raise TypeError(
                f"{name} of {module!r} is computed before each call, as by torch.nn.utils.weight_norm, spectral_norm "
                "or prune, and cannot be cut; use torch.nn.utils.parametrizations.weight_norm, or make the weights "
                "permanent (remove_weight_norm, remove_spectral_norm, prune.remove)"
            )
