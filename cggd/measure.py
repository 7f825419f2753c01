"""``cggd measure``: find the best selection by running a program for each selection that is measured."""

from __future__ import annotations

import json as json_format
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cggd.constraints import Constraint
from cggd.improve.model import Model
from cggd.io import parse_bound, read_options, read_t4, write_selection, write_t4
from cggd.io.text import write_text
from cggd.metrics import Additive, Invalid, Measurement, Metric
from cggd.outputs import check_outputs, writing
from cggd.plotting import plot_measurements
from cggd.plotting.pictures import check_picture, load_plain_pyplot, save_picture
from cggd.printable import on_one_line
from cggd.problem import Problem
from cggd.rounding import number_text
from cggd.solve import Progress, SearchError, solve
from cggd.space import ChoiceSpace
from cggd.terminal import FEASIBLE, NOT_FEASIBLE, complain, say, say_json

_NAME = re.compile(r"(.*?)\s*(?:<=|>=|≤|≥)")
_LINE = re.compile(r"\s*([^=]+?)\s*=\s*(\S+)\s*")


def measure(
    options: Annotated[Path, typer.Argument(help="CSV table with the columns decision and option, and cheap metrics")],
    command: Annotated[
        str,
        typer.Option(
            help='the program, such as "./run.sh {kernel} {width}", run without a shell; it prints lines name=value '
            "or JSON; an exit status other than 0 means that the selection is invalid"
        ),
    ],
    maximize: Annotated[str | None, typer.Option(help="name of the number to maximize")] = None,
    minimize: Annotated[str | None, typer.Option(help="name of the number to minimize")] = None,
    limit: Annotated[list[str] | None, typer.Option("--limit", help='a bound, such as "memory<=64"')] = None,
    evaluations: Annotated[int, typer.Option(min=1, help="largest number of runs of the program")] = 100,
    log: Annotated[Path | None, typer.Option(help="append each run to this file, and read it first")] = None,
    timeout: Annotated[float | None, typer.Option(help="seconds after which a run is stopped, and invalid")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="runs per selection, if the numbers are noisy")] = 1,
    parallel: Annotated[int, typer.Option(min=1, help="number of programs that run at the same time")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="seed of the random numbers")] = 0,
    known: Annotated[Path | None, typer.Option(help="results of a kernel tuner (T4 format) that count as runs")] = None,
    t4: Annotated[Path | None, typer.Option("--t4", help="write all runs to this file, in the T4 format")] = None,
    picture: Annotated[Path | None, typer.Option("--plot", help="draw the best number against the runs")] = None,
    table: Annotated[Path | None, typer.Option("--csv", help="write the selection to this file, as CSV")] = None,
    save: Annotated[Path | None, typer.Option("--out", help="write the result to this file, as JSON")] = None,
    json: Annotated[bool, typer.Option("--json", help="print the result as JSON, and nothing else")] = False,
) -> None:
    """Find the best selection by running a program for each one that is measured, as few times as possible."""
    check_outputs([options, known], {"--csv": table, "--out": save, "--t4": t4, "--plot": picture})
    if picture is not None:
        check_picture(picture, "--plot")
    if (maximize is None) == (minimize is None):
        raise ValueError("give either --maximize NAME or --minimize NAME")
    space, cheap = numbered(*read_options(options))
    name = maximize or minimize or ""
    names = [name, *(match[1].strip() for text in limit or [] if (match := _NAME.match(text)))]
    measured = [one for one in dict.fromkeys(names) if one not in cheap]
    if not measured:
        raise ValueError(f"{options} has all metrics; there is nothing to measure, use cggd solve")
    run = Program(command, space, timeout)
    bench = Measurement(space, run, measured, log=log, repeats=repeats)
    if known is not None:
        _record(bench, known)
    metrics: Mapping[str, Metric] = {**cheap, **bench.metrics}
    bounds: list[Constraint] = [parse_bound(text, metrics) for text in limit or []]
    problem = Problem(metrics[name], bounds, "minimize" if maximize is None else "maximize")
    settings: dict[str, Any] = {"seed": seed, "max_evaluations": evaluations, "callback": _progress(bench, quiet=json)}
    try:
        if parallel > 1:
            with ThreadPoolExecutor(parallel) as pool:
                result = solve(problem, executor=pool, improvers=[Model(batch=parallel)], **settings)
        else:
            result = solve(problem, **settings)
    except SearchError as error:
        complain(f"error: {error}")
        result = error.result

    def draw(path: Path) -> None:
        figure, ax = load_plain_pyplot().subplots(figsize=(6.4, 4.2), layout="constrained")
        plot_measurements(problem, ax=ax)
        save_picture(figure, path)

    files: dict[Path | None, Callable[[Path], Any]] = {table: lambda path: write_selection(result.selection, path)}
    files |= {save: lambda path: write_text(path, result.to_json())}
    files |= {t4: lambda path: write_t4(bench, path), picture: draw}
    with writing(files):
        say_json(result.to_json(history=False)) if json else say(result.summary())
    if run.failed:
        complain(
            f"note: {run.failed} runs failed, and their selections are invalid; the last: {run.said}", style="yellow"
        )
    raise typer.Exit(FEASIBLE if result.feasible else NOT_FEASIBLE)


def numbered(space: ChoiceSpace, metrics: Mapping[str, Additive]) -> tuple[ChoiceSpace, dict[str, Additive]]:
    """A space whose labels are numbers where all options of a decision read like numbers, and its metrics.

    Numbers are ordered, which the model uses.

    Examples
    --------
    >>> space, _ = numbered(ChoiceSpace({"width": ["8", "16"], "kind": ["1", "01"]}), {})
    >>> space.labels([1, 1])
    {'width': 16, 'kind': '01'}
    """
    options = {d: [_label(str(o)) for o in space.option_labels(d)] for d in space.decisions}
    texts = {d: list(space.option_labels(d)) for d in space.decisions}
    chosen = {d: o if not any(isinstance(x, str) for x in o) else texts[d] for d, o in options.items()}
    new = ChoiceSpace(chosen)
    return new, {n: Additive(new, m.values, m.constant, name=m.name, unit=m.unit) for n, m in metrics.items()}


def _label(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            if str(kind(text)) == text and np.isfinite(kind(text)):
                return kind(text)
        except ValueError:
            continue
    return text


class Program:
    """A program run for each selection, which prints numbers.

    Parameters
    ----------
    command : str
        Words in which ``{decision}`` stands for the chosen option.
    space : ChoiceSpace
    timeout : float, optional
        Seconds after which the program is stopped.
    """

    def __init__(self, command: str, space: ChoiceSpace, timeout: float | None = None) -> None:
        try:
            self.words = shlex.split(command)
        except ValueError as error:
            raise ValueError(f"--command {command!r} cannot be split into words: {error}") from None
        if not self.words:
            raise ValueError("--command is empty; give a program, such as ./run.sh {width}")
        if unused := [d for d in space.decisions if not any(f"{{{d}}}" in word for word in self.words)]:
            strange = [n for n in re.findall(r"\{([^{}]*)\}", command) if n not in map(str, space.decisions)]
            instead = f", not {{{strange[0]}}}" if strange else ""
            raise ValueError(
                f"--command does not use decision {unused[0]!r}; write {{{unused[0]}}} where it belongs{instead}"
            )
        if timeout is not None and not timeout > 0:
            raise ValueError(f"--timeout must be more than 0 seconds, got {timeout:g}")
        if shutil.which(self.words[0]) is None and not re.search(r"[{}]", self.words[0]):
            raise ValueError(f"--command: {self.words[0]!r} is not a program that can be run")
        self.timeout = timeout
        # Number of runs that failed, and what the last of them said.
        self.failed, self.said = 0, ""

    def __call__(self, selection: Mapping[Hashable, Hashable]) -> dict[str, float]:
        """Run the program; raises `Invalid` if it ends with another status than 0, or takes too long."""
        texts = {f"{{{decision}}}": str(option) for decision, option in selection.items()}
        pattern = re.compile("|".join(map(re.escape, texts)))
        words = [pattern.sub(lambda match: texts[match[0]], word) for word in self.words]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=self.timeout, check=False)
        except subprocess.TimeoutExpired:
            raise self._invalid(f"no answer within {self.timeout:g} s") from None
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise self._invalid(f"exit status {done.returncode}" + (f": {said[-1][:200]}" if said else ""))
        return numbers_of(done.stdout)

    def _invalid(self, said: str) -> Invalid:
        self.failed, self.said = self.failed + 1, said
        return Invalid(said)


def numbers_of(text: str) -> dict[str, float]:
    r"""The numbers that a program printed: as one JSON object, or as lines ``name=value``; other lines are ignored.

    Examples
    --------
    >>> numbers_of("compiling\ntime=2.5\nmemory = 64\n"), numbers_of('{"time": 2.5, "kernel": "a"}')
    ({'time': 2.5, 'memory': 64.0}, {'time': 2.5})
    """
    try:
        data = json_format.loads(text)
    except ValueError:
        data = None
    if isinstance(data, dict):
        return {n: float(v) for n, v in data.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    found = {}
    for line in text.splitlines():
        if match := _LINE.fullmatch(line):
            try:
                found[match[1]] = float(match[2])
            except ValueError:
                continue
    return found


def _record(bench: Measurement, path: Path) -> None:
    """Remember the results of a kernel tuner."""
    _, units, results = read_t4(path)
    if missing := [name for name in bench.units if name not in units]:
        raise ValueError(f"{path} has no measurement {missing[0]!r}; it has {', '.join(units)}")
    for configuration, values in results:
        try:
            row = bench.space.indices(configuration)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        bench.record(row, values)


def _progress(bench: Measurement, *, quiet: bool) -> Callable[[Progress], None]:
    """Print a line for each run that improves on the best, and for each tenth."""
    last: list[Any] = [None, -1]

    def show(progress: Progress) -> None:
        n = progress.evaluations
        if quiet or n == last[1] or (progress.best == last[0] and n % 10):
            return
        last[:] = progress.best, n
        best = "nothing feasible yet" if progress.best is None else f"best {number_text(progress.best)}"
        at = "" if progress.incumbent is None else f"  {bench.space.labels(progress.incumbent)}"
        complain(on_one_line(f"{n:5d}  {best}{at}"), style="")

    return show
