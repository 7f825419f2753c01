"""Pictures in files, which need no screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cggd.plotting.axes import load_pyplot


def load_plain_pyplot() -> Any:
    """Load matplotlib.pyplot for drawing into files, without a screen; if it is missing, say what to install."""
    pyplot = load_pyplot()
    pyplot.switch_backend("Agg")
    return pyplot


def check_picture(path: Path, option: str) -> None:
    """Raise an error if matplotlib is missing or does not support the format of a file.

    Parameters
    ----------
    path : Path
    option : str
        The option that names the file, for the message.
    """
    pyplot = load_plain_pyplot()
    known = pyplot.figure(figsize=(1, 1)).canvas.get_supported_filetypes()
    pyplot.close()
    if path.suffix and path.suffix[1:].lower() not in known:
        raise ValueError(f"{option} must end in .{', .'.join(sorted(known))}, got {path}")


def draw_into(path: Path, draw: Callable[..., Any]) -> None:
    """Write a picture that a function draws into the axes it is given as `ax`."""
    figure, ax = load_plain_pyplot().subplots(figsize=(6.4, 4.2), layout="constrained")
    draw(ax=ax)
    save_picture(figure, path)


def save_picture(figure: Any, path: Path) -> None:
    """Write a figure; a file name without an ending is kept, and the file is a PNG."""
    figure.savefig(path, dpi=120, format=path.suffix[1:].lower() or "png")
