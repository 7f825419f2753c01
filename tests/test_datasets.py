"""The packaged data are what their sources say, and are what the loaders return."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from cggd import datasets
from tools import build_datasets


@pytest.fixture(scope="module")
def folder():
    found = datasets.data_folder()
    if found is None:
        pytest.skip("the source data are not here: set CGGD_DATA to their folder")
    return found


@pytest.fixture(scope="module")
def nats():
    data = datasets.nats_topology()
    return data, data.space.enumerate()


# -- files ----------------------------------------------------------------------------------------------------------


def test_manifest_describes_each_file():
    package = Path(datasets.__file__).parent
    files = {path.name for path in package.iterdir() if path.suffix in (".npz", ".json")} - {"manifest.json"}
    assert set(datasets.manifest()) == files == set(build_datasets.SOURCES)
    for entry in datasets.manifest().values():
        assert entry.keys() == {"content", "source", "licence", "sha256"}
        assert all(entry.values())
    assert sum((package / file).stat().st_size for file in files) < 500_000


@pytest.mark.parametrize("file", build_datasets.SOURCES)
def test_rebuilding_gives_the_packaged_contents(folder, file):
    contents = build_datasets.SOURCES[file].build(folder)
    if file.endswith(".json"):
        assert json.loads(datasets._read(file)) == contents
    else:
        packaged = datasets._arrays(file)
        assert packaged.keys() == contents.keys()
        for name, array in contents.items():
            np.testing.assert_array_equal(packaged[name], array, err_msg=name, strict=True)


@pytest.mark.parametrize("file", build_datasets.SOURCES)
def test_building_twice_gives_the_same_bytes(folder, file, monkeypatch):
    build = build_datasets.SOURCES[file].build
    once = build_datasets.encode(file, build(folder))
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    assert build_datasets.encode(file, build(folder)) == once


def test_damaged_file_is_named(tmp_path, monkeypatch):
    (tmp_path / "arf.json").write_bytes(datasets._read("arf.json") + b" ")
    monkeypatch.setattr(datasets, "files", lambda package: tmp_path)
    with pytest.raises(ValueError, match=r"arf\.json is damaged.*install cggd again"):
        datasets._read("arf.json")


def test_every_packaged_licence_that_asks_for_its_notice_has_it():
    notices = (Path(datasets.__file__).parent / "LICENSES.md").read_text()
    for file in datasets.manifest():
        assert f"## {file}" in notices


# -- NATS -----------------------------------------------------------------------------------------------------------


def test_nats_space_is_laid_on_the_cell(nats):
    space = nats[0].space
    assert space.n_selections == 15_625
    assert list(space.decisions) == [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    assert set(space.decisions) == set(space.graph.edges)


def test_nats_columns_equal_the_source_exactly(folder, nats):
    data, selections = nats
    rows = {}
    for name in ("nats_topology_cifar10", "hw_nas_bench_topology_cifar10"):
        with (folder / "nas" / f"{name}.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                rows.setdefault(row["idx"], {}).update(row)
    order = {row["ops"]: row for row in rows.values()}
    ops = ["".join(map(str, selection)) for selection in selections.tolist()]
    for name, column, _ in build_datasets.NATS_COLUMNS:
        expected = np.array([float(order[op][column]) for op in ops])
        np.testing.assert_array_equal(getattr(data, name).evaluate(selections), expected, err_msg=name)


def test_nats_bounds_of_the_paper(nats):
    data, selections = nats
    latency, energy = data.latency.evaluate(selections), data.energy.evaluate(selections)
    fast, frugal = latency <= 5.31, energy <= 23.95
    assert (fast.sum(), frugal.sum(), (fast & frugal).sum()) == (7805, 7808, 7579)
    assert np.median(latency) == pytest.approx(5.312, abs=5e-4)
    assert np.median(energy) == pytest.approx(23.954, abs=5e-4)
    accuracy = data.test200.evaluate(selections)
    assert [accuracy[mask].max() for mask in (fast, frugal, fast & frugal)] == [94.09, 94.045, 94.045]
    assert accuracy.max() == 94.3733


def test_nats_metrics_carry_names_and_units(nats):
    units = {name: getattr(nats[0], name).unit for name, _, _ in build_datasets.NATS_COLUMNS}
    assert units["latency"] == "ms"
    assert units["energy"] == "mJ"
    assert units["test200"] == "%"
    assert all(getattr(nats[0], name).name == name for name in units)


# -- MMKP -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", build_datasets.MMKP_BOUNDS)
def test_mmkp_instance(name):
    knapsack = datasets.mmkp(name)
    assert len(knapsack.weights) == len(knapsack.capacities) == len(knapsack.constraints)
    assert knapsack.best_known <= knapsack.upper_bound
    assert (knapsack.best_known == knapsack.upper_bound) == (name != "I07")
    for constraint, weight, capacity in zip(knapsack.constraints, knapsack.weights, knapsack.capacities, strict=True):
        assert constraint.metric is weight
        assert constraint.bound == capacity


def test_mmkp_optimum_is_found_by_an_exact_solver():
    knapsack = datasets.mmkp("I06")
    result = milp(
        -knapsack.value.values,
        constraints=[
            LinearConstraint([weight.values for weight in knapsack.weights], ub=knapsack.capacities),
            LinearConstraint(np.kron(np.eye(30), np.ones(10)), 1, 1),
        ],
        integrality=1,
        bounds=(0, 1),
    )
    assert -result.fun == pytest.approx(knapsack.best_known)


@pytest.mark.parametrize("name", ["I08", "i07", "", 7])
def test_mmkp_unknown_name(name):
    with pytest.raises(ValueError, match=f"name must be one of I01, .*I07, got {name!r}"):
        datasets.mmkp(name)


# -- data flow ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("units", "latency"), [(("MUL-10", "ADD-1"), 35), (("MUL-100", "ADD-2"), 310)])
def test_arf_latency_of_the_fastest_and_the_slowest_units(units, latency):
    data = datasets.arf()
    unit = {name.partition("-")[0]: name for name in units}
    assert data.latency({node: unit[op] for node, op in data.graph.nodes(data="op")}) == latency


def test_arf_optima_are_reached_and_proved_by_an_exact_solver():
    """One start time per operation: the least cost under each bound on latency, as an integer program."""
    data = datasets.arf()
    space, nodes = data.space, list(data.space.decisions)
    delay = data.latency.values
    n = space.n_options
    # Variables: the unit of each operation, then its end. An operation ends its own delay after any before it.
    one_each = np.zeros((len(nodes), n + len(nodes)))
    one_each[space.layout.owner, np.arange(n)] = 1
    ends = np.hstack([-one_each[:, :n] * delay, np.eye(len(nodes))])
    after = np.array([ends[nodes.index(v)] - np.eye(n + len(nodes))[n + nodes.index(u)] for u, v in data.graph.edges])
    for (objective, bound), optimum in data.optima.items():
        cost = getattr(data, objective).values
        result = milp(
            np.append(cost, np.zeros(len(nodes))),
            constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(np.vstack([ends, after]), lb=0)],
            integrality=np.append(np.ones(n), np.zeros(len(nodes))),
            bounds=Bounds(0, np.append(np.ones(n), np.full(len(nodes), bound))),
        )
        assert round(result.fun) == optimum
        selection = space.layout.argmax(result.x[:n])
        assert data.latency(selection) <= bound
        assert getattr(data, objective)(selection) == optimum
    assert len(data.optima) == 10


# -- the folder -----------------------------------------------------------------------------------------------------


def test_data_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("CGGD_DATA", str(tmp_path))
    assert datasets.data_folder() == tmp_path
    monkeypatch.setenv("CGGD_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"CGGD_DATA must name a folder, got .*nowhere"):
        datasets.data_folder()


def test_data_folder_beside_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.delenv("CGGD_DATA", raising=False)
    (tmp_path / "shared" / "data").mkdir(parents=True)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    assert datasets.data_folder() == tmp_path / "shared" / "data"
