"""The same on a GPU: guided steps, searches, checkpoints, half precision, measurements; skipped where there is none."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import distributed, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from cggd import Additive
from cggd_nas import (
    Choice,
    Costs,
    Darts,
    GumbelSoftmax,
    ProxylessTwoPath,
    TorchGuide,
    collect,
    evaluate,
    export_onnx,
    extract,
    measure,
    measure_lookup,
    recalibrate,
    retrain,
    search,
)
from cggd_nas.penalties import lagrangian, penalized, proxyless_linear
from tests.nas.nets import NETS, made

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use")
CPU, GPU = torch.device("cpu"), torch.device("cuda")

X = torch.randn(96, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = (X.mean((1, 2, 3)) > 0).long()
TRAIN, VAL = (X[:64], Y[:64]), (X[64:], Y[64:])


def network(device=GPU, seed=0):
    """A small supernet on a device, and the sizes of its selections."""
    torch.manual_seed(seed)

    def block():
        options = {
            "conv3": nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()),
            "conv1": nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU()),
            "skip": nn.Identity(),
        }
        return Choice(options)

    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), *(block() for _ in range(4)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    net = collect(model.to(device))
    return net, Additive(net.space, [9.0, 1.0, 0.0] * 4, name="size")


def searched(net, size, **options):
    how = {"epochs": 6, "batch_size": 16, "warmup": 1, "progress": False} | options
    return search(net, how.pop("train", TRAIN), how.pop("val", VAL), [size <= 12.0], **how)


def guided(device, optimizer, steps=60):
    """Logits after each of some guided steps, with gradients that do not depend on the device."""
    net, size = network(device)
    net.set_logits([1.0, 0.0, 0.0] * 4)
    guide = TorchGuide(net, [size <= 12.0], witness=[2, 2, 2, 2])
    chooser = optimizer(net.architecture())
    rng, found = np.random.default_rng(0), []
    for _ in range(steps):
        for parameter in net.parameters:
            gradient = rng.normal(size=parameter.shape) - [1.0, 0.0, 0.0]
            parameter.grad = torch.as_tensor(gradient, dtype=parameter.dtype, device=device)
        guide.update(chooser)
        found.append(net.logits())
    return np.array(found), size(net.indices())


@pytest.mark.parametrize(
    "optimizer",
    [partial(torch.optim.SGD, lr=0.1), partial(torch.optim.Adam, lr=0.05), partial(torch.optim.AdamW, lr=0.05)],
    ids=["SGD", "Adam", "AdamW"],
)
def test_guided_steps_are_those_of_a_cpu(optimizer):
    (here, _), (there, size) = guided(CPU, optimizer), guided(GPU, optimizer)
    np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-5)
    assert size <= 12.0


@pytest.mark.parametrize("how", [{"fused": True}, {"capturable": True}], ids=str)
def test_optimizers_that_only_a_gpu_has_are_guided(how):
    assert guided(GPU, partial(torch.optim.Adam, lr=0.05, **how))[1] <= 12.0


@pytest.mark.parametrize(
    "relaxation", [GumbelSoftmax, partial(GumbelSoftmax, hard=False), Darts, ProxylessTwoPath], ids=str
)
def test_a_search_ends_feasible_and_leaves_the_network_ready(relaxation):
    net, size = network()
    net.set_logits([1.0, 0.0, 0.0] * 4)
    result = searched(net, size, relaxation=relaxation, architecture_optimizer=partial(torch.optim.Adam, lr=0.1))
    assert size(result.selection) <= 12.0
    assert {x.device.type for x in net.model.state_dict().values()} == {"cuda"}
    assert evaluate(net.model, [VAL]).loss == pytest.approx(result.loss, rel=1e-3)


@pytest.mark.parametrize("kind", ["tensors", "tensors on the GPU", "pinned loaders"])
@pytest.mark.parametrize("stop", [1, 4])
def test_a_resumed_search_is_the_uninterrupted_one(tmp_path, kind, stop, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)

    def data():
        if kind == "tensors on the GPU":
            return {name: tuple(x.to(GPU) for x in part) for name, part in (("train", TRAIN), ("val", VAL))}
        if kind == "pinned loaders":
            how = {"batch_size": 16, "shuffle": True, "pin_memory": True}
            return {"train": DataLoader(TensorDataset(*TRAIN), **how), "val": DataLoader(TensorDataset(*VAL), **how)}
        return {}

    net, size = network()
    whole, weights = searched(net, size, **data()), net.model.state_dict()
    path = tmp_path / "search.pt"
    net, size = network()
    searched(net, size, checkpoint=path, callback=lambda epoch: epoch.epoch == stop, **data())
    net, size = network(seed=1)  # other weights: the checkpoint has them
    result = searched(net, size, checkpoint=path, resume=True, **data())
    assert result.selection == whole.selection
    for name, value in net.model.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=1e-4, atol=1e-5)


def test_a_search_leaves_the_generators_of_both_devices_alone():
    net, size = network()
    before = torch.get_rng_state(), torch.cuda.get_rng_state()
    searched(net, size)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(torch.cuda.get_rng_state(), before[1])


@pytest.mark.parametrize("objective", ["penalty", "lagrangian"])
def test_penalties_search(objective):
    net, size = network()
    bounds = [size <= 12.0]
    loss = penalized(bounds, partial(proxyless_linear, weight=10.0)) if objective == "penalty" else lagrangian(bounds)
    result = searched(net, size, objective=loss)
    assert size(result.selection) <= 12.0


def test_overflowed_steps_of_half_precision_are_left_to_the_scaler():
    net, size = network()
    net.set_logits([1.0, 0.0, 0.0] * 4)
    net.relax(GumbelSoftmax(), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(net.model.parameters(), lr=0.05)
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40, growth_interval=2)
    guide = TorchGuide(net, [size <= 12.0], witness=[2, 2, 2, 2])
    skipped, feasible = 0, []
    for _ in range(80):
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16):
            loss = nn.functional.cross_entropy(net.model(X[:16].to(GPU)), Y[:16].to(GPU))
        scaler.scale(loss).backward()
        before, scale = net.logits(), scaler.get_scale()
        feasible.append(guide.modify_gradients(scaler=scaler, optimizer=optimizer).feasible)
        scaler.step(optimizer)
        scaler.update()
        if scaler.get_scale() < scale:
            skipped += 1
            np.testing.assert_array_equal(net.logits(), before)
    assert 0 < skipped < 60
    assert not feasible[0]
    assert any(feasible)


def test_parts_of_a_network_may_be_on_two_devices():
    class Split(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = Choice({"wide": nn.Linear(4, 4), "skip": nn.Identity()})
            self.second = Choice({"wide": nn.Linear(4, 4), "skip": nn.Identity()}).to(GPU)

        def forward(self, x):
            return self.second(self.first(x).to(GPU))

    net = collect(Split())
    size = Additive(net.space, [4.0, 0.0] * 2, name="size")
    net.set_logits([1.0, 0.0] * 2)
    net.relax(GumbelSoftmax(), generator=torch.Generator().manual_seed(0))
    guide = TorchGuide(net, [size <= 4.0], witness=[1, 1])
    optimizer = torch.optim.Adam(net.model.parameters(), lr=0.05)
    feasible = []
    for _ in range(100):
        optimizer.zero_grad()
        net.model(torch.ones(2, 4)).square().mean().backward()
        feasible.append(guide.update(optimizer).feasible)
    assert not feasible[0]
    assert any(feasible)


def test_ranks_agree_by_nccl(tmp_path):
    distributed.init_process_group("nccl", init_method=f"file://{tmp_path}/ranks", rank=0, world_size=1)
    try:
        net, size = network()
        net.set_logits([1.0, 0.0, 0.0] * 4)
        net.relax(GumbelSoftmax(), generator=torch.Generator().manual_seed(0))
        parallel = DistributedDataParallel(net.model, device_ids=[0], find_unused_parameters=True)
        guide = TorchGuide(parallel, [size <= 12.0], witness=[2, 2, 2, 2])
        optimizer = torch.optim.Adam(net.model.parameters(), lr=0.05)
        feasible = []
        for _ in range(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(parallel(X[:16].to(GPU)), Y[:16].to(GPU)).backward()
            feasible.append(guide.update(optimizer).feasible)
        assert not feasible[0]
        assert any(feasible)
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("name", NETS)
def test_what_is_extracted_computes_the_same_and_costs_the_same(name):
    supernet, example = made(name)
    selection = np.random.default_rng(0).integers(supernet.space.sizes)
    expected = {metric: getattr(Costs(supernet, example), metric)()(selection) for metric in ("parameters", "macs")}
    with supernet.selected(selection), torch.no_grad():
        here = supernet.model.eval()(example)
    supernet.model.to(GPU)
    costs = Costs(supernet, example.to(GPU))
    assert {metric: getattr(costs, metric)()(selection) for metric in expected} == expected
    module = extract(supernet, selection).eval()
    # Heads are too narrow for the other backends.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        torch.testing.assert_close(module(example.to(GPU)).cpu(), here, rtol=1e-2, atol=1e-3)


def test_a_network_is_retrained_recalibrated_and_exported(tmp_path):
    net, _ = network()
    module = extract(net, [0, 1, 2, 0])
    trained = retrain(module, DataLoader(TensorDataset(*TRAIN), batch_size=16), [VAL], epochs=2)
    assert {p.device.type for p in module.parameters()} == {"cuda"}
    assert np.isfinite([scores.loss for scores in trained.epochs]).all()
    recalibrate(module, [TRAIN])
    assert export_onnx(module, X[:1].to(GPU), tmp_path / "net.onnx").is_file()
    assert {p.device.type for p in module.parameters()} == {"cuda"}


def test_latencies_are_those_of_the_gpu():
    net, _ = network()
    module = extract(net, [0, 0, 0, 0])
    result = measure.latency(module, X[:1].to(GPU), warmup=2, repeats=5)
    assert result.median > 0
    assert torch.cuda.get_device_name() in str(result)
    assert Costs(net, X[:1].to(GPU)).latency(warmup=1, repeats=3)([0, 1, 2, 0]) > 0

    def there(part, tensors):
        return measure.latency(part.to(GPU), [x.to(GPU) for x in tensors], warmup=1, repeats=3)

    table = measure_lookup(net, X[:1].to(GPU), measure=there)
    assert {entry.device for entry in table.entries.values()} == {torch.cuda.get_device_name()}
