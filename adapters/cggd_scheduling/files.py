"""What readers and writers of files share: JSON, endings, keys, cells, and errors that name the file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from numbers import Real
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import networkx as nx

from cggd.io.text import StrPath, read_text, write_text

# What wrong entries raise in the end; a broken XML file is a SyntaxError.
WRONG = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    SyntaxError,
    nx.NetworkXException,
)


@contextmanager
def named(path: StrPath) -> Iterator[None]:
    """Let every error about what a file holds be a ValueError that begins with the file."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{path}: an entry {error} is missing") from None
    except RecursionError:
        raise ValueError(f"{path}: lists within lists, too deep to be read") from None
    except WRONG as error:
        known = isinstance(error, ValueError) and str(error).startswith(str(path))
        raise ValueError(str(error) if known else f"{path}: {error}") from None


def load_json(path: StrPath) -> Any:
    """What a JSON file holds, packed or not; an object that has a key twice is an error, not the last of them."""
    text = read_text(path)
    with named(path):
        try:
            return json.loads(text, object_pairs_hook=_without_repeats)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from None


def objects(data: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The list of objects that an object of JSON has under a key, or an error that says what is there instead."""
    rows = data[key]
    if not isinstance(rows, list):
        raise TypeError(f"{key} must be a list of objects, got {rows!r}")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise TypeError(f"{key} must be a list of objects, and the entry {number} is {row!r}")
    return rows


@contextmanager
def unpacked(path: StrPath) -> Iterator[Path]:
    """A file that is not packed, for libraries that read no other: the file itself, or a copy while it is needed."""
    if not str(path).lower().endswith(".gz"):
        yield Path(path)
        return
    with TemporaryDirectory() as folder:
        plain = Path(folder) / Path(path).stem
        write_text(plain, read_text(path))
        yield plain


def suffix(path: StrPath) -> str:
    """The ending of a file's name in lower case, that of what is packed where it ends in ``.gz``.

    Examples
    --------
    >>> suffix("a/Graph.JSON.gz"), suffix("J1010_1.MM")
    ('.json', '.mm')
    """
    return Path(str(path).lower().removesuffix(".gz")).suffix


def package(name: str, files: str, extra: str = "scheduling") -> Any:
    """An optional package, or an error that says what it is for and what to install."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"{files} need {name}: pip install cggd[{extra}]") from error


def check_keys(mapping: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Raise ValueError where an object has a key that nothing reads, with the known key that is most like it.

    Examples
    --------
    >>> check_keys({"duration": 3, "demand": {}}, ("mode", "duration", "demands"), "mode 1")
    Traceback (most recent call last):
    ValueError: mode 1 has an unknown key 'demand'; did you mean 'demands'? Known are mode, duration, demands
    """
    for key in mapping:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            meant = f"; did you mean {near[0]!r}? Known are" if near else "; known are"
            raise ValueError(f"{where} has an unknown key {key!r}{meant} {', '.join(known)}")


def csv_cell(value: Any) -> Any:
    """What a cell of a CSV file holds: a number as it is, and text so that no spreadsheet takes it for a formula.

    An apostrophe goes before text that begins with ``=``, ``+``, ``-``, ``@``, a tab or the end of a line (OWASP, CSV
    injection).

    Examples
    --------
    >>> csv_cell("=1+1"), csv_cell("a-b"), csv_cell(-3)
    ("'=1+1", 'a-b', -3)
    """
    if value is None or isinstance(value, Real):
        return value
    text = str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"an object has {next(key for key, n in counts.items() if n > 1)!r} twice")
    return found
