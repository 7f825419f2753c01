import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cggd import Descent, minimize, portfolio
from cggd.testing import check_metric
from cggd_scheduling import Makespan, Project, Schedule
from tests.scheduling.projects import makespan, projects, selections, serial_by_hand

ways = st.fixed_dictionaries({"scheme": st.sampled_from(["serial", "parallel"]), "improve": st.booleans()})


@given(projects(least=1, nonrenewable=0), ways)
def test_values_and_tables_agree_with_schedules_made_anew(project, how):
    metric = Makespan(project, **how)
    for modes in list(selections(project))[:2]:
        start = metric.schedule(modes)
        Schedule(project.requirements(), start, modes).verify()
        assert metric(modes) == makespan(project, start, modes)
        selection = project.space.indices(modes)
        assert metric.replacements(selection).tolist() == metric.evaluate(project.space.switches(selection)).tolist()


@given(projects(least=1, nonrenewable=0))
def test_keys_give_the_order(project):
    keys = {a: k for k, a in enumerate(project.activities)}
    metric = Makespan(project, keys)
    modes = next(selections(project))
    pushed = {a: max([keys[a]] + [keys[b] for b in nx.ancestors(project.graph, a)]) for a in project.activities}
    start = serial_by_hand(project, topological(project, pushed), modes)
    assert metric(modes) == makespan(project, start, modes)


def topological(project, pushed):
    rank = {
        a: k
        for k, a in enumerate(nx.lexicographical_topological_sort(project.graph, key=list(project.activities).index))
    }
    return sorted(project.activities, key=lambda a: (pushed[a], rank[a]))


def test_the_laws_of_metrics_hold():
    modes = [(3, {"r": 1}), (2, {"r": 2})]
    project = Project(dict.fromkeys("abcd", modes), [("a", "c"), ("b", "c")], {"r": 3})
    for how in ({}, {"scheme": "parallel"}, {"improve": True}):
        check_metric(Makespan(project, **how))


def test_the_core_minimises_it_and_learnt_keys_keep_what_was_found():
    modes = [(4, {"r": 1, "n": 0}), (2, {"r": 2, "n": 1})]
    project = Project(dict.fromkeys("abcde", modes), [("a", "c"), ("b", "d")], {"r": 3}, {"n": 2})
    metric = Makespan(project)
    result = minimize(metric, project.constraints, improvers=portfolio(Descent(60, starts=2)))
    assert result.feasible
    best = min(metric.evaluate(np.array([project.space.indices(m) for m in selections(project)])))
    assert result.value == best
    learnt = metric.learnt(metric.schedule(result.selection))
    assert learnt(result.selection) <= result.value


def test_wrong_arguments_are_named():
    project = Project({"a": [1], "b": [(2, {"r": 1})]}, (), {"r": 1})
    with pytest.raises(ValueError, match="scheme must be"):
        Makespan(project, scheme="random")
    with pytest.raises(ValueError, match="keys must name every activity, 'b' is missing"):
        Makespan(project, {"a": 1})
    with pytest.raises(ValueError, match="mode 1 of activity 'a' takes more than a capacity"):
        Makespan(Project({"a": [(1, {"r": 2})]}, (), {"r": 1}))
