"""Seconds until the package is imported and its program answers, beside the libraries that it stands on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.engine.rows import Answer, Row, Size, taking_turns

RUNS = 9

PROGRAMS = {
    "python": "pass",
    "numpy, scipy.optimize, networkx": "import numpy, scipy.optimize, networkx",
    "import cggd": "import cggd",
    "cggd version": "import sys; from cggd.cli import main; sys.argv = ['cggd', 'version']; main()",
}


def startup(size: Size) -> Iterator[Row]:
    """Whole processes, which take turns."""

    def run(code: str) -> Answer:
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=Path(__file__).parents[2])
        return {}

    methods = {name: lambda code=code: run(code) for name, code in PROGRAMS.items()}
    for name, number, seconds, _ in taking_turns(methods, 1 if size.quick else RUNS):
        yield Row("import", "process", name, None, 0, number, seconds, status="ended")
