"""Rules for PyTorch's operations: which indices of their arguments and results are the same channel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils import _pytree as pytree

from cggd_nas.links import Atoms, Links, Split

Rule = Callable[..., None]


def pointwise(links: Links, result: Any, *inputs: Tensor) -> None:
    """Link elements at the same position, with broadcasting."""
    for out in (x for x in pytree.tree_leaves(result) if isinstance(x, Tensor)):
        dims = []
        for back in range(1, out.ndim + 1):
            n = out.shape[-back]
            alike = [links.of(x)[-back] for x in inputs if x.ndim >= back and x.shape[-back] == n]
            if n > 1:
                links.same(*alike)
            dims.append(alike[0] if alike else links.new(n))
        if not any(out is x for x in inputs):
            links.set(out, dims[::-1])


def _elementwise(links: Links, result: Any, *arguments: Any, **named: Any) -> None:
    """Activation functions that PyTorch does not mark as pointwise."""
    pointwise(links, result, *(x for x in arguments if isinstance(x, Tensor)))


def _pass(links: Links, result: Any, x: Tensor, *rest: Any, **named: Any) -> None:
    outputs = [y for y in pytree.tree_leaves(result) if isinstance(y, Tensor)]
    links.set(outputs[0], links.of(x))
    for other in outputs[1:]:  # indices and statistics
        if other.shape == x.shape or other.ndim == x.ndim:
            links.set(
                other, [d if len(d) == n else links.given(n) for d, n in zip(links.of(x), other.shape, strict=True)]
            )


def _along(dims_kept: Callable[[Tensor, tuple], Iterable[int]]) -> Rule:
    """A rule for operations that mix the elements of some dimensions. These dimensions keep their size."""

    def rule(links: Links, result: Any, x: Tensor, *rest: Any, **named: Any) -> None:
        moved = {d % x.ndim for d in dims_kept(x, rest)}
        old = links.of(x)
        links.fix((old[d] for d in moved), "an operation along a dimension")
        for y in (y for y in pytree.tree_leaves(result) if isinstance(y, Tensor)):
            links.set(y, [links.given(n) if d in moved else old[d] for d, n in enumerate(y.shape)])

    return rule


def _spatial(k: int) -> Rule:
    return _along(lambda x, rest: range(x.ndim - k, x.ndim))


def _reduce(
    links: Links, result: Any, x: Tensor, dim: Any = None, *rest: Any, keepdim: bool = False, **named: Any
) -> None:
    dims = range(x.ndim) if dim is None or dim == [] else [dim] if isinstance(dim, int) else dim
    gone = {d % x.ndim for d in dims if x.ndim}
    old = links.of(x)
    for y in (y for y in pytree.tree_leaves(result) if isinstance(y, Tensor)):
        kept = y.ndim == x.ndim
        links.set(y, [links.given(1) if d in gone else a for d, a in enumerate(old) if kept or d not in gone])


def _norm(links: Links, result: Tensor, x: Tensor, order: Any = 2, dim: Any = None, *rest: Any, **named: Any) -> None:
    _reduce(links, result, x, dim)


def _permute(links: Links, result: Tensor, x: Tensor, dims: Sequence[int]) -> None:
    links.set(result, [links.of(x)[d] for d in dims])


def _transpose(links: Links, result: Tensor, x: Tensor, a: int = 0, b: int = 1) -> None:
    dims = list(links.of(x))
    if x.ndim > 1:
        dims[a], dims[b] = dims[b], dims[a]
    links.set(result, dims)


def _squeeze(links: Links, result: Tensor, x: Tensor, *rest: Any) -> None:
    dims = (
        [0]
        if not rest and x.ndim < 1
        else range(x.ndim)
        if not rest
        else [rest[0]]
        if isinstance(rest[0], int)
        else rest[0]
    )
    gone = {d % x.ndim for d in dims if x.shape[d] == 1}
    links.set(result, [a for d, a in enumerate(links.of(x)) if d not in gone])


def _unsqueeze(links: Links, result: Tensor, x: Tensor, dim: int) -> None:
    dims = list(links.of(x))
    dims.insert(dim % result.ndim, links.given(1))
    links.set(result, dims)


def _expand(links: Links, result: Tensor, x: Tensor, *rest: Any, **named: Any) -> None:
    old = links.of(x)
    ahead = result.ndim - x.ndim
    kept = [d >= ahead and x.shape[d - ahead] == n for d, n in enumerate(result.shape)]
    dims = [old[d - ahead] if yes else links.new(result.shape[d]) for d, yes in enumerate(kept)]
    links.repeated += [atoms for atoms, yes in zip(dims, kept, strict=True) if not yes]
    links.sized(*dims)
    links.set(result, dims)


def _view(links: Links, result: Tensor, x: Tensor, *rest: Any, **named: Any) -> None:
    old, dims = links.of(x), [links.given(1) for _ in result.shape]
    for before, after in _blocks(x.shape, result.shape):
        whole = _merged(links, [old[i] for i in before])
        for i, atoms in zip(after, _parted(links, whole, [result.shape[i] for i in after]), strict=True):
            dims[i] = atoms
    links.sized(*dims)
    links.set(result, dims)


def _blocks(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Smallest runs of dimensions with equal products, without dimensions of size 1."""
    a, b = [i for i, n in enumerate(old) if n != 1], [i for i, n in enumerate(new) if n != 1]
    while a and b:
        left, right = [a.pop(0)], [b.pop(0)]
        p, q = old[left[0]], new[right[0]]
        while p != q:
            if p < q:
                left.append(a.pop(0))
                p *= old[left[-1]]
            else:
                right.append(b.pop(0))
                q *= new[right[-1]]
        yield left, right


def _merged(links: Links, dims: list[Atoms]) -> Atoms:
    """The product of several dimensions; the original dimension if they were split from it."""
    if len(dims) == 1:
        return dims[0]
    size = int(np.prod([len(atoms) for atoms in dims]))
    if not any(atoms.any() for atoms in dims):
        return links.given(size)
    for split in links.splits:
        if len(split.factors) == len(dims) and all(map(np.array_equal, split.factors, dims)):
            return split.whole
    return _splitted(links, links.new(size), dims).whole


def _parted(links: Links, whole: Atoms, sizes: list[int]) -> list[Atoms]:
    """Factors of a dimension; the original ones if it was joined from dimensions of these sizes."""
    if len(sizes) == 1:
        return [whole]
    if not whole.any():
        return [links.given(n) for n in sizes]
    for split in links.splits:
        if np.array_equal(split.whole, whole) and list(map(len, split.factors)) == sizes:
            return list(split.factors)
    return list(_splitted(links, whole, [links.new(n) for n in sizes]).factors)


def _splitted(links: Links, whole: Atoms, factors: Sequence[Atoms]) -> Split:
    links.splits.append(Split(whole, tuple(factors)))
    return links.splits[-1]


def _select(links: Links, result: Any, x: Tensor, dim: int = 0, *rest: Any) -> None:
    dims = list(links.of(x))
    links.fix([dims.pop(dim)], "a single index is taken")
    for y in (y for y in pytree.tree_leaves(result) if isinstance(y, Tensor)):
        links.set(y, dims)


def _slice(
    links: Links, result: Tensor, x: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> None:
    dims = list(links.of(x))
    whole = dims[dim]
    dims[dim] = whole[slice(start, min(end, len(whole)) if end is not None else None, step)]
    links.set(result, dims)
    if len(dims[dim]) < len(whole):
        links.sized(dims[dim])
        if step == 1 and len(whole) % len(dims[dim]) == 0 and len(dims[dim]) > 1:
            links.equally(whole, len(whole) // len(dims[dim]))


def _split(links: Links, result: Sequence[Tensor], x: Tensor, sizes: Any, dim: int = 0, *rest: Any) -> None:
    whole, first = links.of(x)[dim], 0
    lengths = {y.shape[dim] for y in result}
    if len(lengths) == 1 and len(result) > 1:
        links.equally(whole, len(result))
    for y in result:
        dims = list(links.of(x))
        dims[dim] = whole[first : first + y.shape[dim]]
        first += y.shape[dim]
        links.sized(dims[dim])
        links.set(y, dims)


def _cat(links: Links, result: Tensor, parts: Sequence[Tensor], dim: int = 0) -> None:
    parts = [x for x in parts if x.ndim == result.ndim]
    dim %= result.ndim
    dims = []
    for d in range(result.ndim):
        each = [links.of(x)[d] for x in parts]
        if d != dim:
            links.same(*each)
        dims.append(np.concatenate(each) if d == dim else each[0])
    links.set(result, dims)


def _stack(links: Links, result: Tensor, parts: Sequence[Tensor], dim: int = 0) -> None:
    for d in range(result.ndim - 1):
        links.same(*(links.of(x)[d] for x in parts))
    dims = list(links.of(parts[0]))
    dims.insert(dim % result.ndim, links.given(len(parts)))
    links.set(result, dims)


def _repeat(links: Links, result: Tensor, x: Tensor, times: Sequence[int]) -> None:
    old = [links.given(1)] * (result.ndim - x.ndim) + links.of(x)
    links.set(
        result,
        [np.tile(a, n) if len(a) > 1 else links.given(m) for a, n, m in zip(old, times, result.shape, strict=True)],
    )


def _mm(links: Links, result: Tensor, a: Tensor, b: Tensor, *rest: Any) -> None:
    (n, k), (k2, m) = links.of(a), links.of(b)
    links.same(k, k2)
    links.contract(a, 1)
    links.contract(b, 0)
    links.count(1, n, k, m)
    links.set(result, [n, m])


def _addmm(links: Links, result: Tensor, added: Tensor, a: Tensor, b: Tensor, **named: Any) -> None:
    _mm(links, result, a, b)
    pointwise(links, result, result, added)


def _bmm(links: Links, result: Tensor, a: Tensor, b: Tensor) -> None:
    (batch, n, k), (batch2, k2, m) = links.of(a), links.of(b)
    links.same(k, k2)
    links.same(batch, batch2)
    links.contract(a, 2)
    links.contract(b, 1)
    links.batches.append(batch)
    links.count(1, batch, n, k, m)
    links.set(result, [batch, n, m])


def _baddbmm(links: Links, result: Tensor, added: Tensor, a: Tensor, b: Tensor, **named: Any) -> None:
    _bmm(links, result, a, b)
    pointwise(links, result, result, added)


def _mv(links: Links, result: Tensor, a: Tensor, b: Tensor) -> None:
    (n, k), (k2,) = links.of(a), links.of(b)
    links.same(k, k2)
    links.contract(a, 1)
    links.contract(b, 0)
    links.count(1, n, k)
    links.set(result, [n])


def _convolution(links: Links, result: Tensor, x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any,
                 dilation: Any, transposed: bool, more: Any, groups: int) -> None:  # fmt: skip
    batch, inputs, *_ = links.of(x)
    first, second, *kernel = links.of(weight)
    links.fix(kernel, "the kernel of a convolution")
    at = x if transposed else result
    positions = at.numel() // at.shape[1] // at.shape[0]
    links.count(positions * int(np.prod(weight.shape[2:])), batch, first, second)
    outputs = second if transposed else first
    if groups == 1:
        links.same(inputs, first if transposed else second)
        links.contract(weight, 0 if transposed else 1)
    elif not transposed and groups == len(inputs):
        links.same(np.repeat(inputs, len(first) // groups), first)
    elif not transposed:
        links.equally(inputs, groups)
        links.same(second, inputs[: len(second)])
        links.contract(weight, 1)
        links.equally(first, groups)
    elif groups == len(inputs) and len(second) == 1:
        links.same(inputs, first)
        outputs = inputs
    else:
        links.fix((inputs, first, second), "a transposed convolution with groups")
        outputs = links.given(result.shape[1])
    if bias is not None:
        links.same(outputs, links.of(bias)[0])
    links.set(result, [batch, outputs, *(links.given(n) for n in result.shape[2:])])


def _batch_norm(links: Links, result: Any, x: Tensor, *rest: Any, **named: Any) -> None:
    per_channel = [p for p in rest if isinstance(p, Tensor) and p.ndim == 1]
    links.same(links.of(x)[1], *(links.of(p)[0] for p in per_channel))
    links.set(result[0], links.of(x))


def _layer_norm(links: Links, result: Any, x: Tensor, shape: Sequence[int], *rest: Any) -> None:
    last = links.of(x)[-len(shape) :]
    for p in (p for p in rest if isinstance(p, Tensor)):
        for a, b in zip(last, links.of(p), strict=True):
            links.same(a, b)
    links.sized(*last)
    first = result[0] if isinstance(result, tuple | list) else result
    links.set(first, links.of(x))


def _group_norm(
    links: Links, result: Any, x: Tensor, weight: Any, bias: Any, n: int, c: int, size: int, groups: int, eps: float
) -> None:
    channels = links.of(x)[1]
    links.same(channels, *(links.of(p)[0] for p in (weight, bias) if p is not None))
    if groups < c:  # else each channel is a group, and the number of groups changes with it
        links.equally(channels, groups)
    links.set(result[0], links.of(x))


def _embedding(links: Links, result: Tensor, weight: Tensor, indices: Tensor, *rest: Any, **named: Any) -> None:
    rows, features = links.of(weight)
    links.fix([rows], "the rows of an embedding")
    links.set(result, [*links.of(indices), features])


def _embedding_bag(links: Links, result: Any, weight: Tensor, *rest: Any, **named: Any) -> None:
    rows, features = links.of(weight)
    links.fix([rows], "the rows of an embedding")
    links.set(result[0], [links.given(result[0].shape[0]), features])


def _weight_norm(links: Links, result: Any, v: Tensor, g: Tensor, dim: int = 0) -> None:
    links.same(links.of(v)[dim], links.of(g)[dim])
    links.set(result[0], links.of(v))


def _made(links: Links, result: Tensor, *rest: Any, **named: Any) -> None:
    links.sized(*links.of(result))


def _glu(links: Links, result: Tensor, x: Tensor, dim: int = -1) -> None:
    dims = list(links.of(x))
    links.equally(dims[dim], 2)
    dims[dim] = dims[dim][: result.shape[dim]]
    links.set(result, dims)


def _pad(links: Links, result: Tensor, x: Tensor, pad: Sequence[int], *rest: Any) -> None:
    dims = list(links.of(x))
    for i in range(0, len(pad), 2):
        if pad[i] or pad[i + 1]:
            d = x.ndim - 1 - i // 2
            links.fix([dims[d]], "it is padded")
            dims[d] = links.given(result.shape[d])
    links.set(result, dims)


def _index(links: Links, result: Tensor, x: Tensor, indices: Sequence[Any]) -> None:
    at = [d for d, i in enumerate(indices) if i is not None]
    dims = links.of(x)
    links.fix((dims[d] for d in at), "it is indexed")
    # PyTorch puts indexed dimensions at the position of the first one, or in front if they are not adjacent.
    wide = result.ndim - (x.ndim - len(at))
    first = at[0] if at and at == list(range(at[0], at[-1] + 1)) else 0
    rest = [a for d, a in enumerate(dims) if d not in at]
    made = [links.given(n) for n in result.shape[first : first + wide]]
    links.set(result, [*rest[:first], *made, *rest[first:]])


def _copied(links: Links, result: Tensor, x: Tensor, source: Tensor, *rest: Any) -> None:
    pointwise(links, result, x, source)


def _kept(links: Links, result: Tensor, x: Tensor, *rest: Any) -> None:
    """Written in place."""


def _strided(links: Links, result: Tensor, x: Tensor, size: Sequence[int], *rest: Any) -> None:
    """Another order in memory, such as that of pooling on channels-last inputs."""
    if list(map(len, links.of(x))) != list(size):
        links.fix(links.of(x), "its memory is read in another shape")
        links.set(result, [links.given(n) for n in size])
    else:
        links.set(result, links.of(x))


def _gathered(links: Links, result: Tensor, x: Tensor, *rest: Any) -> None:
    """Neighbouring positions become channels, several for each channel."""
    at = x.ndim - 3
    dims = [*links.of(x)[:at], np.repeat(links.of(x)[at], result.shape[at] // x.shape[at])]
    links.set(result, [*dims, *(links.given(n) for n in result.shape[at + 1 :])])


def _pixel_shuffle(links: Links, result: Tensor, x: Tensor, factor: int) -> None:
    *batch, channels, _, _ = links.of(x)
    outputs, squares = _parted(links, channels, [len(channels) // factor**2, factor**2])
    links.fix([squares], "the places of a pixel shuffle")
    links.set(result, [*batch, outputs, *(links.given(n) for n in result.shape[-2:])])


VIEWS = frozenset(("t", "transpose", "permute", "view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "expand",
                   "detach", "alias", "slice", "clone", "_to_copy", "unbind", "select",
                   "split", "unsafe_split"))  # fmt: skip

RULES: dict[str, Rule] = {
    **dict.fromkeys(("detach", "alias", "clone", "_to_copy", "contiguous", "lift_fresh", "zeros_like", "ones_like",
                     "empty_like", "full_like", "rand_like", "randn_like", "_softmax", "_log_softmax", "_safe_softmax",
                     "softmax", "log_softmax", "native_dropout", "triu", "tril"), _pass),
    **dict.fromkeys(("sum", "mean", "amax", "amin", "var", "std", "var_mean", "logsumexp", "prod",
                     "argmax", "argmin", "any", "all", "max", "min"), _reduce),
    **dict.fromkeys(("zeros", "ones", "full", "empty", "arange", "scalar_tensor", "rand", "randn", "new_zeros",
                     "new_ones", "new_full", "new_empty", "eye"), _made),
    **dict.fromkeys(("max_pool1d_with_indices", "avg_pool1d", "_adaptive_avg_pool1d", "upsample_nearest1d",
                     "upsample_linear1d", "reflection_pad1d", "replication_pad1d"), _spatial(1)),
    **dict.fromkeys(("max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d",
                     "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "reflection_pad2d",
                     "replication_pad2d"), _spatial(2)),
    **dict.fromkeys(("max_pool3d_with_indices", "avg_pool3d", "_adaptive_avg_pool3d", "upsample_nearest3d",
                     "upsample_trilinear3d"), _spatial(3)),
    **dict.fromkeys(("flip", "roll", "cumsum", "cumprod", "sort"), _along(
        lambda x, rest: range(x.ndim) if not rest else [rest[-1]] if isinstance(rest[-1], int) else rest[-1])),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias"), _view),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
                     "_native_batch_norm_legit"), _batch_norm),
    **dict.fromkeys(("native_layer_norm", "_fused_rms_norm", "rms_norm"), _layer_norm),
    **dict.fromkeys(("unsafe_split", "split", "split_with_sizes", "unsafe_split_with_sizes", "chunk"), _split),
    **dict.fromkeys(("select", "unbind"), _select),
    "copy_": _copied, "fill_": _kept, "zero_": _kept, "pixel_shuffle": _pixel_shuffle,
    "as_strided": _strided, "linalg_vector_norm": _norm, "norm": _norm,
    **dict.fromkeys(("_prelu_kernel", "hardswish", "hardtanh", "hardsigmoid", "leaky_relu", "elu", "softplus", "mish",
                     "log_sigmoid_forward", "threshold", "rrelu_with_noise", "softshrink", "hardshrink"), _elementwise),
    "_weight_norm_interface": _weight_norm, "pixel_unshuffle": _gathered, "im2col": _gathered,
    "_embedding_bag": _embedding_bag,
    "native_group_norm": _group_norm, "embedding": _embedding, "glu": _glu,
    "constant_pad_nd": _pad, "index": _index, "slice": _slice, "cat": _cat, "stack": _stack, "repeat": _repeat,
    "permute": _permute, "t": _transpose, "transpose": _transpose, "squeeze": _squeeze, "unsqueeze": _unsqueeze,
    "expand": _expand, "mm": _mm, "addmm": _addmm, "bmm": _bmm, "baddbmm": _baddbmm, "mv": _mv,
    "convolution": _convolution,
}  # fmt: skip
