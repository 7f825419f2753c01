"""pymoo's biased random-key genetic algorithm (Goncalves & Resende, 2011): keys for modes, priorities and copies."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.soo.nonconvex.brkga import BRKGA
from pymoo.core.problem import ElementwiseProblem
from pymoo.termination import get_termination

from benchmarks.scheduling.cases import Answer, Case
from benchmarks.scheduling.decode import Decoder
from cggd_scheduling.placement import Placement

# Cost of a violation: more than any value; larger violations cost more.
PENALTY = 1e9

Decode = Callable[[NDArray[np.float64]], tuple[float, Answer | None]]


def solve(case: Case, *, seed: int, seconds: float) -> Answer | None:
    until = time.perf_counter() + seconds
    n_keys, decode = _placing(case.problem) if case.goal == "load" else _scheduling(case)
    best: list[tuple[float, Answer]] = []

    class Keys(ElementwiseProblem):
        def __init__(self) -> None:
            super().__init__(n_var=n_keys, n_obj=1, xl=0.0, xu=1.0)

        def _evaluate(self, x: NDArray, out: dict[str, Any], *args: object, **kwargs: object) -> None:
            if time.perf_counter() >= until:
                out["F"] = 2 * PENALTY
                return
            out["F"], answer = decode(x)
            if answer is not None and (not best or out["F"] < best[-1][0]):
                best.append((out["F"], answer))

    algorithm = BRKGA(n_elites=20, n_offsprings=60, n_mutants=20, bias=0.7, eliminate_duplicates=False)
    algorithm.setup(Keys(), termination=get_termination("n_gen", np.inf), seed=seed)
    while time.perf_counter() < until and algorithm.has_next():
        algorithm.next()
    return best[-1][1] if best else None


def _pick(options: list[Any], key: float) -> Any:
    return options[min(int(key * len(options)), len(options) - 1)]


def _scheduling(case: Case) -> tuple[int, Decode]:
    decoder = Decoder(case)
    needs = decoder.needs
    tasks, n = list(needs.tasks), len(needs.tasks)
    ways = {task: list(modes) for task, modes in needs.tasks.items()}
    units = sorted({mode for modes in needs.tasks.values() for mode in modes}, key=str) if case.goal == "copies" else []
    most = {unit: sum(unit in modes for modes in needs.tasks.values()) for unit in units}

    def decode(keys: NDArray[np.float64]) -> tuple[float, Answer | None]:
        modes: dict[Hashable, Hashable] = {task: _pick(ways[task], keys[i]) for i, task in enumerate(tasks)}
        priority = dict(zip(tasks, keys[n : 2 * n].tolist(), strict=True))
        if (excess := decoder.excess(modes)) > 0:
            return PENALTY * (1 + excess), None
        copies = {unit: 1 + int(keys[2 * n + i] * most[unit]) for i, unit in enumerate(units)} if units else None
        start = decoder.schedule(modes, priority, copies)
        makespan = decoder.makespan(modes, start)
        if case.goal == "makespan":
            return float(makespan), Answer(modes, start)
        if makespan > needs.deadline:
            return PENALTY * (1 + makespan / needs.deadline), None
        return case.value(answer := Answer(modes, start)), answer

    return 2 * n + len(units), decode


def _placing(problem: Placement) -> tuple[int, Decode]:
    options = [[device.name for device in problem.possible(group)] for group in problem.groups]

    def decode(keys: NDArray[np.float64]) -> tuple[float, Answer | None]:
        where: dict[Hashable, Hashable] = {}
        for group, devices, key in zip(problem.groups, options, keys.tolist(), strict=True):
            where |= dict.fromkeys(group, _pick(devices, key))
        excess = 0.0
        for device in problem.devices:
            taken = sum(problem.operators[op].memory for op, there in where.items() if there == device.name)
            excess += max(0.0, taken - device.memory) / max(device.memory, 1.0)
        if excess > 0:
            return PENALTY * (1 + excess), None
        return max(problem.loads(where).values()), Answer(where)

    return len(options), decode
