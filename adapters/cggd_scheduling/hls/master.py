"""The master problem of sharing: the best numbers of copies under necessary conditions."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from cggd import Additive, ChoiceSpace, Constraint, Descent, LongestPath, Result, Stop, minimize, portfolio
from cggd_scheduling.hls.graph import FunctionalUnit
from cggd_scheduling.hls.limits import Limits
from cggd_scheduling.hls.problem import Synthesis

# Steps of the descent at the start of the core's search; the exact solver follows.
STEPS = 20


class Master:
    """Choose the copies of each unit and, if power matters, the unit of each operation, under necessary conditions.

    In each *window* between the earliest start and the latest end of some operations of one kind, the copies of its
    units must be able to carry out these operations one after another. This is a bound on a sum over copies.

    Parameters
    ----------
    problem : Synthesis
    objective : {"area", "power"}
    limits : Limits
    """

    def __init__(self, problem: Synthesis, objective: str, limits: Limits) -> None:
        latency, area, power = limits.latency, limits.area, limits.power
        self.problem, self.latency = problem, latency
        self.with_power = objective == "power" or math.isfinite(power)
        counts = {kind: list(problem.graph.operations.values()).count(kind) for kind in problem.graph.kinds}
        decisions: dict[Hashable, Sequence[Hashable]] = {
            ("copies", name): range(min(counts[unit.kind], limits.copies.get(name, counts[unit.kind])) + 1)
            for name, unit in problem.unit.items()
        }
        if self.with_power:
            decisions |= {("unit of", op): [u.name for u in units] for op, units in problem.units.items()}
        self.space = ChoiceSpace(decisions)
        self.constraints = [row for kind in problem.graph.kinds for row in self._covered(kind)]
        built = self._sum({("copies", name): unit.area for name, unit in problem.unit.items()}, "area")
        if math.isfinite(area):
            self.constraints.append(built <= area)
        self.objective = built
        if self.with_power:
            spent = self._chosen({name: unit.power for name, unit in problem.unit.items()}, "power")
            self.constraints += [spent <= power] if math.isfinite(power) else []
            self.constraints += self._carried()
            if math.isfinite(latency) and not problem.chain:
                self.constraints.append(self._path() <= latency)
            self.objective = spent if objective == "power" else built

    def solve(self, cuts: Sequence[Constraint], *, seed: int) -> Result:
        """The best numbers of copies under the conditions and the cuts."""
        result = minimize(self.objective, [*self.constraints, *cuts], seed=seed, improvers=portfolio(Descent(STEPS, 2)))
        if result.stopped is Stop.INTERRUPTED:
            raise KeyboardInterrupt
        return result

    def copies(self, result: Result) -> dict[str, int]:
        """The numbers of copies in a result."""
        assert result.selection is not None
        return {name: int(result.selection["copies", name]) for name in self.problem.unit}  # pyright: ignore

    def chosen(self, result: Result) -> dict[Hashable, str]:
        """The unit of each operation in a result; empty if the master does not choose units."""
        assert result.selection is not None
        ops = self.problem.units if self.with_power else ()
        return {op: str(result.selection["unit of", op]) for op in ops}

    def more_than(self, copies: Mapping[str, int]) -> Constraint:
        """The constraint to have more copies of at least one unit."""
        values = np.zeros(self.space.n_options)
        for name, n in copies.items():
            first, last = self.space.offsets[self.space.position(("copies", name)) :][:2].tolist()
            values[first + n + 1 : last] = 1.0  # option i is i copies
        return Additive(self.space, values, name=f"more than {dict(copies)}") >= 1

    # -- sums ---------------------------------------------------------------------------------------------------------

    def _sum(self, each: Mapping[Hashable, float], name: str) -> Additive:
        """An amount for each copy, summed."""
        values = np.zeros(self.space.n_options)
        for decision, amount in each.items():
            first = int(self.space.offsets[self.space.position(decision)])
            numbers = self.space.option_labels(decision)
            values[first : first + len(numbers)] = [amount * n for n in numbers]  # pyright: ignore
        return Additive(self.space, values, name=name)

    def _chosen(self, each: Mapping[str, float], name: str) -> Additive:
        """An amount for each operation on a unit, summed."""
        values = np.zeros(self.space.n_options)
        for op, units in self.problem.units.items():
            first = int(self.space.offsets[self.space.position(("unit of", op))])
            values[first : first + len(units)] = [each.get(unit.name, 0.0) for unit in units]
        return Additive(self.space, values, name=name)

    def _path(self) -> LongestPath:
        problem = self.problem
        delays = np.zeros(self.space.n_options)
        for op, units in problem.units.items():
            first = int(self.space.offsets[self.space.position(("unit of", op))])
            delays[first : first + len(units)] = [problem.delay(unit) for unit in units]
        # Numbers of copies take no time; each gets a separate node.
        graph = problem.graph.graph.copy()
        at: dict[Hashable, list[Hashable]] = {("unit of", op): [op] for op in problem.units}
        for name in problem.unit:
            graph.add_node(("copies", name))
        return LongestPath(self.space, graph, delays, at=at, name="latency")

    # -- what every schedule needs ------------------------------------------------------------------------------------

    def _turns(self, unit: FunctionalUnit, first: Any, last: Any) -> int:
        """Most operations that one copy can carry out one after another between two times."""
        clock, taken = self.problem.timing, self.problem.delay(unit)
        if not math.isfinite(last):
            return len(self.problem.order)
        begin, end = clock.occupied(first, last - first)
        _, one = clock.occupied(0, taken)
        if taken > last - first + clock.rounding(last):
            return 0
        if one == 0:
            return len(self.problem.order)
        return math.floor((end - begin + clock.rounding(end)) / one)

    def _covered(self, kind: str) -> list[Constraint]:
        """Conditions of the windows of a kind, without those that others imply."""
        problem = self.problem
        units = problem.library.of(kind)
        ends = [(problem.heads[op], problem.tails[op]) for op, k in problem.graph.operations.items() if k == kind]
        asked: dict[tuple[int, ...], int] = {}
        for first in sorted({head for head, _ in ends}):
            for tail in sorted({tail for _, tail in ends}):
                number = sum(h >= first and t >= tail for h, t in ends)
                turns = tuple(self._turns(unit, first, self.latency - tail) for unit in units)
                asked[turns] = max(asked.get(turns, 0), number)
        needs = [([n / t if t else math.inf for t in turns], turns, n) for turns, n in asked.items() if n]
        hard = [
            (turns, n)
            for i, (share, turns, n) in enumerate(needs)
            if not any(
                all(a >= b for a, b in zip(other, share, strict=True)) and (other != share or j < i)
                for j, (other, _, _) in enumerate(needs)
                if j != i
            )
        ]
        return [
            self._sum(
                {("copies", u.name): float(min(t, n)) for u, t in zip(units, turns, strict=True)},
                f"{kind} within a window",
            )
            >= n
            for turns, n in hard
        ]

    def _carried(self) -> list[Constraint]:
        """No unit has more operations than its copies can carry out within the latency."""
        problem, rows = self.problem, []
        for name, unit in problem.unit.items():
            ops = [op for op, kind in problem.graph.operations.items() if kind == unit.kind]
            first = min(problem.heads[op] for op in ops)
            last = self.latency - min(problem.tails[op] for op in ops)
            turns = min(self._turns(unit, first, last), len(ops))
            used = self._chosen({name: 1.0}, f"operations on {name}")
            rows.append(used - self._sum({("copies", name): float(turns)}, f"turns of {name}") <= 0)
        return rows
