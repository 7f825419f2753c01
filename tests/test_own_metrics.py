"""The page on metrics of one's own: its code runs, prints what it says, and the answer is the best one."""

import re
from contextlib import redirect_stdout
from io import StringIO
from itertools import combinations
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "docs" / "own_metrics.md").read_text(encoding="utf-8")


def test_the_code_prints_what_the_page_says():
    names = {}
    with redirect_stdout(StringIO()) as printed:
        for code in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
            exec(code, names)
    assert printed.getvalue() == "".join(re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL))
    # Given the suppliers, each part is bought where it is cheapest.
    prices = names["prices"].reshape(-1, 4)
    sets = [list(some) for n in (1, 2, 3) for some in combinations(range(4), n)]
    assert names["result"].value == min(prices[:, some].min(axis=1).sum() + 30 * len(some) for some in sets)


@pytest.mark.parametrize("method", re.findall(r"^\| `program\.(\w+)\(", TEXT, re.MULTILINE))
def test_the_parts_it_names_are_there(method):
    from cggd.expressions import Program

    assert getattr(Program, method).__doc__
