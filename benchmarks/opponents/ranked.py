"""Which of some selections is best: the least total violation first, then the objective."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cggd import Problem


def ranked(problem: Problem, rows: NDArray[np.int64]) -> tuple[int, float, float]:
    """Position of the best of some selections, its violation as shares of the bounds, and its signed objective."""
    violations = np.zeros(len(rows))
    for c in problem.constraints:
        values = c.values(rows)
        excess = c.sign * values - c.limit
        violations += np.where(c.satisfied(values), 0.0, np.maximum(excess, 0.0) / (abs(c.bound) or 1.0) + 1e-12)
    values = problem.sign * problem.objective.evaluate(rows)
    first = int(np.lexsort((values, violations))[0])
    return first, float(violations[first]), float(values[first])
