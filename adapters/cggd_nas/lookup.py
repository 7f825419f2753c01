"""Look-up tables: the cost of each part of a network on a device, measured once and written to a file."""

from __future__ import annotations

import copy
import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from cggd.io.text import StrPath, csv_cell, csv_text, fail, is_number, not_a_number, read_text, write_text
from cggd.metrics import Additive, Function, Metric
from cggd.rounding import is_whole, sum_rounding
from cggd.space import few
from cggd_nas.calls import Place
from cggd_nas.measure import Measurement, latency
from cggd_nas.plain import as_supernet
from cggd_nas.sums import sum_of_operations, summed
from cggd_nas.supernet import Supernet
from cggd_nas.trace import Example, replaced_tensors
from cggd_nas.tracer import Call, Tracer

COLUMNS = ("module", "option", "input_shape", "value", "unit", "device", "date")

# Random networks traced to find the parts to measure if parts interact. All of them miss an option with probability
# (1 - 1/n)^200 for a decision of n options: 1e-19 for 5.
SAMPLED = 200


@dataclass(frozen=True)
class Entry:
    """A number of a look-up table, with its unit, its device, and the date (ISO 8601) of the measurement."""

    value: float
    unit: str
    device: str
    date: str


@dataclass(frozen=True, eq=False)
class LookupTable:
    """The costs of parts of networks on one device.

    The file is CSV (UTF-8, commas) with the header ``module,option,input_shape,value,unit,device,date``:

    - ``module``: path of the part in the supernet, as in ``named_modules``;
    - ``option``: label of the part's option. It is empty for parts that are in every network. If the part depends on
      several decisions, it is ``decision=label`` for each, sorted and joined by semicolons;
    - ``input_shape``: shape of the part's input, such as ``1x16x32x32``; shapes of several inputs are separated by
      blanks. It is empty for a value that holds for every shape;
    - ``value``, ``unit``: a number with a decimal point, for example milliseconds, and its unit;
    - ``device``, ``date``: where and when it was measured, with dates such as ``2026-01-31``.

    Text that a spreadsheet program would read as a formula starts with an apostrophe, as in `cggd.io.write_options`.

    Parameters
    ----------
    entries : mapping of Place to Entry
        All with the same unit and device.

    Examples
    --------
    >>> place = Place("cell.conv", "conv3", ((1, 16, 32, 32),))
    >>> table = LookupTable({place: Entry(0.5, "ms", "a board", "2026-01-31")})
    >>> print(table.to_csv(), end="")
    module,option,input_shape,value,unit,device,date
    cell.conv,conv3,1x16x32x32,0.5,ms,a board,2026-01-31
    """

    entries: Mapping[Place, Entry]

    def __post_init__(self) -> None:
        for what in ("unit", "device"):
            known = list(dict.fromkeys(getattr(entry, what) for entry in self.entries.values()))
            if len(known) > 1:
                raise ValueError(f"entries must have one {what}, got {few(known)}; make a table of each")

    @property
    def unit(self) -> str:
        """Unit of all values."""
        return next((entry.unit for entry in self.entries.values()), "")

    # -- files --------------------------------------------------------------------------------------------------------

    def to_csv(self) -> str:
        """The table as CSV text."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for place, entry in self.entries.items():
            shape = " ".join("x".join(map(str, shape)) for shape in place.shapes)
            path, option, unit, device = map(csv_cell, (place.path, place.option, entry.unit, entry.device))
            writer.writerow([path, option, shape, entry.value, unit, device, entry.date])
        return text.getvalue()

    def write(self, path: StrPath) -> None:
        """Write the table to a file."""
        write_text(path, self.to_csv())

    @classmethod
    def read(cls, path: StrPath) -> LookupTable:
        """Read a table written by `write`, by hand or by another program.

        Raises
        ------
        ValueError
            If the file is not such a table. The message names the line.
        """
        reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
        entries: dict[Place, Entry] = {}
        try:
            header = next(reader, [])
            if tuple(header) != COLUMNS:
                fail(path, 1, f"expected the header {','.join(COLUMNS)}, got {','.join(header)!r}")
            for cells in filter(None, reader):
                place, entry = _row(path, reader.line_num, cells)
                if place in entries:
                    fail(path, reader.line_num, f"there are two values of {place}")
                entries[place] = entry
        except csv.Error as error:
            fail(path, reader.line_num, f"expected fields with closed quotes: {error}")
        try:
            return cls(entries)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    # -- use ----------------------------------------------------------------------------------------------------------

    def metric(
        self, model: nn.Module | Supernet, example: Example, *, name: str = "latency", tracer: Tracer | None = None
    ) -> Metric:
        """The sum of the values of all parts of a network, as a metric on the supernet's space.

        Operations outside of modules, such as a sum in a ``forward``, have no entry and count 0.

        Parameters
        ----------
        model : nn.Module or Supernet
        example : Tensor or sequence of Tensor
            Its shapes determine which entries are used.
        name : str
        tracer : Tracer, optional
            A tracer of this supernet and example to use again.

        Returns
        -------
        Additive, Interactions or Function
            `cggd.Additive` if each part depends on at most one decision, `cggd.Interactions` if parts depend on a few
            decisions together and the table has all of them, otherwise an exact `cggd.Function`. Bounds allow for the
            rounding of the sum.

        Raises
        ------
        ValueError
            If entries are missing. The message names them. If parts depend on several decisions, the error is a
            `cggd.MetricError`, raised when a network that needs the entries is evaluated.
        """
        supernet = as_supernet(model)
        tracer = tracer or Tracer(supernet, example)
        if (separated := tracer.separated()) is not None:
            self._check([*separated.fixed, *(call for _, options in separated.switched for call in options)])
            values, constant = separated.additive(supernet.space, lambda call: self._value(call.place))
            return Additive(supernet.space, values, constant, name=name, unit=self.unit)

        try:
            tables = sum_of_operations(tracer, lambda traced: self._exact(traced.calls))
        except _MissingError:
            tables = None  # the error is raised when such a network is evaluated
        if tables is not None:
            return summed(tables, supernet.space, 1, name=name, unit=self.unit)

        def added(selection: Mapping) -> float:
            calls = tracer.calls(selection)
            self._check(calls)
            return math.fsum(self._value(call.place) for call in calls)

        terms = 0 if is_whole([entry.value for entry in self.entries.values()]) else max(len(self.entries), 2)
        return Summed(supernet.space, added, terms=terms, name=name, unit=self.unit)

    def _exact(self, calls: Iterable[Call]) -> Fraction:
        """The exact sum of the entries of calls."""
        found = [self._entry(call.place) for call in calls]
        if None in found:
            raise _MissingError
        return sum((Fraction(entry.value) for entry in found if entry is not None), Fraction())

    def _check(self, calls: Iterable[Call]) -> None:
        missing = [str(place) for place in _places(calls) if self._entry(place) is None]
        if missing:
            raise ValueError(
                f"the look-up table has no entry for {len(missing)} parts: {few(missing)}; measure them with "
                "measure_lookup, or add their rows"
            )

    def _entry(self, place: Place) -> Entry | None:
        return self.entries.get(place) or self.entries.get(Place(place.path, place.option, ()))

    def _value(self, place: Place) -> float:
        entry = self._entry(place)
        return 0.0 if entry is None else entry.value


class _MissingError(Exception):
    """A part has no entry."""


@dataclass(frozen=True, eq=False, repr=False)
class Summed(Function):
    """A function that adds numbers of one sign. Bounds on it allow for the rounding of the sum.

    Parameters
    ----------
    space, function, batch, repeats, cache, name, unit
        See `cggd.Function`.
    terms : int
        Largest number of summands; 0 if all are whole numbers, so nothing is rounded.
    """

    terms: int = field(default=0, kw_only=True)

    def rounding_of(self, values: NDArray[np.float64]) -> Any:
        return sum_rounding(np.abs(values), self.terms) if self.terms else 0.0


def measure_lookup(
    model: nn.Module | Supernet,
    example: Example,
    *,
    measure: Callable[[nn.Module, tuple[Any, ...]], Measurement] = latency,
    known: LookupTable | None = None,
    selections: ArrayLike | None = None,
    seed: int = 0,
    progress: Callable[[Place, Entry], None] | None = None,
) -> LookupTable:
    """Measure every part of a supernet's networks.

    Parts are the options of choices, each at the shape of its input, and the outermost modules outside of choices.

    Parameters
    ----------
    model : nn.Module or Supernet
    example : Tensor or sequence of Tensor
        The network's input. Use a batch of 1 for latencies of single inputs.
    measure : callable
        From a plain module with random weights and a tuple of its input tensors, on the CPU, to a `Measurement`, whose
        median is stored. By default `cggd_nas.measure.latency`. For a board, give a function that runs the module
        there.
    known : LookupTable, optional
        Entries that are already measured; they are kept.
    selections : array-like of int, shape (n, n_decisions), optional
        The networks whose parts are measured. By default all parts, if each depends on at most one decision. Otherwise
        the parts of all networks, or of 200 random networks if there are more.
    seed : int
        For the random networks.
    progress : callable, optional
        Called with the place and entry of each measured part.
    """
    if not callable(measure):
        raise TypeError(f"measure must be a function of a module and a tuple of its arguments, got {measure!r}")
    if known is not None:
        check_table(known, "known")
    supernet = as_supernet(model)
    tracer = Tracer(supernet, example)
    entries = dict(known.entries) if known is not None else {}
    for place, call in _needed(tracer, selections, seed).items():
        if place not in entries:
            result = measure(_real(call.part()), tuple(map(_real_tensor, call.tensors)))
            if not isinstance(result, Measurement):
                raise TypeError(f"measure must return a cggd_nas.measure.Measurement, got {result!r}")
            today = date.today().isoformat()
            entries[place] = Entry(result.median, result.unit, result.device, today)
            if progress is not None:
                progress(place, entries[place])
    return LookupTable(entries)


def _needed(tracer: Tracer, selections: ArrayLike | None, seed: int) -> dict[Place, Call]:
    space = tracer.supernet.space
    if selections is None and (separated := tracer.separated()) is not None:
        return _places([*separated.fixed, *(call for _, options in separated.switched for call in options)])
    if selections is not None:
        rows = space.check_selections(selections)
    elif space.n_selections <= SAMPLED:
        rows = space.enumerate()
    else:
        rows = space.sample(SAMPLED, np.random.default_rng(seed))
    needed: dict[Place, Call] = {}
    for row in rows:
        needed = _places(tracer.calls(space.labels(row))) | needed
    return needed


def _places(calls: Iterable[Call]) -> dict[Place, Call]:
    return {call.place: call for call in calls}


def check_table(table: Any, argument: str) -> None:
    """Raise if `table` is not a look-up table; `argument` names it."""
    if not isinstance(table, LookupTable):
        raise TypeError(f"{argument} must be a LookupTable, got {table!r}")


def _real(module: nn.Module) -> nn.Module:
    """A copy of a module of fake tensors with random weights; times do not depend on their values."""
    made = copy.deepcopy(module, replaced_tensors(module, _real_tensor))
    for part in made.modules():
        part._forward_pre_hooks.clear()
        part._forward_hooks.clear()
    return made


def _real_tensor(x: Tensor) -> Tensor:
    if not x.is_floating_point():
        return torch.zeros(x.shape, dtype=x.dtype)
    # Positive, as running variances are, and so small that sums of many do not overflow. PyTorch's own generator is not
    # used, so later random numbers do not depend on the number of measured parts.
    return torch.rand(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0)) / 16


def _row(path: StrPath, line: int, cells: list[str]) -> tuple[Place, Entry]:
    if len(cells) != len(COLUMNS):
        fail(path, line, f"expected {len(COLUMNS)} fields ({', '.join(COLUMNS)}), got {len(cells)}")
    module, option, shape, value, unit, device, day = (csv_text(cell.strip()) for cell in cells)
    if not re.fullmatch(r"(\d+(x\d+)*( |$))*", shape):
        fail(path, line, f"expected an input shape such as 1x16x32x32, got {shape!r}")
    if not is_number(value):
        fail(path, line, not_a_number(value))
    try:
        date.fromisoformat(day)
    except ValueError:
        fail(path, line, f"expected a date such as 2026-01-31, got {day!r}")
    shapes = tuple(tuple(map(int, one.split("x"))) for one in shape.split())
    return Place(module, option, shapes), Entry(float(value), unit, device, day)
