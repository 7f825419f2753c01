"""The core stays light, and everything it offers is documented."""

import importlib.util
import inspect
import subprocess
import sys
import tomllib
from functools import cached_property
from pathlib import Path

import pytest

import cggd

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(init.parent.name for folder in (ROOT, ROOT / "adapters") for init in folder.glob("cggd*/__init__.py"))
HEAVY = {"torch", "sklearn", "matplotlib", "hypothesis", "pandas"}


@pytest.mark.parametrize("module", ["cggd", "cggd.datasets"])
def test_import_loads_no_heavy_library_and_no_adapter(module):
    program = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "cggd" in loaded
    assert not {name for name in loaded if name in HEAVY or name.startswith("cggd_")}


def test_public_names_are_listed_once():
    assert len(cggd.__all__) == len(set(cggd.__all__))


@pytest.mark.parametrize("name", cggd.__all__)
def test_public_name_is_documented(name):
    thing = getattr(cggd, name)
    if inspect.isclass(thing) or inspect.isroutine(thing) or inspect.ismodule(thing):
        text = inspect.getdoc(thing) or ""
        assert text
        assert not text.startswith(f"{name}("), "this is what dataclass writes where nobody has"


@pytest.mark.parametrize("name", [name for name in cggd.__all__ if inspect.isclass(getattr(cggd, name))])
def test_public_members_are_documented_or_inherit_it(name):
    thing = getattr(cggd, name)
    methods = [
        member
        for member in dir(thing)
        if not member.startswith("_")
        and (
            inspect.isroutine(getattr(thing, member)) or isinstance(getattr(thing, member), property | cached_property)
        )
    ]
    assert not [member for member in methods if not inspect.getdoc(getattr(thing, member))]


@pytest.mark.parametrize("package", PACKAGES)
def test_package_says_that_it_is_typed(package):
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    assert any((Path(folder) / "py.typed").is_file() for folder in spec.submodule_search_locations)


def test_wheels_hold_the_marks_of_types():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert "py.typed" in build["package-data"]["*"]
    assert len(PACKAGES) == 5


def test_sdist_holds_what_tests_read():
    held = (ROOT / "MANIFEST.in").read_text(encoding="utf-8").split()
    needed = ["benchmarks", "docs", "examples", "tests", "tools", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile"]
    assert not {*needed, "conftest.py", "constraints.txt"} - set(held)
    assert not [name for name in needed if not (ROOT / name).exists()]
