"""Windows of bearing vibration under noise: ten conditions of a bearing, split by time.

The recordings are those of the Case Western Reserve University bearing data centre at 1797 rpm (drive-end
accelerometer): normal, and faults of the inner race, a ball and the outer race, each 7, 14 or 21 mils wide. Each is
10 s at 12 kHz; the normal one is much quieter, and is reported to be sampled at 48 kHz. So that neither loudness nor an
overlap gives a class away, every window is normalised by itself, and recordings are cut in time before windows are.

Without noise the task is too easy to compare networks. White noise is therefore added, its power stated relative to
that of the window (SNR in dB), to windows for learning as well as to those for testing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cggd.datasets import data_folder

FILE = "timeseries/cwru_bearing_1797rpm.npz"
CLASSES = ("Normal", "IR_7", "IR_14", "IR_21", "B_7", "B_14", "B_21", "OR_7", "OR_14", "OR_21")
WINDOW = 1024
RATE_HZ = 12_000

# Shares of the 10 s of each recording, one after another, that weights learn from, choices are made by, and tests use.
SHARES = {"train": 0.5, "val": 0.2, "test": 0.3}

# SNR in dB: the range of windows to learn from and to choose by, and where the test takes place.
TRAIN_SNR = (-14.0, 2.0)
TEST_SNR = (-12.0, -8.0, -4.0, 0.0)


def recordings(part: str) -> Tensor:
    """One part of each recording in the order of `CLASSES`, shape (10, n).

    Raises
    ------
    FileNotFoundError
        If the data is not there.
    """
    folder = data_folder()
    if folder is None or not (folder / FILE).is_file():
        raise FileNotFoundError(f"set CGGD_DATA to a folder with {FILE}")
    names = list(SHARES)
    with np.load(folder / FILE) as stored:
        whole = np.stack([stored[name] * stored[f"{name}_scale"] for name in CLASSES])
    cuts = np.round(np.cumsum([SHARES[name] for name in names])[:-1] * whole.shape[1]).astype(int)
    return torch.from_numpy(np.split(whole, cuts, axis=1)[names.index(part)].astype(np.float32))


def noisy(windows: Tensor, snr: Tensor, generator: torch.Generator) -> Tensor:
    """Windows (n, length) with white noise at a given SNR in dB, shape (n,), each normalised; shape (n, 1, length)."""
    clean = _normalised(windows)
    noise = torch.randn(clean.shape, generator=generator) * 10 ** (-snr[:, None] / 20)
    return _normalised(clean + noise)[:, None]


def _normalised(windows: Tensor) -> Tensor:
    return (windows - windows.mean(1, keepdim=True)) / windows.std(1, keepdim=True, correction=0)


@dataclass(frozen=True, eq=False)
class DrawnWindows:
    """Batches of windows drawn anew each time: class, place and SNR uniformly, and new noise.

    Attributes
    ----------
    signals : Tensor of shape (10, n)
    batches, batch_size : int
    generator : torch.Generator
        What it draws next is the next batch.
    """

    signals: Tensor
    batches: int
    batch_size: int
    generator: torch.Generator

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        windows = self.signals.unfold(1, WINDOW, 1)
        low, high = TRAIN_SNR
        for _ in range(self.batches):
            labels = torch.randint(len(windows), (self.batch_size,), generator=self.generator)
            places = torch.randint(windows.shape[1], (self.batch_size,), generator=self.generator)
            snr = low + (high - low) * torch.rand(self.batch_size, generator=self.generator)
            yield noisy(windows[labels, places], snr, self.generator), labels


def fixed(signals: Tensor, *, step: int, snr: tuple[float, ...] | None, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Windows that begin every `step` samples, with noise that `seed` fixes.

    Parameters
    ----------
    signals : Tensor of shape (10, n)
    step : int
    snr : tuple of float or None
        Each window appears once at each of them; None draws one for each window as `DrawnWindows` does.
    seed : int

    Returns
    -------
    windows : Tensor of shape (n, 1, WINDOW)
    labels : Tensor of shape (n,)
    snr : Tensor of shape (n,)
    """
    generator = torch.Generator().manual_seed(seed)
    cut = signals.unfold(1, WINDOW, step)
    windows, labels = cut.reshape(-1, WINDOW), torch.arange(len(cut)).repeat_interleave(cut.shape[1])
    if snr is None:
        levels = TRAIN_SNR[0] + (TRAIN_SNR[1] - TRAIN_SNR[0]) * torch.rand(len(windows), generator=generator)
    else:
        levels = torch.tensor(snr).repeat_interleave(len(windows))
        windows, labels = windows.repeat(len(snr), 1), labels.repeat(len(snr))
    return noisy(windows, levels, generator), labels, levels
