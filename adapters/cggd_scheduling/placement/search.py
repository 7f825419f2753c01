"""Search for placements: the core's search with switches and moves of clusters, then exact solvers."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from typing import Any, Literal

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from cggd import Descent, Finding, Improver, Metric, Problem, Result, Status, Stop, Switches, minimize
from cggd.budget import Budget
from cggd.checks import check_choice, check_time_limit, whole
from cggd.improve.enumerate import Enumerate
from cggd.improve.multipliers import Multipliers
from cggd.improve.presolve import Presolve
from cggd.incumbent import Incumbent
from cggd.metrics import values_of
from cggd.program.highs import LinearProgram, Outcome, Solution
from cggd.program.settle import PRECISION
from cggd.rounding import WHOLE
from cggd_scheduling.bounds import rounded_up
from cggd_scheduling.cp_sat import MISSING, MIXED, MODES, NEIGHBOURHOODS, available
from cggd_scheduling.limits import common_step, time_rounding
from cggd_scheduling.list_scheduler import ListScheduler
from cggd_scheduling.placement.cp_sat import CpSat
from cggd_scheduling.placement.problem import Placement
from cggd_scheduling.placement.segments import Segments
from cggd_scheduling.schedule import Alternative, Requirements, Schedule

Goal = Literal["load", "critical path"]

# Up to this many placements, all of them are tried, which proves the best.
FEW = 20_000

# Steps of the descent that starts the search, and of the tabu search after it.
STEPS, MOVES = 100, 6_000

# Share of the time left for `Segments`.
SEGMENT_SHARE = 0.1

# Shares of the time left for the tabu search, the linear program and CP-SAT. HiGHS gets the rest, or NODES nodes
# without a time limit; it proves the load of BERT-3 in 4 s. It may end GRACE seconds after its time limit.
# On the 600 operators of resnet50, in 7 s, CP-SAT with neighbourhoods went from 136.7 to 126.3, without to 135.2.
TABU_SHARE, LINEAR_SHARE, CP_SAT_SHARE = 0.2, 0.2, 0.5
NODES, GRACE = 200, 0.2

# If the best load is more than HOPELESS times the bound, HiGHS would not prove it, and CP-SAT runs instead. For BERT-3
# the load is 1.3 times the bound of the linear program, for the operators of resnet50 2.6 times.
HOPELESS = 1.6

# Most options for HiGHS, which then solves its first linear program within 30 s. CP-SAT accepts more.
LARGEST = 2_000


def place(
    problem: Placement,
    objective: Goal = "load",
    *,
    moves: int = MOVES,
    exact: bool = True,
    time_limit: float | None = None,
    seed: int = 0,
    workers: int | None = None,
) -> Schedule:
    """Choose a device for each operator, with the least maximum load or the shortest critical path.

    Parameters
    ----------
    problem : Placement
    objective : {"load", "critical path"}
    moves : int
        Steps of the tabu search.
    exact : bool
        Whether to look for a proof after the tabu search; only for the load.
    time_limit : float, optional
        Seconds.
    seed : int
    workers : int, optional
        Threads of CP-SAT with a time limit; by default as many as there are cores.

    Returns
    -------
    Schedule
        Its modes are the devices; `facts` has the load of each. The start times are a list schedule of one input, with
        one operator at a time on each device, longest tail first. If pins, kinds or memory allow no placement, the
        reason names those that conflict.

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
    budget = Budget(time_limit)
    if conflicts := problem.conflicts():
        return _none(problem, objective, Status.INFEASIBLE, "; ".join(conflicts), budget)
    load, path = problem.load, problem.critical_path
    metric = load if objective == "load" else path
    exactly = exact and objective == "load" and problem.space.n_options <= MODES
    linear = exactly and problem.space.n_options <= LARGEST
    improvers = [
        Presolve(),
        Enumerate(FEW),
        Part(Segments(load), SEGMENT_SHARE),
        Descent(STEPS, 1, share=0.1),
        Part(Switches(feasible=True), 0.5),
        Part(Switches(), TABU_SHARE if exactly else 1.0, moves),
        Packing(),
        *(
            [
                Part(Multipliers(), LINEAR_SHARE),
                Part(CpSat(load, workers, NEIGHBOURHOODS), CP_SAT_SHARE),
                MixedInteger(_settles(problem)),
            ]
            if linear
            else []
        ),
        *(
            [CpSat(load, workers, MIXED)] if exactly and (budget.limited or not linear) else []
        ),  # where HiGHS did not try
    ]
    result = minimize(metric, problem.memory_limits, improvers=improvers, seed=seed, time_limit=time_limit)
    if result.indices is None:
        return _none(problem, objective, result.status, _shortage(problem, result), budget)
    lowest = load.limits()[0] if objective == "load" else _path_bound(problem)
    bound = max(lowest, -math.inf if result.bound is None else result.bound)
    missing = MISSING if exactly and not available() else ""
    reason = "interrupted" if result.stopped is Stop.INTERRUPTED else missing
    return _schedule(problem, metric, result.indices, bound, reason, budget)


@dataclass(frozen=True)
class Part:
    """An improver that is limited to a share of the time left and to a number of steps."""

    improver: Improver
    share: float
    steps: int | None = None

    def suits(self, problem: Problem) -> bool:
        """Whether the improver can work on a problem."""
        return self.improver.suits(problem)

    def improve(
        self, problem: Problem, incumbent: Incumbent, budget: Budget, rng: np.random.Generator
    ) -> Iterator[Finding | None]:
        """Yield the findings of the improver."""
        return islice(self.improver.improve(problem, incumbent, budget.part(share=self.share), rng), self.steps)


class Packing:
    """If the search found no placement within the memory limits: look for any, or prove that there is none (HiGHS)."""

    def suits(self, problem: Problem) -> bool:
        """Always: memory limits are linear."""
        return True

    def improve(
        self, problem: Problem, incumbent: Incumbent, budget: Budget, rng: np.random.Generator
    ) -> Iterator[Finding | None]:
        """Yield a placement or a proof; nothing if a placement is known."""
        if incumbent.selection is None:
            found = _solved(LinearProgram(problem.space, problem.constraints), budget)
            if found.outcome is Outcome.INFEASIBLE:
                yield Finding(proof="proved by mixed-integer programming (HiGHS)")
            elif found.selection is not None:
                yield Finding(found.selection)


@dataclass(frozen=True)
class MixedInteger:
    """The problem as one mixed-integer program (HiGHS), unless the known bound is already a proof."""

    settles: Callable[[float, float], bool]

    def suits(self, problem: Problem) -> bool:
        """Always: placements have a linear form."""
        return True

    def improve(
        self, problem: Problem, incumbent: Incumbent, budget: Budget, rng: np.random.Generator
    ) -> Iterator[Finding | None]:
        """Yield the placement and bound of the solver, within the time limit or `NODES`."""
        cost, bound = incumbent.cost, -math.inf if incumbent.bound is None else incumbent.bound
        hopeless = budget.limited and cost > HOPELESS * bound > 0
        if incumbent.selection is None or hopeless or self.settles(cost, bound):
            return
        ceiling = incumbent.cost * (1 + PRECISION)
        found = _solved(LinearProgram(problem.space, problem.constraints, problem.objective, ceiling=ceiling), budget)
        bound = min(found.bound, incumbent.cost)
        error = None if found.outcome is Outcome.STOPPED else 0.0
        yield Finding(found.selection, bound if math.isfinite(bound) else None, error=error)


def _solved(program: LinearProgram, budget: Budget) -> Solution:
    """Solution of HiGHS within the time left, or within `NODES` without a time limit."""
    limits: dict[str, Any] = {"time_limit": budget.left} if budget.limited else {"node_limit": NODES}
    return program.solve(**limits, stop=Budget(budget.left + GRACE if budget.limited else None).over)


def _settles(problem: Placement) -> Callable[[float, float], bool]:
    return lambda value, bound: bool(_proof(problem, "load", value, bound)[1])


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
    reason = f"no placement fits into the memory: {result.stop_text}"
    return f"{reason}; the nearest placement: {rows}" if rows else reason


# -- schedules --------------------------------------------------------------------------------------------------------


def _none(problem: Placement, objective: str, status: Status, reason: str, budget: Budget) -> Schedule:
    needs, seconds = requirements(problem, {}), budget.seconds
    return Schedule(needs, {}, {}, status=status, objective=objective, reason=reason, seconds=seconds)


def _schedule(
    problem: Placement, metric: Metric, best: NDArray[np.int64], bound: float, reason: str, budget: Budget
) -> Schedule:
    """Make the schedule of a placement."""
    where = problem.operator_devices(problem.space.labels(best))
    loads = problem.loads(where)
    needs = requirements(problem, where)
    value = max(loads.values()) if metric.name == "load" else float(values_of(metric, best[None])[0])
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
        reason=proof or reason,
        facts=facts,
        seconds=budget.seconds,
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
    if step and value / step < 1 / (2 * PRECISION):
        bound = max(bound, float(rounded_up(bound, step)))
    elif objective == "load" and bound < value <= bound * (1 + 2 * PRECISION) and not (step and value / step < WHOLE):
        return bound, f"no placement is better by more than {1 - bound / value:.0e} of it"
    rounding = time_rounding(value, 2 * len(problem.operators))
    return min(bound, value), "no placement can be better" if value <= bound + rounding else ""


def requirements(problem: Placement, where: Mapping[Hashable, str]) -> Requirements:
    """Requirements on a schedule of one input, for given devices."""
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


def list_schedule(needs: Requirements, where: Mapping[Hashable, str]) -> dict[Hashable, Any]:
    """Start of each task, one at a time on each device; of the ready tasks, that with the longest tail first."""
    chosen = {task: {where[task]: modes[where[task]]} for task, modes in needs.tasks.items()}
    scheduler = ListScheduler(replace(needs, tasks=chosen, budgets={}))
    found = scheduler.schedule({task: -tail for task, tail in scheduler.tail.items()})
    assert found is not None  # there are no budgets and no longest lags
    return {task: found[0][task] for task in needs.tasks}


Placement.solve = place
