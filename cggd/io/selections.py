"""Selections as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Hashable, Mapping

from cggd.io.text import StrPath, csv_cell, write_text


def write_selection(selection: Mapping[Hashable, Hashable] | None, path: StrPath) -> None:
    """Write a selection as CSV: the columns ``decision`` and ``option``, and a row for each decision.

    Labels that a spreadsheet program would read as formulas get an apostrophe before them, as in `write_options`.

    Parameters
    ----------
    selection : mapping of decision to option, or None
        Such as `Result.selection`. For None, the file has only its header.
    path : str or path

    Raises
    ------
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_selection({"stem": "conv3", "pool": "-1"}, Path(folder, "chosen.csv"))
    ...     print(Path(folder, "chosen.csv").read_text(), end="")
    decision,option
    stem,conv3
    pool,'-1
    """
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["decision", "option"])
    writer.writerows([csv_cell(d), csv_cell(o)] for d, o in (selection or {}).items())
    write_text(path, table.getvalue())
