import csv
import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cggd import Descent, Status, portfolio, sweep
from cggd.datasets import data_folder
from cggd.program.highs import LinearProgram, Outcome
from cggd_scheduling import JobShop, Project, modes, schedule_jobs, schedule_project, select_modes
from cggd_scheduling.lp_dive import rounded
from cggd_scheduling.project import from_lists
from tests.scheduling.projects import projects, selections

FOLDER = data_folder()
needs_data = pytest.mark.skipif(FOLDER is None, reason="the instances of PSPLIB are not here; set CGGD_DATA")


def instances(name):
    return json.loads(gzip.decompress((FOLDER / "scheduling" / f"mmrcpsp_{name}.json.gz").read_bytes()))


def project_of(data):
    return from_lists(data["modes"], data["succ"], data["cap"], data["nR"])


def without_capacities(project):
    return Project(project.activities, project.precedence, dict.fromkeys(project.renewable, 99), project.nonrenewable)


@settings(max_examples=40, deadline=None)
@given(projects(most=4), st.integers(0, 12))
def test_the_shortest_and_the_cheapest_agree_with_trying_everything(project, deadline):
    free = without_capacities(project)
    tried = [(free.critical_path(m), m) for m in selections(free)] if free.activities else [(0.0, {})]
    found = select_modes(project, improvers=portfolio(Descent(30, starts=1)))
    if not tried:
        assert found.status is Status.INFEASIBLE
        assert not found.start
        assert "infeasible" in found.reason
    else:
        assert found.status is Status.OPTIMAL
        assert found.makespan == min(length for length, _ in tried) == found.bound
    for n in list(project.nonrenewable)[:1]:
        costs = [free.use(n)(m) if m else 0.0 for length, m in tried if length <= deadline]
        found = select_modes(project, n, deadline=deadline, improvers=portfolio(Descent(30, starts=1)))
        assert found.feasible == bool(costs)
        if costs:
            assert (found.value, found.status) == (min(costs), Status.OPTIMAL)
            assert found.makespan <= deadline


def test_an_infeasible_deadline_is_named():
    found = select_modes(Project({"a": [3, 5], "b": [2]}, [("a", "b")], unit="days"), deadline=4)
    assert found.status is Status.INFEASIBLE
    assert "critical path <= 4 days" in found.reason
    assert "critical path <= 5 days is the tightest bound that works" in found.reason


def test_unknown_resources_are_named():
    with pytest.raises(ValueError, match="minimize must be a non-renewable resource, one of"):
        select_modes(Project({"a": [1]}), "money")


def test_a_project_without_activities_takes_no_time():
    found = select_modes(Project({}))
    assert (found.status, found.makespan, found.bound) == (Status.OPTIMAL, 0, 0)


def test_the_trade_off_of_time_and_cost_is_a_sweep():
    rows = {"dig": [(5, {"money": 1}), (2, {"money": 4})], "lay": [(4, {"money": 0}), (3, {"money": 2})]}
    project = Project(rows, [("dig", "lay")], nonrenewable={"money": None})
    front = sweep(project.use("money"), (), project.critical_path, [5, 6, 8, 9])
    assert [point.result.value for point in front.points] == [6, 4, 3, 1]


@pytest.mark.parametrize("big", [4 * 10**8, 10**30])
def test_huge_numbers_are_exact(big):
    step = 1 if big < 10**9 else 10**22
    project = Project({"a": [(big, {"n": step}), (big - step, {"n": big})], "b": [step]}, [("a", "b")], {}, {"n": big})
    assert select_modes(project).makespan == big
    tight = Project({"a": [(big, {"n": step}), (step, {"n": big})]}, (), {}, {"n": big - 1})
    assert select_modes(tight).makespan == big
    assert select_modes(Project({"a": [(step, {"n": step})]}, (), {}, {"n": 10**40})).makespan == step


@pytest.mark.slow
def test_rounded_shares_meet_the_bounds_and_large_projects_begin_there(monkeypatch):
    rng = np.random.default_rng(0)
    n = 120
    rows = {
        a: [
            (int(d), {"n": int(c)})
            for d, c in zip(np.sort(rng.integers(1, 30, 4)), -np.sort(-rng.integers(1, 50, 4)), strict=True)
        ]
        for a in range(n)
    }
    edges = [
        (int(a), b) for b in range(1, n) for a in rng.choice(np.arange(max(0, b - 9), b), min(b, 2), replace=False)
    ]
    project = Project(rows, edges, {}, {"n": 120 * 18})
    selection, bound = rounded(project.critical_path, project.constraints)
    assert all(c.report(selection).satisfied for c in project.constraints)
    exact = select_modes(project, time_limit=2.0)
    assert bound <= exact.bound <= exact.makespan
    assert exact.bound <= project.critical_path(selection) <= 1.2 * bound
    monkeypatch.setattr(modes, "LARGE", 100)
    large = select_modes(project)
    assert bound <= large.bound <= large.makespan <= project.critical_path(selection)


@needs_data
@pytest.mark.parametrize("number", range(0, 189, 27))
def test_known_optima(number):
    row = list(csv.DictReader((FOLDER / "scheduling" / "mode_only_optima.csv").read_text().splitlines()))[number]
    found = select_modes(project_of(instances(row["set"].lower())[row["instance"]]))
    assert found.makespan == float(row["min_critical_path"])
    assert found.status is Status.OPTIMAL


@needs_data
@pytest.mark.parametrize("name", ["j301_1", "j302_1", "j303_1"])
def test_budgets_that_cannot_be_met_are_proved_and_smallest_ones_named(name):
    project = project_of(instances("infeasible")[name])
    found = select_modes(project)
    assert found.status is Status.INFEASIBLE
    for resource, budget in project.budgets.items():
        assert f"{resource} <= {budget}" in found.reason
        # The smallest budget that works does, and one less does not.
        words = next(
            line for line in found.reason.splitlines() if line.strip().startswith(resource) and "tightest" in line
        )
        smallest = int(words.split("<=")[1].split()[0])
        for change, feasible in ((smallest, True), (smallest - 1, False)):
            other = Project(
                project.activities, project.precedence, project.renewable, project.budgets | {resource: change}
            )
            assert select_modes(other, improvers=portfolio(Descent(1, starts=1))).feasible == feasible


@settings(max_examples=30, deadline=None)
@given(projects(most=4, least=1))
def test_shares_add_up_to_one_meet_the_budgets_and_cost_what_the_bound_says(project):
    if not project.nonrenewable:
        return
    cost = project.use(next(iter(project.nonrenewable)))
    program = LinearProgram(project.space, project.constraints, cost)
    found = program.shares()
    if found.outcome is not Outcome.OPTIMAL:
        assert not found.shares.any()
        return
    assert project.space.layout.reduce(np.add, found.shares) == pytest.approx(1.0)
    assert found.shares @ cost.values == pytest.approx(found.bound, abs=1e-4)
    for c in project.constraints:
        assert found.shares @ c.metric.values <= c.limit + 1e-6


@pytest.mark.parametrize("solve", [select_modes, schedule_project, lambda p, **k: schedule_jobs(JobShop([]), **k)])
def test_nothing_to_do_is_late_for_a_deadline_before_0(solve):
    answer = solve(Project({}), deadline=-1)
    assert answer.status is Status.INFEASIBLE
    assert "the deadline is -1" in answer.reason
    assert solve(Project({}), deadline=0).status is Status.OPTIMAL


@pytest.mark.parametrize("solve", [select_modes, schedule_project])
def test_wrong_arguments_are_named(solve):
    with pytest.raises(TypeError, match="project must be a Project, got dict"):
        solve({"a": [1]})
    for limit in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="time_limit must be"):
            solve(Project({"a": [1]}), time_limit=limit)
    with pytest.raises(ValueError, match="deadline must be"):
        solve(Project({"a": [1]}), deadline=float("nan"))
    with pytest.raises(ValueError, match="None cannot be the name of an activity"):
        solve(Project({None: [1]}))
    with pytest.raises(ValueError, match=r"names \['a'\], which is no activity"):
        solve(Project({"a": [1]}, [(["a"], "a")]))


@pytest.mark.parametrize("solve", [select_modes, schedule_project])
@pytest.mark.parametrize("big", [10**9, 10**30])
def test_deadlines_of_any_size_are_exact(solve, big):
    project = Project({"a": [big], "b": [2 * big]}, [("a", "b")])
    assert solve(project, deadline=3 * big).makespan == 3 * big
    assert solve(project, deadline=3 * big - 1).status is Status.INFEASIBLE
