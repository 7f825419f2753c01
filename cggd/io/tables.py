"""Option tables and selections as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, NoReturn
from unicodedata import normalize

import numpy as np

from cggd.entries import shortened
from cggd.io.sheets import sheet_rows
from cggd.io.text import StrPath, csv_text, fail, is_number, not_a_number, read_text, to_numbers, write_csv
from cggd.metrics import Additive, Metric
from cggd.metrics.base import sum_table_of
from cggd.result import Result
from cggd.space import ChoiceSpace, few

# A number with a decimal comma.
_COMMA = re.compile(r"[-+]?\d*,\d{1,2}|[-+]?\d*,\d{4,}|[-+]?0,\d+", re.ASCII)
_ANNOUNCED = re.compile(r"(\"?sep=.\"?)\r?\n")
# A number with a unit before or after it, such as $10, 10 EUR and 10%.
_WITH_UNIT = re.compile(r"([^-+.,\w\s]*)\s*([-+]?[\d.,]+)\s*([^\W\d_]*|[^-+.,\w\s]*)", re.ASCII)
# A number whose point may separate thousands, or that has no point.
_UNCLEAR = re.compile(r"[-+]?([1-9]\d{0,2}\.\d{3}|\d+)", re.ASCII)


def read_options(
    path: StrPath,
    *,
    decimal: Literal[".", ","] = ".",
    decision_column: str = "decision",
    note: Callable[[str], None] | None = None,
) -> tuple[ChoiceSpace, dict[str, Additive]]:
    r"""Read a table of options, with a row for each option and a column for each metric.

    The header has the columns ``decision`` and ``option`` and those of the metrics, in any order. The heading ``latency
    [ms]`` or ``latency (ms)`` is a metric ``latency`` with the unit ``ms``. Rows may be in any order. Fields are
    separated by commas, semicolons, tabs or vertical bars, and may be quoted. Labels are text without blanks around
    them. An apostrophe before a label that a spreadsheet program would read as a formula, such as ``'=1+1``, is
    removed.

    Numbers have a decimal point and no separators of thousands. An ambiguous column is an error: ``1.250`` beside
    ``900`` may be 1250 or 1.25. A column is not ambiguous if another cell decides (``0.900``, ``1.5``, ``1250``) or all
    its numbers have three decimals. The latter does not suffice in files with semicolons, which usually have decimal
    commas, unless some number of the file has a decimal point for certain.

    Parameters
    ----------
    path : str or path
        UTF-8 text, or a file ``.xlsx`` or ``.parquet``, which pandas or polars reads (``pip install cggd[tables]``).
    decimal : {".", ","}
        The decimal sign.
    decision_column : str
        Heading of the column of decisions.
    note : callable, optional
        If given, text in UTF-16 or Windows-1252 and columns without numbers are read, too, and `note` is called with a
        message about them. Columns of text become attributes of the space, and are an error if used as a metric.

    Returns
    -------
    space : ChoiceSpace
        Decisions and options are in the order of the table.
    metrics : dict of str to Additive

    Raises
    ------
    ValueError, OSError
        If the file is not such a table, or cannot be opened.

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
    delimiter, records = _table(path, note, decision_column)
    header_line, header = next(records)
    header = [csv_text(cell) for cell in header]
    columns = _headings(path, header_line, header, decision_column)
    at_decision, at_option = (_place(header, name) for name in (decision_column, "option"))
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
    order = [row for options in groups.values() for row in options.values()]
    cells = {name: [row[place] for row in rows] for name, (place, _) in columns.items()}
    numbers: dict[str, Any] = {}
    found = _Columns()
    for name in columns:
        try:
            numbers[name] = to_numbers([_pointed(cell, decimal) for cell in cells[name]])[order]
        except ValueError:
            wrong = _not_numbers(path, name, cells[name], lines, decimal)
            # A column with a unit holds numbers, of which some may be missing.
            if note is None or (wrong.cell and columns[name][1]) or _COMMA.fullmatch(wrong.cell):
                raise wrong.error from None
            found.unread[name] = wrong
    texts = {name: [cells[name][row] for row in order] for name in found.unread}
    space = ChoiceSpace({d: list(options) for d, options in groups.items()}, attributes=texts)
    for name, values in numbers.items():
        found[name] = Additive(space, values, name=name, unit=columns[name][1])
    kept = {name: column for name, column in cells.items() if name in numbers}
    if decimal == ".":
        _check_points(path, kept, lines, comma_is_usual=delimiter == ";")
    if found.unread and note is not None:
        each = ", ".join(
            f"{name!r} (line {wrong.line}: {shortened(wrong.cell)})" for name, wrong in found.unread.items()
        )
        note(f"{path}: columns without numbers describe options only: {each}")
    return space, found


@dataclass(frozen=True)
class _Wrong:
    """The first cell of a column that is no number."""

    line: int
    cell: str
    error: ValueError


class _Columns(dict[str, Additive]):
    """Metrics by name. Access to a column without numbers raises the error of its first wrong cell."""

    def __init__(self) -> None:
        super().__init__()
        self.unread: dict[str, _Wrong] = {}

    def __contains__(self, name: object) -> bool:
        if name in self.unread:
            raise self.unread[str(name)].error
        return super().__contains__(name)

    def __missing__(self, name: str) -> Additive:
        if name in self.unread:
            raise self.unread[name].error
        raise KeyError(name)


def _not_numbers(path: StrPath, name: str, cells: list[str], lines: list[int], decimal: str) -> _Wrong:
    """The first cell of a column that is no number, with its error."""
    at, cell = next((i, c) for i, c in enumerate(cells) if not is_number(_pointed(c, decimal)))
    hint = '; for decimal commas give decimal="," (--decimal ,)' if decimal == "." and _COMMA.fullmatch(cell) else ""
    match = _WITH_UNIT.fullmatch(cell)
    if match and (unit := match[1] or match[3]):
        hint = f"; write {match[2]}, with the unit in the heading: {name} [{unit}]"
    if decimal == "," and "." in cell:
        what = f"expected a number with a decimal comma, got {shortened(cell)}, where the point may separate thousands"
    else:
        what = not_a_number(cell)
    return _Wrong(lines[at], cell, ValueError(f"{path}, line {lines[at]}: column {name!r}: {what}{hint}"))


def _pointed(cell: str, decimal: str) -> str:
    """A number with a decimal point; with decimal commas, one with a point is not a number."""
    if decimal == ".":
        return cell
    return "point" if "." in cell and "," not in cell else cell.replace(",", ".")


def write_options(space: ChoiceSpace, metrics: Iterable[Additive] | Mapping[str, Additive], path: StrPath) -> None:
    """Write a table that `read_options` reads, with the same numbers.

    Labels are read as text: the option ``3`` becomes ``"3"``. A label or a name that a spreadsheet program would read
    as a formula, such as ``=1+1`` or ``-3``, gets an apostrophe before it, which `read_options` removes.

    Parameters
    ----------
    space : ChoiceSpace
    metrics : list of Additive, or mapping to them
        Metrics of this space without a constant, since the table cannot hold one.
    path : str or path

    Raises
    ------
    TypeError, ValueError
        If a metric is not additive, or the table would be read differently. No file is written.

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
    r"""Write a selection as CSV: columns ``decision`` and ``option``, with formulas escaped as in `write_options`.

    Parameters
    ----------
    selection : mapping of decision to option, or None
        Such as `Result.selection`. For None, only the header is written.
    path : str or path

    Examples
    --------
    >>> write_selection({"stem": "conv3", "pool": "-1"}, "chosen.csv")
    >>> read_text("chosen.csv")
    "decision,option\nstem,conv3\npool,'-1\n"
    """
    rows = [(str(decision), str(option)) for decision, option in (selection or {}).items()]
    write_csv(path, [("decision", "option"), *rows])


def write_answers(
    result: Result,
    path: StrPath,
    *,
    metrics: Mapping[str, Metric] | None = None,
    decimal: str = ".",
) -> None:
    r"""Write the selection of a `Result` as CSV, with what each option adds to each metric, and the totals.

    The columns are ``decision``, ``option`` and one for each metric. A metric that is a sum has a number in each row.
    The last row, ``total``, has the values of all metrics, also of those that are not sums. Constants of sums are in
    the row ``constant`` before it. Several answers stand one below the other, with a first column ``answer``. Formulas
    are escaped as in `write_options`.

    Parameters
    ----------
    result : Result
        Without a selection, only the header is written.
    path : str or path
    metrics : mapping of name to Metric, optional
        Sums that get a column, besides the objective and the metrics of the constraints. A result that was read from a
        file knows no metrics.
    decimal : {".", ","}
        With decimal commas, cells are separated by semicolons.

    Examples
    --------
    >>> from cggd import minimize
    >>> space = ChoiceSpace({"frame": ["steel", "carbon"], "wheels": ["standard", "light"]})
    >>> price = Additive(space, [90, 400, 60, 210], name="price", unit="EUR")
    >>> weight = Additive(space, [1900, 950, 1700, 1400], name="weight", unit="g")
    >>> write_answers(minimize(price, [weight <= 3000]), "chosen.csv")
    >>> print(read_text("chosen.csv"), end="")
    decision,option,price [EUR],weight [g]
    frame,carbon,400,950
    wheels,standard,60,1700
    total,,460,2650
    """
    problem = result.problem
    columns: list[Metric] = [] if problem is None else [problem.objective]
    columns += [] if problem is None else [c.metric for c in problem.constraints if not c.words]
    columns += [metric for metric in (metrics or {}).values() if sum_table_of(metric) is not None]
    columns = list({id(metric): metric for metric in columns}.values())
    several = bool(result.alternatives)
    header = [f"{metric.name} [{metric.unit}]" if metric.unit else metric.name for metric in columns]
    rows: list[list[Any]] = [[*(["answer"] if several else []), "decision", "option", *header]]
    for number, answer in enumerate((result, *result.alternatives), start=1):
        if answer.selection is not None:
            rows += [[number, *row] if several else row for row in _shares_of(answer, columns)]
    write_csv(path, rows, decimal=decimal)


def _shares_of(answer: Result, metrics: Sequence[Metric]) -> list[list[Any]]:
    """Rows of a selection: the decisions with what their options add to each metric, the constants, and the totals."""
    known: dict[int, float | None] = {}
    if answer.problem is not None:
        pairs = zip(answer.problem.constraints, answer.constraints, strict=False)
        known = {id(c.metric): row.value for c, row in pairs if c.confidence is None}
        known[id(answer.problem.objective)] = answer.value
    shares, constants, totals = [], [], []
    for metric in metrics:
        table, n = sum_table_of(metric), metric.space.n_decisions
        chosen = [] if table is None else table.values[metric.space.layout.flat(np.asarray(answer.indices))].tolist()
        shares.append(chosen or [None] * n)
        constants.append(None if table is None else table.constant)
        totals.append(known.get(id(metric)) if table is None else metric(np.asarray(answer.indices)))
    pairs = enumerate((answer.selection or {}).items())
    rows = [[str(decision), str(option), *(_short(one[at]) for one in shares)] for at, (decision, option) in pairs]
    if any(constants):
        rows.append(["constant", "", *map(_short, constants)])
    return rows + ([["total", "", *map(_short, totals)]] if metrics else [])


def _short(number: float | None) -> float | None:
    """A whole number without a decimal point."""
    if number is None:
        return None
    return int(number) if float(number).is_integer() and abs(number) < 1e15 else float(number)


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


def _table(
    path: StrPath, note: Callable[[str], None] | None, decision_column: str
) -> tuple[str, Iterator[tuple[int, list[str]]]]:
    """The delimiter, and the rows that are not blank with their line numbers, the header first."""
    if str(path).lower().endswith((".xlsx", ".parquet")):
        rows = sheet_rows(path)
        if not _is_header(rows[0][1], decision_column):
            _fail_without_header(path, *rows[0], decision_column, rows)
        return "", iter(rows)
    text = read_text(path, note)
    if note is not None:
        text = normalize("NFC", text)
    announced = _ANNOUNCED.match(text)  # a first line such as sep=; that Excel writes and reads
    text = text if announced is None else text[: announced.start(1)] + "\n" + text[announced.end() :]
    delimiter = _delimiter(path, text, decision_column)
    records = _records(path, text, delimiter)
    line, header = next(records)
    if header[-1]:
        return delimiter, chain([(line, header)], records)
    # Every line ends with a delimiter.
    rows = [(line, header), *records]
    ends = all(len(cells) == len(header) and not cells[-1] for _, cells in rows)
    return delimiter, iter([(line, cells[:-1]) for line, cells in rows] if ends else rows)


def _place(header: list[str], name: str) -> int:
    """Place of a column, whose heading may have other capitals."""
    return header.index(name) if name in header else [cell.lower() for cell in header].index(name.lower())


def _delimiter(path: StrPath, text: str, decision_column: str) -> str:
    """The separator that divides the header into fields with ``decision`` and ``option`` among them."""
    headers = []
    for delimiter in ",;\t|":
        try:
            line, header = next(_records(path, text, delimiter))
        except StopIteration:
            fail(path, 1, "the file is empty; expected a header such as decision,option,latency [ms]")
        except ValueError:
            continue
        if _is_header(header, decision_column):
            return delimiter
        headers.append((len(header), line, header))
    if not headers:
        next(_records(path, text, ","))
    _, line, header = max(headers)
    _fail_without_header(path, line, header, decision_column, _rows_of_any(path, text))


def _is_header(cells: Iterable[str], decision_column: str) -> bool:
    return {decision_column.lower(), "option"} <= {cell.lower() for cell in cells}


def _rows_of_any(path: StrPath, text: str) -> Iterator[tuple[int, list[str]]]:
    """Rows of a text by each delimiter in turn, as far as it can be read."""
    for delimiter in ",;\t|":
        with suppress(ValueError):
            yield from _records(path, text, delimiter)


def _fail_without_header(
    path: StrPath, line: int, header: list[str], decision_column: str, rows: Iterable[tuple[int, list[str]]]
) -> NoReturn:
    """Raise an error about a first row that is no header, and say whether a later one is, as below a title."""
    missing = [name for name in (decision_column, "option") if name.lower() not in [cell.lower() for cell in header]]
    hint = "; --decision-column (decision_column) gives it another name" if missing == [decision_column] else ""
    if (below := next((line for line, cells in rows if _is_header(cells, decision_column)), None)) is not None:
        hint = f"; line {below} has these headings, so delete the lines above it"
    elif "option" in missing:
        hint = f"; rename the headings of the columns that hold them to {' and '.join(map(repr, missing))}"
    fail(path, line, f"expected a header with a column {' and '.join(map(repr, missing))}, got {few(header)}{hint}")


def _headings(
    path: StrPath, line: int, header: list[str], decision_column: str = "decision"
) -> dict[str, tuple[int, str]]:
    """Place and unit of each metric's column, by name."""
    columns: dict[str, tuple[int, str]] = {}
    seen: set[str] = set()
    labels = [_place(header, name) for name in (decision_column, "option")]
    for place, text in enumerate(header):
        name, unit = _heading(text)
        if not name:
            fail(path, line, f"column {place + 1} has no name")
        if name in seen:
            fail(path, line, f"there are two columns {name!r}; names must differ in more than the unit")
        seen.add(name)
        if place not in labels:
            columns[name] = place, unit
    return columns


def _heading(text: str) -> tuple[str, str]:
    match = re.fullmatch(r"(.*?)\s*(?:\[([^\[\]]*)\]|\(([^()]*)\))", text, re.DOTALL)
    return (match[1], (match[2] or match[3] or "").strip()) if match and match[1] else (text, "")


def _survives(label: str) -> bool:
    """Whether a label is read as it was written."""
    return bool(label) and label == label.strip() and not re.search(r"[\r\n\0]", label)


def _check_points(path: StrPath, cells: dict[str, list[str]], lines: list[int], *, comma_is_usual: bool) -> None:
    """Raise an error if points of a column may separate thousands or decimals."""
    # In 0.900, 1.5 and 1e3 the point is a decimal point; a column with 1250 has no separators of thousands.
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
