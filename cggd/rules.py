"""Rules between decisions: implications, counts, and decisions that must differ or agree.

A rule is an element of the list of constraints. It has no choice space; for a space it becomes a `Constraint` with
linear rows of whole numbers, which have exact replacement tables and which the exact solver can use.

A *literal* is the statement that a decision takes an option, such as ``("cpu", "x")``, or one of several, such as
``("cpu", ["x", "y"])``. ``("*", "x")`` is about every decision with the option ``"x"``, and ``(["cpu", "gpu"], "x")``
about the decisions listed. ``("board.socket", "s1")`` means that the option of ``board`` has this text as its attribute
(`ChoiceSpace.attributes`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, combinations, product
from math import prod
from typing import Any, Protocol, cast
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cggd.checks import whole
from cggd.constraints import Constraint
from cggd.metrics import Additive, Excess, Function, Interactions, Metric
from cggd.metrics.interactions import COMBINED
from cggd.space import ChoiceSpace, few

# Largest number of clauses of a rule; a formula may have exponentially many.
CLAUSES = 4096

# A disjunction: it is true if some decision (given by position) takes one of its options (by index).
Clause = Mapping[int, frozenset[int]]

# Linear rows, each at most its limit: numbers by decision and option, and the limit.
Rows = list[tuple[Mapping[tuple[int, int], int], int]]


@dataclass(frozen=True)
class _Labels:
    """The labels of a space, with `as_text` as they are printed."""

    space: ChoiceSpace
    as_text: bool

    @cached_property
    def _texts(self) -> dict[str, int]:
        return {_plain(decision): place for place, decision in enumerate(self.space.decisions)}

    def knows(self, decision: Hashable) -> bool:
        return decision in (self._texts if self.as_text else self.space.decisions)

    def position(self, decision: Hashable) -> int:
        if not self.as_text:
            return self.space.position(decision)
        if decision not in self._texts:
            raise ValueError(f"unknown decision {decision!r}; the space has {few(self.space.decisions)}")
        return self._texts[cast(str, decision)]

    def options(self, place: int) -> Sequence[Hashable]:
        labels = self.space.option_labels(self.space.decisions[place])
        return [_plain(label) for label in labels] if self.as_text else labels

    def option(self, place: int, option: Hashable) -> int:
        labels = self.options(place)
        if option not in labels:
            raise ValueError(f"decision {self.space.decisions[place]!r} has no option {option!r}; it has {few(labels)}")
        return labels.index(option)

    def attribute(self, decision: Hashable) -> tuple[str, str] | None:
        """The decision (or the star) and the attribute of a text such as ``cpu.socket``, unless it is a decision."""
        if not isinstance(decision, str) or self.knows(decision):
            return None
        first, _, name = decision.rpartition(".")
        return (first, name) if name in self.space.attributes and (first == "*" or self.knows(first)) else None

    def described(self, decision: str, name: str, texts: Sequence[Hashable]) -> dict[int, frozenset[int]]:
        """By position of the decisions, the options whose attribute is one of the texts."""
        known = range(self.space.n_decisions) if decision == "*" else [self.position(decision)]
        wanted, found = set(map(_plain, texts)), {}
        for place in known:
            options = [i for text, some in self.groups(place, name).items() for i in some if text in wanted]
            if options or decision != "*":
                found[place] = frozenset(options)
        if not any(found.values()):
            raise ValueError(f"no option of {decision!r} has the {name} {few(texts)}")
        return found

    def groups(self, place: int, by: str | None) -> dict[Hashable, list[int]]:
        """The options of a decision by label, or by the text of an attribute; those without a text are left out."""
        texts: Sequence[Hashable] = self.options(place)
        if by is not None:
            if by not in self.space.attributes:
                raise ValueError(f"unknown attribute {by!r}; the space has {few(self.space.attributes) or 'none'}")
            first, last = self.space.offsets[place : place + 2].tolist()
            texts = [_plain(text) for text in self.space.attributes[by][first:last]]
        found: dict[Hashable, list[int]] = {}
        for option, text in enumerate(texts):
            if text != "" or by is None:
                found.setdefault(text, []).append(option)
        return found


def _plain(label: Hashable) -> str:
    """A label as text in Unicode normal form C."""
    return normalize("NFC", str(label))


class Formula(Protocol):
    """A statement about a selection: a literal, or others joined by and, or, not."""

    def clauses(self, space: ChoiceSpace, *, true: bool = True) -> list[Clause]:
        """Clauses that all hold exactly if the formula is true (or false)."""
        ...


@dataclass(frozen=True)
class Literal:
    """The statement that a decision, or one of several, takes one of some options.

    With `as_text`, labels are compared with those of the space as printed.
    """

    decisions: tuple[Hashable, ...]
    options: tuple[Hashable, ...]
    as_text: bool = False

    @classmethod
    def of(cls, given: Any) -> Literal:
        """Check and convert a pair of a decision (or several) and an option (or several)."""
        if hasattr(given, "found"):
            return given
        if not isinstance(given, tuple) or len(given) != 2:
            raise TypeError(f'a literal must be a pair such as ("cpu", "x") or ("cpu", ["x", "y"]), got {given!r}')
        decisions, options = (tuple(p) if isinstance(p, list | set | frozenset | range) else (p,) for p in given)
        if not decisions or not options:
            raise ValueError(f"a literal needs at least one decision and one option, got {given!r}")
        return cls(decisions, options)

    def found(self, space: ChoiceSpace) -> dict[int, frozenset[int]]:
        """The indices of the options, by position of their decision."""
        labels = _Labels(space, as_text=self.as_text)
        found: dict[int, frozenset[int]] = {}
        for decision in self.decisions:
            if attribute := labels.attribute(decision):
                found |= labels.described(*attribute, self.options)
            elif decision != "*" or labels.knows(decision):
                place = labels.position(decision)
                found[place] = frozenset(labels.option(place, o) for o in self.options)
        if "*" in self.decisions and not labels.knows("*"):
            for place in range(space.n_decisions):
                options = labels.options(place)
                if at := frozenset(options.index(o) for o in self.options if o in options):
                    found.setdefault(place, at)
        if not found:
            raise ValueError(f"no decision has the option {few(self.options)}, named by {self}")
        return found

    def each(self, space: ChoiceSpace) -> list[Literal]:
        """A literal for each option, if the option is ``"*"``; otherwise this literal alone."""
        if self.options != ("*",):
            return [self]
        labels = _Labels(space, as_text=self.as_text)
        places = range(space.n_decisions) if self.decisions == ("*",) else map(labels.position, self.decisions)
        every = dict.fromkeys(chain.from_iterable(labels.options(place) for place in places))
        return [self] if "*" in every else [replace(self, options=(option,)) for option in every]

    def clauses(self, space: ChoiceSpace, *, true: bool = True) -> list[Clause]:
        found = self.found(space)
        if true:
            return [found]
        sizes = space.sizes.tolist()
        return [{place: frozenset(range(sizes[place])) - options} for place, options in found.items()]

    def __str__(self) -> str:
        return f"{'|'.join(map(str, self.decisions))}={'|'.join(map(str, self.options))}"


@dataclass(frozen=True)
class Not:
    """The negation of a formula."""

    part: Formula

    def clauses(self, space: ChoiceSpace, *, true: bool = True) -> list[Clause]:
        return self.part.clauses(space, true=not true)

    def __str__(self) -> str:
        return f"not {_bracketed(self.part)}"


@dataclass(frozen=True)
class Both:
    """Several formulas joined by ``and``; `word` is used in the text."""

    parts: tuple[Formula, ...]
    word: str = "and"

    def clauses(self, space: ChoiceSpace, *, true: bool = True) -> list[Clause]:
        each = [part.clauses(space, true=true) for part in self.parts]
        if true:
            return list(chain.from_iterable(each))
        if prod(map(len, each)) > CLAUSES:
            raise ValueError(f"the rule {self} has more than {CLAUSES} clauses; write it as several rules")
        return [_either(some) for some in product(*each)]

    def __str__(self) -> str:
        return f" {self.word} ".join(map(_bracketed, self.parts))


@dataclass(frozen=True)
class Either:
    """Several formulas joined by ``or``."""

    parts: tuple[Formula, ...]

    def clauses(self, space: ChoiceSpace, *, true: bool = True) -> list[Clause]:
        return Both(tuple(map(Not, self.parts))).clauses(space, true=not true)

    def __str__(self) -> str:
        return " or ".join(map(_bracketed, self.parts))


@dataclass(frozen=True)
class Implication:
    """``first -> then``, or with `both` ways ``first <-> then``."""

    first: Formula
    then: Formula
    both: bool = False

    def clauses(self, space: ChoiceSpace, *, true: bool = True) -> list[Clause]:
        one: Formula = Either((Not(self.first), self.then))
        whole: Formula = Both((one, Either((self.first, Not(self.then))))) if self.both else one
        return whole.clauses(space, true=true)

    def __str__(self) -> str:
        return f"{_bracketed(self.first)} {'<->' if self.both else '->'} {_bracketed(self.then)}"


def _bracketed(formula: Formula) -> str:
    return f"({formula})" if " " in str(formula) and not isinstance(formula, Literal | Not) else str(formula)


def _either(clauses: Iterable[Clause]) -> Clause:
    joined: dict[int, frozenset[int]] = {}
    for clause in clauses:
        for place, options in clause.items():
            joined[place] = joined.get(place, frozenset()) | options
    return joined


@dataclass(frozen=True, eq=False)
class Rule:
    """A rule between decisions, made by the functions of this module; `on` makes a constraint of it.

    Attributes
    ----------
    words : str
        Name of the rule in reports.
    rows : callable
        The linear rows of the rule on a space.
    """

    words: str
    rows: Callable[[ChoiceSpace], Rows]

    def on(self, space: ChoiceSpace) -> Constraint:
        """The rule as a constraint: a bounded count for a single row, otherwise an `Excess` of at most 0."""
        rows = self.rows(space)
        if len(rows) == 1:
            (numbers, limit), values = rows[0], np.zeros(space.n_options)
            for (place, option), number in numbers.items():
                values[space.offsets[place] + option] = number
            sense, sign = (">=", -1.0) if values.max(initial=0.0) <= 0 and limit < 0 else ("<=", 1.0)
            return Constraint(
                Additive(space, sign * values + 0.0, name=self.words), sign * limit, sense, words=self.words
            )
        entries = [
            (row, int(space.offsets[place]) + option, number)
            for row, (numbers, _) in enumerate(rows)
            for (place, option), number in numbers.items()
        ]
        row, column, number = np.array(entries, dtype=np.int64).reshape(-1, 3).T
        matrix = sparse.csr_array((number.astype(float), (row, column)), shape=(len(rows), space.n_options))
        return Constraint(
            Excess(space, matrix, [limit for _, limit in rows], name=self.words), 0, "<=", words=self.words
        )

    def named(self, words: str) -> Rule:
        """The same rule under another name."""
        return replace(self, words=words)

    def __repr__(self) -> str:
        return f"Rule({self.words})"


def implies(first: Any, then: Any, *, name: str | None = None) -> Rule:
    """If the first literal holds, so must the second.

    Parameters
    ----------
    first : literal or list of literals
        Of a list, all must hold.
    then : literal or list of literals
        Of a list, one must hold.
    name : str, optional
        Name of the rule in reports; by default its text.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace, minimize
    >>> space = ChoiceSpace({"cpu": ["x", "y"], "board": ["x", "y"]})
    >>> price = Additive(space, [1, 2, 4, 2], name="price")
    >>> rule = implies(("cpu", "x"), ("board", "x"))
    >>> result = minimize(price, [rule])
    >>> result.selection, print(*result.constraints)
    cpu=x -> board=x: kept
    ({'cpu': 'y', 'board': 'y'}, None)
    """
    return rule_of(Implication(_joined(first, Both), _joined(then, Either)), name)


def forbid_together(*literals: Any, name: str | None = None) -> Rule:
    """Not all of the literals may hold at once.

    Examples
    --------
    >>> forbid_together(("tx", 8), ("ty", 8))
    Rule(not (tx=8 and ty=8))
    """
    return rule_of(Not(_joined(list(literals), Both)), name)


def rule_of(formula: Formula, name: str | None = None) -> Rule:
    """The rule that a formula is true."""
    return Rule(name or str(formula), lambda space: rows_of(formula, space))


def rows_of(formula: Formula, space: ChoiceSpace) -> Rows:
    """Linear rows of a formula: in each clause, at least one literal holds."""
    rows: Rows = []
    sizes = space.sizes.tolist()
    for clause in formula.clauses(space):
        numbers: dict[tuple[int, int], int] = {}
        limit = -1
        for place, options in clause.items():
            others = frozenset(range(sizes[place])) - options
            # One option is chosen, so the sum over some options is 1 minus that over the others; the shorter is used.
            fewer = len(others) < len(options)
            limit += fewer
            numbers |= {(place, o): 1 if fewer else -1 for o in (others if fewer else options)}
        if numbers or limit < 0:
            rows.append((numbers, limit))
    # A rule that always holds is a row of zeros.
    return [row for row in rows if row[0] or row[1] < 0] or [({(0, 0): 0}, 0)]


def _joined(given: Any, kind: Any) -> Formula:
    if isinstance(given, list):
        if not given:
            raise ValueError("a list of literals is empty; give at least one")
        parts = tuple(_joined(one, kind) for one in given)
        return parts[0] if len(parts) == 1 else kind(parts)
    return given if hasattr(given, "clauses") else Literal.of(given)


# -- counts -----------------------------------------------------------------------------------------------------------


def at_most(k: int, literals: Any, *, name: str | None = None) -> Rule:
    """At most `k` of the literals hold.

    Parameters
    ----------
    k : int
    literals : literal, list of literals, or mapping of name to either
        With a mapping, the count of each entry is bounded. The literal ``("*", "*")`` bounds the count of each option.
    name : str, optional

    Examples
    --------
    >>> at_most(2, ("*", "beef")), at_most(1, ("*", "*"))
    (Rule(at most 2 of *=beef), Rule(at most 1 of *=*))
    """
    return _counted("at most", whole(k, "k", least=0), literals, name)


def at_least(k: int, literals: Any, *, name: str | None = None) -> Rule:
    """At least `k` of the literals hold; the parameters are those of `at_most`."""
    return _counted("at least", whole(k, "k", least=0), literals, name)


def exactly(k: int, literals: Any, *, name: str | None = None) -> Rule:
    """Exactly `k` of the literals hold; the parameters are those of `at_most`."""
    return _counted("exactly", whole(k, "k", least=0), literals, name)


def _counted(word: str, k: int, literals: Any, name: str | None) -> Rule:
    groups = list(literals.values()) if isinstance(literals, Mapping) else [literals]
    if not groups:
        raise ValueError("literals is empty; give at least one")
    read = [[Literal.of(one) for one in (group if isinstance(group, list) else [group])] for group in groups]
    if not all(read):
        raise ValueError("a list of literals is empty; give at least one")
    each = " of each: " if isinstance(literals, Mapping) else " of "
    what = ", ".join(map(str, literals)) if isinstance(literals, Mapping) else ", ".join(map(str, read[0]))

    def rows(space: ChoiceSpace) -> Rows:
        out: Rows = []
        for group in chain.from_iterable(product(*(one.each(space) for one in group)) for group in read):
            found = [(place, option) for one in group for place, some in one.found(space).items() for option in some]
            if word != "at least":
                out.append((dict.fromkeys(found, 1), k))
            if word != "at most":
                out.append((dict.fromkeys(found, -1), -k))
        return out

    return Rule(name or f"{word} {k}{each}{what}", rows)


# -- decisions that differ, agree or depend on others -----------------------------------------------------------------


def different(
    decisions: Iterable[Hashable] | str, *, by: str | None = None, name: str | None = None, as_text: bool = False
) -> Rule:
    """No two of the decisions take the same option; ``"*"`` means all decisions.

    With `by`, an attribute of the options must differ. With `as_text`, labels are compared as printed.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace, maximize
    >>> space = ChoiceSpace({"RB": ["Ann", "Bob"], "FLEX": ["Ann", "Bob", "Cem"]})
    >>> points = Additive(space, [9, 7, 9, 7, 5], name="points")
    >>> maximize(points, [different(["RB", "FLEX"])]).value
    16.0
    """
    labels = _listed(decisions)

    def rows(space: ChoiceSpace) -> Rows:
        users: dict[Hashable, list[tuple[int, int]]] = {}
        known = _Labels(space, as_text=as_text)
        for place in range(space.n_decisions) if labels == ("*",) else map(known.position, labels):
            for label, options in known.groups(place, by).items():
                users.setdefault(label, []).extend((place, option) for option in options)
        return [(dict.fromkeys(found, 1), 1) for found in users.values() if len(found) > 1] or [({(0, 0): 0}, 0)]

    return Rule(name or f"different{f' {by}' if by else ''}: {', '.join(map(str, labels))}", rows)


def same(
    decisions: Iterable[Hashable] | str, *, by: str | None = None, name: str | None = None, as_text: bool = False
) -> Rule:
    """All of the decisions take the same option; ``"*"`` means all decisions.

    With `by`, an attribute of the options must be the same; options without it are compatible with all others. With
    `as_text`, labels are compared as printed.

    Examples
    --------
    >>> same(["front", "back"]), same(["cpu", "board"], by="socket")
    (Rule(same: front, back), Rule(same socket: cpu, board))
    """
    labels = _listed(decisions)

    def rows(space: ChoiceSpace) -> Rows:
        known, out = _Labels(space, as_text=as_text), []
        places = list(range(space.n_decisions) if labels == ("*",) else map(known.position, labels))
        groups = {place: known.groups(place, by) for place in places}
        complete = all(sum(map(len, groups[place].values())) == space.sizes[place] for place in places)
        # Where every option has a label, all decisions agree if each agrees with the first.
        for place, there in combinations(places, 2) if not complete else ((places[0], other) for other in places[1:]):
            for label, options in groups[place].items():
                here, same = {(place, option): 1 for option in options}, groups[there].get(label, [])
                if complete:
                    out.append((here | {(there, option): -1 for option in same}, 0))
                    continue
                others = [option for some in groups[there].values() for option in some if option not in same]
                if others:
                    out.append((here | {(there, option): 1 for option in others}, 1))
        return out or [({(0, 0): 0}, 0)]

    return Rule(name or f"same{f' {by}' if by else ''}: {', '.join(map(str, labels))}", rows)


def only_when(
    decision: Hashable,
    condition: Any,
    *,
    otherwise: Hashable = None,
    name: str | None = None,
    as_text: bool = False,
) -> Rule:
    """Unless a condition holds, a decision takes the option `otherwise`.

    Parameters
    ----------
    decision : label
    condition : literal or list of literals
        Of a list, one must hold.
    otherwise : label, optional
        By default the decision's first option.
    name : str, optional
    as_text : bool
        Whether labels are compared as printed.

    Examples
    --------
    >>> from cggd import ChoiceSpace
    >>> rule = only_when("momentum", ("optimizer", "sgd"), otherwise=0.0)
    >>> space = ChoiceSpace({"optimizer": ["adam", "sgd"], "momentum": [0.0, 0.9]})
    >>> print(rule.on(space).report({"optimizer": "adam", "momentum": 0.9}))
    momentum only when optimizer=sgd: violated by 1
    """
    formula = _joined(condition, Either)

    def rows(space: ChoiceSpace) -> Rows:
        labels = _Labels(space, as_text=as_text)
        rest = labels.options(labels.position(decision))[0] if otherwise is None else otherwise
        return rows_of(Either((formula, Literal((decision,), (rest,), as_text))), space)

    return Rule(name or f"{decision} only when {formula}", rows)


def _listed(decisions: Iterable[Hashable] | str) -> tuple[Hashable, ...]:
    if isinstance(decisions, str) and decisions != "*":
        raise TypeError(f'decisions must be a list of decisions or "*", got {decisions!r}')
    labels = tuple(decisions)
    if not labels or len(set(labels)) < len(labels):
        raise ValueError(f"decisions must be different labels, at least one, got {list(labels)}")
    return labels


def all_of(rules: Iterable[Rule], *, name: str | None = None) -> Rule:
    """Several rules as one with one name.

    Examples
    --------
    >>> days = ["mon", "tue", "wed"]
    >>> pairs = zip(days, days[1:])
    >>> all_of([different(pair) for pair in pairs], name="no dish on two days running")
    Rule(no dish on two days running)
    """
    parts = list(rules)
    for part in parts:
        if not hasattr(part, "rows"):
            raise TypeError(f"all_of takes rules of this module with linear rows, got {part!r}")
    if not parts:
        raise ValueError("rules is empty; give at least one")
    words = name or "; ".join(part.words for part in parts)
    return Rule(words, lambda space: list(chain.from_iterable(part.rows(space) for part in parts)))


# -- yes/no functions -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Check:
    """A yes/no function as a rule; `holds` makes it.

    Attributes
    ----------
    words : str
    function : callable
        Its arguments are the options of `decisions`, or a whole selection as a dict if `decisions` is None.
    decisions : tuple of labels, or None
    """

    words: str
    function: Callable[..., Any]
    decisions: tuple[Hashable, ...] | None

    def on(self, space: ChoiceSpace) -> Constraint:
        """The rule as a constraint: the number of decisions to change until the function returns true is at most 0.

        A function of whole selections, or of decisions with many combinations, remains a black box.
        """
        names = self.decisions
        if names is not None:
            labels = [space.option_labels(d) for d in names]
            if prod(map(len, labels)) <= COMBINED:
                answers = [_answer(self.function(*some), self.words) for some in product(*labels)]
                values = _changes(np.array(answers).reshape([len(some) for some in labels]))
                return Constraint(Interactions(space, {names: values}, name=self.words), 0, "<=", words=self.words)

        def broken(selection: Mapping[Hashable, Hashable]) -> float:
            given = self.function(selection) if names is None else self.function(*(selection[d] for d in names))
            return 1.0 - _answer(given, self.words)

        return Constraint(Function(space, broken, name=self.words), 0, "<=", words=self.words)

    def named(self, words: str) -> Check:
        """The same rule under another name."""
        return replace(self, words=words)

    def __repr__(self) -> str:
        return f"Rule({self.words})"


def holds(
    function: Callable[..., Any], decisions: Sequence[Hashable] | None = None, *, name: str | None = None
) -> Check:
    """A yes/no function as a rule: selections for which it returns false are not allowed.

    Parameters
    ----------
    function : callable
        Its parameters have the names of decisions, unless `decisions` is given. It gets their options and returns a
        bool. It is called for each combination, so that the rule has a linear form. A function with the single
        parameter ``selection`` gets a whole selection as a dict, and remains a black box.
    decisions : list of labels, optional
        The decisions whose options are passed, in order.
    name : str, optional

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace, maximize
    >>> space = ChoiceSpace({"bx": [8, 16, 32], "by": [1, 2, 4]})
    >>> speed = Additive(space, [1, 3, 5, 1, 3, 6], name="speed")
    >>> rule = holds(lambda bx, by: 32 <= bx * by <= 64, name="32 <= bx * by <= 64")
    >>> maximize(speed, [rule]).selection
    {'bx': 16, 'by': 4}
    """
    if isinstance(function, Metric) or not callable(function):
        raise TypeError(f"function must be a callable that returns a bool, got {function!r}; of a metric write m >= 1")
    if decisions is None:
        try:
            names = tuple(inspect.signature(function).parameters)
        except (TypeError, ValueError):
            names = ("selection",)
        passed = None if names == ("selection",) else names
    else:
        passed = _listed(decisions)
    if passed is not None and not passed:
        raise ValueError("function must have a parameter for each decision that it looks at, or one called selection")
    return Check(name or getattr(function, "__name__", "rule").replace("<lambda>", "rule"), function, passed)


def _answer(given: Any, words: str) -> float:
    if not isinstance(given, bool | np.bool_):
        raise TypeError(f"the function of rule {words!r} must return True or False, got {given!r}")
    return float(given)


def _changes(answers: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least number of decisions to change from each combination to one with the answer 1."""
    # Without any such combination, the number is one more than the number of decisions.
    least = np.where(answers > 0, 0.0, answers.ndim + 1.0)
    for axis in range(answers.ndim):
        least = np.minimum(least, least.min(axis=axis, keepdims=True) + 1.0)
    return np.minimum(least, answers.ndim + 1.0)
