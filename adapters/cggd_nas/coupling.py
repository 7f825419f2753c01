"""Which channels of a network must be removed together, found from the operations that it executes.

The network runs once on fake tensors. For each operation, a rule (`cggd_nas.rules`) links the indices of its arguments
and results that are the same channel. Connected indices form a *unit*, which is removed as a whole: a channel with its
batch norm and its part in the next layers, or a head with its queries, keys and values. Dimensions of the example, of
the outputs and of operations without a rule keep their size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from cggd_nas.links import Coupling, Links
from cggd_nas.nested import tensors_in
from cggd_nas.rules import RULES, VIEWS, pointwise
from cggd_nas.trace import Example, fake_copy, fake_tensors, recording, running_on


def coupling(model: nn.Module, example: Example) -> Coupling:
    """Run a network once on fake tensors and find the coupled channels.

    Examples
    --------
    >>> found = coupling(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.zeros(1, 2))
    >>> hidden = [o for o in found.owners if o.size == 3]
    >>> [(o.path, o.name, o.dim) for o in hidden], len({tuple(found.units[o.atoms]) for o in hidden})
    ([('0', 'weight', 0), ('0', 'bias', 0), ('2', 'weight', 1)], 1)
    """
    copied, arguments = fake_copy(model), fake_tensors(example)
    watch = _Watch()
    links = watch.links
    for x in arguments:
        links.set(x, [links.given(n) for n in x.shape])
    _own(copied, links)
    _follow(copied, watch)
    with running_on(arguments, copied), recording(watch):  # pyright: ignore[reportArgumentType] - a mode like Recorder
        result = copied(*arguments)
    for x in tensors_in(result):
        links.fix(links.of(x), "an output of the network")
    return links.settled()


def _own(model: nn.Module, links: Links) -> None:
    """Give every index of every weight and buffer an atom. Weights that two modules share keep their size."""
    seen: dict[int, int] = {}
    for path, module in model.named_modules():
        for name, x in (*module._parameters.items(), *module._buffers.items()):
            if x is None:
                continue
            if id(x) in seen:
                links.fix(links.of(x), "a weight that two modules share")
                continue
            seen[id(x)] = 1
            grouped: Any = getattr(module, "groups", 1) if isinstance(module, nn.modules.conv._ConvNd) else 1
            one = grouped if x.ndim > 1 and x.shape[1] > 1 else 1
            links.own(
                path, name, x, (1, one), isinstance(module, nn.Embedding | nn.EmbeddingBag), name in module._parameters
            )


def _follow(model: nn.Module, watch: _Watch) -> None:
    """Record in which module each operation runs, and the arguments and results of modules."""

    def before(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple, named: dict) -> None:
            given = [x for x in arguments if isinstance(x, Tensor)] or [
                x for x in list(named.values())[:1] if isinstance(x, Tensor)
            ]
            watch.enter(path, given[0] if given else None)

        return hook

    def after(module: nn.Module, arguments: tuple, result: Any) -> None:
        watch.leave(module, result)

    for path, module in model.named_modules():
        if path:
            module.register_forward_pre_hook(before(path), with_kwargs=True)
            module.register_forward_hook(after)


class _Watch(TorchDispatchMode):
    """Applies the rule of every operation."""

    def __init__(self) -> None:
        super().__init__()
        self.links = Links()
        self._stack: list[tuple[str, Tensor | None]] = []
        self._added: dict[int, tuple[set[int], set[int]]] = {}

    def enter(self, path: str, given: Tensor | None) -> None:
        """A module is called."""
        self._stack.append((path, given))
        self.links.where = path

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        outputs = [x for x in pytree.tree_leaves(result) if isinstance(x, Tensor)]
        if outputs:
            self._note(func, args, kwargs or {}, result, outputs)
        return result

    def _note(self, func: Any, args: Any, kwargs: Any, result: Any, outputs: list[Tensor]) -> None:
        inputs = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        name = func.overloadpacket.__name__
        self._note_sum(name, func, inputs, outputs)
        rule = RULES.get(name.removesuffix("_") if name not in RULES else name)
        if rule is not None:
            try:
                rule(self.links, result, *args, **kwargs)
            except (TypeError, ValueError, LookupError, AttributeError) as error:  # an overload that it does not know
                reason = f"the operation {func} is called in a way that has no rule ({error})"
                for x in (*inputs, *outputs):
                    self.links.fix(self.links.of(x), reason)
        elif torch.Tag.pointwise in func.tags:
            pointwise(self.links, result, *inputs)
        elif inputs:
            for x in (*inputs, *outputs):
                self.links.fix(self.links.of(x), f"the operation {func.overloadpacket} has no rule")
        if len(inputs) == 1 and id(inputs[0]) in self.links.weights and name in VIEWS:
            self.links.weights.update(map(id, outputs))

    def _note_sum(self, name: str, func: Any, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """Record the tensors that an output depends on: all of them, and those to which something was added."""
        if not outputs or not (torch.Tag.pointwise in func.tags or "norm" in name or name in VIEWS):
            return
        plain, added = set[int](), set[int]()
        for x in inputs:
            own = self._added.get(id(x), (set(), set()))
            plain |= own[0] | {id(x)}
            added |= own[1]
        many = name.startswith("add") and sum(x.shape == outputs[0].shape for x in inputs) > 1
        self._added[id(outputs[0])] = (plain, added | plain if many else added)

    def leave(self, module: nn.Module, result: Any) -> None:
        """A module returned a result; record it if it is residual."""
        path, given = self._stack.pop()
        self.links.where = self._stack[-1][0] if self._stack else ""
        if given is None or not isinstance(result, Tensor) or next(module.parameters(), None) is None:
            return
        added = self._added.get(id(result), (set(), set()))[1]
        if given.shape == result.shape and id(given) in added:
            self.links.found.residual.append(path)
