"""How weights and choices are trained: the numbers that all methods share."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The training that every method gets.

    Attributes
    ----------
    images, val_images, side : int
        Images that shared weights learn from, images that choices are made by, and their side in pixels.
    channels, cells : int
        Of the topology supernet: channels of the first stage, cells per stage.
    alone_channels, alone_cells : int
        The same of cells trained alone: deep and narrow networks tell cells apart better, and learn too slowly to share
        weights.
    warmup, epochs : int
        Epochs before choices move, and all.
    every : int
        Steps of the weights for one of the choices.
    tabulated : int
        How much rarer, and larger, steps by replacement tables are: a table takes that many times longer.
    batch : int
    shared_rate, choice_rate : float
        Learning rates: weights (SGD, cosine), choices (Adam).
    judged, drawn, largest, ranking_images : int
        Networks that a method may judge by shared weights at its end; how many of them are drawn at random from those
        that satisfy the bounds, and how many are the largest of those; and the validation images that it does so by.
    branches : int, optional
        Neighbours of a network that are judged, those of the largest capacity; by default all.
    calibration : int
        Batches that batch norms are recalibrated with.
    shared_capacity, alone_capacity : float
        What the rank by `Family.capacity` counts beside the rank by accuracy, with shared weights and trained alone:
        the shorter a training, the more it favours networks that learn fast over those that can hold more.
    rounds : tuple of (networks, epochs)
        Networks that are trained alone in each round, the best of the round before. Where there are fewer, they share
        the epochs of all.
    alone_images : int
    """

    images: int = 20_000
    val_images: int = 5_000
    side: int = 16
    channels: int = 16
    cells: int = 1
    alone_channels: int = 8
    alone_cells: int = 3
    warmup: int = 8
    epochs: int = 12
    every: int = 2
    tabulated: int = 7
    batch: int = 64
    shared_rate: float = 0.05
    choice_rate: float = 0.03
    judged: int = 300
    drawn: int = 60
    largest: int = 0
    ranking_images: int = 1_000
    branches: int | None = None
    calibration: int = 8
    shared_capacity: float = 2.0
    alone_capacity: float = 0.3
    rounds: tuple[tuple[int, int], ...] = ((20, 5),)
    alone_images: int = 10_000


FULL = Recipe()

# A step of the size space's supernet takes six times as long. Widths are all that differs there, so they count more.
SIZE_SPACE = replace(
    FULL,
    images=10_000,
    judged=72,
    drawn=30,
    largest=1,
    branches=8,
    ranking_images=2_000,
    calibration=4,
    shared_capacity=16.0,
    alone_capacity=4.0,
    rounds=((5, 5),),
)

# What methods are compared by their ends with: an eighth of the images and three quarters of the epochs.
ENDS = replace(FULL, images=2_560, val_images=2_000, warmup=6, epochs=9)

QUICK = replace(
    FULL,
    images=512,
    val_images=128,
    side=8,
    channels=4,
    alone_channels=4,
    alone_cells=1,
    warmup=1,
    epochs=3,
    judged=8,
    drawn=2,
    ranking_images=128,
    calibration=1,
    rounds=((2, 1),),
    alone_images=256,
)
