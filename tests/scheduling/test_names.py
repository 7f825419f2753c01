"""The adapter stays light, and everything it offers is documented."""

import inspect
import subprocess
import sys

import pytest

import cggd_scheduling

OPTIONAL = {
    "torch",
    "sklearn",
    "matplotlib",
    "pandas",
    "psplib",
    "fjsplib",
    "onnx",
    "ortools",
    "cggd_nas",
    "cggd_features",
}


def test_import_loads_no_optional_library_and_no_other_adapter():
    program = "import cggd_scheduling, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "cggd_scheduling" in loaded
    assert not loaded & OPTIONAL


def test_public_names_are_listed_once_and_in_order():
    assert sorted(set(cggd_scheduling.__all__)) == cggd_scheduling.__all__


@pytest.mark.parametrize("name", cggd_scheduling.__all__)
def test_public_names_and_their_members_are_documented(name):
    thing = getattr(cggd_scheduling, name)
    text = inspect.getdoc(thing) or ""
    assert text
    assert not text.startswith(f"{name}("), "this is what dataclass writes where nobody has"
    if inspect.isclass(thing) and not issubclass(thing, Exception):
        members = [m for m in vars(thing) if not m.startswith("_") and callable(getattr(thing, m))]
        assert not [m for m in members if not inspect.getdoc(getattr(thing, m))]
