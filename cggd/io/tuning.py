"""Results of kernel tuners in the T4 format: one entry per configuration, with its numbers or why it is invalid."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from cggd.entries import label_from_json, label_to_json, parse_json, shortened
from cggd.io.text import StrPath, read_text, write_text
from cggd.metrics import Measurement
from cggd.space import ChoiceSpace

# What T4 says of a configuration that was measured; all other values of `invalidity` say why it was not.
CORRECT = "correct"
INVALIDITIES = (CORRECT, "timeout", "compile", "runtime", "correctness", "constraints")

Configuration = dict[Hashable, Hashable]


def read_t4(path: StrPath) -> tuple[ChoiceSpace, dict[str, str], list[tuple[Configuration, dict[str, float] | None]]]:
    """Read a results file in the T4 format, as Kernel Tuner and other kernel tuners write it.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    space : ChoiceSpace
        The parameters, and those of their values that occur in the file, in ascending order.
    units : mapping of str to str
        The measurements that are numbers in every valid configuration, with their units.
    results : list of (configuration, numbers)
        Numbers are None for an invalid configuration. Give each to `Measurement.record`.

    Raises
    ------
    ValueError
        If the file is not in this format.

    Examples
    --------
    >>> space = ChoiceSpace({"block": [32, 64], "tile": [1, 2]})
    >>> bench = Measurement(space, lambda s: {"time": 64 / s["block"] + s["tile"]}, {"time": "ms"})
    >>> bench["time"]({"block": 64, "tile": 1}), bench["time"]({"block": 32, "tile": 2})
    (2.0, 4.0)
    >>> write_t4(bench, "results.json")
    >>> space, units, results = read_t4("results.json")
    >>> units, results[0]
    ({'time': 'ms'}, ({'block': 64, 'tile': 1}, {'time': 2.0}))
    """
    # Kernel Tuner writes NaN, which JSON does not have.
    data = parse_json(re.sub(r"\bNaN\b(?=\s*[,}\]])", "null", read_text(path)), path)
    entries = data.get("results") if isinstance(data, Mapping) else None
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path}: expected an object with results, a list of at least one entry, as in the T4 format")
    results: list[tuple[Configuration, dict[str, float] | None]] = []
    units: dict[str, str] = {}
    for number, entry in enumerate(entries, start=1):
        where = f"{path}, result {number}"
        configuration, values = _entry(entry, where, units)
        names = list(results[0][0] if results else configuration)
        if set(configuration) != set(names):
            raise ValueError(f"{where}: expected the parameters {', '.join(map(str, names))}")
        results.append(({name: configuration[name] for name in names}, values))
    valid = [values for _, values in results if values is not None]
    common = [name for name in units if all(name in values for values in valid)]
    if not common:
        raise ValueError(f"{path}: no measurement is a number in every valid configuration")
    options = {name: _ordered({configuration[name] for configuration, _ in results}) for name in results[0][0]}
    kept = [(c, None if v is None else {name: v[name] for name in common}) for c, v in results]
    return ChoiceSpace(options), {name: units[name] for name in common}, kept


def _entry(entry: Any, where: str, units: dict[str, str]) -> tuple[Configuration, dict[str, float] | None]:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("configuration"), Mapping):
        raise ValueError(f"{where}: expected an object with a configuration, got {shortened(entry)}")
    configuration: Configuration = {name: label_from_json(value) for name, value in entry["configuration"].items()}
    if entry.get("invalidity") not in INVALIDITIES:
        known = ", ".join(INVALIDITIES)
        raise ValueError(f"{where}: invalidity must be one of {known}, got {entry.get('invalidity')!r}")
    if entry["invalidity"] != CORRECT:
        return configuration, None
    values = {}
    measurements = entry.get("measurements", [])
    if not isinstance(measurements, list):
        raise ValueError(f"{where}: measurements must be a list, got {shortened(measurements)}")
    for one in measurements:
        if not isinstance(one, Mapping) or not isinstance(one.get("name"), str):
            raise ValueError(f"{where}: a measurement must be an object with a name, got {shortened(one)}")
        value, unit = one.get("value"), one.get("unit")
        if value is None:
            return configuration, None  # not a number
        if isinstance(value, int | float) and not isinstance(value, bool):
            values[one["name"]] = float(value)
            units.setdefault(one["name"], unit if isinstance(unit, str) else "")
    return configuration, values


def _ordered(labels: set[Hashable]) -> list[Hashable]:
    try:
        return sorted(labels)  # pyright: ignore[reportArgumentType]
    except TypeError:  # numbers and text
        return sorted(labels, key=str)


def write_t4(bench: Measurement, path: StrPath) -> None:
    """Write what a `Measurement` has measured as a results file in the T4 format.

    Means are written where a selection was measured several times. The reason of an invalid selection is not known to
    the memory and is written as ``runtime``. See `read_t4` for an example.
    """
    rows = bench.selections()
    known, means, _ = bench.known(rows)
    entries = []
    for row, numbers in zip(rows[known], means[known].tolist(), strict=True):
        valid = not np.isnan(numbers).any()
        pairs = zip(bench.units.items(), numbers, strict=True)
        entries.append(
            {
                "configuration": {str(d): o for d, o in bench.space.labels(row).items()},
                "times": {},
                "invalidity": CORRECT if valid else "runtime",
                "correctness": 1 if valid else 0,
                "measurements": [{"name": n, "value": v, "unit": u} for (n, u), v in pairs] if valid else [],
                "objectives": list(bench.units)[:1],
            }
        )
    write_text(path, json.dumps({"schema_version": "1.0.0", "results": entries}, default=label_to_json, indent=1))
