"""Checkpoints: a search's state in one file, replaced as a whole so that an interrupted write loses nothing."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cggd.metrics import Metric


def save(path: Path, facts: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> None:
    """Write JSON-able facts and arrays to an npz file."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, facts=np.array(json.dumps(facts)), **arrays)
    os.replace(partial, path)


def load(path: Path) -> tuple[dict[str, Any], dict[str, NDArray]]:
    """Read what `save` wrote.

    Raises
    ------
    ValueError
        If the file is not a checkpoint.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts = json.loads(str(arrays.pop("facts")))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError, AttributeError, TypeError) as error:
        # What numpy says of a file that is no archive leads astray: it offers to unpickle it.
        raise ValueError(f"{path} is not a cggd checkpoint, or is damaged ({type(error).__name__})") from error
    return facts, arrays


def digest(thing: Any) -> int:
    """A number that changes with the numbers in an array, or in a metric however composed; functions do not count."""
    if isinstance(thing, np.ndarray):
        return zlib.crc32(np.ascontiguousarray(thing).tobytes(), len(thing))
    if sparse.issparse(thing):
        return digest(thing.toarray() if thing.ndim == 1 else thing.tocsr().data)
    if isinstance(thing, list | tuple):
        return zlib.crc32(repr([digest(part) for part in thing]).encode())
    if is_dataclass(thing) and isinstance(thing, Metric):
        return digest([getattr(thing, field.name) for field in fields(thing) if field.name != "space"])
    return zlib.crc32(repr(thing).encode()) if isinstance(thing, str | int | float | None) else 0
