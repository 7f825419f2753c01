"""Text files, and errors that name the file and the line."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from codecs import BOM_UTF8
from math import inf, isfinite
from os import PathLike
from pathlib import Path
from typing import Literal, NoReturn

StrPath = str | PathLike[str]
_FORMULA = re.compile(r"'*[=+\-@\t\r]")

Sense = Literal["minimize", "maximize"]


def read_text(path: StrPath) -> str:
    """The text of a file, unpacked where it is gzip."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{path}: expected a file, got a folder") from None
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: expected whole gzip data: {error}") from None
    try:
        return data.removeprefix(BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        fail(path, data.count(b"\n", 0, error.start) + 1, f"expected UTF-8 text, got byte {data[error.start]:#04x}")


def write_text(path: StrPath, text: str) -> None:
    """Write text, packed where the path ends in ``.gz``."""
    data = text.encode()
    # Without a time stamp the same contents give the same bytes.
    Path(path).write_bytes(gzip.compress(data, mtime=0) if str(path).endswith(".gz") else data)


def number_rows(path: StrPath, first: str) -> list[tuple[int, list[float]]]:
    """Numbers of each line that is not blank, with its number."""
    rows = []
    for line, text in enumerate(io.StringIO(read_text(path), newline=None), start=1):
        if words := text.split():
            try:
                numbers = [float(word) for word in words]
            except ValueError:
                numbers = [inf]
            if not all(map(isfinite, numbers)):
                fail(path, line, next(not_a_number(word) for word in words if not is_number(word)))
            rows.append((line, numbers))
    if not rows:
        fail(path, 1, f"the file is empty; expected {first}")
    return rows


def whole(path: StrPath, line: int, number: float) -> int:
    """A positive whole number."""
    if number < 1 or number % 1:
        fail(path, line, f"expected a positive whole number, got {number:g}")
    return int(number)


def is_number(word: str) -> bool:
    """Whether a word is a finite number."""
    try:
        return isfinite(float(word))
    except ValueError:
        return False


def not_a_number(word: str) -> str:
    """What is wrong with a word that is no finite number."""
    if not word:
        return "the cell is empty; expected a number"
    hint = ", with a decimal point instead of a comma" if re.fullmatch(r"[-+]?[\d.]*,\d+.*", word) else ""
    return f"expected a finite number{hint}, got {word!r}"


def csv_cell(text: object) -> str:
    """Text for a cell of a CSV file that a spreadsheet program does not take for a formula.

    A text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return gets an apostrophe before it, and so
    does one that begins with apostrophes before such a character, so that `csv_text` gives every text again.

    References
    ----------
    OWASP, "CSV Injection".

    Examples
    --------
    >>> csv_cell("=1+1"), csv_cell("conv3"), csv_cell("'=1+1")
    ("'=1+1", 'conv3', "''=1+1")
    """
    text = str(text)
    return f"'{text}" if _FORMULA.match(text) else text


def csv_text(cell: str) -> str:
    """The text that `csv_cell` made a cell of.

    Examples
    --------
    >>> csv_text("'=1+1"), csv_text("'tis")
    ('=1+1', "'tis")
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def fail(path: StrPath, line: int, message: str) -> NoReturn:
    """Raise an error that names the file and the line."""
    raise ValueError(f"{path}, line {line}: {message}") from None
