"""Small versions of well-known networks, written anew from their papers, without anything of cggd in them."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional


def conv_bn(inputs, outputs, kernel=3, stride=1, groups=1, act=True):
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if act else []))


class Basic(nn.Module):
    """He et al., CVPR 2016."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.down = conv_bn(inputs, outputs, 1, stride, act=False) if inputs != outputs or stride > 1 else None

    def forward(self, x):
        h = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(h + (x if self.down is None else self.down(x)))


class ResNet(nn.Module):
    def __init__(self, widths=(16, 32, 64), blocks=2, classes=10):
        super().__init__()
        self.stem = conv_bn(3, widths[0])
        stages, inputs = [], widths[0]
        for s, width in enumerate(widths):
            stages.append(
                nn.Sequential(
                    *[Basic(inputs if b == 0 else width, width, 2 if s and b == 0 else 1) for b in range(blocks)]
                )
            )
            inputs = width
        self.stages, self.head = nn.Sequential(*stages), nn.Linear(inputs, classes)

    def forward(self, x):
        return self.head(self.stages(self.stem(x)).mean((2, 3)))


class Inverted(nn.Module):
    """Sandler et al., CVPR 2018."""

    def __init__(self, inputs, outputs, stride, expand):
        super().__init__()
        wide = inputs * expand
        self.add = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            conv_bn(inputs, wide, 1), conv_bn(wide, wide, 3, stride, wide), conv_bn(wide, outputs, 1, act=False)
        )

    def forward(self, x):
        return x + self.conv(x) if self.add else self.conv(x)


def mobilenet_v2():
    blocks = [Inverted(*p) for p in [(8, 16, 1, 2), (16, 16, 1, 4), (16, 24, 2, 4), (24, 24, 1, 4)]]
    return nn.Sequential(
        conv_bn(3, 8, stride=2),
        *blocks,
        conv_bn(24, 64, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(64, 10),
    )


class UNet(nn.Module):
    """Ronneberger et al., MICCAI 2015."""

    def __init__(self, widths=(8, 16, 32)):
        super().__init__()
        self.down = nn.ModuleList(
            [nn.Sequential(conv_bn(a, b), conv_bn(b, b)) for a, b in zip((3, *widths), widths, strict=False)]
        )
        self.up = nn.ModuleList([nn.ConvTranspose2d(b, a, 2, 2) for a, b in pairwise(widths)])
        self.merge = nn.ModuleList([conv_bn(2 * a, a) for a in widths[:-1]])
        self.last = nn.Conv2d(widths[0], 2, 1)

    def forward(self, x):
        kept = []
        for i, down in enumerate(self.down):
            x = down(x if i == 0 else functional.max_pool2d(x, 2))
            kept.append(x)
        for i in reversed(range(len(self.up))):
            x = self.merge[i](torch.cat([self.up[i](x), kept[i]], 1))
        return self.last(x)


class Temporal(nn.Module):
    """Bai et al., 2018: causal convolutions, the padding cut off."""

    def __init__(self, inputs, outputs, dilation):
        super().__init__()
        self.pad = 2 * dilation
        self.conv1 = nn.Conv1d(inputs, outputs, 3, padding=self.pad, dilation=dilation)
        self.conv2 = nn.Conv1d(outputs, outputs, 3, padding=self.pad, dilation=dilation)
        self.down = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x):
        h = functional.relu(self.conv1(x)[:, :, : -self.pad])
        h = functional.relu(self.conv2(h)[:, :, : -self.pad])
        return functional.relu(h + (x if self.down is None else self.down(x)))


def tcn():
    return nn.Sequential(*[Temporal(2 if i == 0 else 16, 16, 2**i) for i in range(3)], nn.Conv1d(16, 3, 1))


class DenseNet(nn.Module):
    """Huang et al., CVPR 2017."""

    def __init__(self, growth=8, layers=3):
        super().__init__()
        self.stem, c = nn.Conv2d(3, 16, 3, 1, 1), 16
        self.blocks, self.moves = nn.ModuleList(), nn.ModuleList()
        for _ in range(2):
            made = []
            for _ in range(layers):
                made.append(
                    nn.Sequential(
                        nn.BatchNorm2d(c),
                        nn.ReLU(),
                        nn.Conv2d(c, 4 * growth, 1),
                        nn.BatchNorm2d(4 * growth),
                        nn.ReLU(),
                        nn.Conv2d(4 * growth, growth, 3, 1, 1),
                    )
                )
                c += growth
            self.blocks.append(nn.ModuleList(made))
            self.moves.append(nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, c // 2, 1), nn.AvgPool2d(2)))
            c //= 2
        self.norm, self.head = nn.BatchNorm2d(c), nn.Linear(c, 10)

    def forward(self, x):
        x = self.stem(x)
        for block, move in zip(self.blocks, self.moves, strict=True):
            for layer in block:
                x = torch.cat([x, layer(x)], 1)
            x = move(x)
        return self.head(functional.adaptive_avg_pool2d(functional.relu(self.norm(x)), 1).flatten(1))


def shuffled(x, groups):
    b, c, h, w = x.shape
    return x.view(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


class Shuffle(nn.Module):
    """Ma et al., ECCV 2018: half of the channels pass, half are worked on, and they are shuffled."""

    def __init__(self, channels):
        super().__init__()
        half = channels // 2
        self.work = nn.Sequential(
            conv_bn(half, half, 1), conv_bn(half, half, 3, groups=half, act=False), conv_bn(half, half, 1)
        )

    def forward(self, x):
        a, b = x.chunk(2, 1)
        return shuffled(torch.cat([a, self.work(b)], 1), 2)


def shufflenet_v2():
    return nn.Sequential(
        conv_bn(3, 32, stride=2),
        Shuffle(32),
        Shuffle(32),
        conv_bn(32, 32, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


class Grouped(nn.Module):
    """Zhang et al., CVPR 2018: the first ShuffleNet, with grouped convolutions of 1 x 1."""

    def __init__(self, channels=32, groups=4):
        super().__init__()
        self.groups = groups
        self.first, self.depth = (
            conv_bn(channels, channels, 1, groups=groups),
            conv_bn(channels, channels, 3, groups=channels, act=False),
        )
        self.last = conv_bn(channels, channels, 1, groups=groups, act=False)

    def forward(self, x):
        return functional.relu(x + self.last(self.depth(shuffled(self.first(x), self.groups))))


def shufflenet_v1():
    return nn.Sequential(
        conv_bn(3, 32, stride=2), Grouped(), Grouped(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)
    )


class SelfAttention(nn.Module):
    def __init__(self, width, num_attention_heads):
        super().__init__()
        self.num_attention_heads, self.attention_head_size = num_attention_heads, width // num_attention_heads
        self.all_head_size = self.num_attention_heads * self.attention_head_size
        self.query, self.key, self.value = (nn.Linear(width, self.all_head_size) for _ in range(3))

    def split(self, x):
        return x.view(*x.shape[:-1], self.num_attention_heads, self.attention_head_size).permute(0, 2, 1, 3)

    def forward(self, x, mask):
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        scores = q @ k.transpose(-1, -2) / self.attention_head_size**0.5 + mask
        h = (scores.softmax(-1) @ v).permute(0, 2, 1, 3).contiguous()
        return h.view(*h.shape[:-2], self.all_head_size)


class BertLayer(nn.Module):
    """Devlin et al., NAACL 2019: norms after the sums."""

    def __init__(self, width, heads):
        super().__init__()
        self.attention, self.dense, self.norm1 = (
            SelfAttention(width, heads),
            nn.Linear(width, width),
            nn.LayerNorm(width),
        )
        self.up, self.down, self.norm2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width), nn.LayerNorm(width)

    def forward(self, x, mask):
        x = self.norm1(x + self.dense(self.attention(x, mask)))
        return self.norm2(x + self.down(functional.gelu(self.up(x))))


class Bert(nn.Module):
    def __init__(self, width=32, heads=4, layers=2, length=12):
        super().__init__()
        self.words, self.places, self.norm = nn.Embedding(50, width), nn.Embedding(length, width), nn.LayerNorm(width)
        self.layers = nn.ModuleList([BertLayer(width, heads) for _ in range(layers)])
        self.pooler, self.head = nn.Linear(width, width), nn.Linear(width, 3)

    def forward(self, ids, mask):
        x = self.norm(self.words(ids) + self.places(torch.arange(ids.shape[1])))
        bias = (1.0 - mask[:, None, None, :]) * -1e4
        for layer in self.layers:
            x = layer(x, bias)
        return self.head(torch.tanh(self.pooler(x[:, 0])))


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class GroupedQueries(nn.Module):
    """Ainslie et al., EMNLP 2023, with rotary positions (Su et al., 2021)."""

    def __init__(self, width, heads, key_heads):
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = heads, key_heads, width // heads
        self.q = nn.Linear(width, heads * self.head_dim, bias=False)
        self.k = nn.Linear(width, key_heads * self.head_dim, bias=False)
        self.v = nn.Linear(width, key_heads * self.head_dim, bias=False)
        self.o = nn.Linear(heads * self.head_dim, width, bias=False)

    def turned(self, x):
        t, half = x.shape[2], self.head_dim // 2
        angle = torch.arange(t)[:, None] / 100.0 ** (torch.arange(half) / half)
        cos, sin = angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)
        return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin

    def forward(self, x):
        b, t, _ = x.shape
        q = self.turned(self.q(x).view(b, t, self.n_heads, self.head_dim).transpose(1, 2))
        k = self.turned(self.k(x).view(b, t, self.n_kv_heads, self.head_dim).transpose(1, 2))
        v = self.v(x).view(b, t, self.n_kv_heads, self.head_dim).transpose(1, 2)
        times = self.n_heads // self.n_kv_heads
        k, v = (y[:, :, None].expand(-1, -1, times, -1, -1).reshape(b, -1, t, self.head_dim) for y in (k, v))
        h = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(h.transpose(1, 2).reshape(b, t, -1))


class LlamaLayer(nn.Module):
    """Touvron et al., 2023: norms before, and a gated feed-forward part (Shazeer, 2020)."""

    def __init__(self, width, heads, key_heads):
        super().__init__()
        self.norm1, self.attention, self.norm2 = RMSNorm(width), GroupedQueries(width, heads, key_heads), RMSNorm(width)
        self.gate, self.up, self.down = (
            nn.Linear(width, 48, bias=False),
            nn.Linear(width, 48, bias=False),
            nn.Linear(48, width, bias=False),
        )

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        h = self.norm2(x)
        return x + self.down(functional.silu(self.gate(h)) * self.up(h))


class Llama(nn.Module):
    def __init__(self, width=32, layers=2):
        super().__init__()
        self.words = nn.Embedding(50, width)
        self.layers = nn.ModuleList([LlamaLayer(width, 8, 4) for _ in range(layers)])
        self.norm, self.head = RMSNorm(width), nn.Linear(width, 50, bias=False)

    def forward(self, ids):
        x = self.words(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


class Tagger(nn.Module):
    """Huang et al., 2015, without the CRF."""

    def __init__(self):
        super().__init__()
        self.words, self.rnn = nn.Embedding(50, 16), nn.LSTM(16, 24, num_layers=2, bidirectional=True, batch_first=True)
        self.mix, self.head = nn.Linear(48, 16), nn.Linear(16, 5)

    def forward(self, ids):
        return self.head(functional.relu(self.mix(self.rnn(self.words(ids))[0])))


class VisionTransformer(nn.Module):
    """Dosovitskiy et al., ICLR 2021, with one product for queries, keys and values."""

    def __init__(self, width=32, heads=4):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token, self.places = nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(torch.randn(1, 17, width) * 0.02)
        self.num_heads = heads
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2, self.mlp = nn.LayerNorm(width), nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width))
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        b = x.shape[0]
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(b, -1, -1), x], 1) + self.places
        n = x.shape[1]
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, -1))
        x = x + self.mlp(self.norm2(x))
        return self.head(x[:, 0])


class Excited(nn.Module):
    """Howard et al., ICCV 2019: an inverted bottleneck with squeeze and excitation."""

    def __init__(self, inputs, wide, outputs, stride=1):
        super().__init__()
        self.up, self.depth = conv_bn(inputs, wide, 1, act=False), conv_bn(wide, wide, 5, stride, wide, act=False)
        self.squeeze, self.excite = nn.Conv2d(wide, 8, 1), nn.Conv2d(8, wide, 1)
        self.down, self.add = conv_bn(wide, outputs, 1, act=False), stride == 1 and inputs == outputs

    def forward(self, x):
        h = functional.hardswish(self.depth(functional.hardswish(self.up(x))))
        h = h * functional.hardsigmoid(self.excite(functional.relu(self.squeeze(h.mean((2, 3), keepdim=True)))))
        return self.down(h) + x if self.add else self.down(h)


def mobilenet_v3():
    return nn.Sequential(
        conv_bn(3, 16, stride=2, act=False),
        nn.Hardswish(),
        Excited(16, 32, 16),
        Excited(16, 48, 24, 2),
        Excited(24, 48, 24),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 32),
        nn.Hardswish(),
        nn.Linear(32, 10),
    )


class ConvNeXt(nn.Module):
    """Liu et al., CVPR 2022."""

    def __init__(self, width=16):
        super().__init__()
        self.depth, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(0.1 * torch.ones(width))

    def forward(self, x):
        h = self.down(functional.gelu(self.up(self.norm(self.depth(x).permute(0, 2, 3, 1)))))
        return x + (self.scale * h).permute(0, 3, 1, 2)


def convnext():
    return nn.Sequential(
        nn.Conv2d(3, 16, 4, 4), ConvNeXt(), ConvNeXt(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    )


class Detector(nn.Module):
    """Redmon and Farhadi, 2018: boxes at two scales, the coarse one joined to the fine one."""

    def __init__(self, anchors=2, classes=3):
        super().__init__()
        self.anchors, self.numbers = anchors, 5 + classes
        self.fine, self.coarse = nn.Sequential(conv_bn(3, 16, stride=2), conv_bn(16, 16)), conv_bn(16, 32, stride=2)
        self.side, self.joined = conv_bn(32, 16, 1), conv_bn(32, 24)
        self.heads = nn.ModuleList([nn.Conv2d(c, anchors * self.numbers, 1) for c in (24, 32)])

    def forward(self, x):
        fine = self.fine(x)
        coarse = self.coarse(fine)
        joined = self.joined(torch.cat([functional.interpolate(self.side(coarse), scale_factor=2), fine], 1))
        maps = [head(y) for head, y in zip(self.heads, (joined, coarse), strict=True)]
        found = [y.unflatten(1, (self.anchors, self.numbers)) for y in maps]
        boxes = torch.cat([y.flatten(3).transpose(2, 3).flatten(1, 2) for y in found], 1)
        return {"boxes": boxes[..., :4].exp(), "scores": boxes[..., 4:].sigmoid()}


class Residual(nn.Module):
    """Radford et al., ICML 2021: PyTorch's attention, with the sequence in the first dimension."""

    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.attention, self.norm2 = (
            nn.LayerNorm(width),
            nn.MultiheadAttention(width, heads),
            nn.LayerNorm(width),
        )
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x, mask):
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False, attn_mask=mask.to(x.dtype))[0]
        return x + self.mlp(self.norm2(x))


class TextTower(nn.Module):
    def __init__(self, width=16, length=8):
        super().__init__()
        self.words, self.places = nn.Embedding(50, width), nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList([Residual(width, 4) for _ in range(2)])
        self.norm, self.projection = nn.LayerNorm(width), nn.Parameter(torch.randn(width, 12))
        self.register_buffer("mask", torch.full((length, length), -torch.inf).triu(1), persistent=False)

    def forward(self, ids):
        x = (self.words(ids) + self.places).transpose(0, 1)
        for block in self.blocks:
            x = block(x, self.mask)
        x = self.norm(x.transpose(0, 1))
        return x[torch.arange(len(x)), ids.argmax(-1)] @ self.projection


class SetDetector(nn.Module):
    """Carion et al., ECCV 2020: queries of a transformer become boxes."""

    def __init__(self, width=16):
        super().__init__()
        self.body = nn.Sequential(conv_bn(3, 8, stride=2), conv_bn(8, width, stride=2))
        self.mixing = nn.Transformer(width, 4, 1, 2, 32, dropout=0.1)
        self.queries, self.places = nn.Parameter(torch.rand(6, width)), nn.Parameter(torch.rand(16, width))
        self.classes, self.boxes = nn.Linear(width, 4), nn.Linear(width, 4)

    def forward(self, x):
        h = self.places[:, None] + self.body(x).flatten(2).permute(2, 0, 1)
        found = self.mixing(h, self.queries[:, None].repeat(1, len(x), 1)).transpose(0, 1)
        return {"classes": self.classes(found), "boxes": self.boxes(found).sigmoid()}


def image(side=16):
    return (torch.randn(2, 3, side, side),)


def words():
    return (torch.randint(50, (2, 8)),)


MODELS = {
    "resnet": (ResNet, image),
    "mobilenet_v2": (mobilenet_v2, image),
    "unet": (UNet, image),
    "tcn": (tcn, lambda: (torch.randn(2, 2, 20),)),
    "densenet": (DenseNet, image),
    "shufflenet_v1": (shufflenet_v1, image),
    "shufflenet_v2": (shufflenet_v2, image),
    "bert": (Bert, lambda: (*words(), torch.ones(2, 8))),
    "llama": (Llama, words),
    "tagger": (Tagger, words),
    "vit": (VisionTransformer, image),
    "mobilenet_v3": (mobilenet_v3, image),
    "convnext": (convnext, image),
    "detector": (Detector, image),
    "text_tower": (TextTower, words),
    "set_detector": (SetDetector, image),
}
