import itertools

import numpy as np
import pytest

from cggd import Additive, ChoiceSpace, Function
from cggd.metrics import values_of
from cggd_nas.metrics import Costs
from cggd_nas.profile import profile
from tests.nas.nets import made


def test_small_spaces_are_known_exactly():
    supernet, example = made("strided")
    result = profile(supernet, example, show=False)
    costs = Costs(supernet, example)
    rows = supernet.space.enumerate()
    assert result.samples == len(rows)
    assert [row.name for row in result.ranges] == ["parameters", "size", "macs", "memory"]
    for row, metric in zip(
        result.ranges, [costs.parameters(), costs.size_kb(), costs.macs(), costs.peak_memory()], strict=True
    ):
        values = values_of(metric, rows)
        assert (row.minimum, row.median, row.maximum) == (values.min(), np.median(values), values.max())
        assert row.proved == (True, True)
        assert row.unit == metric.unit
    assert result.together is None


def test_a_bounded_metric_is_listed_once_and_as_it_is_bounded():
    supernet, example = made("strided")
    size = Costs(supernet, example).size_kb(bits=4)
    result = profile(supernet, example, [size <= 1.0, size >= 0.1], show=False)
    assert [row.name for row in result.ranges] == ["parameters", "macs", "memory", "size"]
    assert result.ranges[-1].maximum == size.maximum()


@pytest.mark.slow
def test_extremes_are_searched_for_and_not_only_sampled():
    supernet, example = made("fbnet")
    macs = Costs(supernet, example).macs()
    (row,) = profile(supernet, example, metrics=[macs], samples=20, show=False).ranges
    assert (row.minimum, row.maximum) == (pytest.approx(macs.minimum()), pytest.approx(macs.maximum()))
    assert row.proved == (True, True)
    assert row.minimum < row.median < row.maximum


def test_bounds_are_said_to_be_satisfiable_or_not_alone_and_together():
    supernet, example = made("additive")
    costs = Costs(supernet, example)
    macs, parameters = costs.macs(), costs.parameters()
    low, high = macs.minimum(), macs.maximum()
    result = profile(
        supernet, example, [macs <= low, macs >= high, parameters <= 1, parameters >= 1], metrics=[], show=False
    )
    assert [bound.satisfiable for bound in result.bounds] == [True, True, False, True]
    assert [bound.share == 0 for bound in result.bounds] == [False, False, True, False]
    assert result.bounds[2].tightest.value == parameters.minimum()
    assert not result.together.feasibility.feasible
    assert {c.metric.name for c in result.together.conflict} <= {"macs", "parameters"}
    text = str(result)
    assert f"macs <= {low:.6g} MMAC" in text
    assert "parameters <= 1" in text
    assert "these bounds are infeasible together" in text or "this bound is infeasible" in text
    feasible = profile(supernet, example, macs <= high, show=False)
    assert feasible.together.feasibility.feasible
    assert "feasible: the selection satisfies every constraint" in str(feasible)


def test_what_is_not_proved_is_marked():
    supernet, example = made("conv1d")
    rng = np.random.default_rng(0)
    weights = rng.normal(size=supernet.space.n_options)
    hidden = Additive(supernet.space, weights)
    metric = Function(supernet.space, lambda rows: hidden.evaluate(rows) ** 3, batch=True, repeats=2, name="noisy")
    result = profile(supernet, example, [metric <= -1e9], metrics=[], samples=30, time_limit=0.5, show=False)
    (row,) = result.ranges
    assert row.proved == (False, False)
    assert result.bounds[0].satisfiable is None
    assert "?" in str(result)
    assert "unknown" in str(result)


def test_it_prints(capsys):
    supernet, example = made("alone")
    profile(supernet.model, example)
    printed = capsys.readouterr().out
    for word in ("minimum", "median", "maximum", "parameters", "KiB", "MMAC"):
        assert word in printed


def test_wrong_arguments():
    supernet, example = made("alone")
    other = Additive(ChoiceSpace.from_sizes([2]), [1, 2])
    with pytest.raises(ValueError, match="another choice space"):
        profile(supernet, example, metrics=[other])
    with pytest.raises(ValueError, match="another choice space"):
        profile(supernet, example, [other <= 1])
    with pytest.raises(ValueError, match="samples must be at least 1"):
        profile(supernet, example, samples=0)
    with pytest.raises(TypeError, match="each of metrics must be a Metric"):
        profile(supernet, example, metrics=["latency"])


def test_numbers_read_as_they_are():
    supernet, example = made("alone")
    sizes = {"conv": 17179869186, "pool": 17179869184}
    size = Function(supernet.space, lambda s: sizes[s["only"]], name="size", unit="B")
    table = str(profile(supernet, example, metrics=[size], show=False))
    assert [word for word in table.split() if word.isdecimal()][-3:] == ["17179869184", "17179869185", "17179869186"]


def test_bounds_are_met_as_constraints_say():
    """By their own rounding, and at their confidence."""
    supernet, example = made("additive")
    space = supernet.space
    tenths = Additive(space, np.full(space.n_options, 0.1), name="tenths")
    assert tenths(space.labels([0] * space.n_decisions)) != space.n_decisions / 10
    known = profile(supernet, example, [tenths <= space.n_decisions / 10], metrics=[], show=False).bounds[0]
    assert (known.share, known.satisfiable) == (1.0, True)
    draws = iter(np.random.default_rng(0).normal(size=10_000).tolist())
    noisy = Function(space, lambda s: 5.0 + next(draws), repeats=3, name="noisy")
    limit = (noisy <= 5.5).at_confidence(0.99)
    bound = profile(supernet, example, [limit], metrics=[], time_limit=0.5, show=False).bounds[0]
    rows = space.enumerate()
    assert bound.share == pytest.approx(np.mean(limit.satisfied(limit.values(rows))))
    assert bound.satisfiable == (True if bound.share else None)


def test_none_and_all_are_said_of_none_and_all_only():
    supernet, example = made("nats_topology")
    rare = Function(supernet.space, lambda s: float(next(calls) % 200 == 7), name="rare")
    calls = itertools.count()
    known = profile(supernet, example, [rare >= 0.5, rare <= 0.5], metrics=[], time_limit=0.1, show=False)
    assert [bound.share for bound in known.bounds] == [0.005, 0.995]
    rows = [line for line in str(known).splitlines() if "rare >=" in line or "rare <=" in line]
    assert "0.5%" in rows[0]
    assert "99.5%" in rows[1]
