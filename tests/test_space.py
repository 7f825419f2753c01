"""ChoiceSpace: conversions are each other's inverse, and every way to make one."""

from itertools import product

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cggd import ChoiceSpace
from cggd.testing import selections
from tests.messages import BIG, CHAIN, LAT, SMALL, case, search, told
from tests.strategies import groups, numbers, spaces, tables

# -- conversions -------------------------------------------------------------------------------------------------------


@given(st.data())
def test_labels_and_indices_are_inverse(data):
    space = data.draw(spaces())
    selection = data.draw(selections(space))
    labels = space.labels(selection)
    assert list(labels) == list(space.decisions)
    for given_ in (labels, dict(reversed(labels.items())), selection, selection.tolist(), selection.astype(np.uint8)):
        indices = space.indices(given_)
        assert indices.dtype == np.int64
        np.testing.assert_array_equal(indices, selection)
        assert space.labels(indices) == labels
    for d, (decision, option) in enumerate(labels.items()):
        assert space.position(decision) == d
        assert space.option_index(decision, option) == selection[d]
        assert space.option_labels(decision)[selection[d]] == option


@given(st.data())
def test_partial_selections(data):
    space = data.draw(spaces())
    labels = space.labels(data.draw(selections(space)))
    part = {d: o for d, o in labels.items() if data.draw(st.booleans())}
    found = space.partial(part)
    full = space.indices(labels)
    for d, decision in enumerate(space.decisions):
        assert found[d] == (full[d] if decision in part else -1)


@given(spaces())
def test_flat_positions_name_their_options(space):
    flat = 0
    for decision in space.decisions:
        for option in space.option_labels(decision):
            assert space.name_option(flat) == f"option {option!r} of decision {decision!r}"
            assert space.layout.flat(space.partial({decision: option}))[space.position(decision)] == flat
            flat += 1
    assert flat == space.n_options


@given(st.data())
def test_values_in_every_form(data):
    space = data.draw(spaces())
    flat = [data.draw(numbers) for _ in range(space.n_options)]
    rows = np.split(np.array(flat), space.offsets[1:-1])
    nested = {
        d: dict(reversed(list(zip(space.option_labels(d), row.tolist(), strict=True))))
        for d, row in zip(space.decisions, rows, strict=True)
    }
    lists = {d: row.tolist() for d, row in zip(space.decisions, rows, strict=True)}
    frame = [(d, o, x) for d, options in nested.items() for o, x in options.items()]
    order = data.draw(st.permutations(frame))
    for found in (
        space.values(flat),
        space.values(nested),
        space.values(lists),
        space.from_rows(dict(zip(("decision", "option", "x"), map(list, zip(*order, strict=True)), strict=True)), "x"),
    ):
        np.testing.assert_array_equal(found, flat)


@given(st.data())
def test_switches_differ_in_one_decision(data):
    space, _ = data.draw(tables())
    selection = data.draw(selections(space))
    rows = space.switches(selection)
    for flat, (d, o) in enumerate((d, o) for d, size in enumerate(space.sizes) for o in range(size)):
        expected = selection.copy()
        expected[d] = o
        np.testing.assert_array_equal(rows[flat], expected)


@given(tables())
def test_enumeration_is_in_c_order(drawn):
    space, _ = drawn
    expected = list(product(*map(range, space.sizes.tolist())))
    assert [tuple(row) for row in space.enumerate().tolist()] == expected
    assert space.n_selections == len(expected)


def test_enumeration_of_many_one_option_decisions():
    space = ChoiceSpace.from_sizes([1] * 100 + [2, 3])
    rows = space.enumerate()
    assert rows.shape == (6, 102)
    assert rows[:, 100:].tolist() == [[a, b] for a in range(2) for b in range(3)]
    assert ChoiceSpace.from_sizes([1] * 70).enumerate().tolist() == [[0] * 70]


def test_samples_are_selections():
    space = ChoiceSpace.from_sizes([1, 2, 5])
    rows = space.sample(1000, np.random.default_rng(0))
    np.testing.assert_array_equal(space.check_selections(rows), rows)
    assert set(map(tuple, rows.tolist())) == set(map(tuple, space.enumerate().tolist()))
    np.testing.assert_array_equal(rows, space.sample(1000, np.random.default_rng(0)))


# -- ways to make one --------------------------------------------------------------------------------------------------


@given(groups(numbers))
def test_from_sizes_equals_the_mapping(drawn):
    sizes = [len(group) for group in drawn]
    plain, written = ChoiceSpace.from_sizes(sizes), ChoiceSpace({d: range(n) for d, n in enumerate(sizes)})
    assert plain.sizes.tolist() == written.sizes.tolist() == sizes
    assert plain.offsets.tolist() == written.offsets.tolist() == [sum(sizes[:d]) for d in range(len(sizes) + 1)]
    assert plain.n_selections == written.n_selections
    last = plain.sizes - 1
    assert plain.labels(last) == written.labels(last)
    assert repr(plain) == repr(written)
    assert plain.allowed({0: []}) is None
    assert dict(plain.options) == dict(written.options)


def test_a_million_decisions():
    space = ChoiceSpace.from_sizes([3, 2] * 500_000)
    assert space.n_selections == 6**500_000
    assert (space.n_decisions, space.n_options) == (1_000_000, 2_500_000)
    assert space.indices(np.ones(1_000_000, dtype=np.int8)).sum() == 1_000_000
    labels = space.labels(space.sizes - 1)
    assert labels[999_998] == 2
    assert space.indices(labels).sum() == 1_500_000
    assert space.decisions[-1] == 999_999
    assert list(space.decisions[3:5]) == [3, 4]
    assert [space.option_labels(d) for d in (2, 3)] == [range(3), range(2)]
    with pytest.raises(ValueError, match=r"unknown decision 'x'; the space has 0, 1, 2, 3, 4, 5, \.\.\."):
        space.position("x")


def test_n_selections_is_exact():
    assert ChoiceSpace.from_sizes([7] * 100 + [3] * 50 + [1] * 9).n_selections == 7**100 * 3**50
    assert isinstance(ChoiceSpace.from_sizes([2]).n_selections, int)


def test_from_graph_nodes_and_edges():
    graph = nx.DiGraph([("a", "b"), ("b", "c")])
    space = ChoiceSpace.from_graph(graph, ["slow", "fast"])
    assert space.graph is graph
    assert list(space.decisions) == ["a", "b", "c"]
    assert ChoiceSpace.from_graph(graph, [1, 2, 3], on="edges").labels([0, 2]) == {("a", "b"): 1, ("b", "c"): 3}
    graph.nodes["b"]["options"] = ["x", "y"]
    graph.edges["b", "c"]["mode"] = ["u"]
    assert ChoiceSpace.from_graph(graph).options == {"b": ["x", "y"]}
    assert ChoiceSpace.from_graph(graph, on="edges", attribute="mode").options == {("b", "c"): ["u"]}
    assert ChoiceSpace.from_graph(nx.path_graph(3), ["x"], on="edges").n_decisions == 2


@pytest.mark.parametrize("form", [pd.DataFrame, dict], ids=["pandas", "dict"])
def test_from_table(form):
    frame = form({"decision": ["b", "b", "a", "b"], "option": [16, 8, "wide", 32], "ms": [1.0, 2.0, 3.0, 4.0]})
    space = ChoiceSpace.from_table(frame)
    assert space.labels([2, 0]) == {"b": 32, "a": "wide"}
    np.testing.assert_array_equal(space.from_rows(frame, "ms"), [1, 2, 4, 3])
    renamed = form({"layer": [0, 0, 1], "op": ["conv", "pool", "conv"]})
    assert ChoiceSpace.from_table(renamed, decision="layer", option="op").sizes.tolist() == [2, 1]


def test_labels_may_be_anything_hashable():
    space = ChoiceSpace({None: [True, "yes", (1, "a")], 2.5: [frozenset([1]), None], ("e", 1): iter("xy")})
    labels = {None: (1, "a"), 2.5: frozenset([1]), ("e", 1): "y"}
    assert space.labels(space.indices(labels)) == labels


def test_later_changes_to_the_arguments_change_nothing():
    options = {"a": ["x", "y"]}
    space = ChoiceSpace(options)
    options["a"].append("z")
    assert space.option_labels("a") == ("x", "y")
    assert space.n_options == 2


# -- forbidden options -------------------------------------------------------------------------------------------------


@given(st.data())
def test_allowed_mask(data):
    space = data.draw(spaces())
    kept = data.draw(selections(space))
    forbid = {
        d: [o for i, o in enumerate(space.option_labels(d)) if i != kept[n] and data.draw(st.booleans())]
        for n, d in enumerate(space.decisions)
    }
    mask = space.allowed(forbid)
    slow = np.array([o not in forbid[d] for d in space.decisions for o in space.option_labels(d)])
    if slow.all():
        assert mask is None
        assert space.allowed(~slow) is None
    else:
        np.testing.assert_array_equal(mask, slow)
        np.testing.assert_array_equal(space.allowed(~slow), slow)
    assert space.allowed(None) is None
    assert space.allowed({}) is None


# -- wrong input -------------------------------------------------------------------------------------------------------

WRONG = [
    case("space without decisions", lambda: ChoiceSpace({}), ValueError, "options is empty", "at least one decision"),
    case(
        "decision without options", lambda: ChoiceSpace({"stem": []}), ValueError, "'stem'", "no option", "at least one"
    ),
    case("duplicate option", lambda: ChoiceSpace({"stem": [1, 2, 1]}), ValueError, "'stem'", "option 1", "must differ"),
    case("equal options 1 and True", lambda: ChoiceSpace({"stem": [1, True]}), ValueError, "'stem'", "option 1"),
    case("options as list", lambda: ChoiceSpace([2, 3]), TypeError, "options", "list", "ChoiceSpace.from_sizes"),
    case("options None", lambda: ChoiceSpace(None), TypeError, "options", "NoneType", "map each decision"),
    case("options of a decision as string", lambda: ChoiceSpace({"stem": "abc"}), TypeError, "'stem'", "'abc'", "list"),
    case("options of a decision as number", lambda: ChoiceSpace({"stem": 3}), TypeError, "'stem'", "got 3", "list"),
    case("options as unordered set", lambda: ChoiceSpace({"stem": {1}}), TypeError, "'stem'", "got {1}", "list"),
    case("unhashable option", lambda: ChoiceSpace({"stem": [[1]]}), TypeError, "'stem'", "got [1]", "hashable"),
    case(
        "graph is no graph", lambda: ChoiceSpace({"a": [1]}, {"b": [2]}), TypeError, "graph", "{'b': [2]}", "networkx"
    ),
    case("sizes empty", lambda: ChoiceSpace.from_sizes([]), ValueError, "sizes", "(0,)", "non-empty list"),
    case("sizes a number", lambda: ChoiceSpace.from_sizes(5), ValueError, "sizes", "got 5", "non-empty list"),
    case("sizes None", lambda: ChoiceSpace.from_sizes(None), ValueError, "sizes", "got None", "non-empty list"),
    case("sizes of two axes", lambda: ChoiceSpace.from_sizes([[2, 2]]), ValueError, "sizes", "(1, 2)"),
    case("sizes ragged", lambda: ChoiceSpace.from_sizes([2, [3]]), ValueError, "sizes", "ragged", "flat list"),
    case("sizes floats", lambda: ChoiceSpace.from_sizes([2.0]), TypeError, "sizes", "float64", "whole numbers"),
    case("sizes bools", lambda: ChoiceSpace.from_sizes([True]), TypeError, "sizes", "bool", "whole numbers"),
    case(
        "size zero", lambda: ChoiceSpace.from_sizes([2, 0]), ValueError, "sizes", "got 0 for decision 1", "at least 1"
    ),
    case("from_graph of no graph", lambda: ChoiceSpace.from_graph(5), TypeError, "graph", "got 5", "networkx"),
    case("from_graph empty", lambda: ChoiceSpace.from_graph(nx.Graph(), [1]), ValueError, "graph has no nodes"),
    case(
        "from_graph without edges",
        lambda: ChoiceSpace.from_graph(nx.path_graph(1), [1], on="edges"),
        ValueError,
        "graph has no edges",
        "at least one decision",
    ),
    case(
        "from_graph on neither",
        lambda: ChoiceSpace.from_graph(CHAIN, [1], on="vertices"),
        ValueError,
        "on must be",
        "'vertices'",
        '"nodes" or "edges"',
    ),
    case(
        "from_graph without attribute",
        lambda: ChoiceSpace.from_graph(CHAIN, attribute="ops"),
        ValueError,
        "no node",
        "'ops'",
        "pass options",
    ),
    case(
        "from_graph of parallel edges",
        lambda: ChoiceSpace.from_graph(nx.MultiDiGraph([(0, 1), (0, 1)]), [1], on="edges"),
        ValueError,
        "graph has parallel edges",
        "at most one",
    ),
    case("from_graph options string", lambda: ChoiceSpace.from_graph(CHAIN, "ab"), TypeError, "'stem'", "'ab'", "list"),
    case("from_table of no table", lambda: ChoiceSpace.from_table(5), TypeError, "table", "got 5", "DataFrame"),
    case(
        "from_table without column",
        lambda: ChoiceSpace.from_table({"decision": ["a"], "op": ["x"]}),
        ValueError,
        "no column 'option'",
        "'decision', 'op'",
    ),
    case(
        "from_table DataFrame without column",
        lambda: ChoiceSpace.from_table(pd.DataFrame({"layer": ["a"]})),
        ValueError,
        "no column 'decision'",
        "'layer'",
    ),
    case("from_table empty", lambda: ChoiceSpace.from_table({"decision": [], "option": []}), ValueError, "is empty"),
    case(
        "from_table of unequal columns",
        lambda: ChoiceSpace.from_table({"decision": ["a", "b"], "option": ["x"]}),
        ValueError,
        "'decision', 'option'",
        "different lengths [2, 1]",
    ),
    case(
        "from_table duplicate rows",
        lambda: ChoiceSpace.from_table({"decision": ["a", "a"], "option": ["x", "x"]}),
        ValueError,
        "'a'",
        "'x' more than once",
    ),
    case(
        "from_table with a gap",
        lambda: ChoiceSpace.from_table(pd.DataFrame({"decision": ["a", "a"], "option": ["x", None]})),
        ValueError,
        "column 'option'",
        "row 1",
    ),
    case(
        "from_table column as string",
        lambda: ChoiceSpace.from_table({"decision": "ab", "option": [1, 2]}),
        TypeError,
        "column 'decision'",
        "'ab'",
        "one entry per row",
    ),
    case("selection too short", lambda: LAT([0]), ValueError, "selection", "(2,)", "got shape (1,)"),
    case("selection a string", lambda: LAT("conv3"), ValueError, "selection", "'conv3'", "mapping of labels"),
    case("selection None", lambda: LAT(None), ValueError, "selection", "None", "mapping of labels"),
    case("selection ragged", lambda: LAT([0, [1]]), ValueError, "selection is ragged", "flat list"),
    case("selection of floats", lambda: LAT([0.0, 1.0]), TypeError, "selections", "float64", "whole numbers"),
    case("selection of labels in a list", lambda: LAT(["conv3", "max"]), TypeError, "selections", "'conv3'", "whole"),
    case("selection of bools", lambda: LAT([True, False]), TypeError, "selections", "bool", "whole numbers"),
    case("selection out of range", lambda: LAT([0, 3]), ValueError, "takes option 3", "'pool'", "0 to 2"),
    case("selection negative", lambda: LAT([-1, 0]), ValueError, "takes option -1", "'stem'", "0 to 1"),
    case("selection with open decision", lambda: LAT({"stem": "conv3"}), ValueError, "selection", "open: 'pool'"),
    case(
        "selection with unknown option",
        lambda: LAT({"stem": "conv7", "pool": "max"}),
        ValueError,
        "'stem'",
        "'conv7'",
        "'conv3', 'conv5'",
    ),
    case(
        "selection with unknown decision",
        lambda: LAT({"stem": "conv3", "pool": "max", "head": 1}),
        ValueError,
        "unknown decision 'head'",
        "'stem', 'pool'",
    ),
    case(
        "unhashable decision",
        lambda: SMALL.position(["stem"]),
        ValueError,
        "unknown decision ['stem']",
        "'stem', 'pool'",
    ),
    case("selections of one axis", lambda: SMALL.check_selections([0, 1]), ValueError, "selections", "(n, 2)", "(2,)"),
    case("enumerating too many", lambda: BIG.enumerate(), ValueError, "2**3001 selections", "4000000 can"),
    case(
        "forbid every option", lambda: SMALL.allowed({"stem": ["conv3", "conv5"]}), ValueError, "every option", "'stem'"
    ),
    case("forbid mask of everything", lambda: search(forbid=np.ones(5, bool)), ValueError, "every option", "'stem'"),
    case("forbid unknown option", lambda: search(forbid={"stem": ["x"]}), ValueError, "'stem'", "'x'", "'conv3'"),
    case(
        "forbid unknown decision",
        lambda: search(forbid={"head": []}),
        ValueError,
        "'head'",
    ),
    case("forbid a label", lambda: search(forbid={"stem": "conv3"}), TypeError, "forbid['stem']", "'conv3'", "list"),
    case("forbid a string", lambda: search(forbid="conv3"), ValueError, "forbid", "(5,)", "bool array"),
    case(
        "forbid indices", lambda: search(forbid=[0, 1]), ValueError, "forbid", "int64 (2,)", "bool array of shape (5,)"
    ),
    case("forbid ragged", lambda: search(forbid=[[0], 1]), ValueError, "forbid is ragged"),
]


@pytest.mark.parametrize(("make", "error", "fragments"), WRONG)
def test_wrong_input(make, error, fragments):
    told(make, error, fragments)
