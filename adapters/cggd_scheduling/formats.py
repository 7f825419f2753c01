"""Project files: PSPLIB and MMLIB (read by ``psplib``), and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from cggd.entries import label_from_json, label_to_json
from cggd.io import check_keys
from cggd.io.text import StrPath, read_text, write_text
from cggd_scheduling.files import load_json, mapping_of, named, objects, package, rows_of, suffix, unpacked
from cggd_scheduling.project import Project, from_lists

FORMAT = "cggd-project-1"


def read_project(path: StrPath) -> Project:
    """Read a project: JSON (``.json``, ``.json.gz``), Patterson (``.rcp``), PSPLIB or MMLIB (``.mm``, ``.sm``, others).

    Parameters
    ----------
    path : str or path

    Raises
    ------
    ValueError
        If the file is not a project; the message names the file.
    ImportError
        If the file is not JSON and ``psplib`` is not installed.

    See Also
    --------
    write_project : describes the JSON format.
    """
    if suffix(path) != ".json":
        return _read_psplib(path)
    data = load_json(path)
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise ValueError(f'{path}: not a project: expected an object with "format": "{FORMAT}"')
    with named(path):
        return _project(data)


def write_project(project: Project, path: StrPath) -> None:
    """Write a project as JSON, for `read_project`.

    Parameters
    ----------
    project : Project
        Names of resources are strings; activities and modes are strings, numbers, bools or tuples of these.
    path : str or path
        Gzipped if it ends in ``.gz``.

    Notes
    -----
    The file is an object with ``"format": "cggd-project-1"``, ``"name"``, ``"unit"``, and

    - ``"resources"``: objects with ``"resource"`` and either ``"capacity"`` (renewable) or ``"budget"``;
    - ``"activities"``: objects with ``"activity"``, ``"after"`` (a list of activities) and ``"modes"``: objects with
      ``"mode"``, ``"duration"`` and ``"demands"``, an object of numbers. Modes without a label are numbered from 1.
      Optional: ``"release"``, ``"due"`` and ``"weight"``;
    - optional ``"lags"`` and ``"longest_lags"``: lists of ``[activity, activity, time]``;
    - optional ``"setups"``: an object that maps resources to such lists.

    Any other key is an error.
    """
    if strange := [r for r in [*project.renewable, *project.nonrenewable] if not isinstance(r, str)]:
        raise TypeError(f"resources in JSON must have strings as names, got {strange[0]!r}")
    resources = [{"resource": r, "capacity": c} for r, c in project.renewable.items()]
    resources += [{"resource": r, "budget": b} for r, b in project.nonrenewable.items()]
    activities = [
        {
            "activity": activity,
            "after": list(project.graph.predecessors(activity)),
            "modes": [{"mode": m, "duration": a.duration, "demands": a.demands} for m, a in modes.items()],
            **{key: times[activity] for key, times in _of_activities(project).items() if activity in times},
        }
        for activity, modes in project.activities.items()
    ]

    def lines(rows: list[dict[str, Any]]) -> str:
        return ",\n  ".join(json.dumps(row, default=label_to_json, allow_nan=False) for row in rows)

    head = json.dumps({"format": FORMAT, "name": project.name, "unit": project.unit})[:-1]
    body = f'"resources": [\n  {lines(resources)}\n ],\n "activities": [\n  {lines(activities)}\n ]'
    pairs: dict[str, Any] = {name: rows_of(getattr(project, name), 2) for name in ("lags", "longest_lags")}
    pairs["setups"] = {resource: rows_of(times, 2) for resource, times in project.setups.items()}
    for name, rows in pairs.items():
        if rows:
            body += f",\n {json.dumps(name)}: {json.dumps(rows, default=label_to_json, allow_nan=False)}"
    write_text(path, f"{head},\n {body}}}\n")


def _of_activities(project: Project) -> dict[str, Mapping[Hashable, Any]]:
    return {"release": project.release, "due": project.due, "weight": project.weights}


def _project(data: Mapping[str, Any]) -> Project:
    known = ("format", "name", "unit", "resources", "activities", "lags", "longest_lags", "setups")
    check_keys(data, known, "the project")
    renewable, nonrenewable = {}, {}
    for row in objects(data, "resources") if "resources" in data else ():
        check_keys(row, ("resource", "capacity", "budget"), f"resource {row['resource']!r}")
        if ("capacity" in row) == ("budget" in row):
            raise ValueError(f'resource {row["resource"]!r} needs either "capacity" or "budget"')
        kind, limit = (renewable, row["capacity"]) if "capacity" in row else (nonrenewable, row["budget"])
        if row["resource"] in (renewable | nonrenewable):
            raise ValueError(f"resource {row['resource']!r} is listed twice")
        kind[row["resource"]] = limit
    activities: dict[Hashable, Any] = {}
    edges = []
    times: dict[str, dict[Hashable, Any]] = {"release": {}, "due": {}, "weight": {}}
    for row in objects(data, "activities"):
        activity = label_from_json(row["activity"])
        check_keys(row, ("activity", "after", "modes", *times), f"activity {activity!r}")
        for key, of in times.items():
            if key in row:
                of[activity] = row[key]
        if activity in activities:
            raise ValueError(f"activity {activity!r} is listed twice")
        modes = {}
        for number, mode in enumerate(objects(row, "modes") if "modes" in row else (), start=1):
            label = label_from_json(mode.get("mode", number))
            check_keys(mode, ("mode", "duration", "demands"), f"mode {label!r} of activity {activity!r}")
            if label in modes:
                raise ValueError(f"activity {activity!r} lists mode {label!r} twice")
            modes[label] = mode["duration"], mode.get("demands", {})
        activities[activity] = modes
        edges += [(label_from_json(before), activity) for before in row.get("after", [])]
    of_activities: dict[str, Any] = {"release": times["release"], "due": times["due"], "weights": times["weight"]}
    pairs: dict[str, Any] = {name: mapping_of(data.get(name, []), name, 2) for name in ("lags", "longest_lags")}
    setups = {resource: mapping_of(rows, "setups", 2) for resource, rows in data.get("setups", {}).items()}
    words: dict[str, Any] = {"unit": data.get("unit", ""), "name": data.get("name", "project")}
    return Project(activities, edges, renewable, nonrenewable, **words, **of_activities, **pairs, setups=setups)


def _read_psplib(path: StrPath) -> Project:
    psplib = package("psplib", "files of PSPLIB")
    form, words = ("patterson", "Patterson") if suffix(path) == ".rcp" else ("psplib", "PSPLIB or MMLIB")
    text = read_text(path)  # clear errors for a missing file, a folder or binary data
    try:
        with unpacked(path) as plain:
            found = psplib.parse(plain, form)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        numbers = all(word.lstrip("-").isdigit() for word in text.split())
        shop = "; if it is a job shop: machines are numbered from 0, and flexible ones end in .fjs" if numbers else ""
        raise ValueError(f"{path}: not a project in the format of {words}: {error}{shop}") from None
    except (StopIteration, RuntimeError):
        raise ValueError(f"{path}: the file ends before its last activity") from None
    with named(path):
        if form == "patterson":
            _check_length(text, found)
        else:
            _check_counts(text)
    n_renewable = sum(resource.renewable for resource in found.resources)
    if not all(resource.renewable for resource in found.resources[:n_renewable]):
        raise ValueError(f"{path}: expected the renewable resources before the non-renewable ones")
    n = len(found.activities)
    for number, activity in enumerate(found.activities, start=1):
        if wrong := [s + 1 for s in activity.successors if not 0 <= s < n]:
            raise ValueError(f"{path}: job {number} names {wrong[0]} as a successor, and there are {n} jobs")
    with named(path):
        return from_lists(
            [[[mode.duration, *mode.demands] for mode in activity.modes] for activity in found.activities],
            [activity.successors for activity in found.activities],
            [resource.capacity for resource in found.resources],
            n_renewable,
            name=Path(str(path).removesuffix(".gz")).stem,
        )


def _check_length(text: str, found: Any) -> None:
    """Raise if a Patterson file has more numbers than its activities need."""
    n_resources = len(found.resources)
    used = 2 + n_resources + sum(2 + n_resources + len(activity.successors) for activity in found.activities)
    if (there := len(text.split())) != used:
        raise ValueError(f"its {len(found.activities)} activities make {used} numbers, and there are {there}")


def _check_counts(text: str) -> None:
    """Raise if a count in a PSPLIB file differs from what follows; the parser does not check counts."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]

    def section(name: str) -> list[list[str]]:
        """Rows of numbers below a heading."""
        first = next((n for n, line in enumerate(lines) if name in line), len(lines)) + 1
        rows: list[list[str]] = []
        for line in lines[first:]:
            if line[0].isdigit():
                rows.append(line.split())
            elif rows:
                break
        return rows

    jobs, modes, room = (section(name) for name in ("PRECEDENCE RELATIONS", "REQUESTS/DURATIONS", "AVAILABILITIES"))
    said = re.search(r"^\s*jobs\s*\([^)]*\)\s*:\s*(\d+)", text, re.MULTILINE)
    if said and int(said[1]) != len(jobs):
        raise ValueError(f"the head says {said[1]} jobs, and {len(jobs)} follow")
    for number, row in enumerate(jobs, start=1):
        if int(row[0]) != number:
            raise ValueError(f"job {number} is called {row[0]} where successors are listed")
        if len(row) < 3 or len(row) - 3 != int(row[2]):
            raise ValueError(f"job {number} has {len(row) - 3} successors, where {row[2:3]} are said to follow")
    if (total := sum(int(row[1]) for row in jobs)) != len(modes):
        raise ValueError(f"the jobs have {total} modes together, and {len(modes)} are listed")
    of = [number for number, row in enumerate(jobs, start=1) for _ in range(int(row[1]))]
    width = len(room[0]) if room else 0
    for job, row in zip(of, modes, strict=True):
        if len(row) not in (width + 2, width + 3) or (len(row) == width + 3 and int(row[0]) != job):
            raise ValueError(f"a mode of job {job} has the numbers {' '.join(row)}, for {width} resources")
