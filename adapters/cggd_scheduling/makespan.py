"""The makespan of a schedule-generation scheme, as a metric of the modes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cggd import ChoiceSpace, Metric
from cggd.checks import check_choice, own
from cggd_scheduling.decoding import Instance, Pass, backward, forward, order_by, parallel, serial
from cggd_scheduling.project import Project

Scheme = Literal["serial", "parallel"]


@dataclass(frozen=True, eq=False, repr=False)
class Makespan(Metric):
    """Makespan of the schedule that a scheme makes from a selection of modes, with fixed priorities.

    Parameters
    ----------
    project : Project
        No mode may exceed the capacity of a renewable resource.
    keys : mapping of activity to number, optional
        Priorities, smaller first. By default the latest starts by the critical path of the shortest modes. `learnt`
        takes them from a schedule.
    scheme : {"serial", "parallel"}
    improve : bool
        Shift the schedule to the right and back to the left (forward-backward improvement).
    name, unit : str

    Raises
    ------
    ValueError
        If a mode exceeds a capacity, or an activity is missing in `keys`.

    Notes
    -----
    In the serial scheme without `improve`, a switch changes nothing before its activity in the order of priority. The
    replacement table is computed from there on, which halves the work.

    Examples
    --------
    >>> modes = {"a": [(4, {"crew": 1}), (2, {"crew": 2})], "b": [(3, {"crew": 1})], "c": [(2, {"crew": 2})]}
    >>> makespan = Makespan(Project(modes, [("a", "c")], renewable={"crew": 2}))
    >>> makespan.replacements(np.array([0, 0, 0]))
    array([6., 7., 6., 6.])
    """

    project: Project
    keys: Mapping[Hashable, float] | None = None
    scheme: Scheme = "serial"
    improve: bool = False
    name: str = field(default="makespan", kw_only=True)
    unit: str = field(default="", kw_only=True)
    space: ChoiceSpace = field(init=False)
    _instance: Instance = field(init=False)
    _keys: list[float] = field(init=False)

    def __post_init__(self) -> None:
        check_choice(self.scheme, Scheme, "scheme")
        if oversized := self.project.oversized:
            activity, labels = next(iter(oversized.items()))
            raise ValueError(f"mode {labels[0]!r} of activity {activity!r} takes more than a capacity; leave it out")
        instance = Instance.of(self.project)
        keys = latest_starts(instance) if self.keys is None else self.keys
        if missing := [a for a in instance.names if a not in keys]:
            raise ValueError(f"keys must name every activity, {missing[0]!r} is missing")
        own(self, space=self.project.space, _instance=instance, _keys=[float(keys[a]) for a in instance.names])
        own(self, unit=self.unit or self.project.unit)

    @cached_property
    def _columns(self) -> NDArray[np.int64]:
        """Position of the decision of each activity of the instance."""
        return np.array([self.space.position(a) for a in self._instance.names])

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        rows = np.asarray(selections)[:, self._columns].tolist()
        return np.array([self._made(row).makespan * self._instance.unit for row in rows], dtype=float)

    def schedule(self, selection: Any) -> dict[Hashable, int]:
        """Start of each activity for a selection, given as labels or indices."""
        made = self._made(self.space.indices(selection)[self._columns].tolist())
        return {a: start * self._instance.unit for a, start in zip(self._instance.names, made.start, strict=True)}

    def learnt(self, starts: Mapping[Hashable, float]) -> Makespan:
        """The same metric, with the starts of a schedule as priorities."""
        return Makespan(self.project, starts, self.scheme, self.improve, name=self.name, unit=self.unit)

    def _made(self, modes: list[int]) -> Pass:
        instance = self._instance
        if self.scheme == "serial":
            made = serial(instance, self._order, instance.before, modes)
        else:
            made = parallel(instance, self._keys, instance.before, modes)
        if self.improve:
            made = min(made, forward(instance, backward(instance, made.finish, modes), modes), key=_makespan)
        return made

    @cached_property
    def _order(self) -> list[int]:
        return order_by(self._keys, self._instance.before)

    def replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        if self.scheme != "serial" or self.improve:
            return self.evaluate(self.space.switches(selection))
        instance, profiles = self._instance, self._instance.profiles
        modes = selection[self._columns].tolist()
        table = np.empty(self.space.n_options)
        finish, profile = [0] * len(modes), profiles.empty
        for at, a in enumerate(self._order):
            for m in range(len(instance.options[a])):
                if m != modes[a]:
                    switched = [*modes]
                    switched[a] = m
                    makespan = self._finished(list(finish), profile, at, switched)
                    table[self.space.offsets[self._columns[a]] + m] = makespan
            profile = self._put(finish, profile, a, modes[a])
        table[self.space.layout.flat(selection)] = max(finish, default=0)
        return table * instance.unit

    def _finished(self, finish: list[int], profile: Any, at: int, modes: list[int]) -> int:
        for a in self._order[at:]:
            profile = self._put(finish, profile, a, modes[a])
        return max(finish)

    def _put(self, finish: list[int], profile: Any, a: int, mode: int) -> Any:
        instance = self._instance
        option = instance.options[a][mode]
        ready = max((finish[b] for b in instance.before[a]), default=0)
        start = instance.profiles.earliest(profile, option.need, ready)
        finish[a] = start + option.duration
        return instance.profiles.placed(profile, option.need, start)


def latest_starts(instance: Instance) -> dict[Hashable, float]:
    """The usual priority (LST): minus the longest path from each activity to the end, in shortest modes."""
    tail: list[float] = [0.0] * len(instance.names)
    for a in range(len(tail) - 1, -1, -1):
        shortest = min((o.duration for o in instance.options[a]), default=0)
        tail[a] = shortest + max((tail[s] for s in instance.after[a]), default=0.0)
    return {name: -t for name, t in zip(instance.names, tail, strict=True)}


def _makespan(made: Pass) -> int:
    return made.makespan
