"""The one place where the command line prints: nothing that a file or an argument holds commands the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from cggd.printable import printable

out, err = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)


def say(text: object = "") -> None:
    """Print to standard output, letter by letter: no markup, no control characters, no broken lines.

    Parameters
    ----------
    text : object
    """
    out.print(Text(printable(text)))


def complain(text: object, *, style: str = "red") -> None:
    """Print to standard error, in the same way.

    Parameters
    ----------
    text : object
    style : str
        A style of rich, which a terminal shows.
    """
    err.print(Text(printable(text), style=style))


def say_json(document: str) -> None:
    r"""Print a JSON document, and nothing else, to standard output; DEL, which JSON may hold as it is, is escaped.

    Parameters
    ----------
    document : str
        JSON in which everything that is not ASCII is escaped.
    """
    print(document.replace("\x7f", "\\u007f"))
