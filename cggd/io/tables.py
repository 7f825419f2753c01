"""Option tables and selections as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

from cggd.io.text import StrPath, csv_text, fail, is_number, not_a_number, read_text, to_numbers, write_csv
from cggd.metrics import Additive
from cggd.space import ChoiceSpace, few

_ANNOUNCED = re.compile(r"(\"?sep=.\"?)\r?\n")
# A number whose point may separate thousands, or that has no point.
_UNCLEAR = re.compile(r"[-+]?([1-9]\d{0,2}\.\d{3}|\d+)", re.ASCII)


def read_options(path: StrPath) -> tuple[ChoiceSpace, dict[str, Additive]]:
    r"""Read a table of options: one row per option, one column per metric.

    The header names, in any order, the columns ``decision`` and ``option`` and those of the metrics; a heading
    ``latency [ms]`` makes a metric ``latency`` with the unit ``ms``. Rows may be in any order. Fields are separated by
    commas, semicolons or tabs, and may be quoted. Labels are text; blanks around them are removed. An apostrophe that
    keeps a spreadsheet program from reading a label as a formula, such as ``'=1+1``, is removed too.

    Numbers have a decimal point and nothing between thousands. A column that can be read in two ways is refused:
    ``1.250`` beside ``900`` may be 1250 or 1.25. The column is read if another cell decides (``0.900``, ``1.5``,
    ``1250``), or if all its numbers have three decimals. The second case is refused in a file with semicolons between
    the fields, which usually has decimal commas, unless some number of the file certainly has a decimal point.

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
    >>> table = "decision,option,latency [ms]\nstem,conv3,1.5\npool,max,0.5\nstem,conv5,2\n"
    >>> _ = Path("options.csv").write_text(table)
    >>> space, metrics = read_options("options.csv")
    >>> metrics
    {'latency': Additive(latency [ms], ChoiceSpace(2 decisions, 1 to 2 options each))}
    >>> metrics["latency"]({"stem": "conv5", "pool": "max"})
    2.5
    """
    text = read_text(path)
    announced = _ANNOUNCED.match(text)  # a first line such as sep=; that Excel writes and reads
    text = text if announced is None else text[: announced.start(1)] + "\n" + text[announced.end() :]
    delimiter = _delimiter(path, text)
    records = _records(path, text, delimiter)
    header_line, header = next(records)
    header = [csv_text(cell) for cell in header]
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
        decision, option = csv_text(cells[at_decision]), csv_text(cells[at_option])
        if not decision or not option:
            fail(path, line, f"the cell of column {'option' if decision else 'decision'!r} is empty; expected a label")
        first = groups.setdefault(decision, {}).setdefault(option, len(rows))
        if first < len(rows):
            fail(path, line, f"option {option!r} of decision {decision!r} stands on line {lines[first]} already")
        rows.append(cells)
        lines.append(line)
    if not rows:
        fail(path, header_line, "there is no row below the header; expected one row per option")
    space = ChoiceSpace({decision: list(options) for decision, options in groups.items()})
    order = [row for options in groups.values() for row in options.values()]
    cells = {name: [row[place] for row in rows] for name, (place, _) in columns.items()}
    metrics = {}
    for name, (_, unit) in columns.items():
        try:
            numbers = to_numbers(cells[name])
        except ValueError:
            at, wrong = next((i, cell) for i, cell in enumerate(cells[name]) if not is_number(cell))
            fail(path, lines[at], f"column {name!r}: {not_a_number(wrong)}")
        metrics[name] = Additive(space, numbers[order], name=name, unit=unit)
    _check_points(path, cells, lines, comma_is_usual=delimiter == ";")
    return space, metrics


def write_options(space: ChoiceSpace, metrics: Iterable[Additive] | Mapping[str, Additive], path: StrPath) -> None:
    """Write a table that `read_options` reads, with the same numbers.

    Labels are written and read as text: the option ``3`` comes back as ``"3"``. A label or a name that a spreadsheet
    program would read as a formula, such as ``=1+1`` or ``-3``, is written with an apostrophe before it, which
    `read_options` removes.

    Parameters
    ----------
    space : ChoiceSpace
    metrics : list of Additive, or mapping to them
        Metrics of this space without a constant, since the table cannot hold one.
    path : str or path

    Raises
    ------
    TypeError, ValueError
        If a metric is not additive, or if reading the table would not give the same data. No file is written.

    Examples
    --------
    >>> space = ChoiceSpace({"stem": ["conv3", "conv5"]})
    >>> write_options(space, [Additive(space, [1.5, 2], name="latency", unit="ms")], "options.csv")
    >>> print(read_text("options.csv"), end="")
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
    numbers = iter(list(zip(*(m.values.tolist() for m in metrics), strict=True)) or [()] * space.n_options)
    rows: list[list[Any]] = [header]
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
        rows += [[str(decision), label, *next(numbers)] for label in labels]
    if len({str(decision) for decision in space.decisions}) < space.n_decisions:
        raise ValueError(f"decisions are the same when written as text: {few(space.decisions)}")
    write_csv(path, rows)


def write_selection(selection: Mapping[Hashable, Hashable] | None, path: StrPath) -> None:
    r"""Write a selection as CSV: the columns ``decision`` and ``option``, and a row for each decision.

    Labels that a spreadsheet program would read as formulas get an apostrophe before them, as in `write_options`.

    Parameters
    ----------
    selection : mapping of decision to option, or None
        Such as `Result.selection`. For None, the file has only its header.
    path : str or path

    Raises
    ------
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> write_selection({"stem": "conv3", "pool": "-1"}, "chosen.csv")
    >>> read_text("chosen.csv")
    "decision,option\nstem,conv3\npool,'-1\n"
    """
    rows = [(str(decision), str(option)) for decision, option in (selection or {}).items()]
    write_csv(path, [("decision", "option"), *rows])


def write_answers(result: Any, path: StrPath) -> None:
    """Write the selection of a result as `write_selection` does; of several answers, with a column ``answer`` in front.

    Parameters
    ----------
    result : Result
    path : str or path
    """
    answers = [result.selection, *(other.selection for other in result.alternatives)]
    if len(answers) == 1:
        return write_selection(answers[0], path)
    rows = [(n, str(d), str(o)) for n, selection in enumerate(answers, start=1) for d, o in selection.items()]
    return write_csv(path, [("answer", "decision", "option"), *rows])


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
    """Whether a label is read as it was written."""
    return bool(label) and label == label.strip() and not re.search(r"[\r\n\0]", label)


def _check_points(path: StrPath, cells: dict[str, list[str]], lines: list[int], *, comma_is_usual: bool) -> None:
    """Raise an error if the points of a column may separate thousands or decimals."""
    # In 0.900, 1.5 and 1e3 the point is a decimal point; beside 1250, nothing stands between thousands.
    decimal = {name: not all(map(_UNCLEAR.fullmatch, column)) for name, column in cells.items()}
    doubtful = comma_is_usual and not any(decimal.values())
    for name in (name for name in cells if not decimal[name]):
        points = [at for at, cell in enumerate(cells[name]) if "." in cell]
        whole = [cell for cell in cells[name] if "." not in cell]
        if points and (whole or doubtful) and all(len(cell.lstrip("+-")) <= 3 for cell in whole):
            cell = cells[name][points[0]]
            plain = cell.replace(".", "")
            message = f"{cell!r} may be {plain}, with a point between thousands, or {float(cell):g}"
            fail(path, lines[points[0]], f"column {name!r}: {message}; write {plain} or {cell}0")
