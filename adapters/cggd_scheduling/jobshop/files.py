"""Reading and writing job shops: the classical format, FJSPLIB and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from cggd.entries import label_from_json, label_to_json
from cggd.io import check_keys
from cggd.io.text import read_text, write_text
from cggd.space import few
from cggd_scheduling.files import load_json, mapping_of, named, package, rows_of, suffix, unpacked
from cggd_scheduling.jobshop.problem import JobShop

# Optional keys of JSON, with the number of labels in a row: 1 for jobs, 2 for pairs of operations.
TIMES = {"release": 1, "due": 1, "weights": 1, "lags": 2, "longest_lags": 2}


def read(path: str | PathLike, *, instance: str | None = None) -> JobShop:
    """Read a job shop: classical (as ``ft06``), flexible (FJSPLIB, ``.fjs``), or JSON.

    - A classical file has a line with the numbers of jobs and machines, then a line for each job: pairs of machine,
      from 0, and duration, each machine once. If a file has several job shops, a line ``instance NAME`` stands before
      each. Other lines before the numbers of jobs and machines are headings.
    - The first line of a ``.fjs`` file has the numbers of jobs and machines. Each further line is a job: the number of
      its operations, then for each the number of machines and pairs of machine, from 1 (or from 0 if a machine is 0),
      and duration.
    - JSON (gzipped or not) has ``jobs[j][i]``, a list of pairs of machine and duration; optional ``name``, ``n_jobs``
      and ``n_machines``; and the keys that `write` describes; or it has several such objects by name. Any other key is
      an error.

    Machines of a text file are numbered from 0 in the job shop.

    Parameters
    ----------
    path : path
    instance : str, optional
        Name of one of several job shops in the file.

    Raises
    ------
    ValueError
        If the file is not a job shop; the message names the file.
    """
    path = Path(path)
    if suffix(path) == ".json":
        with named(path):
            return _of_json(path, instance)
    if is_classical(path):
        shops = read_shops(path)
        with named(path):
            return shops[_which(shops, instance)]
    if suffix(path) not in (".fjs", ".txt"):
        raise ValueError(f"{path}: expected a classical job shop, or a file that ends in .fjs, .txt or .json")
    with named(path):
        return JobShop([[_distinct(pairs) for pairs in job] for job in _of_fjs(path)], path.name.split(".")[0])


def write(shop: JobShop, path: str | PathLike) -> None:
    """Write a job shop as JSON, for `read`.

    Parameters
    ----------
    shop : JobShop
        Its machines are strings, numbers, bools or tuples of these.
    path : path
        Gzipped if it ends in ``.gz``.

    Notes
    -----
    The object has ``name``, ``jobs`` and ``unit``. If they are not empty, it also has ``release``, ``due`` and
    ``weights``, lists of ``[job, number]``; ``lags`` and ``longest_lags``, lists of ``[operation, operation, time]``
    where an operation is ``[job, position]``; and ``setups``, a list of ``[machine, [[job, job, time], ...]]``.
    """
    data: dict[str, Any] = {"name": shop.name, "unit": shop.unit}
    data |= {name: rows_of(of, width) for name, width in TIMES.items() if (of := getattr(shop, name))}
    if shop.setups:
        data["setups"] = [[machine, rows_of(of, 2)] for machine, of in shop.setups.items()]
    data["jobs"] = [[rows_of(machines) for machines in job] for job in shop.jobs]
    write_text(path, json.dumps(data, default=label_to_json, allow_nan=False))


def is_classical(path: str | PathLike) -> bool:
    """Whether a text file has classical job shops: headings, the two sizes, and lines with a pair for each machine."""
    if suffix(path) in (".json", ".fjs"):
        return False
    lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
    if any(line[0] == "instance" and len(line) == 2 for line in lines):
        return True
    at = _size_line(lines)
    if at is None or at + 1 >= len(lines) or len(lines[at + 1]) != 2 * int(lines[at][1]):
        return False
    # A line of FJSPLIB may have as many numbers by chance.
    return suffix(path) != ".txt" or sorted(lines[at + 1][::2]) == sorted(map(str, range(int(lines[at][1]))))


def read_shops(path: str | PathLike) -> dict[str, JobShop]:
    """Read the classical job shops of a text file, by name; a single one has the name of the file.

    Raises
    ------
    ValueError
        If the file has something else; the message names the file, the instance and the job.
    """
    path = Path(path)
    with named(path):
        shops: dict[str, JobShop] = {}
        for name, lines in _sections(read_text(path).splitlines(), path.name.split(".")[0]):
            if name in shops:
                raise ValueError(f"instance {name} is there twice")
            shops[name] = _classical(name, lines)
        return shops


def _size_line(lines: Sequence[Sequence[str]]) -> int | None:
    return next((n for n, line in enumerate(lines) if len(line) == 2 and all(map(str.isdecimal, line))), None)


def _sections(lines: Sequence[str], stem: str) -> Iterator[tuple[str, list[list[str]]]]:
    """Name and lines, as lists of words, of each job shop, from the line with the sizes on."""
    words = [line.split() for line in lines]
    begins = [n for n, line in enumerate(words) if line[:1] == ["instance"] and len(line) == 2]
    for begin, end in zip(begins or [-1], [*begins[1:], len(words)], strict=True):
        name = words[begin][1] if begins else stem
        body = words[begin + 1 : end]
        if (size := _size_line(body)) is None:
            raise ValueError(f"instance {name}: expected a line with the numbers of jobs and machines, and found none")
        yield name, [line for line in body[size:] if line and any(map(str.isalnum, line[0]))]


def _classical(name: str, lines: Sequence[Sequence[str]]) -> JobShop:
    n_jobs, n_machines = map(int, lines[0])
    if len(lines) - 1 != n_jobs:
        raise ValueError(f"instance {name}: expected {n_jobs} lines of jobs, got {len(lines) - 1}")
    jobs = []
    for job, line in enumerate(lines[1:], start=1):
        where = f"instance {name}, job {job}"
        if wrong := [word for word in line if not word.isdecimal()]:
            raise ValueError(f"{where}: expected whole numbers of at least 0, got {wrong[0]!r}")
        if len(line) != 2 * n_machines:
            raise ValueError(f"{where}: expected {n_machines} pairs of machine and duration, got {len(line)} numbers")
        numbers = [int(word) for word in line]
        if sorted(numbers[::2]) != list(range(n_machines)):
            raise ValueError(f"{where}: expected each machine of 0 to {n_machines - 1} once, got {numbers[::2]}")
        jobs.append([{machine: duration} for machine, duration in zip(numbers[::2], numbers[1::2], strict=True)])
    return JobShop(jobs, name)


def _of_fjs(path: Path) -> list[list[list[tuple[int, int]]]]:
    fjsplib = package("fjsplib", ".fjs files")
    lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
    if not lines or len(lines[0]) < 2:
        raise ValueError("not a .fjs file: the first line must have the numbers of jobs and machines")
    # fjsplib ignores surplus numbers and cuts off fractions, so both are checked here.
    for number, line in enumerate(lines[1:], 1):
        if wrong := [word for word in line if not float(word).is_integer()]:
            raise ValueError(f"job {number} has the number {wrong[0]}, and all of its numbers must be whole")
        numbers, at = [int(float(word)) for word in line], 1
        for i in range(numbers[0]):
            if at >= len(numbers):
                raise ValueError(f"job {number} ends before its operation {i + 1} of {numbers[0]}")
            at += 1 + 2 * numbers[at]
        if at != len(numbers):
            raise ValueError(f"job {number} has {len(numbers)} numbers; its {numbers[0]} operations make {at}")
    with unpacked(path) as plain:
        found = fjsplib.read(plain)
    if len(found.jobs) != found.num_jobs:
        raise ValueError(f"the first line says {found.num_jobs} jobs, and {len(found.jobs)} follow")
    used = [m for job in found.jobs for pairs in job for m, _ in pairs]
    first = -1 if used and min(used) == -1 and max(used) < found.num_machines - 1 else 0
    for j, job in enumerate(found.jobs, 1):
        if wrong := [m + 1 for pairs in job for m, _ in pairs if not 0 <= m - first < found.num_machines]:
            raise ValueError(f"job {j} names machine {wrong[0]}; there are machines 1 to {found.num_machines}")
    return [[[(m - first, duration) for m, duration in pairs] for pairs in job] for job in found.jobs]


def _of_json(path: Path, instance: str | None) -> JobShop:
    data = load_json(path)
    if not isinstance(data, dict):
        raise ValueError('expected an object with "jobs"')
    shops = {data.get("name", path.stem): data} if "jobs" in data else data
    name = _which({name: shop for name, shop in shops.items() if isinstance(shop, dict) and "jobs" in shop}, instance)
    shop = shops[name]
    check_keys(shop, ("name", "unit", "jobs", "n_jobs", "n_machines", "setups", *TIMES), f"job shop {name!r}")
    jobs = shop["jobs"]
    found = JobShop(
        [[mapping_of(pairs, "an operation") for pairs in job] for job in jobs],
        name,
        shop.get("unit", ""),
        **{key: mapping_of(shop.get(key, []), key, width) for key, width in TIMES.items()},
        setups={label_from_json(machine): mapping_of(of, "setups", 2) for machine, of in shop.get("setups", ())},
    )
    counted = {"n_jobs": len(jobs), "n_machines": len(found.machines)}
    if shop.get("n_jobs", len(jobs)) != counted["n_jobs"]:
        raise ValueError(f"n_jobs says {shop['n_jobs']} jobs, and jobs has {counted['n_jobs']}")
    if shop.get("n_machines", counted["n_machines"]) < counted["n_machines"]:
        raise ValueError(f"n_machines says {shop['n_machines']} machines, and jobs names {counted['n_machines']}")
    return found


def _which(shops: Mapping[str, Any], instance: str | None) -> str:
    if instance is None and len(shops) > 1:
        raise ValueError(f"it holds {len(shops)} job shops; say which: {few(shops)}")
    name = instance if instance is not None else next(iter(shops), "")
    if name not in shops:
        raise ValueError(f"it holds no job shop {name!r}; there are {few(shops)}")
    return name


def _distinct(pairs: Sequence[Sequence[Any]]) -> dict[Any, Any]:
    machines = dict(map(tuple, pairs))
    if len(machines) < len(pairs):
        raise ValueError(f"an operation names a machine twice: {pairs!r}")
    return machines
