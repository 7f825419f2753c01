"""``cggd compress MODEL``: compress a trained network into a file within limits, from the shell."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from cggd.arguments import adapter_command
from cggd.io.text import write_text
from cggd.outputs import check_outputs, writing
from cggd.plotting.pictures import check_picture, save_picture
from cggd.terminal import FEASIBLE, NOT_FEASIBLE, complain, err, say, say_json

app = adapter_command()


@app.callback(invoke_without_command=True, no_args_is_help=True)
def compress_command(
    model: Annotated[Path, typer.Argument(help="a trained model, as ONNX")],
    data: Annotated[Path, typer.Option(help="calibration data: .npz with an array for each input of the model")],
    limits: Annotated[
        list[str] | None,
        typer.Option(
            "--limit",
            help='a limit on the file: "size<=6MB", "size<=25%" of the original, "latency<=8ms"',
        ),
    ] = None,
    minimize: Annotated[str, typer.Option(help="error, size, latency, memory, macs or traffic")] = "error",
    error: Annotated[
        str,
        typer.Option(help="relative, mse, cosine, kl, mismatch, labels, or FILE.py:FUNCTION"),
    ] = "relative",
    options: Annotated[
        list[str] | None,
        typer.Option("--option", help="a format that weights may have, by name, or FILE.py:FUNCTION of a part"),
    ] = None,
    keep: Annotated[list[str] | None, typer.Option(help="pattern of weights that stay as they are")] = None,
    bits: Annotated[list[str] | None, typer.Option(help='bits of the weights of a pattern: "embed*=8"')] = None,
    together: Annotated[list[str] | None, typer.Option(help="pattern of weights that have the same format")] = None,
    sweep: Annotated[str | None, typer.Option(help="cost whose bounds are swept, such as size")] = None,
    bounds: Annotated[int, typer.Option(min=2, help="bounds of a sweep")] = 6,
    batch: Annotated[int, typer.Option(min=1, help="samples in a run, where the model leaves that open")] = 32,
    command: Annotated[
        str | None, typer.Option(help='program that times a file elsewhere: "./on_board.sh {model}" prints latency=7.5')
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="threads of ONNX Runtime")] = 1,
    least: Annotated[int, typer.Option(min=1, help="weights with fewer elements stay as they are")] = 1024,
    quick: Annotated[
        bool, typer.Option("--quick", help="measure one format of each weight, and scale it for the others")
    ] = False,
    measurements: Annotated[int, typer.Option(min=1, help="selections to measure jointly")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="same seed, same choices")] = 0,
    log: Annotated[Path | None, typer.Option(help="folder of measurements, from which a stopped run resumes")] = None,
    out: Annotated[Path | None, typer.Option(help="write the compressed model")] = None,
    manifest: Annotated[Path | None, typer.Option(help="write what was chosen and why as JSON")] = None,
    table: Annotated[Path | None, typer.Option("--csv", help="write options, or points of a sweep, as CSV")] = None,
    picture: Annotated[Path | None, typer.Option(help="draw the weights, or the front of a sweep")] = None,
    why: Annotated[bool, typer.Option("--explain", help="say what other options and other bounds would cost")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the manifest as JSON and nothing else")] = False,
    quiet: Annotated[bool, typer.Option(help="show no progress")] = False,
) -> None:
    """Choose a format for each weight of a model so that the written file satisfies limits.

    Exit status: 0 the file satisfies every limit, 1 wrong input, 2 infeasible or unknown.
    """
    if missing := [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]:
        raise ImportError(f"compress needs {missing[0]}: pip install 'cggd[compress]'")
    from cggd_compress.compression import Compression
    from cggd_compress.costs import as_limits, cost_of

    check_outputs([model, data], {"--out": out, "--manifest": manifest, "--csv": table, "--picture": picture})
    if picture is not None:
        check_picture(picture, "--picture")
    if sweep is not None and out is not None:
        raise ValueError("--sweep writes no model; give --out with the limit that you choose")
    asked = as_limits(limits or [])
    timed = "latency" in {cost_of(minimize, "--minimize").name, sweep, *(limit.name for limit in asked)}
    with _bar(quiet=quiet or as_json) as progress:
        compression = Compression(
            model,
            data,
            error=_function(error, "--error") if ":" in error else error,
            options=None if not options else [_option(text) for text in options],
            keep=keep or (),
            bits=bits or (),
            together=together or (),
            timed=timed,
            command=command,
            batch=batch,
            threads=threads,
            least=least,
            quick=quick,
            log=log,
            progress=progress,
        )
        wanted: dict[str, Any] = {"minimize": minimize, "measurements": measurements, "seed": seed}
        found = (
            compression.solve(asked, **wanted) if sweep is None else compression.sweep(sweep, bounds, asked, **wanted)
        )
        explanation = compression.explain(asked, minimize=minimize, seed=seed) if why and found.feasible else None
    files: dict[Path | None, Callable[[Path], Any]] = {
        manifest: lambda path: write_text(path, found.to_json()),
        table: lambda path: found.to_csv(path),
        picture: lambda path: save_picture(found.plot().figure, path),
    }
    if found.feasible and out is not None:
        files[out] = lambda path: found.save(path)  # pyright: ignore[reportAttributeAccessIssue]
    with writing(files):
        say_json(found.to_json()) if as_json else say(found.summary())
        if explanation is not None and not as_json:
            say(explanation)
    raise typer.Exit(FEASIBLE if found.feasible else NOT_FEASIBLE)


def _option(text: str) -> Any:
    """The name of an option, or an option from the user's function."""
    if ":" not in text:
        return text
    from cggd_compress.options import Option

    function = _function(text, "--option")
    return Option(function.__name__, float(getattr(function, "bits", 0)), function)


def _function(text: str, argument: str) -> Any:
    """The function that ``FILE.py:FUNCTION`` names."""
    file, _, name = text.rpartition(":")
    spec = importlib.util.spec_from_file_location("of_the_user", file) if file.endswith(".py") else None
    if spec is None or spec.loader is None or not Path(file).is_file():
        raise ValueError(f"{argument} must name a function as FILE.py:FUNCTION, got {text!r}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(function := getattr(module, name, None)):
        raise ValueError(f"{argument} {text!r}: {file} has no function {name!r}")
    return function


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A function that shows progress: a bar on a terminal, otherwise one line for each text."""
    if quiet:
        yield lambda text, done, total: None
    elif err.is_terminal:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=err, transient=True) as bar:
            tasks: dict[str, Any] = {}

            def show(text: str, done: int, total: int) -> None:
                if text not in tasks:
                    tasks[text] = bar.add_task(text)
                bar.update(tasks[text], completed=done, total=total)

            yield show
    else:
        yield partial(_line, set())


def _line(said: set[str], text: str, done: int, total: int) -> None:
    if text not in said:
        said.add(text)
        complain(f"{text}: {total}", style="")
