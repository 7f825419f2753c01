"""A list scheduler for any requirements: releases, lags, setup times and modes as well as capacities and budgets.

Tasks are placed one after another by a rule, each as early as possible in the mode that ends first. With setup times, a
task is placed after all others on its machine. If a task starts too late after another one (`longest_lags`), the other
one is delayed, and the attempt starts again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Iterator, Mapping
from fractions import Fraction
from typing import Any

import networkx as nx

from cggd_scheduling.limits import as_written, decimal_step, in_steps, most_steps, out_of_steps
from cggd_scheduling.profiles import Steps
from cggd_scheduling.schedule import Alternative, Requirements

# Most restarts for each task, because of `longest_lags`.
DELAYS = 4

# In random attempts, priorities get random numbers up to this share of the longest tail added.
NOISE = 0.3


class ListScheduler:
    """Make schedules from lists of tasks.

    Parameters
    ----------
    needs : Requirements
    """

    def __init__(self, needs: Requirements) -> None:
        self.needs = needs
        durations = [a.duration for modes in needs.tasks.values() for a in modes.values()]
        self.step = decimal_step([*durations, *needs.waits, *needs.due.values()]) or Fraction(1)
        self.graph = nx.DiGraph()
        self.graph.add_nodes_from(needs.tasks)
        self.graph.add_edges_from(needs.precedence)
        self.amounts = {resource: self._amounts(resource, c) for resource, c in needs.capacities.items()}
        # Duration and demands of each mode, in steps.
        self.modes = {
            task: {mode: (in_steps(a.duration, self.step), self._demands(a)) for mode, a in modes.items()}
            for task, modes in needs.tasks.items()
        }
        self.lags = {pair: in_steps(needs.lags.get(pair, 0), self.step) for pair in self.graph.edges}
        self.tail: dict[Hashable, int] = {}
        for task in reversed(list(nx.topological_sort(self.graph))):
            shortest = min(duration for duration, _ in self.modes[task].values())
            after = (self.lags[task, b] + self.tail[b] for b in self.graph[task])
            self.tail[task] = shortest + max(after, default=0)

    def _amounts(self, resource: Hashable, capacity: Any) -> tuple[Fraction, int]:
        """Decimal step of the demands for a resource, and the capacity in steps."""
        demands = [a.demands.get(resource, 0) for modes in self.needs.tasks.values() for a in modes.values()]
        step = decimal_step(demands) or Fraction(1)
        return step, most_steps(capacity, step, len(demands)) if math.isfinite(capacity) else 1 << 200

    def _demands(self, alternative: Alternative) -> list[int]:
        """Demands for the resources, in steps of each."""
        return [in_steps(alternative.demands.get(r, 0), step) for r, (step, _) in self.amounts.items()]

    def schedules(self, seed: int) -> Iterator[tuple[dict[Hashable, Any], dict[Hashable, Hashable]] | None]:
        """Yield starts and modes by several rules, then by random ones, without end; None for failed attempts."""
        rng, last = random.Random(seed), max(self.tail.values(), default=0) + 1
        due = {t: in_steps(time, self.step) for t, time in self.needs.due.items()}
        for path in nx.topological_sort(self.graph.reverse(copy=False)):
            later = [due[b] - self.tail[b] for b in self.graph[path] if b in due]
            due[path] = min([due.get(path, last << 20), *later])
        rules = [
            {task: -tail for task, tail in self.tail.items()},
            {task: due[task] - tail for task, tail in self.tail.items()},
            {task: due[task] for task in self.tail},
        ]
        yield from (self.schedule(rule) for rule in rules)
        while True:
            rule = rng.choice(rules)
            spread = max(self.tail.values(), default=0) * rng.uniform(0, NOISE)
            yield self.schedule({task: key + rng.uniform(0, spread) for task, key in rule.items()})

    def schedule(self, keys: Mapping[Hashable, Any]) -> tuple[dict[Hashable, Any], dict[Hashable, Hashable]] | None:
        """Starts and modes for a list; None if no attempt keeps the longest lags and the budgets."""
        needs, delayed = self.needs, {t: in_steps(r, self.step) for t, r in self.needs.release.items()}
        for _ in range(DELAYS * len(needs.tasks) + 1):
            placed = self._placed(keys, delayed)
            if placed is None:
                return None
            start, modes, end = placed
            missed = [
                (a, start[b] - end[a] - most)
                for (a, b), lag in needs.longest_lags.items()
                if start[b] - end[a] > (most := most_steps(lag, self.step, 2))
            ]
            if not missed:
                return {task: out_of_steps(time, self.step) for task, time in start.items()}, modes
            first, late = min(missed, key=lambda pair: start[pair[0]])
            delayed[first] = start[first] + late
        return None

    def _placed(self, keys: Mapping[Hashable, Any], release: Mapping[Hashable, int]) -> Any:
        """Starts, modes and ends; None if capacities and budgets allow no mode of a task."""
        needs, graph = self.needs, self.graph
        profiles = Steps([capacity for _, capacity in self.amounts.values()])
        profile = profiles.empty
        start: dict[Hashable, int] = {}
        end: dict[Hashable, int] = {}
        modes: dict[Hashable, Hashable] = {}
        spent = dict.fromkeys(needs.budgets, Fraction(0))
        last: dict[Hashable, Hashable] = {}
        waiting = {task: graph.in_degree(task) for task in graph}
        ready = {task for task, n in waiting.items() if not n}
        number = {task: n for n, task in enumerate(needs.tasks)}
        limits = {r: as_written(b) for r, b in needs.budgets.items() if math.isfinite(b)}
        while ready:
            task = min(ready, key=lambda t: (max(release.get(t, 0), 0) + keys[t], number[t]))
            ready.remove(task)
            first = max([release.get(task, 0), 0, *(end[a] + self.lags[a, task] for a in graph.pred[task])])
            best = None
            for mode, alternative in needs.tasks[task].items():
                (duration, amounts), demands = self.modes[task][mode], alternative.demands
                if duration and any(a > c for a, (_, c) in zip(amounts, self.amounts.values(), strict=True)):
                    continue
                if any(spent[r] + as_written(demands.get(r, 0)) > limit for r, limit in limits.items()):
                    continue
                at = first
                for resource, setups in needs.setups.items():
                    if duration and demands.get(resource, 0) and resource in last:
                        before = last[resource]
                        at = max(at, end[before] + in_steps(setups.get((before, task), 0), self.step))
                need = profiles.need(duration, amounts)
                at = profiles.earliest(profile, need, at)
                if best is None or at + duration < best[0]:
                    best = at + duration, at, mode, need
            if best is None:
                return None
            end[task], start[task], modes[task], need = best
            profile = profiles.placed(profile, need, start[task])
            chosen = needs.tasks[task][modes[task]]
            for resource in needs.budgets:
                spent[resource] += as_written(chosen.demands.get(resource, 0))
            for resource in needs.setups:
                if need[0] and chosen.demands.get(resource, 0):
                    last[resource] = task
            for then in graph[task]:
                waiting[then] -= 1
                if not waiting[then]:
                    ready.add(then)
        return start, modes, end
