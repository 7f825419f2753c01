"""Recipes from tables: a format and a device for each tensor, within the memory of every device.

Each tensor is a decision, with an option for every format and device that the table allows. A language model may have
one more decision for its key-value cache: its format and the length of the context. Bytes, damage and milliseconds are
sums, so the core can prove optimality. The cache of a layer is on the device of the layer, so the memory of a device is
a sum of terms of one and two decisions.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fnmatch import translate
from functools import cached_property
from itertools import product
from math import ceil
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cggd import rules as core_rules
from cggd.checks import as_number, whole
from cggd.constraints import Constraint
from cggd.feasibility import Diagnosis, diagnose
from cggd.incumbent import Improver
from cggd.io import parse_bounds
from cggd.io.text import StrPath, csv_cell, write_text
from cggd.metrics import Additive, Interactions, Metric
from cggd.portfolio import portfolio
from cggd.printable import on_one_line
from cggd.problem import Problem
from cggd.result import Result, Status
from cggd.rounding import number_text, true_texts
from cggd.rules import Rule
from cggd.solve import solve_in_order
from cggd.space import ChoiceSpace, few
from cggd_compress.each_option import EachOption
from cggd_compress.recipes import UNITS, FormatTable, block_of

Sense = Literal["minimize", "maximize"]
By = Literal["format", "device"]

CONTEXT, CACHE = "context", "cache"
_BYTES = re.compile(rf"(?<![\w.])(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*({'|'.join(UNITS)})(?!\w)")


@dataclass(frozen=True)
class Cache:
    """The key-value cache of a language model: the context lengths and formats that may be chosen.

    Attributes
    ----------
    contexts : sequence of int
        Context lengths, in tokens.
    formats : mapping of format to float
        The damage of each format of ggml.
    """

    contexts: Sequence[int]
    formats: Mapping[str, float] = field(default_factory=lambda: {"f16": 0.0})

    def __post_init__(self) -> None:
        for tokens in self.contexts:
            whole(tokens, "contexts", least=1)
        for name, damage in self.formats.items():
            as_number(damage, f"the damage of the cache in {name}")
            if block_of(name) is None:
                raise ValueError(f"formats must be formats of ggml, such as f16, q8_0 and q4_0, got {name!r}")
        if not self.contexts or not self.formats:
            raise ValueError("a cache needs at least one number of tokens and one format")

    @property
    def options(self) -> list[tuple[int, str]]:
        """All pairs of a number of tokens and a format."""
        return list(product(self.contexts, self.formats))

    @property
    def labels(self) -> list[str]:
        """The option labels in the choice space."""
        return [f"{tokens} x {name}" for tokens, name in self.options]


@dataclass(frozen=True)
class Choice:
    """One format of one tensor on one device, with its numbers; `device` is empty if there are no devices."""

    format: str
    device: str
    numbers: Mapping[str, float]

    @property
    def label(self) -> str:
        """The option label in the choice space."""
        return f"{self.format}@{self.device}" if self.device else self.format


@dataclass(frozen=True, eq=False)
class Plan:
    """The decisions of a table and the metrics over them; `plan` makes it.

    Attributes
    ----------
    space : ChoiceSpace
        A decision for each tensor, and ``cache`` if there is a cache, with options such as ``8192 x q8_0``. Options
        have the attributes ``format`` and ``device``, which rules may use.
    metrics : mapping of str to Metric
        ``size`` and ``damage``; ``ms``, ``bpw`` (bits per weight) and other columns if the table has the numbers for
        them; the bytes on each device under its name; ``context`` and ``cache`` if there is a cache.
    choices : mapping of tensor to sequence of Choice
        The options of each tensor, in the order of the space.
    memory : mapping of device to float
        Memory of each device, in bytes.
    notes : sequence of str
        What was left out of the table, and why.
    """

    space: ChoiceSpace
    metrics: Mapping[str, Metric]
    choices: Mapping[str, Sequence[Choice]]
    memory: Mapping[str, float]
    notes: Sequence[str] = ()

    @property
    def limits(self) -> list[Constraint]:
        """The memory of the devices."""
        return [self.metrics[device] <= room for device, room in self.memory.items() if np.isfinite(room)]

    def metric(self, name: str) -> Metric:
        """The metric of this name; an unknown name is an error that lists the known ones."""
        if name not in self.metrics:
            raise ValueError(f"there is no metric {name!r}; the table gives {', '.join(self.metrics)}")
        return self.metrics[name]

    def same(self, by: By, pattern: str) -> list[Rule]:
        """Rules that the tensors that match a pattern have the same format, or are on the same device.

        ``{}`` stands for a text without dots; tensors with the same text form one group. Wildcards are those of file
        names: ``blk.{}.ffn_*`` makes a group of each block.
        """
        expression = re.compile(translate(pattern).replace(r"\{\}", r"([^.]*)"))
        groups: dict[tuple[str, ...], list[str]] = {}
        for tensor in self.choices:
            if match := expression.fullmatch(tensor):
                groups.setdefault(match.groups(), []).append(tensor)
        if not groups:
            raise ValueError(f"no tensor is called like {pattern!r}; there are {few(list(self.choices))}")
        several = [group for group in groups.values() if len(group) > 1]
        return [core_rules.same(group, by=by).named(f"same {by}: {few(group)}") for group in several]

    def only(self, by: By, pattern: str, allowed: Iterable[str]) -> list[Rule]:
        """Rules that the tensors that match a pattern have one of the formats, or are on one of the devices."""
        names = [name for name in self.choices if re.fullmatch(translate(pattern), name)]
        if not names:
            raise ValueError(f"no tensor is called like {pattern!r}; there are {few(list(self.choices))}")
        wanted = [text.casefold() for text in allowed]
        found = []
        for name in names:
            fit = [choice.label for choice in self.choices[name] if getattr(choice, by).casefold() in wanted]
            if not fit:
                known = list(dict.fromkeys(getattr(choice, by) for choice in self.choices[name]))
                raise ValueError(f"tensor {name!r} has none of the {by}s {few(wanted)}; it has {few(known)}")
            found.append(core_rules.at_least(1, (name, fit), name=f"{by} of {name}: {', '.join(allowed)}"))
        return found

    def limit(self, text: str) -> list[Constraint]:
        """Constraints from a text such as ``size <= 7.5MB``, ``5 <= ms <= 9`` or ``gpu + cpu <= 10GiB``."""
        return parse_bounds(_BYTES.sub(lambda match: str(bytes_of(match[0])), text), self.metrics)


def bytes_of(text: str) -> float:
    """The number of bytes in a text such as ``7.5MB`` (7,500,000) or ``8 GiB``; a number without a unit is in bytes.

    Examples
    --------
    >>> bytes_of("7.5MB"), bytes_of("8 GiB"), bytes_of("12")
    (7500000, 8589934592, 12)
    """
    match = re.fullmatch(rf"\s*((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*({'|'.join(UNITS)})?\s*", text, re.ASCII)
    if not match:
        raise ValueError(f"expected a number of bytes such as 7.5MB or 8GiB, got {text!r}")
    number = Decimal(match[1]) * UNITS[match[2] or "B"]
    return int(number) if number == number.to_integral_value() else float(number)


# -- from the table to decisions and metrics --------------------------------------------------------------------------


def plan(
    table: FormatTable,
    devices: Mapping[str, float | str | None] | Sequence[str] = (),
    *,
    cache: Cache | None = None,
) -> Plan:
    """Make the decisions and metrics of a table.

    Parameters
    ----------
    table : FormatTable
        Each tensor needs bytes and damage in at least one format (`cggd_compress.read_formats`). Formats that lack one
        of them are left out with a note if the tensor has complete ones.
    devices : mapping of name to bytes, or sequence of names, optional
        Memory of each device, as a number or a text such as ``"8GiB"``; None for no bound. By default the devices are
        those for which the table has milliseconds. Without devices, only formats are chosen.
    cache : Cache, optional
        The key-value cache. The table says which tensors it belongs to, and how many numbers are cached per token.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        If a tensor has no format with bytes and damage, or none that some device can run.

    Examples
    --------
    >>> from cggd_compress import FormatTable
    >>> rows = {"q": {"8 bit": {"bytes": 8, "damage": 1}, "4 bit": {"bytes": 4, "damage": 5}}}
    >>> both = plan(FormatTable(rows), {"gpu": 6, "cpu": None})
    >>> both.space.option_labels("q")
    ('8 bit@gpu', '4 bit@gpu', '8 bit@cpu', '4 bit@cpu')
    >>> list(both.metrics), both.limits
    (['size', 'damage', 'gpu', 'cpu'], [Constraint(gpu <= 6 B)])
    """
    timed = [column for column in table.columns if column.split(" ")[0] == "ms"]
    memory = _memory(devices or [column.removeprefix("ms ") for column in timed if "ms" not in timed])
    notes = list(table.notes)
    choices = {tensor: _choices(table.rows[tensor], tensor, list(memory), timed, notes) for tensor in table.rows}
    if not choices:
        raise ValueError("the table has no tensor with formats; give a table of damage for the tensors of the file")
    options: dict[Hashable, list[str]] = {tensor: [c.label for c in some] for tensor, some in choices.items()}
    if cache is not None:
        if CACHE in options:
            raise ValueError(f"a tensor is called {CACHE!r}, as the decision of the cache is; rename it")
        options[CACHE] = cache.labels
    flat = [choice for some in choices.values() for choice in some]
    pairs = [] if cache is None else cache.options
    attributes = {
        "format": [*(choice.format for choice in flat), *(name for _, name in pairs)],
        "device": [*(choice.device for choice in flat), *("" for _ in pairs)],
    }
    space = ChoiceSpace(options, attributes=attributes)
    columns = _Columns(table, space, choices, flat, cache)
    metrics = columns.metrics(memory)
    if clash := [device for device in memory if device in columns.metrics({})]:
        raise ValueError(f"a device must not be called like a metric, got {clash[0]!r}")
    return Plan(space, metrics, choices, memory, notes)


def _memory(devices: Mapping[str, float | str | None] | Sequence[str]) -> dict[str, float]:
    given = devices if isinstance(devices, Mapping) else dict.fromkeys(devices)
    memory: dict[str, float] = {}
    for name, room in given.items():
        if room is None:
            memory[name] = np.inf
        else:
            memory[name] = bytes_of(room) if isinstance(room, str) else as_number(room, f"the memory of {name}")
    return memory


def _choices(
    formats: Mapping[str, Mapping[str, float]], tensor: str, devices: list[str], timed: list[str], notes: list[str]
) -> list[Choice]:
    """The options of a tensor: its formats with bytes and damage, on each device that runs them."""
    complete = {name: numbers for name, numbers in formats.items() if {"bytes", "damage"} <= numbers.keys()}
    for name in formats.keys() - complete.keys():
        if not complete:
            lacks = next(column for column in ("damage", "bytes") if column not in formats[name])
            raise ValueError(f"tensor {tensor!r} has no {lacks} in format {name!r}; give a table with it")
        unknown = "damage is" if "bytes" in formats[name] else "bytes are"
        notes.append(f"{tensor}: {name} is left out, since its {unknown} not known")
    if not complete:
        raise ValueError(f"tensor {tensor!r} has no format that its shape allows; see the notes of the table")
    found = []
    for device in devices or [""]:
        own = f"ms {device}" if f"ms {device}" in timed else "ms"
        if timed and own not in timed:
            raise ValueError(f"the table has no milliseconds of device {device!r}; its columns are {few(timed)}")
        for name, numbers in complete.items():
            if not timed:
                found.append(Choice(name, device, numbers))
            elif own in numbers:  # no milliseconds: the device cannot run the format
                found.append(Choice(name, device, {**numbers, "ms": numbers[own]}))
    if not found:
        raise ValueError(f"tensor {tensor!r} has no format with milliseconds on {few(devices) or 'any device'}")
    return found


@dataclass(frozen=True, eq=False)
class _Columns:
    """Metrics over the decisions of a plan."""

    table: FormatTable
    space: ChoiceSpace
    choices: Mapping[str, Sequence[Choice]]
    flat: Sequence[Choice]
    cache: Cache | None

    def metrics(self, devices: Iterable[str]) -> dict[str, Metric]:
        found: dict[str, Metric] = {"size": self._sum("size", self._of("bytes"), "B", self.table.header)}
        cache = self.cache
        damage = [] if cache is None else [cache.formats[name] for _, name in cache.options]
        found["damage"] = self._sum("damage", self._of("damage"), self.table.units.get("damage", ""), after=damage)
        names = [name for name in self.table.columns if name.split(" ")[0] != "ms"]
        names += ["ms"] if all("ms" in choice.numbers for choice in self.flat) else []
        for name in names:
            if name not in ("bytes", "damage", "elements", "cached") and all(name in c.numbers for c in self.flat):
                unit = "ms" if name == "ms" else self.table.units.get(name, "")
                found[name] = self._sum("ms" if name == "ms" else name, self._of(name), unit)
        if bits := self._bits():
            found["bpw"] = bits
        for device in devices:
            here = np.array([choice.device == device for choice in self.flat])
            found[device] = self._on(device, here)
        if cache is not None:
            none = np.zeros(len(self.flat))
            held = sum(self._cached.values())
            found[CACHE] = self._sum(CACHE, none, "B", after=np.asarray(held).tolist())
            found[CONTEXT] = self._sum(CONTEXT, none, "tokens", after=[float(tokens) for tokens, _ in cache.options])
        return found

    def _of(self, column: str) -> NDArray[np.float64]:
        return np.array([choice.numbers[column] for choice in self.flat], dtype=float)

    def _sum(
        self, name: str, values: NDArray[np.float64], unit: str, constant: float = 0.0, after: Sequence[float] = ()
    ) -> Additive:
        rest = list(after) or [0.0] * (self.space.n_options - len(self.flat))
        return Additive(self.space, [*values.tolist(), *rest], constant, name=name, unit=unit)

    def _bits(self) -> Metric | None:
        """Bits per weight of the model; None if the number of weights of some tensor is not known."""
        counts = [{choice.numbers.get("elements") for choice in some} for some in self.choices.values()]
        if any(None in some or len(some) > 1 for some in counts):
            return None
        total = sum(some.pop() or 0 for some in counts)
        return self._sum("bpw", 8 * self._of("bytes") / total, "bit") if total else None

    def _on(self, device: str, here: NDArray[np.bool_]) -> Metric:
        """Bytes on a device: its tensors, and the cache of the layers on it."""
        held = self._sum(device, np.where(here, self._of("bytes"), 0.0), "B")
        if self.cache is None:
            return held
        tables: dict[tuple[str, ...], Any] = {}
        for place, tensor in enumerate(self.choices):
            first, last = self.space.offsets[place : place + 2]
            own = held.values[first:last]
            if tensor in self._cached:
                tables[tensor, CACHE] = own[:, None] + here[first:last, None] * self._cached[tensor]
            elif own.any():
                tables[(tensor,)] = own
        return Interactions(self.space, tables, name=device, unit="B") if tables else held

    @cached_property
    def _cached(self) -> dict[str, NDArray[np.float64]]:
        """Bytes of the cache that belongs to each tensor, for each option of the cache."""
        assert self.cache is not None
        found = {}
        for tensor, choices in self.choices.items():
            numbers = {choice.numbers.get("cached", self.table.cached.get(tensor, 0)) for choice in choices}
            if len(numbers) > 1:
                raise ValueError(f"tensor {tensor!r} must have one number in column 'cached', got {sorted(numbers)}")
            if each := numbers.pop():
                blocks = {name: block_of(name) or (1, 0) for name in self.cache.formats}
                sizes = [ceil(n * each * blocks[name][1] / blocks[name][0]) for n, name in self.cache.options]
                found[tensor] = np.array(sizes, dtype=float)
        if not found:
            raise ValueError("the cache needs its numbers for each token: a GGUF file, or a column 'cached'")
        return found


# -- answers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Recipe:
    """The format and device of each tensor, with totals and the status; `make_recipe` makes it.

    Attributes
    ----------
    plan : Plan
    result : Result
        Its `status` says whether optimality or infeasibility is proved.
    """

    plan: Plan
    result: Result

    @property
    def feasible(self) -> bool:
        """Whether a selection within all limits was found."""
        return self.result.feasible

    @cached_property
    def chosen(self) -> dict[str, Choice]:
        """The choice of each tensor; empty if no selection within the limits was found."""
        selection = self.result.selection or {}
        chosen = self.plan.choices.items() if selection else ()
        return {tensor: next(c for c in choices if c.label == selection[tensor]) for tensor, choices in chosen}

    @cached_property
    def totals(self) -> dict[str, float]:
        """The value of every metric of the plan."""
        selection = self.result.selection
        return {} if selection is None else {name: metric(selection) for name, metric in self.plan.metrics.items()}

    @cached_property
    def diagnosis(self) -> Diagnosis | None:
        """For infeasible limits: which of them conflict, and the least bound that works; otherwise None."""
        if self.result.status is not Status.INFEASIBLE:
            return None
        return diagnose(self.result.problem.constraints)

    def summary(self, *, tensors: int = 20) -> str:
        """Status, limits, totals and choices as text; with more than `tensors` tensors, choices are counted."""
        result = self.result
        if self.diagnosis is not None:
            return f"status     {self.diagnosis}"
        lines = [f"status     {result.status.value}"]
        if result.value is not None:
            value, bound = true_texts(result.value, result.value if result.bound is None else result.bound)
            known = "" if result.bound is None else f" (bound {bound})"
            lines.append(f"{result.sense:<10} {result.objective} = {value}{known}")
        lines += [f"limit      {on_one_line(row)}" for row in result.constraints if not row.words or not row.satisfied]
        if kept := sum(bool(row.words and row.satisfied) for row in result.constraints):
            lines.append(f"rules      {kept} kept")
        lines += [f"total      {name} = {number_text(total)}" for name, total in self.totals.items()]
        if result.selection is not None and CACHE in result.selection:
            lines.append(f"cache      {result.selection[CACHE]}")
        if len(self.chosen) <= tensors:
            lines += [f"  {on_one_line(tensor)}: {on_one_line(choice.label)}" for tensor, choice in self.chosen.items()]
        else:
            counts: dict[str, int] = {}
            for choice in self.chosen.values():
                counts[choice.label] = counts.get(choice.label, 0) + 1
            lines += [f"  {on_one_line(label)}: {n} tensors" for label, n in counts.items()]
        return "\n".join(lines)

    def to_csv(self, path: StrPath | None = None) -> str:
        """The choices as CSV: ``tensor``, ``format``, ``device``, ``bytes``, ``damage`` and ``ms`` if it is known.

        With a path, the text is also written to this file.
        """
        timed = "ms" in self.plan.metrics
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["tensor", "format", "device", "bytes", "damage", *(["ms"] if timed else [])])
        for tensor, c in self.chosen.items():
            numbers = [c.numbers[name] for name in ("bytes", "damage", *(["ms"] if timed else []))]
            writer.writerow([csv_cell(tensor), csv_cell(c.format), csv_cell(c.device), *numbers])
        if path is not None:
            write_text(path, text.getvalue())
        return text.getvalue()

    def to_json(self) -> str:
        """A manifest: limits, objective, what is proved, and the choice of each tensor."""
        result = self.result
        selection = result.selection or {}
        data = {
            "format": "cggd-recipe-1",
            "status": result.status.name,
            "proved": result.status in (Status.OPTIMAL, Status.INFEASIBLE),
            "objective": {
                "name": result.objective,
                "sense": result.sense,
                "value": result.value,
                "bound": result.bound,
            },
            "limits": [{"text": str(row), "satisfied": row.satisfied} for row in result.constraints],
            "totals": self.totals,
            "cache": selection.get(CACHE),
            "tensors": [
                {"tensor": tensor, "format": c.format, "device": c.device, **c.numbers}
                for tensor, c in self.chosen.items()
            ],
            "diagnosis": None if self.diagnosis is None else str(self.diagnosis),
            "notes": list(self.plan.notes),
        }
        return json.dumps(data, allow_nan=False)

    def tensor_types(self) -> list[str]:
        r"""Lines for ``llama-quantize --tensor-type-file``, one for each tensor: ``^blk\.0\.attn_q\.weight$=q8_0``.

        llama-quantize reads the name as a regular expression in lower case, and uses the first line that matches.

        Raises
        ------
        ValueError
            If a format is not one of ggml, or the expression of a tensor also matches another tensor.
        """
        for tensor, choice in self.chosen.items():
            if block_of(choice.format) is None:
                raise ValueError(f"format {choice.format!r} of tensor {tensor!r} is no format of ggml")
        return [f"{pattern}={self.chosen[tensor].format}" for tensor, pattern in self._patterns().items()]

    def buffer_types(self) -> list[str]:
        r"""Values for ``--override-tensor`` of llama.cpp, one for each tensor: ``^blk\.0\.attn_q\.weight$=CUDA0``.

        Devices must have the names of llama.cpp's buffers, such as ``CPU`` and ``CUDA0``.
        """
        return [f"{pattern}={self.chosen[tensor].device}" for tensor, pattern in self._patterns().items()]

    def _patterns(self) -> dict[str, str]:
        """A regular expression for each tensor, which matches no later tensor."""
        found = {}
        for tensor in self.chosen:
            # Capitals would become lower case, and blanks, commas and = would end the name.
            plain = "".join(c if re.fullmatch(r"[a-z0-9_/-]", c) else r"\." if c == "." else "." for c in tensor)
            found[tensor] = f"^{plain}$"
            if any(re.search(found[tensor], other) for other in self.chosen if other != tensor and other not in found):
                raise ValueError(f"the name of tensor {tensor!r} cannot be told from another one; rename it")
        return found


def make_recipe(
    plan: Plan,
    limits: Iterable[str | Constraint | Rule] = (),
    *,
    minimize: str | None = None,
    maximize: str | None = None,
    then: Sequence[tuple[str, Sense]] = (),
    **options: Any,
) -> Recipe:
    """Choose the format, and the device, of every tensor.

    Parameters
    ----------
    plan : Plan
        The memory of its devices is a limit.
    limits : list of str, Constraint or Rule
        Further limits: texts such as ``"size <= 7MB"`` (`Plan.limit`), constraints on `Plan.metrics`, rules such as
        those of `Plan.same` and `Plan.only`.
    minimize, maximize : str, optional
        Name of the metric; by default the damage is minimized.
    then : list of (name, {"minimize", "maximize"})
        Metrics to optimise next, one after another, each without making the metrics before it worse.
    **options
        Those of `cggd.minimize`: ``time_limit``, ``seed``, ``gap``, ...

    Returns
    -------
    Recipe
        The status of its result is OPTIMAL if the core proved that no selection is better, and INFEASIBLE if it proved
        that no selection is within the limits; `Recipe.diagnosis` then names the least bound that works.

    Examples
    --------
    >>> from cggd_compress import FormatTable
    >>> rows = {"q": {"8 bit": {"bytes": 8, "damage": 1}, "4 bit": {"bytes": 4, "damage": 5}}}
    >>> rows["v"] = {"8 bit": {"bytes": 16, "damage": 0.5}, "4 bit": {"bytes": 8, "damage": 2}}
    >>> recipe = make_recipe(plan(FormatTable(rows)), ["size <= 16"])
    >>> recipe.result.status.name, recipe.result.selection
    ('OPTIMAL', {'q': '8 bit', 'v': '4 bit'})
    """
    if minimize is not None and maximize is not None:
        raise ValueError("give either minimize or maximize")
    objective = plan.metric(maximize or minimize or "damage")
    problem = Problem(objective, limits_of(plan, limits), "minimize" if maximize is None else "maximize")
    options.setdefault("improvers", improvers_of(plan))
    following: list[tuple[Metric, Sense]] = [(plan.metric(name), sense) for name, sense in then]
    return Recipe(plan, solve_in_order(problem, following, **options))


def improvers_of(plan: Plan) -> list[Improver] | None:
    """Improvers for a plan: with a cache, first each option of the cache; otherwise None, the core's portfolio."""
    if CACHE not in plan.space.decisions:
        return None
    return [EachOption(plan.space.decisions.index(CACHE)), *portfolio()]


def limits_of(plan: Plan, limits: Iterable[str | Constraint | Rule]) -> list[Any]:
    """The memory of the devices of a plan, and further limits as `make_recipe` takes them."""
    found: list[Any] = list(plan.limits)
    for limit in limits:
        found += plan.limit(limit) if isinstance(limit, str) else [limit]
    return found
