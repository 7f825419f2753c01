"""Excel and Parquet files, which pandas or polars reads if it is installed."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

from cggd.io.text import StrPath


def sheet_rows(path: StrPath) -> list[tuple[int, list[str]]]:
    """Rows of the first sheet of an Excel file, or of a Parquet file, as text, each with its line number.

    Parameters
    ----------
    path : str or path

    Raises
    ------
    ImportError
        If no library that reads the file is installed.
    ValueError, OSError
        If the file cannot be read.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such file")
    parquet = str(path).lower().endswith(".parquet")
    missing: Exception | None = None
    for read in (_by_pandas, _by_polars):
        try:
            rows = read(path, parquet=parquet)
            break
        except ImportError as error:
            missing = error
        except Exception as error:
            raise ValueError(f"{path}: cannot be read: {type(error).__name__}: {error}") from None
    else:
        raise ImportError(f"{path} needs pandas or polars: pip install cggd[tables]") from missing
    texts = [(line, [_text(cell) for cell in row]) for line, row in enumerate(rows, start=1)]
    return [(line, cells) for line, cells in texts if any(cells)] or [(1, [""])]


def _by_pandas(path: StrPath, *, parquet: bool) -> list[list[Any]]:
    pandas: Any = importlib.import_module("pandas")
    if not parquet:
        return pandas.read_excel(path, header=None, dtype=object).values.tolist()
    frame = pandas.read_parquet(path)
    return [list(frame.columns), *frame.astype(object).values.tolist()]


def _by_polars(path: StrPath, *, parquet: bool) -> list[list[Any]]:
    polars: Any = importlib.import_module("polars")
    frame = polars.read_parquet(path) if parquet else polars.read_excel(path, has_header=False)
    rows = [list(row) for row in frame.iter_rows()]
    return [list(frame.columns), *rows] if parquet else rows


def _text(cell: Any) -> str:
    """A cell as the text that a table has; whole numbers have no point."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    return str(cell).strip()
