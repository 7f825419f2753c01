"""What the arguments of the command line ask for: problems from files, bounds, rules and forbidden options."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from unicodedata import normalize

import typer

from cggd.constraints import Constraint
from cggd.io import parse_bounds, parse_rule, read_options, read_problem, read_rules
from cggd.io.bounds import known_name
from cggd.io.text import read_lines, read_text
from cggd.metrics import Metric
from cggd.problem import Problem
from cggd.result import Result
from cggd.rules import at_least
from cggd.space import ChoiceSpace

Sense = Literal["minimize", "maximize"]

# Options that several commands share.
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        help='a bound, such as "weight<=100", "5<=x<=14", "x==11" or "used + 2 <= offered"; may be given several times',
    ),
]
Forbid = Annotated[
    list[str] | None, typer.Option(help='an option that must not be chosen, "decision=option"; may be repeated')
]
Require = Annotated[
    list[str] | None, typer.Option(help='an option that must be chosen, "decision=option"; may be repeated')
]
RuleTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--rule",
        help='a rule, such as "cpu=x -> board=y|z", "not (a=x and b=y)", "at most 2 of *=beef", "different: RB1, RB2"; '
        "may be repeated",
    ),
]
RuleFiles = Annotated[list[Path] | None, typer.Option("--rules", help="a text file with a rule on each line")]
Decimal = Annotated[str, typer.Option(help='decimal sign of the table, "." or ","')]
DecisionColumn = Annotated[str, typer.Option(help="heading of the column of decisions")]
LimitFiles = Annotated[list[Path] | None, typer.Option("--limits", help="a text file with a bound on each line")]


@dataclass(frozen=True)
class Wishes:
    """Texts of the command line that become constraints.

    Attributes
    ----------
    limits, rules, require : sequence of str
        Bounds, rules, and options that must be chosen.
    limit_files, rule_files : sequence of path
        Files with a bound or a rule on each line.
    decimal, decision_column : str
        How a table is written; see `read_options`.
    note : callable
        Takes what is to be said about a table.
    """

    limits: Sequence[str] = ()
    rules: Sequence[str] = ()
    require: Sequence[str] = ()
    limit_files: Sequence[Path] = ()
    rule_files: Sequence[Path] = ()
    decimal: Any = "."
    decision_column: str = "decision"
    note: Callable[[str], None] = lambda text: None

    @property
    def bounds(self) -> list[str]:
        """The texts of all bounds, those in files included."""
        return [*self.limits, *(line for path in self.limit_files for _, line in read_lines(path))]

    @property
    def without_constraints(self) -> Wishes:
        """How tables are written, alone."""
        return Wishes(decimal=self.decimal, decision_column=self.decision_column, note=self.note)

    def on(self, space: ChoiceSpace, metrics: Mapping[str, Metric]) -> list[Constraint]:
        """The constraints that are asked for."""
        found = [c for text in self.limits for c in parse_bounds(text, metrics)]
        for path in self.limit_files:
            for number, line in read_lines(path):
                try:
                    found += parse_bounds(line, metrics)
                except ValueError as error:
                    raise ValueError(f"{path}, line {number}: {error}") from None
        rules = [parse_rule(text) for text in self.rules]
        rules += [rule for path in self.rule_files for rule in read_rules(path)]
        found += [rule.on(space) for rule in rules]
        for text in self.require:
            literal = named_option(space, text, "--require")
            found.append(at_least(1, literal, name=text.strip()).on(space))
        return found


def wished(
    limits: list[str] | None,
    rules: list[str] | None,
    require: list[str] | None,
    limit_files: list[Path] | None,
    rule_files: list[Path] | None,
    decimal: str,
    decision_column: str,
    note: Callable[[str], None],
) -> Wishes:
    """The wishes of a command; see `Wishes`."""
    if decimal not in (".", ","):
        raise ValueError(f'--decimal must be "." or ",", got {decimal!r}')
    texts = (limits or [], rules or [], require or [], limit_files or [], rule_files or [])
    return Wishes(*texts, decimal, decision_column, note)


def read_input(path: Path, wishes: Wishes) -> tuple[Problem | None, Mapping[str, Metric], list[Constraint]]:
    """The problem in a JSON file (None for a table), the metrics by name, and all constraints."""
    if path.name.lower().endswith((".json", ".json.gz")) or (str(path) == "-" and read_text(path).lstrip()[:1] == "{"):
        problem = read_problem(path)
        metrics = {metric.name: metric for metric in problem.metrics}
        return problem, metrics, [*problem.constraints, *wishes.on(problem.space, metrics)]
    table = {"decimal": wishes.decimal, "decision_column": wishes.decision_column, "note": wishes.note}
    space, metrics = read_options(path, **table)
    return None, metrics, wishes.on(space, metrics)


def read_question(
    path: Path, maximize: str | None, minimize: str | None, wishes: Wishes
) -> tuple[Problem, Mapping[str, Metric]]:
    """What is asked of a file, and its metrics by name."""
    problem, metrics, constraints = read_input(path, wishes)
    if problem is not None:
        if maximize or minimize:
            raise ValueError(f"{path} states its own objective; leave out --maximize and --minimize")
        return Problem(problem.objective, constraints, problem.sense), metrics
    if (maximize is None) == (minimize is None):
        raise ValueError("give either --maximize METRIC or --minimize METRIC")
    objective = named_metric(metrics, maximize or minimize or "", str(path))
    return Problem(objective, constraints, "minimize" if maximize is None else "maximize"), metrics


def named_metric(metrics: Mapping[str, Metric], name: str, path: str) -> Metric:
    """The metric of a name."""
    name = known_name(normalize("NFC", name), metrics)
    if name not in metrics:
        raise ValueError(f"{path} has no metric {name!r}; it has {', '.join(metrics)}")
    return metrics[name]


def further_objectives(
    metrics: Mapping[str, Metric], minimize: Sequence[str], maximize: Sequence[str], path: Path, words: Sequence[str]
) -> list[tuple[Metric, Sense]]:
    """The objectives after the first one, in the order in which the words of the command line name them."""
    names: dict[Any, Any] = {"minimize": iter(minimize), "maximize": iter(maximize)}
    order: list[Any] = [match[1] for word in words if (match := re.match(r"--then-(minimize|maximize)(?:=|$)", word))]
    if len(order) < len(minimize) + len(maximize):  # not called with these words
        order = ["minimize"] * len(minimize) + ["maximize"] * len(maximize)
    return [(named_metric(metrics, next(names[sense]), str(path)), sense) for sense in order]


def forbidden(space: ChoiceSpace, texts: Sequence[str]) -> dict[Hashable, list[Hashable]] | None:
    """Options to forbid."""
    forbid: dict[Hashable, list[Hashable]] = {}
    for text in texts:
        decision, option = named_option(space, text, "--forbid")
        forbid.setdefault(decision, []).append(option)
    return forbid or None


def adapter_command() -> typer.Typer:
    """The application of an adapter's command; its options may stand before and after the files."""
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"allow_interspersed_args": True},
        subcommand_metavar="",
    )


def named_option(space: ChoiceSpace, text: str, argument: str) -> tuple[Hashable, Hashable]:
    """The decision and the option of ``decision=option``; labels that are numbers are compared as text."""
    if "=" not in text:
        raise ValueError(f"{argument} must be decision=option, got {text!r}")
    text = normalize("NFC", text)
    names: dict[str, Any] = {normalize("NFC", str(d)): d for d in space.decisions}
    # Labels may contain =, so the text is cut at each = in turn.
    cuts = [(text[:i].strip(), text[i + 1 :].strip()) for i, letter in enumerate(text) if letter == "="]
    known = [(names[d], option) for d, option in cuts if d in names]
    found = [(d, o) for d, option in known for o in space.option_labels(d) if normalize("NFC", str(o)) == option]
    if len(found) > 1:
        raise ValueError(f"{argument} {text!r} can be read in several ways: {found}")
    return (found or known or cuts)[0]  # what comes after says which label is unknown


def initial_selection(path: Path | None, space: ChoiceSpace) -> Mapping[Hashable, Hashable] | None:
    """The selection of a result in a file; labels that are numbers are compared as text."""
    if path is None:
        return None
    try:
        result = Result.from_json(read_text(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    chosen = result.selection or result.nearest
    if chosen is None:
        raise ValueError(f"--initial: the result {path} has no selection")
    texts = {str(d): str(o) for d, o in chosen.items()}
    found = {}
    for decision in space.decisions:
        labels = {str(o): o for o in space.option_labels(decision)}
        if texts.get(str(decision)) in labels:
            found[decision] = labels[texts[str(decision)]]
    return found


def listed(text: str | None) -> Any:
    """Labels with commas between them, or the star."""
    return None if text is None else "*" if text.strip() == "*" else [word.strip() for word in text.split(",")]
