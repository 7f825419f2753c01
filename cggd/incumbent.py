"""The incumbent: the best selection of a search, the bound, the proof and the nearest miss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Finding:
    """A feasible selection, a bound that no objective can beat, or both; or a proof that nothing is feasible."""

    selection: NDArray[np.int64] | None
    bound: float | None = None
    proof: str | None = None
