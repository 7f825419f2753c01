"""Whether the networks extracted from a supernet compute the same as the supernet.

For a `ChannelChoice`, this depends on the layers around it. They must be in `Sliced` with the same decision, and no
operation between them may depend on channels that the mask sets to 0. To test this, supernet and extracted network are
run on the same input.
"""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Hashable, Iterable, Iterator, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cggd_nas.choices import ChannelChoice, Choice, RepeatChoice, changes, is_choice
from cggd_nas.failures import place_of
from cggd_nas.nested import tensors_in
from cggd_nas.plain import plain_network, stripped
from cggd_nas.slicing import Sliced
from cggd_nas.supernet import Supernet, collect
from cggd_nas.trace import Example, tensors_of

# Random selections that are also compared when a supernet is checked for the first time.
DRAWN = 3

# Largest differences due to rounding, as shares of an output's largest number: in double precision (parts of a network
# may still use single precision), and in the network's own precision if it cannot run in double precision.
ROUNDING, OWN_ROUNDING = 1e-5, 1e-3

# Size of the noise added to weights, so that biases and residual branches that start at 0 do not hide a difference.
MOVED = 0.1

# Sizes of each axis that are tried if no input of the network is known.
SIZES = tuple(dict.fromkeys((16, 8, 32, 4, 64, 28, *range(1, 65), 96, 128, 160, 192, 224, 256, 299, 512, 1024)))

# Number of first layers whose input shapes are tried.
LAYERS = 4

Row = tuple[int, ...]


def check_agreement(
    supernet: Supernet, rows: Iterable[Iterable[int]] = (), example: Example | None = None, *, insist: bool = False
) -> None:
    """Raise if an extracted network computes something else than the supernet under the same selection.

    The given selections are compared, and once for each supernet the widest one, the narrowest ones with each option of
    all other decisions, and a few random ones. The comparison uses copies in evaluation mode and double precision, with
    weights moved at random so that the result holds for any weights.
    Networks in which only `Choice` and `RepeatChoice` depend on the selection agree by construction. A network whose
    outputs are random cannot be compared.

    Parameters
    ----------
    supernet : Supernet
    rows : iterable of selections as indices
    example : Tensor or sequence of Tensor, optional
        Arguments of the network's forward. By default the last known example (of `Costs`, or of a forward pass), or
        tensors made from the shapes of the first layers. Floating-point tensors whose numbers are all equal, such as
        ``torch.zeros``, are filled with random numbers.
    insist : bool
        With an example, also compare networks that agree by construction. Raise if the example cannot be run, or if the
        supernet has choices of width and no example is known.

    Raises
    ------
    ValueError
        If the networks differ by more than rounding, or the extracted one cannot be run.
    """
    given = None if example is None else tensors_of(example)
    if not (insist and given) and all(_right_anywhere(module) for module in supernet.model.modules()):
        return
    tensors = [*supernet.model.parameters(), *supernet.model.buffers()]
    if any(is_lazy(x) or x.is_meta for x in tensors):
        return  # there are no values to compare
    space = supernet.space
    drawn = () if supernet.agreed else (*_extremes(supernet), *space.sample(DRAWN, np.random.default_rng(0)))
    rows = [tuple(map(int, row)) for row in (*rows, *drawn)]
    if not (todo := [row for row in dict.fromkeys(rows) if row not in supernet.agreed]):
        return
    if (found := _prepared(supernet, todo[0], given)) is not None:
        twin, inputs, rounding = found
        for row in todo:
            _compare(twin, row, inputs, rounding)
        supernet.agreed.update(todo)
    elif insist and given is not None:
        shapes = ", ".join(f"{tuple(x.shape)} of {x.dtype}" for x in given)
        raise ValueError(
            f"the network cannot be run on an example of shape {shapes}, or gives numbers that are not finite, under "
            f"{space.labels(todo[0])}; the example must be what its forward takes"
        )
    elif insist and (widths := _widths(supernet)):
        raise ValueError(
            f"whether the network keeps its function when it is cut to the widths {_listed(widths)} can only be seen "
            "by running it, and no input of it is known: give one to extract, example=tensor or tuple of tensors"
        )


def _right_anywhere(module: nn.Module) -> bool:
    """Whether the extracted module computes the same for any modules around it."""
    return not changes(module) or type(module).plain in (Choice.plain, RepeatChoice.plain)  # pyright: ignore


def _widths(supernet: Supernet) -> list[Hashable]:
    """Decisions on channels."""
    every = supernet.choices.items()
    return [d for d, shared in every if any(isinstance(choice, ChannelChoice) for choice in shared.values())]


def _extremes(supernet: Supernet) -> Iterator[NDArray[np.int64]]:
    """The widest selection, and the narrowest ones, which together have each option of all other decisions."""
    space = supernet.space
    narrow, widths = np.full(space.n_decisions, -1), _widths(supernet)
    wide = space.sizes - 1
    for place, decision in enumerate(space.decisions):
        if decision in widths:
            numbers = [int(str(label)) for label in space.option_labels(decision)]
            narrow[place], wide[place] = np.argmin(numbers), np.argmax(numbers)
    yield wide
    for option in range(max(space.sizes[narrow < 0], default=1)):
        yield np.where(narrow < 0, np.minimum(option, space.sizes - 1), narrow)


# -- running ----------------------------------------------------------------------------------------------------------


def _prepared(
    supernet: Supernet, row: Row, given: tuple[Tensor, ...] | None
) -> tuple[Supernet, list[Tensor], float] | None:
    """A copy of the supernet, inputs with finite outputs, and the tolerance for rounding."""
    known = [lambda: supernet.example, lambda: _guessed(supernet, row)] if given is None else [lambda: given]
    for example in filter(None, (ask() for ask in known)):
        for precise, moved in ((True, True), (True, False), (False, False)):
            twin = _copied(supernet, precise=precise, moved=moved)
            for inputs in (_filled(example, twin), _filled(example, twin, constant=True)):
                if _runs(twin, row, inputs):
                    supernet.example = example
                    return twin, inputs, ROUNDING if precise else OWN_ROUNDING
    return None


def _guessed(supernet: Supernet, row: Row) -> tuple[Tensor, ...] | None:
    own = _copied(supernet, precise=False, moved=False)
    return next((example for example in _guesses(own.model) if _runs(own, row, _filled(example, own))), None)


def _copied(supernet: Supernet, *, precise: bool, moved: bool) -> Supernet:
    model = deepcopy(supernet.model, stripped(supernet.model)).eval()
    if precise:
        model.double()
    if moved:
        moved_weights(model)
    return collect(model)


def moved_weights(model: nn.Module) -> nn.Module:
    """Add random noise to all weights and running statistics of a model, in place."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point() and parameter.numel():
                inputs = parameter.numel() / len(parameter) if parameter.ndim > 1 else 1.0
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_((MOVED * inputs**-0.5 * noise).to(parameter))
        for part in model.modules():
            for name, low in (("running_mean", -0.5), ("running_var", 0.5)):
                if isinstance(statistic := getattr(part, name, None), Tensor):
                    statistic.add_((low + torch.rand(statistic.shape, generator=generator)).to(statistic))
    return model


def _filled(example: Sequence[Tensor], supernet: Supernet, *, constant: bool = False) -> list[Tensor]:
    """An example on the device and in the precision of a supernet, with random numbers if it has no values.

    Without `constant`, tensors with equal numbers are also filled.
    """
    like, generator = supernet.parameters[0], torch.Generator().manual_seed(1)

    def filled(x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return (torch.zeros_like(x, device=like.device) if x.is_meta else x.detach()).to(like.device)
        if x.is_meta or (not constant and x.numel() > 0 and bool((x == x.flatten()[0]).all())):
            x = torch.randn(x.shape, generator=generator)
        return x.detach().to(like)

    return [filled(x) for x in example]


def _guesses(model: nn.Module) -> Iterator[tuple[Tensor, ...]]:
    """Possible inputs of a network with one argument, from the shapes of its first layers."""
    given = inspect.signature(model.forward).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if sum(p.default is p.empty and p.kind in positional for p in given) > 1:
        return
    layers = dict.fromkeys(tuple(shapes) for module in model.modules() if (shapes := _shapes(module)))
    for shapes in itertools.islice(layers, LAYERS):
        for shape, numbers in shapes:
            if numbers is None:
                yield (torch.empty(shape, device="meta"),)
            else:
                yield (torch.randint(numbers, shape, generator=torch.Generator().manual_seed(0)),)


def _shapes(module: Any) -> list[tuple[tuple[int, ...], int | None]]:
    """Shapes of a layer's inputs with two samples and, for integer inputs, the number of values."""

    def images(channels: int, *dims: int) -> list[tuple[tuple[int, ...], int | None]]:
        return [((2, channels, *[size] * dim), None) for dim in dims for size in (SIZES if dim else SIZES[:1])]

    def sequences(*features: int) -> list[tuple[tuple[int, ...], int | None]]:
        return [((2, *features), None), *(((2, size, *features), None) for size in SIZES)]

    for kinds, dim in (
        ((nn.Conv1d, nn.ConvTranspose1d), 1),
        ((nn.Conv2d, nn.ConvTranspose2d), 2),
        ((nn.Conv3d, nn.ConvTranspose3d), 3),
    ):
        if isinstance(module, kinds):
            return images(module.in_channels, dim)
    if isinstance(module, nn.Linear):
        return sequences(module.in_features)
    if isinstance(module, nn.RNNBase):
        return sequences(module.input_size)
    if isinstance(module, nn.LayerNorm):
        return sequences(*module.normalized_shape)
    if isinstance(module, nn.Embedding):
        return [((2, size), module.num_embeddings) for size in SIZES]
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return images(module.num_features, 0, 1, 2, 3)
    return []


def _runs(supernet: Supernet, row: Row, inputs: Sequence[Tensor]) -> bool:
    """Whether the outputs of a supernet are finite."""
    try:
        outputs = _supernet_outputs(supernet, row, inputs)
    except Exception:  # the forward does not take this input
        return False
    return all(bool(x.isfinite().all()) for x in outputs)


def _supernet_outputs(supernet: Supernet, row: Row, inputs: Sequence[Tensor], *, seed: int = 0) -> list[Tensor]:
    with supernet.selected(row) as model:
        return outputs_of(model, inputs, seed)


def outputs_of(module: nn.Module, inputs: Sequence[Tensor], seed: int = 0) -> list[Tensor]:
    """All tensors that a module returns, with a seed for random numbers."""
    devices = {x.device for x in (*module.parameters(), *inputs) if x.device.type == "cuda"}
    kind = next((x.device.type for x in inputs), "cpu")
    own_random = torch.random.fork_rng(devices=list(devices))
    with torch.no_grad(), torch.autocast(kind, enabled=False), own_random, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the network's warnings appear when it is used
        torch.manual_seed(seed)
        return list(tensors_in(module(*(x.clone() for x in inputs))))  # a network may write into its input


# -- comparing --------------------------------------------------------------------------------------------------------


def _compare(twin: Supernet, row: Row, inputs: Sequence[Tensor], rounding: float) -> None:
    try:
        expected = _supernet_outputs(twin, row, inputs)
    except Exception:  # the network of this selection cannot be run in the supernet either
        return
    labels = twin.space.labels(row)
    network = plain_network(twin, labels).eval()
    try:
        outputs = outputs_of(network, inputs)
    except Exception as error:
        widths = _widths(twin)
        raise ValueError(
            f"the network of {labels} runs in the supernet, and fails when it is extracted, "
            f"{place_of(error, network)}: {type(error).__name__}: {error}. "
            f"{_advice(widths, _unsliced(twin, row, inputs, widths))}"
        ) from error
    if apart(expected, outputs) <= rounding:
        return
    if apart(expected, _supernet_outputs(twin, row, inputs, seed=1)) > rounding:
        return  # its outputs are random
    widths = _to_blame(twin, row, inputs, rounding)
    raise ValueError(
        f"the network of {labels} computes something else when it is extracted: outputs differ by "
        f"{_share(apart(expected, outputs))} of the largest one. "
        f"{_advice(widths, _unsliced(twin, row, inputs, widths))}"
    )


def apart(expected: Sequence[Tensor], outputs: Sequence[Tensor]) -> float:
    """The largest difference, as a share of the largest number of its output; infinite if shapes differ."""
    if [x.shape for x in expected] != [x.shape for x in outputs]:
        return np.inf
    return max((_distance(a, b) for a, b in zip(expected, outputs, strict=True)), default=0.0)


def _distance(a: Tensor, b: Tensor) -> float:
    if not a.numel() or torch.equal(a, b):
        return 0.0
    if not (a.is_floating_point() and b.is_floating_point()):
        return np.inf
    a, b = a.double(), b.double()
    distance = (a - b).masked_fill(a.isnan() & b.isnan() | (a == b), 0.0).abs().max()
    return float((distance / a.abs().nan_to_num().max()).nan_to_num(nan=np.inf))


def _share(apart: float) -> str:
    return "more than all" if not np.isfinite(apart) else f"{apart:.2g}"


def _to_blame(twin: Supernet, row: Row, inputs: Sequence[Tensor], rounding: float) -> list[Hashable]:
    """The decisions on widths that change the function even if all others are at their largest width."""
    space, widths = twin.space, _widths(twin)
    blamed = []
    for decision in widths:
        labels = dict(space.labels(row))
        for other in widths:
            if other != decision:
                labels[other] = max(space.option_labels(other), key=lambda label: int(str(label)))
        alone = tuple(space.indices(labels).tolist())
        try:
            expected = _supernet_outputs(twin, alone, inputs)
            outputs = outputs_of(plain_network(twin, labels).eval(), inputs)
        except Exception:
            blamed.append(decision)
            continue
        if apart(expected, outputs) > rounding:
            blamed.append(decision)
    return blamed or widths


def _unsliced(twin: Supernet, row: Row, inputs: Sequence[Tensor], widths: Sequence[Hashable]) -> list[str]:
    """Layers called just before or after a choice of one of the widths that are not in `Sliced` with it."""
    called: list[tuple[str, Any]] = []
    sliced = {id(part.module): part.follows for part in twin.model.modules() if isinstance(part, Sliced)}
    hooks = [
        part.register_forward_pre_hook(lambda part, _, path=path: called.append((path, part)))
        for path, part in twin.model.named_modules()
        if isinstance(part, ChannelChoice) or (part._parameters and not is_choice(part))
    ]
    try:
        _supernet_outputs(twin, row, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    found = dict[str, None]()
    for place, (_, choice) in enumerate(called):
        if not isinstance(choice, ChannelChoice) or choice.decision not in widths:
            continue
        for near in (reversed(called[:place]), called[place + 1 :]):
            for path, layer in near:
                if isinstance(layer, ChannelChoice):
                    break
                if choice.decision not in sliced.get(id(layer), ()):
                    found[path] = None
                if any(x.ndim > 1 for x in layer._parameters.values() if x is not None):
                    break  # it makes or takes the channels; layers between, such as norms, keep them
    return [path for path in dict(called) if path in found]


def _advice(widths: Sequence[Hashable], layers: Sequence[str]) -> str:
    if not widths:
        return "The method plain of every module must return a module that computes the same."
    here = f" (these are not: {_listed(layers)})" if layers else ""
    return (
        f"Where the width {_listed(widths)} is chosen, every layer that makes or takes its channels must be in "
        f"Sliced{here}, behind nn.Flatten with features_per_channel, and what stands between the ChannelChoice and the "
        "next layer in Sliced must keep channels apart and turn 0 into 0: put the ChannelChoice behind "
        "normalisations, and behind activations such as Sigmoid or Softplus. Instead of marking layers, "
        "cggd_nas.prunable makes a supernet from a plain network"
    )


def _listed(names: Iterable[Hashable]) -> str:
    return ", ".join(map(repr, names))
