"""The tool for mutation testing finds what a test does not notice."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tools.mutate import mutants

ROOT = Path(__file__).parents[1]
MODULE = """
def far(x: int = 3) -> bool:
    \"\"\"Docstrings and annotations stay as they are.\"\"\"
    if x < 0:
        raise ValueError(f"x must be at least {0}")
    return x > 10
"""
TEST = """
import pytest
from far import far
def test():
    assert far(11) and not far(9)
    with pytest.raises(ValueError):
        far(-1)
"""


def test_mutants_are_the_module_with_one_change():
    found = [f"{mutant.before} -> {mutant.after}" for mutant in mutants(MODULE)]
    assert sorted(found) == sorted(
        ["x < 0 -> x <= 0", "x < 0 -> x >= 0", "x > 10 -> x >= 10", "x > 10 -> x <= 10", "0 -> 1", "10 -> 11", "3 -> 4"]
    )
    sources = {ast.unparse(mutant.tree) for mutant in mutants(MODULE)}
    assert len(sources) == len(found)
    assert ast.unparse(ast.parse(MODULE)) not in sources


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="mutants are tested in forked processes")
def test_what_no_test_notices_is_printed(tmp_path):
    (tmp_path / "far.py").write_text(MODULE)
    (tmp_path / "test_far.py").write_text(TEST)
    command = [sys.executable, "-m", "tools.mutate", "far.py", "test_far.py"]
    path = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "", "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=path, capture_output=True, text=True, check=False)
    *survivors, total = done.stdout.splitlines()
    assert total == "far.py: 7 of 7 mutants tried, 3 killed, 4 survived", done.stderr
    assert "far.py:6: x > 10  ->  x >= 10" in survivors
