"""How the options of a decision mix while a supernet is trained: which paths run, and how gradients reach the logits.

A relaxation draws a `Mixing` for each decision before each forward pass; all choices that share the decision use the
same one. Sampled relaxations compute only the paths they drew, so that memory and time are those of one network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from cggd.checks import as_number
from cggd_nas.nested import items_of, rebuilt


@dataclass(frozen=True, eq=False)
class Mixing:
    """Which paths of a choice run, and their weights.

    Attributes
    ----------
    paths : tuple of int
        Options that are computed.
    weights : Tensor of shape (len(paths),), or None
        Factors of their outputs, differentiable with respect to the logits. None for a single path without a factor.
    silent : tuple of int
        Those of `paths` that are computed without gradients for their weights.
    """

    paths: tuple[int, ...]
    weights: Tensor | None = None
    silent: tuple[int, ...] = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Mixing:
        # Copies of a model must not refer to the graph of the last forward pass; the next pass draws again.
        return Mixing(self.paths, None if self.weights is None else self.weights.detach().clone(), self.silent)


class Relaxation(Protocol):
    """How the options of a decision mix."""

    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Mixing:
        """The mixing of one forward pass, from logits of shape (n_options,)."""
        ...


@dataclass(frozen=True, kw_only=True)
class GumbelSoftmax:
    """Gumbel-softmax: a sampled path (`hard`), or all paths weighted by a softened sample.

    Parameters
    ----------
    temperature : float
    hard : bool
        If True, only the sampled path i is computed. Its output is multiplied by ``1 + p_i - stop(p_i)``, which is 1,
        so the logits receive the gradient ``<dL/dy, y_i> dp_i/dlogits``. This is the straight-through estimator with
        outputs of 0 for the other paths (Dong & Yang, "GDAS", CVPR 2019, eq. 7). GDAS's program also adds the scalar
        weights of the other paths to the output, and thus their gradient; this is omitted here. Like every
        straight-through estimator it is biased.

    References
    ----------
    Jang, Gu, Poole, ICLR 2017. Maddison, Mnih, Teh, ICLR 2017.

    Examples
    --------
    >>> logits = torch.zeros(3, requires_grad=True)
    >>> mixing = GumbelSoftmax(temperature=0.5).draw(logits, torch.Generator().manual_seed(0))
    >>> len(mixing.paths), mixing.weights.tolist()
    (1, [1.0])
    """

    temperature: float = 1.0
    hard: bool = True

    def __post_init__(self) -> None:
        _check(self.temperature)

    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Mixing:
        """A mixing for logits of shape (n_options,)."""
        perturbed = logits + _gumbel(logits, generator)
        if not self.hard:
            return _all(torch.softmax(perturbed / self.temperature, dim=0))
        path = int(perturbed.argmax())
        if not _wanted(logits):
            return Mixing((path,))
        p = torch.softmax(perturbed / self.temperature, dim=0)[path : path + 1]
        return Mixing((path,), 1.0 + (p - p.detach()))


@dataclass(frozen=True, kw_only=True)
class Darts:
    """All paths, weighted by the softmax of the logits.

    Parameters
    ----------
    temperature : float

    References
    ----------
    Liu, Simonyan, Yang, "DARTS", ICLR 2019, eq. 2.

    Examples
    --------
    >>> Darts().draw(torch.zeros(2), None).weights
    tensor([0.5000, 0.5000])
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check(self.temperature)

    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Mixing:
        """A mixing for logits of shape (n_options,)."""
        return _all(torch.softmax(logits / self.temperature, dim=0))


@dataclass(frozen=True, kw_only=True)
class ProxylessTwoPath:
    """Two paths drawn from the softmax: the output is the active path's, the other is used for the logits' gradient.

    With binary gates g, ``dL/dlogit_i = sum_j dL/dg_j dp_j/dlogit_i`` over the two paths, whose probabilities p are
    normalised to a sum of 1 (Cai, Zhu, Han, "ProxylessNAS", ICLR 2019, eq. 4 and section 3.2.1). The inactive path is
    computed without gradients for its weights, and is not computed if the logits need no gradient. After its update
    the paper shifts the two logits so that the other probabilities do not change. This is omitted, since the guide
    moves all logits.

    Parameters
    ----------
    temperature : float

    Examples
    --------
    >>> logits = torch.zeros(5, requires_grad=True)
    >>> mixing = ProxylessTwoPath().draw(logits, torch.Generator().manual_seed(0))
    >>> len(mixing.paths), sorted(mixing.weights.tolist()), len(mixing.silent)
    (2, [0.0, 1.0], 1)
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check(self.temperature)

    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Mixing:
        """A mixing for logits of shape (n_options,)."""
        scaled = logits.detach() / self.temperature
        # The largest perturbed logits are a sample without replacement (Kool et al., ICML 2019).
        pair = (scaled + _gumbel(logits, generator)).topk(min(2, len(logits))).indices
        first = int((scaled[pair] + _gumbel(scaled[pair], generator)).argmax())
        paths = (int(pair[first]), *(int(path) for path in pair[torch.arange(len(pair)) != first]))
        if len(paths) == 1 or not _wanted(logits):
            return Mixing(paths[:1])
        p = torch.softmax(logits[list(paths)] / self.temperature, dim=0)
        return Mixing(paths, torch.tensor([1.0, 0.0]).to(p) + (p - p.detach()), paths[1:])


@dataclass(frozen=True)
class UniformPath:
    """A single path drawn uniformly: trains all options evenly and gives the logits no gradient.

    References
    ----------
    Guo et al., "Single path one-shot neural architecture search with uniform sampling", ECCV 2020.

    Examples
    --------
    >>> len(UniformPath().draw(torch.zeros(4), None).paths)
    1
    """

    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Mixing:
        """A mixing for logits of shape (n_options,); a logit of ``-inf`` forbids its option."""
        allowed = torch.isneginf(logits.detach()).logical_not().nonzero().flatten().tolist()
        return Mixing((allowed[int(torch.randint(len(allowed), (), generator=generator))],))


def mix(mixing: Mixing, run: Callable[[int], Any], labels: Sequence[str] = ()) -> Any:
    """The output of a choice whose option i returns ``run(i)``. Only the paths of the mixing are computed.

    Outputs are tensors, or tuples, lists, mappings and dataclasses of tensors. Floating-point tensors are weighted and
    added. Parts that are equal in all outputs are returned unchanged. Other parts, such as states of different
    structure, cannot be mixed and become `Unmixed`.
    """
    if mixing.weights is None:
        return run(mixing.paths[0])
    outputs = []
    for path in mixing.paths:
        with torch.set_grad_enabled(torch.is_grad_enabled() and path not in mixing.silent):
            outputs.append(run(path))
    return _weighted(outputs, mixing.weights, [labels[path] if labels else str(path) for path in mixing.paths])


class Unmixed:
    """Placeholder for a part of outputs that cannot be mixed. Reading it raises an error.

    Examples
    --------
    >>> state = Unmixed(["gru", "lstm"], [torch.zeros(1), (torch.zeros(1), torch.zeros(1))])
    >>> try:
    ...     state[0]
    ... except TypeError as error:
    ...     print(str(error).partition(";")[0])
    options gru, lstm of a choice return parts that cannot be mixed: Tensor(1,), tuple
    """

    def __init__(self, labels: Sequence[str], parts: Sequence[Any]) -> None:
        kinds = [f"Tensor{tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__ for x in parts]
        self._reason = (
            f"options {', '.join(labels)} of a choice return parts that cannot be mixed: {', '.join(kinds)}; do not "
            "read them, give all options outputs of the same structure and shapes, or use a relaxation that runs one "
            "path, such as GumbelSoftmax"
        )

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(self._reason)

    __getitem__ = __iter__ = __len__ = __call__ = __bool__ = __add__ = __radd__ = __mul__ = __rmul__ = _refuse
    __sub__ = __rsub__ = __matmul__ = __rmatmul__ = __truediv__ = __torch_function__ = _refuse

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise TypeError(self._reason)


def _weighted(outputs: Sequence[Any], weights: Tensor, labels: Sequence[str]) -> Any:
    first, *others = outputs
    if isinstance(first, Tensor) and first.is_floating_point():
        if all(isinstance(x, Tensor) and x.is_floating_point() and x.shape == first.shape for x in others):
            return sum(x * weight.to(x.device) for x, weight in zip(outputs, weights, strict=True))
        return Unmixed(labels, outputs)
    items = [found for output in outputs if (found := items_of(output)) is not None]
    if len(items) == len(outputs):
        keys = [[key for key, _ in found] for found in items]
        if all(type(x) is type(first) for x in others) and all(one == keys[0] for one in keys):
            parts = zip(*([item for _, item in found] for found in items), strict=True)
            return rebuilt(first, [_weighted(part, weights, labels) for part in parts])
    elif not items and all(_equal(first, other) for other in others):
        return first
    return Unmixed(labels, outputs)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b)
    return a is b or bool(a == b)


def _all(weights: Tensor) -> Mixing:
    return Mixing(tuple(range(len(weights))), weights)


def _wanted(logits: Tensor) -> bool:
    """Whether the logits need a gradient."""
    return logits.requires_grad and torch.is_grad_enabled()


def _gumbel(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard Gumbel noise, drawn on the CPU so that a seed gives the same paths on every device."""
    noise = torch.empty(logits.shape, dtype=logits.dtype).exponential_(generator=generator)
    return -noise.log().to(logits.device)


def _check(temperature: float) -> None:
    if not as_number(temperature, "temperature") > 0:
        raise ValueError(f"temperature must be greater than 0, got {temperature}")
