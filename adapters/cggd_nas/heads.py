"""`nn.MultiheadAttention` as layers whose heads can be removed, and back.

PyTorch's module needs as many features inside as outside. `with_heads` replaces it, in a copy of a model, by one layer
each for queries, keys and values. After the extraction it becomes PyTorch's module again if its sizes allow it.
Otherwise it becomes an `nn.MultiheadAttention` whose forward is a graph of PyTorch's operations.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cggd_nas.agreement import OWN_ROUNDING, apart, outputs_of

_SIGNATURE = inspect.signature(nn.MultiheadAttention.forward)
_MASKS = ("key_padding_mask", "attn_mask")


@dataclass(frozen=True)
class Call:
    """How attention is called: which masks it gets, whether of bool, and which weights it returns.

    A graph has no branches, so it can only be called in one way.
    """

    boolean: tuple[bool | None, bool | None]
    need_weights: bool
    average: bool


class Attention(nn.Module):
    """The function of an `nn.MultiheadAttention` that is called in one way, for any number of heads."""

    def __init__(self, whole: nn.MultiheadAttention, call: Call) -> None:
        super().__init__()
        self.call, self.head_dim, self.batch_first = call, whole.head_dim, whole.batch_first
        self.in_proj_bias, self._qkv_same_embed_dim = None, False  # transformer layers then take no fused path
        size, b = whole.embed_dim, whole.in_proj_bias
        if whole.in_proj_weight is not None:
            weights: Sequence[Tensor] = whole.in_proj_weight.split(size)
        else:
            weights = [getattr(whole, f"{name}_proj_weight") for name in "qkv"]
        biases = [None] * 3 if b is None else b.split(size)
        self.query, self.key, self.value = (_linear(w, c) for w, c in zip(weights, biases, strict=True))
        self.out_proj, self.dropout = whole.out_proj, nn.Dropout(whole.dropout)
        self.train(whole.training)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: Any = True,
        attn_mask: Any = None,
        average_attn_weights: Any = True,
        is_causal: Any = False,
    ) -> tuple[Any, Any]:
        """As that of `nn.MultiheadAttention`; `is_causal` is only a hint there, beside a mask."""
        call = self.call
        torch._assert(need_weights == call.need_weights, f"need_weights is fixed at {call.need_weights}")
        if call.need_weights:
            torch._assert(average_attn_weights == call.average, f"average_attn_weights is fixed at {call.average}")
        if not self.batch_first:
            query, key, value = query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1)
        q, k, v = (
            layer(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for layer, x in ((self.query, query), (self.key, key), (self.value, value))
        )
        mask = None
        for name, given, boolean in zip(_MASKS, (key_padding_mask, attn_mask), call.boolean, strict=True):
            if boolean is None:
                torch._assert(given == None, f"{name} is fixed at None")  # noqa: E711 - `is` cannot be traced
                continue
            added = _added(name, given, boolean, query.dtype)
            added = added[:, None, None] if name == "key_padding_mask" else added
            mask = added if mask is None else mask + added
        if not call.need_weights and self.dropout.p == 0:
            h, weights = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask), None
        else:
            scores = q @ k.transpose(-1, -2) * self.head_dim**-0.5
            weights = (scores if mask is None else scores + mask).softmax(-1)
            if mask is not None and not call.need_weights:  # as scaled_dot_product_attention where all is masked
                weights = weights.masked_fill((mask == -torch.inf).all(-1, keepdim=True), 0.0)
            weights = self.dropout(weights)
            h = weights @ v
        out = self.out_proj(h.transpose(1, 2).flatten(2))
        out = out if self.batch_first else out.transpose(0, 1)
        if weights is None or not call.need_weights:
            return out, None
        return out, weights.mean(1) if call.average else weights

    def restored(self, graph: nn.Module) -> nn.MultiheadAttention:
        """An `nn.MultiheadAttention`; `graph` computes the same as this module."""
        layers = self.query, self.key, self.value
        size, inside = self.out_proj.out_features, self.query.out_features
        plain = size == inside == self.query.in_features
        made = nn.MultiheadAttention(
            inside, inside // self.head_dim, self.dropout.p, bias=plain and self.query.bias is not None,
            kdim=self.key.in_features if plain else None, vdim=self.value.in_features if plain else None,
            batch_first=self.batch_first, device="meta",
        )  # fmt: skip
        if plain:
            made.out_proj = self.out_proj  # pyright: ignore[reportAttributeAccessIssue]
            if made._qkv_same_embed_dim:
                made.in_proj_weight = _joined(layer.weight for layer in layers)
            else:
                for name, layer in zip("qkv", layers, strict=True):
                    setattr(made, f"{name}_proj_weight", layer.weight)
            if self.query.bias is not None:
                made.in_proj_bias = _joined(layer.bias for layer in layers)
        else:
            made.embed_dim, made._qkv_same_embed_dim = size, False
            for name in made._parameters:
                made._parameters[name] = None
            made._modules.clear()
            made.attend = graph
            made.__dict__["forward"] = graph
        return made.train(self.training)


def _added(name: str, mask: Any, boolean: bool, dtype: Any) -> Any:
    """A mask that is added to scores."""
    torch._assert((mask.dtype == torch.bool) == boolean, f"{name} must be {'' if boolean else 'not '}of bool")
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -torch.inf) if boolean else mask.to(dtype)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone(), weight.requires_grad)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), bias.requires_grad)
    return layer


def _joined(parts: Iterator[Any]) -> nn.Parameter:
    every = list(parts)
    return nn.Parameter(torch.cat([x.detach() for x in every]), every[0].requires_grad)


def with_heads(model: nn.Module, inputs: Sequence[Tensor]) -> nn.Module:
    """A model with `Attention` in place of each `nn.MultiheadAttention` that can be replaced.

    Left as they are: modules that add keys, with 3-D masks or unbatched inputs, and modules that the example calls in
    several ways or never. If the result computes something else, such as where a forward reads the module's weights,
    nothing is replaced.
    """
    found = {path: module for path, module in model.named_modules() if type(module) is nn.MultiheadAttention}
    found = {p: m for p, m in found.items() if m.bias_k is None and not m.add_zero_attn and "forward" not in vars(m)}
    if not found:
        return model
    inputs = [x.detach().cpu() for x in inputs]
    calls: dict[str, set[Call | None]] = {path: set() for path in found}
    twin = copy.deepcopy(model).cpu().eval()
    for path, seen in calls.items():

        def note(module: nn.Module, given: tuple, named: dict, seen: set[Call | None] = seen) -> None:
            seen.add(_call(_SIGNATURE.bind(module, *given, **named)))

        twin.get_submodule(path).register_forward_pre_hook(note, with_kwargs=True)
    with _without_fused_layers():
        try:
            expected = outputs_of(twin, inputs)
        except Exception:  # `coupling` says what is wrong
            return model
        ways = {path: next(iter(seen)) for path, seen in calls.items() if len(seen) == 1}
        if not any(ways.values()):
            return model
        made = copy.deepcopy(model)
        new = {made.get_submodule(path): Attention(found[path], call) for path, call in ways.items() if call}
        for module in [*made.modules()]:
            for name, child in module._modules.items():
                if child in new:
                    module._modules[name] = new[child]
            if getattr(module, "use_nested_tensor", False):  # nn.TransformerEncoder, for its fused layers
                module.use_nested_tensor = False  # pyright: ignore[reportArgumentType]
        try:
            far = apart(expected, outputs_of(copy.deepcopy(made).cpu().eval(), inputs))
        except Exception:
            return model
    return made if far <= OWN_ROUNDING else model


def _call(bound: inspect.BoundArguments) -> Call | None:
    """The way of a call; None if `Attention` does not know it."""
    bound.apply_defaults()
    given: dict[str, Any] = bound.arguments
    masks = [given[name] for name in _MASKS]
    if given["query"].ndim != 3 or any(mask is not None and mask.ndim != 2 for mask in masks):
        return None
    boolean = tuple(None if mask is None else mask.dtype == torch.bool for mask in masks)
    return Call((boolean[0], boolean[1]), bool(given["need_weights"]), bool(given["average_attn_weights"]))


@contextmanager
def _without_fused_layers() -> Iterator[None]:
    """Transformer layers in evaluation mode otherwise run as one operation that reads the weights of attention."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
