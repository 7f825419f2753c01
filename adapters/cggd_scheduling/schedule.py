"""Schedules, their requirements, and a checker that is independent of the search."""

from __future__ import annotations

import csv
import io
import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from numbers import Real
from typing import Any, ClassVar

import networkx as nx

from cggd import Status
from cggd.entries import label_from_json, label_to_json, parse_json
from cggd.io import check_keys, csv_cell
from cggd.printable import html_table, on_one_line
from cggd.rounding import number_text, true_texts
from cggd_scheduling.files import mapping_of, rows_of
from cggd_scheduling.limits import exceeds, is_whole, time_rounding

FORMAT = "cggd-schedule-1"

# Fields of `Requirements` that map single resources or tasks to numbers.
BY_LABEL = ("capacities", "budgets", "release", "due", "weights")


class ScheduleError(ValueError):
    """A schedule violates requirements; the message lists which."""


@dataclass(frozen=True, eq=False)
class Alternative:
    """One way to carry out a task.

    Parameters
    ----------
    duration : number
    demands : mapping of resource to number
        Amount of each renewable resource while the task runs, and of each non-renewable one in all.
    """

    duration: Any
    demands: Mapping[Hashable, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Requirements:
    """What a schedule must satisfy: the input of the checker and of `schedule_tasks`.

    Parameters
    ----------
    tasks : mapping of task to (mapping of mode to Alternative)
    precedence : sequence of (task, task)
        The first ends before the second starts.
    lags : mapping of (task, task) to number
        Least time between the end of the first and the start of the second; by default 0.
    capacities : mapping of resource to number
        Renewable resources: bound on the sum of the demands of the tasks that run at the same time.
    budgets : mapping of resource to number
        Non-renewable resources: bound on the sum of the demands of all tasks.
    deadline : number, optional
        Latest end of all tasks.
    unit : str
        Unit of time.
    release : mapping of task to number
        Earliest start of a task; by default 0.
    due : mapping of task to number
        Due dates. A task may end later; see `Schedule.tardiness`.
    weights : mapping of task to number
        Weights of the tasks in the tardiness; by default 1.
    longest_lags : mapping of (task, task) to number
        Most time between the end of the first and the start of the second.
    setups : mapping of resource to (mapping of (task, task) to number)
        Least time between the end of a task on a resource and the start of the next one there; by default 0. Tasks of
        duration 0 use no resource and are not counted.
    """

    tasks: Mapping[Hashable, Mapping[Hashable, Alternative]]
    precedence: Sequence[tuple[Hashable, Hashable]] = ()
    lags: Mapping[tuple[Hashable, Hashable], Any] = field(default_factory=dict)
    capacities: Mapping[Hashable, Any] = field(default_factory=dict)
    budgets: Mapping[Hashable, Any] = field(default_factory=dict)
    deadline: Any = None
    unit: str = ""
    release: Mapping[Hashable, Any] = field(default_factory=dict)
    due: Mapping[Hashable, Any] = field(default_factory=dict)
    weights: Mapping[Hashable, Any] = field(default_factory=dict)
    longest_lags: Mapping[tuple[Hashable, Hashable], Any] = field(default_factory=dict)
    setups: Mapping[Hashable, Mapping[tuple[Hashable, Hashable], Any]] = field(default_factory=dict)

    def check(self) -> None:
        """Raise ValueError if a field names an unknown task or resource, or the precedence has a cycle."""
        pairs = {"precedence": self.precedence, "lags": self.lags, "longest_lags": self.longest_lags}
        named = [(name, task) for name, edges in pairs.items() for edge in edges for task in edge]
        named += [("setups", task) for of in self.setups.values() for edge in of for task in edge]
        named += [(name, task) for name in ("release", "due", "weights") for task in getattr(self, name)]
        if unknown := [(name, task) for name, task in named if task not in self.tasks]:
            raise ValueError(f"{unknown[0][0]} names {unknown[0][1]!r}, which is no task")
        if wrong := [resource for resource in self.setups if self.capacities.get(resource) != 1]:
            raise ValueError(f"setups names {wrong[0]!r}, which is no resource of capacity 1")
        if empty := [task for task, modes in self.tasks.items() if not modes]:
            raise ValueError(f"task {empty[0]!r} has no mode")
        graph = nx.DiGraph(list(self.precedence))
        if not nx.is_directed_acyclic_graph(graph):
            raise ValueError(f"precedence has a cycle through {[a for a, _ in nx.find_cycle(graph)]}")

    @property
    def special(self) -> bool:
        """Whether there is more than precedence, capacities, budgets and a deadline."""
        return bool(self.waits or self.due)

    @property
    def waits(self) -> list[Any]:
        """All lags, releases and setup times."""
        parts = (self.lags, self.longest_lags, self.release, *self.setups.values())
        return [time for part in parts for time in part.values()]


@dataclass(frozen=True, eq=False)
class Schedule:
    """When each task starts and how it is carried out.

    Times are whole numbers or floats. A task occupies ``start <= t < start + duration``, so a task of duration 0 uses
    no renewable resource. Times that differ by at most `rounding` count as equal. If no schedule was found, `start` is
    empty and `reason` says why.

    Parameters
    ----------
    requirements : Requirements
    start : mapping of task to number
    modes : mapping of task to mode
    lanes : mapping of task to label
        Machine, functional unit or device that runs one task at a time; the rows of a Gantt chart.
    status : cggd.Status
    objective : str
        What was minimised.
    value : number, optional
        Value of the objective; by default the makespan.
    bound : number, optional
        Lower bound on the value of every schedule.
    reason : str
        Why the search stopped, or why there is no schedule.
    facts : mapping of str to anything
        Further lines of the summary, such as the area of the units.
    seconds : float
        Duration of the search.

    Examples
    --------
    >>> tasks = {"dig": {"slow": Alternative(3, {"crew": 1})}, "lay": {"all": Alternative(2, {"crew": 2})}}
    >>> needs = Requirements(tasks, [("dig", "lay")], capacities={"crew": 2})
    >>> schedule = Schedule(needs, {"dig": 0, "lay": 3}, {"dig": "slow", "lay": "all"})
    >>> schedule.verify().makespan
    5
    >>> Schedule(needs, {"dig": 0, "lay": 1}, schedule.modes).violations()
    ["'lay' starts at 1, before 'dig' ends at 3", "'crew': 3 taken at 1, capacity 2"]
    """

    # Set by the module of `plot_gantt`, which imports this one.
    gantt: ClassVar[Callable[..., Any]]

    requirements: Requirements
    start: Mapping[Hashable, Any]
    modes: Mapping[Hashable, Hashable]
    lanes: Mapping[Hashable, Hashable] = field(default_factory=dict)
    status: Status = Status.FEASIBLE
    objective: str = "makespan"
    value: Any = None
    bound: Any = None
    reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        fits = self.feasible and not any(True for _ in self._misfits(self.requirements))
        if self.value is None and self.objective == "makespan" and fits:
            object.__setattr__(self, "value", self.makespan)

    # -- what it says -------------------------------------------------------------------------------------------------

    @property
    def feasible(self) -> bool:
        """Whether a schedule was found."""
        return self.status in (Status.OPTIMAL, Status.FEASIBLE)

    def duration(self, task: Hashable) -> Any:
        """Duration of a task in its mode."""
        return self._alternative(task).duration

    def finish(self, task: Hashable) -> Any:
        """When a task ends."""
        return self.start[task] + self.duration(task)

    def _alternative(self, task: Hashable) -> Alternative:
        return self.requirements.tasks[task][self.modes[task]]

    @property
    def makespan(self) -> Any:
        """When the last task ends; 0 if there are no tasks."""
        return max((self.finish(task) for task in self.start), default=0)

    @property
    def gap(self) -> float | None:
        """Relative gap: ``(value - bound) / bound``; None if either is unknown."""
        if self.value is None or self.bound is None:
            return None
        return 0.0 if self.value == self.bound else (self.value - self.bound) / max(abs(self.bound), 1e-12)

    @property
    def rounding(self) -> Any:
        """Bound on the rounding error of a time, a sum of durations and lags; 0 if all are whole numbers."""
        waits = self.requirements.waits
        durations = [self.duration(task) for task in self.start]
        if all(map(is_whole, [*self.start.values(), *durations, *waits])):
            return 0
        return time_rounding(self.makespan, len(durations) + min(len(waits), 2 * len(durations)) + 1)

    @property
    def tardiness(self) -> Any:
        """Weighted sum of the times by which tasks end after their due dates."""
        needs, slack = self.requirements, self.rounding
        late = {task: self.finish(task) - due for task, due in needs.due.items() if task in self.start}
        return sum(needs.weights.get(task, 1) * time for task, time in late.items() if time > slack)

    def used(self, resource: Hashable) -> Any:
        """Sum of the demands of all tasks for a resource."""
        return sum(self._demands(resource))

    def _demands(self, resource: Hashable) -> list[Any]:
        return [self._alternative(task).demands.get(resource, 0) for task in self.start]

    def usage(self, resource: Hashable) -> list[tuple[Any, Any]]:
        """Use of a renewable resource over time: pairs (time, amount from then on), one for each change."""
        steps = [(time, sum(running.values())) for time, running in self._running(resource)]
        return [step for step, before in zip(steps, [(0, 0), *steps], strict=False) if step[1] != before[1]]

    def _running(self, resource: Hashable) -> Iterator[tuple[Any, dict[Hashable, Any]]]:
        """Pairs (time, {task: amount}) of a resource; the same mapping is changed from one pair to the next."""
        slack, starts = self.rounding, sorted(set(self.start.values()))
        begin: dict[Any, dict[Hashable, Any]] = {}
        end: dict[Any, list[Hashable]] = {}
        for task, start in self.start.items():
            if (taken := self._alternative(task).demands.get(resource, 0)) and self.duration(task) > 0:
                finish = self.finish(task)
                at = bisect_left(starts, finish - slack)  # a start that equals this end up to rounding
                if at < len(starts) and start < starts[at] < finish:
                    finish = starts[at]
                begin.setdefault(start, {})[task] = taken
                end.setdefault(finish, []).append(task)
        running: dict[Hashable, Any] = {}
        for time in sorted({*begin, *end}):
            for task in end.get(time, ()):
                del running[task]
            running |= begin.get(time, {})
            yield time, running

    def graph(self) -> nx.DiGraph:
        """Precedence graph of the tasks, with their durations as node attribute ``duration``."""
        graph = nx.DiGraph()
        graph.add_nodes_from((task, {"duration": self.duration(task)}) for task in self.start)
        graph.add_edges_from(self.requirements.precedence)
        return graph

    def critical_path(self) -> list[Hashable]:
        """A chain of tasks, each of which could not start before the previous one ended; the last ends the schedule.

        A task waits for a predecessor, for the previous task in its lane, or for a resource of which too little is free
        until the previous task ends. If every task starts as early as the others allow, the durations and lags of the
        chain add up to the makespan. Otherwise the chain begins with a task that could start earlier.
        """
        slack, awaited = self.rounding, self._awaited()
        order = {task: n for n, task in enumerate(nx.topological_sort(self.graph()))}
        begun: dict[Hashable, Any] = {}  # the start of the chain that leads to a task
        before: dict[Hashable, Hashable | None] = {}
        for task in sorted(self.start, key=lambda t: (self.start[t], self.finish(t), order[t])):
            known = [other for other in awaited(task) if other in begun]
            before[task] = min(known, key=begun.__getitem__, default=None)
            begun[task] = self.start[task] if before[task] is None else begun[before[task]]
        last = [task for task in begun if self.finish(task) >= self.makespan - slack]
        path, task = [], min(last, key=begun.__getitem__, default=None)
        while task is not None:
            path.append(task)
            task = before[task]
        return path[::-1]

    def _awaited(self) -> Callable[[Hashable], list[Hashable]]:
        """A function that returns the tasks whose end a task waited for."""
        needs, slack = self.requirements, self.rounding
        graph = self.graph()
        ends = sorted(((self.finish(task), n, task) for n, task in enumerate(self.start)), key=lambda end: end[:2])
        times = [time for time, _, _ in ends]
        levels = {resource: self.usage(resource) for resource in needs.capacities}
        changes = {pair: time for resource in needs.setups for pair, time in self._changes(resource).items() if time}

        def level(resource: Hashable, time: Any) -> Any:
            """Use of a resource just before a time."""
            at = bisect_left(levels[resource], time - slack, key=_first)
            return levels[resource][at - 1][1] if at else 0

        def awaited(task: Hashable) -> list[Hashable]:
            start, demands = self.start[task], self._alternative(task).demands
            found = [
                other
                for other in graph.pred[task]
                if abs(self.finish(other) + needs.lags.get((other, task), 0) - start) <= slack
            ]
            if not self.duration(task):
                return found
            ready = ((a, self.finish(a) + time) for (a, b), time in changes.items() if b == task)
            found += [other for other, end in ready if abs(end - start) <= slack]
            scarce = {
                resource
                for resource, capacity in needs.capacities.items()
                if demands.get(resource, 0) and exceeds([level(resource, start), demands[resource]], capacity)
            }
            for _, _, other in ends[bisect_left(times, start - slack) : bisect_right(times, start + slack)]:
                same = task in self.lanes and self.lanes[task] == self.lanes.get(other)
                shares = any(self._alternative(other).demands.get(resource, 0) for resource in scarce)
                if other != task and self.duration(other) and (same or shares):
                    found.append(other)
            return found

        return awaited

    # -- the checker --------------------------------------------------------------------------------------------------

    def violations(self, requirements: Requirements | None = None) -> list[str]:
        """Every violated requirement, as text. The check uses nothing from the search.

        Parameters
        ----------
        requirements : Requirements, optional
            By default those of the schedule.
        """
        needs = requirements or self.requirements
        if wrong := list(self._misfits(needs)):
            return wrong  # the other checks need a start and a mode of each task
        return list(replace(self, requirements=needs)._broken())

    def verify(self, requirements: Requirements | None = None) -> Schedule:
        """Return the schedule itself, or raise `ScheduleError` if it violates a requirement."""
        if wrong := self.violations(requirements):
            more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
            raise ScheduleError(f"the schedule breaks its requirements: {'; '.join(wrong[:5])}{more}")
        return self

    def _misfits(self, needs: Requirements) -> Iterator[str]:
        for task in needs.tasks:
            if task not in self.start:
                yield f"{task!r} has no start"
            elif not isinstance(self.start[task], Real) or not self.start[task] >= 0:
                yield f"{task!r} starts at {self.start[task]!r}, not at a time of at least 0"
            if task not in self.modes:
                yield f"{task!r} has no mode"
            elif self.modes[task] not in needs.tasks[task]:
                yield f"{task!r} has no mode {self.modes[task]!r}"
        yield from (f"{task!r} is no task" for task in self.start if task not in needs.tasks)

    def _broken(self) -> Iterator[str]:
        needs, slack = self.requirements, self.rounding
        for first, second in needs.precedence:
            lag = needs.lags.get((first, second), 0)
            if self.finish(first) + lag - self.start[second] > slack:
                after = f" and {lag} more have passed" if lag else ""
                yield f"{second!r} starts at {self.start[second]}, before {first!r} ends at {self.finish(first)}{after}"
        for (first, second), most in needs.longest_lags.items():
            if self.start[second] - self.finish(first) - most > slack:
                yield f"{second!r} starts at {self.start[second]}, more than {most} after {first!r} ends"
        for task, release in needs.release.items():
            if release - self.start[task] > slack:
                yield f"{task!r} starts at {self.start[task]}, before its release at {release}"
        for resource in needs.setups:
            for (first, second), time in self._changes(resource).items():
                if self.finish(first) + time - self.start[second] > slack:
                    yield f"{second!r} starts at {self.start[second]}, less than {time} after {first!r} on {resource!r}"
        for resource, capacity in needs.capacities.items():
            for time, running in self._running(resource):
                if exceeds(running.values(), capacity):
                    yield f"{resource!r}: {sum(running.values())} taken at {time}, capacity {capacity}"
                    break
        for resource, budget in needs.budgets.items():
            if exceeds(self._demands(resource), budget):
                yield f"{resource!r}: {self.used(resource)} taken in all, budget {budget}"
        if self.late:
            yield f"ends at {self.makespan}, after the deadline {needs.deadline}"
        last: dict[Hashable, Hashable] = {}
        for task in sorted((t for t in self.lanes if self.duration(t) > 0), key=self.start.__getitem__):
            lane = self.lanes[task]
            if lane in last and self.finish(last[lane]) - self.start[task] > slack:
                yield f"{lane!r}: {task!r} starts at {self.start[task]}, before {last[lane]!r} ends"
            last[lane] = task

    def _changes(self, resource: Hashable) -> dict[tuple[Hashable, Hashable], Any]:
        """Consecutive tasks on a resource, with their setup times."""
        setups = self.requirements.setups.get(resource, {})
        taking = [t for t in self.start if self._alternative(t).demands.get(resource, 0) and self.duration(t) > 0]
        taking.sort(key=self.start.__getitem__)
        return {pair: setups.get(pair, 0) for pair in pairwise(taking)}

    @property
    def late(self) -> bool:
        """Whether the schedule ends after the deadline."""
        deadline = self.requirements.deadline
        return deadline is not None and self.makespan > deadline + self.rounding

    # -- how it is shown ----------------------------------------------------------------------------------------------

    def summary(self, *, tasks: int = 12) -> str:
        """The schedule as a few lines of text; `tasks` is the most tasks to list."""
        needs = self.requirements
        lines = [f"status     {self.status.value}"]
        if not self.feasible:
            return "\n".join([*lines, *self.reason.splitlines()])
        unit = f" {on_one_line(needs.unit)}" if needs.unit else ""
        value, known = "" if self.value is None else number_text(self.value), ""
        if self.value is not None and self.bound is not None:
            numbers = (self.value, self.bound)  # an optimal value is its bound, up to rounding
            optimal = self.status is Status.OPTIMAL
            value, bound = map(number_text, numbers) if optimal else true_texts(*numbers)
            far = self.gap is None or self.gap > 10  # such as a tardiness whose bound is 0
            known = f" (bound {bound})" if far else f" (bound {bound}, gap {self.gap:.2%})"
        if self.objective == "makespan":
            lines.append(f"makespan   {value or number_text(self.makespan)}{unit}{known}")
        else:
            lines.append(f"makespan   {number_text(self.makespan)}{unit}")
            lines += [f"{on_one_line(self.objective):<10} {value}{known}"] if value else []
        lines += [f"{on_one_line(name):<10} {_fact(fact)}" for name, fact in self.facts.items()]
        for resource, budget in needs.budgets.items():
            used, limit = _limited(self._demands(resource), budget)
            lines.append(f"budget     {on_one_line(resource)}: {used} of {limit}")
        for resource, capacity in needs.capacities.items():
            levels = (list(running.values()) for _, running in self._running(resource))
            most, limit = _limited(max(levels, key=sum, default=[]), capacity)
            lines.append(f"capacity   {on_one_line(resource)}: at most {most} of {limit} at once")
        rows = sorted(self._rows(), key=lambda row: row["start"])
        for row in rows[:tasks]:
            task, mode, lane = (on_one_line(row[key]) for key in ("task", "mode", "lane"))
            at = f" on {lane}" if row["lane"] not in (None, row["mode"]) else ""
            start, finish = true_texts(row["start"], row["finish"])
            lines.append(f"  {start} to {finish}: {task}, mode {mode}{at}")
        if len(rows) > tasks:
            lines.append(f"  ... and {len(rows) - tasks} more tasks")
        lines.append(f"search     {self.seconds:.2f} s" + (f"; {self.reason}" if self.reason else ""))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """A table for notebooks: the first 100 tasks by start."""
        rows = []
        for task, start in sorted(self.start.items(), key=lambda pair: pair[1])[:100]:
            rows.append([task, self.modes[task], number_text(start), number_text(self.finish(task))])
        value = "" if self.value is None else f"; {self.objective} {number_text(self.value)}"
        return html_table(f"{self.status.value}{value}", rows, ["task", "mode", "start", "finish"])

    def _rows(self) -> Iterator[dict[str, Any]]:
        for task, start in self.start.items():
            times = {"start": start, "duration": self.duration(task), "finish": self.finish(task)}
            yield {"task": task, "mode": self.modes[task], "lane": self.lanes.get(task), **times}

    def to_csv(self) -> str:
        """The schedule as CSV, a line per task: task, mode, lane, start, duration, finish, demand for each resource.

        An apostrophe is put before a label that a spreadsheet would read as a formula.
        """
        needs, text = self.requirements, io.StringIO()
        resources = [*needs.capacities, *needs.budgets]
        writer = csv.writer(text, lineterminator="\n")
        labels, times = ("task", "mode", "lane"), ("start", "duration", "finish")
        writer.writerow([*labels, *times, *map(csv_cell, resources)])
        for row in self._rows():
            demands = self._alternative(row["task"]).demands
            names = ["" if row[key] is None else csv_cell(row[key]) for key in labels]
            taken = [demands.get(resource, 0) for resource in resources]
            writer.writerow([*names, *(row[key] for key in times), *taken])
        return text.getvalue()

    def to_json(self) -> str:
        """The schedule as JSON, for `from_json`. Labels may be strings, numbers, bools, None or tuples of these."""
        needs = self.requirements
        data = {
            "format": FORMAT,
            "status": self.status.name,
            "objective": self.objective,
            "value": self.value,
            "bound": self.bound,
            "reason": self.reason,
            "facts": dict(self.facts),
            "seconds": self.seconds,
            "schedule": list(self._rows()),
            "requirements": {
                "unit": needs.unit,
                "deadline": needs.deadline,
                **{name: rows_of(getattr(needs, name)) for name in BY_LABEL},
                "precedence": [[a, b, needs.lags.get((a, b), 0)] for a, b in needs.precedence],
                "longest_lags": rows_of(needs.longest_lags, 2),
                "setups": [[resource, rows_of(of, 2)] for resource, of in needs.setups.items()],
                "tasks": [
                    [task, [[mode, a.duration, rows_of(a.demands)] for mode, a in alternatives.items()]]
                    for task, alternatives in needs.tasks.items()
                ],
            },
        }
        return json.dumps(data, default=label_to_json, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Schedule:
        """Make a schedule from the text of `to_json`.

        Raises
        ------
        ValueError
            If the text is not a schedule.
        """
        data = parse_json(text)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ValueError(f'not a cggd schedule: expected an object with "format": "{FORMAT}"')
        try:
            return cls._of(data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"a damaged cggd schedule: {type(error).__name__} {error}") from None

    @classmethod
    def _of(cls, data: Mapping[str, Any]) -> Schedule:
        plain = ("objective", "value", "bound", "reason", "facts", "seconds")
        check_keys(data, ("format", "status", *plain, "schedule", "requirements"), "the schedule")
        needs, rows = data["requirements"], data["schedule"]
        check_keys(
            needs, ("unit", "deadline", "precedence", "tasks", "longest_lags", "setups", *BY_LABEL), "the requirements"
        )
        for row in rows:
            check_keys(row, ("task", "mode", "lane", "start", "duration", "finish"), f"the row of {row['task']!r}")
        tasks = {
            label_from_json(task): {
                label_from_json(mode): Alternative(duration, mapping_of(demands, "demands"))
                for mode, duration, demands in modes
            }
            for task, modes in needs["tasks"]
        }
        lags = mapping_of(needs["precedence"], "precedence", 2)
        requirements = Requirements(
            tasks,
            list(lags),
            {edge: lag for edge, lag in lags.items() if lag},
            deadline=needs["deadline"],
            unit=needs["unit"],
            longest_lags=mapping_of(needs.get("longest_lags", []), "longest_lags", 2),
            setups={label_from_json(r): mapping_of(of, "setups", 2) for r, of in needs.get("setups", ())},
            **{name: mapping_of(needs.get(name, []), name) for name in BY_LABEL},
        )
        start, modes, lanes = (
            {label_from_json(r["task"]): label_from_json(r[key]) for r in rows} for key in ("start", "mode", "lane")
        )
        lanes = {task: lane for task, lane in lanes.items() if lane is not None}
        return cls(requirements, start, modes, lanes, Status[data["status"]], **{key: data[key] for key in plain})


def nothing_to_do(requirements: Requirements, objective: str = "makespan") -> Schedule:
    """The schedule of no tasks: it ends at 0, and is infeasible if the deadline is negative."""
    deadline = requirements.deadline
    if deadline is not None and deadline < 0:
        reason = f"nothing is to be done, which ends at 0; the deadline is {number_text(deadline)}"
        return Schedule(requirements, {}, {}, status=Status.INFEASIBLE, objective=objective, reason=reason, bound=0)
    return Schedule(requirements, {}, {}, status=Status.OPTIMAL, objective=objective, value=0, bound=0)


def _limited(amounts: Sequence[Any], limit: Any) -> list[str]:
    """A sum and its limit as text; a sum that exceeds the limit only by rounding is shown as the limit."""
    total = sum(amounts)
    return true_texts(total if exceeds(amounts, limit) else min(total, limit), limit)


def _fact(fact: Any) -> str:
    return number_text(float(fact)) if isinstance(fact, Real) else on_one_line(fact)


def lanes_of(
    start: Mapping[Hashable, Any], finish: Mapping[Hashable, Any], tasks: Iterable[Hashable] | None = None
) -> dict[Hashable, int]:
    """The row of each task, so that tasks of a row do not overlap, with the fewest rows (left-edge algorithm).

    Examples
    --------
    >>> lanes_of({"a": 0, "b": 1, "c": 2}, {"a": 2, "b": 3, "c": 4})
    {'a': 0, 'b': 1, 'c': 0}
    """
    ends: list[Any] = []
    rows: dict[Hashable, int] = {}
    for task in sorted(start if tasks is None else tasks, key=start.__getitem__):
        row = next((row for row, end in enumerate(ends) if end <= start[task]), len(ends))
        ends[row : row + 1] = [finish[task]]
        rows[task] = row
    return rows


def _first(pair: tuple[Any, Any]) -> Any:
    return pair[0]
