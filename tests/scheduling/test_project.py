import json

import numpy as np
import pytest
from hypothesis import given

from cggd_scheduling import Alternative, Project, read_project, write_project
from cggd_scheduling.project import from_lists
from tests.scheduling.projects import projects, selections

# A file as PSPLIB and MMLIB write them, with one job between the dummies in two modes.
PSPLIB = """\
************************************************************************
file with basedata            : j102_2.bas
initial value random generator: 28123
************************************************************************
projects                      :  1
jobs (incl. supersource/sink ):  3
horizon                       :  9
RESOURCES
  - renewable                 :  2   R
  - nonrenewable              :  1   N
  - doubly constrained        :  0   D
************************************************************************
PROJECT INFORMATION:
pronr.  #jobs rel.date duedate tardcost  MPM-Time
    1      1      0       13       9       13
************************************************************************
PRECEDENCE RELATIONS:
jobnr.    #modes  #successors   successors
   1        1          1           2
   2        2          1           3
   3        1          0
************************************************************************
REQUESTS/DURATIONS:
jobnr. mode duration  R 1  R 2  N 1
------------------------------------------------------------------------
  1      1     0       0    0    0
  2      1     3       6    0    9
         2     9       5    0    8
  3      1     0       0    0    0
************************************************************************
RESOURCEAVAILABILITIES:
  R 1  R 2  N 1
    9    4   29
************************************************************************
"""


def test_modes_in_every_form():
    project = Project(
        {"a": [3], "b": [2, (4, {"r": 1})], "c": {"x": Alternative(1, {"n": np.int64(2)})}}, (), {"r": 1}, {"n": 5}
    )
    assert {a: list(modes) for a, modes in project.activities.items()} == {"a": [1], "b": [1, 2], "c": ["x"]}
    assert project.activities["c"]["x"].demands == {"n": 2}
    assert type(project.activities["c"]["x"].demands["n"]) is int


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([["a"]],), TypeError, "activities must map each activity to its modes, got list"),
        (({"a": []},), ValueError, "activity 'a' has no mode"),
        (({"a": {}},), ValueError, "activity 'a' has no mode"),
        (({"a": 3},), TypeError, "modes of activity 'a' must be a mapping or a list, got 3"),
        (({"a": "xy"},), TypeError, "modes of activity 'a' must be a mapping or a list, got 'xy'"),
        (({"a": [(1, 2)]},), TypeError, r"mode 1 of activity 'a' must be \(duration, demands\)"),
        (
            ({"a": [-1]},),
            ValueError,
            "the duration of mode 1 of activity 'a' must be a whole number of at least 0, got -1",
        ),
        (({"a": [1.5]},), ValueError, "the duration of mode 1 .* got 1.5"),
        (({"a": [float("nan")]},), TypeError, "the duration of mode 1 .* got nan"),
        (({"a": [float("inf")]},), TypeError, "the duration of mode 1 .* got inf"),
        (({"a": [True]},), TypeError, "the duration of mode 1 .* got True"),
        (({"a": [(1, {"r": 1})]},), ValueError, "mode 1 of activity 'a' takes 'r', which is no resource"),
        (({"a": [(1, {"r": -2})]}, (), {"r": 1}), ValueError, "the demand of mode 1 of activity 'a' for 'r' .* got -2"),
        (({"a": [1]}, [("a", "b")]), ValueError, "names 'b', which is no activity"),
        (({"a": [1]}, ["ab"]), ValueError, "precedence must hold pairs"),
        (({"a": [1]}, [("a", "a")]), ValueError, "precedence has a cycle through"),
        (({"a": [1], "b": [1]}, [("a", "b"), ("b", "a")]), ValueError, "precedence has a cycle through .*'a'"),
        (({"a": [1]}, (), {"r": 1.5}), ValueError, "the capacity of 'r' must be a whole number"),
        (({"a": [1]}, (), {"r": 1}, {"r": 1}), ValueError, "resource 'r' is given as renewable and as non-renewable"),
        (({"a": [10**15], "b": [1]},), ValueError, r"durations add up to 1000000000000001, and are multiples of 1"),
        (
            ({"a": [(1, {"n": 10**9}), (1, {"n": 1})]}, (), {}, {"n": 1}),
            ValueError,
            "demands for 'n' add up to 1000000000",
        ),
    ],
)
def test_what_is_no_project_is_named(arguments, error, words):
    with pytest.raises(error, match=words):
        Project(*arguments)


def test_a_resource_that_is_none_is_named():
    with pytest.raises(ValueError, match=r"resource must be one of 'r', 'n', got 'x'"):
        Project({"a": [1]}, (), {"r": 1}, {"n": None}).use("x")


@given(projects(least=1, most=4))
def test_metrics_agree_with_sums_by_hand(project):
    for modes in list(selections(project))[:3]:
        rows = [project.activities[a][label] for a, label in modes.items()]
        for n in project.nonrenewable:
            assert project.use(n)(modes) == sum(m.demands.get(n, 0) for m in rows)
        for r in project.renewable:
            assert project.use(r)(modes) == sum(m.demands.get(r, 0) * m.duration for m in rows)
        assert all(c.report(modes).satisfied for c in project.constraints)


def as_data(project):
    modes = {a: {m: (x.duration, x.demands) for m, x in rows.items()} for a, rows in project.activities.items()}
    return modes, set(project.precedence), project.renewable, project.nonrenewable, project.unit, project.name


@given(projects())
def test_json_round_trip(tmp_path_factory, project):
    path = tmp_path_factory.mktemp("projects") / "project.json"
    write_project(project, path)
    assert as_data(read_project(path)) == as_data(project)


def test_json_keeps_numbers_tuples_units_and_open_budgets(tmp_path):
    project = Project({1: {("m", 1): 2}, ("x", 2): [3]}, [(1, ("x", 2))], {}, {"n": None}, unit="h", name="p")
    write_project(project, tmp_path / "p.json.gz")
    assert as_data(read_project(tmp_path / "p.json.gz")) == as_data(project)


def test_names_of_resources_in_json_are_strings(tmp_path):
    with pytest.raises(TypeError, match="resources in JSON must have strings as names, got 1"):
        write_project(Project({"a": [1]}, (), {1: 1}), tmp_path / "p.json")
    assert not (tmp_path / "p.json").exists()


def test_json_written_by_hand(tmp_path):
    path = tmp_path / "p.json"
    rows = [
        {"activity": "a", "modes": [{"duration": 3, "demands": {"crew": 1}}]},
        {"activity": "b", "after": ["a"], "modes": [{"duration": 1}]},
    ]
    path.write_text(
        json.dumps({"format": "cggd-project-1", "resources": [{"resource": "crew", "capacity": 2}], "activities": rows})
    )
    project = read_project(path)
    assert list(project.activities["a"]) == [1]
    assert project.precedence == [("a", "b")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "line 1: not JSON"),
        ("[]", "not a project"),
        ('{"format": "cggd-result-1"}', 'not a project: expected an object with "format": "cggd-project-1"'),
        ('{"format": "cggd-project-1"}', "an entry 'activities' is missing"),
        ('{"format": "cggd-project-1", "activities": [{"activity": "a"}]}', "activity 'a' has no mode"),
        (
            '{"format": "cggd-project-1", "activities": [{"activity": "a", "modes": [{}]}]}',
            "an entry 'duration' is missing",
        ),
        ('{"format": "cggd-project-1", "activities": [3]}', "p.json: "),
        ('{"format": "cggd-project-1", "activities": [], "resources": [{"resource": "r"}]}', "needs either"),
        (
            '{"format": "cggd-project-1", "activities": [{"activity": "a", "modes": [{"duration": 1}]},'
            '{"activity": "a", "modes": [{"duration": 1}]}]}',
            "activity 'a' is listed twice",
        ),
        (
            '{"format": "cggd-project-1",'
            ' "activities": [{"activity": "a", "after": ["z"], "modes": [{"duration": 1}]}]}',
            "names 'z', which is no activity",
        ),
    ],
)
def test_errors_in_json_name_the_file(tmp_path, text, words):
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=words) as raised:
        read_project(path)
    assert "p.json" in str(raised.value)


def test_psplib_files(tmp_path):
    pytest.importorskip("psplib")
    path = tmp_path / "j102_2.mm"
    path.write_text(PSPLIB)
    project = read_project(path)
    same = from_lists([[[0, 0, 0, 0]], [[3, 6, 0, 9], [9, 5, 0, 8]], [[0, 0, 0, 0]]], [[1], [2], []], [9, 4, 29], 2)
    assert as_data(project)[:4] == as_data(same)[:4]
    assert project.name == "j102_2"
    assert project.renewable == {"R1": 9, "R2": 4}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("PRECEDENCE RELATIONS", "RELATIONS", "not a project in the format of PSPLIB or MMLIB"),
        (
            "   2        2          1           3",
            "   2        2          1           7",
            "job 2 names 7 as a successor",
        ),
        ("   3        1          0", "   3        1          1     1", "cycle"),
        ("2     9       5    0    8", "2     x       5    0    8", "not a project in the format"),
        ("2     9       5    0    8", "2    -9       5    0    8", "at least 0, got -9"),
        ("    9    4   29", "    9    4", "not a project in the format"),
    ],
)
def test_errors_in_psplib_files_name_the_file(tmp_path, old, new, words):
    pytest.importorskip("psplib")
    assert old in PSPLIB
    path = tmp_path / "wrong.mm"
    path.write_text(PSPLIB.replace(old, new))
    with pytest.raises(ValueError, match=words) as raised:
        read_project(path)
    assert "wrong.mm" in str(raised.value)


@pytest.mark.parametrize("text", ["", "hello", "\x00\x01"])
def test_other_files_are_no_projects(tmp_path, text):
    pytest.importorskip("psplib")
    path = tmp_path / "wrong.mm"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"wrong\.mm"):
        read_project(path)


def test_a_missing_file_is_named(tmp_path):
    for name in ("none.mm", "none.json"):
        with pytest.raises(FileNotFoundError, match=name):
            read_project(tmp_path / name)
