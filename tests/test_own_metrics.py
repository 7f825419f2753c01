"""The page on metrics of one's own: its code runs, prints what it says, and the answer is the best one."""

import re
from contextlib import redirect_stdout
from io import StringIO
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from cggd import ChoiceSpace, Metric, MetricError, SearchError, minimize
from cggd.metrics import SumTable

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


class Sums(Metric):
    """A metric with a sum table of a wrong size."""

    def __init__(self, space):
        self.space, self.name, self.unit = space, "mine", ""

    def evaluate(self, selections):
        return np.ones(len(selections))

    def sum_table(self):
        return SumTable(np.ones(3))


class Rows(Sums):
    """A metric whose expression has a sum of a wrong size."""

    def sum_table(self):
        return None

    def expression(self, program, sign):
        return program.sum(np.ones(3))


@pytest.mark.parametrize("kind", [Sums, Rows])
def test_sums_of_a_wrong_size_are_told(kind):
    metric = kind(ChoiceSpace.from_sizes([9] * 9))
    for use in (lambda: minimize(metric), lambda: minimize(2 * metric, [metric <= 5])):
        with pytest.raises((SearchError, MetricError, ValueError), match=r"shape \(3,\)") as caught:
            use()
        assert "81" in str(caught.value)


def test_a_metric_without_evaluate_cannot_be_made():
    class Unfinished(Metric):
        pass

    with pytest.raises(TypeError, match="Unfinished has no method evaluate"):
        Unfinished()
