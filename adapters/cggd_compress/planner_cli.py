"""``cggd recipe FILE...``: a format and a device for each tensor of a table, from the shell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cggd.arguments import adapter_command
from cggd.explain import explain as explain_result
from cggd.io import parse_rule
from cggd.io.text import to_number, write_text
from cggd.outputs import check_outputs, writing
from cggd.sweep import sweep as sweep_bounds
from cggd.terminal import FEASIBLE, NOT_FEASIBLE, complain, say, say_json
from cggd_compress.planner import By, Cache, Recipe, Sense, bytes_of, improvers_of, limits_of, make_recipe, plan
from cggd_compress.recipes import read_formats

# Seconds for an explanation if no time limit is given.
EXPLAIN_SECONDS = 60.0

app = adapter_command()


@app.callback(invoke_without_command=True, no_args_is_help=True)
def recipe_command(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="tables with the columns tensor, format, bytes, damage and milliseconds of devices; GGUF files; logs "
            "of llama-quantize; measurement.json of ExLlamaV2. What each says of the same tensors is joined"
        ),
    ],
    limits: Annotated[
        list[str] | None,
        typer.Option(
            "--limit",
            help='a limit: "size<=7MB", "ms<=40", "damage<=0.1", "bpw<=2.8", "gpu+cpu<=10GiB", "context>=8192"',
        ),
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option(help='a device and its memory, "gpu=8GiB", or only its name; may be repeated')
    ] = None,
    minimize: Annotated[str | None, typer.Option(help="metric to minimize; by default damage")] = None,
    maximize: Annotated[str | None, typer.Option(help="metric to maximize, such as context")] = None,
    then_minimize: Annotated[
        list[str] | None, typer.Option(help="metric to minimize next, among the best answers before")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help='formats of the tensors of a pattern: "token_embd*=q8_0,q6_K"')
    ] = None,
    on: Annotated[list[str] | None, typer.Option(help='devices of the tensors of a pattern: "output*=gpu"')] = None,
    together: Annotated[
        list[str] | None, typer.Option(help='tensors of one format: "blk.{}.attn_*"; {} is the same text in each group')
    ] = None,
    together_on: Annotated[
        list[str] | None, typer.Option(help='tensors on one device: "blk.{}.*"; {} is the same text in each group')
    ] = None,
    rules: Annotated[
        list[str] | None, typer.Option("--rule", help='a rule, such as "head.device=gpu -> embed.format=q8_0|q6_K"')
    ] = None,
    context: Annotated[str | None, typer.Option(help='tokens of the context that may be chosen, "4096,8192"')] = None,
    cache: Annotated[
        str, typer.Option(help='formats of the key-value cache, with their damage: "f16=0,q8_0=0.002"')
    ] = "f16",
    column: Annotated[
        list[str] | None, typer.Option(help='what a heading means, "kl [nats]=damage"; may be repeated')
    ] = None,
    sweep: Annotated[str | None, typer.Option(help="metric whose upper bound is varied, such as size")] = None,
    bounds: Annotated[str, typer.Option(help='bounds of the sweep, "5MB,6MB,7MB", or how many')] = "6",
    explain: Annotated[bool, typer.Option("--explain", help="say what other formats would lose")] = False,
    seconds: Annotated[float | None, typer.Option("--time", help="seconds after which to stop")] = None,
    seed: Annotated[int, typer.Option(min=0, help="same seed, same answer")] = 0,
    table: Annotated[Path | None, typer.Option("--csv", help="write the choices, or the sweep, as CSV")] = None,
    manifest: Annotated[Path | None, typer.Option(help="write what was chosen and what is proved, as JSON")] = None,
    tensor_types: Annotated[
        Path | None, typer.Option(help="write the formats for llama-quantize --tensor-type-file")
    ] = None,
    buffer_types: Annotated[
        Path | None, typer.Option(help="write the devices as the value of --override-tensor of llama.cpp")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the manifest as JSON and nothing else")] = False,
) -> None:
    """Choose a format, and a device, for each tensor of a table within limits.

    Exit status: 0 the answer is within every limit, 1 wrong input, 2 infeasible or unknown.
    """
    outputs = {"--csv": table, "--manifest": manifest, "--tensor-types": tensor_types, "--buffer-types": buffer_types}
    check_outputs(files, outputs)
    if sweep is not None and (refused := [name for name, path in list(outputs.items())[2:] if path is not None]):
        raise ValueError(f"{refused[0]} needs one answer; leave out --sweep")
    known = read_formats(files, columns=dict(_pair(text, "--column") for text in column or []))
    chosen = plan(known, _devices(device or []), cache=_cache(context, cache))
    for note in chosen.notes:
        complain(f"note: {note}", style="yellow")
    asked: list[Any] = [*(limits or []), *map(parse_rule, rules or [])]
    asked += [rule for text in together or [] for rule in chosen.same("format", text)]
    asked += [rule for text in together_on or [] for rule in chosen.same("device", text)]
    patterns: list[tuple[By, list[str], str]] = [("format", only or [], "--only"), ("device", on or [], "--on")]
    for by, texts, argument in patterns:
        for pattern, names in (_pair(text, argument) for text in texts):
            asked += chosen.only(by, pattern, [name.strip() for name in names.split(",")])
    settings: dict[str, Any] = {"time_limit": seconds, "seed": seed}
    if sweep is not None:
        if maximize is not None or then_minimize or explain:
            raise ValueError("--sweep takes --minimize alone, without --maximize, --then-minimize and --explain")
        front = sweep_bounds(
            chosen.metric(minimize or "damage"),
            limits_of(chosen, asked),
            chosen.metric(sweep),
            _bounds(bounds),
            improvers=improvers_of(chosen),
            **settings,
        )
        return _deliver(front, {table: lambda path: front.to_csv(path, selections=True)}, manifest, as_json=as_json)
    then: list[tuple[str, Sense]] = [(name, "minimize") for name in then_minimize or []]
    found = make_recipe(chosen, asked, minimize=minimize, maximize=maximize, then=then, **settings)
    written: dict[Path | None, Callable[[Path], Any]] = {table: found.to_csv}
    if found.feasible:
        written |= _for_llama(found, tensor_types, buffer_types)
    explanation = explain_result(found.result, time_limit=seconds or EXPLAIN_SECONDS) if explain else None
    return _deliver(found, written, manifest, as_json=as_json, explanation=explanation)


def _for_llama(found: Recipe, tensor_types: Path | None, buffer_types: Path | None) -> dict[Path | None, Any]:
    """The files for llama.cpp; a choice that they cannot express raises an error before anything is written."""
    types = "\n".join(found.tensor_types()) + "\n" if tensor_types is not None else ""
    buffers = ",".join(found.buffer_types()) + "\n" if buffer_types is not None else ""
    return {
        tensor_types: lambda path: write_text(path, types),
        buffer_types: lambda path: write_text(path, buffers),
    }


def _deliver(
    answer: Any,
    files: dict[Path | None, Callable[[Path], Any]],
    manifest: Path | None,
    *,
    as_json: bool,
    explanation: Any = None,
) -> None:
    with writing({**files, manifest: lambda path: write_text(path, answer.to_json())}):
        if as_json:
            say_json(answer.to_json())
        else:
            say(answer.summary())
            if explanation is not None and answer.feasible:
                say(explanation)
    raise typer.Exit(FEASIBLE if answer.feasible else NOT_FEASIBLE)


def _pair(text: str, argument: str) -> tuple[str, str]:
    """The two sides of the last equals sign."""
    left, sign, right = text.rpartition("=")
    if not sign or not left.strip() or not right.strip():
        raise ValueError(f"{argument} must have text on both sides of an equals sign, got {text!r}")
    return left.strip(), right.strip()


def _devices(texts: list[str]) -> dict[str, float | None]:
    pairs = [_pair(text, "--device") if "=" in text else (text.strip(), "") for text in texts]
    if len(dict(pairs)) < len(pairs):
        raise ValueError(f"--device must name each device once, got {', '.join(texts)}")
    return {name: bytes_of(room) if room else None for name, room in pairs}


def _cache(context: str | None, formats: str) -> Cache | None:
    if context is None:
        if formats != "f16":
            raise ValueError("--cache needs --context, the tokens that may be chosen")
        return None
    tokens = [to_number(text.strip()) for text in context.split(",")]
    if wrong := [number for number in tokens if not number.is_integer()]:
        raise ValueError(f"--context must be whole numbers of tokens, got {wrong[0]:g}")
    pairs = [_pair(text, "--cache") if "=" in text else (text.strip(), "0") for text in formats.split(",")]
    return Cache([int(number) for number in tokens], {name: to_number(damage) for name, damage in pairs})


def _bounds(text: str) -> Any:
    return int(text) if text.strip().isdecimal() else [bytes_of(part) for part in text.split(",") if part.strip()]
