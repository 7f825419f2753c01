"""Wrong input of every kind, each with the message a user needs: what is wrong, its value, and what would be right."""

import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from types import SimpleNamespace

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from cggd import (
    Additive,
    ChoiceSpace,
    Constraint,
    Descent,
    Enumerate,
    Function,
    Guide,
    LongestPath,
    Metric,
    MetricError,
    Peak,
    Predicted,
    Problem,
    Result,
    SearchError,
    Start,
    Status,
    Stop,
    Table,
    maximize,
    maximum,
    minimize,
    solve,
)
from cggd import checkpoint as checkpoints
from cggd.metrics import table_of, values_of

NAN, INF = float("nan"), float("inf")
SPACE = ChoiceSpace({"stem": ["conv3", "conv5"], "pool": ["max", "avg", "none"]})
OTHER = ChoiceSpace.from_sizes([4, 4, 4])
LAT = Additive(SPACE, [1, 2, 3, 4, 5], name="lat", unit="ms")
FAR = Additive(OTHER, np.arange(12), name="far")
BIG = ChoiceSpace.from_sizes([8] * 1000)
CHAIN = nx.DiGraph([("stem", "pool")])
FOREIGN = nx.DiGraph([("u", "v")])
FRAME = {"decision": ["a", "a", "b"], "option": ["x", "y", "z"], "ms": [1, 2, 3]}
TABLED = ChoiceSpace.from_table(FRAME)


class Own(Metric):
    """A user's metric that answers whatever it is told to."""

    def __init__(self, answer, **attributes):
        self.answer, self.space, self.name, self.unit = answer, SPACE, "own", ""
        vars(self).update(attributes)

    def evaluate(self, selections):
        return self.answer(selections)


def boom(*_):
    raise OSError("device lost")


def function(answer, **options):
    return Function(SPACE, answer, name="power", **options)


def path(graph=CHAIN, values=(1, 2, 3, 4, 5), **options):
    return LongestPath(SPACE, graph, list(values), **options)


def with_duration(duration, *place):
    graph = nx.DiGraph([("stem", "pool"), ("pool", "end")])
    (graph.nodes if len(place) == 1 else graph.edges)[place[0] if len(place) == 1 else place]["duration"] = duration
    return graph


def decided_on_cycle():
    return path(nx.DiGraph([("stem", "pool"), ("pool", "stem")]))


def edited(**changes):
    """A result as JSON with some entries changed, or taken out where the change is ``...``."""
    data = json.loads(minimize(LAT, [LAT <= 7], improvers=[Descent(steps=3, starts=1)]).to_json()) | changes
    return json.dumps({name: entry for name, entry in data.items() if entry is not ...})


def search(**options):
    return minimize(LAT, [LAT <= 7], **{"improvers": [Descent(steps=3, starts=1)]} | options)


def case(name, make, error, *fragments):
    return pytest.param(make, error, fragments, id=name)


SPACES = [
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
]

SELECTIONS = [
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
        lambda: SPACE.position(["stem"]),
        ValueError,
        "unknown decision ['stem']",
        "'stem', 'pool'",
    ),
    case("selections of one axis", lambda: SPACE.check_selections([0, 1]), ValueError, "selections", "(n, 2)", "(2,)"),
    case("enumerating too many", lambda: BIG.enumerate(), ValueError, "2**3001 selections", "4000000 can"),
    case(
        "forbid every option", lambda: SPACE.allowed({"stem": ["conv3", "conv5"]}), ValueError, "every option", "'stem'"
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

METRICS = [
    case(
        "Additive with NaN",
        lambda: Additive(SPACE, [1, 2, NAN, 4, 5]),
        ValueError,
        "values",
        "nan",
        "'max' of decision 'pool'",
        "finite",
    ),
    case("Additive with infinity", lambda: Additive(SPACE, [1, 2, 3, 4, INF]), ValueError, "values", "inf", "'none'"),
    case("Additive too short", lambda: Additive(SPACE, [1, 2]), ValueError, "values", "(5,)", "got (2,)"),
    case(
        "Additive ragged",
        lambda: Additive(SPACE, [[1, 2], [3, 4, 5]]),
        ValueError,
        "values is ragged",
        "flat list",
        "mapping",
    ),
    case("Additive of strings", lambda: Additive(SPACE, list("12345")), TypeError, "values", "'1', '2'", "numbers"),
    case("Additive of bools", lambda: Additive(SPACE, [True] * 5), TypeError, "values", "bool", "numbers"),
    case("Additive of complex numbers", lambda: Additive(SPACE, [1j] * 5), TypeError, "values", "1j", "numbers"),
    case("Additive of None", lambda: Additive(SPACE, None), TypeError, "values", "None", "numbers"),
    case("Additive with a gap", lambda: Additive(SPACE, [1, 2, 3, 4, None]), TypeError, "values", "numbers", "object"),
    case("Additive of no space", lambda: Additive([2, 3], [1] * 5), TypeError, "space", "got [2, 3]", "ChoiceSpace"),
    case(
        "Additive mapping without decision",
        lambda: Additive(SPACE, {"stem": [1, 2]}),
        ValueError,
        "values",
        "no entry",
        "'pool'",
    ),
    case(
        "Additive mapping with unknown decision",
        lambda: Additive(SPACE, {"stem": [1, 2], "pol": [1, 2, 3]}),
        ValueError,
        "values",
        "unknown decisions: 'pol'",
        "'stem', 'pool'",
    ),
    case(
        "Additive mapping without option",
        lambda: Additive(SPACE, {"stem": {"conv3": 1}, "pool": [1, 2, 3]}),
        ValueError,
        "values of decision 'stem'",
        "lacks options: 'conv5'",
    ),
    case(
        "Additive mapping with unknown option",
        lambda: Additive(SPACE, {"stem": {"conv3": 1, "conv5": 2, "conv7": 3}, "pool": [1, 2, 3]}),
        ValueError,
        "values of decision 'stem'",
        "unknown options: 'conv7'",
    ),
    case(
        "Additive mapping of wrong length",
        lambda: Additive(SPACE, {"stem": [1], "pool": [1, 2, 3]}),
        ValueError,
        "values of decision 'stem'",
        "2 numbers",
        "(1,)",
    ),
    case(
        "Additive mapping of strings",
        lambda: Additive(SPACE, {"stem": {"conv3": "1", "conv5": "2"}, "pool": [1, 2, 3]}),
        TypeError,
        "values of decision 'stem'",
        "'1'",
    ),
    case("Additive constant", lambda: Additive(SPACE, [1] * 5, "lat"), TypeError, "constant", "'lat'", "number"),
    case("Additive constant NaN", lambda: Additive(SPACE, [1] * 5, NAN), ValueError, "constant", "nan", "finite"),
    case("column missing", lambda: Additive.from_table(TABLED, FRAME, "mW"), ValueError, "no column 'mW'", "'ms'"),
    case(
        "column of strings",
        lambda: Additive.from_table(TABLED, FRAME | {"ms": ["1", "2", "q"]}, "ms"),
        TypeError,
        "column 'ms'",
        "'1'",
        "numbers",
    ),
    case(
        "column with NaN",
        lambda: Additive.from_table(TABLED, FRAME | {"ms": [1, NAN, 3]}, "ms"),
        ValueError,
        "column 'ms'",
        "nan",
        "'y'",
    ),
    case(
        "row twice",
        lambda: Additive.from_table(TABLED, {k: [*v, v[0]] for k, v in FRAME.items()}, "ms"),
        ValueError,
        "column 'ms'",
        "more than one row",
        "option 'x' of decision 'a'",
    ),
    case(
        "row missing",
        lambda: Additive.from_table(TABLED, {k: v[1:] for k, v in FRAME.items()}, "ms"),
        ValueError,
        "column 'ms'",
        "no row",
        "option 'x' of decision 'a'",
    ),
    case(
        "row of unknown option",
        lambda: Additive.from_table(TABLED, FRAME | {"option": list("xyw")}, "ms"),
        ValueError,
        "'b'",
        "no option 'w'",
        "'z'",
    ),
    case("Table too short", lambda: Table(SPACE, [1, 2, 3]), ValueError, "values", "(6,)", "got (3,)"),
    case("Table of wrong axes", lambda: Table(SPACE, np.ones((3, 2))), ValueError, "values", "(6,)", "got (3, 2)"),
    case(
        "Table with NaN", lambda: Table(SPACE, [1, 2, NAN, 4, 5, 6]), ValueError, "values", "nan", "number 2", "finite"
    ),
    case("Table of strings", lambda: Table(SPACE, list("123456")), TypeError, "values", "'1'", "numbers"),
    case("Table of too large a space", lambda: Table(BIG, [1]), ValueError, "2**3001", "at most 4000000"),
    case("Table of no space", lambda: Table(None, [1]), TypeError, "space", "None", "ChoiceSpace"),
    case("Peak without stages", lambda: Peak(SPACE, [1] * 5, {}), ValueError, "stages is empty", "at least one"),
    case(
        "Peak with unknown decision",
        lambda: Peak(SPACE, [1] * 5, {"s": ["head"]}),
        ValueError,
        "unknown decision 'head'",
        "'stem'",
    ),
    case(
        "Peak stage as string",
        lambda: Peak(SPACE, [1] * 5, {"s": "stem"}),
        TypeError,
        "stage 's'",
        "'stem'",
        "list of decisions",
    ),
    case(
        "Peak stage as number",
        lambda: Peak(SPACE, [1] * 5, {"s": 3}),
        TypeError,
        "stage 's'",
        "got 3",
        "list of decisions",
    ),
    case(
        "Peak stage with a decision twice",
        lambda: Peak(SPACE, [1] * 5, {"s": ["stem"] * 2}),
        ValueError,
        "stage 's'",
        "'stem'",
        "more than once",
    ),
    case(
        "Peak values and matrix",
        lambda: Peak(SPACE, [1] * 5, np.ones((2, 5))),
        ValueError,
        "stages must map",
        "values must be None",
    ),
    case(
        "Peak matrix of wrong shape",
        lambda: Peak(SPACE, None, np.ones((2, 4))),
        ValueError,
        "stages",
        "(n_stages, 5)",
        "got (2, 4)",
    ),
    case(
        "Peak matrix of one axis",
        lambda: Peak(SPACE, None, np.ones(5)),
        ValueError,
        "stages",
        "(n_stages, 5)",
        "got (5,)",
    ),
    case("Peak matrix without rows", lambda: Peak(SPACE, None, np.ones((0, 5))), ValueError, "stages", "got (0, 5)"),
    case(
        "Peak sparse matrix of wrong shape",
        lambda: Peak(SPACE, None, sparse.eye_array(3)),
        ValueError,
        "stages",
        "got (3, 3)",
    ),
    case(
        "Peak matrix ragged",
        lambda: Peak(SPACE, None, [[1] * 5, [1]]),
        ValueError,
        "stages is ragged",
        "a number per option",
    ),
    case("Peak matrix of strings", lambda: Peak(SPACE, None, [list("12345")]), TypeError, "stages", "'1'", "numbers"),
    case(
        "Peak matrix with NaN",
        lambda: Peak(SPACE, None, [[1, NAN, 1, 1, 1]]),
        ValueError,
        "stages",
        "nan in stage 0",
        "'conv5'",
        "finite",
    ),
    case("Peak without values", lambda: Peak(SPACE, None), TypeError, "values", "None"),
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
    case("Function of no callable", lambda: function(5), TypeError, "function", "got 5", "callable"),
    case("Function repeats zero", lambda: function(len, repeats=0), ValueError, "repeats", "got 0", "at least 1"),
    case("Function repeats bool", lambda: function(len, repeats=True), ValueError, "repeats", "True", "whole number"),
    case("Function repeats float", lambda: function(len, repeats=2.0), ValueError, "repeats", "2.0", "whole number"),
    case("Function of no space", lambda: Function({"a": [1]}, len), TypeError, "space", "{'a': [1]}", "ChoiceSpace"),
    case("Predicted by no model", lambda: Predicted(SPACE, len), TypeError, "model", "len", "predict method"),
    case("Predicted by None", lambda: Predicted(SPACE, None), TypeError, "model", "None", "predict method"),
    case(
        "Predicted features no callable",
        lambda: Predicted(SPACE, SimpleNamespace(predict=len), [1]),
        TypeError,
        "features",
        "[1]",
        "function",
    ),
    case("quantile above one", lambda: LAT.quantile(50), ValueError, "q must", "50", "between 0 and 1"),
    case("quantile NaN", lambda: LAT.quantile(NAN), ValueError, "q must", "nan"),
    case(
        "quantile without samples", lambda: LAT.quantile(0.5, samples=0), ValueError, "samples", "got 0", "at least 1"
    ),
    case(
        "minimum of too large a space",
        lambda: Function(BIG, len).minimum(),
        ValueError,
        "least value of 'function'",
        "2**3001",
        "as a number",
    ),
    case("maximum of nothing", lambda: maximum(), ValueError, "maximum", "at least one metric"),
    case("maximum of a number", lambda: maximum(LAT, 3), TypeError, "maximum", "got 3", "Metric"),
    case("maximum of a list", lambda: maximum([LAT, LAT]), TypeError, "maximum", "Additive", "Metric"),
    case("sum with a string", lambda: LAT + "x", TypeError, "added to 'lat'", "'x'", "number"),
    case("sum with NaN", lambda: LAT + NAN, ValueError, "added to 'lat'", "nan", "finite"),
    case("difference with a string", lambda: LAT - "x", TypeError, "added to 'lat'", "'x'", "number"),
    case("difference with a bool", lambda: LAT - True, TypeError, "added to 'lat'", "True", "number"),
    case("sum with an array", lambda: LAT + np.ones(3), TypeError, "added to 'lat'", "array", "number"),
    case("product of metrics", lambda: LAT * LAT, TypeError, "factor", "Additive(lat", "number"),
    case("product with infinity", lambda: LAT * INF, ValueError, "factor", "inf", "finite"),
    case("division by zero", lambda: LAT / 0, ValueError, "divisor of 'lat'", "got 0", "not be 0"),
    case("division by a string", lambda: LAT / "2", TypeError, "divisor", "'2'", "number"),
    case(
        "sum over two spaces",
        lambda: LAT + FAR,
        ValueError,
        "'lat' and 'far'",
        "2 decisions",
        "3 decisions",
        "one space",
    ),
    case(
        "maximum over two spaces",
        lambda: maximum(LAT, FAR),
        ValueError,
        "'lat' and 'far'",
        "2 decisions",
        "3 decisions",
    ),
]

BOUND = "the bound on 'lat'"
CONSTRAINTS = [
    *(
        case(f"bound {bound!r}", lambda bound=bound: bound >= LAT, TypeError, BOUND, str(bound), "must be a number")
        for bound in (True, np.True_, "5", b"5", None, [5.0], (5,), {}, 5j, np.complex64(1), np.array(True))
    ),
    case("bound an array", lambda: np.array([5.0]) >= LAT, TypeError, BOUND, "array([5.])", "number"),
    case(
        "bound an array on the left", lambda: np.array([5.0, 6.0]) >= LAT, TypeError, BOUND, "array([5., 6.])", "number"
    ),
    *(
        case(f"bound {bound!r}", lambda bound=bound: bound <= LAT, ValueError, BOUND, "nan", "a number")
        for bound in (NAN, np.float32(NAN), Decimal("nan"))
    ),
    case("bound beyond floats", lambda: LAT <= 10**400, ValueError, BOUND, "1e308"),
    case("bound a metric", lambda: LAT <= FAR, TypeError, BOUND, "lat - far <= 0", "number"),
    case("bound of least infinity", lambda: LAT <= -INF, ValueError, "nothing can satisfy lat <= -inf"),
    case("bound of greatest infinity", lambda: LAT >= INF, ValueError, "nothing can satisfy lat >= inf"),
    case("chained comparison", lambda: 1 <= LAT <= 5, TypeError, "lat >= 1 ms", "chained", "two constraints"),
    case("constraint as truth value", lambda: bool(LAT <= 5), TypeError, "lat <= 5 ms", "report(selection).satisfied"),
    case("strictly less", lambda: LAT < 5, TypeError, "strict", "write lat <= 5"),
    case("strictly more", lambda: LAT > 5, TypeError, "strict", "write lat >= 5"),
    case("strict on the left", lambda: np.float64(5) > LAT, TypeError, "strict", "lat <= ", "5.0"),
    case("constraint of no metric", lambda: Constraint(5, 3, "<="), TypeError, "metric", "got 5", "Metric"),
    case("constraint of unknown sense", lambda: Constraint(LAT, 5, "<"), ValueError, "sense", "'<'", '"<=" or ">="'),
    case("constraints None", lambda: minimize(LAT, None), TypeError, "constraints", "None", "[metric <= 5]"),
    case(
        "constraints a string", lambda: minimize(LAT, "lat<=5"), TypeError, "constraints", "'lat<=5'", "[metric <= 5]"
    ),
    case("constraints a metric", lambda: minimize(LAT, LAT), TypeError, "constraints", "Additive(lat", "[metric <= 5]"),
    case(
        "constraints of strings", lambda: minimize(LAT, ["lat<=5"]), TypeError, "constraints", "'lat<=5'", "metric <= 5"
    ),
    case(
        "equality", lambda: minimize(LAT, [LAT == 5]), TypeError, "constraints", "False", "metric <= 5 and metric >= 5"
    ),
    case(
        "constraint of another space",
        lambda: minimize(LAT, [FAR <= 1]),
        ValueError,
        "far <= 1",
        "2 decisions",
        "3 decisions",
        "one space",
    ),
    case(
        "constraints of two spaces",
        lambda: Guide([LAT <= 1, FAR <= 1]),
        ValueError,
        "far <= 1",
        "2 decisions",
        "3 decisions",
    ),
    case(
        "report of a wrong selection",
        lambda: (LAT <= 5).report([0, 9]),
        ValueError,
        "takes option 9",
        "'pool'",
        "0 to 2",
    ),
]

GUIDED = Guide([LAT <= 4])
LOGITS = np.zeros(5)
GUIDES = [
    case("guide without constraints", lambda: Guide([]), ValueError, "constraints is empty", "at least one"),
    case("guide rescale 1", lambda: Guide([LAT <= 5], rescale=1), ValueError, "rescale", "1.0", "greater than 1"),
    case("guide rescale NaN", lambda: Guide([LAT <= 5], rescale=NAN), ValueError, "rescale", "nan", "finite"),
    case("guide rescale string", lambda: Guide([LAT <= 5], rescale="2"), TypeError, "rescale", "'2'", "number"),
    case("guide epsilon 0", lambda: Guide([LAT <= 5], epsilon=0), ValueError, "epsilon", "0.0", "greater than 0"),
    case("guide epsilon negative", lambda: Guide([LAT <= 5], epsilon=-1e-3), ValueError, "epsilon", "-0.001"),
    case("guide epsilon infinite", lambda: Guide([LAT <= 5], epsilon=INF), ValueError, "epsilon", "inf", "finite"),
    case(
        "guide unknown weights",
        lambda: Guide([LAT <= 5], weights="equal"),
        ValueError,
        "weights",
        "'equal'",
        "'unit', 'difference'",
    ),
    case(
        "guide unknown balance",
        lambda: Guide([LAT <= 5], balance="unit"),
        ValueError,
        "balance",
        "'unit'",
        "'equal', 'violation'",
    ),
    case(
        "gradient of wrong shape",
        lambda: GUIDED.modify(np.zeros(4), LOGITS),
        ValueError,
        "gradient",
        "(5,)",
        "got (4,)",
    ),
    case(
        "gradient of two axes",
        lambda: GUIDED.modify(np.zeros((5, 1)), LOGITS),
        ValueError,
        "gradient",
        "(5,)",
        "got (5, 1)",
    ),
    case(
        "gradient with NaN", lambda: GUIDED.modify([0, NAN, 0, 0, 0], LOGITS), ValueError, "gradient", "nan", "'conv5'"
    ),
    case("logits of wrong shape", lambda: GUIDED.modify(LOGITS, np.zeros(2)), ValueError, "logits", "(5,)", "got (2,)"),
    case("logits with NaN", lambda: GUIDED.modify(LOGITS, [NAN, 0, 0, 0, 0]), ValueError, "logits", "nan", "'conv3'"),
]

SEARCHES = [
    case("objective a number", lambda: minimize(5), TypeError, "objective", "got 5", "Metric"),
    case("objective a function", lambda: maximize(len), TypeError, "objective", "len", "Metric"),
    case(
        "objective without space",
        lambda: minimize(Own(len, space=None)),
        TypeError,
        "space of objective Own",
        "None",
        "ChoiceSpace",
    ),
    case(
        "objective without name",
        lambda: minimize(Own(len, name=None)),
        TypeError,
        "name of objective Own",
        "None",
        "str",
    ),
    case(
        "constraint metric without unit",
        lambda: Own(len, unit=None) <= 5,
        TypeError,
        "unit of metric Own",
        "None",
        "str",
    ),
    case(
        "problem of unknown sense",
        lambda: Problem(LAT, sense="min"),
        ValueError,
        "sense",
        "'min'",
        '"minimize" or "maximize"',
    ),
    case("unknown option", lambda: solve(Problem(LAT), step=5), TypeError, "unknown option 'step'", "improvers"),
    case(
        "unknown option of maximize",
        lambda: maximize(LAT, timeout=5),
        TypeError,
        "unknown option 'timeout'",
        "time_limit",
    ),
    case("seed None", lambda: search(seed=None), TypeError, "seed", "None", "whole number"),
    case("seed negative", lambda: search(seed=-1), ValueError, "seed", "-1", "at least 0"),
    case("seed float", lambda: search(seed=1.5), TypeError, "seed", "1.5", "whole number"),
    case(
        "seed Generator", lambda: search(seed=np.random.default_rng()), TypeError, "seed", "Generator", "whole number"
    ),
    case("steps 0", lambda: Descent(steps=0), ValueError, "steps", "got 0", "at least 1"),
    case("steps bool", lambda: Descent(steps=True), TypeError, "steps", "True", "whole number"),
    case("steps string", lambda: Descent(steps="10"), TypeError, "steps", "'10'", "whole number"),
    case("starts 0", lambda: Descent(starts=0), ValueError, "starts", "got 0", "at least 1"),
    case("starts empty", lambda: Descent(starts=[]), ValueError, "starts is empty", "at least one"),
    case("starts of strings", lambda: Descent(starts=["unit"]), TypeError, "starts", "['unit']", "list of Start"),
    case("starts a string", lambda: Descent(starts="unit"), TypeError, "starts", "'unit'"),
    case(
        "start of unknown weights",
        lambda: Start(weights="x"),
        ValueError,
        "weights",
        "'x'",
        "'unit', 'difference'",
    ),
    case(
        "start of unknown balance",
        lambda: Descent(starts=[Start(balance="x")]),
        ValueError,
        "balance",
        "'x'",
        "'equal'",
    ),
    case("time limit 0", lambda: search(time_limit=0), ValueError, "time_limit", "got 0", "more than 0"),
    case("time limit NaN", lambda: search(time_limit=NAN), ValueError, "time_limit", "nan", "a number"),
    case("time limit string", lambda: search(time_limit="1s"), TypeError, "time_limit", "'1s'", "number"),
    case("evaluations 0", lambda: search(max_evaluations=0), ValueError, "max_evaluations", "got 0", "at least 1"),
    case("patience float", lambda: Descent(no_improvement=1e2), TypeError, "no_improvement", "100.0", "whole number"),
    case("rescale 1", lambda: Descent(rescale=1.0), ValueError, "rescale", "1.0", "greater than 1"),
    case("share 0", lambda: Descent(share=0), ValueError, "share", "got 0", "at most 1"),
    case("share 2", lambda: Descent(share=2.0), ValueError, "share", "got 2.0", "at most 1"),
    case("improvers a string", lambda: search(improvers="descent"), TypeError, "improvers", "'descent'", "a list"),
    case("improvers not a list", lambda: search(improvers=Descent()), TypeError, "improvers", "Descent(", "a list"),
    case("an improver that is none", lambda: search(improvers=[5]), TypeError, "improvers", "got 5", "improve"),
    case("an option of version 0.1", lambda: search(steps=5), TypeError, "unexpected keyword", "'steps'"),
    case("callback", lambda: search(callback="print"), TypeError, "callback", "'print'", "callable"),
    case("executor", lambda: search(executor=4), TypeError, "executor", "got 4", "submit"),
    case(
        "executor class instance without submit", lambda: search(executor=map), TypeError, "executor", "map", "submit"
    ),
    case("resume without checkpoint", lambda: search(resume=True), ValueError, "resume=True", "checkpoint"),
    case("initial too short", lambda: search(initial=[0]), ValueError, "(2,)", "got shape (1,)"),
    case(
        "initial unknown option", lambda: search(initial={"stem": "conv7"}), ValueError, "'stem'", "'conv7'", "'conv3'"
    ),
    case(
        "initial unknown decision", lambda: search(initial={"head": 1}), ValueError, "unknown decision 'head'", "'stem'"
    ),
    case("initial out of range", lambda: search(initial=[0, 7]), ValueError, "option 7", "'pool'", "0 to 2"),
    case(
        "initial that forbid rules out",
        lambda: search(initial={"stem": "conv3"}, forbid={"stem": ["conv3"]}),
        ValueError,
        "initial takes option 'conv3' of decision 'stem'",
        "forbid",
    ),
]

RESULTS = [
    case("result of no text", lambda: Result.from_json(5), TypeError, "text", "got 5", "to_json"),
    case("result of no JSON", lambda: Result.from_json("status: fine"), ValueError, "not JSON", "line 1"),
    case("result of undecodable bytes", lambda: Result.from_json(b"\xff\xfe\xfd"), ValueError, "not JSON"),
    case(
        "result of a list",
        lambda: Result.from_json("[1]"),
        ValueError,
        "not a cggd result",
        '"format": "cggd-result-2"',
    ),
    case("result of another format", lambda: Result.from_json('{"format": "x"}'), ValueError, "not a cggd result"),
    case("result without value", lambda: Result.from_json(edited(value=...)), ValueError, "damaged", "'value'"),
    case("result of unknown status", lambda: Result.from_json(edited(status="FINE")), ValueError, "damaged", "'FINE'"),
    case(
        "result with wrong rows",
        lambda: Result.from_json(edited(constraints=[{"name": "lat"}])),
        ValueError,
        "damaged",
        "'value'",
    ),
    case(
        "result with wrong selection",
        lambda: Result.from_json(edited(selection=[[{}, 1]])),
        ValueError,
        "damaged",
        "dict",
    ),
    case("result with wrong indices", lambda: Result.from_json(edited(indices=["a"])), ValueError, "damaged", "'a'"),
    case(
        "result with odd history",
        lambda: Result.from_json(edited(history={"start": [0]})),
        ValueError,
        "damaged",
        "'violation'",
    ),
    case(
        "result with uneven history",
        lambda: Result.from_json(
            edited(history={"start": [0], "value": [], "violation": [[0]], "best": [1], "seconds": [1]})
        ),
        ValueError,
        "damaged",
        "1 steps",
        "{'value': 0}",
    ),
    case(
        "labels that JSON does not have",
        lambda: minimize(Additive(ChoiceSpace({"a": [frozenset([1])]}), [1])).to_json(),
        TypeError,
        "labels in JSON",
        "frozenset({1})",
        "strings, numbers",
    ),
]

EVERY = SPACES + SELECTIONS + METRICS + CONSTRAINTS + GUIDES + SEARCHES + RESULTS


@pytest.mark.parametrize(("make", "error", "fragments"), EVERY)
def test_message(make, error, fragments):
    with pytest.raises(error) as caught:
        make()
    assert type(caught.value) is error
    missing = [fragment for fragment in fragments if fragment not in str(caught.value)]
    assert not missing, f"not in the message: {missing}\n{caught.value}"


# -- metrics that misbehave --------------------------------------------------------------------------------------------

ONE, WHERE = "metric 'power' must return one number", "at selection {'stem': 'conv3', 'pool': 'max'}"
MISBEHAVING = [
    case("raises", function(boom), OSError, "metric 'power' raised OSError: device lost", WHERE),
    case("returns None", function(lambda s: None), None, ONE, "got None", "'conv3'"),
    case("returns a string", function(lambda s: "3"), None, ONE, "got '3'"),
    case("returns a bool", function(lambda s: True), None, ONE, "got True"),
    case("returns a complex number", function(lambda s: 1j), None, ONE, "got 1j"),
    case("returns a list", function(lambda s: [1.0]), None, ONE, "got [1.0]"),
    case("returns a ragged list", function(lambda s: [1, [2]]), None, ONE, "got [1, [2]]"),
    case("returns an array", function(lambda s: np.ones(2)), None, ONE, "float64 of shape (2,)"),
    case("takes no argument", function(lambda: 1.0), TypeError, "metric 'power' raised TypeError", "positional"),
    case("batch too short", function(lambda rows: [1.0, 2.0], batch=True), None, "numbers, shape (", "got [1.0, 2.0]"),
    case("batch a number", function(lambda rows: 1.0, batch=True), None, "numbers, shape (", "got 1.0"),
    case("own raises", Own(boom), OSError, "evaluate of metric 'own' raised OSError: device lost"),
    case("own returns None", Own(lambda rows: None), None, "evaluate of metric 'own'", "object of shape ()"),
    case("own too short", Own(lambda rows: np.zeros(0)), None, "evaluate of metric 'own'", "float64 of shape (0,)"),
    case("own of two axes", Own(lambda rows: np.zeros((len(rows), 1))), None, "'own'", "float64 of shape (", ", 1)"),
    case("own of bools", Own(lambda rows: rows[:, 0] > 0), None, "evaluate of metric 'own'", "bool of shape ("),
    case(
        "own of strings", Own(lambda rows: rows[:, 0].astype(str)), None, "evaluate of metric 'own'", "numbers, shape ("
    ),
    case("own ragged", Own(lambda rows: [[1], [1, 2]]), None, "evaluate of metric 'own'", "ragged"),
    case("prediction raises", Predicted(SPACE, SimpleNamespace(predict=boom)), OSError, "'prediction' raised OSError"),
    case("prediction None", Predicted(SPACE, SimpleNamespace(predict=lambda X: None)), None, "'prediction'", "object"),
    case(
        "prediction of two columns",
        Predicted(SPACE, SimpleNamespace(predict=lambda X: X)),
        None,
        "'prediction'",
        ", 5)",
    ),
    case("features raise", Predicted(SPACE, SimpleNamespace(predict=len), boom), OSError, "features", "device lost"),
]


@pytest.mark.parametrize(("metric", "cause", "fragments"), MISBEHAVING)
def test_a_metric_that_misbehaves(metric, cause, fragments):
    calls = {
        "call": lambda: metric([0, 0]),
        "values": lambda: values_of(metric, SPACE.enumerate()),
        "table": lambda: table_of(metric, np.array([0, 0])),
        "extreme": metric.minimum,
        "quantile": lambda: metric.quantile(0.5),
        "constraint": lambda: (metric <= 5).report([0, 0]),
        "guide": lambda: Guide([metric <= 5]).modify(LOGITS, LOGITS),
    }
    for name, call in calls.items():
        with pytest.raises(MetricError) as caught:
            call()
        assert cause is None or isinstance(caught.value.__cause__, cause)
        if name == "values":
            missing = [fragment for fragment in fragments if fragment not in str(caught.value)]
            assert not missing, f"not in the message: {missing}\n{caught.value}"


@pytest.mark.parametrize(("metric", "cause", "fragments"), MISBEHAVING)
def test_a_search_over_a_metric_that_misbehaves(metric, cause, fragments):
    for run in (lambda: minimize(metric, [LAT <= 7]), lambda: maximize(LAT, [metric <= 5])):
        with pytest.raises(SearchError) as caught:
            run()
        assert isinstance(caught.value.__cause__, MetricError)
        assert cause is None or isinstance(caught.value.__cause__.__cause__, cause)
        assert metric.name in str(caught.value)
        assert caught.value.result.status is Status.UNKNOWN


def test_a_wrong_replacement_table_is_told():
    class Tabled(Own):
        def replacements(self, selection):
            return self.tabled

    metric = Tabled(lambda rows: np.zeros(len(rows)), tabled=np.zeros(4))
    with pytest.raises(
        MetricError, match=r"replacements of metric 'own' must return 5 numbers, shape \(5,\), got .*\(4,\)"
    ):
        table_of(metric, np.array([0, 0]))


def test_small_integers_are_taken_as_floats():
    """Unsigned numbers would wrap when a constraint ``>=`` negates them."""
    metric = Own(lambda rows: rows.sum(axis=1).astype(np.uint8))
    for weights in ("unit", "difference", "confidence"):
        direction = Guide([metric >= 3], weights=weights).step(LOGITS, [1, 0, 1, 0, 0]).direction
        assert direction[1] > 0 > direction[0]


def test_a_search_that_breaks_carries_what_it_had():
    calls = iter(range(10_000))

    def breaks(labelled):
        if next(calls) == 400:
            raise OSError("device lost")
        return 1.0 + (labelled["stem"] == "conv5")

    with pytest.raises(SearchError, match=r"device lost.*best selection until then.*\.result, lat = ") as caught:
        minimize(LAT, [function(breaks, cache=False) >= 1.5], improvers=[Descent()])
    error = caught.value
    assert isinstance(error.__cause__, MetricError)
    assert isinstance(error.__cause__.__cause__, OSError)
    assert error.result.feasible
    assert error.result.selection["stem"] == "conv5"
    assert error.result.stopped is Stop.FAILED
    assert "device lost" in error.result.stop_text
    assert len(error.result.history) > 0


def test_a_metric_that_changes_its_answer_is_named():
    count = iter(range(10_000))
    with pytest.warns(UserWarning, match=r"metric 'power' changed its answer for one selection from .* to .*repeats"):
        result = minimize(
            function(lambda s: float(next(count)), cache=False), [LAT <= 7], improvers=[Descent(steps=5, starts=1)]
        )
    assert result.feasible


def test_a_metric_known_as_noisy_may_change_its_answer():
    count = iter(range(10_000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        minimize(function(lambda s: float(next(count)), repeats=2), [LAT <= 7], improvers=[Descent(steps=5, starts=1)])


# -- checkpoints -------------------------------------------------------------------------------------------------------


def npy(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def npz(path):
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))


def pickled(path):
    with path.open("wb") as file:
        np.savez(file, facts=np.array({"a": 1}, dtype=object))


def truncated(path):
    search(checkpoint=path)
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path):
    search(checkpoint=path)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 3] ^= 255
    path.write_bytes(bytes(whole))


DAMAGES = [npy, npz, pickled, truncated, flipped, lambda p: p.write_bytes(b""), lambda p: p.write_text("x" * 99)]
DAMAGES += [lambda p: p.mkdir(), lambda p: np.savez(p.open("wb"), facts=np.array("{"))]
IDS = ["npy", "npz", "pickle", "truncated", "flipped byte", "empty", "text", "folder", "half JSON"]


@pytest.mark.parametrize("damage", DAMAGES, ids=IDS)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_damaged_checkpoint(damage, tmp_path):
    path = tmp_path / "search.ckpt"
    damage(path)
    with pytest.raises(ValueError, match=r"search\.ckpt is not a cggd checkpoint, or is damaged"):
        checkpoints.load(path)
    with pytest.raises(
        ValueError, match=r"search\.ckpt is not a cggd checkpoint, or is damaged|must be a file, got the folder"
    ):
        search(checkpoint=path, resume=True)


OTHERS = [
    case("other seed", {"seed": 1}, ValueError, "seed is 0", "here it is 1"),
    case("other steps", {"improvers": [Descent(steps=4, starts=1)]}, ValueError, "improvers is ['Descent "),
    case("other starts", {"improvers": [Descent(steps=3, starts=2)]}, ValueError, "improvers is ['Descent "),
    case("other rescale", {"improvers": [Descent(3, 1, rescale=1.5)]}, ValueError, "improvers is ['Descent "),
    case("other improvers", {"improvers": [Descent(3, 1), Enumerate()]}, ValueError, "here it is ['Descent "),
]


@pytest.mark.parametrize(("options", "error", "fragments"), OTHERS)
def test_a_checkpoint_of_other_options(options, error, fragments, tmp_path):
    path = tmp_path / "search.ckpt"
    search(checkpoint=path)
    with pytest.raises(error) as caught:
        search(checkpoint=path, resume=True, **options)
    for fragment in (str(path), "another search", *fragments):
        assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("run", "fragment"),
    [
        (lambda **o: minimize(FAR, [FAR <= 30], **o), "layout"),
        (lambda **o: maximize(LAT, [LAT <= 7], **o), "sense is 'minimize', here it is 'maximize'"),
        (lambda **o: minimize(LAT, [LAT <= 6], **o), "Constraint(lat <= 7 ms)"),
        (lambda **o: minimize(-LAT, [LAT <= 7], **o), "objective is 'lat', here it is '-lat'"),
    ],
    ids=["space", "sense", "constraints", "objective"],
)
def test_a_checkpoint_of_another_problem(run, fragment, tmp_path):
    path = tmp_path / "search.ckpt"
    search(checkpoint=path)
    with pytest.raises(ValueError, match="belongs to another search") as caught:
        run(improvers=[Descent(steps=3, starts=1)], checkpoint=path, resume=True)
    assert fragment in str(caught.value)


def test_an_executor_whose_pool_is_closed_is_named():
    with ThreadPoolExecutor(1) as pool:
        pass
    with pytest.raises(SearchError, match="cannot schedule new futures"):
        minimize(function(lambda s: 1.0), [LAT <= 7], executor=pool)


def test_there_are_enough_of_them():
    assert len(EVERY) + len(MISBEHAVING) + len(DAMAGES) + len(OTHERS) >= 110
    names = [parameters.id for parameters in EVERY + MISBEHAVING]
    assert len(names) == len(set(names))


MORE = [
    case(
        "checkpoint in no folder", {"checkpoint": "/no/such/folder/x"}, ValueError, "checkpoint", "folder that exists"
    ),
    case("checkpoint a number", {"checkpoint": 3}, TypeError, "checkpoint must be a path", "3"),
    case("patience negative", {"improvers": lambda: [Descent(patience=-1)]}, ValueError, "patience", "-1"),
    case("initial a string", {"initial": "x"}, ValueError, "initial"),
]


@pytest.mark.parametrize(("wrong", "kind", "parts"), [(c.values[0], c.values[1], c.values[2:]) for c in MORE])
def test_more_wrong_options(wrong, kind, parts):
    with pytest.raises(kind) as caught:
        search(**{name: value() if callable(value) else value for name, value in wrong.items()})
    for part in parts[0] if isinstance(parts[0], tuple | list) else parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weights": "x"}, "weights must be one of 'unit'"),
        ({"balance": "x"}, "balance must be one of 'equal'"),
        ({"learning_rate": 0}, "learning_rate must be greater than 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be finite"),
        ({"temperature": (0, 0)}, "temperature must be two numbers greater than 0"),
        ({"temperature": (1,)}, "temperature must be two numbers greater than 0"),
    ],
)
def test_wrong_starts(wrong, message):
    with pytest.raises(ValueError, match=message):
        Start(**wrong)


def test_wrong_logits_and_gradients():
    space = ChoiceSpace.from_sizes([2, 2])
    guide = Guide([Additive(space, [1, 2, 3, 4]) <= 4])
    with pytest.raises(TypeError, match="gradient must hold numbers"):
        guide.modify(["a", "b", "c", "d"], np.zeros(4))
    with pytest.raises(ValueError, match="gradient must be finite, got inf for option 1 of decision 0"):
        guide.modify([0, np.inf, 0, 0], np.zeros(4))
    with pytest.raises(ValueError, match="logits of a decision are all -inf"):
        guide.modify(np.zeros(4), [-np.inf, -np.inf, 0, 0])
    with pytest.raises(ValueError, match="rescale must be greater than 1, got 0"):
        guide.step(np.zeros(4), np.zeros(4), rescale=0)
