"""What an opponent says at the end of its run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Record = Callable[[NDArray[np.int64]], None]


@dataclass(frozen=True)
class Claim:
    """A bound on the objective, whether the last recorded selection is proved to be optimal, and words."""

    proved: bool = False
    bound: float | None = None
    note: str = ""


class NeedsStructureError(Exception):
    """The opponent reads coefficients, and the instance's metrics can only be called."""
