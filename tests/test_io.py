"""Files come back as what was written, and wrong ones are told by file, line and what was expected."""

import csv
import gzip
import json
import math
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from cggd import (
    Additive,
    ChoiceSpace,
    Function,
    Interactions,
    LongestPath,
    Peak,
    Problem,
    Table,
    datasets,
    maximum,
    solve,
)
from cggd.io import (
    parse_bound,
    read_gap,
    read_mmkp,
    read_options,
    read_problem,
    write_answers,
    write_options,
    write_problem,
)
from cggd.testing import problems

# Every example writes to the same few files, one after another.
FILES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
LABELS = st.recursive(
    st.one_of(st.text(), st.integers(), NUMBERS, st.booleans(), st.none()),
    lambda parts: st.lists(parts, max_size=3).map(tuple),
    max_leaves=4,
)
CELLS = TEXTS.map(str.strip).filter(lambda text: text and not set("\r\n\0") & set(text))


@pytest.fixture
def put(tmp_path):
    """Write a file and return its path."""

    def put(content: str | bytes, name: str = "input.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return put


def told(read, path, *arguments):
    """What a reader says of a file, after the file's name."""
    with pytest.raises(ValueError, match=r".") as caught:
        read(path, *arguments)
    message = str(caught.value)
    assert message.startswith(str(path))
    return message.removeprefix(str(path)).lstrip(",: ")


def spaces(labels):
    options = st.lists(labels, min_size=1, max_size=4, unique=True)
    return st.dictionaries(labels, options, min_size=1, max_size=4).map(ChoiceSpace)


def same_labels(left, right):
    """Equal, of equal types: 1, 1.0 and True are the same key of a dictionary."""
    return repr(left) == repr(right)


def assert_same_space(left, right):
    assert same_labels(list(left.decisions), list(right.decisions))
    for decision in left.decisions:
        assert same_labels(list(left.option_labels(decision)), list(right.option_labels(decision)))


def assert_same_bits(left, right):
    assert left.dtype == right.dtype
    assert left.tobytes() == right.tobytes()


# -- option tables ----------------------------------------------------------------------------------------------------


@FILES
@given(space=spaces(CELLS), data=st.data())
def test_option_tables_come_back(tmp_path, space, data):
    names = data.draw(st.lists(CELLS.filter(lambda c: "[" not in c), max_size=3, unique=True))
    names = [name for name in names if name not in ("decision", "option")]
    rows = st.lists(NUMBERS, min_size=space.n_options, max_size=space.n_options)
    metrics = {
        name: Additive(space, data.draw(rows), name=name, unit=unit)
        for name, unit in zip(names, ("", "ms", "%"), strict=False)
    }
    path = tmp_path / "options.csv"
    write_options(space, metrics, path)
    found, columns = read_options(path)
    assert_same_space(space, found)
    assert list(columns) == names
    for name, metric in metrics.items():
        assert (columns[name].name, columns[name].unit) == (name, metric.unit)
        assert columns[name].space is found
        assert_same_bits(metric.values, columns[name].values)


TABLE = "decision,option,ms [s],weight\nb,x,1,2\na,y,3,-4e1\nb,z,0.5,6\n"


@pytest.mark.parametrize(
    "content",
    [
        TABLE,
        "\ufeff" + TABLE,
        TABLE.replace("\n", "\r\n"),
        TABLE.replace("\n", "\r"),
        TABLE.replace(",", ";"),
        TABLE.replace(",", "\t"),
        TABLE.replace(",", ", "),
        TABLE.removesuffix("\n"),
        "\n" + TABLE.replace("\n", "\n\n") + ",,,\n",
        '"decision","option","ms [s]","weight"\n"b","x","1","2"\n"a","y",3,-40.0\nb,z, "0.5" ,6\n'.replace(
            ' "0.5" ', "0.5"
        ),
        "weight,option,ms[s],decision\n2,x,1,b\n-40,y,3,a\n6,z,.5,b\n",
        gzip.compress(TABLE.encode(), mtime=0),
    ],
)
def test_option_tables_are_read_in_all_their_forms(put, content):
    space, metrics = read_options(put(content))
    assert_same_space(space, ChoiceSpace({"b": ["x", "z"], "a": ["y"]}))
    assert (metrics["ms"].unit, metrics["weight"].unit) == ("s", "")
    assert metrics["ms"].values.tolist() == [1, 0.5, 3]
    assert metrics["weight"].values.tolist() == [2, 6, -40]


def test_quoted_fields_hold_delimiters_quotes_and_lines(put):
    space, metrics = read_options(put('decision;option;"a;b"\n"x;1";"say ""hi""\nagain";7\n"x;1";second;8\n'))
    assert_same_space(space, ChoiceSpace({"x;1": ['say "hi"\nagain', "second"]}))
    assert metrics["a;b"].values.tolist() == [7, 8]


def test_a_table_without_metrics_is_a_space(put):
    space, metrics = read_options(put("decision,option\na,x\n"))
    assert_same_space(space, ChoiceSpace({"a": ["x"]}))
    assert metrics == {}


HEAD = "decision,option,ms\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: the file is empty; expected a header such as decision,option,latency [ms]"),
        ("\ufeff\n  \n", "line 1: the file is empty; expected a header such as decision,option,latency [ms]"),
        (HEAD, "line 1: there is no row below the header; expected one row per option"),
        ("\nlayer,option,ms\n", "line 2: expected a header with a column 'decision', got 'layer', 'option', 'ms'"),
        (
            "Decision;Option;ms\n",
            "line 1: there is no row below the header",
        ),
        ("decision|option\n", "line 1: there is no row below the header"),
        ("Decision/Option\n", "line 1: expected a header with a column 'decision' and 'option', got 'Decision/Option'"),
        ("decision,option,ms [s],ms\n", "line 1: there are two columns 'ms'; names must differ in more than the unit"),
        ("decision,option,option\n", "line 1: there are two columns 'option'"),
        ("decision,option,\na,x,1\n", "line 1: column 3 has no name"),
        (HEAD + "a,x,1\n\na,y,2\na,x,3\n", "line 5: option 'x' of decision 'a' stands on line 2 already"),
        (HEAD + "a,x,1\na,y,fast\n", "line 3: column 'ms': expected a finite number, got 'fast'"),
        (
            HEAD + "a,x,10%\n",
            "line 2: column 'ms': expected a finite number, got '10%'; write 10, with the unit in the heading: ms [%]",
        ),
        (
            HEAD + "a,x,1\na,y,$ 2.5\n",
            "line 3: column 'ms': expected a finite number, got '$ 2.5'; "
            "write 2.5, with the unit in the heading: ms [$]",
        ),
        (
            HEAD + "a,x,3 s\n",
            "line 2: column 'ms': expected a finite number, got '3 s'; write 3, with the unit in the heading: ms [s]",
        ),
        (
            "My bicycles; 2026\n\n" + HEAD + "a,x,1\n",
            "line 1: expected a header with a column 'decision' and 'option', got 'My bicycles', '2026'; "
            "line 3 has these headings, so delete the lines above it",
        ),
        (
            "Parts,,\n,,\n" + HEAD + "a,x,1\n",
            "line 1: expected a header with a column 'decision' and 'option', got 'Parts', '', ''; "
            "line 3 has these headings, so delete the lines above it",
        ),
        (HEAD + "a,x,nan\n", "line 2: column 'ms': expected a finite number, got 'nan'"),
        (HEAD + "a,x,1\na,y,-inf\n", "line 3: column 'ms': expected a finite number, got '-inf'"),
        (HEAD + "a,x,1e999\n", "line 2: column 'ms': expected a finite number, got '1e999'"),
        (HEAD + "a,x,\n", "line 2: column 'ms': the cell is empty; expected a number"),
        (HEAD + ",x,1\n", "line 2: the cell of column 'decision' is empty; expected a label"),
        (HEAD + "a, ,1\n", "line 2: the cell of column 'option' is empty; expected a label"),
        (HEAD + "a,x\n", "line 2: expected 3 fields (decision, option, ms), got 2"),
        (
            HEAD + "a,x,1,5\n",
            "line 2: expected 3 fields (decision, option, ms), got 4; numbers need a decimal point instead of a comma",
        ),
        (
            "decision;option;ms\na;x;1,5\n",
            "line 2: column 'ms': expected a finite number, with a decimal point instead of a comma, got '1,5'",
        ),
        (HEAD + 'a,"x\ny",1\nb,z,?\n', "line 4: column 'ms': expected a finite number, got '?'"),
        (HEAD + 'a,x,1\na,"y,2\nb,z,3\n', "line 3: expected fields with closed quotes"),
        (HEAD.encode() + "a,größe,1\n".encode("latin-1"), "line 2: expected UTF-8 text, got byte 0xf6"),
        (TABLE.encode("utf-16"), "line 1: expected UTF-8 text, got byte 0xff"),
        (gzip.compress(TABLE.encode(), mtime=0)[:-9], "expected whole gzip data"),
    ],
)
def test_wrong_option_tables_are_told(put, content, message):
    assert told(read_options, put(content, "options.csv")).startswith(message)


@pytest.mark.parametrize("read", [read_options, read_problem, lambda p: read_mmkp(p, "maximize")])
def test_missing_files_are_told(tmp_path, read):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv: no such file"):
        read(tmp_path / "nowhere.csv")
    with pytest.raises(IsADirectoryError, match="expected a file, got a folder"):
        read(tmp_path)


def test_what_does_not_fit_a_table_is_not_written(tmp_path):
    space = ChoiceSpace({"a": ["x", "y"]})
    path = tmp_path / "options.csv"

    def refused(space, metrics, error=ValueError):
        with pytest.raises(error) as caught:
            write_options(space, metrics, path)
        assert not path.exists()
        return str(caught.value)

    assert "metrics must be additive" in refused(space, [Peak(space, [1, 2])], TypeError)
    assert "'cost' has the constant 2" in refused(space, [Additive(space, [1, 2], 2.0)])
    assert "another choice space" in refused(ChoiceSpace({"a": ["x", "y"]}), [Additive(space, [1, 2])])
    assert "not read as name 'a [b]'" in refused(space, [Additive(space, [1, 2], name="a [b]")])
    assert "two columns 'cost'" in refused(space, [Additive(space, [1, 2])] * 2)
    assert "two columns 'option'" in refused(space, [Additive(space, [1, 2], name="option")])
    for label in ("", " x", "a\nb"):
        assert f"label {label!r} cannot stand in a table" in refused(ChoiceSpace({"a": [label]}), [])
    assert "the same when written as text: 1, '1'" in refused(ChoiceSpace({"a": [1, "1"]}), [])
    assert "the same when written as text: 1, '1'" in refused(ChoiceSpace({1: ["x"], "1": ["x"]}), [])


def test_labels_become_text_and_gz_is_compressed(tmp_path):
    space = ChoiceSpace.from_sizes([1, 2])
    write_options(space, [Additive(space, [1, 2, 3])], tmp_path / "options.csv.gz")
    assert (tmp_path / "options.csv.gz").read_bytes()[:2] == b"\x1f\x8b"
    found, metrics = read_options(tmp_path / "options.csv.gz")
    assert_same_space(found, ChoiceSpace({"0": ["0"], "1": ["0", "1"]}))
    assert metrics["cost"].values.tolist() == [1, 2, 3]


# -- bounds -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def metrics():
    space = ChoiceSpace.from_sizes([2, 2])
    names = {"weight": "kg", "latency": "ms", "top-1 acc. 2.5": "%", "a<b": "", "waiting time": "max"}
    known = {name: Additive(space, [1, 2, 3, 8], name=name, unit=unit) for name, unit in names.items()}
    known["box"] = Function(ChoiceSpace.from_sizes([2] * 40), lambda s: 1.0, name="box")
    return known


@pytest.mark.parametrize(
    ("text", "name", "sense", "bound"),
    [
        ("weight<=100", "weight", "<=", 100),
        ("  latency >= 5.3 ", "latency", ">=", 5.3),
        ("latency<=5.3ms", "latency", "<=", 5.3),
        ("latency<=5.3 ms", "latency", "<=", 5.3),
        ("latency≤-1e-3", "latency", "<=", -1e-3),
        ("latency≥+.5", "latency", ">=", 0.5),
        ("latency<=q0.5", "latency", "<=", 7),
        ("latency <= q 1", "latency", "<=", 10),
        ("latency<=0.6max", "latency", "<=", 0.6 * 10),
        ("latency >= 1 max", "latency", ">=", 10),
        ("top-1 acc. 2.5>=90%", "top-1 acc. 2.5", ">=", 90),
        ("top-1 acc. 2.5 >= 2.5", "top-1 acc. 2.5", ">=", 2.5),
        ("a<b<=3", "a<b", "<=", 3),
        ("waiting time <= 5 max", "waiting time", "<=", 5),
        ("box<=q0.5", "box", "<=", 1),
    ],
)
def test_bounds_are_parsed(metrics, text, name, sense, bound):
    constraint = parse_bound(text, metrics)
    assert constraint.metric is metrics[name]
    assert (constraint.sense, constraint.bound) == (sense, bound)


@given(number=NUMBERS, sense=st.sampled_from(["<=", ">="]))
def test_any_number_is_parsed_exactly(number, sense):
    metric = Additive(ChoiceSpace.from_sizes([2]), [1, 2], name="m")
    constraint = parse_bound(f"m{sense}{number!r}", {"m": metric})
    assert (constraint.bound, constraint.sense) == (number, sense)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must read like weight<=100"),
        ("weight", "must read like weight<=100"),
        ("weight 100", "must read like weight<=100"),
        (
            "mass<=100",
            "unknown metric 'mass'; known are 'weight', 'latency', 'top-1 acc. 2.5', 'a<b', 'waiting time', 'box'",
        ),
        ("Weight<=100", "unknown metric 'Weight'"),
        ("<=100", "unknown metric ''"),
        ("100>=weight", "write the metric first: weight<=100"),
        ("1<=weight<=100", "write two bounds"),
        ("weight<100", "use <= or >= instead of <: weight<=100 or weight>=100"),
        ("weight>100", "use <= or >= instead of >"),
        ("weight=100", "use <= or >= instead of =:"),
        ("weight==100", "use <= or >= instead of ==:"),
        ("weight=<100", "use <= or >= instead of =<"),
        ("weight<=", "the number after <= is missing"),
        ("weight >=  ", "the number after >= is missing"),
        (
            "weight<=heavy",
            "expected a number, with or without the unit kg, a quantile such as q0.5 or a share such as 0.6max",
        ),
        ("weight<=nan", "expected a number"),
        ("weight<=5 lb", "expected a number, with or without the unit kg"),
        ("weight<=q0.5max", "expected a number"),
        ("weight<=max", "expected a number"),
        ("weight<=1,5", "with a decimal point instead of a comma, got '1,5'"),
        ("weight<=50%", "write q0.5 for a quantile or 0.5max for a share of the maximum"),
        ("weight<=q50", "q must lie between 0 and 1, got 50"),
        ("box<=0.5max", "'box' is not known in closed form"),
    ],
)
def test_wrong_bounds_are_told(metrics, text, message):
    with pytest.raises(ValueError, match=r".") as caught:
        parse_bound(text, metrics)
    assert str(caught.value).startswith(f"bound {text!r}")
    assert message in str(caught.value)


# -- problems ---------------------------------------------------------------------------------------------------------


def rows(space, elements, dtype=float):
    return st.lists(elements, min_size=space.n_options, max_size=space.n_options).map(lambda v: np.array(v, dtype))


@st.composite
def additive_problems(draw):
    space = draw(spaces(LABELS))
    names = draw(st.lists(st.text(), min_size=1, max_size=3, unique=True))
    single = st.floats(allow_nan=False, allow_infinity=False, width=32)
    kinds = st.one_of(rows(space, NUMBERS), rows(space, single, np.float32))
    metrics = [Additive(space, draw(kinds), draw(NUMBERS), name=name, unit=draw(st.text())) for name in names]
    sense = st.sampled_from(["<=", ">="])
    chosen = draw(st.lists(st.tuples(st.sampled_from(metrics), sense, st.one_of(st.none(), NUMBERS)), max_size=4))
    constraints = []
    for metric, s, bound in chosen:
        bound = bound if bound is not None else math.inf if s == "<=" else -math.inf
        constraints.append(metric <= bound if s == "<=" else metric >= bound)
    return Problem(metrics[0], constraints, draw(st.sampled_from(["minimize", "maximize"])))


def round_trip(problem, folder):
    """The problem after writing and reading; writing it again gives the same bytes."""
    first, second = folder / "problem.json", folder / "again.json"
    write_problem(problem, first)
    found = read_problem(first)
    write_problem(found, second)
    assert first.read_bytes() == second.read_bytes()
    assert_same_space(problem.space, found.space)
    assert found.sense == problem.sense
    assert [(c.sense, c.bound) for c in found.constraints] == [(c.sense, c.bound) for c in problem.constraints]
    before = [problem.objective, *(c.metric for c in problem.constraints)]
    after = [found.objective, *(c.metric for c in found.constraints)]
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        assert (type(new), new.name, new.unit) == (type(old), old.name, old.unit)
        assert [new is other for other in after[:i]] == [old is other for other in before[:i]]
    return found


@FILES
@given(problem=additive_problems())
def test_additive_problems_come_back(tmp_path, problem):
    found = round_trip(problem, tmp_path)
    assert_same_bits(problem.objective.values, found.objective.values)
    assert math.copysign(1, problem.objective.constant) == math.copysign(1, found.objective.constant)


def assert_same_metric(old, new, seed=0):
    selections = old.space.sample(20, np.random.default_rng(seed))
    np.testing.assert_array_equal(old.evaluate(selections), new.evaluate(selections))
    np.testing.assert_array_equal(old.replacements(selections[0]), new.replacements(selections[0]))


def test_every_kind_comes_back(tmp_path):
    space = ChoiceSpace({("in", 0): ["a", "b"], "x": [1, 2.5, None], 3: [True, (1, ("y",))]})
    values = np.array([0.1, 0.2, 0.3, 1 / 3, 5, 6, 1e-300])
    graph = nx.DiGraph([(("in", 0), "x"), ("x", "end"), (("in", 0), "end")])
    graph.add_node("start", cost=2.5)
    graph.add_edge("start", ("in", 0), cost=np.float32(0.1))
    usage = sparse.random_array((3, 7), density=0.5, rng=np.random.default_rng(1))
    metrics = [
        Additive(space, values, -0.1, name="sum", unit="µs"),
        Peak(space, values, name="each"),
        Peak(space, values.astype(np.float32), {"s": ["x", 3], ("t", 1): [("in", 0)]}, name="stages"),
        Peak(space, None, usage, name="usage"),
        Peak(space, None, np.zeros((1, 7)), name="unused"),
        Table(space, np.random.default_rng(0).random((2, 3, 2)), name="table"),
        LongestPath(space, graph, values, {3: [("x", "end"), "start"]}, "cost", name="path"),
        Interactions(space, {(3, "x"): np.arange(6).reshape(2, 3) / 7, (("in", 0),): [0.1, 2]}, 0.3, name="pairs"),
    ]
    problem = Problem(metrics[-1], [metric <= 1 for metric in metrics])
    found = round_trip(problem, tmp_path)
    for old, new in zip(problem.constraints, found.constraints, strict=True):
        assert_same_metric(old.metric, new.metric)


def test_real_problems_come_back(tmp_path):
    filters, cell = datasets.arf(), datasets.nats_topology()
    found = round_trip(Problem(filters.area, [filters.latency <= 62]), tmp_path)
    assert found.space.graph is found.constraints[0].metric.graph
    assert list(found.space.graph.edges) == list(filters.graph.edges)
    assert_same_metric(filters.latency, found.constraints[0].metric)
    found = round_trip(Problem(cell.val12, [cell.latency <= 5.31], "maximize"), tmp_path)
    assert_same_bits(found.objective.values, cell.val12.values)


@pytest.mark.parametrize("cls", [nx.Graph, nx.DiGraph, nx.MultiGraph, nx.MultiDiGraph])
def test_graphs_of_every_class_come_back(tmp_path, cls):
    graph = cls([(("a", 1), "b"), ("b", 7), ("b", 7)])
    space = ChoiceSpace({"b": [0]}, graph)
    found = round_trip(Problem(Additive(space, [1])), tmp_path).space.graph
    assert type(found) is cls
    assert list(found.nodes) == list(graph.nodes)
    assert list(found.edges) == list(graph.edges)


def test_compressed_problems_come_back(tmp_path):
    space = ChoiceSpace.from_sizes([2])
    write_problem(Problem(Additive(space, [1, 2])), tmp_path / "problem.json.gz")
    assert (tmp_path / "problem.json.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert read_problem(tmp_path / "problem.json.gz").objective.values.tolist() == [1, 2]


class Own(Additive):
    pass


def test_what_no_file_can_hold_is_not_written(tmp_path):
    space, path = ChoiceSpace.from_sizes([2, 2]), tmp_path / "problem.json"
    large = ChoiceSpace.from_sizes([2] * 40)
    a, peak = Additive(space, [1, 2, 3, 4], name="a"), Peak(space, [1, 2, 3, 4])

    def refused(*metrics, error=TypeError):
        with pytest.raises(error) as caught:
            write_problem(Problem(metrics[0], [metric <= 1 for metric in metrics[1:]]), path)
        assert not path.exists()
        return str(caught.value)

    store = "store its values instead: Table(space, metric.evaluate(space.enumerate())"
    for metric, kind in ((a + peak, "Combination"), (maximum(a, peak), "Maximum"), (Own(space, a.values), "Own")):
        message = refused(a, metric)
        assert f"metric {metric.name!r} is a {kind}, which cannot be written" in message
        assert store in message
    box = Function(large, lambda s: 1.0, name="box")
    assert "metric 'box' is a Function" in refused(box)
    assert store not in refused(box)
    assert "two metrics are called 'a'" in refused(a, Additive(space, [1, 2, 3, 4], name="a"), error=ValueError)
    assert "labels in JSON must be" in refused(Additive(ChoiceSpace({"a": [frozenset()]}), [1]))


PROBLEM = """{
 "format": "cggd-problem-1",
 "decisions": [{"decision": "a", "options": ["x", "y"]}, {"decision": "b", "options": [1, 2]}],
 "metrics": [
  {"name": "value", "kind": "additive", "values": [1, 2, 3, 4]},
  {"name": "latency", "unit": "ms", "kind": "peak", "values": [1, 2, 3, 4]}
 ],
 "objective": {"sense": "maximize", "metric": "value"}
}"""


def test_a_problem_written_by_hand_is_read(put):
    problem = read_problem(put(PROBLEM))
    assert problem.constraints == ()
    assert problem.objective({"a": "y", "b": 2}) == 6


def changed(text, **changes):
    data = json.loads(text) | changes
    return json.dumps(data)


def metric(**entry):
    return changed(PROBLEM, metrics=[{"name": "value", "kind": "additive", "values": [1, 2, 3, 4]} | entry])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: not JSON"),
        (PROBLEM.replace('"b", ', '"b" '), "line 3: not JSON: Expecting ',' delimiter (column 75)"),
        (PROBLEM.replace("4]}\n", "NaN]}\n"), "not JSON: NaN is not a number"),
        ("[" * 100_000, "not JSON: "),
        ("[]", 'not a cggd problem; expected an object with "format": "cggd-problem-1"'),
        ('{"format": "cggd-result-1"}', "not a cggd problem"),
        ('{"format": "cggd-problem-1", "decisions": []}', "the file lacks 'metrics', 'objective'"),
        (changed(PROBLEM, constrains=[]), "the file has the unknown key 'constrains'; known are 'format', 'decisions'"),
        (changed(PROBLEM, decisions={}), "decisions must be a list, got {}"),
        (changed(PROBLEM, decisions=[]), "options is empty; a choice space needs at least one decision"),
        (changed(PROBLEM, decisions=["a"]), "decisions[0] must be an object with 'decision', 'options', got 'a'"),
        (changed(PROBLEM, decisions=[{"decision": "a", "options": "xy"}]), "options of decision 'a' must be a list"),
        (changed(PROBLEM, decisions=[{"decision": "a", "options": [{}]}]), "labels must be strings, numbers"),
        (
            changed(PROBLEM, decisions=[{"decision": "a", "options": [1, 1]}]),
            "decision 'a' lists option 1 more than once",
        ),
        (
            changed(PROBLEM, decisions=[{"decision": "a", "options": [1]}] * 2),
            "decisions[1]: decision 'a' is there already",
        ),
        (changed(PROBLEM, metrics=[3]), "metrics[0] must be an object with 'name', 'kind', got 3"),
        (changed(PROBLEM, metrics=[{"name": "value"}]), "metrics[0] lacks 'kind'"),
        (metric(name=3), "metrics[0]: name and unit must be strings, got 3 and ''"),
        (
            metric(kind="sum"),
            "metric 'value': kind must be one of additive, peak, table, longest_path, excess, interactions, got 'sum'",
        ),
        (metric(dtype="int8"), "metric 'value': dtype must be"),
        (metric(value=3), "metric 'value' has the unknown key 'value'; known are 'values', 'constant'"),
        (metric(values=[1, 2]), "metric 'value': values must have one number per option, shape (4,), got (2,)"),
        (metric(values=[1, 2, 3, "4"]), "metric 'value': values must hold numbers"),
        (metric(values=[1, 2, 3, None]), "metric 'value': values must hold numbers"),
        (metric(values=None, dtype="float32"), "metric 'value': values must hold numbers"),
        (
            metric().replace("4]", "1e999]"),
            "metric 'value': values must be finite, got inf for option 2 of decision 'b'",
        ),
        (metric(constant="1"), "metric 'value': constant must be a number, got '1'"),
        (metric(kind="table"), None),
        (metric(kind="table", values=[1]), "metric 'value': values must have one number per selection"),
        (metric(kind="peak", stages={}), "metric 'value': stages must be a list, got {}"),
        (
            metric(kind="peak", stages=[["s", 3]]),
            "metric 'value': stages must hold pairs of a label and a list, got ['s', 3]",
        ),
        (metric(kind="peak", stages=[["s", ["c"]]]), "metric 'value': unknown decision 'c'; the space has 'a', 'b'"),
        (metric(kind="peak", usage={"n_stages": 1, "entries": []}), "metric 'value' has the unknown key 'values'"),
        (metric(kind="longest_path"), "metric 'value': there is no graph, neither of the metric nor of the problem"),
        (
            metric(kind="longest_path", graph={"nodes": ["a", "b"], "edges": [["a", "c"]]}),
            "metric 'value': graph: edge ['a', 'c'] must join two of the nodes",
        ),
        (
            metric(kind="longest_path", graph={"nodes": ["a", "b"], "edges": []}, weights=[["c", 3]]),
            "metric 'value': weights: 'c' is no node or edge of the graph",
        ),
        (
            metric(kind="longest_path", graph={"nodes": ["a", "b"], "edges": [["a", "b"], ["b", "a"]]}),
            "metric 'value': graph has a cycle",
        ),
        (
            metric(kind="longest_path", graph={"nodes": ["a", "b"], "edges": [], "directed": False}),
            "metric 'value': graph must be a networkx.DiGraph, got Graph",
        ),
        (
            changed(PROBLEM, metrics=json.loads(metric())["metrics"] * 2),
            "metrics[1]: the name 'value' is taken already",
        ),
        (changed(PROBLEM, objective=3), "objective must be an object with 'sense', 'metric', got 3"),
        (changed(PROBLEM, objective={"sense": "max", "metric": "value"}), 'objective: sense must be "minimize" or'),
        (
            changed(PROBLEM, objective={"sense": "minimize", "metric": "x"}),
            "objective: unknown metric 'x'; known are 'value'",
        ),
        (changed(PROBLEM, constraints=[{"metric": "x"}]), "constraints[0] lacks 'sense', 'bound'"),
        (
            changed(PROBLEM, constraints=[{"metric": "x", "sense": "<=", "bound": 1}]),
            "constraints[0]: unknown metric 'x'; known are 'value', 'latency'",
        ),
        (
            changed(PROBLEM, constraints=[{"metric": "value", "sense": "<", "bound": 1}]),
            'constraints[0]: sense must be "<=" or ">=", got \'<\'',
        ),
        (
            changed(PROBLEM, constraints=[{"metric": "value", "sense": "<=", "bound": "1"}]),
            "constraints[0]: the bound on 'value' must be a number, got '1'",
        ),
    ],
)
def test_wrong_problems_are_told(put, content, message):
    path = put(content, "problem.json")
    if message is None:
        read_problem(path)
    else:
        assert told(read_problem, path).startswith(message)


@pytest.mark.parametrize("entries", [[[0, 0]], [[0.5, 0, 1]], [[0, 4, 1]], [[1, 0, 1]], [[-1, 0, 1]], ["x"]])
def test_wrong_usage_is_told(put, entries):
    usage = {"n_stages": 1, "entries": entries}
    content = changed(PROBLEM, metrics=[{"name": "value", "kind": "peak", "usage": usage}])
    assert told(read_problem, put(content)).startswith("metric 'value': ")


# -- knapsacks --------------------------------------------------------------------------------------------------------


def mmkp_text(knapsack, *, sizes=False, numbered=True, per_group=True):
    """A knapsack in Khan's format."""
    space = knapsack.space
    header = [space.n_decisions, *([int(space.sizes[0])] if per_group else []), len(knapsack.weights)]
    lines = [" ".join(map(str, header)), " ".join(f"{c:g}" for c in knapsack.capacities)]
    items = np.stack([knapsack.value.values, *(w.values for w in knapsack.weights)], axis=1)
    for group, (start, stop) in enumerate(zip(space.offsets, space.offsets[1:], strict=False), start=1):
        lines += [str(space.sizes[group - 1])] if sizes else [f" {group}"] if numbered else []
        lines += [" ".join(map(repr, row)) for row in items[start:stop].tolist()]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", ["I01", "I07"])
@pytest.mark.parametrize(
    "form",
    [{}, {"numbered": False}, {"sizes": True}, {"sizes": True, "per_group": False}],
    ids=["khan", "bare", "both", "sizes"],
)
def test_khans_knapsacks_are_read(put, name, form):
    knapsack = datasets.mmkp(name)
    text = mmkp_text(knapsack, **form)
    for content in (text, text.replace("\n", "\r\n\r\n"), "\n" + text.replace(" ", "\t ")):
        problem = read_mmkp(put(content), "maximize")
        assert problem.sense == "maximize"
        assert_same_space(problem.space, knapsack.space)
        assert problem.objective.name == "value"
        assert_same_bits(problem.objective.values, knapsack.value.values)
        for found, known in zip(problem.constraints, knapsack.constraints, strict=True):
            assert (found.metric.name, found.sense, found.bound) == (known.metric.name, known.sense, known.bound)
            assert_same_bits(found.metric.values, known.metric.values)


def test_groups_may_differ_in_size(put):
    problem = read_mmkp(put("3 2\n10 20\n1\n5 1 2\n3\n1 1 1\n2.5 0 0\n3 9 9\n2\n1 2 3\n4 5 6\n"), "minimize")
    assert problem.space.sizes.tolist() == [1, 3, 2]
    assert problem.objective.values.tolist() == [5, 1, 2.5, 3, 1, 4]
    assert problem.constraints[1].metric.values.tolist() == [2, 1, 0, 9, 3, 6]
    assert [c.bound for c in problem.constraints] == [10, 20]


KNAPSACK = "2 2 1\n10\n1\n5 3\n9 8\n2\n2 1\n8 7\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: the file is empty; expected the numbers of groups, items and resources"),
        ("\n5\n", "line 2: expected the numbers of groups, items per group and resources, got 1 numbers"),
        ("2 0 1\n10\n", "line 1: expected a positive whole number, got 0"),
        ("2 1.5 1\n10\n", "line 1: expected a positive whole number, got 1.5"),
        ("2 2 3\n10 20\n", "line 2: the file ends here; expected 3 capacities, got 2"),
        ("2 2 1\n10 20\n1\n", "line 2: expected 1 capacities, got 2"),
        ("2 2 1\n10\n", "line 2: the file ends here; expected 2 groups"),
        (KNAPSACK.replace("9 8", "9 8 7"), "line 5: expected a value and 1 weights, 2 numbers, got 3"),
        (KNAPSACK.replace("9 8", "9 x"), "line 5: expected a finite number, got 'x'"),
        (KNAPSACK.replace("9 8", "9 nan"), "line 5: expected a finite number, got 'nan'"),
        (
            KNAPSACK.replace("9 8", "9,5 8"),
            "line 5: expected a finite number, with a decimal point instead of a comma, got '9,5'",
        ),
        (
            KNAPSACK.replace("8 7\n", ""),
            "line 6: expected 2 items, or a line with their number before them, in group 2, got 1",
        ),
        (KNAPSACK.replace("2\n2 1\n8 7\n", ""), "line 5: the file ends here; expected 2 groups, got 1"),
        (KNAPSACK + "3\n1 1\n1 1\n", "line 9: expected the end of the file after 2 groups, got another"),
        (
            KNAPSACK.replace("\n1\n", "\n7\n"),
            "line 3: expected 2 items, or a line with their number before them, in group 1",
        ),
        (KNAPSACK.replace("\n1\n", "\n"), "line 3: expected 2 groups, each begun by a line with its number"),
        ("2 2 1\n10\n5 3\n9 8\n2 1\n", "line 5: the file ends here; expected 2 groups of 2 items, got 3 items"),
        ("2 1\n10\n5 3\n9 8\n", "line 3: expected 2 groups, each begun by a line with the number of its items"),
        ("2 1\n10\n1\n5 3\n3\n1 1\n2 2\n", "line 5: expected 3 items in group 2, got 2 items"),
        ("2 1\n10\n1\n5 3\n0\n", "line 5: group 2 has no item"),
    ],
)
def test_wrong_knapsacks_are_told(put, content, message):
    assert told(read_mmkp, put(content), "maximize").startswith(message)


# -- generalised assignment -------------------------------------------------------------------------------------------


def gap_text(problems):
    numbers = [len(problems)]
    for costs, loads, capacities in problems:
        numbers += [*np.shape(costs), *np.ravel(costs).tolist(), *np.ravel(loads).tolist(), *capacities]
    return numbers


@st.composite
def assignments(draw):
    agents, jobs = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    whole = st.integers(0, 99)
    matrix = st.lists(st.lists(whole, min_size=jobs, max_size=jobs), min_size=agents, max_size=agents)
    return draw(matrix), draw(matrix), draw(st.lists(whole, min_size=agents, max_size=agents))


@FILES
@given(
    known=st.lists(assignments(), min_size=1, max_size=3),
    breaks=st.randoms(),
    sense=st.sampled_from(["minimize", "maximize"]),
)
def test_assignments_are_read(tmp_path, known, breaks, sense):
    path = tmp_path / "gap.txt"
    path.write_text("".join(f"{number}{breaks.choice([' ', '  ', chr(10)])}" for number in gap_text(known)))
    problems = read_gap(path, sense)
    assert len(problems) == len(known)
    for problem, (costs, loads, capacities) in zip(problems, known, strict=True):
        costs, loads = np.array(costs), np.array(loads)
        agents, jobs = costs.shape
        assert (problem.sense, problem.space.sizes.tolist()) == (sense, [agents] * jobs)
        assert problem.objective.name == ("cost" if sense == "minimize" else "profit")
        selection = breaks.choices(range(agents), k=jobs)
        assert problem.objective(selection) == costs[selection, range(jobs)].sum()
        for agent, constraint in enumerate(problem.constraints):
            assert (constraint.metric.name, constraint.sense) == (f"load of agent {agent}", "<=")
            assert constraint.bound == capacities[agent]
            assert constraint.metric(selection) == sum(loads[agent, j] for j in range(jobs) if selection[j] == agent)


def test_real_assignments_come_back(put):
    folder = datasets.data_folder()
    if folder is None:
        pytest.skip("the source data are not here: set CGGD_DATA to their folder")
    instances = json.loads(gzip.decompress((folder / "selection" / "gap.json.gz").read_bytes()))
    instance = next(iter(instances.values())) if isinstance(instances, dict) else instances[0]
    capacities = next(value for key, value in instance.items() if key.startswith("cap"))
    (problem,) = read_gap(
        put(" ".join(map(str, gap_text([(instance["cost"], instance["weight"], capacities)])))), "minimize"
    )
    assert problem.space.sizes.tolist() == [instance["m"]] * instance["n"]
    first = problem.space.labels(np.zeros(instance["n"], dtype=int))
    assert problem.objective(first) == sum(instance["cost"][0])
    assert [c.metric(first) for c in problem.constraints] == [sum(instance["weight"][0])] + [0] * (instance["m"] - 1)


GAP = "1\n2 3\n4 1 7\n5 2 3\n9 8 7\n3 2 1\n15 5\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\n \n", "line 1: the file is empty; expected the number of problems"),
        (
            GAP.removeprefix("1\n"),
            "line 1: expected the number of problems, got the numbers of agents and jobs; put it before them",
        ),
        (GAP.removeprefix("1\n") * 2, "line 1: expected the number of problems, got the numbers of agents and jobs"),
        (GAP.replace("1\n2 3", "0\n2 3"), "line 1: expected a positive whole number, got 0"),
        (GAP.replace("2 3\n4", "2 3.5\n4"), "line 2: expected a positive whole number, got 3.5"),
        (
            GAP.replace("15 5", "15"),
            "line 7: the file ends here; problem 1 of 2 agents and 3 jobs takes 16 numbers, got 15",
        ),
        (
            GAP.replace("1\n2 3", "2\n2 3"),
            "line 7: the file ends here; expected the numbers of agents and jobs of problem 2",
        ),
        (GAP + "\n8 8\n", "line 9: expected the end of the file after 1 problems, got 8"),
        (GAP.replace("9 8 7", "9 eight 7"), "line 5: expected a finite number, got 'eight'"),
    ],
)
def test_wrong_assignments_are_told(put, content, message):
    assert told(read_gap, put(content), "minimize").startswith(message)


@pytest.mark.parametrize("read", [read_mmkp, read_gap])
def test_the_sense_is_checked(put, read):
    with pytest.raises(ValueError, match='sense must be "minimize" or "maximize", got \'max\''):
        read(put(GAP), "max")


@FILES
@given(problem=problems(max_constraints=2))
def test_answers_have_the_numbers_of_their_metrics(problem, tmp_path):
    result, path = solve(problem), tmp_path / "answers.csv"
    write_answers(result, path)
    rows = list(csv.reader(path.read_text().splitlines()))
    metrics = list({id(m): m for m in problem.metrics}.values())
    assert len(rows[0]) == 2 + len(metrics)
    assert rows[-1][0] == ("total" if result.feasible else "decision")
    for column, metric in enumerate(metrics, start=2):
        if result.feasible:
            cells = [row[column] for row in rows[1:]]
            assert float(cells[-1]) == pytest.approx(metric(result.indices), rel=1e-9, abs=1e-9)
            if (sums := metric.sum_table()) is None:
                assert set(cells[:-1]) == {""}
            else:
                size = sums.lost + abs(np.asarray(sums.values, dtype=float)).sum()
                assert sum(map(float, cells[:-1])) == pytest.approx(float(cells[-1]), abs=1e-9 * size + 1e-12)
