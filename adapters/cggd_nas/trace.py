"""The operations that a network executes, their multiply-accumulates, and the tensors that they read and write."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from cggd_nas.failures import check_network, place_of
from cggd_nas.nested import described

Example = Tensor | Sequence[Tensor]

# From the number of a storage in one trace to that in another, or to None if the other has a weight there.
Numbers = dict[int, int | None]

aten = torch.ops.aten

# Operations of a batch norm in evaluation mode; in deployed networks it is folded into the layer before it.
BATCH_NORMS = {aten.native_batch_norm, aten._native_batch_norm_legit_no_training, aten.cudnn_batch_norm}


def _vector(result: Any, a: Tensor, *rest: Any) -> int:
    return a.numel()


def _added_vector(result: Any, added: Tensor, a: Tensor, *rest: Any) -> int:
    return a.numel()


def _bilinear(result: Any, a: Tensor, weight: Tensor, b: Tensor, *rest: Any) -> int:
    outputs = weight.shape[0]
    return result.numel() // outputs * (weight.numel() + outputs * b.shape[-1])  # x' W of each output, then times y


# Operations that PyTorch's registry lacks. All others (pooling, sums, activation functions, norms) count as 0.
_MACS: dict[Any, Callable[..., int]] = {
    aten.mv: _vector,
    aten.dot: _vector,
    aten.addmv: _added_vector,
    aten._trilinear: _bilinear,
}


def _macs(packet: Any, result: Any, args: Any, kwargs: Any) -> int:
    """Multiply-accumulates of an operation: half of PyTorch's count, which counts additions separately."""
    if (count := flop_registry.get(packet)) is not None:
        return count(*args, **kwargs, out_val=result) // 2
    own = _MACS.get(packet)
    return 0 if own is None else own(result, *args)


# Queries of fake tensors, which are no operations.
_NOTHING = {torch.ops.prim.device}


@dataclass(frozen=True)
class Operation:
    """One operation that was executed.

    Attributes
    ----------
    name : str
        PyTorch's name, for example ``aten::convolution``.
    macs : int
        Multiply-accumulates.
    reads, writes : tuple of int
        Numbers of the storages that it reads, and of the storages of its results. Views and operations in place write
        the storages that they read. Weights have no number.
    folds : bool
        Whether it is a batch norm, which deployment folds into the layer before it.
    decisions : frozenset
        In networks of a supernet, the decisions of the part that executes it.
    """

    name: str
    macs: int
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    folds: bool = False
    decisions: frozenset[Hashable] = frozenset()

    def renumbered(self, numbers: Numbers, decisions: frozenset[Hashable] = frozenset()) -> Operation:
        """The operation with other numbers for its storages, where `numbers` has them, and with further decisions."""
        found = ([numbers.get(s, s) for s in part] for part in (self.reads, self.writes))
        reads, writes = (tuple(s for s in part if s is not None) for part in found)
        return replace(self, reads=reads, writes=writes, decisions=self.decisions | decisions)


@dataclass(frozen=True)
class Result:
    """A tensor that a traced network returned, as a view of a storage."""

    storage: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype

    def fake(self) -> Tensor:
        """A fake tensor of this shape with its own memory."""
        with without_numbers():
            return torch.empty_strided(self.shape, self.stride, dtype=self.dtype)


@dataclass(frozen=True, eq=False)
class Trace:
    """The execution of a network on one example, in order.

    Attributes
    ----------
    operations : sequence of Operation
    elements : sequence of int
        Elements of each storage.
    inputs : tuple of int
        Storages of the example's tensors, in order.
    result : Any
        The network's outputs, with a `Result` (for a weight, a tensor) instead of each tensor.
    """

    operations: Sequence[Operation]
    elements: Sequence[int]
    inputs: tuple[int, ...]
    result: Any

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all operations."""
        return sum(operation.macs for operation in self.operations)

    @property
    def outputs(self) -> tuple[int, ...]:
        """Storages of the network's outputs."""
        return tuple(leaf.storage for leaf in pytree.tree_leaves(self.result) if isinstance(leaf, Result))

    @cached_property
    def live_elements(self) -> NDArray[np.int64]:
        """Elements of all tensors alive while each operation runs, shape (max(1, n_operations),)."""
        born, last = self._lives
        end = max(1, len(self.operations))
        change = np.zeros(end + 2, dtype=np.int64)
        for storage, time in born.items():
            change[time] += self.elements[storage]
            change[last[storage] + 1] -= self.elements[storage]
        return np.cumsum(change)[:end]

    @property
    def peaks(self) -> dict[Hashable, int]:
        """For each decision, the most elements alive while one of its operations runs.

        An operation that is in no part with decisions belongs to the decisions whose results it uses: those that it
        uses directly, or else those that it uses through other such operations.
        """
        peaks: dict[Hashable, int] = {}
        own: dict[int, frozenset[Hashable]] = {}
        passed: dict[int, frozenset[Hashable]] = {}
        nothing: frozenset[Hashable] = frozenset()
        for operation, live in zip(self.operations, self.live_elements.tolist(), strict=False):
            decisions = operation.decisions
            if decisions:
                own |= dict.fromkeys(operation.writes, decisions)
            else:
                direct = nothing.union(*(own.get(storage, nothing) for storage in operation.reads))
                decisions = direct or nothing.union(*(passed.get(storage, nothing) for storage in operation.reads))
                passed |= dict.fromkeys(operation.writes, decisions)
            for decision in decisions:
                peaks[decision] = max(live, peaks.get(decision, 0))
        return peaks

    @cached_property
    def _lives(self) -> tuple[dict[int, int], dict[int, int]]:
        """The first and last operation while each storage is alive, without storages that replace others."""
        end = max(1, len(self.operations))
        last = dict.fromkeys(self.inputs, 0)
        read: set[int] = set()
        for time, operation in enumerate(self.operations):
            last |= dict.fromkeys((*operation.reads, *operation.writes), time)
            read.update(set(operation.reads).difference(operation.writes))  # a view alone reads nothing
        kept = set(self.outputs)
        last |= dict.fromkeys(kept, end)
        born = dict.fromkeys(self.inputs, 0)
        place = {storage: storage for storage in self.inputs}
        for time, operation in enumerate(self.operations):
            for i, storage in enumerate(operation.writes):
                # Statistics and indices that only a backward pass would read are not made at inference.
                if storage in place or (i > 0 and storage not in read and storage not in kept):
                    continue
                source = operation.reads[0] if operation.folds and operation.reads else None
                if source is not None and last[source] == time and self.elements[source] == self.elements[storage]:
                    place[storage] = place[source]
                    last[place[source]] = max(last[place[source]], last[storage])
                else:
                    place[storage], born[storage] = storage, time
        return born, last


def trace(module: nn.Module, example: Example) -> Trace:
    """Execute a network in evaluation mode and record its operations.

    A copy runs on PyTorch's fake tensors, which have shapes and a device but no values. Nothing is computed, and the
    module is not changed. Attention is executed as matrix products with the attention matrix in memory, as runtimes for
    small devices do. Fused kernels of this machine are not used.

    Parameters
    ----------
    module : nn.Module
        Its forward must not depend on values of tensors, unless it first asks PyTorch whether tensors have values.
    example : Tensor or sequence of Tensor
        The arguments of its forward. Metrics are those of this batch; use a batch of 1.

    Examples
    --------
    >>> recorded = trace(nn.Linear(3, 2), torch.zeros(1, 3))
    >>> [(operation.name, operation.macs) for operation in recorded.operations if operation.macs]
    [('aten::addmm', 6)]
    """
    copied, arguments = fake_copy(module), fake_tensors(example)
    with running_on(arguments, copied):
        return trace_fake(copied, arguments)


@contextmanager
def running_on(arguments: Sequence[Tensor], network: nn.Module) -> Iterator[None]:
    """If a network cannot be run on fake tensors, raise an error with the example, the part and possible causes."""
    try:
        yield
    except Exception as error:
        given = ", ".join(f"{tuple(x.shape)} of {x.dtype}" for x in arguments)
        raise ValueError(
            f"the network cannot be run on an example of shape {given}: {type(error).__name__}: {error}, "
            f"{place_of(error, network)}; the example must be what its forward takes and, where it is run without "
            "numbers, its forward must not depend on them"
        ) from error


def tensors_of(example: Example) -> tuple[Tensor, ...]:
    """The arguments in an example, checked."""
    arguments = (example,) if isinstance(example, Tensor) else example
    if not isinstance(arguments, Sequence) or not arguments or not all(isinstance(x, Tensor) for x in arguments):
        raise TypeError(
            "example must be a tensor, or a sequence of the tensors that forward takes, in its order and without "
            f"targets, got {described(example)}"
        )
    return tuple(arguments)


def fake_tensors(example: Example) -> tuple[Tensor, ...]:
    """An example's tensors as fake tensors."""
    return tuple(map(fake, tensors_of(example)))


def fake_copy(module: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """A copy in evaluation mode with fake parameters and buffers; `memo` as for ``deepcopy``."""
    check_network(module)
    replaced = replaced_tensors(module, fake)
    with without_numbers():
        return copy.deepcopy(module, (memo or {}) | replaced).eval()


def replaced_tensors(module: nn.Module, replacement: Callable[[Tensor], Tensor]) -> dict[int, Any]:
    """A memo for ``deepcopy`` that replaces the tensors of a module: parameters, buffers, and plain attributes."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        for x in (*part._parameters.values(), *part._buffers.values(), *vars(part).values()):
            if isinstance(x, Tensor) and id(x) not in memo:
                made = replacement(x.detach())
                memo[id(x)] = nn.Parameter(made, x.requires_grad) if isinstance(x, nn.Parameter) else made
    return memo


def trace_fake(module: nn.Module, arguments: Sequence[Tensor]) -> Trace:
    """`trace` of a module that already has fake tensors."""
    recorder = Recorder()
    inputs = tuple(recorder.number(x) for x in arguments)
    with recording(recorder):
        result = module(*arguments)
    return recorder.trace(inputs, result)


class _Mode(FakeTensorMode):
    def __deepcopy__(self, memo: Any) -> _Mode:  # with its tensors
        return self


# One mode for all fake tensors, because tensors of different modes cannot be combined.
_MODE = _Mode()


@contextmanager
def without_numbers() -> Iterator[None]:
    """Tensors that are made inside are fake: on the CPU, and without values."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # by deepcopy
        with _MODE:
            yield


def fake(x: Tensor) -> Tensor:
    """A fake tensor like another one, with its own memory."""
    with without_numbers():
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype)


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """Record the operations inside, without fused operations that hide matrix products."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    # oneDNN runs a recurrent layer as one operation.
    onednn = _set_onednn(False)
    try:
        with torch.no_grad(), without_numbers(), sdpa_kernel(SDPBackend.MATH), recorder:
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        _set_onednn(onednn)


def _set_onednn(enabled: bool) -> bool:
    """Switch oneDNN on or off without changing other settings; return the former state."""
    return torch.backends.mkldnn.set_flags(_enabled=enabled, _fp32_precision=cast(Any, None))[0]


class Recorder(TorchDispatchMode):
    """Records every operation below autograd, where all modules and functions use the same few operations."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.elements: list[int] = []
        self._numbers: dict[int, int | None] = {}
        # Storages are identified by their address, so they are kept alive.
        self._alive: list[Any] = []
        self._paused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if self._paused or packet in _NOTHING:
            return result
        reads = [self._number(x, new=False) for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        writes = [self._number(x, new=True) for x in pytree.tree_leaves(result) if isinstance(x, Tensor)]
        self.operations.append(
            Operation(
                packet._qualified_op_name,
                _macs(packet, result, args, kwargs or {}),
                tuple(number for number in reads if number is not None),
                tuple(number for number in writes if number is not None),
                packet in BATCH_NORMS,
            )
        )
        return result

    def _number(self, tensor: Tensor, *, new: bool) -> int | None:
        """The number of a tensor's storage. A storage that is read before it is written holds weights and has none."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._numbers:
            self._alive.append(storage)
            self._numbers[key] = self._add(storage.nbytes() // tensor.element_size()) if new else None
        return self._numbers[key]

    def _add(self, elements: int) -> int:
        self.elements.append(elements)
        return len(self.elements) - 1

    def number(self, tensor: Tensor) -> int:
        """The number of the storage of a new activation."""
        number = self._number(tensor, new=True)
        assert number is not None
        return number

    def trace(self, inputs: tuple[int, ...], result: Any) -> Trace:
        """The trace of the operations recorded so far."""

        def described(x: Any) -> Any:
            if not isinstance(x, Tensor) or (storage := self._number(x, new=False)) is None:
                return x
            return Result(storage, tuple(x.shape), x.stride(), int(x.storage_offset()), x.dtype)

        return Trace(tuple(self.operations), tuple(self.elements), inputs, pytree.tree_map(described, result))

    def attribute(self, first: int, decisions: frozenset[Hashable]) -> None:
        """Add decisions to the operations from index `first` on."""
        for i, operation in enumerate(self.operations[first:], start=first):
            self.operations[i] = replace(operation, decisions=operation.decisions | decisions)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not record the operations inside."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def splice(
        self, part: Trace, arguments: Sequence[Tensor], decisions: frozenset[Hashable] = frozenset()
    ) -> tuple[Any, Numbers]:
        """Record the operations of a part of the network, from the part's own trace.

        Adds `decisions` to the decisions of its operations. Returns the part's outputs and the number of each of its
        storages; an argument that is a weight, such as a slice of a buffer, has none.
        """
        numbers: Numbers = dict(zip(part.inputs, (self._number(x, new=False) for x in arguments), strict=True))
        sources = dict(zip(part.inputs, arguments, strict=True))
        for storage, elements in enumerate(part.elements):
            if storage not in numbers:
                numbers[storage] = self._add(elements)
        for operation in part.operations:
            self.operations.append(operation.renumbered(numbers, decisions))

        def rebuilt(x: Any) -> Any:
            if not isinstance(x, Result):
                return x
            if x.storage not in sources:
                # Views of fake tensors are slow, so none is made if the result fills the storage.
                extent = 1 + sum((n - 1) * step for n, step in zip(x.shape, x.stride, strict=True))
                fills = x.offset == 0 and 0 not in x.shape and extent == part.elements[x.storage]
                base = x.fake() if fills else torch.empty(part.elements[x.storage], dtype=x.dtype)
                storage = base.untyped_storage()
                self._alive.append(storage)
                self._numbers[storage._cdata] = numbers[x.storage]
                sources[x.storage] = base
            source = sources[x.storage]
            if tuple(source.shape) == x.shape and source.stride() == x.stride:
                return source
            return source.as_strided(x.shape, x.stride, source.storage_offset() + x.offset)

        with self.paused(), without_numbers():
            return pytree.tree_map(rebuilt, part.result), numbers
