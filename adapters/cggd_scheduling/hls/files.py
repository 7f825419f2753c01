"""Reading data-flow graphs and unit libraries: JSON, GraphML, DOT."""

from __future__ import annotations

import gzip
import json
import warnings
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import networkx as nx

from cggd.space import few
from cggd_scheduling.hls.graph import DataFlowGraph, UnitLibrary
from cggd_scheduling.hls.problem import Synthesis

# Attributes of nodes under which files keep the kind of an operation, in the order in which they are looked for.
KIND = ("kind", "op", "operation", "type", "label")


def read(
    path: str | PathLike,
    *,
    graph: str | None = None,
    library: str | PathLike | UnitLibrary | None = None,
    **options: Any,
) -> Synthesis:
    """Read a data-flow graph with its library of units.

    A JSON file (gzipped or not) holds ``nodes``, an object of names and kinds, and ``edges``, a list of pairs; or
    several such graphs by name under ``dfgs``; and the units under ``library``, a list of objects with ``op``,
    ``area``, ``delay`` and ``power``. GraphML and DOT files hold a graph whose nodes have an attribute ``kind``,
    ``op``, ``operation``, ``type`` or ``label``.

    Parameters
    ----------
    path : path
        Ends in ``.json``, ``.json.gz``, ``.graphml``, ``.dot`` or ``.gv``.
    graph : str, optional
        Which of several graphs.
    library : path or UnitLibrary, optional
        Units from a JSON file of their own, a list or an object with ``library``.
    **options
        ``clock`` and ``chain`` of `Synthesis`.

    Raises
    ------
    ValueError
        If the file holds something else; the message names the file.
    """
    path = Path(path)
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    readers: dict[str, Callable[[Path, str | None], tuple[DataFlowGraph, Any]]] = {
        ".json": _read_json,
        ".graphml": lambda path, _: (_of_networkx(nx.DiGraph(nx.read_graphml(path)), path.stem), None),
        ".dot": _read_dot,
        ".gv": _read_dot,
    }
    if suffix not in readers:
        raise ValueError(f"{path}: expected a file that ends in {', '.join(readers)}")
    try:
        found, rows = readers[suffix](path, graph)
        if library is None:
            if rows is None:
                raise ValueError("it holds no units; give library, a file of them")
            library = UnitLibrary.from_rows(rows)
        elif not isinstance(library, UnitLibrary):
            library = read_library(library)
        return Synthesis(found, library, **options)
    except (ValueError, TypeError, KeyError, SyntaxError, nx.NetworkXError) as error:  # a broken XML file is the fourth
        what = f"it has no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path}: {what}") from None


def read_library(path: str | PathLike) -> UnitLibrary:
    """Read units from a JSON file: a list of objects, or an object that has one under ``library``."""
    data = _load(Path(path))
    try:
        return UnitLibrary.from_rows(data["library"] if isinstance(data, dict) else data)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: not a list of units: {error}") from None


def _load(path: Path) -> Any:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return json.load(file)


def _read_json(path: Path, which: str | None) -> tuple[DataFlowGraph, Any]:
    data = _load(path)
    if not isinstance(data, dict) or not {"dfgs", "nodes"} & data.keys():
        raise ValueError('expected an object with "nodes" and "edges", or with "dfgs"')
    graphs = data.get("dfgs") or {data.get("name", path.stem): data}
    if which is None and len(graphs) > 1:
        raise ValueError(f"it holds {len(graphs)} graphs; say which: {few(graphs)}")
    name = which if which is not None else next(iter(graphs))
    if name not in graphs:
        raise ValueError(f"it holds no graph {name!r}; there are {few(graphs)}")
    nodes = graphs[name]["nodes"]
    if not isinstance(nodes, Mapping):
        raise ValueError(f"nodes must be an object of names and kinds, got {type(nodes).__name__}")
    return DataFlowGraph(nodes, [tuple(edge) for edge in graphs[name].get("edges", ())], name), data.get("library")


def _of_networkx(graph: nx.DiGraph, name: str) -> DataFlowGraph:
    operations = {}
    for node, attributes in graph.nodes(data=True):
        kinds = [str(attributes[key]) for key in KIND if attributes.get(key)]
        if not kinds:
            raise ValueError(f"node {node!r} has no kind; name it in one of the attributes {', '.join(KIND)}")
        operations[node] = kinds[0]
    return DataFlowGraph(operations, list(graph.edges), name)


def _read_dot(path: Path, _: str | None) -> tuple[DataFlowGraph, None]:
    import pydot

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the parser that pydot uses
        graphs = pydot.graph_from_dot_data(path.read_text())
    if not graphs:
        raise ValueError("not a DOT file")
    graph = nx.DiGraph()
    for node in graphs[0].get_nodes():
        if node.get_name() not in ("node", "edge", "graph", '"\\n"'):  # defaults, and what a last line break leaves
            attributes = {key: _unquoted(value) for key, value in node.get_attributes().items()}
            graph.add_node(_unquoted(node.get_name()), **attributes)
    graph.add_edges_from(
        (_unquoted(edge.get_source()), _unquoted(edge.get_destination())) for edge in graphs[0].get_edges()
    )
    return _of_networkx(graph, _unquoted(graphs[0].get_name()) or path.stem), None


def _unquoted(text: Any) -> str:
    return str(text).strip('"')
