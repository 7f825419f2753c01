"""The best schedule of a search, its bound or proof, and the result that they make."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from cggd import Status
from cggd.budget import Budget
from cggd.program.threads import background
from cggd.rounding import true_texts
from cggd_scheduling import cp_sat
from cggd_scheduling.cp_sat import MAKESPAN, Answer, Attempt, Goal, Watch
from cggd_scheduling.schedule import Requirements, Schedule

# If no schedule keeps the deadline: share of the time left to find the shortest schedule without it.
LATE_SHARE = 0.5


@dataclass(frozen=True)
class Beside:
    """CP-SAT in parallel threads, as seen by the other search."""

    best: Best
    watch: Watch
    answers: list[Answer]

    def settled(self, value: Any) -> bool:
        """Whether a value is proved optimal, or CP-SAT has finished."""
        return value <= self.watch.bound or any(answer.complete for answer in self.answers)

    def news(self) -> Schedule | None:
        """A new schedule of CP-SAT, if it is better than the best one; it becomes the best."""
        found, self.watch.found = self.watch.found, None
        return self.best.schedule if found is not None and self.best.take(*found) else None


class Best:
    """The best schedule known, with its bound, or a proof of infeasibility.

    Parameters
    ----------
    needs : Requirements
    goal : Goal
    budget : Budget
    lanes : bool
        Whether the mode of a task is its machine and lane.
    seed : int
    workers : int, optional
        Threads of CP-SAT.

    Attributes
    ----------
    schedule : Schedule or None
    late : Schedule or None
        The shortest schedule that violates only the deadline.
    bound : number or None
        Lower bound on the value of every schedule.
    proof : str
        Why there is no schedule.
    notes : list of str
        Why the search ended, and other remarks.
    """

    def __init__(
        self,
        needs: Requirements,
        goal: Goal,
        budget: Budget,
        *,
        lanes: bool = False,
        seed: int = 0,
        workers: int | None = None,
    ) -> None:
        self.needs, self.goal, self.budget = needs, goal, budget
        self.lanes, self.seed, self.workers = lanes, seed, workers
        self.schedule: Schedule | None = None
        self.late: Schedule | None = None
        self.bound: Any = None
        self.proof = ""
        self.notes: list[str] = []

    @property
    def value(self) -> Any:
        """The value of the best schedule; infinite if there is none."""
        return math.inf if self.schedule is None else self.goal.value(self.schedule)

    def take(self, start: Mapping[Hashable, Any], modes: Mapping[Hashable, Hashable]) -> bool:
        """Keep a schedule if it satisfies the requirements and is better than the best; returns whether it was kept."""
        start, modes = ({task: of[task] for task in self.needs.tasks} for of in (start, modes))
        found = Schedule(self.needs, start, modes, modes if self.lanes else {}, objective=self.goal.name)
        late = found.late
        wrong = found.violations(replace(self.needs, deadline=None) if late else None)
        if wrong or (late and self.late is not None and found.makespan >= self.late.makespan):
            return False
        if late:
            self.late = found
            return False
        if self.goal.value(found) >= self.value:
            return False
        self.schedule = found
        return True

    def raise_bound(self, bound: Any) -> None:
        """Keep a bound if it is higher than the known one; a bound above the value of a schedule is rejected."""
        if not math.isfinite(bound):
            return
        if self.schedule is not None and bound > self.value + self.schedule.rounding:
            warnings.warn(f"a bound of {bound} is refuted by a schedule of {self.value}", RuntimeWarning, stacklevel=2)
        elif self.bound is None or bound > self.bound:
            self.bound = bound

    @property
    def optimal(self) -> bool:
        """Whether the value equals the bound, up to rounding."""
        if self.schedule is None or self.bound is None:
            return False
        return self.value <= self.bound + self.schedule.rounding

    @property
    def over(self) -> bool:
        """Whether the search is complete or out of time."""
        return bool(self.optimal or self.proof or self.budget.over())

    def share(self, share: float) -> float:
        """Share of the time for the search before CP-SAT: all of it if OR-tools is missing."""
        return share if cp_sat.available() else 1.0

    def prove(self, budget: Budget | None = None, **options: Any) -> None:
        """Let CP-SAT look for a better schedule and a bound."""
        if not self.over:
            self._hear(self._asked(budget or self.budget, self.workers, **options))

    def _asked(self, budget: Budget, workers: int | None, **options: Any) -> Answer | None:
        how = {"known": self.schedule, "bound": self.bound, "seed": self.seed, "workers": workers}
        return cp_sat.improve(self.needs, self.goal, budget, **how, **options)

    def _hear(self, answer: Answer | None) -> None:
        if answer is None:
            return
        if answer.start:
            self.take(answer.start, answer.modes)
        if answer.infeasible and self.schedule is None:
            self.proof = self._proof()
        self.raise_bound(answer.bound)
        if answer.interrupted:
            raise KeyboardInterrupt

    @property
    def beside(self) -> bool:
        """Whether CP-SAT runs in parallel with another search."""
        return self.budget.limited and cp_sat.available() and cp_sat.threads(self.workers) > 1

    @contextmanager
    def proving(self, *attempts: Attempt) -> Iterator[Beside]:
        """Run CP-SAT in parallel with the search in the `with` block, which keeps one thread.

        Each attempt starts from the best schedule. It does nothing if `beside` is false.
        """
        watch, workers = Watch(), cp_sat.threads(self.workers) - 1
        answers: list[Answer] = []
        failures: list[Exception] = []

        def work() -> None:
            try:
                for attempt in attempts:
                    part = self.budget.part(share=attempt.share)
                    watch.rival = (lambda: self.value) if attempt.again else None
                    while not (watch.stopped or part.over()):
                        answer = self._asked(part, workers, parameters=attempt.parameters, watch=watch)
                        if answer is None:
                            return
                        answers.append(answer)
                        if answer.complete:
                            return
                        if not attempt.again:
                            break
            except Exception as error:
                failures.append(error)

        thread = background.start(work) if self.beside and not self.over else None
        try:
            yield Beside(self, watch, answers)
        finally:
            watch.stopped = True
            if thread is not None:
                thread.join(2 * cp_sat.GRACE)
            for answer in answers:
                self._hear(answer)
        if failures:
            raise failures[0]

    def _proof(self) -> str:
        """Why there is no schedule, with the shortest schedule without the deadline."""
        if self.needs.deadline is None:
            return "no schedule meets the requirements, as CP-SAT has proved"
        how = {"known": self.late, "bound": self.bound, "seed": self.seed, "workers": self.workers}
        needs = replace(self.needs, deadline=None)
        answer = cp_sat.improve(needs, MAKESPAN, self.budget.part(share=LATE_SHARE), **how)
        if answer is not None and answer.infeasible and self.late is None:
            return "no schedule meets the requirements whatever the deadline, as CP-SAT has proved"
        if answer is not None and answer.start:
            self.take(answer.start, answer.modes)
        if self.late is None:
            return f"no schedule meets the deadline of {self.needs.deadline}, as CP-SAT has proved"
        found, last = true_texts(self.late.makespan, self.needs.deadline)
        least = answer is not None and answer.bound >= self.late.makespan - self.late.rounding
        shortest = "the shortest one" if least else "the shortest found"
        return f"no schedule meets the deadline of {last}, as CP-SAT has proved; {shortest} takes {found}"

    def _missed(self, late: Schedule) -> tuple[Status, str]:
        """Status and reason if no schedule was found that keeps the deadline."""
        deadline, bound = self.needs.deadline, self.bound
        found, last = true_texts(late.makespan, deadline)
        if self.goal is not MAKESPAN or bound is None or bound <= deadline + late.rounding:
            return Status.UNKNOWN, f"the shortest schedule found takes {found}, the deadline is {last}"
        if late.makespan <= bound + late.rounding:
            return Status.INFEASIBLE, f"the shortest schedule takes {found}; the deadline is {last}"
        least = true_texts(bound, deadline)[0]
        reason = f"no schedule ends before {least}, and the shortest found takes {found}; the deadline is {last}"
        return Status.INFEASIBLE, reason

    def result(self, seconds: float) -> Schedule:
        """The best schedule, or why there is none."""
        missing = [] if self.optimal or self.proof or cp_sat.available() else [cp_sat.MISSING]
        ended = [] if self.optimal or self.proof or self.budget.left > 0 else ["time limit"]
        notes = "; ".join([*ended, *self.notes, *missing])
        if self.schedule is None:
            status = Status.INFEASIBLE if self.proof else Status.UNKNOWN
            reason = self.proof or f"no schedule was found: {notes or 'the search gave up'}"
            if self.late is not None and not self.proof:
                status, reason = self._missed(self.late)
            how: dict[str, Any] = {"objective": self.goal.name, "bound": self.bound, "seconds": seconds}
            return Schedule(self.needs, {}, {}, status=status, reason=reason, **how)
        value = self.value
        optimal = self.optimal
        return replace(
            self.schedule,
            status=Status.OPTIMAL if optimal else Status.FEASIBLE,
            value=value,
            bound=value if optimal else self.bound,
            reason="; ".join(filter(None, ["no schedule can be better" if optimal else "", notes])),
            seconds=seconds,
        ).verify()
