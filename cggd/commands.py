"""The commands ``cggd solve``, ``sweep``, ``measure``, ``check``, ``demo``, ``plot``, and those of adapters."""

from __future__ import annotations

import json as jsons
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

import cggd
from cggd import demo as demonstration
from cggd.arguments import (
    Forbid,
    Maximize,
    Minimize,
    OptionTable,
    SearchOptions,
    Seed,
    Wishes,
    forbidden,
    further_objectives,
    initial_selection,
    listed,
    named_metric,
    note,
    number_option,
    read_input,
    read_question,
    read_result,
    share_option,
    with_groups,
)
from cggd.budget import Budget
from cggd.constraints import Constraint
from cggd.entries import label_to_json
from cggd.explain import Explanation
from cggd.explain import explain as explain_result
from cggd.feasibility import diagnose, smallest_bound
from cggd.io import write_answers
from cggd.io.text import write_text
from cggd.measure import measure
from cggd.metrics import values_of
from cggd.metrics.base import CHUNK
from cggd.outputs import check_outputs, check_writable, writing
from cggd.plotting import plot_answer, plot_budgets, plot_search
from cggd.plotting.pictures import check_picture, draw_into, load_plain_pyplot, save_picture
from cggd.printable import in_columns, on_one_line
from cggd.problem import Problem
from cggd.program.presolve import least_of
from cggd.result import Result, Status
from cggd.rounding import number_text
from cggd.solve import Progress as SearchProgress
from cggd.solve import SearchError, solve, solve_in_order
from cggd.sweep import Front, SweepError, SweepProgress, sweep
from cggd.terminal import FEASIBLE, INTERRUPTED, NOT_FEASIBLE, WRONG_INPUT, complain, err, say, say_json

# Interval between the progress lines of a search without a terminal.
PLAIN_SECONDS = 5.0

# Largest number of bounds of a sweep, which searches under each of them; more are taken for a mistake.
MOST_BOUNDS = 10_000

# Seconds for an explanation if no time limit is given.
EXPLAIN_SECONDS = 60.0

app: typer.Typer = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(*, wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def options_of_all(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=lambda value: _version(wanted=value), help="print the version"
        ),
    ] = False,
) -> None:
    """Choose one option for each decision so that an objective is as good as possible within given bounds.

    Ctrl-C ends a search; the best result so far is printed and written. Exit status: 0 a feasible selection was found;
    1 the input is wrong or a file cannot be written; 2 no selection satisfies the bounds, or none was found; 130 Ctrl-C
    was pressed before or after a search.
    """


ThenMinimize = Annotated[
    list[str] | None, typer.Option(help="a metric to minimize next, within --slack of the best objective before")
]
Slack = Annotated[float, share_option("share that an objective may lose to the next, such as 1% or 0.01", "--slack")]
Alike = Annotated[
    str | None,
    typer.Option(help='interchangeable decisions, "RB1, RB2" or "*": answers that only swap options are the same'),
]
Explain = Annotated[
    bool, typer.Option("--explain", help="say what other options would lose, what bounds are worth, what conflicts")
]


@app.command("solve")
@with_groups
def solve_command(
    *,
    context: typer.Context,
    options: OptionTable,
    maximize: Maximize = None,
    minimize: Minimize = None,
    then_minimize: ThenMinimize = None,
    then_maximize: Annotated[list[str] | None, typer.Option(help="a metric to maximize next")] = None,
    slack: Slack = 0.0,
    wishes: Wishes,
    search: SearchOptions,
    top: Annotated[int, typer.Option(min=1, help="number of answers, best first")] = 1,
    differ: Annotated[int, typer.Option(min=1, help="decisions in which two answers differ at least")] = 1,
    alike: Alike = None,
    explain: Explain = False,
    initial: Annotated[Path | None, typer.Option(help="start from the selection of this result, JSON")] = None,
    table: Annotated[Path | None, typer.Option("--csv", help="write the selection to this file, as CSV")] = None,
    save: Annotated[Path | None, typer.Option("--out", help="write the result to this file, as JSON")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="save the state of the search in this file, and continue from it if it exists")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print the result as JSON, and nothing else")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="show no progress")] = False,
) -> None:
    """Find the best selection that satisfies every bound.

    Spaces of up to 12 decisions are printed in full. Of larger ones, the decisions are printed whose option is not
    the default: the option that takes the least of every limited sum, or else the first in the file. --csv writes all.
    """
    check_outputs([options], {"--csv": table, "--out": save, "--checkpoint": checkpoint})
    problem, metrics = read_question(options, maximize, minimize, wishes)
    then = further_objectives(metrics, then_minimize or [], then_maximize or [], options, context.obj or [])
    settings = search.settings(problem.space) | {"initial": initial_selection(initial, problem.space)}
    settings |= {"checkpoint": checkpoint, "resume": checkpoint is not None, "slack": slack}
    settings |= {"answers": top, "differ": differ, "alike": listed(alike)}
    explanation = None
    try:
        with _reporting(problem, search.starts * search.steps, quiet=json or quiet) as show:
            settings["callback"] = lambda p: show(_done(p), _words(p))
            result = solve_in_order(problem, then, **settings) if then else solve(problem, **settings)
        if explain:
            explanation = explain_result(result, seed=search.seed, time_limit=search.seconds or EXPLAIN_SECONDS)
    except SearchError as error:
        complain(f"error: {error}")
        result = error.result
    if result.status is Status.INFEASIBLE and not (explain or json or quiet):
        note("--explain shows which constraints conflict, and what would work")
    files = {table: lambda path: write_answers(result, path, metrics=metrics, decimal=wishes.decimal)}
    files |= {save: lambda path: write_text(path, _document(result, explanation, history=True))}
    _deliver(result, files, _document(result, explanation) if json else None, explanation)


@app.command("sweep")
@with_groups
def sweep_command(
    *,
    options: OptionTable,
    metric: Annotated[str, typer.Option(help="name of the metric whose bound is varied")],
    bounds: Annotated[
        str,
        typer.Option(
            help="bounds on the metric: a list, 3,4,5; or least:greatest:number, 3:8:6; or only a whole number of "
            "bounds, spread between the smallest that works and the one that the best selection without a bound needs "
            '(write "10," for the single bound 10)'
        ),
    ],
    at_least: Annotated[
        bool, typer.Option("--at-least", help="use lower bounds (metric >= bound) instead of upper bounds")
    ] = False,
    maximize: Maximize = None,
    minimize: Minimize = None,
    wishes: Wishes,
    search: SearchOptions,
    table: Annotated[
        Path | None,
        typer.Option(
            "--csv", help="write the curve and the selections to this file, as CSV: a row per bound, decision"
        ),
    ] = None,
    picture: Annotated[Path | None, typer.Option("--plot", help="draw the curve into this file")] = None,
    save: Annotated[Path | None, typer.Option("--out", help="write the results to this file, as JSON")] = None,
    json: Annotated[bool, typer.Option("--json", help="print the results as JSON, and nothing else")] = False,
) -> None:
    """Find the best objective for each of several bounds on a metric.

    If a problem in JSON already has such a bound on the metric, it is replaced. Exit status: 0 if a feasible selection
    was found for every bound, 1 if the input is wrong, 2 if some bound has none or was not searched.
    """
    check_outputs([options], {"--csv": table, "--plot": picture, "--out": save})
    if picture is not None:
        check_picture(picture, "--plot")
    problem, metrics = read_question(options, maximize, minimize, wishes.without_constraints)
    swept, wanted = named_metric(metrics, metric, f"--metric: {options}"), _wanted(bounds)
    sense = ">=" if at_least else "<="
    kept = [c for c in problem.constraints if c.metric is not swept or c.sense != sense]
    kept += wishes.on(problem.space, metrics)
    settings = search.settings(problem.space)
    settings |= {"sense": problem.sense, "metric_sense": sense}
    most, each = wanted + 1 if isinstance(wanted, int) else len(wanted), search.starts * search.steps
    try:
        with _reporting(problem, most * each, quiet=json) as show:

            def callback(p: SweepProgress) -> None:
                done = p.run * each + _done(p.search)
                show(done, f"search {p.run + 1}/{p.runs}, {_words(p.search)}")

            front = sweep(problem.objective, kept, swept, wanted, callback=callback, **settings)
    except SweepError as error:
        complain(f"error: {error}")
        front = error.front
    files = {
        table: lambda path: front.to_csv(path, selections=True, decimal=wishes.decimal),
        picture: lambda path: draw_into(path, front.plot),
    }
    files |= {save: lambda path: write_text(path, front.to_json())}
    _deliver(front, files, front.to_json() if json else None)


app.command()(measure)


@app.command()
@with_groups
def check(
    *,
    options: OptionTable,
    wishes: Wishes,
    forbid: Forbid = None,
    seconds: Annotated[float, number_option("seconds for each call of the solver", "--time")] = 10.0,
    samples: Annotated[int, typer.Option(min=1, help="draw this many selections where there are more")] = 10_000,
    seed: Seed = 0,
) -> None:
    """Check bounds: how many selections satisfy each, whether all can hold together, and how tight each could be."""
    if not seconds > 0:
        raise ValueError(f"--time must be more than 0 seconds, got {seconds:g}")
    _, _, constraints = read_input(options, wishes)
    if not constraints:
        raise ValueError("nothing to check: give at least one --limit or --rule")
    space = constraints[0].metric.space
    settings: dict[str, Any] = {"seed": seed, "time_limit": seconds, "forbid": forbidden(space, forbid or [])}
    allowed = space.allowed(settings["forbid"])
    shares, together, of = _satisfied(space, constraints, samples, seed, allowed)
    rows = [["bound", "least", "greatest", "satisfied by", "verdict"]]
    for c, share in zip(constraints, shares, strict=True):
        low, high = c.metric.limits()
        if allowed is not None:
            low, high = least_of(c.metric, 1.0, allowed), -least_of(c.metric, -1.0, allowed)
        worst, easiest = (high, low) if c.sign > 0 else (low, high)
        verdict = "always holds" if c.satisfied(worst) else "feasible" if c.satisfied(easiest) else "infeasible"
        rows.append([on_one_line(repr(c)[11:-1]), number_text(low), number_text(high), f"{share:.1%}", verdict])
    say("\n".join([str(space), *in_columns(rows), f"all together: {together:.2%} of {of}"]))
    diagnosis = diagnose(constraints, **settings)
    say(diagnosis)
    if not diagnosis.feasibility.feasible:
        raise typer.Exit(NOT_FEASIBLE)
    say("how tight each bound could be while the others stay as they are")
    for c in constraints:
        if c.words:
            continue  # a rule has no bound that could be tightened
        others = [other for other in constraints if other is not c]
        say(f"  {smallest_bound(c.metric, others, sense=c.sense, **settings)}")


@app.command()
def demo(save: Annotated[Path, typer.Option("--out", help="folder for the picture")] = Path("out")) -> None:
    """Search for neural networks on data that comes with the package, compare with the best ones, draw a picture."""
    _make_folder(save)
    check_writable(save / "demo.png", "--out")
    watch = Budget()
    say(demonstration.INTRODUCTION)
    done = demonstration.run()
    say(demonstration.report(done))
    path = save / "demo.png"
    try:
        demonstration.picture(done, path)
        say(f"picture    {path}")
    except ImportError as error:
        say(f"no picture: {error}")
    say(f"{len(done) * len(done[0].runs)} searches and a picture in {watch.seconds:.1f} s")
    raise typer.Exit(FEASIBLE if all(s.satisfied == len(s.runs) for s in done) else NOT_FEASIBLE)


@app.command()
def plot(
    result: Annotated[Path, typer.Argument(help="result as JSON, written by cggd solve --out")],
    save: Annotated[
        Path | None, typer.Option("--out", help="picture to write; if left out, a PNG file beside the result")
    ] = None,
) -> None:
    """Draw how much of each bound the selection uses, and the course of the search or, without steps, the selection."""
    path = save or Path(str(result).removesuffix(".gz")).with_suffix(".png")
    check_outputs([result], {"--out": path})
    check_picture(path, "--out")
    found = read_result(result)
    figure, (left, right) = load_plain_pyplot().subplots(1, 2, figsize=(13, 5), layout="constrained")
    (plot_search if len(found.history) else plot_answer)(found, ax=left)
    plot_budgets(found, ax=right)
    save_picture(figure, path)
    say(path)


@app.command()
def version() -> None:
    """Print the version."""
    say(f"cggd {cggd.__version__}")


# -- input ------------------------------------------------------------------------------------------------------------


def _wanted(text: str) -> list[float] | int:
    """The bounds that --bounds asks for, or how many."""
    parts = text.split(":")
    try:
        if "_" in text or not text.isascii() or (text.strip().isdecimal() and int(text) > MOST_BOUNDS):
            raise ValueError
        if len(parts) == 3:
            n = int(parts[2])
            if not 1 <= n <= MOST_BOUNDS:
                raise ValueError
            return np.linspace(float(parts[0]), float(parts[1]), n).tolist()
        return int(text) if text.strip().isdecimal() else [float(word) for word in text.removesuffix(",").split(",")]
    except ValueError:
        raise ValueError(
            f"--bounds must be 3,4,5 or 3:8:6 or how many to spread, got {text!r}; a sweep has at most {MOST_BOUNDS}"
        ) from None


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"--out must be a folder, and a file is in its place: {path}") from None
    except OSError as error:
        raise ValueError(f"--out: the folder {path} cannot be made: {error.strerror or error}") from None


# -- counting ---------------------------------------------------------------------------------------------------------


def _satisfied(
    space: cggd.ChoiceSpace,
    constraints: list[Constraint],
    samples: int,
    seed: int,
    allowed: NDArray[np.bool_] | None = None,
) -> tuple[list[float], float, str]:
    """Share of selections that satisfy each constraint, the share that satisfies all, and which selections these are.

    They are drawn a chunk at a time, so that memory does not grow with them.
    """
    rows = max(1, CHUNK // space.n_decisions)
    kept = [] if allowed is None else [np.flatnonzero(some) for some in np.split(allowed, space.offsets[1:-1])]
    inner = cggd.ChoiceSpace.from_sizes([len(options) for options in kept]) if kept else space
    everything = inner.n_selections <= min(samples, rows)
    n = inner.n_selections if everything else samples
    rng = np.random.default_rng(seed)
    each, together = np.zeros(len(constraints)), 0
    for done in range(0, n, rows):
        selections = inner.enumerate() if everything else inner.sample(min(rows, n - done), rng)
        if kept:
            selections = np.stack([options[at] for options, at in zip(kept, selections.T, strict=True)], axis=1)
        held = np.array([c.satisfied(values_of(c.metric, selections)) for c in constraints])
        each += held.sum(axis=1)
        together += int(held.all(axis=0).sum())
    return (each / n).tolist(), together / n, f"all {n} selections" if everything else f"{n} selections drawn at random"


# -- output -----------------------------------------------------------------------------------------------------------


def _deliver(
    answer: Result | Front,
    files: Mapping[Path | None, Callable[[Path], Any]],
    document: str | None,
    explanation: Explanation | None = None,
) -> None:
    """Write the files, print the document or else the summary, and leave with the exit status of the answer."""
    with writing(files):
        if document is None:
            say(answer.summary())
            if explanation is not None:
                say(explanation)
        else:
            say_json(document)
    raise typer.Exit(FEASIBLE if answer.feasible else NOT_FEASIBLE)


def _document(result: Result, explanation: Explanation | None, *, history: bool = False) -> str:
    """A result as JSON, with its explanation if there is one."""
    text = result.to_json(history=history)
    if explanation is None:
        return text
    more = jsons.dumps(explanation.to_dict(), default=label_to_json)
    return f'{text[:-1]}, "explanation": {more}}}'


def _words(p: SearchProgress) -> str:
    best = "nothing feasible yet" if p.best is None else f"best {number_text(p.best)}"
    if p.phase == "polish":
        return f"polish, {best}" + ("" if p.bound is None else f", bound {number_text(p.bound)}")
    return f"start {p.start + 1}/{p.starts}, {best}"


def _done(p: SearchProgress) -> int:
    """Number of steps that were made or skipped."""
    return p.start * p.steps + p.step


@contextmanager
def _reporting(problem: Problem, steps: int, *, quiet: bool) -> Iterator[Callable[[int, str], None]]:
    """A function that shows the steps done and a text: a bar on a terminal, elsewhere a line from time to time."""
    if quiet:
        yield lambda done, words: None
    elif err.is_terminal:
        # Other commands start sooner without it.
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        with Progress(*columns, TimeElapsedColumn(), console=err, transient=True) as bar:
            task = bar.add_task(on_one_line(problem.objective.name), total=steps)
            yield lambda done, words: bar.update(task, completed=done, description=words)
    else:
        watch, last = Budget(), 0.0

        def line(done: int, words: str) -> None:
            nonlocal last
            now = watch.seconds
            if now - last > PLAIN_SECONDS:
                last = now
                complain(f"{now:.0f} s: {words}, step {done}/{steps}", style="")

        yield line


CORE_COMMANDS = [c.name or c.callback.__name__ for c in app.registered_commands if c.callback is not None]


# -- the program ------------------------------------------------------------------------------------------------------


def _add_adapters(arguments: list[str]) -> None:
    """Add the commands of installed adapters; one that does not load is named and left out.

    Adapters take time to import. A call of one of the core's commands does without them.
    """
    if arguments and arguments[0] in CORE_COMMANDS:
        return
    for point in entry_points(group="cggd.commands"):
        try:
            app.add_typer(point.load(), name=point.name)
        except Exception as error:
            complain(f"command {point.name!r} is not available: {error}", style="yellow")


def run(arguments: list[str]) -> int:
    """Run the program and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # for characters that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *place, **more: complain(f"warning: {message}", style="yellow")
        status = _run(arguments)
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError as error:
            status = _close_output()
            if not isinstance(error, BrokenPipeError):
                complain(f"error: standard output cannot be written: {error.strerror or error}")
    return status


def _run(arguments: list[str]) -> int:
    """Run the program, print errors, and return the exit status."""
    _add_adapters(arguments)
    command = typer.main.get_command(app)
    try:
        given = sys.argv[1:] if arguments is None else arguments
        status = command.main(arguments, prog_name="cggd", standalone_mode=False, obj=given)
        if status == INTERRUPTED:  # the parser has caught the KeyboardInterrupt
            raise KeyboardInterrupt
        return status if isinstance(status, int) else FEASIBLE
    except BrokenPipeError:
        return _close_output()
    except (KeyboardInterrupt, typer.Abort):
        complain("interrupted before there was a result")
        return INTERRUPTED
    except (ValueError, TypeError, OSError, ImportError) as error:
        complain(f"error: {error}")
    except MemoryError:
        complain("error: there is not enough memory; give fewer decisions or options, or use a larger machine")
    except RecursionError:
        complain("error: labels are nested too deeply")
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help
            error.show()  # pyright: ignore[reportAttributeAccessIssue]
        elif message := getattr(error, "format_message", None):  # a usage error
            context = getattr(error, "ctx", None)
            place = f"; see {context.command_path} --help" if context is not None else ""
            complain(f"error: {message().rstrip('.')}{place}")
        else:
            complain("".join(traceback.format_exception(error)).rstrip(), style="")
            complain("error: this is a fault of cggd; please report it with the lines above")
    return WRONG_INPUT


def _close_output() -> int:
    """Discard the rest of standard output, whose reader has closed it."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return WRONG_INPUT
