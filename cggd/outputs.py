"""Files that are written: whether they can be, told before work is spent on what they are to hold; and how."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from errno import EACCES
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO


def check_writable(path: str | PathLike[str], argument: str, *, replaced: bool = False) -> None:
    """Raise where a file cannot be written, before work is spent on what it is to hold.

    An existing file keeps its contents and its date, and no file is left behind where there was none.

    Parameters
    ----------
    path : str or path
    argument : str
        What named the file, for the message.
    replaced : bool
        Whether it is written by `replacing`, which needs a place beside it.

    Raises
    ------
    ValueError
        If the path is a folder, lies in none, or may not be written.
    """
    if os.path.isdir(path):
        raise ValueError(f"{argument} must be a file, got the folder {path}")
    try:
        target = os.path.abspath(path) if replaced else os.path.realpath(path)
        if not os.path.isdir(os.path.dirname(target)):
            raise ValueError(f"{argument} must be a file in a folder that exists, got {path}")
        if replaced:
            if os.path.exists(target) and not os.path.isfile(target):
                raise ValueError(f"{argument} must be a file that can be replaced, got {path}, a device or a pipe")
            part = _partial(Path(target))
            part.open("wb").close()
            part.unlink()
        elif not os.path.exists(target):
            # Whether a name may be made in a folder is known for sure by making it alone.
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            os.unlink(target)
        elif stat.S_ISFIFO(os.stat(target).st_mode):
            if not os.access(target, os.W_OK):
                raise PermissionError(EACCES, os.strerror(EACCES))
        else:
            handle = os.open(target, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOCTTY", 0))
            try:
                os.write(handle, b"")  # a device that is full says so
            finally:
                os.close(handle)
    except OSError as error:
        why = ": ".join(str(part) for part in (error.strerror or error, error.filename) if part)
        raise ValueError(f"{argument} must be a file that can be written, got {str(path)!r}: {why}") from error


def check_outputs(inputs: Collection[Path | None], outputs: Mapping[str, Path | None]) -> None:
    """Raise where a file cannot be written, or would be written over, before work is spent on it.

    Parameters
    ----------
    inputs : collection of path or None
        Files that are read.
    outputs : mapping of str to path or None
        Files that are to be written, by the option that names each.
    """
    taken = {os.path.realpath(path): "the input" for path in inputs if path is not None}
    for option, path in outputs.items():
        if path is None:
            continue
        check_writable(path, option)
        place = os.path.realpath(path)
        if not os.path.exists(place) or os.path.isfile(place):  # a device takes any number of files
            if place in taken:
                raise ValueError(f"{option} must be a file of its own, got {path}, which is {taken[place]} already")
            taken[place] = f"the file of {option}"


@contextmanager
def writing(files: Mapping[Path | None, Callable[[Path], Any]]) -> Iterator[None]:
    """Write files, then let the answer be printed, and then raise what went wrong with a file.

    Files come first, since a reader may close standard output; and an answer is printed even if the disk is full.

    Parameters
    ----------
    files : mapping of path or None to callable
        What writes each file; None is passed over.
    """
    failed: OSError | None = None
    for path, write in files.items():
        if path is not None:
            try:
                write(path)
            except OSError as error:
                failed = failed or error
    yield
    if failed is not None:
        raise failed


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write into, which takes the place of the one before only once it is whole and on the disk.

    Whatever is raised while it is written, the file before is kept, and nothing is left beside it.

    Parameters
    ----------
    path : Path
    """
    part = _partial(path)
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _sync_folder(folder: Path) -> None:
    """Bring the new name of a file to the disk, where the system can do that."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
