"""The examples of the pages run, and print what the pages say."""

import re
import shlex
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from cggd import Problem
from cggd.testing import check_improver

DOCS = Path(__file__).parents[1] / "docs"
GUIDE = sorted(f"guide/{page.name}" for page in (DOCS / "guide").glob("*.md"))
PAGES = ("improvers.md", "start.md", "choose.md", "method.md", *GUIDE)
EXAMPLES = [
    pytest.param(code, output, id=f"{page}-{n}")
    for page in PAGES
    for n, (code, output) in enumerate(
        re.findall(r"```python\n(.*?)```\s*```text\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    )
]


@pytest.mark.parametrize(("code", "output"), EXAMPLES)
def test_examples(code, output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with redirect_stdout(StringIO()) as printed:
        exec(code, {"__name__": "example"})
    assert printed.getvalue().strip() == output.strip()


def test_every_page_has_examples():
    for page in PAGES:
        assert any(example.id.startswith(page) for example in EXAMPLES)


def test_the_page_about_rules_does_what_it_says(cggd, tmp_path, monkeypatch):
    """Its blocks of Python run one after another, and its commands print what it says, apart from the time."""
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "rules.md").read_text(encoding="utf-8")
    (tmp_path / "parts.csv").write_text(re.findall(r"```csv\n(.*?)```", text, re.DOTALL)[0])
    names = {"__name__": "example"}
    for code, output in re.findall(r"```python\n(.*?)```\s*```text\n(.*?)```", text, re.DOTALL):
        with redirect_stdout(StringIO()) as printed:
            exec(code, names)
        assert printed.getvalue().strip() == output.strip()
    commands = re.findall(r"```console\n\$ cggd (.*?)\n(.*?)```", text, re.DOTALL)
    assert len(commands) == text.count("$ cggd ") > 1
    for command, output in commands:
        _, out, _ = cggd(*shlex.split(command))
        lines = [line for line in out.splitlines() if not line.startswith("search ")]
        assert output.strip() in "\n".join(lines)


@pytest.mark.slow
def test_the_page_about_compression_does_what_it_says(tmp_path, monkeypatch):
    """Its blocks run one after another."""
    for package in ("onnx", "onnxruntime", "onnxscript", "sklearn", "torch"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "example"}
    text = (DOCS / "compress.md").read_text(encoding="utf-8")
    for code, output in re.findall(r"```python\n(.*?)```\s*```text\n(.*?)```", text, re.DOTALL):
        with redirect_stdout(StringIO()) as printed:
            exec(code, names)
        assert printed.getvalue().strip() == output.strip()


@pytest.mark.parametrize("name", ["RandomRestarts", "Annealing"])
def test_the_improvers_of_the_page_keep_the_law(name):
    page = (DOCS / "improvers.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if f"class {name}" in block)
    names: dict = {}
    with redirect_stdout(StringIO()):
        exec(code, names)
    check_improver(names[name](), Problem(names["value"], [names["weight"] <= 25], "maximize"))
