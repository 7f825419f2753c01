"""Pictures in files, which need no screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cggd.plotting.axes import load_pyplot


def load_plain_pyplot() -> Any:
    """matplotlib.pyplot, which then draws into files and needs no screen; or an error that says what to install."""
    pyplot = load_pyplot()
    pyplot.switch_backend("Agg")
    return pyplot


def check_picture(path: Path, option: str) -> None:
    """Raise where matplotlib is missing or does not know the format.

    Parameters
    ----------
    path : Path
    option : str
        What named the file, for the message.
    """
    pyplot = load_plain_pyplot()
    known = pyplot.figure(figsize=(1, 1)).canvas.get_supported_filetypes()
    pyplot.close()
    if path.suffix and path.suffix[1:].lower() not in known:
        raise ValueError(f"{option} must end in .{', .'.join(sorted(known))}, got {path}")


def save_picture(figure: Any, path: Path) -> None:
    """Write a figure; a name without an ending is kept as it is, and holds a PNG."""
    figure.savefig(path, dpi=120, format=path.suffix[1:].lower() or "png")
