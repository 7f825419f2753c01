"""Random projects that were not used for tuning, similar to ProGen (Kolisch, Sprecher & Drexl, 1995)."""

from __future__ import annotations

import numpy as np

from cggd_scheduling import Project
from cggd_scheduling.project import from_lists

# Two resources of each kind, durations and demands of 1 to 10, at most 3 predecessors, a demand for 3 of 4 resources:
# as in the sets j10 to j30 of PSPLIB.
RENEWABLE = NONRENEWABLE = 2
LARGEST = 10
PREDECESSORS = 3
FACTOR = 0.75


def project(n: int, modes: int, strength: float, *, seed: int) -> Project:
    """Draw a project for which a schedule exists.

    Parameters
    ----------
    n : int
        Activities.
    modes : int
        Modes of each activity. Slower modes demand no more of any resource. With one mode there are no budgets.
    strength : float
        Resource strength from 0, where capacities equal the largest demand of one activity, to 1, where all activities
        fit at their earliest start. Budgets are the demands of a random choice of modes.
    seed : int
    """
    rng = np.random.default_rng([seed, n, modes, round(1000 * strength)])
    n_resources = RENEWABLE + (NONRENEWABLE if modes > 1 else 0)
    before = [
        sorted(
            rng.choice(np.arange(max(0, a - 6), a), size=min(a, int(rng.integers(1, PREDECESSORS + 1))), replace=False)
        )
        for a in range(n)
    ]
    durations = np.sort(rng.integers(1, LARGEST + 1, size=(n, modes)), axis=1)
    demands = -np.sort(-rng.integers(1, LARGEST + 1, size=(n, n_resources, modes)), axis=2)
    demands *= rng.random((n, n_resources, 1)) < FACTOR
    start = np.zeros(n, dtype=int)
    for a in range(n):
        start[a] = max((start[b] + durations[b, 0] for b in before[a]), default=0)
    running = (start <= start[:, None]) & (start[:, None] < start + durations[:, 0])
    least = demands[:, :RENEWABLE].max(axis=(0, 2))
    most = (running @ demands[:, :RENEWABLE, 0]).max(axis=0)
    capacities = least + np.round(strength * np.maximum(most - least, 0)).astype(int)
    drawn = rng.integers(modes, size=n)
    budgets = demands[np.arange(n), RENEWABLE:, drawn].sum(axis=0)
    return from_lists(
        [[[int(d), *map(int, demands[a, :, m])] for m, d in enumerate(durations[a])] for a in range(n)],
        [[b for b in range(n) if a in before[b]] for a in range(n)],
        [*map(int, capacities), *map(int, budgets)],
        RENEWABLE,
        name=f"drawn {n}x{modes}, strength {strength:g}",
    )
