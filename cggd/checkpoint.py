"""Checkpoints: the state of a search in one file, which is replaced as a whole."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cggd.metrics import Metric
from cggd.outputs import replacing
from cggd.space import ChoiceSpace

# Number of the format, increased with every change of the stored data.
FORMAT = 4

# First line of a file, with a checksum of the npz archive that follows. The archive's own do not cover all bytes.
HEADER = re.compile(rb"cggd-checkpoint ([0-9]{1,9}) ([0-9a-f]{64})\n")

# What to do about a file that cannot be used.
INSTEAD = "delete the file, or give another name, to begin a new search"

# Largest depth of nested attributes of a fitted model.
DEEPEST = 40


def save(path: Path, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write facts (as JSON) and arrays to a file; if an OSError is raised, the former file is kept."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, facts=np.array(json.dumps(facts)), **arrays)
    data = content.getbuffer()
    with replacing(path) as file:
        file.write(b"cggd-checkpoint %d %s\n" % (FORMAT, _checksum(data)))
        file.write(data)


def load(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read a file that `save` wrote; the ValueError of a damaged or other file names it."""
    what = f"{path} is not a cggd checkpoint, or is damaged"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{what}: it cannot be read ({error})") from error
    header = HEADER.match(data)
    if header is None:
        raise ValueError(
            f"{what}, or was written by an older version: it does not begin as format {FORMAT} does; {INSTEAD}"
        )
    version, checksum = int(header[1]), header[2]
    if version != FORMAT:
        raise ValueError(
            f"{path} was written by another version of cggd: it has format {version}, and this version reads format "
            f"{FORMAT}; use that version, or {INSTEAD}"
        )
    content = memoryview(data)[header.end() :]
    if _checksum(content) != checksum:
        raise ValueError(f"{what}: its content does not match its checksum; {INSTEAD}")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts = json.loads(str(arrays.pop("facts")))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError, AttributeError, TypeError) as error:
        raise ValueError(f"{what} ({type(error).__name__}: {error})") from error
    if not isinstance(facts, dict):
        raise ValueError(f"{what}: its facts are a {type(facts).__name__}, not a mapping")
    return facts, arrays


def digest(thing: Any) -> str:
    """A hash of the data that determine a metric's values, or of the numbers in an array.

    It covers arrays, graphs with their attributes, texts and numbers, also in composed metrics and in fitted models. It
    does not cover the code of users' functions and metric classes.
    """
    state = hashlib.blake2b(digest_size=8)
    _feed(state.update, thing, ())
    return state.hexdigest()


def _feed(put: Callable[[bytes], Any], thing: Any, above: tuple[int, ...]) -> None:
    """Feed the type and content of an object to the hash; `above` are the ids of the objects that contain it."""

    def parts(kind: str, *members: Any) -> None:
        put(f"<{kind} {len(members)}>".encode())
        for member in members:
            _feed(put, member, (*above, id(thing)))

    if isinstance(thing, np.generic):
        thing = thing.item()
    if isinstance(thing, ChoiceSpace) or id(thing) in above or len(above) > DEEPEST:
        return
    if thing is None or isinstance(thing, bool | int | float | complex | str | bytes | range | Enum):
        put(f"<{type(thing).__name__} {thing!r}>".encode())
    elif isinstance(thing, np.ndarray):
        if thing.dtype.hasobject:
            parts(f"array {thing.shape}", *thing.ravel().tolist())
        else:
            put(f"<array {thing.dtype.str} {thing.shape}>".encode())
            put(np.ascontiguousarray(thing).tobytes())
    elif sparse.issparse(thing):
        rows = thing.tocsr() if thing.ndim == 2 else thing.toarray()
        parts("sparse", *([rows] if thing.ndim != 2 else [thing.shape, rows.indptr, rows.indices, rows.data]))
    elif isinstance(thing, nx.Graph):
        parts(type(thing).__name__, list(thing.nodes(data=True)), list(thing.edges(data=True)))
    elif isinstance(thing, set | frozenset):
        parts("set", *sorted(digest(member) for member in thing))
    elif is_dataclass(thing) and not isinstance(thing, type):
        # A field that is not an argument and begins empty is a cache, and is left out.
        stored = [field for field in fields(thing) if field.init or field.default_factory is MISSING]
        parts(type(thing).__qualname__, *(getattr(thing, field.name, None) for field in stored))
    elif isinstance(thing, Mapping):
        parts("mapping", *thing.keys(), *thing.values())
    elif isinstance(thing, list | tuple):
        parts("list", *thing)
    elif isinstance(thing, Metric):
        parts(type(thing).__qualname__)
    elif hasattr(thing, "__array__"):
        detach = getattr(thing, "detach", None)  # a tensor that is being differentiated has no array of its own
        with suppress(Exception):
            parts("array", np.asarray(thing if detach is None else detach().cpu()))
    elif hasattr(thing, "predict") or not callable(thing):
        state: Any = None
        with suppress(Exception):  # some objects have no state that can be copied
            state = thing.__getstate__()  # pyright: ignore[reportCallIssue]
        parts(type(thing).__qualname__, state)


def _checksum(data: memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=32).hexdigest().encode()
