"""Extraction: the plain network of one selection, and its specification as JSON."""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from numpy.typing import ArrayLike
from torch import fx, nn

from cggd_nas.supernet import Supernet, collect

# Packages whose classes must not stay in a network that is deployed.
OURS = ("cggd", "cggd_nas")

FORMAT = "cggd architecture 1"


def extract(model: nn.Module | Supernet, selection: Mapping[Hashable, Hashable] | ArrayLike) -> nn.Module:
    """The network of one selection as a plain module: PyTorch's modules and the user's own, and nothing of cggd.

    Every module with a method ``plain(selection)`` is replaced by what that returns, weights copied; parts written in
    cggd's own classes, such as the cells of `cggd_nas.spaces`, become `torch.fx` graph modules of the same layers.

    Parameters
    ----------
    model : nn.Module or Supernet
        Stays as it is.
    selection : mapping of decision to option, or array-like of int, shape (n_decisions,)

    Returns
    -------
    nn.Module
        On the same device and in the same mode. In evaluation mode it returns what the network returns under
        ``supernet.selected(selection)``.

    Raises
    ------
    ValueError
        If the selection is not one of the supernet's space.

    Examples
    --------
    >>> from cggd_nas import Choice
    >>> model = nn.Sequential(Choice({"wide": nn.Linear(2, 4), "narrow": nn.Linear(2, 4, bias=False)}), nn.ReLU())
    >>> extract(model, {"0": "narrow"})
    Sequential(
      (0): Linear(in_features=2, out_features=4, bias=False)
      (1): ReLU()
    )
    """
    supernet = as_supernet(model)
    labels = supernet.space.labels(supernet.space.indices(selection))
    memo = stripped(supernet.model)
    # Only the weights that stay are copied, at the end.
    memo |= {id(tensor): tensor for tensor in (*supernet.model.parameters(), *supernet.model.buffers())}
    made = copy.deepcopy(_torch_only(_plain(copy.deepcopy(supernet.model, memo), labels, {}), {}))
    made.zero_grad(set_to_none=True)
    return made


def as_supernet(model: nn.Module | Supernet) -> Supernet:
    """The supernet that a model stands for."""
    return model if isinstance(model, Supernet) else collect(model)


def stripped(model: nn.Module) -> dict[int, Any]:
    """A memo with which a deep copy of a supernet leaves out what its choices drew, and the hook that draws."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        hooks = module._forward_pre_hooks
        others = {key: hook for key, hook in hooks.items() if not isinstance(getattr(hook, "__self__", None), Supernet)}
        if len(others) < len(hooks):
            memo[id(hooks)] = OrderedDict(others)
        if (drawn := getattr(module, "mixing", None)) is not None:
            memo[id(drawn)] = None
    return memo


def changes(module: nn.Module) -> bool:
    """Whether a module depends on the selection by itself."""
    return callable(getattr(module, "plain", None))


def _plain(module: nn.Module, labels: Mapping, done: dict[int, tuple[nn.Module, nn.Module]]) -> nn.Module:
    if id(module) in done:
        return done[id(module)][1]
    made: Any = module
    while changes(made):
        made = made.plain(labels)
        made.training = module.training  # where it was made anew
    done[id(module)] = module, made  # kept, so that no other module gets the same id
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
    done[id(module)] = _as_graph(module) if is_ours(module) else module
    return done[id(module)]


def is_ours(module: nn.Module) -> bool:
    """Whether a module's class belongs to cggd."""
    return type(module).__module__.partition(".")[0] in OURS


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _as_graph(module: nn.Module) -> fx.GraphModule:
    graph = _Tracer().trace(module)
    for node in graph.nodes:
        node.type = None  # annotations that are strings cannot be pickled
    made = fx.GraphModule(module, graph, class_name=type(module).__name__)
    for path, part in made.named_modules():  # containers are made anew
        part.training = module.get_submodule(path).training
    return made


@dataclass(frozen=True)
class Architecture:
    """What it takes to build an extracted network anew: the selection, and how its supernet was made.

    Parameters
    ----------
    selection : dict of str to str
    builder : str
        The function that makes the supernet, for people to find it.
    arguments : dict
        Its keyword arguments, of types that JSON knows.

    Examples
    --------
    >>> from cggd_nas import Choice
    >>> def factory(width):
    ...     return nn.Sequential(Choice({"linear": nn.Linear(width, 2), "none": nn.Identity()}, decision="first"))
    >>> spec = Architecture({"first": "linear"}, builder="my_nets.factory", arguments={"width": 3})
    >>> Architecture.from_json(spec.to_json()).build(factory)
    Sequential(
      (0): Linear(in_features=3, out_features=2, bias=True)
    )
    """

    selection: Mapping[Any, Any]
    builder: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The specification as JSON text."""
        written = json.dumps({"format": FORMAT, **asdict(self)}, indent=2)
        if Architecture.from_json(written) != self:
            raise TypeError(f"selection and arguments must be of types that JSON keeps, such as strings, got {self}")
        return written

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Read what `to_json` wrote."""
        try:
            read = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"text must be JSON of an architecture: {error}") from None
        if not isinstance(read, dict) or read.pop("format", None) != FORMAT or set(read) != _FIELDS:
            raise ValueError(f"text must be a JSON object of format {FORMAT!r} with {', '.join(sorted(_FIELDS))}")
        return cls(**read)

    def build(self, factory: Callable[..., nn.Module]) -> nn.Module:
        """The plain network with new weights, to be loaded with ``load_state_dict`` or trained.

        Parameters
        ----------
        factory : callable
            Makes the supernet from `arguments`.
        """
        return extract(factory(**self.arguments), self.selection)


_FIELDS = {"selection", "builder", "arguments"}
