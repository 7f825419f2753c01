"""Problems as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from math import inf, isfinite
from typing import Any, TypeVar

import networkx as nx
import numpy as np
from scipy import sparse

from cggd.checks import as_number
from cggd.constraints import Constraint
from cggd.entries import check_keys, label_from_json, label_to_json, parse_json, shortened
from cggd.io.rules import parse_rule
from cggd.io.text import StrPath, most_bytes, read_text, write_text
from cggd.metrics import Additive, Excess, Interactions, LongestPath, Metric, Peak, Table
from cggd.problem import Problem
from cggd.space import ENUMERABLE, ChoiceSpace, as_floats, few

_T = TypeVar("_T")

FORMAT = "cggd-problem-1"

# Least memory for a stage, in bytes: its load for each selection of a batch.
STAGE_BYTES = 256


def write_problem(problem: Problem, path: StrPath, *, metrics: Iterable[Metric] = ()) -> None:
    """Write a problem as JSON, from which `read_problem` makes the same problem, to the last bit of every number.

    Parameters
    ----------
    problem : Problem
        Its metrics are `Additive`, `Peak`, `Table`, `LongestPath`, `Interactions` or `Excess`, with distinct names.
        Labels are strings, numbers, bools, None or tuples of them. Of the attributes of graphs, durations are written.
    path : str or path
    metrics : list of Metric, optional
        Further metrics of the space, which `read_metrics` and the option ``--limit`` of the command line find.

    Raises
    ------
    TypeError, ValueError
        If something cannot be written: black boxes, sums of different kinds, maxima. No file is written.

    See Also
    --------
    read_problem : describes the format.
    """
    space, named = problem.space, {}
    for metric in (*problem.metrics, *metrics):
        if metric.space is not space:
            raise ValueError(f"metric {metric.name!r} belongs to another choice space, {metric.space}, than {space}")
        if named.setdefault(metric.name, metric) is not metric:
            raise ValueError(f"two metrics are called {metric.name!r}; a file tells them apart by their names")
    data = {
        "format": FORMAT,
        "decisions": [{"decision": d, "options": list(space.option_labels(d))} for d in space.decisions],
        "graph": _from_graph(space.graph),
        "metrics": [_from_metric(metric) for metric in named.values()],
        "objective": {"sense": problem.sense, "metric": problem.objective.name},
        "constraints": [
            {"metric": c.metric.name, "sense": c.sense, "bound": c.bound if isfinite(c.bound) else None}
            | ({"name": c.words} if c.words else {})
            for c in problem.constraints
        ],
    }
    dump = partial(json.dumps, default=label_to_json, allow_nan=False)
    # An entry per line, so that a diff shows which metric has changed.
    parts = []
    for key, value in data.items():
        lines = ",\n  ".join(map(dump, value)) if isinstance(value, list) else ""
        parts.append(f'"{key}": [\n  {lines}\n ]' if lines else f'"{key}": {dump(value)}')
    write_text(path, "{\n " + ",\n ".join(parts) + "\n}\n")


def read_problem(path: StrPath) -> Problem:
    """Read a problem from JSON of the format ``cggd-problem-1``.

    An object with the keys

    * ``format``: ``"cggd-problem-1"``;
    * ``decisions``: a list of ``{"decision": label, "options": [label, ...]}``. A list as a label becomes a tuple;
    * ``graph``, optional: ``{"nodes": [label, ...], "edges": [[u, v], ...]}``, if needed with ``"directed": false`` or
      ``"multigraph": true`` and edges ``[u, v, key]``;
    * ``metrics``: a list of objects with ``name``, ``unit`` (``""``), ``kind`` and, by kind (defaults in brackets),

      - ``additive``: ``values``, one number per option, decision after decision; and ``constant`` (0);
      - ``peak``: ``values``, and ``stages`` (null): a list of ``[stage, [decision, ...]]``; or instead ``usage``:
        ``{"n_stages": n, "entries": [[stage, option, use], ...]}``, where stages and options are counted from 0;
      - ``table``: ``values``, one number per selection, the last decision varying fastest;
      - ``excess``: ``rows``, a list of ``[row, option, number]``, and ``most``, the limit of each row;
      - ``interactions``: ``tables``, a list of ``[[decision, ...], values]``, where values are nested lists with an
        axis for each decision; and ``constant`` (0);
      - ``longest_path``: ``values``; ``graph`` (that of the problem); ``weights``: a list of ``[place, duration]`` with
        fixed durations, where a place is a node or an edge ``[u, v]``; ``at`` (null): a list of
        ``[decision, [place, ...]]``; and ``weight``, the name of the attribute (``"duration"``).

      ``"dtype": "float32"`` means values of single precision;
    * ``objective``: ``{"sense": "minimize" or "maximize", "metric": name}``;
    * ``constraints``, optional: a list of ``{"metric": name, "sense": "<=" or ">=", "bound": number}``, where null is a
      bound that never binds. ``name`` is the constraint's name in reports;
    * ``rules``, optional: a list of texts that `parse_rule` reads, or of ``{"rule": text, "name": text}``.

    Parameters
    ----------
    path : str or path

    Raises
    ------
    ValueError, OSError
        If the file is not such an object, or cannot be opened. The message names the entry.

    Examples
    --------
    >>> space = ChoiceSpace({("in", "out"): ["skip", "conv"]})
    >>> latency = Additive(space, [0.1, 0.3], name="latency", unit="ms")
    >>> write_problem(Problem(latency, [latency >= 0.2]), "problem.json")
    >>> problem = read_problem("problem.json")
    >>> problem.constraints
    (Constraint(latency >= 0.2 ms),)
    >>> problem.objective({("in", "out"): "conv"})
    0.3
    """
    return read_metrics(path)[0]


def read_metrics(path: StrPath) -> tuple[Problem, dict[str, Metric]]:
    """The problem in a file as `read_problem` reads it, and all metrics of the file by name, used or not.

    Examples
    --------
    >>> space = ChoiceSpace({"disk": ["small", "large"]})
    >>> price, weight = Additive(space, [1, 2], name="price"), Additive(space, [3, 4], name="weight")
    >>> write_problem(Problem(price), "problem.json", metrics=[weight])
    >>> problem, metrics = read_metrics("problem.json")
    >>> list(metrics), problem.objective is metrics["price"]
    (['price', 'weight'], True)
    """
    data = parse_json(read_text(path), path, finite=False)
    try:
        return _to_problem(data)
    except RecursionError:
        raise ValueError(f"{path}: lists are nested too deeply to be read") from None
    except (ValueError, TypeError, OverflowError, nx.NetworkXException) as error:
        raise ValueError(f"{path}: {error}") from error


def _to_problem(data: Any) -> tuple[Problem, dict[str, Metric]]:
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError(f'not a cggd problem; expected an object with "format": "{FORMAT}"')
    _, decisions, entries, objective, graph, constraints, rules = _fields(
        data, "the file", "format", "decisions", "metrics", "objective", graph=None, constraints=[], rules=[]
    )
    options: dict[Hashable, Sequence[Hashable]] = {}
    for number, entry in enumerate(_list(decisions, "decisions")):
        label, labels = _fields(entry, f"decisions[{number}]", "decision", "options")
        decision = label_from_json(label)
        if decision in options:
            raise ValueError(f"decisions[{number}]: decision {decision!r} is there already")
        options[decision] = [label_from_json(option) for option in _list(labels, f"options of decision {decision!r}")]
    space = ChoiceSpace(options, _to_graph(graph, "graph"))

    metrics: dict[str, Metric] = {}
    for number, entry in enumerate(_list(entries, "metrics")):
        metric = _to_metric(space, entry, f"metrics[{number}]")
        if metric.name in metrics:
            raise ValueError(f"metrics[{number}]: the name {metric.name!r} is taken already")
        metrics[metric.name] = metric

    def named(name: Any, where: str) -> Metric:
        if not isinstance(name, str) or name not in metrics:
            raise ValueError(f"{where}: unknown metric {name!r}; known are {few(list(metrics), 20)}")
        return metrics[name]

    bounds = []
    for number, entry in enumerate(_list(constraints, "constraints")):
        where = f"constraints[{number}]"
        name, sense, bound, words = _fields(entry, where, "metric", "sense", "bound", name="")
        metric = named(name, where)
        if bound in (inf, -inf):
            raise ValueError(f"{where}: bound must be a finite number, or null where it never binds, got {bound}")
        if bound is None:
            bound = -inf if sense == ">=" else inf
        if not isinstance(words, str):
            raise ValueError(f"{where}: name must be a string, got {shortened(words)}")
        bounds.append(_within(where, Constraint, metric, bound, sense, None, words))
    for number, entry in enumerate(_list(rules, "rules")):
        where = f"rules[{number}]"
        text, name = (entry, None) if isinstance(entry, str) else _fields(entry, where, "rule", name=None)
        if not isinstance(text, str) or not (name is None or isinstance(name, str)):
            raise ValueError(f'{where} must be a text such as "cpu=x -> board=x", got {shortened(entry)}')
        rule = _within(where, parse_rule, text)
        bounds.append(_within(where, (rule.named(name) if name else rule).on, space))
    sense, name = _fields(objective, "objective", "sense", "metric")
    return _within("objective", Problem, named(name, "objective"), bounds, sense), metrics


def _from_metric(metric: Metric) -> dict[str, Any]:
    for kind, (cls, _, _, write, _) in _KINDS.items():
        if type(metric) is cls:
            values = getattr(metric, "values", None)
            own = {} if values is None else {"values": values.tolist()}
            single = {"dtype": "float32"} if values is not None and values.dtype == np.float32 else {}
            return {"name": metric.name, "unit": metric.unit, "kind": kind, **single, **own, **write(metric)}
    advice = ""
    if metric.space.n_selections <= ENUMERABLE and not metric.noisy:
        advice = "; store its values instead: Table(space, metric.evaluate(space.enumerate()), name=...)"
    raise TypeError(
        f"metric {metric.name!r} is a {type(metric).__name__}, which cannot be written; "
        f"kinds that can are {', '.join(_KINDS)}{advice}"
    )


def _to_metric(space: ChoiceSpace, entry: Any, where: str) -> Metric:
    if not isinstance(entry, dict):
        _fields(entry, where, "name", "kind")
    common = {key: entry[key] for key in entry.keys() & {"name", "kind", "unit", "dtype"}}
    name, kind, unit, dtype = _fields(common, where, "name", "kind", unit="", dtype="float64")
    if not isinstance(name, str) or not isinstance(unit, str):
        raise ValueError(f"{where}: name and unit must be strings, got {name!r} and {unit!r}")
    where = f"metric {name!r}"
    if kind not in _KINDS:
        raise ValueError(f"{where}: kind must be one of {', '.join(_KINDS)}, got {kind!r}")
    if dtype not in ("float64", "float32"):
        raise ValueError(f'{where}: dtype must be "float64" or "float32", got {dtype!r}')
    own = {key: value for key, value in entry.items() if key not in common}
    if dtype == "float32":
        own["values"] = _within(where, as_floats, own.get("values"), "values").astype(np.float32)
    _, required, defaults, _, make = _KINDS[kind]
    if kind == "peak" and "usage" in own:
        required, defaults, make = ("usage",), {}, _to_usage
    return _within(where, lambda: make(space, *_fields(own, where, *required, **defaults), name=name, unit=unit))


def _from_peak(metric: Peak) -> dict[str, Any]:
    if metric.values is not None:
        return {"stages": _pairs(metric.stages)}
    return {"usage": {"n_stages": metric.n_stages, "entries": _from_matrix(metric.usage)}}


def _to_peak(space: ChoiceSpace, values: Any, stages: Any, **names: str) -> Peak:
    return Peak(space, values, _mapping(stages, "stages"), **names)


def _to_usage(space: ChoiceSpace, usage: Any, **names: str) -> Peak:
    n_stages, entries = _fields(usage, "usage", "n_stages", "entries")
    if isinstance(n_stages, bool) or not isinstance(n_stages, int) or n_stages < 1:
        raise ValueError(f"n_stages must be a positive whole number, got {shortened(n_stages)}")
    if n_stages * STAGE_BYTES > most_bytes():
        raise ValueError(f"n_stages must be at most {most_bytes() // STAGE_BYTES} on this machine, got {n_stages}")
    return Peak(space, None, _to_matrix(space, entries, "entries", "stage", n_stages), **names)


def _from_matrix(matrix: sparse.csr_array) -> list[tuple[int, int, float]]:
    matrix = matrix.copy()
    matrix.sum_duplicates()
    entries = matrix.tocoo()
    return list(zip(entries.row.tolist(), entries.col.tolist(), entries.data.tolist(), strict=True))


def _to_matrix(space: ChoiceSpace, entries: Any, name: str, what: str, n: int) -> sparse.csr_array:
    """A sparse matrix written as lists of a row (called `what`), an option and a number."""
    table = as_floats(_list(entries, name) or np.zeros((0, 3)), name)
    if table.ndim != 2 or table.shape[1] != 3 or (table[:, :2] % 1).any():
        raise ValueError(
            f"{name} must be lists of a {what}, an option and its {'use' if what == 'stage' else 'number'}"
        )
    for column, kind, most in ((0, what, n), (1, "option", space.n_options)):
        if ((table[:, column] < 0) | (table[:, column] >= most)).any():
            wrong = table[(table[:, column] < 0) | (table[:, column] >= most), column][0]
            raise ValueError(f"{name}: {kind} {wrong:g} is not there; they are counted from 0 to {most - 1}")
    place = table[:, :2].astype(int).T
    return sparse.csr_array((table[:, 2], tuple(place)), shape=(n, space.n_options))


def _from_path(metric: LongestPath) -> dict[str, Any]:
    graph, weight = metric.graph, metric.weight
    shared = {} if graph is metric.space.graph else {"graph": _from_graph(graph)}
    weights = [
        [place, as_number(data[weight], weight)]
        for items in (graph.nodes.items(), graph.edges.items())
        for place, data in items
        if weight in data
    ]
    return {**shared, "weights": weights, "at": _pairs(metric.at), "weight": weight}


def _to_path(
    space: ChoiceSpace, values: Any, graph: Any, weights: Any, at: Any, weight: Any, **names: str
) -> LongestPath:
    dag: Any = space.graph if graph is None else _to_graph(graph, "graph")
    if dag is None:
        raise ValueError("there is no graph, neither of the metric nor of the problem")
    for place, duration in _mapping(weights, "weights", list_of=False).items():
        if place in dag.nodes:
            dag.nodes[place][weight] = duration
        elif isinstance(place, tuple) and len(place) == 2 and dag.has_edge(*place):
            dag.edges[place][weight] = duration
        else:
            raise ValueError(f"weights: {place!r} is no node or edge of the graph")
    return LongestPath(space, dag, values, _mapping(at, "at"), weight, **names)


def _from_excess(metric: Excess) -> dict[str, Any]:
    return {"rows": _from_matrix(metric.rows), "most": metric.most.tolist()}


def _to_excess(space: ChoiceSpace, rows: Any, most: Any, **names: str) -> Excess:
    limits = as_floats(_list(most, "most"), "most")
    return Excess(space, _to_matrix(space, rows, "rows", "row", len(limits)), limits, **names)


def _from_tables(metric: Interactions) -> dict[str, Any]:
    labels = metric.space.decisions
    tables = [[[labels[d] for d in decisions], table.tolist()] for decisions, table in metric.tables.items()]
    return {"tables": tables, "constant": metric.constant}


def _to_tables(space: ChoiceSpace, tables: Any, constant: Any, **names: str) -> Interactions:
    given = []
    for pair in _list(tables, "tables"):
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(f"tables must hold pairs of a list of decisions and a table, got {shortened(pair)}")
        given.append(([label_from_json(d) for d in _list(pair[0], "decisions of a table")], pair[1]))
    return Interactions(space, given, constant, **names)


_PATH = {"graph": None, "weights": [], "at": None, "weight": "duration"}
# By kind: the class, the required keys, the optional keys with their defaults, the function that makes the keys besides
# the values, and the function that makes a metric of the space and the keys.
_KINDS: dict[
    str, tuple[type[Metric], tuple[str, ...], dict[str, Any], Callable[[Any], dict], Callable[..., Metric]]
] = {
    "additive": (Additive, ("values",), {"constant": 0.0}, lambda metric: {"constant": metric.constant}, Additive),
    "peak": (Peak, ("values",), {"stages": None}, _from_peak, _to_peak),
    "table": (Table, ("values",), {}, lambda metric: {}, Table),
    "longest_path": (LongestPath, ("values",), _PATH, _from_path, _to_path),
    "excess": (Excess, ("rows", "most"), {}, _from_excess, _to_excess),
    "interactions": (Interactions, ("tables",), {"constant": 0.0}, _from_tables, _to_tables),
}


def _from_graph(graph: Any) -> dict[str, Any] | None:
    if graph is None:
        return None
    edges = graph.edges(keys=True) if graph.is_multigraph() else graph.edges
    form = {"directed": graph.is_directed(), "multigraph": graph.is_multigraph()}
    return {**form, "nodes": list(graph.nodes), "edges": list(edges)}


def _to_graph(data: Any, where: str) -> nx.Graph | None:
    if data is None:
        return None
    nodes, edges, directed, multigraph = _fields(data, where, "nodes", "edges", directed=True, multigraph=False)
    if not isinstance(directed, bool) or not isinstance(multigraph, bool):
        raise ValueError(f"{where}: directed and multigraph must be true or false, got {directed!r} and {multigraph!r}")
    classes = (nx.Graph, nx.DiGraph, nx.MultiGraph, nx.MultiDiGraph)
    graph: Any = classes[directed + 2 * multigraph]()
    graph.add_nodes_from((label_from_json(node), {}) for node in _list(nodes, "nodes"))
    for edge in _list(edges, "edges"):
        ends = [label_from_json(end) for end in _list(edge, "an edge")]
        if len(ends) != 2 + multigraph or not all(graph.has_node(end) for end in ends[:2]):
            raise ValueError(f"{where}: edge {ends!r} must join two of the nodes")
        graph.add_edge(*ends)
    return graph


def _fields(data: Any, where: str, *required: str, **defaults: Any) -> list[Any]:
    """Values of the named keys of an object, which has no others."""
    if not isinstance(data, dict):
        raise ValueError(f"{where} must be an object with {few(required)}, got {shortened(data)}")
    if missing := [key for key in required if key not in data]:
        like = [key for key in data if key not in required and key not in defaults and isinstance(key, str)]
        raise ValueError(f"{where} lacks {few(missing)}{f'; it has {few(like)} instead' if like else ''}")
    check_keys(data, [*required, *defaults], where)
    return [data[key] for key in required] + [data.get(key, default) for key, default in defaults.items()]


def _list(data: Any, where: str) -> list:
    if not isinstance(data, list):
        raise ValueError(f"{where} must be a list, got {shortened(data)}")
    return data


def _pairs(mapping: Mapping[Hashable, Iterable] | None) -> list | None:
    return None if mapping is None else [[label, list(labels)] for label, labels in mapping.items()]


def _mapping(data: Any, where: str, *, list_of: bool = True) -> Any:
    """A mapping written as pairs of a label and a list of labels, or of a label and anything; None stays None."""
    if data is None and list_of:
        return None
    mapping: dict[Hashable, Any] = {}
    for pair in _list(data, where):
        if not isinstance(pair, list) or len(pair) != 2 or (list_of and not isinstance(pair[1], list)):
            second = "a list" if list_of else "a number"
            raise ValueError(f"{where} must hold pairs of a label and {second}, got {pair}")
        mapping[label_from_json(pair[0])] = [label_from_json(item) for item in pair[1]] if list_of else pair[1]
    return mapping


def _within(where: str, make: Callable[..., _T], *arguments: Any) -> _T:
    """Call something, and name the entry that it was for in its errors."""
    try:
        return make(*arguments)
    except (ValueError, TypeError) as error:
        prefix = "" if str(error).startswith(where) else f"{where}: "
        raise ValueError(f"{prefix}{error}") from error
