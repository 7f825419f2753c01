"""The edge example: its data, what it measures of an int8 file, and a tiny form of its runs."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
for needed in ("onnxruntime", "onnxscript", "matplotlib"):
    pytest.importorskip(needed)

from torch import nn  # noqa: E402

from cggd_nas import Costs, extract  # noqa: E402
from examples.edge_sensor import data, deploy, methods, report, runs  # noqa: E402

TINY = methods.Effort(
    warmup=2, epochs=3, batches=2, drawn=2, judged=4, rounds=((2, 2), (1, 3)), full=4, val_step=8192, test_step=8192
)
STRICTEST = methods.BUDGETS[-1]


@pytest.fixture(scope="module")
def _data_or_skip():
    try:
        data.recordings("test")
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("_data_or_skip")
class TestData:
    def test_parts_follow_one_another(self):
        parts = [data.recordings(part) for part in data.SHARES]
        whole = torch.cat(parts, dim=1)
        assert whole.shape == (10, 120_000)
        assert [part.shape[1] for part in parts] == [60_000, 24_000, 36_000]
        with np.load(data.data_folder() / data.FILE) as stored:
            again = stored["OR_21"] * stored["OR_21_scale"]
        np.testing.assert_allclose(whole[data.CLASSES.index("OR_21")], again, rtol=1e-6)

    def test_windows_are_normalised_and_as_noisy_as_said(self):
        generator = torch.Generator().manual_seed(0)
        clean = data.recordings("train")[:, : 1024 * 20].reshape(-1, 1024)
        for snr in (-10.0, 0.0, 10.0):
            found = data.noisy(clean, torch.full((len(clean),), snr), generator)[:, 0]
            torch.testing.assert_close(found.mean(1), torch.zeros(len(clean)), atol=1e-5, rtol=0)
            torch.testing.assert_close(found.std(1, correction=0), torch.ones(len(clean)))
            # The correlation of a signal with itself plus independent noise.
            correlation = float((found * data.noisy(clean, torch.full((len(clean),), 200.0), generator)[:, 0]).mean())
            assert correlation == pytest.approx((1 + 10 ** (-snr / 10)) ** -0.5, abs=0.01)

    def test_a_seed_fixes_what_is_drawn(self):
        first, again, other = (
            next(iter(data.DrawnWindows(data.recordings("train"), 1, 8, torch.Generator().manual_seed(seed))))
            for seed in (0, 0, 1)
        )
        assert torch.equal(first[0], again[0])
        assert torch.equal(first[1], again[1])
        assert not torch.equal(first[0], other[0])

    def test_each_level_of_noise_has_each_window(self):
        signals = data.recordings("test")
        x, y, snr = data.fixed(signals, step=8192, snr=(-4.0, 0.0), seed=0)
        windows = signals.unfold(1, data.WINDOW, 8192).shape[1]
        assert x.shape == (2 * 10 * windows, 1, data.WINDOW)
        for level in (-4.0, 0.0):
            assert torch.equal(y[snr == level], torch.arange(10).repeat_interleave(windows))


def alive_by_definition(model):
    """Peak of the bytes alive, node by node and tensor by tensor."""
    size, nodes = deploy.tensor_bytes(model), list(model.graph.node)
    kept = {made.name for made in model.graph.output}
    peak = 0
    for now in range(len(nodes)):
        made = {model.graph.input[0].name, *(name for node in nodes[: now + 1] for name in node.output)}
        needed = {name for node in nodes[now:] for name in node.input} | set(nodes[now].output) | kept
        peak = max(peak, sum(size[name] for name in made & needed))
    return peak / 1024


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Files of the largest networks of the space, without and with all that needs operators of its own."""
    torch.manual_seed(0)
    net = methods.supernet()
    shortenings = [decision for decision in net.space.decisions if decision.endswith("shortening")]
    kernels = [f"layer{layer}.kernel" for layer in range(2, methods.LAYERS + 1)]
    largest = {decision: labels[-1] for decision, labels in net.space.options.items()}
    largest |= {"pooling": "mean"} | dict.fromkeys(kernels, "separable33") | dict.fromkeys(shortenings, "stride")
    pooled = largest | {"pooling": "rms"} | dict.fromkeys(shortenings, "pool")
    shallow = largest | {"pooling": "max"} | dict.fromkeys(kernels[::2], "skip")
    calibration, folder = torch.randn(8, 1, data.WINDOW), tmp_path_factory.mktemp("files")
    found = {}
    drawn = net.space.labels(net.space.sample(1, np.random.default_rng(0))[0])
    for name, selection in {"largest": largest, "pooled": pooled, "shallow": shallow, "drawn": drawn}.items():
        network = methods.as_trained(extract(net, selection))
        found[name] = selection, network, deploy.export_int8(network, calibration, folder / f"{name}.onnx")
    return net, found


@pytest.mark.slow
class TestFile:
    @pytest.mark.slow
    def test_bounds_hold_the_file(self, exported):
        net, found = exported
        size, memory, float_memory = (b.metric for b in methods.bounds(Costs(net, methods.EXAMPLE), STRICTEST))
        for selection, _, path in found.values():
            assert size(selection) - 0.05 < deploy.file_kb(path) <= size(selection)
            assert deploy.memory_kb(path) <= max(memory(selection), float_memory(selection))
        selection, _, path = found["largest"]
        assert deploy.memory_kb(path) == memory(selection) == 16.0  # input and output of the second layer
        assert float_memory(selection) == 0.0
        # 64 channels of the last 16 places, in int8 and in single precision.
        assert float_memory(selection | {"pooling": "rms"}) == 5 * 64 * 16 / 1024

    def test_memory_against_its_definition(self, exported):
        for _, _, path in exported[1].values():
            assert deploy.memory_kb(path) == pytest.approx(alive_by_definition(onnx.load(path)))

    def test_layers_are_integer_operators(self, exported):
        operators = [node.op_type for node in onnx.load(exported[1]["largest"][2]).graph.node]
        assert operators == ["QuantizeLinear", *["QLinearConv"] * 15, "QLinearAveragePool", "Reshape", "QGemm",
                             "DequantizeLinear"]  # fmt: skip

    def test_outputs_are_those_of_the_network_but_for_rounding(self, exported):
        _, network, path = exported[1]["pooled"]
        x = torch.randn(20, 1, data.WINDOW)
        session = deploy.onnx_session(path)
        name = session.get_inputs()[0].name
        there = np.concatenate([session.run(None, {name: window.numpy()})[0] for window in x.split(1)])
        with torch.no_grad():
            here = network.eval()(x).numpy()
        assert np.abs(there - here).max() < 0.1 * np.ptp(here)
        assert (deploy.predicted(path, x) == there.argmax(1)).all()

    def test_stripping_changes_no_output(self):
        x = onnx.helper.make_tensor_value_info("a long name", onnx.TensorProto.FLOAT, [1, 4])
        y = onnx.helper.make_tensor_value_info("result", onnx.TensorProto.FLOAT, [1, 2])
        tensors = {"weight": np.ones((4, 2), np.float32), "unused": np.ones(1000, np.float32)}
        nodes = [
            onnx.helper.make_node("MatMul", ["a long name", "weight"], ["product"], name="first", doc_string="note"),
            onnx.helper.make_node("Relu", ["product"], ["result"], name="second"),
        ]
        weights = [onnx.numpy_helper.from_array(value, name) for name, value in tensors.items()]
        model = onnx.helper.make_model(
            onnx.helper.make_graph(nodes, "graph", [x], [y], weights),
            producer_name="somebody",
            opset_imports=[onnx.helper.make_opsetid("", 20)],
            ir_version=10,
        )
        before = len(model.SerializeToString())
        deploy.strip(model)
        onnx.checker.check_model(model)
        assert len(model.SerializeToString()) < before - 4000
        assert sorted(deploy.tensor_bytes(model).values()) == [8, 8, 16]

    def test_pools_get_the_length_they_see(self):
        network = nn.Sequential(nn.Conv1d(1, 2, 3, stride=2), nn.AdaptiveMaxPool1d(1), nn.AdaptiveAvgPool1d(1))
        x = torch.randn(1, 1, 21)
        fixed = deploy.with_fixed_pools(network, x)
        assert [type(part) for part in fixed] == [nn.Conv1d, nn.MaxPool1d, nn.AvgPool1d]
        assert torch.equal(fixed(x), network(x))


@pytest.mark.slow
@pytest.mark.parametrize("most", methods.DEPTHS)
def test_draws_satisfy_the_bounds_with_so_many_layers(most):
    net = methods.supernet()
    limits = methods.bounds(Costs(net, methods.EXAMPLE), STRICTEST)
    drawn = list(itertools.islice(methods.draws(net, limits, most, seed=1), 5))
    assert all(limit.satisfied(limit.values(np.array(drawn))).all() for limit in limits)
    assert max(methods.layers_of(net.space.labels(row)) for row in drawn) <= most
    assert len({tuple(row) for row in drawn}) == 5
    again = itertools.islice(methods.draws(net, limits, most, seed=1), 5)
    assert all((one == other).all() for one, other in zip(drawn, again, strict=True))


@pytest.mark.usefixtures("_data_or_skip")
class TestRuns:
    @pytest.mark.slow
    def test_random_architectures_fit(self):
        for one in methods.random_candidates(STRICTEST, 2, seed=0):
            assert methods.size_kb(one.network) <= STRICTEST.size - methods.REST / 1024
            assert methods.peak_memory(one.network, methods.EXAMPLE) <= STRICTEST.memory

    @pytest.mark.slow
    def test_runs_are_kept_measured_and_reported(self, tmp_path, monkeypatch):
        fits, does_not = (
            f"{width}, kernel 5, first stride 4" for width in ("4 channels, constant", "24 channels, doubled")
        )
        plain = methods.families()["plain"]
        monkeypatch.setattr(methods, "families", lambda: {"plain": {name: plain[name] for name in (does_not, fits)}})
        for method in ("ours", "plain"):
            assert runs.run(STRICTEST, method, 0, TINY, tmp_path)
            assert not runs.run(STRICTEST, method, 0, TINY, tmp_path)
        found = runs.rows(tmp_path / runs.RUNS)
        assert [row["method"] for row in found] == ["ours", "plain"]
        for row in found:
            assert float(row["file_kb"]) <= STRICTEST.size
            assert float(row["memory_kb"]) <= STRICTEST.memory
            counts = report.confusion(row)
            assert counts.sum() == len(data.TEST_SNR) * 10 * len(range(0, 36_000 - data.WINDOW + 1, TINY.test_step))
            assert np.trace(counts) / counts.sum() == pytest.approx(float(row["accuracy"]), abs=1e-4)
        assert found[1]["architecture"] == fits
        assert runs.tuned(STRICTEST, "plain", TINY, tmp_path) == fits
        assert len(runs.rows(tmp_path / runs.TUNED)) == 1
        names = ["accuracy", "levels", "costs", "tuned", "architectures"]
        marks = "\n".join(f"{report.BEGIN.format(name=n)}\nold\n{report.END.format(name=n)}" for n in names)
        (tmp_path / "edge_sensor.md").write_text(marks, encoding="utf-8")
        report.report(tmp_path, tmp_path)
        text = (tmp_path / "edge_sensor.md").read_text(encoding="utf-8")
        assert "old" not in text
        assert f"| ours | - | - | {100 * float(found[0]['accuracy']):.1f} (1) |" in text
        assert "1 of 1" in text
        assert {path.name for path in tmp_path.glob("*.png")} == {
            "edge_sensor_accuracy.png",
            "edge_sensor_confusion.png",
        }
