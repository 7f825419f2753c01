"""Schedules: when each task runs, checked against requirements that know nothing of how it was found."""

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

# Requirements of single resources or tasks.
BY_LABEL = ("capacities", "budgets", "release", "due", "weights")


class ScheduleError(ValueError):
    """A schedule breaks a requirement; the message lists what it breaks."""


@dataclass(frozen=True, eq=False)
class Alternative:
    """One way to carry out a task.

    Parameters
    ----------
    duration : number
    demands : mapping of resource to number
        What it takes of a renewable resource while it runs, and of a budget once.
    """

    duration: Any
    demands: Mapping[Hashable, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Requirements:
    """What a schedule must meet, in the form that the checker reads.

    Parameters
    ----------
    tasks : mapping of task to (mapping of mode to Alternative)
    precedence : sequence of (task, task)
        The first ends before the second starts.
    lags : mapping of (task, task) to number
        Time that must pass between the end of the first and the start of the second; 0 where nothing is said.
    capacities : mapping of resource to number
        Of renewable resources: what all tasks that run at once may take together.
    budgets : mapping of resource to number
        Of non-renewable ones: what all tasks may take together.
    deadline : number, optional
    unit : str
        Of time.
    release : mapping of task to number
        No task starts before its release; 0 where nothing is said.
    due : mapping of task to number
        Due dates. They may be missed: `Schedule.tardiness` says by how much.
    weights : mapping of task to number
        Of the tardiness of each task; 1 where nothing is said.
    longest_lags : mapping of (task, task) to number
        The second starts at most so much later than the first ends.
    setups : mapping of resource to (mapping of (task, task) to number)
        Time between the end of a task on a resource and the start of the next one there; 0 where nothing is said. Tasks
        of duration 0 take nothing of a resource, and are not counted.
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
        """Raise ValueError where something names an unknown task or resource, or the precedence has a cycle."""
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
        """Whether it asks for more than precedence, capacities, budgets and a deadline."""
        return bool(self.waits or self.due)

    @property
    def waits(self) -> list[Any]:
        """Every time for which a task may have to wait beside durations."""
        parts = (self.lags, self.longest_lags, self.release, *self.setups.values())
        return [time for part in parts for time in part.values()]


@dataclass(frozen=True, eq=False)
class Schedule:
    """When each task starts and how it is carried out.

    Times are whole numbers or floats; a task occupies ``start <= t < start + duration``, so one of duration 0 takes
    nothing of a renewable resource. Times that differ by no more than `rounding` are the same time. Where no schedule
    was found, `start` is empty and `reason` says why.

    Parameters
    ----------
    requirements : Requirements
    start : mapping of task to number
    modes : mapping of task to mode
    lanes : mapping of task to label
        Machine, functional unit or device that a task has for itself while it runs; drawn as rows of a Gantt chart.
    status : cggd.Status
    objective : str
        What was minimised.
    value : number, optional
        Of the objective; the makespan by default.
    bound : number, optional
        No schedule has a smaller value.
    reason : str
        Why the search stopped, or why there is no schedule.
    facts : mapping of str to anything
        Further lines of the summary, such as the area of the units.
    seconds : float

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

    # Set by the module of `plot_gantt`, which knows this one.
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
        """Whether there is a schedule."""
        return self.status in (Status.OPTIMAL, Status.FEASIBLE)

    def duration(self, task: Hashable) -> Any:
        """Duration of a task in the mode that it has."""
        return self._alternative(task).duration

    def finish(self, task: Hashable) -> Any:
        """When a task ends."""
        return self.start[task] + self.duration(task)

    def _alternative(self, task: Hashable) -> Alternative:
        return self.requirements.tasks[task][self.modes[task]]

    @property
    def makespan(self) -> Any:
        """When the last task ends; 0 where there is no task."""
        return max((self.finish(task) for task in self.start), default=0)

    @property
    def gap(self) -> float | None:
        """Distance of the value to the bound, as a share of the bound; None where either is not known."""
        if self.value is None or self.bound is None:
            return None
        return 0.0 if self.value == self.bound else (self.value - self.bound) / max(abs(self.bound), 1e-12)

    @property
    def rounding(self) -> Any:
        """How far a time may be off by the rounding of its sum of durations and lags; 0 where all are whole numbers."""
        waits = self.requirements.waits
        durations = [self.duration(task) for task in self.start]
        if all(map(is_whole, [*self.start.values(), *durations, *waits])):
            return 0
        return time_rounding(self.makespan, len(durations) + min(len(waits), 2 * len(durations)) + 1)

    @property
    def tardiness(self) -> Any:
        """Time by which tasks end after their due dates, each times its weight, in all."""
        needs, slack = self.requirements, self.rounding
        late = {task: self.finish(task) - due for task, due in needs.due.items() if task in self.start}
        return sum(needs.weights.get(task, 1) * time for task, time in late.items() if time > slack)

    def used(self, resource: Hashable) -> Any:
        """What all tasks take of a resource together."""
        return sum(self._demands(resource))

    def _demands(self, resource: Hashable) -> list[Any]:
        return [self._alternative(task).demands.get(resource, 0) for task in self.start]

    def usage(self, resource: Hashable) -> list[tuple[Any, Any]]:
        """What is taken of a renewable resource over time: (time, amount from then on), amounts that differ."""
        steps = [(time, sum(running.values())) for time, running in self._running(resource)]
        return [step for step, before in zip(steps, [(0, 0), *steps], strict=False) if step[1] != before[1]]

    def _running(self, resource: Hashable) -> Iterator[tuple[Any, dict[Hashable, Any]]]:
        """From when on which tasks take how much of a resource; the mapping changes as the iterator goes on."""
        slack, starts = self.rounding, sorted(set(self.start.values()))
        begin: dict[Any, dict[Hashable, Any]] = {}
        end: dict[Any, list[Hashable]] = {}
        for task, start in self.start.items():
            if (taken := self._alternative(task).demands.get(resource, 0)) and self.duration(task) > 0:
                finish = self.finish(task)
                at = bisect_left(starts, finish - slack)  # the start that the task ends at, though sums were rounded
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
        """The tasks with who waits for whom, and the durations that were chosen as node attribute ``duration``."""
        graph = nx.DiGraph()
        graph.add_nodes_from((task, {"duration": self.duration(task)}) for task in self.start)
        graph.add_edges_from(self.requirements.precedence)
        return graph

    def critical_path(self) -> list[Hashable]:
        """Tasks, in order, each of which could not start before the one before it ended; the last ends the schedule.

        A task waits for a predecessor, for the task before it in its lane, or for a resource that the task before it
        takes and of which too little is left without its end. From a schedule in which every task starts as early as
        the others let it, the durations (and lags) of such a chain add up to the makespan; elsewhere it begins with a
        task that nothing holds up.
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
        """What says which tasks a task was waiting for until it started."""
        needs, slack = self.requirements, self.rounding
        graph = self.graph()
        ends = sorted(((self.finish(task), n, task) for n, task in enumerate(self.start)), key=lambda end: end[:2])
        times = [time for time, _, _ in ends]
        levels = {resource: self.usage(resource) for resource in needs.capacities}
        changes = {pair: time for resource in needs.setups for pair, time in self._changes(resource).items() if time}

        def level(resource: Hashable, time: Any) -> Any:
            """What is taken of a resource just before a time."""
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
        """Everything that the schedule breaks, in words; nothing of it is taken from the search that made it.

        Parameters
        ----------
        requirements : Requirements, optional
            By default its own.
        """
        needs = requirements or self.requirements
        if wrong := list(self._misfits(needs)):
            return wrong  # what follows would only repeat it
        return list(replace(self, requirements=needs)._broken())

    def verify(self, requirements: Requirements | None = None) -> Schedule:
        """Return the schedule itself, or raise `ScheduleError` where it breaks something."""
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
        """Tasks that follow each other on a resource, and the setup time between the two."""
        setups = self.requirements.setups.get(resource, {})
        taking = [t for t in self.start if self._alternative(t).demands.get(resource, 0) and self.duration(t) > 0]
        taking.sort(key=self.start.__getitem__)
        return {pair: setups.get(pair, 0) for pair in pairwise(taking)}

    @property
    def late(self) -> bool:
        """Whether it ends after the deadline."""
        deadline = self.requirements.deadline
        return deadline is not None and self.makespan > deadline + self.rounding

    # -- how it is shown ----------------------------------------------------------------------------------------------

    def summary(self, *, tasks: int = 12) -> str:
        """A few lines for people."""
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
        """A small table for notebooks: the first 100 tasks by their start."""
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
        """A line per task: task, mode, lane, start, duration, finish, and what it takes of each resource.

        A label that a spreadsheet would take for a formula begins with an apostrophe.
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
        """All of it as JSON, which `from_json` reads. Labels may be strings, numbers, bools, None or tuples of them."""
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
        """Read what `to_json` wrote.

        Raises
        ------
        ValueError
            If the text is something else.
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
    """The schedule of no task at all: it ends at 0, which is late where the deadline is before."""
    deadline = requirements.deadline
    if deadline is not None and deadline < 0:
        reason = f"nothing is to be done, which ends at 0; the deadline is {number_text(deadline)}"
        return Schedule(requirements, {}, {}, status=Status.INFEASIBLE, objective=objective, reason=reason, bound=0)
    return Schedule(requirements, {}, {}, status=Status.OPTIMAL, objective=objective, value=0, bound=0)


def _limited(amounts: Sequence[Any], limit: Any) -> list[str]:
    """A sum and its limit as text; what rounding adds to a sum within its limit is left out."""
    total = sum(amounts)
    return true_texts(total if exceeds(amounts, limit) else min(total, limit), limit)


def _fact(fact: Any) -> str:
    return number_text(float(fact)) if isinstance(fact, Real) else on_one_line(fact)


def lanes_of(
    start: Mapping[Hashable, Any], finish: Mapping[Hashable, Any], tasks: Iterable[Hashable] | None = None
) -> dict[Hashable, int]:
    """Rows 0, 1, ... in which tasks do not overlap, as few as there can be (left-edge algorithm).

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
