"""``cggd measure``: find the best selection by running a program for each selection that is measured."""

from __future__ import annotations

import json as json_format
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Annotated, Any
from unicodedata import normalize

import numpy as np
import typer

from cggd.arguments import Forbid, Seed, Wishes, forbidden, note, with_groups
from cggd.checks import short
from cggd.io import read_t4, write_answers, write_t4
from cggd.io.bounds import known_name, named_in
from cggd.io.text import write_text
from cggd.metrics import Additive, Invalid, Measurement, Metric
from cggd.outputs import check_outputs, writing
from cggd.plotting import plot_measurements
from cggd.plotting.pictures import check_picture, draw_into
from cggd.printable import on_one_line
from cggd.problem import Problem
from cggd.rounding import number_text
from cggd.solve import Progress, SearchError, solve
from cggd.space import ChoiceSpace
from cggd.terminal import FEASIBLE, NOT_FEASIBLE, complain, say, say_json

_LINE = re.compile(r"\s*([^=]+?)\s*=\s*(\S+)\s*")

# Largest numbers of characters of a program's output that messages show, and that are read.
SHOWN, READ = 200, 10_000_000


@with_groups
def measure(
    *,
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
    wishes: Wishes,
    forbid: Forbid = None,
    evaluations: Annotated[int, typer.Option(min=1, help="largest number of runs of the program")] = 100,
    log: Annotated[Path | None, typer.Option(help="append each run to this file, and read it first")] = None,
    timeout: Annotated[float | None, typer.Option(help="seconds after which a run is stopped, and invalid")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="runs per selection, if the numbers are noisy")] = 1,
    parallel: Annotated[int, typer.Option(min=1, help="number of programs that run at the same time")] = 1,
    seed: Seed = 0,
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
    space, cheap = numbered(*wishes.table(options))
    name = normalize("NFC", maximize or minimize or "")
    names = [name, *(found for text in wishes.bounds for found in named_in(text))]
    measured = [one for one in dict.fromkeys(names) if known_name(one, cheap) not in cheap]
    if not measured:
        raise ValueError(f"{options} has all metrics; there is nothing to measure, use cggd solve")
    run = Program(command, space, timeout, measured)
    bench = Measurement(space, run, measured, log=log, repeats=repeats)
    if known is not None:
        _record(bench, known)
    metrics: Mapping[str, Metric] = {**cheap, **bench.metrics}
    sense: Any = "minimize" if maximize is None else "maximize"
    problem = Problem(metrics[known_name(name, metrics)], wishes.on(space, metrics), sense)
    settings: dict[str, Any] = {"seed": seed, "max_evaluations": evaluations, "callback": _progress(bench, quiet=json)}
    settings["forbid"] = forbidden(space, forbid or [])
    try:
        if parallel > 1:
            with ThreadPoolExecutor(parallel) as pool, run:
                result = solve(problem, executor=pool, **settings)
        else:
            result = solve(problem, **settings)
    except SearchError as error:
        complain(f"error: {error}")
        result = error.result

    files: dict[Path | None, Callable[[Path], Any]] = {
        table: lambda path: write_answers(result, path, metrics=metrics, decimal=wishes.decimal)
    }
    files |= {save: lambda path: write_text(path, result.to_json())}
    files |= {t4: lambda path: write_t4(bench, path)}
    files |= {picture: lambda path: draw_into(path, partial(plot_measurements, problem))}
    with writing(files):
        say_json(result.to_json(history=False)) if json else say(result.summary())
    if run.failed:
        note(f"{run.failed} runs failed, and their selections are invalid; the last: {run.said}")
    raise typer.Exit(FEASIBLE if result.feasible else NOT_FEASIBLE)


def numbered(space: ChoiceSpace, metrics: Mapping[str, Additive]) -> tuple[ChoiceSpace, dict[str, Additive]]:
    """A space with numeric labels for each decision whose options are all written as numbers, and its metrics.

    The model uses the order of numeric labels.

    Examples
    --------
    >>> space, _ = numbered(ChoiceSpace({"width": ["8", "16"], "kind": ["1", "01"]}), {})
    >>> space.labels([1, 1])
    {'width': 16, 'kind': '01'}
    """
    options = {d: [_label(str(o)) for o in space.option_labels(d)] for d in space.decisions}
    texts = {d: list(space.option_labels(d)) for d in space.decisions}
    chosen = {d: o if not any(isinstance(x, str) for x in o) else texts[d] for d, o in options.items()}
    new = ChoiceSpace(chosen, attributes=space.attributes)
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
        Seconds after which the program and its child processes are stopped.
    names : sequence of str
        Numbers that it must print.
    """

    def __init__(
        self, command: str, space: ChoiceSpace, timeout: float | None = None, names: Sequence[str] = ()
    ) -> None:
        # Decisions are replaced by marks before the command is split, as their names may contain blanks and quotes.
        self.decisions: Sequence[Hashable] = space.decisions
        self.names: Sequence[str] = names
        self.timeout: float | None = timeout
        texts = {f"{{{decision}}}": f"\0{i}\0" for i, decision in enumerate(space.decisions)}
        pattern = re.compile("|".join(map(re.escape, texts)))
        try:
            self.words: list[str] = shlex.split(pattern.sub(lambda match: texts[match[0]], normalize("NFC", command)))
        except ValueError as error:
            raise ValueError(f"--command {command!r} cannot be split into words: {error}") from None
        if not self.words:
            raise ValueError("--command is empty; give a program, such as ./run.sh {width}")
        if unused := [d for d, mark in zip(space.decisions, texts.values(), strict=True) if mark not in self._joined]:
            strange = re.findall(r"\{([^{}]*)\}", self._joined)
            instead = f", not {{{strange[0]}}}" if strange else ""
            raise ValueError(
                f"--command does not use decision {unused[0]!r}; write {{{unused[0]}}} where it belongs{instead}"
            )
        if timeout is not None and not timeout > 0:
            raise ValueError(f"--timeout must be more than 0 seconds, got {timeout:g}")
        if shutil.which(self.words[0]) is None and "\0" not in self.words[0]:
            raise ValueError(f"--command: {self.words[0]!r} is not a program that can be run")
        # Number of runs that failed, and the message of the last one.
        self.failed: int = 0
        self.said: str = ""
        self._running: set[subprocess.Popen] | None = set()

    @property
    def _joined(self) -> str:
        return " ".join(self.words)

    def __call__(self, selection: Mapping[Hashable, Hashable]) -> dict[str, float]:
        """Run the program; raises `Invalid` if its exit status is not 0 or it takes too long."""
        texts = [str(selection[decision]) for decision in self.decisions]
        words = [re.sub("\0(\\d+)\0", lambda match: texts[int(match[1])], word) for word in self.words]
        # Files instead of pipes: a pipe stays open until all child processes of the program have ended.
        with TemporaryFile() as out, TemporaryFile() as err:
            status = self._status(words, out, err)
            printed, errors = _text_of(out), _text_of(err)
        if status is None:
            raise self._invalid(f"no answer within {self.timeout:g} s")
        if status != 0:
            said = (errors or printed).strip().splitlines()
            how = f"exit status {status}" if status > 0 else f"ended by signal {-status}"
            raise self._invalid(how + (f": {said[-1][:SHOWN]}" if said else ""))
        numbers = numbers_of(printed)
        if missing := [name for name in self.names if name not in numbers]:
            raise ValueError(
                f"the program printed no number {missing[0]!r}, as {missing[0]}=1.5 or in a JSON object; "
                f"it printed {short(printed)}"
            )
        return numbers

    def _status(self, words: list[str], out: Any, err: Any) -> int | None:
        """The exit status; None after a timeout."""
        if self._running is None:
            raise RuntimeError("the search was stopped")
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
        self._running.add(process)
        try:
            status = process.wait(self.timeout)
        except BaseException as error:
            _end(process)
            if isinstance(error, subprocess.TimeoutExpired):
                return None
            raise
        finally:
            running = self._running
            if running is not None:
                running.discard(process)
        if running is None:
            raise RuntimeError("the search was stopped")  # the selection is not invalid
        return status

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *failure: object) -> None:
        """End the programs that other threads still wait for."""
        running, self._running = self._running, None
        for process in running or ():
            _end(process)

    def _invalid(self, said: str) -> Invalid:
        self.failed, self.said = self.failed + 1, said
        return Invalid(said)


def _end(process: subprocess.Popen) -> None:
    """Kill a program and its process group."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
    process.wait()


def _text_of(file: IO[bytes]) -> str:
    """The text of a file, with replacement characters for bytes that are not UTF-8."""
    file.seek(0)
    return file.read(READ).decode(errors="replace")


def numbers_of(text: str) -> dict[str, float]:
    r"""The numbers that a program printed as JSON objects or lines ``name=value``; the last value of each name counts.

    Other lines are ignored. A JSON object begins on a line of its own.

    Examples
    --------
    >>> numbers_of("compiling\ntime=2.5\nmemory = 64\n"), numbers_of('done\n{"time": 2.5, "kernel": "a"}\n')
    ({'time': 2.5, 'memory': 64.0}, {'time': 2.5})
    """
    text, found, place, decoder = normalize("NFC", text), {}, 0, json_format.JSONDecoder()
    while place < len(text):
        end = len(text) if (at := text.find("\n", place)) < 0 else at + 1
        line = text[place:end]
        if line.lstrip().startswith("{"):
            try:
                data, end = decoder.raw_decode(text, place + len(line) - len(line.lstrip()))
            except (ValueError, RecursionError):
                data = {}
            found |= {n: _float(v) for n, v in data.items() if isinstance(v, int | float) and not isinstance(v, bool)}
        elif match := _LINE.fullmatch(line):
            with suppress(ValueError):
                found[match[1]] = float(match[2])
        place = end
    return found


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number larger than all floats
        return np.inf


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
        while not bench.known(row[None])[0][0]:  # counts as all repeats
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
