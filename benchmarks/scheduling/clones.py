"""Published instances that were not used for tuning, read from clones of their repositories.

`CGGD_CLONES` is a folder with a clone of each repository, bare or not, called ``name`` or ``owner+name``.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cggd_scheduling import jobshop, placement, read_project

SHOPS = ("tamy0612/JSPLIB", "instances/")
FLEXIBLE = ("SchedulingLab/fjsp-instances", "")
PROJECTS = ("ScheduleOpt/benchmarks", "rcpsp/instances/j120/")
GRAPHS = ("msr-fiddle/dnn-partitioning", "throughput-inputs/")

# Instances of each kind of classical job shop, and of Brandimarte, Hurink and Dauzere-Peres & Paulli.
CLASSICAL = ("ft10", "la21", "la36", "orb03", "abz8", "swv06", "yn1", "ta21")
FLEXIBLE_SHOPS = (
    *(f"brandimarte/mk{n:02}.txt" for n in range(1, 11)),
    *(f"hurink/{kind}data/la{n}.txt" for kind in "erv" for n in (21, 31)),
    *(f"dauzere/{n:02}a.txt" for n in (2, 12)),
)
RCPSP = ("j120_1_1", "j120_16_3", "j120_36_2", "j120_51_4")
OPERATORS = ("LayerGraphs/gnmt", "LayerGraphs/resnet50", "OperatorGraphs/resnet50", "OperatorGraphs/bert_l-6")


def classical() -> Iterator[tuple[str, Any, float | None]]:
    """Classical job shops with the best makespans known."""
    for name in CLASSICAL:
        yield name, _read(SHOPS, name, jobshop.read, name), _known(SHOPS[0]).get(f"instances/{name}")


def flexible() -> Iterator[tuple[str, Any, float | None]]:
    """Flexible job shops."""
    for path in FLEXIBLE_SHOPS:
        folder, *_, name = path.removesuffix(".txt").split("/")
        kind = path.split("/")[1] if folder == "hurink" else folder
        yield f"{kind} {name}", _read(FLEXIBLE, path, jobshop.read, f"{name}.fjs"), _known(FLEXIBLE[0]).get(path)


def large_projects() -> Iterator[tuple[str, Any, float | None]]:
    """Projects of 120 activities."""
    for name in RCPSP:
        yield name, _read(PROJECTS, f"{name}.rcp", read_project, f"{name}.rcp"), None


def graphs() -> Iterator[tuple[str, Any, float | None]]:
    """Layers and operators of neural networks."""
    for path in OPERATORS:
        kind, name = path.split("/")
        problem = _read(GRAPHS, f"{path}_inference.json", placement.read, "graph.json")
        yield f"{name}, {kind.removesuffix('Graphs').lower()}s", problem, None


def _read(source: tuple[str, str], path: str, reader: Any, name: str) -> Any:
    with TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(_content(source[0], source[1] + path))
        return reader(file)


@cache
def _known(repository: str) -> dict[str, float]:
    """The best makespan known, by path."""
    rows = json.loads(_content(repository, "instances.json"))
    best = {row["path"]: row.get("optimum") or (row.get("bounds") or {}).get("upper") for row in rows}
    return {path: float(value) for path, value in best.items() if value}


def _content(repository: str, path: str) -> bytes:
    owner, name = repository.split("/")
    clones = Path(os.environ.get("CGGD_CLONES", "clones"))
    for folder in (clones / name, clones / f"{owner}+{name}"):
        for git in (folder, folder / ".git", folder / "repo", folder / "repo" / ".git"):
            if (git / "HEAD").exists():
                shown = subprocess.run(
                    ["git", "--git-dir", git, "show", f"HEAD:{path}"], capture_output=True, check=True
                )
                return shown.stdout
    raise SystemExit(f"no clone of {repository} in {clones}: git clone it there, or set CGGD_CLONES")
