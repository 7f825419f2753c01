"""What only looks at a supernet leaves everything as it was, also where it fails."""

import numpy as np
import pytest
import torch

from cggd_nas import (
    Costs,
    Darts,
    collect,
    evaluate,
    export_onnx,
    extract,
    fit_regressor,
    measure_lookup,
    profile,
    recalibrated,
    retrain,
    verify,
)
from cggd_nas import measure as measures
from tests.nas.nets import additive

RUNS = {"warmup": 0, "repeats": 1}
DATA = [(torch.randn(4, 3, 8, 8), torch.randint(5, (4,))), (torch.randn(2, 3, 8, 8), torch.randint(5, (2,)))]
BROKEN = [DATA[0], (torch.randn(4, 2, 8, 8), torch.randint(5, (4,)))]
EXAMPLE = torch.randn(1, 3, 8, 8)


def everything(supernet):
    model = supernet.model
    return {
        "numbers": {name: value.tolist() for name, value in model.state_dict().items()},
        "modes": [part.training for part in model.modules()],
        "gradients": [(p.requires_grad, p.grad is None) for p in model.parameters()],
        "hooks": [(len(part._forward_hooks), len(part._forward_pre_hooks)) for part in model.modules()],
        "parts": [(path, id(part)) for path, part in model.named_modules()],
        "relaxation": (supernet._how, supernet._generator),
        "random numbers": (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()),  # noqa: NPY002
        "threads": torch.get_num_threads(),
        "gradients wanted": torch.is_grad_enabled(),
        "fast path": torch.backends.mha.get_fastpath_enabled(),
    }


def read(supernet, selection):
    with supernet.selected(selection) as model, recalibrated(model, DATA):
        return evaluate(model, DATA)


def read_and_fail(supernet, selection):
    with supernet.selected(selection) as model, recalibrated(model, BROKEN):
        raise AssertionError("unreachable")


CALLS = {
    "costs": lambda net, s, costs, path: [m(s) for m in (costs.parameters(), costs.macs(), costs.peak_memory())],
    "latency": lambda net, s, costs, path: costs.latency(evaluations=1, **RUNS)(s),
    "profile": lambda net, s, costs, path: profile(net, EXAMPLE, samples=4, time_limit=0.1, show=False),
    "measure_lookup": lambda net, s, costs, path: measure_lookup(
        net, EXAMPLE, measure=lambda m, x: measures.latency(m, x, **RUNS)
    ),
    "fit_regressor": lambda net, s, costs, path: fit_regressor(costs.macs(), samples=8),
    "evaluate": lambda net, s, costs, path: evaluate(net.model, DATA),
    "recalibrated": lambda net, s, costs, path: read(net, s),
    "recalibrated, failing": lambda net, s, costs, path: read_and_fail(net, s),
    "retrain": lambda net, s, costs, path: retrain(extract(net, s), DATA, DATA, 1),
    "verify": lambda net, s, costs, path: verify(extract(net, s), [costs.macs() <= 1], costs.measures),
    "export_onnx": lambda net, s, costs, path: export_onnx(extract(net, s), EXAMPLE, path / "network.onnx"),
    "wrong selection": lambda net, s, costs, path: net.select([9] * len(s)),
    "wrong example": lambda net, s, costs, path: Costs(net, torch.zeros(1, 2, 8, 8)).macs(),
    "wrong data": lambda net, s, costs, path: evaluate(net.model, BROKEN),
}
FAIL = {"recalibrated, failing", "wrong selection", "wrong example", "wrong data"}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_left_changed(name, training, tmp_path):
    if name == "export_onnx":
        for needed in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(needed)
    net = collect(additive())
    net.relax(Darts(), generator=torch.Generator())
    net.model.train(training)
    net.model[1].train(not training)
    costs = Costs(net, EXAMPLE)
    before = everything(net)
    if name in FAIL:
        with pytest.raises((ValueError, RuntimeError)):
            CALLS[name](net, net.indices(), costs, tmp_path)
    else:
        CALLS[name](net, net.indices(), costs, tmp_path)
    after = everything(net)
    assert [what for what in before if before[what] != after[what]] == []
