"""The least largest load as a mixed-integer program: a bound, and often the proof (HiGHS, through scipy)."""

from __future__ import annotations

import math
import time
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from cggd.program.threads import run_interruptibly
from cggd_scheduling.placement.metrics import DeviceLoad

# The solver does not look at the clock at every turn; after its time limit it is waited for this long.
GRACE = 0.2

# Share of the load by which the solver may stop short, and by which its bound may be off. Loads are scaled so that a
# known one is SCALE: the solver's tolerances, absolute numbers, are then off by ROUNDING / SCALE for each variable.
GAP, SCALE, ROUNDING = 1e-6, 1e3, 1e-7


def load_program(metric: DeviceLoad, best: float) -> dict[str, Any]:
    """The problem as arguments of `scipy.optimize.milp`: minimise the largest load under the memory limits.

    Variables: one per option, then per output and device whether it is received, then whether it is sent, all 0 or 1,
    and last the largest load, in units of ``best / SCALE``. What alone takes more than `best`, a load that is known,
    is left out: times of "never" would swallow the others in the tolerances of the solver.
    """
    space, outputs, link = metric.space, metric.outputs, metric.link
    n_options, n_outputs, n_devices = space.n_options, len(outputs.cost), len(link)
    received = n_options + np.arange(n_outputs * n_devices).reshape(n_outputs, n_devices)
    sent = received + received.size
    top = n_options + 2 * received.size
    owner, unit = space.layout.owner, best / SCALE
    allowed = np.ones(top)
    allowed[:n_options] = metric.times <= best
    allowed[n_options:] = np.tile(np.outer(outputs.cost, link).ravel() <= best, 2)
    option = {pair: o for o, pair in enumerate(zip(owner.tolist(), metric.device_of.tolist(), strict=True))}
    rows: list[list[tuple[int, float]]] = []  # each at most 0

    def need(row: list[tuple[int | None, float]]) -> None:
        rows.append([(column, value) for column, value in row if column is not None])

    for d in range(n_devices):
        row = [(o, metric.times[o] / unit) for o in np.flatnonzero(metric.device_of == d).tolist()]
        costs = outputs.cost * link[d] / unit
        row += [*zip(received[:, d].tolist(), costs.tolist(), strict=True)]
        row += [*zip(sent[:, d].tolist(), costs.tolist(), strict=True)]
        rows.append([*row, (top, -1.0)])
    for number, (source, targets) in enumerate(zip(outputs.source.tolist(), outputs.targets, strict=True)):
        for d in np.flatnonzero(link).tolist():
            for target in targets:
                here, there = option.get((source, d)), option.get((target, d))
                need([(there, 1.0), (here, -1.0), (int(received[number, d]), -1.0)])
                need([(here, 1.0), (there, -1.0), (int(sent[number, d]), -1.0)])
    fixed = np.append(allowed == 0, False)
    cells = [(r, column, value) for r, row in enumerate(rows) for column, value in row if not fixed[column]]
    r, c, v = zip(*cells, strict=True)
    matrix = sparse.csr_array((v, (r, c)), shape=(len(rows), top + 1))
    each = sparse.csr_array((np.ones(n_options), (owner, np.arange(n_options))), shape=(space.n_decisions, top + 1))
    linear: list[Any] = [LinearConstraint(cast(Any, matrix), -np.inf, 0.0), LinearConstraint(cast(Any, each), 1.0, 1.0)]
    for limit in metric.problem.memory_limits:
        bytes_ = np.append(cast(Any, limit.metric).values / max(limit.bound, 1.0), np.zeros(top + 1 - n_options))
        linear.append(LinearConstraint(bytes_[None], -np.inf, limit.bound / max(limit.bound, 1.0)))
    return {
        "c": np.append(np.zeros(top), 1.0),
        "integrality": np.append(np.ones(top), 0),
        "bounds": cast(Any, Bounds)(np.zeros(top + 1), np.append(allowed, np.inf)),
        "constraints": linear,
    }


def size(metric: DeviceLoad) -> int:
    """Number of variables of the program."""
    return metric.space.n_options + 2 * len(metric.outputs.cost) * len(metric.link) + 1


def solve_exactly(
    metric: DeviceLoad, best: float, *, nodes: int | None = None, time_limit: float = math.inf
) -> tuple[NDArray[np.int64] | None, float]:
    """Devices of groups, where any were found, and a number that no placement's largest load is below.

    Parameters
    ----------
    metric : DeviceLoad
    best : float
        The load of a placement that is known, more than 0.
    nodes : int, optional
        Branch-and-bound nodes after which the solver stops, at the same place each time.
    time_limit : float
    """
    simple, n_options = metric.limits()[0], metric.space.n_options
    options: dict[str, float] = {"mip_rel_gap": GAP}
    if nodes is not None:
        options["node_limit"] = nodes
    if math.isfinite(time_limit):
        options["time_limit"] = max(time_limit, 1e-3)
    program, late = load_program(metric, best), time.perf_counter() + time_limit + GRACE
    found = run_interruptibly(lambda: milp(**program, options=options), lambda: time.perf_counter() >= late)
    dual = getattr(found, "mip_dual_bound", None)
    bound = simple
    if dual is not None and np.isfinite(dual):
        bound = max(simple, best / SCALE * (float(dual) - GAP * SCALE - ROUNDING * size(metric)))
    if found is None or found.x is None:
        return None, bound
    return metric.space.layout.argmax(found.x[:n_options]), bound
