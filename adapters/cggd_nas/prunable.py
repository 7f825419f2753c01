"""`prunable`: a trained network as a supernet of its narrower and shallower versions."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cggd.checks import whole
from cggd_nas.agreement import ROUNDING, apart, check_agreement, moved_weights, outputs_of
from cggd_nas.choices import Choice
from cggd_nas.coupling import coupling
from cggd_nas.cut import Axis, Cut, Sizes, Width, cut, placed, sizes_of
from cggd_nas.failures import check_network
from cggd_nas.heads import with_heads
from cggd_nas.importance import sort_units
from cggd_nas.links import Coupling
from cggd_nas.plain import stripped
from cggd_nas.relaxations import Mixing
from cggd_nas.supernet import Supernet, collect
from cggd_nas.trace import Example, tensors_of
from cggd_nas.units import Group, Products, groups_of

# Combinations of attributes that are tried if several could be the number of a layer's heads.
TRIED = 24


@dataclass(frozen=True)
class Report:
    """What `prunable` found.

    Attributes
    ----------
    widths : mapping of str to str
        For each decision on a width, its channels and the layers that share them.
    depths : tuple of str
        Blocks that can be left out.
    unpruned : mapping of str to str
        Layers whose number of outputs is fixed, and why.
    """

    widths: Mapping[str, str]
    depths: tuple[str, ...]
    unpruned: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"{len(self.widths)} widths"] + [f"  {name}: {what}" for name, what in self.widths.items()]
        lines += [f"{len(self.depths)} blocks that can be left out"] + [f"  {path}" for path in self.depths]
        lines += [f"{len(self.unpruned)} layers keep their outputs"]
        return "\n".join(lines + [f"  {path or 'the network'}: {reason}" for path, reason in self.unpruned.items()])


def prunable(
    model: nn.Module,
    example: Example,
    ratios: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    round_to: int = 8,
    *,
    depth: bool = True,
    alike: bool = False,
    importance: str = "norm",
    batches: Any = (),
    loss: Callable[[Any, Any], Tensor] = nn.functional.cross_entropy,
) -> Supernet:
    """Turn a trained network into a supernet whose channels, heads, features and blocks can be removed.

    Nothing has to be marked. Channels that must be removed together are found from the operations that the network
    executes: residual sums, concatenations, grouped convolutions, norms, recurrent layers, attention and reshapes. Each
    group of coupled channels becomes a decision on its width, and each residual block a decision on its presence. The
    groups are then tested by running cut networks. A group that fails keeps its size and is named in the report.

    Parameters
    ----------
    model : nn.Module
        Not changed; the supernet has a copy.
    example : Tensor or sequence of Tensor
        Arguments of its forward.
    ratios : sequence of float
        Shares of the channels that can be kept.
    round_to : int
        Numbers of channels are multiples of it, except the full number. Groups with too few channels keep their size.
    depth : bool
        Whether blocks can be left out.
    alike : bool
        Whether groups whose names differ only in numbers, such as those of all layers of a transformer, share one
        decision. `configured` needs this, since most configurations have one width for all layers.
    importance : {"norm", "taylor", "activation"}
        The order of the channels; the least important are removed first. "norm": the norms of their weights, relative
        to the mean norm in each weight (Li et al., ICLR 2017). "taylor": a first-order estimate of the change of the
        loss (Molchanov et al., CVPR 2019). "activation": norms of weights times norms of their inputs.
    batches : iterable of batches
        For "taylor" and "activation", as for `search`. A few are enough.
    loss : callable
        For "taylor".

    Returns
    -------
    Supernet
        With all weights of the model. Its attribute `report` lists what can be removed. With all widths at their
        maximum and all blocks it computes the same as the model. Use it with `Costs`, `search`, `extract`, `finetune`.

    Raises
    ------
    ValueError
        If nothing can be removed. The message gives the reasons.

    Examples
    --------
    >>> from cggd_nas import extract
    >>> model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 4, 1))
    >>> supernet = prunable(model, torch.zeros(1, 3, 8, 8))
    >>> print(supernet.report)
    1 widths
      0: 16 channels, of 0, 1, 3
    0 blocks that can be left out
    1 layers keep their outputs
      3: an output of the network
    >>> extract(supernet, {"0": "8"})[1]
    BatchNorm2d(8, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
    """
    check_network(model, "model", plain=True)
    shares = [float(ratio) for ratio in ratios]
    if not shares or not all(0 < ratio <= 1 for ratio in shares):
        raise ValueError(f"ratios must be shares of the channels above 0 and at most 1, got {ratios!r}")
    round_to = whole(round_to, "round_to", least=1)
    inputs = tensors_of(example)
    model = with_heads(copy.deepcopy(model, stripped(model)), inputs)
    found = coupling(model, inputs)
    groups, reasons = groups_of(found)
    for group in groups:
        group.offer(shares, round_to)
    few = [group for group in groups if set(group.options.values()) == {group.n}]
    reasons |= {g.decision: f"{g.n * g.channels} channels are too few for round_to={round_to}" for g in few}
    groups = [group for group in groups if group not in few]
    plan = _Plan(model, inputs, found, groups)
    reasons |= plan.tested()
    sort_units(model, found, plan.groups, importance, batches, loss)
    if alike:
        _share(plan)
    blocks = plan.blocks() if depth else []
    if not plan.groups and not blocks:
        why = "; ".join(f"{path or 'the network'}: {reason}" for path, reason in reasons.items())
        raise ValueError(f"no channel and no block of {type(model).__name__} can be removed: {why}")
    return _supernet(plan, blocks, reasons)


def _supernet(plan: _Plan, blocks: Sequence[str], reasons: Mapping[str, str]) -> Supernet:
    network = plan.network(copy.deepcopy(plan.model))
    depths: dict[str, tuple[str, Any]] = {}
    for path in blocks:
        parent, _, name = path.rpartition(".")
        decision = f"{path}.depth"
        layer = network.get_submodule(path)
        choice = Choice({"skip": nn.Identity(), "keep": layer}, decision=decision)
        choice.training = layer.training
        network.get_submodule(parent)._modules[name] = choice
        depths[path] = decision, np.array([0.0, 1.0])
    supernet = collect(network)
    supernet.example = plan.inputs
    check_agreement(supernet, example=plan.inputs)
    supernet.products = Products(plan.found, plan.groups, depths, plan.model)
    members: dict[str, dict[str, None]] = {}
    for group in plan.groups:
        members.setdefault(group.decision, {}).update(dict.fromkeys(o.path or o.name for o, _ in group.members))
    widths = {g.decision: f"{_described(g)}, of {', '.join(members[g.decision])}" for g in plan.groups}
    supernet.report = Report(widths, tuple(blocks), dict(reasons))
    return supernet


def _share(plan: _Plan) -> None:
    """Let groups of the same kind in all layers share one decision."""
    names: dict[Any, str] = {}
    attributes: dict[str, list[tuple[str, list[Sizes]]]] = {}
    for group in plan.groups:
        places = [(re.sub(r"\d+", "#", owner.path), owner.name, owner.dim, at.shape) for owner, at in group.members]
        old = group.decision
        new = group.decision = names.setdefault((re.sub(r"\d+", "#", old), tuple(places)), old)
        attributes.setdefault(new, []).extend(
            (path, [replace(one, each={new: one.each[old]}) for one in sizes])
            for path, sizes in plan.attributes.get(old, [])
        )
    plan.attributes = attributes


def _described(group: Group) -> str:
    if group.channels == 1:
        return f"{group.n} channels"
    return f"{group.n} units of {group.channels} channels"


@dataclass(eq=False)
class _Plan:
    """Groups of a model, and the attributes of its modules that hold their sizes."""

    model: nn.Module
    inputs: tuple[Tensor, ...]
    found: Coupling
    groups: list[Group]
    attributes: dict[str, list[tuple[str, list[Sizes]]]] = field(default_factory=dict)

    # -- building -----------------------------------------------------------------------------------------------------

    def network(self, model: nn.Module, only: Sequence[Group] | None = None) -> nn.Module:
        """A model whose modules follow the groups, in place."""
        groups = self.groups if only is None else only
        widths = {group.decision: Width(group.decision, group.options or {"1": 1}) for group in groups}
        cuts: dict[str, Cut] = {}
        for group in groups:
            for owner, at in group.members:
                how = cuts.setdefault(owner.path, Cut({}))
                how.widths[group.decision] = widths[group.decision]
                axis = how.axes.setdefault(owner.name, {}).setdefault(owner.dim, Axis(owner.size))
                axis.parts.append((group.decision, at))
                axis.contracted |= self.found.position(owner) in self.found.contracted
            for path, sizes in self.attributes.get(group.decision, []):
                how = cuts.setdefault(path, Cut({}))
                how.widths[group.decision] = widths[group.decision]
                how.sizes += [one for one in sizes if one.each.keys() <= {g.decision for g in groups}]
        for path, how in cuts.items():
            module = model.get_submodule(path)
            how.sizes = _once([*_standard(module, how, {g.decision: g.n for g in groups}), *how.sizes])
            for s in how.sizes:
                how.widths |= {d: widths[d] for d in s.each}
            cut(module, how)
        for decision, group in {group.decision: group for group in reversed(groups)}.items():
            placed(model.get_submodule(group.members[0][0].path), widths[decision])
        return model

    # -- testing ------------------------------------------------------------------------------------------------------

    def tested(self) -> dict[str, str]:
        """Remove the groups whose cut network computes something else; returns the reasons."""
        possible = {group.decision: list(itertools.islice(self._attributes(group), TRIED)) for group in self.groups}
        self.attributes = {decision: choices[0] for decision, choices in possible.items() if choices}
        if all(self._wrong(some) is None for some in _mixed(self.groups)):
            return {}
        reasons, kept = dict[str, str](), list[Group]()
        for group in self.groups:
            wrong = None
            for choice in possible[group.decision] or [[]]:
                self.attributes[group.decision] = choice
                if (wrong := self._wrong([group])) is None:
                    kept.append(group)
                    break
            if wrong is not None:
                reasons[group.decision] = wrong
        if any(self._wrong(some) is not None for some in _mixed(kept)):
            several, kept = kept, []
            for group in several:
                wrongs = map(self._wrong, _mixed([*kept, group]))
                if (wrong := next((w for w in wrongs if w is not None), None)) is None:
                    kept.append(group)
                else:
                    reasons[group.decision] = f"beside {len(kept)} others, {wrong}"
        self.groups = kept
        return reasons

    def _wrong(self, groups: Sequence[Group]) -> str | None:
        """What is wrong with a network without half of these units; None if nothing is.

        It is compared with two whole networks in which these units are hidden. In one they are copies of other units
        without effect on later layers, which does not change means and norms over channels. In the other they are 0,
        which is right for networks without such means.
        """
        base = moved_weights(copy.deepcopy(self.model).cpu().eval().double())
        inputs = [_filled(x) for x in self.inputs]
        try:
            reduced = self.network(copy.deepcopy(base), groups)
            for module in reduced.modules():
                if isinstance(module, Width):
                    n = next(group.n for group in groups if group.decision == module.decision)
                    module.kept, module.labels, module.mixing = (n - n // 2,), ("half",), Mixing((0,))
            outputs = outputs_of(reduced, inputs)
        except Exception as error:
            return f"it cannot be run when it is cut: {type(error).__name__}: {str(error)[:200]}"
        far = min(
            apart(outputs_of(self._hidden(copy.deepcopy(base), groups, copies), inputs), outputs)
            for copies in (True, False)
        )
        if far > ROUNDING:
            return f"it computes something else when it is cut: outputs differ by {far:.2g} of the largest one"
        return None

    def _hidden(self, model: nn.Module, groups: Sequence[Group], copies: bool) -> nn.Module:
        """The whole network with half of the units hidden: 0, or copies of the others without effect."""
        for group in groups:
            half = group.n - group.n // 2
            for owner, at in group.members:
                x = getattr(model.get_submodule(owner.path), owner.name)
                gone, stays = at[half:].ravel(), at[: group.n // 2].ravel()
                with torch.no_grad():
                    moved = x.movedim(owner.dim, 0)
                    if copies and self.found.position(owner) not in self.found.contracted:
                        moved[gone] = moved[stays].clone()
                    elif x.is_floating_point() and owner.name != "running_var":
                        moved[gone] = 0.0
        return model

    def _attributes(self, group: Group) -> Any:
        """Possible choices of the attributes that hold the sizes of the group, for each size in the code."""
        sizes = Products(self.found, [group], {}, self.model)
        places: dict[str, dict[int, int]] = {}
        for sized in self.found.sizes:
            size = sizes.size(sized.atoms)
            if size is not None and size.get(0):
                places.setdefault(sized.path, {})[len(sized.atoms)] = size[0]
        slots: list[list[list[tuple[str, Sizes]]]] = []
        for path, known in places.items():
            module = self.model.get_submodule(path)
            if any(getattr(module, weight, None) is not None for _, weight, _, _ in sizes_of(module)):
                continue
            for size, each in known.items():
                names = _named(module, size, heads=size != group.n * group.channels)
                made = [(path, Sizes(name, size, {group.decision: (group.n, each)}, place)) for name, place in names]
                if made:  # one of them holds the size, or all do, such as equal numbers of key and query heads
                    slots.append([*([one] for one in made), *([made] if len(made) > 1 else [])])
        if not slots:
            yield []
            return
        for chosen in itertools.product(*([*slot, []] for slot in slots)):
            yield [(path, [sizes]) for some in chosen for path, sizes in some]

    # -- depth --------------------------------------------------------------------------------------------------------

    def blocks(self) -> list[str]:
        """The innermost residual modules, without those that cannot be left out."""
        paths = dict.fromkeys(self.found.residual)
        inner = [p for p in paths if not any(other.startswith(f"{p}.") for other in paths)]
        kept = []
        base = moved_weights(copy.deepcopy(self.model).cpu().eval())
        inputs = [_filled(x, double=False) for x in self.inputs]
        for path in inner:
            network = copy.deepcopy(base)
            parent, _, name = path.rpartition(".")
            layer = network.get_submodule(path)
            choice = Choice({"skip": nn.Identity(), "keep": layer}, decision="depth")
            choice.mixing = Mixing((0,))
            network.get_submodule(parent)._modules[name] = choice
            try:
                outputs_of(network, inputs)
            except Exception:
                continue
            kept.append(path)
        return kept


def _mixed(groups: Sequence[Group]) -> Iterator[Sequence[Group]]:
    """Sets of groups: all groups, and sets such that each of any two groups is in one set without the other."""
    if groups:
        yield groups
    for bit in range((len(groups) - 1).bit_length()):
        for side in (0, 1):
            yield [group for number, group in enumerate(groups) if number >> bit & 1 == side]


def _once(sizes: Sequence[Sizes]) -> list[Sizes]:
    """One entry for each attribute and place, with all decisions that it depends on."""
    made: dict[tuple[str, int | None], Sizes] = {}
    for one in sizes:
        key = one.attribute, one.place
        made[key] = (
            one if key not in made else Sizes(one.attribute, one.size, {**one.each, **made[key].each}, one.place)
        )
    return list(made.values())


def _standard(module: nn.Module, how: Cut, n: Mapping[str, int]) -> list[Sizes]:
    """The attributes of PyTorch's layers that hold sizes of their weights."""
    made = []
    groups: Any = getattr(module, "groups", 1) if isinstance(module, nn.modules.conv._ConvNd) else 1
    for attribute, weight, dim, place in sizes_of(module):
        times, by = 1, 1
        if attribute == "in_channels" and groups > 1:
            if module.in_channels == groups:
                dim, by = 0, module.out_channels // groups  # pyright: ignore
            else:
                times = groups
        axis = how.axes.get(weight, {}).get(dim)
        if axis is None:
            continue
        each: dict[str, tuple[int, int]] = {}
        for d, units in axis.parts:
            each[d] = n[d], units.shape[1] * times // by + each.get(d, (0, 0))[1]
        value = getattr(module, attribute)
        made.append(Sizes(attribute, value[place] if place is not None else value, each, place))
        if attribute == "in_channels" and groups == value and groups > 1:
            made.append(Sizes("groups", groups, each))
            if isinstance(module, nn.modules.conv._ConvTransposeNd):
                made.append(Sizes("out_channels", groups, each))
        if attribute == "num_channels" and module.num_groups == value:
            made.append(Sizes("num_groups", value, each))
    return made


def _named(module: nn.Module, size: int, *, heads: bool) -> list[tuple[str, int | None]]:
    """Attributes with this value. If `heads`, names that suggest numbers of heads come first, otherwise last."""
    found: list[tuple[str, int | None]] = []
    for name, value in vars(module).items():
        if isinstance(value, int) and not isinstance(value, bool) and value == size:
            found.append((name, None))
        elif isinstance(value, tuple | list) and value and all(isinstance(v, int) for v in value):
            found += [(name, i) for i, v in enumerate(value) if v == size]

    def late(one: tuple[str, int | None]) -> bool:
        counts = re.search(r"(^n_|num|^heads?$|_heads$|^h$|groups)", one[0]) is not None
        return heads != counts

    return sorted(found, key=late)


def _filled(x: Tensor, *, double: bool = True) -> Tensor:
    if not x.is_floating_point():
        return x.detach().cpu()
    x = x.detach().cpu()
    if bool((x == x.flatten()[:1]).all()):
        x = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    return x.double() if double else x.float()
