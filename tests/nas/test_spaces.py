"""The search spaces: their networks against published figures, and what every supernet must do."""

import csv

import numpy as np
import pytest
import torch
from torch import nn

from cggd import Additive
from cggd.datasets import NATS_EDGES, NATS_OPERATIONS, data_folder
from cggd.metrics import values_of
from cggd_nas import Darts, GumbelSoftmax, ProxylessTwoPath, UniformPath, collect
from cggd_nas.export import export_onnx
from cggd_nas.extract import extract
from cggd_nas.measure import macs, parameters
from cggd_nas.metrics import Costs
from cggd_nas.spaces import (
    cell_graph,
    conv1d,
    fbnet,
    fbnet_latency,
    mobile_stack,
    nats_size,
    nats_topology,
    transformer_encoder,
)

IMAGE = torch.zeros(1, 3, 32, 32)

# NATS-Bench counts the additions of the classifier's bias, one for each class, as operations.
BIAS = 10 / 1e6


def table(file, *columns):
    folder = data_folder()
    if folder is None or not (folder / file).is_file():
        pytest.skip(f"needs {file} in the folder named by CGGD_DATA")
    with (folder / file).open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    return rows, *(np.array([float(row[column]) for row in rows]) for column in columns)


class TestNatsTopology:
    @pytest.mark.slow
    def test_all_networks_have_the_parameters_and_operations_of_the_published_table(self):
        rows, published_parameters, published_mflops = table(
            "nas/nats_topology_cifar10.csv", "params_c10", "mflops_c10"
        )
        selections = np.array([[int(digit) for digit in row["ops"]] for row in rows])
        assert len(np.unique(selections, axis=0)) == 15_625
        costs = Costs(nats_topology(), IMAGE)
        for metric in (costs.parameters(), costs.macs()):
            assert isinstance(metric, Additive)  # so that all are known from each option's share
        np.testing.assert_array_equal(values_of(costs.parameters(), selections), published_parameters)
        # The table has six decimals, that is single operations.
        np.testing.assert_allclose(values_of(costs.macs(), selections) + BIAS, published_mflops, rtol=0, atol=1e-9)

    @pytest.mark.slow
    def test_counts_of_extracted_networks_are_those_of_the_table(self):
        rows, *_ = table("nas/nats_topology_cifar10.csv")
        supernet = collect(nats_topology())
        for row in rows[:: len(rows) // 5]:
            network = extract(supernet, [int(digit) for digit in row["ops"]])
            assert parameters(network) == int(row["params_c10"])
            assert macs(network, IMAGE) / 1e6 + BIAS == pytest.approx(float(row["mflops_c10"]), abs=1e-9)

    def test_decisions_lie_on_the_edges_of_the_cell(self):
        supernet = collect(nats_topology(C=2, N=2), cell_graph())
        assert supernet.space.n_selections == 15_625
        assert set(supernet.space.options.values()) == {NATS_OPERATIONS}
        named = {(u, v): decision for u, v, decision in supernet.space.graph.edges(data="decision")}
        assert [named[edge] for edge in NATS_EDGES] == list(supernet.space.decisions)
        assert all(len(shared) == 6 for shared in supernet.choices.values())  # three stages of two cells

    def test_the_cell_is_the_sum_that_the_graph_says(self):
        torch.manual_seed(0)
        supernet = collect(nats_topology(C=2, N=1))
        cell, x = supernet.model[1], torch.randn(2, 2, 4, 4)
        chosen = ("skip_connect", "none", "skip_connect", "avg_pool_3x3", "none", "skip_connect")
        with supernet.selected(dict(zip(supernet.space.decisions, chosen, strict=True))):
            pooled = nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
            torch.testing.assert_close(cell(x), pooled + x)

    def test_wrong_sizes_are_named(self):
        with pytest.raises(ValueError, match="N must be at least 1, got 0"):
            nats_topology(N=0)


class TestNatsSize:
    @pytest.mark.slow
    def test_all_networks_have_the_parameters_and_operations_of_the_published_table(self):
        """Layers see neighbouring widths alone, so that all networks follow from those of 2 * 4 * 8 * 8 pairs."""
        rows, published_parameters, published_mflops = table("nas/nats_size_cifar10.csv", "params_c10", "mflops_c10")
        widths = np.array([[int(row[f"c{i}"]) for i in range(5)] for row in rows])
        assert len(np.unique(widths, axis=0)) == 32_768
        costs = Costs(nats_size(), IMAGE)
        chosen = widths // 8 - 1
        for metric, published, extra in (
            (costs.parameters(), published_parameters, 0.0),
            (costs.macs(), published_mflops, BIAS),
        ):
            np.testing.assert_allclose(chain(metric, chosen) + extra, published, rtol=0, atol=1e-9)

    @pytest.mark.slow
    def test_counts_of_extracted_networks_are_those_of_the_table(self):
        rows, *_ = table("nas/nats_size_cifar10.csv")
        supernet = collect(nats_size())
        for number in np.random.default_rng(0).choice(len(rows), 10, replace=False):
            row = rows[number]
            network = extract(supernet, {f"c{i}": row[f"c{i}"] for i in range(5)})
            assert parameters(network) == int(row["params_c10"])
            assert macs(network, IMAGE) / 1e6 + BIAS == pytest.approx(float(row["mflops_c10"]), abs=1e-9)

    def test_a_cell_that_keeps_its_width_has_no_projection(self):
        supernet = collect(nats_size(widths=[4, 8]))
        same = parameters(extract(supernet, {"c0": "4", "c1": "4", "c2": "4", "c3": "4", "c4": "4"}))
        wider = parameters(extract(supernet, {"c0": "4", "c1": "4", "c2": "8", "c3": "4", "c4": "4"}))
        convolutions = 9 * (2 * 4 * 8 + 3 * 8 * 8) + 5 * 2 * 8 - (9 * 5 * 4 * 4 + 5 * 2 * 4)
        projection = 4 * 8 + 2 * 8
        after = (9 + 1) * (8 * 4 - 4 * 4)
        assert wider - same == convolutions + projection + after


def chain(metric, selections):
    """Values of a metric whose parts see a decision and the next one, from those of networks with one such pair."""

    def relative(positions):
        """Relative to all zeros, for each value of the positions: shape (8,) or (8, 8)."""
        grid = np.array(list(np.ndindex(*(8 for _ in positions))))
        rows = np.zeros((len(grid), 5), dtype=np.int64)
        rows[:, positions] = grid
        return (values_of(metric, rows) - zero).reshape((8,) * len(positions))

    zero = values_of(metric, np.zeros((1, 5), dtype=np.int64))[0]
    pairs = sum(relative([i, i + 1])[selections[:, i], selections[:, i + 1]] for i in range(4))
    # Inner decisions stand in two pairs.
    return zero + pairs - sum(relative([i])[selections[:, i]] for i in range(1, 4))


class TestFbnet:
    def test_latency_is_the_sum_over_layers(self):
        rows, *_ = table("nas/fbnet_latency_lut.csv")
        supernet = collect(fbnet())
        assert supernet.space.n_selections == 9**22
        entries = {(row["layer"], row["op"]): float(row["pixel3"]) for row in rows}
        latency = fbnet_latency(supernet, "pixel3")
        assert latency({f"layer{i}": "skip" for i in range(22)}) == pytest.approx(entries["-1", "base"])
        selection = supernet.space.labels(supernet.space.sample(1, np.random.default_rng(0))[0])
        looked_up = sum(entries.get((name.removeprefix("layer"), op), 0.0) for name, op in selection.items())
        assert latency(selection) == pytest.approx(entries["-1", "base"] + looked_up)
        assert (latency.unit, latency.name) == ("ms", "latency on pixel3")

    def test_wrong_devices_and_spaces_are_named(self, tmp_path):
        file = tmp_path / "table.csv"
        file.write_text("layer,op,board\n-1,base,1.5\n0,k3_e1,2.0\n")
        with pytest.raises(ValueError, match="device must be one of board, got 'phone'"):
            fbnet_latency(collect(fbnet()), "phone", file=file)
        with pytest.raises(ValueError, match="no row for option 'k3_e1_g2' of 'layer0'"):
            fbnet_latency(collect(fbnet()), "board", file=file)

    def test_a_missing_table_is_said(self, monkeypatch):
        monkeypatch.setattr("cggd_nas.spaces.mobile.data_folder", lambda: None)
        with pytest.raises(FileNotFoundError, match="CGGD_DATA"):
            fbnet_latency(collect(fbnet()), "pixel3")


def test_numbers_of_architectures():
    assert collect(nats_size()).space.n_selections == 32_768
    assert collect(conv1d()).space.n_selections == 3**8 * 3**8 * 2**4 * 3 == 2_066_242_608
    assert collect(transformer_encoder()).space.n_selections == 27**4
    # Blocks with 6 options each, and depths from 1 to 2, 3, 4 and 4.
    assert collect(mobile_stack()).space.n_selections == 6**13 * 2 * 3 * 4 * 4


@pytest.mark.parametrize(("way", "lengths"), [("stride", [8, 8, 4, 4, 2]), ("pool", [31, 8, 8, 4, 4])])
def test_strides_of_a_one_dimensional_network(way, lengths):
    supernet = collect(conv1d(layers=5, channels=[2, 4], strides=[4, 2], first_kernels=[7]))
    selection = {decision: labels[-1] for decision, labels in supernet.space.options.items()}
    network = extract(supernet, selection | {f"layer{layer}.shortening": way for layer in (1, 3, 5)})
    found = []
    for part in network.modules():
        if isinstance(part, nn.Conv1d):
            part.register_forward_hook(lambda _, given, made: found.append(made.shape[-1]))
            assert part.kernel_size == ((9,) if part.in_channels > 1 else (7,))
    network(torch.zeros(2, 1, 31))
    assert found == lengths  # of what the convolutions return


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mobile_stack(kernels=[3, 4]), "kernels must be odd, got 4"),
        (lambda: mobile_stack(expansions=[]), r"expansions must hold at least one number, got \[\]"),
        (lambda: conv1d(layers=0), "layers must be at least 1, got 0"),
        (lambda: conv1d(kernels=[2]), "kernels must be odd, got 2"),
        (lambda: conv1d(separable_kernels=[3, 4]), "separable_kernels must be odd, got 4"),
        (lambda: conv1d(kernels=[]), r"kernels must hold .* where separable_kernels holds none, got \[\]"),
        (lambda: conv1d(kernels=[], separable_kernels=[3]), "first_kernels must hold .* where kernels holds none"),
        (lambda: conv1d(first_kernels=[8]), "first_kernels must be odd, got 8"),
        (lambda: conv1d(strides=[2, 1]), r"strides must be numbers of at least 2, got \[2, 1\]"),
        (lambda: mobile_stack(stages=[(8, 0, 1)]), "blocks and stride of each of stages must be at least 1, got 0"),
        (lambda: conv1d(channels=[]), r"channels must hold at least one number, got \[\]"),
        (lambda: nats_size(widths=[]), r"widths must hold at least one number, got \[\]"),
        (lambda: transformer_encoder(layers=0), "layers must be at least 1, got 0"),
        (lambda: transformer_encoder(ratios=[]), r"ratios must hold at least one number, got \[\]"),
        (lambda: transformer_encoder(heads=[3]), "heads must divide each width, got 3 heads and a width of 16"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


SPACES = {
    "nats_topology": (lambda: nats_topology(C=4, N=1), (3, 8, 8)),
    "nats_size": (lambda: nats_size(widths=[2, 4, 6]), (3, 8, 8)),
    "mobile_stack": (lambda: mobile_stack(stages=[(4, 2, 1), (6, 3, 2)], kernels=[3, 5], stem=4), (3, 8, 8)),
    "fbnet": (fbnet, (3, 8, 8)),
    "conv1d": (lambda: conv1d(layers=3, channels=[2, 4]), (1, 31)),
    "conv1d separable": (lambda: conv1d(layers=3, channels=[2, 4], separable_kernels=[3, 7]), (1, 31)),
    "conv1d skips": (
        lambda: conv1d(layers=4, channels=[2, 4], kernels=[], first_kernels=[3], separable_kernels=[3], skips=True),
        (1, 31),
    ),
    "transformer": (
        lambda: transformer_encoder(layers=2, model_width=8, heads=[1, 2], widths=[4, 8], length=6, in_features=3),
        (6, 3),
    ),
}


@pytest.fixture(params=SPACES, scope="module")
def space(request):
    """A small supernet whose norms have statistics of their own, and a batch of inputs."""
    torch.manual_seed(0)
    make, shape = SPACES[request.param]
    supernet = collect(make())
    for norm in supernet.model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return supernet, torch.randn(2, *shape)


class TestEverySpace:
    def test_extracted_networks_return_what_the_supernet_does(self, space):
        supernet, x = space
        supernet.model.eval()
        for row in supernet.space.sample(4, np.random.default_rng(0)):
            network = extract(supernet, row)
            with torch.no_grad(), supernet.selected(row):
                torch.testing.assert_close(network(x), supernet.model(x), rtol=1e-5, atol=1e-6)
            assert not any(type(part).__module__.startswith("cggd") for part in network.modules())

    @pytest.mark.parametrize("relaxation", [Darts(), GumbelSoftmax(hard=False), ProxylessTwoPath(), UniformPath()])
    def test_trains_under_every_relaxation(self, space, relaxation):
        supernet, x = space
        supernet.model.train()
        supernet.relax(relaxation, generator=torch.Generator().manual_seed(0))
        supernet.model.zero_grad()
        supernet.model(x).square().sum().backward()
        slopes = [p.grad for p in supernet.parameters if p.grad is not None]
        assert all(torch.isfinite(p.grad).all() for p in supernet.model.parameters() if p.grad is not None)
        assert bool(slopes) == (not isinstance(relaxation, UniformPath))

    def test_soft_mixtures_with_all_weight_on_one_option_are_that_option(self, space):
        supernet, x = space
        supernet.model.eval()
        row = supernet.space.sample(1, np.random.default_rng(1))[0]
        logits = np.zeros(supernet.space.n_options)
        logits[supernet.space.layout.flat(row)] = 200.0
        before = supernet.logits()
        supernet.set_logits(logits)
        supernet.relax(Darts())
        with torch.no_grad():
            mixed = supernet.model(x)
            with supernet.selected(row):
                torch.testing.assert_close(mixed, supernet.model(x), rtol=1e-5, atol=1e-6)
        supernet.set_logits(before)

    @pytest.mark.slow
    def test_exports(self, space, tmp_path):
        pytest.importorskip("onnx")
        supernet, x = space
        row = supernet.space.sample(1, np.random.default_rng(2))[0]
        assert export_onnx(extract(supernet, row), x[:1], tmp_path / "network.onnx").is_file()
