"""The plain network of one selection, made from the parts of a supernet."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any

from torch import Tensor, fx, nn

from cggd_nas.choices import changes
from cggd_nas.relaxations import Mixing
from cggd_nas.supernet import Supernet, collect

# Packages whose classes must not be in a deployed network.
OURS = ("cggd", "cggd_nas")


def plain_network(supernet: Supernet, labels: Mapping[Hashable, Hashable]) -> nn.Module:
    """The network of a selection with copied weights, as from `cggd_nas.extract` but without comparisons."""
    memo = stripped(supernet.model)
    # Only the remaining weights are copied, at the end.
    memo |= {id(tensor): tensor for tensor in (*supernet.model.parameters(), *supernet.model.buffers())}
    made = copy.deepcopy(_torch_only(_plain(copy.deepcopy(supernet.model, memo), labels, {}), {}))
    made.zero_grad(set_to_none=True)
    return made


def as_supernet(model: nn.Module | Supernet) -> Supernet:
    """A model as a supernet."""
    return model if isinstance(model, Supernet) else collect(model)


def stripped(model: nn.Module) -> dict[int, Any]:
    """A memo for ``deepcopy`` that omits the mixings of a supernet's choices and the hook that draws them.

    Weights that hooks compute before each call, such as those of ``torch.nn.utils.weight_norm``, are copied without
    their graph, which PyTorch cannot copy.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        hooks = module._forward_pre_hooks
        others = {key: hook for key, hook in hooks.items() if not isinstance(getattr(hook, "__self__", None), Supernet)}
        if len(others) < len(hooks):
            memo[id(hooks)] = OrderedDict(others)
        if isinstance(drawn := vars(module).get("mixing"), Mixing):  # users' modules may have such an attribute
            memo[id(drawn)] = None
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return memo


def _plain(module: nn.Module, labels: Mapping, done: dict[int, tuple[nn.Module, nn.Module]]) -> nn.Module:
    if id(module) in done:
        return done[id(module)][1]
    made: Any = module
    while changes(made):
        made = made.plain(labels)
        made.training = module.training  # for new modules
    done[id(module)] = module, made  # stored, so that no other module gets the same id
    for name, child in made._modules.items():
        if child is not None:
            made._modules[name] = _plain(child, labels, done)
    return made


def _torch_only(module: nn.Module, done: dict[int, nn.Module]) -> nn.Module:
    if id(module) in done:
        return done[id(module)]
    for name, child in module._modules.items():
        if child is not None:
            module._modules[name] = _torch_only(child, done)
    made = _as_graph(module) if is_ours(module) else module
    restored = getattr(module, "restored", None) if made is not module else None
    done[id(module)] = made if restored is None else restored(made)
    return done[id(module)]


def is_ours(module: nn.Module) -> bool:
    """Whether a module's class belongs to cggd."""
    return type(module).__module__.partition(".")[0] in OURS


def _as_graph(module: nn.Module) -> fx.GraphModule:
    class Tracer(fx.Tracer):  # local, so that it is not pickled: networks are loaded without this package
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return True

    graph = Tracer().trace(module)
    for node in graph.nodes:
        node.type = None  # annotations that are strings cannot be pickled
    made = fx.GraphModule(module, graph, class_name=type(module).__name__)
    for path, part in made.named_modules():  # containers are new modules
        part.training = module.get_submodule(path).training
    return made
