"""Longest paths: messages on wrong input. Laws: test_metrics.py."""

import networkx as nx
import pytest

from tests.messages import CHAIN, NAN, case, path, told

FOREIGN = nx.DiGraph([("u", "v")])


def with_duration(duration, *place):
    graph = nx.DiGraph([("stem", "pool"), ("pool", "end")])
    (graph.nodes if len(place) == 1 else graph.edges)[place[0] if len(place) == 1 else place]["duration"] = duration
    return graph


def decided_on_cycle():
    return path(nx.DiGraph([("stem", "pool"), ("pool", "stem")]))


WRONG = [
    case(
        "LongestPath over undirected graph",
        lambda: path(nx.Graph(CHAIN)),
        TypeError,
        "graph",
        "Graph",
        "networkx.DiGraph",
    ),
    case(
        "LongestPath over multigraph",
        lambda: path(nx.MultiDiGraph(CHAIN)),
        TypeError,
        "graph",
        "MultiDiGraph",
        "networkx.DiGraph",
    ),
    case("LongestPath over a cycle", decided_on_cycle, ValueError, "graph has a cycle", "'stem', 'pool'", "acyclic"),
    case("LongestPath over an empty graph", lambda: path(nx.DiGraph()), ValueError, "'stem'", "no node or edge"),
    case("LongestPath nowhere", lambda: path(FOREIGN), ValueError, "'stem'", "no node or edge", "at={decision"),
    case("LongestPath at unknown node", lambda: path(at={"stem": ["x"]}), ValueError, "'stem'", "at names 'x'"),
    case("LongestPath at no node", lambda: path(at={"stem": []}), ValueError, "'stem'", "at names none"),
    case(
        "LongestPath at of unknown decision",
        lambda: path(at={"head": ["stem"]}),
        ValueError,
        "unknown decision 'head'",
        "'stem'",
    ),
    case("LongestPath at string", lambda: path(at={"stem": "stem"}), TypeError, "at['stem']", "got 'stem'", "['stem']"),
    case(
        "LongestPath at bare edge",
        lambda: path(at={"stem": ("stem", "pool")}),
        TypeError,
        "at['stem']",
        "[('stem', 'pool')]",
    ),
    case("LongestPath at list", lambda: path(at=["stem"]), TypeError, "at must map decisions", "['stem']"),
    case(
        "LongestPath two decisions on one node",
        lambda: path(at={"stem": ["pool"]}),
        ValueError,
        "'stem' and 'pool'",
        "both stand on 'pool'",
    ),
    case(
        "LongestPath negative option",
        lambda: path(values=[1, -2, 3, 4, 5]),
        ValueError,
        "values",
        "-2.0",
        "'conv5'",
        "at least 0",
    ),
    case(
        "LongestPath negative node",
        lambda: path(with_duration(-1, "end")),
        ValueError,
        "duration of 'end'",
        "-1.0",
        "at least 0",
    ),
    case(
        "LongestPath edge duration a string",
        lambda: path(with_duration("2", "pool", "end")),
        TypeError,
        "duration of ('pool', 'end')",
        "'2'",
        "number",
    ),
    case(
        "LongestPath node duration NaN", lambda: path(with_duration(NAN, "end")), ValueError, "duration of 'end'", "nan"
    ),
]


@pytest.mark.parametrize(("make", "error", "fragments"), WRONG)
def test_wrong_input(make, error, fragments):
    told(make, error, fragments)
