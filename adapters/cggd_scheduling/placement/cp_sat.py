"""OR-tools CP-SAT as an improver of placements, for the load."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from cggd import Finding, Problem
from cggd.budget import Budget
from cggd.incumbent import Incumbent, seed_of
from cggd_scheduling.cp_sat import LARGEST, WORK, available, run, threads
from cggd_scheduling.limits import as_written, common_step, decimal_step, in_steps, most_steps
from cggd_scheduling.placement.metrics import DeviceLoad

# Most units of the model in the known load. A unit is the decimal step of all times and costs, or larger if the load
# would have more units. Coefficients are rounded down, so that a bound stays valid. On BERT-3 CP-SAT reached 23 to 42
# ms in 5 s with 20,000 units, and 35 to 46 ms with a thousand times as many.
UNITS = 20_000


class CpSat:
    """An improver with variables for the device of each group and for the outputs that each device receives and sends.

    Parameters
    ----------
    load : DeviceLoad
    workers : int, optional
    parameters : mapping, optional
        Parameters of CP-SAT, for runs with a time limit.
    """

    def __init__(
        self, load: DeviceLoad, workers: int | None = None, parameters: Mapping[str, Any] | None = None
    ) -> None:
        self.load, self.workers, self.parameters = load, workers, dict(parameters or {})

    def suits(self, problem: Problem) -> bool:
        """Whether OR-tools is installed, and the objective is the load."""
        return available() and problem.objective is self.load

    def improve(
        self, problem: Problem, incumbent: Incumbent, budget: Budget, rng: np.random.Generator
    ) -> Iterator[Finding | None]:
        """Yield a better placement or a bound."""
        known = incumbent.selection
        if known is None or not 0 < incumbent.cost < math.inf:
            return
        unit = self._unit(incumbent.cost)
        built = self._model(problem, unit, incumbent.cost, set(problem.space.layout.flat(known).tolist()))
        if built is None:
            return
        model, options = built
        limits: dict[str, Any] = {"max_deterministic_time": WORK, "num_workers": 1}
        if budget.limited:
            limits = {"max_time_in_seconds": budget.left, "num_workers": threads(self.workers), **self.parameters}
        response, status, interrupted = run(model, {**limits, "random_seed": seed_of(rng) % LARGEST})
        if interrupted:
            raise KeyboardInterrupt
        if response is None or status not in ("OPTIMAL", "FEASIBLE"):
            return
        chosen = np.flatnonzero([bool(response.value(literal)) for literal in options])
        bound = float(round(response.best_objective_bound) * unit)
        yield Finding(chosen - problem.space.offsets[:-1], bound)

    def _unit(self, known: float) -> Fraction:
        load = self.load
        costs = {as_written(c) * as_written(x) for c in load.outputs.cost.tolist() for x in set(load.link.tolist())}
        step = common_step([*(as_written(time) for time in load.times.tolist() if time <= known), *costs])
        return max(step, Fraction(known) / UNITS)

    def _model(self, problem: Problem, unit: Fraction, most: float, known: set[int]) -> tuple[Any, list[Any]] | None:
        """The model with hints for known options, and a literal for each option; None if memory has too many digits.

        Without hints for the outputs, CP-SAT takes more than 6 s to find the known placement of 600 operators.
        """
        from ortools.sat.python import cp_model

        model, load, space = cp_model.CpModel(), self.load, problem.space
        option_on, link = load.option_on, load.link
        options = [model.new_bool_var("") for _ in range(space.n_options)]
        for option, literal in enumerate(options):
            model.add_hint(literal, option in known)
        for first, last in zip(space.offsets[:-1], space.offsets[1:], strict=True):
            model.add_exactly_one(options[first:last])
        loads: list[list[Any]] = [[] for _ in link]
        for option, time in enumerate(load.times.tolist()):
            if time > most:
                model.add(options[option] == 0)
            else:
                loads[load.device_of[option]].append(math.floor(as_written(time) / unit) * options[option])
        outputs = load.outputs
        for source, targets, cost in zip(outputs.source.tolist(), outputs.targets, outputs.cost.tolist(), strict=True):
            for device in np.flatnonzero(link).tolist():
                moved = [model.new_bool_var(""), model.new_bool_var("")]
                here = option_on[source, device]
                there = [option_on[target, device] in known for target in targets]
                model.add_hint(moved[0], here not in known and any(there))
                model.add_hint(moved[1], here in known and not all(there))
                for target in targets:
                    there = option_on[target, device]
                    for a, b, sent in ((there, here, moved[0]), (here, there, moved[1])):
                        if a >= 0:
                            model.add_bool_or([options[a].negated(), sent, *([options[b]] if b >= 0 else [])])
                paid = math.floor(min(as_written(cost) * as_written(link[device]) / unit, LARGEST))
                loads[device] += [paid * literal for literal in moved]
        for limit in problem.constraints:
            table = limit.metric.sum_table()
            assert table is not None  # memory is a sum
            values = table.values.tolist()
            step = decimal_step(values) or Fraction(1)
            taken = [in_steps(value, step) for value in values]
            if sum(taken) > LARGEST << 20:
                return None
            model.add(
                sum(n * x for n, x in zip(taken, options, strict=True)) <= most_steps(limit.bound, step, len(taken))
            )
        top = model.new_int_var(0, math.ceil(Fraction(most) / unit), "")
        for terms in loads:
            model.add(sum(terms) <= top)
        model.minimize(top)
        return model, options
