"""The site: the gallery runs, links lead somewhere, and the reference has every public name.

`make docs` builds the site with strict checks of its own; what is tested here needs nothing that builds sites.
"""

import importlib
import re
import runpy
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from tools import site_pages

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GALLERY = sorted((ROOT / "examples" / "gallery").glob("*.py"))
PACKAGES = ("cggd", "cggd.datasets", "cggd.io", "cggd.plotting", "cggd.testing")
PACKAGES += ("cggd_compress", "cggd_features", "cggd_nas", "cggd_scheduling")
PUBLIC = [(package, name) for package in PACKAGES for name in importlib.import_module(package).__all__]

# Names of `cggd.io` that other modules of this project share, and that are no use to users.
INTERNAL = {("cggd.io", "check_keys"), ("cggd.io", "csv_cell")}


SLOW = {"own_function"}


@pytest.mark.parametrize(
    "script",
    [pytest.param(path, marks=pytest.mark.slow if path.stem in SLOW else (), id=path.stem) for path in GALLERY],
)
def test_gallery(script, monkeypatch):
    plt = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.setattr(plt, "show", lambda: None)
    with redirect_stdout(StringIO()) as printed:
        runpy.run_path(str(script), run_name="__main__")
    assert printed.getvalue().strip()
    assert plt.get_fignums()
    plt.close("all")


def test_gallery_has_titles():
    titles = [title for title, _ in site_pages.titles().values()]
    assert len(titles) == len(set(titles)) == len(GALLERY) >= 12


# -- links ------------------------------------------------------------------------------------------------------------


def anchors(path):
    """Anchors of the headings of a page, as python-markdown makes them."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda path: path.relative_to(DOCS).as_posix())
def test_links(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, anchor = link.partition("#")
        if "://" in link:
            continue
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link  # in a checkout, too, where no page is made
        assert not anchor or anchor in anchors(path), link


def test_links_of_files_beside_the_readme_become_links_of_pages():
    text = (
        "[a](docs/x.md#b) [b](CONTRIBUTING.md) [c](https://x.y/docs/z.md) ![d](docs/readme.png) [e](#f) [g](cggd/a.py)"
    )
    expected = "[a](x.md#b) [b](contributing.md) [c](https://x.y/docs/z.md) ![d](readme.png) [e](#f) g (`cggd/a.py`)"
    assert site_pages.with_links(text, "README.md", "index.md") == expected
    text, expected = (
        "[a](../x.md) [b](../../README.md#c) [d](../../tests/e.py) [f](../../examples/gallery/noise.py)",
        "[a](../x.md) [b](../index.md#c) d (`tests/e.py`) [f](../gallery/noise.md)",
    )
    assert site_pages.with_links(text, "docs/guide/x.md", "guide/x.md") == expected


def test_the_navigation_leads_to_pages():
    for page in re.findall(r"^ +- .*?([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE):
        assert (DOCS / page).exists() or page in site_pages.PAGES.values(), page


# -- reference --------------------------------------------------------------------------------------------------------


def reference():
    """Names that the API pages document, as they are written there."""
    return [
        name
        for page in sorted((DOCS / "api").glob("*.md"))
        for name in re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    ]


def thing(name):
    """The object of a dotted name; a module wins over what has its name, as in the reference."""
    try:
        return importlib.import_module(name)
    except ImportError:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)


DOCUMENTED = {name: thing(name) for name in reference()}


@pytest.mark.parametrize(("package", "name"), [public for public in PUBLIC if public not in INTERNAL])
def test_public_names_are_in_the_reference(package, name):
    wanted = getattr(importlib.import_module(package), name)
    named = any(documented.rpartition(".")[2] == name and thing is wanted for documented, thing in DOCUMENTED.items())
    assert named or DOCUMENTED.get(package) is sys.modules[package], f"add '::: {package}.{name}' to a page of docs/api"


def test_reference_names_nothing_twice():
    assert len(reference()) == len(set(reference()))


def test_nothing_is_loaded_from_a_network():
    assert site_pages.REMOTE.search('<script src="https://x.y/z.js">')
    assert site_pages.REMOTE.search('<link rel="stylesheet" href="https://x.y/z.css">')
    assert not site_pages.REMOTE.search('<a href="https://x.y">x</a><img src="a.png"><link href="../a.css">')
