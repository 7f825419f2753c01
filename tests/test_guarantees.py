"""The page of guarantees names a test for each promise, and the test exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_test_named_on_the_page_exists(path, name):
    text = (ROOT / path).read_text(encoding="utf-8")
    assert re.search(rf"^def {name}\(", text, re.MULTILINE), f"{path} has no test {name}"


def test_every_promise_names_a_test():
    promises, rest = PAGE.split("\n## What is not promised\n")
    rows = [
        line for line in promises.splitlines() if line.startswith("| ") and not line.startswith(("| promise", "| word"))
    ]
    assert len(rows) > 20
    assert not [row for row in rows if "::test_" not in row]
    assert len(re.findall(r"^- ", rest, re.MULTILINE)) > 3
