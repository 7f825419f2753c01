"""Rules as a user types them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NoReturn
from unicodedata import normalize

from cggd.io.text import StrPath, parse_lines
from cggd.rules import (
    Both,
    Either,
    Formula,
    Implication,
    Literal,
    Not,
    Rule,
    at_least,
    at_most,
    different,
    exactly,
    only_when,
    rule_of,
    same,
)

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|<->|->|!=|[=()|,]|[^\s"=()|,!<-]+|[-<!]', re.DOTALL)
_COUNT = re.compile(r"(at most|at least|exactly)\s+(\d+)\s+of\s+(.*)", re.DOTALL | re.IGNORECASE)
_LIKE_COUNT = re.compile(
    r"(at\b|at ?most|at ?least|exact|no (more|less|fewer)|not more).*|.*\d\s+of\s.*", re.IGNORECASE
)
_LIST = re.compile(r"(different|same)(?:\s+([^:]+?))?\s*:\s*(.*)", re.DOTALL | re.IGNORECASE)
_WHEN = re.compile(r"(.*?)\s+only (?:if|when)\s+(.*?)(?:\s+else\s+(.*))?", re.DOTALL | re.IGNORECASE)
_COUNTS = {"at most": at_most, "at least": at_least, "exactly": exactly}
_SIGNS = {"<->", "->", "!=", "=", "(", ")", "|", ","}


def parse_rule(text: str) -> Rule:
    """Make a rule of a text.

    The text is one of

    * a statement about options: ``cpu=x``, ``cpu=x|y`` for one of several, ``cpu!=x``, joined by ``and``, ``or``,
      ``not``, brackets, ``->`` (if, then) and ``<->``. ``*=x`` says that some decision takes ``x``, and
      ``cpu.socket=s1`` that the attribute ``socket`` of the option of ``cpu`` is ``s1``;
    * a count: ``at most 2 of *=beef, *=pork``, ``at least``, ``exactly``. ``at most 2 of *=*`` counts each option;
    * ``different: RB1, RB2, FLEX`` or ``same: left, right``, with ``*`` for all decisions; ``same socket: cpu, board``
      compares an attribute of the options;
    * ``momentum only if optimizer=sgd else 0.0``: otherwise the decision takes the option after ``else``, by default
      its first one.

    Labels are compared as they are printed. Labels with signs of this grammar, such as ``"A -> B"``, or with the words
    and, or, not, stand in double quotes.

    Parameters
    ----------
    text : str

    Raises
    ------
    ValueError
        If the text is not a rule. Unknown labels are found when the rule is put on a space.

    Examples
    --------
    >>> from cggd import ChoiceSpace
    >>> space = ChoiceSpace({"bx": [8, 16], "by": [1, 2, 4]})
    >>> rule = parse_rule("bx=16 and not by=1 -> by=2")
    >>> rule, rule.on(space).holds(space.enumerate()).tolist()
    (Rule(bx=16 and not by=1 -> by=2), [True, True, True, True, True, False])
    """
    words = normalize("NFC", " ".join(text.split()))
    if match := _COUNT.fullmatch(words):
        literals = _Parser(words, match[3]).all_of(lambda parser: parser.literal())
        return _COUNTS[match[1].lower()](int(match[2]), literals, name=words)
    if match := _LIST.fullmatch(words):
        labels = _Parser(words, match[3]).all_of(lambda parser: parser.label("decision"))
        make = different if match[1].lower() == "different" else same
        return make("*" if labels == ["*"] else labels, by=match[2], name=words, as_text=True)
    if match := _WHEN.fullmatch(words):
        decision = _Parser(words, match[1]).whole(lambda parser: parser.label("decision"))
        condition = _Parser(words, match[2]).whole(lambda parser: parser.formula())
        rest = None if match[3] is None else _Parser(words, match[3]).whole(lambda parser: parser.label("option"))
        return only_when(decision, condition, otherwise=rest, name=words, as_text=True)
    if _LIKE_COUNT.fullmatch(words):
        return _perhaps_a_count(words)
    return _plain(words)


def _plain(words: str) -> Rule:
    return rule_of(_Parser(words, words).whole(lambda parser: parser.formula()), name=words)


def _perhaps_a_count(words: str) -> Rule:
    """A rule whose text begins like a count; if it is no other rule, the message says how counts are written."""

    def hinted(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except ValueError as error:
            raise ValueError(
                f'rule {words!r}: {error}; a count reads "at most 2 of cpu=x, board=y", with a whole number, '
                "and likewise with at least and exactly"
            ) from None

    rule = hinted(lambda: _plain(words))
    return replace(rule, rows=lambda space: hinted(lambda: rule.rows(space)))


def read_rules(path: StrPath) -> list[Rule]:
    r"""Read rules from a text file: one on each line; empty lines and those that begin with ``#`` are ignored.

    Parameters
    ----------
    path : str or path

    Raises
    ------
    ValueError
        If a line is not a rule; the message names file and line.

    Examples
    --------
    >>> from pathlib import Path
    >>> _ = Path("rules.txt").write_text("# compatibility\ncpu=x -> board=x\nat most 2 of *=beef\n")
    >>> read_rules("rules.txt")
    [Rule(cpu=x -> board=x), Rule(at most 2 of *=beef)]
    """
    return parse_lines(path, parse_rule)


@dataclass
class _Parser:
    """A recursive-descent parser of one text; `whole_text` is the rule that it is part of."""

    whole_text: str
    text: str

    def __post_init__(self) -> None:
        self.tokens = [(match[0], match.start(), match.end()) for match in _TOKEN.finditer(self.text)]
        self.place = 0

    def fail(self, wanted: str) -> NoReturn:
        got = (
            f"got {self.text[self.tokens[self.place][1] :]!r}" if self.place < len(self.tokens) else "but it ends there"
        )
        raise ValueError(f"rule {self.whole_text!r}: expected {wanted}, {got}")

    def peek(self, *signs: str) -> bool:
        return self.place < len(self.tokens) and self.tokens[self.place][0].lower() in signs

    def take(self, *signs: str) -> bool:
        """Step over the next token if it is one of these."""
        found = self.peek(*signs)
        self.place += found
        return found

    def whole(self, part: Callable) -> Any:
        found = part(self)
        if self.place < len(self.tokens):
            self.fail("and, or, -> or the end")
        return found

    def all_of(self, part: Callable) -> list:
        """Parts with commas between them, up to the end."""
        found = [part(self)]
        while self.take(","):
            found.append(part(self))
        if self.place < len(self.tokens):
            self.fail("a comma or the end")
        return found

    def formula(self) -> Formula:
        first = self.either()
        if self.peek("->", "<->"):
            both = self.take("<->") or not self.take("->")
            return Implication(first, self.formula(), both)
        return first

    def either(self) -> Formula:
        parts = [self.both()]
        while self.take("or"):
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def both(self) -> Formula:
        parts = [self.single()]
        while self.take("and"):
            parts.append(self.single())
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def single(self) -> Formula:
        if self.take("not"):
            return Not(self.single())
        if self.take("("):
            inner = self.formula()
            if not self.take(")"):
                self.fail("a closing bracket")
            return inner
        return self.literal(negated=True)

    def literal(self, *, negated: bool = False) -> Any:
        """``decision=option|option``, and with `negated` also ``decision!=option``."""
        decision, unlike = self.label("decision"), negated and self.take("!=")
        if not unlike and not self.take("="):
            self.fail(f"= and an option after {decision!r}")
        options = [self.label("option")]
        while self.take("|"):
            options.append(self.label("option"))
        found = Literal((decision,), tuple(options), as_text=True)
        return Not(found) if unlike else found

    def label(self, what: str) -> str:
        """A quoted label, or words up to the next sign."""
        if (
            self.place < len(self.tokens)
            and self.tokens[self.place][0].startswith('"')
            and self.tokens[self.place][0] != '"'
        ):
            self.place += 1
            return re.sub(r"\\(.)", r"\1", self.tokens[self.place - 1][0][1:-1])
        first = self.place
        while self.place < len(self.tokens) and not self.peek(*_SIGNS, "and", "or", "not"):
            self.place += 1
        if first == self.place:
            self.fail(f"a {what} such as {'cpu' if what == 'decision' else 'x'}")
        return self.text[self.tokens[first][1] : self.tokens[self.place - 1][2]]
