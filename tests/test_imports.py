"""The core stays light, and everything it offers is documented."""

import inspect
import subprocess
import sys
from functools import cached_property

import pytest

import cggd

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
