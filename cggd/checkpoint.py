"""Checkpoints: a search's state in one file, replaced as a whole so that an interrupted write loses nothing."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
