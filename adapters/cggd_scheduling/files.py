"""Shared by the readers of files: endings, gzipped files, lists of objects, and errors that name the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import networkx as nx

from cggd.entries import label_from_json, parse_json, shortened
from cggd.io.text import StrPath, read_text, write_text

# Errors that wrong entries raise; a broken XML file is a SyntaxError.
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
    """Turn every error about the contents of a file into a ValueError that begins with the path."""
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
    """Contents of a JSON file, gzipped or not."""
    return parse_json(read_text(path), path)


def objects(data: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The list of objects under a key of a JSON object; ValueError if it is something else."""
    rows = data[key]
    if not isinstance(rows, list):
        raise TypeError(f"{key} must be a list of objects, got {shortened(rows)}")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise TypeError(f"{key} must be a list of objects, and the entry {number} is {shortened(row)}")
    return rows


def rows_of(times: Mapping[Any, Any], width: int = 1) -> list[list[Any]]:
    """A mapping as rows of key and value, since keys of JSON objects are strings; `width` is 2 if keys are pairs."""
    return [[*(key if width > 1 else [key]), value] for key, value in times.items()]


def mapping_of(rows: Any, name: str, width: int = 1) -> dict[Any, Any]:
    """A mapping from the rows that `rows_of` made.

    Examples
    --------
    >>> mapping_of([["dig", "lay", 3]], "lags", 2)
    {('dig', 'lay'): 3}
    """
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == width + 1 for row in rows):
        words = ", ".join(["label"] * width)
        raise TypeError(f"{name} must be a list of [{words}, number], got {shortened(rows)}")
    found = {label_from_json(row[0] if width == 1 else row[:-1]): row[-1] for row in rows}
    if len(found) < len(rows):
        raise ValueError(f"{name} has something twice: {shortened(rows)}")
    return found


@contextmanager
def unpacked(path: StrPath) -> Iterator[Path]:
    """Path of the file itself or, if it is gzipped, of a temporary unpacked copy."""
    if not str(path).lower().endswith(".gz"):
        yield Path(path)
        return
    with TemporaryDirectory() as folder:
        plain = Path(folder) / Path(path).stem
        write_text(plain, read_text(path))
        yield plain


def suffix(path: StrPath) -> str:
    """The ending of a file name in lower case, without ``.gz``.

    Examples
    --------
    >>> suffix("a/Graph.JSON.gz"), suffix("J1010_1.MM")
    ('.json', '.mm')
    """
    return Path(str(path).lower().removesuffix(".gz")).suffix


def package(name: str, files: str, extra: str = "scheduling") -> Any:
    """Import an optional package, or raise ImportError that says what it is for and what to install."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"{files} need {name}: pip install cggd[{extra}]") from error
