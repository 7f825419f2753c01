"""``cggd schedule FILE``: projects, high-level synthesis, device placement and job shops from the shell."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cggd.io.text import write_text
from cggd.plotting.axes import load_pyplot
from cggd_scheduling import hls, jobshop, placement
from cggd_scheduling.charts import plot_gantt, plot_network, plot_usage
from cggd_scheduling.files import load_json, suffix
from cggd_scheduling.formats import FORMAT, read_project
from cggd_scheduling.modes import select_modes
from cggd_scheduling.multimode import SCHEDULES, schedule_project
from cggd_scheduling.schedule import Schedule

FEASIBLE, NOT_FEASIBLE = 0, 2

# Of a group, options may follow the file all the same.
INTERSPERSED = {"allow_interspersed_args": True}

# Of characters that change the direction of what follows them.
DIRECTIONS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, context_settings=INTERSPERSED, subcommand_metavar=""
)
out = Console(soft_wrap=True)


@app.callback(invoke_without_command=True, no_args_is_help=True)
def schedule(
    file: Annotated[
        Path,
        typer.Argument(
            help="project (PSPLIB, MMLIB or JSON), data-flow graph (JSON, GraphML, DOT), operator graph (JSON) or "
            "flexible job shop (.fjs)"
        ),
    ],
    deadline: Annotated[float | None, typer.Option(help="latest end; of a data-flow graph, the latency")] = None,
    minimize: Annotated[
        str | None,
        typer.Option(
            help="a non-renewable resource of a project; area, power or latency of a data-flow graph; load or "
            '"critical path" of a placement; otherwise the makespan, the area, the load'
        ),
    ] = None,
    modes_only: Annotated[
        bool, typer.Option("--modes-only", help="leave out capacities of renewable resources")
    ] = False,
    library: Annotated[Path | None, typer.Option(help="functional units, where the graph does not name them")] = None,
    graph: Annotated[str | None, typer.Option(help="which of several data-flow graphs in the file")] = None,
    clock: Annotated[float | None, typer.Option(help="clock period of a data-flow graph")] = None,
    chain: Annotated[bool, typer.Option("--chain", help="chain operations within a clock period")] = False,
    area: Annotated[float | None, typer.Option(help="largest area of a data-flow graph")] = None,
    power: Annotated[float | None, typer.Option(help="largest power of a data-flow graph")] = None,
    schedules: Annotated[int, typer.Option(min=1, help="schedules to make of a project")] = SCHEDULES,
    seconds: Annotated[float | None, typer.Option("--time", help="seconds after which to stop")] = None,
    seed: Annotated[int, typer.Option(min=0, help="same seed, same answer")] = 0,
    gantt: Annotated[Path | None, typer.Option(help="draw a Gantt chart into this file")] = None,
    usage: Annotated[Path | None, typer.Option(help="draw the use of resources over time into this file")] = None,
    network: Annotated[Path | None, typer.Option(help="draw the graph with its critical path into this file")] = None,
    table: Annotated[Path | None, typer.Option("--csv", help="write the schedule as CSV")] = None,
    save: Annotated[Path | None, typer.Option("--out", help="write the schedule as JSON")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the schedule as JSON and nothing else")] = False,
) -> None:
    """Schedule what a file describes, under its latency and resource bounds.

    Exit status: 0 a schedule was found, 1 wrong input, 2 infeasible or unknown.
    """
    pictures = {"--gantt": (gantt, plot_gantt), "--usage": (usage, _all_usage), "--network": (network, plot_network)}
    files = {"--csv": table, "--out": save} | {option: path for option, (path, _) in pictures.items()}
    for option, path in files.items():
        _check_file(path, option)
    if any(path for path, _ in pictures.values()):
        load_pyplot().switch_backend("Agg")  # raises where it is missing; draws into files and needs no screen
    asked = {"deadline": deadline, "minimize": minimize, "modes_only": modes_only or None}
    asked |= {"graph": graph, "library": library, "clock": clock, "chain": chain or None, "area": area, "power": power}
    solve = _solver(file, {name: value for name, value in asked.items() if value is not None}, schedules)
    found = solve(seed=seed, time_limit=seconds)
    if as_json:
        print(found.to_json())
    else:
        out.print(printable(found.summary()), markup=False, highlight=False)
    if table is not None:
        write_text(table, found.to_csv())
    if save is not None:
        write_text(save, found.to_json())
    for path, draw in pictures.values():
        if path is not None:
            draw(found).figure.savefig(path, dpi=120)
    raise typer.Exit(FEASIBLE if found.feasible else NOT_FEASIBLE)


def printable(text: str) -> str:
    r"""Text with every character that commands a terminal shown by its number: escape sequences, returns, directions.

    Examples
    --------
    >>> printable("a\x1b[31mb") == "a\\x1b[31mb"
    True
    """
    return "".join(c if c == "\n" or not _commands(c) else repr(c)[1:-1] for c in text)


def _commands(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or unicodedata.bidirectional(character) in DIRECTIONS


def _solver(file: Path, asked: dict[str, Any], schedules: int) -> Callable[..., Schedule]:
    """What solves the problem in a file, as asked; its arguments are `seed` and `time_limit`."""
    kind = _kind(file)

    def only(**names: str) -> dict[str, Any]:
        """What was asked, under the names that this kind gives it."""
        if wrong := [name for name in asked if name not in names]:
            raise ValueError(f"--{wrong[0].replace('_', '-')} says nothing of {file}, which is a {kind}")
        return {names[name]: value for name, value in asked.items()}

    if kind == "project":
        given = only(deadline="deadline", minimize="minimize", modes_only="modes_only")
        project = read_project(file)
        if given.pop("modes_only", False):
            return partial(select_modes, project, **given)
        return partial(schedule_project, project, schedules=schedules, **given)
    if kind == "job shop":
        given = only(deadline="deadline")
        return partial(jobshop.read(file).solve, **given)
    if kind == "placement":
        given = only(minimize="objective")
        return partial(placement.read(file).solve, **given)
    kept = {name: name for name in ("graph", "library", "clock", "chain", "area", "power")}
    given = only(deadline="latency", minimize="objective", **kept)
    of_file = {name: given.pop(name) for name in ("graph", "library", "clock", "chain") if name in given}
    return partial(hls.read(file, **of_file).solve, **given)


def _kind(file: Path) -> str:
    """What a file holds, by its ending and, where it is JSON, by its entries."""
    ending = suffix(file)
    if ending == ".fjs":
        return "job shop"
    if ending in (".graphml", ".dot", ".gv"):
        return "data-flow graph"
    if ending != ".json":
        return "project"
    data = load_json(file)
    entries = data if isinstance(data, dict) else {}
    form = entries.get("format")
    if form == FORMAT:
        return "project"
    if form == "cggd-placement-1" or "maxSizePerFPGA" in entries:
        return "placement"
    if form == "cggd-synthesis-1" or ("library" in entries and ("dfgs" in entries or "nodes" in entries)):
        return "data-flow graph"
    raise ValueError(f'{file}: neither a project ("format": "{FORMAT}") nor a data-flow graph nor a placement')


def _all_usage(found: Schedule) -> Any:
    return plot_usage(found)


def _check_file(path: Path | None, option: str) -> None:
    """Raise where a path cannot become a file, before a search is spent on it."""
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise ValueError(f"{option} must be a file in a folder that exists, got {path}")
