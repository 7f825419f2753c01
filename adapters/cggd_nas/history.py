"""The record of each epoch of a search."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from torch import nn

from cggd_nas.choices import Choice
from cggd_nas.supernet import Supernet


@dataclass(frozen=True)
class Epoch:
    """One epoch of a search.

    Attributes
    ----------
    epoch : int
        From 0.
    temperature : float
    train_loss : float
        Mean over the batches that trained weights.
    val_loss : float
        Mean over the batches that trained the architecture; NaN in the warm-up.
    feasible : float
        Share of the steps of the architecture that began with a selection that satisfies every bound; NaN in the
        warm-up.
    changes : int
        Number of decisions whose option with the largest logit changed in the epoch.
    least_margin, mean_margin : float
        Difference between the largest and the second logit of a decision, smallest and mean over decisions with several
        options. Margins that stay near 0 mean that nothing was decided.
    skips : float
        Share of the choices with a skip connection (``nn.Identity``) that select it. A share near 1 is the collapse
        known from DARTS. 0 if no choice has a skip connection.
    values : tuple of float
        The constraints' metrics at the selection of the largest logits.
    selection : dict
        That selection, at the end of the epoch.
    """

    epoch: int
    temperature: float
    train_loss: float
    val_loss: float
    feasible: float
    changes: int
    least_margin: float
    mean_margin: float
    skips: float
    values: tuple[float, ...]
    selection: dict[Hashable, Hashable]


def margins(supernet: Supernet) -> tuple[float, float]:
    """Smallest and mean margin of the largest logits; infinite if no decision has two options."""
    leads = [np.diff(np.sort(part)[-2:])[0] for part in supernet.cut(supernet.logits()) if len(part) > 1]
    return (float(min(leads)), float(np.mean(leads))) if leads else (np.inf, np.inf)


def skips(supernet: Supernet) -> float:
    """Share of the choices with a skip connection that select it by their largest logit."""
    selection, taken = supernet.selection(), []
    for decision, shared in supernet.choices.items():
        for choice in shared.values():
            if isinstance(choice, Choice) and any(isinstance(o, nn.Identity) for o in choice.options.values()):
                taken.append(isinstance(choice.choose(str(selection[decision])), nn.Identity))
    return float(np.mean(taken)) if taken else 0.0
