"""Choices: modules that represent a decision anywhere in a network.

`cggd_nas.collect` finds them, names their decisions and sets how they mix. Choices with the same `decision` share the
decision and its logits. A choice may be inside an option of another choice; it has no effect if that option is not
chosen.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeGuard, cast

import torch
from torch import Tensor, nn

from cggd.checks import whole
from cggd_nas.arguments import Arguments
from cggd_nas.relaxations import Mixing, mix

# DARTS starts its logits as noise of this size (its program, model_search.py). The noise only breaks ties.
NOISE = 1e-3

Selection = Mapping[Any, Any]


class ChoiceModule(Protocol):
    """What a module needs to be a choice, such as `Choice`, `ChannelChoice`, `RepeatChoice` or your own class.

    Attributes
    ----------
    labels : tuple of str
        Names of the options.
    decision : str or None
        Name of the decision. If it is None, `cggd_nas.collect` sets it to the module's path.
    logits : nn.Parameter of shape (n_options,)
        The architecture parameter.
    mixing : Mixing or None
        What the next forward pass computes; set before each pass.
    """

    labels: tuple[str, ...]
    decision: str | None
    logits: nn.Parameter
    mixing: Mixing | None

    def plain(self, selection: Selection) -> nn.Module:
        """An equivalent module of the network with this selection, with copied weights."""
        ...


def is_choice(module: nn.Module) -> TypeGuard[ChoiceModule]:
    """Whether a module has the attributes of a choice.

    Since Python 3.12 ``isinstance`` with a protocol does not find parameters of modules.
    """
    return all(hasattr(module, name) for name in ("labels", "decision", "logits", "mixing", "plain"))


def changes(module: nn.Module) -> bool:
    """Whether a module depends on the selection by itself."""
    return callable(getattr(module, "plain", None))


class Choice(nn.Module):
    """One decision among modules.

    Parameters
    ----------
    options : mapping of str to nn.Module
        At least one. They return values of the same structure: tensors of one shape, or tuples, mappings and
        dataclasses of such tensors. If parts differ in structure, as the states of LSTM and GRU do, they can be read if
        one path runs, but not if several paths are mixed. Each option gets only the arguments that it takes, so
        ``nn.Identity()`` can be an alternative to a layer that is called as ``layer(h, mask=mask)``.
    decision : str, optional
        Choices with the same name share one decision. They must have equal labels in equal order.

    Attributes
    ----------
    options : nn.ModuleDict
        In the order of `labels`. Keys are the labels if PyTorch allows them, otherwise the options' numbers.
    labels, decision, logits, mixing
        See `ChoiceModule`.

    Examples
    --------
    >>> from cggd_nas import collect
    >>> model = nn.Sequential(Choice({"conv3": nn.Conv2d(3, 3, 3, padding=1), "skip": nn.Identity()}), nn.Flatten())
    >>> supernet = collect(model)
    >>> supernet.space.options
    {'0': ('conv3', 'skip')}
    >>> with supernet.selected({"0": "skip"}):
    ...     model(torch.ones(1, 3, 2, 2)).sum()
    tensor(12.)
    """

    labels: tuple[str, ...]
    decision: str | None
    logits: nn.Parameter
    mixing: Mixing | None

    def __init__(self, options: Mapping[str, nn.Module], *, decision: str | None = None) -> None:
        super().__init__()
        if not isinstance(options, Mapping):
            raise TypeError(f"options must map labels to modules, got {options!r}")
        for label, option in options.items():
            if not isinstance(option, nn.Module):
                raise TypeError(f"options[{label!r}] must be an nn.Module, got {option!r}")
        _prepare(self, tuple(options), decision)
        self.arguments = Arguments.of(list(options.values()))
        self.options = nn.ModuleDict()
        for number, (label, option) in enumerate(options.items()):
            usable = label.isidentifier() and not hasattr(self.options, label)
            self.options[label if usable else str(number)] = option

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The chosen option's output, or a mixture of the outputs of the options drawn."""
        options = list(self.options.values())

        def run(path: int) -> Any:
            given, named = self.arguments.given(path, args, kwargs)
            return options[path](*given, **named)

        return mix(_drawn(self), run, self.labels)

    def choose(self, label: str) -> nn.Module:
        """The module of one option, not a copy."""
        return list(self.options.values())[_position(self, label)]

    def plain(self, selection: Selection) -> nn.Module:
        """A copy of the chosen option."""
        label = _chosen(self, selection)
        return self.arguments.plain(_position(self, label), copy.deepcopy(self.choose(label)))

    def extra_repr(self) -> str:
        return _described(self)


class ChannelChoice(nn.Module):
    """A choice of the number of channels. Channels beyond the chosen number are set to 0.

    Weights are shared: the modules before and after it work on all channels. Wrap these modules in `cggd_nas.Sliced`,
    so that the extracted network has only the chosen channels. All operations between the choice and the next layer in
    `cggd_nas.Sliced` must treat each channel separately and map 0 to 0, as ReLU and pooling do. Put the choice after
    normalisations, and after activations such as Sigmoid. Otherwise `cggd_nas.Costs` and `cggd_nas.extract` raise an
    error.

    Parameters
    ----------
    channels : int
        Channels of the tensor that passes through.
    widths : sequence of int
        The numbers to choose from, each from 1 to `channels`. Labels are their decimal forms.
    decision : str, optional
    dim : int
        The axis of the channels: 1 for convolutions, -1 for transformers.

    References
    ----------
    Masks as in FBNetV2 (Wan et al., CVPR 2020), which are also weighted by the relaxation.

    Examples
    --------
    >>> from cggd_nas import collect
    >>> model = nn.Sequential(ChannelChoice(4, [2, 4], decision="width"))
    >>> with collect(model).selected({"width": "2"}):
    ...     model(torch.ones(1, 4))
    tensor([[1., 1., 0., 0.]])
    """

    labels: tuple[str, ...]
    decision: str | None
    logits: nn.Parameter
    mixing: Mixing | None
    masks: Tensor

    def __init__(self, channels: int, widths: Sequence[int], *, decision: str | None = None, dim: int = 1) -> None:
        super().__init__()
        channels = whole(channels, "channels", least=1)
        widths = _up_to(widths, "widths", least=1, most=channels, limit="channels")
        _prepare(self, tuple(map(str, widths)), decision)
        self.dim = dim
        masks = torch.arange(channels) < torch.tensor(widths)[:, None]
        self.register_buffer("masks", masks.to(torch.get_default_dtype()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The tensor with its last channels masked; its shape is kept."""
        channels = self.masks.shape[1]
        if not -x.ndim <= self.dim < x.ndim or x.shape[self.dim] != channels:
            raise ValueError(f"a choice of {channels} channels got a tensor of shape {tuple(x.shape)}, dim={self.dim}")
        mixing = _drawn(self)
        mask = mix(mixing, lambda path: self.masks[path], self.labels)
        shape = [1] * x.ndim
        shape[self.dim] = channels
        return x * mask.to(x.dtype).view(shape)

    def plain(self, selection: Selection) -> nn.Module:
        """An identity, since the modules around it are sliced."""
        _chosen(self, selection)
        return nn.Identity()

    def extra_repr(self) -> str:
        return _described(self)


class RepeatChoice(nn.Module):
    """A choice of depth: the first k blocks run, one after another.

    Parameters
    ----------
    blocks : sequence of nn.Module
        Each block beyond the smallest depth keeps the shape of its input. Each block also gets those of the further
        arguments that it takes: ``layer(h, mask=mask)``.
    depths : sequence of int
        The numbers to choose from, each from 0 to the number of blocks. Labels are their decimal forms.
    decision : str, optional

    Examples
    --------
    >>> from cggd_nas import collect
    >>> model = nn.Sequential(RepeatChoice([nn.Linear(2, 2), nn.Linear(2, 2)], [0, 1, 2], decision="depth"))
    >>> with collect(model).selected({"depth": "0"}):
    ...     model(torch.ones(1, 2))
    tensor([[1., 1.]])
    """

    labels: tuple[str, ...]
    decision: str | None
    logits: nn.Parameter
    mixing: Mixing | None

    def __init__(self, blocks: Sequence[nn.Module], depths: Sequence[int], *, decision: str | None = None) -> None:
        super().__init__()
        if not isinstance(blocks, Iterable) or not all(isinstance(block, nn.Module) for block in blocks):
            raise TypeError(f"blocks must be a list of modules, got {blocks!r}")
        self.blocks = nn.ModuleList(blocks)
        self.depths = tuple(_up_to(depths, "depths", least=0, most=len(self.blocks), limit="the number of blocks"))
        _prepare(self, tuple(map(str, self.depths)), decision)
        self.arguments = Arguments.of(list(self.blocks))

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """The output of the first k blocks, or a mixture. Blocks beyond the deepest path drawn do not run."""
        mixing = _drawn(self)
        self.arguments.check((x, *args), kwargs, "RepeatChoice")
        outputs = [x]
        for i, block in enumerate(list(self.blocks)[: max(self.depths[path] for path in mixing.paths)]):
            given, named = self.arguments.given(i, (outputs[-1], *args), kwargs)
            outputs.append(block(*given, **named))
        return mix(mixing, lambda path: outputs[self.depths[path]], self.labels)

    def plain(self, selection: Selection) -> nn.Module:
        """Copies of the first k blocks."""
        depth = self.depths[_position(self, _chosen(self, selection))]
        return self.arguments.chain(range(depth), [copy.deepcopy(block) for block in list(self.blocks)[:depth]])

    def extra_repr(self) -> str:
        return _described(self)


def whole_numbers(numbers: Sequence[int], argument: str, *, least: int) -> list[int]:
    """A checked list of one or more whole numbers of at least `least`; `argument` names it in errors."""
    if isinstance(numbers, str) or not isinstance(numbers, Iterable):
        raise TypeError(f"{argument} must be a list of whole numbers, got {numbers!r}")
    if not (checked := [whole(number, f"each of {argument}", least=least) for number in numbers]):
        raise ValueError(f"{argument} must hold at least one number, got {numbers!r}")
    return checked


def _up_to(numbers: Sequence[int], argument: str, *, least: int, most: int, limit: str) -> list[int]:
    checked = whole_numbers(numbers, argument, least=least)
    if over := [number for number in checked if number > most]:
        raise ValueError(f"{argument} must lie between {least} and {limit} = {most}, got {over[0]}")
    return checked


def _prepare(choice: ChoiceModule, labels: tuple[str, ...], decision: str | None) -> None:
    if not labels:
        raise ValueError("a choice needs at least one option, got none")
    for label in labels:
        if not isinstance(label, str):
            raise TypeError(f"labels of options must be strings, got {label!r}")
    if len(set(labels)) != len(labels):
        raise ValueError(f"options of a choice must differ, got {', '.join(labels)}")
    if decision is not None and not isinstance(decision, str):
        raise TypeError(f"decision must be a string or None, got {decision!r}")
    choice.labels, choice.decision, choice.mixing = labels, decision, None
    choice.logits = nn.Parameter(NOISE * torch.randn(len(labels)))


def _drawn(choice: ChoiceModule) -> Mixing:
    if choice.mixing is None:
        raise RuntimeError(
            f"a choice among {', '.join(choice.labels)} does not know how to mix; call cggd_nas.collect(model) on the "
            "whole model first, and supernet.draw() before each forward pass where you call parts of the model alone"
        )
    return choice.mixing


def _chosen(choice: ChoiceModule, selection: Selection) -> str:
    if choice.decision not in selection:
        known = ", ".join(map(repr, selection))
        raise ValueError(f"selection has no decision {choice.decision!r}; it has {known}")
    return cast(str, selection[choice.decision])


def _position(choice: ChoiceModule, label: str) -> int:
    if label not in choice.labels:
        raise ValueError(f"decision {choice.decision!r} has no option {label!r}; it has {', '.join(choice.labels)}")
    return choice.labels.index(label)


def _described(choice: ChoiceModule) -> str:
    return f"decision={choice.decision!r}, labels={choice.labels}"
