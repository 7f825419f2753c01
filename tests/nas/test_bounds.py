"""Bounds are checked before a search or a guide uses them."""

import warnings

import numpy as np
import pytest

from cggd import Additive, Function
from cggd_nas import Costs, NoFeasibleArchitectureError, TorchGuide
from cggd_nas.bounds import checked_bounds, feasible_network
from tests.nas.nets import made


@pytest.fixture(scope="module")
def costs():
    return Costs(*made("widths"))


@pytest.mark.parametrize("factor", [1e3, 1e6, 1e-3, 1e-6])
@pytest.mark.parametrize("kind", ["macs", "size_kb", "parameters", "peak_memory"])
def test_a_bound_in_another_unit_is_hinted_at(costs, kind, factor):
    metric = getattr(costs, kind)()
    value = metric(costs.supernet.selection())
    hint = rf"{metric.name} .* known value of .*(is the bound in|plain number)"
    loose, tight = metric <= factor * value, metric >= factor * value
    if factor < 1:
        loose, tight = tight, loose
    with pytest.warns(UserWarning, match=hint):
        checked_bounds(loose, costs.supernet)
    with pytest.raises(NoFeasibleArchitectureError, match=hint):  # memory: by trying all selections
        feasible_network(checked_bounds(tight, costs.supernet), 0, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for near in (0.0, value / 20, value, 20 * value):
            checked_bounds([metric <= near, metric >= near], costs.supernet)


def test_a_share_of_unknown_limits_is_an_error(costs):
    memory = costs.peak_memory()
    low, high = memory.limits()
    for bound in (memory <= 0.5 * high, memory >= 0.5 * low):
        with pytest.raises(ValueError, match=r"memory [<>]= -?inf KiB never binds; .* 0\.5 \* memory\(selection\)"):
            TorchGuide(costs.supernet, bound)
    checked_bounds(costs.macs() <= np.inf, costs.supernet)  # its largest value is known


def test_a_guide_refuses_bounds_that_no_selection_can_satisfy(costs):
    space = costs.supernet.space
    macs, size = costs.macs(), costs.size_kb()
    low, high = macs.limits()
    for bounds in ([macs <= 0.9 * low], [macs <= 1.1 * low, size >= 0.9 * size.limits()[1]], [macs >= 1.1 * high]):
        with pytest.raises(NoFeasibleArchitectureError, match="the bounds cannot be met"):
            TorchGuide(costs.supernet, bounds)
    called = []
    black_box = Function(space, lambda selection: called.append(selection) or 2.0, name="box") <= 1.0
    TorchGuide(
        costs.supernet, [black_box, Additive(space, np.ones(space.n_options), name="count") <= space.n_decisions]
    )
    assert called == []
