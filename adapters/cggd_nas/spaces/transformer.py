"""A small transformer encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from cggd.checks import whole
from cggd_nas.choices import ChannelChoice, Choice, whole_numbers
from cggd_nas.slicing import Sliced


def transformer_encoder(
    *,
    layers: int = 4,
    model_width: int = 64,
    heads: Sequence[int] = (1, 2, 4),
    widths: Sequence[int] = (16, 32, 64),
    ratios: Sequence[int] = (1, 2, 4),
    in_features: int = 8,
    length: int = 64,
    num_classes: int = 10,
) -> nn.Module:
    """The supernet of a transformer encoder: heads and width of each layer's attention, and its feed-forward ratio.

    Norms are before attention and before the feed-forward part ("pre-norm"). By default there are 27 ** 4 = 531,441
    architectures.

    Parameters
    ----------
    layers : int
    model_width : int
        Features of each token between layers.
    heads : sequence of int
        Numbers of attention heads; each must divide each of `widths`.
    widths : sequence of int
        Numbers of features of queries, keys and values, over all heads.
    ratios : sequence of int
        Features of the feed-forward part, in multiples of `model_width`.
    in_features : int
        Features of each input token.
    length : int
        Tokens in a sequence.
    num_classes : int

    Returns
    -------
    nn.Module
        Sequences (n, length, in_features) to (n, num_classes). Decisions are ``"layer1.heads"``, ``"layer1.width"``,
        ``"layer1.feed_forward"`` (labels are features), ...

    References
    ----------
    Vaswani et al., "Attention is all you need", NeurIPS 2017. Wang et al., "HAT", ACL 2020 (the choices). Xiong et al.,
    "On layer normalization in the transformer architecture", ICML 2020 (pre-norm).

    Examples
    --------
    >>> from cggd_nas import collect
    >>> space = collect(transformer_encoder(layers=1)).space
    >>> space.options
    {'layer1.width': ('16', '32', '64'), 'layer1.heads': ('1', '2', '4'), 'layer1.feed_forward': ('64', '128', '256')}
    """
    whole(layers, "layers", least=1)
    for name, values in (("heads", heads), ("widths", widths), ("ratios", ratios)):
        whole_numbers(values, name, least=1)
    if bad := [(h, w) for h in heads for w in widths if w % h]:
        raise ValueError(
            f"each number of heads must divide each width, got {bad[0][0]} heads and a width of {bad[0][1]}"
        )
    return nn.Sequential(
        nn.Linear(in_features, model_width),
        Positions(length, model_width),
        *(
            EncoderLayer(f"layer{layer}", model_width, heads, widths, [ratio * model_width for ratio in ratios])
            for layer in range(1, layers + 1)
        ),
        nn.LayerNorm(model_width),
        MeanToken(),
        nn.Linear(model_width, num_classes),
    )


class Positions(nn.Module):
    """Adds a learned vector to the token at each position."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        # 0.02 is the standard deviation of embeddings in BERT's program (Devlin et al., 2019).
        self.table = nn.Parameter(0.02 * torch.randn(length, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table


class MeanToken(nn.Module):
    """The mean over tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=1)


class EncoderLayer(nn.Module):
    """Attention and feed-forward part, each with a residual sum."""

    def __init__(
        self, name: str, model_width: int, heads: Sequence[int], widths: Sequence[int], features: Sequence[int]
    ) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(model_width), Attention(name, model_width, heads, widths))
        feed_forward, most = f"{name}.feed_forward", max(features)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(model_width),
            Sliced(nn.Linear(model_width, most), outputs=feed_forward),
            nn.GELU(),
            ChannelChoice(most, features, decision=feed_forward, dim=-1),
            Sliced(nn.Linear(most, model_width), inputs=feed_forward),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.feed_forward(x)


class Attention(nn.Module):
    """Self-attention whose heads and width are decisions."""

    def __init__(self, name: str, model_width: int, heads: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        width, most = f"{name}.width", max(widths)
        self.queries, self.keys, self.values = (
            nn.Sequential(
                Sliced(nn.Linear(model_width, most), outputs=width),
                ChannelChoice(most, widths, decision=width, dim=-1),
            )
            for _ in range(3)
        )
        self.heads = Choice({str(h): Heads(h, scale=(most / h) ** -0.5) for h in heads}, decision=f"{name}.heads")
        self.output = Sliced(nn.Linear(most, model_width), inputs=width)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.heads(self.queries(x), self.keys(x), self.values(x)))


class Heads(nn.Module):
    """Attention over queries, keys and values, (n, length, width), in a number of heads.

    Feature i belongs to head i modulo the number of heads. A mask of the width keeps the first features, which are then
    distributed evenly. The scale is that of the full width, so it does not depend on the mask.
    """

    def __init__(self, heads: int, *, scale: float) -> None:
        super().__init__()
        self.heads, self.scale = heads, scale

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        q, k, v = (x.unflatten(-1, (-1, self.heads)).permute(0, 3, 1, 2) for x in (queries, keys, values))
        mixed = functional.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return mixed.permute(0, 2, 3, 1).flatten(-2)
