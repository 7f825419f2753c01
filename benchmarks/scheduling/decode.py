"""Schedules from modes and priorities, for the priority rules and the genetic algorithm."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import networkx as nx

from benchmarks.scheduling.cases import Answer, Case
from cggd_scheduling import Requirements


@dataclass(frozen=True, eq=False)
class Decoder:
    """Serial schedule generation for the requirements of a case."""

    case: Case

    @property
    def needs(self) -> Requirements:
        assert self.case.needs is not None
        return self.case.needs

    @cached_property
    def graph(self) -> nx.DiGraph:
        graph = nx.DiGraph()
        graph.add_nodes_from(self.needs.tasks)
        graph.add_edges_from(self.needs.precedence)
        return graph

    @cached_property
    def order(self) -> list[Hashable]:
        return list(nx.topological_sort(self.graph))

    def tails(self, modes: Mapping[Hashable, Hashable]) -> dict[Hashable, Any]:
        """Longest chain from each task to the end, including its own duration."""
        tail: dict[Hashable, Any] = {}
        for task in reversed(self.order):
            duration = self.needs.tasks[task][modes[task]].duration
            tail[task] = duration + max((tail[v] for v in self.graph.successors(task)), default=0)
        return tail

    def excess(self, modes: Mapping[Hashable, Hashable]) -> float:
        """Sum of the relative excesses over the budgets."""
        total = 0.0
        for resource, budget in self.needs.budgets.items():
            taken = sum(self.needs.tasks[task][mode].demands.get(resource, 0) for task, mode in modes.items())
            total += max(0.0, (taken - budget) / max(budget, 1))
        return total

    def schedule(
        self, modes: Mapping[Hashable, Hashable], priority: Mapping[Hashable, float], capacities: Mapping | None = None
    ) -> dict[Hashable, Any]:
        """Start each task as early as it fits; of the eligible tasks, that with the smallest priority number first."""
        capacities = self.needs.capacities if capacities is None else capacities
        busy: dict[Hashable, list[tuple[Any, Any, Any]]] = {resource: [] for resource in capacities}
        waiting = dict(self.graph.in_degree())
        eligible = [task for task, n in waiting.items() if n == 0]
        start: dict[Hashable, Any] = {}
        end: dict[Hashable, Any] = {}
        while eligible:
            task = min(eligible, key=lambda t: priority[t])
            eligible.remove(task)
            way = self.needs.tasks[task][modes[task]]
            ready = max((end[u] for u in self.graph.predecessors(task)), default=0)
            taken = {r: n for r, n in way.demands.items() if n and r in capacities} if way.duration else {}
            times = sorted({ready, *(e for r in taken for _, e, _ in busy[r] if e > ready)})
            start[task] = next(t for t in times if self._fits(busy, capacities, taken, t, t + way.duration))
            end[task] = start[task] + way.duration
            for resource, amount in taken.items():
                busy[resource].append((start[task], end[task], amount))
            for v in self.graph.successors(task):
                waiting[v] -= 1
                if waiting[v] == 0:
                    eligible.append(v)
        return start

    @staticmethod
    def _fits(busy: Mapping, capacities: Mapping, taken: Mapping, start: Any, end: Any) -> bool:
        for resource, amount in taken.items():
            inside = [(s, e, n) for s, e, n in busy[resource] if s < end and e > start]
            moments = {start, *(s for s, _, _ in inside if s > start)}
            level = max(sum(n for s, e, n in inside if s <= t < e) for t in moments)
            if level + amount > capacities[resource]:
                return False
        return True

    def makespan(self, modes: Mapping[Hashable, Hashable], start: Mapping[Hashable, Any]) -> Any:
        return max((s + self.needs.tasks[t][modes[t]].duration for t, s in start.items()), default=0)

    def on_copies(
        self, modes: Mapping[Hashable, Hashable], priority: Mapping[Hashable, float], copies: Mapping[Hashable, int]
    ) -> Answer | None:
        """A schedule on copies of units, if one is found that ends by the deadline."""
        if any(not copies.get(mode) for mode in modes.values()):
            return None
        start = self.schedule(modes, priority, copies)
        return Answer(modes, start) if self.makespan(modes, start) <= self.needs.deadline else None
