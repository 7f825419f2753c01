"""The benchmark on supernets: networks told apart, networks judged, and runs that resume."""

import itertools

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import nas_cifar10
from benchmarks.nas_cifar10.command import ends, planned, rows_of
from benchmarks.nas_cifar10.images import available
from benchmarks.nas_cifar10.methods import ENDS, METHODS
from benchmarks.nas_cifar10.report import page, write
from benchmarks.nas_cifar10.settings import all_settings, live, weights_in_use
from benchmarks.nas_cifar10.training import EvenPaths
from cggd.datasets import NATS_EDGES
from cggd_nas import Costs, collect, grow
from cggd_nas.spaces import nats_topology

CELLS = st.tuples(*[st.integers(0, 4)] * 6)
SUPERNET = collect(nats_topology(C=2, N=1).eval())
PARAMETERS = Costs(collect(nats_topology(C=16, N=1)), torch.zeros(1, 3, 8, 8)).parameters()
SETTINGS = all_settings()


def computed(selection, node=3):
    """What a node of the cell is: the multiset of the operations that are summed, each with what it works on."""
    if node == 0:
        return ("input",)
    parts = [
        (option, computed(selection, u)) for (u, v), option in zip(NATS_EDGES, selection, strict=True) if v == node
    ]
    return tuple(sorted((part for part in parts if part[0] and part[1]), key=repr))


def test_networks_are_one_exactly_where_they_compute_the_same():
    by_form = {}
    for selection in itertools.product(range(5), repeat=6):
        kept = live(selection)
        assert live(kept) == kept
        assert by_form.setdefault(kept, computed(selection)) == computed(selection)
    assert len(set(by_form.values())) == len(by_form)


@settings(max_examples=50)
@given(
    CELLS.filter(lambda selection: live(selection)[2] != 0)
)  # else inner nodes may change places, with their weights
def test_what_is_left_out_changes_no_output(selection):
    images = torch.ones(1, 3, 4, 4)
    with torch.no_grad(), SUPERNET.selected(selection) as model:
        output = model(images)
    with torch.no_grad(), SUPERNET.selected(live(selection)) as model:
        torch.testing.assert_close(model(images), output)


@pytest.mark.slow
@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from(["latency", "latency5"]))
def test_grown_networks_satisfy_the_bounds_and_differ(seed, number, name):
    table, rng = SETTINGS[name].table, np.random.default_rng(seed)
    starts = [tuple(row) for row in rng.permutation(SETTINGS[name].feasible())[:3].tolist()]
    calls, how = [], {"capacity": sum, "canonical": live}
    scores = grow(
        table.space, table.constraints, starts, lambda s: calls.append(s) or rng.random(), number, weight=1.0, **how
    )
    assert sorted(selection for selection, _ in scores) == sorted(calls)
    assert len(scores) <= number
    assert len({live(selection) for selection, _ in scores}) == len(scores)
    assert all(SETTINGS[name].satisfied(selection) for selection, _ in scores)
    assert calls[0] == starts[0]
    alone = grow(table.space, table.constraints, starts, lambda s: 0.0, number, neighbours=False, **how)
    assert {selection for selection, _ in alone} <= set(starts)


def test_networks_are_reached_through_edges_that_carry_nothing():
    # No single switch of this cell makes another network than one of five.
    start, table = (0, 0, 0, 4, 0, 0), SETTINGS["latency"].table
    how = {"capacity": sum, "canonical": live}
    scores = grow(table.space, table.constraints, [start], lambda s: float(sum(s)), 40, **how)
    assert len({live(selection) for selection, _ in scores}) == 40


@given(CELLS, CELLS)
def test_capacity_orders_cells_as_their_parameters(one, other):
    parameters = [PARAMETERS(np.array(live(cell))) for cell in (one, other)]
    weights = [weights_in_use(cell) for cell in (one, other)]
    if weights[0] != weights[1]:
        assert (parameters[0] < parameters[1]) == (weights[0] < weights[1])


@given(st.integers(1, 6), st.integers(1, 5))
def test_even_paths_train_each_option_equally_often(n_options, rounds):
    even, logits = EvenPaths(), torch.zeros(n_options)
    generator = torch.Generator().manual_seed(0)
    drawn = [even.draw(logits, generator).paths[0] for _ in range(rounds * n_options)]
    assert np.bincount(drawn, minlength=n_options).tolist() == [rounds] * n_options


def test_every_method_is_planned_once():
    tasks, short = ([task.key for task in some] for some in (planned(), ends()))
    assert (len(set(tasks)), len(set(short))) == (len(tasks), len(short))
    assert {task[1] for task in [*tasks, *short]} == set(METHODS)


@pytest.mark.slow
def test_ends_are_compared(tmp_path, capsys):
    if not available():
        pytest.skip("needs nas/cifar10_jpeg.npz in the folder named by CGGD_DATA")
    arguments = ["--ends", "--quick", "--settings", "latency", "--seeds", "0", "--out", f"{tmp_path}"]
    nas_cifar10.main([*arguments, "--cache", f"{tmp_path}/cache"])
    rows = rows_of(tmp_path / "ends.csv")
    assert [row["method"] for row in rows] == [*ENDS]
    for row in rows:
        last = [int(option) for option in row["end"].split("-")]
        assert (row["satisfied"] == "True") == SETTINGS["latency"].satisfied(last)
        if row["satisfied"] == "True":
            assert float(row["best_regret"]) <= float(row["regret"])
    nas_cifar10.main([*arguments, "--report"])
    assert "| latency | hardcore 0.24 | 1 |" in capsys.readouterr().out


@pytest.mark.slow
def test_runs_satisfy_the_bounds_resume_and_are_reported(tmp_path, capsys):
    if not available():
        pytest.skip("needs nas/cifar10_jpeg.npz in the folder named by CGGD_DATA")
    arguments = [
        "--quick",
        "--settings",
        "both",
        "--seeds",
        "0",
        "--out",
        f"{tmp_path}",
        "--cache",
        f"{tmp_path}/cache",
    ]
    nas_cifar10.main([*arguments, "--methods", "cggd", "tf_nas"])
    nas_cifar10.main([*arguments, "--methods", "cggd", "random"])  # cggd is there already
    runs = rows_of(tmp_path / "runs.csv")
    assert [row["method"] for row in runs] == ["cggd", "tf_nas", "random"]
    setting = SETTINGS["both"]
    for row in runs:
        selection = [int(option) for option in row["architecture"].split("-")]
        assert setting.satisfied(selection) == (row["satisfied"] == "True")
        if row["satisfied"] == "True":
            assert float(row["accuracy"]) == pytest.approx(setting.accuracy(selection), abs=1e-3)
            best = max(setting.accuracy(one) for one in setting.feasible())
            assert float(row["regret"]) == pytest.approx(best - setting.accuracy(selection), abs=1e-3)
    assert runs[0]["satisfied"] == "True"
    # Choices that do not act on the weights leave the same weights, by which networks are judged once.
    assert len([*(tmp_path / "cache").glob("judged_*.csv")]) == 1
    assert len(rows_of(tmp_path / "trajectory.csv")) == 2 * len(runs)
    document = tmp_path / "page.md"
    write(runs, rows_of(tmp_path / "trajectory.csv"), document)
    assert page(runs) in document.read_text(encoding="utf-8")
    assert {"nas_cifar10_trajectory.png", "nas_cifar10_answers.png"} <= {p.name for p in tmp_path.iterdir()}
