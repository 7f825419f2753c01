"""Synthesis: units without sharing by the core's search, and shared copies by decomposition.

Sharing alternates between two problems (logic-based Benders decomposition; Hooker & Ottosson, 2003). The *master*
chooses the best numbers of copies under conditions that every schedule satisfies. These are linear, so the core solves
the master exactly. The *list scheduler* then looks for a schedule on these copies. If it finds none, the master gets a
cut: more copies of at least one unit. The first solution of the master is a bound on every schedule. CP-SAT then
improves schedule and bound.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from cggd import Constraint, Descent, Metric, Result, Status, minimize, portfolio
from cggd.budget import Budget
from cggd.checks import as_number, check_choice, check_time_limit, whole
from cggd.rounding import true_texts
from cggd.space import few
from cggd_scheduling.bounds import rounded_to
from cggd_scheduling.cp_sat import MAKESPAN, MISSING, Goal, Model, available, improve
from cggd_scheduling.hls.binding import Binding
from cggd_scheduling.hls.limits import Limits
from cggd_scheduling.hls.list_scheduler import Listed, ListScheduler
from cggd_scheduling.hls.master import Master
from cggd_scheduling.hls.problem import Synthesis
from cggd_scheduling.limits import exceeds
from cggd_scheduling.modes import explained
from cggd_scheduling.schedule import Alternative, Requirements, Schedule

Objective = Literal["area", "power", "latency"]

# Steps and starts of the descent before the core's exact solver; more of them do not improve the result.
STEPS, STARTS = 100, 1

# The resource whose use is the power of all operations.
POWER = ("power",)

# Relative resolution of the bisection for latencies that are not whole numbers.
RESOLUTION = 1e-3


def synthesize(
    problem: Synthesis,
    objective: Objective = "area",
    *,
    latency: Any = None,
    area: float | None = None,
    power: float | None = None,
    copies: Mapping[str, int] | None = None,
    share: bool = True,
    rounds: int = 200,
    tries: int = 10,
    time_limit: float | None = None,
    seed: int = 0,
    workers: int | None = None,
) -> Schedule:
    """Choose a unit for each operation, the copies of the units, and start times.

    Parameters
    ----------
    problem : Synthesis
    objective : {"area", "power", "latency"}
        What to minimise.
    latency, area, power : number, optional
        Upper bounds.
    copies : mapping of unit to int, optional
        Most copies of a unit; only with `share`.
    share : bool
        Whether operations may share copies. Otherwise each has its own copy.
    rounds : int
        Most solutions of the master that are tried.
    tries : int
        Random tries of the list scheduler for each.
    time_limit : float, optional
        Seconds.
    seed : int
    workers : int, optional
        Threads of CP-SAT with a time limit; by default as many as there are cores. CP-SAT proves optima of shared
        copies, and needs OR-tools (``cggd[scheduling]``).

    Returns
    -------
    Schedule
        Its modes are units, its lanes copies; `facts` has area, power, latency and the numbers of copies. If it is
        infeasible, the reason says why: for a latency that is too small, it has the least one and the longest chain.

    Examples
    --------
    >>> from cggd_scheduling import DataFlowGraph, FunctionalUnit, UnitLibrary
    >>> graph = DataFlowGraph({"p": "MUL", "q": "MUL", "s": "ADD"}, [("p", "s"), ("q", "s")], name="dot")
    >>> fast, slow = FunctionalUnit("MUL", 100, 10, 46), FunctionalUnit("MUL", 41, 20, 23)
    >>> problem = Synthesis(graph, UnitLibrary([fast, slow, FunctionalUnit("ADD", 10, 1, 15)]))
    >>> schedule = synthesize(problem, latency=21)
    >>> schedule.value, schedule.modes
    (92, {'p': 'MUL@20', 'q': 'MUL@20', 's': 'ADD@1'})
    >>> synthesize(problem, latency=41).value
    51
    >>> print(synthesize(problem, latency=10).reason)
    latency 10 cannot be met: the fastest units take 11, along 'p', 's'
    """
    check_choice(objective, Objective, "objective")
    given = {"latency": latency, "area": area, "power": power}
    for name, value in list(given.items()):
        if value is not None:
            number = as_number(value, name, finite=False)
            given[name] = int(number) if number.is_integer() else value  # whole times stay whole
    copies = {name: whole(n, f"copies of {name!r}", least=0) for name, n in (copies or {}).items()}
    if unknown := [name for name in copies if name not in problem.unit]:
        raise ValueError(f"copies names {unknown[0]!r}, which is no unit of the graph; there are {few(problem.unit)}")
    if copies and not share:
        raise ValueError("copies needs share=True: without sharing, each operation has a copy of its own")
    limits = Limits(**{name: value for name, value in given.items() if value is not None}, copies=copies)
    check_time_limit(time_limit)
    effort = Effort(
        rounds=whole(rounds, "rounds", least=1),
        tries=whole(tries, "tries", least=0),
        seconds=math.inf if time_limit is None else time_limit,
        seed=whole(seed, "seed", least=0),
        workers=workers,
    )
    return _Search(problem, objective, limits, share, effort).run()


@dataclass(frozen=True)
class Effort:
    """Limits of the search and its seed; see `synthesize`."""

    rounds: int
    tries: int
    seconds: float
    seed: int
    workers: int | None


class _Search:
    """The state of a search: the best schedule, a bound, and a proof of infeasibility."""

    def __init__(self, problem: Synthesis, objective: Objective, limits: Limits, share: bool, effort: Effort) -> None:
        self.problem, self.objective, self.limits, self.share = problem, objective, limits, share
        self.effort, self.budget = effort, Budget(None if math.isinf(effort.seconds) else effort.seconds)
        self.scheduler = ListScheduler(problem, random.Random(effort.seed), effort.tries)
        self.best: Binding | None = None
        self.bound: float | None = None
        self.proof: str | None = None  # why no schedule keeps the limits
        self.stopped = ""

    def run(self) -> Schedule:
        least, asked = self.problem.least_latency, self.limits.latency
        if least > asked + self.problem.timing.rounding(least):
            path = ", ".join(map(repr, self.problem.critical_path()))
            given, needed = true_texts(asked, least)
            self.proof = f"latency {given} cannot be met: the fastest units take {needed}, along {path}"
        elif not self.problem.graph.operations:
            self.bound = 0.0
            self._keep(Listed({}, {}, 0.0))
            self.proof = f"nothing is to be built, which takes 0 of everything; asked is {self.limits}"
        else:
            try:
                self._search(least)
            except KeyboardInterrupt:
                self.stopped = "interrupted"
        return self._schedule()

    def _search(self, least: Any) -> None:
        if not self.share:
            return self._unshared()
        if self.objective == "latency":
            self._shortest(least)
        else:
            # All operations in sequence on the slowest units take this long, so it restricts nothing.
            self._share(replace(self.limits, latency=min(self.limits.latency, self._longest())))
        if self.best is None and self.proof is not None:
            self.proof = f"no schedule has {self.limits}{self._least()}: {self.proof}"

    def _least(self) -> str:
        """Text on which of area and power is too small under the other bounds, and the least value proved."""
        found, limits = "", self.limits
        for name in ("area", "power"):
            free = replace(limits, **{name: math.inf})
            master = Master(self.problem, name, free)
            least = master.solve([], seed=self.effort.seed).bound
            if least is not None and math.isfinite(least) and least > getattr(limits, name):
                found += f"; the others ask for {name} {true_texts(least, getattr(limits, name))[0]} at the least"
        return found

    # -- a copy for each operation ------------------------------------------------------------------------------------

    def _unshared(self) -> None:
        problem = self.problem
        metrics: dict[str, Metric] = {"latency": problem.latency, **{n: problem.total(n) for n in ("area", "power")}}
        limits = [metric <= getattr(self.limits, n) for n, metric in metrics.items() if n != self.objective]
        left = max(self.budget.left, 1e-3) if self.budget.limited else None
        improvers = portfolio(Descent(STEPS, STARTS))
        how = {"seed": self.effort.seed, "improvers": improvers, "time_limit": left}
        result = minimize(metrics[self.objective], limits, **how)
        self.bound, self.stopped = result.bound, "" if result.status is Status.OPTIMAL else result.stop_text
        self.proof = explained(result, result.stop_text, limits) if result.status is Status.INFEASIBLE else None
        if result.selection is None:
            return
        unit: dict[Hashable, str] = {op: str(name) for op, name in result.selection.items()}
        delay = {op: problem.delay(problem.unit[name]) for op, name in unit.items()}
        start: dict[Hashable, Any] = {}
        for op in problem.order:
            ready = max((start[u] + delay[u] for u in problem.graph.graph.predecessors(op)), default=0)
            start[op] = problem.timing.start(ready, delay[op])
        self._keep(Listed(start, unit, sum(problem.unit[name].power for name in unit.values())))

    # -- shared copies ------------------------------------------------------------------------------------------------

    def _shortest(self, least: Any) -> None:
        """The least latency under limits on area and power, by bisection over deadlines."""
        delays = [self.problem.delay(unit) for unit in self.problem.unit.values()]
        whole_numbers = all(isinstance(delay, int) for delay in delays)
        low, high = least, self._longest()
        self.bound = least
        if not self._share(replace(self.limits, latency=high)):
            return
        self._prove(self.limits)
        while self.best is not None and not self._optimal() and not self._over():
            high = self.best.latency
            if low >= high or (not whole_numbers and high - low <= RESOLUTION * high):
                return
            tried = (low + high) // 2 if whole_numbers else (low + high) / 2
            if not self._share(replace(self.limits, latency=tried)):
                low = tried + 1 if whole_numbers else tried
                if self.proof is not None:
                    self.bound, self.proof = max(self.bound, low), None

    def _longest(self) -> Any:
        """Latency of all operations one after another on their slowest units; no schedule needs more."""
        problem = self.problem
        slowest = (max(problem.delay(unit) for unit in problem.units[op]) for op in problem.order)
        return sum(problem.timing.occupied(0, delay)[1] for delay in slowest)

    def _share(self, limits: Limits) -> bool:
        """Look for the best schedule within limits; returns whether a better one was found."""
        limits = replace(limits, latency=self.problem.timing.within(limits.latency))
        aim = "area" if self.objective == "latency" else self.objective
        master = Master(self.problem, aim, limits)
        first = master.solve([], seed=self.effort.seed)
        if aim == self.objective:
            self.bound = first.bound
        if first.status is Status.INFEASIBLE:
            self.proof = first.note
            return False
        before = self.best
        if not master.with_power:
            self._decompose(master, first, limits)
        else:
            self._begin(master.chosen(first) if first.selection is not None else {}, limits)
            self._climb(limits)
        if aim == self.objective and not self._optimal():
            self._prove(limits)
        return self.best is not before

    def _decompose(self, master: Master, result: Result, limits: Limits) -> None:
        """Solve the master and run the list scheduler in turns, with cuts, until there is a schedule."""
        cuts: list[Constraint] = []
        for _ in range(self.effort.rounds):
            settled = self.objective == "area" and self.best is not None and result.value is not None
            if result.selection is None or (settled and self._reaches(result.value)):
                return
            copies, less = master.copies(result), self.objective != "latency"
            if listed := self.scheduler.fit(copies, limits.latency, limits.power, power=less):
                self._keep(listed)
                return
            if self._over():
                return
            cuts.append(master.more_than(self._enlarged(copies, limits)))
            result = master.solve(cuts, seed=self.effort.seed)

    def _enlarged(self, copies: Mapping[str, int], limits: Limits) -> dict[str, int]:
        """More copies on which the list scheduler finds no schedule either, for a stronger cut."""
        grown, allowed = dict(copies), self._most()
        names = list(grown)
        self.scheduler.rng.shuffle(names)
        for name in names:
            most = allowed[name]
            step = max(1, most - grown[name])
            while step and grown[name] < most and not self._over():
                tried = {**grown, name: min(grown[name] + step, most)}
                listed = self.scheduler.fit(tried, limits.latency, limits.power)
                if listed is None:
                    grown = tried
                else:
                    self._keep(listed)
                    step //= 2
        return grown

    def _begin(self, unit: Mapping[Hashable, str], limits: Limits) -> None:
        """Find schedules for `_climb` to start from: with the master's units, and with the least area."""
        ample = self._most()
        for preferred in (unit, {}):
            if listed := self.scheduler.fit(ample, limits.latency, limits.power, power=True, preferred=preferred):
                self._keep(listed)
        smallest = Master(self.problem, "area", replace(limits, power=math.inf))
        self._decompose(smallest, smallest.solve([], seed=self.effort.seed), limits)

    def _climb(self, limits: Limits) -> None:
        """Local search over numbers of copies: one more, one less, or one in exchange for another."""
        seen: set[tuple[int, ...]] = set()
        names, allowed = list(self.problem.unit), self._most()
        while (best := self.best) is not None:
            steps = [{a: -1} for a in names] + [{a: 1} for a in names]
            steps += [{a: -1, b: 1} for a in names for b in names if a != b]
            self.scheduler.rng.shuffle(steps)
            for step in steps:
                copies = {name: best.copies.get(name, 0) + step.get(name, 0) for name in names}
                key, area = tuple(copies.values()), self.problem.area(copies)
                worse = area >= best.area if self.objective == "area" else area > limits.area
                over = any(n > allowed[name] for name, n in copies.items())
                if min(key) < 0 or over or key in seen or worse or self._over():
                    continue
                seen.add(key)
                if listed := self.scheduler.fit(copies, limits.latency, limits.power, power=True):
                    self._keep(listed)
                if self.best is not best:
                    break
            else:
                return

    def _prove(self, limits: Limits) -> None:
        """Let CP-SAT look for a better schedule, a better bound, or a proof of infeasibility."""
        problem, best = self.problem, self.best
        if problem.chain or self._over():
            return
        needs = _with_power(problem.requirements(self._most(), limits.latency), problem, limits.power)
        goals = {
            "area": Goal("area", lambda _: self._value(best), Model.price),
            "power": Goal("power", lambda schedule: schedule.used(POWER), lambda model: model.use(POWER)),
            "latency": MAKESPAN,
        }
        answer = improve(
            needs,
            goals[self.objective],
            self.budget,
            known=None if best is None else Schedule(needs, best.listed.start, best.listed.unit),
            bound=self._rounded(),
            prices={name: unit.area for name, unit in problem.unit.items()},
            price_limit=limits.area,
            seed=self.effort.seed,
            workers=self.effort.workers,
        )
        if answer is None:
            return
        if answer.start:
            power = sum(problem.unit[str(name)].power for name in answer.modes.values())
            self._keep(Listed(answer.start, {op: str(name) for op, name in answer.modes.items()}, power))
        if answer.infeasible and best is None:
            self.proof = "proved by CP-SAT"
        if math.isfinite(answer.bound):
            self.bound = max(answer.bound, -math.inf if self.bound is None else self.bound)
        if answer.interrupted:
            raise KeyboardInterrupt

    def _most(self) -> dict[str, int]:
        """Most copies of each unit."""
        count = list(self.problem.graph.operations.values()).count
        limits = self.limits.copies
        return {n: min(count(u.kind), limits.get(n, len(self.problem.order))) for n, u in self.problem.unit.items()}

    # -- what is known ------------------------------------------------------------------------------------------------

    def _value(self, found: Binding | None) -> Any:
        return math.inf if found is None else getattr(found, self.objective)

    def _keep(self, listed: Listed) -> None:
        """Keep a schedule if it satisfies the limits and is better than the best."""
        found = Binding(self.problem, listed, self.share)
        if self.limits.met(found) and self._value(found) < self._value(self.best):
            self.best = found

    def _over(self) -> bool:
        if not self.budget.over():
            return False
        self.stopped = "time limit"
        return True

    def _rounded(self) -> Any:
        """The bound, rounded up to a multiple of the decimal step of areas or powers."""
        if self.bound is None or self.objective == "latency":
            return self.bound
        return rounded_to(self.bound, [getattr(unit, self.objective) for unit in self.problem.unit.values()])

    def _reaches(self, bound: Any) -> bool:
        """Whether the value of the best schedule is at most a bound, up to rounding."""
        best = self.best
        if best is None:
            return False
        if self.objective == "latency":
            return best.latency <= bound + self.problem.timing.rounding(best.latency)
        return not exceeds(getattr(best, f"{self.objective}s"), bound)

    def _optimal(self) -> bool:
        bound = self._rounded()
        return bound is not None and self._reaches(bound)

    def _schedule(self) -> Schedule:
        """The best schedule, with all requirements checked again; or why there is none."""
        problem, best = self.problem, self.best
        deadline = None if math.isinf(self.limits.latency) else self.limits.latency
        seconds = self.budget.seconds
        if best is None:
            status = Status.UNKNOWN if self.proof is None else Status.INFEASIBLE
            reason = self.proof or f"no schedule that meets the bounds was found{self.stopped and ': ' + self.stopped}"
            needs = problem.requirements({}, deadline)
            return Schedule(
                needs, {}, {}, status=status, objective=self.objective, reason=reason, bound=self.bound, seconds=seconds
            )
        fresh = Binding(problem, best.listed, best.share)
        if (wrong := fresh.clock_violations()) or not self.limits.met(fresh):
            raise AssertionError(f"a schedule that breaks its bounds: {wrong}, {fresh}")
        optimal, value = self._optimal(), self._value(fresh)
        missing = [] if available() or problem.chain or not self.share else [MISSING]
        copies = ", ".join(f"{n} {name}" for name, n in fresh.copies.items())
        return Schedule(
            problem.requirements(fresh.copies, deadline),
            fresh.listed.start,
            fresh.listed.unit,
            lanes=fresh.lanes,
            status=Status.OPTIMAL if optimal else Status.FEASIBLE,
            objective=self.objective,
            value=value,
            bound=value if optimal else self._rounded(),
            reason="no schedule can be better" if optimal else "; ".join(filter(None, [self.stopped, *missing])),
            facts={"latency": fresh.latency, "area": fresh.area, "power": fresh.power, "copies": copies},
            seconds=seconds,
        ).verify()


def _with_power(needs: Requirements, problem: Synthesis, power: float) -> Requirements:
    """Requirements with the bound on the power as a budget."""
    tasks = {
        op: {m: Alternative(a.duration, {**a.demands, POWER: problem.unit[str(m)].power}) for m, a in modes.items()}
        for op, modes in needs.tasks.items()
    }
    return replace(needs, tasks=tasks, budgets={POWER: power})


Synthesis.solve = synthesize
