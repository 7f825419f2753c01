"""What a release is made of: one version, pins, classifiers, and files that say the same."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import cggd

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))


def pythons():
    return re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))


def test_the_version_stands_in_one_place():
    assert "version" in PROJECT["dynamic"]
    assert "version" not in PROJECT
    assert not re.search(r"^version:", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert re.fullmatch(r"\d+\.\d+\.\d+", cggd.__version__)


def test_the_changelog_knows_the_version():
    assert cggd.__version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_dependency_is_pinned_once_and_nothing_else_is_installed_directly():
    needed = [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]
    names = {re.split(r"[\[<>=~! ]", requirement)[0].lower() for requirement in needed} - {"cggd"}
    assert not names - PINS.keys(), "add a pin to constraints.txt"


def test_the_hosted_checks_run_the_versions_that_are_promised():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    matrix = re.search(r"python: \[(.*)\]", workflow)
    assert matrix
    assert re.findall(r"[\d.]+", matrix[1]) == pythons()
    assert PROJECT["requires-python"] == f">={pythons()[0]}"


def test_python_m_cggd():
    done = subprocess.run([sys.executable, "-m", "cggd", "version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"cggd {cggd.__version__}"
