"""Branch and bound with the bounds of metrics, against enumeration."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import Additive, Branches, ChoiceSpace, Function, Interactions, Metric, Peak, Problem, Status, solve
from cggd.improve.branches import lagrangian
from cggd.testing import check_improver
from cggd.testing.strategies import problems


@settings(max_examples=25, deadline=None)
@given(problems(max_decisions=4, max_options=3))
def test_every_finding_is_true(problem):
    improver = Branches()
    if improver.suits(problem):
        check_improver(improver, problem)
        check_improver(Branches(nodes=2), problem)


def test_it_ends_when_its_budget_is_over():
    # The children of the first node each have a better selection.
    space = ChoiceSpace.from_sizes([2, 2, 2, 2])
    peak, cost = Peak(space, [0, 0, 0, 0, 0, 0, 1, 0]), Additive(space, [0, -1, 0, 0, 0, 0, 0, -1])
    check_improver(Branches(), Problem(peak, [cost <= -1, Peak(space, np.zeros(8)) >= 0], "maximize"))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["minimize", "maximize"]))
def test_the_optimum_is_found_and_proved(seed, sense):
    rng = np.random.default_rng(seed)
    space = ChoiceSpace({f"d{i}": range(n) for i, n in enumerate(rng.integers(1, 4, 5))})
    sizes = space.sizes.tolist()
    tables = {(a, b): rng.integers(-9, 9, (sizes[a], sizes[b])) for a in range(5) for b in range(a)}
    worth = Interactions(space, {(f"d{a}", f"d{b}"): t for (a, b), t in tables.items()})
    cost = Additive(space, rng.integers(0, 9, space.n_options))
    problem = Problem(worth, [cost <= float(rng.integers(5, 25))], sense)
    result = solve(problem, improvers=[Branches()])
    rows = space.enumerate()
    rows = rows[problem.constraints[0].holds(rows)]
    if len(rows) == 0:
        assert result.status is Status.INFEASIBLE
    else:
        best = (problem.sign * worth.evaluate(rows)).min()
        assert result.value == pytest.approx(problem.sign * best)
        assert result.bound is not None
        assert problem.sign * result.bound <= best + 1e-9
        assert result.status is Status.OPTIMAL


class Coverage(Metric):
    """How much of a set the chosen options cover: no sum, and without a linear form."""

    def __init__(self, space, covers):
        self.space, self.name, self.unit, self.covers = space, "coverage", "", covers

    def evaluate(self, selections):
        return np.array([len(self._union(self.space.layout.flat(row))) for row in selections], dtype=float)

    def _union(self, options):
        return set().union(*(self.covers[option] for option in options))

    def least_with(self, sign, allowed):
        if sign > 0:
            return super().least_with(sign, allowed)
        owner = self.space.layout.owner
        rest = [self._union(np.flatnonzero(allowed & (owner != own))) for own in range(self.space.n_decisions)]
        return -np.array([len(rest[own] | self.covers[o]) for o, own in enumerate(owner)], dtype=float)


def test_an_objective_without_a_linear_form_is_proved_by_its_own_bound():
    rng = np.random.default_rng(3)
    space = ChoiceSpace.from_sizes([3] * 9)
    covers = [set(rng.choice(60, rng.integers(3, 12), replace=False).tolist()) for _ in range(space.n_options)]
    price = Additive(space, np.array([len(c) for c in covers]) + rng.integers(0, 4, space.n_options))
    coverage = Coverage(space, covers)
    rows = space.enumerate()
    limit = float(np.quantile(price.evaluate(rows[::50]), 0.5))
    best = coverage.evaluate(rows[price.evaluate(rows) <= limit]).max()
    result = solve(Problem(coverage, [price <= limit], "maximize"), improvers=[Branches(nodes=5000, share=1.0)])
    assert result.value == best
    assert result.status is Status.OPTIMAL


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_the_lagrangian_is_a_bound_no_weaker_than_the_unconstrained_one(seed):
    rng = np.random.default_rng(seed)
    space = ChoiceSpace.from_sizes(rng.integers(1, 4, 4).tolist())
    cost, use = (Additive(space, np.round(rng.normal(size=space.n_options), 2), constant=0.5) for _ in range(2))
    mask = rng.random(space.n_options) < 0.7
    mask[space.offsets[:-1]] = True
    limit = float(rng.normal())
    tables: list[Any] = [m.minorant(1.0, mask) for m in (cost, use)]
    bound, selection = lagrangian(space, mask, tables[0], tables[1], limit)
    rows = space.enumerate()
    rows = rows[mask[space.layout.flat(rows)].all(axis=1)]
    costs, held = cost.evaluate(rows), (use <= limit).holds(rows)
    assert bound >= costs.min() - 1e-9
    if held.any():
        assert bound <= costs[held].min()
    if selection is not None:
        assert use.evaluate(selection[None])[0] <= limit + 1e-9


def test_a_noisy_or_costly_metric_is_left_alone():
    space = ChoiceSpace.from_sizes([2, 2])
    noisy = Function(space, lambda s: 1.0, repeats=3)
    costly = Function(space, lambda s: 1.0, costly=True)
    assert not Branches().suits(Problem(noisy))
    assert not Branches().suits(Problem(costly))
