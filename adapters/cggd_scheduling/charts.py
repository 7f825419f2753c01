"""Plots of schedules; they need ``cggd[plot]``. Each draws into `ax`, or into a new figure, and returns the Axes."""

from __future__ import annotations

import re
from collections.abc import Hashable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import networkx as nx

from cggd.plotting.axes import BAD, GOOD, INK, NEUTRAL, OKABE_ITO, axes_for, label_words, quantity_text, write_note
from cggd.rounding import number_text
from cggd_scheduling.schedule import Schedule, lanes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Most tasks of which names are drawn.
NAMED = 60

# A legend at the right of the axes covers neither bars nor the title.
BESIDE: dict[str, Any] = {"frameon": False, "fontsize": "small", "loc": "upper left", "bbox_to_anchor": (1, 1)}


def plot_gantt(schedule: Schedule, ax: Axes | None = None) -> Axes:
    """Draw a Gantt chart: a row per machine, unit or device; without these, the fewest rows without overlap.

    Tasks on the critical path (`Schedule.critical_path`) have a dark edge. Tasks of duration 0 are diamonds. The
    deadline is a dashed line.

    Parameters
    ----------
    schedule : Schedule
    ax : matplotlib Axes, optional
    """
    lanes: dict[Hashable, Hashable] = dict(schedule.lanes)
    if not lanes:
        finish = {task: schedule.finish(task) for task in schedule.start}
        lanes = dict(lanes_of(schedule.start, finish))
    rows = list(dict.fromkeys(lanes.values())) if schedule.lanes else sorted(set(lanes.values()), key=repr)
    if schedule.lanes:
        rows.sort(key=_natural)
    ax = axes_for(ax, (8.0, 1.2 + 0.3 * min(max(len(rows), 3), 40)))
    if not schedule.start:
        return write_note(ax, "no task" if schedule.feasible else "no schedule")
    critical = set(schedule.critical_path())
    modes = list(dict.fromkeys(schedule.modes.values()))
    for task, start in schedule.start.items():
        row, duration = rows.index(lanes[task]) if task in lanes else len(rows), schedule.duration(task)
        edge: dict[str, Any] = {"edgecolor": INK if task in critical else "white"}
        colour = OKABE_ITO[modes.index(schedule.modes[task]) % len(OKABE_ITO)]
        if duration:
            ax.barh(
                row, float(duration), left=float(start), height=0.8, color=colour, alpha=0.75, linewidth=1.6, **edge
            )
            if len(schedule.start) <= NAMED:
                middle = float(start) + float(duration) / 2
                ax.text(middle, row, label_words(task, 10), ha="center", va="center", fontsize="x-small", color=INK)
        else:
            ax.plot(float(start), row, marker="D", markersize=4, color=INK if task in critical else NEUTRAL)
    if schedule.lanes:
        ax.set_yticks(range(len(rows)), [label_words(row) for row in rows])
    else:
        ax.set_yticks([])
    if (deadline := schedule.requirements.deadline) is not None:
        ax.axvline(float(deadline), color=BAD, linestyle="--", linewidth=1)
    ax.set_ylim(len(rows) + (0.5 if set(schedule.start) - set(lanes) else -0.5), -0.5)
    ax.set_xlim(left=0)
    ax.set_xlabel(quantity_text("time", schedule.requirements.unit))
    ax.set_title(f"makespan {number_text(schedule.makespan)}, dark edges: critical path", fontsize="medium", loc="left")
    if 1 < len(modes) <= len(OKABE_ITO) and dict(schedule.lanes) != dict(schedule.modes):
        from matplotlib.patches import Patch

        patches = [Patch(color=colour, alpha=0.75) for colour in OKABE_ITO[: len(modes)]]
        words = [f"mode {label_words(mode)}" for mode in modes]
        ax.legend(patches, words, **BESIDE)
    return ax


def plot_usage(schedule: Schedule, resource: Hashable | None = None, ax: Axes | None = None) -> Axes:
    """Draw the use of a renewable resource over time, with its capacity.

    Parameters
    ----------
    schedule : Schedule
    resource : label, optional
        By default all, each as a share of its capacity. If all have capacity 1, or there are more than colours, each
        gets a row.
    ax : matplotlib Axes, optional
    """
    capacities = schedule.requirements.capacities
    if resource is not None and resource not in capacities:
        raise ValueError(f"resource must be a renewable one, {list(capacities)}, got {resource!r}")
    shown = capacities if resource is None else {resource: capacities[resource]}
    rows = len(shown) > len(OKABE_ITO) or (len(shown) > 1 and all(c == 1 for c in shown.values()))
    ax = axes_for(ax, (8.0, 1.2 + 0.25 * min(len(shown), 40) if rows else 2.4))
    if not shown:
        return write_note(ax, "no renewable resource")
    if rows:
        return _usage_in_rows(schedule, ax)
    for k, (name, capacity) in enumerate(shown.items()):
        share = (float(capacity) or 1.0) if resource is None else 1.0
        steps = [(0, 0), *schedule.usage(name), (schedule.makespan, 0)]
        times, levels = [float(t) for t, _ in steps], [float(level) / share for _, level in steps]
        colour = OKABE_ITO[k % len(OKABE_ITO)]
        ax.step(times, levels, where="post", color=colour, label=label_words(name))
        ax.fill_between(times, levels, step="post", color=colour, alpha=0.15)
    ax.axhline(float(capacities[resource]) if resource is not None else 1.0, color=BAD, linestyle="--", linewidth=1)
    ax.set_xlim(left=0)
    ax.set_ylim(bottom=0)
    ax.set_xlabel(quantity_text("time", schedule.requirements.unit))
    ax.set_ylabel(label_words(resource) if resource is not None else "share of capacity")
    if len(shown) > 1:
        ax.legend(**BESIDE)
    return ax


def _usage_in_rows(schedule: Schedule, ax: Axes) -> Axes:
    """Draw each resource in a row; the height of a row is its capacity."""
    capacities = schedule.requirements.capacities
    names = sorted(capacities, key=_natural)
    for row, name in enumerate(names):
        steps = [*schedule.usage(name), (schedule.makespan, 0)]
        heights = [0.8 * float(level) / (float(capacities[name]) or 1.0) for _, level in steps]
        base = row + 0.4
        # The axis points down.
        ax.fill_between([float(t) for t, _ in steps], base, [base - h for h in heights], step="post", color=GOOD, lw=0)
        ax.axhline(base, color=NEUTRAL, linewidth=0.6)
    ax.set_yticks(range(len(names)), [label_words(name) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlim(left=0)
    ax.set_xlabel(quantity_text("time", schedule.requirements.unit))
    ax.set_title("use of each resource, a full row is its capacity", fontsize="medium", loc="left")
    return ax


def plot_network(schedule: Schedule, ax: Axes | None = None) -> Axes:
    """Draw the precedence graph, with the tasks at their start times and the critical path in red.

    A dashed line shows that a task on the critical path waited for a resource, not for a predecessor.

    Parameters
    ----------
    schedule : Schedule
    ax : matplotlib Axes, optional
    """
    ax = axes_for(ax, (8.0, 4.5))
    graph = schedule.graph()
    if not graph:
        return write_note(ax, "no task" if schedule.feasible else "no schedule")
    path = schedule.critical_path()
    on_path = set(pairwise(path))
    rows = lanes_of(schedule.start, {task: schedule.finish(task) + _eps(schedule) for task in schedule.start})
    place = {task: (float(schedule.start[task]), -float(rows[task])) for task in graph}
    marked = set(path)
    options: dict[str, Any] = {"ax": ax, "node_size": 220 if len(graph) <= NAMED else 30}
    colours = [BAD if task in marked else GOOD for task in graph]
    nx.draw_networkx_nodes(graph, place, node_color=colours, alpha=0.8, **options)
    edges = list(graph.edges)
    for wanted, colour, width in ((False, NEUTRAL, 0.8), (True, BAD, 2.0)):
        some = [edge for edge in edges if (edge in on_path) == wanted]
        nx.draw_networkx_edges(graph, place, edgelist=some, edge_color=colour, width=width, arrowsize=8, **options)
    waits = nx.DiGraph()
    waits.add_nodes_from(graph)
    waits.add_edges_from(edge for edge in on_path if not graph.has_edge(*edge))
    nx.draw_networkx_edges(waits, place, edge_color=BAD, width=2.0, style="dashed", arrowsize=8, **options)
    if len(graph) <= NAMED:
        labels = {task: label_words(task, 8) for task in graph}
        nx.draw_networkx_labels(graph, place, labels, font_size=7, ax=ax)
    ax.set_axis_on()
    ax.tick_params(left=False, labelleft=False, bottom=True, labelbottom=True)
    ax.set_xlabel(quantity_text("start", schedule.requirements.unit))
    length = schedule.finish(path[-1]) - schedule.start[path[0]]
    ax.set_title(f"critical path of {len(path)} tasks, {number_text(length)} long", fontsize="medium", loc="left")
    return ax


def _eps(schedule: Schedule) -> float:
    """A small width, so that tasks of duration 0 do not overlap in the drawing."""
    return float(schedule.makespan) / 50 if schedule.makespan else 1.0


def _natural(label: Hashable) -> list[Any]:
    """Sort key that compares numbers within words by value: unit 2 before unit 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(label))]


Schedule.gantt = plot_gantt
