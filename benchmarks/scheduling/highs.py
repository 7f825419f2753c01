"""HiGHS on the whole mixed-integer program: for what is linear without times, that is all but sharing and machines."""

from __future__ import annotations

from typing import Any

from scipy.optimize import milp

from benchmarks.scheduling import greedy
from benchmarks.scheduling.cases import Answer, Case
from benchmarks.scheduling.decode import Decoder
from cggd import Problem
from cggd.program.highs import LinearProgram
from cggd_scheduling.hls import Synthesis
from cggd_scheduling.placement import DeviceLoad
from cggd_scheduling.placement.bound import SCALE, load_program


def solve(case: Case, *, seed: int, seconds: float) -> Answer | None:
    if case.goal == "load":
        metric = DeviceLoad(case.problem)
        options = {"time_limit": seconds, "mip_rel_gap": 1e-6}
        # The program is scaled by a load that is known: that of the priority rule, or else of all operators in a row.
        known = greedy.solve(case, seed=seed, seconds=seconds)
        scale = float(metric.times.sum()) if known is None else case.value(known)
        found = milp(**load_program(metric, scale), options=options)
        if found.x is None:
            return None
        space = metric.space
        labels = space.labels(space.layout.argmax(found.x[: space.n_options]))
        return Answer(case.problem.operator_devices(labels), bound=scale / SCALE * found.mip_dual_bound)
    problem = _linear(case)
    solution = LinearProgram(problem.space, problem.constraints, problem.objective).solve(time_limit=seconds)
    if solution.selection is None:
        return None
    modes: Any = problem.space.labels(solution.selection)
    return Answer(modes, Decoder(case).schedule(modes, dict.fromkeys(modes, 0)), solution.bound)


def _linear(case: Case) -> Problem:
    if isinstance(case.problem, Synthesis):
        assert case.needs is not None
        return Problem(case.problem.total(case.objective), [case.problem.latency <= case.needs.deadline])
    return Problem(case.problem.critical_path, case.problem.constraints)
