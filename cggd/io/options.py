"""Option tables as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from cggd.io.text import StrPath, fail, is_number, not_a_number, read_text, write_text
from cggd.metrics import Additive
from cggd.space import ChoiceSpace, few


def read_options(path: StrPath) -> tuple[ChoiceSpace, dict[str, Additive]]:
    r"""Read a table of options: one row per option, one column per metric.

    The header names the columns ``decision`` and ``option`` and, in any order, those of the metrics; a heading
    ``latency [ms]`` makes a metric ``latency`` with the unit ``ms``. Rows may stand in any order. Fields are cut by
    commas, semicolons or tabs, and may be quoted; numbers have a decimal point. Labels are text, without the blanks
    around them.

    Parameters
    ----------
    path : str or path
        UTF-8 text, with or without byte order mark.

    Returns
    -------
    space : ChoiceSpace
        Decisions, and the options of each, in the order in which the table first names them.
    metrics : dict of str to Additive

    Raises
    ------
    ValueError
        If the file is not such a table.
    OSError
        If it cannot be opened.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "options.csv")
    ...     _ = path.write_text("decision,option,latency [ms]\nstem,conv3,1.5\npool,max,0.5\nstem,conv5,2\n")
    ...     space, metrics = read_options(path)
    >>> metrics
    {'latency': Additive(latency [ms], ChoiceSpace(2 decisions, 1 to 2 options each))}
    >>> metrics["latency"]({"stem": "conv5", "pool": "max"})
    2.5
    """
    text = read_text(path)
    delimiter = _delimiter(path, text)
    records = _records(path, text, delimiter)
    header_line, header = next(records)
    columns = _headings(path, header_line, header)
    at_decision, at_option = header.index("decision"), header.index("option")
    groups: dict[Hashable, dict[Hashable, int]] = {}
    rows: list[list[str]] = []
    lines: list[int] = []
    for line, cells in records:
        if len(cells) != len(header):
            more = delimiter == "," and len(cells) > len(header)
            hint = "; numbers need a decimal point instead of a comma" if more else ""
            fail(path, line, f"expected {len(header)} fields ({', '.join(header)}), got {len(cells)}{hint}")
        decision, option = cells[at_decision], cells[at_option]
        if not decision or not option:
            fail(path, line, f"the cell of column {'option' if decision else 'decision'!r} is empty; expected a label")
        options = groups.setdefault(decision, {})
        if option in options:
            first = lines[options[option]]
            fail(path, line, f"option {option!r} of decision {decision!r} stands on line {first} already")
        options[option] = len(rows)
        rows.append(cells)
        lines.append(line)
    if not rows:
        fail(path, header_line, "there is no row below the header; expected one row per option")
    space = ChoiceSpace({decision: list(options) for decision, options in groups.items()})
    order = [row for options in groups.values() for row in options.values()]
    metrics = {}
    for name, (place, unit) in columns.items():
        values = _column(path, name, [row[place] for row in rows], lines)
        metrics[name] = Additive(space, values[order], name=name, unit=unit)
    return space, metrics


def write_options(space: ChoiceSpace, metrics: Iterable[Additive] | Mapping[str, Additive], path: StrPath) -> None:
    """Write a table that `read_options` reads, with the same numbers.

    Labels are written as text, and are read as text: the option ``3`` comes back as ``"3"``.

    Parameters
    ----------
    space : ChoiceSpace
    metrics : list of Additive, or mapping to them
        Of this space, and without a constant, for which the table has no place.
    path : str or path

    Raises
    ------
    TypeError, ValueError
        If a metric is not additive, or the table would not be read as what it was written from. No file is written.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> space = ChoiceSpace({"stem": ["conv3", "conv5"]})
    >>> with TemporaryDirectory() as folder:
    ...     write_options(space, [Additive(space, [1.5, 2], name="latency", unit="ms")], Path(folder, "options.csv"))
    ...     print(Path(folder, "options.csv").read_text(), end="")
    decision,option,latency [ms]
    stem,conv3,1.5
    stem,conv5,2.0
    """
    metrics = list(metrics.values() if isinstance(metrics, Mapping) else metrics)
    header = ["decision", "option"]
    for metric in metrics:
        if not isinstance(metric, Additive):
            raise TypeError(f"metrics must be additive to have a column, got {metric!r}")
        if metric.space is not space:
            raise ValueError(f"metric {metric.name!r} belongs to another choice space, {metric.space}, than {space}")
        if metric.constant:
            raise ValueError(
                f"metric {metric.name!r} has the constant {metric.constant:g}, for which a table has no place; "
                "use write_problem, or leave it out"
            )
        heading = f"{metric.name} [{metric.unit}]" if metric.unit else metric.name
        if not _survives(heading) or _heading(heading) != (metric.name, metric.unit):
            raise ValueError(f"a column {heading!r} is not read as name {metric.name!r} and unit {metric.unit!r}")
        header.append(heading)
    _headings(path, 1, header)
    rows = []
    for decision in space.decisions:
        options = space.option_labels(decision)
        labels = [str(option) for option in options]
        for label in (str(decision), *labels):
            if not _survives(label):
                raise ValueError(
                    f"label {label!r} cannot stand in a table: it is empty, is broken or has blanks around"
                )
        if len(set(labels)) < len(labels):
            raise ValueError(f"options of decision {decision!r} are the same when written as text: {few(options)}")
        rows += [[str(decision), label] for label in labels]
    if len({str(decision) for decision in space.decisions}) < space.n_decisions:
        raise ValueError(f"decisions are the same when written as text: {few(space.decisions)}")
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(header)
    columns = [metric.values.tolist() for metric in metrics]
    writer.writerows(labels + list(numbers) for labels, *numbers in zip(rows, *columns, strict=True))
    write_text(path, table.getvalue())


def _records(path: StrPath, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with the number of its first line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    line = 1
    try:
        for record in reader:
            cells = [cell.strip() for cell in record]
            if any(cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        fail(path, line, f"expected fields with closed quotes: {error}")


def _delimiter(path: StrPath, text: str) -> str:
    """The character that cuts the header into fields of which two are ``decision`` and ``option``."""
    headers = []
    for delimiter in ",;\t":
        try:
            line, header = next(_records(path, text, delimiter))
        except StopIteration:
            fail(path, 1, "the file is empty; expected a header such as decision,option,latency [ms]")
        except ValueError:
            continue
        if {"decision", "option"} <= set(header):
            return delimiter
        headers.append((len(header), line, header))
    if not headers:
        next(_records(path, text, ","))
    _, line, header = max(headers)
    missing = " and ".join(repr(name) for name in ("decision", "option") if name not in header)
    fail(path, line, f"expected a header with a column {missing}, got {few(header)}")


def _headings(path: StrPath, line: int, header: list[str]) -> dict[str, tuple[int, str]]:
    """Place and unit of each metric's column, by name."""
    columns: dict[str, tuple[int, str]] = {}
    seen: set[str] = set()
    for place, text in enumerate(header):
        name, unit = _heading(text)
        if not name:
            fail(path, line, f"column {place + 1} has no name")
        if name in seen:
            fail(path, line, f"there are two columns {name!r}; names must differ in more than the unit")
        seen.add(name)
        if text not in ("decision", "option"):
            columns[name] = place, unit
    return columns


def _heading(text: str) -> tuple[str, str]:
    match = re.fullmatch(r"(.*?)\s*\[([^\[\]]*)\]", text, re.DOTALL)
    return (match[1], match[2].strip()) if match else (text, "")


def _survives(label: str) -> bool:
    return bool(label) and label == label.strip() and not re.search(r"[\r\n\0]", label)


def _column(path: StrPath, name: str, cells: list[str], lines: list[int]) -> NDArray[np.float64]:
    try:
        values = np.fromiter(map(float, cells), float, len(cells))
    except ValueError:
        values = None
    if values is None or not np.isfinite(values).all():
        at = next(i for i, cell in enumerate(cells) if not is_number(cell))
        fail(path, lines[at], f"column {name!r}: {not_a_number(cells[at])}")
    return values
