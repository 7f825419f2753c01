import numpy as np
import pytest
import torch
from torch import nn

from cggd import Additive, Interactions, MetricError, find_feasible, minimize
from cggd.testing import check_metric
from cggd_nas import Choice, collect, measure
from cggd_nas.extract import extract
from cggd_nas.metrics import Costs
from tests.nas.nets import FEW, NAMES, SEPARABLE, made, some_selections

EXACT = {
    "parameters": (lambda costs: costs.parameters(), lambda module, x: measure.parameters(module)),
    "size": (lambda costs: costs.size_kb(bits=4), lambda module, x: measure.size_kb(module, bits=4)),
    "macs": (lambda costs: costs.macs(), lambda module, x: measure.macs(module, x) / 1e6),
    "memory": (lambda costs: costs.peak_memory(bits=16), lambda module, x: measure.peak_memory(module, x, bits=16)),
}


@pytest.fixture(scope="module")
def costs_of():
    known = {}

    def get(name):
        if name not in known:
            known[name] = Costs(*made(name))
        return known[name]

    return get


@pytest.mark.parametrize("name", NAMES)
def test_exact_metrics_equal_what_is_measured_on_the_extracted_network(name, costs_of):
    costs = costs_of(name)
    metrics = [(make(costs), again) for make, again in EXACT.values()]
    for selection in some_selections(costs.supernet, FEW.get(name, 6), seed=1):
        module = extract(costs.supernet, selection)
        for metric, again in metrics:
            assert metric(selection) == pytest.approx(again(module, costs.example), rel=1e-12)
    for metric, _ in metrics:
        assert costs.measures[metric](module) == pytest.approx(metric(selection), rel=1e-12)


@pytest.mark.parametrize("name", ["additive", "strided", "widths", "nested", "alone"])
@pytest.mark.parametrize("which", EXACT)
def test_exact_metrics_keep_the_laws(name, which, costs_of):
    check_metric(EXACT[which][0](costs_of(name)), n=4)


# Those with parts that depend on several decisions.
CONVOLUTIONS = {"conv1d", "conv1d separable", "conv1d skips"}
TOGETHER = {"strided", "nested", "widths", "nats_size", "mobile", "transformer"} | CONVOLUTIONS


@pytest.mark.parametrize("name", NAMES)
def test_metrics_are_tables_over_the_decisions_of_each_part(name, costs_of):
    costs = costs_of(name)
    for metric in (costs.parameters(), costs.size_kb(), costs.macs()):
        # parameters need no shapes, so it does not matter that those depend on the selection
        alone = name in SEPARABLE or (name in ("strided", "transformer") and metric.name != "macs")
        kinds = Additive if alone else (Interactions, Additive)
        assert isinstance(metric, kinds), metric.name
        assert alone or name in TOGETHER


def test_units_and_names(costs_of):
    costs = costs_of("additive")
    metrics = [costs.parameters(), costs.size_kb(), costs.macs(), costs.peak_memory(), costs.latency()]
    assert [metric.unit for metric in metrics] == ["", "KiB", "MMAC", "KiB", "ms"]
    assert costs.size_kb(name="flash").name == "flash"


def test_the_model_or_its_supernet_may_be_given():
    supernet, example = made("alone")
    assert Costs(supernet.model, example).supernet is supernet
    assert collect(supernet.model) is supernet
    with pytest.raises(TypeError, match="example must be a tensor"):
        Costs(supernet, 3)
    with pytest.raises(ValueError, match="bits must be at least 1"):
        Costs(supernet, example).peak_memory(bits=0)


def test_bounds_on_them_are_searched_and_met(costs_of):
    costs = costs_of("strided")
    macs, memory = costs.macs(), costs.peak_memory()
    bounds = [macs <= macs.quantile(0.4), memory <= memory.quantile(0.8)]
    assert find_feasible(bounds).feasible
    result = minimize(-1 * costs.parameters(), bounds, seed=0)
    best = min(
        -costs.parameters()(s)
        for s in some_selections(costs.supernet, 99)
        if all(b.report(s).satisfied for b in bounds)
    )
    assert result.value == best


def test_measured_latency_is_a_noisy_black_box_on_the_extracted_network(monkeypatch, costs_of):
    costs = costs_of("alone")
    seen = []

    def timed(module, example, **settings):
        seen.append((type(module).__name__, settings))
        return measure.Measurement(float(len(seen)), 0.0, 1, 1, "a board")

    monkeypatch.setattr(measure, "latency", timed)
    metric = costs.latency(evaluations=2, warmup=1, repeats=4)
    assert metric.noisy
    assert metric({"only": "pool"}) == 1.5
    assert seen == [("AvgPool2d", {"warmup": 1, "repeats": 4, "threads": 1})] * 2
    assert metric.value_errors(np.array([[1]])) == pytest.approx(np.std([1, 2], ddof=1) / np.sqrt(2))


def test_measured_latencies_are_positive(costs_of):
    costs = costs_of("alone")
    for metric in (
        costs.latency(evaluations=1, warmup=0, repeats=2),
        costs.onnx_latency(evaluations=1, warmup=0, repeats=2),
    ):
        assert metric({"only": "conv"}) > 0


def test_evaluations_by_several_threads_do_not_mix(costs_of):
    from concurrent.futures import ThreadPoolExecutor

    costs = Costs(*made("strided"))
    memory = costs.peak_memory()
    selections = some_selections(costs.supernet, 8) * 4
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(memory, selections))
    assert together == [costs_of("strided").peak_memory()(s) for s in selections]


def test_a_batch_costs_as_many_times_the_macs(costs_of):
    supernet, example = made("additive")
    selection = supernet.selection()
    one, many = Costs(supernet, example), Costs(supernet, torch.cat([example] * 3))
    for metric in ("macs", "peak_memory"):
        with pytest.warns(UserWarning, match="example has 3 samples, .* example with a batch of 1"):
            together = getattr(many, metric)()
        assert together(selection) == pytest.approx(3 * getattr(one, metric)()(selection))
    assert many.size_kb()(selection) == one.size_kb()(selection)
    Costs(
        collect(nn.Sequential(Choice({"a": nn.Conv2d(3, 2, 1), "b": nn.Conv2d(3, 2, 3)}))), torch.ones(3, 8, 8)
    ).macs()


class Deciding(nn.Module):
    """A network whose operations depend on the numbers in its tensors."""

    def __init__(self):
        super().__init__()
        self.choice = Choice({"conv": nn.Conv2d(3, 3, 1), "skip": nn.Identity()}, decision="c")

    def forward(self, x):
        y = self.choice(x)
        return y if y.sum() > 0 else y * y


@pytest.mark.parametrize(
    ("model", "example", "shape"),
    [
        (lambda: made("additive")[0], torch.zeros(1, 4, 8, 8), r"\(1, 4, 8, 8\) of torch.float32"),
        (lambda: made("additive")[0], torch.zeros(1, 3, 8, 8).double(), r"\(1, 3, 8, 8\) of torch.float64"),
        (Deciding, torch.zeros(1, 3, 8, 8), r"\(1, 3, 8, 8\) of torch.float32"),
    ],
)
def test_what_cannot_be_run_is_named(model, example, shape):
    costs = Costs(model(), example)
    message = f"the network cannot be run on an example of shape {shape}: .*the example must be what its forward takes"
    with pytest.raises(ValueError, match=message):
        costs.macs()
    with pytest.raises(MetricError, match=message):
        costs.peak_memory()(costs.supernet.selection())
    with pytest.raises(ValueError, match=message):
        measure.macs(extract(costs.supernet, costs.supernet.selection()), example)
