"""The benchmark of compression, in its quick form."""

import numpy as np
import pytest

from benchmarks.compress import command, recipes
from benchmarks.compress.methods import DEFAULT, METHODS, OURS, QUICK, greedy, plain_sum
from cggd_compress import Compression, FormatTable, make_recipe, plan
from cggd_compress.costs import Limit
from tests.compress.models import network


def test_a_quick_run_keeps_every_bound_and_writes_tables(tmp_path, capsys):
    out = tmp_path / "compress.csv"
    command.main(["--quick", "--out", str(out), "--log", str(tmp_path), "--picture", str(tmp_path / "p.png")])
    rows = command.read(out)
    assert {row.method for row in rows} == {OURS, QUICK, DEFAULT, *METHODS["size"]}
    assert all(row.kept for row in rows if row.bytes)
    ours = {row.budget: row.error for row in rows if row.method == OURS}
    assert all(not row.bytes or ours[row.budget] <= row.error for row in rows)
    assert "## small, size" in out.with_suffix(".md").read_text()
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_models_that_are_missing_are_skipped_with_a_reason(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "magika" else object())
    command.main(["magika", "--out", str(tmp_path / "compress.csv"), "--log", str(tmp_path)])
    assert "magika: skipped, the package magika is not installed" in capsys.readouterr().out


@pytest.mark.parametrize("share", [0.5, 0.3, 0.2])
def test_opponents_keep_the_bound_and_the_sum_is_the_least(share):
    compression = Compression(network(), {"tokens": np.random.default_rng(1).integers(0, 100, (16, 6))})
    limit = Limit("size", "<=", share * compression.original["size"])
    predicted = compression.predicted()["error"]
    least, by_rate = (method(compression, limit) for method in (plain_sum, greedy))
    for labels in (least, by_rate):
        assert compression.choices.size(labels) <= limit.bound
    assert predicted(least) <= predicted(by_rate) + 1e-12


def test_recipes_and_opponents_agree_on_a_small_table():
    rng = np.random.default_rng(0)
    rows = {
        f"layer.{i}.{kind}": {f"{b} bit": {"bytes": 9000 * b, "damage": rng.random() * 4.0**-b} for b in (8, 4, 2)}
        for i in range(2)
        for kind in ("key", "value", "dense")
    }
    table = FormatTable(rows)
    bound = 0.6 * sum(formats["8 bit"]["bytes"] for formats in rows.values())
    found = make_recipe(plan(table), [f"size <= {bound}"]).result.value
    assert found == pytest.approx(recipes.by_highs(table, bound))
    assert found <= recipes.greedy(table, bound)
    assert found <= recipes.uniform(table, bound)
    made = recipes.two_devices(FormatTable({t: {f: {**n, "bytes": 100 * n["bytes"]} for f, n in r.items()}
                                            for t, r in rows.items()}))  # fmt: skip
    value, _ = recipes.one_program(made, 30)
    assert make_recipe(made, ["context >= 8192", "ms <= 30"]).result.value == pytest.approx(value, abs=2e-6)
