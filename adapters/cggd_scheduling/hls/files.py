"""Reading data-flow graphs and unit libraries: JSON, GraphML, DOT."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from io import StringIO
from os import PathLike
from pathlib import Path
from typing import Any

import networkx as nx

from cggd.io import check_keys
from cggd.io.text import read_text
from cggd.space import few
from cggd_scheduling.files import load_json, named, package, suffix
from cggd_scheduling.hls.graph import DataFlowGraph, UnitLibrary
from cggd_scheduling.hls.problem import Synthesis

FORMAT = "cggd-synthesis-1"
GRAPH = ("name", "nodes", "edges")

# Node attributes that may have the kind of an operation, in order of preference.
KIND = ("kind", "op", "operation", "type", "label")

# Attributes of units. They are an error at nodes, since they would be ignored there.
OF_UNITS = ("area", "delay", "power", "duration", "latency")

# Deepest nesting of braces in a DOT file. Each level doubles the time of the parser; 8 levels take a second.
DEEPEST = 8

# Names of pydot that are not nodes: defaults, and a trailing line break.
RESERVED = ("node", "edge", "graph", '"\\n"')


def read(
    path: str | PathLike,
    *,
    graph: str | None = None,
    library: str | PathLike | UnitLibrary | None = None,
    **options: Any,
) -> Synthesis:
    """Read a data-flow graph with its library of units.

    A JSON file (gzipped or not) has ``nodes``, an object that maps names to kinds, and ``edges``, a list of pairs; or
    several such graphs by name under ``dfgs``. It has the units under ``library``, a list of objects with ``op``,
    ``area``, ``delay``, and optional ``power`` and ``name``. Any other key is an error. GraphML and DOT files have a
    graph whose nodes have an attribute ``kind``, ``op``, ``operation``, ``type`` or ``label``.

    Parameters
    ----------
    path : path
        Ends in ``.json``, ``.json.gz``, ``.graphml``, ``.dot`` or ``.gv``.
    graph : str, optional
        Name of one of several graphs in the file.
    library : path or UnitLibrary, optional
        Units, or a separate JSON file of units: a list, or an object with ``library``.
    **options
        ``clock`` and ``chain`` of `Synthesis`.

    Raises
    ------
    ValueError
        If the file is not a data-flow graph; the message names the file.
    """
    path = Path(path)
    readers: dict[str, Callable[[Path, str | None], tuple[DataFlowGraph, Any]]] = {
        ".json": _read_json,
        ".graphml": _read_graphml,
        ".dot": _read_dot,
        ".gv": _read_dot,
    }
    if suffix(path) not in readers:
        raise ValueError(f"{path}: expected a file that ends in {', '.join(readers)}")
    if library is not None and not isinstance(library, UnitLibrary):
        library = read_library(library)
    with named(path):
        found, rows = readers[suffix(path)](path, graph)
        if library is None:
            if rows is None:
                raise ValueError("it holds no units; give library, a file of them")
            library = UnitLibrary.from_rows(rows)
        return Synthesis(found, library, **options)


def read_library(path: str | PathLike) -> UnitLibrary:
    """Read units from a JSON file: a list of objects, or an object that has one under ``library``."""
    data = load_json(path)
    with named(path):
        if isinstance(data, dict):
            check_keys(data, ("format", "library", "dfgs", *GRAPH), "the library")
            data = data["library"]
        return UnitLibrary.from_rows(data)


def _read_json(path: Path, which: str | None) -> tuple[DataFlowGraph, Any]:
    data = load_json(path)
    if not isinstance(data, dict) or not {"dfgs", "nodes"} & data.keys():
        raise ValueError('expected an object with "nodes" and "edges", or with "dfgs"')
    if data.get("format", FORMAT) != FORMAT:
        raise ValueError(f'expected "format": "{FORMAT}", or none, got {data["format"]!r}')
    known = ("format", "library", *(("dfgs",) if "dfgs" in data else GRAPH))
    check_keys(data, known, "the file")
    graphs = data["dfgs"] if "dfgs" in data else {data.get("name", path.stem): data}
    if not isinstance(graphs, Mapping) or not all(isinstance(graph, Mapping) for graph in graphs.values()):
        raise ValueError("dfgs must be an object of names and graphs, each with nodes and edges")
    if which is None and len(graphs) > 1:
        raise ValueError(f"it holds {len(graphs)} graphs; say which: {few(graphs)}")
    name = which if which is not None else next(iter(graphs), "")
    if name not in graphs:
        raise ValueError(f"it holds no graph {name!r}; there are {few(graphs)}")
    check_keys(graphs[name], GRAPH if "dfgs" in data else known, f"graph {name!r}")
    nodes = graphs[name]["nodes"]
    if not isinstance(nodes, Mapping):
        raise ValueError(f"nodes must be an object of names and kinds, got {type(nodes).__name__}")
    return DataFlowGraph(nodes, [tuple(edge) for edge in graphs[name].get("edges", ())], name), data.get("library")


def _of_networkx(graph: nx.DiGraph, name: str) -> DataFlowGraph:
    operations = {}
    for node, attributes in graph.nodes(data=True):
        if wrong := [key for key in OF_UNITS if key in attributes]:
            raise ValueError(f"node {node!r} has {wrong[0]}, which no graph has; give it to the units of the library")
        kinds = [str(attributes[key]) for key in KIND if attributes.get(key)]
        if not kinds:
            raise ValueError(f"node {node!r} has no kind; name it in one of the attributes {', '.join(KIND)}")
        operations[node] = kinds[0]
    return DataFlowGraph(operations, list(graph.edges), name)


def _read_graphml(path: Path, _: str | None) -> tuple[DataFlowGraph, None]:
    graph = nx.parse_graphml(read_text(path))
    if not graph.is_directed():
        raise ValueError("its edges have no direction, so that nothing says which operation needs which")
    return _of_networkx(nx.DiGraph(graph), path.stem), None


def _read_dot(path: Path, _: str | None) -> tuple[DataFlowGraph, None]:
    pydot, text = package("pydot", "DOT files"), read_text(path)
    if (depth := _depth(text)) > DEEPEST:
        raise ValueError(f"braces within braces, {depth} deep; up to {DEEPEST} are read")
    with warnings.catch_warnings(), redirect_stdout(StringIO()) as said:  # pydot prints its errors
        warnings.simplefilter("ignore", DeprecationWarning)  # of the parser that pydot uses
        graphs = pydot.graph_from_dot_data(text)
    if not graphs:
        reason = (said.getvalue().splitlines() or ["nothing in it"])[-1]
        raise ValueError(f"not a DOT file: {reason}")
    if graphs[0].get_type() != "digraph":
        raise ValueError("its edges have no direction, so that nothing says which operation needs which")
    graph = nx.DiGraph()
    _add_dot(graph, graphs[0], {})
    return _of_networkx(graph, _unquoted(graphs[0].get_name()) or path.stem), None


def _depth(text: str) -> int:
    """Depth of nested braces in DOT, without those in strings and comments."""
    deepest = depth = 0
    for mark in re.findall(r'"(?:\\.|[^"\\])*"|/\*.*?\*/|//[^\n]*|[{}]', text, re.DOTALL):
        depth += (mark == "{") - (mark == "}")
        deepest = max(deepest, depth)
    return deepest


def _add_dot(graph: nx.DiGraph, part: Any, defaults: dict[str, str]) -> None:
    """Add the nodes and edges of a DOT graph and of its subgraphs, which inherit the defaults for nodes."""
    defaults = defaults | {key: value for each in part.get_node_defaults() for key, value in _attributes(each).items()}

    def add(name: str, attributes: Mapping[str, Any]) -> str:
        node = _unquoted(name)
        graph.add_node(node, **(defaults | graph.nodes.get(node, {}) | _attributes(attributes)))
        return node

    for node in part.get_nodes():
        if node.get_name() not in RESERVED:
            add(node.get_name(), node.get_attributes())
    for inner in part.get_subgraphs():
        _add_dot(graph, inner, defaults)
    for edge in part.get_edges():
        sources, targets = (
            [add(name, attributes) for name, attributes in _dot_ends(end)]
            for end in (edge.get_source(), edge.get_destination())
        )
        graph.add_edges_from((u, v) for u in sources for v in targets)


def _dot_ends(end: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """The nodes at an end of an edge: one, without its port, or all nodes of a group in braces."""
    if isinstance(end, str):
        return [(re.match(r'"[^"]*"|[^:]*', end)[0], {})]  # pyright: ignore - it matches nothing at least
    nodes = [(name, rows[0]["attributes"]) for name, rows in end["nodes"].items() if name not in RESERVED]
    return nodes + [node for rows in end["subgraphs"].values() for inner in rows for node in _dot_ends(inner)]


def _attributes(attributes: Mapping[str, Any]) -> dict[str, str]:
    return {key: _unquoted(value) for key, value in attributes.items()}


def _unquoted(text: Any) -> str:
    return str(text).strip('"')
