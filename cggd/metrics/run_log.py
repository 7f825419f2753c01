"""The log of measurements: JSON lines, appended as each call ends, shared by threads and processes."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd.checks import short
from cggd.entries import check_keys, label_from_json, label_to_json, parse_json
from cggd.outputs import check_writable
from cggd.space import ChoiceSpace

try:
    import fcntl
except ImportError:  # Windows: the log is safe between threads, but not between processes
    fcntl = None

# Keys of a line.
KEYS = ("selection", "values", "invalid", "error", "seconds", "time")

# Number of lock bytes. To claim a selection locks one of them; two selections with the same byte wait for each other.
CLAIMS = 1 << 40


class RunLog:
    """A file of measurements.

    The first line has the space and the metrics. Each further line is one call: the labels of the selection, the
    numbers or the reason why the selection is invalid, the duration in seconds, and the time of the end. Lines are
    written under a lock and flushed to the disk. An incomplete last line, left by a crash, is removed.

    Parameters
    ----------
    path : path
    space : ChoiceSpace
    units : mapping of metric to unit

    Raises
    ------
    ValueError
        If the file is a log of another space, or a line is damaged.
    """

    path: Path
    space: ChoiceSpace
    units: dict[str, str]

    def __init__(self, path: str | os.PathLike[str], space: ChoiceSpace, units: Mapping[str, str]) -> None:
        check_writable(path, "log")
        self.path, self.space, self.units = Path(path), space, dict(units)
        self._keys = {_key(d): d for d in space.decisions}
        if len(self._keys) < space.n_decisions:
            raise ValueError(f"log {self.path}: two decisions have the same name as text; rename one")
        self._head = json.loads(self._line({"space": self._labels(), "metrics": self.units}))
        self._place = self._lines = 0
        # The byte locks of claims are in a separate file, which is never written.
        self._claims = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT, 0o666)

    def close(self) -> None:
        """Close the file of claims; the log itself is open only while it is read or written."""
        with suppress(OSError):
            os.close(self._claims)

    def _labels(self) -> dict[str, list[Any]]:
        return {_key(d): list(self.space.option_labels(d)) for d in self.space.decisions}

    def _line(self, data: Mapping[str, Any]) -> str:
        return json.dumps(data, default=label_to_json, ensure_ascii=False, allow_nan=False)

    def read(self) -> Iterator[tuple[NDArray[np.int64], dict[str, float] | None]]:
        """Calls added since the last reading: the selection, and its numbers, or None if it is invalid."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._place)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]  # without a last line that is being written or was cut off
        self._place += len(whole)
        for line in whole.splitlines():
            self._lines += 1
            where = f"{self.path}, line {self._lines}"
            data = parse_json(line, where)
            if self._lines == 1:
                self._check_head(data)
                continue
            check_keys(data, KEYS, where)
            if "error" in data:
                continue
            row, values = self._selection(data, where), None
            if "invalid" not in data:
                values = self._values(data, where)
                if any(name not in values for name in self.units):
                    continue  # written by a measurement with other metrics
            yield row, values

    def _check_head(self, data: Any) -> None:
        check_keys(data, ("space", "metrics"), f"{self.path}, line 1")
        if data.get("space") != self._head["space"]:
            raise ValueError(
                f"{self.path} is the log of another choice space, {short(data.get('space'))}, "
                f"not of {short(self._head['space'])}; give another file"
            )

    def _selection(self, data: Mapping[str, Any], where: str) -> NDArray[np.int64]:
        chosen = data.get("selection")
        if not isinstance(chosen, Mapping):
            raise ValueError(f"{where}: selection must be an object, got {chosen!r}")
        labels: dict[Hashable, Hashable] = {self._keys.get(k, k): label_from_json(v) for k, v in chosen.items()}
        try:
            return self.space.indices(labels)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None

    def _values(self, data: Mapping[str, Any], where: str) -> dict[str, float]:
        values = data.get("values")
        if not isinstance(values, Mapping):
            raise ValueError(f"{where}: expected values, invalid or error, got {short(dict(data))}")
        try:
            return {name: np.nan if value is None else float(value) for name, value in values.items()}
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: values must be numbers or null: {error}") from None

    def append(self, selection: Mapping[Hashable, Hashable], **entry: Any) -> None:
        """Add the line of one call, and wait until it is on the disk."""
        line = self._line({"selection": {_key(d): o for d, o in selection.items()}, **entry})
        with self.path.open("a+b") as file, _locked(file.fileno()):
            size = file.seek(0, os.SEEK_END)
            if size == 0:
                file.write(f"{self._line(self._head)}\n".encode())
            elif not _ended(file, size):
                self._repair(file)
            file.write(f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())

    @staticmethod
    def _repair(file: Any) -> None:
        """Remove an incomplete last line. Only one process writes at a time, so its writer was stopped."""
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.seek(0, os.SEEK_END)

    @contextmanager
    def claim(self, keys: list[bytes]) -> Iterator[None]:
        """Reserve selections for this process; if the process dies, they are released."""
        places = sorted({int.from_bytes(key[:8], "little") % CLAIMS for key in keys})
        held = []
        try:
            for place in places:  # sorted, so that no two processes wait for each other
                _byte_lock(self._claims, place, lock=True)
                held.append(place)
            yield
        finally:
            for place in held:
                _byte_lock(self._claims, place, lock=False)


def _key(decision: Hashable) -> str:
    return decision if isinstance(decision, str) else json.dumps(decision, default=label_to_json, ensure_ascii=False)


def _ended(file: Any, size: int) -> bool:
    file.seek(size - 1)
    return file.read(1) == b"\n"


@contextmanager
def _locked(file: int) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _byte_lock(file: int, place: int, *, lock: bool) -> None:
    """Lock or release one byte, if possible with locks that also work between two logs of one process."""
    if fcntl is None:
        return
    if hasattr(fcntl, "F_OFD_SETLKW"):
        kind = fcntl.F_WRLCK if lock else fcntl.F_UNLCK
        fcntl.fcntl(file, fcntl.F_OFD_SETLKW, struct.pack("hhqqixxxx", kind, os.SEEK_SET, place, 1, 0))
    else:
        fcntl.lockf(file, fcntl.LOCK_EX if lock else fcntl.LOCK_UN, 1, place)
