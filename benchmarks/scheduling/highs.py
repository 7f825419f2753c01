"""HiGHS on the whole mixed-integer program: modes, units and placements, which are linear without start times."""

from __future__ import annotations

from typing import Any

from benchmarks.scheduling import greedy
from benchmarks.scheduling.cases import Answer, Case
from benchmarks.scheduling.decode import Decoder
from cggd import Problem
from cggd.program.highs import LinearProgram
from cggd_scheduling.hls import Synthesis


def solve(case: Case, *, seed: int, seconds: float) -> Answer | None:
    if case.goal == "load":
        placement = case.problem
        # The program is scaled by the load of the priority rule.
        known = greedy.solve(case, seed=seed, seconds=seconds)
        ceiling = None if known is None else case.value(known)
        program = LinearProgram(placement.space, placement.memory_limits, placement.load, ceiling=ceiling)
        found = program.solve(time_limit=seconds)
        if found.selection is None:
            return None
        return Answer(placement.operator_devices(placement.space.labels(found.selection)), bound=found.bound)
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
