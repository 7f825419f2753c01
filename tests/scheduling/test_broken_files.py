"""Files of every family, broken in every place: they are read, or the error names the file and what is wrong."""

import copy
import gzip
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cggd_scheduling import files, hls, jobshop, placement, read_project

PROJECT = {
    "format": "cggd-project-1",
    "resources": [{"resource": "crew", "capacity": 2}, {"resource": "money", "budget": 9}],
    "activities": [
        {"activity": "a", "modes": [{"mode": 1, "duration": 3, "demands": {"crew": 1}}, {"duration": 2}]},
        {"activity": "b", "after": ["a"], "modes": [{"duration": 1, "demands": {"money": 4}}]},
    ],
}
UNITS = [{"op": "MUL", "area": 9, "delay": 3, "power": 1}, {"op": "ADD", "area": 1, "delay": 1}]
GRAPH = {"nodes": {"a": "MUL", "b": "ADD"}, "edges": [["a", "b"]], "library": UNITS}
GRAPHS = {"dfgs": {"g": {"nodes": {"a": "MUL"}, "edges": []}}, "library": UNITS}
PLACEMENT = {
    "format": "cggd-placement-1",
    "devices": [{"name": "g", "kind": "gpu", "memory": 2}, {"name": "h", "link": 0}],
    "operators": [{"name": n, "times": {"gpu": 1, "h": 2}, "memory": 1, "transfer": 0.5} for n in "ab"],
    "edges": [["a", "b"]],
    "colocate": [["a", "b"]],
    "pins": {"a": "g"},
}
PARTITIONING = {
    "maxFPGAs": 1,
    "maxCPUs": 1,
    "maxSizePerFPGA": 9,
    "nodes": [{"id": i, "supportedOnFpga": 1, "cpuLatency": 4, "fpgaLatency": 1, "size": 2} for i in (1, 2)],
    "edges": [{"sourceId": 1, "destId": 2, "cost": 0.5}],
}
SHOP = {"jobs": [[[["a", 2]], [["b", 1], ["a", 4]]]]}
FILES = [
    (PROJECT, read_project),
    (GRAPH, hls.read),
    (GRAPHS, hls.read),
    (PLACEMENT, placement.read),
    (PARTITIONING, placement.read),
    (SHOP, jobshop.read),
]
READERS = [read for _, read in FILES]
WRONG = [None, True, -1, 0.5, 3, "", "x", float("nan"), float("inf"), 10**400, [], {}, [[]], {"x": 1}]


def places(data, path=()):
    """Where something stands in nested lists and objects."""
    yield path
    entries = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in entries:
        yield from places(value, (*path, key))


def changed(data, path, value):
    """The data with something else in one place; without that place where it is `changed` itself."""
    if not path:
        return value
    data = copy.deepcopy(data)
    at = data
    for key in path[:-1]:
        at = at[key]
    if value is changed:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return data


def is_read_or_named(read, path):
    try:
        read(path)
    except ValueError as error:
        text = str(error)
        assert text.startswith(str(path)), text
        assert "object has no attribute" not in text
        assert len(text) > len(str(path)) + 5


@pytest.mark.parametrize(("data", "read"), FILES)
def test_anything_in_any_place_of_json_is_read_or_named(tmp_path, data, read):
    path = tmp_path / "file.json"
    for place in places(data):
        for value in [*WRONG, changed] if place else WRONG:
            path.write_text(json.dumps(changed(data, place, value)))
            is_read_or_named(read, path)


@given(text=st.binary(max_size=30) | st.text(max_size=30).map(str.encode))
def test_any_bytes_are_read_or_named(tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp()
    for ending in (".json", ".json.gz"):
        (folder / f"any{ending}").write_bytes(text)
        for read in READERS:
            is_read_or_named(read, folder / f"any{ending}")


@pytest.mark.parametrize("read", READERS)
def test_missing_torn_and_deep_files_are_named(tmp_path, read):
    with pytest.raises(FileNotFoundError, match=r"none\.json: no such file"):
        read(tmp_path / "none.json")
    torn = tmp_path / "torn.json.gz"
    torn.write_bytes(gzip.compress(json.dumps(PROJECT).encode())[:-20])
    with pytest.raises(ValueError, match=r"torn\.json\.gz: expected whole gzip data"):
        read(torn)
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"deep\.json: not JSON: lists or objects are nested too deeply"):
        read(deep)


@pytest.mark.parametrize("read", READERS)
def test_a_key_that_is_given_twice_is_named(tmp_path, read):
    path = tmp_path / "twice.json"
    path.write_text('{"nodes": {"a": "MUL", "a": "ADD"}}')
    with pytest.raises(ValueError, match=r"twice\.json: not JSON: an object has the key 'a' twice"):
        read(path)


@pytest.mark.parametrize(("data", "read"), FILES)
def test_endings_are_read_in_either_case_packed_or_not(tmp_path, data, read):
    for name in ("one.json", "two.JSON", "three.json.gz", "four.JSON.gz"):
        text = json.dumps(data).encode()
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
        assert read(tmp_path / name) is not None


PSPLIB = """\
jobs (incl. supersource/sink ):  4
RESOURCES
  - renewable                 :  1   R
  - nonrenewable              :  1   N
  - doubly constrained        :  0   D
************************************************************************
PRECEDENCE RELATIONS:
jobnr.    #modes  #successors   successors
   1        1          2           2   3
   2        2          1           4
   3        1          1           4
   4        1          0
************************************************************************
REQUESTS/DURATIONS:
jobnr. mode duration  R 1  N 1
------------------------------------------------------------------------
  1      1     0       0    0
  2      1     3       2    4
         2     5       1    2
  3      1     2       2    3
  4      1     0       0    0
************************************************************************
RESOURCEAVAILABILITIES:
  R 1  N 1
    3    9
************************************************************************
"""
SHOP_TEXT = "2 2 1.5\n2 2 1 3 2 2 1 2 2\n2 1 2 2 1 1 1\n"


@pytest.mark.parametrize(
    ("package", "name", "text", "read"),
    [("psplib", "file.mm", PSPLIB, read_project), ("fjsplib", "file.fjs", SHOP_TEXT, jobshop.read)],
)
def test_a_word_more_less_or_other_anywhere_is_read_or_named(tmp_path, package, name, text, read):
    pytest.importorskip(package)
    path = tmp_path / name
    for word in re.finditer(r"\S+", text):
        for other in ("", "-1", "x", "99", "1e400", f"{word[0]} 7"):
            path.write_text(text[: word.start()] + other + text[word.end() :])
            is_read_or_named(read, path)
    for end in range(0, len(text), 9):
        path.write_text(text[:end])
        is_read_or_named(read, path)


def test_packed_files_of_libraries_are_unpacked(tmp_path):
    for package, name, text, read in (
        ("psplib", "p.mm", PSPLIB, read_project),
        ("fjsplib", "s.fjs", SHOP_TEXT, jobshop.read),
    ):
        pytest.importorskip(package)
        (tmp_path / name.upper()).write_text(text)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        assert read(tmp_path / f"{name}.gz").name == name[0]
        assert read(tmp_path / name.upper()).name == name[0].upper()


def test_a_package_that_is_missing_is_named():
    with pytest.raises(ImportError, match=r"such files need no_such_package: pip install cggd\[scheduling\]"):
        files.package("no_such_package", "such files")


def objects_in(data, path=()):
    """Where an object stands whose keys have a meaning."""
    for place in places(data):
        at = data
        for key in place:
            at = at[key]
        names = {"demands", "times", "nodes", "dfgs", "pins"}  # their keys are names
        if isinstance(at, dict) and not (place and place[-1] in names):
            yield place, at


@pytest.mark.parametrize(("data", "read"), FILES)
def test_a_key_that_nothing_reads_is_an_error_that_names_a_known_one(tmp_path, data, read):
    path = tmp_path / "file.json"
    for place, at in objects_in(data):
        for key in at:
            wrong = f"{key}z"
            path.write_text(json.dumps(changed(data, (*place, wrong), 1)))
            with pytest.raises(ValueError, match=f"unknown key '{wrong}'") as raised:
                read(path)
            assert f"did you mean {key!r}?" in str(raised.value)


@pytest.mark.parametrize(
    ("name", "text", "read", "words"),
    [
        ("a.fjs", "1000000000 1000000000 1\n1 1 1 3\n", jobshop.read, "1000000000 jobs, and 1 follow"),
        ("a.fjs", "1 1 1\n1 1000000000 1 3\n", jobshop.read, "its 1 operations make"),
        ("a.fjs", "1 1 1\n1 1 1 2.5\n", jobshop.read, "must be whole"),
        ("a.mm", PSPLIB.replace(":  4", ":  1000000000"), read_project, "says 1000000000 jobs, and 4 follow"),
        ("a.mm", PSPLIB.replace("   2        2   ", "   2   1000000000"), read_project, "PSPLIB|modes"),
        ("a.mm", PSPLIB.replace("2   3\n", "2\n", 1), read_project, "job 1 has 1 successors"),
        ("a.json", json.dumps({**PARTITIONING, "maxCPUs": 10**9}), placement.read, "1000000001 devices are too many"),
    ],
)
def test_counts_that_no_file_can_have_are_refused(tmp_path, name, text, read, words):
    pytest.importorskip("psplib")
    pytest.importorskip("fjsplib")
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=words) as raised:
        read(path)
    assert str(raised.value).startswith(str(path))


def test_nested_dot_and_attributes_of_units_are_refused(tmp_path, capsys):
    pytest.importorskip("pydot")
    library = hls.UnitLibrary([hls.FunctionalUnit("ADD", 1, 1)])
    path = tmp_path / "graph.dot"
    for text, words in (
        ("digraph g {" + "subgraph {" * 2000 + "a" + "}" * 2001, "2001 deep"),
        ("digraph g { a [op=ADD, delay=4] }", "node 'a' has delay"),
        ("digraph g { a [op=ADD", "not a DOT file"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            hls.read(path, library=library)
    path.write_text('digraph g { /* {{{{{{{{{ */ a [op=ADD, label="{{{{{{{{{"] }')
    assert list(hls.read(path, library=library).graph.operations) == ["a"]
    assert capsys.readouterr().out == ""


def test_labels_deep_within_lists_are_refused(tmp_path):
    path = tmp_path / "deep.json"
    path.write_text(
        '{"format": "cggd-project-1", "activities": [{"activity": ' + "[" * 900 + "]" * 900 + ', "modes": []}]}'
    )
    with pytest.raises(ValueError, match=r"deep\.json"):
        read_project(path)
