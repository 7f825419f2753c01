"""CIFAR-10 reduced to small images, decoded once and stored."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cggd.datasets import data_folder

FILE = "nas/cifar10_jpeg.npz"


@dataclass(frozen=True, eq=False)
class Images:
    """Normalised images (n, 3, side, side) with their classes: one part for weights, one for choices."""

    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]

    @property
    def side(self) -> int:
        return self.train[0].shape[-1]


def available() -> bool:
    """Whether the file exists."""
    folder = data_folder()
    return folder is not None and (folder / FILE).is_file()


def load(n_train: int, n_val: int, side: int, cache: Path) -> Images:
    """The first images of a fixed random order of CIFAR-10's training images."""
    kept = cache / f"images_{n_train + n_val}_{side}.npz"
    if not kept.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        pixels, labels = _decoded(n_train + n_val, side)
        partial = kept.with_suffix(f".{os.getpid()}.npz")  # other processes may do the same
        np.savez(partial, pixels=pixels, labels=labels)
        partial.replace(kept)
    with np.load(kept) as stored:
        x, y = torch.from_numpy(stored["pixels"]).float(), torch.from_numpy(stored["labels"])
    x = (x - x.mean((0, 1, 2))) / x.std((0, 1, 2))
    # The memory order stays (n, row, column, channel), in which convolutions on a CPU are fast.
    x = x.permute(0, 3, 1, 2)
    return Images((x[:n_train], y[:n_train]), (x[n_train:], y[n_train:]))


def _decoded(number: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image

    folder = data_folder()
    assert folder is not None
    with np.load(folder / FILE) as stored:
        jpeg, offsets, labels = (stored[f"train_{name}"] for name in ("jpeg", "offsets", "labels"))
    chosen = np.random.default_rng(0).permutation(len(labels))[:number]
    pixels = np.empty((number, side, side, 3), dtype=np.uint8)
    for place, i in enumerate(chosen):
        image = Image.open(io.BytesIO(jpeg[offsets[i] : offsets[i + 1]].tobytes()))
        pixels[place] = np.asarray(image.resize((side, side), Image.Resampling.BOX))
    return pixels, labels[chosen].astype(np.int64)
