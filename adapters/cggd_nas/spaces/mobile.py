"""Stacks of inverted residual blocks: a MobileNet-style space, and the space of FBNet."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from cggd.datasets import data_folder
from cggd.metrics import Additive
from cggd_nas.choices import Choice, RepeatChoice, whole_numbers
from cggd_nas.supernet import Supernet

# Stages of MobileNetV2 (Sandler et al., CVPR 2018, table 2) as (channels, blocks, stride), without its widest ones.
STAGES = ((16, 2, 1), (24, 3, 2), (40, 4, 2), (80, 4, 2))

# FBNet's stages (Wu et al., CVPR 2019, table 1) with HW-NAS-Bench's strides for images of 32 x 32 (fbnet_models).
FBNET_STAGES = ((16, 1, 1), (24, 4, 1), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1))
FBNET_STEM, FBNET_HEAD = 16, 1504

# FBNet's blocks (its table 2): kernel, expansion, groups of the pointwise convolutions.
FBNET_BLOCKS = {
    "k3_e1": (3, 1, 1),
    "k3_e1_g2": (3, 1, 2),
    "k3_e3": (3, 3, 1),
    "k3_e6": (3, 6, 1),
    "k5_e1": (5, 1, 1),
    "k5_e1_g2": (5, 1, 2),
    "k5_e3": (5, 3, 1),
    "k5_e6": (5, 6, 1),
}

LATENCY_FILE = "nas/fbnet_latency_lut.csv"


def mobile_stack(
    *,
    stages: Sequence[tuple[int, int, int]] = STAGES,
    kernels: Sequence[int] = (3, 5, 7),
    expansions: Sequence[int] = (3, 6),
    stem: int = 16,
    num_classes: int = 10,
    in_channels: int = 3,
) -> nn.Module:
    """A supernet of inverted residual blocks: kernel and expansion of each, and the number of blocks of each stage.

    Parameters
    ----------
    stages : sequence of (channels, blocks, stride)
        A stage has from 1 to ``blocks`` blocks. The first block changes the channels and applies the stride.
    kernels, expansions : sequence of int
        Odd sizes of the depthwise convolutions, and factors by which blocks widen their channels.
    stem : int
        Channels after the first convolution.
    num_classes, in_channels : int

    Returns
    -------
    nn.Module
        Images (n, in_channels, height, width) to (n, num_classes). Decisions are ``"stage1.block1"``, ..., with options
        such as ``"k3_e6"``, and ``"stage1.depth"``, ..., with the numbers of blocks.

    References
    ----------
    Sandler et al., "MobileNetV2", CVPR 2018. Cai et al., "Once-for-all", ICLR 2020 (kernel, expansion, depth).

    Examples
    --------
    >>> from cggd_nas import collect
    >>> collect(mobile_stack(stages=[(8, 2, 1)], kernels=[3, 5])).space.options["stage1.block1"]
    ('k3_e3', 'k3_e6', 'k5_e3', 'k5_e6')
    >>> collect(mobile_stack(stages=[(8, 2, 1)])).space.decisions
    ('stage1.depth', 'stage1.block1', 'stage1.block2')
    """
    for name, values in (("kernels", kernels), ("expansions", expansions)):
        whole_numbers(values, name, least=1)
    for stage in stages:
        whole_numbers(stage, "channels, blocks and stride of each of stages", least=1)
    if even := [k for k in kernels if k % 2 == 0]:
        raise ValueError(f"kernels must be odd, got {even[0]}")
    blocks = {f"k{k}_e{e}": (k, e, 1) for k in kernels for e in expansions}
    layers: list[nn.Module] = [conv_bn_relu(in_channels, stem, 3)]
    inputs = stem
    for number, (outputs, most, stride) in enumerate(stages, start=1):
        repeated = []
        for block in range(1, most + 1):
            options = {
                name: InvertedResidual(inputs, outputs, kernel, expansion, stride=stride if block == 1 else 1)
                for name, (kernel, expansion, _) in blocks.items()
            }
            repeated.append(Choice(options, decision=f"stage{number}.block{block}"))
            inputs = outputs
        layers.append(RepeatChoice(repeated, depths=range(1, most + 1), decision=f"stage{number}.depth"))
    return nn.Sequential(*layers, *_classifier(inputs, num_classes))


def fbnet(*, num_classes: int = 100, in_channels: int = 3) -> nn.Module:
    """The supernet of FBNet's space for images of 32 x 32, as HW-NAS-Bench built and measured it.

    It has 22 layers, each with eight blocks and a skip as options: 9 ** 22 architectures. If a layer changes channels
    or size, its skip is a 1x1 convolution.

    Parameters
    ----------
    num_classes, in_channels : int

    Returns
    -------
    nn.Module
        Images (n, in_channels, 32, 32) to (n, num_classes). Decisions are ``"layer0"`` to ``"layer21"``; options are
        named as in HW-NAS-Bench, ``"k3_e1"`` to ``"k5_e6"`` and ``"skip"``.

    References
    ----------
    Wu et al., "FBNet", CVPR 2019. Li et al., "HW-NAS-Bench", ICLR 2021 (``fbnet_models``).
    """
    layers: list[nn.Module] = [conv_bn_relu(in_channels, FBNET_STEM, 3)]
    inputs = FBNET_STEM
    for outputs, repeats, first_stride in FBNET_STAGES:
        for stride in [first_stride] + [1] * (repeats - 1):
            options: dict[str, nn.Module] = {
                name: InvertedResidual(inputs, outputs, kernel, expansion, stride=stride, groups=groups)
                for name, (kernel, expansion, groups) in FBNET_BLOCKS.items()
            }
            same = inputs == outputs and stride == 1
            options["skip"] = nn.Identity() if same else conv_bn_relu(inputs, outputs, 1, stride=stride)
            layers.append(Choice(options, decision=f"layer{len(layers) - 1}"))
            inputs = outputs
    return nn.Sequential(*layers, conv_bn_relu(inputs, FBNET_HEAD, 1), *_classifier(FBNET_HEAD, num_classes))


def fbnet_latency(supernet: Supernet, device: str, *, file: str | Path | None = None) -> Additive:
    """Latency of FBNet's space on a device, from HW-NAS-Bench's look-up table: a sum over layers.

    Parameters
    ----------
    supernet : Supernet
        Collected from `fbnet`.
    device : str
        ``"raspi4"``, ``"pixel3"``, ``"eyeriss"`` or ``"fpga"``.
    file : path, optional
        The table; by default ``nas/fbnet_latency_lut.csv`` in the data folder (`cggd.datasets.data_folder`).

    Returns
    -------
    Additive
        In ms, including the fixed part of the network.

    Raises
    ------
    FileNotFoundError
        If there is no table.
    ValueError
        If the table has no such device, or no row for an option of the supernet.
    """
    with _latency_file(file).open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    devices = [column for column in rows[0] if column not in ("layer", "op")]
    if device not in devices:
        raise ValueError(f"device must be one of {', '.join(devices)}, got {device!r}")
    table = {(f"layer{row['layer']}", row["op"]): float(row[device]) for row in rows}
    fixed = table.pop(("layer-1", "base"))
    # The table gives every other option relative to the skip of its layer.
    values = {
        decision: {label: 0.0 if label == "skip" else _entry(table, decision, label) for label in labels}
        for decision, labels in supernet.space.options.items()
    }
    return Additive(supernet.space, values, fixed, name=f"latency on {device}", unit="ms")


class InvertedResidual(nn.Module):
    """Pointwise, depthwise and pointwise convolution, with a residual sum if shapes are equal.

    A grouped pointwise convolution is followed by a channel shuffle, so that groups mix.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, expansion: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        wide = inputs * expansion
        self.body = nn.Sequential(
            conv_bn_relu(inputs, wide, 1, groups=groups),
            nn.ChannelShuffle(groups) if groups > 1 else nn.Identity(),
            conv_bn_relu(wide, wide, kernel, stride=stride, groups=wide),
            nn.Conv2d(wide, outputs, 1, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return x + y if self.residual else y


def conv_bn_relu(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution without bias, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def _classifier(inputs: int, num_classes: int) -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes)


def _latency_file(file: str | Path | None) -> Path:
    if file is not None:
        return Path(file)
    folder = data_folder()
    if folder is None:
        raise FileNotFoundError(
            f"there is no folder of data with {LATENCY_FILE}; name one in the environment variable CGGD_DATA, or pass "
            "file (the table is made from HW-NAS-Bench, github.com/GATECH-EIC/HW-NAS-Bench)"
        )
    return folder / LATENCY_FILE


def _entry(table: dict[tuple[str, str], float], decision: object, label: object) -> float:
    try:
        return table[str(decision), str(label)]
    except KeyError:
        raise ValueError(
            f"the latency table has no row for option {label!r} of {decision!r}; is this `fbnet`?"
        ) from None
