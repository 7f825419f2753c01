"""Two improvers side by side: what both find is taken, and the solver's thread is told when it is no longer wanted."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import Additive, ChoiceSpace, Exact, Finding, Stop, minimize
from cggd.budget import Budget
from cggd.improve import exact
from cggd.improve.alongside import alongside, in_background
from cggd.incumbent import Incumbent
from cggd.problem import Problem


def problem(seed: int = 0, n: int = 12) -> Problem:
    rng = np.random.default_rng(seed)
    space = ChoiceSpace({f"d{i}": ["a", "b", "c"] for i in range(n)})
    cost = Additive(space, rng.integers(1, 30, space.n_options).astype(float), name="cost")
    loads = [Additive(space, rng.integers(1, 30, space.n_options).astype(float), name=f"load{k}") for k in range(3)]
    return Problem(cost, [load <= 16.0 * n for load in loads], "minimize")


@dataclass
class Counting:
    """Yields None, or each of its selections once, and counts how often it was started."""

    selections: tuple = ()
    started: int = 0

    def suits(self, problem):
        return True

    def improve(self, problem, incumbent, budget, rng):
        self.started += 1
        for row in self.selections:
            yield Finding(np.array(row))
        while not budget.over():
            yield None


def test_the_second_works_while_the_first_waits_and_starts_again_after_a_better_selection():
    task = problem(n=4)
    rows = sorted(task.space.enumerate().tolist(), key=lambda row: -task.cost(np.array(row)))
    rows = [row for row in rows if task.satisfied(np.array(row))]
    second, incumbent, budget = Counting((rows[1],)), Incumbent(task), Budget(20.0)

    def first():
        yield None
        yield Finding(np.array(rows[0]))  # worse than what the second has found by now
        yield Finding(np.array(rows[2]))
        yield None

    seen = []
    for finding in alongside(first(), second, task, incumbent, budget, np.random.default_rng(0)):
        if finding is not None:
            incumbent.take(finding)
            seen.append(finding.selection.tolist())
    assert second.started == 2
    assert [row for row in seen if row != rows[1]] == [rows[0], rows[2]]
    assert incumbent.selection.tolist() == rows[2]


def test_work_in_the_background_gives_its_findings_or_its_error():
    one = Finding(np.zeros(2, dtype=np.int64))
    assert list(in_background(lambda unwanted: [one], 20.0)) == [one]
    gate = threading.Event()
    found = in_background(lambda unwanted: [one] if gate.wait(20) else [], 0.0)
    assert next(found) is None
    gate.set()
    assert [f for f in found if f is not None] == [one]

    def fails(unwanted):
        raise ZeroDivisionError("in the thread")

    with pytest.raises(ZeroDivisionError, match="in the thread"):
        list(in_background(fails, 20.0))


def test_work_that_is_left_learns_of_it():
    ended = threading.Event()

    def work(unwanted):
        while not unwanted():
            time.sleep(0.001)
        ended.set()
        return []

    found = in_background(work, 0.0)
    next(found)
    found.close()
    assert ended.wait(20)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 4))
def test_exact_with_company_gives_what_it_gives_alone(seed, n_found):
    task = problem(seed, n=6)
    rng = np.random.default_rng(seed)
    company = Counting(tuple(map(tuple, task.space.sample(n_found, rng).tolist())))
    start = next((row for row in task.space.enumerate() if task.satisfied(row)), None)
    answers = []
    for beside in (None, company):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exact, "ALONE_SECONDS", 0.0)
            result = minimize(
                task.objective,
                task.constraints,
                improvers=[Exact(beside=beside)],
                time_limit=30.0,
                initial=None if start is None else start,
            )
        answers.append((result.status, result.value, result.stopped))
    assert answers[0] == answers[1]
    assert answers[0][2] in (Stop.OPTIMAL, Stop.INFEASIBLE)
