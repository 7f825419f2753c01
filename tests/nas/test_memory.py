import numpy as np
import pytest
import torch
from torch import nn

from cggd import Guide, find_feasible
from cggd.metrics import Evaluation, evaluating
from cggd_nas import ChannelChoice, Sliced, collect
from cggd_nas.metrics import Costs
from tests.nas.nets import FEW, NETS, made, some_selections


def twins():
    """Two wide parts with a narrow one between, each of which exceeds a bound by itself."""

    def wide(name):
        return [
            Sliced(nn.Conv2d(1, 8, 1), outputs=name),
            ChannelChoice(8, [1, 2, 8], decision=name),
            Sliced(nn.Conv2d(8, 1, 1), inputs=name),
        ]

    return Costs(collect(nn.Sequential(*wide("first"), *wide("second"))), torch.zeros(1, 1, 32, 32))


def test_parts_show_a_way_out_where_the_peak_does_not():
    memory = twins().peak_memory()
    both = np.array([2, 2])
    assert memory.evaluate(both[None]).tolist() == [9.0]
    assert memory.replacements(both).tolist() == [9.0] * 6
    assert memory.local_replacements(both).tolist() == [2, 3, 9] * 2


@pytest.mark.slow
def test_parts_do_not_exceed_the_peak_and_one_of_them_may_reach_it():
    for name in NETS:
        costs = Costs(*made(name))
        memory = costs.peak_memory()
        for selection in some_selections(costs.supernet, FEW.get(name, 4)):
            recorded = costs.tracer.trace(selection)
            assert set(recorded.peaks) <= set(selection)
            assert max(recorded.peaks.values()) <= recorded.live_elements.max()
        if name != "fbnet":
            row = costs.supernet.space.indices(selection)
            assert (memory.local_replacements(row) <= memory.replacements(row)).all()


def test_options_of_nested_choices_are_attributed_to_each_of_them():
    supernet, example = made("nested")
    tracer = Costs(supernet, example).tracer
    recorded = tracer.trace(
        {"outer": "deep", "inner": "a", "depth": "3", "1.blocks.0.main": "conv1", "1.blocks.2.main": "conv3"}
    )
    assert [set(o.decisions) for o in recorded.operations if o.name == "aten::convolution"] == [
        {"outer"},
        {"outer", "inner"},
        {"depth", "1.blocks.0.main"},
        {"depth"},
        {"depth", "1.blocks.2.main"},
    ]


def test_forbidden_options_are_not_traced():
    costs = twins()
    seen = []
    memory = costs.peak_memory()
    trace = memory.trace
    object.__setattr__(memory, "trace", lambda s: (seen.append(s), trace(s))[1])
    allowed = np.array([True, False, True, True, True, True])
    with evaluating(Evaluation(allowed=allowed)):
        table = memory.local_replacements(np.array([2, 2]))
    assert table.tolist() == [2, 9, 9, 2, 3, 9]
    assert {"first": "2", "second": "8"} not in seen


def test_the_guide_finds_the_way_out():
    memory = twins().peak_memory()
    logits = np.array([0.0, 0.0, 1.0] * 2)
    step = Guide([memory <= 3.0]).modify(np.zeros(6), logits)
    assert np.abs(step).sum() > 0
    assert (step[[2, 5]] > 0).all()  # a descent step lowers the logits of the wide options
    with evaluating(Evaluation()) as evaluation:
        memory.replacements(np.array([0, 0]))
        memory.replacements(np.array([0, 0]))
    assert evaluation.calls <= 6


def test_bounds_far_below_random_networks_are_met():
    costs = Costs(*made("conv1d"))
    memory, rows = costs.peak_memory(), costs.supernet.space.enumerate()
    low = memory.evaluate(rows[:: max(1, len(rows) // 300)]).min()
    assert find_feasible([memory <= low]).feasible
