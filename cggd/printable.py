"""Text that is safe to print: without control characters, which could control a terminal or hide other text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

# C0 except tab and line feed, DEL, C1 (ECMA-48); line and paragraph separators of Unicode; characters that change the
# direction of writing (Boucher & Anderson, "Trojan Source", USENIX Security 2023); halves of surrogate pairs, which
# cannot be encoded.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: object) -> str:
    r"""Replace control characters with escapes; line feeds and tabs stay.

    Examples
    --------
    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return _UNSAFE.sub(lambda match: ascii(match[0])[1:-1], str(text))


def on_one_line(text: object) -> str:
    r"""Replace line feeds and tabs too, so that a label cannot look like a line of a report.

    Examples
    --------
    >>> on_one_line("stem\nstatus  optimal")
    'stem\\nstatus  optimal'
    """
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def html_table(caption: object, rows: Iterable[Sequence[object]], header: Sequence[object] = ()) -> str:
    """A small table in HTML, as notebooks show it; all text is escaped.

    Examples
    --------
    >>> html_table("a < b", [["cost", 3]], ["metric", "value"]).count("<tr>")
    2
    """

    def row(cells: Sequence[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(on_one_line(cell))}</{tag}>" for cell in cells) + "</tr>"

    lines = [row(header, "th")] if header else []
    lines += [row(cells, "td") for cells in rows]
    return f"<table><caption>{escape(on_one_line(caption))}</caption>{''.join(lines)}</table>"


def in_columns(rows: Sequence[Sequence[str]], indent: str = "  ") -> list[str]:
    """Lines of a table whose cells are aligned on the right; no cell is cut.

    Examples
    --------
    >>> in_columns([["bound", "value"], ["5", "17179869184"]])
    ['  bound        value', '      5  17179869184']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [indent + "  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
