"""Schedule-generation schemes: start times from an order of the activities and their modes.

Kolisch: Serial and parallel resource-constrained project scheduling methods revisited. EJOR, 1996.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

import networkx as nx

from cggd_scheduling.profiles import Profiles, profiles_for
from cggd_scheduling.project import Project

Links = Sequence[Sequence[int]]


class Option(NamedTuple):
    """A mode: its label, duration, need for the profiles, and uses of the budgets, as a tuple and packed."""

    label: Hashable
    duration: int
    need: Any
    uses: tuple[int, ...]
    packed: int


class Pass(NamedTuple):
    """Result of a scheme: starts, finishes, the makespan, and the rest of the budgets (packed)."""

    start: list[int]
    finish: list[int]
    makespan: int
    left: int


@dataclass(frozen=True, eq=False)
class Instance:
    """A project with activities and modes as positions, made by `Instance.of`.

    Attributes
    ----------
    project : Project
    names : list
        Activities in a topological order; all other fields use positions in it.
    before, after : list of list of int
        Predecessors and successors of each activity.
    options : list of list of Option
        Modes of each activity within the capacities; an activity without any makes the project infeasible.
    profiles : Profiles
    budgets : list of int
    full : int
        All budgets packed into one integer, with a guard bit above each. A budget that is exceeded clears its bit.
    guards : int
        The guard bits.
    unit : int
        Times are multiples of it.
    """

    project: Project
    names: list[Hashable]
    before: list[list[int]]
    after: list[list[int]]
    options: list[list[Option]]
    profiles: Profiles
    budgets: list[int]
    full: int
    guards: int
    unit: int

    @classmethod
    def of(cls, project: Project) -> Instance:
        """Make an instance of a project."""
        names = list(nx.lexicographical_topological_sort(project.graph, key=list(project.activities).index))
        position = {a: i for i, a in enumerate(names)}
        all_modes = [list(modes.items()) for modes in (project.activities[a] for a in names)]
        unit = project.time_step
        horizon = sum(max(m.duration for _, m in modes) for modes in all_modes) // unit
        profiles = profiles_for(list(project.renewable.values()), horizon)
        budgets, offsets, full, guards, offset = [], [], 0, 0, 0
        for resource, budget in project.budgets.items():
            most = sum(max(m.demands.get(resource, 0) for _, m in modes) for modes in all_modes)
            budgets.append(min(budget, most))
            offsets.append(offset)
            full |= budgets[-1] << offset
            offset += most.bit_length() + 1
            guards |= 1 << (offset - 1)

        def option(label: Hashable, mode: Any) -> Option:
            duration, demands = mode.duration // unit, [mode.demands.get(r, 0) for r in project.renewable]
            uses = tuple(mode.demands.get(r, 0) for r in project.budgets)
            packed = sum(use << at for use, at in zip(uses, offsets, strict=True))
            return Option(label, duration, profiles.need(duration, demands), uses, packed)

        usable = [
            [(label, mode) for label, mode in modes if label not in project.oversized.get(a, ())]
            for a, modes in zip(names, all_modes, strict=True)
        ]
        options = [[option(*pair) for pair in modes] for modes in usable]
        before = [[position[p] for p in project.graph.pred[a]] for a in names]
        after = [[position[s] for s in project.graph.succ[a]] for a in names]
        return cls(project, names, before, after, options, profiles, budgets, full | guards, guards, unit)

    def left(self, modes: Sequence[int]) -> int:
        """Rest of the budgets after modes, packed."""
        return self.full - sum(options[m].packed for options, m in zip(self.options, modes, strict=True))

    def affordable(self, modes: Sequence[int]) -> bool:
        """Whether modes satisfy the budgets."""
        return self.left(modes) & self.guards == self.guards


def order_by(keys: Sequence[float], before: Links) -> list[int]:
    """Activities in topological order, by increasing key, ties by position.

    Examples
    --------
    >>> order_by([3.0, 1.0, 2.0], [[], [0], []])
    [2, 0, 1]
    """
    pushed = list(keys)
    for a, predecessors in enumerate(before):
        for p in predecessors:
            if pushed[p] > pushed[a]:
                pushed[a] = pushed[p]
    return sorted(range(len(pushed)), key=pushed.__getitem__)


def serial(
    instance: Instance,
    order: Sequence[int],
    before: Links,
    modes: list[int],
    *,
    free: Sequence[bool] | None = None,
) -> Pass:
    """Serial scheme: schedule one activity after another, each as early as precedence and capacities allow.

    Parameters
    ----------
    instance : Instance
    order : list of int
        A topological order.
    before : list of list of int
        Activities that must end before each: predecessors, or successors if time runs backward.
    modes : list of int
        Positions in ``instance.options`` that satisfy the budgets; changed in place for `free` activities.
    free : list of bool, optional
        Activities that take the mode that ends first, of those that the budgets allow (Van Peteghem & Vanhoucke, EJOR
        2010); by default none.
    """
    profiles, options, guards = instance.profiles, instance.options, instance.guards
    earliest, placed, profile, left = profiles.earliest, profiles.placed, profiles.empty, instance.left(modes)
    start, finish = [0] * len(order), [0] * len(order)
    for a in order:
        ready = 0
        for b in before[a]:
            if finish[b] > ready:
                ready = finish[b]
        mine = options[a]
        taken = mine[modes[a]]
        at = earliest(profile, taken.need, ready)
        end = at + taken.duration
        if free and free[a] and len(mine) > 1:
            spare = left + taken.packed
            for m, other in enumerate(mine):
                if ready + other.duration < end and (spare - other.packed) & guards == guards:
                    then = earliest(profile, other.need, ready)
                    if then + other.duration < end:
                        at, end, taken, modes[a] = then, then + other.duration, other, m
            left = spare - taken.packed
        profile = placed(profile, taken.need, at)
        start[a], finish[a] = at, end
    return Pass(start, finish, max(finish, default=0), left)


def parallel(instance: Instance, keys: Sequence[float], before: Links, modes: Sequence[int]) -> Pass:
    """Parallel scheme: whenever an activity ends, start all activities that can start, by increasing key."""
    profiles, profile, time = instance.profiles, instance.profiles.empty, 0
    start, finish = [0] * len(keys), [inf] * len(keys)
    waiting = sorted(range(len(keys)), key=keys.__getitem__)
    while waiting:
        later, again = [], False
        for a in waiting:
            option = instance.options[a][modes[a]]
            ready = all(finish[b] <= time for b in before[a])
            if ready and profiles.earliest(profile, option.need, time) == time:
                profile = profiles.placed(profile, option.need, time)
                start[a], finish[a] = time, time + option.duration
                again |= option.duration == 0  # its successors may start at the same time
            else:
                later.append(a)
        waiting = later
        if waiting and not again:
            time = int(min(end for end in finish if end > time))
    ends = [int(end) for end in finish]
    return Pass(start, ends, max(ends, default=0), instance.left(modes))


def backward(
    instance: Instance, finish: Sequence[int], modes: list[int], *, free: Sequence[bool] | None = None
) -> Pass:
    """Shift all activities to the right, in the order of their ends from the last; times count back from the end."""
    order = sorted(range(len(finish)), key=lambda a: (-finish[a], -a))
    return serial(instance, order, instance.after, modes, free=free)


def forward(instance: Instance, mirrored: Pass, modes: list[int], *, free: Sequence[bool] | None = None) -> Pass:
    """Shift all activities of a backward pass to the left again."""
    order = sorted(range(len(modes)), key=lambda a: (-mirrored.finish[a], a))
    return serial(instance, order, instance.before, modes, free=free)
