import logging

import numpy as np
import pytest
import torch
from torch import nn

from cggd import Additive, ChoiceSpace
from cggd_nas.export import export_onnx, verify
from cggd_nas.extract import extract
from cggd_nas.measure import latency, onnx_inputs, onnx_session
from cggd_nas.metrics import Costs
from tests.nas.nets import FEW, SMALLER, made, some_selections

pytest.importorskip("onnxscript")


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLER)
def test_every_kind_of_network_is_exported(name, tmp_path):
    supernet, example = made(name)
    *_, selection = some_selections(supernet, 3)
    export_onnx(extract(supernet, selection), example, tmp_path / "network.onnx")


def test_the_file_returns_what_the_module_returns(tmp_path, recwarn, capfd):
    supernet, example = made("additive")
    level = logging.getLogger("torch.onnx").level
    module = extract(supernet, supernet.selection())
    path = export_onnx(module, example, tmp_path / "network.onnx")
    assert module.training
    assert sorted(file.name for file in tmp_path.iterdir()) == ["network.onnx"]
    assert not recwarn
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("torch.onnx").level == level
    session = onnx_session(path)
    other = torch.rand_like(example)
    (returned,) = session.run(None, onnx_inputs(session, other))
    np.testing.assert_allclose(returned, module.eval()(other).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_a_file_that_computes_something_else_is_refused(tmp_path, monkeypatch):
    """The comparison works: a module that answers differently once the file is written."""

    class Drifting(nn.Module):
        calls = 0

        def forward(self, x):
            return x + (1.0 if torch.compiler.is_exporting() else 2.0)

    with pytest.raises(RuntimeError, match=r"output 0 of .*network.onnx differs from the module's by up to 1"):
        export_onnx(Drifting(), torch.zeros(1, 3), tmp_path / "network.onnx")
    assert not list(tmp_path.iterdir())  # and nothing is left that could be deployed


def test_a_file_that_was_there_stays_where_a_network_cannot_be_exported(tmp_path):
    path = export_onnx(nn.Linear(3, 2), torch.zeros(1, 3), tmp_path / "network.onnx")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"cannot be run on an example of shape \(1, 4\) of torch.float32"):
        export_onnx(nn.Linear(3, 2), torch.zeros(1, 4), path)
    with pytest.raises(TypeError, match=r"module must be an nn.Module, got 'net'"):
        export_onnx("net", torch.zeros(1, 4), path)
    with pytest.raises(FileNotFoundError, match=r"path must lie in a folder that exists, got .*absent.*"):
        export_onnx(nn.Linear(3, 2), torch.zeros(1, 3), tmp_path / "absent" / "network.onnx")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_every_bound_is_measured_anew():
    supernet, example = made("strided")
    costs = Costs(supernet, example)
    parameters, macs, memory = costs.parameters(), costs.macs(), costs.peak_memory()
    selection = supernet.selection()
    module = extract(supernet, selection)
    tight = [macs <= macs(selection), macs >= macs(selection)]  # sums, which are rounded
    bounds = [parameters <= 1, *tight, memory <= 1e6]
    for row, bound in zip(verify(module, bounds, costs.measures), bounds, strict=True):
        expected = bound.report(selection)
        assert row.value == pytest.approx(expected.value, rel=1e-14)
        assert row.satisfied == expected.satisfied == (bound is not bounds[0])
    other = nn.Linear(3, 3)
    assert verify(other, [parameters <= 1], costs.measures)[0].value == 12


def test_metrics_that_cannot_be_measured_need_a_function():
    supernet, example = made("alone")
    costs = Costs(supernet, example)
    guess = Additive(supernet.space, [1, 2], name="latency", unit="ms")
    module = extract(supernet, [0])
    with pytest.raises(ValueError, match="metric 'latency' cannot be measured on a module"):
        verify(module, [guess <= 1], costs.measures)
    measures = {**costs.measures, guess: lambda m: latency(m, example, warmup=0, repeats=2).median}
    (row,) = verify(module, [guess <= 1e6], measures)
    assert row.satisfied
    assert row.value > 0


@pytest.mark.parametrize("name", ["additive", "nats_topology", "widths"])
def test_what_a_network_was_found_to_satisfy_is_verified_on_it(name):
    """Bounds at the very values of networks: sums of parts in the metric, one count of the whole network here."""
    supernet, example = made(name)
    costs = Costs(supernet, example)
    metric = costs.macs()
    for selection in some_selections(supernet, FEW.get(name, 12)):
        module, value = extract(supernet, selection), metric(selection)
        (below, above) = verify(module, [metric <= value, metric >= value], costs.measures)
        assert below.satisfied
        assert above.satisfied
        more = verify(module, [metric <= value - 1e-6, metric >= value + 1e-6], costs.measures)
        assert not any(row.satisfied for row in more)


def test_the_rounding_allowed_is_that_of_the_numbers_of_one_selection():
    """Three numbers are added, whatever the number of options: a miss of 8 units in the last place is one."""
    space = ChoiceSpace.from_sizes([400, 400])
    rng = np.random.default_rng(0)
    cost = Additive(space, rng.random(800), 0.1, name="cost")
    bound = cost([0, 0])
    for steps, satisfied in ((1, True), (8, False)):
        value = bound * (1 + steps * np.finfo(float).eps)
        (row,) = verify(nn.Identity(), [cost <= bound], {cost: lambda module, value=value: value})
        assert row.satisfied == satisfied
    whole = Additive(space, np.arange(800), name="whole")
    (row,) = verify(nn.Identity(), [whole <= 400.0], {whole: lambda module: np.nextafter(400.0, 500.0)})
    assert not row.satisfied
