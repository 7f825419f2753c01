"""``cggd schedule FILE``: projects, high-level synthesis, device placement and job shops from the shell."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from cggd.arguments import adapter_command
from cggd.io.text import read_text, write_text
from cggd.outputs import check_outputs, writing
from cggd.plotting.pictures import check_picture, save_picture
from cggd.terminal import FEASIBLE, NOT_FEASIBLE, say, say_json
from cggd_scheduling import hls, jobshop, placement
from cggd_scheduling.charts import plot_gantt, plot_network, plot_usage
from cggd_scheduling.files import load_json, suffix
from cggd_scheduling.formats import FORMAT, read_project
from cggd_scheduling.modes import select_modes
from cggd_scheduling.multimode import SCHEDULES, schedule_project
from cggd_scheduling.schedule import FORMAT as SCHEDULE
from cggd_scheduling.schedule import Schedule
from cggd_scheduling.tasks import schedule_tasks

app = adapter_command()


@app.callback(invoke_without_command=True, no_args_is_help=True)
def schedule(
    file: Annotated[
        Path,
        typer.Argument(
            help="project (PSPLIB, MMLIB, .rcp or JSON), job shop (classical, .fjs or JSON), data-flow graph (JSON, "
            "GraphML, DOT), operator graph (JSON), or a schedule as JSON, whose requirements are scheduled anew"
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
    objective: Annotated[
        str | None, typer.Option(help="makespan or tardiness, of projects, job shops and schedules")
    ] = None,
    modes_only: Annotated[
        bool, typer.Option("--modes-only", help="leave out capacities of renewable resources")
    ] = False,
    library: Annotated[Path | None, typer.Option(help="functional units, where the graph does not name them")] = None,
    graph: Annotated[str | None, typer.Option(help="which of several data-flow graphs in the file")] = None,
    instance: Annotated[str | None, typer.Option(help="which of several job shops in the file")] = None,
    clock: Annotated[float | None, typer.Option(help="clock period of a data-flow graph")] = None,
    chain: Annotated[bool, typer.Option("--chain", help="chain operations within a clock period")] = False,
    area: Annotated[float | None, typer.Option(help="largest area of a data-flow graph")] = None,
    power: Annotated[float | None, typer.Option(help="largest power of a data-flow graph")] = None,
    schedules: Annotated[int, typer.Option(min=1, help="schedules to make of a project")] = SCHEDULES,
    seconds: Annotated[float | None, typer.Option("--time", help="seconds after which to stop")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="threads of CP-SAT; by default one for each core")] = None,
    seed: Annotated[int, typer.Option(min=0, help="same seed, same answer")] = 0,
    gantt: Annotated[Path | None, typer.Option(help="draw a Gantt chart into this file")] = None,
    usage: Annotated[Path | None, typer.Option(help="draw the use of resources over time into this file")] = None,
    network: Annotated[Path | None, typer.Option(help="draw the graph with its critical path into this file")] = None,
    table: Annotated[Path | None, typer.Option("--csv", help="write the schedule as CSV")] = None,
    save: Annotated[Path | None, typer.Option("--out", help="write the schedule as JSON")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the schedule as JSON and nothing else")] = False,
) -> None:
    """Schedule the problem in a file, under its latency and resource bounds.

    Exit status: 0 a schedule was found, 1 wrong input, 2 infeasible or unknown.
    """
    pictures = {"--gantt": (gantt, plot_gantt), "--usage": (usage, _all_usage), "--network": (network, plot_network)}
    drawn = {option: path for option, (path, _) in pictures.items() if path is not None}
    check_outputs([file, library], {**drawn, "--csv": table, "--out": save})
    for option, path in drawn.items():
        check_picture(path, option)
    asked = {"deadline": deadline, "minimize": minimize, "objective": objective, "modes_only": modes_only or None}
    asked |= {"instance": instance, "workers": workers}
    asked |= {"graph": graph, "library": library, "clock": clock, "chain": chain or None, "area": area, "power": power}
    solve = _solver(file, {name: value for name, value in asked.items() if value is not None}, schedules)
    found = solve(seed=seed, time_limit=seconds)
    files = {path: partial(_draw, draw, found) for path, draw in pictures.values()}
    files |= {
        table: lambda path: write_text(path, found.to_csv()),
        save: lambda path: write_text(path, found.to_json()),
    }
    with writing(files):
        say_json(found.to_json()) if as_json else say(found.summary())
    raise typer.Exit(FEASIBLE if found.feasible else NOT_FEASIBLE)


def _solver(file: Path, asked: dict[str, Any], schedules: int) -> Callable[..., Schedule]:
    """A function of `seed` and `time_limit` that solves the problem in a file with the given options."""
    kind = _kind(file)

    def only(**names: str) -> dict[str, Any]:
        """The given options under the names that the solver uses; ValueError for any other option."""
        if wrong := [name for name in asked if name not in names]:
            raise ValueError(f"--{wrong[0].replace('_', '-')} says nothing of {file}, which is a {kind}")
        return {names[name]: value for name, value in asked.items()}

    if kind == "project":
        options = ("deadline", "minimize", "objective", "modes_only", "workers")
        given = only(**{name: name for name in options})
        project = read_project(file)
        if given.pop("modes_only", False):
            if wrong := [name for name in ("objective", "workers") if name in given]:
                raise ValueError(f"--{wrong[0]} says nothing of --modes-only")
            return partial(select_modes, project, **given)
        return partial(schedule_project, project, schedules=schedules, **given)
    if kind == "job shop":
        given = only(deadline="deadline", objective="objective", instance="instance", workers="workers")
        return partial(jobshop.schedule_jobs, jobshop.read(file, instance=given.pop("instance", None)), **given)
    if kind == "schedule":
        given = only(objective="objective", workers="workers")
        known = Schedule.from_json(read_text(file))
        given.setdefault("objective", "tardiness" if known.objective == "tardiness" else "makespan")
        return partial(schedule_tasks, known.requirements, lanes=bool(known.lanes), **given)
    if kind == "placement":
        given = only(minimize="objective", workers="workers")
        return partial(placement.place, placement.read(file), **given)
    kept = {name: name for name in ("workers", "graph", "library", "clock", "chain", "area", "power")}
    given = only(deadline="latency", minimize="objective", **kept)
    of_file = {name: given.pop(name) for name in ("graph", "library", "clock", "chain") if name in given}
    return partial(hls.synthesize, hls.read(file, **of_file), **given)


def _kind(file: Path) -> str:
    """Kind of problem in a file, by its ending and, for JSON, by its keys."""
    ending = suffix(file)
    if ending == ".fjs" or (ending in ("", ".txt", ".jsp", ".jss") and jobshop.is_classical(file)):
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
    if form == SCHEDULE:
        return "schedule"
    if any("jobs" in shop for shop in (entries, *entries.values()) if isinstance(shop, dict)):
        return "job shop"
    if form == "cggd-placement-1" or "maxSizePerFPGA" in entries:
        return "placement"
    if form == "cggd-synthesis-1" or ("library" in entries and ("dfgs" in entries or "nodes" in entries)):
        return "data-flow graph"
    kinds = "a job shop nor a data-flow graph nor a placement nor a schedule"
    raise ValueError(f'{file}: neither a project ("format": "{FORMAT}") nor {kinds}')


def _draw(draw: Callable[[Schedule], Any], found: Schedule, path: Path) -> None:
    save_picture(draw(found).figure, path)


def _all_usage(found: Schedule) -> Any:
    return plot_usage(found)
