"""A one-dimensional CNN for sensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from cggd_nas.choices import ChannelChoice, Choice, Selection, whole_numbers
from cggd_nas.depthwise import conv1d as convolved
from cggd_nas.slicing import Sliced


def conv1d(
    *,
    layers: int = 8,
    kernels: Sequence[int] = (3, 5, 9),
    channels: Sequence[int] = (8, 16, 32),
    strides: Sequence[int] = (2,),
    first_kernels: Sequence[int] | None = None,
    separable_kernels: Sequence[int] = (),
    skips: bool = False,
    in_channels: int = 1,
    num_classes: int = 10,
) -> nn.Module:
    """The supernet of a 1-D CNN: kernel and channels of each layer, the way of shortening, and the pooling.

    Each layer is a convolution without bias, batch normalisation, and ReLU in place. The ReLU needs no memory, as in
    deployed networks, where it is part of the convolution. Layers 1, 3, 5, ... shorten the signal. By default there are
    3 ** 8 * 3 ** 8 * 2 ** 4 * 3 = 2,066,242,608 architectures.

    Parameters
    ----------
    layers : int
        Number of layers.
    kernels : sequence of int
        Odd sizes of a convolution; empty if all layers except the first are separable.
    channels : sequence of int
        Numbers of channels after a layer.
    strides : sequence of int
        Factors by which layers 1, 3, 5, ... shorten the signal. The last number holds for all further layers.
    first_kernels : sequence of int, optional
        Odd sizes of the first convolution; by default `kernels`. A wide kernel is cheap there and reduces noise (Zhang
        et al., Sensors 17(2), 2017).
    separable_kernels : sequence of int
        Odd sizes of a depthwise convolution, followed by batch normalisation, ReLU and a pointwise convolution (Howard
        et al., "MobileNets", 2017). They are further options ``"separable9"``, ... of all layers except the first.
    skips : bool
        If True, layers 2, 4, 6, ... keep the number of channels, without a decision on it, and have an option
        ``"skip"`` that leaves them out.
    in_channels : int
        Channels of the signal, such as the axes of an accelerometer.
    num_classes : int

    Returns
    -------
    nn.Module
        Signals (n, in_channels, length) to (n, num_classes). Its decisions are:

        - ``"layer1.kernel"``, ``"layer1.channels"``, ...;
        - ``"layer1.shortening"``, ``"layer3.shortening"``, ...: ``"stride"`` of the convolution, or ``"pool"``, max
          pooling after it, which multiplies the multiply-accumulates by the stride;
        - ``"pooling"``: mean, maximum or root mean square over the remaining signal. Vibrations are usually measured by
          the root mean square.

        All convolutions of a layer share weights, and so do all separable ones: small kernels use the middle of the
        largest kernel (Cai et al., "Once-for-all", ICLR 2020, without its transformations). Each kernel has its own
        batch norm.

    Examples
    --------
    >>> from cggd_nas import collect
    >>> supernet = collect(conv1d())
    >>> supernet.space.n_decisions, supernet.space.n_selections
    (21, 2066242608)
    """
    if layers < 1:
        raise ValueError(f"layers must be at least 1, got {layers}")
    first_kernels = kernels if first_kernels is None else first_kernels
    if not (kernels or separable_kernels):
        raise ValueError(f"kernels must hold at least one number where separable_kernels holds none, got {kernels!r}")
    if not first_kernels:
        raise ValueError(f"first_kernels must hold at least one number where kernels holds none, got {first_kernels!r}")
    named = {"kernels": kernels, "first_kernels": first_kernels, "separable_kernels": separable_kernels}
    for name, sizes in named.items():
        if even := [k for k in sizes if k % 2 == 0]:
            raise ValueError(f"{name} must be odd, got {even[0]}")
    if not strides or min(strides) < 2:
        raise ValueError(f"strides must be numbers of at least 2, got {strides!r}")
    most = max(whole_numbers(channels, "channels", least=1))
    parts: list[nn.Module] = []
    before = None
    for layer in range(1, layers + 1):
        keeps = skips and layer % 2 == 0
        name, after = f"layer{layer}", before if keeps and before else f"layer{layer}.channels"
        stride = strides[min(layer // 2, len(strides) - 1)]
        sizes = kernels if before else first_kernels
        convolutions = _dense(most if before else in_channels, most, sizes, before, after) if sizes else {}
        if before and separable_kernels:
            convolutions |= _separable(channels, separable_kernels, before, after)
        options = {
            option: _layer(name, convolution, most, stride if layer % 2 else 1, after)
            for option, convolution in convolutions.items()
        }
        if keeps:
            options["skip"] = nn.Identity()
        parts += [Choice(options, decision=f"{name}.kernel"), ChannelChoice(most, channels, decision=after)]
        before = after
    pools = {"mean": nn.AdaptiveAvgPool1d(1), "max": nn.AdaptiveMaxPool1d(1), "rms": RootMeanSquare()}
    classifier = Sliced(nn.Linear(most, num_classes), inputs=before)
    return nn.Sequential(*parts, Choice(pools, decision="pooling"), nn.Flatten(), classifier)


class RootMeanSquare(nn.Module):
    """Root of the mean square over the length of a signal."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.vector_norm(x, dim=-1, keepdim=True) / x.shape[-1] ** 0.5


class Middle(nn.Module):
    """A convolution with the middle of a larger kernel.

    Parameters
    ----------
    whole : nn.Conv1d
        The convolution with the larger kernel.
    kernel, stride : int
    inputs, outputs : str or None
        Decisions on the numbers of channels, as in `cggd_nas.Sliced`.
    """

    def __init__(self, whole: nn.Conv1d, kernel: int, stride: int, inputs: str | None, outputs: str) -> None:
        super().__init__()
        self.whole, self.kernel, self.stride, self.inputs, self.outputs = whole, kernel, stride, inputs, outputs

    @property
    def weight(self) -> Tensor:
        """Shape (outputs, inputs, kernel)."""
        first = (self.whole.kernel_size[0] - self.kernel) // 2
        return self.whole.weight[..., first : first + self.kernel]

    def forward(self, x: Tensor) -> Tensor:
        """Keep the length of the signal, except for the stride."""
        return convolved(x, self.weight, None, self.stride, self.kernel // 2, 1, self.whole.groups)

    def plain(self, selection: Selection) -> nn.Module:
        """An ordinary convolution of the chosen channels."""
        conv = nn.Conv1d(
            self.whole.in_channels,
            self.whole.out_channels,
            self.kernel,
            stride=self.stride,
            padding=self.kernel // 2,
            groups=self.whole.groups,
            bias=False,
            device="meta",
        )
        conv.weight = nn.Parameter(self.weight.detach().clone())
        return Sliced(conv, inputs=self.inputs, outputs=self.outputs).plain(selection)


_Convolution = Callable[[int], nn.Module]  # of a stride


def _dense(
    inputs: int, outputs: int, kernels: Sequence[int], before: str | None, after: str
) -> dict[str, _Convolution]:
    shared = nn.Conv1d(inputs, outputs, max(kernels), bias=False)
    return {str(k): lambda stride, k=k: Middle(shared, k, stride, before, after) for k in kernels}


def _separable(channels: Sequence[int], kernels: Sequence[int], before: str, after: str) -> dict[str, _Convolution]:
    most = max(channels)
    depthwise = nn.Conv1d(most, most, max(kernels), groups=most, bias=False)
    pointwise = nn.Conv1d(most, most, 1, bias=False)

    def convolution(kernel: int) -> _Convolution:
        return lambda stride: nn.Sequential(
            Middle(depthwise, kernel, stride, before, before),
            Sliced(nn.BatchNorm1d(most), outputs=before),
            nn.ReLU(inplace=True),
            ChannelChoice(most, channels, decision=before),  # batch norm makes masked channels nonzero
            Middle(pointwise, 1, 1, before, after),
        )

    return {f"separable{k}": convolution(k) for k in kernels}


def _layer(name: str, convolution: _Convolution, channels: int, stride: int, after: str) -> nn.Module:
    rest = Sliced(nn.BatchNorm1d(channels), outputs=after), nn.ReLU(inplace=True)
    once = nn.Sequential(convolution(stride), *rest)
    if stride == 1:
        return once
    # With ceil_mode the output is as long as with the stride. Pooling is last, so that batch norm and ReLU can become
    # part of the convolution.
    pool = nn.MaxPool1d(stride, ceil_mode=True)
    options = {"stride": once, "pool": nn.Sequential(convolution(1), *rest, pool)}
    return Choice(options, decision=f"{name}.shortening")
