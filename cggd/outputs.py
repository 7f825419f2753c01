"""Output files: a check in advance that they can be written, and the writing."""

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
    """Raise a ValueError if a file cannot be written. No file is created or changed.

    Parameters
    ----------
    path : str or path
    argument : str
        The argument or option that names the file, for the message.
    replaced : bool
        Whether `replacing` writes it, which makes a second file in the same folder.
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
            # The only reliable test is to create the file.
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            os.unlink(target)
        elif stat.S_ISFIFO(os.stat(target).st_mode):
            if not os.access(target, os.W_OK):
                raise PermissionError(EACCES, os.strerror(EACCES))
        else:
            handle = os.open(target, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOCTTY", 0))
            with os.fdopen(handle, "ab", buffering=0) as file:
                file.write(b"")  # raises on a full device
    except OSError as error:
        why = ": ".join(str(part) for part in (error.strerror or error, error.filename) if part)
        raise ValueError(f"{argument} must be a file that can be written, got {str(path)!r}: {why}") from error


def check_outputs(inputs: Collection[Path | None], outputs: Mapping[str, Path | None]) -> None:
    """Raise a ValueError if an output cannot be written or would overwrite another file.

    Parameters
    ----------
    inputs : collection of path or None
    outputs : mapping of str to path or None
        Output files by their option.
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
    """Write files, let the caller print the answer, and then raise the first error of a file.

    Files are written first, because the reader of standard output may close it. After an error, the answer is printed.

    Parameters
    ----------
    files : mapping of path or None to callable
        The function that writes each file; the key None is skipped.
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
    """Open a file for writing that replaces the former file when it is complete and on the disk.

    After an error, the former file is kept and the incomplete one is removed.
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
    with suppress(OSError):  # some systems cannot write a folder to the disk
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")
