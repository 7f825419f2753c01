"""Arguments that several commands share, and the problems, bounds, rules and forbidden options that they describe."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal
from unicodedata import normalize

import typer

from cggd.constraints import Constraint
from cggd.improve.descent import Descent
from cggd.incumbent import Improver
from cggd.io import parse_bounds, parse_rule, read_metrics, read_options, read_rules
from cggd.io.bounds import known_name
from cggd.io.text import not_a_number, parse_lines, read_lines, read_text
from cggd.metrics import Additive, Metric
from cggd.portfolio import portfolio
from cggd.problem import Problem
from cggd.result import Result
from cggd.rules import at_least
from cggd.space import ChoiceSpace
from cggd.terminal import complain

Sense = Literal["minimize", "maximize"]


def note(text: str) -> None:
    """Print a note to standard error."""
    complain(f"note: {text}", style="yellow")


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter of a command that is a group of options, a dataclass, by the options of the group.

    The fields of the dataclass are annotated as the parameters of a command are.
    """
    groups: dict[str, tuple[Any, list[str]]] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        kind: Any = parameter.annotation
        if hasattr(kind, "__dataclass_fields__"):
            options = list(inspect.signature(kind, eval_str=True).parameters.values())
            groups[parameter.name] = (kind, [option.name for option in options])
            parameters += options
        else:
            parameters.append(parameter)

    @wraps(command)
    def grouped(**given: Any) -> None:
        values = {name: make(**{one: given.pop(one) for one in options}) for name, (make, options) in groups.items()}
        command(**given, **values)

    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    grouped.__signature__ = inspect.Signature(keyword_only)  # pyright: ignore[reportAttributeAccessIssue]
    return grouped


def number(text: str | float) -> float:
    """A number of the command line, read by the same rules as one in a table."""
    if isinstance(text, str) and ("_" in text or not text.isascii()):
        raise typer.BadParameter(not_a_number(text))
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(not_a_number(str(text))) from None


def share(text: str | float) -> float:
    """A share of the command line: 0.1, or 10 %."""
    if isinstance(text, str) and text.strip().endswith("%"):
        return number(text.strip()[:-1].strip()) / 100
    value = number(text)
    if value > 1:
        raise typer.BadParameter(f"{text} is {value:.0%}; for {value:g} per cent write {value:g}%, or {value / 100:g}")
    return value


def share_option(help: str, *names: str) -> Any:
    """An option that takes a share."""
    return typer.Option(*names, parser=share, metavar="SHARE", help=help)


def number_option(help: str, *names: str) -> Any:
    """An option that takes a number."""
    return typer.Option(*names, parser=number, metavar="NUMBER", help=help)


OptionTable = Annotated[
    Path, typer.Argument(help="CSV table with the columns decision, option and one per metric; or a problem as JSON")
]
Forbid = Annotated[
    list[str] | None, typer.Option(help='an option that must not be chosen, "decision=option"; may be repeated')
]
Maximize = Annotated[str | None, typer.Option(help="name of the metric to maximize")]
Minimize = Annotated[str | None, typer.Option(help="name of the metric to minimize")]
Seed = Annotated[int, typer.Option(min=0, help="seed of the random numbers; the same seed gives the same answer")]


@dataclass(frozen=True)
class SearchOptions:
    """Options of a search."""

    forbid: Forbid = None
    seconds: Annotated[
        float | None, number_option("stop after this many seconds (in a sweep: for all bounds together)", "--time")
    ] = None
    steps: Annotated[int, typer.Option(help="number of steps of each start")] = 600
    starts: Annotated[int, typer.Option(help="number of independent starts (in a sweep: for each bound)")] = 6
    polish: Annotated[
        bool, typer.Option(help="after the search, improve the selection and try to prove that it is optimal")
    ] = True
    gap: Annotated[
        float, share_option("stop when the selection is this close to the proved bound, such as 1% or 0.01", "--gap")
    ] = 0.0
    seed: Seed = 0

    def settings(self, space: ChoiceSpace) -> dict[str, Any]:
        """The options as arguments of `cggd.solve.solve`."""
        descent = Descent(self.steps, self.starts)
        improvers: list[Improver] = portfolio(descent) if self.polish else [descent]
        settings: dict[str, Any] = {"seed": self.seed, "gap": self.gap, "time_limit": self.seconds}
        return settings | {"improvers": improvers, "forbid": forbidden(space, self.forbid or [])}


@dataclass(frozen=True)
class Wishes:
    """Options that become constraints, and options that say how a table is written."""

    limit: Annotated[
        list[str] | None,
        typer.Option(
            help='a bound, such as "weight<=100", "5<=x<=14", "x==11" or "used + 2 <= offered"; may be given several '
            "times"
        ),
    ] = None
    limits: Annotated[list[Path] | None, typer.Option(help="a text file with a bound on each line")] = None
    rule: Annotated[
        list[str] | None,
        typer.Option(
            help='a rule, such as "cpu=x -> board=y|z", "not (a=x and b=y)", "at most 2 of *=beef", "different: RB1, '
            'RB2"; may be repeated'
        ),
    ] = None
    rules: Annotated[list[Path] | None, typer.Option(help="a text file with a rule on each line")] = None
    require: Annotated[
        list[str] | None, typer.Option(help='an option that must be chosen, "decision=option"; may be repeated')
    ] = None
    decimal: Annotated[str, typer.Option(help='decimal sign of the table, "." or ","')] = "."
    decision_column: Annotated[str, typer.Option(help="heading of the column of decisions")] = "decision"

    def __post_init__(self) -> None:
        if self.decimal not in (".", ","):
            raise ValueError(f'--decimal must be "." or ",", got {self.decimal!r}')

    @property
    def bounds(self) -> list[str]:
        """The texts of all bounds, those in files included."""
        return [*(self.limit or []), *(line for path in self.limits or [] for _, line in read_lines(path))]

    @property
    def without_constraints(self) -> Wishes:
        """Only the options that say how a table is written."""
        return replace(self, limit=None, limits=None, rule=None, rules=None, require=None)

    def table(self, path: Path) -> tuple[ChoiceSpace, Mapping[str, Additive]]:
        """Read a table of options."""
        decimal: Any = self.decimal
        return read_options(path, decimal=decimal, decision_column=self.decision_column, note=note)

    def on(self, space: ChoiceSpace, metrics: Mapping[str, Metric]) -> list[Constraint]:
        """The constraints that are asked for."""
        found = [c for text in self.limit or [] for c in parse_bounds(text, metrics)]
        for path in self.limits or []:
            found += chain.from_iterable(parse_lines(path, lambda line: parse_bounds(line, metrics)))
        rules = [parse_rule(text) for text in self.rule or []]
        rules += [rule for path in self.rules or [] for rule in read_rules(path)]
        found += [rule.on(space) for rule in rules]
        for text in self.require or []:
            literal = named_option(space, text, "--require")
            found.append(at_least(1, literal, name=text.strip()).on(space))
        return found


def read_input(path: Path, wishes: Wishes) -> tuple[Problem | None, Mapping[str, Metric], list[Constraint]]:
    """The problem in a JSON file (None for a table), the metrics by name, and all constraints."""
    if path.name.lower().endswith((".json", ".json.gz")) or (str(path) == "-" and read_text(path).lstrip()[:1] == "{"):
        problem, metrics = read_metrics(path)
        return problem, metrics, [*problem.constraints, *wishes.on(problem.space, metrics)]
    space, metrics = wishes.table(path)
    return None, metrics, wishes.on(space, metrics)


def read_question(
    path: Path, maximize: str | None, minimize: str | None, wishes: Wishes
) -> tuple[Problem, Mapping[str, Metric]]:
    """The problem of a file and the options, and the metrics of the file by name."""
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
    """The objectives after the first one, in the order of their options on the command line."""
    names: dict[Any, Any] = {"minimize": iter(minimize), "maximize": iter(maximize)}
    order: list[Any] = [match[1] for word in words if (match := re.match(r"--then-(minimize|maximize)(?:=|$)", word))]
    if len(order) < len(minimize) + len(maximize):  # sys.argv is not that of this call
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
    return (found or known or cuts)[0]  # an unknown label is an error later


def read_result(path: Path) -> Result:
    """The result in a JSON file."""
    text = read_text(path)
    try:
        return Result.from_json(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def initial_selection(path: Path | None, space: ChoiceSpace) -> Mapping[Hashable, Hashable] | None:
    """The selection of a result in a file; labels that are numbers are compared as text."""
    if path is None:
        return None
    result = read_result(path)
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
