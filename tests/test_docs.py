"""The examples of the pages run, and print what the pages say."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

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
