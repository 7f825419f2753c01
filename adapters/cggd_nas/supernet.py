"""The supernet: a network with choices, seen as a choice space."""

from __future__ import annotations

import inspect
import itertools
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import networkx as nx
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cggd import Constraint
from cggd.metrics import Embedded
from cggd.space import ChoiceSpace
from cggd_nas.choices import ChoiceModule, is_choice
from cggd_nas.relaxations import GumbelSoftmax, Mixing, Relaxation


class Supernet:
    """A network with choices, seen as a choice space; made by `collect`.

    Attributes
    ----------
    model : nn.Module
        The network itself. Each forward pass first draws how its choices mix (a forward pre-hook).
    space : ChoiceSpace
        Decisions in the order in which the network holds them; options by their labels.
    choices : mapping of str to (mapping of str to nn.Module)
        For each decision the modules that share it, by their paths in the network.
    parameters : list of nn.Parameter
        The logits, one per decision, in the order of ``space.decisions``.
    example : tuple of Tensor, or None
        Arguments of a forward pass, by which `cggd_nas.extract` compares; only shapes of floating-point tensors.
    agreed : set of tuple of int
        Selections for which supernet and extracted network compute the same.
    inside : bool
        Whether it is a part of a network that was also collected. A call of that network draws for its parts. Before a
        call of the part alone, use `select` or `draw`.
    report : cggd_nas.Report, or None
        What `cggd_nas.prunable` found, if it made the supernet.

    Examples
    --------
    >>> from cggd_nas import Choice
    >>> model = nn.Sequential(
    ...     Choice({"wide": nn.Linear(2, 2), "skip": nn.Identity()}, decision="a"),
    ...     Choice({"wide": nn.Linear(2, 2), "skip": nn.Identity()}, decision="a"),
    ... )
    >>> supernet = collect(model)
    >>> supernet.space, list(supernet.choices["a"])
    (ChoiceSpace(1 decisions, 2 options each), ['0', '1'])
    >>> supernet.set_logits([0.0, 1.0])
    >>> supernet.selection()
    {'a': 'skip'}
    """

    def __init__(self, model: nn.Module, space: ChoiceSpace, choices: Mapping[str, Mapping[str, ChoiceModule]]) -> None:
        self.model, self.space, self.choices = model, space, choices
        self._how: Relaxation | tuple[int, ...] = GumbelSoftmax()
        self._generator: torch.Generator | None = None
        # For comparisons with extracted networks, see cggd_nas.agreement.
        self.example: tuple[Tensor, ...] | None = None
        self.agreed: set[tuple[int, ...]] = set()
        self.inside = False
        # What `cggd_nas.prunable` found.
        self.report: Any = None
        self.products: Any = None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The logits, one parameter per decision."""
        return [next(iter(shared.values())).logits for shared in self.choices.values()]

    def architecture(self) -> Iterator[nn.Parameter]:
        """The logits, for their optimizer."""
        return iter(self.parameters)

    def weights(self) -> Iterator[nn.Parameter]:
        """All other parameters of the network."""
        logits = {id(parameter) for parameter in self.parameters}
        return (parameter for parameter in self.model.parameters() if id(parameter) not in logits)

    # -- logits -------------------------------------------------------------------------------------------------------

    def logits(self) -> NDArray[np.float64]:
        """All logits on the CPU in double precision, shape (n_options,)."""
        return gathered(self.parameters)

    def set_logits(self, logits: ArrayLike) -> None:
        """Set all logits, shape (n_options,). With ``-inf``, relaxations never draw the option."""
        flat = np.asarray(logits, dtype=float)
        if flat.shape != (self.space.n_options,):
            raise ValueError(f"logits must have shape ({self.space.n_options},), got {flat.shape}")
        if len(wrong := np.flatnonzero(np.isnan(flat) | np.isposinf(flat))):
            raise ValueError(
                f"logits must be finite or -inf, got {flat[wrong[0]]} for {self.space.name_option(int(wrong[0]))}"
            )
        with torch.no_grad():
            parts = torch.from_numpy(flat.copy()).split(self.space.sizes.tolist())
            for parameter, part in zip(self.parameters, parts, strict=True):
                parameter.copy_(part)

    def cut(self, flat: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """A flat array, shape (n_options,), as one array per decision."""
        return np.split(flat, self.space.offsets[1:-1])

    def selection(self) -> dict[Hashable, Hashable]:
        """The option of each decision with the largest logit."""
        return self.space.labels(self.indices())

    def indices(self) -> NDArray[np.int64]:
        """`selection` as indices, shape (n_decisions,)."""
        return self.space.layout.argmax(self.logits())

    # -- how choices mix ----------------------------------------------------------------------------------------------

    def relax(self, relaxation: Relaxation, *, generator: torch.Generator | None = None) -> None:
        """Set how choices mix from the next forward pass on.

        Parameters
        ----------
        relaxation : Relaxation
            `GumbelSoftmax`, `Darts`, `ProxylessTwoPath`, `UniformPath`, or any object with a method ``draw``.
        generator : torch.Generator, optional
            On the CPU. By default PyTorch's global generator.
        """
        if isinstance(relaxation, type) or not hasattr(relaxation, "draw"):
            raise TypeError(f"relaxation must be a Relaxation such as GumbelSoftmax(), got {relaxation!r}")
        if generator is not None and not isinstance(generator, torch.Generator):
            raise TypeError(f"generator must be a torch.Generator or None, got {generator!r}")
        self._how, self._generator = relaxation, generator

    def select(self, selection: Mapping[Hashable, Hashable] | ArrayLike) -> None:
        """Run only one selection, given as labels or as indices, until `relax` is called."""
        self._how = tuple(self.space.indices(selection).tolist())
        self.draw()

    @contextmanager
    def selected(self, selection: Mapping[Hashable, Hashable] | ArrayLike) -> Iterator[nn.Module]:
        """Run one selection inside a ``with`` block, which gets the network. The former state is restored after it."""
        with self.kept():
            self.select(selection)
            yield self.model

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Restore the former state after a ``with`` block that draws, relaxes or selects."""
        former, mixings = (self._how, self._generator), [choice.mixing for choice in self._modules()]
        try:
            yield
        finally:
            self._how, self._generator = former
            for choice, mixing in zip(self._modules(), mixings, strict=True):
                choice.mixing = mixing

    def draw(self) -> None:
        """Draw how choices mix in the next forward pass. A call of the whole network does so automatically."""
        _draw_outside_graphs(self)

    def _modules(self) -> Iterator[ChoiceModule]:
        return itertools.chain.from_iterable(shared.values() for shared in self.choices.values())

    def _before_forward(self, model: nn.Module, args: tuple, named: dict[str, Any]) -> None:
        if not self.inside:
            _draw_outside_graphs(self, args, named)

    def __repr__(self) -> str:
        return f"Supernet({type(self.model).__name__}, {self.space})"


def _draw(supernet: Supernet, args: tuple = (), named: Mapping[str, Any] | None = None) -> None:
    if supernet.example is None and (args or named):
        given = _by_position(supernet.model, args, named or {})
        if given and all(isinstance(x, Tensor) for x in given):
            supernet.example = _example(given)
    how = supernet._how
    for d, (logits, shared) in enumerate(zip(supernet.parameters, supernet.choices.values(), strict=True)):
        mixing = Mixing((how[d],)) if isinstance(how, tuple) else how.draw(logits, supernet._generator)
        for choice in shared.values():
            choice.mixing = mixing


def _by_position(model: nn.Module, args: tuple, named: Mapping[str, Any]) -> tuple:
    """Arguments of a forward by position; empty if some can only be given by name."""
    try:
        bound = inspect.signature(model.forward).bind(*args, **named)
    except TypeError:  # the call itself says what is wrong
        return ()
    return () if bound.kwargs else bound.args


def _example(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Arguments of two samples: values of indices and masks, only shapes of floating-point tensors."""
    lengths = {len(x) if x.ndim else -1 for x in tensors}
    few = [x[:2] for x in tensors] if len(lengths) == 1 and lengths != {-1} else tensors
    return tuple(torch.empty_like(x, device="meta") if x.is_floating_point() else x.detach().clone() for x in few)


# Drawing depends on random numbers and on values of tensors, which must not be part of a compiled graph.
_draw_outside_graphs: Callable[..., None] = cast(Any, torch.compiler.disable(_draw))


def collect(model: nn.Module, graph: nx.Graph | None = None) -> Supernet:
    """Find the choices of a network. Later calls with the same network return the same supernet.

    Choices with the same `decision` then share one parameter of logits. Call it before optimizers are made and before
    the network is wrapped or compiled. A choice without a decision is named by its path in the network.

    Parameters
    ----------
    model : nn.Module
        If it is in ``DistributedDataParallel`` or compiled, the network inside is used.
    graph : networkx graph, optional
        A graph whose nodes or edges are the decisions; the space keeps it for drawing and for path metrics. Nodes or
        edges may have the name of their decision as attribute ``decision``, which must be a decision of the network.

    Returns
    -------
    Supernet
        Its choices mix by hard `GumbelSoftmax` at temperature 1 until `Supernet.relax` is called.

    Raises
    ------
    ValueError
        If there is no choice; if choices of one decision have different options; if a choice is inside an option of
        its own decision; if a layer in `Sliced` follows a decision that does not exist; if the model is in
        ``DataParallel`` over several devices.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {model!r}")
    model = unwrapped(model)
    found = _found(model)
    if (known := _collected(model)) is not None:
        modules = [choice for shared in found.values() for choice in shared.values()]
        if graph is None and {id(c) for c in known._modules()} == {id(c) for c in modules}:
            return known
        raise ValueError("choices or graph of the model changed since it was collected; make the model anew")
    options: dict[Hashable, tuple[str, ...]] = {}
    for decision, shared in found.items():
        (path, first), *others = shared.items()
        options[decision] = first.labels
        for other, choice in others:
            if choice.labels != first.labels:
                raise ValueError(
                    f"choices of decision {decision!r} must have the same options in the same order, got "
                    f"{first.labels} at {path!r} and {choice.labels} at {other!r}"
                )
    for path, module in model.named_modules():
        for decision in getattr(module, "follows", ()):
            if decision not in options:
                raise ValueError(
                    f"the channels of the layer at {path!r} follow decision {decision!r}, which the model lacks; it "
                    f"has {', '.join(map(repr, options))}"
                )
    space = ChoiceSpace(options, _checked(graph, found))
    for decision, shared in found.items():
        first = next(iter(shared.values()))
        for choice in shared.values():
            choice.decision, choice.logits = decision, first.logits
    supernet = Supernet(model, space, found)
    model.register_forward_pre_hook(supernet._before_forward, with_kwargs=True)
    supernet.inside = _lies_in_another(model, next(supernet._modules()))
    for part in _parts(model):
        part.inside = True
    for choice in supernet._modules():
        _owners.setdefault(cast(nn.Module, choice), []).append(weakref.ref(supernet))
    return supernet


# The supernets of each choice; copies of a choice have none.
_owners: weakref.WeakKeyDictionary[nn.Module, list[weakref.ref[Supernet]]] = weakref.WeakKeyDictionary()


def _lies_in_another(model: nn.Module, choice: ChoiceModule) -> bool:
    """Whether a model with this choice is a part of a network that was collected."""
    owners = (reference() for reference in _owners.get(cast(nn.Module, choice), []))
    return any(model in set(owner.model.modules()) for owner in owners if owner is not None)


def _parts(model: nn.Module) -> Iterator[Supernet]:
    """Supernets of parts of a network."""
    found = (_collected(module) for module in model.modules() if module is not model)
    return (part for part in found if part is not None)


def lifted(constraints: Any, supernet: Supernet) -> Any:
    """Constraints in which metrics of a part of the network became metrics of the whole network.

    Examples
    --------
    >>> from cggd_nas import Choice, Costs
    >>> net = nn.Sequential(*[nn.Sequential(Choice({"a": nn.Linear(1, 1), "b": nn.Identity()})) for _ in range(2)])
    >>> supernet = collect(net)
    >>> (bound,) = lifted([Costs(net[0], torch.zeros(1, 1)).parameters() <= 1], supernet)
    >>> bound.metric([0, 1]), bound.metric([1, 0])
    (2.0, 0.0)
    """
    spaces = [part.space for part in _parts(supernet.model)]

    def placed(constraint: Any) -> Any:
        space = getattr(getattr(constraint, "metric", None), "space", supernet.space)
        if space is supernet.space or not any(space is one for one in spaces):
            return constraint
        return replace(constraint, metric=Embedded(supernet.space, constraint.metric))

    if isinstance(constraints, Constraint | str) or not isinstance(constraints, Iterable):
        return placed(constraints)
    return [placed(constraint) for constraint in constraints]


def gathered(tensors: Sequence[Tensor]) -> NDArray[np.float64]:
    """Tensors of shape (n,) on any devices, concatenated on the CPU in double precision."""
    # One transfer for all if they share a device.
    device = tensors[0].device
    with torch.no_grad():
        together = torch.cat([x if x.device == device else x.to(device) for x in tensors])
    return together.cpu().double().numpy()


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside of ``DistributedDataParallel`` or of a compiled module."""
    while True:
        if isinstance(model, DistributedDataParallel | nn.DataParallel):
            if isinstance(model, nn.DataParallel) and len(model.device_ids) > 1:
                raise ValueError(
                    f"model is DataParallel over {len(model.device_ids)} devices, whose copies do not see what paths "
                    "are drawn; use DistributedDataParallel, with one process for each"
                )
            model = model.module
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod  # pyright: ignore[reportAssignmentType] - of torch.compile
        else:
            return model


def _collected(model: nn.Module) -> Supernet | None:
    hooks = (getattr(hook, "__self__", None) for hook in model._forward_pre_hooks.values())
    return next((owner for owner in hooks if isinstance(owner, Supernet)), None)


def _found(model: nn.Module) -> dict[str, dict[str, ChoiceModule]]:
    """Choices by decision and path."""
    found: dict[str, dict[str, ChoiceModule]] = {}
    named: dict[str, bool] = {}
    for path, module in model.named_modules():
        if not is_choice(module):
            continue
        name = path or "choice" if module.decision is None else module.decision
        if named.setdefault(name, module.decision is not None) != (module.decision is not None):
            raise ValueError(f"decision {name!r} is also the path of a choice without a decision; rename the decision")
        found.setdefault(name, {})[path] = module
    if not found:
        raise ValueError(f"{type(model).__name__} has no Choice, ChannelChoice or RepeatChoice; put one into it")
    for decision, shared in found.items():
        for a, b in itertools.permutations(shared, 2):
            if b.startswith(a + ".") or a == "":
                raise ValueError(f"the choice at {b!r} stands inside one of its own decision {decision!r}, at {a!r}")
    return found


def _checked(graph: nx.Graph | None, found: Mapping[str, object]) -> nx.Graph | None:
    if isinstance(graph, nx.Graph):
        data = itertools.chain((d for _, d in graph.nodes(data=True)), (d for _, _, d in graph.edges(data=True)))
        for name in (attributes["decision"] for attributes in data if "decision" in attributes):
            if name not in found:
                raise ValueError(f"graph names decision {name!r}, which the model lacks; it has {', '.join(found)}")
    return graph
