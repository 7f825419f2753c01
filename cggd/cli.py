"""The command line: ``cggd solve``, ``sweep``, ``check``, ``demo``, ``plot``, and the commands that adapters add."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

import cggd
from cggd import demo as demonstration
from cggd.constraints import Constraint
from cggd.feasibility import diagnose, smallest_bound
from cggd.fronts import SweepError, SweepProgress, sweep
from cggd.io import parse_bound, read_options, read_problem
from cggd.io.text import read_text, write_text
from cggd.metrics import Metric, values_of
from cggd.metrics.base import CHUNK
from cggd.options import Progress as SearchProgress
from cggd.plotting import plot_budgets, plot_search
from cggd.plotting.axes import load_pyplot
from cggd.problem import Problem
from cggd.result import Result
from cggd.search import SearchError, solve

FEASIBLE, WRONG_INPUT, NOT_FEASIBLE, INTERRUPTED = 0, 1, 2, 130

# A line this often tells a log that a search without a terminal is alive.
PLAIN_SECONDS = 5.0

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Choose one option per decision, under bounds on anything that can be evaluated.\n\n"
    "Exit status: 0 a feasible selection was found, 1 wrong input, 2 infeasible or unknown.",
)
out, err = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)

OptionTable = Annotated[Path, typer.Argument(help="CSV option table (decision, option, metrics), or problem as JSON")]
Limits = Annotated[list[str] | None, typer.Option("--limit", help='bound such as "weight<=100"; may be repeated')]
Forbid = Annotated[list[str] | None, typer.Option(help='"decision=option" not to choose; may be repeated')]
Polish = Annotated[bool, typer.Option(help="improve what the descent found, to a proof of optimality where it can")]
Gap = Annotated[float, typer.Option(help="stop within this share of the bound: 0.01 for one percent")]
Seed = Annotated[int, typer.Option(min=0, help="same seed, same answer")]


@app.command("solve")
def solve_command(
    options: OptionTable,
    maximize: Annotated[str | None, typer.Option(help="metric to maximise")] = None,
    minimize: Annotated[str | None, typer.Option(help="metric to minimise")] = None,
    limit: Limits = None,
    forbid: Forbid = None,
    seconds: Annotated[float | None, typer.Option("--time", help="seconds after which to stop")] = None,
    steps: Annotated[int, typer.Option(help="steps of each start")] = 600,
    starts: Annotated[int, typer.Option(help="independent starts")] = 6,
    polish: Polish = True,
    gap: Gap = 0.0,
    seed: Seed = 0,
    save: Annotated[Path | None, typer.Option("--out", help="write the result as JSON")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="keep the state here, and continue from it")] = None,
    json: Annotated[bool, typer.Option("--json", help="print the result as JSON and nothing else")] = False,
) -> None:
    """Find the best selection that satisfies every bound."""
    _check_file(save)
    problem, _ = _problem(options, maximize, minimize, limit or [])
    settings: dict[str, Any] = {"seed": seed, "steps": steps, "starts": starts, "time_limit": seconds}
    settings |= {"polish": polish, "gap": gap, "forbid": _forbidden(problem, forbid or [])}
    settings |= {"checkpoint": checkpoint, "resume": checkpoint is not None}
    try:
        with _reporting(problem, starts * steps, quiet=json) as show:
            result = solve(problem, callback=lambda p: show(_done(p), _words(p)), **settings)
    except SearchError as error:
        err.print(f"error: {error}", style="red", markup=False)
        result = error.result
    _deliver(result, save, as_json=json)


@app.command("sweep")
def sweep_command(
    options: OptionTable,
    metric: Annotated[str, typer.Option(help="metric whose bound is swept")],
    bounds: Annotated[
        str,
        typer.Option(
            help="bounds on the metric: a list 3,4,5; or least:greatest:how many, 3:8:6; or a whole number alone, how "
            "many to spread between the least that works and the one that the best selection without a bound needs "
            '(the single bound 10 is "10,")'
        ),
    ],
    at_least: Annotated[bool, typer.Option("--at-least", help="bound the metric from below, not from above")] = False,
    maximize: Annotated[str | None, typer.Option(help="metric to maximise")] = None,
    minimize: Annotated[str | None, typer.Option(help="metric to minimise")] = None,
    limit: Limits = None,
    forbid: Forbid = None,
    seconds: Annotated[float | None, typer.Option("--time", help="seconds for all bounds together")] = None,
    steps: Annotated[int, typer.Option(help="steps of each start")] = 600,
    starts: Annotated[int, typer.Option(help="independent starts for each bound")] = 6,
    polish: Polish = True,
    gap: Gap = 0.0,
    seed: Seed = 0,
    table: Annotated[Path | None, typer.Option("--csv", help="write the curve as CSV")] = None,
    picture: Annotated[Path | None, typer.Option("--plot", help="draw the curve into this file")] = None,
    save: Annotated[Path | None, typer.Option("--out", help="write the results as JSON")] = None,
    json: Annotated[bool, typer.Option("--json", help="print the results as JSON and nothing else")] = False,
) -> None:
    """Find the best objective for each of several bounds on a metric.

    They replace a bound of that kind that a problem in JSON has on the metric. Exit status: 0 where every bound has a
    feasible selection, 1 wrong input, 2 where some has none, or was not reached.
    """
    for path, option in ((table, "--csv"), (picture, "--plot"), (save, "--out")):
        _check_file(path, option)
    if picture is not None:
        load_pyplot()  # raises where it is missing
    problem, metrics = _problem(options, maximize, minimize, [])
    if metric not in metrics:
        raise ValueError(f"--metric: {options} has no metric {metric!r}; it has {', '.join(metrics)}")
    swept, sense, wanted = metrics[metric], ">=" if at_least else "<=", _wanted(bounds)
    kept = [c for c in problem.constraints if c.metric is not swept or c.sense != sense]
    kept += [parse_bound(text, metrics) for text in limit or []]
    settings: dict[str, Any] = {"seed": seed, "steps": steps, "starts": starts, "time_limit": seconds}
    settings |= {"polish": polish, "gap": gap}
    settings |= {"forbid": _forbidden(problem, forbid or []), "sense": problem.sense, "metric_sense": sense}
    most = wanted + 1 if isinstance(wanted, int) else len(wanted)
    try:
        with _reporting(problem, most * starts * steps, quiet=json) as show:

            def callback(p: SweepProgress) -> None:
                words = f"search {p.run + 1}/{p.runs}, {_words(p.search)}"
                show(p.run * starts * steps + _done(p.search), words)

            front = sweep(problem.objective, kept, swept, wanted, callback=callback, **settings)
    except SweepError as error:
        err.print(f"error: {error}", style="red", markup=False)
        front = error.front
    if json:
        print(front.to_json())
    else:
        out.print(front.summary(), markup=False, highlight=False)
    if table is not None:
        front.to_csv(table)
    if save is not None:
        write_text(save, front.to_json())
    if picture is not None:
        figure, ax = _load_pyplot().subplots(figsize=(6.4, 4.2), layout="constrained")
        front.plot(ax)
        figure.savefig(picture, dpi=120)
    raise typer.Exit(FEASIBLE if front.feasible else NOT_FEASIBLE)


@app.command()
def check(
    options: OptionTable,
    limit: Limits = None,
    seconds: Annotated[float, typer.Option("--time", help="seconds for each question to the solver")] = 10.0,
    samples: Annotated[int, typer.Option(min=1, help="selections drawn where there are more than that")] = 10_000,
    seed: Seed = 0,
) -> None:
    """Say what each bound leaves, whether all can be met together, and how tight they could be."""
    if not seconds > 0:
        raise ValueError(f"--time must be more than 0 seconds, got {seconds:g}")
    space, constraints = _bounds(options, limit or [])
    shares, together, of = _satisfied(space, constraints, samples, seed)
    table = Table("bound", "least", "greatest", "satisfied by", "verdict")
    for c, share in zip(constraints, shares, strict=True):
        low, high = c.metric.limits()
        worst, easiest = (high, low) if c.sign > 0 else (low, high)
        verdict = "always met" if c.satisfied(worst) else "can be met" if c.satisfied(easiest) else "cannot be met"
        table.add_row(Text(repr(c)[11:-1]), f"{low:.6g}", f"{high:.6g}", f"{share:.1%}", verdict)
    out.print(space, table, f"all together: {together:.2%} of {of}")
    settings: dict[str, Any] = {"seed": seed, "time_limit": seconds}
    diagnosis = diagnose(constraints, **settings)
    out.print(str(diagnosis), markup=False, highlight=False)
    if not diagnosis.feasibility.feasible:
        raise typer.Exit(NOT_FEASIBLE)
    out.print("how tight each bound could be, the others as they are")
    for c in constraints:
        others = [other for other in constraints if other is not c]
        out.print(f"  {smallest_bound(c.metric, others, sense=c.sense, **settings)}", markup=False, highlight=False)


@app.command()
def demo(save: Annotated[Path, typer.Option("--out", help="folder for the picture")] = Path("out")) -> None:
    """Solve the search space of the paper from data that ships with the package, and draw a picture."""
    _make_folder(save)
    began = time.perf_counter()
    out.print(
        "Neural architecture search on NATS-Bench (15,625 cells, CIFAR-10) under latency and energy bounds of an edge\n"
        "GPU. The search sees validation accuracy after 12 epochs; test accuracy after 200 epochs judges the result."
    )
    done = demonstration.run()
    columns = ("bound", "feasible", "satisfied", "accuracy", "best", "loss", "seconds")
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for s in done:
        accuracy = f"{np.mean(s.accuracies):.2f} %" if s.accuracies else "-"
        table.add_row(
            s.name,
            str(s.feasible),
            f"{s.satisfied} of {len(s.runs)}",
            accuracy,
            f"{s.best:.2f} %",
            f"{s.loss:.2f} %" if s.accuracies else "-",
            f"{s.seconds:.2f}",
        )
    out.print(table)
    out.print(
        f"feasible: cells within the bounds; best: the best test accuracy among them; accuracy: mean over seeds;\n"
        f"loss: its relative distance to the best (in the paper {demonstration.PAPER_LOSS} %); seconds: of a run.\n\n"
        f"The best run under {done[0].name}:"
    )
    best = max(done[0].runs, key=lambda run: run.value if run.value is not None else -np.inf)
    out.print(best.summary(), markup=False, highlight=False)
    path = save / "demo.png"
    try:
        demonstration.picture(done, path)
        out.print(f"picture    {path}")
    except ImportError as error:
        out.print(f"no picture: {error}", markup=False)
    out.print(f"{len(done) * len(done[0].runs)} searches and a picture in {time.perf_counter() - began:.1f} s")
    raise typer.Exit(FEASIBLE if all(s.satisfied == len(s.runs) for s in done) else NOT_FEASIBLE)


@app.command()
def plot(
    result: Annotated[Path, typer.Argument(help="result as JSON, written by cggd solve --out")],
    save: Annotated[Path | None, typer.Option("--out", help="picture to write; by default beside the result")] = None,
) -> None:
    """Draw the course of a search and the use of its budgets."""
    path = save or Path(str(result).removesuffix(".gz")).with_suffix(".png")
    _check_file(path)
    found = Result.from_json(read_text(result))
    figure, (left, right) = _load_pyplot().subplots(1, 2, figsize=(13, 5), layout="constrained")
    plot_search(found, ax=left)
    plot_budgets(found, ax=right)
    figure.savefig(path, dpi=120)
    out.print(path, markup=False)


@app.command()
def version() -> None:
    """Print the version."""
    out.print(f"cggd {cggd.__version__}", highlight=False)


# -- input ------------------------------------------------------------------------------------------------------------


def _problem(
    path: Path, maximize: str | None, minimize: str | None, limits: list[str]
) -> tuple[Problem, Mapping[str, Metric]]:
    """What is asked of a file, and its metrics by name."""
    if _is_problem(path):
        problem = read_problem(path)
        if maximize or minimize:
            raise ValueError(f"{path} states its own objective; leave out --maximize and --minimize")
        metrics = _metrics(problem)
        bounds = [*problem.constraints, *(parse_bound(text, metrics) for text in limits)]
        return Problem(problem.objective, bounds, problem.sense), metrics
    if (maximize is None) == (minimize is None):
        raise ValueError("give either --maximize METRIC or --minimize METRIC")
    _, metrics = read_options(path)
    name = maximize if maximize is not None else minimize
    if name not in metrics:
        raise ValueError(f"{path} has no metric {name!r}; it has {', '.join(metrics)}")
    bounds = [parse_bound(text, metrics) for text in limits]
    return Problem(metrics[name], bounds, "maximize" if maximize is not None else "minimize"), metrics


def _bounds(path: Path, limits: list[str]) -> tuple[cggd.ChoiceSpace, list[Constraint]]:
    if _is_problem(path):
        problem = read_problem(path)
        space, table = problem.space, _metrics(problem)
        constraints = [*problem.constraints, *(parse_bound(text, table) for text in limits)]
    else:
        space, table = read_options(path)
        constraints = [parse_bound(text, table) for text in limits]
    if not constraints:
        raise ValueError("nothing to check: give at least one --limit")
    return space, constraints


def _is_problem(path: Path) -> bool:
    return path.name.lower().endswith((".json", ".json.gz"))


def _metrics(problem: Problem) -> dict[str, Metric]:
    """A problem's metrics by name."""
    return {metric.name: metric for metric in (*(c.metric for c in problem.constraints), problem.objective)}


def _wanted(text: str) -> list[float] | int:
    """The bounds that --bounds asks for, or how many."""
    parts = text.split(":")
    try:
        if len(parts) == 3:
            n = int(parts[2])
            if n < 1:
                raise ValueError
            return np.linspace(float(parts[0]), float(parts[1]), n).tolist()
        return int(text) if text.strip().isdecimal() else [float(word) for word in text.removesuffix(",").split(",")]
    except ValueError:
        raise ValueError(f"--bounds must be 3,4,5 or 3:8:6 or how many to spread, got {text!r}") from None


def _forbidden(problem: Problem, texts: list[str]) -> dict[Any, list[Any]] | None:
    """Labels in files are text; those of a problem in JSON may be numbers, and are matched by how they print."""
    forbid: dict[Any, list[Any]] = {}
    for text in texts:
        decision, found, option = text.partition("=")
        if not found:
            raise ValueError(f"--forbid must be decision=option, got {text!r}")
        names = {str(d): d for d in problem.space.decisions}
        label = names.get(decision.strip(), decision.strip())
        options = {str(o): o for o in problem.space.option_labels(label)}
        forbid.setdefault(label, []).append(options.get(option.strip(), option.strip()))
    return forbid or None


def _check_file(path: Path | None, option: str = "--out") -> None:
    """Raise where a path cannot become a file, before a search is spent on it."""
    if path is not None and path.is_dir():
        raise ValueError(f"{option} must be a file, got the folder {path}")
    if path is not None and not path.parent.is_dir():
        raise ValueError(f"{option} must be a file in a folder that exists, got {path}")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"--out must be a folder, and a file is in its place: {path}") from None


def _load_pyplot() -> Any:
    """matplotlib.pyplot, which then draws into files and needs no screen."""
    pyplot = load_pyplot()
    pyplot.switch_backend("Agg")
    return pyplot


# -- counting ---------------------------------------------------------------------------------------------------------


def _satisfied(
    space: cggd.ChoiceSpace, constraints: list[Constraint], samples: int, seed: int
) -> tuple[list[float], float, str]:
    """Share of selections that satisfy each constraint, the share that satisfies all, and which selections these are.

    They are drawn a chunk at a time, so that memory does not grow with them.
    """
    rows = max(1, CHUNK // space.n_decisions)
    everything = space.n_selections <= min(samples, rows)
    n = space.n_selections if everything else samples
    rng = np.random.default_rng(seed)
    each, together = np.zeros(len(constraints)), 0
    for done in range(0, n, rows):
        selections = space.enumerate() if everything else space.sample(min(rows, n - done), rng)
        held = np.array([c.satisfied(values_of(c.metric, selections)) for c in constraints])
        each += held.sum(axis=1)
        together += int(held.all(axis=0).sum())
    return (each / n).tolist(), together / n, f"all {n} selections" if everything else f"{n} selections drawn at random"


# -- output -----------------------------------------------------------------------------------------------------------


def _words(p: SearchProgress) -> str:
    best = "nothing feasible yet" if p.best is None else f"best {p.best:.6g}"
    if p.phase == "polish":
        return f"polish, {best}" + ("" if p.bound is None else f", bound {p.bound:.6g}")
    return f"start {p.start + 1}/{p.starts}, {best}"


def _done(p: SearchProgress) -> int:
    """Steps made or left out."""
    return p.start * p.steps + p.step


@contextmanager
def _reporting(problem: Problem, steps: int, *, quiet: bool) -> Iterator[Callable[[int, str], None]]:
    """A function that shows steps done, of all, and words: in a bar on a terminal, now and then by a line elsewhere."""
    if quiet:
        yield lambda done, words: None
    elif err.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        with Progress(*columns, TimeElapsedColumn(), console=err, transient=True) as bar:
            task = bar.add_task(problem.objective.name, total=steps)
            yield lambda done, words: bar.update(task, completed=done, description=words)
    else:
        began = last = time.perf_counter()

        def line(done: int, words: str) -> None:
            nonlocal last
            now = time.perf_counter()
            if now - last > PLAIN_SECONDS:
                last = now
                err.print(f"{now - began:.0f} s: {words}, step {done}/{steps}", markup=False, highlight=False)

        yield line


def _deliver(result: Result, save: Path | None, *, as_json: bool) -> None:
    if as_json:
        print(result.to_json(history=False))
    else:
        out.print(result.summary(), markup=False, highlight=False)
    if save is not None:
        write_text(save, result.to_json())
    raise typer.Exit(FEASIBLE if result.feasible else NOT_FEASIBLE)


# -- the program ------------------------------------------------------------------------------------------------------


def _add_adapters() -> None:
    """Add the commands of installed adapters; one that does not load is named and left out."""
    for point in entry_points(group="cggd.commands"):
        try:
            app.add_typer(point.load(), name=point.name)
        except Exception as error:
            err.print(f"command {point.name!r} is not available: {error}", style="yellow", markup=False)


def main(arguments: list[str] | None = None) -> None:
    """Run the program and leave with its exit status."""
    _add_adapters()
    command = typer.main.get_command(app)
    try:
        status = command.main(arguments, prog_name="cggd", standalone_mode=False)
    except (ValueError, TypeError, OSError, ImportError) as error:
        err.print(f"error: {error}", style="red", markup=False, highlight=False)
        status = WRONG_INPUT
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except Exception as error:
        # Errors of the command line itself know how to show themselves.
        if not hasattr(error, "show"):
            raise
        error.show()  # pyright: ignore[reportAttributeAccessIssue]
        status = WRONG_INPUT
    sys.exit(status if isinstance(status, int) else FEASIBLE)


if __name__ == "__main__":
    main()
