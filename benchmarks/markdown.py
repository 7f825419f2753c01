"""Documents that a benchmark writes its tables into, each between marks of its own."""

from __future__ import annotations

from pathlib import Path


def insert(text: str, path: Path, mark: str) -> None:
    """Put text between the two marks of a file, or with them at its end where it has none; what else it holds is kept.

    Raises
    ------
    ValueError
        If the file has one mark without the other.
    """
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    if (begin in old) != (end in old):
        raise ValueError(f"{path} must have both {begin} and {end}, or neither")
    if begin not in old:
        old = f"{old}\n{begin}\n{end}\n".lstrip("\n")
    head, _, rest = old.partition(begin)
    path.write_text(f"{head}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}", encoding="utf-8")
