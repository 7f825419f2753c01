"""Placing operators: a start from the guided search, annealing by clusters, and an exact solver for the proof."""

from __future__ import annotations

import heapq
import math
import random
import time
from collections.abc import Hashable, Iterator, Mapping
from fractions import Fraction
from typing import Any, Literal

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from cggd import Descent, Metric, Result, Status, Stop, Switches, minimize
from cggd.checks import check_choice, check_time_limit, whole
from cggd.metrics import values_of
from cggd.rounding import WHOLE
from cggd_scheduling.bounds import rounded_up
from cggd_scheduling.limits import common_step, exact, time_rounding
from cggd_scheduling.placement.anneal import LoadState, PathState, State, anneal
from cggd_scheduling.placement.bound import GAP, size, solve_exactly
from cggd_scheduling.placement.metrics import DeviceLoad, TransferPath
from cggd_scheduling.placement.problem import Placement
from cggd_scheduling.schedule import Alternative, Requirements, Schedule

Goal = Literal["load", "critical path"]

# Up to this many placements all of them are tried, which is a proof.
FEW = 20_000

# Steps of the guided start; annealing and the exact solver do the rest.
STEPS = 100

# Share of a time limit that the start may take, and of the rest that annealing may; without a limit the exact solver
# gets so many nodes.
SHARES = (0.1, 0.5)
NODES = 200

# Variables up to which the exact solver gets through its first linear program within 30 s.
LARGEST = 20_000


def place(
    problem: Placement,
    objective: Goal = "load",
    *,
    moves: int = 60_000,
    exact: bool = True,
    time_limit: float | None = None,
    seed: int = 0,
) -> Schedule:
    """Find a device for each operator, with the least largest load or the shortest critical path.

    Parameters
    ----------
    problem : Placement
    objective : {"load", "critical path"}
    moves : int
        Moves of the annealing.
    exact : bool
        Whether to look for a proof by mixed-integer programming after it; of the load only.
    time_limit : float, optional
        Seconds.
    seed : int

    Returns
    -------
    Schedule
        Its modes are the devices; `facts` has the load of each. The starts are those of a list schedule of one input,
        one operator at a time on each device, those with the longest chains behind them first.
        Where pins, kinds or memory leave no placement the reason says which of them conflict.

    Examples
    --------
    >>> from cggd_scheduling import Device, Operator
    >>> devices = [Device("gpu0", "gpu", memory=2), Device("gpu1", "gpu", memory=2), Device("cpu", link=0)]
    >>> work = {name: Operator({"gpu": 3.0, "cpu": 9.0}, memory=1, transfer=0.5) for name in "abcd"}
    >>> problem = Placement(work, [("a", "b"), ("b", "c"), ("c", "d")], devices, pins={"d": "gpu1"}, unit="ms")
    >>> schedule = place(problem)
    >>> schedule.value, schedule.modes
    (6.5, {'a': 'gpu0', 'b': 'gpu0', 'c': 'gpu1', 'd': 'gpu1'})
    """
    check_choice(objective, Goal, "objective")
    moves, seed = whole(moves, "moves", least=0), whole(seed, "seed", least=0)
    check_time_limit(time_limit)
    began = time.perf_counter()
    if conflicts := problem.conflicts():
        return _none(problem, objective, Status.INFEASIBLE, "; ".join(conflicts), began)
    limit = math.inf if time_limit is None else time_limit
    load, path = DeviceLoad(problem), TransferPath(problem)
    metric = load if objective == "load" else path
    if problem.space.n_selections <= FEW:
        best = _best_of_all(problem, metric)
        if best is None:
            tried = f"all {problem.space.n_selections} placements were tried, and none fits into the memory"
            return _none(problem, objective, Status.INFEASIBLE, tried, began)
        return _schedule(problem, metric, best, None, "", began)
    first = None if time_limit is None else SHARES[0] * limit
    how = {"improvers": [Descent(STEPS, 1), Switches(feasible=True)], "seed": seed, "time_limit": first}
    result = minimize(metric, problem.memory_limits, **how)
    if result.indices is None:
        return _none(problem, objective, result.status, _shortage(problem, result), began)
    best, reason = result.indices, ""
    bound = load.limits()[0] if objective == "load" else _path_bound(problem)
    try:
        if result.stopped is Stop.INTERRUPTED:
            raise KeyboardInterrupt
        where = load.device_of[problem.space.layout.flat(best)].tolist()
        state = LoadState(load, where) if objective == "load" else PathState(path, where)
        left = SHARES[1] * (limit - (time.perf_counter() - began))
        for found in _improved(load, state, moves, seed, left):
            best = found
        known = float(values_of(metric, best[None])[0])
        if exact and objective == "load" and known > bound and size(load) <= LARGEST:
            nodes, left = NODES if time_limit is None else None, limit - (time.perf_counter() - began)
            found, bound = solve_exactly(load, known, nodes=nodes, time_limit=left)
            best = _better(load, best, found)
    except KeyboardInterrupt:
        reason = "interrupted"
    return _schedule(problem, metric, best, bound, reason, began)


def _best_of_all(problem: Placement, metric: Metric) -> NDArray[np.int64] | None:
    rows = problem.space.enumerate()
    fits = np.ones(len(rows), dtype=bool)
    for limit in problem.memory_limits:
        fits &= limit.satisfied(limit.values(rows))
    rows = rows[fits]
    # Sums of floats in another order may round otherwise, so that the first is looked at once more.
    best_first = rows[np.argsort(values_of(metric, rows), kind="stable")]
    return next((row for row in best_first if problem.fits(problem.operator_devices(problem.space.labels(row)))), None)


def _improved(load: DeviceLoad, state: State, moves: int, seed: int, seconds: float) -> Iterator[NDArray[np.int64]]:
    """Better and better placements, by annealing from one that fits."""
    began, problem = time.perf_counter(), load.problem
    need = [sum(map(exact, problem.memory(group))) for group in problem.groups]
    option = {(g, d): i for g, d, i in _options(load)}
    found = anneal(state, load, need, random.Random(seed), moves=moves, used=lambda: _share(began, seconds))
    for devices in found:
        if devices is not None:
            yield np.array([option[g, d] for g, d in enumerate(devices.tolist())])


def _share(began: float, seconds: float) -> float:
    return 0.0 if math.isinf(seconds) else (time.perf_counter() - began) / max(seconds, 1e-9)


def _options(load: DeviceLoad) -> Iterator[tuple[int, int, int]]:
    """Group, device and local index of each option."""
    owner = load.space.layout.owner
    local = np.arange(load.space.n_options) - load.space.offsets[owner]
    return zip(owner.tolist(), load.device_of.tolist(), local.tolist(), strict=True)


def _better(load: DeviceLoad, best: NDArray[np.int64], found: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """The exact solver's placement where it truly fits and is better."""
    problem = load.problem
    if found is None or not problem.fits(problem.operator_devices(problem.space.labels(found))):
        return best
    values = values_of(load, np.array([best, found]))
    return found if values[1] < values[0] else best


def _path_bound(problem: Placement) -> float:
    """The critical path with every operator on its fastest device and no transfers."""
    fastest = {}
    for group in problem.groups:
        kinds = [device.kind for device in problem.possible(group)]
        fastest |= {op: min(problem.operators[op].times[kind] for kind in kinds) for op in group}
    length: dict[Hashable, float] = {}
    for op in nx.topological_sort(problem.graph):
        length[op] = fastest[op] + max((length[u] for u in problem.graph.predecessors(op)), default=0.0)
    return max(length.values())


def _shortage(problem: Placement, result: Result) -> str:
    rows = "; ".join(str(row) for row in result.constraints if not row.satisfied)
    return f"{result.stop_text}; the nearest placement: {rows}" if rows else result.stop_text


# -- schedules --------------------------------------------------------------------------------------------------------


def _none(problem: Placement, objective: str, status: Status, reason: str, began: float) -> Schedule:
    seconds = time.perf_counter() - began
    needs = requirements(problem, {})
    return Schedule(needs, {}, {}, status=status, objective=objective, reason=reason, seconds=seconds)


def _schedule(
    problem: Placement, metric: Metric, best: NDArray[np.int64], bound: float | None, reason: str, began: float
) -> Schedule:
    """The schedule of the best placement; without a bound there is no better one."""
    where = problem.operator_devices(problem.space.labels(best))
    loads = problem.loads(where)
    needs = requirements(problem, where)
    value = max(loads.values()) if metric.name == "load" else float(values_of(metric, best[None])[0])
    if bound is None:
        bound, proof = value, "no placement can be better"
    else:
        bound, proof = _proof(problem, metric.name, value, bound)
    facts: dict[str, Any] = {f"load {name}": round(load, 6) for name, load in loads.items()}
    return Schedule(
        needs,
        list_schedule(needs, where),
        where,
        lanes=where,
        status=Status.OPTIMAL if proof else Status.FEASIBLE,
        objective=metric.name,
        value=value,
        bound=bound if bound > 0 or proof else None,
        reason=reason or proof,
        facts=facts,
        seconds=time.perf_counter() - began,
    ).verify()


def _proof(problem: Placement, objective: str, value: float, bound: float) -> tuple[float, str]:
    """Return the bound, and what it proves of a value; an empty text if it proves nothing.

    All values are multiples of one decimal step, the common step of times and transfers. If the solver can resolve this
    step, its bound is rounded up to it. If only floats can resolve it, the bound proves nothing. If floats cannot, as
    with measured times, the proof says by what share another placement may still be better.
    """
    times = {time for operator in problem.operators.values() for time in operator.times.values()}
    shares = {Fraction(repr(device.link)) for device in problem.devices}
    costs = {Fraction(repr(operator.transfer)) for operator in problem.operators.values()}
    sent = (cost * share for cost in costs for share in shares)
    step = common_step([*(Fraction(repr(time)) for time in times), *sent])
    if step and value / step < 1 / (4 * GAP):
        bound = max(bound, float(rounded_up(bound, step)))
    elif objective == "load" and bound < value <= bound * (1 + 4 * GAP) and not (step and value / step < WHOLE):
        return bound, f"no placement is better by more than {1 - bound / value:.0e} of it"
    rounding = time_rounding(value, 2 * len(problem.operators))
    return min(bound, value), "no placement can be better" if value <= bound + rounding else ""


def requirements(problem: Placement, where: Mapping[Hashable, str]) -> Requirements:
    """What a schedule of one input must meet, given the device of each operator."""
    link = {device.name: device.link for device in problem.devices}
    tasks = {}
    for name, operator in problem.operators.items():
        tasks[name] = {
            device.name: Alternative(
                operator.times[device.kind], {device.name: 1, f"memory of {device.name}": operator.memory}
            )
            for device in problem.devices
            if device.kind in operator.times
        }
    lags = {
        (u, v): problem.operators[u].transfer * (link[where[u]] + link[where[v]])
        for u, v in problem.edges
        if where and where[u] != where[v]
    }
    budgets: dict[Hashable, float] = {
        f"memory of {d.name}": d.memory for d in problem.devices if math.isfinite(d.memory)
    }
    return Requirements(tasks, problem.edges, lags, {d.name: 1 for d in problem.devices}, budgets, unit=problem.unit)


def list_schedule(needs: Requirements, where: Mapping[Hashable, str]) -> dict[Hashable, float]:
    """Start of each task, one at a time on each device; of those that are ready, the longest chain behind first."""
    graph = nx.DiGraph()
    graph.add_nodes_from(needs.tasks)
    graph.add_edges_from(needs.precedence)
    duration = {task: modes[where[task]].duration for task, modes in needs.tasks.items()}
    tail: dict[Hashable, float] = {}
    for task in reversed(list(nx.topological_sort(graph))):
        tail[task] = duration[task] + max((needs.lags.get((task, v), 0) + tail[v] for v in graph[task]), default=0)
    waiting = {task: graph.in_degree(task) for task in graph}
    free, start = dict.fromkeys(where.values(), 0.0), {}
    number = {task: n for n, task in enumerate(graph)}
    ready = [(0.0, -tail[task], number[task], task) for task in graph if not waiting[task]]
    heapq.heapify(ready)
    while ready:
        _, _, _, task = heapq.heappop(ready)
        arrivals = [start[u] + duration[u] + needs.lags.get((u, task), 0) for u in graph.pred[task]]
        start[task] = max([free[where[task]], *arrivals])
        free[where[task]] = start[task] + duration[task]
        for v in graph[task]:
            waiting[v] -= 1
            if not waiting[v]:
                arrival = max(start[u] + duration[u] + needs.lags.get((u, v), 0) for u in graph.pred[v])
                heapq.heappush(ready, (arrival, -tail[v], number[v], v))
    return start


Placement.solve = place
