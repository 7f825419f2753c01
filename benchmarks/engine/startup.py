"""Seconds until the package is imported and its program answers, beside the libraries that it stands on."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
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
    """Whole processes, which take turns, with compiled bytecode as after an installation."""
    with tempfile.TemporaryDirectory() as compiled:
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": compiled}

        def run(code: str) -> Answer:
            command, folder = [sys.executable, "-c", code], Path(__file__).parents[2]
            subprocess.run(command, check=True, capture_output=True, cwd=folder, env=environment)
            return {}

        methods = {name: lambda code=code: run(code) for name, code in PROGRAMS.items()}
        for method in methods.values():
            method()  # compiles
        for name, number, seconds, _ in taking_turns(methods, 1 if size.quick else RUNS):
            yield Row("import", "process", name, None, 0, number, seconds, status="ended")
