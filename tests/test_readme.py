"""The README's examples run, and print what it says."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```\s*```text\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def without_seconds(text):
    return re.sub(r"in [\d.]+ s", "in ... s", text).strip()


@pytest.mark.parametrize(("code", "output"), EXAMPLES)
def test_examples(code, output):
    with redirect_stdout(StringIO()) as printed:
        exec(code, {})
    assert without_seconds(printed.getvalue()) == without_seconds(output)


def test_there_are_examples():
    assert len(EXAMPLES) == 3
