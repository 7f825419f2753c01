"""OR-tools CP-SAT for requirements: better schedules, bounds and proofs, from the best schedule known.

Times, demands and costs become whole numbers of their decimal steps (`cggd_scheduling.limits.decimal_step`). Problems
whose numbers are too large for that are skipped. Limits are widened by the rounding that the checker of schedules
allows, so that a bound of the model holds for every schedule that the checker accepts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.util import find_spec
from os import cpu_count
from threading import Event
from typing import Any

from cggd.budget import Budget
from cggd.program.threads import run_interruptibly
from cggd_scheduling.limits import as_written, decimal_step, in_steps, most_steps, out_of_steps
from cggd_scheduling.schedule import Requirements, Schedule

# Largest horizon and largest sum of demands, in steps; a step is then far larger than the rounding errors of floats.
LARGEST = 1 << 31

# Most modes of all tasks, and most arcs of all setup times, for which a model is built; 100,000 arcs take a second.
MODES, ARCS = 20_000, 100_000

# Work without a time limit, in CP-SAT's deterministic time (about a second each on one thread).
WORK = 2.0

# With a time limit: most threads, seconds of the first attempt with CP-SAT's default parameters, and share of the time
# for the second one, which raises the bound. On ft10, la21 and la36, two threads for 6 s each, its bounds were 922,
# 1033 and 1267 instead of 808, 995 and 1224; the schedules of the default parameters were as good or better. With
# FINDING on one thread, 10 s, ft10 and la36 were proved and la21 was 1046; with the default parameters the three were
# 939, 1289 and 1089.
WORKERS = 8
FIRST, RAISE = 1.0, 0.4
GRACE = 1.0  # seconds within which CP-SAT ends after its limit
FINDING = {"use_dynamic_precedence_in_disjunctive": True}
RAISING = {"use_objective_lb_search": True, **FINDING}

# Only large neighbourhood search, which needs a schedule to start from. On one thread for 2.5 s, after a tabu search of
# 1 s, it found 1291, 669, 1034, 1727 on la36, abz7, orb03, ta21; FINDING found 1296, 681, 1047, 1748.
NEIGHBOURHOODS = {"use_lns_only": True, "interleave_search": True}
MIXED = {"interleave_search": True}  # neighbourhoods and bounds in turns, also on one thread
LEAST = 1.0  # seconds for which a search continues although another one has a better schedule

MISSING = "no proof was tried: OR-tools is not installed (pip install cggd[scheduling])"


def available() -> bool:
    """Whether OR-tools is installed."""
    return find_spec("ortools") is not None


@dataclass(frozen=True, eq=False)
class Goal:
    """An objective to minimise.

    Parameters
    ----------
    name : str
    value : callable
        Returns the value of a schedule.
    cost : callable
        Returns for a `Model` a linear expression, and the value of one unit of it.
    """

    name: str
    value: Callable[[Schedule], Any]
    cost: Callable[[Model], tuple[Any, Fraction]]


@dataclass(frozen=True, eq=False)
class Answer:
    """Result of CP-SAT: a schedule if it found one, a bound on the goal, and whether the problem is infeasible.

    `complete` says that the search proved its result.
    """

    start: Mapping[Hashable, Any] = field(default_factory=dict)
    modes: Mapping[Hashable, Hashable] = field(default_factory=dict)
    bound: Any = -math.inf
    infeasible: bool = False
    interrupted: bool = False
    complete: bool = False


@dataclass(frozen=True)
class Attempt:
    """Parameters of CP-SAT for a share of the time left.

    With `again` it is restarted from each better schedule that another search finds.
    """

    share: float
    parameters: Mapping[str, Any]
    again: bool = False


@dataclass
class Watch:
    """Shared state of a CP-SAT search and another thread.

    Attributes
    ----------
    bound : number
        The best bound of the search.
    found : (start, modes) or None
        Its best schedule.
    rival : callable or None
        Returns the best value known elsewhere. The search ends if this is better than its own value.
    stopped : bool
        Set to end the search.
    """

    bound: Any = -math.inf
    found: tuple[dict[Hashable, Any], dict[Hashable, Hashable]] | None = None
    rival: Callable[[], Any] | None = None
    stopped: bool = False


class TooLargeError(ValueError):
    """Numbers that CP-SAT cannot hold exactly, or a model that is too large."""


class Model:
    """CP-SAT model of requirements.

    Parameters
    ----------
    needs : Requirements
    horizon : number, optional
        Latest end of all tasks; by default a time by which all tasks can end.
    prices : mapping of resource to number, optional
        Cost of a unit of capacity. These capacities are variables up to ``needs.capacities``.
    price_limit : number
        Bound on the cost of all these capacities.

    Attributes
    ----------
    step : Fraction
        All times are multiples of it.
    start, end : mapping of task to variable
    chosen : mapping of task to mapping of mode to literal
    """

    def __init__(
        self,
        needs: Requirements,
        *,
        horizon: Any = None,
        prices: Mapping[Hashable, Any] | None = None,
        price_limit: float = math.inf,
    ) -> None:
        from ortools.sat.python import cp_model

        self.needs, self.cp, self.prices = needs, cp_model.CpModel(), dict(prices or {})
        if sum(len(modes) for modes in needs.tasks.values()) > MODES:
            raise TooLargeError("too many modes")
        self.step = decimal_step(_times(needs)) or Fraction(1)
        self.horizon = self._horizon(horizon)
        self.start, self.end = {}, {}
        self.chosen: dict[Hashable, dict[Hashable, Any]] = {}
        self.intervals: dict[tuple[Hashable, Hashable], Any] = {}
        for task in needs.tasks:
            self._add_task(task)
        for a, b in needs.precedence:
            self.cp.add(self.start[b] >= self.end[a] + self.units(needs.lags.get((a, b), 0)))
        for (a, b), most in needs.longest_lags.items():
            self.cp.add(self.start[b] <= self.end[a] + self.within(most))
        self.capacity = {resource: self._add_capacity(resource) for resource in needs.capacities}
        for resource, budget in needs.budgets.items():
            self._limit(*self.use(resource), budget)
        if math.isfinite(price_limit):
            self._limit(*self.price(), price_limit)
        if sum(len(self._taking(resource)) ** 2 for resource in needs.setups) > ARCS:
            raise TooLargeError("too many setups")
        for resource, setups in needs.setups.items():
            self._add_setups(resource, setups)

    def units(self, time: Any) -> int:
        """A time in steps."""
        return in_steps(time, self.step)

    def within(self, time: Any) -> int:
        """Most steps within a time, which need not be a multiple of the step."""
        return most_steps(time, self.step, 2 * len(self.needs.tasks))

    def _horizon(self, horizon: Any) -> int:
        needs = self.needs
        longest = sum(max(self.units(a.duration) for a in modes.values()) for modes in needs.tasks.values())
        waits = sum(max(self.units(lag), 0) for lag in needs.lags.values())
        waits += max((self.units(time) for time in needs.release.values()), default=0)
        for setups in needs.setups.values():
            last: dict[Hashable, int] = {}
            for (_, task), time in setups.items():
                last[task] = max(last.get(task, 0), self.units(time))
            waits += sum(last.values())
        total = longest + waits
        for limit in (horizon, needs.deadline):
            if limit is not None and math.isfinite(limit):
                total = min(total, self.within(limit))
        if total > LARGEST:
            raise TooLargeError("the horizon has too many steps")
        return total

    def _add_task(self, task: Hashable) -> None:
        cp, modes = self.cp, self.needs.tasks[task]
        first = self.units(self.needs.release.get(task, 0))
        start = self.start[task] = cp.new_int_var(first, max(self.horizon, first), "")
        if len(modes) == 1:
            [(mode, alternative)] = modes.items()
            duration = self.units(alternative.duration)
            self.end[task], self.chosen[task] = start + duration, {mode: 1}
            self.intervals[task, mode] = cp.new_fixed_size_interval_var(start, duration, "")
            cp.add(start + duration <= self.horizon)
            return
        end = self.end[task] = cp.new_int_var(0, max(self.horizon, 0), "")
        self.chosen[task] = {mode: cp.new_bool_var("") for mode in modes}
        cp.add_exactly_one(self.chosen[task].values())
        for mode, alternative in modes.items():
            literal, duration = self.chosen[task][mode], self.units(alternative.duration)
            self.intervals[task, mode] = cp.new_optional_interval_var(start, duration, end, literal, "")

    def _taking(self, resource: Hashable) -> list[tuple[Hashable, Hashable, Any]]:
        """Task, mode and demand of all modes with a demand for a resource."""
        return [
            (task, mode, a.demands[resource])
            for task, modes in self.needs.tasks.items()
            for mode, a in modes.items()
            if a.demands.get(resource, 0)
        ]

    def _add_capacity(self, resource: Hashable) -> Any:
        """Add the constraint of a capacity; returns the capacity, a number or a variable, in steps of the demands."""
        taking = [(t, m, d) for t, m, d in self._taking(resource) if self.needs.tasks[t][m].duration > 0]
        capacity = self.needs.capacities[resource]
        if not taking or not math.isfinite(capacity):
            return 0
        step = decimal_step(demand for _, _, demand in taking)
        most = most_steps(capacity, step, len(taking))
        demands = [in_steps(demand, step) for _, _, demand in taking]
        _check(sum(demands))
        limit = self.cp.new_int_var(0, most, "") if resource in self.prices else most
        intervals = [self.intervals[task, mode] for task, mode, _ in taking]
        if resource not in self.prices and all(2 * demand > most for demand in demands):
            for (task, mode, _), demand in zip(taking, demands, strict=True):
                if demand > most:
                    self.cp.add(self.chosen[task][mode] == 0)
            self.cp.add_no_overlap(intervals)
        else:
            self.cp.add_cumulative(intervals, demands, limit)
        if resource in self.prices:  # redundant: all work fits into capacity times horizon
            work = [
                d * self.units(self.needs.tasks[t][m].duration) * self.chosen[t][m]
                for (t, m, _), d in zip(taking, demands, strict=True)
            ]
            self.cp.add(sum(work) <= self.horizon * limit)
        return limit

    def _add_setups(self, resource: Hashable, setups: Mapping[tuple[Hashable, Hashable], Any]) -> None:
        """Add a circuit for the order of the tasks on a resource, with setup times."""
        cp, nodes = self.cp, [(t, m) for t, m, _ in self._taking(resource) if self.needs.tasks[t][m].duration > 0]
        arcs = [(0, 0, cp.new_bool_var(""))]
        for i, (task, mode) in enumerate(nodes, 1):
            arcs += [(0, i, cp.new_bool_var("")), (i, 0, cp.new_bool_var(""))]
            present = self.chosen[task][mode]
            if len(self.chosen[task]) > 1:
                arcs.append((i, i, present.negated()))
            for j, (then, _) in enumerate(nodes, 1):
                if task != then:
                    arcs.append((i, j, cp.new_bool_var("")))
                    wait = self.units(setups.get((task, then), 0))
                    cp.add(self.start[then] >= self.end[task] + wait).only_enforce_if(arcs[-1][2])
        if nodes:
            cp.add_circuit(arcs)

    def _limit(self, expression: Any, step: Fraction, limit: Any) -> None:
        if math.isfinite(limit):
            self.cp.add(expression <= most_steps(limit, step, len(self.needs.tasks)))

    # -- what is made least -------------------------------------------------------------------------------------------

    def use(self, resource: Hashable) -> tuple[Any, Fraction]:
        """Sum of the demands for a resource."""
        taking = self._taking(resource)
        step = decimal_step(demand for _, _, demand in taking) or Fraction(1)
        units = [in_steps(demand, step) for _, _, demand in taking]
        _check(sum(units))
        terms = [n * self.chosen[task][mode] for (task, mode, _), n in zip(taking, units, strict=True)]
        return sum(terms) if terms else self.cp.new_constant(0), step

    def price(self) -> tuple[Any, Fraction]:
        """Cost of the capacities that have a price."""
        step = decimal_step(self.prices.values()) or Fraction(1)
        units = {resource: in_steps(price, step) for resource, price in self.prices.items()}
        _check(sum(n * max(self.needs.capacities[r], 1) for r, n in units.items()))
        terms = [n * self.capacity[resource] for resource, n in units.items()]
        return sum(terms) if terms else self.cp.new_constant(0), step

    def makespan(self) -> tuple[Any, Fraction]:
        """When the last task ends."""
        last = self.cp.new_int_var(0, max(self.horizon, 0), "")
        for end in self.end.values():
            self.cp.add(last >= end)
        return last, self.step

    def tardiness(self) -> tuple[Any, Fraction]:
        """Weighted sum of the times by which tasks end after their due dates."""
        needs = self.needs
        step = decimal_step(needs.weights.get(task, 1) for task in needs.due) or Fraction(1)
        units = {task: in_steps(needs.weights.get(task, 1), step) for task in needs.due}
        _check(sum(units.values()) * self.horizon, LARGEST << 20)
        late = {task: self.cp.new_int_var(0, max(self.horizon, 0), "") for task in needs.due}
        for task, tardy in late.items():
            self.cp.add(tardy >= self.end[task] - self.units(needs.due[task]))
        return sum(n * late[task] for task, n in units.items()), step * self.step

    def hint(self, known: Schedule) -> None:
        """Add a schedule as hint."""
        for task, options in self.chosen.items():
            self.cp.add_hint(self.start[task], self.within(known.start[task]))
            if len(options) > 1:
                for mode, literal in options.items():
                    self.cp.add_hint(literal, mode == known.modes[task])
                self.cp.add_hint(self.end[task], self.within(known.finish(task)))

    def schedule(self, response: Any) -> tuple[dict[Hashable, Any], dict[Hashable, Hashable]]:
        """Starts and modes in a solution."""
        start = {task: out_of_steps(response.value(v), self.step) for task, v in self.start.items()}
        return start, {task: next(m for m, x in own.items() if response.value(x)) for task, own in self.chosen.items()}


MAKESPAN = Goal("makespan", lambda schedule: schedule.makespan, Model.makespan)
TARDINESS = Goal("tardiness", lambda schedule: schedule.tardiness, Model.tardiness)


def improve(
    needs: Requirements,
    goal: Goal,
    budget: Budget,
    *,
    known: Schedule | None = None,
    bound: Any = None,
    prices: Mapping[Hashable, Any] | None = None,
    price_limit: float = math.inf,
    horizon: Any = None,
    seed: int = 0,
    workers: int | None = None,
    parameters: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> Answer | None:
    """Look for a better schedule, a better bound or a proof; None if OR-tools is missing or the numbers are too large.

    Parameters
    ----------
    needs : Requirements
    goal : Goal
    budget : Budget
        Without a time limit, `WORK` limits the search: one thread, the same answer every time.
    known : Schedule, optional
        The best schedule so far.
    bound : number, optional
        Known lower bound on the value.
    prices, price_limit, horizon
        As for `Model`.
    seed : int
    workers : int, optional
        Threads; by default as many as there are cores, at most `WORKERS`.
    parameters : mapping, optional
        Parameters of CP-SAT for a single attempt with a time limit; by default there are three attempts.
    watch : Watch, optional
        State shared with another thread.
    """
    if not available() or not needs.tasks:
        return None
    if known is not None and goal.name == MAKESPAN.name:
        horizon = known.makespan if horizon is None else min(horizon, known.makespan)
    try:
        model = Model(needs, horizon=horizon, prices=prices, price_limit=price_limit)
        if model.horizon < 0:
            return Answer(infeasible=True, complete=True)
        cost, step = goal.cost(model)
    except TooLargeError:
        return None
    if known is not None:
        model.hint(known)
        model.cp.add(cost <= most_steps(goal.value(known), step, len(needs.tasks)))
    if bound is not None and math.isfinite(bound):
        # A bound from floats may be too large by its rounding error.
        model.cp.add(cost >= math.ceil(as_written(bound) / step * Fraction(1 - 1e-9)))
    model.cp.minimize(cost)
    attempts = _attempts(budget, threads(workers), parameters)
    value = math.inf if known is None else goal.value(known)
    return _solve(model, step, budget, seed, attempts, watch or Watch(), value)


def _solve(
    model: Model,
    step: Fraction,
    budget: Budget,
    seed: int,
    attempts: Iterator[dict[str, Any]],
    watch: Watch,
    value: Any,
) -> Answer:
    """Run attempts of CP-SAT with different parameters, each from the best schedule so far."""
    start: Mapping[Hashable, Any] = {}
    modes: Mapping[Hashable, Hashable] = {}
    bound: int | None = None
    infeasible = interrupted = complete = False

    def told(found: float) -> None:
        watch.bound = max(watch.bound, out_of_steps(round(found), step))

    def shown(response: Any) -> None:
        nonlocal value
        if (found := out_of_steps(round(response.objective_value), step)) < value:
            value, watch.found = found, model.schedule(response)

    def stop() -> bool:
        overtaken = watch.rival is not None and began.seconds > LEAST and watch.rival() < value
        return watch.stopped or overtaken

    for options in attempts:
        began, options["random_seed"] = Budget(), seed % LARGEST
        response, status, interrupted = run(model.cp, options, stop, told, shown)
        if response is not None and math.isfinite(response.best_objective_bound):
            found = round(response.best_objective_bound)
            bound = found if bound is None else max(bound, found)
        if response is not None and status in ("OPTIMAL", "FEASIBLE"):
            start, modes = model.schedule(response)
            model.cp.clear_hints()
            model.hint(Schedule(model.needs, start, modes))
        infeasible, complete = status == "INFEASIBLE", status in ("OPTIMAL", "INFEASIBLE")
        if interrupted or complete or watch.stopped or budget.over():
            break
    worth = -math.inf if bound is None else out_of_steps(bound, step)
    return Answer(start, modes, worth, infeasible, interrupted, complete)


def _attempts(budget: Budget, workers: int, parameters: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Parameters of the attempts."""
    if not budget.limited:
        yield {"max_deterministic_time": WORK, "num_workers": 1}
        return
    if parameters is not None:
        yield {"num_workers": workers, **parameters, "max_time_in_seconds": budget.left}
        return
    yield {"num_workers": workers, "max_time_in_seconds": min(FIRST, budget.left)}
    if not budget.over():
        yield {"num_workers": workers, **RAISING, "max_time_in_seconds": RAISE * budget.left}
    if not budget.over():
        yield {"num_workers": workers, **MIXED, "max_time_in_seconds": budget.left}


def threads(workers: int | None) -> int:
    """Number of threads for searches with a time limit."""
    return min(workers or cpu_count() or 1, WORKERS)


def run(
    model: Any,
    options: Mapping[str, Any],
    stop: Callable[[], bool] = lambda: False,
    told: Callable[[float], None] | None = None,
    shown: Callable[[Any], None] | None = None,
) -> tuple[Any, str, bool]:
    """Run CP-SAT; returns the solver (None if it does not end), its status, and whether Ctrl-C ended it.

    The search ends when `stop` returns True. `told` is called with better bounds, and `shown` with better solutions.
    """
    from ortools.sat.python import cp_model

    class Solutions(cp_model.CpSolverSolutionCallback):
        def on_solution_callback(self) -> None:
            if shown is not None:
                shown(self)

    solver, done, interrupted = cp_model.CpSolver(), Event(), False
    solver.parameters.catch_sigint_signal = False
    if told is not None:
        solver.best_bound_callback = told
    for name, value in options.items():
        setattr(solver.parameters, name, value)
    late = Budget(options["max_time_in_seconds"] + GRACE) if "max_time_in_seconds" in options else Budget()

    status: list[str] = []

    def work() -> None:
        status.append(solver.status_name(solver.solve(model, Solutions())))
        done.set()

    try:
        run_interruptibly(work, lambda: late.over() or stop())
    except KeyboardInterrupt:
        interrupted = True
    if not done.is_set():
        solver.stop_search()
    if not done.wait(GRACE):
        return None, "UNKNOWN", interrupted
    return solver, status[0], interrupted


def _times(needs: Requirements) -> Iterator[Any]:
    """All durations, lags, releases, setup times and due dates."""
    for modes in needs.tasks.values():
        yield from (alternative.duration for alternative in modes.values())
    yield from needs.waits
    yield from needs.due.values()


def _check(total: int, most: int = LARGEST) -> None:
    if total > most:
        raise TooLargeError("numbers of too many digits")
