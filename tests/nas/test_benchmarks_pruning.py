"""The benchmark of pruning: every method keeps its budget on the exported file, and the table has every row."""

import pytest
import torch

from benchmarks.pruning import COLUMNS, SCRATCH, Setting, Trained, _write, row, rows_of, table
from benchmarks.pruning.budgets import file_macs
from benchmarks.pruning.methods import METHODS, resnet
from cggd_nas import export_onnx, measure
from cggd_nas.batches import Shuffled
from tests.nas.models import MODELS

SETTING = Setting(widths=(8, 16), blocks=1, tuning=1, batch=2)


@pytest.fixture(scope="module")
def base():
    torch.manual_seed(0)
    x, y = torch.randn(64, 3, 8, 8), torch.arange(64) % 10
    model = resnet(SETTING.widths, SETTING.blocks).eval()
    train = Shuffled((x, y), 16, torch.Generator().manual_seed(0))
    return Trained(model, x[:1], train, [(x, y)], [(x, y)], 10.0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_every_method_keeps_its_budget(base, tmp_path):
    rows = []
    for method in (*METHODS, SCRATCH):
        rows.append(row(base, SETTING, "macs", 0.5, method, 0, rows))
        assert tuple(rows[-1]) == COLUMNS
        assert float(rows[-1]["used"]) <= 0.5
        assert all(p.requires_grad for p in base.model.parameters())
    _write(tmp_path, rows)
    assert [r["method"] for r in rows_of(tmp_path)] == [*METHODS, SCRATCH]
    assert all(f"| {method} |" in table(rows) for method in (*METHODS, SCRATCH))


@pytest.mark.parametrize("name", ["mobilenet_v2", "bert"])
def test_the_file_has_the_multiply_accumulates_of_the_network(name, tmp_path):
    model, example = MODELS[name][0](), MODELS[name][1]()
    assert file_macs(export_onnx(model, example, tmp_path / "net.onnx")) == measure.macs(model, example)
