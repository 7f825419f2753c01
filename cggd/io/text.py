"""Text files, and errors that name the file and the line."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import sys
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from cggd.entries import shortened

StrPath = str | PathLike[str]
# Assumed memory of a machine that does not report it.
ASSUMED = 1 << 33

_FOREIGN = re.compile(r"[^-+0-9.eE]")
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_CANNOT_READ = {FileNotFoundError: "no such file", IsADirectoryError: "expected a file, got a folder"}

Sense = Literal["minimize", "maximize"]
_T = TypeVar("_T")


def read_text(path: StrPath, note: Callable[[str], None] | None = None) -> str:
    """Read the text of a file, which may be compressed by gzip; the path ``-`` is standard input.

    The text must be UTF-8. With `note`, UTF-16 with a byte order mark and Windows-1252 are read, too, and `note` is
    called with a message. At most `most_bytes` are read or unpacked, because a device may never end and a few megabytes
    of gzip may unpack to gigabytes.
    """
    most = most_bytes()
    try:
        if str(path) == "-":
            data = _standard_input(most + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(most + 1)
    except OSError as error:
        why = _CANNOT_READ.get(type(error), f"cannot be read: {error.strerror or error}")
        raise type(error)(f"{path}: {why}") from None
    if data.startswith(b"\x1f\x8b") and len(data) <= most:
        try:
            with gzip.open(io.BytesIO(data)) as packed:
                data = packed.read(most + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: expected whole gzip data: {error}") from None
    if len(data) > most:
        raise ValueError(
            f"{path}: holds more than {most / 1e6:.0f} MB of text, a sixteenth of this machine's memory; "
            "give a smaller file, or use a machine with more memory"
        )
    if note is not None:
        data = _foreign(path, data, note)
    if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        fail(path, 1, f"expected UTF-8 text, got byte {data[0]:#04x} of UTF-16; save the file as UTF-8")
    try:
        text = data.removeprefix(BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        fail(path, data.count(b"\n", 0, error.start) + 1, f"expected UTF-8 text, got byte {data[error.start]:#04x}")
    if (at := text.find("\0")) >= 0:
        fail(path, text.count("\n", 0, at) + 1, "expected text, got a zero byte")
    return text


def _foreign(path: StrPath, data: bytes, note: Callable[[str], None]) -> bytes:
    """UTF-8 for data in UTF-16 with a byte order mark or in Windows-1252; anything else comes back unchanged."""
    wide = data.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    if not wide:
        with suppress(UnicodeDecodeError):
            data.decode()
            return data
    try:
        text = data.decode("utf-16" if wide else "cp1252")
    except UnicodeDecodeError:
        return data
    said = "UTF-16"
    if not wide:
        odd = next((line for line in text.splitlines() if not line.isascii()), "")
        said = f"Windows-1252 (it is not UTF-8): {shortened(odd)}"
    note(f"{path} was read as {said}")
    return text.encode()


@cache
def _standard_input(most: int) -> bytes:
    """The content of standard input, which can be read only once."""
    return sys.stdin.buffer.read(most)


def read_lines(path: StrPath) -> list[tuple[int, str]]:
    """The lines of a text file with their numbers, without empty ones and those that begin with ``#``."""
    lines = enumerate(read_text(path).splitlines(), start=1)
    return [(number, line) for number, line in lines if line.strip() and not line.lstrip().startswith("#")]


def parse_lines(path: StrPath, parse: Callable[[str], _T]) -> list[_T]:
    """Parse each of `read_lines`; the ValueError of a line names the file and its number."""
    found = []
    for number, line in read_lines(path):
        try:
            found.append(parse(line))
        except ValueError as error:
            fail(path, number, str(error))
    return found


def most_bytes() -> int:
    """Largest number of bytes of text to read: a sixteenth of the memory that this process may use.

    A table in memory takes about ten times the size of its file: its cells are strings, then numbers.
    """
    room = [ASSUMED]
    with suppress(AttributeError, OSError, ValueError):
        room = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with suppress(ImportError):  # Windows has no such limits
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        room += [limit] if limit != resource.RLIM_INFINITY else []
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            room.append(int(Path(name).read_text()))
    return min(room) // 16


def write_text(path: StrPath, text: str) -> None:
    """Write text, compressed if the path ends in ``.gz``."""
    data = text.encode()
    try:
        # Without a time stamp the same contents give the same bytes.
        Path(path).write_bytes(gzip.compress(data, mtime=0) if str(path).endswith(".gz") else data)
    except OSError as error:
        raise type(error)(f"{path}: cannot be written: {error.strerror or error}") from None


def write_csv(path: StrPath | None, rows: Iterable[Iterable[Any]], *, decimal: str = ".") -> str:
    """Rows as CSV, also written to `path` if it is given; strings become `csv_cell`, numbers stay as they are.

    With decimal commas, cells are separated by semicolons.
    """
    if decimal not in (".", ","):
        raise ValueError(f'decimal must be "." or ",", got {decimal!r}')
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n", delimiter="," if decimal == "." else ";")

    def written(cell: Any) -> Any:
        if isinstance(cell, str):
            return csv_cell(cell)
        return str(cell).replace(".", ",") if decimal == "," and cell is not None else cell

    writer.writerows([written(cell) for cell in row] for row in rows)
    if path is not None:
        write_text(path, table.getvalue())
    return table.getvalue()


def number_rows(path: StrPath, first: str) -> list[tuple[int, list[float]]]:
    """Line number and numbers of each line that is not blank."""
    rows = []
    for line, text in enumerate(io.StringIO(read_text(path), newline=None), start=1):
        if words := text.split():
            try:
                rows.append((line, to_numbers(words).tolist()))
            except ValueError:
                fail(path, line, next(not_a_number(word) for word in words if not is_number(word)))
    if not rows:
        fail(path, 1, f"the file is empty; expected {first}")
    return rows


def whole(path: StrPath, line: int, number: float) -> int:
    """A positive whole number."""
    if number < 1 or number % 1:
        fail(path, line, f"expected a positive whole number, got {number:g}")
    return int(number)


def to_numbers(words: Sequence[str]) -> NDArray[np.float64]:
    """Convert words to finite numbers; used for tables, text files, bounds and options.

    A number has digits and may have a sign, a decimal point and an exponent. Underscores, ``inf``, ``nan`` and digits
    of other scripts, which Python accepts, are a ValueError.

    Examples
    --------
    >>> to_numbers(["1.5", "-2e3"])
    array([ 1.5e+00, -2.0e+03])
    """
    if _FOREIGN.search("".join(words)):
        raise ValueError("a word holds a character that numbers do not have")
    numbers = np.fromiter(map(float, words), float, len(words))
    if not np.isfinite(numbers).all():
        raise ValueError("a number is too large")
    return numbers


def to_number(word: str) -> float:
    """Convert a word to a finite number; for other words, the ValueError says what to write instead.

    Examples
    --------
    >>> to_number("1_000")
    Traceback (most recent call last):
    ValueError: expected a finite number without underscores, got '1_000'; write 1000
    """
    try:
        return float(to_numbers([word])[0])
    except ValueError:
        raise ValueError(not_a_number(word)) from None


def is_number(word: str) -> bool:
    """Whether a word is a finite number."""
    with suppress(ValueError):
        return bool(to_numbers([word]).size)
    return False


def not_a_number(word: str) -> str:
    """Message about a word that is not a finite number, with the correct form if possible."""
    if not word:
        return "the cell is empty; expected a number"
    got = shortened(word)
    if re.fullmatch(r"[-+]?\d[\d_]*(\.[\d_]*)?", word, re.ASCII) and "_" in word:
        plain = shortened(word.replace("_", ""))[1:-1]
        return f"expected a finite number without underscores, got {got}; write {plain}"
    if thousands := re.fullmatch(r"[-+]?[1-9]\d{0,2}(?:(,\d{3})+|(\.\d{3})+)", word, re.ASCII):  # 1,250 and 1.250.000
        single = thousands[1] and word.count(",") == 1
        other = f", or with a decimal point instead of a comma: {word.replace(',', '.')}0" if single else ""
        plain = re.sub("[,.]", "", word)
        return f"expected a finite number without marks between thousands, got {got}; write {plain}{other}"
    hint = ", with a decimal point instead of a comma" if re.fullmatch(r"[-+]?[\d.]*,\d+.*", word) else ""
    return f"expected a finite number{hint}, got {got}"


def csv_cell(text: object) -> str:
    """Text for a cell of a CSV file that a spreadsheet program does not read as a formula (OWASP, "CSV Injection").

    A text that begins with ``=``, ``+``, ``-``, ``@``, a tab or the end of a line, or with apostrophes before such a
    character, gets an apostrophe before it. `csv_text` restores the text.

    Examples
    --------
    >>> csv_cell("=1+1"), csv_cell("conv3"), csv_cell("'=1+1")
    ("'=1+1", 'conv3', "''=1+1")
    """
    text = str(text)
    return f"'{text}" if _FORMULA.match(text) else text


def csv_text(cell: str) -> str:
    """The text of a cell that `csv_cell` made.

    Examples
    --------
    >>> csv_text("'=1+1"), csv_text("'tis")
    ('=1+1', "'tis")
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def fail(path: StrPath, line: int, message: str) -> NoReturn:
    """Raise an error that names the file and the line."""
    raise ValueError(f"{path}, line {line}: {message}") from None
