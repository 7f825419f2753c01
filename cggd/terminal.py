"""All printing of the command line, so that no text from a file or an argument can control the terminal.

Its exit statuses are here as well, for the commands of the core and of adapters.
"""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from cggd.printable import printable

FEASIBLE, WRONG_INPUT, NOT_FEASIBLE, INTERRUPTED = 0, 1, 2, 130

out: Console = Console(soft_wrap=True)
err: Console = Console(stderr=True, soft_wrap=True)


def say(text: object = "") -> None:
    """Print text as it is to standard output: no markup, no control characters, no line wrapping."""
    out.print(Text(printable(text)))


def complain(text: object, *, style: str = "red") -> None:
    """Print to standard error in the same way; `style` is a style of rich, for terminals."""
    err.print(Text(printable(text), style=style))


def say_json(document: str) -> None:
    r"""Print a JSON document of ASCII characters, and nothing else, to standard output; DEL is escaped."""
    print(document.replace("\x7f", "\\u007f"))
