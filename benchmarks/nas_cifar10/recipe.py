"""Settings of the training of weights and choices, shared by all methods."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The training of every method.

    Attributes
    ----------
    images, val_images, side : int
        Images for training the shared weights, images for validation, and their side in pixels.
    channels, cells : int
        Channels of the first stage and cells per stage of the topology supernet.
    alone_channels, alone_cells : int
        The same for cells trained alone. Deep and narrow networks are better for comparing cells, but learn too slowly
        as a supernet.
    warmup, epochs : int
        Epochs before choices are trained, and all epochs.
    every : int
        Steps of the weights per step of the choices.
    tabulated : int
        Factor by which steps by replacement tables are rarer and larger, since a table takes that many times longer.
    batch : int
    shared_rate, choice_rate : float
        Learning rates: weights (SGD, cosine), choices (Adam).
    judged, drawn, largest, ranking_images : int
        Number of networks that a method may evaluate with shared weights at its end; how many of them are random
        networks within the bounds, and how many are the largest of these; number of validation images.
    branches : int, optional
        Number of neighbours of a network that are evaluated, those of the largest capacity; by default all.
    calibration : int
        Batches by which batch norms are recalibrated.
    shared_capacity, alone_capacity : float
        Weight of the rank by `Family.capacity` relative to the rank by accuracy, with shared weights and for networks
        trained alone. Shorter trainings favour networks that learn fast over those with more capacity.
    rounds : tuple of (networks, epochs)
        Number of networks that are trained alone in each round, the best of the previous round. If there are fewer,
        they share the epochs of all.
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

# A step of the size space's supernet takes six times as long. Its networks differ only in widths, so these count more.
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

# For comparisons of ends: an eighth of the images and three quarters of the epochs.
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
