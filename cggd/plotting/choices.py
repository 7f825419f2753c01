"""Pictures of a selection."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cggd.plotting.axes import (
    GOOD,
    INK,
    NEUTRAL,
    OKABE_ITO,
    axes_for,
    draw_legend,
    label_words,
    load_pyplot,
    write_note,
)
from cggd.result import Result
from cggd.space import ChoiceSpace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# More marks than this cannot be distinguished in a figure of a column's width.
MOST_ROWS = 40
MOST_NODES = 300
MOST_NAMED = 60


def plot_choices(
    space: ChoiceSpace, selection: Result | Mapping[Hashable, Hashable] | ArrayLike, *, ax: Axes | None = None
) -> Axes:
    """Draw the option of each decision.

    A space with a graph of at most 300 nodes is drawn as that graph: a directed acyclic one in topological layers from
    left to right, others by a spring layout. Each node or edge that is a decision has the colour of its option, with
    the name of the option if there are at most 60 decisions, and otherwise with a legend. Without a graph, the first 40
    decisions are drawn as a grid of decisions by options with the chosen cells filled.

    Parameters
    ----------
    space : ChoiceSpace
    selection : Result, or selection as labels or indices
        If a result has no feasible selection, the nearest one is drawn, with a title.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        If the selection is not one of the space, or the result has none.

    Examples
    --------
    >>> space = ChoiceSpace({"stem": ["conv3", "conv5"], "pool": ["max", "avg", "none"]})
    >>> plot_choices(space, {"stem": "conv5", "pool": "none"}).get_xlabel()
    'decision'
    """
    load_pyplot()
    nearest = False
    if isinstance(selection, Result):
        nearest = not selection.feasible
        labels = selection.nearest if selection.selection is None else selection.selection
        if labels is None:
            raise ValueError("the result holds no selection to draw: neither a feasible one nor a nearest one")
        selection = labels
    indices = space.indices(selection)
    places = _places(space)
    ax = _choice_graph(space, indices, places, ax) if places else _choice_grid(space, indices, ax)
    if nearest:
        ax.set_title("nearest selection, not feasible", fontsize="medium")
    return ax


def _places(space: ChoiceSpace) -> dict[Hashable, int]:
    """Nodes or edges of the graph that are decisions, with their numbers; empty if no graph can be drawn."""
    graph = space.graph
    if graph is None or graph.number_of_nodes() > MOST_NODES:
        return {}
    on_nodes: dict[Hashable, int] = {d: at for at, d in enumerate(space.decisions) if d in graph}
    on_edges: dict[Hashable, int] = {
        d: at for at, d in enumerate(space.decisions) if isinstance(d, tuple) and len(d) == 2 and graph.has_edge(*d)
    }
    return max(on_edges, on_nodes, key=len)


def _choice_graph(space: ChoiceSpace, indices: NDArray[np.int64], places: dict[Hashable, int], ax: Axes | None) -> Axes:
    graph = cast(nx.Graph, space.graph)
    positions = _positions(graph)
    on_nodes, named = next(iter(places)) in graph, len(places) <= MOST_NAMED
    chosen = {d: space.option_labels(d)[int(indices[at])] for d, at in places.items()}
    colors = _option_colors(space, places)
    takes = {d: label_words(option) for d, option in chosen.items()}
    names = {node: label_words(node) + (f"\n{takes[node]}" if on_nodes and node in takes else "") for node in graph}
    # Inches between two layers, for the longest name.
    longest = max(len(line) for name in [*names.values(), *takes.values()] for line in name.split("\n"))
    need = 0.07 * longest + 0.5 if named else 0.5
    width, height = np.ptp(np.array(list(positions.values())), axis=0)
    unit = min(need, 1.6)
    ax = axes_for(ax, (float(np.clip(unit * (width + 1), 4, 14)), float(np.clip(unit * (height + 1), 2.4, 10))))
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_axis_off()
    dpi = cast(Any, ax.figure).dpi
    inches = min(ax.bbox.width / (width + 1), ax.bbox.height / (height + 1)) / dpi
    size = float(np.clip(8.5 * inches / need, 4.5, 8.5))

    faces = {node: colors[chosen[node]] if on_nodes and node in chosen else "white" for node in graph}
    boxes = _draw_nodes(ax, positions, faces, names if named else {}, size)
    ax.update_datalim(list(positions.values()))
    for u, v in graph.edges():
        decision = next((pair for pair in ((u, v), (v, u)) if not on_nodes and pair in chosen), None)
        start, end = np.array(positions[u]), np.array(positions[v])
        bend = _bend(graph, positions, u, v)
        # The middle of the quadratic curve that "arc3" draws.
        middle = (start + end + bend * (end - start)[::-1] * (1, -1)) / 2 if u != v else np.add(start, (0.6, 0))
        arrow: dict[str, Any] = {
            "arrowstyle": "-|>" if graph.is_directed() else "-",
            "connectionstyle": f"arc3,rad={bend}",
            "color": NEUTRAL if decision is None else colors[chosen[decision]],
            "lw": 0.8 if decision is None else 2.2,
            "mutation_scale": 1.2 * size,
            "patchA": boxes.get(u),
            "patchB": boxes.get(v),
            "shrinkA": 0 if named else size / 2,
            "shrinkB": 1 if named else size / 2 + 1,
        }
        if u != v:
            ax.annotate("", tuple(end), tuple(start), arrowprops=arrow, zorder=1)
        ax.update_datalim([middle])
        if decision is not None and named:
            style: dict[str, Any] = {"fontsize": size, "color": INK, "ha": "center", "va": "center", "zorder": 4}
            if inches > 0.6 * need:
                style |= {"bbox": {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}}
            # On a short edge the name would hide the arrow, so it is drawn above.
            place = (0, 0) if "bbox" in style else (0, 0.9 * size)
            name = takes[decision] + (" (loop)" if u == v else "")
            ax.annotate(name, tuple(middle), place, textcoords="offset points", **style)
    ax.margins(min(0.2, 0.5 / (width + 1)), min(0.3, 0.5 / (height + 1)))
    if not named:
        from matplotlib.lines import Line2D

        taken = [option for option in colors if option in set(chosen.values())][:12]
        handles = [Line2D([], [], color=colors[option], lw=0, marker="o") for option in taken]
        draw_legend(ax, handles, [label_words(option) for option in taken])
    if outside := space.n_decisions - len(places):
        write_note(ax, f"{outside} decisions lie outside the graph", y=0.02)
    return ax


def _draw_nodes(
    ax: Axes,
    positions: Mapping[Hashable, tuple[float, float]],
    faces: Mapping[Hashable, str],
    names: Mapping[Hashable, str],
    size: float,
) -> dict[Hashable, Any]:
    """Draw nodes as boxes with their names, at which arrows end, or without names as dots; return the boxes."""
    boxes = {}
    for node, (x, y) in positions.items():
        face = faces[node]
        edge = face if face != "white" else INK
        if names:
            box = {"boxstyle": "round,pad=0.4", "facecolor": face, "edgecolor": edge, "lw": 0.8}
            style: dict[str, Any] = {"fontsize": size, "color": _on(face), "ha": "center", "va": "center", "zorder": 3}
            boxes[node] = ax.text(x, y, names[node], bbox=box, **style).get_bbox_patch()
        else:
            ax.plot(x, y, "o", ms=size, mfc=face, mec=edge, mew=0.8, zorder=3)
    return boxes


def _on(color: str) -> str:
    """A colour for text on that colour."""
    from matplotlib.colors import to_rgb

    return INK if np.dot(to_rgb(color), (0.3, 0.6, 0.1)) > 0.55 else "white"


def _positions(graph: nx.Graph) -> dict[Hashable, tuple[float, float]]:
    """Positions of the nodes, about one apart."""
    if not graph.is_directed() or not nx.is_directed_acyclic_graph(graph):
        n = graph.number_of_nodes()
        raw = nx.spring_layout(graph, k=2.0 / n**0.5, iterations=200, seed=0, scale=max(0.6, 0.7 * n**0.5))
        return {node: (float(x), float(y)) for node, (x, y) in raw.items()}
    # As nx.multipartite_layout, but each layer in the order of its predecessors, so that fewer edges cross.
    directed, positions = cast(nx.DiGraph, graph), {}
    for layer, nodes in enumerate(nx.topological_generations(directed)):
        heights = {node: np.mean([positions[u][1] for u in directed.predecessors(node)] or [0.0]) for node in nodes}
        ordered = sorted(heights, key=heights.__getitem__)
        positions |= {node: (float(layer), 0.6 * (at - (len(ordered) - 1) / 2)) for at, node in enumerate(ordered)}
    return positions


def _bend(graph: nx.Graph, positions: dict[Hashable, tuple[float, float]], u: Hashable, v: Hashable) -> float:
    """Curvature of an edge, as a share of its length, so that it avoids the nodes of the layers between its ends."""
    if not graph.is_directed() or graph.has_edge(v, u):
        return 0.2 * graph.is_directed()
    start, end = np.array(positions[u]), np.array(positions[v])
    between = np.array([place for place in positions.values() if start[0] < place[0] < end[0]])
    if not between.size:
        return 0.0
    # Edges from neighbouring layers first try opposite sides, so that they do not overlap.
    side = -1.0 if round(start[0]) % 2 == 0 else 1.0
    length = float(np.hypot(*(end - start)))
    bulges = (min(0.25 * length, 0.9), 0.6, 1.2)
    bends = [0.0, *(sign * 2 * bulge / length for bulge in bulges for sign in (side, -side))]
    t = np.linspace(0, 1, 24)[:, None]

    def clearance(bend: float) -> float:
        curve = start + t * (end - start) + 2 * t * (1 - t) * bend * (end - start)[::-1] * (1, -1)
        return float(np.linalg.norm(curve[:, None] - between, axis=2).min())

    return next((bend for bend in bends if clearance(bend) > 0.25), max(bends, key=clearance))


def _option_colors(space: ChoiceSpace, places: Iterable[Hashable]) -> dict[Hashable, str]:
    """A colour for each option label, independent of the selection."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    options = list(dict.fromkeys(option for d in places for option in space.option_labels(d)))
    if len(options) <= len(OKABE_ITO):
        return dict(zip(options, OKABE_ITO, strict=False))
    return dict(zip(options, map(to_hex, colormaps["turbo"](np.linspace(0.05, 0.95, len(options)))), strict=True))


def _choice_grid(space: ChoiceSpace, indices: NDArray[np.int64], ax: Axes | None) -> Axes:
    n, sizes = min(space.n_decisions, MOST_ROWS), space.sizes[:MOST_ROWS]
    most, decisions = int(sizes.max()), list(space.decisions[:n])
    options = [space.option_labels(d) for d in decisions]
    ax = axes_for(ax, (float(np.clip(0.2 * n + 1.6, 3.6, 10)), float(np.clip(0.22 * most + 1.6, 2.4, 8))))
    cells = np.where(np.arange(most)[:, None] < sizes, 0.0, np.nan)
    cells[indices[:n], np.arange(n)] = 1.0
    from matplotlib.colors import ListedColormap

    style = {"cmap": ListedColormap(["#E6E6E6", GOOD]), "vmin": 0, "vmax": 1, "edgecolors": "white"}
    edges = np.arange(n + 1) - 0.5, np.arange(most + 1) - 0.5
    ax.pcolormesh(*edges, np.ma.masked_invalid(cells), lw=1.0 if most <= MOST_ROWS else 0.0, **style)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    names = [label_words(decision) for decision in decisions]
    shared = max(options, key=len)
    every = range(0, most, -(-most // MOST_ROWS))
    ax.set_yticks(every)
    if all(list(labels) == list(shared[: len(labels)]) for labels in options):
        ax.set_ylabel("option")
        ax.set_yticklabels([label_words(shared[at]) for at in every])
    else:
        # The rows are different options in each column, so the name of the chosen one is written below.
        ax.set_ylabel("option number")
        chosen = [label_words(labels[i]) for labels, i in zip(options, indices.tolist(), strict=False)]
        names = [f"{name}: {option}" for name, option in zip(names, chosen, strict=True)]
    upright = 0.075 * max(map(len, names)) > ax.bbox.width / cast(Any, ax.figure).dpi / n
    ax.set_xticks(range(n), names, rotation=90 if upright else 0, fontsize="small")
    left = space.n_decisions - n
    ax.set_xlabel(f"decision (the first {n}; {left} more are left out)" if left else "decision")
    return ax
