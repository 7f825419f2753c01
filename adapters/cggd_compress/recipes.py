"""Tables of tensors, formats, bytes and damage, read from CSV, GGUF files, and the logs and measurements of quantisers.

A file may hold only a part, such as a GGUF file with the shapes of the tensors and a table with the damage of each
format. `read_formats` reads several files and joins them.
"""

from __future__ import annotations

import csv
import importlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import chain
from math import ceil, prod
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

from cggd.entries import parse_json
from cggd.io.sheets import sheet_rows
from cggd.io.text import StrPath, csv_text, fail, not_a_number, read_text, to_number
from cggd.space import few

# Columns that a planner needs, and the headings that are read as them.
NAMES = {
    "tensor": ("tensor", "decision", "layer", "name", "module"),
    "format": ("format", "option", "type", "quant", "dtype"),
    "bytes": ("bytes", "size"),
    "damage": ("damage", "error", "loss", "kl"),
    "elements": ("elements", "weights", "parameters"),
    "cached": ("cached",),
}
UNITS = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SECONDS = {"ms": Decimal(1), "s": Decimal(1000), "us": Decimal("0.001"), "µs": Decimal("0.001")}
_TIMES = ("ms", "milliseconds", "latency", "time", "runtime")
_HEADING = re.compile(r"(.*?)\s*(?:\[([^\[\]]*)\]|\(([^()]*)\))", re.DOTALL)

# llama.cpp pads the data of each tensor to a multiple of this, unless the file says otherwise (GGUF specification).
ALIGNMENT = 32

# Lines of llama-quantize: [ 12/ 291] blk.1.attn_q.weight - [ 4096, 4096, 1, 1], type = f16, ... size = ...
_TENSOR = re.compile(r"\[\s*\d+/\s*\d+\]\s+(\S+)\s+-\s+\[([\d,\s]+)\],\s*type\s*=\s*(\w+),")
_CONVERTED = re.compile(r"converting to (\w+)\s*\.\.\s*size\s*=\s*[\d.]+ Mi?B\s*->\s*([\d.]+) Mi?B")
_DRY = re.compile(r"size\s*=\s*[\d.]+ Mi?B\s*->\s*([\d.]+) Mi?B\s*\((\w+)\)")
_KEPT = re.compile(r"size\s*=\s*([\d.]+) Mi?B")

Numbers = Mapping[str, float]


@dataclass(frozen=True, eq=False)
class FormatTable:
    """A table of numbers for each tensor in each format.

    Attributes
    ----------
    rows : mapping of tensor to mapping of format to mapping of column to number
        Columns are ``bytes``, ``damage``, ``elements`` (numbers in the tensor), ``cached`` (numbers in the key-value
        cache per token that belong to this tensor), ``ms`` for all devices, ``ms gpu`` for the device ``gpu``, and any
        others.
    shapes : mapping of tensor to tuple of int
        Lengths of the axes, the contiguous axis first, as in a GGUF file.
    kept : mapping of tensor to str
        The present format of a tensor; a tensor without known damage stays in it.
    cached : mapping of tensor to int
        Numbers in the key-value cache per token that belong to this tensor, from the model's file.
    header : int
        Bytes of a file without its tensors.
    units : mapping of column to str
    notes : sequence of str
        What was left out, and why.
    """

    rows: Mapping[str, Mapping[str, Numbers]]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)
    cached: Mapping[str, int] = field(default_factory=dict)
    header: int = 0
    units: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def columns(self) -> list[str]:
        """Names of all columns, in the order in which they appear."""
        rows = chain.from_iterable(formats.values() for formats in self.rows.values())
        return list(dict.fromkeys(chain.from_iterable(rows)))


# -- all files of a model ---------------------------------------------------------------------------------------------


def read_formats(paths: StrPath | Iterable[StrPath], *, columns: Mapping[str, str] | None = None) -> FormatTable:
    r"""Read files and join their numbers for the same tensors and formats.

    Parameters
    ----------
    paths : path or list of paths
        Tables (`read_format_table`), GGUF files (`read_gguf`), logs of llama-quantize (`read_quantize_log`) and
        measurements of ExLlamaV2 (`read_measurement`). The kind of a file is recognised from its name and content.
    columns : mapping of heading to column, optional
        Columns for other headings of tables.

    Returns
    -------
    FormatTable
        If the shape of a tensor is known, missing bytes are computed for formats of ggml.

    Raises
    ------
    ValueError
        If a file is of no known kind, or files contradict each other.
    ImportError
        If a GGUF file is given, or the size of a format is needed, and the package ``gguf`` is not installed.

    Examples
    --------
    >>> _ = Path("damage.csv").write_text("tensor,format,damage\nhead,q8_0,0.001\nhead,q4_0,0.02\n")
    >>> log = "[   1/   1] head - [ 64, 10, 1, 1], type = f16, converting to q8_0 .. size = 0.00 MiB -> 0.00 MiB\n"
    >>> _ = Path("quantize.log").write_text(log)
    >>> table = read_formats(["damage.csv", "quantize.log"])
    >>> {format: row["bytes"] for format, row in table.rows["head"].items()}
    {'q8_0': 704, 'q4_0': 384}
    """
    several: list[StrPath] = [paths] if isinstance(paths, str | PathLike) else list(paths)
    if not several:
        raise ValueError("paths is empty; give at least one file")
    joined = FormatTable({})
    for path in several:
        joined = _joined(joined, _read(path, columns or {}), path)
    return _with_sizes(joined)


def _read(path: StrPath, columns: Mapping[str, str]) -> FormatTable:
    ending = Path(path).suffix.lower()
    if ending == ".gguf":
        return read_gguf(path)
    if ending in (".xlsx", ".parquet"):
        return read_format_table(path, columns=columns)
    text = read_text(path)
    if text.lstrip()[:1] == "{":
        return read_measurement(path)
    if _TENSOR.search(text):
        return read_quantize_log(path)
    return read_format_table(path, columns=columns)


def _joined(one: FormatTable, other: FormatTable, path: StrPath) -> FormatTable:
    """Join two tables; names of formats ignore case, and a number that both tables have must be the same."""
    rows = {tensor: {name: dict(numbers) for name, numbers in formats.items()} for tensor, formats in one.rows.items()}
    for tensor, formats in other.rows.items():
        known = rows.setdefault(tensor, {})
        spelled = {name.casefold(): name for name in known}
        for name, numbers in formats.items():
            row = known.setdefault(spelled.get(name.casefold(), name), {})
            for column, number in numbers.items():
                if row.setdefault(column, number) != number:
                    raise ValueError(
                        f"{path}: {column} of {tensor!r} in format {name!r} is {number:g}, and {row[column]:g} in a "
                        "file before; leave one of them out"
                    )
    for tensor in one.shapes.keys() & other.shapes.keys():
        if one.shapes[tensor] != other.shapes[tensor]:
            raise ValueError(
                f"{path}: tensor {tensor!r} has shape {other.shapes[tensor]}, and {one.shapes[tensor]} in a file before"
            )
    return FormatTable(
        rows,
        {**one.shapes, **other.shapes},
        {**other.kept, **one.kept},
        {**other.cached, **one.cached},
        one.header + other.header,
        {**other.units, **one.units},
        [*one.notes, *other.notes],
    )


def _with_sizes(table: FormatTable) -> FormatTable:
    """Add bytes and elements where shapes are known; leave out formats that a shape does not allow."""
    rows: dict[str, dict[str, Numbers]] = {}
    notes = list(table.notes)
    for tensor, formats in table.rows.items():
        shape = table.shapes.get(tensor)
        rows[tensor] = {}
        for name, numbers in formats.items():
            if shape is None or "bytes" in numbers:
                rows[tensor][name] = numbers
                continue
            block = block_of(name)
            if block is None:
                raise ValueError(
                    f"tensor {tensor!r}: the bytes of format {name!r} are not given, and it is no format of ggml"
                )
            if shape[0] % block[0]:
                notes.append(f"{tensor}: {name} needs rows of a multiple of {block[0]} numbers, not {shape[0]}")
                continue
            rows[tensor][name] = {**numbers, "bytes": _padded(shape, block), "elements": prod(shape)}
    for tensor, name in table.kept.items():
        if not any("damage" in numbers for numbers in table.rows.get(tensor, {}).values()):
            known = rows.get(tensor, {}).get(name, {})
            block = block_of(name) if "bytes" not in known else None
            if block is not None:
                known = {"bytes": _padded(table.shapes[tensor], block), "elements": prod(table.shapes[tensor])}
            if "bytes" in known:
                rows[tensor] = {name: {**known, "damage": 0.0}}
    return replace(table, rows=rows, notes=notes)


def _padded(shape: tuple[int, ...], block: tuple[int, int]) -> int:
    numbers, size = block
    used = prod(shape) // numbers * size
    return -(-used // ALIGNMENT) * ALIGNMENT


def block_of(name: str) -> tuple[int, int] | None:
    """Numbers in a block of a format of ggml, and bytes of the block; None if ggml has no such format.

    Examples
    --------
    >>> block_of("q8_0"), block_of("Q4_K"), block_of("int7")
    ((32, 34), (256, 144), None)
    """
    constants = _gguf("constants")
    formats = constants.GGMLQuantizationType.__members__
    return constants.GGML_QUANT_SIZES[formats[name.upper()]] if name.upper() in formats else None


def _gguf(module: str = "") -> Any:
    try:
        return importlib.import_module(f"gguf.{module}" if module else "gguf")
    except ImportError:
        raise ImportError("sizes of ggml's formats and GGUF files need gguf: pip install 'cggd[compress]'") from None


# -- tables -----------------------------------------------------------------------------------------------------------


def read_format_table(path: StrPath, *, columns: Mapping[str, str] | None = None) -> FormatTable:
    r"""Read a table with a row for each tensor and format.

    Columns: ``tensor`` (or ``decision``, ``layer``, ``name``, ``module``), ``format`` (``option``, ``type``, ``quant``,
    ``dtype``), ``bytes`` (``size``, with a unit in brackets: ``size [MB]``), ``damage`` (``error``, ``loss``, ``kl``),
    ``elements``, ``cached``, and milliseconds: ``ms`` or ``latency [ms]`` for all devices, ``ms gpu`` or ``gpu [ms]``
    for one. If a cell of milliseconds is empty, the device cannot run the format. Other columns of numbers become
    metrics of the same name; columns of text are left out, with a note.

    Parameters
    ----------
    path : path
        CSV with commas, semicolons, tabs or vertical bars, or ``.xlsx`` and ``.parquet``.
    columns : mapping of heading to column, optional
        Columns for other headings, such as ``{"kl [nats]": "damage"}``.

    Examples
    --------
    >>> _ = Path("formats.csv").write_text("layer,type,size [kB],kl,gpu [ms]\nq,8 bit,1.5,0.01,2\nq,4 bit,1,0.2,\n")
    >>> read_format_table("formats.csv").rows["q"]
    {'8 bit': {'bytes': 1500, 'damage': 0.01, 'ms gpu': 2}, '4 bit': {'bytes': 1000, 'damage': 0.2}}
    """
    (line, header), *records = _records(path)
    meaning, factors, units = _columns(path, line, [csv_text(cell) for cell in header], columns or {})
    rows: dict[str, dict[str, dict[str, float]]] = {}
    lines: dict[tuple[str, str], int] = {}
    texts: dict[str, str] = {}
    for line, cells in records:
        if len(cells) != len(header):
            fail(path, line, f"expected {len(header)} fields ({', '.join(header)}), got {len(cells)}")
        row = {column: cell for column, cell in zip(meaning, cells, strict=True) if column}
        tensor, name = csv_text(row.pop("tensor")), csv_text(row.pop("format"))
        if not tensor or not name:
            fail(path, line, f"the cell of column {'format' if tensor else 'tensor'!r} is empty; expected a label")
        if (tensor, name) in lines:
            fail(path, line, f"format {name!r} of tensor {tensor!r} stands on line {lines[tensor, name]} already")
        lines[tensor, name] = line
        numbers = rows.setdefault(tensor, {}).setdefault(name, {})
        for column, cell in row.items():
            if cell or not column.startswith("ms"):
                try:
                    numbers[column] = _scaled(cell, factors[column])
                except ValueError:
                    if column in NAMES or column.startswith("ms"):
                        fail(path, line, f"column {column!r}: {not_a_number(cell)}")
                    texts.setdefault(column, f"{path}: column {column!r} is left out: {cell!r} is no number")
    if not rows:
        fail(path, line, "there is no row below the header; expected a row for each tensor and format")
    for numbers in chain.from_iterable(formats.values() for formats in rows.values()):
        for column in texts:
            numbers.pop(column, None)
    return FormatTable(rows, units=units, notes=list(texts.values()))


def _scaled(cell: str, factor: Decimal) -> float:
    number = to_number(cell)
    if factor == 1:
        return int(number) if number.is_integer() and "." not in cell and "e" not in cell.lower() else number
    exact = Decimal(cell) * factor
    return int(exact) if exact == exact.to_integral_value() else float(exact)


def _records(path: StrPath) -> list[tuple[int, list[str]]]:
    """Rows that are not blank, with their line numbers; the first is the header."""
    if str(path).lower().endswith((".xlsx", ".parquet")):
        return sheet_rows(path)
    text = read_text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t|", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    found: list[tuple[int, list[str]]] = []
    try:
        for record in reader:
            cells = [cell.strip() for cell in record]
            if any(cells):
                found.append((reader.line_num, cells))
    except csv.Error as error:
        fail(path, reader.line_num, f"expected fields with closed quotes: {error}")
    if not found:
        fail(path, 1, "the file is empty; expected a header such as tensor,format,bytes,damage")
    return found


def _columns(
    path: StrPath, line: int, header: list[str], given: Mapping[str, str]
) -> tuple[list[str], dict[str, Decimal], dict[str, str]]:
    """The column of each heading, the factor of each column, and the units of further columns."""
    if missing := [name for name in given if name not in header]:
        fail(path, line, f"there is no column {missing[0]!r}; the header has {few(header)}")
    parts = [_heading(cell) for cell in header]
    meaning = [given.get(cell) or _time(name, unit) for cell, (name, unit) in zip(header, parts, strict=True)]
    for column, names in NAMES.items():
        if column not in meaning:
            at = [place for other in names for place, (name, _) in enumerate(parts) if name.casefold() == other]
            for place in at[:1]:
                meaning[place] = meaning[place] or column
    for column in ("tensor", "format"):
        if column not in meaning:
            fail(path, line, f"expected a column {column!r} (or {', '.join(NAMES[column][1:])}), got {few(header)}")
    meaning = [column or name for column, (name, _) in zip(meaning, parts, strict=True)]
    factors, units = {}, {}
    for place, (column, (_, unit)) in enumerate(zip(meaning, parts, strict=True)):
        if not column:
            fail(path, line, f"column {place + 1} has no name")
        if column in factors:
            fail(path, line, f"there are two columns of {column!r}: {few(header)}")
        factors[column] = Decimal(1)
        if column == "bytes" and unit:
            if unit.casefold() in ("bit", "bits"):
                factors[column] = Decimal("0.125")
            elif unit in UNITS or unit == "bytes":
                factors[column] = Decimal(UNITS.get(unit, 1))
            else:
                fail(path, line, f"column {header[place]!r}: a size is in bits or {', '.join(UNITS)}, got {unit!r}")
        elif column.split(" ")[0] == "ms":
            factors[column] = _SECONDS.get(unit, Decimal(1))
        elif unit:
            units[column] = unit
    return meaning, factors, units


def _heading(text: str) -> tuple[str, str]:
    match = _HEADING.fullmatch(text)
    return (match[1], (match[2] or match[3] or "").strip()) if match and match[1] else (text, "")


def _time(name: str, unit: str) -> str:
    """``ms`` or ``ms device`` for a column of milliseconds, otherwise an empty text."""
    words = re.split(r"[ _@:]+", name, maxsplit=1)
    if words[0].casefold() in ("ms", "milliseconds"):
        return f"ms {words[1]}" if len(words) > 1 else "ms"
    if unit in _SECONDS:
        return "ms" if name.casefold() in _TIMES else f"ms {name}"
    return ""


# -- files of models and quantisers -----------------------------------------------------------------------------------


def read_gguf(path: StrPath) -> FormatTable:
    """Read names, shapes and present formats of the tensors of a GGUF file; no weights are read.

    The metadata give the size of the key-value cache per token and layer: the number of heads times the lengths of keys
    and values. It is assigned to the ``attn_k`` tensor of the layer, or else to the layer's first attention tensor.

    Raises
    ------
    ValueError
        If the file is no GGUF file.
    """
    reader = _gguf("gguf_reader")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        model = reader.GGUFReader(path)
    except Exception as error:
        raise ValueError(f"{path}: not a complete GGUF file: {type(error).__name__}: {error}") from None
    shapes = {tensor.name: _shape(tensor.shape) for tensor in model.tensors}
    kept = {tensor.name: tensor.tensor_type.name.lower() for tensor in model.tensors}
    metadata = {key: entry.contents() for key, entry in model.fields.items() if "tokenizer" not in key}
    cached, notes = _cached(metadata, list(shapes))
    return FormatTable({}, shapes, kept, cached, int(model.data_offset), notes=notes)


def _cached(metadata: Mapping[str, Any], tensors: list[str]) -> tuple[dict[str, int], list[str]]:
    """Numbers in the key-value cache per token, by the tensor that they are assigned to, and notes."""
    arch = metadata.get("general.architecture")
    about = {key.removeprefix(f"{arch}."): entry for key, entry in metadata.items() if key.startswith(f"{arch}.")}
    layers, heads = about.get("block_count"), about.get("attention.head_count")
    if layers is None or heads is None:
        return {}, []
    if "attention.kv_lora_rank" in about:
        return {}, ["the file has latent attention; give the numbers cached for each token as a column cached"]
    of_layer = [_each(about.get("attention.head_count_kv", heads), i) for i in range(layers)]
    default = about.get("embedding_length", 0) // max(_each(heads, 0), 1)
    length = about.get("attention.key_length", default) + about.get("attention.value_length", default)
    found = {}
    for layer, n in enumerate(of_layer):
        beside = [name for name in tensors if name.startswith(f"blk.{layer}.attn_")]
        beside.sort(key=lambda name: not name.startswith(f"blk.{layer}.attn_k."))
        if beside and n:
            found[beside[0]] = n * length
    return found, []


def _shape(axes: Iterable[Any]) -> tuple[int, ...]:
    """Lengths of axes without trailing ones, which logs write and files leave out."""
    shape = [int(n) for n in axes]
    while len(shape) > 1 and shape[-1] == 1:
        shape.pop()
    return tuple(shape)


def _each(value: Any, layer: int) -> int:
    return int(value[layer] if isinstance(value, list) else value)


def read_quantize_log(path: StrPath) -> FormatTable:
    """Read the lines that llama-quantize prints for each tensor, with or without ``--dry-run``.

    Bytes come from the shape and the format. If the package ``gguf`` does not know the format, they are the rounded
    megabytes of the log, rounded up to the largest number of bytes that they may stand for.
    """
    text = read_text(path)
    found = list(_TENSOR.finditer(text))
    if not found:
        fail(path, 1, "expected lines of llama-quantize such as '[ 1/ 9] output.weight - [ 64, 10, 1, 1], type = f16'")
    rows: dict[str, dict[str, Numbers]] = {}
    shapes, kept = {}, {}
    for match, following in zip(found, [*found[1:], None], strict=True):
        after = text[match.end() : None if following is None else following.start()]
        name, axes, now = match.groups()
        if converted := _CONVERTED.search(after):
            chosen, megabytes = converted.groups()
        elif dry := _DRY.search(after):
            megabytes, chosen = dry.groups()
        elif same := _KEPT.search(after):
            chosen, megabytes = now, same[1]
        else:
            continue  # the log ends within this tensor
        shapes[name] = _shape(axes.split(","))
        kept[name] = chosen
        if block_of(chosen) is None:
            digits = len(megabytes.partition(".")[2])
            most = (Decimal(megabytes) + Decimal(5) * Decimal(10) ** (-digits - 1)) * 2**20
            rows[name] = {chosen: {"bytes": ceil(most), "elements": prod(shapes[name])}}
    return FormatTable(rows, shapes, kept)


def read_measurement(path: StrPath) -> FormatTable:
    """Read the ``measurement.json`` of ExLlamaV2: bits and accuracy of each option of each layer.

    The format ``#3`` is the fourth option of its layer. Its damage is 1 minus the accuracy.
    """
    data = parse_json(read_text(path))
    layers = data.get("measurement") if isinstance(data, Mapping) else None
    if not isinstance(layers, Mapping):
        _no_measurement(path)
    rows: dict[str, dict[str, Numbers]] = {}
    for layer, measured in layers.items():
        parts = measured.items() if isinstance(measured, Mapping) else [("", measured)]
        for part, options in parts:
            for place, option in enumerate(options or []):
                if not isinstance(option, Mapping) or not {"total_bits", "accuracy"} <= option.keys():
                    _no_measurement(path)
                numbers = {"bytes": ceil(option["total_bits"] / 8), "damage": 1 - option["accuracy"]}
                rows.setdefault(f"{layer}.{part}" if part else layer, {})[f"#{place}"] = numbers
    if not rows:
        _no_measurement(path)
    return FormatTable(rows)


def _no_measurement(path: StrPath) -> NoReturn:
    raise ValueError(f'{path}: expected "measurement" of ExLlamaV2, with total_bits and accuracy of each option')
