"""The README is short, its examples run and print what it says, and what it links to is there."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cggd.commands import app

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```\s*```text\n(.*?)```", TEXT, re.DOTALL)
TABLE = re.search(r"```text\n(decision,option.*?)```", TEXT, re.DOTALL)
COMMANDS = re.findall(r"^    cggd (.*?)(?:  +# (.*))?$", TEXT, re.MULTILINE)


def without_seconds(text):
    return re.sub(r"in [\d.]+ s", "in ... s", text).strip()


@pytest.mark.parametrize(("code", "output"), EXAMPLES)
def test_examples(code, output):
    with redirect_stdout(StringIO()) as printed:
        exec(code, {})
    assert without_seconds(printed.getvalue()) == without_seconds(output)


def test_there_are_examples():
    assert len(EXAMPLES) >= 1
    assert len(COMMANDS) >= 2


@pytest.mark.parametrize(("command", "comment"), COMMANDS)
def test_commands_read_the_table(command, comment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert TABLE is not None
    Path("bicycle.csv").write_text(TABLE[1], encoding="utf-8")
    done = CliRunner().invoke(app, re.sub('"', "", command).split())
    assert done.exit_code == 0, done.output
    if ":" in comment:  # it says what is chosen, and its price
        for word in re.findall(r"\w+", comment):
            assert word in done.output


def test_a_screen_holds_it():
    assert len(TEXT.split()) < 700


def test_links_lead_to_files():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    assert len(links) > 5
    assert not [link for link in links if not (README.parent / link).exists()]
